use std::time::Duration;

use crate::time::Time;

/// How much of something is free from moments on, in order: the last for ever.
///
/// The list is kept in blocks that know their least and their most, so that a search
/// passes most of them by.
#[derive(Debug, Clone)]
pub(crate) struct Totals {
    blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
struct Block {
    slices: Vec<(Time, u64)>,
    low: u64,
    high: u64,
}

/// How long a block may be before it is cut in two.
const LONG: usize = 128;

impl Block {
    fn new(slices: Vec<(Time, u64)>) -> Self {
        let mut block = Self {
            slices,
            low: 0,
            high: 0,
        };
        block.count();
        block
    }

    fn count(&mut self) {
        let amounts = || self.slices.iter().map(|(_, amount)| *amount);
        (self.low, self.high) = (amounts().min().unwrap_or(0), amounts().max().unwrap_or(0));
    }
}

impl Totals {
    /// Makes a list of what is free from each moment on; the first is not empty.
    pub(crate) fn new(slices: &[(Time, u64)]) -> Self {
        let blocks = slices.chunks(LONG / 2);
        Self {
            blocks: blocks.map(|block| Block::new(block.to_vec())).collect(),
        }
    }

    /// Finds the first moment from one on at which so much is free for a span; `None`
    /// when it never is.
    pub(crate) fn earliest(&self, from: Time, need: u64, span: Duration) -> Option<Time> {
        let mut at = self.slice_of(from);
        let mut begin = from;
        loop {
            at = self.next(at, |amount| amount >= need)?;
            begin = begin.max(self.slice(at).0);
            let Some(lack) = self.next(at, |amount| amount < need) else {
                return Some(begin);
            };
            if self.slice(lack).0 >= begin + span {
                return Some(begin);
            }
            at = lack;
        }
    }

    fn slice(&self, (block, at): (usize, usize)) -> (Time, u64) {
        self.blocks[block].slices[at]
    }

    /// Gives the slice in which a moment lies.
    fn slice_of(&self, moment: Time) -> (usize, usize) {
        let after = |block: &Block| block.slices[0].0 <= moment;
        let block = self.blocks.partition_point(after).saturating_sub(1);
        let slices = &self.blocks[block].slices;
        let at = slices.partition_point(|(from, _)| *from <= moment);
        (block, at.saturating_sub(1))
    }

    /// Gives the first slice from one on that has so much.
    fn next(&self, from: (usize, usize), fits: impl Fn(u64) -> bool) -> Option<(usize, usize)> {
        let (first, mut skip) = from;
        for (number, block) in self.blocks.iter().enumerate().skip(first) {
            // What fits is all above or all below something.
            if fits(block.low) || fits(block.high) {
                let mut slices = block.slices.iter().enumerate().skip(skip);
                if let Some((at, _)) = slices.find(|(_, (_, amount))| fits(*amount)) {
                    return Some((number, at));
                }
            }
            skip = 0;
        }
        None
    }

    /// Takes so much from a moment on until another.
    pub(crate) fn take(&mut self, from: Time, until: Time, amount: u64) {
        self.change(from, until, |free| free.saturating_sub(amount));
    }

    /// Gives it back.
    pub(crate) fn give(&mut self, from: Time, until: Time, amount: u64) {
        self.change(from, until, |free| free.saturating_add(amount));
    }

    fn change(&mut self, from: Time, until: Time, change: impl Fn(u64) -> u64) {
        if until < Time::NEVER {
            self.split(until);
        }
        let (first, mut skip) = self.split(from);
        for block in &mut self.blocks[first..] {
            let end = block.slices.partition_point(|(at, _)| *at < until);
            let inside = skip.min(end)..end;
            let (is_whole, is_last) =
                (inside.len() == block.slices.len(), end < block.slices.len());
            for (_, free) in &mut block.slices[inside] {
                *free = change(*free);
            }
            match is_whole {
                true => {
                    block.low = change(block.low);
                    block.high = change(block.high);
                }
                false => block.count(),
            }
            if is_last {
                break;
            }
            skip = 0;
        }
    }

    /// Makes a slice begin at a moment.
    fn split(&mut self, moment: Time) -> (usize, usize) {
        let (number, at) = self.slice_of(moment);
        let block = &mut self.blocks[number];
        let (from, amount) = block.slices[at];
        if from >= moment {
            return (number, at);
        }
        block.slices.insert(at + 1, (moment, amount));
        if block.slices.len() > LONG {
            let rest = block.slices.split_off(LONG / 2);
            block.count();
            self.blocks.insert(number + 1, Block::new(rest));
            return self.slice_of(moment);
        }
        (number, at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_earliest_moment_is_that_of_a_plain_list(
            takes in prop::collection::vec((0u64..400, 1u64..60, 1u64..5), 0..300),
            asks in prop::collection::vec((0u64..400, 0u64..40, 1u64..80), 1..20),
        ) {
            let mut totals = Totals::new(&[(Time(0), 30)]);
            let mut plain = vec![30u64; 1000];
            for (from, span, amount) in takes {
                totals.take(Time(from), Time(from + span), amount);
                let there = &mut plain[from as usize..(from + span) as usize];
                there.iter_mut().for_each(|free| *free = free.saturating_sub(amount));
            }
            for (from, need, span) in asks {
                let fits = |at: &u64| (*at..at + span).all(|at| plain[at as usize] >= need);
                let right = (from..800).find(fits);
                let found = totals.earliest(Time(from), need, Duration::from_micros(span));
                prop_assert_eq!(found.map(|at| at.0), right);
            }
        }
    }
}
