//! What a stranger's file is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use thiserror::Error;

use super::{DiskError, unreadable};

/// Why a file is no image that is taken in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Foreign {
    /// It shows another file where it holds nothing.
    #[error("lies on another file: {0:?}")]
    Backing(String),
    /// Its content is in another file.
    #[error("is only a description: its content is in other files")]
    Elsewhere,
    /// It is encrypted.
    #[error("is encrypted")]
    Encrypted,
    /// It is compressed as a whole, or an archive.
    #[error("is packed ({0})")]
    Packed(&'static str),
    /// It is of another format.
    #[error("is of the format {0}, which is not taken in")]
    Format(&'static str),
    /// It is an optical disk.
    #[error("is an optical disk")]
    Optical,
    /// Its header makes no sense.
    #[error("has a damaged header")]
    Damaged,
    /// It is neither of a known format nor whole sectors.
    #[error(
        "is no disk image: nothing known begins so, and it is not made of sectors of 512 bytes"
    )]
    Nothing,
}

/// A piece of a file that holds an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// A format that is taken in from strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// As the guest sees it.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VMware's, in one file.
    Vmdk,
    /// An archive of an appliance.
    Ova,
}

impl Known {
    /// Gives QEMU's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Ova => "tar",
        }
    }
}

/// Tells what a stranger's file, or a piece of it, is: by its first bytes, and
/// without any program that would open what it names.
///
/// # Errors
/// [`DiskError::Foreign`] for what is not taken in.
pub fn probe(path: &Path, part: Option<Part>) -> Result<Known, DiskError> {
    let read = unreadable(path);
    let file = File::open(path).map_err(&read)?;
    let length = file.metadata().map_err(&read)?.len();
    let part = part.unwrap_or(Part { offset: 0, length });
    let bytes = |at: u64, most: u64| -> Result<Vec<u8>, DiskError> {
        let most = most.min(part.length.saturating_sub(at));
        let mut bytes = vec![0; usize::try_from(most).unwrap_or(0)];
        let at = part.offset.saturating_add(at);
        file.read_exact_at(&mut bytes, at).map_err(&read)?;
        Ok(bytes)
    };
    let head = bytes(0, 4096)?;
    let foreign = |found| DiskError::Foreign {
        path: path.to_owned(),
        found,
    };
    let known = known(&head, part.length).map_err(foreign)?;
    match known {
        Known::Raw if bytes(32769, 5)? == b"CD001" => Err(foreign(Foreign::Optical)),
        Known::Raw if !part.length.is_multiple_of(512) || part.length == 0 => {
            Err(foreign(Foreign::Nothing))
        }
        Known::Qcow2 => {
            let name = Header(&head).backing();
            let Some((at, length)) = name else {
                return Ok(known);
            };
            let name = bytes(at, length.min(1023).into())?;
            let name = String::from_utf8_lossy(&name).into_owned();
            Err(foreign(Foreign::Backing(name)))
        }
        Known::Vmdk => {
            let header = Header(&head);
            let field = |at| header.little(at).unwrap_or(0).saturating_mul(512);
            // QEMU reads as much of it.
            let text = bytes(field(28), field(36).min(20 * 512))?;
            parent(&text).map_or(Ok(known), |name| Err(foreign(Foreign::Backing(name))))
        }
        _ => Ok(known),
    }
}

/// Tells what begins so.
fn known(head: &[u8], length: u64) -> Result<Known, Foreign> {
    use Foreign as F;
    for (magic, what) in [
        (&b"\x1f\x8b"[..], "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
    ] {
        if head.starts_with(magic) {
            return Err(F::Packed(what));
        }
    }
    for (magic, what) in [
        (&b"COWD"[..], "vmdk of ESX, version 3"),
        (b"vhdxfile", "vhdx"),
        (b"conectix", "vpc (vhd)"),
        (b"QED\0", "qed"),
        (b"LUKS\xba\xbe", "luks"),
    ] {
        if head.starts_with(magic) {
            return Err(F::Format(what));
        }
    }
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|h| h.starts_with(magic));
    if at(64, b"\x7f\x10\xda\xbe") {
        return Err(F::Format("vdi"));
    }
    let header = Header(head);
    if head.starts_with(b"QFI\xfb") {
        return qcow2(&header).map(|()| Known::Qcow2);
    }
    if head.starts_with(b"KDMV") {
        // Without a capacity QEMU takes the description in it for all that there is.
        let capacity = header.little(12).ok_or(F::Damaged)?;
        return match capacity {
            0 => Err(F::Elsewhere),
            _ => Ok(Known::Vmdk),
        };
    }
    let text = String::from_utf8_lossy(&head[..head.len().min(512)]).to_ascii_lowercase();
    if text.trim_start().starts_with("# disk descriptorfile") {
        return Err(F::Elsewhere);
    }
    if at(257, b"ustar") && length >= 1024 {
        return Ok(Known::Ova);
    }
    Ok(Known::Raw)
}

