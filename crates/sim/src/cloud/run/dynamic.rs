use std::mem::take;

use super::super::dynamic::{Dynamic, Task};
use super::super::events::Events;
use super::super::utilization::Model;
use super::World;
use crate::chance::Seed;

/// Those for the utilizations of cloudlets, of which each has three.
const UTILIZATIONS: u64 = 1 << 41;

/// What happens in dynamic datacenters.
impl World {
    pub(super) fn submit_dynamic(&mut self, datacenter: u32, cloudlet: u32) {
        self.cloudlets[cloudlet as usize].start = self.events.now().0;
        if self.begin_stages(datacenter, cloudlet) {
            // Data may be there.
            self.ask_dynamic(datacenter, |its, events, ended| its.look(events, ended));
        } else if !self.give_task(datacenter, cloudlet, 0) {
            self.count_inside(-1);
        }
    }

    /// Gives a cloudlet to its VM, to be done with what it has to do at a stage. Gives whether
    /// the VM is still there.
    pub(super) fn give_task(&mut self, datacenter: u32, cloudlet: u32, stage: usize) -> bool {
        let group = self.group(cloudlet);
        let like = group.like(&self.scenario);
        let seed = Seed(self.scenario.seed);
        let model = |of, nth: u64| {
            let stream = UTILIZATIONS + 3 * u64::from(cloudlet) + nth + ((stage as u64) << 44);
            Model::new(of, (cloudlet - group.begin) as usize, || {
                seed.stream(stream)
            })
        };
        let its = &self.cloudlets[cloudlet as usize];
        let vm = its.vm;
        let task = Task {
            cloudlet,
            cores: its.units,
            length: its.length,
            cpu: model(&like.utilization, 0),
            memory: model(&like.utilization_memory, 1),
            bandwidth: model(&like.utilization_bandwidth, 2),
        };
        let taken = self.ask_dynamic(datacenter, |its, events, ended| {
            its.submit(vm, task, events, ended)
        });
        taken.unwrap_or(false)
    }

    /// Gives the cloudlets in dynamic datacenters what was measured, which a snapshot has
    /// once in its scenario. Gives nothing if one is none of its cloudlets.
    pub(super) fn give_traces(&mut self) -> Option<()> {
        let dynamic = self.datacenters.iter_mut();
        let dynamic = dynamic.filter_map(|its| its.dynamic.as_mut());
        for task in dynamic.flat_map(|its| its.tasks()) {
            let after = self
                .groups
                .partition_point(|its| its.begin <= task.cloudlet);
            let group = self.groups.get(after.checked_sub(1)?)?;
            let broker = self.scenario.broker.get(group.broker as usize)?;
            let like = broker.cloudlet.get(group.nth as usize)?;
            let number = task.cloudlet.checked_sub(group.begin)? as usize;
            task.cpu.again(&like.utilization, number);
            task.memory.again(&like.utilization_memory, number);
            task.bandwidth.again(&like.utilization_bandwidth, number);
        }
        Some(())
    }

    /// Lets a dynamic datacenter do something, and sends back what has ended.
    pub(super) fn ask_dynamic<T>(
        &mut self,
        datacenter: u32,
        what: impl FnOnce(&mut Dynamic, &mut Events, &mut Vec<u32>) -> T,
    ) -> Option<T> {
        let dynamic = self.datacenters[datacenter as usize].dynamic.as_mut()?;
        let mut ended = Vec::new();
        let came = what(dynamic, &mut self.events, &mut ended);
        for (cloudlet, joules) in dynamic.drawn.drain(..) {
            self.cloudlets[cloudlet as usize].joules += joules;
        }
        let (replaced, restarted) = (take(&mut dynamic.replaced), take(&mut dynamic.restarted));
        let first = self.datacenters[datacenter as usize].hosts().start;
        for (vm, from, to) in replaced {
            if let Some(stay) = &mut self.vms[vm as usize].stay {
                stay.host = first + to;
            }
            self.note_moved(datacenter, first + from);
        }
        let now = self.events.now().0;
        for cloudlet in restarted {
            self.cloudlets[cloudlet as usize].start = now;
        }
        if !self.stages.is_empty() {
            self.go_on_at_once(datacenter, &mut ended);
        }
        self.count_inside(-(ended.len() as i64));
        self.give_back(datacenter, ended);
        Some(came)
    }

    pub(super) fn migrate(&mut self, datacenter: u32, vm: u32, host: u32) {
        let came = self.ask_dynamic(datacenter, |its, events, ended| {
            its.arrive(vm, host, events.now(), ended)
        });
        if let (Some(true), Some(stay)) = (came, &mut self.vms[vm as usize].stay) {
            stay.host = self.datacenters[datacenter as usize].hosts().start + host;
        }
    }
}
