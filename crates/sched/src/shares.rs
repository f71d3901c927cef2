use std::time::Duration;

use crate::time::Time;

/// The number of a share: its place in the order in which shares were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareNumber(pub u32);

/// Who is promised what part of a cluster, and who has used how much of it lately:
/// a tree of accounts, with users as its leaves.
///
/// Usage is charged as it happens: whoever has something uses it from one moment to the
/// next, and all of it fades from the moment on in which it was used.
#[derive(Debug, Clone)]
pub struct Shares {
    /// After that time half of what was used is forgotten; never when absent.
    half_life: Option<Duration>,
    tree: Vec<Share>,
    roots: Vec<usize>,
    as_of: Time,
}

#[derive(Debug, Clone)]
struct Share {
    parent: Option<usize>,
    /// Those below it, where it is an account.
    children: Option<Vec<usize>>,
    /// Its part, beside those of its siblings.
    part: u64,
    /// What it and all below it have used, as it counted at [`Shares::as_of`].
    used: f64,
    /// What they use, in thousandths a second.
    rate: u64,
}

/// What time makes of usage: how much of the old is left, and how much a rate of one
/// comes to.
#[derive(Clone, Copy)]
struct Passed {
    left: f64,
    gained: f64,
}

impl Share {
    fn used(&self, passed: Passed) -> f64 {
        self.used * passed.left + self.rate as f64 / 1000.0 * passed.gained
    }
}

impl Shares {
    /// Makes a tree without shares.
    pub fn new(half_life: Option<Duration>) -> Self {
        Self {
            half_life,
            tree: Vec::new(),
            roots: Vec::new(),
            as_of: Time(0),
        }
    }

    /// Makes a share for an account, of another's or of the cluster's: of so many parts,
    /// beside its siblings' parts.
    ///
    /// # Panics
    /// When there is no such parent.
    pub fn account(&mut self, parent: Option<ShareNumber>, part: u64) -> ShareNumber {
        self.add(parent, part, Some(Vec::new()))
    }

    /// Makes one for a user, who has nobody below him.
    ///
    /// # Panics
    /// When there is no such account.
    pub fn user(&mut self, account: Option<ShareNumber>, part: u64) -> ShareNumber {
        self.add(account, part, None)
    }

    fn add(
        &mut self,
        parent: Option<ShareNumber>,
        part: u64,
        children: Option<Vec<usize>>,
    ) -> ShareNumber {
        let number = self.tree.len();
        let parent = parent.map(|parent| parent.0 as usize);
        match parent {
            Some(parent) => self.tree[parent]
                .children
                .get_or_insert_default()
                .push(number),
            None => self.roots.push(number),
        }
        self.tree.push(Share {
            parent,
            children,
            part,
            used: 0.0,
            rate: 0,
        });
        ShareNumber(number as u32)
    }

    /// Charges a share, and those that it is part of, from now on: so many thousandths
    /// of something a second, such as of cores.
    pub fn begin(&mut self, share: ShareNumber, rate: u64, now: Time) {
        self.change(share, now, |share| share.rate += rate);
    }

    /// Charges them that much less from now on.
    pub fn end(&mut self, share: ShareNumber, rate: u64, now: Time) {
        self.change(share, now, |share| {
            share.rate = share.rate.saturating_sub(rate);
        });
    }

    /// Says how much each user has used up to now, in place of what was charged until now.
    /// Users that are not named have used nothing.
    pub fn settle(&mut self, used: &[(ShareNumber, f64)], now: Time) {
        self.as_of = self.as_of.max(now);
        for share in &mut self.tree {
            share.used = 0.0;
        }
        for (user, used) in used {
            let mut at = Some(user.0 as usize);
            while let Some(share) = at.and_then(|at| self.tree.get_mut(at)) {
                share.used += used;
                at = share.parent;
            }
        }
    }

    fn change(&mut self, share: ShareNumber, now: Time, change: impl Fn(&mut Share)) {
        let passed = self.passed(now);
        self.as_of = self.as_of.max(now);
        for share in &mut self.tree {
            share.used = share.used(passed);
        }
        let mut at = Some(share.0 as usize);
        while let Some(share) = at.and_then(|at| self.tree.get_mut(at)) {
            change(share);
            at = share.parent;
        }
    }

