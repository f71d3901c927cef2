//! The few facts of an ELF file that starting it depends on.
//!
//! Only the header, the program headers and the dynamic section are read, in
//! bounded pieces, so that a library of 40 MB costs a few reads. Layout:
//! System V ABI, chapters 4 and 5; symbol versions: LSB core, chapter 10.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use thiserror::Error;

use crate::root::RootView;

/// Why a file cannot be read as ELF.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ElfError {
    /// The file does not start with the magic number.
    #[error("not an ELF file")]
    NotElf,
    /// The file ends early or points outside of itself.
    #[error("the ELF file is cut off or damaged")]
    Damaged,
}

/// The version of a library: its numbers, most significant first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub Vec<u32>);

impl Version {
    fn of_glibc_symbol(name: &str) -> Option<Self> {
        name.strip_prefix("GLIBC_")?.parse().ok()
    }
}

impl FromStr for Version {
    type Err = ParseIntError;
    fn from_str(s: &str) -> Result<Self, ParseIntError> {
        let parts: Result<_, _> = s.split('.').map(str::parse).collect();
        parts.map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.pad(&parts.join("."))
    }
}

/// A piece of the file that is mapped into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

/// Places of the dynamic section, as addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tables {
    strings: u64,
    symbols: u64,
    hash: u64,
    version_needs: u64,
    version_needs_count: u64,
    versions: u64,
    versions_count: u64,
}

/// What an ELF file says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// The architecture, in the words of `uname -m`.
    pub arch: String,
    /// The dynamic loader that it asks for; none when it is static.
    pub interpreter: Option<String>,
    /// The libraries it needs, by name, in order.
    pub needed: Vec<String>,
    /// The name under which it is a library.
    pub soname: Option<String>,
    /// Folders where its libraries are looked for, before the system's.
    pub runpath: Vec<String>,
    /// `runpath` is an old `RPATH`, which comes before `LD_LIBRARY_PATH`.
    pub runpath_is_first: bool,
    /// The newest glibc whose symbols it needs.
    pub glibc_needed: Option<Version>,
    /// The newest glibc whose symbols it defines, when it is `libc.so.6`.
    pub glibc_defined: Option<Version>,
    segments: Vec<Segment>,
    tables: Tables,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

const HEADERS_MAX: usize = 64;
const DYNAMIC_MAX: usize = 512;
const TEXT_MAX: usize = 4096;
const VERSIONS_MAX: usize = 256;
const CHAIN_MAX: u32 = 4096;

/// Reads little- or big-endian numbers out of a piece of the file.
struct Piece {
    bytes: Vec<u8>,
    little: bool,
}

impl Piece {
    fn number<const N: usize>(&self, at: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(N)?)?;
        let step = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(match self.little {
            true => bytes.iter().rev().fold(0, step),
            false => bytes.iter().fold(0, step),
        })
    }

    fn half(&self, at: usize) -> Option<u16> {
        self.number::<2>(at).map(|n| n as u16)
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.number::<4>(at).map(|n| n as u32)
    }

    fn long(&self, at: usize) -> Option<u64> {
        self.number::<8>(at)
    }
}

/// How much of a file is read at once, in bytes.
const BLOCK: usize = 4096;

/// One open file, read in whole blocks, each once: what is wanted of a file
/// lies close together, and each read may be a question to another process.
struct File<'a> {
    view: &'a mut dyn RootView,
    path: &'a str,
    little: bool,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl<'a> File<'a> {
    fn new(view: &'a mut dyn RootView, path: &'a str) -> Self {
        Self {
            view,
            path,
            little: true,
            blocks: BTreeMap::new(),
        }
    }

    /// Gives up to `len` bytes from `offset` on; fewer at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < len {
            let at = offset.checked_add(out.len() as u64)?;
            let (index, skip) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let block = match self.blocks.entry(index) {
                Slot::Occupied(block) => block.into_mut(),
                Slot::Vacant(slot) => {
                    slot.insert(self.view.read(self.path, index * BLOCK as u64, BLOCK)?)
                }
            };
            let Some(tail) = block.get(skip..).filter(|tail| !tail.is_empty()) else {
                break;
            };
            out.extend(tail.iter().take(len - out.len()));
        }
        Some(out)
    }

    fn piece(&mut self, offset: u64, len: usize) -> Option<Piece> {
        let bytes = self.bytes(offset, len)?;
        let little = self.little;
        (bytes.len() == len).then_some(Piece { bytes, little })
    }

    /// Reads text up to a NUL, of at most `max` bytes.
    fn text(&mut self, offset: u64, max: usize) -> Option<String> {
        // Most names are short; only a long one is read on.
        for len in [64, max] {
            let bytes = self.bytes(offset, len)?;
            if let Some(end) = bytes.iter().position(|b| *b == 0) {
                return String::from_utf8(bytes[..end].to_vec()).ok();
            }
        }
        None
    }
}

