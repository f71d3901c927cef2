//! File systems for images and roots, and the disk of the store.

use std::path::Path;

use hyperion_model::{Bytes, Check, Verdict};

use super::kernel::{Presence, filesystem};
use super::packages::{EROFS_TOOLS, SQUASHFS_TOOLS};
use super::{Distribution, Host, KernelRelease, kernel_release, mount_of, mounts, seen, trial};

/// Says where a file system stands, and how to get it.
fn presence(host: &Host, name: &str, dist: &Distribution) -> (Verdict, String, String) {
    match filesystem(host, name) {
        Presence::Active => (
            Verdict::Ok,
            format!("{name} in /proc/filesystems"),
            String::new(),
        ),
        Presence::Loadable => (
            Verdict::Limited,
            format!("{name} is a module that is not loaded"),
            format!("modprobe {name}"),
        ),
        Presence::Absent if !host.exists("/proc/filesystems") => (
            Verdict::Unknown,
            "/proc/filesystems cannot be read".to_owned(),
            String::new(),
        ),
        Presence::Absent => (
            Verdict::Missing,
            format!("{name} neither in /proc/filesystems nor in /lib/modules"),
            dist.install_more_modules().to_owned(),
        ),
    }
}

fn at_least(host: &Host, major: u32, minor: u32) -> bool {
    kernel_release(host).is_some_and(|r| r >= KernelRelease::new(major, minor))
}

pub(super) fn check_overlay(host: &Host, dist: &Distribution) -> Check {
    let (verdict, mut evidence, fix) = presence(host, "overlay", dist);
    if verdict != Verdict::Ok {
        return Check {
            consequence: "every container needs a whole copy of its root".into(),
            fix,
            ..seen("overlay", verdict, evidence)
        };
    }
    let in_namespace = if host.is_live() {
        match trial::overlay_in_user_namespace() {
            Ok(()) => {
                evidence += "; mounted in a user namespace";
                true
            }
            Err(error) => {
                evidence += &format!("; in a user namespace: {error}");
                false
            }
        }
    } else {
        evidence += "; in user namespaces from kernel 5.11 on";
        at_least(host, 5, 11)
    };
    if in_namespace {
        return seen("overlay", Verdict::Ok, evidence);
    }
    Check {
        consequence: "only root can stack layers; others get a copy or a read-only root".into(),
        fix: "boot a kernel of 5.11 or later and allow user namespaces".into(),
        ..seen("overlay", Verdict::Limited, evidence)
    }
}

pub(super) fn check_erofs(host: &Host, dist: &Distribution) -> Check {
    let (verdict, mut evidence, mut fix) = presence(host, "erofs", dist);
    let mut consequence = match verdict {
        Verdict::Ok => String::new(),
        _ => "images are unpacked into folders; none can be mounted as one file".to_owned(),
    };
    if verdict == Verdict::Ok {
        if at_least(host, 6, 12) {
            evidence += "; mounts a file without a loop device (kernel 6.12)";
        } else {
            consequence =
                "images are unpacked into folders: files are mounted from kernel 6.12 on".into();
        }
        match host.program("mkfs.erofs") {
            Some(path) => evidence += &format!("; {}", path.display()),
            None => {
                evidence += "; no mkfs.erofs in PATH";
                fix = format!("to make such images: {}", dist.install(EROFS_TOOLS));
            }
        }
    }
    Check {
        consequence,
        fix,
        ..seen("erofs", verdict, evidence)
    }
}

pub(super) fn check_squashfs(host: &Host, dist: &Distribution) -> Check {
    let (verdict, evidence, mut fix) = presence(host, "squashfs", dist);
    let fuse = host.program("squashfuse");
    let evidence = match &fuse {
        Some(path) => format!("{evidence}; {}", path.display()),
        None => evidence,
    };
    let consequence = match verdict {
        Verdict::Ok => String::new(),
        _ if fuse.is_some() => "mounted by FUSE, which reads slower".to_owned(),
        _ => {
            fix = format!("{fix}; or {}", dist.install(SQUASHFS_TOOLS));
            "SquashFS and SIF images must be unpacked".to_owned()
        }
    };
    Check {
        consequence,
        fix: fix.trim_start_matches("; or ").to_owned(),
        ..seen("squashfs", verdict, evidence)
    }
}

