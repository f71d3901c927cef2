//! All layers of an image in one EROFS file, made straight from the archives.
//!
//! The contents of files go to their place while the layers are read; the tree
//! of names is kept in memory and written behind them. No folder is unpacked
//! on the way, nothing needs to be root, owners are kept whoever makes it, and
//! no name of an archive is ever given to the kernel.
//!
//! Kernels without EROFS get the same as ext4 ([`Form::Ext4`]).
//!
//! The format is the kernel's `Documentation/filesystems/erofs.rst` and
//! `fs/erofs/erofs_fs.h`: blocks of 4 KiB, not compressed, long inodes.

mod ext4;
mod grow;
mod look;
mod tree;
mod write;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::grow::{Growth, grow};
pub use self::look::{Found, look};
use self::tree::{Content, Tree};
use super::stream::{LayerDigests, LayerStream};
use super::tar::{Entry, Kind, Tar};
use super::{LayerError, Limits, Name, components};

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// The largest file that is kept beside its inode, in bytes.
const INLINE: u64 = 1024;
/// How much of such files is held in memory, in bytes; further ones get blocks.
const INLINE_TOTAL: u64 = 64 << 20;
/// A number of blocks must fit into 32 bits.
const MAX_BLOCKS: u64 = u32::MAX as u64;

/// Which file system a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The read-only one that is made for this.
    Erofs,
    /// The one that every kernel has.
    Ext4,
    /// The same with a journal, to be written to in a layer above, and to [`grow`].
    Disk,
}

/// A file with a file system that is being made, a layer at a time.
#[derive(Debug)]
pub struct Builder {
    form: Form,
    output: Output,
    tree: Tree,
    inline: u64,
    limits: Limits,
    /// Data of files in the output: first block and bytes.
    extents: Vec<(u64, u64)>,
}

/// The file with the place where the next data goes.
#[derive(Debug)]
struct Output {
    file: File,
    at: u64,
    buffer: Vec<u8>,
}

/// Data is written in pieces of this size.
const BUFFER: usize = 1 << 20;

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            self.file.write_all(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Leaves a hole, which takes no space on the disk.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes < BLOCK {
            return self.write(&[0; BLOCK as usize][..bytes as usize]);
        }
        self.flush()?;
        self.at += bytes;
        self.file.seek(SeekFrom::Start(self.at)).map(drop)
    }

    fn align(&mut self) -> io::Result<()> {
        self.skip(self.at.wrapping_neg() % BLOCK)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.write_all(&self.buffer);
        self.buffer.clear();
        result
    }
}

impl Builder {
    /// Starts in an empty file.
    ///
    /// # Errors
    /// [`LayerError::Make`] when it cannot be written.
    pub fn new(file: File, form: Form, limits: &Limits) -> Result<Self, LayerError> {
        let mut output = Output {
            file,
            at: 0,
            buffer: Vec::with_capacity(BUFFER),
        };
        // The first block is the superblock's.
        let front = match form {
            Form::Erofs => 1,
            Form::Ext4 | Form::Disk => ext4::FRONT,
        };
        output.skip(front * BLOCK).map_err(written)?;
        Ok(Self {
            form,
            output,
            tree: Tree::new(),
            inline: 0,
            limits: *limits,
            extents: Vec::new(),
        })
    }

    /// Adds a layer over those before it, and gives its digests for the caller
    /// to compare before the file is used.
    ///
    /// # Errors
    /// What is wrong with the layer, or why the file could not be written.
    pub fn add(&mut self, layer: LayerStream) -> Result<LayerDigests, LayerError> {
        self.tree.begin_layer();
        let mut tar = Tar::new(layer);
        let mut entries = 0;
        while let Some(entry) = tar.next()? {
            entries += 1;
            if entries > self.limits.entries {
                return Err(LayerError::Entries(self.limits.entries));
            }
            match Name::read(&entry.path)? {
                Name::Ignored => {}
                Name::Opaque(parts) => self.tree.opaque(&parts, &entry.path)?,
                Name::Whiteout(parts) => self.tree.whiteout(&parts, &entry.path)?,
                Name::Entry(parts) => self.entry(&parts, &entry, &mut tar)?,
            }
        }
        tar.finish()?.finish()
    }

    fn entry(
        &mut self,
        parts: &[&[u8]],
        entry: &Entry,
        tar: &mut Tar<LayerStream>,
    ) -> Result<(), LayerError> {
        let content = match entry.kind {
            Kind::Device => return Ok(()),
            Kind::HardLink => return self.tree.hard_link(parts, entry),
            Kind::Folder => Content::Folder(Default::default()),
            Kind::Fifo => Content::Fifo,
            Kind::Symlink => Content::Symlink(entry.link.clone()),
            Kind::File => self.file(entry, tar)?,
        };
        self.tree.insert(parts, entry, content)
    }

