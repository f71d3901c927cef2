//! Reads an EROFS file back, and is stricter than the kernel.
//!
//! The format is that of `fs/erofs/erofs_fs.h`; only what Hyperion writes is understood.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::listing::{Listing, MAX_CONTENT, Object, What};

const BLOCK: u64 = 4096;

struct Image<'a> {
    file: &'a File,
    size: u64,
    meta: u64,
}

struct Inode {
    nid: u64,
    inline: bool,
    kind: u32,
    mode: u32,
    size: u64,
    block: u64,
    mtime: i64,
    links: u32,
    /// Where inline data begins.
    tail: u64,
}

/// Walks all of the file and gives what is in it.
///
/// # Panics
/// Where anything in it is not as the format says.
pub(crate) fn read(file: &File) -> Listing {
    let size = file.metadata().expect("an open file").len();
    assert_eq!(size % BLOCK, 0, "it ends with a whole block");
    let mut image = Image {
        file,
        size,
        meta: 0,
    };
    let head = image.bytes(1024, 128);
    assert_eq!(number(&head, 0, 4), 0xe0f5_e1e2, "the magic number");
    assert_eq!(head[12], 12, "blocks of 4 KiB");
    let (root, inodes) = (number(&head, 14, 2), number(&head, 16, 8));
    assert_eq!(number(&head, 36, 4) * BLOCK, size, "the number of blocks");
    image.meta = number(&head, 40, 4) * BLOCK;
    let mut listing = Listing::new();
    let mut names: BTreeMap<u64, (u32, u32, Vec<u8>)> = BTreeMap::new();
    let mut folders = BTreeSet::from([root]);
    let mut todo = vec![(root, root, Vec::new())];
    while let Some((nid, parent, path)) = todo.pop() {
        let inode = image.inode(nid);
        assert_eq!(inode.kind, 0o040_000, "the folder is a folder");
        let mut inside = 2;
        for (name, child, kind) in image.folder(&inode, parent) {
            let child = image.inode(child);
            assert_eq!(kind, kind_of(child.kind), "the kind in the folder");
            let whole = [path.as_slice(), b"/", name.as_slice()].concat();
            if child.kind == 0o040_000 {
                assert!(folders.insert(child.nid), "a folder has one name");
                inside += 1;
                todo.push((child.nid, nid, whole));
                continue;
            }
            let same = names
                .entry(child.nid)
                .or_insert((child.links, 0, whole.clone()));
            same.1 += 1;
            if whole < same.2 {
                same.2.clone_from(&whole);
            }
            let object = image.object(&child, child.nid);
            listing.insert(whole, object);
        }
        assert_eq!(inode.links, inside, "the links of a folder");
        let mut object = image.object(&inode, nid);
        object.same_as.clone_from(&path);
        listing.insert(path, object);
    }
    for (links, found, _) in names.values() {
        assert_eq!(links, found, "the links of a file");
    }
    assert_eq!(
        inodes as usize,
        names.len() + folders.len(),
        "the number of inodes"
    );
    for object in listing.values_mut().filter(|o| o.what != What::Folder) {
        let nid = u64::from_le_bytes(object.same_as[..8].try_into().expect("eight bytes"));
        object.same_as.clone_from(&names[&nid].2);
    }
    listing
}

