//! Finds out what lies at a path of an ext4 of ours, without mounting it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::BLOCK;
use super::ext4::{DESCRIPTOR, INODE};

/// The inode of the root.
const ROOT: u32 = 2;
/// The most links that are followed, as the kernel has it.
const LINKS: usize = 40;
/// The longest link, and the largest folder that is looked through, in bytes.
const MOST: u64 = 16 << 20;

/// What lies somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file that somebody may execute.
    Program,
    /// A folder.
    Folder,
    /// Another thing.
    Other,
}

/// Looks at a path, links followed as if the file system were the root.
///
/// # Errors
/// The kernel's, `InvalidData` where the file system is not whole.
pub fn look(file: &File, path: &str) -> io::Result<Found> {
    let mut inode = Inode::read(file, ROOT)?;
    let mut above = Vec::new();
    let mut left: Vec<Vec<u8>> = parts(path.as_bytes());
    let mut links = 0;
    while let Some(name) = left.pop() {
        match &*name {
            b"." => continue,
            b".." => {
                inode = above.pop().map_or_else(|| Inode::read(file, ROOT), Ok)?;
                continue;
            }
            _ => {}
        }
        if !inode.is(0x4000) {
            return Ok(Found::Nothing);
        }
        let Some(number) = inode.find(file, &name)? else {
            return Ok(Found::Nothing);
        };
        let next = Inode::read(file, number)?;
        if next.is(0xa000) {
            links += 1;
            if links > LINKS {
                return Ok(Found::Nothing);
            }
            let target = next.content(file)?;
            if target.starts_with(b"/") {
                above.clear();
                inode = Inode::read(file, ROOT)?;
            }
            left.extend(parts(&target));
            continue;
        }
        above.push(std::mem::replace(&mut inode, next));
    }
    Ok(match inode.mode {
        mode if mode & 0xf000 == 0x4000 => Found::Folder,
        mode if mode & 0xf000 == 0x8000 && mode & 0o111 != 0 => Found::Program,
        _ => Found::Other,
    })
}

/// Takes a path to pieces, the last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let pieces = path.split(|b| *b == b'/').filter(|piece| !piece.is_empty());
    let mut pieces: Vec<_> = pieces.map(<[u8]>::to_vec).collect();
    pieces.reverse();
    pieces
}

struct Inode {
    mode: u16,
    size: u64,
    in_extents: bool,
    /// Where its extents begin, or a short link stands.
    body: [u8; 60],
}

impl Inode {
    fn read(file: &File, number: u32) -> io::Result<Self> {
        let mut each = [0; 4];
        file.read_exact_at(&mut each, 1024 + 0x28)?;
        let each = u32::from_le_bytes(each).max(1);
        let at = number.checked_sub(1).ok_or_else(broken)?;
        let mut table = [0; 4];
        let group = u64::from(at / each);
        file.read_exact_at(&mut table, BLOCK + group * DESCRIPTOR + 8)?;
        let place = u64::from(u32::from_le_bytes(table)) * BLOCK + u64::from(at % each) * INODE;
        let mut bytes = [0; 128];
        file.read_exact_at(&mut bytes, place)?;
        let mut body = [0; 60];
        body.copy_from_slice(&bytes[40..100]);
        Ok(Self {
            mode: u16::from_le_bytes([bytes[0], bytes[1]]),
            size: u64::from(word(&bytes, 4)) | u64::from(word(&bytes, 108)) << 32,
            in_extents: word(&bytes, 32) & 0x80000 != 0,
            body,
        })
    }

    fn is(&self, kind: u16) -> bool {
        self.mode & 0xf000 == kind
    }

    /// Gives what it holds: names, or a link.
    fn content(&self, file: &File) -> io::Result<Vec<u8>> {
        if self.size > MOST {
            return Err(broken());
        }
        let size = self.size as usize;
        if !self.in_extents {
            return Ok(self.body.get(..size).ok_or_else(broken)?.to_vec());
        }
        let mut extents = Vec::new();
        match self.body[6] {
            0 => extents.extend_from_slice(entries(&self.body)?),
            _ => {
                for index in entries(&self.body)?.chunks_exact(12) {
                    let mut leaf = vec![0; BLOCK as usize];
                    file.read_exact_at(&mut leaf, u64::from(word(index, 4)) * BLOCK)?;
                    extents.extend_from_slice(entries(&leaf)?);
                }
            }
        }
        let mut out = Vec::new();
        for extent in extents.chunks_exact(12) {
            let length = u64::from(u16::from_le_bytes([extent[4], extent[5]])) * BLOCK;
            let length = length.min((size - out.len().min(size)) as u64) as usize;
            let from = out.len();
            out.resize(from + length, 0);
            file.read_exact_at(&mut out[from..], u64::from(word(extent, 8)) * BLOCK)?;
        }
        Ok(out)
    }

    /// Finds a name in a folder.
    fn find(&self, file: &File, name: &[u8]) -> io::Result<Option<u32>> {
        let names = self.content(file)?;
        for block in names.chunks(BLOCK as usize) {
            let mut rest = block;
            while rest.len() >= 8 {
                let length = usize::from(u16::from_le_bytes([rest[4], rest[5]]));
                let here = rest.get(8..8 + usize::from(rest[6]));
                if length < 8 || length > rest.len() {
                    return Err(broken());
                }
                if here == Some(name) && word(rest, 0) != 0 {
                    return Ok(Some(word(rest, 0)));
                }
                rest = &rest[length..];
            }
        }
        Ok(None)
    }
}

/// Gives the entries behind a header.
fn entries(node: &[u8]) -> io::Result<&[u8]> {
    let count = usize::from(u16::from_le_bytes([node[2], node[3]]));
    node.get(12..12 + 12 * count).ok_or_else(broken)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes[at..].first_chunk();
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file system is not whole")
}
