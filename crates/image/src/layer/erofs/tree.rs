//! The names of an image in memory, changed by one layer after the other.

use std::collections::{BTreeMap, HashSet};

use crate::layer::tar::Entry;
use crate::layer::{LayerError, MAX_TREE, components, keeps_xattr, to_path};

/// The most links that are followed in one name, as in Linux.
const MAX_LINKS: usize = 40;
/// What a node takes of memory beside its name and content, in bytes.
const NODE: u64 = 200;

/// Which node.
pub(super) type NodeId = usize;

pub(super) const ROOT: NodeId = 0;

/// A file system object.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) meta: Meta,
    /// Names that it has.
    pub(super) links: u32,
    /// The last layer that had something to say of it or of what is in it.
    layer: u32,
    /// The last layer since which nothing older is in it.
    cleared: u32,
}

impl Node {
    /// The number by which folders say what it is, in both forms.
    pub(super) fn kind(&self) -> u8 {
        match self.content {
            Content::File { .. } | Content::Small(_) => 1,
            Content::Folder(_) => 2,
            Content::Fifo => 5,
            Content::Symlink(_) => 7,
        }
    }
}

/// What an inode says besides its content.
#[derive(Debug, Clone, Default)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    /// The bytes of its attributes.
    fn size(&self) -> usize {
        let one = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len();
        self.xattrs.iter().map(one).sum()
    }
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Content {
    /// A file with blocks of its own: the first of them and its bytes.
    File {
        block: u32,
        size: u64,
    },
    /// A file that lies beside its inode.
    Small(Vec<u8>),
    Folder(BTreeMap<Box<[u8]>, NodeId>),
    Symlink(Vec<u8>),
    Fifo,
}

