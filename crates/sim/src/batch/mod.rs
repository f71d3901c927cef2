//! Rigid jobs of a trace on a machine whose processors are alike.
//!
//! ```text
//! jobs, by submission ─▶ arrivals ─┐
//!                                  ├─ at each instant: ends, arrivals, one plan ─▶ what ran
//!        starts + run ─▶ ends ─────┘
//! ```
//!
//! What is kept follows the jobs that wait and run, not the trace.

mod chart;
mod downey;
mod interval;
mod lublin;
mod policy;
mod resample;
mod ruled;
mod run;
mod simulation;
mod summary;
mod trace;
mod what_if;

pub use chart::{Bar, Curve, gantt};
pub use downey::{Downey, Habits, LogUniform, NoModel};
pub use interval::Interval;
pub use lublin::{Kinds, Lublin};
pub use policy::{Named, UnknownPolicy};
pub use resample::{Block, Blocks, Workload};
pub use run::{Machine, Ran, Stuck, run};
pub use simulation::Simulation;
pub use summary::{Detail, Seconds, Summary, Tally, Window};
pub use trace::{Dropped, Job, Logged};
pub use what_if::{Change, Past, Site, World, take_too_large};
