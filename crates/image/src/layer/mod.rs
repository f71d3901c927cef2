//! Layers: tar archives, mostly compressed, that change a root file system.
//!
//! Holds reading them ([`stream`]), turning them into folders
//! ([`unpack`]) or one file ([`erofs`]), and making them ([`pack`]). Refuses to
//! make device nodes (a sandbox gets its own `/dev`), to climb out of the root,
//! and to take over extended attributes that mean something to overlayfs.

pub mod erofs;
pub(crate) mod holes;
#[cfg(test)]
#[path = "tests.rs"]
mod layer_tests;
pub mod pack;
pub mod stream;
pub(crate) mod tar;
#[cfg(test)]
pub(crate) mod testing;
pub mod unpack;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digest::Digest;

pub use stream::LayerStream;

/// What is wrong with a layer, or with the place it is unpacked to.
#[derive(Debug, Error)]
pub enum LayerError {
    /// The archive or its compression is damaged.
    #[error("the layer cannot be read")]
    Read(#[source] io::Error),
    /// The archive ends in the middle of an entry.
    #[error("the archive is cut off {}", place(after))]
    Truncated {
        /// The last entry begun.
        after: PathBuf,
    },
    /// A header makes no sense.
    #[error("the archive has a bad header {}: {what}", place(after))]
    Header {
        /// The last entry begun.
        after: PathBuf,
        /// Which part of it.
        what: &'static str,
    },
    /// An entry's name or target would lie outside the root.
    #[error("{0:?} would leave the root file system")]
    Outside(PathBuf),
    /// An entry's name is longer or deeper than a file system has them.
    #[error(
        "an entry's name has {bytes} bytes and {parts} parts: at most {MAX_PATH} and {MAX_DEPTH} are unpacked"
    )]
    TooDeep {
        /// Its length in bytes.
        bytes: usize,
        /// Its components.
        parts: usize,
    },
    /// An entry of a kind that is unknown.
    #[error("{path:?} has the unknown type {kind:?}")]
    Kind {
        /// The entry.
        path: PathBuf,
        /// Its type flag.
        kind: char,
    },
    /// The parent of an entry is no folder.
    #[error("{0:?} lies in something that is no folder")]
    NotAFolder(PathBuf),
    /// A hard link to nothing.
    #[error("{path:?} is a hard link to {target:?}, which is not there")]
    HardLink {
        /// The entry.
        path: PathBuf,
        /// What it should be the same file as.
        target: PathBuf,
    },
    /// An entry could not be made.
    #[error("cannot make {path:?}")]
    Make {
        /// The entry.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it, or it is no tar archive.
    #[error("the archive has no entries")]
    Empty,
    /// It holds images, and no root of a file system.
    #[error("it holds images, and no root of a file system")]
    OfImages,
    /// More entries than allowed.
    #[error("the layer has more than {0} entries")]
    Entries(u64),
    /// More data than allowed.
    #[error("the layer unpacks to more than {0} bytes")]
    Bytes(u64),
    /// More names and attributes than are kept in memory.
    #[error("the names and attributes in the image take more than {MAX_TREE} bytes of memory")]
    Names,
    /// The blob is not what its descriptor says.
    #[error("the layer {expected} has the digest {actual}")]
    WrongBlob {
        /// What was asked for.
        expected: Digest,
        /// What there was.
        actual: Digest,
    },
    /// The archive is not what the image's config says.
    #[error("the layer with the diff id {expected} has the diff id {actual}")]
    WrongDiffId {
        /// What the config says.
        expected: Digest,
        /// What there was.
        actual: Digest,
    },
}

/// Where in an archive something is wrong.
fn place(after: &Path) -> String {
    match after.as_os_str().is_empty() {
        true => "at its beginning".to_owned(),
        false => format!("after {after:?}"),
    }
}

/// The longest name of an entry: Linux's own limit, in bytes.
const MAX_PATH: usize = 4095;
/// The longest component of it: Linux's own limit too.
const MAX_NAME: usize = 255;
/// The most folders inside one another.
pub(crate) const MAX_DEPTH: usize = 512;
/// The most memory that names and attributes may take while a root is made, in bytes.
const MAX_TREE: u64 = 2 << 30;

/// How much a layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of one layer's archive.
    pub bytes: u64,
}

