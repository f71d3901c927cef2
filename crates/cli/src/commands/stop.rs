//! `hyperion stop`, `kill` and `wait`

use std::time::Duration;

use anyhow::Context as _;
use hyperion_model::units::parse_duration;
use hyperion_node::client::Heard;
use hyperion_node::talk::{Ask, Tell};
use hyperion_node::{Client, JobError, JobFolder, Jobs, State};
use hyperion_sys::entry::ExitCode;
use hyperion_sys::signals;

use crate::context::Context;
use crate::errors;
use crate::output;

// Words of `hyperion stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// How long to wait between SIGTERM and SIGKILL
    #[arg(short = 't', long, value_name = "SPAN", default_value = "10s", value_parser = parse_duration)]
    time: Duration,
    /// Jobs, by name or id
    #[arg(required = true)]
    jobs: Vec<String>,
}

// Words of `hyperion kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct KillArgs {
    /// Signal, by name or number
    #[arg(short = 's', long, value_name = "SIGNAL", default_value = "KILL", value_parser = parse_signal)]
    signal: i32,
    /// Jobs, by name or id
    #[arg(required = true)]
    jobs: Vec<String>,
}

// Words of `hyperion wait`.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Jobs, by name or id
    #[arg(required = true)]
    jobs: Vec<String>,
}

/// No signal is named so.
#[derive(Debug)]
pub(crate) struct NoSignal(pub(crate) String);

impl std::fmt::Display for NoSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no signal {:?}", self.0)
    }
}

impl std::error::Error for NoSignal {}

fn parse_signal(text: &str) -> Result<i32, NoSignal> {
    signals::by_name(text).ok_or_else(|| NoSignal(text.to_owned()))
}

/// Ends jobs: SIGTERM, grace, SIGKILL.
pub(crate) fn stop(args: &StopArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    for name in &args.jobs {
        let job = Jobs::new(&ctx.root).find(name)?;
        if matches!(job.state(), State::Starting | State::Running)
            && let Some(mut client) = Client::reach(&job)?
        {
            let told = client.stop(args.time);
            if told.context("cannot talk to the supervisor")?.is_none() {
                // It was killed, and lets go of its files one after the other.
                job.wait_cleaned();
            }
        }
        job.clean_up();
        output::line(name)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends a signal to jobs.
pub(crate) fn kill(args: &KillArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    for name in &args.jobs {
        let job = Jobs::new(&ctx.root).find(name)?;
        Client::connect(&job)?.ask(&Ask::Signal(args.signal))?;
        output::line(name)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for jobs and prints their exit codes.
pub(crate) fn wait(args: &WaitArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut last = 0;
    for name in &args.jobs {
        let job = Jobs::new(&ctx.root).find(name)?;
        last = match job.end() {
            Some(end) => end.code,
            None => match Client::reach(&job)? {
                Some(mut client) => {
                    // One that ends just now may take no question, but tells its end all the same.
                    let _ = client.ask(&Ask::Wait);
                    until_end(&mut client, &job)?
                }
                // It ended between the two looks, or was removed, or lost.
                None => match job.end() {
                    Some(end) => end.code,
                    None if job.path.exists() => return Err(errors::supervisor_gone(&job.id)),
                    None => return Err(JobError::NotFound(name.clone()).into()),
                },
            },
        };
        output::line(last)?;
    }
    Ok(ExitCode::from(last))
}

/// Waits for the end of a job and gives its exit code.
fn until_end(client: &mut Client, job: &JobFolder) -> anyhow::Result<u8> {
    loop {
        match client.hear().context("cannot talk to the supervisor")? {
            Some(Heard::Told(Tell::Ended(end))) => return Ok(end.code),
            Some(_) => {}
            None => {
                let end = job.end().ok_or_else(|| errors::supervisor_gone(&job.id));
                return Ok(end?.code);
            }
        }
    }
}
