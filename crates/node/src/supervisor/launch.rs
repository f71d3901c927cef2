//! How a supervisor is started, and what with.

use std::cell::LazyCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use hyperion_isolation::Isolation;
use hyperion_isolation::wire::Wire;
use hyperion_model::report::Phase;
use hyperion_model::{Bytes, CpuSet, JobId, Level, NodePlan, Resources};
use hyperion_mpi::decide::Note;
use hyperion_mpi::layout::NumaNode;
use hyperion_sys::failpoint;
use hyperion_sys::process::{self, Fork};

use super::{clients, preflight, supervise};
use crate::client::Client;
use crate::jobs::{JobError, JobFolder, Jobs};
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

impl Launch {
    /// Tells whether it is one process that somebody waits for, with nothing around it that
    /// limits, counts or asks: its supervisor looks after it by itself, and its starter ends
    /// what that leaves when it is killed.
    pub(super) fn is_bare(&self) -> bool {
        let job = &self.plan.job;
        job.level == Level::Process
            && job.members.is_empty()
            && self.attach.is_some()
            && !self.counted
            && !self.plan.sandbox.resources.is_limited()
            && !preflight::is_looked_at(job)
    }

    /// Tells whether the record may be made while the program begins. Nothing is made then
    /// that could outlive the supervisor, no name can be taken, and nobody was told the id.
    pub(super) fn is_recorded_late(&self) -> bool {
        self.plan.job.name.is_none() && self.is_bare()
    }
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

/// Starts the supervisor of a job, makes the job's record and gives the connection to it.
///
/// # Errors
/// [`JobError`]; nothing is left behind then.
pub fn start(launch: Launch) -> Result<Client, JobError> {
    let failed = |source| no_supervisor(&launch.jobs, &launch.plan.id, source);
    let (mut ours, theirs) = Wire::pair().map_err(failed)?;
    if launch.is_bare() {
        adopt_orphans().map_err(failed)?;
    }
    match process::fork().map_err(failed)? {
        Fork::Parent(_) => {
            drop(theirs);
            let handed = match launch.is_recorded_late() {
                true => Ok(()),
                false => hand_over(&launch.jobs, &launch.plan, &mut ours),
            };
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
    make_record(jobs, plan, |folder, socket| {
        let lock = folder.lock().into_iter();
        let files: Vec<_> = lock.chain([socket.as_fd()]).collect();
        supervisor.send(&(), &files)
    })?;
    Ok(())
}

/// Makes the record of a job and the socket in it; what cannot be `used` is removed again.
pub(super) fn make_record(
    jobs: &Jobs,
    plan: &NodePlan,
    used: impl FnOnce(&JobFolder, OwnedFd) -> io::Result<()>,
) -> Result<JobFolder, JobError> {
    let folder = jobs.create(plan)?;
    failpoint!("record-made");
    let socket = clients::bind_in(&folder.path);
    let used = socket.and_then(|socket| {
        failpoint!("socket-made");
        used(&folder, socket)
    });
    match used {
        Ok(()) => Ok(folder),
        Err(source) => {
            jobs.free_name(&folder, plan.job.name.as_ref());
            let _ = jobs.erase(&folder);
            Err(no_supervisor(jobs, &plan.id, source))
        }
    }
}

/// Lets go of what is its starter's, and of the terminal where there is time for it now.
fn detach(launch: &Launch, client: &Wire) -> io::Result<()> {
    let mut own = vec![client.as_fd()];
    own.extend(launch.keep.iter().map(AsFd::as_fd));
    process::close_all_but(&own)?;
    // Orphans of a job whose init was killed come here and are ended here.
    adopt_orphans()?;
    match launch.is_recorded_late() {
        true => Ok(()),
        false => leave(),
    }
}

/// Leaves the terminal, its session and its files.
pub(super) fn leave() -> io::Result<()> {
    process::leave_terminal()?;
    let _ = rustix::thread::set_name(c"hyperion-sup");
    Ok(())
}

fn adopt_orphans() -> io::Result<()> {
    let this = rustix::process::getpid();
    Ok(rustix::process::set_child_subreaper(Some(this))?)
}

/// Ends what is left of a job whose supervisor is gone: where there was neither an init nor a
/// group, its processes are known by the job that they were told.
pub fn end_orphans(id: &JobId) {
    process::end_carriers(&job_variable(id));
}

/// Tells a program which job it belongs to.
pub(crate) fn job_variable(id: &JobId) -> String {
    format!("HYPERION_JOB_ID={id}")
}