/// Kernel from which on an overlay can be made of a file system's folders when
/// they are mounted with other ids: never before 5.19.
fn idmapped_since(filesystem: &str) -> Option<KernelRelease> {
    Some(match filesystem {
        "ext4" | "xfs" | "vfat" | "btrfs" | "f2fs" | "erofs" => KernelRelease::new(5, 19),
        "squashfs" => KernelRelease::new(6, 2),
        "tmpfs" => KernelRelease::new(6, 3),
        "ceph" => KernelRelease::new(6, 7),
        _ => return None,
    })
}

/// Says why folders cannot be mounted with other ids where `path` lies; `None`
/// where they can, or where only the attempt tells.
pub fn id_maps_refused(path: &Path) -> Option<String> {
    // The numbers of statfs(2).
    let kind = match rustix::fs::statfs(path).ok()?.f_type as u64 & 0xffff_ffff {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xf2f5_2010 => "f2fs",
        0xe0f5_e1e2 => "erofs",
        0x7371_7368 => "squashfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => return Some("an overlay cannot map ids".into()),
        _ => return None,
    };
    let running = KernelRelease::running()?;
    let since = idmapped_since(kind)?;
    (running < since).then(|| format!("{kind} cannot map ids before Linux {since}"))
}

pub(super) fn check_idmapped_mounts(host: &Host) -> Check {
    const NAME: &str = "idmapped-mounts";
    const LACK: &str = "root inside root's containers is root outside, as with --userns host";
    let Some(release) = kernel_release(host) else {
        return seen(NAME, Verdict::Unknown, "the kernel's release is not told");
    };
    let mounts = mounts(host);
    let Some(mount) = mount_of(&mounts, &host.store) else {
        return seen(
            NAME,
            Verdict::Unknown,
            "/proc/self/mountinfo cannot be read",
        );
    };
    let kind = &mount.filesystem;
    let evidence = format!("kernel {release}, store on {kind}");
    match idmapped_since(kind) {
        Some(since) if release >= since => Check {
            consequence: "for root; others unpack an image once for their own ids".into(),
            ..seen(NAME, Verdict::Ok, evidence)
        },
        Some(since) => Check {
            consequence: LACK.into(),
            fix: format!("boot a kernel of {since} or later"),
            ..seen(NAME, Verdict::Missing, evidence)
        },
        None => Check {
            consequence: LACK.into(),
            ..seen(NAME, Verdict::Missing, evidence)
        },
    }
}

/// What is special about a store on a file system: verdict and consequence.
fn judge_storage(filesystem: &str) -> (Verdict, &'static str) {
    match filesystem {
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "afs" => (
            Verdict::Limited,
            "a network file system: layers cannot be stacked on it and many small files are \
             slow; keep images as one file",
        ),
        "lustre" | "gpfs" | "beegfs" | "panfs" | "wekafs" | "ceph" => (
            Verdict::Limited,
            "a parallel file system: unpacked images burden its metadata server; keep images as \
             one file, or the store on a local disk",
        ),
        "overlay" => (
            Verdict::Limited,
            "an overlay: layers cannot be stacked on it (inside a container?)",
        ),
        "tmpfs" | "ramfs" => (
            Verdict::Limited,
            "memory: images and reports are lost at the next boot and take memory from jobs",
        ),
        kind if kind.starts_with("fuse") => (
            Verdict::Limited,
            "a file system in user space: layers may not stack on it",
        ),
        _ => (Verdict::Ok, ""),
    }
}

