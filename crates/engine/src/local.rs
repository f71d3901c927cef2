//! This host: agents of their own processes start the jobs.
//!
//! An agent is a process beside the server, so that the server's memory is not
//! copied at each start, and what a start does cannot hold the server up. Jobs belong
//! to their supervisors, not to the agent: either may be killed and started anew.
//!
//! The agent of another user is that user's process. It can be stopped, traced and made to
//! say anything: it is never waited for, and who hears it looks whose jobs it speaks of.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hyperion_api::Lines;
use hyperion_model::errand::{Errand, News};

/// The longest line of an agent, in bytes.
const LONGEST: usize = 8 << 20;
/// How much of what it says on standard error is kept, in bytes.
const KEPT: usize = 4096;
/// How long an agent may take to end that nobody asks any more.
const LEAVING: Duration = Duration::from_secs(10);

/// An agent.
#[derive(Debug)]
pub struct Local {
    agent: Option<Child>,
    lines: Lines,
}

impl Local {
    /// Starts an agent. The command is to speak on its standard input, in both directions,
    /// and to end when nobody is there any more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let agent = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self {
            agent: Some(agent),
            ..Self::over(ours)?
        })
    }

    /// Speaks with an agent that somebody else has started and looks after.
    ///
    /// # Errors
    /// The kernel's.
    pub fn over(stream: UnixStream) -> io::Result<Self> {
        Ok(Self {
            agent: None,
            lines: Lines::new(stream)?.at_most(LONGEST),
        })
    }

    /// Asks; it is sent with the next [`Local::flush`].
    ///
    /// # Errors
    /// `InvalidData` when it cannot be written.
    pub fn ask(&mut self, errand: &Errand) -> io::Result<()> {
        self.lines.queue(errand)
    }

    /// Sends what was asked, as far as it is taken just now.
    ///
    /// # Errors
    /// `BrokenPipe` when the agent is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }

    /// Tells how much is still to be sent, in bytes.
    pub fn unsent(&self) -> usize {
        self.lines.unsent()
    }

    /// Gives what is new.
    ///
    /// # Errors
    /// `UnexpectedEof` when the agent is gone.
    pub fn hear(&mut self) -> io::Result<Option<News>> {
        self.lines.try_hear()
    }

    /// Asks nothing more: the agent does what it was asked, and ends.
    pub fn leave(self) -> Leaving {
        let _ = rustix::net::shutdown(self.lines.as_fd(), rustix::net::Shutdown::Both);
        Leaving {
            agent: self.agent,
            since: Instant::now(),
        }
    }
}

impl AsFd for Local {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lines.as_fd()
    }
}

/// An agent that is about to end.
#[derive(Debug)]
pub struct Leaving {
    agent: Option<Child>,
    since: Instant,
}

impl Leaving {
    /// Tells how it has ended, once it has, and what it said of that where its standard error
    /// comes here. One that does not end is killed.
    pub fn ended(&mut self) -> Option<(ExitStatus, String)> {
        let Some(agent) = &mut self.agent else {
            return Some((ExitStatus::default(), String::new()));
        };
        let status = agent.try_wait().ok()?;
        let Some(status) = status else {
            if self.since.elapsed() > LEAVING {
                let _ = agent.kill();
            }
            return None;
        };
        let mut said = vec![0; KEPT];
        let read = agent.stderr.as_mut().and_then(|err| {
            // What it has started may hold the other end.
            rustix::io::ioctl_fionbio(&*err, true).ok()?;
            err.read(&mut said).ok()
        });
        said.truncate(read.unwrap_or(0));
        Some((status, String::from_utf8_lossy(&said).into_owned()))
    }

    /// Kills it: another may do better.
    pub fn kill(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.wait();
        }
    }
}
