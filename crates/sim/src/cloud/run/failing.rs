use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::super::clock::Moment;
use super::super::events::{Event, To};
use super::super::law::Quantity;
use super::super::result::Failures;
use super::super::scenario::{Failure, Fate, Progress};
use super::{World, meter};
use crate::chance::Seed;

/// Streams of chance for the failures of hosts begin here.
const FAILURES: u64 = 1 << 42;
/// No host works, or is down, for less, in seconds.
const LEAST: f64 = 1e-3;

/// Hosts that may fail, by their places in the world's list.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Failing {
    hosts: Vec<Host>,
    /// How many are down whose VMs are placed anew.
    left: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Host {
    place: u32,
    datacenter: u32,
    how: Failure,
    chance: ChaCha8Rng,
    failures: u64,
    /// Since when it is down, while it is.
    down: Option<Moment>,
    down_s: f64,
    moved: u64,
}

/// What happens where hosts fail. A VM goes down with its host, and is up again with it, or
/// on another; its cloudlets then begin anew, or go on.
impl World {
    pub(super) fn begin_to_fail(&mut self) {
        let seed = Seed(self.scenario.seed);
        for (datacenter, like) in (0..).zip(&self.scenario.datacenter) {
            let mut place = self.datacenters[datacenter as usize].hosts().start;
            for group in &like.host {
                for _ in 0..group.count {
                    let of = |how| Host {
                        place,
                        datacenter,
                        how,
                        chance: seed.stream(FAILURES + u64::from(place)),
                        failures: 0,
                        down: None,
                        down_s: 0.0,
                        moved: 0,
                    };
                    self.failing.hosts.extend(group.failure.map(of));
                    place += 1;
                }
            }
        }
        for number in 0..self.failing.hosts.len() as u32 {
            let datacenter = self.failing.hosts[number as usize].datacenter;
            let opens = self.scenario.datacenter[datacenter as usize].start_s;
            self.plan_failure(number, opens);
        }
    }

    fn plan_failure(&mut self, number: u32, from: f64) {
        let its = &mut self.failing.hosts[number as usize];
        let works = draw(its.how.after_s, &mut its.chance);
        let datacenter = its.datacenter;
        let host = number;
        let event = Event::Fail { datacenter, host };
        let to = To::Datacenter(datacenter);
        self.events.post(Moment(from + works), to, event);
    }

    /// Lets a host fail, by its number among those that may.
    pub(super) fn fail(&mut self, datacenter: u32, host: u32) {
        let now = self.events.now();
        let its = &mut self.failing.hosts[host as usize];
        its.failures += 1;
        its.down = Some(now);
        let (place, how) = (its.place, its.how);
        self.failing.left += u32::from(how.vms == Fate::Move);
        let repaired = Moment(now.0 + draw(its.how.repair_s, &mut its.chance));
        let first = self.datacenters[datacenter as usize].hosts().start;
        let dynamic = self.ask_dynamic(datacenter, |its, events, ended| {
            its.fail((place - first) as usize, events, ended);
        });
        if dynamic.is_none() {
            self.go_down(datacenter, place, how);
        }
        let event = Event::Repair { datacenter, host };
        self.events
            .post(repaired, To::Datacenter(datacenter), event);
        self.place_anew(datacenter);
    }

    /// Takes the VMs of a host down with it.
    fn go_down(&mut self, datacenter: u32, place: u32, how: Failure) {
        self.look(datacenter);
        let now = self.events.now();
        for vm in self.hosts[place as usize].vms.clone() {
            if let Some(stay) = &mut self.vms[vm as usize].stay {
                let center = &mut self.datacenters[datacenter as usize];
                center.forecast.note(vm, &mut stay.ripe, Moment::NEVER);
                let mut lost = std::mem::take(&mut stay.lost);
                for (gpus, pool) in stay.pools() {
                    let had = pool.work.lose(now);
                    meter(&mut self.hosts[place as usize], gpus, pool, now);
                    for (cloudlet, left) in had {
                        let its = &mut self.cloudlets[cloudlet as usize];
                        if let Some(left) = left {
                            its.draw_no_more(&pool.share);
                            match how.progress {
                                Progress::Lose => its.begun = false,
                                Progress::Keep => its.length = left,
                            }
                        }
                        lost.push(cloudlet);
                    }
                }
                stay.lost = lost;
            }
        }
        let failed = &mut self.hosts[place as usize];
        failed.down = true;
        failed.switch(true, now);
    }

