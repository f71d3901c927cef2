//! What a machine has and libvirt's words do not: an element of its own in
//! `<metadata>`, which libvirt keeps and does not read.

use hyperion_model::machine::{MachineImage, Restart, Seed, SeedUser, Service, Starts};
use hyperion_model::{Bytes, MachineSpec};

use super::Remedy;
use super::read::{Reading, exact, shown};
use crate::xml::Element;

/// The name space of what is ours.
pub(super) const SPACE: &str = "urn:hyperion:machine:1";
/// That of libosinfo, which names systems.
pub(super) const LIBOSINFO: &str = "http://libosinfo.org/xmlns/libvirt/domain/1.0";
/// The channel of the agent that Linux distributions and the drivers of Windows bring.
pub(super) const AGENT: &str = "org.qemu.guest_agent.0";

/// Writes `<metadata>`, when there is something for it.
pub(super) fn metadata(spec: &MachineSpec) -> Option<Element> {
    let mut parts = Vec::new();
    if let Some(variant) = &spec.os_variant {
        let system = Element::new("libosinfo:os").with("id", variant);
        parts.push(
            Element::new("libosinfo:libosinfo")
                .with("xmlns:libosinfo", LIBOSINFO)
                .and([system]),
        );
    }
    let mut own = Element::new("hyperion:machine").with("xmlns:hyperion", SPACE);
    if spec.autostart {
        own = own.with("autostart", "yes");
    }
    for disk in &spec.disks {
        if let Some(size) = disk.size {
            let (number, unit) = exact(size);
            let disk = Element::new("hyperion:disk").with("target", &disk.target);
            own = own.and([disk.with("size", number).with("unit", unit)]);
        }
    }
    own = own.and(spec.seed.as_ref().map(seed));
    own = own.and(spec.image.as_ref().map(image));
    if own.attributes.len() > 1 || !own.children.is_empty() {
        parts.push(own);
    }
    (!parts.is_empty()).then(|| Element::new("metadata").and(parts))
}

fn seed(seed: &Seed) -> Element {
    let mut element = Element::new("hyperion:seed");
    if let Some(hostname) = &seed.hostname {
        element = element.with("hostname", hostname);
    }
    for user in &seed.users {
        let mut part = Element::new("hyperion:user").with("name", &user.name);
        if user.admin {
            part = part.with("admin", "yes");
        }
        let keys = user
            .keys
            .iter()
            .map(|key| Element::new("hyperion:key").holding(key));
        element = element.and([part.and(keys)]);
    }
    let data = seed.user_data.as_ref();
    element.and(data.map(|data| Element::new("hyperion:user-data").holding(data)))
}

fn image(image: &MachineImage) -> Element {
    let element = Element::new("hyperion:image").with("reference", &image.reference);
    let element = element.with("digest", &image.digest);
    let Starts::Service(service) = &image.starts else {
        return element;
    };
    let mut part = Element::new("hyperion:service").with("restart", service.restart);
    for (name, value) in [
        ("user", &service.user),
        ("folder", &service.folder),
        ("stop-signal", &service.stop_signal),
    ] {
        if let Some(value) = value {
            part = part.with(name, value);
        }
    }
    let words = service.command.iter();
    let part = part.and(words.map(|word| Element::new("hyperion:word").holding(word)));
    let env = service.env.iter();
    element.and([part.and(env.map(|env| Element::new("hyperion:env").holding(env)))])
}

