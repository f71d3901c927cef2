//! Names and numbers of things.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What is wrong with a name or an id.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdError {
    /// The name has a character outside `[a-zA-Z0-9_.-]` or starts with punctuation.
    #[error(
        "{0:?} is not a name: use letters, digits, '_', '.', '-', and start with a letter or digit"
    )]
    Name(String),
    /// The name is too long to be a file name with room for a suffix.
    #[error("the name {0:?} is longer than 128 characters")]
    Long(String),
    /// The text is not twelve lower-case hexadecimal digits.
    #[error("{0:?} is not a job id: twelve hexadecimal digits")]
    Job(String),
}

/// How many processes a host starts before its jobs lie in another folder.
const NEIGHBOURS: u64 = 256;

/// Names one job: twelve lower-case hexadecimal digits, unique within a root. Folders of
/// jobs lie in folders by the first two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// Makes an id from 40 bits of randomness that the caller provides, and a number that
    /// grows as processes are started.
    ///
    /// Jobs that begin soon after each other have the first two digits in common: what the
    /// file system must know of the place is in memory from the first of them on. Some
    /// fifty later the place changes, because ext4 gives no inode out again for a minute
    /// and looks at all that were given up near by.
    pub fn new(processes: u64, bits: u64) -> Self {
        let place = (processes / NEIGHBOURS) % 0x100;
        Self(format!("{place:02x}{:010x}", bits & 0xff_ffff_ffff))
    }

    /// Gives the twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for JobId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if s.len() == 12 && s.bytes().all(hex) {
            Ok(Self(s.to_owned()))
        } else {
            Err(IdError::Job(s.to_owned()))
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        s.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

/// A name that a user gives to a job, safe as a file name and as a host name's base.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Gives the text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        if s.len() > 128 {
            return Err(IdError::Long(s.to_owned()));
        }
        let mut bytes = s.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if first && rest {
            Ok(Self(s.to_owned()))
        } else {
            Err(IdError::Name(s.to_owned()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        s.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// The number of one process of a parallel program, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(pub u32);

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for bad in ["", "..", ".hidden", "a/b", "-x", "a b", "ä"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        for good in ["a", "web-1", "My.Job_2"] {
            assert_eq!(good.parse::<Name>().expect("valid").as_str(), good);
        }
    }

    #[test]
    fn job_ids_are_twelve_hexadecimal_digits() {
        let id = JobId::new(u64::MAX, u64::MAX);
        assert_eq!(id.as_str(), "ffffffffffff");
        assert_eq!(JobId::new(300, 1).as_str(), "010000000001");
        assert_eq!(JobId::new(257 * 256, 1).as_str(), "010000000001");
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert!("FFFFFFFFFFFF".parse::<JobId>().is_err());
        assert!("../../../../x".parse::<JobId>().is_err());
    }
}
