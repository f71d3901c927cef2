//! What machines use of their host: disks, networks, groups; and what is left of it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hyperion_testkit::{Done, requires, wait_until};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::machines::{folder, pid, show, vm};
use crate::site::{LONG, Site, wait_gone};

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

/// Makes a table of a qcow2 image point to where no content can be, for the second MiB.
fn damage(image: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(image);
    let file = file.expect("it is there");
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).expect("an image");
        u64::from_be_bytes(bytes) & 0x00ff_ffff_ffff_fe00
    };
    // The header names the first table, that the second, and that each 64 KiB.
    let entry = number(number(40)) + 16 * 8;
    let odd = (number(entry) | 1 << 63) + 512;
    file.write_all_at(&odd.to_be_bytes(), entry)
        .expect("written");
}

#[test]
fn a_damaged_disk_is_told_whatever_its_guest_makes_of_it() {
    requires!("command:qemu-img", "command:qemu-system-x86_64");
    let site = Site::new();
    let broken = |name: &str, mut disk: Vec<u8>| {
        let raw = site.path().join("disk.img");
        disk.resize(2 << 20, 1);
        fs::write(&raw, disk).expect("a file");
        let image = site.path().join(format!("{name}.qcow2"));
        let (from, to) = (raw.display().to_string(), image.display().to_string());
        let mut convert = std::process::Command::new("qemu-img");
        convert.args(["convert", "-f", "raw", "-O", "qcow2", &from, &to]);
        crate::site::finish(convert).ok();
        damage(&image);
        to
    };
    let start = |name: &str, disk: Vec<u8>| {
        let to = broken(name, disk);
        let words = ["create", name, "--memory", "32MiB", "--disk", &to];
        vm(&site, &[&words[..], &["--start"]].concat()).ok();
        let is_told = || show(&site, name)["faults"].as_array().map_or(0, Vec::len) == 2;
        assert!(wait_until(LONG, is_told), "{}", show(&site, name));
        (show(&site, name), format!("{to} is damaged: "))
    };
    let kinds = |seen: &Value| [0, 1].map(|n| seen["faults"][n]["kind"].clone());
    // One that reads is told of an error and goes on.
    let (seen, told) = start("unread", crate::boot::reading(2));
    assert_eq!(seen["state"], "running");
    assert_eq!(kinds(&seen), ["damaged", "read"], "{seen}");
    assert_eq!(seen["faults"][1]["target"], "vda");
    let why = seen["why"].as_str().expect("a reason");
    assert!(why.contains(&told), "{why}");
    assert!(why.contains("its guest was told of an error"), "{why}");
    vm(&site, &["ls"]).says(&format!("unread: {told}"));
    vm(&site, &["stop", "-t", "0s", "unread"]).ok();
    assert!(show(&site, "unread")["why"].is_null());
    vm(&site, &["start", "unread"]).refused("Image is corrupt", "qemu-img check -r all");
    // One that writes stands still.
    let (seen, told) = start("unwritten", crate::boot::writing(2));
    assert_eq!(kinds(&seen), ["damaged", "write"], "{seen}");
    let is_paused = || show(&site, "unwritten")["state"] == "paused";
    assert!(wait_until(LONG, is_paused));
    vm(&site, &["resume", "unwritten"]).refused(&told, "qemu-img check");
    assert!(is_paused());
    // One that reads stands still too, where its definition says so.
    let image = broken("unasked", crate::boot::reading(2));
    vm(
        &site,
        &["create", "unasked", "--memory", "32MiB", "--disk", &image],
    )
    .ok();
    let xml = vm(&site, &["export", "unasked"]).ok();
    vm(&site, &["delete", "unasked"]).ok();
    let stops = "<driver name='qemu' type='qcow2' error_policy='stop'/>";
    let xml = xml.replace("<driver name='qemu' type='qcow2'/>", stops);
    let file = site.path().join("stops.xml").display().to_string();
    fs::write(&file, xml).expect("written");
    vm(&site, &["define", &file, "--start"]).ok();
    let is_paused = || show(&site, "unasked")["state"] == "paused";
    assert!(wait_until(LONG, is_paused), "{}", show(&site, "unasked"));
    assert_eq!(kinds(&show(&site, "unasked")), ["damaged", "read"]);
    for name in ["unread", "unwritten", "unasked"] {
        vm(&site, &["delete", "--force", name]).ok();
    }
}

#[test]
fn a_job_whose_disk_the_host_cannot_write_ends_and_says_why() {
    requires!("guest", "root", "command:unshare", "command:nsenter");
    const MIB: u64 = 1 << 20;
    let site = crate::level::site(&["sh", "dd", "sync", "sleep"]);
    let apart = Apart::new();
    // The jobs lie on a small disk, with somebody else's file.
    let (small, jobs) = (site.path().join("small"), site.root().join("jobs"));
    for folder in [&small, &jobs] {
        fs::create_dir_all(folder).expect("a folder");
    }
    let (small, jobs) = (small.display().to_string(), jobs.display().to_string());
    apart.mount(&["-t", "tmpfs", "-o", "size=64M,mode=711", "none", &small]);
    let (folder, other) = (format!("{small}/jobs"), format!("{small}/full"));
    apart.does("mkdir", &["-m", "711", &folder]).ok();
    apart.mount(&["--bind", &folder, &jobs]);
    let script = "echo up; while ! [ -e /go ]; do sleep 0.1; done; \
                  dd if=/dev/zero of=/big bs=1M count=24; sync; echo not here; sleep 600";
    let words = ["run", "-d", "--isolation", "vm", "--disk", "32MiB", "tools"];
    let words = [&words[..], &["sh", "-c", script]].concat();
    let hyperion = |words: &[&str]| apart.run(site.command(words));
    let job = hyperion(&words).ok();
    let log = || hyperion(&["logs", &job]).out;
    assert!(wait_until(LONG * 2, || log() == "up\n"), "{}", log());
    // The room that the disk has taken is given to somebody else.
    let inspect = || -> Value {
        let told = hyperion(&["inspect", &job]).ok();
        serde_json::from_str::<Value>(&told).expect("JSON")[0].take()
    };
    let init = inspect()["running"]["sandboxes"][0]["init"].as_i64();
    let init = init.and_then(|n| rustix::process::Pid::from_raw(n as i32));
    let qemu = crate::level::child_of(init.expect("its keeper")).as_raw_pid();
    let open = fs::read_dir(format!("/proc/{qemu}/fd")).expect("it runs");
    let is_disk = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == 32 * MIB)
    };
    let disk = open.flatten().map(|entry| entry.path()).find(is_disk);
    let disk = fs::OpenOptions::new()
        .write(true)
        .open(disk.expect("a disk"));
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let half = 16 * MIB;
    fallocate(disk.expect("opened"), flags, half, half).expect("punched");
    let (fill, all) = (format!("of={other}"), ["if=/dev/zero", "bs=64k"]);
    apart.does("dd", &[&fill, all[0], all[1]]).expect_code(1);
    hyperion(&["exec", &job, "sh", "-c", "echo > /go"]).ok();
    hyperion(&["wait", &job]).expect_code(125);
    let failure = inspect()["end"]["failure"].to_string();
    let why = "this host could not write the disk for what the job writes of the virtual \
               machine: No space left on device";
    assert!(failure.contains(why), "{failure}");
    assert!(
        failure.contains("make room where the jobs lie"),
        "{failure}"
    );
    assert!(!log().contains("not here"));
    hyperion(&["rm", &job]).ok();
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
