//! What happens, one event after another: to datacenters and brokers here, and in the
//! files beside this one to those that are dynamic, fail, scale, or send each other data.

mod dynamic;
mod ending;
mod failing;
mod kept;
mod loading;
mod nesting;
mod scaling;
mod setup;
mod simulation;
mod stages;
mod stay;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::broker::Broker;
use super::clock::Moment;
use super::datacenter::Datacenter;
use super::events::{Event, Events, To};
use super::host::{Host, Lies};
use super::latency::Latency;
use super::network::{Cables, Flows};
use super::power::Share;
use super::result::{Left, Ran, Summary, Why};
use super::scenario::{self, Scenario};
use super::work::{Piece, Work};
use failing::Failing;
use scaling::Scaler;
pub use simulation::{Finished, Simulation, run};
use stages::Stages;
use stay::{Pool, Stay};

/// No VM.
const NONE: u32 = u32::MAX;

/// A VM, or a container on one.
#[derive(Debug, Serialize, Deserialize)]
struct Vm {
    broker: u32,
    /// The place of its group among those of its broker.
    group: u32,
    id: u32,
    /// Whether it is a container.
    nested: bool,
    /// The VM that it is on, where it is a container that has one.
    on: u32,
    stay: Option<Stay>,
    /// Cloudlets that it was given and that are not back.
    out: u32,
    /// What it has drawn, once it is given up.
    joules: Option<f64>,
}

impl Vm {
    fn like<'s>(&self, scenario: &'s Scenario) -> &'s scenario::Vm {
        let broker = &scenario.broker[self.broker as usize];
        let groups = match self.nested {
            true => &broker.container,
            false => &broker.vm,
        };
        &groups[self.group as usize]
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Cloudlet {
    id: u32,
    /// The one that it is bound to, or has got.
    vm: u32,
    /// Cores that it works on, or GPUs.
    units: u32,
    on_gpus: bool,
    length: f64,
    submitted: f64,
    start: f64,
    finish: f64,
    /// What it has drawn; while it runs, less what each of these had drawn before.
    joules: f64,
    /// Whether it has begun, and lost nothing since.
    begun: bool,
    /// Whether it is back, or known to come to nothing.
    done: bool,
}

impl Cloudlet {
    /// Begins, or goes on.
    fn begin(&mut self, now: Moment) {
        if !self.begun {
            (self.begun, self.start) = (true, now.0);
        }
    }

    /// Begins to draw what cores of its VM draw, or GPUs, of which it has some.
    fn begin_to_draw(&mut self, share: &Share) {
        self.joules -= f64::from(self.units) * share.core;
    }

    fn draw_no_more(&mut self, share: &Share) {
        self.joules += f64::from(self.units) * share.core;
    }
}

/// A group of cloudlets.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Cloudlets {
    broker: u32,
    /// Its place among those of its broker.
    nth: u32,
    /// The place of the first in the world's list, and its number.
    begin: u32,
    first: u32,
}

impl Cloudlets {
    fn like<'s>(&self, scenario: &'s Scenario) -> &'s scenario::Cloudlet {
        &scenario.broker[self.broker as usize].cloudlet[self.nth as usize]
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct World {
    #[serde(with = "kept")]
    scenario: Arc<Scenario>,
    events: Events,
    latency: Latency,
    datacenters: Vec<Datacenter>,
    /// Those that are open, in the order in which they opened.
    open: Vec<u32>,
    hosts: Vec<Host>,
    brokers: Vec<Broker>,
    vms: Vec<Vm>,
    cloudlets: Vec<Cloudlet>,
    groups: Vec<Cloudlets>,
    /// Cloudlets that are on their way to a datacenter together.
    parcels: BTreeMap<u32, Vec<u32>>,
    sent: u32,
    /// Data between cloudlets, and what it goes over in each datacenter.
    flows: Flows,
    cables: Vec<Option<Cables>>,
    stages: Stages,
    failing: Failing,
    /// By broker, of those that scale.
    scaling: BTreeMap<u32, Scaler>,
    made: u32,
    summary: Summary,
    /// Cloudlets that are in a datacenter, and since when there are so many.
    inside: (u64, f64),
    /// Cloudlets that are back, until they are taken.
    ran: Vec<Ended>,
}

