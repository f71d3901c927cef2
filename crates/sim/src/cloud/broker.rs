use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::law::Quantity;
use super::result::Why;
use super::scenario;

/// A broker: CloudSim's `DatacenterBroker`.
///
/// ```text
/// begin ─▶ ask one datacenter for all VMs ─▶ answers ─▶ hand out cloudlets ─▶ returns
///               ▲                              │                               │ all are back
///               └── the next, for those that ──┘                               ▼
///                   were not made there                                give the VMs up
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Broker {
    /// Places of its VMs in the world's list.
    pub(super) vms: Range<u32>,
    /// Those of its containers.
    pub(super) containers: Range<u32>,
    /// VMs that it has, or containers where there are some, in the order in which it heard
    /// of them.
    pub(super) made: Vec<u32>,
    /// VMs on which these containers are.
    pub(super) hosts: Vec<u32>,
    /// Datacenters that it has asked.
    asked: Vec<u32>,
    /// VMs for which it waits for an answer.
    unanswered: u32,
    /// Whether it knows its VMs.
    ready: bool,
    /// Whose turn it is to get a cloudlet.
    turn: usize,
    /// Cloudlets that it has and has not handed out.
    pub(super) waiting: Vec<u32>,
    /// Cloudlets that are still to come.
    coming: u64,
    /// Cloudlets that are not back.
    out: u64,
    pauses: Vec<Range<Moment>>,
    pub(super) groups: Vec<Group>,
}

/// Cloudlets that arrive one after another.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Group {
    /// Places of those to come in the world's list.
    next: Range<u32>,
    /// When the first of them does, from the beginning of the broker on.
    first: f64,
    gap: Quantity,
    chance: ChaCha8Rng,
}

impl Group {
    pub(super) fn new(
        like: &scenario::Cloudlet,
        cloudlets: Range<u32>,
        chance: ChaCha8Rng,
    ) -> Self {
        Self {
            next: cloudlets,
            first: like.submit_s,
            gap: like.gap_s,
            chance,
        }
    }

    /// Takes the next; gives it, and when the one after it comes.
    fn take(&mut self, now: Moment) -> Option<(u32, Option<Moment>)> {
        let taken = self.next.next()?;
        let more = !self.next.is_empty();
        let then = more.then(|| Moment(now.0 + self.gap.draw(&mut self.chance)));
        Some((taken, then))
    }
}

impl Broker {
    pub(super) fn new(
        like: &scenario::Broker,
        (vms, containers): (Range<u32>, Range<u32>),
        groups: Vec<Group>,
    ) -> Self {
        let pause = |its: &scenario::Pause| Moment(its.from_s)..Moment(its.to_s);
        Self {
            vms,
            containers,
            made: Vec::new(),
            hosts: Vec::new(),
            asked: Vec::new(),
            unanswered: 0,
            ready: false,
            turn: 0,
            waiting: Vec::new(),
            coming: groups.iter().map(|group| group.next.len() as u64).sum(),
            out: 0,
            pauses: like.pause.iter().map(pause).collect(),
            groups,
        }
    }

    /// When it goes on, where it stands still.
    pub(super) fn paused_until(&self, now: Moment) -> Option<Moment> {
        let pause = self.pauses.iter().find(|pause| pause.contains(&now))?;
        Some(pause.end)
    }

    /// When each group of cloudlets begins to come.
    pub(super) fn arrivals(&self, now: Moment) -> impl Iterator<Item = (u32, Moment)> {
        let first = move |group: &Group| Moment(now.0 + group.first);
        (0..).zip(self.groups.iter().map(first))
    }

    /// Takes what has come of a group. Gives when the next comes, unless that was all.
    pub(super) fn arrive(&mut self, group: u32, now: Moment) -> Option<Moment> {
        while let Some((cloudlet, then)) = self.groups[group as usize].take(now) {
            self.coming -= 1;
            self.waiting.push(cloudlet);
            if let Some(then) = then
                && then > now
            {
                return Some(then);
            }
        }
        None
    }

    /// Chooses the next datacenter that is asked for what is not made yet.
    pub(super) fn ask(&mut self, open: &[u32], wanted: u32) -> Option<u32> {
        let new = |one: &&u32| !self.asked.contains(one);
        let next = *open.iter().find(new)?;
        self.asked.push(next);
        self.unanswered = wanted;
        Some(next)
    }

    /// Takes an answer. Gives whether all that was asked is answered.
    pub(super) fn answered(&mut self, vm: u32, made: bool) -> bool {
        if made {
            self.made.push(vm);
        }
        self.unanswered -= 1;
        self.unanswered == 0
    }

    /// Whether it has all VMs that it wants.
    pub(super) fn has_all(&self) -> bool {
        self.made.len() == self.vms.len()
    }

    /// Takes its VMs for hosts of containers, and gives them.
    pub(super) fn begin_to_nest(&mut self) -> Vec<u32> {
        self.hosts = std::mem::take(&mut self.made);
        self.hosts.clone()
    }

    /// Waits for so many answers.
    pub(super) const fn wait_for(&mut self, answers: u32) {
        self.unanswered = answers;
    }

    /// Begins to hand out.
    pub(super) fn begin_to_hand_out(&mut self) {
        self.ready = true;
    }

    pub(super) const fn hands_out(&self) -> bool {
        self.ready
    }

    /// Whose turn it is to get a cloudlet.
    pub(super) fn turn(&self) -> u32 {
        self.made[self.turn]
    }

    /// Goes on without a VM.
    pub(super) fn without(&mut self, vm: u32) {
        self.made.retain(|its| *its != vm);
        self.turn %= self.made.len().max(1);
    }

    /// Counts a cloudlet that was handed out.
    pub(super) fn handed_out(&mut self) {
        self.out += 1;
        self.turn = (self.turn + 1) % self.made.len();
    }

    /// Counts a cloudlet that is back. Gives whether that was the last.
    pub(super) fn returned(&mut self) -> bool {
        self.out -= 1;
        self.out == 0 && self.coming == 0
    }

    /// Why it has handed nothing out.
    pub(super) fn why_not(&self) -> Why {
        match (self.asked.is_empty(), self.hosts.is_empty()) {
            (true, _) => Why::NoDatacenter,
            (_, true) => Why::NoVm,
            _ => Why::NoContainer,
        }
    }
}
