use std::time::Duration;

use hyperion_sched::Time;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp1, StandardUniform};
use thiserror::Error;

use super::Job;
use crate::chance::Seed;

const HOUR: u64 = 3600;
const HALF: f64 = 12.0 * 3600.0;

/// The workload model of A. B. Downey, "A parallel workload model and its implications
/// for processor allocation", HPDC 6, 1997, as the Parallel Workloads Archive tells it:
/// how much jobs have to do, in seconds of one processor, and how parallel they are is
/// log-uniform, and they come at random (Poisson) at two rates, one for each half of a day.
///
/// In the model a scheduler chooses how many processors a job has, and a function of speed
/// tells what that does to its run time. Here jobs are rigid: each has as many as it is
/// parallel, and its run time is the work divided by them.
///
/// Gives jobs without end, in the order of their submission.
#[derive(Debug, Clone)]
pub struct Downey {
    machine: u64,
    its: Habits,
    chance: ChaCha8Rng,
    /// Seconds from the beginning of a busy half of a day.
    now: f64,
}

/// What the jobs of a log are like: the parameters of [`Downey`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Habits {
    /// Seconds of one processor.
    pub work: LogUniform,
    /// Processors; none: from one to those of the machine.
    pub parallelism: Option<LogUniform>,
    /// Jobs in the busy half of a day, and in the other.
    pub arrivals: [f64; 2],
}

/// Why a log gives no model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoModel {
    /// It has fewer than ten jobs.
    #[error("fewer than ten jobs tell no ranges")]
    Few,
    /// All came at once.
    #[error("jobs that came all at once tell no rate")]
    AtOnce,
}

impl Habits {
    /// Those of the SP2 at KTH (1996), from [`Self::of`]: in Downey's way, not of his logs,
    /// of which he published elapsed times only (those between 6 s and 37 h, "Predicting
    /// queue times on space-sharing parallel computers", IPPS 11, 1997; of the SP2 it is 3 s
    /// to 36 h).
    pub const SP2: Self = Self {
        work: LogUniform {
            least: 10.6,
            most: 461_900.0,
        },
        parallelism: None,
        arrivals: [70.8, 14.7],
    };

    /// Finds those of a log. The busy half of its days are the twelve hours, from a full
    /// hour on, in which most of its jobs came.
    ///
    /// # Errors
    /// [`NoModel`]
    pub fn of<'a>(jobs: impl Iterator<Item = &'a Job> + Clone) -> Result<Self, NoModel> {
        let work = jobs
            .clone()
            .map(|job| job.processors as f64 * job.run.as_secs_f64());
        let sizes = jobs.clone().map(|job| job.processors as f64);
        let (mut first, mut last) = (Time::NEVER, Time(0));
        let mut hours = [0_u64; 24];
        for job in jobs {
            (first, last) = (first.min(job.submit), last.max(job.submit));
            let hour = job.submit.since(Time(0)).as_secs() / HOUR % 24;
            hours[hour as usize] += 1;
        }
        let days = last.since(first).as_secs_f64() / (2.0 * HALF);
        let half = |from: usize| (from..from + 12).map(|hour| hours[hour % 24]).sum::<u64>();
        let busy = (0..24).map(half).max().unwrap_or(0) as f64;
        let others = hours.iter().sum::<u64>() as f64 - busy;
        // In less than two days the hours tell little of halves of days.
        let arrivals = match days < 2.0 {
            true => [(busy + others) / 2.0; 2],
            false => [busy, others],
        };
        let work = LogUniform::of(work).ok_or(NoModel::Few)?;
        if days <= 0.0 {
            return Err(NoModel::AtOnce);
        }
        Ok(Self {
            work,
            parallelism: LogUniform::of(sizes),
            arrivals: arrivals.map(|jobs| jobs / days),
        })
    }
}

/// Numbers whose logarithms are spread evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogUniform {
    /// None is less.
    pub least: f64,
    /// None is more.
    pub most: f64,
}

impl LogUniform {
    /// Lays a line through the distribution of logarithms by least squares, without the
    /// least and the greatest tenth, as Downey does (IPPS 11, 1997). None of fewer than ten
    /// numbers; where those in the middle are the same it is that one.
    fn of(numbers: impl Iterator<Item = f64>) -> Option<Self> {
        let mut logarithms: Vec<f64> = numbers.map(libm::log).collect();
        logarithms.sort_by(f64::total_cmp);
        let all = logarithms.len();
        if all < 10 {
            return None;
        }
        let middle = all / 10..all - all / 10;
        let mean = logarithms[middle.clone()].iter().sum::<f64>() / middle.len() as f64;
        let (mut both, mut square) = (0.0, 0.0);
        for at in middle.clone() {
            let off = logarithms[at] - mean;
            both += off * ((at as f64 + 0.5) / all as f64 - 0.5);
            square += off * off;
        }
        let alike = logarithms[middle.start] == logarithms[middle.end - 1];
        // By how much the logarithm grows from the least to the most; at half of that it is
        // the mean, as what was left out is as much on both sides.
        let way = if alike { 0.0 } else { square / both };
        let end = |share: f64| libm::exp(mean + (share - 0.5) * way);
        Some(Self {
            least: end(0.0),
            most: end(1.0),
        })
    }

    fn draw(self, chance: &mut ChaCha8Rng) -> f64 {
        let share: f64 = StandardUniform.sample(chance);
        self.least * libm::exp(share * libm::log(self.most / self.least))
    }
}

