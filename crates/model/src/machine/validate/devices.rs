//! What is looked at in what is plugged in.

use super::{Look, is_line};
use crate::machine::{
    Board, Bus, Disk, DiskDevice, DiskFormat, DiskSource, Graphics, Interface, InterfaceKind,
    OnError, Share, ShareKind, VncListen,
};
use crate::units::Bytes;

impl Look {
    pub(super) fn disk(&mut self, path: &str, disk: &Disk, board: Option<Board>) {
        let at = |field: &str| format!("{path}.{field}");
        let (target, bus) = (&disk.target, disk.bus);
        self.must(
            bus.fits(target),
            &at("target"),
            format!("the name {target:?} does not fit the bus {bus}"),
            &format!("write {0}a, {0}b and so on, or another bus", bus.prefix()),
        );
        self.must(
            disk.on_read_error != Some(OnError::Enospace),
            &at("on_read_error"),
            "who reads needs no room",
            "write stop, report or ignore",
        );
        self.must(
            !(bus == Bus::Ide && board == Some(Board::Q35)),
            &at("bus"),
            "the board q35 has no IDE",
            "write sata, or the board pc",
        );
        self.must(
            bus != Bus::Ide || matches!(target.as_str(), "hda" | "hdb" | "hdc" | "hdd"),
            &at("target"),
            format!("IDE has four places, and {target:?} is none of them"),
            "write hda, hdb, hdc or hdd, or another bus",
        );
        self.content(path, disk);
        if let Some(serial) = &disk.serial {
            let most = if bus == Bus::Virtio { 20 } else { 36 };
            let plain = serial
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b));
            self.must(
                plain && (1..=most).contains(&serial.len()),
                &at("serial"),
                format!("{serial:?} cannot be a serial number on {bus}"),
                &format!("write at most {most} letters, digits, '_', '.', '+', '-'"),
            );
        }
    }

    fn content(&mut self, path: &str, disk: &Disk) {
        let at = |field: &str| format!("{path}.{field}");
        let cdrom = disk.device == DiskDevice::Cdrom;
        self.must(
            !cdrom || disk.read_only,
            &at("read_only"),
            "an optical drive cannot be written",
            "make it read-only",
        );
        self.must(
            !(cdrom && disk.bus == Bus::Virtio),
            &at("bus"),
            "there is no optical drive on virtio",
            "write sata, scsi or ide, with a target that fits",
        );
        let web = matches!(disk.source, Some(DiskSource::Web(_)));
        self.must(
            !web || disk.read_only,
            &at("read_only"),
            "what lies behind HTTP cannot be written",
            "make it read-only, or import the image first",
        );
        self.must(
            cdrom || disk.source.is_some() || disk.size.is_some(),
            &at("source"),
            "a disk without a source has no content, and without a size none can be made",
            "write where its content lies, or how large it shall be",
        );
        if let Some(size) = disk.size {
            self.must(
                size >= Bytes(512) && size.0.is_multiple_of(512) && !cdrom && !web,
                &at("size"),
                format!("a disk of {size} cannot be made here"),
                "write whole sectors of 512 bytes; for what exists, leave the size out",
            );
        }
        let layered = matches!(disk.format, DiskFormat::Qcow2 | DiskFormat::Vmdk);
        self.must(
            disk.backing.is_empty() || layered,
            &at("backing"),
            format!("the format {} has no layer below it", disk.format),
            "write qcow2, or leave the layer out",
        );
        for (n, source) in disk
            .source
            .iter()
            .chain(disk.backing.iter().map(|b| &b.source))
            .enumerate()
        {
            let place = if n == 0 && disk.source.is_some() {
                at("source")
            } else {
                at("backing")
            };
            match source {
                DiskSource::File(file) | DiskSource::Block(file) => self.path(&place, file),
                DiskSource::Volume { pool, volume } => self.must(
                    is_line(pool, 128) && is_line(volume, 256),
                    &place,
                    "names no volume of a pool",
                    "write the pool's name and the volume's",
                ),
                DiskSource::Web(_) => {}
            }
        }
    }

    /// Two disks that write to one file destroy it.
    pub(super) fn shared_content(&mut self, disks: &[Disk]) {
        for (at, disk) in disks.iter().enumerate() {
            let Some(source) = &disk.source else { continue };
            let other = disks[..at]
                .iter()
                .find(|d| d.source.as_ref() == Some(source));
            if let Some(other) = other {
                self.must(
                    other.read_only && disk.read_only,
                    &format!("disks[{at}].source"),
                    format!(
                        "{} and {} write to the same place",
                        other.target, disk.target
                    ),
                    "give each its own, or make both read-only",
                );
            }
        }
    }

    pub(super) fn interface(&mut self, path: &str, interface: &Interface) {
        let at = |field: &str| format!("{path}.{field}");
        if let Some(mac) = interface.mac {
            self.must(
                !mac.is_multicast(),
                &at("mac"),
                format!("{mac} names a group, not a card"),
                "make the second digit even, or leave the address out",
            );
            self.must(
                mac.bytes() != [0; 6],
                &at("mac"),
                format!("{mac} is nobody's address"),
                "leave the address out: one is made from the machine's name",
            );
        }
        match &interface.kind {
            InterfaceKind::Bridge(name) | InterfaceKind::Tap(name) => self.must(
                is_interface_name(name),
                &at("kind"),
                format!("{name:?} is not the name of a network interface"),
                "write a name of at most 15 characters, without spaces and slashes",
            ),
            InterfaceKind::User | InterfaceKind::None => {}
        }
        self.must(
            interface.forwards.is_empty() || interface.kind == InterfaceKind::User,
            &at("forwards"),
            "ports are forwarded only where the network is a user's own",
            "write the kind user, or leave the ports out: on a bridge the guest has an address",
        );
    }

    pub(super) fn share(&mut self, path: &str, share: &Share) {
        self.path(&format!("{path}.source"), &share.source);
        let most = match share.kind {
            ShareKind::Virtiofs => 36,
            ShareKind::Ninep => 31,
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./-".contains(&b);
        self.must(
            (1..=most).contains(&share.tag.len()) && share.tag.bytes().all(plain),
            &format!("{path}.tag"),
            format!("{:?} cannot be a tag of {}", share.tag, share.kind),
            &format!("write at most {most} letters, digits, '_', '.', '/', '-'"),
        );
    }

    pub(super) fn graphics(&mut self, graphics: &Graphics) {
        match graphics {
            Graphics::Vnc(VncListen::Socket(Some(path))) => {
                self.path("graphics", path);
                // A socket's address holds 107 bytes and a zero.
                self.must(
                    path.as_os_str().len() <= 107,
                    "graphics",
                    "the socket's path is longer than 107 bytes",
                    "write a shorter one, or leave it out",
                );
            }
            Graphics::Vnc(VncListen::Loopback(Some(port))) => self.must(
                *port >= 5900,
                "graphics",
                format!("{port} is not a port of VNC"),
                "write 5900 or more, or leave it out",
            ),
            _ => {}
        }
    }
}

/// Tells whether Linux would take this name for an interface.
fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b))
}
