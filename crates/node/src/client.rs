//! Talking to the supervisor of a running job.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use hyperion_isolation::wire::{Frame, Wire};
use hyperion_sys::{process, signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::jobs::{End, JobError, JobFolder, State};
use crate::log::Stream;
use crate::talk::{Ask, Tell, of_channel};

/// How long a supervisor may be silent before it is looked at.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// How long a lane may take to hear that it is to begin nothing any more.
const SEALING: Duration = Duration::from_secs(10);
/// How much longer than the grace a supervisor may be found stopped.
const OVERTIME: Duration = Duration::from_millis(500);

/// What comes from a supervisor.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Output of a rank (of the command itself, after [`Ask::Exec`]).
    Output(u32, Stream, Vec<u8>),
    /// Anything else.
    Told(Tell),
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
}

impl Client {
    /// Wraps a connection that was made otherwise (by the command that started the supervisor).
    pub fn new(wire: Wire) -> Self {
        Self { wire }
    }

    /// Connects to the supervisor of a job.
    ///
    /// # Errors
    /// [`JobError::NotRunning`].
    pub fn connect(job: &JobFolder) -> Result<Self, JobError> {
        let not_running = || JobError::NotRunning(job.id.clone());
        // Its supervisor may still be cleaning up, and answers nobody any more.
        if job.has_ended() {
            return Err(not_running());
        }
        let address = socket_address(&job.path).map_err(|_| not_running())?;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|_| not_running())?;
        connect(&socket, &address.0).map_err(|_| not_running())?;
        Ok(Self {
            wire: Wire::new(socket),
        })
    }

    /// Connects to the supervisor of a job that may be starting or ending just
    /// now; gives `None` when it has ended.
    ///
    /// # Errors
    /// [`JobError::NotRunning`] when its supervisor does not answer for five seconds.
    pub fn reach(job: &JobFolder) -> Result<Option<Self>, JobError> {
        let since = Instant::now();
        loop {
            match Self::connect(job) {
                Ok(client) => return Ok(Some(client)),
                Err(_) if matches!(job.state(), State::Ended | State::Lost) => return Ok(None),
                Err(e) if since.elapsed() > Duration::from_secs(5) => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Asks something.
    ///
    /// # Errors
    /// The kernel's: `BrokenPipe` when the supervisor is gone.
    pub fn ask(&mut self, ask: &Ask) -> io::Result<()> {
        self.wire.send(ask, &[])
    }

    /// Asks for the job's end: SIGTERM, and SIGKILL after a grace. A supervisor
    /// that a program has stopped is let go on, and killed when it is stopped
    /// again and again; what it leaves is the caller's to clean up.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn stop(&mut self, grace: Duration) -> io::Result<Option<Box<End>>> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.ask(&Ask::Stop { grace_ms })?;
        let supervisor = process::peer(self.wire.as_fd());
        let since = Instant::now();
        loop {
            match self.try_hear() {
                Ok(Some(Heard::Told(Tell::Ended(end)))) => return Ok(Some(end)),
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(e) => return Err(e),
            }
            let mut fds = [PollFd::new(&self.wire, PollFlags::IN)];
            let silent = matches!(poll(&mut fds, Some(&PATIENCE)), Ok(0));
            if silent
                && let Some(supervisor) = supervisor
                && process::wake(supervisor)
                && since.elapsed() > grace + OVERTIME
            {
                let _ = signals::send(supervisor, signals::SIGKILL);
            }
        }
    }

    /// Sees to it that a lane begins nothing any more. One that does not answer is killed.
    ///
    /// # Errors
    /// As [`Client::try_hear`]; it begins nothing then, either.
    pub fn seal(&mut self) -> io::Result<()> {
        self.ask(&Ask::Seal)?;
        let supervisor = process::peer(self.wire.as_fd());
        let since = Instant::now();
        loop {
            match self.try_hear()? {
                Some(Heard::Told(Tell::Sealed)) => return Ok(()),
                Some(_) => continue,
                None => {}
            }
            let mut fds = [PollFd::new(&self.wire, PollFlags::IN)];
            let silent = matches!(poll(&mut fds, Some(&PATIENCE)), Ok(0));
            if let (true, Some(supervisor)) = (silent, supervisor) {
                process::wake(supervisor);
                if since.elapsed() > SEALING {
                    let _ = signals::send(supervisor, signals::SIGKILL);
                }
            }
        }
    }

    /// Sends standard input.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn input(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send_data(0, bytes)
    }

    /// Waits for what comes next; `None` when the supervisor is gone.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` when it speaks nonsense.
    pub fn hear(&mut self) -> io::Result<Option<Heard>> {
        self.wire.receive_frame()?.map(heard).transpose()
    }

    /// Takes what has come, without waiting.
    ///
    /// # Errors
    /// As [`Client::hear`]; `UnexpectedEof` when the supervisor is gone.
    pub fn try_hear(&mut self) -> io::Result<Option<Heard>> {
        self.wire.try_receive_frame()?.map(heard).transpose()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

fn heard(frame: Frame) -> io::Result<Heard> {
    Ok(match frame {
        Frame::Message(json) => Heard::Told(serde_json::from_slice(&json)?),
        Frame::Data(channel, bytes) => {
            let (rank, stream) = of_channel(channel);
            Heard::Output(rank, stream, bytes)
        }
    })
}

/// Gives the address of a job's socket by way of an open folder: a path of
/// any length fits the 108 bytes of an address so. The folder must stay open.
pub(crate) fn socket_address(folder: &Path) -> io::Result<(SocketAddrUnix, std::fs::File)> {
    use std::os::fd::AsRawFd;
    let open = std::fs::File::open(folder)?;
    let path = format!("/proc/self/fd/{}/control", open.as_raw_fd());
    Ok((SocketAddrUnix::new(path)?, open))
}
