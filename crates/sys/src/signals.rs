//! Signals as things that can be waited for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use libc::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGTTOU, SIGWINCH,
};

/// The signals that end or inform a program and can be passed on.
pub const FORWARDED: [i32; 6] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The signals that mean the end of a program, caught or not.
pub const ENDING: [i32; 5] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGKILL,
];

/// Blocked signals that arrive through a descriptor.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks these signals for this process and makes a descriptor for them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: all-zero is a valid `sigset_t`, which sigemptyset then initializes.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is live for each call, and the numbers are checked by sigaddset.
        unsafe {
            libc::sigemptyset(&raw mut set);
            for &signal in signals {
                libc::sigaddset(&raw mut set, signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: -1 asks for a new descriptor; `set` is initialized.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave this descriptor to us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes the next signal that has arrived.
    pub fn next(&self) -> Option<i32> {
        // SAFETY: all-zero is a valid `signalfd_siginfo`.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is live and of the stated size.
        let got = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        (got == size as isize).then_some(info.ssi_signo as i32)
    }
}

/// Lets signals that [`SignalFd::new`] has blocked arrive again.
///
/// # Errors
/// The kernel's.
pub fn unblock(signals: &[i32]) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigset_t`, which sigemptyset then initializes;
    // `set` is live for each call, and the numbers are checked by sigaddset.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives every signal its default action and blocks none: the state in which
/// a program expects to start. (This program ignores `SIGPIPE`.)
pub fn reset() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code; the kernel refuses KILL, STOP and the C library its own two.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is a valid one, and the old set is not asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Has writing into a pipe that nobody reads fail, rather than end the process.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN installs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Has the ends of children wait to be taken: a starter that ignores `SIGCHLD` (a daemon
/// that wants to hear of no child of its own) hands that down to all that it executes.
pub(crate) fn hear_of_children() {
    // SAFETY: SIG_DFL installs no code.
    unsafe { libc::signal(SIGCHLD, libc::SIG_DFL) };
}

/// The names that `kill -l` knows, without `SIG`, with their numbers.
const NAMES: [(&str, i32); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("SYS", libc::SIGSYS),
    ("WINCH", libc::SIGWINCH),
    ("STKFLT", libc::SIGSTKFLT),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
];

/// Lists the names of signals, without `SIG`.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|&(name, _)| name)
}

/// Finds a signal by name (`TERM`, `SIGTERM`, any case) or number.
pub fn by_name(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES
        .iter()
        .find(|(name, _)| *name == short)
        .map(|&(_, number)| number)
}

/// Gives the name of a signal with `SIG`, or its number.
pub fn name(signal: i32) -> String {
    match NAMES.iter().find(|&&(_, number)| number == signal) {
        Some((name, _)) => format!("SIG{name}"),
        None => format!("signal {signal}"),
    }
}

/// Sends a signal to one process.
///
/// # Errors
/// `ESRCH` when it is gone, `EPERM` when it is another user's.
pub fn send(pid: rustix::process::Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory.
    let done = unsafe { libc::kill(pid.as_raw_pid(), signal) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends a signal to a process group.
///
/// # Errors
/// As [`send`].
pub fn send_to_group(group: rustix::process::Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory.
    let done = unsafe { libc::kill(-group.as_raw_pid(), signal) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends a signal to every process of this process namespace but PID 1. Meant
/// for PID 1 of one: anywhere else it would reach the whole host.
///
/// # Errors
/// `Unsupported` when this process is not PID 1.
pub fn send_to_all(signal: i32) -> io::Result<()> {
    if !rustix::process::getpid().is_init() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: kill touches no memory.
    let done = unsafe { libc::kill(-1, signal) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks for a signal when the parent dies; `SIGKILL` leaves no orphan.
///
/// # Errors
/// The kernel's.
pub fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        rustix::process::Signal::KILL,
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(by_name("TERM"), Some(15));
        assert_eq!(by_name("sigkill"), Some(9));
        assert_eq!(by_name("10"), Some(10));
        let named: std::collections::BTreeSet<i32> = NAMES.iter().map(|n| n.1).collect();
        assert_eq!(named, (1..32).collect());
        assert_eq!(by_name("65"), None);
        assert_eq!(by_name("FOO"), None);
        assert_eq!(name(11), "SIGSEGV");
    }
}
