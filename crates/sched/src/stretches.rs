use std::ops::Range;
use std::sync::Arc;

use crate::amounts::Amounts;
use crate::cluster::NodeNumber;
use crate::nodeset::NodeSet;

/// What is free on nodes, as stretches of nodes that follow each other, are alike, and have
/// the same free: most of a large machine is few of them.
///
/// The list is kept in blocks that know the most that a node of theirs has, so that a search
/// passes most of them by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stretches {
    blocks: Vec<Block>,
    /// The nodes that are not like those before them: no stretch goes across.
    borders: Arc<NodeSet>,
}

/// Nodes that follow each other, are alike, and have the same free.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub(crate) from: u32,
    pub(crate) until: u32,
    pub(crate) free: Amounts,
}

impl Stretch {
    /// Gives its nodes.
    pub(crate) fn nodes(&self) -> Range<u32> {
        self.from..self.until
    }
}

#[derive(Debug, Clone)]
struct Block {
    /// Its last node, and one.
    until: u32,
    /// The most of each kind that a node has.
    peak: Amounts,
    all: Vec<Stretch>,
}

/// How many stretches a block may have before it is cut in two.
const LONG: usize = 64;

impl Block {
    fn new(all: Vec<Stretch>) -> Self {
        let mut block = Self {
            until: all.last().map_or(0, |last| last.until),
            peak: Amounts::default(),
            all,
        };
        block.find_peak();
        block
    }

    fn find_peak(&mut self) {
        let mut all = self.all.iter().map(|stretch| &stretch.free);
        let mut peak = all.next().cloned().unwrap_or_default();
        all.for_each(|free| peak.raise(free));
        self.peak = peak;
    }

    /// Gives the number of the stretch in which a node is.
    fn of(&self, node: u32) -> usize {
        self.all.partition_point(|stretch| stretch.until <= node)
    }

    /// Makes a stretch begin with a node; gives its number.
    fn split(&mut self, node: u32) -> usize {
        let at = self.of(node);
        if let Some(stretch) = self.all.get_mut(at)
            && stretch.from < node
        {
            let before = Stretch {
                from: stretch.from,
                until: node,
                free: stretch.free.clone(),
            };
            stretch.from = node;
            self.all.insert(at, before);
            return at + 1;
        }
        at
    }

    /// Makes one of stretches that are beside each other and alike.
    fn join(&mut self, among: Range<usize>, borders: &NodeSet) {
        let mut last = among.start;
        for at in among.start + 1..among.end {
            let (before, stretch) = (&self.all[last], &self.all[at]);
            let is_border = borders.contains(NodeNumber(stretch.from));
            if !is_border && before.free == stretch.free {
                self.all[last].until = stretch.until;
            } else {
                last += 1;
                self.all.swap(last, at);
            }
        }
        self.all.drain((last + 1).min(among.end)..among.end);
    }
}