impl Elf {
    /// Reads the facts of the file at a path.
    ///
    /// A file of 32 bits gives its architecture and nothing else.
    ///
    /// # Errors
    /// When the file is not ELF, or is damaged.
    pub fn read(view: &mut dyn RootView, path: &str) -> Result<Self, ElfError> {
        let mut file = File::new(view, path);
        let head = file.bytes(0, 64).ok_or(ElfError::NotElf)?;
        if head.get(..4) != Some(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        let wide = head.get(4) == Some(&2);
        let little = head.get(5) != Some(&2);
        let head = Piece {
            bytes: head,
            little,
        };
        let machine = head.half(18).ok_or(ElfError::Damaged)?;
        let mut elf = Self {
            arch: arch(machine, wide, little),
            ..Self::default()
        };
        if wide {
            file.little = little;
            elf.read_headers(&mut file, &head)
                .ok_or(ElfError::Damaged)?;
        }
        Ok(elf)
    }

    fn read_headers(&mut self, file: &mut File<'_>, head: &Piece) -> Option<()> {
        let (start, size) = (head.long(32)?, usize::from(head.half(54)?));
        let count = usize::from(head.half(56)?).min(HEADERS_MAX);
        if size < 56 {
            return None;
        }
        let headers = file.piece(start, size * count)?;
        let mut dynamic = None;
        for at in (0..count).map(|i| i * size) {
            let segment = Segment {
                offset: headers.long(at + 8)?,
                address: headers.long(at + 16)?,
                size: headers.long(at + 32)?,
            };
            match headers.word(at)? {
                PT_LOAD => self.segments.push(segment),
                PT_DYNAMIC => dynamic = Some(segment),
                PT_INTERP => self.interpreter = Some(file.text(segment.offset, TEXT_MAX)?),
                _ => {}
            }
        }
        match dynamic {
            Some(dynamic) => self.read_dynamic(file, dynamic),
            None => Some(()),
        }
    }

    fn read_dynamic(&mut self, file: &mut File<'_>, dynamic: Segment) -> Option<()> {
        let count = usize::try_from(dynamic.size / 16).ok()?.min(DYNAMIC_MAX);
        let table = file.piece(dynamic.offset, count * 16)?;
        let mut entries = Vec::new();
        for at in (0..count).map(|i| i * 16) {
            match (table.long(at)?, table.long(at + 8)?) {
                (0, _) => break,
                entry => entries.push(entry),
            }
        }
        for &(tag, value) in &entries {
            match tag {
                5 => self.tables.strings = value,
                6 => self.tables.symbols = value,
                0x6fff_fef5 => self.tables.hash = value,
                0x6fff_fffe => self.tables.version_needs = value,
                0x6fff_ffff => self.tables.version_needs_count = value,
                0x6fff_fffc => self.tables.versions = value,
                0x6fff_fffd => self.tables.versions_count = value,
                _ => {}
            }
        }
        let runpath_wins = entries.iter().any(|(tag, _)| *tag == 29);
        for &(tag, value) in &entries {
            match tag {
                1 => self.needed.push(self.string(file, value)?),
                14 => self.soname = Some(self.string(file, value)?),
                15 | 29 if (tag == 29) == runpath_wins => {
                    let list = self.string(file, value)?;
                    self.runpath = list.split(':').map(str::to_owned).collect();
                    self.runpath_is_first = tag == 15;
                }
                _ => {}
            }
        }
        self.glibc_needed = self.newest_glibc_needed(file);
        self.glibc_defined = self.newest_glibc_defined(file);
        Some(())
    }

    /// Finds the place in the file of an address in memory.
    fn offset(&self, address: u64) -> Option<u64> {
        let inside = |s: &&Segment| address >= s.address && address - s.address < s.size;
        let segment = self.segments.iter().find(inside)?;
        segment.offset.checked_add(address - segment.address)
    }

    fn string(&self, file: &mut File<'_>, index: u64) -> Option<String> {
        let address = self.tables.strings.checked_add(index)?;
        file.text(self.offset(address)?, TEXT_MAX)
    }

    /// Walks the list of needed versions (`Verneed`, `Vernaux`).
    fn newest_glibc_needed(&self, file: &mut File<'_>) -> Option<Version> {
        let mut at = self.offset(self.tables.version_needs)?;
        let mut newest = None;
        let mut budget = VERSIONS_MAX;
        for _ in 0..self.tables.version_needs_count.min(VERSIONS_MAX as u64) {
            let library = file.piece(at, 16)?;
            let mut entry = at.checked_add(u64::from(library.word(8)?))?;
            for _ in 0..library.half(2)? {
                budget = budget.checked_sub(1)?;
                let version = file.piece(entry, 16)?;
                let name = self.string(file, u64::from(version.word(8)?))?;
                newest = newest.max(Version::of_glibc_symbol(&name));
                entry = entry.checked_add(u64::from(version.word(12)?))?;
            }
            at = at.checked_add(u64::from(library.word(12)?))?;
        }
        newest
    }

    /// Walks the list of defined versions (`Verdef`, `Verdaux`).
    fn newest_glibc_defined(&self, file: &mut File<'_>) -> Option<Version> {
        let mut at = self.offset(self.tables.versions)?;
        let mut newest = None;
        for _ in 0..self.tables.versions_count.min(VERSIONS_MAX as u64) {
            let entry = file.piece(at, 20)?;
            let name = file.piece(at.checked_add(u64::from(entry.word(12)?))?, 4)?;
            let name = self.string(file, u64::from(name.word(0)?))?;
            newest = newest.max(Version::of_glibc_symbol(&name));
            at = at.checked_add(u64::from(entry.word(16)?))?;
        }
        newest
    }

    /// Reads the text that an exported variable holds, up to `max` bytes.
    ///
    /// The symbol is found through `DT_GNU_HASH`, so a large library costs
    /// a handful of small reads.
    pub fn exported_text(
        &self,
        view: &mut dyn RootView,
        path: &str,
        symbol: &str,
        max: usize,
    ) -> Option<String> {
        let mut file = File::new(view, path);
        let hash = symbol.bytes().fold(5381u32, |h, b| {
            h.wrapping_mul(33).wrapping_add(u32::from(b))
        });
        let table = self.offset(self.tables.hash)?;
        let head = file.piece(table, 16)?;
        let (buckets, first, bloom) = (head.word(0)?, head.word(4)?, head.word(8)?);
        // Each term below is small; only the table's own place can be anything.
        let bucket_at = table.checked_add(16 + 8 * u64::from(bloom))?;
        let bucket = hash.checked_rem(buckets)?;
        let mut index = file
            .piece(bucket_at.checked_add(4 * u64::from(bucket))?, 4)?
            .word(0)?;
        let chain_at = bucket_at.checked_add(4 * u64::from(buckets))?;
        for _ in 0..CHAIN_MAX {
            let link = u64::from(index.checked_sub(first)?);
            let chained = file.piece(chain_at.checked_add(4 * link)?, 4)?.word(0)?;
            if chained | 1 == hash | 1 {
                let at = self.tables.symbols.checked_add(24 * u64::from(index))?;
                let entry = file.piece(self.offset(at)?, 24)?;
                if self.string(&mut file, u64::from(entry.word(0)?))? == symbol {
                    return file.text(self.offset(entry.long(8)?)?, max);
                }
            }
            if chained & 1 == 1 {
                return None;
            }
            index = index.checked_add(1)?;
        }
        None
    }
}

/// Names an architecture as `uname -m` does.
fn arch(machine: u16, wide: bool, little: bool) -> String {
    match (machine, wide, little) {
        (62, true, _) => "x86_64",
        (62, false, _) => "x32",
        (3, ..) => "i686",
        (183, _, true) => "aarch64",
        (40, ..) => "armv7l",
        (21, _, true) => "ppc64le",
        (21, _, false) => "ppc64",
        (22, ..) => "s390x",
        (243, true, _) => "riscv64",
        (258, ..) => "loongarch64",
        _ => return format!("machine-{machine}"),
    }
    .to_owned()
}

#[cfg(test)]
pub(crate) mod build {
    /// Builds a small ELF file of 64 bits, for tests: one segment that maps
    /// the whole file at address 0, and a dynamic section.
    pub(crate) struct Sketch {
        pub(crate) machine: u16,
        pub(crate) interpreter: Option<&'static str>,
        pub(crate) needed: Vec<&'static str>,
        pub(crate) runpath: Option<&'static str>,
        /// Further entries of the dynamic section: tag and value.
        pub(crate) extra: Vec<(u64, u64)>,
    }

