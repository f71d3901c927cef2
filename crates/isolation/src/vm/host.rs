//! The host's side of a job's machine: the process that runs QEMU and carries
//! the talk between the supervisor and the init in the guest.
//!
//! To the supervisor it stands where the init stands in a container: it ends
//! with its supervisor, and QEMU ends with it.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyperion_sys::mount::{self, Change, NO_DEV, NO_SUID, READ_ONLY};
use hyperion_sys::process::{self, Program};
use hyperion_sys::signals;
use rustix::event::Timespec;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::qemu::share_tag;
use super::relay::{Course, Relay, Side};
use super::{Boot, FILE};
use crate::protocol::Reply;
use crate::wire::Wire;

/// How long a guest on its way up may say nothing at all.
const SILENCE: Duration = Duration::from_secs(60);
/// How much of the end of what the guest's console said is kept, in bytes.
const KEPT: usize = 8 << 10;
/// How often the time is looked at while a guest comes up.
const TICK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// What is started.
pub(super) struct Start {
    /// QEMU's words, the program first.
    pub(super) words: Vec<String>,
    /// The image as one file, the kernel and its first root.
    pub(super) files: [PathBuf; 3],
    /// The user and group that QEMU becomes, where this process may choose.
    pub(super) id: Option<u32>,
    /// Folders of the host that the guest sees, by the number of their tag.
    pub(super) shares: Vec<Share>,
    /// The program that shares them.
    pub(super) virtiofsd: Option<PathBuf>,
    /// A folder for what is needed while the machine goes up.
    pub(super) stage: PathBuf,
    /// The first message to the guest.
    pub(super) boot: Boot,
}

