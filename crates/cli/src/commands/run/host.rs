//! What this host has, and what of a job it cannot give.

use std::cell::LazyCell;

use hyperion_isolation::vm::HostNode;
use hyperion_model::{Binding, Bytes, Class, Cores, CpuSet, JobSpec, MountKind};
use hyperion_mpi::layout::NumaNode;
use hyperion_node::supervisor::{HostFacts, Looked};
use hyperion_sys::caps::CapSet;
use hyperion_sys::host::{self, Host};

use crate::errors;

/// The least memory in which an init and a small program fit.
const LEAST_MEMORY: Bytes = Bytes(4 << 20);
/// More ranks than that have no room on any host: each takes a process and three pipes.
const MOST_RANKS: u32 = 65_536;

/// The largest process number that Linux knows.
const MOST_PIDS: u64 = 4 << 20;

/// What this host has.
pub(in crate::commands) struct HostSize {
    /// The processors that this process may use.
    allowed: CpuSet,
    memory: LazyCell<Bytes>,
}

/// Reads how much memory this host has.
fn all_memory() -> Bytes {
    host::memory_total(&Host::at("/")).unwrap_or_default()
}

impl HostSize {
    pub(in crate::commands) fn read() -> Self {
        let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
        let last = rustix::thread::CpuSet::MAX_CPU as u32;
        let allowed = CpuSet((0..last).filter(|&cpu| set.is_set(cpu as usize)).collect());
        Self {
            allowed,
            memory: LazyCell::new(all_memory),
        }
    }

    /// Gives all memory of this host.
    pub(in crate::commands) fn memory(&self) -> Bytes {
        *self.memory
    }

    /// Gives the processors that this process may use.
    pub(in crate::commands) fn allowed(&self) -> &CpuSet {
        &self.allowed
    }

    /// Counts the processors that this process may use.
    pub(super) fn processors(&self) -> u32 {
        self.allowed.len() as u32
    }

    /// Gives the processors that a job may use, with the memory that is near them.
    pub(in crate::commands) fn nodes(&self, asked: Option<&CpuSet>) -> Vec<HostNode> {
        let topology = host::topology(&Host::at("/"));
        let nodes = topology.nodes.into_iter().map(|node| {
            let may = |cpu: &u32| {
                self.allowed.0.contains(cpu) && asked.is_none_or(|set| set.0.contains(cpu))
            };
            HostNode {
                id: node.id,
                cpus: CpuSet(node.cpus.0.into_iter().filter(may).collect()),
                has_memory: node.memory > Bytes(0),
            }
        });
        nodes.collect()
    }

    /// Gives what a supervisor must know of this host. The way processors and
    /// memory lie is read only when ranks are bound: it costs half a millisecond.
    pub(super) fn facts(&self, bind: Binding) -> HostFacts {
        let nodes = match bind {
            Binding::None => Vec::new(),
            Binding::Core | Binding::Numa => {
                let topology = host::topology(&Host::at("/"));
                let node = |n: host::NumaNode| NumaNode {
                    id: n.id,
                    cpus: n.cpus,
                };
                topology.nodes.into_iter().map(node).collect()
            }
        };
        HostFacts {
            cpus: self.allowed.len() as u32,
            memory: Looked::new(Box::new(all_memory)),
            allowed: self.allowed.clone(),
            nodes,
            arch: rustix::system::uname()
                .machine()
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// Refuses what nothing can run with, and what this host cannot give,
    /// before anything starts.
    pub(super) fn check(&self, job: &JobSpec) -> anyhow::Result<()> {
        let resources = &job.resources;
        let too_little = |what: &str, hint: &str| Err(errors::advised(Class::User, what, hint));
        if resources.memory.is_some_and(|m| m < LEAST_MEMORY) {
            let what = "nothing runs in so little memory";
            return too_little(what, &format!("the least for --memory is {LEAST_MEMORY}"));
        }
        if resources.cpus == Some(Cores::whole(0)) {
            return too_little(
                "nothing runs without processor time",
                "raise --cpus, or leave it out",
            );
        }
        if resources.cpuset.as_ref().is_some_and(CpuSet::is_empty) {
            return too_little(
                "the list of processors is empty",
                "name some with --cpuset, or leave it out",
            );
        }
        if job.time_limit.is_some_and(|limit| limit.is_zero()) {
            return too_little(
                "a time limit of nothing ends the job before it begins",
                "raise --time, or leave it out",
            );
        }
        if job.parallel.ranks > MOST_RANKS {
            let what = format!("a job has at most {MOST_RANKS} ranks on one host");
            return too_little(&what, "ask for fewer with --ranks");
        }
        let above = |asked: String, has: String, hint: &str| {
            let what = format!("the job asks for {asked} and this host has {has}");
            Err(errors::advised(Class::User, what, hint))
        };
        let nodes = u64::from(job.nodes());
        let memory = resources.memory.map(|m| Bytes(m.0.saturating_mul(nodes)));
        if let Some(memory) = memory.filter(|&m| m > self.memory()) {
            let asked = format!("{memory} of memory");
            return above(asked, self.memory().to_string(), "lower --memory");
        }
        if let Some(cpus) = resources
            .cpus
            .filter(|&c| c > Cores::whole(self.allowed.len() as u64))
        {
            let asked = format!("{cpus} cores");
            return above(asked, self.allowed.len().to_string(), "lower --cpus");
        }
        if let Some(cpuset) = &resources.cpuset
            && !cpuset.0.is_subset(&self.allowed.0)
        {
            let asked = format!("processors {cpuset}");
            return above(
                asked,
                self.allowed.to_string(),
                "choose of these with --cpuset",
            );
        }
        if let Some(pids) = resources.pids.filter(|&n| n > MOST_PIDS) {
            let asked = format!("{pids} processes");
            return above(asked, format!("room for {MOST_PIDS}"), "lower --pids");
        }
        let container = &job.container;
        if let Some(name) = container.hostname.as_ref().filter(|n| !is_host_name(n)) {
            let what = format!("{name:?} is no name of a host");
            let hint =
                "write at most 64 letters, digits, '-', '_' and '.', a letter or digit first";
            return Err(errors::advised(Class::User, what, hint));
        }
        if let Err(name) = CapSet::adjusted(&container.cap_add, &container.cap_drop) {
            let known = CapSet::names().iter().copied();
            let hint = match errors::likely(&name.to_uppercase(), known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "capabilities(7) lists them; ALL stands for all".into(),
            };
            let what = format!("there is no capability named {name:?}");
            return Err(errors::advised(Class::User, what, hint));
        }
        for mount in &container.mounts {
            if let MountKind::Bind { source, .. } = &mount.kind
                && !source.exists()
            {
                let source = source.display();
                return Err(errors::advised(
                    Class::NotFound,
                    format!("there is no {source} to mount"),
                    format!("make it first: mkdir -p {source}"),
                ));
            }
        }
        Ok(())
    }
}

/// Tells whether programs that look a host's name up can make use of this one.
fn is_host_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(fits)
}
