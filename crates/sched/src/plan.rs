use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::allocation::{Allocation, Parts};
use crate::cluster::Cluster;
use crate::failed::Failed;
use crate::masks::{Among, Masks};
use crate::order::Order;
use crate::place::{Placement, Tally, place};
use crate::preempt::{Preemption, preempt};
use crate::profile::{Found, Profile};
use crate::queue::{Entry, JobNumber, Queue, Queued, sort};
use crate::quota::{Purse, QuotaNumber, Used};
use crate::space::{Now, Space};
use crate::time::Time;

/// How jobs are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// What may start before those that were to come first.
    pub backfill: Backfill,
    /// Which nodes are taken.
    pub placement: Placement,
}

/// What may start before those that were to come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backfill {
    /// Nothing.
    #[default]
    None,
    /// Whatever does not delay the first that cannot start, looked at in an order
    /// of its own. (Lifka, "The ANL/IBM SP scheduling system", 1995.)
    Easy {
        /// In which order.
        scan: Order,
    },
    /// Whatever delays nobody: each has a reservation. (Mu'alem and Feitelson, TPDS 2001.)
    Conservative,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What starts now, in this order.
    pub starts: SmallVec<[Start; 1]>,
    /// What is to end, so that the first that does not start can.
    pub preemptions: Vec<Preemption>,
    /// What is kept for those that wait.
    pub reservations: Vec<Reservation>,
    /// Why the others do not start, by number. Who is not among them waits behind the
    /// barrier, or was not looked at where there is none.
    pub verdicts: SmallVec<[(JobNumber, Verdict); 1]>,
    /// The one that none of those after it passes.
    pub barrier: Option<JobNumber>,
    /// When a reservation begins, if nothing happens before.
    pub wake_at: Option<Time>,
    /// The first that does not start.
    pub head: Option<JobNumber>,
    /// How much was looked at.
    pub steps: u64,
    /// The effort was spent before all were looked at: the next round goes on there.
    pub unfinished: bool,
}

/// A job that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub job: JobNumber,
    /// What it gets.
    pub allocation: Allocation,
    /// When it ends at the latest.
    pub until: Time,
}

/// Room that is kept for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// For which.
    pub job: JobNumber,
    /// From when on.
    pub at: Time,
    /// What.
    pub allocation: Allocation,
}

/// Why a job does not start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// There is no room for it that nobody before it needs.
    Room,
    /// A job before it waits, and none passes that.
    Behind(JobNumber),
    /// No node that it may have is open.
    Closed,
    /// Those who share a quota with it have as much of it as they may.
    Limit(QuotaNumber),
    /// No moment is known at which there would be room for it.
    Never,
}

/// What a planner keeps in mind from one round to the next.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The next to be looked at, where a round was cut short.
    next: Option<JobNumber>,
    /// From when on room is to be looked for, for that.
    from: Option<Time>,
    /// What was kept for jobs.
    kept: Vec<Reservation>,
    /// For whom no moment was found.
    never: BTreeSet<JobNumber>,
    /// How often something had become free early by then.
    freed: u64,
}

/// No end of effort.
const ANY: u64 = u64::MAX;

/// Says which of the jobs that wait start now, and where.
///
/// Nothing is oversubscribed. With [`Backfill::Easy`] the first job that cannot
/// start is not delayed by one that comes after it, with
/// [`Backfill::Conservative`] none is, as long as none runs over its time. A job
/// that an empty cluster has no room for holds up what comes after it, except with
/// [`Backfill::Conservative`]: whoever submits it is to be told before.
pub fn plan(policy: Policy, cluster: &Cluster, queue: &Queue, now: Time) -> Plan {
    plan_on(policy, cluster, queue, now, &mut Memory::default(), ANY)
}

/// Does what [`plan`] does with so much effort, and goes on from what was kept in mind.
///
/// A step is a look at a job, or at nodes that follow each other and are alike. A round that
/// spent its effort is cut short ([`Plan::unfinished`]); the next with the same memory goes
/// on there. With [`Backfill::Conservative`] no reservation that is kept in mind is given up
/// for a later one, unless what it counted on is not there any more.
pub fn plan_on(
    policy: Policy,
    cluster: &Cluster,
    queue: &Queue,
    now: Time,
    memory: &mut Memory,
    effort: u64,
) -> Plan {
    let mut round = Round::new(policy, cluster, queue, now, effort);
    match policy.backfill {
        Backfill::Conservative => {
            round.conservative(memory);
            if round.preempt().is_some() {
                // Nothing that was kept for others is in the way of whom they make room for.
                memory.kept.clear();
            }
        }
        Backfill::None | Backfill::Easy { .. } => round.easy(memory),
    }
    if let Some(window) = cluster.next_window(now).filter(|_| !queue.is_empty()) {
        let wake_at = round.plan.wake_at.unwrap_or(window);
        round.plan.wake_at = Some(wake_at.min(window));
    }
    round.plan.head = round.head.map(|queued| queued.job);
    round.plan.verdicts.sort_unstable();
    round.plan.steps = round.steps.get();
    round.plan
}

