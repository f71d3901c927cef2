//! The client beside peers that behave badly, and beside a real QEMU.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use hyperion_model::Bytes;
use hyperion_model::machine::{Bus, Disk, DiskFormat};
use hyperion_testkit::{TestDir, requires, wait_for};
use serde_json::json;

use super::*;
use crate::vm::machine;

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);
const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 7}, "package": ""}, "capabilities": []}}"#;
const AGREED: &str = r#"{"return": {}, "id": 1}"#;

/// Runs `play` as QEMU in a thread.
fn peer<T: Send + 'static>(
    play: impl FnOnce(UnixStream) -> T + Send + 'static,
) -> (UnixStream, JoinHandle<T>) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    (ours, thread::spawn(move || play(theirs)))
}

/// Where the peer waits for a command.
const HEAR: &str = "?";

/// Says these lines, and then listens until the client is gone; gives what it heard.
fn says(lines: &[&str]) -> (UnixStream, JoinHandle<String>) {
    let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
    peer(move |socket| {
        let (mut from, mut to) = (BufReader::new(&socket), &socket);
        let mut heard = String::new();
        for line in lines {
            if line == HEAR {
                from.read_line(&mut heard).expect("a command");
            } else if to.write_all(format!("{line}\n").as_bytes()).is_err() {
                break;
            }
        }
        let _ = from.read_to_string(&mut heard);
        heard
    })
}

/// Hears one command, byte by byte: what follows is for others.
fn hear(mut socket: &UnixStream) {
    let mut byte = [0];
    while byte != *b"\n" {
        socket.read_exact(&mut byte).expect("a command");
    }
}

/// Greets and agrees.
fn begin(socket: &UnixStream) {
    let say = |line: &str| (&*socket).write_all(format!("{line}\n").as_bytes());
    say(GREETING).expect("written");
    hear(socket);
    say(AGREED).expect("written");
}

fn event(name: &str, number: usize) -> String {
    json!({"event": name, "data": {"number": number}, "timestamp": {"seconds": 1, "microseconds": 2}})
        .to_string()
}

#[test]
fn commands_are_numbered_and_events_in_between_are_kept_in_order() {
    let (first, second) = (event("STOP", 1), event("RESUME", 2));
    let lines = [
        GREETING,
        HEAR,
        AGREED,
        HEAR,
        &first,
        r#"{"return": {"running": true, "status": "running"}, "id": 2}"#,
        &second,
    ];
    let (socket, peer) = says(&lines);
    let mut qmp = Qmp::connect(socket, LIMIT).expect("connected");
    assert_eq!(qmp.version().to_string(), "7.0.0");
    let status = qmp.status().expect("a status");
    assert_eq!((status.running, status.state), (true, RunState::Running));
    for name in ["STOP", "RESUME"] {
        let event = qmp.next_event(LIMIT).expect("no error").expect("an event");
        assert_eq!(event.name, name);
    }
    assert_eq!(qmp.next_event(Duration::ZERO).expect("no error"), None);
    drop(qmp);
    let heard = peer.join().expect("it played");
    assert_eq!(
        heard,
        "{\"execute\":\"qmp_capabilities\",\"id\":1}\n{\"execute\":\"query-status\",\"id\":2}\n"
    );
}

#[test]
fn a_late_answer_is_thrown_away_and_the_connection_goes_on() {
    let late = r#"{"return": "late", "id": 2}"#;
    let right = r#"{"return": "right", "id": 3}"#;
    let (socket, peer) = says(&[GREETING, HEAR, AGREED, HEAR, HEAR, late, right]);
    let mut qmp = Qmp::connect(socket, LIMIT).expect("connected");
    qmp.set_limit(SHORT);
    let error = qmp.monitor("info version").expect_err("no answer");
    assert!(matches!(error, QmpError::Late { .. }), "{error}");
    qmp.set_limit(LIMIT);
    assert_eq!(qmp.monitor("info version").expect("an answer"), "right");
    drop(qmp);
    peer.join().expect("it played");
}

