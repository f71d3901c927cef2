//! `squeue`

use std::cmp::Ordering;
use std::time::Duration;

use hyperion_model::view::JobView;

use super::{
    Piece, column, dependency, hosts, id, licences, listed, pieces, reason, short_clock, state,
    write,
};
use crate::listings::words::{Opt, Takes, Words};
use crate::listings::{Site, cpus, waits};

use Takes::{Attached, Nothing, Value};

/// The options of squeue.
pub const SQUEUE: &[Opt] = &[
    Opt(&["--noheader", "-h"], Nothing),
    Opt(&["--format", "-o"], Value),
    Opt(&["--Format", "-O"], Value),
    Opt(&["--jobs", "--job", "-j"], Attached),
    Opt(&["--user", "--users", "-u"], Value),
    Opt(&["--me"], Nothing),
    Opt(&["--states", "-t"], Value),
    Opt(&["--name", "-n"], Value),
    Opt(&["--partition", "-p"], Value),
    Opt(&["--account", "-A"], Value),
    Opt(&["--nodelist", "-w"], Value),
    Opt(&["--array", "-r"], Nothing),
    Opt(&["--array-unique"], Nothing),
    Opt(&["--sort", "-S"], Value),
    Opt(&["--long", "-l"], Nothing),
    Opt(&["--steps", "-s"], Attached),
    Opt(&["--start"], Nothing),
    Opt(&["--json"], Nothing),
    Opt(&["--all", "-a"], Nothing),
    Opt(&["--hide"], Nothing),
    Opt(&["--clusters", "--cluster", "-M"], Value),
    Opt(&["--local"], Nothing),
    Opt(&["--federation"], Nothing),
    Opt(&["--sibling"], Nothing),
    Opt(&["--qos", "-q"], Value),
    Opt(&["--licenses", "-L"], Value),
    Opt(&["--reservation", "-R"], Value),
    Opt(&["--priority", "-P"], Nothing),
    Opt(&["--notme"], Nothing),
    Opt(&["--verbose", "-v"], Nothing),
    Opt(&["--version", "-V"], Nothing),
    Opt(&["--help"], Nothing),
    Opt(&["--usage"], Nothing),
    Opt(&["--iterate", "-i"], Value),
];

const USUAL: &str = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R";
const LONG: &str = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R";
const START: &str = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R";

/// Columns by their letter, with the heading and the name for `--Format`.
const COLUMNS: &[(char, &str, &str)] = &[
    ('a', "ACCOUNT", "account"),
    ('A', "JOBID", "jobid"),
    ('b', "TRES_PER_NODE", "tres-per-node"),
    ('B', "EXEC_HOST", "batchhost"),
    ('c', "MIN_CPUS", "mincpus"),
    ('C', "CPUS", "numcpus"),
    ('d', "MIN_TMP_DISK", "mintmpdisk"),
    ('D', "NODES", "numnodes"),
    ('e', "END_TIME", "endtime"),
    ('E', "DEPENDENCY", "dependency"),
    ('f', "FEATURES", "feature"),
    ('F', "ARRAY_JOB_ID", "arrayjobid"),
    ('g', "GROUP", "groupname"),
    ('G', "GROUP", "groupid"),
    ('h', "OVER_SUBSCRIBE", "oversubscribe"),
    ('H', "SOCKETS_PER_NODE", "sockets"),
    ('i', "JOBID", "jobarrayid"),
    ('I', "CORES_PER_SOCKET", "cores"),
    ('j', "NAME", "name"),
    ('J', "THREADS_PER_CORE", "threads"),
    ('k', "COMMENT", "comment"),
    ('K', "ARRAY_TASK_ID", "arraytaskid"),
    ('l', "TIME_LIMIT", "timelimit"),
    ('L', "TIME_LEFT", "timeleft"),
    ('m', "MIN_MEMORY", "minmemory"),
    ('M', "TIME", "timeused"),
    ('n', "REQ_NODES", "reqnodes"),
    ('N', "NODELIST", "nodelist"),
    ('o', "COMMAND", "command"),
    ('O', "CONTIGUOUS", "contiguous"),
    ('p', "PRIORITY", "priority"),
    ('P', "PARTITION", "partition"),
    ('q', "QOS", "qos"),
    ('Q', "PRIORITY", "prioritylong"),
    ('r', "REASON", "reason"),
    ('R', "NODELIST(REASON)", "reasonlist"),
    ('s', "", "selectjobinfo"),
    ('S', "START_TIME", "starttime"),
    ('t', "ST", "statecompact"),
    ('T', "STATE", "state"),
    ('u', "USER", "username"),
    ('U', "UID", "userid"),
    ('v', "RESERVATION", "reservation"),
    ('V', "SUBMIT_TIME", "submittime"),
    ('w', "WCKEY", "wckey"),
    ('W', "LICENSES", "licenses"),
    ('x', "EXC_NODES", "excnodes"),
    ('X', "CORE_SPEC", "corespec"),
    ('y', "NICE", "nice"),
    ('Y', "SCHEDNODES", "schednodes"),
    ('z', "S:C:T", "sct"),
    ('Z', "WORK_DIR", "workdir"),
    // These have no letter there; `--Format` alone knows them.
    ('\u{1}', "NTASKS", "numtasks"),
    ('\u{2}', "RESTART_COUNT", "restartcnt"),
    ('\u{3}', "exit_code", "exit_code"),
    ('\u{4}', "REQUEUE", "requeue"),
];

