//! Where the processors and the memory of a machine lie on its host, and which NUMA
//! nodes its guest sees.

use std::collections::BTreeSet;
use std::str::FromStr;

use clap::Args;
use hyperion_isolation::vm::{HostNode, Seats};
use hyperion_model::machine::{HugePages, NumaCell, Topology};
use hyperion_model::{Binding, Bytes, Class, CpuSet, MachineSpec, Name};
use hyperion_node::machines::Machines;
use hyperion_sys::host::Host;

use crate::commands::run::{HostSize, huge_pages};
use crate::context::Context;
use crate::errors;

// Words about where a machine lies; those of `hyperion run` where they mean the same.
#[derive(Debug, Args)]
pub(super) struct SeatArgs {
    /// Processors of the host on which its own run, such as 0-3,8
    #[arg(
        long,
        visible_alias = "cpuset-cpus",
        value_name = "LIST",
        help_heading = "Placement"
    )]
    cpuset: Option<CpuSet>,
    /// Processors of the host on which one of its own runs, counted from 0: 1=4 or 0=2-3; repeatable
    #[arg(long, value_name = "NUMBER=LIST", value_parser = pin, help_heading = "Placement")]
    pin: Vec<(u32, CpuSet)>,
    /// Tie each processor to one of the host's (core) or to those of a NUMA node (numa), to such that
    /// no other machine is tied to where there are enough; its guest sees which memory is near. none:
    /// all is left to the host, as it is at first
    #[arg(long, value_name = "HOW", conflicts_with_all = ["pin", "numa", "numatune"], help_heading = "Placement")]
    bind: Option<Binding>,
    /// NUMA nodes that the guest sees, with equal parts of processors and memory
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Placement")]
    numa: Option<u32>,
    /// NUMA node of the host that its memory comes from
    #[arg(long, value_name = "NODE", help_heading = "Placement")]
    numatune: Option<u32>,
    /// Make its memory of huge pages, which the host must have set aside when it starts; none: no more
    #[arg(
        long,
        value_name = "SIZE|none",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "usual",
        help_heading = "Placement"
    )]
    hugepages: Option<Pages>,
}

/// What is said of huge pages.
#[derive(Debug, Clone, Copy)]
struct Pages(Option<HugePages>);

impl FromStr for Pages {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        Ok(Self(match word {
            "none" => None,
            "usual" => Some(HugePages::Default),
            size => Some(HugePages::Of(
                size.parse::<Bytes>().map_err(|e| e.to_string())?,
            )),
        }))
    }
}

fn pin(word: &str) -> Result<(u32, CpuSet), String> {
    let ask = "write NUMBER=LIST, 0=2-3 for one";
    let (number, set) = word.split_once('=').ok_or(ask)?;
    let number = number.parse().map_err(|_| ask)?;
    let set = set.parse::<CpuSet>().map_err(|e| e.to_string())?;
    Ok((number, set))
}

impl SeatArgs {
    /// Tells whether anything is said.
    pub(super) fn any(&self) -> bool {
        self.cpuset.is_some()
            || !self.pin.is_empty()
            || self.bind.is_some()
            || self.numa.is_some()
            || self.numatune.is_some()
            || self.hugepages.is_some()
    }

    /// Carries over what is said to a machine whose size is known.
    pub(super) fn apply(&self, spec: &mut MachineSpec, ctx: &Context) -> anyhow::Result<()> {
        if !self.any() {
            return Ok(());
        }
        let host = HostSize::read();
        for set in self
            .cpuset
            .iter()
            .chain(self.pin.iter().map(|(_, set)| set))
        {
            let has = host.allowed();
            if !set.0.is_subset(&has.0) {
                return Err(errors::advised(
                    Class::User,
                    format!("processors {set} are asked for, and this host has {has}"),
                    "choose of those that it has",
                ));
            }
        }
        if let Some(Pages(pages)) = self.hugepages {
            spec.memory.hugepages = pages;
        }
        if let Some(how) = self.bind {
            bind(how, self.cpuset.as_ref(), &host, spec, ctx)?;
        } else if let Some(set) = &self.cpuset {
            spec.vcpus.affinity = Some(set.clone());
        }
        spec.vcpus.pinning.extend(self.pin.iter().cloned());
        if let Some(node) = self.numatune {
            let nodes = host.nodes(None);
            let mut with = nodes.iter().filter(|n| n.has_memory).map(|n| n.id);
            if !with.any(|id| id == node) {
                let ids: Vec<String> = nodes.iter().map(|n| n.id.to_string()).collect();
                return Err(errors::advised(
                    Class::User,
                    format!("no memory of this host is in a NUMA node {node}"),
                    format!("it has these nodes: {}", ids.join(", ")),
                ));
            }
            spec.memory.from = Some(node);
        }
        match self.numa {
            Some(nodes) => share_out(spec, nodes),
            None => Ok(()),
        }
    }
}

