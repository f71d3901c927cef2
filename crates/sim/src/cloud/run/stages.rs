use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::events::To;
use super::super::network::{Flows, Place};
use super::super::scenario::Stage;
use super::super::work::Piece;
use super::{Cloudlets, NONE, World, meter};

/// Where cloudlets with stages are: CloudSim's `NetworkCloudlet`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Stages {
    /// Places of cloudlets in the world's list, by broker and number.
    named: BTreeMap<(u32, u32), u32>,
    /// By cloudlet.
    at: BTreeMap<u32, At>,
    /// Those that wait for data, by their VM, in the order in which they began to.
    waiting: BTreeMap<u32, Vec<u32>>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct At {
    /// The stage that it is at.
    stage: usize,
    /// Data that has come and is not taken.
    inbox: u32,
    waits: bool,
}

/// Data that is sent.
#[derive(Debug, Clone, Copy)]
struct Data {
    from: u32,
    to: u32,
    bytes: u64,
}

impl Stages {
    /// Whether no cloudlet has stages.
    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    pub(super) fn waits(&self, cloudlet: u32) -> bool {
        self.at.get(&cloudlet).is_some_and(|at| at.waits)
    }
}

impl World {
    /// Lays the cables of datacenters, if something is to be sent.
    pub(super) fn connect(&mut self) {
        let scenario = Arc::clone(&self.scenario);
        let stages = |group: &Cloudlets| &group.like(&scenario).stages;
        if self.groups.iter().all(|group| stages(group).is_empty()) {
            return;
        }
        for group in &self.groups {
            for nth in 0..group.like(&scenario).count {
                let name = (group.broker, group.first + nth);
                self.stages.named.insert(name, group.begin + nth);
            }
        }
        let speeds = self.vms.iter().map(|vm| vm.like(&scenario).bandwidth_mbps);
        self.flows = Flows::new(speeds);
        for like in &scenario.datacenter {
            let hosts = like.host.iter().map(|group| group.count).sum();
            let lay = |network| self.flows.lay(network, hosts);
            self.cables.push(like.network.as_ref().map(lay));
        }
    }

    /// Takes a cloudlet with stages that begins to wait. Gives whether it is one.
    pub(super) fn begin_stages(&mut self, datacenter: u32, cloudlet: u32) -> bool {
        let group = self.group(cloudlet).like(&self.scenario);
        let Some(first) = group.stages.first() else {
            return false;
        };
        self.stages.at.entry(cloudlet).or_default();
        if !matches!(first, Stage::Receive(_)) {
            return false;
        }
        let its = &mut self.cloudlets[cloudlet as usize];
        (its.start, its.begun) = (its.submitted, true);
        self.wait(datacenter, cloudlet);
        true
    }

    fn wait(&mut self, datacenter: u32, cloudlet: u32) {
        let vm = self.cloudlets[cloudlet as usize].vm;
        if let Some(at) = self.stages.at.get_mut(&cloudlet) {
            at.waits = true;
            self.stages.waiting.entry(vm).or_default().push(cloudlet);
            let center = &mut self.datacenters[datacenter as usize];
            center.waiting += 1;
            if at.inbox > 0 {
                center.look_again(vm);
            }
        }
    }

    /// Lets cloudlets go on in a dynamic datacenter, as [`World::go_on`] does. There it is
    /// not waited for a look.
    pub(super) fn go_on_at_once(&mut self, datacenter: u32, over: &mut Vec<u32>) {
        let mut ended = Vec::new();
        let mut data = Vec::new();
        for cloudlet in take(over) {
            self.next(datacenter, cloudlet, 0.0, &mut ended, &mut data);
        }
        loop {
            // What is sent on the same host is there at once.
            let mut near = self.transmit(&mut data);
            near.extend(self.datacenters[datacenter as usize].take_again());
            let receivers = self.receivers(&near);
            if receivers.is_empty() {
                break;
            }
            for cloudlet in receivers {
                self.take_data(datacenter, cloudlet);
                self.next(datacenter, cloudlet, 0.0, &mut ended, &mut data);
            }
        }
        *over = ended;
    }

    /// Lets cloudlets go on to their next stages, at a look: those of which a stage is
    /// over, and those at these VMs for which data has come. Leaves in `over` those that
    /// have ended.
    pub(super) fn go_on(&mut self, datacenter: u32, vms: &[u32], over: &mut Vec<u32>, since: f64) {
        let mut ended = Vec::new();
        let mut data = Vec::new();
        let receivers = self.receivers(vms);
        for cloudlet in take(over) {
            self.next(datacenter, cloudlet, 0.0, &mut ended, &mut data);
        }
        for cloudlet in receivers {
            self.take_data(datacenter, cloudlet);
            self.next(datacenter, cloudlet, since, &mut ended, &mut data);
        }
        // What is sent on the same host is there at once.
        let near = self.transmit(&mut data);
        for cloudlet in self.receivers(&near) {
            self.take_data(datacenter, cloudlet);
            self.next(datacenter, cloudlet, 0.0, &mut ended, &mut data);
        }
        for vm in self.transmit(&mut data) {
            self.datacenters[datacenter as usize].look_again(vm);
        }
        *over = ended;
    }

    /// Gives the cloudlets at VMs that wait, and for which data is there.
    fn receivers(&self, vms: &[u32]) -> Vec<u32> {
        let waiting = vms.iter().filter_map(|vm| self.stages.waiting.get(vm));
        let there = |cloudlet: &u32| self.stages.at.get(cloudlet).is_some_and(|at| at.inbox > 0);
        waiting.flatten().copied().filter(there).collect()
    }