#[test]
fn nonsense_is_an_error_and_never_waits_for_ever() {
    let long = "x".repeat(MAX_LINE + 1);
    let table: [(&[&str], &str); 8] = [
        (&["hello"], "Malformed(Json"),
        (&[AGREED], "Malformed(NoGreeting)"),
        (&[GREETING, GREETING], "Malformed(SecondGreeting)"),
        (
            &[GREETING, HEAR, r#"{"return": {}, "id": 99}"#],
            "Malformed(UnknownAnswer)",
        ),
        (
            &[GREETING, HEAR, r#"{"return": {}, "id": 0}"#],
            "Malformed(UnknownAnswer)",
        ),
        (&[&long], "Malformed(Long)"),
        (
            &[GREETING, r#"{"return": 1, "error": 2}"#],
            "Malformed(Json",
        ),
        (&[GREETING, "{}"], "Malformed(Shape)"),
    ];
    for (lines, wanted) in table {
        let (socket, peer) = says(lines);
        let error = Qmp::connect(socket, LIMIT).expect_err("nonsense");
        let error = format!("{error:?}");
        assert!(error.starts_with(wanted), "{error} is not {wanted}");
        peer.join().expect("it played");
    }
}

#[test]
fn silence_and_floods_are_late() {
    let (socket, peer) = says(&[]);
    let since = Instant::now();
    // The empty line is none.
    let error = Qmp::connect(socket, SHORT).expect_err("silence");
    assert!(matches!(error, QmpError::Late { .. }), "{error}");
    assert!(since.elapsed() < LIMIT);
    peer.join().expect("it played");

    let (socket, peer) = self::peer(|mut socket| {
        let line = event("FLOOD", 0) + "\n";
        begin(&socket);
        while socket.write_all(line.as_bytes()).is_ok() {}
    });
    let mut qmp = Qmp::connect(socket, LIMIT).expect("connected");
    qmp.set_limit(SHORT);
    let error = qmp.stop().expect_err("no answer");
    assert!(matches!(error, QmpError::Late { .. }), "{error}");
    drop(qmp);
    peer.join().expect("it played");
}

#[test]
fn events_that_nobody_takes_are_bounded_and_counted() {
    const EVENTS: usize = 40_000;
    let (socket, peer) = peer(|mut socket| {
        begin(&socket);
        let mut text = String::new();
        for number in 0..EVENTS {
            text += &event("MANY", number);
            text += "\n";
        }
        hear(&socket);
        text += "{\"return\": {}, \"id\": 2}\n";
        socket.write_all(text.as_bytes()).expect("written");
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let mut qmp = Qmp::connect(socket, LIMIT).expect("connected");
    qmp.stop().expect("done");
    assert!(qmp.events.bytes <= MAX_WAITING);
    let lost = qmp.lost_events();
    let first = qmp.next_event(LIMIT).expect("no error").expect("an event");
    assert_eq!(first.data["number"], lost, "the oldest are lost");
    let mut left = 1;
    while qmp.next_event(Duration::ZERO).expect("no error").is_some() {
        left += 1;
    }
    assert_eq!(lost + left, EVENTS as u64);
    assert!(lost > 0 && left > 1000, "{lost} lost, {left} left");
    drop(qmp);
    peer.join().expect("it played");
}

#[test]
fn a_peer_that_goes_is_closed_and_what_it_said_before_is_read() {
    let (socket, peer) = peer(|mut socket| {
        begin(&socket);
        let text = format!("{}\n{{\"half", event("SHUTDOWN", 1));
        socket.write_all(text.as_bytes()).expect("written");
    });
    let mut qmp = Qmp::connect(socket, LIMIT).expect("connected");
    peer.join().expect("it played");
    assert!(matches!(qmp.stop(), Err(QmpError::Closed)));
    let event = qmp.next_event(LIMIT).expect("no error").expect("an event");
    assert_eq!(event.name, "SHUTDOWN");
    assert!(matches!(qmp.next_event(LIMIT), Err(QmpError::Closed)));
    assert!(qmp.quit().is_ok(), "it is gone: what was wanted");
}

#[test]
fn a_command_that_was_sent_by_half_ends_the_connection() {
    let (socket, peer) = peer(|socket| {
        begin(&socket);
        // It reads no more, and stays until it is let go.
        socket
    });
    let mut qmp = Qmp::connect(socket, LIMIT).expect("connected");
    let held = peer.join().expect("it played");
    qmp.set_limit(SHORT);
    let long = "x".repeat(4 << 20);
    assert!(matches!(qmp.monitor(&long), Err(QmpError::Late { .. })));
    assert!(matches!(qmp.stop(), Err(QmpError::Broken)));
    drop(held);
}

/// A real QEMU; it ends with this.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn qemu(dir: &Path, words: &[&str]) -> (Qemu, Qmp) {
    let socket = dir.join("qmp");
    let child = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-S"])
        .args([
            "-qmp",
            &format!("unix:{},server=on,wait=off", socket.display()),
        ])
        .args(words)
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu starts");
    let qemu = Qemu(child);
    let stream = wait_for(LIMIT, || UnixStream::connect(&socket).ok()).expect("a monitor");
    let qmp = Qmp::connect(stream, LIMIT).expect("connected");
    (qemu, qmp)
}

#[test]
fn a_real_qemu_is_asked_stopped_and_ended() {
    requires!("command:qemu-system-x86_64");
    let dir = TestDir::new();
    let (mut qemu, mut qmp) = qemu(&dir, &["-machine", "none"]);
    assert!(
        qmp.version()
            >= Version {
                major: 5,
                ..Version::default()
            }
    );
    assert_eq!(qmp.status().expect("a status").state, RunState::Prelaunch);
    qmp.cont().expect("it runs");
    assert!(qmp.status().expect("a status").running);
    qmp.stop().expect("it stops");
    for name in ["RESUME", "STOP"] {
        let event = qmp.next_event(LIMIT).expect("no error").expect("an event");
        assert_eq!(event.name, name);
        assert!(event.time.seconds > 0);
    }
    let refused = qmp.order("no-such-command", ()).expect_err("refused");
    assert!(
        matches!(&refused, QmpError::Refused { refusal, .. } if refusal.class == "CommandNotFound"),
        "{refused}"
    );
    // Refused before it is parsed, and so answered without a number.
    let refused = qmp.order("stop", 7).expect_err("refused");
    assert!(matches!(refused, QmpError::Refused { .. }), "{refused}");
    let text = qmp.monitor("info version").expect("a text");
    assert!(text.starts_with(&qmp.version().to_string()), "{text}");
    // Its longest answer.
    let schema: Vec<Value> = qmp.execute("query-qmp-schema", ()).expect("a schema");
    assert!(schema.len() > 500);
    qmp.quit().expect("it ends");
    let ended = wait_for(LIMIT, || qemu.0.try_wait().expect("a child"));
    assert!(ended.expect("it ended").success());
}

#[test]
fn disks_snapshots_and_the_screen_of_a_real_qemu_are_had() {
    requires!("command:qemu-system-x86_64", "command:qemu-img");
    let dir = TestDir::new();
    let disk = dir.join("disk.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&disk)
        .arg("16M")
        .status()
        .expect("qemu-img starts");
    assert!(made.success());
    let drive = format!(
        "qcow2,node-name=disk,file.driver=file,file.filename={}",
        disk.display()
    );
    let words = [
        "-machine",
        "q35,accel=tcg",
        "-m",
        "32",
        "-smp",
        "2",
        "-vga",
        "std",
        "-blockdev",
        &drive,
        "-device",
        "virtio-blk-pci,drive=disk,id=first",
    ];
    let (_qemu, mut qmp) = qemu(&dir, &words);
    let cpus = qmp.cpus().expect("processors");
    assert_eq!(cpus.iter().map(|cpu| cpu.index).collect::<Vec<_>>(), [0, 1]);
    for cpu in &cpus {
        let task = format!("/proc/{}/task/{}", _qemu.0.id(), cpu.thread);
        assert!(Path::new(&task).exists(), "{task}");
    }
    let stats = qmp.block_stats().expect("disks");
    assert_eq!(stats.len(), 1);
    assert!(stats[0].guest_device.contains("first"), "{stats:?}");
    assert_eq!(stats[0].counts.written_bytes, 0);

    let png = dir.join("screen.png");
    qmp.screenshot(&png, Picture::Png).expect("a picture");
    let picture = std::fs::read(&png).expect("a file");
    assert!(picture.starts_with(b"\x89PNG\r\n"));

    let snapshot = Snapshot {
        tag: "before".into(),
        vmstate: "disk".into(),
        devices: vec!["disk".into()],
    };
    qmp.save(&snapshot, LIMIT).expect("saved");
    qmp.load(&snapshot, LIMIT).expect("loaded");
    qmp.forget(&snapshot, LIMIT).expect("forgotten");
    let gone = qmp.load(&snapshot, LIMIT).expect_err("it is gone");
    assert!(
        matches!(&gone, QmpError::Job { why, .. } if why.contains("before")),
        "{gone}"
    );
    let jobs: Vec<Value> = qmp.execute("query-jobs", ()).expect("a list");
    assert!(jobs.is_empty(), "{jobs:?}");

    qmp.resize_disk("disk", 32 << 20).expect("resized");
    // A layer above it, in a file that QEMU could not find by itself.
    let overlay = dir.join("overlay.qcow2");
    hyperion_image::disk::create(&overlay, Some(Bytes(32 << 20)), None).expect("made");
    let mut file = std::fs::File::options();
    let file = file.read(true).write(true).open(&overlay).expect("there");
    let set = qmp.lend(file.as_fd()).expect("handed over");
    let disk = Disk::new("vda", Bus::Virtio);
    let layer = Disk {
        format: DiskFormat::Qcow2,
        ..disk
    };
    qmp.add_node(&machine::layer(&layer, "disk-vda.1", set))
        .expect("added");
    let pairs = [("disk".to_owned(), "disk-vda.1".to_owned())];
    qmp.raise(&pairs).expect("raised");
    let nodes = qmp.blocks().expect("disks");
    let node = nodes[0]
        .inserted
        .as_ref()
        .map(|content| content.node.as_str());
    assert_eq!(node, Some("disk-vda.1"));
    assert_eq!(machine::target_of("disk-vda.1"), Some("vda"));
    assert!(matches!(qmp.raise(&pairs), Err(QmpError::Refused { .. })));
    qmp.quit().expect("it ends");
}
