//! What lies below the disks of machines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyperion_image::disk;
use hyperion_model::machine::{Backing, Disk, DiskFormat, DiskSource};
use hyperion_model::{Class, MachineSpec, Name};
use hyperion_node::machines::{MachineFolder, Machines};
use hyperion_sys::failpoint;
use serde_json::{Value, json};

use super::change::{file_of, is_written};
use super::create::{existing, format_of};
use super::external;
use crate::context::Context;
use crate::errors;

/// Follows the headers from an image down. Whoever made an image may have named
/// any file of this host, so each layer must be one of those that were allowed.
pub(super) fn below(file: &Path, allowed: &[PathBuf]) -> anyhow::Result<Vec<Backing>> {
    let mut layers: Vec<Backing> = Vec::new();
    let mut at = file.to_owned();
    loop {
        let info = disk::info(&at)?;
        let Some(name) = info.backing_filename else {
            return Ok(layers);
        };
        let named = at.parent().unwrap_or(Path::new("/")).join(&name);
        let layer = named.canonicalize().unwrap_or(named);
        if !allowed.contains(&layer) {
            return Err(errors::advised(
                Class::User,
                format!(
                    "{} lies on {}, as its header says",
                    at.display(),
                    layer.display()
                ),
                format!(
                    "where both are yours, say so: --backing {}",
                    layer.display()
                ),
            ));
        }
        let seen = |l: &Backing| matches!(&l.source, DiskSource::File(f) if *f == layer);
        if layer == file || layers.iter().any(seen) {
            return Err(errors::advised(
                Class::User,
                format!("{} lies on itself", layer.display()),
                "qemu-img rebase gives a layer another one below it",
            ));
        }
        let format = match info.backing_filename_format {
            Some(format) => format,
            None => disk::info(&layer)?.format,
        };
        layers.push(Backing {
            source: DiskSource::File(layer.clone()),
            format: format_of(&format)?,
        });
        at = layer;
    }
}

/// Finds the files that are allowed to lie below others.
pub(super) fn allowed(files: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    files.iter().map(|file| existing(file)).collect()
}

/// Freezes what a disk holds, and lets its machine go on in an empty layer above
/// it; the definition has to be written down yet.
pub(super) fn raise(
    machine: &MachineFolder,
    spec: &mut MachineSpec,
    at: usize,
) -> anyhow::Result<()> {
    let frozen = lay(machine, spec, at)?;
    failpoint!("layer-made");
    seal(machine, &frozen)
}

/// Makes an empty layer above a disk; gives the file that was written to until now.
pub(super) fn lay(
    machine: &MachineFolder,
    spec: &mut MachineSpec,
    at: usize,
) -> anyhow::Result<PathBuf> {
    let disk = &spec.disks[at];
    let file = file_of(disk)?.to_owned();
    let layer = free_name(machine, spec, &disk.target)?;
    overlay(&layer, &file, disk.format)?;
    let disk = &mut spec.disks[at];
    let frozen = Backing {
        source: DiskSource::File(file.clone()),
        format: disk.format,
    };
    disk.backing.insert(0, frozen);
    disk.source = Some(DiskSource::File(layer));
    disk.format = DiskFormat::Qcow2;
    Ok(file)
}

/// Lets nobody write to a file of the machine's own any more.
pub(super) fn seal(machine: &MachineFolder, file: &Path) -> anyhow::Result<()> {
    if !file.starts_with(machine.disks()) {
        return Ok(());
    }
    fs::set_permissions(file, fs::Permissions::from_mode(0o400))
        .with_context(|| format!("cannot make {} read-only", file.display()))
}

/// Refuses a disk that holds snapshots itself: from a layer above they are not seen.
pub(super) fn holds_none(spec: &MachineSpec, disk: &Disk) -> anyhow::Result<()> {
    if disk::info(file_of(disk)?)?.snapshots.is_empty() {
        return Ok(());
    }
    Err(errors::advised(
        Class::Conflict,
        format!(
            "{} holds snapshots itself, which a layer above would hide",
            disk.target
        ),
        format!(
            "take this one in it, too: hyperion vm snapshot {} NAME; a clone is made once it is shut off",
            spec.name
        ),
    ))
}

