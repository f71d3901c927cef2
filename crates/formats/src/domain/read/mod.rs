//! From the tree to the machine. Whatever is understood is taken out of the
//! tree; what is left of each element is a note or a mistake.

mod amounts;
mod cpu;
mod devices;
mod disk;
mod interface;
mod leftovers;
mod os;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use hyperion_model::machine::{BootDevice, HugePages, Memory};
use hyperion_model::{Bytes, MachineSpec, Name};

pub(super) use amounts::exact;
use amounts::number;
pub(super) use disk::web_scheme;

use super::own;
use super::{Note, Remedy, Repair};
use crate::xml::{Attribute, Element, Place};

/// The processors that the sets of one document may name in all: a few bytes
/// can say a great many.
const MOST_CPUS: usize = 1 << 20;

/// Elements that belong into `<devices>`.
const DEVICES: &[&str] = &[
    "disk",
    "controller",
    "interface",
    "graphics",
    "video",
    "console",
    "serial",
    "channel",
    "filesystem",
    "rng",
    "input",
    "sound",
    "watchdog",
    "memballoon",
    "hostdev",
    "emulator",
    "tpm",
    "redirdev",
];

/// What libvirt knows of a domain and a machine does not have.
const FOREIGN: &[&str] = &[
    "@id",
    "genid",
    "iothreads",
    "iothreadids",
    "defaultiothread",
    "memtune",
    "blkiotune",
    "resource",
    "sysinfo",
    "idmap",
    "pm",
    "perf",
    "seclabel",
    "keywrap",
    "launchSecurity",
    "bootloader",
    "bootloader_args",
    "on_lockfailure",
    "vcpus",
    "maxMemory",
    "throttlegroups",
];

/// What is learnt on the way.
pub(super) struct Reading {
    repairs: Vec<Repair>,
    notes: BTreeMap<String, Vec<u32>>,
    /// Where the parts of the machine stand, by the paths of its problems.
    places: BTreeMap<String, Place>,
    cpus_left: usize,
    /// Devices that say themselves when they are tried.
    boot: Vec<(u32, Place, BootDevice)>,
    /// Kinds of devices that are tried: `hd`, `cdrom`, `network`.
    boot_classes: Vec<Attribute>,
    /// Names of disks that the document gives, each once.
    targets: BTreeSet<String>,
    /// Names that disks have got.
    taken: BTreeSet<String>,
}

/// Reads all of a domain; no machine where something is missing without which
/// there is none, and then a repair says so.
pub(super) fn domain(mut root: Element) -> (Option<MachineSpec>, Vec<Repair>, Vec<Note>) {
    let mut reading = Reading {
        repairs: Vec::new(),
        notes: BTreeMap::new(),
        places: BTreeMap::new(),
        cpus_left: MOST_CPUS,
        boot: Vec::new(),
        boot_classes: Vec::new(),
        targets: BTreeSet::new(),
        taken: BTreeSet::new(),
    };
    let start = root.place;
    let mut spec = reading.spec(&mut root);
    reading.leftovers(root, FOREIGN);
    if let Some(spec) = &mut spec {
        reading.check(spec, start);
    }
    reading.repairs.sort_by_key(|repair| repair.place);
    let mut notes: Vec<Note> = Vec::new();
    for (what, mut lines) in reading.notes {
        lines.sort_unstable();
        lines.dedup();
        notes.push(Note { lines, what });
    }
    notes.sort_by(|a, b| a.lines.cmp(&b.lines));
    (spec, reading.repairs, notes)
}

