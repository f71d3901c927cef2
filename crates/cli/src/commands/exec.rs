//! `hyperion exec`

use std::path::PathBuf;
use std::process::ExitCode;

use hyperion_model::ProcessSpec;
use hyperion_node::talk::Ask;
use hyperion_node::{Client, Jobs};

use crate::context::Context;
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
    /// Set a variable, NAME=VALUE
    #[arg(short = 'e', long, value_name = "VAR")]
    env: Vec<String>,
    /// Working folder
    #[arg(short = 'w', long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// User, NAME|ID[:GROUP]
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// Job, by name or id
    job: String,
    /// Command and arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

/// Runs a command beside a job's ranks, in the same sandbox.
pub(crate) fn run(args: Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let job = Jobs::new(&ctx.root).find(&args.job)?;
    let mut client = Client::connect(&job)?;
    let process = ProcessSpec {
        node: 0,
        argv: args.command,
        env: args.env,
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
        label: false,
        raw: args.tty && args.interactive,
        input: args.interactive,
        job: false,
    };
    session.run(client, &job.id, |_| Ok(()))
}
