//! QEMU's monitor: a client of the QEMU Machine Protocol, JSON lines over a
//! Unix socket (QEMU's `docs/interop/qmp-spec`).
//!
//! ```text
//! connect: greeting ── qmp_capabilities ──► one command at a time ──► quit
//!                                             events come at any time
//! ```
//!
//! QEMU handles what a guest writes and may be taken over by it, so nothing it
//! says is trusted: a line has at most [`MAX_LINE`] bytes, what waits is
//! bounded, and every wait has a limit.

mod codec;
mod commands;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

pub use codec::{Event, Lines, MAX_LINE, Malformed, Message, Refusal, Timestamp, Version};
pub use commands::{
    BlockCounts, BlockDevice, BlockStats, Channel, CpuThread, Inserted, IoStatus, Picture,
    RunState, Snapshot, Status,
};

/// Bytes of events that may wait to be read. Each is far below a kilobyte.
const MAX_WAITING: usize = 1 << 20;

/// What goes wrong with QEMU's monitor.
#[derive(Debug, Error)]
pub enum QmpError {
    /// QEMU says no. The connection goes on.
    #[error("QEMU refuses {command}: {}", .refusal.description)]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        refusal: Refusal,
    },
    /// No answer came. The connection goes on; the answer is thrown away if it
    /// comes later, and whether the command was done is not known.
    #[error("QEMU does not answer {command} within {} s", .limit.as_secs_f32())]
    Late {
        /// The command.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The answer has another shape than this command's.
    #[error("QEMU's answer to {command} is not understood")]
    Answer {
        /// The command.
        command: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The command cannot be written as JSON.
    #[error("{command} cannot be written as JSON")]
    Command {
        /// The command.
        command: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// This QEMU is too old for what is asked.
    #[error("QEMU {version} cannot {what}: {needed} can")]
    TooOld {
        /// What is asked.
        what: &'static str,
        /// The QEMU that runs.
        version: Version,
        /// The first that can.
        needed: Version,
    },
    /// A job that a command started ended badly.
    #[error("QEMU's job {job} failed: {why}")]
    Job {
        /// Its name.
        job: String,
        /// QEMU's words.
        why: String,
    },
    /// QEMU has closed the monitor: it ends, or has ended.
    #[error("QEMU has closed its monitor")]
    Closed,
    /// What came is no QMP. The connection is of no use any more.
    #[error("QEMU's monitor speaks nonsense")]
    Malformed(#[from] Malformed),
    /// A command was sent in part only. The connection is of no use any more.
    #[error("QEMU's monitor stopped in the middle of a command")]
    Broken,
    /// The socket fails.
    #[error("cannot talk to QEMU's monitor")]
    Io(#[source] io::Error),
}

/// A connection to the monitor of one QEMU.
///
/// To wait for events beside other things, take [`Qmp::next_event`] with no
/// time until it gives none, then wait for [`AsFd::as_fd`] to be readable.
#[derive(Debug)]
pub struct Qmp {
    socket: OwnedFd,
    lines: Lines,
    events: Events,
    version: Version,
    limit: Duration,
    /// The number of the last command.
    last: u64,
    broken: bool,
    /// A file that goes along with the next command.
    lent: Option<OwnedFd>,
}

impl Qmp {
    /// Takes a connected stream socket, waits for the greeting, and leaves the
    /// mode in which capabilities are agreed upon. `limit` holds for this and,
    /// until it is changed, for each command.
    ///
    /// # Errors
    /// [`QmpError`]; the socket is closed.
    pub fn connect(socket: impl Into<OwnedFd>, limit: Duration) -> Result<Self, QmpError> {
        let mut qmp = Self {
            socket: socket.into(),
            lines: Lines::default(),
            events: Events::default(),
            version: Version::default(),
            limit,
            last: 0,
            broken: false,
            lent: None,
        };
        let until = Instant::now() + limit;
        qmp.version = loop {
            match qmp.lines.next()? {
                Some((Message::Greeting(version), _)) => break version,
                Some(_) => return Err(Malformed::NoGreeting.into()),
                None => {}
            }
            if Instant::now() >= until || !qmp.turn(&mut &[][..], until)? {
                return Err(late("the connection", limit));
            }
        };
        qmp.order("qmp_capabilities", ())?;
        Ok(qmp)
    }

    /// Gives QEMU's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Gives each later command this long.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Runs a command and gives what it returns. `arguments` become a JSON
    /// object; `()` is none. Events that come meanwhile wait for
    /// [`Qmp::next_event`].
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn execute<T: DeserializeOwned>(
        &mut self,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<T, QmpError> {
        let value = self.ask(command, arguments)?;
        serde_json::from_value(value).map_err(|source| QmpError::Answer {
            command: command.to_owned(),
            source,
        })
    }

    /// As [`Qmp::execute`], for a command that returns nothing of interest.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn order(&mut self, command: &str, arguments: impl Serialize) -> Result<(), QmpError> {
        self.ask(command, arguments).map(drop)
    }

    fn ask(&mut self, command: &str, arguments: impl Serialize) -> Result<Value, QmpError> {
        if self.broken {
            return Err(QmpError::Broken);
        }
        self.last += 1;
        let line = codec::command(command, arguments, self.last).map_err(|source| {
            let command = command.to_owned();
            QmpError::Command { command, source }
        })?;
        let mut unsent = line.as_slice();
        let until = Instant::now() + self.limit;
        loop {
            // A command must be out as a whole, whatever has come already.
            while unsent.is_empty()
                && let Some((message, bytes)) = self.lines.next()?
            {
                match message {
                    Message::Event(_) => self.events.push(bytes),
                    Message::Greeting(_) => return Err(Malformed::SecondGreeting.into()),
                    Message::Return { id, value } => {
                        if self.answers(Some(id))? {
                            return Ok(value);
                        }
                    }
                    // Without a number it is about what could not be read: the last one sent.
                    Message::Error { id, refusal } => {
                        if self.answers(id)? {
                            let command = command.to_owned();
                            return Err(QmpError::Refused { command, refusal });
                        }
                    }
                }
            }
            // One that floods is as late as one that is silent.
            if Instant::now() >= until || !self.turn(&mut unsent, until)? {
                self.broken = !unsent.is_empty() && unsent.len() < line.len();
                return Err(late(command, self.limit));
            }
        }
    }

    /// Tells whether an answer is to the last command; those to earlier ones,
    /// which were given up, are thrown away.
    fn answers(&self, id: Option<u64>) -> Result<bool, Malformed> {
        let id = id.unwrap_or(self.last);
        if id == 0 || id > self.last {
            return Err(Malformed::UnknownAnswer);
        }
        Ok(id == self.last)
    }

    /// Gives the oldest event that was not taken yet, waiting for it up to
    /// `timeout`; none when that is over.
    ///
    /// # Errors
    /// [`QmpError::Closed`] when QEMU is gone and nothing is left to take;
    /// [`QmpError::Malformed`] and [`QmpError::Io`].
    pub fn next_event(&mut self, timeout: Duration) -> Result<Option<Event>, QmpError> {
        let until = Instant::now() + timeout;
        let mut looked = false;
        loop {
            if let Some(event) = self.events.pop()? {
                return Ok(Some(event));
            }
            match self.lines.next()? {
                Some((Message::Event(event), _)) => return Ok(Some(event)),
                Some((Message::Return { id, .. }, _)) => drop(self.answers(Some(id))?),
                Some((Message::Error { id, .. }, _)) => drop(self.answers(id)?),
                Some((Message::Greeting(_), _)) => return Err(Malformed::SecondGreeting.into()),
                None if looked && Instant::now() >= until => return Ok(None),
                None => {
                    looked = true;
                    if !self.turn(&mut &[][..], until)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Gives the number of events that were thrown away because nobody took
    /// them in time, the oldest first. After it has grown, ask for the state.
    pub fn lost_events(&self) -> u64 {
        self.events.lost
    }

    /// Sends of `unsent` what QEMU takes and receives what it says, whichever
    /// is possible first; false when the time is over.
    fn turn(&mut self, unsent: &mut &[u8], until: Instant) -> Result<bool, QmpError> {
        // What comes while a command is sent waits, within bounds.
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.lines.held() <= MAX_LINE);
        wanted.set(PollFlags::OUT, !unsent.is_empty());
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.socket, wanted)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Instant::now() < until),
            Err(e) => return Err(QmpError::Io(e.into())),
        }
        let ready = fds[0].revents();
        if ready.contains(PollFlags::OUT) {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.socket, unsent, self.lent.as_ref(), flags) {
                Ok(sent) => {
                    *unsent = &unsent[sent..];
                    self.lent = None;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                // What it said before it went is still to be read.
                Err(Errno::PIPE | Errno::CONNRESET) => *unsent = &[],
                Err(e) => return Err(QmpError::Io(e.into())),
            }
        }
        // Anything but OUT alone: there are bytes, or it is the end.
        if ready.difference(PollFlags::OUT).is_empty() {
            return Ok(true);
        }
        let mut buffer = [0u8; 16384];
        match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => Err(QmpError::Closed),
            Ok((got, _)) => {
                self.lines.feed(&buffer[..got]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(e) => Err(QmpError::Io(e.into())),
        }
    }
}

impl AsFd for Qmp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends what there is room for, and a file with it.
fn send(
    socket: &OwnedFd,
    bytes: &[u8],
    file: Option<&OwnedFd>,
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let Some(file) = file else {
        return rustix::net::send(socket, bytes, flags);
    };
    let file = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&file));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

fn late(command: &str, limit: Duration) -> QmpError {
    QmpError::Late {
        command: command.to_owned(),
        limit,
    }
}

/// Events that wait, as the lines that they came in: parsed they are many times larger.
#[derive(Debug, Default)]
struct Events {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
}

impl Events {
    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > MAX_WAITING
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
            self.lost += 1;
        }
    }

    fn pop(&mut self) -> Result<Option<Event>, Malformed> {
        let Some(line) = self.lines.pop_front() else {
            return Ok(None);
        };
        self.bytes -= line.len();
        match Message::parse(&line)? {
            Message::Event(event) => Ok(Some(event)),
            // It was an event when it came.
            _ => Err(Malformed::Shape),
        }
    }
}

#[cfg(test)]
mod tests;
