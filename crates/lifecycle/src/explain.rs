//! Why a task waits, and when it or another would start.

use std::sync::Arc;

use hyperion_model::submission::Submission;
use hyperion_sched::{Explanation, Forecast, Priority, Queued, Time, explain, what_if};

use crate::event::{Refusal, Who};
use crate::ledger::Ledger;
use crate::record::Submitted;
use crate::state::{Reason, TaskId};

/// How far ahead is looked for one who asks, in steps: some tenths of a second.
const EFFORT: u64 = 20_000_000;

/// Why a task waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waits {
    /// In one word.
    pub reason: Reason,
    /// What the policy says of it, where nothing else keeps it from starting.
    pub explanation: Option<Explanation>,
    /// What its priority is made of, where the order knows one.
    pub priority: Option<Priority>,
}

impl Ledger {
    /// Says why a task waits, and when it starts; `None` where it does not wait.
    pub fn explain(&self, task: TaskId, now: Time) -> Option<Waits> {
        let reason = self.reason(task, now)?;
        let (cluster, queue) = (&self.cluster, &self.queue);
        let explanation = explain(self.policy, cluster, queue, now, task.number(), EFFORT);
        Some(Waits {
            reason,
            explanation,
            priority: self.priority(task, now),
        })
    }

    /// Gives the priority of a task that waits; `None` where the order knows none.
    pub fn priority(&self, task: TaskId, now: Time) -> Option<Priority> {
        self.queue.priority(task.number(), &self.cluster, now)
    }

    /// Says when the first task of a submission would start if nothing else than the
    /// nodes kept it from that: what it depends on counts as done. Gives what would be
    /// asked, too. Nothing changes.
    ///
    /// # Errors
    /// [`Refusal`], as if it were submitted.
    pub fn what_if(
        &mut self,
        now: Time,
        who: Who,
        submission: Submission,
        begin: Option<Time>,
    ) -> Result<(Submitted, Forecast), Refusal> {
        let asked = self.taken(who, submission, (begin, None))?;
        let task = TaskId {
            job: asked.job,
            index: 0,
        };
        let from = begin.map_or(now, |begin| begin.max(now));
        let queued = Queued {
            job: task.number(),
            submitted: now,
            limit: asked.limit,
            least: asked
                .submission
                .least_time
                .filter(|least| *least < asked.limit),
            request: Arc::new(self.among(&asked)),
            standing: self.standing(&asked),
        };
        self.set_due(now);
        let (cluster, queue) = (&self.cluster, &self.queue);
        let forecast = what_if(self.policy, cluster, queue, now, queued, EFFORT);
        let forecast = match forecast {
            Forecast::At { at, allocation } => Forecast::At {
                at: at.max(from),
                allocation,
            },
            Forecast::NotBefore(at) => Forecast::NotBefore(at.max(from)),
            Forecast::Never => Forecast::Never,
        };
        Ok((asked, forecast))
    }
}
