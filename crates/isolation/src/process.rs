//! The level `process`: limits, binding and environment, and nothing more.
//! Programs see the host as it is.

use std::os::fd::AsFd;
use std::path::Path;

use hyperion_model::{JobId, SandboxSpec};
use hyperion_sys::cgroup::{Cgroup, Layout};
use hyperion_sys::failpoint;
use hyperion_sys::process::{self, Fork};

use crate::guest::Guest;
use crate::init;
use crate::protocol::Config;
use crate::wire::Wire;
use crate::{Isolation, Sandbox, SandboxError, Stage};

/// Fences programs by limits only.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessIsolation;

impl Isolation for ProcessIsolation {
    fn create(&self, spec: &SandboxSpec, stage: &Stage) -> Result<Box<dyn Sandbox>, SandboxError> {
        let cgroup = make_cgroup(spec)?;
        let entrance = cgroup.entrance().inspect_err(|_| drop(cgroup.remove()))?;
        let (ours, theirs) = Wire::pair().map_err(SandboxError::Init)?;
        // The init is a copy of this process: there is no fence for it to be on the other side of.
        let copied = match cgroup.v2_fd() {
            Some(group) => process::clone_into(0, Some(group.as_fd())),
            None => process::fork(),
        };
        let init = match copied {
            Ok(Fork::Child) => init::run_forked(theirs, &entrance),
            Ok(Fork::Parent(pid)) => pid,
            Err(e) => {
                cgroup.remove();
                return Err(SandboxError::Init(e));
            }
        };
        drop(theirs);
        let config = Config {
            set_groups: true,
            rank_socket: rank_socket(&stage.folder),
            ..Config::default()
        };
        Ok(Box::new(Guest::greet(
            ours,
            init,
            cgroup,
            stage.folder.clone(),
            config,
        )?))
    }
}

/// Makes the groups of a sandbox.
pub(crate) fn make_cgroup(spec: &SandboxSpec) -> Result<Cgroup, SandboxError> {
    let cgroup = Cgroup::create(&Layout::detect(), &cgroup_name(&spec.id), &spec.resources)?;
    failpoint!("cgroup-made");
    Ok(cgroup)
}

/// Gives the name of a sandbox's groups.
fn cgroup_name(id: &JobId) -> String {
    format!("hyperion-{id}")
}

/// Kills and removes the groups of a sandbox of which nothing but its id is known.
pub fn clean_up_cgroup(id: &JobId) {
    let cgroup = Cgroup::find(&Layout::detect(), &cgroup_name(id));
    cgroup.kill();
    cgroup.remove();
}

/// Gives the path of the socket on which ranks report that a program inside has started.
pub(crate) fn rank_socket(folder: &Path) -> std::path::PathBuf {
    folder.join("ranks")
}
