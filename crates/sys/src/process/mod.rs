//! Processes: forking, cloning into namespaces, executing, waiting.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use hyperion_model::report::Exit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use crate::cgroup::Entrance;

mod name;
mod others;

pub(crate) use name::remember_words;
pub use name::rename;
pub use others::{
    Standing, Work, bind, bind_all, children, descendants, end_carriers, kill_tree, standing,
    usage, wake, work,
};

/// Of linux/sched.h; the C library crate's constant overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kinds of namespace that [`clone_into`] makes.
pub mod namespace {
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Process numbers.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// System V and POSIX inter-process communication.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Host name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// The view of cgroups.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// User and group ids, capabilities.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Network interfaces.
    pub const NET: u64 = libc::CLONE_NEWNET as u64;
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The old process, and the number of the new one.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Copies this process.
///
/// # Errors
/// `Unsupported` when the process has more than one thread: the copy of a
/// lock held by another thread would never be released. Else the kernel's.
pub fn fork() -> io::Result<Fork> {
    require_single_thread()?;
    // SAFETY: there is one thread, so the child sees every lock as this thread left it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(positive(pid)?)),
    }
}

/// Starts a process that shares this one's memory, runs `child` in it, and
/// waits until it has executed a program (`None`) or `child` has returned what
/// failed. It copies no page tables, which makes it several times cheaper than
/// [`fork`]; vfork(2) tells more.
///
/// What `child` changes in memory is changed for this process too; descriptors,
/// working folder, signal actions, limits and credentials are its own.
///
/// # Errors
/// As [`fork`].
pub fn spawn<F>(child: impl Fn() -> F) -> io::Result<(Pid, Option<F>)> {
    struct Shared<C, F> {
        // Called in place: what it owns is freed here, for there nothing is that runs a program.
        child: C,
        failure: Option<F>,
    }
    extern "C" fn run<C: Fn() -> F, F>(shared: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the pointer is to the `shared` below, which nobody else touches: its owner is suspended.
        let shared = unsafe { &mut *shared.cast::<Shared<C, F>>() };
        shared.failure = Some((shared.child)());
        exit_now(127)
    }
    fn entry<C: Fn() -> F, F>(_: &Shared<C, F>) -> extern "C" fn(*mut libc::c_void) -> i32 {
        run::<C, F>
    }
    require_single_thread()?;
    let mut shared = Shared {
        child,
        failure: None,
    };
    let entry = entry(&shared);
    // What one has touched of it, the next need not touch for the first time.
    let mut stack = STACK.take();
    stack.reserve_exact(SPAWN_STACK / size_of::<u128>());
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is aligned, large enough and unused until this process goes on, which is when
    // the child has left this memory; `shared` is live as long; no other thread runs in this memory.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity());
        libc::clone(entry, top.cast(), flags, (&raw mut shared).cast())
    };
    let failed = io::Error::last_os_error();
    STACK.set(stack);
    if pid < 0 {
        return Err(failed);
    }
    Ok((positive(pid)?, shared.failure))
}

/// The stack of a process on its way to its program, in bytes. Untouched pages cost nothing.
const SPAWN_STACK: usize = 256 << 10;

thread_local! {
    /// The stack that the last of them had; none while one has it.
    static STACK: Cell<Vec<u128>> = const { Cell::new(Vec::new()) };
}

/// Copies this process into new namespaces and, on cgroup v2, into a cgroup.
///
/// `namespaces` are `CLONE_NEW*` bits. The C library is not told of the new
/// process, so the child should soon execute something.
///
/// # Errors
/// As [`fork`]; `EPERM` when a namespace is not permitted, `ENOSPC` when
/// `max_user_namespaces` is reached.
pub fn clone_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    clone(namespaces, libc::SIGCHLD, cgroup)
}

/// Copies this process; the copy is no child of it, but of its parent. As [`clone_into`] else.
///
/// # Errors
/// As [`fork`]; `EINVAL` in the first process of a namespace, which has no parent.
pub fn fork_beside() -> io::Result<Fork> {
    // The parent hears of its end as it hears of this one's.
    clone(libc::CLONE_PARENT as u64, 0, None)
}

