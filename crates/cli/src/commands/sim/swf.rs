//! `hyperion sim swf`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyperion_formats::swf::{self, Line};
use hyperion_model::Class;
use hyperion_model::units::parse_duration;
use hyperion_sched::Time;
use hyperion_sim::batch::{Job, Machine, Named, Ran, Simulation, Tally, run as simulate};
use hyperion_sys::entry::ExitCode;

use super::cores::{Counter, Progress, on_all_cores};
use super::gantt;
use super::generate::line;
use super::nodes::{Nodes, on_nodes};
use super::page::{Schedule, page};
use super::policies;
use super::snapshot;
use super::trace::{self, Found, Trace};
use crate::args::OutputFormat;
use crate::commands::queue::list::clock;
use crate::context::Context;
use crate::errors::advised;
use crate::output;

// The words of `hyperion sim swf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The log, plain or gzipped; - is standard input
    #[arg(value_name = "TRACE", required_unless_present = "resume")]
    trace: Option<PathBuf>,
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
    #[command(flatten)]
    nodes: Nodes,
    /// Let jobs come so many times as fast; several are compared
    #[arg(long, value_name = "FACTOR", value_delimiter = ',', default_value = "1", value_parser = policies::factor)]
    load: Vec<f64>,
    /// Count nothing of so many jobs, with which the machine fills
    #[arg(long, value_name = "N", default_value_t = 0)]
    warm_up: usize,
    /// Tell the utilization between two times of the log, too: seconds, or spans, such as
    /// 30d:300d
    #[arg(long, value_name = "FROM:TO", value_parser = window)]
    window: Option<(Time, Time)>,
    /// Tell the mean slowdown without a bound, too, and how alike jobs were treated, and users:
    /// Jain's index of their bounded slowdowns
    #[arg(long)]
    detail: bool,
    /// Write when each job was submitted, started and ended, in seconds, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write what was simulated as a log in the same format, with how long each job waited:
    /// under one policy, at one load
    #[arg(long, value_name = "FILE")]
    swf: Option<PathBuf>,
    /// Draw the first jobs under each policy, processors by time
    #[arg(long)]
    gantt: bool,
    /// Write a page with charts and a table, for a browser
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Leave out lines that are none of a log
    #[arg(long)]
    skip_malformed: bool,
    /// Let nothing happen from this time of the log on, and tell how it stands, under one
    /// policy: seconds, or a span such as 2h30m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    until: Option<Duration>,
    /// Write a file at that time from which --resume goes on
    #[arg(long, value_name = "FILE", requires = "until")]
    snapshot: Option<PathBuf>,
    /// Go on from such a file; it has the policy and the jobs in it
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["trace", "policy", "from_job", "jobs", "processors", "nodes", "load", "skip_malformed"]
    )]
    resume: Option<PathBuf>,
}

impl Args {
    /// Begins to count for a machine of so many processors.
    fn tally(&self, processors: u64) -> Tally {
        let tally = Tally::new(processors).with_window(self.window);
        let tally = tally.with_digest(self.warm_up as u64);
        match self.detail {
            true => tally.in_detail(),
            false => tally,
        }
    }
}

/// Reads two times.
fn window(text: &str) -> Result<(Time, Time), String> {
    let (from, to) = text
        .split_once(':')
        .ok_or("two times with : between them are wanted, such as 30d:300d")?;
    let time = |text| parse_duration(text).map(|span| Time(0) + span);
    let both = time(from).and_then(|from| Ok((from, time(to)?)));
    let (from, to) = both.map_err(|error| error.to_string())?;
    match from < to {
        true => Ok((from, to)),
        false => Err("it is to end after it begins".to_owned()),
    }
}

const FILES: snapshot::Of = snapshot::Of {
    command: "swf",
    source: "log",
};

