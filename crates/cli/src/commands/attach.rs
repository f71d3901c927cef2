//! `hyperion attach`

use hyperion_node::talk::Ask;
use hyperion_node::{Client, Jobs};
use hyperion_sys::entry::ExitCode;

use crate::context::Context;
use crate::session::{self, Label, Session};

// Words of `hyperion attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not pass on standard input
    #[arg(long)]
    no_stdin: bool,
    /// Put the rank before each line of output
    #[arg(long)]
    label: bool,
    /// Job, by name or id
    job: String,
}

/// Attaches to a running job; ctrl-p ctrl-q leaves it again.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let job = Jobs::new(&ctx.root).find(&args.job)?;
    let spec = job.asked()?.plan.job;
    let mut client = Client::connect(&job)?;
    let input = spec.interactive && !args.no_stdin;
    client.ask(&Ask::Attach {
        stdin: input,
        size: session::terminal_size().filter(|_| spec.tty),
    })?;
    let session = Session {
        label: Label::brackets(args.label),
        raw: spec.tty && input,
        input,
        job: true,
        ..Session::default()
    };
    let code = session.run(client, &job.id, |end| {
        session::tell_failure(end);
        Ok(())
    })?;
    Ok(ExitCode::from(code))
}
