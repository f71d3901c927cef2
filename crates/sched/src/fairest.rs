use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use crate::amounts::Amounts;
use crate::cluster::Cluster;
use crate::queue::Entry;

/// Puts jobs, which come in the order in which each user's are to start, in the order
/// in which those start who have least: one after the other, each as if it were started.
pub(crate) fn fairest<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    cluster: &'a Cluster,
) -> impl Iterator<Item = &'a Entry> {
    let mut lines: BTreeMap<_, VecDeque<(usize, &Entry)>> = BTreeMap::new();
    for (place, entry) in entries.enumerate() {
        let standing = &entry.queued.standing;
        // Ranks come first whoever has what.
        let line = lines.entry((Reverse(standing.rank), standing.share));
        line.or_default().push_back((place, entry));
    }
    let mut turns: BinaryHeap<Reverse<Turn<'_>>> = lines
        .into_iter()
        .map(|((rank, share), line)| Reverse(Turn::new(rank.0, cluster.had(share), line, cluster)))
        .collect();
    std::iter::from_fn(move || {
        let Reverse(mut turn) = turns.pop()?;
        let (_, entry) = turn.line.pop_front()?;
        if !turn.line.is_empty() {
            turn.had.add(&entry.queued.request.total(), 1);
            turns.push(Reverse(Turn::new(turn.rank, turn.had, turn.line, cluster)));
        }
        Some(entry)
    })
}

/// Whose turn it may be.
struct Turn<'a> {
    rank: u16,
    /// The largest share of anything that is had.
    share: f64,
    had: Amounts,
    line: VecDeque<(usize, &'a Entry)>,
}

impl<'a> Turn<'a> {
    fn new(rank: u16, had: Amounts, line: VecDeque<(usize, &'a Entry)>, cluster: &Cluster) -> Self {
        let share = |(kind, amount): (usize, u64)| amount as f64 / cluster.total().of(kind) as f64;
        Self {
            rank,
            share: had.kinds().map(share).fold(0.0, f64::max),
            had,
            line,
        }
    }
}

impl Ord for Turn<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |turn: &Self| turn.line.front().map(|(place, _)| *place);
        let by_rank = other.rank.cmp(&self.rank);
        let by_share = by_rank.then_with(|| self.share.total_cmp(&other.share));
        by_share.then_with(|| place(self).cmp(&place(other)))
    }
}

impl PartialOrd for Turn<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Turn<'_> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::allocation::Part;
    use crate::cluster::{Node, NodeNumber, Running};
    use crate::order::{Order, Standing};
    use crate::queue::{JobNumber, Queue, Queued};
    use crate::request::Request;
    use crate::shares::ShareNumber;
    use crate::time::Time;

    /// The order of jobs, each by whom and for how many cores and how much memory, on 9
    /// cores and 18 of memory, of which the second user has some.
    fn order(jobs: &[(u32, u64, u64)], had: u64) -> Vec<u64> {
        let node = Node {
            name: "n".into(),
            capacity: Amounts::new([9000, 18]),
        };
        let mut cluster = Cluster::new(vec![node]);
        let standing = |user| Standing {
            share: ShareNumber(user),
            ..Standing::default()
        };
        let part = Part::of(NodeNumber(0), Amounts::cores(had * 1000));
        let running = Running {
            allocation: [part].into_iter().collect(),
            since: Time(0),
            until: Time::NEVER,
            standing: standing(1),
            ending: false,
        };
        cluster.start_as(JobNumber(100), running);
        let mut queue = Queue::new(Order::Fairest);
        for (number, (user, cores, memory)) in (0..).zip(jobs) {
            queue.insert(Queued {
                job: JobNumber(number),
                submitted: Time(number),
                limit: Duration::from_secs(60),
                least: None,
                request: Request::one(Amounts::new([cores * 1000, *memory])).into(),
                standing: standing(*user),
            });
        }
        let entries = queue.in_order(&cluster, Time(0));
        entries.map(|entry| entry.queued.job.0).collect()
    }

    #[test]
    fn who_has_the_smallest_dominant_share_is_next() {
        // The example of the paper: one takes 1 core and 4 of memory, the other 3 and 1.
        let (a, b) = ((0, 1, 4), (1, 3, 1));
        // Shares: a 2/9 after each, b 1/3.
        assert_eq!(order(&[a, a, a, b, b, b], 0), [0, 3, 1, 4, 2, 5]);
        assert_eq!(order(&[b, b, a, a, a], 0), [0, 2, 3, 1, 4]);
        // The second has five ninths already.
        assert_eq!(order(&[b, b, a, a, a], 5), [2, 3, 4, 0, 1]);
    }
}
