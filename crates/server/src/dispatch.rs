//! What an agent is asked, and what it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyperion_lifecycle::{Change, End, Event, Ledger, Record, Submitted, TaskId, Time};
use hyperion_model::errand::{Errand, News, Outcome, Share, Start};
use hyperion_model::submission::Elsewhere;
use hyperion_model::view::PartitionView;
use hyperion_model::{Bytes, Cores, CpuSet, JobId};
use hyperion_sched::{CORES, MEMORY, NodeNumber};

use crate::texts::put_texts;
use crate::turn::Server;

/// How long a job has between SIGTERM and SIGKILL: Slurm's `KillWait`.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// The kernel's number of the signal that asks to end.
const SIGTERM: u8 = 15;

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
    // Each starts a supervisor, an init, a script and a program at least.
    JobId::new(4 * (task.job + u64::from(task.index)), bits)
}

impl Server {
    /// Does what a record says.
    pub(crate) fn act(&mut self, change: &Change) {
        match change {
            Change::Started { task, .. } => self.start(*task),
            Change::Suspended { task, .. } => self.tell(*task, Errand::Suspend),
            Change::Resumed { task, .. } => self.resume(*task),
            Change::Warned { task } => {
                let job = self.ledger.jobs().get(&task.job);
                if let Some(warning) = job.and_then(|job| job.asked.submission.warning) {
                    self.tell(*task, |id| Errand::Warn(id, warning));
                }
            }
            Change::Leaving { task, .. } => {
                // One that stands still is to hear it, too.
                self.resume(*task);
                self.tell(*task, |id| Errand::Signal(id, SIGTERM));
            }
            Change::Stopping { task, .. } => self.tell(*task, |id| Errand::Stop(id, GRACE)),
            Change::Forgotten { .. } => self.forgotten += 1,
            Change::Submitted(_)
            | Change::Due { .. }
            | Change::Held { .. }
            | Change::Released { .. }
            | Change::Edited(_)
            | Change::Limited { .. }
            | Change::Up { .. }
            | Change::Resuming { .. }
            | Change::Ended { .. }
            | Change::Dropped { .. }
            | Change::Recalled(_)
            | Change::Carried(_)
            | Change::Node { .. }
            | Change::Booked { .. }
            | Change::Unbooked { .. }
            | Change::Partition { .. } => {}
        }
    }

    /// Gives the id of a task's last start.
    pub(crate) fn id(&self, task: TaskId) -> Option<JobId> {
        let its = self.ledger.jobs().get(&task.job)?.task(task.index)?;
        Some(id_of(self.ledger.began()?.0, task, its.starts))
    }

    fn tell(&mut self, task: TaskId, errand: impl FnOnce(JobId) -> Errand) {
        if let Some(id) = self.id(task) {
            self.ask(self.user_of(task.job), &errand(id));
        }
    }

    fn resume(&mut self, task: TaskId) {
        let cpus = self.cpus(task);
        self.tell(task, |id| Errand::Resume(id, cpus));
    }

    /// Gives the processors that are a task's own, where they are chosen.
    pub(crate) fn cpus(&self, task: TaskId) -> Option<CpuSet> {
        let pins = self.ledger.pins(task, NodeNumber(0))?;
        (!pins.cores.is_empty()).then(|| CpuSet(pins.cores.clone()))
    }

    pub(crate) fn start(&mut self, task: TaskId) {
        let Some(start) = self.errand_of(task) else {
            return;
        };
        self.ids.insert(start.id.clone(), task);
        let user = self.user_of(task.job);
        let told = self.agents.told(user);
        if told != Some(&start.submission) {
            let mut asked = start.submission.clone();
            let none = Elsewhere::default();
            let but = told.map_or(&none, |told| &*told.elsewhere);
            if !put_texts(&mut asked, &self.journal, but) {
                let outcome = Outcome {
                    end: End::Broken,
                    why: Some("its script is not in the journal any more".into()),
                    cost: None,
                };
                let news = News::Over(start.id, Box::new(outcome));
                return self.news.push_back(news);
            }
            self.ask(user, &Errand::Asked(Box::new(asked)));
            self.agents.tell(user, start.submission.clone());
        }
        self.ask(user, &Errand::Start(Box::new(start)));
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
            queue: queue_of(&job.asked),
            share: Share {
                host: node.name.clone(),
                cores: Cores(part.taken.of(CORES)),
                memory: memory
                    .filter(|bytes| *bytes > 0)
                    .map(|_| Bytes(part.taken.of(MEMORY))),
                tasks: asked.map_or(1, tasks_of),
                cpus: self.cpus(task),
                devices: devices_of(&self.ledger, task, false),
            },
        })
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

/// Gives the name of the partition that a job is in, or of the queue that it named.
pub(crate) fn queue_of(asked: &Submitted) -> String {
    let named = asked.submission.parts.first();
    let named = named.and_then(|part| part.queues.first());
    let its = asked.partition.as_ref().or(named);
    its.cloned().unwrap_or_else(|| PartitionView::ONLY.into())
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

/// Gives the numbers of a task's devices, by what they are: `gpu`, or `gpu:h100` where the
/// kind is wanted.
pub(crate) fn devices_of(
    ledger: &Ledger,
    task: TaskId,
    exact: bool,
) -> BTreeMap<String, BTreeSet<u32>> {
    let mut devices: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let pins = ledger.pins(task, NodeNumber(0));
    for (kind, numbers) in pins.iter().flat_map(|pins| &pins.devices) {
        let name = ledger.site().kind_name(*kind);
        let family = name.split(':').next().filter(|_| !exact);
        let name = family.unwrap_or(name).to_owned();
        devices.entry(name).or_default().extend(numbers);
    }
    devices
}
