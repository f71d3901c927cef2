//! A Gantt chart for terminals: time from left to right, processors from above, a letter for
//! each job.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hyperion_sched::Time;
use hyperion_sim::batch::{Ran, gantt};

use super::page::{Schedule, label, tick, time_of};

/// What jobs are told apart by: so many are drawn.
const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// The size of a chart, without labels, in characters.
const WIDTH: usize = 70;
const HEIGHT: u64 = 16;

/// Draws the first jobs of schedules, all with the same axes.
pub(super) fn charts(schedules: &[Schedule], processors: u64) -> String {
    let drawn = |schedule: &Schedule| -> Vec<Ran> {
        let first = |ran: &&Ran| ran.number < LETTERS.len() as u64;
        schedule.ran.iter().filter(first).copied().collect()
    };
    let all: Vec<Vec<Ran>> = schedules.iter().map(drawn).collect();
    let time = time_of(all.iter().flatten());
    let mut out = String::new();
    for (schedule, ran) in schedules.iter().zip(&all) {
        let _ = writeln!(out, "\n{}, the first {} jobs:", schedule.policy, ran.len());
        out += &chart(ran, time, processors);
    }
    out
}

/// Draws jobs: each square is that of the job that has most of it, or of nobody.
fn chart(ran: &[Ran], (from, until): (Time, Time), processors: u64) -> String {
    let rows = HEIGHT.min(processors);
    // Squares that are as wide as they are long in time, and as high as they have processors.
    let wide = until.since(from).as_secs_f64().max(1e-6) / WIDTH as f64;
    let high = processors as f64 / rows as f64;
    let mut squares: Vec<BTreeMap<u64, f64>> = vec![BTreeMap::new(); rows as usize * WIDTH];
    for bar in gantt(ran, processors) {
        let its = &ran[bar.job];
        let at = |time: Time| time.since(from).as_secs_f64() / wide;
        let columns = parts(at(its.start), at(its.end()), WIDTH);
        let lines = (
            bar.first as f64 / high,
            (bar.first + bar.count) as f64 / high,
        );
        for (row, height) in parts(lines.0, lines.1, rows as usize) {
            for (column, width) in columns.clone() {
                let square = &mut squares[row * WIDTH + column];
                *square.entry(its.number).or_default() += height * width;
            }
        }
    }
    let letter = |square: &BTreeMap<u64, f64>| {
        let idle = 1.0 - square.values().sum::<f64>();
        let most = square.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let most = most.filter(|(_, area)| **area >= idle);
        most.map_or('.', |(number, _)| char::from(LETTERS[*number as usize]))
    };
    let mut out = String::new();
    for (row, squares) in squares.chunks(WIDTH).enumerate() {
        let line: String = squares.iter().map(letter).collect();
        let first = (row as f64 * high).floor();
        let _ = writeln!(out, "{first:>7} {line}");
    }
    out + &axis(until.since(from).as_secs_f64())
}

/// Gives the squares of a row that lie between two places, and how much of each does.
fn parts(from: f64, until: f64, count: usize) -> impl Iterator<Item = (usize, f64)> + Clone {
    let (first, last) = (from.max(0.0) as usize, (until.ceil() as usize).min(count));
    (first..last).map(move |at| {
        let inside = until.min(at as f64 + 1.0) - from.max(at as f64);
        (at, inside.max(0.0))
    })
}

/// Writes what time it is, from the first submission on.
fn axis(whole: f64) -> String {
    let step = tick(whole, 6.0);
    let mut line = String::new();
    let mut at = 0.0;
    while at < whole {
        let column = 8 + (WIDTH as f64 * at / whole) as usize;
        let text = if at > 0.0 { label(at) } else { "0".into() };
        // One that does not fit would run over the edge.
        if column + text.len() < 8 + WIDTH {
            let _ = write!(line, "{:>1$}|{text}", "", column.saturating_sub(line.len()));
        }
        at += step;
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyperion_sim::batch::Job;

    use super::*;

    fn ran(number: u64, start: u64, run: u64, processors: u64) -> Ran {
        let run = Duration::from_secs(run);
        Ran {
            number,
            job: Job {
                submit: Time(0),
                run,
                estimate: run,
                processors,
            },
            start: Time::seconds(start),
        }
    }

    #[test]
    fn jobs_are_as_long_and_as_high_as_they_were() {
        let all = [
            ran(0, 0, 3600, 3),
            ran(1, 0, 7200, 1),
            ran(10, 3600, 1800, 2),
        ];
        let time = (Time(0), Time::seconds(7200));
        let times = |letter: &str, count| letter.repeat(count);
        let (zeros, rest) = (times("0", 35), times(".", 17));
        let right = [
            format!("      0 {zeros}{}{rest}", times("a", 18)),
            format!("      1 {zeros}{}{rest}", times("a", 18)),
            format!("      2 {zeros}{}", times(".", 35)),
            format!("      3 {}", times("1", 70)),
            format!("        |0{}|1 h", times(" ", 33)),
        ];
        assert_eq!(chart(&all, time, 4).lines().collect::<Vec<_>>(), right);
    }

    #[test]
    fn a_large_machine_is_drawn_on_few_lines() {
        let all = [ran(0, 0, 60, 100_000), ran(61, 60, 60, 49_999)];
        let text = chart(&all, (Time(0), Time::seconds(120)), 100_000);
        assert_eq!(text.lines().count(), 17, "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert_eq!(text.matches('Z').count(), 8 * 35, "{text}");
    }
}
