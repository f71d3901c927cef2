//! Roots, leases, removal, and a store whose users are killed.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use hyperion_model::sandbox::RootSource;

use super::*;
use crate::layer::LayerError;
use crate::layer::testing::{Archive, image};
use crate::layer::unpack::Owners;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(&dir.path().join("images")).expect("made");
    (dir, store)
}

fn policy(form: RootForm) -> RootPolicy {
    RootPolicy {
        form,
        owners: Owners::Caller,
        ..RootPolicy::new(false, Owners::Caller)
    }
}

fn layers() -> Vec<Vec<u8>> {
    let lower = Archive::new()
        .file("etc/os", b"debian")
        .file("etc/gone", b"x");
    let upper = Archive::new()
        .file("etc/.wh.gone", b"")
        .file("etc/new", b"y");
    vec![lower.bytes(), upper.bytes()]
}

/// Everything in the store, with contents left out.
fn files(store: &Store) -> Vec<String> {
    let mut out = Vec::new();
    for folder in [
        "blobs/sha256",
        "partial",
        "refs",
        "records",
        "layers",
        "erofs",
        "tmp",
    ] {
        for entry in std::fs::read_dir(store.dir().join(folder))
            .expect("folder")
            .flatten()
        {
            out.push(format!("{folder}/{}", entry.file_name().to_string_lossy()));
        }
    }
    out.sort();
    out
}

#[test]
fn a_root_is_made_once_and_found_again() {
    let (_dir, store) = store();
    let record = image(&store, "x", &layers());
    for form in [RootForm::Folders, RootForm::OneFile, RootForm::Ext4] {
        let policy = policy(form);
        assert!(!store.is_prepared(&record, &policy));
        let first = store.rootfs(&record, &policy).expect("made");
        assert!(store.is_prepared(&record, &policy));
        // Without its blobs it could not be made again.
        let second = store.rootfs(&record, &policy).expect("found");
        assert_eq!(first.source, second.source);
        match first.source {
            RootSource::Layers { layers } => {
                assert_eq!(layers.len(), 2);
                assert_eq!(
                    std::fs::read(layers[0].join("etc/os")).expect("read"),
                    b"debian"
                );
                assert_eq!(
                    std::fs::read(layers[1].join("etc/new")).expect("read"),
                    b"y"
                );
            }
            RootSource::Erofs { file } => assert!(file.metadata().expect("file").len() >= 8192),
            RootSource::Host => panic!("not the host's root"),
        }
    }
}

#[test]
fn layers_are_not_unpacked_onto_a_parallel_file_system_but_one_file_is_written() {
    let (_dir, store) = store();
    let record = image(&store, "x", &layers());
    let lustre: fn(&Path) -> io::Result<_> = |_| Ok(Some("Lustre"));
    let mut policy = policy(RootForm::Folders);
    policy.refuses = lustre;
    assert!(matches!(
        store.rootfs(&record, &policy),
        Err(RootfsError::ParallelFilesystem {
            filesystem: "Lustre",
            ..
        })
    ));
    policy.form = RootForm::OneFile;
    store.rootfs(&record, &policy).expect("made");
    assert_eq!(
        parallel_filesystem(Path::new("/proc")).expect("looked"),
        None
    );
}

#[test]
fn a_layer_with_another_diff_id_is_refused_and_leaves_nothing() {
    let (_dir, store) = store();
    let mut record = image(&store, "x", &layers());
    record.layers[1].diff_id = crate::Digest::of(b"other");
    for form in [RootForm::Folders, RootForm::OneFile, RootForm::Ext4] {
        let before = files(&store).len();
        let result = store.rootfs(&record, &policy(form));
        assert!(matches!(
            result,
            Err(RootfsError::Layer {
                source: LayerError::WrongDiffId { .. },
                ..
            })
        ));
        let locks = |name: &&String| name.starts_with("tmp/");
        let after = files(&store).iter().filter(|name| !locks(name)).count();
        // The first layer was right.
        assert!(after <= before + 1, "{:?}", files(&store));
        assert!(!files(&store).iter().any(|name| name.contains("/.")));
    }
}

#[test]
fn a_layer_that_the_disk_has_changed_is_refused() {
    let (_dir, store) = store();
    let record = image(&store, "x", &layers());
    let path = store.blob_path(&record.layers[0].blob.digest);
    let mut bytes = std::fs::read(&path).expect("read");
    let last = bytes.len() - 1;
    bytes.truncate(last);
    std::fs::write(&path, bytes).expect("written");
    for form in [RootForm::Folders, RootForm::OneFile, RootForm::Ext4] {
        assert!(store.rootfs(&record, &policy(form)).is_err());
        assert!(!store.is_prepared(&record, &policy(form)));
    }
}

#[test]
fn an_image_in_use_is_not_removed() {
    let (_dir, store) = store();
    let record = image(&store, "x", &layers());
    let root = store
        .rootfs(&record, &policy(RootForm::Folders))
        .expect("made");
    assert!(matches!(
        store.remove("x", false),
        Err(StoreError::InUse(_))
    ));
    let pruned = store.remove("x", true).expect("untagged");
    assert_eq!(pruned.in_use, [record.digest]);
    assert_eq!(store.prune().expect("pruned").in_use, [record.digest]);
    assert!(store.is_prepared(&record, &policy(RootForm::Folders)));
    drop(root);
    assert_eq!(store.prune().expect("pruned").images, [record.digest]);
    assert!(files(&store).is_empty(), "{:?}", files(&store));
}