    impl Default for Sketch {
        fn default() -> Self {
            Self {
                machine: 62,
                interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
                needed: Vec::new(),
                runpath: None,
                extra: Vec::new(),
            }
        }
    }

    impl Sketch {
        /// A library, which has no interpreter, that needs these others.
        pub(crate) fn library(needed: Vec<&'static str>) -> Vec<u8> {
            Self {
                needed,
                interpreter: None,
                ..Self::default()
            }
            .bytes()
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            let mut strings = vec![0u8];
            let mut add = |text: &str| {
                let at = strings.len() as u64;
                strings.extend_from_slice(text.as_bytes());
                strings.push(0);
                at
            };
            let interpreter = self.interpreter.map(&mut add);
            let mut dynamic: Vec<(u64, u64)> =
                self.needed.iter().map(|name| (1, add(name))).collect();
            dynamic.extend(self.runpath.map(|path| (29, add(path))));
            let (headers, strings_at) = (64u64, 64 + 3 * 56);
            let dynamic_at = strings_at + strings.len() as u64;
            dynamic.push((5, strings_at));
            dynamic.extend(&self.extra);
            dynamic.push((0, 0));
            let total = dynamic_at + 16 * dynamic.len() as u64;

            let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
            out.extend_from_slice(&3u16.to_le_bytes());
            out.extend_from_slice(&self.machine.to_le_bytes());
            out.resize(32, 0);
            out.extend_from_slice(&headers.to_le_bytes());
            out.resize(54, 0);
            out.extend_from_slice(&56u16.to_le_bytes());
            out.extend_from_slice(&3u16.to_le_bytes());
            out.resize(64, 0);
            let interpreter_at = strings_at + interpreter.unwrap_or(0);
            let kind = if interpreter.is_some() { 3 } else { 0 };
            for (kind, at, size) in [
                (1u32, 0u64, total),
                (2, dynamic_at, 16 * dynamic.len() as u64),
                (kind, interpreter_at, 64),
            ] {
                out.extend_from_slice(&kind.to_le_bytes());
                out.extend_from_slice(&4u32.to_le_bytes());
                for value in [at, at, at, size, size, 1] {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
            out.extend_from_slice(&strings);
            for (tag, value) in dynamic {
                out.extend_from_slice(&u64::to_le_bytes(tag));
                out.extend_from_slice(&value.to_le_bytes());
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::build::Sketch;
    use super::*;
    use crate::root::fake::FakeRoot;
    use proptest::prelude::*;

    #[test]
    fn needed_libraries_loader_and_runpath_are_read() {
        let bytes = Sketch {
            needed: vec!["libmpich.so.12", "libc.so.6"],
            runpath: Some("$ORIGIN/../lib:/opt/lib"),
            ..Sketch::default()
        }
        .bytes();
        let elf = Elf::read(&mut FakeRoot::default().file("/a", bytes), "/a").expect("ELF");
        assert_eq!(elf.arch, "x86_64");
        assert_eq!(elf.needed, ["libmpich.so.12", "libc.so.6"]);
        assert_eq!(elf.runpath, ["$ORIGIN/../lib", "/opt/lib"]);
        assert_eq!(
            elf.interpreter.as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
    }

    #[test]
    fn what_is_not_elf_is_told_from_what_is_damaged() {
        let mut root = FakeRoot::default()
            .file("/script", "#!/bin/sh\n")
            .file("/short", &b"\x7fELF\x02\x01\x01"[..]);
        assert_eq!(Elf::read(&mut root, "/script"), Err(ElfError::NotElf));
        assert_eq!(Elf::read(&mut root, "/short"), Err(ElfError::Damaged));
        assert_eq!(Elf::read(&mut root, "/none"), Err(ElfError::NotElf));
    }

    proptest! {
        #[test]
        fn no_damaged_file_makes_the_reader_panic_or_hang(
            changes in prop::collection::vec((0usize..600, any::<u8>()), 0..12),
            cut in 0usize..700,
        ) {
            let mut bytes = Sketch { needed: vec!["libmpi.so.40"], ..Sketch::default() }.bytes();
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(cut);
            let mut root = FakeRoot::default().file("/a", bytes);
            if let Ok(elf) = Elf::read(&mut root, "/a") {
                let _ = elf.exported_text(&mut root, "/a", "MPII_Version_string", 64);
            }
        }

        #[test]
        fn no_places_of_tables_make_the_reader_panic_or_hang(
            extra in prop::collection::vec((
                prop::sample::select(vec![5u64, 6, 0x6fff_fef5, 0x6fff_fffc, 0x6fff_fffd, 0x6fff_fffe, 0x6fff_ffff]),
                prop_oneof![0u64..700, any::<u64>(), (u64::MAX - 64)..=u64::MAX],
            ), 0..8),
            changes in prop::collection::vec((64usize..240, any::<u8>()), 0..12),
        ) {
            let mut bytes = Sketch { extra, ..Sketch::default() }.bytes();
            for (at, value) in changes {
                bytes[at] = value;
            }
            let mut root = FakeRoot::default().file("/a", bytes);
            if let Ok(elf) = Elf::read(&mut root, "/a") {
                let _ = elf.exported_text(&mut root, "/a", "MPII_Version_string", 64);
            }
        }

        #[test]
        fn no_bytes_after_the_magic_make_the_reader_panic(
            tail in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = b"\x7fELF\x02".to_vec();
            bytes.extend(tail);
            let _ = Elf::read(&mut FakeRoot::default().file("/a", bytes), "/a");
        }
    }
}
