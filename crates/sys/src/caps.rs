//! Capabilities: which of root's powers a process keeps.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// The kernel's names in the order of their bits (linux/capability.h).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSet(u64);

impl CapSet {
    /// Gives every capability that this code knows.
    pub const fn all() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// Gives docker's default set of fourteen.
    pub fn docker_default() -> Self {
        const DEFAULT: [&str; 14] = [
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FSETID",
            "CAP_FOWNER",
            "CAP_MKNOD",
            "CAP_NET_RAW",
            "CAP_SETGID",
            "CAP_SETUID",
            "CAP_SETFCAP",
            "CAP_SETPCAP",
            "CAP_NET_BIND_SERVICE",
            "CAP_SYS_CHROOT",
            "CAP_KILL",
            "CAP_AUDIT_WRITE",
        ];
        DEFAULT
            .iter()
            .filter_map(|name| Self::named(name))
            .fold(Self(0), |set, cap| Self(set.0 | cap.0))
    }

    /// Finds one capability by name, with or without `CAP_`, in any case; `ALL` is all.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" {
            return Some(Self::all());
        }
        let full = if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        NAMES
            .iter()
            .position(|n| *n == full)
            .map(|bit| Self(1 << bit))
    }

    /// Gives docker's default set, plus what is added, less what is dropped.
    ///
    /// `ALL` in `drop` empties the set before what is added, as docker does it.
    ///
    /// # Errors
    /// The first name that no capability has.
    pub fn adjusted<'a>(add: &'a [String], drop: &'a [String]) -> Result<Self, &'a str> {
        let find = |name: &'a String| Self::named(name).ok_or(name.as_str());
        let everything = |name: &&String| name.eq_ignore_ascii_case("all");
        let mut set = if drop.iter().any(|n| everything(&n)) {
            Self(0)
        } else {
            Self::docker_default()
        };
        for name in add {
            set.0 |= find(name)?.0;
        }
        for name in drop.iter().filter(|n| !everything(n)) {
            set.0 &= !find(name)?.0;
        }
        Ok(set)
    }

    /// Tells whether the capability of this full name is in the set.
    pub fn has_name(self, name: &str) -> bool {
        NAMES
            .iter()
            .position(|n| *n == name)
            .is_some_and(|bit| self.0 >> bit & 1 == 1)
    }

    /// Gives every known name, for suggestions.
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// Gives the set that this process holds and may use.
    ///
    /// # Errors
    /// The kernel's.
    pub fn effective() -> io::Result<Self> {
        Ok(Self(rustix::thread::capabilities(None)?.effective.bits()))
    }

    /// Takes everything outside the set from the bounding set, so that no
    /// program started later can gain it.
    ///
    /// # Errors
    /// The kernel's, `EPERM` without `CAP_SETPCAP`.
    pub fn limit_bounding(self) -> io::Result<()> {
        for bit in (0..64).filter(|bit| self.0 >> bit & 1 == 0) {
            let cap = CapabilitySet::from_bits_retain(1 << bit);
            match rustix::thread::remove_capability_from_bounding_set(cap) {
                Ok(()) => {}
                // The kernel has no capability of this number, nor any above it.
                Err(rustix::io::Errno::INVAL) if bit >= 30 => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Makes this process hold exactly this set, as far as it holds it now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apply(self) -> io::Result<()> {
        let held = rustix::thread::capabilities(None)?;
        let keep = held
            .permitted
            .intersection(CapabilitySet::from_bits_retain(self.0));
        let sets = CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: CapabilitySet::empty(),
        };
        Ok(rustix::thread::set_capabilities(None, sets)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_docker_takes_them() {
        assert_eq!(CapSet::named("net_admin"), CapSet::named("CAP_NET_ADMIN"));
        assert_eq!(CapSet::named("CAP_CHOWN"), Some(CapSet(1)));
        assert_eq!(CapSet::named("CHECKPOINT_RESTORE"), Some(CapSet(1 << 40)));
        assert_eq!(CapSet::named("nope"), None);
    }

    #[test]
    fn adding_and_dropping_follow_docker() {
        let words = |w: &[&str]| w.iter().map(ToString::to_string).collect::<Vec<_>>();
        let set = |add: &[&str], drop: &[&str]| {
            CapSet::adjusted(&words(add), &words(drop)).expect("known")
        };
        assert!(!set(&[], &["MKNOD"]).has_name("CAP_MKNOD"));
        assert_eq!(
            set(&["NET_ADMIN"], &["ALL"]),
            CapSet::named("NET_ADMIN").expect("known")
        );
        assert_eq!(set(&["ALL"], &[]), CapSet::all());
        assert_eq!(
            CapSet::adjusted(&words(&["NET_ADMN"]), &[]),
            Err("NET_ADMN")
        );
        assert_eq!(CapSet::docker_default().0.count_ones(), 14);
    }
}
