//! Every problem of a machine, by one wrong word each.

use super::*;

fn whole() -> MachineSpec {
    let mut spec = MachineSpec::new("m".parse().expect("name"), Bytes::mib(512), 2);
    let mut disk = Disk::new("vda", Bus::Virtio);
    disk.source = Some(DiskSource::File("/disks/m.img".into()));
    let mut cdrom = Disk::new("sda", Bus::Sata);
    cdrom.device = DiskDevice::Cdrom;
    cdrom.read_only = true;
    spec.disks = vec![disk, cdrom];
    spec.interfaces = vec![Interface::default()];
    spec
}

/// Changes one thing and gives the paths that are then complained of.
fn wrong(change: impl FnOnce(&mut MachineSpec)) -> Vec<String> {
    let mut spec = whole();
    assert_eq!(spec.validate(), Ok(()));
    change(&mut spec);
    let problems = spec.validate().expect_err("a problem").0;
    problems.into_iter().map(|problem| problem.path).collect()
}

#[test]
fn amounts_of_nothing_are_refused() {
    assert_eq!(wrong(|m| m.memory.size = Bytes(0)), ["memory.size"]);
    assert_eq!(wrong(|m| m.memory.size = Bytes(512)), ["memory.size"]);
    assert_eq!(
        wrong(|m| m.memory.max = Some(Bytes(m.memory.size.0 - 1))),
        ["memory.max"]
    );
    assert_eq!(wrong(|m| m.vcpus.count = 0), ["vcpus.count"]);
    assert_eq!(wrong(|m| m.vcpus.count = 5000), ["vcpus.count"]);
    assert_eq!(wrong(|m| m.vcpus.max = Some(1)), ["vcpus.max"]);
    assert_eq!(
        wrong(|m| m.disks[0].size = Some(Bytes(0))),
        ["disks[0].size"]
    );
    let pages = |m: &mut MachineSpec| m.memory.hugepages = Some(HugePages::Of(Bytes(3 << 20)));
    assert_eq!(wrong(pages), ["memory.hugepages", "memory.size"]);
}

#[test]
fn processors_are_counted() {
    let shape = Topology {
        sockets: 1,
        cores: 2,
        threads: 2,
    };
    assert_eq!(
        wrong(|m| m.vcpus.topology = Some(shape)),
        ["vcpus.topology"]
    );
    let set: CpuSet = "0-1".parse().expect("set");
    let pinning = |m: &mut MachineSpec| {
        m.vcpus.pinning = [(0, set.clone()), (2, set.clone())].into();
    };
    assert_eq!(wrong(pinning), ["vcpus.pinning"]);
    let cell = |cpus: &str, mib| NumaCell {
        cpus: cpus.parse().expect("set"),
        memory: Bytes::mib(mib),
        from: None,
    };
    let mut spec = whole();
    spec.vcpus.numa = vec![cell("0", 256), cell("1", 256)];
    assert_eq!(spec.validate(), Ok(()));
    assert_eq!(
        wrong(|m| m.vcpus.numa = vec![cell("0", 512)]),
        ["vcpus.numa"]
    );
    let twice = || vec![cell("0-1", 256), cell("1", 256)];
    assert_eq!(wrong(|m| m.vcpus.numa = twice()), ["vcpus.numa"]);
    assert_eq!(
        wrong(|m| m.vcpus.numa = vec![cell("0-1", 1)]),
        ["vcpus.numa"]
    );
}

#[test]
fn names_of_models_are_names() {
    let model = |m: &mut MachineSpec| m.cpu.model = CpuModel::Named("Sea Islands".into());
    assert_eq!(wrong(model), ["cpu.model"]);
    let feature = |m: &mut MachineSpec| m.cpu.features = [("+acpi".into(), true)].into();
    assert_eq!(wrong(feature), ["cpu.features", "cpu.features"]);
    assert_eq!(wrong(|m| m.board = Some(Board::Virt)), ["board"]);
}

