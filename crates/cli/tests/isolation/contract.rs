//! What every level promises, tried at each of them: as root and as users
//! with and without subordinate ids, as a process, in a container and in a
//! machine. Where a level differs, its check says how.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use hyperion_testkit::guest_cache;

use crate::fixture::{Fixture, Level};

/// Runs one check at one level; nothing may be left of it afterwards.
fn at(level: Level, check: impl Fn(&Fixture)) {
    let Some(fixture) = Fixture::new(level) else {
        return;
    };
    check(&fixture);
    fixture.assert_nothing_left();
}

macro_rules! level {
    ($module:ident, $level:ident: $($check:ident),*) => {
        mod $module {
            $(#[test]
            fn $check() {
                super::at(super::Level::$level, super::$check);
            })*
        }
    };
}

macro_rules! everywhere {
    (always: $($check:ident),*; kept: $($kept:ident),* $(,)?) => {
        level!(process_of_root, PROCESS: $($check,)* $($kept),*);
        level!(process_of_a_user, USER_PROCESS: $($check,)* $($kept),*);
        level!(passing_process_of_root, PASSING: $($check),*);
        level!(passing_process_of_a_user, USER_PASSING: $($check),*);
        level!(container_of_root, ROOT: $($check,)* $($kept),*);
        level!(container_of_root_with_host_ids, REAL_ROOT: $($check,)* $($kept),*);
        level!(container_of_a_user, USER: $($check,)* $($kept),*);
        level!(container_of_a_user_without_subordinate_ids, LONE_USER: $($check,)* $($kept),*);
        level!(machine_of_root, ROOT_MACHINE: $($check,)* $($kept),*);
        level!(machine_of_a_user, USER_MACHINE: $($check,)* $($kept),*);
    };
}

macro_rules! in_containers {
    ($($check:ident),* $(,)?) => {
        mod with_a_root_of_its_own {
            use super::*;
            level!(root, ROOT: $($check),*);
            level!(root_with_host_ids, REAL_ROOT: $($check),*);
            level!(a_user, USER: $($check),*);
            level!(a_user_without_subordinate_ids, LONE_USER: $($check),*);
            level!(machine_of_root, ROOT_MACHINE: $($check),*);
            level!(machine_of_a_user, USER_MACHINE: $($check),*);
        }
    };
}

everywhere! {
    always:
    exit_codes_and_signals_come_back,
    what_cannot_be_started_gets_127_or_126,
    output_and_error_come_separately,
    the_environment_is_what_was_asked,
    the_working_folder_is_what_was_asked,
    a_user_is_taken_by_name_and_by_number,
    a_daemon_does_not_survive_its_job,
    limits_hold_or_are_refused,
    a_limit_on_files_is_capped_at_the_hard_limit,
    usage_is_reported,
    only_the_standard_streams_are_open,
    a_strict_umask_of_the_caller_does_no_harm;
    kept:
    how_a_job_ended_is_kept,
    stop_ends_a_program_that_ignores_sigterm_and_twice_is_no_error,
}

in_containers! {
    the_root_can_be_read_only,
    memory_is_mounted_in_the_size_asked,
    a_mount_can_be_read_only_and_files_made_on_it_are_the_callers,
    a_mount_point_that_is_a_link_stays_inside,
    the_host_name_is_what_was_asked,
    without_a_network_there_is_loopback_only,
    an_image_of_the_store_runs,
    a_command_beside_the_job_is_fenced_like_it,
    a_debugger_beside_the_job_can_trace_it,
}

fn exit_codes_and_signals_come_back(f: &Fixture) {
    for code in ["0", "7", "255"] {
        assert_eq!(f.run(&[], &["exit", code]).code.to_string(), code);
    }
    assert_eq!(f.run(&[], &["raise", "9"]).code, 128 + 9);
    let segfault = f.run(&[], &["raise", "11"]);
    assert_eq!(segfault.code, 128 + 11);
}

