//! What this host is and what it can do, read from `/proc`, `/sys`, `/etc` and
//! the programs that lie in `PATH`.
//!
//! Every fact is read below a root folder, so a tree of files stands for a
//! machine in tests. Facts come in two shapes: typed ([`topology()`],
//! [`cgroup_layout`], [`inventory`]) for the rest of Hyperion, and [`checks`]
//! with verdict, evidence, consequence and fix for people.
//!
//! **Architecture invariant:** nothing here changes the host. The few things
//! that only the kernel can answer ([`trial`]) are tried in a child process
//! with namespaces of its own, and only when the root is `/`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use hyperion_model::{Check, Verdict};

use crate::kvm::Probed;

mod cgroup;
mod cpu;
mod devices;
mod filesystems;
mod inventory;
mod kernel;
mod kvm;
mod memory;
mod mounts;
mod namespaces;
mod network;
mod packages;
mod security;
mod software;
mod topology;
pub mod trial;
mod virt;

pub use cgroup::{CgroupVersion, Cgroups, cgroup_layout, cgroups};
pub use cpu::{Cpu, Virtualization, cpu};
pub use devices::{PciDevice, pci_devices};
pub use filesystems::id_maps_refused;
pub use inventory::{BlockDevice, Inventory, inventory};
pub use kernel::{KernelRelease, kernel_release};
pub use memory::{HugePages, Memory, memory, memory_total};
pub use mounts::{MountPoint, mount_of, mounts};
pub use network::{FabricPort, Interface, fabric_ports, interfaces};
pub use packages::{Distribution, Family, distribution};
pub use topology::{Cache, NumaNode, Topology, topology};
pub use virt::{XenRole, xen_role};

/// Longest part of a file that is read: above every `modules.dep` (about 1 MiB), and
/// a bound for a hostile tree.
const MAX_TEXT: u64 = 16 << 20;

/// Who asks: what may be opened depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Numeric user.
    pub uid: u32,
    /// All numeric groups, the primary one first.
    pub gids: Vec<u32>,
}

/// A machine to look at.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    user: User,
    search_path: Vec<PathBuf>,
    store: PathBuf,
    kvm: Option<Probed>,
}

