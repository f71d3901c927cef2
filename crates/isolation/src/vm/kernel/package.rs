//! Packages of Debian and its relatives (deb(5)): an `ar` archive with the files
//! in a packed tar archive. Of these only a kernel and its modules are taken,
//! by their last names; nothing in a package is a path here.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

use tar::EntryType;

use super::compressed;
use super::draft::Draft;
use super::error::KernelError;

/// Bytes that a package unpacks to at most.
const LARGEST: u64 = 8 << 30;
/// The longest path in a package, in bytes.
const LONGEST_PATH: u64 = 4096;

/// Takes kernel and modules from a package; gives the release, if it has any of them.
pub(super) fn take(package: &Path, draft: &mut Draft) -> Result<Option<String>, KernelError> {
    let damaged = |source: io::Error| match source.raw_os_error() {
        // Not what a decoder says of it, but the system: a full disk for one.
        Some(_) => KernelError::io("unpack", package)(source),
        None => KernelError::Package {
            path: package.to_owned(),
            source,
        },
    };
    let file = File::open(package).map_err(KernelError::io("open", package))?;
    let data = data(file).map_err(damaged)?;
    let mut data = compressed::reader(data, LARGEST).map_err(damaged)?;
    let mut found = Found::default();
    files(&mut data, |path, content| found.take(path, content, draft)).map_err(damaged)?;
    // To the end, so that the sums behind it are checked.
    io::copy(&mut data, &mut io::sink()).map_err(damaged)?;
    match found.other {
        None => Ok(found.release),
        Some(other) => Err(KernelError::NotAKernelPackage {
            path: package.to_owned(),
            what: format!("it holds more than one kernel: {other} too"),
        }),
    }
}

/// Which kernel a package holds.
#[derive(Default)]
struct Found {
    release: Option<String>,
    other: Option<String>,
}

impl Found {
    fn take(&mut self, path: &str, content: &mut dyn Read, draft: &mut Draft) -> io::Result<()> {
        let path = path.strip_prefix("./").unwrap_or(path);
        let path = path.strip_prefix("usr/").unwrap_or(path);
        if let Some(release) = path.strip_prefix("boot/vmlinuz-") {
            if self.is_it(release) {
                draft.image(content)?;
            }
        } else if let Some(path) = path.strip_prefix("lib/modules/")
            && let Some((release, path)) = path.split_once('/')
            && self.is_it(release)
        {
            if path == "vmlinuz" {
                draft.image(content)?;
            } else {
                draft.file(path, content)?;
            }
        }
        Ok(())
    }

    fn is_it(&mut self, release: &str) -> bool {
        let known = self.release.get_or_insert_with(|| release.to_owned());
        if known != release {
            self.other = Some(release.to_owned());
        }
        self.other.is_none()
    }
}

/// Finds the archive of files in a package.
pub(super) fn data(mut package: File) -> io::Result<impl Read> {
    let bad = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let end = package.metadata()?.len();
    let mut magic = [0; 8];
    let read = package.read_exact(&mut magic);
    if read.is_err() || &magic != b"!<arch>\n" {
        return bad("it is no archive of ar");
    }
    let mut at = 8_u64;
    while at < end {
        // Name, time, owner, group, mode, size, two bytes of end.
        let mut header = [0; 60];
        package.seek(SeekFrom::Start(at))?;
        package.read_exact(&mut header)?;
        let text = |range: std::ops::Range<usize>| {
            let text = std::str::from_utf8(&header[range]).unwrap_or_default();
            text.trim_end().to_owned()
        };
        let Ok(size) = text(48..58).parse::<u64>() else {
            return bad("a header of ar is damaged");
        };
        at += 60;
        if &header[58..] != b"`\n" || size > end - at {
            return bad("it is cut off");
        }
        if text(0..16).trim_end_matches('/').starts_with("data.tar") {
            return Ok(package.take(size));
        }
        at += size.next_multiple_of(2);
    }
    bad("there are no files in it")
}

/// Calls `each` with every regular file of a tar archive, by its path as it stands there.
pub(super) fn files(
    from: impl Read,
    mut each: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(from);
    let mut long = None;
    // Raw: else a long name is read into memory whatever its size.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let mut name = Vec::new();
                (&mut entry).take(LONGEST_PATH).read_to_end(&mut name)?;
                name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
                long = Some(name);
            }
            EntryType::Regular => {
                let path = long
                    .take()
                    .unwrap_or_else(|| entry.path_bytes().into_owned());
                if let Ok(path) = String::from_utf8(path) {
                    each(&path, &mut entry)?;
                }
            }
            _ => long = None,
        }
    }
    Ok(())
}
