//! What is shown of the jobs and nodes of a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::errand::{Cost, Step};
use crate::job::Level;
use crate::resources::CpuSet;
use crate::submission::{Condition, Dialect};
use crate::task::{End, State};
use crate::units::{Bytes, Cores};

/// A moment, in microseconds since the beginning of 1970.
pub type Moment = u64;

/// A task, or the tasks of an array that wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// The number of the job.
    pub job: u64,
    /// Its indices where it is an array: `7`, or `8-100:2%5` for those that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// What it is called.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// Whose it is, by number.
    pub uid: u32,
    /// Whose words it was submitted in.
    pub dialect: Dialect,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The queue, or partition.
    pub queue: String,
    /// How it is fenced.
    pub level: Level,
    /// How far it is.
    pub state: State,
    /// Why it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Waits>,
    /// When it was submitted.
    pub submitted: Moment,
    /// When it was started last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Moment>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Moment>,
    /// For how long it did not run between its last start and its end: it stood still.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub still: Duration,
    /// How long it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Duration>,
    /// How often it was started.
    pub starts: u32,
    /// How many parallel processes it has room for.
    #[serde(default)]
    pub tasks: u32,
    /// How many nodes it has, or asks for.
    pub nodes: u32,
    /// The names of those that it has.
    pub hosts: Vec<String>,
    /// The processors that it has, or asks for.
    pub cores: Cores,
    /// The memory that it asks for.
    pub memory: Bytes,
    /// The processors that are its own, where they are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuSet>,
    /// What it asks for on its nodes beside processors and memory, by what that is: `gpu`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asks: BTreeMap<String, u64>,
    /// The numbers of its devices, by what they are: `gpu:h100`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, BTreeSet<u32>>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Why, where it is not its own doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// It runs a script or a program, and is not room for what comes later.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub script: bool,
    /// Its steps, where it has not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The file of its script, with what that is given; nothing where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Where it was submitted.
    pub folder: String,
    /// The quality of service that it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// The files of its output and of its errors, as they were named.
    #[serde(default, skip_serializing_if = "named_none")]
    pub files: (Option<String>, Option<String>),
    /// Words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The name under which `hyperion logs`, `exec` and `stats` know it while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What decides when and where it starts.
    #[serde(default, skip_serializing_if = "Terms::are_usual")]
    pub terms: Terms,
}

/// What decides when and where a job starts, as far as it is not what is usual.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// The number by which it comes before others, while it waits and where the order has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The number that somebody gave it in place of what it would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<i64>,
    /// How far its user moves it back.
    #[serde(skip_serializing_if = "is_zero")]
    pub nice: i64,
    /// Whether it is started again when its node failed or it was preempted, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue: Option<bool>,
    /// What must have happened to other jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Condition>,
    /// How many tasks of its array may run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// It does not start before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin: Option<Moment>,
    /// It is to have ended by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Moment>,
    /// Its limit may be lowered to this, so that it starts earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_time: Option<Duration>,
    /// The reservation in which it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// What its nodes must have, as its batch system writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    /// Licences, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub licences: BTreeMap<String, u32>,
    /// Hosts that must be among its nodes, or that it may run on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<String>,
    /// Hosts that must not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// It has its nodes alone.
    #[serde(skip_serializing_if = "is_no")]
    pub exclusive: bool,
    /// The project that it is of, where that was said beside who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// When somebody kept it from starting: since when, and until when. One that began before
    /// it started and has no end ended nobody knows when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<(Moment, Option<Moment>)>,
}

