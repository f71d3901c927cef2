//! The ways in for fuzzers (`crates/fuzz`).

/// Looks a user up in the text of `/etc/passwd` and `/etc/group`.
pub fn users(user: &str, passwd: &str, group: &str) {
    let _ = crate::init::users::find(user, passwd, group);
}
