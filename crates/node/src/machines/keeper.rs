//! The process that keeps one machine: it starts QEMU, outlives the command
//! that asked for it, and writes down how the machine ended.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyperion_isolation::vm::machine::{CommandLine, FIRST_FILE_FD, Opened};
use hyperion_isolation::vm::qmp::{Event, Qmp};
use hyperion_isolation::vm::{self, TieError};
use hyperion_model::Resources;
use hyperion_model::machine::{Memory, OnCrash, Vcpus};
use hyperion_model::report::Exit;
use hyperion_sys::cgroup::{Cgroup, CgroupError, Entrance, Layout};
use hyperion_sys::process::{self, Fork, Program};
use hyperion_sys::signals;
use hyperion_sys::tap::{self, Tap};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use serde::Serialize;

use super::faults::{self, Faults};
use super::share::{self, Lent};
use super::{Crash, MachineEnd, MachineError, MachineFolder, MachineRunning, Words, failed, passt};
use crate::jobs::private_file;

/// How long QEMU may take to open what it is given and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long QEMU may do nothing at all on its way out.
const STILL: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// What the programs say that share folders.
const SHARES_LOG: &str = "shares.log";
/// What its console has said, since the first start.
const CONSOLE: &str = "run/console.log";
/// How much of the end of that is looked at, in bytes.
const CONSOLE_END: u64 = 64 << 10;
/// What a kernel begins with when it panics.
const PANIC: &str = "Kernel panic - not syncing: ";
/// Why a guest has crashed that has said so.
const PANICKED: &str = "the guest's kernel panicked";
/// How much of what QEMU said is told.
const TOLD: usize = 2000;

/// What is started.
#[derive(Debug)]
pub struct Start {
    /// The machine.
    pub folder: MachineFolder,
    /// What is executed.
    pub command: CommandLine,
    /// One for each [`Opened::Network`], in their order.
    pub networks: Vec<OwnedFd>,
    /// The program that shares folders of the host, where there is one.
    pub virtiofsd: Option<PathBuf>,
    /// A program stands in for the processor.
    pub emulated: bool,
    /// Its processors, with where they run on this host.
    pub vcpus: Vcpus,
    /// Its memory.
    pub memory: Memory,
    /// What QEMU may take, where this process may limit it.
    pub limits: Resources,
    /// What is done when its guest panics.
    pub on_crash: OnCrash,
}

/// Starts a machine, and comes back when it runs.
///
/// # Errors
/// [`MachineError::Running`]; [`MachineError::Tap`]; [`MachineError::Start`] with
/// QEMU's own words: nothing runs then.
pub fn start(mut start: Start) -> Result<(), MachineError> {
    let folder = start.folder.clone();
    let lock = folder.lock()?;
    for name in ["end.json", faults::FILE] {
        let _ = fs::remove_file(folder.path.join(name));
    }
    folder.remove_left_group();
    let io = |e: io::Error| failed("start", &folder.path)(e);
    let taps = start.command.files.iter().filter_map(|what| match what {
        Opened::Tap { bridge } => Some(tap::on_bridge(bridge)),
        Opened::File { .. } | Opened::Network | Opened::Folder { .. } => None,
    });
    let taps: Vec<Tap> = taps.collect::<Result<_, _>>()?;
    let networks = std::mem::take(&mut start.networks);
    let (heard, said) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| io(e.into()))?;
    match process::fork().map_err(io)? {
        Fork::Child => {
            drop(heard);
            let _ = keep(&start, &lock, said, taps, networks);
            process::exit_now(0)
        }
        Fork::Parent(keeper) => {
            // From now on they are QEMU's: they go when it goes, whoever is killed.
            drop((said, lock, taps, networks));
            let mut words = String::new();
            let mut heard = File::from(heard);
            heard.read_to_string(&mut words).map_err(io)?;
            if words == "runs" {
                return Ok(());
            }
            // It holds the lock as long as it is there.
            let _ = process::wait_for(keeper);
            let told = words.strip_prefix("failed: ");
            Err(MachineError::Start {
                name: folder.name,
                source: Words(told.unwrap_or("its keeper has ended").to_owned()),
            })
        }
    }
}

