//! Killing every part of a job at every named point: what ran with it ends,
//! and what it leaves is cleaned up.

use std::time::{Duration, Instant};

use hyperion_sys::process::descendants;
use hyperion_testkit::{requires, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{LONG, Running, Site, cgroups, is_gone, mounts_below, wait_gone};

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("it runs");
}

/// Asserts that nothing of these jobs is left outside their records.
#[track_caller]
fn nothing_is_left(site: &Site, jobs: &[String]) {
    let records = ["job.json", "running.json", "end.json", "log"];
    let extra = || -> Vec<_> {
        site.records()
            .into_iter()
            .filter(|f| f.components().count() > 1 && !records.iter().any(|r| f.ends_with(r)))
            .collect()
    };
    // The end is told before the supervisor has cleaned up.
    wait_until(LONG, || extra().is_empty());
    assert_eq!(extra(), [] as [std::path::PathBuf; 0]);
    assert_eq!(cgroups(jobs), [] as [std::path::PathBuf; 0]);
    assert_eq!(mounts_below(site.path()), [] as [String; 0]);
}

/// The only job of a site.
#[track_caller]
fn only_job(site: &Site) -> String {
    let jobs = site.jobs();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs[0].clone()
}

/// Starts a job whose ranks have children, and gives a rank's process.
fn start_rank(site: &Site, flags: &[&str]) -> (String, Pid) {
    let script = "sleep 300 & echo pid $$; echo child $!; wait";
    let job = site.start_with(flags, script);
    site.wait_for_log(&job, "child ");
    let logs = site.run(&["logs", &job]).out;
    let pid = logs
        .lines()
        .find_map(|l| l.strip_prefix("pid ")?.parse().ok());
    (job, pid.and_then(Pid::from_raw).expect("a process number"))
}

fn child_of(site: &Site, job: &str) -> Pid {
    let logs = site.run(&["logs", job]).out;
    let pid = logs
        .lines()
        .find_map(|l| l.strip_prefix("child ")?.parse().ok());
    pid.and_then(Pid::from_raw).expect("a process number")
}

#[test]
fn a_killed_supervisor_takes_its_job_along_and_leaves_a_lost_record() {
    let site = Site::new();
    let (job, rank) = start_rank(&site, &["--name", "lost"]);
    let child = child_of(&site, &job);
    let (supervisor, init) = site.processes(&job);
    kill(supervisor);
    for pid in [init, rank, child] {
        wait_gone(pid);
    }
    // The first look notices and cleans up; the record stays.
    let table = site.run(&["ps", "-a"]).ok();
    assert!(table.contains("lost"), "{table}");
    nothing_is_left(&site, std::slice::from_ref(&job));
    assert_eq!(site.state("lost"), "lost");
    assert_eq!(site.run(&["ps", "-q"]).ok(), "");
    site.run(&["exec", "lost", "true"])
        .refused("is not running", "logs");
    site.run(&["wait", "lost"])
        .refused("ended unexpectedly", "hyperion rm");
    assert!(site.run(&["logs", "-f", "lost"]).ok().contains("pid"));
    site.run(&["rm", "lost"]).ok();
    assert!(site.jobs().is_empty());
}

#[test]
fn a_killed_supervisor_takes_its_container_along() {
    requires!("root");
    let site = Site::new();
    let root = site.rootfs(&["sh", "sleep"]);
    let job = site
        .run(&[
            "run",
            "-d",
            &root,
            "sh",
            "-c",
            "echo file > /tmp/file; sleep 300 & wait",
        ])
        .ok();
    let (supervisor, init) = site.processes(&job);
    kill(supervisor);
    wait_gone(init);
    site.run(&["rm", &job]).ok();
    nothing_is_left(&site, &[job]);
    assert_eq!(site.records(), [] as [std::path::PathBuf; 0]);
}

/// Starts a job at process level that says `up` and then waits.
fn start_attached(site: &Site) -> Running {
    let script = ["sh", "-c", "echo up; sleep 300"];
    Running::start(
        site,
        &[&["run", "--isolation", "process"][..], &script].concat(),
    )
}

