use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::amounts::{Amounts, CORES};
use crate::queue::JobNumber;
use crate::time::Time;

/// The number of a node: its place in the list that the cluster was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeNumber(pub u32);

impl NodeNumber {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is called.
    pub name: String,
    /// What it has for jobs.
    pub capacity: Amounts,
}

/// What a job has on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The node.
    pub node: NodeNumber,
    /// What of it.
    pub taken: Amounts,
}

/// What a job has, a part for each of its nodes.
pub type Allocation = SmallVec<[Part; 1]>;

/// A job that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// What it has.
    pub allocation: Allocation,
    /// When it ends at the latest.
    pub until: Time,
}

/// The nodes, and what runs on them.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// All that it has, in thousandths.
    cores: u64,
    space: Space,
    running: BTreeMap<JobNumber, Running>,
    ends: BTreeSet<(Time, JobNumber)>,
}

impl Cluster {
    /// Makes a cluster on which nothing runs.
    pub fn new(nodes: Vec<Node>) -> Self {
        let space = Space::new(nodes.iter().map(|node| node.capacity.clone()).collect());
        Self {
            nodes,
            cores: space.cores(),
            space,
            ..Self::default()
        }
    }

    /// Gives all cores of all nodes, in thousandths.
    pub fn cores(&self) -> u64 {
        self.cores
    }

    /// Gives the nodes, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Gives what is free on a node.
    pub fn free(&self, node: NodeNumber) -> &Amounts {
        &self.space.free[node.index()]
    }

    /// Gives what runs, by number.
    pub fn running(&self) -> &BTreeMap<JobNumber, Running> {
        &self.running
    }

    /// Gives what a job has to it, until a moment at the latest.
    ///
    /// # Panics
    /// When the job runs already, or something that it is given is not free:
    /// a plan is carried out on the cluster that it was made for.
    pub fn start(&mut self, job: JobNumber, allocation: Allocation, until: Time) {
        for part in &allocation {
            assert!(
                part.taken.is_within(self.free(part.node)),
                "node {} is not free",
                part.node.0
            );
        }
        self.space.take(&allocation);
        self.ends.insert((until, job));
        let running = Running { allocation, until };
        let before = self.running.insert(job, running);
        assert!(before.is_none(), "job {} runs already", job.0);
    }

    /// Takes what a job has back; tells whether it ran.
    pub fn end(&mut self, job: JobNumber) -> bool {
        let Some(running) = self.running.remove(&job) else {
            return false;
        };
        self.ends.remove(&(running.until, job));
        self.space.release(&running.allocation);
        true
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Gives what is given back by what runs, in the order of the latest ends.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (Time, &Allocation)> {
        let of = |(until, job): &(Time, JobNumber)| (*until, &self.running[job].allocation);
        self.ends.iter().map(of)
    }
}

/// What is free on each node at some moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    free: Vec<Amounts>,
    cores: u64,
}

impl Space {
    fn new(free: Vec<Amounts>) -> Self {
        let cores = free.iter().map(|amounts| amounts.of(CORES)).sum();
        Self { free, cores }
    }

    /// Gives what is free by the nodes' numbers.
    pub(crate) fn free(&self) -> &[Amounts] {
        &self.free
    }

    /// Tells whether a node has a free core.
    pub(crate) fn is_open(&self, at: usize) -> bool {
        self.free[at].of(CORES) > 0
    }

    /// Gives the free cores of all nodes, in thousandths.
    pub(crate) fn cores(&self) -> u64 {
        self.cores
    }

    pub(crate) fn take(&mut self, allocation: &Allocation) {
        for part in allocation {
            self.cores -= part.taken.of(CORES);
            self.free[part.node.index()].take(&part.taken);
        }
    }

    pub(crate) fn release(&mut self, allocation: &Allocation) {
        for part in allocation {
            self.cores += part.taken.of(CORES);
            self.free[part.node.index()].add(&part.taken, 1);
        }
    }

    /// Leaves what is free there too.
    pub(crate) fn limit(&mut self, other: &Self) {
        for (free, other) in self.free.iter_mut().zip(&other.free) {
            self.cores -= free.of(CORES);
            free.limit(other);
            self.cores += free.of(CORES);
        }
    }
}
