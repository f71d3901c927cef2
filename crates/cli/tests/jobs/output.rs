//! What goes in and comes out: byte for byte, at any speed.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use hyperion_testkit::{wait_for, wait_until};
use rustix::process::Signal;

use crate::site::{LONG, Running, Site, finish};

/// 50 MB that no line discipline or buffer leaves alone by accident.
const BIG: &str = "head -c 50000000 /dev/zero | tr '\\0' '\\377'";

#[test]
fn input_from_a_pipe_reaches_the_command_and_ends() {
    let site = Site::new();
    let mut run = Running::start(
        &site,
        &["run", "-i", "--isolation", "process", "--rm", "cat"],
    );
    run.write("one\ntwo");
    assert_eq!(run.finish().expect_code(0).out, "one\ntwo");
    // Without -i there is none.
    let mut run = Running::start(&site, &["run", "--isolation", "process", "--rm", "cat"]);
    run.write("never read");
    assert_eq!(run.finish().expect_code(0).out, "");
}

#[test]
fn much_input_arrives_whole() {
    let site = Site::new();
    let mut command = site.command(&["run", "-i", "--isolation", "process", "--rm", "cksum"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = child.stdin.take().expect("piped");
    let chunk: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
    for _ in 0..160 {
        input.write_all(&chunk).expect("taken");
    }
    drop(input);
    let mut own = std::process::Command::new("cksum");
    let own = own.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut own = own.expect("started");
    let mut input = own.stdin.take().expect("piped");
    for _ in 0..160 {
        input.write_all(&chunk).expect("taken");
    }
    drop(input);
    let text = |child: std::process::Child| child.wait_with_output().expect("ended").stdout;
    assert_eq!(text(child), text(own));
}

#[test]
fn more_input_than_a_command_reads_does_not_keep_the_key_from_being_heard() {
    let site = Site::new();
    let script = "echo up; exec sleep 300";
    let words = ["run", "-i", "--isolation", "process", "sh", "-c", script];
    let mut command = site.command(&words);
    command.stdin(File::open("/dev/zero").expect("it never ends"));
    let running = Running::begin(command);
    let job = wait_for(LONG, || site.jobs().pop()).expect("it begins");
    site.wait_for_log(&job, "up");
    let (supervisor, _) = site.processes(&job);
    // It takes what has a bound, and then rests.
    let rests = || {
        let status = fs::read_to_string(format!("/proc/{}/stat", supervisor.as_raw_pid()));
        let status = status.expect("it runs");
        let (_, words) = status.rsplit_once(") ").expect("its name");
        let words: Vec<&str> = words.split(' ').collect();
        (words[0] == "S").then(|| (words[11].to_owned(), words[12].to_owned()))
    };
    let mut before = None;
    let at_rest = || {
        let now = rests();
        now.is_some() && std::mem::replace(&mut before, now.clone()) == now
    };
    assert!(wait_until(LONG, at_rest));
    running.signal(Signal::INT);
    let done = running.finish();
    assert_eq!(done.code, 130, "{done:?}");
}

#[test]
fn much_output_arrives_whole_and_is_logged_whole() {
    let site = Site::new();
    let mut command = site.command(&[
        "run",
        "--isolation",
        "process",
        "--name",
        "big",
        "sh",
        "-c",
        BIG,
    ]);
    let child = command.stdout(Stdio::piped()).spawn().expect("started");
    let out = child.wait_with_output().expect("ended");
    assert!(out.status.success());
    assert_eq!(out.stdout.len(), 50_000_000);
    assert!(out.stdout.iter().all(|&b| b == 0xff));
    let logged = site.command(&["logs", "big"]).output().expect("ended");
    assert_eq!(logged.stdout.len(), 50_000_000);
}

#[test]
fn a_slow_reader_holds_the_job_up_and_loses_nothing() {
    let site = Site::new();
    let marker = site.path().join("written");
    let script = format!("{BIG}; touch {}", marker.display());
    let words = [
        "run",
        "--isolation",
        "process",
        "--name",
        "slow",
        "sh",
        "-c",
        &script,
    ];
    let mut child = site
        .command(&words)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut out = child.stdout.take().expect("piped");
    let mut first = vec![0; 1000];
    out.read_exact(&mut first).expect("read");
    // Nobody reads: the log stops growing long before all is written.
    let size = || -> u64 {
        let logs = site.records().into_iter().filter(|f| f.ends_with("log"));
        logs.map(|log| site.length(&log)).sum()
    };
    let mut last = (0, 0);
    let stalled = wait_until(LONG, || {
        let now = size();
        last = if now == last.0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        last.1 > 40
    });
    assert!(
        stalled && last.0 < 40_000_000,
        "held up at {} bytes",
        last.0
    );
    assert!(!marker.exists());
    // Others are served meanwhile.
    assert_eq!(site.run(&["exec", "slow", "echo", "here"]).ok(), "here");
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).expect("read");
    assert_eq!(first.len() + rest.len(), 50_000_000);
    assert!(child.wait().expect("ended").success());
}

#[test]
fn a_reader_that_has_enough_ends_the_job_without_noise() {
    let site = Site::new();
    let script = "\"$0\" run --isolation process --name yes yes | head -n 1";
    let mut command = site.command(&[]);
    let program = command.get_program().to_owned();
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(script).arg(program).env_clear();
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    command.stdin(Stdio::null());
    let done = finish(shell);
    assert_eq!((&*done.out, &*done.err), ("y\n", ""));
    let ended = wait_until(LONG, || site.state("yes") == "ended");
    assert!(ended);
    // The same for what only prints.
    for words in ["logs yes", "ps -a", "inspect yes", "doctor", "help run"] {
        let mut shell = std::process::Command::new("sh");
        let script = format!("\"$0\" {words} | head -n 1 >/dev/null");
        shell
            .arg("-c")
            .arg(script)
            .arg(command.get_program())
            .env_clear();
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        assert_eq!(finish(shell).err, "", "{words}");
    }
}
