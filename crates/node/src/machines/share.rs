//! Folders of the host for a machine, by `virtiofsd`: one for each, which ends
//! with its keeper, and when QEMU closes its end.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hyperion_isolation::vm::virtiofsd;
use hyperion_sys::mount;
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
    let (its, ours) = virtiofsd::socket(lent.point)?;
    let words = virtiofsd::words(lent.program, lent.point).into_iter();
    let words = words.map(CString::new).collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(words, vec![c"PATH=/usr/bin:/bin".into()], "/usr/bin:/bin")?;
    match process::clone_into(process::namespace::MOUNT, None)? {
        Fork::Parent(_) => Ok(ours),
        Fork::Child => {
            let error = become_it(lent, &its, &program);
            let words = format!("cannot share {}: {error}\n", lent.source.display());
            let _ = rustix::io::write(&lent.log, words.as_bytes());
            process::exit_now(1)
        }
    }
}

/// Mounts the folder where nobody else sees it, and becomes the program.
fn become_it(lent: &Lent<'_>, its: &OwnedFd, program: &Program) -> io::Error {
    let prepared = || -> io::Result<()> {
        signals::die_with_parent()?;
        // What the host lets go of, this lets go of.
        mount::isolate_propagation(true)?;
        let point = mount::open_dir(lent.point)?;
        virtiofsd::mount(lent.source, point.as_fd(), lent.read_only)?;
        let log = lent.log.as_fd();
        process::install_fds(&[rustix::stdio::stdin(), log, log, its.as_fd()])?;
        process::close_on_exec_from(4)
    };
    match prepared() {
        Ok(()) => program.become_it()(),
        Err(error) => error,
    }
}
