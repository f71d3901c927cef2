//! Plans beside those of a naive planner, which looks at every node and every second.

use std::time::Duration;

use hyperion_sched::{
    Allocation, Amounts, Arrangement, Backfill, CORES, Cluster, JobNumber, Memory, Node,
    NodeNumber, NodeSet, Order, Part, Placement, Policy, Queue, Queued, Request, Reservation,
    SetNumber, Standing, Time, plan, plan_on,
};
use proptest::prelude::*;

/// Every plan ends before that, in seconds.
const END: u64 = 400;

#[derive(Debug, Clone)]
struct Case {
    nodes: Vec<Node>,
    licences: u64,
    set: Vec<bool>,
    closed: Vec<bool>,
    running: Vec<(Request, u64)>,
    waiting: Vec<(Request, u64)>,
}

fn request() -> impl Strategy<Value = Request> {
    let each = (1..=6u64, 0..=8u64, 0..=1u64).prop_map(|(c, m, g)| Amounts::new([c * 1000, m, g]));
    let arrangement = prop::sample::select(vec![
        Arrangement::Free,
        Arrangement::Apart,
        Arrangement::Together,
    ]);
    let exclusive = prop::bool::weighted(0.1);
    let licences = prop_oneof![4 => Just(0u64), 1 => 1..3u64];
    (1..=4u64, each, arrangement, exclusive, 0..2u32, licences).prop_map(
        |(count, each, arrangement, exclusive, set, licences)| Request {
            arrangement,
            exclusive,
            among: SetNumber(set),
            shared: Amounts::new([licences]),
            ..Request::of(count, each)
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let node = (1..=8u64, 1..=16u64, 0..=2u64).prop_map(|(c, m, g)| Node {
        name: "n".into(),
        capacity: Amounts::new([c * 1000, m, g]),
    });
    let jobs = |most| prop::collection::vec((request(), 1..=9u64), 0..most);
    let nodes = prop::collection::vec(node, 1..=6);
    let some = || prop::collection::vec(prop::bool::weighted(0.8), 6);
    (nodes, 0..4u64, some(), some(), jobs(6), jobs(14)).prop_map(
        |(nodes, licences, set, open, running, waiting)| Case {
            nodes,
            licences,
            set,
            closed: open.into_iter().map(|open| !open).collect(),
            running,
            waiting,
        },
    )
}

/// What is free in each second on each node; the last is for licences.
struct Naive<'a> {
    case: &'a Case,
    free: Vec<Vec<Amounts>>,
}

impl Naive<'_> {
    fn take(&mut self, allocation: &Allocation, from: u64, until: u64) {
        for part in allocation {
            let at = match part.node {
                NodeNumber::NONE => self.case.nodes.len(),
                node => node.0 as usize,
            };
            for second in &mut self.free[from as usize..until.min(END) as usize] {
                assert!(part.taken.is_within(&second[at]), "given out twice");
                second[at].take(&part.taken);
            }
        }
    }

    /// Places a job for some seconds, on the first nodes that will do.
    fn place(&self, request: &Request, from: u64, until: u64) -> Option<Allocation> {
        let seconds = &self.free[from as usize..until as usize];
        let during = |at: usize| {
            let mut least = seconds[0][at].clone();
            seconds.iter().for_each(|second| least.limit(&second[at]));
            least
        };
        let mut parts = Allocation::new();
        let (each, mut missing) = match request.arrangement {
            Arrangement::Together => (request.total(), 1),
            _ => (request.chunks[0].each.clone(), request.chunks[0].count),
        };
        for (at, node) in self.case.nodes.iter().enumerate() {
            let outside = request.among == SetNumber(1) && !self.case.set[at];
            let free = during(at);
            let taken = request.exclusive && free != node.capacity;
            if self.case.closed[at] || outside || taken || missing == 0 {
                continue;
            }
            let most = match request.arrangement {
                Arrangement::Apart => 1,
                _ => missing,
            };
            let count = free.times(&each).min(most);
            if count == 0 {
                continue;
            }
            missing -= count;
            let mut taken = Amounts::default();
            taken.add(&each, count);
            if request.exclusive {
                taken = node.capacity.clone();
            }
            parts.push(Part::of(NodeNumber(at as u32), taken));
        }
        let shared = during(self.case.nodes.len());
        if missing > 0 || !request.shared.is_within(&shared) {
            return None;
        }
        if !request.shared.is_nothing() {
            parts.push(Part::of(NodeNumber::NONE, request.shared.clone()));
        }
        Some(parts)
    }
}

