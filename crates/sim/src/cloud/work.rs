use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::scenario::Sharing;

/// CloudSim counts millionths of a million instructions, rounded down: what is left is
/// never less than it should be.
const LEAST: f64 = 1e-6;

/// The cloudlets of a VM on its cores, or on its GPUs: CloudSim's `CloudletSchedulerTimeShared` and
/// `CloudletSchedulerSpaceShared`.
///
/// Every cloudlet that runs gets the same MIPS on each of its cores, so one number says
/// how far all of them are: the work that one has had which runs from the beginning. A
/// cloudlet is over when that has grown by its length.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    sharing: Sharing,
    cores: u32,
    mips: f64,
    /// Cores of the cloudlets that run.
    busy: u64,
    /// The part of the MIPS of the VM that its cloudlets have.
    left: f64,
    /// MIPS of each of these cores.
    rate: f64,
    /// The same, as it was when its datacenter last looked.
    seen: f64,
    /// Million instructions on a core since it began to have work, until `at`.
    done: f64,
    at: Moment,
    entered: u32,
    classes: Vec<Class>,
}

/// Cloudlets that work on the same number of cores at once.
#[derive(Debug, Serialize, Deserialize)]
struct Class {
    cores: u32,
    running: BinaryHeap<Reverse<Running>>,
    waiting: VecDeque<Waiting>,
}

/// A cloudlet, as a VM sees it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Piece {
    pub(super) cloudlet: u32,
    /// Cores that it works on, or GPUs.
    pub(super) units: u32,
    /// Million instructions on each of them.
    pub(super) length: f64,
}

/// Where it stands among those that wait.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Waiting {
    entered: u32,
    piece: Piece,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Running {
    /// How much work of a core it is over after.
    end: f64,
    entered: u32,
    cloudlet: u32,
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Running {}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Running {
    fn cmp(&self, other: &Self) -> Ordering {
        self.end
            .total_cmp(&other.end)
            .then(self.entered.cmp(&other.entered))
    }
}

impl Class {
    /// Gives the one that is over first.
    fn first(&self) -> Option<&Running> {
        self.running.peek().map(|Reverse(first)| first)
    }

    /// Whole million instructions that are left of it.
    fn left(&self, first: &Running, done: f64) -> f64 {
        let left = (first.end - done) * f64::from(self.cores);
        (left + LEAST).floor().max(0.0)
    }
}

/// What came of a look at a VM's cloudlets.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// What is over, in the order in which it began.
    pub(super) ended: Vec<u32>,
    /// What begins to run.
    pub(super) started: Option<u32>,
}

impl Work {
    /// Begins with nothing to do.
    pub(super) fn new(sharing: Sharing, cores: u32, mips: f64, left: f64, now: Moment) -> Self {
        let mips = mips * left;
        Self {
            sharing,
            cores,
            mips,
            busy: 0,
            left,
            rate: mips,
            seen: mips,
            done: 0.0,
            at: now,
            entered: 0,
            classes: Vec::new(),
        }
    }

    /// Cores of the cloudlets that run.
    pub(super) const fn busy(&self) -> u64 {
        self.busy
    }

    /// MIPS of the VM that are in use.
    pub(super) fn used(&self) -> f64 {
        self.rate * self.busy as f64 / self.left
    }

    /// Takes a cloudlet. Gives how many seconds it is expected to take if it starts.
    ///
    /// It counts as if it had been there when the datacenter last looked.
    pub(super) fn submit(&mut self, piece: Piece, looked: Moment) -> Option<f64> {
        self.settle(looked);
        if self.free() < u64::from(piece.units) {
            let entered = self.enter();
            let class = self.class(piece.units);
            class.waiting.push_back(Waiting { entered, piece });
            return None;
        }
        self.start(piece);
        self.rate = self.shared();
        Some(piece.length / self.seen)
    }

    /// Takes a cloudlet up again, at a look at which it was there: it has had so much work of
    /// a core since the look before.
    pub(super) fn resume(&mut self, piece: Piece, seconds: f64, now: Moment) {
        self.settle(now);
        let had = self.seen * seconds;
        self.start(Piece {
            length: piece.length - had,
            ..piece
        });
        self.rate = self.shared();
    }

    /// Looks how far all are: ends what is over, and starts one that waits.
    pub(super) fn look(&mut self, now: Moment) -> Look {
        self.settle(now);
        let mut over = Vec::new();
        for class in &mut self.classes {
            while let Some(first) = class.first()
                && class.left(first, self.done) == 0.0
            {
                over.push((first.entered, first.cloudlet));
                self.busy -= u64::from(class.cores);
                class.running.pop();
            }
        }
        over.sort_unstable();
        let next = self.next();
        if let Some(piece) = next {
            self.start(piece);
        }
        self.seen = self.rate;
        self.rate = self.shared();
        Look {
            ended: over.into_iter().map(|(_, cloudlet)| cloudlet).collect(),
            started: next.map(|piece| piece.cloudlet),
        }
    }

