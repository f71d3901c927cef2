use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The kind that every node has first: processor, in thousandths of a core.
pub const CORES: usize = 0;
/// The kind after it: memory, in bytes.
pub const MEMORY: usize = 1;

/// How much of each kind of resource, by the kind's number, in fixed point:
/// sums are exact. A kind that is not there is zero.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Amounts(SmallVec<[u64; 4]>);

impl Clone for Amounts {
    /// Copies them all at once, which the list itself would do one by one.
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0))
    }
}

impl Amounts {
    /// Makes amounts from those of the kinds in their order.
    pub fn new(amounts: impl IntoIterator<Item = u64>) -> Self {
        Self(amounts.into_iter().collect())
    }

    /// Makes amounts of processor alone, in thousandths of a core.
    pub fn cores(thousandths: u64) -> Self {
        Self::new([thousandths])
    }

    /// Makes amounts of one kind alone.
    pub fn only(kind: usize, amount: u64) -> Self {
        let mut amounts = SmallVec::from_elem(0, kind + 1);
        amounts[kind] = amount;
        Self(amounts)
    }

    /// Gives the amount of a kind.
    pub fn of(&self, kind: usize) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// Tells whether there is nothing of any kind.
    pub fn is_nothing(&self) -> bool {
        self.0.iter().all(|&amount| amount == 0)
    }

    /// Tells whether all of this is there in `others`.
    pub fn is_within(&self, others: &Self) -> bool {
        let mut kinds = self.0.iter().enumerate();
        kinds.all(|(kind, &amount)| amount <= others.of(kind))
    }

    /// Tells how many times `each` is in this; as often as one likes for nothing.
    pub fn times(&self, each: &Self) -> u64 {
        let kinds = each.0.iter().enumerate().filter(|(_, amount)| **amount > 0);
        let times = kinds.map(|(kind, amount)| self.of(kind) / amount);
        times.min().unwrap_or(u64::MAX)
    }

    /// Adds as much of each kind, `times` over.
    pub fn add(&mut self, others: &Self, times: u64) {
        if self.0.is_empty() && times == 1 {
            self.clone_from(others);
            return;
        }
        if self.0.len() < others.0.len() {
            self.0.resize(others.0.len(), 0);
        }
        for (amount, other) in self.0.iter_mut().zip(&others.0) {
            *amount = amount.saturating_add(other.saturating_mul(times));
        }
    }

    /// Takes as much of each kind away, down to nothing.
    pub fn take(&mut self, others: &Self) {
        for (amount, other) in self.0.iter_mut().zip(&others.0) {
            *amount = amount.saturating_sub(*other);
        }
    }

    /// Makes each kind at least as much as there is in `others`.
    pub(crate) fn raise(&mut self, others: &Self) {
        if self.0.len() < others.0.len() {
            self.0.resize(others.0.len(), 0);
        }
        for (amount, other) in self.0.iter_mut().zip(&others.0) {
            *amount = (*amount).max(*other);
        }
    }

    /// Tells whether there is as much of some kind as in `peak`.
    pub(crate) fn leads(&self, peak: &Self) -> bool {
        let mut kinds = self.0.iter().enumerate();
        kinds.any(|(kind, &amount)| amount > 0 && amount >= peak.of(kind))
    }

    /// Tells whether there is something beside processor and memory.
    pub(crate) fn has_devices(&self) -> bool {
        self.0.iter().skip(MEMORY + 1).any(|&amount| amount > 0)
    }

    /// Gives the kinds of which there is something, and how much.
    pub fn kinds(&self) -> impl Iterator<Item = (usize, u64)> {
        let kinds = self.0.iter().copied().enumerate();
        kinds.filter(|(_, amount)| *amount > 0)
    }

    /// Leaves of each kind no more than there is in `others`.
    pub fn limit(&mut self, others: &Self) {
        for (kind, amount) in self.0.iter_mut().enumerate() {
            *amount = (*amount).min(others.of(kind));
        }
    }
}

impl PartialEq for Amounts {
    fn eq(&self, other: &Self) -> bool {
        self.is_within(other) && other.is_within(self)
    }
}

impl Eq for Amounts {}

impl PartialOrd for Amounts {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amounts {
    /// Compares the amounts of the first kind, then of the next.
    fn cmp(&self, other: &Self) -> Ordering {
        let kinds = 0..self.0.len().max(other.0.len());
        kinds
            .map(|kind| self.of(kind))
            .cmp((0..other.0.len().max(self.0.len())).map(|kind| other.of(kind)))
    }
}
