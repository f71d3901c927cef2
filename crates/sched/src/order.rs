use crate::queue::Queued;
use crate::time::Time;

/// In which order jobs are looked at; where it says nothing, the earlier
/// submitted comes first, then the lower number.
///
/// F1 to F4: Carastan-Santos and de Camargo, "Obtaining Dynamic Scheduling
/// Policies with Simulation and Machine Learning", SC'17. WFP3 and UNICEP: Tang
/// et al., "Fault-aware, utility-based job scheduling on Blue Gene/P", 2009.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
}

impl Order {
    /// Tells whether the order of two jobs changes while they wait.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Self::Wfp3 | Self::Unicep)
    }

    /// Gives the score of a job; the lowest comes first.
    ///
    /// r is its time limit, s its submission, w its wait, in seconds; n its
    /// processors. r, n and s count as 1 at least, so that every score is a number.
    pub(crate) fn score(self, job: &Queued, now: Time) -> f64 {
        let r = job.limit.as_secs_f64().max(1.0);
        let n = (job.request.cores() as f64 / 1000.0).max(1.0);
        let s = (job.submitted.0 as f64 / 1e6).max(1.0);
        let w = now.since(job.submitted).as_secs_f64();
        match self {
            Self::Fifo => 0.0,
            // Exact, unlike seconds.
            Self::Shortest => job.limit.as_micros() as f64,
            Self::Wfp3 => -(w / r).powi(3) * n,
            // A job of one processor has no logarithm to divide by: nothing is before it.
            Self::Unicep => -w / (n.log2() * r).max(f64::MIN_POSITIVE),
            Self::F1 => r.log10() * n + 870.0 * s.log10(),
            Self::F2 => r.sqrt() * n + 25_600.0 * s.log10(),
            Self::F3 => r * n + 6_860_000.0 * s.log10(),
            Self::F4 => r * n.sqrt() + 530_000.0 * s.log10(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            request: Request::of(4, Amounts::cores(4000)),
        };
        // r = 100, n = 16, s = 1000, w = 200.
        let now = Time::seconds(1200);
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
            let ours = order.score(&job, now);
            assert!((ours - score).abs() < 1e-6, "{order:?}: {ours}");
        }
    }
}
