//! The kernel's format of a first root file system: cpio, "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Read, Write};

/// An archive that is being written; all in it belongs to root, and is of no
/// time, so that the same content gives the same bytes.
#[derive(Debug)]
pub(super) struct Archive<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    /// Adds a folder; that above it must be there.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        self.header(path, 0o040_755, 0, (0, 0))
    }

    /// Adds a character device by its numbers.
    pub(super) fn device(&mut self, path: &str, mode: u32, numbers: (u32, u32)) -> io::Result<()> {
        self.header(path, 0o020_000 | mode, 0, numbers)
    }

    /// Adds a file of exactly `size` bytes.
    pub(super) fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let bytes = u32::try_from(size)
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "it has 4 GiB or more"))?;
        self.header(path, 0o100_000 | mode, bytes, (0, 0))?;
        if io::copy(&mut content.take(size), &mut self.to)? != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(size)
    }

    /// Ends the archive and gives back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.header("TRAILER!!!", 0, 0, (0, 0))?;
        Ok(self.to)
    }

    fn header(
        &mut self,
        path: &str,
        mode: u32,
        size: u32,
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        self.entries += 1;
        let length = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        // Inode, mode, owner, group, links, time, size, two device numbers each
        // of its file system and of itself, name's length, sum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            length,
            0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header += &format!("{field:08x}");
        }
        header += path;
        header.push('\0');
        self.to.write_all(header.as_bytes())?;
        self.pad(header.len() as u64)
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let missing = written.next_multiple_of(4) - written;
        self.to.write_all(&[0; 3][..missing as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_aligned_and_says_what_it_is() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("dev").expect("written");
        archive
            .device("dev/console", 0o600, (5, 1))
            .expect("written");
        archive
            .file("init", 0o755, 5, &b"hello"[..])
            .expect("written");
        let bytes = archive.finish().expect("written");
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text.len() % 4, 0);
        let names: Vec<&str> = text
            .match_indices("070701")
            .map(|(at, _)| {
                assert_eq!(at % 4, 0);
                let name = &text[at + 110..];
                &name[..name.find('\0').expect("a name ends")]
            })
            .collect();
        assert_eq!(names, ["dev", "dev/console", "init", "TRAILER!!!"]);
        assert!(text.contains("init\0\0hello\0\0\x00070701"), "{text}");
        for word in [0o040_755, 0o020_600, 0o100_755].map(|mode| format!("{mode:08x}")) {
            assert!(text.contains(&word), "{word}");
        }
        let mut short = Archive::new(Vec::new());
        assert!(short.file("init", 0o755, 6, &b"hello"[..]).is_err());
    }
}
