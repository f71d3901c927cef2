//! The first root of a virtual machine: the init and the kernel's modules.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::cpio::Archive;
use super::draft::open_to_readers;
use super::error::KernelError;
use super::modules::{Module, Modules, Order};

/// What the init loads before anything else: the ways to a disk, to the host
/// and to randomness, and the file systems that a root is made of.
pub(super) const AT_BOOT: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "virtio_rng",
    "erofs",
    "overlay",
];

/// What the init of a job's machine loads when it is asked for.
pub(super) const ON_DEMAND: &[&str] = &["ext4", "virtio_net", "virtiofs", "9p", "9pnet_virtio"];

/// Changes when the same program and modules are put together in another way.
const FORM: &str = "3";
/// How long the header of a program is.
const HEADER: usize = 64;
/// What finished files begin with.
pub(super) const PREFIX: &str = "initramfs-";
/// What unfinished files begin with.
const UNFINISHED: &str = ".initramfs-";
/// How long one that is not used any more stays: another program of Hyperion may
/// just have been given its path.
const GRACE: Duration = Duration::from_secs(600);

/// Gives the first root for this program in a kernel's folder; makes it when it
/// is not there yet.
pub(super) fn get(
    folder: &Path,
    modules: &Modules,
    program: &Path,
) -> Result<PathBuf, KernelError> {
    let cannot_read = || KernelError::io("read", program);
    let file = File::open(program).map_err(cannot_read())?;
    let metadata = file.metadata().map_err(cannot_read())?;
    let name = format!("{PREFIX}{}", digest(&metadata));
    let path = folder.join(&name);
    if let Ok(there) = File::options().append(true).open(&path) {
        // Says that it is in use. Who may not write here does not remove either.
        let _ = there.set_modified(SystemTime::now());
        return Ok(path);
    }
    if path.exists() {
        return Ok(path);
    }
    make(&path, &file, metadata.len(), modules)?;
    remove_others(folder, &name);
    Ok(path)
}

/// Tells programs apart by what the file system knows of them: to hash the bytes
/// would cost more than to boot without a cache saves.
fn digest(program: &Metadata) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{FORM} {AT_BOOT:?} {ON_DEMAND:?}"));
    for number in [
        program.dev(),
        program.ino(),
        program.size(),
        program.mtime().cast_unsigned(),
        program.mtime_nsec().cast_unsigned(),
        program.ctime().cast_unsigned(),
        program.ctime_nsec().cast_unsigned(),
    ] {
        hasher.update(number.to_le_bytes());
    }
    let all = hasher.finalize();
    all[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes it beside and renames it: several at once make the same file.
fn make(path: &Path, program: &File, size: u64, modules: &Modules) -> Result<(), KernelError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut order = Order::new(modules);
    for name in AT_BOOT {
        order.add(name)?;
    }
    let at_boot = order.list.len();
    // For each of the others, what must be loaded for it that is not there at boot.
    let mut demanded = Vec::new();
    for name in ON_DEMAND {
        order.add(name)?;
        demanded.push((*name, needed(modules, name)?));
    }
    let (first, more) = order.list.split_at(at_boot);
    let of_more = |name: &String| more.iter().any(|module| module.name == *name);

    let cannot = || KernelError::io("write", path);
    let file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(folder)
        .map_err(cannot())?;
    let write = || -> io::Result<()> {
        open_to_readers(file.as_file())?;
        let mut archive = Archive::new(BufWriter::with_capacity(256 << 10, file.as_file()));
        for folder in ["dev", "proc", "sys", "modules", "modules/more"] {
            archive.folder(folder)?;
        }
        archive.device("dev/console", 0o600, (5, 1))?;
        for (number, module) in first.iter().enumerate() {
            put(
                &mut archive,
                &format!("modules/{number:03}-{}.ko", module.name),
                module,
            )?;
        }
        let mut list = String::new();
        for (name, needs) in demanded {
            let files: Vec<String> = needs
                .iter()
                .filter(|need| of_more(need))
                .map(|need| format!("{need}.ko"))
                .collect();
            if !files.is_empty() {
                list += &format!("{name}: {}\n", files.join(" "));
            }
        }
        for module in more {
            put(
                &mut archive,
                &format!("modules/more/{}.ko", module.name),
                module,
            )?;
        }
        archive.file(
            "modules/more/dep",
            0o644,
            list.len() as u64,
            list.as_bytes(),
        )?;
        let (head, size) = without_names(program, size)?;
        archive.file("init", 0o755, size, head.as_slice().chain(program))?;
        archive.finish()?.flush()?;
        file.as_file().sync_data()
    };
    write().map_err(cannot())?;
    file.persist(path).map_err(|e| cannot()(e.error))?;
    Ok(())
}

