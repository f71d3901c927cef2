//! The command line of QEMU for a machine that stays: pure.

mod disks;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hyperion_model::machine::{
    Board, BootDevice, Clock, Console, CpuModel, Firmware, Graphics, HugePages, HyperV,
    InterfaceKind, MachineSpec, NicModel, OnCrash, Protocol, Share, ShareKind, Video, VncListen,
};
use hyperion_model::{Bytes, Cores, Resources};
use serde_json::json;
use thiserror::Error;

pub use disks::{layer, node, target_of};

use super::Accelerator;
use super::qemu::EMULATED;

/// What of a definition QEMU cannot be told here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a machine of QEMU has no {what} here")]
pub struct Unsupported {
    /// What was asked for.
    pub what: String,
}

/// Gives what QEMU may take at most for a machine: its memory and what QEMU needs
/// beside it, its processors and one more for disks, network and screen. It holds
/// back a QEMU that its guest has taken over, and no other.
pub fn limits(spec: &MachineSpec, accelerator: Accelerator) -> Resources {
    const MIB: u64 = 1 << 20;
    let size = spec.memory.most().0;
    // Emulation keeps up to 1 GiB of what it has translated.
    let own = match accelerator {
        Accelerator::Kvm => 256 * MIB,
        Accelerator::Tcg => 1408 * MIB,
    };
    let vcpus = u64::from(spec.vcpus.most());
    Resources {
        cpus: Some(Cores(1000 * (vcpus + 1))),
        cpuset: None,
        memory: Some(Bytes(size.saturating_add(size / 16).saturating_add(own))),
        // One for each processor, and those that wait for disks.
        pids: Some(vcpus + 256),
    }
}

/// Where the files of one machine lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder of its sockets, which QEMU makes.
    pub folder: PathBuf,
    /// UEFI: the code, and this machine's variables.
    pub firmware: Option<(PathBuf, PathBuf)>,
    /// The disk that cloud-init reads at the first boot.
    pub seed: Option<PathBuf>,
    /// The disk that the init of an image's machine reads at each boot.
    pub orders: Option<PathBuf>,
    /// The disk with the modules of its kernel.
    pub modules: Option<PathBuf>,
    /// What the kernel is told beside what the definition says.
    pub kernel_words: String,
    /// The network cards, from 0, whose way out is a program beside QEMU.
    pub beside: BTreeSet<usize>,
}

impl Places {
    /// The socket on which QEMU takes orders.
    pub fn monitor(&self) -> PathBuf {
        self.folder.join("monitor")
    }

    /// The socket of the screen.
    pub fn screen(&self) -> PathBuf {
        self.folder.join("vnc")
    }

    /// The socket of the console.
    pub fn console(&self) -> PathBuf {
        self.folder.join("console")
    }

    /// What the console has said.
    pub fn console_log(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// The socket of the agent in the guest.
    pub fn agent(&self) -> PathBuf {
        self.folder.join("agent")
    }
}

/// The descriptor on which QEMU finds its supervisor.
pub const SUPERVISOR_FD: i32 = 3;
/// The first descriptor of its files.
pub const FIRST_FILE_FD: i32 = 4;

/// How QEMU comes to its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// They are open when it is executed: it may be nobody, and walk no path.
    Open,
    /// It opens them by their paths, as by hand.
    ByPath,
}

/// What QEMU has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A file.
    File {
        /// Where it lies.
        path: PathBuf,
        /// The guest may write to it.
        writable: bool,
    },
    /// A socket to the program that is the way out of a network card.
    Network,
    /// A socket to the program that shares a folder.
    Folder {
        /// Which.
        source: PathBuf,
        /// The guest cannot write.
        read_only: bool,
    },
    /// A network interface of its own on a bridge of the host.
    Tap {
        /// The bridge.
        bridge: String,
    },
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The words, the program first.
    pub words: Vec<String>,
    /// What is open, from the descriptor after [`SUPERVISOR_FD`] on.
    pub files: Vec<Opened>,
}

