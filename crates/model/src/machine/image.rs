//! A machine that is made of an image: what came from where, and what its init starts.

use serde::{Deserialize, Serialize};

use super::words::words;

/// The image that a machine was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineImage {
    /// What it was called then.
    pub reference: String,
    /// Its digest: `sha256:` and 64 digits.
    pub digest: String,
    /// What runs in the machine.
    #[serde(default)]
    pub starts: Starts,
}

/// What the first process of a machine of an image becomes, or starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Starts {
    /// The init that lies in the image: systemd, for one.
    #[default]
    Init,
    /// One command, by an init of ours.
    Service(Service),
}

/// A command that a machine is there for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its environment, `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// `user[:group]`, as the image's files know it; none: root.
    #[serde(default)]
    pub user: Option<String>,
    /// Its working folder; none: `/`.
    #[serde(default)]
    pub folder: Option<String>,
    /// The signal that asks it to end; none: SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// What is done once it has ended.
    #[serde(default)]
    pub restart: Restart,
}

words! {
    /// What is done once a command has ended by itself.
    #[derive(Default)]
    Restart, "restart" {
        /// It is started again.
        #[default]
        Always = "always",
        /// It is started again where it failed; else the machine switches itself off.
        OnFailure = "on-failure",
        /// The machine switches itself off.
        No = "no",
    }
}