/// A cloudlet that is back, and where it was: its VM may have moved since. There may be
/// millions, so what can be found again is not kept.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ended {
    cloudlet: u32,
    datacenter: u32,
    host: u32,
}

impl World {
    /// Gives what happens next, before a moment.
    fn take(&mut self, until: Moment) -> Option<(To, Event)> {
        let (centers, flows) = (&self.datacenters, &self.flows);
        self.events.take(until, |event| match event {
            Event::Tick { datacenter, plan } => {
                let center = &centers[*datacenter as usize];
                center.dynamic.as_ref().is_some_and(|its| its.plans(*plan))
            }
            Event::Poll { datacenter, looks } => centers[*datacenter as usize].has_looked(*looks),
            Event::Flow { plan } => flows.plans(*plan),
            _ => true,
        })
    }

    fn happen(&mut self, to: To, event: Event) {
        let now = self.events.now();
        if let To::Broker(broker) = to
            && let Some(until) = self.brokers[broker as usize].paused_until(now)
        {
            self.events.post(until, to, event);
            return;
        }
        match event {
            Event::Open { datacenter } => {
                let center = &mut self.datacenters[datacenter as usize];
                center.allocator.open(&self.hosts);
                self.open.push(datacenter);
            }
            Event::Begin { broker } => self.begin(broker),
            Event::Meet { broker } => {
                self.ask(broker);
            }
            Event::Arrive { broker, group } => {
                self.arrive(broker, group);
                self.hand_out(broker);
            }
            Event::Ask { datacenter, vm } => self.make(datacenter, vm),
            Event::Answer { vm, made } => self.answer(vm, made),
            Event::Submit { datacenter, parcel } => {
                for cloudlet in self.parcels.remove(&parcel).unwrap_or_default() {
                    self.submit(datacenter, cloudlet);
                }
            }
            Event::Loaded {
                datacenter,
                cloudlet,
            } => self.enter(datacenter, cloudlet),
            Event::Look { datacenter } | Event::Poll { datacenter, .. } => self.look(datacenter),
            Event::Tick { datacenter, .. } => {
                self.ask_dynamic(datacenter, |its, events, ended| its.look(events, ended));
            }
            Event::Migrate {
                datacenter,
                vm,
                host,
            } => self.migrate(datacenter, vm, host),
            Event::Flow { .. } => self.flows.arrive(&mut self.events),
            Event::Deliver { cloudlet } => self.deliver(cloudlet),
            Event::Return { broker, cloudlet } => self.back(broker, cloudlet),
            Event::Scale { broker } => self.scale(broker),
            Event::Fail { datacenter, host } => self.fail(datacenter, host),
            Event::Repair { datacenter, host } => self.repair(datacenter, host),
            Event::Destroy { datacenter, vm } => self.destroy(datacenter, vm),
        }
    }

    fn begin(&mut self, broker: u32) {
        let now = self.events.now();
        let arrivals: Vec<_> = self.brokers[broker as usize].arrivals(now).collect();
        for (group, time) in arrivals {
            match time > now {
                true => {
                    let event = Event::Arrive { broker, group };
                    self.events.post(time, To::Broker(broker), event);
                }
                false => self.arrive(broker, group),
            }
        }
        // It asks all datacenters what they are before it asks one for VMs.
        let ways = self
            .open
            .iter()
            .map(|center| self.latency.between(broker, *center));
        let farthest = ways.fold(0.0, f64::max);
        if farthest == 0.0 {
            self.ask(broker);
        } else {
            let met = Moment(now.0 + farthest + farthest);
            let event = Event::Meet { broker };
            self.events.post(met, To::Broker(broker), event);
        }
    }

