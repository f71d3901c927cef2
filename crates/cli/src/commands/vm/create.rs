//! Making machines: `hyperion vm create` and `hyperion vm define`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use hyperion_formats::domain::{self, DomainError, Mode};
use hyperion_image::disk;
use hyperion_isolation::vm::stay::Orders;
use hyperion_model::machine::{
    Backing, Boot, Bus, Clock, CpuModel, DirectKernel, Disk, DiskDevice, DiskFormat, DiskSource,
    Enlightenment, Firmware, Graphics, Interface, InterfaceKind, NicModel, PortForward, Seed,
    SeedUser, Share, ShareKind, Uuid, VncListen,
};
use hyperion_model::{Bytes, Class, MachineSpec, Name};
use hyperion_node::machines::{MachineFolder, Machines};

use super::export::without_disks;
use super::image::{self, ImageArgs};
use super::layers;
use super::machines::power_on;
use super::seats::SeatArgs;
use super::unfinished::Unfinished;
use crate::context::Context;
use crate::{errors, output};

// Words of `hyperion vm create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm create small --memory 512MiB --vcpus 1 --disk 1GiB --os-variant debian12\n  \
    hyperion vm create web --image nginx -p 8080:80 --start\n  \
    hyperion vm create box --image debian --disk 20GiB -- sleep infinity\n  \
    hyperion vm create web --image ./debian.qcow2 --ssh-key ~/.ssh/id_ed25519.pub -p 2222:22 --start\n  \
    hyperion vm create setup --disk 20GiB --cdrom ./debian.iso --uefi --vnc")]
pub(crate) struct CreateArgs {
    /// Name of the machine
    name: Name,
    /// Memory: 512MiB, 2GiB
    #[arg(
        short,
        long,
        value_name = "SIZE",
        default_value = "1GiB",
        allow_negative_numbers = true,
        help_heading = "Size"
    )]
    memory: Bytes,
    /// Processors
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "1",
        allow_negative_numbers = true,
        help_heading = "Size"
    )]
    vcpus: u32,
    /// Disk: a size for a new thin one, or the file of one that exists; repeatable
    #[arg(long, value_name = "SIZE|FILE", help_heading = "Disks")]
    disk: Vec<String>,
    /// Image of which the first disk is a thin copy, and which is only read: a disk image, or one of
    /// the store, whose command then runs in the machine (`--init`: whose init); of that, the first
    /// size of --disk is the disk's [10GiB]
    #[arg(long, value_name = "FILE|IMAGE", help_heading = "Disks")]
    image: Option<String>,
    /// File that may lie below a disk or an image, as its header says; repeatable
    #[arg(long, value_name = "FILE", help_heading = "Disks")]
    backing: Vec<PathBuf>,
    /// Optical disk to boot from: a file or an HTTP address; repeatable, for drivers beside a system
    #[arg(long, value_name = "FILE|URL", help_heading = "Disks")]
    cdrom: Vec<String>,
    /// How disks are connected: virtio, sata, scsi or ide
    #[arg(
        long,
        value_name = "BUS",
        default_value = "virtio",
        help_heading = "Disks"
    )]
    bus: Bus,
    /// Kernel of the host's to boot in place of the guest's boot loader
    #[arg(long, value_name = "FILE", help_heading = "System")]
    kernel: Option<PathBuf>,
    /// Its initial file system
    #[arg(
        long,
        value_name = "FILE",
        requires = "kernel",
        help_heading = "System"
    )]
    initrd: Option<PathBuf>,
    /// Its command line
    #[arg(
        long,
        value_name = "TEXT",
        requires = "kernel",
        help_heading = "System"
    )]
    append: Option<String>,
    #[command(flatten)]
    of_store: ImageArgs,
    #[command(flatten)]
    guest: GuestArgs,
}

