//! The agents of a server: its own, and one for each other user who has jobs.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use hyperion_engine::{Leaving, Local};
use hyperion_lifecycle::{End, State, TaskId};
use hyperion_model::JobId;
use hyperion_model::errand::{Errand, News, Outcome, Step};
use hyperion_model::submission::Submission;
use rustix::event::{PollFd, PollFlags};

use crate::dispatch::GRACE;
use crate::turn::{AGAIN, ServeError, Server};

/// An agent that has not lived so long is not started again at once.
const STEADY: Duration = Duration::from_secs(5);
/// Another user's agent that has had nothing to look after for so long is not needed.
const IDLE: Duration = Duration::from_secs(30);
/// Another user's agent that has not ended a task so long after it was to is killed: the next
/// one may do better.
const OBEYS: Duration = Duration::from_secs(60);
/// So is one that lets so much lie of what it is asked, in bytes.
const BEHIND: usize = 64 << 20;
/// How often it is looked whether one has ended.
const GLANCE: Duration = Duration::from_millis(50);
/// How long the agents of others are waited for when the server ends.
const PARTING: Duration = Duration::from_secs(2);
/// As many news of one agent are heard in one turn.
const AT_ONCE: usize = 1000;
/// What an agent says of an end is cut here, in bytes.
const WORDS: usize = 4096;
/// The name of a step is cut here.
const NAME: usize = 256;
/// As many steps are known of a task.
const STEPS: usize = 10_000;

/// All agents, by their users.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    all: BTreeMap<u32, Agent>,
    leaving: Vec<Gone>,
}

#[derive(Debug)]
struct Agent {
    engine: Option<Local>,
    since: Instant,
    /// When another may be started.
    next: Instant,
    /// It has told something.
    spoke: bool,
    /// When it was last seen to be needed.
    needed: Instant,
    /// What it is to end, and until when.
    ending: BTreeMap<JobId, Instant>,
    /// How what it starts was asked, without the long parts.
    told: Option<Box<Submission>>,
}

/// An agent that is asked nothing more.
#[derive(Debug)]
struct Gone {
    user: u32,
    spoke: bool,
    process: Leaving,
}

impl Agents {
    /// Adds what is to be waited for.
    pub(crate) fn poll_set<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for engine in self.all.values().filter_map(|agent| agent.engine.as_ref()) {
            let mut flags = PollFlags::IN;
            if engine.unsent() > 0 {
                flags |= PollFlags::OUT;
            }
            fds.push(PollFd::new(engine, flags));
        }
    }

    /// Tells when they are to be looked after.
    pub(crate) fn until_next(&self, own: u32) -> Option<Duration> {
        let glance = (!self.leaving.is_empty()).then_some(GLANCE);
        let next = self.all.iter().filter_map(|(&user, agent)| {
            let idle = || IDLE.saturating_sub(agent.needed.elapsed()).max(AGAIN);
            match agent.engine {
                None => Some(AGAIN),
                Some(_) => (user != own).then(idle),
            }
        });
        next.min().into_iter().chain(glance).min()
    }

    /// Sends what they were asked.
    pub(crate) fn flush(&mut self) {
        for agent in self.all.values_mut() {
            if let Some(engine) = &mut agent.engine {
                // One that is gone is seen when it is heard.
                let _ = engine.flush();
            }
        }
    }

    /// Gives what an agent has been told of how that was asked which it starts.
    pub(crate) fn told(&self, user: u32) -> Option<&Submission> {
        self.all.get(&user)?.told.as_deref()
    }

    /// Has in mind what an agent has been told.
    pub(crate) fn tell(&mut self, user: u32, asked: Submission) {
        if let Some(agent) = self.all.get_mut(&user) {
            agent.told = Some(Box::new(asked));
        }
    }

    fn kill_those_who_leave(&mut self, user: u32) {
        for gone in self.leaving.iter_mut().filter(|gone| gone.user == user) {
            gone.process.kill();
        }
    }

    fn part(&mut self, user: u32) {
        let Some(agent) = self.all.get_mut(&user) else {
            return;
        };
        if let Some(engine) = agent.engine.take() {
            self.leaving.push(Gone {
                user,
                spoke: agent.spoke,
                process: engine.leave(),
            });
        }
    }
}

impl Server {
    /// Asks the agent of a user; starts it where none runs.
    pub(crate) fn ask(&mut self, user: u32, errand: &Errand) {
        if !self.agents.all.contains_key(&user) && self.start_agent(user).is_err() {
            return;
        }
        let agent = self.agents.all.get_mut(&user);
        if let Some(agent) = agent
            && let Some(engine) = &mut agent.engine
        {
            match errand {
                Errand::Stop(id, grace) => {
                    let until = Instant::now() + *grace + OBEYS;
                    agent.ending.entry(id.clone()).or_insert(until);
                }
                Errand::Forget(id) => drop(agent.ending.remove(id)),
                _ => {}
            }
            // An agent that is gone is started anew, and asked all of it again.
            let _ = engine.ask(errand);
        }
    }