    /// Gives the moment from which on a look finds something that is over: of which less
    /// than a million instructions are left.
    pub(super) fn ripe(&self) -> Moment {
        let ripe = |class: &Class| {
            let first = class.first()?;
            let over = first.end - (1.0 - LEAST) / f64::from(class.cores);
            Some(Moment(
                self.at.0 + ((over - self.done) / self.rate).max(0.0),
            ))
        };
        self.classes
            .iter()
            .filter_map(ripe)
            .min()
            .unwrap_or(Moment::NEVER)
    }

    /// When the first is over, as a look sees it now: with what is left in whole
    /// millions, at the rate until now, though there may be fewer from now on.
    pub(super) fn expected(&self, now: Moment) -> Moment {
        let done = self.done_until(now);
        let end = |class: &Class| {
            let left = class.left(class.first()?, done);
            Some(Moment(now.0 + left / (self.seen * f64::from(class.cores))))
        };
        self.classes
            .iter()
            .filter_map(end)
            .min()
            .unwrap_or(Moment::NEVER)
    }

    /// Whether another look finds something else than the last one, whenever it is.
    pub(super) fn unsettled(&self) -> bool {
        let free = self.free();
        let starts = |class: &Class| u64::from(class.cores) <= free && !class.waiting.is_empty();
        self.rate != self.seen || self.classes.iter().any(starts)
    }

    /// Loses what it has: gives its cloudlets, in the order in which they came, and of those
    /// that ran how many million instructions are left on each of their cores.
    pub(super) fn lose(&mut self, now: Moment) -> Vec<(u32, Option<f64>)> {
        self.settle(now);
        let mut lost = Vec::new();
        for class in self.classes.drain(..) {
            let running = class.running.into_iter().map(|Reverse(its)| {
                let left = (its.end - self.done).max(0.0);
                (its.entered, its.cloudlet, Some(left))
            });
            lost.extend(running);
            let waiting = class.waiting.into_iter();
            lost.extend(waiting.map(|its| (its.entered, its.piece.cloudlet, None)));
        }
        lost.sort_unstable_by_key(|(entered, ..)| *entered);
        self.busy = 0;
        self.rate = self.shared();
        self.seen = self.rate;
        let lost = lost.into_iter();
        lost.map(|(_, cloudlet, left)| (cloudlet, left)).collect()
    }

    fn done_until(&self, now: Moment) -> f64 {
        self.done + self.rate * (now.0 - self.at.0).max(0.0)
    }

    fn settle(&mut self, now: Moment) {
        self.done = match self.busy {
            0 => 0.0,
            _ => self.done_until(now),
        };
        self.at = self.at.max(now);
    }

    fn start(&mut self, piece: Piece) {
        self.busy += u64::from(piece.units);
        let running = Running {
            end: self.done + piece.length,
            entered: self.enter(),
            cloudlet: piece.cloudlet,
        };
        self.class(piece.units).running.push(Reverse(running));
    }

    fn enter(&mut self) -> u32 {
        self.entered += 1;
        self.entered
    }

    fn class(&mut self, cores: u32) -> &mut Class {
        let known = self.classes.iter().position(|class| class.cores == cores);
        let place = known.unwrap_or_else(|| {
            // Most have one, and there may be very many VMs.
            self.classes.reserve_exact(1);
            self.classes.push(Class {
                cores,
                running: BinaryHeap::new(),
                waiting: VecDeque::new(),
            });
            self.classes.len() - 1
        });
        &mut self.classes[place]
    }

    /// Cores for one more.
    fn free(&self) -> u64 {
        match self.sharing {
            Sharing::TimeShared => u64::MAX,
            Sharing::SpaceShared => u64::from(self.cores).saturating_sub(self.busy),
        }
    }

    /// Takes the one that has waited longest of those for which there are cores.
    fn next(&mut self) -> Option<Piece> {
        let free = self.free();
        let fits = |class: &&mut Class| u64::from(class.cores) <= free;
        let heads = self.classes.iter_mut().filter(fits).filter_map(|class| {
            let entered = class.waiting.front()?.entered;
            Some((entered, &mut class.waiting))
        });
        let (_, queue) = heads.min_by_key(|(entered, _)| *entered)?;
        queue.pop_front().map(|one| one.piece)
    }

    /// What each core of a cloudlet gets.
    fn shared(&self) -> f64 {
        let cores = u64::from(self.cores);
        self.mips * cores as f64 / self.busy.max(cores) as f64
    }
}
