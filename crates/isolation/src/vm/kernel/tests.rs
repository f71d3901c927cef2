//! Kernels as a whole, made up.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::image::tests::{bzimage, vmlinux};
use super::modules::tests::module;
use super::*;

const RELEASE: &str = "6.1.0-9-test";

/// Fields of a module of [`RELEASE`].
fn of(needs: &str) -> Vec<u8> {
    module(&[
        &format!("depends={needs}"),
        &format!("vermagic={RELEASE} SMP"),
    ])
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut to = lzma_rust2::XzWriter::new(Vec::new(), options).expect("options");
    io::Write::write_all(&mut to, bytes).expect("written");
    to.finish().expect("finished")
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("packed")
}

/// Files of a kernel by their paths below `/lib/modules/RELEASE`.
fn tree() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("modules.builtin", b"kernel/fs/ext4/ext4.ko\n".to_vec()),
        ("modules.dep", b"lies: ../../../etc/passwd\n".to_vec()),
        ("kernel/drivers/virtio/virtio.ko", of("")),
        ("kernel/drivers/virtio/virtio_pci.ko.xz", xz(&of("virtio"))),
        (
            "kernel/drivers/block/virtio_blk.ko.zst",
            zst(&of("virtio,ext4")),
        ),
        ("kernel/drivers/char/hw_random/virtio-rng.ko", of("virtio")),
        ("kernel/net/core/failover.ko", of("")),
        (
            "kernel/drivers/net/virtio_net.ko.xz",
            xz(&of("virtio,failover")),
        ),
        ("updates/virtio.ko", of("updated")),
    ]
}

/// The fixture: a boot image with a `vmlinux` inside, and a folder of modules.
fn host(dir: &Path) -> (PathBuf, PathBuf) {
    let image = dir.join("vmlinuz");
    fs::write(&image, bzimage(RELEASE, &zst(&vmlinux(18)))).expect("written");
    let folder = dir.join("modules");
    for (path, bytes) in tree() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    // As the headers' package has it: not to be followed.
    std::os::unix::fs::symlink("/", folder.join("build")).expect("linked");
    (image, folder)
}

fn store() -> (TempDir, Kernels) {
    let dir = tempfile::tempdir().expect("a folder");
    let kernels = Kernels::new(&dir.path().join("root"));
    (dir, kernels)
}

/// What lies in the folder of kernels, but for its lock.
fn left(kernels: &Kernels) -> Vec<String> {
    let entries = fs::read_dir(&kernels.folder)
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().display().to_string());
    let mut names: Vec<String> = names.filter(|name| name != ".lock").collect();
    names.sort();
    names
}

/// Mode and content by path.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

/// Reads an archive, and its paths in their order.
fn cpio(bytes: &[u8]) -> (Vec<String>, Files) {
    let (mut order, mut all, mut at) = (Vec::new(), BTreeMap::new(), 0);
    loop {
        assert_eq!(&bytes[at..at + 6], b"070701");
        let field = |number: usize| {
            let from = at + 6 + number * 8;
            let text = std::str::from_utf8(&bytes[from..from + 8]).expect("digits");
            u32::from_str_radix(text, 16).expect("a number")
        };
        let (mode, size, length) = (field(1), field(6) as usize, field(11) as usize);
        let name = String::from_utf8(bytes[at + 110..at + 109 + length].to_vec()).expect("a name");
        let content = (at + 110 + length).next_multiple_of(4);
        at = (content + size).next_multiple_of(4);
        if name == "TRAILER!!!" {
            assert_eq!(at, bytes.len());
            return (order, all);
        }
        order.push(name.clone());
        all.insert(name, (mode, bytes[content..content + size].to_vec()));
    }
}

