//! One job over several machines.

use std::fs;
use std::path::PathBuf;

use hyperion_testkit::{requires, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::level::{child_of, furnished, site};
use crate::site::{LONG, Running, Site, cgroups, wait_gone};

/// Gives the processes that carry the frames of this test's jobs, which go by
/// their name and end with the supervisor.
fn switches(supervisor: Pid) -> Vec<Pid> {
    let all = fs::read_dir("/proc").expect("a folder").flatten();
    let of_supervisor = |entry: fs::DirEntry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let line = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim().to_owned())
        };
        let parent = line("PPid:")? == supervisor.as_raw_pid().to_string();
        let pid = Pid::from_raw(line("Pid:")?.parse().ok()?)?;
        (parent && line("Name:")? == "hyperion-net").then_some(pid)
    };
    all.filter_map(of_supervisor).collect()
}

/// Gives the keeper of a job's second node.
#[track_caller]
fn second_of(site: &Site, job: &str) -> Pid {
    let second = site.inspect(job)["running"]["sandboxes"][1]["init"].take();
    let second = second.as_i64().and_then(|n| Pid::from_raw(n as i32));
    second.expect("a second node")
}

/// The end is told before all is cleaned up.
#[track_caller]
fn nothing_of_nodes_is_left(site: &Site) {
    let of_node = |path: &PathBuf| path.to_string_lossy().contains("node");
    let left = || site.records().into_iter().filter(of_node);
    assert!(
        wait_until(LONG, || left().next().is_none()),
        "{:?}",
        left().collect::<Vec<_>>()
    );
}

/// As a user: root's nodes are those of the other tests.
#[test]
fn nodes_of_a_user_hold_their_ranks_know_each_other_and_leave_nothing() {
    requires!("guest", "user:nobody");
    let site = furnished(Site::of_user(), &["sh", "cat", "hostname"]);
    let script = "echo $(hostname) $HYPERION_RANK/$HYPERION_SIZE \
                  $HYPERION_LOCAL_RANK/$HYPERION_LOCAL_SIZE $HOSTNAME; \
                  [ $HYPERION_RANK = 2 ] && cat /etc/hosts; exit 0";
    let words = [
        "run",
        "--isolation",
        "vm",
        "--nodes",
        "2",
        "-n",
        "3",
        "--oversubscribe",
        "--memory",
        "512MiB",
        "--hostname",
        "box",
        "--mpi",
        "none",
        "--label",
        "--report=json",
        "tools",
        "sh",
        "-c",
        script,
    ];
    let done = site.run(&words).expect_code(0);
    let mut lines: Vec<&str> = done.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "[0] box-0 0/3 0/2 box-0",
            "[1] box-0 1/3 1/2 box-0",
            "[2] 127.0.0.1 localhost",
            "[2] 192.168.217.1 box-0",
            "[2] 192.168.217.2 box-1",
            "[2] ::1 localhost",
            "[2] box-1 2/3 0/1 box-1",
        ]
    );
    let report = done.err.find('{').map(|at| &done.err[at..]);
    let report: Value = serde_json::from_str(report.expect("a report")).expect("JSON");
    assert_eq!(
        report["report"]["memory"],
        1 << 30,
        "of both nodes: {report}"
    );
    // A job with a record keeps its words, and nothing of its nodes.
    nothing_of_nodes_is_left(&site);
}

#[test]
fn when_one_node_ends_the_others_end_and_it_is_named() {
    requires!("guest");
    let site = site(&["sh", "sleep"]);
    let words = [
        "run",
        "-d",
        "--isolation",
        "vm",
        "--nodes",
        "2",
        "--mpi",
        "none",
        "tools",
        "sleep",
        "300",
    ];
    let start = || {
        let job = site.run(&words).ok();
        let (supervisor, first) = site.processes(&job);
        let second = second_of(&site, &job);
        (job, supervisor, first, second)
    };
    let kill = |pid| kill_process(pid, Signal::KILL).expect("it runs");

    let (job, supervisor, first, second) = start();
    let switches_then = switches(supervisor);
    assert_eq!(switches_then.len(), 1);
    kill(child_of(second));
    site.run(&["wait", &job]).expect_code(125);
    let failure = site.inspect(&job)["end"]["failure"].take();
    assert_eq!(failure["what"], format!("node {job}-1 of the job failed"));
    let why = "the virtual machine was killed: QEMU ended by SIGKILL";
    assert_eq!(failure["causes"][0], why);
    for pid in [first, second, switches_then[0]] {
        wait_gone(pid);
    }

    let (lost, supervisor, first, second) = start();
    let (qemu, switch) = (child_of(second), switches(supervisor)[0]);
    kill(supervisor);
    for pid in [first, second, qemu, switch] {
        wait_gone(pid);
    }
    assert_eq!(site.state(&lost), "lost");
    site.run(&["ps"]).ok();
    assert!(wait_until(LONG, || cgroups(std::slice::from_ref(&lost)).is_empty()));
}

