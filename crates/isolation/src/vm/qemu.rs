//! The command line of QEMU for a job's machine: pure.

use std::path::PathBuf;
use std::time::Duration;

use hyperion_image::layer::erofs::Form;
use hyperion_model::Bytes;
use hyperion_model::nodes::hardware_address;

use hyperion_sys::tsc::Reading;

use super::seats::{Cell, HostNode, Seats};

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU, by translating them: correct, and many times slower.
    Tcg,
}

/// What a machine's devices hang on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// A PC with PCI Express.
    Q35,
    /// Nothing but what virtio needs, each device at an address of its own: there is
    /// less to look for, and a kernel comes up sooner.
    Microvm,
}

impl Board {
    /// Names the module of the kernel that finds virtio's devices.
    #[must_use]
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Q35 => "virtio_pci",
            Self::Microvm => "virtio_mmio",
        }
    }

    /// Gives QEMU's word, without what neither has a use for.
    const fn word(self) -> &'static str {
        match self {
            Self::Q35 => "q35,usb=off,vmport=off,smbus=off,sata=off,hpet=off",
            // Without a clock of its own the kernel looks a second for one. ACPI names
            // the devices, and switches the machine off.
            Self::Microvm => "microvm,acpi=on,pit=off,pic=off,rtc=on,usb=off",
        }
    }

    /// Names a device as it hangs here.
    fn device(self, kind: &str) -> String {
        match self {
            Self::Q35 => format!("{kind}-pci"),
            Self::Microvm => format!("{kind}-device"),
        }
    }
}

/// What a job's machine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The program.
    pub qemu: PathBuf,
    /// Who executes instructions.
    pub accelerator: Accelerator,
    /// What its devices hang on.
    pub board: Board,
    /// Firmware that does nothing but start the kernel; QEMU's usual one, which looks
    /// for disks and screens first, where there is none.
    pub firmware: Option<PathBuf>,
    /// The kernel: a bzImage, or an ELF file with a PVH entry.
    pub kernel: PathBuf,
    /// The image as one file, where it is a folder of the host, or containers beside it
    /// have it as another.
    pub image: Option<PathBuf>,
    /// The file system of the image: EROFS, or one that the kernel has instead.
    pub form: Form,
    /// How folders of the host come in.
    pub folders: Folders,
    /// Its first root, with this program as `/init`.
    pub initramfs: PathBuf,
    /// Room on the host's disk for what the job writes; the guest's memory holds it
    /// where there is none.
    pub disk: Option<Disk>,
    /// All memory of the guest.
    pub memory: Bytes,
    /// How many processors it has.
    pub processors: u32,
    /// The host's processors to which these are tied, one by one; none leaves them
    /// to the host.
    pub bound: Vec<HostNode>,
    /// The size of the pages that its memory is made of, where not of usual ones.
    pub huge_pages: Option<Bytes>,
    /// A reading of the host's own clock, where that runs evenly.
    pub counter: Option<Reading>,
    /// A folder for what machines are once they are up, to begin from: none lets each
    /// begin with its kernel.
    pub warm: Option<PathBuf>,
    /// How long it may give no sign of life on its way up: neither a message of
    /// its init nor anything on its console; and how long it may take to answer.
    pub patience: Duration,
}

impl Machine {
    /// Tells whether what it is on its way up can be written down and be begun from: it has
    /// nothing that is only its own.
    pub(super) fn is_plain(&self, seats: &Seats, beside: &Beside<'_>) -> bool {
        self.board == Board::Q35
            && self.disk.is_none()
            && self.huge_pages.is_none()
            && seats.cells.is_empty()
            && *beside == Beside::default()
    }

    /// Gives where on the host it is put, as one of several of its kind.
    #[must_use]
    pub fn seats(&self, number: u32) -> Seats {
        let page = self.huge_pages.unwrap_or(MIB);
        Seats::new(&self.bound, number, self.processors, self.memory, page)
    }
}

/// How folders of the host come into a machine, and what changes back out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folders {
    /// This program, virtiofsd, shares them.
    Virtiofs(PathBuf),
    /// QEMU shares them itself, by 9p, with the rights of the user whose it is. Not
    /// for root: its QEMU is nobody, and reaches no folder.
    Ninep,
    /// They are copied.
    Copied {
        /// Files in all of them together at most.
        files: u64,
    },
}