/// A folder of the host that a guest sees.
pub(super) struct Share {
    pub(super) source: PathBuf,
    pub(super) read_only: bool,
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
    let neighbour = Wire::new(process::keep_only(neighbour.into_socket(), FIRST)?);
    let (port, its_port) = pair()?;
    let (console, its_console) = pair()?;
    let mut port = Wire::new(port);
    port.send(&start.boot, &[])?;
    let mut relay = Relay::new(Side::Host, neighbour, port);
    let read = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut files = vec![its_port, its_console];
    for path in &start.files {
        match rustix::fs::open(path, read, Mode::empty()) {
            Ok(file) => files.push(file),
            Err(e) => return relay.fail(format!("opening {}", path.display()), &e.into()),
        }
    }
    for (i, share) in start.shares.iter().enumerate() {
        match lend(start, i, share) {
            Ok(socket) => files.push(socket),
            Err(e) => {
                let step = format!("sharing {} with the machine", share.source.display());
                return relay.fail(step, &e);
            }
        }
    }
    let qemu = match launch(start, files) {
        Ok(pid) => pid,
        Err(e) => {
            let program = start.words.first().map_or("", String::as_str);
            return relay.fail(format!("starting {program}"), &e);
        }
    };
    let end = pidfd_open(qemu, PidfdFlags::empty())?;
    let mut said = Said::new(console)?;
    let mut since = Instant::now();
    let course = loop {
        let limit = (!relay.has_heard()).then_some(TICK);
        let watched = [end.as_fd(), said.console.as_fd()];
        let turn = relay.turn(&watched, limit.as_ref());
        let (course, ready) = match turn {
            Ok(turn) => turn,
            Err(e) => break Err(e),
        };
        if ready[1] && said.hear() {
            since = Instant::now();
        }
        if course == Course::Over || relay.is_left() {
            break Ok(());
        }
        if ready[0] {
            break Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !relay.has_heard() && since.elapsed() > SILENCE {
            break Err(io::ErrorKind::TimedOut.into());
        }
    };
    let _ = signals::send(qemu, signals::SIGKILL);
    let _ = process::wait_for(qemu);
    if let Err(e) = course {
        // QEMU closes its port when it ends, and its console may still say why.
        said.hear();
        if relay.has_heard() {
            return Err(e);
        }
        let what = match e.kind() {
            io::ErrorKind::TimedOut => "booting the virtual machine (no sign of life)",
            _ => "booting the virtual machine (it ended)",
        };
        return relay.fail(format!("{what}{}", said.last_words()), &e);
    }
    Ok(())
}

/// The number of the first descriptor above the standard streams.
const FIRST: i32 = 3;

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
fn launch(start: &Start, files: Vec<OwnedFd>) -> io::Result<Pid> {
    let [_, console, ..] = &files[..] else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    execute(&start.words, console, &files, start.id)
}

/// Starts a program of the host's beside the machine: these are its descriptors
/// from 3 on, and what it says goes to the console.
fn execute(
    words: &[String],
    console: &OwnedFd,
    files: &[OwnedFd],
    id: Option<u32>,
) -> io::Result<Pid> {
    let words = words.iter().map(|word| CString::new(word.as_str()));
    let words = words.collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(words, vec![c"PATH=/usr/bin:/bin".into()], "/usr/bin:/bin")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let become_it = program.become_it();
    let mut fds = vec![null.as_fd(), console.as_fd(), console.as_fd()];
    fds.extend(files.iter().map(AsFd::as_fd));
    let (pid, failure) = process::spawn(|| {
        signals::reset();
        let prepared = process::install_fds(&fds)
            .and_then(|()| id.map_or(Ok(()), become_nobody))
            // After: a change of ids takes it back.
            .and_then(|()| signals::die_with_parent());
        match prepared {
            Ok(()) => become_it(),
            Err(e) => e,
        }
    })?;
    match failure {
        None => Ok(pid),
        Some(e) => {
            let _ = process::wait_for(pid);
            Err(e)
        }
    }
}

/// Starts the program that shares one folder; gives QEMU's way to it.
///
/// The folder is taken through a mount of this process's own, so that what is to
/// be read only cannot be written through it, whatever the guest becomes.
fn lend(start: &Start, number: usize, share: &Share) -> io::Result<OwnedFd> {
    let Some(virtiofsd) = &start.virtiofsd else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    if number == 0 {
        mount::isolate_propagation(false)?;
    }
    let point = start.stage.join(share_tag(number));
    std::fs::create_dir(&point)?;
    let tree = mount::clone_tree(rustix::fs::CWD, &share.source, true)?;
    let target = match share.source.is_dir() {
        true => mount::open_dir(&point)?,
        // Nothing that lies beside the file is shared with it.
        false => std::fs::File::create_new(point.join(FILE))?.into(),
    };
    let read_only = if share.read_only { READ_ONLY } else { 0 };
    let change = Change {
        set: read_only | NO_DEV | NO_SUID,
        recursive: true,
        ..Change::default()
    };
    mount::set_attributes(tree.as_fd(), &change)?;
    mount::attach(tree.as_fd(), target.as_fd())?;
    let path = start.stage.join(format!("{}.socket", share_tag(number)));
    let listener = UnixListener::bind(&path)?;
    let socket = UnixStream::connect(&path);
    std::fs::remove_file(&path)?;
    let words = [
        virtiofsd.display().to_string(),
        "--fd=3".into(),
        "-o".into(),
        format!("source={},sandbox=namespace,log_level=err", point.display()),
    ];
    let quiet = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    execute(&words, &quiet, &[listener.into()], None)?;
    Ok(socket?.into())
}

/// Gives up everything but the name of nobody.
fn become_nobody(id: u32) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_thread_groups(&[])?;
    let gid = Gid::from_raw(id);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(id);
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// What came from the console: of the guest's kernel and of QEMU itself.
struct Said {
    console: OwnedFd,
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
    fn hear(&mut self) -> bool {
        let mut piece = [0; 4096];
        let mut heard = false;
        while let Ok(got @ 1..) = rustix::io::read(&self.console, &mut piece) {
            heard = true;
            self.end.extend(&piece[..got]);
            let over = self.end.len().saturating_sub(KEPT);
            self.end.drain(..over);
        }
        heard
    }

    /// Gives the last lines, fit for a message.
    fn last_words(&self) -> String {
        let bytes: Vec<u8> = self.end.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        let last = lines[lines.len().saturating_sub(4)..].join(" | ");
        match last.is_empty() {
            true => String::new(),
            false => format!("; last it said: {last}"),
        }
    }
}

impl Relay {
    /// Tells the supervisor why there is no machine.
    fn fail(&mut self, step: String, error: &io::Error) -> io::Result<()> {
        let errno = error
            .raw_os_error()
            .unwrap_or(rustix::io::Errno::IO.raw_os_error());
        self.tell(&Reply::SetupFailed { step, errno })
    }
}
