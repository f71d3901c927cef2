//! What a hundred thousand queued jobs cost: `cargo test --release -p hyperion-lifecycle
//! --test speed -- --ignored --nocapture` prints it.

use std::time::{Duration, Instant};

use hyperion_lifecycle::{Event, Ledger, Site, Who};
use hyperion_model::Bytes;
use hyperion_model::submission::{Command, Dialect, NodeCount, Per, Submission, TimeLimit};
use hyperion_sched::{Amounts, Backfill, Node, Order, Placement, Policy, Time};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

fn submission(number: u64) -> Submission {
    let script = format!(
        "#!/bin/sh\n#SBATCH -n 4\n#SBATCH -t 2:00:00\n{}\n",
        "srun ./solver --mesh fine.msh --steps 1000\n".repeat(8)
    );
    let mut asked = Submission::new(
        Dialect::Slurm,
        Command::Script {
            interpreter: Some("/bin/sh".into()),
            text: script.into(),
            arguments: Vec::new(),
        },
    );
    asked.name = Some(format!("case-{number}"));
    asked.account = Some("physics".into());
    asked.time_limit = Some(TimeLimit::Span(Duration::from_secs(
        600 * (1 + number % 40),
    )));
    let part = &mut asked.parts[0];
    let nodes = 1 + (number % 7) as u32;
    part.nodes = Some(NodeCount {
        least: nodes,
        most: nodes,
    });
    part.tasks.insert(Per::Node, 1 + (number % 16) as u32);
    part.memory.insert(Per::Node, Bytes(8 << 30));
    asked
}

#[test]
#[ignore = "measures; see above"]
fn a_long_queue_costs_so_much() {
    for (nodes, backfill) in [
        (10_000, Backfill::Easy { scan: Order::Fifo }),
        (1, Backfill::Easy { scan: Order::Fifo }),
        (100, Backfill::Conservative),
    ] {
        let node = |number: u32| Node {
            name: format!("n{number}"),
            capacity: Amounts::new([64_000, 256 << 30]),
        };
        let site = Site {
            nodes: (0..nodes.max(7)).map(node).collect(),
            ..Site::default()
        };
        let policy = Policy {
            backfill,
            placement: Placement::First,
        };
        let mut ledger = Ledger::new(site, Order::Fifo, policy);
        let who = Who {
            user: 1000,
            operator: false,
        };
        let before = resident_kib();
        let begun = Instant::now();
        for number in 0..100_000 {
            let submit = Event::Submit {
                who,
                submission: Box::new(submission(number)),
                begin: None,
                deadline: None,
            };
            ledger.step(Time(number), submit).expect("taken");
        }
        let submits = begun.elapsed();
        let memory = (resident_kib() - before) / 1024;
        println!(
            "{nodes} nodes, {backfill:?}: {:.2?} a submit, {memory} MiB for 100,000 jobs",
            submits / 100_000
        );
        for round in 0..4 {
            let begun = Instant::now();
            let started = ledger.schedule(Time(100_000 + round));
            let again = ledger.wake_at() == Some(Time(100_000 + round));
            println!(
                "  a round: {:.1?} for {} records{}",
                begun.elapsed(),
                started.len(),
                if again { ", to go on" } else { "" }
            );
        }
    }
}
