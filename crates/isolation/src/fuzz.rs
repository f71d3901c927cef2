//! The ways in for fuzzers (`crates/fuzz`).

pub use crate::vm::kernel::fuzz::{kernel, module, package};
pub use crate::vm::relay::fuzz::{guest, relay};

/// Looks a user up in the text of `/etc/passwd` and `/etc/group`; no number
/// that is found is the one that means "as before" to the kernel.
pub fn users(user: &str, passwd: &str, group: &str) {
    if let Some(found) = crate::init::users::find(user, passwd, group) {
        let ids = found.groups.iter().chain([&found.uid, &found.gid]);
        assert!(ids.into_iter().all(|&id| id != u32::MAX));
    }
}
