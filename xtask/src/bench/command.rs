//! A command that can be run many times.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Words and environment; nothing is kept between runs.
#[derive(Debug, Clone)]
pub(super) struct Cmd {
    words: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
}

/// Builds a command from anything that reads as words.
macro_rules! cmd {
    ($($word:expr),+ $(,)?) => {
        $crate::bench::command::Cmd::new([$(::std::ffi::OsString::from($word)),+])
    };
}
pub(super) use cmd;

impl Cmd {
    pub(super) fn new(words: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            words: words.into_iter().collect(),
            variables: vec![],
        }
    }

    pub(super) fn env(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((key, value.into()));
        self
    }

    pub(super) fn args<I: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = I>) -> Self {
        self.words
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    fn build(&self) -> Result<Command> {
        let (program, rest) = self.words.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(rest).stdin(Stdio::null());
        for (key, value) in &self.variables {
            command.env(key, value);
        }
        Ok(command)
    }

    fn line(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|w| w.to_string_lossy()).collect();
        words.join(" ")
    }

    /// The wall time of one run that must succeed, from before the start to after the reaping.
    pub(super) fn time(&self) -> Result<Duration> {
        let mut command = self.build()?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status();
        let took = start.elapsed();
        if status.is_ok_and(|status| status.success()) {
            return Ok(took);
        }
        // Once more, for the reason.
        self.output()?;
        bail!("`{}` fails at times", self.line())
    }

    /// The processor time of one run that must succeed, in user mode and in the kernel.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let script = r#"TIMEFORMAT="%3U %3S"; { time "$@" >/dev/null 2>&1; } 2>&1"#;
        let mut timed = cmd!["bash", "-c", script, "bash"].args(&self.words);
        timed.variables.clone_from(&self.variables);
        let Ok(told) = timed.output() else {
            // Once more, for the reason.
            self.output()?;
            bail!("`{}` fails at times", self.line())
        };
        let seconds: Result<Vec<f64>, _> = told.split_whitespace().map(str::parse).collect();
        let seconds = seconds.context("bash tells no times")?;
        Ok(Duration::from_secs_f64(seconds.iter().sum()))
    }

    /// What one run that must succeed prints.
    pub(super) fn output(&self) -> Result<String> {
        let output = self.build()?.output().with_context(|| self.line())?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = stderr.lines().collect();
            let last = lines[lines.len().saturating_sub(2)..].join("; ");
            bail!("`{}`: {}: {last}", self.line(), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`Cmd::output`], for what it does.
    pub(super) fn run(&self) -> Result<()> {
        self.output().map(drop)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_command_that_fails_says_its_last_words() {
        let error = cmd!["sh", "-c", "echo why >&2; exit 3"]
            .time()
            .expect_err("fails");
        assert!(format!("{error:#}").contains("why"), "{error:#}");
    }

    #[test]
    fn the_processor_time_of_a_command_is_what_it_works_for() {
        let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo $A >&2; sleep 0.2";
        let time = cmd!["sh", "-c", work].env("A", "a").processor_time();
        let time = time.expect("runs").as_secs_f64();
        assert!(time > 0.02, "{time}");
        let rest = cmd!["sleep", "0.2"].processor_time().expect("runs");
        assert!(rest.as_secs_f64() < 0.1, "{rest:?}");
        let error = cmd!["sh", "-c", "echo why >&2; exit 3"].processor_time();
        let error = error.expect_err("fails");
        assert!(format!("{error:#}").contains("why"), "{error:#}");
    }

    #[test]
    fn a_command_gets_its_words_and_environment() {
        let out = cmd!["sh", "-c", "echo $A $0"]
            .args(["b"])
            .env("A", "a")
            .output();
        assert_eq!(out.expect("runs"), "a b\n");
    }
}
