//! What the contract and the attacks share: a tiny image with one static
//! program (`probe.c`), and the levels at which everything is tried.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hyperion_testkit::{Done, TestDir, guest_cache, hyperion_binary, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The same where a guest boots, by emulation.
const PATIENCE_WITH_A_GUEST: Duration = Duration::from_secs(150);

/// Names the probe where there is no compiler.
const PROBE: &str = "HYPERION_TEST_PROBE";
/// Says, where it is set, that users have a group of their own.
const DELEGATED: &str = "HYPERION_TEST_DELEGATED";

/// A way to run programs, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// What the machine must have.
    needs: &'static [&'static str],
    /// Who calls; root when absent.
    user: Option<&'static str>,
    /// Words that choose the level.
    words: &'static [&'static str],
    /// Programs see a root of their own.
    pub(crate) container: bool,
    /// Below them is a kernel of their own.
    pub(crate) machine: bool,
    /// Users other than the first one are known inside.
    pub(crate) other_users: bool,
    /// Root inside is root outside: on the host, or in the machine.
    pub(crate) real_root: bool,
}

impl Level {
    /// Root, with limits only.
    pub(crate) const PROCESS: Self = Self {
        needs: &["root"],
        user: None,
        words: &["--isolation", "process"],
        container: false,
        machine: false,
        other_users: true,
        real_root: true,
    };
    /// A user, with limits only.
    pub(crate) const USER_PROCESS: Self = Self {
        needs: &["user:nobody"],
        user: Some("nobody"),
        other_users: false,
        real_root: false,
        ..Self::PROCESS
    };
    /// Root, with nothing that is kept and nothing around it.
    pub(crate) const PASSING: Self = Self {
        words: &["--isolation", "process", "--rm"],
        ..Self::PROCESS
    };
    /// A user, likewise.
    pub(crate) const USER_PASSING: Self = Self {
        words: Self::PASSING.words,
        ..Self::USER_PROCESS
    };
    /// Root, whose container has ids of its own.
    pub(crate) const ROOT: Self = Self {
        needs: &["root", "userns"],
        user: None,
        words: &[],
        container: true,
        machine: false,
        other_users: true,
        real_root: false,
    };
    /// Root, whose container shares the host's ids.
    pub(crate) const REAL_ROOT: Self = Self {
        needs: &["root"],
        words: &["--userns", "host"],
        real_root: true,
        ..Self::ROOT
    };
    /// A user with subordinate ids.
    pub(crate) const USER: Self = Self {
        needs: &[
            "user:hyperion-test",
            "subuid:hyperion-test",
            "userns",
            "command:newuidmap",
        ],
        user: Some("hyperion-test"),
        ..Self::ROOT
    };
    /// A user without subordinate ids.
    pub(crate) const LONE_USER: Self = Self {
        needs: &["user:nobody", "userns"],
        user: Some("nobody"),
        other_users: false,
        ..Self::ROOT
    };
    /// Root, in a machine.
    pub(crate) const ROOT_MACHINE: Self = Self {
        needs: &["root", "guest", "command:strip"],
        user: None,
        words: &["--isolation", "vm"],
        container: true,
        machine: true,
        other_users: true,
        real_root: true,
    };
    /// A user without subordinate ids, in a machine, which has all ids.
    pub(crate) const USER_MACHINE: Self = Self {
        needs: &["user:nobody", "guest", "command:strip"],
        user: Some("nobody"),
        ..Self::ROOT_MACHINE
    };

    fn patience(self) -> Duration {
        match self.machine {
            true => PATIENCE_WITH_A_GUEST,
            false => PATIENCE,
        }
    }
}

/// One caller with a folder, an image and a store.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) level: Level,
    ids: (u32, u32),
    program: PathBuf,
    home: TestDir,
}

