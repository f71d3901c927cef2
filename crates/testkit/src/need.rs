//! What a test can ask of the machine, and how each is looked up.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One thing that a test needs of the machine that it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// `root`: effective user 0.
    Root,
    /// `unprivileged`: any effective user but 0.
    Unprivileged,
    /// `command:NAME`: an executable on the search path.
    Command(String),
    /// `userns`: a user namespace can be created.
    UserNamespace,
    /// `kernel:MAJOR.MINOR`: at least this kernel.
    Kernel(u32, u32),
    /// `user:NAME`: this user exists, and the test is root, who can become it, or is it.
    User(String),
    /// `subuid:NAME`: the user has ranges in /etc/subuid and /etc/subgid.
    Subuid(String),
    /// `filesystem:NAME`: the kernel lists this file system type.
    Filesystem(String),
    /// `cgroup:v1` or `cgroup:v2`: such a hierarchy is mounted and writable here.
    Cgroup(CgroupVersion),
    /// `path:/…`: this path exists.
    Path(PathBuf),
    /// `cores:N`: at least so many cores may be used by this process.
    Cores(usize),
    /// `python:MODULE`: `python3` can import it.
    Python(String),
    /// `guest`: another kernel can be booted ([`Guest`](crate::Guest)).
    Guest,
    /// `disk-image`: Debian on a disk, that QEMU boots ([`disk_image`](crate::disk_image)).
    DiskImage,
    /// `cpu:FLAG`: the processor says that it can do this.
    Cpu(String),
    /// `traces`: real traces of jobs lie here ([`traces`](crate::traces)).
    Traces,
}

/// Which cgroup hierarchy a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// The memory controller of version 1.
    V1,
    /// A cgroup2 mount, unified or beside version 1.
    V2,
}

/// Why a need is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// The need as the test wrote it.
    pub need: String,
    /// What was found instead.
    pub reason: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.need, self.reason)
    }
}

impl Need {
    /// Reads a need as written in `requires!`.
    ///
    /// # Panics
    /// On an unknown word: a test with a misspelt need would be skipped for ever.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        match (kind, value) {
            ("root", "") => Self::Root,
            ("unprivileged", "") => Self::Unprivileged,
            ("userns", "") => Self::UserNamespace,
            ("guest", "") => Self::Guest,
            ("disk-image", "") => Self::DiskImage,
            ("traces", "") => Self::Traces,
            ("command", name) if !name.is_empty() => Self::Command(name.into()),
            ("cpu", flag) if !flag.is_empty() => Self::Cpu(flag.into()),
            ("user", name) if !name.is_empty() => Self::User(name.into()),
            ("subuid", name) if !name.is_empty() => Self::Subuid(name.into()),
            ("filesystem", name) if !name.is_empty() => Self::Filesystem(name.into()),
            ("python", name) if !name.is_empty() => Self::Python(name.into()),
            ("path", path) if path.starts_with('/') => Self::Path(path.into()),
            ("cgroup", "v1") => Self::Cgroup(CgroupVersion::V1),
            ("cgroup", "v2") => Self::Cgroup(CgroupVersion::V2),
            ("cores", n) => Self::Cores(n.parse().expect("`cores:` takes a whole number")),
            ("kernel", version) => {
                let (major, minor) =
                    version_of(version).expect("`kernel:` takes a version such as 6.12");
                Self::Kernel(major, minor)
            }
            _ => panic!("unknown need `{text}` in requires!; testkit's `Need` lists the words"),
        }
    }

    /// Looks whether this machine meets the need.
    ///
    /// # Errors
    /// The reason, for the line that the skipped test prints.
    pub fn check(&self) -> Result<(), String> {
        let root = rustix::process::geteuid().is_root();
        match self {
            Self::Root => must(root, || "not root".into()),
            Self::Unprivileged => must(!root, || "running as root".into()),
            Self::Command(name) => check_command(name),
            Self::Guest => crate::guest::check(),
            Self::DiskImage => must(crate::disk_image().exists(), || {
                "no disk image in the cache; scripts/disk.sh makes it".into()
            }),
            Self::Cpu(flag) => must(
                read("/proc/cpuinfo")
                    .split_whitespace()
                    .any(|word| word == flag),
                || format!("the processor does not say {flag}"),
            ),
            Self::Traces => must(crate::traces().is_some(), || {
                "no traces: HYPERION_TRACES names no folder with them and their expected.json"
                    .into()
            }),
            Self::UserNamespace => must(
                succeeds(Command::new("unshare").args(["--user", "true"])),
                || "this kernel or its settings refuse user namespaces".into(),
            ),
            Self::Kernel(major, minor) => {
                let release = rustix::system::uname()
                    .release()
                    .to_string_lossy()
                    .into_owned();
                let here = version_of(&release);
                must(here >= Some((*major, *minor)), || {
                    format!("the kernel is {release}")
                })
            }
            Self::User(name) => {
                must(has_entry("/etc/passwd", name), || format!("no user {name}"))?;
                must(root || is_me(name), || {
                    format!("only root can become {name}")
                })
            }
            Self::Subuid(name) => must(
                has_entry("/etc/subuid", name) && has_entry("/etc/subgid", name),
                || format!("{name} has no ranges in /etc/subuid and /etc/subgid"),
            ),
            Self::Filesystem(name) => must(
                read("/proc/filesystems")
                    .lines()
                    .any(|line| line.split_whitespace().next_back() == Some(name)),
                || format!("the kernel does not list {name}"),
            ),
            Self::Cgroup(version) => version.check(),
            Self::Path(path) => must(path.exists(), || format!("no {}", path.display())),
            Self::Cores(wanted) => {
                let here = std::thread::available_parallelism().map_or(1, usize::from);
                must(here >= *wanted, || format!("only {here} cores"))
            }
            Self::Python(module) => must(
                succeeds(Command::new("python3").args(["-c", &format!("import {module}")])),
                || format!("python3 cannot import {module}"),
            ),
        }
    }
}

