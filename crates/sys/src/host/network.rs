//! Network interfaces and fabrics for messages.

use hyperion_model::{Check, Verdict};
use serde::Serialize;

use super::memory::limit;
use super::packages::RDMA;
use super::{Distribution, Host, seen};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Such as `eth0`.
    pub name: String,
    /// `up`, `down`, `unknown` and the other words of RFC 2863.
    pub state: String,
    /// Speed in Mbit/s, where the driver tells it.
    pub speed_mbps: Option<u32>,
    /// Whether a device is behind it; bridges and tunnels have none.
    pub physical: bool,
    /// Driver of the device.
    pub driver: Option<String>,
    /// NUMA node of the device, where there is one.
    pub numa_node: Option<u32>,
}

const NET: &str = "/sys/class/net";

/// Lists the network interfaces, less the loopback.
pub fn interfaces(host: &Host) -> Vec<Interface> {
    let names = host.list(NET).into_iter();
    names
        // `bonding_masters` is a file among the folders.
        .filter(|name| name != "lo" && host.exists(format!("{NET}/{name}/operstate")))
        .map(|name| {
            let at = |file: &str| format!("{NET}/{name}/{file}");
            Interface {
                state: host.text(at("operstate")).unwrap_or_default(),
                // A driver without a figure says -1.
                speed_mbps: host.value(at("speed")).filter(|s| *s > 0 && *s < u32::MAX),
                physical: host.exists(at("device")),
                driver: host.link_name(at("device/driver")),
                numa_node: host.value(at("device/numa_node")),
                name,
            }
        })
        .collect()
}

pub(super) fn check_network(host: &Host) -> Check {
    if !host.exists(NET) {
        return seen("network", Verdict::Unknown, format!("{NET} is not there"));
    }
    let all = interfaces(host);
    let describe = |i: &Interface| match i.speed_mbps {
        Some(speed) if speed >= 1000 && speed.is_multiple_of(1000) => {
            format!("{} {} {} Gbit/s", i.name, i.state, speed / 1000)
        }
        Some(speed) => format!("{} {} {speed} Mbit/s", i.name, i.state),
        None => format!("{} {}", i.name, i.state),
    };
    let words: Vec<String> = all.iter().filter(|i| i.physical).map(describe).collect();
    let virtual_ones = all.len() - words.len();
    let mut evidence = if words.is_empty() {
        format!("no device in {NET}")
    } else {
        format!("{} ({NET})", words.join(", "))
    };
    if virtual_ones > 0 {
        evidence += &format!(", and {virtual_ones} without a device");
    }
    if all.iter().any(|i| i.state == "up") {
        return seen("network", Verdict::Ok, evidence);
    }
    Check {
        consequence: "jobs on this host alone: no image from a registry, no second node".into(),
        fix: "ip link set DEVICE up".into(),
        ..seen("network", Verdict::Limited, evidence)
    }
}

/// A port of an InfiniBand, RoCE, Omni-Path or EFA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FabricPort {
    /// Such as `mlx5_0`.
    pub device: String,
    /// Counted from 1.
    pub port: u32,
    /// Such as `4: ACTIVE`.
    pub state: String,
    /// Such as `200 Gb/sec (4X HDR)`.
    pub rate: String,
    /// `InfiniBand` or `Ethernet`.
    pub link_layer: String,
}

const FABRIC: &str = "/sys/class/infiniband";

/// Lists the ports of all fabric devices.
pub fn fabric_ports(host: &Host) -> Vec<FabricPort> {
    let mut ports = Vec::new();
    for device in host.list(FABRIC) {
        let folder = format!("{FABRIC}/{device}/ports");
        for name in host.list(&folder) {
            let read = |file: &str| {
                host.text(format!("{folder}/{name}/{file}"))
                    .unwrap_or_default()
            };
            let Ok(port) = name.parse() else { continue };
            ports.push(FabricPort {
                port,
                state: read("state"),
                rate: read("rate"),
                link_layer: read("link_layer"),
                device: device.clone(),
            });
        }
    }
    ports
}

pub(super) fn check_infiniband(host: &Host, dist: &Distribution) -> Check {
    let ports = fabric_ports(host);
    if ports.is_empty() {
        let card = super::pci_devices(host).into_iter().find(|d| {
            // Mellanox, or class "InfiniBand controller".
            d.class >> 8 == 0x0207 || (d.vendor == 0x15b3 && d.class >> 16 == 0x02)
        });
        return match card {
            Some(card) => Check {
                consequence: "messages between nodes go over TCP".into(),
                fix: format!("{}; modprobe mlx5_ib", dist.install(RDMA)),
                ..seen(
                    "infiniband",
                    Verdict::Limited,
                    format!("card at {}, nothing in {FABRIC}", card.address),
                )
            },
            None => seen(
                "infiniband",
                Verdict::Missing,
                format!("nothing in {FABRIC}"),
            ),
        };
    }
    let words: Vec<String> = ports
        .iter()
        .map(|p| {
            let state = p.state.rsplit(' ').next().unwrap_or_default();
            format!(
                "{}/{} {state} {} {}",
                p.device, p.port, p.rate, p.link_layer
            )
        })
        .collect();
    let evidence = format!("{} ({FABRIC})", words.join(", "));
    if ports.iter().any(|p| p.state.ends_with("ACTIVE")) {
        return seen("infiniband", Verdict::Ok, evidence);
    }
    Check {
        consequence: "messages between nodes go over TCP".into(),
        fix: "check the cable and the subnet manager (opensm)".into(),
        ..seen("infiniband", Verdict::Limited, evidence)
    }
}

pub(super) fn check_rdma(host: &Host, dist: &Distribution) -> Check {
    if host.list(FABRIC).is_empty() {
        return seen("rdma", Verdict::Missing, format!("nothing in {FABRIC}"));
    }
    let devices = host.list("/dev/infiniband");
    let verbs = devices.iter().find(|name| name.starts_with("uverbs"));
    let Some(verbs) = verbs else {
        return Check {
            consequence: "programs cannot reach the fabric".into(),
            fix: format!("modprobe ib_uverbs; {}", dist.install(RDMA)),
            ..seen("rdma", Verdict::Limited, "no uverbs in /dev/infiniband")
        };
    };
    let path = format!("/dev/infiniband/{verbs}");
    let limits = host.text("/proc/self/limits").unwrap_or_default();
    let locked = limit(&limits, "Max locked memory").and_then(|(_, hard)| hard);
    let words = locked.map_or("unlimited".to_owned(), |n| {
        hyperion_model::Bytes(n).to_string()
    });
    let evidence = format!("{path}; locked memory {words} (/proc/self/limits)");
    if !host.may_use(&path) {
        return Check {
            consequence: "this user cannot reach the fabric".into(),
            fix: format!("chmod 0666 {path} (rdma-core's udev rules do so)"),
            ..seen("rdma", Verdict::Limited, evidence)
        };
    }
    // Registered memory is locked; libraries register tens of MiB per rank.
    if locked.is_some_and(|n| n < 1 << 30) {
        return Check {
            consequence: "registering memory fails in larger jobs".into(),
            fix: "set `* - memlock unlimited` in /etc/security/limits.d/hyperion.conf".into(),
            ..seen("rdma", Verdict::Limited, evidence)
        };
    }
    seen("rdma", Verdict::Ok, evidence)
}
