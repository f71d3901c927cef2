use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::layer::erofs::Form;
use crate::layer::holes::Checksum;
use crate::layer::pack::pack_changes;
use crate::layer::testing::Archive;

/// A folder of the host, and what a guest makes of it.
struct Case {
    dir: tempfile::TempDir,
    copied: Vec<Copied>,
}

impl Case {
    /// Makes the folder `host` and copies it.
    fn new(make: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let host = dir.path().join("host");
        fs::create_dir(&host).expect("made");
        fs::create_dir_all(dir.path().join("upper/0")).expect("made");
        make(&host);
        let mut case = Self {
            dir,
            copied: Vec::new(),
        };
        case.copied = case.lay(&host, true);
        case
    }

    fn lay(&self, source: &Path, writable: bool) -> Vec<Copied> {
        let [_, copied] = [Form::Ext4, Form::Erofs].map(|form| {
            let file = tempfile::tempfile().expect("a file");
            let mut lay = Lay::new(file, form, Ids::of_this_process(), 1000).expect("begun");
            lay.add(source, writable).expect("copied");
            let (file, sum, copied) = lay.finish().expect("finished");
            assert!(file.metadata().expect("it is there").len() > 0 && sum != [0; 32]);
            copied
        });
        copied
    }

    fn host(&self, below: &str) -> PathBuf {
        self.dir.path().join("host").join(below)
    }

    /// Where the guest's changes of the folder are.
    fn upper(&self, below: &str) -> PathBuf {
        let path = self.dir.path().join("upper/0").join(below);
        fs::create_dir_all(path.parent().expect("one")).expect("made");
        path
    }

    fn whiteout(&self, below: &str) {
        let (kind, none) = (FileType::CharacterDevice, Mode::empty());
        rustix::fs::mknodat(CWD, self.upper(below), kind, none, 0).expect("a whiteout");
    }

    fn changes(&self) -> Vec<u8> {
        pack_changes(&self.dir.path().join("upper"), Vec::new()).expect("packed")
    }

    fn take(&mut self, archive: &[u8]) -> Taken {
        let taken = take(archive, &mut self.copied, &rules());
        let left = names(self.dir.path());
        let unfinished = |name: &String| name.contains(".hyperion-");
        assert!(!left.iter().any(unfinished), "{left:?}");
        taken
    }

    /// Puts in place what the guest changed, which must go without a word.
    fn bring(&mut self) -> Taken {
        let changes = self.changes();
        let taken = self.take(&changes);
        assert_eq!((&taken.cut, &taken.remarks), (&None, &vec![]));
        taken
    }
}

fn rules() -> Rules {
    Rules {
        ids: Ids::of_this_process(),
        tag: "job".into(),
        entries: 100,
        bytes: 1 << 20,
    }
}

/// Gives all names below a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        out.push(path.display().to_string());
        if fs::symlink_metadata(&path).expect("there").is_dir() {
            out.extend(names(&path));
        }
    }
    out
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("it is there")
}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::write(path, text).expect("written");
}

/// A file as a guest sends it.
fn sent(archive: Archive, path: &str, text: &[u8]) -> Archive {
    let mut sum = Checksum::new(text.len() as u64);
    if !text.is_empty() {
        sum.piece(0, text.len() as u64);
    }
    sum.data(text);
    archive
        .file(path, text)
        .file("sum", sum.finish().as_bytes())
}

