//! The records of jobs on disk.
//!
//! ```text
//! jobs/<i>/<id>/            i: the first digit of the id
//!              job.json      what was asked; locked by the supervisor while it lives
//!              running.json  the sandbox, for cleaning up after a crash
//!              end.json      how it ended and what it cost
//!              log           what it wrote, if anything
//!              lane          what it has run, where it is a lane: a line each
//!              control       the supervisor's socket
//! names/<name>               a link to the id
//! ```
//!
//! The folders in between are for ext4: it gives no inode out again for a minute
//! or more, and looks at all that were given up near by when it gives a new one,
//! so that many short jobs in one folder would become slower and slower. They
//! are marked to lie far from each other (`chattr +T`); to mark the folders of
//! jobs instead costs more than it saves.
//!
//! Each file is written once, with one call: a crash at any point leaves a
//! folder whose state can be told (see [`State`]).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyperion_isolation::SandboxRecord;
use hyperion_model::errand::LaneLine;
use hyperion_model::report::Exit;
use hyperion_model::{JobId, Name, NodePlan, RunReport};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::supervisor::end_orphans;

/// What goes wrong with the records of jobs.
#[derive(Debug, Error)]
pub enum JobError {
    /// No job has this id or name.
    #[error("there is no job {0:?}")]
    NotFound(String),
    /// Several ids begin like this.
    #[error("several jobs begin with {0:?}: {1}")]
    Ambiguous(String, String),
    /// The name is taken.
    #[error("the name {name:?} is in use by job {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// The job runs and must not be removed.
    #[error("job {0} is running")]
    Running(JobId),
    /// The job does not run, so it cannot be asked for anything.
    #[error("job {0} is not running")]
    NotRunning(JobId),
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

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JobError {
    let path = path.to_owned();
    move |source| JobError::Io {
        action,
        path,
        source,
    }
}

/// The list of what a lane has run.
const LANE: &str = "lane";

/// How long the first file of a job may take to be written; its maker died when it takes longer.
const MAKING: Duration = Duration::from_secs(5);

/// How long a supervisor may take to clean up after it has told the end.
const CLEANING: Duration = Duration::from_secs(2);

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its sandbox goes up.
    Starting,
    /// It runs.
    Running,
    /// It has ended and said how.
    Ended,
    /// Its supervisor was killed before it could say how the job ended.
    Lost,
}

/// The first file of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Asked {
    /// When it was asked for.
    pub created: Timestamp,
    /// What is to be done.
    pub plan: NodePlan,
}

/// The second file of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    /// When the first rank was started.
    pub started: Timestamp,
    /// The supervisor's process number.
    pub supervisor: u32,
    /// What to clean up after a crash.
    pub sandboxes: Vec<SandboxRecord>,
}

/// Why a job failed, in the words of its first failing rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The rank that failed first; none when the job as a whole did.
    pub rank: Option<u32>,
    /// The task of an array in which it failed.
    #[serde(default)]
    pub task: Option<u32>,
    /// What happened.
    pub what: String,
    /// Further causes, outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The last lines that the rank wrote to standard error.
    pub last_lines: Vec<String>,
}

/// The last file of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When it ended.
    pub finished: Timestamp,
    /// The exit code for the command line: the first failing rank's, or 0.
    pub code: u8,
    /// How its first failing rank ended, or the last one to end well.
    pub exit: Option<Exit>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Its sandbox was killed from outside, and nobody knows how its command would have ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// What it cost; none when it never started, or nobody may read it.
    pub report: Option<RunReport>,
    /// It started, and nobody may read what it cost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncounted: bool,
}

impl End {
    /// Tells whether anything of it has run.
    pub fn has_run(&self) -> bool {
        self.uncounted || self.report.is_some()
    }
}

/// All jobs below one root.
#[derive(Debug, Clone)]
pub struct Jobs {
    root: PathBuf,
}

impl Jobs {
    /// Names the folder; nothing is made or read yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Gives the folder of a job, there or not.
    pub fn place(&self, id: &JobId) -> PathBuf {
        let id = id.as_str();
        self.root.join("jobs").join(&id[..2]).join(id)
    }

    fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// Makes the folder of a new job and takes its name. The returned folder
    /// holds the job's lock.
    ///
    /// # Errors
    /// [`JobError::NameTaken`]; nothing is left behind then.
    pub fn create(&self, plan: &NodePlan) -> Result<JobFolder, JobError> {
        let mut folder = self.unmade(&plan.id);
        self.make_place(&folder.path)?;
        let made = folder
            .write_asked(plan)
            .and_then(|()| match &plan.job.name {
                Some(name) => self.take_name(name, &folder),
                None => Ok(()),
            });
        match made {
            Ok(()) => Ok(folder),
            Err(e) => {
                let _ = fs::remove_dir_all(&folder.path);
                Err(e)
            }
        }
    }

    /// Gives the folder that a job has when it is made.
    pub(crate) fn unmade(&self, id: &JobId) -> JobFolder {
        JobFolder {
            id: id.clone(),
            path: self.place(id),
            lock: None,
        }
    }

    /// Gives the folder of a job that another process has made, and has handed its lock over.
    pub(crate) fn taken_over(&self, id: &JobId, lock: OwnedFd) -> JobFolder {
        JobFolder {
            lock: Some(lock.into()),
            ..self.unmade(id)
        }
    }

    /// Makes the folder of a job, and what is missing above it.
    fn make_place(&self, path: &Path) -> Result<(), JobError> {
        match make_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            made => return made.map_err(failed("make", path)),
        }
        let jobs = self.root.join("jobs");
        if !jobs.exists() {
            make_dirs(&jobs)?;
            spread(&jobs);
        }
        path.parent().map_or(Ok(()), make_dirs)?;
        make_dir(path).map_err(failed("make", path))
    }

    fn take_name(&self, name: &Name, folder: &JobFolder) -> Result<(), JobError> {
        let link = self.names().join(name.as_str());
        for _ in 0..100 {
            match symlink(folder.id.as_str(), &link) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => make_dirs(&self.names())?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let owner = fs::read_link(&link).unwrap_or_default();
                    if let Some(owner) = self.folder(owner.as_os_str()) {
                        return Err(JobError::NameTaken {
                            name: name.to_string(),
                            id: owner.id.to_string(),
                        });
                    }
                    // The owner was removed by a process that died before it removed the name.
                    let _ = fs::remove_file(&link);
                }
                Err(e) => return Err(failed("make", &link)(e)),
            }
        }
        Err(JobError::NameTaken {
            name: name.to_string(),
            id: "another, many times over".into(),
        })
    }

    /// Finds a job by name, id, or the beginning of an id.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::Ambiguous`].
    pub fn find(&self, text: &str) -> Result<JobFolder, JobError> {
        if let Ok(name) = text.parse::<Name>()
            && let Ok(owner) = fs::read_link(self.names().join(name.as_str()))
            && let Some(folder) = self.folder(owner.as_os_str())
        {
            return Ok(folder);
        }
        let matching: Vec<JobFolder> = self
            .list()?
            .into_iter()
            .filter(|j| !text.is_empty() && j.id.as_str().starts_with(text))
            .collect();
        match <[JobFolder; 1]>::try_from(matching) {
            Ok([one]) => Ok(one),
            Err(none) if none.is_empty() => Err(JobError::NotFound(text.to_owned())),
            Err(many) => {
                let ids: Vec<&str> = many.iter().map(|j| j.id.as_str()).collect();
                Err(JobError::Ambiguous(text.to_owned(), ids.join(", ")))
            }
        }
    }

    /// Finds several jobs.
    ///
    /// # Errors
    /// As [`Jobs::find`], for the first that is not found.
    pub fn find_all(&self, texts: &[String]) -> Result<Vec<JobFolder>, JobError> {
        texts.iter().map(|text| self.find(text)).collect()
    }

    fn folder(&self, id: &OsStr) -> Option<JobFolder> {
        let id = id.to_str()?.parse().ok()?;
        let path = self.place(&id);
        path.is_dir().then_some(JobFolder {
            id,
            path,
            lock: None,
        })
    }

    /// Lists all jobs, the oldest first.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn list(&self) -> Result<Vec<JobFolder>, JobError> {
        let mut found = Vec::new();
        for between in entries(&self.root.join("jobs"))? {
            let ids = entries(&between)?;
            found.extend(ids.iter().filter_map(|p| self.folder(p.file_name()?)));
        }
        let mut jobs: Vec<(Option<Timestamp>, JobFolder)> = found
            .into_iter()
            .map(|j| (j.asked().ok().map(|a| a.created), j))
            .collect();
        jobs.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
        Ok(jobs.into_iter().map(|(_, j)| j).collect())
    }

    /// Removes the record of a job that does not run.
    ///
    /// # Errors
    /// [`JobError::Running`].
    pub fn remove(&self, job: &JobFolder) -> Result<(), JobError> {
        match job.state() {
            State::Starting | State::Running => return Err(JobError::Running(job.id.clone())),
            State::Lost => {}
            State::Ended => job.wait_cleaned(),
        }
        job.clean_up();
        self.free_name(job, job.asked().ok().and_then(|a| a.plan.job.name).as_ref());
        self.erase(job)
    }

    /// Lets others take the name of a job.
    pub(crate) fn free_name(&self, job: &JobFolder, name: Option<&Name>) {
        let Some(name) = name else { return };
        let link = self.names().join(name.as_str());
        if fs::read_link(&link).is_ok_and(|owner| owner == Path::new(job.id.as_str())) {
            let _ = fs::remove_file(&link);
        }
    }

    /// Removes the record, whatever the state; its name must be free.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub(crate) fn erase(&self, job: &JobFolder) -> Result<(), JobError> {
        match fs::remove_dir_all(&job.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &job.path)(e)),
            _ => Ok(()),
        }
    }
}

