//! The host's side of a job's machine: the process that runs QEMU and carries
//! the talk between the supervisor and the init in the guest.
//!
//! To the supervisor it stands where the init stands in a container: it ends
//! with its supervisor, and QEMU ends with it.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyperion_model::report::Exit;
use hyperion_sys::caps::CapSet;
use hyperion_sys::cgroup::Entrance;
use hyperion_sys::process::{self, Program};
use hyperion_sys::signals;
use hyperion_sys::userns::{self, UsernsError};
use rustix::event::Timespec;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::folders::{Share, host as folders};
use super::monitor::Monitor;
use super::qemu::{self, Disk, Folders};
use super::relay::{CLOCK_EVERY, Course, Relay, Side};
use super::warm::{self, Beginning, Memory};
use super::{Boot, MachineEnd};
use crate::Taken;
use crate::protocol::{Event, Reply};
use crate::wire::Wire;

/// How long QEMU may take to end when it has closed its port.
const CLOSING: Duration = Duration::from_secs(2);
/// How much of the end of what the guest's console said is kept, in bytes.
const KEPT: usize = 16 << 10;
/// How many pieces of it are heard at a turn, before others have theirs.
const PIECES: usize = 16;
/// How long a machine may take to be read from memory, on a host that is busy with others.
const RESUMES: Duration = Duration::from_secs(20);
/// How often a machine begins anew whose kernel has found no timer.
const RESTARTS: u32 = 20;
/// What a kernel begins to say at its end.
const PANIC: &str = "Kernel panic";
/// How often the time is looked at while a guest comes up, and how long it must
/// be quiet before this process goes to rest.
pub(super) const TICK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// How often it is told the time while all rest.
const CLOCK_TICK: Timespec = Timespec {
    tv_sec: CLOCK_EVERY.as_secs().cast_signed(),
    tv_nsec: 0,
};

/// What is started.
pub(super) struct Start {
    /// QEMU's words, the program first.
    pub(super) words: Vec<String>,
    /// The image as one file.
    pub(super) image: OwnedFd,
    /// The kernel and its first root.
    pub(super) files: [PathBuf; 2],
    /// The host's processor for each of the machine's, where they are tied.
    pub(super) seats: Vec<u32>,
    /// The user and group that QEMU becomes, where this process may choose.
    pub(super) id: Option<u32>,
    /// Folders of the host that the guest sees, by the number of their tag.
    pub(super) shares: Vec<Share>,
    /// How they come in.
    pub(super) folders: Folders,
    /// The user and group whose this process is, where it has namespaces of its own
    /// for QEMU to share folders from.
    pub(super) owner: Option<(u32, u32)>,
    /// What the machine can hold of what it writes, in bytes.
    pub(super) holds: u64,
    /// How long the machine may give no sign of life.
    pub(super) patience: Duration,
    /// A folder for what is needed while the machine goes up.
    pub(super) stage: PathBuf,
    /// Its way into the network between the nodes of its job.
    pub(super) port: Option<Rc<OwnedFd>>,
    /// Room for what the job writes.
    pub(super) disk: Option<Disk>,
    /// A folder for what machines like it are once they are up.
    pub(super) warm: Option<PathBuf>,
    /// The first message to the guest.
    pub(super) boot: Boot,
}

impl Start {
    /// Ends the names of what cannot take its place on the host.
    fn tag(&self) -> String {
        let spec = &self.boot.spec;
        match &spec.node {
            Some(place) => format!("{}-{}", spec.id, place.number),
            None => spec.id.to_string(),
        }
    }
}

/// Runs in a copy of the supervisor; never returns.
pub(super) fn run(neighbour: Wire, start: &Start) -> ! {
    process::rename(c"hyperion-vm");
    let ended = keep(neighbour, start);
    process::exit_now(u8::from(ended.is_err()))
}

