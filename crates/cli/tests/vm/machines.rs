//! Machines that stay: made, started, looked at, killed, removed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use hyperion_isolation::vm::kernel::Kernels;
use hyperion_testkit::{Done, guest_cache, hyperion_binary, requires, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::site::{LONG, Site, files_below, wait_gone};

/// libvirt's XML as one of the sources has it, with all its mistakes.
const SOURCE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../formats/tests/domain/fixtures/myvm.xml"
);

pub(crate) fn vm(site: &Site, words: &[&str]) -> Done {
    site.run(&[&["vm"], words].concat())
}

pub(crate) fn show(site: &Site, name: &str) -> Value {
    serde_json::from_str(&vm(site, &["show", name]).ok()).expect("JSON")
}

pub(crate) fn pid(value: &Value) -> Pid {
    let number = value.as_i64().and_then(|n| i32::try_from(n).ok());
    number.and_then(Pid::from_raw).expect("a process")
}

pub(crate) fn folder(site: &Site, name: &str) -> PathBuf {
    site.root().join("machines").join(name)
}

#[test]
fn a_domain_xml_is_refused_repaired_defined_and_written_again() {
    let site = Site::new();
    let bomb = site.path().join("bomb.xml").display().to_string();
    fs::write(
        &bomb,
        "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain/>",
    )
    .expect("written");
    vm(&site, &["define", &bomb]).refused("document types", "nothing that it names was opened");
    let strict = vm(&site, &["define", SOURCE]).refused("10 mistakes", "--lenient");
    assert!(strict.err.contains("10. line 12: "), "{strict:?}");
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
    let lenient = vm(&site, &["define", "--lenient", SOURCE]).expect_code(0);
    assert_eq!(lenient.out, "myvm\n");
    for line in [
        "10. line 12: ",
        "+    <interface type='user'>",
        "note: line 3: ",
    ] {
        assert!(lenient.err.contains(line), "no {line:?} in {lenient:?}");
    }
    let table = vm(&site, &["ls", "--all"]).ok();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec!["Id", "Name", "State"],
            vec!["-", "myvm", "shut", "off"]
        ]
    );
    assert_eq!(vm(&site, &["ls", "--output", "quiet"]).ok(), "");
    let xml = site.path().join("again.xml");
    fs::write(&xml, vm(&site, &["export", "myvm"]).ok()).expect("a file");
    let again = xml.display().to_string();
    vm(&site, &["define", &again]).refused("already", "hyperion vm delete myvm");
    vm(&site, &["delete", "myvm"]).ok();
    vm(&site, &["define", &again]).ok();
    assert_eq!(
        show(&site, "myvm")["definition"]["memory"]["size"],
        4_096_000_000_u64
    );
    vm(&site, &["delete", "myvm"]).ok();
}

