use std::ops::Range;

use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::amounts::Amounts;
use crate::cluster::NodeNumber;

/// What a job has on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The node; [`NodeNumber::NONE`] for licences.
    pub node: NodeNumber,
    /// What of it.
    pub taken: Amounts,
    /// Which member of a heterogeneous job has it; 0 where the job is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub member: u32,
}

fn is_zero(member: &u32) -> bool {
    *member == 0
}

impl Part {
    /// Makes a part of a job that is not heterogeneous.
    pub fn of(node: NodeNumber, taken: Amounts) -> Self {
        Self {
            node,
            taken,
            member: 0,
        }
    }
}

/// What a job has, a part for each of its nodes, member by member.
///
/// Parts of nodes that follow each other are mostly alike, and kept as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation(SmallVec<[Parts; 1]>);

/// Parts that are alike, of nodes that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    first: NodeNumber,
    count: u32,
    pub(crate) taken: Amounts,
    pub(crate) member: u32,
}

impl Parts {
    /// Makes those of nodes, of which there is one at least.
    pub(crate) fn of(nodes: Range<u32>, taken: Amounts) -> Self {
        Self {
            first: NodeNumber(nodes.start),
            count: nodes.len() as u32,
            taken,
            member: 0,
        }
    }

    /// Gives the nodes; `None` where it is of what lies on no node.
    pub(crate) fn nodes(&self) -> Option<Range<u32>> {
        let first = self.first.0;
        (self.first != NodeNumber::NONE).then(|| first..first + self.count)
    }

    fn each(&self) -> impl Iterator<Item = Part> + '_ {
        (0..self.count).map(|more| Part {
            node: NodeNumber(self.first.0 + more),
            taken: self.taken.clone(),
            member: self.member,
        })
    }
}

impl From<Part> for Parts {
    fn from(part: Part) -> Self {
        Self {
            first: part.node,
            count: 1,
            taken: part.taken,
            member: part.member,
        }
    }
}

impl Allocation {
    /// Makes one of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part.
    pub fn push(&mut self, part: Part) {
        self.add(part.into());
    }

    /// Adds alike parts.
    pub(crate) fn add(&mut self, parts: Parts) {
        if let Some(last) = self.0.last_mut()
            && parts.first != NodeNumber::NONE
            && last.first.0.checked_add(last.count) == Some(parts.first.0)
            && last.member == parts.member
            && last.taken == parts.taken
        {
            last.count += parts.count;
            return;
        }
        self.0.push(parts);
    }

    /// Tells how many parts there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|parts| parts.count as usize).sum()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the first part.
    pub fn first(&self) -> Option<Part> {
        self.iter().next()
    }

    /// Gives the parts.
    pub fn iter(&self) -> impl Iterator<Item = Part> + '_ {
        self.0.iter().flat_map(Parts::each)
    }

    /// Gives the parts, those that are alike and follow each other as one.
    pub(crate) fn parts(&self) -> &[Parts] {
        &self.0
    }

    /// Gives the same of what lies on nodes.
    pub(crate) fn on_nodes(&self) -> impl Iterator<Item = (Range<u32>, &Parts)> {
        let all = self.0.iter();
        all.filter_map(|parts| Some((parts.nodes()?, parts)))
    }

    /// Gives what it has on all nodes together.
    pub(crate) fn total(&self) -> Amounts {
        let mut total = Amounts::default();
        let all = self.on_nodes();
        all.for_each(|(nodes, parts)| total.add(&parts.taken, nodes.len() as u64));
        total
    }
}

impl FromIterator<Parts> for Allocation {
    fn from_iter<I: IntoIterator<Item = Parts>>(all: I) -> Self {
        let mut allocation = Self::new();
        all.into_iter().for_each(|parts| allocation.add(parts));
        allocation
    }
}

impl FromIterator<Part> for Allocation {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        parts.into_iter().map(Parts::from).collect()
    }
}

impl Serialize for Allocation {
    /// Writes the list of its parts.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        self.iter()
            .try_for_each(|part| list.serialize_element(&part))?;
        list.end()
    }
}

impl<'de> Deserialize<'de> for Allocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Vec::<Part>::deserialize(deserializer)?;
        Ok(parts.into_iter().collect())
    }
}
