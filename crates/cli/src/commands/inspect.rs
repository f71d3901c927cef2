//! `hyperion inspect` and `rm`

use hyperion_model::NodePlan;
use hyperion_model::nodes::{self, Member};
use hyperion_node::{Client, Jobs, State};
use hyperion_sys::entry::ExitCode;
use serde_json::{Value, json};

use crate::context::Context;
use crate::output;

// Words of `hyperion inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Jobs, by name or id
    #[arg(required = true)]
    jobs: Vec<String>,
}

// Words of `hyperion rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Kill the job first if it runs
    #[arg(short = 'f', long)]
    force: bool,
    /// All jobs that do not run
    #[arg(long, conflicts_with = "jobs")]
    ended: bool,
    /// Jobs, by name or id
    #[arg(required_unless_present = "ended")]
    jobs: Vec<String>,
}

/// Prints everything that is known of jobs, as JSON.
pub(crate) fn inspect(args: &InspectArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for name in &args.jobs {
        let job = Jobs::new(&ctx.root).find(name)?;
        let asked = job.asked()?;
        let nodes = nodes(&asked.plan);
        all.push(json!({
            "id": job.id, "state": job.state(), "folder": job.path, "created": asked.created,
            "nodes": nodes, "plan": asked.plan, "running": job.running(), "end": job.end(),
        }));
    }
    output::json(&all)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what the nodes of a job are; nothing where there is one.
fn nodes(plan: &NodePlan) -> Vec<Value> {
    let mut first = 0;
    let names = plan.node_names();
    let nodes = (0..).zip(names).zip(&plan.job.members);
    let node = |((number, name), member): ((u32, String), &Member)| {
        let ranks: Vec<u32> = (first..first + member.ranks).collect();
        first += member.ranks;
        let address = nodes::address(number);
        json!({ "node": number, "name": name, "level": member.level, "address": address, "ranks": ranks })
    };
    nodes.map(node).collect()
}

/// Removes the records of jobs.
pub(crate) fn rm(args: &RmArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let jobs = Jobs::new(&ctx.root);
    let chosen = if args.ended {
        jobs.list()?
            .into_iter()
            .filter(|j| matches!(j.state(), State::Ended | State::Lost))
            .collect()
    } else {
        jobs.find_all(&args.jobs)?
    };
    for job in chosen {
        if args.force
            && matches!(job.state(), State::Starting | State::Running)
            && let Some(mut client) = Client::reach(&job)?
        {
            client.stop(std::time::Duration::ZERO)?;
            // With --rm it removes itself, which is as well.
            job.wait_cleaned();
        }
        jobs.remove(&job)?;
        output::line(&job.id)?;
    }
    Ok(ExitCode::SUCCESS)
}
