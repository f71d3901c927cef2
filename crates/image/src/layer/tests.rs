//! Layers from hostile and from honest hands, as folders and as one file.

use std::path::Path;
use std::process::Command;

use ::tar::EntryType;
use proptest::prelude::*;

use super::erofs::Form;
use super::testing::{Archive, build, build_as, listing, stream, unpack_to};
use super::unpack::{Owners, unpack};
use super::*;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("folder");
    (dir, root)
}

fn unpacked(archive: Archive) -> (tempfile::TempDir, PathBuf) {
    let (dir, root) = folder();
    unpack_to(&archive.bytes(), &root).expect("unpacked");
    (dir, root)
}

fn read(root: &Path, name: &str) -> Vec<u8> {
    std::fs::read(root.join(name)).expect(name)
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let n = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(n);
    Some(value)
}

#[test]
fn a_layer_becomes_the_folder_that_it_describes() {
    let (_dir, root) = unpacked(
        Archive::new()
            .folder("./")
            .folder("./bin/")
            .file("./bin/sh", b"shell")
            .hard_link("./bin/dash", "./bin/sh")
            .symlink("./lib", "usr/lib")
            .file("/absolute", b"inside")
            .file("no/parent/listed", b"x")
            .add(EntryType::Fifo, "pipe", "", b""),
    );
    let lines = listing(&root);
    let text = lines.join("\n");
    let (x, shell) = (Digest::of(b"x").short(), Digest::of(b"shell").short());
    let inside = Digest::of(b"inside").short();
    assert_eq!(
        text,
        format!(
            "absolute 644 6 x1 1700000000 {inside}\nbin/ 755 1700000000\n\
             bin/dash 644 5 x2 1700000000 {shell}\nbin/sh 644 5 x2 1700000000 {shell}\n\
             lib -> usr/lib\nno/ 755 0\nno/parent/ 755 0\n\
             no/parent/listed 644 1 x1 1700000000 {x}\npipe fifo 644"
        )
    );
}

#[test]
fn names_that_climb_are_refused() {
    for path in [
        "../x",
        "a/../../x",
        "..",
        "/../x",
        "a/.wh...",
        ".wh..",
        "../.wh..wh..opq",
    ] {
        let (dir, root) = folder();
        let result = unpack_to(&Archive::new().file(path, b"x").bytes(), &root);
        assert!(matches!(result, Err(LayerError::Outside(_))), "{path}");
        assert!(!dir.path().join("x").exists());
        let result = build(
            &[Archive::new().file(path, b"x").bytes()],
            tempfile::tempfile().expect("file"),
        );
        assert!(matches!(result, Err(LayerError::Outside(_))), "{path}");
    }
}

#[test]
fn links_lead_nowhere_outside() {
    for target in ["/", "..", "../..", "/proc/self/root", "/proc/self/cwd"] {
        let (dir, root) = folder();
        std::fs::write(dir.path().join("victim"), b"safe").expect("written");
        let outside = dir.path().display().to_string();
        for target in [target, outside.as_str()] {
            let archive = Archive::new()
                .symlink("link", target)
                .file("link/victim", b"owned")
                .hard_link("stolen", "link/victim")
                .hard_link("passwd", "link/etc/passwd");
            // Whether it is an error does not matter; where it went does.
            let _ = unpack_to(&archive.bytes(), &root);
            assert_eq!(read(dir.path(), "victim"), b"safe");
            assert!(!root.join("passwd").exists());
            std::fs::remove_dir_all(&root).expect("removed");
            std::fs::create_dir(&root).expect("made");
        }
    }
}

#[test]
fn the_last_part_of_a_name_follows_no_link() {
    let (dir, root) = folder();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, b"safe").expect("written");
    let target = victim.display().to_string();
    let archive = Archive::new()
        .symlink("x", &target)
        .file("x", b"owned")
        .symlink("y", &target)
        .folder("y/")
        .symlink("z", &target)
        .hard_link("w", "z")
        .add(EntryType::Fifo, "z", "", b"");
    unpack_to(&archive.bytes(), &root).expect("unpacked");
    assert_eq!(read(dir.path(), "victim"), b"safe");
    assert_eq!(read(&root, "x"), b"owned");
    assert!(root.join("y").is_dir());
    assert!(root.join("w").is_symlink());
}

