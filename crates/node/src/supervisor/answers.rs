//! Waiting for answers from inside the sandbox, which may never come.
//!
//! Who wants the job's end is heard meanwhile. All else that clients say waits
//! in its row until the answer is there: what is asked inside is answered one
//! by one.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use hyperion_isolation::{Asker, Sandbox, SandboxError};
use hyperion_model::report::Exit;
use hyperion_sys::signals::{self, SIGKILL, SIGTERM, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clients::{Clients, Said};
use super::{FAILURE_GRACE, GRACE, NOT_BEGUN, Problem, Supervisor};
use crate::talk::Ask;

/// Waits for an answer as long as nobody wants the end of the job.
struct Waiting<'a> {
    clients: &'a mut Clients,
    signals: &'a SignalFd,
    /// It ends then, whoever wants what.
    until: Option<Instant>,
    /// Something runs inside that may want to end by itself.
    begun: bool,
    /// How much longer an answer is waited for after a first signal that is to end the job.
    grace: Duration,
}

impl Waiting<'_> {
    /// Tells when an answer is not wanted any more.
    fn end(&self) -> Option<Instant> {
        let mut grace = self.grace;
        let ends = self.clients.said.iter().filter_map(|(_, at, said)| {
            let Said::Ask(ask) = said else { return None };
            match *ask {
                Ask::Stop { .. } if !self.begun => Some(*at),
                // What lives has a moment to be killed in order.
                Ask::Stop { grace_ms } => {
                    Some(*at + Duration::from_millis(grace_ms) + FAILURE_GRACE)
                }
                Ask::Signal(SIGKILL) => Some(*at + FAILURE_GRACE),
                Ask::Signal(signal) if signals::ENDING.contains(&signal) => {
                    // Whoever says it twice means it.
                    Some(*at + std::mem::take(&mut grace))
                }
                _ => None,
            }
        });
        ends.chain(self.until).min()
    }
}

impl Asker for Waiting<'_> {
    fn wait(&mut self, sandbox: BorrowedFd<'_>, most: &Timespec) -> Result<bool, SandboxError> {
        let now = Instant::now();
        let end = self.end();
        if end.is_some_and(|at| at <= now) {
            return Err(SandboxError::Unwanted);
        }
        let left = end.and_then(|at| Timespec::try_from(at - now).ok());
        let most = left.map_or(*most, |left| left.min(*most));
        let mut fds = vec![
            PollFd::from_borrowed_fd(sandbox, PollFlags::IN),
            PollFd::new(self.signals, PollFlags::IN),
        ];
        let clients = self.clients.poll_set(&mut fds);
        let woken = match poll(&mut fds, Some(&most)) {
            Ok(woken) => woken > 0,
            Err(rustix::io::Errno::INTR) => true,
            Err(e) => return Err(SandboxError::Lost(e.into())),
        };
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        self.clients.hear(self.signals, &ready[clients]);
        Ok(woken)
    }
}

impl Supervisor {
    /// Asks something of what is inside the sandbox.
    ///
    /// # Errors
    /// Also when the answer does not come and somebody wants the end of the job,
    /// or its time is up; why it ends is written down then.
    pub(super) fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut dyn Sandbox, &mut dyn Asker) -> Result<T, SandboxError>,
    ) -> Result<T, Problem> {
        self.ask_until(None, ask)
    }

    fn ask_until<T>(
        &mut self,
        until: Option<Instant>,
        ask: impl FnOnce(&mut dyn Sandbox, &mut dyn Asker) -> Result<T, SandboxError>,
    ) -> Result<T, Problem> {
        let Some(sandbox) = &mut self.sandbox else {
            return Err(SandboxError::Unwanted.into());
        };
        let decided = [self.limit_at, self.kill_at].into_iter().flatten();
        let decided = decided.map(|at| at + FAILURE_GRACE);
        let begun = self.first_start.is_some();
        let mut waiting = Waiting {
            until: decided.chain(until).min(),
            clients: &mut self.clients,
            signals: &self.signals,
            begun,
            // With a time of its own it is what follows such a signal.
            grace: match begun && until.is_none() {
                true => GRACE,
                false => Duration::ZERO,
            },
        };
        let answer = ask(sandbox.as_mut(), &mut waiting);
        // What has happened inside may have come with the answer, and wakes nobody any more.
        self.more = true;
        if answer.as_ref().is_err_and(SandboxError::is_unwanted) {
            self.give_up();
        }
        Ok(answer?)
    }

    /// Sees to it that what has to end hears that: where nothing inside answers
    /// in time, the job ends without it.
    pub(super) fn look_for_life(&mut self, within: Duration) -> Result<(), Problem> {
        if self.first_start.is_none() || !self.runs() {
            return Ok(());
        }
        let until = Instant::now() + within;
        self.ask_until(Some(until), |sandbox, asker| sandbox.shows_life(asker))
    }

    /// Writes down how a job ends that hangs inside.
    fn give_up(&mut self) {
        // A stop may have been heard before what is waited for was asked.
        if self.ended_by == SIGTERM as u8 && self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.ended_by = SIGKILL as u8;
        }
        for (_, _, said) in &self.clients.said {
            match *said {
                Said::Ask(Ask::Signal(signal)) if signals::ENDING.contains(&signal) => {
                    self.ended_by = signal as u8;
                }
                Said::Ask(Ask::Stop { .. }) if self.first_start.is_some() => {
                    self.ended_by = SIGKILL as u8;
                }
                _ => {}
            }
        }
        if self.limit_at.is_some_and(|at| at <= Instant::now()) {
            self.time_is_up();
        }
        let exit = Exit::Signal(self.ended_by);
        self.failed_exit.get_or_insert(exit);
        if self.first_start.is_none() {
            let failure = self.failure_of_job(NOT_BEGUN);
            self.failure.get_or_insert(failure);
        }
    }
}