/// Gives the command line.
///
/// # Errors
/// [`Unsupported`], for the first thing that QEMU cannot be told.
pub fn command_line(
    spec: &MachineSpec,
    qemu: &Path,
    accelerator: Accelerator,
    places: &Places,
    files: Files,
) -> Result<CommandLine, Unsupported> {
    let mut words = Words {
        words: vec![qemu.display().to_string()],
        files: Vec::new(),
        how: files,
    };
    words.flag("-no-user-config");
    words.flag("-nodefaults");
    words.say("-name", format!("guest={}", escaped(spec.name.as_str())));
    if let Some(uuid) = &spec.uuid {
        words.say("-uuid", uuid.to_string());
    }
    processor(&mut words, spec, accelerator)?;
    firmware(&mut words, spec, places)?;
    monitors(&mut words, places);
    console(&mut words, spec, places);
    disks::all(&mut words, spec, places)?;
    network(&mut words, spec, places);
    screen(&mut words, spec, places);
    extras(&mut words, spec, places)?;
    words.say(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
    );
    Ok(CommandLine {
        words: words.words,
        files: words.files,
    })
}

struct Words {
    words: Vec<String>,
    files: Vec<Opened>,
    how: Files,
}

impl Words {
    fn flag(&mut self, flag: &str) {
        self.words.push(flag.to_owned());
    }

    fn say(&mut self, flag: &str, value: String) {
        self.words.extend([flag.to_owned(), value]);
    }

    /// Gives the name by which QEMU's own code opens a file.
    fn file(&mut self, path: &Path, writable: bool) -> String {
        if self.how == Files::ByPath {
            return path.display().to_string();
        }
        let fd = self.keep(path, writable);
        self.say("-add-fd", format!("fd={fd},set={fd}"));
        format!("/dev/fdset/{fd}")
    }

    /// Gives the name of a file that is read as any program does.
    fn plain_file(&mut self, path: &Path) -> String {
        match self.how {
            Files::ByPath => path.display().to_string(),
            Files::Open => format!("/proc/self/fd/{}", self.keep(path, false)),
        }
    }

    fn keep(&mut self, path: &Path, writable: bool) -> i32 {
        let path = path.to_owned();
        self.open(Opened::File { path, writable })
    }

    /// Connects a network card to a bridge of the host.
    fn bridged(&mut self, bridge: &str, id: &str) -> String {
        match self.how {
            // A program of QEMU's with rights of its own does it for whoever is allowed.
            Files::ByPath => format!("bridge,id={id},br={}", escaped(bridge)),
            Files::Open => {
                let bridge = bridge.to_owned();
                format!("tap,id={id},fd={}", self.open(Opened::Tap { bridge }))
            }
        }
    }

    /// Shows a folder of the host's.
    fn share(&mut self, number: usize, share: &Share, places: &Places) {
        let id = format!("share{number}");
        let tag = escaped(&share.tag);
        if share.kind == ShareKind::Ninep {
            let source = path(&share.source);
            let only = if share.read_only { ",readonly=on" } else { "" };
            let own = format!("local,id={id},path={source},security_model=none{only}");
            self.say("-fsdev", own);
            self.say(
                "-device",
                format!("virtio-9p-pci,fsdev={id},mount_tag={tag}"),
            );
            return;
        }
        let way = match self.how {
            Files::ByPath => format!("path={}", path(&places.folder.join(&id))),
            Files::Open => {
                let (source, read_only) = (share.source.clone(), share.read_only);
                format!("fd={}", self.open(Opened::Folder { source, read_only }))
            }
        };
        self.say("-chardev", format!("socket,id={id},{way}"));
        self.say(
            "-device",
            format!("vhost-user-fs-pci,chardev={id},tag={tag}"),
        );
    }

    fn open(&mut self, what: Opened) -> i32 {
        self.files.push(what);
        FIRST_FILE_FD + self.files.len() as i32 - 1
    }
}

/// Writes a value of a list of QEMU's options, where a comma is written twice.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

fn path(path: &Path) -> String {
    escaped(&path.display().to_string())
}

fn unsupported<T>(what: impl Into<String>) -> Result<T, Unsupported> {
    Err(Unsupported { what: what.into() })
}

fn mib(bytes: Bytes) -> String {
    format!("{}M", bytes.0.div_ceil(1 << 20))
}

