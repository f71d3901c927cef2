use super::super::scenario::Overload;
use super::guest::{Guest, REMEMBERED};
use super::host::Host;

/// The share that counts as too much while too little is remembered.
const FALLBACK: f64 = 0.7;
/// So many looks are enough for a statement about their spread.
const ENOUGH: usize = 12;
/// Through so many looks the line is drawn.
const LINE: usize = 10;

/// Seconds that a VM with so much memory takes to another host: half of the host's
/// bandwidth is for that.
pub(super) fn migration_s(memory_mib: u64, host: &Host) -> f64 {
    let kbit = host.like.bandwidth_mbps.unwrap_or(u64::MAX) as f64 * 1000.0;
    memory_mib as f64 / (kbit / (2.0 * 8000.0))
}

impl Overload {
    /// Whether a host has too much to do, with one VM more if there is one.
    pub(super) fn holds(
        self,
        host: &Host,
        guests: &[Guest],
        more: Option<usize>,
        interval: f64,
    ) -> bool {
        let on = || {
            let placed = host.placed.iter().map(|its| its.guest);
            placed.chain(more).map(|guest| &guests[guest])
        };
        let above = |limit: f64| {
            let asked = on().fold(0.0, |sum, its| sum + its.asks_all());
            asked / host.mips > limit
        };
        let history = || {
            let (mut sums, mut longest) = ([0.0; REMEMBERED], 0);
            for its in on() {
                for (sum, load) in sums.iter_mut().zip(&its.history) {
                    *sum += load * its.like.mips / host.mips;
                }
                longest = longest.max(its.history.len());
            }
            sums[..longest].to_vec()
        };
        match self {
            Self::Static(limit) => above(limit),
            Self::Iqr(safety) => match enough(history()) {
                Some(history) => above(1.0 - safety * interquartile_range(history)),
                None => above(FALLBACK),
            },
            Self::Mad(safety) => match enough(history()) {
                Some(history) => above(1.0 - safety * median_absolute_deviation(history)),
                None => above(FALLBACK),
            },
            Self::LocalRegression(safety) => {
                let history = history();
                let Some(first) = history.first_chunk::<LINE>() else {
                    return above(FALLBACK);
                };
                let memory = on().map(|its| its.like.memory_mib).max().unwrap_or(0);
                let ahead = (migration_s(memory, host) / interval).ceil();
                let (start, slope) = line(first.iter().rev());
                (start + slope * (LINE as f64 + ahead)) * safety >= 1.0
            }
        }
    }
}

/// Gives a history if it says enough: zeros at its end do not count.
fn enough(history: Vec<f64>) -> Option<Vec<f64>> {
    let zeros = history
        .iter()
        .rev()
        .take_while(|load| **load == 0.0)
        .count();
    // CloudSim counts none at all as one.
    let counted = (history.len() - zeros).max(1);
    (counted >= ENOUGH).then_some(history)
}

fn interquartile_range(mut history: Vec<f64>) -> f64 {
    history.sort_by(f64::total_cmp);
    let many = (history.len() + 1) as f64;
    let place = |part: f64| (part * many + 0.5).floor() as usize - 1;
    history[place(0.75)] - history[place(0.25)]
}

fn median_absolute_deviation(mut history: Vec<f64>) -> f64 {
    let middle = median(&mut history);
    let mut deviations: Vec<f64> = history.iter().map(|load| (middle - load).abs()).collect();
    median(&mut deviations)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        1 => values[half],
        _ => values[half - 1] + 0.5 * (values[half] - values[half - 1]),
    }
}

/// Gives the line through values at 1, 2, 3 and so on, by least squares: its value at 0,
/// and its slope.
fn line<'v>(values: impl Iterator<Item = &'v f64>) -> (f64, f64) {
    let (mut sum_x, mut sum_y, mut sum_xx, mut sum_xy) = (0.0, 0.0, 0.0, 0.0);
    let (mut mean_x, mut mean_y) = (0.0, 0.0);
    let mut count = 0.0;
    for y in values {
        let x = count + 1.0;
        if count == 0.0 {
            (mean_x, mean_y) = (x, *y);
        } else {
            let (dx, dy) = (x - mean_x, y - mean_y);
            let part = count / (1.0 + count);
            sum_xx += dx * dx * part;
            sum_xy += dx * dy * part;
            mean_x += dx / (1.0 + count);
            mean_y += dy / (1.0 + count);
        }
        sum_x += x;
        sum_y += y;
        count += 1.0;
    }
    let slope = sum_xy / sum_xx;
    ((sum_y - slope * sum_x) / count, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_what_was_asked_for_are_those_of_the_textbook() {
        let twelve: Vec<f64> = (1..=12).map(f64::from).collect();
        assert_eq!(interquartile_range(twelve.clone()), 10.0 - 3.0);
        assert_eq!(median_absolute_deviation(twelve), 3.0);
        assert_eq!(
            median_absolute_deviation(vec![1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]),
            1.0
        );
        let (start, slope) = line([0.5, 0.7, 0.9, 1.1].iter());
        assert!((start - 0.3).abs() < 1e-12 && (slope - 0.2).abs() < 1e-12);
    }
}
