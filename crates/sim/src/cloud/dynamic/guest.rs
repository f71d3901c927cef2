use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::scenario::{self, Progress};
use super::super::utilization::Model;
use super::record::{Note, Record};

/// CloudSim counts millionths of a million instructions.
const MILLION: i64 = 1_000_000;
/// So many looks are remembered.
pub(super) const REMEMBERED: usize = 30;

/// A VM that gives its cloudlets what they ask for: CloudSim's `PowerVm` with
/// `CloudletSchedulerDynamicWorkload`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Guest {
    /// Its place in the world's list.
    pub(super) vm: u32,
    pub(super) like: scenario::Vm,
    /// The part of its MIPS that its cloudlets have.
    left: f64,
    /// Whether it is being made: it then asks for all that it may.
    pub(super) new: bool,
    pub(super) host: Option<usize>,
    pub(super) moving: bool,
    /// Whether it stays when it asks for nothing: its broker scales and gives it up itself, or
    /// its cloudlets may wait for data.
    pub(super) kept: bool,
    /// Whether it stays so, and has got a cloudlet since it worked last.
    fresh: bool,
    /// Whether it has had a cloudlet.
    pub(super) had: bool,
    running: Vec<Running>,
    /// What cloudlets have done since energy was counted last, in millionths of a million
    /// instructions.
    worked: Vec<(u32, f64)>,
    /// Until when its cloudlets have worked.
    at: f64,
    /// MIPS that its host gives to each of its cores.
    share: f64,
    /// MIPS that it asks for each of its cores.
    asks: f64,
    asked_at: f64,
    /// Shares that its cloudlets ask for.
    pub(super) load: f64,
    memory_load: f64,
    bandwidth_load: f64,
    /// What `load` was, the oldest first.
    pub(super) history: VecDeque<f64>,
    remembered_at: f64,
    pub(super) record: Record,
    pub(super) joules: f64,
}

/// A cloudlet in it.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Task {
    pub(in super::super) cloudlet: u32,
    pub(in super::super) cores: u32,
    /// Million instructions on each of its cores.
    pub(in super::super) length: f64,
    pub(in super::super) cpu: Model,
    pub(in super::super) memory: Model,
    pub(in super::super) bandwidth: Model,
}

#[derive(Debug, Serialize, Deserialize)]
struct Running {
    task: Task,
    /// Millionths of a million instructions.
    length: i64,
    done: i64,
}

impl Running {
    /// Whole million instructions.
    fn left(&self) -> i64 {
        (self.length - self.done).max(0) / MILLION
    }
}

/// Adds so many cores up, one after another as CloudSim does.
pub(super) fn sum(each: f64, cores: u32) -> f64 {
    (0..cores).fold(0.0, |sum, _| sum + each)
}

impl Guest {
    pub(super) fn new(vm: u32, like: &scenario::Vm, kept: bool) -> Self {
        Self {
            vm,
            like: like.clone(),
            left: like.left(),
            new: true,
            host: None,
            moving: false,
            kept,
            fresh: false,
            had: false,
            running: Vec::new(),
            worked: Vec::new(),
            at: 0.0,
            share: 0.0,
            asks: 0.0,
            asked_at: -1.0,
            load: 0.0,
            memory_load: 0.0,
            bandwidth_load: 0.0,
            history: VecDeque::new(),
            remembered_at: 0.0,
            record: Record::default(),
            joules: 0.0,
        }
    }

    /// Gives its cloudlets.
    pub(super) fn tasks(&mut self) -> impl Iterator<Item = &mut Task> {
        self.running.iter_mut().map(|its| &mut its.task)
    }

    /// MIPS that it asks for each of its cores.
    pub(super) fn asks(&self) -> f64 {
        match self.new {
            true => self.like.mips,
            false => self.asks,
        }
    }

    /// MIPS that it asks for.
    pub(super) fn asks_all(&self) -> f64 {
        sum(self.asks(), self.like.cores)
    }

    pub(super) fn asks_memory(&self) -> u64 {
        self.part(self.memory_load, self.like.memory_mib)
    }

    pub(super) fn asks_bandwidth(&self) -> u64 {
        self.part(self.bandwidth_load, self.like.bandwidth_mbps)
    }

    fn part(&self, load: f64, all: u64) -> u64 {
        match self.new {
            true => all,
            false => ((load * all as f64) as u64).min(all),
        }
    }

    fn all_mips(&self) -> f64 {
        f64::from(self.like.cores) * self.like.mips
    }