/// Keeps the machine until it or the supervisor ends.
fn keep(neighbour: Wire, start: &Start) -> io::Result<()> {
    signals::die_with_parent()?;
    let mut own = vec![neighbour.as_fd(), start.image.as_fd()];
    own.extend(start.port.iter().map(|port| port.as_fd()));
    process::close_all_but(&own)?;
    let (ways, its) = Ways::open()?;
    let mut relay = Relay::new(Side::Host, neighbour, Wire::new(ways.port.try_clone()?));
    let read = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut read_only = vec![start.image.try_clone()?];
    for path in &start.files {
        match rustix::fs::open(path, read, Mode::empty()) {
            Ok(file) => read_only.push(file),
            Err(e) => return relay.fail(format!("opening {}", path.display()), &e.into()),
        }
    }
    let beginning = match &start.warm {
        Some(folder) => warm::beginning(folder, &start.words, &read_only),
        None => Beginning::Cold,
    };
    let mut files = its.among(read_only);
    if let Some(port) = &start.port {
        files.push(port.try_clone()?);
    }
    if let Some((uid, gid)) = start.owner
        && let Err(e) = own_namespace(uid, gid)
    {
        return relay.fail("making the namespace of QEMU".into(), &e);
    }
    for (i, share) in start.shares.iter().enumerate() {
        let lent = match &start.folders {
            Folders::Virtiofs(program) => folders::lend(program, &start.stage, i, share).map(Some),
            Folders::Ninep => folders::show(&start.stage, i, share).map(|_| None),
            Folders::Copied { .. } => Ok(None),
        };
        match lent {
            Ok(socket) => files.extend(socket),
            Err(e) => {
                let step = format!("sharing {} with the machine", share.source.display());
                return relay.fail(step, &e);
            }
        }
    }
    if start.owner.is_some() {
        // Nobody needs the powers of that namespace any more, QEMU the least.
        let none = CapSet::default();
        if let Err(e) = none.limit_bounding().and_then(|()| none.apply()) {
            return relay.fail("giving up the powers of QEMU's namespace".into(), &e);
        }
    }
    if let Some(disk) = &start.disk {
        match room(disk, &start.stage) {
            Ok(file) => files.push(file),
            Err(e) => return relay.fail("making the disk for what the job writes".into(), &e),
        }
    }
    let mut boot = start.boot.clone();
    let mut copies = None;
    let mut changes = None;
    if let (Folders::Copied { files: most }, true) = (&start.folders, !start.shares.is_empty()) {
        let made = match folders::copy(&start.shares, &start.stage, boot.form, *most) {
            Ok(made) => made,
            Err((step, e)) => return relay.fail(step, &e),
        };
        files.push(made.disk.try_clone()?);
        boot.copies = Some(made.sum);
        copies = Some(made);
        if boot.brings_out() {
            let (ours, its) = pair()?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            files.push(its);
            changes = Some(ours);
        }
    }
    boot.warm = !matches!(beginning, Beginning::Cold);
    boot.seed = warm::seed()?;
    let mut draft = None;
    let begun = match beginning {
        Beginning::From(memory) => resume(start, &mut relay, ways, files, memory),
        Beginning::Draft(made) => {
            draft = Some(made);
            Begun::launch(start, ways, files)
        }
        Beginning::Cold => Begun::launch(start, ways, files),
    };
    let Begun {
        qemu,
        end,
        mut said,
        mut monitor,
    } = match begun {
        Ok(begun) => begun,
        Err(e) => {
            let program = start.words.first().map_or("", String::as_str);
            return relay.fail(format!("starting {program}"), &e);
        }
    };
    if draft.is_none() {
        relay.begin(&mut boot)?;
    }
    let mut silence = Silence::default();
    let mut rests = false;
    let mut restarts = 0;
    let mut hung = false;
    let turned = loop {
        let limit = if rests { CLOCK_TICK } else { TICK };
        let mut watched = vec![end.as_fd(), said.console.as_fd()];
        watched.extend(monitor.fd());
        let (course, ready) = match relay.turn(&watched, Some(&limit)) {
            Ok(turn) => turn,
            Err(e) => break Turn::of(e)?,
        };
        silence.goes_on();
        if ready[1] && said.hear() {
            silence = Silence::default();
        }
        if !relay.has_heard()
            && restarts < RESTARTS
            && said.find(qemu::NO_TIMER).is_some()
            && monitor.begin_anew()
        {
            restarts += 1;
            said.end.clear();
        }
        if ready.get(2) == Some(&true)
            && let Some(why) = monitor.hear(qemu)
        {
            break Turn::Because(why);
        }
        // As it is now it could be anybody's; then it learns whose it is.
        if (monitor.has_opened() || monitor.is_gone())
            && let Some(made) = draft.take()
        {
            let file = made.file.try_clone()?.into();
            if monitor.write_down(file) {
                made.keep();
            }
            relay.begin(&mut boot)?;
        }
        // On its way up nobody is inside yet who could end by himself.
        if relay.is_left() || (relay.is_stopping() && !relay.has_heard()) {
            break Turn::Asked;
        }
        if let (true, Some(port), Some(copies)) = (relay.is_collecting(), &changes, &mut copies) {
            let changes = folders::Changes {
                relay: &mut relay,
                port,
                end: &end,
                said: &mut said,
                patience: start.patience,
            };
            let taken = folders::bring(copies, changes, start.tag(), start.holds);
            break Turn::Collected(taken);
        }
        if course == Course::Over {
            break match relay.is_stopping() {
                true => Turn::Asked,
                false => Turn::InitEnded,
            };
        }
        if ready[0] {
            break Turn::MachineEnded;
        }
        if !relay.has_heard() && silence.lasted > start.patience / 2 && !hung {
            // A kernel that stands still has done nothing for anybody yet.
            hung = true;
            if monitor.begin_anew() {
                silence = Silence::default();
            }
        }
        if !relay.has_heard() && silence.lasted > start.patience {
            break Turn::Silent;
        }
        let rested = std::mem::replace(&mut rests, relay.has_heard() && relay.is_idle());
        if rests && !rested {
            // Just before the long sleep: what runs in between comes back into memory.
            process::drop_idle_code();
        }
    };
    let by_itself = matches!(turned, Turn::MachineEnded) && process::ends_within(qemu, CLOSING)?;
    let _ = signals::send(qemu, signals::SIGKILL);
    let exit = process::wait_for(qemu)?.exit;
    said.hear();
    let why = match turned {
        Turn::Asked => return Ok(()),
        Turn::Collected(taken) => return relay.finish(&Reply::Event(Event::Collected(taken))),
        Turn::InitEnded => MachineEnd::InitEnded,
        Turn::Nonsense => MachineEnd::Nonsense,
        Turn::Because(why) => why,
        Turn::Silent => MachineEnd::Silent {
            limit: start.patience,
            said: said.last_words(),
        },
        Turn::MachineEnded => {
            relay.hear_rest();
            match exit {
                Exit::Signal(signal) if by_itself => MachineEnd::Killed {
                    signal: signal.into(),
                },
                Exit::Code(code @ 1..) => gave_up(start, code, &relay, &said),
                _ if monitor.was_told(qemu) => MachineEnd::Told,
                _ => said.panic().unwrap_or_else(|| MachineEnd::Off {
                    said: said.last_words(),
                }),
            }
        }
    };
    relay.finish(&Reply::Gone { why })
}

