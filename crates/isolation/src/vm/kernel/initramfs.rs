//! The first root of a virtual machine: the init and the kernel's modules.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
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

/// What the init loads when it is asked for.
pub(super) const ON_DEMAND: &[&str] = &[
    "ext4",
    "virtio_net",
    "af_packet",
    "virtiofs",
    "fuse",
    "9p",
    "9pnet_virtio",
    "vmw_vsock_virtio_transport",
    "virtio_scsi",
    "sd_mod",
    "sr_mod",
    "virtio_balloon",
    "loop",
    "isofs",
    "squashfs",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "nls_iso8859_1",
];

/// Changes when the same program and modules are put together in another way.
const FORM: &str = "1";
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
        archive.file("init", 0o755, size, program)?;
        archive.finish()?.flush()?;
        file.as_file().sync_data()
    };
    write().map_err(cannot())?;
    file.persist(path).map_err(|e| cannot()(e.error))?;
    Ok(())
}

/// Names what a module needs, in the order in which it is loaded, itself last.
fn needed(modules: &Modules, name: &str) -> Result<Vec<String>, KernelError> {
    let mut order = Order::new(modules);
    order.add(name)?;
    Ok(order.list.into_iter().map(|module| module.name).collect())
}

fn put(archive: &mut Archive<impl io::Write>, path: &str, module: &Module) -> io::Result<()> {
    let bytes = module.bytes.as_slice();
    archive.file(path, 0o644, bytes.len() as u64, bytes)
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