    /// Gives the user whose a task is: that of the server where nobody knows it any more.
    pub(crate) fn user_of(&self, job: u64) -> u32 {
        let job = self.ledger.jobs().get(&job);
        job.map_or(self.own, |job| job.asked.user)
    }

    /// Hears all agents; tells whether more has come than was taken.
    pub(crate) fn hear_agents(&mut self) -> bool {
        let mut more = false;
        let users: Vec<u32> = self.agents.all.keys().copied().collect();
        for user in users {
            more |= self.hear_agent(user);
        }
        self.start_unknown();
        more
    }

    fn hear_agent(&mut self, user: u32) -> bool {
        let agent = self.agents.all.get_mut(&user);
        let Some(mut engine) = agent.and_then(|agent| agent.engine.take()) else {
            return false;
        };
        let (mut here, mut heard) = (engine.flush().is_ok(), Vec::new());
        while heard.len() < AT_ONCE {
            match engine.hear() {
                Ok(Some(news)) => heard.push(news),
                Ok(None) => break,
                Err(_) => {
                    here = false;
                    break;
                }
            }
        }
        if let Some(agent) = self.agents.all.get_mut(&user) {
            agent.engine = Some(engine);
            agent.spoke |= !heard.is_empty();
        }
        if !here {
            self.agents.part(user);
        }
        let more = here && heard.len() == AT_ONCE;
        heard
            .into_iter()
            .for_each(|news| self.take_news(user, news));
        more
    }

