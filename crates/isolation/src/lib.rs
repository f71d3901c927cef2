//! How a program is fenced: as a process, in a container, in a machine of its own.
//!
//! An [`Isolation`] puts up a [`Sandbox`]; processes are spawned into it, and
//! all ranks of a job on one node join the same one. Inside every sandbox runs
//! the same [`init`], which speaks the same [`protocol`]; only the wire differs.
//! A single process with nothing around it needs none (`bare`).
//!
//! **Architecture invariant:** nothing here knows where a job came from or who
//! schedules it. Nothing here prints, reads the environment or keeps records.

pub mod container;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod init;
pub mod nodes;
pub mod process;
pub mod protocol;
pub mod vm;
pub mod wire;

mod bare;
mod guest;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyperion_model::{ProcessSpec, RankSpec, SandboxSpec, Usage};
use hyperion_sys::cgroup::{Cgroup, Layout};
use hyperion_sys::process::{kill_tree, standing, wake};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

pub use error::SandboxError;
pub use hyperion_image::folder::Taken;
pub use protocol::{Event, FileEntry, FileKind};

/// A way to fence programs.
pub trait Isolation {
    /// Puts up a sandbox with its init inside, and nothing else running. One
    /// that takes its time is still on its way up then: [`Sandbox::is_up`] tells.
    ///
    /// `stage` holds what is needed while it goes up; see [`Stage`].
    ///
    /// # Errors
    /// [`SandboxError`]; nothing is left behind.
    fn create(&self, spec: &SandboxSpec, stage: &Stage) -> Result<Box<dyn Sandbox>, SandboxError>;

    /// Tells whether a program stands in for the processor.
    fn emulates(&self) -> bool {
        false
    }
}

/// Who asks something of what is inside a sandbox, and waits for the answer:
/// nothing inside is trusted to give one.
pub trait Asker {
    /// Waits until `sandbox` is readable, for a while at most; tells whether it is.
    ///
    /// # Errors
    /// [`SandboxError::Unwanted`] when the answer is not worth waiting for any more.
    fn wait(&mut self, sandbox: BorrowedFd<'_>, most: &Timespec) -> Result<bool, SandboxError>;
}

/// Waits as long as it takes.
pub(crate) struct Patient;

impl Asker for Patient {
    fn wait(&mut self, sandbox: BorrowedFd<'_>, most: &Timespec) -> Result<bool, SandboxError> {
        let mut fds = [PollFd::from_borrowed_fd(sandbox, PollFlags::IN)];
        match poll(&mut fds, Some(most)) {
            Ok(ready) => Ok(ready > 0),
            // Looked at as if it were: nothing is there, and the next wait follows.
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(e) => Err(SandboxError::Lost(e.into())),
        }
    }
}

/// What the host lends to a sandbox while it goes up.
#[derive(Debug, Clone)]
pub struct Stage {
    /// A folder of the sandbox's own: its root is put together on top of it, in
    /// its own mount namespace, and at process level the shim lies in it.
    pub folder: PathBuf,
    /// The file of this program, which becomes the init.
    pub program: PathBuf,
    /// Its way into the network between the nodes of its job, where there are several.
    pub port: Option<Rc<OwnedFd>>,
    /// Where this host has groups.
    pub groups: Layout,
    /// Nothing is to be around a process, and nobody beside it: neither a group nor an init.
    pub bare: bool,
    /// Whether anybody may read what is used inside.
    pub counted: bool,
}

/// One fence on one node.
///
/// Legal order: `is_up` until it is; then `spawn`, `adopt`, `signal`, `resize`, `usage` and the file calls in any
/// order until `end` or `destroy`, after which only `destroy` is legal. After an
/// error of what waits for an answer (it is lost, or unwanted) only `usage`,
/// `records`, `end` and `destroy` are: an answer that is late would be taken for another.
pub trait Sandbox {
    /// Tells whether it is up. As long as it is not, [`Sandbox::fd`] is readable
    /// when it is to be asked again.
    ///
    /// # Errors
    /// [`SandboxError`]: why it never will be.
    fn is_up(&mut self) -> Result<bool, SandboxError> {
        Ok(true)
    }

    /// Starts a process. `fds` become its descriptors from 0 on, or from 3 on
    /// when it gets a terminal, whose other end is returned.
    ///
    /// # Errors
    /// [`SandboxError::Spawn`] when the program could not be executed.
    fn spawn(
        &mut self,
        id: u32,
        process: &ProcessSpec,
        fds: Vec<OwnedFd>,
        asker: &mut dyn Asker,
    ) -> Result<Spawned, SandboxError>;

    /// Announces a rank that something inside (an `mpirun`) will start on this
    /// node: its standard output and error, which the shim inside asks for.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    fn adopt(
        &mut self,
        node: u32,
        id: u32,
        rank: RankSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<(), SandboxError>;

    /// Sends a signal to one process, or to all that were spawned; SIGSTOP and SIGCONT
    /// for all reach every process inside.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    fn signal(&mut self, id: Option<u32>, signal: i32) -> Result<(), SandboxError>;

