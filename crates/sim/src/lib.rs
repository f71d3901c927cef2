//! What would happen: jobs on machines that are not there, scheduled by the very
//! code that schedules real ones, with a heap of events in place of a clock.
//!
//! **Architecture invariant:** this crate is pure. Time is what the events say, in
//! whole microseconds, and chance comes from a seed: the same input gives the same
//! output, bit for bit.

pub mod batch;
mod chance;
pub mod site;

pub use chance::Seed;
