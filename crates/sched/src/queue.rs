use std::cmp::Reverse;
use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::fairest::fairest;
use crate::order::{Order, Priority, Standing, View};
use crate::plan::Plan;
use crate::request::Request;
use crate::time::Time;

/// The number of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobNumber(pub u64);

/// A job that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Its number.
    pub job: JobNumber,
    /// When it was submitted.
    pub submitted: Time,
    /// How long it may run.
    pub limit: Duration,
    /// It makes do with so little, where it starts earlier for that.
    pub least: Option<Duration>,
    /// What it asks.
    pub request: Arc<Request>,
    /// What counts for it beside that.
    pub standing: Standing,
}

/// What waits, in an order.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    order: Order,
    due: Vec<f64>,
    /// In boxes: what is moved about while the list grows is small.
    entries: BTreeMap<Key, Box<Entry>>,
    keys: BTreeMap<JobNumber, Key>,
}

/// A job that waits, with what is asked of it at each pass.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// All cores that it asks for, in thousandths.
    pub(crate) cores: u64,
    pub(crate) queued: Queued,
}

/// A job's place in an order: by rank, the highest first, score, then submission, then
/// number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Reverse<u16>, i64, Time, JobNumber);

impl Key {
    pub(crate) fn of(queued: &Queued, order: Order, view: &View<'_>) -> Self {
        // As whole numbers, scores are in the order of `f64::total_cmp`, and faster compared.
        let score = order.score(queued, view).to_bits().cast_signed();
        let score = score ^ (score >> 63).cast_unsigned().wrapping_shr(1).cast_signed();
        let rank = Reverse(queued.standing.rank);
        Self(rank, score, queued.submitted, queued.job)
    }
}

impl Queue {
    /// Makes an empty queue with an order.
    pub fn new(order: Order) -> Self {
        Self {
            order,
            ..Self::default()
        }
    }

    /// Says what is due to each user, as [`Shares::factors`](crate::Shares::factors)
    /// gives it.
    pub fn set_due(&mut self, due: Vec<f64>) {
        self.due = due;
    }

    /// Tells how many jobs wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives what waits; in the order of the queue where that does not change
    /// with time, else as it was submitted.
    pub fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.entries.values().map(|entry| &entry.queued)
    }

    /// Gives a job that waits.
    pub fn get(&self, job: JobNumber) -> Option<&Queued> {
        let key = self.keys.get(&job)?;
        self.entries.get(key).map(|entry| &entry.queued)
    }

    /// Lets a job wait; one of the same number gives way to it.
    pub fn insert(&mut self, queued: Queued) {
        // What changes with time is put in order when it is asked for.
        let order = match self.order.changes() {
            true => Order::Fifo,
            false => self.order,
        };
        let view = View {
            now: queued.submitted,
            cores: 0,
            due: &[],
        };
        let key = Key::of(&queued, order, &view);
        let entry = Entry {
            cores: queued.request.cores(),
            queued,
        };
        if let Some(before) = self.keys.insert(entry.queued.job, key) {
            self.entries.remove(&before);
        }
        self.entries.insert(key, Box::new(entry));
    }

    /// Takes a job out, and gives it.
    pub fn remove(&mut self, job: JobNumber) -> Option<Queued> {
        let key = self.keys.remove(&job)?;
        self.entries.remove(&key).map(|entry| entry.queued)
    }

    /// Takes out what a plan for this queue starts, and gives it in the plan's order.
    pub fn remove_started(&mut self, plan: &Plan) -> Vec<Queued> {
        let starts = plan.starts.iter();
        starts.filter_map(|start| self.remove(start.job)).collect()
    }

    /// Gives the priority of a job that waits; `None` where the order knows none.
    pub fn priority(&self, job: JobNumber, cluster: &Cluster, now: Time) -> Option<Priority> {
        let Order::Multifactor(weights) = self.order else {
            return None;
        };
        let queued = self.get(job)?;
        Some(weights.priority(queued, &self.view(cluster.cores(), now)))
    }

    /// Gives what its order depends on, on a cluster with so many cores.
    pub(crate) fn view(&self, cores: u64, now: Time) -> View<'_> {
        View {
            now,
            cores,
            due: &self.due,
        }
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Gives what waits, by the order of the queue.
    pub(crate) fn in_order<'a>(&'a self, cluster: &'a Cluster, now: Time) -> InOrder<'a> {
        let kept = self.entries.values();
        if self.order == Order::Fairest {
            return InOrder::Fairest(Box::new(fairest(kept.map(Box::as_ref), cluster)));
        }
        if !self.order.changes() {
            return InOrder::Kept(kept);
        }
        let mut all: Vec<&Entry> = kept.map(Box::as_ref).collect();
        sort(&mut all, self.order, &self.view(cluster.cores(), now));
        InOrder::Sorted(all.into_iter())
    }
}

/// What waits, in order.
pub(crate) enum InOrder<'a> {
    /// As it is kept: nothing is to be made for whoever looks at the first alone.
    Kept(btree_map::Values<'a, Key, Box<Entry>>),
    Sorted(std::vec::IntoIter<&'a Entry>),
    Fairest(Box<dyn Iterator<Item = &'a Entry> + 'a>),
}

impl<'a> Iterator for InOrder<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        match self {
            Self::Kept(kept) => kept.next().map(Box::as_ref),
            Self::Sorted(sorted) => sorted.next(),
            Self::Fairest(turns) => turns.next(),
        }
    }
}

/// Puts jobs in an order.
pub(crate) fn sort(entries: &mut [&Entry], order: Order, view: &View<'_>) {
    entries.sort_by_cached_key(|entry| Key::of(&entry.queued, order, view));
}
