//! Decides how ranks are started, or why they cannot be.
//!
//! **Invariant:** what `--preflight` prints is [`LaunchPlan::lines`] of the
//! very plan that is carried out. There is no second explanation.

use std::fmt;

use hyperion_model::units::Bytes;
use hyperion_model::{Class, Level, MpiChoice, Parallel};
use serde::Serialize;
use thiserror::Error;

use crate::family::{Family, Mpi, Pmi};
use crate::openmpi::OpenMpi;
use crate::preflight::{Binary, Facts, Lookup};

/// What every family takes of `/dev/shm` for each rank, rounded up: MPICH 4.0
/// fills 4.11 MiB, Open MPI 4.1 asks for 4 MiB and a little more.
pub const SHARED_MEMORY_PER_RANK: u64 = (4 << 20) + (256 << 10);

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

/// One thing that was seen or decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What it is about, one or two words.
    pub topic: &'static str,
    /// What is so.
    pub what: String,
    /// Where that was seen; empty when it follows from the other notes.
    pub evidence: String,
    /// The user should look at it.
    pub warning: bool,
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaunchPlan {
    /// How the ranks are started.
    pub kind: LaunchKind,
    /// How many times Hyperion itself starts the command: once for each rank,
    /// or once when a launcher inside starts the ranks.
    pub processes: u32,
    /// Why, in the order in which it was found out.
    pub notes: Vec<Note>,
}

impl LaunchPlan {
    /// Gives the plan as lines of text for a person.
    pub fn lines(&self) -> Vec<String> {
        let line = |note: &Note| {
            let mark = if note.warning { "!" } else { " " };
            let mut line = format!("{mark} {:<10} {}", note.topic, note.what);
            if !note.evidence.is_empty() {
                line.push_str(&format!("  [{}]", note.evidence));
            }
            line
        };
        self.notes.iter().map(line).collect()
    }
}

impl fmt::Display for LaunchPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines()
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The command is nowhere.
    CommandNotFound,
    /// The command may not be executed.
    NotExecutable,
    /// The script that an interpreter is given is not there.
    ScriptNotFound,
    /// The program is for another processor.
    WrongArchitecture,
    /// The program's loader or interpreter is not there.
    LoaderMissing,
    /// The program needs a newer glibc than the root has.
    GlibcTooOld,
    /// Nothing here can start ranks of this MPI.
    FamilyNotStartable,
    /// `/dev/shm` is too small for the ranks.
    SharedMemory,
    /// There are fewer processors than the ranks ask for.
    TooFewProcessors,
}

/// Why a job cannot start, and what helps. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[error("{what}")]
pub struct Refusal {
    /// What stands in the way.
    pub kind: RefusalKind,
    /// What cannot be done.
    pub what: String,
    /// Why.
    pub cause: String,
    /// What helps.
    pub fix: String,
}

impl Refusal {
    /// Gives the exit code: 127 and 126 as a shell does, 125 for all else.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            RefusalKind::CommandNotFound => 127,
            RefusalKind::NotExecutable
            | RefusalKind::WrongArchitecture
            | RefusalKind::LoaderMissing => 126,
            _ => self.class().exit_code(),
        }
    }

    /// Gives the class of the error.
    pub fn class(&self) -> Class {
        match self.kind {
            RefusalKind::CommandNotFound | RefusalKind::ScriptNotFound => Class::NotFound,
            RefusalKind::TooFewProcessors | RefusalKind::SharedMemory => Class::User,
            _ => Class::Unsupported,
        }
    }
}

fn refuse<T>(
    kind: RefusalKind,
    what: impl Into<String>,
    cause: impl Into<String>,
    fix: impl Into<String>,
) -> Result<T, Refusal> {
    Err(Refusal {
        kind,
        what: what.into(),
        cause: cause.into(),
        fix: fix.into(),
    })
}

/// Decides how the ranks of a command are started.
///
/// # Errors
/// When it is certain that the command cannot run; what is only likely to
/// fail becomes a note with a warning.
pub fn decide(facts: &Facts, host: &HostFacts, ask: &Parallel) -> Result<LaunchPlan, Refusal> {
    let mut notes = Notes::default();
    program(facts, host, &mut notes)?;
    processors(host, ask, &mut notes)?;
    let kind = start(facts, host, ask, &mut notes)?;
    if ask.ranks > 1 && kind != LaunchKind::None {
        shared_memory(facts, host, ask, &mut notes)?;
        single_copy(host, &mut notes);
    }
    let own = facts.own_launcher.is_some() && ask.mpi == MpiChoice::Auto;
    let once = own || matches!(kind, LaunchKind::OpenMpi(_));
    Ok(LaunchPlan {
        kind,
        processes: if once { 1 } else { ask.ranks },
        notes: notes.0,
    })
}