impl Reading {
    /// Reads what is ours, when the disks are known.
    pub(super) fn own(&mut self, mut own: Element, spec: &mut MachineSpec) {
        plain_names(&mut own);
        spec.autostart = self.either(&mut own, "autostart", "yes", "no") == Some(true);
        for mut part in own.take_all(|child| child.name == "disk") {
            let target = part
                .take_attribute("target")
                .map(|target| target.value)
                .unwrap_or_default();
            let size = part
                .take_attribute("size")
                .map(|size| size.value)
                .unwrap_or_default();
            let unit = part
                .take_attribute("unit")
                .map_or("bytes".to_owned(), |unit| unit.value);
            let unit = if unit == "bytes" { "B" } else { unit.as_str() };
            let size = format!("{size}{unit}").parse::<Bytes>().ok();
            let disk = spec.disks.iter_mut().find(|disk| disk.target == target);
            match (disk, size) {
                (Some(disk), Some(size)) => disk.size = Some(size),
                _ => {
                    let what = format!(
                        "<disk target='{}'> of <machine> is no size of a disk that is there",
                        shown(&target)
                    );
                    let ask = "write the target of a disk, its size='10' and unit='GiB'";
                    self.wrong(part.place, what, Remedy::Ask(ask.into()));
                }
            }
            self.leftovers(part, &[]);
        }
        if let Some(mut part) = own.take("seed") {
            self.stands("seed", part.place);
            let mut seed = Seed {
                hostname: part.take_attribute("hostname").map(|name| name.value),
                ..Seed::default()
            };
            for mut user in part.take_all(|child| child.name == "user") {
                self.stands(format!("seed.users[{}]", seed.users.len()), user.place);
                let name = user.take_attribute("name").map(|name| name.value);
                let admin = self.either(&mut user, "admin", "yes", "no") == Some(true);
                let mut keys = Vec::new();
                for mut key in user.take_all(|child| child.name == "key") {
                    keys.push(std::mem::take(&mut key.text).trim().to_owned());
                    self.leftovers(key, &[]);
                }
                seed.users.push(SeedUser {
                    name: name.unwrap_or_default(),
                    keys,
                    admin,
                });
                self.leftovers(user, &[]);
            }
            if let Some(mut data) = part.take("user-data") {
                seed.user_data = Some(std::mem::take(&mut data.text));
                self.leftovers(data, &[]);
            }
            spec.seed = Some(seed);
            self.leftovers(part, &[]);
        }
        if let Some(mut part) = own.take("image") {
            self.stands("image", part.place);
            let value = |part: &mut Element, name| Some(part.take_attribute(name)?.value);
            let mut image = MachineImage {
                reference: value(&mut part, "reference").unwrap_or_default(),
                digest: value(&mut part, "digest").unwrap_or_default(),
                starts: Starts::Init,
            };
            if let Some(mut part) = part.take("service") {
                let restart = part.take_attribute("restart");
                let restart = restart.map(|word| (word.value.parse::<Restart>(), word.place));
                let mut service = Service {
                    user: value(&mut part, "user"),
                    folder: value(&mut part, "folder"),
                    stop_signal: value(&mut part, "stop-signal"),
                    ..Service::default()
                };
                match restart {
                    Some((Ok(restart), _)) => service.restart = restart,
                    Some((Err(error), place)) => {
                        let ask = Remedy::Ask("write one of them".into());
                        self.wrong(place, error.to_string(), ask);
                    }
                    None => {}
                }
                for (name, list) in [("word", &mut service.command), ("env", &mut service.env)] {
                    for mut word in part.take_all(|child| child.name == name) {
                        list.push(std::mem::take(&mut word.text));
                        self.leftovers(word, &[]);
                    }
                }
                image.starts = Starts::Service(service);
                self.leftovers(part, &[]);
            }
            spec.image = Some(image);
            self.leftovers(part, &[]);
        }
        self.leftovers(own, &[]);
    }
}

/// Takes the prefix away that the document chose.
fn plain_names(element: &mut Element) {
    let prefix = element
        .name
        .split_once(':')
        .map(|(prefix, _)| format!("{prefix}:"));
    let Some(prefix) = prefix else { return };
    let mut open = vec![element];
    while let Some(element) = open.pop() {
        if let Some(plain) = element.name.strip_prefix(&prefix) {
            element.name = plain.to_owned();
        }
        open.extend(&mut element.children);
    }
}
