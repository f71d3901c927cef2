//! `hyperion ps`

use hyperion_node::{Jobs, State};
use hyperion_sys::entry::ExitCode;
use jiff::Timestamp;
use serde::Serialize;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;

// Words of `hyperion ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show ended jobs too
    #[arg(short = 'a', long)]
    all: bool,
    /// Print ids only
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// One line of the list.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: Option<String>,
    level: String,
    image: Option<String>,
    command: Vec<String>,
    ranks: u32,
    nodes: u32,
    state: State,
    exit_code: Option<u8>,
    created: Timestamp,
}

/// Lists jobs.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    for job in Jobs::new(&ctx.root).list()? {
        let state = job.state();
        if matches!(state, State::Lost | State::Ended) {
            job.clean_up();
        }
        let Ok(asked) = job.asked() else { continue };
        if !args.all && !matches!(state, State::Starting | State::Running) {
            continue;
        }
        let spec = asked.plan.job;
        let nodes = spec.nodes();
        rows.push(Row {
            id: job.id.to_string(),
            name: spec.name.map(|n| n.to_string()),
            level: spec.level.to_string(),
            image: spec.image,
            command: spec.argv,
            ranks: spec.parallel.ranks,
            nodes,
            state,
            exit_code: job.end().map(|e| e.code),
            created: asked.created,
        });
    }
    match ctx.output {
        OutputFormat::Json => output::json(&rows)?,
        _ if args.quiet || ctx.output == OutputFormat::Quiet => {
            for row in &rows {
                output::line(&row.id)?;
            }
        }
        _ => output::table(
            &[
                "JOB", "NAME", "LEVEL", "IMAGE", "NODES", "RANKS", "STATE", "AGE", "COMMAND",
            ],
            rows.iter().map(cells),
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Row) -> Vec<String> {
    let state = match (row.state, row.exit_code) {
        (State::Starting, _) => "starting".into(),
        (State::Running, _) => "running".into(),
        (State::Ended, Some(code)) => format!("ended ({code})"),
        (State::Ended, None) => "ended".into(),
        (State::Lost, _) => "lost".into(),
    };
    let age = Timestamp::now().duration_since(row.created).unsigned_abs();
    vec![
        row.id.clone(),
        row.name.clone().unwrap_or_default(),
        row.level.clone(),
        row.image.clone().unwrap_or_default(),
        row.nodes.to_string(),
        row.ranks.to_string(),
        state,
        output::age(age),
        row.command.join(" "),
    ]
}