impl Host {
    /// Takes the machine whose `/` is `root`, seen by the calling user.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let mut gids = vec![rustix::process::getegid().as_raw()];
        // Without the supplementary groups a right is at worst not seen.
        let more = rustix::process::getgroups().unwrap_or_default();
        gids.extend(more.iter().map(|g| g.as_raw()));
        Self {
            root: root.into(),
            user: User {
                uid: rustix::process::geteuid().as_raw(),
                gids,
            },
            search_path: [
                "/usr/local/sbin",
                "/usr/local/bin",
                "/usr/sbin",
                "/usr/bin",
                "/sbin",
                "/bin",
            ]
            .map(PathBuf::from)
            .into(),
            store: PathBuf::from("/var/lib/hyperion"),
            kvm: None,
        }
    }

    /// Looks for programs in these folders first, as `PATH` lists them, and
    /// then in the standard ones. Relative ones are left out.
    #[must_use]
    pub fn with_search_path(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let standard = std::mem::take(&mut self.search_path);
        for folder in folders.into_iter().chain(standard) {
            if folder.is_absolute() && !self.search_path.contains(&folder) {
                self.search_path.push(folder);
            }
        }
        self
    }

    /// Judges the disk of this folder; it need not exist yet.
    #[must_use]
    pub fn with_store(mut self, folder: impl Into<PathBuf>) -> Self {
        self.store = folder.into();
        self
    }

    /// Judges KVM by what came of booting a guest; without it only by files,
    /// which prove nothing.
    #[must_use]
    pub fn with_kvm(mut self, probed: Probed) -> Self {
        self.kvm = Some(probed);
        self
    }

    /// Judges rights for this user.
    #[must_use]
    pub fn seen_by(mut self, user: User) -> Self {
        self.user = user;
        self
    }

    /// Tells whether this is the running machine and not a tree of files.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Reads a file without the white space at its ends; `None` when it
    /// cannot be read. At most 16 MiB are read, and bytes that are no UTF-8 are
    /// replaced.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let file = fs::File::open(self.locate(path.as_ref())?).ok()?;
        // Made up by the kernel, mostly: these have no size to ask for.
        let mut bytes = Vec::with_capacity(4096);
        file.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Reads a file that holds one value; `None` when it cannot be parsed.
    pub(crate) fn value<T: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// Tells whether the path exists, links followed.
    pub(crate) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.locate(path.as_ref()).is_some_and(|p| p.exists())
    }

    /// Lists a folder, sorted with numbers in their order (`cpu2` before `cpu10`).
    pub(crate) fn list(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Some(entries) = self
            .locate(path.as_ref())
            .and_then(|p| fs::read_dir(p).ok())
        else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort_by_cached_key(|name| {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let number: u64 = name[stem.len()..].parse().unwrap_or(0);
            (stem.to_owned(), number, name.len())
        });
        names
    }

    /// Gives the last name of the target of a link.
    pub(crate) fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        let parent = self.locate(path.parent()?)?;
        let target = fs::read_link(parent.join(path.file_name()?)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Follows all links below the root and gives the final path as the host sees it.
    pub(crate) fn resolve(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let real = self.walk(path.as_ref())?;
        let inside = real.strip_prefix(&self.root).ok()?;
        real.exists().then(|| Path::new("/").join(inside))
    }

    /// Tells whether the user may read and write the path.
    pub(crate) fn may_use(&self, path: impl AsRef<Path>) -> bool {
        use rustix::fs::{Access, access};
        let Some(real) = self.locate(path.as_ref()) else {
            return false;
        };
        if self.is_live() {
            // The kernel also knows access lists and read-only mounts.
            return access(&real, Access::READ_OK | Access::WRITE_OK).is_ok();
        }
        fs::metadata(&real)
            .is_ok_and(|m| permits_read_write(m.permissions().mode(), m.uid(), m.gid(), &self.user))
    }

    /// Gives the mode bits of a path.
    pub(crate) fn mode(&self, path: impl AsRef<Path>) -> Option<u32> {
        let metadata = fs::metadata(self.locate(path.as_ref())?).ok()?;
        Some(metadata.permissions().mode())
    }

    /// Finds a program by its name: the first executable in the search path.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        self.search_path
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| self.is_program(path))
    }

    /// Tells whether the path is an executable file.
    pub(crate) fn is_program(&self, path: &Path) -> bool {
        const FILE: u32 = 0o100000;
        self.mode(path)
            .is_some_and(|mode| mode & 0o170000 == FILE && mode & 0o111 != 0)
    }

    /// Gives the name of the user from the host's own `/etc/passwd`.
    fn user_name(&self) -> Option<String> {
        let uid = self.user.uid.to_string();
        let passwd = self.text("/etc/passwd")?;
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        })
    }

    fn locate(&self, path: &Path) -> Option<PathBuf> {
        if self.is_live() {
            return Some(path.to_owned());
        }
        self.walk(path)
    }

    /// Follows links by hand, so that absolute ones and `..` stay below the root.
    fn walk(&self, path: &Path) -> Option<PathBuf> {
        let mut real = self.root.clone();
        let mut rest: Vec<std::ffi::OsString> = Vec::new();
        let push = |rest: &mut Vec<_>, path: &Path| {
            rest.extend(path.components().rev().filter_map(|c| match c {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            }));
        };
        push(&mut rest, path);
        // As many links as the kernel follows.
        let mut links = 40;
        while let Some(name) = rest.pop() {
            if name == ".." {
                if real != self.root {
                    real.pop();
                }
                continue;
            }
            real.push(name);
            if let Ok(target) = fs::read_link(&real) {
                links -= 1;
                if links == 0 {
                    return None;
                }
                real.pop();
                if target.is_absolute() {
                    real = self.root.clone();
                }
                push(&mut rest, &target);
            }
        }
        Some(real)
    }
}

