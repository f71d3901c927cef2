//! Images that are broken or hostile, and places that cannot take one: each is
//! refused with cause and hint, and leaves nothing behind.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hyperion_image::Digest;
use hyperion_image::layer::pack::{Compression, LayerWriter};
use hyperion_testkit::{Done, TestDir, hyperion, hyperion_as, hyperion_binary, requires};
use tar::EntryType;

/// An archive with exactly these names, whatever they are: kind, name, and target or content.
fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        let content = if kind.is_file() { *text } else { "" };
        if content.is_empty() {
            old.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder
            .append(&header, content.as_bytes())
            .expect("written");
    }
    builder.into_inner().expect("whole")
}

fn gzip(archive: &[u8]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new(), Compression::Gzip).expect("started");
    writer.write_all(archive).expect("written");
    writer.finish().expect("whole").0
}

/// An OCI layout of one layer below `home`.
struct Layout {
    folder: PathBuf,
}

impl Layout {
    fn new(home: &Path, name: &str, layer: &[u8], diff_id: Digest) -> Self {
        let config = serde_json::json!({ "architecture": "amd64", "os": "linux" });
        Self::with_config(home, name, layer, diff_id, config)
    }

    fn with_config(
        home: &Path,
        name: &str,
        layer: &[u8],
        diff_id: Digest,
        mut config: serde_json::Value,
    ) -> Self {
        let folder = home.join(name);
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("made");
        let put = |bytes: &[u8], kind: &str| {
            let digest = Digest::of(bytes);
            std::fs::write(blobs.join(digest.hex()), bytes).expect("written");
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": digest,
                "size": bytes.len(),
            })
        };
        config["rootfs"] = serde_json::json!({ "type": "layers", "diff_ids": [diff_id] });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": put(config.to_string().as_bytes(), "config.v1+json"),
            "layers": [put(layer, "layer.v1.tar")],
        });
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [put(manifest.to_string().as_bytes(), "manifest.v1+json")],
        });
        std::fs::write(folder.join("index.json"), index.to_string()).expect("written");
        Self { folder }
    }

    fn path(&self) -> String {
        self.folder.display().to_string()
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }
}

fn run(home: &Path, words: &[&str]) -> Done {
    Done::of(hyperion(home).args(words))
}

