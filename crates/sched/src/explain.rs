use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::allocation::Allocation;
use crate::amounts::Amounts;
use crate::cluster::{Cluster, NodeNumber, Running};
use crate::masks::Masks;
use crate::place::Placement;
use crate::plan::{Memory, Policy, Verdict, plan_on};
use crate::queue::{JobNumber, Queue, Queued};
use crate::request::{Arrangement, Request};
use crate::space::{Now, Room as _, Space};
use crate::time::Time;

/// Why a job waits, and when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What a round of planning says of it now; `None` where it starts.
    pub verdict: Option<Verdict>,
    /// How many jobs that wait come before it.
    pub ahead: usize,
    /// What it lacks now; nothing where it has room, and has to let others go first.
    pub lacks: Vec<Lack>,
    /// When it starts, as far as that can be told.
    pub forecast: Forecast,
    /// What ends before it starts, on the nodes that it gets: on each what ends last.
    pub until: Vec<Blocker>,
}

/// Something of which there is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// So much more of a kind.
    Kind {
        /// The number of the kind.
        kind: usize,
        /// How much.
        amount: u64,
    },
    /// So many more nodes.
    Nodes(u64),
    /// Room for so many more chunks: there is enough of each kind, but not side by side.
    Chunks(u64),
    /// So much more of a kind of licence.
    Licence {
        /// The number of the kind.
        kind: usize,
        /// How much.
        amount: u64,
    },
}

/// When a job starts if none ends before its limit, and no other comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forecast {
    /// At that time: now, if it is no later.
    At {
        /// When.
        at: Time,
        /// What it gets.
        allocation: Allocation,
    },
    /// Not before that time: the effort to look further was spent.
    NotBefore(Time),
    /// As far as is known it never does.
    Never,
}

/// A job for the end of which another waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blocker {
    /// When it ends at the latest.
    pub until: Time,
    /// Which.
    pub job: JobNumber,
    /// On which node; [`NodeNumber::NONE`] where it has licences.
    pub node: NodeNumber,
}

/// Says why a job waits, and when it starts; `None` where it does not wait.
///
/// The forecast plays on what the policy plans, with so many steps of effort; see
/// [`plan_on`].
pub fn explain(
    policy: Policy,
    cluster: &Cluster,
    queue: &Queue,
    now: Time,
    job: JobNumber,
    effort: u64,
) -> Option<Explanation> {
    let queued = queue.get(job)?;
    let mut order = queue.in_order(cluster, now);
    let ahead = order.position(|entry| entry.queued.job == job)?;
    let made = plan_on(policy, cluster, queue, now, &mut Memory::default(), effort);
    let mut left = cluster.space().clone();
    let starts = made.starts.iter().take_while(|start| start.job != job);
    starts.for_each(|start| left.take(&start.allocation));
    let forecast = forecast(policy, cluster, queue, now, job, effort);
    let starts_now = made.starts.iter().any(|start| start.job == job);
    Some(Explanation {
        verdict: made.verdict(job).filter(|_| !starts_now),
        ahead,
        lacks: match starts_now {
            true => Vec::new(),
            false => lacks(cluster, &left, queued, now),
        },
        until: blockers(cluster, &forecast),
        forecast,
    })
}

/// Says when a job that is not in the queue would start if it were.
pub fn what_if(
    policy: Policy,
    cluster: &Cluster,
    queue: &Queue,
    now: Time,
    queued: Queued,
    effort: u64,
) -> Forecast {
    let mut queue = queue.clone();
    let job = queued.job;
    queue.insert(queued);
    forecast(policy, cluster, &queue, now, job, effort)
}

