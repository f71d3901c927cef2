//! What will be done, and why.

use std::fmt;

use serde::Serialize;

use super::LaunchKind;

/// One thing that was seen or decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What it is about, one or two words.
    pub topic: &'static str,
    /// What is so.
    pub what: String,
    /// Where that was seen; empty when it follows from the other notes.
    pub evidence: String,
    /// The user should look at it.
    pub warning: bool,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.warning { "!" } else { " " };
        write!(f, "{mark} {:<10} {}", self.topic, self.what)?;
        match self.evidence.as_str() {
            "" => Ok(()),
            evidence => write!(f, "  [{evidence}]"),
        }
    }
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaunchPlan {
    /// How the ranks are started.
    pub kind: LaunchKind,
    /// How many times Hyperion itself starts the command: once for each rank,
    /// or once when a launcher inside starts the ranks.
    pub processes: u32,
    /// Why, in the order in which it was found out.
    pub notes: Vec<Note>,
}

impl LaunchPlan {
    /// Gives the plan as lines of text for a person.
    pub fn lines(&self) -> Vec<String> {
        self.notes.iter().map(Note::to_string).collect()
    }
}

impl fmt::Display for LaunchPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines()
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The notes of a plan that is being made.
#[derive(Default)]
pub(super) struct Notes(pub(super) Vec<Note>);

impl Notes {
    pub(super) fn add(
        &mut self,
        topic: &'static str,
        what: impl Into<String>,
        evidence: impl Into<String>,
    ) {
        self.0.push(Note {
            topic,
            what: what.into(),
            evidence: evidence.into(),
            warning: false,
        });
    }

    pub(super) fn warn(
        &mut self,
        topic: &'static str,
        what: impl Into<String>,
        evidence: impl Into<String>,
    ) {
        self.add(topic, what, evidence);
        self.0
            .iter_mut()
            .next_back()
            .into_iter()
            .for_each(|note| note.warning = true);
    }
}
