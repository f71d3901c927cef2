//! The loop of a server.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyperion_api::queue::{Refused, Reply, Request};
use hyperion_engine::Local;
use hyperion_lifecycle::{
    Change, End, Event, Ledger, Record, Rules, Site, State, TaskId, Time, Who,
};
use hyperion_model::errand::{Errand, News, Step};
use hyperion_model::{Bytes, Class, Cores, JobId};
use hyperion_sched::{Order, Policy};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::geteuid;
use thiserror::Error;

use crate::agents::Agents;
use crate::answers::Answer;
use crate::clients::{Audience, ClientId, Clients};
use crate::clock::Clock;
use crate::dispatch::hear;
use crate::history::{History, HistoryError, Keep};
use crate::hold::Held;
use crate::journal::{Journal, JournalError, Text};
use crate::metrics::{Counts, Port};

/// How long what nobody was promised may not be on the disk.
const LINGER: Duration = Duration::from_millis(100);
/// How long it may wait to be written that tasks have begun, where nobody asks: most that are
/// over soon are over then.
const SOON: Duration = Duration::from_millis(10);
/// How long what could not be written waits for another try.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// How a server is to be.
#[derive(Debug)]
pub struct Settings {
    /// Where the queue lies: the journal, and the socket.
    pub folder: PathBuf,
    /// Starts the agent of a user.
    pub agent: fn(u32) -> io::Result<Local>,
    /// Is told when a named point of a turn is reached, so that a test can have all end there.
    pub reached: fn(&'static str),
    /// Holds all that runs of another user to so much together; what is none is not held.
    pub hold: fn(u32, Option<Cores>, Option<Bytes>),
    /// Ends what is left of another user of whom nothing runs any more.
    pub parted: fn(u32),
    /// Whom it is for.
    pub audience: Audience,
    /// A socket on which somebody else listens for it.
    pub socket: Option<UnixListener>,
    /// Looks a user up in the files of this host.
    pub account: fn(u32) -> Option<Account>,
    /// What there is.
    pub site: Site,
    /// Who may have what.
    pub rules: Rules,
    /// Who comes first.
    pub order: Order,
    /// What may start before, and where.
    pub policy: Policy,
    /// A port on which Prometheus may ask.
    pub metrics: Option<TcpListener>,
    /// Something can be read of it when the server is to end.
    pub stop: OwnedFd,
    /// It ends by itself when nobody has wanted anything for so long.
    pub idle: Option<Duration>,
    /// How long jobs that have ended are kept.
    pub keep: Keep,
}

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The home folder.
    pub home: String,
}

/// Why a server cannot go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The folder of the queue cannot be used.
    #[error("cannot use the folder of the queue {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody can ask it.
    #[error("cannot listen at {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The journal cannot.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The history cannot.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Nothing can be started.
    #[error("cannot start the agent of this host")]
    Agent(#[source] io::Error),
    /// The kernel does not say what happens.
    #[error("the queue cannot be watched")]
    Poll(#[source] io::Error),
}

/// Serves until it is told to end; what runs goes on.
///
/// `ready` is called when clients are heard, with what to tell people: of a journal
/// that was broken.
///
/// # Errors
/// [`ServeError`]; all that was acknowledged is written down.
pub fn serve(settings: Settings, ready: impl FnOnce(&[String])) -> Result<(), ServeError> {
    let (mut server, remarks) = Server::open(settings)?;
    ready(&remarks);
    let ended = server.live();
    server.part_with_agents();
    ended
}

pub(crate) struct Server {
    pub(crate) settings: Settings,
    pub(crate) journal: Journal,
    pub(crate) ledger: Ledger,
    pub(crate) clock: Clock,
    pub(crate) started: Time,
    /// Jobs that have ended and are not in the ledger any more.
    pub(crate) history: History,
    /// Of so many the journal still has records.
    pub(crate) forgotten: usize,
    /// When jobs may be forgotten again.
    pub(crate) forget_at: Instant,
    clients: Clients,
    port: Option<Port>,
    pub(crate) counts: Counts,
    /// The user of this process.
    pub(crate) own: u32,
    pub(crate) agents: Agents,
    /// To what others are held together.
    pub(crate) held: BTreeMap<u32, Held>,
    /// The starts that an agent looks after.
    pub(crate) ids: BTreeMap<JobId, TaskId>,
    /// The records in which they run that have none of their own.
    pub(crate) within: BTreeMap<JobId, JobId>,
    /// Steps of starts that have not ended.
    pub(crate) steps: BTreeMap<JobId, Vec<Step>>,
    /// What was told and is not written yet.
    pub(crate) news: VecDeque<News>,
    /// Since when there is news of nothing but begins.
    begun: Option<Instant>,
    /// When what is written is to be on the disk.
    sync_at: Option<Instant>,
    /// When what could not be written is tried again.
    again_at: Option<Instant>,
    /// Who waits for the end of what.
    waiting: Vec<(ClientId, Vec<u64>)>,
    pub(crate) users: BTreeMap<u32, String>,
    /// Since when nobody has wanted anything.
    idle_since: Instant,
    pub(crate) stopping: bool,
}

/// What a turn has come to, before it is written down.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) records: Vec<Record>,
    /// What these name by digest.
    pub(crate) texts: Vec<Text>,
    replies: Vec<(ClientId, Answer)>,
    /// Ends that are written when the records are.
    told: Vec<JobId>,
}

