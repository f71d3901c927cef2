//! Jobs of a trace that are cut anywhere, written, read and gone on with.

use std::convert::Infallible;

use hyperion_sched::Time;
use hyperion_sim::batch::{Job, Kinds, Lublin, Machine, Named, Ran, Simulation, Tally, run};
use hyperion_sim::{Seed, SnapshotError};
use rand_chacha::rand_core::Rng as _;
use sha2::{Digest as _, Sha256};

fn jobs(seed: u64, count: usize, processors: u64) -> Vec<Job> {
    let model = Lublin::new(processors, Kinds::Generic, Seed(seed));
    let all = model.take(count);
    // So close that some wait.
    all.map(|job| job.at_load(Time(0), 3.0)).collect()
}

/// What `run` gives, in one go.
fn whole(machine: Machine, policy: &Named, jobs: &[Job]) -> Vec<Ran> {
    let mut all = Vec::new();
    let arrivals = jobs.iter().copied().map(Ok::<_, Infallible>);
    run(machine, policy.order, policy.backfill, arrivals, |ran| {
        all.push(ran);
    })
    .expect("jobs in order");
    all
}

#[test]
fn jobs_that_are_cut_anywhere_and_gone_on_with_start_as_in_one_go() {
    let (mut rounds, mut waited) = (0, 0);
    for policy in Named::names() {
        let policy: Named = policy.parse().expect("a policy");
        for (seed, machine) in [
            (3, Machine::of(64)),
            (
                4,
                Machine {
                    nodes: 16,
                    processors: 4,
                },
            ),
        ] {
            let jobs = jobs(seed, 400, 64);
            let right = whole(machine, &policy, &jobs);
            waited += right
                .iter()
                .filter(|ran| ran.start > ran.job.submit)
                .count();
            let end = right.iter().map(Ran::end).max().expect("some ran");
            let mut chance = Seed(seed).stream(7);
            let mut cuts: Vec<Time> = (0..4).map(|_| Time(chance.next_u64() % end.0)).collect();
            // Right at something that happens, and before all.
            cuts.push(right[chance.next_u64() as usize % 400].start);
            cuts.push(Time(0));
            cuts.sort_unstable();
            let mut simulation =
                Simulation::new(machine, policy.clone(), jobs).expect("jobs in order");
            for cut in cuts {
                simulation.run(cut);
                assert!(simulation.ran().iter().all(|ran| ran.start < cut));
                let file = simulation.snapshot().expect("a snapshot");
                simulation = Simulation::resume(&file).expect("the same");
                assert_eq!((simulation.time(), simulation.machine()), (cut, machine));
            }
            assert!(!simulation.run(Time::NEVER));
            assert_eq!(simulation.ran(), right, "{}", policy.name);
            let digest = |all: &[Ran]| {
                let mut tally = Tally::new(64).with_digest(0);
                all.iter().for_each(|ran| tally.add(ran));
                tally.summary().start_sha256
            };
            assert_eq!(digest(simulation.ran()), digest(&right));
            rounds += 1;
        }
    }
    assert!(rounds > 30 && waited > 3000, "{rounds} {waited}");
}

#[test]
fn what_cannot_be_simulated_is_told_before() {
    let job = |submit: u64, processors: u64| Job {
        submit: Time::seconds(submit),
        processors,
        ..jobs(1, 1, 64)[0]
    };
    let why = |jobs: Vec<Job>| {
        let policy: Named = "easy".parse().expect("a policy");
        let told = Simulation::new(Machine::of(64), policy, jobs);
        told.map(|_| ()).expect_err("it cannot").to_string()
    };
    assert_eq!(
        why(vec![job(5, 1), job(4, 1)]),
        "job 1 is submitted before the job before it"
    );
    assert_eq!(
        why(vec![job(5, 65)]),
        "job 0 asks for more processors than the machine has"
    );
    let foreign = Simulation::resume(b"hyperion simulation 1\n").map(|_| ());
    assert!(matches!(foreign, Err(SnapshotError::Foreign)));
}

/// A snapshot has no names in it: one that was written before a change would be read as
/// something else.
#[test]
fn a_change_of_what_is_kept_of_schedules_needs_a_new_number_of_the_format() {
    let mut digest = Sha256::new();
    for policy in ["fifo", "easy", "conservative", "wfp3-easy"] {
        let policy: Named = policy.parse().expect("a policy");
        let jobs = jobs(9, 200, 64);
        let half = jobs[100].submit;
        let mut simulation = Simulation::new(Machine::of(64), policy, jobs).expect("jobs in order");
        simulation.run(half);
        digest.update(simulation.snapshot().expect("a snapshot"));
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        digest, "4a3b09abecf6dc0a3448ea45827b3e1ce73540a2ac0001a8b74e69ef7afd25bb",
        "raise the format in src/snapshot.rs, and put the new digest here"
    );
}
