//! The kernel's format of a first root file system: cpio, "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::path::Path;

/// An archive that grows; all in it belongs to root.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
}

impl Archive {
    /// Adds a file, and the folders above it where they are not there yet.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.below(path, 0o100_000 | mode, content);
    }

    /// Adds a symbolic link, likewise.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.below(path, 0o120_777, target.as_bytes());
    }

    fn below(&mut self, path: &str, mode: u32, content: &[u8]) {
        let above: Vec<_> = Path::new(path).ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            let folder = folder.display().to_string();
            if !folder.is_empty() && self.folders.insert(folder.clone()) {
                self.entry(&folder, 0o040_755, &[]);
            }
        }
        self.entry(path, mode, content);
    }

    /// Gives the whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let size = |bytes: usize| u32::try_from(bytes).expect("files below 4 GiB");
        // Inode, mode, owner, group, links, time, size, four device numbers, name's length, sum.
        let fields = [
            size(self.bytes.len()),
            mode,
            0,
            0,
            1,
            0,
            size(content.len()),
            0,
            0,
            0,
            0,
            size(path.len() + 1),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_their_files_and_every_part_is_aligned() {
        let mut archive = Archive::default();
        archive.file("a/b", 0o755, b"hello");
        archive.file("a/c", 0o644, b"");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let names: Vec<&str> = text
            .match_indices("070701")
            .map(|(at, _)| {
                assert_eq!(at % 4, 0);
                let name = &text[at + 110..];
                &name[..name.find('\0').expect("a name ends")]
            })
            .collect();
        assert_eq!(names, ["a", "a/b", "a/c", "TRAILER!!!"]);
        assert!(text.contains("a/b\0\0\0hello\0\0\x0007"), "{text}");
        assert!(text.contains(&format!("{:08x}", 0o100_755)));
    }
}
