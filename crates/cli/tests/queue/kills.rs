//! Everybody is killed at every named point on the way of a job, in random schedules.

use std::fs;
use std::time::Duration;

use hyperion_testkit::{Dice, wait_until};
use serde_json::Value;

use crate::Queue;
use crate::faults::{kill, processes};
use crate::site::{LONG, finish};

/// So many rounds are played; `HYPERION_ROUNDS` says another number.
const ROUNDS: usize = 44;
/// The points at which somebody dies.
const POINTS: [&str; 22] = [
    "client-connected",
    "client-answered",
    "server-asked",
    "server-decided",
    "server-written",
    "server-synced",
    "server-acted",
    "server-answered",
    "agent-asked",
    "agent-script-written",
    "agent-lane-made",
    "agent-started",
    "agent-told",
    "lane-begun",
    "lane-spawned",
    "lane-over",
    "lane-written",
    "lane-told",
    "sandbox-up",
    "init-asked",
    "init-spawned",
    "init-reaped",
];

/// A job that writes its number into a file of its own when it runs.
struct Try {
    file: String,
    /// It is not to be started again, whatever happens.
    once: bool,
    /// Its number, once it was told.
    job: Option<String>,
}

#[test]
fn nothing_that_was_acknowledged_is_lost_or_done_twice_wherever_somebody_is_killed() {
    let rounds = std::env::var("HYPERION_ROUNDS").ok();
    let rounds = rounds.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let queue = Queue::new();
    let mut dice = Dice(rounds as u64);
    for round in 0..rounds {
        // Each point in its turn, so that none is left out, at some time or other.
        let point = POINTS[round % POINTS.len()];
        let armed = format!("{point}:{}", dice.below(5));
        let tries = play(&queue, &armed, &mut dice, round);
        for one in &tries {
            check(&queue, one, &armed);
        }
        println!("round {round}: {armed}");
    }
    queue.run(&["serve", "--stop"]);
    let mark = format!("HYPERION_ROOT={}", queue.site.root().display());
    let gone = wait_until(LONG, || left(&mark).is_empty());
    assert!(gone, "left running: {:?}", left(&mark));
}

fn play(queue: &Queue, armed: &str, dice: &mut Dice, round: usize) -> Vec<Try> {
    // Another server, which hands on where to die.
    queue.run(&["serve", "--stop"]);
    let mut tries = Vec::new();
    for number in 0..4 {
        let file = format!("ran-{round}-{number}");
        let once = dice.below(2) == 0;
        let again = if once { "--no-requeue" } else { "--requeue" };
        let line = format!("--wrap=echo $SLURM_JOB_ID >> {file}");
        let words = ["submit", again, "-o", "/dev/null", &line];
        let mut command = queue.site.command(&words);
        command.current_dir(queue.folder());
        if number == 0 || armed.starts_with("client") {
            command.env("HYPERION_FAILPOINT", armed);
        }
        let done = finish(command);
        let job = done.out.trim();
        tries.push(Try {
            file,
            once,
            job: (!job.is_empty()).then(|| job.to_owned()),
        });
    }
    std::thread::sleep(Duration::from_millis(dice.below(30) as u64));
    // Whoever was to die there has, or does so now; the next server hands nothing on.
    let (server, agent) = processes(queue);
    server.into_iter().for_each(kill);
    if dice.below(2) == 0 {
        agent.into_iter().for_each(kill);
    }
    tries
}

fn check(queue: &Queue, one: &Try, armed: &str) {
    let path = queue.folder().join(&one.file);
    let ran = || fs::read_to_string(&path).unwrap_or_default();
    let Some(job) = &one.job else {
        // It may have been taken, or not: twice it is not run.
        return assert!(
            ran().lines().count() <= 1 || !one.once,
            "{armed}: {}",
            ran()
        );
    };
    // Who asks may meet a server that is just killed, and asks again.
    let mut ended = Value::Null;
    let over = wait_until(LONG, || {
        let words = ["--output", "json", "history", job];
        let mut command = queue.site.command(&words);
        command.current_dir(queue.folder());
        let all: Vec<Value> = serde_json::from_str(&finish(command).out).unwrap_or_default();
        ended = all.into_iter().next().unwrap_or_default();
        !ended.is_null()
    });
    assert!(over, "{armed}: job {job} does not end");
    let (state, starts) = (&ended["state"], ended["starts"].as_u64());
    let lines = ran().lines().filter(|line| line == job).count() as u64;
    assert_eq!(lines, ran().lines().count() as u64, "{armed}: {}", ran());
    let told = format!("{armed}: job {job} ran {lines} times: {ended}");
    assert!(Some(lines) <= starts, "{told}");
    assert!(!one.once || starts == Some(1), "{told}");
    assert!(state != "completed" || lines > 0, "{told}");
    // What was held by a supervisor or an init that was killed is told as lost where it may
    // not be started again, or was too often.
    let held = ["lane", "sandbox", "init"];
    let held = held.iter().any(|by| armed.starts_with(by));
    let no_more = one.once || starts == Some(6);
    let lost = no_more && held && state == "node-failed";
    assert!(state == "completed" || lost, "{told}");
}

/// Processes that have this in their environment.
fn left(mark: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("processes").flatten();
    let its = all.filter_map(|entry| {
        let variables = fs::read(entry.path().join("environ")).ok()?;
        let variables = String::from_utf8_lossy(&variables);
        let here = variables.split('\0').any(|variable| variable == mark);
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        here.then(|| String::from_utf8_lossy(&words).replace('\0', " "))
    });
    its.collect()
}