#[test]
fn a_kernel_is_added_and_its_first_root_holds_what_a_boot_needs() {
    let (dir, kernels) = store();
    let (image, folder) = host(dir.path());
    let kernel = kernels.add(&image, Some(&folder), None).expect("added");
    assert_eq!((kernel.release.as_str(), kernel.pvh), (RELEASE, true));
    assert_eq!(fs::read(kernel.boot_image()).expect("read"), vmlinux(18));
    for (name, has) in [
        ("ext4", true),
        ("virtio-rng", true),
        ("virtio_net", true),
        ("erofs", false),
        ("../../vmlinux", false),
    ] {
        assert_eq!(kernel.has_driver(name), has, "{name}");
    }

    let program = dir.path().join("program");
    fs::write(&program, b"the init").expect("written");
    let made = kernel.initramfs(&program).expect("made");
    let (order, all) = cpio(&fs::read(&made).expect("read"));
    assert_eq!(
        order,
        [
            "dev",
            "proc",
            "sys",
            "modules",
            "modules/more",
            "dev/console",
            "modules/000-virtio.ko",
            "modules/001-virtio_pci.ko",
            "modules/002-virtio_blk.ko",
            "modules/003-virtio_rng.ko",
            "modules/more/failover.ko",
            "modules/more/virtio_net.ko",
            "modules/more/dep",
            "init",
        ]
    );
    assert_eq!(all["init"], (0o100_755, b"the init".to_vec()));
    assert_eq!(all["modules/000-virtio.ko"].1, of("updated"));
    assert_eq!(all["modules/001-virtio_pci.ko"].1, of("virtio"));
    assert_eq!(all["modules/002-virtio_blk.ko"].1, of("virtio,ext4"));
    assert_eq!(
        all["modules/more/dep"].1,
        b"virtio_net: failover.ko virtio_net.ko\n"
    );
}

#[test]
fn the_init_of_a_first_root_runs_without_what_only_debuggers_read() {
    let (dir, kernels) = store();
    let (image, folder) = host(dir.path());
    let kernel = kernels.add(&image, Some(&folder), None).expect("added");
    let program = std::env::current_exe().expect("this program");
    let made = kernel.initramfs(&program).expect("made");
    let (_, mut all) = cpio(&fs::read(&made).expect("read"));
    let (mode, init) = all.remove("init").expect("the init");
    let whole = fs::metadata(&program).expect("its size").len();
    assert!((init.len() as u64) < whole, "{} of {whole}", init.len());

    let alone = dir.path().join("init");
    fs::write(&alone, init).expect("written");
    fs::set_permissions(&alone, fs::Permissions::from_mode(mode & 0o777)).expect("executable");
    let ran = Command::new(alone).arg("--list").output().expect("it runs");
    let listed = String::from_utf8_lossy(&ran.stdout);
    assert!(listed.contains("the_init_of_a_first_root_runs"), "{listed}");
}

#[test]
fn a_first_root_is_made_once_for_each_program_and_old_ones_go() {
    let (dir, kernels) = store();
    let (image, folder) = host(dir.path());
    let kernel = kernels.add(&image, Some(&folder), None).expect("added");
    let program = |name: &str, content: &str| {
        let path = dir.path().join(name);
        fs::write(&path, content).expect("written");
        path
    };
    let (first, second) = (program("first", "1"), program("second", "22"));
    let made: Vec<PathBuf> = std::thread::scope(|scope| {
        let make = || kernel.initramfs(&first).expect("made");
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        makers
            .into_iter()
            .map(|m| m.join().expect("made"))
            .collect()
    });
    assert!(made.iter().all(|path| *path == made[0]));
    let of_second = kernel.initramfs(&second).expect("made");
    assert_ne!(of_second, made[0]);
    assert!(
        made[0].exists(),
        "another may just have been given its path"
    );

    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let age = |path: &Path| {
        let file = File::options().append(true).open(path).expect("there");
        file.set_modified(long_ago).expect("set");
    };
    age(&made[0]);
    age(&of_second);
    // Used again, so kept.
    assert_eq!(kernel.initramfs(&second).expect("there"), of_second);
    let third = kernel.initramfs(&program("third", "3")).expect("made");
    assert!(!made[0].exists() && of_second.exists() && third.exists());
    // The same name with other content is another program.
    fs::write(&second, "new content").expect("written");
    assert_ne!(kernel.initramfs(&second).expect("made"), of_second);

    fs::write(kernel.folder.join("modules/virtio.ko"), b"damaged").expect("written");
    let before = fs::read_dir(&kernel.folder).expect("listed").count();
    let error = kernel
        .initramfs(&program("fourth", "4"))
        .expect_err("damaged");
    assert!(matches!(error, KernelError::Module { .. }), "{error}");
    assert_eq!(
        fs::read_dir(&kernel.folder).expect("listed").count(),
        before
    );
}