#[test]
fn nodes_are_told_entered_stopped_by_the_key_and_refused_where_there_can_be_none() {
    requires!("guest");
    let site = site(&["sh", "sleep", "hostname"]);
    let wrong = [
        (
            &["--nodes", "2"][..],
            "several virtual machines",
            "--isolation vm",
        ),
        (
            &["--isolation", "vm", "-N", "3", "-n", "2"],
            "without any",
            "--nodes",
        ),
        (
            &["--isolation", "vm", "-N", "0"],
            "1 to 64 nodes",
            "--nodes",
        ),
        (
            &[
                "--isolation",
                "vm",
                "-N",
                "2",
                "-n",
                "5",
                "--ranks-per-node",
                "2",
            ],
            "more than 2",
            "--nodes",
        ),
        (
            &["--isolation", "vm", "-N", "2", "--network", "none"],
            "takes it",
            "--network",
        ),
    ];
    for (flags, what, hint) in wrong {
        let words = [&["run"], flags, &["tools", "sh"]].concat();
        site.run(&words).refused(what, hint);
    }
    let words = [
        "run",
        "--isolation",
        "vm",
        "--nodes",
        "2",
        "--mpi",
        "none",
        "tools",
        "sh",
        "-c",
        "echo up; sleep 300",
    ];
    let running = Running::start(&site, &words);
    let job = hyperion_testkit::wait_for(LONG, || site.jobs().pop()).expect("it begins");
    site.wait_for_log(&job, "up\nup\n");
    let names = [format!("{job}-0"), format!("{job}-1")];
    for (node, name) in [("0", 0), ("1", 1), (names[1].as_str(), 1)] {
        let words = ["exec", "--node", node, &job, "hostname"];
        assert_eq!(site.run(&words).ok(), names[name]);
    }
    assert_eq!(site.run(&["exec", &job, "hostname"]).ok(), names[0]);
    let hint = format!("its nodes are: 0 ({}), 1 ({})", names[0], names[1]);
    let words = ["exec", "--node", "2", &job, "hostname"];
    site.run(&words).refused("has no node \"2\"", &hint);
    let told = |words: &[&str]| -> Value {
        let words = [words, &["--output", "json"]].concat();
        serde_json::from_str(&site.run(&words).ok()).expect("JSON")
    };
    assert_eq!(told(&["ps"])[0]["nodes"], 2);
    let stats = told(&["stats", &job]);
    let of_nodes = stats[0]["nodes"].as_array().expect("both");
    assert!(of_nodes.iter().map(|node| &node["name"]).eq(&names));
    let second = &site.inspect(&job)["nodes"][1];
    assert_eq!(second["name"], names[1]);
    assert_eq!(second["address"], "192.168.217.2");
    assert_eq!(second["ranks"], serde_json::json!([1]));
    // One of them hangs: it holds up nobody.
    let qemu = child_of(second_of(&site, &job));
    kill_process(qemu, Signal::STOP).expect("it runs");
    running.signal(Signal::INT);
    assert_eq!(running.finish().code, 130);
    wait_gone(qemu);
}

#[test]
fn members_at_different_levels_are_one_job() {
    requires!("guest", "root", "path:/dev/net/tun");
    let site = site(&["sh", "cat", "hostname", "uname"]);
    let run = |members: &[&str], script: &str| {
        let mut words = vec!["run", "--mpi", "none", "--label", "--report"];
        members.iter().for_each(|m| words.extend(["--member", m]));
        words.extend(["--hostname", "box", "tools", "sh", "-c", script]);
        site.run(&words).expect_code(0)
    };
    let script = "echo $(hostname) $HYPERION_RANK $HYPERION_LOCAL_RANK $(uname -r); \
                  echo mine > /mine; cat /mine; cat /sys/class/net/eth0/address";
    let done = run(&["vm:1", "container:2"], script);
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
    let host = host.trim();
    let lines: Vec<&str> = done.out.lines().collect();
    let of = |start: &str| {
        let line = lines.iter().find(|line| line.starts_with(start));
        (*line.unwrap_or_else(|| panic!("no {start:?} in {done:?}"))).to_owned()
    };
    assert!(!of("[0] box-0 0 0 ").ends_with(host), "a kernel of its own");
    assert!(of("[1] box-1 1 0 ").ends_with(host));
    assert!(of("[2] box-1 2 1 ").ends_with(host));
    of("[0] mine");
    assert_eq!(of("[1] 02:"), "[1] 02:48:79:70:00:01");
    assert!(done.err.contains("vm:1 + container:2"), "{done:?}");
    // Containers alone, each with a root and a network of its own.
    let done = run(&["container:1", "container:1"], script);
    assert_eq!(done.out.matches("mine").count(), 2, "{done:?}");
    nothing_of_nodes_is_left(&site);
}
