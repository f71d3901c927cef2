//! Machines that are made of images of the store: `hyperion vm create --image debian`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use hyperion_image::layer::erofs::{Found, look};
use hyperion_image::{ImageRecord, Owners, RootForm, RootPolicy, Store, StoreError};
use hyperion_isolation::vm::kernel::{Kernel, Kernels};
use hyperion_isolation::vm::stay;
use hyperion_model::machine::{
    Backing, Boot, Bus, DirectKernel, DiskDevice, DiskFormat, DiskSource, MachineImage, NicModel,
    Restart, Service, ShareKind, Starts,
};
use hyperion_model::{Bytes, Class, MachineSpec, RootSource};
use hyperion_node::machines::MachineFolder;
use hyperion_sys::failpoint;

use super::super::image::Busy;
use super::create::new_disk;
use crate::commands::pull;
use crate::commands::run::{NINEP, refuse_lacking, refuse_too_little};
use crate::context::Context;
use crate::errors;

/// How large the disk of such a machine is where nobody says: thin, so that it takes
/// what is written.
const USUAL: Bytes = Bytes(10 << 30);
/// The largest that the file system has descriptors for.
const LARGEST: Bytes = Bytes(1 << 40);
/// In a machine's folder, where that lies which it boots; a number follows.
const BOOT: &str = "boot";
/// There, the modules of its kernel.
pub(super) const MODULES: &str = "modules";

// What is said of a machine that is made of an image of the store.
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// Start the init that lies in the image (systemd), in place of the image's command
    #[arg(long, requires = "image", help_heading = "Image")]
    init: bool,
    /// When the command of an image is started again: always, on-failure or no; where it
    /// is not, the machine switches itself off
    #[arg(
        long,
        value_name = "WHEN",
        requires = "image",
        conflicts_with = "init",
        help_heading = "Image"
    )]
    restart: Option<Restart>,
    /// Variable for the command of an image, over its own; repeatable
    #[arg(
        short,
        long,
        value_name = "NAME=VALUE",
        requires = "image",
        conflicts_with = "init",
        help_heading = "Image"
    )]
    env: Vec<String>,
    /// When an image is brought from its registry: missing, always or never
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "missing",
        value_parser = ["missing", "always", "never"],
        help_heading = "Image"
    )]
    pull: String,
    /// Program in place of the image's entrypoint; empty: none
    #[arg(
        long,
        value_name = "PROGRAM",
        requires = "image",
        conflicts_with = "init",
        help_heading = "Image"
    )]
    entrypoint: Option<String>,
    /// Command of an image's machine, in place of the image's own
    #[arg(
        last = true,
        value_name = "COMMAND",
        requires = "image",
        conflicts_with = "init"
    )]
    command: Vec<String>,
}

impl ImageArgs {
    /// Tells whether anything is said that a disk image has no use for.
    fn any(&self) -> bool {
        self.init
            || self.restart.is_some()
            || self.entrypoint.is_some()
            || !self.env.is_empty()
            || !self.command.is_empty()
    }
}

/// Gives the file that an image is, if it is one of this host's.
pub(super) fn as_file<'a>(name: &'a str, args: &ImageArgs) -> anyhow::Result<Option<&'a Path>> {
    let path = Path::new(name);
    let is_path = name.starts_with('/') || name.starts_with('.') || name.starts_with('~');
    if !is_path && !path.is_file() {
        return Ok(None);
    }
    if args.any() {
        return Err(errors::advised(
            Class::User,
            format!("{name} is a disk image, which starts what lies in it"),
            "leave out the command and its flags, or name an image of the store: `hyperion image ls`",
        ));
    }
    Ok(Some(path))
}

/// An image of the store that a machine is being made of.
pub(super) struct Chosen {
    record: ImageRecord,
    store: Store,
    kernel: Kernel,
    initramfs: PathBuf,
}

/// Finds the image and a kernel for it, and writes both down in the definition. `size`
/// is that of the disk.
pub(super) fn choose(
    name: &str,
    args: &ImageArgs,
    size: Option<Bytes>,
    bus: Bus,
    spec: &mut MachineSpec,
    ctx: &Context,
) -> anyhow::Result<Chosen> {
    let store = Store::open(&ctx.images())?;
    let record = match (args.pull.as_str(), store.resolve(name)) {
        ("always", _) => pull::bring(ctx, &store, name)?,
        ("missing", Err(StoreError::NoImage(_))) => {
            pull::bring(ctx, &store, name).with_context(|| {
                format!(
                    "the image {name} is no file here, is not in the store, and cannot be pulled"
                )
            })?
        }
        (_, found) => found?,
    };
    if (record.os.as_str(), record.arch.as_str()) != ("linux", "amd64") {
        return Err(errors::advised(
            Class::Unsupported,
            format!("the image {name} is for {} on {}", record.os, record.arch),
            "machines of images are Linux on amd64; `hyperion pull` brings the variant of this host",
        ));
    }
    if bus != Bus::Virtio {
        return Err(errors::advised(
            Class::User,
            format!("the disk of an image's machine is connected by virtio, not by {bus}"),
            "leave out --bus",
        ));
    }
    let kernel = Kernels::new(&ctx.root).default_kernel()?;
    let initramfs = first_root(&kernel, spec)?;
    spec.image = Some(MachineImage {
        reference: name.to_owned(),
        digest: record.digest.to_string(),
        starts: starts(name, args, &record)?,
    });
    spec.disks.insert(0, {
        let mut disk = new_disk(spec, Bus::Virtio);
        disk.size = Some(size.unwrap_or(USUAL));
        disk.serial = Some(stay::ROOT_SERIAL.into());
        disk
    });
    Ok(Chosen {
        record,
        store,
        kernel,
        initramfs,
    })
}

