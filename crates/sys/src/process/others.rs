//! Other processes of this host, by `/proc`: how they stand, what they have started, where they
//! run; and the threads of this one.

use std::io;
use std::time::{Duration, Instant};

use hyperion_model::{Bytes, CpuSet, Usage};
use rustix::process::Pid;

/// The text of proc_pid_stat(5), of a process or a thread.
struct Stat(String);

impl Stat {
    /// Reads that of a process, or of a folder of `/proc` below its own; `None` when it is gone.
    fn of(pid: Pid, below: &str) -> Option<Self> {
        Self::read(&format!("/proc/{}{below}", pid.as_raw_pid()))
    }

    fn read(folder: &str) -> Option<Self> {
        let text = crate::kernel_file::read(format!("{folder}/stat"));
        text.ok().map(Self)
    }

    /// Gives a field from the third on, by its number there. The second, a name in
    /// parentheses, may hold anything; what follows its last ')' is fixed.
    fn field(&self, number: usize) -> Option<&str> {
        self.0.rsplit_once(") ")?.1.split(' ').nth(number - 3)
    }

    fn number(&self, number: usize) -> Option<u64> {
        self.field(number)?.parse().ok()
    }
}

/// What `/proc` says of a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When it started, in clock ticks since boot: tells a recycled number apart.
    pub started: u64,
    /// A signal or a debugger holds it.
    pub stopped: bool,
}

/// Reads how a process of this host stands. One that only waits to be reaped does not run.
pub fn standing(pid: Pid) -> Option<Standing> {
    let stat = Stat::of(pid, "")?;
    let state = stat.field(3)?;
    (!matches!(state, "Z" | "X")).then_some(Standing {
        started: stat.number(22)?,
        stopped: matches!(state, "T" | "t"),
    })
}

/// What a process has done so far, to be compared with what it has done later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Processor time of all its threads, in clock ticks.
    pub ticks: u64,
    /// One of them is in a wait that no signal ends: for a disk, as a rule.
    pub waits_for_disk: bool,
}

/// Ties the caller, or a thread of a process, to processors. A number that is no
/// thread's of that process is not touched: who names it may be lying.
///
/// # Errors
/// `NotFound` for such a number; else the kernel's, where the caller may not, or
/// may use none of these processors.
pub fn bind(thread: Option<(Pid, u32)>, cpus: &CpuSet) -> io::Result<()> {
    let mut mask = rustix::thread::CpuSet::new();
    let known = cpus.0.iter().map(|&cpu| cpu as usize);
    for cpu in known.filter(|&cpu| cpu < rustix::thread::CpuSet::MAX_CPU) {
        mask.set(cpu);
    }
    let thread = match thread {
        None => None,
        Some((of, thread)) => {
            let place = format!("/proc/{}/task/{thread}", of.as_raw_pid());
            std::fs::metadata(place)?;
            let number = i32::try_from(thread).ok().and_then(Pid::from_raw);
            Some(number.ok_or(io::ErrorKind::NotFound)?)
        }
    };
    Ok(rustix::thread::sched_setaffinity(thread, &mask)?)
}

/// Reads what a process of this host has done; `None` when it is gone.
pub fn work(pid: Pid) -> Option<Work> {
    let own = Stat::of(pid, "")?;
    let mut threads = threads(pid).into_iter();
    Some(Work {
        ticks: own.number(14)? + own.number(15)?,
        waits_for_disk: threads.any(|thread| {
            let stat = Stat::of(pid, &format!("/task/{thread}"));
            stat.is_some_and(|stat| stat.field(3) == Some("D"))
        }),
    })
}

/// Adds up what processes of this host use, and what those have used that they have waited
/// for. Memory is what each has resident: what two share counts twice. `None` where there
/// are none.
pub fn usage(processes: &[Pid]) -> Usage {
    let second = rustix::param::clock_ticks_per_second().max(1);
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000) / second);
    let page = rustix::param::page_size() as u64;
    let each = processes.iter().filter_map(|pid| {
        let stat = Stat::of(*pid, "")?;
        Some(Usage {
            cpu_user: Some(time(stat.number(14)? + stat.number(16)?)),
            cpu_system: Some(time(stat.number(15)? + stat.number(17)?)),
            memory_current: Some(Bytes(stat.number(24)?.saturating_mul(page))),
            pids: stat.number(20),
            ..Usage::default()
        })
    });
    each.reduce(|all, one| all.plus(&one)).unwrap_or_default()
}

