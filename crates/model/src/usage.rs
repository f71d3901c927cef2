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

    /// Gives user and system time together.
    pub fn cpu_total(&self) -> Option<Duration> {
        match (self.cpu_user, self.cpu_system) {
            (None, None) => None,
            (user, system) => Some(user.unwrap_or_default() + system.unwrap_or_default()),
        }
    }
}
