//! Drivers of a machine of an image: all modules of its kernel lie on a disk of their own,
//! and are loaded for the devices that the kernel finds, now and later, and when it asks
//! for a file system, a protocol or the like. Where the image has programs for that, they
//! find the modules where they look for them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hyperion_image::layer::erofs::Form;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::signals;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink, socket_with};
use rustix::process::{Pid, getpid};

use super::service::OFF;
use super::{MODULES_SERIAL, say};
use crate::vm::guest::{disk, put_file};
use crate::vm::kernel::{DeviceFile, Library};

/// What the kernel executes when it lacks something.
const ASKED: &str = "/proc/sys/kernel/modprobe";
/// By which programs of the image do the same.
const MODPROBE: &str = "/sbin/modprobe";
/// The bus of processors: what serves them makes some things faster, and takes its time.
const PROCESSORS: &str = "cpu";
/// Where keyboards and buttons are read.
const INPUTS: &str = "/dev/input";

/// Where the modules of the kernel that runs belong.
fn folder() -> PathBuf {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    Path::new("/lib/modules").join(release)
}

/// Mounts the disk with the modules, unless the image brings them.
pub(super) fn mount() {
    let Ok(device) = disk(MODULES_SERIAL) else {
        return;
    };
    let at = folder();
    if at.join("modules.dep").exists() {
        return;
    }
    let _ = fs::create_dir_all(&at);
    let put = |form| put_file(form, &device, &at.to_string_lossy(), "mounting the modules");
    if let Err(failure) = put(Form::Erofs).or_else(|_| put(Form::Ext4)) {
        say(format_args!("{} failed: {}", failure.step, failure.error));
    }
}

/// Says to the kernel that this program loads what it lacks, where the image has none.
pub(super) fn offer() {
    if !Path::new(MODPROBE).exists() {
        let _ = fs::write(ASKED, format!("/proc/{}/exe", getpid()));
    }
}

/// Loads a module that the kernel asks for, where this process was started by it.
pub(crate) fn entry(name: &Path, words: &[OsString]) -> Option<ExitCode> {
    let number = name.strip_prefix("/proc").ok()?.parent()?.to_str()?;
    let [quiet, end, asked] = words else {
        return None;
    };
    if number.parse::<u32>().is_err() || quiet != "-q" || end != "--" {
        return None;
    }
    let loaded = Library::open(folder()).map(|library| load(&library, asked.to_str()?).ok());
    Some(match loaded.flatten() {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    })
}

/// Loads what serves something, if anything does.
fn load(library: &Library, asked: &str) -> io::Result<()> {
    for module in library.serving(asked)? {
        match rustix::system::init_module(&module, c"") {
            // Two devices of a kind are found at once, and a driver may want none here.
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The devices of this machine, and news of them.
pub(super) struct Devices {
    library: Option<Library>,
    news: Option<OwnedFd>,
}

impl Devices {
    /// Loads the drivers of what is there.
    pub(super) fn found() -> Self {
        let library = Library::open(folder());
        let files = library.iter().flat_map(Library::device_files);
        files.for_each(|file| make(&file));
        let devices = Self {
            library,
            // Before they are looked through, so that none comes in between.
            news: news().ok(),
        };
        let buses = entries("/sys/bus").filter(|bus| !bus.ends_with(PROCESSORS));
        let of_buses = buses.flat_map(|bus| entries(bus.join("devices")));
        for device in of_buses.chain(entries("/sys/class/input")) {
            if let Ok(alias) = fs::read_to_string(device.join("modalias"))
                && !device.join("driver").exists()
            {
                devices.load(alias.trim());
            }
        }
        devices
    }

    fn load(&self, alias: &str) {
        let Some(library) = &self.library else { return };
        if let Err(e) = load(library, alias) {
            say(format_args!("a driver for {alias} was not loaded: {e}"));
        }
    }

    /// Loads the drivers of what comes, as long as the machine runs, and hears the button
    /// by which a machine is switched off, where no init of the image's does.
    pub(super) fn follow(&self, own_init: bool) {
        let hear = |button: PathBuf| {
            if !own_init && let Ok(button) = File::open(button) {
                std::thread::spawn(|| pressed(button));
            }
        };
        let is_event = |name: &str| name.starts_with("event");
        entries(INPUTS)
            .filter(|input| {
                input
                    .file_name()
                    .and_then(|n| n.to_str())
                    .is_some_and(is_event)
            })
            .for_each(hear);
        let mut said = vec![0; 16 << 10];
        while let Some(news) = &self.news {
            let got = match rustix::net::recv(news, said.as_mut_slice(), RecvFlags::empty()) {
                Ok((got, _)) => got,
                // Some were lost: what they told of is loaded when it is asked for.
                Err(Errno::NOBUFS | Errno::INTR) => continue,
                Err(_) => return,
            };
            let text = String::from_utf8_lossy(&said[..got]).into_owned();
            let value = |key: &str| text.split('\0').find_map(|field| field.strip_prefix(key));
            if value("ACTION=") != Some("add") {
                continue;
            }
            if let Some(alias) = value("MODALIAS=") {
                self.load(alias);
            }
            // One that was added waits to be taken into use.
            if let (Some("cpu"), Some(path)) = (value("SUBSYSTEM="), value("DEVPATH=")) {
                let _ = fs::write(format!("/sys{path}/online"), "1");
            }
            if let Some(name) = value("DEVNAME=input/").filter(|name| is_event(name)) {
                hear(Path::new(INPUTS).join(name));
            }
        }
    }
}

/// Makes a file of /dev whose module is loaded when somebody opens it.
fn make(file: &DeviceFile) {
    let path = Path::new("/dev").join(&file.name);
    let kind = match file.block {
        true => FileType::BlockDevice,
        false => FileType::CharacterDevice,
    };
    // What everybody may use, the driver says when it is there.
    let mode = Mode::from_raw_mode(0o600);
    let (major, minor) = file.number;
    let _ = fs::create_dir_all(path.parent().unwrap_or(Path::new("/dev")));
    let _ = mknodat(CWD, &path, kind, mode, makedev(major, minor));
}

fn entries(folder: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Opens the socket on which the kernel tells of devices.
fn news() -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let protocol = Some(netlink::KOBJECT_UEVENT);
    let socket = socket_with(family, SocketType::DGRAM, flags, protocol)?;
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 1))?;
    Ok(socket)
}

/// Asks the init to end the machine whenever its button is pressed.
fn pressed(mut button: File) {
    /// Of an event (the kernel's uapi/linux/input.h): the time, what has happened, to
    /// which key, and how.
    const EVENT: usize = 24;
    const KEY: u16 = 1;
    const POWER: u16 = 116;
    let mut event = [0; EVENT];
    while button.read_exact(&mut event).is_ok() {
        let short = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
        if (short(16), short(18), short(20)) == (KEY, POWER, 1) {
            let _ = signals::send(Pid::INIT, OFF);
        }
    }
}