impl Reading {
    fn spec(&mut self, root: &mut Element) -> Option<MachineSpec> {
        let start = root.place;
        let emulated = self.kind(root);
        let name = self.name(root);
        let memory = self.memory(root);
        // What is missing is told together with all else that is wrong.
        let placeholder = || "unnamed".parse::<Name>().ok();
        let known = name.is_some() && memory.is_some();
        let mut spec = MachineSpec::new(name.or_else(placeholder)?, Bytes::mib(1), 1);
        spec.emulated = emulated;
        if let Some(memory) = memory {
            spec.memory = memory;
        }
        spec.uuid = self.text(root, "uuid", &[]).and_then(|(text, place)| {
            let what = "<uuid>";
            self.parsed(&text, place, what)
        });
        if let Some((mut title, place)) = self.text(root, "title", &[]) {
            if title.contains(['\n', '\t']) {
                title = title.split_whitespace().collect::<Vec<_>>().join(" ");
                self.wrong(
                    place,
                    "<title> is not one line",
                    Remedy::Write(shown(&title)),
                );
            }
            spec.title = Some(title).filter(|title| !title.is_empty());
        }
        if let Some(mut description) = root.take("description") {
            let text = std::mem::take(&mut description.text);
            spec.description = Some(text).filter(|text| !text.trim().is_empty());
            self.leftovers(description, &[]);
        }
        let mut own = self.metadata(root, &mut spec);
        self.vcpus(root, &mut spec.vcpus);
        self.cputune(root, &mut spec.vcpus);
        self.os(root, &mut spec);
        self.features(root, &mut spec);
        spec.cpu = self.cpu(root, &mut spec.vcpus);
        self.numatune(root, &mut spec);
        self.clock(root, &mut spec);
        self.ends(root, &mut spec);
        let devices = self.device_list(root, start);
        self.devices(devices, &mut spec);
        if let Some(own) = own.take() {
            self.own(own, &mut spec);
        }
        self.boot_order(&mut spec);
        self.backing_of_memory(root, &mut spec);
        known.then_some(spec)
    }

    /// Lets the model look at what came out, and finds the lines of its problems.
    fn check(&mut self, spec: &MachineSpec, start: Place) {
        // What could not be read was told already; its consequences need not be.
        if self.repairs.iter().any(|repair| !repair.is_possible()) {
            return;
        }
        let Err(problems) = spec.validate() else {
            return;
        };
        for problem in problems.0 {
            let fits = |path: &&String| problem.path.starts_with(path.as_str());
            let nearest = self
                .places
                .keys()
                .filter(fits)
                .max_by_key(|path| path.len());
            let place = nearest.map_or(start, |path| self.places[path]);
            let what = format!("{}: {}", problem.path, problem.what);
            self.wrong(place, what, Remedy::Ask(problem.fix));
        }
    }

    fn kind(&mut self, root: &mut Element) -> bool {
        const OTHERS: [&str; 10] = [
            "xen",
            "hvf",
            "bhyve",
            "vmware",
            "hyperv",
            "vbox",
            "parallels",
            "vz",
            "phyp",
            "test",
        ];
        let Some(kind) = root.take_attribute("type") else {
            let what = "<domain> has no type";
            self.wrong(root.place, what, Remedy::Add("type='kvm'".into()));
            return false;
        };
        match kind.value.as_str() {
            "kvm" => {}
            "qemu" => return true,
            other if OTHERS.contains(&other) => {
                let what = format!(
                    "<domain type='{other}'>: what runs a machine is chosen when it is made"
                );
                self.note(kind.place, what);
            }
            "lxc" | "openvz" | "uml" => {
                let what = format!("<domain type='{}'> is not a virtual machine", kind.value);
                let fix = "run it as a container, from an image";
                self.wrong(kind.place, what, Remedy::Ask(fix.into()));
            }
            other => {
                let what = format!("<domain type='{}'>: no such type", shown(other));
                self.wrong(kind.place, what, Remedy::Write("type='kvm'".into()));
            }
        }
        false
    }