#[test]
fn removing_an_image_keeps_what_others_share() {
    let (_dir, store) = store();
    let both = layers();
    let one = image(&store, "one", &both[..1]);
    let two = image(&store, "two", &both);
    for record in [&one, &two] {
        store
            .rootfs(record, &policy(RootForm::Folders))
            .expect("made");
        store
            .rootfs(record, &policy(RootForm::OneFile))
            .expect("made");
        store.rootfs(record, &policy(RootForm::Ext4)).expect("made");
    }
    store.tag("two:again", &two.digest).expect("tagged");
    assert!(
        store
            .remove("two", false)
            .expect("untagged")
            .images
            .is_empty()
    );
    assert_eq!(
        store.remove("two:again", false).expect("removed").images,
        [two.digest]
    );
    assert!(store.is_prepared(&one, &policy(RootForm::Folders)));
    store.prune().expect("pruned");
    assert!(store.is_prepared(&one, &policy(RootForm::OneFile)));
    assert!(store.is_prepared(&one, &policy(RootForm::Ext4)));
    assert!(!store.is_prepared(&two, &policy(RootForm::Ext4)));
    assert!(!store.is_prepared(&two, &policy(RootForm::Folders)));
    assert!(!store.has_blob(&two.layers[1].blob.digest));
    assert!(store.has_blob(&one.layers[0].blob.digest));
    assert_eq!(store.resolve("one").expect("found"), one);
}

#[test]
fn an_id_with_many_names_is_removed_by_force_only() {
    let (_dir, store) = store();
    let record = image(&store, "a", &layers());
    store.tag("b", &record.digest).expect("tagged");
    let id = record.digest.short();
    assert!(matches!(
        store.remove(&id, false),
        Err(StoreError::ManyNames { .. })
    ));
    assert_eq!(store.remove(&id, true).expect("removed").names.len(), 2);
    assert!(matches!(
        store.remove(&id, true),
        Err(StoreError::NoImage(_))
    ));
}

#[test]
fn prune_waits_for_nobody_and_removes_nothing_that_is_being_added() {
    let (_dir, store) = store();
    let adding = store.adding().expect("locked");
    let digest = store.put_blob(b"not named yet").expect("written");
    assert!(matches!(store.prune(), Err(StoreError::Busy)));
    assert!(store.has_blob(&digest));
    drop(adding);
    store.prune().expect("pruned");
    assert!(!store.has_blob(&digest));
}

#[test]
fn prune_keeps_named_images_even_without_their_records() {
    let (_dir, store) = store();
    let record = image(&store, "x", &layers());
    store
        .rootfs(&record, &policy(RootForm::Folders))
        .expect("made");
    std::fs::remove_file(store.record_path(&record.digest)).expect("removed");
    store.prune().expect("pruned");
    assert_eq!(store.resolve("x").expect("found"), record);
    assert!(store.is_prepared(&record, &policy(RootForm::Folders)));
}

/// What a child process of a test does, by name.
const WORK: &str = "HYPERION_TEST_WORK";

