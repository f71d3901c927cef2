use serde::Serialize;

/// Between what something lies, with a confidence of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Interval {
    /// Gives that of the mean of what independent replications came to, by Student's
    /// distribution; `None` of fewer than two.
    pub fn of_mean(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let freedom = values.len().checked_sub(1).filter(|freedom| *freedom > 0)?;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean).powi(2));
        let error = (squares.sum::<f64>() / freedom as f64 / count).sqrt();
        let half = student(freedom) * error;
        Some(Self {
            low: mean - half,
            high: mean + half,
        })
    }

    /// Gives that of something of which resampled workloads gave these values: all but the
    /// least and the greatest fortieth (Efron's percentile interval); `None` of none.
    pub fn of_resampled(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |part: f64| {
            let place = part * last as f64;
            let (below, above) = (
                values[place.floor() as usize],
                values[place.ceil() as usize],
            );
            below + (above - below) * place.fract()
        };
        Some(Self {
            low: at(0.025),
            high: at(0.975),
        })
    }
}

/// Gives what Student's t does not exceed in either direction with 95 %, by its degrees of
/// freedom (Abramowitz and Stegun, 26.7.5; two exact values where that is coarse).
fn student(freedom: usize) -> f64 {
    let each = 1.0 / freedom as f64;
    match freedom {
        1 => 12.706_205,
        2 => 4.302_653,
        _ => {
            1.959_964
                + each * (2.372_271 + each * (2.822_499 + each * (2.555_852 + each * 1.589_536)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let table = [
            (1, 12.706),
            (3, 3.182),
            (4, 2.776),
            (9, 2.262),
            (30, 2.042),
            (1000, 1.962),
        ];
        for (freedom, right) in table {
            let ours = student(freedom);
            assert!((ours - right).abs() < 0.004, "{freedom}: {ours}");
        }
    }

    #[test]
    fn a_mean_is_known_as_well_as_its_replications_agree() {
        let interval = Interval::of_mean(&[1.0, 2.0, 3.0]).expect("three");
        // 2 ± 4.3027 × 1 / √3
        assert!((interval.low + 0.484).abs() < 1e-3, "{interval:?}");
        assert!((interval.high - 4.484).abs() < 1e-3, "{interval:?}");
        assert_eq!(Interval::of_mean(&[1.0]), None);
        assert_eq!(Interval::of_mean(&[]), None);
    }

    #[test]
    fn the_outermost_fortieths_do_not_count() {
        let values = (0..=200).rev().map(f64::from).collect();
        let interval = Interval::of_resampled(values).expect("some");
        assert_eq!((interval.low, interval.high), (5.0, 195.0));
        assert_eq!(Interval::of_resampled(Vec::new()), None);
    }
}
