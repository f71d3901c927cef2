//! Network cards.

use core::net::{IpAddr, Ipv4Addr};

use hyperion_model::MachineSpec;
use hyperion_model::machine::{
    BootDevice, Interface, InterfaceKind, Mac, NicModel, PortForward, Protocol,
};

use super::super::Remedy;
use super::{Reading, number, shown};
use crate::xml::Element;

/// What libvirt knows of a network card and a machine does not have.
const FOREIGN: &[&str] = &[
    "@trustGuestRxFilters",
    "@managed",
    "driver",
    "bandwidth",
    "filterref",
    "guest",
    "ip",
    "route",
    "script",
    "downscript",
    "mtu",
    "coalesce",
    "vlan",
    "virtualport",
    "port",
    "rom",
    "tune",
    "teaming",
    "backenddomain",
    "link",
    "target",
    "source",
    "local",
];

/// The most ports of one range.
const MOST_PORTS: u16 = 1024;

impl Reading {
    pub(super) fn interface(&mut self, mut element: Element, spec: &mut MachineSpec) {
        let place = element.place;
        let kind = self.interface_kind(&mut element);
        let model = self.nic_model(&mut element);
        let mut mac = None;
        if let Some(mut element) = element.take("mac") {
            mac = self.word::<Mac>(&mut element, "address", &[]);
            if let Some(bad) = mac.filter(|mac| mac.is_multicast()) {
                let what = format!("<mac address='{bad}'>: the address of a group, not of a card");
                self.left_out(element.place, what);
                mac = None;
            }
            self.leftovers(element, &["@type", "@check", "@currentAddress"]);
        }
        if let Some(mut backend) = element.take("backend") {
            // Which program does it is the backend's choice.
            if backend.attribute("type") == Some("passt") {
                backend.take_attribute("type");
            }
            self.leftovers(backend, &["@type", "@logFile", "@tap", "@vhost"]);
        }
        let mut forwards = Vec::new();
        for part in element.take_all(|child| child.name == "portForward") {
            self.forwards(part, &mut forwards);
        }
        let at = spec.interfaces.len();
        self.stands(format!("interfaces[{at}]"), place);
        self.tried(
            &mut element,
            BootDevice::Interface(u32::try_from(at).unwrap_or(u32::MAX)),
        );
        self.leftovers(element, FOREIGN);
        spec.interfaces.push(Interface {
            kind,
            model,
            mac,
            forwards,
        });
    }

    fn interface_kind(&mut self, element: &mut Element) -> InterfaceKind {
        let kind = element.take_attribute("type");
        let place = element.place;
        let source = |element: &mut Element, name: &str| {
            let source = element
                .children
                .iter_mut()
                .find(|child| child.name == "source");
            let value = source.and_then(|source| source.take_attribute(name));
            element.take_all(|e| {
                e.name == "source" && e.attributes.is_empty() && e.children.is_empty()
            });
            value.map(|value| value.value)
        };
        match kind.as_ref().map_or("", |kind| kind.value.as_str()) {
            "user" => InterfaceKind::User,
            "null" => InterfaceKind::None,
            "bridge" => match source(element, "bridge") {
                Some(name) => InterfaceKind::Bridge(name),
                None => {
                    let ask = "write <source bridge='br0'/>, with the bridge's name";
                    self.wrong(
                        place,
                        "<interface type='bridge'> names no bridge",
                        Remedy::Ask(ask.into()),
                    );
                    InterfaceKind::None
                }
            },
            "ethernet" => {
                let target = element.take("target");
                let name = target.and_then(|mut target| {
                    let name = target.take_attribute("dev").map(|name| name.value);
                    target.take_attribute("managed");
                    self.leftovers(target, &[]);
                    name
                });
                name.map_or_else(
                    || {
                        self.note(place, "<interface type='ethernet'> names no tap and is carried over as type='user'");
                        InterfaceKind::User
                    },
                    InterfaceKind::Tap,
                )
            }
            "network" => {
                let name = source(element, "network").unwrap_or_default();
                let what = format!(
                    "<interface type='network'>: libvirt's network '{}' is carried over as type='user'; for one of the host's name its bridge",
                    shown(&name)
                );
                self.note(place, what);
                InterfaceKind::User
            }
            other @ ("direct" | "hostdev" | "vhostuser" | "vdpa" | "vds" | "udp" | "mcast"
            | "server" | "client" | "internal") => {
                let what =
                    format!("<interface type='{other}'> is carried over as a card without a cable");
                self.note(place, what);
                InterfaceKind::None
            }
            other => {
                let what = format!(
                    "<interface type='{}'>: not user, bridge or ethernet",
                    shown(other)
                );
                self.wrong(place, what, Remedy::Write("type='user'".into()));
                InterfaceKind::User
            }
        }
    }

