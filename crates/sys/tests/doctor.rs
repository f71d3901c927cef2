//! The doctor on hosts that are trees of files, and on the host that runs the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyperion_model::{Bytes, Check, Verdict};
use hyperion_sys::host::{self, CgroupVersion, Host, User, Virtualization, XenRole};
use hyperion_sys::kvm::{KvmVerdict, Probed, Step};
use hyperion_testkit::requires;
use proptest::prelude::*;
use tempfile::TempDir;

const NOBODY: u32 = 4_000_000;

/// Writes a host's files below a folder. `== PATH [MODE]` starts a file,
/// `== PATH -> TARGET` makes a link.
fn write_tree(root: &Path, text: &str) {
    for part in text.split("\n== ").skip(1) {
        let (head, body) = part.split_once('\n').unwrap_or((part, ""));
        let (path, target) = match head.split_once(" -> ") {
            Some((path, target)) => (path, Some(target)),
            None => (head, None),
        };
        let (path, mode) = path.split_once(' ').unwrap_or((path, "0644"));
        let path = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder is made");
        if let Some(target) = target {
            std::os::unix::fs::symlink(target, &path).expect("a link is made");
            continue;
        }
        fs::write(&path, body).expect("a file is written");
        let mode = u32::from_str_radix(mode, 8).expect("an octal mode");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode is set");
    }
}

struct Fixture {
    host: Host,
    _folder: TempDir,
}

fn fixture(name: &str, uid: u32) -> Fixture {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.host"));
    tree(&fs::read_to_string(file).expect("a fixture"), uid)
}

fn tree(text: &str, uid: u32) -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    write_tree(folder.path(), text);
    Fixture {
        host: Host::at(folder.path()).seen_by(User {
            uid,
            gids: vec![uid],
        }),
        _folder: folder,
    }
}

impl Fixture {
    /// Adds what came of booting a guest.
    fn probed(mut self, verdict: KvmVerdict) -> Self {
        let cached = false;
        self.host = self.host.with_kvm(Probed { verdict, cached });
        self
    }

    fn check(&self, name: &str) -> Check {
        find(host::checks(&self.host), name)
    }

    /// Asserts a verdict and that evidence, consequence and fix hold some words.
    fn expect(&self, name: &str, verdict: Verdict, words: &[&str]) {
        let check = self.check(name);
        assert_eq!(check.verdict, verdict, "{check:#?}");
        let all = format!("{}\n{}\n{}", check.evidence, check.consequence, check.fix);
        for word in words {
            assert!(all.contains(word), "no {word:?} in {check:#?}");
        }
    }
}

fn find(checks: Vec<Check>, name: &str) -> Check {
    let mut found = checks.into_iter().filter(|c| c.name == name);
    let check = found.next().unwrap_or_else(|| panic!("no check {name}"));
    assert!(found.next().is_none(), "two checks {name}");
    check
}

use Verdict::{Limited, Missing, Ok as Good, Unknown};

#[test]
fn a_bare_laptop_is_told_what_to_do_in_its_own_words() {
    let laptop = fixture("laptop", 1000);
    assert_eq!(
        host::cpu(&laptop.host).virtualization,
        Some(Virtualization::Vmx)
    );
    laptop.expect("distribution", Good, &["Fedora"]);
    laptop.expect("cpu", Good, &["vmx", "i7-1185G7"]);
    laptop.expect(
        "kernel-modules",
        Limited,
        &["modprobe -a vhost_net vhost_vsock vfio_pci"],
    );
    laptop.expect(
        "vm-software",
        Missing,
        &["dnf install qemu-kvm", "virt-install"],
    );
    laptop.expect("topology", Good, &["2 core(s)", "2 thread(s)"]);
    laptop.expect("user-namespaces", Good, &["60000"]);
    laptop.expect("overlay", Good, &[]);
    laptop.expect("erofs", Limited, &["modprobe erofs"]);
    laptop.expect("idmapped-mounts", Good, &["btrfs"]);
    laptop.expect("lsm", Good, &["SELinux enforcing"]);
    laptop.expect("ptrace-scope", Limited, &["CMA"]);
    laptop.expect("gpu", Good, &["Intel 8086:9a49", "i915"]);
    laptop.expect("shared-memory", Good, &["7.6GiB"]);
    laptop.expect("mpi", Missing, &["dnf install mpich"]);
    laptop.expect("schedulers", Missing, &["this host"]);
    laptop.expect("infiniband", Missing, &[]);
    laptop.expect("container-engines", Good, &["/usr/bin/podman"]);
}

