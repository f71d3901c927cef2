//! Everything else that is plugged in.

use hyperion_model::MachineSpec;
use hyperion_model::machine::{
    Console, Graphics, Share, ShareKind, VncListen, Watchdog, WatchdogAction,
};

use super::super::{Remedy, own};
use super::{Reading, shown};
use crate::xml::{Element, Place};

/// What every machine gets as it needs it.
const IMPLIED: &[&str] = &[
    "emulator",
    "controller",
    "input",
    "memballoon",
    "hub",
    "panic",
];

/// The most devices: more than any board has places for.
const MOST_DEVICES: usize = 1024;

/// What libvirt knows and a machine does not have.
const FOREIGN: &[&str] = &[
    "sound",
    "audio",
    "hostdev",
    "redirdev",
    "redirfilter",
    "smartcard",
    "tpm",
    "shmem",
    "memory",
    "iommu",
    "vsock",
    "crypto",
    "lease",
    "parallel",
    "nvram",
    "pstore",
];

impl Reading {
    pub(super) fn devices(&mut self, mut devices: Element, spec: &mut MachineSpec) {
        if devices.children.len() > MOST_DEVICES {
            let what = format!("<devices> has {} elements", devices.children.len());
            let ask = format!("leave all but {MOST_DEVICES} out");
            self.wrong(devices.place, what, Remedy::Ask(ask));
            return;
        }
        // Names that stand there are not given to others.
        for disk in devices.children.iter().filter(|child| child.name == "disk") {
            let target = disk.children.iter().find(|child| child.name == "target");
            let name = target.and_then(|target| target.attribute("dev"));
            self.targets.extend(name.map(str::to_owned));
        }
        spec.console = Console::None;
        let mut left = Vec::new();
        for mut child in std::mem::take(&mut devices.children) {
            match child.name.as_str() {
                "disk" => self.disk(child, spec),
                "interface" => self.interface(child, spec),
                "filesystem" => self.share(child, spec),
                "graphics" => self.graphics(child, spec),
                "video" => self.video(child, spec),
                "serial" | "console" => self.console(child, spec),
                "channel" => self.channel(child, spec),
                "rng" => self.rng(child, spec),
                "watchdog" => self.watchdog(child, spec),
                "controller" => {
                    let known = [
                        "ide",
                        "fdc",
                        "scsi",
                        "sata",
                        "usb",
                        "ccid",
                        "virtio-serial",
                        "pci",
                        "xenbus",
                        "isa",
                        "nvme",
                    ];
                    let kind = child.attribute("type").unwrap_or_default().to_owned();
                    if known.contains(&kind.as_str()) {
                        self.note(
                            child.place,
                            "<controller>: every machine gets those that it needs",
                        );
                    } else if !self.misnamed_card(&mut child, spec) {
                        let what =
                            format!("<controller type='{}'>: no such controller", shown(&kind));
                        self.left_out(child.place, what);
                    }
                }
                name if IMPLIED.contains(&name) => {
                    let what = format!("<{name}>: every machine gets what it needs");
                    self.note(child.place, what);
                }
                _ => left.push(child),
            }
        }
        devices.children = left;
        self.leftovers(devices, FOREIGN);
    }

