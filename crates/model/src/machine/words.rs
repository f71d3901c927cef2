//! The closed sets of words of a machine: one list serves reading, writing and JSON.

use thiserror::Error;

/// A word that is not of its list.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{word:?} is not a {what}: {known}")]
pub struct WordError {
    /// What was expected.
    pub what: &'static str,
    /// What was found.
    pub word: String,
    /// The words there are.
    pub known: String,
}

/// Makes an enum whose variants are words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Gives the word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::machine::WordError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().copied().find(|known| known.word() == s);
                found.ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|known| known.word()).collect();
                    $crate::machine::WordError {
                        what: $what,
                        word: s.to_owned(),
                        known: known.join(", "),
                    }
                })
            }
        }
    };
}

pub(super) use words;