impl Stretches {
    /// Reads them off what all nodes have, in order.
    pub(crate) fn new<'a>(capacities: impl Iterator<Item = &'a Amounts>) -> Self {
        let mut borders = NodeSet::default();
        let mut all: Vec<Stretch> = Vec::new();
        for (at, capacity) in (0..).zip(capacities) {
            match all.last_mut() {
                Some(last) if last.free == *capacity => last.until = at + 1,
                _ => {
                    borders.insert(NodeNumber(at));
                    all.push(Stretch {
                        from: at,
                        until: at + 1,
                        free: capacity.clone(),
                    });
                }
            }
        }
        let blocks = all.chunks(LONG / 2);
        Self {
            blocks: blocks.map(|block| Block::new(block.to_vec())).collect(),
            borders: borders.into(),
        }
    }

    /// Gives the number of the block in which a node is.
    fn block_of(&self, node: u32) -> usize {
        self.blocks.partition_point(|block| block.until <= node)
    }

    /// Gives what is free on a node.
    ///
    /// # Panics
    /// When there is no such node.
    pub(crate) fn free(&self, node: u32) -> &Amounts {
        let block = &self.blocks[self.block_of(node)];
        &block.all[block.of(node)].free
    }

    /// Gives the stretches from that of a node on.
    pub(crate) fn from(&self, node: u32) -> impl Iterator<Item = &Stretch> {
        let number = self.block_of(node);
        let rest = self.blocks.get(number..).unwrap_or_default();
        let first = rest.first().map_or(0, |block| block.of(node));
        let all = rest.iter().flat_map(|block| &block.all);
        all.skip(first)
    }

    /// Shows the stretches that some nodes make up, to be changed: to more where `is_more`,
    /// else to less.
    pub(crate) fn change(
        &mut self,
        nodes: Range<u32>,
        is_more: bool,
        mut change: impl FnMut(Range<u32>, &mut Amounts),
    ) {
        let mut from = nodes.start;
        while from < nodes.end {
            let number = self.block_of(from);
            let Some(block) = self.blocks.get_mut(number) else {
                return;
            };
            let until = nodes.end.min(block.until);
            // The whole of a machine of one node, above all.
            if let [only] = &mut block.all[..]
                && only.from == from
                && only.until == until
            {
                change(only.nodes(), &mut only.free);
                block.peak.clone_from(&only.free);
                from = until;
                continue;
            }
            let first = block.split(from);
            let last = match until == block.until {
                true => block.all.len(),
                false => block.split(until),
            };
            let mut has_led = false;
            for stretch in &mut block.all[first..last] {
                // Only the one that had the most can make that less.
                has_led |= !is_more && stretch.free.leads(&block.peak);
                change(stretch.nodes(), &mut stretch.free);
                if is_more {
                    block.peak.raise(&stretch.free);
                }
            }
            if block.all.len() > 1 {
                let around = first.saturating_sub(1)..block.all.len().min(last + 1);
                block.join(around, &self.borders);
            }
            if has_led {
                block.find_peak();
            }
            self.balance(number);
            from = until;
        }
    }

    /// Cuts a block in two that has become long, and joins one with another that has become
    /// short.
    fn balance(&mut self, number: usize) {
        if self.blocks[number].all.len() > LONG {
            let rest = self.blocks[number].all.split_off(LONG / 2);
            let first = std::mem::take(&mut self.blocks[number].all);
            self.blocks[number] = Block::new(first);
            self.blocks.insert(number + 1, Block::new(rest));
            return;
        }
        for first in [number, number.wrapping_sub(1)] {
            if let Some([one, other]) = self.blocks.get(first..first.wrapping_add(2))
                && one.all.len() + other.all.len() <= LONG / 2
            {
                let mut other = self.blocks.remove(first + 1);
                let one = &mut self.blocks[first];
                one.all.append(&mut other.all);
                one.until = other.until;
                one.peak.raise(&other.peak);
            }
        }
    }

    /// Begins to look for stretches from a node on.
    pub(crate) fn search(&self, from: u32) -> Search<'_> {
        Search {
            blocks: match from {
                0 => &self.blocks,
                from => self.blocks.get(self.block_of(from)..).unwrap_or_default(),
            },
            at: 0,
            steps: 0,
        }
    }
}

/// A look at one stretch after the other.
pub(crate) struct Search<'a> {
    /// What is left.
    blocks: &'a [Block],
    /// The next of the first of them.
    at: usize,
    /// How much was looked at, in sixteenths.
    pub(crate) steps: u64,
}

