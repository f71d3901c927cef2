//! What the commands of the batch systems print of jobs and nodes, and the
//! words that they take: `squeue -o '%i %T'`, `qstat -f`, `bjobs -o stat`.
//!
//! Other programs read what is printed here, so each column is as wide, and
//! each word the same, as there.

pub mod lsf;
pub mod pbs;
pub mod sge;
pub mod slurm;
pub mod words;

use std::fmt::Write as _;
use std::time::Duration;

use hyperion_model::Indices;
use hyperion_model::report::Exit;
use hyperion_model::task::{End, State};
use hyperion_model::view::{JobView, Moment, NodeView};

/// What is known where jobs are listed.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The name of this host.
    pub host: &'a str,
    /// Now.
    pub now: Moment,
    /// What the clock on the wall shows.
    pub local: &'a dyn Fn(Moment) -> Civil,
    /// What a user is called.
    pub user: &'a dyn Fn(u32) -> String,
}

/// What a clock on a wall shows, with a calendar beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// The year.
    pub year: i16,
    /// The month, from 1.
    pub month: u8,
    /// The day, from 1.
    pub day: u8,
    /// The hour, from 0.
    pub hour: u8,
    /// The minute.
    pub minute: u8,
    /// The second.
    pub second: u8,
    /// The day of the week, Sunday being 0.
    pub weekday: u8,
}

impl Civil {
    /// Writes it as `2026-11-21T23:40:37`.
    pub fn iso(self) -> String {
        let Self {
            year, month, day, ..
        } = self;
        format!("{year:04}-{month:02}-{day:02}T{}", self.clock())
    }

    /// Writes it as C's `ctime` does: `Sat Nov 21 23:40:37 2026`.
    pub fn ctime(self) -> String {
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        let weekday = days[usize::from(self.weekday) % 7];
        let (month, day) = (self.month_name(), self.day);
        format!("{weekday} {month} {day:>2} {} {}", self.clock(), self.year)
    }

    /// Writes it as LSF does: `Nov 21 23:40`.
    pub fn short(self) -> String {
        let (month, day) = (self.month_name(), self.day);
        format!("{month} {day:>2} {:02}:{:02}", self.hour, self.minute)
    }

    /// Writes it as Grid Engine does: `11/21/2026 23:40:37`.
    pub fn slashed(self) -> String {
        let (month, day) = (self.month, self.day);
        format!("{month:02}/{day:02}/{:04} {}", self.year, self.clock())
    }

    fn clock(self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }

    fn month_name(self) -> &'static str {
        let names = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        names[usize::from(self.month.max(1) - 1) % 12]
    }
}

impl Site<'_> {
    /// How long a task has run, or ran.
    fn ran(&self, job: &JobView) -> Duration {
        let end = job.ended.unwrap_or(self.now);
        let span = job.started.map_or(0, |from| end.saturating_sub(from));
        Duration::from_micros(span)
    }
}

/// Why nothing starts on a node: whether it is down altogether, and for what reason.
fn closed(node: &NodeView) -> Option<(bool, &str)> {
    let text = node.closed.as_deref()?;
    let (how, why) = text.split_once(": ").unwrap_or((text, ""));
    Some((how == "down", why))
}

/// Tells whether a task waits, held or not.
pub fn waits(job: &JobView) -> bool {
    matches!(job.state, State::Pending | State::Held)
}

/// The code and the signal with which a task ended.
fn exit(job: &JobView) -> (u8, u8) {
    match job.end {
        Some(End::Exit(Exit::Code(code))) => (code, 0),
        Some(End::Exit(Exit::Signal(signal))) => (0, signal),
        Some(End::OutOfMemory) => (0, 9),
        Some(End::Broken | End::Lost) => (1, 0),
        None => (0, 0),
    }
}

/// The processors of a task, as a whole number.
fn cpus(job: &JobView) -> u64 {
    job.cores.0.div_ceil(1000)
}

/// The processor time of a task.
fn cpu_time(job: &JobView) -> Option<Duration> {
    let cost = job.cost.as_ref()?;
    Some(cost.cpu_user? + cost.cpu_system.unwrap_or_default())
}

/// Gives each of the tasks that a view stands for one of its own: those of an
/// array that wait are one.
pub fn one_by_one(jobs: Vec<JobView>) -> Vec<JobView> {
    let mut all = Vec::with_capacity(jobs.len());
    for job in jobs {
        let indices = job.index.as_deref().filter(|_| waits(&job));
        let indices: Option<Indices> = indices.and_then(|text| {
            let text = text.split('%').next().unwrap_or(text);
            text.parse().ok()
        });
        match indices {
            None => all.push(job),
            Some(indices) => all.extend(indices.iter().map(|index| JobView {
                index: Some(index.to_string()),
                ..job.clone()
            })),
        }
    }
    all
}

/// Writes a span as `00:05:00`, or with days in front: `1-00:05:00`.
fn full_clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let mut text = String::new();
    if days > 0 {
        let _ = write!(text, "{days}-");
    }
    let _ = write!(
        text,
        "{hours:02}:{:02}:{:02}",
        seconds / 60 % 60,
        seconds % 60
    );
    text
}

/// Writes a span as `100:05:00`, however many hours there are.
fn hours_clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    format!("{:02}:{minutes:02}:{rest:02}", seconds / 3600)
}

/// Cuts a text to so many characters.
fn cut(text: &str, most: usize) -> &str {
    let end = text
        .char_indices()
        .nth(most)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// Matches a name against a pattern in which `*` stands for anything.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut open = false;
    let mut last = "";
    for part in parts {
        open = true;
        last = part;
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    match open {
        true => last.is_empty() || name.ends_with(last),
        false => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests;
