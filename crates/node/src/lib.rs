//! Carries out a node plan on this host: one supervisor per job, which
//! outlives the command that started it, keeps the job's record, collects
//! output, serves PMI and reports what was used.
//!
//! **Architecture invariant:** nothing here knows images or schedulers, and
//! nothing here prints or reads the environment. What a job needs is in its
//! [`hyperion_model::NodePlan`]; what it says is in its folder.

pub mod client;
pub mod jobs;
pub mod log;
pub mod machines;
pub mod supervisor;
pub mod talk;

pub use client::Client;
pub use jobs::{End, Failure, JobError, JobFolder, Jobs, State};
