//! Machines from disk images and appliances, and appliances of machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hyperion_testkit::{Done, requires, wait_until};

use crate::boot::speaking;
use crate::machines::{folder, show, vm};
use crate::site::{LONG, Site, files_below};

fn qemu_img(words: &[&str]) {
    let output = Command::new("qemu-img").args(words).output();
    let output = output.expect("qemu-img runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// A disk that says this on the serial line when it is booted.
fn disk(site: &Site, name: &str, words: &str) -> PathBuf {
    let path = site.path().join(name);
    let mut disk = speaking(words);
    disk.resize(1 << 20, 0);
    fs::write(&path, disk).expect("a file");
    path
}

fn import(site: &Site, file: &Path, words: &[&str]) -> Done {
    vm(site, &[&["import", &text(file)], words].concat())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn boots(site: &Site, name: &str, words: &str) {
    vm(site, &["start", name]).ok();
    let log = folder(site, name).join("run/console.log");
    let said = || fs::read_to_string(&log).is_ok_and(|text| text.contains(words));
    assert!(wait_until(LONG, said), "{name} never says {words:?}");
    vm(site, &["stop", "-t", "0s", name]).ok();
}

#[test]
fn a_disk_image_becomes_a_machine_that_boots_and_the_image_stays_as_it_is() {
    requires!("command:qemu-img", "command:qemu-system-x86_64");
    let site = Site::new();
    let raw = disk(&site, "imp-raw.img", "from the image");
    let before = fs::read(&raw).expect("read");
    for (name, format) in [("imp-qcow2", "qcow2"), ("imp-vmdk", "vmdk")] {
        let file = site.path().join(format!("{name}.{format}"));
        qemu_img(&["convert", "-O", format, &text(&raw), &text(&file)]);
        let words = [name, "--memory", "32MiB", "--bus", "ide"];
        assert_eq!(import(&site, &file, &words).ok(), name);
        boots(&site, name, "from the image");
    }
    // Its name is the file's, and its digest is as asked.
    let sum = Command::new("sha256sum").arg(&raw).output().expect("runs");
    let sum = String::from_utf8_lossy(&sum.stdout)[..64].to_owned();
    let wanted = format!("sha256:{sum}");
    let words = ["--checksum", &wanted, "--memory", "32MiB"];
    assert_eq!(import(&site, &raw, &words).ok(), "imp-raw");
    assert_eq!(
        show(&site, "imp-raw")["definition"]["disks"][0]["bus"],
        "virtio"
    );
    boots(&site, "imp-raw", "from the image");
    assert!(fs::read(&raw).expect("read") == before);

    let wrong = format!("sha256:{}", "0".repeat(64));
    import(&site, &raw, &["other", "--checksum", &wrong])
        .refused("is not what was asked for", "bring it again");
    let short = import(&site, &raw, &["other", "--checksum", "sha256:00"]);
    assert!(short.err.contains("64"), "{short:?}");
    import(&site, &raw, &[]).refused("already", "hyperion vm delete imp-raw");
    let top = site.path().join("top.qcow2");
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "/etc/shadow",
        "-F",
        "raw",
        &text(&top),
    ]);
    import(&site, &top, &[]).refused("lies on another file: \"/etc/shadow\"", "convert");
    fs::write(&top, "hello").expect("a file");
    import(&site, &top, &[]).refused("is no disk image", "cut on its way");
    assert!(!folder(&site, "top").exists());
}

#[test]
fn an_appliance_is_written_read_again_and_boots() {
    requires!("command:qemu-img", "command:qemu-system-x86_64");
    let site = Site::new();
    let first = disk(&site, "first.img", "from the appliance");
    let second = disk(&site, "second.img", "never booted");
    let words = [
        "create", "ova-old", "--memory", "32MiB", "--vcpus", "2", "--image",
    ];
    let first = [
        text(&first),
        "--disk".into(),
        text(&second),
        "-p".into(),
        "0:22".into(),
    ];
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    vm(&site, &[&words[..], &first].concat()).ok();
    vm(&site, &["export", "ova-old", "--format", "ova"])
        .refused("not written to a terminal", "ova-old.ova");
    let ova = site.path().join("it.ova");
    let done = vm(
        &site,
        &["export", "ova-old", &text(&ova), "--format", "ova"],
    )
    .expect_code(0);
    assert!(done.err.contains("forwarded ports are not"), "{done:?}");
    let list = Command::new("tar")
        .arg("-tf")
        .arg(&ova)
        .output()
        .expect("tar runs");
    assert_eq!(
        String::from_utf8_lossy(&list.stdout),
        "ova-old.ovf\nova-old.mf\nova-old-vda.vmdk\nova-old-vdb.vmdk\n"
    );
    let hidden = fs::read_dir(site.path()).expect("a folder").flatten();
    let hidden = hidden.filter(|e| e.file_name().to_string_lossy().ends_with(".parts"));
    assert_eq!(hidden.count(), 0, "nothing else is left");

    let done = import(&site, &ova, &["ova-new"]).expect_code(0);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("ova-new\n", ""));
    let (old, new) = (show(&site, "ova-old"), show(&site, "ova-new"));
    let of = |value: &serde_json::Value, path: &str| value["definition"].pointer(path).cloned();
    for path in [
        "/memory/size",
        "/vcpus/count",
        "/disks/0/target",
        "/disks/1/target",
        "/interfaces/0/kind",
        "/interfaces/0/model",
    ] {
        assert_eq!(of(&old, path), of(&new, path), "{path}");
    }
    boots(&site, "ova-new", "from the appliance");
    let words = [
        "ova-sata",
        "--bus",
        "sata",
        "--memory",
        "64MiB",
        "--network",
        "none",
    ];
    import(&site, &ova, &words).ok();
    let sata = show(&site, "ova-sata");
    assert_eq!(of(&sata, "/disks/1/target"), Some("sdb".into()));
    assert_eq!(of(&sata, "/interfaces"), Some(serde_json::json!([])));

    // A byte of a disk is another one: nothing is made.
    let mut bytes = fs::read(&ova).expect("read");
    let at = bytes.windows(4).position(|w| w == b"KDMV").expect("a disk");
    bytes[at + 70_000] ^= 1;
    let damaged = site.path().join("damaged.ova");
    fs::write(&damaged, &bytes).expect("a file");
    import(&site, &damaged, &["ova-bad"])
        .refused("\"ova-old-vda.vmdk\" is damaged", "bring it again");
    assert!(!folder(&site, "ova-bad").exists());
    vm(&site, &["start", "ova-old"]).ok();
    vm(
        &site,
        &["export", "ova-old", &text(&ova), "--format", "ova"],
    )
    .refused("is running", "hyperion vm stop ova-old");
    vm(&site, &["delete", "--force", "ova-old"]).ok();
}

