//! What somebody changes of a job that was submitted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Bytes;
use crate::submission::{Condition, Moment, NodeCount, Part, Per, Submission, TimeLimit};

/// One thing that is changed. Of a heterogeneous job it is the first part's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// What it is called.
    Name(String),
    /// Words for people.
    Comment(Option<String>),
    /// Who pays.
    Account(Option<String>),
    /// What it is for.
    Project(Option<String>),
    /// The quality of service.
    Qos(Option<String>),
    /// The reservation in which it runs.
    Reservation(Option<String>),
    /// Queues or partitions, any of which will do.
    Queues(Vec<String>),
    /// How long it may run; that of tasks that run, too.
    Limit(TimeLimit),
    /// The limit may be lowered to this, so that it starts earlier.
    LeastTime(Option<Duration>),
    /// How many nodes.
    Nodes(NodeCount),
    /// How many tasks; what was asked of something else stays.
    Tasks(BTreeMap<Per, u32>),
    /// How many processors, likewise.
    Cpus(BTreeMap<Per, u32>),
    /// How much memory, in place of all that was asked.
    Memory {
        /// Of what so much.
        amounts: BTreeMap<Per, Bytes>,
        /// All that its nodes have.
        all: bool,
    },
    /// What its nodes must have, as its batch system writes it.
    Features(Option<String>),
    /// Hosts that must be among its nodes, or that it may run on.
    Hosts(Vec<String>),
    /// Hosts that must not.
    Without(Vec<String>),
    /// What must have happened to other jobs.
    After(Option<Condition>),
    /// It does not start before so long from now; it may at once where that is nothing.
    Begin(Duration),
    /// Whether it is started again when its node failed or it was preempted.
    Requeue(bool),
    /// How many tasks of its array run at once.
    AtOnce(Option<u32>),
    /// How far it is moved back, as `nice` does.
    Nice(i64),
    /// Its priority, in the numbers of its batch system.
    Priority(Option<i64>),
}

impl Edit {
    /// Changes a submission.
    pub fn apply(&self, job: &mut Submission) {
        let mut part =
            |change: &dyn Fn(&mut Part)| job.parts.first_mut().into_iter().for_each(change);
        match self {
            Self::Queues(names) => part(&|part| part.queues.clone_from(names)),
            Self::Nodes(count) => part(&|part| part.nodes = Some(*count)),
            Self::Tasks(counts) => part(&|part| part.tasks.extend(counts)),
            Self::Cpus(counts) => part(&|part| part.cpus.extend(counts)),
            Self::Memory { amounts, all } => part(&|part| {
                part.memory.clone_from(amounts);
                part.all_memory = *all;
            }),
            Self::Features(wish) => part(&|part| part.features.clone_from(wish)),
            Self::Hosts(names) => part(&|part| part.hosts.clone_from(names)),
            Self::Without(names) => part(&|part| part.without.clone_from(names)),
            Self::Name(name) => job.name = Some(name.clone()),
            Self::Comment(text) => job.comment.clone_from(text),
            Self::Account(name) => job.account.clone_from(name),
            Self::Project(name) => job.project.clone_from(name),
            Self::Qos(name) => job.qos.clone_from(name),
            Self::Reservation(name) => job.reservation.clone_from(name),
            Self::Limit(limit) => job.time_limit = Some(*limit),
            Self::LeastTime(least) => job.least_time = *least,
            Self::After(condition) => job.after.clone_from(condition),
            Self::Begin(span) => job.begin = (!span.is_zero()).then_some(Moment::In(*span)),
            Self::Requeue(may) => job.requeue = Some(*may),
            Self::AtOnce(most) => {
                if let Some(array) = &mut job.array {
                    array.at_once = *most;
                }
            }
            Self::Nice(nice) => job.nice = *nice,
            Self::Priority(priority) => job.priority = *priority,
        }
    }

    /// Tells whether it means something to a job of which nothing waits any more.
    pub const fn is_for_what_runs(&self) -> bool {
        matches!(
            self,
            Self::Name(_) | Self::Comment(_) | Self::Limit(_) | Self::Requeue(_) | Self::AtOnce(_)
        )
    }
}
