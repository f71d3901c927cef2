use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use hyperion_sched::{Request, Time};

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

/// Jobs that do not join the queue when they come, but when something has happened.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// For what each waits, come or not.
    after: BTreeMap<u64, After>,
    /// Who waits for whom.
    waiters: BTreeMap<u64, Vec<u64>>,
    /// Those that somebody waits for, once they have started.
    ran: BTreeMap<u64, Ran>,
    /// Those that have come.
    jobs: BTreeMap<u64, (Job, Arc<Request>)>,
    /// When they join the queue, where that is known. One that joins earlier than was
    /// known is there twice.
    due: BinaryHeap<Reverse<(Time, u64)>>,
}

impl Held {
    /// Holds jobs by their numbers, each until something has happened to some before it.
    pub(super) fn new(after: BTreeMap<u64, After>) -> Self {
        let mut waiters: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (waiter, after) in &after {
            after.jobs(&mut |number| waiters.entry(number).or_default().push(*waiter));
        }
        Self {
            after,
            waiters,
            ..Self::default()
        }
    }

    /// Holds a job that has come; gives it back where it has nothing to wait for.
    pub(super) fn hold(
        &mut self,
        (number, job): (u64, Job),
        request: Arc<Request>,
    ) -> Option<Arc<Request>> {
        let Some(after) = self.after.get(&number) else {
            return Some(request);
        };
        let since = after.since(job.submit, &self.ran);
        if since.is_some_and(|since| since <= job.submit) {
            return Some(request);
        }
        self.jobs.insert(number, (job, request));
        self.due.extend(since.map(|since| Reverse((since, number))));
        None
    }

    /// Hears of a job that starts.
    pub(super) fn started(&mut self, ran: &Ran) {
        let Some(waiters) = self.waiters.remove(&ran.number) else {
            return;
        };
        self.ran.insert(ran.number, *ran);
        for number in waiters {
            let its = self.jobs.get(&number).zip(self.after.get(&number));
            let since = its.and_then(|((job, _), after)| after.since(job.submit, &self.ran));
            self.due.extend(since.map(|since| Reverse((since, number))));
        }
    }

    /// Tells when the next one joins the queue.
    pub(super) fn next(&mut self) -> Option<Time> {
        while let Some(Reverse((at, number))) = self.due.peek() {
            if self.jobs.contains_key(number) {
                return Some(*at);
            }
            self.due.pop();
        }
        None
    }

    /// Gives one that joins the queue by now.
    pub(super) fn take(&mut self, now: Time) -> Option<(u64, Job, Arc<Request>)> {
        self.next().filter(|at| *at <= now)?;
        let Reverse((_, number)) = self.due.pop()?;
        let (job, request) = self.jobs.remove(&number)?;
        Some((number, job, request))
    }
}