#[test]
fn files_and_folders_take_each_others_place() {
    let archive = Archive::new()
        .folder("a/")
        .file("a/deep/er", b"1")
        .file("a", b"file")
        .file("b", b"file")
        .folder("b/")
        .file("b/in", b"2")
        .symlink("c", "b")
        .file("c/through", b"3")
        .folder("c/")
        .file("c/own", b"4");
    let (_dir, root) = unpacked(archive);
    assert_eq!(read(&root, "a"), b"file");
    assert_eq!(read(&root, "b/in"), b"2");
    assert_eq!(read(&root, "b/through"), b"3");
    assert_eq!(read(&root, "c/own"), b"4");
    assert!(!root.join("c").is_symlink() && !root.join("c/through").exists());
}

#[test]
fn what_a_file_is_in_the_way_of_is_refused() {
    let (_dir, root) = folder();
    let archive = Archive::new().file("a", b"x").file("a/b", b"y");
    assert!(matches!(
        unpack_to(&archive.bytes(), &root),
        Err(LayerError::NotAFolder(_))
    ));
}

#[test]
fn device_nodes_are_left_out() {
    let (_dir, root) = unpacked(
        Archive::new()
            .add(EntryType::Char, "dev/null", "", b"")
            .add(EntryType::Block, "dev/sda", "", b"")
            .add(EntryType::Char, "whiteout", "", b"")
            .file("after", b"x"),
    );
    assert!(!root.join("dev/null").exists() && !root.join("dev/sda").exists());
    assert!(!root.join("whiteout").exists() && root.join("after").exists());
}

#[test]
fn whiteouts_hide_as_overlayfs_reads_them() {
    let (_dir, root) = unpacked(
        Archive::new()
            .file("etc/.wh.gone", b"")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/own", b"x")
            .file("stays", b"x")
            .file(".wh.stays", b"")
            .file(".wh.again", b"")
            .folder("again/")
            .file(".wh..wh.plnk/12", b""),
    );
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let gone = std::fs::symlink_metadata(root.join("etc/gone")).expect("whiteout");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(read(&root, "stays"), b"x");
    for opaque in ["opaque", "again"] {
        let mark = xattr(&root.join(opaque), "user.overlay.opaque");
        assert_eq!(mark.as_deref(), Some(&b"y"[..]), "{opaque}");
    }
    assert!(!root.join(".wh..wh.plnk").exists());
}

#[test]
fn attributes_are_kept_and_those_of_overlayfs_are_not() {
    let (_dir, root) = unpacked(
        Archive::new()
            .pax(&[
                ("SCHILY.xattr.user.note", b"hello"),
                ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("mtime", b"1700000000.25"),
            ])
            .file("x", b"x"),
    );
    let x = root.join("x");
    assert_eq!(xattr(&x, "user.note").as_deref(), Some(&b"hello"[..]));
    assert_eq!(xattr(&x, "user.overlay.redirect"), None);
    assert_eq!(xattr(&x, "trusted.overlay.opaque"), None);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(x.metadata().expect("x").mtime_nsec(), 250_000_000);
}

#[test]
fn a_layer_is_the_same_plain_gzipped_and_zstd() {
    use std::io::Write;
    let bytes = Archive::new().file("x", &[7; 300_000]).bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).expect("into memory");
    let gzip = gzip.finish().expect("into memory");
    let zstd = zstd::encode_all(&bytes[..], 1).expect("into memory");
    for blob in [&bytes, &gzip, &zstd] {
        let (_dir, root) = folder();
        let digests = unpack_to(blob, &root).expect("unpacked");
        assert_eq!(digests.blob, Digest::of(blob));
        assert_eq!(digests.diff_id, Digest::of(&bytes));
        assert_eq!(read(&root, "x").len(), 300_000);
    }
    for (blob, cut) in [(&bytes, 5000), (&gzip, 100), (&zstd, 20), (&gzip, 4)] {
        let (_dir, root) = folder();
        assert!(unpack_to(&blob[..cut], &root).is_err());
    }
}

