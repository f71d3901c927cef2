use std::cmp::Reverse;
use std::collections::VecDeque;
use std::convert::Infallible;

use hyperion_sched::{Amounts, JobNumber, NodeNumber, Part, Time};
use serde::{Deserialize, Serialize};

use super::run::{Halt, Machine, Ran, Requests, State, Stuck, live};
use super::{Job, Named};
use crate::snapshot::{self, Kind, SnapshotError};

/// Jobs that run under a policy as far as one lets them, and go on from there: here, or
/// elsewhere from a snapshot. Either way all is as if they had run in one go, bit for bit.
///
/// ```no_run
/// use std::time::Duration;
/// use hyperion_sched::Time;
/// use hyperion_sim::batch::{Job, Machine, Simulation};
///
/// let job = |submit: u64| Job {
///     submit: Time::seconds(submit),
///     run: Duration::from_secs(100),
///     estimate: Duration::from_secs(200),
///     processors: 3,
/// };
/// let policy = "easy".parse()?;
/// let mut simulation = Simulation::new(Machine::of(4), policy, vec![job(0), job(10)])?;
/// assert!(simulation.run(Time::seconds(50)), "the second waits");
/// let file = simulation.snapshot()?;
///
/// let mut again = Simulation::resume(&file)?;
/// assert!(!again.run(Time::NEVER));
/// assert_eq!(again.ran()[1].start, Time::seconds(100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Simulation {
    machine: Machine,
    policy: Named,
    /// Those that have not come.
    jobs: VecDeque<Job>,
    requests: Requests,
    state: State,
    ran: Vec<Ran>,
    /// All that is before it has happened.
    reached: Time,
}

/// What stands in a file: a cluster and a queue are made again of what runs and waits.
#[derive(Serialize, Deserialize)]
struct Kept {
    machine: Machine,
    policy: String,
    jobs: VecDeque<Job>,
    number: u64,
    is_blocked: bool,
    waiting: Vec<(u64, Job)>,
    running: Vec<Running>,
    ran: Vec<Ran>,
    reached: Time,
}

#[derive(Serialize, Deserialize)]
struct Running {
    number: u64,
    end: Time,
    /// When it ends by its estimate.
    until: Time,
    /// What it has on each of its nodes.
    parts: Vec<(u32, Amounts)>,
}

impl Simulation {
    /// Begins before the first job, with jobs in the order of their submission.
    ///
    /// # Errors
    /// [`Stuck`]: a job is submitted before the one before it, or larger than the machine.
    pub fn new(machine: Machine, policy: Named, jobs: Vec<Job>) -> Result<Self, Stuck<Infallible>> {
        let mut last = Time(0);
        for (number, job) in (0..).zip(&jobs) {
            if job.submit < last {
                return Err(Stuck::Unsorted(number));
            }
            if job.processors > machine.all() {
                return Err(Stuck::TooLarge(number));
            }
            last = job.submit;
        }
        Ok(Self {
            machine,
            requests: Requests::of(machine),
            state: State::new(machine.cluster(), policy.order),
            policy,
            jobs: jobs.into(),
            ran: Vec::new(),
            reached: Time(0),
        })
    }

    /// Gives what it runs on.
    pub const fn machine(&self) -> Machine {
        self.machine
    }

    /// Gives under what.
    pub const fn policy(&self) -> &Named {
        &self.policy
    }

    /// Gives until when all has happened.
    pub const fn time(&self) -> Time {
        self.reached
    }

    /// Lets all happen that is before a moment; all at [`Time::NEVER`]. Gives whether
    /// something is left.
    pub fn run(&mut self, until: Time) -> bool {
        self.reached = self.reached.max(until);
        let until = (until < Time::NEVER).then_some(until);
        let empty = State::new(hyperion_sched::Cluster::default(), self.policy.order);
        let state = std::mem::replace(&mut self.state, empty);
        let (first, requests) = (state.number, &mut self.requests);
        let mut coming = self.jobs.iter();
        let mut next = || {
            let job = coming.next();
            Ok::<_, Halt>(job.map(|job| (*job, requests.get(job.processors))))
        };
        let ran = &mut self.ran;
        // Jobs are in order, and there is always a next one or none: nothing stops it.
        let (backfill, see) = (self.policy.backfill, &mut |one| ran.push(one));
        if let Ok(state) = live(state, backfill, until, &mut next, see) {
            self.jobs.drain(..(state.number - first) as usize);
            self.state = state;
        }
        !(self.jobs.is_empty() && self.state.ends.is_empty())
    }

