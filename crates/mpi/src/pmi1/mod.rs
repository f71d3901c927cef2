//! PMI-1, the line protocol by which MPICH, MVAPICH and Intel MPI ask their
//! launcher who they are and exchange addresses.
//!
//! [`Message`] is one line, [`Frames`] cuts a byte stream into lines, and
//! [`Server`] is the launcher's side as a state machine: bytes of a rank go
//! in, [`Action`]s come out. The client's side is `src/pmi` of MPICH; the
//! message list is its `maint/pmi-1.1.txt`.
//!
//! ```text
//!         init               finalize
//!   New ─────────▶ Active ◀─────────────▶ Finalized
//!                   │  ▲        init
//!       barrier_in  │  │  barrier_out
//!                   ▼  │
//!                  Waiting
//! ```
//!
//! A second `init` is for the next program of a shell script. MPICH up to 4.x
//! shuts the connection down at `finalize`, so there one program is all.
//!
//! What it refuses: PMI-2, spawning, barriers of a part of the ranks (a client
//! asks for none from a server of version 1.1), lines and stores without end.

mod frame;
mod message;
mod server;
mod store;

pub use frame::{Frame, FrameError, Frames, LINE_MAX, SPAWN_MAX};
pub use message::{Message, MessageError};
pub use server::{Action, ProtocolError, Server};
pub use store::{KEY_MAX, KVSNAME_MAX, RANK_BYTES_MAX, VALUE_MAX};
