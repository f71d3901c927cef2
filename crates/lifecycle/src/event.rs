use hyperion_model::Edit;
use hyperion_model::errand::Outcome;
use hyperion_model::submission::Submission;
use hyperion_sched::Time;
use thiserror::Error;

use crate::ask::AskError;
use crate::grounds::RulesError;
use crate::past::Past;
use crate::rules::{Booking, NodeState, PartitionState};
use crate::state::{End, State, TaskId};

/// Who asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// The user's number.
    pub user: u32,
    /// May touch what is others'.
    pub operator: bool,
}

/// What happens to jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody submits a job.
    Submit {
        /// Who.
        who: Who,
        /// What.
        submission: Box<Submission>,
        /// It does not start before: what the submission says, by a clock.
        begin: Option<Time>,
        /// It is to have ended by then, likewise.
        deadline: Option<Time>,
    },
    /// Somebody keeps a job from starting.
    Hold(Who, u64),
    /// Somebody lets it start again.
    Release(Who, u64),
    /// Somebody changes a job, or the limit of one task that runs.
    Edit(Who, u64, Option<u32>, Vec<Edit>),
    /// Somebody does not want a job any more, or one task of it.
    Cancel(Who, u64, Option<u32>),
    /// Somebody wants a task that runs to wait again.
    Requeue(Who, TaskId),
    /// Somebody wants all of a job that runs to wait again, and keeps it from starting.
    RequeueHold(Who, u64),
    /// Somebody lets a task stand still.
    Suspend(Who, TaskId),
    /// Somebody lets it go on.
    Resume(Who, TaskId),
    /// A supervisor tells that the ranks of a task run.
    Up(TaskId),
    /// A supervisor tells that a task has ended, or that nobody can tell.
    Over(TaskId, End),
    /// The same, with what it used.
    Ended(TaskId, Box<Outcome>),
    /// An operator says whether jobs start on a node, by its name. What ran on one that
    /// is down is told to end.
    Node(Who, String, NodeState),
    /// An operator keeps nodes for a time, by a name.
    Book(Who, String, Booking),
    /// An operator keeps them no longer.
    Unbook(Who, String),
    /// An operator says what may be done with a partition.
    Partition(Who, String, PartitionState),
    /// A job that has ended is not to be kept any more.
    Forget(u64),
    /// One that was forgotten is to be known again.
    Recall(Box<Past>),
    /// Time passes.
    Tick,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no such job.
    #[error("there is no job {0}")]
    Unknown(u64),
    /// The job has no such task.
    #[error("job {} has no task {}", .0.job, .0.index)]
    NoTask(TaskId),
    /// It belongs to another.
    #[error("job {0} belongs to another user")]
    NotYours(u64),
    /// An operator holds it.
    #[error("job {0} is held by an operator")]
    HeldByOperator(u64),
    /// It is not in a state for that.
    #[error("job {job} is {state}")]
    Not {
        /// The job.
        job: u64,
        /// How far it is.
        state: State,
    },
    /// It cannot be asked for.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It cannot end in time.
    #[error("the job cannot end by its deadline: its time limit is longer than that")]
    TooLate,
    /// It waits for what is not there.
    #[error("the job depends on job {0}, which is not known")]
    DependsOnUnknown(u64),
    /// It would wait for itself.
    #[error("job {0} would wait for itself")]
    DependsOnItself(u64),
    /// It has no tasks.
    #[error("job {0} is no array")]
    NoArray(u64),
    /// The order of the queue knows none.
    #[error("the order of the queue knows no priorities")]
    NoPriorities,
    /// Of one task only the time limit can be changed, when it runs.
    #[error("job {0} can only be changed as a whole: what was asked is the same for all its tasks")]
    OnlyWhole(u64),
    /// The site's rules do not allow it.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Only an operator may do that.
    #[error("only an operator may do that")]
    NotOperator,
    /// No node has so much, also when nothing runs.
    #[error("the job asks for more than the nodes have")]
    NeverFits,
}