#[test]
fn a_machine_lives_from_flags_to_its_end_and_leaves_nothing() {
    requires!("guest", "command:qemu-img");
    let site = Site::new();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("bound").port()
    };
    let publish = format!("127.0.0.1:{port}:22");
    let words = [
        "create",
        "box",
        "--memory",
        "128MiB",
        "--vcpus",
        "1",
        "--disk",
        "1GiB",
        "--os-variant",
        "debian12",
        "--vnc",
        "-p",
        &publish,
        "--start",
    ];
    assert_eq!(vm(&site, &words).ok(), "box");
    let seen = show(&site, "box");
    assert_eq!(seen["state"], "running");
    let qemu = pid(&seen["running"]["qemu"]);
    let disk = folder(&site, "box").join("disks/vda.qcow2");
    assert!(fs::metadata(&disk).expect("made").len() < 1 << 20, "thin");
    // One may write to a disk at a time.
    let taken = disk.display().to_string();
    vm(&site, &["create", "thief", "--disk", &taken]).ok();
    vm(&site, &["start", "thief"]).refused("Failed to get \"write\" lock", "one may write");
    vm(&site, &["delete", "thief"]).ok();
    assert!(disk.exists(), "a disk that lies elsewhere is left alone");

    vm(&site, &["pause", "box"]).ok();
    assert_eq!(show(&site, "box")["state"], "paused");
    vm(&site, &["resume", "box"]).ok();
    assert_eq!(show(&site, "box")["state"], "running");
    // A viewer is greeted, and a port leads in.
    let mut screen = UnixStream::connect(vm(&site, &["vnc", "box"]).ok()).expect("a screen");
    let mut greeting = [0; 12];
    screen.read_exact(&mut greeting).expect("greeted");
    assert_eq!(&greeting, b"RFB 003.008\n");
    screen.write_all(&greeting).expect("answered");
    drop(screen);
    TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    let picture = site.path().join("box.png");
    let to = picture.display().to_string();
    vm(&site, &["screenshot", "box", &to]).ok();
    assert!(fs::read(&picture).expect("written").starts_with(b"\x89PNG"));
    // Its button is pressed; nothing in it would hear anything else, so it is switched off.
    vm(&site, &["reboot", "--force", "box"]).ok();
    assert_eq!(pid(&show(&site, "box")["running"]["qemu"]), qemu);
    vm(&site, &["reboot", "--time", "0s", "box"]).ok();
    wait_gone(qemu);
    let seen = show(&site, "box");
    assert_eq!(seen["state"], "running");
    let (keeper, qemu) = (
        pid(&seen["running"]["keeper"]),
        pid(&seen["running"]["qemu"]),
    );
    TcpStream::connect(("127.0.0.1", port)).expect("the port is open");

    vm(&site, &["delete", "box"]).refused("is running", "hyperion vm stop box");
    // Nothing in it would hear a request to shut down.
    vm(&site, &["stop", "-t", "0s", "box"]).ok();
    wait_gone(qemu);
    wait_gone(keeper);
    assert_eq!(show(&site, "box")["end"]["why"], "it was switched off");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    vm(&site, &["stop", "box"]).refused("is not running", "hyperion vm start box");

    vm(&site, &["start", "box"]).ok();
    let qemu = pid(&show(&site, "box")["running"]["qemu"]);
    kill_process(qemu, Signal::KILL).expect("it runs");
    assert!(wait_until(LONG, || show(&site, "box")["state"] == "crashed"));
    assert_eq!(
        show(&site, "box")["end"]["why"],
        "QEMU was killed by SIGKILL"
    );
    // One that hears nothing any more is stopped all the same.
    vm(&site, &["start", "box"]).ok();
    let qemu = pid(&show(&site, "box")["running"]["qemu"]);
    kill_process(qemu, Signal::STOP).expect("it runs");
    vm(&site, &["stop", "-t", "0s", "box"]).ok();
    wait_gone(qemu);
    // Whoever keeps it is killed: the machine goes with it, and can be started again.
    vm(&site, &["start", "box"]).ok();
    let running = show(&site, "box")["running"].take();
    kill_process(pid(&running["keeper"]), Signal::KILL).expect("it runs");
    wait_gone(pid(&running["qemu"]));
    let seen = show(&site, "box");
    assert_eq!(seen["state"], "crashed");
    assert_eq!(seen["why"], "the process that kept it was killed");
    // So does the whole host, which tells itself apart by this.
    let record = folder(&site, "box").join("running.json");
    let text = fs::read_to_string(&record).expect("a record");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a name");
    fs::write(&record, text.replace(boot.trim(), "another")).expect("written");
    let seen = show(&site, "box");
    assert_eq!(seen["state"], "crashed");
    assert_eq!(seen["why"], "the host went down while it ran");
    vm(&site, &["start", "box"]).ok();
    vm(&site, &["delete", "--force", "box"]).ok();
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
}

#[test]
fn a_guest_boots_speaks_on_its_console_and_switches_itself_off() {
    requires!("guest");
    let site = Site::new();
    let package = guest_cache().join("kernel.deb").display().to_string();
    let release = site
        .run(&["vm", "kernel", "install", "--deb", &package])
        .ok();
    let kernel = Kernels::new(&site.root())
        .find(&release)
        .expect("installed");
    let image = kernel.boot_image().display().to_string();
    // Hyperion's own first process, which finds no host to talk to.
    let initrd = kernel.initramfs(&hyperion_binary()).expect("made");
    let initrd = initrd.display().to_string();
    let words = [
        "create",
        "brief",
        "--memory",
        "512MiB",
        "--kernel",
        &image,
        "--initrd",
        &initrd,
        "--append",
        "console=ttyS0 quiet",
        "--start",
    ];
    vm(&site, &words).ok();
    assert!(wait_until(LONG, || show(&site, "brief")["running"].is_null()));
    let seen = show(&site, "brief");
    assert_eq!(seen["state"], "shut off");
    assert_eq!(seen["end"]["why"], "the guest switched itself off");
    let said = fs::read_to_string(folder(&site, "brief").join("run/console.log"));
    let said = said.expect("its console");
    assert!(
        said.contains("opening the port to the host failed"),
        "{said}"
    );
    vm(&site, &["delete", "brief"]).ok();
}

#[test]
fn a_hundred_machines_come_and_go_and_leave_nothing() {
    requires!("command:qemu-img", "command:qemu-system-x86_64");
    let site = Site::new();
    for i in 0..100 {
        vm(
            &site,
            &["create", "passing", "--memory", "16MiB", "--disk", "1MiB"],
        )
        .ok();
        if i % 10 == 0 {
            vm(&site, &["start", "passing"]).ok();
        }
        vm(&site, &["delete", "--force", "passing"]).ok();
    }
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
    let left = || {
        let processes = fs::read_dir("/proc").expect("a folder").flatten();
        let words = processes.filter_map(|p| fs::read(p.path().join("cmdline")).ok());
        words
            .filter(|w| String::from_utf8_lossy(w).contains("guest=passing"))
            .count()
    };
    assert!(wait_until(LONG, || left() == 0));
}

