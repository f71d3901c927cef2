//! `sacct`

use std::time::Duration;

use hyperion_model::Bytes;
use hyperion_model::errand::{Step, StepEnd};
use hyperion_model::report::Exit;
use hyperion_model::task::State;
use hyperion_model::view::JobView;

use super::{hosts, id, state};
use crate::listings::words::{Opt, Takes, Words};
use crate::listings::{Site, cpu_time, cpus, exit, full_clock};

use Takes::{Nothing, Value};

/// The options of sacct.
pub const SACCT: &[Opt] = &[
    Opt(&["--jobs", "-j"], Value),
    Opt(&["--format", "-o"], Value),
    Opt(&["--noheader", "-n"], Nothing),
    Opt(&["--parsable2", "-P"], Nothing),
    Opt(&["--parsable", "-p"], Nothing),
    Opt(&["--delimiter"], Value),
    Opt(&["--allocations", "-X"], Nothing),
    Opt(&["--user", "--uid", "-u"], Value),
    Opt(&["--allusers", "-a"], Nothing),
    Opt(&["--state", "-s"], Value),
    Opt(&["--name"], Value),
    Opt(&["--partition", "-r"], Value),
    Opt(&["--accounts", "-A"], Value),
    Opt(&["--nodelist", "-N"], Value),
    Opt(&["--starttime", "-S"], Value),
    Opt(&["--endtime", "-E"], Value),
    Opt(&["--brief", "-b"], Nothing),
    Opt(&["--long", "-l"], Nothing),
    Opt(&["--helpformat", "-e"], Nothing),
    Opt(&["--units"], Value),
    Opt(&["--noconvert"], Nothing),
    Opt(&["--array"], Nothing),
    Opt(&["--clusters", "--cluster", "-M"], Value),
    Opt(&["--allclusters", "-L"], Nothing),
    Opt(&["--local"], Nothing),
    Opt(&["--truncate", "-T"], Nothing),
    Opt(&["--duplicates", "-D"], Nothing),
    Opt(&["--completion", "-c"], Nothing),
    Opt(&["--qos", "-q"], Value),
    Opt(&["--verbose", "-v"], Nothing),
    Opt(&["--version", "-V"], Nothing),
    Opt(&["--help", "-h"], Nothing),
    Opt(&["--usage"], Nothing),
];

const USUAL: &str = "jobid,jobname,partition,account,alloccpus,state,exitcode";
const BRIEF: &str = "jobid,state,exitcode";
const LONG: &str = "jobid,jobidraw,jobname,partition,maxrss,ntasks,alloccpus,elapsed,state,exitcode,\
                    reqmem,start,end,totalcpu,nodelist";

/// The fields, with their usual width; a negative one fills on the right.
const FIELDS: &[(&str, i32)] = &[
    ("Account", 10),
    ("AllocCPUS", 10),
    ("AllocNodes", 10),
    ("AllocTRES", 10),
    ("AveCPU", 10),
    ("AveRSS", 10),
    ("Cluster", 10),
    ("Comment", 14),
    ("CPUTime", 10),
    ("CPUTimeRAW", 10),
    ("DerivedExitCode", 15),
    ("Elapsed", 10),
    ("ElapsedRaw", 10),
    ("Eligible", 19),
    ("End", 19),
    ("ExitCode", 8),
    ("GID", 6),
    ("Group", 9),
    ("JobID", -12),
    ("JobIDRaw", -12),
    ("JobName", 10),
    ("MaxDiskRead", 12),
    ("MaxDiskWrite", 12),
    ("MaxRSS", 10),
    ("MaxVMSize", 10),
    ("NCPUS", 10),
    ("NNodes", 8),
    ("NodeList", 15),
    ("NTasks", 8),
    ("Partition", 10),
    ("Planned", 10),
    ("Priority", 10),
    ("QOS", 10),
    ("Reason", 22),
    ("ReqCPUS", 8),
    ("ReqMem", 10),
    ("ReqNodes", 8),
    ("ReqTRES", 10),
    ("Reserved", 10),
    ("Start", 19),
    ("State", 10),
    ("Submit", 19),
    ("Suspended", 10),
    ("SystemCPU", 10),
    ("Timelimit", 10),
    ("TimelimitRaw", 12),
    ("TotalCPU", 10),
    ("UID", 6),
    ("User", 9),
    ("UserCPU", 10),
    ("WCKey", 10),
    ("WorkDir", 20),
];

