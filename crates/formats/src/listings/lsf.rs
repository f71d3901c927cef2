//! LSF: what its commands print, as its manual shows it.

use std::fmt::Write as _;

use hyperion_model::task::State;
use hyperion_model::view::{JobView, NodeView, PartitionView, Waits};

use super::words::{Opt, Takes};
use super::{Site, closed, cpu_time, cpus, cut, exit};

use Takes::{Nothing, Value};

/// The options of bjobs.
pub const BJOBS: &[Opt] = &[
    Opt(&["-noheader"], Nothing),
    Opt(&["-o"], Value),
    Opt(&["-json"], Nothing),
    Opt(&["-w"], Nothing),
    Opt(&["-W"], Nothing),
    Opt(&["-a"], Nothing),
    Opt(&["-d"], Nothing),
    Opt(&["-r"], Nothing),
    Opt(&["-p"], Nothing),
    Opt(&["-s"], Nothing),
    Opt(&["-l"], Nothing),
    Opt(&["-A"], Nothing),
    Opt(&["-u"], Value),
    Opt(&["-J"], Value),
    Opt(&["-q"], Value),
    Opt(&["-m"], Value),
    Opt(&["-P"], Value),
    Opt(&["-X"], Nothing),
    Opt(&["-V"], Nothing),
    Opt(&["-h"], Nothing),
];

/// The options of bkill.
pub const BKILL: &[Opt] = &[
    Opt(&["-s"], Value),
    Opt(&["-r"], Nothing),
    Opt(&["-u"], Value),
    Opt(&["-J"], Value),
    Opt(&["-q"], Value),
    Opt(&["-V"], Nothing),
    Opt(&["-h"], Nothing),
];

/// The options of bmod; which of them can be changed is seen when they are read. With an
/// `n` behind them they take something away.
pub const BMOD: &[Opt] = &[
    Opt(&["-b"], Value),
    Opt(&["-bn"], Nothing),
    Opt(&["-G"], Value),
    Opt(&["-J"], Value),
    Opt(&["-Jd"], Value),
    Opt(&["-M"], Value),
    Opt(&["-m"], Value),
    Opt(&["-n"], Value),
    Opt(&["-P"], Value),
    Opt(&["-q"], Value),
    Opt(&["-R"], Value),
    Opt(&["-sp"], Value),
    Opt(&["-w"], Value),
    Opt(&["-wn"], Nothing),
    Opt(&["-W"], Value),
    Opt(&["-Wn"], Nothing),
    Opt(&["-V"], Nothing),
    Opt(&["-h"], Nothing),
];

/// The options of bqueues and bhosts.
pub const BQUEUES: &[Opt] = &[
    Opt(&["-w"], Nothing),
    Opt(&["-l"], Nothing),
    Opt(&["-V"], Nothing),
    Opt(&["-h"], Nothing),
];

/// LSF's word for a state.
pub fn state(job: &JobView) -> &'static str {
    match job.state {
        State::Pending => "PEND",
        State::Held => "PSUSP",
        State::Configuring | State::Running | State::Completing => "RUN",
        State::Suspended => "USUSP",
        State::Completed => "DONE",
        _ => "EXIT",
    }
}

/// Writes the number of a task: `12`, `12[7]`.
pub fn id(job: &JobView) -> String {
    match &job.index {
        None => job.job.to_string(),
        Some(index) => format!("{}[{index}]", job.job),
    }
}