#[test]
fn rights_are_judged_for_the_user_who_asks() {
    // The files belong to whoever runs the tests; another user has no right to them.
    let laptop = fixture("laptop", NOBODY);
    laptop.expect("kvm", Limited, &["usermod -aG kvm", "emulation"]);
    laptop.expect("cgroups", Limited, &["version 2", "Delegate=yes"]);
    laptop.expect(
        "subordinate-ids",
        Limited,
        &["0 uids", "usermod --add-subuids"],
    );
    let root = fixture("laptop", 0);
    let hybrid = fixture("hybrid", NOBODY);
    hybrid.expect("kvm", Limited, &["chgrp kvm /dev/kvm"]);
    root.expect("kvm", Unknown, &["only a guest that boots"]);
    root.expect("cgroups", Good, &["version 2", "cpuset", "memory"]);
    root.expect("subordinate-ids", Good, &[]);
    let ada = fixture("laptop", 1000);
    ada.expect("subordinate-ids", Good, &["65536 uids", "newuidmap"]);
}

#[test]
fn a_cluster_node_shows_its_numa_nodes_fabric_and_scheduler() {
    let node = fixture("amd-node", 0);
    let topology = host::topology(&node.host);
    assert_eq!(topology.sockets.len(), 2);
    assert_eq!(topology.cores.len(), 4);
    assert_eq!(topology.threads_per_core(), 2);
    assert_eq!(topology.nodes.len(), 3);
    assert_eq!(topology.nodes[1].cpus.to_string(), "2-3,6-7");
    assert_eq!(topology.nodes[0].distances, [10, 32, 40]);
    assert!(topology.nodes[2].cpus.is_empty(), "memory alone");
    assert_eq!(topology.node_of(6), Some(1));
    assert_eq!(topology.caches.len(), 1, "a shared cache counts once");
    assert_eq!(topology.caches[0].size, Bytes(32 << 10));
    node.expect("topology", Limited, &["may use 4 of them (0-3)"]);
    node.expect("numa", Good, &["node 2: no processors, 256MiB"]);
    node.expect(
        "hugepages",
        Good,
        &["16 × 2MiB, 12 free", "0 × 1GiB", "madvise"],
    );
    node.expect(
        "kvm",
        Unknown,
        &["svm", "nested on", "only a guest that boots"],
    );
    node.expect("kernel-modules", Good, &[]);
    node.expect("vm-software", Good, &["qemu-system-x86_64"]);
    node.expect("user-namespaces", Limited, &["AppArmor profile"]);
    node.expect("erofs", Good, &["mkfs.erofs", "unpacked into folders"]);
    node.expect("shared-memory", Limited, &["64MiB", "--shm-size"]);
    node.expect("infiniband", Good, &["mlx5_0/1 ACTIVE 200 Gb/sec"]);
    node.expect("rdma", Good, &["uverbs0", "unlimited"]);
    node.expect("sr-iov", Good, &["2 of 8 virtual functions"]);
    node.expect(
        "network",
        Good,
        &["eno1 up 25 Gbit/s", "1 without a device"],
    );
    node.expect(
        "mpi",
        Good,
        &[
            "Open MPI (/usr/bin/mpirun)",
            "MPICH (/usr/bin/mpiexec.hydra)",
        ],
    );
    node.expect("pmi", Good, &["PMIx", "PMI-2"]);
    node.expect("schedulers", Good, &["Slurm"]);
    node.expect("storage", Good, &["ext4"]);
    let home = node
        .host
        .clone()
        .with_store("/home/ada/.local/share/hyperion");
    let storage = find(host::checks(&home), "storage");
    assert_eq!(storage.verdict, Limited);
    assert!(storage.consequence.contains("network file system"));
}