    fn share(&mut self, mut element: Element, spec: &mut MachineSpec) {
        let place = element.place;
        let mut kind = ShareKind::Ninep;
        if let Some(mut driver) = element.take("driver") {
            if let Some(word) = driver.take_attribute("type") {
                match word.value.as_str() {
                    "virtiofs" => kind = ShareKind::Virtiofs,
                    "path" | "handle" | "mtp" => {}
                    other => {
                        let what = format!(
                            "<driver type='{}'> of <filesystem> is not carried over",
                            shown(other)
                        );
                        self.note(word.place, what);
                    }
                }
            }
            self.leftovers(
                driver,
                &[
                    "@wrpolicy",
                    "@format",
                    "@name",
                    "@queue",
                    "@iommu",
                    "@ats",
                    "@packed",
                ],
            );
        }
        if let Some(word) = element
            .take_attribute("type")
            .filter(|word| word.value != "mount")
        {
            let what = format!(
                "<filesystem type='{}'> is not carried over",
                shown(&word.value)
            );
            self.note(word.place, what);
            return;
        }
        // As whom files are written is the same for all machines.
        if element
            .attribute("accessmode")
            .is_some_and(|mode| ["passthrough", "mapped"].contains(&mode))
        {
            element.take_attribute("accessmode");
        }
        let mut folder = |name: &str| {
            let mut part = element.take(name)?;
            let value = part.take_attribute("dir").map(|dir| dir.value);
            self.leftovers(part, &["@socket"]);
            value
        };
        let (source, tag) = (folder("source"), folder("target"));
        let read_only = element.take("readonly").is_some();
        self.stands(format!("shares[{}]", spec.shares.len()), place);
        match (source, tag) {
            (Some(source), Some(tag)) => spec.shares.push(Share {
                source: source.into(),
                tag,
                read_only,
                kind,
            }),
            _ => {
                let ask = "write <source dir='/folder'/> and <target dir='tag'/>";
                self.wrong(
                    place,
                    "<filesystem> names no folder or no tag",
                    Remedy::Ask(ask.into()),
                );
            }
        }
        let foreign = [
            "@accessmode",
            "@model",
            "@fmode",
            "@dmode",
            "@multidevs",
            "binary",
            "idmap",
            "space_hard_limit",
            "space_soft_limit",
        ];
        self.leftovers(element, &foreign);
    }

    fn graphics(&mut self, mut element: Element, spec: &mut MachineSpec) {
        let place = element.place;
        if spec.graphics != Graphics::None {
            self.note(place, "a second <graphics> is not carried over");
            return;
        }
        let kind = element
            .take_attribute("type")
            .map(|kind| kind.value)
            .unwrap_or_default();
        match kind.as_str() {
            "vnc" => {}
            "spice" => {
                self.note(
                    place,
                    "<graphics type='spice'> is carried over as VNC on a Unix socket",
                );
                spec.graphics = Graphics::Vnc(VncListen::Socket(None));
                return;
            }
            "sdl" | "rdp" | "desktop" | "egl-headless" | "dbus" => {
                self.note(
                    place,
                    format!("<graphics type='{kind}'> is not carried over"),
                );
                return;
            }
            other => {
                let what = format!(
                    "<graphics type='{}'>: no such way to show a picture",
                    shown(other)
                );
                self.left_out(place, what);
                return;
            }
        }
        self.stands("graphics", place);
        // A password in a file is nobody's secret: a ticket opens the port once.
        if element.take_attribute("passwd").is_some() {
            self.note(
                place,
                "the password of <graphics> is not carried over: each viewer gets a ticket",
            );
        }
        let port = element.take_attribute("port");
        element.take_attribute("autoport");
        let mut address = element
            .take_attribute("listen")
            .map(|listen| (listen.value, listen.place));
        let mut socket = element
            .take_attribute("socket")
            .map(|socket| Some(socket.value));
        if let Some(mut listen) = element.take("listen") {
            let kind = listen
                .take_attribute("type")
                .map(|kind| kind.value)
                .unwrap_or_default();
            let path = listen.take_attribute("socket").map(|socket| socket.value);
            let at = listen
                .take_attribute("address")
                .map(|at| (at.value, at.place));
            match kind.as_str() {
                "socket" => socket = socket.or(Some(path)),
                "none" => socket = socket.or(Some(None)),
                _ => address = at.or(address),
            }
            self.leftovers(listen, &["@network", "@autoGenerated"]);
        }
        spec.graphics = Graphics::Vnc(match socket {
            Some(path) => VncListen::Socket(path.filter(|path| !path.is_empty()).map(Into::into)),
            None => {
                self.loopback_only(address);
                let port = port.filter(|port| port.value != "-1" && port.value != "0");
                VncListen::Loopback(
                    port.and_then(|port| {
                        self.parsed(&port.value, port.place, "port of <graphics>")
                    }),
                )
            }
        });
        let foreign = [
            "@keymap",
            "@sharePolicy",
            "@websocket",
            "@passwdValidTo",
            "@connected",
            "@powerControl",
            "@wait",
        ];
        self.leftovers(element, &foreign);
    }

