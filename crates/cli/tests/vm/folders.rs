//! Folders of the host in a machine: shared by 9p, or worked on in a copy.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use hyperion_isolation::vm::kernel::{Kernel, Kernels};
use hyperion_testkit::{first_root, guest_cache, requires, wait_until};
use rustix::process::{Pid, Signal};

use crate::level::{child_of, furnished, site};
use crate::machines::{folder, show, vm};
use crate::site::{LONG, Running, Site};

/// Installs Debian's kernel with all drivers, which knows 9p.
fn with_ninep(site: &Site) -> Kernel {
    let package = site.path().join("generic.deb").display().to_string();
    fs::copy(guest_cache().join("generic.deb"), &package).expect("copied");
    let install = ["vm", "kernel", "install", "--deb", &package];
    let release = site.run(&install).ok();
    site.run(&["vm", "kernel", "use", &release]).ok();
    let kernels = Kernels::new(&site.root());
    kernels.find(&release).expect("installed")
}

/// Makes a folder that each user may write to.
fn open_folder(path: &Path) {
    fs::create_dir(path).expect("a folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set");
}

/// As a user: root has virtiofs.
#[test]
fn qemu_shares_folders_with_the_machines_of_a_user_and_holds_no_power() {
    requires!("guest", "user:nobody", "userns");
    let site = furnished(Site::of_user(), &["sh", "cat", "stat", "sleep"]);
    let work = site.path().join("work");
    open_folder(&work);
    fs::write(work.join("in"), "from the host\n").expect("a file");
    symlink("/etc/one", work.join("link")).expect("a link");
    let volumes = [
        format!("{}:/work", work.display()),
        format!("{}:/safe:ro", work.display()),
        format!("{}:/etc/one:ro", work.join("in").display()),
    ];
    let mut words = vec!["run", "-d", "--isolation", "vm"];
    words.extend(volumes.iter().flat_map(|v| ["-v", v.as_str()]));
    let refused = ["--folders", "9p", "tools", "true"];
    site.run(&[&words[..], &refused].concat())
        .refused("has no 9p", "hyperion vm kernel install --flavour amd64");
    with_ninep(&site);
    // A link is the guest's to follow, and leads to a file of its own. What it writes
    // is here at once, and what is written here there.
    let script = "cat /work/in /etc/one /work/link; echo from inside > /work/out; \
                  (echo x > /safe/never) 2>/dev/null || echo refused; \
                  while ! [ -e /safe/go ]; do sleep 0.1; done; stat -c %u:%g /work/out";
    words.extend(["tools", "sh", "-c", script]);
    let started = site.run(&words);
    assert!(!started.err.contains("copied"), "{started:?}");
    let job = started.ok();
    let out = || fs::read_to_string(work.join("out")).unwrap_or_default();
    assert!(
        wait_until(LONG * 2, || out() == "from inside\n"),
        "{:?}",
        site.run(&["logs", &job])
    );
    // QEMU is root of a namespace in which it can do nothing; what is only to be
    // read, not even it can write to.
    let init = site.inspect(&job)["running"]["sandboxes"][0]["init"].take();
    let init = init.as_i64().and_then(|n| Pid::from_raw(n as i32));
    let qemu = child_of(init.expect("its keeper")).as_raw_pid();
    let status = fs::read_to_string(format!("/proc/{qemu}/status")).expect("it runs");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let none = format!("{set}:\t0000000000000000\n");
        assert!(status.contains(&none), "{status}");
    }
    let mounts = fs::read_to_string(format!("/proc/{qemu}/mounts")).expect("it runs");
    let shares = mounts.lines().filter(|line| line.contains("/share"));
    let flags = shares.map(|line| line.split(' ').nth(3).expect("flags"));
    let flags: Vec<&str> = flags.map(|all| &all[..15.min(all.len())]).collect();
    assert_eq!(
        flags,
        ["rw,nosuid,nodev", "ro,nosuid,nodev", "ro,nosuid,nodev"]
    );
    fs::write(work.join("go"), "").expect("a file");
    site.run(&["wait", &job]).expect_code(0);
    let logs = site.run(&["logs", &job]).ok();
    let three = "from the host\n".repeat(3);
    assert_eq!(logs, format!("{three}refused\n0:0"));
    assert!(!work.join("never").exists());
}

