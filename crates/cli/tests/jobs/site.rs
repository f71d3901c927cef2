//! A root folder of its own for each test, and the commands run on it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use hyperion_testkit::{Done, TestDir, hyperion, hyperion_as, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// Longer than anything here takes on a slow machine; only a hang reaches it.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Where the jobs of one test live. Ends and removes them when dropped.
pub(crate) struct Site {
    home: TestDir,
    /// Who runs commands there, where it is not who runs the test.
    user: Option<&'static str>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            home: TestDir::new(),
            user: None,
        }
    }

    /// One of an ordinary user: of `nobody` where root runs the test.
    #[allow(dead_code, reason = "the tests of machines use it")]
    pub(crate) fn of_user() -> Self {
        match rustix::process::geteuid().is_root() {
            true => Self {
                home: TestDir::shared(),
                user: Some("nobody"),
            },
            false => Self::new(),
        }
    }

    /// A folder for the test's own files.
    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }

    /// The root folder of the jobs.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.path().join("hyperion")
    }

    /// The command, not started.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = match self.user {
            Some(user) => hyperion_as(self.home.path(), user),
            None => hyperion(self.home.path()),
        };
        command.args(words);
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Done {
        finish(self.command(words))
    }

    /// Starts a process job in the background; gives its id.
    #[track_caller]
    pub(crate) fn start(&self, script: &str) -> String {
        self.start_with(&[], script)
    }

    /// As [`Site::start`], with flags.
    #[track_caller]
    pub(crate) fn start_with(&self, flags: &[&str], script: &str) -> String {
        let mut words = vec!["run", "-d", "--isolation", "process"];
        words.extend(flags);
        words.extend(["sh", "-c", script]);
        self.run(&words).ok()
    }

    /// Runs a script as a process job in the foreground.
    #[track_caller]
    pub(crate) fn process(&self, flags: &[&str], script: &str) -> Done {
        let mut words = vec!["run", "--isolation", "process"];
        words.extend(flags);
        words.extend(["sh", "-c", script]);
        self.run(&words)
    }

    /// What is known of a job.
    #[track_caller]
    pub(crate) fn inspect(&self, job: &str) -> Value {
        let all = self.run(&["inspect", job]).ok();
        let mut all: Value = serde_json::from_str(&all).expect("JSON");
        all[0].take()
    }

    /// The state of a job.
    #[track_caller]
    pub(crate) fn state(&self, job: &str) -> String {
        let state = self.inspect(job)["state"].take();
        state.as_str().expect("a text").to_owned()
    }

    /// Waits until a job has written this.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, job: &str, text: &str) {
        let found = wait_until(LONG, || self.run(&["logs", job]).out.contains(text));
        assert!(found, "job {job} never wrote {text:?}");
    }

    /// Process numbers of a running job: its supervisor and its init.
    #[track_caller]
    pub(crate) fn processes(&self, job: &str) -> (Pid, Pid) {
        // It is told to run before that is written down.
        let running = wait_for(LONG, || {
            let running = self.inspect(job)["running"].take();
            running.is_object().then_some(running)
        });
        let running = running.expect("the job runs");
        let number = |value: &Value| {
            let number = value.as_i64().and_then(|n| i32::try_from(n).ok());
            number.and_then(Pid::from_raw).expect("a process number")
        };
        (
            number(&running["supervisor"]),
            number(&running["sandboxes"][0]["init"]),
        )
    }

    /// What lies in the folders of jobs, as `ID/…`.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let below = files_below(&self.root().join("jobs"));
        // The folders in between, by the first two digits, stay.
        let without = |path: PathBuf| path.components().skip(1).collect::<PathBuf>();
        let records = below.into_iter().map(without);
        records
            .filter(|path| path.components().count() > 0)
            .collect()
    }

    /// How long a file of [`Self::records`] is; 0 where it is not there any more.
    pub(crate) fn length(&self, record: &Path) -> u64 {
        let digits = record.to_str().and_then(|path| path.get(..2));
        let jobs = self.root().join("jobs").join(digits.expect("an id"));
        std::fs::metadata(jobs.join(record)).map_or(0, |meta| meta.len())
    }

    /// All jobs, ended ones too.
    pub(crate) fn jobs(&self) -> Vec<String> {
        let out = self.run(&["ps", "-aq"]).ok();
        out.lines().map(str::to_owned).collect()
    }

    /// Makes a root file system of host programs and what they are linked with.
    pub(crate) fn rootfs(&self, programs: &[&str]) -> String {
        let root = self.home.path().join("rootfs");
        for folder in ["bin", "tmp", "etc", "dev", "proc", "sys"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let mut copied = std::collections::BTreeSet::new();
        for program in programs {
            let path = in_path(program);
            std::fs::copy(&path, root.join("bin").join(program)).expect("copied");
            let linked = finish(shell(&format!("ldd {path}"))).out;
            for library in linked.split_whitespace().filter(|w| w.starts_with('/')) {
                if copied.insert(library.to_owned()) {
                    let to = root.join(library.trim_start_matches('/'));
                    std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
                    std::fs::copy(library, to).expect("copied");
                }
            }
        }
        root.to_str().expect("a path of text").to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The server of a queue would start more, and stay for a while.
        if self.root().join("queue").exists() {
            let mut stop = self.command(&["serve", "--stop"]);
            let _ = stop.stderr(Stdio::null()).output();
        }
        // A machine of a test that failed would run for ever.
        for machine in std::fs::read_dir(self.root().join("machines"))
            .into_iter()
            .flatten()
        {
            let name = machine.map(|m| m.file_name().into_string().unwrap_or_default());
            let mut delete = self.command(&["vm", "delete", "--force", &name.unwrap_or_default()]);
            let _ = delete.stderr(Stdio::null()).output();
        }
        if std::thread::panicking() {
            // The first failure is told, not one of cleaning up after it.
            let mut ps = self.command(&["ps", "-aq"]);
            let ids = ps.output().map(|o| o.stdout).unwrap_or_default();
            let ids = String::from_utf8_lossy(&ids).into_owned();
            let ids: Vec<&str> = ids.split_whitespace().collect();
            let _ = self
                .command(&[&["rm", "-f"][..], &ids].concat())
                .stderr(Stdio::null())
                .output();
        } else {
            for job in self.jobs() {
                self.run(&["rm", "-f", &job]);
            }
        }
    }
}

