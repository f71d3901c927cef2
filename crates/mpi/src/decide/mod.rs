//! Decides how ranks are started, or why they cannot be.
//!
//! **Invariant:** what `--preflight` prints is [`LaunchPlan::lines`] of the
//! very plan that is carried out. There is no second explanation.

mod plan;
mod program;
mod refusal;
mod resources;
mod start;
#[cfg(test)]
mod tests;

use hyperion_model::units::Bytes;
use hyperion_model::{Level, MpiChoice, Parallel};
use serde::Serialize;

use crate::openmpi::OpenMpi;
use crate::preflight::Facts;

use plan::Notes;
pub use plan::{LaunchPlan, Note};
pub use refusal::{Refusal, RefusalKind};
pub use resources::SHARED_MEMORY_PER_RANK;

/// What the decision must know of the host and the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The architecture, in the words of `uname -m`.
    pub arch: String,
    /// Further architectures whose programs run here (binfmt_misc).
    pub foreign_archs: Vec<String>,
    /// How the program is fenced.
    pub level: Level,
    /// How many processors the job may use.
    pub cpus: u32,
    /// The size of `/dev/shm` inside, where it is known.
    pub dev_shm: Option<Bytes>,
    /// The names of the job's nodes and how many ranks each holds; empty where there is one.
    pub nodes: Vec<(String, u32)>,
    /// `kernel.yama.ptrace_scope`; `None` without Yama, which allows as 0 does.
    pub ptrace_scope: Option<u8>,
}

/// How the ranks are started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum LaunchKind {
    /// Hyperion starts each rank and serves PMI-1.
    Pmi1,
    /// The sandbox's own `mpirun` starts the ranks.
    OpenMpi(OpenMpi),
    /// Hyperion starts independent processes.
    None,
}

/// Decides how the ranks of a command are started.
///
/// # Errors
/// When it is certain that the command cannot run; what is only likely to
/// fail becomes a note with a warning.
pub fn decide(facts: &Facts, host: &HostFacts, ask: &Parallel) -> Result<LaunchPlan, Refusal> {
    let mut notes = Notes::default();
    program::program(facts, host, &mut notes)?;
    resources::processors(host, ask, &mut notes)?;
    let kind = start::start(facts, host, ask, &mut notes)?;
    if ask.ranks > 1 && kind != LaunchKind::None {
        resources::shared_memory(facts, host, ask, &mut notes)?;
        resources::single_copy(host, &mut notes);
    }
    let own = facts.own_launcher.is_some() && ask.mpi == MpiChoice::Auto;
    let once = own || matches!(kind, LaunchKind::OpenMpi(_));
    Ok(LaunchPlan {
        kind,
        processes: if once { 1 } else { ask.ranks },
        notes: notes.0,
    })
}

/// Writes a number of things: `1 rank`, `4 ranks`.
fn count(n: u32, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}