/// Keeps the machine until QEMU has ended.
fn keep(
    start: &Start,
    lock: &File,
    said: OwnedFd,
    taps: Vec<Tap>,
    networks: Vec<OwnedFd>,
) -> io::Result<()> {
    rustix::process::setsid()?;
    let mut kept = vec![lock.as_fd(), said.as_fd()];
    kept.extend(taps.iter().map(|tap| tap.fd.as_fd()));
    kept.extend(networks.iter().map(AsFd::as_fd));
    process::close_all_but(&kept)?;
    drop(kept);
    let interfaces = taps.iter().map(|tap| tap.name.clone()).collect();
    // Kept here too, to hear those programs leave.
    let beside: Vec<OwnedFd> = networks
        .iter()
        .map(OwnedFd::try_clone)
        .collect::<Result<_, _>>()?;
    let (mut taps, mut networks) = (taps.into_iter(), networks.into_iter());
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    process::install_fds(&[null.as_fd(); 3])?;
    rustix::process::chdir("/")?;
    process::rename(c"hyperion-keep");
    let mut said = File::from(said);
    let path = &start.folder.path;
    let log = path.join("qemu.log");
    let _ = fs::remove_file(path.join(SHARES_LOG));
    let group = group(start);
    let mut up = || -> Result<(Pid, Qmp), String> {
        let id = start.folder.guest_id().map_err(|e| e.to_string())?;
        let (ours, its) = UnixStream::pair().map_err(|e| e.to_string())?;
        let mut files = vec![OwnedFd::from(its)];
        for what in &start.command.files {
            files.push(match what {
                Opened::File { path, writable } => fs::OpenOptions::new()
                    .read(true)
                    .write(*writable)
                    .open(path)
                    .map_err(|e| format!("cannot open {}: {e}", path.display()))?
                    .into(),
                // One was made for each, in this order.
                Opened::Network => networks.next().ok_or("a network is missing")?,
                Opened::Tap { .. } => taps.next().ok_or("a network interface is missing")?.fd,
                Opened::Folder { source, read_only } => {
                    let number = files.len();
                    lend(start, source, *read_only, number)
                        .map_err(|e| format!("cannot share {}: {e}", source.display()))?
                }
            });
        }
        let doors = group.doors().map_err(|e| e.to_string())?;
        let pid = launch(start, &files, &doors, id, &log).map_err(|e| {
            let program = start.command.words.first().map_or("", String::as_str);
            format!("cannot execute {program}: {e}")
        })?;
        // Its end of the socket is QEMU's alone: so it is heard to go.
        drop(files);
        let connected = Qmp::connect(ours, PATIENCE).map_err(|e| e.to_string());
        let seat = |monitor| seated(monitor, pid, &start.vcpus).map_err(|e| e.to_string());
        let memory = &start.memory;
        let hold = |mut monitor: Qmp| match memory.max {
            Some(_) => monitor.set_memory(memory.size.0).map(|()| monitor),
            None => Ok(monitor),
        };
        let hold = |monitor| hold(monitor).map_err(|e| e.to_string());
        match connected.and_then(seat).and_then(hold) {
            Ok(monitor) => Ok((pid, monitor)),
            Err(e) => {
                let _ = signals::send(pid, signals::SIGKILL);
                let _ = process::wait_for(pid);
                let shares = last_words(&path.join(SHARES_LOG));
                let words = match shares.is_empty() {
                    true => readable(&last_words(&log), &start.command.files),
                    false => shares,
                };
                Err(if words.is_empty() { e } else { words })
            }
        }
    };
    let (qemu, mut monitor) = match up() {
        Ok(up) => up,
        Err(words) => {
            group.remove();
            clean_up(path);
            return said.write_all(format!("failed: {words}").as_bytes());
        }
    };
    let number = |pid: Pid| pid.as_raw_pid().unsigned_abs();
    let mut running = MachineRunning {
        started: Timestamp::now(),
        keeper: number(rustix::process::getpid()),
        qemu: number(qemu),
        emulated: start.emulated,
        interfaces,
        group: group.clone(),
        boot: super::boot(),
        crashes: Vec::new(),
    };
    // What an earlier start has said there is not of this one.
    let console = fs::symlink_metadata(path.join(CONSOLE)).map_or(0, |log| log.len());
    write(path, "running.json", &running)?;
    said.write_all(b"runs")?;
    drop(said);
    let mut listener = Listener {
        monitor: &mut monitor,
        folder: path,
        console,
        again: start.on_crash == OnCrash::Restart,
        running: &mut running,
    };
    let reason = listener.listen();
    let helped = !leaves(qemu, STILL)?;
    let ended = process::wait_for(qemu)?;
    let (crashed, why) = match (reason, ended.exit) {
        (Some(reason), Exit::Code(0)) => reason,
        (Some(reason), _) if helped => reason,
        (_, Exit::Signal(_)) if group.usage().oom_kills.is_some_and(|kills| kills > 0) => {
            let most = start.limits.memory.unwrap_or_default();
            (true, format!("QEMU took more than the {most} that it may"))
        }
        (_, Exit::Signal(signal)) => {
            let name = signals::name(i32::from(signal));
            (true, format!("QEMU was killed by {name}"))
        }
        (_, Exit::Code(code)) => (
            true,
            format!("QEMU ended with {code}: {}", last_words(&log)),
        ),
    };
    let end = MachineEnd {
        at: Timestamp::now(),
        crashed,
        why,
    };
    beside.into_iter().for_each(passt::wait_gone);
    write(path, "end.json", &end)?;
    group.remove();
    clean_up(path);
    Ok(())
}

