use std::fmt;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::law::Quantity;
use super::scenario::Scenario;

/// What share of its VM a cloudlet asks for, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Utilization {
    /// A number, or another one at each moment at which one looks: CloudSim's
    /// `UtilizationModelFull`, `UtilizationModelNull` and `UtilizationModelStochastic`.
    Share(Quantity),
    /// One that was measured: CloudSim's `UtilizationModelPlanetLabInMemory`.
    Measured(Measured),
}

/// Shares that were measured at equal intervals; between two of them on the line, after
/// the last the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// From one to the next, in seconds.
    pub every_s: f64,
    /// The shares.
    #[serde(default)]
    pub values: Vec<f64>,
    /// In their place, the path of a file with a percentage on each line, or of a folder of
    /// such: the cloudlets of a group take its files in turns, by name.
    pub trace: Option<String>,
    /// What was read there.
    #[serde(skip)]
    pub read: Vec<Arc<[f64]>>,
}

/// Why a trace is none.
#[derive(Debug, Error)]
pub enum TraceError<E> {
    /// It could not be read.
    #[error("cannot read the trace {path}")]
    Read {
        /// What the scenario says.
        path: String,
        /// Why not.
        source: E,
    },
    /// A line says something else.
    #[error("{file}, line {line}: must be a percentage from 0 to 100")]
    Line {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
    },
    /// There is nothing in it.
    #[error("{file}: has no line")]
    Empty {
        /// The file, or the folder.
        file: String,
    },
}

impl Default for Utilization {
    fn default() -> Self {
        Self::Share(Quantity::Fixed(1.0))
    }
}

/// How it stands where nothing but the number of the variant says which it is.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Utilization")]
enum Numbered {
    Share(Quantity),
    Measured(Measured),
}

impl Serialize for Utilization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            _ if !serializer.is_human_readable() => Numbered::serialize(self, serializer),
            Self::Share(share) => share.serialize(serializer),
            Self::Measured(its) => its.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Utilization {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShareOrTable;
        impl<'de> Visitor<'de> for ShareOrTable {
            type Value = Utilization;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a share, a law such as { uniform = [0, 1] }, or \
                     { every_s = 300, values = [0.5, 1] }, with trace = PATH in place of values",
                )
            }
            fn visit_i64<E>(self, number: i64) -> Result<Utilization, E> {
                Ok(Utilization::Share(Quantity::Fixed(number as f64)))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Utilization, E> {
                Ok(Utilization::Share(Quantity::Fixed(number)))
            }
            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Utilization, A::Error> {
                let table = toml::Table::deserialize(MapAccessDeserializer::new(table))?;
                let says = |key: &&str| table.contains_key(*key);
                match ["every_s", "values", "trace"].iter().any(says) {
                    true => table.try_into().map(Utilization::Measured),
                    false => (table.try_into()).map(|law| Utilization::Share(Quantity::Drawn(law))),
                }
                .map_err(serde::de::Error::custom)
            }
        }
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_any(ShareOrTable),
            false => Numbered::deserialize(deserializer),
        }
    }
}

impl Utilization {
    /// Whether it names a trace that was not read.
    pub(super) fn unread(&self) -> bool {
        matches!(self, Self::Measured(its) if its.values.is_empty() && its.read.is_empty())
    }

    /// Says what is no utilization.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        let share = |value: &f64| (0.0..=1.0).contains(value);
        match self {
            Self::Share(Quantity::Fixed(value)) => (!share(value)).then_some("a share from 0 to 1"),
            Self::Share(law) => law.wrong(),
            Self::Measured(its) => {
                let good = (1e-3..1e12).contains(&its.every_s)
                    && its.values.iter().all(share)
                    && its.values.is_empty() == its.trace.is_some();
                (!good).then_some(
                    "shares from 0 to 1, or a trace, and an interval of 0.001 s at least",
                )
            }
        }
    }
}

impl Scenario {
    /// Reads the traces that cloudlets name. What is given for a path are the files there,
    /// with name and text, in order.
    ///
    /// # Errors
    /// [`TraceError`]: the first thing that is no trace.
    pub fn read_traces<E>(
        &mut self,
        mut files: impl FnMut(&str) -> Result<Vec<(String, String)>, E>,
    ) -> Result<(), TraceError<E>> {
        for its in self.measured() {
            let Some(path) = &its.trace else {
                continue;
            };
            let found = files(path).map_err(|source| TraceError::Read {
                path: path.clone(),
                source,
            })?;
            if found.is_empty() {
                return Err(TraceError::Empty { file: path.clone() });
            }
            its.read.clear();
            for (file, text) in found {
                its.read.push(percentages(file, &text)?.into());
            }
        }
        Ok(())
    }

