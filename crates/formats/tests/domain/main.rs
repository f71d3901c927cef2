//! Domains as people and programs write them, read in both modes and written again.

mod dice;

use dice::Dice;
use hyperion_formats::domain::{DomainError, Mode, Parsed, list, parse, repaired, write};
use hyperion_model::machine::*;
use hyperion_model::{Bytes, MachineSpec};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

const MYVM: &str = include_str!("fixtures/myvm.xml");
const EXAMPLE: &str = include_str!("../../../../examples/machines/myvm.xml");
const LINUX: &str = include_str!("fixtures/linux.xml");
const WINDOWS: &str = include_str!("fixtures/windows.xml");
const INSTALLER: &str = include_str!("fixtures/installer.xml");

fn strict(text: &str) -> Parsed {
    parse(text, Mode::Strict).unwrap_or_else(|error| panic!("{}", told(&error)))
}

fn lenient(text: &str) -> Parsed {
    parse(text, Mode::Lenient).unwrap_or_else(|error| panic!("{}", told(&error)))
}

/// What is wrong, numbered.
fn told(error: &DomainError) -> String {
    match error {
        DomainError::Invalid { mistakes, mode } => list(mistakes, *mode),
        other => other.to_string(),
    }
}

fn mistakes(text: &str) -> String {
    told(&parse(text, Mode::Strict).expect_err("mistakes"))
}

fn notes(parsed: &Parsed) -> String {
    parsed
        .notes
        .iter()
        .map(|note| format!("{note}\n"))
        .collect()
}

/// Changes the example at one place.
fn with(from: &str, to: &str) -> String {
    assert_eq!(EXAMPLE.matches(from).count(), 1, "{from}");
    EXAMPLE.replace(from, to)
}

