//! Machines: virtual machines that stay, and their records on disk.
//!
//! ```text
//! machines/<name>/machine.json   the definition
//!                 disks/         the disks that were made for it
//!                 run/           QEMU's: sockets (monitor, vnc, console, agent) and console.log
//!                 lock           held by its keeper while it runs
//!                 running.json   the processes
//!                 faults.json    what went wrong with its disks since it was started
//!                 end.json       how it ended the last time
//!                 qemu.log       what QEMU said of itself
//! ```
//!
//! ```text
//! shut off ──start──▶ running ◀──▶ paused
//!     ▲                  │ guest or host switches off, QEMU is killed, its disk is full (paused)
//!     └──── end.json ────┘
//! ```

mod faults;
mod keeper;
mod passt;
mod share;
mod ticket;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyperion_isolation::vm::machine::target_of;
use hyperion_isolation::vm::qmp::{BlockDevice, IoStatus, Qmp, QmpError, RunState};
use hyperion_model::Name;
use hyperion_model::machine::MachineSpec;
use hyperion_sys::cgroup::Cgroup;
use hyperion_sys::tap::TapError;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use faults::{Fault, FaultKind};
pub use keeper::{Start, start};
pub use passt::passt;
pub use ticket::{Gate, Ticket, TicketError};

/// What goes wrong with machines.
#[derive(Debug, Error)]
pub enum MachineError {
    /// No machine has this name.
    #[error("there is no machine {0:?}")]
    NotFound(String),
    /// The name is taken.
    #[error("there is a machine {0} already")]
    Exists(Name),
    /// It runs, and must not for this.
    #[error("machine {0} is running")]
    Running(Name),
    /// It does not run, and must for this.
    #[error("machine {0} is not running")]
    NotRunning(Name),
    /// QEMU ended before the machine ran.
    #[error("machine {name} could not be started")]
    Start {
        /// Which.
        name: Name,
        /// QEMU's own words.
        source: Words,
    },
    /// It gets no network interface.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// QEMU's monitor.
    #[error("machine {name} does not do that")]
    Monitor {
        /// Which.
        name: Name,
        /// What QEMU says.
        source: QmpError,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A record does not hold what it should.
    #[error("the record {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// What a program said of itself.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Words(pub String);

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MachineError {
    let path = path.to_owned();
    move |source| MachineError::Io {
        action,
        path,
        source,
    }
}

/// Where a machine stands, in the words that `virsh list` has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// It is defined.
    ShutOff,
    /// Its processors run.
    Running,
    /// Its processors are stopped: asked for, or a disk is full.
    Paused,
    /// Its guest is gone: it panicked, or QEMU was killed.
    Crashed,
}

impl MachineState {
    /// Gives the word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ShutOff => "shut off",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Crashed => "crashed",
        }
    }
}

/// Where a machine stands, and why: what one look at it has seen.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Where.
    pub state: MachineState,
    /// The disks that paused it.
    pub stalls: Vec<Stall>,
    /// Its processes; none where it does not run, or is about to.
    pub running: Option<MachineRunning>,
    /// How it ended, where it does not run and somebody wrote that down.
    pub end: Option<MachineEnd>,
    /// Why nobody did.
    pub lost: Option<&'static str>,
}

/// A disk that its host could not write: the machine waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stall {
    /// The disk's target.
    pub target: String,
    /// There is no room for it; else it fails in another way.
    pub full: bool,
}

/// Finds the disks whose last access went wrong.
fn stalls(disks: Vec<BlockDevice>) -> Vec<Stall> {
    let stall = |disk: BlockDevice| {
        let full = match disk.status? {
            IoStatus::Ok => return None,
            IoStatus::Nospace => true,
            IoStatus::Failed => false,
        };
        let node = disk.inserted?.node;
        let target = target_of(&node)?.to_owned();
        Some(Stall { target, full })
    };
    disks.into_iter().filter_map(stall).collect()
}

/// The processes of a machine that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MachineRunning {
    /// When it was started.
    pub started: Timestamp,
    /// The process that keeps it.
    pub keeper: u32,
    /// QEMU's process.
    pub qemu: u32,
    /// A program stands in for the processor.
    pub emulated: bool,
    /// The network interfaces that were made for it.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// The groups that hold QEMU's limits.
    #[serde(default)]
    pub group: Cgroup,
    /// By what the kernel tells one start of the host from another.
    #[serde(default)]
    pub boot: String,
    /// When its guest crashed last and was started again, and of what.
    #[serde(default)]
    pub crashes: Vec<Crash>,
}

/// A guest crashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// When.
    pub at: Timestamp,
    /// Why, in words.
    pub why: String,
}

