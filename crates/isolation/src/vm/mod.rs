//! The level `vm`: a kernel of its own, in a machine of QEMU's.
//!
//! ```text
//! supervisor ══ hyperion-vm ── QEMU ┊ kernel ── /init: relay ══ init ── ranks
//!               relay, limits       ┊ guest            a container
//! ```
//!
//! Inside the machine the same container stands that the host would put up,
//! with the same init: so the same words mean the same, and only the wire
//! between supervisor and init differs (`relay`). The image is one EROFS file
//! that all machines of it share; what a job writes stays in the guest's memory.

pub mod agent;
mod end;
mod guest;
mod host;
pub mod kernel;
pub mod machine;
mod monitor;
pub mod qemu;
pub mod qmp;
pub(crate) mod relay;
mod seats;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use hyperion_model::{MountKind, Resources, RootSource, SandboxSpec, UsernsMode};
use hyperion_sys::cgroup::Layout;
use hyperion_sys::process::{self, Fork};
use serde::{Deserialize, Serialize};

pub use end::{MachineEnd, Said};
pub(crate) use guest::run as run_guest;
pub use qemu::{Accelerator, Disk, Machine};
pub use seats::{Cell, HostNode, Seats, TieError, tie};

use crate::guest::Guest;
use crate::process::make_cgroup;
use crate::wire::Wire;
use crate::{Isolation, Sandbox, SandboxError, Stage};

/// Fences programs with a machine.
#[derive(Debug, Clone)]
pub struct VmIsolation {
    /// What the machine is made of.
    pub machine: Machine,
}

/// The first message from the host to its guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Boot {
    /// The container to put up.
    spec: SandboxSpec,
    /// How many folders of the host are lent.
    shares: usize,
    /// There is a disk for what the job writes.
    disk: bool,
}

/// Gives the folders of the host that a job asks for, in order.
fn shared(spec: &SandboxSpec) -> impl Iterator<Item = (&Path, bool)> {
    let mounts = spec.container.mounts.iter();
    mounts.filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some((source.as_path(), mount.read_only)),
        MountKind::Tmpfs { .. } => None,
    })
}

/// The name of a file of the host in the folder in which it is lent.
const FILE: &str = "file";

/// Gives where the guest has a folder of the host.
fn share_point(number: usize) -> PathBuf {
    Path::new("/shares").join(qemu::share_tag(number))
}

impl Isolation for VmIsolation {
    fn create(&self, spec: &SandboxSpec, stage: &Stage) -> Result<Box<dyn Sandbox>, SandboxError> {
        let RootSource::Erofs { file } = &spec.root.source else {
            return Err(SandboxError::Setup {
                step: "finding the image as one file".into(),
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        };
        let mut outside = spec.clone();
        outside.resources = outside_of(&spec.resources);
        let cgroup = make_cgroup(&Layout::detect(), &outside)?;
        let id = match spec.userns {
            UsernsMode::Range { base, .. } => Some(base),
            _ => None,
        };
        let shares: Vec<host::Share> = shared(spec)
            .map(|(source, read_only)| host::Share {
                source: source.to_owned(),
                read_only,
            })
            .collect();
        let node = spec.node.as_ref().map(|place| place.number);
        let seats = self.machine.seats(node.unwrap_or(0));
        // Its mounts are for the programs that share them.
        let namespaces = match shares.is_empty() {
            true => 0,
            false => process::namespace::MOUNT,
        };
        let start = host::Start {
            words: qemu::words(&self.machine, &seats.cells, shares.len(), node),
            seats: seats.cpus,
            files: [
                file.clone(),
                self.machine.kernel.clone(),
                self.machine.initramfs.clone(),
            ],
            id,
            virtiofsd: self.machine.virtiofsd.clone(),
            patience: self.machine.patience,
            stage: stage.folder.clone(),
            port: stage.port.clone(),
            boot: Boot {
                spec: inside(spec),
                shares: shares.len(),
                disk: self.machine.disk.is_some(),
            },
            disk: self.machine.disk.clone(),
            shares,
        };
        let (ours, theirs) = Wire::pair().map_err(SandboxError::Init)?;
        let entrance = cgroup.entrance().inspect_err(|_| drop(cgroup.remove()))?;
        let cgroup_fd = cgroup.v2_fd();
        let init = match process::clone_into(namespaces, cgroup_fd.as_ref().map(AsFd::as_fd)) {
            Ok(Fork::Child) => match entrance.enter() {
                Ok(()) => host::run(theirs, &start),
                Err(_) => process::exit_now(1),
            },
            Ok(Fork::Parent(pid)) => pid,
            Err(e) => {
                cgroup.remove();
                return Err(SandboxError::Init(e));
            }
        };
        drop(theirs);
        let folder = Path::new(crate::container::SHIM_FOLDER).to_owned();
        let mut guest = Guest::new(ours, init, cgroup, folder);
        guest.awaited = true;
        guest.patience = Some(self.machine.patience);
        Ok(Box::new(guest))
    }

    fn emulates(&self) -> bool {
        self.machine.accelerator == Accelerator::Tcg
    }
}

/// Gives what a cgroup of the host must hold QEMU to, which is only what the
/// machine's own size does not: a user needs no cgroup for the rest.
fn outside_of(resources: &Resources) -> Resources {
    Resources {
        // It has as many processors.
        cpus: resources.cpus.filter(|cpus| cpus.as_f64().fract() > 0.0),
        cpuset: resources.cpuset.clone(),
        // It has as much memory, and QEMU needs some beside it.
        memory: None,
        // They are the guest's processes, and counted there.
        pids: None,
    }
}

/// Gives the container as the guest puts it up: the machine is what it may use,
/// and the guest's root is nobody's on the host.
fn inside(spec: &SandboxSpec) -> SandboxSpec {
    let mut spec = spec.clone();
    spec.userns = UsernsMode::Host;
    spec.root.scratch = None;
    let mut number = 0;
    for mount in &mut spec.container.mounts {
        if let MountKind::Bind { source, .. } = &mut mount.kind {
            let point = share_point(number);
            *source = match source.is_dir() {
                true => point,
                false => point.join(FILE),
            };
            number += 1;
        }
    }
    spec.resources = Resources {
        pids: spec.resources.pids,
        ..Resources::default()
    };
    spec
}
