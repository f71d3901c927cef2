//! Disks of machines that run: frozen together, and shared by clones.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyperion_isolation::vm::qmp::Qmp;
use hyperion_testkit::{requires, wait_until};
use serde_json::json;

use crate::agent::{answering, channel};
use crate::clones::{check, qemu_io, top};
use crate::machines::{folder, show, vm};
use crate::site::{LONG, Site, files_below, finish};

const LIMIT: Duration = Duration::from_secs(60);

/// Writes to the first disk of a machine that runs, as its guest would.
fn write(site: &Site, name: &str, what: &str) {
    let socket = UnixStream::connect(folder(site, name).join("run/monitor"));
    let mut monitor = Qmp::connect(socket.expect("it runs"), LIMIT).expect("a monitor");
    let disk = "/machine/peripheral/dev-vda/virtio-backend";
    let said = monitor.monitor(&format!("qemu-io -d {disk} \"{what}\""));
    let said = said.expect("an answer");
    assert_eq!(said, "", "what it wrote is told elsewhere");
}

/// Answers in the place of a guest's agent; gives what it is told.
fn guest(site: &Site, name: &str) -> Arc<Mutex<Vec<String>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    answering(&channel(site, name), move |command, _| {
        heard.lock().expect("whole").push(command.to_owned());
        json!({"return": 2}).to_string()
    });
    told
}

fn stop(site: &Site, name: &str) {
    vm(site, &["stop", "-t", "0s", name]).ok();
}

