use super::super::allocator::Allocator;
use super::super::events::Event;
use super::super::host::{Host, Lies};
use super::World;

/// What happens where cloudlets run in containers on VMs: ContainerCloudSim's
/// `ContainerDatacenterBroker`, which asks for containers once it has its VMs.
impl World {
    /// Lets a broker that has its VMs ask for its containers. Gives whether it has some.
    ///
    /// A VM is a host to its containers. All of them are the broker's, and they come and go
    /// together, so what is free of a VM needs to be known only now.
    pub(super) fn nest(&mut self, broker: u32) -> bool {
        let its = &mut self.brokers[broker as usize];
        if its.containers.is_empty() {
            return false;
        }
        let vms = its.begin_to_nest();
        let now = self.events.now();
        let like = &self.scenario.broker[broker as usize];
        let room =
            |vm: &u32| Host::new(&self.vms[*vm as usize].like(&self.scenario).as_host(), now);
        let mut rooms: Vec<Host> = vms.iter().map(room).collect();
        let mut allocator = Allocator::new(like.container_allocation, 0..rooms.len() as u32);
        allocator.open(&rooms);
        let mut asks = Vec::new();
        for container in its.containers.clone() {
            let place = allocator.place(
                &mut rooms,
                self.vms[container as usize].like(&self.scenario),
            );
            let Some(on) = place.map(|(place, _)| vms[place as usize]) else {
                continue;
            };
            if let Some(stay) = &self.vms[on as usize].stay {
                asks.push((stay.datacenter, container));
                self.vms[container as usize].on = on;
            }
        }
        its.wait_for(asks.len() as u32);
        for (datacenter, vm) in asks {
            self.send(broker, datacenter, Event::Ask { datacenter, vm });
        }
        true
    }

    /// Makes a container on its VM, where that still is. Gives the host, and where it lies.
    pub(super) fn make_container(&mut self, container: u32) -> Option<(u32, Lies)> {
        let on = self.vms[container as usize].on;
        let stay = self.vms[on as usize].stay.as_ref()?;
        self.hosts[stay.host as usize].vms.push(container);
        Some((stay.host, stay.lies))
    }

    /// Gives all VMs of a broker up that it has, and before them its containers.
    pub(super) fn give_all_up(&mut self, broker: u32) {
        let mut all = std::mem::take(&mut self.brokers[broker as usize].made);
        all.append(&mut self.brokers[broker as usize].hosts);
        for vm in all {
            if let Some(stay) = &self.vms[vm as usize].stay {
                let datacenter = stay.datacenter;
                self.send(broker, datacenter, Event::Destroy { datacenter, vm });
            }
        }
    }
}
