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
    /// The numbers of its cores: what a job is given whole.
    pub cores: BTreeSet<u32>,
    /// Those of them that are one to the hardware, and have only one half each of what
    /// that can do; what is in none of these stands for itself.
    pub siblings: Vec<BTreeSet<u32>>,
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
/// which: all on one NUMA node where that has room, else on few; and there siblings
/// together, so that as few as can be have a half of what another has the other half of.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    all: Vec<Numa>,
    free: Vec<Numa>,
    held: BTreeMap<JobNumber, Pins>,
}

/// What is still to be found.
struct Wanted {
    cores: usize,
    devices: BTreeMap<usize, usize>,
}

impl Slots {
    /// Makes the slots of a node on which nothing runs. Where it has no cores none are
    /// chosen.
    pub fn new(numa: Vec<Numa>) -> Self {
        Self {
            free: numa.clone(),
            all: numa,
            held: BTreeMap::new(),
        }
    }

    /// Gives what a job has.
    pub fn held(&self, job: JobNumber) -> Option<&Pins> {
        self.held.get(&job)
    }

    /// Chooses so much for a job; `None` where there is too little. Nothing has changed.
    pub fn choose(&self, amounts: &Amounts) -> Option<Pins> {
        let kinds: BTreeSet<usize> = self
            .all
            .iter()
            .flat_map(|n| n.devices.keys().copied())
            .collect();
        let devices = kinds
            .into_iter()
            .map(|kind| (kind, amounts.of(kind) as usize));
        let chooses = self.all.iter().any(|numa| !numa.cores.is_empty());
        let mut wanted = Wanted {
            // Parts of a core are nobody's own.
            cores: match amounts.of(CORES) {
                cores if chooses && cores.is_multiple_of(1000) => (cores / 1000) as usize,
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
        for at in order {
            wanted.choose(at, &self.free[at], &mut pins);
        }
        let found = wanted.cores == 0 && wanted.devices.values().all(|count| *count == 0);
        found.then_some(pins)
    }

    /// Gives a job what was chosen for it, beside what it has.
    pub fn hold(&mut self, job: JobNumber, pins: &Pins) {
        for free in &mut self.free {
            free.cores.retain(|core| !pins.cores.contains(core));
            for (kind, devices) in &mut free.devices {
                let mine = pins.devices.get(kind);
                devices.retain(|device| !mine.is_some_and(|mine| mine.contains(device)));
            }
        }
        let its = self.held.entry(job).or_default();
        its.cores.extend(&pins.cores);
        its.numa.extend(&pins.numa);
        for (kind, devices) in &pins.devices {
            its.devices.entry(*kind).or_default().extend(devices);
        }
    }

    /// Takes the cores of a job back, and nothing else.
    pub fn rest(&mut self, job: JobNumber) {
        let cores = self
            .held
            .get_mut(&job)
            .map(|pins| std::mem::take(&mut pins.cores));
        for core in cores.unwrap_or_default() {
            self.free_core(core);
        }
    }

    /// Takes what a job has back; tells whether it had something.
    pub fn give_back(&mut self, job: JobNumber) -> bool {
        let Some(pins) = self.held.remove(&job) else {
            return false;
        };
        for core in pins.cores {
            self.free_core(core);
        }
        for (kind, devices) in pins.devices {
            for device in devices {
                let has =
                    |pins: &Pins| pins.devices.get(&kind).is_some_and(|d| d.contains(&device));
                if self.held.values().any(has) {
                    continue;
                }
                for (all, free) in self.all.iter().zip(&mut self.free) {
                    if all
                        .devices
                        .get(&kind)
                        .is_some_and(|all| all.contains(&device))
                    {
                        free.devices.entry(kind).or_default().insert(device);
                    }
                }
            }
        }
        true
    }

    /// Makes a core free, unless another has it, too: a node that has become smaller.
    fn free_core(&mut self, core: u32) {
        if self.held.values().any(|pins| pins.cores.contains(&core)) {
            return;
        }
        for (all, free) in self.all.iter().zip(&mut self.free) {
            if all.cores.contains(&core) {
                free.cores.insert(core);
            }
        }
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

    fn choose(&mut self, at: usize, free: &Numa, pins: &mut Pins) {
        let cores = pick(self.cores, free);
        self.cores -= cores.len();
        let mut chosen = !cores.is_empty();
        pins.cores.extend(cores);
        for (kind, count) in &mut self.devices {
            let free = free.devices.get(kind).into_iter().flatten();
            let devices: Vec<u32> = free.copied().take(*count).collect();
            *count -= devices.len();
            chosen |= !devices.is_empty();
            if !devices.is_empty() {
                pins.devices.entry(*kind).or_default().extend(devices);
            }
        }
        if chosen {
            pins.numa.insert(at);
        }
    }
}

/// Chooses so many cores, or all where there are fewer: siblings together as long as all
/// of them are free and wanted, then what is left over of others, and only then one of
/// several that are free.
fn pick(count: usize, free: &Numa) -> Vec<u32> {
    let in_group = |core: &u32| free.siblings.iter().any(|group| group.contains(core));
    let alone = free.cores.iter().filter(|core| !in_group(core));
    let mut groups: Vec<(usize, Vec<u32>)> = alone.map(|core| (1, vec![*core])).collect();
    for group in &free.siblings {
        let there = group.intersection(&free.cores).copied().collect();
        groups.push((group.len(), there));
    }
    groups.retain(|(_, there)| !there.is_empty());
    groups.sort_by_key(|(_, there)| there[0]);
    let mut picked: Vec<u32> = Vec::new();
    let (whole, rest): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .partition(|(size, there)| there.len() == *size);
    let mut unused = Vec::new();
    for (_, there) in whole {
        match picked.len() + there.len() <= count {
            true => picked.extend(there),
            false => unused.extend(there),
        }
    }
    let rest = rest.into_iter().flat_map(|(_, there)| there);
    let missing = count.saturating_sub(picked.len());
    picked.extend(rest.chain(unused).take(missing));
    picked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two NUMA nodes of four cores; two devices hang on the second.
    fn node() -> Vec<Numa> {
        let numa = |cores: std::ops::Range<u32>, devices: &[u32]| Numa {
            cores: cores.collect(),
            siblings: Vec::new(),
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
        let pins = slots.choose(&amounts)?;
        slots.hold(JobNumber(job), &pins);
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
        assert!(slots.give_back(JobNumber(3)));
        assert!(!slots.give_back(JobNumber(3)));
        assert_eq!(take(&mut slots, 5, 1, 0), Some((vec![5], vec![1])));
    }

    #[test]
    fn parts_of_a_core_are_nobodys_own() {
        let slots = Slots::new(node());
        let pins = slots.choose(&Amounts::cores(1500));
        assert_eq!(pins, Some(Pins::default()));
        // Where there are no cores to choose from only devices are chosen.
        let bare = Numa {
            devices: BTreeMap::from([(2, [7].into())]),
            ..Numa::default()
        };
        let slots = Slots::new(vec![bare]);
        let pins = slots.choose(&Amounts::new([4000, 0, 1])).expect("room");
        assert_eq!((pins.cores.len(), &pins.devices[&2]), (0, &[7].into()));
    }

    #[test]
    fn siblings_go_together_and_few_are_torn_apart() {
        // Two threads each: 0 and 4, 1 and 5, 2 and 6, 3 and 7.
        let numa = Numa {
            cores: (0..8).collect(),
            siblings: (0..4).map(|core| [core, core + 4].into()).collect(),
            ..Numa::default()
        };
        let mut slots = Slots::new(vec![numa]);
        let mut take = |job, cores| take(&mut slots, job, cores, 0).map(|(cores, _)| cores);
        assert_eq!(take(1, 2), Some(vec![0, 4]));
        assert_eq!(take(2, 1), Some(vec![1]));
        // Not the half that is left, which is the next one's.
        assert_eq!(take(3, 2), Some(vec![2, 6]));
        assert_eq!(take(4, 1), Some(vec![5]));
        assert_eq!(take(5, 3), None);
        assert_eq!(take(5, 2), Some(vec![3, 7]));
    }

    #[test]
    fn who_stands_still_keeps_devices_and_gives_cores() {
        let mut slots = Slots::new(node());
        assert_eq!(
            take(&mut slots, 1, 8, 2),
            Some(((0..8).collect(), vec![0, 1]))
        );
        slots.rest(JobNumber(1));
        assert_eq!(take(&mut slots, 2, 0, 1), None);
        assert_eq!(take(&mut slots, 2, 3, 0), Some((vec![0, 1, 2], vec![0])));
        assert_eq!(take(&mut slots, 1, 4, 0), Some((vec![4, 5, 6, 7], vec![1])));
        let held = slots.held(JobNumber(1)).expect("it has some");
        assert_eq!((held.cores.len(), held.devices[&2].len()), (4, 2));
        assert!(slots.give_back(JobNumber(1)));
        assert_eq!(
            take(&mut slots, 3, 5, 2),
            Some((vec![3, 4, 5, 6, 7], vec![0, 1]))
        );
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
                    prop_assert_eq!(slots.give_back(number), jobs.remove(&job).is_some());
                    continue;
                }
                if jobs.contains_key(&job) {
                    continue;
                }
                let used = |of: fn(&(u64, u64)) -> u64| jobs.values().map(of).sum::<u64>();
                let fits = cores + used(|job| job.0) <= 8 && devices + used(|job| job.1) <= 2;
                let amounts = Amounts::new([cores * 1000, 0, devices]);
                let one = slots.free.iter().any(|numa| {
                    numa.cores.len() as u64 >= cores && count(numa) as u64 >= devices
                });
                let pins = slots.choose(&amounts);
                prop_assert_eq!(pins.is_some(), fits);
                if let Some(pins) = pins {
                    slots.hold(number, &pins);
                    prop_assert_eq!(pins.cores.len() as u64, cores);
                    let its: usize = pins.devices.values().map(BTreeSet::len).sum();
                    prop_assert_eq!(its as u64, devices);
                    prop_assert!(!one || pins.numa.len() <= 1);
                    jobs.insert(job, (cores, devices));
                }
                let all: Vec<u32> = slots.held.values().flat_map(|pins| pins.cores.clone()).collect();
                let distinct: BTreeSet<u32> = all.iter().copied().collect();
                prop_assert_eq!(all.len(), distinct.len());
                let devices = slots.held.values().flat_map(|pins| pins.devices.clone());
                let devices: Vec<u32> = devices.flat_map(|(_, numbers)| numbers).collect();
                let distinct: BTreeSet<u32> = devices.iter().copied().collect();
                prop_assert_eq!(devices.len(), distinct.len());
            }
        }
    }
}
