//! What every plan keeps to, on small clusters made at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyperion_sched::{
    Amounts, Arrangement, Backfill, Chunk, Cluster, Forecast, JobNumber, Memory, Node, NodeNumber,
    Order, Part, Placement, Plan, Policy, Queue, Queued, Request, Running, Standing, Time, Weights,
    forecast, plan, plan_on,
};
use proptest::prelude::*;

/// A job as it comes in: when, what, for how long at most, and how long it runs.
#[derive(Debug, Clone)]
struct Job {
    submit: u64,
    request: Request,
    limit: u64,
    run: u64,
}

fn amounts() -> impl Strategy<Value = Amounts> {
    (1..=4u64, 0..=4u64, 0..=1u64)
        .prop_map(|(cores, memory, gpus)| Amounts::new([cores * 1000, memory << 30, gpus * 1000]))
}

fn requests() -> impl Strategy<Value = Request> {
    let arrangements = prop_oneof![
        Just(Arrangement::Free),
        Just(Arrangement::Together),
        Just(Arrangement::Apart),
    ];
    let chunks = prop::collection::vec((1..=3u64, amounts()), 1..=2);
    (chunks, arrangements, prop::bool::weighted(0.1)).prop_map(
        |(chunks, arrangement, exclusive)| {
            let chunk = |(count, each)| Chunk { count, each };
            Request {
                chunks: chunks.into_iter().map(chunk).collect(),
                arrangement,
                exclusive,
                ..Request::default()
            }
        },
    )
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let job = (0..25u64, requests(), 1..=20u64, 1..=20u64);
    let jobs = prop::collection::vec(job, 1..40);
    jobs.prop_map(|jobs| {
        let job = |(submit, request, limit, run): (u64, Request, u64, u64)| Job {
            submit,
            request,
            limit,
            run: run.min(limit),
        };
        jobs.into_iter().map(job).collect()
    })
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let node = (1..=12u64, 1..=16u64, 0..=3u64).prop_map(|(cores, memory, gpus)| Node {
        name: "n".into(),
        capacity: Amounts::new([cores * 1000, memory << 30, gpus * 1000]),
    });
    prop::collection::vec(node, 1..=5)
}

fn policies() -> impl Strategy<Value = (Order, Policy)> {
    let weights = Weights {
        age: 1000,
        size: 10,
        ..Weights::default()
    };
    let by_factors = Order::Multifactor(weights);
    let orders = [
        Order::Fifo,
        Order::Shortest,
        Order::Wfp3,
        Order::F3,
        Order::Fairest,
        by_factors,
    ];
    let backfills = [
        Backfill::None,
        Backfill::Easy { scan: Order::Fifo },
        Backfill::Easy {
            scan: Order::Shortest,
        },
        Backfill::Conservative,
    ];
    let placements = [Placement::First, Placement::Pack, Placement::Spread];
    let one_of = (
        prop::sample::select(orders.to_vec()),
        prop::sample::select(backfills.to_vec()),
        prop::sample::select(placements.to_vec()),
    );
    one_of.prop_map(|(order, backfill, placement)| {
        (
            order,
            Policy {
                backfill,
                placement,
            },
        )
    })
}

/// What a run looked like at one pass.
struct Pass<'a> {
    now: Time,
    cluster: &'a Cluster,
    queue: &'a Queue,
    plan: &'a Plan,
}

