//! How fast the processor's own clock runs, the time-stamp counter of x86.
//!
//! The kernel knows it and does not tell; a guest that is emulated reads the same
//! counter and has nothing to measure it by.

use std::time::{Duration, Instant};

use crate::host::{self, Host};

/// The least time over which it is measured: what a reading may be late by is a
/// hundred-thousandth of it.
const LEAST: Duration = Duration::from_millis(10);
/// How often a reading is tried: whoever is interrupted in one is late.
const TRIES: usize = 5;

/// A reading of the counter, for a later one to be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    at: Instant,
    ticks: u64,
}

impl Reading {
    /// Reads the counter where it runs evenly, whatever the processor does.
    #[must_use]
    pub fn take() -> Option<Self> {
        let flags = host::cpu(&Host::at("/")).flags;
        let even = ["constant_tsc", "nonstop_tsc"];
        even.iter().all(|flag| flags.contains(*flag)).then(read)
    }

    /// Gives how often it ticks in a second, in kHz; waits until enough time has
    /// passed since the first reading.
    #[must_use]
    pub fn khz(&self) -> u64 {
        std::thread::sleep(LEAST.saturating_sub(self.at.elapsed()));
        let now = read();
        let ticks = u128::from(now.ticks.wrapping_sub(self.ticks));
        let nanoseconds = now.at.duration_since(self.at).as_nanos().max(1);
        u64::try_from(ticks * 1_000_000 / nanoseconds).unwrap_or(u64::MAX)
    }
}

/// Reads counter and time together, as close as they can be had.
fn read() -> Reading {
    let once = || {
        let at = Instant::now();
        let ticks = ticks();
        (at.elapsed(), Reading { at, ticks })
    };
    let closer =
        |best: (Duration, Reading), _| std::cmp::min_by_key(best, once(), |(late, _)| *late);
    (1..TRIES).fold(once(), closer).1
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: each x86_64 processor has the counter, and reading it changes nothing.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_ticks_at_one_speed() {
        hyperion_testkit::requires!("cpu:constant_tsc", "cpu:nonstop_tsc");
        let first = Reading::take().expect("it runs evenly");
        let (once, again) = (first.khz(), read().khz());
        // Slower than any processor that has one, and faster than any.
        assert!((100_000..20_000_000).contains(&once), "{once} kHz");
        assert!(once.abs_diff(again) < once / 100, "{once} and {again} kHz");
    }
}