#[test]
fn the_default_is_the_chosen_or_the_newest() {
    let (dir, kernels) = store();
    let error = kernels.default_kernel().expect_err("none");
    assert!(matches!(error, KernelError::NoneInstalled));
    let (image, _) = host(dir.path());
    for release in ["6.1.0-10", "6.1.0-9", "5.10.0"] {
        kernels.add(&image, None, Some(release)).expect("added");
    }
    let default = || kernels.default_kernel().expect("one").release;
    assert_eq!(default(), "6.1.0-10");
    kernels.choose("5.10.0").expect("chosen");
    assert_eq!(default(), "5.10.0");
    assert!(matches!(
        kernels.choose("7.0"),
        Err(KernelError::NotFound(_))
    ));
    assert!(matches!(
        kernels.choose("../x"),
        Err(KernelError::BadRelease(_))
    ));
    kernels.remove("5.10.0").expect("removed");
    assert_eq!(default(), "6.1.0-10");
    assert_eq!(left(&kernels), ["6.1.0-10", "6.1.0-9"]);
    // Nothing is known of its drivers.
    assert!(kernels.find("6.1.0-9").expect("there").has_driver("erofs"));
}

#[test]
fn what_is_no_kernel_is_refused_and_nothing_is_left() {
    let (dir, kernels) = store();
    let (image, folder) = host(dir.path());
    let write = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, content).expect("written");
        path
    };
    let script = write("script", b"#!/bin/sh");
    let no_note = write("no-note", &vmlinux(1));
    let unnamed = write("unnamed", &vmlinux(18));
    let hostile = write("hostile", &bzimage("../../6.1", &zst(&vmlinux(18))));
    let other = write("other", &bzimage("6.9.9", b""));
    let missing = dir.path().join("missing");
    for (image, modules, release) in [
        (&script, None, None),
        (&no_note, None, Some("6.1")),
        (&unnamed, None, None),
        (&unnamed, None, Some("..")),
        (&hostile, None, None),
        (&missing, None, None),
        (&image, Some(&missing), None),
        // Modules of another kernel.
        (&other, Some(&folder), None),
    ] {
        let error = kernels.add(image, modules.map(PathBuf::as_path), release);
        assert!(error.is_err(), "{}", image.display());
        assert_eq!(left(&kernels), [""; 0], "{}", image.display());
    }
    // A vmlinux with a name, and a kernel that is packed in a way that is not read.
    assert!(kernels.add(&unnamed, None, Some("6.1")).expect("added").pvh);
    let kernel = kernels.add(&other, None, None).expect("added");
    assert!(!kernel.pvh && kernel.boot_image().ends_with("vmlinuz"));
}

/// An archive of `ar`.
fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut all = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len();
        all.extend(format!("{name:<16}0           0     0     100644  {size:<10}`\n").bytes());
        all.extend(*content);
        all.resize(all.len().next_multiple_of(2), b'\n');
    }
    all
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut to = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        if path.len() > 100 {
            to.append_data(&mut header, path, *content).expect("added");
            continue;
        }
        // As it stands, `..` too.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        to.append(&header, *content).expect("added");
    }
    to.into_inner().expect("finished")
}

fn deb(files: &[(&str, &[u8])]) -> Vec<u8> {
    let data = xz(&tar(files));
    ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"odd"),
        ("data.tar.xz", &data),
    ])
}

fn kernel_files() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![(
        format!("./boot/vmlinuz-{RELEASE}"),
        bzimage(RELEASE, &zst(&vmlinux(18))),
    )];
    let tree = tree().into_iter();
    files.extend(tree.map(|(path, bytes)| (format!("./usr/lib/modules/{RELEASE}/{path}"), bytes)));
    let deep = "d/".repeat(60);
    files.push((
        format!("./lib/modules/{RELEASE}/kernel/{deep}erofs.ko"),
        of(""),
    ));
    files
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
        .collect()
}

