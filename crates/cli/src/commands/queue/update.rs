//! `hyperion update`: changes jobs of the queue in the words that submit them.

use std::collections::BTreeMap;

use hyperion_api::queue::{Filter, Request, Target};
use hyperion_formats::jobs::{self, Altered};
use hyperion_model::submission::{Dialect, Moment};
use hyperion_model::{Class, Edit};
use hyperion_sys::entry::ExitCode;
use jiff::Zoned;

use super::{Server, moment, targets};
use crate::context::Context;
use crate::errors;

// Words of `hyperion update`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hyperion update JOB... [WORDS OF THE BATCH SYSTEM]...",
    after_help = "Behind the jobs come the options that submit such a job, in the words of the batch \
                  system in which it was submitted: `hyperion update 12 --time=2:00:00 --nice=5`, \
                  `hyperion update 13 -l walltime=2:00:00`."
)]
pub(crate) struct Args {
    /// Jobs by number, or tasks of arrays: 12, 12_7; then what is to be another
    #[arg(
        value_name = "JOB",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true
    )]
    words: Vec<String>,
}

/// Changes jobs: all that is said of them, or nothing.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let words = &args.words;
    let first = words.iter().position(|word| word.starts_with('-'));
    let (jobs, words) = words.split_at(first.unwrap_or(words.len()));
    if jobs.is_empty() || words.is_empty() {
        let what = match jobs.is_empty() {
            true => "no job is named",
            false => "nothing is to be changed",
        };
        let hint = "name jobs, then what is to be another: `hyperion update 12 --time=30`";
        return Err(errors::advised(Class::User, what, hint));
    }
    let mut meant: Vec<Target> = Vec::new();
    for job in jobs {
        meant.extend(targets(job)?);
    }
    let mut server = Server::reach(ctx, true)?;
    let views = server.jobs(Filter {
        jobs: meant.iter().map(|target| target.job).collect(),
        alive: true,
        ended: true,
        ..Filter::default()
    })?;
    let mut systems: BTreeMap<Dialect, Vec<Target>> = BTreeMap::new();
    for target in meant {
        let view = views.iter().find(|view| view.job == target.job);
        // Of one that is not there the server says so.
        let dialect = view.map_or(Dialect::Slurm, |view| view.dialect);
        systems.entry(dialect).or_default().push(target);
    }
    let mut requests = Vec::new();
    for (dialect, meant) in systems {
        let altered = jobs::altered(dialect, words).map_err(|what| {
            let hint = "options are those that submit the job; `hyperion cancel` it, and submit \
                        another, where one cannot be changed";
            errors::advised(Class::User, what, hint)
        })?;
        let numbers = meant.iter().map(|target| target.job).collect();
        let hold = altered.hold.then_some(Request::Hold(numbers));
        let edits = settled(altered)?;
        requests.extend((!edits.is_empty()).then_some(Request::Edit(meant, edits)));
        requests.extend(hold);
    }
    for request in &requests {
        server.ask(request)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives the edits of what was read, with the moments of which it speaks as this clock
/// has them.
pub(in crate::commands) fn settled(altered: Altered) -> anyhow::Result<Vec<Edit>> {
    let mut edits = altered.edits;
    if let Some(begin) = altered.begin
        && let Moment::In(span) = moment::span(begin, &Zoned::now())?
    {
        edits.push(Edit::Begin(span));
    }
    Ok(edits)
}
