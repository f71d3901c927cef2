//! How folders of the host come into the machine of a job.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use hyperion_image::folder::{FolderError, Reach, Size, measure};
use hyperion_image::layer::erofs::Form;
use hyperion_isolation::vm::kernel::Kernel;
use hyperion_isolation::vm::{Folders, copy_image};
use hyperion_model::{Bytes, Class, JobSpec, Mount, MountKind, Preflight};
use hyperion_mpi::decide::Note;

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

/// How folders come in, and why so.
pub(super) struct Choice {
    pub(super) folders: Folders,
    why: String,
}

/// Chooses how folders come in: shared where that can be done, else copied.
pub(super) fn choose(
    args: &Args,
    job: &JobSpec,
    kernel: &Kernel,
    qemu: &Path,
) -> anyhow::Result<Choice> {
    let chosen = |folders, why: &str| {
        let why = why.to_owned();
        Ok(Choice { folders, why })
    };
    let copied = Folders::Copied { files: MOST_FILES };
    let root = rustix::process::geteuid().is_root();
    match args.folders {
        Some(FoldersBy::Copy) => chosen(copied, "--folders copy"),
        Some(FoldersBy::Virtiofs) => match find_virtiofsd() {
            Some(program) if root => chosen(Folders::Virtiofs(program), "--folders virtiofs"),
            program => {
                let hint = match program {
                    None => "apt install virtiofsd (Debian 12: qemu-system-common has it)",
                    Some(_) => {
                        "as root, or leave out --folders: they are shared by 9p or copied then"
                    }
                };
                let what = "folders of this host cannot be shared with a machine by virtiofs";
                Err(errors::advised(Class::Unsupported, what, hint))
            }
        },
        Some(FoldersBy::Ninep) => match without_ninep(kernel, qemu) {
            None => chosen(Folders::Ninep, "--folders 9p"),
            Some((what, hint)) => Err(errors::advised(Class::Unsupported, what, hint)),
        },
        // What no folder needs is not asked of this host.
        None if !job.container.mounts.iter().any(is_folder) => chosen(copied, ""),
        None => {
            let release = &kernel.release;
            let without = match find_virtiofsd() {
                Some(program) if root && kernel.has_driver("virtiofs") => {
                    let why = format!("as root, by {}", program.display());
                    return chosen(Folders::Virtiofs(program), &why);
                }
                None if root => "this host has no virtiofsd".to_owned(),
                Some(_) if root => format!("the kernel {release} has no virtiofs"),
                _ => match without_ninep(kernel, qemu) {
                    None if kernel.lists_drivers() => {
                        let why = format!("as a user, and the kernel {release} has 9p");
                        return chosen(Folders::Ninep, &why);
                    }
                    None => format!("nobody knows whether the kernel {release} has 9p"),
                    Some((why, _)) => why,
                },
            };
            chosen(copied, &without)
        }
    }
}

/// What of a kernel speaks 9p.
pub(crate) const NINEP: [&str; 2] = ["9p", "9pnet_virtio"];

/// Says what keeps QEMU from sharing folders by 9p here, and what helps.
fn without_ninep(kernel: &Kernel, qemu: &Path) -> Option<(String, &'static str)> {
    if rustix::process::geteuid().is_root() {
        // It would have to be root to reach the folders, and what takes it over then too.
        return Some((
            "as root folders are not shared with a machine by 9p: QEMU is nobody then, and \
             reaches none"
                .to_owned(),
            "--folders virtiofs or --folders copy",
        ));
    }
    if let Some(lacking) = NINEP.into_iter().find(|name| !kernel.has_driver(name)) {
        return Some((
            format!("the kernel {} has no {lacking}", kernel.release),
            "hyperion vm kernel install --flavour amd64 brings one that has it; or leave out \
             --folders: they are copied then",
        ));
    }
    if let Err(error) = hyperion_sys::host::trial::user_namespace() {
        return Some((
            format!("folders cannot be shared by 9p without a user namespace: {error}"),
            "`hyperion doctor` says how users may have one; or leave out --folders: they are \
             copied then",
        ));
    }
    if !knows_ninep(qemu) {
        return Some((
            format!("{} was built without 9p", qemu.display()),
            "take your distribution's QEMU, or leave out --folders: they are copied then",
        ));
    }
    None
}

