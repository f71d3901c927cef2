//! Parallel programs: how their ranks are laid out on processors, how they are
//! started, and the PMI-1 protocol by which MPICH's family finds its peers.
//!
//! **Architecture invariant:** this crate is pure. It opens no file and no
//! socket; what it must see of a root file system comes through [`RootView`],
//! what ranks say comes as bytes into [`pmi1::Server`]. So the decision that
//! starts a job is the one that `--preflight` prints.

pub mod decide;
pub mod elf;
pub mod env;
pub mod explain;
pub mod family;
pub mod layout;
pub mod loader;
pub mod openmpi;
pub mod pmi1;
pub mod preflight;
pub mod python;
pub mod root;
pub mod shell;

pub use decide::{HostFacts, LaunchKind, LaunchPlan, Note, Refusal, RefusalKind, decide};
pub use env::rank_env;
pub use explain::explain_failure;
pub use layout::{LayoutError, NumaNode, layout};
pub use preflight::{Command, Facts, inspect};
pub use root::{Entry, EntryKind, RootView};
