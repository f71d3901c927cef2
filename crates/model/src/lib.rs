//! The vocabulary of Hyperion: what is asked (a job), how it is fenced (an
//! isolation level), what one node must do (a node plan), what was used and
//! what it cost.
//!
//! **Architecture invariant:** this crate is pure. It has no clock, file,
//! socket, process, environment or randomness, and it depends on no other
//! crate of the workspace.

pub mod accounting;
pub mod class;
pub mod edit;
pub mod errand;
pub mod ids;
pub mod indices;
pub mod job;
pub mod machine;
pub mod metrics;
pub mod mount;
pub mod nodes;
pub mod plan;
pub mod probe;
pub mod report;
pub mod resources;
pub mod sandbox;
pub mod shared;
pub mod submission;
pub mod task;
pub mod units;
pub mod usage;
pub mod view;

pub use class::Class;
pub use edit::Edit;
pub use ids::{JobId, Name, Rank};
pub use indices::{Array, Indices};
pub use job::{JobSpec, Level, MpiChoice, Parallel, Preflight};
pub use machine::MachineSpec;
pub use mount::{Mount, MountKind, Propagation};
pub use nodes::{Member, NodePlace};
pub use plan::NodePlan;
pub use probe::{Check, Verdict};
pub use report::RunReport;
pub use resources::{Binding, CpuSet, Resources, Rlimit, TaskSet};
pub use sandbox::{ProcessSpec, RankSpec, RootSource, RootSpec, SandboxSpec, UserSpec, UsernsMode};
pub use shared::{Pool, Shared};
pub use submission::{Dialect, Submission};
pub use units::{Bytes, Cores};
pub use usage::Usage;
