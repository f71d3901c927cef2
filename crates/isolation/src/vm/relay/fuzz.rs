//! The way in for fuzzers.

use std::os::fd::AsFd;

use rustix::event::Timespec;

use super::{FULL, MAX_HELD, Relay, Side, WINDOW};
use crate::protocol::{Reply, Request};
use crate::wire::{Frame, Wire};

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
            let files = supervisor.take_fds().len();
            terminals += files;
            if let Ok(reply) = serde_json::from_slice::<Reply>(&json) {
                assert!(
                    !matches!(reply, Reply::Gone { .. }),
                    "only the host says so"
                );
                let terminal = matches!(reply, Reply::Spawned { terminal: true, .. });
                assert_eq!(files, usize::from(terminal));
            }
            assert!(serde_json::from_slice::<Request>(&json).is_err());
        }
        if went.is_err() {
            return;
        }
    }
    assert!(terminals <= ends.len());
    // What has come goes on, and the reason after it.
    drop(guest);
    let why = crate::vm::MachineEnd::InitEnded;
    host.finish(&Reply::Gone { why })
        .expect("the supervisor is there");
}
