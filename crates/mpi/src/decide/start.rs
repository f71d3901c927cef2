//! Who starts the ranks.

use hyperion_model::{MpiChoice, Parallel};

use super::plan::Notes;
use super::refusal::{Refusal, RefusalKind, refuse};
use super::resources::single_copy_works;
use super::{HostFacts, LaunchKind, count};
use crate::family::{Family, Mpi, Pmi};
use crate::openmpi::OpenMpi;
use crate::preflight::{Facts, Launcher};

pub(super) fn start(
    facts: &Facts,
    host: &HostFacts,
    ask: &Parallel,
    notes: &mut Notes,
) -> Result<LaunchKind, Refusal> {
    let ranks = ask.ranks;
    if let (Some(launcher), MpiChoice::Auto) = (&facts.own_launcher, ask.mpi) {
        let name = &launcher.name;
        strangers(facts, launcher, notes);
        notes.add(
            "start",
            format!("one process; {name} inside starts the ranks"),
            "the command or its script calls it",
        );
        if ranks > 1 {
            notes.warn(
                "ranks",
                format!(
                    "the number given to {name} counts, {ranks} is only passed on as HYPERION_SIZE"
                ),
                "--mpi none starts the command itself that often",
            );
        }
        return Ok(LaunchKind::None);
    }
    if let Some(mpi) = &facts.mpi {
        describe(mpi, notes);
        last_words(mpi, host, notes);
    }
    mpi4py(facts, ask, notes);
    match (ask.mpi, &facts.mpi) {
        (MpiChoice::None, _) => {
            notes.add(
                "start",
                format!("{ranks} independent processes"),
                "--mpi none",
            );
            Ok(LaunchKind::None)
        }
        (MpiChoice::OpenMpi, _) => open_mpi(facts, host, ask, notes),
        (MpiChoice::Auto, Some(mpi)) if mpi.family == Family::OpenMpi => {
            open_mpi(facts, host, ask, notes)
        }
        (MpiChoice::Auto, Some(mpi)) => match mpi.pmi {
            Pmi::Pmi1 => Ok(pmi1(host, ranks, mpi.to_string(), notes)),
            other => refuse(
                RefusalKind::FamilyNotStartable,
                format!("ranks of this {} cannot be started here", mpi.family),
                format!("{} asks its launcher by {other}", mpi.soname),
                "use an MPICH that has its own PMI (the default of its configure), or start it by \
                 its own launcher: --mpi none with mpiexec in the command",
            ),
        },
        (MpiChoice::Pmi1, Some(mpi)) if mpi.family == Family::OpenMpi => {
            notes.warn(
                "mpi",
                "Open MPI does not know PMI-1: each rank will take itself for the only one",
                "--mpi pmi",
            );
            Ok(pmi1(host, ranks, "--mpi pmi".to_owned(), notes))
        }
        (MpiChoice::Pmi1, _) => Ok(pmi1(host, ranks, "--mpi pmi".to_owned(), notes)),
        (MpiChoice::Auto, None) if ranks > 1 => Ok(pmi1(
            host,
            ranks,
            "no MPI library was seen; an MPICH that comes later would find it".to_owned(),
            notes,
        )),
        (MpiChoice::Auto, None) => {
            notes.add("start", "one process", "no MPI library was seen");
            Ok(LaunchKind::None)
        }
    }
}

/// Warns of a launcher whose ranks do not ask it who they are: each takes itself for the
/// only one, and nothing fails.
fn strangers(facts: &Facts, launcher: &Launcher, notes: &mut Notes) {
    let python = facts.python.as_ref();
    let unused = |mpi: &&Mpi| {
        python.is_some_and(|its| !its.imports && its.module.as_ref() == Some(&mpi.needed_by))
    };
    let Some(mpi) = facts.mpi.as_ref().filter(|mpi| !unused(mpi)) else {
        return;
    };
    describe(mpi, notes);
    let strange = match launcher.serves {
        Some(Pmi::Pmix) => mpi.pmi == Pmi::Pmi1,
        Some(Pmi::Pmi1) => mpi.pmi == Pmi::Pmix,
        _ => false,
    };
    if let (true, Some(serves)) = (strange, launcher.serves) {
        let (name, asks) = (&launcher.name, mpi.pmi);
        notes.warn(
            "launcher",
            format!(
                "{name} serves {serves}, {} asks by {asks}: each rank takes itself for the only one",
                mpi.family
            ),
            format!(
                "leave {name} out: -n N of hyperion starts them; or call the one of {}",
                mpi.family
            ),
        );
    }
}

