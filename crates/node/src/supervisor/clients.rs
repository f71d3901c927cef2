//! Who is connected to a supervisor, and what they are told.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use hyperion_isolation::SandboxError;
use hyperion_isolation::wire::{Frame, Wire};
use hyperion_model::ProcessSpec;
use hyperion_model::report::Exit;
use hyperion_sys::signals::{self, SIGKILL, SIGTERM, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with};

use super::launch::job_variable;
use super::streams::{Owner, Streams};
use super::{FAILURE_GRACE, GRACE, Problem, Supervisor, report};
use crate::client::socket_address;
use crate::log::Stream;
use crate::talk::{Ask, INPUT_WINDOW, Size, Tell, channel};

/// A client that has more than this waiting holds up the job's output.
const CONGESTED: usize = 1 << 20;

struct Connection {
    id: u64,
    wire: Wire,
    /// Output goes there.
    attached: bool,
    /// Whose input its bytes are.
    feeds: Option<Owner>,
    /// Bytes of input that it has not been told are taken.
    unread: usize,
    /// The job ends with it.
    keeps: bool,
    /// Nothing more comes from it.
    left: bool,
}

impl Connection {
    fn new(id: u64, wire: Wire) -> Self {
        Self {
            id,
            wire,
            attached: false,
            feeds: None,
            unread: 0,
            keeps: false,
            left: false,
        }
    }
}

/// What a client has said.
pub(super) enum Said {
    Input(Vec<u8>),
    Ask(Ask),
    /// It is gone, or speaks nonsense.
    Left,
}

/// The client who has started the job.
const FIRST: u64 = 0;
/// Who asks what this process is asked by a signal.
const NOBODY: u64 = u64::MAX;

/// All connections.
pub(super) struct Clients {
    /// Where others come, once the job has a record.
    listener: Option<OwnedFd>,
    all: Vec<Connection>,
    /// What has been heard and not been dealt with: when, and of whom.
    pub(super) said: VecDeque<(u64, Instant, Said)>,
    next_id: u64,
    /// Size of the first client's terminal, for the job's own.
    pub(super) size: Option<Size>,
}