#[test]
fn bombs_stop_at_their_limits() {
    let bytes = Archive::new()
        .file("a", b"")
        .file("b", b"")
        .file("c", b"")
        .bytes();
    let limit = |entries, bytes| Limits { entries, bytes };
    for (limits, fits) in [
        (limit(3, u64::MAX), true),
        (limit(2, u64::MAX), false),
        (limit(3, 1024), false),
    ] {
        let (_dir, root) = folder();
        let result = unpack(stream(&bytes, &limits), &root, Owners::Keep, &limits);
        assert_eq!(result.is_ok(), fits, "{limits:?}");
    }
    let deep = "d/".repeat(600) + "f";
    let archive = Archive::new()
        .pax(&[("path", deep.as_bytes())])
        .file("x", b"");
    let (_dir, root) = folder();
    assert!(matches!(
        unpack_to(&archive.bytes(), &root),
        Err(LayerError::TooDeep { parts: 601, .. })
    ));
}

/// Makes a tree with what archives find hard: sparse, long, linked, large.
fn difficult_tree(root: &Path) {
    use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
    let long = root.join("l".repeat(120)).join("m".repeat(120));
    std::fs::create_dir_all(&long).expect("folder");
    std::fs::write(long.join("n".repeat(200)), b"long").expect("written");
    symlink("t".repeat(180), root.join("link")).expect("linked");
    let sparse = std::fs::File::create(root.join("sparse")).expect("made");
    for piece in 0..40u64 {
        sparse
            .write_all_at(&[piece as u8 + 1; 4096], piece * 1_000_000)
            .expect("written");
    }
    sparse.set_len(50_000_000).expect("extended");
    let huge = std::fs::File::create(root.join("huge")).expect("made");
    huge.write_all_at(b"end", 5 << 30).expect("written");
    std::fs::write(root.join("sh"), b"#!").expect("written");
    std::fs::hard_link(root.join("sh"), root.join("dash")).expect("linked");
    let mode = std::fs::Permissions::from_mode(0o4755);
    std::fs::set_permissions(root.join("sh"), mode).expect("set");
}

/// As [`listing`], but with a sample of huge files, which are slow to hash.
fn brief(root: &Path) -> Vec<String> {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let huge = std::fs::File::open(root.join("huge")).expect("huge");
    let meta = huge.metadata().expect("huge");
    assert_eq!(meta.len(), (5 << 30) + 3);
    let mut end = [0; 3];
    huge.read_exact_at(&mut end, 5 << 30).expect("read");
    assert_eq!(&end, b"end");
    assert!(meta.blocks() * 512 < 1 << 20, "its holes were filled");
    drop(huge);
    std::fs::remove_file(root.join("huge")).expect("removed");
    let sparse = root.join("sparse").metadata().expect("sparse");
    assert!(sparse.blocks() * 512 < 1 << 20, "its holes were filled");
    listing(root)
        .into_iter()
        .filter(|line| !line.contains("/ "))
        .collect()
}

#[test]
fn sparse_huge_and_long_names_survive_every_format_of_gnu_tar() {
    hyperion_testkit::requires!("command:tar");
    let formats: [&[&str]; 5] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
        &["--format=oldgnu"],
    ];
    let (_source, tree) = folder();
    difficult_tree(&tree);
    let archives: Vec<_> = formats
        .iter()
        .map(|format| {
            let out = Command::new("tar")
                .args(*format)
                .args(["--sparse", "-cf", "-", "-C"])
                .arg(&tree)
                .arg(".")
                .output()
                .expect("tar");
            assert!(out.status.success(), "{out:?}");
            out.stdout
        })
        .collect();
    let expected = brief(&tree);
    for (format, archive) in std::iter::zip(formats, &archives) {
        let (_dir, root) = folder();
        unpack_to(archive, &root).unwrap_or_else(|e| panic!("{format:?}: {e:?}"));
        assert_eq!(brief(&root), expected, "{format:?}");
    }
}

/// Extracts an EROFS file with the format's own tool.
fn extract(file: &Path, to: &Path) -> Vec<String> {
    let out = Command::new("fsck.erofs")
        .arg(format!("--extract={}", to.display()))
        .arg(file)
        .output()
        .expect("fsck.erofs");
    assert!(out.status.success(), "{out:?}");
    listing(to)
}