#[test]
fn a_package_is_installed_and_installed_again() {
    let (dir, kernels) = store();
    let package = dir.path().join("linux-image.deb");
    let files = kernel_files();
    fs::write(&package, deb(&borrowed(&files))).expect("written");
    for _ in 0..2 {
        let kernel = kernels.install(&package).expect("installed");
        assert!(kernel.pvh && kernel.release == RELEASE);
        assert!(kernel.has_driver("virtio_net") && kernel.has_driver("ext4"));
        assert!(kernel.has_driver("erofs"), "its name is a long one");
        assert_eq!(left(&kernels), [RELEASE]);
    }
    // As Ubuntu has it: the modules in a package beside.
    let (image, modules) = files.split_at(1);
    let (first, second) = (dir.path().join("image.deb"), dir.path().join("modules.deb"));
    fs::write(&first, deb(&borrowed(image))).expect("written");
    fs::write(&second, deb(&borrowed(modules))).expect("written");
    assert!(kernels.install(&second).is_err());
    let kernel = kernels.install_all(&[&first, &second]).expect("installed");
    assert!(kernel.has_driver("virtio_net"));
}

#[test]
fn a_hostile_or_damaged_package_is_refused_and_nothing_is_left() {
    let (dir, kernels) = store();
    let package = dir.path().join("package.deb");
    let files = kernel_files();
    let whole = deb(&borrowed(&files));
    let image = files[0].1.as_slice();
    let cut = [
        whole.len() - 1,
        whole.len() - 20,
        whole.len() / 2,
        100,
        70,
        8,
        3,
        0,
    ];
    let mut bad: Vec<Vec<u8>> = cut.iter().map(|&at| whole[..at].to_vec()).collect();
    let mut flipped = whole.clone();
    let middle = whole.len() - 200;
    flipped[middle] ^= 0x40;
    bad.push(flipped);
    bad.push(deb(&[("./usr/share/doc/meta", b"no kernel")]));
    bad.push(deb(&[("./boot/vmlinuz-../../evil", image)]));
    bad.push(deb(&[("./boot/vmlinuz-6.1/../../evil", image)]));
    bad.push(deb(&[("./boot/vmlinuz-", image)]));
    bad.push(deb(&[("./boot/vmlinuz-6.1", b"no kernel")]));
    bad.push(deb(&[
        ("./boot/vmlinuz-6.1", image),
        ("./boot/vmlinuz-6.2", image),
    ]));
    bad.push(deb(&[
        ("./boot/vmlinuz-6.1", image),
        ("./lib/modules/6.2/kernel/virtio.ko", b""),
    ]));
    bad.push(ar(&[("data.tar.xz", b"not xz, and no tar"), ("x", b"")]));
    bad.push(ar(&[("debian-binary", b"2.0\n")]));
    for (number, bytes) in bad.iter().enumerate() {
        fs::write(&package, bytes).expect("written");
        let refused = kernels.install(&package);
        assert!(refused.is_err(), "package {number}");
        assert_eq!(left(&kernels), [""; 0], "package {number}");
    }
    // What climbs is not taken, and what is taken lies by its last name in its folder.
    let climbing = [
        (format!("./boot/vmlinuz-{RELEASE}"), image.to_vec()),
        (
            format!("./lib/modules/{RELEASE}/../../../../evil.ko"),
            of(""),
        ),
        ("/evil.ko".to_owned(), of("")),
        ("../evil.ko".to_owned(), of("")),
    ];
    fs::write(&package, deb(&borrowed(&climbing))).expect("written");
    let kernel = kernels.install(&package).expect("installed");
    let modules = fs::read_dir(kernel.folder.join("modules")).expect("listed");
    let names: Vec<_> = modules.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["evil.ko"]);
    assert_eq!(left(&kernels), [RELEASE]);
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2);
}

#[test]
fn what_a_killed_installation_left_is_removed_by_the_next() {
    let (dir, kernels) = store();
    let (image, _) = host(dir.path());
    fs::create_dir_all(kernels.folder.join(".new-abc/modules")).expect("made");
    kernels.add(&image, None, None).expect("added");
    assert_eq!(left(&kernels), [RELEASE]);
}
