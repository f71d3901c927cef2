//! Whether the host has what the ranks need: processors, shared memory, and
//! leave to copy from each other.

use hyperion_model::units::Bytes;
use hyperion_model::{Level, Parallel};

use super::plan::Notes;
use super::refusal::{Refusal, RefusalKind, refuse};
use super::{HostFacts, count};
use crate::preflight::Facts;

/// What every family takes of `/dev/shm` for each rank, rounded up: MPICH 4.0
/// fills 4.11 MiB, Open MPI 4.1 asks for 4 MiB and a little more.
pub const SHARED_MEMORY_PER_RANK: u64 = (4 << 20) + (256 << 10);

pub(super) fn processors(
    host: &HostFacts,
    ask: &Parallel,
    notes: &mut Notes,
) -> Result<(), Refusal> {
    let needed = u64::from(ask.ranks) * u64::from(ask.cpus_per_rank.max(1));
    if needed <= u64::from(host.cpus) {
        return Ok(());
    }
    let cause = format!(
        "{} of {} need {needed}, and {} may be used",
        count(ask.ranks, "rank"),
        count(ask.cpus_per_rank, "processor"),
        host.cpus
    );
    if ask.oversubscribe {
        notes.warn(
            "processors",
            cause,
            "--oversubscribe: ranks share processors and wait for each other",
        );
        return Ok(());
    }
    refuse(
        RefusalKind::TooFewProcessors,
        "there are more ranks than processors",
        cause,
        "ask for fewer ranks, or add --oversubscribe and accept that it is slow",
    )
}

pub(super) fn shared_memory(
    facts: &Facts,
    host: &HostFacts,
    ask: &Parallel,
    notes: &mut Notes,
) -> Result<(), Refusal> {
    let (Some(size), Some(mpi)) = (host.dev_shm, &facts.mpi) else {
        return Ok(());
    };
    let needed = SHARED_MEMORY_PER_RANK * u64::from(ask.ranks);
    if size.0 >= needed {
        let what = format!(
            "/dev/shm has {size}, {} ranks need {}",
            ask.ranks,
            Bytes(needed)
        );
        notes.add("shm", what, "");
        return Ok(());
    }
    let mib = needed.div_ceil(1 << 20);
    refuse(
        RefusalKind::SharedMemory,
        format!(
            "/dev/shm is too small for {} ranks of {}",
            ask.ranks, mpi.family
        ),
        format!("it has {size}, and the ranks need {}", Bytes(needed)),
        match host.level {
            Level::Container | Level::Vm => format!("add --shm-size {mib}m"),
            Level::Process => format!("mount -o remount,size={mib}m /dev/shm, as root"),
        },
    )
}

pub(super) fn single_copy_works(host: &HostFacts) -> bool {
    // 1 is enough: the libraries allow their siblings by PR_SET_PTRACER.
    host.ptrace_scope.unwrap_or(0) <= 1
}

pub(super) fn single_copy(host: &HostFacts, notes: &mut Notes) {
    match host.ptrace_scope {
        Some(scope) if !single_copy_works(host) => notes.warn(
            "copies",
            "large messages are copied twice: one rank may not read another's memory (CMA)",
            format!("kernel.yama.ptrace_scope is {scope}; 0 or 1 allows it"),
        ),
        _ => notes.add(
            "copies",
            "large messages are copied once (CMA): all ranks share one user namespace",
            "",
        ),
    }
}