/// What stands in some folders of the store.
fn kept(home: &Path, folders: &[&str]) -> Vec<PathBuf> {
    let store = home.join("hyperion/images");
    let list =
        |folder: &&str| std::fs::read_dir(store.join(folder)).expect("a folder of the store");
    let entries = folders.iter().flat_map(list).flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn a_broken_or_hostile_layer_is_refused_and_nothing_of_it_stays() {
    requires!("userns");
    use EntryType as E;
    let home = TestDir::new();
    let victim = home.path().join("victim");
    std::fs::create_dir(&victim).expect("made");
    let victim_name = victim.display().to_string();
    let up = format!("../../../../../../../../..{victim_name}");
    let good = archive(&[(E::Regular, "etc/os-release", "ID=test")]);
    let long = "x".repeat(100_000);
    let cut = gzip(&archive(&[(E::Regular, "etc/os-release", &long)]));
    let of = |entries: &[(EntryType, &str, &str)]| {
        let bytes = archive(entries);
        let digest = Digest::of(&bytes);
        (gzip(&bytes), digest)
    };
    let own = Digest::of(&good);
    let broken = "the image is broken";
    let evil = "do not trust it";
    // What the layer is, its diff id, what the cause says, and the hint.
    let table = [
        (
            "cut",
            (cut[..cut.len() / 2].to_vec(), own),
            "cannot be read",
            broken,
        ),
        (
            "cut-archive",
            (good[..600].to_vec(), own),
            "cut off after",
            broken,
        ),
        (
            "no-archive",
            (b"nothing".repeat(200), own),
            "at its beginning",
            broken,
        ),
        (
            "no-gzip",
            (b"\x1f\x8bnothing".repeat(200), own),
            "cannot be read",
            broken,
        ),
        (
            "other",
            (gzip(&good), Digest::of(b"other")),
            "has the diff id",
            broken,
        ),
        (
            "up",
            of(&[(E::Regular, "../evil", "x")]),
            "would leave the root",
            evil,
        ),
        (
            "link-up",
            of(&[(E::Link, "h", "../../etc/passwd")]),
            "would leave the root",
            evil,
        ),
        (
            "link",
            of(&[(E::Link, "h", "/etc/passwd")]),
            "which is not there",
            broken,
        ),
        (
            "through",
            of(&[
                (E::Symlink, "out", &victim_name),
                (E::Regular, "out/evil", "x"),
            ]),
            "no folder",
            broken,
        ),
        (
            "through-up",
            of(&[(E::Symlink, "out", &up), (E::Regular, "out/evil", "x")]),
            "no folder",
            broken,
        ),
    ];
    for (name, (layer, diff_id), cause, hint) in table {
        let layout = Layout::new(home.path(), name, &layer, diff_id);
        let load = ["image", "load", &layout.path(), "--name", name];
        run(home.path(), &load).expect_code(0);
        run(home.path(), &["run", "--rm", name, "true"])
            .refused("cannot unpack the layer", hint)
            .refused(cause, hint);
        assert!(
            kept(home.path(), &["layers", "erofs", "partial"]).is_empty(),
            "{name}"
        );
    }
    assert_eq!(std::fs::read_dir(&victim).expect("kept").count(), 0);
    assert!(!home.path().join("evil").exists());
}

#[test]
fn devices_absolute_names_and_set_ids_of_a_layer_do_no_harm() {
    requires!("userns");
    use EntryType as E;
    let home = TestDir::new();
    let victim = home.path().join("victim").display().to_string();
    let layer = archive(&[
        (E::Char, "dev/mem", ""),
        (E::Block, "disk", ""),
        (E::Regular, &victim, "x"),
        (E::Regular, "bin/su", "x"),
    ]);
    let layout = Layout::new(home.path(), "odd", &layer, Digest::of(&layer));
    let load = ["image", "load", &layout.path(), "--name", "odd"];
    run(home.path(), &load).expect_code(0);
    // It is unpacked, and has no such program.
    run(home.path(), &["run", "--rm", "odd", "/nothing"]).expect_code(127);
    assert!(!Path::new(&victim).exists());
}

#[test]
fn content_that_is_not_what_its_digest_says_is_not_loaded() {
    let home = TestDir::new();
    let layer = archive(&[(EntryType::Regular, "etc/os-release", "ID=test")]);
    let layout = Layout::new(home.path(), "lie", &layer, Digest::of(&layer));
    let mut other = layer.clone();
    other[600] ^= 1;
    std::fs::write(layout.blob(&Digest::of(&layer)), other).expect("written");
    let load = ["image", "load", &layout.path(), "--name", "lie"];
    run(home.path(), &load).refused("has the digest", "the image is broken");
    let folders = ["blobs/sha256", "partial", "refs", "records"];
    assert!(kept(home.path(), &folders).is_empty());
}

#[test]
fn a_full_disk_is_told_and_keeps_nothing_of_the_image() {
    requires!("root", "command:unshare", "filesystem:tmpfs");
    let home = TestDir::new();
    // Nothing that a compressor could make smaller.
    let mut noise = String::new();
    while noise.len() < 4 << 20 {
        noise.push_str(&Digest::of(&noise.as_bytes()[noise.len().saturating_sub(64)..]).hex());
    }
    let layer = archive(&[(EntryType::Regular, "noise", &noise)]);
    let layout = Layout::new(home.path(), "big", &layer, Digest::of(&layer));
    let script = r#"
        left() { (cd "$disk/root/images" && find "$@" -type f -size +0 | sed 's/^/left: /'); }
        fill() { mount -t tmpfs -o "size=$1" none "$disk" || exit 9; }
        fill 2m
        "$hyperion" image load "$layout" --name big; echo "code: $?"; left .
        "$hyperion" image import "$layout" big; echo "code: $?"; left .
        tar -C "$layout" -cf - . | "$hyperion" image load --name big; echo "code: $?"; left .
        umount "$disk"; fill 6m
        "$hyperion" image load "$layout" --name big; echo "code: $?"
        "$hyperion" run --rm big true; echo "code: $?"; left layers erofs partial
        umount "$disk"
    "#;
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).expect("made");
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .env("HOME", home.path())
        .env("HYPERION_ROOT", disk.join("root"))
        .env("disk", &disk)
        .env("layout", layout.path())
        .env("hyperion", hyperion_binary());
    let Done { out, err: told, .. } = Done::of(&mut command);
    let lines: Vec<&str> = out
        .lines()
        .filter(|line| !line.contains("sha256:"))
        .collect();
    let expected = [
        "code: 125",
        "code: 125",
        "code: 125",
        "code: 0",
        "code: 125",
    ];
    assert_eq!(lines, expected, "{told}");
    assert_eq!(told.matches("No space left on device").count(), 4, "{told}");
    assert_eq!(told.matches("hint: the disk is full").count(), 4, "{told}");
}