    /// MIPS for a cloudlet with so many cores that asks for such a share.
    fn gives(&self, share: f64, cores: u32) -> f64 {
        let most = sum(self.share, cores.min(self.like.cores));
        (share * self.all_mips()).min(most)
    }

    /// Takes a cloudlet. Gives when it is expected to end, as it looks.
    pub(super) fn submit(&mut self, mut task: Task) -> f64 {
        let cores = i64::from(task.cores);
        let length = (task.length as i64).saturating_mul(cores);
        let share = task.cpu.at(self.at);
        let rate = self.gives(share, task.cores);
        (self.had, self.fresh) = (true, self.kept);
        self.running.push(Running {
            task,
            length: length.saturating_mul(MILLION),
            done: 0,
        });
        self.at + length as f64 / (rate * self.left)
    }

    /// Lets its cloudlets work until now, at the MIPS that its host gives. Adds those that
    /// have ended, and gives whether one goes on.
    pub(super) fn update(&mut self, now: f64, share: f64, ended: &mut Vec<u32>) -> bool {
        self.share = share;
        let span = now - self.at;
        // Who asked for nothing before has nothing yet, and is given more now.
        let mut goes_on = self.fresh;
        self.fresh &= span == 0.0;
        let mut running = std::mem::take(&mut self.running);
        let mut worked = std::mem::take(&mut self.worked);
        running.retain_mut(|its| {
            let rate = self.gives(its.task.cpu.at(self.at), its.task.cores);
            let more = (span * rate * self.left * MILLION as f64) as i64;
            its.done = its.done.saturating_add(more).min(its.length);
            worked.push((its.task.cloudlet, more as f64));
            if its.left() == 0 {
                ended.push(its.task.cloudlet);
                return false;
            }
            goes_on |= self.gives(its.task.cpu.at(now), its.task.cores) > 0.0;
            true
        });
        (self.running, self.worked) = (running, worked);
        self.at = now;
        self.ask();
        goes_on
    }

    fn ask(&mut self) {
        let at = self.at;
        (self.load, self.memory_load, self.bandwidth_load) = (0.0, 0.0, 0.0);
        for its in &mut self.running {
            self.load += its.task.cpu.at(at);
            self.memory_load += its.task.memory.at(at);
            self.bandwidth_load += its.task.bandwidth.at(at);
        }
        if self.asked_at != at {
            self.asked_at = at;
            self.asks = self.load * self.all_mips() / f64::from(self.like.cores);
        }
    }

    /// Has nothing from now on: its host has failed.
    pub(super) fn go_down(&mut self, now: f64) {
        let note = Note {
            time: now,
            got: 0.0,
            asked: self.asks_all(),
            state: false,
        };
        self.record.note(note, false);
    }

    /// Goes on after that, on a host that works. Adds cloudlets that begin anew, where they
    /// have lost what they had done.
    pub(super) fn go_on(&mut self, now: f64, progress: Progress, restarted: &mut Vec<u32>) {
        (self.at, self.share) = (now, 0.0);
        if progress == Progress::Lose {
            for its in &mut self.running {
                its.done = 0;
                restarted.push(its.task.cloudlet);
            }
        }
    }

    /// Has a part of what its host drew, and divides it among its cloudlets by what they have
    /// done since the last time; where none has, among those that are there. Gives what is
    /// nobody's.
    pub(super) fn draw(&mut self, joules: f64, drawn: &mut Vec<(u32, f64)>) -> f64 {
        self.joules += joules;
        let all: f64 = self.worked.iter().map(|(_, done)| done).sum();
        let alike = 1.0 / self.running.len() as f64;
        let parts = self.worked.iter().filter(|_| all > 0.0);
        let parts = parts.map(|(cloudlet, done)| (*cloudlet, done / all));
        let others = self.running.iter().filter(|_| all == 0.0);
        let parts = parts.chain(others.map(|its| (its.task.cloudlet, alike)));
        let before = drawn.len();
        drawn.extend(parts.map(|(cloudlet, part)| (cloudlet, joules * part)));
        match drawn.len() > before {
            true => 0.0,
            false => joules,
        }
    }

    /// Forgets what its cloudlets have done.
    pub(super) fn forget_work(&mut self) {
        self.worked.clear();
    }

    /// Remembers its load, at most once in each interval.
    pub(super) fn remember(&mut self, now: f64, interval: f64) {
        if now - self.remembered_at >= interval {
            if now != 0.0 || self.load != 0.0 {
                if self.history.len() == REMEMBERED {
                    self.history.pop_front();
                }
                self.history.push_back(self.load);
            }
            self.remembered_at = now;
        }
    }
}
