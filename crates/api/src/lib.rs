//! What the server of a queue and its clients say to each other, and how.
//!
//! Both speak JSON, a value a line, over a Unix socket: [`lines`]. What they say is
//! in [`queue`]. The same lines join a server to the agents that start its jobs.

pub mod lines;
pub mod queue;

pub use lines::Lines;