#[test]
fn one_file_holds_what_the_layers_say_together() {
    hyperion_testkit::requires!("command:fsck.erofs", "root");
    let many = (0..700).fold(Archive::new().folder("many/"), |archive, n| {
        archive.file(&format!("many/file-with-some-name-{n}"), b"x")
    });
    let lower = many
        .folder("etc/")
        .file("etc/gone", b"1")
        .file("etc/kept", b"2")
        .file("opaque/lower", b"3")
        .file("opaque/sub/lower", b"4")
        .file("big", &[1; 10_000])
        .file("usr/lib/libc", b"5")
        .symlink("lib", "usr/lib")
        .file("dir/inside", b"6")
        .hard_link("etc/kept-too", "etc/kept")
        .symlink("long", &"t".repeat(99))
        .add(EntryType::Fifo, "pipe", "", b"");
    let upper = Archive::new()
        .file("etc/.wh.gone", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/sub/upper", b"7")
        .file("opaque/upper", b"8")
        .file("big", &[2; 20_000])
        .file("lib/through-the-link", b"9")
        .file("dir", b"now a file")
        .file("empty", b"");
    let layers = [lower.bytes(), upper.bytes()];
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("image.erofs");
    let file = std::fs::File::create(&path).expect("made");
    build(&layers, file).expect("built");
    let to = dir.path().join("out");
    let lines = extract(&path, &to);
    let few: Vec<_> = lines.iter().filter(|l| !l.starts_with("many")).collect();
    let names: Vec<_> = few
        .iter()
        .map(|line| line.split(' ').next().unwrap_or_default())
        .collect();
    assert_eq!(
        names,
        [
            "big",
            "dir",
            "empty",
            "etc/",
            "etc/kept",
            "etc/kept-too",
            "lib",
            "long",
            "opaque/",
            "opaque/sub/",
            "opaque/sub/upper",
            "opaque/upper",
            "pipe",
            "usr/",
            "usr/lib/",
            "usr/lib/libc",
            "usr/lib/through-the-link",
        ]
    );
    assert_eq!(lines.len() - few.len(), 701);
    assert_eq!(read(&to, "big"), [2; 20_000]);
    assert_eq!(read(&to, "dir"), b"now a file");
    // The data of the lower "big" was given back.
    use std::os::unix::fs::MetadataExt;
    let meta = path.metadata().expect("file");
    assert!(meta.blocks() * 512 < meta.len());
}

#[test]
fn one_file_keeps_sparse_files_sparse() {
    hyperion_testkit::requires!("command:tar", "command:fsck.erofs");
    let (dir, tree) = folder();
    let sparse = std::fs::File::create(tree.join("sparse")).expect("made");
    use std::os::unix::fs::FileExt;
    sparse.write_all_at(b"middle", 20 << 20).expect("written");
    sparse.set_len(40 << 20).expect("extended");
    let out = Command::new("tar")
        .args(["--sparse", "--format=posix", "-cf", "-", "-C"])
        .arg(&tree)
        .arg("sparse")
        .output()
        .expect("tar");
    let path = dir.path().join("image.erofs");
    build(&[out.stdout], std::fs::File::create(&path).expect("made")).expect("built");
    use std::os::unix::fs::MetadataExt;
    let meta = path.metadata().expect("file");
    assert!(meta.len() > 40 << 20 && meta.blocks() * 512 < 1 << 20);
    let to = dir.path().join("out");
    extract(&path, &to);
    assert!(read(&to, "sparse") == read(&tree, "sparse"));
}

/// A name as an attacker would choose it.
fn hostile_name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "c"]),
        1 => prop::sample::select(vec!["..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.."]),
    ];
    (any::<bool>(), prop::collection::vec(part, 1..5)).prop_map(|(absolute, parts)| {
        format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
    })
}

fn hostile_archive() -> impl Strategy<Value = Vec<u8>> {
    let entry = (
        0u8..6,
        hostile_name(),
        hostile_name(),
        prop::bool::weighted(0.3),
    );
    prop::collection::vec(entry, 1..24).prop_map(|entries| {
        let mut archive = Archive::new();
        for (kind, path, link, far) in entries {
            let link = if far {
                format!("../../{link}/../outside")
            } else {
                link
            };
            let (kind, data): (_, &[u8]) = match kind {
                0 | 1 => (EntryType::Regular, b"owned"),
                2 => (EntryType::Directory, b""),
                3 => (EntryType::Symlink, b""),
                4 => (EntryType::Link, b""),
                _ => (EntryType::Fifo, b""),
            };
            archive = archive.add(kind, &path, &link, data);
        }
        archive.bytes()
    })
}

