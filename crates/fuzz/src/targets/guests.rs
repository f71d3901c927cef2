//! What guests say that are not what was started in them.

use std::time::Duration;

use hyperion_isolation::error::SpawnStep;
use hyperion_isolation::fuzz;
use hyperion_isolation::protocol::{Event, FileEntry, FileKind, Reply};
use hyperion_isolation::vm::MachineEnd;
use hyperion_model::report::Exit;

use crate::Target;

pub(super) const RELAY: Target = Target {
    name: "relay",
    about: "what a guest says to its host's relay, while its supervisor listens: nothing without a bound",
    run: fuzz::relay,
    seeds: guests,
    words: GUESTS_WORDS,
};

pub(super) const GUEST: Target = Target {
    name: "guest",
    about: "what a guest answers and tells, by way of its host's relay to the supervisor: no more than was asked for, and numbers that can be added up",
    run: fuzz::guest,
    seeds: guests,
    words: GUESTS_WORDS,
};

/// What guests say that do as they are asked.
fn guests() -> Vec<Vec<u8>> {
    let frame = |kind: u8, payload: &[u8]| {
        let mut frame = (payload.len() as u32 + 1).to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend(payload);
        frame
    };
    let word = |json: &str| frame(b'J', json.as_bytes());
    let data = |channel: u32, bytes: &[u8]| frame(b'D', &[&channel.to_le_bytes(), bytes].concat());
    let pass = |reply: &Reply, channels: &str| {
        let message = serde_json::to_string(reply).expect("it is plain");
        let message = message.replace('"', "\\\"");
        word(&format!(
            r#"{{"pass":{{"message":"{message}","channels":[{channels}]}}}}"#
        ))
    };
    let spawned = |terminal| Reply::Spawned { pid: 5, terminal };
    let ended = |much: u64| {
        Reply::Event(Event::Ended {
            id: 1,
            exit: Exit::Code(0),
            user: Duration::from_secs(much),
            system: Duration::from_secs(much),
            max_rss: much,
            io_read: much,
            io_written: much,
            starved: false,
            alone: true,
        })
    };
    let remote = Event::Remote {
        host: "job-1".into(),
        command: "true".into(),
    };
    let entry = FileEntry {
        kind: FileKind::File,
        executable: true,
        path: "/usr/bin/dash".into(),
    };
    let names = vec!["a".into(), "b".into()];
    let failed = Reply::SpawnFailed {
        step: SpawnStep::Execute,
        errno: 2,
    };
    vec![
        [
            pass(&Reply::Ready, ""),
            pass(&spawned(false), ""),
            data(4, b"output"),
            word(r#"{"end":{"channel":4}}"#),
            pass(&ended(1), ""),
            word(r#""over""#),
        ]
        .concat(),
        [
            pass(&spawned(true), r#"{"channel":1,"way":"both"}"#),
            data(1, b"prompt"),
            word(r#"{"gone":{"channel":1}}"#),
            word(r#"{"gone":{"channel":2}}"#),
            word(r#"{"took":{"channel":6,"bytes":0}}"#),
            data(8, &[b'x'; 1000]),
            pass(&ended(1), ""),
        ]
        .concat(),
        [
            pass(&Reply::Data { found: true }, ""),
            data(0, b"of a file"),
            pass(
                &Reply::Names {
                    names: vec!["a".into()],
                },
                "",
            ),
            pass(
                &Reply::Gone {
                    why: MachineEnd::InitEnded,
                },
                "",
            ),
        ]
        .concat(),
        [
            pass(&Reply::Ready, ""),
            pass(&failed, ""),
            pass(&spawned(true), r#"{"channel":1,"way":"both"}"#),
            pass(&Reply::Event(Event::Joined { id: 0 }), ""),
            pass(&Reply::Found { entry: Some(entry) }, ""),
            pass(&Reply::Names { names }, ""),
            pass(&Reply::Data { found: true }, ""),
            data(0, b"\x7fELF"),
            pass(&ended(u64::MAX), ""),
            pass(&ended(u64::MAX), ""),
            pass(&Reply::Event(remote), ""),
        ]
        .concat(),
    ]
}

const GUESTS_WORDS: &[&str] = &[
    "\"pass\":",
    "\"took\":",
    "\"gone\":",
    "\"end\":",
    "\"channels\":[",
    "{\"channel\":3,\"way\":\"both\"}",
    "\"in\"",
    "\"out\"",
    "\"null\"",
    "\\\"say\\\":",
    "\\\"ask\\\":",
    "spawned",
    "spawn-failed",
    "event",
    "\\\"terminal\\\":true",
    "18446744073709551615",
];
