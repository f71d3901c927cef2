use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::allocation::Allocation;
use crate::amounts::{Amounts, CORES};
use crate::time::Time;

/// The number of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuotaNumber(pub u32);

/// How much those who share a quota may have at a time; without end where absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caps {
    /// How many jobs run.
    pub jobs: Option<u64>,
    /// How much of a kind they have, by the number of the kind.
    pub amounts: Vec<(usize, u64)>,
    /// What their cores, by their time limits, come to in core-seconds.
    pub core_seconds: Option<u64>,
}

/// What those who share a quota have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// How many jobs run.
    pub jobs: u64,
    /// How much they have on nodes.
    pub amounts: Amounts,
    /// What their cores, by their time limits, come to in core-seconds.
    pub core_seconds: u64,
}

impl Used {
    /// What one job comes to.
    pub(crate) fn one(amounts: Amounts, since: Time, until: Time) -> Self {
        let seconds = until.0.saturating_sub(since.0).div_ceil(1_000_000);
        let core_seconds = seconds.saturating_mul(amounts.of(CORES)).div_ceil(1000);
        Self {
            jobs: 1,
            amounts,
            core_seconds,
        }
    }

    pub(crate) fn of(allocation: &Allocation, since: Time, until: Time) -> Self {
        Self::one(allocation.total(), since, until)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.amounts.add(&other.amounts, 1);
        self.core_seconds = self.core_seconds.saturating_add(other.core_seconds);
    }

    pub(crate) fn take(&mut self, other: &Self) {
        self.jobs -= other.jobs;
        self.amounts.take(&other.amounts);
        self.core_seconds = self.core_seconds.saturating_sub(other.core_seconds);
    }
}

impl Caps {
    /// Tells whether there is room for one more beside what is used.
    pub(crate) fn allow(&self, used: &Used, more: &Used) -> bool {
        let is_within = |most: Option<u64>, used: u64, more: u64| {
            most.is_none_or(|most| used.saturating_add(more) <= most)
        };
        let amounts = |(kind, most): &(usize, u64)| {
            is_within(Some(*most), used.amounts.of(*kind), more.amounts.of(*kind))
        };
        is_within(self.jobs, used.jobs, more.jobs)
            && is_within(self.core_seconds, used.core_seconds, more.core_seconds)
            && self.amounts.iter().all(amounts)
    }
}

/// All quotas of a cluster, and what is used of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotas {
    caps: Vec<Caps>,
    used: Vec<Used>,
}

impl Quotas {
    pub(crate) fn add(&mut self, caps: Caps) -> QuotaNumber {
        self.caps.push(caps);
        self.used.push(Used::default());
        QuotaNumber(self.caps.len() as u32 - 1)
    }

    pub(crate) fn set(&mut self, quota: QuotaNumber, caps: Caps) {
        self.caps[quota.0 as usize] = caps;
    }

    pub(crate) fn used(&self, quota: QuotaNumber) -> &Used {
        &self.used[quota.0 as usize]
    }

    pub(crate) fn start(&mut self, quotas: &[QuotaNumber], one: &Used) {
        for quota in quotas {
            self.used[quota.0 as usize].add(one);
        }
    }

    pub(crate) fn end(&mut self, quotas: &[QuotaNumber], one: &Used) {
        for quota in quotas {
            self.used[quota.0 as usize].take(one);
        }
    }
}

/// Quotas beside what a plan starts.
pub(crate) struct Purse<'a> {
    quotas: &'a Quotas,
    more: BTreeMap<QuotaNumber, Used>,
}

impl<'a> Purse<'a> {
    pub(crate) fn new(quotas: &'a Quotas) -> Self {
        Self {
            quotas,
            more: BTreeMap::new(),
        }
    }

    /// Gives the first quota that does not allow one more.
    pub(crate) fn refuses(&self, quotas: &[QuotaNumber], one: &Used) -> Option<QuotaNumber> {
        quotas.iter().copied().find(|quota| {
            let at = quota.0 as usize;
            let mut used = self.quotas.used[at].clone();
            if let Some(more) = self.more.get(quota) {
                used.add(more);
            }
            !self.quotas.caps[at].allow(&used, one)
        })
    }

    pub(crate) fn start(&mut self, quotas: &[QuotaNumber], one: &Used) {
        for quota in quotas {
            self.more.entry(*quota).or_default().add(one);
        }
    }
}
