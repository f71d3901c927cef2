//! Folders of the host that a machine works on in a copy.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use hyperion_testkit::{requires, wait_until};
use rustix::process::Signal;

use crate::level::site;
use crate::site::{LONG, Running};

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
