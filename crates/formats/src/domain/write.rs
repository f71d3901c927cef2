//! From the machine to the canonical document, in libvirt's order and words.

use hyperion_model::machine::{
    Backing, BootDevice, Clock, Console, CpuModel, Disk, DiskDevice, DiskSource, Enlightenment,
    Firmware, Graphics, HugePages, Interface, InterfaceKind, Protocol, Share, ShareKind, VncListen,
};
use hyperion_model::{Bytes, MachineSpec};

use super::own;
use super::read::{exact, web_scheme};
use crate::xml::Element;

/// Writes a machine as libvirt's domain XML. [`parse`](super::parse) reads a
/// valid one back as the same.
pub fn write(spec: &MachineSpec) -> String {
    let element = Element::new;
    let text = |name: &str, text: &str| Element::new(name).holding(text);
    let kind = if spec.emulated { "qemu" } else { "kvm" };
    let mut root = element("domain")
        .with("type", kind)
        .and([text("name", spec.name.as_str())]);
    root = root.and(spec.uuid.map(|uuid| text("uuid", &uuid.to_string())));
    root = root.and(spec.title.as_ref().map(|title| text("title", title)));
    root = root.and(
        spec.description
            .as_ref()
            .map(|words| text("description", words)),
    );
    root = root.and(own::metadata(spec));
    let memory = &spec.memory;
    root = root.and([amount("memory", memory.max.unwrap_or(memory.size))]);
    root = root.and(memory.max.map(|_| amount("currentMemory", memory.size)));
    root = root.and(backing_of_memory(spec));
    root = root.and([vcpu(spec)]);
    root = root.and(pinning(spec));
    root = root.and(origin_of_memory(spec));
    root = root.and([os(spec), features(spec)]);
    root = root.and(cpu(spec));
    root = root.and([clock(spec)]);
    for (name, action) in [
        ("on_poweroff", "destroy"),
        ("on_reboot", "restart"),
        ("on_crash", spec.on_crash.word()),
    ] {
        root = root.and([text(name, action)]);
    }
    root.and([devices(spec)]).to_string()
}

fn amount(name: &str, bytes: Bytes) -> Element {
    let (number, unit) = exact(bytes);
    Element::new(name).with("unit", unit).holding(number)
}

fn backing_of_memory(spec: &MachineSpec) -> Option<Element> {
    let pages = spec.memory.hugepages.map(|pages| {
        let pages = match pages {
            HugePages::Default => None,
            HugePages::Of(size) => {
                let (number, unit) = exact(size);
                Some(Element::new("page").with("size", number).with("unit", unit))
            }
        };
        Element::new("hugepages").and(pages)
    });
    // A program beside the machine reads its memory.
    let shared = spec
        .shares
        .iter()
        .any(|share| share.kind == ShareKind::Virtiofs);
    let shared = shared.then(|| {
        let source = Element::new("source").with("type", "memfd");
        [source, Element::new("access").with("mode", "shared")]
    });
    let parts: Vec<_> = pages
        .into_iter()
        .chain(shared.into_iter().flatten())
        .collect();
    (!parts.is_empty()).then(|| Element::new("memoryBacking").and(parts))
}

fn vcpu(spec: &MachineSpec) -> Element {
    let vcpus = &spec.vcpus;
    let mut element = Element::new("vcpu").with("placement", "static");
    if let Some(affinity) = &vcpus.affinity {
        element = element.with("cpuset", affinity);
    }
    if vcpus.max.is_some() {
        element = element.with("current", vcpus.count);
    }
    element.holding(vcpus.max.unwrap_or(vcpus.count))
}

fn pinning(spec: &MachineSpec) -> Option<Element> {
    let pins = spec.vcpus.pinning.iter();
    let pins: Vec<_> = pins
        .map(|(vcpu, set)| {
            Element::new("vcpupin")
                .with("vcpu", vcpu)
                .with("cpuset", set)
        })
        .collect();
    (!pins.is_empty()).then(|| Element::new("cputune").and(pins))
}

