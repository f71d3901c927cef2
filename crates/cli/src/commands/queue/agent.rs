//! `hyperion agent`: starts the jobs of a queue on this host, for a server that asks
//! for them on standard input, and tells how they end.

mod asked;
mod lanes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_api::Lines;
use hyperion_model::errand::{Cost, Errand, News, Outcome, Start};
use hyperion_model::report::Exit;
use hyperion_model::submission::Warning;
use hyperion_model::task::End;
use hyperion_model::{Class, CpuSet, JobId};
use hyperion_node::client::Heard;
use hyperion_node::supervisor::start;
use hyperion_node::talk::{Ask, Tell};
use hyperion_node::{Client, JobFolder, Jobs, State};
use hyperion_sys::caps::CapSet;
use hyperion_sys::cgroup::{Cgroup, Layout};
use hyperion_sys::entry::ExitCode;
use hyperion_sys::failpoint;
use hyperion_sys::process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::process::umask;

use super::batch;
use crate::commands::run::HostSize;
use crate::commands::users;
use crate::config::Queue;
use crate::context::Context;
use crate::errors;
use asked::Asked;
use lanes::Lane;

// Words of `hyperion agent`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Be this user's agent, by number
    #[arg(long, value_name = "UID")]
    of: Option<u32>,
}

/// Serves until the server is gone; jobs go on.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    if let Some(uid) = args.of {
        return Err(become_agent_of(uid, ctx));
    }
    // Started by way of /proc it would be called `exe`.
    let _ = rustix::thread::set_name(c"hyperion");
    let input = rustix::io::dup(rustix::stdio::stdin())?;
    let lines = Lines::new(UnixStream::from(input))?;
    // An agent that was asked before may still be at work: what it starts must be there
    // when this one looks.
    let folder = super::desk(ctx);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = File::create(folder.join("agent.lock")).context("cannot lock the agent")?;
    flock(&lock, FlockOperation::LockExclusive).context("cannot lock the agent")?;
    batch::make_folder(ctx).context("cannot make the folder of scripts")?;
    let program = std::env::current_exe().context("cannot find the file of this program")?;
    crate::commands::shims::install::all(&folder.join(super::SHIMS), &program)?;
    let mut agent = Agent {
        ctx,
        jobs: Jobs::new(&ctx.root),
        lines,
        watched: BTreeMap::new(),
        lanes: BTreeMap::new(),
        over: BTreeMap::new(),
        forgotten: VecDeque::new(),
        // What one that was killed has left.
        spare: true,
        asked: Asked::default(),
    };
    let lived = agent.live();
    agent.clear();
    drop(lock);
    lived?;
    Ok(ExitCode::SUCCESS)
}

/// How long nothing must happen before the last script of a job that is over is removed.
const REST: Duration = Duration::from_millis(100);

struct Agent<'a> {
    ctx: &'a Context,
    jobs: Jobs,
    lines: Lines,
    /// Supervisors of tasks that have not ended.
    watched: BTreeMap<JobId, Client>,
    /// Supervisors that run tasks one after the other.
    lanes: BTreeMap<JobId, Lane>,
    /// What is over, and not forgotten yet.
    over: BTreeMap<JobId, Outcome>,
    /// Whose records are to be removed, when there is time.
    forgotten: VecDeque<JobId>,
    /// A script lies about that the next may be written over.
    spare: bool,
    asked: Asked,
}

