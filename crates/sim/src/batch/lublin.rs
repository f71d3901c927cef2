use std::time::Duration;

use hyperion_sched::Time;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Gamma, StandardUniform};

use super::Job;
use crate::chance::Seed;

/// Half-hours of a day.
const BUCKETS: usize = 48;
const BUCKET: f64 = 1800.0;
/// The half-hour with which a day begins.
const DAWN: usize = 11;
/// The logarithm of the longest run time that is taken: two days.
const LONGEST_RUN: f64 = 12.0;
/// The logarithm of the longest time between two arrivals: five days.
const LONGEST_GAP: f64 = 13.0;

/// The workload model of U. Lublin and D. G. Feitelson, "The workload on parallel
/// supercomputers: modeling the characteristics of rigid jobs", JPDC 63, 2003.
///
/// Gives jobs without end, in the order of their submission.
#[derive(Debug, Clone)]
pub struct Lublin {
    machine: u64,
    kinds: Vec<Kind>,
}

/// Whether jobs are of one kind or of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// All alike.
    Generic,
    /// Batch jobs and interactive ones, each with parameters and arrivals of its own.
    BatchAndInteractive,
}

/// What the jobs of a kind are like: the names are those of the model.
#[derive(Debug, Clone, Copy)]
struct Parameters {
    serial: f64,
    pow2: f64,
    low: f64,
    /// What the logarithm of the largest size is less than that of the machine.
    below: f64,
    /// What the middle of the sizes is below the largest.
    middle: f64,
    prob: f64,
    run: [(f64, f64); 2],
    pa: f64,
    pb: f64,
    gap: (f64, f64),
    cycle: (f64, f64),
    rush: f64,
}

const GENERIC: Parameters = Parameters {
    serial: 0.244,
    pow2: 0.576,
    low: 0.8,
    below: 0.0,
    middle: 2.5,
    prob: 0.86,
    run: [(4.2, 0.94), (312.0, 0.03)],
    pa: -0.0054,
    pb: 0.78,
    gap: (10.2303, 0.4871),
    cycle: (8.1737, 3.9631),
    rush: 1.0225,
};

const BATCH: Parameters = Parameters {
    serial: 0.2927,
    pow2: 0.6686,
    low: 1.2,
    below: 0.0,
    middle: 2.0,
    prob: 0.875,
    run: [(6.57, 0.823), (639.1, 0.0156)],
    pa: -0.003,
    pb: 0.6986,
    gap: (6.0415, 0.8531),
    cycle: (6.1271, 5.2740),
    rush: 1.0519,
};

const INTERACTIVE: Parameters = Parameters {
    serial: 0.1541,
    pow2: 0.625,
    low: 1.0,
    below: 1.5,
    middle: 2.5,
    prob: 0.705,
    run: [(3.8351, 0.6605), (7.073, 0.6856)],
    pa: -0.0118,
    pb: 0.9156,
    gap: (6.5510, 0.6621),
    cycle: (8.9186, 3.6680),
    rush: 0.9797,
};

/// The jobs of a kind, and when the next of them is submitted.
#[derive(Debug, Clone)]
struct Kind {
    its: Parameters,
    chance: ChaCha8Rng,
    /// What each half-hour of the day has of arrivals; 1 in the mean.
    weights: [f64; BUCKETS],
    bucket: usize,
    points: f64,
    /// How far into its half-hour the last arrival was.
    reminder: f64,
    /// In whole seconds.
    next: u64,
}

impl Lublin {
    /// Begins a workload for a machine of so many processors.
    pub fn new(machine: u64, kinds: Kinds, seed: Seed) -> Self {
        let all: &[Parameters] = match kinds {
            Kinds::Generic => &[GENERIC],
            Kinds::BatchAndInteractive => &[BATCH, INTERACTIVE],
        };
        let kind = |(number, its): (u64, &Parameters)| Kind::new(*its, seed.stream(number));
        Self {
            machine,
            kinds: (0..).zip(all).map(kind).collect(),
        }
    }
}

impl Iterator for Lublin {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        let machine = self.machine;
        let kind = self.kinds.iter_mut().min_by_key(|kind| kind.next)?;
        let submit = Time::seconds(kind.next);
        kind.advance();
        let processors = kind.size(machine);
        let run = kind.run(processors);
        Some(Job {
            submit,
            run,
            estimate: run,
            processors,
        })
    }
}

impl Kind {
    fn new(its: Parameters, chance: ChaCha8Rng) -> Self {
        let mut kind = Self {
            its,
            chance,
            weights: weights(its.cycle),
            bucket: 0,
            points: 0.0,
            reminder: 0.0,
            next: 0,
        };
        kind.advance();
        kind
    }

    /// Goes on to the next arrival: a time as in the rush hours is spent on the
    /// half-hours that it passes, each by its weight.
    fn advance(&mut self) {
        let (shape, scale) = self.its.gap;
        let gap = gamma(&mut self.chance, shape * self.its.rush, scale, LONGEST_GAP);
        self.points += libm::exp(gap) / BUCKET;
        let mut passed = 0.0;
        while self.points > self.weights[self.bucket] {
            self.points -= self.weights[self.bucket];
            self.bucket = (self.bucket + 1) % BUCKETS;
            passed += 1.0;
        }
        let reminder = self.points / self.weights[self.bucket];
        let passed = BUCKET * (passed + reminder - self.reminder);
        self.reminder = reminder;
        self.next += passed.max(0.0) as u64;
    }

