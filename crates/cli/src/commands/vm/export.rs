//! Taking machines elsewhere: `hyperion vm export`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use hyperion_formats::domain;
use hyperion_formats::ova::{self, Algorithm, Line, Manifest, Packed};
use hyperion_image::disk::{self, Source};
use hyperion_image::ova::Sum;
use hyperion_isolation::vm::machine::{Files, Places};
use hyperion_isolation::vm::stay::{MODULES_SERIAL, ORDERS_SERIAL};
use hyperion_model::machine::{Bus, Disk, DiskDevice, DiskSource};
use hyperion_model::{Class, MachineSpec};
use hyperion_node::machines::{MachineFolder, Machines};

use super::super::image::Busy;
use super::change::file_of;
use super::machines::{command, places};
use super::unfinished::Unfinished;
use crate::context::Context;
use crate::{errors, output};

// Words of `hyperion vm export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm export web > web.xml\n  \
    hyperion vm export web --format qemu\n  \
    hyperion vm export web web.ova --format ova")]
pub(crate) struct ExportArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    name: String,
    /// File to write; standard output without one
    file: Option<PathBuf>,
    /// Shape: libvirt's domain XML, the command line of QEMU, or an archive with the disks for
    /// other programs; that needs a file, and the machine shut off
    #[arg(long, value_name = "SHAPE", default_value = "xml", value_parser = ["xml", "qemu", "ova"])]
    format: String,
}

pub(super) fn export(args: &ExportArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let spec = machine.spec()?;
    let text = match args.format.as_str() {
        "ova" => {
            let Some(file) = &args.file else {
                return Err(errors::advised(
                    Class::User,
                    "an archive is not written to a terminal",
                    format!("hyperion vm export {0} {0}.ova --format ova", args.name),
                ));
            };
            return archive(&machine, &spec, file, ctx);
        }
        "qemu" => {
            let (command, _) = command(&machine, &spec, Files::ByPath, BTreeSet::new(), ctx)?;
            let words: Vec<String> = command.words.iter().map(|w| quoted(w)).collect();
            words.join(" ")
        }
        _ => {
            let places = places(&machine, &spec)?;
            let spec = with_disks(with_addresses(spec), &places);
            domain::write(&spec).trim_end().to_owned()
        }
    };
    match &args.file {
        None => output::line(text),
        Some(file) => {
            fs::write(file, text + "\n")
                .with_context(|| format!("cannot write {}", file.display()))?;
            output::line(file.display())
        }
    }
}

/// Writes an archive of a machine that is shut off, with its disks.
fn archive(
    machine: &MachineFolder,
    spec: &MachineSpec,
    file: &Path,
    ctx: &Context,
) -> anyhow::Result<()> {
    let _lock = machine.lock()?;
    let busy = Busy::new(ctx, "copying the disks");
    // Beside the archive, for it may be on a disk that has the room.
    let hidden = format!(".{}.{}.parts", spec.name, std::process::id());
    let parts = file.with_file_name(hidden);
    let unfinished = Unfinished::new(&parts)?;
    fs::create_dir(&parts).with_context(|| format!("cannot make {}", parts.display()))?;
    let written = write_archive(spec, &parts).and_then(|(whole, notes)| {
        fs::rename(&whole, file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(notes)
    });
    let _ = fs::remove_dir_all(&parts);
    drop(unfinished);
    drop(busy);
    for note in written? {
        output::talk("note", note);
    }
    output::line(file.display())
}

fn write_archive(spec: &MachineSpec, parts: &Path) -> anyhow::Result<(PathBuf, Vec<String>)> {
    let mut packed = Vec::new();
    let mut files = Vec::new();
    let mut manifest = Manifest::default();
    let mut line = |file: &str, digest: String| {
        manifest.0.push(Line {
            file: file.to_owned(),
            algorithm: Algorithm::Sha256,
            digest,
        });
    };
    for disk in &spec.disks {
        if disk.device != DiskDevice::Disk {
            continue;
        }
        let mut below = Vec::new();
        for layer in &disk.backing {
            let DiskSource::File(file) = &layer.source else {
                return Err(errors::advised(
                    Class::Unsupported,
                    format!("what lies below {} is not a file of this host", disk.target),
                    "copy the disk where it lies, and define the machine with the copy",
                ));
            };
            below.push((file.clone(), layer.format.to_string()));
        }
        let source = Source {
            path: file_of(disk)?,
            part: None,
            format: &disk.format.to_string(),
            below: &below,
        };
        let name = format!("{}-{}.vmdk", spec.name, disk.target);
        let path = parts.join(&name);
        disk::give_out(&source, &path)?;
        line(&name, disk::sum(&path, Sum::Sha256)?);
        packed.push(Packed {
            target: disk.target.clone(),
            file: name.clone(),
            length: fs::metadata(&path)?.len(),
            capacity: disk::info(&path)?.virtual_size,
        });
        files.push((name, path));
    }
    let (text, notes) = ova::write(spec, &packed);
    let name = format!("{}.ovf", spec.name);
    line(&name, Sum::Sha256.of(text.as_bytes())?);
    let texts = [
        (name, text),
        (format!("{}.mf", spec.name), manifest.to_string()),
    ];
    let whole = parts.join("whole");
    fs::File::create(&whole)
        .and_then(|to| hyperion_image::ova::pack(to, &texts, &files))
        .with_context(|| format!("cannot write {}", whole.display()))?;
    Ok((whole, notes))
}

/// Writes down the addresses of the network cards that follow from the name, for
/// others make theirs in other ways.
fn with_addresses(mut spec: MachineSpec) -> MachineSpec {
    for i in 0..spec.interfaces.len() {
        let mac = spec.mac(i);
        spec.interfaces[i].mac = mac;
    }
    spec
}

/// The serial number of the disk for cloud-init, by which it is known again.
const SEED_SERIAL: &str = "seed";

/// Writes down the disks that are made of a definition, for others make none.
fn with_disks(mut spec: MachineSpec, places: &Places) -> MachineSpec {
    for (file, serial) in [
        (&places.seed, SEED_SERIAL),
        (&places.orders, ORDERS_SERIAL),
        (&places.modules, MODULES_SERIAL),
    ] {
        let Some(file) = file else { continue };
        let mut disk = Disk::new(spec.free_target(Bus::Virtio), Bus::Virtio);
        disk.source = Some(DiskSource::File(file.clone()));
        disk.read_only = true;
        disk.serial = Some(serial.to_owned());
        spec.disks.push(disk);
    }
    spec
}

/// Leaves out what [`with_disks`] has written down: it is made again.
pub(super) fn without_disks(spec: &mut MachineSpec) {
    let (seed, image) = (spec.seed.is_some(), spec.image.is_some());
    spec.disks.retain(|disk| match disk.serial.as_deref() {
        Some(SEED_SERIAL) => !seed,
        Some(ORDERS_SERIAL | MODULES_SERIAL) => !image,
        _ => true,
    });
}

/// Writes a word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_=./,:@%+".contains(&b);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
