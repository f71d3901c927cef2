//! Attacks from inside a container, each of which must fail: as root, as root
//! with the host's ids, and as users with and without subordinate ids; and from
//! inside the same container in a machine.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::process::{Command, Stdio};

use hyperion_testkit::requires;

use crate::fixture::{Fixture, Level};

fn against(level: Level, attack: impl Fn(&mut Fixture)) {
    let Some(mut fixture) = Fixture::new(level) else {
        return;
    };
    attack(&mut fixture);
    fixture.assert_nothing_left();
}

macro_rules! attacks {
    ($($attack:ident),* $(,)?) => {
        attacks!(from_root, ROOT: $($attack),*);
        attacks!(from_root_with_host_ids, REAL_ROOT: $($attack),*);
        attacks!(from_a_user, USER: $($attack),*);
        attacks!(from_a_user_without_subordinate_ids, LONE_USER: $($attack),*);
        attacks!(from_a_machine_of_root, ROOT_MACHINE: $($attack),*);
        attacks!(from_a_machine_of_a_user, USER_MACHINE: $($attack),*);
    };
    ($module:ident, $level:ident: $($attack:ident),*) => {
        mod $module {
            $(#[test]
            fn $attack() {
                super::against(super::Level::$level, super::$attack);
            })*
        }
    };
}

attacks! {
    the_hosts_program_cannot_be_overwritten,
    capabilities_are_dockers_fourteen_and_none_for_a_user,
    system_calls_that_reach_out_are_refused,
    the_kernels_settings_and_groups_cannot_be_written,
    device_nodes_have_no_effect,
    a_set_user_id_program_gains_nothing,
    what_tells_of_the_host_is_masked,
    the_init_cannot_be_looked_into,
    processes_of_the_host_cannot_be_signalled,
    loopback_is_shared_only_with_the_hosts_network,
    the_callers_terminal_cannot_be_typed_into,
    the_working_folder_is_no_way_out,
    an_image_full_of_links_harms_nothing,
    a_pipe_for_a_user_database_holds_nobody_up,
    what_a_job_writes_is_out_of_other_users_reach,
}

/// Asserts that no line says `done`, and that there are lines.
#[track_caller]
fn all_refused(out: &str) {
    assert!(!out.is_empty() && !out.contains("done"), "{out}");
}

fn the_hosts_program_cannot_be_overwritten(f: &mut Fixture) {
    let program = f.own_program();
    let before = fs::read(&program).expect("readable");
    let shim = "/dev/.hyperion/hyperion-rank";
    let [init, file, running] = f.each(
        &[],
        [
            &["overwrite", "/proc/1/exe"],
            &["overwrite", shim],
            &["hijack", shim],
        ],
    );
    for out in [&init, &file, &running] {
        all_refused(out);
    }
    assert!(running.starts_with("runs: "), "{running}");
    // The script's interpreter is then what executes it: the init.
    f.write("rootfs/bin/script", "#!/proc/self/exe\n");
    fs::set_permissions(
        f.path("rootfs/bin/script"),
        fs::Permissions::from_mode(0o755),
    )
    .expect("a mode");
    let script = f.run(&[], &["exec", "/bin/script"]);
    assert_ne!(script.code, 0, "{script:?}");
    let image = f.image();
    let words = f.words(&[], &[]);
    let at = words.iter().position(|w| *w == image).expect("the image");
    let mut words: Vec<&str> = words[..=at].iter().map(String::as_str).collect();
    words.push("/bin/script");
    assert_ne!(f.hyperion(&words).code, 0);
    assert!(
        fs::read(&program).expect("readable") == before,
        "the program has changed"
    );
}

fn capabilities_are_dockers_fourteen_and_none_for_a_user(f: &mut Fixture) {
    let status = |flags: &[&str]| f.run(flags, &["cat", "/proc/self/status"]).ok();
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        line.expect("the kernel tells it")
            .trim_start_matches(':')
            .trim()
            .to_owned()
    };
    let (all, none) = (status(&[]), status(&["--cap-drop", "ALL"]));
    // chown, dac_override, fsetid, fowner, mknod, net_raw, setgid, setuid, setfcap,
    // setpcap, net_bind_service, sys_chroot, kill, audit_write.
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(field(&all, set), "00000000a80425fb", "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(&all, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&all, "Seccomp"), "2");
    assert_eq!(field(&all, "NoNewPrivs"), "1");
    if f.level.other_users {
        let ana = status(&["-u", "ana"]);
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(field(&ana, set), "0000000000000000", "{set}");
        }
        assert_eq!(field(&ana, "NoNewPrivs"), "1");
    }
    assert_eq!(field(&none, "CapBnd"), "0000000000000000");
}

