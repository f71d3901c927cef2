//! What a job asks of a host: processor, memory, processes, limits.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::{Bytes, Cores};

/// What is wrong with a resource.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResourceError {
    /// Not a list of processors.
    #[error("{0:?} is not a list of processors: write 0-3,8")]
    CpuSet(String),
    /// Not a list of tasks.
    #[error("{0:?} is not a list of tasks: write 0-9,20")]
    TaskSet(String),
    /// Not a limit as `--ulimit` takes it.
    #[error("{0:?} is not a limit: write NAME=SOFT[:HARD], such as nofile=1024:4096")]
    Rlimit(String),
    /// What applies at once is more than how far it may be raised.
    #[error("in {0:?} the soft limit is above the hard one: write NAME=SOFT:HARD")]
    RlimitAbove(String),
    /// The limit has an unknown name.
    #[error("there is no limit named {0:?}")]
    RlimitName(String),
    /// Not a way to bind.
    #[error("{0:?} is not a way to bind ranks: core, numa or none")]
    Binding(String),
}

/// A set of processors by the kernel's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(pub BTreeSet<u32>);

impl CpuSet {
    /// Tells how many processors are in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for CpuSet {
    type Err = ResourceError;
    /// Reads the kernel's list format: `0-3,8`.
    fn from_str(s: &str) -> Result<Self, ResourceError> {
        // The kernel's own bound: NR_CPUS is at most 8192.
        let set = read_list(s, 65_535).ok_or_else(|| ResourceError::CpuSet(s.to_owned()))?;
        Ok(Self(set))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(&self.0, f)
    }
}

/// The tasks of an array job, by number: the same command is run once for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskSet(pub BTreeSet<u32>);

impl FromStr for TaskSet {
    type Err = ResourceError;
    /// Reads a list such as `0-9,20`; at least one task, none above 999,999.
    fn from_str(s: &str) -> Result<Self, ResourceError> {
        let set = read_list(s, 999_999).filter(|set| !set.is_empty());
        Ok(Self(
            set.ok_or_else(|| ResourceError::TaskSet(s.to_owned()))?,
        ))
    }
}

impl fmt::Display for TaskSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(&self.0, f)
    }
}

impl TryFrom<String> for TaskSet {
    type Error = ResourceError;
    fn try_from(s: String) -> Result<Self, ResourceError> {
        s.parse()
    }
}

impl From<TaskSet> for String {
    fn from(set: TaskSet) -> Self {
        set.to_string()
    }
}

/// Reads numbers and ranges; the bound keeps a hostile range small.
fn read_list(text: &str, largest: u32) -> Option<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    for part in text
        .trim()
        .split(',')
        .map(str::trim)
        .filter(|p| !p.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > largest {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

fn write_list(set: &BTreeSet<u32>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut numbers = set.iter().copied().peekable();
    let mut separator = "";
    while let Some(first) = numbers.next() {
        let mut last = first;
        while numbers.peek() == Some(&(last + 1)) {
            last += 1;
            numbers.next();
        }
        if first == last {
            write!(f, "{separator}{first}")?;
        } else {
            write!(f, "{separator}{first}-{last}")?;
        }
        separator = ",";
    }
    Ok(())
}

impl TryFrom<String> for CpuSet {
    type Error = ResourceError;
    fn try_from(s: String) -> Result<Self, ResourceError> {
        s.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

/// How ranks are tied to processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// Each rank gets processors of its own, `cpus_per_rank` of them.
    Core,
    /// Each rank may use all processors of one NUMA node.
    Numa,
    /// The kernel decides.
    #[default]
    None,
}

impl FromStr for Binding {
    type Err = ResourceError;
    fn from_str(s: &str) -> Result<Self, ResourceError> {
        match s {
            "core" => Ok(Self::Core),
            "numa" => Ok(Self::Numa),
            "none" => Ok(Self::None),
            _ => Err(ResourceError::Binding(s.to_owned())),
        }
    }
}

/// One per-process limit, as `setrlimit(2)` knows it. `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The kernel's name without `RLIMIT_`, in lower case: `nofile`, `memlock`.
    pub name: String,
    /// What applies now.
    pub soft: Option<u64>,
    /// How far the process may raise it.
    pub hard: Option<u64>,
}

impl Rlimit {
    /// The names of `setrlimit(2)` in the order of their kernel numbers (x86-64, aarch64).
    pub const NAMES: [&'static str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
}

impl FromStr for Rlimit {
    type Err = ResourceError;
    /// Reads docker's `NAME=SOFT[:HARD]`, where `-1` and `unlimited` mean no limit.
    fn from_str(s: &str) -> Result<Self, ResourceError> {
        let bad = || ResourceError::Rlimit(s.to_owned());
        let (name, values) = s.split_once('=').ok_or_else(bad)?;
        if !Self::NAMES.contains(&name) {
            return Err(ResourceError::RlimitName(name.to_owned()));
        }
        let value = |t: &str| match t {
            "-1" | "unlimited" => Ok(None),
            _ => t.parse().map(Some).map_err(|_| bad()),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let limit = Self {
            name: name.to_owned(),
            soft: value(soft)?,
            hard: value(hard)?,
        };
        // A soft limit above the hard one is refused by the kernel; say so here.
        let above = match (limit.soft, limit.hard) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(soft), Some(hard)) => soft > hard,
        };
        match above {
            true => Err(ResourceError::RlimitAbove(s.to_owned())),
            false => Ok(limit),
        }
    }
}

/// What one sandbox may use. `None` leaves the host's own limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Processor time per wall time.
    pub cpus: Option<Cores>,
    /// The processors that may be used.
    pub cpuset: Option<CpuSet>,
    /// Memory, swap not counted.
    pub memory: Option<Bytes>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Resources {
    /// Tells whether any limit is asked for.
    pub fn is_limited(&self) -> bool {
        self != &Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cpu_list_is_read_and_written_as_the_kernel_does() {
        let set: CpuSet = "0-3,8, 10-11".parse().expect("valid");
        assert_eq!(set.len(), 7);
        assert_eq!(set.to_string(), "0-3,8,10-11");
        for bad in ["3-1", "a", "0-99999999", "1-2-3"] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_checked_before_the_kernel_sees_them() {
        let limit: Rlimit = "nofile=1024:4096".parse().expect("valid");
        assert_eq!((limit.soft, limit.hard), (Some(1024), Some(4096)));
        assert_eq!("memlock=-1".parse::<Rlimit>().map(|l| l.hard), Ok(None));
        assert!("nofile=10:5".parse::<Rlimit>().is_err());
        assert!("nofile".parse::<Rlimit>().is_err());
        assert_eq!(
            "nofiles=1".parse::<Rlimit>(),
            Err(ResourceError::RlimitName("nofiles".into()))
        );
    }

    proptest! {
        #[test]
        fn a_cpu_set_survives_being_written(set in proptest::collection::btree_set(0u32..500, 0..40)) {
            let set = CpuSet(set);
            prop_assert_eq!(set.to_string().parse::<CpuSet>(), Ok(set));
        }
    }
}
