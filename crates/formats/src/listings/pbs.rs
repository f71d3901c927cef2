//! PBS: what its commands print, as OpenPBS writes it.

use std::fmt::Write as _;

use hyperion_model::task::State;
use hyperion_model::view::{JobView, NodeView, PartitionView};

use super::words::{Opt, Takes};
use super::{Site, closed, cpu_time, cpus, cut, exit, hours_clock, waits};

use Takes::{Nothing, Value};

/// The options of qstat.
pub const QSTAT: &[Opt] = &[
    Opt(&["-f"], Nothing),
    Opt(&["-F"], Value),
    Opt(&["-x"], Nothing),
    Opt(&["-H"], Nothing),
    Opt(&["-u"], Value),
    Opt(&["-a"], Nothing),
    Opt(&["-i"], Nothing),
    Opt(&["-r"], Nothing),
    Opt(&["-n"], Nothing),
    Opt(&["-s"], Nothing),
    Opt(&["-w"], Nothing),
    Opt(&["-1"], Nothing),
    Opt(&["-t"], Nothing),
    Opt(&["-J"], Nothing),
    Opt(&["-p"], Nothing),
    Opt(&["-Q"], Nothing),
    Opt(&["-B"], Nothing),
    Opt(&["-D"], Value),
];

/// The options of qdel.
pub const QDEL: &[Opt] = &[Opt(&["-x"], Nothing), Opt(&["-W"], Value)];

/// The options of qhold and qrls.
pub const QHOLD: &[Opt] = &[Opt(&["-h"], Value)];

/// The options of qalter, each with a value; which of them can be changed is seen when they
/// are read.
pub const QALTER: &[Opt] = &[
    Opt(&["-a"], Value),
    Opt(&["-A"], Value),
    Opt(&["-c"], Value),
    Opt(&["-e"], Value),
    Opt(&["-h"], Value),
    Opt(&["-j"], Value),
    Opt(&["-k"], Value),
    Opt(&["-l"], Value),
    Opt(&["-m"], Value),
    Opt(&["-M"], Value),
    Opt(&["-N"], Value),
    Opt(&["-o"], Value),
    Opt(&["-p"], Value),
    Opt(&["-P"], Value),
    Opt(&["-q"], Value),
    Opt(&["-r"], Value),
    Opt(&["-S"], Value),
    Opt(&["-u"], Value),
    Opt(&["-W"], Value),
];

/// The options of pbsnodes.
pub const PBSNODES: &[Opt] = &[
    Opt(&["-a"], Nothing),
    Opt(&["-l"], Nothing),
    Opt(&["-v"], Nothing),
    Opt(&["-S"], Nothing),
    Opt(&["-j"], Nothing),
];

/// PBS's letter for a state.
pub fn letter(job: &JobView) -> char {
    use hyperion_model::view::Waits;
    match job.state {
        State::Held => 'H',
        State::Pending => match job.reason {
            Some(Waits::Begins(_)) => 'W',
            Some(Waits::Depends | Waits::DependsInVain) => 'H',
            _ => 'Q',
        },
        State::Configuring | State::Running => 'R',
        State::Suspended => 'S',
        State::Completing => 'E',
        // A task of an array that is over has another letter than a job.
        _ if job.index.is_some() => 'X',
        _ => 'F',
    }
}

/// Writes the number of a task: `12.host`, `12[7].host`, `12[].host`.
pub fn id(job: &JobView, host: &str) -> String {
    match &job.index {
        None => format!("{}.{host}", job.job),
        Some(_) if waits(job) => format!("{}[].{host}", job.job),
        Some(index) => format!("{}[{index}].{host}", job.job),
    }
}

/// Writes the table of `qstat`; nothing where there are no jobs.
pub fn table(jobs: &[JobView], site: &Site<'_>) -> String {
    let mut out = String::new();
    if jobs.is_empty() {
        return out;
    }
    out.push_str(
        "Job id            Name             User              Time Use S Queue\n\
         ----------------  ---------------- ----------------  -------- - -----\n",
    );
    for job in jobs {
        let id = id(job, site.host);
        let used = cpu_time(job).map_or_else(|| "0".into(), hours_clock);
        let (name, user) = (cut(&job.name, 15), cut(&job.user, 16));
        let (id, queue, state) = (cut(&id, 17), cut(&job.queue, 15), letter(job));
        let _ = writeln!(
            out,
            "{id:<17} {name:<16} {user:<16}  {used:>8} {state} {queue:<15}"
        );
    }
    out
}

