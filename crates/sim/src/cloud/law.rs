use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp1, StandardNormal, StandardUniform};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// No number is greater.
const MOST: f64 = 1e12;

/// A number, or what it is drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity {
    /// Always the same.
    Fixed(f64),
    /// Another one each time.
    Drawn(Law),
}

/// What numbers are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// Any from the first to the second.
    Uniform(f64, f64),
    /// The exponential law with this mean.
    Exponential(f64),
    /// The normal law with this mean and standard deviation; 0 in place of less.
    Normal(f64, f64),
    /// The law whose logarithm is normal with this mean and standard deviation.
    Lognormal(f64, f64),
    /// The law of Weibull with this shape and this scale.
    Weibull(f64, f64),
    /// The law of Pareto with this shape and this least value.
    Pareto(f64, f64),
}

impl Default for Quantity {
    fn default() -> Self {
        Self::Fixed(0.0)
    }
}

impl Quantity {
    /// Gives the next number.
    pub(super) fn draw(self, chance: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Fixed(number) => number,
            Self::Drawn(law) => law.draw(chance).min(MOST),
        }
    }

    /// Says what no number can be drawn from.
    pub(super) fn wrong(self) -> Option<&'static str> {
        let fits = |good: bool, rule| (!good).then_some(rule);
        let real = |numbers: &[f64]| numbers.iter().all(|n| (0.0..=MOST).contains(n));
        match self {
            Self::Fixed(number) => fits(real(&[number]), "a number from 0 to 1e12"),
            Self::Drawn(Law::Uniform(low, high)) => fits(
                real(&[low, high]) && low <= high,
                "a least number that is 0 at least, and a greatest",
            ),
            Self::Drawn(Law::Exponential(mean)) => {
                fits(real(&[mean]) && mean > 0.0, "a mean above 0")
            }
            Self::Drawn(Law::Normal(mean, deviation)) => fits(
                real(&[mean, deviation]),
                "a mean and a standard deviation that are 0 at least",
            ),
            Self::Drawn(Law::Lognormal(mean, deviation)) => fits(
                mean.abs() <= MOST && real(&[deviation]),
                "a mean and a standard deviation of the logarithm",
            ),
            Self::Drawn(Law::Weibull(shape, scale)) => fits(
                real(&[shape, scale]) && shape > 0.0,
                "a shape above 0 and a scale that is 0 at least",
            ),
            Self::Drawn(Law::Pareto(shape, least)) => fits(
                real(&[shape, least]) && shape > 0.0,
                "a shape above 0 and a least number that is 0 at least",
            ),
        }
    }
}

/// How it stands where nothing but the number of the variant says which it is.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Quantity")]
enum Numbered {
    Fixed(f64),
    Drawn(Law),
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            _ if !serializer.is_human_readable() => Numbered::serialize(self, serializer),
            Self::Fixed(number) => number.serialize(serializer),
            Self::Drawn(law) => law.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrLaw;
        impl<'de> Visitor<'de> for NumberOrLaw {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a law such as { uniform = [1, 9] }")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity::Fixed(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Quantity, E> {
                Ok(Quantity::Fixed(number))
            }
            fn visit_map<A: MapAccess<'de>>(self, law: A) -> Result<Quantity, A::Error> {
                Law::deserialize(MapAccessDeserializer::new(law)).map(Quantity::Drawn)
            }
        }
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_any(NumberOrLaw),
            false => Numbered::deserialize(deserializer),
        }
    }
}

impl Law {
    fn draw(self, chance: &mut ChaCha8Rng) -> f64 {
        let standard = |chance: &mut ChaCha8Rng| -> f64 { StandardNormal.sample(chance) };
        match self {
            Self::Uniform(low, high) => {
                let share: f64 = StandardUniform.sample(chance);
                low + (high - low) * share
            }
            Self::Exponential(mean) => {
                let one: f64 = Exp1.sample(chance);
                mean * one
            }
            Self::Normal(mean, deviation) => (mean + deviation * standard(chance)).max(0.0),
            Self::Lognormal(mean, deviation) => libm::exp(mean + deviation * standard(chance)),
            Self::Weibull(shape, scale) => {
                let one: f64 = Exp1.sample(chance);
                scale * libm::pow(one, 1.0 / shape)
            }
            Self::Pareto(shape, least) => {
                let one: f64 = Exp1.sample(chance);
                least * libm::exp(one / shape)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Seed;

    #[test]
    fn numbers_have_the_mean_and_the_deviation_of_their_law() {
        for (law, mean, deviation) in [
            (Law::Uniform(2.0, 8.0), 5.0, 3.0_f64.sqrt()),
            (Law::Exponential(7.0), 7.0, 7.0),
            // Scale 4: the mean is 4 Γ(1.5), the variance 16 (Γ(2) − Γ(1.5)²).
            (Law::Weibull(2.0, 4.0), 3.544_907_701_811, 1.853_026_349),
            (Law::Weibull(1.0, 4.0), 4.0, 4.0),
        ] {
            let mut chance = Seed(5).stream(9);
            let drawn: Vec<f64> = (0..200_000).map(|_| law.draw(&mut chance)).collect();
            let count = drawn.len() as f64;
            let found = drawn.iter().sum::<f64>() / count;
            let spread = drawn.iter().map(|one| (one - found).powi(2)).sum::<f64>() / count;
            assert!(
                (found - mean).abs() < 4.0 * deviation / count.sqrt(),
                "{law:?}: {found}"
            );
            assert!(
                (spread.sqrt() / deviation - 1.0).abs() < 0.02,
                "{law:?}: {spread}"
            );
        }
    }
}