    /// Copies a file's data to where it stays.
    fn file(&mut self, entry: &Entry, tar: &mut Tar<LayerStream>) -> Result<Content, LayerError> {
        let size = entry.size;
        self.room_for(size)?;
        if size <= INLINE && entry.pieces.is_none() && self.inline + size <= INLINE_TOTAL {
            self.inline += size;
            let mut bytes = Vec::with_capacity(size as usize);
            copy(tar, size, |data| {
                bytes.extend_from_slice(data);
                Ok(())
            })?;
            return Ok(Content::Small(bytes));
        }
        let start = self.output.at;
        let output = &mut self.output;
        match &entry.pieces {
            None => copy(tar, size, |data| output.write(data))?,
            Some(pieces) => {
                for &(offset, len) in pieces {
                    let hole = start + offset - output.at;
                    output.skip(hole).map_err(written)?;
                    copy(tar, len, |data| output.write(data))?;
                }
                let hole = start + size - output.at;
                output.skip(hole).map_err(written)?;
            }
        }
        self.end_file(start, size)
    }

    /// Adds what lies in a folder: a file with what `file` holds where there is one.
    /// `entry` says where its data are, and what is no data is left a hole.
    pub(crate) fn lay(&mut self, entry: &Entry, file: Option<&File>) -> Result<(), LayerError> {
        let parts = components(&entry.path)?;
        let content = match entry.kind {
            Kind::HardLink => return self.tree.hard_link(&parts, entry),
            Kind::Folder => Content::Folder(Default::default()),
            Kind::Symlink => Content::Symlink(entry.link.clone()),
            Kind::Fifo => Content::Fifo,
            Kind::Device => return Ok(()),
            Kind::File => {
                self.room_for(entry.size)?;
                let start = self.output.at;
                for &(offset, len) in entry.pieces.iter().flatten() {
                    let hole = start + offset - self.output.at;
                    self.output.skip(hole).map_err(written)?;
                    self.piece(file, offset, len)?;
                }
                let hole = start + entry.size - self.output.at;
                self.output.skip(hole).map_err(written)?;
                self.end_file(start, entry.size)?
            }
        };
        self.tree.insert(&parts, entry, content)
    }

    /// Copies a piece of a file of the host.
    fn piece(&mut self, file: Option<&File>, offset: u64, len: u64) -> Result<(), LayerError> {
        let mut buffer = vec![0; BUFFER.min(len as usize)];
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let want = buffer.len().min((end - at) as usize);
            let got = match file {
                Some(file) => file.read_at(&mut buffer[..want], at),
                None => Ok(0),
            };
            match got {
                Ok(0) => return Err(LayerError::Read(io::ErrorKind::UnexpectedEof.into())),
                Ok(got) => {
                    self.output.write(&buffer[..got]).map_err(written)?;
                    at += got as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LayerError::Read(e)),
            }
        }
        Ok(())
    }

    /// Refuses a file that the form has no place for.
    fn room_for(&self, size: u64) -> Result<(), LayerError> {
        if size.div_ceil(BLOCK) + self.output.at / BLOCK + 1 >= MAX_BLOCKS {
            return Err(LayerError::Bytes(MAX_BLOCKS * BLOCK));
        }
        Ok(())
    }

    fn end_file(&mut self, start: u64, size: u64) -> Result<Content, LayerError> {
        self.output.align().map_err(written)?;
        self.extents.push((start, size));
        let block = (start / BLOCK) as u32;
        Ok(Content::File { block, size })
    }

    /// Writes the tree and the superblock; `uuid` names the file system.
    /// Nothing is synced.
    ///
    /// # Errors
    /// [`LayerError::Make`] when the file cannot be written.
    pub fn finish(mut self, uuid: [u8; 16]) -> Result<File, LayerError> {
        self.give_back_dead_data().map_err(written)?;
        let mut output = self.output;
        let (tree, output_of) = (&self.tree, &mut output);
        match self.form {
            Form::Erofs => write::write(tree, output_of, uuid),
            Form::Ext4 => ext4::write(tree, output_of, uuid, false),
            Form::Disk => ext4::write(tree, output_of, uuid, true),
        }
        .map_err(written)?;
        Ok(output.file)
    }

    /// Punches out the data of files that an upper layer has replaced.
    fn give_back_dead_data(&mut self) -> io::Result<()> {
        use rustix::fs::FallocateFlags;
        self.output.flush()?;
        let live = self.tree.live_blocks();
        for &(start, size) in &self.extents {
            let len = size.next_multiple_of(BLOCK);
            if len > 0 && !live.contains(&((start / BLOCK) as u32)) {
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // A file system without holes keeps the bytes; nothing refers to them.
                let _ = rustix::fs::fallocate(&self.output.file, punch, start, len);
            }
        }
        Ok(())
    }
}

/// Copies `len` bytes of the current entry.
fn copy(
    tar: &mut Tar<LayerStream>,
    len: u64,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), LayerError> {
    let mut left = len;
    while left > 0 {
        let data = tar.data()?;
        if data.is_empty() {
            break;
        }
        let n = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        write(&data[..n]).map_err(written)?;
        tar.consume(n);
        left -= n as u64;
    }
    Ok(())
}

fn written(source: io::Error) -> LayerError {
    LayerError::Make {
        path: Path::new("the image's file").to_owned(),
        source,
    }
}
