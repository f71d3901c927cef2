//! From `run` to `rm`: every verb on a job, from another process than its starter's.

use std::time::{Duration, Instant};

use hyperion_testkit::{requires, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::site::{LONG, Running, Site, finish, is_gone, wait_gone};

#[test]
fn a_detached_job_is_listed_while_it_runs_and_afterwards_with_all() {
    let site = Site::new();
    let job = site.start("echo up; sleep 60");
    assert_eq!(site.run(&["ps", "-q"]).ok(), job);
    let table = site.run(&["ps"]).ok();
    assert!(table.trim_start().starts_with("JOB"), "{table}");
    assert!(
        table.contains("running") && table.contains("sleep 60"),
        "{table}"
    );
    site.run(&["stop", &job]).ok();
    assert_eq!(site.run(&["ps", "-q"]).ok(), "");
    let rows: Value =
        serde_json::from_str(&site.run(&["ps", "-a", "--output", "json"]).ok()).expect("JSON");
    assert_eq!(rows[0]["id"], *job);
    assert_eq!(rows[0]["state"], "ended");
    assert_eq!(rows[0]["exit_code"], 143);
}

#[test]
fn a_job_that_somebody_waits_for_is_soon_listed_as_running() {
    let site = Site::new();
    for flags in [&["--rm"][..], &["--rm", "--report=json"], &[]] {
        let words = [
            &["run", "--isolation", "process"][..],
            flags,
            &["sleep", "60"],
        ]
        .concat();
        let run = Running::start(&site, &words);
        let listed = || site.run(&["ps"]).ok().contains("running");
        assert!(wait_until(LONG, listed), "{flags:?}");
        let job = site.run(&["ps", "-q"]).ok();
        site.run(&["stop", &job]).ok();
        run.finish().expect_code(143);
    }
}

#[test]
fn logs_give_what_was_written_and_follow_until_the_end() {
    let site = Site::new();
    let go = site.path().join("go");
    let script = format!(
        "echo one; echo two >&2; until [ -e {} ]; do sleep 0.02; done; echo three",
        go.display()
    );
    let job = site.start(&script);
    site.wait_for_log(&job, "one\n");
    let first = wait_until(LONG, || {
        let logs = site.run(&["logs", &job]);
        logs.out == "one\n" && logs.err == "two\n"
    });
    assert!(first);
    let follow = Running::start(&site, &["logs", "-f", &job]);
    let late = Running::start(&site, &["logs", "-f", "--since", "0s", &job]);
    std::fs::write(&go, "").expect("written");
    let done = follow.finish().expect_code(0);
    assert_eq!((&*done.out, &*done.err), ("one\nthree\n", "two\n"));
    let done = late.finish().expect_code(0);
    assert!(!done.out.contains("one"), "{done:?}");
    // Of a job that is over there is nothing to follow.
    assert_eq!(site.run(&["logs", "-f", &job]).ok(), "one\nthree");
    assert_eq!(
        site.run(&["logs", "--since", "1h", &job]).ok(),
        "one\nthree"
    );
    let stamped = site.run(&["logs", "-t", &job]).ok();
    assert!(
        stamped.starts_with("20") && stamped.contains("Z one"),
        "{stamped}"
    );
}

#[test]
fn exec_runs_beside_the_ranks_with_its_own_code_input_variables_and_folder() {
    let site = Site::new();
    let job = site.start_with(&["-e", "OF=job"], "sleep 60");
    let exec = |words: &[&str]| {
        let mut all = vec!["exec"];
        all.extend(words);
        site.run(&all)
    };
    exec(&[&job, "sh", "-c", "exit 7"]).expect_code(7);
    exec(&[&job, "no-such-program"]).expect_code(127);
    exec(&[&job, "/etc/passwd"]).expect_code(126);
    assert_eq!(exec(&[&job, "sh", "-c", "echo $OF"]).ok(), "job");
    let mut passed_on = site.command(&["exec", "-e", "OF", &job, "sh", "-c", "echo $OF"]);
    passed_on.env("OF", "caller");
    assert_eq!(finish(passed_on).ok(), "caller");
    exec(&["-e", "=x", &job, "true"]).refused("has no name before '='", "NAME=VALUE");
    assert_eq!(
        exec(&["-e", "OF=exec", &job, "sh", "-c", "echo $OF"]).ok(),
        "exec"
    );
    assert_eq!(exec(&["-w", "/usr", &job, "pwd"]).ok(), "/usr");
    let mut cat = Running::start(&site, &["exec", "-i", &job, "cat"]);
    cat.write("typed\n");
    assert_eq!(cat.finish().ok(), "typed");
    // The flags of the command are its own.
    assert_eq!(exec(&[&job, "echo", "-n", "--rank"]).ok(), "--rank");
    assert_eq!(site.state(&job), "running");
}

#[test]
fn exec_joins_the_container_of_its_job() {
    requires!("root");
    let site = Site::new();
    let root = site.rootfs(&["sh", "sleep", "cat", "hostname"]);
    let job = site
        .run(&["run", "-d", "--hostname", "inside", &root, "sleep", "60"])
        .ok();
    assert_eq!(site.run(&["exec", &job, "hostname"]).ok(), "inside");
    site.run(&["exec", &job, "sh", "-c", "echo kept > /tmp/file"])
        .ok();
    assert_eq!(site.run(&["exec", &job, "cat", "/tmp/file"]).ok(), "kept");
    assert_eq!(
        site.run(&[
            "exec",
            &job,
            "sh",
            "-c",
            "echo $$ > /dev/null; cat /proc/1/comm"
        ])
        .ok(),
        "hyperion-init"
    );
    let started = Instant::now();
    site.run(&["stop", &job]).ok();
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "SIGTERM ends `sleep` in a container"
    );
    site.run(&["exec", &job, "true"])
        .refused("is not running", "logs");
}

