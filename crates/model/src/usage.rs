//! What a sandbox has used.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Resources used so far, from cgroups where there are any and from the
/// kernel's per-process accounting otherwise. `None` is "not measured".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Processor time in user mode.
    pub cpu_user: Option<Duration>,
    /// Processor time in the kernel.
    pub cpu_system: Option<Duration>,
    /// The most memory in use at one moment: of the whole sandbox when read
    /// from a cgroup (page cache included), of the largest process otherwise.
    pub memory_peak: Option<Bytes>,
    /// Memory in use over time, on average; of the whole sandbox.
    pub memory_mean: Option<Bytes>,
    /// Memory in use now.
    pub memory_current: Option<Bytes>,
    /// Bytes read from block devices.
    pub io_read: Option<Bytes>,
    /// Bytes written to block devices.
    pub io_written: Option<Bytes>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// How often the kernel killed a process for want of memory.
    pub oom_kills: Option<u64>,
}

impl Usage {
    /// Gives what was used after an earlier look: its times and bytes are taken
    /// off; what is counted at one moment stays.
    pub fn since(mut self, earlier: &Self) -> Self {
        fn less<T>(now: &mut Option<T>, earlier: Option<T>, off: impl Fn(T, T) -> T) {
            if let Some(earlier) = earlier {
                *now = now.take().map(|now| off(now, earlier));
            }
        }
        let time = Duration::saturating_sub;
        let bytes = |now: Bytes, earlier: Bytes| Bytes(now.0.saturating_sub(earlier.0));
        less(&mut self.cpu_user, earlier.cpu_user, time);
        less(&mut self.cpu_system, earlier.cpu_system, time);
        less(&mut self.io_read, earlier.io_read, bytes);
        less(&mut self.io_written, earlier.io_written, bytes);
        self
    }

    /// Gives what two sandboxes have used together. The most memory at one moment
    /// is then the most that it can have been.
    pub fn plus(&self, other: &Self) -> Self {
        fn sum<T>(a: Option<T>, b: Option<T>, add: impl Fn(T, T) -> T) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(add(a, b)),
                (a, b) => a.or(b),
            }
        }
        let time = Duration::saturating_add;
        let bytes = |a: Bytes, b: Bytes| Bytes(a.0.saturating_add(b.0));
        let count = u64::saturating_add;
        Self {
            cpu_user: sum(self.cpu_user, other.cpu_user, time),
            cpu_system: sum(self.cpu_system, other.cpu_system, time),
            memory_peak: sum(self.memory_peak, other.memory_peak, bytes),
            memory_mean: sum(self.memory_mean, other.memory_mean, bytes),
            memory_current: sum(self.memory_current, other.memory_current, bytes),
            io_read: sum(self.io_read, other.io_read, bytes),
            io_written: sum(self.io_written, other.io_written, bytes),
            pids: sum(self.pids, other.pids, count),
            oom_kills: sum(self.oom_kills, other.oom_kills, count),
        }
    }

    /// Gives user and system time together.
    pub fn cpu_total(&self) -> Option<Duration> {
        match (self.cpu_user, self.cpu_system) {
            (None, None) => None,
            (user, system) => {
                let user = user.unwrap_or_default();
                Some(user.saturating_add(system.unwrap_or_default()))
            }
        }
    }
}
