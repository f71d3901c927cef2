use std::time::Duration;

use hyperion_model::Shared;
use hyperion_model::errand::Cost;
use hyperion_model::submission::Submission;
use hyperion_sched::{Allocation, Pins, Request, Time};
use serde::{Deserialize, Serialize};

use crate::past::{Carried, Past};
use crate::rules::{Booking, NodeState, PartitionState};
use crate::state::{End, Holder, TaskId, Why};

/// What has changed, and when: a line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at: Time,
    /// What.
    pub change: Change,
}

/// What has changed. Whoever writes records down carries out what they say, once
/// they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A job waits.
    Submitted(Box<Submitted>),
    /// Its time to begin has come.
    Due {
        /// The job.
        job: u64,
    },
    /// A job is kept from starting.
    Held {
        /// The job.
        job: u64,
        /// By whom.
        by: Holder,
    },
    /// A job may start again.
    Released {
        /// The job.
        job: u64,
    },
    /// Something else is asked of it from now on.
    Edited(Box<Submitted>),
    /// A task that has nodes is told to end at another time.
    Limited {
        /// The task.
        task: TaskId,
        /// When.
        until: Time,
    },
    /// Nodes are taken for a task: **start it.**
    Started {
        /// The task.
        task: TaskId,
        /// What it has.
        allocation: Allocation,
        /// When it is told to end.
        until: Time,
        /// Which cores and devices, for each part of that; none where it has none of its
        /// own.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pins: Vec<Pins>,
    },
    /// A task runs.
    Up {
        /// The task.
        task: TaskId,
    },
    /// A task stands still, and its cores are free: **stop its processes.**
    Suspended {
        /// The task.
        task: TaskId,
        /// The job that it makes room for: it goes on by itself when there is room again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<u64>,
    },
    /// A task that stands still is to go on when there is room.
    Resuming {
        /// The task.
        task: TaskId,
    },
    /// A task goes on: **let its processes go on.**
    Resumed {
        /// The task.
        task: TaskId,
        /// Which cores it has from now on, for each part of what it has.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pins: Vec<Pins>,
    },
    /// A task is to make room, and has until then: **send it SIGTERM.**
    Leaving {
        /// The task.
        task: TaskId,
        /// When it is told to end.
        until: Time,
    },
    /// A task comes near its limit: **send it the signal it asked for.**
    Warned {
        /// The task.
        task: TaskId,
    },
    /// A task is to end: **end it.**
    Stopping {
        /// The task.
        task: TaskId,
        /// Why.
        why: Why,
    },
    /// A task has ended; its nodes are free.
    Ended {
        /// The task.
        task: TaskId,
        /// How.
        end: End,
        /// It waits again.
        again: bool,
        /// Why it ended so, where it is not its own doing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// What it used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<Box<Cost>>,
    },
    /// What waits of a job is not wanted any more: one task or all.
    Dropped {
        /// The job.
        job: u64,
        /// The index; all when absent.
        index: Option<u32>,
        /// Why, where nobody asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A job that has ended is kept in mind no longer: it lies in the history.
    Forgotten {
        /// The job.
        job: u64,
    },
    /// It is again: another waits for what became of it.
    Recalled(Box<Past>),
    /// What is left of records that were taken away.
    Carried(Carried),
    /// Jobs start on a node, or do not.
    Node {
        /// Its name.
        node: String,
        /// Which of both.
        state: NodeState,
        /// The number of the user who says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<u32>,
    },
    /// Nodes are kept for a time; in place of what had that name.
    Booked {
        /// Its name.
        name: String,
        /// What is.
        booking: Booking,
    },
    /// They are not any more.
    Unbooked {
        /// Its name.
        name: String,
    },
    /// Something else may be done with a partition.
    Partition {
        /// Its name.
        name: String,
        /// What.
        state: PartitionState,
    },
}

impl Change {
    /// Tells whether something else can start after it than before.
    pub(crate) const fn matters(&self) -> bool {
        !matches!(
            self,
            Self::Up { .. }
                | Self::Warned { .. }
                | Self::Stopping { .. }
                | Self::Leaving { .. }
                | Self::Forgotten { .. }
                | Self::Recalled(_)
                | Self::Carried(_)
        )
    }

    /// Gives the job that it is about: where that is forgotten, it is not needed any more.
    pub const fn job(&self) -> Option<u64> {
        match self {
            Self::Submitted(asked) | Self::Edited(asked) => Some(asked.job),
            Self::Recalled(past) => Some(past.asked.job),
            Self::Due { job }
            | Self::Held { job, .. }
            | Self::Released { job }
            | Self::Dropped { job, .. }
            | Self::Forgotten { job } => Some(*job),
            Self::Started { task, .. }
            | Self::Up { task }
            | Self::Suspended { task, .. }
            | Self::Resuming { task }
            | Self::Resumed { task, .. }
            | Self::Leaving { task, .. }
            | Self::Limited { task, .. }
            | Self::Warned { task }
            | Self::Stopping { task, .. }
            | Self::Ended { task, .. } => Some(task.job),
            Self::Node { .. }
            | Self::Booked { .. }
            | Self::Unbooked { .. }
            | Self::Partition { .. }
            | Self::Carried(_) => None,
        }
    }
}

/// A job as it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its number.
    pub job: u64,
    /// Whose it is.
    pub user: u32,
    /// What was asked.
    pub submission: Submission,
    /// What each of its tasks takes.
    pub request: Shared<Request>,
    /// How long each of its tasks may run.
    pub limit: Duration,
    /// It does not start before.
    pub begin: Option<Time>,
    /// It is to have ended by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// The partition that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
}

impl Submitted {
    /// Gives the last moment at which a task can start and end before its deadline; as a
    /// limit that is not said is none, that is the deadline then.
    pub(crate) fn last_start(&self) -> Option<Time> {
        let deadline = self.deadline?;
        let least = self.submission.least_time.unwrap_or(self.limit);
        let least = match self.limit == Duration::MAX && self.submission.least_time.is_none() {
            true => Duration::ZERO,
            false => least.min(self.limit),
        };
        let least = u64::try_from(least.as_micros()).unwrap_or(u64::MAX);
        Some(Time(deadline.0.saturating_sub(least)))
    }
}
