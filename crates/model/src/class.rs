//! The classes that every error of the product falls into.

use serde::{Deserialize, Serialize};

/// Says whose turn it is after an error: the one distinction that exit codes,
/// HTTP statuses and hints are derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The words or files given are wrong; the user corrects them.
    User,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already or is in use.
    Conflict,
    /// A resource (disk, memory, network, another process) failed; trying again may help.
    Unavailable,
    /// This host, kernel or image cannot do it; no retry will help.
    Unsupported,
    /// The kernel refused for want of permission.
    Denied,
    /// A defect of Hyperion.
    Internal,
}

impl Class {
    /// Gives the process exit code for an error of this class.
    ///
    /// As with docker, everything that fails before the user's own command has
    /// started is 125; 126 and 127 (not executable, not found) belong to the
    /// command itself and are set where it is started.
    pub const fn exit_code(self) -> u8 {
        125
    }
}
