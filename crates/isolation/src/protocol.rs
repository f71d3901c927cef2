//! What a supervisor and the init inside a sandbox say to each other.
//!
//! Every message is one frame of a [`crate::wire::Wire`]. The supervisor asks;
//! the init answers each request in order, and reports ends in between.

use std::time::Duration;

use hyperion_image::folder::Taken;
use hyperion_model::errand::Step;
use hyperion_model::report::Exit;
use hyperion_model::{ProcessSpec, RankSpec};
use serde::{Deserialize, Serialize};

use crate::error::SpawnStep;
use crate::vm::MachineEnd;

/// What a supervisor asks of an init.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub enum Request {
    /// Enter the groups that were made meanwhile; the way in comes with the frame.
    Enter {
        /// How many descriptors that are.
        groups: usize,
    },
    /// Start a process; descriptors come with the frame.
    Spawn {
        /// The supervisor's number for it.
        id: u32,
        /// What to start.
        process: ProcessSpec,
    },
    /// A rank will be started by a program inside; descriptors come with the frame.
    Adopt {
        /// The supervisor's number for it: the rank.
        id: u32,
        /// What it gets.
        rank: RankSpec,
    },
    /// Send a signal.
    Signal {
        /// To whom; to all when absent.
        id: Option<u32>,
        /// Which.
        signal: i32,
    },
    /// Have a step end, or send it a signal.
    Step {
        /// Its number.
        number: u32,
        /// The signal; it is to end where there is none.
        signal: Option<i32>,
    },
    /// Tell the terminal of a process its size.
    Resize {
        /// The supervisor's number for the process.
        id: u32,
        /// Lines.
        rows: u16,
        /// Characters of a line.
        columns: u16,
    },
    /// Read part of a file.
    Read {
        /// Absolute path inside.
        path: String,
        /// From where.
        offset: u64,
        /// How much at most.
        len: u32,
    },
    /// List a folder.
    List {
        /// Absolute path inside.
        path: String,
    },
    /// Tell what is at a path.
    Look {
        /// Absolute path inside.
        path: String,
    },
    /// Kill everything and end, so that what was changed in copies of folders can be
    /// brought out.
    Collect,
    /// Kill everything and end.
    Stop,
}

/// What an init answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say")]
pub enum Reply {
    /// The sandbox is up.
    Ready,
    /// A step on the way up failed; the init has ended.
    SetupFailed {
        /// What was being done.
        step: String,
        /// The kernel's number.
        errno: i32,
    },
    /// A process runs; its terminal comes with the frame.
    Spawned {
        /// Its number inside.
        pid: u32,
        /// Whether a terminal comes.
        terminal: bool,
    },
    /// A process could not be started.
    SpawnFailed {
        /// How far it got.
        step: SpawnStep,
        /// The kernel's number.
        errno: i32,
    },
    /// The next frame is data: the bytes asked for, or none when there is no such file.
    Data {
        /// Whether there is such a file.
        found: bool,
    },
    /// The entries of a folder.
    Names {
        /// Sorted.
        names: Vec<String>,
    },
    /// What is at a path.
    Found {
        /// `None` when there is nothing.
        entry: Option<FileEntry>,
    },
    /// Something happened that nobody asked for.
    Event(Event),
    /// The machine is gone. What keeps it on this host says so, never an init.
    Gone {
        /// Why.
        why: MachineEnd,
    },
}

/// What a path is, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A device, socket or pipe.
    Other,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// What it is.
    pub kind: FileKind,
    /// Somebody may execute it.
    pub executable: bool,
    /// The path with all links followed.
    pub path: String,
}

/// Something that happened inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A rank that a program inside starts has asked for its streams.
    Joined {
        /// The supervisor's number for it.
        id: u32,
    },
    /// A launcher inside asks for a command on another node of the job, as it
    /// would ask a remote shell.
    Remote {
        /// The name of the node, as it was given to the launcher.
        host: String,
        /// What a shell there is to run.
        command: String,
    },
    /// A launcher inside has begun with a step, or the step has ended.
    Step(Step),
    /// What was changed in copies of folders is out, as far as it will be. What keeps
    /// the machine on this host says so, never an init.
    Collected(Taken),
    /// A process that was spawned or adopted has ended.
    Ended {
        /// The supervisor's number for it.
        id: u32,
        /// How it ended.
        exit: Exit,
        /// Processor time in user mode.
        user: Duration,
        /// Processor time in the kernel.
        system: Duration,
        /// Largest resident size in bytes.
        max_rss: u64,
        /// Bytes read from block devices.
        io_read: u64,
        /// Bytes written to block devices.
        io_written: u64,
        /// It was killed, and the kernel has killed for want of memory in there.
        starved: bool,
        /// Nothing else is left inside.
        alone: bool,
    },
}

/// More time than any process has used, and still so little that sums of it fit.
const MOST_TIME: Duration = Duration::from_secs(1 << 32);
/// The longest name of a step that is kept.
pub(crate) const LONGEST_NAME: usize = 128;
/// The same of bytes.
const MOST_BYTES: u64 = 1 << 50;

impl Event {
    /// Takes no number for more than any process can have used: a guest may say
    /// what it likes.
    #[must_use]
    pub(crate) fn believed(mut self) -> Self {
        if let Self::Ended {
            user,
            system,
            max_rss,
            io_read,
            io_written,
            ..
        } = &mut self
        {
            for time in [user, system] {
                *time = MOST_TIME.min(*time);
            }
            for bytes in [max_rss, io_read, io_written] {
                *bytes = MOST_BYTES.min(*bytes);
            }
        }
        if let Self::Step(step) = &mut self {
            let end = step.name.floor_char_boundary(LONGEST_NAME);
            step.name.truncate(end);
        }
        if let Self::Step(Step {
            over: Some(over), ..
        }) = &mut self
        {
            for time in [&mut over.wall, &mut over.cpu_user, &mut over.cpu_system] {
                *time = MOST_TIME.min(*time);
            }
            over.memory_peak.0 = over.memory_peak.0.min(MOST_BYTES);
        }
        self
    }
}