fn origin_of_memory(spec: &MachineSpec) -> Option<Element> {
    let strict = |name: &str| Element::new(name).with("mode", "strict");
    let all = spec.memory.from;
    let all = all.map(|node| strict("memory").with("nodeset", node));
    let cells = spec.vcpus.numa.iter().enumerate();
    let parts = cells.filter_map(|(id, cell)| {
        let part = Element::new("memnode").with("cellid", id);
        Some(part.with("mode", "strict").with("nodeset", cell.from?))
    });
    let parts: Vec<_> = all.into_iter().chain(parts).collect();
    (!parts.is_empty()).then(|| Element::new("numatune").and(parts))
}

fn os(spec: &MachineSpec) -> Element {
    let mut kind = Element::new("type").with("arch", spec.architecture);
    if let Some(board) = spec.board {
        kind = kind.with("machine", board);
    }
    let mut os = Element::new("os");
    let mut parts = vec![kind.holding("hvm")];
    let path = |name: &str, path: &std::path::Path| Element::new(name).holding(path.display());
    if let Firmware::Uefi {
        secure_boot,
        loader,
        variables,
    } = &spec.firmware
    {
        match loader {
            Some(file) => {
                let mut loader = Element::new("loader").with("readonly", "yes");
                if *secure_boot {
                    loader = loader.with("secure", "yes");
                }
                parts.push(loader.with("type", "pflash").holding(file.display()));
            }
            None => {
                os = os.with("firmware", "efi");
                if *secure_boot {
                    let feature = Element::new("feature").with("enabled", "yes");
                    parts.push(Element::new("firmware").and([feature.with("name", "secure-boot")]));
                }
            }
        }
        parts.extend(variables.as_deref().map(|file| path("nvram", file)));
    }
    if let Some(direct) = &spec.boot.kernel {
        parts.push(path("kernel", &direct.kernel));
        parts.extend(direct.initrd.as_deref().map(|file| path("initrd", file)));
        parts.extend(
            direct
                .cmdline
                .as_ref()
                .map(|line| Element::new("cmdline").holding(line)),
        );
    }
    os.and(parts)
}

fn features(spec: &MachineSpec) -> Element {
    let mut features = Element::new("features").and([Element::new("acpi"), Element::new("apic")]);
    let hyperv = &spec.hyperv;
    let switch = |name: &str| Element::new(name).with("state", "on");
    let plain = hyperv
        .features
        .iter()
        .filter(|feature| **feature != Enlightenment::Clock);
    let mut parts: Vec<_> = plain.map(|feature| switch(feature.word())).collect();
    parts.extend(
        hyperv
            .spinlock_retries
            .map(|n| switch("spinlocks").with("retries", n)),
    );
    parts.extend(
        hyperv
            .vendor
            .as_ref()
            .map(|name| switch("vendor_id").with("value", name)),
    );
    if !parts.is_empty() {
        features = features.and([Element::new("hyperv").with("mode", "custom").and(parts)]);
    }
    if matches!(
        &spec.firmware,
        Firmware::Uefi {
            secure_boot: true,
            ..
        }
    ) {
        features = features.and([switch("smm")]);
    }
    features
}

fn cpu(spec: &MachineSpec) -> Option<Element> {
    let mut cpu = Element::new("cpu");
    match &spec.cpu.model {
        CpuModel::Default => {}
        CpuModel::Host => cpu = cpu.with("mode", "host-passthrough"),
        CpuModel::HostModel => cpu = cpu.with("mode", "host-model"),
        CpuModel::Maximum => cpu = cpu.with("mode", "maximum"),
        CpuModel::Named(name) => {
            let model = Element::new("model")
                .with("fallback", "forbid")
                .holding(name);
            cpu = cpu
                .with("mode", "custom")
                .with("match", "exact")
                .and([model]);
        }
    }
    if let Some(shape) = spec.vcpus.topology {
        let topology = Element::new("topology").with("sockets", shape.sockets);
        cpu = cpu.and([topology
            .with("cores", shape.cores)
            .with("threads", shape.threads)]);
    }
    for (name, on) in &spec.cpu.features {
        let policy = if *on { "require" } else { "disable" };
        cpu = cpu.and([Element::new("feature")
            .with("policy", policy)
            .with("name", name)]);
    }
    let cells = spec.vcpus.numa.iter().enumerate().map(|(id, cell)| {
        let (number, unit) = exact(cell.memory);
        let element = Element::new("cell").with("id", id).with("cpus", &cell.cpus);
        element.with("memory", number).with("unit", unit)
    });
    let cells: Vec<_> = cells.collect();
    if !cells.is_empty() {
        cpu = cpu.and([Element::new("numa").and(cells)]);
    }
    let said = !cpu.attributes.is_empty() || !cpu.children.is_empty();
    said.then_some(cpu)
}

