//! Archives for tests, with names that no honest writer would write.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;

use ::tar::{EntryType, Header};

use super::erofs::Form;
use super::stream::LayerDigests;
use super::unpack::{Owners, unpack};
use super::{LayerError, LayerStream, Limits};

/// An archive that is being put together.
pub(crate) struct Archive(::tar::Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self(::tar::Builder::new(Vec::new()))
    }

    /// Adds an entry with exactly this name, whatever it is.
    pub(crate) fn add(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        let runs = kind.is_dir() || data.starts_with(b"#!");
        header.set_mode(if runs { 0o755 } else { 0o644 });
        let (uid, gid) = rustix_ids();
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        let old = header.as_old_mut();
        let name = &path.as_bytes()[..path.len().min(100)];
        old.name[..name.len()].copy_from_slice(name);
        let link = &link.as_bytes()[..link.len().min(100)];
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, data).expect("into memory");
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.add(EntryType::Regular, path, "", data)
    }

    pub(crate) fn folder(self, path: &str) -> Self {
        self.add(EntryType::Directory, path, "", b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, path, target, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Link, path, target, b"")
    }

    /// Puts PAX records before the next entry.
    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .expect("into memory");
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("into memory")
    }
}

/// The caller's own ids, so that tests need not be root.
fn rustix_ids() -> (u64, u64) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    (uid.as_raw().into(), gid.as_raw().into())
}

pub(crate) fn stream(bytes: &[u8], limits: &Limits) -> LayerStream {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(bytes).expect("written");
    file.rewind().expect("rewound");
    LayerStream::new(file, limits).expect("started")
}

pub(crate) fn unpack_to(bytes: &[u8], folder: &Path) -> Result<LayerDigests, LayerError> {
    let limits = Limits::default();
    unpack(stream(bytes, &limits), folder, Owners::Keep, &limits)
}

/// Makes an EROFS file of layers.
pub(crate) fn build(layers: &[Vec<u8>], file: File) -> Result<File, LayerError> {
    build_as(layers, Form::Erofs, file)
}

/// Makes a file of layers.
pub(crate) fn build_as(layers: &[Vec<u8>], form: Form, file: File) -> Result<File, LayerError> {
    let limits = Limits::default();
    let mut builder = super::erofs::Builder::new(file, form, &limits)?;
    for layer in layers {
        builder.add(stream(layer, &limits))?;
    }
    builder.finish([7; 16])
}

/// Lists a folder: each name with its kind, size, mode, links, attributes and content.
pub(crate) fn listing(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, base: &Path, out: &mut Vec<String>) {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        for entry in std::fs::read_dir(folder).expect("folder").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(base).expect("inside").display();
            let meta = std::fs::symlink_metadata(&path).expect("there");
            let kind = meta.file_type();
            let mode = meta.mode() & 0o7777;
            let line = if kind.is_dir() {
                walk(&path, base, out);
                format!("{name}/ {mode:o} {}", meta.mtime())
            } else if kind.is_symlink() {
                format!(
                    "{name} -> {}",
                    std::fs::read_link(&path).expect("link").display()
                )
            } else if kind.is_char_device() {
                format!("{name} whiteout {}", meta.rdev())
            } else if kind.is_fifo() {
                format!("{name} fifo {mode:o}")
            } else {
                let digest = crate::Digest::of(&std::fs::read(&path).unwrap_or_default());
                let (size, links, time) = (meta.size(), meta.nlink(), meta.mtime());
                format!("{name} {mode:o} {size} x{links} {time} {}", digest.short())
            };
            out.push(line);
        }
    }
    let mut out = Vec::new();
    walk(folder, folder, &mut out);
    out.sort();
    out
}

/// Puts an image of these layers, gzipped, into a store and names it.
pub(crate) fn image(store: &crate::Store, name: &str, layers: &[Vec<u8>]) -> crate::ImageRecord {
    use crate::layer::pack::{Compression, LayerWriter};
    use crate::store::{Descriptor, LayerRecord, NewImage};
    let layers: Vec<_> = layers
        .iter()
        .map(|bytes| {
            let out = store.new_blob().expect("started");
            let mut writer = LayerWriter::new(out, Compression::Gzip).expect("started");
            writer.write_all(bytes).expect("written");
            let (blob, diff_id) = writer.finish().expect("finished");
            let (digest, size) = blob.commit().expect("committed");
            let media_type = Compression::Gzip.media_type().to_owned();
            let blob = Descriptor {
                media_type,
                digest,
                size,
            };
            LayerRecord { blob, diff_id }
        })
        .collect();
    let digest = store.assemble(&layers, &NewImage::default());
    store
        .tag(name, &digest.expect("assembled"))
        .expect("tagged")
}
