//! Freezing the disks of a machine that runs: from one moment on it writes to layers
//! above them, in all of its disks or in none.
//!
//! ```text
//! layers made, QEMU has them open ─► defined ─► guest's file systems frozen ─► raised ─► thawed
//! ```
//!
//! It is defined before it is done. Until it is done the layers are empty, so a
//! machine that is started from its definition then has what it wrote, whoever was
//! killed in between.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_isolation::vm::agent::{Agent, AgentError};
use hyperion_isolation::vm::machine::{layer, target_of};
use hyperion_isolation::vm::qmp::{Qmp, QmpError};
use hyperion_model::machine::{Disk, DiskSource};
use hyperion_model::{Class, MachineSpec};
use hyperion_node::machines::{MachineError, MachineFolder};
use hyperion_sys::failpoint;
use hyperion_sys::process::{self, Fork};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::change::{file_of, is_written};
use super::layers;
use super::machines::LIMIT;
use crate::{errors, output};

/// How long the guest's agent may take to say that it is there.
const GREETING: Duration = Duration::from_secs(2);
/// How long a guest may take to write out what it holds back.
const FREEZING: Duration = Duration::from_secs(30);
/// The most layers below a disk: each is one more to look through.
pub(super) const MOST_LAYERS: usize = 32;

/// What frozen disks hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Content {
    /// All: the machine was shut off.
    #[default]
    ShutOff,
    /// All that the guest's file systems were told: they were frozen.
    Frozen,
    /// What had reached the disks, as when the power fails.
    PowerCut,
}

impl Content {
    /// Says it to people.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::ShutOff => "shut off",
            Self::Frozen => "file systems frozen",
            Self::PowerCut => "as after a power cut",
        }
    }
}

/// Who may change a machine's disks.
pub(super) enum Alone {
    /// Nobody starts it as long as this is held.
    ShutOff(File),
    /// It runs, and nobody else gives it orders.
    Running(Box<Qmp>),
}

/// Takes a machine for oneself, whether it runs or not.
pub(super) fn alone(machine: &MachineFolder) -> anyhow::Result<Alone> {
    match machine.lock() {
        Ok(lock) => Ok(Alone::ShutOff(lock)),
        Err(MachineError::Running(_)) => Ok(Alone::Running(Box::new(machine.monitor(LIMIT)?))),
        Err(other) => Err(other.into()),
    }
}

/// A disk of a machine that runs.
struct Written {
    /// Which of the definition's.
    at: usize,
    /// The node that QEMU writes to.
    node: String,
}

/// Finds what QEMU writes to now for each disk that is written to.
fn written(
    machine: &MachineFolder,
    spec: &MachineSpec,
    monitor: &mut Qmp,
) -> anyhow::Result<Vec<Written>> {
    let told = |e| machine.refused(e);
    let nodes: Vec<String> = {
        let disks = monitor.blocks().map_err(told)?.into_iter();
        disks.filter_map(|disk| Some(disk.inserted?.node)).collect()
    };
    let disks = spec.disks.iter().enumerate().filter(|(_, d)| is_written(d));
    let mut all = Vec::new();
    for (at, disk) in disks {
        let of = |node: &&String| target_of(node) == Some(disk.target.as_str());
        let node = nodes.iter().find(of);
        // What is no file cannot be put in another's place under the same name.
        let (same, place) = match &disk.source {
            Some(DiskSource::File(file)) => (machine.has_open(file), file.display().to_string()),
            _ => (true, "its content".to_owned()),
        };
        match node.filter(|_| same) {
            Some(node) => all.push(Written {
                at,
                node: node.clone(),
            }),
            None => {
                return Err(errors::advised(
                    Class::Conflict,
                    format!(
                        "the machine runs without {place}, the disk {} of its definition, which was changed since it was started",
                        disk.target
                    ),
                    format!(
                        "start it anew first: hyperion vm stop {0}, hyperion vm start {0}",
                        machine.name
                    ),
                ));
            }
        }
    }
    Ok(all)
}

