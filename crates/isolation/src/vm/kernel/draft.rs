//! A kernel that is being put together, in a folder beside those that are whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::error::KernelError;
use super::initramfs::{AT_BOOT, ON_DEMAND};
use super::modules::{self, Modules};
use super::{BUILTIN, BZIMAGE, MODULES, VMLINUX, image, release};

/// What drafts' folders begin with.
pub(super) const PREFIX: &str = ".new-";
/// The largest kernel, in bytes.
const LARGEST: u64 = 1 << 30;
/// The most modules.
const MOST_MODULES: usize = 50_000;
/// How deep folders of modules are looked through.
const DEEPEST: usize = 16;

/// A kernel that is not whole yet; dropped, nothing of it is left.
pub(super) struct Draft {
    dir: TempDir,
    modules: Modules,
    found: usize,
    complete: bool,
}

impl Draft {
    /// Begins with an empty folder in that of all kernels.
    pub(super) fn new(kernels: &Path) -> Result<Self, KernelError> {
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(kernels)
            .map_err(KernelError::io("make a folder in", kernels))?;
        let modules = Modules {
            folder: dir.path().join(MODULES),
        };
        fs::create_dir(&modules.folder).map_err(KernelError::io("make", &modules.folder))?;
        Ok(Self {
            dir,
            modules,
            found: 0,
            complete: false,
        })
    }

    /// Takes the kernel itself.
    pub(super) fn image(&self, from: impl Read) -> io::Result<()> {
        write(&self.dir.path().join(BZIMAGE), from, LARGEST)
    }

    /// Takes a file of the kernel's folder of modules, by its path there, if it
    /// is of use.
    pub(super) fn file(&mut self, path: &str, from: impl Read) -> io::Result<()> {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        if path == BUILTIN {
            self.complete = true;
            return write(&self.dir.path().join(BUILTIN), from, 16 << 20);
        }
        let Some(name) = modules::name_of(file) else {
            return Ok(());
        };
        self.found += 1;
        if self.found > MOST_MODULES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there are too many modules",
            ));
        }
        // As modprobe does: what an administrator put there comes first.
        let to = self.modules.path(&name);
        if to.exists() && folder.split('/').next() != Some("updates") {
            return Ok(());
        }
        write(&to, from, modules::LARGEST)
    }

    /// Takes the files of a folder such as `/lib/modules/6.1.0`; links are not followed.
    pub(super) fn folder(&mut self, folder: &Path) -> Result<(), KernelError> {
        self.below(folder, "", 0)
    }

    fn below(&mut self, folder: &Path, path: &str, depth: usize) -> Result<(), KernelError> {
        if depth > DEEPEST {
            return Ok(());
        }
        let cannot = KernelError::io("list", folder);
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(cannot)? {
            let (from, name) = (entry.path(), entry.file_name());
            let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else {
                continue;
            };
            let path = format!("{path}{name}");
            if kind.is_dir() {
                self.below(&from, &format!("{path}/"), depth + 1)?;
            } else if kind.is_file() && (path == BUILTIN || modules::name_of(name).is_some()) {
                let read = File::open(&from).and_then(|file| self.file(&path, file));
                read.map_err(KernelError::io("copy", &from))?;
            }
        }
        Ok(())
    }

    /// Says whether the kernel itself is there.
    pub(super) fn has_image(&self) -> bool {
        self.dir.path().join(BZIMAGE).exists()
    }

    /// Checks the whole and makes of it what can be booted. `from` is where it
    /// came from. The release is the one that was said, else the kernel's own,
    /// else the one that is `likely`. Gives it and the folder, which is to be
    /// renamed or removed now.
    pub(super) fn finish(
        self,
        from: &Path,
        said: Option<&str>,
        likely: Option<&str>,
    ) -> Result<(String, TempDir), KernelError> {
        let own = self.boot_image(from)?;
        let release = said.or(own.as_deref()).or(likely);
        let release = release.ok_or_else(|| KernelError::NoRelease(from.to_owned()))?;
        if !release::is_valid(release) {
            return Err(KernelError::BadRelease(release.to_owned()));
        }
        self.check_modules(own.as_deref().unwrap_or(release))?;
        let release = release.to_owned();
        if !self.complete && self.found == 0 {
            fs::remove_dir(&self.modules.folder)
                .map_err(KernelError::io("remove", &self.modules.folder))?;
        }
        let path = self.dir.path();
        // What is renamed is whole, also after a loss of power.
        File::open(path)
            .and_then(|dir| Ok(rustix::fs::syncfs(dir)?))
            .map_err(KernelError::io("write", path))?;
        Ok((release, self.dir))
    }

    /// Makes a `vmlinux` that starts by PVH, if there is one in the kernel, and
    /// gives the release that the kernel tells.
    fn boot_image(&self, from: &Path) -> Result<Option<String>, KernelError> {
        let (path, inside) = (self.dir.path().join(BZIMAGE), self.dir.path().join(VMLINUX));
        let read = || KernelError::io("read", &path);
        let image = File::open(&path).map_err(read())?;
        if image::starts_by_pvh(&image).map_err(read())? {
            fs::rename(&path, &inside).map_err(KernelError::io("rename", &path))?;
            return Ok(None);
        }
        let Some(header) = image::header(&image).map_err(read())? else {
            return Err(KernelError::NotAKernel {
                path: from.to_owned(),
                what: "it is neither a bzImage nor a vmlinux that starts by PVH",
            });
        };
        let unpacked = || -> io::Result<bool> {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&inside)?;
            open_to_readers(&file)?;
            let whole = header.unpack(&image, &mut file)?.is_some();
            Ok(whole && image::starts_by_pvh(&file)?)
        };
        if !unpacked().map_err(KernelError::io("write", &inside))? {
            fs::remove_file(&inside).map_err(KernelError::io("remove", &inside))?;
        }
        Ok(header.release)
    }

    /// Looks at one module that a boot needs: whether it is of this kernel.
    fn check_modules(&self, expected: &str) -> Result<(), KernelError> {
        for name in AT_BOOT.iter().chain(ON_DEMAND) {
            let Some((_, info)) = self.modules.read(name)? else {
                continue;
            };
            return match info.release {
                Some(found) if found != expected => Err(KernelError::WrongModules {
                    found,
                    expected: expected.to_owned(),
                }),
                _ => Ok(()),
            };
        }
        Ok(())
    }
}

/// Lets everybody read a file, whatever the caller's umask: QEMU, which opens it
/// once more, may be a user that is nobody else's.
pub(super) fn open_to_readers(file: &File) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

/// Writes a file of at most `limit` bytes.
fn write(to: &Path, from: impl Read, limit: u64) -> io::Result<()> {
    let mut file = File::create(to)?;
    open_to_readers(&file)?;
    if io::copy(&mut from.take(limit + 1), &mut file)? > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}