/// Makes a folder. Others may pass through but not look, whatever the caller's
/// umask is: the root of a user namespace is one of them.
fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().mode(0o711).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o711))
}

/// Makes a folder like [`make_dir`], with its parents, unless it is there.
fn make_dirs(path: &Path) -> Result<(), JobError> {
    use std::os::unix::fs::DirBuilderExt;
    let parents = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path.parent().unwrap_or(path));
    match parents.and_then(|()| make_dir(path)) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("make", path)(e)),
        _ => Ok(()),
    }
}

/// Lists the paths in a folder; one that is not there, or is none, is empty.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, JobError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|e| e.path()).collect()),
        // What somebody has put there is no folder of jobs, and none of our business.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(e) => Err(failed("list", folder)(e)),
    }
}

/// Tells the file system that what lies in this folder does not belong together.
fn spread(folder: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    if let Ok(folder) = File::open(folder)
        && let Ok(flags) = ioctl_getflags(&folder)
    {
        let _ = ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
}

/// The record of one job.
#[derive(Debug)]
pub struct JobFolder {
    /// Its id.
    pub id: JobId,
    /// Its folder.
    pub path: PathBuf,
    lock: Option<File>,
}

impl JobFolder {
    /// Gives the job's lock up: this process will do nothing more for it.
    pub(crate) fn unlock(&mut self) {
        self.lock = None;
    }

    /// Gives the descriptor that holds the job's lock, where this process has it.
    pub(crate) fn lock(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(AsFd::as_fd)
    }

    fn write_asked(&mut self, plan: &NodePlan) -> Result<(), JobError> {
        let asked = Asked {
            created: Timestamp::now(),
            plan: plan.clone(),
        };
        let path = self.path.join("job.json");
        let file = private_file(&path).map_err(failed("write", &path))?;
        // Locked before it holds anything: whoever can read it sees the lock.
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| failed("lock", &path)(e.into()))?;
        self.lock = Some(fill(file, &path, &asked)?);
        Ok(())
    }

    /// Reads what was asked.
    ///
    /// # Errors
    /// [`JobError::Io`], [`JobError::Damaged`].
    pub fn asked(&self) -> Result<Asked, JobError> {
        self.read("job.json")
    }

    /// Reads what runs; `None` before it does.
    pub fn running(&self) -> Option<Running> {
        self.read("running.json").ok()
    }

    /// Reads how it ended; `None` before it has.
    pub fn end(&self) -> Option<End> {
        self.read("end.json").ok()
    }

    /// Gives the path of the log.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Gives the folder for what the job writes into its root.
    pub fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Gives the path of the supervisor's socket.
    pub fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    /// Tells where the job stands.
    pub fn state(&self) -> State {
        if self.has_ended() {
            return State::Ended;
        }
        if self.lock.is_some() || self.is_locked() {
            let running = self.has("running.json");
            return if running {
                State::Running
            } else {
                State::Starting
            };
        }
        // It may have ended between the two looks.
        if self.has("end.json") {
            State::Ended
        } else if self.is_being_made() {
            State::Starting
        } else {
            State::Lost
        }
    }

    /// Tells whether it has said how it ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.has("end.json")
    }

    /// Tells whether the first file is not written yet, and may still come.
    fn is_being_made(&self) -> bool {
        let made = fs::metadata(&self.path).and_then(|m| m.modified());
        let young = made.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < MAKING));
        young && !self.has("job.json")
    }

    fn has(&self, name: &str) -> bool {
        fs::metadata(self.path.join(name)).is_ok_and(|m| m.len() > 0)
    }

    fn is_locked(&self) -> bool {
        let Ok(file) = File::open(self.path.join("job.json")) else {
            return false;
        };
        flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// Writes a file with one call, so that a killed writer leaves it whole or
    /// empty, and empty counts as not there.
    ///
    /// # Errors
    /// [`JobError::Io`]; the file is not there then.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<File, JobError> {
        let path = self.path.join(name);
        let file = private_file(&path).map_err(failed("write", &path))?;
        fill(file, &path, value)
    }

    /// Opens the list of what a lane has run, to write behind it.
    pub(crate) fn lane(&self) -> Result<File, JobError> {
        let path = self.path.join(LANE);
        let mut options = fs::OpenOptions::new();
        use std::os::unix::fs::OpenOptionsExt;
        let options = options.create(true).append(true).mode(0o600);
        options.open(&path).map_err(failed("write", &path))
    }

    /// Reads what a lane has run. A line that was not written whole is as if it were not there.
    pub fn lane_lines(&self) -> Vec<LaneLine> {
        let text = fs::read_to_string(self.path.join(LANE)).unwrap_or_default();
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T, JobError> {
        let path = self.path.join(name);
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| JobError::Damaged { path, source })
    }

    /// Waits a moment for the supervisor of a job that has told its end to clean up.
    pub fn wait_cleaned(&self) {
        let since = Instant::now();
        while self.control().exists() && self.is_locked() && since.elapsed() < CLEANING {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes what a killed supervisor has left outside the record: processes,
    /// cgroups, the scratch folder. Does nothing while a supervisor lives, and
    /// costs next to nothing when it has been done before.
    pub fn clean_up(&self) {
        // The socket is made before everything else that could be left, and removed last.
        if !self.control().exists() || self.lock.is_some() || self.is_locked() {
            return;
        }
        match self.running() {
            Some(running) => running.sandboxes.iter().for_each(SandboxRecord::clean_up),
            // Killed on the way up: where its groups are was not written down yet.
            None => {
                let nodes = self.asked().map_or(0, |asked| asked.plan.job.members.len());
                hyperion_isolation::process::clean_up_cgroups(&self.id, nodes as u32);
            }
        }
        // What had neither an init nor a group.
        end_orphans(&self.id);
        if let Ok(asked) = self.asked() {
            let _ = hyperion_isolation::container::remove_scratch(
                &self.scratch(),
                &asked.plan.sandbox.userns,
            );
        }
        let _ = fs::remove_file(self.control());
    }
}

/// Writes a value with one call; a file that cannot hold it is removed.
fn fill(mut file: File, path: &Path, value: &impl Serialize) -> Result<File, JobError> {
    let json = serde_json::to_vec(value).map_err(|source| JobError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    if let Err(e) = file.write_all(&json) {
        let _ = fs::remove_file(path);
        return Err(failed("write", path)(e));
    }
    Ok(file)
}

/// Makes a file that only its owner can read: specs hold environments, logs hold output.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
}