/// Room on the host's disk for what a job writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// How large it may become.
    pub size: Bytes,
    /// The host's `mkfs.ext4`.
    pub mkfs: PathBuf,
}

impl Accelerator {
    /// How long a machine may give no sign of life, on a host that is busy with
    /// others: about 30 times what it takes on one that is not.
    pub const fn patience(self) -> Duration {
        match self {
            Self::Kvm => Duration::from_secs(20),
            Self::Tcg => Duration::from_secs(90),
        }
    }
}

/// The descriptors that QEMU inherits.
pub(super) const PORT_FD: i32 = 3;
pub(super) const CONSOLE_FD: i32 = 4;
pub(super) const ROOT_FD: i32 = 5;
pub(super) const KERNEL_FD: i32 = 6;
pub(super) const INITRAMFS_FD: i32 = 7;
pub(super) const MONITOR_FD: i32 = 8;
/// The first of those that only some machines have: the network, then the shares.
const MORE_FD: i32 = 9;

/// Sizes are told in these.
const MIB: Bytes = Bytes(1 << 20);

/// What the kernel is told.
const KERNEL_WORDS: [&str; 5] = [
    "console=ttyS0",
    "quiet",
    // A guest that panics is to end, not to start anew.
    "panic=-1",
    // On a busy host the measuring of clocks hangs, or finds that they are broken.
    "no_timer_check",
    // To prove each cipher at each start takes a fifth of the time, emulated.
    "cryptomgr.notests",
];

/// What it is told where it is emulated: there is no processor that guesses ahead,
/// and what is made safe against that is many instructions more; and to clear what
/// is filled right after is as slow as to fill it.
const EMULATED_WORDS: &str = "mitigations=off init_on_alloc=0";

/// What the kernel says where it has found no timer: its machine was kept waiting for a
/// tenth of a second just as it measured that of its processor, and a `microvm` has no
/// second clock by which that is seen. It then waits for a tick for ever.
pub(super) const NO_TIMER: &str = "disabling apic timer";

/// Lets the kernel say so: it is a warning.
const WARNS: &str = " loglevel=5";

/// The processor of an emulated machine: all that QEMU knows, but for the word that
/// copying byte by byte is fast. It is the slowest way there.
pub(super) const EMULATED: &str = "max,erms=off,fsrm=off";

/// Tells the kernel how fast the processor's counter runs, which it would measure
/// in vain while the host is busy. An emulated one is the host's, and QEMU sees to
/// it that it never goes back: then it is the clock, and no other is as cheap.
fn clock(counter: Option<&Reading>, accelerator: Accelerator) -> String {
    match (counter, accelerator) {
        (Some(counter), Accelerator::Tcg) => {
            format!("tsc_early_khz={} tsc=reliable", counter.khz())
        }
        (Some(counter), Accelerator::Kvm) => format!("tsc_early_khz={}", counter.khz()),
        // The kernel finds its clock by itself.
        (None, _) => "tsc_early_khz=1000000".to_owned(),
    }
}

/// Gives what a kernel is told of the host that it starts on.
#[must_use]
pub fn kernel_words(counter: Option<&Reading>, accelerator: Accelerator) -> String {
    let clock = clock(counter, accelerator);
    match accelerator {
        Accelerator::Kvm => clock,
        Accelerator::Tcg => format!("{clock} {EMULATED_WORDS}"),
    }
}

/// The name of the port on which the two relays talk.
pub(super) const PORT: &str = "hyperion";

/// What QEMU calls it.
pub(super) const PORT_ID: &str = "way";

/// The names of disks, by which the guest tells them apart: the image, room for what
/// the job writes, and copies of folders.
pub(super) const ROOT: &str = "root";
pub(super) const DISK: &str = "disk";
pub(super) const COPIES: &str = "copies";

/// The port on which a guest sends what it has changed in copies of folders.
pub(super) const CHANGES: &str = "hyperion-changes";

