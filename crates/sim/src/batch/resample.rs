use std::ops::Range;
use std::time::Duration;

use hyperion_sched::Time;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Uniform};

/// A workload cut into blocks of time, of which others like it are drawn: with replacement,
/// and laid one after another. What belongs together in time, such as bursts, busy hours and
/// idle nights, stays together as far as it is shorter than a block. (H. R. Künsch, "The
/// jackknife and the bootstrap for general stationary observations", Annals of Statistics 17,
/// 1989.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    from: Time,
    length: Duration,
    /// Which jobs each has, by their places.
    jobs: Vec<Range<usize>>,
}

/// Jobs of a history, and when each is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Their places in the history, by their submission.
    pub jobs: Vec<(usize, Time)>,
    /// The times of the history of which it is made.
    pub blocks: Vec<Block>,
}

/// A time of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Since when it was.
    pub from: Time,
    /// Until when.
    pub until: Time,
    /// When it is to be.
    pub at: Time,
}

impl Workload {
    /// Makes the one that there was.
    pub fn of(submitted: &[Time]) -> Self {
        let all = Block {
            from: Time(0),
            until: Time::NEVER,
            at: Time(0),
        };
        Self {
            jobs: submitted.iter().copied().enumerate().collect(),
            blocks: vec![all],
        }
    }
}

/// The lengths that keep the rhythms of people: a week, a day.
const RHYTHMS: [Duration; 2] = [
    Duration::from_secs(7 * 24 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// Of fewer blocks not much can be drawn that differs.
const FEWEST: u32 = 8;

impl Blocks {
    /// Cuts jobs, by the times of their submission, in order, into weeks; where those were
    /// fewer than eight into days, else into eighths. What is left over at
    /// the end is part of none.
    pub fn of(submitted: &[Time]) -> Self {
        let (first, last) = (submitted.first(), submitted.last());
        let (from, last) = (first.copied().unwrap_or_default(), last.copied());
        let span = last.unwrap_or_default().since(from) + Duration::from_micros(1);
        let is_often = |length: &Duration| span >= *length * FEWEST;
        let rhythm = RHYTHMS.into_iter().find(is_often);
        let length = rhythm.unwrap_or(
            span.div_f64(f64::from(FEWEST))
                .max(Duration::from_micros(1)),
        );
        let count = (span.as_micros() / length.as_micros()).max(1);
        let place = |at: Time| submitted.partition_point(|submit| *submit < at);
        let mut begin = from;
        let jobs = (0..count).map(|_| {
            let end = begin + length;
            let block = place(begin)..place(end);
            begin = end;
            block
        });
        Self {
            from,
            length,
            jobs: jobs.collect(),
        }
    }

    /// Gives how long each is.
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// Gives how many there are.
    pub const fn count(&self) -> usize {
        self.jobs.len()
    }

    /// Draws as many blocks as there are, one after another.
    pub fn draw(&self, submitted: &[Time], chance: &mut ChaCha8Rng) -> Workload {
        let mut drawn = Workload {
            jobs: Vec::with_capacity(submitted.len()),
            blocks: Vec::with_capacity(self.jobs.len()),
        };
        let Ok(any) = Uniform::new(0, self.jobs.len()) else {
            return drawn;
        };
        let mut begin = self.from;
        for _ in &self.jobs {
            let block = any.sample(chance);
            let began = self.from + self.length * block as u32;
            let jobs = self.jobs[block].clone();
            let all = jobs.map(|job| (job, begin + submitted[job].since(began)));
            drawn.jobs.extend(all);
            drawn.blocks.push(Block {
                from: began,
                until: began + self.length,
                at: begin,
            });
            begin = begin + self.length;
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    /// A job each hour, for so many of them.
    fn hourly(count: u64) -> Vec<Time> {
        (0..count).map(|hour| Time::seconds(3600 * hour)).collect()
    }

    #[test]
    fn blocks_are_weeks_or_days_or_eighths() {
        let cut = |hours| {
            let blocks = Blocks::of(&hourly(hours));
            (blocks.length().as_secs(), blocks.count())
        };
        assert_eq!(cut(24 * 7 * 9 + 50), (7 * 24 * 3600, 9));
        assert_eq!(cut(24 * 20), (24 * 3600, 19));
        assert_eq!(cut(33), (4 * 3600, 8));
        assert_eq!(cut(1).1, 1);
        assert_eq!(Blocks::of(&[]).count(), 1);
    }

    #[test]
    fn what_is_drawn_is_in_order_and_each_job_is_at_its_hour_of_the_day() {
        let submitted = hourly(24 * 20);
        let blocks = Blocks::of(&submitted);
        let draw = |seed| blocks.draw(&submitted, &mut Seed(seed).stream(0));
        let drawn = draw(1);
        let jobs = &drawn.jobs;
        assert_eq!(jobs.len(), 19 * 24);
        assert!(jobs.is_sorted_by_key(|(_, at)| *at));
        for (job, at) in jobs {
            assert_eq!(at.0.abs_diff(submitted[*job].0) % (24 * 3_600_000_000), 0);
            let block = drawn.blocks[(at.0 / (24 * 3_600_000_000)) as usize];
            assert!(block.from <= submitted[*job] && submitted[*job] < block.until);
            assert_eq!(block.at + submitted[*job].since(block.from), *at);
        }
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        // Some days come twice, others not at all.
        let days: std::collections::BTreeSet<usize> =
            jobs.iter().map(|(job, _)| job / 24).collect();
        assert!((8..=17).contains(&days.len()), "{days:?}");
        let none = Blocks::of(&[]).draw(&[], &mut Seed(1).stream(0));
        assert_eq!(none.jobs, []);
    }
}