/// Carries it out.
pub(super) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let Some(path) = &args.trace else {
        return go_on(args, ctx);
    };
    let policies = args.policy.iter().map(|name| policies::policy(name));
    let policies: Vec<Named> = policies.collect::<Result<_, _>>()?;
    let Trace {
        processors, jobs, ..
    } = trace::read(path, args.processors, args.skip_malformed)?;
    let machine = args.nodes.machine(processors)?;
    let able = jobs.len();
    let wanted = &jobs[args.from_job.min(able)..];
    let jobs = &wanted[..args
        .jobs
        .map_or(wanted.len(), |most| most.min(wanted.len()))];
    if jobs.len() <= args.warm_up {
        return Err(advised(
            Class::User,
            format!("no job of {} is left to simulate", path.display()),
            format!("{able} of its jobs can run"),
        ));
    }
    let for_one = [
        ("--until", args.until.is_some()),
        ("--swf", args.swf.is_some()),
    ];
    let one = match (&policies[..], &args.load[..]) {
        ([policy], [load]) => Some((policy, *load)),
        _ => None,
    };
    if let (None, Some((flag, _))) = (one, for_one.iter().find(|(_, given)| *given)) {
        let what = format!("{flag} is for one policy, at one load");
        return Err(advised(Class::User, what, "name one with --policy"));
    }
    if let (Some(until), Some((policy, load))) = (args.until, one) {
        let jobs = at_load(jobs, load).collect();
        let simulation = Simulation::new(machine, policy.clone(), jobs)?;
        return cut(simulation, until, path, args, ctx);
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
    let progress = Progress::new(ctx, (cases.len() * jobs.len()) as u64);
    let schedules = on_all_cores(&cases, |case| {
        case.schedule(machine, jobs, args, progress.counter())
    })?;
    drop(progress);
    tell(&schedules, machine, path, jobs, args, ctx)
}

/// Goes on from a file.
fn go_on(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let Some(file) = &args.resume else {
        bail!("a log is missing");
    };
    let simulation = snapshot::read(file, FILES, Simulation::resume)?;
    let until = args.until.unwrap_or(Duration::MAX);
    cut(simulation, until, file, args, ctx)
}

/// Lets a simulation go on until a time, and tells how it stands then.
fn cut(
    mut simulation: Simulation,
    until: Duration,
    name: &Path,
    args: &Args,
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let until = Time(0) + until;
    if until < simulation.time() {
        let begun = simulation.time().0 as f64 / 1e6;
        let what = format!("{begun} s are over in the snapshot");
        return Err(advised(Class::User, what, "name a later time with --until"));
    }
    let left = simulation.run(until);
    let seconds = until.0 as f64 / 1e6;
    if left {
        let (waiting, coming) = simulation.left();
        let told = format!(
            "at {seconds} s {waiting} jobs wait and {coming} are to come; those that had started are counted"
        );
        output::talk("note", told);
    }
    if let Some(file) = &args.snapshot {
        snapshot::keep(simulation.snapshot(), file, FILES, left, seconds)?;
    }
    let machine = simulation.machine();
    let warm_up = args.warm_up as u64;
    let mut tally = args.tally(machine.all());
    let counted = simulation.ran().iter().filter(|ran| ran.number >= warm_up);
    counted.for_each(|ran| tally.add(ran));
    let schedule = Schedule {
        policy: simulation.policy().name.clone(),
        summary: tally.summary(),
        ran: simulation.ran().to_vec(),
    };
    tell(&[schedule], machine, name, &[], args, ctx)
}