/// Runs this very test binary again, with `work` to do in the store; `point` is where it dies.
fn child(test: &str, store: &Store, work: &str, point: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args([
            &format!("store::store_tests::{test}"),
            "--exact",
            "--nocapture",
        ])
        .env(WORK, format!("{work}\n{}\n{point}", store.dir().display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A blob that children bring.
const BROUGHT: &[u8] = b"what is brought";

/// Does the work that the environment asks for, in a child process.
fn work() -> bool {
    let Ok(text) = std::env::var(WORK) else {
        return false;
    };
    let words: Vec<&str> = text.lines().collect();
    hyperion_sys::failpoint::arm(words.get(2).copied().unwrap_or_default());
    let store = Store::open(Path::new(words[1])).expect("opened");
    match words[0] {
        "tag" => {
            image(&store, "killed", &layers());
        }
        "bring" => {
            use std::io::Write;
            let digest = crate::Digest::of(BROUGHT);
            if let BlobLock::Partial(mut blob) = store.lock_blob(&digest, None).expect("locked") {
                let at = blob.offset() as usize;
                blob.write_all(&BROUGHT[at..]).expect("written");
                blob.commit().expect("committed");
            }
        }
        form => {
            let record = store.resolve("x").expect("found");
            let form = match form {
                "folders" => RootForm::Folders,
                _ => RootForm::OneFile,
            };
            store.rootfs(&record, &policy(form)).expect("made");
        }
    }
    true
}

#[test]
fn a_killed_maker_leaves_a_store_that_heals() {
    if work() {
        return;
    }
    let test = "a_killed_maker_leaves_a_store_that_heals";
    for point in ["rootfs-begin", "rootfs-made", "rootfs-renamed"] {
        for form in ["folders", "file"] {
            let (_dir, store) = store();
            let record = image(&store, "x", &layers());
            let status = child(test, &store, form, point).status().expect("run");
            assert_eq!(status.signal(), Some(9), "{form} {point}");
            let form = match form {
                "folders" => RootForm::Folders,
                _ => RootForm::OneFile,
            };
            store.rootfs(&record, &policy(form)).expect("made");
            assert!(
                !files(&store).iter().any(|name| name.contains("/.")),
                "{point}"
            );
            store.remove("x", false).expect("removed");
            store.prune().expect("pruned");
            assert!(files(&store).is_empty(), "{point}: {:?}", files(&store));
        }
    }
}

#[test]
fn a_killed_writer_leaves_a_store_that_heals() {
    if work() {
        return;
    }
    let test = "a_killed_writer_leaves_a_store_that_heals";
    for point in [
        "blob-written",
        "blob-renamed",
        "file-written",
        "file-renamed",
    ] {
        let (_dir, store) = store();
        let kept = image(&store, "kept", &layers()[..1]);
        let status = child(test, &store, "tag", point).status().expect("run");
        assert_eq!(status.signal(), Some(9), "{point}");
        assert_eq!(store.resolve("kept").expect("found"), kept);
        store.prune().expect("pruned");
        assert_eq!(store.list().expect("listed").len(), 1, "{point}");
        assert!(
            !files(&store).iter().any(|name| name.starts_with("tmp/")),
            "{point}"
        );
        let record = image(&store, "killed", &layers());
        store
            .rootfs(&record, &policy(RootForm::Folders))
            .expect("made");
    }
}

#[test]
fn a_killed_bringer_leaves_a_blob_that_the_next_one_finishes() {
    if work() {
        return;
    }
    let test = "a_killed_bringer_leaves_a_blob_that_the_next_one_finishes";
    for point in ["partial-written", "partial-renamed"] {
        let (_dir, store) = store();
        let status = child(test, &store, "bring", point).status().expect("run");
        assert_eq!(status.signal(), Some(9), "{point}");
        let digest = crate::Digest::of(BROUGHT);
        if let BlobLock::Partial(blob) = store.lock_blob(&digest, None).expect("locked") {
            assert_eq!(
                (point, blob.offset()),
                ("partial-written", BROUGHT.len() as u64)
            );
            blob.commit().expect("committed");
        }
        assert_eq!(store.read_blob(&digest).expect("read"), BROUGHT);
    }
}

#[test]
fn of_eight_processes_that_unpack_an_image_one_does_the_work() {
    if work() {
        return;
    }
    let test = "of_eight_processes_that_unpack_an_image_one_does_the_work";
    for form in ["folders", "file"] {
        let (_dir, store) = store();
        image(&store, "x", &layers()[..1]);
        // Whoever has done the work dies of it, and what it made stays.
        let start = |_| {
            let mut child = child(test, &store, form, "rootfs-renamed");
            child.spawn().expect("started")
        };
        let children: Vec<_> = (0..8).map(start).collect();
        let ends = children
            .into_iter()
            .map(|mut child| child.wait().expect("ended"));
        let (well, killed): (Vec<_>, Vec<_>) = ends.partition(|end| end.success());
        assert_eq!((well.len(), killed.len()), (7, 1), "{form}");
        assert_eq!(killed[0].signal(), Some(9));
    }
}

#[test]
fn what_was_unpacked_counts_as_freed() {
    let (_dir, store) = store();
    let layer = Archive::new()
        .file("dir/big", &vec![1; 1 << 20])
        .hard_link("dir/again", "dir/big");
    let record = image(&store, "x", &[layer.bytes()]);
    drop(store.rootfs(&record, &policy(RootForm::Folders)));
    let freed = store.remove("x", false).expect("removed").bytes;
    // A file counts once, whatever number of names it has.
    assert!((1 << 20..2 << 20).contains(&freed), "{freed}");
}

#[test]
fn a_full_disk_is_a_clean_error() {
    hyperion_testkit::requires!("root");
    // A file size limit stops writes as a full disk does, and needs no mount.
    let (_dir, store) = store();
    let big = vec![Archive::new().file("big", &vec![1; 4 << 20]).bytes()];
    let record = image(&store, "x", &big);
    let source = store.dir().display().to_string();
    let script = format!(
        "mount -t tmpfs -o size=1m none {source}/layers && mount -t tmpfs -o size=1m none {source}/erofs && exec \"$0\" \"$@\""
    );
    let exe = std::env::current_exe().expect("this binary");
    for form in ["folders", "file"] {
        let out = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .arg(&exe)
            .args([
                "store::store_tests::a_killed_maker_leaves_a_store_that_heals",
                "--exact",
                "--nocapture",
            ])
            .env(WORK, format!("{form}\n{source}\n"))
            .output()
            .expect("run");
        assert!(!out.status.success());
        let text = String::from_utf8_lossy(&out.stderr).into_owned()
            + &String::from_utf8_lossy(&out.stdout);
        assert!(text.contains("StorageFull"), "{text}");
    }
    store
        .rootfs(&record, &policy(RootForm::Folders))
        .expect("made elsewhere");
}
