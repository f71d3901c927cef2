use std::ops::Range;

use crate::cluster::NodeNumber;

/// Some of the nodes of a cluster, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeSet {
    /// A bit for each node, 64 in each word.
    words: Vec<u64>,
    /// The first that is not one of them: in a set of all there is nothing to look for.
    whole: u32,
}

/// How many nodes there are in a word.
pub(crate) const WORD: usize = 64;

impl NodeSet {
    /// Makes a set of the first so many nodes.
    pub fn first(count: usize) -> Self {
        let whole = count / WORD;
        let mut words = vec![u64::MAX; whole];
        if !count.is_multiple_of(WORD) {
            words.push((1 << (count % WORD)) - 1);
        }
        let whole = count as u32;
        Self { words, whole }
    }

    /// Adds a node.
    pub fn insert(&mut self, node: NodeNumber) {
        let at = node.index();
        if self.words.len() <= at / WORD {
            self.words.resize(at / WORD + 1, 0);
        }
        self.words[at / WORD] |= 1 << (at % WORD);
        if node.0 == self.whole {
            self.whole = self.together(node.0, u32::MAX).end;
        }
    }

    /// Takes a node out.
    pub fn remove(&mut self, node: NodeNumber) {
        let at = node.index();
        if let Some(word) = self.words.get_mut(at / WORD) {
            *word &= !(1 << (at % WORD));
        }
        self.whole = self.whole.min(node.0);
    }

    /// Tells whether a node is one of them.
    pub fn contains(&self, node: NodeNumber) -> bool {
        let at = node.index();
        let word = self.words.get(at / WORD);
        word.is_some_and(|word| word & (1 << (at % WORD)) != 0)
    }

    /// Counts them.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Gives them in order.
    pub fn iter(&self) -> impl Iterator<Item = NodeNumber> {
        let words = self.words.iter().enumerate();
        words
            .flat_map(|(at, &word)| bits(word).map(move |bit| NodeNumber((at * WORD + bit) as u32)))
    }

    /// Leaves those that are in both.
    pub fn keep(&mut self, others: &Self) {
        self.words.truncate(others.words.len());
        let pairs = self.words.iter_mut().zip(&others.words);
        pairs.for_each(|(word, other)| *word &= other);
        self.whole = self.whole.min(others.whole);
    }

    /// Takes the others out.
    pub fn leave(&mut self, others: &Self) {
        let pairs = self.words.iter_mut().zip(&others.words);
        pairs.for_each(|(word, other)| *word &= !other);
        self.whole = others.next(0).map_or(self.whole, |at| self.whole.min(at));
    }

    /// Gives the first from a number on.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        if from < self.whole {
            return Some(from);
        }
        let at = from as usize;
        let first = self.words.get(at / WORD)? & (u64::MAX << (at % WORD));
        let rest = self.words.iter().skip(at / WORD + 1);
        let mut words = (at / WORD..).zip(std::iter::once(&first).chain(rest));
        let (number, word) = words.find(|(_, word)| **word != 0)?;
        Some((number * WORD) as u32 + word.trailing_zeros())
    }

    /// Gives those that follow each other from one of them on, as far as some number.
    pub(crate) fn together(&self, from: u32, until: u32) -> Range<u32> {
        let mut at = from.max(self.whole) as usize;
        while at < until as usize {
            let word = self.words.get(at / WORD).copied().unwrap_or(0);
            let more = (!word >> (at % WORD)).trailing_zeros() as usize;
            if more < WORD - at % WORD {
                at += more;
                break;
            }
            at += WORD - at % WORD;
        }
        from..until.min(at as u32)
    }

    /// Tells whether all of some numbers are among them.
    pub(crate) fn contains_all(&self, numbers: Range<u32>) -> bool {
        self.together(numbers.start, numbers.end) == numbers
    }

    /// Counts those of some numbers.
    pub(crate) fn count_in(&self, numbers: Range<u32>) -> u64 {
        let mut from = numbers.start.max(self.whole.min(numbers.end)) as usize;
        let mut count = from as u64 - u64::from(numbers.start);
        let until = (numbers.end as usize).min(self.words.len() * WORD);
        while from < until {
            let end = until.min((from / WORD + 1) * WORD);
            let some = u64::MAX >> (WORD - (end - from)) << (from % WORD);
            count += u64::from((self.words[from / WORD] & some).count_ones());
            from = end;
        }
        count
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }
}

impl FromIterator<NodeNumber> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeNumber>>(nodes: I) -> Self {
        let mut set = Self::default();
        nodes.into_iter().for_each(|node| set.insert(node));
        set
    }
}

/// Gives the bits that are set in a word, from the lowest on.
pub(crate) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word = word.checked_sub(1).map(|less| word & less)?;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u32]) -> NodeSet {
        nodes.iter().copied().map(NodeNumber).collect()
    }

    #[test]
    fn sets_of_nodes_hold_what_was_put_in() {
        let mut some = set(&[3, 64, 130]);
        assert_eq!(
            some.iter().map(|node| node.0).collect::<Vec<_>>(),
            [3, 64, 130]
        );
        assert_eq!((some.count(), some.is_empty()), (3, false));
        some.remove(NodeNumber(64));
        some.remove(NodeNumber(999));
        assert!(some.contains(NodeNumber(130)) && !some.contains(NodeNumber(64)));
        some.keep(&NodeSet::first(64));
        assert_eq!(some.iter().map(|node| node.0).collect::<Vec<_>>(), [3]);
        some.leave(&set(&[3]));
        assert!(some.is_empty());
        for count in [0, 1, 63, 64, 65, 128] {
            assert_eq!(NodeSet::first(count).count(), count);
        }
    }

    #[test]
    fn nodes_that_follow_each_other_are_found_and_counted() {
        let numbers = (3..5).chain(60..130).chain(191..192).chain(256..320);
        let numbers: Vec<u32> = numbers.collect();
        let some = set(&numbers);
        // The first 150 and some more, by all that can happen to a set.
        let mut whole = NodeSet::first(300);
        whole.remove(NodeNumber(170));
        whole.leave(&set(&[150, 180]));
        whole.keep(&set(&(0..160).chain(161..200).collect::<Vec<_>>()));
        whole.insert(NodeNumber(160));
        let first: Vec<u32> = (0..200)
            .filter(|at| ![150, 170, 180].contains(at))
            .collect();
        assert_eq!(whole, set(&first));
        for (some, numbers) in [(&some, numbers), (&whole, first)] {
            for from in 0..400 {
                assert_eq!(
                    some.next(from),
                    numbers.iter().copied().find(|at| *at >= from)
                );
                for until in from..400 {
                    let inside = numbers.iter().filter(|at| (from..until).contains(at));
                    assert_eq!(some.count_in(from..until), inside.count() as u64);
                    let end = (from..until).find(|at| !some.contains(NodeNumber(*at)));
                    assert_eq!(some.together(from, until), from..end.unwrap_or(until));
                }
            }
        }
    }
}
