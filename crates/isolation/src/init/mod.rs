//! What runs inside every sandbox that is one: PID 1 of a container (and of a virtual
//! machine), the reaper of a job at process level.
//!
//! On this host it is a copy of the supervisor and executes nothing. That costs
//! less, and its memory stays that of the host's user namespace: nothing inside
//! a container's own can look into it or reach its program file, whatever
//! capabilities it was given.
//!
//! It starts processes, reaps whatever ends, passes signals on, and ends with
//! everything it started when its supervisor says so or is gone.

pub(crate) mod files;
mod shim;
mod spawn;
mod started;
mod steps;
pub(crate) mod users;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use hyperion_model::RankSpec;
use hyperion_model::report::Exit;
use hyperion_sys::cgroup::Entrance;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::failpoint;
use hyperion_sys::process::{self, Ended};
use hyperion_sys::signals::{self, SIGCHLD, SIGKILL, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use spawn::{Confinement, become_user, spawn_on};
pub(crate) use started::Started;

use crate::protocol::{Event, Reply, Request};
use crate::wire::{Frame, Wire};
use shim::Heard;
use steps::{Caller, Steps};

pub use crate::container::SHIM as SHIM_INSIDE;
pub use shim::{HOLD, Joined, NAME as SHIM};
pub use steps::StepAsk;

/// How long nothing must happen before an init or a supervisor gives memory back.
pub const SETTLING: rustix::event::Timespec = rustix::event::Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();
/// The descriptor on which it finds its supervisor.
pub(crate) const CONTROL_FD: i32 = 3;

/// Runs the shim beside a rank if this process was started under its name, a machine if
/// it is the first process of one, and loads a module if the kernel of one asks for it;
/// gives `None` otherwise.
///
/// `arguments` are all of this process's, its own name first; `environment`
/// gives its variables, and is asked only where they are needed.
pub fn entry(
    mut arguments: impl Iterator<Item = OsString>,
    environment: impl FnOnce() -> Vec<(OsString, OsString)>,
) -> Option<ExitCode> {
    let name = arguments.next()?;
    let name = Path::new(&name);
    if rustix::process::getpid().is_init() && name == Path::new("/init") {
        crate::vm::run_guest();
    }
    if name.file_name()? == "exe" {
        let words: Vec<OsString> = arguments.collect();
        return crate::vm::stay::drivers::entry(name, &words);
    }
    (name.file_name()? == shim::NAME).then(|| shim::run(name, arguments, environment()))
}

/// Does in a fresh copy of a supervisor what needs nothing of what is still to be
/// made: before that is waited for.
pub(crate) fn settle_in() {
    // The words of the command line, which every user may read, are the host's.
    process::rename(c"hyperion-init");
}

/// What an init does for its sandbox.
pub(crate) struct Duty {
    /// What is taken from what it starts.
    pub(crate) confinement: Confinement,
    /// Where ranks report that a program inside has started.
    pub(crate) rank_socket: PathBuf,
    /// What is left when nothing that was asked for runs is ended before that is told.
    pub(crate) sweeps: bool,
    /// Launchers may say there which steps they start.
    pub(crate) steps: bool,
}

/// Runs the init in a copy of a supervisor that has settled in; never returns.
pub(crate) fn run(wire: Wire, duty: Duty) -> ! {
    if let Ok(socket) = process::keep_only(wire.into_socket(), CONTROL_FD) {
        serve(Wire::new(socket), duty);
    }
    process::exit_now(0)
}

/// Serves one supervisor until it says stop or is gone; nothing that was
/// started runs any more afterwards.
fn serve(wire: Wire, duty: Duty) {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // Other processes inside must not look into this one, nor reach its program file.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if let Ok(mut init) = Init::new(wire, duty) {
        // However the loop ends, everything inside ends with it.
        let _ = init.run();
    }
    kill_everything();
}

struct Init {
    wire: Wire,
    signals: SignalFd,
    duty: Duty,
    started: Started,
    /// Ranks that a program inside will start, until they ask for their streams.
    expected: BTreeMap<u32, (RankSpec, Vec<OwnedFd>)>,
    listener: Option<UnixListener>,
    callers: Vec<Caller>,
    /// What launchers inside have said that they start.
    steps: Steps,
    /// Nothing has happened for a moment, and memory was given back.
    settled: bool,
}

