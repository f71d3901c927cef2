//! `hyperion image` from the outside.

use std::path::Path;
use std::process::Command;

use hyperion_testkit::{Done, TestDir, hyperion, hyperion_as, requires};
use serde_json::Value;

fn run(home: &TestDir, words: &[&str]) -> Done {
    Done::of(hyperion(home.path()).args(words))
}

fn ok(home: &TestDir, words: &[&str]) -> String {
    run(home, words).expect_code(0).out
}

fn json(home: &TestDir, words: &[&str]) -> Value {
    let text = ok(home, &[words, &["--output", "json"]].concat());
    serde_json::from_str(&text).expect("one JSON document")
}

/// Runs words that must fail, and gives the hint and the class.
fn refused(home: &TestDir, words: &[&str]) -> (String, String) {
    let done = run(home, &[words, &["--output", "json"]].concat()).expect_code(125);
    let error: Value = serde_json::from_str(&done.err).expect("one JSON document");
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("class"), text("hint"))
}

fn tree(home: &TestDir) -> String {
    let tree = home.path().join("tree");
    std::fs::create_dir_all(tree.join("etc")).expect("a folder");
    std::fs::write(tree.join("etc/os-release"), "ID=test\n").expect("a file");
    tree.display().to_string()
}

#[test]
fn an_image_is_imported_listed_tagged_saved_loaded_and_removed() {
    let home = TestDir::new();
    let tree = tree(&home);
    let made = json(
        &home,
        &[
            "image",
            "import",
            &tree,
            "base:1",
            "--env",
            "A=b",
            "--cmd",
            "/bin/sh -l",
        ],
    );
    let digest = made["digest"].as_str().expect("a digest").to_owned();
    ok(
        &home,
        &["image", "tag", "base:1", "example.org/team/base:2"],
    );
    let listed = json(&home, &["image", "ls"]);
    let names: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|i| i["name"].clone())
        .collect();
    assert_eq!(names, ["base:1", "example.org/team/base:2"]);
    let keys: Vec<_> = listed[0].as_object().expect("an object").keys().collect();
    assert_eq!(
        keys,
        ["created", "digest", "id", "name", "platform", "size_bytes"]
    );
    let known = &json(&home, &["image", "inspect", "base:1"])[0];
    assert_eq!(known["config"]["Cmd"], serde_json::json!(["/bin/sh", "-l"]));
    assert_eq!(known["names"].as_array().map(Vec::len), Some(2));
    assert!(ok(&home, &["image", "history", &digest]).contains("hyperion image import"));
    let archive = home.path().join("base.tar").display().to_string();
    ok(&home, &["image", "save", "-o", &archive, "base:1"]);
    assert!(!Path::new(&format!("{archive}.part")).exists());
    ok(&home, &["image", "rm", "base:1", "example.org/team/base:2"]);
    assert!(
        json(&home, &["image", "ls"])
            .as_array()
            .expect("a list")
            .is_empty()
    );
    let loaded = ok(&home, &["image", "load", &archive, "--output", "quiet"]);
    assert_eq!(loaded, "base:1\n");
    assert_eq!(ok(&home, &["image", "ls", "--output", "quiet"]), "base:1\n");
    assert_eq!(
        json(&home, &["image", "inspect", "base:1"])[0]["digest"],
        digest.as_str()
    );
}