fn how_a_job_ended_is_kept(f: &Fixture) {
    f.run(&[], &["raise", "11"]);
    let ids = f.hyperion(&["ps", "-aq"]).ok();
    let exits: Vec<String> = ids
        .lines()
        .map(|id| f.hyperion(&["inspect", id]).ok())
        .collect();
    assert!(
        exits.iter().any(|e| e.contains("\"signal\": 11")),
        "{exits:?}"
    );
}

fn what_cannot_be_started_gets_127_or_126(f: &Fixture) {
    f.write("rootfs/etc/data", "no program");
    let image = f.image();
    let (first, inside): (Vec<&str>, String) = match f.level.container {
        true => (vec![image.as_str()], String::new()),
        false => (Vec::new(), image.clone()),
    };
    for (file, code) in [("/bin/nothing", 127), ("/etc/data", 126)] {
        let file = format!("{inside}{file}");
        let mut words = f.words(&[], &[]);
        words.truncate(words.len() - first.len() - 1);
        words.extend(first.iter().map(ToString::to_string));
        words.push(file);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = f.hyperion(&words);
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.err.contains("hint: "), "{done:?}");
    }
}

fn output_and_error_come_separately(f: &Fixture) {
    let done = f.run(&[], &["say", "to people", "to others"]);
    assert_eq!(
        (done.out.as_str(), done.err.as_str()),
        ("to people\n", "to others\n")
    );
}

fn the_environment_is_what_was_asked(f: &Fixture) {
    let script = "SECRET=1 PASSED=2 exec \"$0\" \"$@\"";
    let flags = ["-e", "A=1", "-e", "B=x y=z", "-e", "PASSED"];
    let out = f.run_in_shell(script, &flags, &["env"]).ok();
    let lines: Vec<&str> = out.lines().collect();
    for line in ["A=1", "B=x y=z", "PASSED=2"] {
        assert!(lines.contains(&line), "{line} in {out}");
    }
    // A process has its caller's environment, a container has not.
    assert_eq!(lines.contains(&"SECRET=1"), !f.level.container);
    if f.level.container {
        let known = ["A", "B", "PASSED", "PATH", "HOME", "HOSTNAME"];
        for name in lines.iter().filter_map(|l| l.split('=').next()) {
            let ours = name.starts_with("HYPERION_") || name.starts_with("OMPI_ALLOW_RUN_AS_ROOT");
            assert!(ours || known.contains(&name), "{name} in {out}");
        }
        assert!(lines.contains(&"HOME=/root"), "{out}");
    }
}

fn the_working_folder_is_what_was_asked(f: &Fixture) {
    let work = f.path("work").display().to_string();
    let folder = if f.level.container {
        "/made/for/this"
    } else {
        work.as_str()
    };
    assert_eq!(f.run(&["-w", folder], &["cwd"]).ok().trim(), folder);
    let here = f
        .path(".")
        .canonicalize()
        .expect("it is there")
        .display()
        .to_string();
    let default = if f.level.container {
        "/"
    } else {
        here.as_str()
    };
    assert_eq!(f.run(&[], &["cwd"]).ok().trim(), default);
}

fn a_user_is_taken_by_name_and_by_number(f: &Fixture) {
    if f.level.other_users {
        if f.level.container {
            let ids = "uid=1000 euid=1000 gid=100 egid=100 groups=44,100";
            assert_eq!(f.run(&["-u", "ana"], &["ids"]).ok(), ids);
            let numbers = "uid=4711 euid=4711 gid=12 egid=12 groups=12";
            assert_eq!(f.run(&["-u", "4711:12"], &["ids"]).ok(), numbers);
        } else {
            // The folder of the test, where the probe is, is its caller's alone.
            let words = [
                "run",
                "--isolation",
                "process",
                "-u",
                "nobody",
                "-w",
                "/",
                "id",
                "-u",
            ];
            assert_eq!(f.hyperion(&words).ok(), "65534");
        }
    } else {
        let done = f.run(&["-u", "1000"], &["ids"]);
        assert_eq!(done.code, 125, "{done:?}");
        assert!(done.err.contains("hint: "), "{done:?}");
    }
    if f.level.container && !f.level.machine && !f.level.real_root {
        f.run(&["-u", "70000"], &["ids"])
            .refused("privileges", "ids");
    }
    let unknown = f.run(&["-u", "nobody-knows"], &["ids"]);
    assert_eq!(unknown.code, 125, "{unknown:?}");
    assert!(unknown.err.contains("user"), "{unknown:?}");
}

