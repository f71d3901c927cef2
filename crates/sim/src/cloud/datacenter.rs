use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::allocator::Allocator;
use super::clock::Moment;
use super::dynamic::Dynamic;
use super::events::Event;
use super::forecast::Forecast;
use super::scenario;

/// Until then a datacenter looks as often as it is asked.
const EAGER: Moment = Moment(0.111);
/// So near to a look counts as at it.
const NEAR: f64 = 1e-6;
/// What is added to the least time between two looks, in seconds.
const LATER: f64 = 0.01;

/// A datacenter: CloudSim's `Datacenter`.
///
/// It looks after its cloudlets when one is submitted and when it expects one to end,
/// and then after all of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Datacenter {
    /// Of its hosts, by their places in the world's list.
    pub(super) allocator: Allocator,
    looked: Moment,
    /// How often it has looked.
    looks: u32,
    /// The look that was planned last.
    planned: Moment,
    pub(super) forecast: Forecast,
    /// VMs at which the next look looks in any case.
    again: Vec<u32>,
    /// Cloudlets that wait for data.
    pub(super) waiting: u32,
    /// Whether some did at the last look.
    polls: bool,
    /// In place of its hosts and looks, where it looks at fixed intervals.
    pub(super) dynamic: Option<Box<Dynamic>>,
}

impl Datacenter {
    pub(super) fn new(
        like: &scenario::Datacenter,
        hosts: Range<u32>,
        dynamic: Option<Dynamic>,
    ) -> Self {
        Self {
            allocator: Allocator::new(like.allocation, hosts),
            looked: Moment(0.0),
            looks: 0,
            planned: Moment(0.0),
            forecast: Forecast::new(),
            again: Vec::new(),
            waiting: 0,
            polls: false,
            dynamic: dynamic.map(Box::new),
        }
    }

    /// Gives its hosts.
    pub(super) fn hosts(&self) -> Range<u32> {
        self.allocator.hosts()
    }

    /// When it last looked, before now.
    ///
    /// While cloudlets wait for data, CloudSim looks again and again. Here only those of
    /// these looks happen that find something.
    pub(super) fn looked(&self, now: Moment, least: f64) -> Moment {
        match self.polls && now > self.looked {
            true => {
                let looks = (now.0 - self.looked.0) / (least + LATER);
                let before = (looks - NEAR).ceil() - 1.0;
                Moment(self.looked.0 + before.max(0.0) * (least + LATER))
            }
            false => self.looked,
        }
    }

    /// Whether it has looked so often.
    pub(super) const fn has_looked(&self, looks: u32) -> bool {
        self.looks == looks
    }

    /// Lets it notice what comes at a time.
    pub(super) fn notice(&self, datacenter: u32, time: Moment, least: f64) -> (Moment, Event) {
        match self.polls {
            true => {
                let looks = self.looks;
                (
                    self.next_poll(time, least),
                    Event::Poll { datacenter, looks },
                )
            }
            false => {
                let then = time.max(Moment(self.looked.0 + least));
                (then, Event::Look { datacenter })
            }
        }
    }

    fn next_poll(&self, time: Moment, least: f64) -> Moment {
        let looks = ((time.0 - self.looked.0) / (least + LATER) - NEAR).ceil();
        Moment(self.looked.0 + looks.max(1.0) * (least + LATER))
    }

    /// Lets the next look look at a VM in any case.
    pub(super) fn look_again(&mut self, vm: u32) {
        self.again.push(vm);
    }

    /// Takes the VMs at which the next look would look in any case.
    pub(super) fn take_again(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.again)
    }

    /// Gives the VMs of which a look now finds something, once each; none when the last
    /// look was a moment ago.
    pub(super) fn look(&mut self, now: Moment, least: f64) -> Option<Vec<u32>> {
        if now >= EAGER && now.0 < self.looked(now, least).0 + least {
            return None;
        }
        self.looked = now;
        self.looks = self.looks.wrapping_add(1);
        let mut found = self.take_again();
        found.extend(self.forecast.ripe(now));
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// How and when it looks next, after a look now; nothing if that is planned already.
    pub(super) fn next(
        &mut self,
        datacenter: u32,
        now: Moment,
        least: f64,
        expected: impl Fn(u32) -> Moment,
    ) -> Option<(Moment, Event)> {
        self.polls = self.waiting > 0;
        if self.polls {
            let first = match self.again.is_empty() {
                true => self.forecast.first_ripe(),
                false => now,
            };
            return (first != Moment::NEVER).then(|| self.notice(datacenter, first, least));
        }
        let first = self.forecast.first(now, expected).0;
        // As CloudSim computes it: by the time until then.
        let next = Moment(now.0 + (first.max(now.0 + least + LATER) - now.0));
        let known = next == self.planned && next >= EAGER;
        self.planned = next;
        (!known && next != Moment::NEVER).then_some((next, Event::Look { datacenter }))
    }
}
