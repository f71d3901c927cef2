//! Jobs in a virtual machine: the same words, the same answers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyperion_testkit::{Done, guest_cache, requires, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{LONG, Running, Site, cgroups, wait_gone};

/// What a job needs: a kernel and an image.
pub(crate) fn site(programs: &[&str]) -> Site {
    furnished(Site::new(), programs)
}

/// Gives a site what a job needs.
pub(crate) fn furnished(site: Site, programs: &[&str]) -> Site {
    // Where it lies not every user may go.
    let package = site.path().join("kernel.deb").display().to_string();
    fs::copy(guest_cache().join("kernel.deb"), &package).expect("copied");
    site.run(&["vm", "kernel", "install", "--deb", &package])
        .ok();
    let root = site.rootfs(programs);
    site.run(&["image", "import", &root, "tools"]).ok();
    site
}

/// Gives the only child of a process that has one.
pub(crate) fn child_of(parent: Pid) -> Pid {
    first_child(parent).expect("it has a child")
}

fn first_child(parent: Pid) -> Option<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", parent.as_raw_pid());
    let children = fs::read_to_string(path).ok()?;
    Pid::from_raw(children.split_ascii_whitespace().next()?.parse().ok()?)
}

#[test]
fn a_machine_gives_what_a_container_gives() {
    requires!("guest");
    let site = site(&["sh", "cat", "hostname", "id", "seq"]);
    let script = "echo out; echo err >&2; pwd; echo $X $HYPERION_RANK $PATH; hostname; id -u; \
                  cat; echo kept > /tmp/file; cat /tmp/file; exit 7";
    let at = |level: &str| -> Done {
        let words = [
            "run",
            "--rm",
            "-i",
            "--isolation",
            level,
            "-e",
            "X=1",
            "-w",
            "/etc",
            "--hostname",
            "inside",
            "-u",
            "7",
            "tools",
            "sh",
            "-c",
            script,
        ];
        let mut running = Running::start(&site, &words);
        running.write("from here\n");
        running.finish()
    };
    let (container, machine) = (at("container"), at("vm"));
    assert_eq!(container.code, 7, "{container:?}");
    assert_eq!((machine.code, &machine.out), (7, &container.out));
    assert!(machine.err.contains("err\n"), "{machine:?}");
    // More than is under way at a time, and in order; on the other board, and with
    // a folder as the image.
    let board = ["run", "--rm", "--isolation", "vm", "--machine", "microvm"];
    let folder = site.path().join("rootfs").display().to_string();
    let many = site.run(&[&board[..], &[&folder, "seq", "200000"]].concat());
    let copied = format!("note: {folder} is copied into the machine (");
    assert!(many.err.contains(&copied), "{many:?}");
    let many = many.ok();
    assert!(many.lines().eq((1..=200_000).map(|n: u32| n.to_string())));
}

#[test]
fn a_job_in_a_machine_is_served_from_any_terminal() {
    requires!("guest");
    let site = site(&["sh", "sleep", "nproc", "cat", "date"]);
    let script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let size = ["--memory", "400m", "--cpus", "1"];
    // So that a program inside can set the clock.
    let powers = ["--userns", "host", "--cap-add", "sys_time"];
    let flags = [&["run", "-d", "--isolation", "vm"][..], &size, &powers].concat();
    let started = site.run(&[&flags[..], &["tools", "sh", "-c", script]].concat());
    // Whoever was warned is told again in the report, and nobody else.
    let emulated = started.err.contains("the machine is emulated");
    let job = started.ok();
    site.wait_for_log(&job, "up");
    // The machine is as large as was asked for.
    assert_eq!(site.run(&["exec", &job, "nproc"]).ok(), "1");
    let memory = site.run(&["exec", &job, "cat", "/proc/meminfo"]).ok();
    let total: u64 = memory
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number");
    assert!((300 << 10..400 << 10).contains(&total), "{total} KiB");
    // The clock is its host's again when another program starts, wherever it was.
    for wrong in ["2020-01-01", "2040-01-01"] {
        site.run(&["exec", &job, "date", "-s", wrong]).ok();
        assert!(wait_until(LONG, || {
            let inside = site.run(&["exec", &job, "date", "+%s"]).ok();
            let inside = UNIX_EPOCH + Duration::from_secs(inside.trim().parse().expect("seconds"));
            let now = SystemTime::now();
            let off = now.duration_since(inside).unwrap_or_else(|e| e.duration());
            off < Duration::from_secs(2)
        }));
    }
    its_time_passes_as_the_hosts(&site, &job);
    let done = site.run(&["exec", &job, "sh", "-c", "echo beside; exit 3"]);
    assert_eq!((done.code, done.out.as_str()), (3, "beside\n"));
    assert!(site.run(&["stats", &job]).ok().contains(&job));
    site.run(&["stop", &job]).ok();
    site.run(&["wait", &job]).expect_code(5);
    assert_eq!(site.run(&["logs", &job]).ok(), "up\nbye");
    let report = site.run(&["report", &job]).ok();
    assert_eq!(report.contains("vm, emulated"), emulated, "{report}");
    assert!(wait_until(LONG, || cgroups(std::slice::from_ref(&job)).is_empty()));
}

