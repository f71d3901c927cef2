//! `hyperion stats`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use hyperion_model::Usage;
use hyperion_node::client::Heard;
use hyperion_node::talk::{Ask, Tell};
use hyperion_node::{Client, Jobs, State};
use rustix::event::{Timespec, poll};

use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;

// Words of `hyperion stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Jobs, by name or id [default: all that run]
    jobs: Vec<String>,
}

/// Prints what jobs use now; the processor's share is measured over half a second.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let jobs = Jobs::new(&ctx.root);
    let chosen = if args.jobs.is_empty() {
        jobs.list()?
            .into_iter()
            .filter(|j| j.state() == State::Running)
            .collect()
    } else {
        jobs.find_all(&args.jobs)?
    };
    let mut clients = Vec::new();
    for job in chosen {
        let mut client = Client::connect(&job)?;
        let first = ask(&mut client)?;
        clients.push((job.id, client, first, Instant::now()));
    }
    if !clients.is_empty() {
        let _ = poll(
            &mut [],
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 500_000_000,
            }),
        );
    }
    let mut rows = Vec::new();
    for (id, mut client, first, since) in clients {
        let usage = ask(&mut client)?;
        let used = usage
            .cpu_total()
            .zip(first.cpu_total())
            .map(|(now, then)| now.saturating_sub(then));
        let cores = used.map(|u: Duration| u.as_secs_f64() / since.elapsed().as_secs_f64());
        rows.push((id, cores, usage));
    }
    match ctx.output {
        OutputFormat::Json => {
            let all: Vec<_> = rows.iter().map(|(id, cores, usage)| serde_json::json!({ "id": id, "cores": cores, "usage": usage })).collect();
            output::json(&all)?;
        }
        _ => output::table(
            &["JOB", "CORES", "MEMORY", "PEAK", "PROCESSES"],
            rows.iter().map(|(id, cores, usage)| {
                let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
                vec![
                    id.to_string(),
                    or_dash(cores.map(|c| format!("{c:.2}"))),
                    or_dash(usage.memory_current.map(|b| b.to_string())),
                    or_dash(usage.memory_peak.map(|b| b.to_string())),
                    or_dash(usage.pids.map(|p| p.to_string())),
                ]
            }),
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(client: &mut Client) -> anyhow::Result<Usage> {
    client.ask(&Ask::Stats)?;
    loop {
        match client.hear()? {
            Some(Heard::Told(Tell::Stats(usage))) => return Ok(usage),
            Some(_) => {}
            None => bail!("the job has ended"),
        }
    }
}
