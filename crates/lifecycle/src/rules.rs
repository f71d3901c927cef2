//! What a site allows to whom: plain data, as a file of it holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyperion_sched::Time;
use serde::{Deserialize, Serialize};

use crate::grounds::RulesError;

/// What a site allows to whom. Nothing said is nothing forbidden.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// The partitions (queues), by name. Where there is none a name of one means nothing.
    pub partitions: BTreeMap<String, Partition>,
    /// The qualities of service, by name. Where there is none a name of one means nothing.
    pub qos: BTreeMap<String, Qos>,
    /// What each user may have.
    pub each_user: Limits,
    /// What each project may have; an account where a job names none.
    pub each_project: Limits,
    /// What some users may have instead, by number.
    pub users: BTreeMap<u32, Limits>,
    /// What some projects may have instead, by name.
    pub projects: BTreeMap<String, Limits>,
    /// How many licences there are of each kind.
    pub licences: BTreeMap<String, u64>,
    /// How usage is charged.
    pub fair_share: FairShare,
    /// Who is promised what part, by account. One that is not named has one part, and so
    /// has each user in it.
    pub accounts: BTreeMap<String, Account>,
}

impl Rules {
    /// Looks whether accounts lie in accounts that there are, and none in itself.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn check(&self) -> Result<(), RulesError> {
        for (name, account) in &self.accounts {
            let mut above = account.parent.as_ref();
            for _ in &self.accounts {
                let Some(parent) = above else { break };
                let its = self.accounts.get(parent);
                let its = its.ok_or_else(|| RulesError::NoAccount(parent.clone()))?;
                above = its.parent.as_ref();
            }
            if above.is_some() {
                return Err(RulesError::AccountInItself(name.clone()));
            }
        }
        Ok(())
    }
}

/// How usage is charged: core-seconds, and what else counts as such.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FairShare {
    /// After so many minutes half of what was used is forgotten; never at 0.
    pub half_life_minutes: u64,
    /// So much memory counts as a core; none does where nothing is said.
    pub memory_per_core_mib: Option<u64>,
    /// As how many cores one counts of what else is there: `gpu`, `gpu:h100`.
    pub charge: BTreeMap<String, u64>,
}

impl Default for FairShare {
    /// A week, as Slurm has it, and cores alone.
    fn default() -> Self {
        Self {
            half_life_minutes: 7 * 24 * 60,
            memory_per_core_mib: None,
            charge: BTreeMap::new(),
        }
    }
}

/// What an account is promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Account {
    /// The account in which it lies.
    pub parent: Option<String>,
    /// Its part, beside those of its siblings.
    pub shares: u64,
    /// The parts of its users, by number.
    pub users: BTreeMap<u32, u64>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            parent: None,
            shares: 1,
            users: BTreeMap::new(),
        }
    }
}

/// Some of the nodes, and what may run there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partition {
    /// The names of its nodes; all nodes when empty.
    pub nodes: BTreeSet<String>,
    /// Jobs that name none go there.
    pub default: bool,
    /// How long a job may run, in minutes.
    pub max_minutes: Option<u64>,
    /// How long one runs that says nothing of it, in minutes.
    pub default_minutes: Option<u64>,
    /// How many nodes a job may have.
    pub max_nodes: Option<u32>,
    /// The numbers of those who may use it; everybody when empty. Groups are written
    /// out by whoever reads the file.
    pub users: BTreeSet<u32>,
    /// The accounts that may use it; all when empty.
    pub accounts: BTreeSet<String>,
    /// What its jobs have beside the others'.
    pub priority: u16,
    /// Its jobs have their nodes alone.
    pub exclusive: bool,
    /// What may be done with it.
    pub state: PartitionState,
    /// What its jobs may have together.
    pub limits: Limits,
    /// What each user's jobs in it may have.
    pub each_user: Limits,
}

/// What may be done with a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionState {
    /// Jobs are taken, and start.
    #[default]
    Up,
    /// Jobs are taken, and do not start.
    Down,
    /// No more jobs are taken; those that wait start.
    Drain,
    /// Neither.
    Inactive,
}

impl PartitionState {
    /// Tells whether jobs are taken.
    pub const fn takes(self) -> bool {
        matches!(self, Self::Up | Self::Down)
    }

    /// Tells whether jobs start.
    pub const fn starts(self) -> bool {
        matches!(self, Self::Up | Self::Drain)
    }
}

/// A quality of service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Qos {
    /// What its jobs have beside the others'.
    pub priority: u16,
    /// Its jobs come before those of a lower rank, and these make room for them where
    /// they say so.
    pub rank: u16,
    /// What becomes of its jobs when one of a higher rank needs their room; where
    /// nothing is said they stay.
    pub preempted: Option<Preempted>,
    /// How long such a job has, after SIGTERM, before it is told to end; for one that
    /// stands still this means nothing.
    pub grace_seconds: u64,
    /// How long a job may run, in minutes.
    pub max_minutes: Option<u64>,
    /// What its jobs may have together.
    pub limits: Limits,
    /// What each user's jobs in it may have.
    pub each_user: Limits,
}

/// What becomes of a job whose room another needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preempted {
    /// It ends, and waits again if it may.
    Requeue,
    /// It ends.
    Cancel,
    /// It stands still, and goes on when there is room again.
    Suspend,
}

/// How much may be had at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many tasks run.
    pub running: Option<u64>,
    /// How many tasks wait or run.
    pub submitted: Option<u64>,
    /// How many cores they have.
    pub cores: Option<u64>,
    /// What the cores of those that run come to by their time limits, in core-minutes.
    pub core_minutes: Option<u64>,
    /// How much they have of what else is counted: `gpu`, `gpu:h100`.
    pub resources: BTreeMap<String, u64>,
}

impl Limits {
    pub(crate) fn limit_what_runs(&self) -> bool {
        let counted = [self.running, self.cores, self.core_minutes];
        counted.iter().any(Option::is_some) || !self.resources.is_empty()
    }
}

/// Nodes that are kept for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Booking {
    /// The names of the nodes; all nodes when empty.
    pub nodes: BTreeSet<String>,
    /// When it begins.
    pub from: Time,
    /// When it ends.
    pub until: Time,
    /// The numbers of those who may use it.
    pub users: BTreeSet<u32>,
    /// The accounts that may use it. Where there is neither a user nor an account it is
    /// for nobody: the nodes are being maintained.
    pub accounts: BTreeSet<String>,
}

/// Nodes that are or were kept for a time, and since when that was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// What it is called.
    pub name: String,
    /// What is.
    pub booking: Booking,
    /// When that was said.
    pub made: Time,
    /// When it was taken back, where it was.
    pub gone: Option<Time>,
}

/// A time for which no job started on a node or in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// Of what.
    pub of: Shut,
    /// Since when.
    pub from: Time,
    /// Until when; nothing while it lasts.
    pub until: Option<Time>,
}

/// What is closed to jobs, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shut {
    /// A node, by its name.
    Node(String, NodeState),
    /// A partition, by its name.
    Partition(String, PartitionState),
}

/// Whether jobs start on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// They do.
    #[default]
    Up,
    /// What runs goes on, and nothing starts, for a reason that is for people to read.
    Drain(String),
    /// It is gone, and what ran there with it.
    Down(String),
}

/// That no job starts on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// How it stands.
    pub state: NodeState,
    /// The number of the user who closed it, where that is known.
    pub by: Option<u32>,
    /// Since when.
    pub since: Time,
}

/// Gives minutes as a span.
pub(crate) fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}