#[test]
fn stop_asks_first_and_kills_after_the_grace() {
    let site = Site::new();
    let polite = site.start("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.02; done");
    site.wait_for_log(&polite, "up");
    site.run(&["stop", &polite]).ok();
    assert_eq!(site.run(&["logs", &polite]).ok(), "up\nbye");
    assert_eq!(site.inspect(&polite)["end"]["code"], 5);
    let deaf = site.start("trap '' TERM; echo up; while :; do sleep 0.02; done");
    site.wait_for_log(&deaf, "up");
    let since = Instant::now();
    site.run(&["stop", "-t", "300ms", &deaf]).ok();
    assert!(since.elapsed() >= Duration::from_millis(300));
    assert_eq!(site.inspect(&deaf)["end"]["code"], 137);
    // A job that has ended is stopped already.
    site.run(&["stop", &deaf]).ok();
}

#[test]
fn kill_sends_the_signal_that_is_named() {
    let site = Site::new();
    let job = site.start("trap 'echo got' USR1; echo up; while :; do sleep 0.02; done");
    site.wait_for_log(&job, "up");
    for name in ["USR1", "SIGUSR1", "10"] {
        site.run(&["kill", "-s", name, &job]).ok();
    }
    site.wait_for_log(&job, "got");
    assert_eq!(site.state(&job), "running");
    site.run(&["kill", &job]).ok();
    assert_eq!(site.run(&["wait", &job]).expect_code(137).out, "137\n");
    site.run(&["kill", &job]).refused("is not running", "logs");
}

#[test]
fn wait_gives_the_codes_of_several_jobs() {
    let site = Site::new();
    let first = site.start("sleep 0.2; exit 3");
    let second = site.start("exit 4");
    let third = site.start("true");
    let done = site.run(&["wait", &second, &third, &first]);
    assert_eq!(done.expect_code(3).out, "4\n0\n3\n");
}

#[test]
fn inspect_tells_everything_as_json() {
    let site = Site::new();
    let job = site.start_with(&["--name", "seen", "--pids", "50"], "sleep 60");
    site.processes("seen");
    let seen = site.inspect("seen");
    assert_eq!(seen["id"], *job);
    assert_eq!(seen["state"], "running");
    assert_eq!(seen["plan"]["job"]["name"], "seen");
    assert_eq!(seen["plan"]["job"]["resources"]["pids"], 50);
    assert!(seen["running"]["supervisor"].as_u64().is_some());
    assert!(seen["end"].is_null());
    site.run(&["rm", "-f", "seen"]).ok();
    site.run(&["inspect", "seen"])
        .refused("there is no job \"seen\"", "hyperion ps -a");
}

#[test]
fn rm_refuses_a_running_job_and_force_ends_it() {
    let site = Site::new();
    let job = site.start("sleep 60");
    let (supervisor, init) = site.processes(&job);
    site.run(&["rm", &job]).refused("is running", "rm -f");
    assert_eq!(site.state(&job), "running");
    assert_eq!(site.run(&["rm", "-f", &job]).ok(), job);
    wait_gone(supervisor);
    wait_gone(init);
    assert!(site.jobs().is_empty());
    let ended = site.start("true");
    site.run(&["wait", &ended]).ok();
    let running = site.start("sleep 60");
    assert_eq!(site.run(&["rm", "--ended"]).ok(), ended);
    assert_eq!(site.jobs(), [running]);
}

