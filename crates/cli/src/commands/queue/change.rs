//! `hyperion cancel`, `hold`, `release`, `requeue`, `suspend` and `resume`

use hyperion_api::queue::{Request, Target};
use hyperion_model::Class;
use hyperion_sys::entry::ExitCode;

use super::{Server, targets};
use crate::context::Context;
use crate::errors;

// Words of verbs that change what was submitted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Jobs by number, or tasks of arrays: 12, 12_7, 12_[3-5]
    #[arg(required = true)]
    jobs: Vec<String>,
}

// Words of `hyperion requeue`.
#[derive(Debug, clap::Args)]
pub(crate) struct RequeueArgs {
    #[command(flatten)]
    which: Args,
    /// Hold them until they are released
    #[arg(long)]
    hold: bool,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// They are not wanted any more.
    Cancel,
    /// They do not start.
    Hold,
    /// They may start.
    Release,
    /// They wait again.
    Requeue,
    /// They wait again, and are held.
    RequeueHold,
    /// They stand still.
    Suspend,
    /// They go on.
    Resume,
}

/// Lets jobs that run wait again.
pub(crate) fn requeue(args: &RequeueArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let change = match args.hold {
        true => Change::RequeueHold,
        false => Change::Requeue,
    };
    run(change, &args.which, ctx)
}

/// Does it to all of them.
pub(crate) fn run(change: Change, args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for job in &args.jobs {
        all.extend(targets(job)?);
    }
    let whole = |all: &[Target]| {
        let mut jobs: Vec<u64> = all.iter().map(|target| target.job).collect();
        jobs.dedup();
        jobs
    };
    let request = match change {
        Change::Cancel => Request::Cancel(all),
        Change::Hold => Request::Hold(whole(&all)),
        Change::Release => Request::Release(whole(&all)),
        Change::Requeue => Request::Requeue(all),
        Change::RequeueHold => match all.iter().any(|target| target.index.is_some()) {
            false => Request::RequeueHold(whole(&all)),
            true => {
                let what = "an array is held as a whole";
                let hint = "name the job alone, or leave out --hold";
                return Err(errors::advised(Class::User, what, hint));
            }
        },
        Change::Suspend => Request::Suspend(all),
        Change::Resume => Request::Resume(all),
    };
    Server::reach(ctx, true)?.ask(&request)?;
    Ok(ExitCode::SUCCESS)
}