/// Asks QEMU whether it has the device; it tells its properties on standard output.
fn knows_ninep(qemu: &Path) -> bool {
    let asked = Command::new(qemu)
        .args(["-nodefaults", "-device", "virtio-9p-pci,help"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    asked.is_ok_and(|said| said.status.success() && !said.stdout.is_empty())
}

/// Says how folders, and an image that is one, come in where that is not as in a
/// container, and how much is copied; refuses what is too much. Gives it as notes where
/// somebody asks how the job will go.
pub(super) fn announce(
    ctx: &Context,
    job: &JobSpec,
    choice: &Choice,
    image: Option<&Path>,
) -> anyhow::Result<Vec<Note>> {
    let mut seen = Seen {
        asked: job.parallel.preflight != Preflight::Quiet,
        notes: Vec::new(),
    };
    let fits = look(ctx, job, choice, image, &mut seen);
    if fits.is_err() {
        // The job, which would tell them, does not come to it.
        seen.notes.iter().for_each(|note| eprintln!("{note}"));
    }
    fits.map(|()| seen.notes)
}

/// What is told of folders.
struct Seen {
    /// Somebody asks how the job will go.
    asked: bool,
    notes: Vec<Note>,
}

impl Seen {
    fn note(&mut self, topic: &'static str, what: String, why: &str, warning: bool) {
        self.notes.push(Note {
            topic,
            what,
            evidence: why.to_owned(),
            warning,
        });
    }

    /// Tells of a copy.
    fn copied(&mut self, source: &Path, size: Size, back: &str) {
        let source = source.display();
        if !self.asked {
            let size = counted(size);
            eprintln!("note: {source} is copied into the machine ({size}){back}");
        }
    }
}

fn look(
    ctx: &Context,
    job: &JobSpec,
    choice: &Choice,
    image: Option<&Path>,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let mut of_image = Size::default();
    if let Some(folder) = image {
        let size = measure(folder, Reach::OneFileSystem, MOST_FILES);
        of_image = size.map_err(|e| refused_image(folder, &e))?;
        seen.copied(folder, of_image, "");
        if seen.asked {
            let what = format!("{} is copied: {}", folder.display(), counted(of_image));
            seen.note("image", what, "a folder is no image of the store", false);
        }
    }
    let mut all = Size::default();
    let mut first = None;
    for mount in &job.container.mounts {
        let MountKind::Bind { source, .. } = &mount.kind else {
            continue;
        };
        let place = format!("{} at {}", source.display(), mount.target.display());
        let Folders::Copied { files } = choice.folders else {
            let how = match (&choice.folders, mount.read_only) {
                (Folders::Virtiofs(_), false) => "is shared by virtiofs",
                (Folders::Virtiofs(_), true) => "is shared by virtiofs, to be read only",
                (_, false) => "is shared by 9p",
                (_, true) => "is shared by 9p, to be read only",
            };
            if seen.asked {
                seen.note("folder", format!("{place} {how}"), &choice.why, false);
            }
            continue;
        };
        let left = files.saturating_sub(all.files);
        let size = match measure(source, Reach::All, left) {
            Ok(size) => size,
            Err(error) => {
                let error = refused(source, &error, files, SMALLER);
                if !seen.asked {
                    return Err(error);
                }
                seen.note("folder", format!("{place}: {error}"), &choice.why, true);
                first.get_or_insert(error);
                continue;
            }
        };
        all.files += size.files;
        all.bytes += size.bytes;
        let back = match mount.read_only {
            true => "",
            false => ", and what changes is copied back at its end",
        };
        seen.copied(source, size, back);
        if seen.asked {
            let back = if mount.read_only {
                ", to be read only"
            } else {
                back
            };
            let what = format!("{place} is copied: {}{back}", counted(size));
            seen.note("folder", what, &choice.why, false);
        }
    }
    if let Some(error) = first {
        return Err(error);
    }
    // Each machine works on folders of its own; the image is one file for all.
    let each = u64::from(job.nodes());
    let smaller = match all.bytes {
        0 => SMALLER_IMAGE,
        _ => SMALLER,
    };
    let bytes = Bytes(
        all.bytes
            .saturating_mul(each)
            .saturating_add(of_image.bytes),
    );
    let room = room(&ctx.root);
    if seen.asked && all.files > 0 {
        let machines = match each {
            1 => String::new(),
            each => format!(" for {each} machines"),
        };
        let what = format!(
            "{} of files are copied{machines}, and {room} are free in {}",
            bytes,
            ctx.root.display()
        );
        let most = format!("at most {MOST_FILES} files and {MOST_BYTES} are copied");
        let too_much = bytes > MOST_BYTES || bytes > room;
        seen.note("room", what, &most, too_much);
    }
    if bytes > MOST_BYTES {
        return Err(errors::advised(
            Class::User,
            format!("{bytes} are too much to be copied into a machine: at most {MOST_BYTES} are"),
            smaller,
        ));
    }
    if bytes > room {
        return Err(errors::advised(
            Class::Unavailable,
            format!(
                "there is no room for a copy of {bytes}: {} has {room}",
                ctx.root.display()
            ),
            format!("make room, choose another disk with --root, or {smaller}"),
        ));
    }
    Ok(())
}

fn counted(size: Size) -> String {
    let files = match size.files {
        1 => "one file".to_owned(),
        many => format!("{many} files"),
    };
    format!("{files}, {}", Bytes(size.bytes))
}

/// Makes one file of an image that is a folder; it is gone with its last user.
pub(super) fn lay_down(ctx: &Context, image: &Path, form: Form) -> anyhow::Result<OwnedFd> {
    std::fs::create_dir_all(&ctx.root)
        .with_context(|| format!("cannot make {}", ctx.root.display()))?;
    copy_image(image, form, &ctx.root, MOST_FILES).map_err(|e| refused_image(image, &e))
}

const SMALLER: &str = "name a smaller folder; as root with virtiofsd folders are shared instead";
const SMALLER_IMAGE: &str =
    "name a smaller folder: it is copied at each start, an image of the store is not";

fn refused_image(folder: &Path, error: &FolderError) -> anyhow::Error {
    refused(folder, error, MOST_FILES, SMALLER_IMAGE)
}

fn refused(source: &Path, error: &FolderError, files: u64, smaller: &str) -> anyhow::Error {
    let (what, hint) = match error {
        FolderError::TooMany { .. } => (
            format!(
                "{} holds too much to be copied into a machine: at most {files} files are",
                source.display()
            ),
            smaller.to_owned(),
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