#[test]
fn the_record_of_a_job_with_rm_goes_when_it_ends() {
    let site = Site::new();
    site.process(&["--rm"], "exit 3").expect_code(3);
    let job = site.start_with(&["--rm", "--name", "gone"], "sleep 60");
    site.run(&["stop", &job]).ok();
    // The end is told before the supervisor has cleaned up; the name is free at once.
    site.start_with(&["--rm", "--name", "gone"], "true");
    assert!(wait_until(LONG, || site.jobs().is_empty()));
    assert_eq!(site.records(), [] as [std::path::PathBuf; 0]);
    let names = crate::site::files_below(&site.root().join("names"));
    assert_eq!(names, [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_name_is_taken_until_its_job_is_removed() {
    let site = Site::new();
    let job = site.start_with(&["--name", "one"], "sleep 60");
    site.process(&["--name", "one"], "true")
        .refused(&format!("the name \"one\" is in use by job {job}"), "rm");
    assert_eq!(site.jobs(), [&*job], "what was refused has left no record");
    site.run(&["rm", "-f", "one"]).ok();
    site.process(&["--name", "one"], "true").ok();
    // An ended job keeps its name.
    site.process(&["--name", "one"], "true")
        .refused("is in use", "rm");
}

#[test]
fn a_job_is_found_by_the_beginning_of_its_id() {
    let site = Site::new();
    let job = site.start("sleep 60");
    assert_eq!(site.inspect(&job[..6])["id"], *job);
    let others: Vec<String> = (0..17).map(|_| site.start("true")).collect();
    let all = [&others[..], &[job]].concat();
    let first = |job: &str| job.chars().next();
    // Eighteen ids and sixteen digits: some two begin alike.
    let twice = all
        .iter()
        .find(|a| all.iter().filter(|b| first(b) == first(a)).count() > 1)
        .expect("two ids begin alike");
    site.run(&["inspect", &twice[..1]])
        .refused("several jobs begin with", "more");
    site.run(&["inspect", "zz"])
        .refused("there is no job", "ps -a");
    // What somebody has put among them is none.
    std::fs::write(site.path().join("hyperion/jobs/notes"), "mine").expect("written");
    let listed = site.run(&["ps", "-a", "-q"]).ok();
    assert_eq!(listed.lines().count(), all.len());
}

#[test]
fn stats_tell_what_a_running_job_uses() {
    let site = Site::new();
    let job = site.start("while :; do :; done");
    // On a busy host it may get no processor for a while.
    let busy = || {
        let told = site.run(&["stats", "--output", "json", &job]).ok();
        let rows: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(rows[0]["id"], *job);
        assert_eq!(rows[0]["nodes"], json!([]));
        rows[0]["cores"].as_f64().is_none_or(|cores| cores > 0.05)
    };
    assert!(wait_until(LONG, busy));
    site.run(&["stop", &job]).ok();
    site.run(&["stats", &job])
        .refused("is not running", "report");
    assert_eq!(site.run(&["stats", "--output", "json"]).ok(), "[]");
    // One that ends while what it uses is measured is left out.
    site.start("sleep 0.3");
    site.run(&["stats"]).ok();
}

#[test]
fn what_nobody_will_read_is_not_counted_and_stats_ask_the_processes() {
    let site = Site::new();
    let groups = |flags: &[&str]| {
        let told = site.process(flags, "cat /proc/self/cgroup").ok();
        let inside = told.lines().filter(|line| line.contains("/hyperion-"));
        inside.map(str::to_owned).collect::<Vec<_>>()
    };
    let (counted, fewer) = (groups(&[]), groups(&["--rm"]));
    assert_eq!(groups(&["--rm", "--report=json"]).len(), counted.len());
    // Its starter waits, and ends what is left.
    assert_eq!(fewer, [] as [String; 0]);
    if !counted.is_empty() {
        let limited = groups(&["--rm", "--memory", "64m"]);
        let holds = |line: &String| line.contains("memory") || line.starts_with("0::");
        assert!(limited.iter().any(holds), "{limited:?}");
    }

    let script = "cat /proc/self/cgroup; echo seen; while :; do :; done";
    let job = site.start_with(&["--rm"], script);
    site.wait_for_log(&job, "seen");
    let told = site.run(&["logs", &job]).out;
    // Nobody waits: without any it could not be told which processes are the job's.
    let fewer = told.lines().filter(|line| line.contains("/hyperion-"));
    assert_eq!(fewer.count(), counted.len().min(1), "{told:?}");
    let seen = || {
        let told = site.run(&["stats", "--output", "json", &job]).ok();
        let rows: Value = serde_json::from_str(&told).expect("JSON");
        let usage = &rows[0]["usage"];
        let more_than = |what: &Value, least: f64| what.as_f64().is_some_and(|n| n > least);
        counted.is_empty()
            || more_than(&rows[0]["cores"], 0.05)
                && more_than(&usage["memory_current"], 100_000.0)
                && more_than(&usage["pids"], 1.0)
    };
    assert!(wait_until(LONG, seen));
    site.run(&["stop", "-t", "0s", &job]).ok();
}

#[test]
fn the_time_limit_ends_a_job_with_124() {
    let site = Site::new();
    let since = Instant::now();
    let done = site
        .process(&["--time", "500ms"], "sleep 60")
        .expect_code(124);
    done.says("error: the job reached its time limit")
        .says("hint: ");
    site.process(
        &["--time", "500ms"],
        "trap '' TERM; while :; do sleep 0.02; done",
    )
    .expect_code(124);
    assert!(since.elapsed() < Duration::from_secs(20));
    site.process(&["--time", "1m"], "exit 3").expect_code(3);
}

#[test]
fn a_job_outlives_the_command_that_started_it() {
    let site = Site::new();
    for signal in [Signal::HUP, Signal::KILL] {
        let starter = Running::start(
            &site,
            &[
                "run",
                "--isolation",
                "process",
                "sh",
                "-c",
                "echo up; sleep 60",
            ],
        );
        let started = wait_until(LONG, || !site.run(&["ps", "-q"]).out.is_empty());
        assert!(started);
        let job = site.run(&["ps", "-q"]).ok();
        site.wait_for_log(&job, "up");
        starter.signal(signal);
        starter.finish();
        let (supervisor, _) = site.processes(&job);
        assert!(!is_gone(supervisor));
        assert_eq!(site.run(&["exec", &job, "echo", "here"]).ok(), "here");
        site.run(&["rm", "-f", &job]).ok();
    }
}

#[test]
fn signals_to_the_command_in_the_foreground_reach_the_job() {
    let site = Site::new();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::QUIT, 131)] {
        let run = Running::start(&site, &["run", "--isolation", "process", "sleep", "60"]);
        let running = wait_until(LONG, || !site.run(&["ps", "-q"]).out.is_empty());
        assert!(running);
        let job = site.run(&["ps", "-q"]).ok();
        site.processes(&job);
        run.signal(signal);
        run.finish().expect_code(code);
    }
}

#[test]
fn a_detached_job_that_cannot_start_says_so() {
    let site = Site::new();
    let run = |command: &str| site.run(&["run", "-d", "--isolation", "process", command]);
    let done = run("no-such-program")
        .expect_code(127)
        .says("error: cannot start");
    assert_eq!(done.out, "");
    run("/etc/passwd").expect_code(126).says("hint: ");
    assert!(site.jobs().is_empty(), "what never ran has no record");
}

#[test]
fn an_image_can_be_removed_as_soon_as_its_last_job_has_ended() {
    requires!("root");
    let site = Site::new();
    let root = site.rootfs(&["true"]);
    for _ in 0..5 {
        site.run(&["image", "import", &root, "short"]).ok();
        site.run(&["run", "--rm", "short", "true"]).ok();
        site.run(&["image", "rm", "short"]).ok();
    }
}

#[test]
fn a_command_beside_a_job_that_ends_does_not_seem_to_have_ended_well() {
    let site = Site::new();
    let go = site.path().join("go");
    let job = site.start(&format!(
        "until [ -e {} ]; do sleep 0.02; done",
        go.display()
    ));
    let exec = Running::start(
        &site,
        &[
            "exec",
            &job,
            "sh",
            "-c",
            "touch $0; sleep 60",
            go.to_str().expect("text"),
        ],
    );
    exec.finish()
        .expect_code(137)
        .says("has ended, and this command with it");
    assert_eq!(site.run(&["wait", &job]).ok(), "0");
}