/// Says when the first job that waits starts at the latest, and where, as long as
/// none runs over its time: for whoever asks. `None` when nothing waits, or when an
/// empty cluster has no room for it.
pub fn first_start(
    policy: Policy,
    cluster: &Cluster,
    queue: &Queue,
    now: Time,
) -> Option<Reservation> {
    let first = queue.in_order(cluster, now).next()?;
    let mut round = Round::new(policy, cluster, queue, now, ANY);
    round.shadow(cluster.space(), first)?;
    round.plan.reservations.pop()
}

/// Tells whether there is room for a job beside what runs, as if it were alone in the
/// queue.
pub fn has_room(cluster: &Cluster, queued: &Queued) -> bool {
    let steps = Cell::new(0);
    let room = Now {
        space: cluster.space(),
        within: None,
        steps: &steps,
    };
    let among = Masks::new(cluster).of(queued, Time(0));
    let request = &queued.request;
    place(cluster, &room, &among, request, Placement::First).is_some()
}

/// One round of planning.
struct Round<'a> {
    policy: Policy,
    cluster: &'a Cluster,
    queue: &'a Queue,
    now: Time,
    masks: Masks<'a>,
    purse: Purse<'a>,
    steps: Cell<u64>,
    effort: u64,
    /// The first that does not start.
    head: Option<&'a Queued>,
    plan: Plan,
}

impl<'a> Round<'a> {
    fn new(policy: Policy, cluster: &'a Cluster, queue: &'a Queue, now: Time, effort: u64) -> Self {
        Self {
            policy,
            cluster,
            queue,
            now,
            masks: Masks::new(cluster),
            purse: Purse::new(cluster.quotas()),
            steps: Cell::new(0),
            effort,
            head: None,
            plan: Plan::default(),
        }
    }

