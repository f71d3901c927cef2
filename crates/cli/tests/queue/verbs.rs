//! What users do with jobs that wait and run.

use hyperion_testkit::{hyperion_as, requires, wait_for};

use crate::Queue;
use crate::site::{LONG, Running, Site, finish};

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
    // All processors for a while: two of them, or less time, would not be sooner than that.
    if cores > 1 {
        let when = queue
            .run(&["submit", "--dry-run", &all, "-t", "8", "--wrap=true"])
            .ok();
        assert!(!when.contains("with a limit"), "{when}");
    }
    let numbers = queue.run(&["metrics"]).ok();
    for line in [
        "hyperion_tasks{state=\"running\"} 1",
        "hyperion_tasks{state=\"pending\"} 2",
        "# TYPE hyperion_tasks_ended_total counter",
    ] {
        assert!(numbers.lines().any(|l| l == line), "{line} in {numbers}");
    }
    let nodes = queue.run(&["nodes"]).ok();
    assert!(nodes.contains(&format!("{cores} of {cores}")), "{nodes}");
    queue.run(&["cancel", &first]).ok();
    queue.wait_for_state(&third, "completed");
    let started = |job: &str| queue.list("history", job)[0]["started"].as_u64();
    assert!(started(&second) <= started(&third));
}

#[test]
fn prometheus_is_answered_on_a_port_of_the_loopback_interface() {
    use std::io::{Read as _, Write as _};
    let queue = Queue::new();
    queue
        .run(&["serve", "--metrics", "0.0.0.0:0"])
        .refused("not of the loopback interface", "127.0.0.1");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address").to_string();
    drop(free);
    let server = Running::start(&queue.site, &["serve", "--metrics", &address]);
    let connect = || std::net::TcpStream::connect(&address).ok();
    let mut stream = wait_for(LONG, connect).expect("it listens");
    // One that says nothing holds nobody up.
    let _silent = connect();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
        .expect("asked");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("answered");
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    assert!(said.contains("\nhyperion_node_cores{node=\""), "{said}");
    server.signal(rustix::process::Signal::TERM);
    server.finish().expect_code(0);
}

#[test]
fn operators_drain_nodes_keep_them_for_a_time_and_say_who_may_have_what() {
    let queue = Queue::new();
    let folder = queue.site.root().join("queue");
    std::fs::create_dir_all(&folder).expect("a folder");
    let say = |text: &str| std::fs::write(folder.join("site.toml"), text).expect("written");
    say("ordre = \"fifo\"\n");
    let wrong = queue.run(&["serve"]).refused("site.toml", "first come");
    assert!(wrong.err.contains("ordre"), "{}", wrong.err);
    say("order = \"multifactor\"\n[each_user]\nrunning = 1\n\
         [partitions.short]\nmax_minutes = 10\n[partitions.long]\ndefault = true\n");
    let node = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    queue
        .run(&["drain", "--reason", "a disk is changed", &node])
        .ok();
    let nodes = queue.run(&["nodes"]).ok();
    assert!(nodes.contains("drained: a disk is changed"), "{nodes}");
    let first = queue.wrap(&[], "sleep 300");
    let second = queue.wrap(&[], "true");
    assert_eq!(queue.list("queue", &first)[0]["reason"], "nodes-closed");
    queue
        .run(&["drain", "--reason", "x", "nowhere"])
        .refused("nowhere", "");
    queue.run(&["undrain", &node]).ok();
    queue.wait_for_state(&first, "running");
    // One of them at a time.
    let reason = queue.list("queue", &second)[0]["reason"].clone();
    assert!(reason["limit"].is_string(), "{reason}");
    queue
        .run(&["submit", "-p", "short", "-t", "60", "--wrap=true"])
        .refused("short", "rules of the site");
    queue.run(&["cancel", &first]).ok();
    queue.wait_for_state(&second, "completed");
    // Maintenance in a minute: what would run into it waits.
    queue
        .run(&["reserve", "--in", "1m", "--for", "1h", "maintenance"])
        .ok();
    let kept = queue.run(&["reservations"]).ok();
    assert!(
        kept.contains("maintenance ") && kept.contains(&node),
        "{kept}"
    );
    let long = queue.wrap(&["-t", "5"], "true");
    assert_eq!(queue.state(&long), "pending");
    queue.run(&["unreserve", "maintenance"]).ok();
    let kept = queue.run(&["--output", "json", "reservations"]).ok();
    assert_eq!(kept.trim(), "[]");
    queue.wait_for_state(&long, "completed");
    // All of it is written down.
    queue.run(&["drain", "--reason", "again", &node]).ok();
    queue.run(&["serve", "--stop"]).ok();
    assert!(queue.run(&["nodes"]).ok().contains("drained: again"));
}

#[test]
fn nobody_but_its_user_and_root_is_heard_by_a_server() {
    use std::os::unix::fs::MetadataExt as _;
    requires!("root");
    let site = Site::of_user();
    let wrap = [
        "submit",
        "--wait",
        "-o",
        "/dev/null",
        "-D",
        "/",
        "--wrap=true",
    ];
    site.run(&wrap).ok();
    let root = site.root();
    let root = root.to_str().expect("text");
    let other = |user: &str, words: &[&str]| {
        let mut command = hyperion_as(site.path(), user);
        command.args(["--root", root]).args(words).current_dir("/");
        finish(command)
    };
    // What another submits would run as its user.
    other("daemon", &wrap).refused("Permission denied", "who may use");
    other("daemon", &["cancel", "1"]).refused("Permission denied", "who may use");
    // Scripts and variables are for nobody else's eyes, either.
    for file in ["journal", "journal-wal", "socket"] {
        let mode = std::fs::metadata(site.root().join("queue").join(file))
            .expect("there")
            .mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
    // Not even where somebody has opened the way.
    for (path, mode) in [("queue", 0o755), ("queue/socket", 0o666)] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(site.root().join(path), open).expect("it is there");
    }
    other("daemon", &wrap).refused("the queue is another user's", "--root");
    other("root", &["queue", "--all"]).ok();
}
