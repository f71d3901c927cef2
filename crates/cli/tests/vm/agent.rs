//! Into guests by their agent. QEMU's own agent answers, in the place of the
//! channel that leads to a guest; without it, one that is made up here.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use hyperion_testkit::{Done, requires, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::machines::{folder, vm};
use crate::site::{LONG, Site};

/// A machine that runs, whose channel is free to be answered by others.
pub(crate) fn machine(site: &Site, name: &str) -> std::path::PathBuf {
    vm(
        site,
        &["create", name, "--memory", "16MiB", "--disk", "64MiB"],
    )
    .ok();
    vm(site, &["start", name]).ok();
    channel(site, name)
}

/// Takes the channel of a machine that runs from QEMU.
pub(crate) fn channel(site: &Site, name: &str) -> std::path::PathBuf {
    let channel = folder(site, name).join("run/agent");
    fs::remove_file(&channel).expect("a socket of QEMU's");
    channel
}

fn with_input(site: &Site, words: &[&str], input: &[u8]) -> Done {
    let file = site.path().join("input");
    fs::write(&file, input).expect("a file");
    let mut command = site.command(&[&["vm"], words].concat());
    command.stdin(fs::File::open(&file).expect("there"));
    crate::site::finish(command)
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn programs_run_and_files_go_both_ways_by_qemus_own_agent() {
    requires!("command:qemu-ga", "command:qemu-system-x86_64");
    let site = Site::new();
    let channel = machine(&site, "agent-own");
    let state = site.path().join("state");
    fs::create_dir(&state).expect("a folder");
    let agent = Command::new("qemu-ga")
        .args(["-m", "unix-listen", "-p"])
        .arg(&channel)
        .arg("-t")
        .arg(&state)
        .arg("-f")
        .arg(state.join("pid"))
        .stderr(Stdio::null())
        .spawn();
    let _agent = Ended(agent.expect("it starts"));
    assert!(wait_until(LONG, || UnixStream::connect(&channel).is_ok()));

    let exec = |words: &[&str]| vm(&site, &[&["exec", "agent-own", "--"], words].concat());
    assert_eq!(exec(&["echo", "a b"]).ok(), "a b");
    let both = exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]).expect_code(7);
    assert_eq!((both.out.as_str(), both.err.as_str()), ("out\n", "err\n"));
    exec(&["sh", "-c", "kill -TERM $$"]).expect_code(128 + 15);
    let none = exec(&["no-such-program"]).expect_code(127);
    assert!(none.err.contains("no-such-program"), "{none:?}");
    assert_eq!(
        exec(&["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"])
            .out
            .len(),
        3_000_000
    );
    let words = [
        "exec",
        "-i",
        "-e",
        "A=b",
        "agent-own",
        "/bin/sh",
        "-c",
        "/bin/cat; echo $A",
    ];
    assert_eq!(with_input(&site, &words, b"typed ").ok(), "typed b");

    // What it says comes at once, and others are let to the agent meanwhile.
    let script = "trap 'echo got INT; exit 9' INT; echo first; while :; do sleep 0.05; done";
    let mut command = site.command(&["vm", "exec", "agent-own", "sh", "-c", script]);
    let mut talks = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(talks.stdout.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("read");
    assert_eq!(line, "first\n");
    assert_eq!(exec(&["echo", "beside"]).ok(), "beside");
    // Ctrl-C is for the program inside.
    let talker = Pid::from_child(&talks);
    kill_process(talker, Signal::INT).expect("it runs");
    line.clear();
    said.read_line(&mut line).expect("read");
    assert_eq!(line, "got INT\n");
    assert_eq!(talks.wait().expect("ended").code(), Some(9));
    // A reader that has had enough ends it, too.
    let yes = site.path().join("yes").display().to_string();
    let script = format!("echo $$ > {yes}; exec yes");
    let mut command = site.command(&["vm", "exec", "agent-own", "sh", "-c", &script]);
    let mut talks = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = talks.stdout.take().expect("a pipe");
    said.read_exact(&mut [0; 10]).expect("it talks");
    drop(said);
    talks.wait().expect("ended");
    let inside = fs::read_to_string(&yes).expect("its number");
    let inside = inside.trim().parse().ok().and_then(Pid::from_raw);
    crate::site::wait_gone(inside.expect("a number"));

    let (here, there) = (site.path().join("here"), site.path().join("there"));
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7) as u8).collect();
    fs::write(&here, &content).expect("a file");
    let text = |path: &std::path::Path| path.display().to_string();
    let guest = format!("agent-own:{}", text(&there));
    assert_eq!(vm(&site, &["cp", &text(&here), &guest]).ok(), guest);
    assert!(fs::read(&there).expect("written") == content);
    let back = site.path().join("back");
    fs::create_dir(&back).expect("a folder");
    vm(&site, &["cp", &guest, &text(&back)]).ok();
    assert!(fs::read(back.join("there")).expect("written") == content);
    vm(&site, &["cp", "agent-own:/no/such/file", &text(&back)])
        .refused("refuses guest-file-open", "check the path");
    vm(&site, &["cp", &text(&here), "agent-own:/no/such/folder/"]).refused("refuses", "check");
    vm(&site, &["cp", &text(&back), &guest]).refused("is a folder", "tar -c");
    assert_eq!(fs::read_dir(&back).expect("a folder").count(), 1);
    vm(&site, &["delete", "--force", "agent-own"]).ok();
}