/// Ties a machine's processors to those of the host that its definition names, and
/// the rest of QEMU as the processors that it says nothing of.
fn seated(mut monitor: Qmp, qemu: Pid, vcpus: &Vcpus) -> Result<Qmp, TieError> {
    let all = vcpus.affinity.as_ref();
    if all.is_none() && vcpus.pinning.is_empty() {
        return Ok(monitor);
    }
    let seat = |number: u32| vcpus.pinning.get(&number).or(all).cloned();
    vm::tie(&mut monitor, qemu, seat)?;
    if let Some(all) = all {
        let main = qemu.as_raw_pid().unsigned_abs();
        // What it starts later is where it is.
        let _ = process::bind(Some((qemu, main)), all);
    }
    Ok(monitor)
}

/// Shares a folder of the host, by a program that ends with this.
fn lend(start: &Start, source: &Path, read_only: bool, number: usize) -> io::Result<OwnedFd> {
    let program = start.virtiofsd.as_ref().ok_or(io::ErrorKind::Unsupported)?;
    let point = start.folder.path.join("shares").join(number.to_string());
    let log = start.folder.path.join(SHARES_LOG);
    let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
    share::lend(&Lent {
        program,
        source,
        read_only,
        point: &point,
        log: log.into(),
    })
}

/// Makes the groups of QEMU, with its limits where they can be had. A user's are
/// those of the session that the machine is started from.
fn group(start: &Start) -> Cgroup {
    if !rustix::process::geteuid().is_root() {
        return Cgroup::default();
    }
    let name = start.folder.group_name();
    let layout = Layout::detect();
    // Of one whose keeper was killed before it could say so.
    let made = || Cgroup::create(&layout, &name, &start.limits);
    let made = made().or_else(|error| match error {
        CgroupError::Io { .. } => {
            Cgroup::find(&layout, &name).remove();
            made()
        }
        CgroupError::NoController { .. } => Cgroup::create(&layout, &name, &Resources::default()),
    });
    made.unwrap_or_default()
}

/// How often a guest that panics is started again within this time; whoever panics
/// more often does so at each start.
const PANICS: (usize, Duration) = (3, Duration::from_secs(600));

/// Hears what QEMU says of a machine that runs.
struct Listener<'a> {
    monitor: &'a mut Qmp,
    folder: &'a Path,
    /// How long the console's log was when it was started.
    console: u64,
    /// A guest that panics is started again.
    again: bool,
    running: &'a mut MachineRunning,
}

