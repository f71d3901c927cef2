//! What programs and their files say: PMI, frames, passwd, ELF, scripts.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hyperion_isolation::fuzz;
use hyperion_isolation::protocol::{Reply, Request};
use hyperion_isolation::vm::agent::{Agent, PIECE};
use hyperion_isolation::vm::qmp::{Lines, Qmp};
use hyperion_isolation::wire::{Frame, Wire};
use hyperion_model::job::Parallel;
use hyperion_model::{Level, Rank};
use hyperion_mpi::pmi1::{Message, Server};
use hyperion_mpi::{
    Command, Entry, EntryKind, HostFacts, RootView, decide, inspect, python, shell,
};

use super::texts;
use crate::Target;

pub(super) const PMI: Target = Target {
    name: "pmi",
    about: "PMI-1 as four ranks speak it, in pieces; a line `N TEXT` comes from rank N",
    run: |bytes| {
        let mut server = Server::new(4, "kvs");
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            let (rank, rest) = match line {
                [rank @ b'0'..=b'5', b' ', rest @ ..] => (rank - b'0', rest),
                rest => (0, rest),
            };
            // In two pieces, as a socket may give it.
            let (first, second) = rest.split_at(rest.len() / 2);
            server.feed(Rank(rank.into()), first);
            server.feed(Rank(rank.into()), second);
            if let Ok(message) = Message::parse(&String::from_utf8_lossy(rest)) {
                let text = message.to_string();
                let again = Message::parse(text.trim_end_matches('\n'));
                assert_eq!(Ok(message.command()), again.as_ref().map(Message::command));
            }
        }
        for rank in 0..4 {
            server.closed(Rank(rank));
        }
    },
    seeds: || {
        texts(&[
            "0 cmd=init pmi_version=1 pmi_subversion=1\n0 cmd=get_maxes\n0 cmd=get_my_kvsname\n0 cmd=put kvsname=kvs key=a value=b\n0 cmd=barrier_in\n1 cmd=barrier_in\n2 cmd=barrier_in\n3 cmd=barrier_in\n1 cmd=get kvsname=kvs key=a\n0 cmd=finalize\n",
            "0 mcmd=spawn\n0 nprocs=1\n0 execname=x\n0 endcmd\n0 cmd=publish_name service=s port=p\n1 cmd=lookup_name service=s\n0 cmd=getbyidx idx=0\n0 cmd=abort exitcode=1 message=oh no\n",
        ])
    },
    words: &[
        "cmd=",
        "mcmd=spawn",
        "endcmd",
        "init",
        "get_maxes",
        "get_appnum",
        "get_my_kvsname",
        "get_universe_size",
        "barrier_in",
        "put",
        "get",
        "getbyidx",
        "finalize",
        "abort",
        "publish_name",
        "unpublish_name",
        "lookup_name",
        "kvsname=kvs",
        "key=",
        "value=",
        "idx=",
        "message=",
        "exitcode=",
        "\n1 ",
        "\n2 ",
    ],
};