impl Image<'_> {
    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let end = at.checked_add(len as u64).expect("a place");
        assert!(end <= self.size, "{at}+{len} lies outside");
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at).expect("it is read");
        bytes
    }

    fn inode(&self, nid: u64) -> Inode {
        let at = self.meta + nid * 32;
        let head = self.bytes(at, 64);
        let format = number(&head, 0, 2);
        assert_eq!(format & 1, 1, "a long inode");
        let layout = format >> 1;
        assert!(layout == 0 || layout == 2, "a known layout");
        let xattrs = match number(&head, 2, 2) {
            0 => 0,
            count => 12 + (count - 1) * 4,
        };
        self.xattrs(at + 64, xattrs);
        let mode = number(&head, 4, 2) as u32;
        let inode = Inode {
            nid,
            inline: layout == 2,
            kind: mode & 0o170_000,
            mode: mode & 0o7777,
            size: number(&head, 8, 8),
            block: number(&head, 16, 4),
            mtime: number(&head, 32, 8) as i64,
            links: number(&head, 44, 4) as u32,
            tail: at + 64 + xattrs,
        };
        if inode.inline {
            let last = (inode.tail + inode.size).saturating_sub(1);
            assert!(inode.size > 0 && inode.size < BLOCK, "inline data is small");
            assert_eq!(
                inode.tail / BLOCK,
                last / BLOCK,
                "inline data is in one block"
            );
        }
        inode
    }

    fn xattrs(&self, at: u64, len: u64) {
        if len == 0 {
            return;
        }
        let bytes = self.bytes(at, len as usize);
        let mut here = 12;
        while here < bytes.len() {
            let (name, prefix) = (usize::from(bytes[here]), bytes[here + 1]);
            assert!(prefix == 1 || prefix == 6, "a known prefix");
            assert!(name > 0, "an attribute has a name");
            let value = number(&bytes, here + 2, 2) as usize;
            here = (here + 4 + name + value).next_multiple_of(4);
        }
        assert_eq!(here, bytes.len(), "attributes end where they say");
    }

    fn data(&self, inode: &Inode) -> Vec<u8> {
        let at = match inode.inline {
            true => inode.tail,
            false => inode.block * BLOCK,
        };
        self.bytes(at, inode.size as usize)
    }

    /// Gives names, numbers and kinds, checked; without `.` and `..`.
    fn folder(&self, inode: &Inode, parent: u64) -> Vec<(Vec<u8>, u64, u8)> {
        assert!(inode.size < 64 << 20, "a folder of a small layer is small");
        let data = self.data(inode);
        let mut out: Vec<(Vec<u8>, u64, u8)> = Vec::new();
        for block in data.chunks(BLOCK as usize) {
            let first = number(block, 8, 2) as usize;
            assert!(
                first >= 12 && first.is_multiple_of(12),
                "names follow the entries"
            );
            let entry = |at: usize| number(block, at * 12 + 8, 2) as usize;
            for at in 0..first / 12 {
                let last = at + 1 == first / 12;
                let name = match last {
                    false => &block[entry(at)..entry(at + 1)],
                    true => block[entry(at)..].split(|&b| b == 0).next().expect("one"),
                };
                assert!((1..=255).contains(&name.len()), "a name's length");
                assert!(
                    !name.contains(&b'/') && !name.contains(&0),
                    "a name's bytes"
                );
                let sorted = out
                    .last()
                    .is_none_or(|(before, ..)| before.as_slice() < name);
                assert!(sorted, "names come in order");
                out.push((
                    name.to_vec(),
                    number(block, at * 12, 8),
                    block[at * 12 + 10],
                ));
            }
        }
        let mut dots = 0;
        out.retain(|(name, nid, _)| match name.as_slice() {
            b"." | b".." => {
                let right = if name == b"." { inode.nid } else { parent };
                assert_eq!(*nid, right, "where a folder's dots lead");
                dots += 1;
                false
            }
            _ => true,
        });
        assert_eq!(dots, 2, "a folder has both dots");
        out
    }

    /// `same_as` is the number for now.
    fn object(&self, inode: &Inode, nid: u64) -> Object {
        let what = match inode.kind {
            0o100_000 => {
                let end = inode.block * BLOCK + inode.size;
                assert!(inode.inline || end <= self.size, "a file lies inside");
                let content = (inode.size <= MAX_CONTENT).then(|| self.data(inode));
                What::File {
                    size: inode.size,
                    content,
                }
            }
            0o040_000 => What::Folder,
            0o120_000 => {
                assert!((1..4096).contains(&inode.size), "a link's length");
                What::Symlink(self.data(inode))
            }
            0o010_000 => What::Fifo,
            kind => panic!("an inode of kind {kind:o}"),
        };
        Object {
            what,
            mode: inode.mode,
            mtime: inode.mtime,
            same_as: nid.to_le_bytes().to_vec(),
            hollow: false,
        }
    }
}

fn kind_of(kind: u32) -> u8 {
    match kind {
        0o100_000 => 1,
        0o040_000 => 2,
        0o010_000 => 5,
        0o120_000 => 7,
        _ => 0,
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let field = &bytes[at..at + len];
    field.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}
