//! What is plugged into a machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::address::{Mac, PortForward, WebAddress};
use super::words::words;
use crate::units::Bytes;

/// A disk or an optical drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// What it is called: `vda`, `sdb`, `hdc`. The first letters fit the bus.
    pub target: String,
    /// How it is connected.
    pub bus: Bus,
    /// What it is.
    #[serde(default)]
    pub device: DiskDevice,
    /// Where its content lies; none for an empty drive, and for a disk that is
    /// still to be made.
    #[serde(default)]
    pub source: Option<DiskSource>,
    /// How the content is written.
    #[serde(default)]
    pub format: DiskFormat,
    /// How large a disk to make; none for one that exists.
    #[serde(default)]
    pub size: Option<Bytes>,
    /// What the guest sees where this disk holds nothing, nearest first.
    #[serde(default)]
    pub backing: Vec<Backing>,
    /// The guest cannot write.
    #[serde(default)]
    pub read_only: bool,
    /// What the guest reads as its serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// What the host does with writes; none: the backend's choice.
    #[serde(default)]
    pub cache: Option<Cache>,
    /// What becomes of blocks that the guest gives back; none: the backend's choice.
    #[serde(default)]
    pub discard: Option<Discard>,
    /// What is done when the host cannot write it; none: the machine stops.
    #[serde(default)]
    pub on_write_error: Option<OnError>,
    /// What is done when the host cannot read it; none: the guest is told.
    #[serde(default)]
    pub on_read_error: Option<OnError>,
}

impl Disk {
    /// Makes a writable disk without content.
    pub fn new(target: impl Into<String>, bus: Bus) -> Self {
        Self {
            target: target.into(),
            bus,
            device: DiskDevice::default(),
            source: None,
            format: DiskFormat::default(),
            size: None,
            backing: Vec::new(),
            read_only: false,
            serial: None,
            cache: None,
            discard: None,
            on_write_error: None,
            on_read_error: None,
        }
    }
}

/// What the guest sees below a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backing {
    /// Where its content lies.
    pub source: DiskSource,
    /// How the content is written.
    pub format: DiskFormat,
}

/// Where the content of a disk lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DiskSource {
    /// A file of the host.
    File(PathBuf),
    /// A block device of the host.
    Block(PathBuf),
    /// A volume of a storage pool.
    Volume {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// A file behind HTTP or HTTPS, which is only read.
    Web(WebAddress),
}

words! {
    /// How a disk is connected.
    Bus, "disk bus" {
        /// Made for virtual machines.
        Virtio = "virtio",
        /// SATA.
        Sata = "sata",
        /// SCSI.
        Scsi = "scsi",
        /// IDE, for old systems.
        Ide = "ide",
    }
}

impl Bus {
    /// Gives the letters with which target names on this bus begin.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Virtio => "vd",
            Self::Sata | Self::Scsi => "sd",
            Self::Ide => "hd",
        }
    }

    /// Tells whether a target name fits the bus: its letters, then one to three small letters.
    pub fn fits(self, target: &str) -> bool {
        let rest = target.strip_prefix(self.prefix());
        rest.is_some_and(|rest| {
            matches!(rest.len(), 1..=3) && rest.bytes().all(|b| b.is_ascii_lowercase())
        })
    }

    /// Gives the first name on this bus that is not taken: `vda` to `vdz`, then
    /// `vdaa` to `vdzz`.
    pub fn free_target(self, taken: impl Fn(&str) -> bool) -> String {
        let letters = || (b'a'..=b'z').map(char::from);
        let prefix = self.prefix();
        let one = letters().map(|a| format!("{prefix}{a}"));
        let two = letters().flat_map(|a| letters().map(move |b| format!("{prefix}{a}{b}")));
        one.chain(two)
            .find(|name| !taken(name))
            .unwrap_or_else(|| format!("{prefix}aaa"))
    }
}

words! {
    /// What a disk is to the guest.
    #[derive(Default)]
    DiskDevice, "kind of disk" {
        /// A disk.
        #[default]
        Disk = "disk",
        /// An optical drive: read only, and its medium can be changed.
        Cdrom = "cdrom",
    }
}

words! {
    /// How the content of a disk is written.
    #[derive(Default)]
    DiskFormat, "disk format" {
        /// As the guest sees it.
        #[default]
        Raw = "raw",
        /// Thin, with snapshots and backing files.
        Qcow2 = "qcow2",
        /// VMware's.
        Vmdk = "vmdk",
        /// VirtualBox's.
        Vdi = "vdi",
        /// Virtual PC's, also called VHD.
        Vpc = "vpc",
    }
}

words! {
    /// What the host does with the guest's writes.
    Cache, "cache mode" {
        /// Past the host's page cache; flushes go to the disk.
        None = "none",
        /// Into the page cache; flushes go to the disk.
        Writeback = "writeback",
        /// Into the page cache and to the disk.
        Writethrough = "writethrough",
        /// Past the page cache, each write to the disk.
        Directsync = "directsync",
        /// Flushes are ignored: only for what may be lost.
        Unsafe = "unsafe",
    }
}

words! {
    /// What is done when a disk fails.
    OnError, "answer to an error" {
        /// The machine stops, and goes on when it is told to: nothing is lost.
        Stop = "stop",
        /// The guest is told.
        Report = "report",
        /// Nobody is.
        Ignore = "ignore",
        /// The machine stops where there is no room; else the guest is told.
        Enospace = "enospace",
    }
}

