//! Jobs that have ended, and when they are kept in mind no longer.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyperion_model::Shared;
use hyperion_model::submission::{Condition, JobWord, Submission};
use hyperion_sched::Time;
use serde::{Deserialize, Serialize};

use crate::condition::{matches, words};
use crate::fair::Used;
use crate::job::{Hold, Job, Task};
use crate::ledger::Ledger;
use crate::record::Submitted;

/// So many tasks of jobs that have ended are kept in mind; of which jobs they are matters
/// less than how much room they take.
const KEPT: u64 = 5_000;
/// So many more may be, before some leave: they leave in crowds.
const SLACK: u64 = 500;

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// What was asked.
    pub asked: Submitted,
    /// When.
    pub submitted: Time,
    /// Its tasks, by index.
    pub tasks: BTreeMap<u32, Task>,
    /// When somebody kept it from starting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
}

impl Past {
    /// Tells when its last task ended.
    pub fn ended(&self) -> Time {
        last_end(&self.tasks).unwrap_or(self.submitted)
    }
}

fn last_end(tasks: &BTreeMap<u32, Task>) -> Option<Time> {
    tasks.values().filter_map(|task| task.ended).max()
}

impl From<&Job> for Past {
    fn from(job: &Job) -> Self {
        Self {
            asked: Submitted::clone(&job.asked),
            submitted: job.submitted,
            tasks: job.tasks.clone(),
            holds: job.holds.clone(),
        }
    }
}

impl From<Past> for Job {
    fn from(past: Past) -> Self {
        let request = past.asked.request.clone();
        let of_states = |wanted: fn(&Task) -> bool| {
            let these = past.tasks.values().filter(|task| wanted(task));
            these.count() as u32
        };
        Self {
            held: None,
            holds: past.holds,
            due: true,
            looked_at: None,
            waiting: Default::default(),
            queued: Default::default(),
            counted: false,
            active: 0,
            ended: of_states(|_| true),
            succeeded: of_states(|task| task.state == crate::State::Completed),
            submitted: past.submitted,
            request,
            asked: Arc::new(past.asked),
            tasks: past.tasks,
        }
    }
}

/// What is left of records that are not needed any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// When the first record of all was written.
    pub began: Time,
    /// The number that the next job gets.
    pub next: u64,
    /// What users have used, as it counts when this is written.
    pub used: Vec<Used>,
}

/// Jobs that a submission waits for and that are not kept in mind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// By number.
    pub numbers: Vec<u64>,
    /// By name, in which `*` stands for anything.
    pub names: Vec<String>,
}

impl Ledger {
    /// Gives the jobs that have ended and may leave, the first to end first: there are many,
    /// and nobody waits for what became of these.
    pub fn leaving(&self) -> Vec<u64> {
        let mut left = self.over_tasks;
        if left <= KEPT + SLACK {
            return Vec::new();
        }
        let mut leaving = Vec::new();
        for &(_, number) in &self.over {
            if left <= KEPT {
                break;
            }
            let Some(job) = self.jobs.get(&number) else {
                continue;
            };
            if !self.is_waited_for(job) {
                left -= u64::from(job.ended);
                leaving.push(number);
            }
        }
        leaving
    }

    /// Tells whether a job still waits for one, by its number or its name.
    pub(crate) fn is_waited_for(&self, job: &Job) -> bool {
        let name = job.asked.submission.name.as_deref().unwrap_or_default();
        let by_name = |waiter: &u64| {
            let its = self.jobs.get(waiter).map(|its| &its.asked);
            let its = its.filter(|its| its.user == job.asked.user && its.job > job.asked.job);
            let condition = its.and_then(|its| its.submission.after.as_ref());
            let words = condition.map(words).unwrap_or_default();
            words
                .iter()
                .any(|word| matches!(word, JobWord::Name(pattern) if matches(pattern, name)))
        };
        self.waiters.contains_key(&job.asked.job) || self.watchers.iter().any(by_name)
    }

    /// Tells which jobs a submission speaks of that may have left.
    pub fn missing(&self, submission: &Submission) -> Missing {
        let mut missing = Missing::default();
        let condition: Option<&Condition> = submission.after.as_ref();
        for word in condition.map(words).unwrap_or_default() {
            match word {
                JobWord::Number(number) if self.jobs.contains_key(number) => {}
                JobWord::Number(number) => missing.numbers.push(*number),
                JobWord::Name(name) => missing.names.push(name.clone()),
            }
        }
        missing
    }

    /// Tells what must be written behind the records of the jobs that are in mind, so that
    /// those of all others are not needed any more.
    pub fn carried(&self, now: Time) -> Carried {
        Carried {
            began: self.began.unwrap_or_default(),
            next: self.next,
            used: self.fair.used(now),
        }
    }

    /// Tells when the first record of all was written.
    pub fn began(&self) -> Option<Time> {
        self.began
    }

    /// Counts a job among those that are over.
    pub(crate) fn is_over_now(&mut self, number: u64, at: Time) {
        if let Some(job) = self.jobs.get(&number) {
            self.over_tasks += u64::from(job.ended);
            self.over.insert((at, number));
        }
    }

    pub(crate) fn carried_over(&mut self, carried: &Carried, at: Time) {
        self.began = Some(carried.began);
        self.next = self.next.max(carried.next);
        self.fair.settle(&carried.used, &self.rules, at);
    }

    pub(crate) fn recalled(&mut self, past: &Past) {
        let number = past.asked.job;
        if self.jobs.contains_key(&number) {
            return;
        }
        let mut job = Job::from(past.clone());
        let mut asked = Submitted::clone(&job.asked);
        let mut request = Shared::clone(&job.request);
        self.common.share(&mut asked, &mut request);
        (job.asked, job.request) = (Arc::new(asked), request);
        self.jobs.insert(number, Box::new(job));
        self.is_over_now(number, past.ended());
    }

    pub(crate) fn forgotten(&mut self, number: u64) {
        let Some(job) = self.jobs.remove(&number) else {
            return;
        };
        let at = last_end(&job.tasks).unwrap_or(job.submitted);
        if self.over.remove(&(at, number)) {
            self.over_tasks -= u64::from(job.ended);
        }
    }
}
