use super::super::clock::Moment;
use super::super::result::{Left, Summary, Why};
use super::{Cloudlets, Vm, World};

impl World {
    /// Says what is left, and what all came to; at a moment if something was still to
    /// happen then.
    pub(super) fn end(&mut self, at: Moment) -> Summary {
        let cut = self.events.stop(at);
        let now = self.events.now();
        let mut summary = std::mem::take(&mut self.summary);
        summary.end = now.0;
        summary.events = self.events.taken();
        for vm in &mut self.vms {
            if let Some(stay) = &mut vm.stay
                && self.datacenters[stay.datacenter as usize].dynamic.is_none()
            {
                let host = &mut self.hosts[stay.host as usize];
                for (gpus, pool) in stay.pools() {
                    let Some(meter) = host.meter(gpus) else {
                        continue;
                    };
                    meter.change(&mut pool.share, 0.0, 0, now);
                    for (cloudlet, left) in pool.work.lose(now) {
                        if left.is_some() {
                            self.cloudlets[cloudlet as usize].draw_no_more(&pool.share);
                        }
                    }
                    *vm.joules.get_or_insert(0.0) += pool.share.joules;
                }
            }
        }
        self.leave(cut, &mut summary);
        for (number, its) in (0..).zip(&mut self.datacenters) {
            for (nth, host) in (0..).zip(its.hosts()) {
                if let Some((joules, idle)) = self.hosts[host as usize].drawn(now) {
                    summary.hosts.push((number, nth, joules));
                    summary.idle.push(idle);
                }
            }
            if let Some(dynamic) = &mut its.dynamic {
                for (nth, (joules, idle)) in (0..).zip(dynamic.hosts()) {
                    summary.hosts.push((number, nth, joules));
                    summary.idle.push(idle);
                }
                for (vm, joules) in dynamic.vms() {
                    *self.vms[vm as usize].joules.get_or_insert(0.0) += joules;
                }
                summary.services.push(dynamic.service());
            }
        }
        summary.failures = self.failures();
        let drawn = |vm: &Vm| Some((vm.broker, vm.id, vm.joules?));
        let containers = self.vms.iter().filter(|vm| vm.nested);
        summary.containers = containers.filter_map(drawn).collect();
        // What containers draw is drawn by their VM, which has nothing else in it.
        for number in 0..self.vms.len() {
            let Vm { on, joules, .. } = self.vms[number];
            if let (Some(joules), Some(vm)) = (joules, self.vms.get_mut(on as usize)) {
                *vm.joules.get_or_insert(0.0) += joules;
            }
        }
        let vms = self.vms.iter().filter(|vm| !vm.nested);
        summary.vms = vms.filter_map(drawn).collect();
        summary
    }

    /// Lists the cloudlets that are not done, and why.
    fn leave(&self, cut: bool, summary: &mut Summary) {
        let ends = self.groups.iter().skip(1).map(|next| next.begin);
        let ends = ends.chain([self.cloudlets.len() as u32]);
        for (group, end) in self.groups.iter().zip(ends) {
            for number in group.begin..end {
                let cloudlet = &self.cloudlets[number as usize];
                if !cloudlet.done {
                    summary.left.push(Left {
                        broker: group.broker,
                        cloudlet: cloudlet.id,
                        why: match cut {
                            true => Why::Stopped,
                            false => self.why_not(group, number, cloudlet.vm),
                        },
                        joules: cloudlet.joules,
                    });
                }
            }
        }
    }

    fn why_not(&self, group: &Cloudlets, number: u32, vm: u32) -> Why {
        let broker = &self.brokers[group.broker as usize];
        if !broker.hands_out() {
            return broker.why_not();
        }
        if self.stages.waits(number) {
            return Why::NoData;
        }
        let stay = self.vms.get(vm as usize).and_then(|its| its.stay.as_ref());
        let center = stay.map(|stay| &self.datacenters[stay.datacenter as usize]);
        match center.and_then(|center| center.dynamic.as_ref()) {
            Some(dynamic) if dynamic.has(vm) => Why::Starved,
            Some(_) => Why::VmGivenUp,
            None => Why::TooFewCores,
        }
    }
}
