//! Which cgroup hierarchies a host has, and where this process is in them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::kernel_file;

/// The two interfaces of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Which interface it has.
    pub version: Version,
    /// The controllers that it offers here.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The group of this process, relative to the mount.
    pub own: PathBuf,
}

/// All hierarchies of a host as one process sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// In the order of `/proc/self/cgroup`.
    pub hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Reads the layout of the running host.
    pub fn detect() -> Self {
        let own = kernel_file::read("/proc/self/cgroup").unwrap_or_default();
        let read = |path: &Path| kernel_file::read(path).unwrap_or_default();
        if let Some(mounts) = usual_mounts(&own) {
            return Self::of(&mounts, &own, read);
        }
        let mounts = kernel_file::read("/proc/self/mountinfo").unwrap_or_default();
        Self::parse(&mounts, &own, read)
    }

    /// Puts the layout together from `/proc/self/mountinfo` and
    /// `/proc/self/cgroup`; `read` gives the content of a file.
    pub fn parse(mountinfo: &str, own: &str, read: impl Fn(&Path) -> String) -> Self {
        let mounts: Vec<CgroupMount<'_>> =
            mountinfo.lines().filter_map(CgroupMount::parse).collect();
        Self::of(&mounts, own, read)
    }

    fn of(mounts: &[CgroupMount<'_>], own: &str, read: impl Fn(&Path) -> String) -> Self {
        let hierarchies = own.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let mount = mounts.iter().find(|m| m.holds(names))?;
            // The mount may show a subtree only (a container's): paths are relative to its root.
            let own = Path::new(path)
                .strip_prefix(mount.root)
                .unwrap_or(Path::new(""))
                .to_owned();
            let (version, controllers) = if names.is_empty() {
                let offered = read(&mount.target.join(&own).join("cgroup.controllers"));
                (
                    Version::V2,
                    offered
                        .split_ascii_whitespace()
                        .map(str::to_owned)
                        .collect(),
                )
            } else {
                (Version::V1, names.split(',').map(str::to_owned).collect())
            };
            Some(Hierarchy {
                version,
                controllers,
                mount: mount.target.clone(),
                own,
            })
        });
        Self {
            hierarchies: hierarchies.collect(),
        }
    }

    /// Tells whether sandboxes have a group of version 2, in which their first process must be born.
    pub fn uses_v2(&self) -> bool {
        let mut v2 = self.hierarchies.iter().filter(|h| h.version == Version::V2);
        v2.any(|h| self.has_use_for(h))
    }

    /// Tells whether sandboxes have a group in a hierarchy. Version 2 has
    /// nothing for them where version 1 holds the controllers that they use;
    /// version 1 may also hold others beside it (`net_cls`, `name=systemd`).
    pub(super) fn has_use_for(&self, hierarchy: &Hierarchy) -> bool {
        let holds = |h: &Hierarchy| USED.iter().any(|c| h.has(c));
        let mut v1 = self.hierarchies.iter().filter(|h| h.version == Version::V1);
        match hierarchy.version {
            Version::V1 => holds(hierarchy),
            Version::V2 => holds(hierarchy) || !v1.any(holds),
        }
    }
}

impl Hierarchy {
    /// Tells whether a controller is in this hierarchy.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// Gives the folder of this process's own group.
    pub fn own(&self) -> PathBuf {
        self.mount.join(&self.own)
    }

    /// Finds a group of version 2 below which sandboxes can be made, and turns
    /// its controllers on for them.
    ///
    /// A group with controllers turned on may hold no process of its own. So
    /// root uses one at the top (`hyperion`); a user whose group was delegated,
    /// root of a container and root inside a job, which must keep the job's
    /// limits, move the processes of their group into a leaf of it first.
    ///
    /// # Errors
    /// The kernel's; `PermissionDenied` where nothing was delegated.
    pub fn prepare_v2_parent(&self) -> io::Result<PathBuf> {
        let own = self.own();
        let jobs = self.mount.join("hyperion");
        // The one at the very top has no type; a container calls its own group the top.
        let top = !self.mount.join("cgroup.type").exists();
        if rustix::process::geteuid().is_root() && top && !own.starts_with(&jobs) {
            turn_on(&self.mount)?;
            make(&jobs)?;
            turn_on(&jobs)?;
            return Ok(jobs);
        }
        // Already moved: the leaf's parent is the one.
        if let (Some(parent), true) = (own.parent(), own.ends_with(LEAF)) {
            turn_on(parent)?;
            return Ok(parent.to_owned());
        }
        let leaf = own.join(LEAF);
        make(&leaf)?;
        match empty(&own, &leaf).and_then(|()| turn_on(&own)) {
            Ok(()) => Ok(own),
            Err(e) => {
                let _ = fs::remove_dir(&leaf);
                Err(e)
            }
        }
    }

