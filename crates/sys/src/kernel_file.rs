//! Reading files that the kernel makes up: those of `/proc`, `/sys` and cgroups.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Nearly all of them are shorter.
const ROOM: usize = 4096;

/// Reads a whole file, in one call where it is short. It has no size to ask
/// for, and [`std::fs::read_to_string`], which asks and then feels its way,
/// makes a start measurably slower.
///
/// Names of processes, mounts and groups are whatever bytes somebody chose: those that are no
/// UTF-8 are replaced, so that one of them does not hide all others.
///
/// # Errors
/// The kernel's.
pub fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path.as_ref(), flags, Mode::empty())?;
    let mut bytes = Vec::with_capacity(ROOM);
    loop {
        if bytes.capacity() - bytes.len() < ROOM / 2 {
            bytes.reserve(bytes.len());
        }
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let text = String::from_utf8(bytes);
    Ok(text.unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn short_and_long_files_are_read_whole() {
        for path in ["/proc/self/stat", "/proc/kallsyms", "/proc/self/mountinfo"] {
            let Ok(expected) = std::fs::read_to_string(path) else {
                continue;
            };
            let lines = |text: &str| text.lines().count();
            let got = super::read(path).expect("readable");
            assert_eq!(lines(&got), lines(&expected), "{path}");
        }
    }
}
