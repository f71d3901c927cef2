//! `hyperion report`

use std::process::ExitCode;

use hyperion_model::metrics::{max_min_shares, naive_share};
use hyperion_model::report::Exit;
use hyperion_model::units::format_duration;
use hyperion_model::{Class, RunReport};
use hyperion_node::Jobs;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::errors;
use crate::output;

/// Words of `hyperion report`.
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
        let job = Jobs::new(&ctx.root).find(name)?;
        match job.end().and_then(|e| e.report) {
            Some(report) => reports.push((name.clone(), report)),
            None => {
                return Err(errors::advised(
                    Class::NotFound,
                    format!("job {name} has no report: it never ran, or has not ended"),
                    format!("wait for its end: hyperion wait {name}"),
                ));
            }
        }
    }
    if ctx.output == OutputFormat::Json {
        let all: Vec<_> = reports.iter().map(|(_, r)| with_metrics(r)).collect();
        output::json(&all)?;
    } else {
        output::line(table(&reports))?;
    }
    Ok(ExitCode::SUCCESS)
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
    let ranks = report.ranks.len().max(1);
    let demands = vec![report.cpus; ranks];
    serde_json::json!({
        "report": report,
        "cpu_utilization_percent": report.cpu_utilization(),
        "memory_utilization_percent": report.memory_utilization(),
        "throughput_per_second": report.throughput(),
        "service_times": report.service_times(),
        "naive_share_cores_per_rank": naive_share(report.cpus, ranks),
        "max_min_share_cores_per_rank": max_min_shares(report.cpus, &demands, 0.0).first(),
    })
}

type Line = (&'static str, fn(&RunReport) -> String);

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "not measured".into())
}

fn percent(value: Option<f64>) -> String {
    or_unknown(value.map(|v| format!("{v:.1} %")))
}

fn service(
    report: &RunReport,
    pick: fn(&hyperion_model::metrics::ServiceTimes) -> std::time::Duration,
) -> String {
    or_unknown(report.service_times().map(|t| format_duration(pick(&t))))
}

/// The lines of the table; "latency" is what the sources call processing time / tasks.
const LINES: [Line; 18] = [
    ("level", |r| r.level.to_string()),
    ("ranks", |r| r.ranks.len().to_string()),
    ("started by", |r| {
        r.mpi.clone().unwrap_or_else(|| "-".into())
    }),
    ("result", |r| match r.exit {
        Exit::Code(0) => "ended well".into(),
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => hyperion_sys::signals::name(signal.into()),
    }),
    ("start-up", |r| format_duration(r.startup)),
    ("wall time", |r| format_duration(r.wall)),
    ("CPU time", |r| {
        or_unknown(r.usage.cpu_total().map(format_duration))
    }),
    ("CPU utilization", |r| percent(r.cpu_utilization())),
    ("  of cores", |r| format!("{:.1}", r.cpus)),
    ("peak memory", |r| {
        or_unknown(r.usage.memory_peak.map(|b| b.to_string()))
    }),
    ("memory utilization", |r| percent(r.memory_utilization())),
    ("read / written", |r| {
        let text = |b: Option<hyperion_model::Bytes>| b.map_or("?".into(), |b| b.to_string());
        format!("{} / {}", text(r.usage.io_read), text(r.usage.io_written))
    }),
    ("runs", |r| r.repeats.len().to_string()),
    ("throughput", |r| {
        or_unknown(r.throughput().map(|t| format!("{t:.3} /s")))
    }),
    ("latency (mean service)", |r| service(r, |t| t.mean)),
    ("service p50", |r| service(r, |t| t.p50)),
    ("service p95", |r| service(r, |t| t.p95)),
    ("service p99", |r| service(r, |t| t.p99)),
];

fn table(reports: &[(String, RunReport)]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let names = reports.iter().map(|(name, _)| name.clone());
    table.set_header(std::iter::once(String::new()).chain(names));
    for (title, value) in LINES {
        let values = reports.iter().map(|(_, r)| value(r));
        table.add_row(std::iter::once(title.to_owned()).chain(values));
    }
    for (_, report) in reports.iter().take(1).filter(|_| reports.len() == 1) {
        for phase in &report.phases {
            table.add_row(vec![
                format!("  start-up: {}", phase.name),
                format_duration(phase.took),
            ]);
        }
    }
    let text = table.to_string();
    text.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}