/// Ties a machine's processors to the host's, or unties them.
fn bind(
    how: Binding,
    within: Option<&CpuSet>,
    host: &HostSize,
    spec: &mut MachineSpec,
    ctx: &Context,
) -> anyhow::Result<()> {
    spec.vcpus.pinning.clear();
    spec.memory.from = None;
    spec.vcpus.affinity = within.cloned();
    spec.vcpus.numa.clear();
    spec.vcpus.topology = None;
    if how == Binding::None {
        return Ok(());
    }
    let all = host.nodes(within);
    let count = spec.vcpus.most();
    let free = without(&all, &taken(&spec.name, ctx)?);
    let enough = free.iter().map(|node| node.cpus.len()).sum::<usize>() >= count as usize;
    let memory = spec.memory.max.unwrap_or(spec.memory.size);
    let nodes = if enough { &free } else { &all };
    let seats = Seats::new(nodes, 0, count, memory, page(spec));
    if seats.cpus.is_empty() {
        return Err(errors::advised(
            Class::Unsupported,
            "this host does not tell how its processors lie",
            "tie them by their numbers: --pin 0=2",
        ));
    }
    let beside = |cpu: u32| {
        let mut nodes = all.iter();
        nodes.find(|node| node.cpus.0.contains(&cpu))
    };
    for (number, &cpu) in (0..).zip(&seats.cpus) {
        let set = match how {
            Binding::Numa => beside(cpu).map(|node| node.cpus.clone()),
            _ => None,
        };
        let set = set.unwrap_or_else(|| CpuSet([cpu].into()));
        spec.vcpus.pinning.insert(number, set);
    }
    // QEMU's own threads stay near.
    let near = spec.vcpus.pinning.values().flat_map(|set| &set.0);
    spec.vcpus.affinity = Some(CpuSet(near.copied().collect()));
    match &seats.cells[..] {
        [one] => spec.memory.from = one.from,
        cells => {
            let cell = |cell: &hyperion_isolation::vm::Cell| NumaCell {
                cpus: cell.cpus.clone(),
                memory: cell.memory,
                from: cell.from,
            };
            spec.vcpus.numa = cells.iter().map(cell).collect();
        }
    }
    shape(spec);
    Ok(())
}

/// Gives the processors that another machine is tied to, one to one.
fn taken(own: &Name, ctx: &Context) -> anyhow::Result<BTreeSet<u32>> {
    let others = Machines::new(&ctx.root).list()?.into_iter();
    let others = others.filter(|machine| machine.name != *own);
    let specs = others.filter_map(|machine| machine.spec().ok());
    let pins = specs.flat_map(|spec| spec.vcpus.pinning.into_values());
    Ok(pins
        .filter(|set| set.len() == 1)
        .flat_map(|set| set.0)
        .collect())
}

fn without(nodes: &[HostNode], taken: &BTreeSet<u32>) -> Vec<HostNode> {
    let left = |node: &HostNode| HostNode {
        cpus: CpuSet(node.cpus.0.difference(taken).copied().collect()),
        ..node.clone()
    };
    nodes.iter().map(left).collect()
}

/// Gives what memory is shared out in.
fn page(spec: &MachineSpec) -> Bytes {
    match spec.memory.hugepages {
        None => Bytes::mib(1),
        Some(HugePages::Default) => Bytes::mib(2),
        Some(HugePages::Of(size)) => size,
    }
}