#[test]
fn a_machine_that_runs_is_frozen_with_its_guest_or_as_after_a_power_cut() {
    requires!(
        "command:qemu-img",
        "command:qemu-io",
        "command:qemu-system-x86_64"
    );
    let site = Site::new();
    // The second disk holds no snapshots itself, and lies elsewhere.
    let raw = site.path().join("raw.img");
    std::fs::write(&raw, vec![7; 4 << 20]).expect("a file");
    let raw = raw.display().to_string();
    let words = ["create", "live", "--memory", "16MiB", "--disk", "1GiB"];
    vm(&site, &[&words[..], &["--disk", &raw, "--start"]].concat()).ok();
    write(&site, "live", "write -P 1 0 4M");
    vm(&site, &["clone", "live", "twin"]).refused("lies elsewhere", "copy");
    let told = guest(&site, "live");
    let frozen = vm(&site, &["snapshot", "live", "with", "--external"]);
    assert!(
        frozen
            .err
            .contains("2 file systems are frozen for a moment in the guest of live"),
        "{frozen:?}"
    );
    frozen.ok();
    let commands = || told.lock().expect("whole").clone();
    assert_eq!(commands(), ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]);
    assert_eq!(show(&site, "live")["state"], "running");
    write(&site, "live", "write -P 2 1M 1M");
    vm(&site, &["snapshot", "live", "with", "--external"]).refused("already", "--delete");
    // The guest's agent says no.
    std::fs::remove_file(folder(&site, "live").join("run/agent")).expect("there");
    let listener = folder(&site, "live").join("run/agent");
    answering(&listener, |_, _| {
        json!({"error": {"class": "GenericError", "desc": "not today"}}).to_string()
    });
    let cut = vm(&site, &["snapshot", "live", "without", "--external"]);
    assert!(
        cut.err.contains("as after a power cut") && cut.err.contains("not today"),
        "{cut:?}"
    );
    cut.ok();
    write(&site, "live", "write -P 3 0 1M");
    vm(&site, &["resize", "live", "--disk", "vda=2GiB"]).ok();
    let listed = vm(&site, &["snapshot", "live", "--output", "json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let content: Vec<_> = listed.as_array().into_iter().flatten().collect();
    assert_eq!(content[0]["content"], "file systems frozen");
    assert_eq!(content[1]["content"], "as after a power cut");
    // What was frozen is whole while the machine goes on.
    let below = folder(&site, "live").join("disks/vda.qcow2");
    check(&below.display().to_string());
    vm(&site, &["restore", "live", "with"]).refused("is running", "hyperion vm stop live");
    stop(&site, "live");
    check(&top(&site, "live"));
    for what in ["read -P 3 0 1M", "read -P 2 1M 1M", "read -P 1 2M 2M"] {
        qemu_io(&top(&site, "live"), what);
    }
    for (tag, what) in [("without", "read -P 1 0 1M"), ("with", "read -P 1 0 4M")] {
        vm(&site, &["restore", "live", tag]).ok();
        check(&top(&site, "live"));
        qemu_io(&top(&site, "live"), what);
    }
    // Thrown away while it runs, too, and nothing that it needs goes with it.
    vm(&site, &["start", "live"]).ok();
    for tag in ["with", "without"] {
        vm(&site, &["snapshot", "live", tag, "--delete"]).ok();
    }
    write(&site, "live", "write -P 4 0 1M");
    stop(&site, "live");
    qemu_io(&top(&site, "live"), "read -P 4 0 1M");
    qemu_io(&top(&site, "live"), "read -P 1 1M 3M");
    vm(&site, &["delete", "live"]).ok();
    assert!(std::fs::read(&raw).expect("there") == vec![7; 4 << 20]);
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
}

#[test]
fn a_clone_of_a_machine_that_runs_has_what_was_frozen_and_runs_beside_it() {
    requires!(
        "command:qemu-img",
        "command:qemu-io",
        "command:qemu-system-x86_64"
    );
    let site = Site::new();
    let words = [
        "create", "lives", "--memory", "16MiB", "--disk", "10GiB", "--start",
    ];
    vm(&site, &words).ok();
    write(&site, "lives", "write -P 1 0 8M");
    // Nobody answers in its guest.
    let made = vm(&site, &["clone", "lives", "twin"]);
    assert!(made.err.contains("no agent answers"), "{made:?}");
    made.ok();
    write(&site, "lives", "write -P 2 1M 1M");
    vm(&site, &["start", "twin"]).ok();
    write(&site, "twin", "write -P 3 2M 1M");
    // Once more, and one that shares nothing.
    vm(&site, &["clone", "lives", "third", "--full"]).ok();
    let below = show(&site, "third")["disks"][0]["below"].take();
    assert_eq!(below, json!([]));
    let below = show(&site, "twin")["disks"][0]["below"][0]["machines"].take();
    assert_eq!(below, json!(["lives", "twin"]));
    // Changed under its feet: what runs is not what would be frozen.
    let mut command = site.command(&["vm", "edit", "lives"]);
    let other = site.path().join("other.qcow2").display().to_string();
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", &other, "1G"])
        .status();
    assert!(made.expect("it runs").success());
    let script = format!("sed -i s,[^']*disks/vda.2.qcow2,{other},");
    command.env("EDITOR", script);
    finish(command).expect_code(0);
    for words in [
        &["snapshot", "lives", "x", "--external"][..],
        &["resize", "lives", "--disk", "vda=11GiB"],
    ] {
        vm(&site, words).refused("was changed since it was started", "hyperion vm stop lives");
    }
    for name in ["lives", "twin"] {
        stop(&site, name);
    }
    let frozen = folder(&site, "lives").join("disks/vda.1.qcow2");
    qemu_io(&frozen.display().to_string(), "read -P 2 1M 1M");
    for (name, what) in [
        ("twin", "read -P 1 0 2M"),
        ("twin", "read -P 3 2M 1M"),
        ("third", "read -P 2 1M 1M"),
        ("third", "read -P 1 2M 6M"),
    ] {
        qemu_io(&top(&site, name), what);
        check(&top(&site, name));
    }
    for name in ["lives", "twin", "third"] {
        vm(&site, &["delete", name]).ok();
    }
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
}

#[test]
fn whoever_is_killed_while_a_machine_is_frozen_loses_nothing_and_its_guest_goes_on() {
    requires!(
        "command:qemu-img",
        "command:qemu-io",
        "command:qemu-system-x86_64"
    );
    let points = [
        "live-defined",
        "live-frozen",
        "live-raised",
        "snapshot-frozen",
    ];
    for (number, point) in points.into_iter().enumerate() {
        let site = Site::new();
        let name = format!("killed{number}");
        let words = ["create", &name, "--memory", "16MiB", "--disk", "1GiB"];
        vm(
            &site,
            &[&words[..], &["--disk", "64MiB", "--start"]].concat(),
        )
        .ok();
        write(&site, &name, "write -P 1 0 4M");
        let told = guest(&site, &name);
        let mut killed = site.command(&["vm", "snapshot", &name, "then", "--external"]);
        killed.env("HYPERION_FAILPOINT", point);
        assert_ne!(finish(killed).code, 0, "{point}");
        // Another has let the guest go on.
        let goes = || {
            let told = told.lock().expect("whole");
            let count = |what| told.iter().filter(|c| **c == what).count();
            count("guest-fsfreeze-freeze") == count("guest-fsfreeze-thaw")
        };
        assert!(wait_until(LONG, goes), "{point}: {told:?}");
        assert_eq!(show(&site, &name)["state"], "running", "{point}");
        vm(&site, &["snapshot", &name, "--output", "quiet"]).ok();
        write(&site, &name, "write -P 2 1M 1M");
        stop(&site, &name);
        // By its definition it has all of it.
        qemu_io(&top(&site, &name), "read -P 1 0 1M");
        qemu_io(&top(&site, &name), "read -P 2 1M 1M");
        check(&top(&site, &name));
        vm(&site, &["start", &name]).ok();
        write(&site, &name, "write -P 3 2M 1M");
        vm(&site, &["snapshot", &name, "again", "--external"]).ok();
        write(&site, &name, "write -P 4 2M 1M");
        stop(&site, &name);
        vm(&site, &["restore", &name, "again"]).ok();
        qemu_io(&top(&site, &name), "read -P 3 2M 1M");
        check(&top(&site, &name));
        vm(&site, &["delete", &name]).ok();
        let left = files_below(&site.root().join("machines"));
        assert_eq!(left, [] as [PathBuf; 0], "{point}");
    }
}