#[test]
fn who_watches_a_job_is_told_when_its_supervisor_is_killed() {
    let site = Site::new();
    let run = start_attached(&site);
    let started = wait_until(LONG, || !site.run(&["ps", "-q"]).out.is_empty());
    assert!(started);
    let job = site.run(&["ps", "-q"]).ok();
    site.wait_for_log(&job, "up");
    let wait = Running::start(&site, &["wait", &job]);
    let follow = Running::start(&site, &["logs", "-f", &job]);
    let (supervisor, _) = site.processes(&job);
    kill(supervisor);
    let ended = "ended unexpectedly";
    run.finish().refused(ended, &format!("hyperion rm {job}"));
    let waited = wait.finish().expect_code(125);
    assert!(
        waited.err.contains(ended) || waited.err.contains("is not running"),
        "{waited:?}"
    );
    follow.finish().expect_code(0);
}

#[test]
fn a_killed_init_ends_the_job_and_everything_in_it() {
    let site = Site::new();
    let (job, rank) = start_rank(&site, &[]);
    let child = child_of(&site, &job);
    let (supervisor, init) = site.processes(&job);
    kill(init);
    for pid in [rank, child, supervisor] {
        wait_gone(pid);
    }
    let end = site.inspect(&job)["end"].take();
    assert_eq!(end["code"], 125);
    assert_eq!(end["failure"]["what"], "the sandbox ended unexpectedly");
    assert!(end["failure"]["hint"].is_string());
    nothing_is_left(&site, &[job]);
}

/// In a limit that one program has used up, the kernel may take the init when that
/// program is gone already: it asked for a page at that moment.
#[test]
fn an_init_that_goes_where_memory_ran_out_is_told_as_the_limit() {
    requires!("root");
    let site = Site::new();
    let hog = "dd if=/dev/zero of=/dev/null bs=200M count=1; echo gone; sleep 300";
    let words = ["run", "-d", "--isolation", "process", "--memory", "64MiB"];
    let job = site.run(&[&words[..], &["sh", "-c", hog]].concat()).ok();
    site.wait_for_log(&job, "gone");
    kill(site.processes(&job).1);
    site.run(&["wait", &job]).expect_code(137);
    let failure = site.inspect(&job)["end"]["failure"].take();
    assert_eq!(
        failure["what"],
        "the sandbox was killed because the job reached its memory limit"
    );
    assert_eq!(failure["hint"], "give it more with --memory");
    nothing_is_left(&site, &[job]);
}

#[test]
fn stop_ends_a_job_that_keeps_stopping_its_init_and_its_supervisor() {
    let parent = "P=$(sed 's/.*) //' /proc/$PPID/stat | cut -d ' ' -f 2)";
    for (script, state) in [
        ("kill -STOP $PPID; sleep 300", "ended"),
        ("trap '' TERM; while :; do kill -STOP $PPID; done", "ended"),
        ("kill -STOP $P; sleep 300", "ended"),
        (
            "trap '' TERM; while :; do kill -STOP $P $PPID; done",
            "lost",
        ),
    ] {
        let site = Site::new();
        // Not before it is told to run: one that cannot even start is told so.
        let go = site.path().join("go");
        let wait = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
        let job = site.start(&format!("{parent}; {wait}; {script}"));
        let (supervisor, init) = site.processes(&job);
        std::fs::write(&go, "").expect("written");
        let stat = |pid: Pid| std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
        let stopped = |pid| stat(pid).is_ok_and(|s| s.contains(") T"));
        assert!(
            wait_until(LONG, || stopped(supervisor) || stopped(init)),
            "{script}"
        );
        let since = Instant::now();
        site.run(&["stop", "-t", "500ms", &job]).ok();
        // Grace, a second, and another for a machine that is busy.
        assert!(since.elapsed() < Duration::from_millis(2500), "{script}");
        assert_eq!(site.state(&job), state, "{script}");
        wait_gone(supervisor);
        wait_gone(init);
        nothing_is_left(&site, &[job]);
    }
}

#[test]
fn a_command_beside_a_job_whose_init_is_stopped_runs_all_the_same() {
    let site = Site::new();
    let job = site.start("sleep 300");
    let (_, init) = site.processes(&job);
    kill_process(init, Signal::STOP).expect("it runs");
    assert_eq!(site.run(&["exec", &job, "echo", "here"]).ok(), "here");
}

