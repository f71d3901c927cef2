//! Machines: virtual machines that stay. What one *is*, without a word about
//! the program that runs it.
//!
//! Whoever makes a definition (flags, a foreign file, an edited one) lets
//! [`MachineSpec::validate`] look at it; whoever runs one may rely on that.

mod address;
mod devices;
mod image;
#[cfg(test)]
mod tests;
mod validate;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use address::{AddressError, Mac, PortForward, Uuid, WebAddress};
pub use devices::{
    Backing, Bus, Cache, Clock, Console, Discard, Disk, DiskDevice, DiskFormat, DiskSource,
    Graphics, Interface, InterfaceKind, NicModel, OnError, Protocol, Share, ShareKind, Video,
    VncListen, Watchdog, WatchdogAction, WatchdogModel,
};
pub use image::{MachineImage, Restart, Service, Starts};
pub use validate::{Problem, Problems};
pub use words::WordError;

use crate::ids::Name;
use crate::resources::CpuSet;
use crate::units::Bytes;
use words::words;

/// A virtual machine that stays: its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// What it is called on its host.
    pub name: Name,
    /// Its identity, which stays when it is renamed; the maker gives one.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// One line about it.
    #[serde(default)]
    pub title: Option<String>,
    /// More about it.
    #[serde(default)]
    pub description: Option<String>,
    /// The guest's system, as libosinfo names it: `fedora30`, or its full id.
    #[serde(default)]
    pub os_variant: Option<String>,
    /// Its memory.
    pub memory: Memory,
    /// Its processors.
    pub vcpus: Vcpus,
    /// What the processors show.
    #[serde(default)]
    pub cpu: Cpu,
    /// The instruction set.
    #[serde(default)]
    pub architecture: Architecture,
    /// The main board; none: the backend's choice.
    #[serde(default)]
    pub board: Option<Board>,
    /// Emulate the processor even where the host could run it.
    #[serde(default)]
    pub emulated: bool,
    /// What runs before the guest's own boot loader.
    #[serde(default)]
    pub firmware: Firmware,
    /// What is booted.
    #[serde(default)]
    pub boot: Boot,
    /// What the guest's clock shows when it starts.
    #[serde(default)]
    pub clock: Clock,
    /// What Windows guests are told so that they run well.
    #[serde(default)]
    pub hyperv: HyperV,
    /// Disks and optical drives.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Network cards.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Host folders that the guest can mount.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Where the guest's text goes.
    #[serde(default)]
    pub console: Console,
    /// Where its picture goes.
    #[serde(default)]
    pub graphics: Graphics,
    /// The graphics card; none: one that fits the graphics.
    #[serde(default)]
    pub video: Option<Video>,
    /// The guest gets randomness from the host.
    #[serde(default)]
    pub rng: bool,
    /// A channel on which an agent in the guest answers.
    #[serde(default)]
    pub agent: bool,
    /// Ends a guest that no longer answers.
    #[serde(default)]
    pub watchdog: Option<Watchdog>,
    /// What the guest sets up when it first boots.
    #[serde(default)]
    pub seed: Option<Seed>,
    /// The image that it was made of.
    #[serde(default)]
    pub image: Option<MachineImage>,
    /// What is done when its guest crashes.
    #[serde(default)]
    pub on_crash: OnCrash,
    /// It is started with its host.
    #[serde(default)]
    pub autostart: bool,
}

words! {
    /// What is done when the kernel of a guest panics.
    #[derive(Default)]
    OnCrash, "answer to a crash" {
        /// The machine ends.
        #[default]
        Destroy = "destroy",
        /// It is started again.
        Restart = "restart",
    }
}

/// The memory of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What the guest has when it starts.
    pub size: Bytes,
    /// How far that can be raised while it runs; none: not at all.
    #[serde(default)]
    pub max: Option<Bytes>,
    /// The host backs it with huge pages.
    #[serde(default)]
    pub hugepages: Option<HugePages>,
    /// The host's NUMA node that all of it comes from; none: as the host has it.
    #[serde(default)]
    pub from: Option<u32>,
}

