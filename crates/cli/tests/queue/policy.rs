//! Who comes first, and who makes room for whom.

use std::fs;

use hyperion_testkit::wait_until;

use crate::Queue;
use crate::site::LONG;

/// A queue with rules.
fn with_rules(text: &str) -> Queue {
    let queue = Queue::new();
    let folder = queue.site.root().join("queue");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("site.toml"), text).expect("written");
    queue
}

fn cores() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("--ntasks={cores}")
}

/// Tells whether a process stands still, by its number in a file.
fn stands_still(queue: &Queue, file: &str) -> bool {
    let pid = queue.read(file);
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default();
    state.trim_start().starts_with('T')
}

#[test]
fn one_that_makes_room_stands_still_with_all_it_has_started_and_goes_on_later() {
    let queue = with_rules(
        "[qos.idle]\npreempted = \"suspend\"\n[qos.first]\nrank = 1\n\
         [qos.short]\npreempted = \"requeue\"\ngrace_seconds = 300\n",
    );
    // One of its processes has left its group and session.
    let low = queue.wrap(
        &["--qos=idle", &cores(), "--time=10"],
        "setsid sh -c 'echo $$ > away; exec sleep 300' & echo $$ > own; \
         until [ -e go ]; do sleep 0.1; done; kill $(cat away); echo done",
    );
    let there = || queue.folder().join("away").exists() && queue.folder().join("own").exists();
    assert!(wait_until(LONG, there));
    queue.wait_for_state(&low, "running");
    let still = || stands_still(&queue, "own") && stands_still(&queue, "away");
    let first = queue.wrap(
        &["--qos=first", &cores()],
        "until [ -e stop ]; do sleep 0.1; done",
    );
    queue.wait_for_state(&first, "running");
    assert_eq!(queue.state(&low), "suspended");
    assert!(wait_until(LONG, still));
    let said = queue.run(&["explain", &low]).ok();
    assert!(said.contains("suspended: waits for "), "{said}");
    let list = queue.run(&["queue"]).ok();
    let why = format!("made room for job {first}");
    assert!(list.contains(&why), "{list}");
    // It hears nothing, and nobody has it go on before there is room; a server that is
    // killed meanwhile does not, either.
    queue.run(&["resume", &low]).ok();
    queue.run(&["serve", "--stop"]).ok();
    fs::write(queue.folder().join("go"), "").expect("written");
    assert_eq!(queue.state(&low), "suspended");
    assert!(still());
    fs::write(queue.folder().join("stop"), "").expect("written");
    queue.wait_for_state(&first, "completed");
    queue.wait_for_state(&low, "completed");
    assert_eq!(queue.read(&format!("slurm-{low}.out")), "done\n");

    // One that ends instead is asked to, and has its grace.
    let low = queue.wrap(
        &["--qos=short", &cores()],
        "trap 'echo asked; exit 7' TERM; echo begun; while :; do sleep 0.1; done",
    );
    queue.wait_for_text(&format!("slurm-{low}.out"), "begun");
    let first = queue.wrap(&["--qos=first", &cores()], "true");
    queue.wait_for_state(&first, "completed");
    queue.wait_for_state(&low, "failed");
    let said = queue.read(&format!("slurm-{low}.out"));
    assert!(said.ends_with("asked\n"), "{said}");
}

#[test]
fn what_was_used_is_charged_and_told_and_decides_who_comes_first() {
    let queue = with_rules(
        "order = \"multifactor\"\n[weights]\nage = 0\nsize = 0\nfair_share = 1000\n\
         [fair_share]\nhalf_life_minutes = 600\n[accounts.physics]\nshares = 3\n",
    );
    let blocks = queue.wrap(
        &["--account=physics", &cores(), "--time=10"],
        "until [ -e stop ]; do sleep 0.1; done",
    );
    queue.wait_for_state(&blocks, "running");
    let physics = queue.wrap(&["--account=physics", &cores(), "--time=1"], "true");
    let chemistry = queue.wrap(&["--account=chemistry", &cores(), "--time=1"], "true");
    let used = || {
        let all = queue.run(&["--output", "json", "shares"]).ok();
        let all: serde_json::Value = serde_json::from_str(&all).expect("a list");
        let all = all.as_array().expect("a list").clone();
        let own = all.iter().find(|its| its["accounts"][0] == "physics");
        own.expect("an account")["used"].as_f64().expect("a number")
    };
    assert!(wait_until(LONG, || used() > 0.5), "{}", used());
    let said = queue.run(&["explain", &chemistry]).ok();
    assert!(
        said.contains("\n  priority 1000 = fair share 1000"),
        "{said}"
    );
    let said = queue.run(&["explain", &physics]).ok();
    assert!(said.contains("\n  priority 500 = fair share 500"), "{said}");
    let table = queue.run(&["shares"]).ok();
    assert!(
        table.contains(" physics ") && table.contains("75.0 %"),
        "{table}"
    );
    fs::write(queue.folder().join("stop"), "").expect("written");
    queue.wait_for_state(&physics, "completed");
    let started = |job: &str| queue.list("history", job)[0]["started"].as_u64();
    assert!(started(&chemistry) < started(&physics));
    // It is in the journal.
    let before = used();
    queue.run(&["serve", "--stop"]).ok();
    let after = used();
    assert!((before - after).abs() < before / 10.0, "{before} {after}");
}

