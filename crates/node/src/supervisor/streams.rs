//! What ranks write and read.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::clients::Clients;
use crate::log::{Stream, Writer};

/// How much of a rank's standard error is kept for telling why it failed.
const TAIL: usize = 4096;
/// How much is read of a pipe at once, in bytes.
const PIECE: usize = 64 << 10;
/// The most bytes that a pipe may hold, whatever the program makes of it.
const MAX_PIPE: usize = 1 << 20;
/// How much input is held for a program that does not read it.
const MAX_INPUT: usize = 1 << 20;

/// Whose bytes these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A rank's.
    Rank(u32),
    /// A command's beside the ranks, by its client.
    Exec(u64),
}

struct Source {
    owner: Owner,
    stream: Stream,
    fd: OwnedFd,
    file: Option<File>,
}

struct Sink {
    owner: Owner,
    fd: OwnedFd,
    queue: VecDeque<u8>,
    closing: bool,
}

/// All pipes and terminals of a job.
pub(super) struct Streams {
    log: Writer,
    /// The log could not be written (a full disk): output still reaches clients.
    log_failed: bool,
    sources: Vec<Source>,
    sinks: Vec<Sink>,
    /// Input of the first rank that has come before it, and whether that is all.
    early: Option<(VecDeque<u8>, bool)>,
    tails: std::collections::BTreeMap<u32, VecDeque<u8>>,
    pub(super) output_dir: Option<PathBuf>,
    /// The files of ranks that this job has made.
    written: BTreeSet<PathBuf>,
    /// Where a piece is read to. It stays: to give so much back at the end of the heap
    /// takes the kernel longer than to read it.
    piece: Vec<u8>,
}

impl Streams {
    pub(super) fn new(log: Writer) -> Self {
        Self {
            log,
            log_failed: false,
            sources: Vec::new(),
            sinks: Vec::new(),
            early: Some(Default::default()),
            tails: Default::default(),
            output_dir: None,
            written: BTreeSet::new(),
            piece: Vec::new(),
        }
    }

    /// Makes a pipe that a process writes to; gives its end of it.
    pub(super) fn output(&mut self, owner: Owner, stream: Stream) -> io::Result<OwnedFd> {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.add_source(owner, stream, ours)?;
        Ok(theirs)
    }

    /// Makes a pipe that a process reads from; gives its end of it.
    pub(super) fn input(&mut self, owner: Owner) -> io::Result<OwnedFd> {
        let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.add_sink(owner, ours)?;
        Ok(theirs)
    }

    /// Takes the supervisor's end of a terminal, for output and input.
    pub(super) fn terminal(&mut self, owner: Owner, master: OwnedFd) -> io::Result<()> {
        self.add_sink(owner, master.as_fd().try_clone_to_owned()?)?;
        self.add_source(owner, Stream::Out, master)
    }