#[test]
fn a_disk_fits_its_bus_and_its_content() {
    assert_eq!(wrong(|m| m.disks[0].bus = Bus::Sata), ["disks[0].target"]);
    assert_eq!(
        wrong(|m| m.disks[1].read_only = false),
        ["disks[1].read_only"]
    );
    assert_eq!(wrong(|m| m.disks[0].source = None), ["disks[0].source"]);
    let cdrom = |m: &mut MachineSpec| {
        m.disks[1].bus = Bus::Virtio;
        m.disks[1].target = "vdb".into();
    };
    assert_eq!(wrong(cdrom), ["disks[1].bus"]);
    let web = || DiskSource::Web("http://x/y.iso".parse().expect("address"));
    assert_eq!(
        wrong(|m| m.disks[0].source = Some(web())),
        ["disks[0].read_only"]
    );
    let relative = || DiskSource::File("a/../b".into());
    assert_eq!(
        wrong(|m| m.disks[0].source = Some(relative())),
        ["disks[0].source"]
    );
    let backing = |m: &mut MachineSpec| {
        m.disks[0].backing = vec![Backing {
            source: DiskSource::File("/base".into()),
            format: DiskFormat::Raw,
        }];
    };
    assert_eq!(wrong(backing), ["disks[0].backing"]);
    let ide = |m: &mut MachineSpec| {
        m.board = Some(Board::Q35);
        m.disks[1].bus = Bus::Ide;
        m.disks[1].target = "hde".into();
    };
    assert_eq!(wrong(ide), ["disks[1].bus", "disks[1].target"]);
    let serial = |m: &mut MachineSpec| m.disks[0].serial = Some("x".repeat(21));
    assert_eq!(wrong(serial), ["disks[0].serial"]);
}

#[test]
fn two_disks_have_two_names_and_two_contents() {
    let again = |m: &mut MachineSpec| m.disks.push(m.disks[0].clone());
    assert_eq!(wrong(again), ["disks[2].source", "disks[2].target"]);
    let mut spec = whole();
    let mut copy = spec.disks[0].clone();
    copy.target = "vdb".into();
    spec.disks.push(copy);
    spec.disks.iter_mut().for_each(|disk| disk.read_only = true);
    assert_eq!(spec.validate(), Ok(()), "two readers of one file are fine");
}

#[test]
fn a_card_has_an_address_of_its_own_and_a_place_to_go() {
    let mac = |text: &str| Some(text.parse::<Mac>().expect("mac"));
    let group = |m: &mut MachineSpec| m.interfaces[0].mac = mac("01:00:5e:00:00:01");
    assert_eq!(wrong(group), ["interfaces[0].mac"]);
    let nobody = |m: &mut MachineSpec| m.interfaces[0].mac = mac("00:00:00:00:00:00");
    assert_eq!(wrong(nobody), ["interfaces[0].mac"]);
    let twice = |m: &mut MachineSpec| {
        m.interfaces[0].mac = mac("52:54:00:00:00:01");
        m.interfaces.push(m.interfaces[0].clone());
    };
    assert_eq!(wrong(twice), ["interfaces[1].mac"]);
    let bridge = |m: &mut MachineSpec| m.interfaces[0].kind = InterfaceKind::Bridge("br 0".into());
    assert_eq!(wrong(bridge), ["interfaces[0].kind"]);
    let forward = |m: &mut MachineSpec| {
        m.interfaces[0].forwards = vec!["2222:22".parse().expect("forward"); 2];
    };
    assert_eq!(wrong(forward), ["interfaces[0].forwards"]);
    let nowhere = |m: &mut MachineSpec| {
        m.interfaces[0].kind = InterfaceKind::Bridge("br0".into());
        m.interfaces[0].forwards = vec!["2222:22".parse().expect("forward")];
    };
    assert_eq!(wrong(nowhere), ["interfaces[0].forwards"]);
}

#[test]
fn only_what_there_is_can_be_booted() {
    let order = |list: Vec<BootDevice>| move |m: &mut MachineSpec| m.boot.order = list;
    let vda = || BootDevice::Disk("vda".into());
    assert_eq!(
        wrong(order(vec![BootDevice::Disk("vdz".into())])),
        ["boot.order[0]"]
    );
    assert_eq!(
        wrong(order(vec![BootDevice::Interface(1)])),
        ["boot.order[0]"]
    );
    assert_eq!(wrong(order(vec![vda(), vda()])), ["boot.order[1]"]);
    let kernel = DirectKernel {
        kernel: "vmlinuz".into(),
        initrd: None,
        cmdline: Some("a\nb".into()),
    };
    assert_eq!(
        wrong(|m| m.boot.kernel = Some(kernel)),
        ["boot.kernel.kernel", "boot.kernel.cmdline"]
    );
}

