use serde::{Deserialize, Serialize};

use super::super::power::draws;
use super::super::scenario;
use super::guest::{Guest, sum};
use super::record::{Note, Record};

/// The part of its MIPS that a VM has that leaves, as long as it leaves.
const LEAVING: f64 = 0.9;
/// The part that it has where it comes to.
const COMING: f64 = 0.1;

/// A host that gives VMs the MIPS that they ask for, and all less when that is too much:
/// CloudSim's `PowerHost` with `VmSchedulerTimeSharedOverSubscription`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Host {
    pub(super) like: scenario::Host,
    /// MIPS of all cores.
    pub(super) mips: f64,
    pub(super) placed: Vec<Placed>,
    /// VMs that are on their way to it.
    pub(super) coming: Vec<usize>,
    free: f64,
    memory: u64,
    storage: u64,
    bandwidth: u64,
    /// MIPS in use, as of the last look, and of the one before.
    used: f64,
    used_before: f64,
    pub(super) record: Record,
    pub(super) joules: f64,
    /// What of that was for no cloudlet.
    pub(super) idle: f64,
    pub(super) down: bool,
}

/// A VM on it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Placed {
    pub(super) guest: usize,
    cores: u32,
    /// MIPS that it asks for each core; none while it has not asked yet.
    asks: Option<f64>,
    /// MIPS that each of its cores has.
    has: f64,
    coming: bool,
    leaving: bool,
    memory: u64,
    storage: u64,
    bandwidth: u64,
}

impl Placed {
    fn all(&self) -> f64 {
        sum(self.has, self.cores)
    }

    /// What of what it asks for counts here.
    fn counts(&self, mips: f64) -> f64 {
        match self.coming {
            true => mips * COMING,
            false => mips,
        }
    }
}

impl Host {
    pub(super) fn new(like: &scenario::Host) -> Self {
        let mips = like.mips * f64::from(like.cores);
        Self {
            like: like.clone(),
            mips,
            placed: Vec::new(),
            coming: Vec::new(),
            free: mips,
            memory: like.memory_mib.unwrap_or(u64::MAX),
            storage: like.storage_mib.unwrap_or(u64::MAX),
            bandwidth: like.bandwidth_mbps.unwrap_or(u64::MAX),
            used: 0.0,
            used_before: 0.0,
            record: Record::default(),
            joules: 0.0,
            idle: 0.0,
            down: false,
        }
    }

    pub(super) const fn free(&self) -> f64 {
        self.free
    }

    pub(super) fn free_cores(&self) -> u64 {
        let taken = self.placed.iter().map(|its| u64::from(its.cores)).sum();
        u64::from(self.like.cores).saturating_sub(taken)
    }

    /// The share of its MIPS that is in use.
    pub(super) fn utilization(&self) -> f64 {
        self.share(self.used)
    }

    fn share(&self, used: f64) -> f64 {
        let share = used / self.mips;
        match share > 1.0 && share < 1.01 {
            true => 1.0,
            false => share,
        }
    }

    /// What it draws at a utilization, in watts.
    pub(super) fn draws(&self, utilization: f64) -> f64 {
        match self.like.power_watts.is_empty() {
            true => 0.0,
            false => draws(&self.like.power_watts, utilization),
        }
    }

    /// Joules in the time since the last look: on the line from what it drew then to what
    /// it draws now; none where nothing was in use.
    pub(super) fn frame(&self, seconds: f64) -> f64 {
        let before = self.share(self.used_before);
        if before == 0.0 {
            return 0.0;
        }
        let (from, to) = (self.draws(before), self.draws(self.utilization()));
        (from + (to - from) / 2.0) * seconds
    }

