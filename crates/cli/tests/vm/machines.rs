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
    let (keeper, qemu) = (
        pid(&seen["running"]["keeper"]),
        pid(&seen["running"]["qemu"]),
    );
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
    vm(&site, &["reboot", "box"]).ok();

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
    vm(&site, &["clone", "one", "three"]).refused("is running", "hyperion vm stop one");
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

/// Namespaces that a sleeping process holds open: of mounts, and of networks.
pub(crate) struct Apart(std::process::Child);

impl Apart {
    pub(crate) fn new() -> Self {
        let script = "mount --make-rprivate / && echo there && exec sleep 600";
        let mut child = std::process::Command::new("unshare")
            .args(["-m", "-n", "sh", "-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = [0; 6];
        let out = child.stdout.as_mut().expect("a pipe");
        out.read_exact(&mut line).expect("it is there");
        Self(child)
    }

    pub(crate) fn run(&self, command: std::process::Command) -> Done {
        let mut inside = std::process::Command::new("nsenter");
        inside.args(["-t", &self.0.id().to_string(), "-m", "-n", "--"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside.env_clear();
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(key, value);
            }
        }
        inside.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        crate::site::finish(inside)
    }

    pub(crate) fn does(&self, program: &str, words: &[&str]) -> Done {
        let mut command = std::process::Command::new(program);
        command.args(words);
        self.run(command)
    }

    fn mount(&self, words: &[&str]) {
        self.does("mount", words).ok();
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_pauses_a_machine_which_goes_on_when_there_is_room() {
    requires!(
        "root",
        "command:unshare",
        "command:nsenter",
        "command:qemu-img",
        "command:qemu-system-x86_64"
    );
    let site = Site::new();
    let apart = Apart::new();
    let small = site.path().join("small");
    fs::create_dir(&small).expect("a folder");
    // Whoever QEMU becomes, the file comes to it open.
    let place = small.display().to_string();
    apart.mount(&["-t", "tmpfs", "-o", "size=6M", "none", &place]);
    let mut disk = crate::boot::writing(24);
    disk.resize(32 << 20, 0);
    let image = site.path().join("writes.img");
    fs::write(&image, disk).expect("a file");
    let (image, file) = (image.display().to_string(), format!("{place}/d.qcow2"));
    apart
        .does("qemu-img", &["convert", "-O", "qcow2", &image, &file])
        .ok();
    let vm = |words: &[&str]| apart.run(site.command(&[&["vm"], words].concat()));
    let show = || -> Value { serde_json::from_str(&vm(&["show", "brimful"]).ok()).expect("JSON") };
    vm(&[
        "create", "brimful", "--memory", "32MiB", "--disk", &file, "--start",
    ])
    .ok();
    assert!(wait_until(LONG, || show()["state"] == "paused"));
    let seen = show();
    assert_eq!(seen["stalls"][0]["target"], "vda");
    assert_eq!(seen["stalls"][0]["full"], true);
    let why = seen["why"].as_str().expect("a reason");
    let told = format!("there is no room for {file}. make room there, then: hyperion vm resume");
    assert!(why.contains(&told), "{why}");
    let table = vm(&["ls"]).expect_code(0);
    assert!(table.out.contains("paused (disk full)"), "{table:?}");
    assert!(
        table.err.contains("hyperion vm resume brimful"),
        "{table:?}"
    );
    vm(&["resume", "brimful"]).refused("there is no room for", "make room there");
    assert_eq!(show()["state"], "paused");

    apart.mount(&["-o", "remount,size=64M", &place]);
    assert_eq!(vm(&["resume", "brimful"]).ok(), "brimful");
    let log = folder(&site, "brimful").join("run/console.log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    assert!(
        wait_until(LONG, || !said().is_empty()),
        "the guest says nothing"
    );
    assert_eq!(said().trim_end_matches('\0'), "done");
    assert_eq!(show()["state"], "running");
    vm(&["delete", "--force", "brimful"]).ok();
    apart.does("qemu-img", &["check", "-q", &file]).ok();
}

#[test]
fn a_card_on_a_bridge_has_an_interface_of_its_own_which_goes_with_its_machine() {
    requires!(
        "root",
        "command:unshare",
        "command:nsenter",
        "command:ip",
        "path:/dev/net/tun",
        "command:qemu-system-x86_64"
    );
    let site = Site::new();
    let apart = Apart::new();
    let ip = |words: &[&str]| apart.does("ip", words).ok();
    ip(&["link", "add", "br-test", "type", "bridge"]);
    ip(&["link", "set", "br-test", "mtu", "4000", "up"]);
    // The name that would have been the first is somebody else's.
    ip(&["tuntap", "add", "hyp0", "mode", "tap"]);
    let ports = || -> Vec<String> {
        let text = ip(&["-o", "link", "show", "master", "br-test"]);
        let name = |line: &str| Some(line.split(": ").nth(1)?.to_owned());
        text.lines().filter_map(name).collect()
    };
    let vm = |words: &[&str]| apart.run(site.command(&[&["vm"], words].concat()));
    let words = ["create", "bridged", "--memory", "16MiB"];
    let cards = ["--network", "bridge=br-test", "--network", "bridge=br-test"];
    vm(&[&words[..], &cards].concat()).ok();
    let running = || -> Value {
        let text = vm(&["show", "bridged"]).ok();
        serde_json::from_str::<Value>(&text).expect("JSON")["running"].take()
    };
    let started = || {
        vm(&["start", "bridged"]).ok();
        let running = running();
        assert_eq!(running["interfaces"], serde_json::json!(["hyp1", "hyp2"]));
        assert_eq!(ports(), ["hyp1", "hyp2"]);
        running
    };
    let gone = || wait_until(LONG, || ports().is_empty());
    started();
    assert!(
        ip(&["link", "show", "br-test"]).contains("mtu 4000"),
        "as it was"
    );
    assert!(ip(&["link", "show", "hyp1"]).contains("UP"));
    vm(&["stop", "-t", "0s", "bridged"]).ok();
    assert!(gone(), "it ended");
    for killed in ["qemu", "keeper"] {
        let running = started();
        kill_process(pid(&running[killed]), Signal::KILL).expect("it runs");
        wait_gone(pid(&running["qemu"]));
        wait_gone(pid(&running["keeper"]));
        assert!(gone(), "{killed} was killed");
    }
    started();
    vm(&["start", "bridged"]).refused("is running", "hyperion vm stop");
    assert_eq!(ports().len(), 2);
    vm(&["delete", "--force", "bridged"]).ok();
    assert!(gone());
    assert!(ip(&["link", "show", "hyp0"]).contains("hyp0"), "left alone");

    for (bridge, why, hint) in [
        ("bridge=none", "no network bridge none", "type bridge"),
        ("bridge=lo", "lo is no bridge", "--network user"),
    ] {
        vm(&[&words[..], &["--network", bridge]].concat()).ok();
        vm(&["start", "bridged"]).refused(why, hint);
        vm(&["delete", "bridged"]).ok();
    }
    let links = ip(&["-o", "link", "show"]);
    assert!(!links.contains("hyp1"), "{links}");
}

#[test]
fn an_optical_disk_behind_http_boots_or_the_missing_package_is_named() {
    requires!("command:qemu-system-x86_64");
    let site = Site::new();
    let disc = crate::boot::speaking_disc("from afar");
    let server = hyperion_testkit::HttpServer::start(move |request, to| {
        let all = disc.len();
        let range = request.header("range").and_then(|range| {
            let (from, end) = range.strip_prefix("bytes=")?.split_once('-')?;
            let end = end.parse::<usize>().map_or(all, |end| (end + 1).min(all));
            Some((from.parse::<usize>().ok()?.min(end), end))
        });
        let (status, (from, end)) = match range {
            Some(range) => ("206 Partial Content", range),
            None => ("200 OK", (0, all)),
        };
        let length = end - from;
        write!(
            to,
            "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nContent-Length: {length}\r\n"
        )?;
        if range.is_some() {
            write!(
                to,
                "Content-Range: bytes {from}-{}/{all}\r\n",
                end.saturating_sub(1)
            )?;
        }
        write!(to, "Connection: close\r\n\r\n")?;
        if request.method == "GET" {
            to.write_all(&disc[from..end])?;
        }
        Ok(())
    });
    let create = |host: &str| {
        let url = format!("http://{host}/setup.iso");
        vm(
            &site,
            &["create", "afar", "--memory", "32MiB", "--cdrom", &url],
        )
        .ok();
    };
    create(&server.host());
    let start = vm(&site, &["start", "afar"]);
    if start.err.contains("Unknown driver") {
        start.refused("Unknown driver 'http'", "apt install qemu-block-extra");
        return;
    }
    start.ok();
    let log = folder(&site, "afar").join("run/console.log");
    let said = || fs::read_to_string(&log).is_ok_and(|text| text.contains("from afar"));
    assert!(wait_until(LONG, said), "it never speaks");
    vm(&site, &["delete", "--force", "afar"]).ok();
    drop(server);
    // Nobody listens there.
    create("127.0.0.1:1");
    vm(&site, &["start", "afar"]).refused("CURL: Error opening file", "accept-ranges");
    vm(&site, &["delete", "afar"]).ok();
}

#[test]
fn a_qemu_without_its_module_for_http_names_the_package() {
    let modules = "/usr/lib/x86_64-linux-gnu/qemu";
    requires!(
        "root",
        "command:unshare",
        "command:nsenter",
        "path:/usr/lib/x86_64-linux-gnu/qemu",
        "command:qemu-system-x86_64"
    );
    let site = Site::new();
    let apart = Apart::new();
    // Only what emulates processors is left.
    let kept = site.path().join("modules");
    fs::create_dir(&kept).expect("a folder");
    for module in fs::read_dir(modules).expect("a folder").flatten() {
        if module.file_name().to_string_lossy().starts_with("accel-") {
            fs::copy(module.path(), kept.join(module.file_name())).expect("copied");
        }
    }
    apart.mount(&["--bind", &kept.display().to_string(), modules]);
    let vm = |words: &[&str]| apart.run(site.command(&[&["vm"], words].concat()));
    vm(&[
        "create",
        "apart",
        "--memory",
        "32MiB",
        "--cdrom",
        "http://127.0.0.1:1/x.iso",
    ])
    .ok();
    vm(&["start", "apart"]).refused("Unknown driver 'http'", "apt install qemu-block-extra");
    vm(&["delete", "apart"]).ok();
}

#[test]
fn qemu_is_in_a_group_with_its_limits_which_goes_whoever_is_killed() {
    requires!("root", "cgroup:v1", "command:qemu-system-x86_64");
    let site = Site::new();
    let words = ["create", "grouped", "--memory", "64MiB", "--vcpus", "2"];
    vm(&site, &words).ok();
    let started = || {
        vm(&site, &["start", "grouped"]).ok();
        let running = show(&site, "grouped")["running"].take();
        let groups = running["group"]["groups"]
            .as_array()
            .expect("a list")
            .clone();
        let paths = groups
            .iter()
            .map(|g| PathBuf::from(g["path"].as_str().expect("a path")));
        (running, paths.collect::<Vec<_>>())
    };
    let gone = |paths: &[PathBuf]| wait_until(LONG, || !paths.iter().any(|path| path.exists()));
    let (running, paths) = started();
    assert!(!paths.is_empty());
    let of = |file: &str| -> String {
        let mut found = paths
            .iter()
            .filter_map(|path| fs::read_to_string(path.join(file)).ok());
        found
            .next()
            .unwrap_or_else(|| panic!("no {file}"))
            .trim()
            .to_owned()
    };
    let most: u64 = of("memory.limit_in_bytes").parse().expect("a number");
    assert!((64 << 20..2 << 30).contains(&most), "{most}");
    assert_eq!(of("pids.max"), "258");
    assert_eq!(of("cpu.cfs_quota_us"), "300000");
    let qemu = pid(&running["qemu"]).as_raw_pid().to_string();
    for path in &paths {
        let inside = fs::read_to_string(path.join("cgroup.procs")).expect("a list");
        assert_eq!(inside.trim(), qemu, "{}", path.display());
    }
    vm(&site, &["stop", "-t", "0s", "grouped"]).ok();
    assert!(gone(&paths), "it ended");

    let (running, paths) = started();
    kill_process(pid(&running["qemu"]), Signal::KILL).expect("it runs");
    assert!(gone(&paths), "QEMU was killed");
    // Nobody is left to do it: the next start does.
    let (running, left) = started();
    kill_process(pid(&running["keeper"]), Signal::KILL).expect("it runs");
    wait_gone(pid(&running["qemu"]));
    let (running, paths) = started();
    assert_eq!(left, paths, "the same name, and no mistake");
    kill_process(pid(&running["keeper"]), Signal::KILL).expect("it runs");
    wait_gone(pid(&running["qemu"]));
    vm(&site, &["delete", "grouped"]).ok();
    assert!(gone(&paths), "removed with the machine");
}

#[test]
fn a_network_of_a_users_goes_by_passt_which_ends_with_its_machine() {
    requires!(
        "root",
        "command:passt",
        "command:unshare",
        "command:nsenter",
        "command:ip",
        "command:ss",
        "command:qemu-system-x86_64"
    );
    let site = Site::new();
    let apart = Apart::new();
    let ip = |words: &[&str]| apart.does("ip", words).ok();
    let vm = |words: &[&str]| apart.run(site.command(&[&["vm"], words].concat()));
    let listens = || apart.does("ss", &["-Hltnp"]).ok();
    ip(&["link", "set", "lo", "up"]);
    vm(&[
        "create",
        "beside",
        "--memory",
        "16MiB",
        "-p",
        "127.0.0.1:2222:22",
    ])
    .ok();
    // Where there is no way out it says no, and QEMU does it by itself.
    vm(&["start", "beside"]).ok();
    assert!(listens().contains("qemu"), "{}", listens());
    vm(&["stop", "-t", "0s", "beside"]).ok();

    ip(&["link", "add", "out", "type", "bridge"]);
    ip(&["address", "add", "192.0.2.2/24", "dev", "out"]);
    ip(&["link", "set", "out", "up"]);
    ip(&["route", "add", "default", "via", "192.0.2.1"]);
    for killed in [None, Some("qemu"), Some("keeper")] {
        vm(&["start", "beside"]).ok();
        let ports = listens();
        assert!(
            ports.contains("127.0.0.1:2222 ") && ports.contains("passt"),
            "{ports}"
        );
        let shown: Value = serde_json::from_str(&vm(&["show", "beside"]).ok()).expect("JSON");
        match killed {
            None => drop(vm(&["stop", "-t", "0s", "beside"]).ok()),
            Some(who) => {
                kill_process(pid(&shown["running"][who]), Signal::KILL).expect("it runs");
                wait_gone(pid(&shown["running"]["qemu"]));
                wait_gone(pid(&shown["running"]["keeper"]));
            }
        }
        assert!(
            wait_until(LONG, || listens().is_empty()),
            "{killed:?}: {}",
            listens()
        );
    }
    vm(&["delete", "beside"]).ok();
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
