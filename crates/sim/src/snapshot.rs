//! Files that a simulation goes on from: a line that says what they are, a digest, and
//! what the simulation was.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// What is kept in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A scenario.
    Scenario,
    /// Jobs under a policy.
    Schedule,
}

impl Kind {
    /// How the line begins; the number of the format follows.
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Scenario => b"hyperion simulation ",
            Self::Schedule => b"hyperion schedule ",
        }
    }

    /// One more for each change of what is kept, or of how; a test tells when it is due.
    const fn format(self) -> u32 {
        match self {
            Self::Scenario => 3,
            Self::Schedule => 1,
        }
    }
}

/// Bytes of a digest.
const DIGEST: usize = 32;

/// Why nothing goes on from a file.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// It is something else.
    #[error("is no snapshot of a simulation")]
    Foreign,
    /// It was written by another version.
    #[error("has format {found}, and this version of Hyperion reads and writes {known}")]
    Format {
        /// Which it has.
        found: u32,
        /// Which this version has.
        known: u32,
    },
    /// Something of it is lost or changed.
    #[error("is damaged: its digest is not that of what stands in it")]
    Damaged,
    /// It is whole, but no simulation stands in it.
    #[error("holds no simulation")]
    Content(#[from] postcard::Error),
    /// It is whole, and a simulation stands in it that cannot be.
    #[error("holds a cloudlet of no broker")]
    Orphan,
    /// It is whole, and jobs stand in it that have more than there is.
    #[error("holds jobs that have more than their machine")]
    Crowded,
    /// It is whole, and jobs stand in it under a policy that is none.
    #[error("holds jobs under a policy that there is not")]
    Policy,
}

/// Gives what is written to a file.
pub(crate) fn seal(kind: Kind, value: &impl Serialize) -> Result<Vec<u8>, SnapshotError> {
    let mut file = kind.name().to_vec();
    file.extend(format!("{}\n", kind.format()).bytes());
    let begin = file.len();
    file.extend([0; DIGEST]);
    let mut file = postcard::to_extend(value, file)?;
    let digest = Sha256::digest(&file[begin + DIGEST..]);
    file[begin..begin + DIGEST].copy_from_slice(&digest);
    Ok(file)
}

/// Gives what was written. What is read takes no more memory than a multiple of the file.
pub(crate) fn open<T: DeserializeOwned>(kind: Kind, file: &[u8]) -> Result<T, SnapshotError> {
    let rest = file
        .strip_prefix(kind.name())
        .ok_or(SnapshotError::Foreign)?;
    let end = rest.iter().take(11).position(|byte| *byte == b'\n');
    let (number, rest) = rest.split_at(end.ok_or(SnapshotError::Foreign)?);
    let number = std::str::from_utf8(number)
        .ok()
        .and_then(|it| it.parse().ok());
    let (found, known) = (number.ok_or(SnapshotError::Foreign)?, kind.format());
    if found != known {
        return Err(SnapshotError::Format { found, known });
    }
    let (digest, body) = rest[1..]
        .split_at_checked(DIGEST)
        .ok_or(SnapshotError::Damaged)?;
    if *digest != *Sha256::digest(body) {
        return Err(SnapshotError::Damaged);
    }
    match postcard::take_from_bytes(body)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::DeserializeBadEncoding.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KIND: Kind = Kind::Scenario;

    #[test]
    fn values_come_back_to_the_bit() {
        let numbers = [
            0.1,
            -0.0,
            f64::INFINITY,
            f64::MIN_POSITIVE / 3.0,
            f64::from_bits(0x7ff8_0000_0000_0007),
        ];
        let file = seal(KIND, &numbers).expect("numbers");
        let back: [f64; 5] = open(KIND, &file).expect("the same");
        assert_eq!(numbers.map(f64::to_bits), back.map(f64::to_bits));

        type All = (
            bool,
            Option<i8>,
            Result<char, ()>,
            BTreeMap<(u32, u32), String>,
        );
        let all: All = (
            true,
            Some(-3),
            Ok('é'),
            BTreeMap::from([((1, 2), "one".to_owned()), ((3, 4), String::new())]),
        );
        let back: All = open(KIND, &seal(KIND, &all).expect("values")).expect("the same");
        assert_eq!(all, back);
        let back: (u128, u64) =
            open(KIND, &seal(KIND, &(u128::MAX, u64::MAX)).expect("n")).expect("n");
        assert_eq!(back, (u128::MAX, u64::MAX));
    }

    #[test]
    fn a_file_that_is_none_says_why() {
        let file = seal(KIND, &[1u32, 2]).expect("numbers");
        let why = |bytes: &[u8]| open::<[u32; 2]>(KIND, bytes).expect_err("none").to_string();
        assert_eq!(why(b""), "is no snapshot of a simulation");
        assert_eq!(why(b"[[datacenter]]\n"), "is no snapshot of a simulation");
        let other = seal(Kind::Schedule, &[1u32, 2]).expect("numbers");
        assert_eq!(why(&other), "is no snapshot of a simulation");
        assert!(why(b"hyperion simulation 99\nxyz").contains("format 99"));
        for cut in KIND.name().len() + 2..file.len() {
            assert!(why(&file[..cut]).contains("damaged"), "{cut}");
        }
        for place in KIND.name().len() + 2..file.len() {
            let mut bad = file.clone();
            bad[place] ^= 4;
            assert!(why(&bad).contains("damaged"), "{place}");
        }
        let error = open::<u32>(KIND, &file).expect_err("another type");
        assert!(matches!(error, SnapshotError::Content(_)), "{error:?}");
    }

    #[test]
    fn a_length_that_cannot_be_takes_no_memory() {
        let file = seal(KIND, &u64::MAX).expect("a number");
        let short = postcard::Error::DeserializeUnexpectedEnd;
        let why = [
            open::<Vec<u64>>(KIND, &file).map(drop),
            open::<String>(KIND, &file).map(drop),
        ];
        for why in why {
            assert!(matches!(why, Err(SnapshotError::Content(why)) if why == short));
        }
    }
}
