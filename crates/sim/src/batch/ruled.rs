use std::collections::BTreeMap;
use std::time::Duration;

use hyperion_lifecycle::{Change, Holder, Ledger, Record, Submitted, TaskId};
use hyperion_model::indices;
use hyperion_model::submission::{Condition, JobRef, JobWord};
use hyperion_sched::{Queue, Queued, Time, plan};

use super::resample::Workload;
use super::trace::at_load;
use super::what_if::Past;
use super::{Job, Ran};
use crate::site::{self, Lasting, Told};

/// The jobs of a history where they have a site with rules: the ledger of a server carries
/// them out.
#[derive(Debug, Clone)]
pub(super) struct Ruled {
    /// By the place of their first task.
    jobs: BTreeMap<usize, Whole>,
}

/// A job as it was submitted: all tasks of an array are one.
#[derive(Debug, Clone)]
struct Whole {
    asked: Submitted,
    submitted: Time,
    /// The indices of those of its tasks that ran, each at the place after that of the one
    /// before it.
    tasks: Vec<u32>,
    holds: Vec<(Duration, Duration)>,
    is_beyond: bool,
}

/// A job that is drawn.
struct Drawn<'a> {
    whole: &'a Whole,
    /// The place of its first task in the history, and its number among what is drawn.
    place: usize,
    number: u64,
    /// When it is to come, at the load of the history.
    at: Time,
}

/// What comes from outside.
enum Outside {
    /// A job that is drawn, by its place.
    Comes(usize),
    /// Anything else.
    Told(Told),
}

/// A task that runs: since when, as if it had never stood still, and since when it does.
struct Running {
    since: Time,
    still: Option<Time>,
}

impl Ruled {
    /// Makes them of the tasks of a history, and what these are now.
    pub(super) fn new(ledger: &Ledger, history: &[Past], jobs: &[Job]) -> Self {
        let mut wholes = BTreeMap::new();
        let (mut scratch, mut place) = (ledger.clone(), 0);
        for tasks in history.chunk_by(Past::is_of_array_with) {
            let jobs = &jobs[place..place + tasks.len()];
            if let Some(whole) = Whole::of(tasks, jobs, &mut scratch) {
                wholes.insert(place, whole);
            }
            place += tasks.len();
        }
        Self { jobs: wholes }
    }

    /// Tells how many tasks are of jobs that are more than the limits allow.
    pub(super) fn beyond(&self) -> usize {
        let beyond = self.jobs.values().filter(|whole| whole.is_beyond);
        beyond.map(|whole| whole.tasks.len()).sum()
    }

    /// Has a ledger that has heard of no job carry out those that are drawn, as many times as
    /// fast, and shows each when it has ended: what it stood still counts as waiting.
    pub(super) fn run(
        &self,
        mut ledger: Ledger,
        (jobs, drawn): (&[Job], &Workload),
        said: Vec<(Time, Told)>,
        load: f64,
        mut see: impl FnMut(Ran),
    ) {
        let first = drawn.jobs.first().map_or(Time(0), |(_, at)| *at);
        let submit = |job: &Drawn<'_>| at_load(job.at, first, load);
        let all = (0..).zip(&drawn.jobs).filter_map(|(number, (place, at))| {
            let whole = self.jobs.get(place)?;
            Some(Drawn {
                whole,
                place: *place,
                number,
                at: *at,
            })
        });
        let all: Vec<Drawn<'_>> = all.collect();
        let told = said.into_iter().map(|(at, told)| (at, Outside::Told(told)));
        let mut outside: Vec<(Time, Outside)> = told.collect();
        for (at, job) in all.iter().enumerate() {
            let (number, came) = (at as u64 + 1, submit(job));
            outside.push((came, Outside::Comes(at)));
            for (from, until) in &job.whole.holds {
                let (job, by) = (number, Holder::Operator);
                let held = Told::Made(Change::Held { job, by });
                let released = Told::Made(Change::Released { job });
                outside.push((came + *from, Outside::Told(held)));
                outside.push((came + *until, Outside::Told(released)));
            }
            if job.whole.is_beyond {
                ledger.lift_limits(number);
            }
        }
        outside.sort_by_key(|(at, _)| *at);
        // The last of each job of the history that came.
        let mut came: BTreeMap<u64, usize> = BTreeMap::new();
        let told = outside.into_iter().map(|(now, outside)| match outside {
            Outside::Told(told) => (now, told),
            Outside::Comes(at) => {
                let Drawn { whole, at: its, .. } = &all[at];
                // Another is the one for which it waited where it came as long before it.
                let named = |other: u64| {
                    let found = *came.get(&other)?;
                    let Drawn { whole: one, at, .. } = &all[found];
                    let apart = whole.submitted.since(one.submitted);
                    (its.since(*at) == apart).then_some(found as u64 + 1)
                };
                let asked = whole.comes(at as u64 + 1, now, &named);
                came.insert(whole.asked.job, at);
                (now, Told::Made(Change::Submitted(Box::new(asked))))
            }
        });
        let of = |task: TaskId| {
            let job = all.get((task.job as usize).checked_sub(1)?)?;
            let at = job.whole.tasks.binary_search(&task.index).ok()?;
            let its = Job {
                submit: submit(job),
                ..*jobs.get(job.place + at)?
            };
            Some((job.number + at as u64, its))
        };
        let lasts = |task: TaskId, _| {
            let its = of(task).map(|(_, its)| its);
            let (run, limit) = its.map_or_else(Default::default, |its| (its.run, its.estimate));
            Lasting {
                // One that was over its limit took so long to end.
                ends_in: run.saturating_sub(limit),
                ..Lasting::of(run)
            }
        };
        let mut running: BTreeMap<TaskId, Running> = BTreeMap::new();
        site::run(&mut ledger, told, lasts, |shown| {
            let Ok(Record { at, change }) = shown else {
                return;
            };
            match change {
                Change::Started { task, .. } => {
                    let (since, still) = (*at, None);
                    running.insert(*task, Running { since, still });
                }
                Change::Suspended { task, .. } => {
                    let its = running.get_mut(task);
                    its.into_iter().for_each(|its| its.still = Some(*at));
                }
                Change::Resumed { task, .. } => {
                    let its = running.get_mut(task);
                    its.into_iter().for_each(|its| its.goes_on(*at));
                }
                Change::Ended { task, again, .. } => {
                    let Some(mut its) = running.remove(task).filter(|_| !again) else {
                        return;
                    };
                    its.goes_on(*at);
                    if let Some((number, job)) = of(*task) {
                        let (start, run) = (its.since, at.since(its.since));
                        let job = Job { run, ..job };
                        see(Ran { number, job, start });
                    }
                }
                _ => {}
            }
        });
    }
}

