//! Why a job cannot start.

use hyperion_model::Class;
use serde::Serialize;
use thiserror::Error;

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The command is nowhere.
    CommandNotFound,
    /// The command may not be executed.
    NotExecutable,
    /// The script that an interpreter is given is not there.
    ScriptNotFound,
    /// The program is for another processor.
    WrongArchitecture,
    /// The program's loader or interpreter is not there.
    LoaderMissing,
    /// The program needs a newer glibc than the root has.
    GlibcTooOld,
    /// Nothing here can start ranks of this MPI.
    FamilyNotStartable,
    /// `/dev/shm` is too small for the ranks.
    SharedMemory,
    /// There are fewer processors than the ranks ask for.
    TooFewProcessors,
}

/// Why a job cannot start, and what helps. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[error("{what}")]
pub struct Refusal {
    /// What stands in the way.
    pub kind: RefusalKind,
    /// What cannot be done.
    pub what: String,
    /// Why.
    pub cause: String,
    /// What helps.
    pub fix: String,
}

impl Refusal {
    /// Gives the exit code: 127 and 126 as a shell does, 125 for all else.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            RefusalKind::CommandNotFound => 127,
            RefusalKind::NotExecutable
            | RefusalKind::WrongArchitecture
            | RefusalKind::LoaderMissing => 126,
            _ => self.class().exit_code(),
        }
    }

    /// Gives the class of the error.
    pub fn class(&self) -> Class {
        match self.kind {
            RefusalKind::CommandNotFound | RefusalKind::ScriptNotFound => Class::NotFound,
            RefusalKind::TooFewProcessors | RefusalKind::SharedMemory => Class::User,
            _ => Class::Unsupported,
        }
    }
}

/// Makes a refusal.
pub(super) fn refuse<T>(
    kind: RefusalKind,
    what: impl Into<String>,
    cause: impl Into<String>,
    fix: impl Into<String>,
) -> Result<T, Refusal> {
    Err(Refusal {
        kind,
        what: what.into(),
        cause: cause.into(),
        fix: fix.into(),
    })
}