fn processor(
    words: &mut Words,
    spec: &MachineSpec,
    accelerator: Accelerator,
) -> Result<(), Unsupported> {
    if spec.architecture.to_string() != "x86_64" && spec.architecture.to_string() != "i686" {
        return unsupported(format!("architecture {}", spec.architecture));
    }
    let board = match spec.board {
        None | Some(Board::Q35) => "q35,vmport=off",
        Some(Board::Pc) => "pc,vmport=off",
        Some(Board::Microvm) => "microvm,acpi=on,pcie=on,rtc=on,pic=on,pit=on",
        Some(Board::Virt) => return unsupported("board `virt` for this architecture"),
    };
    words.say("-machine", board.to_owned());
    let (accel, default) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg,thread=multi", EMULATED),
    };
    words.say("-accel", accel.to_owned());
    let mut cpu = match (&spec.cpu.model, accelerator) {
        (CpuModel::Named(name), _) => escaped(name),
        // By emulation there is no processor of the host's to show.
        (CpuModel::Default | CpuModel::Host | CpuModel::HostModel, _) => default.to_owned(),
        (CpuModel::Maximum, Accelerator::Tcg) => EMULATED.to_owned(),
        (CpuModel::Maximum, Accelerator::Kvm) => "max".to_owned(),
    };
    for (feature, on) in &spec.cpu.features {
        cpu += &format!(",{}={}", escaped(feature), if *on { "on" } else { "off" });
    }
    // They are KVM's: an emulated processor has none of them, and none is needed to run.
    if accelerator == Accelerator::Kvm {
        cpu += &enlightenments(&spec.hyperv);
    }
    words.say("-cpu", cpu);
    let mut smp = spec.vcpus.count.to_string();
    if let Some(max) = spec.vcpus.max {
        smp += &format!(",maxcpus={max}");
    }
    // No kernel takes one socket for two NUMA nodes.
    let apart = || (spec.vcpus.numa.len() > 1).then(|| spec.vcpus.each_a_socket());
    if let Some(topology) = spec.vcpus.topology.or_else(apart) {
        smp += &format!(
            ",sockets={},cores={},threads={}",
            topology.sockets, topology.cores, topology.threads
        );
    }
    words.say("-smp", smp);
    words.say("-m", mib(spec.memory.most()));
    memory(words, spec);
    let base = match spec.clock {
        Clock::Utc => "utc",
        Clock::Localtime => "localtime",
    };
    words.say("-rtc", format!("base={base}"));
    Ok(())
}

/// Says what of Hyper-V the processor shows to Windows.
fn enlightenments(hyperv: &HyperV) -> String {
    let mut words = String::new();
    for feature in &hyperv.features {
        let name = match feature.to_string().as_str() {
            "clock" => "time".to_owned(),
            other => other.to_owned(),
        };
        words += &format!(",hv-{name}=on");
    }
    if let Some(tries) = hyperv.spinlock_retries {
        words += &format!(",hv-spinlocks={tries:#x}");
    }
    if let Some(vendor) = &hyperv.vendor {
        words += &format!(",hv-vendor-id={}", escaped(vendor));
    }
    words
}

/// Huge pages, and the guest's NUMA nodes.
fn memory(words: &mut Words, spec: &MachineSpec) {
    // All of it at once: later there may be none left, and QEMU would be killed.
    const HUGE: &str = "memory-backend-memfd,hugetlb=on,prealloc=on";
    let kind = match spec.memory.hugepages {
        Some(HugePages::Of(size)) => format!("{HUGE},hugetlbsize={}", mib(size)),
        Some(HugePages::Default) => HUGE.to_owned(),
        None => "memory-backend-memfd".to_owned(),
    };
    // What a program beside QEMU reads and writes.
    let shared = spec
        .shares
        .iter()
        .any(|share| share.kind == ShareKind::Virtiofs);
    let kind = if shared { kind + ",share=on" } else { kind };
    let from = |node: Option<u32>| {
        let from = node.or(spec.memory.from);
        from.map_or_else(String::new, |node| {
            format!(",host-nodes={node},policy=bind")
        })
    };
    if spec.vcpus.numa.is_empty() {
        if spec.memory.hugepages.is_some() || spec.memory.from.is_some() || shared {
            let size = mib(spec.memory.most());
            let from = from(None);
            words.say("-object", format!("{kind},id=ram,size={size}{from}"));
            words.say("-machine", "memory-backend=ram".into());
        }
        return;
    }
    for (i, cell) in spec.vcpus.numa.iter().enumerate() {
        let size = mib(cell.memory);
        let from = from(cell.from);
        words.say("-object", format!("{kind},id=ram{i},size={size}{from}"));
        // By their numbers: in which socket they are is said elsewhere.
        let cpus = cell.cpus.0.iter().map(|cpu| format!(",cpus={cpu}"));
        let cpus: String = cpus.collect();
        words.say("-numa", format!("node,nodeid={i},memdev=ram{i}{cpus}"));
    }
}