impl Agent<'_> {
    fn live(&mut self) -> anyhow::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.is_none() {
                self.clear();
            }
            for id in ready.unwrap_or_default() {
                match self.lanes.contains_key(&id) {
                    true => self.hear_lane(&id),
                    false => self.hear_job(&id),
                }
            }
            // Supervisors are children of the agent that started them.
            while let Ok(Some(_)) = process::wait_any() {}
            loop {
                match self.lines.try_hear() {
                    Ok(Some(errand)) => self.run_errand(errand),
                    Ok(None) => break,
                    // The server is gone. All that it has asked for is done.
                    Err(_) => return Ok(()),
                }
            }
            if self.lines.flush().is_err() {
                return Ok(());
            }
            self.end_idle_lanes();
            if let Some(id) = self.forgotten.pop_front() {
                self.remove(&id);
            }
        }
    }

    /// Removes what is left of scripts.
    fn clear(&mut self) {
        if std::mem::take(&mut self.spare) {
            batch::remove_spare(self.ctx);
        }
    }

    /// Waits for errands and for news; gives the supervisors of which there are some, and
    /// `None` where nothing has happened for so long that there is time for other things.
    fn wait(&self) -> anyhow::Result<Option<Vec<JobId>>> {
        let mut flags = PollFlags::IN;
        if self.lines.unsent() > 0 {
            flags |= PollFlags::OUT;
        }
        let lanes = self.lanes.iter();
        let lanes = lanes.filter_map(|(id, lane)| Some((id, lane.client.as_ref()?)));
        let all: Vec<(&JobId, BorrowedFd<'_>)> = self
            .watched
            .iter()
            .chain(lanes)
            .map(|(id, client)| (id, client.as_fd()))
            .collect();
        let mut fds = vec![PollFd::new(&self.lines, flags)];
        fds.extend(
            all.iter()
                .map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)),
        );
        let limit = match self.forgotten.is_empty() {
            false => Some(Duration::ZERO),
            true => {
                let rest = self.spare.then_some(REST);
                self.next_idle().into_iter().chain(rest).min()
            }
        };
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) if self.forgotten.is_empty() => return Ok(None),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("cannot wait for what happens"),
        }
        let ready = fds[1..].iter().map(|fd| !fd.revents().is_empty());
        let ids = all.iter().zip(ready);
        let ready = ids.filter(|(_, r)| *r).map(|((id, _), _)| (*id).clone());
        Ok(Some(ready.collect()))
    }

    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Asked(submission) => self.asked.hear(*submission),
            Errand::Start(mut start) => {
                if let Some(submission) = self.asked.last() {
                    start.submission = submission.clone();
                    self.start(start);
                }
            }
            Errand::Adopt { ids, jobs } => self.adopt_all(ids, &jobs),
            Errand::Signal(id, signal) => self.ask(&id, &Ask::Signal(signal.into())),
            Errand::Warn(id, Warning { signal, to, .. }) => {
                let signal = signal.into();
                self.ask(&id, &Ask::Warn { signal, to });
            }
            Errand::Suspend(id) => self.ask(&id, &Ask::Suspend),
            Errand::Resume(id, cpus) => self.ask(&id, &Ask::Resume { cpus }),
            Errand::Stop(id, grace) => {
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                self.lanes.values_mut().for_each(|lane| lane.withdraw(&id));
                self.ask(&id, &Ask::Stop { grace_ms });
            }
            Errand::Forget(id) => {
                self.over.remove(&id);
                if !self.forget_in_lane(&id) {
                    self.forgotten.push_back(id);
                }
            }
            Errand::Clear(job) => {
                batch::put_aside(job, self.ctx);
                self.spare = true;
            }
        }
    }

    fn tell(&mut self, news: &News) {
        // It goes out with the next flush; a server that is gone is seen there.
        let _ = self.lines.queue(news);
    }

    fn ask(&mut self, id: &JobId, ask: &Ask) {
        let lanes = self.lanes.values_mut();
        let mut lanes = lanes.filter(|lane| lane.runs(id));
        let client = match self.watched.get_mut(id) {
            Some(client) => Some(client),
            None => lanes.next().and_then(|lane| lane.client.as_mut()),
        };
        if let Some(client) = client {
            // One that has just ended is heard of.
            let _ = client.ask(ask);
        }
    }

    fn start(&mut self, asked: Box<Start>) {
        failpoint!("agent-asked");
        let id = &asked.id;
        let in_lane = self.lanes.values().any(|lane| lane.open.contains(id));
        if in_lane || self.watched.contains_key(id) || self.over.contains_key(id) {
            return;
        }
        if self.folder(id).is_some() {
            return self.adopt(id.clone());
        }
        let id = id.clone();
        // The files of the job are made with its rights.
        umask(Mode::from_raw_mode(asked.submission.origin.umask));
        let started = match batch::shape(&asked) {
            Some(shape) => self.start_in_lane(shape, asked),
            // All of it lies where its supervisor does.
            None => bound(asked.share.cpus.as_ref(), || {
                let launch = batch::prepare(&asked, self.ctx)?;
                Ok(start(launch)?)
            })
            .map(|client| drop(self.watched.insert(id.clone(), client))),
        };
        umask(Mode::from_raw_mode(0o077));
        failpoint!("agent-started");
        if let Err(error) = started {
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            let outcome = Outcome {
                end: End::Broken,
                why: Some(causes.join(": ")),
                cost: None,
            };
            self.end(id, outcome);
        }
    }

    fn folder(&self, id: &JobId) -> Option<JobFolder> {
        let there = self.jobs.place(id).is_dir();
        there.then(|| self.jobs.find(id.as_str()).ok()).flatten()
    }

    fn end(&mut self, id: JobId, outcome: Outcome) {
        self.watched.remove(&id);
        self.tell(&News::Over(id.clone(), Box::new(outcome.clone())));
        self.over.insert(id, outcome);
        failpoint!("agent-told");
    }

    fn adopt_all(&mut self, ids: Vec<JobId>, jobs: &[u64]) {
        let wanted: BTreeSet<&JobId> = ids.iter().collect();
        for job in self.jobs.list().unwrap_or_default() {
            let Ok(asked) = job.asked() else { continue };
            if asked.plan.job.for_host != super::is_for_host(self.ctx) {
                continue;
            }
            if asked.plan.job.lane {
                self.adopt_lane(&job, &wanted);
            } else if asked.plan.job.batch.is_some() && !wanted.contains(&job.id) {
                self.forgotten.push_back(job.id);
            }
        }
        for job in batch::all(self.ctx) {
            if !jobs.contains(&job) {
                batch::remove(job, self.ctx);
            }
        }
        for id in ids {
            self.adopt(id);
        }
    }

    /// Looks after a task that was started before, by this agent or another.
    fn adopt(&mut self, id: JobId) {
        let mut lanes = self.lanes.iter();
        let lane = lanes.find(|(_, lane)| lane.runs(&id)).map(|(lane, _)| lane);
        if lane.is_some() || self.watched.contains_key(&id) {
            let within = lane.cloned();
            return self.tell(&News::Up { id, within });
        }
        if let Some(outcome) = self.over.get(&id).cloned() {
            return self.tell(&News::Over(id, Box::new(outcome)));
        }
        let Some(job) = self.folder(&id) else {
            return self.tell(&News::Unknown(id));
        };
        match Client::reach(&job) {
            Ok(Some(mut client)) => {
                // One that ends just now takes no question, but tells its end all the same.
                let _ = client.ask(&Ask::Wait);
                self.watched.insert(id.clone(), client);
                self.tell(&News::Up { id, within: None });
            }
            _ => self.look(&id),
        }
    }

    /// Hears what a supervisor has to tell.
    fn hear_job(&mut self, id: &JobId) {
        loop {
            let Some(client) = self.watched.get_mut(id) else {
                return;
            };
            match client.try_hear() {
                Ok(Some(Heard::Told(Tell::Started))) => {
                    let (id, within) = (id.clone(), None);
                    self.tell(&News::Up { id, within });
                }
                Ok(Some(Heard::Told(Tell::Ended(end)))) => {
                    return self.end(id.clone(), outcome(&end));
                }
                Ok(Some(Heard::Told(Tell::Step(step)))) => {
                    self.tell(&News::Step(id.clone(), Box::new(step)));
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => return self.look(id),
            }
        }
    }

    /// Reads how a task has ended whose supervisor is not heard any more.
    fn look(&mut self, id: &JobId) {
        let ended = self.folder(id).as_ref().and_then(end_of);
        self.end(id.clone(), ended.map_or_else(lost, |end| outcome(&end)));
    }

    fn remove(&mut self, id: &JobId) {
        let Some(job) = self.folder(id) else { return };
        if matches!(job.state(), State::Ended | State::Lost) {
            let _ = self.jobs.remove(&job);
        }
    }
}

