//! Every example of `examples/`, by the table `examples.toml`, as a process
//! and in a container.

use std::path::{Path, PathBuf};
use std::process::Command;

use hyperion_testkit::{TestDir, guest_cache, hyperion, hyperion_as, requires};
use serde::Deserialize;

/// The folders of the host from which the container gets compilers, MPI and
/// Python: an image with all of them takes minutes to make.
const TOOLS: [&str; 4] = [
    "/usr",
    "/etc/alternatives",
    "/etc/openmpi",
    "/etc/ld.so.cache",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    example: Vec<Example>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    name: String,
    #[serde(default)]
    build: Vec<String>,
    command: Vec<String>,
    #[serde(default = "one")]
    ranks: u32,
    expect: Vec<String>,
    #[serde(default)]
    exit: i32,
    error: Option<String>,
}

fn one() -> u32 {
    1
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .canonicalize()
        .expect("the examples are in the workspace")
}

fn table() -> Vec<Example> {
    let text = std::fs::read_to_string(folder().join("examples.toml")).expect("a table");
    let table: Table = toml::from_str(&text).expect("a valid table");
    table.example
}

/// Copies the examples to where every user may read them: the sources may lie
/// where only the tester may look.
fn copied(home: &TestDir) -> PathBuf {
    let mut command = Command::new("cp");
    let status = command.arg("-r").arg(folder()).arg(home.path()).status();
    assert!(status.expect("cp runs").success());
    home.path().join("examples")
}

/// The nodes of a job.
#[derive(Clone, Copy)]
enum Nodes {
    /// One, of the level's own kind.
    One,
    OneMachine,
    TwoMachines,
    MachineAndContainer,
}

/// One level: the words that choose it, and its names for two folders.
struct Level {
    home: TestDir,
    /// Who runs it, where the tester is root.
    user: Option<&'static str>,
    /// The examples.
    folder: PathBuf,
    words: Vec<String>,
    out: String,
    /// Where what has several ranks is spread to.
    nodes: Nodes,
    /// Keeps what is built.
    _built: Option<TestDir>,
}

impl Level {
    fn process(user: Option<&'static str>) -> Self {
        let home = TestDir::shared();
        Self {
            user,
            folder: copied(&home),
            words: vec!["--isolation".into(), "process".into()],
            out: home.path().to_string_lossy().into_owned(),
            home,
            nodes: Nodes::One,
            _built: None,
        }
    }

    fn machine() -> Self {
        let mut level = Self::container(None);
        let package = guest_cache().join("kernel.deb");
        let mut install = level.hyperion();
        install
            .args(["vm", "kernel", "install", "--deb"])
            .arg(package);
        assert!(install.output().expect("hyperion starts").status.success());
        level.nodes = Nodes::OneMachine;
        level
    }

    fn container(user: Option<&'static str>) -> Self {
        let home = TestDir::shared();
        let rootfs = home.path().join("rootfs");
        for folder in ["etc", "tmp", "usr"] {
            std::fs::create_dir_all(rootfs.join(folder)).expect("a folder");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), rootfs.join(link)).expect("a link");
        }
        std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("a file");
        let folder = copied(&home);
        let built = TestDir::shared();
        let mut words = vec!["--workdir".to_owned(), "/examples".to_owned()];
        let mut mount = |words_of: String| words.extend(["--volume".to_owned(), words_of]);
        mount(format!("{}:/examples:ro", folder.display()));
        mount(format!("{}:/out", built.path().display()));
        for tool in TOOLS.iter().filter(|tool| Path::new(tool).exists()) {
            mount(format!("{tool}:{tool}:ro"));
        }
        words.push("examples".to_owned());
        let level = Self {
            home,
            user,
            folder,
            words,
            out: "/out".to_owned(),
            nodes: Nodes::One,
            _built: Some(built),
        };
        let mut import = level.hyperion();
        import
            .args(["image", "import"])
            .arg(&rootfs)
            .arg("examples");
        let import = import.output().expect("hyperion starts");
        assert!(import.status.success(), "{import:?}");
        level
    }

    fn hyperion(&self) -> Command {
        match self.user {
            Some(user) => hyperion_as(self.home.path(), user),
            None => hyperion(self.home.path()),
        }
    }

    fn run(&self, ranks: u32, command: &[String]) -> (Option<i32>, String, String) {
        let mut hyperion = self.hyperion();
        hyperion
            // The distribution's own programs, whatever else the tester has.
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .current_dir(&self.folder)
            .args(["run", "--rm", "--oversubscribe"]);
        let (ranks_words, others) = (["-n".to_owned(), ranks.to_string()], ranks - 1);
        match self.nodes {
            Nodes::TwoMachines if ranks > 1 => hyperion.args(["--isolation", "vm", "-N", "2"]),
            Nodes::MachineAndContainer if ranks > 1 => hyperion.args([
                "--member",
                "vm:1",
                "--member",
                &format!("container:{others}"),
            ]),
            Nodes::OneMachine => hyperion.args(["--isolation", "vm"]),
            _ => &mut hyperion,
        };
        if !matches!(self.nodes, Nodes::MachineAndContainer) || ranks == 1 {
            hyperion.args(ranks_words);
        }
        hyperion
            .args(&self.words)
            .args(command.iter().map(|word| word.replace("{out}", &self.out)));
        let output = hyperion.output().expect("hyperion starts");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// Runs the examples whose names begin so, and gives a line for each that went wrong.
    fn run_all(&self, names: &[&str]) -> Vec<String> {
        let mut wrong = Vec::new();
        let wanted = |example: &Example| names.iter().any(|name| example.name.starts_with(name));
        for example in table().into_iter().filter(wanted) {
            if !example.build.is_empty() {
                let (code, _, err) = self.run(1, &example.build);
                if code != Some(0) {
                    wrong.push(format!("{}: build: {code:?}: {err}", example.name));
                    continue;
                }
            }
            let (code, out, err) = self.run(example.ranks, &example.command);
            let printed = |part: &String| out.lines().any(|line| line.starts_with(part.as_str()));
            let said = example.error.as_ref().is_none_or(|e| err.contains(e));
            if code != Some(example.exit) || !example.expect.iter().all(printed) || !said {
                wrong.push(format!("{}: {code:?}\n{out}\n{err}", example.name));
            }
        }
        wrong
    }
}

