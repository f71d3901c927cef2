//! Lays out inodes and folders, and writes them behind the data.

use std::io::{self, Seek, SeekFrom, Write};

use super::tree::{Content, Node, NodeId, ROOT, Tree};
use super::{BLOCK, Output};

/// Inodes are numbered in units of this many bytes.
const SLOT: u64 = 32;
/// Bytes of a long inode.
const INODE: u64 = 64;
/// Bytes of a folder's entry, without its name.
const DIRENT: usize = 12;
/// Bytes of the head of an inode's attributes.
const XATTR_HEAD: usize = 12;

const MAGIC: u32 = 0xe0f5_e1e2;
/// Times are those of the files (`EROFS_FEATURE_COMPAT_MTIME`).
const COMPAT_MTIME: u32 = 2;

/// How the data of an inode lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// In blocks of its own.
    Plain = 0,
    /// Behind the inode, all in one block.
    Inline = 2,
}

/// Where a node goes.
struct Place {
    /// Its number.
    nid: u64,
    layout: Layout,
    /// First block of its data, when plain.
    block: u32,
}

/// A name in a folder and what it stands for.
type Named<'a> = (&'a [u8], NodeId);

pub(super) struct Layouter<'a> {
    pub(super) tree: &'a Tree,
    places: Vec<Option<Place>>,
    /// Nodes that have a name, the parents before what is in them.
    pub(super) order: Vec<NodeId>,
    pub(super) parents: Vec<NodeId>,
}

/// Writes all that is not the content of files, and the superblock.
pub(super) fn write(tree: &Tree, output: &mut Output, uuid: [u8; 16]) -> io::Result<()> {
    let mut layouter = Layouter::new(tree);
    output.align()?;
    let meta_block = output.at / BLOCK;
    let end = layouter.place(meta_block)?;
    layouter.write_meta(output, meta_block)?;
    output.align()?;
    layouter.write_folders(output)?;
    output.align()?;
    output.flush()?;
    debug_assert_eq!(output.at, end);
    // The last block may be a hole so far.
    output.file.set_len(output.at)?;
    let inodes = layouter.order.len() as u64;
    let root = layouter.nid(ROOT)?;
    let blocks = output.at / BLOCK;
    let superblock = superblock(inodes, root, blocks, meta_block, uuid)?;
    output.file.seek(SeekFrom::Start(1024))?;
    output.file.write_all(&superblock)
}

fn superblock(
    inodes: u64,
    root: u64,
    blocks: u64,
    meta_block: u64,
    uuid: [u8; 16],
) -> io::Result<Vec<u8>> {
    let narrow = |n: u64| u32::try_from(n).map_err(|_| too_large());
    let mut out = Vec::with_capacity(128);
    out.extend(MAGIC.to_le_bytes());
    out.extend(0u32.to_le_bytes()); // no checksum: the kernel does not ask for one
    out.extend(COMPAT_MTIME.to_le_bytes());
    out.extend([BLOCK.trailing_zeros() as u8, 0]);
    out.extend(u16::try_from(root).map_err(|_| too_large())?.to_le_bytes());
    out.extend(inodes.to_le_bytes());
    out.extend(0u64.to_le_bytes()); // made at: the same image is the same file
    out.extend(0u32.to_le_bytes());
    out.extend(narrow(blocks)?.to_le_bytes());
    out.extend(narrow(meta_block)?.to_le_bytes());
    out.extend(0u32.to_le_bytes()); // no shared attributes
    out.extend(uuid);
    out.extend([0; 16]); // no label
    out.extend(0u32.to_le_bytes()); // nothing that an old kernel could not read
    out.resize(128, 0);
    Ok(out)
}

