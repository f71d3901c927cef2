//! Who has used how much lately, and what is due to whom.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use hyperion_sched::{Allocation, CORES, MEMORY, NodeNumber, Order, ShareNumber, Shares, Time};

use crate::ask::Site;
use crate::ledger::Ledger;
use crate::record::Submitted;
use crate::rules::{Rules, minutes};
use crate::state::TaskId;

/// The accounts of a site and their users, with what they have used.
#[derive(Debug, Clone)]
pub(crate) struct Fair {
    tree: Shares,
    accounts: BTreeMap<String, ShareNumber>,
    /// By account, and by number.
    users: BTreeMap<(Option<String>, u32), ShareNumber>,
}

/// What a user has used in an account, or in none, as it counts at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The account.
    pub account: Option<String>,
    /// The number of the user.
    pub user: u32,
    /// Thousandths of core-seconds.
    pub core_milliseconds: u64,
}

/// What a user or an account is promised, and what it has used.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareOf {
    /// The accounts in which it lies, the outermost first, and itself where it is one.
    pub accounts: Vec<String>,
    /// Its number, where it is a user.
    pub user: Option<u32>,
    /// Its part, beside its siblings'.
    pub part: u64,
    /// That of all of its siblings', itself too.
    pub parts: u64,
    /// What it has used, in core-seconds, as it counts now.
    pub used: f64,
    /// What is due to it, from 0 to 1; none to accounts.
    pub due: Option<f64>,
}

impl Fair {
    /// Makes the accounts that the rules know.
    pub(crate) fn new(rules: &Rules) -> Self {
        let half_life = rules.fair_share.half_life_minutes;
        let mut fair = Self {
            tree: Shares::new((half_life > 0).then(|| minutes(half_life))),
            accounts: BTreeMap::new(),
            users: BTreeMap::new(),
        };
        for (name, account) in &rules.accounts {
            let number = fair.account(name, rules, rules.accounts.len());
            for (&user, &part) in &account.users {
                let number = fair.tree.user(Some(number), part);
                fair.users.insert((Some(name.clone()), user), number);
            }
        }
        fair
    }

    /// Gives the share of an account. `depth` is how many there may be above it: a file in
    /// which accounts lie in each other has no end.
    fn account(&mut self, name: &str, rules: &Rules, depth: usize) -> ShareNumber {
        if let Some(number) = self.accounts.get(name) {
            return *number;
        }
        let said = rules.accounts.get(name);
        let parent = said.and_then(|said| said.parent.as_ref());
        let parent = parent.filter(|_| depth > 0);
        let parent = parent.map(|parent| self.account(parent, rules, depth - 1));
        if let Some(number) = self.accounts.get(name) {
            return *number;
        }
        let part = said.map_or(1, |said| said.shares);
        let number = self.tree.account(parent, part);
        self.accounts.insert(name.to_owned(), number);
        number
    }

    /// Gives the share of a user in an account; one that nobody has spoken of has one part.
    pub(crate) fn user(&mut self, account: Option<&str>, user: u32, rules: &Rules) -> ShareNumber {
        let key = (account.map(str::to_owned), user);
        if let Some(number) = self.users.get(&key) {
            return *number;
        }
        let depth = rules.accounts.len();
        let account = account.map(|account| self.account(account, rules, depth));
        let number = self.tree.user(account, 1);
        self.users.insert(key, number);
        number
    }

    /// Tells what each user has used, in each account.
    pub(crate) fn used(&self, now: Time) -> Vec<Used> {
        let used = self.users.iter().map(|((account, user), number)| Used {
            account: account.clone(),
            user: *user,
            core_milliseconds: (self.tree.used(*number, now) * 1000.0) as u64,
        });
        used.filter(|used| used.core_milliseconds > 0).collect()
    }

    /// Takes what each user has used, in place of what was charged until now.
    pub(crate) fn settle(&mut self, used: &[Used], rules: &Rules, now: Time) {
        let used = used.iter().map(|used| {
            let share = self.user(used.account.as_deref(), used.user, rules);
            (share, used.core_milliseconds as f64 / 1000.0)
        });
        let used: Vec<(ShareNumber, f64)> = used.collect();
        self.tree.settle(&used, now);
    }

    fn charge(&mut self, share: ShareNumber, rate: u64, begins: bool, at: Time) {
        match begins {
            true => self.tree.begin(share, rate, at),
            false => self.tree.end(share, rate, at),
        }
    }
}

