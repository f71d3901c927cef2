use thiserror::Error;
use toml::de::{DeTable, DeValue};

use super::check::{Finding, Place, Step};
use super::scenario::Scenario;

/// Why a text is no scenario.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It is no TOML, or has keys and values that no scenario has.
    #[error(transparent)]
    Text(#[from] toml::de::Error),
    /// It cannot be simulated.
    #[error("line {line}: {finding}")]
    Rule {
        /// Counted from 1.
        line: usize,
        /// The place, and what is right there.
        finding: Finding,
    },
}

impl Scenario {
    /// Reads a scenario, in TOML, and checks it.
    ///
    /// # Errors
    /// [`ReadError`]: with the line, and the key or the rule.
    pub fn read(text: &str) -> Result<Self, ReadError> {
        let scenario: Self = toml::from_str(text)?;
        match scenario.check() {
            Ok(()) => Ok(scenario),
            Err(finding) => Err(ReadError::Rule {
                line: line(text, &finding.place),
                finding,
            }),
        }
    }
}

/// Finds the line of a place, counted from 1: that of the table which should have it
/// where it is not written.
pub fn line(text: &str, place: &Place) -> usize {
    let mut at = 0;
    let mut here = DeTable::parse(text).ok().map(|table| {
        let span = table.span();
        toml::Spanned::new(span, DeValue::Table(table.into_inner()))
    });
    for step in &place.0 {
        let Some(value) = here else { break };
        let below = match (value.into_inner(), step) {
            (DeValue::Table(mut table), Step::Key(key)) => table.remove(*key),
            (DeValue::Array(array), Step::Index(index)) => array.into_iter().nth(*index),
            _ => None,
        };
        if let Some(value) = &below {
            at = value.span().start;
        }
        here = below;
    }
    1 + text[..at.min(text.len())].matches('\n').count()
}
