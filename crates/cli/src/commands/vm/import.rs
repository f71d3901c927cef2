//! Machines from what others made: `hyperion vm import`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use hyperion_formats::ova::{self, Algorithm, Manifest, OvfError};
use hyperion_image::disk::{self, Known, Part, Source};
use hyperion_image::ova::{Ova, OvaError, Sum};
use hyperion_model::machine::{Bus, Disk, DiskFormat, DiskSource};
use hyperion_model::{Bytes, Class, MachineSpec, Name};
use hyperion_node::machines::MachineFolder;

use super::super::image::Busy;
use super::create::{GuestArgs, add, existing, guest};
use crate::context::Context;
use crate::{errors, output};

// Words of `hyperion vm import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm import debian-12-generic-amd64.qcow2 web --memory 2GiB -p 2222:22 --ssh-key ~/.ssh/id_ed25519.pub\n  \
    hyperion vm import appliance.ova\n  \
    hyperion vm import disk.vmdk old --bus sata --checksum sha256:9f86d0…")]
pub(crate) struct ImportArgs {
    /// Disk image (qcow2, raw, vmdk) or appliance (OVA); it is copied
    file: PathBuf,
    /// Name of the machine [default: the appliance's, or the file's]
    name: Option<Name>,
    /// What the file must be: sha256:… or sha512:…
    #[arg(long, value_name = "DIGEST")]
    checksum: Option<Checksum>,
    /// Memory: 512MiB, 2GiB [default: the appliance's, or 1GiB]
    #[arg(short, long, value_name = "SIZE", help_heading = "Size")]
    memory: Option<Bytes>,
    /// Processors [default: the appliance's, or 1]
    #[arg(long, value_name = "NUMBER", help_heading = "Size")]
    vcpus: Option<u32>,
    /// How disks are connected: virtio, sata, scsi or ide [default: as the appliance says, or virtio]
    #[arg(long, value_name = "BUS", help_heading = "Disks")]
    bus: Option<Bus>,
    #[command(flatten)]
    guest: GuestArgs,
}

/// What a file must be.
#[derive(Debug, Clone)]
pub(crate) struct Checksum {
    sum: Sum,
    digest: String,
}

impl FromStr for Checksum {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || "write sha256: and 64, or sha512: and 128 hexadecimal digits".to_owned();
        let (word, digest) = s.split_once(':').ok_or_else(wrong)?;
        let (sum, digits) = match word {
            "sha256" => (Sum::Sha256, 64),
            "sha512" => (Sum::Sha512, 128),
            _ => return Err(wrong()),
        };
        let fits = digest.len() == digits && digest.bytes().all(|b| b.is_ascii_hexdigit());
        fits.then(|| Self {
            sum,
            digest: digest.to_ascii_lowercase(),
        })
        .ok_or_else(wrong)
    }
}

/// What becomes the content of a disk.
struct Content {
    target: String,
    part: Option<Part>,
    known: Known,
    /// How large the disk is said to be.
    capacity: Option<Bytes>,
}

pub(super) fn import(args: &ImportArgs, ctx: &Context) -> anyhow::Result<()> {
    let file = existing(&args.file)?;
    if let Some(wanted) = &args.checksum {
        let _busy = Busy::new(ctx, "computing the checksum");
        check(&file, wanted)?;
    }
    let (mut spec, contents) = match disk::probe(&file, None)? {
        Known::Ova => appliance(&file, ctx)?,
        known => single(&file, known, args)?,
    };
    if let Some(name) = &args.name {
        spec.name = name.clone();
    }
    if let Some(memory) = args.memory {
        spec.memory.size = memory;
    }
    if let Some(vcpus) = args.vcpus {
        spec.vcpus.count = vcpus;
    }
    let contents = match args.bus {
        Some(bus) => connect(&mut spec, contents, bus),
        None => contents,
    };
    guest(&args.guest, &mut spec, ctx)?;
    let fill = |machine: &MachineFolder, spec: &mut MachineSpec| {
        let _busy = Busy::new(ctx, "copying the disks");
        let mut contents = contents.iter();
        contents.try_for_each(|content| take_in(&file, content, machine, spec))
    };
    add(spec, args.guest.start, ctx, fill)
}

fn check(file: &Path, wanted: &Checksum) -> anyhow::Result<()> {
    let actual = disk::sum(file, wanted.sum)?;
    if actual == wanted.digest {
        return Ok(());
    }
    let word = wanted.sum.word();
    Err(errors::advised(
        Class::User,
        format!(
            "{} is not what was asked for: its {word} is {actual}, and should be {}",
            file.display(),
            wanted.digest
        ),
        "bring it again, and compare with what its maker publishes",
    ))
}

