//! A root file system as an image of one layer.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digest::Digest;
use crate::layer::pack::{Compression, LayerWriter, PackError, pack};
use crate::layer::tar::Tar;
use crate::layer::{LayerError, LayerStream, Limits, Name};
use crate::store::{
    Adding, Descriptor, LayerRecord, NewBlob, NewImage, Store, StoreError, check_name,
};

/// Why something did not become an image.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source could not be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The source is no archive of a root file system.
    #[error("cannot import {}", path.display())]
    Archive {
        /// What.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: LayerError,
    },
    /// The folder could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The layer could not be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
}

/// Makes an image of a root file system, gives it a name, and gives its digest.
///
/// `source` is a folder or a tar archive, plain or compressed. `latest` bounds
/// the times in a folder's archive, for images that are the same every time.
///
/// # Errors
/// What is wrong with the source, or why the image could not be written; the
/// name is as before.
pub fn import(
    store: &Store,
    source: &Path,
    name: &str,
    new: &NewImage,
    compression: Compression,
    latest: Option<i64>,
) -> Result<Digest, ImportError> {
    let adding = store.adding()?;
    check_name(name)?;
    let open = |error| ImportError::Open {
        path: source.to_owned(),
        source: error,
    };
    let layer = if std::fs::metadata(source).map_err(open)?.is_dir() {
        let mut tops = Tops::default();
        for entry in std::fs::read_dir(source).map_err(open)? {
            tops.see(entry.map_err(open)?.file_name().as_encoded_bytes());
        }
        tops.refuse_images(source)?;
        let writer = start(store, compression)?;
        finish(pack(source, writer, latest)?, compression)?
    } else {
        let file = File::open(source).map_err(open)?;
        store_archive(store, file, source, compression)?
    };
    Ok(name_layer(store, adding, layer, name, new)?)
}

/// Makes an image of an archive that is read from an open file or pipe; `path`
/// names it in messages.
///
/// # Errors
/// As [`import`].
pub fn import_stream(
    store: &Store,
    input: File,
    path: &Path,
    name: &str,
    new: &NewImage,
    compression: Compression,
) -> Result<Digest, ImportError> {
    let adding = store.adding()?;
    check_name(name)?;
    let layer = store_archive(store, input, path, compression)?;
    Ok(name_layer(store, adding, layer, name, new)?)
}

/// Stores an archive as a layer. The caller holds [`Store::adding`].
pub(crate) fn store_archive(
    store: &Store,
    input: File,
    path: &Path,
    compression: Compression,
) -> Result<LayerRecord, ImportError> {
    let archive = |source| ImportError::Archive {
        path: path.to_owned(),
        source,
    };
    let stream = LayerStream::new(input, &Limits::default()).map_err(archive)?;
    let mut tar = Tar::new(Tee {
        from: stream,
        to: start(store, compression)?,
        failed: None,
    });
    let mut tops = Tops::default();
    let mut empty = true;
    // Read as it will be read when it is unpacked: what is wrong is said now.
    while let Some(entry) = tar.next().map_err(archive)? {
        Name::read(&entry.path).map_err(archive)?;
        tops.see(&entry.path);
        empty = false;
    }
    if empty {
        return Err(archive(LayerError::Empty));
    }
    tops.refuse_images(path)?;
    let tee = tar.finish().map_err(archive)?;
    match tee.failed {
        Some(error) => Err(ImportError::Write(error)),
        None => finish(tee.to, compression),
    }
}

/// What lies at the top of an archive or a folder.
#[derive(Default)]
struct Tops {
    /// What lists images.
    list: bool,
    /// What no archive of images holds.
    other: bool,
}

impl Tops {
    fn see(&mut self, path: &[u8]) {
        let mut parts = path.split(|&byte| byte == b'/');
        let Some(top) = parts.find(|part| !matches!(part, [] | [b'.'])) else {
            return;
        };
        let stem = top.split(|&byte| byte == b'.').next().unwrap_or(top);
        let is_digest = stem.len() == 64 && stem.iter().all(u8::is_ascii_hexdigit);
        self.list |= matches!(top, b"manifest.json" | b"oci-layout");
        self.other |= !matches!(
            top,
            b"manifest.json" | b"oci-layout" | b"index.json" | b"blobs" | b"repositories"
        ) && !is_digest;
    }

    /// Refuses images as docker and OCI layouts have them, with nothing else beside them.
    fn refuse_images(&self, path: &Path) -> Result<(), ImportError> {
        match self.list && !self.other {
            true => Err(ImportError::Archive {
                path: path.to_owned(),
                source: LayerError::OfImages,
            }),
            false => Ok(()),
        }
    }
}

/// Makes an image of one layer and names it; a layer without an image goes.
pub(crate) fn name_layer(
    store: &Store,
    adding: Adding,
    layer: LayerRecord,
    name: &str,
    new: &NewImage,
) -> Result<Digest, StoreError> {
    let brought = layer.blob.digest;
    let image = store.assemble(&[layer], new);
    let named = image.and_then(|image| store.tag(name, &image).map(|_| image));
    if named.is_err() {
        store.release(adding, &[brought]);
    }
    named
}

fn start(store: &Store, compression: Compression) -> Result<LayerWriter<NewBlob>, ImportError> {
    LayerWriter::new(store.new_blob()?, compression).map_err(ImportError::Write)
}

fn finish(
    writer: LayerWriter<NewBlob>,
    compression: Compression,
) -> Result<LayerRecord, ImportError> {
    let (blob, diff_id) = writer.finish().map_err(ImportError::Write)?;
    let (digest, size) = blob.commit()?;
    Ok(LayerRecord {
        blob: Descriptor {
            media_type: compression.media_type().to_owned(),
            digest,
            size,
        },
        diff_id,
    })
}

/// Writes all that is read through it.
struct Tee<R, W> {
    from: R,
    to: W,
    failed: Option<io::Error>,
}

impl<R: BufRead, W: Write> BufRead for Tee<R, W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        if self.failed.is_none()
            && let Ok(bytes) = self.from.fill_buf()
            && let Err(error) = self.to.write_all(&bytes[..n])
        {
            // Told at the end: consuming cannot fail.
            self.failed = Some(error);
        }
        self.from.consume(n);
    }
}

impl<R: BufRead, W: Write> io::Read for Tee<R, W> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}
