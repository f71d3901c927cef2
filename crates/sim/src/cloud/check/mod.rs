//! What is right of a scenario: what a broker has here, and what a datacenter has in the file
//! beside this one.

mod datacenter;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use thiserror::Error;

use super::law::Quantity;
use super::scenario::{
    Allocation, Broker, Cloudlet, Failure, Progress, Scaling, Scenario, Sharing, Stage, Vm,
};
use super::utilization::Utilization;

/// So many things of a kind are counted at most.
const MOST: u64 = 1 << 31;

/// Something about a place of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {rule}")]
pub struct Finding {
    /// The place, as a path of keys.
    pub place: Place,
    /// What is right there.
    pub rule: String,
}

/// A path of keys through a scenario; arrays are counted from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(pub Vec<Step>);

/// A step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To what stands under a key.
    Key(&'static str),
    /// To one of an array.
    Index(usize),
}

impl Place {
    fn of(array: &'static str, index: usize) -> Self {
        Self::default().key(array).index(index)
    }

    fn key(&self, key: &'static str) -> Self {
        self.with(Step::Key(key))
    }

    fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut place = self.clone();
        place.0.push(step);
        place
    }

    fn says(self, rule: impl Into<String>) -> Finding {
        let rule = rule.into();
        Finding { place: self, rule }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Gives the numbers of groups: from their own first one on, else from where the group
/// before them ends.
pub(super) fn numbers(groups: impl Iterator<Item = (Option<u32>, u32)>) -> Vec<Range<u32>> {
    let mut next = 0u32;
    groups
        .map(|(first, count)| {
            let first = first.unwrap_or(next);
            next = first.saturating_add(count);
            first..next
        })
        .collect()
}

impl Scenario {
    /// Looks for what cannot be simulated.
    ///
    /// # Errors
    /// The first such thing.
    pub fn check(&self) -> Result<(), Finding> {
        let least = self.min_time_between_events_s;
        let place = Place::default().key("min_time_between_events_s");
        rule(least > 0.0 && least < 1e12, place, "more than 0")?;
        if let Some(stop) = self.stop_s {
            time(stop, Place::default().key("stop_s"))?;
        }
        let hosts = self.datacenter.iter().flat_map(|its| &its.host);
        let vms = self.broker.iter().flat_map(|its| &its.vm);
        let cloudlets = self.broker.iter().flat_map(|its| &its.cloudlet);
        countable(hosts.map(|group| group.count), "hosts")?;
        let most = self.broker.iter().flat_map(|its| &its.scaling);
        let most = most.map(|scaling| scaling.most);
        let containers = self.broker.iter().flat_map(|its| &its.container);
        let vms = vms.chain(containers).map(|group| group.count);
        countable(vms.chain(most), "VMs and containers")?;
        countable(cloudlets.map(|group| group.count), "cloudlets")?;
        for (number, link) in self.link.iter().enumerate() {
            let place = Place::of("link", number);
            time(link.latency_s, place.key("latency_s"))?;
            let [one, two] = &link.between;
            rule(one != two, place.key("between"), "two names")?;
        }
        let mut hosts = self.datacenter.iter().flat_map(|its| &its.host);
        let fails = hosts.any(|host| host.failure.is_some());
        let scales = self.broker.iter().any(|its| its.scaling.is_some());
        let place = Place::default().key("stop_s");
        rule(
            !(fails || scales) || self.stop_s.is_some(),
            place,
            "there: hosts that fail and brokers that scale go on and on",
        )?;
        let dynamic = self.datacenter.iter().any(|its| its.dynamic.is_some());
        for (number, its) in self.broker.iter().enumerate() {
            if let Some(scaling) = &its.scaling {
                let place = Place::of("broker", number).key("scaling");
                scaling.check(&place, its)?;
            }
            let place = Place::of("broker", number).key("container");
            let right = "none where there is a dynamic datacenter: VMs are given what cloudlets ask for, and have no rooms for others";
            rule(!dynamic || its.container.is_empty(), place, right)?;
            for (group, vm) in its.vm.iter().enumerate() {
                let place = Place::of("broker", number).key("vm").index(group);
                let right = "none where there is a dynamic datacenter";
                rule(!dynamic || vm.gpus == 0, place.key("gpus"), right)?;
            }
        }
        self.check_kept()?;
        self.check_files()?;
        let mut names = BTreeSet::new();
        for (number, its) in self.datacenter.iter().enumerate() {
            let place = Place::of("datacenter", number);
            rule(
                names.insert(&its.name),
                place.key("name"),
                "a name of its own",
            )?;
            its.check(&place)?;
        }
        names.clear();
        for (number, its) in self.broker.iter().enumerate() {
            let place = Place::of("broker", number);
            rule(
                names.insert(&its.name),
                place.key("name"),
                "a name of its own",
            )?;
            its.check(&place)?;
        }
        Ok(())
    }

    /// Looks for hosts that lose what cloudlets with stages did: what these have taken of data
    /// would be lost, and nobody would send it again.
    fn check_kept(&self) -> Result<(), Finding> {
        let mut cloudlets = self.broker.iter().flat_map(|its| &its.cloudlet);
        let staged = cloudlets.any(|its| !its.stages.is_empty());
        for (number, its) in self.datacenter.iter().enumerate() {
            for (group, host) in its.host.iter().enumerate() {
                let loses = |failure: Failure| failure.progress == Progress::Lose;
                let place = Place::of("datacenter", number).key("host").index(group);
                let place = place.key("failure");
                let right = "with progress = \"keep\" where cloudlets have stages: nobody would send again what one had received";
                rule(!staged || !host.failure.is_some_and(loses), place, right)?;
            }
        }
        Ok(())
    }

    /// Looks for files that are nowhere.
    fn check_files(&self) -> Result<(), Finding> {
        for (number, its) in self.broker.iter().enumerate() {
            for (group, cloudlet) in its.cloudlet.iter().enumerate() {
                let place = Place::of("broker", number).key("cloudlet").index(group);
                for (nth, file) in cloudlet.files.iter().enumerate() {
                    let there = self.datacenter.iter().any(|its| its.loads(file).is_some());
                    let place = place.key("files").index(nth);
                    rule(
                        there,
                        place,
                        "the name of a file in the storage of a datacenter",
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Looks for traces that were not read, without which nothing can be run.
    pub(super) fn check_traces(&self) -> Result<(), Finding> {
        for (number, its) in self.broker.iter().enumerate() {
            for (group, cloudlet) in its.cloudlet.iter().enumerate() {
                let place = Place::of("broker", number).key("cloudlet").index(group);
                for (key, utilization) in cloudlet.utilizations() {
                    let right = "read: its trace is not there";
                    rule(!utilization.unread(), place.key(key), right)?;
                }
            }
        }
        Ok(())
    }

    /// Says what can be simulated and is likely not meant: hosts that no VM fits, and
    /// VMs and cloudlets that nothing is large enough for.
    pub fn notes(&self) -> Vec<Finding> {
        let mut notes = Vec::new();
        let linked: BTreeSet<&str> = self
            .link
            .iter()
            .flat_map(|link| link.between.iter().map(String::as_str))
            .collect();
        let brokers = (0..)
            .zip(&self.broker)
            .map(|(nth, its)| ("broker", nth, &its.name));
        let centers = (0..)
            .zip(&self.datacenter)
            .map(|(nth, its)| ("datacenter", nth, &its.name));
        for (array, nth, name) in brokers.chain(centers) {
            if !linked.is_empty() && !linked.contains(name.as_str()) {
                let place = Place::of(array, nth).key("name");
                notes.push(place.says("no link leads to it: messages take no time"));
            }
        }
        let vms = || self.broker.iter().flat_map(|its| &its.vm);
        for (number, its) in self.datacenter.iter().enumerate() {
            for (group, host) in its.host.iter().enumerate() {
                if vms().next().is_some() && vms().all(|vm| host.lacks(vm).is_some()) {
                    let place = Place::of("datacenter", number);
                    notes.push(place.key("host").index(group).says("no VM fits it"));
                }
            }
        }
        let hosts = || self.datacenter.iter().flat_map(|its| &its.host);
        for (number, its) in self.broker.iter().enumerate() {
            for (group, vm) in its.vm.iter().enumerate() {
                let lacks: Vec<_> = hosts().map_while(|host| host.lacks(vm)).collect();
                if let (Some(key), true) = (lacks.last(), lacks.len() == hosts().count()) {
                    let place = Place::of("broker", number).key("vm").index(group);
                    notes.push(place.key(key).says("more than any host has"));
                }
            }
            for (group, container) in its.container.iter().enumerate() {
                let lacks = |vm: &Vm| vm.as_host().lacks(container);
                let lacks: Vec<_> = its.vm.iter().map_while(lacks).collect();
                if let (Some(key), true) = (lacks.last(), lacks.len() == its.vm.len()) {
                    let place = Place::of("broker", number).key("container").index(group);
                    notes.push(place.key(key).says("more than any VM of the broker has"));
                }
            }
            let workers = its.workers();
            let small = |vm: &Vm, cores| vm.scheduler == Sharing::SpaceShared && vm.cores < cores;
            for (group, cloudlet) in its.cloudlet.iter().enumerate() {
                if !workers.is_empty() && workers.iter().all(|vm| small(vm, cloudlet.cores)) {
                    let place = Place::of("broker", number).key("cloudlet").index(group);
                    notes.push(place.key("cores").says(match its.container.is_empty() {
                        true => "more than any VM of the broker has",
                        false => "more than any container of the broker has",
                    }));
                }
            }
        }
        notes
    }
}

/// Checks VMs, or containers. Gives their numbers.
fn check_vms(vms: &[Vm], place: &Place) -> Result<Vec<Range<u32>>, Finding> {
    let ids = numbers(vms.iter().map(|group| (group.id, group.count)));
    for (number, vm) in vms.iter().enumerate() {
        let place = place.index(number);
        group(vm.count, &ids, number, &place)?;
        rule(vm.cores > 0, place.key("cores"), "1 at least")?;
        speed(vm.mips, place.key("mips"))?;
        let shares = vm.overhead.iter().all(|taken| (0.0..=0.99).contains(taken));
        let levels = vm.overhead.len() <= 4;
        let right = "shares from 0 to 0.99, of four levels at most";
        rule(shares && levels, place.key("overhead"), right)?;
    }
    Ok(ids)
}

impl Broker {
    /// Gives what its cloudlets run in.
    fn workers(&self) -> &[Vm] {
        match self.container.is_empty() {
            true => &self.vm,
            false => &self.container,
        }
    }

    fn check(&self, place: &Place) -> Result<(), Finding> {
        time(self.start_s, place.key("start_s"))?;
        for (number, pause) in self.pause.iter().enumerate() {
            let place = place.key("pause").index(number);
            time(pause.from_s, place.key("from_s"))?;
            time(pause.to_s, place.key("to_s"))?;
            let later = pause.to_s > pause.from_s;
            rule(later, place.key("to_s"), "later than from_s")?;
        }
        let has_vms = |needs: bool| !needs || !self.vm.is_empty();
        let cloudlets = has_vms(!self.cloudlet.is_empty());
        rule(
            cloudlets,
            place.key("cloudlet"),
            "no cloudlets without a VM",
        )?;
        let containers = has_vms(!self.container.is_empty());
        rule(
            containers,
            place.key("container"),
            "no containers without a VM",
        )?;
        let vms = check_vms(&self.vm, &place.key("vm"))?;
        let containers = check_vms(&self.container, &place.key("container"))?;
        rule(
            self.container.is_empty() || self.scaling.is_none(),
            place.key("scaling"),
            "none: its cloudlets run in containers, which stay as many",
        )?;
        rule(
            self.container_allocation != Allocation::PowerAware,
            place.key("container_allocation"),
            "another one: VMs draw what their containers do",
        )?;
        let nested = !self.container.is_empty();
        let ids = numbers(self.cloudlet.iter().map(|group| (group.id, group.count)));
        for (number, cloudlet) in self.cloudlet.iter().enumerate() {
            let place = place.key("cloudlet").index(number);
            group(cloudlet.count, &ids, number, &place)?;
            rule(cloudlet.cores > 0, place.key("cores"), "1 at least")?;
            time(cloudlet.submit_s, place.key("submit_s"))?;
            let right = match nested {
                true => "none: cloudlets of the broker run in its containers",
                false => "the number of a VM of the broker",
            };
            let named = |ids: &[Range<u32>], id: u32| ids.iter().any(|range| range.contains(&id));
            let good = |vm| !nested && named(&vms, vm);
            rule(cloudlet.vm.is_none_or(good), place.key("vm"), right)?;
            let good = |container| named(&containers, container);
            rule(
                cloudlet.container.is_none_or(good),
                place.key("container"),
                "the number of a container of the broker",
            )?;
            for (key, quantity) in [
                ("length_mi", cloudlet.length_mi),
                ("gap_s", Some(cloudlet.gap_s)),
            ] {
                if let Some(right) = quantity.and_then(Quantity::wrong) {
                    return Err(place.key(key).says(format!("must be {right}")));
                }
            }
            cloudlet.check_utilizations(&place)?;
            let its_own = cloudlet.vm.or(cloudlet.container);
            let ids_of_workers = if nested { &containers } else { &vms };
            let mut workers = ids_of_workers.iter().zip(self.workers());
            let enough = workers.all(|(ids, vm)| {
                let other = its_own.is_some_and(|id| !ids.contains(&id));
                other || cloudlet.gpus <= vm.gpus
            });
            let right = "no more than each machine that it may get has";
            rule(enough, place.key("gpus"), right)?;
            let numbered = |id: u32| ids.iter().any(|range| range.contains(&id));
            cloudlet.check_stages(&place, numbered)?;
            let mut workers = self.workers().iter();
            rule(
                cloudlet.stages.is_empty() || workers.all(|vm| vm.scheduler == Sharing::TimeShared),
                place.key("stages"),
                "none: VMs of the broker, or its containers, are space-shared, and who waits would keep cores",
            )?;
        }
        Ok(())
    }
}

impl Scaling {
    fn check(&self, place: &Place, broker: &Broker) -> Result<(), Finding> {
        let first: u64 = broker.vm.iter().map(|group| u64::from(group.count)).sum();
        rule(
            first > 0 && first <= u64::from(self.most) && u64::from(self.most) < MOST,
            place.key("most"),
            "as many VMs as the broker begins with at least, and these 1 at least",
        )?;
        let every = (1e-3..1e12).contains(&self.every_s);
        rule(every, place.key("every_s"), "0.001 s at least")?;
        let above = (0.0..=1.0).contains(&self.above);
        rule(above, place.key("above"), "a share from 0 to 1")?;
        let below = (0.0..=self.above).contains(&self.below);
        rule(below, place.key("below"), "a share from 0 to `above`")?;
        time(self.cool_down_s, place.key("cool_down_s"))
    }
}

impl Cloudlet {
    fn check_stages(&self, place: &Place, numbered: impl Fn(u32) -> bool) -> Result<(), Finding> {
        rule(
            self.length_mi.is_some() == self.stages.is_empty(),
            place.key("length_mi"),
            "there, unless there are stages",
        )?;
        for (number, stage) in self.stages.iter().enumerate() {
            let place = place.key("stages").index(number);
            match stage {
                Stage::Run(length) | Stage::Gpu(length) => {
                    let good = (1..=1_000_000_000_000).contains(length);
                    rule(good, place.clone(), "1 MI at least, and 1e12 at most")?;
                    let has = self.gpus > 0 || !matches!(stage, Stage::Gpu(_));
                    rule(has, place, "for a cloudlet with gpus")?;
                }
                Stage::Send { to, .. } => {
                    rule(
                        number > 0,
                        place.clone(),
                        "after another: none begins by sending",
                    )?;
                    rule(
                        numbered(*to),
                        place,
                        "to the number of a cloudlet of the broker",
                    )?;
                }
                Stage::Receive(from) => {
                    rule(
                        numbered(*from),
                        place,
                        "from the number of a cloudlet of the broker",
                    )?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn utilizations(&self) -> [(&'static str, &Utilization); 3] {
        [
            ("utilization", &self.utilization),
            ("utilization_memory", &self.utilization_memory),
            ("utilization_bandwidth", &self.utilization_bandwidth),
        ]
    }

    fn check_utilizations(&self, place: &Place) -> Result<(), Finding> {
        for (key, utilization) in self.utilizations() {
            if let Some(right) = utilization.wrong() {
                return Err(place.key(key).says(format!("must be {right}")));
            }
        }
        Ok(())
    }
}

/// Checks that there is something in a group, and that its numbers are nobody else's.
fn group(count: u32, ids: &[Range<u32>], number: usize, place: &Place) -> Result<(), Finding> {
    rule(count > 0, place.key("count"), "1 at least")?;
    let own = &ids[number];
    let whole = own.len() == count as usize;
    let apart = |other: &Range<u32>| other.end <= own.start || own.end <= other.start;
    let alone = ids[..number].iter().all(apart);
    rule(
        whole && alone,
        place.key("id"),
        "a first number such that none is another's",
    )
}

fn rule(good: bool, place: Place, right: &str) -> Result<(), Finding> {
    match good {
        true => Ok(()),
        false => Err(place.says(format!("must be {right}"))),
    }
}

fn time(seconds: f64, place: Place) -> Result<(), Finding> {
    rule(
        (0.0..1e12).contains(&seconds),
        place,
        "a time from 0 on, in seconds",
    )
}

fn speed(mips: f64, place: Place) -> Result<(), Finding> {
    let good = (1e-3..1e15).contains(&mips);
    rule(good, place, "a number of MIPS, 0.001 at least")
}

fn countable(counts: impl Iterator<Item = u32>, what: &str) -> Result<(), Finding> {
    let all: u64 = counts.map(u64::from).sum();
    match all < MOST {
        true => Ok(()),
        false => Err(Place::default().says(format!("{all} {what}: {MOST} are too many"))),
    }
}
