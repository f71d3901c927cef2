use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use hyperion_sched::Time;

use super::run::Asked;
use super::{Job, Ran};

/// What must have happened before a job can start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// All of these.
    All(Vec<After>),
    /// One of these.
    Any(Vec<After>),
    /// It was submitted so long ago.
    Submitted(Duration),
    /// Another job, by its number, started so long ago.
    Started(u64, Duration),
    /// Another job ended.
    Ended(u64),
}

impl After {
    /// Says it of the jobs that are there, by what `there` makes of their numbers; `None`
    /// where nothing is left to wait for.
    pub(super) fn among(&self, there: &impl Fn(u64) -> Option<u64>) -> Option<Self> {
        let some = |parts: &[Self]| {
            let parts = parts.iter().filter_map(|part| part.among(there));
            Some(parts.collect::<Vec<_>>()).filter(|parts| !parts.is_empty())
        };
        Some(match self {
            Self::All(parts) => Self::All(some(parts)?),
            Self::Any(parts) => Self::Any(some(parts)?),
            Self::Submitted(span) => Self::Submitted(*span),
            Self::Started(number, span) => Self::Started(there(*number)?, *span),
            Self::Ended(number) => Self::Ended(there(*number)?),
        })
    }

    /// Shows the jobs that it speaks of.
    fn jobs(&self, see: &mut dyn FnMut(u64)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.jobs(see)),
            Self::Submitted(_) => {}
            Self::Started(number, _) | Self::Ended(number) => see(*number),
        }
    }

    /// Tells from when on it holds for a job, where that is known already: when a job ends
    /// is known from its start on.
    fn since(&self, submitted: Time, ran: &BTreeMap<u64, Ran>) -> Option<Time> {
        let since = |part: &Self| part.since(submitted, ran);
        match self {
            Self::All(parts) => {
                let mut parts = parts.iter();
                parts.try_fold(submitted, |last, part| Some(last.max(since(part)?)))
            }
            Self::Any(parts) => parts.iter().filter_map(since).min(),
            Self::Submitted(span) => Some(submitted + *span),
            Self::Started(number, span) => ran.get(number).map(|its| its.start + *span),
            Self::Ended(number) => ran.get(number).map(Ran::end),
        }
    }
}

/// From when on, and until when, a job is kept from starting, after its submission.
pub(super) type Stops = Vec<(Duration, Duration)>;

/// Jobs that do not join the queue when they come, but when something has happened, or that
/// leave it for a while.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// For what each waits, come or not.
    after: BTreeMap<u64, After>,
    /// When somebody keeps it from starting, in that order.
    stops: BTreeMap<u64, Stops>,
    /// Who waits for whom.
    waiters: BTreeMap<u64, Vec<u64>>,
    /// Those that somebody waits for, once they have started.
    ran: BTreeMap<u64, Ran>,
    /// Those that have come.
    jobs: BTreeMap<u64, (Job, Asked)>,
    /// When they join the queue, where that is known. One that joins earlier than was
    /// known is there twice.
    due: BinaryHeap<Reverse<(Time, u64)>>,
    /// When those that have joined it are to leave it, started or not.
    leave: BinaryHeap<Reverse<(Time, u64)>>,
}

impl Held {
    /// Holds jobs by their numbers, each until something has happened to some before it, and
    /// while somebody keeps it from starting.
    pub(super) fn new(after: BTreeMap<u64, After>, stops: BTreeMap<u64, Stops>) -> Self {
        let mut waiters: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (waiter, after) in &after {
            after.jobs(&mut |number| waiters.entry(number).or_default().push(*waiter));
        }
        Self {
            after,
            stops,
            waiters,
            ..Self::default()
        }
    }

    /// Holds a job that has come; gives it back where it joins the queue at once.
    pub(super) fn hold(&mut self, (number, job): (u64, Job), asked: Asked) -> Option<Asked> {
        if !self.after.contains_key(&number) && !self.stops.contains_key(&number) {
            return Some(asked);
        }
        let since = self.since(number, &job);
        if since.is_some_and(|since| since <= job.submit) {
            self.joins(number, &job, job.submit);
            return Some(asked);
        }
        self.jobs.insert(number, (job, asked));
        self.due.extend(since.map(|since| Reverse((since, number))));
        None
    }

    /// Tells from when on a job may be in the queue, where that is known already.
    fn since(&self, number: u64, job: &Job) -> Option<Time> {
        let after = self.after.get(&number);
        let since = after.map_or(Some(job.submit), |after| after.since(job.submit, &self.ran))?;
        Some(self.free(number, job, since))
    }

    /// Gives the first moment from one on at which nobody keeps a job from starting.
    fn free(&self, number: u64, job: &Job, from: Time) -> Time {
        let stops = self.stops.get(&number).into_iter().flatten();
        stops.fold(from, |from, (begin, end)| {
            let stopped = job.submit + *begin <= from && from < job.submit + *end;
            if stopped { job.submit + *end } else { from }
        })
    }

    /// Hears of a job that joins the queue.
    fn joins(&mut self, number: u64, job: &Job, now: Time) {
        let stops = self.stops.get(&number).into_iter().flatten();
        let mut begins = stops.map(|(begin, _)| job.submit + *begin);
        let next = begins.find(|at| *at > now);
        self.leave.extend(next.map(|at| Reverse((at, number))));
    }

    /// Hears of a job that starts.
    pub(super) fn started(&mut self, ran: &Ran) {
        let Some(waiters) = self.waiters.remove(&ran.number) else {
            return;
        };
        self.ran.insert(ran.number, *ran);
        for number in waiters {
            // One that was in the queue waits for nobody any more.
            let its = self.jobs.get(&number);
            let its = its.filter(|_| self.after.contains_key(&number));
            let since = its.and_then(|(job, _)| self.since(number, job));
            self.due.extend(since.map(|since| Reverse((since, number))));
        }
    }

    /// Tells when the next one joins the queue or leaves it.
    pub(super) fn next(&mut self) -> Option<Time> {
        if self.due.is_empty() && self.leave.is_empty() {
            return None;
        }
        let leaves = self.leave.peek().map(|Reverse((at, _))| *at);
        let joins = self.next_due();
        leaves.into_iter().chain(joins).min()
    }

    fn next_due(&mut self) -> Option<Time> {
        while let Some(Reverse((at, number))) = self.due.peek() {
            if self.jobs.contains_key(number) {
                return Some(*at);
            }
            self.due.pop();
        }
        None
    }

    /// Gives one that joins the queue by now.
    pub(super) fn take(&mut self, now: Time) -> Option<(u64, Job, Asked)> {
        self.next_due().filter(|at| *at <= now)?;
        let Reverse((_, number)) = self.due.pop()?;
        let (job, asked) = self.jobs.remove(&number)?;
        self.joins(number, &job, now);
        Some((number, job, asked))
    }

    /// Gives one that is to leave the queue by now, if it has not started.
    pub(super) fn leaves(&mut self, now: Time) -> Option<u64> {
        let Reverse((at, number)) = *self.leave.peek()?;
        (at <= now).then(|| {
            self.leave.pop();
            number
        })
    }

    /// Holds one that has left the queue.
    pub(super) fn take_back(&mut self, number: u64, job: Job, asked: Asked, now: Time) {
        let until = self.free(number, &job, now);
        self.after.remove(&number);
        self.jobs.insert(number, (job, asked));
        self.due.push(Reverse((until, number)));
    }
}