fn a_daemon_does_not_survive_its_job(f: &Fixture) {
    let home = f.path("").display().to_string();
    let file = if f.level.container {
        "/tmp/pid".into()
    } else {
        format!("{home}work/pid")
    };
    // That nothing with this word among its arguments is left is looked at after every check.
    f.run(&[], &["daemon", &file, &home]).ok();
    // Nor does it survive a stop of its job.
    let id = f.start(&[], &["daemon-and-stay", &file, &home]);
    // The processes of a machine are its own.
    let seen = f.processes().iter().any(|p| p.contains("daemon-and-stay"));
    assert!(seen || f.level.machine);
    f.hyperion(&["stop", "-t", "0s", &id]).ok();
}

fn stop_ends_a_program_that_ignores_sigterm_and_twice_is_no_error(f: &Fixture) {
    let id = f.start(&[], &["stubborn"]);
    f.hyperion(&["stop", "-t", "100ms", &id]).ok();
    assert_eq!(f.hyperion(&["wait", &id]).out.trim(), "137");
    f.hyperion(&["stop", "-t", "100ms", &id]).ok();
    f.hyperion(&["rm", &id]).ok();
    assert!(!f.path("hyperion/jobs").join(&id).exists());
}

/// A machine is as large as it may be, whoever calls.
fn limits_of_a_machine_hold(f: &Fixture) {
    let eaten = f.run(&["--memory", "300m"], &["eat", "512"]);
    assert_eq!(eaten.code, 137, "{eaten:?}");
    assert!(eaten.err.contains("memory limit"), "{eaten:?}");
    let made = f.run(&["--pids", "20"], &["forks", "200"]).ok();
    let made: u32 = made.trim().parse().expect("a number");
    assert!((5..20).contains(&made), "{made}");
    // Parts of a processor, and which it is, are the host's matter. Inside, they
    // are counted from zero.
    for flags in [["--cpus", "0.5"], ["--cpuset", "0"]] {
        let done = f.run(&flags, &["cpus"]);
        if f.ids().0 == 0 || done.code == 0 {
            assert_eq!(done.ok().trim(), "0");
        } else {
            done.refused("cannot limit", "");
        }
    }
}

fn limits_hold_or_are_refused(f: &Fixture) {
    if f.level.machine {
        return limits_of_a_machine_hold(f);
    }
    if !f.has_group() {
        for flags in [["--memory", "64m"], ["--pids", "9"], ["--cpus", "0.5"]] {
            let done = f.run(&flags, &["exit", "0"]);
            // A user may have a cgroup of their own, and then it holds.
            if done.code != 0 {
                assert_eq!(done.code, 125, "{done:?}");
                assert!(done.err.contains("hint: "), "{done:?}");
            }
        }
        return;
    }
    let eaten = f.run(&["--memory", "64m"], &["eat", "256"]);
    assert_eq!(eaten.code, 137, "{eaten:?}");
    assert!(eaten.err.contains("memory limit"), "{eaten:?}");
    assert!(eaten.err.contains("--memory"), "{eaten:?}");

    let made: u32 = f
        .run(&["--pids", "20"], &["forks", "200"])
        .ok()
        .trim()
        .parse()
        .expect("a number");
    assert!((5..20).contains(&made), "{made}");

    let last = std::thread::available_parallelism()
        .map_or(0, |n| n.get() - 1)
        .to_string();
    let done = f.run(&["--cpuset", &last], &["cpus"]);
    // systemd gives users' managers all but this.
    if f.ids().0 == 0 || done.code == 0 {
        assert_eq!(done.ok().trim(), last);
    } else {
        done.refused("cannot limit", "have them delegated too");
    }
}

