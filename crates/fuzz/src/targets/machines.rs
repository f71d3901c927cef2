//! Definitions of machines that were written for other programs.

use hyperion_formats::domain::{DomainError, Mode, list, parse, repaired, write};
use hyperion_formats::ova;
use hyperion_model::MachineSpec;

use super::texts;
use crate::Target;

pub(super) const DOMAIN_XML: Target = Target {
    name: "domain_xml",
    about: "libvirt's domain XML: both modes give one list, a machine that comes out is valid and is written so that it is read again as the same",
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (strict, lenient) = (parse(&text, Mode::Strict), parse(&text, Mode::Lenient));
        if let Err(DomainError::Invalid { mistakes, mode }) = &strict {
            assert!(!mistakes.is_empty());
            let _ = list(mistakes, *mode);
            match &lenient {
                Ok(parsed) => assert_eq!(mistakes, &parsed.repairs),
                Err(DomainError::Invalid { mistakes: same, .. }) => assert_eq!(mistakes, same),
                Err(other) => panic!("only leniently: {other}"),
            }
        }
        let Ok(parsed) = lenient else {
            assert!(strict.is_err(), "only strictly");
            return;
        };
        assert_eq!(parsed.spec.validate(), Ok(()));
        let canonical = write(&parsed.spec);
        let again = parse(&canonical, Mode::Strict).expect("what is written is right");
        assert_eq!(again.spec, parsed.spec);
        assert!(again.notes.is_empty(), "{:?}", again.notes);
        let _ = repaired(&text, &parsed.spec, "domain.xml");
    },
    seeds: || texts(&[MISTAKES, LINUX, WINDOWS]),
    words: &[
        "<domain type='kvm'>",
        "</domain>",
        "<devices>",
        "</devices>",
        "<disk ",
        "</disk>",
        "type='network'",
        "device='cdrom'",
        "protocol='http'",
        "path='http://a/b'",
        "unit='MB'",
        "<cpu mode='host-model' flags='+avx2,-vmx'/>",
        "<boot order='1'/>",
        "<boot dev='hd'/>",
        "cpuset='0-16383'",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>",
        "&b;",
        "&#10;",
        "&#x9b;",
        "<![CDATA[",
        "]]>",
        "<!--",
        "<?xml version='1.0' encoding='x'?>",
        "'",
        "/>",
        "99999999999",
        "<hyperion:machine xmlns:hyperion='urn:hyperion:machine:1'/>",
        "retries='",
        "<backingStore",
    ],
};

pub(super) const OVF: Target = Target {
    name: "ovf",
    about: "descriptors and digests of appliances: a machine that comes out is valid, names plain files alone, and is written so that it is read again as the same",
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(manifest) = ova::Manifest::read(&text) {
            assert_eq!(ova::Manifest::read(&manifest.to_string()), Ok(manifest));
        }
        let appliance = match ova::read(&text) {
            Ok(appliance) => appliance,
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.hint().is_empty());
                return;
            }
        };
        let spec = &appliance.spec;
        assert_eq!(spec.validate(), Ok(()));
        for content in &appliance.contents {
            assert!(!content.file.contains(['/', '\\', ':']) && !content.file.starts_with('.'));
            assert!(spec.disk(&content.target).is_some());
        }
        let packed = spec.disks.iter().map(|disk| ova::Packed {
            target: disk.target.clone(),
            file: format!("{}.vmdk", disk.target),
            length: 1,
            capacity: disk.size.map_or(512, |size| size.0),
        });
        let (text, _) = ova::write(spec, &packed.collect::<Vec<_>>());
        let again = ova::read(&text).expect("what is written is right").spec;
        // Disks keep their order; memory is written in whole MiB.
        let targets =
            |spec: &MachineSpec| -> Vec<_> { spec.disks.iter().map(|d| (d.bus, d.size)).collect() };
        assert_eq!(targets(&again), targets(spec));
        assert_eq!(again.interfaces, spec.interfaces);
        assert_eq!(again.vcpus, spec.vcpus);
        assert_eq!(
            again.memory.size.0,
            spec.memory.size.0.next_multiple_of(1 << 20)
        );
    },
    seeds: || texts(&[VMWARE, VIRTUALBOX, SUMS]),
    words: &[
        "<Envelope>",
        "</Envelope>",
        "<References>",
        "<File ovf:id='f' ovf:href='../x'",
        "ovf:compression='gzip'",
        "ovf:size='18446744073709551615'",
        "capacityAllocationUnits='byte * 2^62'",
        "<VirtualSystemCollection>",
        "<VirtualSystem>",
        "ovf:/disk/",
        "<rasd:ResourceType>17</rasd:ResourceType>",
        "<rasd:VirtualQuantity>99999999999",
        "<rasd:Parent>1</rasd:Parent>",
        "hyperion:bus='virtio'",
        "hyperion:mac='kept'",
        "ovf:configuration='a'",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>",
        "SHA256(",
        ")= ",
    ],
};

