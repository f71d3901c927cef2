//! The small parent of a rank that a program inside (an `mpirun`) starts.
//!
//! It asks the init for the rank's own streams, starts the rank on them,
//! passes signals on, and reports how it ended: so output, labels and "which
//! rank died of what" are the same whoever starts the ranks.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use hyperion_model::errand::StepEnd;
use hyperion_model::report::Exit;
use hyperion_model::{CpuSet, RankSpec};
use hyperion_sys::entry::ExitCode;
use hyperion_sys::process::{self, Ended, Program};
use hyperion_sys::signals::{self, SIGCHLD, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use super::ended_event;
use super::steps::StepAsk;
use crate::protocol::Event;
use crate::wire::{Frame, Wire};

/// The name under which the shim is executed.
pub const NAME: &str = "hyperion-rank";

/// The first word of a call in place of a remote shell.
const REMOTE: &str = "--remote";
/// The first word of a call that keeps a job running.
pub const HOLD: &str = "--hold";
/// The socket of the init, beside the shim.
const SOCKET: &str = "ranks";

/// Where an MPI launcher tells a process its rank.
const RANK_VARIABLES: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"];

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say")]
pub(super) enum Word {
    /// Shim to init: this rank is about to start.
    Join { rank: u32 },
    /// Init to shim: that is what it gets; its streams come along.
    Welcome(RankSpec),
    /// Shim to init, in place of a remote shell: run this on that node.
    Remote { host: String, command: String },
    /// Shim to init.
    Ended(Event),
    /// Launcher to init: this step is about to start.
    Step(StepAsk),
    /// Init to launcher: that is its number, and it may begin.
    Numbered { number: u32 },
    /// Init to launcher: send your step this signal, or end it where there is none.
    Order { signal: Option<i32> },
    /// Launcher to init.
    StepEnded(StepEnd),
}

/// What an init has heard of one that is connected.
pub(super) enum Heard {
    /// To be passed on.
    Event(Event),
    /// A launcher wants to start a step.
    Step(StepAsk),
    /// It has ended.
    StepEnded(StepEnd),
    /// Nothing more comes.
    Gone,
}

/// Listens for shims. Every user inside may connect: ranks may run as any.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The init's side: hears one that is connected.
pub(super) fn hear(
    wire: &mut Wire,
    expected: &mut BTreeMap<u32, (RankSpec, Vec<OwnedFd>)>,
) -> Heard {
    let Ok(Some(Frame::Message(json))) = wire.try_receive_frame() else {
        return Heard::Gone;
    };
    let mut welcome = |wire: &mut Wire, rank| {
        // A rank that nobody expects, or a second of the same number, gets nothing.
        let (spec, fds) = expected.remove(&rank)?;
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        wire.send(&Word::Welcome(spec), &fds).ok()
    };
    match serde_json::from_slice(&json) {
        Ok(Word::Join { rank }) => match welcome(wire, rank) {
            Some(()) => Heard::Event(Event::Joined { id: rank }),
            None => Heard::Gone,
        },
        Ok(Word::Ended(event @ Event::Ended { .. })) => Heard::Event(event),
        Ok(Word::Remote { host, command }) => Heard::Event(Event::Remote { host, command }),
        Ok(Word::Step(asked)) => Heard::Step(asked),
        Ok(Word::StepEnded(end)) => Heard::StepEnded(end),
        _ => Heard::Gone,
    }
}

/// A launcher's side: its place among the steps of its job.
#[derive(Debug)]
pub struct Joined {
    wire: Wire,
    /// The number of the step.
    pub number: u32,
}

impl Joined {
    /// Says to the init that listens at `socket` what is about to start, and waits until it may.
    ///
    /// # Errors
    /// The kernel's, when nobody listens there.
    pub fn begin(socket: &Path, asked: StepAsk) -> io::Result<Self> {
        let mut wire = Wire::new(UnixStream::connect(socket)?.into());
        wire.send(&Word::Step(asked), &[])?;
        let Word::Numbered { number } = wire.receive()? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(Self { wire, number })
    }

    /// Takes the next order that has come: a signal for the step, or, where there is none,
    /// that it is to end.
    ///
    /// # Errors
    /// As [`Wire::try_receive_frame`]: nothing more comes.
    pub fn order(&mut self) -> io::Result<Option<Option<i32>>> {
        loop {
            match self.wire.try_receive_frame()? {
                None => return Ok(None),
                Some(Frame::Message(json)) => {
                    if let Ok(Word::Order { signal }) = serde_json::from_slice(&json) {
                        return Ok(Some(signal));
                    }
                }
                Some(Frame::Data(..)) => {}
            }
        }
    }

    /// Says how it ended.
    pub fn end(&mut self, end: StepEnd) {
        // An init that is gone counts nothing any more.
        let _ = self.wire.send(&Word::StepEnded(end), &[]);
    }
}

impl AsFd for Joined {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

/// The shim's side: `FOLDER/hyperion-rank PROGRAM ARGUMENT…`, or, in place of a
/// remote shell, `FOLDER/hyperion-rank --remote NODE COMMAND ARGUMENT…`, or, where a
/// job is room for commands beside it, `FOLDER/hyperion-rank --hold`.
pub(super) fn run(
    name: &Path,
    arguments: impl Iterator<Item = OsString>,
    environment: Vec<(OsString, OsString)>,
) -> ExitCode {
    let mut arguments = arguments.peekable();
    if arguments.next_if(|first| first == REMOTE).is_some() {
        return match ask_remote(name, arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => ExitCode::from(say_failure("a command on another node", &e)),
        };
    }
    if arguments.peek().is_some_and(|first| first == HOLD) {
        // Until a signal ends it.
        loop {
            let _ = poll(&mut [], None);
        }
    }
    match try_run(name, arguments, &environment) {
        Ok(code) => code,
        Err(e) => ExitCode::from(say_failure("the rank", &e)),
    }
}

/// Hands a command for another node on. It is told nowhere else how that ends:
/// the supervisor ends the job when it fails.
fn ask_remote(name: &Path, arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let words = arguments
        .map(OsString::into_string)
        .collect::<Result<Vec<_>, _>>();
    let words = words.map_err(|_| io::Error::other("it is not written in UTF-8"))?;
    let Some((host, command)) = words.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut wire = Wire::new(UnixStream::connect(name.with_file_name(SOCKET))?.into());
    wire.send(
        &Word::Remote {
            host: host.clone(),
            command: command.join(" "),
        },
        &[],
    )
}

/// Says on standard error, which is the launcher's or the rank's own, that a
/// rank could not be started; gives the exit code that fits.
fn say_failure(what: &str, error: &io::Error) -> u8 {
    let text = format!("error: cannot start {what}\ncause: {error}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
    if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    }
}

fn try_run(
    name: &Path,
    arguments: impl Iterator<Item = OsString>,
    environment: &[(OsString, OsString)],
) -> io::Result<ExitCode> {
    let argv: Vec<CString> = arguments
        .map(|a| CString::new(a.into_encoded_bytes()))
        .collect::<Result<_, _>>()?;
    let variable = |name: &str| {
        environment
            .iter()
            .find(|(n, _)| n == name)
            .and_then(|(_, v)| v.to_str())
    };
    let rank = RANK_VARIABLES
        .iter()
        .find_map(|v| variable(v)?.parse::<u32>().ok());
    let Some(rank) = rank else {
        return Err(io::Error::other("the launcher gave no rank"));
    };
    let mut wire = Wire::new(UnixStream::connect(name.with_file_name(SOCKET))?.into());
    wire.send(&Word::Join { rank }, &[])?;
    let Word::Welcome(RankSpec { env: own, cpus }) = wire.receive()? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let output = wire.take_fds();

    let mut watched = signals::FORWARDED.to_vec();
    watched.push(SIGCHLD);
    let arrived = SignalFd::new(&watched)?;
    let program = argv.first().map(|p| format!("{:?}", p.to_string_lossy()));
    // The launcher numbers ranks in its own words only.
    let is_own = |name: &OsStr| {
        let mut own = own.iter().filter_map(|v| v.split_once('='));
        own.any(|(own, _)| name == own)
    };
    let passed = environment.iter().filter(|(name, _)| !is_own(name));
    let passed = passed
        .map(|(name, value)| [name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat());
    let own = own.iter().map(|v| v.as_bytes().to_vec());
    let env = passed.chain(own).filter_map(|v| CString::new(v).ok());
    let become_rank = Program::new(argv, env.collect(), variable("PATH").unwrap_or_default())?;
    let become_rank = become_rank.become_it();
    let spawned = process::spawn(|| match prepare(cpus.as_ref(), &output) {
        Ok(()) => become_rank(),
        Err(error) => error,
    })?;
    let pid = match spawned {
        (pid, None) => pid,
        (_, Some(error)) => {
            let program = program.unwrap_or_default();
            return Ok(ExitCode::from(say_failure(&program, &error)));
        }
    };
    drop(output);
    let ended = loop {
        let mut fds = [PollFd::new(&arrived, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        while let Some(signal) = arrived.next() {
            if signal != SIGCHLD {
                let _ = signals::send(pid, signal);
            }
        }
        if let Some(ended) = process::wait_any()? {
            break ended;
        }
    };
    let _ = wire.send(&Word::Ended(ended_event(rank, &ended)), &[]);
    Ok(end_alike(&ended))
}

/// Puts a new process onto the rank's streams and processors.
fn prepare(cpus: Option<&CpuSet>, output: &[OwnedFd]) -> io::Result<()> {
    signals::reset();
    signals::die_with_parent()?;
    if let Some(cpus) = cpus {
        process::bind(None, cpus)?;
    }
    let mut streams = vec![rustix::stdio::stdin()];
    streams.extend(output.iter().map(AsFd::as_fd));
    process::install_fds(&streams)
}

/// Ends this process as its rank ended, so that the launcher sees the same.
fn end_alike(ended: &Ended) -> ExitCode {
    match ended.exit {
        Exit::Code(code) => ExitCode::from(code),
        Exit::Signal(signal) => {
            signals::reset();
            let _ = signals::send(rustix::process::getpid(), i32::from(signal));
            ExitCode::from(128u8.saturating_add(signal))
        }
    }
}