impl<'a> Search<'a> {
    /// Gives the first stretch that has `each` free, of those that end after a node; the
    /// next time it is one before none.
    pub(crate) fn next(&mut self, node: u32, each: &Amounts) -> Option<&'a Stretch> {
        while let Some((block, rest)) = self.blocks.split_first() {
            self.steps += 1;
            let may_have = || block.all.len() == 1 || each.is_within(&block.peak);
            if block.until > node && may_have() {
                if self.at == 0 && block.all[0].until <= node {
                    self.at = block.of(node);
                }
                while let Some(stretch) = block.all.get(self.at) {
                    self.steps += 16;
                    if stretch.until > node && each.is_within(&stretch.free) {
                        return Some(stretch);
                    }
                    self.at += 1;
                }
            }
            (self.blocks, self.at) = (rest, 0);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stretches_have_what_a_list_of_all_nodes_has(
            capacities in prop::collection::vec((1u32..40, 1u64..4), 1..12),
            acts in prop::collection::vec((0u32..400, 1u32..90, any::<bool>(), any::<bool>()), 0..400),
            asks in prop::collection::vec((0u32..400, 0u64..9, 0u64..9), 1..20),
        ) {
            let amounts = |a: u64, b: u64| Amounts::new([10 + a, 10 + b]);
            let nodes = capacities.iter().flat_map(|(count, a)| (0..*count).map(|_| *a));
            let capacities: Vec<Amounts> = nodes.map(|a| amounts(a, 2)).collect();
            let mut stretches = Stretches::new(capacities.iter());
            let mut plain = capacities.clone();
            for (from, count, is_more, is_first) in acts {
                let nodes = from..from.saturating_add(count).min(plain.len() as u32);
                let taken = Amounts::new([u64::from(is_first), u64::from(!is_first)]);
                let change = |free: &mut Amounts| match is_more {
                    true => free.add(&taken, 1),
                    false => free.take(&taken),
                };
                for node in nodes.clone() {
                    change(&mut plain[node as usize]);
                }
                let mut count = 0;
                stretches.change(nodes.clone(), is_more, |some, free| {
                    count += some.len();
                    change(free);
                });
                prop_assert_eq!(count, nodes.len());
            }
            for (block, all) in stretches.blocks.iter().map(|block| (block, &block.all)) {
                prop_assert!((1..=LONG).contains(&all.len()));
                prop_assert_eq!(block.until, all[all.len() - 1].until);
                prop_assert!(all.windows(2).all(|pair| pair[0].until == pair[1].from));
            }
            let mut pairs = stretches.blocks.windows(2);
            prop_assert!(pairs.all(|pair| pair[0].all.len() + pair[1].all.len() > LONG / 2));
            let mut next = 0;
            for stretch in stretches.from(0) {
                prop_assert_eq!(stretch.from, next);
                next = stretch.until;
                let nodes = stretch.from as usize..stretch.until as usize;
                let capacity = &capacities[nodes.start];
                prop_assert!(capacities[nodes.clone()].iter().all(|its| its == capacity));
                prop_assert!(plain[nodes].iter().all(|free| *free == stretch.free));
            }
            prop_assert_eq!(next as usize, plain.len());
            for (node, free) in (0..).zip(&plain) {
                prop_assert_eq!(stretches.free(node), free);
                prop_assert!(stretches.from(node).next().is_some_and(|s| s.nodes().contains(&node)));
            }
            for (from, a, b) in asks {
                let each = amounts(a, b);
                let mut search = stretches.search(from);
                let mut at = from;
                let mut found = Vec::new();
                while let Some(stretch) = search.next(at, &each) {
                    found.extend(stretch.from.max(at)..stretch.until);
                    at = stretch.until;
                }
                let has = |node: &u32| each.is_within(&plain[*node as usize]);
                let right: Vec<u32> = (from..plain.len() as u32).filter(has).collect();
                prop_assert_eq!(found, right);
            }
            // Where all have the same, there are as few as can be; blocks were joined once.
            for _ in 0..2 {
                let all = 0..plain.len() as u32;
                stretches.change(all, false, |_, free| *free = Amounts::default());
            }
            let kinds = capacities.chunk_by(|one, other| one == other).count();
            prop_assert_eq!(stretches.from(0).count(), kinds);
        }
    }
}
