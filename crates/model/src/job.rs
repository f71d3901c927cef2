//! What a user asks for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::errand::Batch;
use crate::ids::Name;
use crate::mount::Mount;
use crate::nodes::{self, Member, Seat};
use crate::resources::{Binding, Resources, Rlimit, TaskSet};
use crate::units::Bytes;

/// How a program is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Limits, binding and environment; the host's own files and names.
    Process,
    /// Namespaces, a root of its own, seccomp and fewer capabilities.
    Container,
    /// A kernel of its own, in a virtual machine.
    Vm,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Process => "process",
            Self::Container => "container",
            Self::Vm => "vm",
        })
    }
}

/// Where a container's network comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The host's own interfaces: what a parallel job wants.
    #[default]
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// Which MPI starts the ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MpiChoice {
    /// Look at the program and decide.
    #[default]
    Auto,
    /// Hyperion starts each rank and serves PMI-1 (MPICH and its family).
    Pmi1,
    /// The image's own `mpirun` starts the ranks (Open MPI).
    OpenMpi,
    /// Ranks are independent; only the environment tells them apart.
    None,
}

impl FromStr for MpiChoice {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "pmi" | "pmi1" | "pmi-1" | "mpich" => Ok(Self::Pmi1),
            "openmpi" | "open-mpi" => Ok(Self::OpenMpi),
            "none" => Ok(Self::None),
            _ => Err(format!(
                "{s:?} is not a way to start ranks: auto, pmi, openmpi or none"
            )),
        }
    }
}

/// What becomes of the look at program and host before the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preflight {
    /// It is taken when there are several ranks, and said when something is wrong.
    #[default]
    Quiet,
    /// It is taken and said.
    Show,
    /// It is taken and said, and the job ends there.
    Only,
}

/// The parallel shape of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parallel {
    /// How many ranks.
    pub ranks: u32,
    /// Processors for each rank.
    pub cpus_per_rank: u32,
    /// How ranks are tied to processors.
    pub bind: Binding,
    /// More ranks than processors are allowed.
    pub oversubscribe: bool,
    /// How ranks find each other.
    pub mpi: MpiChoice,
    /// What becomes of the look before the start.
    pub preflight: Preflight,
    /// Where ranks know nothing of each other the others go on when one fails, and the
    /// worst is what the job ends with.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_going: bool,
    /// How long the others may go on when the first has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linger: Option<Duration>,
}

impl Default for Parallel {
    fn default() -> Self {
        Self {
            ranks: 1,
            cpus_per_rank: 1,
            bind: Binding::None,
            oversubscribe: false,
            mpi: MpiChoice::Auto,
            preflight: Preflight::Quiet,
            keep_going: false,
            linger: None,
        }
    }
}

/// The fence of a container, as far as the user chooses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerOptions {
    /// Nothing can be written to the root file system.
    pub read_only: bool,
    /// Host folders and memory file systems, in the order they are mounted.
    pub mounts: Vec<Mount>,
    /// Size of `/dev/shm`; half of the memory when absent.
    pub shm_size: Option<Bytes>,
    /// Capabilities added to the default set; `ALL` is all of them.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the set; `ALL` is all of them.
    pub cap_drop: Vec<String>,
    /// Where the network comes from.
    pub network: Network,
    /// The host name inside; the short job id when absent.
    pub hostname: Option<String>,
    /// No user namespace: root inside is root outside.
    pub userns_host: bool,
    /// No seccomp filter.
    pub seccomp_unconfined: bool,
}

/// A job: a command, what fences it and what it may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The user's name for it.
    pub name: Option<Name>,
    /// How it is fenced.
    pub level: Level,
    /// The image, as written; none at process level.
    pub image: Option<String>,
    /// Program and arguments, entrypoint included.
    pub argv: Vec<String>,
    /// Variables set for the program, on top of the image's.
    pub env: BTreeMap<String, String>,
    /// Working folder; the image's (or the caller's, at process level) when absent.
    pub workdir: Option<PathBuf>,
    /// `user[:group]`, by name or number; the image's when absent.
    pub user: Option<String>,
    /// A terminal is made for rank 0.
    pub tty: bool,
    /// Standard input is kept open and reaches rank 0.
    pub interactive: bool,
    /// Its record is removed when it ends.
    pub remove: bool,
    /// What it may use.
    pub resources: Resources,
    /// Per-process limits.
    pub rlimits: Vec<Rlimit>,
    /// Ranks and how they find each other.
    pub parallel: Parallel,
    /// The nodes that it has on this host; one, of its own level, when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// The fence, at container level.
    pub container: ContainerOptions,
    /// How many times the command is run, one after the other, in one sandbox.
    pub repeat: u32,
    /// The command is run once for each of these, one after the other, in one
    /// sandbox; `HYPERION_TASK_ID` tells it which.
    #[serde(default)]
    pub array: Option<TaskSet>,
    /// A file per rank and stream is written here, beside the log.
    pub output_dir: Option<PathBuf>,
    /// The job is stopped after this time.
    pub time_limit: Option<Duration>,
    /// It is a script of a batch system, and starts by itself what is parallel in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Box<Batch>>,
    /// It is a lane: it runs nothing of its own but scripts that it is handed, one after
    /// the other, in one sandbox.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lane: bool,
    /// The server of the host has it started, not that of its user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_host: bool,
}

impl JobSpec {
    /// Counts its nodes.
    pub fn nodes(&self) -> u32 {
        (self.members.len() as u32).max(1)
    }

    /// Tells whether a container stands on this host for it.
    pub fn has_containers(&self) -> bool {
        let members = self.members.iter().map(|member| member.level);
        let alone = self.members.is_empty().then_some(self.level);
        members.chain(alone).any(|level| level == Level::Container)
    }

    /// Gives where a rank is.
    pub fn seat(&self, rank: u32) -> Seat {
        nodes::seat(&self.members, self.parallel.ranks, rank)
    }
}