    /// Takes what an agent tells, of its own user's tasks only.
    fn take_news(&mut self, user: u32, mut news: News) {
        let (News::Up { id, .. } | News::Over(id, _) | News::Unknown(id) | News::Step(id, _)) =
            &news;
        match self.ids.get(id).copied() {
            Some(task) if self.user_of(task.job) == user => {}
            Some(_) => return,
            None => return self.ask(user, &Errand::Forget(id.clone())),
        }
        if let News::Over(_, outcome) = &mut news {
            if let Some(why) = &mut outcome.why {
                why.truncate(why.floor_char_boundary(WORDS));
            }
            if let Some(cost) = &mut outcome.cost {
                cost.steps.truncate(STEPS);
            }
        }
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

    /// Hears of a step: it is told to who asks, and written down when its task has ended.
    fn hear_step(&mut self, id: JobId, mut step: Step) {
        step.name.truncate(step.name.floor_char_boundary(NAME));
        let steps = self.steps.entry(id).or_default();
        match steps.iter().position(|it| it.number == step.number) {
            Some(known) => steps[known] = step,
            None if steps.len() < STEPS => steps.push(step),
            None => {}
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

    /// Starts agents that are needed and gone, and lets those go that are not.
    pub(crate) fn look_after_agents(&mut self) -> Result<(), ServeError> {
        self.see_off();
        let now = Instant::now();
        let users: Vec<u32> = self.agents.all.keys().copied().collect();
        for user in users {
            let Some(agent) = self.agents.all.get(&user) else {
                continue;
            };
            let absent = agent.engine.is_none();
            let behind = agent.engine.as_ref().map_or(0, Local::unsent) > BEHIND;
            let due = match absent {
                true => now >= agent.next,
                false => user != self.own && (behind || agent.needed.elapsed() >= IDLE),
            };
            if !due {
                continue;
            }
            let is_late = || agent.ending.values().any(|until| *until < now);
            if !absent && (behind || is_late()) {
                self.agents.part(user);
                self.agents.kill_those_who_leave(user);
                continue;
            }
            let needed = user == self.own || self.tasks_of(user).next().is_some();
            match (needed, absent) {
                (false, _) => {
                    self.agents.part(user);
                    self.agents.all.remove(&user);
                }
                (true, true) => match self.start_agent(user) {
                    Err(error) if user == self.own => return Err(ServeError::Agent(error)),
                    _ => {}
                },
                (true, false) => {
                    if let Some(agent) = self.agents.all.get_mut(&user) {
                        agent.needed = now;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends all agents. The own one has done then what it was asked.
    pub(crate) fn part_with_agents(&mut self) {
        let users: Vec<u32> = self.agents.all.keys().copied().collect();
        for user in users {
            self.agents.part(user);
            self.agents.all.remove(&user);
        }
        let all = std::mem::take(&mut self.agents.leaving);
        let (ours, others) = all.into_iter().partition(|gone| gone.user == self.own);
        self.agents.leaving = others;
        ours.into_iter().for_each(|gone| gone.process.wait());
        let since = Instant::now();
        while !self.agents.leaving.is_empty() && since.elapsed() < PARTING {
            self.see_off();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sees how agents have ended. What nobody can start for its user fails, and says why.
    fn see_off(&mut self) {
        let (mut ended, mut unable) = (Vec::new(), Vec::new());
        self.agents.leaving.retain_mut(|gone| {
            let Some((status, said)) = gone.process.ended() else {
                return true;
            };
            ended.push(gone.user);
            // One that was killed is another matter: the next may live.
            let failed = status.code().is_some_and(|code| code != 0);
            if failed && !gone.spoke {
                unable.push((gone.user, said));
            }
            false
        });
        for (user, said) in unable {
            if user != self.own {
                let lines = said.lines().filter(|line| !line.starts_with("hint: "));
                let causes: Vec<&str> = lines
                    .map(|line| line.split_once(": ").map_or(line, |(_, what)| what))
                    .collect();
                self.cannot_start(user, &causes.join(": "));
            }
        }
        for user in ended {
            let others = user != self.own && !self.agents.all.contains_key(&user);
            if others && self.tasks_of(user).next().is_none() {
                (self.settings.parted)(user);
                self.held.remove(&user);
            }
        }
    }

    fn cannot_start(&mut self, user: u32, why: &str) {
        let waiting: Vec<JobId> = self
            .tasks_of(user)
            .filter(|(_, task)| self.ledger.state(*task) == Some(State::Configuring))
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            let outcome = Outcome {
                end: End::Broken,
                why: Some(format!("nothing can be started for its user: {why}")),
                cost: None,
            };
            self.news.push_back(News::Over(id, Box::new(outcome)));
        }
    }

    /// Lists the tasks of a user that agents look after.
    fn tasks_of(&self, user: u32) -> impl Iterator<Item = (&JobId, TaskId)> {
        let all = self.ids.iter().map(|(id, task)| (id, *task));
        all.filter(move |(_, task)| self.user_of(task.job) == user)
    }

    /// Starts the agents that should be there: those of users who have tasks that run.
    pub(crate) fn start_agents(&mut self) -> Result<(), ServeError> {
        self.start_agent(self.own).map_err(ServeError::Agent)?;
        let running = self.ledger.cluster().running().keys();
        let users = running.map(|number| self.user_of(TaskId::of(*number).job));
        let mut users: Vec<u32> = users.filter(|user| *user != self.own).collect();
        users.sort_unstable();
        users.dedup();
        for user in users {
            self.hold(user);
            let _ = self.start_agent(user);
        }
        Ok(())
    }

    /// Starts the agent of a user, and asks it how all stand that should run.
    fn start_agent(&mut self, user: u32) -> io::Result<()> {
        let now = Instant::now();
        // One that does not live long is not started again and again.
        let before = self.agents.all.get(&user);
        let next = before.map_or(now, |before| {
            now + STEADY.saturating_sub(before.since.elapsed())
        });
        let started = (self.settings.agent)(user);
        let (engine, failed) = match started {
            Ok(engine) => (Some(engine), None),
            Err(error) => (None, Some(error)),
        };
        let agent = Agent {
            engine,
            since: now,
            next: next.max(now),
            spoke: false,
            needed: now,
            ending: BTreeMap::new(),
            told: None,
        };
        self.agents.all.insert(user, agent);
        let running = self.ledger.cluster().running().keys();
        let tasks: Vec<TaskId> = running
            .map(|number| TaskId::of(*number))
            .filter(|task| self.user_of(task.job) == user)
            .collect();
        let mut ids = Vec::new();
        // What was written down may not have been carried out.
        let mut errands = Vec::new();
        for task in tasks {
            let Some(id) = self.id(task) else { continue };
            let job = self.ledger.jobs().get(&task.job);
            let its = job.and_then(|job| job.task(task.index));
            match its.map(|its| (its.state, its.still.is_zero())) {
                Some((State::Completing, _)) => errands.push(Errand::Stop(id.clone(), GRACE)),
                Some((State::Suspended, _)) => errands.push(Errand::Suspend(id.clone())),
                Some((State::Running, false)) => {
                    errands.push(Errand::Resume(id.clone(), self.cpus(task)));
                }
                _ => {}
            }
            ids.push(id.clone());
            self.ids.insert(id, task);
        }
        if let Some(error) = failed {
            if user != self.own {
                self.cannot_start(user, &error.to_string());
            }
            return Err(error);
        }
        let alive = self.ledger.jobs().iter();
        let alive = alive.filter(|(_, job)| job.asked.user == user && !job.is_over());
        let adopt = Errand::Adopt {
            ids,
            jobs: alive.map(|(number, _)| *number).collect(),
        };
        self.ask(user, &adopt);
        for errand in &errands {
            self.ask(user, errand);
        }
        Ok(())
    }
}
