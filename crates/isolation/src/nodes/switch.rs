//! An Ethernet switch between the nodes of one job: a process of its own that
//! touches no network of the host and needs no right.
//!
//! Each node is known by its hardware address, so there is nothing to learn:
//! what says that it comes from another is thrown away, and what is for nobody
//! here goes nowhere. QEMU's stream sockets carry a frame after its length in
//! four bytes, the highest first.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use hyperion_model::nodes::hardware_address;
use hyperion_sys::process::{self, Fork};
use hyperion_sys::signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, send};
use rustix::process::Pid;

/// The longest frame that a port takes, as QEMU has it.
const MAX_FRAME: usize = 65536 + 4096;
/// The most bytes that wait for a node that is slow to take them; what is above
/// is thrown away, as a switch does.
const MAX_WAITING: usize = 4 << 20;
/// The bytes of a frame's length.
const HEAD: usize = 4;
/// The bytes of the two addresses that a frame begins with.
const ADDRESSES: usize = 12;

/// The other end of a node's card.
pub(super) enum Port {
    /// A stream socket of QEMU's.
    Machine(OwnedFd),
    /// An interface of the kernel's: each read or write is one frame.
    Tap(OwnedFd),
}

impl Port {
    fn file(&self) -> &OwnedFd {
        match self {
            Self::Machine(file) | Self::Tap(file) => file,
        }
    }
}

/// Starts the switch; the ports are those of the nodes in their order. It ends
/// with this process, and becomes this user and group where this process may choose.
///
/// # Errors
/// The kernel's.
pub(super) fn start(ports: Vec<Port>, id: Option<u32>) -> io::Result<Pid> {
    match process::fork()? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            let done = prepare(&ports, id).and_then(|()| serve(ports));
            process::exit_now(u8::from(done.is_err()))
        }
    }
}

fn prepare(ports: &[Port], id: Option<u32>) -> io::Result<()> {
    let fds: Vec<_> = ports.iter().map(|port| port.file().as_fd()).collect();
    process::close_all_but(&fds)?;
    process::rename(c"hyperion-net");
    if let Some(id) = id {
        process::become_nobody(id)?;
    }
    // After that: a change of user forgets it.
    signals::die_with_parent()?;
    for port in ports {
        rustix::io::ioctl_fionbio(port.file(), true)?;
    }
    Ok(())
}

/// Carries frames until all nodes are gone.
fn serve(ports: Vec<Port>) -> io::Result<()> {
    let mut ports: Vec<Option<Port>> = ports.into_iter().map(Some).collect();
    let mut switch = Switch::new(ports.len());
    let mut buffer = vec![0; 64 << 10];
    while ports.iter().any(Option::is_some) {
        let open: Vec<usize> = (0..ports.len()).filter(|&i| ports[i].is_some()).collect();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        for (i, port) in ports.iter().enumerate() {
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, !switch.waiting(i).is_empty());
            fds.extend(port.iter().map(|port| PollFd::new(port.file(), wanted)));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        for (&i, ready) in open.iter().zip(&ready) {
            let Some(port) = &ports[i] else { continue };
            if ready.contains(PollFlags::OUT) {
                let taken = match port {
                    Port::Machine(socket) => {
                        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                        send(socket, switch.waiting(i), flags)
                    }
                    // One that it does not want is gone, as on any wire.
                    Port::Tap(tap) => {
                        let frame = switch.first_waiting(i);
                        let _ = rustix::io::write(tap, frame);
                        Ok(HEAD + frame.len())
                    }
                };
                switch.taken(i, taken.unwrap_or(0));
            }
            if ready.difference(PollFlags::OUT).is_empty() {
                continue;
            }
            let goes_on = match rustix::io::read(port.file(), &mut buffer[..]) {
                Ok(0) => false,
                Ok(got) => match port {
                    Port::Machine(_) => switch.hear(i, &buffer[..got]),
                    Port::Tap(_) => {
                        let length = (got as u32).to_be_bytes();
                        switch.hear(i, &[&length, &buffer[..got]].concat())
                    }
                },
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
                Err(_) => false,
            };
            if !goes_on {
                ports[i] = None;
            }
        }
    }
    Ok(())
}

/// What has come and what is to go, by port.
struct Switch {
    ports: Vec<Queues>,
}

#[derive(Default)]
struct Queues {
    /// The beginning of a frame.
    came: Vec<u8>,
    /// Whole frames with their lengths; of the first one some may be gone.
    goes: VecDeque<u8>,
}

