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
