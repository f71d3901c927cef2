use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::clock::Moment;

/// Which of the VMs of a datacenter has something that is over, and when the first is
/// expected to: without asking each of them.
///
/// When something is expected to end depends on when one looks, for what is left counts
/// in whole millions. It is never before the moment from which on it counts as over, and
/// that stays. So VMs are asked in the order of those moments, until the next is later
/// than what was found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Forecast {
    /// VMs by the moment from which on something of them is over.
    ripe: BTreeSet<(Moment, u32)>,
    /// When VMs were asked; all are that are ripe before `until`.
    asked: Moment,
    until: (Moment, u32),
    /// What they said.
    expected: BTreeSet<(Moment, u32)>,
    told: BTreeMap<u32, Moment>,
    /// Those that are to be asked once more.
    again: Vec<u32>,
}

impl Forecast {
    pub(super) const fn new() -> Self {
        Self {
            ripe: BTreeSet::new(),
            asked: Moment(0.0),
            until: (Moment(0.0), 0),
            expected: BTreeSet::new(),
            told: BTreeMap::new(),
            again: Vec::new(),
        }
    }

    /// Gives the VMs of which something is over.
    pub(super) fn ripe(&self, now: Moment) -> impl Iterator<Item = u32> {
        let ripe = self.ripe.iter().take_while(move |(time, _)| *time <= now);
        ripe.map(|(_, vm)| *vm)
    }

    /// Notes from when on something of a VM is over, in place of what was noted.
    pub(super) fn note(&mut self, vm: u32, noted: &mut Moment, new: Moment) {
        if *noted != new {
            self.ripe.remove(&(*noted, vm));
            if new != Moment::NEVER {
                self.ripe.insert((new, vm));
            }
            *noted = new;
        }
        if let Some(told) = self.told.remove(&vm) {
            self.expected.remove(&(told, vm));
        }
        if new != Moment::NEVER && (new, vm) < self.until {
            self.again.push(vm);
        }
    }

    /// Gives from when on something of one of them is over.
    pub(super) fn first_ripe(&self) -> Moment {
        self.ripe.first().map_or(Moment::NEVER, |(time, _)| *time)
    }

    /// Gives when the first is expected to end, as it looks now.
    pub(super) fn first(&mut self, now: Moment, ask: impl Fn(u32) -> Moment) -> Moment {
        if self.asked != now {
            self.asked = now;
            self.until = (Moment(0.0), 0);
            self.expected.clear();
            self.told.clear();
            self.again.clear();
        }
        for vm in std::mem::take(&mut self.again) {
            self.tell(vm, ask(vm));
        }
        loop {
            let first = self
                .expected
                .first()
                .map_or(Moment::NEVER, |(time, _)| *time);
            match self.ripe.range(self.until..).next() {
                Some((ripe, vm)) if *ripe < first => {
                    let vm = *vm;
                    self.until = (*ripe, vm + 1);
                    self.tell(vm, ask(vm));
                }
                _ => return first,
            }
        }
    }

    fn tell(&mut self, vm: u32, time: Moment) {
        if let Some(before) = self.told.insert(vm, time) {
            self.expected.remove(&(before, vm));
        }
        self.expected.insert((time, vm));
    }
}
