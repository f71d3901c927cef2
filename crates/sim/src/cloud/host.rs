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
    gpus: u32,
    /// MIPS of a GPU.
    pub(super) gpu_mips: f64,
    /// Its NUMA nodes, where it has several.
    nodes: Vec<Node>,
    numa_overhead: f64,
    meter: Option<Meter>,
    gpu_meter: Option<Meter>,
    /// Places of its VMs in the world's list.
    pub(super) vms: Vec<u32>,
    pub(super) down: bool,
}

/// What is free of a NUMA node; less than nothing where VMs lie across nodes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Node {
    mips: f64,
    memory_mib: f64,
}

/// Where on its host a VM lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Lies {
    /// Wherever: all of it is equally near.
    Anywhere,
    /// On a NUMA node.
    On(u32),
    /// Across all of them, evenly.
    Across,
}

/// By so much of what is there something may be larger, for what rounding leaves.
const ROUNDED: f64 = 1e-9;

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
            gpus: like.gpus,
            gpu_mips: like.gpu_mips,
            nodes: match like.numa_nodes {
                1 => Vec::new(),
                count => vec![
                    Node {
                        mips: mips / f64::from(count),
                        memory_mib: like
                            .memory_mib
                            .map_or(f64::INFINITY, |all| all as f64 / f64::from(count)),
                    };
                    count as usize
                ],
            },
            numa_overhead: like.numa_overhead,
            meter: Meter::new(&like.power_watts, mips, now),
            gpu_meter: Meter::new(
                &like.gpu_power_watts,
                like.gpu_mips * f64::from(like.gpus),
                now,
            ),
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
            && vm.gpus <= self.gpus
    }

    /// Takes a VM that it suits, if it can. Gives where it lies.
    pub(super) fn take(&mut self, vm: &scenario::Vm) -> Option<Lies> {
        let cores = match self.scheduler {
            Sharing::TimeShared => true,
            Sharing::SpaceShared => u64::from(vm.cores) <= self.free_cores(),
        };
        if !cores || vm.storage_mib > self.storage {
            return None;
        }
        self.free_mips -= vm.mips * f64::from(vm.cores);
        self.taken += u64::from(vm.cores);
        self.memory -= vm.memory_mib;
        self.storage -= vm.storage_mib;
        self.bandwidth -= vm.bandwidth_mbps;
        self.gpus -= vm.gpus;
        let lies = self.lay(vm);
        self.lay_on(lies, vm, -1.0);
        Some(lies)
    }

    /// Finds the node with the fewest free MIPS of those that have room for a VM alone.
    fn lay(&self, vm: &scenario::Vm) -> Lies {
        let mips = vm.mips * f64::from(vm.cores);
        let memory = vm.memory_mib as f64;
        let room = |free: f64, needs: f64| needs <= free + free.abs() * ROUNDED;
        let fits = |node: &Node| room(node.mips, mips) && room(node.memory_mib, memory);
        let fitting = (0..).zip(&self.nodes).filter(|(_, node)| fits(node));
        let tightest = fitting.min_by(|(_, one), (_, two)| one.mips.total_cmp(&two.mips));
        match tightest {
            Some((number, _)) => Lies::On(number),
            None if self.nodes.is_empty() => Lies::Anywhere,
            None => Lies::Across,
        }
    }

    /// Adds what a VM has to what nodes have free, or takes it away.
    fn lay_on(&mut self, lies: Lies, vm: &scenario::Vm, sign: f64) {
        let (nodes, part) = match lies {
            Lies::Anywhere => return,
            Lies::On(number) => (&mut self.nodes[number as usize..=number as usize], 1.0),
            Lies::Across => {
                let count = self.nodes.len() as f64;
                (&mut self.nodes[..], 1.0 / count)
            }
        };
        for node in nodes {
            node.mips += sign * part * vm.mips * f64::from(vm.cores);
            node.memory_mib += sign * part * vm.memory_mib as f64;
        }
    }

    /// The share of its MIPS that a VM has that lies so.
    pub(super) const fn left(&self, lies: Lies) -> f64 {
        match lies {
            Lies::Anywhere | Lies::On(_) => 1.0,
            Lies::Across => 1.0 - self.numa_overhead,
        }
    }

    /// Counts what its cores draw, or its GPUs.
    pub(super) const fn meter(&mut self, gpus: bool) -> Option<&mut Meter> {
        match gpus {
            true => self.gpu_meter.as_mut(),
            false => self.meter.as_mut(),
        }
    }

    /// Draws nothing as long as it is off.
    pub(super) fn switch(&mut self, off: bool, now: Moment) {
        for meter in [&mut self.meter, &mut self.gpu_meter].into_iter().flatten() {
            meter.switch(off, now);
        }
    }

    /// What it has drawn, and what of that while nothing was in use; where it is counted.
    pub(super) fn drawn(&mut self, now: Moment) -> Option<(f64, f64)> {
        let meters = [&mut self.meter, &mut self.gpu_meter];
        let each = meters.into_iter().flatten();
        let each = each.map(|meter| (meter.until(now), meter.idle()));
        each.reduce(|(all, idle), (more, its)| (all + more, idle + its))
    }

    /// Lets a VM go that it has, and that lies so.
    pub(super) fn give_up(&mut self, lies: Lies, vm: &scenario::Vm) {
        self.lay_on(lies, vm, 1.0);
        self.gpus += vm.gpus;
        self.free_mips += vm.mips * f64::from(vm.cores);
        self.taken -= u64::from(vm.cores);
        self.memory += vm.memory_mib;
        self.storage += vm.storage_mib;
        self.bandwidth += vm.bandwidth_mbps;
    }
}
