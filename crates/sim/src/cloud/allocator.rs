use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::host::{Host, Lies};
use super::scenario::{Allocation, Vm};

/// Which host a VM gets, of those of a datacenter; and which VM a container, of those of a
/// broker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Allocator {
    policy: Allocation,
    /// Places of the hosts in their list.
    hosts: Range<u32>,
    /// They in the order in which they are tried.
    ranked: BTreeSet<(u64, u32)>,
    /// Where the next round of [`Allocation::RoundRobin`] begins.
    turn: u32,
}

impl Allocator {
    /// Begins with no host open.
    pub(super) const fn new(policy: Allocation, hosts: Range<u32>) -> Self {
        Self {
            policy,
            turn: hosts.start,
            hosts,
            ranked: BTreeSet::new(),
        }
    }

    /// Begins to have hosts.
    pub(super) fn open(&mut self, hosts: &[Host]) {
        let rank = |host: u32| (rank(self.policy, &hosts[host as usize]), host);
        self.ranked = self.hosts.clone().map(rank).collect();
    }

    /// Gives the places of its hosts.
    pub(super) fn hosts(&self) -> Range<u32> {
        self.hosts.clone()
    }

    /// Finds a host for a VM, and puts the VM there. The first host that suits is the
    /// only one that is tried. Gives it, and where on it the VM lies.
    pub(super) fn place(&mut self, hosts: &mut [Host], vm: &Vm) -> Option<(u32, Lies)> {
        let from = match self.policy {
            Allocation::RoundRobin => (0, self.turn),
            _ => (0, 0),
        };
        let tried = self.ranked.range(from..).chain(self.ranked.range(..from));
        let suits = |host: &u32| hosts[*host as usize].suits(vm);
        let host = tried.map(|(_, host)| *host).find(suits)?;
        let lies = self.change(hosts, host, |its| its.take(vm))?;
        self.turn = host + 1;
        Some((host, lies))
    }

    /// Lets a VM go.
    pub(super) fn give_up(&mut self, hosts: &mut [Host], (host, lies): (u32, Lies), vm: &Vm) {
        self.change(hosts, host, |its| its.give_up(lies, vm));
    }

    fn change<T>(&mut self, hosts: &mut [Host], host: u32, how: impl FnOnce(&mut Host) -> T) -> T {
        let its = &mut hosts[host as usize];
        self.ranked.remove(&(rank(self.policy, its), host));
        let done = how(its);
        self.ranked.insert((rank(self.policy, its), host));
        done
    }
}

/// The place of a host among others: the lowest is tried first.
fn rank(policy: Allocation, host: &Host) -> u64 {
    // Numbers that are not negative have the order of their bits.
    let mips = host.free_mips().max(0.0).to_bits();
    match policy {
        Allocation::Simple => !mips,
        Allocation::FirstFit | Allocation::RoundRobin | Allocation::PowerAware => 0,
        Allocation::BestFit => mips,
        Allocation::WorstFit => !host.free_cores(),
    }
}
