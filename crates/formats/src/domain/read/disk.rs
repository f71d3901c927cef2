//! Disks and optical drives.

use std::path::PathBuf;

use hyperion_model::MachineSpec;
use hyperion_model::machine::{
    Backing, BootDevice, Bus, Disk, DiskDevice, DiskFormat, DiskSource, OnError, WebAddress,
};

use super::super::Remedy;
use super::{Reading, shown};
use crate::xml::{Element, Place};

/// What libvirt knows of a disk and a machine does not have.
const FOREIGN: &[&str] = &[
    "@model",
    "@rawio",
    "@sgio",
    "@snapshot",
    "iotune",
    "blockio",
    "geometry",
    "wwn",
    "vendor",
    "product",
    "auth",
    "encryption",
    "transient",
    "shareable",
    "mirror",
    "backenddomain",
    "throttlefilters",
];

/// The same of the place where its content lies.
const FOREIGN_SOURCE: &[&str] = &[
    "@startupPolicy",
    "@index",
    "@mode",
    "@tls",
    "@tlsHostname",
    "@fdgroup",
    "seclabel",
    "reservations",
    "encryption",
    "initiator",
    "auth",
    "ssl",
    "readahead",
    "timeout",
    "cookies",
    "slices",
    "snapshot",
    "config",
    "identity",
];

/// Buses that libvirt knows beside ours.
const FOREIGN_BUSES: &[&str] = &["usb", "fdc", "xen", "uml", "sd", "nvme"];

/// Formats that libvirt knows beside ours.
const FOREIGN_FORMATS: &[&str] = &[
    "dmg", "cloop", "bochs", "qcow", "qed", "luks", "ploop", "dir", "iso", "fat",
];

impl Reading {
    pub(super) fn disk(&mut self, mut element: Element, spec: &mut MachineSpec) {
        let place = element.place;
        let device = match element.attribute("device") {
            Some(other @ ("floppy" | "lun")) => {
                self.note(
                    place,
                    format!("<disk device='{other}'> is not carried over"),
                );
                return;
            }
            _ => self.word(&mut element, "device", &[]).unwrap_or_default(),
        };
        let kind = element.take_attribute("type");
        let kind = kind
            .as_ref()
            .map_or("file", |kind| kind.value.as_str())
            .to_owned();
        let mut source = None;
        if let Some(from) = element.take("source") {
            match self.source(from, &kind) {
                Ok(found) => source = found,
                Err(Foreign) => return,
            }
        }
        let mut disk = Disk::new("", Bus::Virtio);
        disk.device = device;
        disk.source = source;
        self.driver(&mut element, &mut disk);
        if let Some(backing) = element.take("backingStore") {
            self.backing(backing, &mut disk.backing);
        }
        self.target(&mut element, &mut disk);
        disk.read_only = element.take("readonly").is_some() || device == DiskDevice::Cdrom;
        disk.serial = self
            .text(&mut element, "serial", &[])
            .map(|(text, _)| text)
            .filter(|t| !t.is_empty());
        self.tried(&mut element, BootDevice::Disk(disk.target.clone()));
        self.stands(format!("disks[{}]", spec.disks.len()), place);
        self.leftovers(element, FOREIGN);
        spec.disks.push(disk);
    }

    /// Reads `<boot order=…>` of a device.
    pub(super) fn tried(&mut self, element: &mut Element, device: BootDevice) {
        let Some(mut boot) = element.take("boot") else {
            return;
        };
        match self.number(&mut boot, "order") {
            Some(order) => self.boot.push((order, boot.place, device)),
            None => self.left_out(boot.place, "<boot> of a device has no order"),
        }
        self.leftovers(boot, &["@loadparm"]);
    }

    fn driver(&mut self, element: &mut Element, disk: &mut Disk) {
        let Some(mut driver) = element.take("driver") else {
            self.unnamed_format(disk, element.place);
            return;
        };
        // Which program reads it is the backend's business.
        driver.take_attribute("name");
        if driver.attribute("type").is_none() {
            self.unnamed_format(disk, driver.place);
        }
        disk.format = self
            .word(&mut driver, "type", FOREIGN_FORMATS)
            .unwrap_or_default();
        disk.cache = self.word(&mut driver, "cache", &["default"]);
        disk.discard = self.word(&mut driver, "discard", &[]);
        disk.on_write_error = self.word(&mut driver, "error_policy", &[]);
        // As libvirt has it: one word for both, unless it is of writing alone.
        let both = disk
            .on_write_error
            .filter(|word| *word != OnError::Enospace);
        disk.on_read_error = self.word(&mut driver, "rerror_policy", &[]).or(both);
        let foreign = [
            "@io",
            "@ioeventfd",
            "@event_idx",
            "@copy_on_read",
            "@iothread",
            "@detect_zeroes",
            "@discard_no_unref",
            "@queues",
            "@queue_size",
            "@iommu",
            "@ats",
            "@packed",
            "@page_per_vq",
            "@metadata_cache",
            "metadata_cache",
            "iothreads",
        ];
        self.leftovers(driver, &foreign);
    }

