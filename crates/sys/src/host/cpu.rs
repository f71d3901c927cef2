//! The processor: model, architecture and what it offers to virtual machines.

use std::collections::BTreeSet;

use hyperion_model::{Check, Verdict};
use serde::Serialize;

use super::{Host, seen};

/// The processor's support for virtual machines, by the flag's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Virtualization {
    /// Intel VT-x.
    Vmx,
    /// AMD-V.
    Svm,
}

/// What `/proc/cpuinfo` says of the first processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// As `uname -m` gives it, such as `x86_64`; empty when not told.
    pub architecture: String,
    /// Such as `GenuineIntel`; empty when not told.
    pub vendor: String,
    /// Model for people; empty when not told.
    pub model: String,
    /// The flag for virtual machines, if there is one. Arm has none to show.
    pub virtualization: Option<Virtualization>,
    /// Whether the processor says that it is a virtual machine's.
    pub hypervisor: bool,
    /// Everything that the processor says it can do.
    pub flags: BTreeSet<String>,
}

impl Cpu {
    fn parse(text: &str) -> Self {
        let field = |names: &[&str]| {
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| names.contains(&key.trim()))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let flags: BTreeSet<String> = field(&["flags", "Features"])
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let implementer = field(&["CPU implementer"]);
        let vendor = match implementer.as_str() {
            "" => field(&["vendor_id"]),
            code => arm_vendor(code).to_owned(),
        };
        let model = match field(&["model name", "Model", "Hardware"]) {
            model if model.is_empty() && !implementer.is_empty() => {
                format!("{vendor} part {}", field(&["CPU part"]))
            }
            model => model,
        };
        let architecture = if flags.contains("lm") {
            "x86_64"
        } else if !implementer.is_empty() {
            "aarch64"
        } else {
            ""
        };
        Self {
            architecture: architecture.to_owned(),
            vendor,
            model,
            virtualization: if flags.contains("vmx") {
                Some(Virtualization::Vmx)
            } else if flags.contains("svm") {
                Some(Virtualization::Svm)
            } else {
                None
            },
            hypervisor: flags.contains("hypervisor"),
            flags,
        }
    }
}

/// Names of the Arm architecture's list of implementers (MIDR_EL1).
fn arm_vendor(code: &str) -> &str {
    match code {
        "0x41" => "ARM",
        "0x42" => "Broadcom",
        "0x43" => "Cavium",
        "0x46" => "Fujitsu",
        "0x48" => "HiSilicon",
        "0x4e" => "NVIDIA",
        "0x51" => "Qualcomm",
        "0x61" => "Apple",
        "0xc0" => "Ampere",
        other => other,
    }
}

/// Reads what the processor is.
pub fn cpu(host: &Host) -> Cpu {
    let mut cpu = Cpu::parse(&host.text("/proc/cpuinfo").unwrap_or_default());
    // Kernels from 6.1 on tell it themselves.
    if let Some(arch) = host.text("/proc/sys/kernel/arch") {
        cpu.architecture = arch;
    } else if host.is_live() {
        cpu.architecture = rustix::system::uname()
            .machine()
            .to_string_lossy()
            .into_owned();
    }
    cpu
}

pub(super) fn check_cpu(host: &Host) -> Check {
    let cpu = cpu(host);
    if cpu.model.is_empty() && cpu.flags.is_empty() {
        return seen(
            "cpu",
            Verdict::Unknown,
            "/proc/cpuinfo names no model and no flags",
        );
    }
    let mut evidence = format!("{}, {}", cpu.model, cpu.architecture);
    match cpu.virtualization {
        Some(Virtualization::Vmx) => evidence += ", flag vmx (Intel VT-x)",
        Some(Virtualization::Svm) => evidence += ", flag svm (AMD-V)",
        None if cpu.architecture == "x86_64" => evidence += ", neither vmx nor svm",
        None => {}
    }
    if cpu.hypervisor {
        evidence += ", itself in a virtual machine";
    }
    evidence += " (/proc/cpuinfo)";
    seen("cpu", Verdict::Ok, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn intel_amd_neither_and_arm_are_told_apart() {
        let intel = Cpu::parse(
            "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nflags\t\t: lm vmx ept\n\
             vmx flags\t: vnmi ept",
        );
        assert_eq!(intel.virtualization, Some(Virtualization::Vmx));
        assert_eq!(intel.architecture, "x86_64");
        let amd = Cpu::parse("vendor_id : AuthenticAMD\nflags : lm svm npt");
        assert_eq!(amd.virtualization, Some(Virtualization::Svm));
        let neither = Cpu::parse("vendor_id : AuthenticAMD\nflags : lm hypervisor");
        assert_eq!((neither.virtualization, neither.hypervisor), (None, true));
        let arm = Cpu::parse("Features : fp asimd sve\nCPU implementer : 0x41\nCPU part : 0xd0c");
        assert_eq!(arm.architecture, "aarch64");
        assert_eq!(arm.model, "ARM part 0xd0c");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\PC|[:\n\t]){0,200}") {
            let _ = Cpu::parse(&text);
        }
    }
}
