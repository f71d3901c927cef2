use crate::amounts::{Amounts, CORES};
use serde::{Deserialize, Serialize};

/// What a job asks of the cluster, all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What must lie on one node each.
    pub chunks: Vec<Chunk>,
    /// How chunks are arranged on nodes.
    pub arrangement: Arrangement,
    /// Nobody else is on its nodes, and it has all of them.
    pub exclusive: bool,
}

/// A piece of a job that lies on one node whole: a task with its cores, or all
/// that a job has there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// How many of them.
    pub count: u64,
    /// What each needs.
    pub each: Amounts,
}

/// How the chunks of a job are arranged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
            arrangement: Arrangement::Free,
            exclusive: false,
        }
    }

    /// Gives all that is asked for.
    pub fn total(&self) -> Amounts {
        let mut total = Amounts::default();
        for chunk in &self.chunks {
            total.add(&chunk.each, chunk.count);
        }
        total
    }

    /// Gives all cores that are asked for, in thousandths.
    pub fn cores(&self) -> u64 {
        let each = |chunk: &Chunk| chunk.each.of(CORES).saturating_mul(chunk.count);
        self.chunks.iter().map(each).fold(0, u64::saturating_add)
    }
}
