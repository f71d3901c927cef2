//! What this host has for jobs: processors, memory, devices, and what it is asked for by
//! name.

use std::collections::{BTreeMap, BTreeSet};

use hyperion_lifecycle::Site;
use hyperion_model::CpuSet;
use hyperion_sched::{Amounts, Node, Numa};
use hyperion_sys::host::{self, Host};
use serde::Deserialize;

use super::site::SiteRules;
use crate::commands::run::HostSize;

/// What a file says of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NodeText {
    /// Names by which it is asked for.
    features: BTreeSet<String>,
    /// Its devices, by what they are: `gpu`, `"gpu:h100"`. Those of the host where nothing
    /// is said.
    gres: Option<BTreeMap<String, Gres>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Gres {
    /// So many, numbered from 0 on.
    Count(u32),
    /// Those with these numbers.
    Numbers(BTreeSet<u32>),
}

/// Whether jobs are tied to processors of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bind {
    /// The kernel says who runs where.
    #[default]
    None,
    /// They are: whole cores first, near to each other.
    Core,
}

/// A device: what it is, its number, and the NUMA node on which it hangs.
struct Device {
    kind: String,
    number: u32,
    numa: Option<u32>,
}

/// Gives what this host has for jobs.
pub(super) fn site(said: &SiteRules) -> Site {
    let size = HostSize::read();
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let text = said.nodes.get(&name).cloned().unwrap_or_default();
    let host = Host::at("/");
    let devices = match &text.gres {
        Some(gres) => declared(gres),
        None => found(&host),
    };
    let kinds = kinds(&devices);
    let at = |name: &str| kinds.iter().position(|kind| kind == name).map(|at| at + 2);
    let mut amounts = vec![size.allowed().len() as u64 * 1000, size.memory().0];
    amounts.resize(2 + kinds.len(), 0);
    for device in &devices {
        let names = BTreeSet::from([family(&device.kind), device.kind.as_str()]);
        names
            .into_iter()
            .filter_map(at)
            .for_each(|at| amounts[at] += 1);
    }
    let topology = host::topology(&host);
    let mut slots: Vec<Numa> = topology
        .nodes
        .iter()
        .map(|node| Numa {
            cores: match said.bind {
                Bind::Core => both(&node.cpus, size.allowed()),
                Bind::None => BTreeSet::new(),
            },
            ..Numa::default()
        })
        .collect();
    for numa in &mut slots {
        let groups = topology
            .cores
            .iter()
            .map(|core| both(core, &CpuSet(numa.cores.clone())));
        numa.siblings = groups.filter(|group| group.len() > 1).collect();
    }
    for device in devices {
        let mut nodes = topology.nodes.iter();
        let near = nodes
            .position(|node| Some(node.id) == device.numa)
            .unwrap_or(0);
        if let (Some(numa), Some(kind)) = (slots.get_mut(near), at(&device.kind)) {
            numa.devices.entry(kind).or_default().insert(device.number);
        }
    }
    let used = |numa: &Numa| !numa.cores.is_empty() || !numa.devices.is_empty();
    let slots = slots.iter().any(used).then_some(slots);
    let mut features = text.features;
    features.extend(facts(&name, &size));
    Site {
        nodes: vec![Node {
            name,
            capacity: Amounts::new(amounts),
        }],
        kinds,
        slots: slots.into_iter().collect(),
        features: vec![features],
        usual_limit: said.usual_limit,
    }
}

fn both(a: &CpuSet, b: &CpuSet) -> BTreeSet<u32> {
    a.0.intersection(&b.0).copied().collect()
}

fn family(kind: &str) -> &str {
    kind.split(':').next().unwrap_or(kind)
}