    fn easy(&mut self, memory: &mut Memory) {
        let placement = self.policy.placement;
        let mut space = Cow::Borrowed(self.cluster.space());
        if placement != Placement::First && self.queue.len() > 4 {
            space = Cow::Owned(space.into_owned().ranked(placement));
        }
        let mut waiting = self.queue.in_order(self.cluster, self.now);
        // No more than that is left.
        let (mut taken, mut left) = (0, space.cores());
        let (blocked, is_open) = loop {
            let Some(entry) = waiting.next() else {
                memory.next = None;
                return;
            };
            // What has started is out of the way of the next round, and it goes on.
            if self.is_spent() && !self.plan.starts.is_empty() {
                self.plan.unfinished = true;
                return;
            }
            // Who is at a limit waits for those who share it, and holds up nobody.
            if self.is_limited(entry) {
                continue;
            }
            let among = self.masks.of(&entry.queued, self.now);
            // What is left on which node is only to be known where there may be enough.
            if entry.cores > left {
                self.steps.set(self.steps.get() + 1);
                break (entry, among);
            }
            self.take_started(&mut space, &mut taken);
            match self.fits(&space, None, &among, entry) {
                Some(allocation) if self.is_too_much(&entry.queued, &allocation) => {}
                Some(allocation) => {
                    left -= entry.cores;
                    self.start(entry, allocation);
                }
                None => break (entry, among),
            }
        };
        if self.policy.backfill != Backfill::None {
            self.take_started(&mut space, &mut taken);
        }
        let blocked_job = blocked.queued.job;
        self.head = Some(&blocked.queued);
        // What others make room for is to have it, and not who comes in between.
        let beside = self.preempt();
        let shadow = match (self.policy.backfill, space.cores()) {
            (Backfill::Easy { .. }, 1..) => self.shadow(&space, blocked),
            _ => None,
        };
        let shadow = shadow.map(|shadow| match beside {
            Some(beside) => (self.now, beside),
            None => shadow,
        });
        let closed = is_open.iter().any(|nodes| nodes.is_empty());
        let verdict = match closed {
            true => Verdict::Closed,
            false => Verdict::Room,
        };
        self.plan.verdicts.push((blocked_job, verdict));
        let (Backfill::Easy { scan }, Some((shadow, mut extra))) = (self.policy.backfill, shadow)
        else {
            memory.next = None;
            self.plan.barrier = Some(blocked_job);
            return;
        };
        let mut rest: Vec<&Entry> = waiting.collect();
        if scan != self.queue.order() {
            sort(
                &mut rest,
                scan,
                &self.queue.view(self.cluster.cores(), self.now),
            );
        }
        let next = memory.next.take();
        let goes_on = next.and_then(|next| rest.iter().position(|e| e.queued.job == next));
        let rest = &rest[goes_on.unwrap_or(0)..];
        // Room becomes only less from here on.
        let (mut nowhere, mut not_within) = (Failed::default(), Failed::default());
        for (number, entry) in rest.iter().enumerate() {
            // One is looked at in each round: it goes on.
            if number > 0 && self.is_spent() {
                self.plan.unfinished = true;
                memory.next = Some(entry.queued.job);
                return;
            }
            if self.is_limited(entry) {
                continue;
            }
            let request = &*entry.queued.request;
            let ends_before = self.now + entry.queued.limit <= shadow;
            let found = if entry.cores > space.cores() {
                None
            } else {
                let among = self.masks.of(&entry.queued, self.now);
                let hopeless = nowhere.covers(request, &among)
                    || (!ends_before && not_within.covers(request, &among));
                let within = (!ends_before).then_some(&extra);
                let found = match hopeless {
                    true => None,
                    false => self.fits(&space, within, &among, entry),
                };
                match (&found, hopeless, ends_before) {
                    (None, false, true) => nowhere.add(request, among),
                    (None, false, false) => not_within.add(request, among),
                    _ => {}
                }
                found
            };
            // With less time it may be done before that.
            let least = entry.queued.least.map(|least| self.now + least);
            let least = least.filter(|end| found.is_none() && !ends_before && *end <= shadow);
            let (found, until) = match least {
                Some(_) => {
                    let among = self.masks.of(&entry.queued, self.now);
                    (self.fits(&space, None, &among, entry), shadow)
                }
                None => (found, self.now + entry.queued.limit),
            };
            let ends_before = ends_before || least.is_some();
            let Some(allocation) = found else {
                self.steps.set(self.steps.get() + 1);
                self.plan.verdicts.push((entry.queued.job, Verdict::Room));
                continue;
            };
            if self.is_too_much(&entry.queued, &allocation) {
                continue;
            }
            space.to_mut().take(&allocation);
            if !ends_before {
                extra.take(&allocation);
            }
            self.start_until(entry, allocation, until);
        }
    }

    /// Tells whether a quota does not allow a job to start, and says so of it.
    fn is_limited(&mut self, entry: &Entry) -> bool {
        let queued = &entry.queued;
        if queued.standing.quotas.is_empty() {
            return false;
        }
        self.steps.set(self.steps.get() + 1);
        let refused = self
            .purse
            .refuses(&queued.standing.quotas, &self.used(queued));
        if let Some(quota) = refused {
            self.plan.verdicts.push((queued.job, Verdict::Limit(quota)));
        }
        refused.is_some()
    }

    /// The same, where a job has whole nodes, which may be more than it asks for.
    fn is_too_much(&mut self, queued: &Queued, allocation: &Allocation) -> bool {
        let quotas = &queued.standing.quotas;
        let mut members = queued.request.members();
        if quotas.is_empty() || !members.any(|member| member.exclusive) {
            return false;
        }
        let used = Used::of(allocation, self.now, self.now + queued.limit);
        let refused = self.purse.refuses(quotas, &used);
        if let Some(quota) = refused {
            self.plan.verdicts.push((queued.job, Verdict::Limit(quota)));
        }
        refused.is_some()
    }

    /// What a job comes to that starts now, by what it asks for.
    fn used(&self, queued: &Queued) -> Used {
        Used::one(queued.request.total(), self.now, self.now + queued.limit)
    }

    /// Has others make room for the first that does not start, if it may; gives what is free
    /// beside it then.
    fn preempt(&mut self) -> Option<Space> {
        let queued = self.head.filter(|queued| queued.standing.rank > 0)?;
        let mut space = self.cluster.space().clone();
        for start in &self.plan.starts {
            space.take(&start.allocation);
        }
        let among = self.masks.of(queued, self.now);
        let placement = self.policy.placement;
        let (gone, beside) = preempt(self.cluster, space, &among, queued, placement)?;
        self.plan.preemptions = gone;
        Some(beside)
    }

    /// Takes out of what is free what starts and was not taken yet.
    fn take_started(&self, space: &mut Cow<'_, Space>, taken: &mut usize) {
        for start in &self.plan.starts[*taken..] {
            space.to_mut().take(&start.allocation);
        }
        *taken = self.plan.starts.len();
    }

