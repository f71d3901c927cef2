//! The way in: folders of the host as one file.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{Copied, FILE, FolderError, Ids, Stamp};
use crate::layer::erofs::{Builder, Form};
use crate::layer::holes::pieces;
use crate::layer::tar::{Entry, Kind};
use crate::layer::{LayerError, Limits, MAX_DEPTH, to_path};

/// How often a file that changes while it is read is read again.
const ATTEMPTS: u32 = 3;
/// Names the file system; it needs one that no image has.
const UUID: [u8; 16] = *b"hyperion folders";
/// The same where a folder is the image.
const IMAGE_UUID: [u8; 16] = *b"hyperion's image";

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const CONTENT: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// How much there is to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Files, folders and links.
    pub files: u64,
    /// Bytes that they take on the disk.
    pub bytes: u64,
}

/// How far a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Into all that is mounted there, as a mount with all below it.
    All,
    /// To the end of the file system that the folder lies on, as an overlay does.
    OneFileSystem,
}

impl Reach {
    /// Gives the only device to look at.
    fn device(self, stat: &Stat) -> Option<u64> {
        (self == Self::OneFileSystem).then_some(stat.st_dev)
    }
}

/// Counts what is in a folder, or what a file has, links followed for the name itself only.
///
/// # Errors
/// [`FolderError::Read`] where a copy could not be made, and [`FolderError::TooMany`] as soon as there are more
/// files than `most`.
pub fn measure(path: &Path, reach: Reach, most: u64) -> Result<Size, FolderError> {
    let only = rustix::fs::stat(path)
        .ok()
        .and_then(|stat| reach.device(&stat));
    let stat = rustix::fs::stat(path).map_err(unread(path))?;
    let mut size = Size::default();
    let too_many = || FolderError::TooMany {
        path: path.to_owned(),
        most,
    };
    let mut count = |stat: &Stat| {
        size.files += 1;
        let taken = stat.st_blocks.cast_unsigned().saturating_mul(512);
        // What is compressed or kept beside its inode takes less than it holds.
        let holds = stat.st_size.cast_unsigned();
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            size.bytes += if taken == 0 { holds.min(4096) } else { taken };
        }
        (size.files <= most).then_some(()).ok_or_else(too_many)
    };
    count(&stat)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let folder = rustix::fs::open(path, FOLDER, Mode::empty()).map_err(unread(path))?;
        walk(
            path,
            folder.as_fd(),
            (0, only),
            &mut |folder, path, name, stat| {
                if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                    let (read, flags) = (Access::READ_OK, AtFlags::EACCESS);
                    rustix::fs::accessat(folder, name, read, flags).map_err(unread(path))?;
                }
                count(stat)
            },
        )?;
    }
    Ok(size)
}

/// What is done with everything in a folder: the folder that it is in, its
/// path, its name and what it is.
type Visit<'a> = dyn FnMut(BorrowedFd<'_>, &Path, &[u8], &Stat) -> Result<(), FolderError> + 'a;

/// Visits all that is in a folder, in the order of names, parents first; on one
/// device only, where that is named beside the depth.
fn walk(
    path: &Path,
    folder: BorrowedFd<'_>,
    (depth, only): (usize, Option<u64>),
    visit: &mut Visit<'_>,
) -> Result<(), FolderError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(unread(path))? {
        let entry = entry.map_err(unread(path))?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    for name in names {
        let inner = path.join(to_path(&name));
        let stat = match rustix::fs::statat(folder, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            // It has gone meanwhile.
            Err(Errno::NOENT) => continue,
            stat => stat.map_err(unread(&inner))?,
        };
        visit(folder, &inner, &name, &stat)?;
        let entered = only.is_none_or(|device| device == stat.st_dev);
        if entered && FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if depth >= MAX_DEPTH {
                return Err(unread(&inner)(Errno::NAMETOOLONG));
            }
            let flags = FOLDER | OFlags::NOFOLLOW;
            let below = rustix::fs::openat(folder, &*name, flags, Mode::empty());
            let below = below.map_err(unread(&inner))?;
            walk(&inner, below.as_fd(), (depth + 1, only), visit)?;
        }
    }
    Ok(())
}