impl Fixture {
    /// Makes the folders; `None` when the machine cannot carry the level.
    pub(crate) fn new(level: Level) -> Option<Self> {
        let mut needs = level.needs.to_vec();
        if std::env::var_os(PROBE).is_none() {
            needs.push("command:gcc");
        }
        if !hyperion_testkit::check(&needs) {
            return None;
        }
        let home = TestDir::new();
        let ids = level.user.map_or((0, 0), ids_of);
        let program = match level.machine {
            // The guest's memory holds it too.
            true => stripped(),
            false => hyperion_binary(),
        };
        let mut fixture = Self {
            level,
            ids,
            program,
            home,
        };
        for folder in ["rootfs/bin", "rootfs/etc", "rootfs/tmp", "work"] {
            fs::create_dir_all(fixture.path(folder)).expect("a folder");
        }
        fs::copy(probe(), fixture.path("rootfs/bin/probe")).expect("a copy");
        fixture.write(
            "rootfs/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nana:x:1000:100:Ana:/home/ana:/bin/sh\n",
        );
        fixture.write(
            "rootfs/etc/group",
            "root:x:0:\nusers:x:100:\nvideo:x:44:ana\n",
        );
        let open = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(fixture.path("rootfs/tmp"), open).expect("a mode");
        own(fixture.home.path(), ids);
        if level.machine {
            fixture.lay_kernel();
        }
        // A build folder in somebody's home is out of other users' reach.
        let mut there = fixture.command(&fixture.program);
        let there = there
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !there.status().is_ok_and(|s| s.success()) {
            fixture.own_program();
        }
        Some(fixture)
    }

    /// Gives the caller a copy of the program that they may write to.
    pub(crate) fn own_program(&mut self) -> PathBuf {
        let copy = self.path("hyperion-copy");
        fs::copy(&self.program, &copy).expect("a copy");
        chown(&copy, Some(self.ids.0), Some(self.ids.1)).expect("an owner");
        self.program.clone_from(&copy);
        copy
    }

    /// Puts a kernel into the caller's store: links to one that all tests share.
    fn lay_kernel(&self) {
        let kernels = self.path("hyperion/kernels");
        link_tree(&shared_kernels(), &kernels);
        for folder in [&self.path("hyperion"), &kernels] {
            chown(folder, Some(self.ids.0), Some(self.ids.1)).expect("an owner");
        }
        for entry in fs::read_dir(&kernels).expect("readable").flatten() {
            chown(entry.path(), Some(self.ids.0), Some(self.ids.1)).expect("an owner");
        }
    }

    /// The program under test.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A path below the caller's folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    /// Writes a file that belongs to the caller.
    pub(crate) fn write(&self, below: &str, text: &str) {
        fs::write(self.path(below), text).expect("a file");
        chown(self.path(below), Some(self.ids.0), Some(self.ids.1)).expect("an owner");
    }

    /// The caller's numbers.
    pub(crate) fn ids(&self) -> (u32, u32) {
        self.ids
    }

    /// Tells whether the caller has a group to limit jobs in.
    pub(crate) fn has_group(&self) -> bool {
        self.ids.0 == 0 || std::env::var_os(DELEGATED).is_some()
    }