#[test]
fn an_archive_goes_through_a_pipe() {
    let home = TestDir::new();
    let other = TestDir::new();
    ok(&home, &["image", "import", &tree(&home), "base"]);
    let mut save = hyperion(home.path())
        .args(["image", "save", "base"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("hyperion starts");
    let loaded = hyperion(other.path())
        .args(["image", "load"])
        .stdin(save.stdout.take().expect("a pipe"))
        .output()
        .expect("hyperion starts");
    assert!(loaded.status.success(), "{loaded:?}");
    assert!(save.wait().expect("ended").success());
    assert_eq!(
        ok(&other, &["image", "ls", "--output", "quiet"]),
        "base:latest\n"
    );
}

#[test]
fn an_archive_cannot_claim_the_digest_of_another_image() {
    let (home, other) = (TestDir::new(), TestDir::new());
    let made = json(&home, &["image", "import", &tree(&home), "base"]);
    let layout = home.path().join("layout");
    let layout = layout.to_str().expect("text");
    ok(&home, &["image", "save", "--layout", "-o", layout, "base"]);
    let index = home.path().join("layout/index.json");
    let honest = std::fs::read_to_string(&index).expect("an index");
    let naming = |digest: &str| {
        let name = format!("docker.io/library/base@{digest}");
        let text = honest.replace("docker.io/library/base:latest", &name);
        assert_ne!(text, honest);
        std::fs::write(&index, text).expect("written");
    };
    naming(&format!("sha256:{}", "1".repeat(64)));
    let (class, told) = refused(&other, &["image", "load", layout]);
    assert_eq!(class, "user");
    assert!(told.contains("leave out the digest"), "{told}");
    assert_eq!(json(&other, &["image", "ls"]), Value::Array(Vec::new()));
    naming(made["digest"].as_str().expect("a digest"));
    let done = run(&other, &["image", "load", layout, "--name", "mine"]).expect_code(0);
    assert!(done.err.contains("--name mine is not used"), "{done:?}");
}

#[test]
fn bad_words_and_files_are_refused_with_a_hint() {
    let home = TestDir::new();
    let tree = tree(&home);
    let junk = home.path().join("junk");
    std::fs::write(&junk, b"this is no archive").expect("a file");
    let junk = junk.display().to_string();
    let pinned = format!("x@sha256:{}", "1".repeat(64));
    let saved = home.path().join("saved.tar").display().to_string();
    let made = TestDir::new();
    ok(&made, &["image", "import", &tree, "base"]);
    ok(&made, &["image", "save", "base", "-o", &saved]);
    let layout = home.path().join("layout").display().to_string();
    ok(&made, &["image", "save", "--layout", "-o", &layout, "base"]);
    let table: &[(&[&str], &str, &str)] = &[
        (&["image", "rm", "nothing"], "not-found", "ls"),
        (
            &["image", "save", "nothing", "-o", &junk],
            "not-found",
            "ls",
        ),
        (&["image", "inspect", "nothing"], "not-found", "ls"),
        (&["image", "import", &junk, "x"], "user", "tar archive"),
        (&["image", "import", &saved, "x"], "user", "image load"),
        (&["image", "import", &layout, "x"], "user", "image load"),
        (&["image", "import", &tree, "Upper"], "user", "write upper"),
        (
            &["image", "import", &tree, "Not One"],
            "user",
            "parts of a path",
        ),
        (
            &["image", "import", &tree, &pinned],
            "user",
            "leave out the digest",
        ),
        (
            &["image", "import", "/no/such/folder", "x"],
            "not-found",
            "",
        ),
        (&["image", "load", &tree], "user", "import"),
        (&["image", "load", &junk], "user", ""),
        (
            &["image", "bootstrap", "plan9:first"],
            "user",
            "debian:bookworm",
        ),
        (
            &["image", "bootstrap", "debian:bookworm", "--include=-x,y"],
            "user",
            "packages are named",
        ),
    ];
    for (words, class, hint) in table {
        let (is, said) = refused(&home, words);
        assert_eq!(is, *class, "{words:?} {said}");
        assert!(said.contains(hint), "{words:?}: {said}");
    }
    assert_eq!(std::fs::read(&junk).expect("kept"), b"this is no archive");
    assert!(
        json(&home, &["image", "ls"])
            .as_array()
            .expect("a list")
            .is_empty()
    );
}

#[test]
fn mmdebstrap_that_is_missing_is_named_with_its_package() {
    let home = TestDir::new();
    let mut command = hyperion(home.path());
    command.args(["image", "bootstrap", "debian:bookworm"]);
    Done::of(command.env("PATH", home.path()))
        .refused("mmdebstrap is not installed", "apt-get install mmdebstrap");
}

#[test]
fn an_archive_with_hostile_names_is_refused_by_name() {
    let home = TestDir::new();
    let made = Command::new("tar")
        .args([
            "-C",
            &tree(&home),
            "--transform",
            "s,^etc/os-release,../../escape,",
            "-P",
        ])
        .args([
            "-cf",
            &home.path().join("bad.tar").display().to_string(),
            "etc/os-release",
        ])
        .status();
    assert!(made.expect("tar").success());
    let bad = home.path().join("bad.tar").display().to_string();
    run(&home, &["image", "import", &bad, "bad"])
        .refused("would leave the root", "do not trust it");
}

#[test]
fn a_user_with_ranges_imports_and_removes_files_of_many_owners() {
    requires!(
        "root",
        "user:hyperion-test",
        "subuid:hyperion-test",
        "userns"
    );
    let home = TestDir::shared();
    let archive = home.path().join("root.tar");
    let etc = home.path().join("etc");
    std::fs::create_dir(&etc).expect("a folder");
    std::fs::write(etc.join("shadow"), "x").expect("a file");
    let made = Command::new("tar")
        .args([
            "-C",
            &home.path().display().to_string(),
            "--owner=33",
            "--group=42",
            "--mode=0700",
        ])
        .args(["-cf", &archive.display().to_string(), "etc"])
        .status();
    assert!(made.expect("tar").success());
    let user = |words: &[&str]| {
        let root = home.path().join("user");
        std::fs::create_dir_all(&root).expect("a folder");
        let chown = Command::new("chown")
            .arg("hyperion-test")
            .arg(&root)
            .status();
        assert!(chown.expect("chown").success());
        Done::of(hyperion_as(&root, "hyperion-test").args(words))
    };
    let archive = archive.display().to_string();
    user(&["image", "import", &archive, "x"]).ok();
    // There is nothing in it to run, but it is unpacked on the way.
    let _ = user(&["run", "--rm", "x", "true"]);
    let find = |what: &[&str]| {
        let out = Command::new("find")
            .arg(home.path().join("user"))
            .args(what)
            .output();
        String::from_utf8(out.expect("find").stdout).expect("text")
    };
    assert!(
        find(&["-path", "*layers*", "-name", "shadow", "-uid", "+99999"]).contains("etc/shadow")
    );
    user(&["image", "rm", "x"]).ok();
    assert_eq!(find(&["-name", "shadow"]), "");
}

/// Runs `image bootstrap` with a program called mmdebstrap that does `script`.
fn bootstrap(home: &TestDir, script: &str, words: &[&str]) -> Done {
    use std::os::unix::fs::PermissionsExt;
    let folder = home.path().join("bin");
    std::fs::create_dir_all(&folder).expect("a folder");
    let program = folder.join("mmdebstrap");
    // A program that is written and started at once may be "busy": write beside, rename.
    let written = folder.join("written");
    std::fs::write(&written, format!("#!/bin/sh\n{script}\n")).expect("a file");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&written, mode).expect("set");
    std::fs::rename(&written, &program).expect("renamed");
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let mut command = hyperion(home.path());
    command.args(["image", "bootstrap", "debian:bookworm"]);
    Done::of(command.args(words).env("PATH", path))
}

#[test]
fn what_mmdebstrap_makes_becomes_an_image_and_is_found_again() {
    let home = TestDir::new();
    let tree = tree(&home);
    let script = format!("echo \"$@\" >> {tree}/../words; exec tar -C {tree} -cf - .");
    let words = ["mpi", "--include", "mpich,bash", "--output", "json"];
    let first = bootstrap(&home, &script, &words);
    let first: Value = serde_json::from_str(&first.ok()).expect("JSON");
    assert_eq!(first["cached"], false);
    let said = std::fs::read_to_string(home.path().join("words")).expect("called");
    assert!(said.contains("--include=bash,mpich bookworm -"), "{said}");
    let words = [
        "again",
        "--include",
        "bash",
        "--include",
        "mpich",
        "--output",
        "json",
    ];
    let second = bootstrap(&home, "exit 9", &words);
    let second: Value = serde_json::from_str(&second.ok()).expect("JSON");
    assert_eq!(second["cached"], true);
    assert_eq!(second["digest"], first["digest"]);
    assert_eq!(
        ok(&home, &["image", "ls", "--output", "quiet"]),
        "again:latest\nmpi:latest\n"
    );
}

#[test]
fn a_bootstrap_that_fails_names_nothing_and_says_why() {
    let home = TestDir::new();
    let tree = tree(&home);
    // The archive is whole; that the program failed is what counts.
    let script = format!("tar -C {tree} -cf - .; echo 'E: no such package' >&2; exit 25");
    bootstrap(&home, &script, &["mpi"])
        .refused("mmdebstrap failed", "the lines above")
        .says("no such package");
    assert_eq!(ok(&home, &["image", "ls", "--output", "quiet"]), "");
    let blobs = home.path().join("hyperion/images/blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).expect("a folder").count(), 0);
}

#[test]
fn a_bootstrap_without_subordinate_ids_says_what_is_missing() {
    let home = TestDir::new();
    let script = "echo 'E: unable to pick chroot mode automatically' >&2; exit 25";
    bootstrap(&home, script, &["mpi"]).refused("mmdebstrap cannot make a root", "usermod");
}

#[test]
fn a_user_bootstraps_with_ranges_and_is_told_without() {
    requires!(
        "root",
        "userns",
        "command:mmdebstrap",
        "user:hyperion-test",
        "user:nobody",
        "subuid:hyperion-test"
    );
    let home = TestDir::shared();
    let as_user = |user: &str, words: &[&str]| {
        let mut command = hyperion_as(home.path(), user);
        command
            .env("HYPERION_ROOT", home.path().join(user))
            .args(words);
        // The real mmdebstrap chooses its mode, and gets no further: there is no such mirror.
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        Done::of(&mut command)
    };
    let words = [
        "image",
        "bootstrap",
        "debian:bookworm",
        "x",
        "--mirror",
        "file:///nowhere",
    ];
    as_user("nobody", &words).refused("mmdebstrap cannot make a root", "usermod");
    as_user("hyperion-test", &words)
        .refused("mmdebstrap failed", "--mirror")
        .says("unshare");
}