/// Gives up being root for good, and is the agent of a user. Nothing of the user's was
/// looked at before, and nothing of root's is left after: neither files, nor variables, nor
/// the terminal. Comes back where that fails.
fn become_agent_of(uid: u32, ctx: &Context) -> anyhow::Error {
    let become_it = || -> anyhow::Result<Command> {
        let user = users::numbered(uid).ok_or_else(|| {
            let what = format!("user {uid} is neither in /etc/passwd nor known to getent");
            errors::advised(Class::Denied, what, "one of them must name it")
        })?;
        let Queue::At(server) = ctx.config.queue() else {
            anyhow::bail!("the agent of another user works for a server of the host only");
        };
        let groups = user.groups();
        rustix::process::setsid()?;
        process::close_on_exec_from(3)?;
        // Where there are control groups, jobs are held to what they have by some of their own.
        let groups_of_jobs = super::group_of(uid);
        let entrance = Cgroup::hand_over(&Layout::detect(), &groups_of_jobs, uid, user.gid);
        let _ = entrance.enter();
        drop(entrance);
        process::become_user(user.uid, user.gid, &groups)
            .with_context(|| format!("cannot become user {}", user.name))?;
        CapSet::default().apply()?;
        umask(Mode::from_raw_mode(0o077));
        // The file that runs now, whoever may reach it by its path.
        let mut agent = Command::new("/proc/self/exe");
        agent.arg0("hyperion").arg("--server").arg(server);
        agent.arg("agent").current_dir("/").env_clear().envs([
            ("HOME", user.home.as_str()),
            ("USER", &user.name),
            ("LOGNAME", &user.name),
            ("SHELL", &user.shell),
            ("PATH", batch::PATH),
        ]);
        Ok(agent)
    };
    match become_it() {
        Ok(mut agent) => anyhow::Error::new(agent.exec()).context("cannot start this program anew"),
        Err(error) => error,
    }
}

