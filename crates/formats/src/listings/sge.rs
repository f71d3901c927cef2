//! Grid Engine: what its commands print.

use std::fmt::Write as _;

use hyperion_model::task::State;
use hyperion_model::view::{JobView, Waits};

use super::words::{Opt, Takes};
use super::{Site, cpu_time, cpus, cut, exit, waits};

use Takes::{Nothing, Value};

/// The options of qstat.
pub const QSTAT: &[Opt] = &[
    Opt(&["-j"], Value),
    Opt(&["-u"], Value),
    Opt(&["-s"], Value),
    Opt(&["-q"], Value),
    Opt(&["-g"], Value),
    Opt(&["-xml"], Nothing),
    Opt(&["-f"], Nothing),
    Opt(&["-ext"], Nothing),
    Opt(&["-r"], Nothing),
    Opt(&["-t"], Nothing),
    Opt(&["-pri"], Nothing),
    Opt(&["-urg"], Nothing),
    Opt(&["-ne"], Nothing),
    Opt(&["-help"], Nothing),
];

/// The options of qdel.
pub const QDEL: &[Opt] = &[
    Opt(&["-f"], Nothing),
    Opt(&["-t"], Value),
    Opt(&["-u"], Value),
    Opt(&["-help"], Nothing),
];

/// The options of qacct.
pub const QACCT: &[Opt] = &[Opt(&["-j"], Value), Opt(&["-help"], Nothing)];

/// Grid Engine's letters for a state.
pub fn state(job: &JobView) -> &'static str {
    match job.state {
        State::Held => "hqw",
        State::Pending if matches!(job.reason, Some(Waits::Depends | Waits::DependsInVain)) => {
            "hqw"
        }
        State::Pending => "qw",
        State::Configuring => "t",
        State::Running => "r",
        State::Suspended => "s",
        State::Completing => "dr",
        _ => "z",
    }
}

/// Writes the table of `qstat`; nothing where there are no jobs.
pub fn table(jobs: &[JobView], site: &Site<'_>) -> String {
    let mut out = String::new();
    if jobs.is_empty() {
        return out;
    }
    out.push_str(
        "job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID \n",
    );
    out.push_str(&"-".repeat(115));
    out.push('\n');
    for job in jobs {
        let at = (site.local)(job.started.unwrap_or(job.submitted)).slashed();
        let queue = match job.hosts.first() {
            Some(host) => format!("{}@{host}", job.queue),
            None => String::new(),
        };
        let index = job.index.as_deref().unwrap_or_default();
        let index = index.split('%').next().unwrap_or(index);
        let _ = writeln!(
            out,
            "{:>7} 0.55500 {:<10} {:<12} {:<5} {at} {:<30} {:>5} {index}",
            job.job,
            cut(&job.name, 10),
            cut(&job.user, 12),
            state(job),
            cut(&queue, 30),
            cpus(job),
        );
    }
    out
}

/// Writes `qstat -j`.
pub fn full(job: &JobView, site: &Site<'_>) -> String {
    let mut out = format!("{}\n", "=".repeat(62));
    let at = |moment: u64| (site.local)(moment).slashed();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{:<28}{value}", format!("{name}:"));
    };
    line("job_number", &job.job.to_string());
    line("submission_time", &at(job.submitted));
    line("owner", &job.user);
    line("uid", &job.uid.to_string());
    line("sge_o_workdir", &job.folder);
    line("sge_o_host", site.host);
    if let Some(account) = &job.account {
        line("account", account);
    }
    if let Some(limit) = job.limit {
        line("hard resource_list", &format!("h_rt={}", limit.as_secs()));
    }
    line("job_name", &job.name);
    line("hard_queue_list", &job.queue);
    line("job_state", state(job));
    if let Some(index) = &job.index {
        line("job-array tasks", index);
    }
    if let Some(reason) = &job.reason {
        line("scheduling info", &format!("{reason:?}").to_lowercase());
    }
    out
}

