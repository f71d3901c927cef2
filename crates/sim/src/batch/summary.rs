use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use hyperion_sched::Time;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::run::Ran;

/// What a slowdown counts at least as: so short a job would have an enormous one
/// (Feitelson and Rudolph, "Metrics and benchmarking for parallel job scheduling", 1998).
const SHORTEST: Duration = Duration::from_secs(10);

/// So many bytes are put into a digest at once.
const AT_ONCE: usize = 4096;

/// What jobs came to, by the definitions of the field. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How many ran.
    pub jobs: u64,
    /// How many processors the machine has.
    pub procs: u64,
    /// The mean time from submission to start.
    pub avg_wait: f64,
    /// The longest.
    pub max_wait: Seconds,
    /// The mean time from submission to end.
    pub avg_turnaround: f64,
    /// The mean bounded slowdown: max(1, (wait + run) / max(run, 10 s)).
    pub avg_bsld: f64,
    /// From the first submission to the last end.
    pub makespan: Seconds,
    /// The share of the processors' time over the makespan that jobs had.
    pub util: f64,
    /// The sum of all starts.
    pub start_sum: Seconds,
    /// How many did not wait.
    pub zero_wait: u64,
    /// The share that jobs had over a window, where one is stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What is seldom asked for.
    #[serde(flatten)]
    pub detail: Option<Detail>,
    /// SHA-256 over the lines `number start`, in the order of the trace: two schedules
    /// with the same are the same. Only where it is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_sha256: Option<String>,
}

/// The share of the processors' time that jobs had between two times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Window {
    /// From this time of the log on.
    pub from: Seconds,
    /// To this one.
    pub to: Seconds,
    /// The share.
    pub util: f64,
}

/// Metrics beside the usual ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Detail {
    /// The mean slowdown without a bound: (wait + run) / run.
    pub avg_slowdown: f64,
    /// How alike jobs were treated: the fairness index of Jain, Chiu and Hawe (1984) of their
    /// bounded slowdowns.
    pub fair_jobs: f64,
    /// How alike users were, by the means of theirs; where users are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fair_users: Option<f64>,
}

/// The fairness index of R. Jain, D. Chiu and W. Hawe, "A quantitative measure of fairness
/// and discrimination for resource allocation in shared computer systems", DEC-TR-301, 1984:
/// (Σx)² / (n Σx²), which is 1 where all have the same, and k / n where k of n have all.
#[derive(Debug, Clone, Copy, Default)]
struct Jain {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Jain {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn index(self) -> f64 {
        ratio(self.sum * self.sum, self.count as f64 * self.squares)
    }
}

/// A time in seconds, exact: whole as a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds {
    /// In microseconds.
    pub micros: u128,
}

impl Seconds {
    const fn of(time: Time) -> Self {
        Self {
            micros: time.0 as u128,
        }
    }

    /// Gives it as a number.
    pub fn as_f64(self) -> f64 {
        self.micros as f64 / 1e6
    }
}

impl fmt::Display for Seconds {
    /// Writes it with as many decimals as it has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.micros / 1_000_000, self.micros % 1_000_000);
        match u64::try_from(whole) {
            // A narrow number is written sooner than a wide one.
            Ok(whole) => whole.fmt(f)?,
            Err(_) => whole.fmt(f)?,
        }
        match rest {
            0 => Ok(()),
            rest => f.write_str(format!(".{rest:06}").trim_end_matches('0')),
        }
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.micros / 1_000_000) {
            Ok(whole) if self.micros.is_multiple_of(1_000_000) => serializer.serialize_u64(whole),
            _ => serializer.serialize_f64(self.as_f64()),
        }
    }
}

/// Adds up what ran.
#[derive(Debug, Clone)]
pub struct Tally {
    procs: u64,
    jobs: u64,
    zero_wait: u64,
    waits: u128,
    max_wait: Duration,
    turnarounds: u128,
    slowdowns: f64,
    starts: u128,
    work: u128,
    first: Option<Time>,
    last: Time,
    in_order: Option<Starts>,
    window: Option<(Time, Time)>,
    /// Processor time in microseconds that jobs had in the window.
    work_within: u128,
    detail: Option<Details>,
}

