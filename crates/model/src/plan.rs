//! All that one node must do for one job.

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::job::JobSpec;
use crate::nodes::node_names;
use crate::sandbox::SandboxSpec;

/// The plan of one node: the sandbox and the job whose ranks join it.
///
/// `engine` makes it, `node` carries it out; neither knows more of the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The job.
    pub id: JobId,
    /// What was asked, settled: nothing in it is left to be decided but the
    /// MPI family where it says so.
    pub job: JobSpec,
    /// The fence.
    pub sandbox: SandboxSpec,
    /// The digest of the image, where there is one.
    pub image_digest: Option<String>,
    /// The image's environment, `NAME=value`, below the job's own.
    pub image_env: Vec<String>,
}

impl NodePlan {
    /// Gives the host name inside: what was asked for, or the job's id.
    pub fn hostname(&self) -> String {
        let given = self.job.container.hostname.clone();
        given.unwrap_or_else(|| self.id.to_string())
    }

    /// Gives the host names of the job's nodes on this host; none where there is one.
    pub fn node_names(&self) -> Vec<String> {
        node_names(&self.hostname(), self.job.members.len() as u32)
    }
}
