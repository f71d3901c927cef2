//! The host's side: what lends the folders, and what takes changes back.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyperion_image::folder::{Copied, FILE, FolderError, Ids, Lay, Rules, Taken, lay_image, take};
use hyperion_image::layer::LayerError;
use hyperion_image::layer::erofs::Form;
use hyperion_sys::mount;
use rustix::event::Timespec;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Share;
use crate::vm::host::{Said, TICK, execute, nameless};
use crate::vm::qemu::share_tag;
use crate::vm::relay::Relay;
use crate::vm::virtiofsd;

/// The most files that a guest may change.
const MOST_CHANGES: u64 = 1_000_000;
/// A guest sends faster than this, in bytes per second, or is heard no more.
const SLOWEST: u64 = 16 << 10;
/// After so many bytes others are heard.
const PIECE: u64 = 4 << 20;

/// Starts the program that shares one folder; gives QEMU's way to it.
///
/// The folder is taken through a mount of this process's own.
pub(in crate::vm) fn lend(
    program: &Path,
    stage: &Path,
    number: usize,
    share: &Share,
) -> io::Result<OwnedFd> {
    let point = show(stage, number, share)?;
    let (its, ours) = virtiofsd::socket(stage)?;
    let quiet = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    execute(&virtiofsd::words(program, &point), &quiet, &[its], None)?;
    Ok(ours)
}

/// Gives where QEMU finds a folder that it shares itself.
pub(in crate::vm) fn point(stage: &Path, number: usize) -> PathBuf {
    stage.join(share_tag(number))
}

/// Mounts a folder where nobody but this process and those that it starts sees it.
pub(in crate::vm) fn show(stage: &Path, number: usize, share: &Share) -> io::Result<PathBuf> {
    if number == 0 {
        mount::isolate_propagation(false)?;
    }
    let point = point(stage, number);
    std::fs::create_dir(&point)?;
    let target = match share.source.is_dir() {
        true => mount::open_dir(&point)?,
        // Nothing that lies beside the file is shared with it.
        false => File::create_new(point.join(FILE))?.into(),
    };
    virtiofsd::mount(&share.source, target.as_fd(), share.lent.read_only)?;
    Ok(point)
}

/// Copies of folders that a machine works on.
pub(in crate::vm) struct Copies {
    /// The disk with them. It has no name.
    pub(in crate::vm) disk: OwnedFd,
    /// The SHA-256 of it.
    pub(in crate::vm) sum: [u8; 32],
    /// What they were.
    copied: Vec<Copied>,
}

/// Copies folders.
pub(in crate::vm) fn copy(
    shares: &[Share],
    stage: &Path,
    form: Form,
    most: u64,
) -> Result<Copies, (String, io::Error)> {
    let failed = |e: io::Error| ("making room for copies of folders".to_owned(), e);
    let file = nameless(stage).map_err(failed)?;
    let mut lay = Lay::new(file.into(), form, Ids::of_this_process(), most).map_err(told)?;
    for share in shares {
        lay.add(&share.source, !share.lent.read_only)
            .map_err(told)?;
    }
    let (file, sum, copied) = lay.finish().map_err(told)?;
    // QEMU takes what it may not write to only where nobody could.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let disk = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    Ok(Copies {
        disk: disk.map_err(|e| failed(e.into()))?,
        sum,
        copied,
    })
}

/// Makes one file without a name, for all machines of a job, of a folder that is
/// their image. It lies on the disk of `place`.
///
/// # Errors
/// What cannot be read, or why it cannot be written.
pub fn copy_image(
    image: &Path,
    form: Form,
    place: &Path,
    most: u64,
) -> Result<OwnedFd, FolderError> {
    let file = nameless(place).map_err(|source| FolderError::Copy {
        path: image.to_owned(),
        source: LayerError::Make {
            path: place.to_owned(),
            source,
        },
    })?;
    lay_image(file.into(), form, image, Ids::of_this_process(), most).map(OwnedFd::from)
}

/// Says what was being done, and which error of the kernel's ended it.
fn told(error: FolderError) -> (String, io::Error) {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut number = None;
    while let Some(one) = cause {
        let found = one.downcast_ref().and_then(io::Error::raw_os_error);
        number = number.or(found);
        cause = one.source();
    }
    let number = number.unwrap_or(match error {
        FolderError::TooMany { .. } => Errno::FBIG.raw_os_error(),
        _ => Errno::BUSY.raw_os_error(),
    });
    let step = format!("copying folders into the machine ({error})");
    (step, io::Error::from_raw_os_error(number))
}

/// What hears a guest that sends what it has changed.
pub(in crate::vm) struct Changes<'a> {
    pub(in crate::vm) relay: &'a mut Relay,
    /// Never waits by itself.
    pub(in crate::vm) port: &'a OwnedFd,
    /// Is ready when QEMU has ended.
    pub(in crate::vm) end: &'a OwnedFd,
    pub(in crate::vm) said: &'a mut Said,
    pub(in crate::vm) patience: Duration,
}

/// Takes what the guest has changed; gives what came of it.
pub(in crate::vm) fn bring(
    copies: &mut Copies,
    changes: Changes<'_>,
    tag: String,
    most: u64,
) -> Taken {
    let rules = Rules {
        ids: Ids::of_this_process(),
        tag,
        entries: MOST_CHANGES,
        bytes: most,
    };
    let now = Instant::now();
    let hears = Hears {
        changes,
        began: now,
        last: now,
        received: 0,
        unheard: 0,
        gone: false,
    };
    let input = BufReader::with_capacity(256 << 10, hears);
    take(input, &mut copies.copied, &rules)
}

/// Reads from a guest, and keeps an eye on everything else.
struct Hears<'a> {
    changes: Changes<'a>,
    began: Instant,
    last: Instant,
    received: u64,
    /// Bytes since others were heard.
    unheard: u64,
    /// There is no machine any more.
    gone: bool,
}

impl Hears<'_> {
    /// Lets everything else have its turn, until something happens.
    fn turn(&mut self, limit: &Timespec) -> io::Result<()> {
        self.unheard = 0;
        let changes = &mut self.changes;
        let watched = [
            changes.end.as_fd(),
            changes.said.console.as_fd(),
            changes.port.as_fd(),
        ];
        match changes.relay.turn(&watched, Some(limit)) {
            Ok((_, ready)) => {
                self.gone |= ready[0];
                if ready[1] {
                    changes.said.hear();
                }
            }
            Err(_) => self.gone = true,
        }
        if changes.relay.is_stopping() || changes.relay.is_left() {
            return Err(io::Error::other("the job was stopped meanwhile"));
        }
        Ok(())
    }
}

impl Read for Hears<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.unheard > PIECE {
            self.turn(&Timespec::default())?;
        }
        loop {
            let gone = self.gone;
            match rustix::io::read(self.changes.port, &mut *out) {
                Ok(0) => return Err(io::Error::other("the machine has ended")),
                Ok(got) => {
                    self.received += got as u64;
                    self.unheard += got as u64;
                    self.last = Instant::now();
                    return Ok(got);
                }
                Err(Errno::AGAIN) if gone => {
                    return Err(io::Error::other("the machine has ended"));
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            self.turn(&TICK)?;
            let patience = self.changes.patience;
            let slow = patience + Duration::from_secs(self.received / SLOWEST);
            if self.last.elapsed() > patience || self.began.elapsed() > slow {
                return Err(io::Error::other("the machine is silent, or far too slow"));
            }
        }
    }
}