/// Adds up [`Detail`].
#[derive(Debug, Clone, Default)]
struct Details {
    slowdowns: f64,
    jobs: Jain,
    /// Bounded slowdowns of each user, added up, and how many.
    users: BTreeMap<i64, (f64, u64)>,
}

impl Details {
    fn summary(self) -> Detail {
        let mut users = Jain::default();
        for (sum, count) in self.users.values() {
            users.add(sum / *count as f64);
        }
        Detail {
            avg_slowdown: ratio(self.slowdowns, self.jobs.count as f64),
            fair_jobs: self.jobs.index(),
            fair_users: (users.count > 0).then(|| users.index()),
        }
    }
}

impl Tally {
    /// Begins, for a machine of so many processors.
    pub fn new(procs: u64) -> Self {
        Self {
            procs,
            jobs: 0,
            zero_wait: 0,
            waits: 0,
            max_wait: Duration::ZERO,
            turnarounds: 0,
            slowdowns: 0.0,
            starts: 0,
            work: 0,
            first: None,
            last: Time(0),
            in_order: None,
            window: None,
            work_within: 0,
            detail: None,
        }
    }

    /// Tells the utilization between two times, too.
    #[must_use]
    pub fn with_window(self, window: Option<(Time, Time)>) -> Self {
        Self { window, ..self }
    }

    /// Counts what is told in [`Detail`], too.
    #[must_use]
    pub fn in_detail(self) -> Self {
        Self {
            detail: Some(Details::default()),
            ..self
        }
    }

    /// Makes a digest of all starts, too; jobs of the trace below `first` are not to be added.
    #[must_use]
    pub fn with_digest(self, first: u64) -> Self {
        Self {
            in_order: Some(Starts {
                next: first,
                ..Starts::default()
            }),
            ..self
        }
    }

    /// Counts a job.
    pub fn add(&mut self, ran: &Ran) {
        self.add_of(ran, None);
    }

    /// Counts a job of a user, by the number in the log.
    pub fn add_of(&mut self, ran: &Ran, user: Option<i64>) {
        let wait = ran.start.since(ran.job.submit);
        let turnaround = wait + ran.job.run;
        self.jobs += 1;
        self.zero_wait += u64::from(wait.is_zero());
        self.waits += wait.as_micros();
        self.max_wait = self.max_wait.max(wait);
        self.turnarounds += turnaround.as_micros();
        let least = ran.job.run.max(SHORTEST).as_secs_f64();
        let slowdown = (turnaround.as_secs_f64() / least).max(1.0);
        self.slowdowns += slowdown;
        self.starts += u128::from(ran.start.0);
        self.work += ran.job.run.as_micros() * u128::from(ran.job.processors);
        let first = self.first.get_or_insert(ran.job.submit);
        *first = (*first).min(ran.job.submit);
        self.last = self.last.max(ran.end());
        if let Some(starts) = &mut self.in_order {
            starts.add(ran);
        }
        if let Some((from, to)) = self.window {
            let within = ran.end().min(to).since(ran.start.max(from));
            self.work_within += within.as_micros() * u128::from(ran.job.processors);
        }
        if let Some(detail) = &mut self.detail {
            detail.slowdowns += turnaround.as_secs_f64() / ran.job.run.as_secs_f64();
            detail.jobs.add(slowdown);
            if let Some(user) = user {
                let (sum, count) = detail.users.entry(user).or_default();
                *sum += slowdown;
                *count += 1;
            }
        }
    }

    /// Says what they came to.
    pub fn summary(self) -> Summary {
        let makespan = self.last.since(self.first.unwrap_or(self.last));
        let each = |micros: u128| ratio(micros as f64 / 1e6, self.jobs as f64);
        let had = self.procs as f64 * makespan.as_secs_f64();
        Summary {
            jobs: self.jobs,
            procs: self.procs,
            avg_wait: each(self.waits),
            max_wait: Seconds {
                micros: self.max_wait.as_micros(),
            },
            avg_turnaround: each(self.turnarounds),
            avg_bsld: ratio(self.slowdowns, self.jobs as f64),
            makespan: Seconds {
                micros: makespan.as_micros(),
            },
            util: ratio(self.work as f64 / 1e6, had),
            start_sum: Seconds {
                micros: self.starts,
            },
            zero_wait: self.zero_wait,
            window: self.window.map(|(from, to)| Window {
                from: Seconds::of(from),
                to: Seconds::of(to),
                util: ratio(
                    self.work_within as f64 / 1e6,
                    self.procs as f64 * to.since(from).as_secs_f64(),
                ),
            }),
            detail: self.detail.map(Details::summary),
            start_sha256: self.in_order.map(Starts::digest),
        }
    }
}