    /// Gives the group whose files must be the user's for sandboxes to be made.
    pub(crate) fn delegated(&self) -> PathBuf {
        let mut own = self.own();
        if own.ends_with(LEAF) {
            own.pop();
        }
        own
    }
}

/// The controllers that sandboxes use, and that `turn_on` turns on.
const USED: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "io", "cpuacct"];

/// The group into which a delegated group's own processes move.
pub(super) const LEAF: &str = "hyperion-supervisors";

pub(super) fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Moves the processes of a group into another, those included that fork meanwhile.
fn empty(group: &Path, into: &Path) -> io::Result<()> {
    // Looked at before anything moves: what may not be turned on needs no room.
    open_to_write(&group.join("cgroup.subtree_control"))?;
    for _ in 0..10 {
        let processes = kernel_file::read(group.join("cgroup.procs"))?;
        if processes.is_empty() {
            break;
        }
        for pid in processes.lines() {
            let mut file = open_to_write(&into.join("cgroup.procs"))?;
            match file.write_all(pid.as_bytes()) {
                // One that has ended, or is out of this namespace's sight.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn turn_on(group: &Path) -> io::Result<()> {
    let offered = kernel_file::read(group.join("cgroup.controllers"))?;
    let on = kernel_file::read(group.join("cgroup.subtree_control"))?;
    let on: Vec<&str> = on.split_ascii_whitespace().collect();
    for controller in offered.split_ascii_whitespace() {
        if USED.contains(&controller) && !on.contains(&controller) {
            let mut file = open_to_write(&group.join("cgroup.subtree_control"))?;
            // One that cannot be turned on (a real-time process, say) leaves the others usable.
            let _ = file.write_all(format!("+{controller}").as_bytes());
        }
    }
    Ok(())
}

fn open_to_write(file: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).open(file)
}

/// Finds the mounts of the hierarchies in `/proc/self/cgroup` that limit or count where
/// systemd and its like put them; `None` where one is not there.
///
/// That is much sooner than the list of all mounts, of which the kernel writes a line in
/// 2 µs, and a cluster's node has a hundred. A mount that shows a subtree only has no
/// folder for a group as it is called from the top.
fn usual_mounts(own: &str) -> Option<Vec<CgroupMount<'_>>> {
    let all = Path::new("/sys/fs/cgroup");
    let is = |target: &Path, magic: u32, group: &str| {
        let found = rustix::fs::statfs(target.join(group.trim_start_matches('/')));
        found.is_ok_and(|found| found.f_type.cast_unsigned() == u64::from(magic))
    };
    let hierarchies = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let (v2, v1): (Vec<_>, Vec<_>) = hierarchies.partition(|(names, _)| names.is_empty());
    let in_v1 = |name: &str| {
        v1.iter()
            .any(|(names, _)| names.split(',').any(|n| n == name))
    };
    let found = |names, places: &[&Path], magic, group| {
        let target = places.iter().find(|place| is(place, magic, group))?;
        Some(CgroupMount {
            root: "/",
            target: target.to_path_buf(),
            v2: magic == CGROUP2,
            options: names,
        })
    };
    let mut mounts = Vec::new();
    for (names, group) in &v1 {
        if names.split(',').any(|name| USED.contains(&name)) {
            mounts.push(found(names, &[&all.join(names)], CGROUP, group)?);
        }
    }
    // A controller is in one hierarchy only: where version 1 has all of use, version 2 has none.
    if !["cpu", "memory", "pids", "cpuset", "blkio"]
        .into_iter()
        .all(in_v1)
    {
        for (names, group) in &v2 {
            let places = [all, &all.join("unified")];
            mounts.push(found(names, &places, CGROUP2, group)?);
        }
    }
    Some(mounts)
}

/// What statfs(2) calls the two versions: `CGROUP_SUPER_MAGIC` and its successor.
const CGROUP: u32 = 0x0027_e0eb;
const CGROUP2: u32 = 0x6367_7270;

struct CgroupMount<'a> {
    root: &'a str,
    target: PathBuf,
    v2: bool,
    options: &'a str,
}

