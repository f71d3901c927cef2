//! Which cores and devices are whose, and what becomes of them when a task stands still.

use std::sync::Arc;

use hyperion_sched::{Allocation, JobNumber, NodeNumber, Pins, Queued, Running, Standing, Time};

use crate::ledger::Ledger;
use crate::state::{State, TaskId};

impl Ledger {
    /// Gives which cores and devices a task has on a node; `None` where none are its own.
    pub fn pins(&self, task: TaskId, node: NodeNumber) -> Option<&Pins> {
        self.slots.get(node.0 as usize)?.held(task.number())
    }

    /// Gives a task the cores and devices that were chosen for it.
    pub(crate) fn pin(&mut self, task: TaskId, pins: &[Pins]) {
        let number = task.number();
        let parts = self.cluster.running().get(&number);
        let parts = parts.into_iter().flat_map(|its| its.allocation.iter());
        for (part, pins) in parts.zip(pins) {
            if let Some(slots) = self.slots.get_mut(part.node.0 as usize) {
                slots.hold(number, pins);
            }
        }
    }

    /// Chooses cores and devices for each part of an allocation; `None` where there are
    /// too few. Nothing where there are none to choose from.
    pub(crate) fn choose(&self, allocation: &Allocation) -> Option<Vec<Pins>> {
        let mut slots = self.slots.clone();
        let mut chosen = Vec::new();
        for part in allocation.iter() {
            let pins = match slots.get_mut(part.node.0 as usize) {
                Some(slots) => {
                    let pins = slots.choose(&part.taken)?;
                    // Two parts on one node have nothing in common.
                    slots.hold(JobNumber(u64::MAX), &pins);
                    pins
                }
                None => Pins::default(),
            };
            chosen.push(pins);
        }
        match chosen.iter().all(|pins| *pins == Pins::default()) {
            true => Some(Vec::new()),
            false => Some(chosen),
        }
    }

    pub(crate) fn suspended(&mut self, task: TaskId, by: Option<u64>, at: Time) {
        self.forget_alarms(task);
        self.charge_task(task, false, at);
        if let Some(its) = self.task_mut(task) {
            its.state = State::Suspended;
            its.suspended = Some(at);
            its.room_for = by;
        }
        let wants = self.cluster.rest(task.number());
        self.slots
            .iter_mut()
            .for_each(|slots| slots.rest(task.number()));
        if let Some(its) = self.task_mut(task) {
            its.wants = wants.map(Arc::new);
        }
        if by.is_some() {
            self.offer_to_go_on(task, at);
        }
    }

    /// Lets the scheduler see a task that stands still: what it starts of it goes on.
    pub(crate) fn offer_to_go_on(&mut self, task: TaskId, at: Time) {
        let Some(job) = self.jobs.get(&task.job) else {
            return;
        };
        let its = job.tasks.get(&task.index);
        let Some((its, request)) = its.and_then(|its| Some((its, its.wants.clone()?))) else {
            return;
        };
        let standing = self.cluster.running().get(&task.number());
        let standing = standing.map(|its| its.standing.clone());
        self.queue.insert(Queued {
            job: task.number(),
            submitted: job.submitted,
            limit: its.until.since(its.suspended.unwrap_or(at)),
            least: None,
            request,
            standing: standing.unwrap_or_default(),
        });
    }

    pub(crate) fn resumed(&mut self, task: TaskId, at: Time) {
        let number = task.number();
        self.queue.remove(number);
        let Some(its) = self.task_mut(task) else {
            return;
        };
        its.state = State::Running;
        // The time for which it stood still does not count.
        let still = its
            .suspended
            .take()
            .map_or(Default::default(), |since| at.since(since));
        its.rested(still);
        its.room_for = None;
        its.wants = None;
        let until = its.until;
        let running = Running {
            allocation: Allocation::new(),
            since: at,
            until,
            standing: Standing::default(),
            ending: false,
        };
        self.cluster.start_as(number, running);
        self.charge_task(task, true, at);
        self.set_alarms(task, until, at);
    }
}
