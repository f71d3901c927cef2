//! The report of one run: what was run, how it ended, what it cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::job::Level;
use crate::metrics::{ServiceTimes, throughput_per_second, utilization_percent};
use crate::units::Bytes;
use crate::usage::Usage;

/// How one process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It ended by itself with this code.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

impl Exit {
    /// Gives the code that a shell would see: the code, or 128 + the signal.
    pub const fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
        }
    }

    /// Tells whether it ended well.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

/// How long each phase of the start took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What was done: `image`, `supervisor`, `cgroup`, `sandbox`, `preflight`, `spawn`.
    pub name: String,
    /// How long it took.
    pub took: Duration,
}

/// How one rank ended and what it used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankReport {
    /// Its number.
    pub rank: u32,
    /// How it ended.
    pub exit: Exit,
    /// User and system time.
    pub cpu: Duration,
    /// Its largest resident size.
    pub memory_peak: Bytes,
    /// From its start to its end.
    pub wall: Duration,
}

/// What one run cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The job.
    pub id: JobId,
    /// How it was fenced.
    pub level: Level,
    /// The image, as written.
    pub image: Option<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// How it ended.
    pub exit: Exit,
    /// How the ranks found each other, in words.
    pub mpi: Option<String>,
    /// Processors that the job could use at most: its limit, or the host's.
    pub cpus: f64,
    /// Memory that the job could use at most: its limit, or the host's.
    pub memory: Bytes,
    /// From the command line's start to the first instruction of the program.
    pub startup: Duration,
    /// The start, by phase.
    pub phases: Vec<Phase>,
    /// From the first rank's start to the last one's end, all repeats.
    pub wall: Duration,
    /// What the sandbox used.
    pub usage: Usage,
    /// The last repeat's ranks.
    pub ranks: Vec<RankReport>,
    /// The wall time of each repeat.
    pub repeats: Vec<Duration>,
}

impl RunReport {
    /// Gives CPU utilization in percent: CPU seconds / (cores × wall seconds).
    pub fn cpu_utilization(&self) -> Option<f64> {
        let used = self.usage.cpu_total()?.as_secs_f64();
        utilization_percent(used, self.cpus * self.wall.as_secs_f64())
    }

    /// Gives memory utilization in percent: peak / what could be used.
    pub fn memory_utilization(&self) -> Option<f64> {
        utilization_percent(self.usage.memory_peak?.0 as f64, self.memory.0 as f64)
    }

    /// Gives runs of the command per second over the wall time.
    pub fn throughput(&self) -> Option<f64> {
        throughput_per_second(self.repeats.len() as u64, self.wall)
    }

    /// Gives the distribution of the repeats' wall times.
    pub fn service_times(&self) -> Option<ServiceTimes> {
        ServiceTimes::of(&self.repeats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_what_a_shell_sees() {
        assert_eq!(Exit::Code(3).shell_code(), 3);
        assert_eq!(Exit::Signal(9).shell_code(), 137);
        assert!(Exit::Code(0).is_success());
        assert!(!Exit::Signal(15).is_success());
    }
}
