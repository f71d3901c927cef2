//! `hyperion sim swf`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use hyperion_model::Class;
use hyperion_sched::Time;
use hyperion_sim::batch::{Job, Named, Tally, run as simulate};
use hyperion_sys::entry::ExitCode;

use super::cores::{Counter, Progress, on_all_cores};
use super::gantt;
use super::page::{Schedule, page};
use super::policies;
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
    /// Let jobs come so many times as fast; several are compared
    #[arg(long, value_name = "FACTOR", value_delimiter = ',', default_value = "1", value_parser = policies::factor)]
    load: Vec<f64>,
    /// Count nothing of so many jobs, with which the machine fills
    #[arg(long, value_name = "N", default_value_t = 0)]
    warm_up: usize,
    /// Write when each job was submitted, started and ended, in seconds, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw the first jobs under each policy, processors by time
    #[arg(long)]
    gantt: bool,
    /// Write a page with charts and a table, for a browser
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Leave out lines that are none of a log
    #[arg(long)]
    skip_malformed: bool,
}

/// Carries it out.
pub(super) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let policies = args.policy.iter().map(|name| policies::policy(name));
    let policies: Vec<Named> = policies.collect::<Result<_, _>>()?;
    let trace = trace::read(&args.trace, args.processors, args.skip_malformed)?;
    let wanted = trace.jobs.iter().skip(args.from_job);
    let jobs: Vec<Job> = wanted
        .take(args.jobs.unwrap_or(usize::MAX))
        .copied()
        .collect();
    if jobs.len() <= args.warm_up {
        return Err(advised(
            Class::User,
            format!("no job of {} is left to simulate", args.trace.display()),
            format!("{} of its jobs can run", trace.jobs.len()),
        ));
    }
    let cases: Vec<Case<'_>> = args
        .load
        .iter()
        .flat_map(|load| {
            policies.iter().map(move |policy| Case {
                policy,
                load: *load,
                // What is the same everywhere is not told.
                name: match args.load.len() {
                    1 => policy.name.clone(),
                    _ => format!("{} at {load}", policy.name),
                },
            })
        })
        .collect();
    let keep = args.report.is_some() || args.csv.is_some() || args.gantt;
    let progress = Progress::new(ctx, (cases.len() * jobs.len()) as u64);
    let schedules = on_all_cores(&cases, |case| {
        case.schedule(&trace, &jobs, args.warm_up, keep, progress.counter())
    })?;
    drop(progress);
    if let Some(file) = &args.csv {
        write_csv(file, &schedules).with_context(|| format!("cannot write {}", file.display()))?;
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
                output::line(its.summary.start_sha256.as_deref().unwrap_or_default())?;
            }
        }
        (OutputFormat::Human, _) => {
            let all = trace.machine.all();
            let counted = jobs.len() - args.warm_up;
            output::line(format!("{counted} jobs, {all} processors"))?;
            let head = [
                "POLICY", "WAIT", "LONGEST", "SLOWDOWN", "AT ONCE", "USED", "MAKESPAN",
            ];
            output::table(&head, schedules.iter().map(row))?;
            if args.gantt {
                output::line(gantt::charts(&schedules, all).trim_end())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One simulation of several.
struct Case<'a> {
    policy: &'a Named,
    load: f64,
    name: String,
}

impl Case<'_> {
    /// Simulates it; keeps what ran where it is to be written.
    fn schedule(
        &self,
        trace: &Trace,
        jobs: &[Job],
        warm_up: usize,
        keep: bool,
        mut counter: Counter<'_>,
    ) -> anyhow::Result<Schedule> {
        let first = jobs.first().map_or(Time(0), |job| job.submit);
        let mut all = Vec::new();
        let mut tally = Tally::new(trace.machine.all()).with_digest(warm_up as u64);
        let arrivals = jobs
            .iter()
            .map(|job| Ok::<_, Infallible>(job.at_load(first, self.load)));
        let (order, backfill) = (self.policy.order, self.policy.backfill);
        simulate(trace.machine, order, backfill, arrivals, |ran| {
            counter.add();
            if ran.number >= warm_up as u64 {
                tally.add(&ran);
            }
            if keep {
                all.push(ran);
            }
        })
        .with_context(|| format!("the simulation under {} stopped", self.name))?;
        Ok(Schedule {
            policy: self.name.clone(),
            summary: tally.summary(),
            ran: all,
        })
    }
}

fn write_csv(file: &Path, schedules: &[Schedule]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "policy,job,submit,start,end,processors")?;
    for schedule in schedules {
        for ran in &schedule.ran {
            let [submit, start, end] =
                [ran.job.submit, ran.start, ran.end()].map(|at| at.0 as f64 / 1e6);
            let (name, number, processors) = (&schedule.policy, ran.number, ran.job.processors);
            writeln!(out, "{name},{number},{submit},{start},{end},{processors}")?;
        }
    }
    out.flush()
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
