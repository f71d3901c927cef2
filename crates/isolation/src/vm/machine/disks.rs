//! Disks: the nodes of QEMU's graph of them, and the devices on them.

use hyperion_model::MachineSpec;
use hyperion_model::machine::{
    Backing, Board, BootDevice, Bus, Cache, Disk, DiskDevice, DiskFormat, DiskSource, OnError,
};
use serde_json::{Value, json};

use super::super::stay::{MODULES_SERIAL, ORDERS_SERIAL};
use super::{Places, Unsupported, Words, boot_index, escaped, unsupported};

/// Comes before the target in the names of nodes.
const NODE: &str = "disk-";

/// Gives the node of a disk, as it is when its machine has been started.
pub fn node(target: &str) -> String {
    format!("{NODE}{target}")
}

/// Gives the disk that a node is the content of: as it was started (`disk-vda`), or
/// in a layer since (`disk-vda.2`).
pub fn target_of(node: &str) -> Option<&str> {
    let name = node.strip_prefix(NODE)?;
    Some(name.split_once('.').map_or(name, |(target, _)| target))
}

/// Describes a new layer that is to come above what a disk is written to, in a file
/// that QEMU has in this set.
pub fn layer(disk: &Disk, node: &str, set: u32) -> Value {
    let file = format!("/dev/fdset/{set}");
    let file = json!({"driver": "file", "filename": file, "read-only": false});
    let mut layer = top(disk, node, false, &file);
    // What it will lie on: QEMU has that open, and no file that a header names is.
    layer["backing"] = Value::Null;
    layer
}

pub(super) fn all(
    words: &mut Words,
    spec: &MachineSpec,
    places: &Places,
) -> Result<(), Unsupported> {
    let has = |bus: Bus| spec.disks.iter().any(|disk| disk.bus == bus);
    if has(Bus::Scsi) {
        words.say("-device", "virtio-scsi-pci,id=scsi0".into());
    }
    let pc = spec.board == Some(Board::Pc);
    if has(Bus::Sata) && pc {
        words.say("-device", "ich9-ahci,id=ahci".into());
    }
    let mut on_bus = [0usize; 4];
    for (number, disk) in spec.disks.iter().enumerate() {
        let node = node(&disk.target);
        if let Some(source) = &disk.source {
            let content = content(words, disk, source, &node)?;
            words.say("-blockdev", content.to_string());
        } else if disk.device == DiskDevice::Disk {
            return unsupported(format!("disk {} without a source", disk.target));
        }
        let place = &mut on_bus[disk.bus as usize];
        let at = *place;
        *place += 1;
        let cdrom = disk.device == DiskDevice::Cdrom;
        let mut device = match disk.bus {
            Bus::Virtio => "virtio-blk-pci".to_owned(),
            Bus::Scsi if cdrom => "scsi-cd,bus=scsi0.0".into(),
            Bus::Scsi => "scsi-hd,bus=scsi0.0".into(),
            Bus::Sata | Bus::Ide => {
                let kind = if cdrom { "ide-cd" } else { "ide-hd" };
                match (disk.bus, pc) {
                    (Bus::Sata, true) => format!("{kind},bus=ahci.{at}"),
                    (_, true) => format!("{kind},bus=ide.{},unit={}", at / 2, at % 2),
                    (_, false) => format!("{kind},bus=ide.{at}"),
                }
            }
        };
        if disk.source.is_some() {
            device += &format!(",drive={node}");
        }
        device += &format!(",id=dev-{}", disk.target);
        if disk.device == DiskDevice::Disk && !disk.read_only {
            // A full disk of the host, or one that fails, stops the guest before
            // it has lost anything; it goes on when it is told to.
            let word = disk.on_write_error.unwrap_or(OnError::Stop);
            device += &format!(",werror={}", policy(word));
        }
        if let (DiskDevice::Disk, Some(word)) = (disk.device, disk.on_read_error) {
            device += &format!(",rerror={}", policy(word));
        }
        if let Some(serial) = &disk.serial {
            device += &format!(",serial={}", escaped(serial));
        }
        let boot = BootDevice::Disk(disk.target.clone());
        if let Some(index) = boot_index(spec, &boot, number) {
            device += &format!(",bootindex={index}");
        }
        words.say("-device", device);
    }
    for (name, file, more) in [
        ("seed", &places.seed, String::new()),
        ("orders", &places.orders, format!(",serial={ORDERS_SERIAL}")),
        (
            "modules",
            &places.modules,
            format!(",serial={MODULES_SERIAL}"),
        ),
    ] {
        let Some(file) = file else { continue };
        let file = words.file(file, false);
        let node = json!({
            "driver": "raw", "node-name": name, "read-only": true,
            "file": {"driver": "file", "filename": file, "read-only": true},
        });
        words.say("-blockdev", node.to_string());
        words.say("-device", format!("virtio-blk-pci,drive={name}{more}"));
    }
    Ok(())
}