    fn loopback_only(&mut self, address: Option<(String, Place)>) {
        let Some((address, place)) = address else {
            return;
        };
        if !matches!(address.as_str(), "127.0.0.1" | "localhost" | "::1") {
            let what = format!(
                "<graphics> listens on '{}': carried over as 127.0.0.1, reached through SSH",
                shown(&address)
            );
            self.note(place, what);
        }
    }

    fn video(&mut self, mut element: Element, spec: &mut MachineSpec) {
        if spec.video.is_some() {
            self.note(element.place, "a second <video> is not carried over");
            return;
        }
        if let Some(mut model) = element.take("model") {
            let foreign = ["vmvga", "xen", "vbox", "parallels", "gop", "ramfb"];
            spec.video = self.word(&mut model, "type", &foreign);
            if model.attribute("primary") == Some("yes") {
                model.take_attribute("primary");
            }
            if model.attribute("heads") == Some("1") {
                model.take_attribute("heads");
            }
            let foreign = [
                "@ram",
                "@vram",
                "@vram64",
                "@vgamem",
                "@heads",
                "@primary",
                "@blob",
                "acceleration",
                "resolution",
            ];
            self.leftovers(model, &foreign);
        }
        self.leftovers(element, &["driver"]);
    }

    fn console(&mut self, mut element: Element, spec: &mut MachineSpec) {
        let place = element.place;
        let mut virtio = false;
        if let Some(mut target) = element.take("target") {
            virtio = target.attribute("type") == Some("virtio");
            let second = target.attribute("port").is_some_and(|port| port != "0");
            if second {
                self.note(place, "a second serial line is not carried over");
                return;
            }
            target.take_attribute("type");
            target.take_attribute("port");
            self.leftovers(target, &["model"]);
        }
        // The line lies with the machine, wherever this host would have put it.
        if let Some(kind) = element
            .take_attribute("type")
            .filter(|kind| kind.value != "pty")
        {
            let what = format!(
                "<{} type='{}'> is carried over as the machine's own console",
                element.name,
                shown(&kind.value)
            );
            self.note(kind.place, what);
            element.children.clear();
        }
        match (spec.console, virtio) {
            (Console::None, true) => spec.console = Console::Virtio,
            (Console::Serial, true) => self.note(place, "a second console is not carried over"),
            (Console::Virtio, false) => {
                self.note(
                    place,
                    "a console beside the serial line is not carried over",
                );
                spec.console = Console::Serial;
            }
            _ if virtio => {}
            _ => spec.console = Console::Serial,
        }
        self.leftovers(element, &["@tty", "source", "log", "protocol"]);
    }

    fn channel(&mut self, mut element: Element, spec: &mut MachineSpec) {
        let target = element.children.iter().find(|child| child.name == "target");
        let name = target.and_then(|target| target.attribute("name"));
        if name == Some(own::AGENT) {
            spec.agent = true;
            // Where its socket lies is the machine's business.
            element.take("target");
            element.take("source");
            element.take_attribute("type");
            self.leftovers(element, &["log", "reconnect"]);
        } else {
            self.note(
                element.place,
                "<channel> other than the guest agent's is not carried over",
            );
        }
    }

    fn rng(&mut self, mut element: Element, spec: &mut MachineSpec) {
        spec.rng = true;
        element.take_attribute("model");
        if let Some(mut backend) = element.take("backend") {
            let text = std::mem::take(&mut backend.text);
            let own = matches!(text.trim(), "" | "/dev/urandom" | "/dev/random");
            let model = backend.take_attribute("model").map(|model| model.value);
            if !own || model.is_some_and(|model| model == "egd") {
                self.note(backend.place, "<rng> takes the host's own randomness");
                backend.children.clear();
            }
            self.leftovers(backend, &[]);
        }
        self.leftovers(element, &["rate", "driver"]);
    }

    fn watchdog(&mut self, mut element: Element, spec: &mut MachineSpec) {
        let model = self.word(&mut element, "model", &["diag288", "itco"]);
        let action = self.word(&mut element, "action", &["dump", "inject-nmi"]);
        if let Some(model) = model {
            spec.watchdog = Some(Watchdog {
                model,
                action: action.unwrap_or(WatchdogAction::Reset),
            });
        }
        self.leftovers(element, &[]);
    }
}
