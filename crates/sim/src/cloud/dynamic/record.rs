use serde::{Deserialize, Serialize};

/// What a VM or a host asked for and got, from one look to the next: CloudSim's state
/// history, counted as it grows. Of several notes at one moment the last counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    before: Option<Note>,
    last: Option<Note>,
    pub(super) sums: Sums,
    /// When the state came that ends next.
    since: f64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) time: f64,
    /// MIPS.
    pub(super) got: f64,
    pub(super) asked: f64,
    /// Of a VM: whether it leaves its host. Of a host: whether it works.
    pub(super) state: bool,
}

/// What notes come to.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Million instructions.
    pub(super) got: f64,
    pub(super) asked: f64,
    /// What was lacking while the VM left its host.
    pub(super) lacked_moving: f64,
    /// The shares that were lacking, and at how many looks.
    pub(super) lacked: f64,
    pub(super) looks_lacking: u64,
    /// Seconds in which the host worked, and lacked something.
    pub(super) working: f64,
    pub(super) lacking: f64,
    /// How long each migration took, or each time of work until a shutdown.
    pub(super) times: Times,
}

/// How many times there were, and their sums.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl Record {
    /// Notes how it is. `first` is the state before the first note.
    pub(super) fn note(&mut self, note: Note, first: bool) {
        if let Some(last) = self.last
            && last.time != note.time
        {
            self.settle(first);
            self.before = Some(last);
        }
        self.last = Some(note);
    }

    /// Counts from the note before the last to the last.
    pub(super) fn settle(&mut self, first: bool) {
        let Some(now) = self.last else {
            return;
        };
        let was = self.before.map_or(first, |before| before.state);
        if was && !now.state {
            self.sums.times.count += 1;
            self.sums.times.sum += now.time - self.since;
        }
        if now.state && !was {
            self.since = now.time;
        }
        let Some(before) = self.before else {
            return;
        };
        let time = now.time - before.time;
        self.sums.got += before.got * time;
        self.sums.asked += before.asked * time;
        let lacked = before.asked - before.got;
        if before.state {
            self.sums.working += time;
        }
        if lacked > 0.0 {
            self.sums.lacked += lacked / before.asked;
            self.sums.looks_lacking += 1;
            if before.state {
                self.sums.lacked_moving += lacked * time;
                self.sums.lacking += time;
            }
        }
    }
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.got += other.got;
        self.asked += other.asked;
        self.lacked_moving += other.lacked_moving;
        self.lacked += other.lacked;
        self.looks_lacking += other.looks_lacking;
        self.working += other.working;
        self.lacking += other.lacking;
        self.times.count += other.times.count;
        self.times.sum += other.times.sum;
    }
}
