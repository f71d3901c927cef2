use crate::amounts::{Amounts, CORES, MEMORY};
use crate::cluster::{Cluster, NodeNumber};
use crate::nodeset::WORD;
use crate::profile::Line;
use crate::queue::Queue;
use crate::time::Time;

/// Which nodes have free cores at some moment of each of many equal spans of time, so
/// that those which have none need not be looked at: any core, more than half of the
/// largest node's, or as many as it has.
pub(crate) struct Epochs {
    start: Time,
    /// How long each is, in microseconds; the last one has no end.
    width: u64,
    count: usize,
    /// What must be free, by level.
    least: [u64; LEVELS],
    /// By level: 64 nodes in a word, and the epochs of the same nodes beside each other. Of
    /// one epoch it says nothing: every node may have room.
    open: [Vec<u64>; LEVELS],
    /// Which nodes have some of each kind of device at all, 64 in a word.
    devices: Vec<Vec<u64>>,
}

const LEVELS: usize = 5;

impl Epochs {
    /// Reads them off the lines of the nodes: from now until about when all is done.
    pub(crate) fn new(
        cluster: &Cluster,
        lines: &[Line],
        (now, last): (Time, Time),
        queue: &Queue,
    ) -> Self {
        let words = lines.len().div_ceil(WORD);
        // A few nodes are looked at sooner than spans of time are kept up to date.
        let count = if words > 1 { 512 } else { 1 };
        let mut work: u128 = 0;
        for queued in queue.iter().filter(|_| count > 1) {
            let limit = queued.limit.as_micros();
            // Those without a limit do not make the end any clearer.
            if limit < u128::from(u64::MAX) {
                work += limit * u128::from(queued.request.cores());
            }
        }
        let rest = work / u128::from(cluster.cores().max(1));
        let rest = u64::try_from(rest)
            .unwrap_or(u64::MAX / 4)
            .min(u64::MAX / 4);
        let horizon = (last.0 - now.0).saturating_add(rest);
        let cores = cluster.nodes().iter().map(|node| node.capacity.of(CORES));
        let most = cores.max().unwrap_or(0);
        let mut devices = Vec::new();
        for (node, at) in cluster.nodes().iter().zip(0..) {
            for (kind, _) in node.capacity.kinds().filter(|(kind, _)| *kind > MEMORY) {
                if devices.len() <= kind {
                    devices.resize(kind + 1, vec![0; words]);
                }
                devices[kind][at / WORD] |= 1 << (at % WORD);
            }
        }
        let mut epochs = Self {
            start: now,
            width: (horizon / count as u64).max(1),
            count,
            least: [1, most / 8, most / 4, most / 2, most].map(|least| least.max(1)),
            open: std::array::from_fn(|_| {
                vec![if count > 1 { 0 } else { u64::MAX }; words * count]
            }),
            devices,
        };
        for (line, at) in lines.iter().zip(0..).filter(|_| count > 1) {
            epochs.set(NodeNumber(at), line, 0, count - 1);
        }
        epochs
    }

    fn of(&self, moment: Time) -> usize {
        let number = (moment.0 - self.start.0) / self.width;
        (number as usize).min(self.count - 1)
    }

    /// Gives the epochs that a span of time has a part of.
    fn during(&self, from: Time, until: Time) -> (usize, usize) {
        (self.of(from), self.of(Time(until.0 - 1)))
    }

    /// Reads a node's line anew where a span of time has changed.
    pub(crate) fn mark(&mut self, node: NodeNumber, line: &Line, from: Time, until: Time) {
        if self.count == 1 {
            return;
        }
        let (first, last) = self.during(from, until);
        let (at, bit) = (node.index() / WORD * self.count, 1 << (node.index() % WORD));
        for level in &mut self.open {
            let epochs = &mut level[at + first..=at + last];
            epochs.iter_mut().for_each(|word| *word &= !bit);
        }
        self.set(node, line, first, last);
    }

    fn set(&mut self, node: NodeNumber, line: &Line, first: usize, last: usize) {
        let begin = Time(self.start.0 + first as u64 * self.width);
        let end = match last + 1 == self.count {
            true => Time::NEVER,
            false => Time(self.start.0 + (last as u64 + 1) * self.width),
        };
        let (at, bit) = (node.index() / WORD * self.count, 1 << (node.index() % WORD));
        for (from, until, free) in line.steps(begin, end) {
            let cores = free.of(CORES);
            let levels = self.least.map(|least| cores >= least);
            if !levels[0] {
                continue;
            }
            let (from, until) = self.during(from.max(begin), until.min(end));
            for (level, _) in self.open.iter_mut().zip(levels).filter(|(_, is)| *is) {
                let epochs = &mut level[at + from..=at + until];
                epochs.iter_mut().for_each(|word| *word |= bit);
            }
        }
    }

    /// Tells whether a node may have `each` free at a moment.
    pub(crate) fn may_have(&self, node: NodeNumber, each: &Amounts, at: Time) -> bool {
        let nodes = self.open(node.index() / WORD, each, at, Time(at.0 + 1));
        nodes & (1 << (node.index() % WORD)) != 0
    }

    /// Gives those of 64 nodes that may have `each` free during a span of time.
    pub(crate) fn open(&self, word: usize, each: &Amounts, from: Time, until: Time) -> u64 {
        let cores = each.of(CORES);
        let mut open = u64::MAX;
        for (kind, _) in each.kinds().filter(|(kind, _)| *kind > MEMORY) {
            open &= self.devices.get(kind).map_or(0, |nodes| nodes[word]);
        }
        let Some(level) = self.least.iter().rposition(|least| cores >= *least) else {
            return open;
        };
        let (first, last) = self.during(from, until);
        let at = word * self.count;
        let epochs = &self.open[level][at + first..=at + last];
        epochs.iter().fold(open, |open, epoch| open & epoch)
    }
}
