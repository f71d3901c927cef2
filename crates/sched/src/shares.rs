use std::time::Duration;

use crate::time::Time;

/// The number of a share: its place in the order in which shares were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareNumber(pub u32);

/// Who is promised what part of a cluster, and who has used how much of it lately:
/// a tree of accounts, with users as its leaves.
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
    children: Vec<usize>,
    /// Its part, beside those of its siblings.
    part: u64,
    /// What it and all below it have used, as it counts now.
    used: f64,
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

    /// Makes a share of a parent's, or of the cluster's: of so many parts, beside its
    /// siblings' parts.
    ///
    /// # Panics
    /// When there is no such parent.
    pub fn add(&mut self, parent: Option<ShareNumber>, part: u64) -> ShareNumber {
        let number = self.tree.len();
        let parent = parent.map(|parent| parent.0 as usize);
        match parent {
            Some(parent) => self.tree[parent].children.push(number),
            None => self.roots.push(number),
        }
        self.tree.push(Share {
            parent,
            children: Vec::new(),
            part,
            used: 0.0,
        });
        ShareNumber(number as u32)
    }

    /// Charges a share, and those that it is part of, for what it has used until now,
    /// such as core-seconds.
    pub fn charge(&mut self, share: ShareNumber, used: f64, now: Time) {
        self.forget(now);
        let mut at = Some(share.0 as usize);
        while let Some(share) = at.and_then(|at| self.tree.get_mut(at)) {
            share.used += used;
            at = share.parent;
        }
    }

    fn forget(&mut self, now: Time) {
        let passed = now.since(self.as_of).as_secs_f64();
        self.as_of = self.as_of.max(now);
        let half_life = self.half_life.map(|half_life| half_life.as_secs_f64());
        if let Some(half_life) = half_life.filter(|half_life| *half_life > 0.0 && passed > 0.0) {
            let left = (-passed / half_life).exp2();
            self.tree.iter_mut().for_each(|share| share.used *= left);
        }
    }

    /// Gives what is due to each user, by the number of the share: 1 to whom most is
    /// due, then less by one part of as many as there are users; nothing to accounts.
    ///
    /// An account that has used less of its part than another has all of its users
    /// before the other's. (Slurm's fair tree, `slurm.schedmd.com/fair_tree.html`.)
    /// As all usage fades alike, time alone changes nothing.
    pub fn factors(&self) -> Vec<f64> {
        let users = self.tree.iter().filter(|share| share.children.is_empty());
        let mut ranks = Ranks {
            users: users.count() as f64,
            rank: 0.0,
            next: 0.0,
            factors: vec![0.0; self.tree.len()],
        };
        ranks.next = ranks.users;
        self.rank(&self.with_levels(&[&self.roots]), false, &mut ranks);
        ranks.factors
    }

    /// Gives the members of lists of siblings, each with how far it is below its part:
    /// its part among its siblings by what it used of what they did.
    fn with_levels(&self, lists: &[&Vec<usize>]) -> Vec<(f64, usize)> {
        let mut all = Vec::new();
        for siblings in lists {
            let parts: u64 = siblings.iter().map(|&at| self.tree[at].part).sum();
            let used: f64 = siblings.iter().map(|&at| self.tree[at].used).sum();
            all.extend(siblings.iter().map(|&at| {
                let share = &self.tree[at];
                let level = match (share.part, share.used > 0.0) {
                    (0, _) => 0.0,
                    (_, false) => f64::INFINITY,
                    (part, true) => (part as f64 / parts as f64) / (share.used / used),
                };
                (level, at)
            }));
        }
        let is_account = |at: usize| !self.tree[at].children.is_empty();
        all.sort_by(|a, b| {
            let by_level = b.0.total_cmp(&a.0);
            by_level.then_with(|| (is_account(a.1), a.1).cmp(&(is_account(b.1), b.1)))
        });
        all
    }

    /// Ranks what is below; the first is as good as who was ranked last when `tied`.
    fn rank(&self, sorted: &[(f64, usize)], tied: bool, ranks: &mut Ranks) {
        let mut number = 0;
        while let Some(&(level, at)) = sorted.get(number) {
            let tied = match number.checked_sub(1).map(|before| sorted[before]) {
                Some((before, _)) => before.total_cmp(&level).is_eq(),
                None => tied,
            };
            if self.tree[at].children.is_empty() {
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
            let children: Vec<_> = alike.iter().map(|&at| &self.tree[at].children).collect();
            self.rank(&self.with_levels(&children), tied, ranks);
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

    fn tree(parts: &[(Option<u32>, u64)], used: &[(u32, f64)]) -> Vec<f64> {
        let mut shares = Shares::new(None);
        for &(parent, part) in parts {
            shares.add(parent.map(ShareNumber), part);
        }
        for &(share, used) in used {
            shares.charge(ShareNumber(share), used, Time(0));
        }
        shares.factors()
    }

    #[test]
    fn who_has_used_less_of_what_is_his_comes_first() {
        // Three with the same part; then one with twice the part, who used the same.
        let three = [(None, 1), (None, 1), (None, 1)];
        let factors = tree(&three, &[(0, 50.0), (1, 10.0)]);
        assert_eq!(factors, [1.0 / 3.0, 2.0 / 3.0, 1.0]);
        let factors = tree(&[(None, 2), (None, 1)], &[(0, 10.0), (1, 10.0)]);
        assert_eq!(factors, [1.0, 0.5]);
        // Nobody has used anything: all are alike. No part, no right.
        assert_eq!(tree(&three, &[]), [1.0, 1.0, 1.0]);
        assert_eq!(tree(&[(None, 0), (None, 1)], &[(1, 9.0)]), [0.5, 1.0]);
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
        let used = [(2, 60.0), (3, 1.0), (4, 40.0)];
        assert_eq!(tree(&parts, &used), [0.0, 0.0, 0.25, 0.5, 0.75, 1.0]);
        // Accounts that are equally far are one: their users are told apart by themselves.
        let used = [(2, 30.0), (3, 10.0), (4, 20.0), (5, 20.0)];
        assert_eq!(tree(&parts, &used), [0.0, 0.0, 0.25, 1.0, 0.75, 0.75]);
    }

    #[test]
    fn what_was_used_fades() {
        let day = Duration::from_secs(86_400);
        let mut shares = Shares::new(Some(day));
        let (a, b) = (shares.add(None, 1), shares.add(None, 1));
        shares.charge(a, 100.0, Time(0));
        // After two days a quarter of it counts.
        shares.charge(b, 30.0, Time(0) + 2 * day);
        assert_eq!(shares.factors(), [1.0, 0.5]);
        // A clock that goes back gives nothing back.
        shares.charge(b, 0.0, Time(0));
        assert_eq!(shares.factors(), [1.0, 0.5]);
    }
}
