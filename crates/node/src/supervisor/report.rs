//! What is told of a job at its end.

use std::io;
use std::time::{Duration, Instant};

use hyperion_isolation::error::SpawnStep;
use hyperion_isolation::vm::MachineEnd;
use hyperion_isolation::{Sandbox, SandboxError};
use hyperion_model::metrics::TimeWeighted;
use hyperion_model::report::Exit;
use hyperion_model::{Bytes, Level, RunReport, Usage};
use hyperion_mpi::explain::explain_failure;
use hyperion_sys::host::{Host, cgroups_fix};
use rustix::process::geteuid;

use super::{Problem, Supervisor};
use crate::jobs::Failure;

/// The soonest and the latest that memory is looked at again.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Looks at the sandbox's memory now and then: often at first, and ever less
/// often, so that a long job is not disturbed and a short one still measured.
#[derive(Default)]
pub(super) struct MemoryWatch {
    start: Option<Instant>,
    next: Option<Instant>,
    seen: TimeWeighted,
}

impl MemoryWatch {
    /// Starts the clock. The first look comes later and stands for the time before it:
    /// a start has better things to do.
    pub(super) fn start(&mut self, now: Instant) {
        self.start = Some(now);
        self.next = Some(now + LOOK_AGAIN.0);
    }

    /// Tells when to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Looks if it is time to; tells whether it did.
    pub(super) fn look(&mut self, now: Instant, sandbox: Option<&dyn Sandbox>) -> bool {
        let (Some(start), Some(_)) = (self.start, self.next.filter(|&at| now >= at)) else {
            return false;
        };
        let since = now.saturating_duration_since(start);
        let used = sandbox.and_then(|s| s.usage().memory_current);
        if let Some(used) = used {
            let first = self.seen.samples() == 0;
            let at = if first { Duration::ZERO } else { since };
            self.seen.see(at, used.0 as f64);
        }
        let pause = (since / 8).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1);
        self.next = used.map(|_| now + pause);
        true
    }

    /// Gives the mean; `None` for what was too short to be looked at twice.
    fn mean(&self) -> Option<Bytes> {
        let mean = self.seen.mean(self.start?.elapsed())?;
        (self.seen.samples() > 1).then_some(Bytes(mean as u64))
    }
}

impl Supervisor {
    /// Writes down why the job failed, unless something failed before.
    pub(super) fn fail(&mut self, problem: &Problem) {
        let mut causes = causes(problem);
        if let Problem::Refused(refusal) = problem {
            causes.push(refusal.cause.clone());
        }
        let hint = hint(problem, self.launch.plan.job.level);
        self.failure.get_or_insert(Failure {
            task: self.task,
            rank: None,
            what: problem.to_string(),
            causes,
            hint,
            last_lines: Vec::new(),
        });
    }

    /// Puts the report together.
    pub(super) fn report(&self, mut usage: Usage) -> RunReport {
        let plan = &self.launch.plan;
        // Limits, and what is known of the host, hold for each node.
        let nodes = plan.job.nodes();
        let limits = &plan.sandbox.resources;
        let host = f64::from(self.launch.host.cpus);
        let set = limits
            .cpuset
            .as_ref()
            .map_or(host, |s| (s.len() as f64).min(host));
        let cpus = limits.cpus.map_or(set, |c| c.as_f64().min(set)) * f64::from(nodes);
        let memory = limits
            .memory
            .unwrap_or(*self.launch.host.memory)
            .min(*self.launch.host.memory);
        let memory = Bytes(memory.0.saturating_mul(u64::from(nodes)));
        // Without a cgroup the kernel's accounting of each rank is what there is.
        let ranks = self.ranks.values();
        if usage.cpu_total().is_none() {
            usage.cpu_user = Some(ranks.clone().map(|r| r.times.0).sum());
            usage.cpu_system = Some(ranks.clone().map(|r| r.times.1).sum());
        }
        let of_ranks =
            |pick: fn(&(u64, u64)) -> u64| Some(Bytes(ranks.clone().map(|r| pick(&r.io)).sum()));
        usage.io_read = usage.io_read.or_else(|| of_ranks(|io| io.0));
        usage.io_written = usage.io_written.or_else(|| of_ranks(|io| io.1));
        usage.memory_mean = self.memory.mean();
        let ranks: Vec<_> = ranks.filter_map(|r| r.ended.clone()).collect();
        usage.memory_peak = usage
            .memory_peak
            .or_else(|| ranks.iter().map(|r| r.memory_peak).max());
        RunReport {
            id: plan.id.clone(),
            level: plan.job.level,
            members: plan.job.members.clone(),
            emulated: self.launch.isolation.emulates(),
            image: plan.job.image.clone(),
            argv: plan.job.argv.clone(),
            exit: self.failed_exit.unwrap_or(Exit::Code(0)),
            mpi: self.decision.as_ref().and_then(|d| d.words.clone()),
            cpus_per_rank: plan.job.parallel.cpus_per_rank,
            cpus,
            memory,
            startup: self.startup,
            phases: self.phases.clone(),
            wall: self
                .first_start
                .map_or(Duration::ZERO, |_| self.repeats.iter().sum()),
            usage,
            ranks,
            repeats: self.repeats.clone(),
            steps: self.steps.ended(),
        }
    }
}

