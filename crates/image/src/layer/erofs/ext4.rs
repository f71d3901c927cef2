//! The same tree as an ext4 file system, for kernels without EROFS.
//!
//! Jobs only read it, so there is no journal and no room for more. What a machine
//! that stays writes to, in a layer above, has both, and can grow ([`super::grow`]).
//! There is no copy of the superblock.
//! All that describes it lies behind the data (`flex_bg`), but the superblock and
//! the groups' descriptors, for which the front is kept free.
//!
//! The format is the kernel's `Documentation/filesystems/ext4/`.

use std::io::{self, Seek, SeekFrom, Write};

use super::tree::{Content, Node, NodeId, ROOT, Tree};
use super::write::{Layouter, xattr_prefix};
use super::{BLOCK, Output};

/// Blocks at the front, which are none of a file's: descriptors of 8192 groups.
pub(super) const FRONT: u64 = 65;
/// Blocks of a group: as many as a block has bits.
pub(super) const GROUP: u64 = 8 * BLOCK;
/// The most groups, whose descriptors fill the front.
pub(super) const MOST_GROUPS: u64 = (FRONT - 1) * BLOCK / DESCRIPTOR;
/// Bytes of an inode.
pub(super) const INODE: u64 = 256;
pub(super) const INODES_PER_BLOCK: u64 = BLOCK / INODE;
/// The fewest inodes of a group: one for 16 KiB, as others have it.
const INODES: u64 = GROUP / 4;
/// The inode that a boot loader would lie in: it keeps what is free at the front
/// for the descriptors of groups to come.
pub(super) const KEEPS_FRONT: u64 = 5;
/// The inode of the journal, and its blocks.
const JOURNAL: u64 = 8;
const JOURNAL_BLOCKS: u64 = 4096;
/// The number of the first inode that is not the file system's own.
const FIRST: u64 = 11;
/// Bytes of a group's descriptor.
pub(super) const DESCRIPTOR: u64 = 32;
/// The most blocks that one extent has.
const EXTENT: u64 = 32768;
/// Extents in an inode, and in a block.
const IN_INODE: usize = 4;
const IN_BLOCK: usize = (BLOCK as usize - 12) / 12;
/// The most folders in a folder that are counted.
const MOST_LINKS: u32 = 65_000;
/// Attributes; copies of the superblock only where it says, which is nowhere.
const COMPATIBLE: u32 = 0x8 | 0x200;
/// That, and a journal.
pub(super) const JOURNALED: u32 = COMPATIBLE | 0x4;
/// Kinds in folders, extents, groups that keep nothing to themselves.
pub(super) const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x200;
/// Large files, many folders, large inodes.
pub(super) const READ_ONLY: u32 = 0x2 | 0x20 | 0x40;

/// Where the data of a node lie.
#[derive(Clone, Copy, Default)]
struct Place {
    /// First block and how many.
    data: (u64, u64),
    /// The block of its attributes.
    xattrs: u64,
    /// The first block of extents that its inode has no room for.
    leaves: u64,
}

/// How many there are of what.
struct Shape {
    groups: u64,
    inodes_per_group: u64,
    /// The first block that is no data: of the bitmaps, the inodes come behind.
    meta: u64,
    /// All blocks: those of whole groups where it can grow.
    blocks: u64,
    /// The first block of the journal, where there is one.
    journal: Option<u64>,
}