    /// A command of the caller's, with nothing of the tester's environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("HYPERION_ROOT", self.path("hyperion"))
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        if self.level.user.is_some() {
            command.uid(self.ids.0).gid(self.ids.1);
        }
        command
    }

    /// A command of the caller's that is ended, with code 124, where it hangs.
    fn bounded(&self) -> Command {
        let mut command = self.command("timeout");
        let limit = self.level.patience() * 2;
        command.args(["-k", "1", &limit.as_secs().to_string()]);
        command
    }

    /// Gives what came of a command, without what is said of each machine that is
    /// emulated or works on copies.
    fn done(&self, command: &mut Command) -> Done {
        let mut done = Done::of(command);
        if self.level.machine {
            let lines = done.err.split_inclusive('\n');
            let said = |line: &str| {
                line.starts_with("warning: the machine is emulated")
                    || line.contains(" is copied into the machine (")
            };
            done.err = lines.filter(|line| !said(line)).collect();
        }
        done
    }

    /// `hyperion WORDS`; a run that hangs is ended and gives 124.
    pub(crate) fn hyperion(&self, words: &[&str]) -> Done {
        self.done(self.bounded().arg(&self.program).args(words))
    }

    /// Gives the image's name: a folder.
    pub(crate) fn image(&self) -> String {
        self.path("rootfs").display().to_string()
    }

    /// The words of `hyperion run FLAGS [IMAGE] probe COMMAND`.
    pub(crate) fn words(&self, flags: &[&str], command: &[&str]) -> Vec<String> {
        let mut words = vec!["run"];
        words.extend(self.level.words);
        let sized = flags.iter().any(|f| f.starts_with("--cpu"));
        if self.level.machine && !sized {
            // Machines boot beside each other, one processor each.
            words.extend(["--cpus", "1"]);
        }
        words.extend(flags);
        let image = self.image();
        let probe = self.path("rootfs/bin/probe").display().to_string();
        if self.level.container {
            words.extend([image.as_str(), "probe"]);
        } else {
            words.push(&probe);
        }
        words.extend(command);
        words.into_iter().map(str::to_owned).collect()
    }

    /// Runs a command of the probe.
    pub(crate) fn run(&self, flags: &[&str], command: &[&str]) -> Done {
        let words = self.words(flags, command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.hyperion(&words)
    }

    /// Runs commands of the probe one after the other, in one sandbox.
    pub(crate) fn each<const N: usize>(
        &self,
        flags: &[&str],
        commands: [&[&str]; N],
    ) -> [String; N] {
        let mut all = vec!["each"];
        for command in commands {
            all.push("--");
            all.extend(command);
        }
        let done = self.run(flags, &all);
        let parts: Vec<&str> = done.out.split('\u{1e}').collect();
        assert_eq!(parts.len(), N + 1, "{done:?}");
        std::array::from_fn(|i| parts[i].to_owned())
    }

    /// Runs a command of the probe in a shell of the caller's: `$0` and
    /// arguments are the whole call.
    pub(crate) fn run_in_shell(&self, script: &str, flags: &[&str], command: &[&str]) -> Done {
        let mut shell = self.bounded();
        shell.args(["bash", "-c", script]).arg(&self.program);
        self.done(shell.args(self.words(flags, command)))
    }

    /// As [`Fixture::run_in_shell`], but root's shell, in a mount namespace of its own.
    pub(crate) fn run_in_private_mounts(
        &self,
        script: &str,
        flags: &[&str],
        command: &[&str],
    ) -> Done {
        let mut shell = self.command("timeout");
        shell
            .uid(0)
            .gid(0)
            .args(["-k", "1", "60", "unshare", "--mount", "bash", "-c", script])
            .arg(&self.program);
        Done::of(shell.args(self.words(flags, command)))
    }

    /// Starts a command of the probe, waits for its first line, and gives the job's id.
    pub(crate) fn start(&self, flags: &[&str], command: &[&str]) -> String {
        let mut all = vec!["-d"];
        all.extend(flags);
        let id = self.run(&all, command).ok().trim().to_owned();
        let ready = || self.hyperion(&["logs", &id]).out.contains("ready");
        assert!(
            wait_until(self.level.patience(), ready),
            "{:?}",
            self.hyperion(&["logs", &id])
        );
        id
    }

    /// Asserts that no process, cgroup or mount of this fixture's jobs is left.
    pub(crate) fn assert_nothing_left(&self) {
        let home = self.home.path().display().to_string();
        let mut left = Vec::new();
        let gone = wait_until(PATIENCE, || {
            left = self.processes();
            left.is_empty()
        });
        assert!(gone, "processes are left: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        assert!(!mounts.contains(&home), "mounts are left");
        let jobs = fs::read_dir(self.path("hyperion/jobs"))
            .into_iter()
            .flatten()
            .flatten();
        let ids: Vec<String> = jobs
            .map(|e| format!("hyperion-{}", e.file_name().display()))
            .collect();
        let mut groups = Vec::new();
        let gone = wait_until(PATIENCE, || {
            groups = groups_named(Path::new("/sys/fs/cgroup"), &ids, 6);
            groups.is_empty()
        });
        assert!(gone, "cgroups are left: {groups:?}");
        for id in ids.iter().filter_map(|i| i.strip_prefix("hyperion-")) {
            let scratch = self.path("hyperion/jobs").join(id).join("scratch");
            // The end of a job is told before its files are removed.
            let gone = wait_until(PATIENCE, || !scratch.exists());
            assert!(gone, "{} is left", scratch.display());
        }
    }

    /// The processes that name this fixture's folder: its supervisors, and
    /// whatever was started with it as an argument; and machines, which have a
    /// file of it open.
    pub(crate) fn processes(&self) -> Vec<String> {
        let home = self.home.path().display().to_string();
        let all = fs::read_dir("/proc").expect("readable").flatten();
        all.filter_map(|entry| {
            let pid = entry.file_name().into_string().ok()?;
            pid.parse::<u32>().ok()?;
            let words = fs::read(entry.path().join("cmdline")).ok()?;
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            let ours = words.contains(&home)
                || (self.level.machine && has_open(&entry.path(), self.home.path()));
            ours.then(|| format!("{pid} {words}"))
        })
        .collect()
    }
}

/// Where a check has failed half way, its jobs do not go on without it.
impl Drop for Fixture {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for process in self.processes() {
            let pid = process.split(' ').next().and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw)
                && pid != rustix::process::getpid()
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Tells whether a process has a file below a folder open.
fn has_open(process: &Path, folder: &Path) -> bool {
    let files = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names = files.filter_map(|file| fs::read_link(file.path()).ok());
    names.any(|name| name.starts_with(folder))
}

fn groups_named(folder: &Path, names: &[String], depth: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        if names.iter().any(|n| entry.file_name() == n.as_str()) {
            found.push(entry.path());
        } else if depth > 0 {
            found.extend(groups_named(&entry.path(), names, depth - 1));
        }
    }
    found
}

fn ids_of(user: &str) -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("readable");
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let ids = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        (fields[0] == user).then_some(ids)
    });
    entry.expect("the gate has looked for the user")
}

