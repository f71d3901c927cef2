//! Datacenters that follow what their VMs ask for, and move VMs from host to host:
//! CloudSim's `power` package.
//!
//! ```text
//! every interval: VMs work ─▶ hosts give what is asked for ─▶ energy ─▶ who moves?
//!                                                                          │
//!        a VM is on both hosts while its memory is copied, and has 90 % ◀──┘
//! ```
//!
//! Here all is looked at each time, as it changes each time.

mod consolidate;
mod correlation;
mod failing;
mod guest;
mod host;
mod overload;
mod record;

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::events::{Event, Events, To};
use super::result::Service;
use super::scenario::{self, Allocation, Overload, Select};
use guest::Guest;
pub(super) use guest::Task;
use host::Host;
use overload::migration_s;

/// A datacenter that looks at fixed intervals.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Dynamic {
    /// Its place in the scenario.
    number: u32,
    allocation: Allocation,
    interval: f64,
    overload: Option<Overload>,
    select: Select,
    chance: ChaCha8Rng,
    hosts: Vec<Host>,
    guests: Vec<Guest>,
    /// Places of VMs in `guests`, by their places in the world's list.
    by_vm: BTreeMap<u32, usize>,
    /// Where the next round of [`Allocation::RoundRobin`] begins.
    turn: usize,
    submitted: Option<f64>,
    looked: f64,
    /// The looks that are planned are the ones with this number.
    plan: u32,
    /// VMs that are on their way, some to two hosts at once.
    arrivals: Vec<Arrival>,
    migrations: u64,
    /// Joules for cloudlets, until they are taken.
    pub(super) drawn: Vec<(u32, f64)>,
    /// VMs that were placed anew, with their old hosts and their new ones, until they are taken.
    pub(super) replaced: Vec<(u32, u32, u32)>,
    /// Cloudlets that begin anew, until they are taken.
    pub(super) restarted: Vec<u32>,
}

/// A VM that arrives at a host.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Arrival {
    /// None if it comes to nothing.
    guest: Option<usize>,
    to: u32,
    time: f64,
}

impl Dynamic {
    pub(super) fn new(
        number: u32,
        like: &scenario::Datacenter,
        how: &scenario::Dynamic,
        chance: ChaCha8Rng,
    ) -> Self {
        Self {
            number,
            allocation: like.allocation,
            interval: how.interval_s,
            overload: how.overload,
            select: how.select,
            chance,
            hosts: (like.host.iter())
                .flat_map(|group| (0..group.count).map(|_| Host::new(group)))
                .collect(),
            guests: Vec::new(),
            by_vm: BTreeMap::new(),
            turn: 0,
            submitted: None,
            looked: 0.0,
            plan: 0,
            arrivals: Vec::new(),
            migrations: 0,
            drawn: Vec::new(),
            replaced: Vec::new(),
            restarted: Vec::new(),
        }
    }

    /// Whether a look with this number is still planned.
    pub(super) const fn plans(&self, plan: u32) -> bool {
        self.plan == plan
    }

    /// Makes a VM. Gives the number of its host, if there is one for it. With `kept` it stays
    /// when it asks for nothing.
    pub(super) fn make(
        &mut self,
        vm: u32,
        like: &scenario::Vm,
        kept: bool,
        now: Moment,
    ) -> Option<u32> {
        let number = self.guests.len();
        self.guests.push(Guest::new(vm, like, kept));
        let host = self.place(number);
        let Some(host) = host.filter(|host| self.hosts[*host].can_take(&self.guests[number]))
        else {
            self.guests.pop();
            return None;
        };
        self.turn = host + 1;
        let guest = &mut self.guests[number];
        self.hosts[host].put(number, guest, false);
        guest.host = Some(host);
        guest.new = false;
        guest.update(now.0, like.mips, &mut Vec::new());
        guest.remember(now.0, self.interval);
        self.by_vm.insert(vm, number);
        Some(host as u32)
    }

    fn place(&self, guest: usize) -> Option<usize> {
        let count = self.hosts.len();
        let suits = |host: &usize| self.hosts[*host].suits(&self.guests[guest]);
        let mut fit = (0..count).filter(suits);
        let free = |host: &usize| self.hosts[*host].free().to_bits();
        match self.allocation {
            Allocation::PowerAware => self.find(guest, &BTreeSet::new(), self.overload),
            Allocation::FirstFit => fit.next(),
            Allocation::Simple => fit.min_by_key(|host| !free(host)),
            Allocation::BestFit => fit.min_by_key(free),
            Allocation::WorstFit => fit.min_by_key(|host| !self.hosts[*host].free_cores()),
            Allocation::RoundRobin => {
                fit.min_by_key(|host| (host + count - self.turn % count) % count)
            }
        }
    }