#[test]
fn a_gpu_node_lists_accelerators_by_maker_and_class() {
    let node = fixture("gpu-node", 0);
    node.expect(
        "gpu",
        Limited,
        &[
            "NVIDIA 10de:2330 at 0000:17:00.0 (nouveau)",
            "AMD 1002:74a1 with 192GiB",
            "dnf install nvidia-open",
        ],
    );
    node.expect(
        "fpga",
        Limited,
        &[
            "Xilinx 10ee:5000",
            "xclmgmt",
            "Intel 8086:0b30",
            "no driver",
        ],
    );
    node.expect("mpi", Good, &["Intel MPI"]);
    node.expect("schedulers", Good, &["PBS (/usr/bin/qsub)"]);
    node.expect(
        "vm-software",
        Limited,
        &["/usr/libexec/qemu-kvm", "dnf install libvirt-daemon-kvm"],
    );
    let inventory = host::inventory(&node.host);
    assert_eq!((inventory.gpus.len(), inventory.fpgas.len()), (2, 2));
    assert_eq!(inventory.gpus[0].numa_node, Some(0));
    let scratch = node.host.clone().with_store("/scratch/images");
    let storage = find(host::checks(&scratch), "storage");
    assert!(storage.consequence.contains("metadata server"));
}

#[test]
fn arm_has_no_flag_and_may_still_have_kvm() {
    let arm = fixture("arm-server", 0);
    let cpu = host::cpu(&arm.host);
    assert_eq!(
        (cpu.architecture.as_str(), cpu.virtualization),
        ("aarch64", None)
    );
    assert_eq!(host::topology(&arm.host).online.to_string(), "0-1");
    arm.expect("kvm", Unknown, &["only a guest that boots"]);
    arm.expect(
        "vm-software",
        Missing,
        &["apt install qemu-system-arm qemu-utils"],
    );
    arm.expect("schedulers", Good, &["Grid Engine"]);
    arm.expect("time-source", Good, &["arch_sys_counter"]);
}

#[test]
fn an_old_guest_gets_the_reasons_why_little_works() {
    let old = fixture("old-guest", 1000);
    old.expect("kernel", Limited, &["3.10"]);
    old.expect("kvm", Missing, &["no flag vmx or svm", "host above"]);
    old.expect(
        "user-namespaces",
        Missing,
        &["sysctl -w user.max_user_namespaces=15000"],
    );
    old.expect("overlay", Limited, &["5.11"]);
    old.expect("idmapped-mounts", Missing, &["5.19"]);
    old.expect("seccomp", Missing, &[]);
    old.expect("shared-memory", Missing, &["mount -t tmpfs"]);
    old.expect("open-files", Limited, &["1024"]);
    old.expect("time-source", Limited, &["hpet"]);
    old.expect("cgroups", Limited, &["version 1", "pids"]);
    let cgroups = host::cgroups(&fixture("old-guest", 0).host);
    assert_eq!(cgroups.version, CgroupVersion::V1);
    assert!(cgroups.usable.contains("memory"));
    assert!(!cgroups.usable.contains("name=systemd"));
}

#[test]
fn controllers_of_version_1_beside_version_2_are_a_hybrid() {
    let host = fixture("hybrid", 0);
    host.expect("cgroups", Good, &["hybrid", "hugetlb"]);
    let cgroups = host::cgroups(&host.host);
    assert_eq!(cgroups.version, CgroupVersion::Hybrid);
    host.expect("kvm", Unknown, &["no flag vmx or svm", "boots nothing"]);
    host.expect("erofs", Good, &["without a loop device"]);
}

#[test]
fn xen_roles_are_told_apart() {
    let dom0 = fixture("xen-dom0", 0);
    assert_eq!(host::xen_role(&dom0.host), XenRole::Dom0);
    dom0.expect("xen", Good, &["dom0 of Xen 4.17.7", "/usr/sbin/xl"]);
    dom0.expect("kvm", Missing, &["machines of Xen"]);
    let domu = fixture("xen-domu", 0);
    assert_eq!(host::xen_role(&domu.host), XenRole::DomU);
    domu.expect("xen", Limited, &["domU of Xen 4.17.7"]);
    let none = fixture("laptop", 0);
    assert_eq!(host::xen_role(&none.host), XenRole::None);
    none.expect("xen", Missing, &[]);
}

