//! The command line of QEMU for a job's machine: pure.

use std::path::PathBuf;

use hyperion_model::Bytes;

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU, by translating them: correct, and many times slower.
    Tcg,
}

/// What a job's machine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The program.
    pub qemu: PathBuf,
    /// Who executes instructions.
    pub accelerator: Accelerator,
    /// The kernel: a bzImage, or an ELF file with a PVH entry.
    pub kernel: PathBuf,
    /// The program that shares folders of the host, where there is one.
    pub virtiofsd: Option<PathBuf>,
    /// Its first root, with this program as `/init`.
    pub initramfs: PathBuf,
    /// All memory of the guest.
    pub memory: Bytes,
    /// How many processors it has.
    pub processors: u32,
}

/// The descriptors that QEMU inherits.
pub(super) const PORT_FD: i32 = 3;
pub(super) const CONSOLE_FD: i32 = 4;
pub(super) const ROOT_FD: i32 = 5;
pub(super) const KERNEL_FD: i32 = 6;
pub(super) const INITRAMFS_FD: i32 = 7;
/// The first of those of the shares.
const SHARE_FD: i32 = 8;

/// The name of the port on which the two relays talk.
pub(super) const PORT: &str = "hyperion";

/// Gives the name under which the guest finds a share.
pub(super) fn share_tag(number: usize) -> String {
    format!("share{number}")
}

/// Gives the words, the program first. The root is the image's file, which comes
/// open: all machines of the image share it and none writes to it. Folders of
/// the host come from a program beside, which has its hands in the guest's memory.
pub(super) fn words(machine: &Machine, shares: usize) -> Vec<String> {
    let accelerator = match machine.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg,thread=multi",
    };
    let processor = match machine.accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    };
    let mut words: Vec<String> = [
        "-name",
        "hyperion",
        "-no-user-config",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "q35,usb=off,vmport=off,smbus=off,sata=off,hpet=off",
        "-accel",
        accelerator,
        "-cpu",
        processor,
    ]
    .map(str::to_owned)
    .into();
    words.insert(0, machine.qemu.display().to_string());
    let mut say = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    say("-smp", machine.processors.to_string());
    let memory = format!("{}M", machine.memory.0.div_ceil(1 << 20));
    if shares > 0 {
        say(
            "-object",
            format!("memory-backend-memfd,id=ram,size={memory},share=on"),
        );
        say("-machine", "memory-backend=ram".into());
    }
    say("-m", memory);
    for i in 0..shares {
        let (fd, tag) = (SHARE_FD + i as i32, share_tag(i));
        say("-chardev", format!("socket,id={tag},fd={fd}"));
        say(
            "-device",
            format!("vhost-user-fs-pci,chardev={tag},tag={tag}"),
        );
    }
    // Open already: whom QEMU becomes may not be able to walk the way to them.
    say("-kernel", format!("/proc/self/fd/{KERNEL_FD}"));
    say("-initrd", format!("/proc/self/fd/{INITRAMFS_FD}"));
    // A guest that panics is to end, not to start anew.
    say(
        "-append",
        "console=ttyS0 quiet panic=-1 tsc_early_khz=1000000 no_timer_check".into(),
    );
    say("-chardev", format!("socket,id=console,fd={CONSOLE_FD}"));
    say("-serial", "chardev:console".into());
    say("-chardev", format!("socket,id=port,fd={PORT_FD}"));
    say("-device", "virtio-serial-pci".into());
    say(
        "-device",
        format!("virtserialport,chardev=port,name={PORT}"),
    );
    say("-device", "virtio-rng-pci".into());
    say("-add-fd", format!("fd={ROOT_FD},set=1"));
    say(
        "-blockdev",
        "driver=file,node-name=root,filename=/dev/fdset/1,read-only=on,locking=off".into(),
    );
    say("-device", "virtio-blk-pci,drive=root".into());
    // What breaks out of the guest finds itself without new programs and rights.
    say(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
    );
    words
}