fn heading(letter: char) -> String {
    let found = COLUMNS.iter().find(|(known, ..)| *known == letter);
    found.map_or_else(
        || letter.to_string(),
        |(_, heading, _)| (*heading).to_owned(),
    )
}

fn value(letter: char, job: &JobView, site: &Site<'_>) -> String {
    let at = |moment: Option<u64>| moment.map_or("N/A".into(), |at| (site.local)(at).iso());
    let none = || "(null)".to_owned();
    let terms = &job.terms;
    match letter {
        'a' => job.account.clone().unwrap_or_else(none),
        'A' | 'F' => job.job.to_string(),
        'b' | 'X' => "N/A".into(),
        'B' => job.hosts.first().cloned().unwrap_or_else(|| "n/a".into()),
        'c' => "1".into(),
        'C' => cpus(job).to_string(),
        'D' => job.nodes.to_string(),
        'e' => at(end(job)),
        'g' | 'G' => none(),
        'h' => "OK".into(),
        'H' | 'I' | 'J' => "*".into(),
        'i' => id(job, true),
        'j' => job.name.clone(),
        'k' => job.comment.clone().unwrap_or_else(none),
        'K' => job.index.clone().unwrap_or_else(|| "N/A".into()),
        'l' => job.limit.map_or("UNLIMITED".into(), short_clock),
        'L' => match job.limit {
            None => "UNLIMITED".into(),
            Some(limit) => short_clock(limit.saturating_sub(site.ran(job))),
        },
        'm' => match job.memory.0 {
            0 => "0".into(),
            bytes => super::megabytes(bytes),
        },
        'M' => short_clock(site.ran(job)),
        'n' => listed(&terms.with).unwrap_or_default(),
        's' => String::new(),
        'x' => listed(&terms.without).unwrap_or_default(),
        'N' => hosts(job),
        'd' | 'O' => "0".into(),
        'y' => terms.nice.to_string(),
        'Q' => terms.priority.unwrap_or(0).to_string(),
        'p' => format!(
            "{:.14}",
            f64::from(terms.priority.unwrap_or(0)) / f64::from(u32::MAX)
        ),
        'P' => job.queue.clone(),
        'r' => reason(job).into(),
        'R' if waits(job) => format!("({})", reason(job)),
        'R' => hosts(job),
        'S' => at(job.started.or(terms.begin.filter(|_| waits(job)))),
        't' => state(job.state).0.into(),
        'T' => state(job.state).1.into(),
        'u' => job.user.clone(),
        'U' => job.uid.to_string(),
        'V' => at(Some(job.submitted)),
        'z' => "*:*:*".into(),
        'Z' => job.folder.clone(),
        'o' => job.command.clone().unwrap_or_else(none),
        '\u{1}' => job.tasks.to_string(),
        '\u{2}' => job.starts.saturating_sub(1).to_string(),
        '\u{4}' => u8::from(terms.requeue != Some(false)).to_string(),
        '\u{3}' => crate::listings::exit(job).0.to_string(),
        'q' => job.qos.clone().unwrap_or_else(none),
        'E' => dependency(job).unwrap_or_else(none),
        'f' => terms.features.clone().unwrap_or_else(none),
        'v' => terms.reservation.clone().unwrap_or_else(none),
        'W' => licences(terms).unwrap_or_else(none),
        // w Y
        _ => none(),
    }
}

/// When a task ended, or has to end.
fn end(job: &JobView) -> Option<u64> {
    let last = |limit: Duration| {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        job.started.map(|from| from.saturating_add(limit))
    };
    job.ended.or_else(|| job.limit.and_then(last))
}