#[test]
fn every_example_gives_its_checked_result_as_a_process() {
    requires!(
        "command:mpicc.mpich",
        "command:mpicc.openmpi",
        "command:gfortran",
        "path:/usr/lib/python3/dist-packages/mpi4py",
        "path:/usr/lib/python3/dist-packages/numpy",
    );
    let wrong = Level::process(None).run_all(&[""]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_gives_its_checked_result_in_a_container() {
    requires!(
        "root",
        "userns",
        "command:mpicc.mpich",
        "command:mpicc.openmpi",
        "command:gfortran",
        "path:/usr/lib/python3/dist-packages/mpi4py",
        "path:/usr/lib/python3/dist-packages/numpy",
    );
    let wrong = Level::container(None).run_all(&[""]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mpi_passes_4_mib_in_a_machine_between_two_and_to_a_container() {
    requires!(
        "root",
        "guest",
        "path:/dev/net/tun",
        "path:/usr/lib/qemu/virtiofsd",
        "command:mpicc.mpich",
        "command:mpicc.openmpi",
        "path:/usr/lib/python3/dist-packages/mpi4py",
    );
    let mut level = Level::machine();
    let names = ["hello", "pingpong-mpich", "pingpong-openmpi"];
    let mut wrong = level.run_all(&names);
    for nodes in [Nodes::TwoMachines, Nodes::MachineAndContainer] {
        level.nodes = nodes;
        wrong.extend(level.run_all(&["pingpong-mpich", "pingpong-openmpi"]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What shows that ranks reach one another: also with 4 MiB, for which they
/// read one another's memory.
const MPI: [&str; 2] = ["hello", "pingpong"];

#[test]
fn mpi_works_for_a_user_with_subordinate_ids() {
    requires!(
        "userns",
        "user:hyperion-test",
        "subuid:hyperion-test",
        "command:mpicc.mpich",
        "command:mpicc.openmpi",
        "path:/usr/lib/python3/dist-packages/mpi4py",
    );
    let wrong = Level::container(Some("hyperion-test")).run_all(&MPI);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mpi_works_for_a_user_without_subordinate_ids() {
    requires!(
        "userns",
        "user:nobody",
        "command:mpicc.mpich",
        "command:mpicc.openmpi",
        "path:/usr/lib/python3/dist-packages/mpi4py",
    );
    let mut wrong = Level::container(Some("nobody")).run_all(&MPI);
    wrong.extend(Level::process(Some("nobody")).run_all(&MPI));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_folder_is_in_the_table_and_has_a_page() {
    let commands: Vec<String> = table()
        .iter()
        .map(|example| format!("{:?}", (&example.build, &example.command)))
        .collect();
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            let name = entry.file_name().into_string().expect("text");
            // Definitions, scripts and scenarios are not run by a command here: the tests of
            // `formats`, of the queue and of `sim` do.
            let used = |command: &String| command.contains(&format!("{name}/"));
            let elsewhere = ["machines", "batch", "sim"].contains(&name.as_str());
            let listed = elsewhere || commands.iter().any(used);
            assert!(listed, "{name} is not in examples.toml");
            assert!(entry.path().join("README.md").exists(), "{name}");
        }
    }
}
