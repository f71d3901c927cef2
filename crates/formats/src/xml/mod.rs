//! XML as a small tree whose every part knows its line.
//!
//! What makes XML dangerous is refused: document types, entities, and whatever
//! is too large, too deep or too many.

mod read;
mod write;

use std::fmt;

use thiserror::Error;

pub use read::read;

/// Where something stands in a document, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The character in the line.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a document is not read.
#[derive(Debug, Error)]
pub enum XmlError {
    /// More bytes than any definition needs.
    #[error("the document has {0} bytes, more than the {max} that are read", max = read::MOST_BYTES)]
    Large(usize),
    /// A document type: the way in for entities and for files of others.
    #[error("{0}: document types (<!DOCTYPE>) are not read: leave it out")]
    Doctype(Place),
    /// An entity other than XML's own five.
    #[error("{place}: the entity &{name}; is not known: write the text itself")]
    Entity {
        /// Where.
        place: Place,
        /// Its name.
        name: String,
    },
    /// Elements in elements in elements.
    #[error("{0}: elements are nested more than {max} deep", max = read::MOST_DEEP)]
    Deep(Place),
    /// Too many of something.
    #[error("{place}: more than {most} {what}")]
    Many {
        /// Where the limit was reached.
        place: Place,
        /// How many are read.
        most: usize,
        /// Of what.
        what: &'static str,
    },
    /// A character that XML does not have.
    #[error("{place}: the character {character:?} cannot stand in XML")]
    Character {
        /// Where.
        place: Place,
        /// Which.
        character: char,
    },
    /// The text claims to be in another encoding than UTF-8.
    #[error("{place}: the encoding {encoding} is not read: convert the document to UTF-8")]
    Encoding {
        /// Where.
        place: Place,
        /// Which.
        encoding: String,
    },
    /// Not well-formed.
    #[error("{place}: not well-formed: {what}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the grammar misses.
        what: String,
    },
    /// No element at all.
    #[error("the document has no element")]
    Empty,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name, with its prefix.
    pub name: String,
    /// Its value, entities resolved.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// One element, with all that is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its name, with its prefix.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// Its attributes, in their order.
    pub attributes: Vec<Attribute>,
    /// The elements in it, in their order.
    pub children: Vec<Element>,
    /// The text directly in it, joined.
    pub text: String,
}

impl Element {
    /// Makes an empty element.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.attributes.push(Attribute {
            name: name.to_owned(),
            value: value.to_string(),
            place: Place::default(),
        });
        self
    }

    /// Adds text.
    #[must_use]
    pub fn holding(mut self, text: impl fmt::Display) -> Self {
        self.text.push_str(&text.to_string());
        self
    }

    /// Adds elements.
    #[must_use]
    pub fn and(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// Takes the first element of this name out.
    pub fn take(&mut self, name: &str) -> Option<Self> {
        let at = self.children.iter().position(|child| child.name == name)?;
        Some(self.children.remove(at))
    }

    /// Takes all elements that fit out.
    pub fn take_all(&mut self, fits: impl Fn(&Self) -> bool) -> Vec<Self> {
        let (taken, left) = std::mem::take(&mut self.children)
            .into_iter()
            .partition(fits);
        self.children = left;
        taken
    }

    /// Takes an attribute out.
    pub fn take_attribute(&mut self, name: &str) -> Option<Attribute> {
        let at = self
            .attributes
            .iter()
            .position(|attribute| attribute.name == name)?;
        Some(self.attributes.remove(at))
    }

    /// Gives an attribute's value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self
            .attributes
            .iter()
            .find(|attribute| attribute.name == name)?;
        Some(&found.value)
    }

    /// Gives the name without its prefix.
    pub fn local_name(&self) -> &str {
        self.name
            .split_once(':')
            .map_or(&self.name, |(_, local)| local)
    }
}
