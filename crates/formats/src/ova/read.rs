//! Reading a descriptor.

use std::collections::BTreeMap;

use hyperion_model::machine::{Bus, Disk, Firmware, Interface, InterfaceKind, NicModel};
use hyperion_model::{Bytes, MachineSpec, Name};

use super::{Appliance, Content, OvfError};
use crate::domain::Note;
use crate::xml::{self, Element, Place};

/// Kinds of hardware, by the numbers of CIM's `ResourceType`.
mod kind {
    pub(super) const PROCESSOR: u32 = 3;
    pub(super) const MEMORY: u32 = 4;
    pub(super) const IDE: u32 = 5;
    pub(super) const SCSI: u32 = 6;
    pub(super) const NETWORK: u32 = 10;
    pub(super) const CD: u32 = 15;
    pub(super) const DVD: u32 = 16;
    pub(super) const DISK: u32 = 17;
    pub(super) const OTHER_STORAGE: u32 = 20;
    /// What every machine has as it needs it: USB, graphics, and pointing devices.
    pub(super) const ANYWAY: [u32; 4] = [1, 13, 23, 24];
}

/// Reads a descriptor.
///
/// # Errors
/// [`OvfError`], with the place.
pub fn read(text: &str) -> Result<Appliance, OvfError> {
    let root = xml::read(text)?;
    if root.local_name() != "Envelope" {
        return Err(OvfError::Root {
            place: root.place,
            name: root.name,
        });
    }
    let mut reading = Reading {
        files: files(&root)?,
        disks: disks(&root)?,
        notes: Vec::new(),
        contents: Vec::new(),
    };
    let system = system(&root)?;
    let spec = reading.machine(&root, system)?;
    spec.validate().map_err(OvfError::Invalid)?;
    Ok(Appliance {
        spec,
        contents: reading.contents,
        notes: reading.notes,
    })
}

struct Reading<'a> {
    files: BTreeMap<&'a str, File<'a>>,
    disks: BTreeMap<&'a str, &'a Element>,
    notes: Vec<Note>,
    contents: Vec<Content>,
}

/// A file of `<References>`.
struct File<'a> {
    name: &'a str,
    length: Option<u64>,
    element: &'a Element,
}

/// Gives the elements of this name in another, whatever their prefixes.
fn all<'a>(element: &'a Element, name: &'a str) -> impl Iterator<Item = &'a Element> {
    element
        .children
        .iter()
        .filter(move |child| child.local_name() == name)
}

fn one<'a>(element: &'a Element, name: &'a str) -> Option<&'a Element> {
    all(element, name).next()
}

/// Gives an attribute, whatever its prefix.
fn attribute<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
    let local = |full: &str| full.rsplit(':').next() == Some(name);
    let mut found = element.attributes.iter();
    let found = found.find(|attribute| local(&attribute.name))?;
    Some(&found.value)
}

fn text<'a>(element: &'a Element, name: &'a str) -> Option<&'a str> {
    Some(one(element, name)?.text.trim()).filter(|text| !text.is_empty())
}

fn number<T: std::str::FromStr>(
    text: &str,
    what: &'static str,
    place: Place,
) -> Result<T, OvfError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| OvfError::Number {
        place,
        what,
        text: shown(text),
    })
}

/// Foreign text as it stands in messages.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Multiplies by a unit such as `byte * 2^20`; megabytes of old are `MegaBytes`.
fn bytes(
    amount: &str,
    unit: Option<&str>,
    what: &'static str,
    place: Place,
) -> Result<Bytes, OvfError> {
    let unit = unit.unwrap_or("byte");
    let factor = factor(unit).ok_or_else(|| OvfError::Unit {
        place,
        unit: shown(unit),
    })?;
    let count: u64 = number(amount, what, place)?;
    // What a disk of any program can have.
    let fits = count.checked_mul(factor).filter(|n| *n <= 1 << 60);
    fits.map(Bytes).ok_or_else(|| OvfError::Number {
        place,
        what,
        text: format!("{} {}", shown(amount), shown(unit)),
    })
}

fn factor(unit: &str) -> Option<u64> {
    let unit: String = unit
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect::<String>()
        .to_ascii_lowercase();
    match unit.as_str() {
        "" | "byte" | "bytes" => return Some(1),
        "kilobytes" | "kb" => return Some(1 << 10),
        "megabytes" | "mb" => return Some(1 << 20),
        "gigabytes" | "gb" => return Some(1 << 30),
        _ => {}
    }
    let (base, power) = unit.strip_prefix("byte*")?.split_once('^')?;
    let power: u32 = power.parse().ok()?;
    match base {
        "2" => 1u64.checked_shl(power),
        "10" => 10u64.checked_pow(power),
        _ => None,
    }
}

