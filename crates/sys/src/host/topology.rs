//! Sockets, cores, hardware threads, caches and NUMA nodes, from `/sys`.

use std::collections::{BTreeMap, BTreeSet};

use hyperion_model::{Bytes, Check, CpuSet, Verdict};
use serde::Serialize;

use super::{Host, seen};

/// Where processors and memory lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Processors that are switched on. Linux calls each hardware thread one.
    pub online: CpuSet,
    /// Processors that this process may use.
    pub allowed: CpuSet,
    /// Processors of each socket.
    pub sockets: Vec<CpuSet>,
    /// Processors of each core: one, or two and more with hardware threads.
    pub cores: Vec<CpuSet>,
    /// NUMA nodes; one that holds everything where the kernel knows of none.
    pub nodes: Vec<NumaNode>,
    /// Caches, each once, however many processors share it.
    pub caches: Vec<Cache>,
}

impl Topology {
    /// Gives the most hardware threads that one core has.
    pub fn threads_per_core(&self) -> usize {
        self.cores.iter().map(CpuSet::len).max().unwrap_or(1)
    }

    /// Gives the NUMA node of a processor.
    pub fn node_of(&self, cpu: u32) -> Option<u32> {
        let node = self.nodes.iter().find(|n| n.cpus.0.contains(&cpu))?;
        Some(node.id)
    }
}

/// Processors and memory that are close to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NumaNode {
    /// The kernel's number.
    pub id: u32,
    /// Its processors; empty for memory alone.
    pub cpus: CpuSet,
    /// Its memory, as far as told.
    pub memory: Bytes,
    /// Distances to all nodes in their order, 10 for the node itself.
    pub distances: Vec<u32>,
}

/// One cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// 1, 2 or 3.
    pub level: u32,
    /// `data`, `instruction` or `unified`.
    pub kind: String,
    /// What it holds.
    pub size: Bytes,
    /// Processors that share it.
    pub shared_by: CpuSet,
}

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

fn cpu_set(host: &Host, path: &str) -> Option<CpuSet> {
    host.value::<CpuSet>(path).filter(|set| !set.is_empty())
}

/// Reads the topology. Where `/sys` is silent each processor is a core of one
/// socket and one NUMA node.
pub fn topology(host: &Host) -> Topology {
    let online = cpu_set(host, &format!("{CPUS}/online"))
        .unwrap_or_else(|| count_processors(&host.text("/proc/cpuinfo").unwrap_or_default()));
    let mut cores = BTreeSet::new();
    let mut sockets = BTreeSet::new();
    let mut caches = BTreeMap::new();
    for &cpu in &online.0 {
        let of = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| cpu_set(host, &format!("{CPUS}/cpu{cpu}/topology/{name}")))
        };
        // The second name of each pair is that of kernels before 5.4.
        let core = of(["core_cpus_list", "thread_siblings_list"]);
        let socket = of(["package_cpus_list", "core_siblings_list"]);
        cores.insert(core.map_or_else(|| BTreeSet::from([cpu]), |set| set.0));
        sockets.insert(socket.map_or_else(|| online.0.clone(), |set| set.0));
        caches.extend(caches_of(host, cpu));
    }
    let allowed = host
        .text("/proc/self/status")
        .and_then(|text| allowed_cpus(&text))
        .unwrap_or_else(|| online.clone());
    Topology {
        nodes: numa_nodes(host, &online),
        allowed,
        sockets: sockets.into_iter().map(CpuSet).collect(),
        cores: cores.into_iter().map(CpuSet).collect(),
        caches: caches
            .into_iter()
            .map(|((level, kind, cpus), size)| Cache {
                level,
                kind,
                size,
                shared_by: CpuSet(cpus),
            })
            .collect(),
        online,
    }
}

fn count_processors(cpuinfo: &str) -> CpuSet {
    let numbers = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "processor")
        .filter_map(|(_, value)| value.trim().parse().ok());
    let mut set: BTreeSet<u32> = numbers.collect();
    if set.is_empty() {
        set.insert(0);
    }
    CpuSet(set)
}

fn allowed_cpus(status: &str) -> Option<CpuSet> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.parse().ok().filter(|set: &CpuSet| !set.is_empty())
}

/// Level, kind and the processors that share it: what tells caches apart.
type CacheKey = (u32, String, BTreeSet<u32>);

