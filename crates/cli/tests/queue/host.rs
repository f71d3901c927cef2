//! The queue of a host: root's server, the jobs of several users.
//!
//! The users are made up: the server sees a /etc/passwd and a /etc/group of its own, in a
//! mount namespace of its own. Each test has others, so that none meets another's.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use hyperion_testkit::{Done, TestDir, hyperion_binary, requires, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::site::{LONG, finish, is_gone, wait_gone};

/// A user, and the groups beside the own one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    name: &'static str,
    pub(crate) uid: u32,
}

/// A server of root for all users, and the homes of some.
pub(crate) struct Host {
    home: TestDir,
    pub(crate) ada: User,
    pub(crate) bob: User,
    server: Child,
}

/// Numbers that no other test has: from the process, for each test is one.
fn numbers() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    200_000 + (std::process::id() % 4_000_000) * 16 + next * 4
}

impl Host {
    /// Starts a server whose site says this.
    pub(crate) fn new(site: &str) -> Self {
        Self::started(site, SERVE)
    }

    /// As [`Host::new`], by these words of a shell.
    pub(crate) fn started(site: &str, how: &str) -> Self {
        let first = numbers();
        let home = TestDir::shared();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let user = |name, uid| User { name, uid };
        let (ada, bob) = (user("ada", first), user("bob", first + 1));
        let program = home.join("hyperion-for-all");
        fs::copy(hyperion_binary(), &program).expect("a copy that everybody may run");
        fs::create_dir_all(home.join("root/queue")).expect("a folder");
        fs::write(home.join("root/queue/site.toml"), site).expect("the rules");
        let mut passwd = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
        for User { name, uid } in [ada, bob] {
            let folder = home.join(name);
            fs::create_dir(&folder).expect("a home");
            chown(&folder, Some(uid), Some(uid)).expect("root may");
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("ours");
            passwd += &format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", folder.display());
        }
        fs::write(home.join("passwd"), passwd).expect("users");
        let lab = first + 2;
        let group = format!(
            "root:x:0:\nlab:x:{lab}:bob,ada\nwheel:x:{}:root\n",
            first + 3
        );
        fs::write(home.join("group"), group).expect("groups");
        let server = start_server(home.path(), how);
        let host = Self {
            home,
            ada,
            bob,
            server,
        };
        host.wait_until_heard();
        host
    }

    fn wait_until_heard(&self) {
        let heard = wait_until(LONG, || UnixStream::connect(self.socket()).is_ok());
        assert!(heard, "nobody listens");
    }

    fn socket(&self) -> PathBuf {
        self.home.join("run/socket")
    }

    pub(crate) fn home(&self, user: User) -> PathBuf {
        self.home.join(user.name)
    }

    /// A command of a user, not started.
    fn command(&self, user: User, words: &[&str]) -> Command {
        let home = self.home(user);
        let mut command = Command::new(self.home.join("hyperion-for-all"));
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &home)
            .env("USER", user.name)
            .env("TZ", "UTC")
            .env("HYPERION_SERVER", self.socket())
            .stdin(Stdio::null())
            .current_dir(&home)
            .uid(user.uid)
            .gid(user.uid);
        command
    }

    #[track_caller]
    fn run(&self, user: User, words: &[&str]) -> Done {
        finish(self.command(user, words))
    }

    /// A command of root.
    pub(crate) fn root(&self, words: &[&str]) -> Command {
        let mut command = Command::new(hyperion_binary());
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("HYPERION_ROOT", self.home.join("root"))
            .stdin(Stdio::null())
            .current_dir(self.home.path());
        command
    }

    #[track_caller]
    pub(crate) fn wrap(&self, user: User, flags: &[&str], line: &str) -> String {
        let line = format!("--wrap={line}");
        let words = [&["submit", "--no-autostart"][..], flags, &[line.as_str()]].concat();
        self.run(user, &words).ok()
    }

    #[track_caller]
    fn list(&self, user: User, words: &[&str]) -> Vec<Value> {
        let words = [&["--output", "json"][..], words].concat();
        serde_json::from_str(&self.run(user, &words).ok()).expect("a list")
    }

    #[track_caller]
    pub(crate) fn wait_for_state(&self, user: User, job: &str, state: &str) {
        let now = || self.list(user, &["queue", "--all", job])[0]["state"].clone();
        let came = wait_until(LONG, || now() == state);
        assert!(came, "{:?}", self.list(user, &["queue", "--all", job]));
    }

    /// What a file in a home holds, once it holds a line.
    #[track_caller]
    pub(crate) fn line(&self, user: User, name: &str) -> String {
        let path = self.home(user).join(name);
        let line = wait_for(LONG, || {
            let text = fs::read_to_string(&path).ok()?;
            text.ends_with('\n').then_some(text)
        });
        line.unwrap_or_else(|| panic!("{} holds no line", path.display()))
    }

    /// The agents of a user, by what `/proc` says of them.
    fn agents(&self, user: User) -> Vec<Pid> {
        processes_of(user.uid, |words| words.ends_with("\0agent\0"))
    }
}

