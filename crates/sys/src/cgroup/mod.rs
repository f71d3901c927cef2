//! Control groups: what a sandbox may use and has used.
//!
//! The field has version 1, version 2, both at once, and neither. What is
//! here finds out which, makes one group per sandbox in each hierarchy that is
//! needed, and removes exactly what it made.

mod handed;
mod layout;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyperion_model::{Bytes, Cores, Resources, Usage};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{kernel_file, process};

pub use layout::{Hierarchy, Layout, Version};

/// What went wrong with a cgroup.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// A limit was asked for and there is no controller to hold it.
    #[error("cannot limit {what}: this user has no {controller} cgroup to write to")]
    NoController {
        /// What was to be limited.
        what: &'static str,
        /// The controller that would do it.
        controller: &'static str,
    },
    /// A cgroup file or folder could not be made or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// The groups of one sandbox, one per hierarchy. Removed by [`Cgroup::remove`]
/// only, so that a record of it can outlive the process that made it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cgroup {
    groups: Vec<Group>,
    /// What is used inside is counted by the groups; else its processes are asked.
    #[serde(default)]
    counted: bool,
}

/// Over how long processor time is limited, in microseconds.
const PERIOD: u64 = 100_000;

/// Gives the microseconds of each [`PERIOD`] that so many cores are.
fn quota(cores: Cores) -> u64 {
    (cores.0.saturating_mul(PERIOD) / 1000).max(1000)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Group {
    version: Version,
    controllers: Vec<String>,
    path: PathBuf,
}

/// The way into groups.
///
/// A process that is moved by another waits until every processor has passed a
/// quiet state, up to 20 ms; one that moves its own only thread does not wait.
#[derive(Debug, Default)]
pub struct Entrance(Vec<fs::File>);

impl Entrance {
    /// Gives its descriptors, for a message to the process that is to enter.
    pub fn as_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd).collect()
    }

    /// Takes an entrance that came with a message.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Self {
        Self(fds.into_iter().map(fs::File::from).collect())
    }

    /// Moves this process, which has one thread, into the groups.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self) -> io::Result<()> {
        self.0
            .iter()
            .try_for_each(|mut tasks| io::Write::write_all(&mut tasks, b"0"))
    }
}

/// The controllers of version 1 that a sandbox joins for what they count; one of which
/// nobody counts anything joins the first that there is, by which it is ended. `cpu` and
/// `cpuset` are joined to be limited only, and `freezer`, `devices`, `blkio` and the rest
/// never: each hierarchy costs a start 70 µs.
const V1_CONTROLLERS: [&str; 3] = ["pids", "memory", "cpuacct"];

impl Cgroup {
    /// Makes the groups of a sandbox and sets its limits. Where nothing can be
    /// written and nothing is limited there are no groups, and that is no error.
    ///
    /// # Errors
    /// [`CgroupError`]; what was made is removed again.
    pub fn create(layout: &Layout, name: &str, resources: &Resources) -> Result<Self, CgroupError> {
        let counted = Self {
            counted: true,
            ..Self::default()
        };
        counted.made(layout, name, resources)
    }

    /// As [`Cgroup::create`], for a sandbox of which nobody will read what it has used.
    ///
    /// # Errors
    /// As for that.
    pub fn create_uncounted(
        layout: &Layout,
        name: &str,
        resources: &Resources,
    ) -> Result<Self, CgroupError> {
        Self::default().made(layout, name, resources)
    }

    fn made(
        mut self,
        layout: &Layout,
        name: &str,
        resources: &Resources,
    ) -> Result<Self, CgroupError> {
        match self.fill(layout, name, resources) {
            Ok(()) => Ok(self),
            Err(e) => {
                self.remove();
                Err(e)
            }
        }
    }