/// Writes the table of `qstat -a` and the like.
pub fn wide_table(jobs: &[JobView], site: &Site<'_>, hosts: bool) -> String {
    let mut out = String::new();
    if jobs.is_empty() {
        return out;
    }
    let _ = write!(
        out,
        "\n{}: \n{:60}Req'd  Req'd   Elap\n\
         Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time\n\
         --------------- -------- -------- ---------- ------ --- --- ------ ----- - -----\n",
        site.host, ""
    );
    for job in jobs {
        let minutes = |span: std::time::Duration| {
            let minutes = span.as_secs() / 60;
            format!("{:02}:{:02}", minutes / 60, minutes % 60)
        };
        let memory = match job.memory.0 {
            0 => "--".into(),
            bytes => format!("{}mb", bytes >> 20),
        };
        let limit = job.limit.map_or_else(|| "--".into(), minutes);
        let ran = match job.started {
            Some(_) => minutes(site.ran(job)),
            None => "--".into(),
        };
        let id = id(job, site.host);
        let _ = writeln!(
            out,
            "{:<15} {:<8} {:<8} {:<10} {:>6} {:>3} {:>3} {:>6} {:>5} {} {:>5}",
            cut(&id, 15),
            cut(&job.user, 8),
            cut(&job.queue, 8),
            cut(&job.name, 10),
            "--",
            job.nodes,
            cpus(job),
            cut(&memory, 6),
            cut(&limit, 5),
            letter(job),
            cut(&ran, 5),
        );
        if hosts && !job.hosts.is_empty() {
            let _ = writeln!(out, "   {}", placed(job));
        }
    }
    out
}

/// Writes `host/0*4`.
fn placed(job: &JobView) -> String {
    let cpus = cpus(job);
    let many = if cpus > 1 {
        format!("*{cpus}")
    } else {
        String::new()
    };
    let hosts: Vec<String> = job
        .hosts
        .iter()
        .map(|host| format!("{host}/0{many}"))
        .collect();
    hosts.join("+")
}

/// Gives the attributes of a job in their order; those with a dot belong to one another.
pub fn attributes(job: &JobView, site: &Site<'_>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| all.push((name.to_owned(), value));
    let at = |moment: u64| (site.local)(moment).ctime();
    put("Job_Name", job.name.clone());
    put("Job_Owner", format!("{}@{}", job.user, site.host));
    if job.started.is_some() {
        if let Some(cpu) = cpu_time(job) {
            let wall = site.ran(job).as_millis().max(1);
            put(
                "resources_used.cpupercent",
                (cpu.as_millis() * 100 / wall).to_string(),
            );
            put("resources_used.cput", hours_clock(cpu));
        }
        if let Some(peak) = job.cost.as_ref().and_then(|cost| cost.memory_peak) {
            put("resources_used.mem", format!("{}kb", peak.0.div_ceil(1024)));
        }
        put("resources_used.ncpus", cpus(job).to_string());
        put("resources_used.walltime", hours_clock(site.ran(job)));
    }
    put("job_state", letter(job).to_string());
    put("queue", job.queue.clone());
    put("server", site.host.to_owned());
    if let Some(account) = &job.account {
        put("Account_Name", account.clone());
    }
    if let Some(index) = &job.index {
        match waits(job) {
            true => {
                put("array", "True".into());
                let indices = index.split('%').next().unwrap_or(index);
                put("array_indices_remaining", indices.to_owned());
            }
            false => {
                put("array_id", format!("{}[].{}", job.job, site.host));
                put("array_index", index.clone());
            }
        }
    }
    put("Checkpoint", "u".into());
    put("ctime", at(job.submitted));
    if !job.hosts.is_empty() {
        put("exec_host", placed(job));
        let chunk = |host: &String| format!("({host}:ncpus={})", cpus(job));
        let vnodes: Vec<String> = job.hosts.iter().map(chunk).collect();
        put("exec_vnode", vnodes.join("+"));
    }
    put(
        "Hold_Types",
        if job.state == State::Held { "u" } else { "n" }.into(),
    );
    put(
        "mtime",
        at(job.ended.or(job.started).unwrap_or(job.submitted)),
    );
    put("Priority", "0".into());
    put("qtime", at(job.submitted));
    put("Rerunable", "True".into());
    if job.memory.0 > 0 {
        put("Resource_List.mem", format!("{}kb", job.memory.0 >> 10));
    }
    put("Resource_List.ncpus", cpus(job).to_string());
    put("Resource_List.nodect", job.nodes.to_string());
    if let Some(limit) = job.limit {
        put("Resource_List.walltime", hours_clock(limit));
    }
    if let Some(started) = job.started {
        put("stime", at(started));
    }
    let variables = format!("PBS_O_WORKDIR={0},PBS_O_HOST={1}", job.folder, site.host);
    put("Variable_List", variables);
    if let Some(comment) = comment(job) {
        put("comment", comment);
    }
    put("etime", at(job.submitted));
    if job.starts > 0 {
        put("run_count", job.starts.to_string());
    }
    if job.ended.is_some() {
        let (code, signal) = exit(job);
        let status = match job.state {
            State::Cancelled | State::TimedOut => 271,
            _ if signal > 0 => 256 + i32::from(signal),
            State::NodeFailed => -25,
            _ => i32::from(code),
        };
        put("Exit_status", status.to_string());
    }
    put("project", "_pbs_project_default".into());
    all
}

