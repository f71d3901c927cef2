//! Writing a descriptor, as OVF 1: what every program reads.

use std::collections::BTreeMap;

use hyperion_model::machine::{
    Bus, DiskDevice, Firmware, Graphics, InterfaceKind, MachineSpec, NicModel,
};

use super::OWN;
use crate::xml::Element;

/// What the network of a card is called.
pub(super) const NETWORK: &str = "user";

/// A disk as it lies in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The disk's target.
    pub target: String,
    /// The file in the archive.
    pub file: String,
    /// Its length, in bytes.
    pub length: u64,
    /// What the guest sees, in bytes.
    pub capacity: u64,
}

const STREAM: &str = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

/// Writes the descriptor of a machine whose disks lie in the archive, and tells
/// what of the machine it does not hold.
pub fn write(spec: &MachineSpec, disks: &[Packed]) -> (String, Vec<String>) {
    let files = disks.iter().map(|disk| {
        Element::new("File")
            .with("ovf:id", format!("file-{}", disk.target))
            .with("ovf:href", &disk.file)
            .with("ovf:size", disk.length)
    });
    let described = disks.iter().map(|disk| {
        Element::new("Disk")
            .with("ovf:diskId", format!("disk-{}", disk.target))
            .with("ovf:fileRef", format!("file-{}", disk.target))
            .with("ovf:capacity", disk.capacity)
            .with("ovf:capacityAllocationUnits", "byte")
            .with("ovf:format", STREAM)
    });
    let mut root = Element::new("Envelope")
        .with("xmlns", "http://schemas.dmtf.org/ovf/envelope/1")
        .with("xmlns:ovf", "http://schemas.dmtf.org/ovf/envelope/1")
        .with(
            "xmlns:rasd",
            "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
        )
        .with(
            "xmlns:vssd",
            "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
        )
        .with("xmlns:vmw", "http://www.vmware.com/schema/ovf")
        .with("xmlns:hyperion", OWN)
        .and([
            Element::new("References").and(files),
            Element::new("DiskSection")
                .and([info("The disks")])
                .and(described),
        ]);
    if connected(spec).next().is_some() {
        let network = Element::new("Network")
            .with("ovf:name", NETWORK)
            .and([Element::new("Description").holding("Out, and in by forwarded ports")]);
        root = root.and([Element::new("NetworkSection").and([info("The networks"), network])]);
    }
    let mut system = Element::new("VirtualSystem")
        .with("ovf:id", &spec.name)
        .and([
            info("A virtual machine"),
            Element::new("Name").holding(&spec.name),
        ]);
    // 101: a 64-bit Linux. What system it is is not known for sure.
    let os = Element::new("OperatingSystemSection")
        .with("ovf:id", 101)
        .and([info("The system in it")]);
    let os = match &spec.os_variant {
        Some(variant) => os.and([Element::new("Description").holding(variant)]),
        None => os,
    };
    system = system.and([os]);
    if let Some(text) = &spec.description {
        let annotation = Element::new("Annotation").holding(text);
        system =
            system
                .and([Element::new("AnnotationSection")
                    .and([info("What is said about it"), annotation])]);
    }
    let root = root.and([system.and([hardware(spec, disks)])]);
    let text = format!("<?xml version='1.0' encoding='UTF-8'?>\n{root}");
    (text, left_out(spec))
}

fn info(text: &str) -> Element {
    Element::new("Info").holding(text)
}

fn connected(spec: &MachineSpec) -> impl Iterator<Item = usize> {
    let cards = spec.interfaces.iter().enumerate();
    cards
        .filter(|(_, card)| card.kind != InterfaceKind::None)
        .map(|(at, _)| at)
}

/// Makes an item; the elements come in the order of their names, as the schema wants them.
fn item(name: &str, id: usize, kind: u32, more: Vec<(&str, String)>) -> Element {
    let mut parts = more;
    parts.push(("ElementName", name.to_owned()));
    parts.push(("InstanceID", id.to_string()));
    parts.push(("ResourceType", kind.to_string()));
    parts.sort_by_key(|(name, _)| *name);
    let parts = parts
        .into_iter()
        .map(|(name, text)| Element::new(format!("rasd:{name}")).holding(text));
    Element::new("Item").and(parts)
}