/// Columns by their names, the first of which is the heading, and how wide they are:
/// all that bjobs has.
const COLUMNS: &[(&[&str], usize)] = &[
    (&["JOBID", "id"], 7),
    (&["JOBINDEX"], 8),
    (&["STAT"], 5),
    (&["USER"], 7),
    (&["USER_GROUP", "ugroup"], 15),
    (&["QUEUE"], 10),
    (&["JOB_NAME", "name"], 10),
    (&["JOB_DESCRIPTION", "description"], 17),
    (&["PROJ_NAME", "proj", "project"], 11),
    (&["APPLICATION", "app"], 13),
    (&["SERVICE_CLASS", "sla"], 13),
    (&["JOB_GROUP", "group"], 10),
    (&["JOB_PRIORITY", "priority"], 12),
    (&["RSVID"], 40),
    (&["ESUB"], 20),
    (&["KILL_REASON"], 50),
    (&["SUSPEND_REASON"], 50),
    (&["RESUME_REASON"], 50),
    (&["KILL_ISSUE_HOST"], 50),
    (&["SUSPEND_ISSUE_HOST"], 50),
    (&["RESUME_ISSUE_HOST"], 50),
    (&["DEPENDENCY"], 15),
    (&["PEND_REASON"], 11),
    (&["CHARGED_SAAP", "saap"], 50),
    (&["COMMAND", "cmd"], 15),
    (&["PRE_EXEC_COMMAND", "pre_cmd"], 16),
    (&["POST_EXEC_COMMAND", "post_cmd"], 17),
    (&["RESIZE_NOTIFICATION_COMMAND", "resize_cmd"], 27),
    (&["PIDS"], 20),
    (&["EXIT_CODE"], 10),
    (&["EXIT_REASON"], 50),
    (&["INTERACTIVE"], 11),
    (&["FROM_HOST"], 11),
    (&["FIRST_HOST"], 11),
    (&["EXEC_HOST"], 11),
    (&["NEXEC_HOST"], 10),
    (&["ASK_HOSTS"], 30),
    (&["ALLOC_SLOT"], 20),
    (&["NALLOC_SLOT"], 10),
    (&["HOST_FILE"], 10),
    (&["EXCLUSIVE"], 13),
    (&["NREQ_SLOT"], 10),
    (&["SUBMIT_TIME"], 15),
    (&["START_TIME"], 15),
    (&["ESTIMATED_START_TIME", "estart_time"], 20),
    (&["SPECIFIED_START_TIME", "sstart_time"], 20),
    (&["SPECIFIED_TERMINATE_TIME", "sterminate_time"], 24),
    (&["TIME_LEFT"], 11),
    (&["FINISH_TIME"], 16),
    (&["ESTIMATED_RUN_TIME", "ertime"], 20),
    (&["RU_UTIME"], 12),
    (&["RU_STIME"], 12),
    (&["%COMPLETE"], 11),
    (&["WARNING_ACTION", "warn_act"], 15),
    (&["ACTION_WARNING_TIME", "warn_time"], 19),
    (&["PENDSTATE"], 9),
    (&["PEND_TIME"], 12),
    (&["EPENDTIME"], 12),
    (&["IPENDTIME"], 12),
    (&["ESTIMATED_SIM_START_TIME", "esstart_time"], 24),
    (&["EFFECTIVE_PLIMIT"], 18),
    (&["PLIMIT_REMAIN"], 15),
    (&["EFFECTIVE_EPLIMIT"], 19),
    (&["EPLIMIT_REMAIN"], 16),
    (&["CPU_USED"], 10),
    (&["RUN_TIME"], 15),
    (&["IDLE_FACTOR"], 11),
    (&["EXCEPTION_STATUS", "except_stat"], 16),
    (&["SLOTS"], 5),
    (&["MEM"], 10),
    (&["MAX_MEM"], 10),
    (&["AVG_MEM"], 10),
    (&["MEMLIMIT"], 10),
    (&["SWAP"], 10),
    (&["SWAPLIMIT"], 10),
    (&["GPU_NUM", "gnum"], 10),
    (&["GPU_MODE", "gmode"], 20),
    (&["J_EXCLUSIVE", "j_excl"], 15),
    (&["GPU_ALLOC", "galloc"], 30),
    (&["NTHREADS"], 10),
    (&["HRUSAGE"], 50),
    (&["MIN_REQ_PROC"], 12),
    (&["MAX_REQ_PROC"], 12),
    (&["EFFECTIVE_RESREQ", "eresreq"], 17),
    (&["COMBINED_RESREQ", "cresreq"], 20),
    (&["NETWORK_REQ"], 15),
    (&["FILELIMIT"], 10),
    (&["CORELIMIT"], 10),
    (&["STACKLIMIT"], 10),
    (&["PROCESSLIMIT"], 12),
    (&["RUNTIMELIMIT", "rtlimit"], 12),
    (&["PLIMIT"], 10),
    (&["EPLIMIT"], 10),
    (&["INPUT_FILE"], 10),
    (&["OUTPUT_FILE"], 11),
    (&["ERROR_FILE"], 10),
    (&["OUTPUT_DIR"], 15),
    (&["SUB_CWD"], 10),
    (&["EXEC_HOME"], 10),
    (&["EXEC_CWD"], 10),
    (&["LICPROJECT"], 20),
    (&["FORWARD_CLUSTER", "fwd_cluster"], 15),
    (&["FORWARD_TIME", "fwd_time"], 15),
    (&["SRCJOBID"], 8),
    (&["DSTJOBID"], 8),
    (&["SOURCE_CLUSTER", "srcluster"], 15),
    (&["ENERGY"], 15),
    (&["GPFSIO"], 15),
    (&["CPU_PEAK"], 10),
    (&["CPU_EFFICIENCY"], 10),
    (&["MEM_EFFICIENCY"], 10),
    (&["AVERAGE_CPU_EFFICIENCY"], 10),
    (&["CPU_PEAK_EFFICIENCY"], 10),
    (&["CPU_PEAK_REACHED_DURATION"], 10),
];