#[test]
fn devices_and_processors_are_jobs_own_and_features_are_looked_for() {
    let node = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let queue = with_rules(&format!(
        "bind = \"core\"\n[nodes.\"{node}\"]\nfeatures = [\"bigmem\"]\n\
         [nodes.\"{node}\".gres]\n\"gpu:h100\" = [0, 3]\n\"gpu:a100\" = 1\nfpga = 2\n"
    ));
    let line = "echo $CUDA_VISIBLE_DEVICES; echo $SLURM_JOB_GPUS $HYPERION_FPGAS; \
                grep Cpus_allowed_list /proc/self/status | cut -f2; echo $SLURM_CPU_BIND_LIST; \
                until [ -e stop ]; do sleep 0.1; done";
    // Half of the processors at most, so that others find room.
    let flags = ["--gres=gpu:h100:2,fpga:1", "--ntasks=1"];
    let first = queue.wrap(&flags, line);
    let out = |job: &str| format!("slurm-{job}.out");
    queue.wait_for_text(&out(&first), "0x");
    let said = queue.read(&out(&first));
    let words: Vec<&str> = said.lines().collect();
    assert_eq!(words[..2], ["0,3", "0,3 0"], "{said}");
    // One processor, and the one that the listing tells.
    let view = queue.list("queue", &first)[0].clone();
    assert_eq!(Some(words[2]), view["cpus"].as_str(), "{said}");
    assert_eq!(view["devices"]["gpu:h100"], serde_json::json!([0, 3]));
    let told = queue.run(&["explain", &first]).ok();
    assert!(told.contains("\n  has gpu:h100 0,3"), "{told}");
    // Of any kind there is one left, and after it none.
    let any = queue.wrap(&["--gres=gpu:1", "--ntasks=1"], line);
    queue.wait_for_text(&out(&any), "0x");
    let said = queue.read(&out(&any));
    assert_eq!(said.lines().next(), Some("1"), "{said}");
    let other = queue.list("queue", &any)[0]["cpus"].clone();
    assert_ne!(other, view["cpus"]);
    let nodes = queue.run(&["nodes"]).ok();
    assert!(
        nodes.contains("fpga 1 of 2, gpu:a100 1 of 1, gpu:h100 2 of 2"),
        "{nodes}"
    );
    queue
        .run(&["submit", "--gres=gpu:v100:1", "--wrap=true"])
        .refused("no node has gpu:v100", "");
    let late = queue.wrap(
        &["--gres=gpu:h100:1", "--time=1"],
        "echo $CUDA_VISIBLE_DEVICES",
    );
    let said = queue.run(&["explain", &late]).ok();
    assert!(said.contains("1 more GPU:h100"), "{said}");
    fs::write(queue.folder().join("stop"), "").expect("written");
    queue.wait_for_state(&late, "completed");
    assert_eq!(queue.read(&out(&late)), "0\n");
    queue
        .run(&["submit", "--constraint=bigmem&knl", "--wrap=true"])
        .refused(
            "too few nodes have bigmem&knl; there is ",
            "rules of the site",
        );
    let big = queue.wrap(&["--constraint=bigmem&(knl|linux)"], "true");
    queue.wait_for_state(&big, "completed");
}

#[test]
fn signals_before_the_end_go_to_the_script_or_to_what_it_started() {
    let queue = Queue::new();
    // A shell that traps nothing would end by the signal.
    let child = "sh -c 'trap \"echo told\" USR1; echo begun; \
                 until [ -e stop ]; do sleep 0.1; done'; echo after";
    let steps = queue.wrap(&["--signal=USR1@54", "--time=1"], child);
    // One that waits for its child hears it at once.
    let own = "trap 'echo told' USR1; sh -c 'trap \"\" USR1; echo begun; \
               until [ -e stop ]; do sleep 0.1; done' & until wait $!; do :; done; echo after";
    let script = queue.wrap(&["--signal=B:USR1@54", "--time=1"], own);
    let out = |job: &str| format!("slurm-{job}.out");
    queue.wait_for_text(&out(&steps), "told");
    queue.wait_for_text(&out(&script), "begun\ntold");
    queue.wait_for_state(&script, "running");
    fs::write(queue.folder().join("stop"), "").expect("written");
    queue.wait_for_state(&steps, "completed");
    queue.wait_for_state(&script, "completed");
    assert!(queue.read(&out(&steps)).ends_with("told\nafter\n"));
    assert!(queue.read(&out(&script)).ends_with("begun\ntold\nafter\n"));
}