/// Makes an empty layer above a file, to the host's disk: what was below it is
/// known by this name alone.
pub(super) fn overlay(layer: &Path, below: &Path, format: DiskFormat) -> anyhow::Result<()> {
    let _ = fs::remove_file(layer);
    // By its name alone where both lie together, so that it is found from each
    // folder that it is linked into.
    let name = match below.parent() == layer.parent() {
        true => Path::new(below.file_name().unwrap_or_default()),
        false => below,
    };
    disk::create(layer, None, Some((name, &format.to_string())))?;
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(layer)
        .and_then(|()| sync(layer.parent().unwrap_or(layer)))
        .with_context(|| format!("cannot write {}", layer.display()))
}

/// Gives the first name of a layer that neither the definition nor a snapshot uses.
fn free_name(machine: &MachineFolder, spec: &MachineSpec, target: &str) -> anyhow::Result<PathBuf> {
    let kept = external::all(machine)?;
    let mut used: BTreeSet<PathBuf> = files(&spec.disks).collect();
    used.extend(kept.iter().flat_map(|kept| files(&kept.disks)));
    let mut names = (1..).map(|n| machine.disks().join(format!("{target}.{n}.qcow2")));
    Ok(names.find(|file| !used.contains(file)).unwrap_or_default())
}

/// Gives the files of disks, with all that lies below them.
pub(super) fn files(disks: &[Disk]) -> impl Iterator<Item = PathBuf> {
    let sources = disks.iter().flat_map(|disk| {
        let below = disk.backing.iter().map(|layer| &layer.source);
        disk.source.iter().chain(below)
    });
    sources.filter_map(|source| match source {
        DiskSource::File(file) => Some(file.clone()),
        _ => None,
    })
}

/// Refuses an image that is a machine's own: it would go with its machine.
pub(super) fn nobodys(image: &Path, ctx: &Context) -> anyhow::Result<()> {
    let own = |machine: &MachineFolder| {
        let disks = machine.disks();
        image.starts_with(disks.canonicalize().unwrap_or(disks))
    };
    match Machines::new(&ctx.root).list()?.into_iter().find(own) {
        None => Ok(()),
        Some(machine) => Err(errors::advised(
            Class::User,
            format!("{} goes with machine {}", image.display(), machine.name),
            format!("hyperion vm clone {} NEW", machine.name),
        )),
    }
}

/// Refuses to write to what lies below the disks of several machines.
pub(super) fn written_alone(spec: &MachineSpec, ctx: &Context) -> anyhow::Result<()> {
    for disk in spec.disks.iter().filter(|disk| is_written(disk)) {
        let Some(DiskSource::File(file)) = &disk.source else {
            continue;
        };
        let names = fs::metadata(file).map_or(1, |meta| meta.nlink());
        if names > 1 && file.starts_with(ctx.root.join("machines")) {
            return Err(errors::advised(
                Class::Conflict,
                format!("other machines lie on {}, as it is now", file.display()),
                format!(
                    "hyperion vm clone OLD {} makes one that shares it",
                    spec.name
                ),
            ));
        }
    }
    Ok(())
}

/// Tells of each disk what it takes on the host, and which machines share what
/// lies below it.
pub(super) fn told(machines: &Machines, spec: &MachineSpec) -> anyhow::Result<Value> {
    let mut users: BTreeMap<(u64, u64), Vec<Name>> = BTreeMap::new();
    for machine in machines.list()? {
        let files = fs::read_dir(machine.disks())
            .into_iter()
            .flatten()
            .flatten();
        for meta in files.filter_map(|file| file.metadata().ok()) {
            let of = users.entry((meta.dev(), meta.ino())).or_default();
            of.push(machine.name.clone());
        }
    }
    let content = |source: &DiskSource| {
        let DiskSource::File(file) = source else {
            return json!({"source": source});
        };
        match fs::metadata(file) {
            Ok(meta) => json!({
                "file": file, "bytes": meta.blocks() * 512,
                "machines": users.get(&(meta.dev(), meta.ino())),
            }),
            Err(e) => json!({"file": file, "error": e.to_string()}),
        }
    };
    let disk = |disk: &Disk| {
        let mut all = json!({"target": disk.target});
        if let Some(source) = &disk.source {
            all["content"] = content(source);
        }
        let below: Vec<Value> = disk.backing.iter().map(|b| content(&b.source)).collect();
        all["below"] = below.into();
        all
    };
    Ok(spec.disks.iter().map(disk).collect())
}