fn a_limit_on_files_is_capped_at_the_hard_limit(f: &Fixture) {
    let script = "ulimit -n 1000; exec \"$0\" \"$@\"";
    let limits = |words: &str| {
        let flags = ["--ulimit", words];
        let done = f.run_in_shell(script, &flags, &["files-limit"]);
        let told = done.err.contains("warning: --ulimit nofile goes up to");
        (done.ok(), told)
    };
    assert_eq!(limits("nofile=100:200"), ("100 200".into(), false));
    // Only root of the host may have more than it was given, where root has that
    // power. A machine has been given nothing by its caller.
    let (raised, told) = limits("nofile=3000:4000");
    let more = f.level.real_root && raised == "3000 4000" && !told;
    let less = !f.level.machine && raised == "1000 1000" && told != f.level.real_root;
    assert!(more || less, "{raised} {told}");
}

fn usage_is_reported(f: &Fixture) {
    let done = f.run(&["--report=json"], &["eat", "20"]);
    assert_eq!(done.code, 0, "{done:?}");
    let line = done.err.lines().last().expect("a line");
    let report: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let peak = report["report"]["ranks"][0]["memory_peak"]
        .as_u64()
        .expect("a number");
    assert!(peak > 20 << 20, "{line}");
    assert!(
        report["report"]["wall"]["nanos"].as_u64() > Some(0),
        "{line}"
    );
}

fn only_the_standard_streams_are_open(f: &Fixture) {
    let script =
        "for n in 3 4 5 6 7 8 9; do eval \"exec $n</etc/passwd\"; done; exec \"$0\" \"$@\"";
    assert_eq!(f.run_in_shell(script, &[], &["fds"]).ok(), "0 1 2");
}

fn a_strict_umask_of_the_caller_does_no_harm(f: &Fixture) {
    let script = "umask 077; exec \"$0\" \"$@\"";
    if f.level.machine && f.ids().0 == 0 {
        // QEMU becomes a user that is nobody else's, and reads the kernel.
        let install = format!(
            "umask 077; exec \"$0\" vm kernel install --deb {}",
            guest_cache().join("kernel.deb").display()
        );
        f.run_in_shell(&install, &[], &[]).ok();
    }
    f.run_in_shell(script, &[], &["ids"]).ok();
    if f.level.container && f.level.other_users {
        f.run_in_shell(script, &["-u", "ana"], &["ids"]).ok();
    }
}

fn the_root_can_be_read_only(f: &Fixture) {
    assert_eq!(
        f.run(&["--read-only"], &["write", "/file", "x"]).out,
        "EROFS\n"
    );
    assert_eq!(
        f.run(&["--read-only"], &["write", "/tmp/file", "x"]).ok(),
        "done"
    );
    assert_eq!(f.run(&[], &["write", "/file", "x"]).ok(), "done");
    assert!(
        !f.path("rootfs/file").exists(),
        "the image itself is never written to"
    );
}

fn memory_is_mounted_in_the_size_asked(f: &Fixture) {
    let room = |flags: &[&str], path| f.run(flags, &["room", path]).ok().trim().to_owned();
    assert_eq!(room(&["--shm-size", "8MiB"], "/dev/shm"), "8388608");
    assert_eq!(
        room(&["--tmpfs", "/scratch:size=1MiB"], "/scratch"),
        "1048576"
    );
}

fn a_mount_can_be_read_only_and_files_made_on_it_are_the_callers(f: &Fixture) {
    let work = f.path("work").display().to_string();
    let (writable, read_only) = (format!("{work}:/mnt"), format!("{work}:/mnt:ro"));
    assert_eq!(
        f.run(&["-v", &read_only], &["write", "/mnt/a", "x"]).out,
        "EROFS\n"
    );
    assert_eq!(
        f.run(&["-v", &writable], &["write", "/mnt/a", "x"]).ok(),
        "done"
    );
    let made = fs::metadata(f.path("work/a")).expect("it is there");
    assert_eq!((made.uid(), made.gid()), f.ids());
}

