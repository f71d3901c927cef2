//! Jobs that wait and run, as a server tells them.

use std::time::Duration;

use hyperion_model::submission::Submission;
use hyperion_model::{Bytes, Class, Cores, Edit};
use serde::{Deserialize, Serialize};

pub use hyperion_model::view::{
    AccountView, ClosureView, JobView, Moment, NodeView, PartitionView, QosView, ReservationView,
    RulesView, ShareView, Terms, Waits,
};

/// What a client asks. Each question has one answer, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Take a job.
    Submit(Box<Submission>),
    /// Say what there is.
    Jobs(Filter),
    /// Say what the nodes have, and what of it is in use.
    Nodes,
    /// Say which partitions there are.
    Partitions,
    /// Say who is promised what part, and has used how much.
    Shares,
    /// Say which accounts and qualities of service there are.
    Rules,
    /// Say whether jobs start on nodes, by their names.
    SetNodes(Vec<String>, NodeChange),
    /// Say which nodes are kept for a time.
    Reservations,
    /// Say which are or ever were, and when nodes and partitions were closed, in the order in
    /// which that was said.
    Closures,
    /// Keep nodes for a time, by a name.
    Reserve(Reservation),
    /// Keep them no longer.
    Unreserve(String),
    /// Keep jobs from starting.
    Hold(Vec<u64>),
    /// Let them start again.
    Release(Vec<u64>),
    /// Change what was asked of jobs, or the limit of tasks that run.
    Edit(Vec<Target>, Vec<Edit>),
    /// Jobs, or tasks of arrays, are not wanted any more.
    Cancel(Vec<Target>),
    /// Let tasks that run wait again.
    Requeue(Vec<Target>),
    /// Let all of these that runs wait again, and keep them from starting.
    RequeueHold(Vec<u64>),
    /// Let tasks stand still.
    Suspend(Vec<Target>),
    /// Let them go on.
    Resume(Vec<Target>),
    /// Say why a job waits, or how it ended.
    Explain(Target),
    /// Say when a job would start if it were submitted now; nothing changes.
    WhatIf(Box<Submission>),
    /// Answer when all of these have ended.
    Wait(Vec<u64>),
    /// Say how much of what there is, for Prometheus.
    Metrics,
    /// Say who you are.
    Who,
    /// End, once everything is written down; what runs goes on.
    Stop,
}

/// A job, or one task of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The number of the job.
    pub job: u64,
    /// The index of a task; all of them when absent.
    pub index: Option<u32>,
}

/// Whether jobs start on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeChange {
    /// They do.
    Up,
    /// What runs goes on, and nothing starts, for a reason.
    Drain(String),
    /// It is gone, and what ran there with it, for a reason.
    Down(String),
}

/// Nodes that are kept for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// What it is called.
    pub name: String,
    /// The names of the nodes; all nodes when empty.
    pub nodes: Vec<String>,
    /// How long from now it begins.
    pub starts_in: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// The numbers of those who may use it.
    pub users: Vec<u32>,
    /// The accounts that may. Where there is neither: nobody, for the nodes are being
    /// maintained.
    pub accounts: Vec<String>,
}

/// Which jobs are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Only these; all when empty.
    pub jobs: Vec<u64>,
    /// Only those of this user.
    pub user: Option<u32>,
    /// Those that have ended too.
    pub ended: bool,
    /// Those that have not.
    pub alive: bool,
    /// Those, too, that ended so long ago that the server does not keep them in mind.
    pub past: bool,
    /// Of those only the ones that ended then or later, in microseconds since 1970.
    pub since: Option<u64>,
    /// Only those of this number and higher.
    pub from: u64,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The job is written down, under this number.
    Submitted(u64),
    /// The jobs, by number and index; of an array, those that wait are one.
    Jobs(Vec<JobView>),
    /// The first of them, and from which number on to ask for the others.
    FirstJobs(Vec<JobView>, u64),
    /// The nodes.
    Nodes(Vec<NodeView>),
    /// The partitions, by name; one where the site has none.
    Partitions(Vec<PartitionView>),
    /// What is kept, by name.
    Reservations(Vec<ReservationView>),
    /// What is or was kept, and what was closed.
    Closures(Vec<ReservationView>, Vec<ClosureView>),
    /// Accounts and users: each account, then those in it.
    Shares(Vec<ShareView>),
    /// Accounts and qualities of service.
    Rules(RulesView),
    /// Why a job waits; nothing where it does not.
    Explained(Option<Box<Explained>>),
    /// What would become of it.
    Foreseen(Foreseen),
    /// It was done to all of them.
    Done,
    /// The jobs have ended, the last of them with this code, as a shell has it.
    Ended(u8),
    /// Numbers in the text format of Prometheus.
    Metrics(String),
    /// Who it is.
    Server(ServerView),
    /// It was not done.
    Refused(Refused),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What kind of error it is.
    pub class: Class,
    /// What went wrong, outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: String,
}

/// Why a job waits, and when it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// In one word.
    pub reason: Waits,
    /// How many tasks that wait come before it.
    pub ahead: u64,
    /// What it lacks now.
    pub lacks: Vec<Lack>,
    /// When it starts, as far as that can be told.
    pub starts: Starts,
    /// What ends before it does, on the nodes that it gets.
    pub until: Vec<Until>,
    /// What its priority is made of, where the order of the queue knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

/// What a priority is made of: the highest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Priority {
    /// What it comes to.
    pub total: f64,
    /// For its wait.
    pub age: f64,
    /// For what is due to its user.
    pub fair_share: f64,
    /// For its size.
    pub size: f64,
    /// For its partition.
    pub partition: f64,
    /// For its quality of service.
    pub qos: f64,
    /// What its user took from it.
    pub nice: i64,
    /// What somebody gave it in place of all that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<i64>,
}

/// Something of which there is too little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// So many more processors.
    Cores(Cores),
    /// So much more memory.
    Memory(Bytes),
    /// So many more of something that is counted: `gpu`.
    Kind(String, u64),
    /// So many more nodes.
    Nodes(u64),
    /// Room for so many more pieces: there is enough, but not side by side.
    Pieces(u64),
}

/// What would become of a job if it were submitted now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// The number that it would get.
    pub job: u64,
    /// The partition in which it would be.
    pub queue: String,
    /// The processors that it would have.
    pub cores: Cores,
    /// When it would start.
    pub starts: Starts,
}

/// When a job starts, if none ends before its limit and no other comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Starts {
    /// Then, on those nodes.
    At(Moment, Vec<String>),
    /// Not before; nobody has looked further.
    NotBefore(Moment),
    /// As far as is known it never does.
    Never,
}

/// A task for the end of which another waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// When it ends at the latest.
    pub at: Moment,
    /// The number of its job.
    pub job: u64,
    /// Its index, where it is of an array.
    pub index: Option<u32>,
    /// On which node.
    pub node: String,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its version.
    pub version: String,
    /// Its process.
    pub process: u32,
    /// When it was started.
    pub started: Moment,
    /// Whether who asks is an operator to it.
    #[serde(default)]
    pub operator: bool,
}
