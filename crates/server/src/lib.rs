//! The server of a queue: its journal, in which all that it has acknowledged is
//! written down before it is said or done.

pub mod journal;