/// The ways to a QEMU: to its guest's init, to what its guest and it say, and to itself.
struct Ways {
    port: OwnedFd,
    console: OwnedFd,
    monitor: OwnedFd,
}

impl Ways {
    /// Makes them; gives both ends.
    fn open() -> io::Result<(Self, Self)> {
        let ((port, its_port), (console, its_console)) = (pair()?, pair()?);
        let (monitor, its_monitor) = pair()?;
        let ours = Self {
            port,
            console,
            monitor,
        };
        let its = Self {
            port: its_port,
            console: its_console,
            monitor: its_monitor,
        };
        Ok((ours, its))
    }

    /// Puts QEMU's ends in their places among the files that it reads.
    fn among(self, read: Vec<OwnedFd>) -> Vec<OwnedFd> {
        let mut files = vec![self.port, self.console];
        files.extend(read);
        files.push(self.monitor);
        files
    }
}

/// A QEMU that runs.
struct Begun {
    qemu: Pid,
    end: OwnedFd,
    said: Said,
    monitor: Monitor,
}

impl Begun {
    /// Starts it on its files.
    fn launch(start: &Start, ways: Ways, files: Vec<OwnedFd>) -> io::Result<Self> {
        Self::with(start, &start.words, ways, files)
    }

    fn with(start: &Start, words: &[String], ways: Ways, files: Vec<OwnedFd>) -> io::Result<Self> {
        let qemu = launch(words, files, start.id)?;
        Ok(Self {
            qemu,
            end: pidfd_open(qemu, PidfdFlags::empty())?,
            said: Said::new(ways.console)?,
            monitor: Monitor::new(ways.monitor, start.seats.clone()),
        })
    }
}

