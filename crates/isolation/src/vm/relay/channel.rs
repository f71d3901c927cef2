//! One open file that is here, and something that stands for it over there.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::words::Word;
use super::{FULL, WINDOW, nonsense};
use crate::wire::Wire;

/// How much is read at once.
const PIECE: usize = 16 << 10;

/// What goes through one file.
pub(super) struct Channel {
    number: u32,
    /// None when nothing goes through it any more.
    pub(super) file: Option<OwnedFd>,
    /// What comes out of the file is sent; its end has not been told.
    pub(super) sends: bool,
    /// What is sent goes into the file.
    takes: bool,
    /// The other side has not told its end.
    expects: bool,
    /// What the file has not taken yet.
    pub(super) pending: VecDeque<u8>,
    /// How much the other side takes now.
    pub(super) credit: usize,
    /// How much the other side may still send.
    granted: usize,
    /// What was taken and has not been told.
    taken: usize,
}

impl Channel {
    /// Takes charge of a file.
    pub(super) fn new(number: u32, file: OwnedFd, sends: bool, takes: bool) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | OFlags::NONBLOCK)?;
        Ok(Self {
            number,
            file: Some(file),
            sends,
            takes,
            expects: takes,
            pending: VecDeque::new(),
            credit: WINDOW,
            granted: WINDOW,
            taken: 0,
        })
    }

    /// Tells whether both sides have said that nothing more comes.
    pub(super) fn is_done(&self) -> bool {
        self.file.is_none() && !self.expects
    }

    /// Reads what the file has, and sends it.
    pub(super) fn fill(&mut self, other: &mut Wire) -> io::Result<()> {
        let mut piece = [0; PIECE];
        while self.sends && self.credit > 0 && other.queued() < FULL {
            let Some(file) = &self.file else { break };
            let want = self.credit.min(PIECE);
            match rustix::io::read(file, &mut piece[..want]) {
                Ok(got @ 1..) => {
                    self.credit -= got;
                    other.queue_data(self.number, &piece[..got]);
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // A terminal whose program has gone says EIO.
                Ok(0) | Err(_) => self.end(other)?,
            }
        }
        self.settle();
        Ok(())
    }

    /// Takes bytes from the other side.
    pub(super) fn take(&mut self, bytes: Vec<u8>, other: &mut Wire) -> io::Result<()> {
        if !self.expects || bytes.len() > self.granted {
            return Err(nonsense());
        }
        self.granted -= bytes.len();
        if self.takes {
            self.pending.extend(bytes);
        }
        self.empty(other)
    }

    /// Writes what waits for the file.
    pub(super) fn empty(&mut self, other: &mut Wire) -> io::Result<()> {
        while let (false, Some(file)) = (self.pending.is_empty(), &self.file) {
            let (first, _) = self.pending.as_slices();
            match rustix::io::write(file, first) {
                Ok(written) => {
                    self.pending.drain(..written);
                    self.taken += written;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Nobody reads it any more: the program over there is to notice.
                Err(_) => {
                    self.pending.clear();
                    self.takes = false;
                    if self.expects {
                        let channel = self.number;
                        other.queue(&Word::Gone { channel })?;
                    }
                }
            }
        }
        // Not at each byte: the other side has most of its window left.
        if self.expects && self.takes && self.taken >= WINDOW / 4 {
            let (channel, bytes) = (self.number, std::mem::take(&mut self.taken));
            self.granted += bytes;
            other.queue(&Word::Took { channel, bytes })?;
        }
        self.settle();
        Ok(())
    }

    /// The other side has told its end.
    pub(super) fn ended(&mut self, other: &mut Wire) -> io::Result<()> {
        if !std::mem::take(&mut self.expects) {
            return Err(nonsense());
        }
        self.empty(other)
    }

    /// The other side takes nothing more.
    pub(super) fn gone(&mut self, other: &mut Wire) -> io::Result<()> {
        if self.sends {
            self.end(other)?;
            if let Some(file) = self.file.as_ref().filter(|_| self.takes) {
                // Whoever writes to it is to notice. A terminal has no such half.
                let _ = shutdown(file, Shutdown::Read);
            }
            self.settle();
        }
        Ok(())
    }

    /// The other side has taken bytes.
    pub(super) fn took(&mut self, bytes: usize) -> io::Result<()> {
        let all = self.credit.checked_add(bytes);
        self.credit = all.filter(|&all| all <= WINDOW).ok_or_else(nonsense)?;
        Ok(())
    }

    /// There is no other side any more.
    pub(super) fn cut(&mut self) {
        (self.sends, self.expects) = (false, false);
        self.settle();
    }

    fn end(&mut self, other: &mut Wire) -> io::Result<()> {
        self.sends = false;
        let channel = self.number;
        other.queue(&Word::End { channel })
    }

    /// Closes what is at its end.
    fn settle(&mut self) {
        if self.takes && !self.expects && self.pending.is_empty() {
            self.takes = false;
            if let Some(file) = self.file.as_ref().filter(|_| self.sends) {
                // A terminal has no such half, and needs none.
                let _ = shutdown(file, Shutdown::Write);
            }
        }
        if !self.takes && !self.sends {
            self.file = None;
        }
    }
}
