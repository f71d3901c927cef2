//! Starting ranks and watching them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

use hyperion_isolation::Event;
use hyperion_model::errand::Batch;
use hyperion_model::nodes::MOST_NODES;
use hyperion_model::report::{Exit, RankReport};
use hyperion_model::submission::WarningTo;
use hyperion_model::{Bytes, Level, ProcessSpec, Rank, RankSpec};
use hyperion_mpi::decide::LaunchKind;
use hyperion_mpi::env::{
    Position, is_foreign_launcher_variable, pbs_and_lsf_env, rank_env, slurm_env,
};
use hyperion_mpi::openmpi::OpenMpi;
use hyperion_sys::{process, signals};
use rustix::process::Pid;

use super::launch::job_variable;
use super::pmi::Pmi;
use super::streams::Owner;
use super::{FAILURE_GRACE, Problem, Supervisor, report};
use crate::jobs::Failure;
use crate::log::Stream;

/// Numbers of commands beside the ranks start here.
pub(super) const EXEC_BASE: u32 = 1 << 24;

/// The number of an `mpirun` that starts the ranks.
pub(super) const LEADER: u32 = (1 << 24) - 1;

/// Numbers of what it has asked to be started on other nodes, downwards.
const LAST_REMOTE: u32 = LEADER - 1;
/// The most of those at a time: each node needs one.
const MOST_REMOTES: u32 = 2 * MOST_NODES;

/// What a program finds its programs with when nobody says otherwise: docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One rank.
pub(super) struct RankState {
    started: Instant,
    /// Its process, by a number of this host's, at process level.
    pid: Option<Pid>,
    pub(super) ended: Option<RankReport>,
    pub(super) io: (u64, u64),
    pub(super) times: (std::time::Duration, std::time::Duration),
}

impl RankState {
    pub(super) fn started_now(pid: Option<Pid>) -> Self {
        Self {
            started: Instant::now(),
            pid,
            ended: None,
            io: (0, 0),
            times: Default::default(),
        }
    }

    /// Tells whether it has not ended yet.
    pub(super) fn runs(&self) -> bool {
        self.ended.is_none()
    }
}

impl Supervisor {
    /// Starts all ranks.
    pub(super) fn start_ranks(&mut self) -> Result<(), Problem> {
        let job = &self.launch.plan.job;
        if let Some(dir) = &job.output_dir {
            let unusable = |source| Problem::OutputDir {
                path: dir.clone(),
                source,
            };
            // Each task of an array has a folder of its own.
            let dir = match self.task {
                Some(task) => dir.join(format!("task.{task}")),
                None => dir.clone(),
            };
            std::fs::create_dir_all(&dir).map_err(unusable)?;
            self.streams.output_dir = Some(dir);
        }
        self.ranks.clear();
        self.steps.begin();
        let Some(decision) = &self.decision else {
            return Ok(());
        };
        let processes = decision.processes;
        let members = self.launch.plan.job.members.iter();
        let nodes: Vec<u32> = members.map(|member| member.ranks).collect();
        match decision.kind.clone() {
            LaunchKind::OpenMpi(open_mpi) => return self.start_open_mpi(&open_mpi),
            LaunchKind::Pmi1 => {
                let nodes = if nodes.is_empty() {
                    vec![processes]
                } else {
                    nodes
                };
                self.pmi = Some(Pmi::new(&nodes, &format!("kvs_{}", self.launch.plan.id)));
            }
            LaunchKind::None => {}
        }
        for rank in 0..processes {
            self.start_rank(rank)?;
        }
        Ok(())
    }

    fn start_rank(&mut self, rank: u32) -> Result<(), Problem> {
        let job = &self.launch.plan.job;
        let tty = job.tty && rank == 0;
        let stdin = job.interactive && rank == 0;
        let owner = Owner::Rank(rank);
        let mut fds = match &job.batch {
            Some(batch) => files_of(batch)?,
            None => self.streams_for(owner, tty, stdin)?,
        };
        // With a terminal or without, the standard streams are 0 to 2 and this is the next.
        let pmi = self.pmi.as_mut().map(|p| p.connect(rank)).transpose()?;
        let process = self.rank_process(rank, tty, pmi.is_some().then_some(3));
        fds.extend(pmi);
        let pid = self.spawn_for(owner, rank, &process, fds)?;
        self.ranks.insert(rank, RankState::started_now(pid));
        Ok(())
    }

