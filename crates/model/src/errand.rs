//! What an engine asks of an agent, which starts jobs on one host, and what it is told.
//!
//! Both sides may be killed and started anew at any time. A task is started under an
//! id of which there is never a second one, so that nothing is started twice; and
//! what has ended is told until it is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::report::Exit;
use crate::resources::{CpuSet, Rlimit};
use crate::submission::{Command, Dialect, Submission, Warning};
use crate::task::End;
use crate::units::{Bytes, Cores};

/// What an agent is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errand {
    /// All that is to be started from now on was asked so. A script and variables that were the
    /// same at the one before are left out, and named by their digests.
    Asked(Box<Submission>),
    /// Start a task, unless it was started before.
    Start(Box<Start>),
    /// These are all that there should be: tell how each of them stands. What is left of
    /// others, and of jobs that are not named, is of no use any more.
    Adopt {
        /// Starts that have not ended.
        ids: Vec<JobId>,
        /// Jobs that have not, by number.
        jobs: Vec<u64>,
    },
    /// Send a signal to what a task started.
    Signal(JobId, u8),
    /// Warn a task of its end by a signal, to whom it was asked for.
    Warn(JobId, Warning),
    /// Let all of a task stand still.
    Suspend(JobId),
    /// Let it go on: on these processors, where they are chosen.
    Resume(JobId, Option<CpuSet>),
    /// End a task: SIGTERM, and SIGKILL after so long.
    Stop(JobId, Duration),
    /// Its end is written down: nobody asks for it again.
    Forget(JobId),
    /// All tasks of a job have ended.
    Clear(u64),
}

/// What an agent tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum News {
    /// A task runs.
    Up {
        /// Its start.
        id: JobId,
        /// The record in which it runs, where that is another's.
        within: Option<JobId>,
    },
    /// It has ended.
    Over(JobId, Box<Outcome>),
    /// A step of a task has begun, or ended.
    Step(JobId, Box<Step>),
    /// Nothing was ever started under that id.
    Unknown(JobId),
}

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The id that no other start has.
    pub id: JobId,
    /// The number that the submission gave.
    pub job: u64,
    /// The index in its array, where it is one.
    pub index: Option<u32>,
    /// How often it was started before.
    pub restarts: u32,
    /// What was asked, which is said apart: many starts have the same.
    #[serde(skip, default = "unsaid")]
    pub submission: Submission,
    /// The queue that it came from.
    pub queue: String,
    /// What it has of this host.
    pub share: Share,
}

fn unsaid() -> Submission {
    Submission::new(Dialect::Slurm, Command::Program(Vec::new()))
}

/// What a task has of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// What the host is called.
    pub host: String,
    /// Processors.
    pub cores: Cores,
    /// Memory, where it is to be kept to.
    pub memory: Option<Bytes>,
    /// How many parallel processes it has room for.
    pub tasks: u32,
    /// The processors that are its own, where they are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuSet>,
    /// The numbers of its devices, by what they are: `gpu`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, BTreeSet<u32>>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What became of it.
    pub end: End,
    /// Why, where it is not its own doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// What a task used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// From the first instruction to the end.
    pub wall: Duration,
    /// Processor time in user mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_user: Option<Duration>,
    /// Processor time in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_system: Option<Duration>,
    /// The most memory at one moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<Bytes>,
    /// Bytes read from block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_read: Option<Bytes>,
    /// Bytes written to block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_written: Option<Bytes>,
    /// Its steps, by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// What a script started with the launcher of its batch system: `srun`, `pbsdsh`, `blaunch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number in the task, from 0 on.
    pub number: u32,
    /// What it is called.
    pub name: String,
    /// How many parallel processes it is.
    pub tasks: u32,
    /// How long after the task it began.
    pub begun: Duration,
    /// How it ended; nothing while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<StepEnd>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEnd {
    /// How the worst of its processes did.
    pub exit: Exit,
    /// It reached a time limit of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// Somebody did not want it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// From its start to its end.
    pub wall: Duration,
    /// Processor time in user mode.
    pub cpu_user: Duration,
    /// Processor time in the kernel.
    pub cpu_system: Duration,
    /// The largest of its processes.
    pub memory_peak: Bytes,
}

impl StepEnd {
    /// Says of a step whose launcher has told nothing: it was killed.
    pub const fn killed(wall: Duration) -> Self {
        Self {
            exit: Exit::Signal(9),
            timed_out: false,
            cancelled: false,
            wall,
            cpu_user: Duration::ZERO,
            cpu_system: Duration::ZERO,
            memory_peak: Bytes(0),
        }
    }
}

/// A task as a lane runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneTask {
    /// The id of its start.
    pub id: JobId,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// All variables, `NAME=value`.
    pub env: Vec<String>,
    /// Where it begins.
    pub workdir: PathBuf,
    /// Limits of each process.
    pub rlimits: Vec<Rlimit>,
    /// Processors to which it is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuSet>,
    /// Its files.
    pub batch: Batch,
}

/// What a lane writes down of its tasks, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaneLine {
    /// A task is about to be started.
    Begun(JobId),
    /// It has ended.
    Ended(JobId, Box<Outcome>),
}

/// What a script of a batch system needs beside what every job has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Batch {
    /// Variables that it expects, also those by which launchers know each other; none where
    /// they are among all others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// What it reads; nothing when absent.
    pub input: Option<PathBuf>,
    /// Where its output goes.
    pub output: PathBuf,
    /// Where its errors go; with the output when absent.
    pub error: Option<PathBuf>,
    /// What is in those files, of output and of errors, is kept.
    pub append: (bool, bool),
    /// It is room for the commands of somebody, and ends when nobody comes for it, or with
    /// who has come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}