fn firmware(words: &mut Words, spec: &MachineSpec, places: &Places) -> Result<(), Unsupported> {
    if let Firmware::Uefi { secure_boot, .. } = spec.firmware {
        let Some((code, variables)) = &places.firmware else {
            return unsupported("UEFI: its firmware was not found");
        };
        for (node, file, writable) in [("pflash0", code, false), ("pflash1", variables, true)] {
            let file = words.file(file, writable);
            let chip = json!({
                "driver": "raw", "node-name": node, "read-only": !writable,
                "file": {"driver": "file", "filename": file, "read-only": !writable},
            });
            words.say("-blockdev", chip.to_string());
            words.say("-machine", format!("{node}={node}"));
        }
        if secure_boot {
            // Only the firmware's own code may write its variables.
            words.say("-machine", "smm=on".into());
            let own = "driver=cfi.pflash01,property=secure,value=on";
            words.say("-global", own.into());
        }
    }
    if let Some(kernel) = &spec.boot.kernel {
        let file = words.plain_file(&kernel.kernel);
        words.say("-kernel", file);
        if let Some(initrd) = &kernel.initrd {
            let file = words.plain_file(initrd);
            words.say("-initrd", file);
        }
        if let Some(line) = &kernel.cmdline {
            let line = format!("{line} {}", places.kernel_words);
            words.say("-append", line.trim_end().to_owned());
        }
    }
    words.say("-boot", "strict=on".into());
    Ok(())
}

fn listening(id: &str, socket: &Path) -> String {
    format!("socket,id={id},path={},server=on,wait=off", path(socket))
}

fn monitors(words: &mut Words, places: &Places) {
    if words.how == Files::Open {
        let its = format!("socket,id=supervisor,fd={SUPERVISOR_FD}");
        words.say("-chardev", its);
        words.say("-mon", "chardev=supervisor,mode=control".into());
    }
    words.say("-chardev", listening("monitor", &places.monitor()));
    words.say("-mon", "chardev=monitor,mode=control".into());
}

fn console(words: &mut Words, spec: &MachineSpec, places: &Places) {
    if spec.console == Console::None {
        return;
    }
    let log = path(&places.console_log());
    let socket = listening("console", &places.console());
    words.say("-chardev", format!("{socket},logfile={log},logappend=on"));
    if spec.console == Console::Virtio {
        words.say("-device", "virtio-serial-pci".into());
        words.say("-device", "virtconsole,chardev=console".into());
    } else {
        words.say("-device", "isa-serial,chardev=console".into());
    }
}

/// Gives the place of a device in the order of boot, from 1.
fn boot_index(spec: &MachineSpec, device: &BootDevice, number: usize) -> Option<usize> {
    let order = &spec.boot.order;
    match order.is_empty() {
        // The disks as they stand.
        true => matches!(device, BootDevice::Disk(_)).then_some(number + 1),
        false => order.iter().position(|d| d == device).map(|at| at + 1),
    }
}