#[derive(Default)]
struct Notes(Vec<Note>);

impl Notes {
    fn add(&mut self, topic: &'static str, what: impl Into<String>, evidence: impl Into<String>) {
        self.0.push(Note {
            topic,
            what: what.into(),
            evidence: evidence.into(),
            warning: false,
        });
    }

    fn warn(&mut self, topic: &'static str, what: impl Into<String>, evidence: impl Into<String>) {
        self.add(topic, what, evidence);
        self.0
            .iter_mut()
            .next_back()
            .into_iter()
            .for_each(|note| note.warning = true);
    }
}

/// Writes a number of things: `1 rank`, `4 ranks`.
fn count(n: u32, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Can the program itself start?
fn program(facts: &Facts, host: &HostFacts, notes: &mut Notes) -> Result<(), Refusal> {
    let name = &facts.name;
    let inside = match host.level {
        Level::Process => "on this host",
        Level::Container => "in the image",
    };
    let path = match &facts.lookup {
        Lookup::Found(path) => path,
        Lookup::NotExecutable(path) => {
            return refuse(
                RefusalKind::NotExecutable,
                format!("{name} cannot be executed"),
                format!("{path} is a folder, or no one may execute it"),
                format!("chmod +x {path}, or name its interpreter: sh {path}"),
            );
        }
        Lookup::Missing(near) => {
            let fix = match near.is_empty() {
                true => "check the spelling, or add the package that has it".to_owned(),
                false => format!("did you mean {}?", near.join(" or ")),
            };
            return refuse(
                RefusalKind::CommandNotFound,
                format!("the command {name:?} was not found {inside}"),
                match name.contains('/') {
                    true => "there is no such file".to_owned(),
                    false => "it is in no folder of PATH".to_owned(),
                },
                fix,
            );
        }
    };
    if let Some(interpreter) = &facts.missing_interpreter
        && facts.binary.is_none()
    {
        return refuse(
            RefusalKind::LoaderMissing,
            format!("{path} cannot be started"),
            format!("its interpreter {interpreter} is not {inside}"),
            "add the interpreter's package, or name another one on the command line",
        );
    }
    let Some(binary) = &facts.binary else {
        return refuse(
            RefusalKind::NotExecutable,
            format!("{path} cannot be started"),
            "it is neither an ELF program nor a script with a #! line",
            format!("name its interpreter: sh {path}"),
        );
    };
    can_load(binary, facts, host)?;
    let glibc = binary.glibc_needed.as_ref();
    let glibc = glibc.map_or(String::new(), |v| format!(", glibc {v} or newer"));
    let linked = if binary.loader.is_none() {
        ", static"
    } else {
        ""
    };
    notes.add(
        "program",
        format!("{} for {}{linked}{glibc}", binary.path, binary.arch),
        "ELF header",
    );
    if let Some(script) = &facts.script {
        if !script.present {
            return refuse(
                RefusalKind::ScriptNotFound,
                format!("the script {} was not found {inside}", script.path),
                "the interpreter would end with this error in every rank",
                match host.level {
                    Level::Process => "check the path; it is taken from the working folder",
                    Level::Container => {
                        "give the folder to the container: -v \"$PWD:/work\" -w /work"
                    }
                },
            );
        }
        notes.add("script", &script.path, "");
    }
    for (library, needed_by) in facts.missing_libraries.iter().take(5) {
        notes.warn(
            "library",
            format!("{library} is not {inside}; the program may fail to load"),
            format!("needed by {needed_by}"),
        );
    }
    Ok(())
}

fn can_load(binary: &Binary, facts: &Facts, host: &HostFacts) -> Result<(), Refusal> {
    let (path, arch) = (&binary.path, &binary.arch);
    // An x86-64 kernel runs 32-bit programs where their loader is there.
    let native = *arch == host.arch || (arch == "i686" && host.arch == "x86_64");
    if !native && !host.foreign_archs.contains(arch) {
        return refuse(
            RefusalKind::WrongArchitecture,
            format!("{path} cannot run on this processor"),
            format!("it is built for {arch}, and this host is {}", host.arch),
            format!(
                "take an image for {}, or install qemu-user-static with binfmt-support",
                host.arch
            ),
        );
    }
    if let Some((loader, false)) = &binary.loader {
        return refuse(
            RefusalKind::LoaderMissing,
            format!("{path} cannot be started"),
            format!("its loader {loader} is not there: it was built for another libc"),
            "build it for this image's libc, link it statically, or take the image it was built in",
        );
    }
    if let (Some(needed), Some(offered)) = (&binary.glibc_needed, &facts.glibc)
        && needed > offered
    {
        return refuse(
            RefusalKind::GlibcTooOld,
            format!("{path} cannot be started"),
            format!("it needs glibc {needed}, and there is {offered}"),
            "build it in this image, or take an image of a newer distribution",
        );
    }
    Ok(())
}

fn processors(host: &HostFacts, ask: &Parallel, notes: &mut Notes) -> Result<(), Refusal> {
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

fn start(
    facts: &Facts,
    host: &HostFacts,
    ask: &Parallel,
    notes: &mut Notes,
) -> Result<LaunchKind, Refusal> {
    let ranks = ask.ranks;
    if let (Some(launcher), MpiChoice::Auto) = (&facts.own_launcher, ask.mpi) {
        notes.add(
            "start",
            format!("one process; {launcher} inside starts the ranks"),
            "the command or its script calls it",
        );
        if ranks > 1 {
            notes.warn(
                "ranks",
                format!("the number given to {launcher} counts, {ranks} is only passed on as HYPERION_SIZE"),
                "--mpi none starts the command itself that often",
            );
        }
        return Ok(LaunchKind::None);
    }
    if let Some(mpi) = &facts.mpi {
        describe(mpi, notes);
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
            Pmi::Pmi1 => Ok(pmi1(ranks, mpi.to_string(), notes)),
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
            Ok(pmi1(ranks, "--mpi pmi".to_owned(), notes))
        }
        (MpiChoice::Pmi1, _) => Ok(pmi1(ranks, "--mpi pmi".to_owned(), notes)),
        (MpiChoice::Auto, None) if ranks > 1 => Ok(pmi1(
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

fn describe(mpi: &Mpi, notes: &mut Notes) {
    let device = mpi.device.as_ref();
    let device = device.map_or(String::new(), |d| format!(", device {d}"));
    notes.add(
        "mpi",
        format!("{mpi} by {}{device}", mpi.pmi),
        format!("{} needs {}", mpi.needed_by, mpi.soname),
    );
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

fn pmi1(ranks: u32, evidence: String, notes: &mut Notes) -> LaunchKind {
    notes.add(
        "start",
        format!(
            "Hyperion starts {} in one sandbox and serves PMI-1",
            count(ranks, "rank")
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
            "{mpirun} starts {} in one sandbox",
            count(ask.ranks, "rank")
        ),
        "Open MPI needs PMIx, which its own launcher serves",
    );
    Ok(LaunchKind::OpenMpi(OpenMpi {
        mpirun,
        major: facts.mpi.as_ref().and_then(Mpi::major),
        ranks: ask.ranks,
        slots: (host.cpus / ask.cpus_per_rank.max(1)).max(1),
        single_copy: single_copy_works(host),
    }))
}

fn shared_memory(
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
            Level::Container => format!("add --shm-size {mib}m"),
            Level::Process => format!("mount -o remount,size={mib}m /dev/shm, as root"),
        },
    )
}

fn single_copy_works(host: &HostFacts) -> bool {
    // 1 is enough: the libraries allow their siblings by PR_SET_PTRACER.
    host.ptrace_scope.unwrap_or(0) <= 1
}

fn single_copy(host: &HostFacts, notes: &mut Notes) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::{Python, Script};

    fn mpi(family: Family, pmi: Pmi) -> Mpi {
        Mpi {
            family,
            version: Some("4.1.4".into()),
            soname: "libmpi.so".into(),
            library: Some("/lib/libmpi.so".into()),
            needed_by: "/work/solve".into(),
            device: None,
            pmi,
        }
    }

    fn facts(mpi: Option<Mpi>) -> Facts {
        Facts {
            name: "solve".into(),
            lookup: Lookup::Found("/work/solve".into()),
            binary: Some(Binary {
                path: "/work/solve".into(),
                arch: "x86_64".into(),
                loader: Some(("/lib64/ld-linux-x86-64.so.2".into(), true)),
                glibc_needed: "2.34".parse().ok(),
            }),
            missing_interpreter: None,
            script: None,
            python: None,
            missing_libraries: Vec::new(),
            mpi,
            own_launcher: None,
            open_mpi_launcher: Some("/usr/bin/orterun".into()),
            glibc: "2.36".parse().ok(),
        }
    }

    fn host() -> HostFacts {
        HostFacts {
            arch: "x86_64".into(),
            foreign_archs: Vec::new(),
            level: Level::Container,
            cpus: 4,
            dev_shm: Some(Bytes::mib(64)),
            ptrace_scope: Some(1),
        }
    }

    fn ask(ranks: u32) -> Parallel {
        Parallel {
            ranks,
            ..Parallel::default()
        }
    }

    fn refusal(facts: &Facts, host: &HostFacts, ask: &Parallel) -> Refusal {
        decide(facts, host, ask).expect_err("a refusal")
    }

    #[test]
    fn mpich_is_served_by_hyperion() {
        let plan = decide(
            &facts(Some(mpi(Family::Mpich, Pmi::Pmi1))),
            &host(),
            &ask(4),
        );
        let plan = plan.expect("a plan");
        assert_eq!((plan.kind.clone(), plan.processes), (LaunchKind::Pmi1, 4));
        insta::assert_snapshot!(plan.to_string(), @"
        program    /work/solve for x86_64, glibc 2.34 or newer  [ELF header]
        mpi        MPICH 4.1.4 by PMI-1  [/work/solve needs libmpi.so]
        start      Hyperion starts 4 ranks in one sandbox and serves PMI-1  [MPICH 4.1.4]
        shm        /dev/shm has 64MiB, 4 ranks need 17MiB
        copies     large messages are copied once (CMA): all ranks share one user namespace
        ");
    }

    #[test]
    fn open_mpi_is_started_by_its_own_launcher() {
        let mut facts = facts(Some(mpi(Family::OpenMpi, Pmi::Pmix)));
        facts.missing_libraries = vec![("libfoo.so.1".into(), "/work/solve".into())];
        let host = HostFacts {
            cpus: 2,
            ptrace_scope: Some(2),
            ..host()
        };
        let ask = Parallel {
            oversubscribe: true,
            ..ask(4)
        };
        let plan = decide(&facts, &host, &ask).expect("a plan");
        assert_eq!(plan.processes, 1);
        let LaunchKind::OpenMpi(open_mpi) = &plan.kind else {
            panic!("{:?}", plan.kind);
        };
        assert_eq!(
            (open_mpi.ranks, open_mpi.slots, open_mpi.single_copy),
            (4, 2, false)
        );
        insta::assert_snapshot!(plan.to_string(), @"
          program    /work/solve for x86_64, glibc 2.34 or newer  [ELF header]
        ! library    libfoo.so.1 is not in the image; the program may fail to load  [needed by /work/solve]
        ! processors 4 ranks of 1 processor need 4, and 2 may be used  [--oversubscribe: ranks share processors and wait for each other]
          mpi        Open MPI 4.1.4 by PMIx  [/work/solve needs libmpi.so]
          start      /usr/bin/orterun starts 4 ranks in one sandbox  [Open MPI needs PMIx, which its own launcher serves]
          shm        /dev/shm has 64MiB, 4 ranks need 17MiB
        ! copies     large messages are copied twice: one rank may not read another's memory (CMA)  [kernel.yama.ptrace_scope is 2; 0 or 1 allows it]
        ");
    }

    #[test]
    fn a_script_with_its_own_launcher_is_started_once() {
        let mut facts = facts(None);
        facts.own_launcher = Some("mpiexec".into());
        let plan = decide(&facts, &host(), &ask(4)).expect("a plan");
        assert_eq!((plan.kind, plan.processes), (LaunchKind::None, 1));
        let none = Parallel {
            mpi: MpiChoice::None,
            ..ask(4)
        };
        let plan = decide(&facts, &host(), &none).expect("a plan");
        assert_eq!((plan.kind, plan.processes), (LaunchKind::None, 4));
    }

    #[test]
    fn what_has_no_mpi_is_started_as_it_is() {
        let kind = |ranks| decide(&facts(None), &host(), &ask(ranks)).map(|plan| plan.kind);
        assert_eq!(kind(1), Ok(LaunchKind::None));
        assert_eq!(kind(2), Ok(LaunchKind::Pmi1));
    }

    #[test]
    fn what_cannot_be_started_is_refused_with_cause_and_fix() {
        use RefusalKind as K;
        let good = facts(Some(mpi(Family::Mpich, Pmi::Pmi1)));
        let binary = |change: fn(&mut Binary)| {
            let mut facts = good.clone();
            facts.binary.as_mut().into_iter().for_each(change);
            facts
        };
        let script = Some(Script {
            path: "/work/x.py".into(),
            present: false,
        });
        let cases = [
            (
                K::CommandNotFound,
                127,
                Facts {
                    lookup: Lookup::Missing(vec!["solver".into()]),
                    ..good.clone()
                },
            ),
            (
                K::NotExecutable,
                126,
                Facts {
                    lookup: Lookup::NotExecutable("/work/solve".into()),
                    ..good.clone()
                },
            ),
            (
                K::NotExecutable,
                126,
                Facts {
                    binary: None,
                    ..good.clone()
                },
            ),
            (
                K::LoaderMissing,
                126,
                Facts {
                    binary: None,
                    missing_interpreter: Some("/usr/bin/pyhton".into()),
                    ..good.clone()
                },
            ),
            (
                K::ScriptNotFound,
                125,
                Facts {
                    script,
                    ..good.clone()
                },
            ),
            (
                K::WrongArchitecture,
                126,
                binary(|b| b.arch = "aarch64".into()),
            ),
            (
                K::LoaderMissing,
                126,
                binary(|b| b.loader = Some(("/lib/ld-musl.so".into(), false))),
            ),
            (
                K::GlibcTooOld,
                125,
                binary(|b| b.glibc_needed = "2.38".parse().ok()),
            ),
            (
                K::FamilyNotStartable,
                125,
                facts(Some(mpi(Family::Mpich, Pmi::Pmi2))),
            ),
            (
                K::FamilyNotStartable,
                125,
                Facts {
                    open_mpi_launcher: None,
                    ..facts(Some(mpi(Family::OpenMpi, Pmi::Pmix)))
                },
            ),
        ];
        let mut texts = Vec::new();
        for (kind, code, facts) in cases {
            let refusal = refusal(&facts, &host(), &ask(4));
            assert_eq!(
                (refusal.kind, refusal.exit_code()),
                (kind, code),
                "{refusal}"
            );
            texts.push(format!(
                "{}: {}; {}",
                refusal.what, refusal.cause, refusal.fix
            ));
        }
        insta::assert_snapshot!(texts.join("\n"), @r#"
        the command "solve" was not found in the image: it is in no folder of PATH; did you mean solver?
        solve cannot be executed: /work/solve is a folder, or no one may execute it; chmod +x /work/solve, or name its interpreter: sh /work/solve
        /work/solve cannot be started: it is neither an ELF program nor a script with a #! line; name its interpreter: sh /work/solve
        /work/solve cannot be started: its interpreter /usr/bin/pyhton is not in the image; add the interpreter's package, or name another one on the command line
        the script /work/x.py was not found in the image: the interpreter would end with this error in every rank; give the folder to the container: -v "$PWD:/work" -w /work
        /work/solve cannot run on this processor: it is built for aarch64, and this host is x86_64; take an image for x86_64, or install qemu-user-static with binfmt-support
        /work/solve cannot be started: its loader /lib/ld-musl.so is not there: it was built for another libc; build it for this image's libc, link it statically, or take the image it was built in
        /work/solve cannot be started: it needs glibc 2.38, and there is 2.36; build it in this image, or take an image of a newer distribution
        ranks of this MPICH cannot be started here: libmpi.so asks its launcher by PMI-2; use an MPICH that has its own PMI (the default of its configure), or start it by its own launcher: --mpi none with mpiexec in the command
        ranks of Open MPI cannot be started: its launcher mpirun is not beside its library and not in PATH; add the package openmpi-bin to the image, or PATH to the job
        "#);
    }

    #[test]
    fn a_program_of_another_processor_runs_where_it_is_emulated() {
        let mut facts = facts(None);
        facts
            .binary
            .as_mut()
            .into_iter()
            .for_each(|b| b.arch = "aarch64".into());
        let host = HostFacts {
            foreign_archs: vec!["aarch64".into()],
            ..host()
        };
        assert!(decide(&facts, &host, &ask(1)).is_ok());
    }

    #[test]
    fn small_shared_memory_and_few_processors_are_seen_before_the_start() {
        let facts = facts(Some(mpi(Family::Mpich, Pmi::Pmi1)));
        let small = HostFacts {
            dev_shm: Some(Bytes::mib(16)),
            ..host()
        };
        let refused = refusal(&facts, &small, &ask(4));
        assert_eq!(
            (refused.kind, refused.fix.as_str()),
            (RefusalKind::SharedMemory, "add --shm-size 17m")
        );
        assert!(decide(&facts, &small, &ask(1)).is_ok());
        let refused = refusal(&facts, &host(), &ask(8));
        assert_eq!(refused.kind, RefusalKind::TooFewProcessors);
    }

    #[test]
    fn a_script_whose_mpi4py_was_not_found_gets_a_warning() {
        let mut facts = facts(None);
        facts.python = Some(Python {
            imports: true,
            module: None,
        });
        let plan = decide(&facts, &host(), &ask(2)).expect("a plan");
        assert!(plan.notes.iter().any(|n| n.warning && n.topic == "mpi4py"));
    }
}