    pub(super) fn repair(&mut self, datacenter: u32, host: u32) {
        let now = self.events.now();
        let its = &mut self.failing.hosts[host as usize];
        let place = its.place;
        self.failing.left -= u32::from(its.how.vms == Fate::Move);
        if let Some(since) = its.down.take() {
            its.down_s += now.0 - since.0;
        }
        let first = self.datacenters[datacenter as usize].hosts().start;
        let dynamic = self.ask_dynamic(datacenter, |its, events, ended| {
            its.repair((place - first) as usize, events, ended);
        });
        if dynamic.is_none() {
            self.come_up(datacenter, place);
        }
        self.plan_failure(host, now.0);
        self.place_anew(datacenter);
    }

    /// Lets a host work again, with the VMs that it still has.
    fn come_up(&mut self, datacenter: u32, place: u32) {
        self.look(datacenter);
        let repaired = &mut self.hosts[place as usize];
        repaired.down = false;
        repaired.switch(false, self.events.now());
        let vms = repaired.vms.clone();
        self.take_up(datacenter, &vms);
    }

    /// Lets VMs work again, on hosts that do.
    fn take_up(&mut self, datacenter: u32, vms: &[u32]) {
        let mut lost = Vec::new();
        for vm in vms {
            if let Some(stay) = &mut self.vms[*vm as usize].stay {
                lost.append(&mut stay.lost);
            }
        }
        for cloudlet in lost {
            self.put_in(datacenter, cloudlet);
        }
    }

    /// Places VMs anew that are on hosts that are down, where there is room for them: asked
    /// whenever a host fails or works again, or a VM is given up.
    pub(super) fn place_anew(&mut self, datacenter: u32) {
        let plain = self.datacenters[datacenter as usize].dynamic.is_none();
        if self.failing.left == 0 || !plain {
            return;
        }
        for number in 0..self.failing.hosts.len() {
            let its = &self.failing.hosts[number];
            let (place, moves) = (its.place, its.how.vms == Fate::Move);
            if its.datacenter == datacenter && moves && its.down.is_some() {
                let vms = self.hosts[place as usize].vms.iter().copied();
                let vms = vms.filter(|vm| !self.vms[*vm as usize].nested);
                for vm in vms.collect::<Vec<_>>() {
                    let moved = self.move_away(datacenter, vm, place);
                    self.failing.hosts[number].moved += u64::from(moved);
                }
            }
        }
    }

    /// Places a VM anew, with its containers. Gives whether there was room.
    fn move_away(&mut self, datacenter: u32, vm: u32, from: u32) -> bool {
        let its = &self.vms[vm as usize];
        let like = its.like(&self.scenario);
        let allocator = &mut self.datacenters[datacenter as usize].allocator;
        let (Some(to), Some(stay)) = (allocator.place(&mut self.hosts, like), &its.stay) else {
            return false;
        };
        allocator.give_up(&mut self.hosts, (from, stay.lies), like);
        let all = std::mem::take(&mut self.hosts[from as usize].vms);
        let moves = |its: &u32| *its == vm || self.vms[*its as usize].on == vm;
        let (moved, stay): (Vec<u32>, Vec<u32>) = all.into_iter().partition(moves);
        self.hosts[from as usize].vms = stay;
        self.hosts[to.0 as usize].vms.extend(&moved);
        for its in &moved {
            let (cores, gpus) = self.works(*its, to);
            if let Some(stay) = &mut self.vms[*its as usize].stay {
                stay.move_to(to, cores, gpus);
            }
        }
        self.take_up(datacenter, &moved);
        true
    }

    /// Notes that a VM has left a host that is down.
    pub(super) fn note_moved(&mut self, datacenter: u32, place: u32) {
        let mut hosts = self.failing.hosts.iter_mut();
        let from = hosts.find(|its| (its.datacenter, its.place) == (datacenter, place));
        if let Some(its) = from {
            its.moved += 1;
        }
    }

    /// Says how hosts have failed.
    pub(super) fn failures(&self) -> Vec<Failures> {
        let now = self.events.now().0;
        let of = |its: &Host| Failures {
            datacenter: its.datacenter,
            host: its.place - self.datacenters[its.datacenter as usize].hosts().start,
            count: its.failures,
            moved: its.moved,
            down_s: its.down_s + its.down.map_or(0.0, |since| now - since.0),
        };
        self.failing.hosts.iter().map(of).collect()
    }
}

fn draw(quantity: Quantity, chance: &mut ChaCha8Rng) -> f64 {
    quantity.draw(chance).max(LEAST)
}
