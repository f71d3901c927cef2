//! Machines like others: `hyperion vm clone`.
//!
//! What was written to a disk by now is frozen: the machine goes on in an empty
//! layer above it, and so does its clone. The frozen file has a name in the folder
//! of each machine that lies on it (a hard link), so that it goes with the last.
//!
//! ```text
//!        machines/one/disks/vda.1.qcow2     machines/two/disks/vda.1.qcow2
//!                                   \\         //
//!        machines/one/disks/vda.qcow2  ===  machines/two/disks/vda.qcow2
//! ```

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use hyperion_image::disk::{self, Source};
use hyperion_isolation::vm::qmp::Qmp;
use hyperion_model::machine::{Backing, Disk, DiskFormat, DiskSource, Firmware};
use hyperion_model::{Class, MachineSpec, Name};
use hyperion_node::machines::{MachineFolder, Machines};
use hyperion_sys::failpoint;

use super::change::{file_of, is_written};
use super::create::{fresh_uuid, write_seed};
use super::image::{MODULES, link};
use super::layers;
use super::live::{self, Alone, MOST_LAYERS, alone};
use super::unfinished::Unfinished;
use crate::commands::image::Busy;
use crate::context::Context;
use crate::{errors, output};

/// A disk that takes up to this much, in bytes, is copied: that is quicker than to
/// lay one on it, and leaves no layer.
const SMALL: u64 = 1 << 20;

// Words of `hyperion vm clone`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm clone web web2\n  \
    hyperion vm clone web archive --full")]
pub(crate) struct CloneArgs {
    /// Machine; of one that runs the disks are frozen together, as by a snapshot
    name: String,
    /// Name of the new one
    new: Name,
    /// Copy all of its disks; without this both share what was written until now
    #[arg(long)]
    full: bool,
}

pub(super) fn clone(args: &CloneArgs, ctx: &Context) -> anyhow::Result<()> {
    let machines = Machines::new(&ctx.root);
    let old = machines.find(&args.name)?;
    // Held until all is there: nobody may start it in between, or clone it too.
    let mut alone = alone(&old)?;
    let mut spec = old.spec()?;
    own_alone(&old, &spec)?;
    let new = machines.create(&args.new)?;
    let lock = new.lock()?;
    let held = Unfinished::hold()?;
    let shared = match &mut alone {
        Alone::ShutOff(_) => freeze(&old, &mut spec, args.full).map(|shared| (spec, shared)),
        Alone::Running(monitor) => running(&old, monitor, args.full),
    };
    let unfinished = held.over(&new.path)?;
    let made = shared.and_then(|(spec, shared)| make(&old, &new, spec, &shared, ctx));
    drop(unfinished);
    drop(lock);
    if let Err(error) = made {
        let _ = new.delete();
        return Err(error);
    }
    output::line(&args.new)
}

/// Refuses to clone a machine that writes to what lies elsewhere: both would.
fn own_alone(old: &MachineFolder, spec: &MachineSpec) -> anyhow::Result<()> {
    let own = old.disks();
    for disk in spec.disks.iter().filter(|disk| is_written(disk)) {
        let place = match &disk.source {
            None => continue,
            Some(DiskSource::File(file)) if file.starts_with(&own) => continue,
            Some(DiskSource::File(file) | DiskSource::Block(file)) => file.display().to_string(),
            Some(DiskSource::Volume { volume, .. }) => volume.clone(),
            Some(DiskSource::Web(address)) => address.to_string(),
        };
        return Err(errors::advised(
            Class::Unsupported,
            format!(
                "the disk {} lies elsewhere, and both would write to it",
                disk.target
            ),
            format!("copy {place}, and define a machine with the copy"),
        ));
    }
    Ok(())
}

/// Puts an empty layer above each disk that holds much. Gives those whose layers
/// are shared from now on: all others are copied whole.
fn freeze(old: &MachineFolder, spec: &mut MachineSpec, full: bool) -> anyhow::Result<Vec<Shared>> {
    let mut shared = Vec::new();
    let mut changed = false;
    for at in 0..spec.disks.len() {
        let disk = &spec.disks[at];
        let own = matches!(&disk.source, Some(DiskSource::File(f)) if f.starts_with(old.disks()));
        if full || !own || disk.backing.len() >= MOST_LAYERS {
            continue;
        }
        let file = file_of(disk)?.to_owned();
        shared.push(Shared {
            target: disk.target.clone(),
            empty: false,
        });
        // A snapshot is found in the file that holds it, and in no layer above.
        if taken(&file)? <= SMALL || !disk::info(&file)?.snapshots.is_empty() {
            continue;
        }
        layers::raise(old, spec, at)?;
        changed = true;
    }
    if changed {
        // From here on nobody writes to what is shared.
        old.define(spec)?;
    }
    failpoint!("disks-frozen");
    Ok(shared)
}

/// Freezes the disks of a machine that runs. Gives what its clone is to be like, which
/// lies on what is frozen and not on what is written to since.
fn running(
    old: &MachineFolder,
    monitor: &mut Qmp,
    full: bool,
) -> anyhow::Result<(MachineSpec, Vec<Shared>)> {
    let frozen = live::freeze(old, monitor)?;
    failpoint!("disks-frozen");
    let mut spec = frozen.spec;
    let mut shared = Vec::new();
    for then in frozen.disks {
        match full {
            true => {
                let disks = spec.disks.iter_mut();
                disks
                    .filter(|disk| disk.target == then.target)
                    .for_each(|disk| *disk = then.clone());
            }
            false => shared.push(Shared {
                target: then.target,
                empty: true,
            }),
        }
    }
    Ok((spec, shared))
}

