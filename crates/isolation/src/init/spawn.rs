//! Starting one process inside.

use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use hyperion_model::{CpuSet, ProcessSpec, UserSpec};
use hyperion_sys::caps::CapSet;
use hyperion_sys::process::{self, Fork};
use hyperion_sys::pty::{self, Pty};
use hyperion_sys::seccomp::Filter;
use hyperion_sys::{rlimit, signals};
use rustix::process::Pid;

use super::users;
use crate::error::SpawnStep;
use crate::protocol::Config;

/// What is taken from every process that is started.
pub(super) struct Confinement {
    confine: bool,
    caps: CapSet,
    filter: Option<Filter>,
    set_groups: bool,
}

impl Confinement {
    /// Compiles the fence.
    ///
    /// # Errors
    /// The first name that no capability has.
    pub(super) fn new(config: &Config) -> Result<Self, &str> {
        let caps = CapSet::adjusted(&config.cap_add, &config.cap_drop)?;
        let filtered = config.confine && !config.seccomp_unconfined;
        Ok(Self {
            confine: config.confine,
            caps,
            filter: filtered.then(|| Filter::docker_default(caps)),
            set_groups: config.set_groups,
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
    let user = match &spec.user {
        None => None,
        Some(text) => {
            let unknown = || (SpawnStep::User, io::Error::from(rustix::io::Errno::NOENT));
            Some(users::look_up(text).ok_or_else(unknown)?)
        }
    };
    if confinement.confine {
        // As docker does with a WORKDIR that no layer made.
        let _ = std::fs::create_dir_all(&spec.cwd);
    }
    let terminal = match spec.tty {
        true => Some(open_terminal(spec).map_err(|e| (SpawnStep::Terminal, e))?),
        false => None,
    };
    let fork = |e| (SpawnStep::Fork, e);
    let (mut failure, report) = io::pipe().map_err(fork)?;
    match process::fork().map_err(fork)? {
        Fork::Child => {
            let (step, error) = child(confinement, spec, user, terminal.as_ref(), fds);
            // Two bytes fit a pipe: this cannot fail half-way.
            let errno = error.raw_os_error().unwrap_or(super::EINVAL);
            let _ = (&report).write_all(&[step as u8, errno as u8]);
            process::exit_now(127)
        }
        Fork::Parent(pid) => {
            drop(report);
            let mut told = [0; 2];
            // The pipe closes by itself when the program is executed.
            if failure.read_exact(&mut told).is_err() {
                return Ok((pid, terminal.map(|t| t.master)));
            }
            let _ = process::wait_for(pid);
            Err((
                step_of(told[0]),
                rustix::io::Errno::from_raw_os_error(i32::from(told[1])).into(),
            ))
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

fn step_of(byte: u8) -> SpawnStep {
    const STEPS: [SpawnStep; 7] = [
        SpawnStep::User,
        SpawnStep::Terminal,
        SpawnStep::Fork,
        SpawnStep::Limits,
        SpawnStep::Privileges,
        SpawnStep::Folder,
        SpawnStep::Execute,
    ];
    STEPS
        .into_iter()
        .find(|s| *s as u8 == byte)
        .unwrap_or(SpawnStep::Execute)
}

/// Becomes the program; returns only what failed.
fn child(
    confinement: &Confinement,
    spec: &ProcessSpec,
    user: Option<UserSpec>,
    terminal: Option<&Pty>,
    fds: Vec<OwnedFd>,
) -> Failure {
    match prepare(confinement, spec, user.as_ref(), terminal, fds) {
        Ok(()) => (SpawnStep::Execute, execute(spec, user.as_ref())),
        Err(failure) => failure,
    }
}

fn prepare(
    confinement: &Confinement,
    spec: &ProcessSpec,
    user: Option<&UserSpec>,
    terminal: Option<&Pty>,
    fds: Vec<OwnedFd>,
) -> Result<(), Failure> {
    signals::reset();
    let at = |step| move |e: io::Error| (step, e);
    rustix::process::setsid().map_err(|e| (SpawnStep::Fork, e.into()))?;
    let mut streams = Vec::new();
    if let Some(pty) = terminal {
        pty::make_controlling(&pty.slave).map_err(at(SpawnStep::Terminal))?;
        for _ in 0..3 {
            streams.push(
                pty.slave
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(at(SpawnStep::Terminal))?,
            );
        }
    }
    streams.extend(fds);
    process::install_fds(&streams).map_err(at(SpawnStep::Fork))?;
    process::close_on_exec_from(streams.len() as i32).map_err(at(SpawnStep::Fork))?;
    bind(spec.cpus.as_ref()).map_err(at(SpawnStep::Limits))?;
    for limit in &spec.rlimits {
        rlimit::apply(limit).map_err(at(SpawnStep::Limits))?;
    }
    if confinement.confine {
        confinement
            .caps
            .limit_bounding()
            .map_err(at(SpawnStep::Privileges))?;
        rustix::thread::set_no_new_privs(true).map_err(|e| (SpawnStep::Privileges, e.into()))?;
    }
    if let Some(user) = user {
        become_user(user, confinement.set_groups).map_err(at(SpawnStep::Privileges))?;
    }
    if confinement.confine {
        confinement
            .caps
            .apply()
            .map_err(at(SpawnStep::Privileges))?;
    }
    rustix::process::chdir(&spec.cwd).map_err(|e| (SpawnStep::Folder, e.into()))?;
    // Last: from here on only what the filter lets through.
    if let Some(filter) = &confinement.filter {
        filter.install().map_err(at(SpawnStep::Privileges))?;
    }
    Ok(())
}

/// Binds this process to processors.
pub(super) fn bind(cpus: Option<&CpuSet>) -> io::Result<()> {
    let Some(cpus) = cpus else { return Ok(()) };
    let mut mask = rustix::thread::CpuSet::new();
    for &cpu in cpus
        .0
        .iter()
        .filter(|&&c| (c as usize) < rustix::thread::CpuSet::MAX_CPU)
    {
        mask.set(cpu as usize);
    }
    Ok(rustix::thread::sched_setaffinity(None, &mask)?)
}

fn become_user(user: &UserSpec, set_groups: bool) -> io::Result<()> {
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

/// Executes the program, looked up in the `PATH` that it will have itself.
fn execute(spec: &ProcessSpec, user: Option<&UserSpec>) -> io::Error {
    let invalid = || io::Error::from(rustix::io::Errno::INVAL);
    if spec.argv.is_empty() {
        return invalid();
    }
    let mut env = spec.env.clone();
    if !env.iter().any(|v| v.starts_with("HOME=")) {
        let uid = rustix::process::getuid().as_raw();
        let home = user
            .and_then(|u| u.home.clone())
            .or_else(|| users::home_of(uid));
        env.push(format!("HOME={}", home.as_deref().unwrap_or("/")));
    }
    let strings = |list: &[String]| {
        list.iter()
            .map(|s| CString::new(s.as_str()))
            .collect::<Result<Vec<_>, _>>()
    };
    let (Ok(argv), Ok(env)) = (strings(&spec.argv), strings(&env)) else {
        return invalid();
    };
    let path = spec
        .env
        .iter()
        .rev()
        .find_map(|v| v.strip_prefix("PATH="))
        .unwrap_or("/usr/bin:/bin");
    execute_in_path(&argv[0], &argv, &env, path)
}

/// Executes a program by path, or by name from the folders of a `PATH`;
/// returns only what failed.
pub(super) fn execute_in_path(
    program: &CStr,
    argv: &[CString],
    env: &[CString],
    path: &str,
) -> io::Error {
    if program.to_bytes().contains(&b'/') {
        return process::exec(program, argv, env);
    }
    let mut worst = io::Error::from(rustix::io::Errno::NOENT);
    for folder in path.split(':') {
        let mut file = if folder.is_empty() {
            b".".to_vec()
        } else {
            folder.as_bytes().to_vec()
        };
        file.push(b'/');
        file.extend_from_slice(program.to_bytes());
        let Ok(file) = CString::new(file) else {
            continue;
        };
        let error = process::exec(&file, argv, env);
        // Something is there but cannot be executed: that is the better thing to say.
        if !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ) {
            worst = error;
        }
    }
    worst
}
