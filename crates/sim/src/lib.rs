//! What would happen: jobs on machines that are not there, scheduled by the very
//! code that schedules real ones, with a heap of events in place of a clock.
//!
//! **Architecture invariant:** this crate is pure. Time is what the events say, and
//! chance comes from a seed: the same input gives the same output, bit for bit. Time is
//! in whole microseconds, but for [`cloud`], which has CloudSim's clock.

pub mod batch;
mod chance;
pub mod cloud;
pub mod site;
mod snapshot;

pub use chance::Seed;
pub use snapshot::SnapshotError;
