//! Two hundred jobs of every kind and fate, and nothing is left of them.

use std::path::PathBuf;

use rustix::process::{WaitOptions, set_child_subreaper, wait};

use crate::site::{LONG, Site, cgroups, files_below, mounts_below};
use hyperion_testkit::wait_until;

const JOBS: usize = 200;

fn host_mounts() -> usize {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    text.lines().count()
}

/// Lists all files of a site, but for the folders that hold those of jobs.
fn left(site: &Site) -> Vec<PathBuf> {
    let mut files = files_below(&site.root());
    files.retain(|f| !(f.starts_with("jobs") && f.components().count() == 2));
    files
}

#[test]
fn two_hundred_jobs_leave_no_mount_cgroup_process_or_file() {
    // Whatever outlives its parent becomes a child of this process, and is seen.
    set_child_subreaper(Some(rustix::process::getpid())).expect("set");
    let site = Site::new();
    let root = site.rootfs(&["sh", "sleep", "true"]);
    let containers = rustix::process::geteuid().is_root();
    site.process(&["--rm"], "true").ok();
    // An end is told before the supervisor has cleaned up.
    assert!(wait_until(LONG, || site.jobs().is_empty()));
    let before = (left(&site), host_mounts());
    for i in 0..JOBS {
        let script = match i % 10 {
            3 => "echo file > /tmp/hyperion-leak-$$; rm /tmp/hyperion-leak-$$; exit 3",
            5 => "sleep 300 & sleep 300 & exit 0",
            7 => "kill -SEGV $$",
            _ => "true",
        };
        let mut words = vec!["run"];
        // A few are killed from outside, the rest end by themselves.
        let detach = i % 10 == 9;
        words.extend(detach.then_some("-d"));
        words.extend((i % 4 == 0).then_some("--rm"));
        if containers && i % 2 == 1 {
            words.push(&root);
        } else {
            words.extend(["--isolation", "process"]);
        }
        match i % 10 {
            1 => words.push("no-such-program"),
            9 => words.extend(["sleep", "300"]),
            _ => words.extend(["sh", "-c", script]),
        }
        let done = site.run(&words);
        let expected = match i % 10 {
            1 => 127,
            3 => 3,
            7 => 139,
            _ => 0,
        };
        assert_eq!(done.code, expected, "{words:?}: {done:?}");
        if detach {
            let job = done.ok();
            match i % 3 {
                0 => drop(site.run(&["stop", &job])),
                1 => drop(site.run(&["rm", "-f", &job])),
                _ => {
                    let (supervisor, _) = site.processes(&job);
                    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL)
                        .expect("it runs");
                    let lost = wait_until(LONG, || site.state(&job) != "running");
                    assert!(lost);
                }
            }
        }
    }
    let jobs = site.jobs();
    assert!(jobs.len() > JOBS / 2, "{}", jobs.len());
    site.run(&["rm", "--ended"]).ok();
    wait_until(LONG, || left(&site) == before.0);
    assert_eq!(cgroups(&jobs), [] as [std::path::PathBuf; 0]);
    assert_eq!(mounts_below(site.path()), [] as [String; 0]);
    assert_eq!((left(&site), host_mounts()), before);
    let alone = wait_until(LONG, || {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    });
    let left = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert!(alone, "still running: {left}");
}
