//! An allocation: a job that is room for commands, as long as somebody is there who starts
//! some. `srun` outside of a job, `salloc`, `qsub -I` and `bsub -I` have one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyperion_api::queue::{Filter, JobView, Reply, Request, Target};
use hyperion_formats::jobs;
use hyperion_model::ProcessSpec;
use hyperion_model::submission::{Command, Submission};
use hyperion_model::task::State;
use hyperion_node::talk::Ask;
use hyperion_node::{Client, JobFolder, Jobs};
use hyperion_sys::signals::{self, SIGINT, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::submit::{Refusal, hand_in};
use super::{Call, Stop};
use crate::commands::queue::Server;
use crate::session::{self, OnSignal, Session};

/// The first and the longest pause between looks at a job that waits.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// A job that has its nodes, and that somebody has come for.
pub(super) struct Allocation {
    pub(super) number: u64,
    server: Server,
    record: JobFolder,
    /// As long as it is open the job goes on.
    pub(super) keeper: Client,
}

/// How far an allocation is that is asked for.
pub(super) enum Stage {
    /// It has a number, and waits.
    Waits(u64),
    /// It has waited, and has its nodes.
    Granted(u64),
}

/// Why there is none.
pub(super) enum Failed {
    Refused(Refusal),
    /// A signal came before.
    Interrupted(i32),
    /// It did not start in time.
    Busy,
    /// It ended before it began: why.
    Ended(String),
    Stop(Stop),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Stop(error.into())
    }
}

/// What is asked for.
pub(super) struct Wanted {
    pub(super) submission: Submission,
    /// It ends with who asked for it.
    pub(super) kept: bool,
    /// It is given up when it does not start in this time.
    pub(super) patience: Option<Duration>,
}

impl Allocation {
    /// Submits a job that is nothing but room, and waits until it has its nodes.
    pub(super) fn take(
        call: &Call,
        wanted: Wanted,
        mut tell: impl FnMut(Stage),
    ) -> Result<Self, Failed> {
        let mut submission = wanted.submission;
        submission.command = Command::Room { kept: wanted.kept };
        submission.files.output.path = Some("/dev/null".into());
        submission.files.error.path = Some("/dev/null".into());
        submission.files.input = None;
        // Nobody would come for it a second time.
        submission.requeue = Some(false);
        let reply = jobs::Reply::default();
        let submitted = hand_in(call, submission, reply).map_err(Failed::Refused)?;
        let (number, mut server) = (submitted.number, submitted.server);
        let signals = SignalFd::new(&signals::FORWARDED).map_err(anyhow::Error::from)?;
        let since = Instant::now();
        let mut pause = LOOK_AGAIN.0;
        let mut waited = false;
        loop {
            let view = look(&mut server, number)?;
            match (&view.id, view.state) {
                (Some(id), State::Running | State::Suspended) => {
                    let record = Jobs::new(&call.ctx.root);
                    let record = record.find(id).map_err(anyhow::Error::from)?;
                    let mut keeper = Client::connect(&record).map_err(anyhow::Error::from)?;
                    if wanted.kept {
                        keeper.ask(&Ask::Keep).map_err(anyhow::Error::from)?;
                    }
                    if waited {
                        tell(Stage::Granted(number));
                    }
                    return Ok(Self {
                        number,
                        server,
                        record,
                        keeper,
                    });
                }
                (_, state) if state.is_end() => {
                    return Err(Failed::Ended(view.why.unwrap_or_else(|| state.to_string())));
                }
                (_, State::Pending | State::Held) if !waited && since.elapsed() > LOOK_AGAIN.1 => {
                    waited = true;
                    tell(Stage::Waits(number));
                }
                _ => {}
            }
            if wanted.patience.is_some_and(|most| since.elapsed() > most) {
                cancel(&mut server, number)?;
                return Err(Failed::Busy);
            }
            let mut fds = [PollFd::new(&signals, PollFlags::IN)];
            let limit = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(pause.subsec_nanos()),
            };
            let _ = poll(&mut fds, Some(&limit));
            pause = (pause * 2).min(LOOK_AGAIN.1);
            if let Some(signal) = signals.next() {
                cancel(&mut server, number)?;
                return Err(Failed::Interrupted(signal));
            }
        }
    }

    /// Gives the variables that its batch system says to a job.
    pub(super) fn variables(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let batch = self.record.asked()?.plan.job.batch;
        Ok(batch.map(|batch| batch.variables).unwrap_or_default())
    }

    /// Tells whether the host's server has started it, and not one of the user's own.
    pub(super) fn for_host(&self) -> anyhow::Result<bool> {
        Ok(self.record.asked()?.plan.job.for_host)
    }

    /// Runs a command in it, with this terminal as its own; gives the exit code.
    pub(super) fn run(&mut self, command: Beside) -> anyhow::Result<u8> {
        beside(&self.record, command)
    }

    /// Says that it is not wanted any more, and waits until the end is written down.
    pub(super) fn release(mut self, code: u8) -> anyhow::Result<()> {
        // One that has ended has nobody who hears it.
        let _ = self.keeper.ask(&Ask::Release { code });
        self.server.ask(&Request::Wait(vec![self.number]))?;
        Ok(())
    }

    /// Ends it as one that nobody wants.
    pub(super) fn cancel(mut self) -> anyhow::Result<()> {
        cancel(&mut self.server, self.number)?;
        self.server.ask(&Request::Wait(vec![self.number]))?;
        Ok(())
    }
}