impl Init {
    fn new(wire: Wire, duty: Duty) -> io::Result<Self> {
        let mut watched = signals::FORWARDED.to_vec();
        watched.push(SIGCHLD);
        Ok(Self {
            wire,
            signals: SignalFd::new(&watched)?,
            started: Started::default(),
            expected: BTreeMap::new(),
            // Where there is no room for it, steps run and are not counted.
            listener: match duty.steps {
                true => shim::listen(&duty.rank_socket).ok(),
                false => None,
            },
            duty,
            callers: Vec::new(),
            steps: Steps::default(),
            settled: false,
        })
    }

    /// Enters the groups of the sandbox, or says why it could not.
    fn enter(&mut self, groups: usize) -> io::Result<()> {
        // Counted: those of the next request may have come already.
        let entrance = (0..groups).map(|_| self.wire.take_fd());
        let entrance = Entrance::from_fds(entrance.collect::<Result<_, _>>()?);
        entrance.enter().or_else(|e| {
            let errno = e.raw_os_error().unwrap_or(EINVAL);
            let step = "joining the cgroup".to_owned();
            self.wire.send(&Reply::SetupFailed { step, errno }, &[])?;
            Err(e)
        })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            // Before waiting: a request may have come together with the one before it.
            while let Some(frame) = self.wire.try_receive_frame()? {
                let Frame::Message(json) = frame else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                if !self.handle(serde_json::from_slice(&json)?)? {
                    return Ok(());
                }
            }
            self.wait()?;
            while let Some(signal) = self.signals.next() {
                if signal != SIGCHLD {
                    self.started.signal(None, signal);
                }
            }
            let ended = self.reap();
            // What somebody said before it ended is told before its end.
            self.serve_callers()?;
            for event in ended {
                self.wire.send(&Reply::Event(event), &[])?;
            }
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(&self.wire, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        fds.extend(self.inside());
        let mut settled = self.settled;
        loop {
            let timeout = (!settled).then_some(&SETTLING);
            match poll(&mut fds, timeout) {
                Ok(0) => {
                    settled = true;
                    process::drop_idle_code();
                }
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        drop(fds);
        self.settled = settled;
        Ok(())
    }

    /// Gives those inside who may say something: newcomers, then the callers.
    fn inside(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listener = self.listener.iter().map(|l| PollFd::new(l, PollFlags::IN));
        let callers = self.callers.iter();
        listener.chain(callers.map(|caller| PollFd::new(&caller.wire, PollFlags::IN)))
    }

    /// Tells who of them has something to say now.
    fn ready(&self) -> io::Result<Vec<bool>> {
        let mut fds: Vec<PollFd<'_>> = self.inside().collect();
        if !fds.is_empty() {
            poll(&mut fds, Some(&Timespec::default()))?;
        }
        Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    /// Carries out one request; tells whether to go on.
    fn handle(&mut self, request: Request) -> io::Result<bool> {
        match request {
            Request::Enter { groups } => self.enter(groups)?,
            Request::Spawn { id, process } => {
                failpoint!("init-asked");
                if self.duty.sweeps && self.started.is_empty() {
                    // Another script: its steps are counted anew.
                    self.steps = Steps::default();
                    self.callers.clear();
                }
                let fds = self.wire.take_fds();
                match self
                    .started
                    .start(&self.duty.confinement, id, &process, fds)
                {
                    Ok(pid) => {
                        let pid = pid.as_raw_pid().unsigned_abs();
                        let fds: Vec<_> = self.started.terminal(id).into_iter().collect();
                        let terminal = !fds.is_empty();
                        self.wire.send(&Reply::Spawned { pid, terminal }, &fds)?;
                    }
                    Err((step, error)) => {
                        let errno = error.raw_os_error().unwrap_or(EINVAL);
                        self.wire.send(&Reply::SpawnFailed { step, errno }, &[])?;
                    }
                }
            }
            Request::Adopt { id, rank } => {
                if self.listener.is_none() {
                    self.listener = Some(shim::listen(&self.duty.rank_socket)?);
                }
                self.expected.insert(id, (rank, self.wire.take_fds()));
            }
            Request::Signal { id, signal } => self.started.signal(id, signal),
            Request::Step { number, signal } => {
                let mut callers = self.callers.iter_mut();
                callers.any(|caller| caller.is_told(number, signal));
            }
            Request::Resize { id, rows, columns } => {
                self.started.resize(id, rows, columns);
            }
            Request::Read { path, offset, len } => {
                let bytes = files::read(&path, offset, len);
                self.wire.send(
                    &Reply::Data {
                        found: bytes.is_some(),
                    },
                    &[],
                )?;
                if let Some(bytes) = bytes {
                    self.wire.send_data(0, &bytes)?;
                }
            }
            Request::List { path } => self.wire.send(
                &Reply::Names {
                    names: files::list(&path),
                },
                &[],
            )?,
            Request::Look { path } => self.wire.send(
                &Reply::Found {
                    entry: files::look(&path),
                },
                &[],
            )?,
            Request::Collect | Request::Stop => return Ok(false),
        }
        Ok(true)
    }

    /// Says who has ended.
    fn reap(&mut self) -> Vec<Event> {
        let (events, left) = self.started.reap();
        if self.duty.sweeps && left && self.started.is_empty() {
            kill_everything();
        }
        if !events.is_empty() {
            failpoint!("init-reaped");
        }
        events
    }

    /// Lets ranks join that a program inside has started, and steps begin, and passes on
    /// their ends.
    fn serve_callers(&mut self) -> io::Result<()> {
        let mut ready = self.ready()?.into_iter();
        let newcomer = self.listener.is_some() && ready.next() == Some(true);
        let mut events = Vec::new();
        let mut kept = Vec::new();
        for (mut caller, ready) in self.callers.drain(..).zip(ready) {
            if ready {
                match shim::hear(&mut caller.wire, &mut self.expected) {
                    Heard::Event(event) => events.push(event),
                    Heard::Step(asked) => caller.wants(asked),
                    Heard::StepEnded(end) => events.extend(self.steps.ended(&mut caller, end)),
                    Heard::Gone => {
                        events.extend(self.steps.left(&mut caller));
                        continue;
                    }
                }
            }
            kept.push(caller);
        }
        for caller in &mut kept {
            events.extend(self.steps.begin(caller));
        }
        self.callers = kept;
        if newcomer
            && let Some(listener) = &self.listener
            && let Ok((stream, _)) = listener.accept()
        {
            self.callers.push(Caller::new(Wire::new(stream.into())));
        }
        for event in events {
            self.wire.send(&Reply::Event(event), &[])?;
        }
        Ok(())
    }
}

/// Says how a process ended.
fn ended_event(id: u32, ended: &Ended) -> Event {
    Event::Ended {
        id,
        exit: ended.exit,
        user: ended.user,
        system: ended.system,
        max_rss: ended.max_rss,
        io_read: ended.io_read,
        io_written: ended.io_written,
        starved: ended.exit == Exit::Signal(9) && has_starved(),
        alone: false,
    }
}

/// Tells whether the kernel has killed for want of memory in this container. In a
/// machine the host does not see that.
fn has_starved() -> bool {
    if !rustix::process::getpid().is_init() {
        return false;
    }
    let events = std::fs::read_to_string("/sys/fs/cgroup/memory.events").unwrap_or_default();
    let mut kills = events.lines().filter_map(|l| l.strip_prefix("oom_kill "));
    kills.any(|kills| kills != "0")
}

/// Stops every process inside but this one, whatever group and session it is in, or lets
/// it go on.
fn signal_everything(signal: i32) {
    let this = rustix::process::getpid();
    if this.is_init() {
        // The kernel lets nobody be born between.
        let _ = signals::send_to_all(signal);
        return;
    }
    // What is born while this looks is found by looking again.
    let mut told = std::collections::BTreeSet::new();
    loop {
        let all = process::descendants(this).into_iter();
        let new: Vec<_> = all.filter(|pid| told.insert(pid.as_raw_pid())).collect();
        if new.is_empty() {
            return;
        }
        for pid in new {
            let _ = signals::send(pid, signal);
        }
    }
}

/// Kills and reaps every process inside but this one.
pub(crate) fn kill_everything() {
    let this = rustix::process::getpid();
    if this.is_init() {
        // In a process namespace of its own: everything there is.
        let _ = signals::send_to_all(SIGKILL);
        while process::wait_for_any().is_ok() {}
        return;
    }
    // At process level: every descendant, for orphans come to this process.
    loop {
        let children = process::children(this);
        if children.is_empty() {
            return;
        }
        for child in children {
            process::kill_tree(child);
            let _ = process::wait_for(child);
        }
    }
}