fn hardware(spec: &MachineSpec, disks: &[Packed]) -> Element {
    let mut next = 0;
    let mut id = || {
        next += 1;
        next
    };
    let vcpus = spec.vcpus.count;
    let memory = spec.memory.size.0.div_ceil(1 << 20);
    let mut items = vec![
        item(
            &format!("{vcpus} processors"),
            id(),
            3,
            vec![
                ("AllocationUnits", "hertz * 10^6".into()),
                ("VirtualQuantity", vcpus.to_string()),
            ],
        ),
        item(
            &format!("{memory} MiB of memory"),
            id(),
            4,
            vec![
                ("AllocationUnits", "byte * 2^20".into()),
                ("VirtualQuantity", memory.to_string()),
            ],
        ),
    ];
    let mut controllers: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for packed in disks {
        let Some(disk) = spec.disk(&packed.target) else {
            continue;
        };
        // What others have: IDE, a SCSI that most systems know, and SATA for the rest.
        let (kind, subtype) = match disk.bus {
            Bus::Ide => (5, "PIIX4"),
            Bus::Scsi => (6, "lsilogic"),
            Bus::Sata | Bus::Virtio => (20, "AHCI"),
        };
        let (parent, place) = controllers.entry(kind).or_insert_with(|| {
            let number = id();
            let words = vec![("Address", "0".into()), ("ResourceSubType", subtype.into())];
            items.push(item("Disk controller", number, kind, words));
            (number, 0)
        });
        let words = vec![
            ("AddressOnParent", place.to_string()),
            ("HostResource", format!("ovf:/disk/disk-{}", disk.target)),
            ("Parent", parent.to_string()),
        ];
        *place += 1;
        let name = format!("Disk {}", disk.target);
        items.push(item(&name, id(), 17, words).with("hyperion:bus", disk.bus));
    }
    for (at, card) in spec.interfaces.iter().enumerate() {
        let model = match card.model {
            NicModel::Virtio => "virtio",
            NicModel::E1000 => "E1000",
            NicModel::E1000e => "E1000e",
            NicModel::Rtl8139 => "RTL8139",
        };
        let mut words = vec![
            ("AutomaticAllocation", "true".into()),
            ("ResourceSubType", model.into()),
        ];
        if card.kind != InterfaceKind::None {
            words.push(("Connection", NETWORK.into()));
        }
        if let Some(mac) = card.mac {
            words.push(("Address", mac.to_string()));
        }
        let card_item = item(&format!("Network card {at}"), id(), 10, words);
        items.push(match card.mac {
            Some(_) => card_item.with("hyperion:mac", "kept"),
            None => card_item,
        });
    }
    let system = Element::new("System").and(
        [
            ("ElementName", "Virtual Hardware Family".to_owned()),
            ("InstanceID", "0".into()),
            ("VirtualSystemIdentifier", spec.name.to_string()),
            ("VirtualSystemType", "vmx-10".into()),
        ]
        .map(|(name, text)| Element::new(format!("vssd:{name}")).holding(text)),
    );
    let hardware = Element::new("VirtualHardwareSection")
        .and([info("The hardware"), system])
        .and(items);
    match spec.firmware {
        Firmware::Bios => hardware,
        Firmware::Uefi { .. } => hardware.and([Element::new("vmw:Config")
            .with("ovf:required", false)
            .with("vmw:key", "firmware")
            .with("vmw:value", "efi")]),
    }
}

/// Tells what of a machine has no place in a descriptor.
fn left_out(spec: &MachineSpec) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |has: bool, what: &str| {
        if has {
            notes.push(format!("{what} not in the archive"));
        }
    };
    let drives = |d: &hyperion_model::machine::Disk| d.device == DiskDevice::Cdrom;
    note(spec.disks.iter().any(drives), "optical drives are");
    note(!spec.shares.is_empty(), "folders of the host are");
    note(spec.seed.is_some(), "the seed for cloud-init is");
    let kernel = match &spec.image {
        None => "the kernel of the host is",
        Some(_) => "the kernel, without which the disk of an image does not boot, is",
    };
    note(spec.boot.kernel.is_some(), kernel);
    note(spec.graphics != Graphics::None, "the screen is");
    note(
        matches!(spec.firmware, Firmware::Uefi { .. }),
        "the variables of UEFI are",
    );
    note(
        spec.interfaces.iter().any(|card| !card.forwards.is_empty()),
        "forwarded ports are",
    );
    notes
}
