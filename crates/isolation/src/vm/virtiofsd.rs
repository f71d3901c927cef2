//! `virtiofsd`, the program that shares a folder of the host with a guest. It is
//! given one end of a socket as descriptor 3, QEMU has the other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use hyperion_sys::mount::{self, Change, NO_DEV, NO_SUID, READ_ONLY};

/// Gives the words that share what is at `point`.
pub fn words(program: &Path, point: &Path) -> Vec<String> {
    let options = format!("source={},sandbox=namespace,log_level=err", point.display());
    let program = program.display().to_string();
    vec![program, "--fd=3".into(), "-o".into(), options]
}

/// Makes the program's end of the socket, and QEMU's. Nothing of it stays in `folder`.
///
/// # Errors
/// The kernel's.
pub fn socket(folder: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    // Not by its whole path, which may be longer than the address of a socket.
    let folder = mount::open_dir(folder)?;
    let path = format!("/proc/self/fd/{}/socket", folder.as_raw_fd());
    let listener = UnixListener::bind(&path)?;
    let socket = UnixStream::connect(&path);
    std::fs::remove_file(&path)?;
    Ok((listener.into(), socket?.into()))
}

/// Mounts a folder or a file of the host at a point of this process's own, from
/// which it is shared: what is to be read only cannot be written through it,
/// whatever the guest becomes.
///
/// # Errors
/// The kernel's.
pub fn mount(source: &Path, point: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    let tree = mount::clone_tree(rustix::fs::CWD, source, true)?;
    let read_only = if read_only { READ_ONLY } else { 0 };
    let change = Change {
        set: read_only | NO_DEV | NO_SUID,
        recursive: true,
        ..Change::default()
    };
    mount::set_attributes(tree.as_fd(), &change)?;
    mount::attach(tree.as_fd(), point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_made_however_long_its_folders_name_is_and_leaves_nothing() {
        let folder = hyperion_testkit::TestDir::new();
        let long = folder.path().join("x".repeat(200));
        std::fs::create_dir(&long).expect("made");
        let (listener, _ours) = socket(&long).expect("a socket");
        // Somebody waits there already.
        assert!(UnixListener::from(listener).accept().is_ok());
        assert_eq!(std::fs::read_dir(&long).expect("it is there").count(), 0);
    }
}
