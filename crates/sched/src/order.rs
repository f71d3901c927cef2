use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::queue::Queued;
use crate::quota::QuotaNumber;
use crate::shares::ShareNumber;
use crate::time::Time;
use crate::window::WindowNumber;

/// In which order jobs are looked at; where it says nothing, the earlier
/// submitted comes first, then the lower number.
///
/// F1 to F4: Carastan-Santos and de Camargo, "Obtaining Dynamic Scheduling
/// Policies with Simulation and Machine Learning", SC'17. WFP3 and UNICEP: Tang
/// et al., "Fault-aware, utility-based job scheduling on Blue Gene/P", 2009.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As they were submitted.
    #[default]
    Fifo,
    /// The shortest time limit first.
    Shortest,
    /// By −(w / r)³ n: who has waited long for little time comes first.
    Wfp3,
    /// By −w / (log₂(n) r).
    Unicep,
    /// By log₁₀(r) n + 870 log₁₀(s).
    F1,
    /// By √r n + 25,600 log₁₀(s).
    F2,
    /// By r n + 6,860,000 log₁₀(s).
    F3,
    /// By r √n + 530,000 log₁₀(s).
    F4,
    /// The next job of the user who has the smallest share of that of which he has the
    /// largest, as if each were started when it is his turn: dominant resource fairness.
    /// (Ghodsi et al., NSDI 2011.) For what is looked at beside that it is as [`Order::Fifo`].
    #[serde(rename = "drf")]
    Fairest,
    /// By what age, size, fair share, partition and quality of service count for. In one
    /// word nothing counts: the weights are written elsewhere.
    Multifactor(#[serde(skip)] Weights),
}

/// What each part of a job's priority counts for, as in Slurm's `priority/multifactor`
/// (`slurm.schedmd.com/priority_multifactor.html`): each part is between 0 and 1, and
/// taken so many times; what its user took from it by `nice` comes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// For its wait, which counts in full from [`Weights::oldest`] on.
    pub age: u32,
    /// How long a wait counts.
    pub oldest: Duration,
    /// For what is due to its user.
    pub fair_share: u32,
    /// For how much of the cluster's processors it takes.
    pub size: u32,
    /// Small jobs are preferred, in place of large ones.
    pub favor_small: bool,
    /// For its partition.
    pub partition: u32,
    /// For its quality of service.
    pub qos: u32,
}

impl Default for Weights {
    /// Nothing counts; a wait would for a week, as in Slurm.
    fn default() -> Self {
        Self {
            age: 0,
            oldest: Duration::from_secs(7 * 86_400),
            fair_share: 0,
            size: 0,
            favor_small: false,
            partition: 0,
            qos: 0,
        }
    }
}

/// How a job makes room for another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Yields {
    /// It does not.
    #[default]
    No,
    /// It ends.
    Ends,
    /// It stands still: its cores are free meanwhile, and nothing else.
    Rests,
}

/// What counts for a job beside what it asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whose share of the cluster it uses.
    pub share: ShareNumber,
    /// The priority of its partition beside the highest of any, in thousandths.
    pub partition: u16,
    /// The same of its quality of service.
    pub qos: u16,
    /// What its user takes from its priority.
    pub nice: i64,
    /// A priority that somebody gave it in place of all that.
    pub fixed: Option<i64>,
    /// Those of a lower rank come after it, and make room for it where they yield.
    pub rank: u16,
    /// How it makes room for jobs of a higher rank.
    pub yields: Yields,
    /// The window to which it has a right.
    pub right: Option<WindowNumber>,
    /// The quotas that it uses of.
    pub quotas: SmallVec<[QuotaNumber; 4]>,
}

/// What the score of a job depends on beside the job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) now: Time,
    /// All cores of the cluster, in thousandths.
    pub(crate) cores: u64,
    /// What is due to whom, by the number of the share.
    pub(crate) due: &'a [f64],
}

/// What the priority of a job is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Priority {
    /// For its wait.
    pub age: f64,
    /// For its size.
    pub size: f64,
    /// For what is due to its user.
    pub fair_share: f64,
    /// For its partition.
    pub partition: f64,
    /// For its quality of service.
    pub qos: f64,
    /// What its user took from it.
    pub nice: i64,
    /// What somebody gave it in place of all that.
    pub fixed: Option<i64>,
}

impl Priority {
    /// Gives what it comes to.
    pub fn total(&self) -> f64 {
        let parts = self.age + self.size + self.fair_share + self.partition + self.qos;
        self.fixed
            .map_or(parts - self.nice as f64, |fixed| fixed as f64)
    }
}

impl Weights {
    pub(crate) fn priority(&self, job: &Queued, view: &View<'_>) -> Priority {
        let standing = &job.standing;
        let oldest = self.oldest.as_secs_f64().max(1.0);
        let age = view.now.since(job.submitted).as_secs_f64() / oldest;
        let size = job.request.cores() as f64 / (view.cores as f64).max(1.0);
        let size = match self.favor_small {
            true => 1.0 - size,
            false => size,
        };
        let due = view.due.get(standing.share.0 as usize);
        let part = |weight: u32, part: f64| f64::from(weight) * part.clamp(0.0, 1.0);
        Priority {
            age: part(self.age, age),
            size: part(self.size, size),
            fair_share: part(self.fair_share, due.copied().unwrap_or(0.0)),
            partition: part(self.partition, f64::from(standing.partition) / 1000.0),
            qos: part(self.qos, f64::from(standing.qos) / 1000.0),
            nice: standing.nice,
            fixed: standing.fixed,
        }
    }
}

