//! The guest's side of a machine that is made of an image: from the kernel's first
//! process to the image's own init, or to the one command that the machine is for.
//!
//! ```text
//! kernel ─▶ /init: disk grown, mounted, root ─┬▶ helper: drivers, network, agent
//!                                             └▶ image's init, or service
//! ```
//!
//! What it is told lies on a disk of its own ([`Orders`]), which the host writes anew
//! whenever the definition changes. All that it does is done inside the guest.

mod agent;
pub(crate) mod dhcp;
pub(crate) mod drivers;
mod files;
mod helper;
mod network;
mod service;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use hyperion_image::layer::erofs::{Growth, grow};
use hyperion_model::MachineSpec;
use hyperion_model::machine::{MachineImage, Starts};
use hyperion_sys::mount::{NO_DEV, NO_EXEC, NO_SUID};
use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};

pub use service::{INITS, PATH};

use super::guest::{Doing, Failure, disk, load_on_demand, put};
use super::qemu::ROOT;
use service::Keeper;

/// The word of the kernel's command line by which the init knows such a machine.
pub const WORD: &str = "hyperion.machine";
/// The serial numbers by which the guest finds its root and its orders.
pub const ROOT_SERIAL: &str = ROOT;
/// See [`ROOT_SERIAL`].
pub const ORDERS_SERIAL: &str = "orders";
/// See [`ROOT_SERIAL`]: the kernel's modules.
pub const MODULES_SERIAL: &str = "modules";
/// What the kernel is told in each of them.
pub const KERNEL_LINE: &str =
    "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests hyperion.machine";
/// Where the disk is mounted before it is the root.
const NEW_ROOT: &str = "/root";
/// No orders are longer, in bytes.
const MOST: u64 = 1 << 20;
/// Disks are made of such sectors.
const SECTOR: usize = 512;

/// What a machine of an image is told by its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// What it is called.
    name: String,
    /// What is started.
    starts: Starts,
    /// Who may log in by which public keys.
    #[serde(default)]
    keys: Vec<(String, Vec<String>)>,
}

impl Orders {
    /// Gives those of a machine; none where it is made of no image.
    #[must_use]
    pub fn of(spec: &MachineSpec) -> Option<Self> {
        let MachineImage { starts, .. } = spec.image.as_ref()?;
        let users = spec.seed.iter().flat_map(|seed| &seed.users);
        Some(Self {
            name: spec.name.to_string(),
            starts: starts.clone(),
            keys: users.map(|u| (u.name.clone(), u.keys.clone())).collect(),
        })
    }

    /// Gives the content of the disk that carries them.
    #[must_use]
    pub fn disk(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.resize(bytes.len().next_multiple_of(SECTOR), b'\n');
        bytes
    }

    fn read() -> Option<Self> {
        let file = File::open(disk(ORDERS_SERIAL).ok()?).ok()?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Tells whether a program is the init of a whole system, by its name.
#[must_use]
pub fn is_init(program: &str) -> bool {
    INITS.contains(&program)
}

/// Tells whether this is the init of such a machine.
pub(super) fn is_asked() -> bool {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_ascii_whitespace().any(|word| word == WORD)
}

/// Says something where all can read it that is said at the start.
pub(super) fn say(words: impl std::fmt::Display) {
    let line = format!("hyperion: {words}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}

/// Brings the machine up and stays as its init, or becomes the image's own.
pub(super) fn run() -> Failure {
    match start() {
        Ok(never) => never,
        Err(failure) => failure,
    }
}

fn start() -> Result<Failure, Failure> {
    let orders = Orders::read().unwrap_or_else(|| {
        say("no orders were found: the image's own init is started");
        Orders {
            name: "localhost".into(),
            ..Orders::default()
        }
    });
    load_on_demand("ext4")?;
    let device = disk(ROOT_SERIAL)?;
    take_all(&device);
    let options = [("source", &*device), ("errors", "remount-ro")];
    fs::create_dir_all(NEW_ROOT).doing("making the root")?;
    put("ext4", &options, 0, NEW_ROOT).doing("mounting the disk")?;
    become_root().doing("making the disk the root")?;
    let own = matches!(orders.starts, Starts::Init);
    if !own {
        around().doing("mounting what belongs to a system")?;
    }
    drivers::mount();
    let first = files::name(&orders.name);
    files::keys(&orders.keys);
    // Before anybody can ask it to end: to the first process an unheard signal is none.
    let keeper = match &orders.starts {
        Starts::Init => None,
        Starts::Service(service) => Some(Keeper::new(service).doing("listening for signals")?),
    };
    helper::start(own, first).doing("starting the agent")?;
    Ok(match keeper {
        None => service::become_init(),
        Some(mut keeper) => keeper.serve(),
    })
}

/// Lets the file system have all of its disk. Whatever that meets, the machine goes on
/// with what it has.
fn take_all(device: &str) {
    let look = || -> io::Result<Growth> {
        let mut disk = File::options().read(true).write(true).open(device)?;
        let size = disk.seek(SeekFrom::End(0))?;
        grow(&disk, size)
    };
    let mut growth = look();
    if matches!(growth, Ok(Growth::Unfinished)) {
        // To mount it once brings in what its journal holds.
        let _ = fs::create_dir_all(NEW_ROOT);
        let _ = put("ext4", &[("source", device)], NO_EXEC, NEW_ROOT);
        let _ = rustix::mount::unmount(NEW_ROOT, UnmountFlags::empty());
        growth = look();
    }
    match growth {
        Ok(Growth::Fits | Growth::Grown(_)) => {}
        Ok(Growth::Unfinished) => say("the disk has more room, and was not left well to take it"),
        Ok(Growth::Foreign) => say("the file system is not as it was made, and does not grow"),
        Err(e) => say(format_args!("the file system does not grow: {e}")),
    }
}

/// Makes the disk the root, with the kernel's file systems in it, and gives the memory
/// back that the first root has.
fn become_root() -> io::Result<()> {
    for at in ["/dev", "/proc", "/sys"] {
        let to = format!("{NEW_ROOT}{at}");
        if !Path::new(&to).is_dir() {
            fs::create_dir_all(&to)?;
        }
        rustix::mount::mount_move(at, &to)?;
    }
    // Drivers and this program's file: what of it runs stays.
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file("/init");
    // As switch_root(8): the first root cannot be taken away, only covered.
    rustix::process::chdir(NEW_ROOT)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Mounts what programs expect of a system, where no init of the image's does.
fn around() -> io::Result<()> {
    let shared = NO_SUID | NO_DEV;
    let quiet = shared | NO_EXEC;
    for (kind, options, attributes, at) in [
        (
            "devpts",
            &[("mode", "0620"), ("gid", "5"), ("ptmxmode", "0666")][..],
            NO_SUID | NO_EXEC,
            "/dev/pts",
        ),
        ("tmpfs", &[("mode", "1777")][..], shared, "/dev/shm"),
        ("tmpfs", &[("mode", "0755")][..], shared, "/run"),
        ("mqueue", &[][..], quiet, "/dev/mqueue"),
    ] {
        let _ = fs::create_dir_all(at);
        match put(kind, options, attributes, at) {
            // A kernel without them, as some are.
            Err(e) if kind == "mqueue" && e.kind() != io::ErrorKind::InvalidInput => {}
            other => other?,
        }
    }
    // What a login shell's terminal and many scripts take for granted.
    for (link, to) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(to, link);
    }
    Ok(())
}