    /// Gives the part of what is in use that each VM has.
    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, f64)> {
        let all: f64 = self.placed.iter().map(Placed::all).sum();
        let part = move |its: &Placed| (all > 0.0).then(|| (its.guest, its.all() / all));
        self.placed.iter().filter_map(part)
    }

    /// MIPS in use, with all that those who come will use.
    pub(super) fn committed(&self) -> f64 {
        self.placed.iter().fold(0.0, |mut sum, its| {
            if its.coming {
                sum += its.all() * LEAVING / COMING;
            }
            sum + its.all()
        })
    }

    /// Whether it is chosen for a VM: what it lacks of storage shows only when it takes it.
    pub(super) fn suits(&self, guest: &Guest) -> bool {
        !self.down
            && guest.asks() <= self.like.mips
            && guest.asks_all() <= self.free
            && self.holds(guest)
    }

    fn holds(&self, guest: &Guest) -> bool {
        guest.asks_memory() <= self.memory && guest.asks_bandwidth() <= self.bandwidth
    }

    /// Whether it can take a VM.
    pub(super) fn can_take(&self, guest: &Guest) -> bool {
        guest.like.storage_mib <= self.storage && self.holds(guest)
    }

    /// Takes a VM, with as much as there is of what it asks for.
    pub(super) fn put(&mut self, number: usize, guest: &Guest, coming: bool) {
        let placed = Placed {
            guest: number,
            cores: guest.like.cores,
            asks: None,
            has: 0.0,
            coming,
            leaving: guest.moving && !coming,
            memory: guest.asks_memory().min(self.memory),
            storage: guest.like.storage_mib.min(self.storage),
            bandwidth: guest.asks_bandwidth().min(self.bandwidth),
        };
        self.memory -= placed.memory;
        self.storage -= placed.storage;
        self.bandwidth -= placed.bandwidth;
        self.placed.push(placed);
        self.give(self.placed.len() - 1, guest.asks());
    }

    /// Lets a VM go, if it has it.
    pub(super) fn leave(&mut self, number: usize) {
        let Some(place) = self.placed.iter().position(|its| its.guest == number) else {
            return;
        };
        let gone = self.placed.remove(place);
        self.memory += gone.memory;
        self.storage += gone.storage;
        self.bandwidth += gone.bandwidth;
        let asked: Vec<Option<f64>> = self.placed.iter().map(|its| its.asks).collect();
        self.clear();
        for (place, asks) in asked.into_iter().enumerate() {
            if let Some(asks) = asks {
                self.give(place, asks);
            }
        }
    }

    /// Lets all go.
    pub(super) fn leave_all(&mut self) {
        for gone in self.placed.drain(..) {
            self.memory += gone.memory;
            self.storage += gone.storage;
            self.bandwidth += gone.bandwidth;
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.free = self.mips;
        for its in &mut self.placed {
            its.asks = None;
        }
    }

    /// Gives a VM what it asks for; if that is too much, all get less in proportion, in
    /// whole MIPS.
    fn give(&mut self, place: usize, asks: f64) {
        let most = self.like.mips;
        let its = &mut self.placed[place];
        its.asks = Some(asks);
        let capped = asks.min(most);
        let all = its.counts(sum(capped, its.cores));
        if self.free >= all {
            its.has = match (its.leaving, its.coming) {
                (true, _) => capped * LEAVING,
                (_, true) => capped * COMING,
                _ => capped,
            };
            self.free -= all;
            return;
        }
        let wanted = |its: &Placed| Some(its.counts(sum(its.asks?.min(most), its.cores)));
        let wanted: f64 = self.placed.iter().filter_map(wanted).sum();
        let scale = self.mips / wanted;
        for its in &mut self.placed {
            if let Some(asks) = its.asks {
                let capped = asks.min(most);
                its.has = match (its.leaving, its.coming) {
                    (true, _) => capped * scale * LEAVING,
                    (_, true) => capped * COMING * scale,
                    _ => capped * scale,
                }
                .floor();
            }
        }
        self.free = 0.0;
    }

    /// Has nothing in use from now on.
    pub(super) fn go_down(&mut self, now: f64) {
        self.down = true;
        (self.used, self.used_before) = (0.0, 0.0);
        let note = Note {
            time: now,
            got: 0.0,
            asked: 0.0,
            state: false,
        };
        self.record.note(note, true);
    }

    /// Lets its VMs work until now, and then gives them what they ask for. Gives whether
    /// something of them goes on.
    pub(super) fn update(
        &mut self,
        guests: &mut [Guest],
        now: f64,
        interval: f64,
        ended: &mut Vec<u32>,
    ) -> bool {
        if self.down {
            return false;
        }
        let mut goes_on = false;
        for its in &self.placed {
            let guest = &mut guests[its.guest];
            goes_on |= guest.update(now, its.has, ended);
            guest.remember(now, interval);
        }
        self.used_before = self.used;
        self.clear();
        for place in 0..self.placed.len() {
            let its = &mut self.placed[place];
            let guest = &guests[its.guest];
            its.leaving = guest.moving && !its.coming;
            self.give(place, guest.asks());
        }
        let (mut used, mut asked) = (0.0, 0.0);
        for its in &self.placed {
            let guest = &mut guests[its.guest];
            let (mut has, asks) = (its.all(), guest.asks_all());
            if !its.coming {
                let note = Note {
                    time: now,
                    got: has,
                    asked: asks,
                    state: its.leaving,
                };
                guest.record.note(note, false);
                if guest.moving {
                    has /= LEAVING;
                }
            }
            used += has;
            asked += asks;
        }
        self.used = used;
        let note = Note {
            time: now,
            got: used,
            asked,
            state: used > 0.0,
        };
        self.record.note(note, true);
        goes_on
    }
}
