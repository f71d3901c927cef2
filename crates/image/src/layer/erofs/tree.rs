//! The names of an image in memory, changed by one layer after the other.

use std::collections::{BTreeMap, HashSet};

use crate::layer::tar::Entry;
use crate::layer::{LayerError, components, keeps_xattr, to_path};

/// The most links that are followed in one name, as in Linux.
const MAX_LINKS: usize = 40;
/// The most names in a tree: each takes about 200 bytes of memory.
const MAX_NODES: usize = 20_000_000;

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
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node {
            content: Content::Folder(BTreeMap::new()),
            meta: implicit(),
            links: 1,
            layer: 0,
        };
        Self {
            nodes: vec![root],
            layer: 0,
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
            self.nodes[old].meta = meta;
            self.nodes[old].layer = self.layer;
            return Ok(());
        }
        let node = self.push(content, meta)?;
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
        let mut todo = vec![folder];
        while let Some(folder) = todo.pop() {
            let layer = self.layer;
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

    /// Finds a folder by its name, through links, and makes what is missing.
    /// All folders on the way count as changed by this layer.
    fn make_folder(&mut self, parts: &[&[u8]], path: &[u8]) -> Result<NodeId, LayerError> {
        let refused = || LayerError::NotAFolder(to_path(path));
        let mut way = vec![ROOT];
        let mut todo: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let here = *way.last().unwrap_or(&ROOT);
            if part == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(next) = self.lookup(here, &part) else {
                let node = self.push(Content::Folder(BTreeMap::new()), implicit())?;
                self.put(here, &part, node);
                way.push(node);
                continue;
            };
            match &self.nodes[next].content {
                Content::Folder(_) => {
                    self.nodes[next].layer = self.layer;
                    way.push(next);
                }
                Content::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(refused());
                    }
                    follow(target, &mut way, &mut todo);
                }
                _ => return Err(refused()),
            }
        }
        Ok(*way.last().unwrap_or(&ROOT))
    }

    /// Finds a folder by its name, through links.
    fn find(&self, parts: &[&[u8]]) -> Option<NodeId> {
        let mut way = vec![ROOT];
        let mut todo: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let next = self.lookup(*way.last()?, &part)?;
            match &self.nodes[next].content {
                Content::Folder(_) => way.push(next),
                Content::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    follow(target, &mut way, &mut todo);
                }
                _ => return None,
            }
        }
        way.last().copied()
    }

    fn lookup(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        self.children(folder)?.get(name).copied()
    }

    fn push(&mut self, content: Content, meta: Meta) -> Result<NodeId, LayerError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(LayerError::Entries(MAX_NODES as u64));
        }
        self.nodes.push(Node {
            content,
            meta,
            links: 1,
            layer: self.layer,
        });
        Ok(self.nodes.len() - 1)
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

/// Puts a link's target in place of its name.
fn follow(target: &[u8], way: &mut Vec<NodeId>, todo: &mut Vec<Vec<u8>>) {
    if target.starts_with(b"/") {
        way.truncate(1);
    }
    let parts = target.split(|&b| b == b'/');
    let parts: Vec<_> = parts.filter(|p| !matches!(*p, b"" | b".")).collect();
    todo.extend(parts.into_iter().rev().map(<[u8]>::to_vec));
}

/// What a folder is that no layer describes.
fn implicit() -> Meta {
    Meta {
        mode: 0o755,
        ..Meta::default()
    }
}
