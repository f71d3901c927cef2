//! The host's own root, as preflight sees it.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use hyperion_mpi::{Entry, EntryKind, RootView};

/// Reads the files of this machine and counts what it is asked.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// How many questions were asked.
    pub(crate) calls: u32,
    /// How many bytes were read.
    pub(crate) bytes: usize,
}

impl RootView for Host {
    fn entry(&mut self, path: &str) -> Option<Entry> {
        self.calls += 1;
        let real = fs::canonicalize(path).ok()?;
        let meta = fs::metadata(&real).ok()?;
        let kind = match meta.file_type() {
            t if t.is_file() => EntryKind::File,
            t if t.is_dir() => EntryKind::Folder,
            _ => EntryKind::Other,
        };
        Some(Entry {
            kind,
            executable: meta.permissions().mode() & 0o111 != 0,
            path: real.to_str()?.to_owned(),
        })
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        self.calls += 1;
        let file = fs::File::open(path).ok()?;
        let mut bytes = vec![0; len.min(file.metadata().ok()?.len() as usize)];
        let read = file.read_at(&mut bytes, offset).ok()?;
        bytes.truncate(read);
        self.bytes += read;
        Some(bytes)
    }

    fn list(&mut self, folder: &str) -> Vec<String> {
        self.calls += 1;
        let mut names: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}
