//! The guest's side of a job's machine: from the kernel's first process to the
//! same container, with the same init, that the host would put up.
//!
//! ```text
//! kernel ─▶ /init: file systems, modules ─▶ image mounted ─▶ container ─▶ relay ─▶ off
//! ```

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyperion_image::layer::erofs::Form;
use hyperion_model::{RootSource, nodes};
use hyperion_sys::cgroup::Layout;
use hyperion_sys::mount::{self, NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::system::RebootCommand;
use rustix::time::{ClockId, clock_settime};

use super::Boot;
use super::folders::guest as folders;
use super::qemu::{Board, DISK, PORT, ROOT};
use super::relay::{Course, Relay, Side, Word};
use super::stay;
use crate::container::ContainerIsolation;
use crate::protocol::Reply;
use crate::wire::Wire;
use crate::{SandboxError, Stage};

/// Where the image is mounted.
const IMAGE: &str = "/image";
/// Where the sandbox is put together and written to.
pub(super) const STAGE: &str = "/stage";
/// The kernel's modules that a boot needs, by number in their order.
const MODULES: &str = "/modules";
/// How long the port to the host may take to have its name.
const PORT_COMES: Duration = Duration::from_secs(30);
/// By how much the clock may be ahead of what its host has said.
const AHEAD: Duration = Duration::from_secs(1);
/// There where the machine has PCI.
const PCI: &str = "/sys/bus/pci/devices/0000:00:00.0";
/// This program.
const PROGRAM: &str = "/init";

/// What failed on the way up.
pub(super) struct Failure {
    pub(super) step: String,
    pub(super) error: io::Error,
}

impl Failure {
    pub(super) fn new(step: &str, error: impl Into<io::Error>) -> Self {
        Self {
            step: step.to_owned(),
            error: error.into(),
        }
    }
}

pub(super) trait Doing<T> {
    fn doing(self, step: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, step: &str) -> Result<T, Failure> {
        self.map_err(|e| Failure::new(step, e))
    }
}

/// Is PID 1 of a machine: serves its job and switches the machine off. One that stays
/// goes a way of its own from where the kernel is up.
pub(crate) fn run() -> ! {
    let outcome = prepare().and_then(|()| match stay::is_asked() {
        true => Err(stay::run()),
        false => {
            let port = open_port().doing("opening the port to the host")?;
            serve(Wire::over_stream(port)).doing("serving the job")
        }
    });
    if let Err(Failure { step, error }) = outcome {
        // The console is what there is when the port is not.
        let words = format!("hyperion: {step} failed: {error}\n");
        let _ = rustix::io::write(rustix::stdio::stderr(), words.as_bytes());
    }
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    loop {
        let _ = rustix::system::reboot(RebootCommand::Restart);
    }
}

/// Brings the kernel's file systems and drivers up.
fn prepare() -> Result<(), Failure> {
    let quiet = NO_SUID | NO_DEV | NO_EXEC;
    for (kind, at, attributes) in [
        ("proc", "/proc", quiet),
        ("sysfs", "/sys", quiet),
        ("devtmpfs", "/dev", NO_SUID | NO_EXEC),
    ] {
        fs::create_dir_all(at).doing(&format!("making {at}"))?;
        put(kind, &[], attributes, at).doing(&format!("mounting {at}"))?;
    }
    let groups = "/sys/fs/cgroup";
    let _ = put("cgroup2", &[], quiet, groups);
    let mut modules: Vec<PathBuf> = fs::read_dir(MODULES)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    modules.sort();
    let other = match Path::new(PCI).exists() {
        true => Board::Microvm,
        false => Board::Q35,
    };
    let of_other = format!("{}.ko", other.driver());
    let is_its = |file: &&PathBuf| {
        let name = file.file_name().unwrap_or_default();
        !name.as_encoded_bytes().ends_with(of_other.as_bytes())
    };
    for module in modules.iter().filter(is_its) {
        load(module)?;
    }
    // MPI libraries talk to themselves by it.
    hyperion_sys::net::loopback_up().doing("starting the loopback interface")
}

/// Loads a module that only some machines need, with those that it needs itself.
pub(super) fn load_on_demand(name: &str) -> Result<(), Failure> {
    let folder = Path::new(MODULES).join("more");
    let list = fs::read_to_string(folder.join("dep")).unwrap_or_default();
    // One without a line is part of the kernel.
    let mut lines = list.lines().filter_map(|line| line.split_once(':'));
    let files = lines.find_map(|(of, files)| (of == name).then_some(files));
    for file in files.unwrap_or_default().split_ascii_whitespace() {
        load(&folder.join(file))?;
    }
    Ok(())
}

/// Finds a disk by the name that QEMU gave it: their order is not the machine's.
pub(super) fn disk(name: &str) -> Result<String, Failure> {
    let step = format!("finding the disk {name}");
    for entry in fs::read_dir("/sys/block").doing(&step)?.flatten() {
        let serial = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if serial.trim_end() == name {
            return Ok(format!("/dev/{}", entry.file_name().display()));
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound)).doing(&step)
}

fn load(module: &Path) -> Result<(), Failure> {
    let file = File::open(module).doing(&format!("opening {}", module.display()))?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(e).doing(&format!("loading {}", module.display())),
    }
}

