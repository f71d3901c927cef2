//! `hyperion logs`

use std::collections::BTreeMap;
use std::io;

use anyhow::Context as _;
use hyperion_model::Class;
use hyperion_model::units::parse_duration;
use hyperion_node::log::{Reader, Record};
use hyperion_node::talk::Ask;
use hyperion_node::{Client, JobFolder, Jobs, State};
use hyperion_sys::entry::ExitCode;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::context::Context;
use crate::errors;
use crate::session::{Label, Printer};

// Words of `hyperion logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job, by name or id
    job: String,
    /// Wait for more until the job ends
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only what was written since then: a span (10m) or a time (2026-11-21T10:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    since: Option<Timestamp>,
    /// Put the rank before each line
    #[arg(long)]
    label: bool,
    /// Only this rank
    #[arg(long, value_name = "N")]
    rank: Option<u32>,
    /// Put the time before each piece
    #[arg(short = 't', long)]
    timestamps: bool,
}

fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let span = parse_duration(text).map_err(|_| {
        format!(
            "{text:?} is no span of time, such as 10m, and no time, such as 2026-11-21T10:00:00Z"
        )
    })?;
    Timestamp::now()
        .checked_sub(span)
        .map_err(|e| e.to_string())
}

/// Prints what a job wrote.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let job = Jobs::new(&ctx.root).find(&args.job)?;
    let ranks = job.asked()?.plan.job.parallel.ranks;
    if let Some(rank) = args.rank.filter(|&rank| rank >= ranks) {
        return Err(errors::advised(
            Class::User,
            format!("job {} has no rank {rank}", args.job),
            format!("its ranks are 0 to {}", ranks.saturating_sub(1)),
        ));
    }
    let path = job.log();
    let mut reader = Reader::new(path.clone());
    let mut printer = Printer::new(Label::brackets(args.label), BTreeMap::new());
    let mut watch = if args.follow { Watch::new(&job) } else { None };
    loop {
        // Looked at before the last read: what is written between them is not lost.
        let over = watch.as_mut().is_none_or(|w| w.is_over(&job));
        while let Some(record) = reader
            .next_record()
            .with_context(|| format!("cannot read {}", path.display()))?
        {
            match print(args, &mut printer, &record) {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                other => other?,
            }
        }
        if over {
            printer.finish();
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn print(args: &Args, printer: &mut Printer, record: &Record) -> io::Result<()> {
    if args.since.is_some_and(|s| record.time < s) || args.rank.is_some_and(|r| record.rank != r) {
        return Ok(());
    }
    if args.timestamps {
        let stamp = format!("{:.6} ", record.time);
        let mut bytes = Vec::new();
        for line in record.bytes.split_inclusive(|&b| b == b'\n') {
            bytes.extend_from_slice(stamp.as_bytes());
            bytes.extend_from_slice(line);
        }
        return printer.print(record.rank, record.stream, &bytes);
    }
    printer.print(record.rank, record.stream, &record.bytes)
}

/// Tells when a running job has ended.
struct Watch {
    client: Client,
}

impl Watch {
    fn new(job: &JobFolder) -> Option<Self> {
        let mut client = Client::connect(job).ok()?;
        client.ask(&Ask::Wait).ok()?;
        Some(Self { client })
    }

    /// Waits a moment; tells whether the job has ended.
    fn is_over(&mut self, job: &JobFolder) -> bool {
        // The log is a file: nothing announces that it grew, so it is looked at ten times a second.
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        let mut fds = [PollFd::new(&self.client, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&moment));
        loop {
            match self.client.try_hear() {
                Ok(Some(_)) => {}
                Ok(None) => return job.state() == State::Ended,
                Err(_) => return true,
            }
        }
    }
}