/// Says what runs: the image's own init, or a command by an init of ours.
fn starts(name: &str, args: &ImageArgs, record: &ImageRecord) -> anyhow::Result<Starts> {
    let config = &record.config;
    let mut command = match args.entrypoint.as_deref() {
        None => config.entrypoint.clone(),
        Some("") => Vec::new(),
        Some(program) => vec![program.to_owned()],
    };
    match args.command.is_empty() {
        true if args.entrypoint.is_none() => command.extend(config.cmd.iter().cloned()),
        _ => command.extend(args.command.iter().cloned()),
    }
    let own = matches!(&command[..], [only] if stay::is_init(only));
    if args.init || own {
        return Ok(Starts::Init);
    }
    if command.is_empty() {
        return Err(errors::advised(
            Class::User,
            format!("the image {name} says no command that its machine could start"),
            format!(
                "name one: hyperion vm create NAME --image {name} -- COMMAND; or --init, where the image has an init"
            ),
        ));
    }
    let mut env = config.env.clone();
    for pair in &args.env {
        let Some((name, _)) = pair.split_once('=') else {
            return Err(errors::advised(
                Class::User,
                format!("{pair:?} is no variable with a value"),
                "write NAME=VALUE",
            ));
        };
        env.retain(|old| old.split('=').next() != Some(name));
        env.push(pair.clone());
    }
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Starts::Service(Service {
        command,
        env,
        user: said(&config.user),
        folder: said(&config.working_dir),
        stop_signal: config.stop_signal.as_deref().and_then(said),
        restart: args.restart.unwrap_or_default(),
    }))
}

impl Chosen {
    /// Gives a new machine its disk, which is a layer above what all machines of this
    /// image share, and a kernel of its own: neither goes when the store is tidied up.
    pub(super) fn fill(
        &self,
        machine: &MachineFolder,
        spec: &mut MachineSpec,
        ctx: &Context,
    ) -> anyhow::Result<()> {
        check_drivers(&self.kernel, spec)?;
        let owners = Owners::Keep;
        let mut policy = RootPolicy::new(true, owners);
        policy.form = RootForm::Disk;
        let busy = Busy::new(ctx, "writing the image to a disk");
        let root = self.store.rootfs(&self.record, &policy)?;
        drop(busy);
        let RootSource::Erofs { file: base } = root.source else {
            anyhow::bail!("an image as one file is one file");
        };
        let digest = self.record.digest.hex();
        let below = machine
            .disks()
            .join(format!("image-{}.ext4", &digest[..12]));
        link(&base, &below)?;
        drop(root.lease);
        if let Some(image) = &spec.image {
            starts_there(image, &below)?;
        }
        let least = fs::metadata(&below)?.len();
        let disk = &mut spec.disks[0];
        let size = disk.size.unwrap_or(USUAL);
        if size.0 < least || size > LARGEST {
            let (what, hint) = match size > LARGEST {
                true => (
                    "more than its file system can have",
                    format!("the most for --disk is {LARGEST}"),
                ),
                false => (
                    "too small for the image",
                    format!("the least for --disk is {}", Bytes(least)),
                ),
            };
            return Err(errors::advised(
                Class::User,
                format!("a disk of {size} is {what}"),
                hint,
            ));
        }
        failpoint!("image-linked");
        disk.backing = vec![Backing {
            source: DiskSource::File(below),
            format: DiskFormat::Raw,
        }];
        let direct = boots(machine, &self.kernel, &self.initramfs)?;
        spec.boot = Boot {
            kernel: Some(direct),
            ..Boot::default()
        };
        Ok(())
    }
}

/// Gives a machine a kernel and its first root for itself, beside those that it may have.
fn boots(
    machine: &MachineFolder,
    kernel: &Kernel,
    initramfs: &Path,
) -> anyhow::Result<DirectKernel> {
    let mut names = (1..).map(|number| machine.path.join(format!("{BOOT}{number}")));
    let folder = names.find(|folder| !folder.exists()).unwrap_or_default();
    fs::create_dir_all(&folder)?;
    let (file, initrd) = (folder.join("kernel"), folder.join("initrd"));
    link(kernel.boot_image(), &file)?;
    link(initramfs, &initrd)?;
    if let Some(modules) = kernel.all_modules()? {
        link(&modules, &folder.join(MODULES))?;
    }
    Ok(DirectKernel {
        kernel: file,
        initrd: Some(initrd),
        cmdline: Some(stay::KERNEL_LINE.into()),
    })
}

