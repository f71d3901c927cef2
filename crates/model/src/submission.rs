//! What somebody asks of a queue, in no batch system's words: the script that
//! they brought, and all that its directives and the command line say of it.
//!
//! What was not said is absent: whoever takes the request fills in what the
//! queue, the host or the batch system would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::indices::Array;
use crate::job::Level;
use crate::resources::Rlimit;
use crate::shared::Shared;
use crate::units::Bytes;

/// A batch system, by the words that its users write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Slurm: `#SBATCH`.
    Slurm,
    /// PBS Pro, OpenPBS and Torque: `#PBS`.
    Pbs,
    /// LSF: `#BSUB`.
    Lsf,
    /// Grid Engine: `#$`.
    Sge,
}

/// A job as it was submitted. What is [`Shared`] is the same for most jobs of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Whose words the names of its files are in, and whose environment its script expects.
    pub dialect: Dialect,
    /// What it is called.
    pub name: Option<String>,
    /// Who pays.
    pub account: Option<String>,
    /// What it is for.
    pub project: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// The reservation in which it runs.
    pub reservation: Option<String>,
    /// Words for people.
    pub comment: Option<String>,
    /// What must be there at once: one part, or several of a heterogeneous job.
    pub parts: Shared<Vec<Part>>,
    /// How long it may run.
    pub time_limit: Option<TimeLimit>,
    /// The limit may be lowered to this, so that it starts earlier.
    pub least_time: Option<Duration>,
    /// It is many jobs, one for each index.
    pub array: Option<Array>,
    /// What must have happened to other jobs.
    pub after: Option<Condition>,
    /// It waits until it is released.
    pub hold: bool,
    /// It does not start before.
    pub begin: Option<Moment>,
    /// It is given up when it cannot end by then.
    pub deadline: Option<Moment>,
    /// Whether it is started again when its node failed or it was preempted.
    pub requeue: Option<bool>,
    /// The signal that it gets before its end.
    pub warning: Option<Warning>,
    /// How far its user moves it back, as `nice` does.
    pub nice: i64,
    /// Its priority, in the numbers of its batch system.
    pub priority: Option<i64>,
    /// Who hears of it.
    pub mail: Shared<Mail>,
    /// Which variables it sees.
    pub environment: Shared<Environment>,
    /// Where its streams go.
    pub files: Shared<Files>,
    /// Where it begins.
    pub folder: Folder,
    /// Whoever submits it waits for its end.
    pub wait: bool,
    /// There may be more tasks than processors.
    pub overcommit: bool,
    /// It goes on with the nodes that are left when one fails.
    pub survives_nodes: bool,
    /// Limits of each process.
    pub rlimits: Vec<Rlimit>,
    /// What is run.
    pub command: Command,
    /// The file that its script was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// How it is fenced.
    #[serde(default)]
    pub fence: Shared<Fence>,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Shared<Origin>,
    /// What of it lies elsewhere.
    #[serde(default, skip_serializing_if = "Elsewhere::is_nothing")]
    pub elsewhere: Shared<Elsewhere>,
}

/// What of a submission is kept apart from it: the long parts, of which many submissions
/// have the same. What is here is empty there.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Elsewhere {
    /// The text of the script, by the digest of its bytes.
    pub script: Option<String>,
    /// The submitter's variables, by the digest of their JSON.
    pub variables: Option<String>,
}

impl Elsewhere {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Submission {
    /// Makes the request of one who said nothing but what to run.
    pub fn new(dialect: Dialect, command: Command) -> Self {
        Self {
            dialect,
            name: None,
            account: None,
            project: None,
            qos: None,
            reservation: None,
            comment: None,
            parts: vec![Part::default()].into(),
            time_limit: None,
            least_time: None,
            array: None,
            after: None,
            hold: false,
            begin: None,
            deadline: None,
            requeue: None,
            warning: None,
            nice: 0,
            priority: None,
            mail: Shared::default(),
            environment: Shared::default(),
            files: Shared::default(),
            folder: Folder::default(),
            wait: false,
            overcommit: false,
            survives_nodes: false,
            rlimits: Vec::new(),
            command,
            script: None,
            fence: Shared::default(),
            origin: Shared::default(),
            elsewhere: Shared::default(),
        }
    }

    /// Tells whether it is to come before others, as only operators may have it: by a
    /// priority above 0, or a nice value below.
    pub fn pushes(&self) -> bool {
        self.nice < 0 || self.priority.is_some_and(|priority| priority > 0)
    }

