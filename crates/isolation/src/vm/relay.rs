//! Carries the talk of a supervisor and an init across the border of a machine,
//! where no open file can go along.
//!
//! One relay sits at each side, beside the supervisor and beside the init. To
//! its neighbour it speaks over a Unix socket as the other would, with open
//! files; to the other relay over a stream of bytes (virtio-serial). A file
//! that comes with a message is kept here, and the other side makes a pipe or a
//! socket in its place; what goes through it travels as data of a channel.
//!
//! ```text
//! supervisor ══ Wire, files ══ relay ── frames ── relay ══ Wire, files ══ init
//!              (host)                 virtio-serial            (guest)
//! ```
//!
//! What is under way on a channel is bounded: a side sends no more than
//! [`WINDOW`] bytes that the other has not reported as taken. A peer that sends
//! more, or speaks of what does not exist, speaks nonsense, and that ends the
//! relay: the host trusts nothing that a guest says.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use serde::{Deserialize, Serialize};

use crate::protocol::Reply;
use crate::wire::{Frame, Wire};

/// How many bytes of one channel may be under way.
const WINDOW: usize = 256 << 10;
/// How much is read at once.
const PIECE: usize = 16 << 10;
/// Above this nothing more is read: the other side is slow to take it.
const FULL: usize = 1 << 20;
/// The most channels at a time: a rank has three, and a channel for its launcher.
const MAX_CHANNELS: usize = 16 << 10;
/// How many ends may wait for output that came before them.
const MAX_HELD: usize = 1 << 20;

/// What one relay says to the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "relay")]
pub(super) enum Word {
    /// A message of a neighbour, and what its files are.
    Pass {
        /// As it came.
        message: String,
        /// One for each file, in order.
        channels: Vec<Passed>,
    },
    /// Nothing more comes on a channel.
    End {
        /// Which.
        channel: u32,
    },
    /// Nobody takes what comes on a channel any more.
    Gone {
        /// Which.
        channel: u32,
    },
    /// Bytes of a channel have been taken.
    Took {
        /// Which.
        channel: u32,
        /// How many.
        bytes: usize,
    },
    /// The init has ended, and all that it and its programs said is before this.
    Over,
}

impl Word {
    /// Makes the word that brings an answer of the guest's own to the supervisor.
    pub(super) fn answer(reply: &Reply) -> io::Result<Self> {
        Ok(Self::Pass {
            message: serde_json::to_string(reply)?,
            channels: Vec::new(),
        })
    }
}

/// What stands for an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Passed {
    /// Its channel.
    channel: u32,
    /// Which ways bytes go.
    way: Way,
}

/// Which ways bytes go, as the process sees it that gets the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// It reads.
    In,
    /// It writes.
    Out,
    /// Both: a socket or a terminal.
    Both,
    /// None: it is the null device.
    Null,
}

/// Which side of the border a relay is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Beside the supervisor.
    Host,
    /// Beside the init.
    Guest,
}

struct Channel {
    /// None when nothing goes on here any more.
    file: Option<OwnedFd>,
    /// What comes out of the file is sent.
    sends: bool,
    /// What is sent goes into the file.
    takes: bool,
    /// What the file has not taken yet.
    pending: VecDeque<u8>,
    /// Nothing more comes from the other side.
    ended: bool,
    /// How much the other side takes now.
    credit: usize,
}

/// One side.
pub(super) struct Relay {
    side: Side,
    neighbour: Option<Wire>,
    pub(super) other: Wire,
    channels: BTreeMap<u32, Channel>,
    next: u32,
    /// Ends that wait for what was written before them.
    held: VecDeque<Vec<u8>>,
    /// Something has come from the other side.
    heard: bool,
    /// The other side has said that all is over.
    over: bool,
}

/// Whether a relay goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It does.
    On,
    /// Its neighbour has ended, or all is over on the other side.
    Over,
}