/// Compares spans of time by clocks that nobody sets.
fn its_time_passes_as_the_hosts(site: &Site, job: &str) {
    let uptime = || -> f64 {
        let text = site.run(&["exec", job, "cat", "/proc/uptime"]).ok();
        let first = text.split_ascii_whitespace().next();
        first.and_then(|s| s.parse().ok()).expect("seconds")
    };
    let before = Instant::now();
    let first = uptime();
    let between = Instant::now();
    loop {
        let least = between.elapsed().as_secs_f64();
        let its = uptime() - first;
        let most = before.elapsed().as_secs_f64();
        // What was asked took most of the time at first.
        if most < 1.5 * least {
            let right = (0.9 * least..1.1 * most).contains(&its);
            assert!(right, "{its} s where {least} to {most} s passed");
            return;
        }
    }
}

#[test]
fn whatever_is_killed_ends_the_machine_and_is_told() {
    requires!("guest");
    let site = site(&["sh", "sleep"]);
    let start = || {
        let words = ["run", "-d", "--isolation", "vm", "tools", "sleep", "300"];
        let job = site.run(&words).ok();
        let (supervisor, init) = site.processes(&job);
        (job, supervisor, init, child_of(init))
    };
    let kill = |pid| kill_process(pid, Signal::KILL).expect("it runs");

    let (job, _, init, qemu) = start();
    kill(qemu);
    site.run(&["wait", &job]).expect_code(125);
    let failure = site.inspect(&job)["end"]["failure"]["what"].take();
    let why = "the virtual machine was killed: QEMU ended by SIGKILL";
    assert_eq!(failure, why);
    wait_gone(init);

    let (_, _, init, qemu) = start();
    kill(init);
    wait_gone(qemu);

    let (lost, supervisor, init, qemu) = start();
    kill(supervisor);
    wait_gone(init);
    wait_gone(qemu);
    assert_eq!(site.state(&lost), "lost");
    site.run(&["ps"]).ok();
    assert!(wait_until(LONG, || cgroups(std::slice::from_ref(&lost)).is_empty()));
}

/// Waits for the process that keeps a machine. It goes by its name long before
/// anybody is inside.
pub(crate) fn keeper(site: &Site) -> Pid {
    let keeper = || {
        let here = site.path().display().to_string();
        let mut all = fs::read_dir("/proc").ok()?.flatten();
        all.find_map(|entry| {
            let environ = fs::read(entry.path().join("environ")).ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let ours = String::from_utf8_lossy(&environ).contains(&here);
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Pid::from_raw(pid).filter(|_| ours && name == "hyperion-vm\n")
        })
    };
    wait_for(LONG, keeper).expect("it starts")
}

#[test]
fn a_machine_on_its_way_up_is_stopped_at_once() {
    requires!("guest");
    let site = site(&["sh"]);
    let words = [
        "run",
        "--isolation",
        "vm",
        "tools",
        "sh",
        "-c",
        "echo never",
    ];
    let running = Running::start(&site, &words);
    let keeper = keeper(&site);
    let since = Instant::now();
    running.signal(Signal::INT);
    let done = running.finish();
    let took = since.elapsed();
    assert_eq!((done.code, done.out.as_str()), (130, ""), "{done:?}");
    assert!(done.err.contains("stopped before it began"), "{done:?}");
    // It does not wait for a machine that takes as long as it takes.
    assert!(took < Duration::from_secs(10), "{took:?}");
    wait_gone(keeper);
    assert_eq!(site.jobs(), [] as [String; 0]);
}

/// Gives how long a process has had a processor, in hundredths of a second.
fn processor_time(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |at: usize| fields.split_ascii_whitespace().nth(at)?.parse::<u64>().ok();
    Some(field(11)? + field(12)?)
}

