//! Archives and layouts, with skopeo, podman and umoci as the other side.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use hyperion_image::layer::pack::Compression;
use hyperion_image::layer::unpack::Owners;
use hyperion_image::store::{NewImage, RuntimeConfig};
use hyperion_image::{ImageRecord, RootForm, RootPolicy, Store, archive, import};
use hyperion_model::sandbox::RootSource;
use hyperion_testkit::requires;

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(&dir.path().join("images")).expect("made");
    Bench { dir, store }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a small root with links, modes and a long name.
    fn tree(&self) -> PathBuf {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let tree = self.path("tree");
        if tree.exists() {
            return tree;
        }
        std::fs::create_dir_all(tree.join("bin")).expect("folder");
        std::fs::create_dir_all(tree.join("d".repeat(130))).expect("folder");
        std::fs::write(tree.join("bin/sh"), b"shell").expect("written");
        std::fs::hard_link(tree.join("bin/sh"), tree.join("bin/dash")).expect("linked");
        symlink("sh", tree.join("bin/bash")).expect("linked");
        std::fs::write(tree.join("d".repeat(130)).join("n".repeat(140)), b"long").expect("written");
        let mode = std::fs::Permissions::from_mode(0o4711);
        std::fs::set_permissions(tree.join("bin/sh"), mode).expect("set");
        std::fs::write(tree.join("big"), vec![9; 3 << 20]).expect("written");
        tree
    }

    fn import(&self, name: &str, compression: Compression) -> ImageRecord {
        let new = NewImage {
            config: RuntimeConfig {
                env: vec!["A=b".into()],
                cmd: vec!["/bin/sh".into()],
                ..RuntimeConfig::default()
            },
            arch: "amd64".into(),
            ..NewImage::default()
        };
        let tree = self.tree();
        let digest = import::import(&self.store, &tree, name, &new, compression, None);
        self.store.record(&digest.expect("imported")).expect("read")
    }

    fn save(&self, images: &[&str], name: &str) -> PathBuf {
        let path = self.path(name);
        let images: Vec<String> = images.iter().map(ToString::to_string).collect();
        archive::save(&self.store, &images, File::create(&path).expect("made")).expect("saved");
        path
    }

    /// The folder of an image of one layer.
    fn unpacked(&self, record: &ImageRecord) -> PathBuf {
        let policy = RootPolicy::new(false, Owners::Keep);
        assert_eq!(policy.form, RootForm::Folders);
        match self.store.rootfs(record, &policy).expect("unpacked").source {
            RootSource::Layers { layers } => layers[0].clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect(program);
    assert!(out.status.success(), "{program} {args:?}: {out:?}");
    String::from_utf8(out.stdout).expect("text")
}

/// Says where two folders differ, in names, contents, modes, owners, links and times.
fn difference(one: &Path, two: &Path) -> String {
    let script = "cd \"$0\" && find . -printf '%P %y %m %U %G %n %l %Ts\n' | sort";
    let list = |path: &Path| run("sh", &["-c", script, &path.display().to_string()]);
    assert_eq!(list(one), list(two));
    let (one, two) = (one.display().to_string(), two.display().to_string());
    run("diff", &["-r", "--no-dereference", &one, &two])
}

#[test]
fn a_folder_survives_packing_and_unpacking() {
    requires!("root");
    let bench = bench();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let record = bench.import("x", compression);
        let folder = bench.unpacked(&record);
        assert_eq!(difference(&bench.tree(), &folder), "");
        bench.store.remove("x", false).expect("removed");
    }
}

#[test]
fn the_same_folder_gives_the_same_image() {
    let bench = bench();
    let one = bench.import("one", Compression::Gzip);
    let two = bench.import("two", Compression::Gzip);
    assert_eq!(one.digest, two.digest);
    let zstd = bench.import("three", Compression::Zstd);
    assert_ne!(one.digest, zstd.digest);
    assert_eq!(one.layers[0].diff_id, zstd.layers[0].diff_id);
}