#[test]
fn what_a_guest_changed_is_put_in_place() {
    let mut case = Case::new(|host| {
        fs::create_dir_all(host.join("old/deep")).expect("made");
        write(host.join("same"), "same");
        write(host.join("changed"), "before");
        write(host.join("gone"), "gone");
        write(host.join("old/deep/file"), "gone");
        write(host.join("other"), "one file");
        fs::hard_link(host.join("other"), host.join("name")).expect("linked");
        symlink("/nowhere", host.join("link")).expect("linked");
    });
    let same = fs::metadata(case.host("same")).expect("there").ino();
    write(case.upper("changed"), "after");
    write(case.upper("new/inner/file"), "new");
    write(case.upper("empty"), "");
    let hole = fs::File::create(case.upper("hole")).expect("made");
    hole.set_len(100_000).expect("long");
    write(case.upper("name"), "its own now");
    fs::set_permissions(case.upper("new/inner"), PermissionsExt::from_mode(0o500)).expect("set");
    fs::set_permissions(case.upper("changed"), PermissionsExt::from_mode(0o4751)).expect("set");
    fs::hard_link(case.upper("changed"), case.upper("second")).expect("linked");
    symlink("../..", case.upper("out")).expect("linked");
    write(case.upper("link"), "a file now");
    for gone in ["gone", "old", "other"] {
        case.whiteout(gone);
    }
    // A gigabyte, nearly all of it a hole.
    let sparse = fs::File::create(case.upper("sparse")).expect("made");
    sparse.set_len(1 << 30).expect("long");
    (&sparse).write_all(b"begin").expect("written");
    let taken = case.bring();
    assert!(taken.changes >= 10 && taken.bytes < 100_000, "{taken:?}");
    assert_eq!(read(case.host("changed")), "after");
    let changed = fs::metadata(case.host("changed")).expect("there");
    assert_eq!(changed.mode() & 0o7777, 0o751);
    let times = |path| {
        fs::metadata(path)
            .expect("there")
            .modified()
            .expect("known")
    };
    assert_eq!(times(case.host("changed")), times(case.upper("changed")));
    let second = fs::metadata(case.host("second")).expect("there");
    assert_eq!(second.ino(), changed.ino());
    assert_eq!(read(case.host("new/inner/file")), "new");
    let inner = fs::metadata(case.host("new/inner")).expect("there");
    assert_eq!(inner.mode() & 0o777, 0o500);
    assert_eq!(read(case.host("empty")), "");
    assert_eq!(read(case.host("hole")).len(), 100_000);
    assert_eq!(read(case.host("name")), "its own now");
    assert_eq!(read(case.host("link")), "a file now");
    let out = fs::read_link(case.host("out")).expect("a link");
    assert_eq!(out, Path::new("../.."));
    let sparse = fs::metadata(case.host("sparse")).expect("there");
    assert!(sparse.len() == 1 << 30 && sparse.blocks() < 1000);
    for gone in ["gone", "old", "other"] {
        assert!(!case.host(gone).exists(), "{gone}");
    }
    assert_eq!(fs::metadata(case.host("same")).expect("there").ino(), same);
    fs::set_permissions(case.host("new/inner"), PermissionsExt::from_mode(0o700)).expect("set");
}

#[test]
fn files_and_folders_take_each_others_places() {
    let mut case = Case::new(|host| {
        fs::create_dir_all(host.join("folder/inner")).expect("made");
        write(host.join("folder/inner/file"), "x");
        write(host.join("file"), "x");
    });
    write(case.upper("folder"), "a file now");
    write(case.upper("file/inner"), "in a folder now");
    case.bring();
    assert_eq!(read(case.host("folder")), "a file now");
    assert_eq!(read(case.host("file/inner")), "in a folder now");
}

#[test]
fn a_folder_made_anew_holds_nothing_old() {
    let mut case = Case::new(|host| {
        fs::create_dir_all(host.join("d/sub")).expect("made");
        write(host.join("d/old"), "old");
        write(host.join("d/kept"), "old");
        write(host.join("d/sub/old"), "old");
    });
    // As an overlay marks it; only root may.
    let made = Archive::new().folder("0/d/");
    let made = sent(made, "0/d/kept", b"new").folder("0/d/sub/");
    let archive = made.file("0/d/.wh..wh..opq", b"").file("end", b"").bytes();
    let taken = case.take(&archive);
    assert_eq!((taken.cut, taken.remarks), (None, vec![]));
    assert_eq!(read(case.host("d/kept")), "new");
    assert_eq!(names(&case.host("d")).len(), 2);
}