impl Running {
    fn goes_on(&mut self, now: Time) {
        if let Some(still) = self.still.take() {
            self.since = self.since + now.since(still);
        }
    }
}

impl Whole {
    /// Makes one of all of its tasks, and what these are now.
    fn of(tasks: &[Past], jobs: &[Job], ledger: &mut Ledger) -> Option<Self> {
        let first = tasks.first()?;
        let mut asked = first.submitted();
        // Of one that was changed while tasks ran: none is told to end too early.
        asked.limit = jobs.iter().map(|job| job.estimate).max()?;
        let indices = tasks.iter().map(|its| its.index().unwrap_or(0));
        let indices: Vec<u32> = indices.collect();
        if let Some(array) = &mut asked.submission.array {
            array.indices = indices::ranges(&indices).parse().ok()?;
        }
        let holds = tasks.iter().map(|its| &its.holds);
        Some(Self {
            submitted: first.job.submit,
            is_beyond: is_beyond(&asked, ledger),
            asked,
            tasks: indices,
            holds: holds.max_by_key(|holds| holds.len())?.clone(),
        })
    }

    /// Says what is asked when it comes under a number, by what others are called then.
    fn comes(&self, job: u64, now: Time, named: &impl Fn(u64) -> Option<u64>) -> Submitted {
        let mut asked = self.asked.clone();
        asked.job = job;
        asked.begin = asked.begin.map(|begin| now + begin.since(self.submitted));
        // When it was held is told beside it.
        asked.submission.hold = false;
        let after = asked.submission.after.take();
        asked.submission.after = after.and_then(|after| renamed(&after, named));
        asked
    }
}

/// Tells whether a task alone is more than the limits allow.
fn is_beyond(asked: &Submitted, ledger: &mut Ledger) -> bool {
    let standing = ledger.standing(asked);
    if standing.quotas.is_empty() {
        return false;
    }
    let mut queue = Queue::default();
    let number = TaskId {
        job: asked.job,
        index: 0,
    };
    queue.insert(Queued {
        job: number.number(),
        submitted: Time(0),
        limit: asked.limit,
        least: None,
        request: ledger.among(asked).into(),
        standing,
    });
    let made = plan(Default::default(), ledger.cluster(), &queue, Time(0));
    made.starts.is_empty()
}

/// Says a condition of the jobs that are there, by what they are called now; `None` where
/// nothing is left to wait for.
fn renamed(condition: &Condition, named: &impl Fn(u64) -> Option<u64>) -> Option<Condition> {
    let some = |parts: &[Condition]| {
        let parts = parts.iter().filter_map(|part| renamed(part, named));
        Some(parts.collect::<Vec<_>>()).filter(|parts| !parts.is_empty())
    };
    Some(match condition {
        Condition::All(parts) => Condition::All(some(parts)?),
        Condition::Any(parts) => Condition::Any(some(parts)?),
        Condition::Job(on, event) => {
            let JobWord::Number(number) = on.job else {
                return None;
            };
            let job = JobWord::Number(named(number)?);
            let tasks = on.tasks.clone();
            Condition::Job(JobRef { job, tasks }, *event)
        }
        Condition::Not(_) | Condition::Singleton => return None,
    })
}
