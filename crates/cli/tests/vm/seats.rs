//! Where processors and memory of machines lie on the host.

use std::fs;
use std::path::Path;
use std::process::Command;

use hyperion_testkit::requires;
use rustix::process::{Pid, Signal, kill_process};

use crate::level::{child_of, site};
use crate::machines::{pid, show, vm};
use crate::site::{Site, finish, wait_gone};

/// Gives the processors that the threads of a QEMU may use, with their names, as
/// far as they are those of its guest's.
fn tied(qemu: Pid) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", qemu.as_raw_pid()));
    let mut all: Vec<(u32, String)> = tasks
        .expect("it runs")
        .flatten()
        .filter_map(|task| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let mut lines = status.lines();
            let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            let number = task.file_name().to_str()?.parse().ok()?;
            Some((number, list.trim().to_owned()))
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, list)| list).collect()
}

/// Gives the first two processors that this process may use.
fn two() -> [u32; 2] {
    let set = rustix::thread::sched_getaffinity(None).expect("asked");
    let mut all = (0..1024).filter(|&cpu| set.is_set(cpu));
    [(); 2].map(|()| all.next().expect("two processors") as u32)
}

/// Lets a command see a host of two NUMA nodes, the second without memory of its own.
fn on_two_nodes(site: &Site, cpus: [u32; 2], words: &[&str]) -> Command {
    let nodes = site.path().join("nodes");
    let write = |path: &Path, text: String| fs::write(path, text).expect("written");
    for (i, cpu) in cpus.iter().enumerate() {
        let node = nodes.join(format!("node{i}"));
        fs::create_dir_all(&node).expect("made");
        let kib = if i == 0 { 8_000_000 } else { 0 };
        write(&node.join("cpulist"), format!("{cpu}\n"));
        write(
            &node.join("meminfo"),
            format!("Node {i} MemTotal: {kib} kB\n"),
        );
    }
    write(&nodes.join("online"), "0-1\n".into());
    let own = site.command(words);
    let mut command = Command::new("unshare");
    let script = "mount --bind $0 /sys/devices/system/node && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(&nodes);
    command.arg(own.get_program()).args(own.get_args());
    for (name, value) in own.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

#[test]
fn processors_of_a_job_are_tied_to_the_hosts_and_it_sees_their_nodes() {
    requires!("guest", "root", "command:unshare", "cores:2");
    let site = site(&["sh", "cat", "sleep"]);
    let cpus = two();
    let nodes = "cat /sys/devices/system/node/node[01]/cpulist; \
                 while read -r line; do case $line in Cpus_allowed_list*) echo $line;; esac; \
                 done < /proc/self/status; exec sleep 300";
    let flags = ["run", "-d", "--isolation", "vm", "--bind", "numa"];
    let words = [&flags[..], &["tools", "sh", "-c", nodes]].concat();
    let job = finish(on_two_nodes(&site, cpus, &words)).ok();
    site.wait_for_log(&job, "Cpus_allowed_list:");
    // A rank is bound to the guest's first node.
    let log = site.run(&["logs", &job]).ok();
    assert_eq!(log, "0\n1\nCpus_allowed_list: 0");
    let (_, keeper) = site.processes(&job);
    let qemu = child_of(keeper);
    let threads = tied(qemu);
    for cpu in cpus {
        assert!(threads.contains(&cpu.to_string()), "{cpu}: {threads:?}");
    }
    // Somebody ends QEMU in a way that looks as if the guest had.
    kill_process(qemu, Signal::TERM).expect("it runs");
    site.run(&["wait", &job]).expect_code(125);
    let failure = site.inspect(&job)["end"]["failure"]["what"].take();
    assert_eq!(failure, "QEMU was told by a signal of this host to end");
}

#[test]
fn a_machine_runs_where_its_definition_says() {
    requires!("guest", "cores:2");
    let site = Site::new();
    let [first, second] = two();
    let define = |name: &str, pinned: u32| {
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>\
             <vcpu placement='static' cpuset='{first}'>2</vcpu>\
             <cputune><vcpupin vcpu='1' cpuset='{pinned}'/></cputune>\
             <os><type arch='x86_64' machine='q35'>hvm</type></os>\
             <cpu><numa><cell id='0' cpus='0' memory='32' unit='MiB'/>\
             <cell id='1' cpus='1' memory='32' unit='MiB'/></numa></cpu>\
             <devices/></domain>"
        );
        let file = site.path().join("domain.xml");
        fs::write(&file, xml).expect("written");
        vm(&site, &["define", &file.display().to_string()]).ok();
    };
    define("seated", second);
    vm(&site, &["start", "seated"]).ok();
    let qemu = pid(&show(&site, "seated")["running"]["qemu"]);
    let threads = tied(qemu);
    assert!(threads.contains(&second.to_string()), "{threads:?}");
    let others = threads.iter().filter(|list| **list == first.to_string());
    assert!(others.count() >= 2, "{threads:?}");
    // The host has none of that number.
    define("misplaced", 1000);
    let refused = vm(&site, &["start", "misplaced"]).expect_code(125);
    assert!(
        refused
            .err
            .contains("processor 1 of the machine cannot run on 1000"),
        "{refused:?}"
    );
    for name in ["seated", "misplaced"] {
        vm(&site, &["delete", "--force", name]).ok();
    }
    wait_gone(qemu);
}