    fn arrive(&mut self, broker: u32, group: u32) {
        let next = self.brokers[broker as usize].arrive(group, self.events.now());
        if let Some(time) = next {
            let event = Event::Arrive { broker, group };
            self.events.post(time, To::Broker(broker), event);
        }
    }

    /// Asks the next datacenter for what is not made yet. Gives whether there is one.
    fn ask(&mut self, broker: u32) -> bool {
        let its = &mut self.brokers[broker as usize];
        let wanted: Vec<u32> = (its.vms.clone())
            .filter(|vm| self.vms[*vm as usize].stay.is_none())
            .collect();
        let Some(datacenter) = its.ask(&self.open, wanted.len() as u32) else {
            return false;
        };
        for vm in wanted {
            let event = Event::Ask { datacenter, vm };
            self.send(broker, datacenter, event);
        }
        true
    }

    /// Sends something from a broker to a datacenter.
    fn send(&mut self, broker: u32, datacenter: u32, event: Event) {
        let then = self.events.now().0 + self.latency.between(broker, datacenter);
        self.events
            .post(Moment(then), To::Datacenter(datacenter), event);
    }

    fn make(&mut self, datacenter: u32, vm: u32) {
        let now = self.events.now();
        let nested = self.vms[vm as usize].nested;
        let host = match nested {
            true => self.make_container(vm),
            false => self.make_vm(datacenter, vm),
        };
        let works = host.map(|host| (host, self.works(vm, host)));
        let its = &mut self.vms[vm as usize];
        let like = its.like(&self.scenario);
        if host.is_some() && !nested {
            let cost = self.scenario.datacenter[datacenter as usize].cost;
            self.summary.cost += cost.per_memory_mib * like.memory_mib as f64
                + cost.per_storage_mib * like.storage_mib as f64;
        }
        let made = self.made;
        its.stay =
            works.map(|(host, (cores, gpus))| Stay::new(datacenter, host, made, cores, gpus));
        self.made += u32::from(host.is_some());
        let event = Event::Answer {
            vm,
            made: host.is_some(),
        };
        let way = self.latency.between(its.broker, datacenter);
        let then = Moment(now.0 + self.scenario.min_time_between_events_s + way);
        self.events.post(then, To::Broker(its.broker), event);
    }

    /// Makes a VM on a host that has room for it, if there is one. Gives the host, and where
    /// on it the VM lies.
    fn make_vm(&mut self, datacenter: u32, vm: u32) -> Option<(u32, Lies)> {
        let like = self.vms[vm as usize].like(&self.scenario);
        let center = &mut self.datacenters[datacenter as usize];
        let first = center.hosts().start;
        if let Some(dynamic) = &mut center.dynamic {
            let broker = self.vms[vm as usize].broker;
            let mut groups = self.scenario.broker[broker as usize].cloudlet.iter();
            let kept =
                self.scaling.contains_key(&broker) || groups.any(|group| !group.stages.is_empty());
            let host = dynamic.make(vm, like, kept, self.events.now());
            return host.map(|host| (first + host, Lies::Anywhere));
        }
        let place = center.allocator.place(&mut self.hosts, like)?;
        self.hosts[place.0 as usize].vms.push(vm);
        Some(place)
    }

    /// What is done on the cores of a VM, or a container, at a place, and on its GPUs.
    fn works(&self, vm: u32, (host, lies): (u32, Lies)) -> (Work, Option<Work>) {
        let now = self.events.now();
        let like = self.vms[vm as usize].like(&self.scenario);
        // One of a dynamic datacenter is not listed.
        let host = self.hosts.get(host as usize);
        let left = self.left(vm) * host.map_or(1.0, |host| host.left(lies));
        let cores = Work::new(like.scheduler, like.cores, like.mips, left, now);
        (cores, host.and_then(|host| stay::gpus(like, host, now)))
    }

