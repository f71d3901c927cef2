//! One fence on one node, and the processes put into it.
//!
//! These are the words that a node and the init inside a sandbox speak, so
//! they carry no open file and no address: only what can cross a wire.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::job::{ContainerOptions, Level};
use crate::nodes::NodePlace;
use crate::resources::{CpuSet, Resources, Rlimit};

/// Where the files of a sandbox's root come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum RootSource {
    /// The host's own root (process level).
    Host,
    /// Unpacked layers, the lowest first; each is a folder.
    Layers {
        /// Absolute paths on the host.
        layers: Vec<PathBuf>,
    },
    /// All layers merged in one EROFS file; ext4 for a machine whose kernel lacks that.
    Erofs {
        /// Absolute path on the host.
        file: PathBuf,
    },
}

/// The root file system of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// Where its files come from.
    pub source: RootSource,
    /// An empty folder on the host that holds what the job writes; the root
    /// is read-only without one.
    pub scratch: Option<PathBuf>,
}

/// How user ids inside relate to those outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum UsernsMode {
    /// No user namespace: ids are the host's.
    #[default]
    Host,
    /// Root's container: inside ids `0..size` are `base..base+size` outside,
    /// and mounts are mapped so that files keep their owners.
    Range {
        /// First id outside.
        base: u32,
        /// How many ids.
        size: u32,
    },
    /// A user's container with ranges from `/etc/subuid` and `/etc/subgid`:
    /// inside 0 is the user, inside 1.. is the range.
    Subordinate {
        /// First subordinate user id and how many.
        uids: (u32, u32),
        /// First subordinate group id and how many.
        gids: (u32, u32),
    },
    /// A user's container without ranges: inside 0 is the user, and there is nobody else.
    Single,
}

/// What is needed to put up one sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The job it belongs to.
    pub id: JobId,
    /// How it is fenced.
    pub level: Level,
    /// Its root file system.
    pub root: RootSpec,
    /// User ids in and out.
    pub userns: UsernsMode,
    /// The fence.
    pub container: ContainerOptions,
    /// What it may use.
    pub resources: Resources,
    /// Its place among the nodes of its job; `None` when it is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodePlace>,
    /// When nothing runs any more of what was asked for, what that has left is ended
    /// before its end is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sweeps: bool,
    /// Launchers inside may say which steps they start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub steps: bool,
}

/// Who a process runs as, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// User id inside the sandbox.
    pub uid: u32,
    /// Group id inside the sandbox.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home folder, for `HOME`, when it is known.
    pub home: Option<String>,
}

/// One process to start in a sandbox: a rank, or a command beside the ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The number of the node that it is started on: 0 where there is one.
    #[serde(default)]
    pub node: u32,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working folder inside.
    pub cwd: PathBuf,
    /// `user[:group]` as written, looked up inside the sandbox; root (or the
    /// caller, at process level) when absent.
    pub user: Option<String>,
    /// A terminal is made and becomes its standard streams.
    pub tty: bool,
    /// Lines and columns of that terminal, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal_size: Option<(u16, u16)>,
    /// Processors it is bound to.
    pub cpus: Option<CpuSet>,
    /// Per-process limits.
    pub rlimits: Vec<Rlimit>,
}

/// What a rank gets of its own that a launcher inside the sandbox starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankSpec {
    /// Variables on top of the launcher's, `NAME=value`.
    pub env: Vec<String>,
    /// Processors it is bound to.
    pub cpus: Option<CpuSet>,
}