/// Shares the processors and the memory of a machine out to so many NUMA nodes, each
/// of which has its memory from where it had it before.
pub(super) fn share_out(spec: &mut MachineSpec, nodes: u32) -> anyhow::Result<()> {
    let (processors, page) = (spec.vcpus.most(), page(spec).0.max(1));
    let memory = spec.memory.max.unwrap_or(spec.memory.size).0;
    let part = memory / page / u64::from(nodes) * page;
    if nodes > processors || part == 0 {
        return Err(errors::advised(
            Class::User,
            format!(
                "{processors} processors and {} are not enough for {nodes} NUMA nodes",
                Bytes(memory)
            ),
            "each needs one of the processors and a part of the memory",
        ));
    }
    let before = std::mem::take(&mut spec.vcpus.numa);
    let mut next = 0;
    for at in 0..nodes {
        let count = processors / nodes + u32::from(at < processors % nodes);
        let rest = memory - part * u64::from(nodes - 1);
        spec.vcpus.numa.push(NumaCell {
            cpus: CpuSet((next..next + count).collect()),
            memory: Bytes(if at + 1 == nodes { rest } else { part }),
            from: before.get(at as usize).and_then(|cell| cell.from),
        });
        next += count;
    }
    if nodes == 1 {
        spec.vcpus.numa.clear();
    }
    spec.vcpus.topology = None;
    shape(spec);
    Ok(())
}

/// Lets the guest see a package of processors for each NUMA node, where they are alike.
fn shape(spec: &mut MachineSpec) {
    let nodes = spec.vcpus.numa.len() as u32;
    let first = spec.vcpus.numa.first().map_or(0, |cell| cell.cpus.len());
    if nodes > 1 && spec.vcpus.numa.iter().all(|cell| cell.cpus.len() == first) {
        spec.vcpus.topology = Some(Topology {
            sockets: nodes,
            cores: first as u32,
            threads: 1,
        });
    }
}

/// Refuses a start for which the host has not set aside enough huge pages.
pub(super) fn check(spec: &MachineSpec) -> anyhow::Result<()> {
    let size = match spec.memory.hugepages {
        None => return Ok(()),
        Some(HugePages::Default) => Bytes(0),
        Some(HugePages::Of(size)) => size,
    };
    let host = hyperion_sys::host::memory(&Host::at("/"));
    huge_pages(&host.huge_pages, size, spec.memory.size, true, 1)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(vcpus: u32, mib: u64) -> MachineSpec {
        let name = "m".parse().expect("a name");
        MachineSpec::new(name, Bytes::mib(mib), vcpus)
    }

    fn cells(spec: &MachineSpec) -> Vec<(String, u64)> {
        let cell = |cell: &NumaCell| (cell.cpus.to_string(), cell.memory.0 >> 20);
        spec.vcpus.numa.iter().map(cell).collect()
    }

    #[test]
    fn nodes_of_a_guest_have_equal_parts_of_whole_pages() {
        let mut spec = machine(4, 1001);
        share_out(&mut spec, 2).expect("enough");
        assert_eq!(cells(&spec), [("0-1".into(), 500), ("2-3".into(), 501)]);
        assert_eq!(spec.validate(), Ok(()));
        let shape = spec.vcpus.topology.expect("alike");
        assert_eq!((shape.sockets, shape.cores), (2, 2));
        spec.vcpus.numa[1].from = Some(1);
        // Another size, and the same nodes.
        spec.memory.size = Bytes::mib(64);
        spec.memory.hugepages = Some(HugePages::Default);
        spec.vcpus.count = 5;
        share_out(&mut spec, 2).expect("enough");
        assert_eq!(cells(&spec), [("0-2".into(), 32), ("3-4".into(), 32)]);
        assert_eq!(spec.vcpus.numa[1].from, Some(1));
        assert_eq!((spec.validate(), spec.vcpus.topology), (Ok(()), None));
        share_out(&mut spec, 1).expect("one is none");
        assert_eq!(cells(&spec), []);
        let refused = share_out(&mut spec, 6).expect_err("too many");
        assert!(refused.to_string().contains("5 processors"), "{refused}");
    }

    #[test]
    fn words_for_pins_and_pages_are_read() {
        assert_eq!(pin("1=2-3").expect("a pin").0, 1);
        assert!(pin("1").is_err() && pin("a=1").is_err() && pin("1=x").is_err());
        assert!("none".parse::<Pages>().expect("none").0.is_none());
        assert!("4".parse::<Pages>().is_ok() && "two".parse::<Pages>().is_err());
    }
}
