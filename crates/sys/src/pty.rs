//! Pseudo-terminals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// The two ends of a new pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The end that a supervisor reads and writes.
    pub master: OwnedFd,
    /// The end that a program has as its terminal.
    pub slave: OwnedFd,
}

/// Makes a pseudo-terminal from the `/dev/pts` of this mount namespace.
///
/// # Errors
/// The kernel's; `ENOENT` where no devpts is mounted.
pub fn open() -> io::Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok(Pty { master, slave })
}

/// Tells a terminal its size in character cells.
///
/// # Errors
/// The kernel's.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Makes a terminal the controlling one of this process, which must lead a
/// session that has none.
///
/// # Errors
/// The kernel's.
pub fn make_controlling(terminal: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}
