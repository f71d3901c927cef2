//! What a supervisor and its clients say to each other, over a Unix socket.
//!
//! Data frames carry bytes: from a client on channel 0, standard input; from
//! the supervisor on [`channel`], output.

use hyperion_model::errand::{LaneLine, LaneTask, Step};
use hyperion_model::report::Exit;
use hyperion_model::submission::WarningTo;
use hyperion_model::{CpuSet, ProcessSpec, Usage};
use serde::{Deserialize, Serialize};

use crate::jobs::End;
use crate::log::Stream;

/// The most bytes of input that a client sends before it is told that some are
/// taken: so what else it has to say is always heard.
pub const INPUT_WINDOW: usize = 256 << 10;

/// The size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Send me the job's output from now on, take my input, tell me the end.
    Attach {
        /// Whether input will come.
        stdin: bool,
        /// The client's terminal.
        size: Option<Size>,
    },
    /// Start a command beside the ranks, in the same sandbox.
    Exec {
        /// What to start.
        process: ProcessSpec,
        /// Whether input will come.
        stdin: bool,
        /// The client's terminal.
        size: Option<Size>,
    },
    /// My input has ended.
    EndOfInput,
    /// My terminal has another size now.
    Resize(Size),
    /// Send a signal to the ranks.
    Signal(i32),
    /// Have a step of the job end, as one that nobody wants any more, or send it a signal.
    Step {
        /// Its number.
        number: u32,
        /// The signal; it is to end where there is none.
        signal: Option<i32>,
    },
    /// Warn the job of its end.
    Warn {
        /// By which signal.
        signal: i32,
        /// Whom.
        to: WarningTo,
    },
    /// Let all that is inside stand still, whatever group it is in.
    Suspend,
    /// Let it go on: on these processors, where they are chosen.
    Resume {
        /// Which.
        cpus: Option<CpuSet>,
    },
    /// End the job: SIGTERM, and SIGKILL after so many milliseconds.
    Stop {
        /// The grace.
        grace_ms: u64,
    },
    /// Tell what is used.
    Stats,
    /// Tell me the end when it comes, and nothing else.
    Wait,
    /// End the job when I am gone, however that comes.
    Keep,
    /// End the job, which was room for commands beside it, as one that ended with this code.
    Release {
        /// The code.
        code: u8,
    },
    /// Run this when what came before has ended: for lanes.
    Task(Box<LaneTask>),
    /// Begin nothing any more, and say when you have heard it: for lanes.
    Seal,
}

/// What a supervisor tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tell {
    /// All ranks run.
    Started,
    /// Something for people to read, before the start.
    Note(String),
    /// The job has ended and everything of it is cleaned up.
    Ended(Box<End>),
    /// A lane has begun with a task, or a task of it has ended.
    Task(LaneLine),
    /// A step of the job, or of the task that a lane runs, has begun or ended.
    Step(Step),
    /// It begins nothing any more.
    Sealed,
    /// The command beside the ranks has ended.
    ExecEnded {
        /// How.
        exit: Exit,
    },
    /// What was asked for could not be done.
    Refused {
        /// What went wrong, outermost first.
        causes: Vec<String>,
        /// The exit code that fits.
        code: u8,
        /// What to do about it.
        hint: Option<String>,
    },
    /// What is used now.
    Stats {
        /// By all of the job.
        usage: Usage,
        /// By each of its nodes; none where there is one.
        nodes: Vec<Usage>,
    },
    /// So much of your input has found room.
    Took {
        /// How much.
        bytes: usize,
    },
}

/// Gives the channel of a rank's stream.
pub const fn channel(rank: u32, stream: Stream) -> u32 {
    rank << 1 | matches!(stream, Stream::Err) as u32
}

/// Gives the rank and stream of a channel.
pub const fn of_channel(channel: u32) -> (u32, Stream) {
    (
        channel >> 1,
        if channel & 1 == 1 {
            Stream::Err
        } else {
            Stream::Out
        },
    )
}
