//! Machines that are made of images of the store.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use hyperion_testkit::{Done, guest_cache, requires, wait_until};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::level::furnished;
use crate::machines::{folder, pid, show, vm};
use crate::site::{LONG, Site, files_below, wait_gone};

/// A site with an image `tools`, in which lie an init and a way to end it.
fn site() -> Site {
    let site = Site::new();
    let root = site.rootfs(TOOLS);
    let programs = format!("{root}/sbin");
    fs::create_dir(&programs).expect("a folder");
    let init = "#!/bin/sh\necho of the image > /init-was\nwhile :; do sleep 0.1; done\n";
    let off = "#!/bin/sh\necho asked > /asked\necho s > /proc/sysrq-trigger\nsleep 0.5\necho o > /proc/sysrq-trigger\n";
    for (name, text) in [("init", init), ("poweroff", off)] {
        let file = format!("{programs}/{name}");
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    furnished(site, TOOLS)
}

const TOOLS: &[&str] = &["sh", "cat", "sleep", "date"];

fn inside(site: &Site, name: &str, script: &str) -> Done {
    vm(
        site,
        &["exec", "--wait", "90s", name, "--", "sh", "-c", script],
    )
}

/// Waits until something in the guest says so.
fn says(site: &Site, name: &str, script: &str, text: &str) {
    let mut last = None;
    let so = wait_until(LONG, || {
        last.insert(inside(site, name, script)).out.trim() == text
    });
    assert!(so, "{last:?}");
}

#[test]
fn a_machine_of_an_image_keeps_what_is_written_and_outlives_image_and_kernel() {
    requires!("guest");
    let site = site();
    let service = "trap 'echo bye >> /said; exit 0' TERM; echo \"$X $PWD\" >> /said; \
                   while :; do sleep 0.05; done";
    let words = [
        "create",
        "oci-keeps",
        "--image",
        "tools",
        "--memory",
        "256MiB",
    ];
    let more = [
        "--max-memory",
        "384MiB",
        "--max-vcpus",
        "2",
        "--disk",
        "1GiB",
        "--network",
        "user",
        "-e",
        "X=up",
        "--start",
        "--",
        "sh",
        "-c",
    ];
    vm(&site, &[&words[..], &more, &[service]].concat()).ok();
    says(&site, "oci-keeps", "cat /said", "up /");
    // It has its name, its disk whole, a console, an address and a way out.
    let name = "cat /proc/sys/kernel/hostname /etc/hostname";
    assert_eq!(
        inside(&site, "oci-keeps", name).ok(),
        "oci-keeps\noci-keeps"
    );
    let groups = inside(
        &site,
        "oci-keeps",
        "cat /sys/block/vda/size; cat /proc/1/comm",
    )
    .ok();
    assert_eq!(groups, format!("{}\ninit", (1u64 << 30) / 512));
    let route =
        "while read card to via more; do test $to = 00000000 && echo $card; done < /proc/net/route";
    says(&site, "oci-keeps", route, "eth0");
    // All modules of its kernel are there, and loaded when they are asked for.
    let fuse = "cat /lib/modules/*/modules.dep | while read file rest; do test $file != xfs.ko: || \
                echo $file; done; : < /dev/fuse; while read name rest; do test $name != fuse || \
                echo $name; done < /proc/modules";
    assert_eq!(inside(&site, "oci-keeps", fuse).ok(), "xfs.ko:\nfuse");
    // It gets memory and a processor while it runs, and gives memory back.
    let enough = "while read what size unit; do test $what != MemTotal: || test $size -lt 300000 || \
                  echo much; done < /proc/meminfo; cat /sys/devices/system/cpu/online";
    says(&site, "oci-keeps", enough, "0");
    let resize = |more: &[&str]| vm(&site, &[&["resize", "oci-keeps"], more].concat());
    let done = resize(&["--memory", "384MiB", "--vcpus", "2"]);
    assert!(!done.err.contains("next start"), "{done:?}");
    says(&site, "oci-keeps", enough, "much\n0-1");
    let done = resize(&["--memory", "256MiB", "--vcpus", "1"]);
    assert!(
        done.err.contains("runs with 2: processors change with"),
        "{done:?}"
    );
    says(&site, "oci-keeps", enough, "0-1");
    let done = resize(&["--memory", "512MiB"]);
    assert!(done.err.contains("memory changes with"), "{done:?}");
    // A guest that is put back in time knows what time it is.
    vm(&site, &["snapshot", "oci-keeps", "now"]).ok();
    let since = |site: &Site| -> i64 {
        let now = inside(site, "oci-keeps", "date +%s").ok();
        now.parse().expect("a number")
    };
    let before = since(&site);
    assert!(wait_until(LONG, || since(&site) > before + 3));
    vm(&site, &["restore", "oci-keeps", "now"]).ok();
    assert!(since(&site) > before + 2);
    vm(&site, &["snapshot", "oci-keeps", "now", "--delete"]).ok();
    // A command that ends is started again.
    let kill = "for p in /proc/[0-9]*; do read all < $p/stat; set -- $all; test \"$4\" = 1 && \
                test \"$2\" = '(sh)' && kill -9 $1; done; echo sent";
    assert_eq!(inside(&site, "oci-keeps", kill).ok(), "sent");
    says(&site, "oci-keeps", "cat /said", "up /\nup /");
    // Files come in and out.
    let (here, back) = (site.path().join("here"), site.path().join("back"));
    let bytes: Vec<u8> = (0..600_000u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    fs::write(&here, &bytes).expect("written");
    vm(
        &site,
        &["cp", &here.display().to_string(), "oci-keeps:/kept"],
    )
    .ok();
    vm(
        &site,
        &["cp", "oci-keeps:/kept", &back.display().to_string()],
    )
    .ok();
    assert_eq!(fs::read(&back).expect("there"), bytes);
    // To start anew is not to lose what was just written.
    inside(&site, "oci-keeps", "echo late > /late").ok();
    vm(&site, &["reboot", "oci-keeps"]).ok();
    says(&site, "oci-keeps", "cat /said", "up /\nup /\nbye\nup /");
    assert_eq!(inside(&site, "oci-keeps", "cat /late").ok(), "late");
    // A clone of one that runs has another name, and its files.
    vm(&site, &["clone", "oci-keeps", "oci-other"]).ok();
    let seen = show(&site, "oci-keeps");
    let image = &seen["definition"]["image"];
    assert_eq!(image["reference"], "tools");
    let digest = image["digest"].as_str().expect("a digest");
    assert!(digest.starts_with("sha256:"), "{digest}");
    let below = seen["disks"][0]["below"].to_string();
    assert!(below.contains("oci-other"), "{below}");
    // Who is asked to end does so, and leaves nothing half written.
    vm(&site, &["stop", "oci-keeps"]).ok();
    let end = show(&site, "oci-keeps")["end"].clone();
    assert_eq!(
        (&end["crashed"], &end["why"]),
        (&false.into(), &"the guest switched itself off".into())
    );

    // Neither the image nor its kernel is needed any more.
    site.run(&["image", "rm", "tools"]).ok();
    site.run(&["image", "prune"]).ok();
    fs::remove_dir_all(site.root().join("kernels")).expect("removed");
    vm(&site, &["resize", "oci-keeps", "--disk", "vda=3GiB"]).ok();
    vm(&site, &["start", "oci-keeps"]).ok();
    says(
        &site,
        "oci-keeps",
        "cat /said",
        "up /\nup /\nbye\nup /\nbye\nup /",
    );
    // Killed, with what was written: the journal brings it in, and the disk grows.
    inside(
        &site,
        "oci-keeps",
        "echo safe > /safe; cat /safe > /dev/null",
    )
    .ok();
    let script = "echo s > /proc/sysrq-trigger; sleep 0.5";
    inside(&site, "oci-keeps", script).ok();
    let qemu = pid(&show(&site, "oci-keeps")["running"]["qemu"]);
    kill_process(qemu, Signal::KILL).expect("it runs");
    wait_gone(qemu);
    assert!(wait_until(LONG, || show(&site, "oci-keeps")["state"] == "crashed"));
    vm(&site, &["start", "oci-keeps"]).ok();
    says(&site, "oci-keeps", "cat /safe", "safe");
    vm(&site, &["delete", "-f", "oci-keeps"]).ok();

    vm(&site, &["start", "oci-other"]).ok();
    says(&site, "oci-other", name, "oci-other\noci-other");
    assert_eq!(
        inside(&site, "oci-other", "cat /kept > /again; echo $?").ok(),
        "0"
    );
    // Its button is heard, too.
    let monitor = folder(&site, "oci-other").join("run/monitor");
    let mut monitor = UnixStream::connect(monitor).expect("it listens");
    let words = b"{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"system_powerdown\"}\n";
    monitor.write_all(words).expect("sent");
    assert!(wait_until(LONG, || show(&site, "oci-other")["state"] == "shut off"));
    let end = show(&site, "oci-other")["end"]["why"].clone();
    assert_eq!(end, "the guest switched itself off");
    drop(monitor);
    vm(&site, &["delete", "oci-other"]).ok();
    assert_eq!(files_below(&site.root().join("machines")).len(), 0);
}

#[test]
fn a_machine_of_an_image_starts_its_own_init_or_ends_with_its_command() {
    requires!("guest");
    let site = site();
    let words = [
        "create", "oci-init", "--image", "tools", "--memory", "256MiB", "--init", "--start",
    ];
    vm(&site, &words).ok();
    says(&site, "oci-init", "cat /init-was", "of the image");
    vm(&site, &["stop", "oci-init"]).ok();
    assert_eq!(
        show(&site, "oci-init")["end"]["why"],
        "the guest switched itself off"
    );
    // Asked again, it says that it was asked.
    vm(&site, &["start", "oci-init"]).ok();
    says(&site, "oci-init", "cat /asked", "asked");
    vm(&site, &["delete", "-f", "oci-init"]).ok();
    panics(&site);
    let words = [
        "create",
        "oci-once",
        "--image",
        "tools",
        "--memory",
        "256MiB",
        "--restart",
        "no",
    ];
    vm(
        &site,
        &[
            &words[..],
            &["--start", "--", "sh", "-c", "echo done here; exit 3"],
        ]
        .concat(),
    )
    .ok();
    assert!(wait_until(LONG, || show(&site, "oci-once")["state"] == "shut off"));
    let console = fs::read_to_string(folder(&site, "oci-once").join("run/console.log"));
    let console = console.expect("it spoke");
    assert!(
        console.contains("done here") && console.contains("sh has ended with 3"),
        "{console}"
    );
    vm(&site, &["delete", "oci-once"]).ok();
}

/// A guest that panics is started again where its definition says so, until it seems to
/// do nothing else.
fn panics(site: &Site) {
    let script =
        "while ! cat /go 2>/dev/null; do sleep 0.1; done; sleep 1; echo c > /proc/sysrq-trigger";
    let words = [
        "create",
        "oci-panics",
        "--image",
        "tools",
        "--memory",
        "256MiB",
        "--",
        "sh",
        "-c",
    ];
    vm(site, &[&words[..], &[script]].concat()).ok();
    let xml = vm(site, &["export", "oci-panics"]).ok();
    let again = "<on_crash>restart</on_crash>";
    let xml = xml.replace("<on_crash>destroy</on_crash>", again);
    let file = site.path().join("panics.xml");
    fs::write(&file, xml).expect("written");
    let mut edit = site.command(&["vm", "edit", "oci-panics"]);
    edit.env("EDITOR", format!("cp {}", file.display()));
    crate::site::finish(edit).ok();
    vm(site, &["start", "oci-panics"]).ok();
    inside(
        site,
        "oci-panics",
        "echo > /go; echo s > /proc/sysrq-trigger",
    )
    .ok();
    let crashes = || {
        show(site, "oci-panics")["running"]["crashes"]
            .as_array()
            .map_or(0, Vec::len)
    };
    assert!(wait_until(LONG, || crashes() > 0));
    let seen = show(site, "oci-panics");
    let why = "the guest's kernel panicked: sysrq triggered crash";
    if let Some(told) = seen["why"].as_str() {
        assert!(
            told.contains("started again") && told.contains(why),
            "{told}"
        );
    }
    let ended = || !show(site, "oci-panics")["end"].is_null();
    assert!(wait_until(LONG * 3, ended));
    assert_eq!(show(site, "oci-panics")["state"], "crashed");
    let end = show(site, "oci-panics")["end"].clone();
    assert_eq!(end["why"], format!("{why} (4 times within 10 minutes)"));
    vm(site, &["delete", "oci-panics"]).ok();
}

#[test]
fn an_image_that_makes_no_machine_is_refused_and_leaves_nothing() {
    requires!("command:qemu-img");
    let site = Site::new();
    let root = site.rootfs(&["sh"]);
    site.run(&["image", "import", &root, "bare"]).ok();
    let create = |more: &[&str]| {
        vm(
            &site,
            &[&["create", "oci-none", "--pull", "never"], more].concat(),
        )
    };
    create(&["--image", "barr"]).refused("no image \"barr\"", "hyperion image ls");
    create(&["--image", "./bare"]).refused("cannot find ./bare", "");
    create(&["--image", "bare", "--", "sh"]).refused("no kernel", "hyperion vm kernel install");
    let disk = site.path().join("disk.raw");
    fs::write(&disk, [0; 4096]).expect("written");
    let disk = disk.display().to_string();
    create(&["--image", &disk, "--", "sh"]).refused("is a disk image", "leave out the command");
    requires!("guest");
    let package = guest_cache().join("kernel.deb").display().to_string();
    site.run(&["vm", "kernel", "install", "--deb", &package])
        .ok();
    create(&["--image", "bare"]).refused("says no command", "-- COMMAND");
    create(&["--image", "bare", "--", "nosuch"]).refused("no program nosuch in the image bare", "");
    create(&["--image", "bare", "--init"]).refused("no init in the image bare", "systemd-sysv");
    create(&["--image", "bare", "--disk", "10MiB", "--", "sh"])
        .refused("too small for the image", "128MiB");
    create(&["--image", "bare", "--memory", "32MiB", "--", "sh"])
        .refused("does not come up", "least");
    create(&["--image", "bare", "--bus", "sata", "--", "sh"])
        .refused("by virtio", "leave out --bus");
    create(&[
        "--image",
        "bare",
        "--nic",
        "e1000",
        "--network",
        "user",
        "--",
        "sh",
    ])
    .refused("has no e1000", "--flavour amd64");
    create(&["--image", "bare", "--memory", "-1"]).refused("'-1' for '--memory", "");
    create(&["--image", "bare", "-e", "X", "--", "sh"]).refused("no variable", "NAME=VALUE");
    assert_eq!(files_below(&site.root().join("machines")).len(), 0);
    // Killed on the way, it keeps nobody from the name.
    let words = ["vm", "create", "oci-none", "--image", "bare", "--", "sh"];
    let mut killed = site.command(&words);
    killed.env("HYPERION_FAILPOINT", "image-linked");
    assert!(!killed.output().expect("it starts").status.success());
    assert!(!files_below(&site.root().join("machines")).is_empty());
    site.run(&words).ok();
    assert_eq!(
        show(&site, "oci-none")["definition"]["image"]["reference"],
        "bare"
    );
    // Another kernel takes the place of its own.
    let boots = || show(&site, "oci-none")["definition"]["boot"]["kernel"].clone();
    let before = boots();
    vm(&site, &["edit", "oci-none", "--kernel", "default"]).ok();
    let after = boots();
    assert_ne!(before, after);
    let there =
        |boots: &Value| fs::exists(boots["initrd"].as_str().expect("a path")).expect("looked");
    assert!(!there(&before) && there(&after));
    vm(&site, &["edit", "oci-none", "--kernel", "1.2.3"]).refused("no kernel \"1.2.3\"", "");
    // As domain XML it says the same, and names all of its disks for others.
    let xml = vm(&site, &["export", "oci-none"]).ok();
    for disk in ["/boot2/modules", "/disks/orders", "/disks/vda.qcow2"] {
        assert!(xml.contains(disk), "{xml}");
    }
    let file = site.path().join("again.xml");
    fs::write(&file, &xml).expect("written");
    let before = show(&site, "oci-none");
    let mut edit = site.command(&["vm", "edit", "oci-none"]);
    edit.env("EDITOR", format!("cp {}", file.display()));
    crate::site::finish(edit).ok();
    assert_eq!(show(&site, "oci-none")["definition"], before["definition"]);
    assert_eq!(vm(&site, &["export", "oci-none"]).ok(), xml);
    vm(&site, &["delete", "oci-none"]).ok();
    vm(&site, &["define", &file.display().to_string()]).ok();
}