const VMWARE: &str = include_str!("../../../formats/tests/ova/vmware.ovf");
const VIRTUALBOX: &str = include_str!("../../../formats/tests/ova/virtualbox.ovf");
const SUMS: &str = "SHA256(a.ovf)= 0000000000000000000000000000000000000000000000000000000000000000
SHA1 (b.vmdk) = 0000000000000000000000000000000000000000";

pub(super) const OVA: Target = Target {
    name: "ova",
    about: "archives of appliances: plain files alone, each within the archive",
    run: hyperion_image::ova::fuzz,
    seeds: || {
        let mut archive = Vec::new();
        let texts = [
            ("a.ovf".to_owned(), SUMS.to_owned()),
            ("a.mf".into(), SUMS.into()),
        ];
        hyperion_image::ova::pack(&mut archive, &texts, &[]).expect("packed");
        vec![archive]
    },
    words: &[
        "ustar\0",
        "../",
        "/",
        "././@LongLink",
        "GNU.sparse.major=1\n",
        "path=a\n",
    ],
};

const MISTAKES: &str = "<domain type='kvm'><name>my vm</name><memory unit='MB'>4096</memory>
<cpu mode='host-model' flags='+acpi'><model fallback='virtio'>Sea Islands</model></cpu>
<disk type='network' device='cdrom'><source protocol='http' path='http://path/to/iso/file'/>
<target dev='sda' bus='virtio'/><readonly/></disk>
<controller type='virtio' index='0'><model>virtio-net</model></controller></domain>";

const LINUX: &str = "<?xml version='1.0' encoding='UTF-8'?><domain type='qemu'><name>a</name>
<uuid>1f5a3ca3-6d0b-4f9a-9a51-0c9a2c9d4b7e</uuid><title>t</title><description>d</description>
<metadata><hyperion:machine xmlns:hyperion='urn:hyperion:machine:1' autostart='yes'>
<hyperion:disk target='vda' size='10' unit='GiB'/><hyperion:seed hostname='h'>
<hyperion:user name='u' admin='yes'><hyperion:key>ssh-ed25519 A</hyperion:key></hyperion:user>
<hyperion:user-data>#cloud-config</hyperion:user-data></hyperion:seed></hyperion:machine></metadata>
<memory>2097152</memory><currentMemory unit='MiB'>1024</currentMemory>
<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>
<vcpu cpuset='0-3,^2' current='1'>2</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/></cputune>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader type='pflash'>/l</loader>
<nvram>/n</nvram><kernel>/k</kernel><cmdline>c</cmdline><boot dev='hd'/><boot dev='network'/></os>
<cpu><model>qemu64</model><topology sockets='1' cores='2' threads='1'/><feature policy='disable' name='x'/>
<numa><cell cpus='0-1' memory='2097152'/></numa></cpu>
<devices><disk type='file' device='disk'><driver type='qcow2' cache='none'/><source file='/a'/>
<backingStore type='file'><format type='raw'/><source file='/b'/><backingStore/></backingStore>
<target dev='vda'/><serial>s</serial></disk><filesystem type='mount'><driver type='virtiofs'/>
<source dir='/d'/><target dir='t'/></filesystem><interface type='user'><mac address='52:54:00:00:00:01'/>
<portForward proto='tcp'><range start='80' end='81' to='90'/></portForward><model type='e1000'/></interface>
<console type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<graphics type='vnc' port='5901' listen='0.0.0.0'/><rng model='virtio'/><sound/></devices></domain>";

const WINDOWS: &str = "<domain type='kvm'><name>w</name><memory unit='GiB'>4</memory><vcpu>4</vcpu>
<os firmware='efi'><type>hvm</type><firmware><feature enabled='yes' name='secure-boot'/></firmware></os>
<features><hyperv><relaxed state='on'/><vpindex/><synic/><stimer/><spinlocks retries='8191'/>
<vendor_id value='x'/></hyperv><smm state='on'/></features><cpu mode='host-passthrough'/>
<clock offset='localtime'><timer name='hypervclock' present='yes'/></clock>
<devices><disk type='block' device='disk'><source dev='/dev/x'/><target dev='sda' bus='sata'/><boot order='2'/></disk>
<disk type='network' device='cdrom'><source protocol='https' name='a' query='b'><host name='::1' port='1'/></source>
<target dev='sdb' bus='sata'/><boot order='1'/></disk><disk type='volume'><source pool='p' volume='v'/></disk>
<interface type='bridge'><source bridge='br0'/></interface><interface type='ethernet'><target dev='t'/></interface>
<video><model type='qxl'/></video><watchdog model='i6300esb'/></devices></domain>";