/// Writes all that is not the content of files, and the superblock; with a journal
/// and room where it is to be `written`.
pub(super) fn write(
    tree: &Tree,
    output: &mut Output,
    uuid: [u8; 16],
    written: bool,
) -> io::Result<()> {
    let layouter = Layouter::new(tree);
    let mut numbers = vec![0; tree.nodes.len()];
    for (number, &id) in (FIRST..).zip(layouter.order.iter().skip(1)) {
        numbers[id] = number;
    }
    numbers[ROOT] = 2;
    let last = FIRST + layouter.order.len() as u64 - 2;
    let mut writer = Writer {
        places: vec![Place::default(); tree.nodes.len()],
        used: Vec::new(),
        layouter,
        numbers,
    };
    writer.use_blocks(0, 1);
    writer.write_data(output)?;
    let journal = match written {
        true => Some(writer.write_journal(output)?),
        false => None,
    };
    let shape = Shape::new(output.at / BLOCK, journal, last).ok_or_else(too_large)?;
    let front = match written {
        true => FRONT - 1,
        false => descriptor_blocks(shape.groups),
    };
    writer.use_blocks(1, front);
    let tables = shape.groups * shape.inodes_per_group / INODES_PER_BLOCK;
    writer.use_blocks(shape.meta, 2 * shape.groups + tables);
    writer.write_meta(output, &shape, last)?;
    output.flush()?;
    output.file.set_len(shape.blocks * BLOCK)?;
    let groups = writer.descriptors(&shape, last);
    output.file.seek(SeekFrom::Start(BLOCK))?;
    output.file.write_all(&groups)?;
    output.file.seek(SeekFrom::Start(1024))?;
    output
        .file
        .write_all(&writer.superblock(&shape, last, uuid))
}

impl Shape {
    /// Finds the fewest groups that hold `data` blocks and inodes up to `last`.
    fn new(data: u64, journal: Option<u64>, last: u64) -> Option<Self> {
        (data.div_ceil(GROUP)..=MOST_GROUPS).find_map(|groups| {
            let each = last.div_ceil(groups).next_multiple_of(INODES_PER_BLOCK);
            let each = each.max(if journal.is_some() { INODES } else { 0 });
            let end = data + groups * (2 + each / INODES_PER_BLOCK);
            (each <= GROUP && end <= groups * GROUP).then_some(Self {
                groups,
                inodes_per_group: each,
                meta: data,
                blocks: match journal {
                    Some(_) => groups * GROUP,
                    // The last group has something.
                    None => end.max((groups - 1) * GROUP + FRONT),
                },
                journal,
            })
        })
    }

    /// Gives the blocks at the front that no descriptor needs yet.
    fn kept(&self) -> (u64, u64) {
        let first = 1 + descriptor_blocks(self.groups);
        (first, FRONT - first)
    }
}

struct Writer<'a> {
    layouter: Layouter<'a>,
    /// The inode of each node.
    numbers: Vec<u64>,
    places: Vec<Place>,
    /// A bit for each block that is used.
    used: Vec<u8>,
}