/// Names this start of the host.
fn boot() -> String {
    let id = hyperion_sys::kernel_file::read("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineEnd {
    /// When.
    pub at: Timestamp,
    /// It was not asked to.
    pub crashed: bool,
    /// Why, in words.
    pub why: String,
}

/// All machines below one root.
#[derive(Debug, Clone)]
pub struct Machines {
    folder: PathBuf,
}

impl Machines {
    /// Names the folder; nothing is made or read yet.
    pub fn new(root: &Path) -> Self {
        Self {
            folder: root.join("machines"),
        }
    }

    /// Makes the folder of a machine with nothing in it: a machine once
    /// [`MachineFolder::define`] has been called. Whoever fills it holds its
    /// [`MachineFolder::lock`]: what one that was killed has left is taken away.
    ///
    /// # Errors
    /// [`MachineError::Exists`].
    pub fn create(&self, name: &Name) -> Result<MachineFolder, MachineError> {
        let folder = MachineFolder {
            name: name.clone(),
            path: self.folder.join(name.as_str()),
        };
        let path = &folder.path;
        let made = make_dir(path).or_else(|e| {
            let left = e.kind() == io::ErrorKind::AlreadyExists && !folder.definition().exists();
            match left.then(|| folder.lock()) {
                Some(Ok(_lock)) => fs::remove_dir_all(path).and_then(|()| make_dir(path)),
                _ => Err(e),
            }
        });
        made.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => MachineError::Exists(name.clone()),
            _ => failed("make", path)(e),
        })?;
        Ok(folder)
    }

    /// Finds a machine by its name.
    ///
    /// # Errors
    /// [`MachineError::NotFound`].
    pub fn find(&self, name: &str) -> Result<MachineFolder, MachineError> {
        let found = name.parse().ok().and_then(|name| self.look(name));
        found.ok_or_else(|| MachineError::NotFound(name.to_owned()))
    }

    fn look(&self, name: Name) -> Option<MachineFolder> {
        let path = self.folder.join(name.as_str());
        let folder = MachineFolder { name, path };
        folder.definition().is_file().then_some(folder)
    }

    /// Lists all machines by name.
    ///
    /// # Errors
    /// [`MachineError::Io`].
    pub fn list(&self) -> Result<Vec<MachineFolder>, MachineError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed("list", &self.folder)(e)),
        };
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse::<Name>().ok());
        let mut machines: Vec<MachineFolder> = names.filter_map(|name| self.look(name)).collect();
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(machines)
    }
}

/// One machine.
#[derive(Debug, Clone)]
pub struct MachineFolder {
    /// What it is called.
    pub name: Name,
    /// Its folder.
    pub path: PathBuf,
}

impl MachineFolder {
    fn definition(&self) -> PathBuf {
        self.path.join("machine.json")
    }

    /// Gives the folder of the disks that are made for it.
    pub fn disks(&self) -> PathBuf {
        self.path.join("disks")
    }

    /// Gives the file in which UEFI keeps its variables, unless the definition names another.
    pub fn variables(&self) -> PathBuf {
        self.path.join("uefi-variables.fd")
    }

    /// Gives the folder of what QEMU makes for it.
    pub fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Gives the user and group that QEMU becomes, where this process may choose:
    /// nobody, and another one for each machine. The folders of what QEMU makes
    /// become that one's.
    fn guest_id(&self) -> Result<Option<u32>, MachineError> {
        let run = self.run();
        make_dir_again(&run).map_err(failed("make", &run))?;
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let inode = fs::metadata(&self.path).map_err(failed("read", &self.path))?;
        // Beyond the ranges of jobs, by what no other folder of this disk has now.
        let id = FIRST_ID + (inode.ino() % IDS) as u32;
        std::os::unix::fs::chown(&run, Some(id), Some(id)).map_err(failed("give away", &run))?;
        Ok(Some(id))
    }

