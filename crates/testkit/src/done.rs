//! What came of a command that has ended.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

/// Code, output and errors of a command, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The exit code; 128 and more for a signal, as a shell counts.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let signal = || output.status.signal().map_or(-1, |signal| 128 + signal);
        Self {
            code: output.status.code().unwrap_or_else(signal),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Done {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let output = command.output();
        output.unwrap_or_else(|e| panic!("{command:?}: {e}")).into()
    }

    /// Asserts that it ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Asserts that it ended well and gives its output without the line end.
    #[track_caller]
    pub fn ok(self) -> String {
        self.expect_code(0).out.trim_end().to_owned()
    }

    /// Asserts that standard error says this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no {text:?} in {self:?}");
        self
    }

    /// Asserts an error of Hyperion's own: code 125, and lines `error:` or
    /// `cause:` and `hint:` with these in them.
    #[track_caller]
    pub fn refused(self, error: &str, hint: &str) -> Self {
        let done = self.expect_code(125);
        let line = |starts: &[&str], text: &str| {
            let mut lines = done.err.lines();
            lines.any(|l| starts.iter().any(|start| l.starts_with(start)) && l.contains(text))
        };
        assert!(line(&["error: "], ""), "no error in {done:?}");
        assert!(
            line(&["error: ", "cause: "], error),
            "no {error:?} in {done:?}"
        );
        assert!(line(&["hint: "], hint), "no hint {hint:?} in {done:?}");
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_tells_code_output_and_errors() {
        let done = Done::of(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
        let expected = Done {
            code: 3,
            out: "out\n".into(),
            err: "err\n".into(),
        };
        assert_eq!(done, expected);
        assert_eq!(done.expect_code(3).says("err").out, "out\n");
        assert_eq!(
            Done::of(Command::new("sh").args(["-c", "kill -9 $$"])).code,
            137
        );
        assert_eq!(Done::of(Command::new("echo").arg("x")).ok(), "x");
    }
}
