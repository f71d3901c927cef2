use std::fmt;

use hyperion_model::report::Exit;
use hyperion_sched::{JobNumber, Time};
use serde::{Deserialize, Serialize};

/// One task: a job, or one index of an array of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The number that its submission gave.
    pub job: u64,
    /// Its index in the array; 0 where the job is none.
    pub index: u32,
}

/// How many bits an index takes: [`hyperion_model::indices::LARGEST`] fits.
const INDEX_BITS: u32 = 22;

impl TaskId {
    /// Gives the number by which the scheduler knows it: tasks of one job lie beside
    /// one another, in the order of their indices.
    pub fn number(self) -> JobNumber {
        JobNumber(self.job << INDEX_BITS | u64::from(self.index))
    }

    /// Gives the task that the scheduler knows by a number.
    pub fn of(number: JobNumber) -> Self {
        Self {
            job: number.0 >> INDEX_BITS,
            index: (number.0 & ((1 << INDEX_BITS) - 1)) as u32,
        }
    }
}

/// How far a task is.
///
/// ```text
///          hold            plan                up                 over
/// Held ◀─────────▶ Pending ────▶ Configuring ─────▶ Running ─────────▶ Completed, Failed,
///         release    ▲   │            │             │ ▲  │             OutOfMemory, NodeFailed
///                    │   │ cancel     │     suspend ▼ │  │ stop
///           requeue, │   ▼            │        Suspended ▼         over
///           its node │ Cancelled      └────────────▶ Completing ─────▶ Cancelled, TimedOut,
///           failed   └──────────────────────────────────┘              Preempted
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It waits.
    Pending,
    /// It waits for somebody to let it go on.
    Held,
    /// Its nodes are taken, and its sandbox is being put up.
    Configuring,
    /// It runs.
    Running,
    /// It stands still on its nodes.
    Suspended,
    /// It was told to end, and has not yet.
    Completing,
    /// It ended well.
    Completed,
    /// It ended with an error.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
    /// It reached its time limit.
    TimedOut,
    /// It was killed for want of memory.
    OutOfMemory,
    /// Its node failed.
    NodeFailed,
    /// It made room for another.
    Preempted,
}

impl State {
    /// Tells whether nothing happens to it any more.
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Pending | Self::Held) && !self.is_active()
    }

    /// Tells whether it has nodes.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Configuring | Self::Running | Self::Suspended | Self::Completing
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Configuring => "configuring",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Completing => "completing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::OutOfMemory => "out of memory",
            Self::NodeFailed => "node failed",
            Self::Preempted => "preempted",
        })
    }
}

/// Who keeps a job from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// Its user, who may release it.
    User,
    /// An operator; only operators release it.
    Operator,
}

/// Why a task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Somebody keeps it from starting.
    Held(Holder),
    /// It does not begin before.
    Begins(Time),
    /// For other jobs.
    Depends,
    /// For what will never happen to other jobs.
    DependsInVain,
    /// As many tasks of its array run as may at once.
    AtOnce,
    /// For nodes: they are kept for it from then on, at the latest.
    Resources(Time),
    /// For those before it.
    Turn,
}

/// Why a task is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Somebody does not want it any more.
    Cancelled,
    /// It has reached its time limit.
    TimeLimit,
    /// It makes room for another, and waits again if it may.
    Preempted,
    /// It is to wait again.
    Requeued,
}

/// How a task ended, as its supervisor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Its command ended.
    Exit(Exit),
    /// It was killed for want of memory.
    OutOfMemory,
    /// It could not be started, or its sandbox broke down: nothing of the command's own.
    Broken,
    /// Its node, or its supervisor, is gone, and nobody knows how it ended.
    Lost,
}

impl End {
    /// Gives the state of a task that ended so, told to or not.
    pub(crate) const fn state(self, told: Option<Why>) -> State {
        match (told, self) {
            (Some(Why::Cancelled | Why::Requeued), _) => State::Cancelled,
            (Some(Why::TimeLimit), _) => State::TimedOut,
            (Some(Why::Preempted), _) => State::Preempted,
            (None, Self::Exit(exit)) if exit.is_success() => State::Completed,
            (None, Self::Exit(_) | Self::Broken) => State::Failed,
            (None, Self::OutOfMemory) => State::OutOfMemory,
            (None, Self::Lost) => State::NodeFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyperion_model::indices::LARGEST;

    use super::*;

    #[test]
    fn a_task_and_its_number_are_the_same() {
        let last = TaskId {
            job: (1 << 42) - 1,
            index: LARGEST,
        };
        for task in [TaskId { job: 1, index: 0 }, last] {
            assert_eq!(TaskId::of(task.number()), task);
        }
        let next = TaskId { job: 2, index: 0 };
        assert!(
            TaskId {
                job: 1,
                index: LARGEST
            }
            .number()
                < next.number()
        );
    }
}
