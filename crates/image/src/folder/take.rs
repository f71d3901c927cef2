//! The way out: what a guest changed in its copies of folders, put in place.
//!
//! A file is written without a name, checked, and only then takes its place: what
//! is cut off at any moment leaves whole files, old or new. Folders are opened one
//! by one from the one that was copied, and none of them through a link.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::fresh::{Done, Fresh, Trouble, checksum, copy, mode, name_it, times, told, write};
use super::{Copied, FILE, Ids, Stamp};
use crate::layer::Name;
use crate::layer::pack::{END, SUM};
use crate::layer::tar::{Entry, Kind, Tar};

/// What a guest may ask for.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who owns what is made.
    pub ids: Ids,
    /// Ends the names of what cannot take its place, and of what is unfinished.
    pub tag: String,
    /// Entries at most.
    pub entries: u64,
    /// Bytes of all files together at most, without their holes.
    pub bytes: u64,
}

/// The most bytes that names may take in memory.
const MOST_NAMES: u64 = 256 << 20;
/// The most remarks that are kept.
const MOST_REMARKS: usize = 50;
/// The longest name of a file, in bytes.
const MAX_NAME: usize = 255;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Things made, changed or removed.
    pub changes: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was not done as the guest asked, for people: at most 50.
    pub remarks: Vec<String>,
    /// How many remarks there would be.
    pub troubles: u64,
    /// Why not all was heard; what was done before is whole.
    pub cut: Option<String>,
}

impl Taken {
    /// Tells whether all is as the guest left it.
    pub fn is_whole(&self) -> bool {
        self.troubles == 0 && self.cut.is_none()
    }

    /// Adds what came of another machine.
    pub fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.bytes += other.bytes;
        self.troubles += other.troubles;
        let room = MOST_REMARKS.saturating_sub(self.remarks.len());
        self.remarks.extend(other.remarks.into_iter().take(room));
        self.cut = self.cut.take().or(other.cut);
    }
}

/// Puts in place what changed in folders, until all was read or nothing can be done any more.
pub fn take(input: impl BufRead, folders: &mut [Copied], rules: &Rules) -> Taken {
    let mut taker = Taker {
        folders,
        rules,
        taken: Taken::default(),
        settled: BTreeMap::new(),
        renamed: BTreeSet::new(),
        names: 0,
        number: 0,
    };
    if let Err(why) = taker.read(input) {
        taker.taken.cut = Some(why);
    }
    taker.settle();
    taker.taken
}

/// What stands where something is to be put.
enum Place {
    /// Nothing, as before.
    Free,
    /// What was there before, or what the guest put there.
    Known,
}

/// How a new folder is at last, when nothing more is made in it.
struct Finish {
    mode: u32,
    mtime: Option<(i64, u32)>,
}

struct Taker<'a> {
    folders: &'a mut [Copied],
    rules: &'a Rules,
    taken: Taken,
    /// By number of the folder and path in it.
    settled: BTreeMap<(usize, Vec<u8>), Finish>,
    /// What lost a name here, which changes the others that it has.
    renamed: BTreeSet<(u64, u64)>,
    names: u64,
    number: u64,
}

