//! Measuring alternately, and what is said of the numbers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::command::Cmd;

/// One thing to measure: its name and what yields one number.
pub(super) struct Case<'a> {
    pub(super) name: &'static str,
    measure: Box<dyn FnMut() -> Result<Vec<f64>> + 'a>,
}

/// What a case gave in every round: one series for each number, or why there is none.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) series: Result<Vec<Series>, String>,
}

/// The numbers of all rounds, in the order of the rounds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series(pub(super) Vec<f64>);

impl<'a> Case<'a> {
    /// A case that yields several numbers at once.
    pub(super) fn new(name: &'static str, measure: impl FnMut() -> Result<Vec<f64>> + 'a) -> Self {
        Self {
            name,
            measure: Box::new(measure),
        }
    }

    /// A case whose number is the wall time of a command in milliseconds.
    pub(super) fn wall(name: &'static str, command: Cmd) -> Self {
        Self::new(name, move || Ok(vec![milliseconds(command.time()?)]))
    }

    /// A case whose number is the processor time of a command in milliseconds.
    pub(super) fn processor(name: &'static str, command: Cmd) -> Self {
        Self::new(name, move || {
            Ok(vec![milliseconds(command.processor_time()?)])
        })
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Measures A B C A B C …, so that what disturbs the machine disturbs all alike.
///
/// A case that fails in its warm-up is out, with its reason; one that fails
/// later is out too, since a number over fewer rounds would not compare.
pub(super) fn alternate(cases: Vec<Case<'_>>, rounds: usize, warm_up: usize) -> Vec<Sample> {
    let start = Instant::now();
    let mut all: Vec<(Case<'_>, Result<Vec<Series>, String>)> =
        cases.into_iter().map(|case| (case, Ok(vec![]))).collect();
    for round in 0..warm_up + rounds {
        for (case, series) in &mut all {
            let Ok(kept) = series else { continue };
            match (case.measure)() {
                Err(error) => *series = Err(format!("{error:#}")),
                Ok(_) if round < warm_up => {}
                Ok(numbers) => {
                    kept.resize(numbers.len(), Series(vec![]));
                    for (series, number) in kept.iter_mut().zip(numbers) {
                        series.0.push(number);
                    }
                }
            }
        }
    }
    for (case, series) in &all {
        match series {
            Ok(series) => {
                let words: Vec<String> = series.iter().map(Series::describe).collect();
                eprintln!("  {:<28} {}", case.name, words.join("; "));
            }
            Err(reason) => eprintln!("  {:<28} not measured: {reason}", case.name),
        }
    }
    eprintln!(
        "  {rounds} rounds in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    all.into_iter()
        .map(|(case, series)| Sample {
            name: case.name,
            series,
        })
        .collect()
}

impl Sample {
    /// The first series, or why there is none.
    pub(super) fn first(&self) -> Result<&Series> {
        self.at(0)
    }

    /// One of several series, or why there is none.
    pub(super) fn at(&self, index: usize) -> Result<&Series> {
        match &self.series {
            Ok(series) => series
                .get(index)
                .with_context(|| format!("{} gave no number", self.name)),
            Err(reason) => bail!("{}: {reason}", self.name),
        }
    }
}

impl Series {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The value below which this share of the numbers lies, from 0 to 1; NaN if there are none.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let sorted = self.sorted();
        let Some(last) = sorted.len().checked_sub(1) else {
            return f64::NAN;
        };
        let place = share * last as f64;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
    }

    pub(super) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The median of the ratios within each round: what changes over time cancels out.
    pub(super) fn paired_ratio(&self, base: &Self) -> f64 {
        Self(self.0.iter().zip(&base.0).map(|(a, b)| a / b).collect()).median()
    }

    fn describe(&self) -> String {
        format!(
            "median {:.3} min {:.3} p95 {:.3}",
            self.median(),
            self.quantile(0.0),
            self.quantile(0.95)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_between_the_numbers() {
        let series = Series(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(series.median(), 2.5);
        assert_eq!(series.quantile(0.0), 1.0);
        assert_eq!(series.quantile(1.0), 4.0);
        assert!(Series(vec![]).median().is_nan());
    }

    #[test]
    fn paired_ratios_forget_a_slow_state_of_the_machine() {
        let base = Series(vec![1.0, 10.0, 1.0, 10.0]);
        let ours = Series(vec![1.1, 11.0, 1.1, 11.0]);
        assert!((ours.paired_ratio(&base) - 1.1).abs() < 1e-9);
    }

    #[test]
    fn cases_alternate_and_a_failing_one_says_why() {
        let order = std::cell::RefCell::new(vec![]);
        let samples = alternate(
            vec![
                Case::new("a", || {
                    order.borrow_mut().push('a');
                    Ok(vec![1.0])
                }),
                Case::new("b", || {
                    order.borrow_mut().push('b');
                    Ok(vec![2.0, 3.0])
                }),
                Case::new("c", || bail!("no such peer")),
            ],
            2,
            1,
        );
        assert_eq!(order.into_inner(), ['a', 'b', 'a', 'b', 'a', 'b']);
        assert_eq!(samples[0].first().expect("measured").0, [1.0, 1.0]);
        assert_eq!(samples[1].at(1).expect("measured").0, [3.0, 3.0]);
        let reason = samples[2].first().expect_err("failed").to_string();
        assert!(reason.contains("no such peer"), "{reason}");
    }
}