fn a_mount_point_that_is_a_link_stays_inside(f: &Fixture) {
    f.write("work/marker", "mounted");
    symlink("/etc", f.path("rootfs/absolute")).expect("a link");
    symlink("../../../../../../../../etc", f.path("rootfs/upwards")).expect("a link");
    symlink("/nowhere", f.path("rootfs/dangling")).expect("a link");
    let work = f.path("work").display().to_string();
    for link in ["absolute", "upwards"] {
        let mount = format!("{work}:/{link}/hyperion-test-mount");
        let out = f
            .run(&["-v", &mount], &["cat", "/etc/hyperion-test-mount/marker"])
            .ok();
        assert_eq!(out, "mounted");
    }
    let done = f.run(&["-v", &format!("{work}:/dangling")], &["exit", "0"]);
    assert!([0, 125].contains(&done.code), "{done:?}");
    for host in ["/etc/hyperion-test-mount", "/nowhere"] {
        assert!(!fs::exists(host).expect("it can be looked at"), "{host}");
    }
}

fn the_host_name_is_what_was_asked(f: &Fixture) {
    assert_eq!(f.run(&["--hostname", "node7"], &["hostname"]).ok(), "node7");
}

fn without_a_network_there_is_loopback_only(f: &Fixture) {
    assert_eq!(f.run(&["--network", "none"], &["interfaces"]).ok(), "lo up");
    assert_eq!(
        f.run(&["--network", "none"], &["ls", "/sys/class/net"])
            .ok(),
        "lo"
    );
}

fn an_image_of_the_store_runs(f: &Fixture) {
    let folder = f.path("rootfs").display().to_string();
    f.hyperion(&["image", "import", &folder, "tiny:1"]).ok();
    for flags in [&[][..], &["--read-only"]] {
        let words = f.words(flags, &["ids"]);
        let image = f.image();
        let words: Vec<&str> = words
            .iter()
            .map(|w| if *w == image { "tiny:1" } else { w.as_str() })
            .collect();
        assert!(f.hyperion(&words).ok().starts_with("uid=0 euid=0 gid=0 "));
    }
}

fn a_command_beside_the_job_is_fenced_like_it(f: &Fixture) {
    let id = f.start(&[], &["stay"]);
    let exec = |command: &[&str]| {
        let words = ["exec", id.as_str(), "probe"];
        let words: Vec<&str> = words.into_iter().chain(command.iter().copied()).collect();
        f.hyperion(&words).ok()
    };
    let status = |text: String| -> Vec<String> {
        let fence = [
            "Cap",
            "Seccomp",
            "NoNewPrivs",
            "Umask",
            "Uid",
            "Gid",
            "Groups",
        ];
        let lines = text.lines().map(str::to_owned);
        lines
            .filter(|l| fence.iter().any(|f| l.starts_with(f)))
            .collect()
    };
    let rank = f.run(&[], &["cat", "/proc/self/status"]).ok();
    assert_eq!(
        status(exec(&["cat", "/proc/self/status"])),
        status(rank),
        "the same powers"
    );
    assert_eq!(exec(&["fds"]), "0 1 2");
    assert_eq!(exec(&["attempt", "mount"]), "mount: EPERM");
    let processes = exec(&["ls", "/proc"]);
    let numbers = processes.lines().filter(|l| l.parse::<u32>().is_ok());
    assert_eq!(numbers.count(), 3, "init, rank and this: {processes}");
    f.hyperion(&["stop", "-t", "0s", &id]).ok();
}

fn a_debugger_beside_the_job_can_trace_it(f: &Fixture) {
    let id = f.start(&[], &["stay"]);
    let traced = f.hyperion(&["exec", &id, "probe", "trace", "2"]);
    // The kernel may let a process trace its own children only.
    let file = "/proc/sys/kernel/yama/ptrace_scope";
    let scope = f.hyperion(&["exec", &id, "probe", "cat", file]).out;
    let allowed = if ["ENOENT", "0"].contains(&scope.trim()) {
        "done\n"
    } else {
        "EPERM\n"
    };
    assert_eq!(traced.out, allowed);
    assert_eq!(
        f.hyperion(&["exec", &id, "probe", "trace", "1"]).out,
        "EPERM\n"
    );
    f.hyperion(&["stop", "-t", "0s", &id]).ok();
}

