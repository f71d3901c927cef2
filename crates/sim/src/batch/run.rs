use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use hyperion_sched::{
    Amounts, Backfill, Cluster, JobNumber, Node, Order, Placement, Policy, Queue, Queued, Request,
    Standing, Time, plan,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Job;

/// Thousandths of a processor, as the scheduler counts them.
const PROCESSOR: u64 = 1000;

/// Nodes that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// How many.
    pub nodes: u32,
    /// How many processors each has.
    pub processors: u64,
}

impl Machine {
    /// Makes a machine that is one node: all of its processors are alike.
    pub const fn of(processors: u64) -> Self {
        Self {
            nodes: 1,
            processors,
        }
    }

    /// Gives the processors of all nodes.
    pub const fn all(self) -> u64 {
        self.processors.saturating_mul(self.nodes as u64)
    }

    pub(super) fn cluster(self) -> Cluster {
        let node = |number| Node {
            name: format!("n{number}"),
            capacity: Amounts::cores(self.processors.saturating_mul(PROCESSOR)),
        };
        Cluster::new((0..self.nodes).map(node).collect())
    }

    /// What a job asks of it: processors of one node, or wherever they are.
    fn request(self, processors: u64) -> Request {
        match self.nodes {
            1 => Request::one(Amounts::cores(processors.saturating_mul(PROCESSOR))),
            _ => Request::of(processors, Amounts::cores(PROCESSOR)),
        }
    }
}

/// What jobs ask of a machine: those of the same size share it.
#[derive(Debug)]
pub(super) struct Requests {
    machine: Machine,
    known: BTreeMap<u64, Arc<Request>>,
}

impl Requests {
    pub(super) const fn of(machine: Machine) -> Self {
        Self {
            machine,
            known: BTreeMap::new(),
        }
    }

    pub(super) fn get(&mut self, processors: u64) -> Arc<Request> {
        let new = || self.machine.request(processors).into();
        Arc::clone(self.known.entry(processors).or_insert_with(new))
    }
}

/// A job that has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Its place in the trace, from 0.
    pub number: u64,
    /// The job.
    pub job: Job,
    /// When it started.
    pub start: Time,
}

impl Ran {
    /// Gives when it ends.
    pub fn end(&self) -> Time {
        self.start + self.job.run
    }
}

/// Makes a job that ran, in seconds, numbered by its start.
#[cfg(test)]
pub(super) fn ran(submit: u64, start: u64, run: u64, processors: u64) -> Ran {
    let run = std::time::Duration::from_secs(run);
    Ran {
        number: start,
        job: Job {
            submit: Time::seconds(submit),
            run,
            estimate: run,
            processors,
        },
        start: Time::seconds(start),
    }
}

/// Why a simulation does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Stuck<E> {
    /// A job was submitted before the one before it.
    #[error("job {0} is submitted before the job before it")]
    Unsorted(u64),
    /// A job asks for more than there is.
    #[error("job {0} asks for more processors than the machine has")]
    TooLarge(u64),
    /// There is no next job to be had.
    #[error(transparent)]
    Trace(#[from] E),
}

/// Lets jobs run on nodes that are alike, and shows each when it starts.
///
/// At each instant at which something happens all ends release their processors, then
/// all that is submitted joins the queue, then the policy is asked once.
///
/// # Errors
/// [`Stuck`]: what was shown by then is right.
pub fn run<E>(
    machine: Machine,
    order: Order,
    backfill: Backfill,
    jobs: impl IntoIterator<Item = Result<Job, E>>,
    see: impl FnMut(Ran),
) -> Result<(), Stuck<E>> {
    let mut requests = Requests::of(machine);
    let asked = jobs.into_iter().zip(0..).map(|(job, number)| {
        let job = job?;
        if job.processors > machine.all() {
            return Err(Stuck::TooLarge(number));
        }
        Ok((job, requests.get(job.processors)))
    });
    run_on(machine.cluster(), order, backfill, asked, see)
}

