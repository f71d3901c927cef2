//! The image of a job, and the root file system that it becomes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyperion_image::layer::erofs::Form;
use hyperion_image::reference::familiar;
use hyperion_image::registry::Platform;
use hyperion_image::store::is_better_unpacked;
use hyperion_image::{ImageRecord, Owners, RootForm, RootPolicy, Store, StoreError};
use hyperion_model::{Class, Level, RootSource, UsernsMode};

use crate::commands::pull;
use crate::context::Context;
use crate::{errors, output};

/// Finds the image: a folder on this host, or a name in the store.
pub(super) fn find(
    ctx: &Context,
    name: &str,
    pull: &str,
    userns: &UsernsMode,
    level: Level,
    form: Form,
) -> anyhow::Result<(Option<ImageRecord>, RootSource, Option<OwnedFd>)> {
    if name.starts_with('/') || name.starts_with("./") || name.starts_with("../") {
        let path = Path::new(name)
            .canonicalize()
            .map_err(|e| errors::advised(Class::NotFound, e, "an image that begins with '/' or '.' is a folder or an EROFS file of this host"))
            .with_context(|| format!("there is no image at {name}"))?;
        let source = if path.is_dir() {
            RootSource::Layers { layers: vec![path] }
        } else {
            RootSource::Erofs { file: path }
        };
        return Ok((None, source, None));
    }
    let store = Store::open(&ctx.images())?;
    let record = match (pull, store.resolve(name)) {
        ("always", _) => pull::bring(ctx, &store, name)?,
        ("missing", Err(StoreError::NoImage(_))) => {
            pull::bring(ctx, &store, name).map_err(|error| {
                let what = format!("the image {name} is not in the store, and cannot be pulled");
                match nearest(&store, name) {
                    Some(near) => errors::advised(
                        Class::NotFound,
                        error,
                        format!("did you mean {near}? `hyperion image ls` lists what there is"),
                    )
                    .context(what),
                    None => error.context(what),
                }
            })?
        }
        (_, found) => {
            let record = found?;
            warn_of_another_processor(&record);
            record
        }
    };
    let owners = owners(userns);
    // A machine takes its image as a disk, which needs no right to mount.
    let as_file = level == Level::Vm
        || !is_better_unpacked(&record, store.dir()) && can_mount_files(store.dir());
    let mut policy = RootPolicy::new(as_file, owners);
    if form == Form::Ext4 {
        policy.form = RootForm::Ext4;
    }
    if level != Level::Vm
        && matches!(userns, UsernsMode::Subordinate { .. })
        && !store.is_prepared(&record, &policy)
    {
        // Files get their owners only from inside a user namespace that has them.
        let prepare = || {
            store
                .prepare(&record, &policy)
                .map_err(std::io::Error::other)
        };
        hyperion_sys::userns::run_inside(userns, prepare)
            .context("cannot make a user namespace to unpack the image in")?
            .context("cannot unpack the image")?;
    }
    let root = store.rootfs(&record, &policy)?;
    Ok((Some(record), root.source, Some(root.lease.into())))
}

/// Gives an image of the store as an ext4 file, for machines whose kernel lacks EROFS.
pub(super) fn as_ext4(
    ctx: &Context,
    record: &ImageRecord,
    userns: &UsernsMode,
) -> anyhow::Result<(PathBuf, OwnedFd)> {
    let mut policy = RootPolicy::new(true, owners(userns));
    policy.form = RootForm::Ext4;
    let root = Store::open(&ctx.images())?.rootfs(record, &policy)?;
    match root.source {
        RootSource::Erofs { file } => Ok((file, root.lease.into())),
        RootSource::Layers { .. } | RootSource::Host => {
            anyhow::bail!("an image as one file is one file")
        }
    }
}

/// Finds the image of the store that was likely meant.
fn nearest(store: &Store, name: &str) -> Option<String> {
    let named = store.list().ok()?;
    let names: Vec<String> = named.iter().map(|r| familiar(&r.name)).collect();
    let names = names.iter().map(|n| n.strip_suffix(":latest").unwrap_or(n));
    errors::likely(name, names).map(str::to_owned)
}

/// Warns as a pull does: what is inside may run all the same, by binfmt_misc(5) for one.
fn warn_of_another_processor(record: &ImageRecord) {
    let host = Platform::host();
    if !record.arch.is_empty() && record.arch != host.architecture {
        let (os, arch) = (&record.os, &record.arch);
        let warning = format!("the image is for {os}/{arch}, not for this host");
        output::talk("warning", warning);
    }
}

/// Says who owns what an image is unpacked to.
fn owners(userns: &UsernsMode) -> Owners {
    match userns {
        UsernsMode::Single => Owners::Caller,
        _ => Owners::Keep,
    }
}

/// Tells whether this process can mount an EROFS file of a store without a loop device.
fn can_mount_files(store: &Path) -> bool {
    let since = |major: u32, minor: u32| {
        let release = rustix::system::uname();
        let text = release.release().to_string_lossy().into_owned();
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .map(|n| n.parse().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
    };
    let known = || {
        let text = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        text.lines().any(|l| l.trim() == "erofs")
    };
    rustix::process::geteuid().is_root()
        && since(6, 12)
        && known()
        && hyperion_image::store::has_mountable_files(store)
}
