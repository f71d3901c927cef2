//! What all that runs of another user may use together.
//!
//! Each task is held to its own by its supervisor, which is its user's: a user may lift that.
//! What the server holds is the sum of what the user's tasks have, which root keeps.

use std::collections::BTreeSet;

use hyperion_lifecycle::{Change, Record, TaskId};
use hyperion_model::job::Level;
use hyperion_model::{Bytes, Cores};
use hyperion_sched::{CORES, MEMORY};

use crate::turn::Server;

const MIB: u64 = 1 << 20;
/// What an agent needs beside the tasks, and each task for what looks after it.
const AGENT: (u64, u64) = (250, 64 * MIB);
const SUPERVISOR: u64 = 8 * MIB;
/// What QEMU needs beside the memory of its guest: a part of that, and what it has translated.
const QEMU: (u64, u64) = (16, 1536 * MIB);

/// To what a user is held: processors, and memory.
pub(crate) type Held = (Option<Cores>, Option<Bytes>);

impl Server {
    /// Holds those users to what they have now of whom records tell.
    pub(crate) fn hold_users(&mut self, records: &[Record]) {
        let tasks = records.iter().filter_map(|record| match &record.change {
            Change::Started { task, .. }
            | Change::Suspended { task, .. }
            | Change::Resumed { task, .. }
            | Change::Ended { task, .. } => Some(self.user_of(task.job)),
            _ => None,
        });
        let users: BTreeSet<u32> = tasks.filter(|user| *user != self.own).collect();
        users.into_iter().for_each(|user| self.hold(user));
    }

    /// Holds a user to what the user's tasks have.
    pub(crate) fn hold(&mut self, user: u32) {
        let sum = self.sum_of(user);
        if self.held.insert(user, sum) != Some(sum) {
            (self.settings.hold)(user, sum.0, sum.1);
        }
    }

    /// Gives what the tasks of a user have together. As long as one of them may have as much
    /// memory as there is, all may.
    fn sum_of(&self, user: u32) -> Held {
        let (mut cores, mut memory) = (AGENT.0, Some(AGENT.1));
        for (number, its) in self.ledger.cluster().running() {
            let job = TaskId::of(*number).job;
            let Some(job) = self.ledger.jobs().get(&job) else {
                continue;
            };
            if job.asked.user != user {
                continue;
            }
            let of = |amount| its.allocation.iter().map(move |part| part.taken.of(amount));
            cores = of(CORES).fold(cores, u64::saturating_add);
            let chunks = &job.asked.request.chunks;
            let asked = chunks.iter().any(|chunk| chunk.each.of(MEMORY) > 0);
            let its = of(MEMORY).fold(SUPERVISOR, u64::saturating_add);
            let its = match job.asked.submission.fence.level {
                Level::Vm => its.saturating_add(its / QEMU.0).saturating_add(QEMU.1),
                Level::Process | Level::Container => its,
            };
            memory = memory.filter(|_| asked).map(|sum| sum.saturating_add(its));
        }
        (Some(Cores(cores)), memory.map(Bytes))
    }
}
