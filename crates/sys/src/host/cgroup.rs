//! Control groups: which version, and which controllers this user may use.

use std::collections::BTreeSet;

use hyperion_model::{Check, Verdict};
use serde::Serialize;

use super::{Host, seen};
use crate::cgroup::{Layout, Version};

/// Reads which control groups this process is in.
pub fn cgroup_layout(host: &Host) -> Layout {
    let text = |path: &str| host.text(path).unwrap_or_default();
    Layout::parse(
        &text("/proc/self/mountinfo"),
        &text("/proc/self/cgroup"),
        |path| host.text(path).unwrap_or_default(),
    )
}

/// The kind of a host's control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupVersion {
    /// No controller is mounted.
    None,
    /// Version 1 alone.
    V1,
    /// Version 2 alone.
    V2,
    /// Controllers in version 1 beside a mounted version 2.
    Hybrid,
}

/// Control groups in brief: what is there and what the user may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cgroups {
    /// Which kind it is.
    pub version: CgroupVersion,
    /// Controllers whose groups the user may make.
    pub usable: BTreeSet<String>,
    /// Controllers that are there and not this user's to use.
    pub refused: BTreeSet<String>,
}

/// Reads what the user may do with control groups.
pub fn cgroups(host: &Host) -> Cgroups {
    let layout = cgroup_layout(host);
    let (mut usable, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let (mut v1, mut v2) = (false, false);
    for hierarchy in &layout.hierarchies {
        let group = hierarchy.delegated();
        let mut names = hierarchy.controllers.clone();
        let may = match hierarchy.version {
            Version::V1 => host.may_use(&group),
            Version::V2 => {
                v2 = true;
                // Root makes groups at the top, where more may be offered than here.
                let top = (host.user.uid == 0)
                    .then(|| host.text(hierarchy.mount.join("cgroup.controllers")))
                    .flatten();
                names.extend(
                    top.iter()
                        .flat_map(|t| t.split_ascii_whitespace().map(str::to_owned)),
                );
                // Delegation gives the folder and these files.
                let files = ["cgroup.procs", "cgroup.subtree_control"];
                host.may_use(&group) && files.iter().all(|f| host.may_use(group.join(f)))
            }
        };
        // Hierarchies with a name and no controller (`name=systemd`) limit nothing.
        for name in names.iter().filter(|c| !c.contains('=')) {
            v1 |= hierarchy.version == Version::V1;
            if may { &mut usable } else { &mut refused }.insert(name.clone());
        }
    }
    Cgroups {
        version: match (v1, v2) {
            (false, false) => CgroupVersion::None,
            (true, false) => CgroupVersion::V1,
            (false, true) => CgroupVersion::V2,
            (true, true) => CgroupVersion::Hybrid,
        },
        usable,
        refused,
    }
}

/// What limits and measurements need.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

pub(super) fn check_cgroups(host: &Host) -> Check {
    const NAME: &str = "cgroups";
    let found = cgroups(host);
    let version = match found.version {
        CgroupVersion::None => {
            return Check {
                consequence: "no limits and no exact accounting: usage comes from wait4(2) alone"
                    .into(),
                fix: "mount -t cgroup2 none /sys/fs/cgroup".into(),
                ..seen(
                    NAME,
                    Verdict::Missing,
                    "no controller in /proc/self/cgroup is mounted (/proc/self/mountinfo)",
                )
            };
        }
        CgroupVersion::V1 => "version 1",
        CgroupVersion::V2 => "version 2",
        CgroupVersion::Hybrid => "hybrid (version 1 controllers beside version 2)",
    };
    let root = host.user.uid == 0;
    let who = if root { "root" } else { "this user" };
    let mut evidence = format!("{version}; usable by {who}: {}", list(&found.usable));
    if !found.refused.is_empty() {
        evidence += &format!("; not delegated: {}", list(&found.refused));
    }
    evidence += " (/proc/self/cgroup)";
    let lacking: Vec<&str> = NEEDED
        .into_iter()
        .filter(|name| !found.usable.contains(*name))
        .collect();
    if lacking.is_empty() {
        return seen(NAME, Verdict::Ok, evidence);
    }
    let fix = match (found.version, root) {
        (CgroupVersion::V2, true) => "enable them in cgroup.subtree_control of the parent groups",
        (CgroupVersion::V2, false) if !found.usable.is_empty() => {
            "have them delegated too: Delegate=cpu cpuset io memory pids of systemd's user@.service"
        }
        (CgroupVersion::V2, false) => {
            "start in a group that is delegated to you: systemd-run --user --scope -p Delegate=yes hyperion …"
        }
        (_, true) => "run where /sys/fs/cgroup is writable, and holds them",
        (_, false) => "run as root, or boot with systemd.unified_cgroup_hierarchy=1 for version 2",
    };
    Check {
        consequence: format!("no limits or accounting by {}", lacking.join(", ")),
        fix: fix.into(),
        ..seen(NAME, Verdict::Limited, evidence)
    }
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}