/// Makes the socket in a job's folder. Nobody can connect before it is listened at.
pub(super) fn bind_in(folder: &Path) -> io::Result<OwnedFd> {
    let listener = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let (address, _folder) = socket_address(folder)?;
    bind(&listener, &address)?;
    // The job's user may talk to it, and root; nobody else.
    std::fs::set_permissions(
        folder.join("control"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )?;
    Ok(listener)
}

impl Clients {
    /// Begins with the first client, which is there already.
    pub(super) fn new(first: Wire, attach: Option<(bool, Option<Size>)>) -> Self {
        let feeds = attach.and_then(|(stdin, _)| stdin.then_some(Owner::Rank(0)));
        let connection = Connection {
            attached: attach.is_some(),
            feeds,
            ..Connection::new(FIRST, first)
        };
        Self {
            listener: None,
            all: vec![connection],
            said: VecDeque::new(),
            next_id: FIRST + 1,
            size: attach.and_then(|(_, size)| size),
        }
    }

    /// Lets others come to the job's socket.
    pub(super) fn listen(&mut self, socket: OwnedFd) -> io::Result<()> {
        // The process that listens is the one that clients take for their peer.
        listen(&socket, 64)?;
        self.listener = Some(socket);
        Ok(())
    }

    pub(super) fn poll_set<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) -> Range<usize> {
        let start = fds.len();
        fds.extend(self.door());
        for client in self.all.iter().filter(|c| !c.left) {
            let out = if client.wire.queued() > 0 {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            fds.push(PollFd::new(&client.wire, PollFlags::IN | out));
        }
        start..fds.len()
    }

    /// Gives what is readable when somebody comes.
    fn door(&self) -> Option<PollFd<'_>> {
        let listener = self.listener.as_ref();
        listener.map(|listener| PollFd::new(listener, PollFlags::IN))
    }

    /// Hears what has come from clients, and by signals, and puts it in a row.
    /// `ready` is the part of the poll set that is the clients'.
    pub(super) fn hear(&mut self, signals: &SignalFd, ready: &[PollFlags]) {
        let now = Instant::now();
        while let Some(signal) = signals.next() {
            if signal == SIGTERM {
                let grace_ms = GRACE.as_millis() as u64;
                let said = Said::Ask(Ask::Stop { grace_ms });
                self.said.push_back((NOBODY, now, said));
            }
        }
        let (door, ready) = ready.split_at(usize::from(self.listener.is_some()).min(ready.len()));
        let clients = self.all.iter_mut().filter(|c| !c.left);
        for (client, flags) in clients.zip(ready) {
            if flags.contains(PollFlags::OUT) {
                // One that is gone is noticed when its end of the socket is read.
                let _ = client.wire.flush();
            }
            while flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !client.left
            {
                let said = match client.wire.try_receive_frame() {
                    Ok(None) => break,
                    Ok(Some(Frame::Data(_, bytes))) => {
                        client.unread += bytes.len();
                        // Its own program sends no more than half as much.
                        match client.unread <= 2 * INPUT_WINDOW {
                            true => Said::Input(bytes),
                            false => Said::Left,
                        }
                    }
                    Ok(Some(Frame::Message(json))) => {
                        serde_json::from_slice(&json).map_or(Said::Left, Said::Ask)
                    }
                    Err(_) => Said::Left,
                };
                client.left = matches!(said, Said::Left);
                self.said.push_back((client.id, now, said));
            }
        }
        if door.iter().any(|newcomer| !newcomer.is_empty())
            && let Some(wire) = self.accept()
        {
            self.all.push(Connection::new(self.next_id, wire));
            self.next_id += 1;
        }
    }

    /// Lets clients send more input where what came before has room to go.
    pub(super) fn make_room(&mut self, streams: &Streams) {
        let room = |c: &Connection| c.feeds.is_none_or(|owner| streams.takes_input(owner));
        let full = |c: &&mut Connection| c.unread >= INPUT_WINDOW / 4 && room(c);
        for client in self.all.iter_mut().filter(full) {
            let bytes = std::mem::take(&mut client.unread);
            let _ = client.wire.queue(&Tell::Took { bytes });
            let _ = client.wire.flush();
        }
    }

    /// Tells whether anybody is there.
    pub(super) fn is_watched(&self) -> bool {
        !self.all.is_empty()
    }

    /// Tells whether somebody is slow to take what was sent.
    pub(super) fn congested(&self) -> bool {
        self.all.iter().any(|c| c.wire.queued() > CONGESTED)
    }

    fn send(&mut self, to: impl Fn(&Connection) -> bool, queue: impl Fn(&mut Wire)) {
        for client in self.all.iter_mut().filter(|c| to(c)) {
            queue(&mut client.wire);
            // One that is gone is noticed when its end of the socket is read.
            let _ = client.wire.flush();
        }
    }

    pub(super) fn tell(&mut self, id: u64, message: &Tell) {
        self.send(|c| c.id == id, |w| drop(w.queue(message)));
    }

    /// Tells everybody.
    pub(super) fn tell_all(&mut self, message: &Tell) {
        self.send(|_| true, |w| drop(w.queue(message)));
    }

    /// Tells everybody who watches something for people to read.
    pub(super) fn note(&mut self, text: &str) {
        let message = Tell::Note(text.to_owned());
        self.send(|c| c.attached, |w| drop(w.queue(&message)));
    }

    /// Sends a rank's output to everybody who is attached.
    pub(super) fn output(&mut self, rank: u32, stream: Stream, bytes: &[u8]) {
        self.send(
            |c| c.attached,
            |w| w.queue_data(channel(rank, stream), bytes),
        );
    }

    /// Sends output of a command beside the ranks to its client.
    pub(super) fn output_to(&mut self, id: u64, stream: Stream, bytes: &[u8]) {
        self.send(|c| c.id == id, |w| w.queue_data(channel(0, stream), bytes));
    }

    /// Tells everybody the end, and waits until they have heard it or gone away.
    pub(super) fn tell_end(&mut self, message: &Tell) {
        self.tell_all(message);
        loop {
            self.all
                .retain_mut(|c| c.wire.flush().is_ok() && c.wire.queued() > 0);
            if self.all.is_empty() {
                return;
            }
            let mut fds: Vec<PollFd<'_>> = self
                .all
                .iter()
                .map(|c| PollFd::new(&c.wire, PollFlags::OUT))
                .collect();
            // One that is slow to hear it does not keep others from hearing it.
            fds.extend(self.door());
            if poll(&mut fds, None).is_err_and(|e| e != rustix::io::Errno::INTR) {
                return;
            }
            self.tell_latecomers(message);
        }
    }

    /// Tells the end to everybody who has connected since it was told.
    pub(super) fn tell_latecomers(&mut self, message: &Tell) {
        while let Some(mut wire) = self.accept() {
            // A message this short is taken at once, or by nobody.
            let _ = wire.queue(message).and_then(|()| wire.flush());
        }
    }

    fn accept(&self) -> Option<Wire> {
        let socket = accept_with(self.listener.as_ref()?, SocketFlags::CLOEXEC).ok()?;
        Some(Wire::new(socket))
    }
}

