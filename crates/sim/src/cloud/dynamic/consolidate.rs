use std::collections::{BTreeSet, VecDeque};

use rand_distr::{Distribution as _, StandardUniform};

use super::super::scenario::{Overload, Select};
use super::Dynamic;
use super::correlation::multiple;
use super::host::Host;

/// Where a VM goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub(super) guest: usize,
    pub(super) host: usize,
}

/// Which VMs go where: CloudSim's `PowerVmAllocationPolicyMigrationAbstract`.
///
/// First VMs leave hosts that have too much to do, until they have not; then one host
/// after another, the one with the least to do first, is emptied if all of its VMs find
/// room elsewhere. Hosts are changed as if VMs had moved, and then put back.
impl Dynamic {
    pub(super) fn consolidate(&mut self, overload: Overload) -> Vec<Move> {
        let full: BTreeSet<usize> = (0..self.hosts.len())
            .filter(|host| !self.hosts[*host].down)
            .filter(|host| overload.holds(&self.hosts[*host], &self.guests, None, self.interval))
            .collect();
        let placed: Vec<Vec<usize>> = self.hosts.iter().map(stays).collect();
        let mut leaving = Vec::new();
        for host in &full {
            while let Some(guest) = self.select(*host) {
                leaving.push(guest);
                self.hosts[*host].leave(guest);
                if !overload.holds(&self.hosts[*host], &self.guests, None, self.interval) {
                    break;
                }
            }
        }
        let mut moves = self.spread(leaving, &full, overload, false);
        moves.extend(self.empty(full, overload));
        self.put_back(&placed);
        moves
    }

    /// Gives the VM that leaves a host next.
    fn select(&mut self, host: usize) -> Option<usize> {
        let guests = &self.guests;
        let on = self.hosts[host].placed.iter().map(|its| its.guest);
        let mut on = on.filter(|guest| !guests[*guest].moving);
        // The first of several that are alike.
        match self.select {
            Select::MinimumMigrationTime => self.soonest(on),
            Select::MaximumCorrelation => {
                let on: Vec<usize> = on.collect();
                self.best_predicted(&on)
                    .or_else(|| self.soonest(on.into_iter()))
            }
            Select::MinimumUtilization => {
                on.min_by(|one, two| guests[*one].load.total_cmp(&guests[*two].load))
            }
            Select::Random => match on.clone().count() {
                0 => None,
                count => {
                    let share: f64 = StandardUniform.sample(&mut self.chance);
                    on.nth((share * count as f64) as usize)
                }
            },
        }
    }

    /// Gives the VM that moves soonest.
    fn soonest(&self, on: impl Iterator<Item = usize>) -> Option<usize> {
        on.min_by_key(|guest| self.guests[*guest].like.memory_mib)
    }

    /// Gives the VM whose load is best predicted by those of the others; none where there
    /// are not more looks at all of them than VMs, which would say nothing.
    fn best_predicted(&self, on: &[usize]) -> Option<usize> {
        let histories = || on.iter().map(|guest| &self.guests[*guest].history);
        let looks = histories().map(|its| its.len()).min()?;
        if looks <= on.len() {
            return None;
        }
        let latest = |its: &VecDeque<f64>| its.range(its.len() - looks..).copied().collect();
        let series: Vec<Vec<f64>> = histories().map(latest).collect();
        let mut best = (0.0, None);
        for (guest, found) in on.iter().zip(multiple(&series)) {
            if found > best.0 {
                best = (found, Some(*guest));
            }
        }
        best.1
    }

    /// Finds a host for each VM, those with the most to do first. With `all`, none goes
    /// unless all can.
    fn spread(
        &mut self,
        mut leaving: Vec<usize>,
        without: &BTreeSet<usize>,
        overload: Overload,
        all: bool,
    ) -> Vec<Move> {
        let mips = |guest: usize| self.guests[guest].load * self.guests[guest].like.mips;
        leaving.sort_by(|one, two| mips(*two).total_cmp(&mips(*one)));
        let mut moves = Vec::new();
        for guest in leaving {
            match self.find(guest, without, Some(overload)) {
                Some(host) => {
                    self.hosts[host].put(guest, &self.guests[guest], false);
                    moves.push(Move { guest, host });
                }
                None if all => {
                    for its in moves.drain(..) {
                        self.hosts[its.host].leave(its.guest);
                    }
                    break;
                }
                None => {}
            }
        }
        moves
    }

    /// Finds the host that then draws least more.
    pub(super) fn find(
        &self,
        guest: usize,
        without: &BTreeSet<usize>,
        overload: Option<Overload>,
    ) -> Option<usize> {
        let its = &self.guests[guest];
        let mut best = (f64::MAX, None);
        for (number, host) in self.hosts.iter().enumerate() {
            if without.contains(&number) || !host.suits(its) {
                continue;
            }
            let used = host.committed();
            let full = |overload: Overload| {
                !host.can_take(its)
                    || overload.holds(host, &self.guests, Some(guest), self.interval)
            };
            if used != 0.0 && overload.is_some_and(full) {
                continue;
            }
            let then = host.draws((used + its.asks_all()) / host.mips);
            let more = then - host.draws(host.utilization());
            if more < best.0 {
                best = (more, Some(number));
            }
        }
        best.1
    }

    /// Empties hosts that have little to do.
    fn empty(&mut self, full: BTreeSet<usize>, overload: Overload) -> Vec<Move> {
        let idle = |host: &usize| self.hosts[*host].utilization() == 0.0;
        let mut without = full;
        without.extend((0..self.hosts.len()).filter(idle));
        let mut done = without.clone();
        let mut moves = Vec::new();
        while let Some(host) = self.least(&done) {
            done.insert(host);
            without.insert(host);
            let on = self.hosts[host].placed.iter().map(|its| its.guest);
            let leaving = on.filter(|guest| !self.guests[*guest].moving).collect();
            let found = self.spread(leaving, &without, overload, true);
            done.extend(found.iter().map(|its| its.host));
            moves.extend(found);
        }
        moves
    }

    /// Gives the host with the least to do, of those which nobody comes to and not all
    /// leave.
    fn least(&self, done: &BTreeSet<usize>) -> Option<usize> {
        let mut least = (1.0, None);
        for (number, host) in self.hosts.iter().enumerate() {
            let utilization = host.utilization();
            if !done.contains(&number)
                && utilization > 0.0
                && utilization < least.0
                && self.keeps(host)
            {
                least = (utilization, Some(number));
            }
        }
        least.1
    }

    /// Whether a host has a VM that stays, before the first that comes.
    fn keeps(&self, host: &Host) -> bool {
        let mut on = host.placed.iter().map(|its| its.guest);
        let first = on.find(|guest| !self.guests[*guest].moving || host.coming.contains(guest));
        first.is_some_and(|guest| !self.guests[guest].moving)
    }

    /// Puts VMs back where they were, those first that are on their way.
    fn put_back(&mut self, placed: &[Vec<usize>]) {
        for host in &mut self.hosts {
            host.leave_all();
            for guest in host.coming.clone() {
                host.put(guest, &self.guests[guest], true);
            }
        }
        for (host, placed) in self.hosts.iter_mut().zip(placed) {
            for guest in placed {
                host.put(*guest, &self.guests[*guest], false);
            }
        }
    }
}

/// Gives the VMs of a host that are there.
fn stays(host: &Host) -> Vec<usize> {
    let on = host.placed.iter().map(|its| its.guest);
    on.filter(|guest| !host.coming.contains(guest)).collect()
}