fn network(words: &mut Words, spec: &MachineSpec, places: &Places) {
    for (i, interface) in spec.interfaces.iter().enumerate() {
        let model = match interface.model {
            NicModel::Virtio => "virtio-net-pci",
            NicModel::E1000 => "e1000",
            NicModel::E1000e => "e1000e",
            NicModel::Rtl8139 => "rtl8139",
        };
        let id = format!("net{i}");
        let mut device = model.to_owned();
        match &interface.kind {
            InterfaceKind::User if words.how == Files::Open && places.beside.contains(&i) => {
                let fd = words.open(Opened::Network);
                let netdev = format!("stream,id={id},server=off,addr.type=fd,addr.str={fd}");
                words.say("-netdev", netdev);
                device += &format!(",netdev={id}");
            }
            InterfaceKind::User => {
                let mut netdev = format!("user,id={id}");
                for forward in &interface.forwards {
                    let protocol = match forward.protocol {
                        Protocol::Tcp => "tcp",
                        Protocol::Udp => "udp",
                    };
                    netdev += &format!(
                        ",hostfwd={protocol}:{}:{}-:{}",
                        forward.address, forward.host, forward.guest
                    );
                }
                words.say("-netdev", netdev);
                device += &format!(",netdev={id}");
            }
            InterfaceKind::Tap(name) => {
                let name = escaped(name);
                let netdev = format!("tap,id={id},ifname={name},script=no,downscript=no");
                words.say("-netdev", netdev);
                device += &format!(",netdev={id}");
            }
            InterfaceKind::Bridge(name) => {
                let netdev = words.bridged(name, &id);
                words.say("-netdev", netdev);
                device += &format!(",netdev={id}");
            }
            InterfaceKind::None => {}
        }
        if let Some(mac) = spec.mac(i) {
            device += &format!(",mac={mac}");
        }
        let boot = BootDevice::Interface(i as u32);
        if let Some(index) = boot_index(spec, &boot, spec.disks.len() + i) {
            device += &format!(",bootindex={index}");
        }
        words.say("-device", device);
    }
}

fn screen(words: &mut Words, spec: &MachineSpec, places: &Places) {
    let video = match (spec.video, &spec.graphics) {
        (Some(Video::None), _) | (None, Graphics::None) => None,
        (Some(Video::Virtio), _) => Some("virtio-vga"),
        (Some(Video::Bochs), _) => Some("bochs-display"),
        (Some(Video::Qxl), _) => Some("qxl-vga"),
        (Some(Video::Cirrus), _) => Some("cirrus-vga"),
        (Some(Video::Vga) | None, _) => Some("VGA"),
    };
    words.say("-display", "none".into());
    if let Some(video) = video {
        words.say("-device", video.to_owned());
    }
    let Graphics::Vnc(listen) = &spec.graphics else {
        return;
    };
    let socket = match listen {
        VncListen::Socket(Some(socket)) => socket.clone(),
        VncListen::Socket(None) | VncListen::Loopback(_) => places.screen(),
    };
    words.say("-vnc", format!("unix:{}", path(&socket)));
    words.say("-device", "qemu-xhci,id=usb".into());
    // A pointer that is where the viewer's is.
    words.say("-device", "usb-tablet,bus=usb.0".into());
    words.say("-device", "usb-kbd,bus=usb.0".into());
}

fn extras(words: &mut Words, spec: &MachineSpec, places: &Places) -> Result<(), Unsupported> {
    if spec.rng {
        words.say("-device", "virtio-rng-pci".into());
    }
    if spec.memory.max.is_some() {
        // What the guest has less than the most is held by it.
        words.say("-device", "virtio-balloon-pci,id=balloon".into());
    }
    if spec.agent {
        words.say("-chardev", listening("agent", &places.agent()));
        words.say("-device", "virtio-serial-pci".into());
        words.say(
            "-device",
            "virtserialport,chardev=agent,name=org.qemu.guest_agent.0".into(),
        );
    }
    if spec.board != Some(Board::Microvm) && spec.hyperv == HyperV::default() {
        // By which a kernel says that it panicked. Windows has no driver for it.
        words.say("-device", "pvpanic".into());
    }
    if spec.on_crash == OnCrash::Restart {
        // Whoever keeps it starts it again.
        words.say("-action", "panic=pause".into());
    }
    if let Some(watchdog) = spec.watchdog {
        words.say("-device", watchdog.model.to_string());
        words.say("-action", format!("watchdog={}", watchdog.action));
    }
    for (i, share) in spec.shares.iter().enumerate() {
        words.share(i, share, places);
    }
    Ok(())
}
