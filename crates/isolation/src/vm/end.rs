//! Why a machine ended before its supervisor asked for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::qemu;
use super::qmp::RunState;

/// Why a machine ended before its supervisor asked for it, or never came up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "kebab-case")]
pub enum MachineEnd {
    /// Something on this host killed QEMU.
    #[error("the virtual machine was killed: QEMU ended by {}", hyperion_sys::signals::name(*signal))]
    Killed {
        /// By which signal.
        signal: i32,
    },
    /// The kernel of this host killed QEMU, for want of memory.
    #[error("the virtual machine was killed for want of memory")]
    OutOfMemory,
    /// QEMU gave up.
    #[error("QEMU ended with exit code {code}")]
    Failed {
        /// Its exit code.
        code: u8,
        /// Its last words.
        #[source]
        said: Option<Said>,
    },
    /// QEMU is too old for what it is asked.
    #[error("QEMU {found} is too old for the virtual machines of jobs")]
    TooOld {
        /// Its version.
        found: String,
        /// Its last words.
        #[source]
        said: Option<Said>,
    },
    /// The kernel inside gave up.
    #[error("the kernel of the virtual machine panicked")]
    Panicked {
        /// Its last words.
        #[source]
        said: Option<Said>,
    },
    /// It switched itself off.
    #[error("the virtual machine switched itself off")]
    Off {
        /// Its last words.
        #[source]
        said: Option<Said>,
    },
    /// Somebody told QEMU by a signal to end.
    #[error("QEMU was told by a signal of this host to end")]
    Told,
    /// QEMU has stopped it, and will not let it go on.
    #[error("the virtual machine stands still: {}", state.word())]
    Stands {
        /// How it stands.
        state: RunState,
    },
    /// A disk that it has of this host failed, or has no room: the guest was told of an
    /// error, but not all that it has written through its own memory is anybody's then.
    #[error("this host could not {} {disk} of the virtual machine: {why}", if *write { "write" } else { "read" })]
    Disk {
        /// Which disk.
        disk: DiskUse,
        /// It was written to.
        write: bool,
        /// There was no room.
        full: bool,
        /// Why, in QEMU's words.
        why: String,
    },
    /// Its processors cannot be tied to those of the host.
    #[error("the processors of the virtual machine cannot be tied to this host's: {why}")]
    Unbound {
        /// Why.
        why: String,
    },
    /// The init of the job's sandbox ended.
    #[error("the init inside the virtual machine ended")]
    InitEnded,
    /// What is inside says what no init says.
    #[error("the virtual machine speaks nonsense")]
    Nonsense,
    /// It did not come up.
    #[error("the virtual machine shows no sign of life: none for {} s", limit.as_secs())]
    Silent {
        /// How long it was waited for.
        limit: Duration,
        /// Its last words.
        #[source]
        said: Option<Said>,
    },
    /// It does not answer any more.
    #[error("the virtual machine does not answer: it has not for {} s", limit.as_secs())]
    Unanswered {
        /// How long it was waited for.
        limit: Duration,
    },
}

/// What a disk of a job's machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "kebab-case")]
pub enum DiskUse {
    /// The image.
    #[error("the image")]
    Image,
    /// What the job writes.
    #[error("the disk for what the job writes")]
    Scratch,
    /// Copies of folders.
    #[error("the copies of folders")]
    Copies,
    /// One that QEMU should not know of.
    #[error("a disk")]
    Unknown,
}

impl DiskUse {
    /// Finds it by the name that QEMU was given for it.
    pub(super) fn of_node(name: &str) -> Self {
        match name {
            qemu::ROOT => Self::Image,
            qemu::DISK => Self::Scratch,
            qemu::COPIES => Self::Copies,
            _ => Self::Unknown,
        }
    }
}

/// The last lines of what came from a machine's console: of the guest's kernel
/// and of QEMU. Fit for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("it said last: {}", .0.join(" | "))]
pub struct Said(Vec<String>);

/// How many lines are told.
const LINES: usize = 6;
/// How much of each, in characters.
const LENGTH: usize = 160;

impl Said {
    /// Takes the last lines; `None` when there is none.
    pub(super) fn last(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = told(text.rsplit(ENDS));
        lines.reverse();
        Self::of(lines)
    }

    /// Takes the first lines; `None` when there is none.
    pub(super) fn first(bytes: &[u8]) -> Option<Self> {
        Self::of(told(String::from_utf8_lossy(bytes).split(ENDS)))
    }

    fn of(lines: Vec<String>) -> Option<Self> {
        (!lines.is_empty()).then_some(Self(lines))
    }
}

/// What ends a line.
const ENDS: [char; 2] = ['\n', '\r'];

fn told<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lines = lines.map(plain).filter(|line| !line.is_empty());
    lines.take(LINES).collect()
}

/// Gives a line without what a terminal would obey, and not too much of it: a guest
/// wrote it, or may have.
pub fn plain(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            // A sequence for a terminal: parameters, and a letter at its end.
            '\x1b' if rest.as_str().starts_with('[') => {
                rest.find(|c| matches!(c, '@'..='Z' | '\\'..='~'));
            }
            // What turns the direction of a text round can be as misleading.
            c if c.is_control()
                || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                kept.push(' ');
            }
            c => kept.push(c),
        }
    }
    kept.trim().chars().take(LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_console_can_be_shown_on_a_terminal() {
        let said = Said::last(b"first\r\n\x1b[31mred\x1b[0m \x1b]0;title\x07\n\n\xff\xfe\n\x1b[2");
        let told = said.expect("lines").to_string();
        assert_eq!(
            told,
            "it said last: first | red  ]0;title | \u{fffd}\u{fffd}"
        );
        assert_eq!(Said::last(b"\n \x07\r\n"), None);
        let many = "x".repeat(1000) + "\n";
        let said = Said::last(many.repeat(50).as_bytes()).expect("lines");
        assert!(said.to_string().len() < (LENGTH + 3) * LINES + 20);
    }
}