/// Gives what lies behind a problem, the nearest first.
pub(super) fn causes(problem: &Problem) -> Vec<String> {
    let nearest = std::error::Error::source(problem);
    let all = std::iter::successors(nearest, |cause| cause.source());
    all.map(ToString::to_string).collect()
}

/// Says what to do about a problem.
pub(super) fn hint(problem: &Problem, level: Level) -> Option<String> {
    let error = match problem {
        Problem::Sandbox(error) => error,
        Problem::Refused(refusal) => return Some(refusal.fix.clone()),
        Problem::OutputDir { .. } => {
            return Some("name a folder that you can write to with --output-dir".into());
        }
        Problem::Layout(_) => {
            return Some("use fewer ranks, or --oversubscribe to let them share".into());
        }
        _ => return None,
    };
    let error = match error {
        SandboxError::Node { source, .. } => source,
        error => error,
    };
    match error {
        SandboxError::Spawn { step: SpawnStep::Privileges, .. } if !geteuid().is_root() => Some(
            "inside are only root and the ids that /etc/subuid and /etc/subgid give you: `hyperion doctor` says how to get more".into(),
        ),
        SandboxError::Spawn { step: SpawnStep::Privileges, source, .. } if source.raw_os_error() == Some(22) => Some(
            "a container knows the ids 0 to 65535, those of the host with --userns host".into(),
        ),
        SandboxError::Spawn { source, program, step: SpawnStep::Execute } => match source.raw_os_error() {
            Some(2) if program.contains('/') => Some("the file is missing, or the interpreter that it names is".into()),
            Some(2) if level == Level::Process => Some("it is in no folder of PATH: install it, or write its path".into()),
            Some(2) => Some("look at what is inside with: hyperion run IMAGE ls /usr/bin".into()),
            Some(8) => Some("the file is not a program for this architecture, or a script without '#!' in its first line".into()),
            Some(13) => Some("is it a program, and marked executable? chmod +x FILE".into()),
            _ => None,
        },
        // ENOSPC is what the kernel says when the limit on them is reached, 0 included.
        SandboxError::Namespaces(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull) => {
            Some("user namespaces are switched off here, or this is a chroot, in which there are none: `hyperion doctor` says which setting does it".into())
        }
        SandboxError::Init(_) => Some(
            "this user may have no more processes or open files: `ulimit -u` and `ulimit -n` tell the limits".into(),
        ),
        SandboxError::Machine(end) => hint_of_machine(end),
        SandboxError::Unwanted if level == Level::Vm => Some(
            "it hangs or is out of memory: give more with --memory".into(),
        ),
        SandboxError::Unwanted => Some(
            "its init is held up: by a file system that does not answer, or by a debugger".into(),
        ),
        SandboxError::Lost(e) if e.kind() == io::ErrorKind::TimedOut => Some(
            "a program of the job does it: --isolation container keeps programs from their init".into(),
        ),
        SandboxError::Starved => Some("give it more with --memory".into()),
        SandboxError::Lost(_) => Some(
            "its init was killed from outside, or for want of memory: `dmesg` may say which".into(),
        ),
        SandboxError::Spawn { step: SpawnStep::Folder, .. } => Some(match level {
            Level::Process => "-w names the working folder".into(),
            _ => "-w names the working folder, as seen inside".into(),
        }),
        SandboxError::Spawn { step: SpawnStep::Fork, .. } => Some(
            "allow more with --pids, where the init counts too, or more to this user: `ulimit -u` tells".into(),
        ),
        SandboxError::Spawn { step: SpawnStep::User, .. } => {
            Some("-u takes a name of the image's /etc/passwd or a number, and after ':' one of its /etc/group or a number".into())
        }
        SandboxError::Setup { step, source } if step == "mounting /proc" && source.kind() == io::ErrorKind::PermissionDenied => Some(
            "the container around this one hides parts of /proc: start it with --security-opt systempaths=unconfined (docker) or unmask=ALL (podman), or use --isolation process here".into(),
        ),
        SandboxError::Setup { step, source } if step.starts_with("separating the mounts") && source.raw_os_error() == Some(22) => Some(
            "this is a chroot: make its folder a mount first (mount --bind DIR DIR), or use --isolation process here".into(),
        ),
        SandboxError::Setup { step, .. } if step.starts_with("making the disk") => Some(
            "ask for less with --disk, or make room where the jobs lie".into(),
        ),
        SandboxError::Setup { step, source } if step.starts_with("copying folders") => Some(match source.kind() {
            io::ErrorKind::StorageFull => "make room where the jobs lie, or name a smaller folder",
            io::ErrorKind::ResourceBusy => "let what writes to it end first, or name a smaller folder",
            _ => "all in the folder must be readable: name one that is",
        }.into()),
        SandboxError::Setup { step, source } if step.starts_with("mounting the image") && source.raw_os_error() == Some(15) => Some(
            "files are mounted without a loop device from Linux 6.12 on: import the image (`hyperion image import`), which unpacks it".into(),
        ),
        SandboxError::Userns(_) if !geteuid().is_root() => Some(
            "newuidmap and newgidmap must be set-user-id programs, not run under no_new_privs, and the ranges in /etc/subuid and /etc/subgid the caller's: `hyperion doctor` looks".into(),
        ),
        SandboxError::Cgroup(_) => cgroups_fix(&Host::at("/")),
        _ => None,
    }
}

