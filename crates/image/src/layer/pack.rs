//! A folder as a layer: the same folder gives the same archive every time.
//!
//! Names come in the order of their bytes, with numbers for owners and no
//! access times. Left out are device nodes and sockets; holes are written as
//! zeros, which compress to nothing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ::tar::{Builder, EntryType, Header};
use thiserror::Error;

use super::holes::{OfPieces, map, pieces};
use super::keeps_xattr;
use crate::digest::{Digest, Hasher};

/// Why a folder did not become a layer.
#[derive(Debug, Error)]
pub enum PackError {
    /// Something in the folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip: every tool reads it.
    #[default]
    Gzip,
    /// Zstandard: smaller and several times faster, for tools since about 2021.
    Zstd,
}

impl Compression {
    /// Gives the media type of a layer compressed so.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Finds out how a layer is compressed from its first bytes.
    pub fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Takes an archive, hashes it and writes it compressed.
#[derive(Debug)]
pub struct LayerWriter<W: Write> {
    out: Encoder<W>,
    archive: Hasher,
}

enum Encoder<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> std::fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl<W: Write> LayerWriter<W> {
    /// Starts a layer in `out`.
    ///
    /// # Errors
    /// Why the compressor did not start.
    pub fn new(out: W, compression: Compression) -> io::Result<Self> {
        let out = match compression {
            Compression::None => Encoder::Plain(out),
            // Beyond level 4 gzip takes several times as long for a few percent.
            Compression::Gzip => Encoder::Gzip(flate2::write::GzEncoder::new(
                out,
                flate2::Compression::new(4),
            )),
            Compression::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(out, 3)?),
        };
        Ok(Self {
            out,
            archive: Hasher::new(),
        })
    }

