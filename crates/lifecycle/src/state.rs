use crate::grounds::Scope;
pub use hyperion_model::task::{End, State};
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Those who share a limit with it have as much as they may.
    Limit(Scope),
    /// For a node that it may have: none is open to jobs.
    NodesClosed,
    /// Its partition starts no jobs.
    PartitionClosed(String),
    /// For room: it stands still for a job that came before it.
    MadeRoom(u64),
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
    /// Its node is gone.
    NodeDown,
}

/// Gives the state of a task that ended so, told to or not.
pub(crate) const fn state_of(end: End, told: Option<Why>) -> State {
    match (told, end) {
        (Some(Why::Cancelled | Why::Requeued), _) => State::Cancelled,
        (Some(Why::TimeLimit), _) => State::TimedOut,
        (Some(Why::Preempted), _) => State::Preempted,
        (Some(Why::NodeDown), _) => State::NodeFailed,
        (None, End::Exit(exit)) if exit.is_success() => State::Completed,
        (None, End::Exit(_) | End::Broken) => State::Failed,
        (None, End::OutOfMemory) => State::OutOfMemory,
        (None, End::Lost) => State::NodeFailed,
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