impl Listener<'_> {
    /// Waits until QEMU says that it goes, or says nothing more; gives what it said
    /// of the reason: whether the guest crashed, and why.
    fn listen(&mut self) -> Option<(bool, String)> {
        let mut reason = None;
        let mut faults = Faults::default();
        loop {
            let limit = faults.write(self.folder, Duration::from_secs(3600));
            match self.monitor.next_event(limit) {
                Ok(Some(event)) => {
                    faults.hear(&event, Timestamp::now());
                    if self.again && event.name == "GUEST_PANICKED" {
                        reason = self.panicked().or(reason);
                        continue;
                    }
                    match why(&event) {
                        // What it crashed of says more than that it was ended for that.
                        Some((false, _))
                            if reason.as_ref().is_some_and(|(crashed, _)| *crashed) => {}
                        Some(why) => reason = Some(self.with_words(why)),
                        None => {}
                    }
                    if event.name == "SHUTDOWN" {
                        break;
                    }
                }
                Ok(None) => {}
                // It has closed its end; nothing else is worth to be told.
                Err(_) => break,
            }
        }
        faults.write_now(self.folder);
        reason
    }

    /// Adds what a kernel said on its console to why its machine crashed.
    fn with_words(&self, (crashed, why): (bool, String)) -> (bool, String) {
        match panicked(self.folder, self.console).filter(|_| crashed) {
            Some(said) => (crashed, format!("{why}: {said}")),
            None => (crashed, why),
        }
    }

    /// Starts a guest again that has panicked; gives the end of one that does nothing else.
    fn panicked(&mut self) -> Option<(bool, String)> {
        let (_, why) = self.with_words((true, PANICKED.to_owned()));
        let crashes = &mut self.running.crashes;
        crashes.push(Crash {
            at: Timestamp::now(),
            why: why.clone(),
        });
        let (most, within) = PANICS;
        crashes.drain(..crashes.len().saturating_sub(most + 1));
        let since = |crash: &&Crash| {
            let age = Timestamp::now().duration_since(crash.at);
            age.unsigned_abs() < within
        };
        let times = crashes.iter().filter(since).count();
        let _ = write(self.folder, "running.json", self.running);
        let console = fs::symlink_metadata(self.folder.join(CONSOLE));
        self.console = console.map_or(self.console, |log| log.len());
        if times <= most
            && self
                .monitor
                .reset()
                .and_then(|()| self.monitor.cont())
                .is_ok()
        {
            return None;
        }
        let _ = self.monitor.quit();
        let minutes = within.as_secs() / 60;
        Some((
            true,
            format!("{why} ({times} times within {minutes} minutes)"),
        ))
    }
}

/// Finds what a kernel said on its console when it panicked.
fn panicked(folder: &Path, begin: u64) -> Option<String> {
    // It lies where QEMU may write, which its guest may have taken over.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut log = File::from(rustix::fs::open(folder.join(CONSOLE), flags, Mode::empty()).ok()?);
    let from = log.metadata().ok()?.len().saturating_sub(CONSOLE_END);
    log.seek(SeekFrom::Start(from.max(begin))).ok()?;
    let mut end = Vec::new();
    log.take(CONSOLE_END).read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end);
    let (_, said) = end.rsplit_once(PANIC)?;
    let line = said.lines().next().unwrap_or_default();
    Some(vm::plain(line)).filter(|line| !line.is_empty())
}

