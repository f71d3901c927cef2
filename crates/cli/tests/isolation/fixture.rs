//! What the contract and the attacks share: a tiny image with one static
//! program (`probe.c`), and the levels at which everything is tried.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hyperion_testkit::{Done, TestDir, hyperion_binary, wait_until};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

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
    /// Users other than the first one are known inside.
    pub(crate) other_users: bool,
    /// Root inside is root outside.
    pub(crate) real_root: bool,
}

impl Level {
    /// Root, with limits only.
    pub(crate) const PROCESS: Self = Self {
        needs: &["root"],
        user: None,
        words: &["--isolation", "process"],
        container: false,
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
    /// Root, whose container has ids of its own.
    pub(crate) const ROOT: Self = Self {
        needs: &["root", "userns"],
        user: None,
        words: &[],
        container: true,
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
        let mut needs = vec!["command:gcc"];
        needs.extend(level.needs);
        if !hyperion_testkit::check(&needs) {
            return None;
        }
        let home = TestDir::new();
        let ids = level.user.map_or((0, 0), ids_of);
        let mut fixture = Self {
            level,
            ids,
            program: hyperion_binary(),
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
        fs::copy(hyperion_binary(), &copy).expect("a copy");
        chown(&copy, Some(self.ids.0), Some(self.ids.1)).expect("an owner");
        self.program.clone_from(&copy);
        copy
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

    /// `hyperion WORDS`; a run that hangs is ended and gives 124.
    pub(crate) fn hyperion(&self, words: &[&str]) -> Done {
        Done::of(
            self.command("timeout")
                .args(["-k", "1", "60"])
                .arg(&self.program)
                .args(words),
        )
    }

    /// The words of `hyperion run FLAGS [IMAGE] probe COMMAND`.
    pub(crate) fn words(&self, flags: &[&str], command: &[&str]) -> Vec<String> {
        let mut words = vec!["run"];
        words.extend(self.level.words);
        words.extend(flags);
        let image = self.path("rootfs").display().to_string();
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

    /// Runs a command of the probe in a shell of the caller's: `$0` and
    /// arguments are the whole call.
    pub(crate) fn run_in_shell(&self, script: &str, flags: &[&str], command: &[&str]) -> Done {
        let mut shell = self.command("timeout");
        shell
            .args(["-k", "1", "60", "bash", "-c", script])
            .arg(&self.program);
        Done::of(shell.args(self.words(flags, command)))
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
            wait_until(PATIENCE, ready),
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
    /// whatever was started with it as an argument.
    pub(crate) fn processes(&self) -> Vec<String> {
        let home = self.home.path().display().to_string();
        let all = fs::read_dir("/proc").expect("readable").flatten();
        all.filter_map(|entry| {
            let pid = entry.file_name().into_string().ok()?;
            pid.parse::<u32>().ok()?;
            let words = fs::read(entry.path().join("cmdline")).ok()?;
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            words.contains(&home).then(|| format!("{pid} {words}"))
        })
        .collect()
    }
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

/// Compiles the probe, once for all tests.
fn probe() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isolation/probe.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let built = folder.join("isolation-probe");
    if time(&built).is_some_and(|t| Some(t) > time(&source)) {
        return built;
    }
    fs::create_dir_all(folder).expect("a folder");
    // Tests run side by side: each makes its own, and the last to be ready names it.
    let own = folder.join(format!("isolation-probe.{}", std::process::id()));
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-O1", "-w", "-o"])
        .arg(&own)
        .arg(&source);
    assert!(
        gcc.status().is_ok_and(|s| s.success()),
        "gcc makes the probe"
    );
    fs::rename(&own, &built).expect("a name");
    built
}
