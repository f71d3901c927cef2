use serde::{Deserialize, Serialize};

use crate::amounts::{Amounts, CORES};

/// The number of a set of nodes that a cluster knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetNumber(pub u32);

impl SetNumber {
    /// All nodes.
    pub const ALL: Self = Self(0);
}

/// What a job asks of the cluster, all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Request {
    /// What must lie on one node each.
    pub chunks: Vec<Chunk>,
    /// How chunks are arranged on nodes.
    pub arrangement: Arrangement,
    /// Nobody else is on its nodes, and it has all of them.
    pub exclusive: bool,
    /// What it needs that lies on no node: licences.
    #[serde(default, skip_serializing_if = "Amounts::is_nothing")]
    pub shared: Amounts,
    /// The nodes that it may have. A number means something to the cluster that gave
    /// it and to no other, so it is not written down.
    #[serde(skip)]
    pub among: SetNumber,
    /// The other members of a heterogeneous job: requests without others of their own,
    /// which start with it or not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Request>,
}

/// A piece of a job that lies on one node whole: a task with its cores, or all
/// that a job has there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Chunk {
    /// How many of them.
    pub count: u64,
    /// What each needs.
    pub each: Amounts,
}

/// How the chunks of a job are arranged.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Arrangement {
    /// As it comes: several on one node, or one on each.
    #[default]
    Free,
    /// All on one node.
    Together,
    /// Each on a node of its own.
    Apart,
}

impl Request {
    /// Makes a request of one chunk.
    pub fn one(each: Amounts) -> Self {
        Self::of(1, each)
    }

    /// Makes a request of alike chunks, which lie where they like.
    pub fn of(count: u64, each: Amounts) -> Self {
        Self {
            chunks: vec![Chunk { count, each }],
            ..Self::default()
        }
    }

    /// Gives its members: itself, and the others.
    pub fn members(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// Gives all that is asked for on nodes.
    pub fn total(&self) -> Amounts {
        let mut total = Amounts::default();
        for member in self.members() {
            total.add(&member.member_total(), 1);
        }
        total
    }

    /// Gives all that this member asks for on nodes.
    pub(crate) fn member_total(&self) -> Amounts {
        let mut total = Amounts::default();
        for chunk in &self.chunks {
            total.add(&chunk.each, chunk.count);
        }
        total
    }

    /// Gives all cores that are asked for, in thousandths.
    pub fn cores(&self) -> u64 {
        let chunks = self.members().flat_map(|member| &member.chunks);
        let each = |chunk: &Chunk| chunk.each.of(CORES).saturating_mul(chunk.count);
        chunks.map(each).fold(0, u64::saturating_add)
    }
}