/// A machine around one disk.
fn single(
    file: &Path,
    known: Known,
    args: &ImportArgs,
) -> anyhow::Result<(MachineSpec, Vec<Content>)> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            stem.parse().map_err(|e| {
                let hint = "name the machine: hyperion vm import FILE NAME";
                errors::advised(Class::User, e, hint)
            })?
        }
    };
    let mut spec = MachineSpec::new(name, Bytes(1 << 30), 1);
    let bus = args.bus.unwrap_or(Bus::Virtio);
    let mut disk = Disk::new(spec.free_target(bus), bus);
    // Until the image is here: what it has is not known before.
    disk.size = Some(Bytes(512));
    let content = Content {
        target: disk.target.clone(),
        part: None,
        known,
        capacity: None,
    };
    spec.disks.push(disk);
    Ok((spec, vec![content]))
}

/// The machine of an archive, whose digests are right.
fn appliance(file: &Path, ctx: &Context) -> anyhow::Result<(MachineSpec, Vec<Content>)> {
    let busy = Busy::new(ctx, "comparing the digests");
    let ova = Ova::open(file)?;
    let (descriptor, text) = ova
        .text(".ovf")?
        .ok_or_else(|| OvaError::Missing("descriptor (.ovf)".into()))?;
    let manifest = match ova.text(".mf")? {
        Some((_, text)) => Some(Manifest::read(&text)?),
        None => {
            output::talk(
                "note",
                "the archive has no digests (.mf): nothing says whether it is whole",
            );
            None
        }
    };
    if let Some(signed) = ova.members.iter().find(|m| m.name.ends_with(".cert")) {
        output::talk(
            "note",
            format!("the signature {} is not looked at", signed.name),
        );
    }
    let verify = |name: &str| -> anyhow::Result<()> {
        let Some(manifest) = &manifest else {
            return Ok(());
        };
        let missing = || OvaError::Missing(format!("digest of {name:?}"));
        let line = manifest.of(name).ok_or_else(missing)?;
        let sum = match line.algorithm {
            Algorithm::Sha1 => Sum::Sha1,
            Algorithm::Sha256 => Sum::Sha256,
            Algorithm::Sha512 => Sum::Sha512,
        };
        Ok(ova.verify(name, sum, &line.digest)?)
    };
    verify(&descriptor.name)?;
    let appliance = ova::read(&text)?;
    let mut contents = Vec::new();
    for content in &appliance.contents {
        let member = ova.member(&content.file)?;
        if let Some(length) = content.length.filter(|length| *length != member.length) {
            return Err(OvfError::Length {
                place: content.place,
                file: content.file.clone(),
                said: length,
                is: member.length,
            }
            .into());
        }
        verify(&member.name)?;
        let part = Part {
            offset: member.offset,
            length: member.length,
        };
        contents.push(Content {
            target: content.target.clone(),
            part: Some(part),
            known: disk::probe(file, Some(part))?,
            capacity: Some(content.capacity),
        });
    }
    drop(busy);
    for note in &appliance.notes {
        output::talk("note", note);
    }
    Ok((appliance.spec, contents))
}

/// Connects all disks in another way.
fn connect(spec: &mut MachineSpec, contents: Vec<Content>, bus: Bus) -> Vec<Content> {
    let mut named = Vec::new();
    for mut disk in std::mem::take(&mut spec.disks) {
        let old = std::mem::replace(&mut disk.target, spec.free_target(bus));
        disk.bus = bus;
        named.push((old, disk.target.clone()));
        spec.disks.push(disk);
    }
    let renamed = |mut content: Content| {
        let new = named.iter().find(|(old, _)| *old == content.target);
        if let Some((_, new)) = new {
            content.target.clone_from(new);
        }
        content
    };
    contents.into_iter().map(renamed).collect()
}

fn take_in(
    file: &Path,
    content: &Content,
    machine: &MachineFolder,
    spec: &mut MachineSpec,
) -> anyhow::Result<()> {
    let own = machine.disks().join(format!("{}.qcow2", content.target));
    let source = Source {
        path: file,
        part: content.part,
        format: content.known.word(),
        below: &[],
    };
    let size = Bytes(disk::take_in(&source, &own)?);
    if let Some(said) = content.capacity.filter(|said| *said != size) {
        let target = &content.target;
        output::talk(
            "note",
            format!("the disk {target} is said to have {said}, and has {size}"),
        );
    }
    let mut disks = spec.disks.iter_mut();
    if let Some(disk) = disks.find(|disk| disk.target == content.target) {
        disk.source = Some(DiskSource::File(own));
        disk.format = DiskFormat::Qcow2;
        disk.size = None;
    }
    Ok(())
}
