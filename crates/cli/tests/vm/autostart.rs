//! Machines that start with their host, and a queue for its users: a Debian host boots,
//! and its systemd starts them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hyperion_testkit::{Guest, hyperion_binary, requires};

use crate::machines::{folder, vm};
use crate::site::Site;

/// Several times what it takes: others may be at work.
const LIMIT: Duration = Duration::from_secs(500);
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const UNIT: &str = "hyperion-machines.service";

#[test]
fn a_host_that_boots_starts_the_machines_that_are_marked_and_keeps_a_queue_for_its_users() {
    requires!(
        "guest",
        "command:strip",
        "command:ldd",
        "path:/usr/bin/qemu-system-x86_64",
        "path:/usr/share/seabios/bios-256k.bin"
    );
    let site = Site::new();
    // Emulated whatever the host can: there it is a machine in a machine.
    let xml = |name: &str| {
        format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>\
             <os><type arch='x86_64' machine='q35'>hvm</type></os><devices/></domain>"
        )
    };
    for name in ["early", "late"] {
        let file = site.path().join("domain.xml");
        fs::write(&file, xml(name)).expect("written");
        vm(&site, &["define", &file.display().to_string()]).ok();
    }
    vm(&site, &["autostart", "early"]).ok();
    // As on the host that is booted, where all lies at its usual place.
    let program = site.path().join("stripped");
    let mut strip = Command::new("strip");
    let stripped = strip
        .arg("-o")
        .arg(&program)
        .arg(hyperion_binary())
        .status();
    assert!(stripped.is_ok_and(|status| status.success()), "strip works");
    let unit = Command::new(&program)
        .args(["--root", "/var/lib/hyperion", "vm", "autostart", "--unit"])
        .output()
        .expect("it starts");
    let unit = String::from_utf8(unit.stdout).expect("text");
    let here = program.display().to_string();
    assert!(unit.contains(&here), "{unit}");
    let unit = unit.replace(&here, "/usr/bin/hyperion");

    let mut guest = Guest::new()
        .with_systemd()
        .program(QEMU)
        .file(
            "/usr/bin/hyperion",
            0o755,
            &fs::read(&program).expect("made"),
        )
        .file(
            &format!("/etc/systemd/system/{UNIT}"),
            0o644,
            unit.as_bytes(),
        )
        // What `systemctl enable` makes.
        .link(
            &format!("/etc/systemd/system/multi-user.target.wants/{UNIT}"),
            &format!("/etc/systemd/system/{UNIT}"),
        )
        .file("/checks/run", 0o755, include_bytes!("autostart.sh"));
    // The queue's, as they ship; what `systemctl enable` makes.
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    for name in ["hyperion.service", "hyperion.socket"] {
        let unit = fs::read(units.join(name)).expect("it ships");
        guest = guest.file(&format!("/etc/systemd/system/{name}"), 0o644, &unit);
    }
    guest = guest.link(
        "/etc/systemd/system/sockets.target.wants/hyperion.socket",
        "/etc/systemd/system/hyperion.socket",
    );
    // Its firmware, and what Debian's QEMU emulates with.
    for file in [
        "/usr/share/seabios/bios-256k.bin",
        "/usr/share/qemu/kvmvapic.bin",
        "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so",
    ] {
        if let Ok(content) = fs::read(file) {
            guest = guest.file(file, 0o644, &content);
        }
    }
    for name in ["early", "late"] {
        let definition = fs::read(folder(&site, name).join("machine.json")).expect("there");
        let place = format!("/var/lib/hyperion/machines/{name}/machine.json");
        guest = guest.file(&place, 0o600, &definition);
    }
    let said = guest.run("/checks/run", LIMIT);
    let fine = |line: &String| line.starts_with("ok ");
    let passed = said.iter().filter(|line| fine(line)).count();
    assert!(
        passed == 10 && said.last().is_some_and(|line| line == "done"),
        "{}",
        said.join("\n")
    );
}
