//! Host folders and memory file systems that a sandbox sees.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::Bytes;

/// What is wrong with a mount.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MountError {
    /// Not `SOURCE:TARGET[:OPTIONS]`.
    #[error("{0:?} is not a volume: write SOURCE:TARGET[:ro]")]
    Volume(String),
    /// Not `key=value,…`.
    #[error("{0:?} is not a mount: write type=bind,source=DIR,target=DIR[,readonly]")]
    Mount(String),
    /// An option that no mount has.
    #[error("a mount has no option {0:?}")]
    Option(String),
    /// An option whose value it does not take.
    #[error("{value:?} is no value of a mount's {option}")]
    Value {
        /// The option.
        option: &'static str,
        /// What was written.
        value: String,
    },
    /// The target is not absolute, tries to climb, or is the root itself.
    #[error("the target {0:?} must be an absolute path below '/', without '..'")]
    Target(PathBuf),
    /// Two mounts have the same target.
    #[error("two mounts have the target {0:?}")]
    Twice(PathBuf),
    /// The source of a bind mount is not absolute.
    #[error("the source {0:?} must be an absolute path")]
    Source(PathBuf),
}

/// How mounts made later on one side show on the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// Neither side sees the other's later mounts.
    #[default]
    Private,
    /// The sandbox sees what the host mounts later.
    Slave,
    /// Both see each other's.
    Shared,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum MountKind {
    /// A file or folder of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// How later mounts propagate.
        #[serde(default)]
        propagation: Propagation,
    },
    /// Memory.
    Tmpfs {
        /// How much at most; the kernel's default is half of the memory.
        size: Option<Bytes>,
        /// Permission bits of its root.
        mode: u32,
        /// Whether programs may be run from it.
        exec: bool,
    },
}

/// One mount in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the sandbox.
    pub target: PathBuf,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// What is mounted.
    #[serde(flatten)]
    pub kind: MountKind,
}

impl Mount {
    /// The options that mounts know; not every kind takes each.
    pub const OPTIONS: [&str; 15] = [
        "type",
        "source",
        "target",
        "readonly",
        "exec",
        "size",
        "mode",
        "tmpfs-size",
        "tmpfs-mode",
        "bind-propagation",
        "ro",
        "rw",
        "private",
        "slave",
        "shared",
    ];

    /// Reads docker's `-v SOURCE:TARGET[:OPTION,…]`; options are `ro`, `rw`,
    /// `private`, `slave`, `shared` (an `r` before them is taken too).
    ///
    /// # Errors
    /// [`MountError`] when a part is missing, relative or unknown. A relative
    /// source is made absolute by the caller, who knows the working folder.
    pub fn parse_volume(s: &str) -> Result<Self, MountError> {
        let mut parts = s.split(':');
        let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
            return Err(MountError::Volume(s.to_owned()));
        };
        let options = parts.next().unwrap_or("");
        if parts.next().is_some() || source.is_empty() {
            return Err(MountError::Volume(s.to_owned()));
        }
        let mut read_only = false;
        let mut propagation = Propagation::default();
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" => read_only = true,
                // SELinux labels are accepted for the sake of scripts; there is no SELinux support to act on.
                "rw" | "z" | "Z" => {}
                "private" | "rprivate" => propagation = Propagation::Private,
                "slave" | "rslave" => propagation = Propagation::Slave,
                "shared" | "rshared" => propagation = Propagation::Shared,
                _ => return Err(MountError::Option(option.to_owned())),
            }
        }
        let kind = MountKind::Bind {
            source: source.into(),
            propagation,
        };
        Self {
            target: target.into(),
            read_only,
            kind,
        }
        .checked()
    }

    /// Reads docker's `--mount type=bind|tmpfs,source=…,target=…[,readonly]…`.
    ///
    /// # Errors
    /// [`MountError`] when a key is missing or unknown.
    pub fn parse_mount(s: &str) -> Result<Self, MountError> {
        let bad = || MountError::Mount(s.to_owned());
        let mut kind = "bind";
        let (mut source, mut target) = (None, None);
        let (mut read_only, mut exec) = (false, false);
        let mut propagation = Propagation::default();
        let (mut size, mut mode) = (None, 0o1777);
        for field in s.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key {
                "type" => kind = value,
                "source" | "src" => source = Some(PathBuf::from(value)),
                "target" | "dst" | "destination" => target = Some(PathBuf::from(value)),
                "readonly" | "ro" => read_only = !matches!(value, "false" | "0"),
                "exec" => exec = true,
                "tmpfs-size" | "size" => size = Some(size_of(value)?),
                "tmpfs-mode" | "mode" => mode = mode_of(value)?,
                "bind-propagation" => {
                    propagation = match value.strip_prefix('r').unwrap_or(value) {
                        "private" => Propagation::Private,
                        "slave" => Propagation::Slave,
                        "shared" => Propagation::Shared,
                        _ => return Err(wrong("bind-propagation", value)),
                    }
                }
                _ => return Err(MountError::Option(key.to_owned())),
            }
        }
        let target = target.ok_or_else(bad)?;
        let kind = match (kind, source) {
            ("bind", Some(source)) => MountKind::Bind {
                source,
                propagation,
            },
            ("tmpfs", None) => MountKind::Tmpfs { size, mode, exec },
            _ => return Err(bad()),
        };
        Self {
            target,
            read_only,
            kind,
        }
        .checked()
    }

    /// Reads docker's `--tmpfs TARGET[:size=…,mode=…,ro,exec]`.
    ///
    /// # Errors
    /// [`MountError`] when an option is unknown or the target not absolute.
    pub fn parse_tmpfs(s: &str) -> Result<Self, MountError> {
        let (target, options) = s.split_once(':').unwrap_or((s, ""));
        let (mut size, mut mode, mut exec, mut read_only) = (None, 0o1777, false, false);
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => size = Some(size_of(value)?),
                Some(("mode", value)) => mode = mode_of(value)?,
                None if option == "ro" => read_only = true,
                None if option == "exec" => exec = true,
                None if ["rw", "noexec", "nosuid", "nodev"].contains(&option) => {}
                Some((key, _)) => return Err(MountError::Option(key.to_owned())),
                None => return Err(MountError::Option(option.to_owned())),
            }
        }
        let kind = MountKind::Tmpfs { size, mode, exec };
        Self {
            target: target.into(),
            read_only,
            kind,
        }
        .checked()
    }

    /// Puts mounts into an order in which none covers another: the deeper a target lies, the
    /// later it comes.
    ///
    /// # Errors
    /// [`MountError::Twice`].
    pub fn in_order(mut all: Vec<Self>) -> Result<Vec<Self>, MountError> {
        let mut targets = BTreeSet::new();
        if let Some(second) = all.iter().find(|mount| !targets.insert(&mount.target)) {
            return Err(MountError::Twice(second.target.clone()));
        }
        all.sort_by_key(|mount| mount.target.components().count());
        Ok(all)
    }

    fn checked(self) -> Result<Self, MountError> {
        if !is_plain_absolute(&self.target) || self.target == Path::new("/") {
            return Err(MountError::Target(self.target));
        }
        Ok(self)
    }
}