#[test]
fn flags_say_where_a_machine_runs_and_what_its_memory_is_made_of() {
    requires!("command:qemu-img", "command:qemu-system-x86_64", "cores:2");
    let site = Site::new();
    let [first, second] = two();
    let both = format!("{first},{second}");
    let pins = [format!("0={second}"), format!("1={first}")];
    let words = [
        "create",
        "placed",
        "--memory",
        "64MiB",
        "--vcpus",
        "2",
        "--cpuset",
        &both,
        "--pin",
        &pins[0],
        "--pin",
        &pins[1],
        "--numa",
        "2",
        "--numatune",
        "0",
        "--start",
    ];
    vm(&site, &words).ok();
    let shown = show(&site, "placed");
    let vcpus = &shown["definition"]["vcpus"];
    assert_eq!(vcpus["pinning"]["0"], second.to_string(), "{vcpus}");
    assert_eq!(vcpus["numa"][1]["cpus"], "1", "{vcpus}");
    let qemu = pid(&shown["running"]["qemu"]);
    let threads = tied(qemu);
    for cpu in [first, second] {
        let seated = threads.iter().filter(|list| **list == cpu.to_string());
        assert_eq!(seated.count(), 1, "{cpu}: {threads:?}");
    }
    let xml = vm(&site, &["export", "placed"]).ok();
    for said in [
        format!("<vcpupin vcpu='0' cpuset='{second}'/>"),
        "<memory mode='strict' nodeset='0'/>".to_owned(),
        "<cell id='1' cpus='1' memory='32' unit='MiB'/>".to_owned(),
    ] {
        assert!(xml.contains(&said), "{said}: {xml}");
    }
    // Changed, for its next start, and the parts of its guest's nodes with it.
    vm(&site, &["edit", "placed", "--pin", &format!("0={first}")]).ok();
    vm(&site, &["resize", "placed", "--memory", "80MiB"]).ok();
    vm(&site, &["stop", "-t", "0s", "placed"]).ok();
    vm(&site, &["start", "placed"]).ok();
    let shown = show(&site, "placed");
    assert_eq!(shown["definition"]["vcpus"]["numa"][0]["memory"], 40 << 20);
    let threads = tied(pid(&shown["running"]["qemu"]));
    let seated = threads.iter().filter(|list| **list == first.to_string());
    assert_eq!(seated.count(), 2, "{threads:?}");
    vm(&site, &["stop", "-t", "0s", "placed"]).ok();
    let words = ["edit", "placed", "--bind", "none", "--hugepages=512MiB"];
    let refused = vm(&site, &words).expect_code(125);
    assert!(
        refused.err.contains("not made of whole pages"),
        "{refused:?}"
    );
    let words = ["edit", "placed", "--bind", "none", "--hugepages=4MiB"];
    vm(&site, &words).ok();
    let vcpus = show(&site, "placed")["definition"]["vcpus"].take();
    assert_eq!(vcpus["pinning"], serde_json::json!({}));
    assert_eq!(vcpus["numa"], serde_json::json!([]));
    vm(&site, &["start", "placed"]).refused("no huge pages of 4MiB", "--hugepages");
    vm(&site, &["edit", "placed", "--hugepages=none"]).ok();
    vm(&site, &["start", "placed"]).ok();

    // The next machine is tied to what is left.
    let words = ["create", "own", "--memory", "64MiB", "--bind", "core"];
    let pinned = |name: &str| show(&site, name)["definition"]["vcpus"]["pinning"]["0"].take();
    vm(&site, &words).ok();
    vm(
        &site,
        &["create", "next", "--memory", "64MiB", "--bind", "core"],
    )
    .ok();
    assert_ne!(pinned("own"), pinned("next"));
    vm(&site, &["create", "far", "--cpuset", "9999"]).refused("this host has", "choose");
    vm(&site, &["create", "far", "--numatune", "77"]).refused("NUMA node 77", "these nodes");
    vm(&site, &["create", "far", "--numa", "2"]).refused("1 processors", "each needs one");
    for name in ["placed", "own", "next"] {
        vm(&site, &["delete", "--force", name]).ok();
    }
}

#[test]
fn a_machine_that_is_bound_sees_the_nodes_of_its_host() {
    requires!(
        "root",
        "command:unshare",
        "command:qemu-system-x86_64",
        "cores:2"
    );
    let site = Site::new();
    let cpus = two();
    let create = ["vm", "create", "wide", "--memory", "64MiB", "--vcpus", "2"];
    let words = [&create[..], &["--bind", "numa"]].concat();
    finish(on_two_nodes(&site, cpus, &words)).ok();
    vm(&site, &["start", "wide"]).ok();
    let shown = show(&site, "wide");
    let definition = &shown["definition"]["vcpus"];
    assert_eq!(definition["numa"][0]["from"], 0, "{definition}");
    assert_eq!(definition["numa"][1]["cpus"], "1", "{definition}");
    assert_eq!(definition["topology"]["sockets"], 2, "{definition}");
    let threads = tied(pid(&shown["running"]["qemu"]));
    for cpu in cpus {
        assert!(threads.contains(&cpu.to_string()), "{cpu}: {threads:?}");
    }
    vm(&site, &["delete", "--force", "wide"]).ok();
}