    /// Gives a VM a cloudlet, if it still has the VM.
    pub(super) fn submit(
        &mut self,
        vm: u32,
        task: Task,
        events: &mut Events,
        ended: &mut Vec<u32>,
    ) -> bool {
        self.look(events, ended);
        let Some(number) = self.guest(vm) else {
            return false;
        };
        let now = events.now();
        let its = &mut self.guests[number];
        let end = Moment(now.0 + its.submit(task));
        match its.kept {
            // It may have asked for nothing, so it was given nothing: a look gives it more.
            true => self.plan_next(events),
            false => self.post(end, events),
        }
        self.submitted = Some(now.0);
        true
    }

    /// MIPS that a VM asks for.
    pub(super) fn asks(&self, vm: u32) -> f64 {
        self.guest(vm)
            .map_or(0.0, |its| self.guests[its].asks_all())
    }

    /// Whether it has a VM: it gives up those that ask for nothing more at a look.
    pub(super) fn has(&self, vm: u32) -> bool {
        self.guest(vm).is_some()
    }

    fn guest(&self, vm: u32) -> Option<usize> {
        let number = *self.by_vm.get(&vm)?;
        self.guests[number].host.map(|_| number)
    }

    /// Looks after its VMs, and lets some move. Adds the cloudlets that have ended.
    pub(super) fn look(&mut self, events: &mut Events, ended: &mut Vec<u32>) {
        let now = events.now().0;
        if self.submitted.is_none_or(|then| then == now) {
            self.plan_next(events);
            return;
        }
        if now <= self.looked {
            return;
        }
        let mut goes_on = self.force(now, ended);
        goes_on |= self.place_anew(now);
        if let Some(overload) = self.overload {
            for its in self.consolidate(overload) {
                self.begin(its.guest, its.host, events);
            }
        }
        if goes_on {
            self.plan_next(events);
        }
    }

    /// Plans the next look, in place of all that are planned.
    fn plan_next(&mut self, events: &mut Events) {
        self.plan = self.plan.wrapping_add(1);
        self.post(Moment(events.now().0 + self.interval), events);
    }

    fn post(&self, then: Moment, events: &mut Events) {
        let (datacenter, plan) = (self.number, self.plan);
        let event = Event::Tick { datacenter, plan };
        events.post(then, To::Datacenter(datacenter), event);
    }

    /// Lets all VMs work until now, and counts energy. VMs that ask for nothing more are
    /// given up. Gives whether something goes on.
    fn force(&mut self, now: f64, ended: &mut Vec<u32>) -> bool {
        let mut goes_on = false;
        for host in &mut self.hosts {
            goes_on |= host.update(&mut self.guests, now, self.interval, ended);
        }
        let seconds = now - self.looked;
        if seconds > 0.0 {
            for host in &mut self.hosts {
                let joules = host.frame(seconds);
                host.joules += joules;
                let mut rest = joules;
                for (guest, part) in host.parts() {
                    let its = joules * part;
                    rest -= its - self.guests[guest].draw(its, &mut self.drawn);
                }
                host.idle += rest;
            }
            self.guests.iter_mut().for_each(Guest::forget_work);
        }
        for host in self.hosts.iter_mut().filter(|host| !host.down) {
            let on = host.placed.iter().map(|its| its.guest);
            let idle = |guest: &usize| {
                let its = &self.guests[*guest];
                its.had && !its.kept && !its.moving && its.asks_all() == 0.0
            };
            for guest in on.filter(idle).collect::<Vec<_>>() {
                host.leave(guest);
                self.guests[guest].host = None;
            }
        }
        self.looked = now;
        goes_on
    }

    /// Lets a VM begin to move to a host.
    fn begin(&mut self, guest: usize, to: usize, events: &mut Events) {
        let now = events.now().0;
        let its = &mut self.guests[guest];
        its.moving = true;
        let (vm, from) = (its.vm, its.host);
        let host = &mut self.hosts[to];
        host.put(guest, its, true);
        host.coming.push(guest);
        let mut none = Vec::new();
        host.update(&mut self.guests, now, self.interval, &mut none);
        let takes = migration_s(self.guests[guest].like.memory_mib, host);
        if let Some(from) = from {
            self.hosts[from].update(&mut self.guests, now, self.interval, &mut none);
        }
        self.migrations += 1;
        let arrives = Moment(now + takes);
        let (datacenter, host) = (self.number, to as u32);
        self.arrivals.push(Arrival {
            guest: Some(guest),
            to: host,
            time: arrives.0,
        });
        let event = Event::Migrate {
            datacenter,
            vm,
            host,
        };
        events.post(arrives, To::Datacenter(datacenter), event);
    }

