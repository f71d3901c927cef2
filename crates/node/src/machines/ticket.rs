//! A machine's screen on loopback, for one viewer that has the ticket.
//!
//! QEMU's screen stays on its Unix socket. What listens is a relay, which asks
//! as any server of VNC with a password does (RFC 6143, 7.2.2) and lets one
//! viewer through, once. QEMU's own password would hold for every viewer until
//! somebody takes it back, and for the socket too.
//!
//! ```text
//! listens ──right ticket──▶ closed to others, relays until the viewer leaves
//!    └──time over, or three wrong tickets──▶ closed
//! ```

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;

/// How long a viewer may take to say its ticket.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many wrong tickets are borne.
const WRONG: u32 = 3;
/// What is said first, by both sides.
const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// Letters and digits that nobody takes for one another: a power of two, so that each is as likely.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Why nobody saw the screen.
#[derive(Debug, Error)]
pub enum TicketError {
    /// No port is free, or the one asked for is not.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port; 0: any.
        port: u16,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Nobody came in time.
    #[error("no viewer came with the ticket within {} s", .0.as_secs())]
    Late(Duration),
    /// Somebody tried others.
    #[error("{WRONG} wrong tickets were shown: this one holds no more")]
    Wrong,
    /// The machine's own screen.
    #[error("the machine's screen does not answer")]
    Screen(#[source] io::Error),
    /// The kernel.
    #[error("cannot wait for viewers")]
    Io(#[source] io::Error),
}

/// What opens a screen once: eight letters and digits, which is all that VNC takes.
#[derive(Clone)]
pub struct Ticket([u8; 8]);

impl Ticket {
    /// Draws one.
    ///
    /// # Errors
    /// The kernel's, when it has no randomness.
    pub fn new() -> io::Result<Self> {
        let mut bytes = [0; 8];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(Self(bytes.map(|byte| LETTERS[usize::from(byte % 32)])))
    }

    /// Gives the text.
    pub fn text(&self) -> String {
        self.0.iter().copied().map(char::from).collect()
    }

    /// Gives what a viewer that has it answers to a challenge.
    fn answer(&self, challenge: [u8; 16]) -> [u8; 16] {
        // VNC takes the bits of each byte of a key the other way round.
        let cipher = Des::new(&self.0.map(u8::reverse_bits).into());
        let mut answer = challenge;
        for half in answer.chunks_exact_mut(8) {
            if let Ok(block) = half.try_into() {
                cipher.encrypt_block(block);
            }
        }
        answer
    }
}

/// A screen that waits for its viewer.
#[derive(Debug)]
pub struct Gate {
    listener: TcpListener,
}

impl Gate {
    /// Listens on loopback, on this port or, for 0, a free one.
    ///
    /// # Errors
    /// [`TicketError::Listen`].
    pub fn open(port: u16) -> Result<Self, TicketError> {
        let listen = |source| TicketError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        Ok(Self { listener })
    }

    /// Tells where it listens.
    ///
    /// # Errors
    /// [`TicketError::Io`].
    pub fn address(&self) -> Result<SocketAddr, TicketError> {
        self.listener.local_addr().map_err(TicketError::Io)
    }

    /// Lets the one viewer with the ticket see the screen on this socket, until
    /// it leaves. Nobody else can come from the moment it is let in.
    ///
    /// # Errors
    /// [`TicketError`].
    pub fn serve(self, screen: &Path, ticket: &Ticket, limit: Duration) -> Result<(), TicketError> {
        let until = Instant::now() + limit;
        let mut wrong = 0;
        let mut viewer = loop {
            let Some(viewer) = self.next(until)? else {
                return Err(TicketError::Late(limit));
            };
            match admit(&viewer, ticket, until) {
                Ok(true) => break viewer,
                Ok(false) => wrong += 1,
                // It left, or speaks something else.
                Err(_) => {}
            }
            if wrong >= WRONG {
                return Err(TicketError::Wrong);
            }
        };
        drop(self.listener);
        let screen = entered(screen).map_err(TicketError::Screen)?;
        if viewer.write_all(&[0; 4]).is_err() {
            return Ok(());
        }
        relay(viewer, screen).map_err(TicketError::Io)
    }

    /// Waits for a viewer; none when the time is over.
    fn next(&self, until: Instant) -> Result<Option<TcpStream>, TicketError> {
        loop {
            match self.listener.accept() {
                Ok((viewer, _)) => return Ok(Some(viewer)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // It has left already.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TicketError::Io(e)),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(TicketError::Io(e.into())),
            }
        }
    }
}

/// Asks a viewer for its ticket. It is told that it is right by [`Gate::serve`].
fn admit(mut viewer: &TcpStream, ticket: &Ticket, until: Instant) -> io::Result<bool> {
    viewer.set_nonblocking(false)?;
    let left = until.saturating_duration_since(Instant::now());
    // One that says nothing keeps the others waiting no longer than this, for each of its words.
    let patience = left.min(HANDSHAKE).max(Duration::from_millis(1));
    viewer.set_read_timeout(Some(patience))?;
    viewer.set_write_timeout(Some(patience))?;
    viewer.write_all(VERSION)?;
    let mut version = [0; 12];
    viewer.read_exact(&mut version)?;
    let modern = &version == VERSION;
    if !modern && &version != b"RFB 003.007\n" {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // One way to be let in: by password.
    viewer.write_all(&[1, 2])?;
    let mut chosen = [0];
    viewer.read_exact(&mut chosen)?;
    if chosen != [2] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut challenge = [0; 16];
    getrandom(&mut challenge, GetRandomFlags::empty())?;
    viewer.write_all(&challenge)?;
    let mut answer = [0; 16];
    viewer.read_exact(&mut answer)?;
    if answer == ticket.answer(challenge) {
        viewer.set_read_timeout(None)?;
        viewer.set_write_timeout(None)?;
        return Ok(true);
    }
    let reason = b"this is not the ticket";
    let mut no = vec![0, 0, 0, 1];
    if modern {
        no.extend((reason.len() as u32).to_be_bytes());
        no.extend(reason);
    }
    viewer.write_all(&no)?;
    Ok(false)
}

/// Goes through the machine's own handshake, which asks for nothing.
fn entered(path: &Path) -> io::Result<UnixStream> {
    let mut screen = UnixStream::connect(path)?;
    screen.set_read_timeout(Some(HANDSHAKE))?;
    screen.set_write_timeout(Some(HANDSHAKE))?;
    let mut version = [0; 12];
    screen.read_exact(&mut version)?;
    screen.write_all(VERSION)?;
    let mut count = [0];
    screen.read_exact(&mut count)?;
    let mut kinds = vec![0; count[0].into()];
    screen.read_exact(&mut kinds)?;
    if !kinds.contains(&1) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    screen.write_all(&[1])?;
    let mut result = [0; 4];
    screen.read_exact(&mut result)?;
    if result != [0; 4] {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    screen.set_read_timeout(None)?;
    screen.set_write_timeout(None)?;
    Ok(screen)
}

/// Hands on what either says until one of them leaves.
fn relay(viewer: TcpStream, screen: UnixStream) -> io::Result<()> {
    viewer.set_nodelay(true)?;
    let (mut typed, mut to_screen) = (viewer.try_clone()?, screen.try_clone()?);
    let (mut drawn, mut to_viewer) = (screen, viewer);
    let keys = thread::spawn(move || {
        let _ = io::copy(&mut typed, &mut to_screen);
        let _ = to_screen.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut drawn, &mut to_viewer);
    let _ = to_viewer.shutdown(Shutdown::Both);
    let _ = keys.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_one_that_every_viewer_gives() {
        // The key of DES's first example, 133457799bbcdff1, with the bits of each byte reversed.
        let key = [0x13, 0x34, 0x57, 0x79, 0x9b, 0xbc, 0xdf, 0xf1u8].map(u8::reverse_bits);
        let half = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        let told = [0x85, 0xe8, 0x13, 0x54, 0x0f, 0x0a, 0xb4, 0x05];
        let mut challenge = [0; 16];
        challenge[..8].copy_from_slice(&half);
        challenge[8..].copy_from_slice(&half);
        let answer = Ticket(key).answer(challenge);
        assert_eq!((&answer[..8], &answer[8..]), (&told[..], &told[..]));
    }

    #[test]
    fn tickets_are_eight_letters_and_never_the_same() {
        let [a, b] = [Ticket::new(), Ticket::new()].map(|t| t.expect("drawn").text());
        assert_eq!(a.len(), 8);
        assert!(a.bytes().all(|b| b.is_ascii_alphanumeric()) && a != b);
    }

    #[test]
    fn nobody_and_nonsense_leave_the_gate_as_it_is_until_its_time_is_over() {
        let gate = Gate::open(0).expect("a port");
        let address = gate.address().expect("bound");
        assert!(address.ip().is_loopback());
        let taken = Gate::open(address.port()).expect_err("taken");
        assert!(matches!(taken, TicketError::Listen { .. }));
        let ticket = Ticket::new().expect("drawn");
        let limit = Duration::from_millis(500);
        let waits = thread::spawn(move || gate.serve(Path::new("/nowhere"), &ticket, limit));
        for nonsense in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"RFB 003.003\n"] {
            if let Ok(mut viewer) = TcpStream::connect(address) {
                let _ = viewer.write_all(nonsense);
            }
        }
        let ended = waits.join().expect("no panic");
        assert!(matches!(ended, Err(TicketError::Late(_))), "{ended:?}");
    }
}