impl Switch {
    fn new(ports: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| Queues::default()).collect(),
        }
    }

    /// Gives what waits for a port, or the first part of it.
    fn waiting(&self, port: usize) -> &[u8] {
        self.ports[port].goes.as_slices().0
    }

    /// Gives the first frame that waits for a port, without its length.
    fn first_waiting(&mut self, port: usize) -> &[u8] {
        let waiting = self.ports[port].goes.make_contiguous();
        let Some((head, body)) = waiting.split_first_chunk::<HEAD>() else {
            return &[];
        };
        body.get(..u32::from_be_bytes(*head) as usize)
            .unwrap_or(&[])
    }

    /// Forgets what a port has taken.
    fn taken(&mut self, port: usize, bytes: usize) {
        let goes = &mut self.ports[port].goes;
        goes.drain(..bytes.min(goes.len()));
    }

    /// Takes what came from a port; false when that is no frame.
    fn hear(&mut self, from: usize, bytes: &[u8]) -> bool {
        let mut came = std::mem::take(&mut self.ports[from].came);
        came.extend_from_slice(bytes);
        let mut rest = came.as_slice();
        while let Some((head, body)) = rest.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes(*head) as usize;
            if length > MAX_FRAME {
                return false;
            }
            if body.len() < length {
                break;
            }
            self.pass_on(from, &rest[..HEAD + length]);
            rest = &body[length..];
        }
        self.ports[from].came = rest.to_vec();
        true
    }

    /// Puts a frame, its length before it, where it belongs.
    fn pass_on(&mut self, from: usize, message: &[u8]) {
        let frame = &message[HEAD..];
        let Some((to, by)) = frame.get(..ADDRESSES).map(|both| both.split_at(6)) else {
            return;
        };
        if by != hardware_address(from as u32) {
            return;
        }
        // The lowest bit of an address says that it is one of a group.
        let group = to[0] & 1 == 1;
        for (i, port) in self.ports.iter_mut().enumerate() {
            let meant = group || to == hardware_address(i as u32);
            if i != from && meant && port.goes.len() + message.len() <= MAX_WAITING {
                port.goes.extend(message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(to: [u8; 6], by: [u8; 6], body: &[u8]) -> Vec<u8> {
        let frame = [&to[..], &by[..], body].concat();
        [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
    }

    fn goes(switch: &Switch, port: usize) -> Vec<u8> {
        switch.ports[port].goes.iter().copied().collect()
    }

    #[test]
    fn a_frame_goes_to_whom_it_is_for_and_to_nobody_else() {
        let mut switch = Switch::new(3);
        let direct = message(hardware_address(2), hardware_address(0), b"hello");
        assert!(switch.hear(0, &direct));
        assert_eq!(goes(&switch, 1), b"");
        assert_eq!(goes(&switch, 2), direct);
        let all = message([0xff; 6], hardware_address(1), b"who is there");
        assert!(switch.hear(1, &all));
        assert_eq!(goes(&switch, 0), all);
        assert_eq!(goes(&switch, 1), b"");
        assert_eq!(goes(&switch, 2), [direct, all].concat());
    }

    #[test]
    fn who_says_to_be_another_or_speaks_to_strangers_is_not_heard() {
        let mut switch = Switch::new(2);
        for (to, by) in [
            (hardware_address(1), hardware_address(1)),
            (hardware_address(7), hardware_address(0)),
            (hardware_address(0), hardware_address(0)),
        ] {
            assert!(switch.hear(0, &message(to, by, b"x")));
        }
        assert!(switch.hear(0, &[0, 0, 0, 1, 9]), "too short for addresses");
        assert_eq!(goes(&switch, 0), b"");
        assert_eq!(goes(&switch, 1), b"");
        assert!(!switch.hear(0, &[0xff; HEAD]), "longer than any frame");
    }

    #[test]
    fn what_a_node_does_not_take_is_bounded_and_whole() {
        let mut switch = Switch::new(2);
        let frame = message(hardware_address(1), hardware_address(0), &[7; 60_000]);
        for _ in 0..200 {
            assert!(switch.hear(0, &frame));
        }
        let waits = goes(&switch, 1);
        assert!(waits.len() <= MAX_WAITING && waits.len() > MAX_WAITING / 2);
        assert_eq!(waits.len() % frame.len(), 0);
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_are_cut(
            sizes in prop::collection::vec(0usize..3000, 1..20),
            cuts in prop::collection::vec(1usize..700, 1..40),
        ) {
            let messages: Vec<Vec<u8>> = sizes
                .iter()
                .map(|&n| message(hardware_address(1), hardware_address(0), &vec![n as u8; n]))
                .collect();
            let all = messages.concat();
            let mut switch = Switch::new(2);
            let (mut rest, mut cuts) = (all.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let at = cuts.next().map_or(1, |&n| n.min(rest.len()));
                prop_assert!(switch.hear(0, &rest[..at]));
                rest = &rest[at..];
            }
            prop_assert_eq!(goes(&switch, 1), all);
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut switch = Switch::new(2);
            let _ = switch.hear(0, &bytes);
            prop_assert!(switch.ports[0].came.len() <= HEAD + MAX_FRAME);
        }
    }
}