words! {
    /// What becomes of blocks that the guest gives back.
    Discard, "discard mode" {
        /// They are freed.
        Unmap = "unmap",
        /// They stay.
        Ignore = "ignore",
    }
}

/// A network card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// What it is connected to.
    pub kind: InterfaceKind,
    /// What card the guest sees.
    #[serde(default)]
    pub model: NicModel,
    /// Its address; none: one that follows from the machine's name.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Ports of the host that lead to the guest; for the kind `user` alone.
    #[serde(default)]
    pub forwards: Vec<PortForward>,
}

/// What a network card is connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum InterfaceKind {
    /// The host's network, from a user's own program: out, and in by forwards.
    #[default]
    User,
    /// A bridge of the host; the tap is made and removed with the machine.
    Bridge(String),
    /// A tap that exists and stays.
    Tap(String),
    /// Nothing: a card without a cable.
    None,
}

words! {
    /// What card the guest sees.
    #[derive(Default)]
    NicModel, "model of a network card" {
        /// Made for virtual machines.
        #[default]
        Virtio = "virtio",
        /// Intel 82540EM, of 2002.
        E1000 = "e1000",
        /// Intel 82574L, of 2008.
        E1000e = "e1000e",
        /// Realtek RTL8139, of 1997.
        Rtl8139 = "rtl8139",
    }
}

words! {
    /// A transport protocol.
    #[derive(Default)]
    Protocol, "protocol" {
        /// TCP.
        #[default]
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
}

/// A host folder that the guest can mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The folder on the host.
    pub source: PathBuf,
    /// The name by which the guest mounts it.
    pub tag: String,
    /// The guest cannot write.
    #[serde(default)]
    pub read_only: bool,
    /// How it is shared.
    #[serde(default)]
    pub kind: ShareKind,
}

words! {
    /// How a folder is shared.
    #[derive(Default)]
    ShareKind, "way to share a folder" {
        /// Through virtiofs: fast, needs its program on the host.
        #[default]
        Virtiofs = "virtiofs",
        /// Through 9p: needs its module in the guest.
        Ninep = "9p",
    }
}

words! {
    /// Where the guest's text goes.
    #[derive(Default)]
    Console, "console" {
        /// A serial line.
        #[default]
        Serial = "serial",
        /// A console made for virtual machines.
        Virtio = "virtio",
        /// Nowhere.
        None = "none",
    }
}

/// Where the guest's picture goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Graphics {
    /// Nowhere.
    #[default]
    None,
    /// To viewers of VNC.
    Vnc(VncListen),
}

/// Where viewers come in. Never another address than the host's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VncListen {
    /// A Unix socket; none: in the machine's folder.
    Socket(Option<PathBuf>),
    /// A port of loopback, behind a ticket that opens it once; none: a free one.
    Loopback(Option<u16>),
}

words! {
    /// A graphics card.
    Video, "graphics card" {
        /// What every system knows.
        Vga = "vga",
        /// Made for virtual machines.
        Virtio = "virtio",
        /// The least, for UEFI.
        Bochs = "bochs",
        /// Made for SPICE.
        Qxl = "qxl",
        /// Cirrus Logic, of 1995.
        Cirrus = "cirrus",
        /// None at all.
        None = "none",
    }
}

words! {
    /// What the guest's clock shows when it starts.
    #[derive(Default)]
    Clock, "clock" {
        /// Coordinated universal time.
        #[default]
        Utc = "utc",
        /// The host's local time, as Windows wants it.
        Localtime = "localtime",
    }
}

/// Ends a guest that no longer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// What card the guest sees.
    pub model: WatchdogModel,
    /// What is done.
    pub action: WatchdogAction,
}

words! {
    /// A watchdog card.
    WatchdogModel, "watchdog" {
        /// Intel 6300ESB, on PCI.
        I6300esb = "i6300esb",
        /// IBM's, on ISA.
        Ib700 = "ib700",
    }
}

words! {
    /// What is done with a guest that no longer answers.
    WatchdogAction, "action of a watchdog" {
        /// Reset, as by its button.
        Reset = "reset",
        /// Asked to shut down.
        Shutdown = "shutdown",
        /// Switched off.
        Poweroff = "poweroff",
        /// Stopped, to be looked at.
        Pause = "pause",
        /// Nothing.
        None = "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_names_fit_their_bus() {
        assert!(Bus::Virtio.fits("vda") && Bus::Sata.fits("sdz") && Bus::Ide.fits("hdc"));
        assert!(Bus::Virtio.fits("vdaa"));
        for (bus, bad) in [
            (Bus::Virtio, "sda"),
            (Bus::Sata, "vda"),
            (Bus::Ide, "hd"),
            (Bus::Ide, "hd1"),
            (Bus::Virtio, "vdA"),
            (Bus::Virtio, "vd/../x"),
        ] {
            assert!(!bus.fits(bad), "{bad}");
        }
    }

    #[test]
    fn a_free_target_is_the_first_that_nobody_has() {
        assert_eq!(Bus::Virtio.free_target(|_| false), "vda");
        assert_eq!(Bus::Sata.free_target(|name| name == "sda"), "sdb");
        assert_eq!(Bus::Ide.free_target(|name| name.len() == 3), "hdaa");
    }
}
