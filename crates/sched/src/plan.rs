use std::borrow::Cow;
use std::time::Duration;

use crate::amounts::CORES;
use crate::cluster::{Allocation, Cluster, Space};
use crate::order::Order;
use crate::place::{Failed, Placement, Tally, place};
use crate::profile::Profile;
use crate::queue::{Entry, JobNumber, Key, Queue};
use crate::request::Request;
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
    pub starts: Vec<Start>,
    /// What is kept for those that wait.
    pub reservations: Vec<Reservation>,
    /// When a reservation begins, if nothing happens before.
    pub wake_at: Option<Time>,
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
    /// Where it stands in the queue.
    pub(crate) place: usize,
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

/// Says which of the jobs that wait start now, and where.
///
/// Nothing is oversubscribed. With [`Backfill::Easy`] the first job that cannot
/// start is not delayed by one that comes after it, with
/// [`Backfill::Conservative`] none is, as long as none runs over its time. A job
/// that an empty cluster has no room for holds up what comes after it, except with
/// [`Backfill::Conservative`]: whoever submits it is to be told before.
pub fn plan(policy: Policy, cluster: &Cluster, queue: &Queue, now: Time) -> Plan {
    match policy.backfill {
        Backfill::Conservative => conservative(policy, cluster, queue, now),
        Backfill::None | Backfill::Easy { .. } => easy(policy, cluster, queue, now),
    }
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
    let first = *in_order(queue, cluster, now).first()?;
    let mut plan = Plan::default();
    let entry = &queue.entries()[first];
    shadow(policy, cluster, cluster.space(), &mut plan, entry, now)?;
    plan.reservations.pop()
}

/// Gives the places of all entries by the queue's order.
fn in_order(queue: &Queue, cluster: &Cluster, now: Time) -> Vec<usize> {
    let entries = queue.entries();
    let mut places: Vec<usize> = (0..entries.len()).collect();
    if queue.order().changes() {
        sort(&mut places, queue, queue.order(), cluster, now);
    }
    places
}

fn sort(places: &mut [usize], queue: &Queue, order: Order, cluster: &Cluster, now: Time) {
    let view = queue.view(cluster.cores(), now);
    let entries = queue.entries();
    places.sort_by_cached_key(|&place| Key::of(&entries[place].queued, order, &view));
}

fn easy(policy: Policy, cluster: &Cluster, queue: &Queue, now: Time) -> Plan {
    let mut plan = Plan::default();
    let entries = queue.entries();
    let mut space = Cow::Borrowed(cluster.space());
    let sorted = queue
        .order()
        .changes()
        .then(|| in_order(queue, cluster, now));
    let place_of = |number: usize| sorted.as_ref().map_or(number, |places| places[number]);
    let mut open = Open::new(&space);
    let mut head = 0;
    while head < entries.len() {
        let place_in_queue = place_of(head);
        let entry = &entries[place_in_queue];
        let nodes = open.nodes(&entry.queued.request);
        let Some(allocation) = fits(policy, cluster, nodes, &space, None, entry) else {
            break;
        };
        space.to_mut().take(&allocation);
        open.took(&space, &allocation);
        plan.start(place_in_queue, entry, allocation, now);
        head += 1;
    }
    let Backfill::Easy { scan } = policy.backfill else {
        return plan;
    };
    if head + 1 >= entries.len() || space.cores() == 0 {
        return plan;
    }
    let blocked = &entries[place_of(head)];
    let Some((shadow, mut extra)) = shadow(policy, cluster, &space, &mut plan, blocked, now) else {
        return plan;
    };
    let fitting = |&place: &usize| entries[place].cores <= space.cores();
    let mut rest: Vec<usize> = (head + 1..entries.len())
        .map(place_of)
        .filter(fitting)
        .collect();
    if scan != queue.order() {
        sort(&mut rest, queue, scan, cluster, now);
    }
    // Room becomes only less from here on.
    let (mut nowhere, mut not_within) = (Failed::default(), Failed::default());
    for place_in_queue in rest {
        let entry = &entries[place_in_queue];
        let request = &entry.queued.request;
        let ends_before = now + entry.queued.limit <= shadow;
        if nowhere.covers(request) || (!ends_before && not_within.covers(request)) {
            continue;
        }
        let within = (!ends_before).then_some(&extra);
        let Some(allocation) = fits(policy, cluster, open.nodes(request), &space, within, entry)
        else {
            match ends_before {
                true => nowhere.add(request),
                false => not_within.add(request),
            }
            continue;
        };
        space.to_mut().take(&allocation);
        open.took(&space, &allocation);
        if !ends_before {
            extra.take(&allocation);
        }
        plan.start(place_in_queue, entry, allocation, now);
        if space.cores() == 0 {
            break;
        }
    }
    plan
}

