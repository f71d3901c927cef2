//! How folders of the host come into the machine of a job.

use std::path::{Path, PathBuf};

use hyperion_image::folder::{FolderError, Size, measure};
use hyperion_isolation::vm::Folders;
use hyperion_isolation::vm::kernel::Kernel;
use hyperion_model::{Bytes, Class, JobSpec, Mount, MountKind};

use super::words::{Args, FoldersBy};
use crate::context::Context;
use crate::errors;

/// Where distributions put the program that shares folders with a guest.
const VIRTIOFSD: [&str; 3] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
];
/// The most files that are copied into a machine.
const MOST_FILES: u64 = 1_000_000;
/// The most bytes.
const MOST_BYTES: Bytes = Bytes(64 << 30);

/// Tells whether a mount is a folder or a file of the host.
pub(super) fn is_folder(mount: &Mount) -> bool {
    matches!(mount.kind, MountKind::Bind { .. })
}

/// Finds the program that shares folders with a guest.
pub(crate) fn find_virtiofsd() -> Option<PathBuf> {
    let mut known = VIRTIOFSD.iter().map(PathBuf::from);
    known.find(|file| file.is_file())
}

/// Chooses how folders come in: shared where that can be done, else copied.
pub(super) fn choose(args: &Args, kernel: &Kernel) -> anyhow::Result<Folders> {
    let copied = Folders::Copied { files: MOST_FILES };
    let program = find_virtiofsd();
    let root = rustix::process::geteuid().is_root();
    match (args.folders, program) {
        (Some(FoldersBy::Copy), _) => Ok(copied),
        (Some(FoldersBy::Virtiofs), Some(program)) if root => Ok(Folders::Virtiofs(program)),
        (None, Some(program)) if root && kernel.has_driver("virtiofs") => {
            Ok(Folders::Virtiofs(program))
        }
        (None, _) => Ok(copied),
        (Some(FoldersBy::Virtiofs), program) => {
            let hint = match (program, root) {
                (None, _) => "apt install virtiofsd (Debian 12: qemu-system-common has it)",
                (Some(_), _) => "as root, or leave out --folders: they are copied then",
            };
            let what = "folders of this host cannot be shared with a machine by virtiofs";
            Err(errors::advised(Class::Unsupported, what, hint))
        }
    }
}

/// Says how folders come in where that is not as in a container, and how much is
/// copied; refuses what is too much.
pub(super) fn announce(ctx: &Context, job: &JobSpec, folders: &Folders) -> anyhow::Result<()> {
    let Folders::Copied { files } = *folders else {
        return Ok(());
    };
    let mut all = Size::default();
    for mount in job.container.mounts.iter() {
        let MountKind::Bind { source, .. } = &mount.kind else {
            continue;
        };
        let left = files.saturating_sub(all.files);
        let size = measure(source, left).map_err(|e| refused(source, &e, files))?;
        all.files += size.files;
        all.bytes += size.bytes;
        let back = match mount.read_only {
            true => "",
            false => ", and what changes is copied back at its end",
        };
        let files = match size.files {
            1 => "one file".to_owned(),
            many => format!("{many} files"),
        };
        let (source, bytes) = (source.display(), Bytes(size.bytes));
        eprintln!("note: {source} is copied into the machine ({files}, {bytes}){back}");
    }
    let each = u64::from(job.nodes());
    let bytes = Bytes(all.bytes.saturating_mul(each));
    if bytes > MOST_BYTES {
        return Err(errors::advised(
            Class::User,
            format!("{bytes} are too much to be copied into a machine: at most {MOST_BYTES} are"),
            SMALLER,
        ));
    }
    let room = room(&ctx.root);
    if bytes > room {
        return Err(errors::advised(
            Class::Unavailable,
            format!(
                "there is no room for a copy of {bytes}: {} has {room}",
                ctx.root.display()
            ),
            format!("make room, choose another disk with --root, or {SMALLER}"),
        ));
    }
    Ok(())
}

const SMALLER: &str = "name a smaller folder; as root with virtiofsd folders are shared instead";

fn refused(source: &Path, error: &FolderError, files: u64) -> anyhow::Error {
    let (what, hint) = match error {
        FolderError::TooMany { .. } => (
            format!(
                "{} holds too much to be copied into a machine: at most {files} files are",
                source.display()
            ),
            SMALLER.to_owned(),
        ),
        error => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            (
                format!("{error}{}", cause.unwrap_or_default()),
                "a machine of a user works on a copy of the folder, and all in it must be readable; name one that is".to_owned(),
            )
        }
    };
    errors::advised(Class::User, what, hint)
}

/// Gives the room that is left where jobs lie.
fn room(root: &Path) -> Bytes {
    let stat = root.ancestors().find_map(|at| rustix::fs::statvfs(at).ok());
    stat.map_or(Bytes(u64::MAX), |s| {
        Bytes(s.f_bavail.saturating_mul(s.f_frsize))
    })
}
