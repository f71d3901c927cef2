//! `hyperion vm kernel`, and the kernels as a virtual machine takes them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyperion_isolation::vm::kernel::{Kernel, Kernels};
use hyperion_testkit::{
    Done, TestDir, guest_cache, hyperion, hyperion_binary, requires, wait_until,
};
use serde_json::Value;

fn run(home: &TestDir, words: &[&str]) -> Done {
    let words = [&["vm", "kernel"], words].concat();
    Done::of(hyperion(home.path()).args(words))
}

fn json(home: &TestDir, words: &[&str]) -> Value {
    let text = run(home, &[words, &["--output", "json"]].concat()).ok();
    serde_json::from_str(&text).expect("one JSON document")
}

/// Installs the package of Debian's kernel that the guests boot.
fn install(home: &TestDir) -> Kernel {
    let package = guest_cache().join("kernel.deb").display().to_string();
    let release = run(home, &["install", "--deb", &package]).ok();
    let kernels = Kernels::new(&home.join("hyperion"));
    kernels.find(&release).expect("installed")
}

#[test]
fn a_kernel_is_installed_added_listed_chosen_and_removed() {
    requires!("guest");
    let home = TestDir::new();
    assert_eq!(json(&home, &["ls"]), Value::Array(Vec::new()));
    let release = install(&home).release;
    let image = guest_cache().join("vmlinuz").display().to_string();
    run(&home, &["add", &image, "--release", "99.0"]).ok();
    let listed = json(&home, &["ls"]);
    assert_eq!(listed[0]["release"], "99.0");
    assert_eq!(listed[0]["default"], true);
    assert_eq!(listed[1]["release"], release.as_str());
    assert_eq!(listed[1]["boot"], "pvh");
    run(&home, &["use", &release]).ok();
    assert_eq!(json(&home, &["ls"])[1]["default"], true);
    let table = run(&home, &["ls"]).ok();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["RELEASE", "BOOT", "SIZE", "DEFAULT"]);
    assert_eq!(
        (rows[2][0], rows[2][1], rows[2][3]),
        (release.as_str(), "pvh", "*")
    );
    run(&home, &["rm", "99.0", &release]).ok();
    assert_eq!(run(&home, &["ls", "--output", "quiet"]).ok(), "");
}

#[test]
fn what_is_wrong_with_a_kernel_is_told_with_a_hint() {
    let home = TestDir::new();
    fs::write(home.join("script"), "#!/bin/sh\n").expect("written");
    fs::write(home.join("cut.deb"), b"!<arch>\ndebian-binary").expect("written");
    for (words, what, hint) in [
        (
            &["use", "6.1"][..],
            "no kernel \"6.1\" is installed",
            "vm kernel ls",
        ),
        (&["use", "../x"], "no release of a kernel", "uname -r"),
        (
            &["install", "./cut.deb"],
            "no release of a kernel",
            "--deb ./cut.deb",
        ),
        (
            &["rm", "6.1"],
            "no kernel \"6.1\" is installed",
            "vm kernel ls",
        ),
        (
            &["add", "script"],
            "no kernel that can be booted",
            "/boot/vmlinuz",
        ),
        (&["add", "missing"], "cannot copy missing", "check the path"),
        (
            &["install", "--deb", "cut.deb"],
            "cannot be read",
            "download the package again",
        ),
    ] {
        let done = run(&home, words).expect_code(125).says(what);
        done.says("hint: ").says(hint);
    }
    // Where there is no apt.
    let done = Done::of(
        hyperion(home.path())
            .env("PATH", "/nonexistent")
            .args(["vm", "kernel", "install"]),
    );
    done.expect_code(125).says("no apt").says("--deb FILE");
    assert_eq!(run(&home, &["ls", "--output", "quiet"]).ok(), "");
    let left = fs::read_dir(home.join("hyperion/kernels")).expect("listed");
    let left: Vec<_> = left
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, [".lock"]);
}

#[test]
fn a_full_disk_is_told_and_keeps_nothing_of_a_kernel() {
    requires!("guest", "root", "command:unshare", "filesystem:tmpfs");
    let home = TestDir::new();
    let disk = home.join("disk");
    fs::create_dir(&disk).expect("made");
    let script = r#"
        mount -t tmpfs -o size=10m none "$disk" || exit 9
        "$hyperion" vm kernel install --deb "$cache/kernel.deb"; echo "code $?"
        "$hyperion" vm kernel add "$cache/vmlinuz"; echo "code $?"
        ls -A "$disk/kernels"
    "#;
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .env("HOME", home.path())
        .env("HYPERION_ROOT", &disk)
        .env("disk", &disk)
        .env("cache", guest_cache())
        .env("hyperion", hyperion_binary());
    let done = Done::of(&mut command).expect_code(0);
    assert_eq!(done.out, "code 125\ncode 125\n.lock\n", "{done:?}");
    let told = done.err.matches("cause: No space left on device").count();
    assert_eq!(told, 2, "{done:?}");
    done.says("hint: the disk is full");
}

/// Boots until its console says `word`.
fn boots(image: &Path, initramfs: &Path, word: &str) -> bool {
    let dir = TestDir::new();
    let console = dir.join("console");
    let qemu = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-machine", "q35,accel=tcg", "-m", "512M", "-no-reboot"])
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .args(["-serial", &format!("file:{}", console.display())])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .spawn();
    let mut qemu = qemu.expect("QEMU starts");
    let said = wait_until(Duration::from_secs(60), || {
        fs::read(&console).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(word))
    });
    let _ = qemu.kill();
    let _ = qemu.wait();
    said
}

#[test]
fn a_real_kernel_boots_by_pvh_and_as_it_came_with_its_modules_in_order() {
    requires!("guest");
    let home = TestDir::new();
    let kernel = install(&home);
    for name in ["virtio_blk", "erofs", "overlay", "ext4"] {
        assert!(kernel.has_driver(name), "{name}");
    }
    assert!(
        !kernel.has_driver("9p"),
        "Debian leaves it out for the cloud"
    );
    let program = guest_cache().join("busybox");
    let root = kernel.initramfs(&program).expect("made");
    let bytes = fs::read(&root).expect("read");
    let text = String::from_utf8_lossy(&bytes);
    let place = |name: &str| {
        let entry = format!("-{name}.ko\0");
        text.find(&entry).unwrap_or_else(|| panic!("no {name}"))
    };
    for (before, after) in [
        ("virtio_ring", "virtio_pci"),
        ("virtio", "virtio_pci"),
        ("virtio_pci_modern_dev", "virtio_pci"),
        ("virtio_pci", "virtio_blk"),
        ("virtio_blk", "virtio_console"),
        ("virtio_console", "overlay"),
    ] {
        assert!(place(before) < place(after), "{before} before {after}");
    }
    assert!(text.contains("\nvirtiofs: fuse.ko virtiofs.ko\n"));
    assert_eq!(kernel.initramfs(&program).expect("there"), root);

    // What busybox says as an init that finds nothing to start.
    let word = "/etc/init.d/rcS";
    assert!(kernel.boot_image().ends_with("vmlinux"));
    assert!(boots(kernel.boot_image(), &root, word), "by PVH");
    let image = kernel.boot_image().with_file_name("vmlinuz");
    assert!(boots(&image, &root, word), "as a bzImage");
}
