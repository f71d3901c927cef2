//! Mounts, through the kernel's descriptor-based calls (Linux 5.2 and later):
//! a mount is made first and put into place afterwards.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
    open_tree,
};

/// Nothing can be written.
pub const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Set-user-id bits and file capabilities have no effect.
pub const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Device nodes have no effect.
pub const NO_DEV: u64 = libc::MOUNT_ATTR_NODEV;
/// No program can be executed.
pub const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Makes a file system that is not yet attached anywhere.
///
/// An option without a value is a flag. `attributes` are the constants above.
///
/// # Errors
/// The kernel's: `ENODEV` when it has no such file system, `EPERM` when it
/// may not be mounted from this user namespace.
pub fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    let flags = MountAttrFlags::from_bits_retain(attributes as u32);
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

/// Copies the mount at a path, detached; with `recursive`, what is mounted below it too.
///
/// # Errors
/// The kernel's.
pub fn clone_tree(at: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(at, path, flags)?)
}

/// What is changed on a mount by [`set_attributes`].
#[derive(Debug, Default)]
pub struct Change<'a> {
    /// Attributes to set.
    pub set: u64,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`; 0 leaves it.
    pub propagation: u64,
    /// Ids are mapped by this user namespace.
    pub idmap: Option<BorrowedFd<'a>>,
    /// Mounts below it are changed too.
    pub recursive: bool,
}

/// Changes the attributes of a mount.
///
/// # Errors
/// `EINVAL` when the file system cannot be mapped, `ENOSYS` before Linux 5.12.
pub fn set_attributes(mount: BorrowedFd<'_>, change: &Change<'_>) -> io::Result<()> {
    let mut attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: 0,
        propagation: change.propagation,
        userns_fd: 0,
    };
    if let Some(ns) = change.idmap {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = ns.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH
        | if change.recursive {
            libc::AT_RECURSIVE
        } else {
            0
        };
    // SAFETY: the path is an empty string and `attr` is live and of the stated size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Puts a detached mount on the file or folder that `target` refers to.
///
/// # Errors
/// The kernel's.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Mounts an overlay on a folder. `lowers` are folders, the topmost first;
/// `upper` is the folder that is written to and an empty one beside it.
///
/// Whiteouts and opaque marks use `user.overlay.*`, so that the same layers
/// serve inside a user namespace and outside.
///
/// # Errors
/// The kernel's.
pub fn overlay(
    lowers: &[&Path],
    upper: Option<(&Path, &Path)>,
    attributes: u64,
    target: &Path,
) -> io::Result<()> {
    // All options together must fit a page, and only since Linux 6.8 can folders
    // be given one by one. A descriptor's number is short, and has nothing to escape.
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lowers: Vec<OwnedFd> = lowers
        .iter()
        .map(|l| open_dir(l))
        .collect::<Result<_, _>>()?;
    let names: Vec<String> = lowers.iter().map(name).collect();
    let mut options = format!("userxattr,lowerdir={}", names.join(":"));
    let upper = match upper {
        Some((upper, work)) => Some((open_dir(upper)?, open_dir(work)?)),
        None => None,
    };
    if let Some((upper, work)) = &upper {
        let (upper, work) = (name(upper), name(work));
        // What a job writes into its root is thrown away at its end: no need to sync it.
        options += &format!(",upperdir={upper},workdir={work},volatile");
    }
    let options = CString::new(options)?;
    // The flags of mount(2) have the numbers of the attributes.
    let flags = MountFlags::from_bits_retain(attributes as u32);
    let options = Some(options.as_c_str());
    Ok(mount("hyperion", target, "overlay", flags, options)?)
}

/// Has a file system write out what it holds back and write nothing more, or lets it
/// write again. `root` is a folder of it.
///
/// # Errors
/// The kernel's: `EBUSY` and `EINVAL` where it is so already.
pub fn freeze(root: impl AsFd, frozen: bool) -> io::Result<()> {
    // FIFREEZE and FITHAW of linux/fs.h: _IOWR('X', 119, int) and 120.
    let order: libc::Ioctl = if frozen { 0xc004_5877 } else { 0xc004_5878 };
    // SAFETY: the kernel takes no argument of either.
    match unsafe { libc::ioctl(root.as_fd().as_raw_fd(), order, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Opens a path below a root as if the root were `/`: no `..`, symbolic link
/// or magic link leads out of it.
///
/// # Errors
/// The kernel's.
pub fn open_below(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    let mut tries = 0;
    loop {
        // A rename or mount anywhere on the host while a `..` is walked, says
        // openat2(2), and the kernel cannot be sure: the caller is to try again.
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN) if tries < 1000 => tries += 1,
            other => return Ok(other?),
        }
    }
}

/// Makes every mount of this namespace private or a slave of the host's.
///
/// # Errors
/// The kernel's.
pub fn isolate_propagation(slave: bool) -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags as P, mount_change};
    let kind = if slave { P::DOWNSTREAM } else { P::PRIVATE };
    Ok(mount_change("/", kind | P::REC)?)
}

/// Makes a mount the root of this mount namespace and lets go of the old one.
///
/// # Errors
/// The kernel's; the root is the old one then.
pub fn pivot_into(root: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    // The old root ends up on top of the new one, at the same place, and is taken away there.
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?,
        // A host without a disk may still be in its first root, which cannot be
        // taken away (pivot_root(2)): it is covered for good, as switch_root does.
        // Nothing is above it. A chroot is refused for the same reason: above its
        // folder is the host, and whoever may call chroot(2) could climb there.
        Err(rustix::io::Errno::INVAL) if is_in_first_root() => {
            rustix::mount::mount_move(".", "/")?;
            rustix::process::chroot(".")?;
        }
        Err(e) => return Err(e.into()),
    }
    Ok(rustix::process::chdir("/")?)
}

/// Tells whether the root of this process is the one that no other mount holds.
fn is_in_first_root() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(is_first_root)
}

/// Reads one line of proc_pid_mountinfo(5): number, parent, device, root, mount point.
fn is_first_root(line: &str) -> bool {
    let fields: Vec<&str> = line.split(' ').take(5).collect();
    matches!(fields[..], [id, parent, _, "/", "/"] if id == parent)
}

/// Opens a folder for use as the base of [`open_below`] and [`attach`].
///
/// # Errors
/// The kernel's.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_root_is_its_own_parent() {
        assert!(is_first_root("1 1 0:2 / / rw - rootfs rootfs rw"));
        for line in [
            "25 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
            "23 1 0:20 / /proc rw - proc none rw",
            "1 1 0:2 /sub / rw - rootfs rootfs rw",
            "",
        ] {
            assert!(!is_first_root(line), "{line}");
        }
    }
}