impl Server {
    pub(crate) fn open(mut settings: Settings) -> Result<(Self, Vec<String>), ServeError> {
        let folder = settings.folder.clone();
        let unusable = |source| ServeError::Folder {
            path: folder.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&folder)
            .map_err(unusable)?;
        let private = fs::Permissions::from_mode(0o711);
        fs::set_permissions(&folder, private).map_err(unusable)?;
        let mut ledger = new_ledger(&settings);
        let (mut count, mut last, mut forgotten) = (0u64, Time(0), 0);
        let (journal, broken) = Journal::open(&folder.join("journal"), |record| {
            forgotten += usize::from(matches!(record.change, Change::Forgotten { .. }));
            (count, last) = (count + 1, record.at);
            ledger.apply(&record);
        })?;
        let mut remarks = Vec::new();
        if let Some(broken) = broken {
            remarks.push(format!(
                "the journal was broken ({}): {count} records of it were taken over, and it lies as it was found in {}",
                broken.why,
                broken.copy.display()
            ));
        }
        let (history, aside) = History::open(&folder.join("history"), settings.keep)?;
        if let Some(aside) = aside {
            remarks.push(format!(
                "the history was broken, and a new one is begun; it lies as it was found in {}",
                aside.display()
            ));
        }
        let audience = settings.audience.clone();
        let place = audience.everybody.clone();
        let clients = Clients::listen(&folder, audience, settings.socket.take());
        let deaf = |source| ServeError::Socket {
            path: place.unwrap_or_else(|| folder.join("socket")),
            source,
        };
        let port = settings.metrics.take().map(Port::new).transpose();
        let clock = Clock::start(last);
        let mut server = Self {
            clients: clients.map_err(deaf)?,
            port: port.map_err(unusable)?,
            counts: Counts::default(),
            settings,
            journal,
            ledger,
            started: clock.now(),
            clock,
            history,
            forgotten,
            forget_at: Instant::now(),
            own: geteuid().as_raw(),
            agents: Agents::default(),
            held: BTreeMap::new(),
            ids: BTreeMap::new(),
            within: BTreeMap::new(),
            steps: BTreeMap::new(),
            news: VecDeque::new(),
            begun: None,
            sync_at: None,
            again_at: None,
            waiting: Vec::new(),
            users: BTreeMap::new(),
            idle_since: Instant::now(),
            stopping: false,
        };
        server.start_agents()?;
        Ok((server, remarks))
    }

    fn live(&mut self) -> Result<(), ServeError> {
        let mut more = true;
        loop {
            let stop = self.wait(more)?;
            more = self.round()?;
            if stop || self.stopping || self.is_idle() {
                return Ok(());
            }
        }
    }

    /// Does what there is to do; tells whether more has come than was taken.
    pub(crate) fn round(&mut self) -> Result<bool, ServeError> {
        let (asked, mut more) = self.clients.hear();
        more |= self.hear_agents();
        (self.settings.reached)("server-asked");
        let began = Instant::now();
        if !self.can_wait(&asked, began) {
            self.begun = None;
            self.turn(asked);
            self.counts.turns += 1;
            self.counts.busy += began.elapsed();
        }
        if let Some(mut port) = self.port.take() {
            port.serve(|| self.metrics());
            self.port = Some(port);
        }
        for gone in self.clients.flush() {
            self.waiting.retain(|(client, _)| *client != gone);
        }
        (self.settings.reached)("server-answered");
        self.look_after_agents()?;
        Ok(more)
    }

    /// Tells whether there is nothing to do but to write down that tasks have begun.
    fn can_wait(&mut self, asked: &[(ClientId, Who, Request)], now: Instant) -> bool {
        let begins = self.news.iter().all(|it| matches!(it, News::Up { .. }));
        let alarm = self.ledger.wake_at();
        let due = alarm.is_some_and(|at| at <= self.clock.now())
            || self.sync_at.is_some_and(|at| at <= now);
        let alone = asked.is_empty() && begins && !self.news.is_empty();
        self.begun = (alone && !due).then(|| self.begun.unwrap_or(now));
        self.begun.is_some_and(|since| now < since + SOON)
    }

