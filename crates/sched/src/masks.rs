use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::cluster::Cluster;
use crate::nodeset::NodeSet;
use crate::queue::Queued;
use crate::request::{Request, SetNumber};
use crate::time::Time;
use crate::window::WindowNumber;

/// The nodes that each member of a job may have.
pub(crate) type Among = SmallVec<[Arc<NodeSet>; 1]>;

/// Says who may have which nodes when; each answer is made once.
pub(crate) struct Masks<'a> {
    cluster: &'a Cluster,
    made: BTreeMap<Asked, Arc<NodeSet>>,
}

/// What the answer depends on.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    set: SetNumber,
    /// The window to which there is a right.
    inside: Option<WindowNumber>,
    /// Those that are to be kept out of.
    outside: SmallVec<[WindowNumber; 2]>,
}

impl<'a> Masks<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            made: BTreeMap::new(),
        }
    }

    /// Gives what a job may have that starts at a moment.
    pub(crate) fn of(&mut self, queued: &Queued, from: Time) -> Among {
        let until = from + queued.limit;
        let inside = queued.standing.right;
        let members = queued.request.members();
        let mut outside = SmallVec::new();
        for (number, window) in self.cluster.windows() {
            match inside == Some(*number) {
                // A right to a time is none to another.
                true if from < window.from || window.until < until => {
                    return members.map(|_| Arc::default()).collect();
                }
                false if window.from < until && from < window.until => outside.push(*number),
                _ => {}
            }
        }
        if inside.is_none() && outside.is_empty() && self.cluster.closed().is_empty() {
            let mut among = Among::new();
            members.for_each(|member| among.push(self.cluster.shared_set(member.among).clone()));
            return among;
        }
        let asked = |member: &Request| Asked {
            set: member.among,
            inside,
            outside: outside.clone(),
        };
        members.map(|member| self.part(asked(member))).collect()
    }

    fn part(&mut self, asked: Asked) -> Arc<NodeSet> {
        if let Some(made) = self.made.get(&asked) {
            return Arc::clone(made);
        }
        let mut nodes = self.cluster.nodes_of(asked.set).clone();
        nodes.leave(self.cluster.closed());
        for number in &asked.outside {
            nodes.leave(&self.cluster.windows()[number].nodes);
        }
        if let Some(inside) = asked.inside {
            match self.cluster.windows().get(&inside) {
                Some(window) => nodes.keep(&window.nodes),
                None => nodes = NodeSet::default(),
            }
        }
        let nodes = Arc::new(nodes);
        self.made.insert(asked, Arc::clone(&nodes));
        nodes
    }
}