fn clock(spec: &MachineSpec) -> Element {
    let offset = match spec.clock {
        Clock::Utc => "utc",
        Clock::Localtime => "localtime",
    };
    let timer = spec
        .hyperv
        .features
        .contains(&Enlightenment::Clock)
        .then(|| {
            let timer = Element::new("timer").with("name", "hypervclock");
            timer.with("present", "yes")
        });
    Element::new("clock").with("offset", offset).and(timer)
}

fn devices(spec: &MachineSpec) -> Element {
    let order = |device: &BootDevice| {
        let at = spec.boot.order.iter().position(|other| other == device)?;
        Some(Element::new("boot").with("order", at + 1))
    };
    let mut devices = Element::new("devices");
    for disk in &spec.disks {
        let boot = order(&BootDevice::Disk(disk.target.clone()));
        devices = devices.and([self::disk(disk, boot)]);
    }
    devices = devices.and(spec.shares.iter().map(share));
    for (at, interface) in spec.interfaces.iter().enumerate() {
        let boot = u32::try_from(at)
            .ok()
            .and_then(|at| order(&BootDevice::Interface(at)));
        devices = devices.and([self::interface(interface, boot)]);
    }
    let pty = |name: &str, kind: &str| {
        let target = Element::new("target").with("type", kind).with("port", 0);
        Element::new(name).with("type", "pty").and([target])
    };
    match spec.console {
        Console::None => {}
        Console::Serial => {
            let line = Element::new("serial").with("type", "pty");
            devices = devices.and([
                line.and([Element::new("target").with("port", 0)]),
                pty("console", "serial"),
            ]);
        }
        Console::Virtio => devices = devices.and([pty("console", "virtio")]),
    }
    if spec.agent {
        let target = Element::new("target")
            .with("type", "virtio")
            .with("name", own::AGENT);
        devices = devices.and([Element::new("channel").with("type", "unix").and([target])]);
    }
    devices = devices.and(graphics(&spec.graphics));
    if let Some(video) = spec.video {
        let model = Element::new("model").with("type", video);
        devices = devices.and([Element::new("video").and([model])]);
    }
    if let Some(watchdog) = spec.watchdog {
        let element = Element::new("watchdog").with("model", watchdog.model);
        devices = devices.and([element.with("action", watchdog.action)]);
    }
    if spec.rng {
        let backend = Element::new("backend")
            .with("model", "random")
            .holding("/dev/urandom");
        devices = devices.and([Element::new("rng").with("model", "virtio").and([backend])]);
    }
    devices
}

fn disk(disk: &Disk, boot: Option<Element>) -> Element {
    let kind = disk.source.as_ref().map_or("file", source_kind);
    let mut driver = Element::new("driver")
        .with("name", "qemu")
        .with("type", disk.format);
    if let Some(cache) = disk.cache {
        driver = driver.with("cache", cache);
    }
    if let Some(discard) = disk.discard {
        driver = driver.with("discard", discard);
    }
    for (name, word) in [
        ("error_policy", disk.on_write_error),
        ("rerror_policy", disk.on_read_error),
    ] {
        if let Some(word) = word {
            driver = driver.with(name, word);
        }
    }
    let target = Element::new("target")
        .with("dev", &disk.target)
        .with("bus", disk.bus);
    let read_only = disk.read_only || disk.device == DiskDevice::Cdrom;
    Element::new("disk")
        .with("type", kind)
        .with("device", disk.device)
        .and([driver])
        .and(disk.source.as_ref().map(source))
        .and(chain(&disk.backing))
        .and([target])
        .and(read_only.then(|| Element::new("readonly")))
        .and(
            disk.serial
                .as_ref()
                .map(|serial| Element::new("serial").holding(serial)),
        )
        .and(boot)
}