const HOSTS: [&str; 8] = [
    "laptop",
    "amd-node",
    "gpu-node",
    "arm-server",
    "old-guest",
    "hybrid",
    "xen-dom0",
    "xen-domu",
];

#[test]
fn files_alone_never_prove_kvm() {
    for name in HOSTS {
        for uid in [0, 1000, NOBODY] {
            assert_ne!(fixture(name, uid).check("kvm").verdict, Good, "{name}");
        }
    }
}

#[test]
fn a_guest_that_booted_proves_kvm_and_one_that_did_not_disproves_it() {
    let works = KvmVerdict::Works { ratio: 1.02 };
    let laptop = fixture("laptop", 0).probed(works.clone());
    laptop.expect("kvm", Good, &["flag vmx", "ring 3", "1.02 times"]);
    assert_eq!(laptop.check("kvm").fix, "");
    let mut again = fixture("laptop", 0);
    let cached = true;
    again.host = again.host.with_kvm(Probed {
        verdict: works,
        cached,
    });
    again.expect("kvm", Good, &["--fresh"]);
    let broken = |step, why: &str| KvmVerdict::Broken {
        step,
        why: why.to_owned(),
    };
    // A device that opens in a machine without the flag.
    let hybrid = fixture("hybrid", 0).probed(broken(
        Step::Cmpxchg16b,
        "KVM cannot emulate an instruction",
    ));
    let words = [
        "cmpxchg16b in ring 0: KVM cannot emulate",
        "boots no kernel",
        "host above",
        "hyperion doctor --fresh kvm",
    ];
    hybrid.expect("kvm", Missing, &words);
    let bare = fixture("amd-node", 0).probed(broken(Step::Syscall, "not done within 2 s"));
    bare.expect("kvm", Missing, &["system call", "microcode"]);
    let busy = broken(Step::Machine, "KVM_CREATE_VM: Device or resource busy");
    let busy = fixture("laptop", 0).probed(busy);
    busy.expect("kvm", Missing, &["resource busy", "VirtualBox"]);
    let untried = KvmVerdict::Untried { why: "none".into() };
    let arm = fixture("arm-server", 0).probed(untried);
    arm.expect("kvm", Unknown, &["no guest was tried", "emulation"]);
}

#[test]
fn a_device_that_does_not_open_is_explained_by_who_asks() {
    let denied = || KvmVerdict::Denied {
        why: "/dev/kvm: Operation not permitted".into(),
    };
    let user = fixture("laptop", NOBODY).probed(denied());
    user.expect("kvm", Limited, &["usermod -aG kvm"]);
    let root = fixture("laptop", 0).probed(denied());
    root.expect("kvm", Limited, &["docker: --device /dev/kvm"]);
    let gone = || KvmVerdict::Missing {
        why: "/dev/kvm: No such device".into(),
    };
    let stale = fixture("laptop", 0).probed(gone());
    stale.expect("kvm", Missing, &["No such device", "modprobe kvm_intel"]);
    let none = fixture("old-guest", 0).probed(gone());
    none.expect("kvm", Missing, &["no /dev/kvm", "host above"]);
}

