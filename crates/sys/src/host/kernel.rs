//! The kernel: its release, its modules, its file systems, its clock.

use std::fmt;
use std::path::Path;

use hyperion_model::{Check, Verdict};

use super::{Host, seen};

/// The numbers of a kernel's release that tell features apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRelease {
    /// 6 of `6.12.9`.
    pub major: u32,
    /// 12 of `6.12.9`.
    pub minor: u32,
}

impl KernelRelease {
    /// Makes a release from its two numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Asks the running kernel.
    pub fn running() -> Option<Self> {
        let name = rustix::system::uname();
        Self::parse(name.release().to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        Some(Self::new(major.parse().ok()?, rest[..end].parse().ok()?))
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Reads the kernel's release; `None` when it is not told.
pub fn kernel_release(host: &Host) -> Option<KernelRelease> {
    KernelRelease::parse(&host.text("/proc/sys/kernel/osrelease")?)
}

impl Host {
    /// Reads the kernel's log: the running kernel's own, where it lets the
    /// caller, or what lies in `/var/log/dmesg` of a tree.
    pub(super) fn kernel_log(&self) -> Option<String> {
        if !self.is_live() {
            return self.text("/var/log/dmesg");
        }
        const READ_ALL: libc::c_int = 3;
        let mut bytes = vec![0u8; 1 << 20];
        let room = bytes.len() as libc::c_int;
        // SAFETY: the kernel writes at most `room` bytes to a buffer of that size.
        let got = unsafe { libc::klogctl(READ_ALL, bytes.as_mut_ptr().cast(), room) };
        bytes.truncate(usize::try_from(got).ok()?);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Whether a piece of the kernel is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// In the kernel now.
    Active,
    /// A module file lies ready to be loaded.
    Loadable,
    /// Neither.
    Absent,
}

/// Looks for a module by its name with underscores.
pub(crate) fn module(host: &Host, name: &str) -> Presence {
    let loaded = host.text("/proc/modules").is_some_and(|text| {
        text.lines()
            .any(|line| line.split(' ').next() == Some(name))
    });
    if loaded || host.exists(Path::new("/sys/module").join(name)) {
        return Presence::Active;
    }
    let Some(release) = host.text("/proc/sys/kernel/osrelease") else {
        return Presence::Absent;
    };
    let folder = Path::new("/lib/modules").join(release);
    let has = |file: &str| {
        host.text(folder.join(file))
            .is_some_and(|text| lists_module(&text, name))
    };
    if has("modules.builtin") {
        Presence::Active
    } else if has("modules.dep") {
        Presence::Loadable
    } else {
        Presence::Absent
    }
}

/// Finds a module in `modules.dep` or `modules.builtin`, whatever its folder
/// and compression; `-` and `_` are the same to the kernel.
fn lists_module(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split_once(".ko")
            .is_some_and(|(stem, _)| stem.replace('-', "_") == name)
    })
}

/// Looks for a file system by its name in `/proc/filesystems`.
pub(crate) fn filesystem(host: &Host, name: &str) -> Presence {
    let registered = host.text("/proc/filesystems").is_some_and(|text| {
        text.lines()
            .any(|line| line.split_whitespace().last() == Some(name))
    });
    if registered {
        Presence::Active
    } else {
        module(host, name)
    }
}

pub(super) fn check_kernel(host: &Host) -> Check {
    let Some(text) = host.text("/proc/sys/kernel/osrelease") else {
        return seen(
            "kernel",
            Verdict::Unknown,
            "/proc/sys/kernel/osrelease cannot be read",
        );
    };
    let evidence = format!("Linux {text} (/proc/sys/kernel/osrelease)");
    match KernelRelease::parse(&text) {
        Some(release) if release < KernelRelease::new(5, 12) => Check {
            consequence: "older than 5.12: jobs run as processes only, not in containers".into(),
            fix: "boot a kernel of 6.1 or later".into(),
            ..seen("kernel", Verdict::Limited, evidence)
        },
        Some(_) => seen("kernel", Verdict::Ok, evidence),
        None => seen("kernel", Verdict::Unknown, evidence),
    }
}

pub(super) fn check_time_source(host: &Host) -> Check {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let Some(source) = host.text(path) else {
        return seen(
            "time-source",
            Verdict::Unknown,
            format!("{path} cannot be read"),
        );
    };
    let evidence = format!("{source} ({path})");
    // These are read without entering the kernel.
    match source.as_str() {
        "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page" => {
            seen("time-source", Verdict::Ok, evidence)
        }
        _ => Check {
            consequence: "every look at the clock enters the kernel: short timings and MPI_Wtime \
                          are dear"
                .into(),
            ..seen("time-source", Verdict::Limited, evidence)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn releases_compare_as_numbers() {
        let release = |text| KernelRelease::parse(text).expect("a release");
        assert_eq!(release("6.18.44-fc-v657"), KernelRelease::new(6, 18));
        assert_eq!(release("6.1.0-56-amd64"), KernelRelease::new(6, 1));
        assert!(release("5.9") < release("5.11.0-rc1"));
        assert_eq!(KernelRelease::parse("six"), None);
    }

    #[test]
    fn a_module_file_is_found_by_name_alone() {
        let text = "kernel/fs/erofs/erofs.ko.xz: kernel/lib/netfs.ko.xz\nkernel/drivers/vhost/vhost-net.ko:";
        assert!(lists_module(text, "erofs"));
        assert!(lists_module(text, "vhost_net"));
        assert!(!lists_module(text, "netfs"));
        assert!(!lists_module(text, "vhost"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,200}", name in "[a-z_]{0,5}") {
            let _ = KernelRelease::parse(&text);
            let _ = lists_module(&text, &name);
        }
    }
}
