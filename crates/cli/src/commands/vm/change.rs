//! Changing machines: `hyperion vm edit`, `clone`, `resize`, `snapshot`, `restore`.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use hyperion_formats::domain::{self, Mode};
use hyperion_image::disk;
use hyperion_isolation::vm::machine::node;
use hyperion_isolation::vm::qmp::{Qmp, Snapshot};
use hyperion_model::machine::{Disk, DiskDevice, DiskFormat, DiskSource, Graphics, VncListen};
use hyperion_model::{Bytes, Class, MachineSpec, Name};
use hyperion_node::machines::{MachineError, MachineFolder, Machines};
use serde_json::json;

use super::agent::set_clock;
use super::create::{read_domain, write_seed};
use super::external;
use super::image;
use super::live::{self, Alone, Content, alone};
use super::machines::LIMIT;
use super::seats::{SeatArgs, share_out};
use crate::args::OutputFormat;
use crate::context::Context;
use crate::{errors, output};

/// How long saving and loading all of a machine may take.
const SAVING: Duration = Duration::from_secs(600);

// Words of `hyperion vm edit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm edit web\n  \
    hyperion vm edit web --bind core --hugepages\n  \
    hyperion vm edit web --bind none --hugepages=none\n  \
    hyperion vm edit web --vnc\n  \
    hyperion vm edit box --kernel default")]
pub(crate) struct EditArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    name: String,
    /// Kernel that a machine of an image boots from now on, as `hyperion vm kernel ls` lists it, or
    /// default; with the init of this Hyperion
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<String>,
    /// A screen, for viewers of VNC on a socket of this user's
    #[arg(long)]
    vnc: bool,
    #[command(flatten)]
    seats: SeatArgs,
}

// Words of `hyperion vm resize`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm resize web --memory 4GiB --vcpus 4\n  \
    hyperion vm resize web --disk vda=40GiB")]
pub(crate) struct ResizeArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    name: String,
    /// Memory: at once up to what `--max-memory` said when the machine was made, else from its
    /// next start on
    #[arg(short, long, value_name = "SIZE", allow_negative_numbers = true)]
    memory: Option<Bytes>,
    /// Processors: more of them at once up to what `--max-vcpus` said, else from its next start on
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    vcpus: Option<u32>,
    /// A disk's new size, at once; it only grows
    #[arg(long, value_name = "TARGET=SIZE", value_parser = target_and_size)]
    disk: Vec<(String, Bytes)>,
}

fn target_and_size(word: &str) -> Result<(String, Bytes), String> {
    let (target, size) = word
        .split_once('=')
        .ok_or_else(|| "write TARGET=SIZE, vda=40GiB for one".to_owned())?;
    let size = size.parse::<Bytes>().map_err(|e| e.to_string())?;
    Ok((target.to_owned(), size))
}

// Words of `hyperion vm snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm snapshot web before-upgrade\n  \
    hyperion vm snapshot web\n  \
    hyperion vm snapshot web before-upgrade --delete\n  \
    hyperion vm snapshot web clean --external")]
pub(crate) struct SnapshotArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    name: String,
    /// Name of the snapshot; without one, all are listed
    snapshot: Option<Name>,
    /// Throw it away
    #[arg(long, requires = "snapshot")]
    delete: bool,
    /// Keep it in files beside the disks, without memory, for disks that hold none: the machine goes
    /// on in a layer above them. Of one that runs they are frozen together, with its guest's file
    /// systems where an agent in it answers, else as after a power cut
    #[arg(long, requires = "snapshot", conflicts_with = "delete")]
    external: bool,
}

// Words of `hyperion vm restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    name: String,
    /// Snapshot, as `hyperion vm snapshot NAME` lists it
    snapshot: Name,
}

/// What helps against mistakes in an edited definition.
const AGAIN: &str = "the same `hyperion vm edit` goes on with your text";

pub(super) fn edit(args: &EditArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let before = machine.spec()?;
    if let Some(release) = &args.kernel {
        image::renew(&machine, before.clone(), release, ctx)?;
        if !args.seats.any() && !args.vnc {
            return changed(&machine);
        }
    }
    if args.seats.any() || args.vnc {
        let mut spec = machine.spec()?;
        args.seats.apply(&mut spec, ctx)?;
        if args.vnc && spec.graphics == Graphics::None {
            spec.graphics = Graphics::Vnc(VncListen::Socket(None));
        }
        spec.validate()?;
        machine.define(&spec)?;
        return changed(&machine);
    }
    let path = machine.path.join("edited.xml");
    // There already: the text of one that could not be taken.
    if !path.exists() {
        write_private(&path, &domain::write(&before))?;
    }
    let edited = edit_file(&path).and_then(|()| read_domain(&path, Mode::Strict, AGAIN));
    let kept = path.display();
    let mut spec = edited.with_context(|| format!("nothing is changed; your text is in {kept}"))?;
    if spec.name != before.name {
        return Err(errors::advised(
            Class::User,
            "the name of a machine is not changed by editing",
            format!("hyperion vm clone {} {}", before.name, spec.name),
        ));
    }
    carry_over(&before, &mut spec);
    spec.validate()?;
    nothing_frozen_is_written(&before, &spec)?;
    machine.define(&spec)?;
    write_seed(&machine, &spec)?;
    std::fs::remove_file(&path)?;
    changed(&machine)
}