    fn nic_model(&mut self, element: &mut Element) -> NicModel {
        const OTHERS: &[&str] = &[
            "ne2k_pci",
            "ne2k_isa",
            "pcnet",
            "i82551",
            "i82557b",
            "i82559er",
            "vmxnet3",
            "igb",
            "usb-net",
            "netfront",
            "spapr-vlan",
            "lan9118",
            "smc91c111",
        ];
        let Some(mut model) = element.take("model") else {
            // As libvirt takes it.
            return NicModel::Rtl8139;
        };
        let place = model.place;
        let word = model
            .take_attribute("type")
            .map(|word| word.value)
            .unwrap_or_default();
        self.leftovers(model, &[]);
        if let Ok(known) = word.parse() {
            return known;
        }
        let (near, right) = match word.as_str() {
            "virtio-transitional" | "virtio-non-transitional" => (NicModel::Virtio, true),
            other if OTHERS.contains(&other) => (NicModel::E1000, true),
            other if other.starts_with("virtio") => (NicModel::Virtio, false),
            other if other.starts_with("e1000") => (NicModel::E1000, false),
            _ => (NicModel::Virtio, false),
        };
        if right {
            self.note(
                place,
                format!("<model type='{word}'> of <interface> is carried over as {near}"),
            );
        } else {
            let what = format!("<model type='{}'>: no such network card", shown(&word));
            self.wrong(
                place,
                what,
                Remedy::Write(format!("<model type='{near}'/>")),
            );
        }
        near
    }

    fn forwards(&mut self, mut part: Element, forwards: &mut Vec<PortForward>) {
        let protocol: Protocol = self.word(&mut part, "proto", &[]).unwrap_or_default();
        let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address = self
            .word::<IpAddr>(&mut part, "address", &[])
            .unwrap_or(everywhere);
        for mut range in part.take_all(|child| child.name == "range") {
            let mut port = |name: &str| {
                let value = range.take_attribute(name);
                value.map(|value| number(&value.value).and_then(|n| u16::try_from(n).ok()))
            };
            let (start, end, to, out) = (port("start"), port("end"), port("to"), port("exclude"));
            let start = start.flatten();
            // What is excluded is forwarded to nobody.
            if out.is_some() {
                self.note(
                    range.place,
                    "excluded ranges of <portForward> are not carried over",
                );
                continue;
            }
            let end = end.map_or(start, |end| end);
            let to = to.map_or(start, |to| to);
            let ports = match (start, end, to) {
                (Some(start), Some(end), Some(to)) => end
                    .checked_sub(start)
                    .filter(|more| *more < MOST_PORTS && to.checked_add(*more).is_some() && to > 0)
                    .map(|more| (start, to, more)),
                _ => None,
            };
            match ports {
                Some((start, to, more)) => forwards.extend((0..=more).map(|n| PortForward {
                    address,
                    host: start + n,
                    guest: to + n,
                    protocol,
                })),
                None => self.left_out(range.place, "<range> is not a range of at most 1024 ports"),
            }
            self.leftovers(range, &[]);
        }
        self.leftovers(part, &["@dev"]);
    }

    /// A `<controller>` that names a network card is meant to be one.
    pub(super) fn misnamed_card(&mut self, element: &mut Element, spec: &mut MachineSpec) -> bool {
        let text = element.take("model").map(|model| {
            let word = model
                .attribute("type")
                .or(model.attribute("name"))
                .map(str::to_owned);
            word.unwrap_or_else(|| model.text.trim().to_owned())
        });
        let attribute = element.attribute("model").map(str::to_owned);
        let word = text.or(attribute).unwrap_or_default();
        let model = match word.as_str() {
            "virtio-net" | "virtio-net-pci" => NicModel::Virtio,
            other => match other.parse() {
                Ok(NicModel::Virtio) | Err(_) => return false,
                Ok(model) => model,
            },
        };
        let kind = element.attribute("type").unwrap_or_default();
        let what = format!(
            "<controller type='{}'> with the model {word}: a network card is an <interface>",
            shown(kind)
        );
        let right = format!("<interface type='user'><model type='{model}'/></interface>");
        self.wrong(element.place, what, Remedy::Write(right));
        let at = spec.interfaces.len();
        self.stands(format!("interfaces[{at}]"), element.place);
        spec.interfaces.push(Interface {
            model,
            ..Interface::default()
        });
        true
    }
}
