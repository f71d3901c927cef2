//! A file on its way to its place: written and checked before it has a name there.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, linkat};
use rustix::io::Errno;

use crate::layer::LayerError;
use crate::layer::holes::Checksum;
use crate::layer::pack::SUM;
use crate::layer::tar::{Entry, Tar};

/// Why one thing could not be done, for people.
pub(super) enum Trouble {
    /// This one only.
    One(String),
    /// Nor can anything that follows.
    All(String),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        let text = io::Error::from(errno).to_string();
        match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::NFILE => Self::All(text),
            _ => Self::One(text),
        }
    }
}

impl From<LayerError> for Trouble {
    fn from(error: LayerError) -> Self {
        Self::All(told(&error))
    }
}

pub(super) fn told(error: &LayerError) -> String {
    if let LayerError::Read(cause) = error {
        // Why the guest is heard no more.
        return cause.to_string();
    }
    let error: &dyn std::error::Error = error;
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

pub(super) type Done = Result<(), Trouble>;

/// A file that is being written.
pub(super) enum Fresh {
    Nameless(File),
    Named(File, CString),
}

impl Fresh {
    pub(super) fn file(&self) -> &File {
        let (Self::Nameless(file) | Self::Named(file, _)) = self;
        file
    }
}

/// Gives a file without a name one.
pub(super) fn name_it(
    file: &File,
    parent: BorrowedFd<'_>,
    name: &CString,
) -> rustix::io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, path, parent, name, AtFlags::SYMLINK_FOLLOW)
}

/// Writes the pieces of a file; gives their checksum.
pub(super) fn write<R: BufRead>(
    file: &File,
    size: u64,
    pieces: &[(u64, u64)],
    tar: &mut Tar<R>,
) -> Result<String, Trouble> {
    rustix::fs::ftruncate(file, size)?;
    let mut sum = Checksum::new(size);
    for &(offset, len) in pieces {
        sum.piece(offset, len);
        let mut at = offset;
        copy(tar, len, |bytes| {
            sum.data(bytes);
            file.write_all_at(bytes, at)?;
            at += bytes.len() as u64;
            Ok(())
        })?;
    }
    Ok(sum.finish())
}

/// Takes the checksum that follows a file.
pub(super) fn checksum<R: BufRead>(tar: &mut Tar<R>) -> Result<Vec<u8>, Trouble> {
    let entry = tar
        .next()?
        .filter(|entry| entry.path == SUM && entry.size == 64);
    let Some(entry) = entry else {
        return Err(Trouble::All("a file came without its checksum".into()));
    };
    let mut sum = Vec::new();
    copy(tar, entry.size, |bytes| {
        sum.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(sum)
}

/// Takes so many bytes of the current entry.
pub(super) fn copy<R: BufRead>(
    tar: &mut Tar<R>,
    len: u64,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Done {
    let mut left = len;
    while left > 0 {
        let bytes = tar.data()?;
        if bytes.is_empty() {
            return Err(Trouble::All(
                "a file is shorter than it was said to be".into(),
            ));
        }
        let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        write(&bytes[..n]).map_err(|e| match Errno::from_io_error(&e) {
            Some(errno) => errno.into(),
            None => Trouble::All(e.to_string()),
        })?;
        tar.consume(n);
        left -= n as u64;
    }
    Ok(())
}

/// The mode that something gets: never a set-id bit.
pub(super) fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o1777)
}

pub(super) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: i64::from(nanoseconds.min(999_999_999)),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
