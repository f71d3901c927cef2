//! What is taken away when a command is ended before it has finished.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use hyperion_sys::process;
use hyperion_sys::signals::{self, SIGHUP, SIGINT, SIGTERM, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// What ends a command.
const ENDS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// A folder that goes, with the programs that fill it, when this command is ended
/// by a signal. Forgotten when dropped; whoever fails removes it by himself.
pub(super) struct Unfinished {
    /// Closed to say that it is finished.
    goes_on: Option<OwnedFd>,
    waits: Option<JoinHandle<()>>,
}

impl Unfinished {
    /// Looks after a folder.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        Self::hold()?.over(folder)
    }

    /// Lets what would end this command wait until a folder is looked after.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn hold() -> io::Result<Held> {
        Ok(Held(SignalFd::new(&ENDS)?))
    }
}

/// What would end this command waits.
pub(super) struct Held(SignalFd);

impl Held {
    /// Looks after a folder.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn over(self, folder: &Path) -> io::Result<Unfinished> {
        let arrived = self.0;
        let (heard, goes_on) = pipe_with(PipeFlags::CLOEXEC)?;
        let folder = folder.to_owned();
        let waits = std::thread::spawn(move || wait(&arrived, &heard, folder));
        Ok(Unfinished {
            goes_on: Some(goes_on),
            waits: Some(waits),
        })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.goes_on = None;
        // A signal that came until now still counts: this does not come back then.
        let _ = self.waits.take().map(JoinHandle::join);
        let _ = signals::unblock(&ENDS);
    }
}

fn wait(arrived: &SignalFd, heard: &OwnedFd, folder: PathBuf) {
    let mut fds = [
        PollFd::from_borrowed_fd(arrived.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(heard.as_fd(), PollFlags::IN),
    ];
    while let Err(rustix::io::Errno::INTR) = poll(&mut fds, None) {}
    let Some(signal) = arrived.next() else {
        return;
    };
    for child in process::children(rustix::process::getpid()) {
        process::kill_tree(child);
    }
    // Once more where something was written meanwhile.
    while fs::remove_dir_all(&folder).is_err_and(|e| e.kind() == io::ErrorKind::DirectoryNotEmpty) {
    }
    std::process::exit(128 + signal);
}