/// What stands where there is nothing.
const NOTHING: &str = "-";

fn value(name: &str, job: &JobView, site: &Site<'_>) -> String {
    let none = || NOTHING.to_owned();
    let at = |moment: Option<u64>| moment.map_or_else(none, |at| (site.local)(at).short());
    let size = |bytes: Option<hyperion_model::Bytes>| match bytes.map_or(0, |bytes| bytes.0) {
        0 => none(),
        bytes if bytes < 1 << 30 => format!("{} Mbytes", bytes.div_ceil(1 << 20)),
        bytes => {
            let tenths = bytes / ((1 << 30) / 10);
            format!("{}.{} Gbytes", tenths / 10, tenths % 10)
        }
    };
    let seconds = |span: std::time::Duration| format!("{} second(s)", span.as_secs());
    let ended = job.ended.is_some();
    match name {
        "JOBID" => id(job),
        "JOBINDEX" => job.index.clone().unwrap_or_else(|| "0".into()),
        "STAT" => state(job).into(),
        "USER" => job.user.clone(),
        "QUEUE" => job.queue.clone(),
        "JOB_NAME" => match &job.index {
            Some(index) => format!("{}[{index}]", job.name),
            None => job.name.clone(),
        },
        "JOB_DESCRIPTION" => job.comment.clone().unwrap_or_else(none),
        "PROJ_NAME" => "default".into(),
        "FROM_HOST" => site.host.into(),
        "EXEC_HOST" if !job.hosts.is_empty() => placed(job),
        "FIRST_HOST" => job.hosts.first().cloned().unwrap_or_else(none),
        "NEXEC_HOST" => job.hosts.len().to_string(),
        "SUBMIT_TIME" => at(Some(job.submitted)),
        "START_TIME" => at(job.started),
        "FINISH_TIME" => at(job.ended),
        "TIME_LEFT" if !ended => match (job.limit, job.started) {
            (Some(limit), Some(_)) => {
                let left = limit.saturating_sub(site.ran(job)).as_secs();
                format!("{}:{} L", left / 3600, left / 60 % 60)
            }
            _ => none(),
        },
        "RUN_TIME" if job.started.is_some() => seconds(site.ran(job)),
        "CPU_USED" => cpu_time(job).map_or_else(none, |cpu| {
            format!("{}.{} second(s)", cpu.as_secs(), cpu.subsec_millis() / 100)
        }),
        "MEM" | "MAX_MEM" | "AVG_MEM" => size(job.cost.as_ref().and_then(|cost| cost.memory_peak)),
        "MEMLIMIT" => size(Some(job.memory)),
        "RUNTIMELIMIT" => job.limit.map_or_else(none, |limit| {
            format!("{}.0/{}", limit.as_secs() / 60, site.host)
        }),
        "EXIT_CODE" if ended && job.state != State::Completed => {
            let (code, signal) = exit(job);
            match (job.state, signal) {
                (State::Cancelled, 0) => "130".into(),
                (State::TimedOut, 0) => "140".into(),
                (_, 0) => code.to_string(),
                (_, signal) => (128 + u16::from(signal)).to_string(),
            }
        }
        "EXIT_REASON" if ended => match job.state {
            State::TimedOut => "TERM_RUNLIMIT: job killed after reaching LSF run time limit".into(),
            State::OutOfMemory => {
                "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit".into()
            }
            State::Cancelled => "TERM_OWNER: job killed by owner".into(),
            _ => none(),
        },
        "PEND_REASON" => job
            .reason
            .as_ref()
            .map_or_else(none, |reason| pend_reason(reason).into()),
        "PEND_TIME" => {
            let until = job.started.or(job.ended).unwrap_or(site.now);
            (until.saturating_sub(job.submitted) / 1_000_000).to_string()
        }
        "SLOTS" | "NREQ_SLOT" | "NALLOC_SLOT" => cpus(job).to_string(),
        "PENDSTATE" => match (job.state, &job.reason) {
            (State::Pending, Some(Waits::Resources(_) | Waits::Turn | Waits::Limit(_))) => "EPEND",
            (State::Pending | State::Held, _) => "IPEND",
            _ => "NOTPEND",
        }
        .into(),
        "JOB_PRIORITY" => job.terms.priority.map_or_else(none, |of| of.to_string()),
        "SPECIFIED_START_TIME" => at(job.terms.begin),
        "SPECIFIED_TERMINATE_TIME" => at(job.terms.deadline),
        "ASK_HOSTS" if !job.terms.with.is_empty() => job.terms.with.join(" "),
        "OUTPUT_FILE" => job.files.0.clone().unwrap_or_else(none),
        "ERROR_FILE" => job.files.1.clone().unwrap_or_else(none),
        "SUB_CWD" | "EXEC_CWD" => job.folder.clone(),
        "USER_GROUP" => job.account.clone().unwrap_or_else(none),
        _ => none(),
    }
}