fn naive(case: &Case) -> Naive<'_> {
    let mut capacities: Vec<Amounts> = case.nodes.iter().map(|n| n.capacity.clone()).collect();
    capacities.push(Amounts::new([case.licences]));
    let free = vec![capacities; END as usize];
    Naive { case, free }
}

/// Makes the same case for both: running jobs are placed by the naive one.
fn make(case: &Case) -> (Naive<'_>, Cluster, Queue) {
    let mut naive = naive(case);
    let licences = Amounts::new([case.licences]);
    let mut cluster = Cluster::with_licences(case.nodes.clone(), licences);
    let numbers = (0..case.nodes.len()).map(|at| NodeNumber(at as u32));
    let set: NodeSet = numbers
        .clone()
        .filter(|at| case.set[at.0 as usize])
        .collect();
    // All nodes are number 0, also where the set is the same.
    let number = cluster.set(set);
    let renamed = |request: &Request| Request {
        among: if request.among == SetNumber(1) {
            number
        } else {
            SetNumber::ALL
        },
        ..request.clone()
    };
    for node in numbers.filter(|at| case.closed[at.0 as usize]) {
        cluster.close(node);
    }
    for (job, (request, seconds)) in (1000..).zip(&case.running) {
        if let Some(allocation) = naive.place(request, 0, END) {
            naive.take(&allocation, 0, *seconds);
            cluster.start(JobNumber(job), allocation, Time::seconds(*seconds));
        }
    }
    let mut queue = Queue::new(Order::Fifo);
    for (job, (request, seconds)) in (0..).zip(&case.waiting) {
        queue.insert(Queued {
            job: JobNumber(job),
            submitted: Time(job),
            limit: Duration::from_secs(*seconds),
            request: renamed(request).into(),
            standing: Standing::default(),
        });
    }
    (naive, cluster, queue)
}

/// What starts now, and what is kept from when on.
type Made = (Vec<(JobNumber, Allocation)>, Vec<Reservation>);

fn made(policy: Policy, cluster: &Cluster, queue: &Queue) -> Made {
    let made = plan(policy, cluster, queue, Time(0));
    let starts = made.starts.into_iter();
    let starts = starts.map(|start| (start.job, start.allocation)).collect();
    (starts, made.reservations)
}

fn naive_conservative(mut naive: Naive<'_>) -> Made {
    let (mut starts, mut kept) = (Vec::new(), Vec::new());
    for (job, (request, seconds)) in (0..).map(JobNumber).zip(&naive.case.waiting) {
        let fits = |at: u64| Some((at, naive.place(request, at, at + seconds)?));
        let Some((at, allocation)) = (0..END / 2).find_map(fits) else {
            continue;
        };
        naive.take(&allocation, at, at + seconds);
        match at {
            0 => starts.push((job, allocation)),
            _ => kept.push(Reservation {
                job,
                at: Time::seconds(at),
                allocation,
            }),
        }
    }
    (starts, kept)
}

fn naive_easy(mut naive: Naive<'_>) -> Made {
    let (mut starts, mut kept) = (Vec::new(), Vec::new());
    let mut shadow = None;
    let mut blocked = false;
    // What is free at the shadow, beside what is kept.
    for (job, (request, seconds)) in (0..).map(JobNumber).zip(&naive.case.waiting) {
        // A job runs into no other that starts later: nothing does but the one that is kept.
        let now = naive.place(request, 0, 1);
        if !blocked {
            if let Some(allocation) = now {
                naive.take(&allocation, 0, *seconds);
                starts.push((job, allocation));
                continue;
            }
            blocked = true;
            let fits = |at: u64| Some((at, naive.place(request, at, at + 1)?));
            if let Some((at, allocation)) = (1..END / 2).find_map(fits) {
                naive.take(&allocation, at, at + 1);
                shadow = Some(at);
                let at = Time::seconds(at);
                kept.push(Reservation {
                    job,
                    at,
                    allocation,
                });
            }
            continue;
        }
        let Some(shadow) = shadow else { continue };
        let found = match *seconds <= shadow {
            true => now,
            false => naive.place_in_both(request, shadow),
        };
        if let Some(allocation) = found {
            naive.take(&allocation, 0, 1.max(*seconds));
            starts.push((job, allocation));
        }
    }
    (starts, kept)
}