#[test]
fn what_links_make_deeper_than_any_name_is_removed_again() {
    // Each link leads to the end of what is there, and the next entry goes on from it.
    let step = "d/".repeat(400);
    let mut archive = Archive::new().pax(&[("path", format!("{step}x").as_bytes())]);
    archive = archive.file("", b"x");
    for at in 0..6 {
        let from = match at {
            0 => step.clone(),
            at => format!("l{}/{step}", at - 1),
        };
        archive = archive.pax(&[("linkpath", from.as_bytes())]);
        archive = archive.symlink(&format!("l{at}"), "");
        let name = format!("l{at}/{step}x");
        archive = archive.pax(&[("path", name.as_bytes())]).file("", b"x");
    }
    let (_dir, root) = unpacked(archive);
    // With as many open files as most users have, and 2800 folders inside one another.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = Some(1024);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("lowered");
    unpack::remove(
        rustix::fs::CWD,
        std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str()),
    )
    .expect("removed");
    assert!(!root.exists());
}

#[test]
fn no_folder_is_made_where_a_link_leads() {
    let archive = || {
        Archive::new()
            .symlink("out", "new/place")
            .file("out/x", b"1")
    };
    let (_dir, root) = folder();
    assert!(matches!(
        unpack_to(&archive().bytes(), &root),
        Err(LayerError::NotAFolder(_))
    ));
    let file = tempfile::tempfile().expect("temporary file");
    assert!(matches!(
        build(&[archive().bytes()], file),
        Err(LayerError::NotAFolder(_))
    ));
}

#[test]
fn an_entry_cannot_be_described_without_end() {
    let refused = |archive: Archive| {
        let bytes = archive.file("x", b"").bytes();
        let mut tar = crate::layer::tar::Tar::new(&bytes[..]);
        matches!(tar.next(), Err(LayerError::Header { .. }))
    };
    let value = vec![b'v'; 1 << 20];
    let names: Vec<String> = (0..8).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    // Each header alone is small enough.
    let headers = names.iter().fold(Archive::new(), |archive, name| {
        archive.pax(&[(name, &value[..])])
    });
    assert!(refused(headers));
    let names: Vec<String> = (0..300).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"1"[..])).collect();
    assert!(!refused(Archive::new().pax(&records[..200])));
    assert!(refused(Archive::new().pax(&records)));
}

#[test]
fn a_layer_that_clears_a_folder_again_and_again_is_read_in_linear_time() {
    let start = std::time::Instant::now();
    let mut archive = Archive::new();
    for at in 0..4000 {
        archive = archive.file(&format!("d/{at}"), b"");
    }
    for _ in 0..20_000 {
        archive = archive.file("d/.wh..wh..opq", b"");
    }
    let file = tempfile::tempfile().expect("temporary file");
    build(&[archive.bytes()], file).expect("built");
    // Eighty million names, were each gone through each time.
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_archive_touches_anything_outside(bytes in hostile_archive()) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let outside = dir.path().join("outside");
        let root = dir.path().join("one/root");
        std::fs::create_dir_all(&outside).expect("folder");
        std::fs::create_dir_all(&root).expect("folder");
        for name in ["outside/a", "outside/b", "a", "one/a", "one/b"] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        let before = (listing(&outside), read(dir.path(), "a"), std::fs::read_dir(dir.path()).expect("dir").count());
        let _ = unpack_to(&bytes, &root);
        let after = (listing(&outside), read(dir.path(), "a"), std::fs::read_dir(dir.path()).expect("dir").count());
        prop_assert_eq!(before, after);
        prop_assert_eq!(read(dir.path(), "one/a"), b"one/a");
        prop_assert_eq!(std::fs::read_dir(dir.path().join("one")).expect("dir").count(), 3);
        // What was unpacked can be removed again, whatever it is.
        unpack::remove(rustix::fs::CWD, std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str())).expect("removed");
    }

    #[test]
    fn no_damage_to_an_archive_makes_the_readers_panic(
        mut bytes in hostile_archive(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        crate::fuzz::tar(&bytes);
        let _ = crate::fuzz::erofs(&[bytes]);
    }
}

