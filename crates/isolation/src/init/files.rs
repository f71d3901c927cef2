//! What a supervisor may ask of the files inside.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use crate::protocol::{FileEntry, FileKind};

/// Not to be held up by a pipe or a device that hostile files may be.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// More names than this are not needed to find a library.
const MAX_NAMES: usize = 20_000;

/// Reads part of a regular file; `None` when it is not one.
pub(crate) fn read(path: &str, offset: u64, len: u32) -> Option<Vec<u8>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = vec![0; len as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    bytes.truncate(filled);
    Some(bytes)
}

/// Lists a folder, sorted.
pub(crate) fn list(path: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .take(MAX_NAMES)
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// Tells what is at a path, links followed.
pub(crate) fn look(path: &str) -> Option<FileEntry> {
    let meta: Metadata = fs::metadata(path).ok()?;
    let kind = match meta.file_type() {
        t if t.is_dir() => FileKind::Folder,
        t if t.is_file() => FileKind::File,
        _ => FileKind::Other,
    };
    let executable = kind == FileKind::File && meta.mode() & 0o111 != 0;
    let path = fs::canonicalize(path)
        .ok()?
        .into_os_string()
        .into_string()
        .ok()?;
    Some(FileEntry {
        kind,
        executable,
        path,
    })
}