/// How the accounts of jobs are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sacct {
    head: bool,
    steps: bool,
    /// What stands between fields where they are not columns, and whether it stands at the end.
    between: Option<(String, bool)>,
    fields: Vec<(&'static str, i32)>,
}

impl Sacct {
    /// Reads how jobs are to be listed.
    ///
    /// # Errors
    /// What sacct would say.
    pub fn read(words: &Words, variable: Option<&str>) -> Result<Self, String> {
        let usual = match () {
            () if words.has("--brief") => BRIEF,
            () if words.has("--long") => LONG,
            () => variable.unwrap_or(USUAL),
        };
        let asked = words.list("--format");
        let asked = asked.unwrap_or_else(|| usual.split(',').map(str::to_owned).collect());
        let mut fields = Vec::new();
        for word in &asked {
            fields.extend(field(word)?);
        }
        let delimiter = words.value("--delimiter").unwrap_or("|").to_owned();
        let between = match (words.has("--parsable2"), words.has("--parsable")) {
            (true, _) => Some((delimiter, false)),
            (false, true) => Some((delimiter, true)),
            (false, false) => None,
        };
        Ok(Self {
            head: !words.has("--noheader"),
            steps: !words.has("--allocations"),
            between,
            fields,
        })
    }

    /// Names the fields that can be asked for.
    pub fn known() -> String {
        let names: Vec<String> = FIELDS
            .iter()
            .map(|(name, _)| format!("{name:<19}"))
            .collect();
        let lines = names
            .chunks(4)
            .map(|row| row.concat().trim_end().to_owned() + "\n");
        lines.collect()
    }

    /// Writes the list.
    pub fn write(&self, jobs: &[JobView], site: &Site<'_>) -> String {
        let mut out = String::new();
        if self.head {
            self.line(&mut out, |name| name.to_owned());
            if self.between.is_none() {
                for (_, width) in &self.fields {
                    out.push_str(&"-".repeat(width.unsigned_abs() as usize));
                    out.push(' ');
                }
                out.push('\n');
            }
        }
        for job in jobs {
            self.line(&mut out, |name| value(name, job, site));
            if self.steps && job.started.is_some() {
                if job.script {
                    self.line(&mut out, |name| script(name, job, site));
                }
                for its in job.steps() {
                    self.line(&mut out, |name| step(name, job, its, site));
                }
            }
        }
        out
    }

    fn line(&self, out: &mut String, value: impl Fn(&str) -> String) {
        let mut first = true;
        for (name, width) in &self.fields {
            let text = value(name);
            match &self.between {
                Some((between, _)) => {
                    if !first {
                        out.push_str(between);
                    }
                    out.push_str(&text);
                }
                None => {
                    out.push_str(&fit(&text, *width));
                    out.push(' ');
                }
            }
            first = false;
        }
        if let Some((between, true)) = &self.between {
            out.push_str(between);
        }
        out.push('\n');
    }
}

/// Reads `maxrss`, `jobname%30`, `jobname%-30`.
fn field(word: &str) -> Result<Vec<(&'static str, i32)>, String> {
    let (name, width) = word.split_once('%').unwrap_or((word, ""));
    if name.eq_ignore_ascii_case("all") {
        return Ok(FIELDS.to_vec());
    }
    let starts = |known: &str| {
        let head = known.get(..name.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(name))
    };
    let exact = |known: &str| known.eq_ignore_ascii_case(name);
    let mut fields = FIELDS.iter();
    let found = fields.clone().find(|(known, _)| exact(known));
    let found = found.or_else(|| fields.find(|(known, _)| !name.is_empty() && starts(known)));
    let (name, usual) = found.ok_or_else(|| format!("Invalid field requested: \"{name}\""))?;
    let width = width.parse::<i32>().ok().filter(|width| *width != 0);
    Ok(vec![(
        *name,
        width.unwrap_or(*usual).clamp(-10_000, 10_000),
    )])
}

/// Fits a text into a column; one that is cut ends in `+`.
fn fit(text: &str, width: i32) -> String {
    let most = width.unsigned_abs() as usize;
    let text = match text.chars().count() > most {
        true => format!("{}+", crate::listings::cut(text, most.saturating_sub(1))),
        false => text.to_owned(),
    };
    match width < 0 {
        true => format!("{text:<most$}"),
        false => format!("{text:>most$}"),
    }
}