impl Writer<'_> {
    fn use_blocks(&mut self, first: u64, count: u64) {
        let end = (first + count) as usize;
        let bytes = end.div_ceil(8).max(self.used.len());
        self.used.resize(bytes, 0);
        for block in first as usize..end {
            self.used[block / 8] |= 1 << (block % 8);
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.layouter.tree.nodes[id]
    }

    /// Writes what is not there yet: small files, folders, long links, attributes.
    fn write_data(&mut self, output: &mut Output) -> io::Result<()> {
        output.align()?;
        for at in 0..self.layouter.order.len() {
            let id = self.layouter.order[at];
            let mut place = Place::default();
            let bytes = match &self.node(id).content {
                Content::File { block, size } => {
                    place.data = (u64::from(*block), size.div_ceil(BLOCK));
                    Vec::new()
                }
                Content::Small(bytes) => bytes.clone(),
                Content::Symlink(target) if is_short(target) => Vec::new(),
                Content::Symlink(target) => target.clone(),
                Content::Folder(_) => self.folder(id),
                Content::Fifo => Vec::new(),
            };
            if !bytes.is_empty() {
                place.data = (output.at / BLOCK, (bytes.len() as u64).div_ceil(BLOCK));
                output.write(&bytes)?;
                output.align()?;
            }
            let extents = extents(place.data);
            if extents.len() > IN_INODE {
                place.leaves = output.at / BLOCK;
                let leaves = extents.chunks(IN_BLOCK);
                self.use_blocks(place.leaves, leaves.len() as u64);
                for leaf in leaves {
                    output.write(&header(leaf.len(), IN_BLOCK, 0))?;
                    output.write(&leaf.concat())?;
                    output.align()?;
                }
            }
            if let Some(block) = xattrs(self.node(id))? {
                place.xattrs = output.at / BLOCK;
                self.use_blocks(place.xattrs, 1);
                output.write(&block)?;
            }
            self.use_blocks(place.data.0, place.data.1);
            self.places[id] = place;
        }
        Ok(())
    }

    /// Writes an empty journal (the kernel's Documentation/filesystems/ext4/journal.rst).
    fn write_journal(&mut self, output: &mut Output) -> io::Result<u64> {
        const MAGIC: u32 = 0xc03b_3998;
        /// A superblock of the second kind.
        const KIND: u32 = 4;
        let first = output.at / BLOCK;
        self.use_blocks(first, JOURNAL_BLOCKS);
        // Magic, kind, no number; a block's size, all blocks, the first of the log, the
        // next number, and nothing in it.
        let words = [MAGIC, KIND, 0, BLOCK as u32, JOURNAL_BLOCKS as u32, 1, 1, 0];
        let mut head: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        head.resize(0x40, 0);
        head.extend(1u32.to_be_bytes()); // of one file system
        head.resize(BLOCK as usize, 0);
        output.write(&head)?;
        output.skip((JOURNAL_BLOCKS - 1) * BLOCK)?;
        Ok(first)
    }

    /// Gives the blocks of a folder.
    fn folder(&self, id: NodeId) -> Vec<u8> {
        let parent = self.layouter.parents[id];
        let children = self.layouter.tree.children(id).into_iter().flatten();
        let own: [(&[u8], NodeId); 2] = [(b".", id), (b"..", parent)];
        let names = own
            .into_iter()
            .chain(children.map(|(name, &child)| (&**name, child)));
        let mut out: Vec<u8> = Vec::new();
        let mut last = 0;
        // The last name of a block has all that is left of it.
        let close = |out: &mut Vec<u8>, last: usize| {
            let end = out.len().next_multiple_of(BLOCK as usize);
            let length = (end - last) as u16;
            out.resize(end, 0);
            out[last + 4..last + 6].copy_from_slice(&length.to_le_bytes());
        };
        for (name, child) in names {
            let length = (8 + name.len()).next_multiple_of(4);
            if out.len() % BLOCK as usize + length > BLOCK as usize {
                close(&mut out, last);
            }
            last = out.len();
            out.extend((self.numbers[child] as u32).to_le_bytes());
            out.extend((length as u16).to_le_bytes());
            out.push(name.len() as u8);
            out.push(self.node(child).kind());
            out.extend_from_slice(name);
            out.resize(last + length, 0);
        }
        close(&mut out, last);
        out
    }

    /// Writes the bitmaps and the inodes.
    fn write_meta(&self, output: &mut Output, shape: &Shape, last: u64) -> io::Result<()> {
        for group in 0..shape.groups {
            output.write(&self.block_bitmap(shape, group))?;
        }
        for group in 0..shape.groups {
            let used = used_inodes(shape, group, last);
            output.write(&bitmap(|bit| bit < used || bit >= shape.inodes_per_group))?;
        }
        for number in 1..=last {
            let place = match number {
                2 => Some(0),
                number => number.checked_sub(FIRST).map(|n| n as usize + 1),
            };
            let node = place.and_then(|place| self.layouter.order.get(place));
            let own = shape.journal.and_then(|journal| match number {
                KEEPS_FRONT => Some(shape.kept()),
                JOURNAL => Some((journal, JOURNAL_BLOCKS)),
                _ => None,
            });
            match (own, node) {
                (Some(blocks), _) => output.write(&own_inode(blocks))?,
                (None, Some(&id)) => output.write(&self.inode(id))?,
                (None, None) => output.write(&[0; INODE as usize])?,
            }
        }
        output.skip((shape.groups * shape.inodes_per_group - last) * INODE)
    }

    fn block_bitmap(&self, shape: &Shape, group: u64) -> Vec<u8> {
        let used = |block: u64| {
            let byte = self.used.get(block as usize / 8).unwrap_or(&0);
            byte & (1 << (block % 8)) != 0
        };
        bitmap(|bit| {
            let block = group * GROUP + bit;
            block >= shape.blocks || used(block)
        })
    }

    fn inode(&self, id: NodeId) -> Vec<u8> {
        let node = self.node(id);
        let place = &self.places[id];
        let (mode, links) = self.layouter.mode_and_links(id);
        let links = match links {
            many if many > MOST_LINKS => 1,
            links => links,
        };
        let size = match &node.content {
            Content::File { size, .. } => *size,
            Content::Small(bytes) | Content::Symlink(bytes) => bytes.len() as u64,
            Content::Folder(_) => place.data.1 * BLOCK,
            Content::Fifo => 0,
        };
        let extents = extents(place.data);
        let leaves = match place.leaves {
            0 => 0,
            _ => extents.len().div_ceil(IN_BLOCK),
        };
        let blocks = place.data.1 + leaves as u64 + u64::from(place.xattrs > 0);
        let mut flags = 0u32;
        let mut body = Vec::with_capacity(60);
        match &node.content {
            Content::Fifo => {}
            Content::Symlink(target) if is_short(target) => body.extend_from_slice(target),
            _ => {
                flags = 0x80000;
                match place.leaves {
                    0 => {
                        body.extend(header(extents.len(), IN_INODE, 0));
                        body.extend(extents.concat());
                    }
                    first => {
                        body.extend(header(leaves, IN_INODE, 1));
                        for leaf in 0..leaves {
                            let file_block = (leaf * IN_BLOCK) as u64 * EXTENT;
                            body.extend((file_block as u32).to_le_bytes());
                            body.extend((first as u32 + leaf as u32).to_le_bytes());
                            body.extend([0; 4]);
                        }
                    }
                }
            }
        }
        body.resize(60, 0);
        let (seconds, nanoseconds) = node.meta.mtime;
        let low = seconds as i32;
        let epoch = ((seconds - i64::from(low)) >> 32) as u32 & 3;
        let extra = nanoseconds << 2 | epoch;
        let mut out = Vec::with_capacity(INODE as usize);
        let half = |out: &mut Vec<u8>, n: u32| out.extend((n as u16).to_le_bytes());
        let word = |out: &mut Vec<u8>, n: u32| out.extend(n.to_le_bytes());
        half(&mut out, mode);
        half(&mut out, node.meta.uid);
        word(&mut out, size as u32);
        for _ in 0..3 {
            word(&mut out, low.cast_unsigned());
        }
        word(&mut out, 0); // never removed
        half(&mut out, node.meta.gid);
        half(&mut out, links);
        word(&mut out, (blocks * BLOCK / 512) as u32);
        word(&mut out, flags);
        word(&mut out, 0);
        out.extend(body);
        word(&mut out, 0); // of no generation
        word(&mut out, place.xattrs as u32);
        word(&mut out, (size >> 32) as u32);
        word(&mut out, 0);
        half(&mut out, 0);
        half(&mut out, 0);
        half(&mut out, node.meta.uid >> 16);
        half(&mut out, node.meta.gid >> 16);
        word(&mut out, 0);
        half(&mut out, 32); // bytes that follow the first 128
        half(&mut out, 0);
        for _ in 0..3 {
            word(&mut out, extra);
        }
        word(&mut out, low.cast_unsigned());
        word(&mut out, extra);
        out.resize(INODE as usize, 0);
        out
    }

    fn descriptors(&self, shape: &Shape, last: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let tables = shape.meta + 2 * shape.groups;
        for group in 0..shape.groups {
            let table = tables + group * shape.inodes_per_group / INODES_PER_BLOCK;
            let zeros: u32 = self
                .block_bitmap(shape, group)
                .iter()
                .map(|b| b.count_zeros())
                .sum();
            let used = used_inodes(shape, group, last);
            let first = group * shape.inodes_per_group + 1;
            let range = first..first + shape.inodes_per_group;
            let folders = self.layouter.order.iter().filter(|&&id| {
                let folder = self.layouter.tree.children(id).is_some();
                folder && range.contains(&self.numbers[id])
            });
            for block in [shape.meta + group, shape.meta + shape.groups + group, table] {
                out.extend((block as u32).to_le_bytes());
            }
            let free = shape.inodes_per_group - used;
            for count in [u64::from(zeros), free, folders.count() as u64] {
                out.extend((count as u16).to_le_bytes());
            }
            out.resize(out.len().next_multiple_of(DESCRIPTOR as usize), 0);
        }
        out
    }

    fn superblock(&self, shape: &Shape, last: u64, uuid: [u8; 16]) -> Vec<u8> {
        let groups = 0..shape.groups;
        let zeros = |group| -> u64 {
            let map = self.block_bitmap(shape, group);
            map.iter().map(|byte| u64::from(byte.count_zeros())).sum()
        };
        let free: u64 = groups.map(zeros).sum();
        let inodes = shape.groups * shape.inodes_per_group;
        let mut out = vec![0; 1024];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let log = BLOCK.trailing_zeros() - 10;
        for (at, value) in [
            (0x00, inodes as u32),
            (0x04, shape.blocks as u32),
            (0x0c, free as u32),
            (0x10, (inodes - last) as u32),
            (0x18, log),
            (0x1c, log),
            (0x20, GROUP as u32),
            (0x24, GROUP as u32),
            (0x28, shape.inodes_per_group as u32),
            (0x4c, 1), // inodes have a size
            (0x54, FIRST as u32),
            (0x5c, COMPATIBLE),
            (0x60, INCOMPATIBLE),
            (0x64, READ_ONLY),
        ] {
            put(at, &value.to_le_bytes());
        }
        if let Some(journal) = shape.journal {
            put(0x5c, &JOURNALED.to_le_bytes());
            put(0xe0, &(JOURNAL as u32).to_le_bytes());
            // What its inode says, where a checker finds it without that.
            put(0x10c, &own_inode((journal, JOURNAL_BLOCKS))[40..100]);
            put(0x150, &((JOURNAL_BLOCKS * BLOCK) as u32).to_le_bytes());
            put(0xfd, &[1]);
        }
        for (at, value) in [
            (0x36, u16::MAX), // checked after no number of mounts
            (0x38, 0xef53),
            (0x3a, 1), // clean
            (0x3c, 1), // goes on after errors
            (0x58, INODE as u16),
            (0x15c, 32),
            (0x15e, 32),
        ] {
            put(at, &value.to_le_bytes());
        }
        put(0x68, &uuid);
        put(0x174, &[4]); // groups that are together: 16
        out
    }
}

