//! `hyperion sim swf`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_model::Class;
use hyperion_sim::batch::{Job, Named, Tally, run as simulate};
use hyperion_sys::entry::ExitCode;

use super::page::{Schedule, page};
use super::trace::{self, Trace};
use crate::args::OutputFormat;
use crate::commands::queue::list::clock;
use crate::context::Context;
use crate::errors::advised;
use crate::output;

// The words of `hyperion sim swf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The log, plain or gzipped; - is standard input
    #[arg(value_name = "TRACE")]
    trace: PathBuf,
    /// Policies: fifo, sjf, easy, easy-sjbf, sjf-easy, conservative, wfp3, unicep,
    /// f1 to f4, or one of the last six with -easy
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "easy"
    )]
    policy: Vec<String>,
    /// Begin with this job of the trace, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    from_job: usize,
    /// So many jobs of the trace
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The size of the machine, in place of what the log says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    processors: Option<u64>,
    /// Write a page with charts and a table, for a browser
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Leave out lines that are none of a log
    #[arg(long)]
    skip_malformed: bool,
}

/// Carries it out.
pub(super) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let policies: Vec<Named> = args
        .policy
        .iter()
        .map(|name| name.parse().map_err(|error| unknown(&error, name)))
        .collect::<Result<_, _>>()?;
    let trace = trace::read(&args.trace, args.processors, args.skip_malformed)?;
    let wanted = trace.jobs.iter().skip(args.from_job);
    let jobs: Vec<Job> = wanted
        .take(args.jobs.unwrap_or(usize::MAX))
        .copied()
        .collect();
    if jobs.is_empty() {
        return Err(advised(
            Class::User,
            format!("no job of {} is left to simulate", args.trace.display()),
            format!("{} of its jobs can run", trace.jobs.len()),
        ));
    }
    let mut schedules = Vec::new();
    for policy in &policies {
        schedules.push(schedule(&trace, &jobs, policy, args.report.is_some())?);
    }
    if let Some(file) = &args.report {
        let name = args.trace.display().to_string();
        let page = page(&name, trace.machine.all(), &schedules);
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    match (ctx.output, &schedules[..]) {
        (OutputFormat::Json, [only]) => output::json(&only.summary)?,
        (OutputFormat::Json, all) => {
            let all = all.iter().map(|its| (&its.policy, &its.summary));
            output::json(&all.collect::<BTreeMap<_, _>>())?;
        }
        (OutputFormat::Quiet, all) => {
            for its in all {
                output::line(&its.summary.start_sha256)?;
            }
        }
        (OutputFormat::Human, _) => {
            let all = trace.machine.all();
            output::line(format!("{} jobs, {all} processors", jobs.len()))?;
            let head = [
                "POLICY", "WAIT", "LONGEST", "SLOWDOWN", "AT ONCE", "USED", "MAKESPAN",
            ];
            output::table(&head, schedules.iter().map(row))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn unknown(error: &impl ToString, name: &str) -> anyhow::Error {
    let names: Vec<String> = Named::names().collect();
    let near = names
        .iter()
        .max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let near = near.filter(|near| strsim::jaro(near, name) > 0.7);
    advised(
        Class::User,
        error.to_string(),
        match near {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", names.join(", ")),
        },
    )
}

/// Simulates a policy; keeps what ran where it is to be drawn.
fn schedule(trace: &Trace, jobs: &[Job], policy: &Named, draw: bool) -> anyhow::Result<Schedule> {
    let mut all = Vec::new();
    let mut tally = Tally::new(trace.machine.all());
    let arrivals = jobs.iter().copied().map(Ok::<_, Infallible>);
    simulate(
        trace.machine,
        policy.order,
        policy.backfill,
        arrivals,
        |ran| {
            tally.add(&ran);
            if draw {
                all.push(ran);
            }
        },
    )
    .with_context(|| format!("the simulation under {} stopped", policy.name))?;
    Ok(Schedule {
        policy: policy.name.clone(),
        summary: tally.summary(),
        ran: all,
    })
}

fn row(schedule: &Schedule) -> Vec<String> {
    let summary = &schedule.summary;
    let span = |seconds: f64| clock(Duration::from_secs_f64(seconds));
    vec![
        schedule.policy.clone(),
        span(summary.avg_wait),
        span(summary.max_wait.as_f64()),
        format!("{:.2}", summary.avg_bsld),
        format!(
            "{:.1} %",
            100.0 * summary.zero_wait as f64 / summary.jobs as f64
        ),
        format!("{:.1} %", 100.0 * summary.util),
        span(summary.makespan.as_f64()),
    ]
}