// What is said of the guest, whatever its machine is made from.
#[derive(Debug, Args)]
pub(super) struct GuestArgs {
    /// How far memory can be raised while the machine runs, by `vm resize`
    #[arg(
        long,
        value_name = "SIZE",
        allow_negative_numbers = true,
        help_heading = "Size"
    )]
    max_memory: Option<Bytes>,
    /// How many processors there can be while the machine runs, by `vm resize`
    #[arg(
        long,
        value_name = "NUMBER",
        allow_negative_numbers = true,
        help_heading = "Size"
    )]
    max_vcpus: Option<u32>,
    /// Kind of processor: host, max, or a name of QEMU's
    #[arg(long, value_name = "MODEL", help_heading = "Size")]
    cpu: Option<String>,
    /// The guest's system, as libosinfo names it; one of Windows (win11, win2k22) gets Hyper-V's
    /// enlightenments and a clock with local time
    #[arg(long, value_name = "NAME", help_heading = "System")]
    os_variant: Option<String>,
    /// UEFI in place of a BIOS
    #[arg(long, help_heading = "System")]
    uefi: bool,
    /// Network card: user (out, and in by -p), bridge=NAME (on a bridge of the host; root), tap=NAME
    /// (one that exists), or none; repeatable
    #[arg(long, value_name = "KIND", help_heading = "Network")]
    network: Vec<String>,
    /// What network card the guest sees: virtio, e1000, e1000e or rtl8139
    #[arg(
        long,
        value_name = "MODEL",
        default_value = "virtio",
        help_heading = "Network"
    )]
    nic: NicModel,
    /// Port of the host that leads to the guest: [ADDRESS:]HOST:GUEST
    #[arg(short, long, value_name = "PORTS", help_heading = "Network")]
    publish: Vec<PortForward>,
    /// User that the guest makes at its first boot, by cloud-init, for --ssh-key [default: hyperion]
    #[arg(long, value_name = "NAME", help_heading = "System")]
    user: Option<String>,
    /// Public key for SSH of that user, who may become root; repeatable
    #[arg(long, value_name = "FILE", help_heading = "System")]
    ssh_key: Vec<PathBuf>,
    /// cloud-init's user-data of your own
    #[arg(long, value_name = "FILE", help_heading = "System")]
    user_data: Option<PathBuf>,
    /// Folder of the host that the guest mounts by its tag: FOLDER:TAG[:ro]; as root by virtiofs,
    /// else by 9p; repeatable
    #[arg(long, value_name = "FOLDER:TAG", help_heading = "Disks")]
    share: Vec<String>,
    #[command(flatten)]
    seats: SeatArgs,
    /// A screen, for viewers of VNC on a socket of this user's
    #[arg(long, help_heading = "System")]
    vnc: bool,
    /// Start it at once
    #[arg(long)]
    pub(super) start: bool,
}

// Words of `hyperion vm define`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm define myvm.xml\n  \
    hyperion vm define --lenient old.xml")]
pub(crate) struct DefineArgs {
    /// Domain XML of libvirt's; - is standard input
    file: PathBuf,
    /// Repair what can be, and tell each repair
    #[arg(long)]
    lenient: bool,
    /// Start it at once
    #[arg(long)]
    start: bool,
}

pub(super) fn create(args: &CreateArgs, ctx: &Context) -> anyhow::Result<()> {
    let mut spec = MachineSpec::new(args.name.clone(), args.memory, args.vcpus);
    if let Some(kernel) = &args.kernel {
        spec.boot = Boot {
            kernel: Some(DirectKernel {
                kernel: existing(kernel)?,
                initrd: args.initrd.as_deref().map(existing).transpose()?,
                cmdline: args.append.clone(),
            }),
            ..Boot::default()
        };
    }
    guest(&args.guest, &mut spec, ctx)?;
    let allowed = layers::allowed(&args.backing)?;
    let mut words: Vec<&String> = args.disk.iter().collect();
    let of_file = match &args.image {
        Some(image) => image::as_file(image, &args.of_store)?,
        None => None,
    };
    let mut chosen = None;
    if let (Some(image), None) = (&args.image, of_file) {
        if args.kernel.is_some() {
            return Err(errors::advised(
                Class::User,
                "the machine of an image of the store boots a kernel of Hyperion's",
                "leave out --kernel; `hyperion vm kernel ls` lists those that there are",
            ));
        }
        let is_size = |word: &&String| word.parse::<Bytes>().is_ok() && !Path::new(word).exists();
        let size = words.iter().position(is_size);
        let size = size.and_then(|at| words.remove(at).parse().ok());
        let made = image::choose(image, &args.of_store, size, args.bus, &mut spec, ctx)?;
        chosen = Some(made);
    }
    if let Some(image) = of_file {
        let image = existing(image)?;
        layers::nobodys(&image, ctx)?;
        let seen = disk::info(&image)?;
        let mut disk = new_disk(&spec, args.bus);
        disk.size = Some(Bytes(seen.virtual_size));
        disk.backing = layers::below(&image, &allowed)?;
        disk.backing.insert(
            0,
            Backing {
                format: format_of(&seen.format)?,
                source: DiskSource::File(image),
            },
        );
        spec.disks.push(disk);
    }
    for word in words {
        let disk = disk_of(word, &spec, args.bus, &allowed)?;
        spec.disks.push(disk);
    }
    for word in &args.cdrom {
        let mut drive = Disk::new(spec.free_target(Bus::Sata), Bus::Sata);
        drive.device = DiskDevice::Cdrom;
        drive.read_only = true;
        drive.source = Some(match word.contains("://") {
            true => DiskSource::Web(word.parse()?),
            false => DiskSource::File(existing(Path::new(word))?),
        });
        spec.disks.push(drive);
    }
    add(spec, args.guest.start, ctx, |machine, spec| match &chosen {
        Some(chosen) => chosen.fill(machine, spec, ctx),
        None => Ok(()),
    })
}