fn wrong(option: &'static str, value: &str) -> MountError {
    let value = value.to_owned();
    MountError::Value { option, value }
}

fn size_of(value: &str) -> Result<Bytes, MountError> {
    value.parse().map_err(|_| wrong("size", value))
}

fn mode_of(value: &str) -> Result<u32, MountError> {
    let mode = u32::from_str_radix(value, 8).ok();
    let mode = mode.filter(|&mode| mode <= 0o7777);
    mode.ok_or_else(|| wrong("mode", value))
}

/// Tells whether a path is absolute and has no `.` or `..` component.
pub fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_as_docker_reads_them() {
        let mount = Mount::parse_volume("/data:/mnt/data:ro,rslave").expect("valid");
        assert!(mount.read_only);
        assert_eq!(mount.target, Path::new("/mnt/data"));
        let kind = MountKind::Bind {
            source: "/data".into(),
            propagation: Propagation::Slave,
        };
        assert_eq!(mount.kind, kind);
        assert_eq!(
            Mount::parse_volume("/data:/x:rx"),
            Err(MountError::Option("rx".into()))
        );
    }

    #[test]
    fn a_target_cannot_climb_out() {
        for bad in ["/a:/../etc", "/a:etc", "/a:/"] {
            assert!(
                matches!(Mount::parse_volume(bad), Err(MountError::Target(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn mounts_and_tmpfs_take_their_options() {
        let m = Mount::parse_mount("type=tmpfs,target=/t,tmpfs-size=1MiB,tmpfs-mode=700")
            .expect("valid");
        assert_eq!(
            m.kind,
            MountKind::Tmpfs {
                size: Some(Bytes(1 << 20)),
                mode: 0o700,
                exec: false
            }
        );
        let m = Mount::parse_mount("src=/a,dst=/b,readonly").expect("valid");
        assert!(m.read_only);
        assert!(Mount::parse_mount("type=bind,target=/b").is_err());
        assert!(Mount::parse_tmpfs("/t:size=4m,exec").is_ok());
        assert_eq!(
            Mount::parse_tmpfs("/t:siz=4m"),
            Err(MountError::Option("siz".into()))
        );
        assert_eq!(Mount::parse_tmpfs("/t:mode=9"), Err(wrong("mode", "9")));
        assert_eq!(
            Mount::parse_mount("src=/a,dst=/b,bind-propagation=rslav"),
            Err(wrong("bind-propagation", "rslav"))
        );
    }

    #[test]
    fn a_mount_covers_no_other() {
        let volume = |text| Mount::parse_volume(text).expect("valid");
        let (outer, inner) = (volume("/a:/x"), volume("/a:/x/y"));
        let all = vec![inner.clone(), outer.clone()];
        assert_eq!(Mount::in_order(all), Ok(vec![outer.clone(), inner.clone()]));
        let all = vec![outer, inner, volume("/b:/x/")];
        assert_eq!(Mount::in_order(all), Err(MountError::Twice("/x/".into())));
    }
}
