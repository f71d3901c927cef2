//! The indices of an array of jobs, as ranges: an array of a million tasks is
//! one range, and a range that nobody can want is refused before it is counted.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest index.
pub const LARGEST: u32 = 4_000_000;
/// The most indices of ranges with steps that lie in each other.
const MOST_CROSSED: u64 = 100_000;

/// What is wrong with an array.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IndexError {
    /// Not a list of indices.
    #[error("{0:?} is not a list of indices: write 1-10, 0-9:2 or 1,4,7-9")]
    List(String),
    /// An index beyond all bounds.
    #[error("the index {0} is larger than {LARGEST}")]
    Large(String),
    /// A range that runs backwards.
    #[error("the range {0} ends before it begins")]
    Backwards(String),
    /// Ranges with steps that lie in each other, and are too many to count one by one.
    #[error("ranges with steps lie in each other and have more than {MOST_CROSSED} indices")]
    Crossed,
    /// Not a limit of tasks that run at once.
    #[error("{0:?} is not a number of tasks that may run at once")]
    Limit(String),
}

/// An array of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// One task for each.
    pub indices: Indices,
    /// How many of them may run at once.
    pub at_once: Option<u32>,
}

/// Indices in rising order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Indices(Vec<Steps>);

/// From the first to the last, in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    first: u32,
    last: u32,
    step: u32,
}

impl Steps {
    fn len(self) -> u64 {
        u64::from((self.last - self.first) / self.step) + 1
    }

    fn iter(self) -> impl Iterator<Item = u32> {
        (self.first..=self.last).step_by(self.step as usize)
    }
}

impl Indices {
    /// Counts them; there is at least one.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|steps| steps.len()).sum()
    }

    /// Gives them in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|steps| steps.iter())
    }

    /// Gives the first.
    pub fn first(&self) -> u32 {
        self.0.first().map_or(0, |steps| steps.first)
    }

    /// Gives the last.
    pub fn last(&self) -> u32 {
        self.0.last().map_or(0, |steps| steps.last)
    }

    /// Gives the distance of one to the next, where it is the same for all.
    pub fn step(&self) -> Option<u32> {
        match self.0.as_slice() {
            [steps] => Some(steps.step),
            _ => None,
        }
    }

    /// Tells whether an index is one of them.
    pub fn contains(&self, index: u32) -> bool {
        let at = self.0.partition_point(|steps| steps.last < index);
        let found = self.0.get(at).filter(|steps| steps.first <= index);
        found.is_some_and(|steps| (index - steps.first).is_multiple_of(steps.step))
    }

    /// Sorts ranges and counts what lies in several of them once.
    fn of(mut ranges: Vec<Steps>) -> Result<Self, IndexError> {
        ranges.sort_by_key(|steps| (steps.first, steps.last));
        if ranges.windows(2).all(|two| two[0].last < two[1].first) {
            return Ok(Self(ranges));
        }
        let mut merged: Vec<Steps> = Vec::new();
        let mut add = |first: u32, last: u32| match merged.last_mut() {
            Some(before) if first <= before.last.saturating_add(1) => {
                before.last = before.last.max(last);
            }
            _ => merged.push(Steps {
                first,
                last,
                step: 1,
            }),
        };
        if ranges.iter().all(|steps| steps.step == 1) {
            ranges.iter().for_each(|steps| add(steps.first, steps.last));
            return Ok(Self(merged));
        }
        // Steps that cross each other are counted one by one.
        if ranges.iter().map(|steps| steps.len()).sum::<u64>() > MOST_CROSSED {
            return Err(IndexError::Crossed);
        }
        let there: BTreeSet<u32> = ranges.iter().flat_map(|steps| steps.iter()).collect();
        there.iter().for_each(|index| add(*index, *index));
        Ok(Self(merged))
    }
}

impl FromStr for Indices {
    type Err = IndexError;
    /// Reads `1-10`, `0-9:2`, `1,4,7-9`: what all batch systems write.
    fn from_str(text: &str) -> Result<Self, IndexError> {
        let bad = || IndexError::List(text.chars().take(80).collect());
        let number = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            let number = digits.parse().ok().filter(|number| *number <= LARGEST);
            number.ok_or_else(|| IndexError::Large(digits.chars().take(20).collect()))
        };
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (range, step) = part.split_once(':').unwrap_or((part, "1"));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last, step) = (number(first)?, number(last)?, number(step)?);
            if first > last {
                return Err(IndexError::Backwards(part.to_owned()));
            }
            if step == 0 {
                return Err(bad());
            }
            let last = last - (last - first) % step;
            let step = if first == last { 1 } else { step };
            ranges.push(Steps { first, last, step });
        }
        Self::of(ranges)
    }
}

