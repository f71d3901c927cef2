//! A guest in a child process, and its end.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use super::guest::{self, MEMORY};
use super::machine;
use super::verdict::{End, GLANCE, LIMIT, PATIENCE, Trial};
use crate::process::exit_now;

/// Boots the guest and gives what was seen.
///
/// # Errors
/// When there is no memory or no process. Whatever the guest does is no error.
pub(super) fn run(kvm: BorrowedFd<'_>) -> io::Result<Trial> {
    let stage = Stage::new()?;
    // SAFETY: the child allocates nothing, makes system calls and leaves by `_exit`.
    let watched = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => stage.play(kvm),
        child => {
            let child = Pid::from_raw(child).ok_or(io::ErrorKind::InvalidData)?;
            watch(child)
        }
    };
    let said = stage.said();
    let time = |nanos: &AtomicU64| match nanos.load(Ordering::Acquire) {
        0 => None,
        nanos => Some(Duration::from_nanos(nanos)),
    };
    Ok(Trial {
        done: stage.mark(),
        // What the child has said holds, however it ended afterwards.
        end: said.end().unwrap_or(watched),
        native: time(&said.native),
        guest: time(&said.guest),
    })
}

/// Waits for the child, and kills it when its time is over.
fn watch(child: Pid) -> End {
    let end = match wait(child, LIMIT) {
        Some(signal) => return End::Killed { signal },
        None => End::TooSlow,
    };
    let _ = kill_process(child, Signal::KILL);
    match wait(child, PATIENCE) {
        Some(_) => end,
        None => End::Unkillable {
            pid: child.as_raw_pid().cast_unsigned(),
        },
    }
}

/// Waits for the end of the child and gives the signal that ended it, or 0;
/// none when it is still there after `limit`.
fn wait(child: Pid, limit: Duration) -> Option<i32> {
    let since = Instant::now();
    loop {
        let late = since.elapsed() >= limit;
        match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Some(signal(status)),
            // The caller wants to know of no child (SIGCHLD ignored).
            Err(rustix::io::Errno::CHILD) => return Some(0),
            _ if late => return None,
            _ => std::thread::sleep(GLANCE),
        }
    }
}

fn signal(status: WaitStatus) -> i32 {
    status.terminating_signal().unwrap_or(0)
}

/// What the child says. All zero at first.
#[repr(C)]
struct Said {
    /// Nanoseconds.
    native: AtomicU64,
    /// Nanoseconds.
    guest: AtomicU64,
    /// Whether `end` is written. It is the last word.
    ended: AtomicBool,
    end: UnsafeCell<End>,
}

impl Said {
    fn end(&self) -> Option<End> {
        // SAFETY: written once, before `ended` was; a text in it is a constant
        // of this program, which lies where it lies in the child.
        self.ended
            .load(Ordering::Acquire)
            .then(|| unsafe { *self.end.get() })
    }

    fn tell(&self, end: End) {
        // SAFETY: nobody reads it before `ended` is set.
        unsafe { self.end.get().write(end) };
        self.ended.store(true, Ordering::Release);
    }
}

fn store(place: &AtomicU64, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    place.store(nanos, Ordering::Release);
}

/// Memory that parent, child and guest have in common; what is [`Said`] comes
/// after the guest's and is out of its reach.
struct Stage(NonNull<u8>);

const STAGE: usize = MEMORY + 0x1000;
const _: () = assert!(size_of::<Said>() <= STAGE - MEMORY);

impl Stage {
    fn new() -> io::Result<Self> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), STAGE, rights, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: new, all zero, large enough, and nobody else's yet.
        guest::load(unsafe { start.cast().as_mut() });
        Ok(Self(start))
    }

    fn said(&self) -> &Said {
        // SAFETY: within the mapping, at the start of a page; all zero is valid.
        unsafe { self.0.add(MEMORY).cast().as_ref() }
    }

    /// The number that the guest wrote last.
    fn mark(&self) -> u8 {
        // SAFETY: within the mapping; the guest may be writing it, so it is read once.
        unsafe { self.0.add(guest::MARK).read_volatile() }
    }

    /// The child's part.
    fn play(&self, kvm: BorrowedFd<'_>) -> ! {
        // SAFETY: all-zero is a valid set, which is then filled; only this process changes.
        unsafe {
            // A terminal's ctrl-C goes to the parent, whose handlers must not run
            // twice; and the child must not outlive it.
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        let said = self.said();
        store(&said.native, machine::native());
        let best = |time| store(&said.guest, time);
        said.tell(machine::run(kvm, self.0.as_ptr(), best));
        exit_now(0)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which no reference is left; the child has its own.
        unsafe { libc::munmap(self.0.as_ptr().cast(), STAGE) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_device_that_is_not_kvm_is_refused_by_its_first_call() {
        let null = std::fs::File::open("/dev/null").expect("there");
        let trial = run(null.as_fd()).expect("a child");
        let refused = End::Refused {
            call: "KVM_GET_API_VERSION",
            errno: libc::ENOTTY,
        };
        assert_eq!((trial.end, trial.done), (refused, 0));
        let native = trial.native.expect("the loop ran on the host");
        assert!(native > Duration::from_micros(10), "{native:?}");
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        // SAFETY: the child only sleeps.
        let child = match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for signals.
                unsafe { libc::pause() };
            },
            child => Pid::from_raw(child).expect("a child"),
        };
        assert_eq!(wait(child, Duration::ZERO), None);
        assert_eq!(watch(child), End::TooSlow);
        assert_eq!(wait(child, LIMIT), Some(0), "there is no child any more");
    }
}
