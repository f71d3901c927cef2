//! Putting the root file system of a container together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use hyperion_model::{MountKind, RootSource, SandboxSpec, UsernsMode};
use hyperion_sys::mount::{self, Change, NO_DEV, NO_SUID, READ_ONLY};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::setup::{Doing, Failure};
use super::{mount_erofs, system};

/// The new root, attached below the stage and not yet entered.
pub(super) struct Root {
    folder: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// Puts the root together on top of the stage, which is the working folder,
/// in this mount namespace.
///
/// `lowers` are mapped mounts where ids are mapped; elsewhere the folders of
/// the spec are used as they are. `scratch` is a mount of the scratch folder.
pub(super) fn assemble(
    spec: &SandboxSpec,
    lowers: Vec<OwnedFd>,
    scratch: Option<OwnedFd>,
) -> Result<Root, Failure> {
    // Relative paths from here on: the stage is entered, whatever its path is.
    let at = |name: &str| PathBuf::from(name);
    let bottom = mount::new_filesystem(
        "tmpfs",
        &[("mode", "700"), ("size", "64k")],
        NO_SUID | NO_DEV,
    )
    .doing("preparing the stage")?;
    let floor = mount::open_dir(Path::new(".")).doing("opening the stage")?;
    mount::attach(bottom.as_fd(), floor.as_fd()).doing("preparing the stage")?;
    rustix::process::fchdir(&bottom).doing("entering the stage")?;
    let place = |name: &str| -> Result<OwnedFd, Failure> {
        make_dir(&bottom, name).doing("preparing the stage")?;
        mount::open_dir(&at(name)).doing("preparing the stage")
    };

    let mut folders: Vec<PathBuf> = Vec::new();
    if lowers.is_empty() {
        match &spec.root.source {
            RootSource::Host => {
                return Err(Failure {
                    step: "finding the root".into(),
                    error: Errno::INVAL.into(),
                });
            }
            RootSource::Layers { layers } => folders.clone_from(layers),
            RootSource::Erofs { file } => {
                let image = mount_erofs(file)
                    .doing(format_args!("mounting the image {}", file.display()))?;
                mount::attach(image.as_fd(), place("lower0")?.as_fd())
                    .doing("mounting the image")?;
                folders.push(at("lower0"));
            }
        }
    }
    for (i, lower) in lowers.iter().enumerate() {
        let name = format!("lower{i}");
        mount::attach(lower.as_fd(), place(&name)?.as_fd()).doing("mounting the image")?;
        folders.push(at(&name));
    }
    // Layers come lowest first, an overlay wants the topmost first.
    folders.reverse();

    let scratch = match scratch {
        Some(mount) => {
            mount::attach(mount.as_fd(), place("scratch")?.as_fd())
                .doing("mounting the scratch folder")?;
            Some(at("scratch"))
        }
        None => None,
    };
    let target = place("root")?;
    match scratch {
        Some(scratch) => {
            let (upper, work) = (scratch.join("upper"), scratch.join("work"));
            for folder in [&upper, &work] {
                make_dir(rustix::fs::CWD, folder).doing("preparing the scratch folder")?;
            }
            overlay(&folders, Some((&upper, &work)))?;
        }
        None if folders.len() == 1 && has_mount_points(&folders[0], spec) => {
            let tree = mount::clone_tree(rustix::fs::CWD, &folders[0], false)
                .doing("mounting the image")?;
            let change = Change {
                set: READ_ONLY | NO_SUID | NO_DEV,
                ..Change::default()
            };
            mount::set_attributes(tree.as_fd(), &change).doing("protecting the image")?;
            mount::attach(tree.as_fd(), target.as_fd()).doing("mounting the root")?;
        }
        None => {
            // A folder in memory on top holds the mount points that the image lacks.
            make_dir(&bottom, "points").doing("preparing the stage")?;
            let points = mount::open_dir(&at("points")).doing("preparing the stage")?;
            let points = Root { folder: points };
            for (target, folder) in mount_points(spec) {
                points
                    .target(target, folder)
                    .doing("preparing the mount points")?;
            }
            folders.insert(0, at("points"));
            overlay(&folders, None)?;
        }
    }
    Ok(Root {
        folder: mount::open_dir(&at("root")).doing("opening the root")?,
    })
}

fn overlay(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<(), Failure> {
    let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
    mount::overlay(&lowers, upper, NO_SUID | NO_DEV, Path::new("root"))
        .doing("mounting the layers over each other")
}

/// The paths at which something will be mounted.
fn mount_points(spec: &SandboxSpec) -> impl Iterator<Item = (&Path, bool)> {
    let own = system::POINTS
        .iter()
        .map(|&(path, folder)| (Path::new(path), folder));
    let folder = |m: &hyperion_model::Mount| match &m.kind {
        MountKind::Bind { source, .. } => source.is_dir(),
        MountKind::Tmpfs { .. } => true,
    };
    own.chain(
        spec.container
            .mounts
            .iter()
            .map(move |m| (m.target.as_path(), folder(m))),
    )
}

fn has_mount_points(image: &Path, spec: &SandboxSpec) -> bool {
    let Ok(folder) = mount::open_dir(image) else {
        return false;
    };
    mount_points(spec).all(|(p, _)| mount::open_below(folder.as_fd(), p, OFlags::PATH).is_ok())
}

fn make_dir(at: impl AsFd, path: impl rustix::path::Arg) -> io::Result<()> {
    match rustix::fs::mkdirat(at, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

impl Root {
    /// Opens a path inside, for mounting on it; what is missing of it is made,
    /// a folder or an empty file. Links lead nowhere outside.
    pub(super) fn target(&self, path: &Path, folder: bool) -> io::Result<OwnedFd> {
        match mount::open_below(self.as_fd(), path, OFlags::PATH) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut at = mount::open_below(
            self.as_fd(),
            Path::new("/"),
            OFlags::PATH | OFlags::DIRECTORY,
        )?;
        let mut so_far = PathBuf::from("/");
        let mut names = path
            .components()
            .filter(|c| matches!(c, Component::Normal(_)))
            .peekable();
        while let Some(name) = names.next() {
            so_far.push(name);
            let last = names.peek().is_none();
            let flags = if last {
                OFlags::PATH
            } else {
                OFlags::PATH | OFlags::DIRECTORY
            };
            at = match mount::open_below(self.as_fd(), &so_far, flags) {
                Ok(found) => found,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if last && !folder {
                        let mode = Mode::from_raw_mode(0o644);
                        let flags = OFlags::CREATE
                            | OFlags::EXCL
                            | OFlags::WRONLY
                            | OFlags::CLOEXEC
                            | OFlags::NOFOLLOW;
                        rustix::fs::openat(&at, name.as_os_str(), flags, mode)?;
                    } else {
                        make_dir(&at, name.as_os_str())?;
                    }
                    mount::open_below(self.as_fd(), &so_far, flags)?
                }
                Err(e) => return Err(e),
            };
        }
        Ok(at)
    }

    /// Makes the root itself read-only; what is mounted in it stays as it is.
    pub(super) fn make_read_only(&self) -> io::Result<()> {
        mount::set_attributes(
            self.as_fd(),
            &Change {
                set: READ_ONLY,
                ..Change::default()
            },
        )
    }
}

/// Removes what a job has written into its root. A user does it as root of a
/// user namespace: some of the files belong to ids that only such a one can act
/// for, and the kernel's own folders in the overlay's work folder let nobody in.
///
/// # Errors
/// The kernel's; what could be removed is gone.
pub fn remove_scratch(folder: &Path, userns: &UsernsMode) -> io::Result<()> {
    match userns {
        UsernsMode::Subordinate { .. } | UsernsMode::Single => {
            // Where none can be made none has written anything.
            hyperion_sys::userns::run_inside(userns, || remove_tree(folder))
                .unwrap_or_else(|_| remove_tree(folder))
        }
        UsernsMode::Host | UsernsMode::Range { .. } => remove_tree(folder),
    }
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