/// Blocks that the descriptors of so many groups take.
pub(super) fn descriptor_blocks(groups: u64) -> u64 {
    (groups * DESCRIPTOR).div_ceil(BLOCK)
}

/// Gives an inode of the file system's own, with blocks that lie together.
pub(super) fn own_inode((first, count): (u64, u64)) -> Vec<u8> {
    let mut out = vec![0; INODE as usize];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0x8180u16.to_le_bytes()); // a file that is its owner's
    put(4, &((count * BLOCK) as u32).to_le_bytes());
    put(26, &1u16.to_le_bytes()); // with one name
    put(28, &((count * BLOCK / 512) as u32).to_le_bytes());
    put(32, &0x80000u32.to_le_bytes()); // in extents
    let extents = extents((first, count));
    put(40, &header(extents.len(), IN_INODE, 0));
    put(52, &extents.concat());
    put(128, &32u16.to_le_bytes());
    out
}

/// Gives the bitmap of which so many are used, at the front.
pub(super) fn first_used(used: u64) -> Vec<u8> {
    bitmap(|bit| bit < used)
}

/// Gives the bitmap of inodes, of which none is used and so many are there.
pub(super) fn none_used(inodes: u64) -> Vec<u8> {
    bitmap(|bit| bit >= inodes)
}

