//! What is closed to jobs: nodes, partitions, and nodes that are kept for a time.

use std::sync::Arc;

use hyperion_sched::{NodeSet, Queued, Time, Window};

use crate::ledger::Ledger;
use crate::record::Submitted;
use crate::rules::{Booked, Booking, Closed, Closure, NodeState, PartitionState, Shut};
use crate::state::TaskId;

/// So many times for which something was closed are kept in mind.
const KEPT: usize = 10_000;

impl Ledger {
    pub(crate) fn set_node(&mut self, name: &str, state: &NodeState, by: Option<u32>, at: Time) {
        let Some(number) = self.site.node(name) else {
            return;
        };
        self.closes(Shut::Node(name.to_owned(), state.clone()), at);
        match state {
            NodeState::Up => {
                self.closed.remove(name);
                self.cluster.open(number);
            }
            state => {
                let closed = Closed {
                    state: state.clone(),
                    by,
                    since: at,
                };
                self.closed.insert(name.to_owned(), closed);
                self.cluster.close(number);
            }
        }
    }

    pub(crate) fn set_partition(&mut self, name: &str, state: PartitionState, at: Time) {
        self.closes(Shut::Partition(name.to_owned(), state), at);
        self.partition_states.insert(name.to_owned(), state);
        self.partition_changed(name, at);
    }

    /// Keeps in mind that something is closed from now on, or is no more.
    fn closes(&mut self, of: Shut, at: Time) {
        let mut before = self.closures.iter_mut().rev();
        let before = before.find(|its| its.until.is_none() && its.of.is_of_what(&of));
        if let Some(before) = before {
            before.until = Some(at);
        }
        if of.is_open() {
            return;
        }
        if self.closures.len() == KEPT {
            self.closures.remove(0);
        }
        let (from, until) = (at, None);
        self.closures.push(Closure { of, from, until });
    }

    pub(crate) fn unbook(&mut self, name: &str, at: Time) {
        if let Some((_, window)) = self.bookings.remove(name) {
            self.cluster.keep_no_more(window);
            let mut booked = self.booked.iter_mut().rev();
            if let Some(last) = booked.find(|its| its.name == name) {
                last.gone = Some(at);
            }
        }
    }

    /// Gives what waits the standing that it has now.
    pub(crate) fn stand_anew(&mut self) {
        let waiting: Vec<Queued> = self.queue.iter().cloned().collect();
        for mut queued in waiting {
            let job = self.jobs.get(&TaskId::of(queued.job).job);
            if let Some(asked) = job.map(|job| Arc::clone(&job.asked)) {
                queued.standing = self.standing(&asked);
                self.queue.insert(queued);
            }
        }
    }

    /// Gives the partition of a job, where none of its jobs start.
    pub(crate) fn shut<'a>(&self, asked: &'a Submitted) -> Option<&'a str> {
        let name = asked.partition.as_deref()?;
        (!self.partition_state(name).starts()).then_some(name)
    }

    fn partition_changed(&mut self, name: &str, at: Time) {
        let its = self
            .jobs
            .iter()
            .filter(|(_, job)| job.asked.partition.as_deref() == Some(name));
        let its: Vec<u64> = its.map(|(number, _)| *number).collect();
        for number in its {
            let Some(job) = self.jobs.get_mut(&number) else {
                continue;
            };
            if !self
                .partition_states
                .get(name)
                .is_some_and(|state| state.starts())
            {
                for index in std::mem::take(&mut job.queued) {
                    job.waiting.insert(index);
                    self.queue.remove(TaskId { job: number, index }.number());
                }
            }
            self.offer(number, at);
        }
    }

    /// Keeps nodes for a time.
    pub(crate) fn book(&mut self, name: &str, booking: &Booking, at: Time) {
        let nodes = match booking.nodes.is_empty() {
            true => NodeSet::first(self.site.nodes.len()),
            false => self.site.set(&booking.nodes),
        };
        let window = self.cluster.keep(Window {
            nodes,
            from: booking.from,
            until: booking.until,
        });
        self.bookings
            .insert(name.to_owned(), (booking.clone(), window));
        self.booked.push(Booked {
            name: name.to_owned(),
            booking: booking.clone(),
            made: at,
            gone: None,
        });
    }
}

impl Shut {
    /// Tells whether jobs start there.
    fn is_open(&self) -> bool {
        match self {
            Self::Node(_, state) => *state == NodeState::Up,
            Self::Partition(_, state) => state.starts(),
        }
    }

    /// Tells whether it is said of the same.
    fn is_of_what(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Node(name, _), Self::Node(its, _)) => name == its,
            (Self::Partition(name, _), Self::Partition(its, _)) => name == its,
            _ => false,
        }
    }
}