#[test]
fn a_killed_init_ends_a_container() {
    requires!("root");
    let site = Site::new();
    let root = site.rootfs(&["sh", "sleep"]);
    let job = site.run(&["run", "-d", &root, "sleep", "300"]).ok();
    let (supervisor, init) = site.processes(&job);
    kill(init);
    wait_gone(supervisor);
    assert_eq!(site.inspect(&job)["end"]["code"], 125);
    nothing_is_left(&site, &[job]);
}

#[test]
fn a_killed_starter_leaves_the_job_running() {
    let site = Site::new();
    let run = start_attached(&site);
    // Listed already while its starter makes it; it stands by itself once it runs.
    let started = wait_until(LONG, || site.run(&["ps"]).out.contains("running"));
    assert!(started);
    run.signal(Signal::KILL);
    run.finish();
    let job = only_job(&site);
    let (supervisor, init) = site.processes(&job);
    assert!(!is_gone(supervisor) && !is_gone(init));
    site.run(&["stop", &job]).ok();
    nothing_is_left(&site, &[job]);
}

/// Starts a job at process level of which nothing is kept, whose rank has a child in a
/// session of its own; gives its id.
fn start_passing(site: &Site) -> (Running, String) {
    let script = "(exec setsid sleep 301) & echo up; exec sleep 302";
    let words = ["run", "--rm", "--isolation", "process", "sh", "-c", script];
    let run = Running::start(site, &words);
    let started = wait_until(LONG, || site.run(&["ps"]).out.contains("running"));
    assert!(started);
    let job = only_job(site);
    site.wait_for_log(&job, "up");
    (run, job)
}

#[test]
fn a_job_of_which_nothing_is_kept_is_found_while_it_runs_and_needs_no_group() {
    let site = Site::new();
    let (run, job) = start_passing(&site);
    assert_eq!(
        cgroups(std::slice::from_ref(&job)),
        [] as [std::path::PathBuf; 0]
    );
    let inside = descendants(site.processes(&job).0);
    assert_eq!(inside.len(), 2, "{inside:?}");
    let all = processes_of(&site);
    assert_eq!(all.iter().filter(|p| *p == "sleep").count(), 2, "{all:?}");
    assert_eq!(site.run(&["exec", &job, "echo", "here"]).ok(), "here");
    site.run(&["stop", &job]).ok();
    run.finish().expect_code(143);
    inside.into_iter().for_each(wait_gone);
    nothing_is_left(&site, &[]);
    assert_eq!(site.records(), [] as [std::path::PathBuf; 0]);
}

/// Gives the names of all processes that this site's commands, and what they started, are.
fn processes_of(site: &Site) -> Vec<String> {
    let root = format!("HYPERION_ROOT={}", site.root().display());
    let name = |folder: std::fs::DirEntry| {
        let read = |name| std::fs::read(folder.path().join(name)).unwrap_or_default();
        let environment = read("environ");
        let mut variables = environment.split(|&byte| byte == 0);
        let own = variables.any(|variable| variable == root.as_bytes());
        own.then(|| String::from_utf8_lossy(&read("comm")).trim_end().to_owned())
    };
    let all = std::fs::read_dir("/proc").expect("there is one");
    all.flatten().filter_map(name).collect()
}

#[test]
fn such_a_job_does_not_outlive_its_supervisor_whether_somebody_waits_or_not() {
    for waits in [true, false] {
        let site = Site::new();
        let (run, job) = start_passing(&site);
        let (supervisor, _) = site.processes(&job);
        let inside = descendants(supervisor);
        assert_eq!(inside.len(), 2, "{inside:?}");
        if !waits {
            run.signal(Signal::KILL);
            let watched = || processes_of(&site).iter().any(|p| p == "hyperion-watch");
            assert!(wait_until(LONG, watched));
        }
        kill(supervisor);
        inside.into_iter().for_each(wait_gone);
        let done = run.finish();
        assert!(
            !waits || done.code == 125 && done.err.contains("ended unexpectedly"),
            "{done:?}"
        );
        assert!(wait_until(LONG, || processes_of(&site).is_empty()));
        site.run(&["ps"]).ok();
        nothing_is_left(&site, &[]);
    }
}