/// Carries over what is said of the guest.
pub(super) fn guest(args: &GuestArgs, spec: &mut MachineSpec, ctx: &Context) -> anyhow::Result<()> {
    if args.max_memory.is_some() {
        spec.memory.max = args.max_memory;
    }
    if args.max_vcpus.is_some() {
        spec.vcpus.max = args.max_vcpus;
    }
    args.seats.apply(spec, ctx)?;
    if args.os_variant.is_some() {
        spec.os_variant.clone_from(&args.os_variant);
    }
    if args
        .os_variant
        .as_deref()
        .is_some_and(|name| name.starts_with("win"))
    {
        windows(spec);
    }
    match args.cpu.as_deref() {
        None => {}
        Some("host") => spec.cpu.model = CpuModel::Host,
        Some("max") => spec.cpu.model = CpuModel::Maximum,
        Some(name) => spec.cpu.model = CpuModel::Named(name.to_owned()),
    }
    if args.uefi {
        spec.firmware = Firmware::Uefi {
            secure_boot: false,
            loader: None,
            variables: None,
        };
    }
    spec.rng = true;
    spec.agent = true;
    if args.vnc {
        spec.graphics = Graphics::Vnc(VncListen::Socket(None));
    }
    spec.seed = seed(args, spec.image.is_some())?;
    for word in &args.share {
        spec.shares.push(share(word)?);
    }
    network(args, spec)
}

/// What Windows expects of a machine.
fn windows(spec: &mut MachineSpec) {
    use Enlightenment as E;
    spec.clock = Clock::Localtime;
    let known = [
        E::Relaxed,
        E::Vapic,
        E::Vpindex,
        E::Runtime,
        E::Synic,
        E::Stimer,
        E::Frequencies,
        E::Clock,
    ];
    spec.hyperv.features.extend(known);
    spec.hyperv.spinlock_retries = Some(8191);
}

/// Reads the word for a folder that is shared.
fn share(word: &str) -> anyhow::Result<Share> {
    let (rest, read_only) = match word.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (word, false),
    };
    let Some((source, tag)) = rest
        .rsplit_once(':')
        .filter(|(source, _)| !source.is_empty())
    else {
        return Err(errors::advised(
            Class::User,
            format!("{word:?} names no folder and tag"),
            "write FOLDER:TAG, /srv/data:data for one; the guest mounts it by `mount -t virtiofs data /mnt`",
        ));
    };
    Ok(Share {
        source: existing(Path::new(source))?,
        tag: tag.to_owned(),
        read_only,
        kind: match rustix::process::geteuid().is_root() {
            true => ShareKind::Virtiofs,
            false => ShareKind::Ninep,
        },
    })
}

