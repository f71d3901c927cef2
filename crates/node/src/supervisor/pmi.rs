//! PMI-1 between the ranks' sockets and the server's state machine.

use std::ops::Range;
use std::os::fd::OwnedFd;

use hyperion_model::Rank;
use hyperion_mpi::pmi1::{Action, Server};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

use super::{Problem, Supervisor};
use crate::jobs::Failure;

/// The server and its ends of the sockets.
pub(super) struct Pmi {
    server: Server,
    sockets: Vec<(Rank, OwnedFd)>,
    /// A rank has said something: they know of each other.
    pub(super) spoken: bool,
}

impl Pmi {
    /// Serves the ranks of nodes that hold this many each.
    pub(super) fn new(nodes: &[u32], kvsname: &str) -> Self {
        Self {
            server: Server::over(nodes, kvsname),
            sockets: Vec::new(),
            spoken: false,
        }
    }

    /// Makes a rank's socket; gives its end.
    pub(super) fn connect(&mut self, rank: u32) -> std::io::Result<OwnedFd> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        self.sockets.push((Rank(rank), ours));
        Ok(theirs)
    }

    pub(super) fn poll_set<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) -> Range<usize> {
        let start = fds.len();
        fds.extend(
            self.sockets
                .iter()
                .map(|(_, fd)| PollFd::new(fd, PollFlags::IN)),
        );
        start..fds.len()
    }

    /// Reads what ranks sent and answers; gives what concerns the job.
    fn serve(&mut self, ready: &[PollFlags]) -> Vec<Action> {
        let mut todo = Vec::new();
        let mut gone = Vec::new();
        let mut buffer = [0; 4096];
        for (i, (rank, fd)) in self
            .sockets
            .iter()
            .enumerate()
            .filter(|(i, _)| !ready[*i].is_empty())
        {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => {
                    todo.extend(self.server.closed(*rank));
                    gone.push(i);
                }
                Ok(n) => {
                    self.spoken = true;
                    todo.extend(self.server.feed(*rank, &buffer[..n]));
                }
                Err(_) => {}
            }
        }
        for i in gone.into_iter().rev() {
            self.sockets.remove(i);
        }
        todo.retain(|action| {
            let Action::Send { rank, bytes } = action else {
                return true;
            };
            let Some(at) = self.sockets.iter().position(|(r, _)| r == rank) else {
                return false;
            };
            // Answers are short: a rank whose socket is full reads none of them, and is cut off.
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            if rustix::net::send(&self.sockets[at].1, bytes, flags) != Ok(bytes.len()) {
                self.sockets.remove(at);
            }
            false
        });
        todo
    }
}

impl Supervisor {
    /// Serves PMI; a rank that aborts or breaks the protocol ends the job.
    pub(super) fn serve_pmi(&mut self, ready: &[PollFlags]) -> Result<(), Problem> {
        let Some(pmi) = &mut self.pmi else {
            return Ok(());
        };
        for action in pmi.serve(ready) {
            let (rank, what, code) = match action {
                Action::Abort {
                    rank,
                    code,
                    message,
                } => {
                    let said = if message.is_empty() {
                        String::new()
                    } else {
                        format!(": {}", message.trim())
                    };
                    (
                        rank,
                        format!("rank {rank} called MPI_Abort with code {code}{said}"),
                        code,
                    )
                }
                Action::Protocol { rank, error } => (rank, format!("rank {rank}: {error}"), 1),
                // Its end says more, and comes by itself.
                Action::Lost { .. } | Action::Finalized { .. } | Action::Send { .. } => continue,
            };
            if self.failed_exit.is_none() {
                self.streams
                    .catch_up(super::streams::Owner::Rank(rank.0), &mut self.clients);
                let code = u8::try_from(code & 0xff).unwrap_or(1).max(1);
                self.failed_exit = Some(hyperion_model::report::Exit::Code(code));
                let last_lines = self.streams.last_lines(rank.0);
                let hint = super::report::hint_of_output(&last_lines);
                self.failure.get_or_insert(Failure {
                    task: self.task,
                    rank: Some(rank.0),
                    what,
                    causes: Vec::new(),
                    hint,
                    last_lines,
                });
            }
            self.stop(super::FAILURE_GRACE)?;
        }
        Ok(())
    }
}
