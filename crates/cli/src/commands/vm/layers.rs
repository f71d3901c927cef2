//! What lies below the disks of machines.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hyperion_image::disk;
use hyperion_model::machine::{Backing, Disk, DiskSource};
use hyperion_model::{Class, MachineSpec, Name};
use hyperion_node::machines::{MachineFolder, Machines};
use serde_json::{Value, json};

use super::change::is_written;
use super::create::{existing, format_of};
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
