use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::amounts::{Amounts, CORES};
use crate::cluster::{Allocation, NodeNumber};
use crate::nodeset::{NodeSet, WORD, bits};
use crate::place::Placement;

/// What is free at some moment, on each node and beside them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    free: Vec<Amounts>,
    /// What lies on no node.
    shared: Amounts,
    cores: u64,
    /// The most of each kind that a node of a word of nodes has free.
    peaks: Vec<Amounts>,
    /// The nodes by their free cores, where they are taken in that order.
    ranks: Option<Ranks>,
}

impl Space {
    pub(crate) fn new(free: Vec<Amounts>, shared: Amounts) -> Self {
        let cores = free.iter().map(|amounts| amounts.of(CORES)).sum();
        let peaks = free.chunks(WORD).map(peak_of).collect();
        Self {
            free,
            shared,
            cores,
            peaks,
            ranks: None,
        }
    }

    /// Keeps the nodes in the order of a placement from now on.
    pub(crate) fn ranked(mut self, placement: Placement) -> Self {
        self.ranks = Some(Ranks::new(placement, &self.free));
        self
    }

    /// Gives what is free on a node, or beside them.
    pub(crate) fn free(&self, node: NodeNumber) -> &Amounts {
        match node {
            NodeNumber::NONE => &self.shared,
            node => &self.free[node.index()],
        }
    }

    /// Gives the free cores of all nodes, in thousandths.
    pub(crate) fn cores(&self) -> u64 {
        self.cores
    }

    pub(crate) fn take(&mut self, allocation: &Allocation) {
        for part in allocation {
            let word = part.node.index() / WORD;
            // Only the one that had the most can make that less.
            let peak = self.peaks.get(word);
            let led = peak.is_some_and(|peak| self.free(part.node).leads(peak));
            self.change(part.node, |free| free.take(&part.taken));
            if led {
                let last = self.free.len().min((word + 1) * WORD);
                self.peaks[word] = peak_of(&self.free[word * WORD..last]);
            }
        }
    }

    pub(crate) fn release(&mut self, allocation: &Allocation) {
        for part in allocation {
            self.change(part.node, |free| free.add(&part.taken, 1));
            if part.node != NodeNumber::NONE {
                let at = part.node.index();
                self.peaks[at / WORD].raise(&self.free[at]);
            }
        }
    }

    fn change(&mut self, node: NodeNumber, change: impl FnOnce(&mut Amounts)) {
        if node == NodeNumber::NONE {
            return change(&mut self.shared);
        }
        let free = &mut self.free[node.index()];
        let before = free.of(CORES);
        if let Some(ranks) = &mut self.ranks {
            ranks.remove(free, node.0);
        }
        change(free);
        if let Some(ranks) = &mut self.ranks {
            ranks.insert(free, node.0);
        }
        self.cores = self.cores - before + free.of(CORES);
    }
}

fn peak_of(free: &[Amounts]) -> Amounts {
    let Some((first, rest)) = free.split_first() else {
        return Amounts::default();
    };
    let mut peak = first.clone();
    rest.iter().for_each(|free| peak.raise(free));
    peak
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

/// Sees a node and what is free on it, and says whether it wants to see more.
pub(crate) type See<'a> = &'a mut dyn FnMut(usize, &Amounts) -> ControlFlow<()>;

/// What is free now, and also later where that is needed.
pub(crate) struct Now<'a> {
    pub(crate) space: &'a Space,
    pub(crate) within: Option<&'a Space>,
    /// How much was looked at.
    pub(crate) steps: &'a Cell<u64>,
}

impl Now<'_> {
    /// Shows a node if it has room.
    fn look(&self, at: usize, each: &Amounts, see: See<'_>) -> ControlFlow<()> {
        self.steps.set(self.steps.get() + 1);
        let free = &self.space.free[at];
        if !each.is_within(free) {
            return ControlFlow::Continue(());
        }
        let Some(within) = self.within else {
            return see(at, free);
        };
        let mut both = free.clone();
        both.limit(&within.free[at]);
        match each.is_within(&both) {
            true => see(at, &both),
            false => ControlFlow::Continue(()),
        }
    }

    fn in_order(&self, each: &Amounts, among: &NodeSet, see: See<'_>) -> ControlFlow<()> {
        self.steps
            .set(self.steps.get() + 1 + among.words().len() as u64 / 16);
        for (number, &word) in among.words().iter().enumerate() {
            let within = self.within.map(|within| &within.peaks[number]);
            let has = |peak: &Amounts| each.is_within(peak);
            if word == 0 || !has(&self.space.peaks[number]) || !within.is_none_or(has) {
                continue;
            }
            for bit in bits(word) {
                self.look(number * WORD + bit, each, see)?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Room for Now<'_> {
    fn visit(&self, each: &Amounts, among: &NodeSet, placement: Placement, see: See<'_>) {
        let ranks = self.space.ranks.as_ref();
        if placement == Placement::First {
            let _ = self.in_order(each, among, see);
        } else if let Some(ranks) = ranks.filter(|ranks| ranks.placement == placement) {
            let _ = ranks.visit(each, &mut |at| match among.contains(NodeNumber(at)) {
                true => self.look(at as usize, each, see),
                false => ControlFlow::Continue(()),
            });
        } else {
            let mut seen = Vec::new();
            let _ = self.in_order(each, among, &mut |at, free| {
                seen.push((at, free.clone()));
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
    mut seen: Vec<(usize, Amounts)>,
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
    let _ = seen.iter().try_for_each(|(at, free)| see(*at, free));
}

/// The nodes in the order of a placement.
#[derive(Debug, Clone)]
struct Ranks {
    placement: Placement,
    /// Those without devices to spare, and those with some.
    nodes: [BTreeSet<(u64, u32)>; 2],
}

impl Ranks {
    fn new(placement: Placement, free: &[Amounts]) -> Self {
        let mut ranks = Self {
            placement,
            nodes: Default::default(),
        };
        for (free, at) in free.iter().zip(0..) {
            ranks.insert(free, at);
        }
        ranks
    }

    fn key(&self, free: &Amounts, at: u32) -> (usize, (u64, u32)) {
        let devices = self.placement == Placement::BestFit && free.has_devices();
        // Among equals the first, from whichever end they are looked at.
        let at = match self.placement {
            Placement::Spread => u32::MAX - at,
            _ => at,
        };
        (usize::from(devices), (free.of(CORES), at))
    }

    fn insert(&mut self, free: &Amounts, at: u32) {
        let (list, key) = self.key(free, at);
        self.nodes[list].insert(key);
    }

    fn remove(&mut self, free: &Amounts, at: u32) {
        let (list, key) = self.key(free, at);
        self.nodes[list].remove(&key);
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
