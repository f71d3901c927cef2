//! The way in for fuzzers.

use std::io::{Seek, Write};

use super::erofs::Builder;
use super::tar::Tar;
use super::{LayerStream, Limits};

/// Reads `bytes` as a layer and makes one file of it; panics only where there is a defect.
pub fn fuzz_layer(bytes: &[u8]) {
    let mut tar = Tar::new(bytes);
    while let Ok(Some(_)) = tar.next() {}
    let limits = Limits {
        entries: 10_000,
        bytes: 16 << 20,
    };
    let memory = |name: &str| {
        let fd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?;
        Ok::<_, rustix::io::Errno>(std::fs::File::from(fd))
    };
    let (Ok(mut blob), Ok(output)) = (memory("layer"), memory("erofs")) else {
        return;
    };
    if blob.write_all(bytes).and_then(|()| blob.rewind()).is_err() {
        return;
    }
    let (Ok(layer), Ok(mut builder)) = (
        LayerStream::new(blob, &limits),
        Builder::new(output, &limits),
    ) else {
        return;
    };
    if builder.add(layer).is_ok() {
        let _ = builder.finish([0; 16]);
    }
}
