//! A layer as a folder for overlayfs.
//!
//! Every name is resolved by the kernel inside the folder
//! (`openat2` with `RESOLVE_IN_ROOT`), and the last component never follows a
//! link: whatever an archive writes into its names and links, nothing outside
//! is opened, made, changed or removed.
//!
//! Whiteouts become character devices 0:0, which anyone may make since Linux
//! 5.8; opaque folders get `user.overlay.opaque`, which overlayfs reads when it
//! is mounted with `userxattr`, as every unprivileged mount is, and
//! `trusted.overlay.opaque` too where that is allowed, for other mounts.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::stream::{LayerDigests, LayerStream};
use super::tar::{Entry, Kind, Tar};
use super::{LayerError, Limits, MAX_TREE, Name, keeps_xattr, to_path};

/// Who owns the files that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As the archive says: for root, and inside a user namespace with ranges of ids.
    Keep,
    /// The caller owns all: for a user without ranges.
    Caller,
}

/// Open folders that are kept; more are closed, all at once.
const OPEN_FOLDERS: usize = 128;

/// Unpacks a layer into `folder`, which must be there and empty, and gives its digests.
///
/// The digests are for the caller to compare: until then the folder must not be used.
///
/// # Errors
/// What is wrong with the layer, or why an entry could not be made. The folder
/// then holds a part.
pub fn unpack(
    layer: LayerStream,
    folder: &Path,
    owners: Owners,
    limits: &Limits,
) -> Result<LayerDigests, LayerError> {
    let root = rustix::fs::openat(CWD, folder, OPEN_FOLDER, Mode::empty())
        .map_err(|errno| make_error(folder.as_os_str().as_encoded_bytes(), errno))?;
    let mut unpacker = Unpacker {
        root: Rc::new(root),
        open: HashMap::new(),
        folders: BTreeMap::from([(Vec::new(), IMPLICIT)]),
        bytes: 0,
        owners,
    };
    let mut tar = Tar::new(layer);
    let mut entries = 0;
    while let Some(entry) = tar.next()? {
        entries += 1;
        if entries > limits.entries {
            return Err(LayerError::Entries(limits.entries));
        }
        unpacker.add(&entry, &mut tar)?;
        if unpacker.bytes > MAX_TREE {
            return Err(LayerError::Names);
        }
    }
    unpacker.finish_folders()?;
    tar.finish()?.finish()
}

const OPEN_FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// A folder that no entry describes, the same whenever it is unpacked.
const IMPLICIT: (u32, Timestamps) = {
    let start = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: start,
        last_modification: start,
    };
    (0o755, times)
};

struct Unpacker {
    root: Rc<OwnedFd>,
    /// Folders that were opened, by name.
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Mode and times of folders, set when nothing is made in them any more.
    folders: BTreeMap<Vec<u8>, (u32, Timestamps)>,
    /// The memory that their names take, in bytes.
    bytes: u64,
    owners: Owners,
}

impl Unpacker {
    fn add(&mut self, entry: &Entry, tar: &mut Tar<LayerStream>) -> Result<(), LayerError> {
        let parts = match Name::read(&entry.path)? {
            // Not even the folder that it would be in is made.
            Name::Entry(_) if entry.kind == Kind::Device => return Ok(()),
            Name::Entry(parts) => parts,
            Name::Ignored => return Ok(()),
            Name::Opaque(parts) => {
                let folder = self.folder(&parts, &entry.path)?;
                return mark_opaque(&folder).map_err(|errno| make_error(&entry.path, errno));
            }
            Name::Whiteout(parts) => {
                let Some((&name, parents)) = parts.split_last() else {
                    return Ok(());
                };
                let parent = match self.folder(parents, &entry.path) {
                    // Where there is no folder nothing is to be hidden.
                    Err(LayerError::NotAFolder(_)) => return Ok(()),
                    parent => parent?,
                };
                return whiteout(&parent, name).map_err(|errno| make_error(&entry.path, errno));
            }
        };
        let Some((&name, parents)) = parts.split_last() else {
            if entry.kind == Kind::Folder {
                let root = Rc::clone(&self.root);
                return self.settle_folder(&root, Vec::new(), entry);
            }
            return Err(LayerError::Outside(to_path(&entry.path)));
        };
        let parent = self.folder(parents, &entry.path)?;
        let made = match entry.kind {
            Kind::File => return self.file(&parent, name, entry, tar),
            Kind::Folder => return self.make_folder(&parent, name, parts.join(&b'/'), entry),
            Kind::HardLink => return self.hard_link(&parent, name, entry),
            Kind::Symlink => self.replacing(&parent, name, || {
                rustix::fs::symlinkat(entry.link.as_slice(), &*parent, name)
            }),
            Kind::Fifo => self.replacing(&parent, name, || {
                rustix::fs::mknodat(
                    &*parent,
                    name,
                    FileType::Fifo,
                    Mode::from_raw_mode(0o600),
                    0,
                )
            }),
            Kind::Device => Ok(()),
        };
        made.and_then(|()| self.settle_at(&parent, name, entry))
            .map_err(|errno| make_error(&entry.path, errno))
    }