    fn take_data(&mut self, datacenter: u32, cloudlet: u32) {
        let vm = self.cloudlets[cloudlet as usize].vm;
        if let Some(at) = self.stages.at.get_mut(&cloudlet) {
            at.inbox -= 1;
            at.waits = false;
        }
        if let Some(waiting) = self.stages.waiting.get_mut(&vm) {
            waiting.retain(|its| *its != cloudlet);
        }
        self.datacenters[datacenter as usize].waiting -= 1;
    }

    /// Lets a cloudlet go on. It has been there for so many seconds since the last look.
    fn next(
        &mut self,
        datacenter: u32,
        cloudlet: u32,
        since: f64,
        ended: &mut Vec<u32>,
        data: &mut Vec<Data>,
    ) {
        let group = self.group(cloudlet);
        let stages = &group.like(&self.scenario).stages;
        let Some(at) = self.stages.at.get_mut(&cloudlet) else {
            ended.push(cloudlet);
            return;
        };
        at.stage += 1;
        while let Some(Stage::Send { to, bytes }) = stages.get(at.stage) {
            at.stage += 1;
            data.extend(self.stages.named.get(&(group.broker, *to)).map(|to| Data {
                from: cloudlet,
                to: *to,
                bytes: *bytes,
            }));
        }
        match stages.get(at.stage) {
            Some(stage @ (Stage::Run(length) | Stage::Gpu(length))) => {
                let its = &mut self.cloudlets[cloudlet as usize];
                (its.units, its.on_gpus) = group.like(&self.scenario).units(Some(stage));
                let piece = Piece {
                    cloudlet,
                    units: its.units,
                    length: *length as f64,
                };
                let (vm, on_gpus, now) = (its.vm, its.on_gpus, self.events.now());
                let center = &mut self.datacenters[datacenter as usize];
                if center.dynamic.is_some() {
                    its.length = piece.length;
                    let stage = at.stage;
                    self.give_task(datacenter, cloudlet, stage);
                } else if let Some(stay) = &mut self.vms[vm as usize].stay {
                    if self.hosts[stay.host as usize].down {
                        its.length = piece.length;
                        stay.lost.push(cloudlet);
                        return;
                    }
                    let pool = stay.pool(on_gpus);
                    let begins = match on_gpus {
                        // It waits where none are free.
                        true => pool.work.submit(piece, now).is_some(),
                        false => {
                            pool.work.resume(piece, since, now);
                            true
                        }
                    };
                    meter(
                        &mut self.hosts[stay.host as usize],
                        on_gpus,
                        stay.pool(on_gpus),
                        now,
                    );
                    if begins {
                        its.begin_to_draw(&stay.pool(on_gpus).share);
                    }
                    let over = stay.over_from();
                    center.forecast.note(vm, &mut stay.ripe, over);
                    center.look_again(vm);
                }
            }
            Some(_) => self.wait(datacenter, cloudlet),
            None => ended.push(cloudlet),
        }
    }

    /// Sends data. Gives the VMs for which some is there at once.
    fn transmit(&mut self, data: &mut Vec<Data>) -> Vec<u32> {
        let mut near = Vec::new();
        for Data { from, to, bytes } in data.drain(..) {
            let sender = self.cloudlets[from as usize].vm;
            let receiver = self.cloudlets[to as usize].vm;
            let place = |vm: u32| {
                let stay = self.vms.get(vm as usize)?.stay.as_ref()?;
                let first = self.datacenters[stay.datacenter as usize].hosts().start;
                Some(Place {
                    vm,
                    on: self.vms[vm as usize].on,
                    datacenter: stay.datacenter,
                    host: stay.host - first,
                })
            };
            match (place(sender), place(receiver)) {
                (Some(one), Some(two))
                    if (one.datacenter, one.host) != (two.datacenter, two.host) =>
                {
                    let cables = |its: Place| (its, self.cables[its.datacenter as usize].as_ref());
                    let (one, two) = (cables(one), cables(two));
                    self.flows.send(to, bytes, one, two, &mut self.events);
                }
                _ => {
                    self.stages.at.entry(to).or_default().inbox += 1;
                    if receiver != NONE {
                        near.push(receiver);
                    }
                }
            }
        }
        near.sort_unstable();
        near.dedup();
        near
    }

    /// Lets data reach a cloudlet.
    pub(super) fn deliver(&mut self, cloudlet: u32) {
        let at = self.stages.at.entry(cloudlet).or_default();
        at.inbox += 1;
        let vm = self.cloudlets[cloudlet as usize].vm;
        if !at.waits {
            return;
        }
        let stay = self.vms[vm as usize].stay.as_ref();
        let center = stay.map(|stay| stay.datacenter);
        if let Some(center) = center
            && self.datacenters[center as usize].dynamic.is_some()
        {
            self.datacenters[center as usize].look_again(vm);
            self.ask_dynamic(center, |its, events, ended| its.look(events, ended));
            return;
        }
        if let Some(stay) = &self.vms[vm as usize].stay {
            let center = &mut self.datacenters[stay.datacenter as usize];
            center.look_again(vm);
            let least = self.scenario.min_time_between_events_s;
            let (then, event) = center.notice(stay.datacenter, self.events.now(), least);
            self.events
                .post(then, To::Datacenter(stay.datacenter), event);
        }
    }
}