/// All starts, in the order of the trace.
#[derive(Debug, Clone, Default)]
struct Starts {
    digest: Sha256,
    /// Lines that are to be put into it.
    lines: Vec<u8>,
    /// The next job of the trace.
    next: u64,
    /// Starts of jobs that come after it.
    early: BTreeMap<u64, Time>,
}

impl Starts {
    fn add(&mut self, ran: &Ran) {
        if ran.number != self.next {
            self.early.insert(ran.number, ran.start);
            return;
        }
        self.write(ran.start);
        while let Some(start) = self.early.remove(&self.next) {
            self.write(start);
        }
    }

    /// Writes the start of the next job.
    fn write(&mut self, start: Time) {
        match (start.0 / 1_000_000, start.0 % 1_000_000) {
            // To format it would take longer than its digest.
            (whole, 0) => {
                let mut digits = itoa::Buffer::new();
                for (number, after) in [(self.next, b' '), (whole, b'\n')] {
                    self.lines
                        .extend_from_slice(digits.format(number).as_bytes());
                    self.lines.push(after);
                }
            }
            _ => {
                // To a list of bytes it never fails.
                let _ = writeln!(self.lines, "{} {}", self.next, Seconds::of(start));
            }
        }
        self.next += 1;
        if self.lines.len() > AT_ONCE {
            self.digest.update(&self.lines);
            self.lines.clear();
        }
    }

    fn digest(mut self) -> String {
        self.digest.update(&self.lines);
        let digest = self.digest.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Divides; what there is nothing of is nothing.
fn ratio(part: f64, whole: f64) -> f64 {
    match whole > 0.0 {
        true => part / whole,
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::ran;
    use super::*;

    #[test]
    fn utilization_is_that_of_the_window_which_is_stated() {
        let window = (Time::seconds(10), Time::seconds(30));
        let mut tally = Tally::new(4).with_window(Some(window));
        // Half within, all around, before, behind, and within.
        for its in [
            ran(0, 0, 20, 1),
            ran(0, 5, 100, 1),
            ran(0, 0, 10, 4),
            ran(0, 30, 10, 4),
            ran(0, 12, 5, 2),
        ] {
            tally.add(&its);
        }
        let found = tally.summary().window.expect("one is stated");
        assert_eq!(found.util, (10.0 + 20.0 + 10.0) / (4.0 * 20.0));
    }

    #[test]
    fn fairness_is_one_where_all_are_slowed_alike_and_less_where_one_pays() {
        let detail = |jobs: &[(Ran, Option<i64>)]| {
            let mut tally = Tally::new(4).in_detail();
            jobs.iter().for_each(|(ran, user)| tally.add_of(ran, *user));
            tally.summary().detail.expect("it was asked for")
        };
        // Each is slowed twice.
        let alike = [(ran(0, 20, 20, 1), Some(7)), (ran(0, 50, 50, 1), Some(8))];
        let found = detail(&alike);
        assert_eq!((found.fair_jobs, found.fair_users), (1.0, Some(1.0)));
        assert_eq!(found.avg_slowdown, 2.0);
        // By 1, 1 and 4: (1 + 1 + 4)² / (3 × 18). Of users 1 and (1 + 4) / 2.
        let one = [
            (ran(0, 0, 20, 1), Some(7)),
            (ran(0, 0, 20, 1), Some(8)),
            (ran(0, 60, 20, 1), Some(8)),
        ];
        let found = detail(&one);
        assert_eq!(found.fair_jobs, 36.0 / 54.0);
        assert_eq!(found.fair_users, Some(3.5 * 3.5 / (2.0 * 7.25)));
        // A short one counts as ten seconds but in the slowdown without a bound.
        let found = detail(&[(ran(0, 4, 1, 1), None)]);
        assert_eq!((found.avg_slowdown, found.fair_jobs), (5.0, 1.0));
        assert_eq!(found.fair_users, None);
    }
}
