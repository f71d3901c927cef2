//! The guest's side: where the job finds the folders.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use hyperion_image::layer::erofs::Form;
use hyperion_image::layer::pack::{PackError, pack_changes};
use hyperion_sys::mount::{self, NO_DEV, NO_SUID};
use sha2::{Digest as _, Sha256};

use super::{Lent, Way, share_point};
use crate::vm::guest::{
    Doing as _, Failure, STAGE, disk, load_on_demand, put, put_file, virtio_port,
};
use crate::vm::qemu::{CHANGES, COPIES, share_tag};

/// After so many bytes the host is told that the guest lives.
const SIGN_OF_LIFE: usize = 64 << 20;
/// What of the kernel speaks 9p.
const NINEP: [&str; 2] = ["9pnet_virtio", "9p"];
/// Nothing is kept but what a program maps to write: other nodes and the host see
/// each change at once. So much goes in a message that the kernel still finds room
/// for it in one piece.
const NINEP_OPTIONS: [(&str, &str); 4] = [
    ("trans", "virtio"),
    ("version", "9p2000.L"),
    ("cache", "mmap"),
    ("msize", "131072"),
];
/// Where the copies are mounted.
const AT: &str = "/copies";

/// Puts the folders where the job's sandbox finds them. `sum` is what the disk with
/// the copies must be.
pub(in crate::vm) fn mount(
    lent: &[Lent],
    form: Form,
    sum: Option<[u8; 32]>,
) -> Result<(), Failure> {
    if let Some(sum) = sum {
        copies(form, sum)?;
    }
    for (number, lent) in lent.iter().enumerate() {
        let point = share_point(number);
        let tag = share_tag(number);
        let step = format!("mounting {tag}");
        fs::create_dir_all(&point).doing(&step)?;
        let attributes = NO_DEV | NO_SUID;
        match lent.way {
            Way::Virtiofs => {
                load_on_demand("virtiofs")?;
                put("virtiofs", &[("source", &tag)], attributes, &point)
            }
            Way::Ninep => {
                for module in NINEP {
                    load_on_demand(module)?;
                }
                let options = [&[("source", tag.as_str())], &NINEP_OPTIONS[..]].concat();
                put("9p", &options, attributes, &point)
            }
            Way::Copied(part) => copy(part, lent.read_only, &point),
        }
        .doing(&step)?;
    }
    Ok(())
}

/// Sends the host what programs wrote through a map and is still here only.
pub(in crate::vm) fn settle(lent: &[Lent]) {
    for (number, lent) in lent.iter().enumerate() {
        if lent.way == Way::Ninep
            && let Ok(folder) = mount::open_dir(&share_point(number))
        {
            // An error was told to whoever asked for it, by msync(2).
            let _ = rustix::fs::syncfs(folder);
        }
    }
}

/// Mounts the disk with the copies, when it is what the host has made.
fn copies(form: Form, sum: [u8; 32]) -> Result<(), Failure> {
    let source = disk(COPIES)?;
    let found = checksum(Path::new(&source)).doing("reading the copies of folders")?;
    if found != sum {
        return Err(io::Error::from(rustix::io::Errno::ILSEQ))
            .doing("checking the copies of folders");
    }
    let step = "mounting the copies of folders";
    fs::create_dir_all(AT).doing(step)?;
    put_file(form, &source, AT, step)
}

/// Shows a copy: itself, or with a layer above it that keeps what is changed.
fn copy(part: usize, read_only: bool, point: &Path) -> io::Result<()> {
    let lower = Path::new(AT).join(part.to_string());
    if read_only {
        let tree = mount::clone_tree(rustix::fs::CWD, &lower, false)?;
        return mount::attach(tree.as_fd(), mount::open_dir(point)?.as_fd());
    }
    let upper = changes().join(part.to_string());
    let work = Path::new(STAGE).join("work").join(part.to_string());
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    // The whole looks as its upper folder does.
    let meta = fs::metadata(&lower)?;
    chown(&upper, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(&upper, Permissions::from_mode(meta.mode() & 0o7777))?;
    let name = |path: &Path| path.display().to_string();
    let options = [
        ("source", "copy"),
        ("lowerdir", &name(&lower)),
        ("upperdir", &name(&upper)),
        ("workdir", &name(&work)),
        // What is changed is to be found whole in the upper folder.
        ("redirect_dir", "off"),
        ("metacopy", "off"),
        ("index", "off"),
    ];
    put("overlay", &options, NO_DEV | NO_SUID, point)
}

/// Where the layers above the copies are.
fn changes() -> PathBuf {
    Path::new(STAGE).join("changes")
}

/// Sends what was changed in the copies, when nothing runs any more.
pub(in crate::vm) fn send_changes() -> io::Result<()> {
    let port = rustix::fs::open(
        virtio_port(CHANGES)?,
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let out = BufWriter::with_capacity(128 << 10, File::from(port));
    match pack_changes(&changes(), out) {
        Ok(mut out) => out.flush(),
        Err(PackError::Read { source, .. } | PackError::Write(source)) => Err(source),
    }
}

fn checksum(disk: &Path) -> io::Result<[u8; 32]> {
    let mut disk = File::open(disk)?;
    let mut sum = Sha256::new();
    let mut piece = vec![0; 256 << 10];
    let mut unsaid = 0;
    loop {
        match disk.read(&mut piece)? {
            0 => return Ok(sum.finalize().into()),
            got => {
                sum.update(&piece[..got]);
                unsaid += got;
            }
        }
        if unsaid >= SIGN_OF_LIFE {
            unsaid = 0;
            let words = "hyperion: checking the copies of folders\n";
            let _ = rustix::io::write(rustix::stdio::stderr(), words.as_bytes());
        }
    }
}
