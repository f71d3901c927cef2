//! The schedules of real traces, start by start, as two other simulators make them.

use std::convert::Infallible;
use std::io::Read as _;
use std::path::Path;

use hyperion_formats::swf::{self, Said};
use hyperion_sim::batch::{Job, Logged, Machine, Named, Summary, Tally, run};
use hyperion_testkit::{requires, traces};
use serde_json::{Map, Value};

fn read(path: &Path) -> (Machine, Vec<Job>) {
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("it is there");
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("text");
    let (mut processors, mut nodes, mut jobs) = (None, None, Vec::new());
    for line in text.lines() {
        match swf::read(line.as_bytes()).expect("a log") {
            Said::Head("MaxProcs", text) => processors = text.parse().ok(),
            Said::Head("MaxNodes", text) => nodes = text.parse().ok(),
            Said::Job(line) => {
                let logged = Logged {
                    submit: line.submit,
                    run: line.run,
                    allocated: line.allocated,
                    requested: line.requested,
                    requested_time: line.requested_time,
                };
                let all = processors.or(nodes).expect("a size");
                jobs.extend(Job::of(logged, all));
            }
            Said::Head(..) | Said::Nothing => {}
        }
    }
    jobs.sort_by_key(|job| job.submit);
    (Machine::of(processors.or(nodes).expect("a size")), jobs)
}

fn simulate(machine: Machine, jobs: &[Job], policy: &str) -> Summary {
    let policy: Named = policy.parse().expect("a policy");
    let mut tally = Tally::new(machine.all());
    let trace = jobs.iter().copied().map(Ok::<_, Infallible>);
    run(machine, policy.order, policy.backfill, trace, |ran| {
        tally.add(&ran);
    })
    .expect("it runs");
    tally.summary()
}

const POLICIES: [(&str, &str); 6] = [
    ("FCFS", "fifo"),
    ("SJF", "sjf"),
    ("EASY", "easy"),
    ("EASY_SJBF", "easy-sjbf"),
    ("SJF_EASY", "sjf-easy"),
    ("CONS", "conservative"),
];

/// Compares so many jobs of each trace with what others found.
fn compare(size: &str) {
    let folder = traces().expect("it is there");
    let text = std::fs::read_to_string(folder.join("expected.json")).expect("it is there");
    let expected: Map<String, Value> = serde_json::from_str(&text).expect("JSON");
    let mut wrong = String::new();
    for (trace, sizes) in &expected {
        let (machine, jobs) = read(&folder.join(format!("{trace}.gz")));
        let Some(results) = sizes.get(size) else {
            continue;
        };
        let jobs = &jobs[..size.parse().unwrap_or(jobs.len()).min(jobs.len())];
        for (theirs, ours) in POLICIES {
            let Some(Value::Object(right)) = results.get(theirs) else {
                continue;
            };
            let begun = std::time::Instant::now();
            let found = serde_json::to_value(simulate(machine, jobs, ours)).expect("JSON");
            println!(
                "{trace} {ours}: {:.0} jobs/s",
                jobs.len() as f64 / begun.elapsed().as_secs_f64()
            );
            for (key, value) in right {
                let same = match (value.as_f64(), found[key].as_f64()) {
                    (Some(right), Some(ours)) => (right - ours).abs() <= 1e-9 * right.abs(),
                    _ => *value == found[key],
                };
                if !same {
                    wrong += &format!("{trace} {ours} {key}: {} not {value}\n", found[key]);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn real_traces_are_scheduled_as_others_schedule_them() {
    requires!("traces");
    compare("1024");
}

#[test]
#[ignore = "takes minutes without optimization"]
fn whole_traces_are_too() {
    requires!("traces");
    compare("full");
}
