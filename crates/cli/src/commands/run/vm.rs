//! The machine of a job: what it is made of on this host.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyperion_image::layer::erofs::Form;
use hyperion_isolation::vm::kernel::Kernel;
use hyperion_isolation::vm::{Accelerator, Board, Cell, Disk, Folders, Machine};
use hyperion_model::{Binding, Bytes, Class, CpuSet, JobSpec};
use hyperion_mpi::decide::Note;
use hyperion_mpi::layout::NumaNode;
use hyperion_node::supervisor::{HostFacts, Looked};
use hyperion_sys::host::Host;
use hyperion_sys::tsc::Reading;

use super::folders;
use super::host::HostSize;
use super::huge;
use super::words::{self, Args};
use crate::context::Context;
use crate::errors;

/// The memory of a machine that nobody has asked a size for, where the host has twice that.
const MEMORY: Bytes = Bytes(1 << 30);
/// QEMU for the only architecture that is served.
const QEMU: &str = "qemu-system-x86_64";

/// What the kernel takes beside its first root. It gives files half of the memory
/// that is left by itself and by that root, and unpacks the root into that half:
/// three times the root is needed. Found by trying, with first roots of 20 and 29 MiB:
/// Debian's cloud kernel came up with 108 and 136 MiB, and did not with 4 MiB less.
const LEAST_BESIDE_ROOT: Bytes = Bytes(48 << 20);

/// Refuses a machine in which the kernel would not come up, or stop without words.
pub(crate) fn refuse_too_little(memory: Bytes, initramfs: &Path) -> anyhow::Result<()> {
    let root = std::fs::metadata(initramfs).map_or(0, |root| root.len());
    let least = LEAST_BESIDE_ROOT.0 + 3 * root;
    let least = Bytes(least.next_multiple_of(4 << 20));
    if memory >= least {
        return Ok(());
    }
    Err(errors::advised(
        Class::User,
        format!("a virtual machine does not come up with {memory} of memory"),
        format!("the least for --memory is {least}, and what the job needs beside it"),
    ))
}

/// Chooses what the machine is made of; gives notes about it for those who ask.
pub(super) fn machine(
    ctx: &Context,
    args: &Args,
    job: &JobSpec,
    host: &HostSize,
    kernel: &Kernel,
    image: Option<&Path>,
    form: Form,
) -> anyhow::Result<(Machine, Vec<Note>)> {
    let counter = Reading::take();
    let qemu = find_qemu()?;
    let choice = folders::choose(args, job, kernel, &qemu)?;
    let notes = folders::announce(ctx, job, &choice, image)?;
    let nodes = job.nodes();
    let program = std::env::current_exe().context("cannot find the file of this program")?;
    let initramfs = kernel.initramfs(&program)?;
    let memory = job.resources.memory;
    let all = host.memory();
    let processors = match (&job.resources.cpuset, job.resources.cpus) {
        (Some(set), _) => set.len() as u32,
        (None, Some(cpus)) => cpus.as_f64().ceil() as u32,
        (None, None) => host.processors() / nodes,
    };
    let processors = processors.max(1);
    let bound = match args.bind {
        Binding::None => Vec::new(),
        Binding::Core | Binding::Numa => host.nodes(job.resources.cpuset.as_ref()),
    };
    let all = memory.unwrap_or(Bytes(MEMORY.0.min(all.0 / 2 / u64::from(nodes))));
    let (memory, huge_pages) = match args.hugepages {
        None => (all, None),
        Some(size) => {
            let host = hyperion_sys::host::memory(&Host::at("/"));
            let page = huge::pages(&host.huge_pages, size, all, memory.is_some(), nodes)?;
            (Bytes(all.0 / page.0 * page.0), Some(page))
        }
    };
    refuse_too_little(memory, &initramfs)?;
    let accelerator = accelerator(ctx);
    let mut machine = Machine {
        firmware: find_firmware(&qemu),
        qemu,
        accelerator,
        board: Board::Q35,
        kernel: kernel.boot_image().to_owned(),
        initramfs,
        image: None,
        form,
        folders: choice.folders,
        disk: disk(args, kernel)?,
        memory,
        processors,
        bound,
        huge_pages,
        counter,
        warm: ctx.config.warm_machines.then(|| ctx.warm()),
        patience: accelerator.patience(),
    };
    machine.board = board(args.machine, &machine)?;
    check_drivers(machine.board, kernel, job, &machine.folders, machine.form)?;
    if machine.form == Form::Ext4 {
        eprintln!(
            "note: the kernel {} has no EROFS, so the machine takes its image as ext4",
            kernel.release
        );
    }
    Ok((machine, notes))
}

/// Chooses what the machine is built on; refuses what that one does not have.
fn board(asked: Option<words::Board>, machine: &Machine) -> anyhow::Result<Board> {
    let refuse = |class, what: &str, hint: &str| Err(errors::advised(class, what, hint));
    match asked {
        None | Some(words::Board::Q35) => Ok(Board::Q35),
        Some(words::Board::Microvm) if !machine.seats(0).cells.is_empty() => refuse(
            Class::User,
            "a microvm has no NUMA nodes, and this host has several",
            "leave out --machine, or --bind",
        ),
        Some(words::Board::Microvm) if machine.counter.is_none() => refuse(
            Class::Unsupported,
            "a microvm knows the time by the processor's counter, which is not even here",
            "leave out --machine",
        ),
        Some(words::Board::Microvm) => Ok(Board::Microvm),
    }
}