/// Runs jobs to their ends; `look` sees each pass before its plan is carried
/// out. Gives the starts.
fn run(
    nodes: &[Node],
    jobs: &[Job],
    (order, policy): (Order, Policy),
    mut look: impl FnMut(&Pass<'_>),
) -> BTreeMap<u64, u64> {
    let mut cluster = Cluster::new(nodes.to_vec());
    let mut queue = Queue::new(order);
    let mut starts = BTreeMap::new();
    let mut ends = BTreeSet::new();
    let mut arrivals: BTreeSet<(u64, u64)> = jobs
        .iter()
        .zip(0..)
        .map(|(job, number)| (job.submit, number))
        .collect();
    let mut wake = None;
    loop {
        let next = [
            ends.first().map(|&(at, _): &(u64, u64)| at),
            arrivals.first().map(|(at, _)| *at),
            wake,
        ];
        let Some(now) = next.into_iter().flatten().min() else {
            return starts;
        };
        while ends.first().is_some_and(|(at, _)| *at == now) {
            let (_, job) = ends.pop_first().expect("it is there");
            assert!(cluster.end(JobNumber(job)));
        }
        while arrivals.first().is_some_and(|(at, _)| *at == now) {
            let (_, number) = arrivals.pop_first().expect("it is there");
            let job = &jobs[number as usize];
            queue.insert(Queued {
                job: JobNumber(number),
                submitted: Time::seconds(now),
                limit: Duration::from_secs(job.limit),
                least: None,
                request: job.request.clone().into(),
                standing: Standing::default(),
            });
        }
        let at = Time::seconds(now);
        let made = plan(policy, &cluster, &queue, at);
        assert_eq!(made, plan(policy, &cluster, &queue, at));
        look(&Pass {
            now: at,
            cluster: &cluster,
            queue: &queue,
            plan: &made,
        });
        let waiting = queue.len();
        let started = queue.remove_started(&made);
        assert_eq!(queue.len() + started.len(), waiting);
        wake = made
            .wake_at
            .map(|at| at.0 / 1_000_000)
            .filter(|&at| at > now);
        for (start, queued) in made.starts.into_iter().zip(started) {
            assert_eq!(start.job, queued.job);
            starts.insert(start.job.0, now);
            ends.insert((now + jobs[start.job.0 as usize].run, start.job.0));
            // Panics where something is not free: nothing is given out twice.
            cluster.start(start.job, start.allocation, start.until);
        }
    }
}

/// What a job has is what it asked for.
fn is_what_was_asked(request: &Request, start: &hyperion_sched::Start, nodes: &[Node]) {
    let parts = &start.allocation;
    let distinct: BTreeSet<_> = parts.iter().map(|part| part.node).collect();
    assert_eq!(distinct.len(), parts.len(), "a node is named once");
    let count: u64 = request.chunks.iter().map(|chunk| chunk.count).sum();
    match request.arrangement {
        Arrangement::Together => assert_eq!(parts.len(), 1),
        Arrangement::Apart => assert_eq!(parts.len() as u64, count),
        Arrangement::Free => assert!(parts.len() as u64 <= count),
    }
    if request.exclusive {
        for part in parts.iter() {
            assert_eq!(part.taken, nodes[part.node.0 as usize].capacity);
        }
        return;
    }
    let (mut taken, mut asked) = (Amounts::default(), Amounts::default());
    parts.iter().for_each(|part| taken.add(&part.taken, 1));
    request
        .chunks
        .iter()
        .for_each(|chunk| asked.add(&chunk.each, chunk.count));
    assert_eq!(taken, asked);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_given_out_twice_and_each_job_gets_what_it_asked(
        nodes in nodes(), jobs in jobs(), policy in policies(),
    ) {
        run(&nodes, &jobs, policy, |pass| {
            for start in &pass.plan.starts {
                is_what_was_asked(&jobs[start.job.0 as usize].request, start, &nodes);
            }
        });
    }

    #[test]
    fn what_fits_an_empty_cluster_is_started_in_the_end(
        nodes in nodes(), jobs in jobs(), policy in policies(),
    ) {
        let fits = |job: &&Job| {
            let mut queue = Queue::new(Order::Fifo);
            queue.insert(Queued {
                job: JobNumber(0),
                submitted: Time(0),
                limit: Duration::from_secs(1),
                least: None,
                request: job.request.clone().into(),
                standing: Standing::default(),
            });
            !plan(policy.1, &Cluster::new(nodes.clone()), &queue, Time(0)).starts.is_empty()
        };
        // One that never fits holds up a queue in which nobody goes past it.
        let able: Vec<Job> = jobs.iter().filter(fits).cloned().collect();
        prop_assert_eq!(run(&nodes, &able, policy, |_| {}).len(), able.len());
    }

    #[test]
    fn a_forecast_is_what_happens_if_each_runs_to_its_limit(
        nodes in nodes(), jobs in jobs(), policy in policies(),
    ) {
        // `run` keeps nothing in mind from pass to pass, as a forecast does.
        prop_assume!(!policy.0.changes() && policy.1.backfill != Backfill::Conservative);
        let at_once = |job: Job| Job { submit: 0, run: job.limit, ..job };
        let jobs: Vec<Job> = jobs.into_iter().map(at_once).collect();
        let mut forecasts = BTreeMap::new();
        let starts = run(&nodes, &jobs, policy, |pass| {
            if pass.now > Time(0) {
                return;
            }
            for queued in pass.queue.iter() {
                let when = forecast(policy.1, pass.cluster, pass.queue, pass.now, queued.job, u64::MAX);
                if let Forecast::At { at, .. } = when {
                    forecasts.insert(queued.job.0, at.0 / 1_000_000);
                }
            }
        });
        prop_assert_eq!(forecasts, starts);
    }

    #[test]
    fn easy_never_delays_the_first_that_cannot_start(
        nodes in nodes(), jobs in jobs(), policy in policies(), scan in prop::sample::select(vec![Order::Fifo, Order::Shortest]),
    ) {
        let (order, policy) = policy;
        let policy = Policy { backfill: Backfill::Easy { scan }, ..policy };
        run(&nodes, &jobs, (order, policy), |pass| {
            let Some(kept) = pass.plan.reservations.first() else { return };
            // Whoever was started has all its time, and still what is kept is free.
            let mut cluster = pass.cluster.clone();
            for start in &pass.plan.starts {
                cluster.start(start.job, start.allocation.clone(), start.until);
            }
            let over = |(job, running): (&JobNumber, &Running)| (running.until <= kept.at).then_some(*job);
            while let Some(job) = cluster.running().iter().map(|(job, its)| (job, &**its)).find_map(over) {
                cluster.end(job);
            }
            for part in kept.allocation.iter() {
                assert!(part.taken.is_within(cluster.free(part.node)));
            }
            // With chunks of one kind it is found as well.
            let request = &jobs[kept.job.0 as usize].request;
            if request.chunks.len() == 1 {
                let mut alone = Queue::new(order);
                alone.insert(pass.queue.iter().find(|queued| queued.job == kept.job).expect("it waits").clone());
                assert_eq!(plan(policy, &cluster, &alone, kept.at).starts.len(), 1);
            }
        });
    }

    #[test]
    fn all_that_conservative_keeps_has_room_at_every_moment(
        nodes in nodes(), jobs in jobs(), policy in policies(),
    ) {
        let policy = Policy { backfill: Backfill::Conservative, ..policy.1 };
        run(&nodes, &jobs, (Order::Fifo, policy), |pass| {
            let limit = |job: JobNumber| Duration::from_secs(jobs[job.0 as usize].limit);
            let running = pass.cluster.running().values();
            let running = running.map(|job| (pass.now, job.until, &job.allocation));
            let starts = pass.plan.starts.iter();
            let starts = starts.map(|start| (pass.now, start.until, &start.allocation));
            let kept = pass.plan.reservations.iter();
            let kept = kept.map(|kept| (kept.at, kept.at + limit(kept.job), &kept.allocation));
            let all: Vec<_> = running.chain(starts).chain(kept).collect();
            for &(moment, ..) in &all {
                let mut used = vec![Amounts::default(); nodes.len()];
                let there = all.iter().filter(|(from, until, _)| *from <= moment && moment < *until);
                for part in there.flat_map(|(_, _, allocation)| allocation.iter()) {
                    used[part.node.0 as usize].add(&part.taken, 1);
                }
                for (used, node) in used.iter().zip(&nodes) {
                    assert!(used.is_within(&node.capacity), "{used:?} of {node:?} at {moment:?}");
                }
            }
        });
    }

    #[test]
    fn conservative_never_moves_what_an_earlier_job_was_given(
        nodes in nodes(), jobs in jobs(), policy in policies(),
    ) {
        let policy = Policy { backfill: Backfill::Conservative, ..policy.1 };
        run(&nodes, &jobs, (Order::Fifo, policy), |pass| {
            // Without the last job the others have the same.
            let Some(last) = pass.queue.iter().last() else { return };
            let mut fewer = pass.queue.clone();
            fewer.remove(last.job);
            let other = plan(policy, pass.cluster, &fewer, pass.now);
            let starts = |plan: &Plan| -> Vec<_> {
                let others = plan.starts.iter().filter(|start| start.job != last.job);
                others.map(|start| (start.job, start.allocation.clone())).collect()
            };
            let kept = |plan: &Plan| -> Vec<_> {
                let others = plan.reservations.iter().filter(|kept| kept.job != last.job);
                others.cloned().collect()
            };
            assert_eq!(starts(&other), starts(pass.plan));
            assert_eq!(kept(&other), kept(pass.plan));
        });
    }
}

proptest! {
    /// A node of processors alone is planned for by their sums, another by what lies where.
    #[test]
    fn a_node_of_processors_alone_is_planned_for_as_one_that_has_memory_too(
        runs in prop::collection::vec((1..=4u64, 0..=30u64), 0..4),
        waits in prop::collection::vec((1..=9u64, 0..=20u64), 1..30),
        later in prop::collection::vec((1..=9u64, 1..=20u64), 0..5),
    ) {
        let policy = Policy { backfill: Backfill::Conservative, placement: Placement::First };
        let planned = |capacity: Amounts| {
            let mut cluster = Cluster::new(vec![Node { name: "n".into(), capacity }]);
            let mut free = 8;
            for ((cores, until), job) in runs.iter().zip(1000..) {
                // Some are over their time.
                let cores = (*cores).min(free);
                free -= cores;
                let part = Part::of(NodeNumber(0), Amounts::cores(cores * 1000));
                cluster.start(JobNumber(job), [part].into_iter().collect(), Time::seconds(*until));
            }
            let mut queue = Queue::new(Order::Fifo);
            let mut memory = Memory::default();
            let mut plans = Vec::new();
            let mut number = 0;
            for (now, jobs) in [(5, &waits), (6, &later)] {
                for (cores, limit) in jobs {
                    queue.insert(Queued {
                        job: JobNumber(number),
                        submitted: Time::seconds(now),
                        limit: Duration::from_secs(*limit),
                        least: None,
                        request: Request::of(*cores, Amounts::cores(1000)).into(),
                        standing: Standing::default(),
                    });
                    number += 1;
                }
                let now = Time::seconds(now);
                let plan = plan_on(policy, &cluster, &queue, now, &mut memory, u64::MAX);
                for start in &plan.starts {
                    cluster.start(start.job, start.allocation.clone(), start.until);
                }
                queue.remove_started(&plan);
                plans.push((plan.starts, plan.reservations, plan.verdicts, plan.wake_at));
            }
            plans
        };
        let plain = planned(Amounts::cores(8000));
        prop_assert_eq!(plain, planned(Amounts::new([8000, 1 << 30])));
    }
}
