//! A log in the Standard Workload Format as jobs: read from a file, by the rules of
//! the simulator, nothing left out in silence.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_formats::swf::{self, Said};
use hyperion_model::Class;
use hyperion_sched::Time;
use hyperion_sim::batch::{Dropped, Job, Logged, Machine};

use crate::errors::advised;
use crate::output;

/// A line that is longer is none of a log.
const LONGEST_LINE: u64 = 64 << 10;

/// A log that was read.
pub(super) struct Trace {
    /// What it ran on.
    pub(super) machine: Machine,
    /// How many nodes that had, where the log says it.
    pub(super) nodes: Option<u64>,
    /// Its jobs, by their submission.
    pub(super) jobs: Vec<Job>,
    /// Where each really started, where the log says it.
    pub(super) starts: Vec<Option<Time>>,
}

/// What a line of a log says of a job.
struct Found {
    line: u64,
    wait: i64,
    logged: Logged,
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
    let mut lines = open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut line = Vec::new();
    let mut number = 0;
    let (mut procs, mut nodes) = (None, None);
    let mut found: Vec<Found> = Vec::new();
    let mut left = Left::default();
    loop {
        line.clear();
        let read = (&mut lines)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            break;
        }
        number += 1;
        match swf::read(&line) {
            Ok(Said::Head("MaxProcs", text)) => procs = size(text),
            Ok(Said::Head("MaxNodes", text)) => nodes = size(text),
            Ok(Said::Head(..) | Said::Nothing) => {}
            Ok(Said::Job(job)) => found.push(Found {
                line: number,
                wait: job.wait,
                logged: Logged {
                    submit: job.submit,
                    run: job.run,
                    allocated: job.allocated,
                    requested: job.requested,
                    requested_time: job.requested_time,
                },
            }),
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
    let all = sorted(found, size, &mut left);
    left.say();
    let (jobs, starts) = all.into_iter().unzip();
    Ok(Trace {
        machine: Machine::of(size),
        nodes,
        jobs,
        starts,
    })
}

/// A job, and when it really started.
type Started = (Job, Option<Time>);

/// Gives the jobs that can run, in the order of their submission.
fn sorted(found: Vec<Found>, machine: u64, left: &mut Left) -> Vec<Started> {
    let mut jobs = Vec::with_capacity(found.len());
    let mut early = None;
    for Found { line, wait, logged } in found {
        match Job::of(logged, machine) {
            Ok(job) => {
                let last = jobs.last().map(|(last, _): &Started| last.submit);
                if last.is_some_and(|last| job.submit < last) {
                    early.get_or_insert(line);
                }
                let wait = u64::try_from(wait).map(Duration::from_secs);
                jobs.push((job, wait.ok().map(|wait| job.submit + wait)));
            }
            Err(why @ Dropped::TooLarge) => left.note(format!("{why}, {machine}"), line),
            Err(why) => left.note(why, line),
        }
    }
    if let Some(line) = early {
        output::talk(
            "note",
            format!("not in the order of submission (first in line {line}): put in order"),
        );
        jobs.sort_by_key(|(job, _)| job.submit);
    }
    jobs
}

fn size(text: &str) -> Option<u64> {
    let word = text.split_whitespace().next()?;
    word.parse().ok().filter(|size| *size > 0)
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut from: Box<dyn BufRead> = match path.as_os_str() == "-" {
        true => Box::new(BufReader::new(io::stdin())),
        false => Box::new(BufReader::new(File::open(path)?)),
    };
    Ok(match from.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(from))),
        _ => from,
    })
}