impl Terms {
    fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

const fn named_none(files: &(Option<String>, Option<String>)) -> bool {
    files.0.is_none() && files.1.is_none()
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_yes(yes: &bool) -> bool {
    *yes
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_no(yes: &bool) -> bool {
    !*yes
}

impl JobView {
    /// Gives the steps of a task, by number, ended or not.
    pub fn steps(&self) -> &[Step] {
        match &self.cost {
            Some(cost) => &cost.steps,
            None => &self.steps,
        }
    }
}

/// Why a task waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waits {
    /// Its user keeps it from starting.
    HeldByUser,
    /// An operator does.
    HeldByOperator,
    /// It does not begin before.
    Begins(Moment),
    /// For other jobs.
    Depends,
    /// For what will never happen to other jobs.
    DependsInVain,
    /// As many tasks of its array run as may at once.
    AtOnce,
    /// For nodes: they are kept for it from then on, at the latest.
    Resources(Moment),
    /// For those before it.
    Turn,
    /// Those who share a limit with it have as much as they may: who.
    Limit(String),
    /// No node that it may have is open to jobs.
    NodesClosed,
    /// Its partition starts no jobs: which.
    PartitionClosed(String),
    /// For room: it stands still for that job.
    MadeRoom(u64),
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// What it is called.
    pub name: String,
    /// Its processors.
    pub cores: Cores,
    /// Those that jobs have.
    pub cores_used: Cores,
    /// Its memory.
    pub memory: Bytes,
    /// What jobs have of it.
    pub memory_used: Bytes,
    /// How many devices it has, and how many of them jobs have, by what they are:
    /// `gpu:h100`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, (u64, u64)>,
    /// What it has that jobs ask for by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// How many tasks run there.
    pub tasks: u32,
    /// Why nothing starts there; nothing where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// The number of the user who closed it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<u32>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Moment>,
}

/// A partition, or queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// What it is called.
    pub name: String,
    /// Jobs that name none go there.
    pub default: bool,
    /// Jobs are taken.
    pub takes: bool,
    /// Jobs start.
    pub starts: bool,
    /// The names of its nodes.
    pub nodes: Vec<String>,
    /// How long a job may run; as long as it likes when absent.
    pub limit: Option<Duration>,
    /// How long one runs that says nothing of it.
    pub usual_limit: Option<Duration>,
    /// How many nodes a job may have; all when absent.
    pub most_nodes: Option<u32>,
    /// What its jobs have beside the others'.
    pub priority: u16,
    /// Its jobs have their nodes alone.
    pub exclusive: bool,
}

impl PartitionView {
    /// What there is where a site has no partitions, or where a job was submitted to one
    /// that the site does not know of: a name.
    pub fn named(name: &str, nodes: &[NodeView]) -> Self {
        Self {
            name: name.to_owned(),
            default: name == Self::ONLY,
            takes: true,
            starts: true,
            nodes: nodes.iter().map(|node| node.name.clone()).collect(),
            limit: None,
            usual_limit: None,
            most_nodes: None,
            priority: 1,
            exclusive: false,
        }
    }

    /// The name where a site has none.
    pub const ONLY: &str = "main";
}

/// Nodes that are kept for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationView {
    /// What it is called.
    pub name: String,
    /// When it begins.
    pub from: Moment,
    /// When it ends.
    pub until: Moment,
    /// The names of the nodes.
    pub nodes: Vec<String>,
    /// The processors of those.
    pub cores: Cores,
    /// Who may use it, by name. Where there is neither a user nor an account nobody may:
    /// the nodes are being maintained.
    pub users: Vec<String>,
    /// The accounts that may.
    pub accounts: Vec<String>,
    /// Since when it is known.
    #[serde(default)]
    pub made: Moment,
    /// When it was taken back, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Moment>,
}

/// A time for which no job started on a node or in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosureView {
    /// The name of the node or partition.
    pub name: String,
    /// It is a partition.
    #[serde(default, skip_serializing_if = "is_no")]
    pub partition: bool,
    /// What ran there was told to end.
    #[serde(default, skip_serializing_if = "is_no")]
    pub down: bool,
    /// Since when.
    pub from: Moment,
    /// Until when; nothing while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

/// What a site says of accounts and qualities of service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesView {
    /// The accounts that it knows of, by name; any will do where it knows of none.
    pub accounts: Vec<AccountView>,
    /// The qualities of service, by name; any will do where there are none.
    pub qos: Vec<QosView>,
}

/// An account that a site knows of; every user may have jobs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// What it is called.
    pub name: String,
    /// The account in which it lies.
    pub parent: Option<String>,
    /// Its part, beside those of its siblings.
    pub shares: u64,
    /// The parts of users, by name, where they have not one.
    pub users: BTreeMap<String, u64>,
}

/// A quality of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosView {
    /// What it is called.
    pub name: String,
    /// What its jobs have beside the others'.
    pub priority: u16,
    /// What becomes of its jobs when others need their room: `requeue`, `cancel`, `suspend`.
    pub preempted: Option<String>,
    /// How long they have to end then.
    pub grace: Duration,
    /// How long a job may run; as long as it likes when absent.
    pub limit: Option<Duration>,
    /// How many tasks of it run, and how many wait or run.
    pub tasks: (Option<u64>, Option<u64>),
    /// The same of each user's.
    pub each_user: (Option<u64>, Option<u64>),
    /// How many cores its jobs have, and how many each user's.
    pub cores: (Option<u64>, Option<u64>),
}

/// What an account or a user is promised of what there is, and has used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareView {
    /// The accounts in which it lies, the outermost first, and itself where it is one.
    pub accounts: Vec<String>,
    /// Its name, where it is a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its part.
    pub shares: u64,
    /// That beside its siblings', from 0 to 1.
    pub promised: f64,
    /// What it has used, in core-seconds, as it counts now.
    pub used: f64,
    /// That beside what all have used, from 0 to 1.
    pub used_of_all: f64,
    /// What is due to it, from 0 to 1: the highest comes first. None to accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fair_share: Option<f64>,
}