#[test]
fn what_is_saved_is_loaded_again_with_its_names() {
    let (from, to) = (bench(), bench());
    let record = from.import("mpi:1", Compression::Gzip);
    let other = from.import("other", Compression::None);
    from.store
        .tag("example.org/mpi:2", &record.digest)
        .expect("tagged");
    let path = from.save(&["mpi:1", "example.org/mpi:2", "other"], "all.tar");
    let loaded = archive::load(&to.store, &path, None).expect("loaded");
    assert_eq!(loaded.len(), 2);
    for name in ["mpi:1", "example.org/mpi:2", "docker.io/library/mpi:1"] {
        assert_eq!(to.store.resolve(name).expect("found"), record, "{name}");
    }
    assert_eq!(to.store.resolve("other").expect("found"), other);
    // The same, compressed as a whole, as `docker save | gzip` makes it.
    let again = bench();
    run("gzip", &["-k", &path.display().to_string()]);
    let path = from.path("all.tar.gz");
    archive::load(&again.store, &path, None).expect("loaded");
    assert_eq!(again.store.resolve("mpi:1").expect("found"), record);
    // And as a folder.
    let layout = from.path("layout");
    let names = ["mpi:1".to_owned()];
    archive::save_layout(&from.store, &names, &layout).expect("saved");
    let last = bench();
    archive::load(&last.store, &layout, None).expect("loaded");
    assert_eq!(last.store.resolve("mpi:1").expect("found"), record);
}

#[test]
fn damaged_archives_are_refused_and_name_nothing() {
    let (from, to) = (bench(), bench());
    let record = from.import("x", Compression::Gzip);
    let path = from.save(&["x"], "x.tar");
    let whole = std::fs::read(&path).expect("read");
    for cut in [0, 100, 512, 2000, whole.len() / 2] {
        std::fs::write(&path, &whole[..cut]).expect("written");
        archive::load(&to.store, &path, None).expect_err("cut off");
    }
    // A layer with other content than its digest says.
    let layout = from.path("layout");
    archive::save_layout(&from.store, &["x".to_owned()], &layout).expect("saved");
    let layer = record.layers[0].blob.digest.hex();
    let layer = layout.join("blobs/sha256").join(layer);
    let mut bytes = std::fs::read(&layer).expect("read");
    bytes[1000] ^= 1;
    std::fs::write(&layer, &bytes).expect("written");
    let result = archive::load(&to.store, &layout, None);
    assert!(matches!(
        result,
        Err(archive::ArchiveError::Store(
            hyperion_image::StoreError::WrongDigest { .. }
        ))
    ));
    std::fs::remove_file(&layer).expect("removed");
    let result = archive::load(&to.store, &layout, None);
    assert!(matches!(result, Err(archive::ArchiveError::Missing { .. })));
    let result = archive::load(&to.store, &from.path("tree"), None);
    assert!(matches!(result, Err(archive::ArchiveError::NoImages(_))));
    assert!(to.store.list().expect("listed").is_empty());
    to.store.prune().expect("pruned");
}

#[test]
fn what_is_saved_is_read_by_skopeo_as_an_oci_and_as_a_docker_archive() {
    requires!("command:skopeo");
    let bench = bench();
    let record = bench.import("mpi:1", Compression::Gzip);
    let path = bench.save(&["mpi:1"], "x.tar");
    let path = path.display();
    let digest = run(
        "skopeo",
        &[
            "inspect",
            "--format",
            "{{.Digest}}",
            &format!("oci-archive:{path}:1"),
        ],
    );
    assert_eq!(digest.trim(), record.digest.to_string());
    for source in [
        format!("oci-archive:{path}:1"),
        format!("docker-archive:{path}:mpi:1"),
    ] {
        for (kind, name) in [
            ("oci", "oci"),
            ("docker-archive", "docker.tar"),
            ("oci-archive", "oci.tar"),
        ] {
            let _ = std::fs::remove_dir_all(bench.path(name));
            let _ = std::fs::remove_file(bench.path(name));
            let target = format!("{kind}:{}:mpi:2", bench.path(name).display());
            run(
                "skopeo",
                &["copy", "--insecure-policy", "-q", &source, &target],
            );
            let other = self::bench();
            let loaded = archive::load(&other.store, &bench.path(name), Some("mpi:2"));
            let loaded = loaded.unwrap_or_else(|e| panic!("{source} {target}: {e:?}"));
            let back = other.store.record(&loaded[0].digest).expect("read");
            assert_eq!(back.layers[0].diff_id, record.layers[0].diff_id);
            assert_eq!(back.config, record.config);
            assert_eq!(other.store.resolve("mpi:2").expect("found"), back);
        }
    }
}