impl Supervisor {
    /// Deals with what clients have said.
    pub(super) fn serve_clients(&mut self) -> Result<(), Problem> {
        while let Some((id, _, said)) = self.clients.said.pop_front() {
            match said {
                Said::Ask(ask) => self.answer(id, ask)?,
                Said::Input(bytes) => {
                    if let Some(owner) = self.feeds_of(id) {
                        self.streams.feed(owner, &bytes);
                    }
                }
                // Nothing that it started ends for that, but its input does.
                Said::Left => self.leave(id)?,
            }
        }
        self.clients.make_room(&self.streams);
        Ok(())
    }

    fn leave(&mut self, id: u64) -> Result<(), Problem> {
        let feeds = self.feeds_of(id);
        let mut keepers = self.clients.all.iter().filter(|c| c.keeps);
        let kept = keepers.any(|c| c.id == id);
        self.clients.all.retain(|c| c.id != id);
        if let (FIRST, Some(sandbox)) = (id, &mut self.sandbox) {
            // Its starter would have ended what this process leaves when it is killed.
            // Where it cannot be had, the job goes on without.
            let _ = sandbox.guard(&job_variable(&self.launch.plan.id));
        }
        // A job keeps its input open for the next who attaches; a command does not outlive its asker's.
        if let Some(owner @ Owner::Exec(_)) = feeds {
            self.streams.end_input(owner);
        }
        match kept {
            true => self.stop(FAILURE_GRACE),
            false => Ok(()),
        }
    }

    /// Tells a terminal its size; a process without one has none to tell.
    fn resize(&mut self, owner: Owner, size: Size) -> Result<(), Problem> {
        let id = match owner {
            Owner::Rank(rank) => Some(rank),
            Owner::Exec(client) => {
                let mut execs = self.execs.iter();
                execs.find_map(|(&id, &of)| (of == client).then_some(id))
            }
        };
        if let (Some(id), Some(sandbox), false) = (id, &mut self.sandbox, self.collecting) {
            sandbox.resize(id, size.rows, size.columns)?;
        }
        Ok(())
    }

    fn answer(&mut self, id: u64, ask: Ask) -> Result<(), Problem> {
        match ask {
            Ask::Attach { stdin, size } => {
                if let Some(client) = self.clients.all.iter_mut().find(|c| c.id == id) {
                    client.attached = true;
                    client.feeds = stdin.then_some(Owner::Rank(0));
                }
                if let Some(size) = size {
                    self.resize(Owner::Rank(0), size)?;
                }
                self.clients.tell(id, &Tell::Started);
            }
            Ask::Exec {
                process,
                stdin,
                size,
            } => self.exec(id, &process, stdin, size)?,
            Ask::EndOfInput => {
                if let Some(owner) = self.feeds_of(id) {
                    self.streams.end_input(owner);
                }
            }
            Ask::Resize(size) => {
                let owner = self.feeds_of(id).unwrap_or(Owner::Rank(0));
                self.resize(owner, size)?;
            }
            Ask::Signal(signal) => {
                // ctrl-C on one of many runs means all of them, whatever the command makes of it.
                if signals::ENDING.contains(&signal) {
                    self.last = true;
                    self.ended_by = signal as u8;
                }
                if self.collecting {
                    self.given_up |= signals::ENDING.contains(&signal) || signal == SIGKILL;
                    return Ok(());
                }
                self.signal_ranks(signal)?;
                match signal {
                    SIGKILL => self.kill_in(FAILURE_GRACE),
                    // What hangs in there hears it as little as anything else.
                    _ if signals::ENDING.contains(&signal) => self.look_for_life(GRACE)?,
                    _ => {}
                }
            }
            Ask::Step { number, signal } => {
                if let Some(sandbox) = &mut self.sandbox {
                    sandbox.step(number, signal)?;
                }
            }
            Ask::Warn { signal, to } => self.warn(signal, to)?,
            Ask::Suspend => self.stand_still(true)?,
            Ask::Resume { cpus } => {
                if let Some(cpus) = cpus {
                    hyperion_sys::process::bind_all(rustix::process::getpid(), &cpus);
                }
                self.stand_still(false)?;
            }
            Ask::Stop { grace_ms } => self.stop(std::time::Duration::from_millis(grace_ms))?,
            Ask::Stats => {
                let used = self.sandbox.as_ref();
                let used = used.map(|s| (s.usage_now(), s.usage_of_nodes()));
                let (usage, nodes) = used.unwrap_or_default();
                self.clients.tell(id, &Tell::Stats { usage, nodes });
            }
            Ask::Wait => self.tell_steps(id),
            Ask::Keep => {
                self.unkept_at = None;
                if let Some(client) = self.clients.all.iter_mut().find(|c| c.id == id) {
                    client.keeps = true;
                }
            }
            Ask::Release { code } => {
                self.released = Some(Exit::Code(code));
                self.stop(FAILURE_GRACE)?;
            }
            Ask::Task(task) => self.tasks.push_back(*task),
            Ask::Seal => {
                self.last |= self.launch.plan.job.lane;
                self.clients.tell(id, &Tell::Sealed);
                self.tell_steps(id);
            }
        }
        Ok(())
    }

