//! User namespaces: which ids inside are which outside.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use hyperion_model::UsernsMode;
use hyperion_model::report::Exit;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, getegid, geteuid};
use thiserror::Error;

use crate::process::{self, Fork};

/// What went wrong with a user namespace.
#[derive(Debug, Error)]
pub enum UsernsError {
    /// A map file could not be written.
    #[error("cannot map ids: writing {file} failed")]
    Map {
        /// The file.
        file: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// `newuidmap` or `newgidmap` could not be started.
    #[error("cannot start {0}")]
    Helper(&'static str, #[source] io::Error),
    /// `newuidmap` or `newgidmap` refused.
    #[error("{0} refused: {1}")]
    Refused(&'static str, String),
}

/// One line of a map: first id inside, first id outside, how many.
type Extent = (u32, u32, u32);

/// Writes the maps of a child that was cloned with `CLONE_NEWUSER`.
///
/// # Errors
/// [`UsernsError`]; the child is of no use then.
pub fn write_maps(pid: Pid, mode: &UsernsMode) -> Result<(), UsernsError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    match mode {
        UsernsMode::Host => Ok(()),
        UsernsMode::Range { base, size } => {
            write_map(pid, "uid_map", &[(0, *base, *size)])?;
            write_map(pid, "gid_map", &[(0, *base, *size)])
        }
        UsernsMode::Single => write_single(pid, uid, gid),
        UsernsMode::Subordinate { uids, gids } => {
            run_helper("newuidmap", pid, &[(0, uid, 1), (1, uids.0, uids.1)])?;
            run_helper("newgidmap", pid, &[(0, gid, 1), (1, gids.0, gids.1)])
        }
    }
}

/// Makes this process, which was cloned with `CLONE_NEWUSER`, root of its namespace,
/// in which nobody else has a name. `uid` and `gid` are those that it had.
///
/// # Errors
/// [`UsernsError`].
pub fn map_itself(uid: u32, gid: u32) -> Result<(), UsernsError> {
    write_single(rustix::process::getpid(), uid, gid)
}

fn write_single(pid: Pid, uid: u32, gid: u32) -> Result<(), UsernsError> {
    write_map(pid, "uid_map", &[(0, uid, 1)])?;
    // An unprivileged map of groups is allowed only once setgroups(2) is off.
    write_file(pid, "setgroups", "deny")?;
    write_map(pid, "gid_map", &[(0, gid, 1)])
}

fn write_map(pid: Pid, file: &str, extents: &[Extent]) -> Result<(), UsernsError> {
    let lines: Vec<String> = extents
        .iter()
        .map(|(i, o, n)| format!("{i} {o} {n}"))
        .collect();
    write_file(pid, file, &lines.join("\n"))
}

fn write_file(pid: Pid, file: &str, text: &str) -> Result<(), UsernsError> {
    let file = format!("/proc/{}/{file}", pid.as_raw_pid());
    let write = || {
        fs::OpenOptions::new()
            .write(true)
            .open(&file)?
            .write_all(text.as_bytes())
    };
    write().map_err(|source| UsernsError::Map {
        file: file.clone(),
        source,
    })
}

fn run_helper(name: &'static str, pid: Pid, extents: &[Extent]) -> Result<(), UsernsError> {
    let mut command = Command::new(name);
    command
        .arg(pid.as_raw_pid().to_string())
        .stdin(Stdio::null());
    for (inside, outside, count) in extents {
        command.args([inside, outside, count].map(ToString::to_string));
    }
    let output = command.output().map_err(|e| UsernsError::Helper(name, e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(UsernsError::Refused(name, said))
}

/// Opens the user namespace of a process, for mapping mounts.
///
/// # Errors
/// The kernel's.
pub fn open(pid: Pid) -> io::Result<OwnedFd> {
    let path = format!("/proc/{}/ns/user", pid.as_raw_pid());
    Ok(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Runs a function in a copy of this process inside a new user namespace, and
/// waits for it. What it returns beside success is lost.
///
/// # Errors
/// The kernel's and `newuidmap`'s; `Other` when the function itself failed,
/// with its number where it had one.
pub fn run_inside(
    mode: &UsernsMode,
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<io::Result<()>> {
    let (mut wait, go) = io::pipe()?;
    match process::clone_into(process::namespace::USER, None)? {
        Fork::Child => {
            drop(go);
            // The pipe closes when the maps are written (or the parent is gone).
            let mut byte = [0];
            if !matches!(io::Read::read(&mut wait, &mut byte), Ok(1)) {
                process::exit_now(255);
            }
            let root = rustix::process::Uid::ROOT;
            let _ = rustix::thread::set_thread_res_gid(
                rustix::process::Gid::ROOT,
                rustix::process::Gid::ROOT,
                rustix::process::Gid::ROOT,
            );
            let _ = rustix::thread::set_thread_res_uid(root, root, root);
            let code = match work() {
                Ok(()) => 0,
                Err(e) => e
                    .raw_os_error()
                    .and_then(|n| u8::try_from(n).ok())
                    .unwrap_or(255),
            };
            process::exit_now(code)
        }
        Fork::Parent(pid) => {
            drop(wait);
            let mapped = write_maps(pid, mode);
            if mapped.is_ok() {
                (&go).write_all(&[1])?;
            }
            drop(go);
            let ended = process::wait_for(pid)?;
            mapped.map_err(io::Error::other)?;
            Ok(match ended.exit {
                Exit::Code(0) => Ok(()),
                Exit::Code(255) | Exit::Signal(_) => {
                    Err(io::Error::other("the work in the user namespace failed"))
                }
                Exit::Code(errno) => Err(io::Error::from_raw_os_error(i32::from(errno))),
            })
        }
    }
}

/// Tells whether a range of ids has a meaning in a user namespace, by the text
/// of its `/proc/self/uid_map`.
pub fn is_mapped(map: &str, first: u32, count: u32) -> bool {
    let numbers = |line: &str| -> Option<(u64, u64)> {
        let mut fields = line.split_ascii_whitespace().map(str::parse);
        let (inside, _, count) = (
            fields.next()?.ok()?,
            fields.next()?.ok()?,
            fields.next()?.ok()?,
        );
        Some((inside, count))
    };
    let (first, end) = (u64::from(first), u64::from(first) + u64::from(count));
    map.lines()
        .filter_map(numbers)
        .any(|(inside, count)| inside <= first && end <= inside + count)
}

/// Finds the largest subordinate range of a user in the text of `/etc/subuid`
/// or `/etc/subgid`: (first id, how many).
pub fn subordinate_range(text: &str, user: &str, uid: u32) -> Option<(u32, u32)> {
    let uid = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let first = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            ((owner == user || owner == uid) && count > 0).then_some((first, count))
        })
        .max_by_key(|&(_, count)| count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_mapped_where_one_extent_holds_it_all() {
        let host = "         0          0 4294967295\n";
        assert!(is_mapped(host, 1 << 30, 65_536));
        assert!(!is_mapped("0 1000 1\n1 100000 65536\n", 1 << 30, 65_536));
        assert!(is_mapped("0 1000 1\n1 100000 65536\n", 1, 65_536));
        assert!(!is_mapped("0 1000 1\n1 100000 65536\n", 0, 2));
        assert!(!is_mapped("garbage\n", 0, 1));
    }

    #[test]
    fn a_subordinate_range_is_found_by_name_or_number() {
        let text = "# none\nana:100000:65536\n1000:300000:1000\nbad\nana:x:1\n";
        assert_eq!(subordinate_range(text, "ana", 1001), Some((100_000, 65536)));
        assert_eq!(subordinate_range(text, "bob", 1000), Some((300_000, 1000)));
        assert_eq!(subordinate_range(text, "eve", 7), None);
    }
}
