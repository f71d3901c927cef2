use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::amounts::{Amounts, CORES};
use crate::queue::JobNumber;

/// What lies near to each other in a node: cores that share a memory, and the devices
/// that hang on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Numa {
    /// The numbers of its cores.
    pub cores: BTreeSet<u32>,
    /// The numbers of its devices, by the number of their kind: the most exact one where
    /// they count under several.
    pub devices: BTreeMap<usize, BTreeSet<u32>>,
}

/// Which cores and devices of a node a job has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The cores; none where it takes parts of one, and shares what nobody has to himself.
    pub cores: BTreeSet<u32>,
    /// The devices, by the number of their kind.
    pub devices: BTreeMap<usize, BTreeSet<u32>>,
    /// On which of the node's NUMA nodes, by number.
    pub numa: BTreeSet<usize>,
}

/// The cores and devices of one node, and who has which.
///
/// How much a job has of a node is planned by [`plan`](crate::plan()); here it is told
/// which: all on one NUMA node where that has room, else on few.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    free: Vec<Numa>,
    held: BTreeMap<JobNumber, Pins>,
}

/// What is still to be found.
struct Wanted {
    cores: usize,
    devices: BTreeMap<usize, usize>,
}

impl Slots {
    /// Makes the slots of a node on which nothing runs.
    pub fn new(numa: Vec<Numa>) -> Self {
        Self {
            free: numa,
            held: BTreeMap::new(),
        }
    }

    /// Gives what a job has.
    pub fn held(&self, job: JobNumber) -> Option<&Pins> {
        self.held.get(&job)
    }

    /// Gives a job as much; `None`, and nothing has changed, where there is too little or
    /// it has something already.
    pub fn take(&mut self, job: JobNumber, amounts: &Amounts) -> Option<&Pins> {
        if self.held.contains_key(&job) {
            return None;
        }
        let kinds: BTreeSet<usize> = self
            .free
            .iter()
            .flat_map(|n| n.devices.keys().copied())
            .collect();
        let devices = kinds
            .into_iter()
            .map(|kind| (kind, amounts.of(kind) as usize));
        let mut wanted = Wanted {
            // Parts of a core are nobody's own.
            cores: match amounts.of(CORES) {
                cores if cores.is_multiple_of(1000) => (cores / 1000) as usize,
                _ => 0,
            },
            devices: devices.filter(|(_, count)| *count > 0).collect(),
        };
        let mut order: Vec<usize> = (0..self.free.len()).collect();
        let whole = order
            .iter()
            .copied()
            .filter(|at| wanted.is_in(&self.free[*at]));
        // The fullest, and where devices are not asked for one that has none to spare.
        let best = whole.min_by_key(|at| {
            let free = &self.free[*at];
            let spare = if wanted.devices.is_empty() {
                count(free)
            } else {
                0
            };
            (spare, free.cores.len(), *at)
        });
        match best {
            Some(best) => order = vec![best],
            None => order.sort_by_key(|at| (Reverse(wanted.most_of(&self.free[*at])), *at)),
        }
        let mut pins = Pins::default();
        let mut free = self.free.clone();
        for at in order {
            wanted.take(at, &mut free[at], &mut pins);
        }
        if wanted.cores > 0 || wanted.devices.values().any(|count| *count > 0) {
            return None;
        }
        self.free = free;
        Some(self.held.entry(job).or_insert(pins))
    }

    /// Takes what a job has back; tells whether it had something.
    pub fn give_back(&mut self, job: JobNumber, node: &[Numa]) -> bool {
        let Some(pins) = self.held.remove(&job) else {
            return false;
        };
        for (free, all) in self.free.iter_mut().zip(node) {
            free.cores.extend(pins.cores.intersection(&all.cores));
            for (kind, devices) in &pins.devices {
                if let Some(all) = all.devices.get(kind) {
                    let free = free.devices.entry(*kind).or_default();
                    free.extend(devices.intersection(all));
                }
            }
        }
        true
    }
}

fn count(numa: &Numa) -> usize {
    numa.devices.values().map(BTreeSet::len).sum()
}

impl Wanted {
    fn is_in(&self, free: &Numa) -> bool {
        let devices = self.devices.iter();
        let mut devices = devices.map(|(kind, count)| (free.devices.get(kind), count));
        self.cores <= free.cores.len()
            && devices.all(|(free, count)| free.is_some_and(|free| *count <= free.len()))
    }

    /// Tells how much of it is there: devices count before cores.
    fn most_of(&self, free: &Numa) -> (usize, usize) {
        let devices = self.devices.iter();
        let there = devices.map(|(kind, count)| {
            let free = free.devices.get(kind).map_or(0, BTreeSet::len);
            free.min(*count)
        });
        (there.sum(), free.cores.len().min(self.cores))
    }