#[test]
fn firmware_modules_and_hypervisors_above_each_have_their_fix() {
    let cpu = |vendor: &str, flags: &str| {
        format!(
            "\n== /proc/sys/kernel/arch\nx86_64\n== /proc/sys/kernel/osrelease\n6.1.0-31-amd64\n\
             == /proc/cpuinfo\nvendor_id : {vendor}\nflags : lm {flags}"
        )
    };
    let intel = |flags: &str, more: &str| cpu("GenuineIntel", flags) + more;
    let amd = |flags: &str, more: &str| cpu("AuthenticAMD", flags) + more;
    let above = |vendor: &str| {
        intel(
            "hypervisor",
            &format!("\n== /sys/class/dmi/id/sys_vendor\n{vendor}"),
        )
    };
    let modules = "\n== /lib/modules/6.1.0-31-amd64/modules.dep\nkernel/arch/x86/kvm/kvm-amd.ko: x";
    let azure = "Microsoft Corporation\n== /sys/class/dmi/id/chassis_asset_tag\n\
                 7783-7084-3265-9085-8269-3286-77";
    let table = [
        (
            intel("", ""),
            "switch on VT-x or AMD-V (SVM) in the firmware",
        ),
        (amd("svm", modules), "modprobe kvm_amd; if it refuses"),
        (
            amd(
                "svm",
                &format!(
                    "{modules}\n== /var/log/dmesg\n[ 3.1] kvm_amd: SVM disabled (by BIOS) in MSR_VM_CR on CPU 0"
                ),
            ),
            "switch on VT-x or AMD-V (SVM) in the firmware",
        ),
        (amd("svm", ""), "linux-image-amd64"),
        (above("QEMU"), "modprobe kvm_intel nested=1"),
        (above("VMware, Inc."), "vhv.enable"),
        (above("innotek GmbH"), "--nested-hw-virt on"),
        (above("Amazon EC2"), ".metal"),
        (above("Google"), "--enable-nested-virtualization"),
        (
            above("Microsoft Corporation"),
            "-ExposeVirtualizationExtensions",
        ),
        (above(azure), "Dv3"),
        (above("Xen"), "nestedhvm=1"),
    ];
    for (text, fix) in table {
        let text = format!("\n== /etc/os-release\nID=debian{text}");
        let host = tree(&text, 0);
        let check = host.check("kvm");
        assert_eq!(check.verdict, Missing, "{check:#?}");
        assert!(check.fix.contains(fix), "{fix}: {check:#?}");
        assert!(check.consequence.contains("TCG"), "{check:#?}");
    }
}

#[test]
fn every_check_has_a_stable_name_and_evidence() {
    let mut lists = Vec::new();
    for name in HOSTS {
        let checks = host::checks(&fixture(name, 1000).host);
        for check in &checks {
            assert!(!check.evidence.is_empty(), "{name}: {}", check.name);
            let kebab = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(check.name.chars().all(kebab), "{}", check.name);
            if check.verdict == Good {
                continue;
            }
            // What is limited must say what follows.
            let silent = check.verdict == Limited && check.consequence.is_empty();
            assert!(!silent, "{name}: {check:#?}");
        }
        lists.push(checks.into_iter().map(|c| c.name).collect::<Vec<_>>());
    }
    assert!(lists.iter().all(|names| *names == lists[0]));
}

#[test]
fn the_reference_names_every_check_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/doctor.md");
    let page = fs::read_to_string(page).expect("the reference is there");
    let documented: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, _)| name)
        .collect();
    let checks = host::checks(&fixture("laptop", 0).host);
    let names: Vec<&str> = checks.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(documented, names);
}

#[test]
fn an_empty_tree_is_a_host_of_which_nothing_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = Host::at(folder.path());
    for check in host::checks(&empty) {
        if check.verdict == Good {
            // Root maps any id, and a kernel without Yama restricts nothing.
            let fine = ["subordinate-ids", "ptrace-scope"];
            assert!(fine.contains(&check.name.as_str()), "{check:#?}");
        }
    }
    assert_eq!(host::topology(&empty).nodes.len(), 1);
    assert_eq!(host::memory_total(&empty), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every file of every fixture, one after the other, filled with anything.
    #[test]
    fn no_file_makes_the_doctor_panic(
        name in prop::sample::select(HOSTS.to_vec()),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        junk in "(\\PC|[0-9]|[\n\t :=,/.-]|0x){0,80}",
    ) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.host"));
        let text = fs::read_to_string(file).expect("a fixture");
        let mut parts: Vec<String> = text.split("\n== ").map(str::to_owned).collect();
        for pick in picks {
            let at = 1 + pick.index(parts.len() - 1);
            let head = parts[at].lines().next().unwrap_or_default().to_owned();
            parts[at] = format!("{head}\n{}", junk.replace("\n== ", "\n="));
        }
        let folder = tempfile::tempdir().expect("a folder");
        write_tree(folder.path(), &parts.join("\n== "));
        let host = Host::at(folder.path());
        let _ = host::checks(&host);
        let _ = host::inventory(&host);
    }
}