fn fits(
    policy: Policy,
    cluster: &Cluster,
    open: &[usize],
    space: &Space,
    within: Option<&Space>,
    entry: &Entry,
) -> Option<Allocation> {
    let cores = space.cores().min(within.map_or(u64::MAX, Space::cores));
    if entry.cores > cores {
        return None;
    }
    let request = &entry.queued.request;
    let nodes = cluster.nodes();
    place(nodes, open, space, within, request, policy.placement)
}

/// The nodes on which something may have room.
struct Open {
    all: Vec<usize>,
    /// Those with a free core, and some of those that had one.
    nodes: Vec<usize>,
    /// How many lost their last since they were looked at.
    full: usize,
}

impl Open {
    fn new(space: &Space) -> Self {
        let all: Vec<usize> = (0..space.free().len()).collect();
        let open = all.iter().copied().filter(|&at| space.is_open(at));
        Self {
            nodes: open.collect(),
            all,
            full: 0,
        }
    }

    /// Gives those on which a request may have room.
    fn nodes(&self, request: &Request) -> &[usize] {
        let mut chunks = request.chunks.iter();
        match chunks.all(|chunk| chunk.each.of(CORES) > 0) {
            true => &self.nodes,
            false => &self.all,
        }
    }

    fn took(&mut self, space: &Space, allocation: &Allocation) {
        let parts = allocation.iter().map(|part| part.node.0 as usize);
        self.full += parts.filter(|&at| !space.is_open(at)).count();
        // Not each time: that would take longer than to pass them by.
        if self.full > 64 {
            self.nodes.retain(|&at| space.is_open(at));
            self.full = 0;
        }
    }
}

/// Finds when the blocked job can start at the latest, and what is free then
/// beside it; keeps that for it. `None` when it never can.
fn shadow(
    policy: Policy,
    cluster: &Cluster,
    space: &Space,
    plan: &mut Plan,
    blocked: &Entry,
    now: Time,
) -> Option<(Time, Space)> {
    let mut future = space.clone();
    let mut started: Vec<(Time, &Allocation)> = plan
        .starts
        .iter()
        .map(|start| (start.until, &start.allocation))
        .collect();
    started.sort_by_key(|(until, _)| *until);
    let mut ends = merged(cluster.ends(), started.into_iter()).peekable();
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    let mut tally = Tally::new(cluster.nodes(), &future, &blocked.queued.request);
    while let Some((until, allocation)) = ends.next() {
        tally.release(&mut future, allocation);
        if !tally.might() || ends.peek().is_some_and(|(next, _)| *next == until) {
            continue;
        }
        if let Some(allocation) = fits(policy, cluster, &all, &future, None, blocked) {
            future.take(&allocation);
            // One that is over its time ends at any moment.
            let at = until.max(Time(now.0 + 1));
            plan.wake_at = Some(at);
            plan.reservations.push(Reservation {
                job: blocked.queued.job,
                at,
                allocation,
            });
            return Some((until, future));
        }
    }
    None
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

fn conservative(policy: Policy, cluster: &Cluster, queue: &Queue, now: Time) -> Plan {
    let mut plan = Plan::default();
    let entries = queue.entries();
    if entries.is_empty() {
        return plan;
    }
    let mut profile = Profile::new(cluster, now);
    for place_in_queue in in_order(queue, cluster, now) {
        let entry = &entries[place_in_queue];
        // Something of no length is there for a moment.
        let span = entry.queued.limit.max(Duration::from_micros(1));
        let request = &entry.queued.request;
        let found = profile.earliest(request, entry.cores, span, policy.placement);
        let Some((at, allocation)) = found else {
            continue;
        };
        profile.reserve(at, span, &allocation);
        if at == now {
            plan.start(place_in_queue, entry, allocation, now);
            continue;
        }
        plan.wake_at = Some(plan.wake_at.map_or(at, |before| before.min(at)));
        plan.reservations.push(Reservation {
            job: entry.queued.job,
            at,
            allocation,
        });
    }
    plan
}

impl Plan {
    fn start(&mut self, place: usize, entry: &Entry, allocation: Allocation, now: Time) {
        self.starts.push(Start {
            job: entry.queued.job,
            allocation,
            until: now + entry.queued.limit,
            place,
        });
    }
}
