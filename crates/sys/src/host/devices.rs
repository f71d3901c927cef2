//! Accelerators and other devices of the PCI bus, and the energy meter.

use std::fmt;

use hyperion_model::{Bytes, Check, Verdict};
use serde::Serialize;

use super::{Distribution, Host, seen};

/// A device of the PCI bus, by the numbers of its configuration space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// Domain, bus, device and function: `0000:3b:00.0`.
    pub address: String,
    /// Number of the maker.
    pub vendor: u16,
    /// The maker's number of the product.
    pub device: u16,
    /// Class, subclass and interface in 24 bits: `0x030200` is a 3D controller.
    pub class: u32,
    /// Name of the driver that is bound to it.
    pub driver: Option<String>,
    /// NUMA node, where there is one.
    pub numa_node: Option<u32>,
    /// Virtual functions that it can split into.
    pub virtual_functions: Option<u32>,
    /// Virtual functions that it is split into now.
    pub virtual_functions_on: Option<u32>,
    /// Name of the product, where the driver tells it.
    pub model: Option<String>,
    /// Memory on the device, where the driver tells it.
    pub memory: Option<Bytes>,
}

const PCI: &str = "/sys/bus/pci/devices";
const NVIDIA: u16 = 0x10de;
const AMD: u16 = 0x1002;
const INTEL: u16 = 0x8086;
const XILINX: u16 = 0x10ee;
/// Intel's FPGAs after the division was sold carry the old number of Altera too.
const ALTERA: u16 = 0x1172;

/// Lists the devices of the PCI bus.
pub fn pci_devices(host: &Host) -> Vec<PciDevice> {
    let addresses = host.list(PCI).into_iter();
    addresses
        .filter_map(|address| {
            let at = |file: &str| format!("{PCI}/{address}/{file}");
            let number = |file: &str| hex(&host.text(at(file))?);
            let nvidia = format!("/proc/driver/nvidia/gpus/{address}/information");
            Some(PciDevice {
                vendor: u16::try_from(number("vendor")?).ok()?,
                device: u16::try_from(number("device")?).ok()?,
                class: number("class")?,
                driver: host.link_name(at("driver")),
                // A single node is told as -1.
                numa_node: host.value(at("numa_node")),
                virtual_functions: host.value(at("sriov_totalvfs")),
                virtual_functions_on: host.value(at("sriov_numvfs")),
                model: host
                    .text(&nvidia)
                    .and_then(|text| nvidia_model(&text))
                    .or_else(|| {
                        host.text(at("product_name"))
                            .filter(|name| !name.is_empty())
                    }),
                memory: host.value(at("mem_info_vram_total")).map(Bytes),
                address,
            })
        })
        .collect()
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

fn nvidia_model(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
    Some(line.trim().to_owned())
}

impl PciDevice {
    /// Tells whether it is a graphics or compute device of a maker whose
    /// devices compute; adapters that only draw a console are none.
    pub fn is_gpu(&self) -> bool {
        match self.class >> 16 {
            0x03 => matches!(self.vendor, NVIDIA | AMD | INTEL),
            // "Processing accelerators": AMD Instinct and NVIDIA use it too.
            0x12 => matches!(self.vendor, NVIDIA | AMD),
            _ => false,
        }
    }

    /// Tells whether it is a board with programmable logic.
    pub fn is_fpga(&self) -> bool {
        self.class >> 8 == 0x1200 && matches!(self.vendor, XILINX | INTEL | ALTERA)
    }

    fn maker(&self) -> &'static str {
        match self.vendor {
            NVIDIA => "NVIDIA",
            AMD => "AMD",
            INTEL => "Intel",
            XILINX => "Xilinx",
            ALTERA => "Altera",
            _ => "unknown",
        }
    }
}

impl fmt::Display for PciDevice {
    /// Writes maker, product, memory, address and driver.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.maker())?;
        match &self.model {
            Some(model) => f.write_str(model)?,
            None => write!(f, "{:04x}:{:04x}", self.vendor, self.device)?,
        }
        if let Some(memory) = self.memory {
            write!(f, " with {memory}")?;
        }
        let driver = self.driver.as_deref().unwrap_or("no driver");
        write!(f, " at {} ({driver})", self.address)
    }
}

fn describe(devices: &[&PciDevice]) -> String {
    let words: Vec<String> = devices.iter().map(ToString::to_string).collect();
    words.join(", ")
}

pub(super) fn check_gpu(host: &Host, dist: &Distribution) -> Check {
    let devices = pci_devices(host);
    let gpus: Vec<&PciDevice> = devices.iter().filter(|d| d.is_gpu()).collect();
    if gpus.is_empty() {
        return seen("gpu", Verdict::Missing, format!("none in {PCI}"));
    }
    let evidence = describe(&gpus);
    let idle = |vendor: u16, drivers: &[&str]| {
        gpus.iter().any(|d| {
            d.vendor == vendor
                && !d
                    .driver
                    .as_deref()
                    .is_some_and(|name| drivers.contains(&name))
        })
    };
    // A device held by vfio-pci is kept for a virtual machine.
    let (consequence, fix) = if idle(NVIDIA, &["nvidia", "vfio-pci"]) {
        (
            "without NVIDIA's driver CUDA programs find no device",
            dist.install_nvidia_driver().to_owned(),
        )
    } else if gpus.iter().any(|d| d.driver.as_deref() == Some("nvidia"))
        && !host.exists("/dev/nvidiactl")
    {
        (
            "the driver is there and its device files are not",
            "nvidia-modprobe -u -c 0".to_owned(),
        )
    } else if idle(AMD, &["amdgpu", "vfio-pci"]) {
        (
            "without amdgpu ROCm programs find no device",
            "modprobe amdgpu".to_owned(),
        )
    } else if gpus.iter().any(|d| d.driver.as_deref() == Some("amdgpu")) && !host.exists("/dev/kfd")
    {
        (
            "graphics only: ROCm programs need /dev/kfd",
            "boot a kernel with CONFIG_HSA_AMD".to_owned(),
        )
    } else {
        return seen("gpu", Verdict::Ok, evidence);
    };
    Check {
        consequence: consequence.into(),
        fix,
        ..seen("gpu", Verdict::Limited, evidence)
    }
}