/// What the guest is to set up: nothing, if nothing was asked for.
fn seed(args: &GuestArgs, of_store: bool) -> anyhow::Result<Option<Seed>> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    };
    let mut keys = Vec::new();
    for file in &args.ssh_key {
        let text = read(file)?;
        if text.contains("PRIVATE KEY") {
            return Err(errors::advised(
                Class::User,
                format!("{} is a private key", file.display()),
                "name the public one: it ends in .pub",
            ));
        }
        let lines = text.lines().map(str::trim);
        keys.extend(
            lines
                .filter(|l| !l.is_empty() && !l.starts_with('#'))
                .map(str::to_owned),
        );
    }
    let user_data = args.user_data.as_ref().map(read).transpose()?;
    if keys.is_empty() && user_data.is_none() {
        if let Some(user) = &args.user {
            return Err(errors::advised(
                Class::User,
                format!("{user} has no key, and could not log in"),
                "name one: --ssh-key ~/.ssh/id_ed25519.pub",
            ));
        }
        return Ok(None);
    }
    // In an image of the store nobody makes users.
    let usual = if of_store { "root" } else { "hyperion" };
    let name = args.user.as_deref().unwrap_or(usual);
    let user = SeedUser {
        name: name.to_owned(),
        keys,
        admin: true,
    };
    Ok(Some(Seed {
        hostname: None,
        users: vec![user],
        user_data,
    }))
}

fn network(args: &GuestArgs, spec: &mut MachineSpec) -> anyhow::Result<()> {
    if !args.network.is_empty() {
        spec.interfaces.clear();
    }
    for word in &args.network {
        let kind = match word.split_once('=') {
            None if word == "none" => continue,
            None if word == "user" => InterfaceKind::User,
            Some(("bridge", name)) => InterfaceKind::Bridge(name.to_owned()),
            Some(("tap", name)) => InterfaceKind::Tap(name.to_owned()),
            _ => {
                return Err(errors::advised(
                    Class::User,
                    format!("there is no network {word:?} for a machine"),
                    "write user, bridge=NAME, tap=NAME or none",
                ));
            }
        };
        spec.interfaces.push(Interface {
            kind,
            model: args.nic,
            ..Interface::default()
        });
    }
    if args.publish.is_empty() {
        return Ok(());
    }
    let mut cards = spec.interfaces.iter_mut();
    match cards.find(|card| card.kind == InterfaceKind::User) {
        Some(card) => card.forwards.clone_from(&args.publish),
        // A port that leads to the guest asks for the network that can lead it.
        None => spec.interfaces.push(Interface {
            forwards: args.publish.clone(),
            model: args.nic,
            ..Interface::default()
        }),
    }
    Ok(())
}

pub(super) fn existing(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))
}

pub(super) fn new_disk(spec: &MachineSpec, bus: Bus) -> Disk {
    let mut disk = Disk::new(spec.free_target(bus), bus);
    disk.format = DiskFormat::Qcow2;
    disk
}

/// Reads the word for a disk: a size, or the file of one that exists.
fn disk_of(word: &str, spec: &MachineSpec, bus: Bus, allowed: &[PathBuf]) -> anyhow::Result<Disk> {
    let mut disk = new_disk(spec, bus);
    let file = Path::new(word);
    match word.parse::<Bytes>() {
        Ok(size) if !file.exists() => disk.size = Some(size),
        _ => {
            let file = existing(file).map_err(|e| {
                errors::advised(
                    Class::NotFound,
                    format!("{e:#}"),
                    "write a size for a new disk (10GiB), or the file of one that exists",
                )
            })?;
            disk.format = format_of(&disk::info(&file)?.format)?;
            disk.backing = layers::below(&file, allowed)?;
            disk.source = Some(DiskSource::File(file));
        }
    }
    Ok(disk)
}

pub(super) fn format_of(word: &str) -> anyhow::Result<DiskFormat> {
    word.parse().map_err(|e| {
        errors::advised(
            Class::Unsupported,
            e,
            "make one of it that is known: qemu-img convert -O qcow2 OLD NEW",
        )
    })
}

pub(super) fn define(args: &DefineArgs, ctx: &Context) -> anyhow::Result<()> {
    let mode = match args.lenient {
        true => Mode::Lenient,
        false => Mode::Strict,
    };
    let hint = match mode {
        Mode::Strict => "--lenient repairs what can be, and tells how",
        Mode::Lenient => "mend what cannot be repaired in the document",
    };
    let spec = read_domain(&args.file, mode, hint)?;
    add(spec, args.start, ctx, |_, _| Ok(()))
}

