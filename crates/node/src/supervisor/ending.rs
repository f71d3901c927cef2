//! When a job is to end, and how it is seen to: limits of time, stops and kills.

use std::time::{Duration, Instant};

use hyperion_sys::signals::{SIGKILL, SIGTERM};

use super::{FAILURE_GRACE, Failure, LIFE, Problem, Supervisor};

/// How long room for somebody's commands is kept for who does not come.
const UNKEPT: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Says when a job ends that is room for the commands of somebody who does not come.
    pub(super) fn unkept_after(&self, since: Instant) -> Option<Instant> {
        let batch = self.launch.plan.job.batch.as_ref()?;
        batch.kept.then(|| since + UNKEPT)
    }

    /// Does what it is time for.
    pub(super) fn check_times(&mut self) -> Result<(), Problem> {
        let now = Instant::now();
        if self.memory.look(now, self.sandbox.as_deref()) {
            self.looked = self.settled;
        }
        if self.record_at.is_some_and(|at| now >= at) {
            self.looked = self.settled;
            self.try_record_running();
        }
        if self.limit_at.is_some_and(|at| now >= at) {
            self.time_is_up();
            self.stop(FAILURE_GRACE)?;
        }
        if self.unkept_at.is_some_and(|at| now >= at) {
            self.unkept_at = None;
            self.stop(FAILURE_GRACE)?;
        }
        if self.collecting {
            self.given_up |= self.kill_at.is_some_and(|at| now >= at);
            return Ok(());
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            // Again, as long as any runs: the init may have been kept from passing it on.
            self.kill_at = Some(now + FAILURE_GRACE);
            self.ended_by = SIGKILL as u8;
            self.signal_ranks(SIGKILL)?;
            self.look_for_life(LIFE)?;
        }
        Ok(())
    }

    /// Writes down that the time limit was reached.
    pub(super) fn time_is_up(&mut self) {
        self.limit_at = None;
        self.timed_out = self.failure.is_none();
        let limit = self.launch.plan.job.time_limit.unwrap_or_default();
        let limit = hyperion_model::units::format_duration(limit);
        let failure = Failure {
            hint: Some("give it more with --time".into()),
            ..self.failure_of_job(&format!("the job reached its time limit of {limit}"))
        };
        self.failure.get_or_insert(failure);
    }

    /// Says that the job failed and not one of its ranks.
    pub(super) fn failure_of_job(&self, what: &str) -> Failure {
        Failure {
            task: self.task,
            rank: None,
            what: what.to_owned(),
            causes: Vec::new(),
            hint: None,
            last_lines: Vec::new(),
        }
    }

    /// Asks the ranks to end, and sees to it that they do.
    pub(super) fn stop(&mut self, grace: Duration) -> Result<(), Problem> {
        self.last = true;
        if !self.collecting {
            self.signal_ranks(SIGTERM)?;
        }
        self.kill_in(grace);
        Ok(())
    }

    /// Kills the ranks after a while, or earlier where that was decided before.
    pub(super) fn kill_in(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        self.kill_at = Some(self.kill_at.map_or(at, |old| old.min(at)));
    }
}