fn describe(mpi: &Mpi, notes: &mut Notes) {
    let device = mpi.device.as_ref();
    let device = device.map_or(String::new(), |d| format!(", device {d}"));
    notes.add(
        "mpi",
        format!("{mpi} by {}{device}", mpi.pmi),
        format!("{} needs {}", mpi.needed_by, mpi.soname),
    );
}

/// Warns of an MPICH whose ranks wait for each other in `MPI_Finalize` while none
/// hears what the other still has to say: over TCP, from UCX 1.12 on. MPICH's pull
/// request 6596 has mended that.
fn last_words(mpi: &Mpi, host: &HostFacts, notes: &mut Notes) {
    let by_ucx = mpi
        .device
        .as_ref()
        .is_some_and(|d| d.starts_with("ch4:ucx"));
    let first = (3, 4);
    let mended = (4, 2);
    let concerned = mpi.series().is_some_and(|s| (first..mended).contains(&s));
    if mpi.family == Family::Mpich && by_ucx && concerned && host.nodes.len() > 1 {
        notes.warn(
            "end",
            "ranks on several nodes can hang in MPI_Finalize, by a fault of MPICH 3.4 to 4.1 over UCX",
            "4.2 and Open MPI have it not; or let all ranks be quiet before: MPI_Barrier and a moment of sleep",
        );
    }
}

fn mpi4py(facts: &Facts, ask: &Parallel, notes: &mut Notes) {
    let Some(python) = &facts.python else { return };
    match (&python.module, python.imports) {
        (None, true) => notes.warn(
            "mpi4py",
            "the script imports mpi4py, which was not found",
            "add python3-mpi4py, or look whether PYTHONPATH leads to it",
        ),
        (Some(module), false) if ask.ranks > 1 => notes.add(
            "mpi4py",
            "is installed; the script does not import it itself, a module of its may",
            module,
        ),
        _ => {}
    }
}

/// Says where the ranks are.
fn place(host: &HostFacts) -> String {
    match host.nodes.len() as u32 {
        0 => "in one sandbox".to_owned(),
        n => format!("on {}", count(n, "node")),
    }
}

fn pmi1(host: &HostFacts, ranks: u32, evidence: String, notes: &mut Notes) -> LaunchKind {
    notes.add(
        "start",
        format!(
            "Hyperion starts {} {} and serves PMI-1",
            count(ranks, "rank"),
            place(host)
        ),
        evidence,
    );
    LaunchKind::Pmi1
}

fn open_mpi(
    facts: &Facts,
    host: &HostFacts,
    ask: &Parallel,
    notes: &mut Notes,
) -> Result<LaunchKind, Refusal> {
    let Some(mpirun) = facts.open_mpi_launcher.clone() else {
        return refuse(
            RefusalKind::FamilyNotStartable,
            "ranks of Open MPI cannot be started",
            "its launcher mpirun is not beside its library and not in PATH",
            "add the package openmpi-bin to the image, or PATH to the job",
        );
    };
    notes.add(
        "start",
        format!(
            "{mpirun} starts {} {}",
            count(ask.ranks, "rank"),
            place(host)
        ),
        "Open MPI needs PMIx, which its own launcher serves",
    );
    Ok(LaunchKind::OpenMpi(OpenMpi {
        mpirun,
        major: facts
            .mpi
            .as_ref()
            .and_then(Mpi::major)
            .or(facts.launcher_major),
        nodes: host.nodes.clone(),
        ranks: ask.ranks,
        slots: (host.cpus / ask.cpus_per_rank.max(1)).max(1),
        single_copy: single_copy_works(host),
    }))
}