/// How jobs are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Squeue {
    head: bool,
    shape: Shape,
    sort: Vec<(char, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Pieces(Vec<Piece>),
    /// Columns of `--Format`, with their width and what stands behind them.
    Names(Vec<(char, usize, bool, String)>),
}

impl Squeue {
    /// Reads how jobs are to be listed.
    ///
    /// # Errors
    /// What squeue would say.
    pub fn read(words: &Words, variable: Option<&str>) -> Result<Self, String> {
        let usual = match () {
            () if words.has("--start") => START,
            () if words.has("--long") => LONG,
            () => USUAL,
        };
        let shape = match words.value("--Format") {
            Some(names) => Shape::Names(named(names)?),
            None => {
                let format = words.value("--format").or(variable).unwrap_or(usual);
                let format = match format {
                    "%all" => all(),
                    format => format.to_owned(),
                };
                let known = |letter| COLUMNS.iter().any(|(known, ..)| *known == letter);
                let pieces = pieces(&format, known);
                Shape::Pieces(
                    pieces
                        .map_err(|letter| format!("Invalid job format specification: {letter}"))?,
                )
            }
        };
        let mut sort = Vec::new();
        for key in words.list("--sort").unwrap_or_default() {
            let (key, down) = match key.strip_prefix('-') {
                Some(key) => (key.to_owned(), true),
                None => (key.trim_start_matches('+').to_owned(), false),
            };
            sort.extend(key.chars().next().map(|letter| (letter, down)));
        }
        Ok(Self {
            head: !words.has("--noheader"),
            shape,
            sort,
        })
    }

    /// Writes the list.
    pub fn write(&self, mut jobs: Vec<JobView>, site: &Site<'_>) -> String {
        // As squeue does where nobody says otherwise: those that wait first.
        jobs.sort_by_key(|job| !waits(job));
        for (letter, down) in self.sort.iter().rev() {
            jobs.sort_by(|a, b| {
                let order = compare(*letter, a, b, site);
                if *down { order.reverse() } else { order }
            });
        }
        let mut out = String::new();
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        if self.head {
            line(self.line(heading));
        }
        for job in &jobs {
            line(self.line(|letter| value(letter, job, site)));
        }
        out
    }

    fn line(&self, value: impl Fn(char) -> String) -> String {
        match &self.shape {
            Shape::Pieces(pieces) => write(pieces, value),
            Shape::Names(names) => {
                let cell = |(letter, width, right, behind): &(char, usize, bool, String)| {
                    column(&value(*letter), *width, *right) + behind
                };
                names.iter().map(cell).collect()
            }
        }
    }
}

fn compare(letter: char, a: &JobView, b: &JobView, site: &Site<'_>) -> Ordering {
    match letter {
        'i' | 'A' | 'F' => (a.job, &a.index).cmp(&(b.job, &b.index)),
        'S' => (a.started, a.submitted).cmp(&(b.started, b.submitted)),
        'V' => a.submitted.cmp(&b.submitted),
        'M' => site.ran(a).cmp(&site.ran(b)),
        'l' => a.limit.cmp(&b.limit),
        'C' => a.cores.cmp(&b.cores),
        'D' => a.nodes.cmp(&b.nodes),
        'p' | 'Q' => a.terms.priority.cmp(&b.terms.priority),
        letter => value(letter, a, site).cmp(&value(letter, b, site)),
    }
}

fn all() -> String {
    let letters = COLUMNS.iter().filter(|(letter, ..)| letter.is_alphabetic());
    let columns = letters.map(|(letter, ..)| format!("%{letter}"));
    columns.collect::<Vec<_>>().join("|")
}

/// Reads `jobid,state:20,name:.8`.
fn named(text: &str) -> Result<Vec<(char, usize, bool, String)>, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (name, size) = part.split_once(':').unwrap_or((part, ""));
        let lower = name.trim().to_ascii_lowercase();
        let found = COLUMNS.iter().find(|(.., known)| *known == lower);
        let (letter, ..) =
            found.ok_or_else(|| format!("Invalid job format specification: {name}"))?;
        let right = size.starts_with('.');
        let size = size.trim_start_matches('.');
        let digits = size
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(size.len());
        let width = size[..digits].parse::<usize>().unwrap_or(20).min(10_000);
        all.push((*letter, width, right, size[digits..].to_owned()));
    }
    Ok(all)
}
