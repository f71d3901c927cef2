use std::time::Duration;

use hyperion_sched::Time;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A rigid job: it has all of its processors from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// When it is submitted.
    pub submit: Time,
    /// How long it runs.
    pub run: Duration,
    /// How long its user says that it runs at the most; in a log `run` at the least.
    pub estimate: Duration,
    /// How many processors it has.
    pub processors: u64,
}

/// What a log says of a job, in seconds and processors; what it does not know is −1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// Seconds from the beginning of the log to its submission.
    pub submit: i64,
    /// Seconds that it ran.
    pub run: i64,
    /// Processors that it had.
    pub allocated: i64,
    /// Processors that it asked for.
    pub requested: i64,
    /// Seconds that it asked for.
    pub requested_time: i64,
}

/// Why a job of a log is not simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Dropped {
    /// It was submitted before the log began.
    #[error("submitted before the log begins, field 2 (submit time) is below 0")]
    Submit,
    /// It did not run.
    #[error("no run time, field 4 is not above 0")]
    Run,
    /// It had no processors.
    #[error("no processors, neither field 8 (asked for) nor 5 (had) is above 0")]
    Processors,
    /// The machine has not so many.
    #[error("more processors (field 8, else 5) than the machine has")]
    TooLarge,
}

impl Job {
    /// Makes a job of a log one for a machine of so many processors: with those that it
    /// asked for, else those that it had, and with the time that it asked for, if that is
    /// not less than it took.
    ///
    /// # Errors
    /// [`Dropped`], by the first rule that it breaks.
    pub fn of(logged: Logged, machine: u64) -> Result<Self, Dropped> {
        let known = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
        let submit = u64::try_from(logged.submit).map_err(|_| Dropped::Submit)?;
        let run = known(logged.run).ok_or(Dropped::Run)?;
        let processors = known(logged.requested).or(known(logged.allocated));
        let processors = processors.ok_or(Dropped::Processors)?;
        if processors > machine {
            return Err(Dropped::TooLarge);
        }
        Ok(Self {
            submit: Time::seconds(submit),
            run: Duration::from_secs(run),
            estimate: Duration::from_secs(known(logged.requested_time).unwrap_or(run).max(run)),
            processors,
        })
    }

    /// Lets it come `load` times as soon after the first of its workload: order, lengths and
    /// sizes stay. (Feitelson, "Workload Modeling for Computer Systems Performance
    /// Evaluation", 2015, warns that a load that is changed so is no longer quite that of
    /// the site: its days become shorter.)
    #[must_use]
    pub fn at_load(self, first: Time, load: f64) -> Self {
        Self {
            submit: at_load(self.submit, first, load),
            ..self
        }
    }
}

/// Lets a moment come `load` times as soon after another.
pub(super) fn at_load(at: Time, first: Time, load: f64) -> Time {
    match load == 1.0 {
        true => at,
        false => first + at.since(first).div_f64(load),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Logged = Logged {
        submit: 5,
        run: 60,
        allocated: 3,
        requested: 4,
        requested_time: 100,
    };

    #[test]
    fn what_was_asked_for_counts_before_what_was_had() {
        let job = |logged| Job::of(logged, 8).expect("a job");
        let whole = job(WHOLE);
        assert_eq!((whole.submit, whole.processors), (Time::seconds(5), 4));
        assert_eq!(whole.estimate, Duration::from_secs(100));
        let had = job(Logged {
            requested: -1,
            requested_time: -1,
            ..WHOLE
        });
        assert_eq!((had.processors, had.estimate), (3, had.run));
        // Nobody ends a job that takes longer than was said.
        let longer = job(Logged { run: 200, ..WHOLE });
        assert_eq!(longer.estimate, Duration::from_secs(200));
    }

    #[test]
    fn at_twice_the_load_gaps_are_half_as_long() {
        let job = |submit| Job {
            submit: Time::seconds(submit),
            run: Duration::from_secs(60),
            estimate: Duration::from_secs(60),
            processors: 1,
        };
        let jobs = [job(10), job(13), job(30)].map(|job| job.at_load(Time::seconds(10), 2.0));
        let submitted = jobs.map(|job| job.submit);
        assert_eq!(
            submitted,
            [Time(10_000_000), Time(11_500_000), Time(20_000_000)]
        );
        assert_eq!(jobs[1].run, Duration::from_secs(60));
    }

    #[test]
    fn what_cannot_run_is_dropped_by_a_rule() {
        for (logged, rule) in [
            (
                Logged {
                    submit: -1,
                    ..WHOLE
                },
                Dropped::Submit,
            ),
            (Logged { run: 0, ..WHOLE }, Dropped::Run),
            (
                Logged {
                    requested: 0,
                    allocated: -1,
                    ..WHOLE
                },
                Dropped::Processors,
            ),
            (
                Logged {
                    requested: 9,
                    ..WHOLE
                },
                Dropped::TooLarge,
            ),
        ] {
            assert_eq!(Job::of(logged, 8), Err(rule));
        }
    }
}