/// Applies the kernel's rule for mode bits: the first class that fits decides.
fn permits_read_write(mode: u32, owner: u32, group: u32, user: &User) -> bool {
    let class = if user.uid == 0 {
        return true;
    } else if user.uid == owner {
        mode >> 6
    } else if user.gids.contains(&group) {
        mode >> 3
    } else {
        mode
    };
    class & 0o6 == 0o6
}

/// Makes a check from which nothing follows; add the rest by functional update.
fn seen(name: &str, verdict: Verdict, evidence: impl Into<String>) -> Check {
    Check {
        name: name.to_owned(),
        verdict,
        evidence: evidence.into(),
        consequence: String::new(),
        fix: String::new(),
    }
}

/// Says how the calling user gets the limits that this host does not give them.
pub fn cgroups_fix(host: &Host) -> Option<String> {
    Some(cgroup::check_cgroups(host).fix).filter(|fix| !fix.is_empty())
}

/// Runs every check, in the order of the documentation.
pub fn checks(host: &Host) -> Vec<Check> {
    let dist = distribution(host);
    vec![
        packages::check_distribution(&dist),
        kernel::check_kernel(host),
        cpu::check_cpu(host),
        topology::check_topology(host),
        topology::check_numa(host),
        memory::check_memory(host),
        memory::check_hugepages(host),
        kvm::check_kvm(host, &dist),
        virt::check_xen(host, &dist),
        virt::check_kernel_modules(host, &dist),
        software::check_vm_software(host, &dist),
        cgroup::check_cgroups(host),
        namespaces::check_user_namespaces(host),
        namespaces::check_subordinate_ids(host, &dist),
        filesystems::check_overlay(host, &dist),
        filesystems::check_erofs(host, &dist),
        filesystems::check_squashfs(host, &dist),
        filesystems::check_idmapped_mounts(host),
        filesystems::check_storage(host),
        filesystems::check_shared_memory(host),
        security::check_seccomp(host),
        security::check_landlock(host),
        security::check_lsm(host),
        security::check_ptrace_scope(host),
        memory::check_open_files(host),
        network::check_network(host),
        network::check_infiniband(host, &dist),
        network::check_rdma(host, &dist),
        devices::check_gpu(host, &dist),
        devices::check_fpga(host),
        devices::check_sr_iov(host),
        software::check_mpi(host, &dist),
        software::check_pmi(host, &dist),
        software::check_schedulers(host),
        software::check_container_engines(host),
        devices::check_energy(host),
        kernel::check_time_source(host),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_fits_decides_over_rights() {
        let user = |uid, gids: &[u32]| User {
            uid,
            gids: gids.into(),
        };
        let table = [
            (0o600, 0, 0, user(0, &[0]), true),
            (0o600, 0, 0, user(1000, &[1000]), false),
            (0o660, 0, 107, user(1000, &[1000, 107]), true),
            (0o606, 0, 107, user(1000, &[107]), false),
            (0o666, 0, 0, user(1000, &[1000]), true),
            (0o440, 1000, 0, user(1000, &[1000]), false),
        ];
        for (mode, owner, group, user, expected) in table {
            assert_eq!(
                permits_read_write(mode, owner, group, &user),
                expected,
                "{mode:o} {user:?}"
            );
        }
    }

    #[test]
    fn links_never_leave_the_root() {
        let dir = tempfile::tempdir().expect("a folder");
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, dir.path().join(name)).expect("a link");
        };
        fs::create_dir(dir.path().join("etc")).expect("a folder");
        fs::write(dir.path().join("etc/os-release"), "inside").expect("a file");
        link("/etc/os-release", "absolute");
        link("../../../../etc/os-release", "climbing");
        link("loop", "loop");
        let host = Host::at(dir.path());
        assert_eq!(host.text("/absolute").as_deref(), Some("inside"));
        assert_eq!(host.text("/climbing").as_deref(), Some("inside"));
        assert_eq!(host.text("/../etc/os-release").as_deref(), Some("inside"));
        assert_eq!(host.text("/loop"), None);
        assert_eq!(
            host.resolve("/absolute"),
            Some(PathBuf::from("/etc/os-release"))
        );
    }
}
