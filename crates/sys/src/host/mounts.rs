//! What is mounted where, from `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).

use std::path::{Path, PathBuf};

use super::Host;

/// One line of `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Path inside the file system that is shown here.
    pub root: PathBuf,
    /// Where it is shown.
    pub target: PathBuf,
    /// Options of this mount, such as `ro` or `nosuid`.
    pub options: Vec<String>,
    /// Kind of file system, such as `ext4`.
    pub filesystem: String,
    /// Device or server.
    pub source: String,
    /// Options of the file system, such as `size=64k` or a cgroup's controllers.
    pub super_options: Vec<String>,
}

impl MountPoint {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.split(' ');
        let words = |text: &str| text.split(',').map(str::to_owned).collect();
        Some(Self {
            root: unescape(left.get(3)?).into(),
            target: unescape(left.get(4)?).into(),
            options: words(left.get(5)?),
            filesystem: right.next()?.to_owned(),
            source: unescape(right.next()?),
            super_options: words(right.next().unwrap_or_default()),
        })
    }

    /// Tells whether an option is set on the mount.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Gives the value of an option `key=value` of the file system.
    pub fn super_value(&self, key: &str) -> Option<&str> {
        self.super_options
            .iter()
            .find_map(|o| o.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let taken = match code {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                4
            }
            _ => {
                out.push('\\');
                1
            }
        };
        rest = &rest[at + taken..];
    }
    out.push_str(rest);
    out
}

fn parse(text: &str) -> Vec<MountPoint> {
    text.lines().filter_map(MountPoint::parse).collect()
}

/// Lists all mounts; a later one covers an earlier one at the same place.
pub fn mounts(host: &Host) -> Vec<MountPoint> {
    parse(&host.text("/proc/self/mountinfo").unwrap_or_default())
}

/// Finds the mount on which a path lies, whether or not the path exists.
pub fn mount_of<'a>(mounts: &'a [MountPoint], path: &Path) -> Option<&'a MountPoint> {
    // `max_by_key` keeps the last of equals: the one on top.
    mounts
        .iter()
        .filter(|m| path.starts_with(&m.target))
        .max_by_key(|m| m.target.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=100k
30 25 0:27 / /dev/shm rw,nosuid - tmpfs tmpfs rw,size=200k
31 27 0:40 /sub /my\\040data ro - nfs4 server:/export\\040a rw
broken line";

    #[test]
    fn the_longest_and_latest_mount_holds_a_path() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 4);
        let of = |p: &str| mount_of(&mounts, Path::new(p)).expect("a mount");
        assert_eq!(of("/dev/shm/x").super_value("size"), Some("200k"));
        assert_eq!(of("/dev/shmem").filesystem, "ext4");
        assert_eq!(of("/my data/a/b").source, "server:/export a");
        assert!(of("/my data").has("ro"));
        assert_eq!(of("/my data").root, Path::new("/sub"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\PC|\\\\0|[ \n-]){0,120}") {
            let _ = parse(&text);
            let _ = unescape(&text);
        }
    }
}