/// Lets a machine go on from what was written down; one that cannot begins with its kernel.
fn resume(
    start: &Start,
    relay: &mut Relay,
    ways: Ways,
    files: Vec<OwnedFd>,
    memory: Memory,
) -> io::Result<Begun> {
    let again: Vec<OwnedFd> = files[2..5]
        .iter()
        .map(OwnedFd::try_clone)
        .collect::<Result<_, _>>()?;
    let mut words = start.words.clone();
    words.extend(["-incoming".into(), format!("fd:{}", 3 + files.len())]);
    let mut files = files;
    files.push(memory.file.try_clone()?);
    let mut begun = Begun::with(start, &words, ways, files)?;
    if begun.monitor.sees_it_run(RESUMES) {
        return Ok(begun);
    }
    let _ = signals::send(begun.qemu, signals::SIGKILL);
    process::wait_for(begun.qemu)?;
    memory.forget();
    let (ways, its) = Ways::open()?;
    relay.reach(Wire::new(ways.port.try_clone()?));
    Begun::launch(start, ways, its.among(again))
}

/// Becomes root of a namespace without anybody else: QEMU then gives the guest its
/// user's files as root's, and those of others as nobody's, as a container has them.
fn own_namespace(uid: u32, gid: u32) -> io::Result<()> {
    userns::map_itself(uid, gid).map_err(|e| match e {
        UsernsError::Map { source, .. } => source,
        other => io::Error::other(other),
    })
}

/// How long nothing was said by a machine that could have said something: while this
/// process could not run (its host is suspended, or itself a machine that is) the
/// machine could not either.
struct Silence {
    lasted: Duration,
    looked: Instant,
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            lasted: Duration::ZERO,
            looked: Instant::now(),
        }
    }
}

impl Silence {
    /// Counts the time since the last look, of which there is one with each tick.
    fn goes_on(&mut self) {
        let most = 2 * Duration::from_secs(TICK.tv_sec.unsigned_abs());
        self.lasted += self.looked.elapsed().min(most);
        self.looked = Instant::now();
    }
}

/// What a machine came to.
enum Turn {
    /// The supervisor is gone, or wants no more of it.
    Asked,
    MachineEnded,
    InitEnded,
    Nonsense,
    Silent,
    /// QEMU has said why.
    Because(MachineEnd),
    /// All is out that will be.
    Collected(Taken),
}

impl Turn {
    /// Tells what an error of the relay means.
    fn of(error: io::Error) -> io::Result<Self> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData, UnexpectedEof};
        match error.kind() {
            UnexpectedEof | BrokenPipe | ConnectionReset => Ok(Self::MachineEnded),
            InvalidData => Ok(Self::Nonsense),
            _ => Err(error),
        }
    }
}

/// Says why QEMU gave up. Its version is asked only now: it takes as long as a start.
fn gave_up(start: &Start, code: u8, relay: &Relay, said: &Said) -> MachineEnd {
    let said = said.last_words();
    let old = (!relay.has_heard())
        .then(|| version(start.words.first()?))
        .flatten()
        .filter(|version| qemu::is_too_old(version));
    match old {
        Some(found) => MachineEnd::TooOld { found, said },
        None => MachineEnd::Failed { code, said },
    }
}

/// Asks QEMU for its version.
fn version(program: &str) -> Option<String> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    let words = [program.to_owned(), "--version".into()];
    let pid = execute(&words, &write, &[], None).ok()?;
    drop(write);
    let mut text = String::new();
    let told = File::from(read).take(4096).read_to_string(&mut text);
    let _ = process::wait_for(pid);
    told.ok()?;
    qemu::version(&text).map(str::to_owned)
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Starts QEMU on what it is to have open. What it says of itself goes where its guest's console does.
fn launch(words: &[String], files: Vec<OwnedFd>, id: Option<u32>) -> io::Result<Pid> {
    let [_, console, ..] = &files[..] else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    execute(words, console, &files, id)
}

