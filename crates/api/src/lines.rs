//! JSON over a stream socket, one value a line.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How much is read at once, in bytes.
const PIECE: usize = 16 << 10;
/// The longest line, in bytes: a script of 4 MiB, escaped, and an environment.
const LONGEST: usize = 32 << 20;

/// One end of a connection. Nothing waits but [`Lines::say`] and [`Lines::hear`].
#[derive(Debug)]
pub struct Lines {
    stream: UnixStream,
    came: Vec<u8>,
    /// How much of that has been looked at.
    seen: usize,
    left: Vec<u8>,
    longest: usize,
}

impl Lines {
    /// Takes a connection.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            came: Vec::new(),
            seen: 0,
            left: Vec::new(),
            longest: LONGEST,
        })
    }

    /// Hears no line that is longer than so many bytes.
    #[must_use]
    pub fn at_most(mut self, longest: usize) -> Self {
        self.longest = longest;
        self
    }

    /// Tells how much has come that is no whole value yet, in bytes.
    pub fn unheard(&self) -> usize {
        self.came.len()
    }

    /// Puts a value behind what is to be sent.
    ///
    /// # Errors
    /// `InvalidData` when it cannot be written as JSON.
    pub fn queue(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.left, value)?;
        self.left.push(b'\n');
        Ok(())
    }

    /// Sends as much as is taken just now.
    ///
    /// # Errors
    /// The kernel's: `BrokenPipe` when nobody listens any more.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let done = loop {
            if sent == self.left.len() {
                break Ok(());
            }
            match self.stream.write(&self.left[sent..]) {
                Ok(0) => break Err(io::ErrorKind::BrokenPipe.into()),
                Ok(written) => sent += written,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        self.left.drain(..sent);
        done
    }

    /// Tells how much is still to be sent, in bytes.
    pub fn unsent(&self) -> usize {
        self.left.len()
    }

    /// Gives the next value that has come whole; reads what there is.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone, `InvalidData` when it speaks nonsense.
    pub fn try_hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(at) = self.came[self.seen..].iter().position(|&b| b == b'\n') {
                let end = self.seen + at;
                let value = serde_json::from_slice(&self.came[..end]);
                self.came.drain(..=end);
                self.seen = 0;
                return Ok(Some(value?));
            }
            self.seen = self.came.len();
            if self.seen > self.longest {
                return Err(io::ErrorKind::InvalidData.into());
            }
            // Only what comes is written to, and takes memory.
            self.came.reserve(PIECE);
            let room = rustix::buffer::spare_capacity(&mut self.came);
            match rustix::io::read(&self.stream, room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sends a value, and waits until it is sent.
    ///
    /// # Errors
    /// As [`Lines::flush`].
    pub fn say(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.queue(value)?;
        loop {
            self.flush()?;
            if self.left.is_empty() {
                return Ok(());
            }
            self.wait(PollFlags::OUT, None)?;
        }
    }

    /// Waits for the next value.
    ///
    /// # Errors
    /// As [`Lines::try_hear`].
    pub fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        loop {
            if let Some(value) = self.try_hear()? {
                return Ok(value);
            }
            self.wait(PollFlags::IN, None)?;
        }
    }

    fn wait(&self, flags: PollFlags, limit: Option<&Timespec>) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.stream, flags)], limit) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Lines, Lines) {
        let (one, other) = UnixStream::pair().expect("a pair");
        (
            Lines::new(one).expect("one"),
            Lines::new(other).expect("other"),
        )
    }

    #[test]
    fn values_come_as_they_were_sent_whatever_is_in_them() {
        let (mut here, mut there) = pair();
        let long = "line\nnext \u{2028} \"quoted\" ".repeat(20_000);
        let sent = ["", "a\nb", long.as_str()];
        let sender = std::thread::spawn({
            let sent = sent.map(str::to_owned);
            move || sent.iter().for_each(|value| here.say(value).expect("sent"))
        });
        for value in sent {
            assert_eq!(there.hear::<String>().expect("heard"), value);
        }
        sender.join().expect("the sender ends");
        let gone = there.hear::<String>().expect_err("nobody there");
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nonsense_is_told_apart_from_a_silent_end() {
        let (mut here, mut there) = pair();
        assert!(there.try_hear::<u32>().expect("nothing yet").is_none());
        here.say(&"seven").expect("sent");
        let error = there.hear::<u32>().expect_err("no number");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
