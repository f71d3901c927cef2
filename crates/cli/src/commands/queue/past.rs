//! What the jobs of a queue came to: `history --summary`, `--suggest` and `--swf`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use hyperion_api::queue::{JobView, NodeView, Reply, Request};
use hyperion_formats::swf;
use hyperion_model::accounting::{Past, Spread, Suggestion, Summary};
use hyperion_model::task::State;
use hyperion_model::{Bytes, Cores};
use jiff::Timestamp;
use serde::Serialize;

use super::Server;
use super::list::{clock, moment};
use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;

/// By what jobs are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// Not at all
    #[default]
    All,
    /// By who submitted them
    User,
    /// By who pays
    Account,
    /// By how they are fenced
    Level,
    /// By the node that they ran on
    Node,
    /// By what they are called
    Name,
}

impl By {
    fn of(self, view: &JobView) -> String {
        match self {
            Self::All => "all".into(),
            Self::User => view.user.clone(),
            Self::Account => view.account.clone().unwrap_or_else(|| "-".into()),
            Self::Level => view.level.to_string(),
            Self::Node => view.hosts.first().cloned().unwrap_or_else(|| "-".into()),
            Self::Name => view.name.clone(),
        }
    }
}

/// One group of jobs, summed up.
#[derive(Debug, Serialize)]
struct Group {
    group: String,
    #[serde(flatten)]
    summary: Summary,
}

/// Prints what jobs came to, over the time since their first submission, or over a span
/// that ends now.
pub(super) fn summary(
    views: &[JobView],
    by: By,
    since: Option<Duration>,
    ctx: &Context,
) -> anyhow::Result<()> {
    let nodes = match Server::reach(ctx, true)?.ask(&Request::Nodes)? {
        Reply::Nodes(nodes) => nodes,
        _ => Vec::new(),
    };
    let cores = |node: &str| -> f64 {
        let these = nodes.iter().filter(|n| by != By::Node || n.name == node);
        these.map(|n: &NodeView| n.cores.as_f64()).sum()
    };
    let now = Timestamp::now().as_microsecond().cast_unsigned();
    let first = views.iter().map(|view| view.submitted).min().unwrap_or(now);
    let last = views
        .iter()
        .filter_map(|view| view.ended)
        .max()
        .unwrap_or(now);
    let window = match since {
        Some(span) => (
            now.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
            now,
        ),
        None => (first, last),
    };
    let mut groups: BTreeMap<String, Vec<Past>> = BTreeMap::new();
    for view in views {
        groups.entry(by.of(view)).or_default().push(past(view));
    }
    let groups: Vec<Group> = groups
        .into_iter()
        .map(|(group, jobs)| {
            let jobs: Vec<&Past> = jobs.iter().collect();
            let summary = Summary::of(&jobs, window, cores(&group));
            Group { group, summary }
        })
        .collect();
    if ctx.output == OutputFormat::Json {
        return output::json(&groups);
    }
    let span = Duration::from_micros(window.1.saturating_sub(window.0));
    let from = moment(window.0).to_zoned(jiff::tz::TimeZone::system());
    output::line(format!(
        "window: {} from {}",
        clock(span),
        from.strftime("%Y-%m-%d %H:%M:%S")
    ))?;
    let head = [
        "GROUP", "JOBS", "OK", "PER HOUR", "HELD", "USED", "MEMORY", "WAIT", "P95", "RAN",
        "SLOWDOWN",
    ];
    output::table(&head, groups.iter().map(row))
}

fn row(group: &Group) -> Vec<String> {
    let sum = &group.summary;
    let percent = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.0} %"));
    let time = |spread: &Option<Spread>, of: fn(&Spread) -> f64| {
        let seconds = spread.as_ref().map(of);
        seconds.map_or_else(
            || "-".into(),
            |s| clock(Duration::from_secs_f64(s.max(0.0))),
        )
    };
    let slowdown = sum
        .slowdown
        .as_ref()
        .map(|spread| format!("{:.2}", spread.p50));
    vec![
        group.group.clone(),
        sum.jobs.to_string(),
        sum.succeeded.to_string(),
        sum.throughput
            .map_or_else(|| "-".into(), |t| format!("{:.1}", t * 3600.0)),
        percent(sum.cores_held),
        percent(sum.cores_used),
        percent(sum.memory_used),
        time(&sum.wait, |s| s.p50),
        time(&sum.wait, |s| s.p95),
        time(&sum.service, |s| s.p50),
        slowdown.unwrap_or_else(|| "-".into()),
    ]
}

/// What jobs of one name asked for, used, and should ask for.
#[derive(Debug, Serialize)]
struct Advice {
    name: String,
    jobs: usize,
    cores: f64,
    memory: Option<u64>,
    limit: Option<f64>,
    suggestion: Suggestion,
}

