use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use super::super::broker::{Broker, Group};
use super::super::check::numbers;
use super::super::clock::Moment;
use super::super::datacenter::Datacenter;
use super::super::dynamic::Dynamic;
use super::super::events::{Event, Events, To};
use super::super::host::Host;
use super::super::latency::Latency;
use super::super::network::Flows;
use super::super::result::Summary;
use super::super::scenario::{self, Scenario, Stage};
use super::failing::Failing;
use super::scaling::Scaler;
use super::stages::Stages;
use super::{Cloudlet, Cloudlets, NONE, Vm, World};
use crate::chance::Seed;

/// Streams of chance for what dynamic datacenters choose begin here.
const CHOICES: u64 = 1 << 40;

/// How all begins.
impl World {
    pub(super) fn new(scenario: Arc<Scenario>) -> Self {
        let mut world = Self {
            scenario: Arc::clone(&scenario),
            events: Events::new(),
            latency: Latency::new(&scenario),
            datacenters: Vec::new(),
            open: Vec::new(),
            hosts: Vec::new(),
            brokers: Vec::new(),
            vms: Vec::new(),
            cloudlets: Vec::new(),
            groups: Vec::new(),
            parcels: BTreeMap::new(),
            sent: 0,
            flows: Flows::default(),
            cables: Vec::new(),
            stages: Stages::default(),
            failing: Failing::default(),
            scaling: BTreeMap::new(),
            made: 0,
            summary: Summary::default(),
            inside: (0, 0.0),
            ran: Vec::new(),
        };
        for (number, like) in (0..).zip(&scenario.datacenter) {
            let begin = world.hosts.len() as u32;
            let opens = Moment(like.start_s);
            let dynamic = like.dynamic.as_ref().map(|how| {
                let chance = Seed(scenario.seed).stream(CHOICES + u64::from(number));
                Dynamic::new(number, like, how, chance)
            });
            for group in like.host.iter().filter(|_| dynamic.is_none()) {
                let alike = (0..group.count).map(|_| Host::new(group, opens));
                world.hosts.extend(alike);
            }
            let hosts = begin..world.hosts.len() as u32;
            let center = Datacenter::new(like, hosts, dynamic);
            world.datacenters.push(center);
            let event = Event::Open { datacenter: number };
            world.events.post(opens, To::Registry, event);
        }
        let mut streams = 0;
        for (number, like) in (0..).zip(&scenario.broker) {
            let vms = world.add_vms(number, like);
            let groups = world.add_cloudlets(number, like, &vms, &mut streams);
            world.brokers.push(Broker::new(like, vms, groups));
            let event = Event::Begin { broker: number };
            let begins = Moment(like.start_s);
            world.events.post(begins, To::Broker(number), event);
        }
        world.connect();
        world.begin_to_fail();
        world
    }

    /// Adds the VMs of a broker, and its containers. Gives their places.
    fn add_vms(&mut self, broker: u32, like: &scenario::Broker) -> (Range<u32>, Range<u32>) {
        let vm = |nested, group, id| Vm {
            broker,
            group,
            id,
            nested,
            on: NONE,
            stay: None,
            out: 0,
            joules: None,
        };
        let mut add = |groups: &[scenario::Vm], nested| {
            let begin = self.vms.len() as u32;
            let numbers = numbers(groups.iter().map(|group| (group.id, group.count)));
            for (group, ids) in (0..).zip(numbers) {
                self.vms.extend(ids.map(|id| vm(nested, group, id)));
            }
            begin..self.vms.len() as u32
        };
        let (vms, containers) = (add(&like.vm, false), add(&like.container, true));
        if let (Some(scaling), Some(last)) = (like.scaling, like.vm.len().checked_sub(1)) {
            let first = self.vms.last().map_or(0, |vm| vm.id.saturating_add(1));
            let more = scaling.most - vms.len() as u32;
            let more = (0..more).map(|nth| vm(false, last as u32, first.saturating_add(nth)));
            let begin = self.vms.len() as u32;
            self.vms.extend(more);
            let spare = (begin..self.vms.len() as u32).rev().collect();
            self.scaling.insert(broker, Scaler::new(scaling, spare));
        }
        (vms, containers)
    }

    fn add_cloudlets(
        &mut self,
        broker: u32,
        like: &scenario::Broker,
        (vms, containers): &(Range<u32>, Range<u32>),
        streams: &mut u64,
    ) -> Vec<Group> {
        let seed = Seed(self.scenario.seed);
        let mut stream = || {
            *streams += 1;
            seed.stream(*streams)
        };
        let (named, begin) = match containers.is_empty() {
            true => (&like.vm, vms.start),
            false => (&like.container, containers.start),
        };
        let ids_of_vms = numbers(named.iter().map(|group| (group.id, group.count)));
        let place = |id: u32| {
            let mut before = begin;
            for ids in &ids_of_vms {
                if ids.contains(&id) {
                    return before + (id - ids.start);
                }
                before += ids.len() as u32;
            }
            NONE
        };
        let numbers = numbers(like.cloudlet.iter().map(|group| (group.id, group.count)));
        let mut groups = Vec::new();
        for ((nth, group), ids) in (0..).zip(&like.cloudlet).zip(numbers) {
            let begin = self.cloudlets.len() as u32;
            let first = ids.start;
            let vm = group.vm.or(group.container).map_or(NONE, place);
            let mut lengths = stream();
            let (units, on_gpus) = group.units(group.stages.first());
            self.cloudlets.extend(ids.map(|id| Cloudlet {
                id,
                vm,
                units,
                on_gpus,
                length: length(group, &mut lengths),
                submitted: 0.0,
                start: 0.0,
                finish: 0.0,
                joules: 0.0,
                begun: false,
                done: false,
            }));
            self.groups.push(Cloudlets {
                broker,
                nth,
                begin,
                first,
            });
            let places = begin..self.cloudlets.len() as u32;
            groups.push(Group::new(group, places, stream()));
        }
        groups
    }
}

/// Draws the length of a cloudlet of a group: of its first stage, where it has stages.
fn length(group: &scenario::Cloudlet, chance: &mut ChaCha8Rng) -> f64 {
    match (group.length_mi, group.stages.first()) {
        (Some(length), _) => length.draw(chance).round().max(1.0),
        (None, Some(Stage::Run(length) | Stage::Gpu(length))) => *length as f64,
        (None, _) => 0.0,
    }
}