#[test]
fn a_machine_that_is_kept_waiting_while_it_measures_its_timer_begins_anew() {
    requires!("guest");
    let site = site(&["echo"]);
    let words = ["run", "--isolation", "vm", "--machine", "microvm", "tools"];
    let running = Running::start(&site, &[&words[..], &["echo", "here"]].concat());
    let keeper = keeper(&site);
    let qemu = wait_for(LONG, || first_child(keeper)).expect("it starts");
    wait_until(LONG, || processor_time(qemu).is_none_or(|time| time >= 40));
    // Emulated, its kernel finds no timer more often than not: it needs four
    // milliseconds in which nobody else has the processor for a hundred.
    while processor_time(qemu).is_some_and(|time| time < 90) {
        for (signal, lasts) in [(Signal::STOP, 110), (Signal::CONT, 3)] {
            let _ = kill_process(qemu, signal);
            std::thread::sleep(Duration::from_millis(lasts));
        }
    }
    let done = running.finish();
    assert_eq!(done.ok(), "here");
}

#[test]
fn folders_and_files_of_the_host_are_seen_and_written_as_asked() {
    requires!("guest", "root", "path:/usr/lib/qemu/virtiofsd");
    let site = site(&["sh", "cat"]);
    let folder = site.path().join("shared");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("in"), "from the host\n").expect("a file");
    let (all, one) = (folder.display().to_string(), folder.join("in"));
    let volumes = [
        format!("{all}:/work"),
        format!("{all}:/safe:ro"),
        format!("{}:/etc/one:ro", one.display()),
    ];
    let mut words = vec!["run", "--rm", "--isolation", "vm"];
    words.extend(volumes.iter().flat_map(|v| ["-v", v.as_str()]));
    let script = "cat /work/in /etc/one; echo from inside > /work/out; \
                  (echo x > /safe/never) 2>/dev/null || echo refused";
    words.extend(["tools", "sh", "-c", script]);
    let out = site.run(&words).ok();
    assert_eq!(out, "from the host\nfrom the host\nrefused");
    let written = fs::read_to_string(folder.join("out")).expect("written");
    assert_eq!(written, "from inside\n");
    assert!(!folder.join("never").exists());
}

#[test]
fn a_kernel_without_erofs_takes_its_image_as_ext4() {
    requires!("guest");
    let site = site(&["sh", "cat", "stat"]);
    let kernels = site.root().join("kernels");
    let kernel = fs::read_dir(&kernels).expect("readable").flatten();
    let mut kernel = kernel
        .map(|entry| entry.path())
        .filter(|path| path.is_dir());
    let kernel = kernel.next().expect("one");
    let release = kernel.file_name().expect("a name").display().to_string();
    let kept = site.path().join("kept");
    fs::rename(kernel.join("modules"), &kept).expect("moved");
    fs::remove_file(kept.join("erofs.ko")).expect("there");
    for file in ["modules.builtin", "vmlinuz"] {
        fs::rename(kernel.join(file), kept.join(file)).expect("moved");
    }
    site.run(&["vm", "kernel", "rm", &release]).ok();
    let (image, modules) = (kept.join("vmlinuz"), kept.display().to_string());
    let image = image.display().to_string();
    let add = ["vm", "kernel", "add", &image, "--modules", &modules];
    site.run(&[&add[..], &["--release", &release]].concat())
        .ok();
    let root = site.path().join("rootfs");
    fs::hard_link(root.join("bin/cat"), root.join("bin/second")).expect("linked");
    let closed = fs::Permissions::from_mode(0o750);
    fs::set_permissions(root.join("bin/stat"), closed).expect("set");
    let root = root.display().to_string();
    site.run(&["image", "import", &root, "linked"]).ok();
    // Copies of folders come and go as well.
    let work = site.path().join("work");
    fs::create_dir_all(work.join("deep")).expect("made");
    fs::write(work.join("deep/in"), "from the host\n").expect("written");
    let (all, one) = (
        format!("{}:/mnt", work.display()),
        format!("{}:/etc/one:ro", work.join("deep/in").display()),
    );
    let script = "[ /bin/cat -ef /bin/second ] && stat -c %h:%a /bin/cat /bin/stat; \
                  echo new > /bin/stat; cat /bin/stat /mnt/deep/in /etc/one; \
                  echo out > /mnt/deep/out; echo changed > /mnt/deep/in";
    let vm = ["run", "--rm", "--isolation", "vm"];
    let copied = ["--folders", "copy", "-v", &all, "-v", &one];
    let done = site.run(&[&vm[..], &copied, &["linked", "sh", "-c", script]].concat());
    assert!(done.err.contains("has no EROFS"), "{done:?}");
    let host = "from the host";
    assert_eq!(done.ok(), format!("2:755\n1:750\nnew\n{host}\n{host}"));
    let read = |name: &str| fs::read_to_string(work.join("deep").join(name));
    assert_eq!(read("out").expect("brought back"), "out\n");
    assert_eq!(read("in").expect("it is there"), "changed\n");
    if rustix::process::geteuid().is_root() && Path::new("/dev/net/tun").exists() {
        // A container beside it has the same image in its own form.
        let members = [
            "--member",
            "vm:1",
            "--member",
            "container:1",
            "--mpi",
            "none",
        ];
        let words = ["linked", "stat", "-c", "%h:%a", "/bin/cat"];
        let done = site.run(&[&["run", "--rm"], &members[..], &words].concat());
        assert_eq!(done.ok(), "2:755\n2:755");
    }
}