/// The host's part is played by a mount namespace of the test's own.
#[test]
fn mounts_show_on_the_other_side_as_asked() {
    for level in [Level::ROOT, Level::REAL_ROOT, Level::LONE_USER] {
        at(level, |f| {
            let work = f.path("work").display().to_string();
            // As the contract's users, root's words are those of whoever calls.
            let (uid, gid) = f.ids();
            let script = format!(
                "mount -t tmpfs none {work} && mount --make-shared {work} && \
                 exec setpriv --reuid {uid} --regid {gid} --clear-groups \"$0\" \"$@\""
            );
            let of = |option: &str| {
                let mount = format!("{work}:/mnt{option}");
                let words = ["cat", "/proc/self/mountinfo"];
                let all = f
                    .run_in_private_mounts(&script, &["-v", &mount], &words)
                    .ok();
                let line = all.lines().find(|line| line.contains(" /mnt "));
                let line = line.expect("it is mounted").to_owned();
                (line.contains(" shared:"), line.contains(" master:"))
            };
            assert_eq!(of(""), (false, false));
            assert_eq!(of(":rprivate"), (false, false));
            assert_eq!(of(":rslave"), (false, true));
            // A user's namespace only hears of the host's mounts.
            let root = uid == 0;
            assert_eq!(of(":rshared"), (root, !root));
        });
    }
}

#[test]
fn without_a_group_stats_ask_the_processes() {
    at(Level::LONE_USER, |f| {
        let id = f.start(&[], &["stay"]);
        let told = f.hyperion(&["stats", "--output", "json", &id]).ok();
        let rows: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let usage = &rows[0]["usage"];
        assert!(usage["memory_current"].as_u64() > Some(10_000), "{told}");
        // The init, and the program.
        assert!(usage["pids"].as_u64() > Some(1), "{told}");
        assert!(rows[0]["cores"].is_number(), "{told}");
        f.hyperion(&["stop", "-t", "0s", &id]).ok();
    });
}

#[test]
fn root_of_a_user_namespace_is_served_like_a_user() {
    at(Level::LONE_USER, |f| {
        let script = "exec unshare --user --map-root-user \"$0\" \"$@\"";
        let out = f.run_in_shell(script, &[], &["ids"]).ok();
        assert!(out.starts_with("uid=0 euid=0 gid=0 "), "{out}");
    });
}

#[test]
fn where_user_namespaces_are_used_up_the_error_says_so() {
    at(Level::LONE_USER, |f| {
        let script = "exec unshare --user --map-root-user bash -c \
            'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$0\" \"$@\"' \"$0\" \"$@\"";
        let done = f.run_in_shell(script, &[], &["ids"]);
        assert_eq!(done.code, 125, "{done:?}");
        assert!(done.err.contains("hint: user namespaces"), "{done:?}");
    });
}

#[test]
fn subordinate_ids_that_cannot_be_had_are_an_error_with_a_hint() {
    at(Level::USER, |f| {
        let script = "exec setpriv --no-new-privs \"$0\" \"$@\"";
        let done = f.run_in_shell(script, &[], &["ids"]);
        assert_eq!(done.code, 125, "{done:?}");
        assert!(done.err.contains("hint: newuidmap"), "{done:?}");
    });
}

/// The ranges are the host's to give: a mount namespace of its own has others.
#[test]
fn a_user_with_few_subordinate_ids_has_few_users_inside() {
    at(Level::USER, |f| {
        f.write("few", "hyperion-test:100000:10\n");
        f.write("none", "");
        let call = |ranges: &str, flags: &[&str]| {
            let script = "for f in subuid subgid; do mount --bind RANGES /etc/$f; done && \
                exec setpriv --reuid hyperion-test --regid hyperion-test --clear-groups \"$0\" \"$@\"";
            f.run_in_private_mounts(&script.replace("RANGES", ranges), flags, &["ids"])
        };
        assert_eq!(
            call("few", &["-u", "5:6"]).ok(),
            "uid=5 euid=5 gid=6 egid=6 groups=6"
        );
        let outside = call("few", &["-u", "500"]);
        assert!(outside.err.contains("hint: "), "{outside:?}");
        // With none at all, only the caller is known inside.
        assert!(call("none", &[]).ok().starts_with("uid=0 euid=0 "));
        assert_eq!(call("none", &["-u", "5"]).code, 125);
    });
}