fn placed(job: &JobView) -> String {
    let cpus = cpus(job);
    let many = if cpus > 1 {
        format!("{cpus}*")
    } else {
        String::new()
    };
    let hosts: Vec<String> = job
        .hosts
        .iter()
        .map(|host| format!("{many}{host}"))
        .collect();
    hosts.join(":")
}

fn pend_reason(reason: &Waits) -> &'static str {
    match reason {
        Waits::HeldByUser | Waits::HeldByOperator => "The job was suspended while it was pending;",
        Waits::Begins(_) => "The job has a specified start time;",
        Waits::Depends => "Job dependency condition not satisfied;",
        Waits::DependsInVain => "Dependency condition invalid or never satisfied;",
        Waits::AtOnce => "The job array has reached its running element limit;",
        Waits::Resources(_) => "Not enough slots on the hosts;",
        Waits::Turn => "New job is waiting for scheduling;",
        Waits::Limit(_) => "Resource limit defined has been reached;",
        Waits::NodesClosed => "Hosts are closed by the administrator;",
        Waits::PartitionClosed(_) => "The queue is inactivated by the administrator;",
        Waits::MadeRoom(_) => "Job was suspended by the system for a job of higher priority;",
    }
}

/// What `-o` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    columns: Vec<(&'static str, i64)>,
    between: Option<String>,
}

impl Columns {
    /// Reads `jobid stat:10 exit_code delimiter=','`.
    ///
    /// # Errors
    /// What bjobs would say.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut columns = Vec::new();
        let mut between = None;
        let (text, rest) = match text.find("delimiter=") {
            Some(at) => (&text[..at], &text[at + "delimiter=".len()..]),
            None => (text, ""),
        };
        if !rest.is_empty() {
            let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
            let inner = match quote {
                Some(quote) => rest[1..].split(quote).next().unwrap_or_default(),
                None => rest.trim_end(),
            };
            between = Some(inner.to_owned());
        }
        let words = text.split(|c: char| c.is_whitespace() || c == ',');
        for word in words.filter(|word| !word.is_empty()) {
            // `name:width:unit`; sizes are told with their units.
            let mut parts = word.split(':');
            let name = parts.next().unwrap_or_default();
            let width = parts.next().unwrap_or_default();
            let width = |usual: usize| match (width, width.parse::<i64>()) {
                ("-", _) => -(usual as i64),
                (_, Ok(width)) if width != 0 => width.clamp(-4096, 4096),
                _ => usual as i64,
            };
            if name == "all" {
                let every = COLUMNS.iter();
                columns.extend(every.map(|(names, usual)| (names[0], width(*usual))));
                continue;
            }
            let found = COLUMNS
                .iter()
                .find(|(names, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)));
            let (names, usual) = found.ok_or_else(|| format!("{name}: unknown field name"))?;
            columns.push((names[0], width(*usual)));
        }
        if columns.is_empty() {
            return Err("no field name is given".into());
        }
        Ok(Self { columns, between })
    }

    /// Names the fields that can be asked for.
    pub fn known() -> String {
        let names = COLUMNS
            .iter()
            .map(|(names, _)| names[0].to_ascii_lowercase());
        names.collect::<Vec<_>>().join(" ")
    }

    /// Writes the list.
    pub fn write(&self, jobs: &[JobView], site: &Site<'_>, head: bool) -> String {
        let mut out = String::new();
        if head {
            self.line(&mut out, |name| name.to_owned());
        }
        for job in jobs {
            self.line(&mut out, |name| value(name, job, site));
        }
        out
    }

    fn line(&self, out: &mut String, value: impl Fn(&str) -> String) {
        let cells = self.columns.iter().map(|(name, width)| {
            let text = value(name);
            let most = width.unsigned_abs() as usize;
            match (&self.between, *width < 0) {
                (Some(_), _) => text,
                (None, false) => format!("{:<most$}", cut(&text, most)),
                (None, true) => format!("{:>most$}", cut(&text, most)),
            }
        });
        let cells: Vec<String> = cells.collect();
        let line = cells.join(self.between.as_deref().unwrap_or(" "));
        // Loops of shell compare what they get with a word.
        let _ = writeln!(out, "{}", line.trim_end_matches(' '));
    }

    /// Gives the fields of a job as JSON has them.
    pub fn fields(&self, job: &JobView, site: &Site<'_>) -> Vec<(&'static str, String)> {
        let columns = self.columns.iter();
        let field = |name: &'static str| match value(name, job, site) {
            text if text == NOTHING => String::new(),
            text => text,
        };
        columns.map(|(name, _)| (*name, field(name))).collect()
    }
}

