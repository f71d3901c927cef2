//! What virtual machines need beside KVM: Xen, and modules of the kernel.

use hyperion_model::{Check, Verdict};
use serde::Serialize;

use super::kernel::{Presence, module};
use super::{Distribution, Host, seen};

/// What this kernel is to a Xen hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum XenRole {
    /// The domain that controls the others.
    Dom0,
    /// A guest.
    DomU,
    /// No Xen below.
    None,
}

/// Reads what this kernel is to Xen.
///
/// `/proc/xen/capabilities` holds `control_d` in dom0 and is empty in a guest;
/// it is not mounted everywhere, and then bit 11 of the features tells dom0.
pub fn xen_role(host: &Host) -> XenRole {
    if host.text("/sys/hypervisor/type").as_deref() != Some("xen") && !host.exists("/proc/xen") {
        return XenRole::None;
    }
    let control = match host.text("/proc/xen/capabilities") {
        Some(text) => text.split([',', ' ', '\n']).any(|w| w == "control_d"),
        None => host
            .text("/sys/hypervisor/properties/features")
            .is_some_and(|text| has_dom0_feature(&text)),
    };
    if control {
        XenRole::Dom0
    } else {
        XenRole::DomU
    }
}

/// `XENFEAT_dom0` of Xen's public header `features.h`.
fn has_dom0_feature(hex: &str) -> bool {
    u64::from_str_radix(hex.trim_start_matches("0x"), 16).is_ok_and(|bits| bits & (1 << 11) != 0)
}

pub(super) fn check_xen(host: &Host, dist: &Distribution) -> Check {
    let version = || {
        let read = |file: &str| {
            host.text(format!("/sys/hypervisor/version/{file}"))
                .unwrap_or_default()
        };
        format!("Xen {}.{}{}", read("major"), read("minor"), read("extra"))
    };
    match xen_role(host) {
        XenRole::None => seen(
            "xen",
            Verdict::Missing,
            "no xen in /sys/hypervisor/type, no /proc/xen",
        ),
        XenRole::DomU => Check {
            consequence: "a Xen guest: it can start no machines of its own".into(),
            ..seen("xen", Verdict::Limited, format!("domU of {}", version()))
        },
        XenRole::Dom0 => match host.program("xl") {
            Some(xl) => seen(
                "xen",
                Verdict::Ok,
                format!(
                    "dom0 of {} (/proc/xen/capabilities), {}",
                    version(),
                    xl.display()
                ),
            ),
            None => Check {
                consequence: "machines cannot be started without xl".into(),
                fix: dist.install(super::packages::XEN_TOOLS),
                ..seen(
                    "xen",
                    Verdict::Limited,
                    format!("dom0 of {}, no xl in PATH", version()),
                )
            },
        },
    }
}

/// Modules that fences use: name, device that proves it, what lacks without it.
const MODULES: [(&str, &str, &str); 5] = [
    (
        "tun",
        "/dev/net/tun",
        "networks of virtual machines and rootless containers",
    ),
    (
        "vhost_net",
        "/dev/vhost-net",
        "fast networks of virtual machines",
    ),
    (
        "vhost_vsock",
        "/dev/vhost-vsock",
        "vsock to virtual machines (virtio-serial is used)",
    ),
    (
        "vfio_pci",
        "/dev/vfio/vfio",
        "passing devices to virtual machines",
    ),
    ("fuse", "/dev/fuse", "image files mounted without root"),
];

pub(super) fn check_kernel_modules(host: &Host, dist: &Distribution) -> Check {
    let mut words = Vec::new();
    let mut lacking = Vec::new();
    let mut to_load = Vec::new();
    let mut absent = false;
    for (name, device, purpose) in MODULES {
        let presence = match module(host, name) {
            Presence::Absent if host.exists(device) => Presence::Active,
            other => other,
        };
        words.push(match presence {
            Presence::Active => format!("{name} there"),
            Presence::Loadable => format!("{name} not loaded"),
            Presence::Absent => format!("{name} absent"),
        });
        match presence {
            Presence::Active => continue,
            Presence::Loadable => to_load.push(name),
            Presence::Absent => absent = true,
        }
        lacking.push(purpose);
    }
    let evidence = format!(
        "{} (/proc/modules, /sys/module, /lib/modules, /dev)",
        words.join(", ")
    );
    if lacking.is_empty() {
        return seen("kernel-modules", Verdict::Ok, evidence);
    }
    let mut fixes = Vec::new();
    if !to_load.is_empty() {
        fixes.push(format!("modprobe -a {}", to_load.join(" ")));
    }
    if absent {
        fixes.push(dist.install_more_modules().to_owned());
    }
    Check {
        consequence: format!("lacking: {}", lacking.join("; ")),
        fix: fixes.join("; "),
        ..seen("kernel-modules", Verdict::Limited, evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_of_a_real_dom0_name_it() {
        // The first is recorded from Xen 4.17 under Debian 12.
        assert!(has_dom0_feature("000228f0"));
        assert!(!has_dom0_feature("00002705"));
        assert!(!has_dom0_feature("no number"));
    }
}