#[test]
fn a_store_that_may_not_be_used_is_told_with_the_way_to_another() {
    requires!("user:hyperion-test");
    let home = TestDir::shared();
    let store = home.path().join("store");
    std::fs::create_dir(&store).expect("made");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&store, closed).expect("set");
    for words in [
        &["image", "ls"][..],
        &["image", "load", "/nowhere"],
        &["run", "x", "true"],
    ] {
        let mut command = hyperion_as(home.path(), "hyperion-test");
        command.env("HYPERION_ROOT", &store).args(words);
        Done::of(&mut command).refused("Permission denied", "--root");
    }
}

#[test]
fn an_image_runs_from_a_store_in_memory() {
    requires!("userns", "path:/dev/shm");
    let home = TestDir::new();
    let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let layer = archive(&[(EntryType::Regular, "etc/os-release", "ID=test")]);
    let layout = Layout::new(home.path(), "x", &layer, Digest::of(&layer));
    let run = |words: &[&str]| {
        let mut command = hyperion(home.path());
        command.env("HYPERION_ROOT", memory.path()).args(words);
        Done::of(&mut command)
    };
    run(&["image", "load", &layout.path(), "--name", "x"]).expect_code(0);
    // The sandbox is up, and has no such program: no file of a tmpfs can be mounted.
    run(&["run", "--rm", "x", "/nothing"]).expect_code(127);
}

#[test]
fn what_an_image_says_of_itself_is_not_obeyed_by_the_terminal() {
    let home = TestDir::new();
    let layer = archive(&[(EntryType::Regular, "etc/os-release", "ID=test")]);
    let config = serde_json::json!({
        "architecture": "amd64\u{1b}[31m",
        "os": "linux",
        "created": "2020\u{1b}[2J",
        "history": [{ "created_by": "\u{1b}]0;title\u{7}\r\nNAME", "created": "\u{9b}1m" }],
    });
    let layout = Layout::with_config(home.path(), "x", &layer, Digest::of(&layer), config);
    run(
        home.path(),
        &["image", "load", &layout.path(), "--name", "x"],
    )
    .expect_code(0);
    for words in [
        ["image", "ls"].as_slice(),
        &["image", "history", "x"],
        &["image", "inspect", "x"],
    ] {
        let out = run(home.path(), words).expect_code(0).out;
        let obeyed = out.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(obeyed, None, "{out:?}");
    }
}

#[test]
fn an_image_cannot_ask_for_the_user_that_changes_nothing() {
    requires!("userns");
    let home = TestDir::new();
    let layer = archive(&[(EntryType::Regular, "etc/os-release", "ID=test")]);
    for user in ["4294967295", "0:4294967295", "-1"] {
        let config = serde_json::json!({ "os": "linux", "config": { "User": user } });
        let layout = Layout::with_config(home.path(), "x", &layer, Digest::of(&layer), config);
        run(
            home.path(),
            &["image", "load", &layout.path(), "--name", "x"],
        )
        .expect_code(0);
        run(home.path(), &["run", "--rm", "x", "/bin/true"]).refused("is not known", "-u");
    }
}
