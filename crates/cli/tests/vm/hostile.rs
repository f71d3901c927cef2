//! Machines that fail, and machines that lie: each end has its reason.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hyperion_isolation::vm::kernel::Kernels;
use hyperion_testkit::{Done, hyperion_binary, requires, wait_for};
use rustix::process::{Signal, kill_process};

use crate::level::{child_of, site};
use crate::site::{LONG, Running, Site, finish, wait_gone};

const RUN: [&str; 6] = ["run", "--rm", "--isolation", "vm", "tools", "true"];

/// Lets the machines of a site begin with another program than they should.
fn corrupt(site: &Site, what: &str) {
    let program = site.path().join(what);
    let built = Command::new("gcc")
        .args(["-static", "-O1", "-w", &format!("-DWHAT={what}"), "-o"])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/guest.c"))
        .status();
    assert!(built.expect("gcc runs").success());
    let kernel = Kernels::new(&site.root()).default_kernel();
    let kernel = kernel.expect("it was installed");
    let made = |program: &Path| kernel.initramfs(program).expect("it is made");
    let theirs = made(&program);
    fs::rename(theirs, made(&hyperion_binary())).expect("put in its place");
}

/// Says how a job ended whose machine did not do what it should.
#[track_caller]
fn failed(done: &Done, what: &str) {
    assert_eq!(done.code, 125, "{done:?}");
    assert!(done.err.contains(what), "{done:?}");
    assert!(done.err.contains("hint: "), "{done:?}");
    let obeyed = |c: char| c.is_control() && c != '\n';
    assert!(!done.err.contains(obeyed), "{done:?}");
}

#[test]
fn a_machine_that_gives_up_inside_says_why() {
    requires!("guest", "command:gcc");
    let site = site(&["true"]);
    corrupt(&site, "PANIC");
    let done = site.run(&RUN);
    failed(&done, "the kernel of the virtual machine panicked");
    assert!(done.err.contains("Attempted to kill init"), "{done:?}");
    corrupt(&site, "OFF");
    let done = site.run(&RUN);
    failed(&done, "the virtual machine switched itself off");
    assert!(done.err.contains("good bye"), "{done:?}");
    assert_eq!(site.jobs(), [] as [String; 0]);
}

#[test]
fn a_guest_that_lies_ends_and_its_host_goes_on() {
    requires!("guest", "command:gcc");
    let site = site(&["true"]);
    corrupt(&site, "GARBAGE");
    failed(&site.run(&RUN), "the virtual machine speaks nonsense");
    corrupt(&site, "OVER");
    failed(&site.run(&RUN), "the init inside the virtual machine ended");
    // It never answers and never ends what it says.
    corrupt(&site, "FLOOD");
    let running = Running::start(&site, &RUN);
    failed(&running.finish(), "nonsense");
    assert_eq!(site.jobs(), [] as [String; 0]);
}

#[test]
fn a_qemu_that_cannot_is_told_in_its_own_words() {
    requires!("guest");
    let site = site(&["true"]);
    let programs = site.path().join("programs");
    fs::create_dir(&programs).expect("made");
    let program = programs.join("qemu-system-x86_64");
    for (version, what) in [
        ("5.2.0", "QEMU 5.2.0 is too old"),
        ("7.2.19", "QEMU ended with exit code 1"),
    ] {
        let script = format!(
            "#!/bin/sh\ncase $1 in\n--version) echo 'QEMU emulator version {version} (Debian)';;\n\
             *) echo \"qemu: $1: invalid option\" >&2; exit 1;;\nesac\n"
        );
        fs::write(&program, script).expect("written");
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("set");
        let mut command = site.command(&RUN);
        command.env("PATH", &programs);
        let done = finish(command);
        failed(&done, what);
        assert!(done.err.contains("qemu: -name: invalid option"), "{done:?}");
    }
}

#[test]
fn a_machine_that_never_comes_up_can_be_stopped() {
    requires!("guest", "command:gcc");
    let site = site(&["true"]);
    corrupt(&site, "SILENT");
    let running = Running::start(&site, &RUN);
    crate::level::keeper(&site);
    running.signal(Signal::TERM);
    let done = running.finish();
    assert_eq!(done.code, 143, "{done:?}");
    assert_eq!(site.jobs(), [] as [String; 0]);
}

#[test]
fn a_machine_that_hangs_on_its_way_up_begins_anew_once() {
    requires!("guest", "command:gcc");
    let site = site(&["true"]);
    corrupt(&site, "ONCE");
    let done = site.run(&RUN);
    failed(&done, "the virtual machine switched itself off");
    assert!(done.err.contains("at last"), "{done:?}");
}

#[test]
fn a_machine_that_hangs_is_ended_by_whoever_wants_its_end() {
    requires!("guest");
    let site = site(&["sh", "sleep", "true"]);
    let script = [
        "tools",
        "sh",
        "-c",
        "trap : INT; echo up; while :; do sleep 1; done",
    ];
    let words = [&["run", "--isolation", "vm"][..], &script].concat();
    let running = Running::start(&site, &words);
    let job = wait_for(LONG, || site.jobs().pop()).expect("it begins");
    site.wait_for_log(&job, "up");
    // The key is heard inside, and the program goes on.
    running.signal(Signal::INT);
    site.run(&["exec", &job, "true"]).ok();
    let (_, keeper) = site.processes(&job);
    let qemu = child_of(keeper);
    kill_process(qemu, Signal::STOP).expect("it runs");
    // Somebody waits for an answer from inside, which never comes.
    let beside = Running::start(&site, &["exec", &job, "true"]);
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    let done = running.finish();
    assert_eq!(done.code, 130, "{done:?}");
    assert!(done.err.contains("did not answer"), "{done:?}");
    beside.finish();
    wait_gone(qemu);

    let words = [&["run", "-d", "--isolation", "vm"][..], &script].concat();
    let job = site.run(&words).ok();
    let (_, keeper) = site.processes(&job);
    let qemu = child_of(keeper);
    kill_process(qemu, Signal::STOP).expect("it runs");
    let asked = Instant::now();
    site.run(&["stop", "-t", "1s", &job]).ok();
    // Less than the minute and a half that a machine has to answer.
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    site.run(&["wait", &job]).expect_code(137);
    wait_gone(qemu);
}
