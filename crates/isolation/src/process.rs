//! The level `process`: limits, binding and environment, and nothing more.
//! Programs see the host as it is.

use std::os::fd::AsFd;
use std::path::Path;

use hyperion_model::{JobId, SandboxSpec};
use hyperion_sys::cgroup::{Cgroup, Layout};
use hyperion_sys::failpoint;
use hyperion_sys::process::{self, Fork};

use crate::bare::Bare;
use crate::guest::Guest;
use crate::init::{self, Confinement, Duty};
use crate::wire::Wire;
use crate::{Isolation, Sandbox, SandboxError, Stage};

/// Fences programs by limits only.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessIsolation;

impl Isolation for ProcessIsolation {
    fn create(&self, spec: &SandboxSpec, stage: &Stage) -> Result<Box<dyn Sandbox>, SandboxError> {
        if stage.bare {
            return Ok(Box::new(Bare::new(stage.folder.clone())?));
        }
        let (ours, theirs) = Wire::pair().map_err(SandboxError::Init)?;
        let layout = &stage.groups;
        // On version 2 the init must be born in its group; on version 1 it enters
        // its groups by itself, and comes up while they are made.
        let born_inside = match layout.uses_v2() {
            true => Some(make_cgroup(stage, spec)?),
            false => None,
        };
        // The init is a copy of this process: there is no fence for it to be on the other side of.
        let copied = match born_inside.as_ref().and_then(Cgroup::v2_fd) {
            Some(group) => process::clone_into(0, Some(group.as_fd())),
            None => process::fork(),
        };
        let init = match copied {
            Ok(Fork::Child) => {
                init::settle_in();
                let duty = Duty {
                    confinement: Confinement::none(),
                    rank_socket: rank_socket(&stage.folder),
                    sweeps: spec.sweeps,
                    steps: spec.steps,
                };
                init::run(theirs, duty)
            }
            Ok(Fork::Parent(pid)) => pid,
            Err(e) => {
                born_inside.inspect(|cgroup| drop(cgroup.remove()));
                return Err(SandboxError::Init(e));
            }
        };
        drop(theirs);
        let folder = stage.folder.clone();
        let mut guest = Guest::new(ours, init, born_inside.unwrap_or_default(), folder);
        if !layout.uses_v2() {
            guest.cgroup = make_cgroup(stage, spec)?;
        }
        guest.let_in()?;
        guest.leaves_orphans = true;
        Ok(Box::new(guest))
    }
}

/// Makes the groups of a sandbox.
pub(crate) fn make_cgroup(stage: &Stage, spec: &SandboxSpec) -> Result<Cgroup, SandboxError> {
    let node = spec.node.as_ref().map(|place| place.number);
    let create = match stage.counted {
        true => Cgroup::create,
        false => Cgroup::create_uncounted,
    };
    let cgroup = create(&stage.groups, &cgroup_name(&spec.id, node), &spec.resources)?;
    failpoint!("cgroup-made");
    Ok(cgroup)
}

/// Gives the name of the groups of a sandbox, which may be one of several nodes.
fn cgroup_name(id: &JobId, node: Option<u32>) -> String {
    match node {
        Some(number) => format!("hyperion-{id}-{number}"),
        None => format!("hyperion-{id}"),
    }
}

/// Kills and removes the groups of a job of which nothing but its id is known,
/// and how many nodes it was to have.
pub fn clean_up_cgroups(id: &JobId, nodes: u32) {
    let layout = Layout::detect();
    for node in std::iter::once(None).chain((0..nodes).map(Some)) {
        let cgroup = Cgroup::find(&layout, &cgroup_name(id, node));
        cgroup.kill();
        cgroup.remove();
    }
}

/// Gives the path of the socket on which ranks report that a program inside has started.
pub(crate) fn rank_socket(folder: &Path) -> std::path::PathBuf {
    folder.join("ranks")
}
