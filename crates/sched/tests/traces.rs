//! The schedules of real traces, start by start, as two other simulators make them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use hyperion_sched::{
    Amounts, Backfill, Cluster, JobNumber, Node, Order, Placement, Policy, Queue, Queued, Request,
    Standing, Time, plan,
};
use hyperion_testkit::{requires, traces};

use sha2::{Digest as _, Sha256};

/// A rigid job of a trace, in seconds.
#[derive(Clone, Copy)]
struct Job {
    submit: u64,
    run: u64,
    estimate: u64,
    processors: u64,
}

fn read(path: &Path) -> (u64, Vec<Job>) {
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("it is there");
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("text");
    let header = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(';') && line.contains(name))?;
        line.split(':')
            .nth(1)?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    };
    let machine = header("MaxProcs:")
        .or_else(|| header("MaxNodes:"))
        .expect("a size");
    let mut jobs = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with(';')) {
        let fields: Vec<f64> = line
            .split_whitespace()
            .map(|f| f.parse().expect("a number"))
            .collect();
        let [_, submit, _, run, allocated, _, _, requested, estimate, ..] = fields[..] else {
            continue;
        };
        let processors = if requested > 0.0 {
            requested
        } else {
            allocated
        };
        if run <= 0.0 || processors <= 0.0 || processors > machine as f64 || submit < 0.0 {
            continue;
        }
        let estimate = if estimate > 0.0 { estimate } else { run };
        jobs.push(Job {
            submit: submit as u64,
            run: run as u64,
            estimate: estimate.max(run) as u64,
            processors: processors as u64,
        });
    }
    jobs.sort_by_key(|job| job.submit);
    (machine, jobs)
}

/// Runs a trace; gives the start of each job.
fn run(machine: u64, jobs: &[Job], order: Order, backfill: Backfill) -> Vec<u64> {
    let policy = Policy {
        backfill,
        placement: Placement::First,
    };
    let mut cluster = Cluster::new(vec![Node {
        name: "machine".into(),
        capacity: Amounts::cores(machine * 1000),
    }]);
    let mut queue = Queue::new(order);
    let mut starts = vec![0; jobs.len()];
    let mut ends: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut arrivals = jobs.iter().enumerate().peekable();
    loop {
        let next_end = ends.first().map(|(at, _)| *at);
        let next_arrival = arrivals.peek().map(|(_, job)| job.submit);
        let Some(now) = next_end.into_iter().chain(next_arrival).min() else {
            return starts;
        };
        while ends.first().is_some_and(|(at, _)| *at == now) {
            let (_, job) = ends.pop_first().expect("it is there");
            assert!(cluster.end(JobNumber(job)));
        }
        while let Some((number, job)) = arrivals.next_if(|(_, job)| job.submit == now) {
            queue.insert(Queued {
                job: JobNumber(number as u64),
                submitted: Time::seconds(now),
                limit: Duration::from_secs(job.estimate),
                request: Request::one(Amounts::cores(job.processors * 1000)).into(),
                standing: Standing::default(),
            });
        }
        let made = plan(policy, &cluster, &queue, Time::seconds(now));
        queue.remove_started(&made);
        for start in made.starts {
            let number = start.job.0;
            starts[number as usize] = now;
            ends.insert((now + jobs[number as usize].run, number));
            cluster.start(start.job, start.allocation, start.until);
        }
    }
}

const POLICIES: [(&str, Order, Backfill); 6] = [
    ("FCFS", Order::Fifo, Backfill::None),
    ("SJF", Order::Shortest, Backfill::None),
    ("EASY", Order::Fifo, Backfill::Easy { scan: Order::Fifo }),
    (
        "EASY_SJBF",
        Order::Fifo,
        Backfill::Easy {
            scan: Order::Shortest,
        },
    ),
    (
        "SJF_EASY",
        Order::Shortest,
        Backfill::Easy {
            scan: Order::Shortest,
        },
    ),
    ("CONS", Order::Fifo, Backfill::Conservative),
];

#[test]
fn real_traces_are_scheduled_as_others_schedule_them() {
    requires!("traces");
    let folder = traces().expect("it is there");
    let text = std::fs::read_to_string(folder.join("expected.json")).expect("it is there");
    let expected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut wrong = String::new();
    for (trace, sizes) in expected.as_object().expect("traces") {
        let (machine, jobs) = read(&folder.join(format!("{trace}.gz")));
        let results = &sizes["1024"];
        for (name, order, backfill) in POLICIES {
            let starts = run(machine, &jobs[..1024], order, backfill);
            let lines = starts.iter().enumerate();
            let lines: String = lines
                .map(|(job, start)| format!("{job} {start}\n"))
                .collect();
            let digest = Sha256::digest(lines.as_bytes());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            if results[name]["start_sha256"] != digest {
                let (sum, right) = (starts.iter().sum::<u64>(), &results[name]["start_sum"]);
                wrong += &format!("{trace} {name}: the starts sum up to {sum}, not {right}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
