//! The process that keeps one job: it puts the sandbox up, starts the ranks,
//! collects what they write, answers clients, and writes down how it ended.
//!
//! It is a copy of the command that started it, in a session of its own, so it
//! survives the terminal; and it runs no threads, so that it may fork.
//!
//! ```text
//! up ──▶ ranks run ──▶ (again, with --repeat) ──▶ record written, end told ──▶ sandbox down
//!  │        │ a rank fails, a limit is reached, a client says stop:
//!  │        └─▶ SIGTERM to all ─▶ grace ─▶ SIGKILL ─▶ as above
//!  └─ fails ─▶ record written, end told
//! ```

mod answers;
mod clients;
mod collect;
mod ending;
mod lane;
mod launch;
mod pmi;
mod preflight;
mod ranks;
mod report;
mod steps;
mod streams;

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyperion_isolation::init::SETTLING;
use hyperion_isolation::wire::Wire;
use hyperion_isolation::{Event, Sandbox, SandboxError, Stage, Taken};
use hyperion_model::errand::LaneTask;
use hyperion_model::report::{Exit, Phase};
use hyperion_model::{CpuSet, Level};
use hyperion_mpi::decide::Refusal;
use hyperion_mpi::layout::{LayoutError, layout};
use hyperion_sys::cgroup::Layout;
use hyperion_sys::failpoint;
use hyperion_sys::process;
use hyperion_sys::signals::{self, SIGTERM, SignalFd};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use crate::jobs::{End, Failure, JobError, JobFolder, Running};
use crate::log::Writer;
use crate::talk::Tell;
use clients::Clients;
pub use launch::{HostFacts, Launch, Looked, end_orphans, start};
use pmi::Pmi;
use preflight::Decision;
use ranks::RankState;
use report::MemoryWatch;
use steps::Steps;
use streams::Streams;

/// How long ranks that were told to end may take before they are killed, when
/// one of them has failed: together less than a second.
const FAILURE_GRACE: Duration = Duration::from_millis(500);

/// How long what was asked to end may take before it is killed, where nobody says.
const GRACE: Duration = Duration::from_secs(10);
/// How long what was killed may take to show that something is left that hears it.
const LIFE: Duration = Duration::from_secs(1);

/// When it is written down that a job runs which somebody waits for: one that is
/// shorter is over before anybody could ask for it.
const RECORDED_AFTER: Duration = Duration::from_millis(100);
/// When that is tried again, where there was no room for it.
const RECORDED_AGAIN: Duration = Duration::from_secs(1);

/// How many events are heard of a sandbox at a time, before others have their turn.
const EVENTS: usize = 64;

/// What is told of a job that was stopped on its way up.
const NOT_BEGUN: &str = "the job was stopped before it began";

fn supervise(launch: Launch, mut first: Wire) -> io::Result<()> {
    let signals = SignalFd::new(&signals::FORWARDED)?;
    let groups = match launch.is_bare() {
        true => Layout::default(),
        false => Layout::detect(),
    };
    let mut folder = launch.jobs.unmade(&launch.plan.id);
    let mut socket = None;
    if !launch.is_recorded_late() {
        // What comes behind open files is not read together with them (unix(7)): it is the client's.
        first.receive::<()>()?;
        folder = launch.jobs.taken_over(&launch.plan.id, first.take_fd()?);
        socket = Some(first.take_fd()?);
        failpoint!("folder-made");
    }
    let mut clients = Clients::new(first, launch.attach);
    socket.map_or(Ok(()), |socket| clients.listen(socket))?;
    let log = Writer::new(folder.log());
    let mut supervisor = Supervisor {
        folder,
        groups,
        clients,
        signals,
        sandbox: None,
        streams: Streams::new(log),
        decision: None,
        pmi: None,
        places: Vec::new(),
        leader: None,
        still: false,
        alone: false,
        ranks: BTreeMap::new(),
        remotes: BTreeSet::new(),
        execs: BTreeMap::new(),
        repeats: Vec::new(),
        first_start: None,
        phases: launch.phases.clone(),
        startup: Duration::ZERO,
        failure: None,
        failed_exit: None,
        task: None,
        tasks: VecDeque::new(),
        steps: Steps::default(),
        retry_at: None,
        last: false,
        ended_by: SIGTERM as u8,
        memory: MemoryWatch::default(),
        more: false,
        recorded: false,
        record_at: None,
        settled: false,
        looked: false,
        kill_at: None,
        limit_at: None,
        timed_out: false,
        unkept_at: None,
        released: None,
        collecting: false,
        collected: None,
        given_up: false,
        launch,
    };
    let end = supervisor.live();
    supervisor.finish(end)
}