/// A name, the files of an archive, what is told, and what helps.
type Case<'a> = (&'a str, &'a [(&'a str, &'a [u8])], &'a str, &'a str);

#[test]
fn hostile_appliances_are_refused_and_leave_nothing() {
    requires!("command:qemu-img");
    let site = Site::new();
    let raw = disk(&site, "it.img", "");
    let flat = site.path().join("flat.vmdk");
    let flat_words = ["convert", "-O", "vmdk", "-o", "subformat=monolithicFlat"];
    qemu_img(&[&flat_words[..], &[&text(&raw), &text(&flat)]].concat());
    let flat = fs::read(&flat).expect("read");
    let ovf = |href: &str, more: &str| {
        format!(
            "<Envelope><References><File id='f' href='{href}'/></References>\
             <DiskSection><Disk diskId='d' fileRef='f' capacity='1048576'/></DiskSection>\
             <VirtualSystem id='hostile'><VirtualHardwareSection>{more}\
             <Item><InstanceID>1</InstanceID><ResourceType>3</ResourceType><VirtualQuantity>1</VirtualQuantity></Item>\
             <Item><InstanceID>2</InstanceID><ResourceType>4</ResourceType><VirtualQuantity>33554432</VirtualQuantity></Item>\
             <Item><InstanceID>3</InstanceID><ResourceType>17</ResourceType><HostResource>ovf:/disk/d</HostResource></Item>\
             </VirtualHardwareSection></VirtualSystem></Envelope>"
        )
    };
    let bomb = format!("<!DOCTYPE a [<!ENTITY b 'x'>]>{}", ovf("d.vmdk", "&b;"));
    let (plain, path) = (ovf("d.vmdk", ""), ovf("../../etc/shadow", ""));
    let deep = "<a>".repeat(100);
    let content = fs::read(&raw).expect("read");
    let cases: [Case<'_>; 7] = [
        (
            "path",
            &[("a.ovf", path.as_bytes())],
            "line 1, column 23",
            "plain names",
        ),
        (
            "bomb",
            &[("a.ovf", bomb.as_bytes())],
            "document types",
            "hint",
        ),
        (
            "gone",
            &[("a.ovf", plain.as_bytes())],
            "there is no \"d.vmdk\"",
            "bring it again",
        ),
        (
            "none",
            &[("d.vmdk", &content)],
            "no descriptor",
            "bring it again",
        ),
        (
            "flat",
            &[("a.ovf", plain.as_bytes()), ("d.vmdk", &flat)],
            "only a description",
            "A stranger's may name any file",
        ),
        (
            "sums",
            &[("a.ovf", plain.as_bytes()), ("a.mf", b"SHA256(b)= 0")],
            "line 1 of the manifest",
            "bring it again",
        ),
        (
            "deep",
            &[("a.ovf", deep.as_bytes())],
            "nested more than",
            "hint",
        ),
    ];
    for (name, files, what, hint) in cases {
        let file = site.path().join(format!("{name}.ova"));
        let mut tar = tar::Builder::new(fs::File::create(&file).expect("a file"));
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *content).expect("added");
        }
        tar.into_inner().expect("whole");
        import(&site, &file, &[]).refused(what, hint);
    }
    // What is no plain file is refused by the archive's reader.
    let file = site.path().join("link.ova");
    let mut tar = tar::Builder::new(fs::File::create(&file).expect("a file"));
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "d.vmdk", "/etc/shadow")
        .expect("added");
    tar.into_inner().expect("whole");
    import(&site, &file, &[]).refused(
        "at byte 512 of the archive is no plain file",
        "bring it again",
    );
    assert_eq!(
        files_below(&site.root().join("machines")),
        [] as [PathBuf; 0]
    );
}
