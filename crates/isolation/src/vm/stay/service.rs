//! The first process of a machine that is there for one command: it starts that, again
//! where it is to, and sees the machine off.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hyperion_model::ProcessSpec;
use hyperion_model::machine::{Restart, Service};
use hyperion_model::report::Exit;
use hyperion_sys::process::{self, Ended, Program};
use hyperion_sys::pty::Pty;
use hyperion_sys::signals::{self, SIGCHLD, SIGINT, SIGKILL, SIGTERM, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::Pid;
use rustix::system::RebootCommand;

use super::say;
use crate::init::{Confinement, spawn_on};
use crate::vm::guest::Failure;

/// Where programs are looked for that nobody has said a place of.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The inits of images, the usual one first.
pub const INITS: [&str; 3] = [
    "/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
];
/// The signals that ask systemd to switch off and to start anew (systemd(1)), and
/// those that ask the init of busybox.
pub(super) const OFF: i32 = 34 + 4;
/// See [`OFF`].
pub(super) const REBOOT: i32 = 34 + 5;
const USR1: i32 = 10;
const USR2: i32 = 12;
const POWER: i32 = 30;
/// What the first process hears.
pub(super) const HEARD: [i32; 8] = [SIGCHLD, SIGTERM, SIGINT, USR1, USR2, POWER, OFF, REBOOT];
/// How long is waited before a command is started again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// A command that ran so long begins with the shortest wait again.
const WELL: Duration = Duration::from_secs(10);
/// How long a command may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(30);
/// How long all other programs may.
const OTHERS: Duration = Duration::from_secs(5);

/// Becomes the image's own init.
pub(super) fn become_init() -> Failure {
    for init in INITS.iter().filter(|init| Path::new(init).exists()) {
        let words = |list: &[&str]| {
            list.iter()
                .map(|word| CString::new(*word).unwrap_or_default())
                .collect()
        };
        let env = [format!("PATH={PATH}"), "HOME=/".into(), "TERM=linux".into()];
        let env: Vec<&str> = env.iter().map(String::as_str).collect();
        signals::reset();
        let error = match Program::new(words(&[init]), words(&env), "") {
            Ok(program) => program.become_it()(),
            Err(error) => error,
        };
        say(format_args!("{init} cannot be executed: {error}"));
    }
    Failure::new("finding an init in the image", io::ErrorKind::NotFound)
}

/// What is to become of the machine.
#[derive(Clone, Copy)]
enum Way {
    Off,
    Anew,
}

/// Keeps a command running until the machine is to end.
pub(super) struct Keeper<'a> {
    service: &'a Service,
    arrived: SignalFd,
    running: Option<(Pid, Instant)>,
    /// When it is started again, and how long is waited the next time.
    next: Option<Instant>,
    pause: Duration,
}

impl<'a> Keeper<'a> {
    /// Listens to who asks it to end from here on.
    pub(super) fn new(service: &'a Service) -> io::Result<Self> {
        // The keys that reset a machine ask, too.
        let _ = rustix::system::reboot(RebootCommand::CadOff);
        let arrived = SignalFd::new(&HEARD)?;
        Ok(Self {
            service,
            arrived,
            running: None,
            next: Some(Instant::now()),
            pause: AGAIN.0,
        })
    }

    /// Stays until the machine ends.
    pub(super) fn serve(&mut self) -> Failure {
        let way = self.keep();
        self.see_off(way)
    }

    fn keep(&mut self) -> Way {
        loop {
            if self.next.is_some_and(|next| next <= Instant::now()) {
                self.next = None;
                match self.start() {
                    Ok(pid) => self.running = Some((pid, Instant::now())),
                    Err(why) => {
                        say(format_args!("{} was not started: {why}", self.name()));
                        if let Some(way) = self.decide(false) {
                            return way;
                        }
                    }
                }
            }
            let limit = self
                .next
                .map(|next| next.saturating_duration_since(Instant::now()));
            for signal in self.listen(limit) {
                match signal {
                    SIGCHLD => {}
                    SIGTERM | SIGINT | REBOOT => return Way::Anew,
                    _ => return Way::Off,
                }
            }
            while let Ok(Some(ended)) = process::wait_any() {
                if let Some(way) = self.has_ended(&ended) {
                    return way;
                }
            }
        }
    }

    fn name(&self) -> &str {
        self.service.command.first().map_or("", String::as_str)
    }

