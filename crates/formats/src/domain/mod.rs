//! libvirt's domain XML, in and out.
//!
//! Reading has two modes with one list: what is wrong is a mistake to the
//! strict one and a repair to the lenient one. What is right but has no place
//! in a [`MachineSpec`] is told in notes; nothing is dropped in silence.

mod own;
mod read;
mod write;

use std::fmt;

use hyperion_model::MachineSpec;
use thiserror::Error;

use crate::diff;
use crate::xml::{self, Place, XmlError};

pub use write::write;

/// What is done about mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each is an error.
    Strict,
    /// What can be repaired is.
    Lenient,
}

/// A domain that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The machine, which is valid.
    pub spec: MachineSpec,
    /// What was repaired, in the order of the document; nothing when strict.
    pub repairs: Vec<Repair>,
    /// What is right and was not carried over, or only in part.
    pub notes: Vec<Note>,
}

/// One mistake of a document, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// What helps.
    pub remedy: Remedy,
}

/// What helps against a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// To leave it out.
    LeaveOut,
    /// To write this in its place.
    Write(String),
    /// To add this.
    Add(String),
    /// To move it there.
    Move(&'static str),
    /// Only who wrote the document can help: by doing this.
    Ask(String),
}

/// Something that was not carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// In which lines.
    pub lines: Vec<u32>,
    /// What, and why.
    pub what: String,
}

/// Why there is no machine.
#[derive(Debug, Error)]
pub enum DomainError {
    /// Not a document that is read.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A document about something else.
    #[error("{place}: <{name}> is not a domain: the outermost element of a machine is <domain>")]
    Root {
        /// Where.
        place: Place,
        /// What it is.
        name: String,
    },
    /// Mistakes: all of them, in the order of the document.
    #[error("{}", summary(.mistakes, *.mode))]
    Invalid {
        /// The list, the same in both modes.
        mistakes: Vec<Repair>,
        /// How it was read. When lenient, at least one mistake cannot be repaired.
        mode: Mode,
    },
}

impl Repair {
    /// Tells whether it can be done without asking.
    pub const fn is_possible(&self) -> bool {
        !matches!(self.remedy, Remedy::Ask(_))
    }

    /// Tells the mistake in one line: to the strict mode with what to do, to
    /// the lenient one with what was done.
    pub fn told(&self, mode: Mode) -> String {
        let help = match mode {
            Mode::Strict => self.remedy.to_do(),
            Mode::Lenient => self.remedy.done(),
        };
        format!("line {}: {}: {help}", self.place.line, self.what)
    }
}

impl Remedy {
    fn to_do(&self) -> String {
        match self {
            Self::LeaveOut => "leave it out".to_owned(),
            Self::Write(text) => format!("write {text}"),
            Self::Add(text) => format!("add {text}"),
            Self::Move(to) => format!("move it into {to}"),
            Self::Ask(what) => what.clone(),
        }
    }

    fn done(&self) -> String {
        match self {
            Self::LeaveOut => "left out".to_owned(),
            Self::Write(text) => format!("now {text}"),
            Self::Add(text) => format!("added {text}"),
            Self::Move(to) => format!("moved into {to}"),
            Self::Ask(what) => format!("cannot be repaired: {what}"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = if self.lines.len() == 1 {
            "line"
        } else {
            "lines"
        };
        // Whole lists of a hundred addresses help nobody.
        let shown: Vec<_> = self.lines.iter().take(8).map(u32::to_string).collect();
        let more = if self.lines.len() > 8 { ", …" } else { "" };
        write!(f, "{many} {}{more}: {}", shown.join(", "), self.what)
    }
}

fn summary(mistakes: &[Repair], mode: Mode) -> String {
    let hopeless = mistakes
        .iter()
        .filter(|repair| !repair.is_possible())
        .count();
    let (count, kind) = match mode {
        Mode::Strict => (mistakes.len(), "of the definition"),
        Mode::Lenient => (hopeless, "of the definition that cannot be repaired"),
    };
    match count {
        1 => format!("a mistake {kind}"),
        _ => format!("{count} mistakes {kind}"),
    }
}

/// Numbers mistakes or repairs, one line each, from 1.
pub fn list(repairs: &[Repair], mode: Mode) -> String {
    let lines = repairs.iter().enumerate();
    lines
        .map(|(at, repair)| format!("{}. {}\n", at + 1, repair.told(mode)))
        .collect()
}

/// Reads a domain.
///
/// # Errors
/// [`DomainError`]: not XML that is read, not a domain, or mistakes: in strict
/// mode any, in lenient mode one that cannot be repaired. All are listed.
pub fn parse(text: &str, mode: Mode) -> Result<Parsed, DomainError> {
    let root = xml::read(text)?;
    if root.name != "domain" {
        return Err(DomainError::Root {
            place: root.place,
            name: root.name,
        });
    }
    let (spec, repairs, notes) = read::domain(root);
    let fine = match mode {
        Mode::Strict => repairs.is_empty(),
        Mode::Lenient => repairs.iter().all(Repair::is_possible),
    };
    match spec {
        Some(spec) if fine => Ok(Parsed {
            spec,
            repairs,
            notes,
        }),
        _ => Err(DomainError::Invalid {
            mistakes: repairs,
            mode,
        }),
    }
}

/// Tells as `diff -u` how a document became the canonical one of the machine
/// that was read from it.
pub fn repaired(original: &str, spec: &MachineSpec, name: &str) -> String {
    diff::unified(original, &write(spec), name, &format!("{name} (repaired)"))
}
