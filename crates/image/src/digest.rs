//! Content digests, as OCI writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// What is wrong with a digest's text.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DigestError {
    /// There is no algorithm before a colon.
    #[error("{0:?} is not a digest: write sha256: and 64 hexadecimal digits")]
    Shape(String),
    /// The algorithm is not SHA-256.
    #[error("the digest algorithm {0:?} is not supported: only sha256 is")]
    Algorithm(String),
}

/// The SHA-256 of some content: `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Gives the 64 digits without the algorithm: the name of a file in the store.
    pub fn hex(&self) -> String {
        use fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Gives the first twelve digits, which is what people are shown.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// Gives the first 16 bytes, to make another kind of id of it.
    pub(crate) fn first_16(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out.copy_from_slice(&self.0[..16]);
        out
    }

    /// Reads the 64 digits without the algorithm.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let text: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(out))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(s: &str) -> Result<Self, DigestError> {
        let shape = || DigestError::Shape(s.to_owned());
        let (algorithm, hex) = s.split_once(':').ok_or_else(shape)?;
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm(algorithm.to_owned()));
        }
        Self::from_hex(hex).ok_or_else(shape)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(s: String) -> Result<Self, DigestError> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> Self {
        d.to_string()
    }
}

/// Computes a digest and a length piece by piece.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Sha256,
    len: u64,
}

impl Hasher {
    /// Starts with no content.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds content.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Gives the bytes added so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Says whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives the digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("len", &self.len).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_empty_content_has_its_known_digest() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
        assert_eq!(Hasher::new().finish(), Digest::of(b""));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn anything_but_sha256_and_64_digits_is_refused() {
        for bad in [
            "",
            "sha256",
            "sha256:",
            &EMPTY[..70],
            &EMPTY.to_uppercase(),
            "sha256:../../../../../../../../../../../../../../../../../../../etc/passwd",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert_eq!(
            format!("sha512:{}", &EMPTY[7..]).parse::<Digest>(),
            Err(DigestError::Algorithm("sha512".into()))
        );
    }

    proptest! {
        #[test]
        fn pieces_hash_as_the_whole(a in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let cut = cut.min(a.len());
            let mut hasher = Hasher::new();
            hasher.update(&a[..cut]);
            hasher.update(&a[cut..]);
            prop_assert_eq!(hasher.len(), a.len() as u64);
            prop_assert_eq!(hasher.finish(), Digest::of(&a));
        }

        #[test]
        fn no_text_makes_the_parser_panic(s in "\\PC{0,80}") {
            let _ = s.parse::<Digest>();
        }
    }
}
