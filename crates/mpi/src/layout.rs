//! Which rank runs on which processors.

use hyperion_model::{Binding, CpuSet};
use thiserror::Error;

/// One NUMA node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumaNode {
    /// The kernel's number.
    pub id: u32,
    /// Its processors.
    pub cpus: CpuSet,
}

/// Why ranks cannot be laid out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// More processors are asked for than may be used.
    #[error("the ranks need {} processors, and {allowed} may be used", u64::from(*.ranks) * u64::from(*.cpus_per_rank))]
    TooFew {
        /// How many ranks.
        ranks: u32,
        /// Processors for each.
        cpus_per_rank: u32,
        /// How many there are.
        allowed: usize,
    },
}

/// Gives each rank its processors; `None` leaves the rank to the kernel.
///
/// `core`: processors of its own, neighbours in the kernel's numbers, within
/// one NUMA node while any node has enough left. `numa`: all allowed
/// processors of the node that `core` would have put it on. An oversubscribed
/// layout starts again at the first processors.
///
/// # Errors
/// When there are too few processors and `oversubscribe` is not set.
pub fn layout(
    ranks: u32,
    cpus_per_rank: u32,
    binding: Binding,
    topology: &[NumaNode],
    allowed: &CpuSet,
    oversubscribe: bool,
) -> Result<Vec<Option<CpuSet>>, LayoutError> {
    let cpus_per_rank = cpus_per_rank.max(1);
    let needed = u64::from(ranks) * u64::from(cpus_per_rank);
    if needed > allowed.len() as u64 && !oversubscribe {
        return Err(LayoutError::TooFew {
            ranks,
            cpus_per_rank,
            allowed: allowed.len(),
        });
    }
    if binding == Binding::None || allowed.is_empty() {
        return Ok(vec![None; ranks as usize]);
    }
    let nodes = allowed_nodes(topology, allowed);
    let mut places = places(&nodes, cpus_per_rank as usize);
    if places.is_empty() {
        places.push(allowed.clone());
    }
    if binding == Binding::Numa {
        for place in &mut places {
            let home = nodes.iter().filter(|node| !node.0.is_disjoint(&place.0));
            *place = CpuSet(home.flat_map(|node| node.0.iter().copied()).collect());
        }
    }
    let mut turns = places.iter().cycle();
    Ok((0..ranks).map(|_| turns.next().cloned()).collect())
}

/// The allowed processors by node; those of no known node come last.
fn allowed_nodes(topology: &[NumaNode], allowed: &CpuSet) -> Vec<CpuSet> {
    let mut rest = allowed.0.clone();
    let mut nodes = Vec::new();
    for node in topology {
        let cpus: CpuSet = CpuSet(node.cpus.0.intersection(&rest).copied().collect());
        rest.retain(|cpu| !cpus.0.contains(cpu));
        nodes.push(cpus);
    }
    nodes.push(CpuSet(rest));
    nodes.retain(|node| !node.is_empty());
    nodes
}

/// Cuts the nodes into places of `size` processors, whole ones first, then
/// those that must straddle nodes.
fn places(nodes: &[CpuSet], size: usize) -> Vec<CpuSet> {
    let mut places = Vec::new();
    let mut left = Vec::new();
    for node in nodes {
        let cpus: Vec<u32> = node.0.iter().copied().collect();
        let whole = cpus.chunks_exact(size);
        left.extend_from_slice(whole.remainder());
        places.extend(whole.map(|cpus| CpuSet(cpus.iter().copied().collect())));
    }
    let straddling = left.chunks_exact(size);
    places.extend(straddling.map(|cpus| CpuSet(cpus.iter().copied().collect())));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(list: &str) -> CpuSet {
        list.parse().expect("a list")
    }

    fn two_nodes() -> Vec<NumaNode> {
        let node = |id, list| NumaNode {
            id,
            cpus: set(list),
        };
        vec![node(0, "0-2,6-8"), node(1, "3-5,9-11")]
    }

    fn show(ranks: u32, per_rank: u32, binding: Binding, over: bool) -> String {
        match layout(
            ranks,
            per_rank,
            binding,
            &two_nodes(),
            &set("0-4,6-11"),
            over,
        ) {
            Ok(places) => places
                .iter()
                .map(|p| p.as_ref().map_or("-".into(), CpuSet::to_string))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn ranks_fill_one_numa_node_before_the_next() {
        assert_eq!(show(4, 2, Binding::Core, false), "0-1 2,6 7-8 3-4");
        assert_eq!(show(5, 2, Binding::Core, false), "0-1 2,6 7-8 3-4 9-10");
        assert_eq!(show(2, 4, Binding::Core, false), "0-2,6 3-4,9-10");
    }

    #[test]
    fn a_rank_straddles_nodes_only_when_nothing_else_is_left() {
        assert_eq!(show(2, 5, Binding::Core, false), "0-2,6-7 3-4,9-11");
        // 6 + 5 processors hold one place of 4 each; the third takes what is left.
        assert_eq!(show(3, 3, Binding::Core, false), "0-2 6-8 3-4,9");
    }

    #[test]
    fn numa_gives_the_whole_node() {
        assert_eq!(show(2, 4, Binding::Numa, false), "0-2,6-8 3-4,9-11");
        assert_eq!(show(3, 1, Binding::Numa, false), "0-2,6-8 0-2,6-8 0-2,6-8");
    }

    #[test]
    fn too_many_ranks_are_refused_unless_oversubscribed() {
        assert_eq!(
            show(6, 2, Binding::None, false),
            "the ranks need 12 processors, and 11 may be used"
        );
        assert_eq!(show(6, 2, Binding::None, true), "- - - - - -");
        assert_eq!(
            show(6, 4, Binding::Core, true),
            "0-2,6 3-4,9-10 0-2,6 3-4,9-10 0-2,6 3-4,9-10"
        );
        assert_eq!(show(1, 20, Binding::Core, true), "0-4,6-11");
    }

    #[test]
    fn a_host_without_numa_files_is_one_node() {
        let places = layout(2, 1, Binding::Core, &[], &set("4-5"), false).expect("fits");
        assert_eq!(places, [Some(set("4")), Some(set("5"))]);
    }

    proptest! {
        #[test]
        fn no_processor_is_given_twice_and_none_that_is_not_allowed(
            ranks in 0u32..20,
            per_rank in 1u32..6,
            allowed in prop::collection::btree_set(0u32..24, 1..24),
            split in 0u32..24,
        ) {
            let allowed = CpuSet(allowed);
            let topology = [
                NumaNode { id: 0, cpus: CpuSet((0..split).collect()) },
                NumaNode { id: 1, cpus: CpuSet((split..24).collect()) },
            ];
            match layout(ranks, per_rank, Binding::Core, &topology, &allowed, false) {
                Ok(places) => {
                    let given: Vec<u32> = places.iter().flatten().flat_map(|p| p.0.iter().copied()).collect();
                    let distinct: std::collections::BTreeSet<u32> = given.iter().copied().collect();
                    prop_assert_eq!(given.len(), (ranks * per_rank) as usize);
                    prop_assert_eq!(distinct.len(), given.len());
                    prop_assert!(distinct.is_subset(&allowed.0));
                }
                Err(LayoutError::TooFew { .. }) => prop_assert!((ranks * per_rank) as usize > allowed.len()),
            }
        }
    }
}
