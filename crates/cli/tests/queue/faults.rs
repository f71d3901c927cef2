//! Whoever is killed: nothing is lost, and nothing is done twice.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::Queue;
use crate::site::wait_gone;

/// The server of a queue, and its agent.
fn processes(queue: &Queue) -> (Pid, Pid) {
    let mark = format!("--root\0{}\0", queue.site.root().display());
    let mut found = (None, None);
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let words = String::from_utf8_lossy(&read("cmdline")).into_owned();
        // Supervisors are copies of the agent, under a name of their own.
        if !words.contains(&mark) || read("comm") == b"hyperion-sup\n" {
            continue;
        }
        if words.contains("\0serve\0") {
            found.0 = Some(pid);
        } else if words.ends_with("\0agent\0") {
            found.1 = Some(pid);
        }
    }
    (found.0.expect("a server"), found.1.expect("an agent"))
}

#[track_caller]
fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("it runs");
    wait_gone(pid);
}

#[test]
fn jobs_go_on_when_the_server_and_its_agent_are_killed_and_their_ends_are_known() {
    let queue = Queue::new();
    let gate = queue.folder().join("gate");
    let made = Command::new("mkfifo").arg(&gate).status();
    assert!(made.expect("mkfifo starts").success());
    let first = queue.wrap(&[], "echo begun; cat gate; exit 7");
    let waits = queue.wrap(&[&format!("--dependency=afterany:{first}")], "echo then");
    queue.wait_for_state(&first, "running");
    queue.wait_for_text(&format!("slurm-{first}.out"), "begun");
    let (server, agent) = processes(&queue);
    kill(server);
    wait_gone(agent);
    // Any verb starts another, which finds the job at work.
    queue.wait_for_state(&first, "running");
    let (_, agent) = processes(&queue);
    kill(agent);
    queue.wait_for_state(&first, "running");
    fs::write(&gate, "open\n").expect("somebody reads");
    queue.wait_for_state(&waits, "completed");
    let ended = queue.list("history", &first);
    assert_eq!(ended[0]["state"], "failed");
    assert_eq!(ended[0]["end"]["exit"]["code"], 7);
    assert_eq!(ended[0]["starts"], 1);
    assert_eq!(queue.read(&format!("slurm-{first}.out")), "begun\nopen\n");
}

#[test]
fn a_job_that_ends_while_no_server_runs_is_not_lost() {
    let queue = Queue::new();
    let job = queue.wrap(&[], "echo begun; sleep 0.5; echo done > left; exit 3");
    queue.wait_for_text(&format!("slurm-{job}.out"), "begun");
    kill(processes(&queue).0);
    queue.wait_for_text("left", "done");
    queue.wait_for_state(&job, "failed");
    assert_eq!(queue.list("history", &job)[0]["end"]["exit"]["code"], 3);
}

/// Every job that was acknowledged runs once, though the server is killed again and
/// again at whatever it is doing.
#[test]
fn nothing_that_was_acknowledged_is_lost_or_done_twice_when_the_server_is_killed() {
    let queue = Queue::new();
    let mut jobs = Vec::new();
    for round in 0..6 {
        for _ in 0..4 {
            let name = format!("ran-{}", jobs.len());
            let line = format!("--wrap=echo $SLURM_JOB_ID >> {name}");
            jobs.push((queue.submit(&["-o", "/dev/null", &line]), name));
        }
        // At another moment each time.
        std::thread::sleep(std::time::Duration::from_millis(7 * round));
        kill(processes(&queue).0);
    }
    for (job, name) in &jobs {
        queue.wait_for_state(job, "completed");
        assert_eq!(queue.read(name), format!("{job}\n"));
    }
}

#[test]
fn who_starts_a_server_where_one_runs_is_told_so() {
    let queue = Queue::new();
    queue.wrap(&[], "true");
    queue
        .run(&["serve", "--idle", "1s"])
        .refused("in use by another server", "");
    queue.run(&["serve", "--stop"]).ok();
    queue
        .run(&["serve", "--stop"])
        .refused("no server runs", "hyperion serve");
    queue
        .run(&["submit", "--no-autostart", "--wrap=true"])
        .refused("no server runs", "hyperion serve");
    // One that was told to leave when there is nothing to do does.
    queue.run(&["serve", "--idle", "10ms"]).expect_code(0);
}
