//! How processors lie on nodes.

use hyperion_model::Class;
use hyperion_sim::batch::Machine;

use crate::errors::advised;

// The words for that.
#[derive(Debug, clap::Args)]
pub(super) struct Nodes {
    /// Lay each job on nodes, processor by processor: so many nodes, with as many processors
    /// each. Else all processors are one pool
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    nodes: u32,
}

/// Tells on how many nodes something is, where it is not one pool.
pub(super) fn on_nodes(nodes: u32) -> String {
    match nodes {
        1 => String::new(),
        nodes => format!(" on {nodes} nodes"),
    }
}

impl Nodes {
    /// Tells how many there are, where it is not one pool.
    pub(super) fn told(&self) -> String {
        on_nodes(self.nodes)
    }

    /// Makes a machine of them.
    ///
    /// # Errors
    /// Processors that are no multiple of the nodes.
    pub(super) fn machine(&self, processors: u64) -> anyhow::Result<Machine> {
        let nodes = u64::from(self.nodes);
        if processors.is_multiple_of(nodes) && processors > 0 {
            return Ok(Machine {
                nodes: self.nodes,
                processors: processors / nodes,
            });
        }
        let less = processors / nodes * nodes;
        let near = match less {
            0 => nodes.to_string(),
            less => format!("{less} or {}", less.saturating_add(nodes)),
        };
        Err(advised(
            Class::User,
            format!("{processors} processors do not lie on {nodes} nodes, as many on each"),
            format!("--processors {near} would, or another number of --nodes"),
        ))
    }
}