    /// Without a word libvirt takes a disk for raw, whatever its name says.
    fn unnamed_format(&mut self, disk: &Disk, place: Place) {
        let Some(DiskSource::File(path)) = &disk.source else {
            return;
        };
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let looks = extension
            .parse::<DiskFormat>()
            .ok()
            .filter(|format| *format != DiskFormat::Raw);
        if let Some(looks) = looks {
            let what = format!(
                "<disk> names no format and is carried over as raw: for a file of {looks} write <driver type='{looks}'/>"
            );
            self.note(place, what);
        }
    }

    /// Reads where the content lies; nothing for an empty drive.
    fn source(&mut self, mut source: Element, kind: &str) -> Result<Option<DiskSource>, Foreign> {
        let path = |source: &mut Element, name: &str| {
            let value = source.take_attribute(name).map(|a| a.value);
            value.filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let found = match kind {
            "file" => path(&mut source, "file").map(DiskSource::File),
            "block" => path(&mut source, "dev").map(DiskSource::Block),
            "volume" => {
                let pool = source.take_attribute("pool");
                let volume = source.take_attribute("volume");
                match (pool, volume) {
                    (Some(pool), Some(volume)) => Some(DiskSource::Volume {
                        pool: pool.value,
                        volume: volume.value,
                    }),
                    _ => {
                        let ask = "write pool= and volume=";
                        self.wrong(
                            source.place,
                            "<source> names no volume of a pool",
                            Remedy::Ask(ask.into()),
                        );
                        None
                    }
                }
            }
            "network" => self.web(&mut source)?,
            "dir" | "nvme" | "vhostuser" | "vhostvdpa" => {
                self.note(
                    source.place,
                    format!("<disk type='{kind}'> is not carried over"),
                );
                return Err(Foreign);
            }
            other => {
                let what = format!(
                    "<disk type='{}'>: not file, block, volume or network",
                    shown(other)
                );
                let guessed = [("file", "file"), ("block", "dev")];
                let fits = guessed
                    .into_iter()
                    .find(|(_, name)| source.attribute(name).is_some());
                let Some((kind, name)) = fits else {
                    let ask = "write the type that fits the source";
                    self.wrong(source.place, what, Remedy::Ask(ask.into()));
                    return Ok(None);
                };
                self.wrong(source.place, what, Remedy::Write(format!("type='{kind}'")));
                let path = path(&mut source, name);
                path.map(|path| {
                    if kind == "file" {
                        DiskSource::File(path)
                    } else {
                        DiskSource::Block(path)
                    }
                })
            }
        };
        self.leftovers(source, FOREIGN_SOURCE);
        Ok(found)
    }

    /// Reads a source behind HTTP: a protocol, a host and a name. One address in
    /// one attribute is what people write, and is taken apart.
    fn web(&mut self, source: &mut Element) -> Result<Option<DiskSource>, Foreign> {
        let place = source.place;
        let protocol = source
            .take_attribute("protocol")
            .map(|a| a.value)
            .unwrap_or_default();
        if !matches!(protocol.as_str(), "http" | "https") {
            let what = format!(
                "<disk> over '{}' is not carried over, only http and https",
                shown(&protocol)
            );
            self.note(place, what);
            return Err(Foreign);
        }
        let misplaced = ["path", "url", "href", "file"]
            .iter()
            .find_map(|name| source.take_attribute(name));
        let name = source.take_attribute("name");
        let query = source.take_attribute("query");
        let host = source.take("host");
        let whole = name.as_ref().filter(|name| web_scheme(&name.value));
        let ask = "write <source protocol='https' name='path/of/the/file'><host name='its.host' port='443'/></source>";
        if let Some(address) = misplaced.as_ref().or(whole) {
            let what = match &misplaced {
                Some(wrong) => format!(
                    "<source> of <disk type='network'> has no attribute {}",
                    wrong.name
                ),
                None => "name of <source> is the path on its host, not a whole address".to_owned(),
            };
            let parsed = address.value.parse::<WebAddress>().ok();
            let remedy = match &parsed {
                Some(web) => Remedy::Write(told(web)),
                None => Remedy::Ask(ask.into()),
            };
            self.wrong(address.place, what, remedy);
            return Ok(parsed.map(DiskSource::Web));
        }
        let Some(mut host) = host else {
            self.wrong(
                place,
                "<source> over HTTP names no <host>",
                Remedy::Ask(ask.into()),
            );
            return Ok(None);
        };
        let host_name = host
            .take_attribute("name")
            .map(|a| a.value)
            .unwrap_or_default();
        let port = host
            .take_attribute("port")
            .map(|port| format!(":{}", port.value))
            .unwrap_or_default();
        self.leftovers(host, &["@transport", "@socket"]);
        let name = name.map(|name| name.value).unwrap_or_default();
        let query = query
            .map(|query| format!("?{}", query.value))
            .unwrap_or_default();
        let host_name = if host_name.contains(':') {
            format!("[{host_name}]")
        } else {
            host_name
        };
        let text = format!(
            "{protocol}://{host_name}{port}/{}{query}",
            name.trim_start_matches('/')
        );
        match text.parse::<WebAddress>() {
            Ok(web) => Ok(Some(DiskSource::Web(web))),
            Err(error) => {
                self.wrong(place, format!("<source>: {error}"), Remedy::Ask(ask.into()));
                Ok(None)
            }
        }
    }

    fn backing(&mut self, mut store: Element, chain: &mut Vec<Backing>) {
        let kind = store.take_attribute("type");
        let Some(kind) = kind else {
            // An empty one ends the chain.
            self.leftovers(store, &["@index"]);
            return;
        };
        let mut format = DiskFormat::Raw;
        if let Some(mut element) = store.take("format") {
            format = self
                .word(&mut element, "type", FOREIGN_FORMATS)
                .unwrap_or_default();
            self.leftovers(element, &["metadata_cache"]);
        }
        let source = store
            .take("source")
            .and_then(|source| self.source(source, &kind.value).ok().flatten());
        match source {
            Some(source) => {
                chain.push(Backing { source, format });
                if let Some(next) = store.take("backingStore") {
                    self.backing(next, chain);
                }
            }
            None => self.left_out(store.place, "<backingStore> has no source"),
        }
        self.leftovers(store, &["@index"]);
    }

    /// Reads the name and the bus, and makes them fit each other.
    fn target(&mut self, element: &mut Element, disk: &mut Disk) {
        let (mut name, mut asked, mut place) = (None, None, element.place);
        let mut elsewhere = None;
        if let Some(mut target) = element.take("target") {
            place = target.place;
            name = target.take_attribute("dev").map(|dev| dev.value);
            let foreign = target
                .attribute("bus")
                .filter(|bus| FOREIGN_BUSES.contains(bus));
            elsewhere = foreign.map(str::to_owned);
            match elsewhere {
                Some(_) => drop(target.take_attribute("bus")),
                None => asked = self.word(&mut target, "bus", &[]),
            }
            self.leftovers(target, &["@tray", "@removable", "@rotation_rate", "@dma"]);
        }
        let name = name.unwrap_or_default();
        let drive = if disk.device == DiskDevice::Cdrom {
            Bus::Sata
        } else {
            Bus::Virtio
        };
        let implied = match name.get(..2) {
            _ if elsewhere.is_some() => Bus::Sata,
            Some("vd") => Bus::Virtio,
            // As libvirt takes it.
            Some("sd") => Bus::Scsi,
            Some("hd") => Bus::Ide,
            _ => drive,
        };
        let stands = asked.unwrap_or(implied);
        let (mut what, mut fixes) = (Vec::new(), Vec::new());
        disk.bus = stands;
        if disk.device == DiskDevice::Cdrom && stands == Bus::Virtio {
            what.push("there is no optical drive on virtio".to_owned());
            disk.bus = drive;
            fixes.push(format!("bus='{drive}'"));
        }
        if name.is_empty() {
            what.push("the disk has no name".to_owned());
        } else if !stands.fits(&name) {
            what.push(format!("names on {stands} begin with {}", stands.prefix()));
        } else if self.taken.contains(&name) {
            what.push("another disk has this name".to_owned());
        }
        disk.target = name.clone();
        // The name stays where it fits the bus that it came to.
        if !disk.bus.fits(&name) || self.taken.contains(&name) {
            // Nor is it one that a disk further down gives itself.
            let used = |name: &str| self.taken.contains(name) || self.targets.contains(name);
            disk.target = disk.bus.free_target(used);
            fixes.push(format!("dev='{}'", disk.target));
        }
        self.taken.insert(disk.target.clone());
        if let Some(bus) = elsewhere {
            let (target, to) = (&disk.target, disk.bus);
            let what = format!("bus='{bus}' of <target> is carried over as {to}, {target}");
            self.note(place, what);
        } else if !what.is_empty() {
            let bus = asked.map(|bus| format!(" bus='{bus}'")).unwrap_or_default();
            let what = format!(
                "<target dev='{}'{bus}>: {}",
                shown(&name),
                what.join(", and ")
            );
            self.wrong(place, what, Remedy::Write(fixes.join(" ")));
        }
    }
}

/// What is not carried over takes the whole disk with it.
struct Foreign;

/// Tells whether what should be a path begins like a whole address. Written
/// with a slash before it, it is a path that only looks like one.
pub(in crate::domain) fn web_scheme(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// The right words for an address.
fn told(web: &WebAddress) -> String {
    let scheme = if web.is_secure() { "https" } else { "http" };
    let path = web.path().trim_start_matches('/');
    let (name, query) = match path.split_once('?') {
        Some((name, query)) => (name, format!(" query='{query}'")),
        None => (path, String::new()),
    };
    let (host, port) = (web.host(), web.port());
    format!(
        "<source protocol='{scheme}' name='{name}'{query}><host name='{host}' port='{port}'/></source>"
    )
}
