//! The arithmetic of what a run cost: utilization, throughput, latency, shares.
//!
//! Definitions follow the accounting vocabulary of batch systems. A quantity
//! that cannot be formed (a total of zero, no samples) is `None`, never 0.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Gives used / total × 100, in percent: P1's formula.
///
/// `None` when the total is zero or either is not finite.
pub fn utilization_percent(used: f64, total: f64) -> Option<f64> {
    let ratio = used / total * 100.0;
    (total > 0.0 && ratio.is_finite()).then_some(ratio)
}

/// The time-weighted mean of a quantity that is looked at now and then, and
/// taken to stay as it was seen until it is looked at again.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeWeighted {
    area: f64,
    last: Option<(Duration, f64)>,
    samples: u64,
}

impl TimeWeighted {
    /// Adds what was seen at a moment after the start; moments ascend.
    pub fn see(&mut self, at: Duration, value: f64) {
        self.hold_until(at);
        self.last = Some((at, value));
        self.samples += 1;
    }

    /// Tells how often it was looked at.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Gives the mean from the start to the end, of which the first look is to
    /// be at the start; `None` when there was no look or no time.
    pub fn mean(mut self, end: Duration) -> Option<f64> {
        self.hold_until(end);
        let span = end.as_secs_f64();
        (self.samples > 0 && span > 0.0).then(|| self.area / span)
    }

    fn hold_until(&mut self, at: Duration) {
        if let Some((since, value)) = &mut self.last {
            self.area += *value * at.saturating_sub(*since).as_secs_f64();
            *since = at.max(*since);
        }
    }
}

/// Gives tasks per second over a stated window: P2's formula.
pub fn throughput_per_second(tasks: u64, window: Duration) -> Option<f64> {
    (!window.is_zero()).then(|| tasks as f64 / window.as_secs_f64())
}

/// How the service times of repeated tasks are distributed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceTimes {
    /// How many tasks were measured.
    pub samples: u64,
    /// Processing time / tasks. The sources call this "latency"; it is the mean service time.
    pub mean: Duration,
    /// The middle: half of the tasks took no longer.
    pub p50: Duration,
    /// 95 of 100 tasks took no longer.
    pub p95: Duration,
    /// 99 of 100 tasks took no longer.
    pub p99: Duration,
    /// The quickest.
    pub min: Duration,
    /// The slowest.
    pub max: Duration,
}

impl ServiceTimes {
    /// Summarizes samples; percentiles are by nearest rank, so each is a time that was seen.
    pub fn of(samples: &[Duration]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let total: Duration = sorted.iter().sum();
        let rank = |percent: usize| {
            let n = (sorted.len() * percent).div_ceil(100);
            sorted[n.max(1) - 1]
        };
        let count = u32::try_from(sorted.len()).ok()?;
        Some(Self {
            samples: sorted.len() as u64,
            mean: total / count,
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            min,
            max,
        })
    }
}

/// Gives each demand's share of a capacity by the sources' formula: total / number.
///
/// It ignores demand and overhead, which is why it is reported as "naive".
pub fn naive_share(total: f64, parts: usize) -> Option<f64> {
    (parts > 0).then(|| total / parts as f64)
}

/// Gives each demand's max-min fair share of a capacity, less an overhead
/// (0.05 is 5 %): nobody gets more than was asked, and what is left over is
/// shared equally among those who want more.
///
/// Source: Bertsekas and Gallager, *Data Networks*, 2nd ed., section 6.5.2.
pub fn max_min_shares(total: f64, demands: &[f64], overhead: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|&a, &b| demands[a].total_cmp(&demands[b]));
    let mut shares = vec![0.0; demands.len()];
    let mut left = total.max(0.0);
    for (done, &i) in order.iter().enumerate() {
        let fair = left / (demands.len() - done) as f64;
        let share = demands[i].clamp(0.0, fair);
        shares[i] = share * (1.0 - overhead);
        left -= share;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn utilization_of_nothing_is_not_a_number_of_percent() {
        assert_eq!(utilization_percent(1.5, 2.0), Some(75.0));
        assert_eq!(utilization_percent(0.0, 2.0), Some(0.0));
        assert_eq!(utilization_percent(1.0, 0.0), None);
        assert_eq!(utilization_percent(f64::NAN, 1.0), None);
    }

    #[test]
    fn utilization_is_weighted_by_time() {
        let s = Duration::from_secs;
        let mut cores = TimeWeighted::default();
        assert_eq!(cores.mean(s(4)), None);
        // One core for 3 s, then two for 1 s: (3 × 1 + 1 × 2) / 4.
        cores.see(s(0), 1.0);
        cores.see(s(3), 2.0);
        assert_eq!(cores.mean(s(4)), Some(1.25));
        assert_eq!(cores.mean(s(0)), None);
        assert_eq!(cores.samples(), 2);
    }

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let ms = |n| Duration::from_millis(n);
        let all: Vec<_> = (1..=100).rev().map(ms).collect();
        let t = ServiceTimes::of(&all).expect("samples");
        assert_eq!((t.p50, t.p95, t.p99), (ms(50), ms(95), ms(99)));
        assert_eq!((t.min, t.max, t.samples), (ms(1), ms(100), 100));
        assert_eq!(t.mean, Duration::from_micros(50_500));
        assert_eq!(ServiceTimes::of(&[]), None);
    }

    #[test]
    fn throughput_states_its_window() {
        assert_eq!(throughput_per_second(10, Duration::from_secs(4)), Some(2.5));
        assert_eq!(throughput_per_second(10, Duration::ZERO), None);
    }

    #[test]
    fn naive_and_max_min_agree_when_demands_are_equal_and_overhead_is_zero() {
        assert_eq!(max_min_shares(12.0, &[8.0; 4], 0.0), vec![3.0; 4]);
        assert_eq!(naive_share(12.0, 4), Some(3.0));
        assert_eq!(
            max_min_shares(10.0, &[2.0, 8.0, 8.0], 0.0),
            vec![2.0, 4.0, 4.0]
        );
        assert_eq!(max_min_shares(10.0, &[5.0, 5.0], 0.1), vec![4.5, 4.5]);
        assert_eq!(naive_share(1.0, 0), None);
    }

    proptest! {
        #[test]
        fn max_min_never_gives_more_than_there_is_or_was_asked(
            total in 0.0f64..100.0,
            demands in proptest::collection::vec(0.0f64..50.0, 1..12),
        ) {
            let shares = max_min_shares(total, &demands, 0.0);
            prop_assert!(shares.iter().sum::<f64>() <= total + 1e-9);
            for (share, demand) in shares.iter().zip(&demands) {
                prop_assert!(share <= demand);
            }
        }
    }
}
