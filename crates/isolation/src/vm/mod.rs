//! The level `vm`: a kernel of its own, in a machine of QEMU's.
//!
//! ```text
//! supervisor ══ hyperion-vm ── QEMU ┊ kernel ── /init: relay ══ init ── ranks
//!               relay, limits       ┊ guest            a container
//! ```
//!
//! Inside the machine the same container stands that the host would put up,
//! with the same init: so the same words mean the same, and only the wire
//! between supervisor and init differs (`relay`). The image is one file that all
//! machines of it share; what a job writes is in the guest's memory or on a disk
//! that goes with the machine.

pub mod agent;
mod end;
mod folders;
mod guest;
mod host;
pub mod kernel;
pub mod machine;
mod monitor;
pub mod qemu;
pub mod qmp;
pub(crate) mod relay;
mod seats;
pub mod stay;
pub mod virtiofsd;
mod warm;

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use hyperion_image::folder::FILE;
use hyperion_image::layer::erofs::Form;
use hyperion_model::{MountKind, Resources, RootSource, SandboxSpec, UsernsMode};
use hyperion_sys::process::{self, Fork};
use rustix::fs::{Mode, OFlags};
use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

pub use end::{DiskUse, MachineEnd, Said, plain};
pub use folders::host::copy_image;
pub(crate) use guest::run as run_guest;
pub use qemu::{Accelerator, Board, Disk, Folders, Machine, kernel_words};
pub use seats::{Cell, HostNode, Seats, TieError, tie};
pub use warm::forget as forget_memories;

use self::folders::{Lent, share_point};
use self::qemu::Beside;
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
    /// The file system of its image and of copies of folders.
    form: Form,
    /// The folders of the host that it sees.
    shares: Vec<Lent>,
    /// The SHA-256 of the disk with copies of folders, where there is one.
    copies: Option<[u8; 32]>,
    /// There is a disk for what the job writes.
    disk: bool,
    /// What time it is, since the beginning of 1970, UTC.
    now: Duration,
    /// Random numbers, for those of the guest to follow from.
    seed: [u64; 8],
    /// Others go on from the same memory, so that the seed must be used.
    warm: bool,
}

impl Boot {
    /// Tells whether what is changed in copies of folders is brought out.
    fn brings_out(&self) -> bool {
        let mut shares = self.shares.iter();
        self.copies.is_some() && shares.any(Lent::is_brought_out)
    }
}

impl Isolation for VmIsolation {
    fn create(&self, spec: &SandboxSpec, stage: &Stage) -> Result<Box<dyn Sandbox>, SandboxError> {
        let image = match (&spec.root.source, &self.machine.image) {
            (_, Some(file)) | (RootSource::Erofs { file }, None) => file,
            _ => {
                return Err(SandboxError::Setup {
                    step: "finding the image as one file".into(),
                    source: std::io::ErrorKind::InvalidInput.into(),
                });
            }
        };
        // Now: the name of one that has none is this process's own.
        let read = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(image, read, Mode::empty());
        let opened = opened.map_err(|e| SandboxError::Setup {
            step: format!("opening {}", image.display()),
            source: e.into(),
        })?;
        let mut outside = spec.clone();
        outside.resources = outside_of(&spec.resources);
        let cgroup = make_cgroup(stage, &outside)?;
        let id = match spec.userns {
            UsernsMode::Range { base, .. } => Some(base),
            _ => None,
        };
        let shares = folders::shares(spec, &self.machine.folders);
        let copies = matches!(self.machine.folders, Folders::Copied { .. });
        let ninep: Vec<_> = match self.machine.folders {
            Folders::Ninep => shares.iter().enumerate(),
            Folders::Virtiofs(_) | Folders::Copied { .. } => [].iter().enumerate(),
        }
        .map(|(i, share)| (folders::host::point(&stage.folder, i), share.lent.read_only))
        .collect();
        let collects = shares.iter().any(|share| share.lent.is_brought_out());
        let node = spec.node.as_ref().map(|place| place.number);
        let seats = self.machine.seats(node.unwrap_or(0));
        let beside = Beside {
            node,
            shares: match self.machine.folders {
                Folders::Virtiofs(_) => shares.len(),
                Folders::Ninep | Folders::Copied { .. } => 0,
            },
            ninep: &ninep,
            copies: copies && !shares.is_empty(),
            changes: collects,
        };
        // Its mounts are for the programs that share them.
        let namespaces = match (beside.shares, ninep.is_empty()) {
            (0, true) => 0,
            (_, true) => process::namespace::MOUNT,
            (_, false) => process::namespace::MOUNT | process::namespace::USER,
        };
        let owner = (!ninep.is_empty()).then(|| (geteuid().as_raw(), getegid().as_raw()));
        let disk = self.machine.disk.as_ref().map_or(0, |disk| disk.size.0);
        let plain = self.machine.is_plain(&seats, &beside);
        let start = host::Start {
            warm: self.machine.warm.clone().filter(|_| plain),
            words: qemu::words(&self.machine, &seats.cells, beside),
            seats: seats.cpus,
            image: opened,
            files: [self.machine.kernel.clone(), self.machine.initramfs.clone()],
            id,
            folders: self.machine.folders.clone(),
            owner,
            holds: self.machine.memory.0.saturating_add(disk),
            patience: self.machine.patience,
            stage: stage.folder.clone(),
            port: stage.port.clone(),
            boot: Boot {
                spec: inside(spec),
                form: self.machine.form,
                shares: shares.iter().map(|share| share.lent).collect(),
                copies: None,
                disk: self.machine.disk.is_some(),
                now: Duration::ZERO,
                seed: [0; 8],
                warm: false,
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
        guest.collects = collects;
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
