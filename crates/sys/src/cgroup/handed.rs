//! Groups that root makes and hands to a user: what is in them may be divided further, and
//! nothing leaves them.
//!
//! Only the folder and the files by which processes are moved are the user's
//! (<https://docs.kernel.org/admin-guide/cgroup-v2.html#delegation>). Limits of the group
//! itself stay root's.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use super::layout::{LEAF, make};
use hyperion_model::{Bytes, Cores};

use super::{Cgroup, Entrance, Group, Hierarchy, Layout, V1_CONTROLLERS, Version, quota, words};
use crate::kernel_file;

impl Version {
    /// What stands for no limit.
    const fn unlimited(self) -> &'static str {
        match self {
            Self::V1 => "-1",
            Self::V2 => "max",
        }
    }
}

/// The controllers of version 1 by which jobs are limited.
const LIMITING: [&str; 2] = ["cpu", "cpuset"];

impl Cgroup {
    /// Makes groups that are a user's, or finds them, and gives the way in. Where none can be
    /// made there is none.
    pub fn hand_over(layout: &Layout, name: &str, uid: u32, gid: u32) -> Entrance {
        let mut doors = Vec::new();
        for hierarchy in &layout.hierarchies {
            if let Ok(Some(door)) = hand_over_in(layout, hierarchy, name, uid, gid) {
                doors.push(door);
            }
        }
        Entrance(doors)
    }

    /// Limits the processor time of all that is in groups that were handed over, whatever
    /// their user does in them; without a number it is not limited. Where the kernel does
    /// not take the limit, the one before stays.
    pub fn hold_time(&self, cpus: Option<Cores>) {
        if let Some(group) = self.with("cpu") {
            let quota = cpus.map(|cores| quota(cores).to_string());
            let _ = group.limit_time(quota.as_deref().unwrap_or(group.version.unlimited()));
        }
    }

    /// Limits the memory of all that is in such groups. One that is lower than what is in
    /// use takes as long as it takes to make room.
    pub fn hold_memory(&self, memory: Option<Bytes>) {
        if let Some(group) = self.with("memory") {
            let bytes = memory.map(|Bytes(bytes)| bytes.to_string());
            let _ = group.limit_memory(bytes.as_deref().unwrap_or(group.version.unlimited()));
        }
    }

    /// Gives the limit of their memory; `None` where there is none.
    pub fn held_memory(&self) -> Option<Bytes> {
        let group = self.with("memory")?;
        let file = match group.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let text = kernel_file::read(group.path.join(file)).ok()?;
        text.trim().parse().ok().map(Bytes)
    }

    /// Finds the groups that [`Cgroup::hand_over`] has made.
    pub fn handed_over(layout: &Layout, name: &str) -> Self {
        let all = layout.hierarchies.iter().filter_map(|hierarchy| {
            let path = parent_in(layout, hierarchy).ok()??.join(name);
            path.is_dir().then(|| Group {
                version: hierarchy.version,
                controllers: match hierarchy.version {
                    Version::V1 => hierarchy.controllers.clone(),
                    Version::V2 => words(&path.join("cgroup.controllers")),
                },
                path,
            })
        });
        Self {
            groups: all.collect(),
            counted: true,
        }
    }
}

/// Gives the folder below which a group is made; `None` where jobs have no use for one.
fn parent_in(layout: &Layout, hierarchy: &Hierarchy) -> io::Result<Option<std::path::PathBuf>> {
    let mut used = V1_CONTROLLERS.iter().chain(&LIMITING);
    match hierarchy.version {
        Version::V1 if used.any(|controller| hierarchy.has(controller)) => {
            Ok(Some(hierarchy.own()))
        }
        Version::V2 if layout.has_use_for(hierarchy) => hierarchy.prepare_v2_parent().map(Some),
        Version::V1 | Version::V2 => Ok(None),
    }
}

fn hand_over_in(
    layout: &Layout,
    hierarchy: &Hierarchy,
    name: &str,
    uid: u32,
    gid: u32,
) -> io::Result<Option<fs::File>> {
    let Some(parent) = parent_in(layout, hierarchy)? else {
        return Ok(None);
    };
    let group = parent.join(name);
    make(&group)?;
    let give = |path: &Path| chown(path, Some(uid), Some(gid));
    let inside = match hierarchy.version {
        Version::V1 => {
            if hierarchy.has("cpuset") {
                // An empty cpuset takes no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let all = kernel_file::read(parent.join(file))?;
                    fs::write(group.join(file), all.trim())?;
                }
            }
            give(&group.join("tasks"))?;
            group.clone()
        }
        Version::V2 => {
            // A group that is divided holds no process of its own.
            let leaf = group.join(LEAF);
            make(&leaf)?;
            give(&leaf)?;
            give(&leaf.join("cgroup.procs"))?;
            for file in ["cgroup.subtree_control", "cgroup.threads"] {
                give(&group.join(file))?;
            }
            leaf
        }
    };
    give(&group)?;
    give(&group.join("cgroup.procs"))?;
    let mut door = fs::OpenOptions::new();
    door.write(true).open(inside.join("cgroup.procs")).map(Some)
}
