use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};

use crate::allocation::Allocation;
use crate::amounts::{Amounts, CORES};
use crate::cluster::{Node, NodeNumber};
use crate::nodeset::NodeSet;
use crate::place::Placement;
use crate::stretches::{Stretch, Stretches};

/// What is free at some moment, on each node and beside them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    nodes: Stretches,
    /// What lies on no node.
    shared: Amounts,
    cores: u64,
    /// The nodes by their free cores, where they are taken in that order.
    ranks: Option<Ranks>,
}

impl Space {
    /// Makes that of nodes on which nothing runs.
    pub(crate) fn new(nodes: &[Node], shared: Amounts) -> Self {
        let capacities = || nodes.iter().map(|node| &node.capacity);
        Self {
            nodes: Stretches::new(capacities()),
            shared,
            cores: capacities().map(|capacity| capacity.of(CORES)).sum(),
            ranks: None,
        }
    }

    /// Keeps the nodes in the order of a placement from now on.
    pub(crate) fn ranked(mut self, placement: Placement) -> Self {
        self.ranks = Some(Ranks::new(placement, self.stretches()));
        self
    }

    /// Gives what is free on a node, or beside them.
    pub(crate) fn free(&self, node: NodeNumber) -> &Amounts {
        match node {
            NodeNumber::NONE => &self.shared,
            node => self.nodes.free(node.0),
        }
    }

    /// Gives what is free on nodes, in their order.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.nodes.from(0)
    }

    /// Gives the free cores of all nodes, in thousandths.
    pub(crate) fn cores(&self) -> u64 {
        self.cores
    }

    pub(crate) fn take(&mut self, allocation: &Allocation) {
        self.change(allocation, false, |_, free, taken| free.take(taken));
    }

    pub(crate) fn release(&mut self, allocation: &Allocation) {
        self.change(allocation, true, |_, free, taken| free.add(taken, 1));
    }

    /// Has what is free on alike nodes changed by what somebody has on each: to more where
    /// `is_more`, else to less. There are no nodes where it lies on none.
    pub(crate) fn change(
        &mut self,
        allocation: &Allocation,
        is_more: bool,
        mut change: impl FnMut(Range<u32>, &mut Amounts, &Amounts),
    ) {
        for parts in allocation.parts() {
            let Some(nodes) = parts.nodes() else {
                change(0..0, &mut self.shared, &parts.taken);
                continue;
            };
            // Those beside them may be of one stretch with them, before or after.
            let around = nodes.start.saturating_sub(1)..nodes.end.saturating_add(1);
            if let Some(ranks) = &mut self.ranks {
                ranks.remove(self.nodes.from(around.start), around.end);
            }
            let cores = &mut self.cores;
            self.nodes.change(nodes, is_more, |nodes, free| {
                let (count, before) = (nodes.len() as u64, free.of(CORES));
                change(nodes, free, &parts.taken);
                *cores = *cores - count * before + count * free.of(CORES);
            });
            if let Some(ranks) = &mut self.ranks {
                ranks.insert(self.nodes.from(around.start), around.end);
            }
        }
    }
}

/// Whoever can say which nodes have room.
pub(crate) trait Room {
    /// Shows the nodes of a set that have `each` free, and what they have, in the order
    /// of a placement, for as long as `see` wants more.
    fn visit(&self, each: &Amounts, among: &NodeSet, placement: Placement, see: See<'_>);

    /// Gives what is free on no node.
    fn shared(&self) -> Amounts;

    /// Hears how many chunks found no room, where all are alike.
    fn lacked(&self, _chunks: u64) {}
}

/// Sees nodes that follow each other and are alike, and what is free on each, and says
/// whether it wants to see more.
pub(crate) type See<'a> = &'a mut dyn FnMut(Range<u32>, &Amounts) -> ControlFlow<()>;

/// What is free now, and also later where that is needed.
pub(crate) struct Now<'a> {
    pub(crate) space: &'a Space,
    pub(crate) within: Option<&'a Space>,
    /// How much was looked at.
    pub(crate) steps: &'a Cell<u64>,
}