/// Does something on some processors: what it starts stays there.
fn bound<T>(cpus: Option<&CpuSet>, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let Some(cpus) = cpus else { return start() };
    let before = HostSize::read();
    process::bind(None, cpus).context("cannot tie the job to its processors")?;
    let started = start();
    process::bind(None, before.allowed()).context("cannot go back to all processors")?;
    started
}

/// Reads how a job has ended whose supervisor is gone, and removes what that has left.
fn end_of(job: &JobFolder) -> Option<hyperion_node::End> {
    job.wait_cleaned();
    let end = job.end();
    if end.is_none() {
        job.clean_up();
    }
    end
}

fn lost() -> Outcome {
    Outcome {
        end: End::Lost,
        why: Some("its supervisor is gone".into()),
        cost: None,
    }
}

/// Says in the queue's words how a job ended.
fn outcome(end: &hyperion_node::End) -> Outcome {
    let failure = end.failure.as_ref();
    let report = end.report.as_ref();
    let starved = report.is_some_and(|r| r.usage.oom_kills.is_some_and(|kills| kills > 0));
    let kind = match (end.exit, starved) {
        (Some(Exit::Code(0)), _) => End::Exit(Exit::Code(0)),
        (_, true) => End::OutOfMemory,
        (Some(exit), false) => End::Exit(exit),
        (None, false) if end.lost => End::Lost,
        (None, false) if matches!(end.code, 126 | 127) => End::Exit(Exit::Code(end.code)),
        (None, false) => End::Broken,
    };
    let why = failure.map(|failure| {
        let mut text = vec![failure.what.clone()];
        text.extend(failure.causes.iter().cloned());
        text.extend(failure.hint.clone());
        text.join(": ")
    });
    Outcome {
        // What the command itself did needs no words.
        why: why.filter(|_| !matches!(kind, End::Exit(Exit::Code(code)) if code < 126)),
        end: kind,
        cost: report.map(|report| Cost {
            wall: report.wall,
            cpu_user: report.usage.cpu_user,
            cpu_system: report.usage.cpu_system,
            memory_peak: report.usage.memory_peak,
            io_read: report.usage.io_read,
            io_written: report.usage.io_written,
            steps: report.steps.clone(),
        }),
    }
}
