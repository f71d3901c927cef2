//! A log in the Standard Workload Format as jobs: read from a file, by the rules of
//! the simulator, nothing left out in silence.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_formats::swf::{self, Said};
use hyperion_model::Class;
use hyperion_sched::Time;
use hyperion_sim::batch::{Dropped, Job, Logged};

use crate::errors::advised;
use crate::output;

/// So much of a log is read at once; a line that is longer is none of a log.
const AT_ONCE: usize = 64 << 10;

/// A log that was read.
pub(super) struct Trace {
    /// How many processors its machine has.
    pub(super) processors: u64,
    /// How many nodes that had, where the log says it.
    pub(super) nodes: Option<u64>,
    /// Its jobs, by their submission.
    pub(super) jobs: Vec<Found>,
}

/// A job of a log.
pub(super) struct Found {
    pub(super) job: Job,
    /// Whose it is; negative where the log does not say it.
    user: i64,
    /// Seconds that it really waited, where the log says it.
    wait: i64,
    line: u64,
}

impl Found {
    /// Tells whose it is, where the log says it.
    pub(super) fn user(&self) -> Option<i64> {
        Some(self.user).filter(|user| *user >= 0)
    }

    /// Gives when it really started, where the log says it.
    pub(super) fn started(&self) -> Option<Time> {
        let wait = u64::try_from(self.wait).ok()?;
        Some(self.job.submit + Duration::from_secs(wait))
    }
}

/// What is left out of a log, and how often, and where first.
#[derive(Default)]
struct Left(BTreeMap<String, (u64, u64)>);

impl Left {
    fn note(&mut self, why: impl ToString, line: u64) {
        self.0.entry(why.to_string()).or_insert((0, line)).0 += 1;
    }

    fn say(&self) {
        for (why, (count, first)) in &self.0 {
            let jobs = if *count == 1 { "job" } else { "jobs" };
            output::talk(
                "note",
                format!("{count} {jobs} left out: {why} (first in line {first})"),
            );
        }
    }
}

/// Reads a log, gzipped or plain; `-` is standard input.
///
/// # Errors
/// The first line that is none of a log, unless such are to be left out; a log that
/// does not say how large its machine is, where nobody else does.
pub(super) fn read(
    path: &Path,
    processors: Option<u64>,
    skip_malformed: bool,
) -> anyhow::Result<Trace> {
    let cannot = || format!("cannot read {}", path.display());
    let mut text = Text::open(path).with_context(cannot)?;
    let mut number = 0;
    let (mut procs, mut nodes) = (None, None);
    let mut jobs: Vec<Found> = Vec::new();
    let mut left = Left::default();
    while let Some(lines) = text.more().with_context(cannot)? {
        for said in swf::lines(lines) {
            number += 1;
            match said {
                Ok(Said::Head("MaxProcs", text)) => procs = size(text),
                Ok(Said::Head("MaxNodes", text)) => nodes = size(text),
                Ok(Said::Head(..) | Said::Nothing) => {}
                Ok(Said::Job(job)) => {
                    let logged = Logged {
                        submit: job.submit,
                        run: job.run,
                        allocated: job.allocated,
                        requested: job.requested,
                        requested_time: job.requested_time,
                    };
                    // How large the machine is may be said after its jobs.
                    match Job::of(logged, u64::MAX) {
                        Ok(its) => jobs.push(Found {
                            job: its,
                            user: job.user,
                            wait: job.wait,
                            line: number,
                        }),
                        Err(why) => left.note(why, number),
                    }
                }
                Err(error) if skip_malformed => left.note(error, number),
                Err(error) => {
                    return Err(advised(
                        Class::User,
                        format!("{}, line {number}: {error}", path.display()),
                        "a log has a line of 18 numbers for each job; --skip-malformed leaves \
                         out what has not",
                    ));
                }
            }
        }
    }
    let size = processors.or(procs).or(nodes).ok_or_else(|| {
        advised(
            Class::User,
            format!(
                "{} does not say how many processors its machine had",
                path.display()
            ),
            "--processors says it",
        )
    })?;
    jobs.retain(|found| {
        let fits = found.job.processors <= size;
        if !fits {
            left.note(format!("{}, {size}", Dropped::TooLarge), found.line);
        }
        fits
    });
    sort(&mut jobs);
    left.say();
    Ok(Trace {
        processors: size,
        nodes,
        jobs,
    })
}

/// Puts jobs in the order of their submission, and says so where they are not.
fn sort(jobs: &mut [Found]) {
    let submit = |found: &Found| found.job.submit;
    let mut pairs = jobs.windows(2);
    let early = pairs.find(|pair| submit(&pair[1]) < submit(&pair[0]));
    if let Some([_, Found { line, .. }]) = early {
        output::talk(
            "note",
            format!("not in the order of submission (first in line {line}): put in order"),
        );
        jobs.sort_by_key(submit);
    }
}

fn size(text: &str) -> Option<u64> {
    let word = text.split_whitespace().next()?;
    word.parse().ok().filter(|size| *size > 0)
}

/// A text, some whole lines at a time.
struct Text {
    from: Box<dyn Read>,
    /// What was read, as far as `length`.
    bytes: Box<[u8]>,
    length: usize,
    /// How much of that was given.
    given: usize,
}

impl Text {
    /// Opens a file, gzipped or plain; `-` is standard input.
    fn open(path: &Path) -> io::Result<Self> {
        let from: Box<dyn Read> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path)?),
        };
        let mut from = BufReader::with_capacity(AT_ONCE, from);
        let from: Box<dyn Read> = match from.fill_buf()? {
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
            _ => Box::new(from),
        };
        Ok(Self {
            from,
            bytes: vec![0; AT_ONCE].into(),
            length: 0,
            given: 0,
        })
    }

    /// Gives the next lines; `None` at the end. The last one may have no end, nor has one
    /// that is too long.
    fn more(&mut self) -> io::Result<Option<&[u8]>> {
        // The last line goes on with what comes.
        self.bytes.copy_within(self.given..self.length, 0);
        self.length -= self.given;
        self.given = 0;
        while self.length < self.bytes.len() {
            match self.from.read(&mut self.bytes[self.length..]) {
                Ok(0) => break,
                Ok(more) => self.length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let all = &self.bytes[..self.length];
        let last = all.iter().rposition(|byte| *byte == b'\n');
        self.given = match last {
            Some(last) if self.length == self.bytes.len() => last + 1,
            _ => self.length,
        };
        Ok((self.given > 0).then_some(&self.bytes[..self.given]))
    }
}
