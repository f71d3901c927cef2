//! Machines of jobs that begin from what one like them was once it was up.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use hyperion_testkit::requires;

use crate::level::site;
use crate::site::Site;

/// What was written down.
fn memories(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.root().join("warm"));
    let paths = entries.into_iter().flatten().flatten().map(|e| e.path());
    paths.filter(|path| path.extension().is_none()).collect()
}

fn run(site: &Site, script: &str) -> String {
    let words = ["run", "--rm", "--isolation", "vm", "tools", "sh", "-c"];
    site.run(&[&words[..], &[script]].concat()).ok()
}

#[test]
fn machines_go_on_from_memory_each_with_its_own_secrets_and_the_right_time() {
    requires!("guest");
    let site = site(&["sh", "cat", "head", "od", "date", "true"]);
    let script = "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid; \
                  cat /proc/sys/kernel/random/boot_id; date +%s";
    let mut secrets = BTreeSet::new();
    let mut used = Vec::new();
    for start in 1..=4 {
        let told = run(&site, script);
        let told: Vec<&str> = told.lines().collect();
        let [random, uuid, boot, now] = told[..] else {
            panic!("{told:?}");
        };
        for secret in [random, uuid, boot] {
            assert!(secrets.insert(secret.to_owned()), "twice: {secret}");
        }
        let here = SystemTime::now().duration_since(UNIX_EPOCH).expect("after");
        let there: u64 = now.parse().expect("a time");
        assert!(here.as_secs().abs_diff(there) <= 2, "{there} is not now");
        // The first of its kind is remembered only, the second written down.
        let kept = memories(&site);
        assert_eq!(kept.len(), usize::from(start > 1), "{start}");
        used.extend(kept.iter().map(|path| fs::metadata(path).expect("there")));
    }
    // The others have used it, and it was of use: it would be gone otherwise.
    let times = used.iter().map(|meta| meta.modified().expect("told"));
    assert!(times.is_sorted_by(|a, b| a < b));
    assert!(used.iter().all(|meta| meta.ino() == used[0].ino()));

    // One that cannot be read is of no use, and not told of.
    let memory = memories(&site).remove(0);
    let file = fs::File::options().write(true).open(&memory);
    file.and_then(|file| file.set_len(50 << 20)).expect("cut");
    assert_eq!(run(&site, "echo after"), "after");
    assert_eq!(memories(&site), [] as [PathBuf; 0]);

    // Another size is another machine.
    run(&site, "true");
    run(&site, "true");
    assert_eq!(memories(&site).len(), 1);
    let more = ["run", "--rm", "--isolation", "vm", "--memory", "1280MiB"];
    let more = || site.run(&[&more[..], &["tools", "cat", "/proc/meminfo"]].concat());
    assert_eq!(total(&more().ok()), total(&more().ok()));
    assert_eq!(memories(&site).len(), 2);
    assert!(total(&more().ok()) > 1100 << 10, "it has its own size");

    // They are given back with what no image needs.
    let freed = site.run(&["image", "prune"]).ok();
    assert!(freed.contains("freed "), "{freed}");
    assert_eq!(memories(&site), [] as [PathBuf; 0]);
}

/// Reads how many KiB of memory there are.
fn total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn whoever_wants_no_machine_from_memory_says_so() {
    requires!("guest");
    let site = site(&["true"]);
    let settings = site.path().join("hyperion.toml");
    fs::write(settings, "warm_machines = false\n").expect("written");
    for _ in 0..2 {
        let words = ["run", "--rm", "--isolation", "vm", "tools", "true"];
        let mut command = site.command(&words);
        let done = command.current_dir(site.path()).output().expect("ran");
        assert!(done.status.success(), "{done:?}");
    }
    assert!(!site.root().join("warm").exists());
}