    /// The share of its MIPS that cloudlets in a VM, or in a container on one, have.
    fn left(&self, vm: u32) -> f64 {
        let its = &self.vms[vm as usize];
        let below = self.vms.get(its.on as usize);
        let below = below.map_or(1.0, |on| on.like(&self.scenario).left());
        below * its.like(&self.scenario).left()
    }

    fn answer(&mut self, vm: u32, made: bool) {
        let broker = self.vms[vm as usize].broker;
        if self.answer_scaling(broker, vm, made) {
            return;
        }
        let its = &mut self.brokers[broker as usize];
        let last = its.answered(vm, made);
        let nested = self.vms[vm as usize].nested;
        let settled = match nested {
            true => last,
            false => its.has_all() || last && !self.ask(broker),
        };
        let none = self.brokers[broker as usize].made.is_empty();
        if settled && !none && (nested || !self.nest(broker)) {
            self.brokers[broker as usize].begin_to_hand_out();
            self.begin_to_scale(broker);
            self.hand_out(broker);
        }
    }

    fn hand_out(&mut self, broker: u32) {
        let its = &mut self.brokers[broker as usize];
        if !its.hands_out() {
            return;
        }
        let mut parcels: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for cloudlet in std::mem::take(&mut its.waiting) {
            let piece = &mut self.cloudlets[cloudlet as usize];
            if piece.vm == NONE {
                piece.vm = its.turn();
            }
            match &self.vms[piece.vm as usize].stay {
                Some(stay) => {
                    let datacenter = stay.datacenter;
                    its.handed_out();
                    self.vms[piece.vm as usize].out += 1;
                    parcels.entry(datacenter).or_default().push(cloudlet);
                }
                None => {
                    piece.done = true;
                    self.summary.left.push(Left {
                        broker,
                        cloudlet: piece.id,
                        why: match self.vms[piece.vm as usize].nested {
                            true => Why::ContainerNotMade,
                            false => Why::VmNotMade,
                        },
                        joules: 0.0,
                    });
                }
            }
        }
        for (datacenter, cloudlets) in parcels {
            let parcel = self.sent;
            self.sent = self.sent.wrapping_add(1);
            self.parcels.insert(parcel, cloudlets);
            self.send(broker, datacenter, Event::Submit { datacenter, parcel });
        }
    }

    fn submit(&mut self, datacenter: u32, cloudlet: u32) {
        self.count_inside(1);
        self.cloudlets[cloudlet as usize].submitted = self.events.now().0;
        if !self.load(datacenter, cloudlet) {
            self.enter(datacenter, cloudlet);
        }
    }

    /// Gives a cloudlet that has all that it needs to its VM.
    fn enter(&mut self, datacenter: u32, cloudlet: u32) {
        if self.datacenters[datacenter as usize].dynamic.is_some() {
            self.submit_dynamic(datacenter, cloudlet);
        } else {
            self.look(datacenter);
            if !self.begin_stages(datacenter, cloudlet) {
                self.put_in(datacenter, cloudlet);
            }
        }
    }

    /// Lets a cloudlet work in its VM that has come, or whose host has failed meanwhile.
    fn put_in(&mut self, datacenter: u32, cloudlet: u32) {
        let now = self.events.now();
        let its = &mut self.cloudlets[cloudlet as usize];
        let piece = Piece {
            cloudlet,
            units: its.units,
            length: its.length,
        };
        let center = &mut self.datacenters[datacenter as usize];
        let looked = center.looked(now, self.scenario.min_time_between_events_s);
        let vm = its.vm;
        let Some(stay) = &mut self.vms[vm as usize].stay else {
            return;
        };
        let host = stay.host;
        if self.hosts[host as usize].down {
            stay.lost.push(cloudlet);
            return;
        }
        let pool = stay.pool(its.on_gpus);
        let takes = pool.work.submit(piece, looked);
        meter(&mut self.hosts[host as usize], its.on_gpus, pool, now);
        if let Some(takes) = takes {
            its.begin(now);
            its.begin_to_draw(&pool.share);
            let event = Event::Look { datacenter };
            let end = Moment(now.0 + takes);
            self.events.post(end, To::Datacenter(datacenter), event);
        }
        let over = stay.over_from();
        center.forecast.note(vm, &mut stay.ripe, over);
        center.look_again(vm);
    }