/// Writes the table of `bjobs`; with `wide` nothing is cut.
pub fn table(jobs: &[JobView], site: &Site<'_>, head: bool, wide: bool) -> String {
    let mut out = String::new();
    if head {
        out.push_str(
            "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n",
        );
    }
    for job in jobs {
        let cell = |name: &str, width: usize| {
            let text = value(name, job, site);
            match wide {
                true => format!("{text:<width$}"),
                false => format!("{:<width$}", cut(&text, width)),
            }
        };
        let host = match job.hosts.is_empty() {
            true => format!("{NOTHING:<11}"),
            false => cell("EXEC_HOST", 11),
        };
        let _ = writeln!(
            out,
            "{} {} {} {} {} {host} {} {}",
            cell("JOBID", 7),
            cell("USER", 7),
            cell("STAT", 5),
            cell("QUEUE", 10),
            cell("FROM_HOST", 11),
            cell("JOB_NAME", 10),
            value("SUBMIT_TIME", job, site),
        );
    }
    out
}

/// Writes `bqueues`.
pub fn queues(jobs: &[JobView], partitions: &[PartitionView]) -> String {
    let mut out = String::from(
        "QUEUE_NAME      PRIO STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN  SUSP \n",
    );
    for partition in partitions {
        let name = &partition.name;
        let its: Vec<&JobView> = jobs.iter().filter(|job| job.queue == *name).collect();
        let status = match (partition.takes, partition.starts) {
            (true, true) => "Open:Active",
            (true, false) => "Open:Inact",
            (false, true) => "Closed:Active",
            (false, false) => "Closed:Inact",
        };
        let slots = |states: &[&str]| -> u64 {
            let its = its.iter().filter(|job| states.contains(&state(job)));
            its.map(|job| cpus(job)).sum()
        };
        let (pend, run, stopped) = (
            slots(&["PEND"]),
            slots(&["RUN"]),
            slots(&["PSUSP", "USUSP"]),
        );
        let _ = writeln!(
            out,
            "{name:<15} {:>4} {:<14} {:>4} {:>4} {:>4} {:>4} {:>5} {pend:>5} {run:>5} {stopped:>5} ",
            partition.priority,
            status,
            "-",
            "-",
            "-",
            "-",
            pend + run + stopped,
        );
    }
    out
}

/// Writes `bhosts`.
pub fn hosts(nodes: &[NodeView]) -> String {
    let mut out = String::from(
        "HOST_NAME          STATUS       JL/U    MAX  NJOBS    RUN  SSUSP  USUSP    RSV \n",
    );
    for node in nodes {
        let (all, used) = (node.cores.0 / 1000, node.cores_used.0.div_ceil(1000));
        let status = match closed(node) {
            Some((true, _)) => "unavail",
            Some((false, _)) => "closed_Adm",
            None if used >= all => "closed",
            None => "ok",
        };
        let _ = writeln!(
            out,
            "{:<18} {status:<12} {:>4} {all:>6} {used:>6} {used:>6} {:>6} {:>6} {:>6} ",
            node.name, "-", 0, 0, 0
        );
    }
    out
}