fn chain(backing: &[Backing]) -> Option<Element> {
    let (first, rest) = backing.split_first()?;
    let end = || Element::new("backingStore");
    let element = end().with("type", source_kind(&first.source)).and([
        Element::new("format").with("type", first.format),
        source(&first.source),
    ]);
    Some(element.and([chain(rest).unwrap_or_else(end)]))
}

const fn source_kind(source: &DiskSource) -> &'static str {
    match source {
        DiskSource::File(_) => "file",
        DiskSource::Block(_) => "block",
        DiskSource::Volume { .. } => "volume",
        DiskSource::Web(_) => "network",
    }
}

fn source(source: &DiskSource) -> Element {
    let element = Element::new("source");
    match source {
        DiskSource::File(path) => element.with("file", path.display()),
        DiskSource::Block(path) => element.with("dev", path.display()),
        DiskSource::Volume { pool, volume } => element.with("pool", pool).with("volume", volume),
        DiskSource::Web(web) => {
            let path = web.path().strip_prefix('/').unwrap_or(web.path());
            let (name, query) = match path.split_once('?') {
                Some((name, query)) => (name, Some(query)),
                None => (path, None),
            };
            let slash = if web_scheme(name) { "/" } else { "" };
            let scheme = if web.is_secure() { "https" } else { "http" };
            let mut element = element
                .with("protocol", scheme)
                .with("name", format!("{slash}{name}"));
            if let Some(query) = query {
                element = element.with("query", query);
            }
            let host = Element::new("host").with("name", web.host());
            element.and([host.with("port", web.port())])
        }
    }
}

fn share(share: &Share) -> Element {
    let kind = match share.kind {
        ShareKind::Virtiofs => "virtiofs",
        ShareKind::Ninep => "path",
    };
    Element::new("filesystem")
        .with("type", "mount")
        .with("accessmode", "passthrough")
        .and([
            Element::new("driver").with("type", kind),
            Element::new("source").with("dir", share.source.display()),
            Element::new("target").with("dir", &share.tag),
        ])
        .and(share.read_only.then(|| Element::new("readonly")))
}

fn interface(interface: &Interface, boot: Option<Element>) -> Element {
    let (kind, place) = match &interface.kind {
        InterfaceKind::User => ("user", None),
        InterfaceKind::None => ("null", None),
        InterfaceKind::Bridge(name) => {
            ("bridge", Some(Element::new("source").with("bridge", name)))
        }
        InterfaceKind::Tap(name) => {
            let target = Element::new("target")
                .with("dev", name)
                .with("managed", "no");
            ("ethernet", Some(target))
        }
    };
    // libvirt forwards ports through this program alone.
    let passt =
        (!interface.forwards.is_empty()).then(|| Element::new("backend").with("type", "passt"));
    let forwards = interface.forwards.iter().map(|forward| {
        let protocol = match forward.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let range = Element::new("range")
            .with("start", forward.host)
            .with("to", forward.guest);
        let element = Element::new("portForward").with("proto", protocol);
        element.with("address", forward.address).and([range])
    });
    Element::new("interface")
        .with("type", kind)
        .and(
            interface
                .mac
                .map(|mac| Element::new("mac").with("address", mac)),
        )
        .and(place)
        .and(forwards)
        .and([Element::new("model").with("type", interface.model)])
        .and(passt)
        .and(boot)
}

fn graphics(graphics: &Graphics) -> Option<Element> {
    let Graphics::Vnc(listen) = graphics else {
        return None;
    };
    let element = Element::new("graphics").with("type", "vnc");
    Some(match listen {
        VncListen::Socket(path) => {
            let mut listen = Element::new("listen").with("type", "socket");
            if let Some(path) = path {
                listen = listen.with("socket", path.display());
            }
            element.and([listen])
        }
        VncListen::Loopback(port) => {
            let (port, automatic) = match port {
                Some(port) => (i32::from(*port), "no"),
                None => (-1, "yes"),
            };
            let listen = Element::new("listen")
                .with("type", "address")
                .with("address", "127.0.0.1");
            element
                .with("port", port)
                .with("autoport", automatic)
                .with("listen", "127.0.0.1")
                .and([listen])
        }
    })
}
