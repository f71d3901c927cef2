//! A person at a terminal: a real one, of which this test holds the other end.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use hyperion_testkit::{requires, wait_for, wait_until};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::site::{LONG, Site};

/// A terminal with a command on it.
struct Terminal {
    master: std::fs::File,
    slave: std::os::fd::OwnedFd,
    child: Child,
    /// Its modes before the command was started.
    before: Termios,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts a command in a session of its own, whose terminal this is.
    fn start(site: &Site, words: &[&str], rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        unlockpt(&master).expect("unlocked");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("its other end");
        resize(&master, rows, columns);
        let before = tcgetattr(&slave).expect("a terminal");
        let hyperion = site.command(words);
        let mut command = Command::new("setsid");
        // It becomes the command: it need not fork, for it leads no group.
        command.arg("--ctty");
        command
            .arg(hyperion.get_program())
            .args(hyperion.get_args());
        command.env_clear();
        for (name, value) in hyperion.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let end = || slave.try_clone().expect("copied");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let master = std::fs::File::from(master);
        let mut reader = master.try_clone().expect("copied");
        let into = seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                into.lock().expect("unpoisoned").extend(&buffer[..n]);
            }
        });
        Self {
            master,
            slave,
            child: child.expect("setsid starts"),
            before,
            seen,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("unpoisoned")).into_owned()
    }

    /// Waits until this is on the screen, and wipes it.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let shown = wait_until(LONG, || self.text().contains(text));
        assert!(shown, "no {text:?} on the screen: {:?}", self.text());
        self.seen.lock().expect("unpoisoned").clear();
    }

    fn keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("typed");
    }

    /// Gives the terminal a size, of which [`SHELL`] tells.
    ///
    /// It runs a trap after its `read` was interrupted, or after the next line, which may have
    /// come before the signal.
    #[track_caller]
    fn resize(&mut self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
        let told = format!("NOW {rows} {columns}");
        wait_until(LONG, || {
            self.keys(b":\r");
            self.text().contains(&told)
        });
        self.wait_for(&told);
    }

    #[track_caller]
    fn end(mut self) -> i32 {
        let status = wait_for(LONG, || self.child.try_wait().expect("waited for"));
        let Some(status) = status else {
            let _ = self.child.kill();
            panic!("it did not end: {:?}", self.text());
        };
        status.code().expect("an exit code")
    }
}

fn resize(terminal: impl AsFd, ws_row: u16, ws_col: u16) {
    let size = Winsize {
        ws_row,
        ws_col,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("resized");
}

/// A shell without a prompt or an echo, so that what is seen is what was written.
///
/// A signal ends its `read` early, which is no end of input.
const SHELL: [&str; 3] = [
    "sh",
    "-c",
    "stty -echo; trap 'echo GOT-INT' INT; trap 'echo NOW $(stty size)' WINCH; \
     echo READY; while :; do if read line; then eval \"$line\"; fi; done",
];

fn run_words<'a>(site: &Site, container: bool, root: &'a mut String) -> Vec<&'a str> {
    let mut words = vec!["run", "-it", "--name", "tty"];
    if container {
        *root = site.rootfs(&["sh", "stty", "cat", "tty"]);
        words.push(root);
    } else {
        words.extend(["--isolation", "process"]);
    }
    words.extend(SHELL);
    words
}

fn at_the_terminal(container: bool) {
    let site = Site::new();
    let mut root = String::new();
    let words = run_words(&site, container, &mut root);
    let mut terminal = Terminal::start(&site, &words, 33, 101);
    terminal.wait_for("READY");
    terminal.keys(b"stty size; tty\r");
    terminal.wait_for("33 101\r\n/dev/pts/");
    terminal.resize(44, 122);
    // What answers is the program: a copy of the shell that has yet to become it would keep a
    // signal for itself, and the shell would start it after its trap.
    terminal.keys(b"cat\rHERE\r");
    terminal.wait_for("HERE");
    // What ctrl-C interrupts is the program, not Hyperion.
    assert_eq!(site.run(&["ps", "-q"]).out.lines().count(), 1);
    terminal.keys(b"\x03");
    terminal.wait_for("GOT-INT");
    terminal.keys(b"echo on\r");
    terminal.wait_for("on\r\n");
    // Half of the detach keys is a key like any other.
    terminal.keys(b"read x; echo [$x] | od -c\r");
    terminal.keys(b"\x10\x11");
    assert_eq!(terminal_end_restored(terminal), 0);
    assert_eq!(site.state("tty"), "running");
    let mut terminal = Terminal::start(&site, &["attach", "tty"], 20, 60);
    terminal.keys(b"\rstty size\r");
    terminal.wait_for("20 60");
    terminal.keys(b"echo back; exit 9\r");
    terminal.wait_for("back");
    assert_eq!(terminal.end(), 9);
    assert_eq!(site.inspect("tty")["end"]["code"], 9);
}

fn terminal_end_restored(terminal: Terminal) -> i32 {
    let before = terminal.before.local_modes;
    let slave = terminal.slave.try_clone().expect("copied");
    let code = terminal.end();
    let after = tcgetattr(slave).expect("a terminal");
    assert_eq!(after.local_modes, before, "the terminal is as it was");
    code
}

#[test]
fn a_terminal_on_a_process_has_size_keys_and_detaches() {
    requires!("command:setsid", "command:stty");
    at_the_terminal(false);
}

#[test]
fn a_terminal_on_a_container_has_size_keys_and_detaches() {
    requires!("root", "command:setsid", "command:stty");
    at_the_terminal(true);
}

#[test]
fn a_command_beside_a_job_has_a_terminal_of_its_own() {
    requires!("command:setsid", "command:stty");
    let site = Site::new();
    let job = site.start("sleep 300");
    let mut words = vec!["exec", "-it", &job];
    words.extend(SHELL);
    let mut terminal = Terminal::start(&site, &words, 50, 90);
    terminal.wait_for("READY");
    terminal.keys(b"stty size\r");
    terminal.wait_for("50 90");
    terminal.resize(51, 91);
    terminal.keys(b"\x03");
    terminal.keys(b":\r");
    terminal.wait_for("GOT-INT");
    terminal.keys(b"exit 9\r");
    assert_eq!(terminal.end(), 9);
    let mut terminal = Terminal::start(&site, &words, 50, 90);
    terminal.wait_for("READY");
    terminal.keys(b"\x10\x11");
    terminal.wait_for("left the command running beside job");
    assert_eq!(terminal.end(), 0);
    assert_eq!(site.state(&job), "running");
}

#[test]
fn a_closed_terminal_leaves_the_job_running() {
    requires!("command:setsid", "command:stty");
    let site = Site::new();
    let mut root = String::new();
    let words = run_words(&site, false, &mut root);
    let terminal = Terminal::start(&site, &words, 24, 80);
    terminal.wait_for("READY");
    // The window is closed: the program on it is told by SIGHUP.
    let pid = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
    assert_eq!(terminal.end(), 0);
    // What it writes may be seen before it is recorded that it runs.
    assert!(wait_until(LONG, || site.state("tty") == "running"));
    let mut again = Terminal::start(&site, &["attach", "tty"], 24, 80);
    again.keys(b"echo still here\r");
    again.wait_for("still here");
    again.keys(b"exit 0\r");
    assert_eq!(again.end(), 0);
}
