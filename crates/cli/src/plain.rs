//! The plainest words, read without clap (docs/decisions/0018).
//!
//! To put the sixty flags of a verb together takes longer than all else that a
//! command line does before its job starts. So the two verbs whose start counts
//! have a list of the flags that are usual, and words that hold nothing else are
//! read here. Whatever is not as plain as that is `None`, mistakes too: clap
//! reads it, and says what is wrong. A test compares the two.

use std::ffi::OsString;
use std::str::FromStr;

/// What comes next on a command line.
pub(crate) enum Next {
    /// A flag, without the value that may be attached to it.
    Flag(String),
    /// Image, script or program, and all that follows.
    Rest(Vec<String>),
}

/// Words of one verb, from the left to the right.
pub(crate) struct Plain {
    words: std::vec::IntoIter<String>,
    /// What stands behind the `=` of the last flag, until it is asked for.
    value: Option<String>,
}

impl Plain {
    /// Takes the words of a process; gives its verb with them.
    pub(crate) fn new(words: impl Iterator<Item = OsString>) -> Option<(String, Self)> {
        let words: Result<Vec<String>, _> = words.map(OsString::into_string).collect();
        let mut words = words.ok()?.into_iter();
        let verb = words.nth(1)?;
        Some((verb, Self { words, value: None }))
    }

    /// Goes on.
    pub(crate) fn next(&mut self) -> Option<Next> {
        if self.value.is_some() {
            return None;
        }
        let word = self.words.next()?;
        if word == "--" {
            let rest: Vec<String> = self.words.by_ref().collect();
            return (!rest.is_empty()).then_some(Next::Rest(rest));
        }
        if !word.starts_with('-') {
            let rest = std::iter::once(word).chain(self.words.by_ref());
            return Some(Next::Rest(rest.collect()));
        }
        Some(Next::Flag(match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                self.value = Some(value.to_owned());
                name.to_owned()
            }
            _ => word,
        }))
    }

    /// Gives the value of the flag that came last.
    pub(crate) fn value<T: FromStr>(&mut self) -> Option<T> {
        let next = || self.words.next().filter(|word| !word.starts_with('-'));
        self.value.take().or_else(next)?.parse().ok()
    }

    /// Sets what may be said once.
    pub(crate) fn once<T: FromStr>(&mut self, slot: &mut Option<T>) -> Option<()> {
        let value = self.value()?;
        slot.is_none().then(|| *slot = Some(value))
    }
}

/// Switches on what may be switched on once.
pub(crate) fn on(slot: &mut bool) -> Option<()> {
    let before = std::mem::replace(slot, true);
    (!before).then_some(())
}