/// What a machine has beside what all have, of what comes open, in the order of the
/// descriptors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Beside<'a> {
    /// It is this one of several nodes.
    pub(super) node: Option<u32>,
    /// How many folders programs beside it share with it.
    pub(super) shares: usize,
    /// The folders that QEMU shares itself: where each lies, and whether it is only
    /// to be read.
    pub(super) ninep: &'a [(PathBuf, bool)],
    /// Copies of folders, and a way out for what is changed in them.
    pub(super) copies: bool,
    pub(super) changes: bool,
}

/// Gives the name under which the guest finds a share.
pub(super) fn share_tag(number: usize) -> String {
    format!("share{number}")
}

/// Gives the words, the program first. The root is the image's file, which comes
/// open: all machines of the image share it and none writes to it. Folders of
/// the host come from a program beside, which has its hands in the guest's memory.
/// A machine that is one of several nodes has a network card.
pub(super) fn words(machine: &Machine, cells: &[Cell], beside: Beside<'_>) -> Vec<String> {
    let Beside { node, shares, .. } = beside;
    let accelerator = match machine.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg,thread=multi",
    };
    let processor = match machine.accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => EMULATED,
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
        machine.board.word(),
        "-accel",
        accelerator,
        "-cpu",
        processor,
    ]
    .map(str::to_owned)
    .into();
    words.insert(0, machine.qemu.display().to_string());
    if let (Board::Q35, Some(firmware)) = (machine.board, &machine.firmware) {
        words.extend(["-bios".to_owned(), firmware.display().to_string()]);
    }
    if machine.board == Board::Microvm {
        // What came before virtio 1.0 cannot share folders.
        let modern = "virtio-mmio.force-legacy=off".to_owned();
        words.extend(["-global".to_owned(), modern]);
    }
    let device = |kind: &str| machine.board.device(kind);
    let mut say = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    say("-smp", processors(machine.processors, cells));
    say("-m", mib(machine.memory));
    memory(&mut say, machine, cells, shares > 0);
    if let Some(number) = node {
        let address = hardware_address(number).map(|byte| format!("{byte:02x}"));
        say("-netdev", format!("socket,id=net,fd={MORE_FD}"));
        let mac = address.join(":");
        // With a word about its link the kernel looks for that in its own time, for
        // up to a second, and MPI finds no interface until then.
        let card = device("virtio-net");
        let rom = match machine.board {
            Board::Q35 => ",romfile=",
            Board::Microvm => "",
        };
        say(
            "-device",
            format!("{card},netdev=net,mac={mac},status=off{rom}"),
        );
    }
    let share_fd = MORE_FD + i32::from(node.is_some());
    for i in 0..shares {
        let (fd, tag) = (share_fd + i as i32, share_tag(i));
        say("-chardev", format!("socket,id={tag},fd={fd}"));
        say(
            "-device",
            format!("{},chardev={tag},tag={tag}", device("vhost-user-fs")),
        );
    }
    for (i, (folder, read_only)) in beside.ninep.iter().enumerate() {
        let tag = share_tag(i);
        let path = folder.display().to_string().replace(',', ",,");
        let only = if *read_only { ",readonly=on" } else { "" };
        // Links are the guest's to follow, and owners the namespace's to map. Below
        // one folder may lie several file systems, with numbers of their own.
        let local = "security_model=none,multidevs=remap";
        say(
            "-fsdev",
            format!("local,id={tag},path={path},{local}{only}"),
        );
        let server = device("virtio-9p");
        say("-device", format!("{server},fsdev={tag},mount_tag={tag}"));
    }
    // Open already: whom QEMU becomes may not be able to walk the way to them.
    say("-kernel", format!("/proc/self/fd/{KERNEL_FD}"));
    say("-initrd", format!("/proc/self/fd/{INITRAMFS_FD}"));
    let more = kernel_words(machine.counter.as_ref(), machine.accelerator);
    let warns = match (machine.board, machine.accelerator) {
        (Board::Microvm, Accelerator::Tcg) => WARNS,
        _ => "",
    };
    say(
        "-append",
        format!("{} {more}{warns}", KERNEL_WORDS.join(" ")),
    );
    say("-chardev", format!("socket,id=console,fd={CONSOLE_FD}"));
    say("-serial", "chardev:console".into());
    say("-chardev", format!("socket,id=monitor,fd={MONITOR_FD}"));
    say("-mon", "chardev=monitor,mode=control".into());
    say("-chardev", format!("socket,id=port,fd={PORT_FD}"));
    say("-device", device("virtio-serial"));
    say(
        "-device",
        format!("virtserialport,id={PORT_ID},chardev=port,name={PORT}"),
    );
    say("-device", device("virtio-rng"));
    say("-add-fd", format!("fd={ROOT_FD},set=1"));
    say(
        "-blockdev",
        "driver=file,node-name=root,filename=/dev/fdset/1,read-only=on,locking=off".into(),
    );
    let drive = device("virtio-blk");
    say("-device", format!("{drive},drive={ROOT},serial={ROOT}"));
    let mut fd = share_fd + shares as i32;
    if machine.disk.is_some() {
        say("-add-fd", format!("fd={fd},set=2"));
        // It is nobody's after the job, so nothing has to reach the disk; and what the
        // host cannot write is an error of the guest's, not a machine that stands still.
        let disk = "driver=file,node-name=disk,filename=/dev/fdset/2,\
                    cache.no-flush=on,locking=off";
        say("-blockdev", disk.into());
        let fails = "werror=report,rerror=report";
        say(
            "-device",
            format!("{drive},drive={DISK},serial={DISK},{fails}"),
        );
        fd += 1;
    }
    if beside.copies {
        say("-add-fd", format!("fd={fd},set=3"));
        let disk = "driver=file,node-name=copies,filename=/dev/fdset/3,read-only=on,locking=off";
        say("-blockdev", disk.into());
        say("-device", format!("{drive},drive={COPIES},serial={COPIES}"));
        fd += 1;
    }
    if beside.changes {
        say("-chardev", format!("socket,id=changes,fd={fd}"));
        let device = format!("virtserialport,chardev=changes,name={CHANGES}");
        say("-device", device);
    }
    // What breaks out of the guest finds itself without new programs and rights.
    say(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
    );
    words
}