#[test]
fn overlayfs_shows_what_the_layers_say_together() {
    hyperion_testkit::requires!("userns", "filesystem:overlay", "root", "command:unshare");
    let (dir, lower) = folder();
    let lower_archive = Archive::new()
        .file("etc/gone", b"1")
        .file("etc/kept", b"2")
        .file("opaque/lower", b"3")
        .file("replaced/lower", b"4");
    unpack_to(&lower_archive.bytes(), &lower).expect("unpacked");
    let upper = dir.path().join("upper");
    std::fs::create_dir(&upper).expect("folder");
    let upper_archive = Archive::new()
        .file("etc/.wh.gone", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/upper", b"5")
        .file(".wh.replaced", b"")
        .file("replaced/upper", b"6");
    unpack_to(&upper_archive.bytes(), &upper).expect("unpacked");
    let merged = dir.path().join("merged");
    std::fs::create_dir(&merged).expect("folder");
    let script = "mount -t overlay -o \"$0lowerdir=$2:$1\" none \"$3\" && cd \"$3\" && find . -type f | sort";
    // As root with and without a user namespace, which decides which attributes are read.
    for (namespaces, options) in [("-m", ""), ("-m", "userxattr,"), ("-Urm", "userxattr,")] {
        let out = Command::new("unshare")
            .args([namespaces, "sh", "-c", script, options])
            .args([&lower, &upper, &merged])
            .output()
            .expect("unshare");
        assert!(out.status.success(), "{namespaces} {options}: {out:?}");
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            "./etc/kept\n./opaque/upper\n./replaced/upper\n",
            "{namespaces} {options}"
        );
    }
}

/// Refuses an ext4 file in which its own checker finds anything.
fn check_ext4(path: &Path) {
    let out = Command::new("e2fsck").arg("-fn").arg(path).output();
    let out = out.expect("e2fsck");
    assert!(out.status.success(), "{out:?}");
}

