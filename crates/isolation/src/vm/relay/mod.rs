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
//! relay: the host trusts nothing that a guest says. Nor does it wait for it:
//! what a guest does not take is queued, and while it takes nothing, nothing
//! more is heard of it. (The guest always hears its host, so that never both wait.)

mod channel;
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::protocol::Reply;
use crate::wire::{Frame, Wire};
use channel::Channel;
use words::{Head, Passed, Way};

pub(super) use words::Word;

/// How many bytes of one channel may be under way.
const WINDOW: usize = 64 << 10;
/// Above this no more is read of what goes out slowly.
const FULL: usize = 1 << 20;
/// The most channels at a time: a rank has three, and a channel for its launcher.
const MAX_CHANNELS: usize = 16 << 10;
/// The largest frame of a guest: the names of a folder.
const MAX_OF_GUEST: usize = 6 << 20;
/// The most bytes of ends that wait for output that came before them: those of
/// as many ranks as there may be.
const MAX_HELD: usize = 32 << 20;
/// The most bytes that wait for a guest. Its supervisor asks for little at a time.
const MAX_QUEUED: usize = 64 << 20;
/// How many pieces are heard at a turn, before others have theirs.
const PIECES: usize = 8;
/// How long a supervisor may take nothing before it is told of the end of all.
const STUCK: Duration = Duration::from_secs(1);
/// How often a guest is told the time while nothing else is said.
pub(super) const CLOCK_EVERY: Duration = Duration::from_secs(60);
/// How old it may be when a program starts.
const CLOCK_FRESH: Duration = Duration::from_secs(1);

/// Which side of the border a relay is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Beside the supervisor.
    Host,
    /// Beside the init.
    Guest,
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
    held_bytes: usize,
    /// How many answers to a spawn are due.
    spawns: usize,
    /// The supervisor has asked for the end.
    stopping: bool,
    /// The supervisor has asked for what was changed.
    collecting: bool,
    /// A message has come from the other side.
    heard: bool,
    /// The other side has said that all is over.
    over: bool,
    /// Nothing happened in the last turn.
    idle: bool,
    /// When the other side was last told the time.
    told: Option<Instant>,
    /// The time that the host has told.
    time: Option<Duration>,
}

/// Whether a relay goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It does.
    On,
    /// Its neighbour has ended, or all is over on the other side.
    Over,
}

impl Side {
    /// Takes the way to the other relay, and no more over it than it may say.
    fn hears(self, other: Wire) -> Wire {
        match self {
            Self::Host => other.limited(MAX_OF_GUEST),
            Self::Guest => other,
        }
    }
}

impl Relay {
    /// Takes another way to the other relay, which has said nothing yet.
    pub(super) fn reach(&mut self, other: Wire) {
        self.other = self.side.hears(other);
    }