    /// Opens a folder of the root, and makes it and its parents when they are not there.
    fn folder(&mut self, parts: &[&[u8]], path: &[u8]) -> Result<Rc<OwnedFd>, LayerError> {
        if parts.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let name = parts.join(&b'/');
        if let Some(fd) = self.open.get(&name) {
            return Ok(Rc::clone(fd));
        }
        let fd = match open_inside(&self.root, &name, OPEN_FOLDER) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let (last, parents) = (parts[parts.len() - 1], &parts[..parts.len() - 1]);
                let parent = self.folder(parents, path)?;
                self.implicit_folder(&parent, last, &name)
                    .and_then(|()| open_inside(&self.root, &name, OPEN_FOLDER))
            }
            other => other,
        };
        let fd = match fd {
            Ok(fd) => Rc::new(fd),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::EXIST) => {
                return Err(LayerError::NotAFolder(to_path(path)));
            }
            Err(errno) => return Err(make_error(path, errno)),
        };
        if self.open.len() >= OPEN_FOLDERS {
            self.open.clear();
        }
        self.open.insert(name, Rc::clone(&fd));
        Ok(fd)
    }

    /// Makes a folder that no entry describes.
    fn implicit_folder(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> rustix::io::Result<()> {
        let hides = is_whiteout(parent.as_fd(), name);
        if hides {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
        }
        rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
        self.keep(path.to_owned(), IMPLICIT);
        if hides {
            // It must go on hiding what the whiteout hid.
            let flags = OPEN_FOLDER | OFlags::NOFOLLOW;
            mark_opaque(&rustix::fs::openat(parent, name, flags, Mode::empty())?)?;
        }
        Ok(())
    }

    /// Makes something, and when its name is taken removes what is there first.
    fn replacing<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                // An open folder may have been reached through what goes now.
                self.open.clear();
                remove(parent.as_fd(), name)?;
                make()
            }
            other => other,
        }
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        tar: &mut Tar<LayerStream>,
    ) -> Result<(), LayerError> {
        let fail = |errno| make_error(&entry.path, errno);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let make = || rustix::fs::openat(parent, name, flags, mode);
        let fd = self.replacing(parent, name, make).map_err(fail)?;
        match &entry.pieces {
            None => {
                copy(tar, u64::MAX, |data, _| rustix::io::write(&fd, data)).map_err(
                    |e| match e {
                        Copy::Layer(e) => e,
                        Copy::Write(errno) => fail(errno),
                    },
                )?;
            }
            Some(pieces) => {
                for &(offset, len) in pieces {
                    copy(tar, len, |data, done| {
                        rustix::io::pwrite(&fd, data, offset + done)
                    })
                    .map_err(|e| match e {
                        Copy::Layer(e) => e,
                        Copy::Write(errno) => fail(errno),
                    })?;
                }
                rustix::fs::ftruncate(&fd, entry.size).map_err(fail)?;
            }
        }
        self.settle(&fd, entry).map_err(fail)
    }

    /// Sets owner, mode, attributes and times of an open file, in the order in
    /// which one does not undo the other.
    fn settle(&self, fd: &OwnedFd, entry: &Entry) -> rustix::io::Result<()> {
        if self.owners == Owners::Keep {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::fchown(fd, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
        self.set_xattrs(fd, entry)?;
        rustix::fs::futimens(fd, &times(entry))
    }

    fn set_xattrs(&self, fd: &OwnedFd, entry: &Entry) -> rustix::io::Result<()> {
        for (name, value) in &entry.xattrs {
            if !keeps_xattr(name) {
                continue;
            }
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                // What this file system or this user cannot have is done without.
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// As [`Self::settle`] for what cannot be opened: links and FIFOs.
    fn settle_at(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if self.owners == Owners::Keep {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), nofollow)?;
        }
        if entry.kind == Kind::Fifo {
            let mode = Mode::from_raw_mode(entry.mode);
            // Follows links, but what was made a moment ago is none.
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), nofollow)
    }

    fn make_folder(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let fail = |errno| make_error(&entry.path, errno);
        let make = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700));
        let flags = OPEN_FOLDER | OFlags::NOFOLLOW;
        let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
        let fd = match make() {
            Ok(()) => open(),
            Err(Errno::EXIST) => match open() {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    // A whiteout hides the lower folder of that name: so must what takes its place.
                    let hides = is_whiteout(parent.as_fd(), name);
                    self.replacing(parent, name, make)
                        .and_then(|()| open())
                        .and_then(|fd| {
                            if hides {
                                mark_opaque(&fd)?;
                            }
                            Ok(fd)
                        })
                }
                other => other,
            },
            Err(errno) => Err(errno),
        };
        let fd = fd.map_err(fail)?;
        self.settle_folder(&fd, path, entry)
    }

    /// Sets what can be set now; the rest when nothing is made in the folder any more.
    fn settle_folder(
        &mut self,
        fd: &OwnedFd,
        path: Vec<u8>,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let settle = || {
            if self.owners == Owners::Keep {
                let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
                rustix::fs::fchown(fd, Some(uid), Some(gid))?;
            }
            // The owner must be able to go on working in it.
            rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode | 0o700))?;
            self.set_xattrs(fd, entry)
        };
        settle().map_err(|errno| make_error(&entry.path, errno))?;
        self.keep(path, (entry.mode, times(entry)));
        Ok(())
    }

    fn keep(&mut self, path: Vec<u8>, what: (u32, Timestamps)) {
        let bytes = path.len() as u64 + 100;
        if self.folders.insert(path, what).is_none() {
            self.bytes += bytes;
        }
    }

    fn hard_link(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let missing = || LayerError::HardLink {
            path: to_path(&entry.path),
            target: to_path(&entry.link),
        };
        let target = super::components(&entry.link)?;
        let (&old, parents) = target.split_last().ok_or_else(missing)?;
        let parents = parents.join(&b'/');
        let from = if parents.is_empty() {
            Rc::clone(&self.root)
        } else {
            // Not made when it is not there.
            Rc::new(open_inside(&self.root, &parents, OPEN_FOLDER).map_err(|_| missing())?)
        };
        let link = || rustix::fs::linkat(&*from, old, parent, name, AtFlags::empty());
        match link() {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT | Errno::PERM) => return Err(missing()),
            Err(errno) => return Err(make_error(&entry.path, errno)),
        }
        // A link to itself is there already; removing it first would lose the file.
        let same = || -> rustix::io::Result<bool> {
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            let a = rustix::fs::statat(&*from, old, nofollow)?;
            let b = rustix::fs::statat(parent, name, nofollow)?;
            Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
        };
        if same().map_err(|_| missing())? {
            return Ok(());
        }
        self.replacing(parent, name, link)
            .map_err(|errno| match errno {
                Errno::NOENT | Errno::PERM => missing(),
                errno => make_error(&entry.path, errno),
            })
    }

    /// Sets modes and times of folders, the deepest first.
    fn finish_folders(&mut self) -> Result<(), LayerError> {
        self.open.clear();
        for (path, (mode, times)) in std::mem::take(&mut self.folders).into_iter().rev() {
            let fd = if path.is_empty() {
                Ok(None)
            } else {
                open_inside(&self.root, &path, OPEN_FOLDER | OFlags::NOFOLLOW).map(Some)
            };
            let fd = match fd {
                Ok(fd) => fd,
                // A later entry has taken its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(make_error(&path, errno)),
            };
            let fd = fd.as_ref().unwrap_or(&self.root);
            let settle = || {
                rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
                rustix::fs::futimens(fd, &times)
            };
            settle().map_err(|errno| make_error(&path, errno))?;
        }
        Ok(())
    }
}