#[test]
fn a_part_of_such_a_job_that_dies_at_any_point_leaves_nothing() {
    for point in [
        "init-spawned",
        "ranks-run",
        "record-made",
        "socket-made",
        "before-end",
        "before-cleaning",
    ] {
        let site = Site::new();
        let time = if point.starts_with("before") {
            "0.1"
        } else {
            "300"
        };
        let mut run = site.command(&["run", "--rm", "--isolation", "process", "sleep", time]);
        run.env("HYPERION_FAILPOINT", point);
        let done = crate::site::finish(run);
        let code = if point == "before-cleaning" { 0 } else { 125 };
        assert_eq!(done.code, code, "{point}: {done:?}");
        let gone = wait_until(LONG, || processes_of(&site).is_empty());
        assert!(gone, "{point}: {:?}", processes_of(&site));
        site.run(&["ps"]).ok();
        let left = site.jobs();
        for job in &left {
            site.run(&["rm", job]).ok();
        }
        nothing_is_left(&site, &left);
        assert!(site.jobs().is_empty(), "{point}");
    }
}

#[test]
fn a_killed_rank_is_told_with_its_signal() {
    let site = Site::new();
    let (job, rank) = start_rank(&site, &[]);
    let child = child_of(&site, &job);
    kill(rank);
    assert_eq!(site.run(&["wait", &job]).out, "137\n");
    wait_gone(child);
    let end = site.inspect(&job)["end"].take();
    assert_eq!(end["failure"]["what"], "the command was killed by SIGKILL");
    nothing_is_left(&site, &[job]);
}

/// Runs a job whose supervisor dies at a point, and looks at what is left
/// after the next command.
fn die_at(point: &str, flags: &[&str], command: &[&str]) {
    for clean in ["ps", "rm"] {
        let site = Site::new();
        let root = site.rootfs(&["sh", "sleep"]);
        let mut words = vec!["run", "-d"];
        words.extend(flags);
        words.extend((flags != ["--isolation", "process"]).then_some(root.as_str()));
        words.extend(command);
        let mut run = site.command(&words);
        run.env("HYPERION_FAILPOINT", point);
        let done = crate::site::finish(run);
        if point == "folder-made" || point == "cgroup-made" || point == "sandbox-up" {
            assert!(
                done.code == 125 && done.err.contains("ended unexpectedly"),
                "{point}: {done:?}"
            );
        }
        // Read from the disk: any command of Hyperion's could clean up.
        let jobs: Vec<String> = site
            .records()
            .iter()
            .filter(|f| f.components().count() == 1)
            .filter_map(|f| f.to_str().map(str::to_owned))
            .collect();
        assert_eq!(jobs.len(), 1, "{point}");
        let state = if point == "before-cleaning" {
            "ended"
        } else {
            "lost"
        };
        let told = wait_until(LONG, || site.state(&jobs[0]) == state);
        assert!(told, "{point}: {}", site.state(&jobs[0]));
        let rm = ["rm", &jobs[0]];
        site.run(if clean == "ps" { &["ps"][..] } else { &rm[..] })
            .ok();
        nothing_is_left(&site, &jobs);
        assert_eq!(site.jobs().is_empty(), clean == "rm");
    }
}

const POINTS: [&str; 6] = [
    "folder-made",
    "cgroup-made",
    "sandbox-up",
    "ranks-run",
    "before-end",
    "before-cleaning",
];

#[test]
fn a_supervisor_that_dies_at_any_point_of_a_process_job_leaves_nothing() {
    for point in POINTS {
        die_at(
            point,
            &["--isolation", "process"],
            &["sh", "-c", "sleep 0.1"],
        );
    }
}

#[test]
fn a_starter_that_dies_before_the_supervisor_has_the_record_leaves_nothing() {
    for point in ["record-made", "socket-made"] {
        die_at(point, &["--isolation", "process"], &["sleep", "300"]);
    }
}

#[test]
fn a_supervisor_that_dies_at_any_point_of_a_container_leaves_nothing() {
    requires!("root");
    for point in POINTS {
        die_at(
            point,
            &[],
            &["sh", "-c", "echo file > /tmp/file; sleep 0.1"],
        );
    }
}