    /// Puts a relay between a neighbour and the other relay.
    pub(super) fn new(side: Side, neighbour: Wire, other: Wire) -> Self {
        Self {
            side,
            neighbour: Some(neighbour),
            other: side.hears(other),
            channels: BTreeMap::new(),
            // Each side numbers its own: the host's are even. 0 is for data of the messages.
            next: match side {
                Side::Host => 2,
                Side::Guest => 1,
            },
            held: VecDeque::new(),
            held_bytes: 0,
            spawns: 0,
            stopping: false,
            collecting: false,
            heard: false,
            over: false,
            idle: false,
            told: None,
            time: None,
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
        self.tell_time(CLOCK_EVERY)?;
        let on = |yes: bool, flag| if yes { flag } else { PollFlags::empty() };
        let roomy = self.other.queued() < FULL;
        let mut fds: Vec<PollFd<'_>> = also
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let hears_other = self.side == Side::Guest || (roomy && self.waiting() < FULL);
        let flags = on(hears_other, PollFlags::IN) | on(self.other.queued() > 0, PollFlags::OUT);
        fds.push(PollFd::from_borrowed_fd(self.other.as_fd(), flags));
        // A supervisor is never held up; an init may be.
        let hears = self.side == Side::Host || (roomy && self.held_bytes < MAX_HELD);
        if let Some(neighbour) = &self.neighbour {
            let flags = on(hears, PollFlags::IN) | on(neighbour.queued() > 0, PollFlags::OUT);
            fds.push(PollFd::from_borrowed_fd(neighbour.as_fd(), flags));
        }
        let mut watched = Vec::new();
        for (&number, channel) in &self.channels {
            let Some(file) = &channel.file else { continue };
            let reads = channel.sends && channel.credit > 0 && roomy;
            let flags = on(reads, PollFlags::IN) | on(!channel.pending.is_empty(), PollFlags::OUT);
            if !flags.is_empty() {
                fds.push(PollFd::from_borrowed_fd(file.as_fd(), flags));
                watched.push(number);
            }
        }
        match poll(&mut fds, limit) {
            Ok(woken) => self.idle = woken == 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let mut at = also.len();
        let mut take = || {
            at += 1;
            ready[at - 1]
        };
        let comes = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        if take().intersects(comes) {
            self.hear_other()?;
        }
        let heard = self.neighbour.is_some() && take().intersects(comes);
        for number in watched {
            let flags = take();
            if flags.contains(PollFlags::OUT) {
                self.with(number, Channel::empty)?;
            }
            if flags.intersects(comes) {
                self.with(number, Channel::fill)?;
            }
        }
        let left = self.neighbour.as_ref().is_some_and(Wire::holds_input);
        if heard || (hears && left) {
            self.hear_neighbour()?;
        }
        self.release_held()?;
        self.flush()?;
        let done = match self.side {
            Side::Host => self.over && self.is_drained(),
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

    /// Tells whether the supervisor has asked for the end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Tells whether the supervisor has asked for what was changed.
    pub(super) fn is_collecting(&self) -> bool {
        self.collecting
    }

    /// Tells whether a message has come from the other side.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Tells whether nothing happened in the last turn, up to its limit.
    pub(super) fn is_idle(&self) -> bool {
        self.idle
    }

    /// Gives the time that the host has told, once.
    pub(super) fn take_time(&mut self) -> Option<Duration> {
        self.time.take()
    }

    /// Hears what a guest that is gone has said before.
    pub(super) fn hear_rest(&mut self) {
        while let Ok(true) = self.hear_piece() {}
    }

    /// Passes on what has come from a guest that is gone, and tells the
    /// supervisor why it is. Waits only for one that takes something.
    pub(super) fn finish(&mut self, why: &Reply) -> io::Result<()> {
        let mut why = Some(why);
        for channel in self.channels.values_mut() {
            channel.cut();
        }
        let mut moved = Instant::now();
        let mut before = usize::MAX;
        loop {
            for channel in self.channels.values_mut() {
                channel.empty(&mut self.other)?;
            }
            self.release_held()?;
            let pending: usize = self.channels.values().map(|c| c.pending.len()).sum();
            let left = pending + self.held_bytes;
            if left < before {
                (before, moved) = (left, Instant::now());
            }
            let stuck = moved.elapsed() > STUCK;
            if let Some(why) = why.take_if(|_| left == 0 || stuck) {
                self.tell(why)?;
            }
            let Some(neighbour) = &mut self.neighbour else {
                return Ok(());
            };
            neighbour.flush()?;
            if why.is_none() && (neighbour.queued() == 0 || stuck) {
                return Ok(());
            }
            let flags = match neighbour.queued() {
                0 => PollFlags::empty(),
                _ => PollFlags::OUT,
            };
            let mut fds = vec![PollFd::from_borrowed_fd(neighbour.as_fd(), flags)];
            let waiting = self.channels.values().filter(|c| !c.pending.is_empty());
            let files = waiting.filter_map(|c| c.file.as_ref());
            fds.extend(files.map(|f| PollFd::from_borrowed_fd(f.as_fd(), PollFlags::OUT)));
            let tick = Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            };
            poll(&mut fds, Some(&tick))?;
            if fds[0].revents().contains(PollFlags::HUP) {
                return Ok(());
            }
        }
    }

    /// Queues a message of this relay's own for the neighbour.
    fn tell(&mut self, reply: &Reply) -> io::Result<()> {
        match &mut self.neighbour {
            Some(neighbour) => neighbour.queue(reply),
            None => Ok(()),
        }
    }

    /// How many bytes wait for the neighbour.
    fn waiting(&self) -> usize {
        self.neighbour.as_ref().map_or(0, Wire::queued)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(neighbour) = &mut self.neighbour {
            // That it is gone is noticed when it is read.
            let _ = neighbour.flush();
        }
        self.other.flush()?;
        match self.side {
            Side::Host if self.other.queued() > MAX_QUEUED => Err(nonsense()),
            _ => Ok(()),
        }
    }

    fn hear_neighbour(&mut self) -> io::Result<()> {
        while let Some(neighbour) = &mut self.neighbour {
            match neighbour.try_receive_frame() {
                Ok(Some(Frame::Message(json))) => {
                    let head = Head::of(&json)?;
                    let files = match head.has_files() {
                        true => neighbour.take_fds(),
                        false => Vec::new(),
                    };
                    self.spawns += usize::from(head.ask == "spawn");
                    self.stopping |= head.ask == "stop";
                    self.collecting |= head.ask == "collect";
                    if head.is_event() {
                        self.hold(json)?;
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
            if self.side == Side::Guest && self.other.queued() >= FULL {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends a message, and keeps its files as channels.
    fn pass(&mut self, json: Vec<u8>, files: Vec<OwnedFd>) -> io::Result<()> {
        self.tell_time(CLOCK_FRESH)?;
        let mut channels = Vec::with_capacity(files.len());
        for file in files {
            let way = Way::of(&file)?;
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

    /// Tells a guest that is up what time it is, unless that was done lately. It knows
    /// the time to a second when it starts, and loses what its host sleeps.
    fn tell_time(&mut self, lately: Duration) -> io::Result<()> {
        let due = self.told.is_none_or(|at| at.elapsed() >= lately);
        if self.side == Side::Guest || !self.heard || !due {
            return Ok(());
        }
        self.told = Some(Instant::now());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.other.queue(&Word::Clock {
            now: now.unwrap_or_default(),
        })
    }

    fn keep(&mut self, number: u32, file: OwnedFd, sends: bool, takes: bool) -> io::Result<()> {
        if self.channels.len() >= MAX_CHANNELS || self.channels.contains_key(&number) {
            return Err(nonsense());
        }
        let channel = Channel::new(number, file, sends, takes)?;
        self.channels.insert(number, channel);
        Ok(())
    }

    /// Does something with a channel, and forgets it when it is done.
    fn with(
        &mut self,
        number: u32,
        act: impl FnOnce(&mut Channel, &mut Wire) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(channel) = self.channels.get_mut(&number) {
            act(channel, &mut self.other)?;
            if channel.is_done() {
                self.channels.remove(&number);
            }
        }
        Ok(())
    }

    fn hear_other(&mut self) -> io::Result<()> {
        for _ in 0..PIECES {
            if !self.hear_piece()? {
                break;
            }
        }
        Ok(())
    }

    /// Hears what comes at once; tells whether anything did. No whole frame is
    /// left lying: nothing would tell that it is there.
    fn hear_piece(&mut self) -> io::Result<bool> {
        let came = self.other.listen()?;
        while let Some(frame) = self.other.pop()? {
            match frame {
                Frame::Data(0, bytes) => {
                    if let Some(neighbour) = &mut self.neighbour {
                        neighbour.queue_data(0, &bytes);
                    }
                }
                Frame::Data(number, bytes) => {
                    self.known(number)?;
                    self.with(number, |channel, other| channel.take(bytes, other))?;
                }
                Frame::Message(json) => {
                    self.obey(serde_json::from_slice(&json).map_err(|_| nonsense())?)?;
                }
            }
        }
        Ok(came)
    }

    fn known(&self, number: u32) -> io::Result<()> {
        let known = self.channels.contains_key(&number);
        known.then_some(()).ok_or_else(nonsense)
    }

    fn obey(&mut self, word: Word) -> io::Result<()> {
        match word {
            Word::Pass { message, channels } => self.deliver(message.into_bytes(), &channels),
            Word::End { channel } => {
                self.known(channel)?;
                self.with(channel, Channel::ended)
            }
            // Of one that has ended meanwhile both may still be on their way.
            Word::Gone { channel } => self.with(channel, Channel::gone),
            Word::Took { channel, bytes } => self.with(channel, |c, _| c.took(bytes)),
            Word::Over if self.side == Side::Host => {
                self.over = true;
                Ok(())
            }
            Word::Clock { now } if self.side == Side::Guest => {
                self.time = Some(now);
                Ok(())
            }
            Word::Over | Word::Clock { .. } => Err(nonsense()),
        }
    }

    /// Brings the neighbour a message of the other side's.
    fn deliver(&mut self, message: Vec<u8>, channels: &[Passed]) -> io::Result<()> {
        self.heard = true;
        if self.side == Side::Host {
            let head = Head::of(&message)?;
            let asked = match &*head.say {
                "spawned" | "spawn-failed" => self.spawns.checked_sub(1),
                _ => Some(self.spawns),
            };
            let fitting = match channels {
                [] => !head.has_terminal(),
                [one] => head.has_terminal() && one.way == Way::Both,
                _ => false,
            };
            if head.is_of_host() || !fitting {
                return Err(nonsense());
            }
            self.spawns = asked.ok_or_else(nonsense)?;
            if head.is_event() {
                return self.hold(message);
            }
        }
        let files = channels.iter().map(|passed| self.accept(*passed));
        let files = files.collect::<io::Result<Vec<_>>>()?;
        match &mut self.neighbour {
            Some(neighbour) => neighbour.queue_raw(&message, files),
            None => Ok(()),
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

    /// Keeps an end until all that was written before it has gone on.
    fn hold(&mut self, json: Vec<u8>) -> io::Result<()> {
        self.held_bytes += json.len();
        self.held.push_back(json);
        match self.side {
            Side::Host if self.held_bytes > MAX_HELD => Err(nonsense()),
            _ => Ok(()),
        }
    }

    /// Lets ends go on when all that was written before them has.
    fn release_held(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let clear = match self.side {
            Side::Host => self.is_drained(),
            Side::Guest => self.all_read()?,
        };
        while clear && self.waiting() < FULL {
            let Some(json) = self.held.pop_front() else {
                break;
            };
            self.held_bytes -= json.len();
            match (self.side, &mut self.neighbour) {
                (Side::Guest, _) => self.pass(json, Vec::new())?,
                (Side::Host, Some(neighbour)) => neighbour.queue_raw(&json, Vec::new())?,
                (Side::Host, None) => {}
            }
        }
        Ok(())
    }

    /// Tells whether files have taken all that came for them.
    fn is_drained(&self) -> bool {
        let mut channels = self.channels.values();
        channels.all(|channel| channel.pending.is_empty())
    }

    /// Reads what files have, and tells whether that was all.
    fn all_read(&mut self) -> io::Result<bool> {
        let numbers: Vec<u32> = self.channels.keys().copied().collect();
        for &number in &numbers {
            self.with(number, Channel::fill)?;
        }
        let mut waiting = self.channels.values().filter(|c| c.sends);
        // One without credit may have more.
        Ok(waiting.all(|c| c.credit > 0) && self.other.queued() < FULL)
    }
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