/// Says when a job that waits starts: plays on what the policy plans, until it does or
/// so many steps of effort are spent.
pub fn forecast(
    policy: Policy,
    cluster: &Cluster,
    queue: &Queue,
    now: Time,
    job: JobNumber,
    effort: u64,
) -> Forecast {
    let (mut cluster, mut queue) = (cluster.clone(), queue.clone());
    let mut memory = Memory::default();
    let (mut at, mut left) = (now, effort);
    loop {
        let made = plan_on(policy, &cluster, &queue, at, &mut memory, left);
        if let Some(start) = made.starts.iter().find(|start| start.job == job) {
            let allocation = start.allocation.clone();
            return Forecast::At { at, allocation };
        }
        let kept = made.reservations.iter().find(|kept| kept.job == job);
        // Another may come first then, where the order changes meanwhile.
        if let Some(kept) = kept.filter(|_| !queue.order().changes()) {
            let (at, allocation) = (kept.at, kept.allocation.clone());
            return Forecast::At { at, allocation };
        }
        // A pass costs something also where there is little to look at.
        left = left.saturating_sub(made.steps + 100);
        if left == 0 {
            return Forecast::NotBefore(at);
        }
        let mut started = queue.remove_started(&made).into_iter();
        for start in made.starts {
            let queued = started.next().filter(|queued| queued.job == start.job);
            let running = Running {
                allocation: start.allocation,
                since: at,
                until: start.until,
                standing: queued.map(|queued| queued.standing).unwrap_or_default(),
                ending: false,
            };
            cluster.start_as(start.job, running);
        }
        if made.unfinished {
            continue;
        }
        // One that is over its time ends at any moment.
        let end = cluster.next_end().map(|end| end.max(Time(at.0 + 1)));
        match end.into_iter().chain(made.wake_at).min() {
            Some(next) => at = next,
            None => return Forecast::Never,
        }
        while cluster.next_end().is_some_and(|end| end <= at) {
            cluster.end_first();
        }
    }
}

fn blockers(cluster: &Cluster, forecast: &Forecast) -> Vec<Blocker> {
    let Forecast::At { at, allocation } = forecast else {
        return Vec::new();
    };
    let mut last: BTreeMap<NodeNumber, Blocker> = BTreeMap::new();
    for part in allocation.iter() {
        let node = part.node;
        let until = Time(0);
        let job = JobNumber(0);
        last.insert(node, Blocker { until, job, node });
    }
    for (&job, running) in cluster.running() {
        let until = running.until;
        for part in running.allocation.iter().filter(|_| until <= *at) {
            let node = part.node;
            if let Some(before) = last.get_mut(&node) {
                *before = (*before).max(Blocker { until, job, node });
            }
        }
    }
    let mut all: Vec<Blocker> = last.into_values().collect();
    all.retain(|blocker| blocker.until > Time(0));
    all.sort_unstable();
    all.reverse();
    all
}

/// Says what a job lacks in what is free.
fn lacks(cluster: &Cluster, left: &Space, queued: &Queued, now: Time) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let among = Masks::new(cluster).of(queued, now);
    let steps = std::cell::Cell::new(0);
    let room = Now {
        space: left,
        within: None,
        steps: &steps,
    };
    for (member, nodes) in queued.request.members().zip(&among) {
        let free = room.shared();
        for (kind, amount) in member
            .shared
            .kinds()
            .filter(|(kind, a)| *a > free.of(*kind))
        {
            let amount = amount - free.of(kind);
            lacks.push(Lack::Licence { kind, amount });
        }
        // How many of some chunks have room where only some kinds count.
        let could = |each: &Amounts, counts: &Amounts, needed: u64| {
            let mut could = 0;
            room.visit(counts, nodes, Placement::First, &mut |some, free| {
                let whole = &cluster.nodes()[some.start as usize].capacity;
                let times = match (member.exclusive, member.arrangement) {
                    (true, _) if free != whole => 0,
                    (_, Arrangement::Free) => free.times(counts),
                    _ => 1,
                };
                let times = u64::from(each.is_within(whole)) * times;
                could += times.saturating_mul(some.len() as u64);
                match could < needed {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            });
            needed.saturating_sub(could)
        };
        for (each, needed) in pieces(member) {
            let missing = could(&each, &each, needed);
            if missing == 0 {
                continue;
            }
            if member.exclusive || (member.arrangement == Arrangement::Apart && needed > 1) {
                lacks.push(Lack::Nodes(missing));
                continue;
            }
            let before = lacks.len();
            for (kind, amount) in each.kinds() {
                let only = Amounts::only(kind, amount);
                let missing = could(&each, &only, needed);
                if missing > 0 {
                    // Of what one chunk needs some may be free on a node.
                    let most = nodes.iter().map(|node| left.free(node).of(kind)).max();
                    let there = match (missing, needed) {
                        (1, 1) => most.unwrap_or(0).min(amount),
                        _ => 0,
                    };
                    let amount = missing.saturating_mul(amount) - there;
                    lacks.push(Lack::Kind { kind, amount });
                }
            }
            if lacks.len() == before {
                lacks.push(Lack::Chunks(missing));
            }
        }
    }
    lacks
}