#[test]
fn what_changed_on_the_host_meanwhile_stays_and_is_told() {
    let mut case = Case::new(|host| {
        fs::create_dir(host.join("gone")).expect("made");
        for name in ["both", "removed", "kept", "gone/changed", "gone/same"] {
            write(host.join(name), "before");
        }
    });
    write(case.host("both"), "of the host");
    fs::remove_file(case.host("removed")).expect("removed");
    write(case.host("kept"), "of the host");
    write(case.host("gone/changed"), "of the host");
    write(case.host("gone/new"), "of the host");
    write(case.host("new"), "of the host");
    for name in ["both", "removed", "new"] {
        write(case.upper(name), "of the job");
    }
    case.whiteout("kept");
    case.whiteout("gone");
    let changes = case.changes();
    let taken = case.take(&changes);
    assert_eq!(taken.cut, None);
    let all = taken.remarks.join("\n");
    for told in [
        "host/both: it was changed on this host meanwhile; the job's is both.job",
        "host/new: it is new on this host; the job's is new.job",
        "host/removed: it was removed on this host meanwhile; the job's is removed.job",
        "host/kept: the job removed it, but it was changed on this host meanwhile",
        "host/gone/changed: the job removed it, but it was changed",
        "host/gone: the job removed it, but it holds what is new on this host",
    ] {
        assert!(all.contains(told), "{told} in\n{all}");
    }
    for name in ["both", "kept", "new", "gone/changed", "gone/new"] {
        assert_eq!(read(case.host(name)), "of the host");
    }
    for name in ["both", "removed", "new"] {
        assert_eq!(read(case.host(&format!("{name}.job"))), "of the job");
    }
    assert!(!case.host("gone/same").exists());
}

#[test]
fn a_hostile_guest_reaches_nothing_but_its_folder() {
    let archives: [(&str, Archive); 13] = [
        ("", sent(Archive::new(), "0/../up", b"x")),
        ("", sent(Archive::new(), "../up", b"x")),
        ("", sent(Archive::new(), "7/file", b"x")),
        ("", sent(Archive::new(), "1/file", b"x")),
        ("", Archive::new().file("0", b"x")),
        ("no folder", sent(Archive::new(), "0/out/file", b"x")),
        ("no folder", sent(Archive::new(), "0/up/secret", b"x")),
        ("no folder", Archive::new().file("0/out/.wh.secret", b"")),
        (
            "is not there",
            Archive::new().hard_link("0/hard", "0/out/secret"),
        ),
        ("is not there", Archive::new().hard_link("0/hard", "0/file")),
        (
            "device nodes",
            Archive::new().add(::tar::EntryType::Char, "0/dev", "", b""),
        ),
        ("", Archive::new().file("0/plain", b"no checksum")),
        (
            "damaged",
            Archive::new()
                .file("0/plain", b"x")
                .file("sum", &[b'0'; 64]),
        ),
    ];
    for (told, archive) in archives {
        let mut case = Case::new(|host| {
            let outside = host.parent().expect("one").join("outside");
            fs::create_dir(&outside).expect("made");
            write(outside.join("secret"), "secret");
            symlink(&outside, host.join("out")).expect("linked");
            symlink("../outside", host.join("up")).expect("linked");
            write(host.join("file"), "file");
        });
        let read_only = case.lay(&case.host(""), false);
        case.copied.extend(read_only);
        let before = names(case.dir.path());
        let taken = case.take(&archive.file("end", b"").bytes());
        assert_eq!(names(case.dir.path()), before);
        assert_eq!(read(case.dir.path().join("outside/secret")), "secret");
        match told {
            "" => assert!(taken.cut.is_some(), "{taken:?}"),
            told => assert!(taken.remarks.concat().contains(told), "{taken:?}"),
        }
    }
}

#[test]
fn what_is_cut_off_or_too_much_leaves_whole_files_only() {
    let mut case = Case::new(|host| write(host.join("a"), "before"));
    let archive = sent(Archive::new(), "0/a", b"after");
    let archive = sent(archive, "0/b", &[b'b'; 5000]).file("end", b"").bytes();
    for cut in [0, 511, 1500, 3000, 6000, archive.len() - 1025 - 512] {
        let taken = case.take(&archive[..cut]);
        assert!(taken.cut.is_some(), "{cut}: {taken:?}");
        let a = read(case.host("a"));
        assert!(a == "before" || a == "after");
        assert!(
            !case.host("b").exists() || case.host("b").metadata().expect("there").len() == 5000
        );
    }
    let much = sent(Archive::new(), "0/c", &vec![0; 2 << 20]);
    let taken = case.take(&much.file("end", b"").bytes());
    let cut = taken.cut.expect("refused");
    assert!(cut.contains("more than the machine can hold"), "{cut}");
    assert!(!case.host("c").exists());
    let many = (0..200).fold(Archive::new(), |all, i| all.folder(&format!("0/{i}/")));
    let cut = case.take(&many.file("end", b"").bytes()).cut;
    assert!(cut.expect("refused").contains("more than 101 changes"));
}