#[test]
fn what_is_saved_is_loaded_by_podman_and_what_podman_saves_is_loaded() {
    requires!("root", "command:podman");
    let bench = bench();
    let record = bench.import("mpi:1", Compression::Gzip);
    let path = bench.save(&["mpi:1"], "x.tar").display().to_string();
    let (root, runroot) = (bench.path("podman"), bench.path("podman-run"));
    let (root, runroot) = (root.display().to_string(), runroot.display().to_string());
    let podman = |args: &[&str]| {
        let base = [
            "--root",
            &root,
            "--runroot",
            &runroot,
            "--storage-driver",
            "vfs",
        ];
        run("podman", &[&base, args].concat())
    };
    podman(&["load", "-q", "-i", &path]);
    let layers = podman(&[
        "image",
        "inspect",
        "--format",
        "{{.RootFS.Layers}}",
        "mpi:1",
    ]);
    assert_eq!(layers.trim(), format!("[{}]", record.layers[0].diff_id));
    for format in ["oci-archive", "docker-archive"] {
        let saved = bench.path(format).display().to_string();
        podman(&["save", "-q", "--format", format, "-o", &saved, "mpi:1"]);
        let other = self::bench();
        let loaded = archive::load(&other.store, Path::new(&saved), None).expect("loaded");
        let back = other.store.record(&loaded[0].digest).expect("read");
        assert_eq!(back.layers[0].diff_id, record.layers[0].diff_id);
        assert_eq!(back.config.cmd, ["/bin/sh"]);
        assert_eq!(loaded[0].names.len(), 1);
    }
    podman(&["rmi", "-af"]);
}

#[test]
fn umoci_unpacks_the_same_as_we_do() {
    requires!("root", "command:umoci");
    let bench = bench();
    let record = bench.import("mpi:1", Compression::Gzip);
    let layout = bench.path("layout");
    archive::save_layout(&bench.store, &["mpi:1".to_owned()], &layout).expect("saved");
    let bundle = bench.path("bundle");
    let image = format!("{}:1", layout.display());
    run(
        "umoci",
        &["unpack", "--image", &image, &bundle.display().to_string()],
    );
    assert_eq!(
        difference(&bundle.join("rootfs"), &bench.unpacked(&record)),
        ""
    );
}

#[test]
fn a_layer_with_whiteouts_made_by_umoci_is_merged_as_umoci_does() {
    requires!("root", "command:umoci", "command:fsck.erofs");
    let bench = bench();
    bench.import("mpi:1", Compression::Gzip);
    let layout = bench.path("layout");
    archive::save_layout(&bench.store, &["mpi:1".to_owned()], &layout).expect("saved");
    let bundle = bench.path("bundle");
    let (image, to) = (
        format!("{}:1", layout.display()),
        bundle.display().to_string(),
    );
    run("umoci", &["unpack", "--image", &image, &to]);
    let rootfs = bundle.join("rootfs");
    std::fs::remove_file(rootfs.join("bin/bash")).expect("removed");
    std::fs::remove_dir_all(rootfs.join("d".repeat(130))).expect("removed");
    std::fs::write(rootfs.join("bin/new"), b"new").expect("written");
    run("umoci", &["repack", "--image", &image, &to]);
    let other = self::bench();
    let loaded = archive::load(&other.store, &layout, Some("repacked")).expect("loaded");
    let record = other.store.record(&loaded[0].digest).expect("read");
    assert_eq!(record.layers.len(), 2);
    let policy = RootPolicy::new(true, Owners::Keep);
    let root = other.store.rootfs(&record, &policy).expect("made");
    let RootSource::Erofs { file } = root.source else {
        panic!("one file was asked for");
    };
    let out = other.path("out").display().to_string();
    run(
        "fsck.erofs",
        &[&format!("--extract={out}"), &file.display().to_string()],
    );
    // fsck.erofs 1.5 loses set-id bits and hard links, and umoci rounds times.
    let list = |path: &Path| {
        let script = "cd \"$0\" && find . -printf '%P %y %U %G %l\n' | sort";
        run("sh", &["-c", script, &path.display().to_string()])
    };
    assert_eq!(list(&rootfs), list(Path::new(&out)));
}

#[test]
fn an_archive_of_countless_files_is_refused() {
    let bench = bench();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    for number in 0..=100_000 {
        header.set_path(format!("{number}")).expect("short");
        header.set_link_name("x").expect("short");
        header.set_cksum();
        builder.append(&header, std::io::empty()).expect("written");
    }
    let path = bench.path("many.tar");
    std::fs::write(&path, builder.into_inner().expect("whole")).expect("written");
    let error = archive::load(&bench.store, &path, None).expect_err("refused");
    assert!(matches!(error, archive::ArchiveError::Damaged { .. }));
}

#[test]
fn a_layout_with_a_pipe_in_it_is_refused_and_not_waited_for() {
    requires!("command:mkfifo");
    let bench = bench();
    let layout = bench.path("layout");
    std::fs::create_dir(&layout).expect("made");
    let made = Command::new("mkfifo")
        .arg(layout.join("index.json"))
        .status();
    assert!(made.expect("it runs").success());
    let error = archive::load(&bench.store, &layout, None).expect_err("refused");
    assert!(matches!(error, archive::ArchiveError::Io { .. }));
}
