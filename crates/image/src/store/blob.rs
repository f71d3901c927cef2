//! Content by digest: present and verified, or on its way under a lock.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::{MAX_DOCUMENT, Store, StoreError, flock, open_lock, unique_name};
use crate::digest::{Digest, Hasher};
use hyperion_sys::failpoint;

/// What the wait for a blob ends in.
#[derive(Debug)]
pub enum BlobLock {
    /// The blob is complete; another process may have brought it meanwhile.
    Present,
    /// It is this process's turn to bring it.
    Partial(Box<PartialBlob>),
}

/// A blob on its way into the store, locked against other processes.
///
/// What was written stays when this is dropped, and the next one resumes there.
#[derive(Debug)]
pub struct PartialBlob {
    file: File,
    path: PathBuf,
    target: PathBuf,
    digest: Digest,
    size: Option<u64>,
    hasher: Hasher,
}

impl Store {
    /// Gives the place of a blob, whether or not it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// Says whether a blob is there, complete.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Gives the size of a blob in bytes.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], or [`StoreError::Io`].
    pub fn blob_size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::MissingBlob(*digest)),
            Err(e) => Err(StoreError::std("read", &path)(e)),
        }
    }

    /// Gives how many of a blob's `size` bytes are still to come.
    pub fn missing_bytes(&self, digest: &Digest, size: u64) -> u64 {
        if self.has_blob(digest) {
            return 0;
        }
        let partial = self.dir.join("partial").join(digest.hex());
        size.saturating_sub(std::fs::metadata(partial).map_or(0, |m| m.len()))
    }

    /// Opens a blob for reading; its digest is not checked again.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], or [`StoreError::Io`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::MissingBlob(*digest)),
            Err(e) => Err(StoreError::std("open", &path)(e)),
        }
    }

    /// Reads a document (a manifest or a config) of at most [`MAX_DOCUMENT`]
    /// bytes and checks its digest.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::TooLarge`],
    /// [`StoreError::WrongDigest`] when the disk has changed it, or [`StoreError::Io`].
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let size = self.blob_size(digest)?;
        if size > MAX_DOCUMENT {
            return Err(StoreError::TooLarge {
                digest: *digest,
                size,
                limit: MAX_DOCUMENT,
            });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        self.open_blob(digest)?
            .read_to_end(&mut bytes)
            .map_err(StoreError::std("read", &self.blob_path(digest)))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(StoreError::WrongDigest {
                expected: *digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// Puts a small blob into the store and gives its digest.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the store is as before.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest) {
            self.write_atomically(&self.blob_path(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Starts a blob whose digest is known only when it has been written.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn new_blob(&self) -> Result<NewBlob, StoreError> {
        let path = self.dir.join("tmp").join(unique_name());
        let file = File::create_new(&path).map_err(StoreError::std("create", &path))?;
        Ok(NewBlob {
            blobs: self.dir.join("blobs/sha256"),
            file,
            path: Some(path),
            hasher: Hasher::new(),
        })
    }

    /// Waits until no other process brings this blob, and then says whether it
    /// is there or gives the right to bring it.
    ///
    /// `size` is what its descriptor says, when there is one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn lock_blob(&self, digest: &Digest, size: Option<u64>) -> Result<BlobLock, StoreError> {
        let path = self.dir.join("partial").join(digest.hex());
        let target = self.blob_path(digest);
        loop {
            if target.exists() {
                return Ok(BlobLock::Present);
            }
            let fd = open_lock(&path)?;
            flock(&fd, FlockOperation::LockExclusive, &path)?;
            // While this one waited the file may have become the blob, or a
            // failed one was removed: then the lock is on something else.
            if !names(&path, &fd)? {
                continue;
            }
            if target.exists() {
                let _ = std::fs::remove_file(&path);
                return Ok(BlobLock::Present);
            }
            let mut partial = Box::new(PartialBlob {
                file: File::from(fd),
                path,
                target,
                digest: *digest,
                size,
                hasher: Hasher::new(),
            });
            partial.take_up()?;
            return Ok(BlobLock::Partial(partial));
        }
    }
}

/// Says whether `path` still names the open file.
fn names(path: &Path, fd: &OwnedFd) -> Result<bool, StoreError> {
    let open = rustix::fs::fstat(fd).map_err(StoreError::io("read", path))?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.st_dev, open.st_ino)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(StoreError::std("read", path)(e)),
    }
}

impl PartialBlob {
    /// Gives how many bytes are there already: where to resume.
    pub fn offset(&self) -> u64 {
        self.hasher.len()
    }

    /// Forgets what is there, for a sender that cannot resume.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let fail = StoreError::std("truncate", &self.path);
        self.hasher = Hasher::new();
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(fail)
    }

    /// Hashes what an earlier attempt has left.
    fn take_up(&mut self) -> Result<(), StoreError> {
        let len = self.file.metadata().map_or(0, |m| m.len());
        if self.size.is_some_and(|size| len > size) {
            return self.restart();
        }
        let fail = StoreError::std("read", &self.path);
        let mut buffer = vec![0; 1 << 18];
        let mut take_up = || {
            loop {
                match self.file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => self.hasher.update(&buffer[..n]),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            self.file.seek(SeekFrom::Start(self.hasher.len())).map(drop)
        };
        take_up().map_err(fail)
    }

    /// Checks size and digest, and makes this the blob.
    ///
    /// # Errors
    /// [`StoreError::WrongSize`] (a short one stays and can be resumed) or
    /// [`StoreError::WrongDigest`] (what was written is removed: no more bytes
    /// can make it right), or [`StoreError::Io`].
    pub fn commit(self) -> Result<(), StoreError> {
        let actual = self.hasher.len();
        if let Some(expected) = self.size.filter(|&size| size != actual) {
            return Err(StoreError::WrongSize {
                digest: self.digest,
                expected,
                actual,
            });
        }
        let actual = self.hasher.finish();
        if actual != self.digest {
            let _ = std::fs::remove_file(&self.path);
            return Err(StoreError::WrongDigest {
                expected: self.digest,
                actual,
            });
        }
        self.file
            .sync_data()
            .map_err(StoreError::std("write", &self.path))?;
        failpoint!("partial-written");
        std::fs::rename(&self.path, &self.target)
            .map_err(StoreError::std("write", &self.target))?;
        failpoint!("partial-renamed");
        Ok(())
    }
}

impl Write for PartialBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(size) = self.size
            && bytes.len() as u64 > size - self.hasher.len()
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("more than the {size} bytes that were announced"),
            ));
        }
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob being made here; it vanishes when it is dropped before its commit.
#[derive(Debug)]
pub struct NewBlob {
    blobs: PathBuf,
    file: File,
    path: Option<PathBuf>,
    hasher: Hasher,
}