fn mib(size: Bytes) -> String {
    format!("{}M", size.0.div_ceil(MIB.0))
}

/// Says how the processors lie: no kernel takes one socket for two NUMA nodes.
fn processors(count: u32, cells: &[Cell]) -> String {
    let sockets = cells.len().max(1);
    let alike = cells
        .iter()
        .all(|c| c.cpus.len() * sockets == count as usize);
    match (sockets, alike) {
        (1, _) => count.to_string(),
        (_, true) => format!(
            "{count},sockets={sockets},cores={}",
            count as usize / sockets
        ),
        (_, false) => format!("{count},sockets={count},cores=1"),
    }
}

/// Says what the memory is made of and where it comes from, where that matters. A
/// program that shares folders has its hands in it (`shared`).
fn memory(say: &mut impl FnMut(&str, String), machine: &Machine, cells: &[Cell], shared: bool) {
    let kind = match machine.huge_pages {
        // All of it at once: later there may be none left, and QEMU would be killed.
        Some(page) => format!(
            "memory-backend-memfd,hugetlb=on,hugetlbsize={},prealloc=on",
            mib(page)
        ),
        None if shared => "memory-backend-memfd".to_owned(),
        None if cells.is_empty() => return,
        None => "memory-backend-ram".to_owned(),
    };
    let share = if shared { ",share=on" } else { "" };
    if cells.is_empty() {
        let size = mib(machine.memory);
        say("-object", format!("{kind},id=ram,size={size}{share}"));
        say("-machine", "memory-backend=ram".into());
    }
    for (i, cell) in cells.iter().enumerate() {
        let from = cell.from.map_or_else(String::new, |node| {
            format!(",host-nodes={node},policy=bind")
        });
        let size = mib(cell.memory);
        say(
            "-object",
            format!("{kind},id=ram{i},size={size}{share}{from}"),
        );
        let (first, last) = (cell.cpus.0.first(), cell.cpus.0.last());
        if let (Some(first), Some(last)) = (first, last) {
            let cpus = format!("node,nodeid={i},cpus={first}-{last},memdev=ram{i}");
            say("-numa", cpus);
        }
    }
}

/// The oldest QEMU that understands all of this: major, minor.
const OLDEST: (u32, u32) = (6, 0);

