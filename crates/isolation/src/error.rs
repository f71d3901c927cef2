//! What goes wrong with a sandbox.

use std::io;
use std::path::PathBuf;

use hyperion_sys::cgroup::CgroupError;
use hyperion_sys::userns::UsernsError;
use thiserror::Error;

use crate::vm::MachineEnd;

/// What goes wrong with a sandbox.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// A limit cannot be held.
    #[error("cannot limit the sandbox")]
    Cgroup(#[from] CgroupError),
    /// The user namespace cannot be set up.
    #[error("cannot set up the user namespace")]
    Userns(#[from] UsernsError),
    /// The kernel refused the namespaces themselves.
    #[error("cannot make the namespaces of a container")]
    Namespaces(#[source] io::Error),
    /// There can be no init: no process or no descriptor is left.
    #[error("cannot start the init of the sandbox")]
    Init(#[source] io::Error),
    /// A step on the way up failed inside.
    #[error("cannot put up the sandbox: {step} failed")]
    Setup {
        /// What was being done, with the path it was done to.
        step: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A host folder that is to be mounted is not there.
    #[error("there is no {} to mount", .0.display())]
    MountSource(PathBuf),
    /// A capability that does not exist.
    #[error("there is no capability named {0:?}")]
    Capability(String),
    /// The program could not be started.
    #[error("cannot start {program:?}: {}", step.describe())]
    Spawn {
        /// The program, as written.
        program: String,
        /// How far it got.
        step: SpawnStep,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The machine is gone, or never came up.
    #[error(transparent)]
    Machine(#[from] MachineEnd),
    /// The init is gone or speaks nonsense: it was killed from outside, or by the memory limit.
    #[error("the sandbox ended unexpectedly")]
    Lost(#[source] io::Error),
    /// The kernel killed the init for want of memory. In the limit of a job it may find
    /// nobody else when the program that took all of it has just been killed.
    #[error("the sandbox was killed because the job reached its memory limit")]
    Starved,
    /// Nobody waits any more for an answer that does not come.
    #[error("what runs inside did not answer, and was ended from outside")]
    Unwanted,
    /// One of several nodes failed.
    #[error("node {name} of the job failed")]
    Node {
        /// Which, by its host name.
        name: String,
        /// Why.
        source: Box<SandboxError>,
    },
}

impl SandboxError {
    /// Tells whether an answer was not waited for any more, on whatever node.
    pub fn is_unwanted(&self) -> bool {
        match self {
            Self::Node { source, .. } => source.is_unwanted(),
            error => matches!(error, Self::Unwanted),
        }
    }

    /// Tells whether the sandbox is gone by nothing that was asked of it, on whatever node:
    /// something on this host has killed its init, or its machine.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Node { source, .. } => source.is_lost(),
            Self::Machine(end) => matches!(end, MachineEnd::Killed { .. } | MachineEnd::Told),
            error => matches!(error, Self::Lost(_)),
        }
    }

    /// Gives the exit code that a shell gives for such an end: 127 when the program was
    /// not found, 126 when it cannot be executed, 137 when it was killed.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Spawn {
                step: SpawnStep::Execute,
                source,
                ..
            } => {
                let not_found = source.kind() == io::ErrorKind::NotFound;
                Some(if not_found { 127 } else { 126 })
            }
            Self::Spawn {
                step: SpawnStep::Folder,
                ..
            } => Some(127),
            Self::Starved => Some(137),
            Self::Node { source, .. } => source.exit_code(),
            _ => None,
        }
    }
}

/// How far the start of a program got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpawnStep {
    /// Looking up the user.
    User,
    /// Making a terminal.
    Terminal,
    /// Copying the init.
    Fork,
    /// Limits and binding.
    Limits,
    /// Becoming the user and giving up powers.
    Privileges,
    /// Entering the working folder.
    Folder,
    /// Executing the file.
    Execute,
}

impl SpawnStep {
    /// Says what failed.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::User => "its user is not known inside",
            Self::Terminal => "no terminal could be made",
            Self::Fork => "no process could be made",
            Self::Limits => "a limit could not be set",
            Self::Privileges => "its privileges could not be set",
            Self::Folder => "its working folder could not be entered",
            Self::Execute => "it could not be executed",
        }
    }
}

/// Makes an I/O error of a number that crossed the wire: any, for a guest may say
/// what it likes.
pub(crate) fn from_errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_that_a_guest_calls_an_error_is_one() {
        for number in [i32::MIN, -1, 0, 28, 4096, 100_003, i32::MAX] {
            assert_eq!(from_errno(number).raw_os_error(), Some(number));
        }
    }

    #[test]
    fn lost_is_what_was_killed_and_not_what_failed_or_took_too_much() {
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let of_node = |source| SandboxError::Node {
            name: "n1".into(),
            source: Box::new(source),
        };
        let killed = MachineEnd::Killed { signal: 9 };
        let (init, machine) = (SandboxError::Lost(eof()), SandboxError::Machine(killed));
        assert!(init.is_lost() && machine.is_lost() && of_node(init).is_lost());
        let took = [
            SandboxError::Starved,
            MachineEnd::OutOfMemory.into(),
            of_node(SandboxError::Unwanted),
        ];
        assert!(!took.iter().any(SandboxError::is_lost));
    }

    #[test]
    fn what_goes_wrong_at_every_level_is_not_said_of_a_container() {
        let failed = || io::Error::from(io::ErrorKind::OutOfMemory);
        let setup = SandboxError::Setup {
            step: "joining the cgroup".into(),
            source: failed(),
        };
        for error in [
            setup,
            SandboxError::Init(failed()),
            SandboxError::Lost(failed()),
        ] {
            let told = error.to_string();
            assert!(
                told.contains("sandbox") && !told.contains("container"),
                "{told}"
            );
        }
    }
}