impl Default for Limits {
    /// Five million entries; bytes until the disk is full, which is reported well.
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            bytes: u64::MAX,
        }
    }
}

/// Splits an entry's name into its components; empty ones, `.` and a leading
/// `/` go. None of them is `..`.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    let mut out = Vec::with_capacity(8);
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(LayerError::Outside(to_path(path))),
            _ if part.contains(&0) => return Err(LayerError::Outside(to_path(path))),
            _ => out.push(part),
        }
    }
    let long = out.iter().any(|part| part.len() > MAX_NAME);
    if long || path.len() > MAX_PATH || out.len() > MAX_DEPTH {
        return Err(LayerError::TooDeep {
            bytes: path.len(),
            parts: out.len(),
        });
    }
    Ok(out)
}

/// Refuses a name that no file system has, before it is kept.
pub(crate) fn bounded(name: &[u8]) -> Result<(), LayerError> {
    match name.len() {
        0..=MAX_PATH => Ok(()),
        bytes => Err(LayerError::TooDeep { bytes, parts: 1 }),
    }
}

/// What a name in a layer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// The entry itself.
    Entry(Vec<&'a [u8]>),
    /// What lower layers have under this name goes.
    Whiteout(Vec<&'a [u8]>),
    /// What lower layers have in this folder goes.
    Opaque(Vec<&'a [u8]>),
    /// The bookkeeping of an old union file system.
    Ignored,
}

impl<'a> Name<'a> {
    pub(crate) fn read(path: &'a [u8]) -> Result<Self, LayerError> {
        let mut parts = components(path)?;
        let Some((&last, parents)) = parts.split_last() else {
            return Ok(Self::Entry(parts));
        };
        if parents.iter().any(|part| part.starts_with(b".wh.")) {
            return Ok(Self::Ignored);
        }
        let Some(hidden) = last.strip_prefix(b".wh.") else {
            return Ok(Self::Entry(parts));
        };
        parts.pop();
        if last == b".wh..wh..opq" {
            return Ok(Self::Opaque(parts));
        }
        if hidden.starts_with(b".wh.") {
            return Ok(Self::Ignored);
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(LayerError::Outside(to_path(path)));
        }
        parts.push(hidden);
        Ok(Self::Whiteout(parts))
    }
}

/// Says whether an extended attribute of an archive may be taken over.
///
/// What overlayfs reads as its own would let a layer redirect one file to
/// another; labels of security modules belong to the host that made them.
fn keeps_xattr(name: &[u8]) -> bool {
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    (user && name.len() > 5 && name.len() <= 255) || name == b"security.capability"
}

pub(crate) fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_climb_nowhere() {
        let parts = components(b"/./usr//bin/./sh/").expect("fine");
        assert_eq!(parts, [&b"usr"[..], b"bin", b"sh"]);
        assert!(components(b"./").expect("fine").is_empty());
        for bad in [&b".."[..], b"a/../b", b"../../etc/passwd", b"/..", b"a\0b"] {
            assert!(matches!(components(bad), Err(LayerError::Outside(_))));
        }
    }

    #[test]
    fn whiteouts_are_read_and_bad_ones_refused() {
        let read = |path| Name::read(path).expect("read");
        assert_eq!(read(b"a/.wh.b"), Name::Whiteout(vec![b"a", b"b"]));
        assert_eq!(read(b"a/.wh..wh..opq"), Name::Opaque(vec![b"a"]));
        assert_eq!(read(b".wh..wh..opq"), Name::Opaque(vec![]));
        assert_eq!(read(b".wh..wh.plnk"), Name::Ignored);
        assert_eq!(read(b".wh..wh.plnk/1.2"), Name::Ignored);
        assert_eq!(read(b"a/.whx"), Name::Entry(vec![b"a", b".whx"]));
        for bad in [&b"a/.wh."[..], b"a/.wh..", b"a/.wh...", b"../.wh.x"] {
            assert!(Name::read(bad).is_err());
        }
    }

    #[test]
    fn attributes_of_overlayfs_are_not_taken_over() {
        for kept in [&b"user.note"[..], b"security.capability"] {
            assert!(keeps_xattr(kept));
        }
        for dropped in [
            &b"user.overlay.redirect"[..],
            b"trusted.overlay.opaque",
            b"security.selinux",
            b"system.posix_acl_access",
            b"user.",
        ] {
            assert!(!keeps_xattr(dropped));
        }
    }
}