/// A disk whose layers are shared.
struct Shared {
    target: String,
    /// The clone begins with an empty layer of its own: the other one's is written to.
    empty: bool,
}

/// Makes the clone of a machine whose disks are frozen.
fn make(
    old: &MachineFolder,
    new: &MachineFolder,
    mut spec: MachineSpec,
    shared: &[Shared],
    ctx: &Context,
) -> anyhow::Result<()> {
    spec.name = new.name.clone();
    spec.uuid = Some(fresh_uuid()?);
    spec.autostart = false;
    for interface in &mut spec.interfaces {
        // Two cards with one address on one network would hear each other's letters.
        interface.mac = None;
        interface.forwards.clear();
    }
    fs::create_dir_all(new.disks())?;
    let (from, to) = (old.disks(), new.disks());
    for disk in &mut spec.disks {
        let Some(DiskSource::File(file)) = disk.source.clone() else {
            continue;
        };
        let Ok(name) = file.strip_prefix(&from) else {
            continue;
        };
        let copy = to.join(name);
        let _busy = Busy::new(ctx, "copying the disks");
        match shared.iter().find(|shared| shared.target == disk.target) {
            Some(shared) => {
                link_layers(disk, &from, &to)?;
                match disk.backing.first() {
                    Some(Backing {
                        source: DiskSource::File(below),
                        format,
                    }) if shared.empty => layers::overlay(&copy, below, *format)?,
                    _ => copy_file(&file, &copy)?,
                }
            }
            None => copy_whole(disk, &file, &copy)?,
        }
        disk.source = Some(DiskSource::File(copy));
    }
    variables(old, new, &mut spec)?;
    kernel(old, new, &mut spec)?;
    failpoint!("clone-filled");
    // With a name of its own inside, and as another instance to cloud-init.
    write_seed(new, &spec)?;
    Ok(new.define(&spec)?)
}

/// Gives the layers below a disk a name in the clone's folder.
fn link_layers(disk: &mut Disk, from: &Path, to: &Path) -> anyhow::Result<()> {
    for layer in &mut disk.backing {
        let DiskSource::File(file) = &mut layer.source else {
            continue;
        };
        let Ok(name) = file.strip_prefix(from) else {
            continue;
        };
        let link = to.join(name);
        // Where the file system knows no second names it is a copy, and nothing else changes.
        fs::hard_link(&file, &link).or_else(|_| copy_file(file, &link))?;
        *file = link;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// Copies a disk with all that lies below it.
fn copy_whole(disk: &mut Disk, file: &Path, copy: &Path) -> anyhow::Result<()> {
    if disk.backing.is_empty() {
        return Ok(copy_file(file, copy)?);
    }
    if !disk::info(file)?.snapshots.is_empty() {
        let what = format!("the snapshots of {} stay with the other", disk.target);
        output::talk("note", what);
    }
    let layer = |layer: &Backing| match &layer.source {
        DiskSource::File(file) => Ok((file.clone(), layer.format.to_string())),
        _ => Err(errors::advised(
            Class::Unsupported,
            format!("what lies below {} is not a file of this host", disk.target),
            "copy the disk where it lies, and define a machine with the copy",
        )),
    };
    let below: Vec<_> = disk.backing.iter().map(layer).collect::<Result<_, _>>()?;
    let source = Source {
        path: file,
        part: None,
        format: &disk.format.to_string(),
        below: &below,
    };
    disk::take_in(&source, copy)?;
    disk.format = DiskFormat::Qcow2;
    disk.backing.clear();
    Ok(())
}

/// Gives the clone a copy of what UEFI has noted.
fn variables(
    old: &MachineFolder,
    new: &MachineFolder,
    spec: &mut MachineSpec,
) -> anyhow::Result<()> {
    let Firmware::Uefi { variables, .. } = &mut spec.firmware else {
        return Ok(());
    };
    let from = variables.take().unwrap_or_else(|| old.variables());
    if from.is_file() {
        copy_file(&from, &new.variables())
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// Gives the clone the kernel that the other has for itself.
fn kernel(old: &MachineFolder, new: &MachineFolder, spec: &mut MachineSpec) -> anyhow::Result<()> {
    let Some(kernel) = &mut spec.boot.kernel else {
        return Ok(());
    };
    let mut modules = Some(kernel.kernel.with_file_name(MODULES)).filter(|file| file.is_file());
    let files = [
        Some(&mut kernel.kernel),
        kernel.initrd.as_mut(),
        modules.as_mut(),
    ];
    for file in files.into_iter().flatten() {
        let Ok(name) = file.strip_prefix(&old.path) else {
            continue;
        };
        let own = new.path.join(name);
        fs::create_dir_all(own.parent().unwrap_or(&new.path))?;
        link(file, &own)?;
        *file = own;
    }
    Ok(())
}

/// What a file takes on the host, in bytes.
fn taken(file: &Path) -> anyhow::Result<u64> {
    let meta = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(meta.blocks() * 512)
}