/// A command beside a job, in its sandbox.
pub(super) struct Beside {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) tty: bool,
    pub(super) input: bool,
    pub(super) on_signal: OnSignal,
}

impl Beside {
    /// A command that has this terminal, where it is one.
    pub(super) fn at_terminal(argv: Vec<String>, mut env: Vec<String>) -> Self {
        env.extend(std::env::var("TERM").map(|term| format!("TERM={term}")));
        Self {
            argv,
            env,
            tty: rustix::termios::isatty(rustix::stdio::stdin()),
            input: true,
            on_signal: Box::new(|signal| Some(ended_by(signal))),
        }
    }
}

/// Gives the shell that a job finds: the user's own on this host, else that of every image.
pub(super) fn shell() -> String {
    let inside = std::env::var_os("HYPERION_IMAGE").is_some_and(|image| !image.is_empty());
    let own = std::env::var("SHELL").ok().filter(|_| !inside);
    own.unwrap_or_else(|| "/bin/sh".into())
}

/// Runs a command beside a job; gives its exit code.
pub(super) fn beside(record: &JobFolder, command: Beside) -> anyhow::Result<u8> {
    let mut client = Client::connect(record)?;
    let process = ProcessSpec {
        node: 0,
        argv: command.argv,
        env: command.env,
        cwd: std::path::PathBuf::new(),
        user: None,
        tty: command.tty,
        terminal_size: None,
        cpus: None,
        rlimits: Vec::new(),
    };
    client.ask(&Ask::Exec {
        process,
        stdin: command.input,
        size: session::terminal_size().filter(|_| command.tty),
    })?;
    let session = Session {
        raw: command.tty,
        input: command.input,
        on_signal: Some(command.on_signal),
        ..Session::default()
    };
    session.run(client, &record.id, |_| Ok(()))
}

fn look(server: &mut Server, number: u64) -> Result<JobView, Failed> {
    let filter = Filter {
        jobs: vec![number],
        user: None,
        ended: true,
        alive: true,
        ..Filter::default()
    };
    match server.ask(&Request::Jobs(filter))? {
        Reply::Jobs(mut jobs) if !jobs.is_empty() => Ok(jobs.remove(0)),
        _ => Err(Failed::Ended("the queue knows nothing of it".into())),
    }
}

fn cancel(server: &mut Server, job: u64) -> anyhow::Result<()> {
    let whole = Target { job, index: None };
    server.ask(&Request::Cancel(vec![whole]))?;
    Ok(())
}

/// Ends at ctrl-C when it comes twice within a second, as srun does, and at once for
/// another signal; `told` is what is said at the first.
pub(super) fn at_the_second(told: String) -> OnSignal {
    let mut last: Option<Instant> = None;
    Box::new(move |signal| {
        let now = Instant::now();
        let before = last.replace(now);
        let soon = |at: Instant| now.duration_since(at) < Duration::from_secs(1);
        if signal == SIGINT && !before.is_some_and(soon) {
            eprintln!("{told}");
            return None;
        }
        Some(ended_by(signal))
    })
}

/// The exit code of what a signal has ended.
pub(super) fn ended_by(signal: i32) -> u8 {
    128u8.saturating_add(u8::try_from(signal).unwrap_or(0))
}