/// How a server is started by hand.
const SERVE: &str = r#"exec "$PROGRAM" serve --host"#;

/// Starts a server that sees the users of a test.
fn start_server(home: &Path, how: &str) -> Child {
    let users = "mount --bind passwd /etc/passwd; mount --bind group /etc/group";
    Command::new("unshare")
        .args(["-m", "sh", "-ec", &format!("{users}; {how}")])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", home)
        .env("HYPERION_ROOT", home.join("root"))
        .env("HYPERION_SERVER", home.join("run/socket"))
        .env("PROGRAM", home.join("hyperion-for-all"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(home.join("said")).expect("a file"))
        .current_dir(home)
        .spawn()
        .expect("unshare starts")
}

/// The processes of a user that are no copies under another name.
fn processes_of(uid: u32, fits: impl Fn(&str) -> bool) -> Vec<Pid> {
    let all = fs::read_dir("/proc").expect("processes").flatten();
    let of_user = all.filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == uid));
    let found = of_user.filter_map(|entry| {
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        let name = fs::read(entry.path().join("comm")).ok()?;
        let fits = fits(&String::from_utf8_lossy(&words)) && name != b"hyperion-sup\n";
        let pid = entry.file_name().to_str()?.parse().ok();
        pid.filter(|_| fits).and_then(Pid::from_raw)
    });
    found.collect()
}

/// The control groups that root made for a user, and those below, each before those in it.
pub(crate) fn groups_of(user: User) -> Vec<PathBuf> {
    let name = format!("hyperion-user-{}", user.uid);
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
        if folder.iter().any(|part| part == name.as_str()) {
            found.push(folder);
        }
    }
    found
}

impl Drop for Host {
    fn drop(&mut self) {
        let jobs: Vec<String> = (1..9).map(|job| job.to_string()).collect();
        let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
        let _ = self.root(&[&["cancel"][..], &jobs].concat()).output();
        let stopped = self.root(&["serve", "--stop"]).output();
        if !stopped.is_ok_and(|done| done.status.success()) {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
        for user in [self.ada, self.bob] {
            for pid in processes_of(user.uid, |_| true) {
                let _ = kill_process(pid, Signal::KILL);
            }
            let gone = wait_until(LONG, || {
                let mut left = processes_of(user.uid, |_| true).into_iter();
                left.all(is_gone)
            });
            if !std::thread::panicking() {
                assert!(gone, "processes of {} are left", user.name);
            }
        }
        for user in [self.ada, self.bob] {
            for group in groups_of(user).into_iter().rev() {
                let _ = fs::remove_dir(group);
            }
        }
        if std::thread::panicking() {
            let said = fs::read_to_string(self.home.join("said"));
            eprintln!("the server said: {}", said.unwrap_or_default());
        }
    }
}

#[track_caller]
fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("it runs");
    wait_gone(pid);
}