/// Lets jobs run on a cluster, each with what it asks of it, and shows each when it starts; as
/// [`run`].
///
/// A job for which the empty cluster has no room holds up those after it for ever, or never
/// starts: [`has_room`](hyperion_sched::has_room) tells.
///
/// # Errors
/// [`Stuck`]: what was shown by then is right.
pub(super) fn run_on<E>(
    cluster: Cluster,
    order: Order,
    backfill: Backfill,
    jobs: impl IntoIterator<Item = Result<(Job, Arc<Request>), Stuck<E>>>,
    mut see: impl FnMut(Ran),
) -> Result<(), Stuck<E>> {
    let (mut jobs, mut failed) = (jobs.into_iter(), None);
    let mut next = || {
        let next = jobs.next().transpose();
        next.map_err(|error| {
            failed = Some(error);
            Halt::Trace
        })
    };
    let state = State::new(cluster, order);
    match live(state, backfill, None, &mut next, &mut see) {
        Err(Halt::Unsorted(number)) => Err(Stuck::Unsorted(number)),
        _ => failed.map_or(Ok(()), Err),
    }
}

/// What waits and what runs, at a moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) cluster: Cluster,
    pub(super) order: Order,
    pub(super) queue: Queue,
    /// What waits.
    pub(super) waiting: Waiting,
    /// What runs, by its end.
    pub(super) ends: BinaryHeap<Reverse<(Time, u64)>>,
    /// That of the next that comes.
    pub(super) number: u64,
    /// Whether one waits that holds up those after it.
    pub(super) is_blocked: bool,
}

impl State {
    pub(super) fn new(cluster: Cluster, order: Order) -> Self {
        Self {
            cluster,
            order,
            queue: Queue::new(order),
            waiting: Waiting::default(),
            ends: BinaryHeap::new(),
            number: 0,
            is_blocked: false,
        }
    }

    /// Lets a job wait.
    pub(super) fn wait(&mut self, number: u64, job: Job, request: Arc<Request>) {
        self.queue.insert(queued(number, job, request));
        self.waiting.push(number, job);
    }
}

/// Jobs that wait, by their numbers: each comes with a greater one than those before it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Those that have started leave holes.
    jobs: VecDeque<(u64, Option<Job>)>,
    holes: usize,
}

impl Waiting {
    fn push(&mut self, number: u64, job: Job) {
        self.jobs.push_back((number, Some(job)));
    }

    /// Takes a job out.
    #[inline(always)]
    fn remove(&mut self, number: u64) -> Option<Job> {
        let (first, _) = self.jobs.front()?;
        // Where it would be if none had left; mostly none has.
        let at = usize::try_from(number.checked_sub(*first)?).ok()?;
        let at = match self.jobs.get(at) {
            Some((its, _)) if *its == number => at,
            _ => self
                .jobs
                .binary_search_by_key(&number, |(its, _)| *its)
                .ok()?,
        };
        let job = self.jobs[at].1.take()?;
        self.holes += 1;
        while let Some((_, None)) = self.jobs.front() {
            self.jobs.pop_front();
            self.holes -= 1;
        }
        // Memory follows those that wait.
        if self.holes > self.len() {
            self.jobs.retain(|(_, job)| job.is_some());
            self.holes = 0;
        }
        Some(job)
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len() - self.holes
    }

    /// Gives them, and their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Job)> {
        self.jobs
            .iter()
            .filter_map(|(number, job)| Some((*number, (*job)?)))
    }
}

/// Gives what the scheduler sees of a job.
pub(super) fn queued(number: u64, job: Job, request: Arc<Request>) -> Queued {
    Queued {
        job: JobNumber(number),
        submitted: job.submit,
        limit: job.estimate,
        least: None,
        request,
        standing: Standing::default(),
    }
}