    fn name(&mut self, root: &mut Element) -> Option<Name> {
        let Some((text, place)) = self.text(root, "name", &[]) else {
            let ask = "add <name>, of letters, digits, '_', '.' and '-'";
            self.wrong(
                root.place,
                "the machine has no name",
                Remedy::Ask(ask.into()),
            );
            return None;
        };
        match text.parse::<Name>() {
            Ok(name) => Some(name),
            Err(error) => {
                let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
                let mended: String = text
                    .chars()
                    .map(|c| if fine(c) { c } else { '-' })
                    .collect();
                let mended: String = mended
                    .trim_matches(['-', '.', '_'])
                    .chars()
                    .take(64)
                    .collect();
                let mended = mended.parse::<Name>().ok();
                let remedy = match &mended {
                    Some(name) => Remedy::Write(format!("<name>{name}</name>")),
                    None => Remedy::Ask("write a name of letters and digits".into()),
                };
                self.wrong(place, error.to_string(), remedy);
                mended
            }
        }
    }

    fn memory(&mut self, root: &mut Element) -> Option<Memory> {
        let Some(element) = root.take("memory") else {
            let ask = "add <memory unit='MiB'>, with a number";
            self.wrong(
                root.place,
                "the machine has no memory",
                Remedy::Ask(ask.into()),
            );
            return None;
        };
        self.stands("memory", element.place);
        let whole = self.amount(element, &["@dumpCore"]);
        let current = root.take("currentMemory").and_then(|e| self.amount(e, &[]));
        let whole = whole?;
        let size = current.filter(|current| *current < whole).unwrap_or(whole);
        Some(Memory {
            size,
            max: Some(whole).filter(|whole| *whole > size),
            hugepages: None,
            from: None,
        })
    }

    /// Huge pages, and what shared folders need; read when those are known.
    fn backing_of_memory(&mut self, root: &mut Element, spec: &mut MachineSpec) {
        let Some(mut backing) = root.take("memoryBacking") else {
            return;
        };
        if let Some(mut pages) = backing.take("hugepages") {
            let mut sizes = pages.take_all(|child| child.name == "page").into_iter();
            spec.memory.hugepages = Some(HugePages::Default);
            if let Some(mut page) = sizes.next() {
                let size = page.take_attribute("size");
                let unit = page.take_attribute("unit");
                let size = size
                    .and_then(|size| self.scaled(&size.value, unit.as_ref(), &page, size.place));
                if let Some(size) = size {
                    spec.memory.hugepages = Some(HugePages::Of(size));
                }
                self.leftovers(page, &["@nodeset"]);
            }
            for page in sizes {
                self.note(
                    page.place,
                    "a second size of huge pages is not carried over",
                );
            }
            self.leftovers(pages, &[]);
        }
        let shared = !spec.shares.is_empty();
        let implied = [("source", "type", "memfd"), ("access", "mode", "shared")];
        for (name, attribute, value) in implied {
            // Written beside shared folders, which need it.
            backing.take_all(|e| shared && e.name == name && e.attribute(attribute) == Some(value));
        }
        let foreign = [
            "nosharepages",
            "locked",
            "source",
            "access",
            "allocation",
            "discard",
        ];
        self.leftovers(backing, &foreign);
    }

    fn ends(&mut self, root: &mut Element, spec: &mut MachineSpec) {
        for (name, usual) in [
            ("on_poweroff", "destroy"),
            ("on_reboot", "restart"),
            ("on_crash", "destroy"),
        ] {
            if let Some((text, place)) = self.text(root, name, &[])
                && text != usual
            {
                if let ("on_crash", Ok(word)) = (name, text.parse()) {
                    spec.on_crash = word;
                    continue;
                }
                self.note(place, format!("<{name}>{}: not carried over", shown(&text)));
            }
        }
    }

    fn metadata(&mut self, root: &mut Element, spec: &mut MachineSpec) -> Option<Element> {
        let mut metadata = root.take("metadata")?;
        let mut own_part = None;
        for mut part in std::mem::take(&mut metadata.children) {
            let prefix = part.name.split_once(':').map_or("", |(prefix, _)| prefix);
            let key = if prefix.is_empty() {
                "xmlns".to_owned()
            } else {
                format!("xmlns:{prefix}")
            };
            let space = [&part, &metadata, root]
                .iter()
                .find_map(|e| e.attribute(&key).map(str::to_owned));
            match space.as_deref() {
                Some(own::SPACE) if own_part.is_none() && part.local_name() == "machine" => {
                    own_part = Some(part);
                }
                Some(own::LIBOSINFO) if part.local_name() == "libosinfo" => {
                    let system = part.children.iter_mut().find(|e| e.local_name() == "os");
                    let id = system.and_then(|os| os.take_attribute("id"));
                    spec.os_variant = id.map(|id| id.value);
                    part.attributes.clear();
                }
                _ => {
                    let what = format!("<{}> of <metadata> is not carried over", shown(&part.name));
                    self.note(part.place, what);
                }
            }
        }
        own_part
    }

