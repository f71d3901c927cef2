//! The ledger of a server on a heap of events.

use std::convert::Infallible;
use std::time::Duration;

use hyperion_lifecycle::{Change, Event, Ledger, Record, Refusal, Site, State, TaskId, Time, Who};
use hyperion_model::submission::{Command, Dialect, Per, Submission, TimeLimit};
use hyperion_sched::{Amounts, Backfill, Node, Order, Placement, Policy};
use hyperion_sim::batch::{self, Job, Kinds, Lublin, Machine};
use hyperion_sim::{Seed, site};

const USER: Who = Who {
    user: 1000,
    operator: false,
};

fn ledger(cores: u64, backfill: Backfill) -> Ledger {
    let node = Node {
        name: "n0".into(),
        capacity: Amounts::cores(cores * 1000),
    };
    let site = Site {
        nodes: vec![node],
        kinds: Vec::new(),
        usual_limit: None,
        ..Site::default()
    };
    let policy = Policy {
        backfill,
        placement: Placement::First,
    };
    Ledger::new(site, Order::Fifo, policy)
}

fn submit(processors: u64, limit: Duration) -> Event {
    let command = Command::Program(vec!["true".into()]);
    let mut submission = Submission::new(Dialect::Slurm, command);
    submission.parts[0]
        .tasks
        .insert(Per::Job, processors.try_into().expect("few"));
    submission.time_limit = Some(TimeLimit::Span(limit));
    Event::Submit {
        who: USER,
        submission: Box::new(submission),
        begin: None,
        deadline: None,
    }
}

/// Runs jobs as a site would; gives what was written and what was refused.
fn simulate(ledger: &mut Ledger, jobs: &[Job]) -> (Vec<Record>, Vec<Refusal>) {
    let told = jobs
        .iter()
        .map(|job| (job.submit, submit(job.processors, job.estimate)));
    let (mut records, mut refusals) = (Vec::new(), Vec::new());
    site::run(
        ledger,
        told,
        |task, _| site::Lasting::of(jobs[task.job as usize - 1].run),
        |shown| match shown {
            Ok(record) => records.push(record.clone()),
            Err((_, refusal)) => refusals.push(refusal),
        },
    );
    (records, refusals)
}

fn starts(records: &[Record]) -> Vec<(u64, Time)> {
    let mut starts: Vec<(u64, Time)> = records
        .iter()
        .filter_map(|record| match record.change {
            Change::Started { task, .. } => Some((task.job - 1, record.at)),
            _ => None,
        })
        .collect();
    starts.sort_unstable();
    starts
}

#[test]
fn a_site_starts_jobs_when_the_simulator_of_traces_does() {
    let jobs: Vec<Job> = Lublin::new(64, Kinds::Generic, Seed(11))
        .take(300)
        .collect();
    let scan = Order::Fifo;
    for backfill in [
        Backfill::None,
        Backfill::Easy { scan },
        Backfill::Conservative,
    ] {
        let mut of_trace = Vec::new();
        let trace = jobs.iter().copied().map(Ok::<_, Infallible>);
        batch::run(Machine::of(64), Order::Fifo, backfill, trace, |ran| {
            of_trace.push((ran.number, ran.start));
        })
        .expect("it runs");
        of_trace.sort_unstable();
        let (records, refusals) = simulate(&mut ledger(64, backfill), &jobs);
        assert!(refusals.is_empty(), "{refusals:?}");
        assert_eq!(starts(&records), of_trace, "{backfill:?}");
    }
}

#[test]
fn what_was_written_makes_the_same_ledger_and_the_same_again() {
    let jobs: Vec<Job> = Lublin::new(32, Kinds::Generic, Seed(3)).take(200).collect();
    let backfill = Backfill::Easy { scan: Order::Fifo };
    let mut first = ledger(32, backfill);
    let (records, _) = simulate(&mut first, &jobs);
    assert_eq!(simulate(&mut ledger(32, backfill), &jobs).0, records);
    let mut read = ledger(32, backfill);
    records.iter().for_each(|record| read.apply(record));
    assert_eq!(read.jobs(), first.jobs());
    let over = first.jobs().values().filter(|job| job.is_over()).count();
    assert_eq!(over, jobs.len());
}

#[test]
fn nobody_looks_again_before_a_job_ends_that_is_over_its_time() {
    let scan = Order::Fifo;
    for backfill in [
        Backfill::None,
        Backfill::Easy { scan },
        Backfill::Conservative,
    ] {
        let mut ledger = ledger(2, backfill);
        for _ in 0..2 {
            let event = submit(2, Duration::from_secs(60));
            ledger.step(Time(0), event).expect("it is taken");
        }
        assert_eq!(ledger.schedule(Time(0)).len(), 1);
        let limit = Time::seconds(60);
        assert_eq!(ledger.wake_at(), Some(limit));
        ledger.step(limit, Event::Tick).expect("it is told to end");
        assert_eq!(ledger.schedule(limit), []);
        assert_eq!(ledger.wake_at(), None, "{backfill:?}");
        let task = TaskId { job: 1, index: 0 };
        let end = Event::Over(task, hyperion_lifecycle::End::Lost);
        let over = Time::seconds(65);
        ledger.step(over, end).expect("it has ended");
        assert_eq!(ledger.schedule(over).len(), 1);
    }
}

#[test]
fn a_job_that_takes_too_long_is_ended_at_its_limit_and_one_that_fits_nowhere_is_refused() {
    let seconds = Duration::from_secs;
    let job = |submit, run, estimate, processors| Job {
        submit: Time::seconds(submit),
        run: seconds(run),
        estimate: seconds(estimate),
        processors,
    };
    let jobs = [job(0, 500, 60, 2), job(1, 10, 60, 2), job(2, 10, 60, 3)];
    let mut ledger = ledger(2, Backfill::None);
    let (records, refusals) = simulate(&mut ledger, &jobs);
    assert_eq!(refusals, [Refusal::NeverFits]);
    let state = |job| ledger.state(TaskId { job, index: 0 });
    assert_eq!(state(1), Some(State::TimedOut));
    assert_eq!(state(2), Some(State::Completed));
    assert_eq!(starts(&records)[1], (1, Time::seconds(60)));
}