    /// Gives how many jobs wait, and how many are still to come.
    pub fn left(&self) -> (usize, usize) {
        (self.state.waiting.len(), self.jobs.len())
    }

    /// Gives the jobs that have started so far, in that order.
    pub fn ran(&self) -> &[Ran] {
        &self.ran
    }

    /// Gives a file from which [`Simulation::resume`] goes on: what waits, what runs and
    /// where, what has started, and the jobs that are still to come.
    ///
    /// # Errors
    /// [`SnapshotError::Content`]: something that cannot be kept; none that is known.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let state = &self.state;
        let running = state.ends.iter().filter_map(|Reverse((end, number))| {
            let its = state.cluster.running().get(&JobNumber(*number))?;
            let part = |part: Part| (part.node.0, part.taken);
            Some(Running {
                number: *number,
                end: *end,
                until: its.until,
                parts: its.allocation.iter().map(part).collect(),
            })
        });
        let kept = Kept {
            machine: self.machine,
            policy: self.policy.name.clone(),
            jobs: self.jobs.clone(),
            number: state.number,
            is_blocked: state.is_blocked,
            waiting: state.waiting.iter().collect(),
            running: running.collect(),
            ran: self.ran.clone(),
            reached: self.reached,
        };
        snapshot::seal(Kind::Schedule, &kept)
    }

    /// Goes on from a snapshot. Its digest tells damage, not a hand that makes a file to
    /// do harm: that can make a simulation panic, or go on without end.
    ///
    /// # Errors
    /// [`SnapshotError`]: why the file is no snapshot of this version.
    pub fn resume(file: &[u8]) -> Result<Self, SnapshotError> {
        let kept: Kept = snapshot::open(Kind::Schedule, file)?;
        let policy: Named = kept.policy.parse().map_err(|_| SnapshotError::Policy)?;
        let mut requests = Requests::of(kept.machine);
        let mut state = State::new(kept.machine.cluster(), policy.order);
        (state.number, state.is_blocked) = (kept.number, kept.is_blocked);
        for (number, job) in kept.waiting {
            state.wait(number, job, requests.get(job.processors));
        }
        for its in kept.running {
            let known = its.parts.iter().all(|(node, _)| *node < kept.machine.nodes);
            let part = |(node, taken)| Part::of(NodeNumber(node), taken);
            let parts: Vec<Part> = its.parts.into_iter().map(part).collect();
            let free = |part: &Part| part.taken.is_within(state.cluster.free(part.node));
            let mut nodes: Vec<NodeNumber> = parts.iter().map(|part| part.node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            let new = !state.cluster.running().contains_key(&JobNumber(its.number));
            let fits = new && known && nodes.len() == parts.len() && parts.iter().all(free);
            if !fits {
                return Err(SnapshotError::Crowded);
            }
            let allocation = parts.into_iter().collect();
            state
                .cluster
                .start(JobNumber(its.number), allocation, its.until);
            state.ends.push(Reverse((its.end, its.number)));
        }
        Ok(Self {
            machine: kept.machine,
            policy,
            jobs: kept.jobs,
            requests,
            state,
            ran: kept.ran,
            reached: kept.reached,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_have_more_than_their_machine_are_refused() {
        let kept = |nodes: u32, parts: &[(u32, u64)]| {
            let part = |(node, cores): &(u32, u64)| (*node, Amounts::cores(1000 * cores));
            let kept = Kept {
                machine: Machine {
                    nodes,
                    processors: 4,
                },
                policy: "easy".into(),
                jobs: VecDeque::new(),
                number: 2,
                is_blocked: false,
                waiting: Vec::new(),
                running: vec![Running {
                    number: 1,
                    end: Time(9),
                    until: Time(9),
                    parts: parts.iter().map(part).collect(),
                }],
                ran: Vec::new(),
                reached: Time(5),
            };
            let file = snapshot::seal(Kind::Schedule, &kept).expect("a file");
            Simulation::resume(&file)
        };
        assert!(
            !kept(2, &[(0, 4), (1, 3)])
                .expect("it fits")
                .run(Time::NEVER)
        );
        for parts in [
            &[(0, 5)][..],
            &[(2, 1)],
            &[(0, 3), (0, 2)],
            &[(u32::MAX, 1)],
        ] {
            let refused = kept(2, parts);
            assert!(matches!(refused, Err(SnapshotError::Crowded)), "{parts:?}");
        }
    }
}
