//! The suite on another host: Debian with systemd, whose cgroups are version 2
//! alone, as root in a service of the system's and as users with a group that is
//! delegated to them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use hyperion_testkit::{Guest, TestDir, count_inside, requires};

use crate::fixture::{probe, stripped};

/// Several times what it takes: others may be at work.
const LIMIT: Duration = Duration::from_secs(840);

/// What a guest cannot carry: it has no machines of its own.
fn is_for_a_guest(name: &str) -> bool {
    !name.starts_with("systemd::") && !name.contains("machine_of")
}

/// The tests that a caller other than root runs: those of that user's levels.
fn of_user(name: &str, modules: &[&str]) -> bool {
    let mut parts = name.rsplit("::").skip(1);
    let module = parts.next().unwrap_or_default();
    modules.contains(&module)
}

const WITH_IDS: [&str; 3] = ["container_of_a_user", "a_user", "from_a_user"];
const WITHOUT_IDS: [&str; 4] = [
    "process_of_a_user",
    "container_of_a_user_without_subordinate_ids",
    "a_user_without_subordinate_ids",
    "from_a_user_without_subordinate_ids",
];

#[test]
fn a_debian_host_with_systemd_and_cgroup_version_2_alone_keeps_the_contract() {
    requires!("guest", "command:strip", "command:gcc");
    let this = std::env::current_exe().expect("a running test has a path");
    let list = Command::new(&this)
        .args(["--list", "--format", "terse"])
        .output()
        .expect("it lists its tests");
    let list = String::from_utf8(list.stdout).expect("names are text");
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| is_for_a_guest(name))
        .collect();
    let of = |modules: &[&str]| -> Vec<&str> {
        let mine = names.iter().filter(|name| of_user(name, modules));
        mine.copied().collect()
    };
    // Each test once: what root tries as a user without a group is tried on other hosts.
    let users: Vec<&str> = WITH_IDS.into_iter().chain(WITHOUT_IDS).collect();
    let of_root = names.iter().filter(|name| !of_user(name, &users));
    let callers = [
        ("root", of_root.copied().collect()),
        ("hyperion-test", of(&WITH_IDS)),
        ("nobody", of(&WITHOUT_IDS)),
    ];

    let dir = TestDir::new();
    let suite = dir.join("suite");
    let mut strip = Command::new("strip");
    let stripped_well = strip.arg("-o").arg(&suite).arg(&this).status();
    assert!(stripped_well.is_ok_and(|s| s.success()), "strip works");
    let read = |path: &std::path::Path| fs::read(path).expect("readable");
    let mut guest = Guest::new()
        .with_systemd()
        .file("/usr/bin/hyperion", 0o755, &read(&stripped()))
        .file("/checks/suite", 0o755, &read(&suite))
        .file("/checks/probe", 0o755, &read(&probe()))
        .file("/checks/lock", 0o644, b"")
        .file("/checks/run", 0o755, include_bytes!("systemd.sh"));
    for (who, names) in &callers {
        let list = names.join("\n");
        guest = guest.file(&format!("/checks/{who}"), 0o644, list.as_bytes());
    }
    let said = guest.run("/checks/run", LIMIT);

    let told = Told::of(&said);
    count_inside(told.passed.len(), &told.skipped);
    let all = callers.iter().flat_map(|(who, names)| {
        let named = names.iter().map(move |name| format!("{who}: {name}"));
        named.chain([format!("{who} has the group that was given")])
    });
    let never: Vec<String> = all.filter(|name| !told.names.contains(name)).collect();
    assert!(
        told.failed.is_empty() && never.is_empty() && told.whole,
        "{}\n{} passed; nothing came of {never:?}",
        told.failed.join("\n"),
        told.passed.len()
    );
}

/// What the guest said of its tests.
#[derive(Default)]
struct Told {
    /// All of which anything was said.
    names: BTreeSet<String>,
    passed: Vec<String>,
    /// With reasons.
    skipped: Vec<(String, String)>,
    /// Line by line, with what they said.
    failed: Vec<String>,
    /// It came to its end.
    whole: bool,
}

impl Told {
    fn of(said: &[String]) -> Self {
        let mut told = Self::default();
        let mut lines = said.iter().peekable();
        while let Some(line) = lines.next() {
            // WHO: NAME[: MORE]; a check of the guest itself has no caller.
            let name = |rest: &str| {
                let mut parts = rest.splitn(3, ": ");
                let name: Vec<&str> = parts.by_ref().take(2).collect();
                (name.join(": "), parts.next().unwrap_or("").to_owned())
            };
            if let Some(rest) = line.strip_prefix("ok ") {
                told.names.insert(rest.to_owned());
                told.passed.push(rest.to_owned());
            } else if let Some(rest) = line.strip_prefix("skip ") {
                let (name, why) = name(rest);
                told.names.insert(name.clone());
                told.skipped.push((format!("on systemd, {name}"), why));
            } else if let Some(rest) = line.strip_prefix("not ok ") {
                told.names.insert(name(rest).0);
                told.failed.push(line.clone());
                while let Some(more) = lines.next_if(|line| line.starts_with("    ")) {
                    told.failed.push(more.clone());
                }
            }
        }
        told.whole = said.last().is_some_and(|line| line == "done");
        told
    }
}