    /// Starts a process of the job and takes its terminal, if it has one; gives its number
    /// where that is one of this host's.
    pub(super) fn spawn_for(
        &mut self,
        owner: Owner,
        id: u32,
        process: &ProcessSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Pid>, Problem> {
        self.alone = false;
        let spawned = self.ask(|sandbox, asker| sandbox.spawn(id, process, fds, asker))?;
        if let Some(master) = spawned.terminal {
            self.streams.terminal(owner, master)?;
        }
        let here = self.launch.plan.job.level == Level::Process;
        let pid = i32::try_from(spawned.pid).ok().and_then(Pid::from_raw);
        Ok(pid.filter(|_| here))
    }

    /// Starts an `mpirun` inside that starts the ranks, each beside a shim that
    /// puts it on its own streams and tells how it ends.
    fn start_open_mpi(&mut self, open_mpi: &OpenMpi) -> Result<(), Problem> {
        let Some(sandbox) = &mut self.sandbox else {
            return Ok(());
        };
        let shim = sandbox.shim_folder().join("hyperion-rank");
        if self.launch.plan.job.level == Level::Process && !shim.exists() {
            std::os::unix::fs::symlink(&self.launch.program, &shim)?;
        }
        for rank in 0..open_mpi.ranks {
            let output = self.streams.output(Owner::Rank(rank), Stream::Out)?;
            let error = self.streams.output(Owner::Rank(rank), Stream::Err)?;
            let node = self.launch.plan.job.seat(rank).node;
            let spec = RankSpec {
                env: self.rank_variables(rank, None),
                cpus: self.places.get(rank as usize).cloned().flatten(),
            };
            if let Some(sandbox) = &mut self.sandbox {
                sandbox.adopt(node, rank, spec, vec![output, error])?;
            }
            self.ranks.insert(rank, RankState::started_now(None));
        }
        let mut program = vec![shim.to_string_lossy().into_owned()];
        program.extend(self.launch.plan.job.argv.iter().cloned());
        let job = &self.launch.plan.job;
        let stdin = job.interactive;
        let mut process = self.rank_process(0, false, None);
        let remote_shell = format!("{} --remote", shim.display());
        process.argv = open_mpi.argv(&program, &remote_shell);
        process.cpus = None;
        // Each rank has its own, and the launcher is none.
        let first = self.rank_variables(0, None);
        process.env.retain(|variable| !first.contains(variable));
        process
            .env
            .extend(OpenMpi::env().iter().map(|(n, v)| format!("{n}={v}")));
        let fds = self.streams_for(Owner::Rank(0), false, stdin)?;
        self.spawn_for(Owner::Rank(0), LEADER, &process, fds)?;
        self.leader = Some(true);
        Ok(())
    }

    /// Makes the descriptors of a process: input, output, error; none with a terminal.
    pub(super) fn streams_for(
        &mut self,
        owner: Owner,
        tty: bool,
        stdin: bool,
    ) -> Result<Vec<OwnedFd>, Problem> {
        if tty {
            return Ok(Vec::new());
        }
        let input = if stdin {
            self.streams.input(owner)?
        } else {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
                .map_err(std::io::Error::from)?
        };
        let output = self.streams.output(owner, Stream::Out)?;
        let error = self.streams.output(owner, Stream::Err)?;
        Ok(vec![input, output, error])
    }

    /// Gives the variables that tell a rank which it is, `NAME=value`.
    fn rank_variables(&self, rank: u32, pmi_fd: Option<i32>) -> Vec<String> {
        let job = &self.launch.plan.job;
        let kind = self
            .decision
            .as_ref()
            .map_or(&LaunchKind::None, |d| &d.kind);
        let seat = job.seat(rank);
        let position = Position::at(Rank(rank), job.parallel.ranks, seat);
        let mut own = rank_env(kind, position, pmi_fd);
        // A job in a job of Slurm's words is a step of it.
        if job.batch.is_none() && job.env.contains_key("SLURM_JOB_ID") {
            own.extend(slurm_env(position));
        } else if job.batch.is_none() && job.env.contains_key("HYPERION_STEPS") {
            own.extend(pbs_and_lsf_env(position));
        }
        own.into_iter().map(|(n, v)| format!("{n}={v}")).collect()
    }

    fn rank_process(&self, rank: u32, tty: bool, pmi_fd: Option<i32>) -> ProcessSpec {
        let job = &self.launch.plan.job;
        let mut env = self.rank_variables(rank, pmi_fd);
        env.push(job_variable(&self.launch.plan.id));
        if let (Some(task), Some(all)) = (self.task, &job.array) {
            env.push(format!("HYPERION_TASK_ID={task}"));
            env.push(format!("HYPERION_TASK_COUNT={}", all.0.len()));
        }
        self.complete(&ProcessSpec {
            node: job.seat(rank).node,
            argv: job.argv.clone(),
            env,
            cwd: job.workdir.clone().unwrap_or_else(|| "/".into()),
            user: job.user.clone(),
            tty,
            terminal_size: self.clients.size.map(|s| (s.rows, s.columns)),
            cpus: self.places.get(rank as usize).cloned().flatten(),
            rlimits: job.rlimits.clone(),
        })
    }

    /// Puts a process's own variables on top of the image's and the job's.
    pub(super) fn complete(&self, process: &ProcessSpec) -> ProcessSpec {
        let plan = &self.launch.plan;
        let mut env: BTreeMap<&str, &str> = BTreeMap::new();
        let hostname;
        if plan.job.level != Level::Process {
            env.insert("PATH", DEFAULT_PATH);
            hostname = self.hostname(process.node);
            env.insert("HOSTNAME", &hostname);
            // Root inside is not root outside, so an mpirun of the script's own need not object.
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
                env.insert(name, "1");
            }
            if process.tty {
                env.insert("TERM", "xterm");
            }
        }
        let own = process.env.iter();
        let pairs = plan.image_env.iter().filter_map(|v| v.split_once('='));
        env.extend(pairs);
        env.extend(plan.job.env.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        // A job that was started by another launcher must not look for that one.
        env.retain(|name, _| !is_foreign_launcher_variable(name));
        // The script of a batch system expects that system's.
        let batch = plan.job.batch.iter().flat_map(|batch| &batch.variables);
        env.extend(batch.map(|(n, v)| (n.as_str(), v.as_str())));
        let steps = plan.job.batch.as_ref().and_then(|_| self.steps_variable());
        env.extend(steps.as_deref().and_then(|text| text.split_once('=')));
        let path;
        if plan.job.batch.is_some()
            && plan.job.level != Level::Process
            && let Some(sandbox) = &self.sandbox
        {
            // The launchers of its batch system, which start steps in here.
            let own = sandbox.shim_folder().join("bin");
            path = format!("{}:{}", own.display(), env.get("PATH").unwrap_or(&""));
            env.insert("PATH", &path);
        }
        env.extend(own.filter_map(|v| v.split_once('=')));
        let env = env.into_iter().map(|(n, v)| format!("{n}={v}")).collect();
        let cwd = if process.cwd.as_os_str().is_empty() {
            plan.job.workdir.clone().unwrap_or_else(|| "/".into())
        } else {
            process.cwd.clone()
        };
        let user = process.user.clone().or_else(|| plan.job.user.clone());
        ProcessSpec {
            env,
            cwd,
            user,
            ..process.clone()
        }
    }

    /// Gives the host name of a node of the job.
    fn hostname(&self, node: u32) -> String {
        let plan = &self.launch.plan;
        let mut names = plan.node_names().into_iter();
        names.nth(node as usize).unwrap_or_else(|| plan.hostname())
    }

    /// Gives the names of the job's nodes and how many ranks each holds; none where there is one.
    pub(super) fn nodes(&self) -> Vec<(String, u32)> {
        let plan = &self.launch.plan;
        let ranks = plan.job.members.iter().map(|member| member.ranks);
        plan.node_names().into_iter().zip(ranks).collect()
    }

    /// Starts on another node what an `mpirun` would start there by a remote shell.
    pub(super) fn start_remote(&mut self, host: &str, command: String) -> Result<(), Problem> {
        let node = self.nodes().iter().position(|(name, _)| name == host);
        // Only a launcher has something to start there, and nowhere else.
        let (Some(node), Some(true)) = (node, self.leader) else {
            return Ok(());
        };
        let mut numbers = (0..MOST_REMOTES).map(|i| LAST_REMOTE - i);
        let Some(id) = numbers.find(|id| !self.remotes.contains(id)) else {
            return Ok(());
        };
        let process = self.complete(&ProcessSpec {
            node: node as u32,
            argv: vec!["/bin/sh".into(), "-c".into(), command],
            env: OpenMpi::env()
                .iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect(),
            ..self.rank_process(0, false, None)
        });
        let fds = self.streams_for(Owner::Rank(0), false, false)?;
        self.spawn_for(Owner::Rank(0), id, &process, fds)?;
        self.remotes.insert(id);
        Ok(())
    }

    /// What an `mpirun` had asked for on another node has ended. It goes on in the
    /// background when all is well.
    pub(super) fn remote_ended(&mut self, exit: Exit) -> Result<(), Problem> {
        if exit.is_success() || self.failed_exit.is_some() || self.leader != Some(true) {
            return Ok(());
        }
        self.streams.catch_up(Owner::Rank(0), &mut self.clients);
        self.failed_exit = Some(exit);
        let last_lines = self.streams.last_lines(0);
        self.failure.get_or_insert(Failure {
            task: self.task,
            rank: None,
            what: format!(
                "mpirun could not be helped to another node: its daemon ended with exit code {}",
                exit.shell_code()
            ),
            causes: Vec::new(),
            hint: report::hint_of_output(&last_lines),
            last_lines,
        });
        self.stop(FAILURE_GRACE)
    }

    /// Warns the script, what it has started, or both. What its processes are called is
    /// known at process level only; elsewhere all of its group hear it.
    pub(super) fn warn(&mut self, signal: i32, to: WarningTo) -> Result<(), Problem> {
        let rank = self.ranks.values().find(|rank| rank.runs());
        let script = rank.and_then(|rank| rank.pid);
        match (to, script) {
            (WarningTo::Script, Some(script)) => {
                let _ = signals::send(script, signal);
            }
            (WarningTo::Steps, Some(script)) => {
                // What looks after steps is ours, and is no step.
                let ours = std::fs::read_link("/proc/self/exe").ok();
                for pid in process::descendants(script) {
                    let exe = format!("/proc/{}/exe", pid.as_raw_pid());
                    if std::fs::read_link(exe).ok() != ours {
                        let _ = signals::send(pid, signal);
                    }
                }
            }
            (WarningTo::Everything, _) | (_, None) => self.signal_ranks(signal)?,
        }
        Ok(())
    }

    /// Lets all that is inside stand still, or go on.
    pub(super) fn stand_still(&mut self, still: bool) -> Result<(), Problem> {
        self.still = still;
        let signal = if still {
            signals::SIGSTOP
        } else {
            signals::SIGCONT
        };
        let sandbox = self.sandbox.as_mut().filter(|_| !self.collecting);
        Ok(sandbox.map_or(Ok(()), |sandbox| sandbox.signal(None, signal))?)
    }

    /// Signals what the ranks are started by; what is to end does not stand still.
    pub(super) fn signal_ranks(&mut self, signal: i32) -> Result<(), Problem> {
        self.signal_started(signal)?;
        if self.still && (signals::ENDING.contains(&signal) || signal == signals::SIGKILL) {
            self.stand_still(false)?;
        }
        Ok(())
    }

    fn signal_started(&mut self, signal: i32) -> Result<(), Problem> {
        if self.leader == Some(true) {
            return Ok(self
                .sandbox
                .as_mut()
                .map_or(Ok(()), |s| s.signal(Some(LEADER), signal))?);
        }
        let running: Vec<u32> = self
            .ranks
            .iter()
            .filter(|(_, r)| r.runs())
            .map(|(&id, _)| id)
            .collect();
        let Some(sandbox) = &mut self.sandbox else {
            return Ok(());
        };
        for id in running {
            sandbox.signal(Some(id), signal)?;
        }
        Ok(())
    }

    /// A rank that an `mpirun` inside starts has asked for its streams.
    pub(super) fn rank_joined(&mut self, rank: u32) {
        if let Some(state) = self.ranks.get_mut(&rank) {
            state.started = Instant::now();
        }
    }

    /// The `mpirun` has ended. Ranks that never reported did not start, or were
    /// killed together with their shims.
    pub(super) fn leader_ended(&mut self, exit: Exit) -> Result<(), Problem> {
        self.leader = Some(false);
        self.ranks.retain(|_, r| !r.runs());
        if exit.is_success() || self.failed_exit.is_some() {
            return Ok(());
        }
        self.streams.catch_up(Owner::Rank(0), &mut self.clients);
        self.failed_exit = Some(exit);
        let last_lines = self.streams.last_lines(0);
        let what = format!("mpirun ended with exit code {}", exit.shell_code());
        let hint = report::hint_of_output(&last_lines);
        self.failure.get_or_insert(Failure {
            task: self.task,
            rank: None,
            what,
            causes: Vec::new(),
            hint,
            last_lines,
        });
        Ok(())
    }

    /// Writes down the end of a rank; the first failure ends the job.
    pub(super) fn rank_ended(&mut self, event: &Event) -> Result<(), Problem> {
        let Event::Ended {
            id,
            exit,
            user,
            system,
            max_rss,
            io_read,
            io_written,
            starved,
            ..
        } = *event
        else {
            return Ok(());
        };
        let Some(state) = self.ranks.get_mut(&id) else {
            return Ok(());
        };
        let exit = self.released.unwrap_or(exit);
        state.io = (io_read, io_written);
        state.times = (user, system);
        state.ended = Some(RankReport {
            rank: id,
            exit,
            cpu: user + system,
            memory_peak: Bytes(max_rss),
            wall: state.started.elapsed(),
        });
        let parallel = &self.launch.plan.job.parallel;
        if let Some(linger) = parallel.linger {
            let at = Instant::now() + linger;
            self.limit_at = Some(self.limit_at.map_or(at, |old| old.min(at)));
        }
        // Those that know of each other would wait for the one that has failed.
        let spoken = self.pmi.as_ref().is_some_and(|pmi| pmi.spoken);
        let independent = !spoken && self.leader.is_none();
        if parallel.keep_going && independent && !exit.is_success() && !self.last {
            let worst = self.failed_exit.map_or(0, Exit::shell_code);
            if exit.shell_code() > worst {
                self.failed_exit = Some(exit);
            }
            return Ok(());
        }
        // What a task of a lane ends with is its own.
        let goes_on = exit.is_success() || self.failed_exit.is_some();
        if goes_on || self.launch.plan.job.lane {
            return Ok(());
        }
        self.streams.catch_up(Owner::Rank(id), &mut self.clients);
        self.failed_exit = Some(exit);
        let failure = self.failure_of(id, exit, starved);
        self.failure.get_or_insert(failure);
        if self.leader == Some(true) {
            // Its mpirun ends the others by itself, and a signal on top of that crashes
            // Open MPI 4.1; one that takes too long is killed with all it started.
            self.kill_in(FAILURE_GRACE);
            return Ok(());
        }
        self.stop(FAILURE_GRACE)
    }

    fn failure_of(&self, rank: u32, exit: Exit, starved: bool) -> Failure {
        let size = self.launch.plan.job.parallel.ranks;
        let who = if size > 1 {
            format!("rank {rank} of {size}")
        } else {
            "the command".to_owned()
        };
        let who = match self.task {
            Some(task) => format!("{who} in task {task}"),
            None => who,
        };
        let usage = self.sandbox.as_ref().map(|s| s.usage()).unwrap_or_default();
        let killed_here = usage.oom_kills.is_some_and(|n| n > 0);
        let killed = exit == Exit::Signal(9);
        let out_of_memory = killed && (starved || killed_here);
        let job = &self.launch.plan.job;
        let limited = job.resources.memory.is_some() || job.level == Level::Vm;
        let what = match exit {
            _ if out_of_memory && limited => {
                format!("{who} was killed because the job reached its memory limit")
            }
            _ if out_of_memory => format!("{who} was killed because there was no memory left"),
            Exit::Signal(signal) => {
                format!("{who} was killed by {}", signals::name(i32::from(signal)))
            }
            Exit::Code(code) => format!("{who} ended with exit code {code}"),
        };
        let last_lines = self.streams.last_lines(rank);
        let hint = match (out_of_memory, limited) {
            (true, true) => Some("give it more with --memory".into()),
            (true, false) => {
                Some("this host, or what Hyperion itself runs in, has no more to give".into())
            }
            // Nobody counted what it used.
            (false, false) if killed && !self.launch.counted => Some(
                "if nobody killed it, memory may have run out: the kernel's log (`dmesg`) tells"
                    .into(),
            ),
            (false, _) => report::hint_of_output(&last_lines),
        };
        Failure {
            task: self.task,
            rank: (size > 1).then_some(rank),
            what,
            causes: Vec::new(),
            hint,
            last_lines,
        }
    }
}

/// Opens the files of a script's input, output and errors.
pub(super) fn files_of(batch: &Batch) -> Result<Vec<OwnedFd>, Problem> {
    let input = batch.input.as_deref().unwrap_or(Path::new("/dev/null"));
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| Problem::File { path, source }
    };
    let write = |path: &Path, append: bool| {
        let mut options = File::options();
        options.create(true).write(true).truncate(!append);
        // Also where it is written over: others may write to the same file.
        let append = options.custom_flags(rustix::fs::OFlags::APPEND.bits().cast_signed());
        append.open(path).map_err(unusable(path))
    };
    let input = File::open(input).map_err(unusable(input))?;
    let output = write(&batch.output, batch.append.0)?;
    let error = match &batch.error {
        Some(error) => write(error, batch.append.1)?,
        None => output.try_clone()?,
    };
    Ok(vec![input.into(), output.into(), error.into()])
}