#[test]
fn a_single_file_is_put_back_where_it_was() {
    let mut case = Case::new(|host| {
        write(host.join("real"), "before");
        write(host.join("beside"), "before");
        symlink("real", host.join("link")).expect("linked");
    });
    case.copied = case.lay(&case.host("link"), true);
    write(case.upper("file"), "after");
    case.bring();
    assert_eq!(read(case.host("real")), "after");
    assert!(
        fs::symlink_metadata(case.host("link"))
            .expect("there")
            .is_symlink()
    );
    let archive = sent(Archive::new(), "0/beside", b"x")
        .file("end", b"")
        .bytes();
    assert!(case.take(&archive).cut.is_some());
    assert_eq!(read(case.host("beside")), "before");
}

#[test]
fn what_stays_in_the_machine_is_told() {
    let mut case = Case::new(|_| {});
    write(case.upper(".wh.file"), "not removed");
    std::os::unix::net::UnixListener::bind(case.upper("socket")).expect("made");
    let changes = case.changes();
    let taken = case.take(&changes);
    assert_eq!(taken.troubles, 2, "{taken:?}");
    assert!(taken.remarks[0].contains("host/.wh.file: "), "{taken:?}");
}

#[test]
fn what_is_in_a_folder_is_counted() {
    let case = Case::new(|host| {
        fs::create_dir(host.join("folder")).expect("made");
        write(host.join("folder/file"), &"x".repeat(10_000));
    });
    let size = measure(&case.host(""), Reach::All, 10).expect("counted");
    assert_eq!(size.files, 3);
    assert!((10_000..20_000).contains(&size.bytes), "{size:?}");
    let error = measure(&case.host(""), Reach::All, 2).expect_err("too many");
    assert!(matches!(error, FolderError::TooMany { most: 2, .. }));
}

#[test]
fn a_folder_becomes_an_image_with_links_owners_and_modes_and_without_devices() {
    hyperion_testkit::requires!("command:fsck.erofs", "root");
    let dir = tempfile::tempdir().expect("a folder");
    let host = dir.path().join("host");
    fs::create_dir_all(host.join("bin")).expect("made");
    write(host.join("bin/tool"), "a program");
    fs::hard_link(host.join("bin/tool"), host.join("bin/second")).expect("linked");
    let set_id = fs::Permissions::from_mode(0o4755);
    fs::set_permissions(host.join("bin/tool"), set_id).expect("set");
    symlink("bin/tool", host.join("link")).expect("linked");
    let kind = FileType::CharacterDevice;
    rustix::fs::mknodat(CWD, host.join("node"), kind, Mode::empty(), 0).expect("made");
    std::os::unix::fs::chown(host.join("bin"), Some(7), Some(8)).expect("given");
    let path = dir.path().join("image");
    let file = fs::File::create_new(&path).expect("made");
    lay_image(file, Form::Erofs, &host, Ids::Kept, 10).expect("copied");
    let out = dir.path().join("out");
    let extract = format!("--extract={}", out.display());
    let mut fsck = std::process::Command::new("fsck.erofs");
    let done = fsck.args([&extract, "--preserve"]).arg(&path).output();
    let done = done.expect("fsck.erofs");
    assert!(done.status.success(), "{done:?}");
    assert!(!out.join("node").exists());
    let there = |name: &str| fs::metadata(out.join(name)).expect("it is there");
    assert_eq!((there("bin").uid(), there("bin").gid()), (7, 8));
    assert_eq!(there("bin/second").permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read(out.join("link")).expect("read"), b"a program");
}
