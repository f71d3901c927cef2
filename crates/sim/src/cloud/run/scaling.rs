use serde::{Deserialize, Serialize};

use super::super::clock::Moment;
use super::super::events::{Event, To};
use super::super::result::Scaled;
use super::super::scenario::Scaling;
use super::World;

/// How a broker scales.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Scaler {
    how: Scaling,
    /// VMs that it does not have, the first last.
    spare: Vec<u32>,
    /// The VM that it asks for, and how many datacenters it has asked.
    asking: Option<(u32, usize)>,
    /// Until when it changes nothing.
    until: f64,
    /// VMs that have come, in order.
    came: Vec<u32>,
}

impl Scaler {
    pub(super) const fn new(how: Scaling, spare: Vec<u32>) -> Self {
        Self {
            how,
            spare,
            asking: None,
            until: 0.0,
            came: Vec::new(),
        }
    }
}

/// What happens where brokers fit the number of their VMs to what these have to do.
impl World {
    /// Lets a broker that scales look, as long as it has VMs.
    pub(super) fn begin_to_scale(&mut self, broker: u32) {
        let made = &self.brokers[broker as usize].made;
        if let Some(its) = self.scaling.get(&broker)
            && !made.is_empty()
        {
            let then = Moment(self.events.now().0 + its.how.every_s);
            let event = Event::Scale { broker };
            self.events.post(then, To::Broker(broker), event);
        }
    }

    pub(super) fn scale(&mut self, broker: u32) {
        self.begin_to_scale(broker);
        let now = self.events.now().0;
        let utilization = self.utilization(broker);
        let Some(its) = self.scaling.get_mut(&broker) else {
            return;
        };
        if its.asking.is_some() || now < its.until {
            return;
        }
        if utilization > its.how.above {
            if let Some(vm) = its.spare.pop() {
                self.ask_for_more(broker, vm, 0);
            }
        } else if utilization < its.how.below {
            let idle = |vm: &u32| self.vms[*vm as usize].out == 0;
            if let Some(place) = its.came.iter().rposition(idle) {
                let vm = its.came.remove(place);
                its.spare.push(vm);
                self.give_one_up(broker, vm);
            }
        }
    }

    /// The share of the MIPS of its VMs that is in use, or asked for in dynamic datacenters.
    fn utilization(&self, broker: u32) -> f64 {
        let (mut used, mut all) = (0.0, 0.0);
        for number in &self.brokers[broker as usize].made {
            let vm = &self.vms[*number as usize];
            if let Some(stay) = &vm.stay {
                let like = vm.like(&self.scenario);
                let most = like.mips * f64::from(like.cores);
                let dynamic = &self.datacenters[stay.datacenter as usize].dynamic;
                used += match dynamic {
                    Some(its) => its.asks(*number).min(most),
                    None => stay.used(),
                };
                all += most;
            }
        }
        if all > 0.0 { used / all } else { 0.0 }
    }

    fn ask_for_more(&mut self, broker: u32, vm: u32, asked: usize) {
        let next = self.open.get(asked).copied();
        let Some(its) = self.scaling.get_mut(&broker) else {
            return;
        };
        match next {
            Some(datacenter) => {
                its.asking = Some((vm, asked + 1));
                self.send(broker, datacenter, Event::Ask { datacenter, vm });
            }
            None => {
                its.asking = None;
                its.spare.push(vm);
            }
        }
    }

    /// Takes the answer for a VM that a broker has asked for to have more. Gives whether it
    /// is one.
    pub(super) fn answer_scaling(&mut self, broker: u32, vm: u32, made: bool) -> bool {
        let asking = self.scaling.get(&broker).and_then(|its| its.asking);
        let Some((_, asked)) = asking.filter(|(wanted, _)| *wanted == vm) else {
            return false;
        };
        if !made {
            self.ask_for_more(broker, vm, asked);
            return true;
        }
        if let Some(its) = self.scaling.get_mut(&broker) {
            its.asking = None;
            its.came.push(vm);
        }
        let made = &mut self.brokers[broker as usize].made;
        if made.is_empty() {
            // All is done meanwhile.
            self.give_one_up(broker, vm);
        } else {
            made.push(vm);
            self.note_scaled(broker);
        }
        true
    }

    fn give_one_up(&mut self, broker: u32, vm: u32) {
        self.brokers[broker as usize].without(vm);
        if let Some(stay) = &self.vms[vm as usize].stay {
            let datacenter = stay.datacenter;
            self.send(broker, datacenter, Event::Destroy { datacenter, vm });
        }
        self.note_scaled(broker);
    }

    fn note_scaled(&mut self, broker: u32) {
        let time = self.events.now().0;
        let vms = self.brokers[broker as usize].made.len() as u32;
        self.summary.scaled.push(Scaled { broker, time, vms });
        if let Some(its) = self.scaling.get_mut(&broker) {
            its.until = time + its.how.cool_down_s;
        }
    }
}
