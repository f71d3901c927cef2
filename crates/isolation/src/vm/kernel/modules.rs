//! The modules of a kernel: what they need, and in which order they are loaded.
//!
//! A module says itself what it needs (section `.modinfo`), so the indexes that
//! `depmod` makes are not looked at: packages do not have them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::compressed;
use super::error::KernelError;

/// The largest module that is read, in bytes, unpacked.
pub(super) const LARGEST: u64 = 64 << 20;
/// The longest chain of modules that need each other.
const DEEPEST: usize = 64;
/// Bytes of all modules together.
const TOTAL: usize = 512 << 20;

/// Gives the name of a module from its file's: `virtio_rng` of `virtio-rng.ko.xz`.
pub(super) fn name_of(file: &str) -> Option<String> {
    let stem = ["", ".xz", ".zst", ".gz"]
        .into_iter()
        .find_map(|packed| file.strip_suffix(packed)?.strip_suffix(".ko"))?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (!stem.is_empty() && stem.len() <= 64 && stem.bytes().all(allowed)).then(|| normal(stem))
}

/// Spells a module's name as the kernel does.
pub(super) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads `modules.builtin`: the modules that are part of the kernel itself.
pub(super) fn builtin(text: &str) -> BTreeSet<String> {
    let files = text.lines().filter_map(|line| line.rsplit('/').next());
    files.filter_map(|file| name_of(file.trim_end())).collect()
}

/// A module, unpacked.
#[derive(Debug)]
pub(super) struct Module {
    /// As the kernel calls it.
    pub(super) name: String,
    /// The ELF file.
    pub(super) bytes: Vec<u8>,
}

/// What a module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// Modules without which it is not loaded.
    needs: Vec<String>,
    /// Modules that should be there before it.
    wants: Vec<String>,
    /// The devices, file systems and protocols that it serves, as patterns.
    pub(super) aliases: Vec<String>,
    /// The release of its kernel.
    pub(super) release: Option<String>,
}

/// The folder of a kernel's modules, one file `NAME.ko` each, packed or not.
#[derive(Debug, Clone)]
pub(super) struct Modules {
    pub(super) folder: PathBuf,
}

impl Modules {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.ko"))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// Reads a module; nothing when it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<(Module, Info)>, KernelError> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(KernelError::io("read", &self.path(name))(e)),
        };
        let read = compressed::read(file, LARGEST).and_then(|bytes| match info(&bytes) {
            Some(info) => Ok((bytes, info)),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is no module",
            )),
        });
        let (bytes, info) = read.map_err(|source| KernelError::Module {
            name: name.to_owned(),
            source,
        })?;
        let name = name.to_owned();
        Ok(Some((Module { name, bytes }, info)))
    }
}

/// Modules in the order in which they are loaded.
#[derive(Debug)]
pub(super) struct Order<'a> {
    modules: &'a Modules,
    seen: BTreeSet<String>,
    bytes: usize,
    /// Those that were added, what they need before them.
    pub(super) list: Vec<Module>,
}

impl<'a> Order<'a> {
    pub(super) fn new(modules: &'a Modules) -> Self {
        Self {
            modules,
            seen: BTreeSet::new(),
            bytes: 0,
            list: Vec::new(),
        }
    }

    /// Adds a module and, before it, what it needs; nothing when it is not there
    /// (part of the kernel, or missing).
    pub(super) fn add(&mut self, name: &str) -> Result<(), KernelError> {
        self.add_below(name, 0)
    }

    fn add_below(&mut self, name: &str, depth: usize) -> Result<(), KernelError> {
        if self.seen.contains(name) {
            return Ok(());
        }
        let Some((module, info)) = self.modules.read(name)? else {
            return Ok(());
        };
        self.bytes += module.bytes.len();
        if depth > DEEPEST || self.bytes > TOTAL {
            return Err(KernelError::Module {
                name: name.to_owned(),
                source: io::Error::new(io::ErrorKind::InvalidData, "it needs too many modules"),
            });
        }
        self.seen.insert(name.to_owned());
        for want in &info.wants {
            // Algorithms are wanted by their own name, `crc32c`: `modprobe` would look
            // for whoever has it as an alias, and there is always this one.
            self.add_below(want, depth + 1)?;
            self.add_below(&format!("{want}_generic"), depth + 1)?;
        }
        for need in &info.needs {
            self.add_below(need, depth + 1)?;
        }
        self.list.push(module);
        Ok(())
    }
}

/// Reads what a module says of itself; nothing when it is no module.
pub(super) fn info(elf: &[u8]) -> Option<Info> {
    let mut info = Info::default();
    let names = |text: &str| -> Vec<String> {
        let all = text.split([',', ' ']);
        all.filter_map(|name| name_of(&format!("{name}.ko")))
            .collect()
    };
    for field in section(elf, b".modinfo")?.split(|&b| b == 0) {
        let Some((key, value)) = std::str::from_utf8(field)
            .ok()
            .and_then(|field| field.split_once('='))
        else {
            continue;
        };
        match key {
            "depends" => info.needs = names(value),
            "softdep" => {
                let before = value.split("post:").next().unwrap_or_default();
                if let Some(before) = before.trim().strip_prefix("pre:") {
                    info.wants.extend(names(before));
                }
            }
            // A line of its index each.
            "alias" if value.bytes().all(|b| b.is_ascii_graphic()) => {
                info.aliases.push(value.to_owned());
            }
            "vermagic" => info.release = value.split(' ').next().map(str::to_owned),
            _ => {}
        }
    }
    Some(info)
}

