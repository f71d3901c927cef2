//! The supervisor's end of a sandbox with an init inside: the one
//! implementation of [`Sandbox`] for every level whose init is a local process.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyperion_model::{CpuSet, ProcessSpec, Usage};
use hyperion_sys::cgroup::Cgroup;
use hyperion_sys::{process, signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use crate::error::from_errno;
use crate::protocol::{Config, Event, FileEntry, Reply, Request};
use crate::vm::MachineEnd;
use crate::wire::{Frame, Wire};
use crate::{Sandbox, SandboxError, SandboxRecord, Spawned};

/// How long an init may be silent before it is looked at.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// How often an init is let go on while one answer is waited for.
const WAKINGS: u32 = 5;
/// How long an init may take to end what it started.
const GRACE: Duration = Duration::from_millis(500);
/// The most events that wait while an answer is waited for: an init that sends
/// more speaks nonsense.
const MAX_EVENTS: usize = 1 << 17;

/// A sandbox whose init is a child of this process.
pub(crate) struct Guest {
    wire: Wire,
    init: Option<Pid>,
    init_started: u64,
    pub(crate) cgroup: Cgroup,
    /// What had been used when the sandbox was up.
    pub(crate) base: Usage,
    shim_folder: PathBuf,
    events: VecDeque<Event>,
    /// How often the init was found stopped when the processes inside were to be killed.
    killed_stopped: u32,
    /// How long an answer may take, where what is inside is not trusted to give one.
    pub(crate) patience: Option<Duration>,
    /// It has not yet said that it is up.
    pub(crate) awaited: bool,
    /// What outlives the init, when that is killed, becomes a child of this process.
    pub(crate) leaves_orphans: bool,
}

impl Guest {
    /// Takes charge of an init and of what was made for it.
    pub(crate) fn new(wire: Wire, init: Pid, cgroup: Cgroup, shim_folder: PathBuf) -> Self {
        Self {
            wire,
            init: Some(init),
            init_started: process::standing(init).map_or(0, |s| s.started),
            cgroup,
            base: Usage::default(),
            shim_folder,
            events: VecDeque::new(),
            killed_stopped: 0,
            patience: None,
            awaited: false,
            leaves_orphans: false,
        }
    }

    /// Waits for the init to say that it is up. One that has failed says why.
    pub(crate) fn greet(&mut self) -> Result<(), SandboxError> {
        match self.answer()? {
            Reply::Ready => Ok(()),
            _ => Err(self.nonsense()),
        }
    }

    /// Tells the init how to fence what it starts, with the way into its groups
    /// where it has not taken that yet.
    pub(crate) fn configure(
        &mut self,
        config: Config,
        entrance: &[BorrowedFd<'_>],
    ) -> Result<(), SandboxError> {
        self.ask(&Request::Configure(config), entrance)
    }

    fn ask(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        self.wire.send(request, fds).map_err(|e| {
            // It may have said why, and that was not heard yet.
            while let Ok(Some(frame)) = self.wire.try_receive_frame() {
                if let Frame::Message(json) = frame
                    && let Ok(Reply::Gone { why }) = serde_json::from_slice(&json)
                {
                    return self.gone(why);
                }
            }
            SandboxError::Lost(e)
        })
    }

    /// Says that what came is nothing that an init says.
    fn nonsense(&self) -> SandboxError {
        match self.patience {
            Some(_) => MachineEnd::Nonsense.into(),
            None => SandboxError::Lost(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Says why a machine is gone, with what only this side sees.
    fn gone(&self, why: MachineEnd) -> SandboxError {
        let starved = self.cgroup.usage().oom_kills.is_some_and(|n| n > 0);
        SandboxError::Machine(match why {
            MachineEnd::Killed {
                signal: signals::SIGKILL,
            } if starved => MachineEnd::OutOfMemory,
            why => why,
        })
    }

    /// Waits for the next frame, for an answer that is awaited since then. A program at process level can stop its init:
    /// that is let go on, and given up when it is stopped again and again.
    fn receive(&mut self, since: Instant) -> Result<Frame, SandboxError> {
        let mut woken = 0;
        loop {
            if let Some(limit) = self.patience.filter(|&limit| since.elapsed() > limit) {
                return Err(MachineEnd::Unanswered { limit }.into());
            }
            if let Some(frame) = self.wire.try_receive_frame().map_err(SandboxError::Lost)? {
                return Ok(frame);
            }
            let mut fds = [PollFd::new(&self.wire, PollFlags::IN)];
            match poll(&mut fds, Some(&PATIENCE)) {
                Ok(0) if self.init.is_some_and(process::wake) => woken += 1,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(SandboxError::Lost(e.into())),
            }
            if woken > WAKINGS {
                return Err(stopped());
            }
        }
    }

    /// Waits for the answer to the last request; events that come before it are kept.
    fn answer(&mut self) -> Result<Reply, SandboxError> {
        let since = Instant::now();
        loop {
            let Frame::Message(json) = self.receive(since)? else {
                return Err(self.nonsense());
            };
            if let Some(reply) = self.plain_answer(&json)? {
                return Ok(reply);
            }
        }
    }

    /// Reads an answer; an event is kept, and what says that there is no sandbox is an error.
    fn plain_answer(&mut self, json: &[u8]) -> Result<Option<Reply>, SandboxError> {
        match serde_json::from_slice(json).map_err(|_| self.nonsense())? {
            Reply::Event(_) if self.events.len() >= MAX_EVENTS => Err(self.nonsense()),
            Reply::Event(event) => {
                self.events.push_back(event);
                Ok(None)
            }
            Reply::SetupFailed { step, errno } => {
                let source = from_errno(errno);
                Err(SandboxError::Setup { step, source })
            }
            Reply::Gone { why } => Err(self.gone(why)),
            reply => Ok(Some(reply)),
        }
    }
}

fn stopped() -> SandboxError {
    SandboxError::Lost(io::Error::new(
        io::ErrorKind::TimedOut,
        "its init is stopped by signals, again and again",
    ))
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl Sandbox for Guest {
    fn spawn(
        &mut self,
        id: u32,
        process: &ProcessSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<Spawned, SandboxError> {
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.ask(
            &Request::Spawn {
                id,
                process: process.clone(),
            },
            &borrowed,
        )?;
        match self.answer()? {
            Reply::Spawned { pid, terminal } => {
                let terminal = if terminal {
                    Some(self.wire.take_fd().map_err(SandboxError::Lost)?)
                } else {
                    None
                };
                Ok(Spawned { pid, terminal })
            }
            Reply::SpawnFailed { step, errno } => {
                let program = process.argv.first().cloned().unwrap_or_default();
                Err(SandboxError::Spawn {
                    program,
                    step,
                    source: from_errno(errno),
                })
            }
            _ => Err(self.nonsense()),
        }
    }

    fn adopt(
        &mut self,
        _node: u32,
        id: u32,
        cpus: Option<CpuSet>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), SandboxError> {
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.ask(&Request::Adopt { id, cpus }, &borrowed)
    }

    fn signal(&mut self, id: Option<u32>, signal: i32) -> Result<(), SandboxError> {
        if self.init.is_some_and(process::wake) && signal == signals::SIGKILL {
            self.killed_stopped += 1;
            if self.killed_stopped > 1 {
                return Err(stopped());
            }
        }
        self.ask(&Request::Signal { id, signal }, &[])
    }

    fn resize(&mut self, id: u32, rows: u16, columns: u16) -> Result<(), SandboxError> {
        self.ask(&Request::Resize { id, rows, columns }, &[])
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    fn is_up(&mut self) -> Result<bool, SandboxError> {
        if !self.awaited {
            return Ok(true);
        }
        match self.wire.try_receive_frame().map_err(SandboxError::Lost)? {
            None => return Ok(false),
            Some(Frame::Message(json)) => match self.plain_answer(&json)? {
                Some(Reply::Ready) => {}
                _ => return Err(self.nonsense()),
            },
            Some(Frame::Data(..)) => return Err(self.nonsense()),
        }
        self.awaited = false;
        // A job is charged for what it does, not for the way up.
        self.base = self.cgroup.usage();
        Ok(true)
    }

    fn next_event(&mut self) -> Result<Option<Event>, SandboxError> {
        if !self.is_up()? {
            return Ok(None);
        }
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        match self.wire.try_receive_frame().map_err(SandboxError::Lost)? {
            None => Ok(None),
            Some(Frame::Message(json)) => match serde_json::from_slice(&json) {
                Ok(Reply::Event(event)) => Ok(Some(event)),
                Ok(Reply::Gone { why }) => Err(self.gone(why)),
                _ => Err(self.nonsense()),
            },
            Some(Frame::Data(..)) => Err(self.nonsense()),
        }
    }

    fn read_file(
        &mut self,
        path: &str,
        offset: u64,
        len: u32,
    ) -> Result<Option<Vec<u8>>, SandboxError> {
        self.ask(
            &Request::Read {
                path: path.to_owned(),
                offset,
                len: len.min(1 << 20),
            },
            &[],
        )?;
        match self.answer()? {
            Reply::Data { found: false } => Ok(None),
            Reply::Data { found: true } => match self.receive(Instant::now())? {
                Frame::Data(_, bytes) if bytes.len() <= len as usize => Ok(Some(bytes)),
                Frame::Data(..) | Frame::Message(_) => Err(self.nonsense()),
            },
            _ => Err(self.nonsense()),
        }
    }

    fn list_folder(&mut self, path: &str) -> Result<Vec<String>, SandboxError> {
        self.ask(
            &Request::List {
                path: path.to_owned(),
            },
            &[],
        )?;
        match self.answer()? {
            Reply::Names { names } => Ok(names),
            _ => Err(self.nonsense()),
        }
    }

    fn look(&mut self, path: &str) -> Result<Option<FileEntry>, SandboxError> {
        self.ask(
            &Request::Look {
                path: path.to_owned(),
            },
            &[],
        )?;
        match self.answer()? {
            Reply::Found { entry } => Ok(entry),
            _ => Err(self.nonsense()),
        }
    }

    fn usage(&self) -> Usage {
        self.cgroup.usage().since(&self.base)
    }

    fn records(&self) -> Vec<SandboxRecord> {
        let init = self.init.map_or(0, |p| p.as_raw_pid().unsigned_abs());
        vec![SandboxRecord {
            cgroup: self.cgroup.clone(),
            init,
            init_started: self.init_started,
        }]
    }

    fn shim_folder(&self) -> PathBuf {
        self.shim_folder.clone()
    }

    fn destroy(&mut self) {
        let Some(init) = self.init.take() else { return };
        // The init kills what it started and ends; one that cannot be asked any
        // more, or that the program keeps from it, is killed.
        let asked = self.ask(&Request::Stop, &[]);
        process::wake(init);
        if asked.is_err() || !process::ends_within(init, GRACE).unwrap_or(false) {
            self.cgroup.kill();
            let _ = signals::send(init, signals::SIGKILL);
        }
        let _ = process::wait_for(init);
        if self.leaves_orphans {
            kill_children();
        }
        self.cgroup.kill();
        self.cgroup.remove();
    }
}

/// Kills and reaps every descendant that has become a child of this process.
fn kill_children() {
    let this = rustix::process::getpid();
    loop {
        let children = process::children(this);
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = signals::send(child, signals::SIGKILL);
            let _ = process::wait_for(child);
        }
    }
}