#[test]
fn a_machine_that_stays_mounts_a_users_folders_by_9p_and_its_panic_is_told() {
    requires!("guest", "user:nobody");
    let site = Site::of_user();
    let kernel = with_ninep(&site);
    let busybox = fs::read(guest_cache().join("busybox")).expect("in the cache");
    let modules = site.root().join("kernels");
    let modules = modules.join(&kernel.release).join("modules");
    let module = |name: &str| fs::read(modules.join(name)).expect("Debian has it");
    let [first, second] = [module("pvpanic.ko"), module("pvpanic_mmio.ko")];
    let script = b"#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /site /safe
$b mount -t proc none /proc
$b mount -t sysfs none /sys
for module in /modules/*.ko; do $b insmod $module; done
for name in 9pnet_virtio 9p; do
  for file in $($b sed -n \"s/^$name://p\" /modules/more/dep); do $b insmod /modules/more/$file; done
done
$b mount -t 9p -o trans=virtio,version=9p2000.L site /site && $b cat /site/here
$b mount -t 9p -o trans=virtio,version=9p2000.L safe /safe && $b cat /safe/here
echo back > /site/there
echo back > /safe/never
$b insmod /1.ko && $b insmod /2.ko && echo c > /proc/sysrq-trigger
";
    let made = kernel.initramfs(&guest_cache().join("busybox"));
    let mut initrd = fs::read(made.expect("made")).expect("read");
    initrd.extend(first_root(&[
        ("init", script),
        ("bin/busybox", &busybox),
        ("1.ko", &first),
        ("2.ko", &second),
    ]));
    let first = site.path().join("initrd");
    fs::write(&first, initrd).expect("written");
    let shared = site.path().join("site");
    open_folder(&shared);
    fs::write(shared.join("here"), "from the host\n").expect("a file");
    let shared = shared.display();
    let image = kernel.boot_image().display().to_string();
    let words = [
        "create",
        "shows-by-9p",
        "--memory",
        "512MiB",
        "--kernel",
        &image,
        "--initrd",
        &first.display().to_string(),
        "--append",
        "console=ttyS0 quiet",
        "--share",
        &format!("{shared}:site"),
        "--share",
        &format!("{shared}:safe:ro"),
        "--start",
    ];
    vm(&site, &words).ok();
    let ended = || show(&site, "shows-by-9p")["running"].is_null();
    let log = folder(&site, "shows-by-9p").join("run/console.log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    assert!(wait_until(LONG * 2, ended), "{}", said());
    let said = said().replace('\r', "");
    assert_eq!(said.matches("from the host\n").count(), 2, "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    let there = fs::read_to_string(site.path().join("site/there"));
    assert_eq!(there.expect("written by the guest"), "back\n");
    assert!(!site.path().join("site/never").exists());
    // It would stand there for ever.
    let seen = show(&site, "shows-by-9p");
    assert_eq!(seen["state"], "crashed");
    let why = "the guest's kernel panicked: sysrq triggered crash";
    assert_eq!(seen["end"]["why"], why, "{said}");
    vm(&site, &["delete", "shows-by-9p"]).ok();
}

#[test]
fn what_a_job_changes_in_a_copy_is_brought_back_unless_it_changed_here_too() {
    requires!("guest");
    let site = site(&[
        "sh", "cat", "rm", "mkdir", "ln", "sleep", "chmod", "ls", "head",
    ]);
    let folder = site.path().join("work");
    fs::create_dir_all(folder.join("old/deep")).expect("made");
    for name in ["kept", "changed", "both", "gone", "old/deep/file"] {
        fs::write(folder.join(name), format!("{name} of the host\n")).expect("written");
    }
    let script = "cat /work/kept /etc/one; (echo x > /etc/one) 2>/dev/null || echo refused; echo up; \
                  while ! [ -e /go ]; do sleep 0.1; done; \
                  cd /work; echo of the job > changed; echo of the job > both; rm gone; \
                  rm -r old; mkdir -p old/new; echo new > old/new/file; chmod 700 old/new; \
                  ln changed second; ln -s ../.. out; \
                  head -c 3000000 /dev/urandom > data; cat data > /work/again";
    let shown = format!("{}:/work", folder.display());
    let one = format!("{}:/etc/one:ro", folder.join("kept").display());
    let words = [
        "run",
        "-d",
        "--isolation",
        "vm",
        "--folders",
        "copy",
        "-v",
        &shown,
        "-v",
        &one,
        "tools",
        "sh",
        "-c",
        script,
    ];
    let started = site.run(&words);
    assert!(
        started
            .err
            .contains("is copied into the machine (8 files, "),
        "{started:?}"
    );
    let job = started.ok();
    site.wait_for_log(&job, "up");
    fs::write(folder.join("both"), "meanwhile\n").expect("written");
    site.run(&["exec", &job, "sh", "-c", "echo > /go"]).ok();
    site.run(&["wait", &job]).expect_code(125);
    let logs = site.run(&["logs", &job]).ok();
    assert_eq!(logs, "kept of the host\nkept of the host\nrefused\nup");
    let failure = site.inspect(&job)["end"]["failure"].take().to_string();
    let told = "work/both: it was changed on this host meanwhile; the job's is both.";
    assert!(failure.contains(told), "{failure}");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("it is there");
    assert_eq!(read("kept"), "kept of the host\n");
    assert_eq!(read("changed"), "of the job\n");
    assert_eq!(read("both"), "meanwhile\n");
    assert_eq!(read(&format!("both.{job}")), "of the job\n");
    assert_eq!(read("old/new/file"), "new\n");
    let ino = |name: &str| fs::metadata(folder.join(name)).expect("there").ino();
    assert_eq!(ino("changed"), ino("second"));
    let inner = fs::metadata(folder.join("old/new")).expect("there");
    assert_eq!(inner.permissions().mode() & 0o777, 0o700);
    let data = fs::read(folder.join("data")).expect("it is there");
    assert_eq!(data.len(), 3_000_000);
    assert!(data == fs::read(folder.join("again")).expect("it is there"));
    let mut left: Vec<_> = fs::read_dir(&folder)
        .expect("readable")
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("text"))
        .collect();
    left.sort();
    let both = format!("both.{job}");
    let expected = [
        "again", "both", &both, "changed", "data", "kept", "old", "out", "second",
    ];
    assert_eq!(left, expected);
}

#[test]
fn preflight_says_how_each_folder_comes_into_a_machine_and_what_does_not_fit() {
    requires!("guest");
    let site = site(&["true"]);
    let folder = site.path().join("work");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("file"), vec![1; 300_000]).expect("written");
    let shown = format!("{}:/work", folder.display());
    let safe = format!("{}:/safe:ro", folder.display());
    let first = ["run", "--isolation", "vm", "--preflight", "only"];
    let copied = ["--folders", "copy", "-v", &shown, "-v", &safe];
    let words = [&first[..], &copied, &["tools", "true"]].concat();
    let told = site.run(&words).expect_code(0).err;
    let folder = folder.display();
    let line = |start: &str| told.lines().find(|line| line.starts_with(start));
    let work = line(&format!(
        "  folder     {folder} at /work is copied: 2 files, "
    ));
    let back = ", and what changes is copied back at its end  [--folders copy]";
    assert!(work.is_some_and(|line| line.ends_with(back)), "{told}");
    let safe = line(&format!(
        "  folder     {folder} at /safe is copied: 2 files, "
    ));
    assert!(
        safe.is_some_and(|line| line.contains(", to be read only  [")),
        "{told}"
    );
    assert!(
        line("  room ").is_some_and(|line| line.contains("are free in ")),
        "{told}"
    );
    assert!(!told.contains("note: "), "nothing is told twice: {told}");
    // What cannot be copied is told with all that can.
    let words = [
        &first[..],
        &copied,
        &["-v", "/proc:/proc2", "tools", "true"],
    ]
    .concat();
    let refused = site.run(&words).expect_code(125).err;
    assert!(
        refused.contains("! folder     /proc at /proc2: "),
        "{refused}"
    );
    assert!(refused.contains("at /work is copied"), "{refused}");
}

#[test]
fn whoever_stops_a_job_while_its_files_come_out_has_whole_files_only() {
    requires!("guest");
    let site = site(&["sh", "head"]);
    let folder = site.path().join("work");
    fs::create_dir(&folder).expect("made");
    let shown = format!("{}:/work", folder.display());
    let script = "echo x > /work/a; head -c 60000000 /dev/zero > /work/b";
    let words = [
        "run",
        "--isolation",
        "vm",
        "--folders",
        "copy",
        "-v",
        &shown,
        "tools",
        "sh",
        "-c",
        script,
    ];
    let running = Running::start(&site, &words);
    // What comes first is there when the next is on its way.
    assert!(wait_until(LONG * 2, || folder.join("a").exists()));
    running.signal(Signal::INT);
    let done = running.finish();
    assert_eq!(done.code, 125, "{done:?}");
    assert!(
        done.err.contains("the job was stopped meanwhile"),
        "{done:?}"
    );
    let left = fs::read_dir(&folder).expect("readable").count();
    assert_eq!(left, 1, "only what was whole");
    let words = ["run", "--folders", "copy", "tools", "sh"];
    site.run(&words)
        .refused("--folders is for virtual machines", "--isolation vm");
}
