use crate::nodeset::NodeSet;
use crate::time::Time;

/// The number of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowNumber(pub u32);

/// A time for which nodes are kept: for those who have a right to them, or for nobody
/// while they are being maintained.
///
/// Nobody else is started who would still run when it begins. Who has a right to it
/// runs on its nodes alone, and from its begin to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The nodes.
    pub nodes: NodeSet,
    /// When it begins.
    pub from: Time,
    /// When it ends.
    pub until: Time,
}