    fn is_spent(&self) -> bool {
        self.steps.get() >= self.effort
    }

    fn start(&mut self, entry: &Entry, allocation: Allocation) {
        self.start_until(entry, allocation, self.now + entry.queued.limit);
    }

    fn start_until(&mut self, entry: &Entry, allocation: Allocation, until: Time) {
        let quotas = &entry.queued.standing.quotas;
        if !quotas.is_empty() {
            let used = Used::of(&allocation, self.now, until);
            self.purse.start(quotas, &used);
        }
        self.plan.starts.push(Start {
            job: entry.queued.job,
            allocation,
            until,
        });
    }

    fn fits(
        &self,
        space: &Space,
        within: Option<&Space>,
        among: &Among,
        entry: &Entry,
    ) -> Option<Allocation> {
        self.steps.set(self.steps.get() + 1);
        let cores = space.cores().min(within.map_or(u64::MAX, Space::cores));
        if entry.cores > cores {
            return None;
        }
        let room = Now {
            space,
            within,
            steps: &self.steps,
        };
        let request = &entry.queued.request;
        place(self.cluster, &room, among, request, self.policy.placement)
    }

    /// Finds when the blocked job can start at the latest, and what is free then
    /// beside it; keeps that for it. `None` when it never can.
    fn shadow(&mut self, space: &Space, blocked: &Entry) -> Option<(Time, Space)> {
        let mut future = space.clone();
        let starts = std::mem::take(&mut self.plan.starts);
        let mut started: Vec<(Time, &Allocation)> = starts
            .iter()
            .map(|start| (start.until, &start.allocation))
            .collect();
        started.sort_by_key(|(until, _)| *until);
        // Nodes that cease to be kept are as good as given back.
        let nothing = Allocation::new();
        let windows = self.cluster.windows().values();
        let moments = windows.flat_map(|window| [window.from, window.until]);
        let mut moments: Vec<(Time, &Allocation)> = moments
            .filter(|at| *at > self.now)
            .map(|at| (at, &nothing))
            .collect();
        moments.sort_by_key(|(at, _)| *at);
        let ends = merged(self.cluster.ends(), started.into_iter());
        let mut ends = merged(ends, moments.into_iter()).peekable();
        // At whatever time.
        let request = &blocked.queued.request;
        let members = request.members();
        let among: Among = members
            .map(|member| Arc::clone(self.cluster.shared_set(member.among)))
            .collect();
        let mut tally = Tally::new(self.cluster, &future, request, &among);
        let mut found = None;
        while let Some((until, allocation)) = ends.next() {
            self.steps.set(self.steps.get() + 1);
            tally.release(&mut future, allocation);
            if !tally.might() || ends.peek().is_some_and(|(next, _)| *next == until) {
                continue;
            }
            // One that is over its time ends at any moment.
            let at = until.max(Time(self.now.0 + 1));
            let among = self.masks.of(&blocked.queued, at);
            if let Some(allocation) = self.fits(&future, None, &among, blocked) {
                future.take(&allocation);
                self.wake_at(at);
                self.plan.reservations.push(Reservation {
                    job: blocked.queued.job,
                    at,
                    allocation,
                });
                found = Some(until);
                break;
            }
        }
        drop(ends);
        self.plan.starts = starts;
        found.map(|until| (until, future))
    }

