//! The look at program and host before the ranks are started.

use hyperion_isolation::{Asker, FileKind, Sandbox, SandboxError};
use hyperion_model::{Bytes, JobSpec, Level, MpiChoice, Preflight, ProcessSpec};
use hyperion_mpi::decide::{self, LaunchKind, LaunchPlan};
use hyperion_mpi::family::Mpi;
use hyperion_mpi::preflight::{Command, inspect, is_launcher};
use hyperion_mpi::root::{Entry, EntryKind, RootView};

use super::{Problem, Supervisor};

/// The files inside a sandbox, read through its init: what is looked at is
/// what the program will see, whoever mounted it.
struct Inside<'a> {
    sandbox: &'a mut dyn Sandbox,
    asker: &'a mut dyn Asker,
    /// Why nothing more is seen.
    failed: Option<SandboxError>,
}

impl Inside<'_> {
    /// Asks for something, as long as answers come.
    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut dyn Sandbox, &mut dyn Asker) -> Result<T, SandboxError>,
    ) -> Option<T> {
        if self.failed.is_some() {
            return None;
        }
        ask(self.sandbox, self.asker)
            .map_err(|e| self.failed = Some(e))
            .ok()
    }
}

impl RootView for Inside<'_> {
    fn entry(&mut self, path: &str) -> Option<Entry> {
        let found = self.ask(|sandbox, asker| sandbox.look(path, asker))??;
        let kind = match found.kind {
            FileKind::File => EntryKind::File,
            FileKind::Folder => EntryKind::Folder,
            FileKind::Other => EntryKind::Other,
        };
        Some(Entry {
            kind,
            executable: found.executable,
            path: found.path,
        })
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        let len = u32::try_from(len).ok()?;
        self.ask(|sandbox, asker| sandbox.read_file(path, offset, len, asker))?
    }

    fn list(&mut self, folder: &str) -> Vec<String> {
        self.ask(|sandbox, asker| sandbox.list_folder(folder, asker))
            .unwrap_or_default()
    }
}

/// How the ranks of this job are started.
pub(super) struct Decision {
    pub(super) kind: LaunchKind,
    pub(super) processes: u32,
    /// Who starts the ranks, for the report.
    pub(super) words: Option<String>,
}

/// Tells whether what a job runs is looked at before. One rank needs no launcher, and a look
/// costs more than its start.
pub(super) fn is_looked_at(job: &JobSpec) -> bool {
    let parallel = &job.parallel;
    parallel.ranks > 1
        || is_launcher(&job.argv)
        || parallel.preflight != Preflight::Quiet
        || !matches!(parallel.mpi, MpiChoice::Auto | MpiChoice::None)
}

impl Supervisor {
    /// Decides how the ranks are started; gives `None` when the job was only to be looked at.
    pub(super) fn preflight(&mut self) -> Result<Option<Decision>, Problem> {
        if !is_looked_at(&self.launch.plan.job) {
            return Ok(Some(Decision {
                kind: LaunchKind::None,
                processes: 1,
                words: None,
            }));
        }
        let process = self.complete(&ProcessSpec {
            node: 0,
            argv: self.launch.plan.job.argv.clone(),
            env: Vec::new(),
            cwd: self
                .launch
                .plan
                .job
                .workdir
                .clone()
                .unwrap_or_else(|| "/".into()),
            user: None,
            tty: false,
            terminal_size: None,
            cpus: None,
            rlimits: Vec::new(),
        });
        let variable = |name: &str| {
            process
                .env
                .iter()
                .find_map(|v| v.strip_prefix(name)?.strip_prefix('='))
        };
        let cwd = process.cwd.to_string_lossy().into_owned();
        let command = Command {
            argv: &process.argv,
            path: variable("PATH").unwrap_or("/usr/bin:/bin"),
            library_path: variable("LD_LIBRARY_PATH").unwrap_or(""),
            cwd: &cwd,
        };
        let host = self.host_facts();
        let facts = self.ask(|sandbox, asker| {
            let mut inside = Inside {
                sandbox,
                asker,
                failed: None,
            };
            let facts = inspect(&mut inside, &command);
            inside.failed.map_or(Ok(facts), Err)
        })?;
        let parallel = &self.launch.plan.job.parallel;
        let mut plan = decide::decide(&facts, &host, parallel)?;
        plan.notes.extend(self.launch.notes.iter().cloned());
        if parallel.preflight != Preflight::Quiet {
            self.clients.note(plan.to_string().trim_end());
        } else {
            for line in warnings(&plan) {
                self.clients.note(&line);
            }
        }
        if parallel.preflight == Preflight::Only {
            return Ok(None);
        }
        let words = describe(&plan.kind, facts.mpi.as_ref());
        Ok(Some(Decision {
            words: Some(words),
            processes: plan.processes,
            kind: plan.kind,
        }))
    }

    fn host_facts(&self) -> decide::HostFacts {
        let plan = &self.launch.plan;
        let dev_shm = match plan.job.level {
            Level::Process => rustix::fs::statvfs("/dev/shm")
                .ok()
                .map(|s| Bytes(s.f_bavail * s.f_frsize)),
            // The kernel gives a tmpfs half of the memory unless told otherwise.
            Level::Container | Level::Vm => plan
                .job
                .container
                .shm_size
                .or(Some(Bytes(self.launch.host.memory.0 / 2))),
        };
        let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
        decide::HostFacts {
            arch: self.launch.host.arch.clone(),
            foreign_archs: foreign_archs(),
            level: plan.job.level,
            cpus: self.launch.host.usable_cpus(&plan.sandbox.resources) * plan.job.nodes(),
            nodes: self.nodes(),
            dev_shm,
            ptrace_scope: scope.and_then(|s| s.trim().parse().ok()),
        }
    }
}

/// Gives the architectures whose programs QEMU runs here, by binfmt_misc's names.
fn foreign_archs() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/sys/fs/binfmt_misc") else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok());
    let mut archs: Vec<String> = names
        .filter_map(|n| n.strip_prefix("qemu-").map(str::to_owned))
        .collect();
    archs.sort_unstable();
    archs
}

fn warnings(plan: &LaunchPlan) -> Vec<String> {
    plan.lines()
        .into_iter()
        .zip(&plan.notes)
        .filter(|(_, note)| note.warning)
        .map(|(line, _)| line)
        .collect()
}

fn describe(kind: &LaunchKind, mpi: Option<&Mpi>) -> String {
    let name = mpi.map(|m| match &m.version {
        Some(version) => format!("{} {version}", m.family),
        None => m.family.to_string(),
    });
    match (kind, name) {
        (LaunchKind::Pmi1, Some(name)) => format!("{name} by PMI-1"),
        (LaunchKind::Pmi1, None) => "PMI-1".into(),
        (LaunchKind::OpenMpi(_), Some(name)) => format!("{name}'s mpirun"),
        (LaunchKind::OpenMpi(_), None) => "Open MPI's mpirun".into(),
        (LaunchKind::None, _) => "independent".into(),
    }
}
