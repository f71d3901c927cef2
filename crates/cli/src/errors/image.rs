//! Classes and hints for errors of images and their store.

use std::error::Error;
use std::io::ErrorKind;

use hyperion_image::archive::ArchiveError;
use hyperion_image::bootstrap::BootstrapError;
use hyperion_image::import::ImportError;
use hyperion_image::layer::LayerError;
use hyperion_image::layer::pack::PackError;
use hyperion_image::{RootfsError, StoreError};
use hyperion_model::Class;

use super::{Told, of_root};

/// Finds the class and the hint of an error about an image.
pub(super) fn classify(error: &(dyn Error + 'static)) -> Option<Told> {
    if let Some(error) = error.downcast_ref() {
        return of_store(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_rootfs(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_archive(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_import(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_bootstrap(error);
    }
    error.downcast_ref().and_then(of_layer)
}

fn told(class: Class, hint: impl Into<String>) -> Option<Told> {
    Some(Told {
        class,
        hint: Some(hint.into()),
    })
}

fn of_store(error: &StoreError) -> Option<Told> {
    use StoreError as E;
    const AGAIN: &str = "remove the image and bring it again: `hyperion image rm`, `hyperion pull`";
    match error {
        E::NoImage(_) => told(
            Class::NotFound,
            "`hyperion image ls` lists what there is; `hyperion pull NAME` brings an image",
        ),
        E::Ambiguous { .. } => told(Class::User, "write more digits"),
        E::ManyNames { .. } => told(
            Class::Conflict,
            "remove a single name, or all of them with --force",
        ),
        E::InUse(_) => told(
            Class::Conflict,
            "`hyperion ps` lists the jobs; --force takes the name away now and leaves the files to a later prune",
        ),
        E::Busy => told(Class::Conflict, "try again when that has ended"),
        E::WrongDigest { .. } | E::MissingBlob(_) | E::WrongSize { .. } => {
            told(Class::Unavailable, AGAIN)
        }
        E::Pinned(_) => told(
            Class::User,
            "leave out the digest: a tag can be given to any image",
        ),
        E::NotAnImage { .. } => told(Class::Unsupported, NO_IMAGE),
        E::Io { source, .. } => of_root(source),
        // The cause says more: what is wrong with the name.
        E::BadName { .. } => None,
        _ => told(Class::User, BROKEN),
    }
}

fn of_rootfs(error: &RootfsError) -> Option<Told> {
    match error {
        RootfsError::Store(error) => of_store(error),
        RootfsError::ParallelFilesystem { .. } => told(
            Class::Unsupported,
            "as root, on Linux 6.12 or later, the image becomes one EROFS file and may lie there; \
             or keep images on a local disk: --root DIR, HYPERION_ROOT",
        ),
        RootfsError::Layer { source, .. } => of_layer(source),
    }
}

/// What else a registry or an archive may hold.
pub(super) const NO_IMAGE: &str =
    "charts, signatures and other artifacts cannot be run: name an image";

/// What nobody here can mend.
const BROKEN: &str = "the image is broken: bring it again, or ask who made it";

fn of_layer(error: &LayerError) -> Option<Told> {
    match error {
        // What a decompressor says of what it cannot read, and not the disk.
        LayerError::Read(source)
            if matches!(
                source.kind(),
                ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof
            ) =>
        {
            told(Class::User, BROKEN)
        }
        // The disk or a permission: the cause says which.
        LayerError::Make { .. } | LayerError::Read(_) => None,
        LayerError::WrongBlob { .. } => told(
            Class::Unavailable,
            "the disk has changed it: remove the image and bring it again",
        ),
        LayerError::Outside(_) => told(
            Class::User,
            "the image tries to write outside its root: do not trust it",
        ),
        _ => told(Class::User, BROKEN),
    }
}

fn of_archive(error: &ArchiveError) -> Option<Told> {
    match error {
        ArchiveError::Store(StoreError::WrongDigest { .. } | StoreError::WrongSize { .. }) => {
            told(Class::User, BROKEN)
        }
        ArchiveError::Store(error) => of_store(error),
        ArchiveError::Io { .. } => None,
        ArchiveError::NoName(_) => told(Class::User, "give it one with --name"),
        ArchiveError::NoImages(_) => told(
            Class::User,
            "a tar of a root file system becomes an image with `hyperion image import`",
        ),
        ArchiveError::Damaged { source, .. } => of_layer(source),
        _ => told(Class::User, BROKEN),
    }
}

fn of_import(error: &ImportError) -> Option<Told> {
    match error {
        ImportError::Store(error) => of_store(error),
        ImportError::Archive { source, .. } => match source {
            LayerError::Read(_) => None,
            LayerError::Outside(_) => of_layer(source),
            _ => told(
                Class::User,
                "give a folder or a tar archive of a root file system; an image that was saved is loaded with `hyperion image load`",
            ),
        },
        ImportError::Pack(PackError::Read { .. } | PackError::Write(_))
        | ImportError::Open { .. }
        | ImportError::Write(_) => None,
    }
}

fn of_bootstrap(error: &BootstrapError) -> Option<Told> {
    match error {
        BootstrapError::NoProgram => told(
            Class::Unavailable,
            "install it: apt-get install mmdebstrap (Debian, Ubuntu), dnf install mmdebstrap (Fedora)",
        ),
        BootstrapError::NoIds => told(
            Class::Denied,
            "let root give you some: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, \
             with the package uidmap; or make the image elsewhere, then `hyperion image save` there and `load` here",
        ),
        BootstrapError::Failed { .. } => told(
            Class::Unavailable,
            "the lines above say why; check the suite, the names of the packages and the mirror (--mirror)",
        ),
        BootstrapError::Base(_) => told(
            Class::User,
            "write debian:bookworm or ubuntu:noble, or another suite of theirs",
        ),
        BootstrapError::Package(_) => told(
            Class::User,
            "packages are named by letters, digits and + - . : = ~, with commas between them",
        ),
        BootstrapError::Start(_) => None,
        BootstrapError::Import(error) => of_import(error),
        BootstrapError::Store(error) => of_store(error),
    }
}