/// Gives QEMU's word for what is done when a disk fails.
fn policy(word: OnError) -> &'static str {
    match word {
        OnError::Enospace => "enospc",
        other => other.word(),
    }
}

/// Describes the content of a disk, in JSON: no name in it has a meaning of its own.
fn content(
    words: &mut Words,
    disk: &Disk,
    source: &DiskSource,
    node: &str,
) -> Result<Value, Unsupported> {
    let read_only = disk.read_only || disk.device == DiskDevice::Cdrom;
    let file = storage(words, source, read_only)?;
    let mut top = top(disk, node, read_only, &file);
    if disk.format == DiskFormat::Qcow2 {
        top["backing"] = backing(words, &disk.backing)?;
    }
    Ok(top)
}

/// Describes what a disk of the guest is written to, where nothing lies below it yet.
fn top(disk: &Disk, node: &str, read_only: bool, file: &Value) -> Value {
    let discard = match disk.discard {
        Some(discard) => discard.to_string(),
        None => "unmap".into(),
    };
    let mut top = json!({
        "driver": disk.format.to_string(), "node-name": node,
        "read-only": read_only, "discard": discard, "file": file,
    });
    if let Some(cache) = disk.cache {
        let direct = matches!(cache, Cache::None | Cache::Directsync);
        let careless = cache == Cache::Unsafe;
        top["cache"] = json!({"direct": direct, "no-flush": careless});
    }
    top
}

/// Describes what lies below a disk. What the definition does not name is not
/// opened: the header of an image may name any file of the host.
fn backing(words: &mut Words, below: &[Backing]) -> Result<Value, Unsupported> {
    let Some((nearest, rest)) = below.split_first() else {
        return Ok(Value::Null);
    };
    let file = storage(words, &nearest.source, true)?;
    let mut node = json!({
        "driver": nearest.format.to_string(), "read-only": true, "file": file,
    });
    if nearest.format == DiskFormat::Qcow2 {
        node["backing"] = backing(words, rest)?;
    }
    Ok(node)
}

fn storage(words: &mut Words, source: &DiskSource, read_only: bool) -> Result<Value, Unsupported> {
    Ok(match source {
        DiskSource::File(file) => {
            let file = words.file(file, !read_only);
            json!({"driver": "file", "filename": file, "read-only": read_only})
        }
        DiskSource::Block(device) => {
            let file = words.file(device, !read_only);
            json!({"driver": "host_device", "filename": file, "read-only": read_only})
        }
        DiskSource::Web(address) => {
            let url = address.to_string();
            let driver = url.split(':').next().unwrap_or("http").to_owned();
            json!({"driver": driver, "url": url, "read-only": true})
        }
        DiskSource::Volume { pool, .. } => {
            return unsupported(format!("storage pool (`{pool}`)"));
        }
    })
}
