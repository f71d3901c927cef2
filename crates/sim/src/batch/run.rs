use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use hyperion_sched::{
    Amounts, Backfill, Cluster, JobNumber, Node, Order, Placement, Policy, Queue, Queued, Request,
    Standing, Time, plan,
};
use thiserror::Error;

use super::Job;

/// Thousandths of a processor, as the scheduler counts them.
const PROCESSOR: u64 = 1000;

/// Nodes that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    fn cluster(self) -> Cluster {
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

/// A job that has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Lets jobs run on nodes that are alike, and shows each when it starts; as [`run_on`].
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
    let mut requests: BTreeMap<u64, Arc<Request>> = BTreeMap::new();
    let asked = jobs.into_iter().zip(0..).map(|(job, number)| {
        let job = job?;
        if job.processors > machine.all() {
            return Err(Stuck::TooLarge(number));
        }
        let request = requests
            .entry(job.processors)
            .or_insert_with(|| machine.request(job.processors).into());
        Ok((job, Arc::clone(request)))
    });
    run_on(machine.cluster(), order, backfill, asked, see)
}

/// Lets jobs run on a cluster, each with what it asks of it, and shows each when it starts.
///
/// At each instant at which something happens all ends release their processors, then
/// all that is submitted joins the queue, then the policy is asked once.
///
/// A job for which the empty cluster has no room holds up those after it for ever, or never
/// starts: [`has_room`](hyperion_sched::has_room) tells.
///
/// # Errors
/// [`Stuck`]: what was shown by then is right.
pub fn run_on<E>(
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
    match live(cluster, order, backfill, &mut next, &mut see) {
        Err(Halt::Unsorted(number)) => Err(Stuck::Unsorted(number)),
        _ => failed.map_or(Ok(()), Err),
    }
}

/// Why it does not go on.
enum Halt {
    Unsorted(u64),
    /// The next job could not be had.
    Trace,
}

/// Gives the next job.
type Next<'a> = &'a mut dyn FnMut() -> Result<Option<(Job, Arc<Request>)>, Halt>;

/// Does it, in one piece of code for all: it is compiled for speed here.
fn live(
    mut cluster: Cluster,
    order: Order,
    backfill: Backfill,
    next_job: Next<'_>,
    see: &mut dyn FnMut(Ran),
) -> Result<(), Halt> {
    let policy = Policy {
        backfill,
        placement: Placement::First,
    };
    let mut queue = Queue::new(order);
    let mut waiting: BTreeMap<u64, Job> = BTreeMap::new();
    let mut ends: BinaryHeap<Reverse<(Time, u64)>> = BinaryHeap::new();
    let mut arrival = next_job()?;
    let mut number = 0;
    let (mut is_blocked, comes_last) = (false, order == Order::Fifo && backfill == Backfill::None);
    loop {
        let next_end = ends.peek().map(|Reverse((at, _))| *at);
        let next_arrival = arrival.as_ref().map(|(job, _)| job.submit);
        let Some(now) = next_end.into_iter().chain(next_arrival).min() else {
            return Ok(());
        };
        while let Some(Reverse((at, job))) = ends.peek().copied()
            && at == now
        {
            ends.pop();
            cluster.end(JobNumber(job));
        }
        while let Some((job, request)) = arrival.take_if(|(job, _)| job.submit == now) {
            queue.insert(Queued {
                job: JobNumber(number),
                submitted: job.submit,
                limit: job.estimate,
                least: None,
                request,
                standing: Standing::default(),
            });
            waiting.insert(number, job);
            number += 1;
            arrival = next_job()?;
            if arrival.as_ref().is_some_and(|(next, _)| next.submit < now) {
                return Err(Halt::Unsorted(number));
            }
        }
        // Who comes last waits behind the one that does not start.
        if is_blocked && comes_last && next_end != Some(now) {
            continue;
        }
        let made = plan(policy, &cluster, &queue, now);
        is_blocked = made.barrier.is_some();
        for start in made.starts {
            queue.remove(start.job);
            let number = start.job.0;
            let Some(job) = waiting.remove(&number) else {
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
