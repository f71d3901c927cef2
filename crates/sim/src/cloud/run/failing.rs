use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::super::clock::Moment;
use super::super::events::{Event, To};
use super::super::law::Quantity;
use super::super::result::Failures;
use super::super::scenario::Failure;
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
}

#[derive(Debug, Serialize, Deserialize)]
struct Host {
    place: u32,
    datacenter: u32,
    how: Failure,
    chance: ChaCha8Rng,
    failures: u64,
    down_s: f64,
}

/// What happens where hosts fail. A VM goes down with its host, and is up again with it;
/// its cloudlets then begin anew.
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
                        down_s: 0.0,
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
        self.look(datacenter);
        let now = self.events.now();
        let its = &mut self.failing.hosts[host as usize];
        its.failures += 1;
        let place = its.place;
        let repaired = Moment(now.0 + draw(its.how.repair_s, &mut its.chance));
        for vm in self.hosts[place as usize].vms.clone() {
            if let Some(stay) = &mut self.vms[vm as usize].stay {
                let lost = stay.work.lose(now);
                let center = &mut self.datacenters[datacenter as usize];
                center.forecast.note(vm, &mut stay.ripe, Moment::NEVER);
                meter(&mut self.hosts, stay, now);
                for (cloudlet, left) in lost {
                    if left.is_some() {
                        self.cloudlets[cloudlet as usize].draw_no_more(&stay.share);
                    }
                    stay.lost.push(cloudlet);
                }
            }
        }
        let failed = &mut self.hosts[place as usize];
        failed.down = Some(now);
        if let Some(meter) = &mut failed.meter {
            meter.switch(true, now);
        }
        let event = Event::Repair { datacenter, host };
        self.events
            .post(repaired, To::Datacenter(datacenter), event);
    }

    pub(super) fn repair(&mut self, datacenter: u32, host: u32) {
        self.look(datacenter);
        let now = self.events.now();
        let place = self.failing.hosts[host as usize].place;
        let repaired = &mut self.hosts[place as usize];
        if let Some(since) = repaired.down.take() {
            self.failing.hosts[host as usize].down_s += now.0 - since.0;
        }
        if let Some(meter) = &mut repaired.meter {
            meter.switch(false, now);
        }
        let mut lost = Vec::new();
        for vm in &repaired.vms {
            if let Some(stay) = &mut self.vms[*vm as usize].stay {
                lost.append(&mut stay.lost);
            }
        }
        for cloudlet in lost {
            self.take_in(datacenter, cloudlet);
        }
        self.plan_failure(host, now.0);
    }

    /// Says how hosts have failed.
    pub(super) fn failures(&self) -> Vec<Failures> {
        let now = self.events.now().0;
        let of = |its: &Host| {
            let down = self.hosts[its.place as usize].down;
            Failures {
                datacenter: its.datacenter,
                host: its.place - self.datacenters[its.datacenter as usize].hosts().start,
                count: its.failures,
                down_s: its.down_s + down.map_or(0.0, |since| now - since.0),
            }
        };
        self.failing.hosts.iter().map(of).collect()
    }
}

fn draw(quantity: Quantity, chance: &mut ChaCha8Rng) -> f64 {
    quantity.draw(chance).max(LEAST)
}