impl<'a> CgroupMount<'a> {
    /// Reads one line of mountinfo (proc_pid_mountinfo(5)) if it is a cgroup mount.
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, target) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, _, options) = (after.next()?, after.next()?, after.next().unwrap_or(""));
        let v2 = match kind {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        Some(Self {
            root,
            target: target.into(),
            v2,
            options,
        })
    }

    fn holds(&self, names: &str) -> bool {
        match (names.is_empty(), self.v2) {
            (true, v2) => v2,
            (false, true) => false,
            (false, false) => names
                .split(',')
                .all(|n| self.options.split(',').any(|o| o == n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_keeps_its_version_1_controllers() {
        let own = "4:memory:/jobs/1\n3:cpu,cpuacct:/\n2:name=systemd:/\n0::/\n";
        let layout = Layout::parse(HYBRID, own, |_| "hugetlb\n".into());
        let used = layout.hierarchies.iter().map(|h| layout.has_use_for(h));
        assert_eq!(used.collect::<Vec<_>>(), [true, true, false, false]);
        let memory = &layout.hierarchies[0];
        assert_eq!(memory.own(), Path::new("/sys/fs/cgroup/memory/jobs/1"));
        assert!(layout.hierarchies[1].has("cpuacct"));
        assert_eq!(layout.hierarchies[3].version, Version::V2);
        assert_eq!(layout.hierarchies[3].controllers, ["hugetlb"]);
    }

    #[test]
    fn a_version_2_host_has_one_hierarchy() {
        let mounts = "25 20 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = Layout::parse(mounts, "0::/user.slice/a.scope\n", |_| {
            "cpu memory pids".into()
        });
        assert!(layout.has_use_for(&layout.hierarchies[0]));
        assert_eq!(
            layout.hierarchies[0].own(),
            Path::new("/sys/fs/cgroup/user.slice/a.scope")
        );
        assert!(layout.hierarchies[0].has("memory"));
    }

    #[test]
    fn version_2_is_used_beside_controllers_of_version_1_that_limit_nothing() {
        let mounts = "\
25 20 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
26 20 0:23 / /run/net_cls rw - cgroup net_cls rw,net_cls
27 20 0:24 / /run/memory rw - cgroup memory rw,memory
";
        let used = |own: &str, offered: &'static str| {
            let layout = Layout::parse(mounts, own, |_| offered.into());
            let used = layout.hierarchies.iter().map(|h| layout.has_use_for(h));
            used.collect::<Vec<_>>()
        };
        assert_eq!(used("2:net_cls:/\n0::/\n", ""), [false, true]);
        // Some controllers here and some there: both.
        assert_eq!(used("3:memory:/\n0::/\n", "cpu pids"), [true, true]);
        assert_eq!(used("3:memory:/\n0::/\n", "hugetlb"), [true, false]);
    }

    #[test]
    fn a_host_without_cgroups_has_none() {
        assert_eq!(Layout::parse("", "", |_| String::new()), Layout::default());
        assert_eq!(
            Layout::parse("garbage\n", "x\n1:2\n", |_| String::new()),
            Layout::default()
        );
    }

    #[test]
    fn this_host_has_the_same_groups_at_the_usual_places_as_in_the_list() {
        let own = fs::read_to_string("/proc/self/cgroup").expect("readable");
        let list = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let listed = Layout::parse(&list, &own, |_| String::new());
        let usual = usual_mounts(&own).map(|mounts| Layout::of(&mounts, &own, |_| String::new()));
        // Where they are elsewhere, the list is what counts.
        for hierarchy in usual.iter().flat_map(|_| &listed.hierarchies) {
            let usual = usual.as_ref().expect("found");
            let of_use = listed.has_use_for(hierarchy);
            assert_eq!(
                usual.hierarchies.contains(hierarchy),
                of_use,
                "{hierarchy:?}"
            );
        }
        assert!(usual_mounts("3:memory:/no/such/group\n").is_none());
        assert!(usual_mounts("0::/no/such/group\n").is_none());
    }

    #[test]
    fn a_mount_of_a_subtree_is_taken_from_its_root() {
        let mounts = "25 20 0:22 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let layout = Layout::parse(mounts, "0::/docker/x/job\n", |_| String::new());
        assert_eq!(layout.hierarchies[0].own(), Path::new("/sys/fs/cgroup/job"));
    }
}