/// Reads the header of a program as it stands before what the kernel loads of it,
/// and tells where that ends; the file is then read on after the header. Behind it
/// are the names of functions: a fifth of the file, which an emulated kernel takes
/// its time to unpack.
fn without_names(mut program: &File, size: u64) -> io::Result<(Vec<u8>, u64)> {
    /// Where the header says where the program's parts are listed, and how many of
    /// which size (elf(5)).
    const PARTS: usize = 0x20;
    const PART_SIZE: usize = 0x36;
    const PARTS_COUNT: usize = 0x38;
    /// Where it says the same of the sections, which only debuggers and linkers read.
    const SECTIONS: usize = 0x28;
    const SECTION_COUNT: usize = 0x3c;

    let mut header = [0; HEADER];
    if size < HEADER as u64 {
        return Ok((Vec::new(), size));
    }
    program.read_exact(&mut header)?;
    let short = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let long = |from: &[u8; HEADER], at: usize| {
        from[at..]
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let (parts, part_size) = (long(&header, PARTS), short(PART_SIZE));
    let mut end = 0;
    for number in 0..short(PARTS_COUNT) {
        // A part begins with its kind and rights; at 8 is where it lies, at 32 its size.
        let mut part = [0; HEADER];
        let length = HEADER.min(part_size as usize);
        program.read_exact_at(&mut part[..length], parts + number * part_size)?;
        end = end.max(long(&part, 8).saturating_add(long(&part, 32)));
    }
    if end < HEADER as u64 || end > size {
        return Ok((header.into(), size));
    }
    header[SECTIONS..SECTIONS + 8].fill(0);
    header[SECTION_COUNT..].fill(0);
    Ok((header.into(), end))
}

/// Names what a module needs, in the order in which it is loaded, itself last.
fn needed(modules: &Modules, name: &str) -> Result<Vec<String>, KernelError> {
    let mut order = Order::new(modules);
    order.add(name)?;
    Ok(order.list.into_iter().map(|module| module.name).collect())
}

fn put(archive: &mut Archive<impl io::Write>, path: &str, module: &Module) -> io::Result<()> {
    let bytes = unsigned(&module.bytes);
    archive.file(path, 0o644, bytes.len() as u64, bytes)
}

/// Gives a module without the signature behind it (the kernel's
/// Documentation/admin-guide/module-signing.rst). An emulated kernel takes milliseconds
/// to prove each, against nobody: who could change a module here could change the kernel.
fn unsigned(module: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~Module signature appended~\n";
    // What lies before the mark: kinds in eight bytes, then how long the signature is.
    const INFO: usize = 12;
    let cut = || {
        let signed = module.strip_suffix(MARK)?;
        let (length, before) = (signed.last_chunk()?, signed.len().checked_sub(INFO)?);
        let end = before.checked_sub(u32::from_be_bytes(*length) as usize)?;
        signed.get(..end)
    };
    cut().unwrap_or(module)
}

/// Removes what older programs left, and what was never finished.
fn remove_others(folder: &Path, kept: &str) {
    let old = |metadata: &Metadata| {
        let age = metadata
            .modified()
            .ok()
            .and_then(|then| then.elapsed().ok());
        age.is_some_and(|age| age > GRACE)
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|&name| name != kept) else {
            continue;
        };
        let of_it = name.starts_with(PREFIX) || name.starts_with(UNFINISHED);
        if of_it && entry.metadata().is_ok_and(|metadata| old(&metadata)) {
            // Another may have been quicker.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_loses_its_signature_and_nothing_else() {
        let mark = b"~Module signature appended~\n";
        let signed = |length: u32| {
            let info = [&[0, 0, 2, 0, 0, 0, 0, 0][..], &length.to_be_bytes()].concat();
            [&b"module"[..], b"signature", &info, mark].concat()
        };
        assert_eq!(unsigned(&signed(9)), b"module");
        for whole in [&b"module"[..], mark, &signed(16), &signed(u32::MAX)] {
            assert_eq!(unsigned(whole), whole);
        }
    }
}
