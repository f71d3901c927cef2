//! What was started inside, and how it ends.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hyperion_model::ProcessSpec;
use hyperion_sys::failpoint;
use hyperion_sys::process;
use hyperion_sys::signals::{self, SIGCONT, SIGSTOP};
use rustix::process::Pid;

use super::{Confinement, ended_event, signal_everything, spawn};
use crate::error::SpawnStep;
use crate::protocol::Event;

/// The processes that were started inside by who looks after them.
#[derive(Default)]
pub(crate) struct Started {
    /// With the supervisor's numbers.
    numbers: HashMap<Pid, u32>,
    /// Their terminals, for their sizes.
    terminals: HashMap<u32, OwnedFd>,
}

impl Started {
    /// Tells whether none of them runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Starts a process; gives its number.
    pub(crate) fn start(
        &mut self,
        confinement: &Confinement,
        id: u32,
        process: &ProcessSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<Pid, (SpawnStep, io::Error)> {
        let (pid, terminal) = spawn::spawn(confinement, process, fds)?;
        self.numbers.insert(pid, id);
        self.terminals
            .extend(terminal.map(|terminal| (id, terminal)));
        failpoint!("init-spawned");
        Ok(pid)
    }

    /// Gives the other end of the terminal of one that has one.
    pub(crate) fn terminal(&self, id: u32) -> Option<BorrowedFd<'_>> {
        self.terminals.get(&id).map(AsFd::as_fd)
    }

    /// Signals the process groups of one or all of them; to stand still or go on is for
    /// everything inside.
    pub(crate) fn signal(&self, id: Option<u32>, signal: i32) {
        if id.is_none() && matches!(signal, SIGSTOP | SIGCONT) {
            return signal_everything(signal);
        }
        for (&pid, &this) in &self.numbers {
            if id.is_none_or(|id| id == this) {
                // Each leads a session, so its group is what a terminal would signal.
                let _ = signals::send_to_group(pid, signal);
            }
        }
    }

    /// Tells the terminal of one its size.
    pub(crate) fn resize(&self, id: u32, rows: u16, columns: u16) {
        if let Some(terminal) = self.terminal(id) {
            let _ = hyperion_sys::pty::resize(terminal, rows, columns);
        }
    }

    /// Says who has ended, and whether anything else is left inside.
    pub(crate) fn reap(&mut self) -> (Vec<Event>, bool) {
        let mut events = Vec::new();
        let left = loop {
            match process::wait_any() {
                Ok(Some(ended)) => {
                    if let Some(id) = self.numbers.remove(&ended.pid) {
                        self.terminals.remove(&id);
                        events.push(ended_event(id, &ended));
                    }
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if let (false, Some(Event::Ended { alone, .. })) = (left, events.last_mut()) {
            *alone = true;
        }
        (events, left)
    }
}
