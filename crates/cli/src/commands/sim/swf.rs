//! `hyperion sim swf`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_model::Class;
use hyperion_sim::batch::{Job, Named, Summary, Tally, run as simulate};

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
    let mut summaries = Vec::new();
    for policy in &policies {
        let summary = one(&trace, &jobs, policy)?;
        summaries.push((policy.name.clone(), summary));
    }
    match (ctx.output, &summaries[..]) {
        (OutputFormat::Json, [(_, summary)]) => output::json(summary)?,
        (OutputFormat::Json, _) => {
            output::json(&summaries.iter().cloned().collect::<BTreeMap<_, _>>())?;
        }
        (OutputFormat::Quiet, _) => {
            for (_, summary) in &summaries {
                output::line(&summary.start_sha256)?;
            }
        }
        (OutputFormat::Human, _) => {
            let all = trace.machine.all();
            output::line(format!("{} jobs, {all} processors", jobs.len()))?;
            let head = [
                "POLICY", "WAIT", "LONGEST", "SLOWDOWN", "AT ONCE", "USED", "MAKESPAN",
            ];
            output::table(&head, summaries.iter().map(row))?;
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

fn one(trace: &Trace, jobs: &[Job], policy: &Named) -> anyhow::Result<Summary> {
    let mut tally = Tally::new(trace.machine.all());
    let arrivals = jobs.iter().copied().map(Ok::<_, Infallible>);
    simulate(
        trace.machine,
        policy.order,
        policy.backfill,
        arrivals,
        |ran| tally.add(&ran),
    )
    .with_context(|| format!("the simulation under {} stopped", policy.name))?;
    Ok(tally.summary())
}

fn row((policy, summary): &(String, Summary)) -> Vec<String> {
    let span = |seconds: f64| clock(Duration::from_secs_f64(seconds));
    vec![
        policy.clone(),
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
