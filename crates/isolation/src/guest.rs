//! The supervisor's end of a sandbox with an init inside: the one
//! implementation of [`Sandbox`] for every level whose init is a local process.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyperion_model::{ProcessSpec, RankSpec, Usage};
use hyperion_sys::cgroup::Cgroup;
use hyperion_sys::{process, signals};
use rustix::event::Timespec;
use rustix::process::Pid;

use crate::error::from_errno;
use crate::protocol::{Event, FileEntry, Reply, Request};
use crate::vm::MachineEnd;
use crate::wire::{Frame, Wire};
use crate::{Asker, Patient, Sandbox, SandboxError, SandboxRecord, Spawned};

/// How long an init may be silent before it is looked at.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// How often an init is let go on while one answer is waited for.
const WAKINGS: u32 = 5;
/// How long an init may take to end what it started.
const GRACE: Duration = Duration::from_millis(500);
/// The most events that wait while an answer is waited for: an init that sends
/// more speaks nonsense.
const MAX_EVENTS: usize = 1 << 17;

/// A sandbox whose init is a child of this process.
pub(crate) struct Guest {
    wire: Wire,
    init: Option<Pid>,
    pub(crate) cgroup: Cgroup,
    /// What had been used when the sandbox was up.
    pub(crate) base: Usage,
    shim_folder: PathBuf,
    events: VecDeque<Event>,
    /// How often the init was found stopped when the processes inside were to be killed.
    killed_stopped: u32,
    /// When it is to have ended: it was asked to.
    over_at: Option<Instant>,
    /// How long an answer may take, where what is inside is not trusted to give one.
    pub(crate) patience: Option<Duration>,
    /// It has not yet said that it is up.
    pub(crate) awaited: bool,
    /// It works on copies of folders that are to be brought out.
    pub(crate) collects: bool,
    /// What outlives the init, when that is killed, becomes a child of this process.
    pub(crate) leaves_orphans: bool,
}

impl Guest {
    /// Takes charge of an init and of what was made for it.
    pub(crate) fn new(wire: Wire, init: Pid, cgroup: Cgroup, shim_folder: PathBuf) -> Self {
        let mut guest = Self::beyond(wire);
        guest.init = Some(init);
        guest.cgroup = cgroup;
        guest.shim_folder = shim_folder;
        guest
    }

    /// Hears what is at the other end of a wire and needs nobody to look after it.
    pub(crate) fn beyond(wire: Wire) -> Self {
        Self {
            wire,
            init: None,
            cgroup: Cgroup::default(),
            base: Usage::default(),
            shim_folder: PathBuf::new(),
            events: VecDeque::new(),
            killed_stopped: 0,
            over_at: None,
            patience: None,
            awaited: false,
            collects: false,
            leaves_orphans: false,
        }
    }

    /// Waits for the init to say that it is up. One that has failed says why.
    pub(crate) fn greet(&mut self) -> Result<(), SandboxError> {
        match self.answer(&mut Patient)? {
            Reply::Ready => Ok(()),
            _ => Err(self.nonsense()),
        }
    }

    /// Lets the init into its groups, where it was not born there.
    pub(crate) fn let_in(&mut self) -> Result<(), SandboxError> {
        let entrance = self.cgroup.entrance()?;
        let fds = entrance.as_fds();
        match fds.len() {
            0 => Ok(()),
            groups => self.ask(&Request::Enter { groups }, &fds),
        }
    }

    fn ask(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        self.wire.send(request, fds).map_err(|e| {
            // It may have said why, and that was not heard yet.
            while let Ok(Some(frame)) = self.wire.try_receive_frame() {
                if let Frame::Message(json) = frame
                    && let Ok(Reply::Gone { why }) = serde_json::from_slice(&json)
                {
                    return self.gone(why);
                }
            }
            self.lost(e)
        })
    }

