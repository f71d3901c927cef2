//! KVM: what files tell of it, and what a guest that was booted proves
//! ([`crate::kvm`]).

use hyperion_model::{Check, Verdict};

use super::kernel::{Presence, module};
use super::{Cpu, Distribution, Host, Virtualization, XenRole, cpu, seen, xen_role};
use crate::kvm::{KvmVerdict, Step};

const NAME: &str = "kvm";
const EMULATED: &str =
    "virtual machines run by emulation (TCG), 5 to 25 times slower: good to test, slow to compute";

/// What files tell.
struct Facts {
    cpu: Cpu,
    /// The module that drives this processor.
    module: &'static str,
    presence: Presence,
    /// Whether `/dev/kvm` is there.
    device: bool,
    /// Whether the user may open it.
    permitted: bool,
    /// The kernel's own word that the firmware has switched it off.
    firmware: Option<String>,
}

impl Facts {
    fn of(host: &Host) -> Self {
        let cpu = cpu(host);
        let x86 = cpu.architecture == "x86_64";
        let module_name = match (x86, cpu.virtualization, cpu.vendor.as_str()) {
            (false, ..) => "kvm",
            (_, Some(Virtualization::Vmx), _) | (_, None, "GenuineIntel") => "kvm_intel",
            _ => "kvm_amd",
        };
        let device = host.exists("/dev/kvm");
        Self {
            module: module_name,
            presence: module(host, module_name),
            device,
            permitted: device && host.may_use("/dev/kvm"),
            // The log is long, and of interest only where something is missing.
            firmware: (!device)
                .then(|| switched_off(&host.kernel_log()?))
                .flatten(),
            cpu,
        }
    }

    /// Whether the processor would show a flag and shows none.
    fn no_flag(&self) -> bool {
        self.cpu.architecture == "x86_64" && self.cpu.virtualization.is_none()
    }

    fn evidence(&self, host: &Host) -> String {
        let flag = match self.cpu.virtualization {
            Some(Virtualization::Vmx) => "flag vmx",
            Some(Virtualization::Svm) => "flag svm",
            None if self.no_flag() => "no flag vmx or svm",
            None => "no flag to look for on this processor",
        };
        let module = self.module;
        let nested = match host.text(format!("/sys/module/{module}/parameters/nested")) {
            Some(on) if on == "1" || on == "Y" => ", nested on",
            Some(_) => ", nested off",
            None => "",
        };
        // There are drivers that need no help from the processor.
        let is_other = |name: &String| name.starts_with("kvm_") && name != module;
        let other = host.list("/sys/module").into_iter().find(is_other);
        let driver = match (self.presence, other) {
            (Presence::Active, _) => format!("{module} in the kernel{nested}"),
            (_, Some(other)) => format!("{other} in the kernel"),
            (Presence::Loadable, None) => format!("module {module} not loaded"),
            (Presence::Absent, None) => format!("module {module} not seen"),
        };
        let access = match (self.device, self.permitted) {
            (false, _) => "no /dev/kvm",
            (true, false) => "/dev/kvm not permitted to this user",
            (true, true) => "/dev/kvm may be opened",
        };
        let mut evidence = format!("{flag}; {driver}; {access}");
        if let Some(line) = &self.firmware {
            evidence += &format!("; the kernel says: {line}");
        }
        evidence
    }
}

/// Judges KVM. Only a guest that reached user mode and came back makes it `ok`:
/// `/dev/kvm` may open and still nothing boots.
pub(super) fn check_kvm(host: &Host, dist: &Distribution) -> Check {
    let facts = Facts::of(host);
    let check = |verdict| seen(NAME, verdict, facts.evidence(host));
    let Some(probed) = &host.kvm else {
        return match (facts.device, facts.permitted) {
            (true, true) => Check {
                consequence: if facts.no_flag() {
                    "without the flag KVM most likely boots nothing; only a guest that boots proves it"
                } else {
                    "only a guest that boots proves it"
                }
                .into(),
                ..check(Verdict::Unknown)
            },
            (true, false) => denied(host, check(Verdict::Limited)),
            (false, _) => missing(host, dist, &facts, check(Verdict::Missing)),
        };
    };
    let tried = |verdict| {
        let mut check = check(verdict);
        check.evidence += &format!("; {}", probed.verdict);
        if probed.cached {
            check.evidence += " (found since the last boot; --fresh tries again)";
        }
        check
    };
    match &probed.verdict {
        KvmVerdict::Works { .. } => tried(Verdict::Ok),
        KvmVerdict::Denied { .. } => denied(host, check(Verdict::Limited)),
        KvmVerdict::Missing { .. } if facts.device => Check {
            consequence: EMULATED.into(),
            fix: format!("modprobe {}", facts.module),
            ..tried(Verdict::Missing)
        },
        KvmVerdict::Missing { .. } => missing(host, dist, &facts, check(Verdict::Missing)),
        KvmVerdict::Untried { .. } => Check {
            consequence: EMULATED.into(),
            ..tried(Verdict::Unknown)
        },
        KvmVerdict::Broken { step, .. } => Check {
            consequence: format!("/dev/kvm boots no kernel: {EMULATED}"),
            fix: broken(host, &facts, *step),
            ..tried(Verdict::Missing)
        },
    }
}