fn lscpu() -> serde_json::Value {
    let out = std::process::Command::new("lscpu")
        .arg("-J")
        .env("LC_ALL", "C")
        .output()
        .expect("lscpu runs");
    serde_json::from_slice(&out.stdout).expect("lscpu writes JSON")
}

#[test]
fn the_running_host_agrees_with_lscpu() {
    requires!("command:lscpu");
    let json = lscpu();
    // Newer ones nest what belongs together; the names are the same.
    fn field(entries: &serde_json::Value, name: &str) -> Option<String> {
        entries.as_array()?.iter().find_map(|entry| {
            if entry["field"] == name {
                return Some(entry["data"].as_str()?.to_owned());
            }
            field(&entry["children"], name)
        })
    }
    let get = |name: &str| field(&json["lscpu"], name);
    let number = |name: &str| get(name).and_then(|text| text.parse::<usize>().ok());
    let host = Host::at("/");
    let (cpu, topology) = (host::cpu(&host), host::topology(&host));
    assert_eq!(get("Architecture:"), Some(cpu.architecture));
    assert_eq!(get("Vendor ID:"), Some(cpu.vendor));
    assert_eq!(get("Model name:"), Some(cpu.model));
    let online = get("On-line CPU(s) list:").expect("a list");
    assert_eq!(online.parse(), Ok(topology.online.clone()));
    if let Some(sockets) = number("Socket(s):") {
        assert_eq!(sockets, topology.sockets.len());
        let cores = number("Core(s) per socket:").expect("a number");
        assert_eq!(cores * sockets, topology.cores.len());
        assert_eq!(
            number("Thread(s) per core:"),
            Some(topology.threads_per_core())
        );
    }
    if let Some(nodes) = number("NUMA node(s):") {
        assert_eq!(nodes, topology.nodes.len());
    }
    for node in &topology.nodes {
        if let Some(cpus) = get(&format!("NUMA node{} CPU(s):", node.id)) {
            assert_eq!(cpus.parse(), Ok(node.cpus.clone()));
        }
    }
    let caches = [
        ("L1d cache:", 1, "data"),
        ("L1i cache:", 1, "instruction"),
        ("L2 cache:", 2, "unified"),
        ("L3 cache:", 3, "unified"),
    ];
    for (name, level, kind) in caches {
        let ours = || {
            topology
                .caches
                .iter()
                .filter(|c| c.level == level && c.kind == kind)
        };
        // `96 KiB (2 instances)` is the sum.
        let Some(text) = get(name) else { continue };
        let sum: Bytes = text
            .split(" (")
            .next()
            .unwrap_or_default()
            .parse()
            .expect("a size");
        assert_eq!(Bytes(ours().map(|c| c.size.0).sum()), sum, "{name}");
    }
}

#[test]
fn the_running_host_agrees_with_hwloc() {
    requires!("command:hwloc-calc");
    let count = |kind: &str| {
        let out = std::process::Command::new("hwloc-calc")
            .args(["-N", kind, "all"])
            .output()
            .expect("hwloc-calc runs");
        let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        text.parse::<usize>().expect("a number")
    };
    let topology = host::topology(&Host::at("/"));
    // hwloc shows what the process may use; with a restriction they differ.
    if topology.allowed != topology.online {
        return;
    }
    assert_eq!(count("pu"), topology.online.len());
    assert_eq!(count("core"), topology.cores.len());
    assert_eq!(count("package"), topology.sockets.len());
    assert_eq!(count("numanode"), topology.nodes.len());
}

#[test]
fn the_running_host_can_be_examined() {
    let host = Host::at("/");
    let checks = host::checks(&host);
    assert_eq!(find(checks.clone(), "memory").verdict, Good);
    assert_ne!(find(checks, "kvm").verdict, Good);
    let memory = host::memory(&host);
    assert_eq!(Some(memory.total), host::memory_total(&host));
    let json = serde_json::to_value(host::inventory(&host)).expect("an inventory is JSON");
    assert!(json["topology"]["online"].is_string());
}