    /// Finds groups by their name alone, anywhere in the hierarchies: slow, and
    /// only for those whose maker died before it could write down where they are.
    pub fn find(layout: &Layout, name: &str) -> Self {
        let mut groups = Vec::new();
        for hierarchy in &layout.hierarchies {
            let mut folders = vec![hierarchy.mount.clone()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                        continue;
                    }
                    let path = entry.path();
                    if entry.file_name() != name {
                        folders.push(path);
                        continue;
                    }
                    groups.push(Group {
                        version: hierarchy.version,
                        controllers: hierarchy.controllers.clone(),
                        path,
                    });
                }
            }
        }
        Self {
            groups,
            counted: false,
        }
    }

    fn fill(
        &mut self,
        layout: &Layout,
        name: &str,
        resources: &Resources,
    ) -> Result<(), CgroupError> {
        let offered = |c: &&&str| layout.hierarchies.iter().any(|h| h.has(c));
        let most = if self.counted { usize::MAX } else { 1 };
        let joined = V1_CONTROLLERS.iter().filter(offered).take(most);
        for hierarchy in &layout.hierarchies {
            let wanted = match hierarchy.version {
                Version::V1 => {
                    limited(resources).any(|c| hierarchy.has(c))
                        || joined.clone().any(|c| hierarchy.has(c))
                }
                Version::V2 => layout.has_use_for(hierarchy),
            };
            if !wanted {
                continue;
            }
            let parent = match hierarchy.version {
                Version::V1 => hierarchy.own(),
                Version::V2 => match hierarchy.prepare_v2_parent() {
                    Ok(parent) => parent,
                    Err(_) => continue,
                },
            };
            let path = parent.join(name);
            match fs::create_dir(&path) {
                Ok(()) => {}
                // Not ours to write, or out of sight: limits that need it are refused below.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::PermissionDenied
                            | io::ErrorKind::ReadOnlyFilesystem
                            | io::ErrorKind::NotFound
                    ) =>
                {
                    continue;
                }
                Err(source) => {
                    return Err(CgroupError::Io {
                        action: "make the cgroup",
                        path,
                        source,
                    });
                }
            }
            let controllers = match hierarchy.version {
                Version::V1 => hierarchy.controllers.clone(),
                Version::V2 => words(&path.join("cgroup.controllers")),
            };
            self.groups.push(Group {
                version: hierarchy.version,
                controllers,
                path,
            });
        }
        self.limit(resources)
    }

    fn limit(&self, resources: &Resources) -> Result<(), CgroupError> {
        if let Some(Bytes(bytes)) = resources.memory {
            let group = self.need("memory", "memory")?;
            group.limit_memory(&bytes.to_string())?;
        }
        if let Some(cores) = resources.cpus {
            let group = self.need("processor time", "cpu")?;
            group.limit_time(&quota(cores).to_string())?;
        }
        if let Some(pids) = resources.pids {
            self.need("the number of processes", "pids")?
                .write("pids.max", &pids.to_string())?;
        }
        if let Some(group) = self.with("cpuset").filter(|g| g.version == Version::V1) {
            // An empty cpuset of version 1 takes no process: both files must be filled.
            let parent = group.path.parent().unwrap_or(&group.path);
            let mems = kernel_file::read(parent.join("cpuset.mems")).unwrap_or_default();
            group.write("cpuset.mems", mems.trim())?;
        }
        if let Some(cpus) = &resources.cpuset {
            self.need("the set of processors", "cpuset")?
                .write("cpuset.cpus", &cpus.to_string())?;
        }
        Ok(())
    }

    fn with(&self, controller: &str) -> Option<&Group> {
        self.groups
            .iter()
            .find(|g| g.controllers.iter().any(|c| c == controller))
    }

    fn need(&self, what: &'static str, controller: &'static str) -> Result<&Group, CgroupError> {
        self.with(controller)
            .ok_or(CgroupError::NoController { what, controller })
    }

    /// Tells whether there is any group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Opens the group of version 2, for `CLONE_INTO_CGROUP`.
    pub fn v2_fd(&self) -> Option<OwnedFd> {
        let group = self.groups.iter().find(|g| g.version == Version::V2)?;
        crate::mount::open_dir(&group.path).ok()
    }

    /// Opens the way into the groups of version 1, for a child to take by itself.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn entrance(&self) -> Result<Entrance, CgroupError> {
        let open = |group: &Group| {
            let path = group.path.join("tasks");
            let file = fs::OpenOptions::new().write(true).open(&path);
            file.map_err(|source| CgroupError::Io {
                action: "open",
                path,
                source,
            })
        };
        let v1 = self.groups.iter().filter(|g| g.version == Version::V1);
        Ok(Entrance(v1.map(open).collect::<Result<_, _>>()?))
    }

    /// Opens the way into all groups, of both versions: whole processes go in,
    /// so that it is for one that has just come to be.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn doors(&self) -> Result<Entrance, CgroupError> {
        let open = |group: &Group| {
            let path = group.path.join("cgroup.procs");
            let file = fs::OpenOptions::new().write(true).open(&path);
            file.map_err(|source| CgroupError::Io {
                action: "open",
                path,
                source,
            })
        };
        let doors: Result<_, _> = self.groups.iter().map(open).collect();
        Ok(Entrance(doors?))
    }

    /// Lists the processes in the groups and below: a job may make groups of its own.
    pub fn processes(&self) -> Vec<Pid> {
        let Some(group) = self.with("pids").or(self.groups.first()) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for folder in group.folders() {
            let text = kernel_file::read(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|l| Pid::from_raw(l.parse().ok()?)));
        }
        found
    }

    /// Kills every process in the groups, those included that fork meanwhile.
    pub fn kill(&self) {
        for group in self.groups.iter().filter(|g| g.version == Version::V2) {
            let _ = group.write("cgroup.kill", "1");
        }
        // A process that forks faster than it is killed is held by the pids limit on the second round.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            if let Some(group) = self.with("pids") {
                let _ = group.write("pids.max", "0");
            }
            for pid in left {
                let _ = crate::signals::send(pid, libc::SIGKILL);
            }
        }
    }

    /// Tells whether what is used inside is counted.
    pub fn is_counted(&self) -> bool {
        self.counted
    }

    /// Reads what the groups have used. What no controller counts is `None`; where nothing
    /// is counted it is what the processes say that are inside now.
    pub fn usage(&self) -> Usage {
        let mut usage = match self.counted {
            true => Usage::default(),
            false => process::usage(&self.processes()),
        };
        for group in &self.groups {
            group.add_usage(&mut usage);
        }
        usage
    }

    /// Removes the groups, waiting a moment for processes that are still
    /// leaving. Gives what could not be removed.
    pub fn remove(&self) -> Vec<PathBuf> {
        let groups = self.groups.iter().rev();
        groups
            .flat_map(|group| group.folders().into_iter().rev())
            .filter(|folder| !remove_folder(folder))
            .collect()
    }
}

