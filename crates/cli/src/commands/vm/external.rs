//! Snapshots beside the disks: what was written until then is frozen, and the
//! machine goes on in a layer above it. For disks that hold none themselves.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use hyperion_isolation::vm::qmp::Qmp;
use hyperion_model::machine::Disk;
use hyperion_model::{Class, MachineSpec, Name};
use hyperion_node::machines::MachineFolder;
use hyperion_sys::failpoint;
use serde::{Deserialize, Serialize};

use super::change::is_written;
use super::layers;
use super::live::{self, Content};
use crate::errors;

/// A snapshot: the disks as they were, of which nothing is written any more.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What it is called.
    pub(super) name: Name,
    /// When it was taken, in seconds since 1970.
    pub(super) taken: i64,
    /// The disks.
    pub(super) disks: Vec<Disk>,
    /// What they hold.
    #[serde(default)]
    pub(super) content: Content,
}

fn record(machine: &MachineFolder) -> PathBuf {
    machine.path.join("snapshots.json")
}

/// Reads all of a machine.
pub(super) fn all(machine: &MachineFolder) -> anyhow::Result<Vec<Kept>> {
    let path = record(machine);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("the record {} is damaged", path.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(machine: &MachineFolder, kept: &[Kept]) -> anyhow::Result<()> {
    let (path, draft) = (record(machine), machine.path.join(".snapshots.json"));
    let done = || -> io::Result<()> {
        let mut file = fs::File::create(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(kept)?)?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    };
    done().with_context(|| format!("cannot write {}", path.display()))
}

/// Takes one of a machine that is shut off, whose lock the caller holds.
pub(super) fn take(machine: &MachineFolder, spec: &MachineSpec, tag: &Name) -> anyhow::Result<()> {
    let mut spec = spec.clone();
    let mut before = Vec::new();
    for at in 0..spec.disks.len() {
        let disk = &spec.disks[at];
        if !is_written(disk) {
            continue;
        }
        layers::holds_none(&spec, disk)?;
        before.push(disk.clone());
        layers::raise(machine, &mut spec, at)?;
    }
    if before.is_empty() {
        return Err(errors::advised(
            Class::Unsupported,
            format!("machine {} has no disk that is written to", spec.name),
            "there is nothing to go back to",
        ));
    }
    // First this: what is recorded is never written to.
    machine.define(&spec)?;
    failpoint!("snapshot-frozen");
    note(machine, tag, before, Content::ShutOff)
}

/// Takes one of a machine that runs.
pub(super) fn take_live(
    machine: &MachineFolder,
    monitor: &mut Qmp,
    tag: &Name,
) -> anyhow::Result<()> {
    let frozen = live::freeze(machine, monitor)?;
    failpoint!("snapshot-frozen");
    note(machine, tag, frozen.disks, frozen.content)
}

fn note(
    machine: &MachineFolder,
    tag: &Name,
    disks: Vec<Disk>,
    content: Content,
) -> anyhow::Result<()> {
    let mut kept = all(machine)?;
    kept.push(Kept {
        name: tag.clone(),
        taken: jiff::Timestamp::now().as_second(),
        disks,
        content,
    });
    write(machine, &kept)
}

/// Goes back to one, of a machine whose lock the caller holds. What was written
/// since is thrown away, unless another snapshot has it.
pub(super) fn restore(
    machine: &MachineFolder,
    mut spec: MachineSpec,
    kept: &Kept,
) -> anyhow::Result<()> {
    for then in &kept.disks {
        let Some(at) = spec.disks.iter().position(|d| d.target == then.target) else {
            continue;
        };
        spec.disks[at].source.clone_from(&then.source);
        spec.disks[at].backing.clone_from(&then.backing);
        spec.disks[at].format = then.format;
        layers::raise(machine, &mut spec, at)?;
    }
    machine.define(&spec)?;
    sweep(machine, &spec)
}

/// Forgets one. What only it had is removed.
pub(super) fn forget(
    machine: &MachineFolder,
    spec: &MachineSpec,
    tag: &Name,
) -> anyhow::Result<()> {
    let mut kept = all(machine)?;
    kept.retain(|kept| kept.name != *tag);
    write(machine, &kept)?;
    sweep(machine, spec)
}

/// Removes the machine's own layers that nothing lies on any more.
fn sweep(machine: &MachineFolder, spec: &MachineSpec) -> anyhow::Result<()> {
    let kept = all(machine)?;
    let mut used: BTreeSet<PathBuf> = layers::files(&spec.disks).collect();
    used.extend(kept.iter().flat_map(|kept| layers::files(&kept.disks)));
    let files = fs::read_dir(machine.disks())?.flatten().map(|e| e.path());
    for file in files.filter(|file| file.extension().is_some_and(|e| e == "qcow2")) {
        // One that runs may write to another than it is to have at its next start.
        if !used.contains(&file) && !machine.has_open(&file) {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
    }
    Ok(())
}
