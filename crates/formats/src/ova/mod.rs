//! Appliances in the Open Virtualization Format (DMTF DSP0243, versions 1 and
//! 2), in and out: the descriptor (`.ovf`) and the list of digests (`.mf`). The
//! archive around them (`.ova`) and the disks in it are the caller's.
//!
//! Whoever wrote an appliance is a stranger: it names files of its own archive
//! and nothing else, no number in it is believed before it was looked at, and
//! what is not carried over is told in notes.

mod manifest;
mod read;
mod write;

use hyperion_model::machine::Problems;
use hyperion_model::{Bytes, MachineSpec};
use thiserror::Error;

use crate::domain::Note;
use crate::xml::{Place, XmlError};

pub use manifest::{Algorithm, Line, Manifest, ManifestError};
pub use read::read;
pub use write::{Packed, write};

/// A machine that was read from a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appliance {
    /// The machine, which is valid. No disk has a source; each has its size.
    pub spec: MachineSpec,
    /// Where the content of its disks lies; the others are empty.
    pub contents: Vec<Content>,
    /// What was not carried over, or only in part.
    pub notes: Vec<Note>,
}

/// The content of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The disk's target.
    pub target: String,
    /// The file of the archive: a plain name.
    pub file: String,
    /// How long the file is said to be, in bytes.
    pub length: Option<u64>,
    /// How large the disk is said to be.
    pub capacity: Bytes,
    /// Where the file is named.
    pub place: Place,
}

/// Why no machine comes of a descriptor.
#[derive(Debug, Error)]
pub enum OvfError {
    /// Not a document that is read.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A document about something else.
    #[error("{place}: <{name}> is no appliance: its outermost element is <Envelope>")]
    Root {
        /// Where.
        place: Place,
        /// What it is.
        name: String,
    },
    /// Something without which there is no machine.
    #[error("{place}: there is no {what}")]
    Missing {
        /// In which element.
        place: Place,
        /// What is not there.
        what: &'static str,
    },
    /// Several machines in one.
    #[error("{place}: the appliance holds {machines} machines, and one is read")]
    Several {
        /// Where they are.
        place: Place,
        /// How many.
        machines: usize,
    },
    /// A file that is not a plain name.
    #[error("{place}: {name:?} leads out of the archive")]
    Outside {
        /// Where.
        place: Place,
        /// As written.
        name: String,
    },
    /// A reference to what is not there.
    #[error("{place}: there is no {kind} {id:?}")]
    Nothing {
        /// Where.
        place: Place,
        /// What it should be.
        kind: &'static str,
        /// By which name it is looked for.
        id: String,
    },
    /// Not a number, or none that fits.
    #[error("{place}: {text:?} is no {what} that fits")]
    Number {
        /// Where.
        place: Place,
        /// What it should be.
        what: &'static str,
        /// As written.
        text: String,
    },
    /// Not a unit of bytes.
    #[error("{place}: {unit:?} is no unit of bytes")]
    Unit {
        /// Where.
        place: Place,
        /// As written.
        unit: String,
    },
    /// A file of another length than it is said to have.
    #[error("{place}: {file:?} is said to have {said} bytes, and has {is}")]
    Length {
        /// Where it is said.
        place: Place,
        /// The file.
        file: String,
        /// As written.
        said: u64,
        /// As it is.
        is: u64,
    },
    /// Something that is right, and that is not read.
    #[error("{place}: {what}")]
    Unsupported {
        /// Where.
        place: Place,
        /// What.
        what: &'static str,
        /// What helps.
        fix: &'static str,
    },
    /// The machine as a whole is impossible.
    #[error("the machine in it is not whole: {0}")]
    Invalid(Problems),
}

impl OvfError {
    /// Says what helps.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Several { .. } => "export each machine by itself where it was made",
            Self::Outside { .. } => {
                "its files lie beside it in the archive, under plain names: export it again where it was made"
            }
            Self::Unsupported { fix, .. } => fix,
            Self::Length { .. } => "bring it again: it may have been cut on its way",
            Self::Unit { .. } => "write bytes as OVF does: byte * 2^20",
            _ => "export it again where it was made, as OVF 1 or 2",
        }
    }
}

/// The name space of what OVF has no words for.
const OWN: &str = "urn:hyperion:machine:1";

#[cfg(test)]
mod tests;