/// Tells whether a group is gone.
fn remove_folder(folder: &Path) -> bool {
    for _ in 0..200 {
        match fs::remove_dir(folder) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return e.kind() == io::ErrorKind::NotFound,
            Ok(()) => return true,
        }
    }
    false
}

/// Gives the controllers of version 1 that hold these limits.
fn limited(resources: &Resources) -> impl Iterator<Item = &'static str> {
    let limits = [
        ("memory", resources.memory.is_some()),
        ("cpu", resources.cpus.is_some()),
        ("cpuset", resources.cpuset.is_some()),
        ("pids", resources.pids.is_some()),
    ];
    let asked = limits.into_iter().filter(|(_, asked)| *asked);
    asked.map(|(controller, _)| controller)
}

impl Group {
    /// Lists the group's folder and those below it, each before those below.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.path.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next) {
            next += 1;
            // Almost never: the links of a folder are 2 and one of each folder in it.
            if fs::metadata(folder).is_ok_and(|m| m.nlink() > 2) {
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                let inner = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
                let inner: Vec<PathBuf> = inner.map(|e| e.path()).collect();
                folders.extend(inner);
            }
        }
        folders
    }

    /// Limits memory: so many bytes, or the word for all.
    fn limit_memory(&self, bytes: &str) -> Result<(), CgroupError> {
        match self.version {
            Version::V1 => self.write("memory.limit_in_bytes", bytes)?,
            Version::V2 => {
                self.write("memory.max", bytes)?;
                // Without swap accounting the file is not there, and nothing is swapped for us.
                let _ = self.write("memory.swap.max", "0");
            }
        }
        Ok(())
    }

    /// Limits processor time: so many microseconds of each [`PERIOD`], or the word for all.
    fn limit_time(&self, quota: &str) -> Result<(), CgroupError> {
        match self.version {
            Version::V1 => {
                self.write("cpu.cfs_period_us", &PERIOD.to_string())?;
                self.write("cpu.cfs_quota_us", quota)
            }
            Version::V2 => self.write("cpu.max", &format!("{quota} {PERIOD}")),
        }
    }

    fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.path.join(file);
        // No O_CREAT and no O_TRUNC: a cgroup file that is missing is an error.
        let written = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut f| io::Write::write_all(&mut f, value.as_bytes()));
        written.map_err(|source| CgroupError::Io {
            action: "write",
            path,
            source,
        })
    }

    fn number(&self, file: &str) -> Option<u64> {
        kernel_file::read(self.path.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    fn field(&self, file: &str, key: &str) -> Option<u64> {
        let text = kernel_file::read(self.path.join(file)).ok()?;
        text.lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    }

    fn add_usage(&self, usage: &mut Usage) {
        let has = |c: &str| self.controllers.iter().any(|x| x == c);
        match self.version {
            Version::V1 => {
                if has("cpuacct") {
                    usage.cpu_user = self.number("cpuacct.usage_user").map(Duration::from_nanos);
                    usage.cpu_system = self.number("cpuacct.usage_sys").map(Duration::from_nanos);
                }
                if has("memory") {
                    usage.memory_peak = self.number("memory.max_usage_in_bytes").map(Bytes);
                    usage.memory_current = self.number("memory.usage_in_bytes").map(Bytes);
                    usage.oom_kills = self.field("memory.oom_control", "oom_kill");
                }
                if has("pids") {
                    usage.pids = self.number("pids.current");
                }
            }
            // Controllers may be in both: what this version does not count stays.
            Version::V2 => {
                let time = |key| self.field("cpu.stat", key).map(Duration::from_micros);
                usage.cpu_user = usage.cpu_user.or_else(|| time("user_usec"));
                usage.cpu_system = usage.cpu_system.or_else(|| time("system_usec"));
                if has("memory") {
                    usage.memory_peak = self.number("memory.peak").map(Bytes);
                    usage.memory_current = self.number("memory.current").map(Bytes);
                    usage.oom_kills = self.field("memory.events", "oom_kill");
                }
                if has("pids") {
                    usage.pids = self.number("pids.current");
                }
                if let Ok(text) = kernel_file::read(self.path.join("io.stat")) {
                    usage.io_read = Some(Bytes(io_total(&text, "rbytes=")));
                    usage.io_written = Some(Bytes(io_total(&text, "wbytes=")));
                }
            }
        }
    }
}

/// Adds up one field of `io.stat` over all devices.
fn io_total(text: &str, key: &str) -> u64 {
    text.split_ascii_whitespace()
        .filter_map(|w| w.strip_prefix(key)?.parse::<u64>().ok())
        .sum()
}

fn words(file: &Path) -> Vec<String> {
    let text = kernel_file::read(file).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}
