//! The distribution, and the names of packages in it today.

use hyperion_model::{Check, Verdict};
use serde::Serialize;

use super::{Host, seen};

/// Distributions that share package names and tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Debian, Ubuntu and what is built on them: `apt`.
    Debian,
    /// Fedora, Red Hat Enterprise Linux, Rocky, Alma, CentOS: `dnf`.
    RedHat,
    /// Anything else.
    Other,
}

/// What `os-release(5)` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// Identifier in lower case, such as `debian`; empty when not told.
    pub id: String,
    /// Version, such as `12`; empty when not told.
    pub version: String,
    /// Name for people.
    pub name: String,
    /// Where package names are taken from.
    pub family: Family,
}

/// A thing to install, by its package names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    debian: &'static str,
    red_hat: &'static str,
}

const fn package(debian: &'static str, red_hat: &'static str) -> Package {
    Package { debian, red_hat }
}

// Old guides name `qemu-kvm`, `libvirt-bin` and `bridge-utils`: the first two
// are gone from Debian, and `ip link add … type bridge` replaced `brctl`.
pub(crate) const QEMU_X86: Package = package(
    "qemu-system-x86 qemu-utils ovmf",
    "qemu-kvm qemu-img edk2-ovmf",
);
pub(crate) const QEMU_ARM: Package = package(
    "qemu-system-arm qemu-utils qemu-efi-aarch64",
    "qemu-kvm qemu-img edk2-aarch64",
);
pub(crate) const LIBVIRT: Package = package(
    "libvirt-daemon-system libvirt-clients virtinst",
    "libvirt-daemon-kvm libvirt-client virt-install",
);
pub(crate) const NEWUIDMAP: Package = package("uidmap", "shadow-utils");
pub(crate) const EROFS_TOOLS: Package = package("erofs-utils", "erofs-utils");
pub(crate) const SQUASHFS_TOOLS: Package =
    package("squashfs-tools squashfuse", "squashfs-tools squashfuse");
pub(crate) const MPI: Package = package("mpich libmpich-dev", "mpich mpich-devel");
pub(crate) const PMIX: Package = package("libpmix2", "pmix");
pub(crate) const RDMA: Package = package("rdma-core ibverbs-providers", "rdma-core libibverbs");
pub(crate) const XEN_TOOLS: Package = package("xen-system-amd64", "xen");

impl Distribution {
    /// Reads the text of `/etc/os-release`.
    pub(crate) fn parse(text: &str) -> Self {
        let field = |key: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(k, _)| *k == key)
                .map(|(_, v)| v.trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        let id = field("ID");
        let like = field("ID_LIKE");
        let is = |names: &[&str]| {
            std::iter::once(id.as_str())
                .chain(like.split_whitespace())
                .any(|word| names.contains(&word))
        };
        let family = if is(&["debian", "ubuntu"]) {
            Family::Debian
        } else if is(&["fedora", "rhel", "centos", "rocky", "almalinux"]) {
            Family::RedHat
        } else {
            Family::Other
        };
        let name = match field("PRETTY_NAME") {
            pretty if pretty.is_empty() => id.clone(),
            pretty => pretty,
        };
        Self {
            version: field("VERSION_ID"),
            id,
            name,
            family,
        }
    }

    /// Gives the command that installs a thing.
    pub(crate) fn install(&self, package: Package) -> String {
        match self.family {
            Family::Debian => format!("apt install {}", package.debian),
            Family::RedHat => format!("dnf install {}", package.red_hat),
            Family::Other => format!("install what Debian calls {}", package.debian),
        }
    }

    /// Gives the command that brings kernel modules which the running kernel lacks.
    pub(crate) fn install_more_modules(&self) -> &'static str {
        match (self.family, self.id.as_str()) {
            (Family::Debian, "ubuntu") => "apt install linux-modules-extra-$(uname -r)",
            (Family::Debian, _) => {
                "apt install linux-image-amd64 (linux-image-arm64 on Arm) and reboot"
            }
            (Family::RedHat, _) => "dnf install kernel-modules-extra-$(uname -r)",
            (Family::Other, _) => "boot this distribution's full kernel",
        }
    }

    /// Gives the command that installs NVIDIA's driver.
    pub(crate) fn install_nvidia_driver(&self) -> &'static str {
        match (self.family, self.id.as_str()) {
            (_, "ubuntu") => "ubuntu-drivers install --gpgpu",
            (Family::Debian, _) => "apt install nvidia-driver (component non-free)",
            (_, "fedora") => "dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda (RPM Fusion)",
            (Family::RedHat, _) => "dnf install nvidia-open (NVIDIA's CUDA repository)",
            (Family::Other, _) => "install NVIDIA's driver",
        }
    }
}

/// Reads which distribution this is.
pub fn distribution(host: &Host) -> Distribution {
    let text = host
        .text("/etc/os-release")
        .or_else(|| host.text("/usr/lib/os-release"));
    Distribution::parse(&text.unwrap_or_default())
}

pub(super) fn check_distribution(dist: &Distribution) -> Check {
    if dist.id.is_empty() {
        return Check {
            consequence: "fixes below use Debian's package names".into(),
            ..seen("distribution", Verdict::Unknown, "no ID in /etc/os-release")
        };
    }
    let evidence = format!("{} (/etc/os-release)", dist.name);
    if dist.family == Family::Other {
        return Check {
            consequence: "fixes below use Debian's package names".into(),
            ..seen("distribution", Verdict::Limited, evidence)
        };
    }
    seen("distribution", Verdict::Ok, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_follow_id_and_id_like() {
        let family = |text| Distribution::parse(text).family;
        assert_eq!(family("ID=debian"), Family::Debian);
        assert_eq!(
            family("ID=linuxmint\nID_LIKE=\"ubuntu debian\""),
            Family::Debian
        );
        assert_eq!(
            family("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\""),
            Family::RedHat
        );
        assert_eq!(family("ID=fedora"), Family::RedHat);
        assert_eq!(family("ID=alpine"), Family::Other);
        assert_eq!(family(""), Family::Other);
    }

    #[test]
    fn package_names_are_those_of_the_distribution() {
        let debian = Distribution::parse("ID=debian");
        let rocky = Distribution::parse("ID=rocky");
        assert_eq!(
            debian.install(LIBVIRT),
            "apt install libvirt-daemon-system libvirt-clients virtinst"
        );
        assert_eq!(
            rocky.install(QEMU_X86),
            "dnf install qemu-kvm qemu-img edk2-ovmf"
        );
    }

    #[test]
    fn names_that_left_debian_are_never_recommended() {
        for package in [QEMU_X86, QEMU_ARM, LIBVIRT] {
            let names: Vec<&str> = package.debian.split(' ').collect();
            for gone in ["qemu-kvm", "libvirt-bin", "bridge-utils"] {
                assert!(!names.contains(&gone), "{gone}");
            }
        }
    }
}