enum Copy {
    Layer(LayerError),
    Write(Errno),
}

/// Copies up to `len` bytes of the current entry; `write` gets the data and
/// how much was written before it.
fn copy(
    tar: &mut Tar<LayerStream>,
    len: u64,
    mut write: impl FnMut(&[u8], u64) -> rustix::io::Result<usize>,
) -> Result<(), Copy> {
    let mut done = 0;
    while done < len {
        let data = tar.data().map_err(Copy::Layer)?;
        if data.is_empty() {
            break;
        }
        let left = usize::try_from(len - done).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(left)];
        let n = match write(data, done) {
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Copy::Write(errno)),
        };
        tar.consume(n);
        done += n as u64;
    }
    Ok(())
}

fn open_inside(root: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), inside) {
            // The kernel could not rule out a race with a rename elsewhere.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

/// Hides what lower layers have under a name, but nothing of this layer.
fn whiteout(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, 0) {
        Err(Errno::EXIST) => {
            let flags = OPEN_FOLDER | OFlags::NOFOLLOW;
            match rustix::fs::openat(parent, name, flags, Mode::empty()) {
                Ok(folder) => mark_opaque(&folder),
                // A file of this layer hides the lower one by itself.
                Err(_) => Ok(()),
            }
        }
        other => other,
    }
}