/// Makes one file system of a folder that is an image, in an empty file.
///
/// What is mounted in the folder is left out, and so are devices and sockets.
///
/// # Errors
/// What cannot be read, that there are more than `most` files, or why it cannot be written.
pub fn lay_image(
    file: File,
    form: Form,
    folder: &Path,
    ids: Ids,
    most: u64,
) -> Result<File, FolderError> {
    let mut lay = Lay::new(file, form, ids, most)?;
    // They are of no effect in a job, but a program may look at them.
    lay.set_ids = 0o6000;
    let root = rustix::fs::open(folder, FOLDER, Mode::empty()).map_err(unread(folder))?;
    let stat = rustix::fs::fstat(&root).map_err(unread(folder))?;
    lay.tree(
        b"",
        folder,
        root.as_fd(),
        &stat,
        Reach::OneFileSystem,
        false,
    )?;
    let file = lay.builder.finish(IMAGE_UUID);
    file.map_err(uncopied(folder))
}

/// One file system of several folders, each under its number.
#[derive(Debug)]
pub struct Lay {
    builder: Builder,
    ids: Ids,
    /// Which of the bits that make a program somebody else's stay.
    set_ids: u32,
    copied: Vec<Copied>,
    left: u64,
    most: u64,
}

impl Lay {
    /// Starts in an empty file; together the folders hold at most `most` files.
    ///
    /// # Errors
    /// [`FolderError::Copy`] when it cannot be written.
    pub fn new(file: File, form: Form, ids: Ids, most: u64) -> Result<Self, FolderError> {
        let builder = Builder::new(file, form, &Limits::default());
        let builder = builder.map_err(uncopied(Path::new("")))?;
        Ok(Self {
            builder,
            ids,
            set_ids: 0,
            copied: Vec::new(),
            left: most,
            most,
        })
    }