#[test]
fn a_machine_is_cloned_resized_saved_restored_and_edited() {
    requires!("command:qemu-img", "command:qemu-system-x86_64");
    let site = Site::new();
    let words = [
        "create",
        "one",
        "--memory",
        "64MiB",
        "--disk",
        "10GiB",
        "--network",
        "user",
    ];
    vm(&site, &words).ok();
    vm(&site, &["snapshot", "one", "empty"]).ok();
    vm(&site, &["clone", "one", "two"]).ok();
    vm(&site, &["clone", "one", "two"]).refused("already", "hyperion vm delete two");
    let (one, two) = (show(&site, "one"), show(&site, "two"));
    assert_ne!(one["definition"]["uuid"], two["definition"]["uuid"]);
    let mac = |name: &str| {
        let xml = vm(&site, &["export", name]).ok();
        let line = xml.lines().find(|l| l.contains("<mac ")).map(str::to_owned);
        line.expect("a card with an address")
    };
    assert_ne!(
        mac("one"),
        mac("two"),
        "and each its own, whenever it is asked"
    );
    assert_eq!(mac("one"), mac("one"));

    // The clone has the snapshot, and changes nothing of the first.
    assert_eq!(
        vm(&site, &["snapshot", "two", "--output", "quiet"]).ok(),
        "empty"
    );
    vm(
        &site,
        &[
            "resize",
            "two",
            "--memory",
            "80MiB",
            "--vcpus",
            "2",
            "--disk",
            "vda=11GiB",
        ],
    )
    .ok();
    vm(&site, &["resize", "two", "--disk", "vda=1GiB"]).refused("only grows", "smaller");
    vm(&site, &["resize", "two", "--disk", "vdz=1GiB"]).refused("no disk vdz", "it has vda");
    assert_eq!(show(&site, "one")["definition"]["memory"]["size"], 64 << 20);
    assert_eq!(show(&site, "two")["definition"]["memory"]["size"], 80 << 20);

    vm(&site, &["start", "one"]).ok();
    vm(&site, &["clone", "one", "three"]).refused("holds snapshots itself", "shut off");
    vm(&site, &["snapshot", "one", "running"]).ok();
    vm(&site, &["snapshot", "one", "running"]).refused("already", "--delete");
    vm(&site, &["restore", "one", "running"]).ok();
    vm(&site, &["restore", "one", "never"]).refused("no snapshot never", "lists them");
    assert_eq!(show(&site, "one")["state"], "running");
    vm(&site, &["resize", "one", "--disk", "vda=12GiB"]).ok();
    let table = vm(&site, &["snapshot", "one"]).ok();
    assert_eq!(table.lines().count(), 3, "{table}");
    vm(&site, &["snapshot", "one", "running", "--delete"]).ok();
    vm(&site, &["stop", "-t", "0s", "one"]).ok();
    assert_eq!(
        vm(&site, &["snapshot", "one", "--output", "quiet"]).ok(),
        "empty"
    );
    vm(&site, &["restore", "one", "empty"]).ok();

    let edit = |editor: &str| {
        let mut command = site.command(&["vm", "edit", "one"]);
        command.env("EDITOR", editor);
        crate::site::finish(command)
    };
    edit("sed -i s/>64</>128</;s/>65536</>131072</").expect_code(0);
    assert_eq!(
        show(&site, "one")["definition"]["memory"]["size"],
        128 << 20
    );
    edit("sed -i s/memory/memroy/g").refused("mistakes", "hyperion vm edit");
    edit("false").refused("nothing is changed", "end the editor well");
    assert_eq!(
        show(&site, "one")["definition"]["memory"]["size"],
        128 << 20
    );
    for name in ["one", "two"] {
        vm(&site, &["delete", name]).ok();
    }
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
}

