//! The manifest: a digest of each file (DSP0243, 5.1).

use std::fmt::{self, Write as _};

use thiserror::Error;

/// More bytes than the digests of any appliance take.
const MOST_BYTES: usize = 64 << 10;

/// A way to make a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Of OVF 1: finds accidents, and no attacker.
    Sha1,
    /// Of OVF 2.
    Sha256,
    /// What some write.
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// Gives the word for it in a manifest.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// Finds it by its word, in capitals or not.
    pub fn named(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|algorithm| algorithm.word().eq_ignore_ascii_case(word))
    }

    /// Gives the length of a digest, in hexadecimal digits.
    pub const fn digits(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// What is said of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file's name.
    pub file: String,
    /// How the digest is made.
    pub algorithm: Algorithm,
    /// The digest, in small hexadecimal digits.
    pub digest: String,
}

/// Why a manifest is not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Larger than any.
    #[error("the manifest has {0} bytes, more than the {MOST_BYTES} that are read")]
    Large(usize),
    /// A line that is none.
    #[error("line {line} of the manifest is not `SHA256(FILE)= DIGEST`: {text:?}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// One file, two digests.
    #[error("line {line} of the manifest names {file:?} again")]
    Twice {
        /// Which, from 1.
        line: usize,
        /// The file.
        file: String,
    },
}

/// The digests of an appliance's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest(pub Vec<Line>);

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`], with the number of the line.
    pub fn read(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MOST_BYTES {
            return Err(ManifestError::Large(text.len()));
        }
        let mut lines: Vec<Line> = Vec::new();
        for (at, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
            if text.trim().is_empty() {
                continue;
            }
            let wrong = || ManifestError::Line {
                line: at,
                text: text.chars().take(80).collect(),
            };
            let line = parse(text.trim()).ok_or_else(wrong)?;
            if lines.iter().any(|other| other.file == line.file) {
                return Err(ManifestError::Twice {
                    line: at,
                    file: line.file,
                });
            }
            lines.push(line);
        }
        Ok(Self(lines))
    }

    /// Finds what is said of a file.
    pub fn of(&self, file: &str) -> Option<&Line> {
        self.0.iter().find(|line| line.file == file)
    }
}

/// Reads `SHA256(FILE)= DIGEST`.
fn parse(text: &str) -> Option<Line> {
    let (word, rest) = text.split_once('(')?;
    let (file, digest) = rest.rsplit_once(')')?;
    let algorithm = Algorithm::named(word.trim())?;
    let digest = digest.trim_start().strip_prefix('=')?.trim();
    let hexadecimal = digest.bytes().all(|b| b.is_ascii_hexdigit());
    let fits = hexadecimal && digest.len() == algorithm.digits() && !file.is_empty();
    fits.then(|| Line {
        file: file.to_owned(),
        algorithm,
        digest: digest.to_ascii_lowercase(),
    })
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.0 {
            let word = line.algorithm.word();
            write!(f, "{word}({})= {}", line.file, line.digest)?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}