/// Answers every client by what `answer` makes of each command.
pub(crate) fn answering(
    channel: &std::path::Path,
    answer: impl Fn(&str, &Value) -> String + Send + 'static,
) {
    let listener = UnixListener::bind(channel).expect("a socket");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut write = client.try_clone().expect("cloned");
            for line in BufReader::new(client).split(b'\n').map_while(Result::ok) {
                let line = line.strip_prefix(b"\xff").unwrap_or(&line);
                let command: Value = serde_json::from_slice(line).expect("JSON");
                let name = command["execute"].as_str().expect("a name");
                let arguments = &command["arguments"];
                let told = match name {
                    "guest-sync-delimited" => {
                        let answer = json!({"return": arguments["id"]});
                        [
                            &b"{\"return\": 1}\n\xff"[..],
                            answer.to_string().as_bytes(),
                            b"\n",
                        ]
                        .concat()
                    }
                    _ => (answer(name, arguments) + "\n").into_bytes(),
                };
                if write.write_all(&told).is_err() {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_guest_without_an_agent_or_with_a_hostile_one_is_told() {
    requires!("command:qemu-system-x86_64");
    let site = Site::new();
    vm(&site, &["create", "agent-none", "--memory", "16MiB"]).ok();
    vm(&site, &["exec", "agent-none", "true"]).refused("is not running", "hyperion vm start");
    vm(&site, &["start", "agent-none"]).ok();
    let words = ["exec", "--wait", "300ms", "agent-none", "true"];
    vm(&site, &words).refused(
        "no agent answers in the guest",
        "apt install qemu-guest-agent",
    );
    vm(&site, &["cp", "a", "b"]).refused("neither of them", "MACHINE:FILE");
    vm(&site, &["cp", "a:b", "c:d"]).refused("both of them", "first");
    vm(&site, &["delete", "--force", "agent-none"]).ok();

    let channel = machine(&site, "agent-fake");
    answering(&channel, |name, arguments| {
        match name {
            // It has no shell, so what is said comes at the end.
            "guest-exec" if arguments["path"] == "/bin/sh" => json!({"error": {"class": "GenericError", "desc": "no such file"}}),
            "guest-exec" => json!({"return": {"pid": arguments["arg"][0].as_str().map_or(0, str::len)}}),
            // As long as the argument was.
            "guest-exec-status" => match arguments["pid"].as_i64() {
                Some(1) => json!({"return": {"exited": true, "exitcode": 0, "out-data": "not base 64"}}),
                Some(2) => json!({"return": {"exited": true, "exitcode": 5, "out-data": "G1szMW0="}}),
                _ => json!({"error": {"class": "GenericError", "desc": "Command guest-exec has been disabled"}}),
            },
            "guest-file-open" => json!({"return": 1000}),
            "guest-file-read" => json!({"return": {"count": 9, "buf-b64": "aGk=", "eof": false}}),
            _ => json!([]),
        }
        .to_string()
    });
    vm(&site, &["exec", "agent-fake", "x", "1"]).refused("nonsense", "not to be trusted");
    // A program's output is its own affair, as everywhere.
    let told = vm(&site, &["exec", "agent-fake", "x", "22"]).expect_code(5);
    assert_eq!(told.out, "\u{1b}[31m");
    vm(&site, &["exec", "agent-fake", "x", "333"]).refused("has been disabled", "qemu-ga.conf");
    let to = site.path().display().to_string();
    vm(&site, &["cp", "agent-fake:/etc/x", &to]).refused("nonsense", "not to be trusted");
    let left = fs::read_dir(site.path()).expect("a folder").flatten();
    let left = left.filter(|e| e.file_name().to_string_lossy().contains(".x."));
    assert_eq!(left.count(), 0, "nothing is left of half a file");
    vm(&site, &["delete", "--force", "agent-fake"]).ok();
}
