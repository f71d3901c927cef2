//! The way in for fuzzers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hyperion_model::ProcessSpec;
use rustix::event::Timespec;

use super::{FULL, MAX_HELD, Relay, Side, WINDOW};
use crate::guest::Guest;
use crate::protocol::{Event, Reply, Request};
use crate::wire::{Frame, Wire};
use crate::{Asker, Sandbox, SandboxError};

/// Lets a guest say these bytes to its host, in two pieces, while a supervisor
/// listens that has started two programs. Whatever the guest says, the
/// supervisor hears no more than an init may say, and no more is kept than has a bound.
pub fn relay(bytes: &[u8]) {
    let pair = || Wire::pair().expect("a pair");
    let ((mut supervisor, its), (port, guest)) = (pair(), pair());
    let mut host = Relay::new(Side::Host, its, port);
    let mut ends = Vec::new();
    for id in 1..=2 {
        let (stdin, to_stdin) = rustix::pipe::pipe().expect("a pipe");
        let (from_stdout, stdout) = rustix::pipe::pipe().expect("a pipe");
        let request = serde_json::json!({"ask": "spawn", "id": id});
        let sent = supervisor.send(&request, &[stdin.as_fd(), stdout.as_fd()]);
        sent.expect("it is taken");
        ends.push((to_stdin, from_stdout));
    }
    let now = Timespec::default();
    host.turn(&[], Some(&now)).expect("it has heard no guest");
    // More does not fit into the socket at once.
    let bytes = &bytes[..bytes.len().min(32 << 10)];
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut terminals = 0;
    for piece in [first, second] {
        let written = rustix::io::write(&guest, piece);
        assert_eq!(written, Ok(piece.len()));
        let went = host.turn(&[], Some(&now));
        assert!(host.other.queued() < FULL && host.held_bytes <= MAX_HELD);
        let pending = host.channels.values().map(|c| c.pending.len());
        assert!(pending.sum::<usize>() <= host.channels.len() * WINDOW);
        while let Ok(Some(frame)) = supervisor.try_receive_frame() {
            let Frame::Message(json) = frame else {
                continue;
            };
            if let Ok(reply) = serde_json::from_slice::<Reply>(&json) {
                let of_host = matches!(
                    reply,
                    Reply::Gone { .. } | Reply::Event(Event::Collected(_))
                );
                assert!(!of_host, "only the host says so");
                if matches!(reply, Reply::Spawned { terminal: true, .. }) {
                    supervisor.take_fd().expect("it comes along");
                    terminals += 1;
                }
            }
            assert!(serde_json::from_slice::<Request>(&json).is_err());
        }
        if went.is_err() {
            return;
        }
    }
    assert!(terminals + supervisor.take_fds().len() <= ends.len());
    // What has come goes on, and the reason after it.
    drop(guest);
    let why = crate::vm::MachineEnd::InitEnded;
    host.finish(&Reply::Gone { why })
        .expect("the supervisor is there");
}

/// A guest that says these bytes, a frame each time that it is waited for.
struct Says<'a> {
    relay: Relay,
    port: OwnedFd,
    left: &'a [u8],
}

impl Asker for Says<'_> {
    fn wait(&mut self, _: BorrowedFd<'_>, _: &Timespec) -> Result<bool, SandboxError> {
        let over = self.left.is_empty();
        // What was asked goes first.
        let mut turn = || self.relay.turn(&[], Some(&Timespec::default()));
        let mut went = turn();
        let length = self.left.first_chunk().copied().map(u32::from_le_bytes);
        let length = length.map_or(0, |length| length as usize).saturating_add(4);
        let (frame, rest) = self.left.split_at(self.left.len().min(length));
        if went.is_ok() && !frame.is_empty() {
            let written = rustix::io::write(&self.port, frame);
            assert_eq!(written, Ok(frame.len()));
            went = turn();
        }
        self.left = rest;
        match over || went.is_err() {
            true => Err(SandboxError::Unwanted),
            false => Ok(true),
        }
    }
}