pub(super) fn check_storage(host: &Host) -> Check {
    let mounts = mounts(host);
    let Some(mount) = mount_of(&mounts, &host.store) else {
        return seen(
            "storage",
            Verdict::Unknown,
            "/proc/self/mountinfo cannot be read",
        );
    };
    let mut evidence = format!(
        "{} on {} ({})",
        host.store.display(),
        mount.filesystem,
        mount.source
    );
    let (mut verdict, consequence) = judge_storage(&mount.filesystem);
    let mut consequence = consequence.to_owned();
    let mut fix = String::new();
    if verdict != Verdict::Ok {
        fix = "name a folder on a local disk with --root or HYPERION_ROOT".into();
    }
    if let Some((free, total)) = space(host) {
        evidence += &format!(", {free} of {total} free");
        if free < Bytes(2 << 30) && consequence.is_empty() {
            verdict = Verdict::Limited;
            consequence = "one larger image fills it".into();
            fix = "hyperion image prune, or another --root".into();
        }
    }
    for option in ["ro", "noexec", "nodev"] {
        if mount.has(option) {
            evidence += &format!(", mounted {option}");
        }
    }
    if mount.has("ro") || mount.has("noexec") {
        verdict = Verdict::Limited;
        consequence = "programs cannot be stored or started there".into();
        fix = "name another folder with --root or HYPERION_ROOT".into();
    }
    Check {
        consequence,
        fix,
        ..seen("storage", verdict, evidence)
    }
}

/// Free and all bytes of the store's file system, by its nearest folder that exists.
fn space(host: &Host) -> Option<(Bytes, Bytes)> {
    if !host.is_live() {
        return None;
    }
    let folder = host.store.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stat.f_frsize));
    Some((bytes(stat.f_bavail), bytes(stat.f_blocks)))
}

/// Below this, large messages of a dozen ranks fail with a bus error.
const SHARED_MEMORY_WANTED: Bytes = Bytes::mib(256);

pub(super) fn check_shared_memory(host: &Host) -> Check {
    const NAME: &str = "shared-memory";
    let mounts = mounts(host);
    let mount = mount_of(&mounts, Path::new("/dev/shm"))
        .filter(|m| m.target == Path::new("/dev/shm") && m.filesystem == "tmpfs");
    let Some(mount) = mount else {
        return Check {
            consequence: "MPI between ranks of this host needs it".into(),
            fix: "mount -t tmpfs -o mode=1777 tmpfs /dev/shm".into(),
            ..seen(
                NAME,
                Verdict::Missing,
                "no tmpfs on /dev/shm (/proc/self/mountinfo)",
            )
        };
    };
    let size = mount.super_value("size").and_then(|s| s.parse().ok());
    // Without an option the kernel gives half of the memory.
    let half = || super::memory_total(host).map(|total| Bytes(total.0 / 2));
    let Some(size) = size.or_else(half) else {
        return seen(NAME, Verdict::Unknown, "tmpfs on /dev/shm of unknown size");
    };
    let evidence = format!("/dev/shm of {size}");
    if size < SHARED_MEMORY_WANTED {
        return Check {
            consequence: "MPI jobs with many ranks or large messages die of a bus error".into(),
            fix: "mount -o remount,size=50% /dev/shm (in an outer container: --shm-size=4g)".into(),
            ..seen(NAME, Verdict::Limited, evidence)
        };
    }
    seen(NAME, Verdict::Ok, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_on_a_shared_file_system_is_warned_of() {
        for kind in ["nfs4", "lustre", "gpfs", "tmpfs", "fuse.sshfs", "overlay"] {
            assert_eq!(judge_storage(kind).0, Verdict::Limited, "{kind}");
        }
        for kind in ["ext4", "xfs", "btrfs", "zfs"] {
            assert_eq!(judge_storage(kind).0, Verdict::Ok, "{kind}");
        }
    }
}
