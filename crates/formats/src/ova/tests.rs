use hyperion_model::machine::{Bus, Firmware, InterfaceKind, NicModel};
use proptest::prelude::*;

use super::*;

/// As VMware's tools write it.
const VMWARE: &str = include_str!("../../tests/ova/vmware.ovf");
/// As VirtualBox writes it, version 2.
const VIRTUALBOX: &str = include_str!("../../tests/ova/virtualbox.ovf");

fn notes(appliance: &Appliance) -> String {
    let notes = appliance.notes.iter().map(ToString::to_string);
    notes.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_descriptor_of_vmwares_becomes_a_machine() {
    let read = read(VMWARE).expect("read");
    let spec = &read.spec;
    assert_eq!(spec.name.as_str(), "photon-4-small");
    assert_eq!((spec.vcpus.count, spec.memory.size), (2, Bytes(2 << 30)));
    assert!(matches!(spec.firmware, Firmware::Uefi { .. }));
    let disks: Vec<_> = spec
        .disks
        .iter()
        .map(|d| (d.target.as_str(), d.bus, d.size))
        .collect();
    assert_eq!(
        disks,
        [
            ("sda", Bus::Sata, Some(Bytes(16 << 30))),
            ("hda", Bus::Ide, Some(Bytes(512 << 20))),
        ]
    );
    let [content] = &read.contents[..] else {
        panic!("{:?}", read.contents);
    };
    assert_eq!(
        (
            content.target.as_str(),
            content.file.as_str(),
            content.length
        ),
        ("sda", "photon-disk1.vmdk", Some(1234))
    );
    let card = &spec.interfaces[0];
    assert_eq!(
        (&card.kind, card.model, card.mac),
        (&InterfaceKind::User, NicModel::E1000, None)
    );
    let told = notes(&read);
    for part in [
        "\"photon 4 (small)\" is photon-4-small",
        "controller \"VirtualSCSI\"",
        "network card \"VmxNet3\"",
        "network \"VM Network\"",
        "another configuration",
        "optical drive",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
}

#[test]
fn a_descriptor_of_virtualbox_becomes_a_machine() {
    let read = read(VIRTUALBOX).expect("read");
    let spec = &read.spec;
    assert_eq!((spec.vcpus.count, spec.memory.size), (1, Bytes(512 << 20)));
    assert_eq!(spec.disks[0].bus, Bus::Sata);
    assert_eq!(spec.interfaces[0].model, NicModel::E1000);
    let told = notes(&read);
    assert!(told.contains("Sound Card (kind 35) is left out"), "{told}");
}

#[test]
fn a_machine_that_is_written_is_read_again() {
    let mut spec = MachineSpec::new("web".parse().expect("a name"), Bytes(1 << 30), 3);
    spec.description = Some("for the <web> & more".into());
    spec.firmware = Firmware::Uefi {
        secure_boot: false,
        loader: None,
        variables: None,
    };
    for bus in [Bus::Virtio, Bus::Sata, Bus::Scsi, Bus::Ide, Bus::Virtio] {
        let mut disk = hyperion_model::machine::Disk::new(spec.free_target(bus), bus);
        disk.size = Some(Bytes(10 << 20));
        spec.disks.push(disk);
    }
    for (model, kind) in [
        (NicModel::Virtio, InterfaceKind::User),
        (NicModel::E1000e, InterfaceKind::None),
    ] {
        let mac = Some("52:54:00:00:00:01".parse().expect("an address"));
        spec.interfaces.push(hyperion_model::machine::Interface {
            mac: mac.filter(|_| model == NicModel::Virtio),
            kind,
            model,
            forwards: Vec::new(),
        });
    }
    let packed: Vec<Packed> = spec
        .disks
        .iter()
        .map(|disk| Packed {
            target: disk.target.clone(),
            file: format!("web-{}.vmdk", disk.target),
            length: 7,
            capacity: 10 << 20,
        })
        .collect();
    let (text, told) = write(&spec, &packed);
    assert_eq!(told, ["the variables of UEFI are not in the archive"]);
    let again = read(&text).expect("what is written is right");
    assert_eq!(notes(&again), "");
    assert_eq!(again.spec, spec);
    let files: Vec<&str> = again.contents.iter().map(|c| c.file.as_str()).collect();
    assert_eq!(files.len(), 5);
}

#[test]
fn what_is_hostile_is_refused_with_its_place() {
    let swapped = |from: &str, to: &str| {
        assert!(VMWARE.contains(from), "{from}");
        let error = read(&VMWARE.replace(from, to)).expect_err(to);
        assert!(!error.hint().is_empty());
        error.to_string()
    };
    let cases = [
        (
            "photon-disk1.vmdk",
            "../../etc/shadow",
            "line 4, column 5: \"../../etc/shadow\" leads out",
        ),
        (
            "photon-disk1.vmdk",
            "http://a/b",
            "\"http://a/b\" leads out",
        ),
        ("photon-disk1.vmdk", "/etc/shadow", "leads out"),
        ("photon-disk1.vmdk", "json:{}", "leads out"),
        ("photon-disk1.vmdk", ".", "leads out"),
        (
            "ovf:capacity=\"16\"",
            "ovf:capacity=\"99999999999999\"",
            "no capacity of a disk",
        ),
        (
            "ovf:capacity=\"16\"",
            "ovf:capacity=\"-1\"",
            "\"-1\" is no capacity",
        ),
        ("byte * 2^30", "byte * 2^99", "is no unit of bytes"),
        (">2048<", ">18446744073709551616<", "no amount of memory"),
        (">2048<", "><", "\"\" is no amount of memory"),
        (
            "ovf:/disk/vmdisk1",
            "/etc/shadow",
            "no disk \"/etc/shadow\"",
        ),
        (
            "ovf:fileRef=\"file1\"",
            "ovf:fileRef=\"file9\"",
            "no file \"file9\"",
        ),
        (
            "ovf:fileRef=\"file1\"",
            "ovf:parentRef=\"x\"",
            "lies on another",
        ),
        (
            "ovf:size=\"1234\"",
            "ovf:compression=\"gzip\"",
            "compressed once more",
        ),
        (
            "ovf:size=\"1234\"",
            "ovf:chunkSize=\"1\"",
            "cut into pieces",
        ),
        (
            "ovf:size=\"1234\"",
            "ovf:size=\"1e9\"",
            "no length of a file",
        ),
        (
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]>",
            "document types",
        ),
        ("<Name>", "<Name>&b;", "the entity &b; is not known"),
    ];
    for (from, to, told) in cases {
        let error = swapped(from, to);
        assert!(error.contains(told), "{error}");
        assert!(error.contains("line "), "no place in {error}");
    }
    let many = VMWARE.replace("</VirtualSystem>", "</VirtualSystem><VirtualSystem/>");
    assert!(matches!(
        read(&many),
        Err(OvfError::Several { machines: 2, .. })
    ));
    let whole = read(&VMWARE.replace(">2048<", ">0<")).expect_err("no memory");
    assert!(whole.to_string().contains("memory.size"), "{whole}");
    assert!(matches!(read("<domain/>"), Err(OvfError::Root { .. })));
}

#[test]
fn a_manifest_is_read_and_written() {
    let digest = "a".repeat(64);
    let text = format!(
        "SHA256(a.ovf)= {digest}\r\nSHA1 (b (1).vmdk) = {}\n\n",
        "F".repeat(40)
    );
    let manifest = Manifest::read(&text).expect("read");
    assert_eq!(
        manifest.of("a.ovf").map(|l| l.algorithm),
        Some(Algorithm::Sha256)
    );
    let second = manifest.of("b (1).vmdk").expect("there");
    assert_eq!(second.digest, "f".repeat(40));
    assert_eq!(Manifest::read(&manifest.to_string()), Ok(manifest));
    let refused = |text: &str| Manifest::read(text).expect_err(text).to_string();
    assert!(refused("SHA256(a)= abc").starts_with("line 1 of the manifest is not"));
    assert!(refused("MD5(a)= abc").contains("MD5"));
    let twice = format!("SHA256(a)= {digest}\nSHA256(a)= {digest}");
    assert_eq!(refused(&twice), "line 2 of the manifest names \"a\" again");
    assert!(refused(&" ".repeat(70_000)).contains("70000 bytes"));
}

proptest! {
    #[test]
    fn no_manifest_harms_its_reader(text in "[SHA1256()= a-f\n./]{0,80}") {
        if let Ok(manifest) = Manifest::read(&text) {
            prop_assert_eq!(Manifest::read(&manifest.to_string()), Ok(manifest));
        }
    }
}
