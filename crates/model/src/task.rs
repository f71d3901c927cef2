//! How far a task of a queue is, and the word for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::Exit;

/// How far a task is.
///
/// ```text
///          hold            plan                up                 over
/// Held ◀─────────▶ Pending ────▶ Configuring ─────▶ Running ─────────▶ Completed, Failed,
///         release    ▲   │            │             │ ▲  │             OutOfMemory, NodeFailed
///                    │   │ cancel     │     suspend ▼ │  │ stop
///           requeue, │   ▼            │        Suspended ▼         over
///           its node │ Cancelled      └────────────▶ Completing ─────▶ Cancelled, TimedOut,
///           failed   └──────────────────────────────────┘              Preempted
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It waits.
    Pending,
    /// It waits for somebody to let it go on.
    Held,
    /// Its nodes are taken, and its sandbox is being put up.
    Configuring,
    /// It runs.
    Running,
    /// It stands still on its nodes.
    Suspended,
    /// It was told to end, and has not yet.
    Completing,
    /// It ended well.
    Completed,
    /// It ended with an error.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
    /// It reached its time limit.
    TimedOut,
    /// It was killed for want of memory.
    OutOfMemory,
    /// Its node failed.
    NodeFailed,
    /// It made room for another.
    Preempted,
}

impl State {
    /// Tells whether nothing happens to it any more.
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Pending | Self::Held) && !self.is_active()
    }

    /// Tells whether it has nodes.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Configuring | Self::Running | Self::Suspended | Self::Completing
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Configuring => "configuring",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Completing => "completing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::OutOfMemory => "out of memory",
            Self::NodeFailed => "node failed",
            Self::Preempted => "preempted",
        })
    }
}

/// How a task ended, as its supervisor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Its command ended.
    Exit(Exit),
    /// It was killed for want of memory.
    OutOfMemory,
    /// It could not be started, or its sandbox failed: nothing of the command's own.
    Broken,
    /// Its node, its supervisor or its sandbox is gone, and nobody knows how it ended.
    Lost,
}
