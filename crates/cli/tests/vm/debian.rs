//! Debian as others install it, on a disk of its own: one boot, which takes about
//! a minute where it is emulated.

use std::fs;
use std::process::Command;

use hyperion_testkit::{Done, disk_image, requires, wait_until};

use crate::machines::{show, vm};
use crate::site::{LONG, Site};

#[test]
fn a_debian_disk_boots_and_lets_in_whom_cloud_init_was_told() {
    requires!(
        "disk-image",
        "command:qemu-img",
        "command:qemu-system-x86_64",
        "command:ssh",
        "command:ssh-keygen"
    );
    let site = Site::new();
    let key = site.path().join("key").display().to_string();
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", &key])
        .status();
    assert!(made.expect("it runs").success());
    let public = format!("{key}.pub");
    let image = disk_image().display().to_string();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("bound").port()
    };
    let publish = format!("{port}:22");
    // As root two folders of this host's, one of them only to be read.
    let root = rustix::process::geteuid().is_root();
    let (data, fixed) = (site.path().join("data"), site.path().join("fixed"));
    for folder in [&data, &fixed] {
        fs::create_dir(folder).expect("a folder");
        fs::write(folder.join("here"), "from the host").expect("a file");
    }
    let (data_tag, fixed_tag) = (
        format!("{}:data", data.display()),
        format!("{}:fixed:ro", fixed.display()),
    );
    let shares = ["--share", &data_tag, "--share", &fixed_tag];
    let words = [
        "create",
        "debian",
        "--image",
        &image,
        "--memory",
        "512MiB",
        "--user",
        "ana",
        "--ssh-key",
        &public,
        "-p",
        &publish,
        "--start",
    ];
    vm(
        &site,
        &[&words[..], if root { &shares } else { &[] }].concat(),
    )
    .ok();
    // A boot takes minutes where much else is emulated at the same time.
    let patiently = |words: &[&str]| -> Done {
        let output = site.command(&[&["vm"], words].concat()).output();
        output.expect("it runs").into()
    };
    let ssh = |words: &[&str]| {
        let first = ["ssh", "debian", "--wait", "7m", "-i", &key, "--"];
        patiently(&[&first[..], words].concat())
    };
    // In by the key alone, as the user that was asked for, who may become root.
    assert_eq!(ssh(&["sudo", "-n", "id", "-u"]).ok(), "0");
    assert_eq!(ssh(&["hostname; whoami"]).ok(), "debian\nana");
    ssh(&["exit", "7"]).expect_code(7);
    if root {
        let script = "sudo mount -t virtiofs data /mnt && sudo mount -t virtiofs fixed /srv &&
            cat /mnt/here && echo back | sudo tee /mnt/there && cat /srv/here && sudo touch /srv/there";
        let told = ssh(&[script]);
        assert_eq!(told.out, "from the hostback\nfrom the host", "{told:?}");
        assert!(told.err.contains("Read-only file system"), "{told:?}");
        let there = fs::read_to_string(data.join("there"));
        assert_eq!(there.expect("written by the guest"), "back\n");
    }
    // Its own agent, as root: what it says comes while it runs.
    let exec = |words: &[&str]| {
        let first = ["exec", "--wait", "2m", "debian", "--"];
        patiently(&[&first[..], words].concat())
    };
    let said = exec(&["sh", "-c", "echo out; echo err >&2; exit 3"]).expect_code(3);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
    // Nothing is left but what this one writes to.
    let folders = exec(&["sh", "-c", "ls -d /tmp/.hyperion-exec-* | wc -l"]).ok();
    assert_eq!(folders, "1");
    let disk = show(&site, "debian")["disks"][0].take();
    assert!(disk["content"]["bytes"].as_u64() < disk["below"][0]["bytes"].as_u64());
    // Its file systems stand still for a moment, and go on.
    // An agent that much else keeps from its processor may be late.
    let frozen = (0..10).any(|number| {
        let name = format!("then{number}");
        let taken = patiently(&["snapshot", "debian", &name, "--external"]);
        assert_eq!(taken.code, 0, "{taken:?}");
        taken.err.contains("frozen for a moment")
    });
    assert!(frozen, "the agent never answered in time");
    patiently(&["clone", "debian", "twin"]).ok();
    exec(&["sh", "-c", "echo on > /root/on && sync"]).ok();
    // It starts anew by itself, and what it has just written is on its disk: it has no journal.
    let boot = ["cat", "/proc/sys/kernel/random/boot_id"];
    let before = exec(&["sh", "-c", "echo late > /root/late; cat $0", boot[1]]).ok();
    let qemu = show(&site, "debian")["running"]["qemu"].take();
    patiently(&["reboot", "debian"]).ok();
    let anew = || {
        let now = exec(&boot);
        now.code == 0 && now.out.trim() != before
    };
    assert!(wait_until(4 * LONG, anew), "it never comes back");
    assert_eq!(exec(&["cat", "/root/late"]).ok(), "late");
    assert_eq!(show(&site, "debian")["running"]["qemu"], qemu);
    // It hears the button, and is gone by itself.
    patiently(&["stop", "-t", "5m", "debian"]).ok();
    assert_eq!(
        show(&site, "debian")["end"]["why"],
        "the guest switched itself off"
    );
    for name in ["debian", "twin"] {
        crate::clones::check(&crate::clones::top(&site, name));
        vm(&site, &["delete", name]).ok();
    }
    assert!(fs::metadata(disk_image()).is_ok(), "the image stays");
}
