use std::collections::BTreeMap;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::cluster::Cluster;
use crate::nodeset::NodeSet;
use crate::queue::Queued;
use crate::request::SetNumber;
use crate::time::Time;

/// The nodes that each member of a job may have.
pub(crate) type Among = SmallVec<[Rc<NodeSet>; 1]>;

/// Says who may have which nodes when; each answer is made once.
pub(crate) struct Masks<'a> {
    cluster: &'a Cluster,
    made: BTreeMap<SetNumber, Rc<NodeSet>>,
}

impl<'a> Masks<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            made: BTreeMap::new(),
        }
    }

    /// Gives what a job may have that starts at a moment.
    pub(crate) fn of(&mut self, queued: &Queued, _from: Time) -> Among {
        let members = queued.request.members();
        members.map(|member| self.member(member.among)).collect()
    }

    fn member(&mut self, set: SetNumber) -> Rc<NodeSet> {
        let cluster = self.cluster;
        let make = || {
            let mut nodes = cluster.nodes_of(set).clone();
            nodes.leave(cluster.closed());
            Rc::new(nodes)
        };
        Rc::clone(self.made.entry(set).or_insert_with(make))
    }
}