    fn look(&mut self, datacenter: u32) {
        let now = self.events.now();
        let least = self.scenario.min_time_between_events_s;
        let center = &mut self.datacenters[datacenter as usize];
        let since = now.0 - center.looked(now, least).0;
        let Some(mut found) = center.look(now, least) else {
            return;
        };
        let place = |vm: &u32| {
            let stay = self.vms[*vm as usize].stay.as_ref();
            stay.map(|stay| (stay.host, stay.nth))
        };
        found.sort_by_key(place);
        let mut over = Vec::new();
        for vm in &found {
            let vm = *vm;
            let its = &mut self.vms[vm as usize];
            let Some(stay) = &mut its.stay else {
                continue;
            };
            let host = &mut self.hosts[stay.host as usize];
            for (gpus, pool) in stay.pools() {
                let look = pool.work.look(now);
                meter(host, gpus, pool, now);
                for cloudlet in &look.ended {
                    self.cloudlets[*cloudlet as usize].draw_no_more(&pool.share);
                }
                if let Some(cloudlet) = look.started {
                    let its = &mut self.cloudlets[cloudlet as usize];
                    its.begin(now);
                    its.begin_to_draw(&pool.share);
                }
                over.extend(look.ended);
            }
            let ripe = stay.over_from();
            center.forecast.note(vm, &mut stay.ripe, ripe);
            if stay.unsettled() {
                center.look_again(vm);
            }
        }
        if !self.stages.is_empty() {
            self.go_on(datacenter, &found, &mut over, since);
        }
        let ended = over.len() as i64;
        self.give_back(datacenter, over);
        let center = &mut self.datacenters[datacenter as usize];
        let expected = |vm: u32| {
            let stay = self.vms[vm as usize].stay.as_ref();
            stay.map_or(Moment::NEVER, |stay| stay.expected(now))
        };
        if let Some((next, event)) = center.next(datacenter, now, least, expected) {
            self.events.post(next, To::Datacenter(datacenter), event);
        }
        self.count_inside(-ended);
    }

    /// Gives the group of a cloudlet.
    fn group(&self, cloudlet: u32) -> Cloudlets {
        let after = self.groups.partition_point(|its| its.begin <= cloudlet);
        self.groups[after - 1]
    }

    /// Sends cloudlets that have ended back to their brokers.
    fn give_back(&mut self, datacenter: u32, ended: Vec<u32>) {
        let now = self.events.now();
        for cloudlet in ended {
            let its = &mut self.cloudlets[cloudlet as usize];
            its.finish = now.0;
            self.return_to(datacenter, cloudlet);
        }
    }

    /// Lets a cloudlet go back to its broker.
    fn return_to(&mut self, datacenter: u32, cloudlet: u32) {
        let vm = self.cloudlets[cloudlet as usize].vm;
        let broker = self.vms[vm as usize].broker;
        let back = self.events.now().0 + self.latency.between(broker, datacenter);
        let event = Event::Return { broker, cloudlet };
        self.events.post(Moment(back), To::Broker(broker), event);
    }

    fn back(&mut self, broker: u32, cloudlet: u32) {
        let its = &self.cloudlets[cloudlet as usize];
        let number = its.vm;
        // One that came to nothing is known already.
        if !its.done {
            self.note_ended(cloudlet);
        }
        self.vms[number as usize].out -= 1;
        if self.brokers[broker as usize].returned() {
            self.give_all_up(broker);
        }
    }