#[test]
fn enlightenments_bring_what_they_need() {
    let alone = |m: &mut MachineSpec| {
        m.hyperv.features = [Enlightenment::Stimer].into();
        m.hyperv.spinlock_retries = Some(1);
        m.hyperv.vendor = Some("much too long a name".into());
    };
    assert_eq!(
        wrong(alone),
        [
            "hyperv.features",
            "hyperv.features",
            "hyperv.spinlock_retries",
            "hyperv.vendor"
        ]
    );
}

#[test]
fn screens_folders_and_seeds_are_looked_at_too() {
    let vnc = |m: &mut MachineSpec| m.graphics = Graphics::Vnc(VncListen::Loopback(Some(80)));
    assert_eq!(wrong(vnc), ["graphics"]);
    let share = |m: &mut MachineSpec| {
        m.shares = vec![Share {
            source: "data".into(),
            tag: "my data".into(),
            read_only: false,
            kind: ShareKind::Ninep,
        }];
    };
    assert_eq!(wrong(share), ["shares[0].source", "shares[0].tag"]);
    let seed = |m: &mut MachineSpec| {
        let user = SeedUser {
            name: "Ann:x".into(),
            keys: vec!["ssh-ed25519 AAAA ann\nroot".into()],
            admin: false,
        };
        m.seed = Some(Seed {
            hostname: Some("-web".into()),
            users: vec![user],
            user_data: Some("\u{1b}[2J".into()),
        });
    };
    assert_eq!(
        wrong(seed),
        [
            "seed.hostname",
            "seed.users[0].name",
            "seed.users[0].keys[0]",
            "seed.user_data"
        ]
    );
    assert_eq!(wrong(|m| m.title = Some("a\u{7}".into())), ["title"]);
    assert_eq!(
        wrong(|m| m.description = Some("\u{0}".into())),
        ["description"]
    );
}

#[test]
fn a_problem_says_where_what_and_what_to_do() {
    let mut spec = whole();
    spec.memory.size = Bytes(0);
    spec.vcpus.count = 0;
    let problems = spec.validate().expect_err("two problems");
    assert_eq!(
        problems.to_string(),
        "memory.size: 0B holds no system: write an amount with its unit, such as 512MiB; \
         vcpus.count: a machine cannot have 0 processors: write a number from 1 to 4096"
    );
}

#[test]
fn a_machine_of_three_words_is_whole() {
    let json = r#"{"name":"m","memory":{"size":536870912},"vcpus":{"count":1}}"#;
    let spec: MachineSpec = serde_json::from_str(json).expect("the rest has defaults");
    assert_eq!(
        spec,
        MachineSpec::new(spec.name.clone(), Bytes::mib(512), 1)
    );
    assert_eq!(spec.validate(), Ok(()));
}

#[test]
fn unknown_fields_of_a_machine_are_refused() {
    for json in [
        r#"{"name":"m","memory":{"size":1},"vcpus":{"count":1},"colour":"red"}"#,
        r#"{"name":"m","memory":{"size":1,"unit":"MB"},"vcpus":{"count":1}}"#,
    ] {
        let error = serde_json::from_str::<MachineSpec>(json).expect_err("unknown");
        assert!(error.to_string().contains("unknown field"), "{error}");
    }
}

#[test]
fn a_word_outside_its_list_is_told_with_the_list() {
    let error = "isa".parse::<Bus>().expect_err("no such bus");
    assert_eq!(
        error.to_string(),
        "\"isa\" is not a disk bus: virtio, sata, scsi, ide"
    );
    for arch in Architecture::ALL {
        assert_eq!(arch.to_string().parse(), Ok(*arch));
        assert_eq!(
            serde_json::to_string(arch).expect("json"),
            format!("\"{arch}\"")
        );
    }
}

#[test]
fn cards_without_an_address_get_one_that_stays() {
    let mut spec = MachineSpec::new("web".parse().expect("name"), Bytes::mib(1), 1);
    spec.interfaces = vec![Interface::default(), Interface::default()];
    let own: Mac = "52:54:00:12:34:56".parse().expect("mac");
    spec.interfaces[1].mac = Some(own);
    assert_eq!(spec.mac(0), Some(Mac::derive(&spec.name, 0, &[])));
    assert_eq!(spec.mac(1), Some(own));
    assert_eq!(spec.mac(2), None);
}