fn value(name: &str, job: &JobView, site: &Site<'_>) -> String {
    let at = |moment: Option<u64>| moment.map_or("Unknown".into(), |at| (site.local)(at).iso());
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let ran = site.ran(job);
    let count = cpus(job);
    let started = job.started.is_some();
    match name {
        "Account" => given(&job.account),
        "AllocCPUS" | "NCPUS" => if started { count } else { 0 }.to_string(),
        "ReqCPUS" => count.to_string(),
        "AllocNodes" => if started { job.nodes } else { 0 }.to_string(),
        "NNodes" | "ReqNodes" => job.nodes.to_string(),
        "AllocTRES" if !started => String::new(),
        "AllocTRES" | "ReqTRES" => super::scontrol::tres(job),
        "Cluster" => "hyperion".into(),
        "Comment" => given(&job.comment),
        "CPUTime" => full_clock(ran * u32::try_from(count).unwrap_or(u32::MAX)),
        "CPUTimeRAW" => ran.as_secs().saturating_mul(count).to_string(),
        "DerivedExitCode" => "0:0".into(),
        "Elapsed" => full_clock(ran),
        "ElapsedRaw" => ran.as_secs().to_string(),
        "Eligible" | "Submit" => at(Some(job.submitted)),
        "Start" => at(job.started),
        "End" => at(job.ended),
        "ExitCode" => code(job),
        "UID" => job.uid.to_string(),
        "User" => job.user.clone(),
        "JobID" | "JobIDRaw" => id(job, true),
        "JobName" => job.name.clone(),
        "NodeList" if job.hosts.is_empty() && !started => "None assigned".into(),
        "NodeList" => hosts(job),
        "Partition" => job.queue.clone(),
        "Planned" | "Reserved" => {
            let until = job.started.or(job.ended).unwrap_or(site.now);
            full_clock(Duration::from_micros(until.saturating_sub(job.submitted)))
        }
        "Priority" => job.terms.priority.unwrap_or(0).to_string(),
        "QOS" => given(&job.qos),
        "Reason" => super::reason(job).into(),
        "ReqMem" => match job.memory.0 {
            0 => "0".into(),
            bytes => super::megabytes(bytes),
        },
        "State" if job.state == State::Cancelled => format!("CANCELLED by {}", job.uid),
        // What was told to end still runs, to an account.
        "State" if matches!(job.state, State::Completing | State::Configuring) => "RUNNING".into(),
        "State" => state(job.state).1.into(),
        "Suspended" => "00:00:00".into(),
        "SystemCPU" => cpu_clock(job.cost.as_ref().and_then(|cost| cost.cpu_system)),
        "UserCPU" => cpu_clock(job.cost.as_ref().and_then(|cost| cost.cpu_user)),
        "TotalCPU" => cpu_clock(cpu_time(job)),
        "Timelimit" => job.limit.map_or("UNLIMITED".into(), full_clock),
        "TimelimitRaw" => match job.limit {
            None => "UNLIMITED".into(),
            Some(limit) => (limit.as_secs() / 60).to_string(),
        },
        "WorkDir" => job.folder.clone(),
        // What an allocation does not have: AveCPU, MaxRSS, NTasks and so on.
        _ => String::new(),
    }
}

/// Writes an amount of memory or bytes as sacct does.
fn amount(bytes: Option<Bytes>) -> String {
    bytes.map_or_else(String::new, |bytes| match bytes.0 {
        0 => "0".into(),
        bytes => format!("{}K", bytes.div_ceil(1024)),
    })
}

/// What only an allocation has, and no step of it.
fn of_allocation(name: &str) -> bool {
    matches!(
        name,
        "Partition"
            | "User"
            | "UID"
            | "GID"
            | "Group"
            | "QOS"
            | "Timelimit"
            | "TimelimitRaw"
            | "Comment"
            | "WorkDir"
            | "Reason"
            | "DerivedExitCode"
            | "Reserved"
            | "Planned"
            | "Priority"
            | "ReqTRES"
            | "SubmitLine"
    )
}