#[test]
fn a_job_runs_as_its_user_with_its_groups_and_nothing_of_root() {
    requires!("root", "command:unshare", "command:mount");
    let host = Host::new("");
    let line = "grep -E '^(Uid|Gid|Groups|Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):' /proc/self/status; \
                echo $HOME $USER $PWD; env | grep -c -E 'LISTEN_|NOTIFY_|LD_' ; ls -l /proc/self/fd";
    let hostile = ["--export=ALL,LD_PRELOAD=/no/such.so,SLURM_JOB_UID=0"];
    let job = host.wrap(host.ada, &["-o./own"], line);
    host.wait_for_state(host.ada, &job, "completed");
    let said = host.line(host.ada, "own");
    let (uid, lab) = (host.ada.uid, host.ada.uid + 2);
    let ids = format!("{uid}\t{uid}\t{uid}\t{uid}");
    for wanted in [
        format!("Uid:\t{ids}\n"),
        format!("Gid:\t{ids}\n"),
        format!("Groups:\t{uid} {lab} \n"),
        "CapEff:\t0000000000000000\n".into(),
        "CapPrm:\t0000000000000000\n".into(),
        "CapInh:\t0000000000000000\n".into(),
        "CapAmb:\t0000000000000000\n".into(),
        "NoNewPrivs:\t0\n".into(),
        format!("{home} ada {home}\n", home = host.home(host.ada).display()),
    ] {
        assert!(said.contains(&wanted), "{wanted:?} is not in\n{said}");
    }
    let meta = fs::metadata(host.home(host.ada).join("own")).expect("its output");
    assert_eq!((meta.uid(), meta.gid()), (uid, uid));
    // What a user puts into the job's variables is the job's alone.
    let job = host.wrap(
        host.ada,
        &[&hostile[..], &["-o./two"]].concat(),
        "echo $SLURM_JOB_UID",
    );
    host.wait_for_state(host.ada, &job, "completed");
    // The commands of a batch system find the same queue from inside of a job.
    let inner = "sbatch -o inner --wrap 'id -u; echo $SLURM_JOB_ID'";
    let job = host.wrap(host.ada, &["-o/dev/null"], inner);
    host.wait_for_state(host.ada, &job, "completed");
    let next: u64 = job.parse().expect("a number");
    host.wait_for_state(host.ada, &(next + 1).to_string(), "completed");
    assert_eq!(
        host.line(host.ada, "inner"),
        format!("{uid}\n{}\n", next + 1)
    );
    assert!(!host.agents(host.ada).is_empty());
    for pid in host.agents(host.ada) {
        let environ = fs::read(format!("/proc/{}/environ", pid.as_raw_pid()));
        let environ = String::from_utf8_lossy(&environ.expect("it runs")).into_owned();
        assert!(!environ.contains("LD_PRELOAD"), "{environ}");
    }
    let server = fs::read(format!("/proc/{}/maps", host.server.id())).expect("it runs");
    assert!(!String::from_utf8_lossy(&server).contains("such.so"));
}

#[test]
fn users_see_all_jobs_and_touch_their_own_and_operators_touch_all() {
    requires!("root", "command:unshare", "command:mount");
    let host = Host::new("[each_user]\nsubmitted = 2\n");
    let (ada, bob) = (host.ada, host.bob);
    let job = host.wrap(ada, &["--hold", "--comment=secret", "-J", "mine"], "true");
    let seen = host.list(bob, &["queue"]);
    assert_eq!(
        (&seen[0]["name"], &seen[0]["user"]),
        (&"mine".into(), &"ada".into())
    );
    assert_eq!(seen[0]["uid"], ada.uid);
    assert_eq!(
        (&seen[0]["comment"], &seen[0]["folder"]),
        (&Value::Null, &"".into())
    );
    assert_eq!(host.list(ada, &["queue"])[0]["comment"], "secret");
    for verb in ["cancel", "hold", "release", "explain"] {
        host.run(bob, &[verb, &job])
            .refused("belongs to another user", "operator");
    }
    for words in [
        &["drain", "x", "--reason", "no"][..],
        &["reserve", "x", "--for", "1h", "--in", "1h"],
        &["serve", "--stop"],
    ] {
        host.run(bob, words).refused("only", "ask");
    }
    // The limit is that of who asks, whoever it says that it is.
    let mut lies = host.command(ada, &["submit", "--hold", "--wrap=true"]);
    lies.env("USER", "bob").env("LOGNAME", "root");
    finish(lies).ok();
    host.run(ada, &["submit", "--wrap=true"])
        .refused("may have 2 tasks", "rules of the site");
    assert_eq!(host.list(ada, &["queue"])[1]["user"], "ada");
    host.wrap(bob, &["--hold"], "true");
    finish(host.root(&["release", &job])).ok();
    host.wait_for_state(ada, &job, "completed");
    finish(host.root(&["serve", "--stop"])).ok();
    host.run(ada, &["queue"])
        .refused("no server answers at", "serve --host");
}

