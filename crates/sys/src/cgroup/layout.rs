//! Which cgroup hierarchies a host has, and where this process is in them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

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
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::parse(&mounts, &own, |path| {
            fs::read_to_string(path).unwrap_or_default()
        })
    }

    /// Puts the layout together from `/proc/self/mountinfo` and
    /// `/proc/self/cgroup`; `read` gives the content of a file.
    pub fn parse(mountinfo: &str, own: &str, read: impl Fn(&Path) -> String) -> Self {
        let mounts: Vec<CgroupMount<'_>> =
            mountinfo.lines().filter_map(CgroupMount::parse).collect();
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

    /// Tells whether controllers of version 1 are mounted beside version 2.
    pub fn is_hybrid(&self) -> bool {
        let v1 = |h: &Hierarchy| {
            h.version == Version::V1 && !h.controllers.iter().all(|c| c.starts_with("name="))
        };
        self.hierarchies.iter().any(v1) && self.hierarchies.iter().any(|h| h.version == Version::V2)
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
    /// A group with controllers turned on may hold no process of its own, so
    /// root uses one at the top (`hyperion`), and a user whose group was
    /// delegated moves this process into a leaf of it first.
    ///
    /// # Errors
    /// The kernel's; `PermissionDenied` where nothing was delegated.
    pub fn prepare_v2_parent(&self) -> io::Result<PathBuf> {
        if rustix::process::geteuid().is_root() {
            turn_on(&self.mount)?;
            let parent = self.mount.join("hyperion");
            if let Err(e) = fs::create_dir(&parent)
                && e.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(e);
            }
            turn_on(&parent)?;
            return Ok(parent);
        }
        let own = self.own();
        // Already moved: the leaf's parent is the one.
        if let (Some(parent), true) = (own.parent(), own.ends_with(LEAF)) {
            turn_on(parent)?;
            return Ok(parent.to_owned());
        }
        let leaf = own.join(LEAF);
        if let Err(e) = fs::create_dir(&leaf)
            && e.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(e);
        }
        let processes = fs::read_to_string(own.join("cgroup.procs"))?;
        for pid in processes.lines() {
            let _ = fs::write(leaf.join("cgroup.procs"), pid);
        }
        turn_on(&own)?;
        Ok(own)
    }
}

/// The group into which a delegated group's own processes move.
const LEAF: &str = "hyperion-supervisors";

fn turn_on(group: &Path) -> io::Result<()> {
    let offered = fs::read_to_string(group.join("cgroup.controllers"))?;
    let on = fs::read_to_string(group.join("cgroup.subtree_control"))?;
    let on: Vec<&str> = on.split_ascii_whitespace().collect();
    for controller in ["cpu", "memory", "pids", "cpuset", "io"] {
        let missing = !on.contains(&controller);
        if missing && offered.split_ascii_whitespace().any(|c| c == controller) {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .open(group.join("cgroup.subtree_control"))?;
            // One that cannot be turned on (a real-time process, say) leaves the others usable.
            let _ = file.write_all(format!("+{controller}").as_bytes());
        }
    }
    Ok(())
}

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
        assert!(layout.is_hybrid());
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
        assert!(!layout.is_hybrid());
        assert_eq!(
            layout.hierarchies[0].own(),
            Path::new("/sys/fs/cgroup/user.slice/a.scope")
        );
        assert!(layout.hierarchies[0].has("memory"));
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
    fn a_mount_of_a_subtree_is_taken_from_its_root() {
        let mounts = "25 20 0:22 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let layout = Layout::parse(mounts, "0::/docker/x/job\n", |_| String::new());
        assert_eq!(layout.hierarchies[0].own(), Path::new("/sys/fs/cgroup/job"));
    }
}