/// Lets a guest say these bytes to a supervisor that asks it one thing after the
/// other. Whatever it answers, no more comes of it than was asked for, and
/// numbers that can be added up.
pub fn guest(bytes: &[u8]) {
    let pair = || Wire::pair().expect("a pair");
    let ((supervisor, its), (port, its_port)) = (pair(), pair());
    let mut says = Says {
        relay: Relay::new(Side::Host, its, port),
        port: its_port.into_socket(),
        left: &bytes[..bytes.len().min(32 << 10)],
    };
    let mut guest = Guest::beyond(supervisor);
    guest.awaited = true;
    guest.patience = Some(std::time::Duration::from_secs(60));
    let _ = ask_all(&mut guest, &mut says);
}

fn ask_all(guest: &mut Guest, says: &mut Says<'_>) -> Result<(), SandboxError> {
    let now = Timespec::default();
    while !guest.is_up()? {
        let fd = guest.fd().try_clone_to_owned().expect("one more");
        says.wait(fd.as_fd(), &now)?;
    }
    for id in 0..2 {
        let (stdin, _to_stdin) = rustix::pipe::pipe().expect("a pipe");
        let (_from_stdout, stdout) = rustix::pipe::pipe().expect("a pipe");
        let process = ProcessSpec {
            node: 0,
            argv: vec!["program".into()],
            env: Vec::new(),
            cwd: "/".into(),
            user: None,
            tty: id == 1,
            terminal_size: None,
            cpus: None,
            rlimits: Vec::new(),
        };
        match guest.spawn(id, &process, vec![stdin, stdout], says) {
            Ok(_) => {}
            Err(e @ SandboxError::Spawn { .. }) => drop(format!("{e} {:?}", e.exit_code())),
            Err(e) => return Err(e),
        }
    }
    guest.look("/bin/sh", says)?;
    guest.list_folder("/bin", says)?;
    if let Some(bytes) = guest.read_file("/bin/sh", 0, 64, says)? {
        assert!(bytes.len() <= 64);
    }
    let mut used = (std::time::Duration::ZERO, 0);
    loop {
        match guest.next_event()? {
            Some(Event::Ended {
                user,
                system,
                max_rss,
                io_read,
                io_written,
                ..
            }) => {
                used.0 += user + system;
                used.1 += max_rss + io_read + io_written;
            }
            Some(Event::Joined { .. } | Event::Remote { .. } | Event::Step(_)) => {}
            Some(Event::Collected(_)) => panic!("only the host says so"),
            None => {
                let fd = guest.fd().try_clone_to_owned().expect("one more");
                says.wait(fd.as_fd(), &now)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Word;
    use super::*;
    use crate::{FileEntry, FileKind};

    #[test]
    fn a_guest_that_does_as_it_is_asked_is_heard_to_its_end() {
        let entry = FileEntry {
            kind: FileKind::File,
            executable: true,
            path: "/bin/dash".into(),
        };
        let spawned = Reply::Spawned {
            pid: 7,
            terminal: false,
        };
        let replies = [
            Reply::Ready,
            spawned.clone(),
            spawned,
            Reply::Found { entry: Some(entry) },
            Reply::Names { names: Vec::new() },
            Reply::Data { found: false },
            Reply::Event(Event::Joined { id: 1 }),
        ];
        let (mut port, its_port) = Wire::pair().expect("a pair");
        for reply in &replies {
            let word = Word::answer(reply).expect("a word");
            port.send(&word, &[]).expect("sent");
        }
        let mut bytes = vec![0; 8 << 10];
        let length = rustix::io::read(&its_port, &mut bytes[..]).expect("all of it");
        let ((supervisor, its), (port, its_port)) =
            (Wire::pair().expect("a pair"), Wire::pair().expect("a pair"));
        let mut says = Says {
            relay: Relay::new(Side::Host, its, port),
            port: its_port.into_socket(),
            left: &bytes[..length],
        };
        let mut guest = Guest::beyond(supervisor);
        guest.awaited = true;
        let ended = ask_all(&mut guest, &mut says).expect_err("it says no more");
        assert!(matches!(ended, SandboxError::Unwanted), "{ended}");
        assert_eq!(says.left, b"");
    }
}