impl Taker<'_> {
    fn read(&mut self, input: impl BufRead) -> Result<(), String> {
        let mut tar = Tar::new(input);
        let mut entries = 0;
        loop {
            let Some(entry) = tar.next().map_err(|e| told(&e))? else {
                return Err("what came ends too early".into());
            };
            entries += 1;
            self.names += entry.path.len() as u64;
            if entries > self.rules.entries || self.names > MOST_NAMES {
                return Err(format!("there are more than {entries} changes"));
            }
            if entry.path == END {
                return self.end(&entry, &mut tar).map_err(|trouble| match trouble {
                    Trouble::One(text) | Trouble::All(text) => text,
                });
            }
            if entry.path == SUM {
                // Of a file that could not be written.
                continue;
            }
            let name = Name::read(&entry.path).map_err(|e| told(&e))?;
            let (Name::Entry(parts) | Name::Whiteout(parts) | Name::Opaque(parts)) = &name else {
                continue;
            };
            let Some((number, parts)) = self.which(parts) else {
                return Err("it speaks of a folder that it has not".into());
            };
            let path = parts.join(&b'/');
            let done = match name {
                Name::Whiteout(_) => self.remove(number, &path),
                Name::Opaque(_) => self.empty(number, &path),
                _ => self.entry(number, &path, &entry, &mut tar),
            };
            match done {
                Ok(()) => {}
                Err(Trouble::One(why)) => self.remark(number, &path, &why),
                Err(Trouble::All(why)) => {
                    let path = self.folders[number].shown(&path);
                    return Err(format!("{path}: {why}"));
                }
            }
        }
    }

    /// Finds the folder that an entry is in, and its path there.
    fn which<'p, 'b>(&self, parts: &'p [&'b [u8]]) -> Option<(usize, &'p [&'b [u8]])> {
        let (first, rest) = parts.split_first()?;
        let number: usize = std::str::from_utf8(first).ok()?.parse().ok()?;
        let folder = self.folders.get(number).filter(|folder| folder.writable)?;
        let fits = folder.single.is_none()
            || matches!(rest, [] | [_]) && rest.iter().all(|name| *name == FILE.as_bytes());
        fits.then_some((number, rest))
    }

    /// Hears what the guest has left out.
    fn end<R: BufRead>(&mut self, entry: &Entry, tar: &mut Tar<R>) -> Done {
        if entry.kind != Kind::File || entry.size > 1 << 20 {
            return Err(Trouble::All("its end makes no sense".into()));
        }
        let mut text = Vec::new();
        copy(tar, entry.size, |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let parts: Vec<&[u8]> = line.split(|&b| b == b'/').collect();
            if let Some((number, parts)) = self.which(&parts) {
                let why = "devices, sockets and names that begin with \".wh.\" stay in the machine";
                self.remark(number, &parts.join(&b'/'), why);
            }
        }
        Ok(())
    }

    fn remark(&mut self, number: usize, path: &[u8], why: &str) {
        self.taken.troubles += 1;
        if self.taken.remarks.len() < MOST_REMARKS {
            let path = self.folders[number].shown(path);
            self.taken.remarks.push(format!("{path}: {why}"));
        }
    }

    /// Opens the folder in which something is, and gives its name there.
    fn parent(&self, number: usize, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), Trouble> {
        let folder = &self.folders[number];
        let mut here = rustix::io::fcntl_dupfd_cloexec(&folder.root, 0)?;
        if let Some(name) = &folder.single {
            return Ok((here, name.clone()));
        }
        let mut parts: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
        let name = parts.pop().unwrap_or_default().to_vec();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for part in parts {
            here = rustix::fs::openat(&here, part, flags, Mode::empty()).map_err(|e| match e {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                    Trouble::One("what it lies in is no folder on this host any more".into())
                }
                e => e.into(),
            })?;
        }
        Ok((here, name))
    }

    /// Looks whether a place is as the guest knew it.
    fn place(&self, number: usize, path: &[u8], now: Option<&Stamp>) -> Result<Place, Trouble> {
        let known = self.folders[number].stamps.get(path);
        let why = match (known, now) {
            (None, None) => return Ok(Place::Free),
            (Some(known), Some(now)) if self.is(known, now) => return Ok(Place::Known),
            (None, Some(_)) => "it is new on this host",
            (Some(_), Some(_)) => "it was changed on this host meanwhile",
            (Some(_), None) => "it was removed on this host meanwhile",
        };
        Err(Trouble::One(why.into()))
    }

    /// Tells whether something is still what it was, but for what was done here to
    /// other names that it has.
    fn is(&self, known: &Stamp, now: &Stamp) -> bool {
        let mut now = now.clone();
        if self.renamed.contains(&(now.device, now.inode)) {
            now.changed[1] = known.changed[1];
        }
        known.is(&now)
    }

    fn entry<R: BufRead>(
        &mut self,
        number: usize,
        path: &[u8],
        entry: &Entry,
        tar: &mut Tar<R>,
    ) -> Done {
        match entry.kind {
            Kind::Device => return Err(Trouble::One("device nodes are not made".into())),
            Kind::Folder if path.is_empty() => return self.settle_later(number, path, entry),
            Kind::Folder => return self.folder(number, path, entry),
            _ if path.is_empty() => return Err(Trouble::All("a folder is a file now".into())),
            _ => {}
        }
        let (parent, name) = self.parent(number, path)?;
        let parent = parent.as_fd();
        let source = match entry.kind {
            Kind::File => Some(self.file(parent, entry, tar)?),
            _ => None,
        };
        // Whatever follows, this name goes.
        let temporary = self.temporary();
        let made = match (&source, entry.kind) {
            (Some(Fresh::Nameless(file)), _) => name_it(file, parent, &temporary),
            (Some(Fresh::Named(_, old)), _) => renameat(parent, old, parent, &temporary),
            (None, Kind::Symlink) => {
                rustix::fs::symlinkat(entry.link.as_slice(), parent, &temporary)
            }
            (None, Kind::Fifo) => {
                let mode = Mode::from_raw_mode(entry.mode & 0o777);
                rustix::fs::mknodat(parent, &temporary, FileType::Fifo, mode, 0)
            }
            (None, _) => self.link(number, &entry.link, parent, &temporary)?,
        };
        made?;
        let put = self.put(number, path, parent, &name, &temporary, entry);
        if put.is_err() {
            let _ = unlinkat(parent, &temporary, AtFlags::empty());
        }
        put
    }

    /// Moves what is ready to its place, or beside that where it is taken.
    fn put(
        &mut self,
        number: usize,
        path: &[u8],
        parent: BorrowedFd<'_>,
        name: &[u8],
        temporary: &CString,
        entry: &Entry,
    ) -> Done {
        if entry.kind == Kind::Symlink || entry.kind == Kind::Fifo {
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            if let Some((uid, gid)) = self.rules.ids.outside(entry.uid, entry.gid) {
                rustix::fs::chownat(parent, temporary, Some(uid), Some(gid), nofollow)?;
            }
            rustix::fs::utimensat(parent, temporary, &times(entry.mtime), nofollow)?;
        }
        let now = look(parent, name)?;
        let moved = match self.place(number, path, now.as_ref()) {
            Ok(Place::Free) => {
                let moved = renameat_with(parent, temporary, parent, name, RenameFlags::NOREPLACE);
                match moved {
                    // Not every file system knows that.
                    Err(Errno::INVAL) => renameat(parent, temporary, parent, name),
                    moved => moved,
                }
                .map_err(|e| match e {
                    Errno::EXIST => Trouble::One("it is new on this host".into()),
                    e => e.into(),
                })
            }
            Ok(Place::Known) => {
                let gone = match &now {
                    Some(now) if now.is_folder() => self.remove(number, path),
                    _ => Ok(()),
                };
                self.renamed.extend(now.map(|now| (now.device, now.inode)));
                gone.and_then(|()| Ok(renameat(parent, temporary, parent, name)?))
            }
            Err(trouble) => Err(trouble),
        };
        if let Err(Trouble::One(why)) = &moved {
            let aside = self.aside(name);
            let beside = renameat_with(parent, temporary, parent, &aside, RenameFlags::NOREPLACE);
            let text = match beside {
                Ok(()) => {
                    let beside =
                        std::path::Path::new(std::ffi::OsStr::from_bytes(aside.as_bytes()));
                    format!("{why}; the job's is {}", super::shown(beside))
                }
                Err(_) => format!("{why}; the job's is lost"),
            };
            return Err(Trouble::One(text));
        }
        moved?;
        self.remember(number, path, parent, name)
    }

    /// Keeps in mind what is there now as the guest's own.
    fn remember(
        &mut self,
        number: usize,
        path: &[u8],
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Done {
        self.taken.changes += 1;
        if let Some(mut stamp) = look(parent, name)? {
            stamp.taken = true;
            self.folders[number].stamps.insert(path.to_owned(), stamp);
        }
        Ok(())
    }

    /// Gives a name that nothing has.
    fn temporary(&mut self) -> CString {
        self.number += 1;
        let name = format!(".hyperion-{}-{}", self.rules.tag, self.number);
        CString::new(name).unwrap_or_default()
    }

    /// Gives the name of what cannot take its place.
    fn aside(&self, name: &[u8]) -> CString {
        let end = format!(".{}", self.rules.tag).into_bytes();
        let kept = name.len().min(MAX_NAME.saturating_sub(end.len()));
        CString::new([&name[..kept], &end].concat()).unwrap_or_default()
    }

    /// Writes a file, which has no name of its own yet.
    fn file<R: BufRead>(
        &mut self,
        parent: BorrowedFd<'_>,
        entry: &Entry,
        tar: &mut Tar<R>,
    ) -> Result<Fresh, Trouble> {
        let whole: &[(u64, u64)] = match entry.size {
            0 => &[],
            size => &[(0, size)],
        };
        let pieces = entry.pieces.as_deref().unwrap_or(whole);
        let data: u64 = pieces.iter().map(|(_, len)| len).sum();
        self.taken.bytes = self.taken.bytes.saturating_add(data);
        if self.taken.bytes > self.rules.bytes {
            return Err(Trouble::All(
                "there is more than the machine can hold".into(),
            ));
        }
        let fresh = self.fresh(parent)?;
        let file = fresh.file();
        let written = write(file, entry.size, pieces, tar).and_then(|sum| {
            match checksum(tar)? == sum.as_bytes() {
                true => Ok(()),
                false => Err(Trouble::One("it came damaged, and is left out".into())),
            }
        });
        let settled = written.and_then(|()| {
            if let Some((uid, gid)) = self.rules.ids.outside(entry.uid, entry.gid) {
                rustix::fs::fchown(file, Some(uid), Some(gid))?;
            }
            rustix::fs::fchmod(file, mode(entry))?;
            Ok(rustix::fs::futimens(file, &times(entry.mtime))?)
        });
        match (settled, fresh) {
            (Ok(()), fresh) => Ok(fresh),
            (Err(trouble), Fresh::Named(_, name)) => {
                let _ = unlinkat(parent, &name, AtFlags::empty());
                Err(trouble)
            }
            (Err(trouble), Fresh::Nameless(_)) => Err(trouble),
        }
    }

    /// Makes an empty file: without a name where the file system can, so that
    /// nothing is left of it whatever happens.
    fn fresh(&mut self, parent: BorrowedFd<'_>) -> Result<Fresh, Trouble> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, c".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(Fresh::Nameless(file.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let name = self.temporary();
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(parent, &name, flags, mode)?;
                Ok(Fresh::Named(file.into(), name))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Gives a file that the guest has sent before another name.
    fn link(
        &self,
        number: usize,
        target: &[u8],
        parent: BorrowedFd<'_>,
        name: &CString,
    ) -> Result<rustix::io::Result<()>, Trouble> {
        let unknown = || Trouble::One("it is another name of a file that is not there".into());
        let parts = crate::layer::components(target).map_err(|_| unknown())?;
        let (_, parts) = self
            .which(&parts)
            .filter(|(n, _)| *n == number)
            .ok_or_else(unknown)?;
        let path = parts.join(&b'/');
        let stamp = self.folders[number].stamps.get(&path);
        let stamp = stamp.filter(|s| s.taken && s.kind == FileType::RegularFile);
        let stamp = stamp.ok_or_else(unknown)?;
        let (from, old) = self.parent(number, &path)?;
        match look(from.as_fd(), &old)? {
            // With each name that it gets it counts as changed.
            Some(now) if (now.device, now.inode) == (stamp.device, stamp.inode) => {}
            _ => return Err(unknown()),
        }
        Ok(linkat(from, old.as_slice(), parent, name, AtFlags::empty()))
    }

    fn folder(&mut self, number: usize, path: &[u8], entry: &Entry) -> Done {
        let (parent, name) = self.parent(number, path)?;
        let now = look(parent.as_fd(), &name)?;
        match &now {
            // One that both have made holds what both have put into it.
            Some(now) if now.is_folder() => {
                let known = self.folders[number].stamps.get(path);
                let (mode, owner) = (entry.mode & 0o1777, (entry.uid, entry.gid));
                let changed = known.is_some_and(|known| {
                    let inside = self.rules.ids.inside(known.owner.0, known.owner.1);
                    (known.mode & 0o1777, inside) != (mode, owner) && known.is(now)
                });
                if let Some(known) = self.folders[number].stamps.get_mut(path) {
                    known.taken = true;
                }
                return match changed {
                    true => self.settle_later(number, path, entry),
                    false => Ok(()),
                };
            }
            now => match self.place(number, path, now.as_ref())? {
                Place::Free => {}
                Place::Known => unlinkat(&parent, name.as_slice(), AtFlags::empty())?,
            },
        }
        rustix::fs::mkdirat(&parent, name.as_slice(), Mode::RWXU)?;
        self.remember(number, path, parent.as_fd(), &name)?;
        self.settle_later(number, path, entry)?;
        let finish = self.settled.get_mut(&(number, path.to_owned()));
        if let Some(finish) = finish {
            finish.mtime = Some(entry.mtime);
        }
        Ok(())
    }

    /// Keeps in mind what a folder is to be at last; its owner is changed now.
    fn settle_later(&mut self, number: usize, path: &[u8], entry: &Entry) -> Done {
        if self.folders[number].single.is_some() {
            return Ok(());
        }
        let stamp = self.folders[number].stamps.get(path);
        if path.is_empty() && stamp.is_some_and(|s| s.mode & 0o1777 == entry.mode & 0o1777) {
            return Ok(());
        }
        if let Some((uid, gid)) = self.rules.ids.outside(entry.uid, entry.gid) {
            let folder = self.open_folder(number, path)?;
            rustix::fs::fchown(&folder, Some(uid), Some(gid))?;
        }
        let finish = Finish {
            mode: entry.mode & 0o1777,
            mtime: None,
        };
        self.settled.insert((number, path.to_owned()), finish);
        Ok(())
    }

    fn open_folder(&self, number: usize, path: &[u8]) -> Result<OwnedFd, Trouble> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_empty() {
            let root = &self.folders[number].root;
            return Ok(rustix::fs::openat(root, c".", flags, Mode::empty())?);
        }
        let (parent, name) = self.parent(number, path)?;
        Ok(rustix::fs::openat(
            &parent,
            name.as_slice(),
            flags,
            Mode::empty(),
        )?)
    }

    /// Gives new folders their modes and times, the inner ones first.
    fn settle(&mut self) {
        for ((number, path), finish) in std::mem::take(&mut self.settled).into_iter().rev() {
            let settle = || -> Done {
                let folder = self.open_folder(number, &path)?;
                rustix::fs::fchmod(&folder, Mode::from_raw_mode(finish.mode))?;
                if let Some(mtime) = finish.mtime {
                    rustix::fs::futimens(&folder, &times(mtime))?;
                }
                Ok(())
            };
            if let Err(Trouble::One(why) | Trouble::All(why)) = settle() {
                self.remark(number, &path, &why);
            }
        }
    }

    /// Removes what the guest has removed, as far as it is still what the guest knew.
    fn remove(&mut self, number: usize, path: &[u8]) -> Done {
        if path.is_empty() || self.folders[number].single.is_some() {
            return Err(Trouble::One("it is what was shown, and stays".into()));
        }
        self.empty(number, path)?;
        self.remove_one(number, path)
    }

    /// Removes what the guest has removed in a folder, the innermost first.
    fn empty(&mut self, number: usize, path: &[u8]) -> Done {
        let stamps = &self.folders[number].stamps;
        let inside = match path.is_empty() {
            true => vec![],
            false => [path, b"/"].concat(),
        };
        let below = stamps.range(inside.clone()..);
        let below = below.take_while(|(key, _)| key.starts_with(&inside));
        let gone = below.filter(|(key, stamp)| !key.is_empty() && !stamp.taken);
        let gone: Vec<Vec<u8>> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone.iter().rev() {
            match self.remove_one(number, key) {
                Err(Trouble::One(why)) => self.remark(number, key, &why),
                removed => removed?,
            }
        }
        Ok(())
    }

    fn remove_one(&mut self, number: usize, path: &[u8]) -> Done {
        let (parent, name) = self.parent(number, path)?;
        let now = look(parent.as_fd(), &name)?;
        let Some(now) = now else {
            // Both have removed it.
            self.folders[number].stamps.remove(path);
            return Ok(());
        };
        let known = self.folders[number].stamps.get(path);
        if !known.is_some_and(|known| self.is(known, &now)) {
            return Err(Trouble::One(
                "the job removed it, but it was changed on this host meanwhile, and stays".into(),
            ));
        }
        let flags = match now.is_folder() {
            true => AtFlags::REMOVEDIR,
            false => AtFlags::empty(),
        };
        unlinkat(&parent, name.as_slice(), flags).map_err(|e| match e {
            Errno::NOTEMPTY | Errno::EXIST => Trouble::One(
                "the job removed it, but it holds what is new on this host, and stays".into(),
            ),
            e => e.into(),
        })?;
        self.taken.changes += 1;
        self.renamed.insert((now.device, now.inode));
        self.folders[number].stamps.remove(path);
        Ok(())
    }
}

fn look(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stamp>, Trouble> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Stamp::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