/// Kills all processes of this host that were executed with a variable, `NAME=value`, and what
/// they have started, until none is left: only those that this process may look at, and none if
/// it is one of them itself.
pub fn end_carriers(variable: &str) {
    let this = rustix::process::getpid();
    let carries = |pid: &Pid| {
        let all = environment(*pid);
        all.split(|&byte| byte == 0)
            .any(|own| own == variable.as_bytes())
    };
    if carries(&this) {
        return;
    }
    let since = Instant::now();
    loop {
        // First: what is on its way now may carry it when it is looked at.
        let more = children(this).into_iter().any(is_becoming);
        let processes = numbers_in("/proc")
            .into_iter()
            .filter_map(|number| Pid::from_raw(number.cast_signed()));
        let found: Vec<Pid> = processes.filter(carries).collect();
        // One that waits for a device ends when it can.
        if found.is_empty() && !more || since.elapsed() > ENDING {
            return;
        }
        found.into_iter().for_each(kill_tree);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads the variables that a process was executed with; none are there until it has begun.
fn environment(pid: Pid) -> Vec<u8> {
    std::fs::read(format!("/proc/{}/environ", pid.as_raw_pid())).unwrap_or_default()
}

/// Tells whether a child has not yet become the program that it is to be: it is still a copy of
/// this one, or has no variables yet.
fn is_becoming(child: Pid) -> bool {
    let program = |of: &str| std::fs::read_link(format!("/proc/{of}/exe")).ok();
    standing(child).is_some()
        && (environment(child).is_empty()
            || program(&child.as_raw_pid().to_string()) == program("self"))
}

/// How long what was killed may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// Lets a process go on that a signal has stopped; tells whether it was stopped.
pub fn wake(pid: Pid) -> bool {
    let stopped = standing(pid).is_some_and(|s| s.stopped);
    if stopped {
        let _ = crate::signals::send(pid, libc::SIGCONT);
    }
    stopped
}

/// Kills a process and all its descendants; they are not reaped.
pub fn kill_tree(pid: Pid) {
    // Stopped first, so that it makes no more children while these are looked up.
    let _ = crate::signals::send(pid, libc::SIGSTOP);
    for child in children(pid) {
        kill_tree(child);
    }
    let _ = crate::signals::send(pid, libc::SIGKILL);
}

/// Ties all that a process has started to processors, as far as that can be; what has just
/// ended cannot.
pub fn bind_all(pid: Pid, cpus: &CpuSet) {
    for process in descendants(pid) {
        for thread in threads(process) {
            let _ = bind(Some((process, thread)), cpus);
        }
    }
}

/// Gives all that a process of this host has started, and what that has, by `/proc`: parents
/// first.
pub fn descendants(pid: Pid) -> Vec<Pid> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        found.extend(children(parent));
    }
    found
}

/// Gives the children of a process of this host, whichever of its threads has started them, by
/// `/proc`; none when it is gone.
pub fn children(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for thread in threads(pid) {
        let path = format!("/proc/{}/task/{thread}/children", pid.as_raw_pid());
        let text = crate::kernel_file::read(path).unwrap_or_default();
        let pids = text.split_ascii_whitespace();
        found.extend(pids.filter_map(|p| Pid::from_raw(p.parse().ok()?)));
    }
    found
}

/// Gives the numbers of a process's threads; none when it is gone.
fn threads(pid: Pid) -> Vec<u32> {
    numbers_in(&format!("/proc/{}/task", pid.as_raw_pid()))
}

/// Counts the threads of this process, by `/proc`: none where that is not mounted. One that has
/// been waited for is listed a while longer, on its way through the kernel, and does not count:
/// it touches nothing of the process any more.
pub(super) fn count_threads() -> usize {
    /// Of linux/sched.h, in the ninth field of proc_pid_stat(5).
    const PF_EXITING: u64 = 0x4;
    let folder = "/proc/self/task";
    let runs = |thread: &u32| {
        let flags = Stat::read(&format!("{folder}/{thread}")).and_then(|stat| stat.number(9));
        flags.is_some_and(|flags| flags & PF_EXITING == 0)
    };
    numbers_in(folder)
        .iter()
        .filter(|thread| runs(thread))
        .count()
}

/// Gives the names in a folder of `/proc` that are numbers.
fn numbers_in(folder: &str) -> Vec<u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;
    use std::sync::mpsc;

    use hyperion_testkit::TestDir;

    use super::*;

    #[test]
    fn a_thread_that_was_waited_for_does_not_count_while_the_kernel_still_lists_it() {
        let before = count_threads();
        for _ in 0..2000 {
            std::thread::spawn(|| {}).join().expect("it ends");
            assert_eq!(count_threads(), before);
        }
    }

    #[test]
    fn a_process_of_any_name_is_seen() {
        let home = TestDir::new();
        let name = home.path().join(OsStr::from_bytes(b"\xff x) Z 1"));
        std::fs::copy("/bin/sleep", &name).expect("a copy");
        let mut child = Command::new(&name).arg("60").spawn().expect("it starts");
        let pid = Pid::from_child(&child);
        let seen = (standing(pid), work(pid).is_some(), usage(&[pid]).pids);
        child.kill().expect("it is there");
        child.wait().expect("it ends");
        assert!(
            matches!(seen, (Some(Standing { stopped: false, .. }), true, Some(1))),
            "{seen:?}"
        );
    }

    #[test]
    fn a_child_of_another_thread_is_a_child() {
        let (told, hears) = mpsc::channel();
        let (done, over) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut child = Command::new("sleep").arg("60").spawn().expect("it starts");
            told.send(child.id()).expect("somebody hears");
            // The thread lives as long as its child is looked for.
            let _ = over.recv();
            child.kill().expect("it is there");
            child.wait().expect("it ends");
        });
        let child = hears.recv().expect("told");
        let own = rustix::process::getpid();
        let is_child = |pid: &Pid| pid.as_raw_pid().cast_unsigned() == child;
        let (found, all) = (children(own), descendants(own));
        drop(done);
        thread.join().expect("it ends");
        assert!(found.iter().any(is_child), "{child} is none of {found:?}");
        assert!(all.iter().any(is_child), "{child} is none of {all:?}");
    }
}
