//! What two relays say to each other, and what they read of their neighbours'.

use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use serde::{Deserialize, Serialize};

use crate::protocol::Reply;

/// What one relay says to the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::vm) enum Word {
    /// A message of a neighbour, and what its files are.
    Pass {
        /// As it came.
        message: String,
        /// One for each file, in order.
        channels: Vec<Passed>,
    },
    /// Nothing more comes on a channel. Said once, whatever the reason.
    End {
        /// Which.
        channel: u32,
    },
    /// Nobody takes what comes on a channel any more: an end is awaited.
    Gone {
        /// Which.
        channel: u32,
    },
    /// Bytes of a channel have been taken.
    Took {
        /// Which.
        channel: u32,
        /// How many.
        bytes: usize,
    },
    /// The init has ended, and all that it and its programs said is before this.
    Over,
    /// What time it is. Only a host says so.
    Clock {
        /// Since the beginning of 1970, UTC.
        now: Duration,
    },
}

impl Word {
    /// Makes the word that brings an answer of the guest's own to the supervisor.
    pub(in crate::vm) fn answer(reply: &Reply) -> io::Result<Self> {
        Ok(Self::Pass {
            message: serde_json::to_string(reply)?,
            channels: Vec::new(),
        })
    }
}

/// What stands for an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::vm) struct Passed {
    /// Its channel.
    pub(super) channel: u32,
    /// Which ways bytes go.
    pub(super) way: Way,
}

/// Which ways bytes go, as the process sees it that gets the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// It reads.
    In,
    /// It writes.
    Out,
    /// Both: a socket or a terminal.
    Both,
    /// None: it is the null device.
    Null,
}

impl Way {
    /// Finds out which way bytes go through a file, for the process that gets it.
    pub(super) fn of(file: &OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        let device = stat.st_rdev;
        if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (rustix::fs::major(device), rustix::fs::minor(device)) == (1, 3)
        {
            return Ok(Self::Null);
        }
        Ok(match rustix::fs::fcntl_getfl(file)? & OFlags::ACCMODE {
            OFlags::RDONLY => Self::In,
            OFlags::WRONLY => Self::Out,
            _ => Self::Both,
        })
    }
}

/// As much of a neighbour's message as a relay must know. The rest is skipped,
/// not kept: a hostile message takes no more memory than its own length.
#[derive(Default, Deserialize)]
pub(super) struct Head<'a> {
    /// Of a supervisor: what it asks.
    #[serde(borrow, default)]
    pub(super) ask: Cow<'a, str>,
    /// Of an init: what it says.
    #[serde(borrow, default)]
    pub(super) say: Cow<'a, str>,
    /// Of an init: what has happened.
    #[serde(borrow, default)]
    event: Cow<'a, str>,
    /// Whether a terminal comes along.
    #[serde(default)]
    terminal: bool,
}

impl<'a> Head<'a> {
    pub(super) fn of(json: &'a [u8]) -> io::Result<Self> {
        serde_json::from_slice(json).map_err(|_| super::nonsense())
    }

    /// Tells whether open files come with it. Those of the next message may
    /// have come together with one that has none.
    pub(super) fn has_files(&self) -> bool {
        matches!(&*self.ask, "configure" | "spawn" | "adopt") || self.has_terminal()
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.say == "spawned" && self.terminal
    }

    /// Tells whether it is what an init never says, and a supervisor could not tell from
    /// what the host's side says.
    pub(super) fn is_of_host(&self) -> bool {
        self.say.is_empty() || self.say == "gone" || self.event == "collected"
    }

    /// Tells whether it is news of an init and not an answer.
    pub(super) fn is_event(&self) -> bool {
        self.say == "event"
    }
}