    fn passed(&self, now: Time) -> Passed {
        let passed = now.since(self.as_of).as_secs_f64();
        let half_life = self.half_life.map(|half_life| half_life.as_secs_f64());
        match half_life.filter(|half_life| *half_life > 0.0) {
            Some(half_life) => {
                let left = (-passed / half_life).exp2();
                let gained = (1.0 - left) * half_life / std::f64::consts::LN_2;
                Passed { left, gained }
            }
            None => Passed {
                left: 1.0,
                gained: passed,
            },
        }
    }

    /// Gives what a share and those below it have used, as it counts now; nothing where
    /// there is no such share.
    pub fn used(&self, share: ShareNumber, now: Time) -> f64 {
        let share = self.tree.get(share.0 as usize);
        share.map_or(0.0, |share| share.used(self.passed(now)))
    }

    /// Gives what is due to each user, by the number of the share: 1 to whom most is
    /// due, then less by one part of as many as there are users; nothing to accounts.
    ///
    /// An account that has used less of its part than another has all of its users
    /// before the other's. (Slurm's fair tree, `slurm.schedmd.com/fair_tree.html`.)
    pub fn factors(&self, now: Time) -> Vec<f64> {
        let users = self.tree.iter().filter(|share| share.children.is_none());
        let mut ranks = Ranks {
            users: users.count() as f64,
            rank: 0.0,
            next: 0.0,
            factors: vec![0.0; self.tree.len()],
        };
        ranks.next = ranks.users;
        let passed = self.passed(now);
        let sorted = self.with_levels(&[&self.roots], passed);
        self.rank(&sorted, false, passed, &mut ranks);
        ranks.factors
    }

    /// Gives the members of lists of siblings, each with how far it is below its part:
    /// its part among its siblings by what it used of what they did.
    fn with_levels(&self, lists: &[&Vec<usize>], passed: Passed) -> Vec<(f64, usize)> {
        let mut all = Vec::new();
        for siblings in lists {
            let parts: u64 = siblings.iter().map(|&at| self.tree[at].part).sum();
            let used: f64 = siblings.iter().map(|&at| self.tree[at].used(passed)).sum();
            all.extend(siblings.iter().map(|&at| {
                let share = &self.tree[at];
                let own = share.used(passed);
                let level = match (share.part, own > 0.0) {
                    (0, _) => 0.0,
                    (_, false) => f64::INFINITY,
                    (part, true) => (part as f64 / parts as f64) / (own / used),
                };
                (level, at)
            }));
        }
        let is_account = |at: usize| self.tree[at].children.is_some();
        all.sort_by(|a, b| {
            let by_level = b.0.total_cmp(&a.0);
            by_level.then_with(|| (is_account(a.1), a.1).cmp(&(is_account(b.1), b.1)))
        });
        all
    }

    /// Ranks what is below; the first is as good as who was ranked last when `tied`.
    fn rank(&self, sorted: &[(f64, usize)], tied: bool, passed: Passed, ranks: &mut Ranks) {
        let mut number = 0;
        while let Some(&(level, at)) = sorted.get(number) {
            let tied = match number.checked_sub(1).map(|before| sorted[before]) {
                Some((before, _)) => before.total_cmp(&level).is_eq(),
                None => tied,
            };
            if self.tree[at].children.is_none() {
                ranks.place(at, tied);
                number += 1;
                continue;
            }
            // Accounts that are equally far are one.
            let equal = |other: &&(f64, usize)| other.0.total_cmp(&level).is_eq();
            let alike: Vec<usize> = sorted[number..]
                .iter()
                .take_while(equal)
                .map(|s| s.1)
                .collect();
            let children = alike
                .iter()
                .filter_map(|&at| self.tree[at].children.as_ref());
            let children: Vec<_> = children.collect();
            let below = self.with_levels(&children, passed);
            self.rank(&below, tied, passed, ranks);
            number += alike.len();
        }
    }
}

struct Ranks {
    users: f64,
    rank: f64,
    next: f64,
    factors: Vec<f64>,
}