/// Names what is counted: `gpu`, then `gpu:h100`.
fn kinds(devices: &[Device]) -> Vec<String> {
    let of = devices.iter();
    let names: BTreeSet<&str> = of.flat_map(|d| [family(&d.kind), &d.kind]).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Gives the devices that a file tells of; of a family each has a number of its own.
fn declared(gres: &BTreeMap<String, Gres>) -> Vec<Device> {
    let mut taken: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for (kind, numbers) in gres {
        if let Gres::Numbers(numbers) = numbers {
            taken.entry(family(kind)).or_default().extend(numbers);
        }
    }
    let mut devices = Vec::new();
    for (kind, said) in gres {
        let taken = taken.entry(family(kind)).or_default();
        let numbers: BTreeSet<u32> = match said {
            Gres::Numbers(numbers) => numbers.clone(),
            Gres::Count(count) => {
                let free = (0..).filter(|number| !taken.contains(number));
                free.take(*count as usize).collect()
            }
        };
        taken.extend(&numbers);
        devices.extend(numbers.into_iter().map(|number| Device {
            kind: kind.clone(),
            number,
            numa: None,
        }));
    }
    devices
}

/// Gives the devices that drivers of this host have, in the order of their addresses, by
/// which programs number them, too.
fn found(host: &Host) -> Vec<Device> {
    let mut devices = Vec::new();
    let mut next: BTreeMap<&str, u32> = BTreeMap::new();
    for device in host::pci_devices(host) {
        let family = match (device.is_gpu(), device.is_fpga()) {
            (true, _) => "gpu",
            (_, true) => "fpga",
            _ => continue,
        };
        // One that only draws a console has no memory that a driver tells of.
        let computes = device.model.is_some() || device.memory.is_some() || family == "fpga";
        if device.driver.is_none() || !computes {
            continue;
        }
        let number = next.entry(family).or_default();
        devices.push(Device {
            kind: match device.model.as_deref().map(short) {
                Some(model) if !model.is_empty() => format!("{family}:{model}"),
                _ => family.to_owned(),
            },
            number: *number,
            numa: device.numa_node,
        });
        *number += 1;
    }
    devices
}

/// Gives the word by which a model is asked for: `h100` of `NVIDIA H100 80GB HBM3`.
fn short(model: &str) -> String {
    let words: Vec<&str> = model
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let is_one = |word: &&&str| {
        let letters = word.chars().take_while(char::is_ascii_alphabetic).count();
        let digits = word[letters..]
            .chars()
            .take_while(char::is_ascii_digit)
            .count();
        (1..=2).contains(&letters) && digits >= 2
    };
    let one = words.iter().find(is_one).map(|word| (*word).to_owned());
    one.unwrap_or_else(|| words.join("_")).to_lowercase()
}

/// Gives what is known of the host anyway.
fn facts(name: &str, size: &HostSize) -> BTreeSet<String> {
    let mut facts = BTreeSet::from([
        "linux".to_owned(),
        "os=linux".to_owned(),
        format!("host={name}"),
        format!("hname={name}"),
        format!("ncpus={}", size.allowed().len()),
        format!("maxmem={}", size.memory().0 >> 20),
    ]);
    // As each batch system calls it.
    let arch = std::env::consts::ARCH;
    facts.insert(arch.to_owned());
    let also: &[&str] = match arch {
        "x86_64" => &["linux", "lx-amd64", "linux-x64", "x86_64"],
        "aarch64" => &["linux", "lx-arm64", "linux-arm64", "aarch64"],
        _ => &["linux"],
    };
    facts.extend(also.iter().map(|arch| format!("arch={arch}")));
    facts.insert(format!("type={arch}"));
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    match field("vendor_id").as_deref() {
        Some("GenuineIntel") => drop(facts.insert("intel".into())),
        Some("AuthenticAMD") => drop(facts.insert("amd".into())),
        _ => {}
    }
    let flags = field("flags").unwrap_or_default();
    for flag in flags.split(' ') {
        match flag {
            "avx" | "avx2" | "fma" | "sse4_2" | "sve" => drop(facts.insert(flag.into())),
            "avx512f" => facts.extend(["avx512".into(), "avx512f".into()]),
            _ => {}
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_asked_for_by_the_word_that_people_use() {
        for (model, right) in [
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA A100-SXM4-40GB", "a100"),
            ("Tesla V100-SXM2-32GB", "v100"),
            ("AMD INSTINCT MI250X", "mi250x"),
            ("NVIDIA GeForce RTX 3090", "nvidia_geforce_rtx_3090"),
        ] {
            assert_eq!(short(model), right);
        }
    }

    #[test]
    fn devices_of_a_family_have_numbers_of_their_own() {
        let gres: BTreeMap<String, Gres> =
            toml::from_str("\"gpu:a100\" = 2\n\"gpu:h100\" = [0, 3]\nfpga = 1\n").expect("read");
        let devices = declared(&gres);
        let all: Vec<(&str, u32)> = devices
            .iter()
            .map(|d| (d.kind.as_str(), d.number))
            .collect();
        let right = [
            ("fpga", 0),
            ("gpu:a100", 1),
            ("gpu:a100", 2),
            ("gpu:h100", 0),
            ("gpu:h100", 3),
        ];
        assert_eq!(all, right);
        assert_eq!(kinds(&devices), ["fpga", "gpu", "gpu:a100", "gpu:h100"]);
    }
}