/// The script as a step of its own, which has what a script used.
fn script(name: &str, job: &JobView, site: &Site<'_>) -> String {
    let cost = job.cost.as_ref();
    match name {
        name if of_allocation(name) => String::new(),
        "JobID" => format!("{}.batch", id(job, true)),
        "JobIDRaw" => format!("{}.batch", id(job, true)),
        "JobName" => "batch".into(),
        "State" if job.state == State::Cancelled => "CANCELLED".into(),
        "NTasks" => "1".into(),
        "MaxRSS" | "AveRSS" => amount(cost.and_then(|cost| cost.memory_peak)),
        "MaxDiskRead" => amount(cost.and_then(|cost| cost.io_read)),
        "MaxDiskWrite" => amount(cost.and_then(|cost| cost.io_written)),
        "AveCPU" => cpu_time(job).map_or_else(String::new, full_clock),
        name => value(name, job, site),
    }
}

/// What its script started with a launcher.
fn step(name: &str, job: &JobView, step: &Step, site: &Site<'_>) -> String {
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let from = job
        .started
        .unwrap_or(site.now)
        .saturating_add(micros(step.begun));
    let over = step.over.as_ref();
    let until = over.map(|over| from.saturating_add(micros(over.wall)));
    let ran = Duration::from_micros(until.unwrap_or(site.now).saturating_sub(from));
    let at = |moment: u64| (site.local)(moment).iso();
    let cpus = u64::from(step.tasks).max(1);
    match name {
        name if of_allocation(name) => String::new(),
        "JobID" | "JobIDRaw" => format!("{}.{}", id(job, true), step.number),
        "JobName" => step.name.clone(),
        "State" => step_state(job, step).into(),
        "ExitCode" => match over.map(|over| over.exit) {
            Some(Exit::Code(code)) => format!("{code}:0"),
            Some(Exit::Signal(signal)) => format!("0:{signal}"),
            None => "0:0".into(),
        },
        "AllocCPUS" | "NCPUS" | "ReqCPUS" => cpus.to_string(),
        "AllocNodes" | "NNodes" | "ReqNodes" => "1".into(),
        "AllocTRES" => format!("cpu={cpus},node=1"),
        "NTasks" => step.tasks.to_string(),
        "Elapsed" => full_clock(ran),
        "ElapsedRaw" => ran.as_secs().to_string(),
        "CPUTime" => full_clock(ran * step.tasks.max(1)),
        "CPUTimeRAW" => ran.as_secs().saturating_mul(cpus).to_string(),
        "Eligible" | "Submit" | "Start" => at(from),
        "End" => until.map_or("Unknown".into(), at),
        "SystemCPU" => cpu_clock(over.map(|over| over.cpu_system)),
        "UserCPU" => cpu_clock(over.map(|over| over.cpu_user)),
        "TotalCPU" => cpu_clock(over.map(|over| over.cpu_user + over.cpu_system)),
        "AveCPU" => over.map_or_else(String::new, |over| {
            full_clock((over.cpu_user + over.cpu_system) / step.tasks.max(1))
        }),
        "MaxRSS" | "AveRSS" => amount(over.map(|over| over.memory_peak)),
        "MaxDiskRead" | "MaxDiskWrite" | "MaxVMSize" | "ReqMem" => String::new(),
        name => value(name, job, site),
    }
}

/// Says how far a step is.
fn step_state(job: &JobView, step: &Step) -> &'static str {
    let told = matches!(
        job.state,
        State::Cancelled | State::TimedOut | State::Preempted | State::Completing
    );
    match &step.over {
        None => "RUNNING",
        Some(over) if over.timed_out => "TIMEOUT",
        Some(over) if over.cancelled => "CANCELLED",
        Some(over) if over.exit.is_success() => "COMPLETED",
        Some(StepEnd {
            exit: Exit::Signal(_),
            ..
        }) if told => "CANCELLED",
        Some(_) => "FAILED",
    }
}

/// Writes the exit code as `3:0`, or `0:9` for a signal.
pub(super) fn code(job: &JobView) -> String {
    match job.state {
        State::Cancelled | State::TimedOut | State::Preempted => "0:0".into(),
        State::OutOfMemory => "0:125".into(),
        _ => {
            let (code, signal) = exit(job);
            format!("{code}:{signal}")
        }
    }
}

/// Writes processor time as `00:01.250`, or `01:00:01` from an hour on.
fn cpu_clock(span: Option<Duration>) -> String {
    let span = span.unwrap_or_default();
    match span.as_secs() {
        seconds @ 0..3600 => {
            let millis = span.subsec_millis();
            format!("{:02}:{:02}.{millis:03}", seconds / 60, seconds % 60)
        }
        _ => full_clock(span),
    }
}
