//! Layers: tar archives from outside, and what is made of them.

use std::io::Write;

use hyperion_image::Owners;
use hyperion_image::fuzz::{self, LIMITS};
use hyperion_image::layer::LayerError;
use hyperion_image::layer::pack::{Compression, LayerWriter};
use hyperion_image::layer::unpack::unpack;
use rustix::io::Errno;

use super::texts;
use crate::listing::{self, Listing};
use crate::{Target, erofs, script};

pub(super) const TAR: Target = Target {
    name: "tar",
    about: "a tar archive: every header and all data",
    run: |bytes| {
        fuzz::tar(bytes);
        fuzz::tar(&sealed(bytes));
    },
    seeds: archives,
    words: TAR_WORDS,
};

pub(super) const EROFS: Target = Target {
    name: "erofs",
    about: "a layer, compressed or not, made into one file, which is read back and checked",
    run: |bytes| {
        let layer = match Compression::of(bytes) {
            Compression::None => sealed(bytes),
            Compression::Gzip | Compression::Zstd => bytes.to_vec(),
        };
        if let Ok(file) = fuzz::erofs(&[layer]) {
            erofs::read(&file);
        }
    },
    seeds: compressed,
    words: TAR_WORDS,
};

pub(super) const LAYERS: Target = Target {
    name: "layers",
    about: "hostile layers unpacked to a folder and made into one file: nothing gets out, both hold the same, all can be removed",
    run: layers,
    seeds: || texts(SCRIPTS),
    words: &[
        "\nf ",
        "\nd ",
        "\nl ",
        "\nh ",
        "\np ",
        "\nc ",
        "\nx ",
        "\nm ",
        "\n--\n",
        ".wh.",
        ".wh..wh..opq",
        "../",
        "/",
        "~",
        "^",
        "a",
        "b",
        "a/b",
        "etc/passwd",
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
        "SCHILY.xattr.user.x=",
    ],
};

const TAR_WORDS: &[&str] = &[
    "ustar\0",
    "ustar  ",
    "SCHILY.xattr.user.x=",
    "SCHILY.xattr.security.capability=",
    "GNU.sparse.major=1",
    "GNU.sparse.minor=0",
    "GNU.sparse.map=",
    "GNU.sparse.size=",
    "GNU.sparse.realsize=",
    "GNU.sparse.name=",
    "GNU.sparse.offset=",
    "GNU.sparse.numbytes=",
    "path=",
    "linkpath=",
    "size=",
    "uid=",
    "gid=",
    "mtime=",
    ".wh.",
    ".wh..wh..opq",
    "../",
    "0000644",
    "00000000010",
    "77777777777",
];

const SCRIPTS: &[&str] = &[
    "d etc\nf etc/os debian\nl etc/link os\nh etc/hard etc/os\np etc/fifo\nm 4755\nf bin/su x\n",
    "f a/b one\n--\nf a/.wh.b \nf a/.wh..wh..opq \nf a/c two\n--\nf .wh.a \nd a\n",
    "l out ../../..\nf out/etc/passwd bad\nf ../up bad\nf /etc/shadow bad\nh x /etc/passwd\n",
    "l a b\nl b a\nf a/x y\nd c\nl c/up ..\nf c/up/c/up/z w\n",
    "f ~~/x 1\nf ^x 2\nl long ^^y\nf long/z 3\n",
    "x SCHILY.xattr.user.note=1\nf attr x\nx path=renamed\nf old y\nx size=3\nf sized abc\n",
    "x GNU.sparse.map=0,1,5,2\nx GNU.sparse.size=10\nf sparse abc\nx mtime=-1.5\nf early x\n",
    "d dir\nl dir x\nf x/y z\nf dir 1\nd dir\nf dir/a b\nc dev/null\nh dev/zero dev/null\n",
    "f .wh.a \nf .wh.a/b \nd a\nf b/.wh..wh..opq \nf b/.wh..wh.plnk x\nf a/.wh. \n",
];