    fn listen(&self, limit: Option<Duration>) -> Vec<i32> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().cast_signed(),
            // So that what is waited for has come then.
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        let mut fds = [PollFd::from_borrowed_fd(
            self.arrived.as_fd(),
            PollFlags::IN,
        )];
        let _ = poll(&mut fds, limit.as_ref());
        std::iter::from_fn(|| self.arrived.next()).collect()
    }

    /// Says what follows from the end of a process.
    fn has_ended(&mut self, ended: &Ended) -> Option<Way> {
        let (pid, since) = self.running?;
        if ended.pid != pid {
            return None;
        }
        self.running = None;
        if since.elapsed() >= WELL {
            self.pause = AGAIN.0;
        }
        match ended.exit {
            Exit::Code(code) => say(format_args!("{} has ended with {code}", self.name())),
            Exit::Signal(signal) => {
                let signal = signals::name(i32::from(signal));
                say(format_args!("{} was ended by {signal}", self.name()));
            }
        }
        self.decide(ended.exit == Exit::Code(0))
    }

    fn decide(&mut self, well: bool) -> Option<Way> {
        match (self.service.restart, well) {
            (Restart::No, _) | (Restart::OnFailure, true) => Some(Way::Off),
            (Restart::Always, _) | (Restart::OnFailure, false) => {
                self.next = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(AGAIN.1);
                None
            }
        }
    }

    fn start(&self) -> Result<Pid, String> {
        let service = self.service;
        let mut env = service.env.clone();
        for (name, value) in [("PATH", PATH), ("TERM", "linux")] {
            let there = |env: &String| env.split_once('=').is_some_and(|(key, _)| key == name);
            if !env.iter().any(there) {
                env.push(format!("{name}={value}"));
            }
        }
        let spec = ProcessSpec {
            node: 0,
            argv: service.command.clone(),
            env,
            cwd: service.folder.as_deref().unwrap_or("/").into(),
            user: Some(service.user.clone().unwrap_or_else(|| "0".into())),
            tty: true,
            terminal_size: None,
            cpus: None,
            rlimits: Vec::new(),
        };
        let _ = fs::create_dir_all(&spec.cwd);
        let terminal = terminal().map_err(|e| format!("the console cannot be opened: {e}"))?;
        let pty = terminal.try_clone().map(|master| Pty {
            master,
            slave: terminal,
        });
        let pty = pty.map_err(|e| e.to_string())?;
        let spawned = spawn_on(&Confinement::none(), &spec, Some(pty), Vec::new());
        spawned
            .map(|(pid, _)| pid)
            .map_err(|(step, e)| format!("{}: {e}", step.describe()))
    }

    /// Ends everything, and then the machine.
    fn see_off(&mut self, way: Way) -> Failure {
        say(match way {
            Way::Off => "switching off",
            Way::Anew => "starting anew",
        });
        if let Some((pid, _)) = self.running {
            let named = self.service.stop_signal.as_deref();
            let signal = named.and_then(signals::by_name).unwrap_or(SIGTERM);
            // A shell at the console does not hear it, and ends when that is gone.
            let signal = match ignores(pid, signal) {
                true => signals::SIGHUP,
                false => signal,
            };
            let _ = signals::send(pid, signal);
            self.wait(GRACE, |keeper| keeper.running.is_none());
        }
        let _ = signals::send_to_all(SIGTERM);
        let _ = signals::send_to_all(signals::SIGCONT);
        self.wait(OTHERS, |_| false);
        let _ = signals::send_to_all(SIGKILL);
        self.wait(OTHERS, |_| false);
        rustix::fs::sync();
        let clean = mount_remount("/", MountFlags::RDONLY, c"");
        if let Err(e) = clean {
            say(format_args!(
                "the disk is not left clean, its journal holds all: {e}"
            ));
        }
        let way = match way {
            Way::Off => RebootCommand::PowerOff,
            Way::Anew => RebootCommand::Restart,
        };
        let ended = rustix::system::reboot(way).err();
        Failure::new("ending the machine", ended.unwrap_or(rustix::io::Errno::IO))
    }

    /// Waits until it is enough, or no process is left.
    fn wait(&mut self, limit: Duration, enough: impl Fn(&Self) -> bool) {
        let until = Instant::now() + limit;
        loop {
            loop {
                match process::wait_any() {
                    Ok(Some(ended)) => {
                        if self.running.is_some_and(|(pid, _)| pid == ended.pid) {
                            self.running = None;
                        }
                    }
                    Ok(None) => break,
                    // There are no more.
                    Err(_) => return,
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if enough(self) || left.is_zero() {
                return;
            }
            self.listen(Some(left));
        }
    }
}

/// Tells whether a process ignores a signal.
fn ignores(pid: Pid, signal: i32) -> bool {
    let path = format!("/proc/{}/status", pid.as_raw_pid());
    let text = fs::read_to_string(path).unwrap_or_default();
    let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Opens the terminal that the console is.
fn terminal() -> io::Result<OwnedFd> {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let name = active.split_ascii_whitespace().last().unwrap_or("ttyS0");
    let no_control = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(no_control);
    Ok(file.open(format!("/dev/{name}"))?.into())
}