impl Relay {
    /// Puts a relay between a neighbour and the other relay.
    pub(super) fn new(side: Side, neighbour: Wire, other: Wire) -> Self {
        Self {
            side,
            neighbour: Some(neighbour),
            other,
            channels: BTreeMap::new(),
            // Each side numbers its own: the host's are even. 0 is for data of the messages.
            next: match side {
                Side::Host => 2,
                Side::Guest => 1,
            },
            held: VecDeque::new(),
            heard: false,
            over: false,
        }
    }

    /// Waits for something to happen, to these as well, and deals with it;
    /// tells which of these are ready.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other side is gone, `InvalidData` when it or the
    /// neighbour speaks nonsense; else the kernel's.
    pub(super) fn turn(
        &mut self,
        also: &[BorrowedFd<'_>],
        limit: Option<&Timespec>,
    ) -> io::Result<(Course, Vec<bool>)> {
        let roomy = self.other.queued() < FULL;
        let mut fds: Vec<PollFd<'_>> = also
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, self.other.queued() > 0);
        fds.push(PollFd::from_borrowed_fd(self.other.as_fd(), flags));
        let mut listens = PollFlags::empty();
        listens.set(PollFlags::IN, roomy && self.held.len() < MAX_HELD);
        let neighbour = self.neighbour.as_ref().filter(|_| !listens.is_empty());
        fds.extend(neighbour.map(|n| PollFd::from_borrowed_fd(n.as_fd(), listens)));
        let hears = neighbour.is_some();
        let mut watched = Vec::new();
        for (&number, channel) in &self.channels {
            let Some(file) = &channel.file else { continue };
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, channel.sends && channel.credit > 0 && roomy);
            flags.set(PollFlags::OUT, !channel.pending.is_empty());
            if !flags.is_empty() {
                fds.push(PollFd::from_borrowed_fd(file.as_fd(), flags));
                watched.push(number);
            }
        }
        match poll(&mut fds, limit) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let mut at = also.len();
        let mut take = || {
            at += 1;
            ready[at - 1]
        };
        if !take().is_empty() {
            self.other.flush()?;
            self.hear_other()?;
        }
        let heard = hears && !take().is_empty();
        for number in watched {
            let flags = take();
            if flags.contains(PollFlags::OUT) {
                self.empty(number)?;
            }
            if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.fill(number)?;
            }
        }
        if heard {
            self.hear_neighbour()?;
        }
        self.release_held()?;
        let done = match self.side {
            Side::Host => self.over && self.drained(),
            Side::Guest => self.neighbour.is_none() && self.held.is_empty() && self.all_read()?,
        };
        let course = if done { Course::Over } else { Course::On };
        let ready = ready[..also.len()].iter().map(|r| !r.is_empty());
        Ok((course, ready.collect()))
    }

    /// Tells whether the neighbour has ended.
    pub(super) fn is_left(&self) -> bool {
        self.neighbour.is_none()
    }

    /// Sends a message to the neighbour, as if the other side had.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn tell(&mut self, reply: &Reply) -> io::Result<()> {
        match &mut self.neighbour {
            Some(neighbour) => neighbour.send(reply, &[]),
            None => Ok(()),
        }
    }

    /// Tells whether anything has come from the other side.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    fn hear_neighbour(&mut self) -> io::Result<()> {
        while let Some(neighbour) = &mut self.neighbour {
            match neighbour.try_receive_frame() {
                Ok(Some(Frame::Message(json))) => {
                    let files = neighbour.take_fds();
                    if files.is_empty() && is_event(&json) {
                        self.held.push_back(json);
                    } else {
                        self.pass(json, files)?;
                    }
                }
                Ok(Some(Frame::Data(0, bytes))) => self.other.queue_data(0, &bytes),
                Ok(Some(Frame::Data(..))) => return Err(nonsense()),
                Ok(None) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => self.neighbour = None,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sends a message, and keeps its files as channels.
    fn pass(&mut self, json: Vec<u8>, files: Vec<OwnedFd>) -> io::Result<()> {
        let mut channels = Vec::with_capacity(files.len());
        for file in files {
            let way = way_of(&file)?;
            let channel = self.next;
            self.next = self.next.checked_add(2).ok_or_else(nonsense)?;
            if way != Way::Null {
                // What the process over there writes comes out here.
                let (sends, takes) = (way != Way::Out, way != Way::In);
                self.keep(channel, file, sends, takes)?;
            }
            channels.push(Passed { channel, way });
        }
        let message = String::from_utf8(json).map_err(|_| nonsense())?;
        self.other.queue(&Word::Pass { message, channels })
    }

    fn keep(&mut self, number: u32, file: OwnedFd, sends: bool, takes: bool) -> io::Result<()> {
        if self.channels.len() >= MAX_CHANNELS || self.channels.contains_key(&number) {
            return Err(nonsense());
        }
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | OFlags::NONBLOCK)?;
        let channel = Channel {
            file: Some(file),
            sends,
            takes,
            pending: VecDeque::new(),
            ended: !takes,
            credit: WINDOW,
        };
        self.channels.insert(number, channel);
        Ok(())
    }

    fn hear_other(&mut self) -> io::Result<()> {
        while let Some(frame) = self.other.try_receive_frame()? {
            self.heard = true;
            match frame {
                Frame::Data(0, bytes) => {
                    if let Some(neighbour) = &mut self.neighbour {
                        neighbour.send_data(0, &bytes)?;
                    }
                }
                Frame::Data(number, bytes) => {
                    let channel = self.channels.get_mut(&number).ok_or_else(nonsense)?;
                    let room = WINDOW - channel.pending.len().min(WINDOW);
                    if !channel.takes || channel.ended || bytes.len() > room {
                        return Err(nonsense());
                    }
                    channel.pending.extend(bytes);
                    self.empty(number)?;
                }
                Frame::Message(json) => self.obey(serde_json::from_slice(&json)?)?,
            }
        }
        Ok(())
    }

    fn obey(&mut self, word: Word) -> io::Result<()> {
        match word {
            Word::Pass { message, channels } => {
                let message = message.into_bytes();
                if channels.is_empty() && self.side == Side::Host && is_event(&message) {
                    self.held.push_back(message);
                    return Ok(());
                }
                let files = channels.into_iter().map(|passed| self.accept(passed));
                let files = files.collect::<io::Result<Vec<_>>>()?;
                let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                match &mut self.neighbour {
                    Some(neighbour) => neighbour.send_raw(&message, &borrowed),
                    None => Ok(()),
                }
            }
            Word::End { channel } => {
                let this = self.channels.get_mut(&channel).ok_or_else(nonsense)?;
                this.ended = true;
                self.empty(channel)
            }
            Word::Gone { channel } => {
                if let Some(this) = self.channels.get_mut(&channel) {
                    this.sends = false;
                    self.settle(channel);
                }
                Ok(())
            }
            Word::Took { channel, bytes } => {
                if let Some(this) = self.channels.get_mut(&channel) {
                    this.credit = this
                        .credit
                        .checked_add(bytes)
                        .filter(|&all| all <= WINDOW)
                        .ok_or_else(nonsense)?;
                }
                Ok(())
            }
            Word::Over if self.side == Side::Host => {
                self.over = true;
                Ok(())
            }
            Word::Over => Err(nonsense()),
        }
    }

    /// Makes what stands for a file of the other side, and gives the end that goes on.
    fn accept(&mut self, passed: Passed) -> io::Result<OwnedFd> {
        // Numbers of this side's own are not the other's to give.
        if passed.channel % 2 == self.next % 2 || passed.channel == 0 {
            return Err(nonsense());
        }
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (kept, given) = match passed.way {
            Way::Null => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                let mode = rustix::fs::Mode::empty();
                return Ok(rustix::fs::open("/dev/null", flags, mode)?);
            }
            Way::In => {
                let (read, write) = pipe()?;
                (write, read)
            }
            Way::Out => pipe()?,
            Way::Both => socketpair(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?,
        };
        let (sends, takes) = (passed.way != Way::In, passed.way != Way::Out);
        self.keep(passed.channel, kept, sends, takes)?;
        Ok(given)
    }

    /// Reads what a file has, and sends it.
    fn fill(&mut self, number: u32) -> io::Result<()> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let mut piece = [0; PIECE];
        while channel.sends && channel.credit > 0 && self.other.queued() < FULL {
            let Some(file) = &channel.file else { break };
            let want = channel.credit.min(PIECE);
            match rustix::io::read(file, &mut piece[..want]) {
                // A terminal whose program has gone says EIO.
                Ok(0) | Err(rustix::io::Errno::IO | rustix::io::Errno::CONNRESET) => {
                    channel.sends = false;
                    self.other.queue(&Word::End { channel: number })?;
                }
                Ok(got) => {
                    channel.credit -= got;
                    self.other.queue_data(number, &piece[..got]);
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.settle(number);
        self.other.flush()
    }

    /// Writes what waits for a file.
    fn empty(&mut self, number: u32) -> io::Result<()> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let mut took = 0;
        while let (false, Some(file)) = (channel.pending.is_empty(), &channel.file) {
            let (first, _) = channel.pending.as_slices();
            match rustix::io::write(file, first) {
                Ok(written) => {
                    channel.pending.drain(..written);
                    took += written;
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                // Nobody reads it any more: the program over there is to notice.
                Err(_) => {
                    took += channel.pending.len();
                    channel.pending.clear();
                    channel.takes = false;
                    channel.ended = true;
                    self.other.queue(&Word::Gone { channel: number })?;
                }
            }
        }
        if took > 0 {
            let bytes = took;
            let channel = number;
            self.other.queue(&Word::Took { channel, bytes })?;
        }
        self.settle(number);
        self.other.flush()
    }

    /// Closes what is at its end.
    fn settle(&mut self, number: u32) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        if !channel.ended || !channel.pending.is_empty() {
            return;
        }
        if !channel.sends {
            self.channels.remove(&number);
        } else if channel.takes {
            channel.takes = false;
            if let Some(file) = &channel.file {
                // A terminal has no such half, and needs none.
                let _ = shutdown(file, Shutdown::Write);
            }
        }
    }

    /// Lets ends go on when all that was written before them has.
    fn release_held(&mut self) -> io::Result<()> {
        while !self.held.is_empty() {
            let clear = match self.side {
                Side::Host => self.drained(),
                Side::Guest => self.all_read()?,
            };
            if !clear {
                return Ok(());
            }
            let Some(json) = self.held.pop_front() else {
                return Ok(());
            };
            match (self.side, &mut self.neighbour) {
                (Side::Guest, _) => self.pass(json, Vec::new())?,
                (Side::Host, Some(neighbour)) => neighbour.send_raw(&json, &[])?,
                (Side::Host, None) => {}
            }
        }
        self.other.flush()
    }

    /// Tells whether files have taken all that came for them.
    fn drained(&self) -> bool {
        let mut channels = self.channels.values();
        channels.all(|channel| channel.pending.is_empty())
    }

    /// Reads what files have, and tells whether that was all.
    fn all_read(&mut self) -> io::Result<bool> {
        let numbers: Vec<u32> = self.channels.keys().copied().collect();
        for &number in &numbers {
            self.fill(number)?;
        }
        let mut waiting = self.channels.values().filter(|c| c.sends);
        // One without credit may have more.
        Ok(waiting.all(|c| c.credit > 0) && self.other.queued() < FULL)
    }
}

/// Tells whether a message of an init is news and not an answer.
fn is_event(json: &[u8]) -> bool {
    matches!(serde_json::from_slice::<Reply>(json), Ok(Reply::Event(_)))
}

/// Finds out which way bytes go through a file, for the process that gets it.
fn way_of(file: &OwnedFd) -> io::Result<Way> {
    let stat = rustix::fs::fstat(file)?;
    let device = stat.st_rdev;
    if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (rustix::fs::major(device), rustix::fs::minor(device)) == (1, 3)
    {
        return Ok(Way::Null);
    }
    Ok(match rustix::fs::fcntl_getfl(file)? & OFlags::ACCMODE {
        OFlags::RDONLY => Way::In,
        OFlags::WRONLY => Way::Out,
        _ => Way::Both,
    })
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