#[test]
fn what_cannot_become_a_machine_is_refused_with_the_fix() {
    requires!("guest");
    let site = Site::new();
    let root = site.rootfs(&["true"]);
    site.run(&["image", "import", &root, "tools"]).ok();
    let vm = ["run", "--rm", "--isolation", "vm"];
    site.run(&[&vm[..], &["tools", "true"]].concat())
        .refused("no kernel", "hyperion vm kernel install");
    let package = guest_cache().join("kernel.deb").display().to_string();
    site.run(&["vm", "kernel", "install", "--deb", &package])
        .ok();
    site.run(&[&vm[..], &["--memory", "96MiB", "tools", "true"]].concat())
        .refused("does not come up with 96MiB", "the least for --memory is ");
    let mut command = site.command(&[&vm[..], &["tools", "true"]].concat());
    command.env("PATH", site.path());
    crate::site::finish(command).refused("qemu-system-x86_64", "apt install qemu-system-x86");
    site.run(&["run", "--rm", "--machine", "q35", "tools", "true"])
        .refused("for virtual machines", "--isolation vm");
    site.run(&[&vm[..], &["--hugepages=4MiB", "tools", "true"]].concat())
        .refused("no huge pages of 4MiB", "--hugepages");
    site.run(&["run", "--rm", "--hugepages", "tools", "true"])
        .refused("for virtual machines", "--isolation vm");
    // A kernel that brings nothing of what a machine needs.
    let image = guest_cache().join("vmlinuz").display().to_string();
    let modules = site.path().join("modules");
    fs::create_dir(&modules).expect("made");
    fs::write(
        modules.join("modules.builtin"),
        "kernel/fs/overlayfs/overlay.ko\n",
    )
    .expect("written");
    let modules = modules.display().to_string();
    let add = ["vm", "kernel", "add", &image, "--modules", &modules];
    site.run(&add).ok();
    site.run(&[&vm[..], &["tools", "true"]].concat()).refused(
        "has no virtio_pci, virtio_blk",
        "hyperion vm kernel install",
    );
    assert_eq!(site.records(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn what_a_job_writes_is_in_memory_or_on_a_disk_that_leaves_nothing() {
    requires!("guest", "path:/usr/sbin/mkfs.ext4");
    let site = site(&["sh", "head", "wc", "rm"]);
    let run = |flags: &[&str]| {
        let script = "head -c 200000000 /dev/zero > /file && wc -c < /file && rm /file";
        let fixed = [
            "run",
            "--isolation",
            "vm",
            "--cpus",
            "1",
            "--memory",
            "384MiB",
        ];
        site.run(&[&fixed, flags, &["tools", "sh", "-c", script]].concat())
    };
    let memory = run(&[]);
    assert!(
        memory.code != 0 && memory.err.contains("No space left"),
        "{memory:?}"
    );
    assert_eq!(run(&["--disk", "512MiB"]).ok(), "200000000");
    let disk = |path: &std::path::PathBuf| site.length(path) > 16 << 20;
    assert_eq!(site.records().into_iter().find(disk), None);
    let small = run(&["--machine", "microvm", "--disk", "100MiB"]);
    assert!(
        small.code != 0 && small.err.contains("No space left"),
        "{small:?}"
    );
    run(&["--disk", "900TiB"]).refused("making the disk", "less with --disk");
    run(&["--disk", "1MiB"]).refused("no room for files", "16MiB");
    let words = ["run", "--disk", "1GiB", "tools", "sh"];
    site.run(&words)
        .refused("for virtual machines", "--isolation vm");
}