fn own(path: &Path, ids: (u32, u32)) {
    std::os::unix::fs::lchown(path, Some(ids.0), Some(ids.1)).expect("an owner");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("readable").flatten() {
            own(&entry.path(), ids);
        }
    }
}

/// Gives something that all tests use, in the folder of the build: made by the
/// first that needs it, and again when one of its sources is newer.
fn shared(name: &str, sources: &[&Path], make: impl Fn(&Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(folder).expect("a folder");
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let (made, stamp) = (folder.join(name), folder.join(format!("{name}.made")));
    let lock = File::create(folder.join(format!("{name}.lock"))).expect("a file");
    lock.lock().expect("the lock of what all tests use");
    let newest = sources.iter().filter_map(|source| time(source)).max();
    if time(&stamp) <= newest {
        if made.is_dir() {
            fs::remove_dir_all(&made).expect("removed");
        }
        let own = folder.join(format!("{name}.unfinished"));
        make(&own);
        fs::rename(&own, &made).expect("a name");
        File::create(stamp).expect("a file");
    }
    made
}

/// Gives the probe: the one that is named, or else compiled.
pub(crate) fn probe() -> PathBuf {
    if let Some(probe) = std::env::var_os(PROBE) {
        return probe.into();
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isolation/probe.c");
    shared("isolation-probe", &[&source], |to| {
        let mut gcc = Command::new("gcc");
        gcc.args(["-static", "-O1", "-w", "-o"])
            .arg(to)
            .arg(&source);
        assert!(
            gcc.status().is_ok_and(|s| s.success()),
            "gcc makes the probe"
        );
    })
}

/// Gives the program without what debuggers read.
pub(crate) fn stripped() -> PathBuf {
    let program = hyperion_binary();
    shared("hyperion-stripped", &[&program], |to| {
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(to).arg(&program);
        assert!(strip.status().is_ok_and(|s| s.success()), "strip works");
    })
}

/// Installs the guests' kernel.
fn shared_kernels() -> PathBuf {
    let (program, package) = (hyperion_binary(), guest_cache().join("kernel.deb"));
    let root = shared("isolation-kernels", &[&program, &package], |to| {
        let _ = fs::remove_dir_all(to);
        let mut install = Command::new(&program);
        install
            .args(["vm", "kernel", "install", "--deb"])
            .arg(&package);
        install.env("HYPERION_ROOT", to).stdout(Stdio::null());
        assert!(install.status().is_ok_and(|s| s.success()), "a kernel");
    });
    root.join("kernels")
}

/// Makes the same folders, and links to the files, or copies where they are on
/// another file system.
fn link_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            link_tree(&from, &to);
        } else if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}