impl Order {
    /// Tells whether the order of two jobs changes while they wait.
    pub fn changes(self) -> bool {
        matches!(
            self,
            Self::Wfp3 | Self::Unicep | Self::Fairest | Self::Multifactor(_)
        )
    }

    /// Gives the score of a job; the lowest comes first.
    ///
    /// r is its time limit, s its submission, w its wait, in seconds; n its
    /// processors. r, n and s count as 1 at least, so that every score is a number.
    pub(crate) fn score(self, job: &Queued, view: &View<'_>) -> f64 {
        let r = || job.limit.as_secs_f64().max(1.0);
        let n = || (job.request.cores() as f64 / 1000.0).max(1.0);
        let s = || (job.submitted.0 as f64 / 1e6).max(1.0);
        let w = || view.now.since(job.submitted).as_secs_f64();
        match self {
            Self::Fifo | Self::Fairest => 0.0,
            // Exact, unlike seconds.
            Self::Shortest => job.limit.as_micros() as f64,
            Self::Wfp3 => -(w() / r()).powi(3) * n(),
            // A job of one processor has no logarithm to divide by: nothing is before it.
            Self::Unicep => -w() / (n().log2() * r()).max(f64::MIN_POSITIVE),
            Self::F1 => r().log10() * n() + 870.0 * s().log10(),
            Self::F2 => r().sqrt() * n() + 25_600.0 * s().log10(),
            Self::F3 => r() * n() + 6_860_000.0 * s().log10(),
            Self::F4 => r() * n().sqrt() + 530_000.0 * s().log10(),
            Self::Multifactor(weights) => -weights.priority(job, view).total(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amounts::Amounts;
    use crate::queue::JobNumber;
    use crate::request::Request;

    #[test]
    fn scores_are_those_of_the_papers() {
        let job = Queued {
            job: JobNumber(1),
            submitted: Time::seconds(1000),
            limit: Duration::from_secs(100),
            least: None,
            request: Request::of(4, Amounts::cores(4000)).into(),
            standing: Standing::default(),
        };
        // r = 100, n = 16, s = 1000, w = 200.
        let view = View {
            now: Time::seconds(1200),
            cores: 64_000,
            due: &[],
        };
        let expected = [
            (Order::Fifo, 0.0),
            (Order::Shortest, 100e6),
            (Order::Wfp3, -128.0),
            (Order::Unicep, -0.5),
            (Order::F1, 2.0 * 16.0 + 870.0 * 3.0),
            (Order::F2, 10.0 * 16.0 + 25_600.0 * 3.0),
            (Order::F3, 100.0 * 16.0 + 6_860_000.0 * 3.0),
            (Order::F4, 100.0 * 4.0 + 530_000.0 * 3.0),
        ];
        for (order, score) in expected {
            let ours = order.score(&job, &view);
            assert!((ours - score).abs() < 1e-6, "{order:?}: {ours}");
        }
    }

    #[test]
    fn each_part_of_a_priority_counts_what_it_should() {
        let job = Queued {
            job: JobNumber(1),
            submitted: Time::seconds(1000),
            limit: Duration::from_secs(100),
            least: None,
            request: Request::of(4, Amounts::cores(4000)).into(),
            standing: Standing {
                share: ShareNumber(1),
                partition: 500,
                qos: 1000,
                nice: 3,
                ..Standing::default()
            },
        };
        // It has waited for a quarter of what counts, and takes a quarter of the cluster.
        let view = View {
            now: Time::seconds(1200),
            cores: 64_000,
            due: &[0.1, 0.75],
        };
        let none = Weights {
            oldest: Duration::from_secs(800),
            ..Weights::default()
        };
        for (weights, expected) in [
            (none, -3.0),
            (Weights { age: 100, ..none }, 22.0),
            (Weights { size: 100, ..none }, 22.0),
            (
                Weights {
                    size: 100,
                    favor_small: true,
                    ..none
                },
                72.0,
            ),
            (
                Weights {
                    fair_share: 100,
                    ..none
                },
                72.0,
            ),
            (
                Weights {
                    partition: 100,
                    ..none
                },
                47.0,
            ),
            (Weights { qos: 100, ..none }, 97.0),
            // No longer than that does a wait count.
            (
                Weights {
                    age: 100,
                    oldest: Duration::from_secs(50),
                    ..none
                },
                97.0,
            ),
        ] {
            let score = Order::Multifactor(weights).score(&job, &view);
            assert!((score + expected).abs() < 1e-9, "{weights:?}: {score}");
        }
        let fixed = Queued {
            standing: Standing {
                fixed: Some(7),
                ..job.standing
            },
            ..job
        };
        let weights = Weights { qos: 100, ..none };
        assert_eq!(Order::Multifactor(weights).score(&fixed, &view), -7.0);
    }
}
