//! `/proc`, `/sys` and `/dev` of a container, and the few files of the host
//! that a container with the host's network needs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hyperion_model::{MountKind, NodePlace, SandboxSpec, UsernsMode};
use hyperion_sys::mount::{self, Change, NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::has_own_network;
use super::root::Root;
use super::setup::{Doing, Failure, is_folder};

/// Where the system's file systems and files are mounted, and whether that is a folder.
pub(super) const POINTS: [(&str, bool); 6] = [
    ("/proc", true),
    ("/sys", true),
    ("/dev", true),
    ("/tmp", true),
    ("/etc/hosts", false),
    ("/etc/resolv.conf", false),
];

/// Commands of batch systems that a script finds in every fence: those that need no queue.
const LAUNCHERS: [&str; 4] = ["srun", "pbsdsh", "blaunch", "scontrol"];
/// Where this program's file is shown.
pub const SHIM: &str = "/dev/.hyperion/hyperion-rank";

/// The device files that every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What tells too much of the host or reaches into it: docker's list.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What may be read but not written: docker's list.
const READ_ONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Files of the host that are shown inside, opened before the root changes.
pub(super) struct HostFiles {
    sys: Option<OwnedFd>,
    devices: Vec<(&'static str, OwnedFd)>,
    resolv_conf: Option<OwnedFd>,
    hosts: String,
}

impl HostFiles {
    /// Opens what is there; what is not is left out.
    pub(super) fn open(spec: &SandboxSpec) -> Self {
        let clone = |path: &str, recursive| mount::clone_tree(CWD, Path::new(path), recursive).ok();
        let host_network = !has_own_network(spec);
        let hosts = if host_network {
            std::fs::read_to_string("/etc/hosts").unwrap_or_default()
        } else {
            String::new()
        };
        let hostname = spec
            .container
            .hostname
            .as_deref()
            .unwrap_or(spec.id.as_str());
        Self {
            sys: clone("/sys", true),
            devices: DEVICES
                .iter()
                .filter_map(|name| Some((*name, clone(&format!("/dev/{name}"), false)?)))
                .collect(),
            resolv_conf: if host_network {
                clone("/etc/resolv.conf", false)
            } else {
                None
            },
            hosts: match &spec.node {
                Some(place) => hosts_of_nodes(&hosts, place),
                None => hosts_file(&hosts, hostname),
            },
        }
    }
}

/// Adds the container's own name: programs that look themselves up must find themselves.
fn hosts_file(host: &str, hostname: &str) -> String {
    let mut text = host.trim_end().to_owned();
    if !host
        .lines()
        .any(|l| l.split_ascii_whitespace().skip(1).any(|n| n == "localhost"))
    {
        text.push_str("\n127.0.0.1 localhost\n::1 localhost");
    }
    format!("{}\n127.0.1.1 {hostname}\n", text.trim_start())
}

/// Adds the names of all nodes of the job, its own among them.
fn hosts_of_nodes(host: &str, place: &NodePlace) -> String {
    let local = "127.0.0.1 localhost\n::1 localhost\n";
    let others = host.lines().filter(|line| !line.contains("localhost"));
    let others: String = others.map(|line| format!("{line}\n")).collect();
    format!("{local}{others}{}", place.hosts())
}

/// Mounts the system's file systems into the root.
pub(super) fn populate(
    root: &Root,
    spec: &SandboxSpec,
    mut host: HostFiles,
    program: &OwnedFd,
    own_group: bool,
) -> Result<(), Failure> {
    let put = |made: &OwnedFd, path: &str| -> Result<(), Failure> {
        let step = format_args!("mounting at {path}").to_string();
        let target = root
            .target(Path::new(path), is_folder(made).doing(&step)?)
            .doing(&step)?;
        mount::attach(made.as_fd(), target.as_fd()).doing(&step)
    };
    let quiet = NO_SUID | NO_DEV | NO_EXEC;
    let proc = mount::new_filesystem("proc", &[], quiet).doing("mounting /proc")?;
    put(&proc, "/proc")?;

    let own_sys = match has_own_network(spec) {
        // One of its own shows the interfaces of its own network only.
        true => mount::new_filesystem("sysfs", &[], READ_ONLY | quiet).ok(),
        false => None,
    };
    let sys = own_sys
        .or(host.sys.take())
        .ok_or(rustix::io::Errno::NOENT)
        .doing("opening /sys")?;
    let protect = Change {
        set: READ_ONLY | quiet,
        recursive: true,
        ..Change::default()
    };
    mount::set_attributes(sys.as_fd(), &protect).doing("protecting /sys")?;
    put(&sys, "/sys")?;
    // The host's groups, and the release agents of version 1 with them, are out of sight.
    let mut empty = Empty::default();
    if exists(root, "/sys/fs/cgroup") {
        match own_group.then(cgroup_view) {
            Some(Ok(view)) => put(&view, "/sys/fs/cgroup")?,
            _ => put(&empty.next(root, "/sys/fs/cgroup")?, "/sys/fs/cgroup")?,
        }
    }

    populate_dev(root, spec, &host, program, &put)?;

    for path in MASKED.iter().filter(|p| exists(root, p)) {
        let target = mount::open_below(root.as_fd(), Path::new(path), OFlags::PATH).doing(path)?;
        let cover = match is_folder(&target).doing(path)? {
            true => empty.next(root, path)?,
            false => mount::clone_tree(root.as_fd(), Path::new("dev/null"), false)
                .doing("opening /dev/null")?,
        };
        mount::attach(cover.as_fd(), target.as_fd()).doing(path)?;
    }
    for path in READ_ONLY_PATHS.iter().filter(|p| exists(root, p)) {
        let tree = mount::clone_tree(root.as_fd(), Path::new(path.trim_start_matches('/')), true)
            .doing(path)?;
        mount::set_attributes(
            tree.as_fd(),
            &Change {
                set: READ_ONLY | quiet,
                ..Change::default()
            },
        )
        .doing(path)?;
        put(&tree, path)?;
    }
    let own_tmp = spec
        .container
        .mounts
        .iter()
        .any(|m| m.target == Path::new("/tmp"));
    if (spec.root.scratch.is_none() || spec.container.read_only) && !own_tmp {
        // Programs of every kind, MPI launchers first, count on a place for sockets and sessions.
        let tmp = mount::new_filesystem("tmpfs", &[("mode", "1777")], NO_SUID | NO_DEV)
            .doing("mounting /tmp")?;
        put(&tmp, "/tmp")?;
    }
    Ok(())
}

fn populate_dev(
    root: &Root,
    spec: &SandboxSpec,
    host: &HostFiles,
    program: &OwnedFd,
    put: &dyn Fn(&OwnedFd, &str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let dev = mount::new_filesystem(
        "tmpfs",
        &[("mode", "755"), ("size", "64k")],
        // The devices are mounts of their own on it; a node that somebody inside makes has no effect.
        NO_SUID | NO_DEV | NO_EXEC,
    )
    .doing("mounting /dev")?;
    put(&dev, "/dev")?;
    // Nothing in this folder is the image's: its entries need no careful look-up.
    let put_in_dev = |made: &OwnedFd, name: &str| -> Result<(), Failure> {
        let step = format_args!("mounting at /dev/{name}").to_string();
        let target = new_point(&dev, name, is_folder(made).doing(&step)?).doing(&step)?;
        mount::attach(made.as_fd(), target.as_fd()).doing(&step)
    };
    for (name, device) in &host.devices {
        put_in_dev(device, name)?;
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        rustix::fs::symlinkat(target, &dev, link).doing("making links in /dev")?;
    }
    // Group 5 is `tty` everywhere; a namespace of one user has no such group.
    let mut pts = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    if spec.userns != UsernsMode::Single {
        pts.push(("gid", "5"));
    }
    put_in_dev(
        &mount::new_filesystem("devpts", &pts, NO_SUID | NO_EXEC).doing("mounting /dev/pts")?,
        "pts",
    )?;

    let size = spec.container.shm_size.map(|s| s.0.to_string());
    let mut shm = vec![("mode", "1777")];
    shm.extend(size.iter().map(|s| ("size", s.as_str())));
    let own_shm = spec
        .container
        .mounts
        .iter()
        .any(|m| m.target == Path::new("/dev/shm") && matches!(m.kind, MountKind::Bind { .. }));
    if !own_shm {
        put_in_dev(
            &mount::new_filesystem("tmpfs", &shm, NO_SUID | NO_DEV | NO_EXEC)
                .doing("mounting /dev/shm")?,
            "shm",
        )?;
    }
    if let Ok(mqueue) = mount::new_filesystem("mqueue", &[], NO_SUID | NO_DEV | NO_EXEC) {
        put_in_dev(&mqueue, "mqueue")?;
    }

    // This program, for the shim beside ranks that an mpirun inside starts. Its
    // file is on a read-only mount: nothing inside can write to the host's.
    rustix::fs::mkdirat(&dev, ".hyperion", Mode::from_raw_mode(0o755))
        .doing("making /dev/.hyperion")?;
    put_in_dev(program, SHIM.trim_start_matches("/dev/"))?;
    if spec.steps {
        let made = rustix::fs::mkdirat(&dev, ".hyperion/bin", Mode::from_raw_mode(0o755));
        made.doing("making /dev/.hyperion/bin")?;
        for name in LAUNCHERS {
            let link = Path::new(".hyperion/bin").join(name);
            rustix::fs::symlinkat(SHIM, &dev, &link).doing("making the launchers of steps")?;
        }
    }

    write_file(&dev, ".hyperion/hosts", &host.hosts).doing("writing the hosts file")?;
    let hosts = mount::clone_tree(
        dev_folder(root)?.as_fd(),
        Path::new(".hyperion/hosts"),
        false,
    )
    .doing("opening the hosts file")?;
    for (file, path) in [
        (Some(&hosts), "/etc/hosts"),
        (host.resolv_conf.as_ref(), "/etc/resolv.conf"),
    ] {
        let taken = spec
            .container
            .mounts
            .iter()
            .any(|m| m.target == Path::new(path));
        let Some(file) = file.filter(|_| !taken) else {
            continue;
        };
        let change = Change {
            set: READ_ONLY | NO_SUID | NO_DEV | NO_EXEC,
            ..Change::default()
        };
        mount::set_attributes(file.as_fd(), &change).doing(path)?;
        // An image that makes it a folder, or a link to nowhere, gets none.
        if let Ok(target) = root.target(Path::new(path), false)
            && !is_folder(&target).unwrap_or(true)
        {
            mount::attach(file.as_fd(), target.as_fd()).doing(path)?;
        }
    }
    Ok(())
}

fn dev_folder(root: &Root) -> Result<OwnedFd, Failure> {
    mount::open_below(
        root.as_fd(),
        Path::new("/dev"),
        OFlags::PATH | OFlags::DIRECTORY,
    )
    .doing("opening /dev")
}

/// Makes an empty folder or file below one of our own, for mounting on it.
fn new_point(at: &OwnedFd, name: &str, folder: bool) -> std::io::Result<OwnedFd> {
    if folder {
        rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755))?;
    } else {
        rustix::fs::mknodat(
            at,
            name,
            FileType::RegularFile,
            Mode::from_raw_mode(0o644),
            0,
        )?;
    }
    Ok(rustix::fs::openat(
        at,
        name,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn write_file(at: &OwnedFd, path: &str, text: &str) -> std::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, path, flags, Mode::from_raw_mode(0o644))?;
    std::io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())
}

/// Shows the sandbox's own group of version 2.
fn cgroup_view() -> std::io::Result<OwnedFd> {
    mount::new_filesystem("cgroup2", &[], READ_ONLY | NO_SUID | NO_DEV | NO_EXEC)
}

/// An empty folder that nothing can be written to, shown in several places.
#[derive(Default)]
struct Empty(Option<&'static str>);

impl Empty {
    /// Gives a mount of it that is about to be put at a path. A mount can be
    /// copied on every kernel only once it is in place, so the first is made
    /// and the others are its copies.
    fn next(&mut self, root: &Root, path: &'static str) -> Result<OwnedFd, Failure> {
        match self.0 {
            Some(first) => mount::clone_tree(
                root.as_fd(),
                Path::new(first.trim_start_matches('/')),
                false,
            ),
            None => {
                self.0 = Some(path);
                let flags = READ_ONLY | NO_SUID | NO_DEV | NO_EXEC;
                mount::new_filesystem("tmpfs", &[("size", "4k"), ("mode", "755")], flags)
            }
        }
        .doing("making an empty folder")
    }
}

fn exists(root: &Root, path: &str) -> bool {
    mount::open_below(root.as_fd(), Path::new(path), OFlags::PATH).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_finds_itself_in_its_hosts_file() {
        let text = hosts_file("127.0.0.1 localhost\n10.0.0.1 head\n", "job1");
        assert_eq!(text, "127.0.0.1 localhost\n10.0.0.1 head\n127.0.1.1 job1\n");
        assert_eq!(
            hosts_file("", "a"),
            "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 a\n"
        );
    }
}