impl NewBlob {
    /// Makes this a blob of the store and gives its digest and size in bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`]; nothing is left behind.
    pub fn commit(mut self) -> Result<(Digest, u64), StoreError> {
        let hasher = std::mem::take(&mut self.hasher);
        let (size, digest) = (hasher.len(), hasher.finish());
        let target = self.blobs.join(digest.hex());
        let fail = StoreError::std("write", &target);
        if target.exists() {
            return Ok((digest, size));
        }
        let Some(path) = self.path.as_deref() else {
            return Ok((digest, size));
        };
        failpoint!("blob-written");
        self.file
            .sync_data()
            .and_then(|()| std::fs::rename(path, &target))
            .map_err(fail)?;
        failpoint!("blob-renamed");
        self.path = None;
        Ok((digest, size))
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(dir.path()).expect("made");
        (dir, store)
    }

    fn partial(store: &Store, digest: &Digest, size: Option<u64>) -> Box<PartialBlob> {
        match store.lock_blob(digest, size).expect("locked") {
            BlobLock::Partial(partial) => partial,
            BlobLock::Present => panic!("{digest} is there already"),
        }
    }

    #[test]
    fn a_blob_that_was_cut_off_is_resumed() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello world");
        let mut first = partial(&store, &digest, Some(11));
        assert_eq!(first.offset(), 0);
        first.write_all(b"hello").expect("written");
        drop(first);
        let mut second = partial(&store, &digest, Some(11));
        assert_eq!(second.offset(), 5);
        second.write_all(b" world").expect("written");
        second.commit().expect("committed");
        assert_eq!(store.read_blob(&digest).expect("read"), b"hello world");
        assert!(matches!(
            store.lock_blob(&digest, None),
            Ok(BlobLock::Present)
        ));
        assert_eq!(
            std::fs::read_dir(store.dir().join("partial"))
                .expect("read")
                .count(),
            0
        );
    }

    #[test]
    fn content_with_another_digest_never_becomes_a_blob() {
        let (_dir, store) = store();
        let digest = Digest::of(b"right");
        let mut blob = partial(&store, &digest, Some(5));
        blob.write_all(b"wrong").expect("written");
        assert!(matches!(blob.commit(), Err(StoreError::WrongDigest { .. })));
        assert!(!store.has_blob(&digest));
        assert_eq!(partial(&store, &digest, Some(5)).offset(), 0);
    }

    #[test]
    fn a_blob_of_another_size_than_announced_is_refused() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello");
        let mut blob = partial(&store, &digest, Some(3));
        assert!(blob.write_all(b"hello").is_err());
        drop(blob);
        let mut blob = partial(&store, &digest, Some(9));
        blob.restart().expect("restarted");
        blob.write_all(b"hello").expect("written");
        assert!(matches!(
            blob.commit(),
            Err(StoreError::WrongSize {
                expected: 9,
                actual: 5,
                ..
            })
        ));
        assert!(!store.has_blob(&digest));
    }

    #[test]
    fn an_overlong_left_over_is_started_again() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello");
        let path = store.dir().join("partial").join(digest.hex());
        std::fs::write(path, b"hello and more").expect("written");
        assert_eq!(partial(&store, &digest, Some(5)).offset(), 0);
    }

    #[test]
    fn a_blob_that_the_disk_changed_is_not_given_out() {
        let (_dir, store) = store();
        let digest = store.put_blob(b"hello").expect("written");
        std::fs::write(store.blob_path(&digest), b"jello").expect("written");
        assert!(matches!(
            store.read_blob(&digest),
            Err(StoreError::WrongDigest { .. })
        ));
    }

    #[test]
    fn many_threads_bring_a_blob_once() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let (_dir, store) = store();
        let content = vec![7u8; 1 << 20];
        let digest = Digest::of(&content);
        let brought = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| match store.lock_blob(&digest, None).expect("locked") {
                    BlobLock::Present => {}
                    BlobLock::Partial(mut blob) => {
                        brought.fetch_add(1, Ordering::Relaxed);
                        blob.write_all(&content).expect("written");
                        blob.commit().expect("committed");
                    }
                });
            }
        });
        assert_eq!(brought.into_inner(), 1);
        assert!(store.has_blob(&digest));
    }

    #[test]
    fn a_new_blob_that_is_dropped_leaves_nothing() {
        let (_dir, store) = store();
        let mut blob = store.new_blob().expect("started");
        blob.write_all(b"hello").expect("written");
        drop(blob);
        assert_eq!(
            std::fs::read_dir(store.dir().join("tmp"))
                .expect("read")
                .count(),
            0
        );
        let mut blob = store.new_blob().expect("started");
        blob.write_all(b"hello").expect("written");
        let (digest, size) = blob.commit().expect("committed");
        assert_eq!((digest, size), (Digest::of(b"hello"), 5));
        assert_eq!(store.read_blob(&digest).expect("read"), b"hello");
    }
}
