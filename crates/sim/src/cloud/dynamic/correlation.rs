/// A column that is so much shorter than it was is a sum of those before it.
const DEPENDENT: f64 = 1e-9;

/// Gives for each series how well the others predict it: the square of its multiple
/// correlation with them, from 0 to 1, R² = 1 − RSS / TSS of the least squares of it on the
/// others and a constant. All are equally long.
///
/// Beloglazov and Buyya, "Optimal online deterministic algorithms and adaptive heuristics
/// for energy and performance efficient dynamic consolidation of virtual machines in cloud
/// data centers", Concurrency and Computation 24, 2012, 5.2.3, after Abdi, "Multiple
/// correlation coefficient", 2007. What never changes is predicted by nothing: 0.
pub(super) fn multiple(series: &[Vec<f64>]) -> Vec<f64> {
    let centred: Vec<Vec<f64>> = series.iter().map(|one| centred(one)).collect();
    let of = |number: usize| {
        let others = centred.iter().enumerate();
        let others = others.filter(|(other, _)| *other != number);
        r_squared(&centred[number], others.map(|(_, one)| one))
    };
    (0..series.len()).map(of).collect()
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|value| value - mean).collect()
}

/// The part of the square of one that lies in the space of the others (Gram and Schmidt).
fn r_squared<'s>(one: &[f64], others: impl Iterator<Item = &'s Vec<f64>>) -> f64 {
    let mut base: Vec<Vec<f64>> = Vec::new();
    for other in others {
        let mut column = other.clone();
        // Once more takes away what rounding left.
        for _ in 0..2 {
            base.iter().for_each(|unit| take_out(&mut column, unit));
        }
        let length = dot(&column, &column).sqrt();
        if length > DEPENDENT * dot(other, other).sqrt() {
            column.iter_mut().for_each(|value| *value /= length);
            base.push(column);
        }
    }
    let all = dot(one, one);
    let mut rest = one.to_vec();
    base.iter().for_each(|unit| take_out(&mut rest, unit));
    match all > 0.0 {
        true => (1.0 - dot(&rest, &rest) / all).clamp(0.0, 1.0),
        false => 0.0,
    }
}

fn take_out(column: &mut [f64], unit: &[f64]) {
    let part = dot(column, unit);
    for (value, of) in column.iter_mut().zip(unit) {
        *value -= part * of;
    }
}

fn dot(one: &[f64], two: &[f64]) -> f64 {
    one.iter().zip(two).map(|(one, two)| one * two).sum()
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution as _, StandardUniform};

    use super::*;
    use crate::chance::Seed;

    /// The same by Abdi's formula: r' R⁻¹ r, with the correlations r of one with the others
    /// and R of the others among each other, by elimination.
    fn oracle(series: &[Vec<f64>], number: usize) -> f64 {
        let correlation = |one: &[f64], two: &[f64]| {
            let (one, two) = (centred(one), centred(two));
            dot(&one, &two) / (dot(&one, &one) * dot(&two, &two)).sqrt()
        };
        let mut others = series.to_vec();
        let own = others.remove(number);
        let r: Vec<f64> = others.iter().map(|one| correlation(one, &own)).collect();
        let count = others.len();
        let mut rows: Vec<Vec<f64>> = (0..count)
            .map(|row| {
                let of = |column: usize| correlation(&others[row], &others[column]);
                (0..count).map(of).chain([r[row]]).collect()
            })
            .collect();
        for step in 0..count {
            let pivot = rows[step].clone();
            for row in (0..count).filter(|row| *row != step) {
                let times = rows[row][step] / pivot[step];
                for column in 0..=count {
                    rows[row][column] -= times * pivot[column];
                }
            }
        }
        (0..count)
            .map(|row| r[row] * rows[row][count] / rows[row][row])
            .sum()
    }

    #[test]
    fn multiple_correlation_is_that_of_the_formula() {
        let mut chance = Seed(23).stream(4);
        let mut share = || -> f64 { StandardUniform.sample(&mut chance) };
        for round in 0..200 {
            let (count, long) = (2 + round % 5, 12 + round % 19);
            let common: Vec<f64> = (0..long).map(|_| share()).collect();
            let series: Vec<Vec<f64>> = (0..count)
                .map(|_| {
                    let part = share();
                    common
                        .iter()
                        .map(|all| part * all + (1.0 - part) * share())
                        .collect()
                })
                .collect();
            for (number, found) in multiple(&series).into_iter().enumerate() {
                let right = oracle(&series, number);
                assert!((found - right).abs() < 1e-9, "{found} {right} {series:?}");
            }
        }
    }

    #[test]
    fn a_sum_of_the_others_is_predicted_and_what_stays_is_not() {
        let one = vec![0.1, 0.5, 0.2, 0.9, 0.4];
        let two = vec![0.3, 0.1, 0.8, 0.2, 0.6];
        let sum: Vec<f64> = one
            .iter()
            .zip(&two)
            .map(|(a, b)| 0.5 * a + 2.0 * b)
            .collect();
        let found = multiple(&[one.clone(), two, sum, vec![0.7; 5], one]);
        for (found, right) in found.iter().zip([1.0, 1.0, 1.0, 0.0, 1.0]) {
            assert!((found - right).abs() < 1e-12, "{found} {right}");
        }
        assert_eq!(multiple(&[vec![0.1, 0.2]]), [0.0]);
    }
}