/// The least for a disk: below it there is no room for the file system itself.
const LEAST_DISK: Bytes = Bytes(16 << 20);

/// Chooses where what the job writes is kept.
fn disk(args: &Args, kernel: &Kernel) -> anyhow::Result<Option<Disk>> {
    let Some(size) = args.disk else {
        return Ok(None);
    };
    if size < LEAST_DISK {
        return Err(errors::advised(
            Class::User,
            format!("a disk of {size} has no room for files"),
            format!("the least for --disk is {LEAST_DISK}"),
        ));
    }
    if !kernel.has_driver("ext4") {
        return Err(errors::advised(
            Class::Unsupported,
            format!("the kernel {} has no ext4", kernel.release),
            "leave out --disk, or take another kernel: `hyperion vm kernel ls`",
        ));
    }
    let known = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].map(PathBuf::from);
    let Some(mkfs) = known.into_iter().find(|f| f.is_file()) else {
        return Err(errors::advised(
            Class::Unsupported,
            "there is no mkfs.ext4 on this host to make a disk with",
            "apt install e2fsprogs, or leave out --disk and give more --memory",
        ));
    };
    Ok(Some(Disk { size, mkfs }))
}

/// Chooses who executes a guest's instructions; says so where it is not the processor.
pub(crate) fn accelerator(ctx: &Context) -> Accelerator {
    if hyperion_sys::kvm::probe(&ctx.root).verdict.works() {
        return Accelerator::Kvm;
    }
    eprintln!(
        "warning: the machine is emulated, many times slower than a real one: \
         KVM does not work here (`hyperion doctor` says why)"
    );
    Accelerator::Tcg
}

/// Gives what a supervisor must know of the machine, as it does of a host.
pub(super) fn facts(machine: &Machine, host: &HostSize) -> HostFacts {
    let node = |(cell, id): (Cell, u32)| NumaNode {
        id,
        cpus: cell.cpus,
    };
    let memory = machine.memory;
    HostFacts {
        cpus: machine.processors,
        memory: Looked::new(Box::new(move || memory)),
        allowed: CpuSet((0..machine.processors).collect()),
        nodes: machine
            .seats(0)
            .cells
            .into_iter()
            .zip(0..)
            .map(node)
            .collect(),
        ..host.facts(hyperion_model::Binding::None)
    }
}

/// What every machine of a job needs of its kernel.
const DRIVERS: [&str; 3] = ["virtio_blk", "virtio_console", "overlay"];

/// Chooses the file system of the image: the one of its own, or ext4 where the
/// kernel lacks that.
pub(super) fn form(kernel: &Kernel) -> Form {
    match !kernel.has_driver("erofs") && kernel.has_driver("ext4") {
        true => Form::Ext4,
        false => Form::Erofs,
    }
}

/// Refuses a kernel that would not come up, and says which would.
fn check_drivers(
    board: Board,
    kernel: &Kernel,
    job: &JobSpec,
    folders: &Folders,
    form: Form,
) -> anyhow::Result<()> {
    let mut mounts = job.container.mounts.iter();
    let has_folders = mounts.any(folders::is_folder);
    let shares = has_folders && matches!(folders, Folders::Virtiofs(_));
    let erofs = form == Form::Erofs;
    let network = (!job.members.is_empty()).then_some(&"virtio_net");
    let needed = [board.driver()];
    let needed = needed
        .iter()
        .chain(&DRIVERS)
        .chain(erofs.then_some(&"erofs"))
        .chain(shares.then_some(&"virtiofs"))
        .chain(network);
    refuse_lacking(
        kernel,
        needed.copied(),
        "linux-image-cloud-amd64 of Debian 12 has all: `hyperion vm kernel install`; \
         with `hyperion vm kernel add`, name the folder of its modules too",
    )
}

/// Refuses a kernel that lacks a driver; says which, and what helps.
pub(crate) fn refuse_lacking<'a>(
    kernel: &Kernel,
    needed: impl IntoIterator<Item = &'a str>,
    hint: &str,
) -> anyhow::Result<()> {
    let needed = needed.into_iter();
    let lacking: Vec<&str> = needed.filter(|driver| !kernel.has_driver(driver)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let lacking = lacking.join(", ");
    let what = format!("the kernel {} has no {lacking}", kernel.release);
    Err(errors::advised(Class::Unsupported, what, hint))
}

/// Finds the firmware of QEMU's that starts kernels and nothing else, among its data.
/// A microvm has it anyway.
fn find_firmware(qemu: &Path) -> Option<PathBuf> {
    let file = qemu.parent()?.parent()?.join("share/qemu/qboot.rom");
    file.is_file().then_some(file)
}

/// Finds QEMU on this host.
pub(crate) fn find_qemu() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(QEMU));
    found.find(|file| file.is_file()).ok_or_else(|| {
        errors::advised(
            Class::Unsupported,
            format!("there is no {QEMU} on this host"),
            "apt install qemu-system-x86",
        )
    })
}
