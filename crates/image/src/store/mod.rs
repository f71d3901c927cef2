//! The image store: a folder that any number of processes use at once.
//!
//! ```text
//! blobs/sha256/HEX      content: manifests, configs, layers (complete and verified)
//! partial/HEX           a blob on its way; whoever holds its flock writes it
//! refs/NAME             one small file for each name: which manifest it means
//! records/HEX           what a job needs to know of an image, read from its manifest and
//!                       config once; a shared flock on it is a lease on the image
//! layers/HEX            an unpacked layer, named by its diff id; .HEX is half-unpacked
//! erofs/HEX[.ext4]      an image in one file, named by its manifest
//! tmp/                  locks, and small files on their way
//! lock                  shared: something is being added; exclusive: something is removed
//! ```
//!
//! Every file arrives by rename and is complete from then on, so a kill at
//! any moment leaves only things that the next one to come resumes or removes.
//!
//! **Architecture invariant:** opening, resolving and leasing never scan:
//! they are on the start path of every job.

mod assemble;
mod blob;
mod image;
mod prune;
mod refs;
mod rootfs;
#[cfg(test)]
#[path = "tests.rs"]
mod store_tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use thiserror::Error;

pub use assemble::NewImage;
pub use blob::{BlobLock, NewBlob, PartialBlob};
pub(crate) use image::Manifest;
pub use image::{Descriptor, HistoryEntry, ImageRecord, LayerRecord, RuntimeConfig};
pub use prune::Pruned;
pub use refs::Reference;
pub(crate) use refs::check_name;
pub use rootfs::{
    Lease, Root, RootForm, RootPolicy, RootfsError, has_mountable_files, is_better_unpacked,
    parallel_filesystem,
};

use crate::digest::Digest;
use hyperion_sys::failpoint;

/// The largest manifest or config that is read into memory, in bytes.
pub const MAX_DOCUMENT: u64 = 16 << 20;

/// What went wrong in the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file of the store could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The content is not what its digest says.
    #[error("the content of {expected} has the digest {actual}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What there was.
        actual: Digest,
    },
    /// The content has another size than its descriptor says.
    #[error("{digest} has {actual} bytes where its descriptor says {expected}")]
    WrongSize {
        /// Which blob.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// A document is larger than any honest one.
    #[error("{digest} has {size} bytes, and a document of more than {limit} is not read")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// No such blob.
    #[error("{0} is not in the store")]
    MissingBlob(Digest),
    /// A name that no image can have.
    #[error("{name:?} is not an image name")]
    BadName {
        /// What was written.
        name: String,
        /// What is wrong with it.
        #[source]
        source: crate::reference::ReferenceError,
    },
    /// A name whose digest is not that of the image that is to get it.
    #[error("{0:?} says by its digest that it means another image")]
    Pinned(String),
    /// No such image.
    #[error("there is no image {0:?}")]
    NoImage(String),
    /// An id's beginning fits more than one image.
    #[error("{prefix:?} is the beginning of {count} images")]
    Ambiguous {
        /// What was written.
        prefix: String,
        /// How many images it could be.
        count: usize,
    },
    /// A manifest or config cannot be understood.
    #[error("{digest} is not a valid {what}")]
    BadDocument {
        /// Which blob.
        digest: Digest,
        /// What it should be.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest is not of a kind that can be run.
    #[error("{digest} has the media type {media_type:?}, which is no image manifest")]
    NotAnImage {
        /// Which blob.
        digest: Digest,
        /// What it says of itself.
        media_type: String,
    },
    /// An id stands for an image with several names.
    #[error("{digest} has {} names: {}", names.len(), names.join(", "))]
    ManyNames {
        /// The image.
        digest: Digest,
        /// Its names.
        names: Vec<String>,
    },
    /// A running job uses the image.
    #[error("{0} is in use by a running job")]
    InUse(Digest),
    /// Another process is adding to the store.
    #[error("another process is adding an image to the store")]
    Busy,
    /// Manifest and config disagree.
    #[error("{digest} lists {layers} layers and its config {diff_ids}")]
    LayerCount {
        /// The manifest.
        digest: Digest,
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the config.
        diff_ids: usize,
    },
}

impl StoreError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.to_owned();
        move |errno| Self::Io {
            what,
            path,
            source: errno.into(),
        }
    }

    fn std(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// An open image store.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// Says that something is being added to the store: nothing is removed from it
/// while this lives.
///
/// Hold one from before the first blob of an image until its name is written.
#[derive(Debug)]
pub struct Adding {
    _lock: OwnedFd,
}

impl Store {
    /// Opens the store in `dir`, and makes it when there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be made or read.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self {
            dir: dir.to_owned(),
        };
        // Made last below, so its presence means that the others are there.
        if !store.dir.join("lock").exists() {
            store.create()?;
        }
        Ok(store)
    }

    fn create(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        // Images hold set-user-id programs: nobody else may come near them.
        let make = |path: &Path| {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(StoreError::std("create", path))
        };
        make(&self.dir)?;
        for name in [
            "blobs/sha256",
            "partial",
            "refs",
            "records",
            "layers",
            "erofs",
            "tmp",
        ] {
            make(&self.dir.join(name))?;
        }
        open_lock(&self.dir.join("lock")).map(drop)
    }

    /// Gives the folder that the store lies in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Announces that something is being added, so that nothing is removed meanwhile.
    ///
    /// Waits while another process is removing things.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the lock cannot be taken.
    pub fn adding(&self) -> Result<Adding, StoreError> {
        let path = self.dir.join("lock");
        let lock = open_lock(&path)?;
        flock(&lock, FlockOperation::LockShared, &path)?;
        Ok(Adding { _lock: lock })
    }

    /// Writes a small file so that it is either not there or complete, even
    /// after the power fails.
    fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        use std::io::Write;
        let temporary = self.dir.join("tmp").join(unique_name());
        let result = (|| {
            let mut file = std::fs::File::create_new(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            failpoint!("file-written");
            std::fs::rename(&temporary, path)?;
            failpoint!("file-renamed");
            Ok(())
        })();
        result.map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            StoreError::std("write", path)(source)
        })
    }
}

/// A file name that no other process or thread uses.
fn unique_name() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // The random part keeps apart processes of different pid namespaces.
    let mut random = [0u8; 8];
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    format!(
        "{:016x}-{}",
        u64::from_ne_bytes(random),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Opens a lock file, and makes it when there is none.
///
/// It is opened for writing because NFS grants an exclusive flock to no one else.
fn open_lock(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(StoreError::io("open", path))
}

fn flock(fd: &OwnedFd, operation: FlockOperation, path: &Path) -> Result<(), StoreError> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(fd, operation))
        .map_err(StoreError::io("lock", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_opens_again_where_it_was_made() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a/b");
        let store = Store::open(&path).expect("made");
        let digest = store.put_blob(b"hello").expect("written");
        drop(store);
        let store = Store::open(&path).expect("opened");
        assert_eq!(store.read_blob(&digest).expect("read"), b"hello");
    }

    #[test]
    fn a_store_that_was_half_made_is_completed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(dir.path().join("blobs")).expect("folder");
        let store = Store::open(dir.path()).expect("completed");
        store.put_blob(b"hello").expect("written");
    }
}