impl Now<'_> {
    /// Shows those of some nodes that have room.
    fn look(
        &self,
        nodes: Range<u32>,
        each: &Amounts,
        among: &NodeSet,
        see: See<'_>,
    ) -> ControlFlow<()> {
        let mut now = self.space.nodes.search(nodes.start);
        let mut within = self.within.map(|within| within.nodes.search(nodes.start));
        let mut at = nodes.start;
        // Each time it is known of all before `at`.
        let flow = loop {
            let Some(member) = among.next(at).filter(|at| *at < nodes.end) else {
                break ControlFlow::Continue(());
            };
            let Some(stretch) = now.next(member, each) else {
                break ControlFlow::Continue(());
            };
            at = member.max(stretch.from);
            let mut until = stretch.until.min(nodes.end);
            let mut free = Cow::Borrowed(&stretch.free);
            if let Some(within) = &mut within {
                let Some(stretch) = within.next(at, each) else {
                    break ControlFlow::Continue(());
                };
                at = at.max(stretch.from);
                until = until.min(stretch.until);
                if at < until {
                    free.to_mut().limit(&stretch.free);
                }
            }
            if at >= until || (at > member && !among.contains(NodeNumber(at))) {
                continue;
            }
            let nodes = among.together(at, until);
            at = nodes.end;
            let flow = see(nodes, &free);
            if flow.is_break() {
                break flow;
            }
        };
        let steps = now.steps + within.map_or(0, |within| within.steps);
        self.steps.set(self.steps.get() + 1 + steps / 16);
        flow
    }

    fn in_order(&self, each: &Amounts, among: &NodeSet, see: See<'_>) -> ControlFlow<()> {
        self.look(0..u32::MAX, each, among, see)
    }
}

impl Room for Now<'_> {
    fn visit(&self, each: &Amounts, among: &NodeSet, placement: Placement, see: See<'_>) {
        let ranks = self.space.ranks.as_ref();
        if placement == Placement::First {
            let _ = self.in_order(each, among, see);
        } else if let Some(ranks) = ranks.filter(|ranks| ranks.placement == placement) {
            let _ = ranks.visit(each, &mut |from| {
                let stretch = self.space.nodes.from(from).next();
                let nodes = stretch.map_or(from..from, Stretch::nodes);
                self.look(nodes, each, among, see)
            });
        } else {
            let mut seen = Vec::new();
            let _ = self.in_order(each, among, &mut |nodes, free| {
                seen.push((nodes, free.clone()));
                ControlFlow::Continue(())
            });
            show(seen, each, placement, see);
        }
    }

    fn shared(&self) -> Amounts {
        let mut shared = self.space.shared.clone();
        if let Some(within) = self.within {
            shared.limit(&within.shared);
        }
        shared
    }
}

/// Shows nodes, found in the order of their numbers, in the order of a placement.
pub(crate) fn show(
    mut seen: Vec<(Range<u32>, Amounts)>,
    each: &Amounts,
    placement: Placement,
    see: See<'_>,
) {
    match placement {
        Placement::First => {}
        Placement::Pack => seen.sort_by_key(|(_, free)| free.of(CORES)),
        Placement::Spread => seen.sort_by_key(|(_, free)| Reverse(free.of(CORES))),
        Placement::BestFit => {
            let spared = !each.has_devices();
            seen.sort_by_key(|(_, free)| (spared && free.has_devices(), free.of(CORES)));
        }
    }
    let mut seen = seen.into_iter();
    let _ = seen.try_for_each(|(nodes, free)| see(nodes, &free));
}

/// Stretches of nodes in the order of a placement.
#[derive(Debug, Clone)]
struct Ranks {
    placement: Placement,
    /// Those without devices to spare, and those with some: their first nodes.
    nodes: [BTreeSet<(u64, u32)>; 2],
}