/// Why a job could not run or ended.
#[derive(Debug, Error)]
enum Problem {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the job's supervisor failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the ranks do not fit this host")]
    Layout(#[from] LayoutError),
    #[error("the output folder {} cannot be used", path.display())]
    OutputDir { path: PathBuf, source: io::Error },
    #[error("cannot open {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

struct Supervisor {
    launch: Launch,
    /// The record of the job, with its lock once it is made.
    folder: JobFolder,
    /// Where this host has groups, until the sandbox is made.
    groups: Layout,
    clients: Clients,
    signals: SignalFd,
    sandbox: Option<Box<dyn Sandbox>>,
    streams: Streams,
    /// How the ranks are started.
    decision: Option<Decision>,
    pmi: Option<Pmi>,
    /// The processors of each rank.
    places: Vec<Option<CpuSet>>,
    /// An `mpirun` that starts the ranks: whether it still runs.
    leader: Option<bool>,
    /// All that is inside was told to stand still.
    still: bool,
    ranks: BTreeMap<u32, RankState>,
    /// Only its init is left inside.
    alone: bool,
    /// What an `mpirun` has asked to be started on other nodes.
    remotes: BTreeSet<u32>,
    /// Commands beside the ranks: their number in the sandbox, and whose they are.
    execs: BTreeMap<u32, u64>,
    repeats: Vec<Duration>,
    first_start: Option<Instant>,
    phases: Vec<Phase>,
    startup: Duration,
    failure: Option<Failure>,
    failed_exit: Option<Exit>,
    /// The task of an array that runs.
    task: Option<u32>,
    /// What a lane is to run next.
    tasks: VecDeque<LaneTask>,
    /// What the script has started with its batch system's launcher.
    steps: Steps,
    /// When a lane tries again to write down what there was no room for.
    retry_at: Option<Instant>,
    /// No further run of the command is wanted.
    last: bool,
    /// The signal by which a job is taken to end that has not begun, or that hangs.
    ended_by: u8,
    memory: MemoryWatch,
    /// The sandbox may have more to say than was heard of it at once.
    more: bool,
    /// That it runs is written down.
    recorded: bool,
    /// When that is written down of a job that somebody waits for.
    record_at: Option<Instant>,
    /// Nothing has happened for a moment, and memory was given back.
    settled: bool,
    /// What a look at the job's memory needs has come back since then.
    looked: bool,
    kill_at: Option<Instant>,
    limit_at: Option<Instant>,
    /// The time limit ended it.
    timed_out: bool,
    /// When it ends, if nobody has come for the room that it is.
    unkept_at: Option<Instant>,
    /// As what it ends, where it was but room for commands beside it.
    released: Option<Exit>,
    /// What the job changed in copies of folders is on its way out.
    collecting: bool,
    /// What came of that.
    collected: Option<Taken>,
    /// Nobody wants the rest of it.
    given_up: bool,
}

impl Supervisor {
    /// Puts the sandbox up, runs the ranks as often as asked, and says how it ended.
    fn live(&mut self) -> End {
        let outcome = self.up().and_then(|()| self.run_all());
        if let Err(problem) = &outcome {
            self.fail(problem);
        }
        let sandbox = self.sandbox.as_ref().filter(|_| self.launch.counted);
        let usage = sandbox.map(|s| s.usage()).unwrap_or_default();
        let lost = matches!(outcome, Err(Problem::Sandbox(_)));
        let whole = self.first_start.is_none() || self.bring_back(lost);
        // Where only its init is left inside, the sandbox is taken down when nobody waits any more.
        let job = &self.launch.plan.job;
        if !self.alone || job.level == Level::Vm || !job.members.is_empty() {
            take_down(&mut self.sandbox);
        }
        // Nothing holds the other ends any more: what is left in the pipes is all there is.
        self.streams.drain(&mut self.clients);
        let code = match (&outcome, self.failed_exit) {
            (Err(Problem::Refused(refusal)), None) => refusal.exit_code(),
            (Err(Problem::Sandbox(e)), None) => e.exit_code().unwrap_or(125),
            (Err(_), None) => 125,
            _ if self.timed_out => 124,
            (_, Some(exit)) => exit.shell_code(),
            (Ok(()), None) if !whole => 125,
            (Ok(()), None) => 0,
        };
        let ran = self.first_start.is_some();
        let counted = self.launch.counted;
        let report = (ran && counted).then(|| self.report(usage));
        let exit = self
            .failed_exit
            .or_else(|| outcome.is_ok().then_some(Exit::Code(0)));
        let lost = matches!(&outcome, Err(Problem::Sandbox(e)) if e.is_lost());
        End {
            finished: Timestamp::now(),
            code,
            exit,
            failure: self.failure.take(),
            lost: lost && exit.is_none(),
            report,
            uncounted: ran && !counted,
        }
    }

    /// Writes the record, tells everybody, and then removes what nobody waits for.
    fn finish(mut self, end: End) -> io::Result<()> {
        let job = &self.launch.plan.job;
        failpoint!("before-end");
        // What never ran has told its starter why, and leaves nothing: its name can be used again.
        let never_ran = !end.has_run();
        let remove = job.remove || never_ran;
        let written = if remove {
            self.launch.jobs.free_name(&self.folder, job.name.as_ref());
            Ok(())
        } else {
            self.folder.write("end.json", &end).map(drop)
        };
        // Whoever hears the end may remove the image at once.
        self.launch.keep.clear();
        // Whoever looks after the end was told finds it written down, or nobody at work.
        let first = never_ran || written.is_err();
        if first {
            self.clean_up(remove);
        }
        // The room may have gone to what the job itself has written, which is gone now.
        let written = written.or_else(|_| self.folder.write("end.json", &end).map(drop));
        if written.is_err() {
            self.folder.unlock();
        }
        let ended = Tell::Ended(Box::new(end));
        self.clients.tell_end(&ended);
        failpoint!("before-cleaning");
        if !first {
            self.clean_up(remove);
        }
        // Nobody can connect any more; who did meanwhile finds no record of a job with --rm.
        self.clients.tell_latecomers(&ended);
        written.map_err(io::Error::other)
    }

    /// Removes the sandbox and what it wrote, and all of the job if it is to be removed.
    fn clean_up(&mut self, remove: bool) {
        take_down(&mut self.sandbox);
        let folder = &self.folder;
        let userns = &self.launch.plan.sandbox.userns;
        let _ = hyperion_isolation::container::remove_scratch(&folder.scratch(), userns);
        if remove {
            let _ = self.launch.jobs.erase(folder);
        } else {
            let _ = std::fs::remove_file(folder.path.join("hyperion-rank"));
            let _ = std::fs::remove_file(folder.path.join("ranks"));
            // Last: as long as it is there, something may be left to clean up.
            let _ = std::fs::remove_file(folder.control());
        }
    }

    fn phase(&mut self, name: &str, since: Instant) {
        self.phases.push(Phase {
            name: name.to_owned(),
            took: since.elapsed(),
        });
    }

    fn up(&mut self) -> Result<(), Problem> {
        self.phases.push(Phase {
            name: "supervisor".into(),
            took: self
                .launch
                .began
                .elapsed()
                .saturating_sub(total(&self.phases)),
        });
        let job = &self.launch.plan.job;
        let parallel = &job.parallel;
        // Before anything is made: a layout that does not fit is refused with nothing to undo.
        let members = job.members.iter().map(|member| member.ranks);
        let alone = job.members.is_empty().then_some(parallel.ranks);
        for ranks in members.chain(alone) {
            self.places.extend(layout(
                ranks,
                parallel.cpus_per_rank,
                parallel.bind,
                &self.launch.host.nodes,
                &self.launch.host.allowed(&job.resources),
                parallel.oversubscribe,
            )?);
        }
        let since = Instant::now();
        let stage = Stage {
            folder: self.folder.path.clone(),
            program: self.launch.program.clone(),
            port: None,
            groups: std::mem::take(&mut self.groups),
            bare: self.launch.is_bare(),
            counted: self.launch.counted,
        };
        if let Some(scratch) = &self.launch.plan.sandbox.root.scratch {
            // A set-user-id file that root inside makes here must be out of everybody's reach.
            make_dir(scratch, 0o700)?;
        }
        let sandbox = self
            .launch
            .isolation
            .create(&self.launch.plan.sandbox, &stage)?;
        self.sandbox = Some(sandbox);
        if !self.comes_up()? {
            return Ok(());
        }
        failpoint!("sandbox-up");
        self.phase("sandbox", since);
        let since = Instant::now();
        self.decision = self.preflight()?;
        self.phase("preflight", since);
        Ok(())
    }

    /// Waits until the sandbox is up, and serves clients meanwhile; tells whether
    /// it is wanted any more.
    fn comes_up(&mut self) -> Result<bool, Problem> {
        loop {
            let up = self.sandbox.as_mut().map(|sandbox| sandbox.is_up());
            if up.transpose()?.unwrap_or(true) {
                return Ok(true);
            }
            self.wait()?;
            if self.last {
                self.failed_exit = Some(Exit::Signal(self.ended_by));
                self.failure = Some(self.failure_of_job(NOT_BEGUN));
                return Ok(false);
            }
        }
    }

    /// Runs the ranks once, or as often as asked.
    fn run_all(&mut self) -> Result<(), Problem> {
        if self.decision.is_none() {
            return Ok(());
        }
        let job = &self.launch.plan.job;
        if job.lane {
            return self.run_lane();
        }
        let array = job.array.clone().map(|tasks| tasks.0.into_iter().map(Some));
        let repeats = std::iter::repeat_n(None, job.repeat.max(1) as usize);
        let tasks: Box<dyn Iterator<Item = Option<u32>>> = match array {
            Some(tasks) => Box::new(tasks),
            None => Box::new(repeats),
        };
        for task in tasks {
            let since = Instant::now();
            self.task = task;
            self.start_ranks()?;
            if self.first_start.is_none() {
                self.first_start = Some(since);
                self.streams.started();
                self.startup = self.launch.began.elapsed();
                self.phase("spawn", since);
                self.limit_at = self.launch.plan.job.time_limit.map(|limit| since + limit);
                self.unkept_at = self.unkept_after(since);
                if self.launch.counted {
                    self.memory.start(since);
                }
                match self.launch.attach {
                    // Whoever hears of the start may ask for the job.
                    None => self.record_running()?,
                    Some(_) => self.record_at = Some(since + RECORDED_AFTER),
                }
                self.clients.tell_all(&Tell::Started);
                // While the program begins.
                if self.launch.is_recorded_late() {
                    launch::leave()?;
                }
                self.try_make_record();
                if self.launch.counted {
                    // The report needs it, and now there is time.
                    LazyCell::force(&self.launch.host.memory);
                }
                failpoint!("ranks-run");
            }
            let ran = self.run();
            self.repeats.push(since.elapsed());
            ran?;
            if self.failure.is_some() || self.last {
                break;
            }
        }
        Ok(())
    }

    /// Serves everybody until nothing of the job runs any more.
    fn run(&mut self) -> Result<(), Problem> {
        while self.runs() {
            self.turn()?;
        }
        Ok(())
    }

    /// Tells whether anything of the job still runs.
    fn runs(&self) -> bool {
        self.leader
            .unwrap_or_else(|| self.ranks.values().any(RankState::runs))
    }

    /// Makes the record of a job that has none yet.
    fn make_record(&mut self) -> Result<(), JobError> {
        if self.folder.lock().is_some() {
            return Ok(());
        }
        let clients = &mut self.clients;
        let listen = |_: &JobFolder, socket| clients.listen(socket);
        let Launch { jobs, plan, .. } = &self.launch;
        self.folder = launch::make_record(jobs, plan, listen)?;
        Ok(())
    }

    /// Makes the record if that can be done now: what runs already goes on without.
    fn try_make_record(&mut self) {
        if let Err(error) = self.make_record() {
            let problem = Problem::from(error);
            let causes = report::causes(&problem).join(": ");
            self.clients.note(&format!(
                "the job has no record yet, so that no other command finds it: {problem}: {causes}"
            ));
        }
    }

    /// Writes down that it runs, once.
    fn record_running(&mut self) -> Result<(), Problem> {
        self.make_record()?;
        let Some(sandbox) = self.sandbox.as_ref().filter(|_| !self.recorded) else {
            return Ok(());
        };
        let supervisor = rustix::process::getpid().as_raw_pid().unsigned_abs();
        let running = Running {
            started: Timestamp::now(),
            supervisor,
            sandboxes: sandbox.records(),
        };
        self.folder.write("running.json", &running)?;
        self.recorded = true;
        Ok(())
    }

    /// Writes down that it runs if that can be done now: a full disk ends nothing
    /// that runs, and is tried again.
    fn try_record_running(&mut self) {
        self.record_at = None;
        if self.record_running().is_err() {
            self.record_at = Some(Instant::now() + RECORDED_AGAIN);
        }
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self) -> Result<(), Problem> {
        // Before waiting: an end may have come together with an answer.
        self.serve_sandbox()?;
        if self.runs() {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Problem> {
        let Some(sandbox) = &self.sandbox else {
            return Ok(());
        };
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let sandbox_fd = sandbox.fd();
        fds.push(PollFd::from_borrowed_fd(sandbox_fd, PollFlags::IN));
        let clients = self.clients.poll_set(&mut fds);
        // While a client is slow to take what was written, no more is read: a
        // program that writes to a pipe is held up the same way.
        let streams = self.streams.poll_set(&mut fds, !self.clients.congested());
        let pmi = self.pmi.as_ref().map_or(0..0, |p| p.poll_set(&mut fds));
        if std::mem::take(&mut self.looked) {
            process::drop_idle_code();
        }
        let until_next = self.timeout();
        let settles = !self.settled && until_next.is_none_or(|next| next > SETTLING);
        let quiet = settles.then_some(SETTLING);
        let mut woken = poll(&mut fds, quiet.or(until_next).as_ref());
        if woken == Ok(0) && settles {
            self.settled = true;
            let rest = until_next.map(|next| next - SETTLING);
            // Just before the long sleep: what runs in between comes back into memory.
            process::drop_idle_code();
            woken = poll(&mut fds, rest.as_ref());
        }
        match woken {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(io::Error::from(e).into()),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        self.clients.hear(&self.signals, &ready[clients.clone()]);
        // Output before ends: what a rank wrote last comes before the news of its end.
        self.streams
            .serve(&ready[streams.clone()], &mut self.clients)?;
        self.serve_pmi(&ready[pmi])?;
        if ready[clients.clone()].iter().any(|r| !r.is_empty()) {
            // Whoever comes, or leaves a job that goes on, may ask for it next.
            self.try_record_running();
        }
        self.serve_clients()?;
        if self.more || !ready[1].is_empty() {
            self.serve_sandbox()?;
        }
        self.check_times()
    }

    fn timeout(&self) -> Option<Timespec> {
        // What was heard already, as an answer was waited for, wakes nobody again.
        if self.more || !self.clients.said.is_empty() {
            return Some(Timespec::default());
        }
        let times = [
            self.kill_at,
            self.limit_at,
            self.unkept_at,
            self.record_at,
            self.retry_at,
            self.memory.next(),
        ];
        let next = times.into_iter().flatten().min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: i64::from(left.subsec_nanos()),
        })
    }

    fn serve_sandbox(&mut self) -> Result<(), Problem> {
        self.more = true;
        for _ in 0..EVENTS {
            let event = self.sandbox.as_mut().map(|s| s.next_event());
            let Some(event) = event.transpose()?.flatten() else {
                self.more = false;
                break;
            };
            if let Event::Ended { alone, .. } = event {
                self.alone = alone;
            }
            match event {
                Event::Joined { id } => self.rank_joined(id),
                Event::Remote { host, command } => self.start_remote(&host, command)?,
                Event::Step(step) => self.hear_step(step),
                Event::Collected(taken) => {
                    // Nothing comes after it, and nobody is there any more.
                    self.collected = Some(taken);
                    return Ok(());
                }
                Event::Ended { id, exit, .. } if self.remotes.remove(&id) => {
                    self.remote_ended(exit)?;
                }
                Event::Ended { id, .. } if self.execs.contains_key(&id) => self.exec_ended(&event),
                Event::Ended {
                    id: ranks::LEADER,
                    exit,
                    ..
                } => self.leader_ended(exit)?,
                Event::Ended { .. } => self.rank_ended(&event)?,
            }
        }
        Ok(())
    }
}

/// Kills whatever is still inside a sandbox, and removes it.
fn take_down(sandbox: &mut Option<Box<dyn Sandbox>>) {
    if let Some(mut sandbox) = sandbox.take() {
        sandbox.destroy();
    }
}

fn total(phases: &[Phase]) -> Duration {
    phases.iter().map(|p| p.took).sum()
}

fn make_dir(path: &std::path::Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        // Whatever the caller's umask is.
        _ => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
    }
}

#[cfg(test)]
mod tests;