impl<'a> Layouter<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        let mut layouter = Self {
            tree,
            places: std::iter::repeat_with(|| None)
                .take(tree.nodes.len())
                .collect(),
            order: Vec::new(),
            parents: vec![ROOT; tree.nodes.len()],
        };
        layouter.gather();
        layouter
    }

    /// Finds all nodes that have a name. The root is the first: its number has 16 bits.
    fn gather(&mut self) {
        let mut seen = vec![false; self.tree.nodes.len()];
        seen[ROOT] = true;
        self.order.push(ROOT);
        let mut next = 0;
        while let Some(&node) = self.order.get(next) {
            next += 1;
            for &child in self.tree.children(node).into_iter().flatten().map(|c| c.1) {
                if !seen[child] {
                    seen[child] = true;
                    self.parents[child] = node;
                    self.order.push(child);
                }
            }
        }
    }

    /// Gives every node its place, and says where all of it ends.
    fn place(&mut self, meta_block: u64) -> io::Result<u64> {
        // Number 0 is kept free: programs take an inode 0 for a deleted name.
        let mut at = INODE;
        let mut folders = Vec::new();
        for &id in &self.order {
            let node = &self.tree.nodes[id];
            let head = INODE + xattr_size(node) as u64;
            let (layout, tail) = match &node.content {
                Content::File { .. } | Content::Fifo => (Layout::Plain, 0),
                Content::Small(bytes) | Content::Symlink(bytes) => {
                    (Layout::Inline, bytes.len() as u64)
                }
                Content::Folder(_) => (Layout::Inline, self.folder_size(id)),
            };
            let (layout, tail) = match layout {
                // What does not fit into a block beside its inode gets blocks.
                Layout::Inline if tail == 0 || head + tail > BLOCK => (Layout::Plain, 0),
                layout => (layout, tail),
            };
            if layout == Layout::Inline && at % BLOCK + head + tail > BLOCK {
                at = at.next_multiple_of(BLOCK);
            }
            let mut block = 0;
            match &node.content {
                Content::File { block: first, .. } => block = *first,
                Content::Fifo => {}
                _ if layout == Layout::Plain => folders.push(id),
                _ => {}
            }
            self.places[id] = Some(Place {
                nid: at / SLOT,
                layout,
                block,
            });
            at = (at + head + tail).next_multiple_of(SLOT);
        }
        let mut block = meta_block + at.div_ceil(BLOCK);
        for id in folders {
            let size = self.data_size(id);
            if let Some(place) = &mut self.places[id]
                && size > 0
            {
                place.block = u32::try_from(block).map_err(|_| too_large())?;
                block += size.div_ceil(BLOCK);
            }
        }
        Ok(block * BLOCK)
    }

    fn write_meta(&self, output: &mut Output, meta_block: u64) -> io::Result<()> {
        let base = meta_block * BLOCK;
        for &id in &self.order {
            let place = self.place_of(id)?;
            output.skip(base + place.nid * SLOT - output.at)?;
            let node = &self.tree.nodes[id];
            output.write(&self.inode(id, node, place))?;
            output.write(&xattrs(node))?;
            if place.layout == Layout::Inline {
                output.write(&self.data(id)?)?;
            }
        }
        Ok(())
    }

    /// Writes the data of folders and links that have blocks of their own.
    fn write_folders(&self, output: &mut Output) -> io::Result<()> {
        for &id in &self.order {
            let own = !matches!(
                self.tree.nodes[id].content,
                Content::File { .. } | Content::Fifo
            );
            if own && self.place_of(id)?.layout == Layout::Plain {
                output.write(&self.data(id)?)?;
                output.align()?;
            }
        }
        Ok(())
    }

    /// Gives what a node is with who may use it, and how many names it has.
    pub(super) fn mode_and_links(&self, id: NodeId) -> (u32, u32) {
        let node = &self.tree.nodes[id];
        let kind: u32 = match node.content {
            Content::File { .. } | Content::Small(_) => 0o100_000,
            Content::Folder(_) => 0o040_000,
            Content::Symlink(_) => 0o120_000,
            Content::Fifo => 0o010_000,
        };
        let mode = match node.content {
            Content::Symlink(_) => 0o777,
            _ => node.meta.mode,
        };
        // A folder is named by itself and by each folder in it.
        let links = match &node.content {
            Content::Folder(children) => {
                let folders = children
                    .values()
                    .filter(|&&c| self.tree.children(c).is_some());
                2 + folders.count() as u32
            }
            _ => node.links,
        };
        (kind | mode, links)
    }

    fn inode(&self, id: NodeId, node: &Node, place: &Place) -> Vec<u8> {
        let (mode, links) = self.mode_and_links(id);
        let size = match node.content {
            Content::File { size, .. } => size,
            Content::Fifo => 0,
            _ => self.data_size(id),
        };
        let xattr_count = match xattr_size(node) {
            0 => 0,
            size => ((size - XATTR_HEAD) / 4 + 1) as u16,
        };
        let mut out = Vec::with_capacity(INODE as usize);
        out.extend((1 | (place.layout as u16) << 1).to_le_bytes());
        out.extend(xattr_count.to_le_bytes());
        out.extend((mode as u16).to_le_bytes());
        out.extend(0u16.to_le_bytes());
        out.extend(size.to_le_bytes());
        out.extend(place.block.to_le_bytes());
        out.extend((place.nid as u32).to_le_bytes());
        out.extend(node.meta.uid.to_le_bytes());
        out.extend(node.meta.gid.to_le_bytes());
        out.extend(node.meta.mtime.0.to_le_bytes());
        out.extend(node.meta.mtime.1.to_le_bytes());
        out.extend(links.to_le_bytes());
        out.resize(INODE as usize, 0);
        out
    }

    fn data(&self, id: NodeId) -> io::Result<Vec<u8>> {
        match &self.tree.nodes[id].content {
            Content::Small(bytes) | Content::Symlink(bytes) => Ok(bytes.clone()),
            Content::Folder(_) => self.folder(id),
            Content::File { .. } | Content::Fifo => Ok(Vec::new()),
        }
    }

    fn data_size(&self, id: NodeId) -> u64 {
        match &self.tree.nodes[id].content {
            Content::Small(bytes) | Content::Symlink(bytes) => bytes.len() as u64,
            Content::Folder(_) => self.folder_size(id),
            Content::File { .. } | Content::Fifo => 0,
        }
    }

    /// Gives a folder's names in the order of their bytes, with `.` and `..`.
    fn names(&self, id: NodeId) -> Vec<Named<'_>> {
        let children = self.tree.children(id).into_iter().flatten();
        let mut names: Vec<Named<'_>> = children.map(|(n, &id)| (&**n, id)).collect();
        names.push((b".", id));
        names.push((b"..", self.parents[id]));
        names.sort_unstable();
        names
    }

    /// Splits names into blocks, and says how many bytes of each are used.
    fn blocks<'n>(names: &'n [Named<'n>]) -> Vec<(&'n [Named<'n>], usize)> {
        let mut out = Vec::new();
        let (mut start, mut used) = (0, 0);
        for (at, (name, _)) in names.iter().enumerate() {
            let need = DIRENT + name.len();
            if used + need > BLOCK as usize {
                out.push((&names[start..at], used));
                (start, used) = (at, 0);
            }
            used += need;
        }
        out.push((&names[start..], used));
        out
    }

    fn folder_size(&self, id: NodeId) -> u64 {
        let names = self.names(id);
        let blocks = Self::blocks(&names);
        let last = blocks.last().map_or(0, |(_, used)| *used as u64);
        (blocks.len() as u64 - 1) * BLOCK + last
    }

    fn folder(&self, id: NodeId) -> io::Result<Vec<u8>> {
        let names = self.names(id);
        let mut out = Vec::new();
        for (block, _) in Self::blocks(&names) {
            // Every block but the last is filled up with zeros.
            out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
            let mut name_at = block.len() * DIRENT;
            for (name, child) in block {
                out.extend(self.nid(*child)?.to_le_bytes());
                out.extend((name_at as u16).to_le_bytes());
                out.push(self.tree.nodes[*child].kind());
                out.push(0);
                name_at += name.len();
            }
            for (name, _) in block {
                out.extend_from_slice(name);
            }
        }
        Ok(out)
    }

    fn place_of(&self, id: NodeId) -> io::Result<&Place> {
        self.places[id]
            .as_ref()
            .ok_or_else(|| io::Error::other("a name stands for nothing"))
    }

    fn nid(&self, id: NodeId) -> io::Result<u64> {
        self.place_of(id).map(|place| place.nid)
    }
}

/// Splits an attribute's name into the number of its prefix and the rest.
pub(super) fn xattr_prefix(name: &[u8]) -> Option<(u8, &[u8])> {
    let prefixes: [(u8, &[u8]); 2] = [(1, b"user."), (6, b"security.")];
    prefixes
        .iter()
        .find_map(|&(number, prefix)| Some((number, name.strip_prefix(prefix)?)))
}

fn xattrs(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in &node.meta.xattrs {
        let Some((prefix, rest)) = xattr_prefix(name) else {
            continue;
        };
        if out.is_empty() {
            out.resize(XATTR_HEAD, 0);
        }
        let entry = 4 + rest.len() + value.len();
        // The count of an inode's attributes has 16 bits, in units of four bytes.
        if (out.len() + entry - XATTR_HEAD).div_ceil(4) > 0xfffe {
            break;
        }
        out.push(rest.len() as u8);
        out.push(prefix);
        out.extend((value.len() as u16).to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn xattr_size(node: &Node) -> usize {
    xattrs(node).len()
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "more than EROFS can hold")
}