/// Starts a program of the host's beside the machine: these are its descriptors
/// from 3 on, and what it says goes to the console.
pub(super) fn execute(
    words: &[String],
    console: &OwnedFd,
    files: &[OwnedFd],
    id: Option<u32>,
) -> io::Result<Pid> {
    let words = words.iter().map(|word| CString::new(word.as_str()));
    let words = words.collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(words, vec![c"PATH=/usr/bin:/bin".into()], "/usr/bin:/bin")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut fds = vec![null.as_fd(), console.as_fd(), console.as_fd()];
    fds.extend(files.iter().map(AsFd::as_fd));
    program.start_beside(&fds, None, &Entrance::default(), id)
}

/// Makes a file that goes when nobody has it open any more.
pub(super) fn nameless(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?)
}

/// Makes a disk with an empty file system. It has no name: it goes with the machine.
fn room(disk: &Disk, stage: &Path) -> io::Result<OwnedFd> {
    let file = nameless(stage)?;
    // All of it at once: what a guest has written and a full host then refuses is
    // lost without a word to whoever wrote it.
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, disk.size.0)?;
    let mut words = vec![disk.mkfs.display().to_string()];
    // A crash of the machine is the end of what is on it: nothing has to be found again.
    let options = ["-q", "-F", "-O", "^has_journal,^resize_inode", "-m", "0"];
    words.extend(options.map(str::to_owned));
    let lazy = ["-E", "lazy_itable_init=1,nodiscard", "/proc/self/fd/3"];
    words.extend(lazy.map(str::to_owned));
    let quiet = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let files = [file];
    let made = execute(&words, &quiet, &files, None)?;
    let [file] = files;
    match process::wait_for(made)?.exit {
        Exit::Code(0) => Ok(file),
        _ => Err(rustix::io::Errno::IO.into()),
    }
}

/// What came from the console: of the guest's kernel and of QEMU itself.
pub(super) struct Said {
    pub(super) console: OwnedFd,
    end: VecDeque<u8>,
}

impl Said {
    fn new(console: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&console, true)?;
        Ok(Self {
            console,
            end: VecDeque::new(),
        })
    }

    /// Takes what has come; tells whether anything has.
    pub(super) fn hear(&mut self) -> bool {
        let mut piece = [0; 4096];
        let mut heard = false;
        for _ in 0..PIECES {
            let Ok(got @ 1..) = rustix::io::read(&self.console, &mut piece) else {
                break;
            };
            heard = true;
            self.end.extend(&piece[..got]);
            let over = self.end.len().saturating_sub(KEPT);
            self.end.drain(..over);
        }
        heard
    }

    /// Gives the last lines.
    fn last_words(&self) -> Option<super::Said> {
        let (first, second) = self.end.as_slices();
        super::Said::last(&[first, second].concat())
    }

    /// Finds the words in what was said.
    fn find(&mut self, words: &str) -> Option<usize> {
        let said = self.end.make_contiguous();
        said.windows(words.len())
            .position(|w| w == words.as_bytes())
    }

    /// Tells what the kernel said when it panicked, if it did.
    fn panic(&mut self) -> Option<MachineEnd> {
        let at = self.find(PANIC)?;
        let all = self.end.make_contiguous();
        Some(MachineEnd::Panicked {
            said: super::Said::first(&all[at..]),
        })
    }
}

impl Relay {
    /// Tells a guest that is up whose it is, and what time it is.
    fn begin(&mut self, boot: &mut Boot) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        boot.now = now.unwrap_or_default();
        self.other.queue(boot)
    }

    /// Tells the supervisor why there is no machine.
    fn fail(&mut self, step: String, error: &io::Error) -> io::Result<()> {
        let errno = error
            .raw_os_error()
            .unwrap_or(rustix::io::Errno::IO.raw_os_error());
        self.finish(&Reply::SetupFailed { step, errno })
    }
}