    /// Has a step of a script end, where there is no signal, or sends it one; a step that
    /// does not run is left alone.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    fn step(&mut self, number: u32, signal: Option<i32>) -> Result<(), SandboxError>;

    /// Tells the terminal of a process its size in character cells; one without
    /// a terminal, or that has ended, is left alone.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    fn resize(&mut self, id: u32, rows: u16, columns: u16) -> Result<(), SandboxError>;

    /// Is readable when [`Sandbox::next_event`] has something to say.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Takes the next event without waiting.
    ///
    /// # Errors
    /// [`SandboxError::Lost`] when the init is gone.
    fn next_event(&mut self) -> Result<Option<Event>, SandboxError>;

    /// Reads part of a regular file inside, links followed inside; `None` when
    /// there is none. At most 1 MiB at once.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    fn read_file(
        &mut self,
        path: &str,
        offset: u64,
        len: u32,
        asker: &mut dyn Asker,
    ) -> Result<Option<Vec<u8>>, SandboxError>;

    /// Lists a folder inside, sorted; empty when there is none.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    fn list_folder(
        &mut self,
        path: &str,
        asker: &mut dyn Asker,
    ) -> Result<Vec<String>, SandboxError>;

    /// Tells what is at a path inside, links followed.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    fn look(
        &mut self,
        path: &str,
        asker: &mut dyn Asker,
    ) -> Result<Option<FileEntry>, SandboxError>;

    /// Waits for a sign that whoever is inside still answers, on each node.
    ///
    /// # Errors
    /// [`SandboxError::Unwanted`], [`SandboxError::Lost`].
    fn shows_life(&mut self, asker: &mut dyn Asker) -> Result<(), SandboxError> {
        self.look("/", asker).map(drop)
    }

    /// Gives what all processes inside have used together so far.
    fn usage(&self) -> Usage;

    /// Gives what the processes inside use now, where there are no groups that know it.
    fn usage_now(&self) -> Usage {
        self.usage()
    }

    /// Gives what each of several nodes uses now; none where there is one.
    fn usage_of_nodes(&self) -> Vec<Usage> {
        Vec::new()
    }

    /// Gives what a later process needs to clean up after a crash.
    fn records(&self) -> Vec<SandboxRecord>;

    /// Gives the path, as seen inside, of the folder with the shim
    /// `hyperion-rank` and the socket `ranks`.
    fn shim_folder(&self) -> PathBuf;

    /// Tells whether it works on copies of folders, and what is changed in them is
    /// to be brought out.
    fn collects(&self) -> bool {
        false
    }

    /// Ends everything inside and begins to bring out what was changed in copies of
    /// folders. [`Event::Collected`] is the last event then; only `fd`, `next_event`,
    /// `usage`, `end` and `destroy` are legal until it, and the last two after it.
    ///
    /// # Errors
    /// [`SandboxError::Lost`].
    fn collect(&mut self) -> Result<(), SandboxError> {
        Ok(())
    }

    /// Sees to it that all that carries a variable ends with this process, now that nobody
    /// else does: an init does.
    ///
    /// # Errors
    /// [`SandboxError::Init`].
    fn guard(&mut self, _variable: &str) -> Result<(), SandboxError> {
        Ok(())
    }

    /// Asks what is inside to end; only [`Sandbox::destroy`] is legal after it,
    /// which waits for that, for a moment.
    fn end(&mut self);

    /// Kills everything inside and removes what was made. Idempotent.
    fn destroy(&mut self);
}

/// What came of a spawn.
#[derive(Debug)]
pub struct Spawned {
    /// Its number, as its own namespace sees it.
    pub pid: u32,
    /// The supervisor's end of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

/// What was made for a sandbox and outlives the process that made it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its groups.
    pub cgroup: Cgroup,
    /// Its init, as this host numbers it.
    pub init: u32,
    /// When the init started, in clock ticks since boot: tells a recycled number apart.
    pub init_started: u64,
}

/// How long an init may take to end what it started after its supervisor has died.
const INIT_GRACE: Duration = Duration::from_secs(1);

impl SandboxRecord {
    /// Gives the init, if it still runs.
    fn init(&self) -> Option<Pid> {
        let pid = Pid::from_raw(self.init.cast_signed())?;
        let standing = standing(pid)?;
        (standing.started == self.init_started).then_some(pid)
    }

    /// Kills what is left of a sandbox whose supervisor is gone, and removes its groups.
    pub fn clean_up(&self) {
        // The init ends with its supervisor, and ends everything inside first.
        let since = Instant::now();
        while let Some(init) = self.init() {
            if since.elapsed() > INIT_GRACE {
                // Killed alone it would leave behind, where there is no group, what it started.
                kill_tree(init);
                break;
            }
            wake(init);
            std::thread::sleep(Duration::from_millis(2));
        }
        self.cgroup.kill();
        self.cgroup.remove();
    }
}