    /// Draws how many processors a job has; again where the machine has fewer.
    fn size(&mut self, machine: u64) -> u64 {
        let high = libm::log2(machine as f64) - self.its.below;
        let middle = high - self.its.middle;
        // On a machine that is smaller than the model knows everything is serial.
        if middle <= self.its.low {
            return 1;
        }
        loop {
            let kind = self.unit();
            if kind <= self.its.serial {
                return 1;
            }
            let (from, to) = match self.unit() <= self.its.prob {
                true => (self.its.low, middle),
                false => (middle, high),
            };
            let mut exponent = from + self.unit() * (to - from);
            if kind <= self.its.serial + self.its.pow2 {
                exponent = exponent.round();
            }
            let size = libm::exp2(exponent).round() as u64;
            if size <= machine {
                return size;
            }
        }
    }

    /// Draws how long a job of a size runs.
    fn run(&mut self, processors: u64) -> Duration {
        let first = (self.its.pa * processors as f64 + self.its.pb).clamp(0.0, 1.0);
        let run = loop {
            let (shape, scale) = self.its.run[usize::from(self.unit() > first)];
            let run = gamma(&mut self.chance, shape, scale, f64::INFINITY);
            if run <= LONGEST_RUN {
                break run;
            }
        };
        Duration::from_secs(libm::exp(run).max(1.0) as u64)
    }

    fn unit(&mut self) -> f64 {
        StandardUniform.sample(&mut self.chance)
    }
}

/// Draws from a gamma distribution until it is no more than a limit.
fn gamma(chance: &mut ChaCha8Rng, shape: f64, scale: f64, limit: f64) -> f64 {
    let Ok(distribution) = Gamma::new(shape, scale) else {
        return 0.0;
    };
    loop {
        let drawn = distribution.sample(chance);
        if drawn <= limit {
            return drawn;
        }
    }
}

/// Gives what each half-hour of the day, from midnight on, has of a gamma distribution
/// over a day that begins at [`DAWN`]; 1 in the mean.
fn weights((shape, scale): (f64, f64)) -> [f64; BUCKETS] {
    // What all have the same of is left out: the mean takes it away again.
    let density = |x: f64| libm::exp((shape - 1.0) * libm::log(x) - x / scale);
    let mut weights = [0.0; BUCKETS];
    for at in DAWN..BUCKETS + DAWN {
        let from = at as f64 - 0.5;
        // By Simpson's rule, in sixteenths.
        let each = 1.0 / 16.0;
        let pieces = (0..16).map(|piece| {
            let x = from + f64::from(piece) * each;
            density(x) + 4.0 * density(x + each / 2.0) + density(x + each)
        });
        weights[(at - 1) % BUCKETS] = pieces.sum::<f64>();
    }
    let mean = weights.iter().sum::<f64>() / BUCKETS as f64;
    weights.map(|weight| weight / mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(kinds: Kinds, seed: u64) -> Vec<Job> {
        Lublin::new(256, kinds, Seed(seed)).take(20_000).collect()
    }

    fn mean(numbers: impl Iterator<Item = f64> + Clone) -> f64 {
        numbers.clone().sum::<f64>() / numbers.count() as f64
    }

    #[test]
    fn the_same_seed_gives_the_same_jobs() {
        assert_eq!(jobs(Kinds::Generic, 3), jobs(Kinds::Generic, 3));
        assert_ne!(jobs(Kinds::Generic, 3), jobs(Kinds::Generic, 4));
    }

    #[test]
    fn jobs_come_in_order_and_fit() {
        for kinds in [Kinds::Generic, Kinds::BatchAndInteractive] {
            for machine in [1, 7, 100, 1024] {
                let some: Vec<Job> = Lublin::new(machine, kinds, Seed(1)).take(2000).collect();
                assert!(some.is_sorted_by_key(|job| job.submit));
                assert!(
                    some.iter()
                        .all(|job| (1..=machine).contains(&job.processors))
                );
                assert!(some.iter().all(|job| job.run >= Duration::from_secs(1)));
            }
        }
    }

    /// The means are those of the trace that the model's authors' own program made for
    /// 256 processors (10,000 jobs), but for the arrivals: their mean is that of the
    /// distribution, from which that of so many jobs is seldom a tenth away.
    #[test]
    fn sizes_run_times_and_arrivals_are_those_of_the_model() {
        let jobs = jobs(Kinds::Generic, 5);
        let serial = mean(jobs.iter().map(|job| f64::from(job.processors == 1)));
        let pow2 = mean(
            jobs.iter()
                .map(|job| f64::from(job.processors.is_power_of_two())),
        );
        let size = mean(jobs.iter().map(|job| (job.processors as f64).log2()));
        let run = mean(jobs.iter().map(|job| job.run.as_secs_f64().ln()));
        let last = jobs[jobs.len() - 1].submit.0 as f64 / 1e6;
        let gap = last / jobs.len() as f64;
        assert!((serial - 0.2493).abs() < 0.015, "{serial}");
        assert!((pow2 - 0.8613).abs() < 0.02, "{pow2}");
        assert!((size - 2.7205).abs() < 0.06, "{size}");
        assert!((run - 5.6834).abs() < 0.12, "{run}");
        assert!((gap / 911.3 - 1.0).abs() < 0.2, "{gap}");
    }
}