impl Ledger {
    /// Gives the share of which a job uses.
    pub(crate) fn share_of(&mut self, asked: &Submitted) -> ShareNumber {
        let submission = &asked.submission;
        let account = submission.account.as_ref().or(submission.project.as_ref());
        let account = account.map(String::as_str);
        self.fair.user(account, asked.user, &self.rules)
    }

    /// Charges a share for what somebody has from now on, or does so no longer.
    pub(crate) fn charge(
        &mut self,
        share: ShareNumber,
        allocation: &Allocation,
        begins: bool,
        at: Time,
    ) {
        let rate = rate(&self.site, &self.rules, allocation);
        self.fair.charge(share, rate, begins, at);
    }

    /// Charges a task that has nodes, or does so no longer.
    pub(crate) fn charge_task(&mut self, task: TaskId, begins: bool, at: Time) {
        if let Some(its) = self.cluster.running().get(&task.number()) {
            let rate = rate(&self.site, &self.rules, &its.allocation);
            self.fair.charge(its.standing.share, rate, begins, at);
        }
    }

    /// Gives what is due to whom, where that counts.
    pub(crate) fn due(&self, now: Time) -> Option<Vec<f64>> {
        let counts = matches!(self.order, Order::Multifactor(weights) if weights.fair_share > 0);
        counts.then(|| self.fair.tree.factors(now))
    }

    /// Gives what everybody is promised and has used: each account, then what is in it.
    pub fn shares(&self, now: Time) -> Vec<ShareOf> {
        let due = self.fair.tree.factors(now);
        let mut list = Vec::new();
        self.shares_below(None, &mut Vec::new(), &due, now, &mut list);
        list
    }

    fn shares_below(
        &self,
        account: Option<&str>,
        path: &mut Vec<String>,
        due: &[f64],
        now: Time,
        list: &mut Vec<ShareOf>,
    ) {
        let fair = &self.fair;
        let said = |name: &str| self.rules.accounts.get(name);
        let parent = |name: &str| said(name).and_then(|said| said.parent.as_deref());
        let inside = fair
            .accounts
            .iter()
            .filter(|(name, _)| parent(name) == account && !path.contains(name));
        let inside: Vec<(&String, ShareNumber, u64)> = inside
            .map(|(name, number)| (name, *number, said(name).map_or(1, |said| said.shares)))
            .collect();
        let users = fair
            .users
            .iter()
            .filter(|((of, _), _)| of.as_deref() == account);
        let users: Vec<(u32, ShareNumber, u64)> = users
            .map(|((_, user), number)| {
                let part = account.and_then(said).and_then(|said| said.users.get(user));
                (*user, *number, part.copied().unwrap_or(1))
            })
            .collect();
        let parts = inside
            .iter()
            .map(|its| its.2)
            .chain(users.iter().map(|its| its.2))
            .sum();
        for (user, number, part) in users {
            list.push(ShareOf {
                accounts: path.clone(),
                user: Some(user),
                part,
                parts,
                used: fair.tree.used(number, now),
                due: due.get(number.0 as usize).copied(),
            });
        }
        for (name, number, part) in inside {
            path.push(name.clone());
            list.push(ShareOf {
                accounts: path.clone(),
                user: None,
                part,
                parts,
                used: fair.tree.used(number, now),
                due: None,
            });
            self.shares_below(Some(name), path, due, now, list);
            path.pop();
        }
    }
}

fn rate(site: &Site, rules: &Rules, allocation: &Allocation) -> u64 {
    let charge = &rules.fair_share;
    let mut rate: u64 = 0;
    for part in allocation
        .iter()
        .filter(|part| part.node != NodeNumber::NONE)
    {
        rate = rate.saturating_add(part.taken.of(CORES));
        if let Some(core) = charge.memory_per_core_mib.filter(|core| *core > 0) {
            let memory = part.taken.of(MEMORY) >> 10;
            rate = rate.saturating_add(memory.saturating_mul(1000) / (core << 10));
        }
        for (kind, each) in &charge.charge {
            if let Some(at) = site.kind(kind) {
                let cores = part.taken.of(at).saturating_mul(*each);
                rate = rate.saturating_add(cores.saturating_mul(1000));
            }
        }
    }
    rate
}