fn system_calls_that_reach_out_are_refused(f: &mut Fixture) {
    let calls = [
        "mount",
        "remount",
        "umount",
        "fsopen",
        "open_tree",
        "pivot_root",
        "unshare",
        "unshare-user",
        "setns",
        "clone-user",
        "ptrace-init",
        "init_module",
        "delete_module",
        "kexec_load",
        "clock_settime",
        "reboot",
        "swapon",
        "acct",
        "sethostname",
        "keyctl",
        "add_key",
        "bpf",
        "userfaultfd",
        "perf_event_open",
        "open_by_handle_at",
        "io_uring_setup",
        "syslog",
        "iopl",
        "vsock",
    ];
    let command: Vec<&str> = ["attempt"].into_iter().chain(calls).collect();
    let out = f.run(&[], &command).ok();
    assert_eq!(out.lines().count(), calls.len(), "{out}");
    for line in out.lines() {
        assert!(line.ends_with(": EPERM"), "{line}");
    }
    // The C library falls back on clone(2), whose flags can be looked at.
    assert_eq!(f.run(&[], &["attempt", "clone3"]).ok(), "clone3: ENOSYS");
}

fn the_kernels_settings_and_groups_cannot_be_written(f: &mut Fixture) {
    let command = [
        "write-each",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/notify_on_release",
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/cgroup/memory/notify_on_release",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let out = f.run(&[], &command).ok();
    assert_eq!(out.lines().count(), command.len() - 1, "{out}");
    all_refused(&out);
    all_refused(&f.run(&[], &["write", "/sys/fs/cgroup/new", "1"]).out);
    let groups = f.run(&[], &["ls", "/sys/fs/cgroup"]);
    let names: Vec<&str> = groups.out.lines().collect();
    // Nothing, or where there is version 2 only, the sandbox's own group.
    assert!(
        names.is_empty() || !names.contains(&"hyperion"),
        "{names:?}"
    );
}

fn device_nodes_have_no_effect(f: &mut Fixture) {
    // /dev/null would do no harm, so that a hole is seen and does none.
    let files = [
        "/node",
        "/tmp/node",
        "/dev/node",
        "/dev/shm/node",
        "/run/node",
    ];
    let words = files.map(|file| ["mknod", file, "c", "1", "3"]);
    for out in f.each(&[], words.each_ref().map(|w| &w[..])) {
        all_refused(&out);
    }
    if f.level.real_root || f.ids().0 == 0 {
        let node = f.path("rootfs/etc/node");
        let made = Command::new("mknod")
            .arg(&node)
            .args(["c", "1", "3"])
            .status();
        assert!(made.is_ok_and(|s| s.success()));
        // A machine's image is a copy, which is none of a device.
        let open = f.run(&[], &["open", "/etc/node"]).out;
        assert!(
            open == "EACCES\n" || (f.level.machine && open == "ENOENT\n"),
            "{open}"
        );
        let folder = format!("{}:/mnt", f.path("rootfs/etc").display());
        let open = f.run(&["-v", &folder], &["open", "/mnt/node"]).out;
        // A machine of a user has a copy, which is none of a device.
        let copied = f.level.machine && f.ids().0 != 0;
        assert_eq!(open, if copied { "ENOENT\n" } else { "EACCES\n" });
    }
    assert_eq!(f.run(&[], &["open", "/dev/null"]).out, "done\n");
    // A folder of devices is for using them: nobody inside makes more. Machines
    // show files that are no devices, or a copy without them.
    let devices = f.run(
        &["-v", "/dev:/devices"],
        &["mknod", "/devices/node", "c", "1", "3"],
    );
    if f.level.machine && f.ids().0 != 0 && devices.code == 125 {
        devices.refused("cannot read /dev/", "readable");
    } else {
        all_refused(&devices.out);
    }
}

fn a_set_user_id_program_gains_nothing(f: &mut Fixture) {
    if !f.level.other_users {
        return;
    }
    let tool = f.path("rootfs/bin/tool");
    fs::copy(f.path("rootfs/bin/probe"), &tool).expect("a copy");
    chown(&tool, Some(f.ids().0), Some(f.ids().1)).expect("an owner");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o6755)).expect("a mode");
    let out = f.run(&["-u", "ana"], &["exec", "/bin/tool", "ids"]).ok();
    assert!(
        out.starts_with("uid=1000 euid=1000 gid=100 egid=100 "),
        "{out}"
    );
    let out = f
        .run(
            &["-u", "ana"],
            &["exec", "/bin/tool", "attempt", "setuid-root"],
        )
        .ok();
    assert_eq!(out, "setuid-root: EPERM");
}