    fn take(&mut self, at: usize, free: &mut Numa, pins: &mut Pins) {
        let mut taken = false;
        while self.cores > 0 {
            let Some(core) = free.cores.pop_first() else {
                break;
            };
            self.cores -= 1;
            taken |= pins.cores.insert(core);
        }
        for (kind, count) in &mut self.devices {
            let Some(free) = free.devices.get_mut(kind) else {
                continue;
            };
            while *count > 0 {
                let Some(device) = free.pop_first() else {
                    break;
                };
                *count -= 1;
                taken |= pins.devices.entry(*kind).or_default().insert(device);
            }
        }
        if taken {
            pins.numa.insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two NUMA nodes of four cores; two devices hang on the second.
    fn node() -> Vec<Numa> {
        let numa = |cores: std::ops::Range<u32>, devices: &[u32]| Numa {
            cores: cores.collect(),
            devices: BTreeMap::from([(2, devices.iter().copied().collect())]),
        };
        vec![numa(0..4, &[]), numa(4..8, &[0, 1])]
    }

    fn take(
        slots: &mut Slots,
        job: u64,
        cores: u64,
        devices: u64,
    ) -> Option<(Vec<u32>, Vec<usize>)> {
        let amounts = Amounts::new([cores * 1000, 0, devices]);
        let pins = slots.take(JobNumber(job), &amounts)?;
        Some((
            pins.cores.iter().copied().collect(),
            pins.numa.iter().copied().collect(),
        ))
    }

    #[test]
    fn a_job_lies_on_one_numa_node_where_that_has_room() {
        let mut slots = Slots::new(node());
        // Not beside devices that it does not ask for.
        assert_eq!(take(&mut slots, 1, 2, 0), Some((vec![0, 1], vec![0])));
        assert_eq!(take(&mut slots, 2, 1, 1), Some((vec![4], vec![1])));
        assert_eq!(take(&mut slots, 3, 3, 0), Some((vec![5, 6, 7], vec![1])));
        // What is left of cores is far from the device, which is better than none.
        assert_eq!(take(&mut slots, 4, 2, 1), Some((vec![2, 3], vec![0, 1])));
        assert_eq!(take(&mut slots, 5, 1, 0), None);
        assert_eq!(take(&mut slots, 4, 0, 0), None, "it has something already");
        assert!(slots.give_back(JobNumber(3), &node()));
        assert!(!slots.give_back(JobNumber(3), &node()));
        assert_eq!(take(&mut slots, 5, 1, 0), Some((vec![5], vec![1])));
    }

    #[test]
    fn parts_of_a_core_are_nobodys_own() {
        let mut slots = Slots::new(node());
        let pins = slots
            .take(JobNumber(1), &Amounts::cores(1500))
            .expect("room");
        assert_eq!(pins, &Pins::default());
    }

    proptest! {
        #[test]
        fn no_core_and_no_device_is_anybodys_twice(
            acts in prop::collection::vec((0..6u64, 0..6u64, 0..3u64, any::<bool>()), 1..60),
        ) {
            let mut slots = Slots::new(node());
            let mut jobs = BTreeMap::new();
            for (job, cores, devices, take) in acts {
                let number = JobNumber(job);
                if !take {
                    prop_assert_eq!(slots.give_back(number, &node()), jobs.remove(&job).is_some());
                    continue;
                }
                let used = |of: fn(&(u64, u64)) -> u64| jobs.values().map(of).sum::<u64>();
                let fits = cores + used(|job| job.0) <= 8 && devices + used(|job| job.1) <= 2;
                let amounts = Amounts::new([cores * 1000, 0, devices]);
                let one = slots.free.iter().any(|numa| {
                    numa.cores.len() as u64 >= cores && count(numa) as u64 >= devices
                });
                let pins = slots.take(number, &amounts);
                prop_assert_eq!(pins.is_some(), fits && !jobs.contains_key(&job));
                if let Some(pins) = pins {
                    prop_assert_eq!(pins.cores.len() as u64, cores);
                    let its: usize = pins.devices.values().map(BTreeSet::len).sum();
                    prop_assert_eq!(its as u64, devices);
                    prop_assert!(!one || pins.numa.len() <= 1);
                    jobs.insert(job, (cores, devices));
                }
                let all: Vec<u32> = slots.held.values().flat_map(|pins| pins.cores.clone()).collect();
                let distinct: BTreeSet<u32> = all.iter().copied().collect();
                prop_assert_eq!(all.len(), distinct.len());
            }
        }
    }
}
