//! What users do with jobs that wait and run.

use crate::Queue;

#[test]
fn jobs_are_held_released_cancelled_suspended_and_queued_anew() {
    let queue = Queue::new();
    let held = queue.wrap(&["--hold"], "echo went");
    assert_eq!(queue.state(&held), "held");
    queue.run(&["release", &held]).ok();
    queue.wait_for_state(&held, "completed");
    queue
        .run(&["hold", &held])
        .refused(&format!("job {held} is completed"), "");

    let running = queue.wrap(&[], "echo begun; sleep 300");
    queue.wait_for_text(&format!("slurm-{running}.out"), "begun");
    queue.wait_for_state(&running, "running");
    queue.run(&["suspend", &running]).ok();
    assert_eq!(queue.state(&running), "suspended");
    queue.run(&["resume", &running]).ok();
    assert_eq!(queue.state(&running), "running");
    queue.run(&["requeue", &running]).ok();
    let file = format!("slurm-{running}.out");
    queue.wait_for_text(&file, "begun\nbegun\n");
    queue.wait_for_state(&running, "running");
    let before = queue.list("queue", &running);
    assert_eq!(before[0]["starts"], 2);
    queue.run(&["cancel", &running]).ok();
    queue.wait_for_state(&running, "cancelled");
    queue
        .run(&["cancel", "4711"])
        .refused("there is no job 4711", "hyperion queue");
}

#[test]
fn a_job_that_takes_too_long_is_ended_and_told_so() {
    let queue = Queue::new();
    queue.script(
        "long.sh",
        "#PBS -l walltime=00:00:01\ntrap 'echo told; exit 9' TERM\nsleep 300 & wait\n",
    );
    let job = queue.submit(&["long.sh"]);
    queue.wait_for_state(&job, "timed-out");
    assert_eq!(queue.read(&format!("long.sh.o{job}")), "told\n");
    let table = queue.run(&["history"]).ok();
    assert!(table.contains("timed out"), "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
}

#[test]
fn more_than_fits_waits_its_turn_and_the_list_says_why() {
    let queue = Queue::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all = format!("--ntasks={cores}");
    let first = queue.wrap(&[&all, "--time=10"], "sleep 300");
    let second = queue.wrap(&[&all, "--time=10"], "echo second");
    let third = queue.wrap(&[&all, "--time=10"], "echo third");
    queue.wait_for_state(&first, "running");
    assert!(queue.list("queue", &second)[0]["reason"]["resources"].is_u64());
    assert_eq!(queue.list("queue", &third)[0]["reason"], "turn");
    let said = queue.run(&["explain", &second]).ok();
    let lacks = format!("job {second} (wrap): pending: waits for {cores} more core");
    assert!(said.contains(&lacks), "{said}");
    assert!(
        said.contains(&format!("when job {first} ends\n  starts about ")),
        "{said}"
    );
    let when = queue
        .run(&["submit", "--dry-run", "-n", "1", "-t", "1", "--wrap=true"])
        .ok();
    assert!(when.starts_with("starts about "), "{when}");
    let nodes = queue.run(&["nodes"]).ok();
    assert!(nodes.contains(&format!("{cores} of {cores}")), "{nodes}");
    queue.run(&["cancel", &first]).ok();
    queue.wait_for_state(&third, "completed");
    let started = |job: &str| queue.list("history", job)[0]["started"].as_u64();
    assert!(started(&second) <= started(&third));
}