/// Prints what would have been enough to ask for, by name.
pub(super) fn suggest(views: &[JobView], ctx: &Context) -> anyhow::Result<()> {
    let mut groups: BTreeMap<String, Vec<Past>> = BTreeMap::new();
    for view in views {
        groups
            .entry(view.name.clone())
            .or_default()
            .push(past(view));
    }
    let advice = groups.into_iter().filter_map(|(name, jobs)| {
        let all: Vec<&Past> = jobs.iter().collect();
        let last = all.last()?;
        Some(Advice {
            name,
            jobs: all.len(),
            cores: last.cores,
            memory: last.memory,
            limit: last.limit.map(|limit| limit.as_secs_f64()),
            suggestion: Suggestion::of(&all)?,
        })
    });
    let advice: Vec<Advice> = advice.collect();
    if ctx.output == OutputFormat::Json {
        return output::json(&advice);
    }
    let head = [
        "NAME", "JOBS", "CORES", "ENOUGH", "MEMORY", "ENOUGH", "LIMIT", "ENOUGH",
    ];
    let bytes = |value: Option<u64>| value.map_or_else(|| "-".into(), |b| Bytes(b).to_string());
    output::table(
        &head,
        advice.iter().map(|its| {
            let limit = its
                .limit
                .map(|seconds| clock(Duration::from_secs_f64(seconds)));
            vec![
                its.name.clone(),
                its.jobs.to_string(),
                its.cores.to_string(),
                its.suggestion
                    .cores
                    .map_or_else(|| "-".into(), |c| c.to_string()),
                bytes(its.memory),
                bytes(its.suggestion.memory),
                limit.unwrap_or_else(|| "none".into()),
                clock(Duration::from_secs(its.suggestion.limit)),
            ]
        }),
    )
}

fn past(view: &JobView) -> Past {
    let ended = view.ended.unwrap_or(view.submitted);
    let cost = view.cost.clone().unwrap_or_default();
    Past {
        submitted: view.submitted,
        started: view.started.unwrap_or(ended),
        ended,
        succeeded: view.state == State::Completed,
        cores: view.cores.as_f64(),
        cpu: match (cost.cpu_user, cost.cpu_system) {
            (None, None) => None,
            (user, system) => Some(user.unwrap_or_default() + system.unwrap_or_default()),
        },
        memory: (view.memory > Bytes(0)).then_some(view.memory.0),
        memory_peak: cost.memory_peak.map(|peak| peak.0),
        limit: view.limit,
    }
}

/// Prints jobs in the Standard Workload Format.
pub(super) fn swf(views: &[JobView], ctx: &Context) -> anyhow::Result<()> {
    let nodes = match Server::reach(ctx, true)?.ask(&Request::Nodes)? {
        Reply::Nodes(nodes) => nodes,
        _ => Vec::new(),
    };
    let procs: u64 = nodes.iter().map(|node| node.cores.0 / 1000).sum();
    let start = views.iter().map(|view| view.submitted).min().unwrap_or(0);
    let mut users = Numbers::default();
    let mut programs = Numbers::default();
    let mut queues = Numbers::default();
    let mut ordered: Vec<&JobView> = views.iter().collect();
    ordered.sort_by_key(|view| (view.submitted, view.job));
    let jobs: Vec<swf::Line> = ordered
        .iter()
        .zip(1..)
        .map(|(view, job)| {
            let past = past(view);
            let whole = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
            let cores = (view.cores.0.div_ceil(Cores::whole(1).0))
                .max(1)
                .cast_signed();
            let kilobytes = |bytes: u64| (bytes / 1024).cast_signed() / cores;
            swf::Line {
                job,
                submit: ((view.submitted - start) / 1_000_000).cast_signed(),
                wait: whole(past.wait()),
                run: view.started.map_or(-1, |_| whole(past.service())),
                allocated: view.started.map_or(-1, |_| cores),
                cpu: past
                    .cpu
                    .map_or(-1.0, |cpu| cpu.as_secs_f64() / cores as f64),
                memory: past.memory_peak.map_or(-1, kilobytes),
                requested: cores,
                requested_time: past.limit.map_or(-1, whole),
                requested_memory: past.memory.map_or(-1, kilobytes),
                status: match view.state {
                    State::Completed => 1,
                    State::Cancelled | State::Preempted => 5,
                    _ => 0,
                },
                user: users.of(&view.user),
                group: -1,
                program: programs.of(&view.name),
                queue: queues.of(&view.queue),
                partition: -1,
                preceding: -1,
                think: -1,
            }
        })
        .collect();
    let began = moment(start);
    let head = [
        ("Version", "2.2".to_owned()),
        ("Computer", "a queue of Hyperion".to_owned()),
        ("Acknowledge", "who ran these jobs".to_owned()),
        ("UnixStartTime", began.as_second().to_string()),
        ("TimeZoneString", "UTC".to_owned()),
        (
            "StartTime",
            began.strftime("%a %b %d %H:%M:%S UTC %Y").to_string(),
        ),
        ("MaxJobs", jobs.len().to_string()),
        ("MaxRecords", jobs.len().to_string()),
        ("MaxNodes", nodes.len().to_string()),
        ("MaxProcs", procs.to_string()),
    ];
    output::line(swf::write(&head, &jobs).trim_end())
}

/// Numbers for names, in the order in which they come, from 1: users are not to be known.
#[derive(Default)]
struct Numbers(BTreeMap<String, i64>);

impl Numbers {
    fn of(&mut self, name: &str) -> i64 {
        let next = self.0.len() as i64 + 1;
        *self.0.entry(name.to_owned()).or_insert(next)
    }
}
