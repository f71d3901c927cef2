//! Disks that share what lies below them.

use std::fs;
use std::path::PathBuf;

use hyperion_testkit::{requires, wait_until};
use rustix::process::Signal;

use crate::machines::{folder, show, vm};
use crate::site::{LONG, Running, Site, files_below};

pub(crate) fn qemu_io(file: &str, what: &str) {
    let output = std::process::Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", what, file])
        .output()
        .expect("qemu-io runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // It ends well where a pattern is another one, too.
    assert!(
        output.status.success() && !said.contains("failed"),
        "{what}: {output:?}"
    );
}

/// The file that a machine writes its first disk to.
pub(crate) fn top(site: &Site, name: &str) -> String {
    let seen = show(site, name);
    let file = seen["definition"]["disks"][0]["source"]["file"].as_str();
    file.expect("a file").to_owned()
}

pub(crate) fn check(file: &str) {
    let output = std::process::Command::new("qemu-img")
        .args(["check", "-q", file])
        .output()
        .expect("qemu-img runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_clone_shares_what_was_written_and_each_goes_on_by_itself() {
    requires!(
        "command:qemu-img",
        "command:qemu-io",
        "command:qemu-system-x86_64"
    );
    let site = Site::new();
    vm(
        &site,
        &["create", "ewe", "--memory", "32MiB", "--disk", "10GiB"],
    )
    .ok();
    qemu_io(&top(&site, "ewe"), "write -P 1 0 8M");
    vm(&site, &["clone", "ewe", "dolly"]).ok();
    let (ewe, dolly) = (top(&site, "ewe"), top(&site, "dolly"));
    let seen = show(&site, "dolly");
    let below = &seen["disks"][0]["below"][0];
    assert!(
        below["bytes"].as_u64().is_some_and(|b| b >= 8 << 20),
        "{seen}"
    );
    assert_eq!(below["machines"], serde_json::json!(["dolly", "ewe"]));
    let own = &seen["disks"][0]["content"];
    assert!(
        own["bytes"].as_u64().is_some_and(|b| b <= 1 << 20),
        "{seen}"
    );

    // Each sees what was, and its own.
    qemu_io(&ewe, "write -P 2 1M 1M");
    qemu_io(&dolly, "write -P 3 2M 2M");
    for (file, what) in [(&ewe, "read -P 1 2M 6M"), (&ewe, "read -P 2 1M 1M")] {
        qemu_io(file, what);
    }
    for (file, what) in [(&dolly, "read -P 1 0 2M"), (&dolly, "read -P 3 2M 2M")] {
        qemu_io(file, what);
    }
    // All that is done to disks is done to these.
    vm(&site, &["resize", "dolly", "--disk", "vda=11GiB"]).ok();
    vm(&site, &["snapshot", "dolly", "then"]).ok();
    qemu_io(&dolly, "write -P 4 0 1M");
    vm(&site, &["restore", "dolly", "then"]).ok();
    qemu_io(&dolly, "read -P 1 0 2M");
    check(&dolly);
    let ova = site.path().join("dolly.ova").display().to_string();
    vm(&site, &["export", "dolly", &ova, "--format", "ova"]).ok();
    vm(&site, &["import", &ova, "back", "--memory", "32MiB"]).ok();
    qemu_io(&top(&site, "back"), "read -P 3 2M 2M");
    // One of a clone's, with its snapshot; and one that shares nothing.
    vm(&site, &["clone", "dolly", "third"]).ok();
    assert_eq!(
        vm(&site, &["snapshot", "third", "--output", "quiet"]).ok(),
        "then"
    );
    vm(&site, &["clone", "ewe", "whole", "--full"]).ok();
    assert_eq!(
        show(&site, "whole")["disks"][0]["below"],
        serde_json::json!([])
    );
    vm(&site, &["clone", "ewe", "fifth"]).ok();
    assert_eq!(
        show(&site, "fifth")["definition"]["disks"][0]["backing"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    // Both run at once on what they share, and their disks are locked apart.
    for name in ["ewe", "fifth"] {
        vm(&site, &["start", name]).ok();
    }
    for name in ["ewe", "fifth"] {
        vm(&site, &["stop", "-t", "0s", name]).ok();
    }
    // A text from before would write to what is frozen.
    let mut command = site.command(&["vm", "edit", "ewe"]);
    command.env("EDITOR", "sed -i s/vda[.]2[.]qcow2/vda.1.qcow2/");
    crate::site::finish(command).refused("lies below it by now", "vda.2.qcow2");
    // What is shared is written by nobody, and is no image for others.
    let frozen = folder(&site, "ewe").join("disks/vda.1.qcow2");
    let frozen = frozen.display().to_string();
    vm(
        &site,
        &["create", "wolf", "--disk", &frozen, "--backing", &dolly],
    )
    .refused("lies on", "--backing");
    vm(&site, &["create", "wolf", "--image", &frozen])
        .refused("goes with machine ewe", "vm clone ewe");
    let first = folder(&site, "ewe").join("disks/vda.qcow2");
    let first = first.display().to_string();
    vm(
        &site,
        &["create", "wolf", "--disk", &frozen, "--backing", &first],
    )
    .ok();
    vm(&site, &["start", "wolf"]).refused("other machines lie on", "vm clone");
    vm(&site, &["delete", "wolf"]).ok();
    // The first goes, and nobody misses it.
    vm(&site, &["delete", "ewe"]).ok();
    for (name, what) in [
        ("fifth", "read -P 2 1M 1M"),
        ("third", "read -P 3 2M 2M"),
        ("whole", "read -P 1 2M 6M"),
    ] {
        qemu_io(&top(&site, name), what);
        check(&top(&site, name));
    }
    for name in ["dolly", "back", "third", "whole", "fifth"] {
        vm(&site, &["delete", name]).ok();
    }
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
}

#[test]
fn an_image_that_lies_on_others_is_taken_with_those_that_are_named() {
    requires!("command:qemu-img", "command:qemu-io");
    let site = Site::new();
    let path = |name: &str| site.path().join(name).display().to_string();
    let (base, top) = (path("base.qcow2"), path("top.qcow2"));
    let make = |words: &[&str]| {
        let status = std::process::Command::new("qemu-img").args(words).status();
        assert!(status.expect("qemu-img runs").success());
    };
    make(&["create", "-q", "-f", "qcow2", &base, "64M"]);
    qemu_io(&base, "write -P 1 0 1M");
    make(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "base.qcow2",
        "-F",
        "qcow2",
        &top,
    ]);
    qemu_io(&top, "write -P 2 1M 1M");
    vm(&site, &["create", "on", "--image", &top]).refused("as its header says", "--backing");
    vm(
        &site,
        &["create", "on", "--image", &top, "--backing", &base],
    )
    .ok();
    let backing = show(&site, "on")["definition"]["disks"][0]["backing"].take();
    assert_eq!(backing.as_array().map(Vec::len), Some(2), "{backing}");
    // As the machine sees it, and not as the header has it.
    let ova = path("on.ova");
    vm(&site, &["export", "on", &ova, "--format", "ova"]).ok();
    vm(&site, &["import", &ova, "flat"]).ok();
    let flat = self::top(&site, "flat");
    qemu_io(&flat, "read -P 1 0 1M");
    qemu_io(&flat, "read -P 2 1M 1M");
    for name in ["on", "flat"] {
        vm(&site, &["delete", name]).ok();
    }
    // One that lies on itself never ends.
    make(&[
        "rebase",
        "-u",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "top.qcow2",
        "-F",
        "qcow2",
        &base,
    ]);
    let words = [
        "create",
        "on",
        "--image",
        &top,
        "--backing",
        &base,
        "--backing",
        &top,
    ];
    vm(&site, &words).refused("lies on itself", "qemu-img rebase");
}

#[test]
fn a_clone_that_is_killed_anywhere_leaves_its_original_as_it_was() {
    requires!("command:qemu-img", "command:qemu-io");
    for point in ["layer-made", "disks-frozen", "clone-filled"] {
        let site = Site::new();
        vm(&site, &["create", "sheep", "--disk", "1GiB"]).ok();
        qemu_io(&top(&site, "sheep"), "write -P 1 0 2M");
        let mut killed = site.command(&["vm", "clone", "sheep", "lamb"]);
        killed.env("HYPERION_FAILPOINT", point);
        let done = crate::site::finish(killed);
        assert_ne!(done.code, 0, "{point}: {done:?}");
        vm(&site, &["show", "lamb"]).refused("no machine", "hyperion vm ls");
        qemu_io(&top(&site, "sheep"), "read -P 1 0 2M");
        qemu_io(&top(&site, "sheep"), "write -P 2 1M 1M");
        vm(&site, &["clone", "sheep", "lamb"]).ok();
        vm(&site, &["delete", "sheep"]).ok();
        qemu_io(&top(&site, "lamb"), "read -P 1 0 1M");
        qemu_io(&top(&site, "lamb"), "read -P 2 1M 1M");
        check(&top(&site, "lamb"));
        vm(&site, &["delete", "lamb"]).ok();
        let left = files_below(&site.root().join("machines"));
        assert_eq!(left, [] as [PathBuf; 0], "{point}");
    }
}

#[test]
fn copies_that_are_ended_halfway_leave_nothing() {
    requires!("command:qemu-img", "command:qemu-io");
    let site = Site::new();
    vm(&site, &["create", "large", "--disk", "4GiB"]).ok();
    qemu_io(&top(&site, "large"), "write -P 1 0 256M");
    let before = files_below(&site.root().join("machines"));
    let out = site.path().join("out");
    fs::create_dir(&out).expect("a folder");
    let ova = out.join("large.ova").display().to_string();
    let left = || fs::read_dir(&out).expect("a folder").count();
    let ends = |words: &[&str], begun: &dyn Fn() -> bool| {
        let running = Running::start(&site, &[&["vm"], words].concat());
        assert!(wait_until(LONG, begun), "{words:?} never begins");
        running.signal(Signal::INT);
        running.finish().expect_code(130);
    };
    ends(&["export", "large", &ova, "--format", "ova"], &|| {
        left() > 0
    });
    assert_eq!(left(), 0);
    let disk = top(&site, "large");
    let new = folder(&site, "taken");
    ends(&["import", &disk, "taken"], &|| {
        new.join("disks/vda.qcow2").exists()
    });
    assert!(!new.exists());
    assert_eq!(files_below(&site.root().join("machines")), before);
    vm(&site, &["delete", "large"]).ok();
}

#[test]
fn snapshots_beside_the_disks_are_taken_gone_back_to_and_thrown_away() {
    requires!("command:qemu-img", "command:qemu-io");
    let site = Site::new();
    // A disk that can hold none, and lies elsewhere.
    let raw = site.path().join("raw.img");
    fs::write(&raw, vec![1; 4 << 20]).expect("a file");
    let raw = raw.display().to_string();
    vm(
        &site,
        &["create", "diary", "--disk", &raw, "--disk", "1GiB"],
    )
    .ok();
    vm(&site, &["snapshot", "diary", "first"]).refused("holds no snapshots", "qemu-img convert");
    vm(&site, &["snapshot", "diary", "first", "--external"]).ok();
    vm(&site, &["snapshot", "diary", "first", "--external"]).refused("already", "--delete");
    qemu_io(&top(&site, "diary"), "write -P 2 0 1M");
    vm(&site, &["snapshot", "diary", "second", "--external"]).ok();
    qemu_io(&top(&site, "diary"), "write -P 3 0 1M");
    let listed = || vm(&site, &["snapshot", "diary", "--output", "quiet"]).ok();
    assert_eq!(listed(), "first\nsecond");
    for (tag, what) in [("first", "read -P 1 0 2M"), ("second", "read -P 2 0 1M")] {
        vm(&site, &["restore", "diary", tag]).ok();
        qemu_io(&top(&site, "diary"), what);
        check(&top(&site, "diary"));
    }
    // A clone has what is, and no record of what was.
    qemu_io(&top(&site, "diary"), "write -P 4 2M 2M");
    vm(&site, &["clone", "diary", "copy"]).ok();
    vm(&site, &["snapshot", "copy", "--output", "quiet"]).ok();
    qemu_io(&top(&site, "copy"), "read -P 4 2M 2M");
    // Killed in between: a layer more, and nothing lost.
    let mut killed = site.command(&["vm", "snapshot", "diary", "third", "--external"]);
    killed.env("HYPERION_FAILPOINT", "snapshot-frozen");
    assert_ne!(crate::site::finish(killed).code, 0);
    assert_eq!(listed(), "first\nsecond");
    qemu_io(&top(&site, "diary"), "read -P 4 2M 2M");
    // What nobody needs any more is removed, and the user's own file is not.
    for tag in ["first", "second"] {
        vm(&site, &["snapshot", "diary", tag, "--delete"]).ok();
    }
    vm(&site, &["restore", "diary", "first"]).refused("no snapshot first", "lists them");
    qemu_io(&top(&site, "diary"), "read -P 4 2M 2M");
    let own = fs::read_dir(folder(&site, "diary").join("disks")).expect("a folder");
    let used = show(&site, "diary")["disks"].to_string();
    for file in own.flatten().map(|e| e.path().display().to_string()) {
        assert!(used.contains(&file), "{file} is left in {used}");
    }
    for name in ["diary", "copy"] {
        vm(&site, &["delete", name]).ok();
    }
    assert!(
        fs::read(&raw).expect("there") == vec![1; 4 << 20],
        "never written to"
    );
}
