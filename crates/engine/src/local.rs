//! This host: an agent of its own process starts the jobs.
//!
//! The agent is a process beside the server, so that the server's memory is not
//! copied at each start, and what a start does cannot hold the server up. Jobs belong
//! to their supervisors, not to the agent: either may be killed and started anew.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use hyperion_api::Lines;
use hyperion_model::errand::{Errand, News};

/// This host.
#[derive(Debug)]
pub struct Local {
    agent: Child,
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
            agent,
            lines: Lines::new(ours)?,
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

    /// Tells whether something is still to be sent.
    pub fn is_behind(&self) -> bool {
        self.lines.unsent() > 0
    }

    /// Gives what is new.
    ///
    /// # Errors
    /// `UnexpectedEof` when the agent is gone.
    pub fn hear(&mut self) -> io::Result<Option<News>> {
        self.lines.try_hear()
    }
}

impl AsFd for Local {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lines.as_fd()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // It ends when it sees that nobody asks any more.
        let _ = rustix::net::shutdown(self.lines.as_fd(), rustix::net::Shutdown::Both);
        let _ = self.agent.wait();
    }
}
