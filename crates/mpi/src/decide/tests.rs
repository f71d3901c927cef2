//! Every decision and every refusal.

use super::*;
use crate::family::{Family, Mpi, Pmi};
use crate::preflight::{Binary, Launcher, Lookup, Python, Script};

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
        launcher_major: None,
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
        nodes: Vec::new(),
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
fn an_mpich_that_may_hang_at_its_end_is_named() {
    let several = HostFacts {
        nodes: vec![("a".into(), 1), ("b".into(), 1)],
        ..host()
    };
    let warned = |version: &str, device: &str, host: &HostFacts| {
        let mpi = Mpi {
            version: Some(version.into()),
            device: Some(device.into()),
            ..mpi(Family::Mpich, Pmi::Pmi1)
        };
        let plan = decide(&facts(Some(mpi)), host, &ask(2)).expect("a plan");
        plan.notes.iter().any(|note| note.warning)
    };
    for version in ["3.4.1", "4.0.2", "4.1"] {
        assert!(warned(version, "ch4:ucx", &several), "{version}");
        assert!(!warned(version, "ch4:ofi", &several), "{version}");
        assert!(!warned(version, "ch4:ucx", &host()), "{version}");
    }
    for version in ["3.3.2", "4.2.0", "4.2rc1", "5.0.0", "master"] {
        assert!(!warned(version, "ch4:ucx", &several), "{version}");
    }
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
    facts.own_launcher = launcher(Pmi::Pmi1);
    let plan = decide(&facts, &host(), &ask(4)).expect("a plan");
    assert_eq!((plan.kind, plan.processes), (LaunchKind::None, 1));
    let none = Parallel {
        mpi: MpiChoice::None,
        ..ask(4)
    };
    let plan = decide(&facts, &host(), &none).expect("a plan");
    assert_eq!((plan.kind, plan.processes), (LaunchKind::None, 4));
}

fn launcher(serves: Pmi) -> Option<Launcher> {
    Some(Launcher {
        name: "mpiexec".into(),
        serves: Some(serves),
    })
}

#[test]
fn a_launcher_of_another_mpi_is_named() {
    let with = |family, pmi, serves| Facts {
        own_launcher: launcher(serves),
        ..facts(Some(mpi(family, pmi)))
    };
    let plan = |facts: &Facts| decide(facts, &host(), &ask(1)).expect("a plan");
    let warned = |facts: &Facts| plan(facts).notes.iter().any(|note| note.warning);
    assert!(warned(&with(Family::Mpich, Pmi::Pmi1, Pmi::Pmix)));
    assert!(!warned(&with(Family::Mpich, Pmi::Pmi1, Pmi::Pmi1)));
    assert!(!warned(&with(Family::OpenMpi, Pmi::Pmix, Pmi::Pmix)));
    let mut strange = with(Family::OpenMpi, Pmi::Pmix, Pmi::Pmi1);
    insta::assert_snapshot!(plan(&strange).to_string(), @"
      program    /work/solve for x86_64, glibc 2.34 or newer  [ELF header]
      mpi        Open MPI 4.1.4 by PMIx  [/work/solve needs libmpi.so]
    ! launcher   mpiexec serves PMI-1, Open MPI asks by PMIx: each rank takes itself for the only one  [leave mpiexec out: -n N of hyperion starts them; or call the one of Open MPI]
      start      one process; mpiexec inside starts the ranks  [the command or its script calls it]
    ");
    // mpi4py that is only installed asks nobody.
    strange.python = Some(Python {
        imports: false,
        module: strange.mpi.as_ref().map(|mpi| mpi.needed_by.clone()),
    });
    assert!(!warned(&strange));
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
