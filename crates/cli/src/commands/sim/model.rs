//! `hyperion sim model`

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_model::Class;
use hyperion_sched::Time;
use hyperion_sim::Seed;
use hyperion_sim::batch::{Interval, Machine, Named, Summary, Tally, run as simulate};
use hyperion_sys::entry::ExitCode;
use serde::Serialize;

use super::cores::{Progress, on_all_cores};
use super::generate::Words;
use super::nodes::Nodes;
use super::policies;
use crate::args::OutputFormat;
use crate::commands::queue::list::clock;
use crate::context::Context;
use crate::errors::advised;
use crate::output;

// The words of `hyperion sim model`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: Words,
    /// How many jobs each workload has
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// Sizes of the machine: 128, or that of the log of --like
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    processors: Vec<u64>,
    #[command(flatten)]
    nodes: Nodes,
    /// Policies, as `hyperion sim swf` names them
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "easy"
    )]
    policy: Vec<String>,
    /// Let jobs come so many times as fast
    #[arg(long, value_name = "FACTOR", value_delimiter = ',', default_value = "1", value_parser = policies::factor)]
    load: Vec<f64>,
    /// How many workloads, each from a seed of its own: what is compared has the same
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    replications: u64,
    /// Count nothing of so many jobs, with which the machine fills
    #[arg(long, value_name = "N", default_value_t = 0)]
    warm_up: u64,
    /// The same seed gives the same workloads; the first is that of `hyperion sim generate`
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What is simulated several times over.
#[derive(Debug, Serialize)]
struct Case<'a> {
    #[serde(skip)]
    policy: &'a Named,
    #[serde(rename = "policy")]
    name: &'a str,
    processors: u64,
    nodes: u32,
    #[serde(skip)]
    machine: Machine,
    load: f64,
}

/// What one came to.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    case: &'a Case<'a>,
    avg_wait: Mean,
    avg_bsld: Mean,
    util: Mean,
    makespan: Mean,
}

/// A mean of replications, and how sure it is.
#[derive(Debug, Serialize)]
struct Mean {
    mean: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<Interval>,
}

impl Mean {
    fn of(summaries: &[Summary], value: fn(&Summary) -> f64) -> Self {
        let values: Vec<f64> = summaries.iter().map(value).collect();
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            interval: Interval::of_mean(&values),
        }
    }

    /// Writes it, and how far it may be off.
    fn text(&self, unit: impl Fn(f64) -> String) -> [String; 2] {
        let off = self.interval.map(|its| (its.high - its.low) / 2.0);
        [
            unit(self.mean),
            off.map_or_else(String::new, |off| format!("± {}", unit(off))),
        ]
    }
}

/// Carries it out.
pub(super) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let policies = args.policy.iter().map(|name| policies::policy(name));
    let policies: Vec<Named> = policies.collect::<Result<_, _>>()?;
    if args.jobs <= args.warm_up {
        return Err(advised(
            Class::User,
            "no job is left to count",
            "--warm-up is to be less than --jobs",
        ));
    }
    let model = args.model.model()?;
    let sizes = match &args.processors[..] {
        [] => &[model.processors],
        sizes => sizes,
    };
    let mut cases = Vec::new();
    for &processors in sizes {
        let machine = args.nodes.machine(processors)?;
        for &load in &args.load {
            cases.extend(policies.iter().map(|policy| Case {
                policy,
                name: &policy.name,
                processors,
                nodes: machine.nodes,
                machine,
                load,
            }));
        }
    }
    let all: Vec<(&Case<'_>, u64)> = cases
        .iter()
        .flat_map(|case| (0..args.replications).map(move |number| (case, number)))
        .collect();
    let progress = Progress::new(ctx, all.len() as u64 * args.jobs);
    let summaries = on_all_cores(&all, |(case, number)| {
        let seed = Seed(args.seed).replication(*number);
        let mut jobs = model.jobs(case.processors, seed).peekable();
        let first = jobs.peek().map_or(Time(0), |job| job.submit);
        let jobs = jobs.map(|job| Ok::<_, Infallible>(job.at_load(first, case.load)));
        let jobs = jobs.take(usize::try_from(args.jobs).unwrap_or(usize::MAX));
        let mut tally = Tally::new(case.processors);
        let mut counter = progress.counter();
        simulate(
            case.machine,
            case.policy.order,
            case.policy.backfill,
            jobs,
            |ran| {
                counter.add();
                if ran.number >= args.warm_up {
                    tally.add(&ran);
                }
            },
        )
        .with_context(|| format!("the simulation under {} stopped", case.name))?;
        Ok(tally.summary())
    })?;
    drop(progress);
    let replications = summaries.chunks(args.replications as usize);
    let rows = cases.iter().zip(replications).map(|(case, its)| Row {
        case,
        avg_wait: Mean::of(its, |its| its.avg_wait),
        avg_bsld: Mean::of(its, |its| its.avg_bsld),
        util: Mean::of(its, |its| its.util),
        makespan: Mean::of(its, |its| its.makespan.as_f64()),
    });
    match ctx.output {
        OutputFormat::Json => output::json(&rows.collect::<Vec<_>>())?,
        OutputFormat::Quiet => {
            let mut rows = rows;
            rows.try_for_each(|row| output::line(row.avg_wait.mean))?;
        }
        OutputFormat::Human => {
            let (jobs, times) = (args.jobs, args.replications);
            let on = args.nodes.told();
            output::line(format!("{jobs} jobs, {times} times{on}; ± with 95 %"))?;
            let head = [
                "POLICY", "CPUS", "LOAD", "WAIT", "", "SLOWDOWN", "", "USED", "",
            ];
            output::table(&head, rows.map(|row| told(&row)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn told(row: &Row<'_>) -> Vec<String> {
    let case = row.case;
    let mut words = vec![
        case.name.to_owned(),
        case.processors.to_string(),
        case.load.to_string(),
    ];
    words.extend(row.avg_wait.text(|its| clock(Duration::from_secs_f64(its))));
    words.extend(row.avg_bsld.text(|its| format!("{its:.2}")));
    words.extend(row.util.text(|its| format!("{:.1} %", 100.0 * its)));
    words
}
