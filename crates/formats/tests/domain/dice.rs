//! Valid machines, from dice.

use hyperion_model::machine::*;
use hyperion_model::{Bytes, MachineSpec};

/// Makes a valid machine from dice.
pub(crate) struct Dice<'a>(std::slice::Iter<'a, u8>);

impl<'a> Dice<'a> {
    pub(crate) fn new(rolls: &'a [u8]) -> Self {
        Self(rolls.iter())
    }

    fn roll(&mut self, sides: usize) -> usize {
        usize::from(*self.0.next().unwrap_or(&0)) % sides
    }

    fn yes(&mut self) -> bool {
        self.roll(2) == 1
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())].clone()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.yes().then(|| make(self))
    }

    pub(crate) fn machine(&mut self) -> MachineSpec {
        let name = ["a", "web-1", "My.Job_2"][self.roll(3)]
            .parse()
            .expect("a name");
        let size = [Bytes::mib(512), Bytes::mib(2048), Bytes(4_096_000_000)][self.roll(3)];
        let count = u32::try_from(self.roll(6)).expect("small") + 1;
        let mut spec = MachineSpec::new(name, size, count);
        spec.uuid = self.maybe(|dice| Uuid::from_random(dice.roll(250) as u128));
        spec.title = self.maybe(|dice| dice.of(&["One & two", "<three>  'four' \u{e4}"]).into());
        spec.description = self.maybe(|dice| dice.of(&["Words\n  in\tlines\r\n", " x"]).into());
        spec.os_variant = self.maybe(|_| "fedora30".into());
        spec.memory.max = self.maybe(|_| Bytes(size.0 + (1 << 30)));
        spec.emulated = self.yes();
        self.processors(&mut spec);
        if self.yes() {
            spec.architecture = self.of(Architecture::ALL);
        }
        let x86 = matches!(spec.architecture, Architecture::X86_64 | Architecture::I686);
        let boards: &[Board] = if x86 {
            &[Board::Q35, Board::Pc, Board::Microvm]
        } else {
            &[Board::Virt]
        };
        spec.board = self.maybe(|dice| dice.of(boards));
        if self.yes() {
            spec.firmware = Firmware::Uefi {
                secure_boot: self.yes(),
                loader: self.maybe(|_| "/usr/share/OVMF/OVMF_CODE.fd".into()),
                variables: self.maybe(|_| "/var/lib/m's vars.fd".into()),
            };
        }
        spec.boot.kernel = self.maybe(|dice| DirectKernel {
            kernel: "/boot/vmlinuz".into(),
            initrd: dice.maybe(|_| "/boot/initrd".into()),
            cmdline: dice.maybe(|_| "root=/dev/vda  quiet \"a b\"".into()),
        });
        spec.clock = self.of(Clock::ALL);
        if self.yes() {
            spec.hyperv.features = Enlightenment::ALL.iter().copied().collect();
            spec.hyperv.spinlock_retries = self.maybe(|_| 8191);
            spec.hyperv.vendor = self.maybe(|_| "hyper ion".into());
        }
        for at in 0..self.roll(5) {
            let disk = self.disk(at, &spec);
            spec.disks.push(disk);
        }
        for at in 0..self.roll(4) {
            let interface = self.interface(u16::try_from(at).expect("small"));
            spec.interfaces.push(interface);
        }
        for at in 0..self.roll(3) {
            spec.shares.push(Share {
                source: format!("/srv/{at}").into(),
                tag: format!("tag{at}"),
                read_only: self.yes(),
                kind: self.of(ShareKind::ALL),
            });
        }
        self.order(&mut spec);
        spec.console = self.of(Console::ALL);
        spec.graphics = match self.roll(4) {
            0 => Graphics::None,
            1 => Graphics::Vnc(VncListen::Socket(None)),
            2 => Graphics::Vnc(VncListen::Socket(Some("/run/m.vnc".into()))),
            _ => Graphics::Vnc(VncListen::Loopback(self.maybe(|_| 5907))),
        };
        spec.video = self.maybe(|dice| dice.of(Video::ALL));
        spec.rng = self.yes();
        spec.agent = self.yes();
        spec.watchdog = self.maybe(|dice| Watchdog {
            model: dice.of(WatchdogModel::ALL),
            action: dice.of(WatchdogAction::ALL),
        });
        spec.autostart = self.yes();
        spec.seed = self.maybe(|dice| Seed {
            hostname: dice.maybe(|_| "h.example".into()),
            users: (0..dice.roll(3))
                .map(|n| SeedUser {
                    name: format!("user{n}"),
                    keys: vec!["ssh-ed25519 AAAA x".into(); dice.roll(3)],
                    admin: dice.yes(),
                })
                .collect(),
            user_data: dice.maybe(|_| "#!/bin/sh\necho ']]>' \"$x\" & true\n".into()),
        });
        spec
    }

    fn processors(&mut self, spec: &mut MachineSpec) {
        let vcpus = &mut spec.vcpus;
        vcpus.max = self.maybe(|_| vcpus.count + 2);
        let total = vcpus.max.unwrap_or(vcpus.count);
        vcpus.topology = self.maybe(|_| Topology {
            sockets: total,
            cores: 1,
            threads: 1,
        });
        vcpus.affinity = self.maybe(|_| "0-3,8".parse().expect("set"));
        if self.yes() {
            vcpus
                .pinning
                .insert(total - 1, "2,4-5".parse().expect("set"));
        }
        if self.yes() {
            let whole = spec.memory.max.unwrap_or(spec.memory.size).0;
            let from = self.maybe(|dice| dice.roll(4) as u32);
            let cell = |cpus: String, memory| NumaCell {
                cpus: cpus.parse().expect("set"),
                memory: Bytes(memory),
                from,
            };
            if total > 1 {
                vcpus.numa = vec![
                    cell("0".into(), 1024),
                    cell(format!("1-{}", total - 1), whole - 1024),
                ];
            } else {
                vcpus.numa = vec![cell("0".into(), whole)];
            }
        }
        let models = [
            CpuModel::Default,
            CpuModel::Host,
            CpuModel::HostModel,
            CpuModel::Maximum,
            CpuModel::Named("EPYC-Rome".into()),
        ];
        spec.cpu.model = self.of(&models);
        if spec.cpu.model != CpuModel::Default && self.yes() {
            spec.cpu.features = [("avx2".into(), true), ("vmx".into(), false)].into();
        }
        spec.memory.from = self.maybe(|dice| dice.roll(4) as u32);
        let huge = spec.memory.size.0.is_multiple_of(2 << 20);
        spec.memory.hugepages = match self.roll(3) {
            0 => None,
            1 if huge => Some(HugePages::Of(Bytes::mib(2))),
            _ => Some(HugePages::Default),
        };
    }

    fn disk(&mut self, at: usize, spec: &MachineSpec) -> Disk {
        let cdrom = self.roll(3) == 0;
        let q35 = spec.board == Some(Board::Q35);
        let mut buses = vec![Bus::Sata, Bus::Scsi];
        if !q35 {
            buses.push(Bus::Ide);
        }
        if !cdrom {
            buses.push(Bus::Virtio);
        }
        let bus = self.of(&buses);
        let mut disk = Disk::new(spec.free_target(bus), bus);
        disk.read_only = cdrom || self.yes();
        if cdrom {
            disk.device = DiskDevice::Cdrom;
        }
        disk.source = match self.roll(6) {
            0 => Some(DiskSource::Block(format!("/dev/vg/{at}").into())),
            1 => Some(DiskSource::Volume {
                pool: "pool".into(),
                volume: format!("v {at}"),
            }),
            2 if disk.read_only => {
                let web = [
                    "http://127.0.0.1:8000/a.iso",
                    "https://h.example/a/b.iso?c=d&e",
                    "http://[::1]/",
                ];
                Some(DiskSource::Web(
                    web[self.roll(3)]
                        .replace("a.iso", &format!("a{at}.iso"))
                        .parse()
                        .expect("web"),
                ))
            }
            3 => None,
            _ => Some(DiskSource::File(
                format!("/disks/it's <{at}> & more.img").into(),
            )),
        };
        // One address may be read by many, but here each disk has its own.
        if spec
            .disks
            .iter()
            .any(|other| other.source.is_some() && other.source == disk.source)
        {
            disk.source = None;
        }
        disk.format = self.of(DiskFormat::ALL);
        if disk.source.is_none() && !cdrom {
            disk.size = Some(self.of(&[Bytes::mib(10_240), Bytes(512), Bytes(1_000_000_512)]));
        }
        if matches!(disk.format, DiskFormat::Qcow2 | DiskFormat::Vmdk)
            && disk.source.is_some()
            && self.yes()
        {
            for n in 0..=self.roll(2) {
                disk.backing.push(Backing {
                    source: DiskSource::File(format!("/base/{n}").into()),
                    format: self.of(DiskFormat::ALL),
                });
            }
        }
        disk.serial = self.maybe(|_| format!("disk-{at}"));
        disk.cache = self.maybe(|dice| dice.of(Cache::ALL));
        disk.discard = self.maybe(|dice| dice.of(Discard::ALL));
        disk
    }

    fn interface(&mut self, at: u16) -> Interface {
        let kinds = [
            InterfaceKind::User,
            InterfaceKind::Bridge("br0".into()),
            InterfaceKind::Tap(format!("tap{at}")),
            InterfaceKind::None,
        ];
        let kind = self.of(&kinds);
        let mut forwards = Vec::new();
        if kind == InterfaceKind::User && self.yes() {
            forwards = vec![
                format!("127.0.0.1:{}:22", 2222 + at).parse().expect("port"),
                format!("[::1]:{}:53/udp", 5300 + at).parse().expect("port"),
                "0:80".parse().expect("port"),
            ];
        }
        let mac = [0x52, 0x54, 0, 0, 0, u8::try_from(at).expect("small")];
        Interface {
            kind,
            model: self.of(NicModel::ALL),
            mac: self.maybe(|_| Mac::new(mac)),
            forwards,
        }
    }

    fn order(&mut self, spec: &mut MachineSpec) {
        let disks = spec
            .disks
            .iter()
            .map(|disk| BootDevice::Disk(disk.target.clone()));
        let cards = (0..spec.interfaces.len())
            .map(|at| BootDevice::Interface(u32::try_from(at).expect("small")));
        let all: Vec<_> = cards.chain(disks).collect();
        spec.boot.order = all.into_iter().filter(|_| self.yes()).collect();
    }
}