#[test]
fn every_mistake_of_the_sources_file_is_told_with_its_line_and_its_fix() {
    insta::assert_snapshot!(mistakes(MYVM), @r"
    1. line 1: there is no <os>: add <os><type arch='x86_64'>hvm</type></os>
    2. line 1: there is no <devices>: add <devices>
    3. line 4: <cpu> has no attribute flags ('+acpi'): write <features><acpi/></features>
    4. line 5: <model>Sea Islands: a family of graphics processors, not a processor, and the mode takes the host's: leave it out
    5. line 5: <model fallback='virtio'>: neither allow nor forbid: leave it out
    6. line 7: <disk> stands outside of <devices>: move it into <devices>
    7. line 8: <source> of <disk type='network'> has no attribute path: write <source protocol='http' name='to/iso/file'><host name='path' port='80'/></source>
    8. line 9: <target dev='sda' bus='virtio'>: there is no optical drive on virtio, and names on virtio begin with vd: write bus='sata'
    9. line 12: <controller> stands outside of <devices>: move it into <devices>
    10. line 12: <controller type='virtio'> with the model virtio-net: a network card is an <interface>: write <interface type='user'><model type='virtio'/></interface>
    ");
}

#[test]
fn the_lenient_mode_repairs_what_the_strict_one_refuses() {
    let Err(DomainError::Invalid { mistakes, .. }) = parse(MYVM, Mode::Strict) else {
        panic!("the strict mode refuses it");
    };
    let parsed = lenient(MYVM);
    assert_eq!(parsed.repairs, mistakes);
    assert_eq!(parsed.spec.validate(), Ok(()));
    insta::assert_snapshot!(list(&parsed.repairs, Mode::Lenient), @r"
    1. line 1: there is no <os>: added <os><type arch='x86_64'>hvm</type></os>
    2. line 1: there is no <devices>: added <devices>
    3. line 4: <cpu> has no attribute flags ('+acpi'): now <features><acpi/></features>
    4. line 5: <model>Sea Islands: a family of graphics processors, not a processor, and the mode takes the host's: left out
    5. line 5: <model fallback='virtio'>: neither allow nor forbid: left out
    6. line 7: <disk> stands outside of <devices>: moved into <devices>
    7. line 8: <source> of <disk type='network'> has no attribute path: now <source protocol='http' name='to/iso/file'><host name='path' port='80'/></source>
    8. line 9: <target dev='sda' bus='virtio'>: there is no optical drive on virtio, and names on virtio begin with vd: now bus='sata'
    9. line 12: <controller> stands outside of <devices>: moved into <devices>
    10. line 12: <controller type='virtio'> with the model virtio-net: a network card is an <interface>: now <interface type='user'><model type='virtio'/></interface>
    ");
    insta::assert_snapshot!(notes(&parsed), @r"
    line 3: 4096 MB are 4096000000 bytes, not 4096 MiB (3.8GiB): <memory> is carried over as written
    ");
    insta::assert_snapshot!(repaired(MYVM, &parsed.spec, "myvm.xml"), @r"
    --- myvm.xml
    +++ myvm.xml (repaired)
    @@ -1,15 +1,30 @@
     <domain type='kvm'>
       <name>myvm</name>
    -  <memory unit='MB'>4096</memory>
    -  <cpu mode='host-model' flags='+acpi'>
    -    <model fallback='virtio'>Sea Islands</model>
    -  </cpu>
    -  <disk type='network' device='cdrom'>
    -    <source protocol='http' path='http://path/to/iso/file'/>
    -    <target dev='sda' bus='virtio'/>
    -    <readonly/>
    -  </disk>
    -  <controller type='virtio' index='0'>
    -    <model>virtio-net</model>
    -  </controller>
    +  <memory unit='KiB'>4000000</memory>
    +  <vcpu placement='static'>1</vcpu>
    +  <os>
    +    <type arch='x86_64'>hvm</type>
    +  </os>
    +  <features>
    +    <acpi/>
    +    <apic/>
    +  </features>
    +  <cpu mode='host-model'/>
    +  <clock offset='utc'/>
    +  <on_poweroff>destroy</on_poweroff>
    +  <on_reboot>restart</on_reboot>
    +  <on_crash>destroy</on_crash>
    +  <devices>
    +    <disk type='network' device='cdrom'>
    +      <driver name='qemu' type='raw'/>
    +      <source protocol='http' name='to/iso/file'>
    +        <host name='path' port='80'/>
    +      </source>
    +      <target dev='sda' bus='sata'/>
    +      <readonly/>
    +    </disk>
    +    <interface type='user'>
    +      <model type='virtio'/>
    +    </interface>
    +  </devices>
     </domain>
    ");
    // What came out is right.
    assert_eq!(strict(&write(&parsed.spec)).spec, parsed.spec);
}

#[test]
fn the_corrected_file_is_read_without_a_word() {
    let parsed = strict(EXAMPLE);
    assert_eq!((parsed.repairs.len(), notes(&parsed)), (0, String::new()));
    assert_eq!(lenient(EXAMPLE).spec, parsed.spec);
    assert_eq!(parsed.spec.memory.size, Bytes::mib(4096));
    assert_eq!(parsed.spec.boot.order, [BootDevice::Disk("sda".into())]);
    assert_eq!(repaired(&write(&parsed.spec), &parsed.spec, "myvm.xml"), "");
}

#[test]
fn a_linux_machine_of_virt_manager_is_carried_over_and_the_rest_is_told() {
    let parsed = strict(LINUX);
    let spec = &parsed.spec;
    assert_eq!(
        (spec.memory.size, spec.memory.max),
        (Bytes::mib(4096), Some(Bytes::mib(8192)))
    );
    assert_eq!(
        spec.vcpus
            .affinity
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("0-2,4-7")
    );
    assert_eq!(spec.vcpus.numa.len(), 2);
    assert_eq!(
        spec.cpu.model,
        CpuModel::Named("Skylake-Server-IBRS".into())
    );
    assert_eq!(spec.disks[0].backing.len(), 1);
    assert_eq!(
        spec.boot.order,
        [BootDevice::Interface(0), BootDevice::Disk("vda".into())]
    );
    assert_eq!(
        spec.os_variant.as_deref(),
        Some("http://debian.org/debian/12")
    );
    assert!(spec.agent && spec.rng && spec.shares[0].read_only);
    insta::assert_snapshot!(notes(&parsed), @r"
    line 29: <emulatorpin> of <cputune> is not carried over
    line 32: machine='pc-q35-7.2': carried over as q35, without its version
    line 34: the attribute template of <nvram> is not carried over
    line 41: <vmport> of <features> is not carried over
    lines 55, 56, 57: <timer> other than hypervclock is not carried over
    line 62: <pm> of <domain> is not carried over
    line 67: <emulator>: every machine gets what it needs
    line 69: the attribute io of <driver> is not carried over
    lines 78, 84: <address> of <disk> is not carried over
    lines 86, 89: <controller>: every machine gets those that it needs
    line 96: <interface type='network'>: libvirt's network 'default' is carried over as type='user'; for one of the host's name its bridge
    line 100: <address> of <interface> is not carried over
    line 104: <model> of <target> is not carried over
    line 112: <address> of <channel> is not carried over
    lines 114, 117: <input>: every machine gets what it needs
    line 125: <memballoon>: every machine gets what it needs
    line 132: <seclabel> of <domain> is not carried over
    ");
}

#[test]
fn a_windows_machine_keeps_its_enlightenments() {
    let parsed = strict(WINDOWS);
    let spec = &parsed.spec;
    let features: Vec<_> = spec
        .hyperv
        .features
        .iter()
        .map(|feature| feature.word())
        .collect();
    assert_eq!(
        features,
        [
            "relaxed",
            "vapic",
            "vpindex",
            "synic",
            "stimer",
            "frequencies",
            "tlbflush",
            "clock"
        ]
    );
    assert_eq!(spec.hyperv.spinlock_retries, Some(8191));
    assert_eq!(spec.clock, Clock::Localtime);
    assert!(matches!(
        spec.firmware,
        Firmware::Uefi {
            secure_boot: true,
            ..
        }
    ));
    let order: Vec<_> = ["sdb", "sda"]
        .map(|name| BootDevice::Disk(name.into()))
        .into();
    assert_eq!(spec.boot.order, order);
    assert_eq!(spec.disks.len(), 3, "the floppy is told, not carried");
    insta::assert_snapshot!(notes(&parsed), @r"
    line 15: enrolled-keys is not carried over: the firmware's variables tell
    line 29: <direct> of <stimer> is not carried over
    line 35: <avic> of <hyperv> is not carried over
    line 43: <timer> other than hypervclock is not carried over
    line 48: the attribute io of <driver> is not carried over
    line 64: <disk device='floppy'> is not carried over
    line 73: <tpm> of <devices> is not carried over
    line 76: <graphics type='spice'> is carried over as VNC on a Unix socket
    line 79: <sound> of <devices> is not carried over
    line 81: the attribute ram of <model> is not carried over
    line 81: the attribute vgamem of <model> is not carried over
    line 81: the attribute vram of <model> is not carried over
    line 83: <hostdev> of <devices> is not carried over
    ");
}

#[test]
fn what_would_open_a_machine_to_the_network_or_to_qemu_is_not_carried_over() {
    let parsed = strict(INSTALLER);
    assert_eq!(
        parsed.spec.graphics,
        Graphics::Vnc(VncListen::Loopback(Some(5901)))
    );
    let ports: Vec<_> = parsed.spec.interfaces[0]
        .forwards
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        ports,
        [
            "127.0.0.1:2222:22",
            "127.0.0.1:8000:8000",
            "127.0.0.1:8001:8001",
            "127.0.0.1:8002:8002"
        ]
    );
    let notes = notes(&parsed);
    assert!(!notes.contains("secret"), "{notes}");
    insta::assert_snapshot!(notes, @r"
    line 3: 1024 MB are 1024000000 bytes, not 1024 MiB (976.6MiB): <memory> is carried over as written
    line 6: machine='pc-i440fx-7.2': carried over as pc, without its version
    line 12: <disk> names no format and is carried over as raw: for a file of qcow2 write <driver type='qcow2'/>
    line 40: <graphics> listens on '0.0.0.0': carried over as 127.0.0.1, reached through SSH
    line 40: the password of <graphics> is not carried over: each viewer gets a ticket
    line 42: <qemu:commandline> of <domain> is not carried over
    ");
}

#[test]
fn units_of_memory_are_what_they_say() {
    for (unit, amount, bytes) in [
        (" unit='KiB'", 4_194_304, 4 << 30),
        (" unit='k'", 4_194_304, 4 << 30),
        ("", 4_194_304, 4 << 30),
        (" unit='MiB'", 4096, 4 << 30),
        (" unit='M'", 4096, 4 << 30),
        (" unit='MB'", 4096, 4_096_000_000),
        (" unit='KB'", 4096, 4_096_000),
        (" unit='GiB'", 4, 4 << 30),
        (" unit='GB'", 4, 4_000_000_000),
        (" unit='bytes'", 4_194_304, 4 << 20),
    ] {
        let memory = format!("<memory{unit}>{amount}</memory>");
        let parsed = strict(&with("<memory unit='MiB'>4096</memory>", &memory));
        assert_eq!(parsed.spec.memory.size, Bytes(bytes), "{memory}");
        let decimal = bytes % 1000 == 0;
        assert_eq!(!parsed.notes.is_empty(), decimal, "{memory}");
    }
    for (memory, told) in [
        (
            "<memory>4GiB</memory>",
            "write <memory unit='GiB'>4</memory>",
        ),
        (
            "<memory unit='GiB'>1.5</memory>",
            "write <memory unit='MiB'>1536</memory>",
        ),
        ("<memory unit='XB'>4</memory>", "no such unit"),
        ("<memory unit='MiB'>-1</memory>", "not a whole number"),
        (
            "<memory unit='MiB'>99999999999999999999</memory>",
            "not a whole number",
        ),
        ("<memory unit='MiB'>0</memory>", "holds no system"),
        ("", "no memory"),
    ] {
        let told_now = mistakes(&with("<memory unit='MiB'>4096</memory>", memory));
        assert!(told_now.contains(told), "{memory}: {told_now}");
    }
}

#[test]
fn memory_comes_from_one_node_of_the_host_or_from_where_it_has_it() {
    let of = |nodes: &str| {
        let parsed = strict(&with(
            "<vcpu>1</vcpu>",
            &format!("<vcpu>1</vcpu><numatune>{nodes}</numatune>"),
        ));
        (parsed.spec.memory.from, notes(&parsed))
    };
    let one = of("<memory mode='strict' nodeset='3'/>");
    assert_eq!(one, (Some(3), String::new()));
    let (from, notes) = of("<memory mode='interleave' nodeset='0-1'/>");
    assert_eq!(from, None);
    assert!(notes.contains("one node of the host alone"), "{notes}");
    let lost = "<numatune><memnode cellid='7' nodeset='0'/></numatune>";
    let told = mistakes(&with("<vcpu>1</vcpu>", &format!("<vcpu>1</vcpu>{lost}")));
    assert!(told.contains("names no <cell>"), "{told}");
}

#[test]
fn mistakes_are_told_one_by_one_with_what_helps() {
    let vcpu = "<vcpu>1</vcpu>";
    let target = "<target dev='sda' bus='sata'/>";
    let nic = "<model type='virtio'/>\n    </interface>";
    for (from, to, told) in [
        (
            "<name>myvm</name>",
            "<name>my vm!</name>",
            "write <name>my-vm</name>",
        ),
        ("<name>myvm</name>", "", "the machine has no name"),
        ("type='kvm'", "type='kmv'", "write type='kvm'"),
        ("type='kvm'", "type='lxc'", "run it as a container"),
        (vcpu, "<vcpu>0</vcpu>", "write <vcpu>1</vcpu>"),
        (
            vcpu,
            "<vcpu>1</vcpu><vcpu>2</vcpu>",
            "<vcpu> stands in <domain> where none belongs, or once too often",
        ),
        (
            vcpu,
            "<vpcu>1</vpcu>",
            "<domain> has no element <vpcu> (did you mean vcpu?)",
        ),
        (
            vcpu,
            "<vcpu cpuset='3-1'>1</vcpu>",
            "not a list of processors",
        ),
        (vcpu, "<vcpu current='x'>2</vcpu>", "not a number"),
        ("arch='x86_64'", "arch='amd64'", "write arch='x86_64'"),
        ("arch='x86_64'", "arch='m68k'", "cannot be run"),
        ("dev='cdrom'/>", "dev='cd'/>", "not hd, cdrom or network"),
        (target, "<target dev='sda' bus='isa'/>", "is not a disk bus"),
        (
            target,
            "<target dev='vda' bus='sata'/>",
            "names on sata begin with sd: write dev='sda'",
        ),
        (target, "", "the disk has no name"),
        (
            "<readonly/>",
            "<readonly/><readonlyy/>",
            "<disk> has no element <readonlyy> (did you mean readonly?)",
        ),
        ("port='8000'", "port='80x'", "is not an address"),
        ("type='raw'", "type='rar'", "is not a disk format"),
        (
            nic,
            "<model type='virtio-net'/></interface>",
            "write <model type='virtio'/>",
        ),
        (
            nic,
            "<mac address='01:00:5e:00:00:01'/></interface>",
            "the address of a group",
        ),
        (
            nic,
            "<mac address='nonsense'/></interface>",
            "is not a MAC address",
        ),
        (
            "<graphics type='vnc'>",
            "<graphics type='vcn'>",
            "no such way to show a picture",
        ),
        (
            "<console type='pty'>",
            "<consoles/><console type='pty'>",
            "has no element <consoles>",
        ),
        ("<features>", "text<features>", "there is text in <domain>"),
    ] {
        let list = mistakes(&with(from, to));
        assert!(list.contains(told), "{to}: {list}");
        assert!(!list.contains("2. "), "one mistake, one line: {list}");
    }
}

#[test]
fn names_that_disks_share_are_made_apart() {
    let second = "<target dev='sda' bus='sata'/><readonly/></disk>
      <disk type='file' device='disk'><source file='/a'/><target dev='sda' bus='sata'/></disk>
      <disk type='file' device='disk'><source file='/b'/><target dev='sdb' bus='sata'/></disk>
      <disk type='file' device='cdrom'><target dev='hda' bus='ide'/>";
    let text = with("<target dev='sda' bus='sata'/>", second);
    let text = text.replace("machine='q35'", "machine='pc'");
    let parsed = lenient(&text);
    let names: Vec<_> = parsed
        .spec
        .disks
        .iter()
        .map(|disk| disk.target.as_str())
        .collect();
    assert_eq!(names, ["sda", "sdc", "sdb", "hda"]);
    assert_eq!(parsed.repairs.len(), 1);
}

#[test]
fn a_path_that_looks_like_an_address_stays_a_path() {
    let mut spec = strict(EXAMPLE).spec;
    let web = "http://mirror.example/http://other.example//a.iso";
    spec.disks[0].source = Some(DiskSource::Web(web.parse().expect("an address")));
    assert_eq!(strict(&write(&spec)).spec, spec);
}

#[test]
fn a_bus_that_machines_lack_is_told_and_is_no_mistake() {
    let text = with(
        "<target dev='sda' bus='sata'/>",
        "<target dev='xvdb' bus='xen'/>",
    );
    let parsed = strict(&text);
    assert_eq!(parsed.spec.disks[0].target, "sda");
    insta::assert_snapshot!(notes(&parsed), @"line 21: bus='xen' of <target> is carried over as sata, sda");
}

#[test]
fn what_only_the_writer_can_know_is_asked_in_both_modes() {
    let text = with(
        "<target dev='sda' bus='sata'/>",
        "<target dev='sda' bus='sata'/><foo/>",
    );
    let text = text.replace("<name>myvm</name>", "");
    let error = parse(&text, Mode::Lenient).expect_err("a machine has a name");
    assert_eq!(
        error.to_string(),
        "a mistake of the definition that cannot be repaired"
    );
    insta::assert_snapshot!(told(&error), @r"
    1. line 2: the machine has no name: cannot be repaired: add <name>, of letters, digits, '_', '.' and '-'
    2. line 21: <disk> has no element <foo>: left out
    ");
    let error = parse(&text, Mode::Strict).expect_err("a machine has a name");
    assert_eq!(error.to_string(), "2 mistakes of the definition");
}

#[test]
fn problems_of_the_whole_are_told_with_the_line_of_the_part() {
    let twice = "<disk type='file' device='disk'><source file='a.img'/>
      <target dev='vda' bus='virtio'/></disk><interface type='user'>";
    let list = mistakes(&with("<interface type='user'>", twice));
    assert!(
        list.contains("line 24: disks[1].source: a.img is not an absolute path"),
        "{list}"
    );
}

#[test]
fn bombs_and_files_of_others_are_refused_before_anything_is_read() {
    let bomb = format!("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>{EXAMPLE}");
    assert!(mistakes(&bomb).contains("document types"));
    assert!(mistakes("<network/>").contains("<network> is not a domain"));
    let many = "<sound/>".repeat(2000);
    assert!(mistakes(&with("<video>", &format!("{many}<video>"))).contains("<devices> has 20"));
    // A few bytes that name a great many processors, again and again.
    let pins = "<vcpupin vcpu='0' cpuset='0-16383'/>".repeat(15_000);
    let text = with("<os>", &format!("<cputune>{pins}</cputune><os>"));
    assert!(mistakes(&text).contains("not a list of processors"));
}

#[test]
fn a_document_of_nothing_but_mistakes_is_soon_told() {
    let start = std::time::Instant::now();
    let many: String = (0..19_000)
        .map(|n| format!("<abcdefghijklmnopqrst{n}/>"))
        .collect();
    let list = mistakes(&with("<os>", &format!("{many}<os>")));
    assert_eq!(list.lines().count(), 19_000);
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn what_libvirt_has_no_word_for_survives_in_the_metadata() {
    let mut spec = MachineSpec::new("seeded".parse().expect("name"), Bytes::mib(512), 1);
    let mut disk = Disk::new("vda", Bus::Virtio);
    disk.size = Some(Bytes::mib(10 << 10));
    disk.format = DiskFormat::Qcow2;
    spec.disks.push(disk);
    spec.autostart = true;
    spec.seed = Some(Seed {
        hostname: Some("seeded.example".into()),
        users: vec![SeedUser {
            name: "ann".into(),
            keys: vec!["ssh-ed25519 AAAAC3 ann@<home>".into()],
            admin: true,
        }],
        user_data: Some("#cloud-config\nruncmd:\n  - [sh, -c, 'a && b']\n".into()),
    });
    assert_eq!(spec.validate(), Ok(()));
    let text = write(&spec);
    let part: Vec<_> = text.lines().skip(2).take(16).collect();
    insta::assert_snapshot!(part.join("\n"), @r"
      <metadata>
        <hyperion:machine xmlns:hyperion='urn:hyperion:machine:1' autostart='yes'>
          <hyperion:disk target='vda' size='10' unit='GiB'/>
          <hyperion:seed hostname='seeded.example'>
            <hyperion:user name='ann' admin='yes'>
              <hyperion:key>ssh-ed25519 AAAAC3 ann@&lt;home&gt;</hyperion:key>
            </hyperion:user>
            <hyperion:user-data>#cloud-config
    runcmd:
      - [sh, -c, 'a &amp;&amp; b']
    </hyperion:user-data>
          </hyperion:seed>
        </hyperion:machine>
      </metadata>
      <memory unit='MiB'>512</memory>
      <vcpu placement='static'>1</vcpu>
    ");
    assert_eq!(strict(&text).spec, spec);
    // Another prefix for the same name space is the same.
    let other = text
        .replace("<hyperion:", "<h:")
        .replace("</hyperion:", "</h:");
    assert_eq!(
        strict(&other.replace("xmlns:hyperion", "xmlns:h")).spec,
        spec
    );
    let unknown = text
        .replace("<hyperion:seed ", "<hyperion:seeds ")
        .replace("</hyperion:seed>", "</hyperion:seeds>");
    assert!(mistakes(&unknown).contains("has no element <seeds>"));
    let elsewhere = text.replace("<hyperion:disk target='vda'", "<hyperion:disk target='vdb'");
    assert!(mistakes(&elsewhere).contains("is no size of a disk that is there"));
}

proptest! {
    #[test]
    fn every_machine_is_read_as_it_was_written(rolls in prop::collection::vec(any::<u8>(), 0..160)) {
        let spec = Dice::new(&rolls).machine();
        prop_assert_eq!(spec.validate(), Ok(()));
        let text = write(&spec);
        let parsed = parse(&text, Mode::Strict);
        let parsed = parsed.map_err(|error| TestCaseError::fail(format!("{}\n{text}", told(&error))))?;
        prop_assert_eq!(&parsed.spec, &spec, "{}", text);
        prop_assert!(parsed.notes.is_empty(), "{:?}\n{}", parsed.notes, text);
    }

    #[test]
    fn both_modes_give_one_list(at in 0usize..2000, with in "[<>/='a-z ]{0,6}", length in 0usize..6) {
        let mut text = EXAMPLE.to_owned();
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        text.replace_range(start..end, &with);
        match (parse(&text, Mode::Strict), parse(&text, Mode::Lenient)) {
            (Ok(strict), lenient) => prop_assert_eq!(Some(strict), lenient.ok()),
            (Err(DomainError::Invalid { mistakes, .. }), Ok(parsed)) => {
                prop_assert_eq!(&mistakes, &parsed.repairs);
                prop_assert_eq!(parsed.spec.validate(), Ok(()));
            }
            (
                Err(DomainError::Invalid { mistakes: a, .. }),
                Err(DomainError::Invalid { mistakes: b, .. }),
            ) => prop_assert_eq!(a, b),
            (Err(a), Err(b)) => prop_assert_eq!(a.to_string(), b.to_string()),
            (Err(a), Ok(_)) => prop_assert!(false, "only strictly: {a}"),
        }
    }
}

#[test]
fn libvirts_own_schema_takes_what_is_written() {
    hyperion_testkit::requires!("command:virt-xml-validate");
    let folder = hyperion_testkit::TestDir::new();
    let mut documents: Vec<String> = vec![
        EXAMPLE.into(),
        LINUX.into(),
        WINDOWS.into(),
        INSTALLER.into(),
    ];
    for text in [MYVM, EXAMPLE, LINUX, WINDOWS, INSTALLER] {
        documents.push(write(&lenient(text).spec));
    }
    // Dice from a fixed sequence: the same machines in every run.
    let mut seed = 1_u64;
    for _ in 0..24 {
        let rolls: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u8::try_from(seed >> 56).expect("eight bits")
        })
        .take(160)
        .collect();
        documents.push(write(&Dice::new(&rolls).machine()));
    }
    for (at, document) in documents.iter().enumerate() {
        let file = folder.path().join(format!("{at}.xml"));
        std::fs::write(&file, document).expect("written");
        let output = std::process::Command::new("virt-xml-validate")
            .arg(&file)
            .arg("domain")
            .output();
        let output = output.expect("started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}\n{document}");
    }
}