fn mark_opaque(folder: &OwnedFd) -> rustix::io::Result<()> {
    let set = |name| rustix::fs::fsetxattr(folder, name, b"y", XattrFlags::empty());
    match set("trusted.overlay.opaque") {
        Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno),
    }
    set("user.overlay.opaque")
}

/// Removes what has a name, with all that is in it, and follows no link.
///
/// However deep that is: links let an archive make folders deeper than any
/// name is long, so one folder is open at a time and the way back is `..`.
/// Gives how many bytes that frees.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<u64> {
    let mut freed = 0;
    let Some(mut here) = remove_one(parent, name, &mut freed)? else {
        return Ok(freed);
    };
    let mut way = vec![(CString::new(name).map_err(|_| Errno::INVAL)?, names(&here)?)];
    loop {
        let Some((_, left)) = way.last_mut() else {
            return Ok(freed);
        };
        if let Some(next) = left.pop() {
            if let Some(folder) = remove_one(here.as_fd(), next.to_bytes(), &mut freed)? {
                here = folder;
                way.push((next, names(&here)?));
            }
            continue;
        }
        let done = way.pop().map(|(name, _)| name).unwrap_or_default();
        if way.is_empty() {
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
            return Ok(freed);
        }
        here = rustix::fs::openat(&here, "..", OPEN_FOLDER, Mode::empty())?;
        rustix::fs::unlinkat(&here, done, AtFlags::REMOVEDIR)?;
    }
}

/// Removes what is no folder, and opens what is one so that it can be emptied.
fn remove_one(
    parent: BorrowedFd<'_>,
    name: &[u8],
    freed: &mut u64,
) -> rustix::io::Result<Option<OwnedFd>> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_folder = FileType::from_raw_mode(stat.st_mode).is_dir();
    // What has another name stays until that goes too.
    if is_folder || stat.st_nlink == 1 {
        *freed += stat.st_blocks.cast_unsigned() * 512;
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other.map(|()| None),
    }
    let flags = OPEN_FOLDER | OFlags::NOFOLLOW;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    let folder = match open() {
        Err(Errno::ACCESS) => {
            // One's own folder that one may not read.
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        other => other?,
    };
    // It may be one's own without the right to change it; if it is not, emptying it says so.
    let _ = rustix::fs::fchmod(&folder, Mode::RWXU);
    Ok(Some(folder))
}

/// Gathers what is in a folder: removing while reading may skip some.
fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn times(entry: &Entry) -> Timestamps {
    let (seconds, nanoseconds) = entry.mtime;
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn make_error(path: &[u8], errno: Errno) -> LayerError {
    LayerError::Make {
        path: to_path(path),
        source: io::Error::from(errno),
    }
}
