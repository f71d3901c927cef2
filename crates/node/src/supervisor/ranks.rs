//! Starting ranks and watching them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use hyperion_isolation::Event;
use hyperion_model::report::{Exit, RankReport};
use hyperion_model::{Bytes, Level, ProcessSpec};
use hyperion_sys::signals;

use super::streams::Owner;
use super::{FAILURE_GRACE, Problem, Supervisor, report};
use crate::jobs::Failure;
use crate::log::Stream;

/// Numbers of commands beside the ranks start here.
pub(super) const EXEC_BASE: u32 = 1 << 24;

/// What a program finds its programs with when nobody says otherwise: docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One rank.
pub(super) struct RankState {
    started: Instant,
    pub(super) ended: Option<RankReport>,
    pub(super) io: (u64, u64),
    pub(super) times: (std::time::Duration, std::time::Duration),
}

impl RankState {
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
            std::fs::create_dir_all(dir).map_err(unusable)?;
            self.streams.output_dir = Some(dir.clone());
        }
        self.ranks.clear();
        for rank in 0..job.parallel.ranks {
            self.start_rank(rank)?;
        }
        Ok(())
    }

    fn start_rank(&mut self, rank: u32) -> Result<(), Problem> {
        let job = &self.launch.plan.job;
        let tty = job.tty && rank == 0;
        let stdin = job.interactive && rank == 0;
        let process = self.rank_process(rank, tty);
        let fds = self.streams_for(Owner::Rank(rank), tty, stdin)?;
        let Some(sandbox) = &mut self.sandbox else {
            return Ok(());
        };
        let spawned = sandbox.spawn(rank, &process, fds)?;
        if let Some(master) = spawned.terminal {
            self.streams.terminal(Owner::Rank(rank), master)?;
            if let Some(size) = self.clients.size {
                self.streams
                    .resize(Owner::Rank(rank), size.rows, size.columns);
            }
        }
        self.ranks.insert(
            rank,
            RankState {
                started: Instant::now(),
                ended: None,
                io: (0, 0),
                times: Default::default(),
            },
        );
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

    fn rank_process(&self, rank: u32, tty: bool) -> ProcessSpec {
        let job = &self.launch.plan.job;
        let size = job.parallel.ranks;
        let own = [
            ("HYPERION_RANK", rank),
            ("HYPERION_LOCAL_RANK", rank),
            ("HYPERION_SIZE", size),
        ];
        let mut env: Vec<String> = own
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        env.push(format!("HYPERION_JOB_ID={}", self.launch.plan.id));
        self.complete(&ProcessSpec {
            argv: job.argv.clone(),
            env,
            cwd: job.workdir.clone().unwrap_or_else(|| "/".into()),
            user: job.user.clone(),
            tty,
            cpus: None,
            rlimits: job.rlimits.clone(),
        })
    }

    /// Puts a process's own variables on top of the image's and the job's.
    pub(super) fn complete(&self, process: &ProcessSpec) -> ProcessSpec {
        let plan = &self.launch.plan;
        let mut env: BTreeMap<&str, &str> = BTreeMap::new();
        let hostname;
        if plan.job.level == Level::Container {
            env.insert("PATH", DEFAULT_PATH);
            hostname = plan
                .job
                .container
                .hostname
                .clone()
                .unwrap_or_else(|| plan.id.to_string());
            env.insert("HOSTNAME", &hostname);
            if process.tty {
                env.insert("TERM", "xterm");
            }
        }
        let own = process.env.iter();
        let pairs = plan.image_env.iter().filter_map(|v| v.split_once('='));
        env.extend(pairs);
        env.extend(plan.job.env.iter().map(|(n, v)| (n.as_str(), v.as_str())));
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

    /// Signals what the ranks are started by.
    pub(super) fn signal_ranks(&mut self, signal: i32) -> Result<(), Problem> {
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
        } = *event
        else {
            return Ok(());
        };
        let Some(state) = self.ranks.get_mut(&id) else {
            return Ok(());
        };
        state.io = (io_read, io_written);
        state.times = (user, system);
        state.ended = Some(RankReport {
            rank: id,
            exit,
            cpu: user + system,
            memory_peak: Bytes(max_rss),
            wall: state.started.elapsed(),
        });
        if exit.is_success() || self.failed_exit.is_some() {
            return Ok(());
        }
        self.streams.catch_up(Owner::Rank(id), &mut self.clients);
        self.failed_exit = Some(exit);
        let failure = self.failure_of(id, exit);
        self.failure.get_or_insert(failure);
        self.stop(FAILURE_GRACE)
    }

    fn failure_of(&self, rank: u32, exit: Exit) -> Failure {
        let size = self.launch.plan.job.parallel.ranks;
        let who = if size > 1 {
            format!("rank {rank} of {size}")
        } else {
            "the command".to_owned()
        };
        let usage = self.sandbox.as_ref().map(|s| s.usage()).unwrap_or_default();
        let out_of_memory = exit == Exit::Signal(9) && usage.oom_kills.is_some_and(|n| n > 0);
        let what = match exit {
            _ if out_of_memory => {
                format!("{who} was killed because the job reached its memory limit")
            }
            Exit::Signal(signal) => {
                format!("{who} was killed by {}", signals::name(i32::from(signal)))
            }
            Exit::Code(code) => format!("{who} ended with exit code {code}"),
        };
        let last_lines = self.streams.last_lines(rank);
        let hint = if out_of_memory {
            Some("give it more with --memory".into())
        } else {
            report::hint_of_output(&last_lines)
        };
        Failure {
            rank: (size > 1).then_some(rank),
            what,
            causes: Vec::new(),
            hint,
            last_lines,
        }
    }
}
