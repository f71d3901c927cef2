use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hyperion_model::Shared;
use hyperion_model::errand::Cost;
use hyperion_sched::{Request, Time};
use serde::{Deserialize, Serialize};

use crate::record::Submitted;
use crate::state::{End, Holder, State, Why};

/// A job, with all of its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What was asked.
    pub asked: Arc<Submitted>,
    /// What each task takes of the ledger's cluster.
    pub(crate) request: Shared<Request>,
    /// When.
    pub submitted: Time,
    /// Who keeps it from starting.
    pub held: Option<Holder>,
    /// When somebody did, in that order.
    pub holds: Vec<Hold>,
    /// Its time to begin has come.
    pub(crate) due: bool,
    /// When it is looked at anew, though nothing happens.
    pub(crate) looked_at: Option<Time>,
    /// Indices that wait, and that the scheduler does not see.
    pub(crate) waiting: BTreeSet<u32>,
    /// Indices that the scheduler may start.
    pub(crate) queued: BTreeSet<u32>,
    /// Those that have started once, or ended.
    pub(crate) tasks: BTreeMap<u32, Task>,
    /// Its tasks are counted as such that wait or run.
    pub(crate) counted: bool,
    /// How many have nodes.
    pub(crate) active: u32,
    /// How many have ended.
    pub(crate) ended: u32,
    /// How many of them ended well.
    pub(crate) succeeded: u32,
}

/// A time for which a job was kept from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub from: Time,
    /// Until when; nothing while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// What is known of a task that has started, or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// How far it is.
    pub state: State,
    /// How often it was started.
    pub starts: u32,
    /// How often it was started again because nobody knew how it had ended.
    #[serde(default)]
    pub lost: u32,
    /// When it was started last.
    pub started: Option<Time>,
    /// When it is told to end.
    pub until: Time,
    /// When it is sent the signal that it asked for.
    pub warned_at: Option<Time>,
    /// When it was told to stand still.
    pub suspended: Option<Time>,
    /// For which job, where it makes room for one.
    pub room_for: Option<u64>,
    /// What it asks for to go on.
    #[serde(skip)]
    pub(crate) wants: Option<Arc<Request>>,
    /// How long it has stood still before, or waited to be started again when it was dropped.
    pub still: Duration,
    /// It makes room for another, and has a while to end by itself.
    pub leaving: bool,
    /// Why it was told to end.
    pub told: Option<Why>,
    /// When it ended.
    pub ended: Option<Time>,
    /// How.
    pub end: Option<End>,
    /// Why it ended so, where it is not its own doing.
    pub why: Option<String>,
    /// What it used.
    pub cost: Option<Box<Cost>>,
}

impl Task {
    /// Makes one that has neither started nor ended.
    pub(crate) fn new(state: State, until: Time) -> Self {
        Self {
            state,
            starts: 0,
            lost: 0,
            started: None,
            until,
            warned_at: None,
            suspended: None,
            room_for: None,
            wants: None,
            still: Duration::ZERO,
            leaving: false,
            told: None,
            ended: None,
            end: None,
            why: None,
            cost: None,
        }
    }

    /// Counts a time for which it did not run since it was started.
    pub(crate) fn rested(&mut self, still: Duration) {
        self.until = self.until + still;
        self.still += still;
    }

    /// Tells how long it did not run between its last start and its end.
    pub fn stood_still(&self) -> Duration {
        let last = self.suspended.zip(self.ended);
        self.still + last.map_or(Duration::ZERO, |(since, ended)| ended.since(since))
    }
}

impl Job {
    pub(crate) fn new(asked: Arc<Submitted>, request: Shared<Request>, at: Time) -> Self {
        let waiting = match &asked.submission.array {
            Some(array) => array.indices.iter().collect(),
            None => BTreeSet::from([0]),
        };
        let mut job = Self {
            held: None,
            holds: Vec::new(),
            looked_at: None,
            due: asked.begin.is_none_or(|begin| begin <= at),
            submitted: at,
            asked,
            request,
            waiting,
            queued: BTreeSet::new(),
            counted: true,
            tasks: BTreeMap::new(),
            active: 0,
            ended: 0,
            succeeded: 0,
        };
        if job.asked.submission.hold {
            job.hold(Holder::User, at);
        }
        job
    }

    /// Keeps it from starting from now on.
    pub(crate) fn hold(&mut self, by: Holder, at: Time) {
        if self.held.replace(by).is_none() {
            self.holds.push(Hold {
                from: at,
                until: None,
            });
        }
    }

    /// Lets it start again.
    pub(crate) fn release(&mut self, at: Time) {
        self.held = None;
        if let Some(last) = self.holds.last_mut() {
            last.until.get_or_insert(at);
        }
    }

    /// Gives what is known of a task that has started once, or ended.
    pub fn task(&self, index: u32) -> Option<&Task> {
        self.tasks.get(&index)
    }

    /// Gives the tasks that have started once, or ended, by index.
    pub fn tasks(&self) -> &BTreeMap<u32, Task> {
        &self.tasks
    }

    /// Gives the indices that wait.
    pub fn waiting(&self) -> impl Iterator<Item = u32> {
        self.waiting.union(&self.queued).copied()
    }

    /// Tells how far a task is; `None` where the job has no such task.
    pub fn state(&self, index: u32) -> Option<State> {
        if self.waits(index) {
            return Some(match self.held {
                Some(_) => State::Held,
                None => State::Pending,
            });
        }
        self.tasks.get(&index).map(|task| task.state)
    }

    /// Tells whether nothing happens to it any more.
    pub fn is_over(&self) -> bool {
        self.active == 0 && self.waiting.is_empty() && self.queued.is_empty()
    }

    pub(crate) fn waits(&self, index: u32) -> bool {
        self.waiting.contains(&index) || self.queued.contains(&index)
    }

    /// Counts all of its tasks.
    pub(crate) fn size(&self) -> u32 {
        self.waiting.len() as u32 + self.queued.len() as u32 + self.active + self.ended
    }

    /// Tells whether what ended for no fault of its own is started again. Slurm and
    /// PBS do that unless told otherwise, LSF and Grid Engine only when told to.
    pub(crate) fn may_start_again(&self) -> bool {
        use hyperion_model::submission::Dialect;
        let usual = matches!(self.asked.submission.dialect, Dialect::Slurm | Dialect::Pbs);
        self.asked.submission.requeue.unwrap_or(usual)
    }
}