fn files(root: &Element) -> Result<BTreeMap<&str, File<'_>>, OvfError> {
    let mut files = BTreeMap::new();
    for element in all(root, "References").flat_map(|list| all(list, "File")) {
        let missing = |what| OvfError::Missing {
            place: element.place,
            what,
        };
        let id = attribute(element, "id").ok_or_else(|| missing("ovf:id of a file"))?;
        let name = attribute(element, "href").ok_or_else(|| missing("ovf:href of a file"))?;
        let length = attribute(element, "size");
        let length = length
            .map(|text| number(text, "length of a file", element.place))
            .transpose()?;
        files.insert(
            id,
            File {
                name,
                length,
                element,
            },
        );
    }
    Ok(files)
}

fn disks(root: &Element) -> Result<BTreeMap<&str, &Element>, OvfError> {
    let mut disks = BTreeMap::new();
    for element in all(root, "DiskSection").flat_map(|list| all(list, "Disk")) {
        let id = attribute(element, "diskId").ok_or(OvfError::Missing {
            place: element.place,
            what: "ovf:diskId of a disk",
        })?;
        disks.insert(id, element);
    }
    Ok(disks)
}

/// Finds the one machine.
fn system(root: &Element) -> Result<&Element, OvfError> {
    let mut found: Vec<&Element> = all(root, "VirtualSystem").collect();
    let mut within: Vec<&Element> = all(root, "VirtualSystemCollection").collect();
    while let Some(collection) = within.pop() {
        found.extend(all(collection, "VirtualSystem"));
        within.extend(all(collection, "VirtualSystemCollection"));
    }
    match found[..] {
        [system] => Ok(system),
        [] => Err(OvfError::Missing {
            place: root.place,
            what: "<VirtualSystem>",
        }),
        [first, ..] => Err(OvfError::Several {
            place: first.place,
            machines: found.len(),
        }),
    }
}

/// Gives the configuration that is meant when nobody chooses one.
fn configuration(root: &Element) -> Option<&str> {
    let all: Vec<&Element> = all(root, "DeploymentOptionSection")
        .flat_map(|section| all(section, "Configuration"))
        .collect();
    let default = |e: &&&Element| attribute(e, "default") == Some("true");
    attribute(all.iter().find(default).or(all.first())?, "id")
}

/// What an item of hardware says.
struct Item<'a> {
    element: &'a Element,
    kind: u32,
    id: &'a str,
    subtype: &'a str,
}