pub(super) const WIRE: Target = Target {
    name: "wire",
    about: "frames between supervisor and init, and the messages in them",
    run: |bytes| {
        let (mut from, to) = UnixStream::pair().expect("a socket pair");
        // More does not fit into the socket at once.
        from.write_all(&bytes[..bytes.len().min(32 << 10)])
            .expect("written");
        drop(from);
        let mut wire = Wire::new(to.into());
        while let Ok(Some(frame)) = wire.receive_frame() {
            if let Frame::Message(json) = frame {
                let reply = serde_json::from_slice::<Reply>(&json);
                let request = serde_json::from_slice::<Request>(&json);
                assert!(
                    reply.is_err() || request.is_err(),
                    "a message has one meaning"
                );
            }
        }
        assert!(wire.take_fds().is_empty());
    },
    seeds: || {
        let message = |json: &str| {
            let mut frame = (json.len() as u32 + 1).to_le_bytes().to_vec();
            frame.push(b'J');
            frame.extend(json.as_bytes());
            frame
        };
        vec![
            message(r#"{"say":"ready"}"#),
            message(
                r#"{"say":"event","event":"ended","id":1,"exit":{"code":0},"user":{"secs":1,"nanos":2},"system":{"secs":0,"nanos":0},"max_rss":1,"io_read":2,"io_written":3,"starved":false,"alone":true}"#,
            ),
            message(r#"{"ask":"signal","id":null,"signal":15}"#),
            [
                message(r#"{"say":"data","found":true}"#),
                b"\x09\0\0\0D\x01\0\0\0data".to_vec(),
            ]
            .concat(),
        ]
    },
    words: &[
        "\"say\":",
        "\"ask\":",
        "\"event\":",
        "spawned",
        "ready",
        "setup-failed",
        "spawn-failed",
        "names",
        "found",
        "ended",
        "joined",
        "spawn",
        "adopt",
        "enter",
        "null",
        "4294967296",
    ],
};

pub(super) const AGENT: Target = Target {
    name: "agent",
    about: "what answers in a guest in its agent's place: pieces are no longer than asked for, a program's end is one or the other, and nothing waits",
    run: |bytes| {
        let (mut from, to) = UnixStream::pair().expect("a socket pair");
        from.write_all(&bytes[..bytes.len().min(32 << 10)])
            .expect("written");
        from.shutdown(Shutdown::Write).expect("shut");
        let mut agent = Agent::assumed(to, Duration::from_secs(60));
        let pid = agent.exec(&["x".to_owned()], &[], None);
        if let Ok(progress) = agent.progress(pid.unwrap_or(1)) {
            let said = progress.out.len() + progress.err.len();
            assert!(said < bytes.len() && (progress.end.is_some() || said == 0));
        }
        let _ = agent.open("x", "rb");
        if let Ok(piece) = agent.read(1) {
            assert!(piece.len() <= PIECE);
        }
        drop((agent.write(1, b"xy"), agent.close(1)));
    },
    seeds: || {
        let answers = [
            r#"{"return": {"pid": 7}}"#,
            r#"{"return": {"exited": true, "exitcode": 3, "out-data": "b3V0", "err-data": "ZXJy", "out-truncated": true}}"#,
            r#"{"return": 1000}"#,
            r#"{"return": {"count": 2, "buf-b64": "aGk=", "eof": true}}"#,
            r#"{"return": {"count": 1, "eof": false}}"#,
            r#"{"return": {"count": 1, "eof": false}}"#,
            r#"{"return": {}}"#,
        ];
        vec![
            answers.join("\n").into_bytes(),
            [answers[0], r#"{"return": {"exited": true, "signal": 9}}"#]
                .join("\n\n")
                .into_bytes(),
            b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"x\"}}\n".to_vec(),
        ]
    },
    words: &[
        "\"return\":",
        "\"error\":",
        "\"exited\": true",
        "\"exited\": false",
        "\"exitcode\":",
        "\"signal\":",
        "\"count\":",
        "\"buf-b64\":",
        "\"out-data\":",
        "-1",
        "99999999999999999999",
        "\n",
        "\u{ff}",
    ],
};

pub(super) const QMP: Target = Target {
    name: "qmp",
    about: "what QEMU's monitor says, parted into lines as it comes, and to a client that asks",
    run: |bytes| {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let (mut whole, mut parted) = (Lines::default(), Lines::default());
        whole.feed(bytes);
        parted.feed(first);
        let mut before = Vec::new();
        while let Ok(Some((message, _))) = parted.next() {
            before.push(message);
        }
        for message in before {
            let again = whole.next().ok().flatten();
            assert_eq!(again.map(|(message, _)| message), Some(message));
        }
        parted.feed(second);
        while let Ok(Some(_)) = parted.next() {}

        let (mut from, to) = UnixStream::pair().expect("a socket pair");
        // More does not fit into the socket at once.
        from.write_all(&bytes[..bytes.len().min(32 << 10)])
            .expect("written");
        // It goes on listening, so the client gets to ask.
        from.shutdown(Shutdown::Write).expect("shut");
        let limit = Duration::from_secs(60);
        if let Ok(mut qmp) = Qmp::connect(to, limit) {
            drop((qmp.status(), qmp.block_stats(), qmp.cpus()));
            drop(qmp.monitor("info"));
            while let Ok(Some(event)) = qmp.next_event(limit) {
                drop(event);
            }
        }
    },
    seeds: || {
        let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#;
        let event = r#"{"timestamp": {"seconds": 1795259685, "microseconds": 577751}, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}"#;
        let answers = [
            r#"{"return": {}, "id": 1}"#,
            r#"{"return": {"status": "running", "singlestep": false, "running": true}, "id": 2}"#,
            r#"{"return": [{"device": "", "node-name": "disk", "stats": {"rd_bytes": 1, "wr_bytes": 2, "rd_operations": 3, "wr_operations": 4, "flush_operations": 5}}], "id": 3}"#,
            r#"{"return": [{"thread-id": 5676, "cpu-index": 0, "target": "x86_64"}], "id": 4}"#,
            r#"{"id": 5, "error": {"class": "CommandNotFound", "desc": "no"}}"#,
        ];
        vec![
            [&[greeting, event], &answers[..], &[event]]
                .concat()
                .join("\r\n")
                .into_bytes(),
            format!("{greeting}\n{event}\n{event}\n").into_bytes(),
            b"\r\n\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"x\"}}\n".to_vec(),
        ]
    },
    words: &[
        "\"QMP\":",
        "\"return\":",
        "\"error\":",
        "\"event\":",
        "\"id\":",
        "\"timestamp\":",
        "\"seconds\":",
        "\"data\":",
        "\"stats\":",
        "null",
        "18446744073709551615",
        "\r\n",
        "[[[[",
    ],
};

pub(super) const PASSWD: Target = Target {
    name: "passwd",
    about: "users and groups by the files of an image, none of them -1; the first line is who is looked for",
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (user, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let (passwd, group) = rest.split_once("\n\n").unwrap_or((rest, rest));
        fuzz::users(user, passwd, group);
    },
    seeds: || {
        texts(&[
            "ana:video\nroot:x:0:0:root:/root:/bin/sh\nana:x:1000:100:Ana:/home/ana:/bin/sh\n\nusers:x:100:\nvideo:x:44:ana,bob\n",
            "4711:12\n:::::\n\n:::,\n",
            "eve:4294967295\neve:x:4294967295:0::/:\n\nx:x:4294967295:eve\n",
        ])
    },
    words: &[":x:", "\n\n", "ana", "4294967295", "-1", "\r\n", ","],
};

/// A root in which every file is the input.
struct Everywhere<'a>(&'a [u8]);

impl RootView for Everywhere<'_> {
    fn entry(&mut self, path: &str) -> Option<Entry> {
        let is_file = path.contains(['.', 'p']);
        Some(Entry {
            kind: if is_file {
                EntryKind::File
            } else {
                EntryKind::Folder
            },
            executable: true,
            path: path.to_owned(),
        })
    }

    fn read(&mut self, _: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        // Nobody takes a hostile size for what is asked for at once.
        assert!(len <= 16 << 20, "{len} bytes are read at once");
        let start = usize::try_from(offset).ok()?.min(self.0.len());
        let end = start.saturating_add(len).min(self.0.len());
        Some(self.0[start..end].to_vec())
    }

    fn list(&mut self, _: &str) -> Vec<String> {
        let names = [
            "libmpi.so.12",
            "libmpi.so.40",
            "mpi4py",
            "MPI.cpython-311.so",
            "lib.conf",
        ];
        names.map(str::to_owned).into()
    }
}

fn preflight(argv: &[&str], content: &[u8]) {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    let command = Command {
        argv: &argv,
        path: "/bin:/usr/bin",
        library_path: "",
        cwd: "/",
    };
    let facts = inspect(&mut Everywhere(content), &command);
    for level in [Level::Process, Level::Container] {
        let host = HostFacts {
            arch: "x86_64".to_owned(),
            foreign_archs: Vec::new(),
            level,
            cpus: 4,
            dev_shm: None,
            ptrace_scope: Some(1),
            nodes: Vec::new(),
        };
        match decide(&facts, &host, &Parallel::default()) {
            Ok(plan) => drop(plan.lines()),
            Err(refusal) => drop((refusal.to_string(), refusal.exit_code())),
        }
    }
}

pub(super) const ELF: Target = Target {
    name: "elf",
    about: "a binary that is its own loader and all of its libraries, before it is started",
    run: |bytes| preflight(&["/p"], bytes),
    seeds: || {
        let mut bare = b"\x7fELF\x02\x01\x01".to_vec();
        bare.resize(64, 0);
        vec![
            elf(),
            bare,
            b"#!/usr/bin/python3 -u\nimport mpi4py\n".to_vec(),
        ]
    },
    words: &[
        "libmpi.so.12",
        "libmpi.so.40",
        "GLIBC_2.36",
        "libc.so.6",
        "$ORIGIN",
        "#!/p",
        "MPICH Version:",
    ],
};

pub(super) const COMMAND: Target = Target {
    name: "command",
    about: "shell and Python text that is looked at before it is started",
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = shell::commands(&text);
        let _ = python::imports_mpi4py(&text);
        let words: Vec<&str> = text.split_whitespace().take(20).collect();
        preflight(&words, bytes);
        preflight(&["/bin/sh", "-c", &text], b"#!/bin/p");
        preflight(&["python3", "-c", &text], bytes);
    },
    seeds: || {
        texts(&[
            "#!/bin/sh\nset -e\nif true; then mpiexec -n 4 ./p.x \"a b\" | tee out; fi\nenv A=b exec ./q.x $(cat f)\n",
            "from mpi4py import MPI\nimport numpy, os as o\n",
            "env -i A=b nice -n 3 timeout 5 sh -c 'mpirun ./p.x'\n",
        ])
    },
    words: &[
        "mpiexec ",
        "mpirun ",
        "env ",
        "exec ",
        "sh -c ",
        "python3 ",
        "-m ",
        "import mpi4py",
        "$(",
        ")",
        "'",
        "\"",
        "\\\n",
        "<<EOF\n",
        "EOF\n",
        "&&",
        "||",
        ";",
        "|",
        "#!",
    ],
};

/// A library of 64 bits with a dynamic section, strings, symbol versions and a loader.
fn elf() -> Vec<u8> {
    let strings = b"\0libmpi.so.12\0libc.so.6\0GLIBC_2.36\0$ORIGIN/../lib\0/lib/ld.p\0";
    let (headers, dynamic, needs, text) = (
        64u64,
        64 + 3 * 56,
        64 + 3 * 56 + 10 * 16,
        64 + 3 * 56 + 10 * 16 + 32,
    );
    let size = text + strings.len() as u64;
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    let half = |out: &mut Vec<u8>, n: u16| out.extend(n.to_le_bytes());
    let word = |out: &mut Vec<u8>, n: u32| out.extend(n.to_le_bytes());
    let long = |out: &mut Vec<u8>, n: u64| out.extend(n.to_le_bytes());
    half(&mut out, 3);
    half(&mut out, 62);
    word(&mut out, 1);
    for n in [0, headers, 0] {
        long(&mut out, n);
    }
    word(&mut out, 0);
    for n in [64, 56, 3, 0, 0, 0] {
        half(&mut out, n);
    }
    for (kind, offset, len) in [(1, 0, size), (2, dynamic, 160), (3, text + 51, 10)] {
        word(&mut out, kind);
        word(&mut out, 4);
        for n in [offset, offset, offset, len, len, 8] {
            long(&mut out, n);
        }
    }
    let tags = [
        (1, 1),
        (1, 14),
        (14, 1),
        (29, 35),
        (5, text),
        (6, needs),
        (0x6fff_fef5, needs),
        (0x6fff_fffe, needs),
        (0x6fff_ffff, 1),
        (0, 0),
    ];
    for (tag, value) in tags {
        long(&mut out, tag);
        long(&mut out, value);
    }
    half(&mut out, 1);
    half(&mut out, 1);
    for n in [14, 16, 0] {
        word(&mut out, n);
    }
    word(&mut out, 0);
    half(&mut out, 0);
    half(&mut out, 2);
    word(&mut out, 24);
    word(&mut out, 0);
    out.extend(strings);
    out
}
