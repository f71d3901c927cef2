//! What jobs of a queue came to: waits, slowdowns, utilization, and what would have been
//! enough to ask for.
//!
//! Times are microseconds since one beginning. Definitions are those of the field:
//! D. G. Feitelson, *Workload Modeling for Computer Systems Performance Evaluation*, 2015.

use std::time::Duration;

use serde::Serialize;

use crate::metrics::{throughput_per_second, utilization_percent};

/// A slowdown is not counted against less than this run time: a job of a millisecond
/// that waits a second is no thousandfold worse off.
pub const BOUND: Duration = Duration::from_secs(10);

/// A job that has ended, or one task of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// When it was submitted.
    pub submitted: u64,
    /// When it was started last; when it ended where it never was.
    pub started: u64,
    /// When it ended.
    pub ended: u64,
    /// It ran, and well.
    pub succeeded: bool,
    /// Processors that it had.
    pub cores: f64,
    /// Processor time that it used.
    pub cpu: Option<Duration>,
    /// Memory that it asked for, in bytes.
    pub memory: Option<u64>,
    /// The most memory that it used, in bytes.
    pub memory_peak: Option<u64>,
    /// How long it was allowed to run.
    pub limit: Option<Duration>,
}

impl Past {
    /// Gives the time from its submission to its start.
    pub fn wait(&self) -> Duration {
        Duration::from_micros(self.started.saturating_sub(self.submitted))
    }

    /// Gives the time from its start to its end.
    pub fn service(&self) -> Duration {
        Duration::from_micros(self.ended.saturating_sub(self.started))
    }

    /// Gives the time from its submission to its end.
    pub fn turnaround(&self) -> Duration {
        self.wait() + self.service()
    }

    /// Gives turnaround / service, with [`BOUND`] for a shorter service; at least 1.
    pub fn bounded_slowdown(&self) -> f64 {
        let service = self.service().max(BOUND).as_secs_f64();
        (self.turnaround().as_secs_f64() / service).max(1.0)
    }
}

/// How a quantity is distributed; percentiles by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The arithmetic mean.
    pub mean: f64,
    /// Half are no larger.
    pub p50: f64,
    /// 95 of 100 are no larger.
    pub p95: f64,
    /// 99 of 100 are no larger.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Looks at samples; `None` where there are none.
    pub fn of(samples: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let &max = sorted.last()?;
        let rank = |percent: usize| {
            let n = (sorted.len() * percent).div_ceil(100);
            sorted[n.max(1) - 1]
        };
        Some(Self {
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            max,
        })
    }
}

/// What many jobs came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub jobs: u64,
    /// How many of them ended well.
    pub succeeded: u64,
    /// The window over which throughput and utilization are counted, in seconds.
    pub window: f64,
    /// Jobs that ended in the window, per second of it.
    pub throughput: Option<f64>,
    /// Processors had, over time: processor seconds of jobs in the window / (processors of
    /// all nodes × window), in percent.
    pub cores_held: Option<f64>,
    /// Of the processors that jobs had, what they used: processor time / processor
    /// seconds of those jobs of which it is known, in percent.
    pub cores_used: Option<f64>,
    /// Of the memory that jobs asked for, the most that they used, in percent; weighted
    /// by how much and how long.
    pub memory_used: Option<f64>,
    /// From submission to start, in seconds.
    pub wait: Option<Spread>,
    /// From start to end, in seconds.
    pub service: Option<Spread>,
    /// From submission to end, in seconds.
    pub turnaround: Option<Spread>,
    /// Turnaround / service, bounded.
    pub slowdown: Option<Spread>,
}

impl Summary {
    /// Sums up jobs over a window, from one moment to another, on so many processors.
    pub fn of(jobs: &[&Past], window: (u64, u64), cores: f64) -> Self {
        let seconds = |span: Duration| span.as_secs_f64();
        let span = Duration::from_micros(window.1.saturating_sub(window.0));
        let inside = |job: &&&Past| {
            let from = job.started.max(window.0);
            job.cores
                * seconds(Duration::from_micros(
                    job.ended.min(window.1).saturating_sub(from),
                ))
        };
        let held: f64 = jobs.iter().map(|job| inside(&job)).sum();
        let known = || jobs.iter().filter_map(|job| Some((job, job.cpu?)));
        let used: f64 = known().map(|(_, cpu)| seconds(cpu)).sum();
        let had: f64 = known()
            .map(|(job, _)| job.cores * seconds(job.service()))
            .sum();
        let memory = || {
            let both = jobs
                .iter()
                .filter_map(|job| Some((job, job.memory?, job.memory_peak?)));
            both.map(|(job, asked, peak)| (seconds(job.service()), asked as f64, peak as f64))
        };
        let asked: f64 = memory().map(|(time, asked, _)| time * asked).sum();
        let peak: f64 = memory().map(|(time, _, peak)| time * peak).sum();
        let ended = jobs
            .iter()
            .filter(|job| (window.0..=window.1).contains(&job.ended));
        let spread =
            |of: fn(&Past) -> Duration| Spread::of(jobs.iter().map(|job| seconds(of(job))));
        Self {
            jobs: jobs.len() as u64,
            succeeded: jobs.iter().filter(|job| job.succeeded).count() as u64,
            window: seconds(span),
            throughput: throughput_per_second(ended.count() as u64, span),
            cores_held: utilization_percent(held, cores * seconds(span)),
            cores_used: utilization_percent(used, had),
            memory_used: utilization_percent(peak, asked),
            wait: spread(Past::wait),
            service: spread(Past::service),
            turnaround: spread(Past::turnaround),
            slowdown: Spread::of(jobs.iter().map(|job| job.bounded_slowdown())),
        }
    }
}