    /// Says that what came is nothing that an init says.
    fn nonsense(&self) -> SandboxError {
        match self.patience {
            Some(_) => MachineEnd::Nonsense.into(),
            None => SandboxError::Lost(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Says why a machine is gone, with what only this side sees.
    fn gone(&self, why: MachineEnd) -> SandboxError {
        SandboxError::Machine(match why {
            MachineEnd::Killed {
                signal: signals::SIGKILL,
            } if self.has_starved() => MachineEnd::OutOfMemory,
            why => why,
        })
    }

    /// Says why an init is heard no more.
    fn lost(&self, error: io::Error) -> SandboxError {
        match self.patience {
            None if self.has_starved() => SandboxError::Starved,
            _ => SandboxError::Lost(error),
        }
    }

    /// Tells whether the kernel has killed here for want of memory.
    fn has_starved(&self) -> bool {
        self.cgroup.usage().oom_kills.is_some_and(|n| n > 0)
    }

    /// Waits for the next frame, for an answer that is awaited since then. A program at process level can stop its init:
    /// that is let go on, and given up when it is stopped again and again.
    fn receive(&mut self, since: Instant, asker: &mut dyn Asker) -> Result<Frame, SandboxError> {
        let mut woken = 0;
        loop {
            if let Some(limit) = self.patience.filter(|&limit| since.elapsed() > limit) {
                return Err(MachineEnd::Unanswered { limit }.into());
            }
            if let Some(frame) = self.wire.try_receive_frame().map_err(|e| self.lost(e))? {
                return Ok(frame);
            }
            let silent = !asker.wait(self.wire.as_fd(), &PATIENCE)?;
            if silent && self.init.is_some_and(process::wake) {
                woken += 1;
            }
            if woken > WAKINGS {
                return Err(stopped());
            }
        }
    }

    /// Waits for the answer to the last request; events that come before it are kept.
    fn answer(&mut self, asker: &mut dyn Asker) -> Result<Reply, SandboxError> {
        let since = Instant::now();
        loop {
            let Frame::Message(json) = self.receive(since, asker)? else {
                return Err(self.nonsense());
            };
            if let Some(reply) = self.plain_answer(&json)? {
                return Ok(reply);
            }
        }
    }

    /// Reads an answer; an event is kept, and what says that there is no sandbox is an error.
    fn plain_answer(&mut self, json: &[u8]) -> Result<Option<Reply>, SandboxError> {
        match serde_json::from_slice(json).map_err(|_| self.nonsense())? {
            Reply::Event(_) if self.events.len() >= MAX_EVENTS => Err(self.nonsense()),
            Reply::Event(event) => {
                self.events.push_back(event.believed());
                Ok(None)
            }
            Reply::SetupFailed { step, errno } => {
                let source = from_errno(errno);
                Err(SandboxError::Setup { step, source })
            }
            Reply::Gone { why } => Err(self.gone(why)),
            reply => Ok(Some(reply)),
        }
    }
}

fn stopped() -> SandboxError {
    SandboxError::Lost(io::Error::new(
        io::ErrorKind::TimedOut,
        "its init is stopped by signals, again and again",
    ))
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl Sandbox for Guest {
    fn spawn(
        &mut self,
        id: u32,
        process: &ProcessSpec,
        fds: Vec<OwnedFd>,
        asker: &mut dyn Asker,
    ) -> Result<Spawned, SandboxError> {
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.ask(
            &Request::Spawn {
                id,
                process: process.clone(),
            },
            &borrowed,
        )?;
        match self.answer(asker)? {
            Reply::Spawned { pid, terminal } => {
                let terminal = if terminal {
                    Some(self.wire.take_fd().map_err(|e| self.lost(e))?)
                } else {
                    None
                };
                Ok(Spawned { pid, terminal })
            }
            Reply::SpawnFailed { step, errno } => {
                let program = process.argv.first().cloned().unwrap_or_default();
                Err(SandboxError::Spawn {
                    program,
                    step,
                    source: from_errno(errno),
                })
            }
            _ => Err(self.nonsense()),
        }
    }

    fn adopt(
        &mut self,
        _node: u32,
        id: u32,
        rank: RankSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<(), SandboxError> {
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.ask(&Request::Adopt { id, rank }, &borrowed)
    }

    fn signal(&mut self, id: Option<u32>, signal: i32) -> Result<(), SandboxError> {
        if self.init.is_some_and(process::wake) && signal == signals::SIGKILL {
            self.killed_stopped += 1;
            if self.killed_stopped > 1 {
                return Err(stopped());
            }
        }
        self.ask(&Request::Signal { id, signal }, &[])
    }

    fn step(&mut self, number: u32, signal: Option<i32>) -> Result<(), SandboxError> {
        self.ask(&Request::Step { number, signal }, &[])
    }

    fn resize(&mut self, id: u32, rows: u16, columns: u16) -> Result<(), SandboxError> {
        self.ask(&Request::Resize { id, rows, columns }, &[])
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    fn is_up(&mut self) -> Result<bool, SandboxError> {
        if !self.awaited {
            return Ok(true);
        }
        match self.wire.try_receive_frame().map_err(|e| self.lost(e))? {
            None => return Ok(false),
            Some(Frame::Message(json)) => match self.plain_answer(&json)? {
                Some(Reply::Ready) => {}
                _ => return Err(self.nonsense()),
            },
            Some(Frame::Data(..)) => return Err(self.nonsense()),
        }
        self.awaited = false;
        // A job is charged for what it does, not for the way up.
        if self.cgroup.is_counted() {
            self.base = self.cgroup.usage();
        }
        Ok(true)
    }

    fn next_event(&mut self) -> Result<Option<Event>, SandboxError> {
        if !self.is_up()? {
            return Ok(None);
        }
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        match self.wire.try_receive_frame().map_err(|e| self.lost(e))? {
            None => Ok(None),
            Some(Frame::Message(json)) => match serde_json::from_slice(&json) {
                Ok(Reply::Event(event)) => Ok(Some(event.believed())),
                Ok(Reply::Gone { why }) => Err(self.gone(why)),
                _ => Err(self.nonsense()),
            },
            Some(Frame::Data(..)) => Err(self.nonsense()),
        }
    }

    fn read_file(
        &mut self,
        path: &str,
        offset: u64,
        len: u32,
        asker: &mut dyn Asker,
    ) -> Result<Option<Vec<u8>>, SandboxError> {
        self.ask(
            &Request::Read {
                path: path.to_owned(),
                offset,
                len: len.min(1 << 20),
            },
            &[],
        )?;
        match self.answer(asker)? {
            Reply::Data { found: false } => Ok(None),
            Reply::Data { found: true } => match self.receive(Instant::now(), asker)? {
                Frame::Data(_, bytes) if bytes.len() <= len as usize => Ok(Some(bytes)),
                Frame::Data(..) | Frame::Message(_) => Err(self.nonsense()),
            },
            _ => Err(self.nonsense()),
        }
    }

    fn list_folder(
        &mut self,
        path: &str,
        asker: &mut dyn Asker,
    ) -> Result<Vec<String>, SandboxError> {
        self.ask(
            &Request::List {
                path: path.to_owned(),
            },
            &[],
        )?;
        match self.answer(asker)? {
            Reply::Names { names } => Ok(names),
            _ => Err(self.nonsense()),
        }
    }

    fn look(
        &mut self,
        path: &str,
        asker: &mut dyn Asker,
    ) -> Result<Option<FileEntry>, SandboxError> {
        self.ask(
            &Request::Look {
                path: path.to_owned(),
            },
            &[],
        )?;
        match self.answer(asker)? {
            Reply::Found { entry } => Ok(entry),
            _ => Err(self.nonsense()),
        }
    }

    fn usage(&self) -> Usage {
        self.cgroup.usage().since(&self.base)
    }

    fn usage_now(&self) -> Usage {
        let Some(init) = self.init.filter(|_| self.cgroup.is_empty()) else {
            return self.usage();
        };
        let mut all = process::descendants(init);
        all.push(init);
        process::usage(&all)
    }

    fn records(&self) -> Vec<SandboxRecord> {
        // Its number is its own until it is waited for here.
        let started = self.init.and_then(process::standing);
        vec![SandboxRecord {
            cgroup: self.cgroup.clone(),
            init: self.init.map_or(0, |p| p.as_raw_pid().unsigned_abs()),
            init_started: started.map_or(0, |s| s.started),
        }]
    }

    fn shim_folder(&self) -> PathBuf {
        self.shim_folder.clone()
    }

    fn collects(&self) -> bool {
        self.collects
    }

    fn collect(&mut self) -> Result<(), SandboxError> {
        self.ask(&Request::Collect, &[])
    }

    fn end(&mut self) {
        let (Some(init), None) = (self.init, self.over_at) else {
            return;
        };
        // The init kills what it started and ends.
        let asked = self.ask(&Request::Stop, &[]);
        process::wake(init);
        let grace = asked.map_or(Duration::ZERO, |()| GRACE);
        self.over_at = Some(Instant::now() + grace);
    }

    fn destroy(&mut self) {
        self.end();
        let Some(init) = self.init.take() else { return };
        // One that cannot be asked any more, or that the program keeps from it, is killed.
        let left = self.over_at.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
        });
        if !process::ends_within(init, left).unwrap_or(false) {
            self.cgroup.kill();
            let _ = signals::send(init, signals::SIGKILL);
        }
        let _ = process::wait_for(init);
        if self.leaves_orphans {
            kill_children();
        }
        self.cgroup.kill();
        self.cgroup.remove();
    }
}

/// Kills and reaps every descendant that has become a child of this process.
fn kill_children() {
    let this = rustix::process::getpid();
    loop {
        let children = process::children(this);
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = signals::send(child, signals::SIGKILL);
            let _ = process::wait_for(child);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::thread;

    use super::*;

    /// Loses interest after a while.
    struct For(Instant);

    impl Asker for For {
        fn wait(&mut self, sandbox: BorrowedFd<'_>, most: &Timespec) -> Result<bool, SandboxError> {
            match Instant::now() > self.0 {
                true => Err(SandboxError::Unwanted),
                false => Patient.wait(sandbox, most),
            }
        }
    }

    /// Gives a guest whose other side is played by a test, and the process that
    /// stands for its keeper.
    fn guest() -> (Guest, Wire, Child) {
        let (ours, theirs) = Wire::pair().expect("a pair");
        let mut keeper = Command::new("cat");
        keeper.stdin(Stdio::piped()).stdout(Stdio::null());
        let keeper = keeper.spawn().expect("it starts");
        let pid = Pid::from_raw(keeper.id().cast_signed()).expect("a number");
        let mut guest = Guest::new(ours, pid, Cgroup::default(), PathBuf::new());
        guest.patience = Some(Duration::from_secs(60));
        (guest, theirs, keeper)
    }

    fn asked(guest: &mut Guest) -> SandboxError {
        let mut asker = For(Instant::now() + Duration::from_millis(300));
        guest.look("/", &mut asker).expect_err("no answer comes")
    }

    #[test]
    fn who_loses_interest_does_not_wait_whatever_a_guest_does() {
        let since = Instant::now();
        // It says nothing.
        let (mut silent, _theirs, _keeper) = guest();
        assert!(matches!(asked(&mut silent), SandboxError::Unwanted));
        // It begins a frame, and goes on with it byte by byte for ever.
        let (mut slow, theirs, _keeper) = guest();
        let trickle = thread::spawn(move || {
            let bytes = [&[0xff, 0xff, 0, 0, b'J'][..], &[b' '; 60_000]].concat();
            for byte in bytes {
                if rustix::net::send(&theirs, &[byte], rustix::net::SendFlags::NOSIGNAL).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        assert!(matches!(asked(&mut slow), SandboxError::Unwanted));
        // It tells of events and never answers: what waits has a bound.
        let (mut loud, mut theirs, _keeper) = guest();
        let flood = thread::spawn(move || {
            let event = Reply::Event(Event::Joined { id: 7 });
            while theirs.send(&event, &[]).is_ok() {}
        });
        let error = asked(&mut loud);
        let bounded = matches!(
            error,
            SandboxError::Unwanted | SandboxError::Machine(MachineEnd::Nonsense)
        );
        assert!(bounded && loud.events.len() <= MAX_EVENTS, "{error}");
        for guest in [silent, slow, loud] {
            drop(guest);
        }
        trickle.join().expect("it saw the end");
        flood.join().expect("it saw the end");
        assert!(since.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn numbers_of_a_guest_can_be_added_up() {
        let (mut guest, mut theirs, _keeper) = guest();
        for _ in 0..2 {
            let much = Reply::Event(Event::Ended {
                id: 1,
                exit: hyperion_model::report::Exit::Signal(u8::MAX),
                user: Duration::MAX,
                system: Duration::MAX,
                max_rss: u64::MAX,
                io_read: u64::MAX,
                io_written: u64::MAX,
                starved: true,
                alone: false,
            });
            theirs.send(&much, &[]).expect("sent");
        }
        // One comes while an answer is awaited, and one by itself.
        assert!(matches!(asked(&mut guest), SandboxError::Unwanted));
        let mut times = Duration::ZERO;
        for _ in 0..2 {
            let event = guest.next_event().expect("it goes on");
            let Some(Event::Ended { user, system, .. }) = event else {
                panic!("{event:?}");
            };
            times += user + system;
        }
        assert!(times < Duration::MAX);
    }

    #[test]
    fn the_end_of_one_that_hangs_is_not_waited_for_twice() {
        let (mut guest, _theirs, _keeper) = guest();
        guest.end();
        let over = guest.over_at.expect("it was asked");
        guest.end();
        assert_eq!(guest.over_at, Some(over));
        guest.destroy();
        assert!(Instant::now() >= over, "it had its time");
        guest.destroy();
    }
}