/// Which huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HugePages {
    /// Those that the host has set up.
    Default,
    /// Those of one size.
    Of(Bytes),
}

/// The virtual processors of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vcpus {
    /// How many the guest has when it starts.
    pub count: u32,
    /// How many it can be given while it runs; none: no more.
    #[serde(default)]
    pub max: Option<u32>,
    /// How they look to the guest; none: each a socket of its own.
    #[serde(default)]
    pub topology: Option<Topology>,
    /// The host's processors on which all of them run.
    #[serde(default)]
    pub affinity: Option<CpuSet>,
    /// The host's processors on which one of them runs.
    #[serde(default)]
    pub pinning: BTreeMap<u32, CpuSet>,
    /// The guest's NUMA nodes, in their order; none: one for everything.
    #[serde(default)]
    pub numa: Vec<NumaCell>,
}

impl Memory {
    /// Gives how much there can be while the machine runs.
    pub fn most(&self) -> Bytes {
        self.max.unwrap_or(self.size)
    }
}

impl Vcpus {
    /// Gives how many there can be while the machine runs.
    pub fn most(&self) -> u32 {
        self.max.unwrap_or(self.count)
    }

    /// Gives the topology of processors that share nothing.
    pub fn each_a_socket(&self) -> Topology {
        Topology {
            sockets: self.most(),
            cores: 1,
            threads: 1,
        }
    }
}

/// Sockets × cores × threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Processor packages.
    pub sockets: u32,
    /// Cores in each package.
    pub cores: u32,
    /// Threads in each core.
    pub threads: u32,
}

/// One NUMA node of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaCell {
    /// Which of the guest's processors.
    pub cpus: CpuSet,
    /// How much of its memory.
    pub memory: Bytes,
    /// The host's NUMA node that it comes from; none: as all of the machine's.
    #[serde(default)]
    pub from: Option<u32>,
}

/// What the processors show to the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// The kind of processor.
    #[serde(default)]
    pub model: CpuModel,
    /// Features to add (true) or to take away (false), by the kernel's names.
    #[serde(default)]
    pub features: BTreeMap<String, bool>,
}

/// The kind of processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuModel {
    /// The backend's choice.
    #[default]
    Default,
    /// The host's own, with all that it can; such a machine stays on this kind of host.
    Host,
    /// The named model that is nearest to the host's.
    HostModel,
    /// All that the backend can show.
    Maximum,
    /// By name: `Skylake-Server`, `EPYC`, `qemu64`.
    Named(String),
}

words! {
    /// The instruction set of a machine.
    #[derive(Default)]
    Architecture, "architecture" {
        /// 64-bit x86.
        #[default]
        X86_64 = "x86_64",
        /// 32-bit x86.
        I686 = "i686",
        /// 64-bit Arm.
        Aarch64 = "aarch64",
        /// 64-bit RISC-V.
        Riscv64 = "riscv64",
    }
}

words! {
    /// The main board that the guest sees.
    Board, "main board" {
        /// Intel Q35 of 2007, with PCI Express.
        Q35 = "q35",
        /// Intel 440FX of 1996, for systems that know no PCI Express.
        Pc = "pc",
        /// The one that exists only for virtual machines: Arm and RISC-V.
        Virt = "virt",
        /// The least that boots Linux.
        Microvm = "microvm",
    }
}

/// What runs before the guest's own boot loader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Firmware {
    /// A PC's of old, or what the architecture has in its place.
    #[default]
    Bios,
    /// UEFI.
    Uefi {
        /// Only signed systems boot.
        #[serde(default)]
        secure_boot: bool,
        /// A certain file of firmware; none: the host's.
        #[serde(default)]
        loader: Option<PathBuf>,
        /// Where its variables lie; none: with the machine.
        #[serde(default)]
        variables: Option<PathBuf>,
    },
}

/// What is booted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Devices in the order in which they are tried; empty: the disks as they stand.
    #[serde(default)]
    pub order: Vec<BootDevice>,
    /// A kernel from the host in place of the guest's boot loader.
    #[serde(default)]
    pub kernel: Option<DirectKernel>,
}

