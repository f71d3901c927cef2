use super::super::clock::Moment;
use super::super::events::{Event, To};
use super::super::result::{Left, Why};
use super::World;

/// What happens where cloudlets need files: CloudSim's `predictFileTransferTime`.
impl World {
    /// Lets a cloudlet that has come wait for the files that it needs, one after another.
    /// Gives whether it does, or never has them.
    pub(super) fn load(&mut self, datacenter: u32, cloudlet: u32) -> bool {
        let group = self.group(cloudlet);
        let files = &group.like(&self.scenario).files;
        if files.is_empty() {
            return false;
        }
        let like = &self.scenario.datacenter[datacenter as usize];
        let seconds: Option<f64> = files.iter().map(|file| like.loads(file)).sum();
        let now = self.events.now();
        match seconds {
            Some(seconds) => {
                let event = Event::Loaded {
                    datacenter,
                    cloudlet,
                };
                let then = Moment(now.0 + seconds);
                self.events.post(then, To::Datacenter(datacenter), event);
            }
            None => {
                let its = &mut self.cloudlets[cloudlet as usize];
                its.done = true;
                self.summary.left.push(Left {
                    broker: group.broker,
                    cloudlet: its.id,
                    why: Why::NoFile,
                    joules: 0.0,
                });
                self.count_inside(-1);
                self.return_to(datacenter, cloudlet);
            }
        }
        true
    }
}
