use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::power::Meter;
use super::scenario::{self, Sharing};

/// A host, and what is free of it: CloudSim's `Host` with `VmSchedulerTimeShared` or
/// `VmSchedulerSpaceShared`. A VM has its MIPS as long as it is there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Host {
    scheduler: Sharing,
    /// MIPS of a core.
    mips: f64,
    cores: u64,
    free_mips: f64,
    /// Cores that VMs have.
    taken: u64,
    memory: u64,
    storage: u64,
    bandwidth: u64,
    pub(super) meter: Option<Meter>,
    /// Places of its VMs in the world's list.
    pub(super) vms: Vec<u32>,
    pub(super) down: bool,
}

impl Host {
    pub(super) fn new(like: &scenario::Host, now: Moment) -> Self {
        let mips = like.mips * f64::from(like.cores);
        Self {
            scheduler: like.scheduler,
            mips: like.mips,
            cores: u64::from(like.cores),
            free_mips: mips,
            taken: 0,
            memory: like.memory_mib.unwrap_or(u64::MAX),
            storage: like.storage_mib.unwrap_or(u64::MAX),
            bandwidth: like.bandwidth_mbps.unwrap_or(u64::MAX),
            meter: Meter::new(&like.power_watts, mips, now),
            vms: Vec::new(),
            down: false,
        }
    }

    pub(super) const fn free_mips(&self) -> f64 {
        self.free_mips
    }

    /// Cores that no VM has; none where VMs have more than there are.
    pub(super) const fn free_cores(&self) -> u64 {
        self.cores.saturating_sub(self.taken)
    }

    /// Whether it is chosen for a VM: what it lacks of storage, and of whole cores, shows
    /// only when the VM is made.
    pub(super) fn suits(&self, vm: &scenario::Vm) -> bool {
        !self.down
            && vm.mips <= self.mips
            && vm.mips * f64::from(vm.cores) <= self.free_mips
            && vm.memory_mib <= self.memory
            && vm.bandwidth_mbps <= self.bandwidth
    }

    /// Takes a VM that it suits, if it can.
    pub(super) fn take(&mut self, vm: &scenario::Vm) -> bool {
        let cores = match self.scheduler {
            Sharing::TimeShared => true,
            Sharing::SpaceShared => u64::from(vm.cores) <= self.free_cores(),
        };
        if !cores || vm.storage_mib > self.storage {
            return false;
        }
        self.free_mips -= vm.mips * f64::from(vm.cores);
        self.taken += u64::from(vm.cores);
        self.memory -= vm.memory_mib;
        self.storage -= vm.storage_mib;
        self.bandwidth -= vm.bandwidth_mbps;
        true
    }

    /// Lets a VM go that it has.
    pub(super) fn give_up(&mut self, vm: &scenario::Vm) {
        self.free_mips += vm.mips * f64::from(vm.cores);
        self.taken -= u64::from(vm.cores);
        self.memory += vm.memory_mib;
        self.storage += vm.storage_mib;
        self.bandwidth += vm.bandwidth_mbps;
    }
}