    /// Waits until there is something to do; tells whether the server is to end.
    pub(crate) fn wait(&mut self, more: bool) -> Result<bool, ServeError> {
        let mut fds = vec![PollFd::new(&self.settings.stop, PollFlags::IN)];
        self.agents.poll_set(&mut fds);
        let clients = fds.len();
        self.clients.poll_set(&mut fds);
        let others = fds.len();
        if let Some(port) = &self.port {
            port.poll_set(&mut fds);
        }
        let limit = match more {
            true => Some(Duration::ZERO),
            false => self.until_next(),
        };
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(ServeError::Poll(e.into())),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        self.clients.see(&ready[clients..others]);
        Ok(!ready[0].is_empty())
    }

    fn until_next(&self) -> Option<Duration> {
        let alarm = self.ledger.wake_at().filter(|_| self.again_at.is_none());
        let alarm = alarm.map(|at| at.since(self.clock.now()));
        let until = |at: Instant| at.saturating_duration_since(Instant::now());
        let again = self.again_at.map(until);
        let sync = self.sync_at.map(until);
        let agent = self.agents.until_next(self.own);
        let asks = self.port.as_ref().filter(|port| port.is_watched());
        let asks = asks.map(|_| AGAIN);
        let told = !self.news.is_empty() && self.again_at.is_none();
        let soon = self
            .begun
            .map_or(Duration::ZERO, |since| until(since + SOON));
        let told = told.then_some(soon);
        let idle = self.settings.idle.filter(|_| self.clients.is_empty());
        // A moment is a whole number of microseconds, and is not to be missed by one.
        let all = [alarm, again, sync, told, asks, agent, idle]
            .into_iter()
            .flatten()
            .min();
        all.map(|span| (span + Duration::from_micros(1)).min(Duration::from_secs(3600)))
    }

    fn is_idle(&mut self) -> bool {
        let Some(idle) = self.settings.idle else {
            return false;
        };
        if !self.clients.is_empty() {
            self.idle_since = Instant::now();
        }
        if self.idle_since.elapsed() < idle {
            return false;
        }
        // Once in that time: most of those that are known may have ended long ago.
        let busy = self.ledger.jobs().values().any(|job| !job.is_over());
        if busy {
            self.idle_since = Instant::now();
        }
        !busy
    }

    /// Takes what has come, writes down what it means, and carries that out.
    fn turn(&mut self, asked: Vec<(ClientId, Who, Request)>) {
        let now = self.clock.now();
        let held_up = self.again_at.is_some_and(|at| at > Instant::now());
        let mut turn = Turn::default();
        if !held_up {
            turn.records.extend(self.forget(now));
            for news in &self.news {
                turn.records
                    .extend(hear(&mut self.ledger, &self.ids, news, now));
            }
            let due = self.ledger.wake_at().is_some_and(|at| at <= now);
            if due {
                turn.records
                    .extend(self.ledger.step(now, Event::Tick).unwrap_or_default());
            }
        }
        for (client, who, request) in asked {
            let answer = self.answer(who, request, now, &mut turn);
            turn.replies.push((client, answer));
        }
        let due = self.ledger.wake_at().is_some_and(|at| at <= now);
        if !held_up && (due || !turn.records.is_empty()) {
            turn.records.extend(self.ledger.schedule(now));
        }
        match self.write(&turn) {
            Ok(()) => {
                if !held_up {
                    self.again_at = None;
                    for news in std::mem::take(&mut self.news) {
                        if let News::Over(id, _) = news {
                            turn.told.push(id);
                        }
                    }
                }
                self.carry_out(turn);
            }
            Err(error) => self.undo(turn, &error),
        }
    }

    /// Writes down what a turn has come to: it is safe from whatever kills this process.
    fn write(&mut self, turn: &Turn) -> Result<(), JournalError> {
        if !turn.records.is_empty() {
            (self.settings.reached)("server-decided");
            self.journal.append(&turn.records, &turn.texts)?;
            (self.settings.reached)("server-written");
        }
        self.counts.records += turn.records.len() as u64;
        Ok(())
    }