    /// Gives the utilizations that were measured, in order.
    pub(super) fn measured(&mut self) -> impl Iterator<Item = &mut Measured> {
        let groups = self.broker.iter_mut().flat_map(|its| &mut its.cloudlet);
        let all = groups.flat_map(|group| {
            [
                &mut group.utilization,
                &mut group.utilization_memory,
                &mut group.utilization_bandwidth,
            ]
        });
        all.filter_map(|one| match one {
            Utilization::Measured(its) => Some(its),
            Utilization::Share(_) => None,
        })
    }
}

impl Measured {
    /// Gives what the cloudlet with this number in its group has of it.
    fn of(&self, number: usize) -> Arc<[f64]> {
        match self.read.len() {
            0 => self.values.as_slice().into(),
            files => Arc::clone(&self.read[number % files]),
        }
    }

    /// Lets its cloudlets have the same memory.
    pub(super) fn share(&mut self) {
        if self.read.is_empty() {
            self.read.push(self.of(0));
        }
    }
}

fn percentages<E>(file: String, text: &str) -> Result<Vec<f64>, TraceError<E>> {
    let mut values = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim().parse::<f64>() {
            Ok(value) if (0.0..=100.0).contains(&value) => values.push(value / 100.0),
            _ => return Err(TraceError::Line { file, line: number }),
        }
    }
    match values.is_empty() {
        true => Err(TraceError::Empty { file }),
        false => Ok(values),
    }
}

/// The utilization of one cloudlet, as time goes on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Model {
    Fixed(f64),
    Drawn {
        law: Quantity,
        chance: Box<ChaCha8Rng>,
        /// What was drawn for the last two moments.
        drawn: [(f64, f64); 2],
    },
    Measured {
        every: f64,
        /// Given again after a snapshot, which has them once.
        #[serde(skip)]
        values: Arc<[f64]>,
    },
}

impl Model {
    /// Begins that of a cloudlet, by its number in its group.
    pub(super) fn new(
        like: &Utilization,
        number: usize,
        chance: impl FnOnce() -> ChaCha8Rng,
    ) -> Self {
        match like {
            Utilization::Share(Quantity::Fixed(share)) => Self::Fixed(*share),
            Utilization::Share(law) => Self::Drawn {
                law: *law,
                chance: Box::new(chance()),
                drawn: [(-1.0, 0.0); 2],
            },
            Utilization::Measured(its) => Self::Measured {
                every: its.every_s,
                values: its.of(number),
            },
        }
    }

    /// Gives it again what a snapshot does not have.
    pub(super) fn again(&mut self, like: &Utilization, number: usize) {
        if let (Self::Measured { values, .. }, Utilization::Measured(its)) = (self, like) {
            *values = its.of(number);
        }
    }

    /// Gives the share at a moment: at the same one always the same.
    pub(super) fn at(&mut self, time: f64) -> f64 {
        match self {
            Self::Fixed(share) => *share,
            Self::Drawn { law, chance, drawn } => {
                if let Some((_, share)) = drawn.iter().find(|(then, _)| *then == time) {
                    return *share;
                }
                let share = law.draw(chance).min(1.0);
                *drawn = [drawn[1], (time, share)];
                share
            }
            Self::Measured { every, values } => {
                let value = |place: f64| values[(place as usize).min(values.len() - 1)];
                let before = (time / *every).floor();
                let after = (time / *every).ceil();
                if time % *every == 0.0 || after == before {
                    return value((time / *every).floor());
                }
                let slope = (value(after) - value(before)) / ((after - before) * *every);
                value(before) + slope * (time - before * *every)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::law::Law;
    use super::*;
    use crate::chance::Seed;

    #[test]
    fn what_was_measured_is_on_the_line_between_and_stays_after_the_end() {
        let like = Utilization::Measured(Measured {
            every_s: 300.0,
            values: vec![0.2, 0.6, 0.0],
            trace: None,
            read: Vec::new(),
        });
        let mut model = Model::new(&like, 0, || unreachable!("nothing is drawn"));
        let mut at = |time| (model.at(time) * 1e9).round() / 1e9;
        assert_eq!([at(0.0), at(75.0), at(300.0)], [0.2, 0.3, 0.6]);
        assert_eq!([at(450.0), at(600.0), at(1e9)], [0.3, 0.0, 0.0]);
    }

    #[test]
    fn what_is_drawn_is_the_same_at_the_same_moment() {
        let like = Utilization::Share(Quantity::Drawn(Law::Uniform(0.0, 1.0)));
        let mut model = Model::new(&like, 0, || Seed(7).stream(1));
        let (one, two) = (model.at(1.0), model.at(2.0));
        assert_ne!(one, two);
        assert_eq!((model.at(1.0), model.at(2.0)), (one, two));
    }
}