    /// Writes the definition, in place of an older one.
    ///
    /// # Errors
    /// [`MachineError::Io`]; the older one stays.
    pub fn define(&self, spec: &MachineSpec) -> Result<(), MachineError> {
        let path = self.definition();
        let draft = self.path.join(".machine.json");
        let json = serde_json::to_vec_pretty(spec).map_err(|source| MachineError::Damaged {
            path: path.clone(),
            source,
        })?;
        let write = || -> io::Result<()> {
            let mut file = crate::jobs::private_file(&draft)?;
            file.write_all(&json)?;
            // It outlives the host's next crash: a machine is somebody's.
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&draft);
            failed("write", &path)(e)
        })
    }

    /// Reads the definition.
    ///
    /// # Errors
    /// [`MachineError::Io`], [`MachineError::Damaged`].
    pub fn spec(&self) -> Result<MachineSpec, MachineError> {
        let path = self.definition();
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| MachineError::Damaged { path, source })
    }

    /// Reads the processes; `None` when it does not run.
    pub fn running(&self) -> Option<MachineRunning> {
        let last = self.last_running()?;
        // Its keeper says how it ended before it lets go.
        (self.is_locked() && self.end().is_none()).then_some(last)
    }

    fn last_running(&self) -> Option<MachineRunning> {
        let bytes = fs::read(self.path.join("running.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Gives the name of the groups of its QEMU: nobody else's on this host.
    fn group_name(&self) -> String {
        let number = fs::metadata(&self.path).map_or(0, |meta| meta.ino());
        format!("hyperion-vm-{}-{number}", self.name)
    }

    /// Removes the groups of one whose keeper was killed. Who calls this holds the lock.
    fn remove_left_group(&self) {
        if let Some(running) = self.last_running() {
            running.group.remove();
        }
    }

    /// Reads how it ended the last time.
    pub fn end(&self) -> Option<MachineEnd> {
        let bytes = fs::read(self.path.join("end.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Reads what went wrong with its disks since it was started.
    pub fn faults(&self) -> Vec<Fault> {
        let bytes = fs::read(self.path.join(faults::FILE)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Tells where it stands.
    pub fn state(&self) -> MachineState {
        self.standing().state
    }

    /// Tells where it stands, and why.
    pub fn standing(&self) -> Standing {
        // In this order: one that ends meanwhile has not crashed.
        let running = self.last_running();
        let locked = self.is_locked();
        let mut seen = Standing {
            state: MachineState::ShutOff,
            stalls: Vec::new(),
            running: None,
            end: self.end(),
            lost: None,
        };
        match (&seen.end, running) {
            (Some(end), _) if end.crashed => seen.state = MachineState::Crashed,
            (None, running) if locked => {
                (seen.state, seen.stalls) = self.told_by_qemu();
                seen.running = running;
            }
            (None, Some(last)) => {
                seen.state = MachineState::Crashed;
                seen.lost = Some(match last.boot == boot() {
                    true => "the process that kept it was killed",
                    false => "the host went down while it ran",
                });
            }
            _ => {}
        }
        seen
    }

    /// Asks QEMU where its machine stands, and which disks keep it there.
    fn told_by_qemu(&self) -> (MachineState, Vec<Stall>) {
        let is = |state| (state, Vec::new());
        let Ok(mut monitor) = self.monitor(Duration::from_millis(500)) else {
            return is(MachineState::Running);
        };
        match monitor.status().map(|status| status.state) {
            Ok(RunState::IoError) => (
                MachineState::Paused,
                stalls(monitor.blocks().unwrap_or_default()),
            ),
            Ok(RunState::Paused | RunState::Prelaunch) => is(MachineState::Paused),
            Ok(RunState::GuestPanicked | RunState::InternalError) => is(MachineState::Crashed),
            _ => is(MachineState::Running),
        }
    }

    /// Connects to QEMU's monitor.
    ///
    /// # Errors
    /// [`MachineError::NotRunning`], [`MachineError::Monitor`].
    pub fn monitor(&self, limit: Duration) -> Result<Qmp, MachineError> {
        let socket = UnixStream::connect(self.run().join("monitor"))
            .map_err(|_| MachineError::NotRunning(self.name.clone()))?;
        Qmp::connect(socket, limit).map_err(|source| self.refused(source))
    }

    /// Tells whether the QEMU that runs has a file open.
    pub fn has_open(&self, file: &Path) -> bool {
        let (Some(running), Ok(wanted)) = (self.running(), fs::metadata(file)) else {
            return false;
        };
        let files = fs::read_dir(format!("/proc/{}/fd", running.qemu));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| {
            let found = fs::metadata(file.path());
            found.is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
        })
    }

    /// Says that QEMU's monitor refused something.
    pub fn refused(&self, source: QmpError) -> MachineError {
        MachineError::Monitor {
            name: self.name.clone(),
            source,
        }
    }

    /// Kills QEMU, whatever it is doing. Its keeper writes down how it ended.
    ///
    /// # Errors
    /// [`MachineError::NotRunning`], [`MachineError::Io`].
    pub fn kill(&self) -> Result<(), MachineError> {
        let qemu = || Pid::from_raw(self.running()?.qemu.cast_signed());
        let none = || MachineError::NotRunning(self.name.clone());
        let pid = qemu().ok_or_else(none)?;
        let held = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| none())?;
        // As long as its keeper knows it by this number, the number is its own.
        if qemu() != Some(pid) {
            return Err(none());
        }
        pidfd_send_signal(held, Signal::KILL).map_err(|e| failed("kill", &self.path)(e.into()))
    }

    fn lock_path(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Tells whether a keeper keeps it.
    pub fn is_locked(&self) -> bool {
        let Ok(file) = File::open(self.lock_path()) else {
            return false;
        };
        flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// Takes the lock: as long as the file is open, nobody starts the machine.
    ///
    /// # Errors
    /// [`MachineError::Running`].
    pub fn lock(&self) -> Result<File, MachineError> {
        let path = self.lock_path();
        let file = crate::jobs::private_file(&path).map_err(failed("open", &path))?;
        let since = Instant::now();
        while flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            // Else its keeper is about to let go, or somebody has only looked.
            let runs = self.is_locked() && self.end().is_none();
            if runs || since.elapsed() > LETS_GO {
                return Err(MachineError::Running(self.name.clone()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(file)
    }

    /// Removes the machine and the disks that were made for it. Disks that lie
    /// elsewhere are left alone.
    ///
    /// # Errors
    /// [`MachineError::Running`].
    pub fn delete(&self) -> Result<(), MachineError> {
        let _lock = self.lock()?;
        self.remove_left_group();
        // First what makes it a machine: a crash leaves none that lacks a disk.
        let definition = self.definition();
        match fs::remove_file(&definition) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &definition)(e));
            }
            _ => {}
        }
        fs::remove_dir_all(&self.path).map_err(failed("remove", &self.path))
    }
}

/// How long a keeper may take that has said how its machine ended.
const LETS_GO: Duration = Duration::from_secs(5);

/// The first of the users that QEMU becomes for root, and how many there are.
const FIRST_ID: u32 = (1 << 30) + 16_000 * 65_536;
const IDS: u64 = 1 << 24;

fn make_dir_again(path: &Path) -> io::Result<()> {
    match make_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Makes a folder that is nobody else's, with what is missing above it.
fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut private = fs::DirBuilder::new();
    private.mode(0o700);
    match private.create(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().unwrap_or(path);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(above)?;
            private.create(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(folder: &Path) -> MachineFolder {
        let name = "box".parse().expect("a name");
        let made = Machines::new(folder).create(&name).expect("made");
        let keeper = json(
            r#"{"started": "2026-01-01T00:00:00Z", "keeper": 1, "qemu": 2, "emulated": true}"#,
        );
        keeper::write(&made.path, "running.json", &keeper).expect("written");
        made
    }

    fn json(text: &str) -> serde_json::Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn what_has_ended_runs_no_more_though_its_keeper_has_not_let_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = machine(folder.path());
        let keeper = machine.lock().expect("free");
        let seen = machine.standing();
        assert_eq!(seen.state, MachineState::Running);
        assert_eq!(seen.running.map(|r| r.qemu), Some(2));
        assert!(matches!(machine.lock(), Err(MachineError::Running(_))));

        let end = json(r#"{"at": "2026-01-01T00:00:00Z", "crashed": false, "why": "it is over"}"#);
        keeper::write(&machine.path, "end.json", &end).expect("written");
        let seen = machine.standing();
        assert_eq!(seen.state, MachineState::ShutOff);
        assert!(seen.running.is_none() && machine.running().is_none());
        assert_eq!(seen.end.expect("told").why, "it is over");

        // Who wants to start it again waits for the keeper.
        let next = std::thread::spawn({
            let machine = machine.clone();
            move || machine.lock().map(drop)
        });
        std::thread::sleep(Duration::from_millis(20));
        drop(keeper);
        next.join().expect("no panic").expect("free");
    }

    #[test]
    fn one_whose_keeper_was_killed_has_crashed() {
        let folder = tempfile::tempdir().expect("a folder");
        let seen = machine(folder.path()).standing();
        assert_eq!(seen.state, MachineState::Crashed);
        assert_eq!(seen.lost, Some("the host went down while it ran"));
        assert!(seen.running.is_none() && seen.end.is_none());
    }

    #[test]
    fn who_looks_keeps_nobody_from_starting() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = machine(folder.path());
        let looks = File::open(machine.lock_path());
        assert!(looks.is_err(), "nobody has locked it yet");
        drop(machine.lock().expect("free"));
        let looks = File::open(machine.lock_path()).expect("there");
        flock(&looks, FlockOperation::NonBlockingLockShared).expect("free");
        let start = std::thread::spawn(move || machine.lock().map(drop));
        std::thread::sleep(Duration::from_millis(20));
        drop(looks);
        start.join().expect("no panic").expect("free");
    }
}