#[test]
fn a_deadline_is_kept_or_the_job_is_not_taken() {
    let queue = Queue::new();
    let words = ["--time=10", "--deadline=now+5minutes", "--wrap=true"];
    queue
        .run(&[&["submit"], &words[..]].concat())
        .refused("the job cannot end by its deadline", "--time-min");
    let words = ["--time=10", "--time-min=1", "--deadline=now+5minutes"];
    let job = queue.wrap(&words, "until [ -e stop ]; do sleep 0.1; done");
    queue.wait_for_state(&job, "running");
    let limit = queue.list("queue", &job)[0]["limit"]["secs"].clone();
    assert!(
        limit
            .as_u64()
            .is_some_and(|secs| (240..=300).contains(&secs)),
        "{limit}"
    );
    fs::write(queue.folder().join("stop"), "").expect("written");
    queue.wait_for_state(&job, "completed");
}

#[test]
fn a_dry_run_says_with_what_a_job_would_start_sooner() {
    let queue = Queue::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return;
    }
    // One processor is left, for five minutes.
    let most = format!("--ntasks={}", cores - 1);
    let blocks = queue.wrap(
        &[&most, "--time=5"],
        "until [ -e stop ]; do sleep 0.1; done",
    );
    queue.wait_for_state(&blocks, "running");
    let tasks = format!("--ntasks={}", cores.min(3));
    let said = queue
        .run(&["submit", "--dry-run", &tasks, "--time=10", "--wrap=true"])
        .ok();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("starts about "), "{said}");
    assert_eq!(lines[1..], ["  with 1 task: now"], "{said}");
    fs::write(queue.folder().join("stop"), "").expect("written");
    queue.wait_for_state(&blocks, "completed");
}

#[test]
fn what_if_goes_by_the_rules_and_knows_who_was_held() {
    let queue = with_rules("[each_user]\nrunning = 1\n");
    let held = queue.wrap(&["--hold", "--time=1"], "true");
    let jobs: Vec<String> = (0..4)
        .map(|_| queue.wrap(&["--time=1"], "sleep 1"))
        .collect();
    jobs.iter().for_each(|job| queue.wait_over(job));
    queue.run(&["release", &held]).ok();
    queue.wait_over(&held);
    let times = queue.list("history", &held)[0]["terms"]["held"].clone();
    let (from, until) = (times[0][0].as_u64(), times[0][1].as_u64());
    assert!(until > from.map(|from| from + 4_000_000), "{times}");
    // None, one, two and three seconds, and four: without the limit it would be less by far,
    // and without the hold, too.
    let (was, now) = waits(&queue);
    assert!(0.8 * was < now && now < 1.1 * was, "{was} s, {now} s");
}

/// Gives what jobs waited on average, and what they wait in a simulation of that.
fn waits(queue: &Queue) -> (f64, f64) {
    let words = ["sim", "what-if", "--load", "1", "--replications", "0"];
    let told = queue.run(&[&words[..], &["--output", "json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&told.ok()).expect("JSON");
    let wait = |its: &str| told[its]["avg_wait"].as_f64().expect("a number");
    (wait("as_it_was"), wait("simulated"))
}

#[test]
fn what_if_lets_no_more_tasks_of_an_array_run_at_once_than_may() {
    let queue = with_rules("");
    let array = queue.wrap(&["--array=0-3%1", "--time=1"], "sleep 1");
    queue.wait_over(&array);
    // None, one, two and three seconds.
    let (was, now) = waits(&queue);
    assert!(0.8 * was < now && now < 1.1 * was, "{was} s, {now} s");
}

#[test]
fn what_if_knows_when_nodes_were_drained() {
    let queue = with_rules("");
    let host = rustix::system::uname();
    let node = host.nodename().to_string_lossy();
    queue.run(&["drain", "--reason", "dust", &node]).ok();
    let job = queue.wrap(&["--time=1"], "sleep 1");
    std::thread::sleep(std::time::Duration::from_secs(3));
    queue.run(&["undrain", &node]).ok();
    queue.wait_over(&job);
    let (was, now) = waits(&queue);
    assert!(
        2.9 < was && was < 1.1 * now && now < 1.1 * was,
        "{was} s, {now} s"
    );
}
