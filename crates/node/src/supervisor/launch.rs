//! How a supervisor is started, and what with.

use std::cell::LazyCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use hyperion_isolation::Isolation;
use hyperion_isolation::wire::Wire;
use hyperion_model::report::Phase;
use hyperion_model::{Bytes, CpuSet, JobId, NodePlan, Resources};
use hyperion_mpi::decide::Note;
use hyperion_mpi::layout::NumaNode;
use hyperion_sys::failpoint;
use hyperion_sys::process::{self, Fork};
use rustix::fs::{Mode, OFlags};

use super::{clients, supervise};
use crate::client::Client;
use crate::jobs::{JobError, Jobs};
use crate::talk::Size;

/// What a supervisor is started with.
pub struct Launch {
    /// What is to be done.
    pub plan: NodePlan,
    /// Where the jobs lie.
    pub jobs: Jobs,
    /// How it is fenced.
    pub isolation: Box<dyn Isolation>,
    /// The file of this program.
    pub program: PathBuf,
    /// When the command line began.
    pub began: Instant,
    /// What has been done so far.
    pub phases: Vec<Phase>,
    /// What this host has.
    pub host: HostFacts,
    /// Whether the starting command stays attached: does input come, and the
    /// size of its terminal.
    pub attach: Option<(bool, Option<Size>)>,
    /// What must stay open as long as the job lives: the lease of its image.
    pub keep: Vec<OwnedFd>,
    /// What was decided before, for those who ask how it will go.
    pub notes: Vec<Note>,
    /// Whether anybody may read what it has used.
    pub counted: bool,
}

/// What is looked at when it is asked for first.
pub type Looked<T> = LazyCell<T, Box<dyn FnOnce() -> T>>;

/// What a supervisor must know of its host.
pub struct HostFacts {
    /// How many processors this process may use.
    pub cpus: u32,
    /// All memory.
    pub memory: Looked<Bytes>,
    /// The processors that this process may use.
    pub allowed: CpuSet,
    /// Which processors are near which memory.
    pub nodes: Vec<NumaNode>,
    /// The architecture, in the words of `uname -m`.
    pub arch: String,
}

impl HostFacts {
    /// Gives the processors that a job with these limits may use.
    pub(super) fn allowed(&self, resources: &Resources) -> CpuSet {
        match &resources.cpuset {
            Some(asked) => CpuSet(asked.0.intersection(&self.allowed.0).copied().collect()),
            None => self.allowed.clone(),
        }
    }

    /// Counts them.
    pub(super) fn usable_cpus(&self, resources: &Resources) -> u32 {
        let allowed = self.allowed(resources).len();
        u32::try_from(allowed).unwrap_or(self.cpus)
    }
}

/// Makes the record of a job, starts its supervisor and gives the connection to it.
///
/// # Errors
/// [`JobError`]; nothing is left behind then.
pub fn start(launch: Launch) -> Result<Client, JobError> {
    let failed = |source| no_supervisor(&launch.jobs, &launch.plan.id, source);
    let (mut ours, theirs) = Wire::pair().map_err(failed)?;
    match process::fork().map_err(failed)? {
        Fork::Parent(_) => {
            drop(theirs);
            let handed = hand_over(&launch.jobs, &launch.plan, &mut ours);
            // Freeing writes to memory, and each page that is written to is now copied first.
            std::mem::forget(launch.plan);
            handed.map(|()| Client::new(ours))
        }
        Fork::Child => {
            drop(ours);
            let done = detach(&launch, &theirs).and_then(|()| supervise(launch, theirs));
            let code = u8::from(done.is_err());
            process::exit_now(code)
        }
    }
}

fn no_supervisor(jobs: &Jobs, id: &JobId, source: io::Error) -> JobError {
    JobError::Io {
        action: "start the supervisor of",
        path: jobs.place(id),
        source,
    }
}

/// Makes the record of a job and hands it to its supervisor, which comes up meanwhile
/// and makes nothing that could be left behind before it has that.
pub(super) fn hand_over(
    jobs: &Jobs,
    plan: &NodePlan,
    supervisor: &mut Wire,
) -> Result<(), JobError> {
    let folder = jobs.create(plan)?;
    failpoint!("record-made");
    let socket = clients::bind_in(&folder.path);
    let handed = socket.and_then(|socket| {
        failpoint!("socket-made");
        let lock = folder.lock().into_iter();
        let files: Vec<_> = lock.chain([socket.as_fd()]).collect();
        supervisor.send(&(), &files)
    });
    handed.map_err(|source| {
        jobs.free_name(&folder, plan.job.name.as_ref());
        let _ = jobs.erase(&folder);
        no_supervisor(jobs, &plan.id, source)
    })
}

/// Leaves the terminal, its session and its files.
fn detach(launch: &Launch, client: &Wire) -> io::Result<()> {
    rustix::process::setsid()?;
    let mut own = vec![client.as_fd()];
    own.extend(launch.keep.iter().map(AsFd::as_fd));
    process::close_all_but(&own)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    process::install_fds(&[null.as_fd(); 3])?;
    rustix::process::chdir("/")?;
    let _ = rustix::thread::set_name(c"hyperion-sup");
    // Orphans of a job whose init was killed come here and are ended here.
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}
