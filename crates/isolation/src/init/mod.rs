//! The program that is PID 1 inside a sandbox.

use std::process::ExitCode;

/// Runs the init when this process was started as one; gives `None` otherwise.
pub fn entry() -> Option<ExitCode> {
    None
}