/// Finds a section of a 64-bit little-endian ELF file by its name.
fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let half = |at: usize| {
        Some(usize::from(u16::from_le_bytes(
            *elf.get(at..)?.first_chunk()?,
        )))
    };
    let long = |at: usize| {
        let value = u64::from_le_bytes(*elf.get(at..)?.first_chunk()?);
        usize::try_from(value).ok()
    };
    let word = |at: usize| {
        let value = u32::from_le_bytes(*elf.get(at..)?.first_chunk()?);
        usize::try_from(value).ok()
    };
    let (start, size, count, strings) = (long(40)?, half(58)?, half(60)?, half(62)?);
    let header = |number: usize| start.checked_add(number.checked_mul(size)?);
    let content = |header: usize| {
        let offset = long(header.checked_add(24)?)?;
        let length = long(header.checked_add(32)?)?;
        elf.get(offset..offset.checked_add(length)?)
    };
    let names = content(header(strings)?)?;
    (0..count)
        .filter_map(header)
        .find(|&header| {
            let of_it = word(header).and_then(|at| names.get(at..));
            of_it.is_some_and(|text| text.strip_prefix(name).is_some_and(|t| t.starts_with(&[0])))
        })
        .and_then(content)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with these fields as its `.modinfo`, and nothing else.
    pub(crate) fn module(fields: &[&str]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let info = fields.join("\0") + "\0";
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        let put = |elf: &mut Vec<u8>, at: usize, value: u64| {
            elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        let (names_at, info_at) = (64, 64 + names.len() as u64);
        elf.extend(names);
        elf.extend(info.as_bytes());
        let start = elf.len() as u64;
        put(&mut elf, 40, start);
        elf[58] = 64;
        elf[60] = 3;
        elf[62] = 2;
        for (name, offset, length) in [
            (0, 0, 0),
            (1, info_at, info.len() as u64),
            (10, names_at, names.len() as u64),
        ] {
            let at = elf.len();
            elf.resize(at + 64, 0);
            elf[at] = name;
            put(&mut elf, at + 24, offset);
            put(&mut elf, at + 32, length);
        }
        elf
    }

    #[test]
    fn a_module_says_what_it_needs() {
        let bytes = module(&[
            "license=GPL",
            "softdep=pre: crc32c post: zlib",
            "depends=virtio,virtio-ring",
            "vermagic=6.1.0-x SMP preempt",
        ]);
        let info = info(&bytes).expect("a module");
        assert_eq!(info.needs, ["virtio", "virtio_ring"]);
        assert_eq!(info.wants, ["crc32c"]);
        assert_eq!(info.release.as_deref(), Some("6.1.0-x"));
        let none = super::info(&module(&["depends="])).expect("a module");
        assert_eq!(none, Info::default());
    }

    #[test]
    fn a_damaged_module_is_none() {
        let good = module(&["depends=a"]);
        for at in 0..good.len() {
            let _ = info(&good[..at]);
            let mut changed = good.clone();
            changed[at] = 0xff;
            let _ = info(&changed);
        }
        assert_eq!(info(b""), None);
        assert_eq!(info(b"#!/bin/sh"), None);
    }

    #[test]
    fn names_are_those_of_the_kernel() {
        assert_eq!(name_of("virtio-rng.ko.xz").as_deref(), Some("virtio_rng"));
        assert_eq!(name_of("9p.ko").as_deref(), Some("9p"));
        for bad in ["ko", ".ko", "a.so", "../a.ko", "a b.ko", "a.ko.bz2"] {
            assert_eq!(name_of(bad), None, "{bad}");
        }
        let text = "kernel/fs/ext4/ext4.ko\nkernel/drivers/char/hw_random/virtio-rng.ko\n\n#\n";
        let all: Vec<String> = builtin(text).into_iter().collect();
        assert_eq!(all, ["ext4", "virtio_rng"]);
    }

    fn folder(all: &[(&str, &str)]) -> (tempfile::TempDir, Modules) {
        let dir = tempfile::tempdir().expect("a folder");
        let modules = Modules {
            folder: dir.path().to_owned(),
        };
        for (name, fields) in all {
            let fields: Vec<&str> = fields.split('|').collect();
            std::fs::write(modules.path(name), module(&fields)).expect("written");
        }
        (dir, modules)
    }

    #[test]
    fn what_a_module_needs_comes_first_and_once() {
        let (_dir, modules) = folder(&[
            ("ring", "depends="),
            ("virtio", "depends=ring"),
            ("blk", "depends=virtio,ring,part_of_the_kernel"),
            ("crc32c_generic", "depends="),
            ("ext", "softdep=pre: crc32c|depends=blk"),
            // Two that need each other are a lie.
            ("x", "depends=y"),
            ("y", "depends=x"),
        ]);
        let mut order = Order::new(&modules);
        for name in ["blk", "missing", "ext", "virtio", "x"] {
            order.add(name).expect("read");
        }
        let names: Vec<&str> = order.list.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            names,
            ["ring", "virtio", "blk", "crc32c_generic", "ext", "y", "x"]
        );
    }

    #[test]
    fn a_chain_without_end_is_refused() {
        let all: Vec<(String, String)> = (0..100)
            .map(|n| (format!("m{n}"), format!("depends=m{}", n + 1)))
            .collect();
        let all: Vec<(&str, &str)> = all.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let (_dir, modules) = folder(&all);
        let error = Order::new(&modules).add("m0").expect_err("too long");
        assert!(matches!(error, KernelError::Module { .. }), "{error}");
    }
}