fn denied(host: &Host, check: Check) -> Check {
    let by_group = host
        .mode("/dev/kvm")
        .is_some_and(|mode| mode & 0o060 == 0o060);
    let fix = if host.user.uid == 0 || host.may_use("/dev/kvm") {
        "the container or service that this runs in refuses the device: allow it there (docker: \
         --device /dev/kvm; systemd: DeviceAllow=/dev/kvm rw)"
            .to_owned()
    } else if by_group {
        let user = host.user_name();
        let user = user.unwrap_or_else(|| host.user.uid.to_string());
        format!("usermod -aG kvm {user}, then log in again")
    } else {
        "chgrp kvm /dev/kvm; chmod 0660 /dev/kvm (udev's rules do so)".to_owned()
    };
    Check {
        consequence: EMULATED.into(),
        fix,
        ..check
    }
}

fn missing(host: &Host, dist: &Distribution, facts: &Facts, check: Check) -> Check {
    const FIRMWARE: &str = "switch on VT-x or AMD-V (SVM) in the firmware";
    let name = facts.module;
    let x86 = facts.cpu.architecture == "x86_64";
    let fix = if facts.no_flag() && xen_role(host) != XenRole::None {
        "none below Xen: the hypervisor holds the flag; use machines of Xen".to_owned()
    } else if facts.no_flag() && facts.cpu.hypervisor {
        nested(host, facts)
    } else if facts.no_flag() || facts.firmware.is_some() {
        FIRMWARE.to_owned()
    } else {
        match facts.presence {
            Presence::Loadable => format!("modprobe {name}; if it refuses, {FIRMWARE}"),
            Presence::Active if x86 => format!("modprobe {name}; if it refuses, {FIRMWARE}"),
            Presence::Active => "boot the kernel in EL2".to_owned(),
            Presence::Absent => dist.install_more_modules().to_owned(),
        }
    };
    Check {
        consequence: EMULATED.into(),
        fix,
        ..check
    }
}

/// What to do where a guest was made and came to nothing.
fn broken(host: &Host, facts: &Facts, step: Step) -> String {
    let fix = if step == Step::Machine {
        "stop what else may hold the processor's virtualization (VirtualBox, VMware), and look at \
         journalctl -k -g kvm"
            .to_owned()
    } else if facts.cpu.hypervisor {
        nested(host, facts)
    } else {
        "bring the kernel, the firmware and the microcode up to date".to_owned()
    };
    format!("{fix}; then: hyperion doctor --fresh kvm")
}

/// How the hypervisor above is told to let this machine have machines.
fn nested(host: &Host, facts: &Facts) -> String {
    let dmi = |file: &str| {
        host.text(format!("/sys/class/dmi/id/{file}"))
            .unwrap_or_default()
    };
    let vendor = dmi("sys_vendor");
    let kernel = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    if kernel.contains("microsoft-standard") {
        return "in .wslconfig of Windows: [wsl2] nestedVirtualization=true; then wsl --shutdown"
            .to_owned();
    }
    let way = match vendor.as_str() {
        "VMware, Inc." => "in the settings of this machine: vhv.enable = \"TRUE\"",
        "innotek GmbH" => "VBoxManage modifyvm NAME --nested-hw-virt on",
        "Amazon EC2" => "take a .metal instance, or a type that offers nested virtualization",
        "Google" | "Google Compute Engine" => {
            "gcloud compute instances create NAME --enable-nested-virtualization"
        }
        // Azure's tag for its chassis.
        "Microsoft Corporation"
            if dmi("chassis_asset_tag") == "7783-7084-3265-9085-8269-3286-77" =>
        {
            "take a size that offers nested virtualization (Dv3, Ev3 and later)"
        }
        "Microsoft Corporation" => {
            "Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true"
        }
        "Xen" => "nestedhvm=1 in the configuration of this machine",
        _ => {
            return format!(
                "switch on nested virtualization for this machine on the host above (below QEMU: \
                 modprobe {} nested=1 there, and CPU mode host-passthrough)",
                facts.module
            );
        }
    };
    format!("switch on nested virtualization on the host above: {way}")
}

/// Finds the kernel's word that the firmware keeps the processor's support off.
fn switched_off(log: &str) -> Option<String> {
    let line = log.lines().find(|line| {
        let line = line.to_ascii_lowercase();
        let off = line.contains("disabled") || line.contains("not enabled");
        let what = ["kvm", "vmx", "svm"].iter().any(|name| line.contains(name));
        off && what && line.contains("bios")
    })?;
    // The kernel's clock, or a date and a host, come first.
    let start = line.find("] ").map_or(0, |at| at + 2);
    Some(line[start..].chars().take(100).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_words_on_the_firmware_are_known() {
        for line in [
            "[    2.100000] kvm: disabled by bios",
            "[    0.080000] x86/cpu: VMX (outside TXT) disabled by BIOS",
            "[    3.100000] kvm_intel: VMX not enabled (by BIOS) in MSR_IA32_FEAT_CTL on CPU 0",
            "[    3.100000] kvm_amd: SVM disabled (by BIOS) in MSR_VM_CR on CPU 0",
        ] {
            let found = switched_off(&format!("[    0.000000] Linux version 6.1\n{line}\n"));
            let found = found.expect("found");
            assert!(!found.contains('['), "{found}");
        }
        let fine = "[ 1.0] kvm_amd: Nested Virtualization enabled\n[ 1.1] pci: BIOS disabled x";
        assert_eq!(switched_off(fine), None);
    }

    proptest! {
        #[test]
        fn no_log_makes_the_reader_panic(log in "(\\PC|\n|\\] |kvm|bios|disabled){0,200}") {
            let _ = switched_off(&log);
        }
    }
}
