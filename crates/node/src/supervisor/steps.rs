//! Steps of a script: what it has started with the launcher of its batch system.

use std::time::Instant;

use hyperion_model::errand::{Step, StepEnd};

use super::Supervisor;
use crate::talk::Tell;

/// Of a script that starts more, the others run and are not counted.
const MOST: usize = 4096;

/// The variable that says where launchers say what they start.
const WHERE: &str = "HYPERION_STEPS";

/// The steps of what runs.
#[derive(Debug, Default)]
pub(super) struct Steps {
    all: Vec<Step>,
    since: Option<Instant>,
}

impl Steps {
    /// Begins anew: something else runs from now on.
    pub(super) fn begin(&mut self) {
        self.all.clear();
        self.since = Some(Instant::now());
    }

    /// Gives all of them when nothing runs any more: those that have not ended were killed.
    pub(super) fn ended(&self) -> Vec<Step> {
        let now = self.since.map(|since| since.elapsed()).unwrap_or_default();
        let mut all = self.all.clone();
        for step in &mut all {
            let wall = now.saturating_sub(step.begun);
            step.over.get_or_insert(StepEnd::killed(wall));
        }
        all
    }
}

impl Supervisor {
    /// Hears that a step has begun, or ended.
    pub(super) fn hear_step(&mut self, mut step: Step) {
        let Steps { all, since } = &mut self.steps;
        let number = step.number;
        let known = all.iter_mut().find(|known| known.number == number);
        if let Some(known) = known {
            step.begun = known.begun;
            known.clone_from(&step);
        } else if all.len() < MOST {
            step.begun = since.map(|since| since.elapsed()).unwrap_or_default();
            all.push(step.clone());
        } else {
            return;
        }
        self.clients.tell_all(&Tell::Step(step));
    }

    /// Tells one who comes later.
    pub(super) fn tell_steps(&mut self, client: u64) {
        for step in self.steps.all.clone() {
            self.clients.tell(client, &Tell::Step(step));
        }
    }

    /// Says to a script where its launchers say what they start.
    pub(super) fn steps_variable(&self) -> Option<String> {
        let sandbox = self.sandbox.as_ref()?;
        let socket = sandbox.shim_folder().join("ranks");
        Some(format!("{WHERE}={}", socket.display()))
    }
}