fn clone(flags: u64, exit_signal: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    require_single_thread()?;
    // SAFETY: all-zero is a valid `clone_args`: no flags and no pointers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = exit_signal as u64;
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and a stack this is a fork, and there is one thread.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(positive(pid as libc::pid_t)?)),
    }
}

fn positive(pid: libc::pid_t) -> io::Result<Pid> {
    Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

unsafe extern "C" {
    /// Not zero in a process that never had a second thread (glibc 2.32).
    static __libc_single_threaded: libc::c_char;
}

fn require_single_thread() -> io::Result<()> {
    // SAFETY: the C library writes to it when it makes a thread, which nothing does meanwhile
    // if this is the only one; where there are more it has been zero since the first was made.
    if unsafe { (&raw const __libc_single_threaded).read_volatile() } != 0 {
        return Ok(());
    }
    // Where /proc is not mounted this is PID 1 on its way up, which makes no threads.
    match others::count_threads() {
        0 | 1 => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "cannot fork: the process has several threads",
        )),
    }
}

/// Ends this process at once, without running destructors or exit handlers.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: `_exit` never returns and touches no memory of ours.
    unsafe { libc::_exit(i32::from(code)) }
}

/// A program to become, with its arguments and environment, put together
/// beforehand: on the way to it a process of [`spawn`] must allocate nothing,
/// for what it leaves behind is never freed.
#[derive(Debug)]
pub struct Program {
    files: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Takes the program by its path, or by its name from the folders of `path`.
    ///
    /// # Errors
    /// `InvalidInput` without any argument.
    pub fn new(argv: Vec<CString>, env: Vec<CString>, path: &str) -> io::Result<Self> {
        let name = argv.first().ok_or(io::ErrorKind::InvalidInput)?;
        let files = if name.to_bytes().contains(&b'/') {
            vec![name.clone()]
        } else {
            let in_folder = |folder: &str| {
                let folder = if folder.is_empty() { "." } else { folder };
                let file = [folder.as_bytes(), b"/", name.to_bytes()].concat();
                CString::new(file).ok()
            };
            path.split(':').filter_map(in_folder).collect()
        };
        Ok(Self { files, argv, env })
    }

    /// Starts the program beside this process, to end with it: on these
    /// descriptors from 0 on and nothing else, in a folder and in groups of its
    /// own, as a user of its own ([`become_nobody`]).
    ///
    /// # Errors
    /// As [`fork`], and what kept it from being executed; nothing runs then.
    pub fn start_beside(
        &self,
        fds: &[BorrowedFd<'_>],
        folder: Option<&CStr>,
        groups: &Entrance,
        id: Option<u32>,
    ) -> io::Result<Pid> {
        let become_it = self.become_it();
        let (pid, failure) = spawn(|| {
            crate::signals::reset();
            // First: the way in is not among the descriptors that stay.
            let prepared = groups
                .enter()
                .and_then(|()| install_fds(fds))
                .and_then(|()| Ok(folder.map_or(Ok(()), rustix::process::chdir)?))
                .and_then(|()| id.map_or(Ok(()), become_nobody))
                // After: a change of ids takes it back.
                .and_then(|()| crate::signals::die_with_parent());
            match prepared {
                Ok(()) => become_it(),
                Err(e) => e,
            }
        })?;
        match failure {
            None => Ok(pid),
            Some(e) => {
                let _ = wait_for(pid);
                Err(e)
            }
        }
    }

    /// Becomes the program, in a process of [`spawn`]: gives what to run there,
    /// which returns only on failure.
    pub fn become_it(&self) -> impl Fn() -> io::Error {
        let (argv, env) = (pointers(&self.argv), pointers(&self.env));
        move || {
            let mut worst = libc::ENOENT;
            for file in &self.files {
                // SAFETY: both arrays are null-terminated and their strings outlive the call.
                unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), env.as_ptr()) };
                let error = io::Error::last_os_error().raw_os_error();
                // Something is there but cannot be executed: that is the better thing to say.
                if let Some(errno) = error.filter(|e| ![libc::ENOENT, libc::ENOTDIR].contains(e)) {
                    worst = errno;
                }
            }
            io::Error::from_raw_os_error(worst)
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// A process that has ended, and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub pid: Pid,
    /// How it ended.
    pub exit: Exit,
    /// Processor time in user mode, its waited-for children included.
    pub user: Duration,
    /// Processor time in the kernel, likewise.
    pub system: Duration,
    /// Largest resident size in bytes.
    pub max_rss: u64,
    /// Bytes read from block devices.
    pub io_read: u64,
    /// Bytes written to block devices.
    pub io_written: u64,
}