/// Inodes of a group that are used, or the file system's own: they come first.
fn used_inodes(shape: &Shape, group: u64, last: u64) -> u64 {
    let before = group * shape.inodes_per_group;
    last.saturating_sub(before).min(shape.inodes_per_group)
}

fn bitmap(is_set: impl Fn(u64) -> bool) -> Vec<u8> {
    let byte = |at: u64| (0..8).fold(0, |byte, bit| byte | u8::from(is_set(at * 8 + bit)) << bit);
    (0..BLOCK).map(byte).collect()
}

/// A link that its inode has room for.
fn is_short(target: &[u8]) -> bool {
    target.len() < 60
}

fn header(entries: usize, most: usize, depth: u16) -> Vec<u8> {
    let numbers = [0xf30a, entries as u16, most as u16, depth, 0, 0];
    numbers.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// Gives the pieces of data that lie one behind the other.
fn extents((first, count): (u64, u64)) -> Vec<[u8; 12]> {
    let pieces = (0..count).step_by(EXTENT as usize);
    pieces
        .map(|at| {
            let mut out = [0; 12];
            out[..4].copy_from_slice(&(at as u32).to_le_bytes());
            out[4..6].copy_from_slice(&((count - at).min(EXTENT) as u16).to_le_bytes());
            out[8..].copy_from_slice(&((first + at) as u32).to_le_bytes());
            out
        })
        .collect()
}

/// Gives the block of a node's attributes, where it has some.
fn xattrs(node: &Node) -> io::Result<Option<Vec<u8>>> {
    let known = node.meta.xattrs.iter();
    let mut known: Vec<_> = known
        .filter_map(|(name, value)| Some((xattr_prefix(name)?, value)))
        .collect();
    if known.is_empty() {
        return Ok(None);
    }
    known.sort_by_key(|((prefix, name), _)| (*prefix, name.len(), *name));
    let mut out = vec![0; BLOCK as usize];
    let (mut at, mut end) = (32, BLOCK as usize);
    let mut whole = 0u32;
    for ((prefix, name), value) in known {
        let entry = (16 + name.len()).next_multiple_of(4);
        let padded = value.len().next_multiple_of(4);
        // Four zeros end the list.
        if at + entry + 4 + padded > end {
            return Err(too_large());
        }
        end -= padded;
        out[end..end + value.len()].copy_from_slice(value);
        let hash = name
            .iter()
            .fold(0u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
        let words = out[end..end + padded].chunks(4);
        let hash = words.fold(hash, |hash, word| {
            let word = word
                .first_chunk()
                .map_or(0, |word| u32::from_le_bytes(*word));
            hash.rotate_left(16) ^ word
        });
        whole = whole.rotate_left(16) ^ hash;
        let place = if value.is_empty() { 0 } else { end as u16 };
        let mut head = vec![name.len() as u8, prefix];
        head.extend(place.to_le_bytes());
        head.extend([0; 4]);
        head.extend((value.len() as u32).to_le_bytes());
        head.extend(hash.to_le_bytes());
        head.extend_from_slice(name);
        out[at..at + head.len()].copy_from_slice(&head);
        at += entry;
    }
    for (at, number) in [(0, 0xea02_0000), (4, 1), (8, 1), (12, whole)] {
        out[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
    }
    Ok(Some(out))
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "more than ext4 can hold here")
}
