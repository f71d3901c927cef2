//! From an image to a root file system, and the lease that keeps it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hyperion_model::sandbox::RootSource;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use thiserror::Error;

use super::{ImageRecord, LayerRecord, Store, StoreError, flock, open_lock};
use crate::digest::Digest;
use crate::layer::erofs::{Builder, Form};
use crate::layer::stream::LayerDigests;
use crate::layer::unpack::{self, Owners};
use crate::layer::{LayerError, LayerStream, Limits};
use hyperion_sys::failpoint;

/// Why an image did not become a root file system.
#[derive(Debug, Error)]
pub enum RootfsError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer could not be used.
    #[error("cannot unpack the layer {blob}")]
    Layer {
        /// Its blob.
        blob: Digest,
        /// Why not.
        #[source]
        source: LayerError,
    },
    /// The store lies on a file system that thousands of small files would bring down.
    #[error("layers are not unpacked onto {filesystem}, where {} lies", dir.display())]
    ParallelFilesystem {
        /// Where the store lies.
        dir: PathBuf,
        /// What file system that is.
        filesystem: &'static str,
    },
}

/// In which form a root file system is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootForm {
    /// A folder for each layer, for overlayfs: works in a user namespace.
    Folders,
    /// One EROFS file: root mounts it without a loop device, Linux 6.12 and later.
    OneFile,
    /// One ext4 file, for machines whose kernel has no EROFS.
    Ext4,
    /// One ext4 file that the disks of machines lie on.
    Disk,
}

/// How root file systems are made on this host.
#[derive(Debug, Clone, Copy)]
pub struct RootPolicy {
    /// The form.
    pub form: RootForm,
    /// Who owns the files of unpacked layers.
    pub owners: Owners,
    /// What is too much.
    pub limits: Limits,
    /// Names the file system of a folder when it is one that layers are not
    /// unpacked onto; [`parallel_filesystem`] outside tests.
    pub refuses: fn(&Path) -> io::Result<Option<&'static str>>,
}

impl RootPolicy {
    /// Chooses the form: one file where root can mount it, folders else.
    pub fn new(can_mount_files: bool, owners: Owners) -> Self {
        Self {
            form: if can_mount_files {
                RootForm::OneFile
            } else {
                RootForm::Folders
            },
            owners,
            limits: Limits::default(),
            refuses: parallel_filesystem,
        }
    }
}

/// A root file system in the store.
#[derive(Debug)]
pub struct Root {
    /// Where its files are.
    pub source: RootSource,
    /// Keeps them there.
    pub lease: Lease,
}

/// Keeps an image's root file system in the store while it is open.
///
/// It is a shared flock: a child that inherits the descriptor holds it too, and
/// the kernel gives it back when the last one is gone, however it went.
#[derive(Debug)]
pub struct Lease(OwnedFd);

impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Lease> for OwnedFd {
    fn from(lease: Lease) -> Self {
        lease.0
    }
}

impl Store {
    /// Gives an image's root file system, made now when it is not there yet.
    ///
    /// When it is there this costs an open, a flock and a stat for each layer.
    /// Of several processes that want the same one, one makes it and the others wait.
    ///
    /// A user with ranges of subordinate ids calls [`Store::prepare`] inside a
    /// user namespace first, so that files get their owners.
    ///
    /// # Errors
    /// What is wrong with the image or the place; nothing half-made is ever
    /// taken for whole, and the next call makes it anew.
    pub fn rootfs(&self, image: &ImageRecord, policy: &RootPolicy) -> Result<Root, RootfsError> {
        let lease = self.lease(image)?;
        if !self.is_prepared(image, policy) {
            self.prepare(image, policy)?;
        }
        let source = match policy.form {
            RootForm::Folders => RootSource::Layers {
                layers: folders(self, image, policy).collect(),
            },
            RootForm::OneFile => RootSource::Erofs {
                file: self.erofs_path(&image.digest),
            },
            RootForm::Ext4 => RootSource::Erofs {
                file: self.ext4_path(&image.digest),
            },
            RootForm::Disk => RootSource::Erofs {
                file: self.disk_path(&image.digest),
            },
        };
        Ok(Root { source, lease })
    }

    /// Says whether an image's root file system is there already.
    pub fn is_prepared(&self, image: &ImageRecord, policy: &RootPolicy) -> bool {
        match policy.form {
            RootForm::Folders => folders(self, image, policy).all(|path| path.exists()),
            RootForm::OneFile => self.erofs_path(&image.digest).exists(),
            RootForm::Ext4 => self.ext4_path(&image.digest).exists(),
            RootForm::Disk => self.disk_path(&image.digest).exists(),
        }
    }