/// Gives the targets of all disks that are written to, each with the node that QEMU
/// writes to now.
pub(super) fn nodes(
    machine: &MachineFolder,
    spec: &MachineSpec,
    monitor: &mut Qmp,
) -> anyhow::Result<Vec<(String, String)>> {
    let all = written(machine, spec, monitor)?.into_iter();
    Ok(all
        .map(|found| (spec.disks[found.at].target.clone(), found.node))
        .collect())
}

/// What was done to a machine that runs.
pub(super) struct Frozen {
    /// Its disks as they were: nothing is written to their files any more.
    pub(super) disks: Vec<Disk>,
    /// Its definition from now on.
    pub(super) spec: MachineSpec,
    /// What they hold.
    pub(super) content: Content,
}

/// Freezes all disks of a machine that runs and is written to, and says what they hold.
pub(super) fn freeze(machine: &MachineFolder, monitor: &mut Qmp) -> anyhow::Result<Frozen> {
    let before = machine.spec()?;
    let disks = written(machine, &before, monitor)?;
    if disks.is_empty() {
        return Err(errors::advised(
            Class::Unsupported,
            format!("machine {} has no disk that is written to", before.name),
            "there is nothing to go back to",
        ));
    }
    for found in &disks {
        holds_none(&before, &before.disks[found.at])?;
    }
    let mut draft = Draft {
        spec: before.clone(),
        files: Vec::new(),
        frozen: Vec::new(),
        lent: Vec::new(),
        nodes: Vec::new(),
    };
    let made = draft
        .make(machine, &disks, monitor)
        .and_then(|()| Ok(machine.define(&draft.spec)?));
    if let Err(error) = made {
        draft.undo(monitor);
        return Err(error);
    }
    failpoint!("live-defined");
    let guest = Guest::freeze(machine, &before);
    failpoint!("live-frozen");
    let raised = monitor.raise(&draft.nodes);
    failpoint!("live-raised");
    let content = guest.thaw();
    if let Err(error) = raised {
        // Where nobody knows whether it was done, the definition holds for both.
        if matches!(error, QmpError::Refused { .. }) {
            machine.define(&before)?;
            draft.undo(monitor);
        }
        return Err(machine.refused(error).into());
    }
    for file in &draft.frozen {
        layers::seal(machine, file)?;
    }
    let disks = disks.iter().map(|found| before.disks[found.at].clone());
    Ok(Frozen {
        disks: disks.collect(),
        spec: draft.spec,
        content,
    })
}

/// Refuses a disk above which no layer can come.
fn holds_none(spec: &MachineSpec, disk: &Disk) -> anyhow::Result<()> {
    layers::holds_none(spec, disk)?;
    if disk.backing.len() >= MOST_LAYERS {
        return Err(errors::advised(
            Class::Unsupported,
            format!(
                "{} lies on {} layers already",
                disk.target,
                disk.backing.len()
            ),
            format!(
                "hyperion vm stop {0}, then hyperion vm clone {0} NEW --full makes one without",
                spec.name
            ),
        ));
    }
    Ok(())
}

/// Layers that nothing is written to yet.
struct Draft {
    spec: MachineSpec,
    files: Vec<PathBuf>,
    frozen: Vec<PathBuf>,
    lent: Vec<u32>,
    /// What is written to now, and what is to come above it.
    nodes: Vec<(String, String)>,
}

impl Draft {
    fn make(
        &mut self,
        machine: &MachineFolder,
        disks: &[Written],
        monitor: &mut Qmp,
    ) -> anyhow::Result<()> {
        let told = |e| machine.refused(e);
        for found in disks {
            let frozen = layers::lay(machine, &mut self.spec, found.at)?;
            let file = file_of(&self.spec.disks[found.at])?.to_owned();
            self.files.push(file.clone());
            self.frozen.push(frozen);
            // "vda.2.qcow2" is the content of "disk-vda.2".
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let node = hyperion_isolation::vm::machine::node(&stem);
            // Of one that was ended before it had finished.
            let _ = monitor.remove_node(&node);
            let open = File::options().read(true).write(true).open(&file);
            let open = open.with_context(|| format!("cannot open {}", file.display()))?;
            let set = monitor.lend(open.as_fd()).map_err(told)?;
            self.lent.push(set);
            let description = layer(&self.spec.disks[found.at], &node, set);
            monitor.add_node(&description).map_err(told)?;
            self.nodes.push((found.node.clone(), node));
        }
        Ok(())
    }