fn changed(machine: &MachineFolder) -> anyhow::Result<()> {
    if machine.is_locked() {
        eprintln!("the change holds from the machine's next start on");
    }
    output::line(&machine.name)
}

/// Keeps what domain XML has no words for.
fn carry_over(before: &MachineSpec, spec: &mut MachineSpec) {
    spec.uuid = spec.uuid.or(before.uuid);
    if spec.seed.is_none() {
        spec.seed.clone_from(&before.seed);
    }
    spec.autostart |= before.autostart;
}

/// Refuses a text that was begun before the machine was cloned.
fn nothing_frozen_is_written(before: &MachineSpec, spec: &MachineSpec) -> anyhow::Result<()> {
    let below = |source: &DiskSource| {
        let mut all = before.disks.iter();
        all.find(|disk| disk.backing.iter().any(|layer| layer.source == *source))
    };
    for disk in spec.disks.iter().filter(|disk| is_written(disk)) {
        let Some(above) = disk.source.as_ref().and_then(below) else {
            continue;
        };
        return Err(errors::advised(
            Class::Conflict,
            format!(
                "the disk {} would write to what lies below it by now",
                disk.target
            ),
            match &above.source {
                Some(DiskSource::File(file)) => format!("write {} in its place", file.display()),
                _ => "write the layer above it in its place".to_owned(),
            },
        ));
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn edit_file(path: &Path) -> anyhow::Result<()> {
    let own = |name| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let editor = own("VISUAL").or_else(|| own("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program)
        .args(words)
        .arg(path)
        .status()
        .map_err(|e| {
            errors::advised(
                Class::User,
                format!("cannot execute {program}: {e}"),
                "name an editor by the variable EDITOR",
            )
        })?;
    if !status.success() {
        return Err(errors::advised(
            Class::User,
            format!("{program} ended with {status}"),
            "end the editor well to change the machine",
        ));
    }
    Ok(())
}

pub(super) fn is_written(disk: &Disk) -> bool {
    !disk.read_only && disk.device == DiskDevice::Disk
}

pub(super) fn resize(args: &ResizeArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let mut spec = machine.spec()?;
    if let Some(memory) = args.memory {
        spec.memory.size = memory;
        spec.memory.max = spec.memory.max.map(|max| max.max(memory));
    }
    if let Some(vcpus) = args.vcpus {
        spec.vcpus.count = vcpus;
        spec.vcpus.max = spec.vcpus.max.map(|max| max.max(vcpus));
        spec.vcpus.topology = None;
        spec.vcpus.pinning.retain(|number, _| *number < vcpus);
    }
    if !spec.vcpus.numa.is_empty() && (args.memory.is_some() || args.vcpus.is_some()) {
        let nodes = spec.vcpus.numa.len() as u32;
        share_out(&mut spec, nodes)?;
    }
    spec.validate()?;
    for (target, size) in &args.disk {
        let disk = spec.disk(target).ok_or_else(|| {
            let known: Vec<&str> = spec.disks.iter().map(|d| d.target.as_str()).collect();
            errors::advised(
                Class::NotFound,
                format!("machine {} has no disk {target}", spec.name),
                format!("it has {}", known.join(", ")),
            )
        })?;
        let file = file_of(disk)?;
        let now = disk::info(file)?.virtual_size;
        if size.0 < now {
            return Err(errors::advised(
                Class::User,
                format!("{target} has {}, and a disk only grows", Bytes(now)),
                "what lies at its end would be lost: make a smaller one and copy in the guest",
            ));
        }
        match machine.is_locked() {
            true => {
                let mut monitor = machine.monitor(LIMIT)?;
                let nodes = live::nodes(&machine, &spec, &mut monitor)?;
                let found = nodes.into_iter().find(|(of, _)| of == target);
                let node = found.map_or_else(|| node(target), |(_, node)| node);
                let resized = monitor.resize_disk(&node, size.0);
                resized.map_err(|e| machine.refused(e))?;
            }
            false => disk::resize(file, &disk.format.to_string(), *size)?,
        }
    }
    machine.define(&spec)?;
    if machine.is_locked() {
        while_it_runs(&machine, args)?;
    }
    output::line(&args.name)
}

/// Changes the memory and the processors of a machine that runs, as far as it can be, and
/// says what waits.
fn while_it_runs(machine: &MachineFolder, args: &ResizeArgs) -> anyhow::Result<()> {
    /// How long a guest may take to give memory back before that is said.
    const GIVES: Duration = Duration::from_secs(5);
    let mut monitor = machine.monitor(LIMIT)?;
    let told = |e| machine.refused(e);
    if let Some(memory) = args.memory {
        // What it was started with, which the definition may have left behind.
        let most = monitor.most_memory().map_err(told)?;
        match (memory.0 <= most).then(|| monitor.set_memory(memory.0)) {
            Some(Ok(())) => {
                let since = Instant::now();
                let mut now = monitor.memory().map_err(told)?;
                while now != memory.0 && since.elapsed() < GIVES {
                    std::thread::sleep(Duration::from_millis(50));
                    now = monitor.memory().map_err(told)?;
                }
                if now != memory.0 {
                    let what = "has not changed it yet: its driver (virtio_balloon) does";
                    output::talk("note", format!("the guest has {} and {what}", Bytes(now)));
                }
            }
            _ => output::talk("note", "memory changes with the machine's next start"),
        }
    }
    if let Some(vcpus) = args.vcpus {
        let now = monitor.cpus().map_err(told)?.len();
        let more = (vcpus as usize).saturating_sub(now);
        let added = match more {
            0 => 0,
            more => monitor.add_processors(more).map_err(told)?,
        };
        if now + added != vcpus as usize {
            let what = "processors change with the machine's next start";
            output::talk(
                "note",
                format!("the machine runs with {}: {what}", now + added),
            );
        }
    }
    Ok(())
}

pub(super) fn file_of(disk: &Disk) -> anyhow::Result<&Path> {
    match &disk.source {
        Some(DiskSource::File(file)) => Ok(file),
        _ => Err(errors::advised(
            Class::Unsupported,
            format!("{} is not a file of this host", disk.target),
            "change it where it lies",
        )),
    }
}

/// Gives the disks that a snapshot is made of; each must be able to hold one.
fn disks_of_snapshots(spec: &MachineSpec) -> anyhow::Result<Vec<&Disk>> {
    let written: Vec<&Disk> = spec.disks.iter().filter(|d| is_written(d)).collect();
    if let Some(raw) = written.iter().find(|d| d.format != DiskFormat::Qcow2) {
        return Err(errors::advised(
            Class::Unsupported,
            format!(
                "the disk {} is {}, which holds no snapshots",
                raw.target, raw.format
            ),
            "qemu-img convert -O qcow2 OLD NEW makes one that does",
        ));
    }
    if written.is_empty() {
        return Err(errors::advised(
            Class::Unsupported,
            format!("machine {} has no disk to hold a snapshot", spec.name),
            "a machine with a disk of qcow2 has",
        ));
    }
    Ok(written)
}

/// All of a machine in its disks: its memory too when it runs.
fn whole(
    machine: &MachineFolder,
    spec: &MachineSpec,
    monitor: &mut Qmp,
    tag: &Name,
) -> anyhow::Result<Snapshot> {
    disks_of_snapshots(spec)?;
    let nodes = live::nodes(machine, spec, monitor)?.into_iter();
    let devices: Vec<String> = nodes.map(|(_, node)| node).collect();
    Ok(Snapshot {
        tag: tag.to_string(),
        vmstate: devices.first().cloned().unwrap_or_default(),
        devices,
    })
}

pub(super) fn snapshot(args: &SnapshotArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let spec = machine.spec()?;
    let Some(tag) = &args.snapshot else {
        return list(&machine, &spec, ctx);
    };
    let beside = external::all(&machine)?
        .iter()
        .any(|kept| kept.name == *tag);
    if args.delete && beside {
        let _alone = alone(&machine)?;
        external::forget(&machine, &spec, tag)?;
        return output::line(tag);
    }
    let there = match args.external {
        // A disk that can hold none holds none.
        true => beside || find(&spec, tag).unwrap_or(false),
        false => beside || find(&spec, tag)?,
    };
    match (args.delete, there) {
        (true, false) => return Err(unknown(&spec, tag)),
        (false, true) => {
            return Err(errors::advised(
                Class::Conflict,
                format!("machine {} has a snapshot {tag} already", spec.name),
                format!("hyperion vm snapshot {} {tag} --delete", spec.name),
            ));
        }
        _ => {}
    }
    if args.external {
        match alone(&machine)? {
            Alone::ShutOff(_lock) => external::take(&machine, &spec, tag)?,
            Alone::Running(mut monitor) => external::take_live(&machine, &mut monitor, tag)?,
        }
        return output::line(tag);
    }
    match machine.lock() {
        Ok(_lock) => {
            let action = if args.delete { "-d" } else { "-c" };
            for disk in disks_of_snapshots(&spec)? {
                disk::snapshot(file_of(disk)?, action, tag.as_str())?;
            }
        }
        Err(MachineError::Running(_)) => {
            let mut monitor = machine.monitor(LIMIT)?;
            let snapshot = whole(&machine, &spec, &mut monitor, tag)?;
            let done = match args.delete {
                true => monitor.forget(&snapshot, SAVING),
                false => monitor.save(&snapshot, SAVING),
            };
            done.map_err(|e| machine.refused(e))?;
        }
        Err(other) => return Err(other.into()),
    }
    output::line(tag)
}

pub(super) fn restore(args: &RestoreArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let spec = machine.spec()?;
    let tag = &args.snapshot;
    let kept = external::all(&machine)?;
    if let Some(kept) = kept.iter().find(|kept| kept.name == *tag) {
        let _lock = machine.lock()?;
        external::restore(&machine, spec, kept)?;
        return output::line(&args.name);
    }
    if !find(&spec, tag)? {
        return Err(unknown(&spec, tag));
    }
    match machine.lock() {
        Ok(_lock) => {
            for disk in disks_of_snapshots(&spec)? {
                disk::snapshot(file_of(disk)?, "-a", tag.as_str())?;
            }
        }
        Err(MachineError::Running(_)) => {
            let mut monitor = machine.monitor(LIMIT)?;
            let snapshot = whole(&machine, &spec, &mut monitor, tag)?;
            let told = |e| machine.refused(e);
            monitor.stop().map_err(told)?;
            monitor.load(&snapshot, SAVING).map_err(told)?;
            monitor.cont().map_err(told)?;
            if !set_clock(&args.name, &mut monitor, ctx) {
                let what = "the guest's clock stands where it was then: no agent in it answers";
                output::talk("note", what);
            }
        }
        Err(other) => return Err(other.into()),
    }
    output::line(&args.name)
}

fn snapshots(spec: &MachineSpec) -> anyhow::Result<Vec<disk::SnapshotInfo>> {
    match disks_of_snapshots(spec)?.first() {
        Some(disk) => Ok(disk::info(file_of(disk)?)?.snapshots),
        None => Ok(Vec::new()),
    }
}

fn find(spec: &MachineSpec, tag: &Name) -> anyhow::Result<bool> {
    Ok(snapshots(spec)?.iter().any(|s| s.name == tag.as_str()))
}

fn unknown(spec: &MachineSpec, tag: &Name) -> anyhow::Error {
    errors::advised(
        Class::NotFound,
        format!("machine {} has no snapshot {tag}", spec.name),
        format!("`hyperion vm snapshot {}` lists them", spec.name),
    )
}

/// A snapshot of either kind.
struct Listed {
    name: String,
    kind: &'static str,
    memory: u64,
    content: &'static str,
    taken: i64,
}

fn list(machine: &MachineFolder, spec: &MachineSpec, ctx: &Context) -> anyhow::Result<()> {
    let beside = external::all(machine)?;
    let inside = match snapshots(spec) {
        Ok(inside) => inside,
        // Its disks hold none, and it has some all the same.
        Err(_) if !beside.is_empty() => Vec::new(),
        Err(error) => return Err(error),
    };
    let inside = inside.into_iter().map(|s| Listed {
        name: s.name,
        kind: "internal",
        memory: s.vm_state_size,
        content: match s.vm_state_size {
            0 => Content::ShutOff.word(),
            _ => "with memory",
        },
        taken: s.date_sec,
    });
    let beside = beside.into_iter().map(|kept| Listed {
        name: kept.name.to_string(),
        kind: "external",
        memory: 0,
        content: kept.content.word(),
        taken: kept.taken,
    });
    let all: Vec<Listed> = inside.chain(beside).collect();
    match ctx.output {
        OutputFormat::Quiet => all.iter().try_for_each(|s| output::line(&s.name)),
        OutputFormat::Json => {
            let row = |s: &Listed| json!({"name": s.name, "kind": s.kind, "memory_bytes": s.memory, "content": s.content, "taken": s.taken});
            output::json(&all.iter().map(row).collect::<Vec<_>>())
        }
        OutputFormat::Human => {
            let row = |s: &Listed| {
                let taken = jiff::Timestamp::from_second(s.taken);
                let memory = match s.memory {
                    0 => "-".to_owned(),
                    size => Bytes(size).to_string(),
                };
                vec![
                    s.name.clone(),
                    s.kind.to_owned(),
                    memory,
                    s.content.to_owned(),
                    taken.map_or_else(|_| "?".into(), |t| t.to_string()),
                ]
            };
            output::table(
                &["SNAPSHOT", "KIND", "MEMORY", "CONTENT", "TAKEN"],
                all.iter().map(row),
            )
        }
    }
}
