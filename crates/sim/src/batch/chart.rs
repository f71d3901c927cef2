use std::collections::BTreeMap;
use std::time::Duration;

use hyperion_sched::Time;

use super::run::Ran;

/// How many processors were in use, and how many were waited for, over time: means over
/// spans of equal length.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// When it begins.
    pub from: Time,
    /// How long each span is.
    pub step: Duration,
    /// Processors that jobs had.
    pub used: Vec<f64>,
    /// Processors that waiting jobs asked for.
    pub wanted: Vec<f64>,
}

impl Curve {
    /// Draws what ran in so many spans of a time.
    pub fn of(all: &[Ran], (from, until): (Time, Time), spans: usize) -> Self {
        let spans = spans.max(1);
        let step = until.since(from).as_secs_f64() / spans as f64;
        let mut curve = Self {
            from,
            step: Duration::from_secs_f64(step),
            used: vec![0.0; spans],
            wanted: vec![0.0; spans],
        };
        for ran in all {
            let at = |time: Time| time.since(from).as_secs_f64();
            let (submit, start, end) = (at(ran.job.submit), at(ran.start), at(ran.end()));
            spread(&mut curve.wanted, step, (submit, start), ran.job.processors);
            spread(&mut curve.used, step, (start, end), ran.job.processors);
        }
        curve
    }
}

/// Adds processors over a time to the means of the spans that it touches.
fn spread(means: &mut [f64], step: f64, (from, until): (f64, f64), processors: u64) {
    if step <= 0.0 || until <= from {
        return;
    }
    let first = ((from / step) as usize).min(means.len() - 1);
    let last = ((until / step) as usize).min(means.len() - 1);
    for (span, mean) in means.iter_mut().enumerate().take(last + 1).skip(first) {
        let begin = span as f64 * step;
        let within = until.min(begin + step) - from.max(begin);
        *mean += processors as f64 * (within / step).max(0.0);
    }
}

/// A piece of a job in a Gantt chart: processors that lie beside one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Which of the jobs that were given.
    pub job: usize,
    /// The first processor.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// Says which processors jobs have in a picture, the lowest that are free; the scheduler
/// counts them only. A job can be in pieces.
pub fn gantt(all: &[Ran], machine: u64) -> Vec<Bar> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&job| (all[job].start, all[job].number));
    // Free processors, as first and count, and what is given back when.
    let mut free = BTreeMap::from([(0, machine)]);
    let mut ends: BTreeMap<(Time, usize), Vec<Bar>> = BTreeMap::new();
    let mut bars = Vec::new();
    for job in order {
        let ran = &all[job];
        while let Some(entry) = ends.first_entry().filter(|its| its.key().0 <= ran.start) {
            for bar in entry.remove() {
                give_back(&mut free, bar);
            }
        }
        let mut missing = ran.job.processors;
        let mut its = Vec::new();
        while missing > 0
            && let Some((first, there)) = free.pop_first()
        {
            let count = there.min(missing);
            missing -= count;
            its.push(Bar { job, first, count });
            if there > count {
                free.insert(first + count, there - count);
            }
        }
        bars.extend(&its);
        ends.insert((ran.end(), job), its);
    }
    bars
}

fn give_back(free: &mut BTreeMap<u64, u64>, bar: Bar) {
    let (mut first, mut count) = (bar.first, bar.count);
    if let Some((&before, &its)) = free.range(..first).next_back()
        && before + its == first
    {
        free.remove(&before);
        (first, count) = (before, count + its);
    }
    if let Some(after) = free.remove(&(first + count)) {
        count += after;
    }
    free.insert(first, count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use crate::batch::run::ran;
    use crate::batch::{Kinds, Lublin, Machine, run};
    use hyperion_sched::{Backfill, Order};
    use std::convert::Infallible;

    #[test]
    fn a_curve_has_the_area_of_what_ran_and_waited() {
        let all = [ran(0, 0, 40, 2), ran(10, 40, 60, 3)];
        let whole = (Time(0), Time::seconds(100));
        let curve = Curve::of(&all, whole, 10);
        assert_eq!(curve.step, Duration::from_secs(10));
        let used = [2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0];
        assert_eq!(curve.used, used);
        assert_eq!(curve.wanted[..5], [0.0, 3.0, 3.0, 3.0, 0.0]);
        // Spans that a job touches in part have a part of it.
        let coarse = Curve::of(&all, whole, 3);
        let area: f64 = coarse.used.iter().sum::<f64>() * 100.0 / 3.0;
        assert!((area - 260.0).abs() < 1e-6, "{area}");
        assert_eq!(Curve::of(&[], whole, 3).used, [0.0; 3]);
    }

    #[test]
    fn no_processor_is_drawn_for_two_jobs_at_once_and_none_is_left_out() {
        let machine = 32;
        let jobs = Lublin::new(machine, Kinds::Generic, Seed(2)).take(300);
        let mut all = Vec::new();
        let scan = Order::Fifo;
        let backfill = Backfill::Easy { scan };
        let trace = jobs.map(Ok::<_, Infallible>);
        run(Machine::of(machine), Order::Fifo, backfill, trace, |ran| {
            all.push(ran);
        })
        .expect("it runs");
        let bars = gantt(&all, machine);
        for (job, ran) in all.iter().enumerate() {
            let its = bars.iter().filter(|bar| bar.job == job);
            assert_eq!(its.map(|bar| bar.count).sum::<u64>(), ran.job.processors);
        }
        for (at, bar) in bars.iter().enumerate() {
            assert!(bar.first + bar.count <= machine);
            for other in &bars[..at] {
                let (a, b) = (&all[bar.job], &all[other.job]);
                let at_once = a.start < b.end() && b.start < a.end();
                let beside =
                    bar.first < other.first + other.count && other.first < bar.first + bar.count;
                assert!(!(at_once && beside), "{bar:?} {other:?}");
            }
        }
    }
}
