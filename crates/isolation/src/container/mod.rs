//! The level `container`: namespaces, a root of its own, fewer powers.
//!
//! ```text
//! supervisor                          child in new namespaces
//!   cgroup, clone3 ──────────────────▶ joins the cgroup, compiles the
//!                                      fence of processes, waits
//!   id maps
//!   mapped mounts, made with the
//!   host's powers
//!   Go + mounts ─────────────────────▶ puts the root together, pivots
//!   Ready ◀─────────────────────────── is the init, serves
//! ```
//!
//! What the child mounts it mounts with the powers of its own user namespace
//! only, so a mistake in it is a mistake inside the fence.

mod root;
mod setup;
mod system;

pub use root::remove_scratch;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hyperion_model::job::Network;
use hyperion_model::report::Exit;
use hyperion_model::{Level, MountKind, Propagation, RootSource, SandboxSpec, UsernsMode, nodes};
use hyperion_sys::caps::CapSet;
use hyperion_sys::mount::{self, Change, NO_DEV, NO_SUID, READ_ONLY};
use hyperion_sys::process::{self, Fork, namespace};
use hyperion_sys::{net, signals, userns};
use rustix::fs::CWD;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::guest::Guest;
use crate::process::make_cgroup;
use crate::wire::Wire;
use crate::{Isolation, Sandbox, SandboxError, Stage};

/// Where, inside, the shim and its socket lie.
pub(crate) const SHIM_FOLDER: &str = "/dev/.hyperion";
pub use system::SHIM;

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// Fences programs with namespaces.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContainerIsolation;

/// What the supervisor has made for the child; the mounts come along in this order.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Go {
    /// Whether a mount of this program's file comes.
    program: bool,
    /// How many mapped mounts of the root's lower folders (or its one EROFS file) come.
    lowers: usize,
    /// Whether a mapped mount of the scratch folder comes.
    scratch: bool,
    /// For each mount of the spec, whether its source comes.
    binds: Vec<bool>,
    /// Whether the child is in a group of its own of version 2, which it may see.
    own_group: bool,
}

impl Isolation for ContainerIsolation {
    fn create(&self, spec: &SandboxSpec, stage: &Stage) -> Result<Box<dyn Sandbox>, SandboxError> {
        Ok(Box::new(Self::put_up(spec, stage)?))
    }
}

impl ContainerIsolation {
    /// Puts a container up.
    pub(crate) fn put_up(spec: &SandboxSpec, stage: &Stage) -> Result<Guest, SandboxError> {
        let options = &spec.container;
        CapSet::adjusted(&options.cap_add, &options.cap_drop)
            .map_err(|name| SandboxError::Capability(name.to_owned()))?;
        for mount in &options.mounts {
            if let MountKind::Bind { source, .. } = &mount.kind
                && !source.exists()
            {
                return Err(SandboxError::MountSource(source.clone()));
            }
        }
        let cgroup = make_cgroup(stage, spec)?;
        let (mut ours, theirs) = Wire::pair().map_err(SandboxError::Init)?;
        let entrance = cgroup.entrance().inspect_err(|_| drop(cgroup.remove()))?;
        let cgroup_fd = cgroup.v2_fd();
        // The child finds the stage as its working folder: the root of a user
        // namespace may not be allowed to walk the path to it.
        rustix::process::chdir(&stage.folder)
            .map_err(|e| setup_error("entering the stage", e.into()))?;
        let init = match process::clone_into(namespaces(spec), cgroup_fd.as_ref().map(AsFd::as_fd))
        {
            Ok(Fork::Child) => setup::run(theirs, spec, stage, &entrance),
            Ok(Fork::Parent(pid)) => pid,
            Err(e) => {
                cgroup.remove();
                return Err(SandboxError::Namespaces(e));
            }
        };
        drop(theirs);
        let _ = rustix::process::chdir("/");
        if let Err(e) = release(&mut ours, init, spec, stage, cgroup_fd.is_some()) {
            let _ = signals::send(init, signals::SIGKILL);
            let _ = process::wait_for(init);
            cgroup.remove();
            return Err(e);
        }
        let mut guest = Guest::new(ours, init, cgroup, SHIM_FOLDER.into());
        guest.greet()?;
        Ok(guest)
    }
}

fn namespaces(spec: &SandboxSpec) -> u64 {
    let mut flags =
        namespace::MOUNT | namespace::PID | namespace::IPC | namespace::UTS | namespace::CGROUP;
    if spec.userns != UsernsMode::Host {
        flags |= namespace::USER;
    }
    if has_own_network(spec) {
        flags |= namespace::NET;
    }
    flags
}

/// Tells whether it is shut off from the network around it: asked for, or it is a
/// node of its job itself, and not what stands in the machine that is one.
fn has_own_network(spec: &SandboxSpec) -> bool {
    let is_node = spec.level == Level::Container && spec.node.is_some();
    is_node || spec.container.network == Network::None
}

