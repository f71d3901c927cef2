//! Questions that only the running kernel answers, tried in a child process
//! with namespaces of its own; the caller and the host stay as they are.

use std::ffi::CStr;
use std::io;

use hyperion_model::report::Exit;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::Pid;

use crate::process;

/// Tries to make a user namespace with a mount namespace, and to use the
/// rights that it should give. Ubuntu's restriction lets the first pass and
/// refuses the second.
///
/// # Errors
/// The kernel's refusal. Nothing is left behind.
pub fn user_namespace() -> io::Result<()> {
    let maps = Maps::of_caller();
    in_child(|| enter(&maps))
}

/// Tries to mount an overlay over a tmpfs in a user namespace.
///
/// # Errors
/// The kernel's refusal. Nothing is left behind.
pub fn overlay_in_user_namespace() -> io::Result<()> {
    let maps = Maps::of_caller();
    in_child(|| {
        enter(&maps)?;
        for folder in [
            c"/proc/lower",
            c"/proc/upper",
            c"/proc/work",
            c"/proc/merged",
        ] {
            rustix::fs::mkdir(folder, Mode::RWXU)?;
        }
        rustix::mount::mount(
            c"overlay",
            c"/proc/merged",
            c"overlay",
            MountFlags::empty(),
            Some(c"lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work,userxattr"),
        )
    })
}

/// Asks for the version of Landlock; `None` where the kernel has none or it
/// is switched off.
pub fn landlock_abi() -> Option<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel takes no pointer and makes nothing.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            VERSION,
        )
    };
    u32::try_from(abi).ok().filter(|abi| *abi > 0)
}

/// The id maps, written before the fork: the child must not allocate.
struct Maps {
    uid: String,
    gid: String,
}

impl Maps {
    fn of_caller() -> Self {
        Self {
            uid: format!("0 {} 1", rustix::process::geteuid().as_raw()),
            gid: format!("0 {} 1", rustix::process::getegid().as_raw()),
        }
    }
}

/// Enters new user and mount namespaces and covers `/proc` with an empty tmpfs.
fn enter(maps: &Maps) -> Result<(), Errno> {
    // SAFETY: changes only this process, a child with a single thread.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
        return Err(last_errno());
    }
    write(c"/proc/self/setgroups", b"deny")?;
    write(c"/proc/self/uid_map", maps.uid.as_bytes())?;
    write(c"/proc/self/gid_map", maps.gid.as_bytes())?;
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", flags)?;
    rustix::mount::mount(c"tmpfs", c"/proc", c"tmpfs", MountFlags::empty(), None)
}

fn write(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes).map(drop)
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Runs `f` in a child; it must neither allocate nor panic, as another thread
/// may hold a lock at the moment of the fork.
fn in_child(f: impl FnOnce() -> Result<(), Errno>) -> io::Result<()> {
    // SAFETY: the child only makes system calls and leaves by `_exit`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let errno = f().err().map_or(0, Errno::raw_os_error);
            // Every errno of Linux is between 1 and 133.
            process::exit_now(errno as u8)
        }
        child => {
            let child = Pid::from_raw(child).ok_or(io::ErrorKind::InvalidData)?;
            match process::wait_for(child)?.exit {
                Exit::Code(0) => Ok(()),
                Exit::Code(errno) => Err(io::Error::from_raw_os_error(errno.into())),
                Exit::Signal(_) => Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_of_the_child_arrives() {
        let error = in_child(|| Err(Errno::NOSPC)).expect_err("the child failed");
        assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
        assert!(in_child(|| Ok(())).is_ok());
    }

    #[test]
    fn a_trial_leaves_the_mounts_of_the_caller_alone() {
        let before = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
        // Whether it is allowed depends on the host; here only the traces count.
        let _ = overlay_in_user_namespace();
        let after = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
        assert_eq!(before, after);
    }
}
