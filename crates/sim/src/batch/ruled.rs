use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hyperion_lifecycle::{Change, Ledger, Record, Submitted};
use hyperion_sched::{
    Cluster, JobNumber, Memory, Plan, Policy, Queue, Queued, Running, Start, Time, plan_on,
};

use super::run::Asked;

/// The rules of a site while jobs run: who is charged for what, and for whom nodes are kept
/// when. A ledger that has seen no job says what they mean.
#[derive(Debug)]
pub(super) struct Ruled {
    ledger: Ledger,
    /// It counts who has used what.
    charges: bool,
    memory: Memory,
    /// What is said of nodes that are kept, by when; nothing when that begins.
    bookings: VecDeque<(Time, Option<Change>)>,
    /// Of which jobs that is asked when they join the queue, by their numbers.
    asked: BTreeMap<u64, Arc<Submitted>>,
}

impl Ruled {
    pub(super) fn new(
        ledger: Ledger,
        bookings: impl IntoIterator<Item = (Time, Change)>,
        asked: BTreeMap<u64, Arc<Submitted>>,
    ) -> Self {
        let mut moments = Vec::new();
        for (at, change) in bookings {
            if let Change::Booked { booking, .. } = &change {
                moments.push((booking.from, None));
            }
            moments.push((at, Some(change)));
        }
        // What ends makes room for what begins, also where both have the same name.
        let begins = |change: &Option<Change>| matches!(change, Some(Change::Booked { .. }));
        moments.sort_by_key(|(at, change)| (*at, begins(change)));
        Self {
            charges: ledger.due(Time(0)).is_some(),
            ledger,
            memory: Memory::default(),
            bookings: moments.into(),
            asked,
        }
    }

    /// Tells when something is said next, or begins.
    pub(super) fn next(&self) -> Option<Time> {
        self.bookings.front().map(|(at, _)| *at)
    }

    /// Lets all be said that is said by now.
    pub(super) fn happen(&mut self, now: Time, cluster: &mut Cluster, queue: &mut Queue) {
        let (mut is_said, mut is_freed) = (false, false);
        while let Some((at, change)) = self.bookings.pop_front_if(|(at, _)| *at <= now) {
            let Some(change) = change else { continue };
            if let Change::Booked { name, .. } | Change::Unbooked { name } = &change {
                let mut kept = self.ledger.bookings();
                is_freed |= kept.any(|(its, booking)| its == name && booking.until > now);
            }
            self.ledger.apply(&Record { at, change });
            is_said = true;
        }
        if !is_said {
            return;
        }
        let concerned = |queued: &&Queued| self.asked.contains_key(&queued.job.0);
        let waiting: Vec<Queued> = queue.iter().filter(concerned).cloned().collect();
        for mut queued in waiting {
            let asked = &self.asked[&queued.job.0];
            let right = self.ledger.standing(asked).right;
            let before = std::mem::replace(&mut queued.standing.right, right);
            is_freed |= before.is_some() && right.is_none();
            queue.insert(queued);
        }
        cluster.keep_as(self.ledger.cluster(), is_freed);
    }

    /// Gives a job that joins the queue the right that it has now, and where who has used what
    /// counts the share of its user, who may be one of whom nobody has heard before.
    pub(super) fn stand(&mut self, number: u64, mut asked: Asked) -> Asked {
        if let (Some(its), Some(standing)) = (self.asked.get(&number), &mut asked.standing) {
            let (now, standing) = (self.ledger.standing(its), Arc::make_mut(standing));
            standing.right = now.right;
            if self.charges {
                standing.share = now.share;
            }
        }
        asked
    }

    /// Says what starts, as a server does that keeps in mind what it planned before.
    pub(super) fn plan(
        &mut self,
        policy: Policy,
        cluster: &Cluster,
        queue: &mut Queue,
        now: Time,
    ) -> Plan {
        if let Some(due) = self.ledger.due(now) {
            queue.set_due(due);
        }
        plan_on(policy, cluster, queue, now, &mut self.memory, u64::MAX)
    }

    /// Lets a job run that was planned.
    pub(super) fn start(
        &mut self,
        start: Start,
        queue: &mut Queue,
        cluster: &mut Cluster,
        now: Time,
    ) {
        let standing = queue.remove(start.job).map(|its| its.standing);
        let running = Running {
            allocation: start.allocation,
            since: now,
            until: start.until,
            standing: standing.unwrap_or_default(),
            ending: false,
        };
        if self.charges {
            let share = running.standing.share;
            self.ledger.charge(share, &running.allocation, true, now);
        }
        cluster.start_as(start.job, running);
    }

    /// Hears of a job that ends.
    pub(super) fn ends(&mut self, job: JobNumber, cluster: &Cluster, now: Time) {
        if let Some(its) = cluster.running().get(&job).filter(|_| self.charges) {
            let share = its.standing.share;
            self.ledger.charge(share, &its.allocation, false, now);
        }
    }
}