impl Ranks {
    fn place(&mut self, at: usize, tied: bool) {
        if !tied {
            self.rank = self.next;
        }
        self.factors[at] = self.rank / self.users;
        self.next -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes shares, each with the number of its account and its part; who is named as an
    /// account is one. Whoever used something used it within a second.
    fn tree(parts: &[(Option<u32>, u64)], used: &[(u32, u64)]) -> Vec<f64> {
        let mut shares = Shares::new(None);
        for (number, &(parent, part)) in (0..).zip(parts) {
            let parent = parent.map(ShareNumber);
            match parts.iter().any(|(parent, _)| *parent == Some(number)) {
                true => shares.account(parent, part),
                false => shares.user(parent, part),
            };
        }
        for &(share, used) in used {
            shares.begin(ShareNumber(share), used * 1000, Time(0));
        }
        shares.factors(Time::seconds(1))
    }

    #[test]
    fn who_has_used_less_of_what_is_his_comes_first() {
        // Three with the same part; then one with twice the part, who used the same.
        let three = [(None, 1), (None, 1), (None, 1)];
        let factors = tree(&three, &[(0, 50), (1, 10)]);
        assert_eq!(factors, [1.0 / 3.0, 2.0 / 3.0, 1.0]);
        let factors = tree(&[(None, 2), (None, 1)], &[(0, 10), (1, 10)]);
        assert_eq!(factors, [1.0, 0.5]);
        // Nobody has used anything: all are alike. No part, no right.
        assert_eq!(tree(&three, &[]), [1.0, 1.0, 1.0]);
        assert_eq!(tree(&[(None, 0), (None, 1)], &[(1, 9)]), [0.5, 1.0]);
        assert_eq!(tree(&[], &[]), [0.0; 0]);
    }

    #[test]
    fn users_of_a_better_account_come_before_all_of_a_worse_one() {
        // a: users 2 and 3; b: users 4 and 5. a has used more than b, b's user 4 most of all.
        let parts = [
            (None, 1),
            (None, 1),
            (Some(0), 1),
            (Some(0), 1),
            (Some(1), 1),
            (Some(1), 1),
        ];
        let used = [(2, 60), (3, 1), (4, 40)];
        assert_eq!(tree(&parts, &used), [0.0, 0.0, 0.25, 0.5, 0.75, 1.0]);
        // Accounts that are equally far are one: their users are told apart by themselves.
        let used = [(2, 30), (3, 10), (4, 20), (5, 20)];
        assert_eq!(tree(&parts, &used), [0.0, 0.0, 0.25, 1.0, 0.75, 0.75]);
    }

    #[test]
    fn what_was_used_fades() {
        let day = Duration::from_secs(86_400);
        let mut shares = Shares::new(Some(day));
        let (a, b) = (shares.user(None, 1), shares.user(None, 1));
        let (second, later) = (Time::seconds(1), Time(0) + 2 * day);
        shares.begin(a, 100_000, Time(0));
        shares.end(a, 100_000, second);
        // After two days a quarter of it counts.
        shares.begin(b, 30_000, later);
        shares.end(b, 30_000, later + Duration::from_secs(1));
        let now = later + Duration::from_secs(1);
        assert_eq!(shares.factors(now), [1.0, 0.5]);
        assert!((shares.used(a, now) - 25.0).abs() < 0.01);
        assert!((shares.used(b, now) - 30.0).abs() < 0.01);
        // A clock that goes back gives nothing back.
        shares.begin(b, 0, Time(0));
        assert_eq!(shares.factors(Time(0)), [1.0, 0.5]);
        assert!((shares.used(b, Time(0)) - 30.0).abs() < 0.01);
    }

    #[test]
    fn one_who_uses_always_has_used_what_a_half_life_holds() {
        let day = Duration::from_secs(86_400);
        let mut shares = Shares::new(Some(day));
        let (account, other) = (shares.account(None, 1), shares.user(None, 1));
        let user = shares.user(Some(account), 1);
        shares.begin(user, 2000, Time(0));
        // The sum of what is left of each second: a day over ln 2, at two a second.
        let long = Time(0) + 100 * day;
        let most = 2.0 * 86_400.0 / std::f64::consts::LN_2;
        for share in [account, user] {
            assert!((shares.used(share, long) - most).abs() < 1.0);
        }
        // However often it is looked at.
        for hour in 0..48 {
            shares.begin(other, 0, Time::seconds(hour * 3600));
        }
        let two = shares.used(user, Time(0) + 2 * day);
        assert!((two - 0.75 * most).abs() < 1.0, "{two}");
    }
}