    fn conservative(&mut self, memory: &mut Memory) {
        let kept = std::mem::take(&mut memory.kept);
        let next = memory.next.take().zip(memory.from.take());
        let mut waiting = self.queue.in_order(self.cluster, self.now).peekable();
        if waiting.peek().is_none() {
            return;
        }
        let mut profile = Profile::new(self.cluster, self.now, self.queue);
        // What became free may let the others start earlier; else they stay where they are.
        let started = |job: JobNumber| self.cluster.running().contains_key(&job);
        let is_there = |kept: &Reservation| self.queue.get(kept.job).is_some() || started(kept.job);
        let freed = memory.freed != self.cluster.freed() || !kept.iter().all(is_there);
        let mut held = self.held(kept, &mut profile);
        memory.freed = self.cluster.freed();
        if freed {
            memory.never.clear();
        }
        let mut looked = false;
        for entry in waiting {
            let (queued, span) = (&entry.queued, span(&entry.queued));
            let job = queued.job;
            self.steps.set(self.steps.get() + profile.take_steps());
            let mine = held.remove(&job);
            if self.is_limited(entry) {
                if let Some((at, allocation)) = mine {
                    profile.give_up(at, span, &allocation);
                }
                continue;
            }
            // One is looked for in each round: it goes on.
            let is_spent = looked && self.is_spent();
            let found = match mine {
                Some((at, allocation)) if !freed || is_spent => Found::At(at, allocation),
                _ if memory.never.contains(&job) => Found::Never,
                _ if is_spent => Found::Spent(self.now),
                mine => {
                    looked = true;
                    if let Some((at, allocation)) = &mine {
                        profile.give_up(*at, span, allocation);
                    }
                    let from = next.filter(|(next, _)| *next == job && !freed);
                    let from = from.map(|(_, from)| from);
                    let effort = self.effort.saturating_sub(self.steps.get());
                    let placement = self.policy.placement;
                    let found = profile.earliest(queued, from, &mut self.masks, placement, effort);
                    let found = match (found, mine) {
                        (Found::Spent(_), Some((at, allocation))) => Found::At(at, allocation),
                        (found, _) => found,
                    };
                    if let Found::At(at, allocation) = &found {
                        profile.reserve(*at, span, allocation);
                    }
                    found
                }
            };
            self.steps.set(self.steps.get() + 1);
            match found {
                Found::At(at, allocation)
                    if at == self.now && self.is_too_much(queued, &allocation) =>
                {
                    profile.give_up(at, span, &allocation);
                    // It would be looked for in vain in the next round, too.
                    looked = false;
                }
                Found::At(at, allocation) if at == self.now => self.start(entry, allocation),
                Found::At(at, allocation) => self.keep(queued, at, allocation),
                Found::Never => {
                    memory.never.insert(job);
                    self.plan.verdicts.push((job, Verdict::Never));
                }
                Found::Spent(from) => {
                    self.plan.unfinished = true;
                    if memory.next.is_none() {
                        (memory.next, memory.from) = (Some(job), Some(from));
                    }
                }
            }
        }
        memory.kept = self.plan.reservations.clone();
    }

    /// Gives what was kept for jobs that still wait, where it is still there, and takes
    /// it in the profile.
    fn held(&mut self, kept: Vec<Reservation>, profile: &mut Profile<'_>) -> Held {
        let mut held = Held::new();
        for Reservation {
            job,
            at,
            allocation,
        } in kept
        {
            let Some(queued) = self.queue.get(job) else {
                continue;
            };
            let (at, span) = (at.max(self.now), span(queued));
            let among = self.masks.of(queued, at);
            let may = |parts: &Parts| {
                let its = among.get(parts.member as usize);
                let all = |nodes: Range<u32>| its.is_some_and(|its| its.contains_all(nodes));
                parts.nodes().is_none_or(all)
            };
            if allocation.parts().iter().all(may) && profile.has(at, span, &allocation) {
                profile.reserve(at, span, &allocation);
                held.insert(job, (at, allocation));
            }
        }
        held
    }

    /// Has another round be made when a reservation begins. One that begins at any moment,
    /// as others are over their time, does so when these end.
    fn wake_at(&mut self, at: Time) {
        if at.0 > self.now.0 + 1 {
            let before = self.plan.wake_at.unwrap_or(at);
            self.plan.wake_at = Some(before.min(at));
        }
    }

    fn keep(&mut self, queued: &'a Queued, at: Time, allocation: Allocation) {
        let job = queued.job;
        self.wake_at(at);
        self.head = self.head.or(Some(queued));
        self.plan.verdicts.push((job, Verdict::Room));
        self.plan.reservations.push(Reservation {
            job,
            at,
            allocation,
        });
    }
}

/// What is kept for jobs, and from when on.
type Held = BTreeMap<JobNumber, (Time, Allocation)>;

/// Gives how long a job is there: something of no length is for a moment.
pub(crate) fn span(queued: &Queued) -> Duration {
    queued.limit.max(Duration::from_micros(1))
}

/// Merges two lists that are in order of time.
fn merged<'a>(
    a: impl Iterator<Item = (Time, &'a Allocation)>,
    b: impl Iterator<Item = (Time, &'a Allocation)>,
) -> impl Iterator<Item = (Time, &'a Allocation)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if y.0 < x.0 => b.next(),
        (None, _) => b.next(),
        _ => a.next(),
    })
}

impl Plan {
    /// Tells why a job of the queue does not start that does not; `None` where it was not
    /// looked at.
    pub fn verdict(&self, job: JobNumber) -> Option<Verdict> {
        let at = self
            .verdicts
            .binary_search_by_key(&job, |(number, _)| *number);
        let its = at.ok().map(|at| self.verdicts[at].1);
        its.or(self.barrier.map(Verdict::Behind))
    }
}
