//! Slurm: what its commands of 22.05 were seen to print.

mod accounts;
mod sacct;
mod scontrol;
mod sinfo;
mod squeue;
mod steps;
mod table;

pub use accounts::{SACCTMGR, SSHARE, Sacctmgr, Sshare};
pub use sacct::{SACCT, Sacct};
pub use scontrol::{job, node, partition, reservation};
pub use sinfo::{SINFO, Sinfo};
pub use squeue::{SQUEUE, Squeue};
pub use steps::{Steps, step};

use std::time::Duration;

use hyperion_model::submission::{Condition, Event, JobWord};
use hyperion_model::task::State;
use hyperion_model::view::{JobView, Terms, Waits};

use super::{full_clock, waits};

/// Slurm's words for a state, the short one first.
pub fn state(state: State) -> (&'static str, &'static str) {
    match state {
        State::Pending | State::Held => ("PD", "PENDING"),
        State::Configuring => ("CF", "CONFIGURING"),
        State::Running => ("R", "RUNNING"),
        State::Suspended => ("S", "SUSPENDED"),
        State::Completing => ("CG", "COMPLETING"),
        State::Completed => ("CD", "COMPLETED"),
        State::Failed => ("F", "FAILED"),
        State::Cancelled => ("CA", "CANCELLED"),
        State::TimedOut => ("TO", "TIMEOUT"),
        State::OutOfMemory => ("OOM", "OUT_OF_MEMORY"),
        State::NodeFailed => ("NF", "NODE_FAIL"),
        State::Preempted => ("PR", "PREEMPTED"),
    }
}

/// The states that may be asked for.
const STATES: [State; 12] = [
    State::Pending,
    State::Running,
    State::Suspended,
    State::Completed,
    State::Cancelled,
    State::Failed,
    State::TimedOut,
    State::NodeFailed,
    State::Preempted,
    State::OutOfMemory,
    State::Completing,
    State::Configuring,
];

/// Reads names of states, short or long.
///
/// # Errors
/// The first word that is none.
pub fn states(words: &[String]) -> Result<Option<Vec<State>>, String> {
    let mut all = Vec::new();
    for word in words {
        let upper = word.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(None);
        }
        // Those that never come about here are no error.
        let elsewhere = [
            "BF",
            "BOOT_FAIL",
            "DL",
            "DEADLINE",
            "RQ",
            "REQUEUED",
            "RS",
            "RESIZING",
            "RV",
            "REVOKED",
            "SE",
            "SPECIAL_EXIT",
            "ST",
            "STOPPED",
            "SI",
            "SIGNALING",
            "SO",
            "STAGE_OUT",
            "RD",
            "RESV_DEL_HOLD",
            "RF",
            "REQUEUE_FED",
            "RH",
            "REQUEUE_HOLD",
        ];
        let found = STATES.into_iter().find(|known| {
            let (short, long) = state(*known);
            upper == short || upper == long
        });
        match found {
            Some(found) => all.push(found),
            None if elsewhere.contains(&upper.as_str()) => {}
            None => return Err(word.clone()),
        }
    }
    if all.contains(&State::Pending) {
        all.push(State::Held);
    }
    Ok(Some(all))
}

/// Names the states that may be asked for.
pub fn known_states() -> String {
    STATES.map(|known| state(known).1).join(",")
}

/// Says in one word why a task waits, or how it ended.
fn reason(job: &JobView) -> &'static str {
    match (&job.reason, job.state) {
        (Some(Waits::HeldByUser), _) => "JobHeldUser",
        (Some(Waits::HeldByOperator), _) => "JobHeldAdmin",
        (Some(Waits::Begins(_)), _) => "BeginTime",
        (Some(Waits::Depends), _) => "Dependency",
        (Some(Waits::DependsInVain), _) => "DependencyNeverSatisfied",
        (Some(Waits::AtOnce), _) => "JobArrayTaskLimit",
        (Some(Waits::Resources(_)), _) => "Resources",
        (Some(Waits::Turn), _) => "Priority",
        (Some(Waits::Limit(_)), _) => "AssocGrpCpuLimit",
        (Some(Waits::NodesClosed), _) => "ReqNodeNotAvail",
        (Some(Waits::PartitionClosed(_)), _) => "PartitionDown",
        (Some(Waits::MadeRoom(_)), _) => "None",
        (None, State::Held) => "JobHeldUser",
        (None, State::Failed) => "NonZeroExitCode",
        (None, State::TimedOut) => "TimeLimit",
        (None, State::OutOfMemory) => "OutOfMemory",
        (None, State::NodeFailed) => "NodeDown",
        (None, _) => "None",
    }
}

/// Writes the number of a task: `12`, `12_7`, `12_[8-10%2]`.
fn id(job: &JobView, brackets: bool) -> String {
    match &job.index {
        None => job.job.to_string(),
        Some(index) if brackets && waits(job) => format!("{}_[{index}]", job.job),
        Some(index) => format!("{}_{index}", job.job),
    }
}

