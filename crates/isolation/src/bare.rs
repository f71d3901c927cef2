//! A process that its supervisor looks after by itself: there is nothing around it, so there
//! need be nobody inside.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use hyperion_model::{ProcessSpec, RankSpec, Usage};
use hyperion_sys::cgroup::Cgroup;
use hyperion_sys::process::{self, Fork};
use hyperion_sys::signals::{SIGCHLD, SignalFd};

use crate::init::{self, Confinement, Started, files};
use crate::protocol::{Event, FileEntry};
use crate::{Asker, Sandbox, SandboxError, SandboxRecord, Spawned};

/// What was started by this process, whose orphans come to it.
pub(crate) struct Bare {
    /// Ends that are to be heard of.
    ends: SignalFd,
    started: Started,
    events: VecDeque<Event>,
    shim_folder: PathBuf,
    /// Nothing runs any more, and nothing will.
    down: bool,
}

impl Bare {
    pub(crate) fn new(shim_folder: PathBuf) -> Result<Self, SandboxError> {
        Ok(Self {
            ends: SignalFd::new(&[SIGCHLD]).map_err(SandboxError::Init)?,
            started: Started::default(),
            events: VecDeque::new(),
            shim_folder,
            down: false,
        })
    }
}

/// Ranks that others start, and steps, need an init that they can ask.
fn needs_init() -> SandboxError {
    SandboxError::Init(io::ErrorKind::Unsupported.into())
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl Sandbox for Bare {
    fn spawn(
        &mut self,
        id: u32,
        process: &ProcessSpec,
        fds: Vec<OwnedFd>,
        _asker: &mut dyn Asker,
    ) -> Result<Spawned, SandboxError> {
        let started = self.started.start(&Confinement::none(), id, process, fds);
        let pid = started.map_err(|(step, source)| SandboxError::Spawn {
            program: process.argv.first().cloned().unwrap_or_default(),
            step,
            source,
        })?;
        let terminal = self.started.terminal(id).map(|t| t.try_clone_to_owned());
        Ok(Spawned {
            pid: pid.as_raw_pid().unsigned_abs(),
            terminal: terminal.transpose().map_err(SandboxError::Init)?,
        })
    }

    fn adopt(
        &mut self,
        _node: u32,
        _id: u32,
        _rank: RankSpec,
        _fds: Vec<OwnedFd>,
    ) -> Result<(), SandboxError> {
        Err(needs_init())
    }

    fn signal(&mut self, id: Option<u32>, signal: i32) -> Result<(), SandboxError> {
        self.started.signal(id, signal);
        Ok(())
    }

    fn step(&mut self, _number: u32, _signal: Option<i32>) -> Result<(), SandboxError> {
        Err(needs_init())
    }

    fn resize(&mut self, id: u32, rows: u16, columns: u16) -> Result<(), SandboxError> {
        self.started.resize(id, rows, columns);
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.ends.as_fd()
    }

    fn next_event(&mut self) -> Result<Option<Event>, SandboxError> {
        // One signal may tell of several ends.
        if std::iter::from_fn(|| self.ends.next()).count() > 0 {
            self.events.extend(self.started.reap().0);
        }
        Ok(self.events.pop_front())
    }

    fn read_file(
        &mut self,
        path: &str,
        offset: u64,
        len: u32,
        _asker: &mut dyn Asker,
    ) -> Result<Option<Vec<u8>>, SandboxError> {
        Ok(files::read(path, offset, len.min(1 << 20)))
    }

    fn list_folder(
        &mut self,
        path: &str,
        _asker: &mut dyn Asker,
    ) -> Result<Vec<String>, SandboxError> {
        Ok(files::list(path))
    }

    fn look(
        &mut self,
        path: &str,
        _asker: &mut dyn Asker,
    ) -> Result<Option<FileEntry>, SandboxError> {
        Ok(files::look(path))
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn usage_now(&self) -> Usage {
        process::usage(&process::descendants(rustix::process::getpid()))
    }

    fn records(&self) -> Vec<SandboxRecord> {
        let this = rustix::process::getpid();
        vec![SandboxRecord {
            cgroup: Cgroup::default(),
            init: this.as_raw_pid().unsigned_abs(),
            init_started: process::standing(this).map_or(0, |s| s.started),
        }]
    }

    fn shim_folder(&self) -> PathBuf {
        self.shim_folder.clone()
    }

    fn guard(&mut self, variable: &str) -> Result<(), SandboxError> {
        let this = rustix::process::getpid();
        match process::fork_beside().map_err(SandboxError::Init)? {
            Fork::Parent(_) => Ok(()),
            Fork::Child => {
                process::rename(c"hyperion-watch");
                let watched = process::wait_gone(this);
                if watched.is_ok() {
                    process::end_carriers(variable);
                }
                process::exit_now(0)
            }
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.down, true) {
            init::kill_everything();
        }
    }

    fn destroy(&mut self) {
        self.end();
    }
}
