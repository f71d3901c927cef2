//! How long a round of planning takes: `cargo test --release -p hyperion-sched --test
//! speed -- --ignored --nocapture` prints a line for each case.

use std::time::{Duration, Instant};

use hyperion_sched::{
    Amounts, Arrangement, Backfill, Cluster, JobNumber, Memory, Node, Order, Placement, Policy,
    Queue, Queued, Request, Standing, Time, plan, plan_on,
};

/// Enough for ten thousand jobs with reservations.
const EFFORT: u64 = 50_000_000;

const GIB: u64 = 1 << 30;
const NOW: Time = Time::seconds(1_000_000);

/// Numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }

    /// One of a few, as people write them.
    fn limit(&mut self) -> Duration {
        let minutes = [10, 30, 60, 120, 240, 480, 720, 1440];
        Duration::from_secs(60 * minutes[self.below(8) as usize])
    }

    /// Whole nodes, parts of one, or many tasks that lie where they like.
    fn request(&mut self) -> Request {
        match self.below(10) {
            0..4 => Request {
                arrangement: Arrangement::Apart,
                exclusive: self.below(2) == 0,
                ..Request::of(1 << self.below(8), Amounts::new([64_000, 200 * GIB]))
            },
            4..8 => {
                let cores = 1 + self.below(32);
                Request::one(Amounts::new([cores * 1000, cores * 4 * GIB]))
            }
            8 => Request::of(1 + self.below(500), Amounts::new([1000, 2 * GIB])),
            _ => {
                let gpus = 1 + self.below(4);
                Request::one(Amounts::new([8000, 32 * GIB, gpus]))
            }
        }
    }
}

/// A cluster, each tenth node of it with GPUs, that is busy as far as what comes has
/// room, and a queue.
fn site(nodes: u32, jobs: u64, order: Order) -> (Cluster, Queue) {
    let node = |number: u32| Node {
        name: format!("n{number}"),
        capacity: Amounts::new([64_000, 256 * GIB, if number % 10 == 9 { 4 } else { 0 }]),
    };
    let mut cluster = Cluster::new((0..nodes).map(node).collect());
    let mut chance = Chance(7);
    let mut queued = |job: u64| Queued {
        job: JobNumber(job),
        submitted: Time::seconds(job),
        limit: chance.limit(),
        least: None,
        request: chance.request().into(),
        standing: Standing::default(),
    };
    let mut queue = Queue::new(order);
    let mut next = 0;
    // Until ten in a row find no room.
    for _ in 0..10 {
        loop {
            let job = queued(next);
            next += 1;
            let mut alone = Queue::new(Order::Fifo);
            let limit = job.limit;
            alone.insert(job);
            let Some(start) = plan(Policy::default(), &cluster, &alone, NOW).starts.pop() else {
                break;
            };
            // It has run for a while.
            let left = limit.mul_f64((1 + next * 7919 % 999) as f64 / 1000.0);
            cluster.start(start.job, start.allocation, NOW + left);
        }
    }
    for job in next..next + jobs {
        queue.insert(queued(job));
    }
    (cluster, queue)
}

const POLICIES: [(&str, Backfill); 3] = [
    ("FIFO", Backfill::None),
    ("EASY", Backfill::Easy { scan: Order::Fifo }),
    ("conservative", Backfill::Conservative),
];

#[test]
#[ignore = "measures; see above"]
fn a_round_takes_so_long() {
    for (nodes, jobs) in [
        (10_000, 1000),
        (10_000, 10_000),
        (1000, 10_000),
        (10_000, 100_000),
    ] {
        let (cluster, queue) = site(nodes, jobs, Order::Fifo);
        for (name, backfill) in POLICIES {
            for placement in [Placement::First, Placement::BestFit] {
                let policy = Policy {
                    backfill,
                    placement,
                };
                // The shortest of three: others may want the processor, too.
                let rounds = (0..3).map(|_| {
                    let mut memory = Memory::default();
                    let begun = Instant::now();
                    let made = plan_on(policy, &cluster, &queue, NOW, &mut memory, EFFORT);
                    let first = begun.elapsed();
                    let begun = Instant::now();
                    plan_on(policy, &cluster, &queue, NOW, &mut memory, EFFORT);
                    (first, begun.elapsed(), made)
                });
                let (first, again, made) = rounds.min_by_key(|round| round.0).expect("three");
                println!(
                    "{nodes} nodes, {jobs} jobs, {name}, {placement:?}: {first:.2?} for {} starts, {} reservations of {} running{}; again {again:.2?}",
                    made.starts.len(),
                    made.reservations.len(),
                    cluster.running().len(),
                    if made.unfinished { ", unfinished" } else { "" },
                );
            }
        }
    }
}