    /// Gives the devices, with those that stand beside the list.
    fn device_list(&mut self, root: &mut Element, start: Place) -> Element {
        let mut devices = root.take("devices").unwrap_or_else(|| {
            self.wrong(
                start,
                "there is no <devices>",
                Remedy::Add("<devices>".into()),
            );
            Element::new("devices")
        });
        let strays = root.take_all(|child| DEVICES.contains(&child.name.as_str()));
        for stray in &strays {
            let what = format!("<{}> stands outside of <devices>", stray.name);
            self.wrong(stray.place, what, Remedy::Move("<devices>"));
        }
        devices.children.extend(strays);
        devices
    }

    // What follows serves every part.

    pub(super) fn wrong(&mut self, place: Place, what: impl Into<String>, remedy: Remedy) {
        self.repairs.push(Repair {
            place,
            what: what.into(),
            remedy,
        });
    }

    /// Remembers where a part of the machine stands.
    pub(super) fn stands(&mut self, path: impl Into<String>, place: Place) {
        self.places.insert(path.into(), place);
    }

    fn note(&mut self, place: Place, what: impl Into<String>) {
        self.notes.entry(what.into()).or_default().push(place.line);
    }

    fn left_out(&mut self, place: Place, what: impl Into<String>) {
        self.wrong(place, what, Remedy::LeaveOut);
    }

    /// Takes an element that holds text and nothing else.
    pub(super) fn text(
        &mut self,
        parent: &mut Element,
        name: &str,
        foreign: &[&str],
    ) -> Option<(String, Place)> {
        let mut element = parent.take(name)?;
        let text = std::mem::take(&mut element.text).trim().to_owned();
        let place = element.place;
        self.leftovers(element, foreign);
        Some((text, place))
    }

    /// Reads a word, or tells why it is none.
    fn parsed<T>(&mut self, text: &str, place: Place, what: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.left_out(place, format!("{what}: {error}"));
                None
            }
        }
    }

    /// Takes an attribute that is one of a list of words. `foreign` are those
    /// that are right and not carried over.
    fn word<T>(&mut self, element: &mut Element, name: &str, foreign: &[&str]) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let Attribute { value, place, .. } = element.take_attribute(name)?;
        if foreign.contains(&value.as_str()) {
            let what = format!("{name}='{value}' of <{}> is not carried over", element.name);
            self.note(place, what);
            return None;
        }
        self.parsed(&value, place, &format!("{name} of <{}>", element.name))
    }

    /// Takes a number.
    fn number(&mut self, element: &mut Element, name: &str) -> Option<u32> {
        let Attribute { value, place, .. } = element.take_attribute(name)?;
        let number = number(&value);
        if number.is_none() {
            let what = format!(
                "<{} {name}='{}'>: not a number",
                element.name,
                shown(&value)
            );
            self.left_out(place, what);
        }
        number
    }

    /// Takes one of two words.
    pub(super) fn either(
        &mut self,
        element: &mut Element,
        name: &str,
        yes: &str,
        no: &str,
    ) -> Option<bool> {
        let Attribute { value, place, .. } = element.take_attribute(name)?;
        if value == yes || value == no {
            return Some(value == yes);
        }
        let what = format!(
            "<{} {name}='{}'>: neither {yes} nor {no}",
            element.name,
            shown(&value)
        );
        self.left_out(place, what);
        None
    }
}

/// Shortens what others wrote, and takes out what a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(60)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}