/// Gives the disk with the modules of the kernel that an image's machine boots.
pub(super) fn modules(spec: &MachineSpec) -> Option<PathBuf> {
    spec.image.as_ref()?;
    let file = spec.boot.kernel.as_ref()?.kernel.with_file_name(MODULES);
    file.is_file().then_some(file)
}

/// Gives a machine of an image another kernel, and the init of this program.
pub(super) fn renew(
    machine: &MachineFolder,
    mut spec: MachineSpec,
    release: &str,
    ctx: &Context,
) -> anyhow::Result<()> {
    if spec.image.is_none() {
        return Err(errors::advised(
            Class::User,
            format!("machine {} boots what lies on its disks", machine.name),
            "its kernel is renewed in it, as that of any system",
        ));
    }
    let kernels = Kernels::new(&ctx.root);
    let kernel = match release {
        "default" => kernels.default_kernel()?,
        release => kernels.find(release)?,
    };
    let initramfs = first_root(&kernel, &spec)?;
    check_drivers(&kernel, &spec)?;
    let old = spec.boot.kernel.take();
    spec.boot.kernel = Some(boots(machine, &kernel, &initramfs)?);
    machine.define(&spec)?;
    let old = old.and_then(|old| old.kernel.parent().map(Path::to_owned));
    // What runs has it open.
    if let Some(old) = old.filter(|old| old.parent() == Some(&machine.path)) {
        let _ = fs::remove_dir_all(old);
    }
    Ok(())
}

/// Gives the first root of an image's machine.
fn first_root(kernel: &Kernel, spec: &MachineSpec) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find the file of this program")?;
    let initramfs = kernel.initramfs(&program)?;
    refuse_too_little(spec.memory.size, &initramfs)?;
    Ok(initramfs)
}

/// Refuses a kernel that an image's machine would not come up with, or not find all of
/// its devices.
fn check_drivers(kernel: &Kernel, spec: &MachineSpec) -> anyhow::Result<()> {
    let mut needed = BTreeSet::from(["virtio_blk", "virtio_console", "ext4"]);
    needed.extend(spec.interfaces.iter().map(|card| match card.model {
        NicModel::Virtio => "virtio_net",
        NicModel::E1000 => "e1000",
        NicModel::E1000e => "e1000e",
        NicModel::Rtl8139 => "8139cp",
    }));
    for disk in &spec.disks {
        needed.extend(match disk.bus {
            Bus::Virtio => continue,
            Bus::Sata => ["ahci"],
            Bus::Ide => ["ata_piix"],
            Bus::Scsi => ["virtio_scsi"],
        });
        needed.insert(match disk.device {
            DiskDevice::Disk => "sd_mod",
            DiskDevice::Cdrom => "sr_mod",
        });
    }
    for share in &spec.shares {
        needed.extend(match share.kind {
            ShareKind::Virtiofs => &["virtiofs"][..],
            ShareKind::Ninep => &NINEP,
        });
    }
    refuse_lacking(
        kernel,
        needed,
        "linux-image-amd64 of Debian has all: `hyperion vm kernel install --flavour amd64`; \
         the cloud kernel has those for virtio",
    )
}

/// Refuses an image that lacks what its machine is to start.
fn starts_there(image: &MachineImage, below: &Path) -> anyhow::Result<()> {
    let file = fs::File::open(below)?;
    let is_program = |path: &str| Ok::<_, std::io::Error>(look(&file, path)? == Found::Program);
    let name = &image.reference;
    let service = match &image.starts {
        Starts::Service(service) => service,
        Starts::Init => {
            for init in stay::INITS {
                if is_program(init)? {
                    return Ok(());
                }
            }
            return Err(errors::advised(
                Class::User,
                format!("there is no init in the image {name}"),
                format!(
                    "an image with one has {}; in one of Debian: apt install systemd-sysv; without --init a command is started",
                    stay::INITS[0]
                ),
            ));
        }
    };
    let program = service.command.first().map_or("", String::as_str);
    let mut env = service.env.iter().rev();
    let path = env
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or(stay::PATH);
    let folder = service.folder.as_deref().unwrap_or("/");
    let places: Vec<String> = match program {
        whole if whole.starts_with('/') => vec![whole.to_owned()],
        part if part.contains('/') => vec![format!("{folder}/{part}")],
        name => path
            .split(':')
            .map(|place| format!("{place}/{name}"))
            .collect(),
    };
    for place in &places {
        if is_program(place)? {
            return Ok(());
        }
    }
    let what = match program.contains('/') {
        true => format!("there is no program {program} in the image {name}"),
        false => format!("there is no program {program} in the image {name}: not in {path}"),
    };
    Err(errors::advised(
        Class::User,
        what,
        format!(
            "name one that is there: `hyperion run {name} ls /bin`; -- COMMAND follows the image's entrypoint"
        ),
    ))
}

/// Gives a file a second name, or a copy where the file system knows none.
pub(super) fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(drop))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