/// Makes the container's way into the network between the nodes of its job, and
/// hands the other end to whoever holds the other end of the port.
fn join_nodes(init: Pid, spec: &SandboxSpec, stage: &Stage) -> Result<(), SandboxError> {
    let (Some(place), Some(port)) = (&spec.node, &stage.port) else {
        return Ok(());
    };
    let join = || -> io::Result<()> {
        // Root's container is the host's root's too; a user is root in his own only.
        let user = !matches!(spec.userns, UsernsMode::Host | UsernsMode::Range { .. });
        let hardware = nodes::hardware_address(place.number);
        let address = place.address();
        let tap = net::tap_inside(
            init,
            user,
            nodes::INTERFACE,
            hardware,
            address,
            nodes::PREFIX,
        )?;
        Wire::new(port.try_clone()?).send(&(), &[tap.as_fd()])
    };
    let step = "joining the network between the nodes";
    let failed = |e| setup_error(step, e);
    match process::fork().map_err(failed)? {
        Fork::Child => {
            let errno = join().err().map(|e| e.raw_os_error().unwrap_or(EIO));
            process::exit_now(errno.map_or(0, |e| u8::try_from(e).unwrap_or(u8::MAX)))
        }
        Fork::Parent(pid) => match process::wait_for(pid).map_err(failed)?.exit {
            Exit::Code(0) => Ok(()),
            Exit::Code(errno) => Err(failed(io::Error::from_raw_os_error(errno.into()))),
            Exit::Signal(_) => Err(failed(io::Error::from_raw_os_error(EIO))),
        },
    }
}

/// Maps the child's ids, makes what needs the host's powers, and lets it go.
fn release(
    wire: &mut Wire,
    init: Pid,
    spec: &SandboxSpec,
    stage: &Stage,
    own_group: bool,
) -> Result<(), SandboxError> {
    userns::write_maps(init, &spec.userns)?;
    join_nodes(init, spec, stage)?;
    let mut go = Go {
        own_group,
        ..Go::default()
    };
    let mut mounts = Vec::new();
    if matches!(spec.userns, UsernsMode::Range { .. }) {
        let map = userns::open(init)
            .map_err(|source| setup_error("opening the user namespace", source))?;
        let program = mount::clone_tree(CWD, &stage.program, false);
        mounts.push(program.map_err(|e| setup_error("opening the program file", e))?);
        go.program = true;
        mapped_root(spec, map.as_fd(), &mut go, &mut mounts)?;
        for mount in &spec.container.mounts {
            let mapped = match &mount.kind {
                // A folder whose file system cannot be mapped is mounted as it is.
                MountKind::Bind { source, .. } => mapped_clone(source, map.as_fd(), true, 0)
                    .or_else(|_| mount::clone_tree(CWD, source, true))
                    .ok(),
                MountKind::Tmpfs { .. } => None,
            };
            go.binds.push(mapped.is_some());
            mounts.extend(mapped);
        }
    } else if spec.userns == UsernsMode::Host {
        for mount in &spec.container.mounts {
            // What the child opens itself only hears of the host's mounts.
            let shared = match &mount.kind {
                MountKind::Bind {
                    source,
                    propagation: Propagation::Shared,
                } => mount::clone_tree(CWD, source, true).ok(),
                _ => None,
            };
            go.binds.push(shared.is_some());
            mounts.extend(shared);
        }
    }
    let fds: Vec<BorrowedFd<'_>> = mounts.iter().map(AsFd::as_fd).collect();
    wire.send(&go, &fds).map_err(SandboxError::Lost)
}

/// Makes the mounts of the root, with ids mapped for the child's user namespace.
fn mapped_root(
    spec: &SandboxSpec,
    map: BorrowedFd<'_>,
    go: &mut Go,
    mounts: &mut Vec<OwnedFd>,
) -> Result<(), SandboxError> {
    let step = |what: &str, path: &Path| format!("mounting the {what} {}", path.display());
    match &spec.root.source {
        RootSource::Host => {}
        RootSource::Erofs { file } => {
            let mount = mount_erofs(file).and_then(|m| {
                let change = Change {
                    idmap: Some(map),
                    ..Change::default()
                };
                mount::set_attributes(m.as_fd(), &change).map(|()| m)
            });
            mounts.push(mount.map_err(|e| setup_error(step("image", file), e))?);
            go.lowers = 1;
        }
        RootSource::Layers { layers } => {
            for layer in layers {
                let mount = mapped_clone(layer, map, false, READ_ONLY | NO_SUID | NO_DEV);
                mounts.push(mount.map_err(|e| setup_error(step("layer", layer), e))?);
            }
            go.lowers = layers.len();
        }
    }
    if let Some(scratch) = &spec.root.scratch {
        let mount = mapped_clone(scratch, map, false, NO_SUID | NO_DEV);
        mounts.push(mount.map_err(|e| setup_error(step("scratch folder", scratch), e))?);
        go.scratch = true;
    }
    Ok(())
}

fn mapped_clone(
    path: &Path,
    map: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
) -> io::Result<OwnedFd> {
    let tree = mount::clone_tree(CWD, path, recursive)?;
    mount::set_attributes(
        tree.as_fd(),
        &Change {
            set,
            idmap: Some(map),
            recursive,
            ..Change::default()
        },
    )?;
    Ok(tree)
}

/// Mounts an EROFS file, without a loop device where the kernel can.
fn mount_erofs(file: &Path) -> io::Result<OwnedFd> {
    let source = file.to_string_lossy();
    mount::new_filesystem(
        "erofs",
        &[("source", &source)],
        READ_ONLY | NO_SUID | NO_DEV,
    )
}

fn setup_error(step: impl Into<String>, source: io::Error) -> SandboxError {
    SandboxError::Setup {
        step: step.into(),
        source,
    }
}