/// Looks at a header of QEMU's (its docs/interop/qcow2.txt).
fn qcow2(header: &Header<'_>) -> Result<(), Foreign> {
    let version = header.number(4, 4).ok_or(Foreign::Damaged)?;
    if !matches!(version, 2 | 3) {
        return Err(Foreign::Format("qcow of another version than 2 and 3"));
    }
    if header.number(32, 4).ok_or(Foreign::Damaged)? != 0 {
        return Err(Foreign::Encrypted);
    }
    let incompatible = match version {
        2 => 0,
        _ => header.number(72, 8).ok_or(Foreign::Damaged)?,
    };
    // Bit 2: the content is in a file that the header names.
    match incompatible & 4 {
        0 => Ok(()),
        _ => Err(Foreign::Elsewhere),
    }
}

/// Finds the name of what lies below in the description in a file of VMware's.
fn parent(description: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(description);
    let mut lines = text.lines().map(str::trim);
    let hint = lines.find_map(|line| line.strip_prefix("parentFileNameHint="))?;
    Some(hint.trim_matches('"').chars().take(1023).collect())
}

/// The first bytes of an image.
struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn number(&self, at: usize, bytes: usize) -> Option<u64> {
        let field = self.0.get(at..at + bytes)?;
        Some(field.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn little(&self, at: usize) -> Option<u64> {
        let field = self.0.get(at..at + 8)?;
        Some(field.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// Where the name of what lies below a qcow2 is, and how long it is.
    fn backing(&self) -> Option<(u64, u32)> {
        let at = self.number(8, 8).filter(|at| *at != 0)?;
        Some((at, u32::try_from(self.number(16, 4)?).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::super::done;
    use super::*;

    fn image(dir: &Path, name: &str, format: &str, words: &[&str]) -> PathBuf {
        let path = dir.join(name);
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", format]).args(words);
        command.arg(&path).arg("4M").current_dir(dir);
        done(command, "make", &path).expect("made");
        path
    }

    #[test]
    fn strangers_images_are_known_by_their_first_bytes() {
        hyperion_testkit::requires!("command:qemu-img");
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path();
        let told = |path: &Path| match probe(path, None) {
            Ok(known) => known.word().to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(told(&image(dir, "q", "qcow2", &[])), "qcow2");
        assert_eq!(told(&image(dir, "r", "raw", &[])), "raw");
        let stream = ["-o", "subformat=streamOptimized"];
        for words in [&[][..], &stream] {
            assert_eq!(told(&image(dir, "v", "vmdk", words)), "vmdk");
        }
        let below = ["-b", "/etc/hostname", "-F", "raw", "-u"];
        let top = image(dir, "top", "qcow2", &below);
        assert!(told(&top).ends_with("lies on another file: \"/etc/hostname\""));
        let top = image(
            dir,
            "topv",
            "vmdk",
            &["-b", "v", "-F", "vmdk", "-o", "subformat=monolithicSparse"],
        );
        assert!(
            told(&top).contains("lies on another file"),
            "{}",
            told(&top)
        );
        let data = image(dir, "data", "qcow2", &["-o", "data_file=outside"]);
        assert!(told(&data).contains("in other files"));
        let secret = image(dir, "secret", "qcow2", &[]);
        let mut bytes = std::fs::read(&secret).expect("read");
        bytes[35] = 2;
        std::fs::write(&secret, bytes).expect("written");
        assert!(told(&secret).contains("is encrypted"));
        let flat = ["-o", "subformat=monolithicFlat"];
        assert!(told(&image(dir, "flat", "vmdk", &flat)).contains("in other files"));
        for (format, word) in [("vdi", "vdi"), ("vhdx", "vhdx"), ("vpc", "vpc")] {
            assert!(
                told(&image(dir, format, format, &[])).contains(word),
                "{format}"
            );
        }
        // A description that QEMU takes for all that there is: its files are anybody's.
        let mut header = vec![0; 2048];
        header[..4].copy_from_slice(b"KDMV");
        header[28] = 1;
        header[512..].fill(b' ');
        let trick = dir.join("trick");
        std::fs::write(&trick, &header).expect("a file");
        assert!(told(&trick).contains("in other files"));
        for (content, word) in [
            (&b"\x1f\x8b\x08"[..], "packed (gzip)"),
            (b"hello", "is no disk image"),
            (b"", "is no disk image"),
            (b"QFI\xfb", "has a damaged header"),
            (b"QFI\xfb\0\0\0\x01", "another version"),
        ] {
            std::fs::write(&trick, content).expect("a file");
            assert!(told(&trick).contains(word), "{}", told(&trick));
        }
        let mut disk = vec![0; 64 << 10];
        disk[32769..][..5].copy_from_slice(b"CD001");
        std::fs::write(&trick, &disk).expect("a file");
        assert!(told(&trick).contains("optical"));
        assert!(told(&dir.join("none")).starts_with("there is no disk image"));
    }
}