    /// Takes that back.
    pub fn give_way(&mut self) {
        self.nice = self.nice.max(0);
        self.priority = self.priority.filter(|priority| *priority <= 0);
    }
}

/// How a job is fenced, in the words of `hyperion run`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Fence {
    /// The level.
    pub level: Level,
    /// The image, by a name that does not come to mean another; none at process level.
    pub image: Option<String>,
    /// Flags of `hyperion run`, as they were written.
    pub flags: Vec<String>,
}

impl Default for Fence {
    fn default() -> Self {
        Self {
            level: Level::Process,
            image: None,
            flags: Vec::new(),
        }
    }
}

/// Where a submission comes from: what its script and the names of its files may ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The folder in which it was submitted.
    pub folder: String,
    /// On which host.
    pub host: String,
    /// Who submitted it, by name.
    pub user: String,
    /// The home of that user.
    pub home: String,
    /// The rights that new files are not to have.
    pub umask: u32,
    /// The submitter's variables, as far as the job may see them.
    pub variables: BTreeMap<String, String>,
}

/// Nodes, processors and whatever else must be there at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// Queues or partitions, any of which will do.
    pub queues: Vec<String>,
    /// How many nodes.
    pub nodes: Option<NodeCount>,
    /// How many pieces that lie on one node each; several may lie on the same.
    pub chunks: Option<u32>,
    /// Tasks: in all, or to each node or chunk.
    pub tasks: BTreeMap<Per, u32>,
    /// As many tasks as this will do too, and are better.
    pub most_tasks: Option<u32>,
    /// Processors.
    pub cpus: BTreeMap<Per, u32>,
    /// Memory.
    pub memory: BTreeMap<Per, Bytes>,
    /// All memory of its nodes.
    pub all_memory: bool,
    /// Room for temporary files on each node.
    pub scratch: Option<Bytes>,
    /// Devices and whatever else is counted.
    pub resources: Vec<Resource>,
    /// Licences, by name.
    pub licences: BTreeMap<String, u32>,
    /// What its nodes must have, as its batch system writes it.
    pub features: Option<String>,
    /// Hosts that must be among its nodes, or that it may run on.
    pub hosts: Vec<String>,
    /// Hosts that must not.
    pub without: Vec<String>,
    /// How it is arranged on nodes.
    pub arrangement: Arrangement,
    /// Who else may be on its nodes.
    pub sharing: Sharing,
}

/// Of what there is that much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// In all.
    Job,
    /// On each node.
    Node,
    /// On each processor package.
    Socket,
    /// In each chunk.
    Chunk,
    /// For each task.
    Task,
    /// For each core.
    Core,
    /// For each processor that was asked for.
    Cpu,
    /// For each GPU that was asked for.
    Gpu,
}

/// How many nodes will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeCount {
    /// The fewest.
    pub least: u32,
    /// The most.
    pub most: u32,
}

/// Something counted: `gpu:h100:2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    /// What: `gpu`, `fpga`.
    pub family: String,
    /// Which kind of it.
    pub kind: Option<String>,
    /// How many.
    pub count: u64,
    /// Of what so many.
    pub per: Per,
}

/// How the pieces of a job lie on nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrangement {
    /// As it comes.
    #[default]
    Free,
    /// All on one node.
    Together,
    /// Each on a node of its own.
    Apart,
}

/// Who else may be on the nodes of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// As the queue has it.
    #[default]
    AsUsual,
    /// Nobody: it has its nodes alone.
    Nobody,
    /// Jobs of the same user.
    SameUser,
    /// Everybody, on its processors too.
    Everybody,
}

/// How long a job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeLimit {
    /// As long as it likes.
    Unlimited,
    /// So long.
    Span(Duration),
}

/// A point in time, as it is told to somebody who has a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// So long after it is told.
    In(Duration),
    /// When the local clock shows this on that day.
    At {
        /// The day.
        day: Day,
        /// Hour, from 0.
        hour: u8,
        /// Minute.
        minute: u8,
        /// Second.
        second: u8,
    },
}

/// A day, as far as it was said. What is missing is such that the moment is
/// the first to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Day {
    /// Any.
    Soonest,
    /// So many days from today.
    Ahead(u8),
    /// That day of a month.
    OfMonth(u8),
    /// That day of that month, both from 1.
    OfYear(u8, u8),
    /// That year, month and day.
    Date(u16, u8, u8),
}

/// What must have happened to other jobs before one starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// All of these.
    All(Vec<Condition>),
    /// One of these.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// This, to that job.
    Job(JobRef, Event),
    /// No other job of the same name and user is queued before it or runs.
    Singleton,
}