impl fmt::Display for Indices {
    /// Writes them as they are read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, steps) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let Steps { first, last, step } = steps;
            match (first == last, *step) {
                (true, _) => write!(f, "{comma}{first}")?,
                (false, 1) => write!(f, "{comma}{first}-{last}")?,
                (false, _) => write!(f, "{comma}{first}-{last}:{step}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Indices {
    type Error = IndexError;
    fn try_from(text: String) -> Result<Self, IndexError> {
        text.parse()
    }
}

impl From<Indices> for String {
    fn from(indices: Indices) -> Self {
        indices.to_string()
    }
}

impl FromStr for Array {
    type Err = IndexError;
    /// Reads indices and, behind `%`, how many may run at once.
    fn from_str(text: &str) -> Result<Self, IndexError> {
        let (indices, limit) = match text.split_once('%') {
            Some((indices, limit)) => (indices, Some(limit)),
            None => (text, None),
        };
        let at_once = limit.map(|limit| {
            let number = limit.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| IndexError::Limit(limit.chars().take(20).collect()))
        });
        Ok(Self {
            indices: indices.parse()?,
            at_once: at_once.transpose()?,
        })
    }
}

/// Writes rising numbers as `1-3,7`.
pub fn ranges(numbers: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = numbers;
    while let Some(&first) = rest.first() {
        let run = rest
            .iter()
            .zip(first..)
            .take_while(|(n, want)| **n == *want);
        let length = run.count();
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match length {
            1 => write!(text, "{comma}{first}"),
            _ => write!(text, "{comma}{first}-{}", first + (length as u32 - 1)),
        };
        rest = &rest[length..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rising_numbers_are_written_as_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[7]), "7");
        assert_eq!(ranges(&[1, 2, 3, 5, 8, 9]), "1-3,5,8-9");
    }
    use proptest::prelude::*;

    fn indices(text: &str) -> Vec<u32> {
        text.parse::<Indices>().expect(text).iter().collect()
    }

    #[test]
    fn an_array_is_read_as_every_batch_system_writes_it() {
        assert_eq!(indices("8,18,28"), [8, 18, 28]);
        assert_eq!(indices("0-29:10"), [0, 10, 20]);
        assert_eq!(indices("5-7,1,6"), [1, 5, 6, 7]);
        let array: Array = "1-9%9".parse().expect("an array");
        assert_eq!((array.indices.count(), array.at_once), (9, Some(9)));
        assert_eq!("0-15:4".parse::<Indices>().map(|i| i.step()), Ok(Some(4)));
    }

    #[test]
    fn a_range_that_nobody_can_want_is_refused_before_it_is_counted() {
        let large = IndexError::Large("1000000000".to_owned());
        assert_eq!("1-1000000000".parse::<Indices>(), Err(large));
        let same = vec!["0-4000000"; 1000].join(",");
        assert_eq!(same.parse::<Indices>().map(|i| i.count()), Ok(4_000_001));
        let crossed = vec!["0-4000000:2"; 1000].join(",");
        assert_eq!(crossed.parse::<Indices>(), Err(IndexError::Crossed));
        assert_eq!(
            "1-4000000".parse::<Indices>().map(|i| i.count()),
            Ok(4_000_000)
        );
    }

    #[test]
    fn what_is_not_an_array_is_told() {
        for bad in ["", "a", "1-", "-1", "1-2-3", "1:0", "1-5:", "1,,2", "+1"] {
            assert!(bad.parse::<Indices>().is_err(), "{bad}");
        }
        assert!("5-1".parse::<Indices>().is_err());
        assert!("1-5%0".parse::<Array>().is_err());
        assert!("1-5%".parse::<Array>().is_err());
    }

    proptest! {
        #[test]
        fn indices_survive_being_written(list in proptest::collection::vec((0u32..300, 0u32..50, 1u32..7), 1..8)) {
            let text: Vec<_> = list.iter().map(|(a, n, s)| format!("{a}-{}:{s}", a + n)).collect();
            let read: Indices = text.join(",").parse().expect("indices");
            let set: std::collections::BTreeSet<u32> = list.iter()
                .flat_map(|&(a, n, s)| (a..=a + n).step_by(s as usize)).collect();
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(read.count(), set.len() as u64);
            for index in 0..360 {
                prop_assert_eq!(read.contains(index), set.contains(&index));
            }
            prop_assert_eq!(read.to_string().parse::<Indices>(), Ok(read));
        }

        #[test]
        fn no_text_makes_the_reader_of_arrays_panic(text in "[0-9,:%-]{0,24}") {
            let _ = text.parse::<Array>();
        }
    }
}
