//! The report of one run: what was run, how it ended, what it cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::errand::Step;
use crate::ids::JobId;
use crate::job::Level;
use crate::metrics::{
    ServiceTimes, max_min_shares, naive_share, throughput_per_second, utilization_percent,
};
use crate::nodes::Member;
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
    /// Its nodes, where there were several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// A program stood in for the processor, so no time says anything of a real one.
    #[serde(default)]
    pub emulated: bool,
    /// The image, as written.
    pub image: Option<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// How it ended.
    pub exit: Exit,
    /// How the ranks found each other, in words.
    pub mpi: Option<String>,
    /// Processors that each rank asked for.
    #[serde(default = "one")]
    pub cpus_per_rank: u32,
    /// Processors that the job could use at most: its limit, or the host's.
    pub cpus: f64,
    /// Memory that the job could use at most: its limit, or the host's.
    pub memory: Bytes,
    /// From the command line's start to the first instruction of the program.
    pub startup: Duration,
    /// The start, by phase.
    pub phases: Vec<Phase>,
    /// From the first rank's start to the last one's end, all runs of the command.
    pub wall: Duration,
    /// What the sandbox used.
    pub usage: Usage,
    /// The last run's ranks.
    pub ranks: Vec<RankReport>,
    /// The wall time of each run of the command: with `--repeat` and arrays there are several.
    pub repeats: Vec<Duration>,
    /// What the script of a batch system started with that system's launcher.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

const fn one() -> u32 {
    1
}

impl RunReport {
    /// Gives CPU utilization in percent: CPU seconds / (cores × wall seconds).
    pub fn cpu_utilization(&self) -> Option<f64> {
        let used = self.usage.cpu_total()?.as_secs_f64();
        utilization_percent(used, self.cpus * self.wall.as_secs_f64())
    }

    /// Gives memory utilization in percent, weighted by time: mean / what could be used.
    pub fn memory_utilization(&self) -> Option<f64> {
        utilization_percent(self.usage.memory_mean?.0 as f64, self.memory.0 as f64)
    }

    /// Gives the largest share of memory in use at one moment, in percent.
    pub fn memory_peak_percent(&self) -> Option<f64> {
        utilization_percent(self.usage.memory_peak?.0 as f64, self.memory.0 as f64)
    }

    /// Gives the time from the command line's start to the job's end. The part
    /// of it before the first rank runs ([`RunReport::startup`]) is the wait.
    pub fn turnaround(&self) -> Duration {
        self.startup + self.wall
    }

    /// Gives the part of the turnaround in which no rank ran, 0 to 1.
    pub fn overhead(&self) -> Option<f64> {
        let turnaround = self.turnaround();
        (!turnaround.is_zero()).then(|| self.startup.as_secs_f64() / turnaround.as_secs_f64())
    }

    /// Gives the cores of each rank by the sources' formula: total / number.
    pub fn naive_share(&self) -> Option<f64> {
        naive_share(self.cpus, self.ranks.len())
    }

    /// Gives the cores of each rank by the better model: its max-min fair share
    /// for what it asked for, less the overhead. It is the naive share when the
    /// ranks ask for all that there is and starting costs nothing.
    pub fn fair_share(&self) -> Option<f64> {
        let demands = vec![f64::from(self.cpus_per_rank); self.ranks.len()];
        let shares = max_min_shares(self.cpus, &demands, self.overhead()?);
        shares.first().copied()
    }

    /// Gives runs of the command per second over the wall time.
    pub fn throughput(&self) -> Option<f64> {
        throughput_per_second(self.repeats.len() as u64, self.wall)
    }

    /// Gives the distribution of the runs' wall times.
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

    fn sample() -> RunReport {
        let ms = Duration::from_millis;
        let rank = |rank| RankReport {
            rank,
            exit: Exit::Code(0),
            cpu: ms(100),
            memory_peak: Bytes(1 << 20),
            wall: ms(200),
        };
        RunReport {
            id: "0123456789ab".parse().expect("an id"),
            level: Level::Process,
            emulated: false,
            members: Vec::new(),
            image: None,
            argv: vec!["true".into()],
            exit: Exit::Code(0),
            mpi: None,
            cpus_per_rank: 1,
            cpus: 2.0,
            memory: Bytes(1 << 30),
            startup: ms(100),
            phases: Vec::new(),
            wall: ms(400),
            usage: Usage {
                cpu_user: Some(ms(300)),
                cpu_system: Some(ms(100)),
                memory_mean: Some(Bytes(1 << 28)),
                memory_peak: Some(Bytes(1 << 29)),
                ..Usage::default()
            },
            ranks: vec![rank(0), rank(1)],
            repeats: vec![ms(100), ms(300)],
            steps: Vec::new(),
        }
    }

    #[test]
    fn what_a_run_cost_is_computed_as_defined() {
        let report = sample();
        // 0.4 s of processor time of 2 cores × 0.4 s.
        assert_eq!(report.cpu_utilization(), Some(50.0));
        assert_eq!(report.memory_utilization(), Some(25.0));
        assert_eq!(report.memory_peak_percent(), Some(50.0));
        assert_eq!(report.throughput(), Some(5.0));
        let service = report.service_times().expect("two runs");
        assert_eq!(service.mean, Duration::from_millis(200));
        assert_eq!(report.turnaround(), Duration::from_millis(500));
        assert_eq!(report.overhead(), Some(0.2));
    }

    #[test]
    fn naive_and_fair_share_differ_by_demand_and_overhead_alone() {
        let mut report = sample();
        assert_eq!(report.naive_share(), Some(1.0));
        assert_eq!(report.fair_share(), Some(0.8));
        report.startup = Duration::ZERO;
        assert_eq!(report.fair_share(), report.naive_share());
        report.cpus = 16.0;
        assert_eq!(
            (report.naive_share(), report.fair_share()),
            (Some(8.0), Some(1.0))
        );
        report.ranks.clear();
        assert_eq!((report.naive_share(), report.fair_share()), (None, None));
    }

    #[test]
    fn what_was_not_measured_is_not_zero() {
        let mut report = sample();
        report.usage = Usage::default();
        report.wall = Duration::ZERO;
        report.repeats.clear();
        assert_eq!(report.cpu_utilization(), None);
        assert_eq!(report.memory_utilization(), None);
        assert_eq!(report.throughput(), None);
        assert_eq!(report.service_times(), None);
    }
}
