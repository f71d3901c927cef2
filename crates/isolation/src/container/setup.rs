//! The child's way from new namespaces to the init: runs once, as a copy of
//! the supervisor, and ends in being PID 1.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hyperion_model::{Mount, MountKind, Propagation, SandboxSpec, UsernsMode};
use hyperion_sys::cgroup::Entrance;
use hyperion_sys::mount::{self, Change, NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use hyperion_sys::{process, signals};
use rustix::fs::{CWD, Mode};

use super::{Go, SHIM_FOLDER, has_own_network, root, system};
use crate::Stage;
use crate::init::{self, Confinement, Duty};
use crate::process::rank_socket;
use crate::protocol::Reply;
use crate::wire::Wire;

/// What failed, and why.
pub(super) struct Failure {
    pub(super) step: String,
    pub(super) error: io::Error,
}

/// Says what was being done when something failed.
pub(super) trait Doing<T> {
    fn doing(self, step: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, step: impl Display) -> Result<T, Failure> {
        self.map_err(|e| Failure {
            step: step.to_string(),
            error: e.into(),
        })
    }
}

/// Runs in the child; never returns.
pub(super) fn run(mut wire: Wire, spec: &SandboxSpec, stage: &Stage, entrance: &Entrance) -> ! {
    let failure = match climb(&mut wire, spec, stage, entrance) {
        Ok(confinement) => {
            let duty = Duty {
                confinement,
                rank_socket: rank_socket(Path::new(SHIM_FOLDER)),
                sweeps: spec.sweeps,
                steps: spec.steps,
            };
            init::run(wire, duty)
        }
        Err(failure) => failure,
    };
    let errno = failure
        .error
        .raw_os_error()
        .unwrap_or(rustix::io::Errno::INVAL.raw_os_error());
    let _ = wire.send(
        &Reply::SetupFailed {
            step: failure.step,
            errno,
        },
        &[],
    );
    process::exit_now(1)
}

/// Gives what is taken from the processes that are started there.
fn climb(
    wire: &mut Wire,
    spec: &SandboxSpec,
    stage: &Stage,
    entrance: &Entrance,
) -> Result<Confinement, Failure> {
    signals::die_with_parent().doing("tying the container to its supervisor")?;
    entrance.enter().doing("joining the cgroup")?;
    init::settle_in();
    let confinement = Confinement::of_container(spec)
        .map_err(|name| io::Error::other(name.to_owned()))
        .doing("compiling the fence")?;
    let go: Go = wire.receive().doing("waiting for the supervisor")?;
    become_root(spec).doing("becoming root inside")?;
    // As docker does it: what the caller's shell has set is not for a root that others enter too.
    rustix::process::umask(Mode::from_raw_mode(0o022));

    let slave = spec.container.mounts.iter().any(|m| match &m.kind {
        MountKind::Bind { propagation, .. } => *propagation != Propagation::Private,
        MountKind::Tmpfs { .. } => false,
    });
    mount::isolate_propagation(slave).doing("separating the mounts from the host's")?;

    // Everything of the host is opened before the new root covers it.
    let program = match go.program {
        true => wire.take_fd(),
        false => mount::clone_tree(CWD, &stage.program, false),
    };
    let program = program.doing("opening the program file")?;
    let read_only = Change {
        set: READ_ONLY | NO_SUID,
        ..Change::default()
    };
    mount::set_attributes(program.as_fd(), &read_only).doing("protecting the program file")?;
    let lowers: Vec<OwnedFd> = (0..go.lowers)
        .map(|_| wire.take_fd())
        .collect::<Result<_, _>>()
        .doing("taking the root")?;
    let scratch = match (go.scratch, &spec.root.scratch) {
        (true, _) => Some(wire.take_fd()),
        (false, Some(own)) => Some(mount::clone_tree(CWD, own, false)),
        (false, None) => None,
    };
    let scratch = scratch.transpose().doing("taking the scratch folder")?;
    let mut sources = Vec::new();
    for (i, mount) in spec.container.mounts.iter().enumerate() {
        let given = go.binds.get(i).copied().unwrap_or(false);
        let given = given
            .then(|| wire.take_fd())
            .transpose()
            .doing("taking a mount")?;
        sources.push(source_of(mount, given)?);
    }
    let files = system::HostFiles::open(spec);

    let root = root::assemble(spec, lowers, scratch)?;
    system::populate(&root, spec, files, &program, go.own_group)?;
    for (mount, source) in spec.container.mounts.iter().zip(sources) {
        put(&root, mount, source)?;
    }
    if spec.root.scratch.is_none() || spec.container.read_only {
        root.make_read_only().doing("making the root read-only")?;
    }
    mount::pivot_into(&root).doing("entering the root")?;
    let hostname = spec
        .container
        .hostname
        .clone()
        .unwrap_or_else(|| spec.id.to_string());
    rustix::system::sethostname(hostname.as_bytes()).doing("setting the host name")?;
    if has_own_network(spec) {
        // Without it nothing inside can talk even to itself.
        hyperion_sys::net::loopback_up().doing("starting the loopback interface")?;
    }
    wire.send(&Reply::Ready, &[])
        .doing("telling the supervisor")?;
    Ok(confinement)
}

fn become_root(spec: &SandboxSpec) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    if spec.userns == UsernsMode::Host {
        return Ok(());
    }
    if matches!(spec.userns, UsernsMode::Range { .. }) {
        // Groups of the host's root mean nothing inside; a user's own groups are kept.
        rustix::thread::set_thread_groups(&[])?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(rustix::thread::set_thread_res_uid(
        Uid::ROOT,
        Uid::ROOT,
        Uid::ROOT,
    )?)
}

/// Opens what a mount shows.
fn source_of(mount: &Mount, given: Option<OwnedFd>) -> Result<OwnedFd, Failure> {
    let read_only = if mount.read_only { READ_ONLY } else { 0 };
    match &mount.kind {
        MountKind::Bind {
            source,
            propagation,
        } => {
            let step = format_args!("mounting {}", source.display()).to_string();
            let tree = match given {
                Some(tree) => tree,
                None => mount::clone_tree(CWD, source, true).doing(&step)?,
            };
            // A device is mounted to be used, and so is a folder of devices, in
            // which nobody may make more; anything else brings no devices along.
            let devices = source.starts_with("/dev") && !source.starts_with("/dev/shm");
            let guard = match (devices, is_folder(&tree).doing(&step)?) {
                (true, true) => READ_ONLY,
                (true, false) => 0,
                (false, _) => NO_DEV,
            };
            let propagation = match propagation {
                Propagation::Private => libc_ms::PRIVATE,
                Propagation::Slave => libc_ms::SLAVE,
                Propagation::Shared => 0,
            };
            let change = Change {
                set: read_only | NO_SUID | guard,
                propagation,
                recursive: true,
                ..Change::default()
            };
            mount::set_attributes(tree.as_fd(), &change).doing(&step)?;
            Ok(tree)
        }
        MountKind::Tmpfs { size, mode, exec } => {
            let no_exec = if *exec { 0 } else { NO_EXEC };
            let mode = format!("{mode:o}");
            let size = size.map(|s| s.0.to_string());
            let mut options = vec![("mode", mode.as_str())];
            options.extend(size.iter().map(|s| ("size", s.as_str())));
            mount::new_filesystem("tmpfs", &options, read_only | no_exec | NO_SUID | NO_DEV).doing(
                format_args!("mounting memory at {}", mount.target.display()),
            )
        }
    }
}

mod libc_ms {
    //! Propagation types of mount(2), as `mount_setattr(2)` takes them.
    pub(super) const PRIVATE: u64 = 1 << 18;
    pub(super) const SLAVE: u64 = 1 << 19;
}

/// Puts a mount into the new root, making its target if it is not there.
fn put(root: &root::Root, mount: &Mount, source: OwnedFd) -> Result<(), Failure> {
    let step = format!("mounting at {}", mount.target.display());
    let folder = is_folder(&source).doing(&step)?;
    let target = root.target(&mount.target, folder).doing(&step)?;
    mount::attach(source.as_fd(), target.as_fd()).doing(&step)
}

pub(super) fn is_folder(file: &OwnedFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}
