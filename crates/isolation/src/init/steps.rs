//! Steps: what a script starts with the launcher of its batch system (`srun`).
//!
//! Such a launcher says what it is about to start, is given a number, and says how
//! that ended. Steps have the processors of their job for themselves: one that finds too
//! few of them free begins when others have ended.

use std::time::{Duration, Instant};

use hyperion_model::errand::{Step, StepEnd};
use serde::{Deserialize, Serialize};

use super::shim::Word;
use crate::protocol::Event;
use crate::wire::Wire;

/// What a launcher is about to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepAsk {
    /// What it is called.
    pub name: String,
    /// How many parallel processes it is.
    pub tasks: u32,
    /// The processors that it has for itself; 0 for one that shares them.
    pub takes: u32,
    /// The processors of the job.
    pub of: u32,
}

/// One that is connected: the parent of a rank, or a launcher.
pub(super) struct Caller {
    pub(super) wire: Wire,
    waits: Option<StepAsk>,
    runs: Option<Running>,
}

struct Running {
    step: Step,
    takes: u32,
    since: Instant,
    cancelled: bool,
}

impl Caller {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire,
            waits: None,
            runs: None,
        }
    }

    /// Tells a launcher to end its step, where it has that number, or to send it a signal;
    /// tells whether it has.
    pub(super) fn is_told(&mut self, number: u32, signal: Option<i32>) -> bool {
        let runs = self.runs.as_mut();
        let Some(runs) = runs.filter(|runs| runs.step.number == number) else {
            return false;
        };
        runs.cancelled |= signal.is_none();
        // One that has gone away meanwhile has taken its step along.
        let _ = self.wire.send(&Word::Order { signal }, &[]);
        true
    }

    /// Hears that a step is wanted; a launcher has one at a time.
    pub(super) fn wants(&mut self, asked: StepAsk) {
        if self.runs.is_none() {
            self.waits = Some(asked);
        }
    }
}

/// The steps of a script.
#[derive(Debug, Default)]
pub(super) struct Steps {
    next: u32,
    /// Processors that steps have for themselves.
    taken: u32,
}

impl Steps {
    /// Lets a step begin that waits, where there is room for it.
    pub(super) fn begin(&mut self, caller: &mut Caller) -> Option<Event> {
        let asked = caller.waits.as_ref()?;
        let takes = asked.takes.min(asked.of);
        if self.taken.saturating_add(takes) > asked.of && takes > 0 {
            return None;
        }
        let asked = caller.waits.take()?;
        let number = self.next;
        // One that has gone away meanwhile needs no number.
        caller.wire.send(&Word::Numbered { number }, &[]).ok()?;
        self.next += 1;
        self.taken += takes;
        let step = Step {
            number,
            name: asked.name,
            tasks: asked.tasks,
            begun: Duration::ZERO,
            over: None,
        };
        caller.runs = Some(Running {
            step: step.clone(),
            takes,
            since: Instant::now(),
            cancelled: false,
        });
        Some(Event::Step(step))
    }

    /// Hears how one has ended.
    pub(super) fn ended(&mut self, caller: &mut Caller, end: StepEnd) -> Option<Event> {
        let runs = caller.runs.take()?;
        self.taken = self.taken.saturating_sub(runs.takes);
        let cancelled = end.cancelled || runs.cancelled;
        Some(Event::Step(Step {
            over: Some(StepEnd { cancelled, ..end }),
            ..runs.step
        }))
    }

    /// Notices that a launcher is gone: what it started is, too.
    pub(super) fn left(&mut self, caller: &mut Caller) -> Option<Event> {
        let wall = caller.runs.as_ref()?.since.elapsed();
        self.ended(caller, StepEnd::killed(wall))
    }
}