fn caches_of(host: &Host, cpu: u32) -> Vec<(CacheKey, Bytes)> {
    let folder = format!("{CPUS}/cpu{cpu}/cache");
    let indices = host.list(&folder).into_iter();
    indices
        .filter(|name| name.starts_with("index"))
        .filter_map(|name| {
            let read = |file: &str| host.text(format!("{folder}/{name}/{file}"));
            let shared: CpuSet = read("shared_cpu_list")?.parse().ok()?;
            let level = read("level")?.parse().ok()?;
            let kind = read("type")?.to_lowercase();
            Some(((level, kind, shared.0), read("size")?.parse().ok()?))
        })
        .collect()
}

fn numa_nodes(host: &Host, online: &CpuSet) -> Vec<NumaNode> {
    let ids = cpu_set(host, &format!("{NODES}/online")).unwrap_or_default();
    let nodes: Vec<NumaNode> = ids
        .0
        .into_iter()
        .map(|id| {
            let read = |file: &str| host.text(format!("{NODES}/node{id}/{file}"));
            let distances = read("distance").unwrap_or_default();
            NumaNode {
                id,
                cpus: read("cpulist")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or_default(),
                memory: read("meminfo")
                    .and_then(|text| node_memory(&text))
                    .unwrap_or_default(),
                distances: distances
                    .split_whitespace()
                    .filter_map(|d| d.parse().ok())
                    .collect(),
            }
        })
        .collect();
    if nodes.iter().all(|n| n.cpus.is_empty()) {
        return vec![NumaNode {
            id: 0,
            cpus: online.clone(),
            memory: super::memory_total(host).unwrap_or_default(),
            distances: vec![10],
        }];
    }
    nodes
}

/// Reads `Node 0 MemTotal: 1024 kB`.
fn node_memory(text: &str) -> Option<Bytes> {
    let line = text.lines().find(|line| line.contains("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

pub(super) fn check_topology(host: &Host) -> Check {
    let t = topology(host);
    let evidence = format!(
        "{} processors ({}): {} socket(s), {} core(s), {} thread(s) per core ({CPUS})",
        t.online.len(),
        t.online,
        t.sockets.len(),
        t.cores.len(),
        t.threads_per_core(),
    );
    if !host.exists(format!("{CPUS}/online")) {
        return Check {
            consequence: "ranks are bound as if each processor were a core".into(),
            ..seen(
                "topology",
                Verdict::Unknown,
                format!("{CPUS}/online cannot be read"),
            )
        };
    }
    let usable = t.online.0.intersection(&t.allowed.0).count();
    if usable < t.online.len() {
        return Check {
            consequence: format!(
                "this process may use {usable} of them ({}); jobs get no more",
                t.allowed
            ),
            ..seen("topology", Verdict::Limited, evidence)
        };
    }
    seen("topology", Verdict::Ok, evidence)
}

pub(super) fn check_numa(host: &Host) -> Check {
    if !host.exists(format!("{NODES}/online")) {
        return Check {
            consequence: "the host counts as one NUMA node".into(),
            ..seen("numa", Verdict::Unknown, format!("{NODES} is not there"))
        };
    }
    let nodes = topology(host).nodes;
    let words: Vec<String> = nodes
        .iter()
        .map(|n| match n.cpus.is_empty() {
            true => format!("node {}: no processors, {}", n.id, n.memory),
            false => format!("node {}: processors {}, {}", n.id, n.cpus, n.memory),
        })
        .collect();
    let evidence = format!("{} ({NODES})", words.join("; "));
    Check {
        consequence: match nodes.len() {
            1 => String::new(),
            _ => "bind ranks by NUMA node: memory of another node is slower".into(),
        },
        ..seen("numa", Verdict::Ok, evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn processors_are_counted_without_sys() {
        let set = count_processors("processor\t: 0\nmodel : x\n\nprocessor\t: 1\n");
        assert_eq!(set.to_string(), "0-1");
        assert_eq!(count_processors("").to_string(), "0");
    }

    #[test]
    fn the_memory_of_a_node_is_in_kibibytes() {
        let text = "Node 0 MemTotal:       24684092 kB\nNode 0 MemFree: 1 kB";
        assert_eq!(node_memory(text), Some(Bytes(24_684_092 * 1024)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(\\PC|[:\n\t,-]|[0-9]|MemTotal:){0,200}") {
            let _ = count_processors(&text);
            let _ = allowed_cpus(&text);
            let _ = node_memory(&text);
        }
    }
}