/// What the scripts say, and an archive with all that a script cannot.
fn archives() -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = SCRIPTS
        .iter()
        .flat_map(|text| script::layers(text.as_bytes()))
        .collect();
    out.push(gnu_sparse());
    // Sets the length up to which libFuzzer goes.
    out.push(script::layers(format!("f big {}\n", "x".repeat(20_000)).as_bytes()).concat());
    out
}

/// The archives, and some of them as they are carried.
fn compressed() -> Vec<Vec<u8>> {
    let mut out = archives();
    for compression in [Compression::Gzip, Compression::Zstd] {
        for at in [0, 1] {
            let mut writer = LayerWriter::new(Vec::new(), compression).expect("started");
            writer.write_all(&out[at]).expect("written into memory");
            out.push(writer.finish().expect("written into memory").0);
        }
    }
    out
}

/// A file with holes in GNU's old format: its map goes on in a block of its own.
fn gnu_sparse() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    let field = |bytes: &mut [u8], number: u64| {
        bytes.copy_from_slice(format!("{number:011o}\0").as_bytes());
    };
    header.set_path("sparse").expect("a short name");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(5);
    let mut bytes = header.as_bytes().to_vec();
    for piece in 0..4 {
        let at = 386 + piece * 24;
        field(&mut bytes[at..at + 12], piece as u64 * 1000);
        field(&mut bytes[at + 12..at + 24], 1);
    }
    bytes[482] = 1;
    field(&mut bytes[483..495], 5000);
    bytes.resize(1024, 0);
    field(&mut bytes[512..524], 4000);
    field(&mut bytes[524..536], 1);
    bytes.extend(b"abcde");
    bytes.resize(2560, 0);
    script::seal(&mut bytes[..512]);
    bytes
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    script::seal(&mut bytes);
    bytes
}

fn layers(text: &[u8]) {
    let layers = script::layers(text);
    let ground = super::images::scratch();
    let (root, neighbour) = (ground.path().join("root"), ground.path().join("outside"));
    std::fs::create_dir(&root).expect("made");
    std::fs::write(&neighbour, "untouched").expect("written");
    let stream = fuzz::layer(&layers[0]).expect("memory");
    let unpacked = unpack(stream, &root, Owners::Caller, &LIMITS);
    let listing = match &unpacked {
        Ok(_) => listing::unpacked(&root),
        Err(_) => None,
    };
    fuzz::remove(&root).expect("what was unpacked can be removed");
    let left = std::fs::read_dir(ground.path()).expect("a folder").count();
    assert_eq!(left, 1, "a layer got out");
    let untouched = std::fs::read(&neighbour).expect("it is there");
    assert_eq!(untouched, b"untouched", "a layer wrote outside");
    match (&unpacked, fuzz::erofs(&layers[..1])) {
        (Ok(_), Ok(file)) => compare(listing, erofs::read(&file)),
        (Err(e), Ok(_)) if !of_the_kernel(e) => panic!("only unpacking fails: {e:?}"),
        (Ok(_), Err(e)) => panic!("only one file fails: {e:?}"),
        _ => {}
    }
    if let Ok(file) = fuzz::erofs(&layers) {
        erofs::read(&file);
    }
}

fn compare(unpacked: Option<Listing>, mut file: Listing) {
    let Some(unpacked) = unpacked else {
        return;
    };
    for (path, mut object) in unpacked {
        let other = file.remove(&path);
        let hollow = std::mem::take(&mut object.hollow);
        if !(hollow && other.is_none()) {
            assert_eq!(Some(object), other, "at {}", path.escape_ascii());
        }
    }
    assert!(file.is_empty(), "only in the file: {:?}", file.keys());
}

/// What a folder cannot hold and a file of ours can.
fn of_the_kernel(error: &LayerError) -> bool {
    let LayerError::Make { source, .. } = error else {
        return false;
    };
    let known = [Errno::FBIG, Errno::NOSPC, Errno::NAMETOOLONG, Errno::MLINK];
    Errno::from_io_error(source).is_some_and(|errno| known.contains(&errno))
}