/// Takes the end of any child that has ended.
///
/// # Errors
/// `ECHILD` when there is no child.
pub fn wait_any() -> io::Result<Option<Ended>> {
    wait(-1, libc::WNOHANG)
}

/// Waits until one child ends and takes its end.
///
/// # Errors
/// `ECHILD` when it is not a child.
pub fn wait_for(pid: Pid) -> io::Result<Ended> {
    wait_until_ended(pid.as_raw_pid())
}

/// Waits until one child ends, but not longer than this; tells whether it has
/// ended. Its end is left to be taken.
///
/// # Errors
/// The kernel's (before Linux 5.3, or when no descriptor is left).
pub fn ends_within(pid: Pid, limit: Duration) -> io::Result<bool> {
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits until any process has ended and lets go of all that this one has open. Meant for a copy
/// of a process that does nothing else.
///
/// # Errors
/// The kernel's (before Linux 5.3).
pub fn wait_gone(pid: Pid) -> io::Result<()> {
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    close_all_but(&[process.as_fd()])?;
    while poll(&mut [PollFd::new(&process, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
    Ok(())
}

/// Waits until any child ends and takes its end.
///
/// # Errors
/// `ECHILD` when there is no child.
pub fn wait_for_any() -> io::Result<Ended> {
    wait_until_ended(-1)
}

fn wait_until_ended(pid: libc::pid_t) -> io::Result<Ended> {
    loop {
        match wait(pid, 0) {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn wait(pid: libc::pid_t, flags: libc::c_int) -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types.
    let got = unsafe { libc::wait4(pid, &raw mut status, flags, &raw mut usage) };
    match got {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => {
            let exit = if libc::WIFSIGNALED(status) {
                Exit::Signal(libc::WTERMSIG(status) as u8)
            } else {
                Exit::Code(libc::WEXITSTATUS(status) as u8)
            };
            let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
            Ok(Some(Ended {
                pid: positive(pid)?,
                exit,
                user: time(usage.ru_utime),
                system: time(usage.ru_stime),
                max_rss: usage.ru_maxrss as u64 * 1024,
                // getrusage(2) counts blocks of 512 bytes.
                io_read: usage.ru_inblock as u64 * 512,
                io_written: usage.ru_oublock as u64 * 512,
            }))
        }
    }
}

/// Marks every descriptor from `first` on to be closed when a program is
/// executed, so that none leaks into it.
///
/// # Errors
/// The kernel's (before Linux 5.11).
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    close_range(
        first as libc::c_uint,
        libc::c_uint::MAX,
        libc::CLOSE_RANGE_CLOEXEC,
    )
}

/// Puts descriptors at the numbers 0, 1, 2, …, open across exec. Meant for a
/// child that is about to execute a program: what was at these numbers is closed.
///
/// # Errors
/// The kernel's.
pub fn install_fds(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    // First out of the way of the numbers that are about to be overwritten.
    let floor = fds.len() as RawFd;
    let mut moved = Vec::with_capacity(fds.len());
    for fd in fds {
        moved.push(rustix::io::fcntl_dupfd_cloexec(fd, floor)?);
    }
    for (number, fd) in moved.iter().enumerate() {
        // SAFETY: the caller is about to execute a program and uses the old descriptors at these numbers no more.
        if unsafe { libc::dup2(fd.as_raw_fd(), number as RawFd) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Closes every descriptor above the standard streams but these. Meant for a
/// fresh copy of a process, which must not hold for hours what its parent has
/// open, nor what a shell left open by accident.
///
/// # Errors
/// The kernel's.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<libc::c_uint> = kept.iter().map(|fd| fd.as_raw_fd() as _).collect();
    kept.sort_unstable();
    let mut first = 3;
    for number in kept.into_iter().filter(|&n| n > 2) {
        if first < number {
            close_range(first, number - 1, 0)?;
        }
        first = number + 1;
    }
    close_range(first, libc::c_uint::MAX, 0)
}

/// See close_range(2).
fn close_range(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: callers are fresh copies of a process that never use what their parent had open, or set
    // the close-on-exec flag, which closes nothing.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves one descriptor to a number above the standard streams and closes
/// every later one. Meant for a fresh copy of a process, which owns copies of
/// all its parent's files and must use none of them again but the one returned.
///
/// # Errors
/// The kernel's.
pub fn keep_only(fd: OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    let old = fd.into_raw_fd();
    if old != number {
        // SAFETY: what was open at `number` is the parent's, which this copy never uses again.
        if unsafe { libc::dup3(old, number, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    close_range(number as libc::c_uint + 1, libc::c_uint::MAX, 0)?;
    // SAFETY: `number` was just made, or was given up by `into_raw_fd`.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes a descriptor that whoever started this process has left open for it, such as
/// systemd's first at 3; programs that are started later do not get it.
///
/// # Errors
/// `EBADF` where nothing is open, `EINVAL` for the standard streams.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: fcntl(2) with a flag takes no memory.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, came with this process, and nothing in it has taken it: callers ask once,
    // for a number that was told to this very process.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Leaves the terminal, its session and its files, and the working folder. Meant for a copy of
/// a process that outlives it.
///
/// # Errors
/// The kernel's.
pub fn leave_terminal() -> io::Result<()> {
    rustix::process::setsid()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    install_fds(&[null.as_fd(); 3])?;
    Ok(rustix::process::chdir("/")?)
}

/// Gives back the memory of this program's code and constants, which the
/// kernel reads from its file again where they are needed: a process that
/// starts a job and then sleeps for hours keeps the few pages of its loop only.
pub fn drop_idle_code() {
    let maps = crate::kernel_file::read("/proc/self/maps").unwrap_or_default();
    let ranges: Vec<(usize, usize)> = maps.lines().filter_map(idle_code).collect();
    // Last: whatever runs after it is in memory again.
    for (start, end) in ranges {
        // SAFETY: the range is a private mapping of this program's file that was never written to;
        // its pages come back with the same content when they are next touched.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Gives the bounds of a mapping of code or constants, by its line in `/proc/self/maps`.
fn idle_code(line: &str) -> Option<(usize, usize)> {
    // proc_pid_maps(5): range, permissions, offset, device, inode, path.
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [range, permissions, offset, _, inode, ..] = fields[..] else {
        return None;
    };
    // Code, and the constants at the file's beginning. Later read-only
    // mappings hold relocated pointers, which are in no file.
    let clean =
        permissions == "r-xp" || (permissions == "r--p" && offset.bytes().all(|b| b == b'0'));
    if !clean || inode == "0" {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?))
}

/// Gives up everything but the name of nobody: one user and group, no others,
/// no capability. Meant for a process of [`spawn`] on its way to its program.
///
/// # Errors
/// As [`become_user`].
pub fn become_nobody(id: u32) -> io::Result<()> {
    become_user(id, id, &[])
}

/// Becomes a user, with a group and further ones, for good: nothing of who this process
/// was before is left, and no capability.
///
/// # Errors
/// The kernel's, `EPERM` for all but root; what was given up is not taken back.
pub fn become_user(user: u32, group: u32, groups: &[u32]) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    // To setresuid(2) it says that nothing is to change.
    if user == u32::MAX || group == u32::MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let groups: Vec<Gid> = groups.iter().map(|&id| Gid::from_raw(id)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    let gid = Gid::from_raw(group);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(user);
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// Gives the process at the other end of a Unix socket: who connected, or who
/// listened there. `None` when it has no number here.
pub fn peer(socket: BorrowedFd<'_>) -> Option<Pid> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` and `size` are live, and `size` is that of `peer`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut size,
        )
    };
    (done == 0).then(|| Pid::from_raw(peer.pid)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The runner gives each test a process of its own, but in it a thread beside the main one.
    #[test]
    fn a_process_with_several_threads_is_not_copied() {
        let program = Program::new(vec![c"/bin/true".into()], Vec::new(), "").expect("a program");
        let error = spawn(program.become_it()).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