/// Says what to do about a machine that ended.
fn hint_of_machine(end: &MachineEnd) -> Option<String> {
    let text = match end {
        MachineEnd::Killed { .. } => {
            "somebody killed QEMU, or a limit on its processor time: `dmesg` may say which"
        }
        MachineEnd::OutOfMemory => {
            "this host has too little memory for it: give it less with --memory"
        }
        MachineEnd::TooOld { .. } => {
            "install QEMU 6.0 or later, and see that it is the first in PATH"
        }
        MachineEnd::Failed {
            said: Some(said), ..
        } if said.to_string().contains("unsupported machine type") => {
            "this QEMU was built without it: take the other, --machine q35"
        }
        MachineEnd::Failed { .. } => "the cause is in QEMU's own words",
        MachineEnd::Panicked { .. } => {
            "more memory (--memory) or another kernel (`hyperion vm kernel ls`) may help"
        }
        MachineEnd::Off { .. } => {
            "something inside switched it off, or gave up on the way up: its last words say what"
        }
        MachineEnd::Told => "somebody sent it SIGTERM: `hyperion stop` ends the job in order",
        MachineEnd::Stands { .. } => {
            "QEMU or KVM of this host failed: `dmesg` and `hyperion doctor kvm` may say more"
        }
        MachineEnd::Disk { full: true, .. } => {
            "make room where the jobs lie, or choose another disk with --root, and run it again: \
             what it wrote last is lost"
        }
        MachineEnd::Disk { .. } => {
            "a disk of this host fails: `dmesg` says more; what the job wrote last may be lost"
        }
        MachineEnd::Unbound { .. } => "leave out --bind, or name other processors with --cpuset",
        MachineEnd::InitEnded => {
            "something inside killed it, or too little memory did: give more with --memory"
        }
        MachineEnd::Nonsense => {
            "what runs inside is not what this program put there: trust nothing of its output"
        }
        MachineEnd::Silent { .. } => {
            "is the host busy? else another kernel may come up: `hyperion vm kernel ls`"
        }
        MachineEnd::Unanswered { .. } => "it hangs or is out of memory: give more with --memory",
    };
    Some(text.into())
}

/// Says what to do about what a failed program has written.
pub(super) fn hint_of_output(lines: &[String]) -> Option<String> {
    explain_failure(&lines.join("\n")).map(|hint| hint.fix)
}