fn what_tells_of_the_host_is_masked(f: &mut Fixture) {
    let masked = [
        ["cat", "/proc/kcore"],
        ["cat", "/proc/keys"],
        ["cat", "/proc/latency_stats"],
        ["cat", "/proc/timer_list"],
        ["cat", "/proc/sched_debug"],
        ["cat", "/proc/interrupts"],
        ["ls", "/sys/firmware"],
        ["ls", "/proc/acpi"],
        ["ls", "/proc/scsi"],
        ["ls", "/sys/devices/virtual/powercap"],
    ];
    let outs = f.each(&[], masked.each_ref().map(|w| &w[..]));
    for ([_, path], out) in masked.iter().zip(outs) {
        assert!(out.is_empty() || out == "ENOENT\n", "{path}: {out}");
    }
    // The host's mounts have gone with its root, and its processes with its namespace.
    let words: [&[&str]; 2] = [&["cat", "/proc/self/mountinfo"], &["ls", "/proc"]];
    let [mounts, processes] = f.each(&[], words);
    assert!(
        !mounts.contains(" /home ") && mounts.matches(" / / ").count() == 1,
        "{mounts}"
    );
    let numbers = processes
        .lines()
        .filter(|l| l.parse::<u32>().is_ok())
        .count();
    assert_eq!(
        numbers, 3,
        "the init and the two of the program: {processes}"
    );
}

fn the_init_cannot_be_looked_into(f: &mut Fixture) {
    let mut levels: Vec<&[&str]> = vec![&[]];
    if !f.level.real_root {
        // Of its own user namespace, to which the init's memory does not belong.
        levels.push(&["--cap-add", "SYS_PTRACE"]);
    }
    for flags in levels {
        let words = [
            ["open", "/proc/1/environ"],
            ["open", "/proc/1/maps"],
            ["open", "/proc/1/mem"],
            ["open", "/proc/1/auxv"],
            ["open", "/proc/1/exe"],
        ];
        for out in f.each(flags, words.each_ref().map(|w| &w[..])) {
            all_refused(&out);
        }
    }
    // Root inside may count its open files; none can be opened.
    let files: Vec<String> = (0..10).map(|n| format!("/proc/1/fd/{n}")).collect();
    let mut open = vec!["write-each"];
    open.extend(files.iter().map(String::as_str));
    let words: [&[&str]; 4] = [
        &["cat", "/proc/1/cmdline"],
        &open,
        &["ls", "/proc/1/root"],
        &["ls", "/proc/1/cwd"],
    ];
    let [words, files, root, cwd] = f.each(&[], words);
    // Not the words that the host's command line began with. A machine's began
    // with `/init`, which leaves no room for more.
    let name = words.trim_end_matches('\0');
    assert!(
        name == "hyperion-init" || (f.level.machine && name == "hyper"),
        "{name}"
    );
    all_refused(&files);
    for out in [root, cwd] {
        assert!(["EACCES\n", "EPERM\n"].contains(&out.as_str()), "{out}");
    }
}

fn processes_of_the_host_cannot_be_signalled(f: &mut Fixture) {
    let mut victim = f.command("sleep").arg("1000").spawn().expect("it starts");
    let pid = victim.id().to_string();
    let out = f.run(&[], &["kill", &pid]).out;
    let alive = victim.try_wait().expect("a child").is_none();
    victim.kill().expect("a child");
    victim.wait().expect("a child");
    assert_eq!(out, "ESRCH\n");
    assert!(alive);
}

fn loopback_is_shared_only_with_the_hosts_network(f: &mut Fixture) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port().to_string();
    assert_eq!(
        f.run(&["--network", "none"], &["connect", &port]).out,
        "ECONNREFUSED\n"
    );
    // A machine has a network of its own, and does not pretend to be in the host's.
    let (flags, out) = match f.level.machine {
        true => (&[][..], "ECONNREFUSED\n"),
        false => (&["--network", "host"][..], "done\n"),
    };
    assert_eq!(f.run(flags, &["connect", &port]).out, out);
    if f.level.machine {
        f.run(&["--network", "host"], &["connect", &port])
            .refused("not in the host's network", "--network");
    }
}