#[test]
fn where_the_site_is_private_users_see_their_own_and_its_operators_see_all() {
    requires!("root", "command:unshare", "command:mount");
    let host = Host::new("private = true\noperators = [\"bob\"]\n");
    let (ada, bob) = (host.ada, host.bob);
    let hers = host.wrap(ada, &["--hold"], "true");
    let his = host.wrap(bob, &["--hold"], "true");
    let jobs = |user| -> Vec<String> {
        let all = host.list(user, &["queue"]);
        all.iter().map(|view| view["job"].to_string()).collect()
    };
    assert_eq!(jobs(ada), [&*hers]);
    assert_eq!(jobs(bob), [&*hers, &*his]);
    host.run(ada, &["explain", &his])
        .refused("there is no job", "");
    host.run(bob, &["cancel", &hers]).ok();
    host.wait_for_state(ada, &hers, "cancelled");
    // Only these put jobs before others; whose priority does not count is told so.
    for (user, told) in [(ada, true), (bob, false)] {
        let words = ["submit", "--hold", "--priority=9", "--wrap=true"];
        let done = host.run(user, &words);
        assert_eq!(done.err.contains("only operators"), told, "{}", done.err);
        let job = done.ok();
        host.run(user, &["cancel", job.trim()]).ok();
    }
    // For whom nodes are kept they and the operators hear.
    for (name, user) in [("hers", ada.uid), ("his", bob.uid)] {
        let user = user.to_string();
        let words = [
            "reserve", name, "--in", "1d", "--for", "1h", "--user", &user,
        ];
        host.run(bob, &words).ok();
    }
    let kept = |user| -> Vec<String> {
        let all = host.list(user, &["reservations"]);
        all.iter().map(|its| its["users"].to_string()).collect()
    };
    assert_eq!(kept(ada), ["[\"ada\"]", "[\"(others)\"]"]);
    assert_eq!(kept(bob), ["[\"ada\"]", "[\"bob\"]"]);
    for name in ["hers", "his"] {
        host.run(bob, &["unreserve", name]).ok();
    }
    let stranger = User {
        name: "ada",
        uid: ada.uid + 3,
    };
    let mut unknown = host.command(stranger, &["submit", "--wrap=true"]);
    unknown.current_dir("/").env("HOME", "/");
    finish(unknown).refused("is neither in /etc/passwd nor known to getent", "");
    // Who is not there any more when the job starts is told so, too.
    let late = host.wrap(ada, &["--hold"], "true");
    let passwd = fs::read_to_string(host.home.join("passwd")).expect("ours");
    let left: Vec<&str> = passwd
        .lines()
        .filter(|line| !line.starts_with("ada:"))
        .collect();
    fs::write(host.home.join("passwd"), left.join("\n")).expect("ours");
    host.run(ada, &["release", &late]).ok();
    host.wait_for_state(ada, &late, "failed");
    let why = host.list(ada, &["history", &late])[0]["why"].to_string();
    assert!(
        why.contains("is neither in /etc/passwd nor known to getent"),
        "{why}"
    );
}

#[test]
fn files_are_written_with_the_rights_of_the_jobs_user() {
    requires!("root", "command:unshare", "command:mount");
    let host = Host::new("");
    let (ada, bob) = (host.ada, host.bob);
    let secret = host.home.join("secret");
    fs::write(&secret, "root's\n").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("ours");
    std::os::unix::fs::symlink(&secret, host.home(ada).join("out")).expect("a link");
    fs::write(host.home(bob).join("his"), "bob's\n").expect("written");
    let his = host.home(bob).join("his");
    let his = his.to_str().expect("text");
    for flags in [
        ["-o./out"],
        [&format!("-o{his}")],
        [&format!("--chdir={}", host.home(bob).display())],
        [&format!("--input={}", secret.display())],
    ] {
        let job = host.wrap(ada, &flags, "echo overwritten; cat");
        host.wait_for_state(ada, &job, "failed");
        let why = host.list(ada, &["history", &job])[0]["why"].to_string();
        assert!(
            why.contains("cannot open") || why.contains("could not be entered"),
            "{why}"
        );
    }
    assert_eq!(fs::read_to_string(&secret).expect("there"), "root's\n");
    assert_eq!(fs::read_to_string(his).expect("there"), "bob's\n");
    // A home that is a way to root's files leads nowhere, too.
    let data = host.home(ada).join(".local");
    fs::remove_dir_all(&data).expect("what the agent made");
    std::os::unix::fs::symlink(host.home.join("root"), &data).expect("a link");
    for pid in host.agents(ada) {
        kill(pid);
    }
    let job = host.wrap(ada, &[], "true");
    host.wait_for_state(ada, &job, "failed");
    let why = host.list(ada, &["history", &job])[0]["why"].to_string();
    assert!(why.contains("nothing can be started for its user"), "{why}");
    // Others are not held up by that.
    let job = host.wrap(bob, &["-o./fine"], "echo fine");
    host.wait_for_state(bob, &job, "completed");
    assert_eq!(host.line(bob, "fine"), "fine\n");
}

