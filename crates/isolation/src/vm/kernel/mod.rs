//! Kernels that virtual machines boot, and the first root made for each.
//!
//! ```text
//! <root>/kernels/default            the release that was chosen
//! <root>/kernels/<release>/
//!     vmlinuz                       as it came (not where a vmlinux came)
//!     vmlinux                       ELF that starts by PVH, where there is one
//!     modules.builtin               drivers that are part of the kernel
//!     modules/<name>.ko             as they came, packed or not
//!     initramfs-<digest>            made when it is first needed
//!     modules-<form>                all modules as one file system, so too
//! ```
//!
//! A kernel is whole or not there: it is put together in a folder beside and
//! renamed. Everything in an image, a module or a package may lie: no name of
//! theirs becomes a path, and every size has a bound.

mod apt;
mod compressed;
mod cpio;
mod draft;
mod error;
pub(crate) mod fuzz;
mod image;
mod index;
mod initramfs;
mod lz4;
mod modules;
mod package;
mod release;
#[cfg(test)]
mod tests;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hyperion_image::folder::{Ids, lay_image};
use hyperion_image::layer::erofs::Form;
use rustix::fs::{CWD, RenameFlags, renameat_with};

pub use apt::Wanted;
use draft::Draft;
pub use error::KernelError;
pub(super) use index::{DeviceFile, Library};
use modules::Modules;

const BZIMAGE: &str = "vmlinuz";
const VMLINUX: &str = "vmlinux";
const BUILTIN: &str = "modules.builtin";
const MODULES: &str = "modules";
const DEFAULT: &str = "default";
/// Bytes of all modules and their indexes together.
const MOST_MODULES_BYTES: u64 = 8 << 30;

/// The kernels for virtual machines in one folder of Hyperion.
#[derive(Debug, Clone)]
pub struct Kernels {
    folder: PathBuf,
}

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// What `uname -r` prints in it.
    pub release: String,
    /// Whether QEMU starts it by PVH, without its own decompressor.
    pub pvh: bool,
    folder: PathBuf,
    boot_image: PathBuf,
    modules: Modules,
}

