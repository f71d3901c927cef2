//! Which user ids a job has inside.

use std::path::Path;

use hyperion_model::{JobId, Level, RootSource, UsernsMode};
use hyperion_sys::host::id_maps_refused;

use super::words::Args;
use crate::commands::users;

/// Decides how ids inside relate to those outside.
pub(super) fn userns(level: Level, args: &Args, id: &JobId) -> UsernsMode {
    if level == Level::Process {
        return UsernsMode::Host;
    }
    if rustix::process::geteuid().is_root() {
        if args.userns == "host" {
            return UsernsMode::Host;
        }
        // Each job has ids of its own, far from any user's: what breaks out is
        // nobody, and another job's nobody too.
        let bits = u64::from_str_radix(id.as_str(), 16).unwrap_or_default();
        let slot = (bits % 16_000) as u32;
        let (base, size) = ((1 << 30) + slot * 65_536, 65_536);
        let known = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        // Root of a container has no such ids, and no other powers than a user.
        return match hyperion_sys::userns::is_mapped(&known, base, size) {
            true => UsernsMode::Range { base, size },
            false => UsernsMode::Single,
        };
    }
    own_ids()
}

/// Gives up ids of the job's own, and says so, where the file system of its
/// containers' image, or of what it writes below `root`, cannot map them.
pub(super) fn where_mapped(
    wanted: UsernsMode,
    source: Option<&RootSource>,
    root: &Path,
) -> UsernsMode {
    if !matches!(wanted, UsernsMode::Range { .. }) {
        return wanted;
    }
    let image = match source {
        Some(RootSource::Layers { layers }) => layers.first().map(AsRef::as_ref),
        Some(RootSource::Erofs { .. } | RootSource::Host) | None => None,
    };
    let there = root.ancestors().find(|p| p.exists());
    match [image, there]
        .into_iter()
        .flatten()
        .find_map(id_maps_refused)
    {
        Some(why) => {
            eprintln!("warning: root inside is root outside (--userns host): {why}");
            UsernsMode::Host
        }
        None => wanted,
    }
}

/// Finds the ids that a user has in containers.
pub(in crate::commands) fn own_ids() -> UsernsMode {
    // Who has no helpers has no use for ids, and who asks for names may wait for a directory.
    if !["newuidmap", "newgidmap"].iter().all(|h| in_path(h)) {
        return UsernsMode::Single;
    }
    let uid = rustix::process::getuid().as_raw();
    let user = users::numbered(uid).map_or_else(String::new, |user| user.name);
    let range = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        hyperion_sys::userns::subordinate_range(&text, &user, uid)
    };
    match (range("/etc/subuid"), range("/etc/subgid")) {
        (Some(uids), Some(gids)) => UsernsMode::Subordinate { uids, gids },
        _ => UsernsMode::Single,
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