impl CgroupVersion {
    fn check(self) -> Result<(), String> {
        let (kind, option) = match self {
            Self::V1 => ("cgroup", Some("memory")),
            Self::V2 => ("cgroup2", None),
        };
        let mounts = read("/proc/self/mountinfo");
        let found = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let here = right.next()? == kind;
            let options = right.nth(1)?;
            let with = option.is_none_or(|o| options.split(',').any(|x| x == o));
            (here && with).then(|| left.split(' ').nth(4).map(PathBuf::from))?
        });
        let Some(mount) = found else {
            return Err(format!("no {kind} hierarchy is mounted"));
        };
        let writable = rustix::fs::access(&mount, rustix::fs::Access::WRITE_OK).is_ok();
        must(writable, || format!("{} is not writable", mount.display()))
    }
}

/// Looks whether there is an executable of this name.
pub(crate) fn check_command(name: &str) -> Result<(), String> {
    must(find_command(name).is_some(), || {
        format!("`{name}` is not on the search path")
    })
}

fn must(met: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if met { Ok(()) } else { Err(reason()) }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn has_entry(file: &str, name: &str) -> bool {
    read(file)
        .lines()
        .any(|line| line.split(':').next() == Some(name))
}

/// Tells whether this process is a user's.
fn is_me(name: &str) -> bool {
    let me = rustix::process::geteuid().as_raw().to_string();
    read("/etc/passwd").lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(name) && fields.nth(1) == Some(&me)
    })
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The first executable of this name on the search path, or in the folders
/// that hold tools for root and that a user's path often lacks.
fn find_command(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The leading `MAJOR.MINOR` of a version such as `6.12.9-amd64`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    let minor: String = parts
        .next()?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some((major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_a_kernel_release() {
        assert_eq!(version_of("6.12"), Some((6, 12)));
        assert_eq!(version_of("6.1.0-31-amd64"), Some((6, 1)));
        assert_eq!(version_of("6.12-rc3"), Some((6, 12)));
        assert_eq!(version_of("six"), None);
    }

    #[test]
    fn a_missing_command_is_unmet_and_a_present_one_met() {
        assert!(Need::parse("command:sh").check().is_ok());
        let reason = Need::parse("command:no-such-command-here")
            .check()
            .expect_err("no such command");
        assert!(reason.contains("no-such-command-here"), "{reason}");
    }

    #[test]
    fn a_future_kernel_is_unmet_and_an_old_one_met() {
        assert!(Need::parse("kernel:3.10").check().is_ok());
        assert!(Need::parse("kernel:99.0").check().is_err());
    }

    #[test]
    fn root_and_unprivileged_exclude_each_other() {
        let root = Need::Root.check().is_ok();
        assert_ne!(root, Need::Unprivileged.check().is_ok());
    }

    #[test]
    #[should_panic(expected = "unknown need `rot`")]
    fn a_misspelt_need_is_refused() {
        let _ = Need::parse("rot");
    }

    #[test]
    fn file_systems_paths_users_and_cores_are_looked_up() {
        assert!(Need::parse("filesystem:proc").check().is_ok());
        assert!(Need::parse("filesystem:nosuchfs").check().is_err());
        assert!(Need::parse("path:/proc/self").check().is_ok());
        assert!(Need::parse("path:/no/such/path").check().is_err());
        assert!(Need::parse("user:no-such-user").check().is_err());
        assert!(Need::parse("subuid:no-such-user").check().is_err());
        assert!(Need::parse("cores:1").check().is_ok());
        assert!(Need::parse("cores:100000").check().is_err());
    }
}
