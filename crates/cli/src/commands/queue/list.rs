//! `hyperion queue`, `history` and `nodes`

use std::time::Duration;

use hyperion_api::queue::{Filter, JobView, NodeView, Reply, Request, Waits};
use hyperion_model::errand::Step;
use hyperion_model::report::Exit;
use hyperion_model::task::{End, State};
use hyperion_model::units::parse_duration;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::signals;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::process::getuid;

use super::super::users;
use super::past::{self, By};
use super::{Server, targets};
use crate::args::OutputFormat;
use crate::context::Context;
use crate::output::{self, Narrow};

// Words of `hyperion queue`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    /// Those that have ended, too
    #[arg(short = 'a', long)]
    all: bool,
    /// All columns, however narrow the terminal is
    #[arg(short = 'w', long)]
    wide: bool,
    /// Only my own
    #[arg(long)]
    me: bool,
    /// Only these
    jobs: Vec<String>,
}

// Words of `hyperion history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// What they came to: throughput, utilization, waits, slowdowns
    #[arg(long)]
    summary: bool,
    /// By what jobs are told apart in a summary
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        default_value_t,
        requires = "summary"
    )]
    by: By,
    /// Only those that ended in this span before now
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    since: Option<Duration>,
    /// What would have been enough to ask for, by the names of jobs
    #[arg(long, conflicts_with = "summary")]
    suggest: bool,
    /// The log in the Standard Workload Format
    #[arg(long, conflicts_with_all = ["summary", "suggest"])]
    swf: bool,
    /// Also what scripts started with the launcher of their batch system: 12.0, 12.1
    #[arg(long, conflicts_with_all = ["summary", "suggest", "swf"])]
    steps: bool,
    /// All columns, however narrow the terminal is
    #[arg(short = 'w', long)]
    wide: bool,
    /// Only my own
    #[arg(long)]
    me: bool,
    /// Only these
    jobs: Vec<String>,
}

// Words of `hyperion nodes`.
#[derive(Debug, clap::Args)]
pub(crate) struct NodesArgs {}