/// What would have been enough to ask for, for jobs like these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Suggestion {
    /// Processors; `None` where nobody knows what they used.
    pub cores: Option<u64>,
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Time limit, in seconds.
    pub limit: u64,
}

/// How much more than was used is to be asked for: a fifth, for another day.
const SPARE: f64 = 1.2;

impl Suggestion {
    /// Looks at jobs that ended well; `None` where there are none.
    ///
    /// Of memory and time the largest counts, with a fifth to spare, in whole MiB and
    /// minutes; of processors the most that was busy on average, rounded up.
    pub fn of(jobs: &[&Past]) -> Option<Self> {
        let good: Vec<&&Past> = jobs.iter().filter(|job| job.succeeded).collect();
        let longest = good.iter().map(|job| job.service()).max()?;
        let busy = good.iter().filter_map(|job| {
            let busy = job.cpu?.as_secs_f64() / job.service().as_secs_f64();
            busy.is_finite().then_some(busy)
        });
        let memory = good.iter().filter_map(|job| job.memory_peak).max();
        let mib = |bytes: u64| ((bytes as f64 * SPARE) / f64::from(1 << 20)).ceil() as u64;
        Some(Self {
            cores: busy
                .reduce(f64::max)
                .map(|busy| (busy.ceil() as u64).max(1)),
            memory: memory.map(|bytes| mib(bytes).max(1) << 20),
            limit: ((longest.as_secs_f64() * SPARE / 60.0).ceil() as u64).max(1) * 60,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn past(submitted: u64, started: u64, ended: u64) -> Past {
        Past {
            submitted: submitted * SECOND,
            started: started * SECOND,
            ended: ended * SECOND,
            succeeded: true,
            cores: 2.0,
            cpu: Some(Duration::from_secs(ended - started)),
            memory: Some(8 << 20),
            memory_peak: Some(2 << 20),
            limit: None,
        }
    }

    #[test]
    fn waits_slowdowns_and_utilization_are_those_of_the_field() {
        let jobs = [past(0, 0, 100), past(0, 100, 120), past(50, 120, 121)];
        let all: Vec<&Past> = jobs.iter().collect();
        let sum = Summary::of(&all, (0, 200 * SECOND), 4.0);
        let wait = sum.wait.expect("there are jobs");
        assert_eq!((wait.mean, wait.p50, wait.max), (170.0 / 3.0, 70.0, 100.0));
        // 100/100, 120/20, and 71 over the bound of 10.
        let slowdown = sum.slowdown.expect("there are jobs");
        assert!((slowdown.mean - (1.0 + 6.0 + 7.1) / 3.0).abs() < 1e-9);
        // 2 × 121 of 4 × 200 processor seconds, of which half were used.
        assert_eq!(sum.cores_held, Some(2.0 * 121.0 / 800.0 * 100.0));
        assert_eq!(sum.cores_used, Some(50.0));
        assert_eq!(sum.memory_used, Some(25.0));
        assert_eq!(sum.throughput, Some(3.0 / 200.0));
        // Only what lies in the window counts there.
        let late = Summary::of(&all, (110 * SECOND, 200 * SECOND), 4.0);
        assert_eq!(late.throughput, Some(2.0 / 90.0));
        assert_eq!(late.cores_held, Some(2.0 * 11.0 / 360.0 * 100.0));
        let none = Summary::of(&[], (0, 0), 0.0);
        assert_eq!(
            (none.wait, none.cores_held, none.throughput),
            (None, None, None)
        );
    }

    #[test]
    fn what_is_suggested_is_what_was_used_and_a_fifth() {
        let jobs = [past(0, 0, 100), past(0, 100, 120)];
        let all: Vec<&Past> = jobs.iter().collect();
        let suggested = Suggestion::of(&all).expect("they ended well");
        assert_eq!(suggested.cores, Some(1));
        assert_eq!(suggested.memory, Some(3 << 20));
        assert_eq!(suggested.limit, 120);
        let failed = Past {
            succeeded: false,
            ..past(0, 0, 1)
        };
        assert_eq!(Suggestion::of(&[&failed]), None);
    }
}
