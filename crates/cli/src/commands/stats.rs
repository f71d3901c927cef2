//! `hyperion stats`

use std::time::{Duration, Instant};

use anyhow::bail;
use hyperion_model::Usage;
use hyperion_node::client::Heard;
use hyperion_node::talk::{Ask, Tell};
use hyperion_node::{Client, JobFolder, Jobs, State};
use hyperion_sys::entry::ExitCode;
use rustix::event::{Timespec, poll};
use serde_json::json;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;

// Words of `hyperion stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Jobs, by name or id [default: all that run]
    jobs: Vec<String>,
}

/// What a job, or one of its nodes, uses.
struct Row {
    name: String,
    cores: Option<f64>,
    usage: Usage,
}

impl Row {
    fn cells(&self, job: &str, node: &str) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let Self { cores, usage, .. } = self;
        vec![
            job.to_owned(),
            node.to_owned(),
            or_dash(cores.map(|c| format!("{c:.2}"))),
            or_dash(usage.memory_current.map(|b| b.to_string())),
            or_dash(usage.memory_peak.map(|b| b.to_string())),
            or_dash(usage.pids.map(|p| p.to_string())),
        ]
    }
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
    let begin = |job: JobFolder| {
        let mut names = vec![job.id.to_string()];
        names.extend(job.asked()?.plan.node_names());
        let mut client = Client::connect(&job)?;
        let first = ask(&mut client)?;
        Ok((names, client, first, Instant::now()))
    };
    // Of all that run, some may end meanwhile.
    let named = !args.jobs.is_empty();
    let clients = chosen.into_iter().map(begin);
    let clients: Vec<_> = clients
        .filter(|begun| named || begun.is_ok())
        .collect::<anyhow::Result<_>>()?;
    if !clients.is_empty() {
        let _ = poll(
            &mut [],
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 500_000_000,
            }),
        );
    }
    let mut all = Vec::new();
    for (names, mut client, first, since) in clients {
        let now = match ask(&mut client) {
            Err(_) if !named => continue,
            now => now?,
        };
        let took = since.elapsed();
        let rows = names.into_iter().zip(first.into_iter().zip(now));
        let rows = rows.map(|(name, (first, usage))| Row {
            name,
            cores: cores(&first, &usage, took),
            usage,
        });
        all.push(rows.collect::<Vec<_>>());
    }
    match ctx.output {
        OutputFormat::Json => {
            let jobs = all.iter().filter_map(|rows| {
                let (job, nodes) = rows.split_first()?;
                let nodes = nodes.iter().map(
                    |node| json!({ "name": node.name, "cores": node.cores, "usage": node.usage }),
                );
                let nodes: Vec<_> = nodes.collect();
                Some(json!({
                    "id": job.name, "cores": job.cores, "usage": job.usage, "nodes": nodes,
                }))
            });
            output::json(&jobs.collect::<Vec<_>>())?;
        }
        _ => output::table(
            &["JOB", "NODE", "CORES", "MEMORY", "PEAK", "PROCESSES"],
            all.iter()
                .filter_map(|rows| rows.split_first())
                .flat_map(|(job, nodes)| {
                    let nodes = nodes.iter().map(|node| node.cells(&job.name, &node.name));
                    std::iter::once(job.cells(&job.name, "")).chain(nodes)
                }),
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives how many processors were busy in between.
fn cores(first: &Usage, now: &Usage, took: Duration) -> Option<f64> {
    let (now, then) = now.cpu_total().zip(first.cpu_total())?;
    Some(now.saturating_sub(then).as_secs_f64() / took.as_secs_f64())
}

/// Asks what a job uses, and after it what each of its nodes does.
fn ask(client: &mut Client) -> anyhow::Result<Vec<Usage>> {
    client.ask(&Ask::Stats)?;
    loop {
        match client.hear()? {
            Some(Heard::Told(Tell::Stats { usage, nodes })) => {
                return Ok(std::iter::once(usage).chain(nodes).collect());
            }
            Some(_) => {}
            None => bail!("the job has ended"),
        }
    }
}
