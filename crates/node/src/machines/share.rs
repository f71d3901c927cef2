//! Folders of the host for a machine, by `virtiofsd`: one for each, which ends
//! with its keeper, and when QEMU closes its end.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use hyperion_sys::mount::{self, Change, NO_DEV, NO_SUID, READ_ONLY};
use hyperion_sys::process::{self, Fork, Program};
use hyperion_sys::signals;

/// A folder, and where it is shared from.
pub(super) struct Lent<'a> {
    /// The program.
    pub(super) program: &'a Path,
    /// The folder.
    pub(super) source: &'a Path,
    /// The guest cannot write, whatever it becomes.
    pub(super) read_only: bool,
    /// An empty folder, on which it is mounted for the program alone.
    pub(super) point: &'a Path,
    /// What the program says goes there.
    pub(super) log: OwnedFd,
}

/// Starts the program that shares a folder; gives QEMU's way to it.
pub(super) fn lend(lent: &Lent<'_>) -> io::Result<OwnedFd> {
    fs::create_dir_all(lent.point)?;
    // Not by its whole path, which may be longer than the address of a socket.
    let folder = mount::open_dir(lent.point)?;
    let path = format!("/proc/self/fd/{}/socket", folder.as_raw_fd());
    let listener = UnixListener::bind(&path)?;
    let socket = UnixStream::connect(&path);
    fs::remove_file(&path)?;
    drop(folder);
    let socket = socket?;
    let words = [
        lent.program.display().to_string(),
        "--fd=3".into(),
        "-o".into(),
        format!(
            "source={},sandbox=namespace,log_level=err",
            lent.point.display()
        ),
    ];
    let words = words.map(CString::new).into_iter();
    let words = words.collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(words, vec![c"PATH=/usr/bin:/bin".into()], "/usr/bin:/bin")?;
    match process::clone_into(process::namespace::MOUNT, None)? {
        Fork::Parent(_) => Ok(socket.into()),
        Fork::Child => {
            let error = become_it(lent, &listener, &program);
            let words = format!("cannot share {}: {error}\n", lent.source.display());
            let _ = rustix::io::write(&lent.log, words.as_bytes());
            process::exit_now(1)
        }
    }
}

/// Mounts the folder where nobody else sees it, and becomes the program.
fn become_it(lent: &Lent<'_>, listener: &UnixListener, program: &Program) -> io::Error {
    let prepared = || -> io::Result<()> {
        signals::die_with_parent()?;
        // What the host lets go of, this lets go of.
        mount::isolate_propagation(true)?;
        let tree = mount::clone_tree(rustix::fs::CWD, lent.source, true)?;
        let read_only = if lent.read_only { READ_ONLY } else { 0 };
        let change = Change {
            set: read_only | NO_DEV | NO_SUID,
            recursive: true,
            ..Change::default()
        };
        mount::set_attributes(tree.as_fd(), &change)?;
        mount::attach(tree.as_fd(), mount::open_dir(lent.point)?.as_fd())?;
        let log = lent.log.as_fd();
        process::install_fds(&[rustix::stdio::stdin(), log, log, listener.as_fd()])?;
        process::close_on_exec_from(4)
    };
    match prepared() {
        Ok(()) => program.become_it()(),
        Err(error) => error,
    }
}
