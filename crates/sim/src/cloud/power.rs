use serde::{Deserialize, Serialize};

use super::clock::Moment;

/// Counts what a host draws, and what of that is for whom.
///
/// Between changes all is constant, so the sums are exact. A machine has the part of
/// what the host draws that it has of the MIPS in use; while nothing is in use, it is
/// nobody's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Meter {
    watts: Box<[f64]>,
    mips: f64,
    used: f64,
    /// Cores of all cloudlets that run.
    cores: u64,
    at: Moment,
    joules: f64,
    /// What of that was drawn while nothing was in use.
    idle: f64,
    /// Joules for each of the MIPS in use.
    each: f64,
    off: bool,
}

/// What a machine has of it, and what of that each core has on which it works: its cloudlets
/// have as much of it as they have cores.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Share {
    used: f64,
    /// Cores of its cloudlets that run.
    cores: u64,
    each: f64,
    pub(super) joules: f64,
    /// Joules for one core that works since the beginning.
    pub(super) core: f64,
}

impl Meter {
    /// Begins with nothing in use. Without watts nothing is counted.
    pub(super) fn new(watts: &[f64], mips: f64, now: Moment) -> Option<Self> {
        (!watts.is_empty()).then(|| Self {
            watts: watts.into(),
            mips,
            used: 0.0,
            cores: 0,
            at: now,
            joules: 0.0,
            idle: 0.0,
            each: 0.0,
            off: false,
        })
    }

    /// Counts until now, and draws nothing from now on as long as it is off.
    pub(super) fn switch(&mut self, off: bool, now: Moment) {
        self.until(now);
        self.off = off;
    }

    /// Counts until now, and notes what a machine uses from now on, for so many cores of
    /// cloudlets.
    pub(super) fn change(&mut self, share: &mut Share, used: f64, cores: u64, now: Moment) {
        self.until(now);
        let joules = share.used * (self.each - share.each);
        share.joules += joules;
        if share.cores > 0 {
            share.core += joules / share.cores as f64;
        }
        share.each = self.each;
        self.used = (self.used + used - share.used).max(0.0);
        self.cores = self.cores + cores - share.cores;
        if self.cores == 0 {
            // What rounding leaves is nobody's.
            self.used = 0.0;
        }
        (share.used, share.cores) = (used, cores);
    }

    /// Counts until now, and gives what was drawn.
    pub(super) fn until(&mut self, now: Moment) -> f64 {
        let joules = self.draws() * (now.0 - self.at.0).max(0.0);
        self.at = self.at.max(now);
        self.joules += joules;
        match self.used > 0.0 {
            true => self.each += joules / self.used,
            false => self.idle += joules,
        }
        self.joules
    }

    /// What was drawn while nothing was in use.
    pub(super) const fn idle(&self) -> f64 {
        self.idle
    }

    /// What it draws now.
    fn draws(&self) -> f64 {
        match self.off {
            true => 0.0,
            false => draws(&self.watts, self.used / self.mips),
        }
    }
}

/// What a host draws by its curve: between two points of it, on the line. Computed as
/// CloudSim's `PowerModelSpecPower` does, which decides between hosts that are alike.
pub(super) fn draws(watts: &[f64], utilization: f64) -> f64 {
    let steps = (watts.len() - 1) as f64;
    let share = utilization.min(1.0);
    let below = (share * steps).floor();
    let above = (share * steps).ceil();
    let (low, high) = (watts[below as usize], watts[above as usize]);
    low + (high - low) / steps * (share - below / steps) * (steps * steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_follows_the_curve_and_is_shared_by_use() {
        let mut meter = Meter::new(&[100.0, 120.0, 200.0], 1000.0, Moment(0.0)).expect("watts");
        let (mut one, mut two) = (Share::default(), Share::default());
        meter.change(&mut one, 250.0, 1, Moment(10.0)); // 10 s idle
        meter.change(&mut two, 500.0, 4, Moment(20.0)); // 10 s at a quarter
        meter.change(&mut one, 0.0, 0, Moment(30.0)); // 10 s at three quarters
        meter.change(&mut two, 0.0, 0, Moment(40.0)); // 10 s at a half
        let all = meter.until(Moment(50.0)); // 10 s idle
        assert_eq!(all, 1000.0 + 1100.0 + 1600.0 + 1200.0 + 1000.0);
        assert!((one.joules - (1100.0 + 1600.0 / 3.0)).abs() < 1e-9);
        assert!((two.joules - (1600.0 * 2.0 / 3.0 + 1200.0)).abs() < 1e-9);
        assert!((one.core - one.joules).abs() < 1e-9 && (two.core * 4.0 - two.joules).abs() < 1e-9);
        assert_eq!(meter.idle(), 2000.0);
    }
}