    /// Notes a cloudlet that has ended.
    fn note_ended(&mut self, cloudlet: u32) {
        let its = &mut self.cloudlets[cloudlet as usize];
        let Some(stay) = &self.vms[its.vm as usize].stay else {
            return;
        };
        its.done = true;
        let ended = Ended {
            cloudlet,
            datacenter: stay.datacenter,
            host: stay.host,
        };
        self.summary.add(&self.told(&ended));
        self.ran.push(ended);
    }

    /// Tells of the cloudlets that are back, in that order.
    fn ran(&self) -> impl ExactSizeIterator<Item = Ran> {
        self.ran.iter().map(|ended| self.told(ended))
    }

    /// Tells of a cloudlet that has ended.
    fn told(&self, ended: &Ended) -> Ran {
        let Ended {
            cloudlet,
            datacenter,
            host,
        } = *ended;
        let group = self.group(cloudlet);
        let like = group.like(&self.scenario);
        let its = &self.cloudlets[cloudlet as usize];
        let vm = &self.vms[its.vm as usize];
        let cost = self.scenario.datacenter[datacenter as usize].cost;
        let on = match vm.nested {
            true => &self.vms[vm.on as usize],
            false => vm,
        };
        Ran {
            broker: group.broker,
            cloudlet: its.id,
            datacenter,
            host: host - self.datacenters[datacenter as usize].hosts().start,
            vm: on.id,
            container: vm.nested.then_some(vm.id),
            submitted: its.submitted,
            start: its.start,
            finish: its.finish,
            cost: cost.per_second * (its.finish - its.start)
                + cost.per_byte * like.input_bytes as f64
                + cost.per_byte * like.output_bytes as f64,
            joules: self.is_metered(datacenter).then_some(its.joules),
        }
    }

    /// Whether it is known what hosts of a datacenter draw.
    fn is_metered(&self, datacenter: u32) -> bool {
        let hosts = &self.scenario.datacenter[datacenter as usize].host;
        let watts = |group: &scenario::Host| {
            !group.power_watts.is_empty() || !group.gpu_power_watts.is_empty()
        };
        hosts.iter().any(watts)
    }

    fn destroy(&mut self, datacenter: u32, vm: u32) {
        let now = self.events.now();
        let its = &mut self.vms[vm as usize];
        let Some(mut stay) = its.stay.take() else {
            return;
        };
        let center = &mut self.datacenters[datacenter as usize];
        if let Some(dynamic) = &mut center.dynamic {
            dynamic.destroy(vm);
            self.ask_dynamic(datacenter, |its, events, _| its.make_room(events));
            return;
        }
        center.forecast.note(vm, &mut stay.ripe, Moment::NEVER);
        let host = &mut self.hosts[stay.host as usize];
        for (gpus, pool) in stay.pools() {
            if let Some(meter) = host.meter(gpus) {
                meter.change(&mut pool.share, 0.0, 0, now);
                *its.joules.get_or_insert(0.0) += pool.share.joules;
            }
        }
        if !its.nested {
            let like = its.like(&self.scenario);
            let place = (stay.host, stay.lies);
            center.allocator.give_up(&mut self.hosts, place, like);
        }
        let host = &mut self.hosts[stay.host as usize];
        host.vms.retain(|other| *other != vm);
        self.place_anew(datacenter);
    }

    /// Counts who comes and goes, and for how long how many were there.
    fn count_inside(&mut self, change: i64) {
        let (count, since) = self.inside;
        let now = self.events.now().0;
        self.summary.presence_s += count as f64 * (now - since);
        self.inside = (count.saturating_add_signed(change), now);
    }
}

/// Notes what a VM uses of the cores or the GPUs of its host from now on.
fn meter(host: &mut Host, gpus: bool, pool: &mut Pool, now: Moment) {
    if let Some(meter) = host.meter(gpus) {
        let (used, units) = (pool.work.used(), pool.work.busy());
        meter.change(&mut pool.share, used, units, now);
    }
}