/// Asks the tool of ext4 for something.
fn ask_ext4(path: &Path, question: &str) -> String {
    let mut debugfs = Command::new("debugfs");
    let out = debugfs.args(["-R", question]).arg(path).output();
    let out = out.expect("debugfs");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn the_same_layers_become_an_ext4_that_its_own_checker_finds_whole() {
    hyperion_testkit::requires!("command:e2fsck", "command:debugfs");
    let many = (0..700).fold(Archive::new().folder("many/"), |archive, n| {
        let name = format!("many/file-with-a-name-that-is-rather-long-{n}");
        archive
            .folder(&format!("many/folder-{n}/"))
            .file(&name, b"x")
    });
    let lower = many
        .file("big", &vec![1; 5_000_000])
        .file("kept", b"2")
        .symlink("short", "kept")
        .symlink("long", &"t".repeat(99))
        .hard_link("kept-too", "kept")
        .add(EntryType::Fifo, "pipe", "", b"")
        .pax(&[
            ("SCHILY.xattr.user.note", b"hello"),
            ("SCHILY.xattr.user.a", b""),
            (
                "SCHILY.xattr.security.capability",
                &[1, 0, 0, 2, 0, 4, 0, 0],
            ),
            ("uid", b"70000"),
            ("mtime", b"5000000000.25"),
        ])
        .file("noted", b"n");
    let upper = Archive::new()
        .file("big", &[b'2'; 20_000])
        .file("empty", b"");
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("image");
    let file = std::fs::File::create(&path).expect("made");
    build_as(&[lower.bytes(), upper.bytes()], Form::Ext4, file).expect("built");
    check_ext4(&path);
    assert_eq!(ask_ext4(&path, "cat /big"), "2".repeat(20_000));
    assert_eq!(ask_ext4(&path, "cat /kept-too"), "2");
    assert!(ask_ext4(&path, "stat /kept").contains("Links: 2"));
    assert!(ask_ext4(&path, "stat /long").contains("Size: 99"));
    let noted = ask_ext4(&path, "stat /noted");
    assert!(noted.contains("User: 70000"), "{noted}");
    assert!(noted.contains("user.note (5) = \"hello\""), "{noted}");
    assert!(
        noted.contains("Jun 10 08:53:20 2128") || noted.contains("2128"),
        "{noted}"
    );
    assert_eq!(
        ask_ext4(&path, "ls -p /many")
            .lines()
            .filter(|l| l.starts_with('/'))
            .count(),
        1402
    );
}

#[test]
fn an_ext4_holds_files_that_are_larger_than_an_inode_can_say() {
    hyperion_testkit::requires!("command:e2fsck", "command:debugfs");
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    let dir = tempfile::tempdir().expect("temporary folder");
    let host = dir.path().join("host");
    std::fs::create_dir(&host).expect("made");
    let sparse = std::fs::File::create(host.join("sparse")).expect("made");
    sparse.set_len(700 << 20).expect("extended");
    sparse.write_all_at(b"late", 600 << 20).expect("written");
    let path = dir.path().join("image");
    let file = std::fs::File::create_new(&path).expect("made");
    let (form, ids) = (Form::Ext4, crate::folder::Ids::Kept);
    crate::folder::lay_image(file, form, &host, ids, 10).expect("copied");
    check_ext4(&path);
    let block = ask_ext4(&path, "bmap /sparse 153600");
    let block: u64 = block.trim().parse().expect("a number");
    let mut found = [0; 4];
    let file = std::fs::File::open(&path).expect("there");
    file.read_exact_at(&mut found, block * 4096).expect("read");
    assert_eq!(&found, b"late");
    let taken = file.metadata().expect("there").blocks() * 512;
    assert!(taken < 4 << 20, "{taken}");
}

#[test]
fn an_ext4_of_a_machine_takes_the_room_of_a_larger_disk() {
    use std::os::unix::fs::MetadataExt as _;

    use crate::layer::erofs::{Found, Growth, grow, look};
    hyperion_testkit::requires!("command:e2fsck", "command:debugfs");
    let long = format!("{}usr/bin/tool", "./".repeat(40));
    let layer = Archive::new()
        .file("kept", b"2")
        .folder("folder/")
        .folder("usr/bin/")
        .file("usr/bin/tool", b"#!")
        .symlink("bin", "usr/bin")
        .symlink("far", &long)
        .symlink("loop", "loop");
    let layer = (0..500).fold(layer, |layer, n| {
        layer.file(&format!("usr/bin/{n}-tool"), b"")
    });
    let layer = layer.bytes();
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("disk");
    let make = || {
        let file = std::fs::File::create(&path).expect("made");
        build_as(std::slice::from_ref(&layer), Form::Disk, file).expect("built");
        let options = std::fs::File::options().read(true).write(true).open(&path);
        options.expect("opened")
    };
    // A disk that becomes larger twice, one whose groups need a second block, the largest.
    for sizes in [&[1000u64, 10 << 10][..], &[40 << 10], &[2 << 20]] {
        let file = make();
        check_ext4(&path);
        let old = file.metadata().expect("there").len();
        assert_eq!(grow(&file, old).expect("looked at"), Growth::Fits);
        for mib in sizes {
            let size = mib << 20;
            file.set_len(size).expect("sparse");
            let group = 128 << 20;
            let grown = (size / group * group).min(1 << 40);
            assert_eq!(grow(&file, size).expect("grows"), Growth::Grown(grown));
            assert_eq!(grow(&file, size).expect("looked at"), Growth::Fits);
            if grown < 1 << 40 {
                check_ext4(&path);
            }
            let blocks = format!("Block count:              {}\n", grown / 4096);
            let stats = ask_ext4(&path, "stats -h");
            assert!(stats.contains(&blocks), "{stats}");
            assert_eq!(ask_ext4(&path, "cat /kept"), "2");
        }
        let taken = file.metadata().expect("there").blocks() * 512;
        assert!(taken < 100 << 20, "{taken}");
    }
    // What lies in it can be told without mounting it.
    let file = make();
    let look = |path: &str| look(&file, path).expect("whole");
    assert_eq!(look("/bin/tool"), Found::Program);
    assert_eq!(look("/usr/../usr/bin/./tool"), Found::Program);
    assert_eq!(look("/usr/bin"), Found::Folder);
    assert_eq!(look("/kept"), Found::Other);
    assert_eq!(look("/far"), Found::Program);
    assert_eq!(look("/loop"), Found::Nothing);
    assert_eq!(look("/kept/x"), Found::Nothing);
    assert_eq!(look("/bin/none"), Found::Nothing);
    // What other tools have changed is left alone.
    let file = make();
    let tuned = Command::new("tune2fs")
        .args(["-O", "quota"])
        .arg(&path)
        .output();
    assert!(tuned.expect("tune2fs").status.success());
    file.set_len(1 << 30).expect("sparse");
    assert_eq!(grow(&file, 1 << 30).expect("looked at"), Growth::Foreign);
    let other = std::fs::File::open("/dev/zero").expect("there");
    assert_eq!(grow(&other, 1 << 30).expect("looked at"), Growth::Foreign);
}