/// Gives what lies on one node each, and how many times.
fn pieces(member: &Request) -> Vec<(Amounts, u64)> {
    match member.arrangement {
        Arrangement::Together => vec![(member.member_total(), 1)],
        _ => {
            let chunks = member.chunks.iter();
            chunks
                .map(|chunk| (chunk.each.clone(), chunk.count))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::Node;
    use crate::order::{Order, Standing};
    use crate::plan::Backfill;

    const EFFORT: u64 = 1_000_000;

    fn policies() -> [Policy; 3] {
        let scan = Order::Fifo;
        [
            Backfill::None,
            Backfill::Easy { scan },
            Backfill::Conservative,
        ]
        .map(|backfill| Policy {
            backfill,
            placement: Placement::First,
        })
    }

    fn queued(job: u64, minutes: u64, request: Request) -> Queued {
        Queued {
            job: JobNumber(job),
            submitted: Time(job),
            limit: Duration::from_secs(60 * minutes),
            least: None,
            request: request.into(),
            standing: Standing::default(),
        }
    }

    fn minutes(minutes: u64) -> Time {
        Time::seconds(60 * minutes)
    }

    /// Three nodes of 8 cores and 4 GPUs; what each runs takes three of them.
    fn cluster() -> Cluster {
        let node = |name: &str| Node {
            name: name.into(),
            capacity: Amounts::new([8000, 16 << 30, 4]),
        };
        let mut cluster = Cluster::new(vec![node("a"), node("b"), node("c")]);
        let mut queue = Queue::new(Order::Fifo);
        for (job, limit) in [(15, 60), (16, 30), (17, 20)] {
            queue.insert(queued(job, limit, Request::one(Amounts::new([6000, 0, 3]))));
        }
        let made = plan_on(
            Policy::default(),
            &cluster,
            &queue,
            Time(0),
            &mut Memory::default(),
            EFFORT,
        );
        for start in made.starts {
            cluster.start(start.job, start.allocation, start.until);
        }
        cluster
    }

    fn gpus(count: u64) -> Request {
        Request::one(Amounts::new([1000, 0, count]))
    }

    #[test]
    fn a_job_waits_for_two_more_gpus_until_another_ends() {
        let mut queue = Queue::new(Order::Fifo);
        queue.insert(queued(20, 5, gpus(3)));
        for policy in policies() {
            let why = explain(policy, &cluster(), &queue, Time(0), JobNumber(20), EFFORT);
            let why = why.expect("it waits");
            assert_eq!(why.lacks, [Lack::Kind { kind: 2, amount: 2 }]);
            let (until, job, node) = (minutes(20), JobNumber(17), NodeNumber(2));
            assert_eq!(why.until, [Blocker { until, job, node }]);
            let Forecast::At { at, allocation } = why.forecast else {
                panic!("{:?}", why.forecast);
            };
            let first = allocation.first().expect("it has some");
            assert_eq!((at, first.node, why.ahead), (until, node, 0));
            assert_eq!(why.verdict, Some(Verdict::Room));
        }
    }

    #[test]
    fn a_job_is_told_what_it_would_wait_for_in_other_sizes() {
        let (cluster, queue) = (cluster(), Queue::new(Order::Fifo));
        let apart = |count| Request {
            arrangement: Arrangement::Apart,
            ..Request::of(count, Amounts::new([4000]))
        };
        for policy in policies() {
            for (count, right) in [(1, 20), (2, 30), (3, 60)] {
                let job = queued(1, 5, apart(count));
                let when = what_if(policy, &cluster, &queue, Time(0), job, EFFORT);
                let is_right = matches!(when, Forecast::At { at, .. } if at == minutes(right));
                assert!(is_right, "{count}: {when:?}");
            }
            let small = queued(1, 5, gpus(1));
            let now = what_if(policy, &cluster, &queue, Time(0), small, EFFORT);
            assert!(matches!(now, Forecast::At { at: Time(0), .. }));
            let large = queued(1, 5, apart(4));
            let never = what_if(policy, &cluster, &queue, Time(0), large, EFFORT);
            assert_eq!(never, Forecast::Never);
        }
    }

    #[test]
    fn who_comes_after_another_is_told_so() {
        let mut queue = Queue::new(Order::Fifo);
        queue.insert(queued(20, 90, gpus(4)));
        queue.insert(queued(21, 90, gpus(4)));
        queue.insert(queued(22, 90, Request::one(Amounts::cores(2000))));
        let [fifo, easy, conservative] = policies();
        let say = |policy, job| {
            let why = explain(policy, &cluster(), &queue, Time(0), JobNumber(job), EFFORT);
            let why = why.expect("it waits");
            let Forecast::At { at, .. } = why.forecast else {
                panic!("{:?}", why.forecast);
            };
            (why.verdict, why.ahead, at.0 / 60_000_000)
        };
        assert_eq!(say(fifo, 21), (Some(Verdict::Behind(JobNumber(20))), 1, 30));
        assert_eq!(say(fifo, 22), (Some(Verdict::Behind(JobNumber(20))), 2, 30));
        assert_eq!(say(easy, 21), (Some(Verdict::Room), 1, 30));
        // Nobody minds that one.
        assert_eq!(say(easy, 22), (None, 2, 0));
        assert_eq!(say(conservative, 21), (Some(Verdict::Room), 1, 30));
    }

    #[test]
    fn a_forecast_that_takes_too_long_says_how_far_it_came() {
        let mut queue = Queue::new(Order::Fifo);
        for job in 20..40 {
            queue.insert(queued(job, 10, gpus(4)));
        }
        let easy = policies()[1];
        let when = forecast(easy, &cluster(), &queue, Time(0), JobNumber(39), 500);
        assert!(
            matches!(when, Forecast::NotBefore(at) if at > Time(0)),
            "{when:?}"
        );
        let when = forecast(easy, &cluster(), &queue, Time(0), JobNumber(39), EFFORT);
        assert!(matches!(when, Forecast::At { .. }), "{when:?}");
    }

    #[test]
    fn free_room_in_pieces_is_told_as_that() {
        let mut cluster = cluster();
        cluster.end(JobNumber(15));
        let job = queued(
            20,
            5,
            Request {
                arrangement: Arrangement::Together,
                ..Request::of(10, Amounts::cores(1000))
            },
        );
        let mut queue = Queue::new(Order::Fifo);
        queue.insert(job);
        let why = explain(
            Policy::default(),
            &cluster,
            &queue,
            Time(0),
            JobNumber(20),
            EFFORT,
        );
        let why = why.expect("it waits");
        assert_eq!(
            why.lacks,
            [Lack::Kind {
                kind: 0,
                amount: 2000
            }]
        );
        assert_eq!(why.forecast, Forecast::Never);
    }
}
