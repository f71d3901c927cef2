//! What the host has, in one document for other programs.

use hyperion_model::Bytes;
use serde::Serialize;

use super::{
    Cgroups, Cpu, Distribution, FabricPort, Host, Interface, Memory, PciDevice, Topology, XenRole,
};

/// The parts of a host. Field names are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// The host's name; empty when not told.
    pub hostname: String,
    /// The distribution.
    pub distribution: Distribution,
    /// The kernel's release in full; empty when not told.
    pub kernel: String,
    /// The processor.
    pub cpu: Cpu,
    /// Sockets, cores, caches, NUMA nodes.
    pub topology: Topology,
    /// Memory, swap and huge pages.
    pub memory: Memory,
    /// Disks.
    pub storage: Vec<BlockDevice>,
    /// Network interfaces, less the loopback.
    pub network: Vec<Interface>,
    /// Ports of InfiniBand and its kin.
    pub fabric: Vec<FabricPort>,
    /// Graphics and compute devices.
    pub gpus: Vec<PciDevice>,
    /// Boards with programmable logic.
    pub fpgas: Vec<PciDevice>,
    /// Control groups of this process.
    pub cgroups: Cgroups,
    /// What this kernel is to Xen.
    pub xen: XenRole,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockDevice {
    /// Such as `nvme0n1`.
    pub name: String,
    /// What it holds.
    pub size: Bytes,
    /// Whether it turns.
    pub rotational: bool,
    /// The maker's name of it, where told.
    pub model: Option<String>,
}

const BLOCK: &str = "/sys/block";

fn disks(host: &Host) -> Vec<BlockDevice> {
    let names = host.list(BLOCK).into_iter();
    names
        .filter(|name| !["loop", "ram", "zram"].iter().any(|p| name.starts_with(p)))
        .filter_map(|name| {
            let at = |file: &str| format!("{BLOCK}/{name}/{file}");
            let sectors: u64 = host.value(at("size"))?;
            Some(BlockDevice {
                // The kernel counts in 512 bytes whatever the device's sector is.
                size: Bytes(sectors.checked_mul(512).filter(|bytes| *bytes > 0)?),
                rotational: host.text(at("queue/rotational")).as_deref() == Some("1"),
                model: host.text(at("device/model")).filter(|m| !m.is_empty()),
                name,
            })
        })
        .collect()
}

/// Reads what the host has.
pub fn inventory(host: &Host) -> Inventory {
    let devices = super::pci_devices(host);
    let text = |path: &str| host.text(path).unwrap_or_default();
    Inventory {
        hostname: text("/proc/sys/kernel/hostname"),
        distribution: super::distribution(host),
        kernel: text("/proc/sys/kernel/osrelease"),
        cpu: super::cpu(host),
        topology: super::topology(host),
        memory: super::memory(host),
        storage: disks(host),
        network: super::interfaces(host),
        fabric: super::fabric_ports(host),
        gpus: devices.iter().filter(|d| d.is_gpu()).cloned().collect(),
        fpgas: devices.iter().filter(|d| d.is_fpga()).cloned().collect(),
        cgroups: super::cgroups(host),
        xen: super::xen_role(host),
    }
}