    fn add_source(&mut self, owner: Owner, stream: Stream, fd: OwnedFd) -> io::Result<()> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        let file = match (&self.output_dir, owner) {
            (Some(dir), Owner::Rank(rank)) => {
                let suffix = if stream == Stream::Out { "out" } else { "err" };
                let path = dir.join(format!("rank.{rank}.{suffix}"));
                // What an earlier job wrote goes; what an earlier run of this one wrote stays.
                let again = !self.written.insert(path.clone());
                let mut options = File::options();
                options.create(true).write(true);
                Some(options.append(again).truncate(!again).open(path)?)
            }
            _ => None,
        };
        self.sources.push(Source {
            owner,
            stream,
            fd,
            file,
        });
        Ok(())
    }

    fn add_sink(&mut self, owner: Owner, fd: OwnedFd) -> io::Result<()> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        let early = match owner {
            Owner::Rank(0) => self.early.take(),
            _ => None,
        };
        let (queue, closing) = early.unwrap_or_default();
        self.sinks.push(Sink {
            owner,
            fd,
            queue,
            closing,
        });
        self.flush_input();
        Ok(())
    }

    /// Keeps no more input for a first rank that has started, or has none.
    pub(super) fn started(&mut self) {
        self.early = None;
    }

    /// Queues input.
    pub(super) fn feed(&mut self, owner: Owner, bytes: &[u8]) {
        if let Some(sink) = self
            .sinks
            .iter_mut()
            .find(|s| s.owner == owner && !s.closing)
        {
            sink.queue.extend(bytes);
        } else if let (Owner::Rank(0), Some((queue, _))) = (owner, &mut self.early) {
            queue.extend(bytes);
        }
        self.flush_input();
    }

    /// Ends the input once what is queued has been read.
    pub(super) fn end_input(&mut self, owner: Owner) {
        for sink in self.sinks.iter_mut().filter(|s| s.owner == owner) {
            sink.closing = true;
        }
        if let (Owner::Rank(0), Some((_, all))) = (owner, &mut self.early) {
            *all = true;
        }
        self.flush_input();
    }

    /// Tells whether more input can be taken.
    pub(super) fn takes_input(&self, owner: Owner) -> bool {
        let early = self.early.iter().all(|(queue, _)| queue.len() < MAX_INPUT);
        let mut sinks = self.sinks.iter();
        early && sinks.all(|s| s.owner != owner || s.queue.len() < MAX_INPUT)
    }

    fn flush_input(&mut self) {
        self.sinks.retain_mut(|sink| {
            while !sink.queue.is_empty() {
                match rustix::io::write(&sink.fd, sink.queue.as_slices().0) {
                    Ok(n) => drop(sink.queue.drain(..n)),
                    Err(rustix::io::Errno::AGAIN) => return true,
                    // The program has closed its input or is gone.
                    Err(_) => return false,
                }
            }
            !sink.closing
        });
    }

    /// Adds what is to be waited for; gives its place in the set.
    pub(super) fn poll_set<'a>(&'a self, fds: &mut Vec<PollFd<'a>>, read: bool) -> Range<usize> {
        let start = fds.len();
        let flags = if read {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        fds.extend(self.sources.iter().map(|s| PollFd::new(&s.fd, flags)));
        for sink in self.sinks.iter().filter(|s| !s.queue.is_empty()) {
            fds.push(PollFd::new(&sink.fd, PollFlags::OUT));
        }
        start..fds.len()
    }

    /// Reads what has come and passes it on.
    pub(super) fn serve(&mut self, ready: &[PollFlags], clients: &mut Clients) -> io::Result<()> {
        let readable: Vec<bool> = ready
            .iter()
            .take(self.sources.len())
            .map(|f| !f.is_empty())
            .collect();
        self.read(&readable, clients);
        self.flush_input();
        Ok(())
    }

    fn read(&mut self, readable: &[bool], clients: &mut Clients) {
        // Only what is written to it takes memory.
        let mut buffer = std::mem::take(&mut self.piece);
        buffer.reserve(PIECE);
        let mut ended = Vec::new();
        for i in (0..self.sources.len()).filter(|&i| readable[i]) {
            buffer.clear();
            let room = rustix::buffer::spare_capacity(&mut buffer);
            match rustix::io::read(&self.sources[i].fd, room) {
                Ok(0) => ended.push(i),
                Ok(_) => self.pass_on(i, &buffer, clients),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                // A terminal whose program has gone says EIO.
                Err(_) => ended.push(i),
            }
        }
        for i in ended.into_iter().rev() {
            self.sources.remove(i);
        }
        buffer.clear();
        self.piece = buffer;
    }

    fn pass_on(&mut self, i: usize, bytes: &[u8], clients: &mut Clients) {
        let source = &mut self.sources[i];
        match source.owner {
            Owner::Exec(client) => clients.output_to(client, source.stream, bytes),
            Owner::Rank(rank) => {
                if let Some(file) = &mut source.file
                    && file.write_all(bytes).is_err()
                {
                    source.file = None;
                    clients.note(&format!(
                        "the output file of rank {rank} could not be written and ends here"
                    ));
                }
                if !self.log_failed
                    && self
                        .log
                        .append(Timestamp::now(), rank, source.stream, bytes)
                        .is_err()
                {
                    self.log_failed = true;
                    clients.note(
                        "the job's log could not be written and ends here (is the disk full?)",
                    );
                }
                if source.stream == Stream::Err {
                    let tail = self.tails.entry(rank).or_default();
                    tail.extend(bytes);
                    let excess = tail.len().saturating_sub(TAIL);
                    tail.drain(..excess);
                }
                clients.output(rank, source.stream, bytes);
            }
        }
    }

    /// Reads everything that is left, once nobody inside writes any more. An
    /// end that something outside still holds open is not waited for.
    pub(super) fn drain(&mut self, clients: &mut Clients) {
        self.sinks.clear();
        self.read_rest(|_| true, clients);
    }

    /// Reads what is there now of some sources. Something else may write to them
    /// all the time: that is not waited for.
    fn read_rest(&mut self, which: impl Fn(&Source) -> bool, clients: &mut Clients) {
        for _ in 0..MAX_PIPE / PIECE {
            let which: Vec<bool> = self.sources.iter().map(&which).collect();
            let waiting = self.waiting(&which);
            if waiting.iter().all(|w| !w) {
                return;
            }
            self.read(&waiting, clients);
        }
    }

    /// Tells which of these sources have bytes, or their end, to read now.
    fn waiting(&self, which: &[bool]) -> Vec<bool> {
        let mut fds: Vec<PollFd<'_>> = self
            .sources
            .iter()
            .map(|s| PollFd::new(&s.fd, PollFlags::IN))
            .collect();
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let _ = rustix::event::poll(&mut fds, Some(&now));
        fds.iter()
            .zip(which)
            .map(|(fd, &wanted)| wanted && !fd.revents().is_empty())
            .collect()
    }

    /// Reads what one process has written so far, so that its last words come before its end.
    pub(super) fn catch_up(&mut self, owner: Owner, clients: &mut Clients) {
        self.read_rest(|source| source.owner == owner, clients);
    }

    /// Gives the last lines that a rank wrote to standard error.
    pub(super) fn last_lines(&self, rank: u32) -> Vec<String> {
        let Some(tail) = self.tails.get(&rank) else {
            return Vec::new();
        };
        let bytes: Vec<u8> = tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..]
            .iter()
            .map(|l| (*l).to_owned())
            .collect()
    }
}