/// Something to boot from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootDevice {
    /// The disk or drive with this target name.
    Disk(String),
    /// The network card at this place of the list, from 0.
    Interface(u32),
}

/// A kernel from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectKernel {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// Its initial file system.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// Its command line.
    #[serde(default)]
    pub cmdline: Option<String>,
}

/// What a Windows guest is told about the machine that it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HyperV {
    /// The enlightenments that are switched on.
    #[serde(default)]
    pub features: BTreeSet<Enlightenment>,
    /// After how many tries a waiting processor gives way; 4095 at least.
    #[serde(default)]
    pub spinlock_retries: Option<u32>,
    /// Who made the hypervisor: at most twelve characters.
    #[serde(default)]
    pub vendor: Option<String>,
}

words! {
    /// One of Hyper-V's enlightenments.
    Enlightenment, "Hyper-V enlightenment" {
        /// No watchdogs that trip over a busy host.
        Relaxed = "relaxed",
        /// A cheap interrupt controller.
        Vapic = "vapic",
        /// Numbers of virtual processors.
        Vpindex = "vpindex",
        /// Time that the guest ran.
        Runtime = "runtime",
        /// A synthetic interrupt controller.
        Synic = "synic",
        /// Synthetic timers.
        Stimer = "stimer",
        /// Reset by the hypervisor.
        Reset = "reset",
        /// Frequencies without measuring.
        Frequencies = "frequencies",
        /// Notice of a move to another host.
        Reenlightenment = "reenlightenment",
        /// Cheap flushes of the TLB.
        Tlbflush = "tlbflush",
        /// Cheap interrupts between processors.
        Ipi = "ipi",
        /// Cheap virtual machines within.
        Evmcs = "evmcs",
        /// A clock that is read without leaving the guest.
        Clock = "clock",
    }
}

/// What the guest sets up when it first boots, by cloud-init.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The guest's name for itself; none: the machine's.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Users to make.
    #[serde(default)]
    pub users: Vec<SeedUser>,
    /// A user's own `user-data`; where it speaks of the same, it goes before the above.
    #[serde(default)]
    pub user_data: Option<String>,
}

/// A user whom the guest makes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedUser {
    /// The login name.
    pub name: String,
    /// Public keys for SSH, one line each.
    #[serde(default)]
    pub keys: Vec<String>,
    /// May become root without a password.
    #[serde(default)]
    pub admin: bool,
}

impl MachineSpec {
    /// Makes the least machine: memory and processors, and nothing else.
    pub fn new(name: Name, memory: Bytes, vcpus: u32) -> Self {
        Self {
            name,
            uuid: None,
            title: None,
            description: None,
            os_variant: None,
            memory: Memory {
                size: memory,
                max: None,
                hugepages: None,
                from: None,
            },
            vcpus: Vcpus {
                count: vcpus,
                ..Vcpus::default()
            },
            cpu: Cpu::default(),
            architecture: Architecture::default(),
            board: None,
            emulated: false,
            firmware: Firmware::default(),
            boot: Boot::default(),
            clock: Clock::default(),
            hyperv: HyperV::default(),
            disks: Vec::new(),
            interfaces: Vec::new(),
            shares: Vec::new(),
            console: Console::default(),
            graphics: Graphics::default(),
            video: None,
            rng: false,
            agent: false,
            watchdog: None,
            seed: None,
            image: None,
            on_crash: OnCrash::default(),
            autostart: false,
        }
    }

    /// Finds a disk or drive by its target name.
    pub fn disk(&self, target: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.target == target)
    }

    /// Gives the address of the network card at `index`: its own, or one that
    /// follows from the machine's name.
    pub fn mac(&self, index: usize) -> Option<Mac> {
        let number = u32::try_from(index).ok()?;
        let derived = || Mac::derive(&self.name, number, &[]);
        let interface = self.interfaces.get(index)?;
        Some(interface.mac.unwrap_or_else(derived))
    }

    /// Gives a target name of this bus that no disk has yet: `vda`, `sdb`, `hdc`.
    pub fn free_target(&self, bus: Bus) -> String {
        bus.free_target(|name| self.disk(name).is_some())
    }
}