impl Downey {
    /// Begins a workload for a machine of so many processors.
    pub fn new(machine: u64, its: Habits, seed: Seed) -> Self {
        Self {
            machine,
            its,
            chance: seed.stream(0),
            now: 0.0,
        }
    }

    /// Goes on to the next arrival: what is drawn is spent on the halves of days that it
    /// passes, each at its rate.
    fn advance(&mut self) {
        let mut left: f64 = Exp1.sample(&mut self.chance);
        loop {
            let half = (self.now / HALF) as u64;
            let rate = self.its.arrivals[usize::from(half % 2 == 1)] / HALF;
            let end = (half + 1) as f64 * HALF;
            let until_end = (end - self.now) * rate;
            if left < until_end {
                self.now += left / rate;
                return;
            }
            left -= until_end;
            self.now = end;
        }
    }
}

impl Iterator for Downey {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        self.advance();
        let machine = self.machine as f64;
        let parallelism = self.its.parallelism.unwrap_or(LogUniform {
            least: 1.0,
            most: machine,
        });
        let work = self.its.work.draw(&mut self.chance);
        let size = parallelism.draw(&mut self.chance).round();
        let processors = size.clamp(1.0, machine) as u64;
        let run = (work / processors as f64).round().max(1.0);
        let run = Duration::from_secs(run as u64);
        Some(Job {
            submit: Time::seconds(self.now as u64),
            run,
            estimate: run,
            processors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(machine: u64, its: Habits) -> Vec<Job> {
        Downey::new(machine, its, Seed(5)).take(20_000).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_jobs() {
        let some = |seed| -> Vec<Job> {
            let all = Downey::new(128, Habits::SP2, Seed(seed));
            all.take(100).collect()
        };
        assert_eq!(some(3), some(3));
        assert_ne!(some(3), some(4));
    }

    #[test]
    fn jobs_come_in_order_and_fit() {
        for machine in [1, 7, 100, 1 << 40] {
            let some = jobs(machine, Habits::SP2);
            assert!(some.is_sorted_by_key(|job| job.submit));
            assert!(
                some.iter()
                    .all(|job| (1..=machine).contains(&job.processors))
            );
            assert!(some.iter().all(|job| job.run >= Duration::from_secs(1)));
        }
    }

    /// The middle of a log-uniform distribution is the root of its ends' product, and a
    /// share of it lies below where the logarithm is that share of the way.
    #[test]
    fn work_sizes_and_arrivals_are_those_of_the_model() {
        let some = jobs(4096, Habits::SP2);
        let below = |share: f64, of: &dyn Fn(&Job) -> f64, range: LogUniform| {
            let bound = range.least * libm::pow(range.most / range.least, share);
            let found = some.iter().filter(|job| of(job) < bound).count();
            (found as f64 / some.len() as f64 - share).abs() < 0.015
        };
        let size = |job: &Job| job.processors as f64;
        let work = |job: &Job| size(job) * job.run.as_secs_f64();
        for share in [0.6, 0.75, 0.9] {
            // What takes less than a second takes one: the lower end is another.
            assert!(below(share, &work, Habits::SP2.work), "{share}");
            let sizes = LogUniform {
                least: 1.0,
                most: 4096.0,
            };
            assert!(below(share, &size, sizes), "{share}");
        }
        let hour = |job: &Job| job.submit.since(Time(0)).as_secs() / HOUR % 24;
        let busy = some.iter().filter(|job| hour(job) < 12).count() as f64;
        let share = busy / some.len() as f64;
        assert!((share - 70.8 / 85.5).abs() < 0.01, "{share}");
        let days = some[some.len() - 1].submit.since(Time(0)).as_secs_f64() / (2.0 * HALF);
        let each = some.len() as f64 / days;
        assert!((each / 85.5 - 1.0).abs() < 0.03, "{each}");
    }

    #[test]
    fn what_a_workload_is_like_is_found_again() {
        let its = Habits {
            work: LogUniform {
                least: 5_000.0,
                most: 900_000.0,
            },
            parallelism: Some(LogUniform {
                least: 2.0,
                most: 64.0,
            }),
            arrivals: [200.0, 50.0],
        };
        let found = Habits::of(jobs(256, its).iter()).expect("jobs that differ");
        let near = |found: f64, its: f64, share: f64| {
            assert!((found / its - 1.0).abs() < share, "{found} for {its}");
        };
        let sizes = |habits: &Habits| habits.parallelism.expect("sizes that differ");
        near(found.work.least, its.work.least, 0.06);
        near(found.work.most, its.work.most, 0.06);
        near(sizes(&found).least, 2.0, 0.1);
        near(sizes(&found).most, 64.0, 0.1);
        near(found.arrivals[0], 200.0, 0.04);
        near(found.arrivals[1], 50.0, 0.06);
    }

    #[test]
    fn few_jobs_give_no_model_and_jobs_that_are_alike_one_of_such() {
        let job = |submit| Job {
            submit: Time::seconds(submit),
            run: Duration::from_secs(60),
            estimate: Duration::from_secs(60),
            processors: 4,
        };
        let alike: Vec<Job> = (0..100).map(|number| job(number * 5000)).collect();
        let found = Habits::of(alike.iter()).expect("enough");
        for made in jobs(64, found) {
            assert_eq!((made.processors, made.run), (4, alike[0].run));
        }
        assert_eq!(Habits::of(alike[..9].iter()), Err(NoModel::Few));
        assert!(Habits::of(alike[..10].iter()).is_ok());
        let at_once = [job(7); 10];
        assert_eq!(Habits::of(at_once.iter()), Err(NoModel::AtOnce));
    }
}