/// Writes what is to be written, and tells the rest. Of a snapshot no job of the log is known.
fn tell(
    schedules: &[Schedule],
    machine: Machine,
    name: &Path,
    jobs: &[Found],
    args: &Args,
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let all = machine.all();
    if let Some(file) = &args.csv {
        write_csv(file, schedules).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let (Some(file), [only]) = (&args.swf, schedules) {
        let log = log(only, machine, jobs);
        std::fs::write(file, log).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &args.report {
        let page = page(&name.display().to_string(), all, schedules);
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    match (ctx.output, schedules) {
        (OutputFormat::Json, [only]) => output::json(&only.summary)?,
        (OutputFormat::Json, several) => {
            let all = several.iter().map(|its| (&its.policy, &its.summary));
            output::json(&all.collect::<BTreeMap<_, _>>())?;
        }
        (OutputFormat::Quiet, _) => {
            for its in schedules {
                output::line(its.summary.start_sha256.as_deref().unwrap_or_default())?;
            }
        }
        (OutputFormat::Human, _) => {
            let counted = schedules.first().map_or(0, |its| its.summary.jobs);
            let on = on_nodes(machine.nodes);
            output::line(format!("{counted} jobs, {all} processors{on}"))?;
            let head = [
                "POLICY", "WAIT", "LONGEST", "SLOWDOWN", "AT ONCE", "USED", "MAKESPAN",
            ];
            output::table(&head, schedules.iter().map(row))?;
            if args.detail || args.window.is_some() {
                let mut head = vec!["POLICY"];
                head.extend(args.window.map(|_| "USED IN WINDOW"));
                if args.detail {
                    head.extend(["TURNAROUND", "UNBOUNDED", "FAIR", "FAIR TO USERS"]);
                }
                output::table(&head, schedules.iter().map(more))?;
            }
            if args.gantt {
                output::line(gantt::charts(schedules, all).trim_end())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives jobs that come so many times as fast.
fn at_load(jobs: &[Found], load: f64) -> impl Iterator<Item = Job> {
    let first = jobs.first().map_or(Time(0), |found| found.job.submit);
    jobs.iter().map(move |found| found.job.at_load(first, load))
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
        machine: Machine,
        jobs: &[Found],
        args: &Args,
        mut counter: Counter<'_>,
    ) -> anyhow::Result<Schedule> {
        let written = [&args.report, &args.csv, &args.swf];
        let keep = args.gantt || written.iter().any(|file| file.is_some());
        let mut all = Vec::new();
        let mut tally = args.tally(machine.all());
        let first = args.warm_up as u64;
        let arrivals = at_load(jobs, self.load).map(Ok::<_, Infallible>);
        let (order, backfill) = (self.policy.order, self.policy.backfill);
        simulate(machine, order, backfill, arrivals, |ran| {
            counter.add();
            if ran.number >= first {
                match args.detail {
                    true => tally.add_of(&ran, jobs[ran.number as usize].user()),
                    false => tally.add(&ran),
                }
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

/// Writes a schedule as a log.
fn log(schedule: &Schedule, machine: Machine, jobs: &[Found]) -> String {
    let mut ran: Vec<&Ran> = schedule.ran.iter().collect();
    ran.sort_by_key(|ran| ran.number);
    let seconds = |at: Time| (at.0 / 1_000_000).cast_signed();
    let lines: Vec<Line> = ran
        .into_iter()
        .map(|ran| Line {
            wait: seconds(ran.start) - seconds(ran.job.submit),
            user: jobs
                .get(ran.number as usize)
                .and_then(Found::user)
                .unwrap_or(-1),
            ..line(ran.number + 1, &ran.job)
        })
        .collect();
    // In a pool each processor is for itself.
    let nodes = match machine.nodes {
        1 => machine.all(),
        nodes => nodes.into(),
    };
    let head = [
        ("Version", "2.2".to_owned()),
        (
            "Note",
            format!("simulated by hyperion sim swf under {}", schedule.policy),
        ),
        ("MaxJobs", lines.len().to_string()),
        ("MaxNodes", nodes.to_string()),
        ("MaxProcs", machine.all().to_string()),
    ];
    swf::write(&head, &lines)
}

fn row(schedule: &Schedule) -> Vec<String> {
    let summary = &schedule.summary;
    vec![
        schedule.policy.clone(),
        span(summary.avg_wait),
        span(summary.max_wait.as_f64()),
        format!("{:.2}", summary.avg_bsld),
        share(summary.zero_wait as f64 / summary.jobs as f64),
        share(summary.util),
        span(summary.makespan.as_f64()),
    ]
}

/// Tells what is told only where it was asked for.
fn more(schedule: &Schedule) -> Vec<String> {
    let summary = &schedule.summary;
    let mut words = vec![schedule.policy.clone()];
    words.extend(summary.window.map(|window| share(window.util)));
    if let Some(detail) = summary.detail {
        let index = |index: f64| format!("{index:.3}");
        words.extend([
            span(summary.avg_turnaround),
            format!("{:.2}", detail.avg_slowdown),
            index(detail.fair_jobs),
            detail.fair_users.map_or_else(String::new, index),
        ]);
    }
    words
}

fn span(seconds: f64) -> String {
    clock(Duration::from_secs_f64(seconds))
}

fn share(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
