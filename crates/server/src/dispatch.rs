//! What an agent is asked, and what it tells.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyperion_engine::Local;
use hyperion_lifecycle::{Change, End, Event, Ledger, Record, State, TaskId, Time};
use hyperion_model::errand::{Errand, News, Outcome, Share, Start, Step};
use hyperion_model::{Bytes, Cores, JobId};
use hyperion_sched::{CORES, MEMORY};

use crate::texts::put_texts;
use crate::turn::{ServeError, Server};

/// How long a job has between SIGTERM and SIGKILL: Slurm's `KillWait`.
const GRACE: Duration = Duration::from_secs(30);
/// The kernel's number of the signal that asks to end.
const SIGTERM: u8 = 15;
/// An agent that has not lived so long is not started again at once.
const STEADY: Duration = Duration::from_secs(5);

/// Gives the id of a start: of each there is one, for ever.
pub(crate) fn id_of(origin: u64, task: TaskId, start: u32) -> JobId {
    // The finalizer of SplitMix64, once for each of the numbers.
    let mut bits = origin;
    for number in [task.job, task.index.into(), start.into()] {
        bits = bits
            .wrapping_add(number)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
    }
    JobId::from_random(bits)
}

impl Server {
    /// Does what a record says.
    pub(crate) fn act(&mut self, change: &Change) {
        match change {
            Change::Started { task, .. } => self.start(*task),
            Change::Suspended { task, .. } => self.tell(*task, Errand::Suspend),
            Change::Resumed { task } => self.tell(*task, Errand::Resume),
            Change::Warned { task } => {
                let job = self.ledger.jobs().get(&task.job);
                if let Some(warning) = job.and_then(|job| job.asked.submission.warning) {
                    self.tell(*task, |id| Errand::Signal(id, warning.signal));
                }
            }
            Change::Leaving { task, .. } => {
                // One that stands still is to hear it, too.
                self.tell(*task, Errand::Resume);
                self.tell(*task, |id| Errand::Signal(id, SIGTERM));
            }
            Change::Stopping { task, .. } => self.tell(*task, |id| Errand::Stop(id, GRACE)),
            Change::Submitted(_)
            | Change::Due { .. }
            | Change::Held { .. }
            | Change::Released { .. }
            | Change::Up { .. }
            | Change::Resuming { .. }
            | Change::Ended { .. }
            | Change::Dropped { .. }
            | Change::Forgotten { .. }
            | Change::Node { .. }
            | Change::Booked { .. }
            | Change::Unbooked { .. }
            | Change::Partition { .. } => {}
        }
    }

    /// Gives the id of a task's last start.
    fn id(&self, task: TaskId) -> Option<JobId> {
        let its = self.ledger.jobs().get(&task.job)?.task(task.index)?;
        Some(id_of(self.origin?, task, its.starts))
    }

    fn tell(&mut self, task: TaskId, errand: impl FnOnce(JobId) -> Errand) {
        if let Some(id) = self.id(task) {
            self.ask(&errand(id));
        }
    }

    pub(crate) fn ask(&mut self, errand: &Errand) {
        if let Some(agent) = &mut self.agent {
            // An agent that is gone is started anew, and asked all of it again.
            let _ = agent.ask(errand);
        }
    }

    fn start(&mut self, task: TaskId) {
        let Some(mut start) = self.errand_of(task) else {
            return;
        };
        self.ids.insert(start.id.clone(), task);
        if put_texts(&mut start.submission, &self.journal) {
            return self.ask(&Errand::Start(Box::new(start)));
        }
        let outcome = Outcome {
            end: End::Broken,
            why: Some("its script is not in the journal any more".into()),
            cost: None,
        };
        self.news.push_back(News::Over(start.id, Box::new(outcome)));
    }

    fn errand_of(&self, task: TaskId) -> Option<Start> {
        let id = self.id(task)?;
        let job = self.ledger.jobs().get(&task.job)?;
        let submission = &job.asked.submission;
        let running = self.ledger.allocation(task)?;
        let part = running.allocation.first()?;
        let node = self.ledger.cluster().nodes().get(part.node.0 as usize)?;
        let chunks = job.asked.request.chunks.iter();
        let memory = chunks.map(|chunk| chunk.each.of(MEMORY)).max();
        let asked = submission.parts.first();
        Some(Start {
            id,
            job: task.job,
            index: submission.array.is_some().then_some(task.index),
            restarts: job.task(task.index)?.starts.saturating_sub(1),
            submission: submission.clone(),
            queue: asked
                .and_then(|part| part.queues.first().cloned())
                .unwrap_or_else(|| "main".into()),
            share: Share {
                host: node.name.clone(),
                cores: Cores(part.taken.of(CORES)),
                memory: memory
                    .filter(|bytes| *bytes > 0)
                    .map(|_| Bytes(part.taken.of(MEMORY))),
                tasks: asked.map_or(1, tasks_of),
            },
        })
    }