#[test]
fn jobs_of_all_users_go_on_when_the_server_and_their_agents_are_killed() {
    requires!("root", "command:unshare", "command:mount", "command:mkfifo");
    let mut host = Host::new("");
    let users = [host.ada, host.bob];
    let mut jobs = Vec::new();
    for user in users {
        let made = Command::new("mkfifo")
            .arg(host.home(user).join("gate"))
            .status();
        assert!(made.expect("mkfifo starts").success());
        let gate = host.home(user).join("gate");
        fs::set_permissions(gate, fs::Permissions::from_mode(0o666)).expect("ours");
        let line = "echo $$ > begun; cat gate; exit 7";
        jobs.push(host.wrap(user, &["--no-requeue", "-o./out"], line));
        host.line(user, "begun");
    }
    let agents: Vec<Pid> = users.iter().flat_map(|user| host.agents(*user)).collect();
    assert_eq!(agents.len(), 2);
    host.server.kill().expect("it runs");
    host.server.wait().expect("it ends");
    agents.into_iter().for_each(wait_gone);
    // Its socket lies there still; nobody starts an own server instead.
    host.run(host.ada, &["queue"])
        .refused("no server answers at", "serve --host");
    host.server = start_server(host.home.path(), SERVE);
    host.wait_until_heard();
    for (user, job) in users.into_iter().zip(&jobs) {
        host.wait_for_state(user, job, "running");
        let agent = wait_for(LONG, || host.agents(user).first().copied());
        kill(agent.expect("one that the new server has started"));
    }
    for (user, job) in users.into_iter().zip(&jobs) {
        fs::write(host.home(user).join("gate"), "open\n").expect("somebody reads");
        host.wait_for_state(user, job, "failed");
        let ended = &host.list(user, &["history", job])[0];
        assert_eq!(ended["end"]["exit"]["code"], 7);
        assert_eq!(ended["starts"], 1);
        assert_eq!(host.line(user, "out"), "open\n");
    }
}

#[test]
fn a_user_who_stops_the_own_agent_or_floods_the_server_holds_nobody_up() {
    requires!("root", "command:unshare", "command:mount");
    let host = Host::new("");
    let (ada, bob) = (host.ada, host.bob);
    let job = host.wrap(ada, &["-o./own"], "echo own");
    host.wait_for_state(ada, &job, "completed");
    let agent = host.agents(ada).first().copied().expect("her agent");
    kill_process(agent, Signal::STOP).expect("it runs");
    host.wrap(ada, &["-o./never"], "echo never");
    // More connections than a user may have, each with half a question.
    let flood = r#"
import socket, sys, time
all = []
for _ in range(150):
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'{"jobs":' + b'[' * 10000)
    all.append(s)
print('flooded', flush=True)
time.sleep(600)
"#;
    let mut command = Command::new("python3");
    command.args(["-c", flood]).arg(host.socket());
    let mut flood = command
        .uid(ada.uid)
        .gid(ada.uid)
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut said = [0; 7];
    let out = flood.stdout.as_mut().expect("its output");
    std::io::Read::read_exact(out, &mut said).expect("it connects");
    host.run(ada, &["queue"])
        .refused("asks too often at once", "");
    let job = host.wrap(bob, &["-o./fine"], "echo fine");
    host.wait_for_state(bob, &job, "completed");
    assert_eq!(host.line(bob, "fine"), "fine\n");
    flood.kill().expect("it runs");
    flood.wait().expect("it ends");
    kill_process(agent, Signal::CONT).expect("it stands");
    assert_eq!(host.line(ada, "never"), "never\n");
}

