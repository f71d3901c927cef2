//! `hyperion report`

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use hyperion_model::metrics::ServiceTimes;
use hyperion_model::report::Exit;
use hyperion_model::units::format_duration;
use hyperion_model::{Bytes, Class, Member, RunReport};
use hyperion_node::Jobs;
use hyperion_sys::entry::ExitCode;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::errors;
use crate::output;

// Words of `hyperion report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Jobs, by name or id; several are shown side by side
    #[arg(required = true)]
    jobs: Vec<String>,
}

/// Prints what jobs cost.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut reports = Vec::new();
    for name in &args.jobs {
        reports.push((name.clone(), find(name, ctx)?));
    }
    if ctx.output == OutputFormat::Json {
        let all: Vec<_> = reports.iter().map(|(_, r)| with_metrics(r)).collect();
        output::json(&all)?;
    } else {
        output::line(table(&reports))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Finds what a job cost.
///
/// # Errors
/// No such job, or one that has no report.
pub(crate) fn find(name: &str, ctx: &Context) -> anyhow::Result<RunReport> {
    let job = Jobs::new(&ctx.root).find(name)?;
    job.end().and_then(|end| end.report).ok_or_else(|| {
        errors::advised(
            Class::NotFound,
            format!("job {name} has no report: it never ran, or has not ended"),
            format!("wait for its end: hyperion wait {name}"),
        )
    })
}

/// Prints one report on standard error, where it does not mix with the job's output.
pub(crate) fn print_to_stderr(report: &RunReport, json: bool) -> anyhow::Result<()> {
    if json {
        eprintln!("{}", serde_json::to_string(&with_metrics(report))?);
    } else {
        eprintln!("{}", table(&[(report.id.to_string(), report.clone())]));
    }
    Ok(())
}

/// Adds what is computed to what is stored.
fn with_metrics(report: &RunReport) -> serde_json::Value {
    serde_json::json!({
        "report": report,
        "cpu_utilization_percent": report.cpu_utilization(),
        "memory_utilization_percent": report.memory_utilization(),
        "memory_peak_percent": report.memory_peak_percent(),
        "throughput_per_second": report.throughput(),
        "throughput_window_seconds": report.wall.as_secs_f64(),
        "wait_seconds": report.startup.as_secs_f64(),
        "turnaround_seconds": report.turnaround().as_secs_f64(),
        "overhead": report.overhead(),
        "service_times": report.service_times(),
        "naive_share_cores_per_rank": report.naive_share(),
        "max_min_share_cores_per_rank": report.fair_share(),
    })
}

/// A row: its title, its value in words, and the number that two reports are compared by.
struct Row {
    title: &'static str,
    words: fn(&RunReport) -> Option<String>,
    number: Option<fn(&RunReport) -> Option<f64>>,
}

/// A row of words.
const fn words(title: &'static str, words: fn(&RunReport) -> Option<String>) -> Row {
    Row {
        title,
        words,
        number: None,
    }
}

/// A row of a quantity.
const fn quantity(
    title: &'static str,
    words: fn(&RunReport) -> Option<String>,
    number: fn(&RunReport) -> Option<f64>,
) -> Row {
    Row {
        title,
        words,
        number: Some(number),
    }
}

fn seconds(time: Duration) -> Option<f64> {
    Some(time.as_secs_f64())
}

fn service(report: &RunReport, pick: fn(&ServiceTimes) -> Duration) -> Option<Duration> {
    report.service_times().map(|t| pick(&t))
}

fn percent(value: Option<f64>, of: impl std::fmt::Display) -> Option<String> {
    value.map(|v| format!("{v:.1} % of {of}"))
}

fn result(report: &RunReport) -> String {
    match report.exit {
        Exit::Code(0) => "ended well".into(),
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => hyperion_sys::signals::name(signal.into()),
    }
}

fn moved(report: &RunReport) -> Option<String> {
    let (read, written) = (report.usage.io_read, report.usage.io_written);
    let text = |b: Option<Bytes>| b.map_or("?".into(), |b| b.to_string());
    (read.is_some() || written.is_some()).then(|| format!("{} / {}", text(read), text(written)))
}

fn throughput(report: &RunReport) -> Option<String> {
    let per_second = report.throughput()?;
    let window = format_duration(report.wall);
    Some(format!("{per_second:.3} /s over {window}"))
}

/// Says which nodes there were, neighbours of one level together: `vm:1 + container:3`.
fn nodes(members: &[Member]) -> Option<String> {
    let runs = members.chunk_by(|a, b| a == b).map(|run| {
        let one = run.first().map(|m| format!("{}:{}", m.level, m.ranks));
        let one = one.unwrap_or_default();
        match run.len() {
            1 => one,
            n => format!("{n} x {one}"),
        }
    });
    let text = runs.collect::<Vec<_>>().join(" + ");
    (!text.is_empty()).then_some(text)
}

/// The rows before the phases of the start.
const HEAD: [Row; 5] = [
    words("level", |r| {
        let nodes = nodes(&r.members).unwrap_or_else(|| r.level.to_string());
        Some(nodes + if r.emulated { ", emulated" } else { "" })
    }),
    words("ranks", |r| Some(r.ranks.len().to_string())),
    words("started by", |r| Some(r.mpi.clone().unwrap_or("-".into()))),
    words("result", |r| Some(result(r))),
    quantity(
        "wait (start-up)",
        |r| Some(format_duration(r.startup)),
        |r| seconds(r.startup),
    ),
];

/// The rows after them; "latency" is what the sources call processing time / tasks.
const TAIL: [Row; 16] = [
    quantity(
        "wall time",
        |r| Some(format_duration(r.wall)),
        |r| seconds(r.wall),
    ),
    quantity(
        "turnaround",
        |r| Some(format_duration(r.turnaround())),
        |r| seconds(r.turnaround()),
    ),
    quantity(
        "CPU time",
        |r| r.usage.cpu_total().map(format_duration),
        |r| r.usage.cpu_total().and_then(seconds),
    ),
    words("CPU utilization", |r| {
        percent(r.cpu_utilization(), format_args!("{} cores", r.cpus))
    }),
    words("memory utilization", |r| {
        percent(r.memory_utilization(), r.memory)
    }),
    quantity(
        "peak memory",
        |r| {
            let share = r.memory_peak_percent()?;
            Some(format!("{} ({share:.1} %)", r.usage.memory_peak?))
        },
        |r| Some(r.usage.memory_peak?.0 as f64),
    ),
    words("read / written", moved),
    words("runs", |r| Some(r.repeats.len().to_string())),
    quantity("throughput", throughput, RunReport::throughput),
    quantity(
        "latency (mean service)",
        |r| service(r, |t| t.mean).map(format_duration),
        |r| service(r, |t| t.mean).and_then(seconds),
    ),
    quantity(
        "  service p50",
        |r| service(r, |t| t.p50).map(format_duration),
        |r| service(r, |t| t.p50).and_then(seconds),
    ),
    words("  service p95", |r| {
        service(r, |t| t.p95).map(format_duration)
    }),
    words("  service p99", |r| {
        service(r, |t| t.p99).map(format_duration)
    }),
    words("naive share per rank", |r| {
        r.naive_share().map(|s| format!("{s:.2} cores"))
    }),
    words("max-min share per rank", |r| {
        r.fair_share().map(|s| format!("{s:.2} cores"))
    }),
    words("  less overhead of", |r| {
        r.overhead().map(|o| format!("{:.1} %", o * 100.0))
    }),
];

/// Says by how much the second of two numbers is larger.
fn change(first: Option<f64>, second: Option<f64>) -> String {
    match (first, second) {
        (Some(first), Some(second)) if first > 0.0 => {
            format!("{:+.1} %", (second / first - 1.0) * 100.0)
        }
        _ => String::new(),
    }
}

/// The names of all phases, in the order of the first report that has them.
fn phases(reports: &[(String, RunReport)]) -> Vec<&str> {
    let mut names = Vec::new();
    for phase in reports.iter().flat_map(|(_, r)| &r.phases) {
        if !names.contains(&phase.name.as_str()) {
            names.push(&phase.name);
        }
    }
    names
}

/// Puts a line of the table together.
fn line(
    title: String,
    cells: impl Iterator<Item = Option<String>>,
    change: Option<String>,
) -> Vec<String> {
    let cells = cells.map(|c| c.unwrap_or("not measured".into()));
    std::iter::once(title).chain(cells).chain(change).collect()
}

/// Writes reports side by side; two are compared.
fn table(reports: &[(String, RunReport)]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let compared = match reports {
        [(_, first), (_, second)] => Some((first, second)),
        _ => None,
    };
    let names = reports.iter().map(|(name, _)| name.clone());
    let change_title = compared.map(|_| "change".to_owned());
    table.set_header([String::new()].into_iter().chain(names).chain(change_title));
    let row = |row: &Row| {
        let cells = reports.iter().map(|(_, r)| (row.words)(r));
        let number = |r| row.number.and_then(|number| number(r));
        let change = compared.map(|(first, second)| change(number(first), number(second)));
        line(row.title.to_owned(), cells, change)
    };
    table.add_rows(HEAD.iter().map(row));
    table.add_rows(phases(reports).into_iter().map(|name| {
        let of = |r: &RunReport| r.phases.iter().find(|p| p.name == name).map(|p| p.took);
        let cells = reports.iter().map(|(_, r)| of(r).map(format_duration));
        line(format!("  {name}"), cells, None)
    }));
    table.add_rows(TAIL.iter().map(row));
    let text = table.to_string();
    text.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}
