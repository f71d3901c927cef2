//! Folders of this host that a virtual machine works on in a copy of its own.
//!
//! On the way in ([`Lay`]) they become one file, EROFS or ext4; on the way out ([`take`])
//! what changed comes as an archive, and is put in place file by file. What comes
//! out is a guest's word and taken as hostile: nothing leaves the folder, no link
//! is followed, no device node or set-id bit is made, and what has changed on this
//! host meanwhile is left as it is and told.

mod fresh;
mod lay;
mod take;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Stat, Uid};
use thiserror::Error;

pub use lay::{Lay, Reach, Size, lay_image, measure};
pub use take::{Rules, Taken, take};

use crate::layer::LayerError;

/// The name of a file of the host in the folder in which it is shown.
pub const FILE: &str = "file";

/// Why a folder cannot be copied.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Something in it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is written to all the time.
    #[error("{} changes while it is copied", .0.display())]
    Changes(PathBuf),
    /// It holds too much.
    #[error("{} holds more than {most} files", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// How many there may be.
        most: u64,
    },
    /// Its copy cannot be made.
    #[error("cannot copy {}", path.display())]
    Copy {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: LayerError,
    },
}

/// Who owns the files of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// The same as outside: for root.
    Kept,
    /// Root inside is this user and group outside, and all others are nobody.
    Mapped {
        /// The user outside.
        uid: u32,
        /// The group outside.
        gid: u32,
    },
}

/// Whoever is not known inside.
const NOBODY: u32 = 65_534;

impl Ids {
    /// Gives what holds for this process: root keeps owners, a user is root inside.
    pub fn of_this_process() -> Self {
        match rustix::process::geteuid().as_raw() {
            0 => Self::Kept,
            uid => Self::Mapped {
                uid,
                gid: rustix::process::getegid().as_raw(),
            },
        }
    }

    /// Gives the ids inside of what has these outside.
    fn inside(self, uid: u32, gid: u32) -> (u32, u32) {
        let known = |id, own| if id == own { 0 } else { NOBODY };
        match self {
            Self::Kept => (uid, gid),
            Self::Mapped {
                uid: own_uid,
                gid: own_gid,
            } => (known(uid, own_uid), known(gid, own_gid)),
        }
    }

    /// Gives the owner outside of what has these ids inside, where one can be chosen.
    fn outside(self, uid: u32, gid: u32) -> Option<(Uid, Gid)> {
        match self {
            Self::Kept => Some((Uid::from_raw(uid), Gid::from_raw(gid))),
            Self::Mapped { .. } => None,
        }
    }
}

/// A folder as it was copied.
#[derive(Debug)]
pub struct Copied {
    /// Its path on this host, for people.
    source: PathBuf,
    /// The folder; of a single file the one that it lies in.
    root: OwnedFd,
    /// The name of a single file in that.
    single: Option<Vec<u8>>,
    /// What was in it. Empty for one that is not written to.
    stamps: BTreeMap<Vec<u8>, Stamp>,
    writable: bool,
}

impl Copied {
    /// Gives the path on this host of something in it, for people.
    fn shown(&self, inside: &[u8]) -> String {
        let path = match &self.single {
            Some(_) => self.source.clone(),
            None => self.source.join(crate::layer::to_path(inside)),
        };
        shown(&path)
    }
}

/// Gives a path without what a terminal would obey: a guest chose it.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.chars()
        .flat_map(|c| match c {
            '"' | '\'' | '\\' => vec![c],
            c => c.escape_debug().collect(),
        })
        .collect()
}

/// What tells whether something is still what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    kind: FileType,
    device: u64,
    inode: u64,
    size: u64,
    changed: [(i64, i64); 2],
    mode: u32,
    owner: (u32, u32),
    /// It is the guest's own.
    taken: bool,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size.cast_unsigned(),
            changed: [
                (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
                (stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
            ],
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            taken: false,
        }
    }

    fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Tells whether it is the same as then. A folder is, whatever happened in it.
    fn is(&self, now: &Self) -> bool {
        let same = (self.kind, self.device, self.inode) == (now.kind, now.device, now.inode);
        same && (self.is_folder() || (self.size, self.changed) == (now.size, now.changed))
    }
}
