//! What jobs cost, and runs of one command many times.

use std::time::{Duration, Instant};

use hyperion_testkit::wait_until;
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{LONG, Running, Site, files_below};

/// The words of a report's row after its title.
#[track_caller]
fn row<'a>(table: &'a str, title: &str) -> &'a str {
    let line = table.lines().find(|l| l.trim_start().starts_with(title));
    let line = line.unwrap_or_else(|| panic!("no {title} in\n{table}"));
    line.trim_start()[title.len()..].trim()
}

#[test]
fn a_report_tells_utilization_throughput_latency_and_shares() {
    let site = Site::new();
    let flags = [
        "--repeat",
        "4",
        "-n",
        "2",
        "--oversubscribe",
        "--memory",
        "1GiB",
        "--report",
    ];
    let done = site
        .process(&flags, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
        .expect_code(0);
    let table = &done.err;
    assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
    for phase in ["image", "supervisor", "sandbox", "preflight", "spawn"] {
        assert!(row(table, phase).ends_with('s'), "{table}");
    }
    let percent: f64 = {
        let text = row(table, "CPU utilization");
        assert!(text.ends_with(" cores"), "{text}");
        text.split(' ')
            .next()
            .expect("a number")
            .parse()
            .expect("a number")
    };
    assert!(percent > 5.0 && percent <= 101.0, "{table}");
    assert!(
        row(table, "memory utilization").ends_with("% of 1GiB")
            || row(table, "memory utilization") == "not measured"
    );
    assert!(row(table, "peak memory").contains('%'));
    assert_eq!(row(table, "runs"), "4");
    let window = format!("over {}", row(table, "wall time"));
    assert!(row(table, "throughput").ends_with(&window), "{table}");
    for title in [
        "wait (start-up)",
        "turnaround",
        "CPU time",
        "latency (mean service)",
        "service p50",
        "service p95",
        "service p99",
    ] {
        assert!(row(table, title).ends_with('s'), "{title} in {table}");
    }
    let cores = |title| -> f64 {
        let text = row(table, title).strip_suffix(" cores").expect("cores");
        text.parse().expect("a number")
    };
    assert!(
        cores("max-min share per rank") <= cores("naive share per rank"),
        "{table}"
    );
    assert!(row(table, "less overhead of").ends_with('%'));
}

#[test]
fn the_numbers_of_a_report_are_those_of_its_parts() {
    let site = Site::new();
    let done = site
        .process(&["--repeat", "5", "--report=json"], "echo again")
        .expect_code(0);
    assert_eq!(done.out, "again\n".repeat(5));
    let report: Value = serde_json::from_str(done.err.trim()).expect("JSON on standard error");
    let seconds = |value: &Value| {
        let part = |name: &str| value[name].as_f64().expect("a number");
        part("secs") + part("nanos") / 1e9
    };
    let runs = report["report"]["repeats"].as_array().expect("a list");
    assert_eq!(runs.len(), 5);
    let wall: f64 = runs.iter().map(seconds).sum();
    let near = |name: &str, wanted: f64| {
        let got = report[name].as_f64().expect("a number");
        assert!(
            (got / wanted - 1.0).abs() < 1e-6,
            "{name}: {got}, not {wanted}"
        );
    };
    near("throughput_window_seconds", wall);
    near("throughput_per_second", 5.0 / wall);
    let wait = seconds(&report["report"]["startup"]);
    near("wait_seconds", wait);
    near("turnaround_seconds", wait + wall);
    near("overhead", wait / (wait + wall));
    let service = &report["service_times"];
    assert!((seconds(&service["mean"]) - wall / 5.0).abs() < 1e-6);
    let mut sorted: Vec<f64> = runs.iter().map(seconds).collect();
    sorted.sort_by(f64::total_cmp);
    for (name, wanted) in [("p50", sorted[2]), ("p95", sorted[4]), ("p99", sorted[4])] {
        assert!((seconds(&service[name]) - wanted).abs() < 1e-9, "{name}");
    }
    let used = &report["report"]["usage"];
    let cpu = seconds(&used["cpu_user"]) + seconds(&used["cpu_system"]);
    let cpus = report["report"]["cpus"].as_f64().expect("a number");
    if cpu > 0.0 {
        near("cpu_utilization_percent", cpu / (cpus * wall) * 100.0);
    }
    near("naive_share_cores_per_rank", cpus);
}

#[test]
fn memory_is_weighted_by_time() {
    let site = Site::new();
    // Nothing for a while, then 64 MiB for as long.
    let script = "sleep 0.6; head -c 64M /dev/zero | tail -c 64M | (sleep 0.6; wc -c)";
    let done = site.process(&["--report=json"], script).expect_code(0);
    let report: Value = serde_json::from_str(done.err.trim()).expect("JSON");
    let usage = &report["report"]["usage"];
    if usage["memory_current"].is_null() {
        assert!(
            usage["memory_mean"].is_null(),
            "without a cgroup it is not measured"
        );
        return;
    }
    let (mean, peak) = (usage["memory_mean"].as_u64(), usage["memory_peak"].as_u64());
    assert!(peak > Some(60 << 20), "{usage}");
    assert!(
        mean > Some(5 << 20) && mean < peak.map(|p| p * 9 / 10),
        "{usage}"
    );
}

#[test]
fn reports_stand_side_by_side() {
    let site = Site::new();
    site.process(&["--name", "a", "--repeat", "5"], "true").ok();
    site.process(&["--name", "b", "--memory", "1GiB"], "exit 2");
    let table = site.run(&["report", "a", "b"]).ok();
    let head: Vec<&str> = table
        .lines()
        .next()
        .expect("a line")
        .split_whitespace()
        .collect();
    assert_eq!(head, ["a", "b", "change"]);
    assert!(row(&table, "wall time").ends_with('%'), "{table}");
    assert!(row(&table, "result").ends_with("exit code 2"), "{table}");
    let alone = site.run(&["report", "a"]).ok();
    assert!(!alone.contains("change"), "{alone}");
    let all: Value =
        serde_json::from_str(&site.run(&["report", "--output", "json", "a", "b"]).ok())
            .expect("JSON");
    assert_eq!(all[1]["report"]["exit"]["code"], 2);
    let job = site.start("sleep 60");
    site.run(&["report", &job]).refused("has no report", "wait");
    site.process(&["-d", "--report"], "true")
        .refused("--report", "--help");
}

#[test]
fn an_array_runs_its_command_once_for_each_task() {
    let site = Site::new();
    let dir = site.path().join("out");
    let dir_text = dir.to_str().expect("text");
    let script = "echo task $HYPERION_TASK_ID of $HYPERION_TASK_COUNT";
    let flags = [
        "--name",
        "all",
        "--array",
        "2-4,9",
        "--output-dir",
        dir_text,
    ];
    let done = site.process(&flags, script);
    assert_eq!(
        done.ok(),
        "task 2 of 4\ntask 3 of 4\ntask 4 of 4\ntask 9 of 4"
    );
    assert_eq!(row(&site.run(&["report", "all"]).ok(), "runs"), "4");
    assert!(files_below(&dir).contains(&"task.9/rank.0.out".into()));
    // Another job starts its files anew; a repeat goes on with them.
    site.process(&["--repeat", "2", "--output-dir", dir_text], "echo x")
        .ok();
    site.process(&["--repeat", "2", "--output-dir", dir_text], "echo x")
        .ok();
    assert_eq!(
        std::fs::read_to_string(dir.join("rank.0.out")).expect("read"),
        "x\nx\n"
    );
    // The first failure ends it and is told.
    let done = site.process(
        &["--array", "0-9"],
        "echo $HYPERION_TASK_ID; [ $HYPERION_TASK_ID != 1 ]",
    );
    assert_eq!(done.out, "0\n1\n");
    done.expect_code(1)
        .says("error: the command in task 1 ended with exit code 1");
    site.process(&["--array", "3-1"], "true")
        .refused("is not a list of tasks", "--help");
    site.process(&["--array", "1", "--repeat", "2"], "true")
        .refused("--repeat", "--help");
}

#[test]
fn stop_and_ctrl_c_end_all_runs_whatever_the_command_makes_of_them() {
    let site = Site::new();
    let script = "trap 'exit 0' TERM INT; echo up; while :; do sleep 0.02; done";
    let job = site.start_with(&["--repeat", "1000"], script);
    site.wait_for_log(&job, "up");
    let since = Instant::now();
    site.run(&["stop", "-t", "20s", &job]).ok();
    assert!(since.elapsed() < Duration::from_secs(10));
    let end = site.inspect(&job)["end"].take();
    assert_eq!(
        (
            &end["code"],
            end["report"]["repeats"].as_array().map(Vec::len)
        ),
        (&0.into(), Some(1))
    );
    let words = [
        "run",
        "--isolation",
        "process",
        "--array",
        "0-999",
        "sh",
        "-c",
        script,
    ];
    let run = Running::start(&site, &words);
    let up = wait_until(LONG, || site.run(&["ps", "-q"]).out.lines().count() == 1);
    assert!(up);
    let job = site.run(&["ps", "-q"]).ok();
    site.wait_for_log(&job, "up");
    run.signal(Signal::INT);
    assert_eq!(run.finish().expect_code(0).out, "up\n");
}
