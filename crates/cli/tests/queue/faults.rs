//! Whoever is killed: nothing is lost, and nothing is done twice.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hyperion_testkit::{requires, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::Queue;
use crate::site::{LONG, finish, is_gone, wait_gone};

/// The server of a queue, and its agent, where they run.
pub(crate) fn processes(queue: &Queue) -> (Option<Pid>, Option<Pid>) {
    let mark = format!("--root\0{}\0", queue.site.root().display());
    let numbers = fs::read_dir("/proc").expect("processes").flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let server = numbers.filter_map(Pid::from_raw).find(|pid| {
        let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        words.contains(&mark) && words.contains("\0serve\0")
    });
    // Supervisors are copies of the agent, and for a moment not to be told from it by their
    // words; but it is the agent who has taken this lock.
    (server, holder(&queue.site.root().join("queue/agent.lock")))
}

/// Who has locked a file.
fn holder(file: &Path) -> Option<Pid> {
    let inode = format!(":{}", fs::metadata(file).ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").expect("locks");
    let pid = locks.lines().find_map(|line| {
        // Who waits for a lock has an arrow in front.
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "FLOCK", _, _, pid, locked, ..] if locked.ends_with(&inode) => pid.parse().ok(),
            _ => None,
        }
    });
    Pid::from_raw(pid?)
}

/// The server and its agent, which comes a moment after it.
#[track_caller]
fn both(queue: &Queue) -> (Pid, Pid) {
    let there = || {
        let (server, agent) = processes(queue);
        server.zip(agent)
    };
    wait_for(LONG, there).expect("a server and an agent")
}