/// Finds the version in what QEMU says of it: `QEMU emulator version 7.2.19 (…)`.
pub(super) fn version(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("version ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    Some(&rest[..end.unwrap_or(rest.len())]).filter(|version| !version.is_empty())
}

/// Tells whether a version is too old.
pub(super) fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next()) < OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(bound: Vec<HostNode>) -> Machine {
        Machine {
            qemu: "/usr/bin/qemu".into(),
            accelerator: Accelerator::Tcg,
            board: Board::Q35,
            firmware: Some("/qboot".into()),
            kernel: "/kernel".into(),
            image: None,
            form: Form::Erofs,
            folders: Folders::Copied { files: 1 },
            initramfs: "/root".into(),
            disk: None,
            memory: Bytes(600 << 20),
            processors: 4,
            bound,
            huge_pages: None,
            counter: None,
            warm: None,
            patience: Duration::from_secs(1),
        }
    }

    /// Gives the values of some flags, one to a line.
    fn said(machine: &Machine, shares: usize, flags: &[&str]) -> String {
        let beside = Beside {
            shares,
            ..Beside::default()
        };
        let words = words(machine, &machine.seats(0).cells, beside);
        let pairs = words.windows(2).filter(|pair| flags.contains(&&*pair[0]));
        pairs.map(|pair| pair[1].clone() + "\n").collect()
    }

    const MEMORY: [&str; 3] = ["-smp", "-object", "-numa"];

    #[test]
    fn a_guest_gets_the_nodes_of_its_processors() {
        let node = |id, cpus: &str| HostNode {
            id,
            cpus: cpus.parse().expect("a list"),
            has_memory: true,
        };
        let mut tied = machine(vec![node(0, "0-1"), node(3, "8-9")]);
        let two = "4,sockets=2,cores=2\n\
                   memory-backend-ram,id=ram0,size=300M,host-nodes=0,policy=bind\n\
                   node,nodeid=0,cpus=0-1,memdev=ram0\n\
                   memory-backend-ram,id=ram1,size=300M,host-nodes=3,policy=bind\n\
                   node,nodeid=1,cpus=2-3,memdev=ram1\n";
        assert_eq!(said(&tied, 0, &MEMORY), two);
        // Who shares folders has his hands in all of it.
        let shared = said(&tied, 1, &MEMORY);
        assert!(shared.contains("memory-backend-memfd,id=ram1,size=300M,share=on,host-nodes=3"));
        tied.huge_pages = Some(Bytes(2 << 20));
        let huge = said(&tied, 0, &["-object"]);
        let kind = "memory-backend-memfd,hugetlb=on,hugetlbsize=2M,prealloc=on";
        assert!(huge.starts_with(&format!(
            "{kind},id=ram0,size=300M,host-nodes=0,policy=bind\n"
        )));
        // Three and one: no socket is in two nodes.
        let uneven = machine(vec![node(0, "0-2"), node(1, "3")]);
        assert!(said(&uneven, 0, &MEMORY).starts_with("4,sockets=4,cores=1\n"));
        // One node of the host, or none that it is tied to.
        assert_eq!(said(&machine(Vec::new()), 0, &MEMORY), "4\n");
        assert_eq!(said(&machine(vec![node(0, "0-3")]), 0, &MEMORY), "4\n");
    }

    #[test]
    fn an_old_qemu_is_told_by_its_own_words() {
        let said = "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)\nCopyright (c)";
        assert_eq!(version(said), Some("5.2.0"));
        assert_eq!(version("version "), None);
        for (version, old) in [
            ("5.2.0", true),
            ("6.0", false),
            ("6", false),
            ("10.0.2", false),
        ] {
            assert_eq!(is_too_old(version), old, "{version}");
        }
    }

    #[test]
    fn firmware_that_only_starts_the_kernel_is_taken_where_it_is() {
        let mut its = machine(Vec::new());
        assert_eq!(said(&its, 0, &["-bios"]), "/qboot\n");
        its.firmware = None;
        assert_eq!(said(&its, 0, &["-bios"]), "");
        // It has it anyway.
        (its.firmware, its.board) = (Some("/qboot".into()), Board::Microvm);
        assert_eq!(said(&its, 0, &["-bios"]), "");
    }
}