/// All names and what they stand for. Nodes are never moved, so one that lost
/// its last name stays, unreached.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    layer: u32,
    /// The memory that all of it takes, about.
    bytes: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node {
            content: Content::Folder(BTreeMap::new()),
            meta: implicit(),
            links: 1,
            layer: 0,
            cleared: 0,
        };
        Self {
            nodes: vec![root],
            layer: 0,
            bytes: 0,
        }
    }

    pub(super) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    pub(super) fn children(&self, node: NodeId) -> Option<&BTreeMap<Box<[u8]>, NodeId>> {
        match &self.nodes[node].content {
            Content::Folder(children) => Some(children),
            _ => None,
        }
    }

    fn children_mut(&mut self, node: NodeId) -> Option<&mut BTreeMap<Box<[u8]>, NodeId>> {
        match &mut self.nodes[node].content {
            Content::Folder(children) => Some(children),
            _ => None,
        }
    }

    /// Adds what an entry describes, in place of what had its name; only a
    /// folder over a folder keeps what is inside.
    pub(super) fn insert(
        &mut self,
        parts: &[&[u8]],
        entry: &Entry,
        content: Content,
    ) -> Result<(), LayerError> {
        let meta = Meta {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry
                .xattrs
                .iter()
                // A value's size has 16 bits, and the kernel has 64 KiB as its limit too.
                .filter(|(name, value)| keeps_xattr(name) && value.len() <= 0xffff)
                .cloned()
                .collect(),
        };
        let is_folder = matches!(content, Content::Folder(_));
        let Some((&name, parents)) = parts.split_last() else {
            if is_folder {
                self.nodes[ROOT].meta = meta;
                return Ok(());
            }
            return Err(LayerError::Outside(to_path(&entry.path)));
        };
        let parent = self.make_folder(parents, &entry.path)?;
        if is_folder
            && let Some(old) = self.lookup(parent, name)
            && self.children(old).is_some()
        {
            self.charge(meta.size())?;
            self.nodes[old].meta = meta;
            self.nodes[old].layer = self.layer;
            return Ok(());
        }
        let node = self.push(content, meta, name)?;
        self.put(parent, name, node);
        Ok(())
    }

    /// Gives a second name to what the entry links to.
    pub(super) fn hard_link(&mut self, parts: &[&[u8]], entry: &Entry) -> Result<(), LayerError> {
        let missing = || LayerError::HardLink {
            path: to_path(&entry.path),
            target: to_path(&entry.link),
        };
        let target = components(&entry.link)?;
        let (&last, parents) = target.split_last().ok_or_else(missing)?;
        let from = self.find(parents).ok_or_else(missing)?;
        let node = self.lookup(from, last).ok_or_else(missing)?;
        if self.children(node).is_some() {
            return Err(missing());
        }
        let (&name, parents) = parts.split_last().ok_or_else(missing)?;
        let parent = self.make_folder(parents, &entry.path)?;
        if self.lookup(parent, name) == Some(node) {
            return Ok(());
        }
        self.charge(name.len())?;
        self.nodes[node].links += 1;
        self.nodes[node].layer = self.layer;
        self.put(parent, name, node);
        Ok(())
    }

    /// Removes what lower layers have under a name.
    pub(super) fn whiteout(&mut self, parts: &[&[u8]], path: &[u8]) -> Result<(), LayerError> {
        let Some((&name, parents)) = parts.split_last() else {
            return self.opaque(&[], path);
        };
        let Some(parent) = self.find(parents) else {
            return Ok(());
        };
        let Some(node) = self.lookup(parent, name) else {
            return Ok(());
        };
        if self.nodes[node].layer == self.layer {
            // This layer has put something there too, which stays.
            self.drop_lower(node);
        } else {
            self.remove(parent, name);
        }
        Ok(())
    }

    /// Removes what lower layers have in a folder.
    pub(super) fn opaque(&mut self, parts: &[&[u8]], path: &[u8]) -> Result<(), LayerError> {
        let folder = self.make_folder(parts, path)?;
        self.drop_lower(folder);
        Ok(())
    }

    fn drop_lower(&mut self, folder: NodeId) {
        let layer = self.layer;
        let mut todo = vec![folder];
        while let Some(folder) = todo.pop() {
            // A layer that says it again and again must not have all gone through each time.
            if std::mem::replace(&mut self.nodes[folder].cleared, layer) == layer {
                continue;
            }
            let Some(children) = self.children(folder) else {
                continue;
            };
            let (kept, gone): (Vec<_>, Vec<_>) = children
                .iter()
                .map(|(name, &node)| (name.clone(), node))
                .partition(|&(_, node)| self.nodes[node].layer == layer);
            for (name, _) in gone {
                self.remove(folder, &name);
            }
            todo.extend(kept.into_iter().map(|(_, node)| node));
        }
    }

    /// Finds a folder by its name, through links, and makes what is missing,
    /// but nothing where a link leads. All folders on the way count as changed
    /// by this layer.
    fn make_folder(&mut self, parts: &[&[u8]], path: &[u8]) -> Result<NodeId, LayerError> {
        let refused = || LayerError::NotAFolder(to_path(path));
        let mut way = Way::new(parts);
        while let Some((part, linked)) = way.next() {
            let here = way.here();
            let Some(next) = self.lookup(here, &part) else {
                if linked {
                    return Err(refused());
                }
                let node = self.push(Content::Folder(BTreeMap::new()), implicit(), &part)?;
                self.put(here, &part, node);
                way.folders.push(node);
                continue;
            };
            match &self.nodes[next].content {
                Content::Folder(_) => {
                    self.nodes[next].layer = self.layer;
                    way.folders.push(next);
                }
                Content::Symlink(target) => way.follow(target).ok_or_else(refused)?,
                _ => return Err(refused()),
            }
        }
        Ok(way.here())
    }

    /// Finds a folder by its name, through links.
    fn find(&self, parts: &[&[u8]]) -> Option<NodeId> {
        let mut way = Way::new(parts);
        while let Some((part, _)) = way.next() {
            let next = self.lookup(way.here(), &part)?;
            match &self.nodes[next].content {
                Content::Folder(_) => way.folders.push(next),
                Content::Symlink(target) => way.follow(target)?,
                _ => return None,
            }
        }
        Some(way.here())
    }

    fn lookup(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        self.children(folder)?.get(name).copied()
    }

    fn push(&mut self, content: Content, meta: Meta, name: &[u8]) -> Result<NodeId, LayerError> {
        let own = match &content {
            Content::Small(bytes) | Content::Symlink(bytes) => bytes.len(),
            _ => 0,
        };
        self.charge(name.len() + own + meta.size())?;
        self.nodes.push(Node {
            content,
            meta,
            links: 1,
            layer: self.layer,
            cleared: self.layer,
        });
        Ok(self.nodes.len() - 1)
    }

    /// Counts what is kept in memory.
    fn charge(&mut self, bytes: usize) -> Result<(), LayerError> {
        self.bytes += NODE + bytes as u64;
        match self.bytes {
            0..=MAX_TREE => Ok(()),
            _ => Err(LayerError::Names),
        }
    }

    fn put(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        self.remove(parent, name);
        if let Some(children) = self.children_mut(parent) {
            children.insert(name.into(), node);
        }
    }

    /// Takes a name away, and with it all that was only reached through it.
    fn remove(&mut self, parent: NodeId, name: &[u8]) {
        let gone = self.children_mut(parent).and_then(|c| c.remove(name));
        let mut todo: Vec<NodeId> = gone.into_iter().collect();
        while let Some(node) = todo.pop() {
            self.nodes[node].links -= 1;
            if let Some(children) = self.children_mut(node) {
                todo.extend(std::mem::take(children).into_values());
            }
        }
    }

    /// Gives the first blocks of all files that have a name.
    pub(super) fn live_blocks(&self) -> HashSet<u32> {
        let live = |node: &Node| match node.content {
            Content::File { block, .. } if node.links > 0 => Some(block),
            _ => None,
        };
        self.nodes.iter().filter_map(live).collect()
    }
}

/// A name that is being walked, folder by folder.
struct Way {
    folders: Vec<NodeId>,
    /// What is left of the name, the next part last, and whether a link brought it.
    todo: Vec<(Vec<u8>, bool)>,
    links: usize,
}

impl Way {
    fn new(parts: &[&[u8]]) -> Self {
        Self {
            folders: vec![ROOT],
            todo: parts.iter().rev().map(|p| (p.to_vec(), false)).collect(),
            links: 0,
        }
    }

    fn here(&self) -> NodeId {
        *self.folders.last().unwrap_or(&ROOT)
    }

    /// Gives the next part to look up, and whether a link brought it.
    fn next(&mut self) -> Option<(Vec<u8>, bool)> {
        loop {
            let next = self.todo.pop()?;
            if next.0 != b".." {
                return Some(next);
            }
            if self.folders.len() > 1 {
                self.folders.pop();
            }
        }
    }

    /// Puts a link's target in place of its name; nothing after too many links.
    fn follow(&mut self, target: &[u8]) -> Option<()> {
        self.links += 1;
        if target.starts_with(b"/") {
            self.folders.truncate(1);
        }
        let parts = target.rsplit(|&b| b == b'/');
        let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
        self.todo.extend(parts.map(|part| (part.to_vec(), true)));
        (self.links <= MAX_LINKS).then_some(())
    }
}

/// What a folder is that no layer describes.
fn implicit() -> Meta {
    Meta {
        mode: 0o755,
        ..Meta::default()
    }
}
