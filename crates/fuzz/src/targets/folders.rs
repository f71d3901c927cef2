//! What a guest says that it has changed in its copy of a folder.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use hyperion_image::fuzz;

use super::texts;
use crate::{Target, script};

pub(super) const CHANGES: Target = Target {
    name: "changes",
    about: "changes of a hostile guest put into a folder of the host: nothing gets out, no link is followed, nothing unfinished, no device and no set-id bit is left",
    run: |bytes| {
        changes(&script::layers(bytes)[0]);
        changes(bytes);
    },
    seeds: || texts(SCRIPTS),
    words: &[
        "\ns 0/",
        "\nf 0/",
        "\nd 0/",
        "\nl 0/",
        "\nh 0/",
        "\np 0/",
        "\nc 0/",
        "\nx ",
        "\nm ",
        "\nf end",
        ".wh.",
        ".wh..wh..opq",
        "../",
        "out/",
        "folder/",
        "file",
        "~",
        "^",
        "4755",
        "path=",
        "linkpath=",
        "size=",
        "mtime=",
        "GNU.sparse.map=",
        "GNU.sparse.size=",
        "GNU.sparse.major=1",
        "GNU.sparse.minor=0",
        "GNU.sparse.name=",
        "\nf sum ",
    ],
};

const SCRIPTS: &[&str] = &[
    "d 0\ns 0/file changed\nd 0/new\ns 0/new/a b\nf end 0/socket\n",
    "m 6755\ns 0/su x\nd 0/dir\nl 0/link ../..\np 0/fifo\nc 0/dev\nf end \n",
    "s 0/out/secret x\nf 0/out/.wh.secret \nf 0/.wh.out \nd 0/out\ns 0/out/a b\nf end \n",
    "f 0/.wh.folder \ns 0/folder x\nd 0/folder\ns 0/folder/a b\nf end \n",
    "d 0/folder\ns 0/folder/in y\nf 0/folder/.wh..wh..opq \nf 0/.wh..wh..opq \nf end \n",
    "s 0/a x\nh 0/b 0/a\nh 0/c 0/out/secret\nh 0/d /etc/passwd\nh 0/folder 0/a\nf end \n",
    "s ../up x\ns 1/x y\ns 0/../x y\ns end/x y\nd 0/~\ns 0/~/x y\ns 0/^x y\n",
    "x GNU.sparse.map=0,1,5,2\nx GNU.sparse.size=10\nf 0/sparse abc\nt -5\ns 0/old x\nf end \n",
];

fn changes(archive: &[u8]) {
    let ground = super::images::scratch();
    let (host, outside) = (ground.path().join("host"), ground.path().join("outside"));
    fs::create_dir_all(host.join("folder/inner")).expect("made");
    fs::create_dir(&outside).expect("made");
    for file in [
        "host/file",
        "host/folder/in",
        "host/folder/inner/deep",
        "outside/secret",
    ] {
        fs::write(ground.path().join(file), "untouched").expect("written");
    }
    symlink(&outside, host.join("out")).expect("linked");
    fuzz::changes(&host, archive).expect("it is copied");
    let names = |folder: &Path| fs::read_dir(folder).expect("a folder").count();
    assert_eq!(names(ground.path()), 2, "something got out");
    assert_eq!(names(&outside), 1, "something followed a link");
    let secret = fs::metadata(outside.join("secret")).expect("it is there");
    let text = fs::read(outside.join("secret")).expect("it is there");
    assert_eq!((text.as_slice(), secret.nlink()), (&b"untouched"[..], 1));
    check(&host);
    fuzz::remove(&host).expect("what was put there can be removed");
}

/// Looks at all that is in the folder now.
fn check(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        assert!(
            !name.to_string_lossy().starts_with(".hyperion-"),
            "{name:?}"
        );
        let meta = fs::symlink_metadata(entry.path()).expect("it is there");
        let kind = meta.mode() & 0o170_000;
        assert!(
            ![0o020_000, 0o060_000].contains(&kind),
            "a device: {name:?}"
        );
        let set_id = !meta.is_symlink() && meta.mode() & 0o6000 != 0;
        assert!(!set_id, "a set-id bit: {name:?}");
        if meta.is_dir() {
            check(&entry.path());
        }
    }
}
