//! Preflight on this machine's own programs.

mod common;

use std::process::Command as Process;

use common::Host;
use hyperion_mpi::family::{Family, Pmi};
use hyperion_mpi::{Command, Facts, inspect};
use hyperion_testkit::{TestDir, requires};

fn look(host: &mut Host, line: &str) -> Facts {
    let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let command = Command {
        argv: &argv,
        path: "/usr/bin:/bin",
        library_path: "",
        cwd: "/",
    };
    inspect(host, &command)
}

fn compiled(dir: &TestDir, compiler: &str) -> String {
    let source = dir.path().join("a.c");
    let text = "#include <mpi.h>\nint main(int c, char **v) { MPI_Init(&c, &v); return MPI_Finalize(); }\n";
    std::fs::write(&source, text).expect("written");
    let program = dir.path().join("a.out");
    let status = Process::new(compiler)
        .args([&source])
        .arg("-o")
        .arg(&program)
        .status();
    assert!(status.expect("a compiler").success());
    program.to_str().expect("text").to_owned()
}

#[test]
fn the_shell_is_read_in_a_few_small_reads() {
    let mut host = Host::default();
    let facts = look(&mut host, "sh");
    let binary = facts.binary.expect("an ELF file");
    assert_eq!(binary.arch, std::env::consts::ARCH);
    assert!(facts.missing_libraries.is_empty());
    assert!(facts.mpi.is_none());
    assert!(host.calls < 100 && host.bytes < 128 * 1024, "{host:?}");
}

#[test]
fn glibc_is_read_on_both_sides() {
    requires!("command:ldd");
    let facts = look(&mut Host::default(), "/usr/bin/env");
    let needed = facts.binary.and_then(|b| b.glibc_needed).expect("needs");
    let offered = facts.glibc.expect("offers");
    assert!(needed <= offered);
    // The first line of `ldd --version` ends with glibc's version.
    let ldd = Process::new("ldd").arg("--version").output().expect("ldd");
    let first = String::from_utf8_lossy(&ldd.stdout);
    let told = first.lines().next().and_then(|l| l.split(' ').next_back());
    assert_eq!(Some(offered.to_string().as_str()), told);
}

#[test]
fn mpich_is_found_with_its_version_in_few_reads() {
    requires!("command:mpicc.mpich");
    let dir = TestDir::new();
    let program = compiled(&dir, "mpicc.mpich");
    let mut host = Host::default();
    let mpi = look(&mut host, &program).mpi.expect("MPI");
    assert_eq!((mpi.family, mpi.pmi), (Family::Mpich, Pmi::Pmi1));
    let told = Process::new("mpichversion").output().expect("mpichversion");
    let told = String::from_utf8_lossy(&told.stdout);
    let version = mpi.version.expect("a version");
    assert!(told.contains(&version), "{version} not in {told}");
    assert!(mpi.device.is_some_and(|device| device.starts_with("ch")));
    // The library alone has 40 MB.
    assert!(host.calls < 400 && host.bytes < 512 * 1024, "{host:?}");
}

#[test]
fn open_mpi_is_found_with_its_version_and_launcher() {
    requires!("command:mpicc.openmpi", "command:mpirun.openmpi");
    let dir = TestDir::new();
    let program = compiled(&dir, "mpicc.openmpi");
    let facts = look(&mut Host::default(), &program);
    let mpi = facts.mpi.expect("MPI");
    assert_eq!((mpi.family, mpi.pmi), (Family::OpenMpi, Pmi::Pmix));
    let told = Process::new("mpirun.openmpi").arg("--version").output();
    let told = told.expect("mpirun").stdout;
    let version = mpi.version.expect("a version");
    assert!(
        String::from_utf8_lossy(&told).contains(&version),
        "{version}"
    );
    assert!(facts.open_mpi_launcher.is_some());
}

#[test]
fn mpi4py_of_the_distribution_is_found() {
    if !std::path::Path::new("/usr/lib/python3/dist-packages/mpi4py").exists() {
        println!("skipped: no python3-mpi4py");
        return;
    }
    let facts = look(
        &mut Host::default(),
        "/usr/bin/python3 -c import\u{a0}mpi4py",
    );
    assert!(facts.python.is_some_and(|p| p.module.is_some()));
    assert!(facts.mpi.is_some_and(|mpi| mpi.library.is_some()));
}