    fn feeds_of(&self, id: u64) -> Option<Owner> {
        self.clients.all.iter().find(|c| c.id == id)?.feeds
    }

    fn exec(
        &mut self,
        id: u64,
        process: &ProcessSpec,
        stdin: bool,
        size: Option<Size>,
    ) -> Result<(), Problem> {
        let nodes = self.launch.plan.job.nodes();
        let refused = match self.first_start {
            None => Some((
                "the job has not begun".into(),
                "try again when it runs: `hyperion ps` tells".into(),
            )),
            Some(_) if self.collecting => Some((
                "the job has ended".into(),
                "what it changed in its folders is being brought back".into(),
            )),
            Some(_) if process.node >= nodes => Some((
                format!("the job has no node {}", process.node),
                format!("it has {nodes}, from 0 on"),
            )),
            Some(_) => None,
        };
        if let Some((cause, hint)) = refused {
            let refused = Tell::Refused {
                causes: vec![cause],
                code: 125,
                hint: Some(hint),
            };
            self.clients.tell(id, &refused);
            return Ok(());
        }
        let number = super::ranks::EXEC_BASE + id as u32;
        let owner = Owner::Exec(id);
        let mut process = self.complete(process);
        process.terminal_size = size.map(|s| (s.rows, s.columns));
        let fds = self.streams_for(owner, process.tty, stdin)?;
        match self.ask(|sandbox, asker| sandbox.spawn(number, &process, fds, asker)) {
            Ok(spawned) => {
                if let Some(master) = spawned.terminal {
                    self.streams.terminal(owner, master)?;
                }
                self.execs.insert(number, id);
                if let Some(client) = self.clients.all.iter_mut().find(|c| c.id == id) {
                    client.feeds = Some(owner);
                }
                self.clients.tell(id, &Tell::Started);
            }
            Err(Problem::Sandbox(e @ SandboxError::Spawn { .. })) => {
                let code = e.exit_code().unwrap_or(125);
                let cause = std::error::Error::source(&e).map(ToString::to_string);
                let causes = std::iter::once(e.to_string()).chain(cause).collect();
                let hint = report::hint(&e.into(), self.launch.plan.job.level);
                self.clients.tell(id, &Tell::Refused { causes, code, hint });
            }
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    /// Tells a client that its command has ended.
    pub(super) fn exec_ended(&mut self, event: &hyperion_isolation::Event) {
        let hyperion_isolation::Event::Ended { id, exit, .. } = event else {
            return;
        };
        if let Some(client) = self.execs.remove(id) {
            self.streams
                .catch_up(Owner::Exec(client), &mut self.clients);
            self.clients.tell(client, &Tell::ExecEnded { exit: *exit });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, End, Jobs};

    #[test]
    fn who_comes_after_the_end_was_told_hears_it_too() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("jobs/01/0123456789ab");
        std::fs::create_dir_all(&folder).expect("made");
        let job = Jobs::new(root.path()).find("0123").expect("it is there");
        let (first, theirs) = Wire::pair().expect("a pair");
        let listener = bind_in(&folder).expect("a socket");
        let mut clients = Clients::new(theirs, None);
        clients.listen(listener).expect("it listens");
        let ended = Tell::Ended(Box::new(End {
            finished: jiff::Timestamp::UNIX_EPOCH,
            code: 7,
            exit: None,
            failure: None,
            lost: false,
            report: None,
            uncounted: false,
        }));
        clients.tell_end(&ended);
        let mut first = Client::new(first);
        let mut late = Client::connect(&job).expect("connected");
        late.ask(&Ask::Wait).expect("asked");
        clients.tell_latecomers(&ended);
        drop(clients);
        for client in [&mut first, &mut late] {
            let heard = client.hear().expect("heard");
            assert_eq!(heard, Some(crate::client::Heard::Told(ended.clone())));
        }
    }
}
