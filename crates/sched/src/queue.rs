use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::Duration;

use crate::order::Order;
use crate::plan::Plan;
use crate::request::Request;
use crate::time::Time;

/// The number of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobNumber(pub u64);

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its number.
    pub job: JobNumber,
    /// When it was submitted.
    pub submitted: Time,
    /// How long it may run.
    pub limit: Duration,
    /// What it asks.
    pub request: Request,
}

/// What waits, in an order.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    order: Order,
    entries: VecDeque<Entry>,
}

/// A job that waits, with what is asked of it at each pass.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) score: f64,
    /// All cores that it asks for, in thousandths.
    pub(crate) cores: u64,
    pub(crate) queued: Queued,
}

impl Entry {
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.queued, &other.queued);
        let by_score = self.score.total_cmp(&other.score);
        by_score
            .then_with(|| a.submitted.cmp(&b.submitted))
            .then_with(|| a.job.cmp(&b.job))
    }
}

impl Queue {
    /// Makes an empty queue with an order.
    pub fn new(order: Order) -> Self {
        Self {
            order,
            entries: VecDeque::new(),
        }
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
        self.entries.iter().map(|entry| &entry.queued)
    }

    /// Lets a job wait.
    pub fn insert(&mut self, queued: Queued) {
        let score = match self.order.changes() {
            true => 0.0,
            false => self.order.score(&queued, queued.submitted),
        };
        let entry = Entry {
            score,
            cores: queued.request.cores(),
            queued,
        };
        // Most come last.
        let is_last = self
            .entries
            .back()
            .is_none_or(|last| last.compare(&entry).is_lt());
        let at = match is_last {
            true => self.entries.len(),
            false => self
                .entries
                .partition_point(|before| before.compare(&entry).is_lt()),
        };
        self.entries.insert(at, entry);
    }

    /// Takes a job out, and gives it.
    pub fn remove(&mut self, job: JobNumber) -> Option<Queued> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.queued.job == job)?;
        self.entries.remove(at).map(|entry| entry.queued)
    }

    /// Takes out what a plan for this queue starts, and gives it in the plan's order.
    pub fn remove_started(&mut self, plan: &Plan) -> Vec<Queued> {
        let mut places: Vec<(usize, usize)> = plan
            .starts
            .iter()
            .enumerate()
            .map(|(number, start)| (start.place, number))
            .collect();
        // From the end, so that the places before stay what they are.
        places.sort_unstable_by(|a, b| b.cmp(a));
        let mut started: Vec<(usize, Queued)> = places
            .into_iter()
            .filter_map(|(place, number)| {
                let entry = self.entries.remove(place)?;
                Some((number, entry.queued))
            })
            .collect();
        started.sort_unstable_by_key(|(number, _)| *number);
        started.into_iter().map(|(_, queued)| queued).collect()
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    pub(crate) fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }
}