    /// Lets a VM arrive at a host. Gives whether it is still there.
    pub(super) fn arrive(&mut self, vm: u32, to: u32, now: Moment, ended: &mut Vec<u32>) -> bool {
        if now.0 > self.looked {
            self.force(now.0, ended);
        }
        let arrived = self.arrived(vm, to, now.0);
        if let Some(guest) = arrived {
            self.take_away(guest);
            let its = &mut self.guests[guest];
            its.host = Some(to as usize);
            self.hosts[to as usize].put(guest, its, false);
        }
        if !self.arrivals.iter().any(|its| its.time <= now.0) {
            self.force(now.0, ended);
        }
        arrived.is_some()
    }

    /// Takes one who arrives from those that are on their way. Gives it, if it is still there.
    fn arrived(&mut self, vm: u32, to: u32, now: f64) -> Option<usize> {
        let guest = self.guest(vm);
        let due = |its: &Arrival| its.to == to && its.time <= now;
        let mut all = self.arrivals.iter();
        let this = all.position(|its| due(its) && guest.is_some() && its.guest == guest);
        let mut all = self.arrivals.iter();
        let place = this.or_else(|| all.position(|its| due(its) && its.guest.is_none()))?;
        self.arrivals.swap_remove(place).guest
    }

    /// Lets a VM arrive nowhere.
    fn turn_back(&mut self, guest: usize) {
        let of = |its: &&mut Arrival| its.guest == Some(guest);
        for its in self.arrivals.iter_mut().filter(of) {
            its.guest = None;
        }
    }

    /// Takes a VM from all hosts.
    fn take_away(&mut self, guest: usize) {
        for host in &mut self.hosts {
            host.leave(guest);
            host.coming.retain(|its| *its != guest);
        }
        let its = &mut self.guests[guest];
        (its.moving, its.host) = (false, None);
    }

    /// Gives a VM up.
    pub(super) fn destroy(&mut self, vm: u32) {
        if let Some(guest) = self.guest(vm) {
            self.turn_back(guest);
            self.take_away(guest);
        }
    }

    /// Gives the cloudlets that are in it.
    pub(super) fn tasks(&mut self) -> impl Iterator<Item = &mut Task> {
        self.guests.iter_mut().flat_map(Guest::tasks)
    }

    /// Gives the joules of its hosts, in order, and what of them was for no cloudlet.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (f64, f64)> {
        let counted = self
            .hosts
            .iter()
            .filter(|host| !host.like.power_watts.is_empty());
        counted.map(|host| (host.joules, host.idle))
    }

    /// Gives the joules of its VMs.
    pub(super) fn vms(&self) -> impl Iterator<Item = (u32, f64)> {
        self.guests.iter().map(|guest| (guest.vm, guest.joules))
    }

    /// Says how well it has served its VMs.
    pub(super) fn service(&mut self) -> Service {
        let (mut vms, mut hosts) = (record::Sums::default(), record::Sums::default());
        for guest in &mut self.guests {
            guest.record.settle(false);
            vms.add(&guest.record.sums);
        }
        for host in &mut self.hosts {
            host.record.settle(true);
            hosts.add(&host.record.sums);
        }
        let ratio = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
        let time = ratio(hosts.lacking, hosts.working);
        let degradation = ratio(vms.lacked_moving, vms.asked);
        Service {
            datacenter: self.number,
            joules: self.hosts.iter().map(|host| host.joules).sum(),
            migrations: self.migrations,
            sla: time * degradation,
            sla_degradation_due_to_migration: degradation,
            sla_time_per_active_host: time,
            sla_overall: ratio(vms.asked - vms.got, vms.asked),
            sla_average: ratio(vms.lacked, vms.looks_lacking as f64),
            host_shutdowns: hosts.times.count,
            mean_time_before_host_shutdown_s: ratio(hosts.times.sum, hosts.times.count as f64),
            mean_time_of_migration_s: ratio(vms.times.sum, vms.times.count as f64),
        }
    }
}
