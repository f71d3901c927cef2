//! `hyperion doctor` from the outside.

use hyperion_testkit::{TestDir, hyperion};
use serde_json::Value;

fn json(home: &TestDir, words: &[&str]) -> Value {
    let out = hyperion(home.path())
        .args(words)
        .output()
        .expect("hyperion starts");
    assert!(out.status.success(), "{words:?}: {out:?}");
    serde_json::from_slice(&out.stdout).expect("standard output is one JSON document")
}

#[test]
fn every_check_is_an_object_of_five_texts() {
    let home = TestDir::new();
    let checks = json(&home, &["doctor", "--output", "json"]);
    let checks = checks.as_array().expect("a list");
    assert!(checks.len() > 30);
    for check in checks {
        let check = check.as_object().expect("an object");
        let keys: Vec<&str> = check.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["consequence", "evidence", "fix", "name", "verdict"],
            "in any order"
        );
        let verdict = check["verdict"].as_str().expect("a text");
        assert!(["ok", "limited", "missing", "unknown"].contains(&verdict));
    }
}

#[test]
fn a_foreign_tree_is_examined_without_this_hosts_programs() {
    let home = TestDir::new();
    let root = home.path().join("node");
    std::fs::create_dir_all(root.join("proc/xen")).expect("a folder");
    std::fs::write(root.join("proc/xen/capabilities"), "control_d\n").expect("a file");
    let root = root.to_str().expect("a path of text");
    let words = [
        "doctor",
        "--sysroot",
        root,
        "--output",
        "json",
        "xen",
        "mpi",
    ];
    let checks = json(&home, &words);
    assert_eq!(checks[0]["name"], "xen");
    assert!(
        checks[0]["evidence"]
            .as_str()
            .expect("a text")
            .contains("dom0")
    );
    assert_eq!(checks[1]["verdict"], "missing");
}

#[test]
fn the_inventory_counts_what_the_kernel_counts() {
    let home = TestDir::new();
    let inventory = json(&home, &["doctor", "--inventory", "--output", "json"]);
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").expect("readable");
    assert_eq!(inventory["topology"]["online"], online.trim());
    assert!(inventory["memory"]["total"].as_u64() > Some(0));
}

#[test]
fn people_get_lines_of_80_columns_and_an_unknown_check_is_refused() {
    let home = TestDir::new();
    let out = hyperion(home.path())
        .arg("doctor")
        .output()
        .expect("hyperion starts");
    let text = String::from_utf8(out.stdout).expect("text");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "colours are for terminals");
    let out = hyperion(home.path())
        .args(["doctor", "cgroup"])
        .output()
        .expect("hyperion starts");
    assert_eq!(out.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&out.stderr).contains("did you mean \"cgroups\"?"));
}
