//! Folders of the host in a machine: shared with it, or copied in and out.
//!
//! ```text
//! folder ── virtiofsd ═ QEMU ┊ virtiofs ─────────────▶ job
//! folder ── QEMU, as its user ┊ 9p ──────────────────▶ job
//! folder ─▶ one file, SHA-256 ─▶ QEMU ┊ disk ─▶ overlay ◀─▶ job
//!    ▲──────── take ◀──── archive, checksums ◀─────────┘ at its end
//! ```

pub(super) mod guest;
pub(super) mod host;

use std::path::{Path, PathBuf};

use hyperion_model::{MountKind, SandboxSpec};
use serde::{Deserialize, Serialize};

use super::qemu::{Folders, share_tag};

/// How one folder comes into a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// By virtiofs, under the tag of its number.
    Virtiofs,
    /// By 9p, likewise.
    Ninep,
    /// As this part of the disk with the copies.
    Copied(usize),
}

/// What the guest must know of a folder.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Lent {
    pub(super) way: Way,
    pub(super) read_only: bool,
}

impl Lent {
    /// Tells whether what the guest changes in it must be brought out.
    pub(super) fn is_brought_out(&self) -> bool {
        matches!(self.way, Way::Copied(_)) && !self.read_only
    }
}

/// A folder of the host that a guest sees.
pub(super) struct Share {
    pub(super) source: PathBuf,
    pub(super) lent: Lent,
}

/// Gives where the guest has a folder of the host.
pub(super) fn share_point(number: usize) -> PathBuf {
    Path::new("/shares").join(share_tag(number))
}

/// Gives the folders of the host that a job asks for, in order.
pub(super) fn shares(spec: &SandboxSpec, folders: &Folders) -> Vec<Share> {
    let mut copies = 0;
    let mounts = spec.container.mounts.iter();
    let binds = mounts.filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some((source, mount.read_only)),
        MountKind::Tmpfs { .. } => None,
    });
    binds
        .map(|(source, read_only)| {
            let way = match folders {
                Folders::Virtiofs(_) => Way::Virtiofs,
                Folders::Ninep => Way::Ninep,
                Folders::Copied { .. } => {
                    copies += 1;
                    Way::Copied(copies - 1)
                }
            };
            Share {
                source: source.clone(),
                lent: Lent { way, read_only },
            }
        })
        .collect()
}