pub(super) fn put(
    kind: &str,
    options: &[(&str, &str)],
    attributes: u64,
    at: impl AsRef<Path>,
) -> io::Result<()> {
    let made = mount::new_filesystem(kind, options, attributes)?;
    mount::attach(made.as_fd(), mount::open_dir(at.as_ref())?.as_fd())
}

/// Mounts a disk that the host has made, which nobody writes to.
pub(super) fn put_file(form: Form, disk: &str, at: &str, step: &str) -> Result<(), Failure> {
    let kind = match form {
        Form::Erofs => "erofs",
        Form::Ext4 | Form::Disk => {
            load_on_demand("ext4")?;
            "ext4"
        }
    };
    let options = [("source", disk), ("ro", "")];
    put(kind, &options, READ_ONLY | NO_DEV, at).doing(step)
}

fn open_port() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = virtio_port(PORT)?;
    Ok(rustix::fs::openat(CWD, device, flags, Mode::empty())?)
}

/// Finds a way to the host by its name, which comes some time after its driver.
pub(super) fn virtio_port(name: &str) -> io::Result<PathBuf> {
    let since = Instant::now();
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports")?.flatten() {
            let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if found.trim() == name {
                return Ok(Path::new("/dev").join(entry.file_name()));
            }
        }
        if since.elapsed() > PORT_COMES {
            return Err(io::ErrorKind::NotFound.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Puts the container up and carries the talk with its init, until that has ended.
fn serve(mut port: Wire) -> io::Result<()> {
    let boot: Boot = port.receive()?;
    keep_time(boot.now);
    let brings_out = boot.brings_out();
    let shares = boot.shares.clone();
    // The same numbers in two machines are no secrets.
    let stirred = match hyperion_sys::random::stir(&boot.seed) {
        Err(e) if boot.warm => Err(e).doing("stirring the random numbers"),
        _ => Ok(()),
    };
    let neighbour = match stirred.and_then(|()| put_up(boot)) {
        Ok(wire) => wire,
        Err(failure) => {
            let errno = failure.error.raw_os_error();
            let reply = Reply::SetupFailed {
                step: failure.step,
                errno: errno.unwrap_or(rustix::io::Errno::IO.raw_os_error()),
            };
            port.queue(&Word::answer(&reply)?)?;
            return flush(&mut port);
        }
    };
    port.queue(&Word::answer(&Reply::Ready)?)?;
    let mut relay = Relay::new(Side::Guest, neighbour, port);
    while relay.turn(&[], None)?.0 == Course::On {
        if let Some(now) = relay.take_time() {
            keep_time(now);
        }
    }
    folders::settle(&shares);
    relay.other.queue(&Word::Over)?;
    flush(&mut relay.other)?;
    if brings_out && let Err(e) = folders::send_changes() {
        // The host sees that it was cut off.
        let words = format!("hyperion: sending changed folders failed: {e}\n");
        let _ = rustix::io::write(rustix::stdio::stderr(), words.as_bytes());
    }
    // The machine goes on until the host has taken that, and ends it.
    let mut fds = [PollFd::new(&relay.other, PollFlags::empty())];
    let _ = poll(&mut fds, None);
    Ok(())
}

/// Sets the clock by the host's. What it says has been on its way, so that a clock
/// a little ahead of it is right: it goes back only by much.
fn keep_time(now: Duration) {
    let here = SystemTime::now().duration_since(UNIX_EPOCH);
    let here = here.unwrap_or_default();
    if here < now || here > now + AHEAD {
        let now = Timespec {
            tv_sec: now.as_secs().cast_signed(),
            tv_nsec: now.subsec_nanos().into(),
        };
        // A guest that may not is left with its own.
        let _ = clock_settime(ClockId::Realtime, now);
    }
}

fn flush(port: &mut Wire) -> io::Result<()> {
    while port.queued() > 0 {
        poll(&mut [PollFd::new(&*port, PollFlags::OUT)], None)?;
        port.flush()?;
    }
    Ok(())
}

/// Puts up the container that the host asked for; gives the way to its init.
fn put_up(boot: Boot) -> Result<Wire, Failure> {
    let mut spec = boot.spec;
    for folder in [IMAGE, STAGE] {
        fs::create_dir_all(folder).doing(&format!("making {folder}"))?;
    }
    let image = disk(ROOT)?;
    put_file(boot.form, &image, IMAGE, "mounting the image")?;
    // What the job writes goes with the machine.
    let step = "mounting the writable layer";
    match boot.disk {
        true => {
            load_on_demand("ext4")?;
            put("ext4", &[("source", &disk(DISK)?)], NO_DEV, STAGE).doing(step)?;
            fs::set_permissions(STAGE, fs::Permissions::from_mode(0o711)).doing(step)?;
        }
        false => put("tmpfs", &[("mode", "0711")], NO_DEV, STAGE).doing(step)?,
    }
    spec.root.source = RootSource::Layers {
        layers: vec![IMAGE.into()],
    };
    let scratch = Path::new(STAGE).join("scratch");
    if !spec.container.read_only {
        fs::create_dir(&scratch).doing("making the writable layer")?;
        spec.root.scratch = Some(scratch);
    }
    folders::mount(&boot.shares, boot.form, boot.copies)?;
    if let Some(place) = &spec.node {
        load_on_demand("virtio_net")?;
        hyperion_sys::net::join(nodes::INTERFACE, place.address(), nodes::PREFIX)
            .doing("joining the network between the nodes")?;
    }
    let folder = Path::new(STAGE).join("job");
    fs::create_dir(&folder).doing("making the stage")?;
    let stage = Stage {
        folder,
        program: PROGRAM.into(),
        port: None,
        groups: Layout::detect(),
        bare: false,
        counted: true,
    };
    let guest = ContainerIsolation::put_up(&spec, &stage).map_err(of_sandbox)?;
    let wire = rustix::io::dup(crate::Sandbox::fd(&guest)).doing("taking the way to the init")?;
    // The machine ends with its job: there is nothing to take down.
    std::mem::forget(guest);
    Ok(Wire::new(wire))
}

fn of_sandbox(error: SandboxError) -> Failure {
    match error {
        SandboxError::Setup { step, source } => Failure {
            step,
            error: source,
        },
        other => {
            let mut step = format!("putting the job's sandbox up ({other}");
            let mut next = std::error::Error::source(&other);
            while let Some(cause) = next {
                step += &format!(": {cause}");
                next = cause.source();
            }
            Failure {
                step: step + ")",
                error: rustix::io::Errno::IO.into(),
            }
        }
    }
}
