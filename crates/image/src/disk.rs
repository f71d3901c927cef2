//! Disk images, by `qemu-img`: what they hold, and new ones.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hyperion_model::Bytes;
use serde::Deserialize;
use thiserror::Error;

/// What goes wrong with a disk image.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The program that knows disk images is not there.
    #[error("cannot execute qemu-img")]
    NoProgram(#[source] io::Error),
    /// It refused.
    #[error("qemu-img cannot {action} {}: {words}", path.display())]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The image.
        path: PathBuf,
        /// Its own words.
        words: String,
    },
    /// The file is not there.
    #[error("there is no disk image {}", .0.display())]
    Missing(PathBuf),
    /// Its answer has another shape than it should.
    #[error("qemu-img's answer about {} is not understood", path.display())]
    Answer {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// What a disk image is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskInfo {
    /// In QEMU's words: `raw`, `qcow2`, `vmdk`.
    pub format: String,
    /// What the guest sees, in bytes.
    pub virtual_size: u64,
    /// What it takes on the host, in bytes.
    #[serde(default)]
    pub actual_size: u64,
    /// The image below it, as written in its header.
    #[serde(default)]
    pub backing_filename: Option<String>,
    /// The states that it holds.
    #[serde(default)]
    pub snapshots: Vec<SnapshotInfo>,
}

/// A state that a disk image holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotInfo {
    /// What it is called.
    pub name: String,
    /// How much memory of a machine that ran is in it, in bytes.
    #[serde(default)]
    pub vm_state_size: u64,
    /// When it was taken, in seconds since 1970.
    #[serde(default)]
    pub date_sec: i64,
}

/// Looks at an image, also at one that a machine has open. What lies below it
/// is named and not opened.
///
/// # Errors
/// [`DiskError`].
pub fn info(path: &Path) -> Result<DiskInfo, DiskError> {
    if !path.exists() {
        return Err(DiskError::Missing(path.to_owned()));
    }
    let mut command = Command::new("qemu-img");
    command
        .args(["info", "--output=json", "--force-share"])
        .arg(path);
    let output = done(command, "read", path)?;
    serde_json::from_slice(&output.stdout).map_err(|source| DiskError::Answer {
        path: path.to_owned(),
        source,
    })
}

/// Makes a thin qcow2 image: empty, or showing what lies below it.
///
/// # Errors
/// [`DiskError`]; nothing is left behind.
pub fn create(
    path: &Path,
    size: Option<Bytes>,
    below: Option<(&Path, &str)>,
) -> Result<(), DiskError> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]);
    if let Some((below, format)) = below {
        command.arg("-b").arg(below).args(["-F", format]);
    }
    command.arg(path);
    command.args(size.map(|size| size.0.to_string()));
    done(command, "make", path).map(drop).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

/// Gives an image another size.
///
/// # Errors
/// [`DiskError`].
pub fn resize(path: &Path, format: &str, size: Bytes) -> Result<(), DiskError> {
    let mut command = Command::new("qemu-img");
    command
        .args(["resize", "-q", "-f", format])
        .arg(path)
        .arg(size.0.to_string());
    done(command, "resize", path).map(drop)
}

/// Takes (`-c`), goes back to (`-a`) or throws away (`-d`) a state in an image
/// that nobody has open, and checks the image after it.
///
/// # Errors
/// [`DiskError`].
pub fn snapshot(path: &Path, action: &str, tag: &str) -> Result<(), DiskError> {
    let mut command = Command::new("qemu-img");
    command.args(["snapshot", "-q", action, tag]).arg(path);
    done(command, "change the snapshots of", path)?;
    check(path)
}

/// Checks an image for inner contradictions.
///
/// # Errors
/// [`DiskError::Refused`] when there are any.
pub fn check(path: &Path) -> Result<(), DiskError> {
    let mut command = Command::new("qemu-img");
    command.args(["check", "-q", "-f", "qcow2"]).arg(path);
    done(command, "check", path).map(drop)
}

fn done(mut command: Command, action: &'static str, path: &Path) -> Result<Output, DiskError> {
    let output = command.output().map_err(DiskError::NoProgram)?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.trim().trim_start_matches("qemu-img: ").to_owned();
    Err(DiskError::Refused {
        action,
        path: path.to_owned(),
        words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_made_thin_looked_at_and_laid_on_another() {
        hyperion_testkit::requires!("command:qemu-img");
        let dir = tempfile::tempdir().expect("a folder");
        let (base, top) = (dir.path().join("base"), dir.path().join("top"));
        create(&base, Some(Bytes(10 << 30)), None).expect("made");
        create(&top, None, Some((&base, "qcow2"))).expect("laid on it");
        let seen = info(&top).expect("read");
        assert_eq!(
            (seen.format.as_str(), seen.virtual_size),
            ("qcow2", 10 << 30)
        );
        assert!(seen.actual_size < 1 << 20, "{seen:?}");
        assert_eq!(seen.backing_filename, base.to_str().map(str::to_owned));
        check(&top).expect("whole");
        assert!(matches!(
            info(&dir.path().join("none")),
            Err(DiskError::Missing(_))
        ));
        let again = create(Path::new("/nowhere/disk"), Some(Bytes(1)), None);
        assert!(matches!(again, Err(DiskError::Refused { .. })), "{again:?}");
    }
}