    /// Sees to it that what is written is on the disk, where somebody is to be told of it.
    /// What only this host does may come there a moment later: when the host goes down, what
    /// it did goes too.
    fn sync(&mut self, promised: bool) -> Result<(), JournalError> {
        let now = Instant::now();
        if promised || self.sync_at.is_some_and(|at| at <= now) {
            self.sync_at = Some(now + AGAIN);
            self.journal.sync()?;
            (self.settings.reached)("server-synced");
        }
        self.sync_at = match self.journal.is_unsynced() {
            true => self.sync_at.or(Some(now + LINGER)),
            false => None,
        };
        Ok(())
    }

    /// Sends errands for what is written down, and answers when it is on the disk: what is
    /// asked of agents is on its way meanwhile.
    fn carry_out(&mut self, turn: Turn) {
        let promised = !turn.records.is_empty() && !turn.replies.is_empty();
        for id in turn.told {
            let task = self.ids.remove(&id);
            self.within.remove(&id);
            self.steps.remove(&id);
            let Some(TaskId { job, .. }) = task else {
                continue;
            };
            let user = self.user_of(job);
            self.ask(user, &Errand::Forget(id));
            let its = self.ledger.jobs().get(&job);
            if its.is_none_or(|its| its.is_over()) {
                self.ask(user, &Errand::Clear(job));
            }
        }
        self.hold_users(&turn.records);
        for record in &turn.records {
            self.counts.see(record, &self.ledger);
            self.act(&record.change);
        }
        self.agents.flush();
        if !turn.records.is_empty() {
            (self.settings.reached)("server-acted");
        }
        if let Err(error) = self.sync(promised) {
            self.refuse(turn.replies, &error);
            return;
        }
        for (client, answer) in turn.replies {
            match answer {
                Answer::Now(reply) => self.clients.answer(client, &reply),
                Answer::Ends(jobs) => self.waiting.push((client, jobs)),
            }
        }
        self.tell_ends();
        self.compact(self.clock.now());
    }

    /// Forgets what could not be written: it has not happened.
    fn undo(&mut self, turn: Turn, error: &JournalError) {
        self.again_at = Some(Instant::now() + AGAIN);
        if !turn.records.is_empty() {
            let mut ledger = new_ledger(&self.settings);
            if self
                .journal
                .read(&mut |record| ledger.apply(&record))
                .is_ok()
            {
                self.ledger = ledger;
            }
        }
        self.refuse(turn.replies, error);
    }

    /// Says that nothing can be promised.
    fn refuse(&mut self, replies: Vec<(ClientId, Answer)>, error: &JournalError) {
        let refused = Reply::Refused(Refused {
            class: Class::Unavailable,
            causes: causes(error),
            hint: "make room on the disk; what runs goes on".into(),
        });
        for (client, _) in replies {
            self.clients.answer(client, &refused);
        }
    }

    /// Tells whether somebody waits to hear how a job ended.
    pub(crate) fn is_awaited(&self, job: u64) -> bool {
        self.waiting.iter().any(|(_, all)| all.contains(&job))
    }

    /// Tells those who wait for ends of those that have come.
    fn tell_ends(&mut self) {
        let jobs = self.ledger.jobs();
        let over = |job: &u64| jobs.get(job).is_none_or(|job| job.is_over());
        let ended = |(_, all): &(ClientId, Vec<u64>)| all.iter().all(over);
        // Where that fails it is tried again, and nobody is told before.
        if !self.waiting.iter().any(ended) || self.journal.sync().is_err() {
            return;
        }
        let (mut told, history) = (Vec::new(), &self.history);
        self.waiting.retain(|(client, all)| {
            let done = all.iter().all(over);
            if done {
                let last = all.last().copied();
                let its = last.and_then(|job| jobs.get(&job));
                let code = its.map(|job| code_of(job));
                let past = || history.get(last?).ok().flatten();
                let code = code.or_else(|| past().map(|past| code_of(&past.into())));
                told.push((*client, Reply::Ended(code.unwrap_or(0))));
            }
            !done
        });
        for (client, reply) in told {
            self.clients.answer(client, &reply);
        }
    }
}

/// Makes a ledger in which nothing is written.
fn new_ledger(settings: &Settings) -> Ledger {
    Ledger::with_rules(
        settings.site.clone(),
        settings.rules.clone(),
        settings.order,
        settings.policy,
    )
}

/// Gives what an error says, and what its causes do.
pub(crate) fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect()
}

/// Gives the code with which `submit --wait` ends: the worst of a job's tasks.
fn code_of(job: &hyperion_lifecycle::Job) -> u8 {
    let codes = job.tasks().values().map(|task| match task.end {
        _ if task.state == State::Completed => 0,
        Some(End::Exit(exit)) => exit.shell_code().max(1),
        _ => 1,
    });
    codes.max().unwrap_or(0)
}