    /// Makes an image's root file system when it is not there.
    ///
    /// # Errors
    /// As [`Store::rootfs`].
    pub fn prepare(&self, image: &ImageRecord, policy: &RootPolicy) -> Result<(), RootfsError> {
        let _adding = self.adding()?;
        match policy.form {
            RootForm::Folders => {
                let refused =
                    (policy.refuses)(&self.dir).map_err(StoreError::std("look at", &self.dir))?;
                if let Some(filesystem) = refused {
                    return Err(RootfsError::ParallelFilesystem {
                        dir: self.dir.clone(),
                        filesystem,
                    });
                }
                for layer in &image.layers {
                    let target = self.folder_path(layer, policy.owners);
                    self.once(&target, |folder| self.unpack(layer, folder, policy))?;
                }
                Ok(())
            }
            RootForm::OneFile => {
                let target = self.erofs_path(&image.digest);
                let build = |file: &Path| self.build_file(image, Form::Erofs, file, policy);
                self.once(&target, build)
            }
            RootForm::Ext4 => {
                let target = self.ext4_path(&image.digest);
                let build = |file: &Path| self.build_file(image, Form::Ext4, file, policy);
                self.once(&target, build)
            }
            RootForm::Disk => {
                let target = self.disk_path(&image.digest);
                let build = |file: &Path| self.build_file(image, Form::Disk, file, policy);
                self.once(&target, build)
            }
        }
    }

    /// Takes the lease on an image.
    fn lease(&self, image: &ImageRecord) -> Result<Lease, StoreError> {
        let path = self.record_path(&image.digest);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || rustix::fs::open(&path, flags, Mode::empty());
        let fd = match open() {
            Err(rustix::io::Errno::NOENT) => {
                self.record(&image.digest)?;
                open()
            }
            other => other,
        };
        let fd = fd.map_err(StoreError::io("open", &path))?;
        flock(&fd, FlockOperation::LockShared, &path)?;
        let stat = rustix::fs::fstat(&fd).map_err(StoreError::io("read", &path))?;
        if stat.st_nlink == 0 {
            // It was removed while this one waited for the lock.
            return Err(StoreError::NoImage(image.digest.to_string()));
        }
        Ok(Lease(fd))
    }

    /// Makes something in the store once, however many want it: under a lock,
    /// beside its final place, and renamed when it is whole.
    fn once(
        &self,
        target: &Path,
        make: impl FnOnce(&Path) -> Result<(), RootfsError>,
    ) -> Result<(), RootfsError> {
        if target.exists() {
            return Ok(());
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let lock_path = self.dir.join("tmp").join(format!("{name}.lock"));
        let lock = open_lock(&lock_path)?;
        flock(&lock, FlockOperation::LockExclusive, &lock_path)?;
        if target.exists() {
            return Ok(());
        }
        // In the same folder: a folder without write permission cannot be
        // moved to another one, but it can be renamed.
        let temporary = target.with_file_name(format!(".{name}"));
        remove_all(&temporary)?;
        failpoint!("rootfs-begin");
        let made = make(&temporary).and_then(|()| {
            // Whole means whole after a power failure too.
            sync(&temporary).map_err(StoreError::io("write", &temporary))?;
            failpoint!("rootfs-made");
            let renamed = std::fs::rename(&temporary, target);
            renamed.map_err(|e| StoreError::std("write", target)(e).into())
        });
        failpoint!("rootfs-renamed");
        if made.is_err() {
            let _ = remove_all(&temporary);
        }
        made
    }

    fn unpack(
        &self,
        layer: &LayerRecord,
        folder: &Path,
        policy: &RootPolicy,
    ) -> Result<(), RootfsError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(folder)
            .map_err(StoreError::std("create", folder))?;
        let blob = self.open_blob(&layer.blob.digest)?;
        LayerStream::new(blob, &policy.limits)
            .and_then(|stream| unpack::unpack(stream, folder, policy.owners, &policy.limits))
            .and_then(|digests| check(layer, &digests))
            .map_err(failed(layer))
    }

    fn build_file(
        &self,
        image: &ImageRecord,
        form: Form,
        file: &Path,
        policy: &RootPolicy,
    ) -> Result<(), RootfsError> {
        let output = File::create_new(file).map_err(StoreError::std("create", file))?;
        let written = |source| StoreError::Io {
            what: "write",
            path: file.to_owned(),
            source: match source {
                LayerError::Make { source, .. } => source,
                other => io::Error::other(other),
            },
        };
        let mut builder = Builder::new(output, form, &policy.limits).map_err(written)?;
        for layer in &image.layers {
            let blob = self.open_blob(&layer.blob.digest)?;
            LayerStream::new(blob, &policy.limits)
                .and_then(|stream| builder.add(stream))
                .and_then(|digests| check(layer, &digests))
                .map_err(failed(layer))?;
        }
        builder
            .finish(image.digest.first_16())
            .map_err(written)
            .map(drop)
            .map_err(RootfsError::from)
    }