/// Another job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRef {
    /// Which.
    pub job: JobWord,
    /// Which of its tasks, where it is an array; all of them when absent.
    pub tasks: Option<crate::indices::Indices>,
}

/// A job by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobWord {
    /// The number that its submission gave.
    Number(u64),
    /// A name, in which `*` stands for anything; each of the user's jobs of that name.
    Name(String),
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// It started, or was cancelled, so long ago.
    Started(Duration),
    /// It ended, in whatever way.
    Ended,
    /// It ended well.
    Succeeded,
    /// It ended in another way.
    Failed,
    /// Its task of the same index ended well.
    SameSucceeded,
    /// Its task of the same index ended.
    SameEnded,
    /// It ended with an exit code that compares so.
    Exited(Comparison, u64),
    /// The number of its tasks in that state compares so.
    Tasks(TaskState, Comparison, u64),
}

/// The state of a task of an array, where tasks are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It waits.
    Pending,
    /// It is held.
    Held,
    /// It runs.
    Running,
    /// It started.
    Started,
    /// It ended well.
    Succeeded,
    /// It ended in another way.
    Failed,
    /// It ended.
    Ended,
}

/// How two numbers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// The first is less.
    Less,
    /// It is not more.
    AtMost,
    /// They are the same.
    Equal,
    /// They are not.
    NotEqual,
    /// It is not less.
    AtLeast,
    /// It is more.
    More,
}

/// A signal before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The kernel's number.
    pub signal: u8,
    /// How long before the time limit.
    pub before: Duration,
    /// To whom.
    pub to: WarningTo,
}

/// Who gets the signal before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningTo {
    /// The script alone.
    Script,
    /// What the script started as steps, and not the script itself.
    Steps,
    /// All processes.
    Everything,
}

/// Who hears of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mail {
    /// Of what.
    pub on: BTreeSet<MailEvent>,
    /// Who; the user when empty.
    pub to: Vec<String>,
}

/// Of what somebody hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailEvent {
    /// It starts.
    Begin,
    /// It ends.
    End,
    /// It fails.
    Fail,
    /// It is queued again.
    Requeue,
    /// It is suspended.
    Suspend,
    /// It comes near its time limit.
    TimeLimit,
}

/// Which variables of the submitter a job sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Environment {
    /// All of them; else those of a fresh login.
    pub all: bool,
    /// These, with the value that they have when it is submitted.
    pub pass: BTreeSet<String>,
    /// These, with these values.
    pub set: BTreeMap<String, String>,
}

/// Where the streams of a job go. Names are as they were written; what in them
/// stands for something else depends on the dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Files {
    /// What it reads; nothing when absent.
    pub input: Option<String>,
    /// Its output.
    pub output: Stream,
    /// Its errors.
    pub error: Stream,
    /// Whether both go into one file.
    pub joined: Option<Joined>,
}

/// Where one stream goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stream {
    /// The file; the batch system's usual one when absent.
    pub path: Option<String>,
    /// What becomes of what is in it.
    pub open: Open,
}

/// What becomes of what is in a file already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Open {
    /// It is written over.
    #[default]
    Truncate,
    /// It is kept, and written behind.
    Append,
}

/// Which file both streams go into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Joined {
    /// The one for output.
    Output,
    /// The one for errors.
    Error,
}

/// Where a job begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Folder {
    /// Where it was submitted.
    #[default]
    Submission,
    /// In its user's home.
    Home,
    /// There; where it was submitted when relative.
    Path(String),
}

/// What a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// A script.
    Script {
        /// Who reads it, with arguments: its first line, or an option; the user's shell when absent.
        interpreter: Option<String>,
        /// All of it, directives too, byte for byte.
        #[serde(with = "text")]
        text: Vec<u8>,
        /// What it is given.
        arguments: Vec<String>,
    },
    /// A program and its arguments.
    Program(Vec<String>),
    /// Nothing: room for commands that somebody starts in it.
    Room {
        /// It ends when whoever asked for it is gone.
        kept: bool,
    },
}

/// Bytes as a text where they are one, so that a record of them can be read.
mod text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text<'a> {
        Text(std::borrow::Cow<'a, str>),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Text(text.into()),
            Err(_) => Text::Bytes(bytes.to_vec()),
        }
        .serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Text::deserialize(from)? {
            Text::Text(text) => text.into_owned().into_bytes(),
            Text::Bytes(bytes) => bytes,
        })
    }
}
