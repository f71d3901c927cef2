//! The ways in for fuzzers (`crates/fuzz`) to readers that are nobody else's business.
//!
//! Each panics only where there is a defect.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::folder::{FolderError, Ids, Lay, Rules, Taken, take};
use crate::layer::erofs::{Builder, Form};
use crate::layer::tar::Tar;
use crate::layer::{LayerError, LayerStream, Limits, unpack};
pub use crate::registry::fuzz::{challenge, credentials, manifest};

/// What a hostile layer may cost one round of a fuzzer.
pub const LIMITS: Limits = Limits {
    entries: 10_000,
    bytes: 16 << 20,
};

/// Reads every entry of an archive with its data.
pub fn tar(bytes: &[u8]) {
    let mut tar = Tar::new(bytes);
    while let Ok(Some(entry)) = tar.next() {
        let mut left = entry.size;
        while let Ok(data @ [_, ..]) = tar.data() {
            let n = data.len();
            // The stored data of a file with holes is never more than the file.
            left = left.checked_sub(n as u64).expect("no more than announced");
            tar.consume(n);
        }
    }
}

/// Starts to read a layer that lies in memory.
///
/// # Errors
/// The kernel's, when there is no memory.
pub fn layer(bytes: &[u8]) -> Result<LayerStream, LayerError> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut blob = rustix::fs::memfd_create("layer", flags)
        .map(File::from)
        .map_err(|errno| LayerError::Read(errno.into()))?;
    blob.write_all(bytes)
        .and_then(|()| blob.rewind())
        .map_err(LayerError::Read)?;
    LayerStream::new(blob, &LIMITS)
}

/// Makes one file of layers, in memory.
///
/// # Errors
/// What is wrong with the layers.
pub fn erofs(layers: &[Vec<u8>]) -> Result<File, LayerError> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let output = rustix::fs::memfd_create("erofs", flags)
        .map(File::from)
        .map_err(|errno| LayerError::Read(errno.into()))?;
    let mut builder = Builder::new(output, Form::Erofs, &LIMITS)?;
    for bytes in layers {
        builder.add(layer(bytes)?)?;
    }
    builder.finish([0; 16])
}

/// Gives the checksum that follows a file which comes out of a machine.
pub fn checksum(bytes: &[u8]) -> String {
    let len = bytes.len() as u64;
    let mut sum = crate::layer::holes::Checksum::new(len);
    if len > 0 {
        sum.piece(0, len);
        sum.data(bytes);
    }
    sum.finish()
}

/// Lets a guest that works on a copy of a folder say that this is what it has changed.
///
/// # Errors
/// Why the folder was not copied.
pub fn changes(folder: &Path, bytes: &[u8]) -> Result<Taken, FolderError> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let output = rustix::fs::memfd_create("copies", flags).map_err(|e| FolderError::Read {
        path: folder.to_owned(),
        source: e.into(),
    })?;
    let (uid, gid) = (1, 1);
    let ids = Ids::Mapped { uid, gid };
    let mut lay = Lay::new(output.into(), Form::Erofs, ids, 1000)?;
    lay.add(folder, true)?;
    let (_, _, mut copied) = lay.finish()?;
    let rules = Rules {
        ids,
        tag: "job".into(),
        entries: 1000,
        bytes: LIMITS.bytes,
    };
    Ok(take(bytes, &mut copied, &rules))
}

/// Removes what was unpacked.
///
/// # Errors
/// Why something stays.
pub fn remove(path: &Path) -> io::Result<()> {
    unpack::remove(rustix::fs::CWD, path.as_os_str().as_bytes())?;
    Ok(())
}