/// Lists the jobs that have not ended.
pub(crate) fn queue(args: &QueueArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let filter = Filter {
        alive: true,
        ended: args.all,
        ..Filter::default()
    };
    let views = jobs(ctx, args.me, &args.jobs, filter)?;
    match ctx.output {
        OutputFormat::Json => output::json(&views)?,
        OutputFormat::Quiet => views.iter().try_for_each(|view| output::line(id(view)))?,
        OutputFormat::Human => {
            let now = Timestamp::now();
            let head = [
                "JOB",
                "NAME",
                "USER",
                "LEVEL",
                "STATE",
                "TIME",
                "LIMIT",
                "CORES",
                "WHERE OR WHY",
            ];
            let rows = views.iter().map(|view| waiting_row(view, now));
            let narrow = Narrow {
                cut: &[0, 1, 2],
                leave_out: &[3, 7, 6],
            };
            table(&head, rows, args.wide, narrow)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says whether a node is up, or why, by whom and since when it is not.
fn state(node: &NodeView) -> String {
    let Some(closed) = &node.closed else {
        return "up".into();
    };
    let by = node
        .closed_by
        .map(|uid| format!(", by {}", users::name(uid)));
    let at = node.closed_at.map(|at| format!(", {}", local(at)));
    format!(
        "{closed}{}{}",
        by.unwrap_or_default(),
        at.unwrap_or_default()
    )
}

/// Lists the jobs that have ended.
pub(crate) fn history(args: &HistoryArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let since = args.since.map(|span| -> anyhow::Result<u64> {
        let from = Timestamp::now().checked_sub(jiff::SignedDuration::try_from(span)?)?;
        Ok(from.as_microsecond().max(0).cast_unsigned())
    });
    let filter = Filter {
        ended: true,
        past: true,
        since: since.transpose()?,
        ..Filter::default()
    };
    let since = filter.since;
    let mut views = jobs(ctx, args.me, &args.jobs, filter)?;
    if let Some(since) = since {
        views.retain(|view| view.ended.is_some_and(|at| at >= since));
    }
    if args.summary {
        past::summary(&views, args.by, args.since, ctx)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.suggest {
        past::suggest(&views, ctx)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.swf {
        past::swf(&views, ctx)?;
        return Ok(ExitCode::SUCCESS);
    }
    match ctx.output {
        OutputFormat::Json => output::json(&views)?,
        OutputFormat::Quiet => views.iter().try_for_each(|view| output::line(id(view)))?,
        OutputFormat::Human => {
            let head = [
                "JOB", "NAME", "USER", "LEVEL", "STATE", "EXIT", "WAITED", "RAN", "CPU", "MEMORY",
                "ENDED",
            ];
            let rows = views.iter().flat_map(|view| {
                let steps = view.steps().iter().filter(|_| args.steps);
                let steps = steps.map(|step| step_row(view, step));
                std::iter::once(ended_row(view)).chain(steps)
            });
            let narrow = Narrow {
                cut: &[0, 1, 2, 4],
                leave_out: &[3, 2, 6, 8],
            };
            table(&head, rows, args.wide, narrow)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    wide: bool,
    narrow: Narrow,
) -> anyhow::Result<()> {
    match wide {
        true => output::table_whole(head, rows),
        false => output::table_within(head, rows, narrow),
    }
}

/// Lists the nodes.
pub(crate) fn nodes(_: &NodesArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let nodes: Vec<NodeView> = match Server::reach(ctx, true)?.ask(&Request::Nodes)? {
        Reply::Nodes(nodes) => nodes,
        _ => Vec::new(),
    };
    match ctx.output {
        OutputFormat::Json => output::json(&nodes)?,
        OutputFormat::Quiet => nodes.iter().try_for_each(|node| output::line(&node.name))?,
        OutputFormat::Human => {
            let row = |node: &NodeView| {
                vec![
                    node.name.clone(),
                    format!("{} of {}", node.cores_used, node.cores),
                    format!("{} of {}", node.memory_used, node.memory),
                    devices(node),
                    node.tasks.to_string(),
                    state(node),
                ]
            };
            output::table(
                &["NODE", "CORES", "MEMORY", "DEVICES", "TASKS", "STATE"],
                nodes.iter().map(row),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what devices a node has: `gpu:h100 1 of 2`. Those of a kind count once.
fn devices(node: &NodeView) -> String {
    let has_kinds = |name: &str| {
        let prefix = format!("{name}:");
        node.devices.keys().any(|other| other.starts_with(&prefix))
    };
    let told = node.devices.iter().filter(|(name, _)| !has_kinds(name));
    let told: Vec<String> = told
        .map(|(name, (all, used))| format!("{name} {used} of {all}"))
        .collect();
    told.join(", ")
}

/// Asks for jobs.
fn jobs(ctx: &Context, me: bool, named: &[String], filter: Filter) -> anyhow::Result<Vec<JobView>> {
    let mut wanted = Vec::new();
    for name in named {
        wanted.extend(targets(name)?.into_iter().map(|target| target.job));
    }
    wanted.dedup();
    if super::is_empty(ctx) {
        return Ok(Vec::new());
    }
    let filter = Filter {
        jobs: wanted,
        user: me.then(|| getuid().as_raw()),
        ..filter
    };
    Server::reach(ctx, true)?.jobs(filter)
}

/// Gives the name of a task: `12`, or `12_7`.
pub(super) fn id(view: &JobView) -> String {
    match &view.index {
        None => view.job.to_string(),
        Some(index) if index.contains(['-', ',', '%']) => format!("{}_[{index}]", view.job),
        Some(index) => format!("{}_{index}", view.job),
    }
}

fn waiting_row(view: &JobView, now: Timestamp) -> Vec<String> {
    let since = |at| now.duration_since(moment(at)).unsigned_abs();
    let time = match (view.started, view.ended) {
        (Some(from), Some(to)) => clock(Duration::from_micros(to.saturating_sub(from))),
        (Some(from), None) => clock(since(from)),
        (None, _) => String::new(),
    };
    let place = match (view.reason.clone(), &view.why) {
        (Some(reason), _) => why(reason),
        (None, Some(why)) => why.clone(),
        (None, None) => view.hosts.join(","),
    };
    vec![
        id(view),
        view.name.clone(),
        view.user.clone(),
        view.level.to_string(),
        view.state.to_string(),
        time,
        view.limit.map_or_else(|| "none".into(), clock),
        view.cores.to_string(),
        place,
    ]
}

fn ended_row(view: &JobView) -> Vec<String> {
    let ended = view.ended.unwrap_or(view.submitted);
    let started = view.started.unwrap_or(ended);
    let between = |from: u64, to: u64| clock(Duration::from_micros(to.saturating_sub(from)));
    let cost = view.cost.clone().unwrap_or_default();
    let cpu = match (cost.cpu_user, cost.cpu_system) {
        (None, None) => String::new(),
        (user, system) => clock(user.unwrap_or_default() + system.unwrap_or_default()),
    };
    let ran = match view.started {
        Some(_) => between(started, ended),
        None => String::new(),
    };
    vec![
        id(view),
        view.name.clone(),
        view.user.clone(),
        view.level.to_string(),
        view.state.to_string(),
        exit(view),
        between(view.submitted, started),
        ran,
        cpu,
        cost.memory_peak
            .map_or_else(String::new, |peak| peak.to_string()),
        local(ended),
    ]
}

fn step_row(view: &JobView, step: &Step) -> Vec<String> {
    let mut row = vec![
        format!("{}.{}", id(view), step.number),
        step.name.clone(),
        view.user.clone(),
        view.level.to_string(),
    ];
    if let Some(over) = step.over {
        let state = match over.exit.is_success() {
            _ if over.timed_out => State::TimedOut,
            _ if over.cancelled => State::Cancelled,
            true => State::Completed,
            false => State::Failed,
        };
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let began = view.started.unwrap_or(view.submitted);
        row.extend([
            state.to_string(),
            exit_of(over.exit),
            String::new(),
            clock(over.wall),
            clock(over.cpu_user + over.cpu_system),
            over.memory_peak.to_string(),
            local(began.saturating_add(micros(step.begun + over.wall))),
        ]);
    }
    row
}

fn exit_of(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => code.to_string(),
        Exit::Signal(signal) => signals::name(signal.into()),
    }
}

fn exit(view: &JobView) -> String {
    match view.end {
        Some(End::Exit(exit)) => exit_of(exit),
        Some(End::OutOfMemory) => "memory".into(),
        Some(End::Broken) => "not run".into(),
        Some(End::Lost) => "lost".into(),
        None => String::new(),
    }
}

/// Says in a few words why a task waits.
pub(super) fn why(reason: Waits) -> String {
    match reason {
        Waits::HeldByUser => "held".into(),
        Waits::HeldByOperator => "held by an operator".into(),
        Waits::Begins(at) => format!("begins {}", local(at)),
        Waits::Depends => "waits for other jobs".into(),
        Waits::DependsInVain => "waits for what will never be".into(),
        Waits::AtOnce => "as many run as may at once".into(),
        Waits::Resources(u64::MAX) => "waits for nodes".into(),
        Waits::Resources(at) => format!("waits for nodes, until {} at most", local(at)),
        Waits::Turn => "waits for its turn".into(),
        Waits::Limit(who) => format!("{who} has as much as it may"),
        Waits::NodesClosed => "its nodes are closed".into(),
        Waits::PartitionClosed(name) => format!("partition {name} starts no jobs"),
        Waits::MadeRoom(job) => format!("made room for job {job}"),
    }
}

pub(super) fn moment(at: u64) -> Timestamp {
    Timestamp::from_microsecond(at.cast_signed()).unwrap_or_default()
}

/// Writes a moment of today as `14:20:05`, another with its day.
pub(super) fn local(at: u64) -> String {
    let zone = TimeZone::system();
    let then = moment(at).to_zoned(zone.clone());
    let today = Timestamp::now().to_zoned(zone).date();
    match then.date() == today {
        true => then.strftime("%H:%M:%S").to_string(),
        false => then.strftime("%Y-%m-%d %H:%M").to_string(),
    }
}

/// Writes a span as batch systems do: `0:07`, `2:10:00`, `3-00:00:00`.
pub(in crate::commands) fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) if seconds < 10 => format!("{:.2}s", span.as_secs_f64()),
        (0, 0) => format!("{minutes}:{rest:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{rest:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{rest:02}"),
    }
}