/// Writes a span as squeue does: `0:07`, `5:00`, `1:00:00`, `1-00:00:00`.
fn short_clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match seconds {
        0..3600 => format!("{minutes}:{rest:02}"),
        3600..86_400 => format!("{}:{minutes:02}:{rest:02}", seconds / 3600),
        _ => full_clock(span),
    }
}

/// Writes an amount of memory with the letter that makes it short: `8000M`, `1.50G`.
fn megabytes(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}

fn hosts(job: &JobView) -> String {
    crate::jobs::hosts::compress(&job.hosts)
}

/// Puts a text into a column: cut, and filled on the side that it asks for.
fn column(text: &str, width: usize, right: bool) -> String {
    let text = super::cut(text, width);
    match right {
        true => format!("{text:>width$}"),
        false => format!("{text:<width$}"),
    }
}

/// A piece of a format: `x%.10M` is a text and a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column {
        letter: char,
        width: Option<usize>,
        right: bool,
    },
}

/// Reads a format of squeue and sinfo.
///
/// # Errors
/// What stands behind a `%` and is no column.
fn pieces(format: &str, known: impl Fn(char) -> bool) -> Result<Vec<Piece>, char> {
    let mut all = Vec::new();
    let mut text = String::new();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let right = rest.next_if_eq(&'.').is_some();
        let mut width = None;
        while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
            rest.next();
            width = Some((width.unwrap_or(0) * 10 + digit as usize).min(10_000));
        }
        let letter = rest.next().unwrap_or('%');
        if !known(letter) {
            return Err(letter);
        }
        if !text.is_empty() {
            all.push(Piece::Text(std::mem::take(&mut text)));
        }
        all.push(Piece::Column {
            letter,
            width,
            right,
        });
    }
    if !text.is_empty() {
        all.push(Piece::Text(text));
    }
    Ok(all)
}

/// Writes one line in a format.
fn write(pieces: &[Piece], value: impl Fn(char) -> String) -> String {
    let mut line = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => line.push_str(text),
            Piece::Column {
                letter,
                width,
                right,
            } => {
                let value = value(*letter);
                match width {
                    Some(width) => line.push_str(&column(&value, *width, *right)),
                    None => line.push_str(&value),
                }
            }
        }
    }
    line
}

/// Gives names of hosts as a list that Slurm folds, where there are any.
fn listed(hosts: &[String]) -> Option<String> {
    (!hosts.is_empty()).then(|| crate::jobs::hosts::compress(hosts))
}

/// Gives licences as `matlab:2,ansys:1`.
fn licences(terms: &Terms) -> Option<String> {
    let all = terms.licences.iter();
    let all: Vec<String> = all.map(|(name, count)| format!("{name}:{count}")).collect();
    (!all.is_empty()).then(|| all.join(","))
}

/// Gives what a job waits for of others: `afterok:12(unfulfilled)`.
fn dependency(job: &JobView) -> Option<String> {
    let how = match job.reason {
        Some(Waits::Depends) => "unfulfilled",
        Some(Waits::DependsInVain) => "failed",
        _ => return None,
    };
    Some(condition(job.terms.after.as_ref()?, how))
}

fn condition(condition: &Condition, how: &str) -> String {
    let all = |parts: &[Condition], between: &str| {
        let parts: Vec<String> = parts
            .iter()
            .map(|part| self::condition(part, how))
            .collect();
        parts.join(between)
    };
    match condition {
        Condition::All(parts) => all(parts, ","),
        Condition::Any(parts) => all(parts, "?"),
        // Slurm has no word for it; LSF, which has, writes it so.
        Condition::Not(part) => format!("!{}", self::condition(part, how)),
        Condition::Singleton => format!("singleton({how})"),
        Condition::Job(on, event) => {
            let which = match &on.job {
                JobWord::Number(number) => number.to_string(),
                JobWord::Name(name) => name.clone(),
            };
            let tasks = on.tasks.as_ref();
            let tasks = tasks.map_or_else(String::new, |tasks| format!("_[{tasks}]"));
            let (word, delay) = match event {
                Event::Started(delay) => ("after", delay.as_secs() / 60),
                Event::Ended | Event::SameEnded => ("afterany", 0),
                Event::Succeeded => ("afterok", 0),
                Event::Failed => ("afternotok", 0),
                Event::SameSucceeded => ("aftercorr", 0),
                // Of LSF alone.
                Event::Exited(..) => ("exit", 0),
                Event::Tasks(..) => ("tasks", 0),
            };
            let delay = match delay {
                0 => String::new(),
                minutes => format!("+{minutes}"),
            };
            format!("{word}:{which}{tasks}{delay}({how})")
        }
    }
}