    /// Ends the layer and gives back where it was written, and its diff id.
    ///
    /// # Errors
    /// Why the last bytes could not be written.
    pub fn finish(self) -> io::Result<(W, Digest)> {
        let out = match self.out {
            Encoder::Plain(out) => out,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        Ok((out, self.archive.finish()))
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.out {
            Encoder::Plain(out) => out.write(bytes)?,
            Encoder::Gzip(encoder) => encoder.write(bytes)?,
            Encoder::Zstd(encoder) => encoder.write(bytes)?,
        };
        self.archive.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Encoder::Plain(out) => out.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// Writes `folder` as an archive; no time in it is later than `latest`
/// (seconds since 1970), where given.
///
/// # Errors
/// What could not be read, or why the archive could not be written.
pub fn pack<W: Write>(folder: &Path, out: W, latest: Option<i64>) -> Result<W, PackError> {
    let mut packer = Packer {
        builder: Builder::new(out),
        latest,
        seen: HashMap::new(),
        changes: None,
    };
    let meta = read(folder, std::fs::metadata)?;
    packer.add(folder, b"./", &meta)?;
    packer.walk(folder, b"./")?;
    packer.builder.into_inner().map_err(PackError::Write)
}

/// The entry after each file of [`pack_changes`]: the SHA-256 of its size and its
/// pieces, in hexadecimal digits. Behind it, so that a large file is read once.
pub(crate) const SUM: &[u8] = b"sum";
/// The last entry of [`pack_changes`]: an archive without it was cut.
pub(crate) const END: &[u8] = b"end";
/// How much of the names of what was left out goes with it, in bytes.
const LEFT_OUT: usize = 64 << 10;

/// Writes the upper folder of an overlay (`trusted.overlay` attributes, character
/// devices 0:0) as an archive: what was removed is a whiteout, files keep their
/// holes and are followed by checksums, extended attributes stay behind. An entry `end` tells
/// that it is whole, and holds the names of what cannot go into an archive, a line each.
///
/// # Errors
/// As [`pack`].
pub fn pack_changes<W: Write>(upper: &Path, out: W) -> Result<W, PackError> {
    let mut packer = Packer {
        builder: Builder::new(out),
        latest: None,
        seen: HashMap::new(),
        changes: Some(Vec::new()),
    };
    packer.walk(upper, b"")?;
    let left_out = packer.changes.take().unwrap_or_default();
    packer.small(END, &left_out)?;
    packer.builder.into_inner().map_err(PackError::Write)
}

struct Packer<W: Write> {
    builder: Builder<W>,
    latest: Option<i64>,
    /// The first name of files with more than one.
    seen: HashMap<(u64, u64), Vec<u8>>,
    /// The names of what was left out, of the upper folder of an overlay.
    changes: Option<Vec<u8>>,
}

impl<W: Write> Packer<W> {
    fn walk(&mut self, folder: &Path, prefix: &[u8]) -> Result<(), PackError> {
        let mut names = Vec::new();
        for entry in read(folder, std::fs::read_dir)? {
            names.push(read(folder, |_| entry)?.file_name());
        }
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let meta = read(&path, std::fs::symlink_metadata)?;
            let mut inside = [prefix, name.as_bytes()].concat();
            if self.changes.is_some() {
                let device = meta.file_type().is_char_device();
                if device && meta.rdev() == 0 {
                    let hidden = [prefix, b".wh.", name.as_bytes()].concat();
                    self.small(&hidden, b"")?;
                    continue;
                }
                let kind = meta.file_type();
                let fits = kind.is_dir() || kind.is_file() || kind.is_symlink() || kind.is_fifo();
                if !fits || name.as_bytes().starts_with(b".wh.") {
                    self.leave_out(&inside);
                    continue;
                }
            }
            if meta.is_dir() {
                inside.push(b'/');
            }
            self.add(&path, &inside, &meta)?;
            if meta.is_dir() {
                self.walk(&path, &inside)?;
                // Last: whoever puts it in place replaces files before others go.
                if self.changes.is_some() && is_opaque(&path).map_err(failed(&path))? {
                    self.small(&[&inside[..], b".wh..wh..opq"].concat(), b"")?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, inside: &[u8], meta: &Metadata) -> Result<(), PackError> {
        let kind = meta.file_type();
        let mut header = Header::new_ustar();
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let mut link = None;
        let entry = if kind.is_dir() {
            EntryType::Directory
        } else if kind.is_symlink() {
            link = Some(
                read(path, std::fs::read_link)?
                    .into_os_string()
                    .as_bytes()
                    .to_vec(),
            );
            EntryType::Symlink
        } else if kind.is_file() {
            let id = (meta.dev(), meta.ino());
            match self.seen.get(&id) {
                Some(first) => {
                    link = Some(first.clone());
                    EntryType::Link
                }
                None => {
                    if meta.nlink() > 1 {
                        self.seen.insert(id, inside.to_vec());
                    }
                    EntryType::Regular
                }
            }
        } else if kind.is_fifo() {
            EntryType::Fifo
        } else {
            return Ok(());
        };
        header.set_entry_type(entry);
        let size = if entry.is_file() { meta.len() } else { 0 };
        let mut changed = None;
        if entry.is_file() && self.changes.is_some() {
            let file = read(path, File::open)?;
            let pieces = pieces(&file, size).map_err(failed(path))?;
            let holes = size > 0 && pieces != [(0, size)];
            if holes {
                records.push(("GNU.sparse.major".into(), b"1".into()));
                records.push(("GNU.sparse.minor".into(), b"0".into()));
                records.push(("GNU.sparse.name".into(), inside.to_vec()));
                records.push(("GNU.sparse.realsize".into(), size.to_string().into()));
            }
            let map = if holes { map(&pieces) } else { Vec::new() };
            changed = Some((map, OfPieces::new(file, size, pieces)));
        }
        let size = match &changed {
            Some((map, pieces)) => map.len() as u64 + pieces.left(),
            None => size,
        };
        header.set_mode(meta.mode() & 0o7777);
        number(&mut records, "uid", meta.uid().into(), 0o7_777_777, |n| {
            header.set_uid(n)
        });
        number(&mut records, "gid", meta.gid().into(), 0o7_777_777, |n| {
            header.set_gid(n)
        });
        number(&mut records, "size", size, 0o77_777_777_777, |n| {
            header.set_size(n)
        });
        let (mut seconds, mut nanoseconds) = (meta.mtime(), meta.mtime_nsec());
        if let Some(latest) = self.latest.filter(|&latest| seconds >= latest) {
            (seconds, nanoseconds) = (latest, 0);
        }
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        if nanoseconds != 0 || seconds < 0 {
            records.push(("mtime".into(), time(seconds, nanoseconds).into_bytes()));
        }
        let old = header.as_old_mut();
        text(&mut records, "path", inside, &mut old.name);
        if let Some(link) = &link {
            text(&mut records, "linkpath", link, &mut old.linkname);
        }
        if !kind.is_symlink() && self.changes.is_none() {
            xattrs(path, &mut records).map_err(failed(path))?;
        }
        header.set_cksum();
        if !records.is_empty() {
            let records = records
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice()));
            self.builder
                .append_pax_extensions(records)
                .map_err(PackError::Write)?;
        }
        let Some((map, mut pieces)) = changed else {
            let appended = match size {
                0 => self.builder.append(&header, io::empty()),
                _ => {
                    let file = read(path, File::open)?;
                    let left = size;
                    self.builder.append(&header, Exactly { file, left, path })
                }
            };
            return appended.map_err(of_builder);
        };
        let data = map.as_slice().chain(&mut pieces);
        self.builder.append(&header, data).map_err(of_builder)?;
        self.small(SUM, pieces.checksum().as_bytes())
    }

    /// Adds a file that lies nowhere.
    fn small(&mut self, inside: &[u8], bytes: &[u8]) -> Result<(), PackError> {
        let mut header = Header::new_ustar();
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        text(&mut records, "path", inside, &mut header.as_old_mut().name);
        header.set_cksum();
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder
            .append_pax_extensions(records)
            .and_then(|()| self.builder.append(&header, bytes))
            .map_err(PackError::Write)
    }

    fn leave_out(&mut self, inside: &[u8]) {
        if let Some(names) = &mut self.changes
            && names.len() + inside.len() < LEFT_OUT
        {
            names.extend_from_slice(inside);
            names.push(b'\n');
        }
    }
}

fn of_builder(error: io::Error) -> PackError {
    match error.downcast::<PackError>() {
        Ok(error) => error,
        Err(error) => PackError::Write(error),
    }
}

/// Tells whether a folder of an overlay hides what is below it.
fn is_opaque(path: &Path) -> io::Result<bool> {
    use rustix::io::Errno;
    let mut value = [0; 8];
    match rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]) {
        Ok(n) => Ok(&value[..n] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads exactly as many bytes as were announced: the archive would be broken
/// by a file that changes while it is read.
struct Exactly<'a> {
    file: File,
    left: u64,
    path: &'a Path,
}

impl Read for Exactly<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(out.len());
        let fail = |source| {
            io::Error::other(PackError::Read {
                path: self.path.to_owned(),
                source,
            })
        };
        let n = self.file.read(&mut out[..most]).map_err(fail)?;
        if n == 0 && most > 0 {
            let shrunk =
                io::Error::new(io::ErrorKind::UnexpectedEof, "it shrank while it was read");
            return Err(fail(shrunk));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn number(
    records: &mut Vec<(String, Vec<u8>)>,
    key: &str,
    value: u64,
    most: u64,
    set: impl FnOnce(u64),
) {
    if value > most {
        records.push((key.to_owned(), value.to_string().into_bytes()));
        set(0);
    } else {
        set(value);
    }
}

/// Writes a name into its field, or as a record when it is too long for it.
fn text(records: &mut Vec<(String, Vec<u8>)>, key: &str, value: &[u8], field: &mut [u8; 100]) {
    if value.len() > field.len() {
        records.push((key.to_owned(), value.to_vec()));
    }
    let n = value.len().min(field.len());
    field[..n].copy_from_slice(&value[..n]);
}

fn time(seconds: i64, nanoseconds: i64) -> String {
    if seconds < 0 && nanoseconds > 0 {
        // -1.25 is stored as -2 and 0.75.
        return format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

fn xattrs(path: &Path, records: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let n = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(n) => n,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let mut kept: Vec<&[u8]> = names[..n].split(|&b| b == 0).collect();
    kept.retain(|name| keeps_xattr(name));
    kept.sort_unstable();
    for name in kept {
        let mut value = vec![0; 64 << 10];
        let n = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(n);
        let key = format!("SCHILY.xattr.{}", String::from_utf8_lossy(name));
        records.push((key, value));
    }
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PackError + use<> {
    let path = path.to_owned();
    move |source| PackError::Read { path, source }
}

fn read<'a, T>(
    path: &'a Path,
    read: impl FnOnce(&'a Path) -> io::Result<T>,
) -> Result<T, PackError> {
    read(path).map_err(failed(path))
}
