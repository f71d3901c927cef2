//! Files of `--snapshot` and `--resume`, of `hyperion sim run` and of `hyperion sim swf`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use hyperion_model::Class;
use hyperion_sim::SnapshotError;

use crate::errors::advised;
use crate::output;

/// In so many bytes stands what a file is.
const HEAD: u64 = 64;

/// Who writes a file, and what it is made of.
#[derive(Clone, Copy)]
pub(super) struct Of {
    pub(super) command: &'static str,
    pub(super) source: &'static str,
}

/// Goes on from a file. What is no snapshot is not read to its end, if it has one.
pub(super) fn read<T>(
    path: &Path,
    of: Of,
    resume: impl Fn(&[u8]) -> Result<T, SnapshotError>,
) -> anyhow::Result<T> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let mut bytes = Vec::new();
    (&mut file)
        .take(HEAD)
        .read_to_end(&mut bytes)
        .with_context(cannot)?;
    let mut found = resume(&bytes);
    let other = matches!(
        found,
        Err(SnapshotError::Foreign | SnapshotError::Format { .. })
    );
    if !other {
        file.read_to_end(&mut bytes).with_context(cannot)?;
        found = resume(&bytes);
    }
    found.map_err(|error| {
        let Of { command, source } = of;
        let hint = match error {
            SnapshotError::Foreign => format!("name a file that `hyperion sim {command} --snapshot` wrote; a {source} stands without --resume"),
            SnapshotError::Format { .. } => format!("go on with the version that wrote it, or run the {source} again"),
            _ => format!("copy it again from where it was written, or run the {source} again"),
        };
        let cause = std::error::Error::source(&error).map_or_else(String::new, |its| format!(": {its}"));
        advised(Class::User, format!("{} {error}{cause}", path.display()), hint)
    })
}

/// Writes a file, and says what it is good for: whether anything is left to happen, from
/// so many seconds on.
pub(super) fn keep(
    simulation: Result<Vec<u8>, SnapshotError>,
    path: &Path,
    of: Of,
    left: bool,
    seconds: f64,
) -> anyhow::Result<()> {
    write(simulation, path)?;
    let (file, command) = (path.display(), of.command);
    let told = match left {
        true => format!("`hyperion sim {command} --resume {file}` goes on from {seconds} s"),
        false => format!("all has happened before {seconds} s; {file} has how it ended"),
    };
    output::talk("note", told);
    Ok(())
}

/// Writes a file under another name first: half of one is never taken for whole, and one
/// that was there stays until then.
fn write(simulation: Result<Vec<u8>, SnapshotError>, path: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        let what = format!("{} is no plain file", path.display());
        return Err(advised(Class::User, what, "name another file"));
    }
    let bytes = simulation?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = File::create(&part)
        .and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.with_context(cannot)
}