/// Reads domain XML, and tells what was repaired and what is not carried over.
pub(super) fn read_domain(file: &Path, mode: Mode, hint: &str) -> anyhow::Result<MachineSpec> {
    let (text, name) = match file.to_str() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            (text, "standard input".to_owned())
        }
        _ => {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file);
            (text.with_context(|| format!("cannot read {name}"))?, name)
        }
    };
    let parsed = domain::parse(&text, mode).map_err(|error| {
        let hint = match &error {
            DomainError::Invalid { mistakes, mode } => {
                eprint!("{}", output::plain(&domain::list(mistakes, *mode)));
                hint
            }
            DomainError::Xml(_) | DomainError::Root { .. } => {
                "mend the document; nothing that it names was opened, and nothing was made"
            }
        };
        errors::advised(Class::User, format!("{name}: {error}"), hint)
    })?;
    if !parsed.repairs.is_empty() {
        eprint!("{}", output::plain(&domain::list(&parsed.repairs, mode)));
        eprint!(
            "{}",
            output::plain(&domain::repaired(&text, &parsed.spec, &name))
        );
    }
    for note in &parsed.notes {
        output::talk("note", note);
    }
    let mut spec = parsed.spec;
    without_disks(&mut spec);
    Ok(spec)
}

/// Makes an identity.
pub(super) fn fresh_uuid() -> anyhow::Result<Uuid> {
    let mut bits = [0; 16];
    rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())?;
    Ok(Uuid::from_random(u128::from_le_bytes(bits)))
}

/// Makes what is missing, writes the definition down, and starts the machine if it is
/// to run. `fill` gives disks their content, before those without any are made.
pub(super) fn add(
    mut spec: MachineSpec,
    start: bool,
    ctx: &Context,
    fill: impl FnOnce(&MachineFolder, &mut MachineSpec) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    spec.validate()?;
    if spec.uuid.is_none() {
        spec.uuid = Some(fresh_uuid()?);
    }
    let machine = Machines::new(&ctx.root).create(&spec.name)?;
    let lock = machine.lock()?;
    let unfinished = Unfinished::new(&machine.path)?;
    let made = std::fs::create_dir_all(machine.disks())
        .map_err(anyhow::Error::from)
        .and_then(|()| fill(&machine, &mut spec))
        .and_then(|()| make_disks(&machine, &mut spec))
        .and_then(|()| Ok(machine.define(&spec)?));
    drop(unfinished);
    drop(lock);
    if let Err(error) = made {
        // It never was a machine: nothing of it stays.
        let _ = machine.delete();
        return Err(error);
    }
    if start {
        power_on(machine, &spec, ctx)?;
    }
    output::line(&spec.name)
}

/// Writes the disk by which the guest is told what to do, at its first boot by cloud-init
/// or at each by our init, or removes that of an earlier definition.
pub(super) fn write_seed(machine: &MachineFolder, spec: &MachineSpec) -> anyhow::Result<()> {
    let orders = Orders::of(spec);
    let seed = match (&spec.seed, &orders) {
        (Some(_), None) => Some(hyperion_formats::seed::image(spec)?),
        _ => None,
    };
    for (name, content) in [(SEED, seed), (ORDERS, orders.map(|orders| orders.disk()))] {
        let file = machine.disks().join(name);
        match content {
            Some(content) => std::fs::write(&file, content)
                .with_context(|| format!("cannot write {}", file.display()))?,
            None => {
                let _ = std::fs::remove_file(&file);
            }
        }
    }
    Ok(())
}

/// The disks by which a guest is told what to do: cloud-init, and our init.
pub(super) const SEED: &str = "seed.iso";
/// See [`SEED`].
pub(super) const ORDERS: &str = "orders";

/// Makes the disks that have a size, or something to lie on, and no content yet.
fn make_disks(machine: &MachineFolder, spec: &mut MachineSpec) -> anyhow::Result<()> {
    for disk in &mut spec.disks {
        let is_new = disk.source.is_none() && disk.device == DiskDevice::Disk;
        if !is_new {
            continue;
        }
        let file = machine.disks().join(format!("{}.qcow2", disk.target));
        let below = match disk.backing.first() {
            Some(backing) => match &backing.source {
                // What lies beside it is found there, wherever both are.
                DiskSource::File(below) => Some((
                    below.strip_prefix(machine.disks()).unwrap_or(below),
                    backing.format.to_string(),
                )),
                _ => None,
            },
            None => None,
        };
        let below = below
            .as_ref()
            .map(|(file, format)| (*file, format.as_str()));
        disk::create(&file, disk.size, below)?;
        disk.source = Some(DiskSource::File(file));
        disk.format = DiskFormat::Qcow2;
    }
    write_seed(machine, spec)
}