fn comment(job: &JobView) -> Option<String> {
    use hyperion_model::view::Waits;
    let text = match job.reason {
        Some(Waits::Resources(_)) => "Not Running: Insufficient amount of resource: ncpus",
        Some(Waits::Turn) => "Not Running: Job would conflict with reservation or top job",
        Some(Waits::AtOnce) => "Not Running: Job Array max_run_subjobs limit reached",
        _ => return job.why.clone(),
    };
    Some(text.to_owned())
}

/// Writes `qstat -f`; `wrap` breaks long lines as PBS does.
pub fn full(job: &JobView, site: &Site<'_>, wrap: bool) -> String {
    let mut out = format!("Job Id: {}\n", id(job, site.host));
    for (name, value) in attributes(job, site) {
        let line = format!("    {name} = {value}");
        out.push_str(&if wrap { folded(&line) } else { line });
        out.push('\n');
    }
    out.push('\n');
    out
}

/// Breaks a line behind commas, so that it has at most 79 characters where it can.
fn folded(line: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for piece in line.split_inclusive(',') {
        let length = piece.chars().count();
        if width > 0 && width + length > 79 {
            out.push_str("\n\t");
            width = 8;
        }
        out.push_str(piece);
        width += length;
    }
    out
}

/// Writes the table of `qstat -Q`.
pub fn queues(jobs: &[JobView], partitions: &[PartitionView]) -> String {
    let mut out = String::from(
        "Queue              Max   Tot Ena Str   Que   Run   Hld   Wat   Trn   Ext Type\n\
         ---------------- ----- ----- --- --- ----- ----- ----- ----- ----- ----- ----\n",
    );
    let yes = |is: bool| if is { "yes" } else { "no" };
    for partition in partitions {
        let name = &partition.name;
        let (enabled, started) = (yes(partition.takes), yes(partition.starts));
        let its: Vec<char> = jobs
            .iter()
            .filter(|job| job.queue == *name)
            .map(letter)
            .collect();
        let count = |letter| its.iter().filter(|l| **l == letter).count();
        let total = its.iter().filter(|l| !matches!(l, 'F' | 'X')).count();
        let _ = writeln!(
            out,
            "{name:<16} {:>5} {total:>5} {enabled:>3} {started:>3} {:>5} {:>5} {:>5} {:>5} {:>5} {:>5} Exec",
            0,
            count('Q'),
            count('R'),
            count('H'),
            count('W'),
            0,
            count('E'),
        );
    }
    out
}

/// Writes `qstat -B`.
pub fn server(jobs: &[JobView], host: &str) -> String {
    let count = |wanted| jobs.iter().filter(|job| letter(job) == wanted).count();
    let total = jobs.iter().filter(|job| !job.state.is_end()).count();
    format!(
        "Server             Max   Tot   Que   Run   Hld   Wat   Trn   Ext Status\n\
         ---------------- ----- ----- ----- ----- ----- ----- ----- ----- -----------\n\
         {:<16} {:>5} {total:>5} {:>5} {:>5} {:>5} {:>5} {:>5} {:>5} {:<10}\n",
        cut(host, 16),
        0,
        count('Q'),
        count('R'),
        count('H'),
        count('W'),
        0,
        count('E'),
        "Active",
    )
}

/// Writes what `pbsnodes -l` says of a node; nothing of one that is open.
pub fn closed_node(node: &NodeView) -> Option<String> {
    let (down, why) = closed(node)?;
    let state = if down { "down" } else { "offline" };
    Some(format!("{:<20} {state:<18} {why}\n", node.name))
}

/// Writes `pbsnodes -a`.
pub fn node(node: &NodeView, jobs: &[JobView], site: &Site<'_>) -> String {
    let name = &node.name;
    let (all, used) = (node.cores.0 / 1000, node.cores_used.0.div_ceil(1000));
    let (state, comment) = match closed(node) {
        Some((true, why)) => ("down", why),
        Some((false, why)) => ("offline", why),
        None if used >= all => ("job-busy", ""),
        None => ("free", ""),
    };
    let here = jobs.iter().filter(|job| job.hosts.contains(name));
    let here: Vec<String> = here
        .map(|job| format!("{}/0", id(job, site.host)))
        .collect();
    let mut out = format!("{name}\n     Mom = {name}\n     ntype = PBS\n     state = {state}\n");
    if !comment.is_empty() {
        let _ = writeln!(out, "     comment = {comment}");
    }
    let _ = writeln!(out, "     pcpus = {all}");
    if !here.is_empty() {
        let _ = writeln!(out, "     jobs = {}", here.join(", "));
    }
    let _ = write!(
        out,
        "     resources_available.host = {name}\n\
         \x20    resources_available.mem = {}kb\n\
         \x20    resources_available.ncpus = {all}\n\
         \x20    resources_available.vnode = {name}\n\
         \x20    resources_assigned.mem = {}kb\n\
         \x20    resources_assigned.ncpus = {used}\n\
         \x20    sharing = default_shared\n\n",
        node.memory.0 >> 10,
        node.memory_used.0 >> 10,
    );
    out
}