/// Why it does not go on.
pub(super) enum Halt {
    Unsorted(u64),
    /// The next job could not be had.
    Trace,
}

/// Gives the next job.
pub(super) type Next<'a> = &'a mut dyn FnMut() -> Result<Option<(Job, Arc<Request>)>, Halt>;

/// Lets all happen that is before a moment, if one is named: in one piece of code for all,
/// which is compiled for speed here. Gives how it stands then; the next job may have been
/// asked for.
pub(super) fn live(
    state: State,
    backfill: Backfill,
    until: Option<Time>,
    next_job: Next<'_>,
    see: &mut dyn FnMut(Ran),
) -> Result<State, Halt> {
    let State {
        mut cluster,
        order,
        mut queue,
        mut waiting,
        mut ends,
        mut number,
        mut is_blocked,
    } = state;
    let policy = Policy {
        backfill,
        placement: Placement::First,
    };
    let mut arrival = next_job()?;
    // The first is the first until another comes before it, and none passes it.
    let is_strict = !order.changes() && backfill == Backfill::None;
    loop {
        let next_end = ends.peek().map(|Reverse((at, _))| *at);
        let next_arrival = arrival.as_ref().map(|(job, _)| job.submit);
        let next = earlier(next_end, next_arrival);
        let Some(now) = next.filter(|now| until.is_none_or(|until| *now < until)) else {
            return Ok(State {
                cluster,
                order,
                queue,
                waiting,
                ends,
                number,
                is_blocked,
            });
        };
        while let Some(Reverse((at, job))) = ends.peek().copied()
            && at == now
        {
            ends.pop();
            cluster.end(JobNumber(job));
        }
        let new = number;
        while let Some((job, request)) = arrival.take_if(|(job, _)| job.submit == now) {
            queue.insert(queued(number, job, request));
            waiting.push(number, job);
            number += 1;
            arrival = next_job()?;
            if arrival.as_ref().is_some_and(|(next, _)| next.submit < now) {
                return Err(Halt::Unsorted(number));
            }
        }
        // Where nothing has ended what did not start does not start now.
        let Some(first) = queue.iter().next() else {
            continue;
        };
        if is_blocked && is_strict && next_end != Some(now) && first.job.0 < new {
            continue;
        }
        let made = plan(policy, &cluster, &queue, now);
        is_blocked = made.barrier.is_some();
        for start in made.starts {
            queue.remove(start.job);
            let number = start.job.0;
            let Some(job) = waiting.remove(number) else {
                continue;
            };
            let ran = Ran {
                number,
                job,
                start: now,
            };
            ends.push(Reverse((ran.end(), number)));
            cluster.start(start.job, start.allocation, start.until);
            see(ran);
        }
    }
}

/// Gives the earlier of two moments, as far as there are any.
fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn jobs_leave_the_list_in_any_order_and_memory_follows_those_that_wait() {
        let mut waiting = Waiting::default();
        let job = |number| Job {
            submit: Time(number),
            run: Duration::from_secs(1),
            estimate: Duration::from_secs(1),
            processors: number,
        };
        let left = |waiting: &Waiting| waiting.iter().map(|(number, _)| number).collect::<Vec<_>>();
        (5..100).for_each(|number| waiting.push(number, job(number)));
        for number in (6..100).filter(|number| number % 10 != 0) {
            assert_eq!(waiting.remove(number), Some(job(number)));
            assert_eq!(waiting.remove(number), None, "{number} is gone");
            assert!(waiting.jobs.len() <= 2 * waiting.len());
        }
        assert_eq!(left(&waiting), [5, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
        waiting.push(1000, job(1000));
        assert!(waiting.remove(4).is_none() && waiting.remove(100).is_none());
        for number in [1000, 5, 90, 10] {
            assert_eq!(waiting.remove(number), Some(job(number)));
        }
        assert_eq!(left(&waiting), [20, 30, 40, 50, 60, 70, 80]);
    }
}