    /// Adds a folder under the next number, or a file in a folder of that number
    /// under the name [`FILE`].
    ///
    /// # Errors
    /// What cannot be read, or why it cannot be written.
    pub fn add(&mut self, source: &Path, writable: bool) -> Result<(), FolderError> {
        let number = self.copied.len().to_string().into_bytes();
        let real = source.canonicalize();
        let real = real.map_err(|source_error| FolderError::Read {
            path: source.to_owned(),
            source: source_error,
        })?;
        let stat = rustix::fs::stat(&real).map_err(unread(&real))?;
        let (root, single, mut stamps);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            root = rustix::fs::open(&real, FOLDER, Mode::empty()).map_err(unread(&real))?;
            single = None;
            stamps = self.tree(&number, &real, root.as_fd(), &stat, Reach::All, writable)?;
        } else {
            let parent = real.parent().unwrap_or(Path::new("/"));
            let name = real.file_name().unwrap_or_default().as_encoded_bytes();
            root = rustix::fs::open(parent, FOLDER, Mode::empty()).map_err(unread(parent))?;
            single = Some(name.to_vec());
            let around = rustix::fs::fstat(&root).map_err(unread(parent))?;
            self.folder(&number, &around, &real)?;
            let inside = [&number, b"/".as_slice(), FILE.as_bytes()].concat();
            let seen = &mut HashMap::new();
            let stamp = self.entry(root.as_fd(), &real, name, &stat, inside, seen)?;
            stamps = BTreeMap::new();
            stamps.extend(stamp.map(|stamp| (FILE.as_bytes().to_vec(), stamp)));
        }
        self.copied.push(Copied {
            source: source.to_owned(),
            root,
            single,
            stamps,
            writable,
        });
        Ok(())
    }

    /// Ends the file; gives it with its SHA-256 and what the folders were.
    ///
    /// # Errors
    /// [`FolderError::Copy`] when it cannot be written.
    pub fn finish(self) -> Result<(File, [u8; 32], Vec<Copied>), FolderError> {
        let whole = Path::new("");
        let file = self.builder.finish(UUID).map_err(uncopied(whole))?;
        let sum = checksum(&file).map_err(|e| uncopied(whole)(LayerError::Read(e)))?;
        Ok((file, sum, self.copied))
    }

    /// Adds a folder with all that is in it; gives what that was, where it is
    /// `writable`.
    fn tree(
        &mut self,
        name: &[u8],
        real: &Path,
        root: BorrowedFd<'_>,
        stat: &Stat,
        reach: Reach,
        writable: bool,
    ) -> Result<BTreeMap<Vec<u8>, Stamp>, FolderError> {
        let mut seen = HashMap::new();
        let mut stamps = BTreeMap::from([(Vec::new(), Stamp::of(stat))]);
        self.folder(name, stat, real)?;
        let from = (0, reach.device(stat));
        walk(real, root, from, &mut |folder, path, own, stat| {
            let below = path.strip_prefix(real).unwrap_or(path);
            let below = below.as_os_str().as_encoded_bytes();
            let inside = [name, b"/".as_slice(), below].concat();
            let stamp = self.entry(folder, path, own, stat, inside, &mut seen)?;
            if writable {
                stamps.extend(stamp.map(|stamp| (below.to_vec(), stamp)));
            }
            Ok(())
        })?;
        Ok(stamps)
    }

    /// The folder in which the others are.
    fn folder(&mut self, number: &[u8], stat: &Stat, path: &Path) -> Result<(), FolderError> {
        let entry = self.describe(stat, number.to_vec(), Kind::Folder);
        self.builder.lay(&entry, None).map_err(uncopied(path))
    }

    fn describe(&self, stat: &Stat, path: Vec<u8>, kind: Kind) -> Entry {
        let (uid, gid) = self.ids.inside(stat.st_uid, stat.st_gid);
        let set_id = if kind == Kind::Folder {
            0
        } else {
            0o6000 & !self.set_ids
        };
        Entry {
            path,
            kind,
            mode: stat.st_mode & 0o7777 & !set_id,
            uid,
            gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            size: 0,
            link: Vec::new(),
            xattrs: Vec::new(),
            pieces: None,
        }
    }

    /// Adds one thing; gives what it was.
    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        path: &Path,
        name: &[u8],
        stat: &Stat,
        inside: Vec<u8>,
        seen: &mut HashMap<(u64, u64), Vec<u8>>,
    ) -> Result<Option<Stamp>, FolderError> {
        self.left = self.left.checked_sub(1).ok_or(FolderError::TooMany {
            path: path.to_owned(),
            most: self.most,
        })?;
        let stamp = Stamp::of(stat);
        let kind = match stamp.kind {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            // Of no use on another kernel.
            _ => return Ok(None),
        };
        let mut entry = self.describe(stat, inside, kind);
        if kind == Kind::Symlink {
            let link = rustix::fs::readlinkat(folder, name, Vec::new());
            entry.link = link.map_err(unread(path))?.into_bytes();
        }
        if kind != Kind::File {
            let laid = self.builder.lay(&entry, None);
            return laid.map_err(uncopied(path)).map(|()| Some(stamp));
        }
        if let Some(first) = seen.get(&(stamp.device, stamp.inode)) {
            entry.kind = Kind::HardLink;
            entry.link.clone_from(first);
            let laid = self.builder.lay(&entry, None);
            return laid.map_err(uncopied(path)).map(|()| Some(stamp));
        }
        if stat.st_nlink > 1 {
            seen.insert((stamp.device, stamp.inode), entry.path.clone());
        }
        self.file(folder, path, name, entry).map(Some)
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        path: &Path,
        name: &[u8],
        mut entry: Entry,
    ) -> Result<Stamp, FolderError> {
        let file = rustix::fs::openat(folder, name, CONTENT, Mode::empty());
        let file = File::from(file.map_err(unread(path))?);
        for _ in 0..ATTEMPTS {
            let before = Stamp::of(&rustix::fs::fstat(&file).map_err(unread(path))?);
            if before.kind != FileType::RegularFile {
                return Err(FolderError::Changes(path.to_owned()));
            }
            entry.size = before.size;
            let found = pieces(&file, before.size);
            entry.pieces = Some(found.map_err(|source| FolderError::Read {
                path: path.to_owned(),
                source,
            })?);
            match self.builder.lay(&entry, Some(&file)) {
                // It has become shorter.
                Err(LayerError::Read(e)) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
                laid => laid.map_err(uncopied(path))?,
            }
            if Stamp::of(&rustix::fs::fstat(&file).map_err(unread(path))?) == before {
                return Ok(before);
            }
        }
        Err(FolderError::Changes(path.to_owned()))
    }
}

/// Gives the SHA-256 of a whole file.
fn checksum(file: &File) -> io::Result<[u8; 32]> {
    use std::io::{Read as _, Seek as _};
    let mut file = file;
    file.rewind()?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(sum.finalize().into()),
            Ok(got) => sum.update(&buffer[..got]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn unread(path: &Path) -> impl Fn(Errno) -> FolderError + use<> {
    let path = path.to_owned();
    move |errno| FolderError::Read {
        path: path.clone(),
        source: errno.into(),
    }
}

fn uncopied(path: &Path) -> impl Fn(LayerError) -> FolderError + use<> {
    let path = path.to_owned();
    move |source| FolderError::Copy {
        path: path.clone(),
        source,
    }
}