#[track_caller]
pub(crate) fn kill(pid: Pid) {
    // It may just have died.
    let _ = kill_process(pid, Signal::KILL);
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
    let (server, agent) = both(&queue);
    kill(server);
    wait_gone(agent);
    // Any verb starts another, which finds the job at work.
    queue.wait_for_state(&first, "running");
    let (_, agent) = both(&queue);
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
    kill(processes(&queue).0.expect("a server"));
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
        kill(processes(&queue).0.expect("a server"));
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

/// A number that a script has written into a file.
#[track_caller]
fn number_in(queue: &Queue, name: &str) -> Pid {
    queue.wait_for_text(name, "\n");
    let number = queue.read(name).trim().parse().ok();
    number.and_then(Pid::from_raw).expect("a process number")
}

#[test]
fn what_a_script_leaves_running_is_ended_before_its_end_is_told() {
    let queue = Queue::new();
    queue.script(
        "leaves.sh",
        "#!/bin/sh\n#SBATCH --array=1-3%1\n\
         setsid nohup sh -c 'echo $$ > left-$SLURM_ARRAY_TASK_ID; sleep 300 & sleep 300' &\n\
         until [ -s left-$SLURM_ARRAY_TASK_ID ]; do sleep 0.01; done\n",
    );
    let job = queue.submit(&["--wait", "leaves.sh"]);
    for index in 1..=3 {
        let left = number_in(&queue, &format!("left-{index}"));
        assert!(is_gone(left), "process {} was left", left.as_raw_pid());
    }
    assert_eq!(queue.list("history", &job).len(), 3);
}

#[test]
fn a_task_whose_supervisor_is_killed_is_lost_and_the_next_ones_are_not() {
    let queue = Queue::new();
    let line = "echo $$ > task; sleep 300";
    let lost = queue.wrap(&["--no-requeue"], line);
    let task = number_in(&queue, "task");
    queue.wait_for_state(&lost, "running");
    let id = queue.list("queue", &lost)[0]["id"].clone();
    let id = id.as_str().expect("its record").to_owned();
    let (supervisor, _) = queue.site.processes(&id);
    kill(supervisor);
    queue.wait_for_state(&lost, "node-failed");
    wait_gone(task);
    let next = queue.wrap(&[], "echo next");
    queue.wait_for_state(&next, "completed");
    // Slurm starts it again unless told otherwise.
    let line = "echo $$ >> again; [ $(wc -l < again) = 2 ] || sleep 300";
    let again = queue.wrap(&[], line);
    queue.wait_for_text("again", "\n");
    queue.wait_for_state(&again, "running");
    let id = queue.list("queue", &again)[0]["id"].clone();
    kill(queue.site.processes(id.as_str().expect("its record")).0);
    queue.wait_for_state(&again, "completed");
    assert_eq!(queue.list("history", &again)[0]["starts"], 2);
}

#[test]
fn what_cannot_be_started_fails_and_says_why() {
    let queue = Queue::new();
    let cases = [
        (
            &["-o", "/no/such/folder/file", "--wrap=true"][..],
            "cannot open /no/such/folder/file",
        ),
        (
            &["-D", "/no/such/folder", "-o", "/dev/null", "--wrap=true"],
            "its working folder could not be entered",
        ),
        (&["--image=none", "--wrap=true"], "none"),
    ];
    for (words, why) in cases {
        let job = queue.submit(words);
        queue.wait_for_state(&job, "failed");
        let told = queue.list("history", &job)[0]["why"].to_string();
        assert!(told.contains(why), "{words:?}: {told}");
    }
    queue.script("wrong.sh", "#!/no/such/shell\n");
    queue
        .run(&["submit", "--wait", "wrong.sh"])
        .expect_code(127);
}

/// How often the server has looked what there is to do.
fn turns(queue: &Queue) -> u64 {
    let metrics = queue.run(&["metrics"]).expect_code(0).out;
    let turns = metrics
        .lines()
        .find_map(|line| line.strip_prefix("hyperion_turns_total "));
    turns
        .and_then(|turns| turns.parse().ok())
        .expect("a number")
}

#[test]
fn a_server_rests_when_one_who_waited_for_a_job_was_killed() {
    let queue = Queue::new();
    let mut command = queue
        .site
        .command(&["submit", "--wait", "--hold", "--wrap=true"]);
    let command = command.current_dir(queue.folder());
    let mut waits = command.spawn().expect("started");
    let taken = wait_until(LONG, || queue.list("queue", "1").len() == 1);
    assert!(taken, "it is not there");
    waits.kill().expect("killed");
    waits.wait().expect("ended");
    let rests = wait_until(LONG, || {
        let before = turns(&queue);
        std::thread::sleep(Duration::from_millis(100));
        turns(&queue) < before + 100
    });
    assert!(rests, "it takes {} turns", turns(&queue));
    queue.run(&["cancel", "1"]).expect_code(0);
}

#[test]
fn a_full_disk_refuses_what_is_submitted_and_loses_nothing() {
    requires!("root", "command:unshare", "command:mount");
    let queue = Queue::new();
    let script = r#"
        mount -t tmpfs -o size=24m none "$ROOT"
        first=$(hyperion submit --wrap='echo begun; cat gate; exit 7')
        until grep -q begun slurm-$first.out 2>/dev/null; do sleep 0.02; done
        dd if=/dev/zero of="$ROOT/fill" bs=1k 2>/dev/null || :
        i=0
        while acknowledged=$(hyperion submit --hold --wrap="$(head -c 3000 /dev/zero | tr '\0' x)"); do
            i=$((i + 1)); [ $i -lt 200 ] || exit 90
            echo $acknowledged >> acknowledged
        done
        echo open > gate
        rm "$ROOT/fill"
        until [ "$(hyperion --output quiet queue $first)" = "" ]; do sleep 0.05; done
        last=$(hyperion submit --wait --wrap='echo last')
        hyperion serve --stop
        hyperion --output json queue --all > all
        hyperion serve --stop
    "#;
    std::fs::create_dir(queue.site.root()).expect("a folder");
    let gate = queue.folder().join("gate");
    let made = Command::new("mkfifo").arg(&gate).status();
    assert!(made.expect("mkfifo starts").success());
    let plain = queue.site.command(&[]);
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-ec", script])
        .current_dir(queue.folder());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let program = std::path::Path::new(plain.get_program());
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().expect("a folder").display());
    command.env("PATH", path).env("ROOT", queue.site.root());
    let done = finish(command).expect_code(0);
    assert!(
        done.err.contains("there is no room for the journal"),
        "{}",
        done.err
    );
    assert!(done.err.contains("hint: make room"), "{}", done.err);
    let all: Vec<serde_json::Value> = serde_json::from_str(&queue.read("all")).expect("a list");
    let state = |job: &str| {
        let job: Option<u64> = job.parse().ok();
        let of = |view: &&serde_json::Value| view["job"].as_u64() == job;
        all.iter().find(of).map(|view| view["state"].clone())
    };
    assert_eq!(state("1"), Some("failed".into()));
    let acknowledged = std::fs::read_to_string(queue.folder().join("acknowledged"));
    let acknowledged = acknowledged.unwrap_or_default();
    for job in acknowledged.lines() {
        assert_eq!(state(job), Some("held".into()), "job {job}");
    }
    // Those, the first and the last: what was refused is not there.
    assert_eq!(all.len(), acknowledged.lines().count() + 2);
}