impl Kernels {
    /// Names the kernels below Hyperion's folder of images and jobs.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            folder: root.join("kernels"),
        }
    }

    /// Lists the kernels, the newest first.
    ///
    /// # Errors
    /// [`KernelError::Io`].
    pub fn list(&self) -> Result<Vec<Kernel>, KernelError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(KernelError::io("list", &self.folder))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(KernelError::io("list", &self.folder))?;
            let name = entry.file_name();
            all.extend(name.to_str().and_then(|release| self.look(release)));
        }
        all.sort_by(|a, b| release::compare(&b.release, &a.release));
        Ok(all)
    }

    /// Gives the kernel that was chosen, else the newest.
    ///
    /// # Errors
    /// [`KernelError::NoneInstalled`].
    pub fn default_kernel(&self) -> Result<Kernel, KernelError> {
        let chosen = fs::read_to_string(self.folder.join(DEFAULT)).ok();
        if let Some(kernel) = chosen.and_then(|release| self.look(release.trim_end())) {
            return Ok(kernel);
        }
        let newest = self.list()?.into_iter().next();
        newest.ok_or(KernelError::NoneInstalled)
    }

    /// Finds a kernel by its release.
    ///
    /// # Errors
    /// [`KernelError::NotFound`], [`KernelError::BadRelease`].
    pub fn find(&self, release: &str) -> Result<Kernel, KernelError> {
        if !release::is_valid(release) {
            return Err(KernelError::BadRelease(release.to_owned()));
        }
        self.look(release)
            .ok_or_else(|| KernelError::NotFound(release.to_owned()))
    }

    /// Makes a kernel the one that is booted when none is named.
    ///
    /// # Errors
    /// As [`Kernels::find`], and [`KernelError::Io`]; the choice is as before.
    pub fn choose(&self, release: &str) -> Result<Kernel, KernelError> {
        let kernel = self.find(release)?;
        let path = self.folder.join(DEFAULT);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::with_prefix_in(draft::PREFIX, &self.folder)?;
            io::Write::write_all(&mut file, release.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        let _lock = self.lock()?;
        write().map_err(KernelError::io("write", &path))?;
        Ok(kernel)
    }

    /// Adds a kernel from its file (`vmlinuz` or a `vmlinux` that starts by
    /// PVH) and, if it has any, the folder of its modules (`/lib/modules/RELEASE`).
    /// One of the same release is replaced.
    ///
    /// The release is the one given, else what the kernel tells, else the
    /// folder's name.
    ///
    /// # Errors
    /// What is wrong with the files; nothing is left behind.
    pub fn add(
        &self,
        image: &Path,
        modules: Option<&Path>,
        release: Option<&str>,
    ) -> Result<Kernel, KernelError> {
        let _lock = self.lock()?;
        let mut draft = Draft::new(&self.folder)?;
        File::open(image)
            .and_then(|file| draft.image(file))
            .map_err(KernelError::io("copy", image))?;
        let mut of_folder = None;
        if let Some(folder) = modules {
            draft.folder(folder)?;
            let name = folder.file_name().and_then(|name| name.to_str());
            of_folder = name.filter(|name| release::is_valid(name));
        }
        self.put(draft, image, release, of_folder)
    }

    /// Adds the kernel of a Debian package. One of the same release is replaced.
    ///
    /// # Errors
    /// What is wrong with the package; nothing is left behind.
    pub fn install(&self, package: &Path) -> Result<Kernel, KernelError> {
        self.install_all(&[package])
    }

    /// Adds a kernel whose modules lie in a package beside its own, as Ubuntu
    /// has it. One of the same release is replaced.
    ///
    /// # Errors
    /// What is wrong with the packages; nothing is left behind.
    pub fn install_all(&self, packages: &[&Path]) -> Result<Kernel, KernelError> {
        let _lock = self.lock()?;
        self.unpack(packages)
    }

    /// Adds a kernel of this host's distribution, brought by apt. One of the
    /// same release is replaced.
    ///
    /// # Errors
    /// [`KernelError::NoApt`], [`KernelError::Apt`], or what is wrong with the
    /// packages; nothing is left behind.
    pub fn download(&self, wanted: &Wanted) -> Result<Kernel, KernelError> {
        let _lock = self.lock()?;
        let folder = tempfile::TempDir::with_prefix_in(draft::PREFIX, &self.folder)
            .map_err(KernelError::io("make a folder in", &self.folder))?;
        let packages = apt::download(wanted, folder.path())?;
        let packages: Vec<&Path> = packages.iter().map(PathBuf::as_path).collect();
        self.unpack(&packages)
    }

    fn unpack(&self, packages: &[&Path]) -> Result<Kernel, KernelError> {
        let mut draft = Draft::new(&self.folder)?;
        let mut release: Option<String> = None;
        for package in packages {
            let found = package::take(package, &mut draft)?;
            let wrong = |what: String| KernelError::NotAKernelPackage {
                path: package.to_path_buf(),
                what,
            };
            match (&release, found) {
                (_, None) => return Err(wrong("neither a kernel nor modules are in it".into())),
                (Some(first), Some(other)) if *first != other => {
                    return Err(wrong(format!("it is of {other:?}, not of {first:?}")));
                }
                (_, found) => release = found,
            }
        }
        let first = packages.first().copied().unwrap_or(Path::new(""));
        if !draft.has_image() {
            return Err(KernelError::NotAKernelPackage {
                path: first.to_owned(),
                what: "there is no kernel in it".into(),
            });
        }
        self.put(draft, first, release.as_deref(), None)
    }

    /// Removes a kernel and what was made for it. Machines that run it keep running.
    ///
    /// # Errors
    /// As [`Kernels::find`], and [`KernelError::Io`].
    pub fn remove(&self, release: &str) -> Result<(), KernelError> {
        let kernel = self.find(release)?;
        let _lock = self.lock()?;
        let default = self.folder.join(DEFAULT);
        if fs::read_to_string(&default).is_ok_and(|chosen| chosen.trim_end() == release) {
            fs::remove_file(&default).map_err(KernelError::io("remove", &default))?;
        }
        // Half of it is never taken for whole.
        let away = self.folder.join(format!("{}{release}", draft::PREFIX));
        fs::rename(&kernel.folder, &away)
            .and_then(|()| fs::remove_dir_all(&away))
            .map_err(KernelError::io("remove", &kernel.folder))
    }

    /// Gives what lies in the folder of a release, if that is a kernel.
    fn look(&self, release: &str) -> Option<Kernel> {
        if !release::is_valid(release) {
            return None;
        }
        let folder = self.folder.join(release);
        let (vmlinux, bzimage) = (folder.join(VMLINUX), folder.join(BZIMAGE));
        let pvh = vmlinux.is_file();
        if !pvh && !bzimage.is_file() {
            return None;
        }
        Some(Kernel {
            release: release.to_owned(),
            pvh,
            boot_image: if pvh { vmlinux } else { bzimage },
            modules: Modules {
                folder: folder.join(MODULES),
            },
            folder,
        })
    }

    /// Puts a draft in its place, whole, also where there is one of that release.
    fn put(
        &self,
        draft: Draft,
        from: &Path,
        said: Option<&str>,
        likely: Option<&str>,
    ) -> Result<Kernel, KernelError> {
        let (release, dir) = draft.finish(from, said, likely)?;
        let place = self.folder.join(&release);
        if place.exists() {
            // What was there is dropped with the draft's folder.
            renameat_with(CWD, dir.path(), CWD, &place, RenameFlags::EXCHANGE)
                .map_err(KernelError::io("replace", &place))?;
        } else {
            fs::rename(dir.path(), &place).map_err(KernelError::io("make", &place))?;
            let _ = dir.keep();
        }
        self.find(&release)
    }

    /// Waits until nobody else changes kernels, and removes what others began
    /// and did not live to finish.
    fn lock(&self) -> Result<File, KernelError> {
        let path = self.folder.join(".lock");
        let lock = fs::create_dir_all(&self.folder)
            .and_then(|()| File::create(&path))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(KernelError::io("lock", &path))?;
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(draft::PREFIX.as_bytes())
            {
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        Ok(lock)
    }
}

impl Kernel {
    /// The file to boot: an ELF `vmlinux` where it starts by PVH, else the `bzImage`.
    #[must_use]
    pub fn boot_image(&self) -> &Path {
        &self.boot_image
    }

    /// Gives the first root for a program that becomes its `/init`: a cpio
    /// archive, made once for each kernel and program.
    ///
    /// | entry | is |
    /// |---|---|
    /// | `/init` | the program |
    /// | `/dev`, `/proc`, `/sys` | empty folders, but for `/dev/console` |
    /// | `/modules/NNN-NAME.ko` | what a boot needs, to be loaded in this order |
    /// | `/modules/more/NAME.ko` | what is loaded when it is asked for |
    /// | `/modules/more/dep` | lines `NAME: FILE FILE …`: those of `more` to load for NAME, in this order |
    ///
    /// Modules are unpacked. A name without a line is part of the kernel, loaded
    /// at boot, or not there at all; [`Kernel::has_driver`] tells.
    ///
    /// # Errors
    /// A module that is damaged, or a program that cannot be read, or no room;
    /// nothing is left behind.
    pub fn initramfs(&self, program: &Path) -> Result<PathBuf, KernelError> {
        initramfs::get(&self.folder, &self.modules, program)
    }

    /// Gives all of its modules as one file system, with the indexes by which they are
    /// found: what lies in `/lib/modules/RELEASE` elsewhere. Made once, EROFS or, where
    /// the kernel lacks that, ext4; none where it came without modules.
    ///
    /// # Errors
    /// A module that is damaged, or no room; nothing is left behind.
    pub fn all_modules(&self) -> Result<Option<PathBuf>, KernelError> {
        /// Changes when the same modules are put together in another way.
        const FORM: &str = "modules-2";
        if !self.modules.folder.is_dir() {
            return Ok(None);
        }
        let path = self.folder.join(FORM);
        if path.is_file() {
            return Ok(Some(path));
        }
        let above = self.folder.parent().unwrap_or(Path::new("."));
        let _lock = Kernels {
            folder: above.to_owned(),
        }
        .lock()?;
        if path.is_file() {
            return Ok(Some(path));
        }
        let known = fs::read_to_string(self.folder.join(BUILTIN)).unwrap_or_default();
        let indexes = index::all(&self.modules, &known)?;
        let form = match self.has_driver("erofs") {
            true => Form::Erofs,
            false => Form::Ext4,
        };
        let cannot = || KernelError::io("write", &path);
        let draft = tempfile::TempDir::with_prefix_in(draft::PREFIX, above);
        let draft = draft.map_err(cannot())?;
        let (content, whole) = (draft.path().join("content"), draft.path().join("whole"));
        let write = || -> io::Result<File> {
            fs::create_dir(&content)?;
            fs::set_permissions(&content, Permissions::from_mode(0o755))?;
            for module in fs::read_dir(&self.modules.folder)? {
                let module = module?;
                fs::hard_link(module.path(), content.join(module.file_name()))?;
            }
            for (name, bytes) in &indexes {
                let to = content.join(name);
                fs::write(&to, bytes)?;
                fs::set_permissions(&to, Permissions::from_mode(0o644))?;
            }
            let file = File::create_new(&whole)?;
            let ids = Ids::of_this_process();
            let file = lay_image(file, form, &content, ids, MOST_MODULES_BYTES);
            let file = file.map_err(io::Error::other)?;
            draft::open_to_readers(&file)?;
            file.sync_data()?;
            Ok(file)
        };
        write().map_err(cannot())?;
        fs::rename(&whole, &path).map_err(cannot())?;
        Ok(Some(path))
    }

    /// Says whether the kernel has a driver, as a module or part of itself. One
    /// that came without a list of its drivers is taken to have all.
    #[must_use]
    pub fn has_driver(&self, module: &str) -> bool {
        let name = modules::normal(module);
        let known = fs::read_to_string(self.folder.join(BUILTIN)).ok();
        let part = known
            .as_ref()
            .map(|text| modules::builtin(text).contains(&name));
        let module = modules::name_of(&format!("{name}.ko")).is_some_and(|n| self.modules.has(&n));
        module || part.unwrap_or_else(|| !self.modules.folder.exists())
    }

    /// Says whether it came with a list of its drivers, so that
    /// [`Kernel::has_driver`] knows and does not believe.
    #[must_use]
    pub fn lists_drivers(&self) -> bool {
        self.folder.join(BUILTIN).exists() || self.modules.folder.exists()
    }

    /// Gives the bytes that it takes on disk, what was made for it included.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let sizes = |folder: &Path| -> u64 {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let files = entries.filter_map(|entry| entry.metadata().ok());
            files
                .filter(fs::Metadata::is_file)
                .map(|file| file.len())
                .sum()
        };
        sizes(&self.folder) + sizes(&self.modules.folder)
    }
}