    /// Takes all of it away again, as far as QEMU lets it.
    fn undo(&self, monitor: &mut Qmp) {
        for (_, node) in &self.nodes {
            let _ = monitor.remove_node(node);
        }
        for set in &self.lent {
            let _ = monitor.take_back(*set);
        }
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

/// A guest whose file systems stand still, or one that nobody could ask.
enum Guest {
    Frozen {
        agent: Agent,
        /// Thaws it when this process ends before it has.
        guardian: Pid,
        /// Tells the guardian that it has.
        done: OwnedFd,
    },
    Goes,
}

impl Guest {
    fn freeze(machine: &MachineFolder, spec: &MachineSpec) -> Self {
        let why = match Self::try_freeze(machine, spec) {
            Ok(frozen) => return frozen,
            Err(why) => why,
        };
        let what = "are frozen as they are, as after a power cut";
        output::talk("note", format!("the disks of {} {what}: {why}", spec.name));
        Self::Goes
    }

    fn try_freeze(machine: &MachineFolder, spec: &MachineSpec) -> Result<Self, String> {
        if !spec.agent {
            return Err("the machine has no channel for an agent in its guest".to_owned());
        }
        let agent = UnixStream::connect(machine.run().join("agent"))
            .map_err(AgentError::Io)
            .and_then(|socket| Agent::connect(socket, GREETING, FREEZING));
        let mut agent = agent.map_err(|e| e.to_string())?;
        let (guardian, done) = watch(&mut agent).map_err(|e| e.to_string())?;
        let frozen = agent.freeze();
        let guest = Self::Frozen {
            agent,
            guardian,
            done,
        };
        match frozen {
            Ok(count) => {
                let what = match count {
                    1 => "one file system is",
                    _ => &format!("{count} file systems are"),
                };
                let what = format!("{what} frozen for a moment in the guest of {}", spec.name);
                output::talk("note", what);
                Ok(guest)
            }
            Err(error) => {
                guest.thaw();
                Err(error.to_string())
            }
        }
    }

    /// Lets the guest go on.
    fn thaw(self) -> Content {
        let Self::Frozen {
            mut agent,
            guardian,
            done,
        } = self
        else {
            return Content::PowerCut;
        };
        match agent.thaw() {
            Ok(_) => {
                let _ = rustix::io::write(&done, &[1]);
                let _ = process::wait_for(guardian);
            }
            // Another tries it, who hears that this end is closed.
            Err(error) => {
                let what = format!("the guest is told once more to go on: {error}");
                output::talk("warning", what);
            }
        }
        Content::Frozen
    }
}

/// Starts a process that lets the guest go on when this one is killed.
fn watch(agent: &mut Agent) -> std::io::Result<(Pid, OwnedFd)> {
    let (heard, done) = pipe_with(PipeFlags::CLOEXEC)?;
    match process::fork()? {
        Fork::Parent(guardian) => Ok((guardian, done)),
        Fork::Child => {
            drop(done);
            let _ = rustix::process::setsid();
            let _ = process::close_all_but(&[heard.as_fd(), agent.as_fd()]);
            process::rename(c"hyperion-thaw");
            let mut told = [0];
            let finished = loop {
                match rustix::io::read(&heard, &mut told) {
                    Err(Errno::INTR) => {}
                    read => break read == Ok(1),
                }
            };
            if !finished {
                let _ = agent.thaw();
            }
            process::exit_now(0)
        }
    }
}
