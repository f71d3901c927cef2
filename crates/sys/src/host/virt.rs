//! Virtual machines: KVM as far as files tell, Xen, and the modules they need.

use hyperion_model::{Check, Verdict};
use serde::Serialize;

use super::kernel::{Presence, module};
use super::{Distribution, Host, Virtualization, cpu, seen};

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

/// Judges KVM. The verdict is never `ok`: `/dev/kvm` may open and still no
/// guest boots; only one that reached user mode would prove it.
pub(super) fn check_kvm(host: &Host, dist: &Distribution) -> Check {
    const EMULATED: &str = "virtual machines run by emulation (TCG): good to test, slow to compute";
    let cpu = cpu(host);
    let x86 = cpu.architecture == "x86_64";
    let flag = match cpu.virtualization {
        Some(Virtualization::Vmx) => "flag vmx",
        Some(Virtualization::Svm) => "flag svm",
        None if x86 => "no flag vmx or svm",
        None => "no flag to look for on this processor",
    };
    let name = match (x86, cpu.virtualization, cpu.vendor.as_str()) {
        (false, ..) => "kvm",
        (_, Some(Virtualization::Vmx), _) | (_, None, "GenuineIntel") => "kvm_intel",
        _ => "kvm_amd",
    };
    let presence = module(host, name);
    let nested = match host.text(format!("/sys/module/{name}/parameters/nested")) {
        Some(on) if on == "1" || on == "Y" => ", nested on",
        Some(_) => ", nested off",
        None => "",
    };
    let driver = match presence {
        Presence::Active => format!("{name} in the kernel{nested}"),
        Presence::Loadable => format!("module {name} not loaded"),
        Presence::Absent => format!("module {name} not seen"),
    };
    let device = host.exists("/dev/kvm");
    let permitted = device && host.may_use("/dev/kvm");
    let access = match (device, permitted) {
        (false, _) => "no /dev/kvm",
        (true, false) => "/dev/kvm not permitted to this user",
        (true, true) => "/dev/kvm may be opened",
    };
    let evidence = format!("{flag}; {driver}; {access}");
    let no_flag = x86 && cpu.virtualization.is_none();
    match (device, permitted) {
        (true, true) => Check {
            consequence: if no_flag {
                "without the flag KVM most likely boots nothing; only a guest that boots proves it"
            } else {
                "only a guest that boots proves it"
            }
            .into(),
            ..seen("kvm", Verdict::Unknown, evidence)
        },
        (true, false) => Check {
            consequence: EMULATED.into(),
            fix: if host
                .mode("/dev/kvm")
                .is_some_and(|mode| mode & 0o060 == 0o060)
            {
                let user = host.user_name();
                let user = user.unwrap_or_else(|| host.user.uid.to_string());
                format!("usermod -aG kvm {user}, then log in again")
            } else {
                "chgrp kvm /dev/kvm; chmod 0660 /dev/kvm (udev's rules do so)".to_owned()
            },
            ..seen("kvm", Verdict::Limited, evidence)
        },
        (false, _) => {
            let fix = match (no_flag, presence) {
                (true, _) if xen_role(host) != XenRole::None => {
                    "none below Xen: the hypervisor holds the flag; use machines of Xen".to_owned()
                }
                (true, _) if cpu.hypervisor => {
                    "switch on nested virtualization for this machine on the host above".to_owned()
                }
                (true, _) => "switch on VT-x or AMD-V (SVM) in the firmware".to_owned(),
                (false, Presence::Loadable) => format!("modprobe {name}"),
                (false, Presence::Active) if x86 => {
                    format!(
                        "modprobe {name}; if it refuses, switch on VT-x or AMD-V in the firmware"
                    )
                }
                (false, Presence::Active) => "boot the kernel in EL2".to_owned(),
                (false, Presence::Absent) => dist.install_more_modules().to_owned(),
            };
            Check {
                consequence: EMULATED.into(),
                fix,
                ..seen("kvm", Verdict::Missing, evidence)
            }
        }
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