    pub(super) fn erofs_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("erofs").join(digest.hex())
    }

    pub(super) fn ext4_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("erofs").join(digest.hex() + AS_EXT4)
    }

    pub(super) fn disk_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("erofs").join(digest.hex() + AS_DISK)
    }

    pub(super) fn folder_path(&self, layer: &LayerRecord, owners: Owners) -> PathBuf {
        let mut name = layer.diff_id.hex();
        if owners == Owners::Caller {
            // A user who gets ranges of ids later wants real owners then.
            name.push_str(OWNED_BY_CALLER);
        }
        self.dir.join("layers").join(name)
    }
}

/// Ends the names of files that hold ext4.
pub(super) const AS_EXT4: &str = ".ext4";
/// Ends the names of files that disks of machines lie on.
pub(super) const AS_DISK: &str = ".disk";

/// Ends the names of layers whose files all belong to the caller.
pub(super) const OWNED_BY_CALLER: &str = "-mine";

fn folders<'a>(
    store: &'a Store,
    image: &'a ImageRecord,
    policy: &RootPolicy,
) -> impl Iterator<Item = PathBuf> + 'a {
    let owners = policy.owners;
    let path = move |layer| store.folder_path(layer, owners);
    image.layers.iter().map(path)
}

/// Waits until a file, or the file system of a folder of many, is on the disk.
fn sync(path: &Path) -> rustix::io::Result<()> {
    let is_folder = path.is_dir();
    // The folder itself may forbid to be opened; the one around it is ours.
    let open = if is_folder { path.parent() } else { None };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(open.unwrap_or(path), flags, Mode::empty())?;
    if is_folder {
        rustix::fs::syncfs(&fd)
    } else {
        rustix::fs::fdatasync(&fd)
    }
}

fn check(layer: &LayerRecord, digests: &LayerDigests) -> Result<(), LayerError> {
    if digests.blob != layer.blob.digest {
        return Err(LayerError::WrongBlob {
            expected: layer.blob.digest,
            actual: digests.blob,
        });
    }
    if digests.diff_id != layer.diff_id {
        return Err(LayerError::WrongDiffId {
            expected: layer.diff_id,
            actual: digests.diff_id,
        });
    }
    Ok(())
}

fn failed(layer: &LayerRecord) -> impl FnOnce(LayerError) -> RootfsError + use<> {
    let blob = layer.blob.digest;
    move |source| RootfsError::Layer { blob, source }
}

/// Removes a file or a whole folder, if it is there; gives how many bytes that frees.
pub(super) fn remove_all(path: &Path) -> Result<u64, StoreError> {
    use std::os::unix::ffi::OsStrExt;
    match unpack::remove(CWD, path.as_os_str().as_bytes()) {
        Ok(freed) => Ok(freed),
        Err(rustix::io::Errno::NOENT) => Ok(0),
        Err(errno) => Err(StoreError::io("remove", path)(errno)),
    }
}

/// The most bytes of a layer for which a folder is made as soon as a file.
const SMALL: u64 = 8 << 20;

/// Tells whether an image of a store in `dir` starts sooner from a folder, which is a
/// file system less to mount and shares its pages with the host's: it is small, of one
/// layer, and lies on a disk of this host whose files can be mapped to other owners.
pub fn is_better_unpacked(image: &ImageRecord, dir: &Path) -> bool {
    // The numbers are those of statfs(2): ext4, XFS and Btrfs.
    const DISKS: [u64; 3] = [0xef53, 0x5846_5342, 0x9123_683e];
    let is_small = image.layers.len() == 1 && image.size <= SMALL;
    is_small
        && rustix::fs::statfs(dir)
            .is_ok_and(|found| DISKS.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

/// Says whether an EROFS file below `path` can be mounted without a loop device.
///
/// The kernel reads such a file through the page cache of its file system;
/// these two have none of their own to offer.
pub fn has_mountable_files(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794c_7630;
    let kind = rustix::fs::statfs(path).map(|found| found.f_type as u64);
    !matches!(kind, Ok(TMPFS | OVERLAY))
}

/// Names the file system that `path` lies on when it is shared by a cluster:
/// there one file is fine and ten thousand small ones are not.
///
/// # Errors
/// Why it cannot be looked at.
pub fn parallel_filesystem(path: &Path) -> io::Result<Option<&'static str>> {
    // The numbers are those of statfs(2) and of the file systems' own sources.
    const SHARED: [(u64, &str); 10] = [
        (0x6969, "NFS"),
        (0x0bd0_0bd0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x1983_0326, "BeeGFS"),
        (0x00c3_6400, "CephFS"),
        (0x2003_0528, "PVFS2"),
        (0xaad7_aaea, "PanFS"),
        (0x5346_414f, "AFS"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
    ];
    let kind = rustix::fs::statfs(path)?.f_type as u64 & 0xffff_ffff;
    Ok(SHARED.iter().find(|(magic, _)| *magic == kind).map(|s| s.1))
}