/// Waits until QEMU, which is on its way out, has ended, and helps where it never
/// would: QEMU before 8.0 may wait for itself when somebody asks its monitor at
/// that moment. Its disks are closed then. Tells whether it ended by itself.
fn leaves(qemu: Pid, still: Duration) -> io::Result<bool> {
    let mut last = process::work(qemu);
    let mut since = Instant::now();
    while !process::ends_within(qemu, LOOK)? {
        let work = process::work(qemu);
        if work != last || work.is_some_and(|work| work.waits_for_disk) {
            (last, since) = (work, Instant::now());
        } else if since.elapsed() > still {
            signals::send(qemu, signals::SIGKILL)?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says what an event tells of the end.
fn why(event: &Event) -> Option<(bool, String)> {
    match event.name.as_str() {
        "SHUTDOWN" => {
            let reason = event.data["reason"].as_str().unwrap_or_default();
            Some(match reason {
                "guest-shutdown" => (false, "the guest switched itself off".to_owned()),
                "guest-panic" => (true, PANICKED.to_owned()),
                "host-qmp-quit" => (false, "it was switched off".to_owned()),
                other => (false, format!("it was shut down ({other})")),
            })
        }
        "GUEST_PANICKED" => Some((true, PANICKED.to_owned())),
        _ => None,
    }
}

pub(super) fn write(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(value)?;
    private_file(&folder.join(name))?.write_all(&json)
}

/// Removes what only a machine that runs has.
fn clean_up(folder: &Path) {
    let _ = fs::remove_file(folder.join("running.json"));
    for name in ["monitor", "vnc", "console", "agent"] {
        let _ = fs::remove_file(folder.join("run").join(name));
    }
}

/// Gives the end of what QEMU said.
fn last_words(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let from = bytes.len().saturating_sub(TOLD);
    String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
}

/// Makes QEMU's words fit for people: which file, and not how it came to it.
fn readable(words: &str, files: &[Opened]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in words.lines() {
        // "qemu-system-x86_64: -blockdev {…}: what is wrong"
        let said = line.rsplit_once("}: ").map_or(line, |(_, said)| said);
        let (_, said) = said
            .split_once(": ")
            .filter(|(start, _)| start.starts_with("qemu-"))
            .unwrap_or(("", said));
        let file = line.split("/dev/fdset/").nth(1).and_then(|rest| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            files.get(
                digits
                    .parse::<usize>()
                    .ok()?
                    .checked_sub(FIRST_FILE_FD as usize)?,
            )
        });
        lines.push(match file {
            Some(Opened::File { path, .. }) if said != line => {
                format!("{}: {said}", path.display())
            }
            _ if line.contains("/dev/fdset/") => continue,
            _ => said.to_owned(),
        });
    }
    lines.join("; ")
}

fn launch(
    start: &Start,
    files: &[OwnedFd],
    doors: &Entrance,
    id: Option<u32>,
    log: &Path,
) -> io::Result<Pid> {
    let words = start
        .command
        .words
        .iter()
        .map(|word| CString::new(word.as_str()));
    let words = words.collect::<Result<Vec<_>, _>>()?;
    let program = Program::new(words, vec![c"PATH=/usr/bin:/bin".into()], "/usr/bin:/bin")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let log: OwnedFd = private_file(log)?.into();
    let run = CString::new(start.folder.run().into_os_string().into_encoded_bytes())?;
    let mut fds = vec![null.as_fd(), log.as_fd(), log.as_fd()];
    fds.extend(files.iter().map(AsFd::as_fd));
    // Its sockets have no path that it would have to walk.
    program.start_beside(&fds, Some(&run), doors, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_himself_on_the_way_out_is_helped_and_who_works_is_not() {
        let still = Duration::from_millis(500);
        let ends = |script: &str| {
            let mut child = std::process::Command::new("sh")
                .args(["-c", script])
                .spawn()
                .expect("a shell");
            let pid = Pid::from_child(&child);
            let ended = leaves(pid, still).expect("looked at");
            (ended, child.wait().expect("ended").code())
        };
        assert_eq!(ends("exit 3"), (true, Some(3)));
        assert_eq!(ends("exec sleep 600"), (false, None));
        let works = "while [ \"$(cut -d. -f1 /proc/uptime)\" -lt $1 ]; do :; done";
        let uptime = fs::read_to_string("/proc/uptime").expect("the time");
        let now: u64 = uptime
            .split('.')
            .next()
            .and_then(|s| s.parse().ok())
            .expect("seconds");
        assert_eq!(
            ends(&format!("set -- {}; {works}", now + 3)),
            (true, Some(0))
        );
    }

    #[test]
    fn words_of_qemu_name_the_file_and_the_reason() {
        let files = [Opened::File {
            path: "/disks/vda.qcow2".into(),
            writable: true,
        }];
        let said = "qemu-system-x86_64: -blockdev {\"file\":{\"filename\":\"/dev/fdset/4\"}}: Failed to get \"write\" lock\n\
                    Is another process using the image [/dev/fdset/4]?";
        assert_eq!(
            readable(said, &files),
            "/disks/vda.qcow2: Failed to get \"write\" lock"
        );
        let plain = "qemu-system-x86_64: -cpu none: unable to find CPU model 'none'";
        assert_eq!(
            readable(plain, &files),
            "-cpu none: unable to find CPU model 'none'"
        );
    }
}