impl Reading<'_> {
    fn note(&mut self, place: Place, what: impl Into<String>) {
        self.notes.push(Note {
            lines: vec![place.line],
            what: what.into(),
        });
    }

    fn machine(&mut self, root: &Element, system: &Element) -> Result<MachineSpec, OvfError> {
        let name = self.name(system)?;
        let hardware = one(system, "VirtualHardwareSection").ok_or(OvfError::Missing {
            place: system.place,
            what: "<VirtualHardwareSection>",
        })?;
        let items = self.items(root, hardware)?;
        let (mut memory, mut vcpus) = (None, None);
        for item in &items {
            let place = item.element.place;
            let quantity = text(item.element, "VirtualQuantity").unwrap_or_default();
            let unit = text(item.element, "AllocationUnits");
            match item.kind {
                kind::PROCESSOR => vcpus = Some(number(quantity, "number of processors", place)?),
                kind::MEMORY => {
                    memory = Some(bytes(quantity, unit, "amount of memory", place)?);
                }
                _ => {}
            }
        }
        let missing = |what| OvfError::Missing {
            place: hardware.place,
            what,
        };
        let memory = memory.ok_or_else(|| missing("item with the memory"))?;
        let vcpus = vcpus.ok_or_else(|| missing("item with the processors"))?;
        let mut spec = MachineSpec::new(name, memory, vcpus);
        spec.description = one(system, "AnnotationSection")
            .and_then(|section| text(section, "Annotation"))
            .map(str::to_owned);
        let firmware = |config: &&Element| attribute(config, "key") == Some("firmware");
        if let Some(config) = all(hardware, "Config").find(firmware)
            && attribute(config, "value") == Some("efi")
        {
            spec.firmware = Firmware::Uefi {
                secure_boot: false,
                loader: None,
                variables: None,
            };
        }
        let controllers: BTreeMap<&str, &Item<'_>> = items
            .iter()
            .filter(|item| [kind::IDE, kind::SCSI, kind::OTHER_STORAGE].contains(&item.kind))
            .map(|item| (item.id, item))
            .collect();
        for item in &items {
            match item.kind {
                kind::DISK => self.disk(item, &controllers, &mut spec)?,
                kind::NETWORK => self.card(item, &mut spec)?,
                kind::CD | kind::DVD => {
                    self.note(
                        item.element.place,
                        "the optical drive is left out: `hyperion vm edit` adds one",
                    );
                }
                kind::PROCESSOR | kind::MEMORY => {}
                kind if controllers.contains_key(item.id) || kind::ANYWAY.contains(&kind) => {}
                other => {
                    let what = text(item.element, "ElementName").unwrap_or("a device");
                    self.note(
                        item.element.place,
                        format!("{} (kind {other}) is left out", shown(what)),
                    );
                }
            }
        }
        Ok(spec)
    }

    fn name(&mut self, system: &Element) -> Result<Name, OvfError> {
        let written = text(system, "Name").or_else(|| attribute(system, "id"));
        let written = written.ok_or(OvfError::Missing {
            place: system.place,
            what: "name of the machine",
        })?;
        if let Ok(name) = written.parse() {
            return Ok(name);
        }
        let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let parts = written.split(|c| !fine(c)).filter(|part| !part.is_empty());
        let mended: String = parts
            .collect::<Vec<_>>()
            .join("-")
            .chars()
            .take(64)
            .collect();
        let name: Name = mended
            .trim_start_matches(['-', '.', '_'])
            .parse()
            .or_else(|_| "appliance".parse())
            .map_err(|_| OvfError::Missing {
                place: system.place,
                what: "name of the machine",
            })?;
        self.note(
            system.place,
            format!("the name {:?} is {name} here", shown(written)),
        );
        Ok(name)
    }

    /// Gives the hardware of the configuration that holds by default.
    fn items<'a>(
        &mut self,
        root: &Element,
        hardware: &'a Element,
    ) -> Result<Vec<Item<'a>>, OvfError> {
        let chosen = configuration(root);
        let named = ["Item", "StorageItem", "EthernetPortItem"];
        let mut items = Vec::new();
        for element in &hardware.children {
            if !named.contains(&element.local_name()) {
                continue;
            }
            if let Some(list) = attribute(element, "configuration")
                && !list.split_whitespace().any(|id| Some(id) == chosen)
            {
                self.note(
                    element.place,
                    "is of another configuration than the default one: left out",
                );
                continue;
            }
            let kind = text(element, "ResourceType").ok_or(OvfError::Missing {
                place: element.place,
                what: "<ResourceType>",
            })?;
            items.push(Item {
                element,
                kind: number(kind, "kind of device", element.place)?,
                id: text(element, "InstanceID").unwrap_or_default(),
                subtype: text(element, "ResourceSubType").unwrap_or_default(),
            });
        }
        Ok(items)
    }

    fn disk(
        &mut self,
        item: &Item<'_>,
        controllers: &BTreeMap<&str, &Item<'_>>,
        spec: &mut MachineSpec,
    ) -> Result<(), OvfError> {
        let place = item.element.place;
        let resource = text(item.element, "HostResource").ok_or(OvfError::Missing {
            place,
            what: "<HostResource> of a disk",
        })?;
        let path = resource.strip_prefix("ovf:").unwrap_or(resource);
        let id = path.trim_start_matches('/').strip_prefix("disk/");
        let described = id.and_then(|id| self.disks.get(id).copied());
        let Some(described) = described else {
            return Err(OvfError::Nothing {
                place,
                kind: "disk",
                id: shown(resource),
            });
        };
        let place = described.place;
        if attribute(described, "parentRef").is_some() {
            return Err(OvfError::Unsupported {
                place,
                what: "the disk lies on another one",
                fix: "export the machine again without snapshots",
            });
        }
        let capacity = attribute(described, "capacity").ok_or(OvfError::Missing {
            place,
            what: "ovf:capacity of a disk",
        })?;
        let unit = attribute(described, "capacityAllocationUnits");
        let capacity = bytes(capacity, unit, "capacity of a disk", place)?;
        let bus = match attribute(item.element, "bus") {
            Some(own) => own.parse().map_err(|_| OvfError::Nothing {
                place: item.element.place,
                kind: "disk bus",
                id: shown(own),
            })?,
            None => {
                let parent = text(item.element, "Parent").and_then(|id| controllers.get(id));
                self.bus(parent.copied(), item.element.place)
            }
        };
        let mut disk = Disk::new(spec.free_target(bus), bus);
        disk.size = Some(capacity);
        if let Some(id) = attribute(described, "fileRef") {
            let file = self.files.get(id).ok_or_else(|| OvfError::Nothing {
                place,
                kind: "file",
                id: shown(id),
            })?;
            let compressed = attribute(file.element, "compression");
            if compressed.is_some_and(|word| word != "identity") {
                return Err(OvfError::Unsupported {
                    place: file.element.place,
                    what: "the file of a disk is compressed once more",
                    fix: "export the machine again without compression of the files",
                });
            }
            if attribute(file.element, "chunkSize").is_some() {
                return Err(OvfError::Unsupported {
                    place: file.element.place,
                    what: "the file of a disk is cut into pieces",
                    fix: "export the machine again with one file for each disk",
                });
            }
            if !is_plain(file.name) {
                return Err(OvfError::Outside {
                    place: file.element.place,
                    name: shown(file.name),
                });
            }
            self.contents.push(Content {
                target: disk.target.clone(),
                file: file.name.to_owned(),
                length: file.length,
                capacity,
                place: file.element.place,
            });
        }
        spec.disks.push(disk);
        Ok(())
    }

    /// Finds how a disk is connected, so that its guest finds it again.
    fn bus(&mut self, controller: Option<&Item<'_>>, place: Place) -> Bus {
        let Some(controller) = controller else {
            self.note(
                place,
                "the disk has no controller: it is connected by sata here",
            );
            return Bus::Sata;
        };
        let subtype = controller.subtype.to_ascii_lowercase();
        match controller.kind {
            _ if subtype.contains("virtio") && subtype.contains("scsi") => Bus::Scsi,
            _ if subtype.contains("virtio") => Bus::Virtio,
            kind::IDE => Bus::Ide,
            kind::SCSI => {
                let what = format!(
                    "there is no controller {:?} here: the disk is connected by sata",
                    shown(controller.subtype)
                );
                self.note(place, what);
                Bus::Sata
            }
            _ => Bus::Sata,
        }
    }

    fn card(&mut self, item: &Item<'_>, spec: &mut MachineSpec) -> Result<(), OvfError> {
        let place = item.element.place;
        let subtype = item.subtype.to_ascii_lowercase();
        let model = match subtype.as_str() {
            _ if subtype.starts_with("virtio") => NicModel::Virtio,
            "e1000e" => NicModel::E1000e,
            "e1000" => NicModel::E1000,
            "rtl8139" => NicModel::Rtl8139,
            _ => {
                let what = format!(
                    "there is no network card {:?} here: it is an e1000",
                    shown(item.subtype)
                );
                self.note(place, what);
                NicModel::E1000
            }
        };
        let mac = match (
            attribute(item.element, "mac"),
            text(item.element, "Address"),
        ) {
            // Written by ourselves, for one that somebody has chosen.
            (Some("kept"), Some(address)) => {
                Some(address.parse().map_err(|_| OvfError::Number {
                    place,
                    what: "address of a network card",
                    text: shown(address),
                })?)
            }
            (_, Some(address)) => {
                let what = format!(
                    "the address {:?} is left out: one follows from the machine's name",
                    shown(address)
                );
                self.note(place, what);
                None
            }
            _ => None,
        };
        let kind = match text(item.element, "Connection") {
            Some(network) => {
                let what = format!(
                    "the network {:?} is `user` here: the guest gets out, and in by forwarded ports",
                    shown(network)
                );
                if network != super::write::NETWORK {
                    self.note(place, what);
                }
                InterfaceKind::User
            }
            None => InterfaceKind::None,
        };
        spec.interfaces.push(Interface {
            kind,
            model,
            mac,
            forwards: Vec::new(),
        });
        Ok(())
    }
}

/// Tells whether a name is one of a file, and no path or address.
fn is_plain(name: &str) -> bool {
    let fine = |c: char| !c.is_control() && c != '/' && c != '\\' && c != ':';
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(fine)
}
