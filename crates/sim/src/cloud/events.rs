use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use serde::{Deserialize, Serialize};

use super::clock::Moment;

/// What happens to whom. Numbers are places in the world's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    /// A datacenter opens.
    Open { datacenter: u32 },
    /// A broker begins.
    Begin { broker: u32 },
    /// A broker has heard of all datacenters.
    Meet { broker: u32 },
    /// The next cloudlet of a group is there.
    Arrive { broker: u32, group: u32 },
    /// A datacenter is asked for a VM.
    Ask { datacenter: u32, vm: u32 },
    /// A broker hears what became of that.
    Answer { vm: u32, made: bool },
    /// Cloudlets reach a datacenter.
    Submit { datacenter: u32, parcel: u32 },
    /// A cloudlet has the files that it needs.
    Loaded { datacenter: u32, cloudlet: u32 },
    /// A datacenter looks after its cloudlets.
    Look { datacenter: u32 },
    /// It does as it has cloudlets that wait for data, unless it has looked since.
    Poll { datacenter: u32, looks: u32 },
    /// A dynamic datacenter does, unless it has planned anew since.
    Tick { datacenter: u32, plan: u32 },
    /// A VM has moved to a host of its datacenter.
    Migrate { datacenter: u32, vm: u32, host: u32 },
    /// A broker gets a cloudlet back that has ended.
    Return { broker: u32, cloudlet: u32 },
    /// Data has come through the network, unless that is planned anew since.
    Flow { plan: u32 },
    /// Data has come to a cloudlet.
    Deliver { cloudlet: u32 },
    /// A broker looks whether it has the right number of VMs.
    Scale { broker: u32 },
    /// A host fails.
    Fail { datacenter: u32, host: u32 },
    /// A host works again.
    Repair { datacenter: u32, host: u32 },
    /// A VM is given up.
    Destroy { datacenter: u32, vm: u32 },
}

/// Who gets an event: at one instant, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum To {
    Registry,
    Network,
    Datacenter(u32),
    Broker(u32),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Entry {
    time: Moment,
    round: u32,
    to: To,
    number: u64,
    event: Event,
}

impl Entry {
    const fn key(&self) -> (Moment, u32, To, u64) {
        (self.time, self.round, self.to, self.number)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// What is to happen, on a heap.
///
/// Within an instant there are rounds, as in CloudSim: what is sent without delay is
/// received in the next. In a round entities have their turns by number, and each
/// receives in the order of sending.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Events {
    heap: BinaryHeap<Reverse<Entry>>,
    now: Moment,
    round: u32,
    posted: u64,
    taken: u64,
}

impl Events {
    pub(super) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            now: Moment(0.0),
            round: 0,
            posted: 0,
            taken: 0,
        }
    }

    pub(super) const fn now(&self) -> Moment {
        self.now
    }

    /// How many have happened.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Lets something happen, now at the earliest; never at [`Moment::NEVER`].
    pub(super) fn post(&mut self, time: Moment, to: To, event: Event) {
        if time == Moment::NEVER {
            return;
        }
        self.heap.push(Reverse(Entry {
            time: time.max(self.now),
            round: match time > self.now {
                true => 0,
                false => self.round + 1,
            },
            to,
            number: self.posted,
            event,
        }));
        self.posted += 1;
    }

    /// Lets the next thing happen that `holds`. What is from `until` on is left.
    pub(super) fn take(
        &mut self,
        until: Moment,
        holds: impl Fn(&Event) -> bool,
    ) -> Option<(To, Event)> {
        while let Some(first) = self.heap.peek_mut() {
            let Reverse(entry) = *first;
            let holds = holds(&entry.event);
            if holds && entry.time >= until {
                return None;
            }
            PeekMut::pop(first);
            if !holds {
                continue;
            }
            (self.now, self.round) = (entry.time, entry.round);
            self.taken += 1;
            return Some((entry.to, entry.event));
        }
        None
    }

    /// Whether something is left to happen.
    pub(super) fn any(&self) -> bool {
        !self.heap.is_empty()
    }

    /// Ends at a moment if something is left to happen then. Gives whether it is.
    pub(super) fn stop(&mut self, at: Moment) -> bool {
        if self.any() {
            self.now = at;
        }
        self.any()
    }
}
