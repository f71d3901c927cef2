//! `hyperion exec`

use std::path::PathBuf;

use hyperion_model::{Class, NodePlan, ProcessSpec};
use hyperion_node::talk::Ask;
use hyperion_node::{Client, Jobs};
use hyperion_sys::entry::ExitCode;

use super::run;
use crate::context::Context;
use crate::errors;
use crate::session::{self, Session};

// Words of `hyperion exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep standard input open
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Make a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Set a variable, NAME=VALUE, or pass on the caller's, NAME
    #[arg(short = 'e', long, value_name = "VAR")]
    env: Vec<String>,
    /// Working folder
    #[arg(short = 'w', long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// User, NAME|ID[:GROUP]
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// Node of the job, by number or host name [default: 0]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Job, by name or id
    job: String,
    /// Command and arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

/// Runs a command beside a job's ranks, in the same sandbox.
pub(crate) fn run(args: Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let job = Jobs::new(&ctx.root).find(&args.job)?;
    let node = match &args.node {
        Some(node) => find_node(&args.job, &job.asked()?.plan, node)?,
        None => 0,
    };
    let env = run::variables(args.env)?;
    let mut client = Client::connect(&job)?;
    let process = ProcessSpec {
        node,
        argv: args.command,
        env: env.into_iter().map(|(n, v)| format!("{n}={v}")).collect(),
        cwd: args.workdir.unwrap_or_default(),
        user: args.user,
        tty: args.tty,
        terminal_size: None,
        cpus: None,
        rlimits: Vec::new(),
    };
    let size = session::terminal_size().filter(|_| args.tty);
    client.ask(&Ask::Exec {
        process,
        stdin: args.interactive,
        size,
    })?;
    let session = Session {
        raw: args.tty && args.interactive,
        input: args.interactive,
        ..Session::default()
    };
    let code = session.run(client, &job.id, |_| Ok(()))?;
    Ok(ExitCode::from(code))
}

/// Gives the number of a node that is named so, or has this number.
fn find_node(job: &str, plan: &NodePlan, node: &str) -> anyhow::Result<u32> {
    let mut names = plan.node_names();
    if names.is_empty() {
        names.push(plan.hostname());
    }
    let named = names.iter().position(|name| name == node);
    let number = named.or_else(|| node.parse().ok().filter(|&n| n < names.len()));
    number.map(|n| n as u32).ok_or_else(|| {
        let all = (0..)
            .zip(&names)
            .map(|(n, name): (u32, _)| format!("{n} ({name})"));
        errors::advised(
            Class::User,
            format!("job {job} has no node {node:?}"),
            format!("its nodes are: {}", all.collect::<Vec<_>>().join(", ")),
        )
    })
}
