//! `hyperion cancel`, `hold`, `release`, `requeue`, `suspend` and `resume`

use hyperion_api::queue::{Request, Target};
use hyperion_sys::entry::ExitCode;

use super::{Server, targets};
use crate::context::Context;

// Words of verbs that change what was submitted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Jobs by number, or tasks of arrays: 12, 12_7, 12_[3-5]
    #[arg(required = true)]
    jobs: Vec<String>,
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
    /// They stand still.
    Suspend,
    /// They go on.
    Resume,
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
        Change::Suspend => Request::Suspend(all),
        Change::Resume => Request::Resume(all),
    };
    Server::reach(ctx, true)?.ask(&request)?;
    Ok(ExitCode::SUCCESS)
}