pub(super) fn check_fpga(host: &Host) -> Check {
    let devices = pci_devices(host);
    let boards: Vec<&PciDevice> = devices.iter().filter(|d| d.is_fpga()).collect();
    let managed = host.list("/sys/class/fpga_manager");
    if boards.is_empty() && managed.is_empty() {
        return seen(
            "fpga",
            Verdict::Missing,
            format!("none in {PCI} and /sys/class/fpga_manager"),
        );
    }
    let mut evidence = describe(&boards);
    if !managed.is_empty() {
        let separator = if evidence.is_empty() { "" } else { ", " };
        evidence += &format!(
            "{separator}{} (/sys/class/fpga_manager)",
            managed.join(", ")
        );
    }
    if boards.iter().any(|d| d.driver.is_none()) {
        return Check {
            consequence: "a board without a driver cannot be given to a job".into(),
            fix: "install the maker's driver: XRT for Xilinx, OPAE (dfl-pci) for Intel".into(),
            ..seen("fpga", Verdict::Limited, evidence)
        };
    }
    seen("fpga", Verdict::Ok, evidence)
}

pub(super) fn check_sr_iov(host: &Host) -> Check {
    let words: Vec<String> = pci_devices(host)
        .iter()
        .filter_map(|d| {
            let most = d.virtual_functions.filter(|n| *n > 0)?;
            let on = d.virtual_functions_on.unwrap_or(0);
            Some(format!("{}: {on} of {most} virtual functions", d.address))
        })
        .collect();
    if words.is_empty() {
        return seen(
            "sr-iov",
            Verdict::Missing,
            format!("no sriov_totalvfs above 0 in {PCI}"),
        );
    }
    let evidence = format!("{} ({PCI}/*/sriov_numvfs)", words.join(", "));
    if host.list("/sys/kernel/iommu_groups").is_empty() {
        return Check {
            consequence: "devices can be split and not be given to virtual machines: no IOMMU"
                .into(),
            fix: "boot with intel_iommu=on or amd_iommu=on, and switch on VT-d or AMD-Vi in the \
                  firmware"
                .into(),
            ..seen("sr-iov", Verdict::Limited, evidence)
        };
    }
    seen("sr-iov", Verdict::Ok, evidence)
}

pub(super) fn check_energy(host: &Host) -> Check {
    const POWERCAP: &str = "/sys/class/powercap";
    const NO_ENERGY: &str = "reports have no energy";
    let zones: Vec<String> = host
        .list(POWERCAP)
        .into_iter()
        .filter(|zone| host.exists(format!("{POWERCAP}/{zone}/energy_uj")))
        .collect();
    if zones.is_empty() {
        return Check {
            consequence: NO_ENERGY.into(),
            ..seen(
                "energy",
                Verdict::Missing,
                format!("no zone with energy_uj in {POWERCAP}"),
            )
        };
    }
    let evidence = format!("{} ({POWERCAP})", zones.join(", "));
    let readable = |zone: &String| host.text(format!("{POWERCAP}/{zone}/energy_uj")).is_some();
    if !zones.iter().any(readable) {
        return Check {
            consequence: format!("{NO_ENERGY}: the meter is readable by root alone"),
            fix: format!("chmod a+r {POWERCAP}/*/energy_uj (opens a side channel: Platypus)"),
            ..seen("energy", Verdict::Limited, evidence)
        };
    }
    seen("energy", Verdict::Ok, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device(vendor: u16, class: u32) -> PciDevice {
        PciDevice {
            address: String::new(),
            vendor,
            device: 0,
            class,
            driver: None,
            numa_node: None,
            virtual_functions: None,
            virtual_functions_on: None,
            model: None,
            memory: None,
        }
    }

    #[test]
    fn devices_are_told_apart_by_maker_and_class() {
        assert!(device(NVIDIA, 0x030200).is_gpu());
        assert!(device(AMD, 0x120000).is_gpu());
        assert!(device(AMD, 0x038000).is_gpu());
        assert!(!device(0x1a03, 0x030000).is_gpu(), "a console adapter");
        assert!(!device(NVIDIA, 0x040300).is_gpu(), "the sound of a GPU");
        assert!(device(XILINX, 0x120000).is_fpga());
        assert!(device(INTEL, 0x120000).is_fpga());
        assert!(!device(INTEL, 0x030000).is_fpga());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(0x|\\PC|[0-9a-f]|Model:|\n){0,60}") {
            let _ = hex(&text);
            let _ = nvidia_model(&text);
        }
    }
}
