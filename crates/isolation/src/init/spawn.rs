//! Starting one process inside.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use hyperion_model::{ProcessSpec, SandboxSpec, UserSpec, UsernsMode};
use hyperion_sys::caps::CapSet;
use hyperion_sys::process::{self, Program};
use hyperion_sys::pty::{self, Pty};
use hyperion_sys::seccomp::Filter;
use hyperion_sys::{rlimit, signals};
use rustix::process::Pid;

use super::users;
use crate::error::SpawnStep;

/// What is taken from every process that is started.
pub(crate) struct Confinement {
    fence: Option<Fence>,
    /// Group membership can be changed (it cannot in a user namespace of one user).
    set_groups: bool,
}

/// Powers that are taken away, `no_new_privs` among them.
struct Fence {
    caps: CapSet,
    filter: Option<Filter>,
}

impl Confinement {
    /// Takes nothing.
    pub(crate) fn none() -> Self {
        Self {
            fence: None,
            set_groups: true,
        }
    }

    /// Compiles the fence of a container.
    ///
    /// # Errors
    /// The first name that no capability has.
    pub(crate) fn of_container(spec: &SandboxSpec) -> Result<Self, &str> {
        let options = &spec.container;
        let caps = CapSet::adjusted(&options.cap_add, &options.cap_drop)?;
        let filtered = !options.seccomp_unconfined;
        Ok(Self {
            fence: Some(Fence {
                caps,
                filter: filtered.then(|| Filter::docker_default(caps)),
            }),
            set_groups: spec.userns != UsernsMode::Single,
        })
    }
}

type Failure = (SpawnStep, io::Error);

/// Starts a process; gives its number and the supervisor's end of its terminal.
pub(super) fn spawn(
    confinement: &Confinement,
    spec: &ProcessSpec,
    fds: Vec<OwnedFd>,
) -> Result<(Pid, Option<OwnedFd>), Failure> {
    if confinement.fence.is_some() {
        // As docker does with a WORKDIR that no layer made.
        let _ = std::fs::create_dir_all(&spec.cwd);
    }
    let terminal = match spec.tty {
        true => Some(open_terminal(spec).map_err(|e| (SpawnStep::Terminal, e))?),
        false => None,
    };
    spawn_on(confinement, spec, terminal, fds)
}

/// Starts a process on a terminal that is there, or on descriptors alone; gives its
/// number and the other end of the terminal.
pub(crate) fn spawn_on(
    confinement: &Confinement,
    spec: &ProcessSpec,
    terminal: Option<Pty>,
    fds: Vec<OwnedFd>,
) -> Result<(Pid, Option<OwnedFd>), Failure> {
    let user = match &spec.user {
        None => None,
        Some(text) => {
            let unknown = || (SpawnStep::User, io::Error::from(rustix::io::Errno::NOENT));
            Some(users::look_up(text).ok_or_else(unknown)?)
        }
    };
    let fork = |e| (SpawnStep::Fork, e);
    let program = program(spec, user.as_ref()).map_err(|e| (SpawnStep::Execute, e))?;
    let become_it = program.become_it();
    let spawned = process::spawn(|| {
        match prepare(confinement, spec, user.as_ref(), terminal.as_ref(), &fds) {
            Ok(()) => (SpawnStep::Execute, become_it()),
            Err(failure) => failure,
        }
    });
    match spawned.map_err(fork)? {
        (pid, None) => Ok((pid, terminal.map(|t| t.master))),
        (pid, Some(failure)) => {
            let _ = process::wait_for(pid);
            Err(failure)
        }
    }
}

/// Makes a terminal that has its size before the program can ask for it.
fn open_terminal(spec: &ProcessSpec) -> io::Result<Pty> {
    let terminal = pty::open()?;
    if let Some((rows, columns)) = spec.terminal_size {
        pty::resize(terminal.master.as_fd(), rows, columns)?;
    }
    Ok(terminal)
}

/// Fits a new process into the fence. It shares this one's memory: see [`process::spawn`].
fn prepare(
    confinement: &Confinement,
    spec: &ProcessSpec,
    user: Option<&UserSpec>,
    terminal: Option<&Pty>,
    fds: &[OwnedFd],
) -> Result<(), Failure> {
    signals::reset();
    let at = |step| move |e: io::Error| (step, e);
    rustix::process::setsid().map_err(|e| (SpawnStep::Fork, e.into()))?;
    let mut streams = Vec::with_capacity(3 + fds.len());
    if let Some(pty) = terminal {
        pty::make_controlling(&pty.slave).map_err(at(SpawnStep::Terminal))?;
        streams.extend([pty.slave.as_fd(); 3]);
    }
    streams.extend(fds.iter().map(AsFd::as_fd));
    process::install_fds(&streams).map_err(at(SpawnStep::Fork))?;
    process::close_on_exec_from(streams.len() as i32).map_err(at(SpawnStep::Fork))?;
    if let Some(cpus) = &spec.cpus {
        process::bind(None, cpus).map_err(at(SpawnStep::Limits))?;
    }
    for limit in &spec.rlimits {
        rlimit::apply(limit).map_err(at(SpawnStep::Limits))?;
    }
    if let Some(fence) = &confinement.fence {
        fence
            .caps
            .limit_bounding()
            .map_err(at(SpawnStep::Privileges))?;
        rustix::thread::set_no_new_privs(true).map_err(|e| (SpawnStep::Privileges, e.into()))?;
    }
    if let Some(user) = user {
        become_user(user, confinement.set_groups).map_err(at(SpawnStep::Privileges))?;
    }
    if let Some(fence) = &confinement.fence {
        fence.caps.apply().map_err(at(SpawnStep::Privileges))?;
    }
    rustix::process::chdir(&spec.cwd).map_err(|e| (SpawnStep::Folder, e.into()))?;
    // Last: from here on only what the filter lets through.
    if let Some(filter) = confinement.fence.as_ref().and_then(|f| f.filter.as_ref()) {
        filter.install().map_err(at(SpawnStep::Privileges))?;
    }
    Ok(())
}

pub(crate) fn become_user(user: &UserSpec, set_groups: bool) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    let gid = Gid::from_raw(user.gid);
    if set_groups {
        let groups: Vec<Gid> = user
            .groups
            .iter()
            .map(|&g| Gid::from_raw(g))
            .chain([gid])
            .collect();
        rustix::thread::set_thread_groups(&groups)?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(user.uid);
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// Puts the program together, looked up in the `PATH` that it will have itself.
fn program(spec: &ProcessSpec, user: Option<&UserSpec>) -> io::Result<Program> {
    let home = match spec.env.iter().any(|v| v.starts_with("HOME=")) {
        true => None,
        false => {
            let home = match user {
                Some(user) => user.home.clone().or_else(|| users::home_of(user.uid)),
                None => users::home_of(rustix::process::getuid().as_raw()),
            };
            Some(format!("HOME={}", home.as_deref().unwrap_or("/")))
        }
    };
    let path = spec.env.iter().rev().find_map(|v| v.strip_prefix("PATH="));
    let path = path.unwrap_or("/usr/bin:/bin");
    let argv: Result<_, _> = spec.argv.iter().map(|word| c_string(word)).collect();
    let env: Result<_, _> = spec.env.iter().chain(&home).map(|v| c_string(v)).collect();
    Program::new(argv?, env?, path)
}

/// Copies a word once, with room for its end.
fn c_string(word: &str) -> Result<CString, NulError> {
    CString::new(word.as_bytes())
}