impl Naive<'_> {
    /// Places a job in what is free now, and at a later second too.
    fn place_in_both(&self, request: &Request, later: u64) -> Option<Allocation> {
        let free = vec![self.free[0].clone(), self.free[later as usize].clone()];
        let both = Naive {
            case: self.case,
            free,
        };
        both.place(request, 0, 2)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn conservative_gives_each_job_what_a_naive_planner_does(case in case()) {
        let (naive, cluster, queue) = make(&case);
        let policy = Policy { backfill: Backfill::Conservative, placement: Placement::First };
        prop_assert_eq!(made(policy, &cluster, &queue), naive_conservative(naive));
    }

    #[test]
    fn easy_starts_what_a_naive_planner_does(case in case()) {
        let (naive, cluster, queue) = make(&case);
        let backfill = Backfill::Easy { scan: Order::Fifo };
        let policy = Policy { backfill, placement: Placement::First };
        let ((starts, kept), right) = (made(policy, &cluster, &queue), naive_easy(naive));
        prop_assert_eq!(&starts, &right.0);
        // Where nothing can start anyway, nothing needs to be kept.
        let started = starts.into_iter().map(|(_, allocation)| allocation);
        let mut left = cluster.clone();
        for (job, allocation) in (5000..).zip(started) {
            left.start(JobNumber(job), allocation, Time::NEVER);
        }
        let nodes = (0..case.nodes.len()).map(|at| left.free(NodeNumber(at as u32)).of(CORES));
        if nodes.sum::<u64>() > 0 {
            prop_assert_eq!(kept, right.1);
        }
    }

    #[test]
    fn a_round_that_is_cut_short_goes_on_where_it_stopped(case in case(), effort in 1..60u64) {
        let (_, cluster, queue) = make(&case);
        for backfill in [Backfill::Conservative, Backfill::Easy { scan: Order::Fifo }] {
            let policy = Policy { backfill, placement: Placement::First };
            let whole = plan(policy, &cluster, &queue, Time(0));
            let (mut cluster, mut queue) = (cluster.clone(), queue.clone());
            let mut memory = Memory::default();
            let mut started = Vec::new();
            for round in 0.. {
                prop_assert!(round < 5000, "it never ends");
                let made = plan_on(policy, &cluster, &queue, Time(0), &mut memory, effort);
                queue.remove_started(&made);
                for start in made.starts {
                    started.push(start.job);
                    cluster.start(start.job, start.allocation, start.until);
                }
                if !made.unfinished {
                    break;
                }
            }
            let mut right: Vec<JobNumber> = whole.starts.iter().map(|start| start.job).collect();
            right.sort();
            started.sort();
            prop_assert_eq!(started, right);
        }
    }

    #[test]
    fn no_reservation_moves_later_while_jobs_end_early_and_others_come(
        case in case(), more in prop::collection::vec((request(), 1..=9u64), 6),
    ) {
        let (_, mut cluster, mut queue) = make(&case);
        let policy = Policy { backfill: Backfill::Conservative, placement: Placement::First };
        let mut memory = Memory::default();
        let mut kept: Vec<Reservation> = Vec::new();
        let mut now = Time(0);
        for (job, (request, seconds)) in (100..).zip(more) {
            let made = plan_on(policy, &cluster, &queue, now, &mut memory, u64::MAX);
            for before in &kept {
                let after = made.reservations.iter().find(|after| after.job == before.job);
                let starts = made.starts.iter().any(|start| start.job == before.job);
                prop_assert!(starts || after.is_some_and(|after| after.at <= before.at));
            }
            queue.remove_started(&made);
            for start in made.starts {
                cluster.start(start.job, start.allocation, start.until);
            }
            kept = made.reservations;
            // The first that runs ends early, one more comes, and then a second passes.
            if let Some(job) = cluster.running().keys().next().copied() {
                cluster.end(job);
            }
            let among = SetNumber::ALL;
            let limit = Duration::from_secs(seconds);
            queue.insert(Queued {
                job: JobNumber(job),
                submitted: Time(job),
                limit,
                request: Request { among, ..request }.into(),
                standing: Standing::default(),
            });
            now = now + Duration::from_secs(1);
            while let Some(job) = cluster.running().iter().find(|(_, r)| r.until <= now).map(|(job, _)| *job) {
                cluster.end(job);
            }
        }
    }
}