    pub(crate) fn hear_agent(&mut self) {
        let Some(mut agent) = self.agent.take() else {
            return;
        };
        let mut here = agent.flush().is_ok();
        loop {
            match agent.hear() {
                Ok(Some(news)) => {
                    if let News::Up {
                        id,
                        within: Some(within),
                    } = &news
                    {
                        self.within.insert(id.clone(), within.clone());
                    }
                    match news {
                        News::Step(id, step) => self.hear_step(id, *step),
                        news => self.news.push_back(news),
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    here = false;
                    break;
                }
            }
        }
        self.agent = here.then_some(agent);
        self.start_unknown();
    }

    /// Hears of a step: it is told to who asks, and written down when its task has ended.
    fn hear_step(&mut self, id: JobId, step: Step) {
        let steps = self.steps.entry(id).or_default();
        match steps.iter_mut().find(|it| it.number == step.number) {
            Some(known) => *known = step,
            None => steps.push(step),
        }
    }

    /// Starts anew what an agent was asked to start and has never begun: it was killed.
    fn start_unknown(&mut self) {
        let mut unknown = Vec::new();
        self.news.retain(|news| {
            let News::Unknown(id) = news else { return true };
            let task = self.ids.get(id).copied();
            let configuring = |task: &TaskId| self.ledger.state(*task) == Some(State::Configuring);
            let task = task.filter(configuring);
            unknown.extend(task);
            task.is_none()
        });
        for task in unknown {
            self.start(task);
        }
    }

    pub(crate) fn look_after_agent(&mut self) -> Result<(), ServeError> {
        // One that does not live long is not started again and again.
        if self.agent.is_none() && Instant::now() >= self.agent_at {
            let lived = self.agent_since.elapsed();
            self.start_agent()?;
            self.agent_at = self.agent_since + STEADY.saturating_sub(lived);
        }
        Ok(())
    }

    /// Starts an agent, and asks it how all stand that should run.
    pub(crate) fn start_agent(&mut self) -> Result<(), ServeError> {
        let command = (self.settings.agent)().map_err(ServeError::Agent)?;
        self.agent = Some(Local::start(command).map_err(ServeError::Agent)?);
        self.agent_since = Instant::now();
        self.ids.clear();
        let running = self.ledger.cluster().running().keys();
        let tasks: Vec<TaskId> = running.map(|number| TaskId::of(*number)).collect();
        // What was written down may not have been carried out.
        let mut errands = Vec::new();
        for task in tasks {
            let Some(id) = self.id(task) else { continue };
            let job = self.ledger.jobs().get(&task.job);
            let its = job.and_then(|job| job.task(task.index));
            match its.map(|its| (its.state, its.still.is_zero())) {
                Some((State::Completing, _)) => errands.push(Errand::Stop(id.clone(), GRACE)),
                Some((State::Suspended, _)) => errands.push(Errand::Suspend(id.clone())),
                Some((State::Running, false)) => errands.push(Errand::Resume(id.clone())),
                _ => {}
            }
            self.ids.insert(id, task);
        }
        let alive = self.ledger.jobs().iter().filter(|(_, job)| !job.is_over());
        let adopt = Errand::Adopt {
            ids: self.ids.keys().cloned().collect(),
            jobs: alive.map(|(number, _)| *number).collect(),
        };
        self.ask(&adopt);
        errands.iter().for_each(|errand| self.ask(errand));
        Ok(())
    }
}

/// Says what news change in a ledger.
pub(crate) fn hear(
    ledger: &mut Ledger,
    ids: &BTreeMap<JobId, TaskId>,
    news: &News,
    now: Time,
) -> Vec<Record> {
    let (News::Up { id, .. } | News::Over(id, _) | News::Unknown(id) | News::Step(id, _)) = news;
    let Some(&task) = ids.get(id) else {
        return Vec::new();
    };
    let event = match news {
        News::Up { .. } => Event::Up(task),
        News::Step(..) => return Vec::new(),
        News::Over(_, outcome) => Event::Ended(task, outcome.clone()),
        // It was to be started, and the agent was killed before.
        News::Unknown(_) => Event::Ended(
            task,
            Box::new(Outcome {
                end: End::Lost,
                why: Some("nothing of it was found when the server looked".into()),
                cost: None,
            }),
        ),
    };
    ledger.step(now, event).unwrap_or_default()
}

/// Counts the tasks of a part, as far as they were said.
pub(crate) fn tasks_of(part: &hyperion_model::submission::Part) -> u32 {
    use hyperion_model::submission::Per;
    let of = |per| part.tasks.get(&per).copied();
    let pieces = part.chunks.or(part.nodes.map(|nodes| nodes.least));
    let each = of(Per::Chunk).or(of(Per::Node));
    of(Per::Job)
        .unwrap_or_else(|| each.unwrap_or(1).saturating_mul(pieces.unwrap_or(1)))
        .max(1)
}