#[test]
fn a_guest_is_told_whom_to_let_in() {
    requires!("command:qemu-img");
    let site = Site::new();
    let key = site.path().join("id.pub");
    fs::write(&key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBtest me@here\n").expect("a file");
    let public = key.display().to_string();
    vm(
        &site,
        &[
            "create",
            "web",
            "--disk",
            "1MiB",
            "--user",
            "ana",
            "--ssh-key",
            &public,
        ],
    )
    .ok();
    let seed = fs::read(folder(&site, "web").join("disks/seed.iso")).expect("a seed");
    // ISO 9660: the volume's name stands at 40 of the descriptor in sector 16.
    assert_eq!(&seed[16 * 2048 + 40..][..6], b"cidata");
    let text = String::from_utf8_lossy(&seed);
    assert!(text.contains("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBtest me@here"));
    assert!(text.contains("ana"));
    vm(&site, &["ssh", "web"]).refused("is not running", "hyperion vm start web");
    vm(&site, &["delete", "web"]).ok();

    let private = site.path().join("id");
    fs::write(&private, "-----BEGIN OPENSSH PRIVATE KEY-----\n").expect("a file");
    vm(&site, &["create", "web", "--user", "ana"]).refused("ana has no key", "--ssh-key");
    let words = ["create", "web", "--ssh-key", &private.display().to_string()];
    vm(&site, &words).refused("is a private key", "ends in .pub");
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
}

#[test]
fn a_machine_with_uefi_comes_up_and_one_for_windows_has_what_windows_knows() {
    requires!(
        "command:qemu-img",
        "command:qemu-system-x86_64",
        "path:/usr/share/OVMF/OVMF_CODE_4M.fd"
    );
    let site = Site::new();
    let words = [
        "create",
        "firm",
        "--memory",
        "128MiB",
        "--uefi",
        "--os-variant",
        "win11",
        "--disk",
        "1GiB",
        "--bus",
        "sata",
        "--network",
        "user",
        "--nic",
        "e1000",
        "--vnc",
    ];
    let disc = site.path().join("drivers.iso");
    fs::write(&disc, crate::boot::speaking_disc("drivers")).expect("a file");
    let disc = disc.display().to_string();
    vm(
        &site,
        &[&words[..], &["--cdrom", &disc, "--cdrom", &disc, "--start"]].concat(),
    )
    .ok();
    let defined = show(&site, "firm")["definition"].take();
    assert_eq!(defined["clock"], "localtime");
    assert_eq!(defined["interfaces"][0]["model"], "e1000");
    let enlightened = defined["hyperv"]["features"].as_array().map(Vec::len);
    assert!(enlightened >= Some(8), "{defined}");
    let log = folder(&site, "firm").join("run/console.log");
    let said =
        || fs::read(&log).is_ok_and(|text| String::from_utf8_lossy(&text).contains("BdsDxe"));
    assert!(wait_until(4 * LONG, said), "the firmware says nothing");
    // What it has noted goes with a clone.
    vm(&site, &["stop", "-t", "0s", "firm"]).ok();
    vm(&site, &["clone", "firm", "copy"]).ok();
    let noted = |name| fs::read(folder(&site, name).join("uefi-variables.fd")).expect("there");
    assert!(noted("firm") == noted("copy"));
    for name in ["firm", "copy"] {
        vm(&site, &["delete", name]).ok();
    }
}
#[test]
fn machines_that_are_marked_start_together_and_systemd_takes_the_unit() {
    requires!(
        "command:qemu-img",
        "command:qemu-system-x86_64",
        "command:systemd-analyze"
    );
    let site = Site::new();
    for name in ["early", "broken", "late"] {
        vm(&site, &["create", name, "--memory", "16MiB"]).ok();
    }
    for name in ["early", "broken"] {
        vm(&site, &["autostart", name]).ok();
    }
    let marked = || vm(&site, &["ls", "--autostart", "--output", "quiet"]).ok();
    assert_eq!(marked(), "broken\nearly");
    vm(&site, &["clone", "early", "copy"]).ok();
    assert_eq!(marked(), "broken\nearly", "a clone is not marked");
    // One that cannot be started keeps nobody back.
    let words = ["create", "missing", "--disk", "1MiB"];
    vm(&site, &words).ok();
    vm(&site, &["autostart", "missing"]).ok();
    fs::remove_file(folder(&site, "missing").join("disks/vda.qcow2")).expect("there");
    vm(&site, &["autostart", "broken", "--off"]).ok();
    let started = vm(&site, &["start", "--autostart"]);
    assert_eq!(started.out, "early\n");
    assert!(
        started.err.contains("1 of 2 machines could not be started"),
        "{started:?}"
    );
    assert!(started.err.contains("missing"), "{started:?}");
    assert_eq!(vm(&site, &["ls", "--output", "quiet"]).ok(), "early");
    vm(&site, &["delete", "missing"]).ok();
    assert_eq!(vm(&site, &["start", "--autostart"]).ok(), "", "all run");
    assert_eq!(vm(&site, &["stop", "--all", "-t", "0s"]).ok(), "early");
    vm(&site, &["start"]).refused("required", "--help");

    let unit = site.path().join("hyperion-machines.service");
    fs::write(&unit, vm(&site, &["autostart", "--unit"]).ok() + "\n").expect("a file");
    let checked = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&unit)
        .output()
        .expect("it runs");
    assert!(
        checked.status.success() && checked.stderr.is_empty(),
        "{checked:?}"
    );
    for name in ["early", "broken", "late", "copy"] {
        vm(&site, &["delete", name]).ok();
    }
}
