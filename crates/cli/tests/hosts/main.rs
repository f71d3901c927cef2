//! Whole hosts of another kind, booted for a list of checks: another kernel,
//! another layout of cgroups, no libraries.
//!
//! The checks are shell scripts that run in the guest and print `ok NAME` or
//! `not ok NAME` for each; all that are listed here must be there and be ok.

use std::process::Command;
use std::time::Duration;

use hyperion_testkit::{Guest, TestDir, hyperion_binary};

/// Many times what it takes: others may be at work.
const LIMIT: Duration = Duration::from_secs(500);

/// Boots a guest with `hyperion` and a script in it, and looks at what it says.
fn all_pass(guest: Guest, script: &str, checks: &[&str]) {
    let dir = TestDir::new();
    let stripped = dir.join("hyperion");
    let done = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(hyperion_binary())
        .status()
        .expect("strip starts");
    assert!(done.success(), "strip: {done}");
    let binary = std::fs::read(stripped).expect("the stripped binary");
    let said = guest
        .file("/bin/hyperion", 0o755, &binary)
        .file("/checks/lib.sh", 0o644, include_bytes!("lib.sh"))
        .file("/checks/run", 0o755, script.as_bytes())
        .run("/checks/run", LIMIT);
    let all = said.join("\n");
    assert!(!all.contains("not ok "), "{all}");
    let passed: Vec<&str> = said.iter().filter_map(|l| l.strip_prefix("ok ")).collect();
    assert_eq!(passed, checks, "{all}");
}

#[test]
fn a_host_with_cgroup_version_2_alone_limits_jobs_of_root_and_of_users_with_a_group() {
    hyperion_testkit::requires!("guest", "command:strip");
    let checks = [
        "the binary copied alone runs at both levels",
        "root's containers have ids of their own",
        "where ids cannot be mapped root is told so and gets a container",
        "a container is not put up in a chroot, which it could leave",
        "an image of the store is mounted",
        "limits of root hold: process",
        "usage of root is counted: process",
        "a job of root is looked after: process",
        "a killed supervisor of root leaves nothing: process",
        "limits of root hold: container",
        "usage of root is counted: container",
        "a job of root is looked after: container",
        "a killed supervisor of root leaves nothing: container",
        "a container sees its own group and cannot write to it",
        "a job in a job keeps the limits of the outer one",
        "root of a container limits jobs inside it",
        "a user of the queue is held to what the own jobs have",
        "nothing of root is left",
        "ben without a delegated group runs jobs at both levels",
        "ben without a delegated group is refused every limit",
        "ben without a delegated group has usage from the processes",
        "doctor tells ben what to do",
        "ada without a delegated group runs jobs at both levels",
        "ada without a delegated group is refused every limit",
        "ada without a delegated group has usage from the processes",
        "doctor tells ada what to do",
        "ada starts four limited jobs at once",
        "limits of ada hold: process",
        "usage of ada is counted: process",
        "a job of ada is looked after: process",
        "a killed supervisor of ada leaves nothing: process",
        "limits of ada hold: container",
        "usage of ada is counted: container",
        "a job of ada is looked after: container",
        "a killed supervisor of ada leaves nothing: container",
        "a container of ada sees its own group",
        "doctor calls a delegated group of ada usable",
        "nothing of ada is left",
        "ben starts four limited jobs at once",
        "limits of ben hold: container",
        "usage of ben is counted: container",
        "a job of ben is looked after: container",
        "a killed supervisor of ben leaves nothing: container",
        "a container of ben sees its own group",
        "doctor calls a delegated group of ben usable",
        "nothing of ben is left",
        "the group of ada holds her shells and no job",
        "limits hold in a scope of the user manager",
        "a limit whose controller is not delegated is refused",
        "a group that is delegated by half is left as it is",
        "no leaf is left in it",
        "version 2 is used beside net_cls of version 1",
        "root without cgroups runs jobs and is refused limits",
        "ben without cgroups is refused limits",
        "nothing is left without cgroups",
    ];
    all_pass(Guest::new(), include_str!("cgroup_v2.sh"), &checks);
}

#[test]
fn a_host_without_a_disk_and_with_cgroup_version_1_alone_limits_jobs_of_root() {
    hyperion_testkit::requires!("guest", "command:strip");
    let checks = [
        "jobs run at both levels",
        "a container cannot leave its root",
        "doctor finds version 1",
        "limits of root hold: process",
        "a killed supervisor of root leaves nothing: process",
        "limits of root hold: container",
        "a killed supervisor of root leaves nothing: container",
        "ben is refused every limit",
        "nothing is left",
    ];
    let guest = Guest::new().without_disk();
    all_pass(guest, include_str!("diskless.sh"), &checks);
}

#[test]
fn a_host_whose_kvm_boots_guests_is_found_and_remembered() {
    hyperion_testkit::requires!("guest", "command:strip");
    let checks = [
        "a guest boots",
        "it is remembered",
        "it is tried again when asked",
        "ben without the right is told how to get it",
        "ada in the group may",
        "without the module there is no kvm",
    ];
    // With two, QEMU 7.2 loses interrupts once in a hundred guests of its guest.
    let guest = Guest::new().without_disk().with_one_processor();
    all_pass(guest, include_str!("kvm.sh"), &checks);
}