impl Ranks {
    fn new<'a>(placement: Placement, all: impl Iterator<Item = &'a Stretch>) -> Self {
        let mut ranks = Self {
            placement,
            nodes: Default::default(),
        };
        ranks.insert(all, u32::MAX);
        ranks
    }

    fn key(&self, stretch: &Stretch) -> (usize, (u64, u32)) {
        let Stretch { free, from, .. } = stretch;
        let devices = self.placement == Placement::BestFit && free.has_devices();
        // Among equals the first, from whichever end they are looked at.
        let at = match self.placement {
            Placement::Spread => u32::MAX - from,
            _ => *from,
        };
        (usize::from(devices), (free.of(CORES), at))
    }

    /// Hears of stretches as far as one that begins with a node or after it.
    fn insert<'a>(&mut self, all: impl Iterator<Item = &'a Stretch>, until: u32) {
        for stretch in all.take_while(|stretch| stretch.from < until) {
            let (list, key) = self.key(stretch);
            self.nodes[list].insert(key);
        }
    }

    fn remove<'a>(&mut self, all: impl Iterator<Item = &'a Stretch>, until: u32) {
        for stretch in all.take_while(|stretch| stretch.from < until) {
            let (list, key) = self.key(stretch);
            self.nodes[list].remove(&key);
        }
    }

    fn visit(
        &self,
        each: &Amounts,
        see: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let enough = |list: usize| self.nodes[list].range((each.of(CORES), 0)..);
        match self.placement {
            Placement::Spread => enough(0).rev().try_for_each(|(_, at)| see(u32::MAX - at)),
            // Whoever asks for devices can only be where some are.
            Placement::BestFit if each.has_devices() => enough(1).try_for_each(|(_, at)| see(*at)),
            _ => {
                enough(0).try_for_each(|(_, at)| see(*at))?;
                enough(1).try_for_each(|(_, at)| see(*at))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::allocation::Part;
    use crate::cluster::Cluster;
    use crate::place::place;
    use crate::request::Request;

    proptest! {
        #[test]
        fn nodes_kept_in_an_order_are_those_put_in_that_order_when_asked(
            capacities in prop::collection::vec((1usize..40, 0u64..2), 1..8),
            taken in prop::collection::vec((0usize..100, 1usize..20, 1u64..4), 1..60),
            asked in prop::collection::vec((1u64..30, 1u64..5, 0u64..2, 0u32..50), 1..10),
        ) {
            let node = |devices| Node {
                name: "n".into(),
                capacity: Amounts::new([8000, 0, devices]),
            };
            let nodes = capacities.iter().flat_map(|(count, devices)| vec![node(*devices); *count]);
            let cluster = Cluster::new(nodes.collect());
            let count = cluster.nodes().len();
            for placement in [Placement::Pack, Placement::Spread, Placement::BestFit] {
                let mut plain = cluster.space().clone();
                let mut ranked = plain.clone().ranked(placement);
                let mut all: Vec<Allocation> = Vec::new();
                for (from, length, cores) in &taken {
                    let part = |at: usize| Part::of(NodeNumber(at as u32), Amounts::cores(cores * 1000));
                    let its: Allocation = (*from..(from + length).min(count)).map(part).collect();
                    let has = |part: Part| part.taken.is_within(plain.free(part.node));
                    if its.iter().all(has) {
                        plain.take(&its);
                        ranked.take(&its);
                        all.push(its);
                    } else if !all.is_empty() {
                        let its = all.swap_remove(from % all.len());
                        plain.release(&its);
                        ranked.release(&its);
                    }
                }
                for &(chunks, cores, devices, without) in &asked {
                    let request = Request::of(chunks, Amounts::new([cores * 1000, 0, devices]));
                    let mut among = NodeSet::first(count);
                    among.remove(NodeNumber(without));
                    let among = [Arc::new(among)];
                    let steps = Cell::new(0);
                    let lay = |space| {
                        let room = Now { space, within: None, steps: &steps };
                        place(&cluster, &room, &among, &request, placement)
                    };
                    prop_assert_eq!(lay(&ranked), lay(&plain));
                }
            }
        }
    }
}