#[test]
fn systemd_hands_its_socket_over_and_is_told_when_the_server_is_ready() {
    requires!(
        "root",
        "command:unshare",
        "command:mount",
        "command:systemd-socket-activate"
    );
    let told = TestDir::new();
    let place = told.join("notify");
    let notify = std::os::unix::net::UnixDatagram::bind(&place).expect("a socket");
    notify.set_read_timeout(Some(LONG)).expect("a limit");
    // It is started when somebody asks.
    let how = format!(
        "mkdir run; exec systemd-socket-activate -E NOTIFY_SOCKET={} -E HYPERION_ROOT \
         -E HYPERION_SERVER -E HOME -l $PWD/run/socket \"$PROGRAM\" serve --host",
        place.display()
    );
    let host = Host::started("", &how);
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(host.socket(), open).expect("its socket");
    let line = "env | grep -E '^(LISTEN|NOTIFY)'; echo none";
    let job = host.wrap(host.ada, &["-o./out"], line);
    let mut said = [0; 64];
    let size = notify.recv(&mut said).expect("it tells");
    assert_eq!(&said[..size], b"READY=1");
    host.wait_for_state(host.ada, &job, "completed");
    assert_eq!(host.line(host.ada, "out"), "none\n");
    // Root's own jobs are root's, by the same server.
    let mut own = host.root(&["submit", "--wait", "-o./own", "--wrap=id -u; env"]);
    own.env("HYPERION_SERVER", host.socket());
    finish(own).ok();
    let own = fs::read_to_string(host.home.join("own")).expect("its output");
    assert!(own.starts_with("0\n"), "{own}");
    assert!(
        !own.contains("LISTEN_") && !own.contains("NOTIFY_"),
        "{own}"
    );
}

#[test]
fn the_units_that_ship_are_as_systemd_wants_them() {
    requires!("command:systemd-analyze");
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let dir = TestDir::new();
    let program = hyperion_binary();
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").stdin(Stdio::null());
    for name in ["hyperion.socket", "hyperion.service"] {
        let text = fs::read_to_string(units.join(name)).expect("a unit");
        let text = text.replace("/usr/bin/hyperion", program.to_str().expect("text"));
        fs::write(dir.join(name), text).expect("a copy");
        verify.arg(dir.join(name));
    }
    let done = finish(verify).expect_code(0);
    let ours = done.err.lines().filter(|line| line.contains("/hyperion."));
    assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
}

/// Speaks in the place of an agent: its user may take what it has open.
const VOICE: &str = r#"
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = libc.syscall(434, int(sys.argv[1]), 0)
fd = libc.syscall(438, pid, 0, 0)
if fd < 0: sys.exit('skip: ' + os.strerror(ctypes.get_errno()))
voice = socket.socket(fileno=fd)
for line in sys.argv[2:]: voice.sendall(line.encode() + b'\n')
"#;

#[test]
fn an_agent_is_heard_of_its_own_users_jobs_only() {
    requires!(
        "root",
        "command:unshare",
        "command:mount",
        "command:python3",
        "kernel:5.6"
    );
    let host = Host::new("");
    let (ada, bob) = (host.ada, host.bob);
    let line = "until [ -e go ]; do sleep 0.05; done";
    let hers = host.wrap(ada, &["-o/dev/null"], line);
    // No task of a lane: the id of its record is that of its start.
    let flags = ["--run-flag=--env=A=b", "-o/dev/null"];
    let his = host.wrap(bob, &flags, line);
    for (user, job) in [(ada, &hers), (bob, &his)] {
        host.wait_for_state(user, job, "running");
    }
    let id = host.list(bob, &["queue", &his])[0]["id"].take();
    let id = id.as_str().expect("its record");
    let over = format!(r#"{{"over":["{id}",{{"end":{{"exit":{{"code":0}}}}}}]}}"#);
    let agent = host.agents(ada).first().copied().expect("her agent");
    let mut voice = Command::new("python3");
    voice.args(["-c", VOICE, &agent.as_raw_pid().to_string()]);
    voice
        .args([&over, "not a word of JSON"])
        .uid(ada.uid)
        .gid(ada.uid);
    let done = finish(voice);
    if done.err.contains("skip: ") {
        // Where processes of the same user are kept apart there is nothing to hear.
        return;
    }
    done.expect_code(0);
    // Who speaks nonsense is heard no more: another agent comes, and finds the job at work.
    wait_gone(agent);
    assert!(wait_until(LONG, || !host.agents(ada).is_empty()));
    for (user, job) in [(ada, &hers), (bob, &his)] {
        assert_eq!(host.list(user, &["queue", job])[0]["state"], "running");
        fs::write(host.home(user).join("go"), "").expect("written");
        host.wait_for_state(user, job, "completed");
    }
}