fn the_callers_terminal_cannot_be_typed_into(f: &mut Fixture) {
    requires!("command:script");
    let words = f.words(&[], &["attempt", "tiocsti"]).join(" ");
    let mut script = f.command("timeout");
    let call = format!("{} {words}", f.program().display());
    script
        .args(["-k", "1", "60", "script", "-qec", &call, "/dev/null"])
        .stdin(Stdio::null());
    let out = script.output().expect("it starts");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("tiocsti: E"), "{text}");
    assert_eq!(
        f.run(&[], &["session"]).ok(),
        "1",
        "it leads a session of its own"
    );
}

fn the_working_folder_is_no_way_out(f: &mut Fixture) {
    // The files that a machine's init has open are the machine's.
    let last = if f.level.machine { 4 } else { 12 };
    for fd in 3..last {
        let folder = format!("/proc/self/fd/{fd}");
        let done = f.run(&["-w", &folder], &["cat", "etc/shadow"]);
        assert_ne!(done.code, 0, "{done:?}");
    }
    let done = f.run(&["-w", "/proc/1/cwd"], &["cwd"]);
    assert_ne!(done.code, 0, "{done:?}");
}

fn an_image_full_of_links_harms_nothing(f: &mut Fixture) {
    let outside = f.path("work/outside");
    fs::create_dir(&outside).expect("a folder");
    let up = format!("../../../../../../../..{}", outside.display());
    for name in ["proc", "sys", "dev", "run"] {
        symlink(&up, f.path("rootfs").join(name)).expect("a link");
    }
    fs::remove_dir(f.path("rootfs/tmp")).expect("removed");
    symlink("/proc/self/fd", f.path("rootfs/tmp")).expect("a link");
    for name in ["hosts", "resolv.conf"] {
        symlink(format!("{up}/{name}"), f.path("rootfs/etc").join(name)).expect("a link");
    }
    for flags in [&[][..], &["--read-only"]] {
        let done = f.run(flags, &["cat", "/proc/self/status"]);
        assert!([0, 1, 125].contains(&done.code), "{done:?}");
    }
    assert_eq!(fs::read_dir(&outside).expect("readable").count(), 0);
}

fn a_pipe_for_a_user_database_holds_nobody_up(f: &mut Fixture) {
    let file = f.path("rootfs/etc/passwd");
    fs::remove_file(&file).expect("removed");
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .is_ok_and(|s| s.success())
    );
    chown(&file, Some(f.ids().0), Some(f.ids().1)).expect("an owner");
    let done = f.run(&["-u", "ana"], &["ids"]);
    assert_eq!(done.code, 125, "{done:?}");
}

fn what_a_job_writes_is_out_of_other_users_reach(f: &mut Fixture) {
    let id = f.start(&[], &["stay"]);
    let job = f.path("hyperion/jobs").join(&id[..2]).join(&id);
    let mode = |path: &std::path::Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777
    };
    if f.level.machine {
        // It is in the guest's memory.
        assert!(!job.join("scratch").exists());
    } else {
        // A set-user-id file of root's lies there, if the program has made one.
        assert_eq!(mode(&job.join("scratch")), 0o700);
    }
    for file in ["log", "job.json", "running.json", "control"] {
        assert_eq!(mode(&job.join(file)) & 0o077, 0, "{file}");
    }
    f.hyperion(&["stop", "-t", "0s", &id]).ok();
}

#[test]
fn two_jobs_of_root_have_different_ids_far_from_any_users() {
    against(Level::ROOT, |f| {
        let base = || {
            let map = f.run(&[], &["cat", "/proc/self/uid_map"]).ok();
            let mut fields = map.split_ascii_whitespace();
            assert_eq!(fields.next(), Some("0"));
            let base: u32 = fields
                .next()
                .and_then(|b| b.parse().ok())
                .expect("a number");
            assert!(base >= 1 << 30, "{map}");
            base
        };
        // One pair in 16,000 is alike.
        let bases: std::collections::BTreeSet<u32> = (0..4).map(|_| base()).collect();
        assert!(bases.len() > 1, "{bases:?}");
    });
}
