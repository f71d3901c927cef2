use super::super::clock::Moment;
use super::super::events::Events;
use super::super::scenario::{Fate, Progress};
use super::Dynamic;

/// Hosts that fail, with the VMs that are on them.
impl Dynamic {
    /// Lets a host fail: who is on the way to it or from it stays where it was.
    pub(in super::super) fn fail(
        &mut self,
        host: usize,
        events: &mut Events,
        ended: &mut Vec<u32>,
    ) {
        let now = events.now().0;
        if now > self.looked {
            self.force(now, ended);
        }
        let leave = self.hosts[host].placed.iter().map(|its| its.guest);
        for guest in leave
            .filter(|guest| self.guests[*guest].moving)
            .collect::<Vec<_>>()
        {
            for other in &mut self.hosts {
                if let Some(place) = other.coming.iter().position(|its| *its == guest) {
                    other.coming.remove(place);
                    other.leave(guest);
                }
            }
            self.turn_back(guest);
            self.guests[guest].moving = false;
        }
        self.hosts[host].go_down(now);
        for its in &self.hosts[host].placed {
            self.guests[its.guest].go_down(now);
        }
        self.place_anew(now);
        self.give_again(events);
    }

    /// Lets a host work again.
    pub(in super::super) fn repair(
        &mut self,
        host: usize,
        events: &mut Events,
        ended: &mut Vec<u32>,
    ) {
        let now = events.now().0;
        if now > self.looked {
            self.force(now, ended);
        }
        self.hosts[host].down = false;
        let progress = self.progress(host);
        for its in &self.hosts[host].placed {
            self.guests[its.guest].go_on(now, progress, &mut self.restarted);
        }
        self.place_anew(now);
        self.give_again(events);
    }

    /// Places VMs anew that are on hosts that are down, if they are not to wait there, where
    /// others have room. Gives whether there was some.
    pub(super) fn place_anew(&mut self, now: f64) -> bool {
        let before = self.replaced.len();
        for from in 0..self.hosts.len() {
            let how = self.hosts[from].like.failure;
            if !self.hosts[from].down || how.is_none_or(|how| how.vms == Fate::Wait) {
                continue;
            }
            let on = self.hosts[from].placed.iter().map(|its| its.guest);
            for guest in on.collect::<Vec<_>>() {
                let to = self.place(guest);
                let Some(to) = to.filter(|to| self.hosts[*to].can_take(&self.guests[guest])) else {
                    continue;
                };
                self.hosts[from].leave(guest);
                self.hosts[to].put(guest, &self.guests[guest], false);
                self.turn = to + 1;
                let progress = self.progress(from);
                let its = &mut self.guests[guest];
                its.host = Some(to);
                its.go_on(now, progress, &mut self.restarted);
                self.replaced.push((its.vm, from as u32, to as u32));
            }
        }
        self.replaced.len() > before
    }

    /// Lets VMs that wait have the room that another has left.
    pub(in super::super) fn make_room(&mut self, events: &mut Events) {
        if self.hosts.iter().any(|host| host.down) && self.place_anew(events.now().0) {
            self.give_again(events);
        }
    }

    fn progress(&self, host: usize) -> Progress {
        let how = self.hosts[host].like.failure;
        how.map_or(Progress::Lose, |how| how.progress)
    }

    /// Lets hosts give their VMs what these ask for now, and looks again after an interval.
    fn give_again(&mut self, events: &mut Events) {
        let Moment(now) = events.now();
        for host in &mut self.hosts {
            host.update(&mut self.guests, now, self.interval, &mut Vec::new());
        }
        if self.submitted.is_some() {
            self.plan_next(events);
        }
    }
}