/// Writes `qacct -j`.
pub fn account(job: &JobView, site: &Site<'_>) -> String {
    let mut out = format!("{}\n", "=".repeat(62));
    let at = |moment: Option<u64>| moment.map_or("-/-".into(), |at| (site.local)(at).ctime());
    let (code, signal) = exit(job);
    let status = match signal {
        0 => u16::from(code),
        signal => 128 + u16::from(signal),
    };
    let failed = match job.state {
        State::Completed | State::Failed if signal == 0 => "0",
        State::NodeFailed => "26  : failed opening input/output file",
        _ => "100 : assumedly after job",
    };
    let cost = job.cost.clone().unwrap_or_default();
    let seconds = |span: Option<std::time::Duration>| {
        let span = span.unwrap_or_default();
        format!("{}.{:03}s", span.as_secs(), span.subsec_millis())
    };
    let peak = cost.memory_peak.map_or(0, |bytes| bytes.0);
    for (name, value) in [
        ("qname", job.queue.clone()),
        (
            "hostname",
            job.hosts
                .first()
                .cloned()
                .unwrap_or_else(|| site.host.into()),
        ),
        ("owner", job.user.clone()),
        ("project", "NONE".into()),
        ("department", "defaultdepartment".into()),
        ("jobname", job.name.clone()),
        ("jobnumber", job.job.to_string()),
        (
            "taskid",
            job.index.clone().unwrap_or_else(|| "undefined".into()),
        ),
        (
            "account",
            job.account.clone().unwrap_or_else(|| "sge".into()),
        ),
        ("priority", "0".into()),
        ("qsub_time", at(Some(job.submitted))),
        ("start_time", at(job.started)),
        ("end_time", at(job.ended)),
        ("granted_pe", "NONE".into()),
        ("slots", cpus(job).to_string()),
        ("failed", failed.into()),
        ("exit_status", status.to_string()),
        ("ru_wallclock", format!("{}s", site.ran(job).as_secs())),
        ("ru_utime", seconds(cost.cpu_user)),
        ("ru_stime", seconds(cost.cpu_system)),
        ("cpu", seconds(cpu_time(job))),
        (
            "maxvmem",
            format!("{:.3}MB", peak as f64 / f64::from(1 << 20)),
        ),
    ] {
        let _ = writeln!(out, "{name:<13}{value}");
    }
    out
}

/// Writes `qstat -xml`.
pub fn xml(jobs: &[JobView], site: &Site<'_>) -> String {
    let mut out = String::from("<?xml version='1.0'?>\n<job_info>\n");
    for (tag, queued) in [("queue_info", false), ("job_info", true)] {
        let _ = writeln!(out, "  <{tag}>");
        for job in jobs.iter().filter(|job| waits(job) == queued) {
            let kind = if queued { "pending" } else { "running" };
            let _ = writeln!(out, "    <job_list state=\"{kind}\">");
            let since = (site.local)(job.started.unwrap_or(job.submitted)).iso();
            let moment = if queued {
                "JB_submission_time"
            } else {
                "JAT_start_time"
            };
            for (name, value) in [
                ("JB_job_number", job.job.to_string()),
                ("JAT_prio", "0.55500".into()),
                ("JB_name", job.name.clone()),
                ("JB_owner", job.user.clone()),
                ("state", state(job).into()),
                (moment, since),
                (
                    "queue_name",
                    job.hosts
                        .first()
                        .map_or_else(String::new, |host| format!("{}@{host}", job.queue)),
                ),
                ("slots", cpus(job).to_string()),
            ] {
                let value = quick_xml::escape::escape(&value);
                let _ = writeln!(out, "      <{name}>{value}</{name}>");
            }
            if let Some(index) = &job.index {
                let index = quick_xml::escape::escape(index);
                let _ = writeln!(out, "      <tasks>{index}</tasks>");
            }
            out.push_str("    </job_list>\n");
        }
        let _ = writeln!(out, "  </{tag}>");
    }
    out.push_str("</job_info>\n");
    out
}