/// Finds a program; shells have some built in and would not tell.
fn in_path(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(program));
    let found = found.find(|file| file.is_file());
    let found = found.unwrap_or_else(|| panic!("this host has no {program}"));
    found.to_str().expect("text").to_owned()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

/// Runs any command to its end.
#[track_caller]
pub(crate) fn finish(command: Command) -> Done {
    Running::begin(command).finish()
}

/// A command in the background, its output collected.
pub(crate) struct Running {
    what: String,
    pub(crate) child: Child,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    fn of(mut child: Child, what: String) -> Self {
        Self {
            what,
            out: child.stdout.take().map(collect),
            err: child.stderr.take().map(collect),
            child,
        }
    }

    /// Starts a command of a site; standard input stays open.
    #[track_caller]
    pub(crate) fn start(site: &Site, words: &[&str]) -> Self {
        let mut command = site.command(words);
        command.stdin(Stdio::piped());
        Self::begin(command)
    }

    /// Starts a command that has its input.
    #[track_caller]
    pub(crate) fn begin(mut command: Command) -> Self {
        let what = format!("{command:?}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::of(command.spawn().expect("it starts"), what)
    }

    /// Writes to its standard input.
    #[track_caller]
    pub(crate) fn write(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("input is open");
        input.write_all(text.as_bytes()).expect("written");
    }

    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it still runs");
    }

    /// Closes its input and waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Done {
        drop(self.child.stdin.take());
        let ended = wait_for(LONG, || self.child.try_wait().expect("waited for"));
        if ended.is_none() {
            let _ = self.child.kill();
        }
        let status = ended.unwrap_or_else(|| panic!("{} did not end", self.what));
        let bytes = |handle: Option<JoinHandle<Vec<u8>>>| {
            handle.map(|h| h.join().expect("read")).unwrap_or_default()
        };
        Output {
            status,
            stdout: bytes(self.out.take()),
            stderr: bytes(self.err.take()),
        }
        .into()
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Tells whether a process has gone; one that waits to be reaped has.
pub(crate) fn is_gone(pid: Pid) -> bool {
    if test_kill_process(pid).is_err() {
        return true;
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
    stat.is_ok_and(|s| s.rsplit_once(") ").is_some_and(|(_, s)| s.starts_with('Z')))
}

/// Waits until a process has gone.
#[track_caller]
pub(crate) fn wait_gone(pid: Pid) {
    let gone = wait_until(LONG, || is_gone(pid));
    assert!(gone, "process {} still runs", pid.as_raw_pid());
}

/// Lists the control groups of jobs, in every hierarchy.
pub(crate) fn cgroups(jobs: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            let name = name.to_str().and_then(|n| n.strip_prefix("hyperion-"));
            if name.is_some_and(|id| jobs.iter().any(|j| j == id)) {
                found.push(entry.path());
            }
            folders.push(entry.path());
        }
    }
    found
}

/// Lists what is mounted below a folder.
pub(crate) fn mounts_below(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let folder = folder.to_str().expect("a path of text");
    text.lines()
        .filter(|l| l.contains(folder))
        .map(str::to_owned)
        .collect()
}

/// Lists the files below a folder, relative to it.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            files.push(path.strip_prefix(folder).expect("below").to_owned());
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(path);
            }
        }
    }
    files.sort();
    files
}
