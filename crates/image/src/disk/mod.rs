//! Disk images, by `qemu-img`: what they hold, new ones, and copies of strangers'.
//!
//! `qemu-img` guesses formats and opens whatever a header names: a file of the
//! host below the image, or in its place. So what a stranger made is looked at
//! here first ([`probe`]), and `qemu-img` is told what it is and that nothing
//! lies below it.

mod probe;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hyperion_model::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

pub use probe::{Foreign, Known, Part, probe};

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
    /// It is no image that is taken in.
    #[error("{} {found}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: Foreign,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// There is no room for it.
    #[error("{} needs {needed} at most, and {free} are free", path.display())]
    NoRoom {
        /// The image.
        path: PathBuf,
        /// What a copy may take.
        needed: Bytes,
        /// What there is.
        free: Bytes,
    },
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
    /// Its format, as written there.
    #[serde(default)]
    pub backing_filename_format: Option<String>,
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

/// Where the content of an image lies.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The file.
    pub path: &'a Path,
    /// The piece of it; none: all.
    pub part: Option<Part>,
    /// The format, in QEMU's words.
    pub format: &'a str,
    /// What the guest sees where it holds nothing, nearest first: files and their formats.
    pub below: &'a [(PathBuf, String)],
}

impl Source<'_> {
    /// Describes it in JSON: no name in it has a meaning of its own, nothing is
    /// guessed, and what is not named here is not opened.
    fn described(&self) -> String {
        let file = |path: &Path| json!({"driver": "file", "filename": path.to_string_lossy()});
        let mut content = file(self.path);
        if let Some(part) = self.part {
            content = json!({
                "driver": "raw", "offset": part.offset, "size": part.length, "file": content,
            });
        }
        let layer = |format: &str, content: Value, below: Value| match format {
            "raw" => json!({"driver": "raw", "file": content}),
            _ => json!({"driver": format, "file": content, "backing": below}),
        };
        let below = self
            .below
            .iter()
            .rev()
            .fold(Value::Null, |below, (path, format)| {
                layer(format, file(path), below)
            });
        format!("json:{}", layer(self.format, content, below))
    }
}

/// Copies an image to a thin qcow2 of its own that lies on nothing, and checks
/// it. Gives its virtual size in bytes.
///
/// # Errors
/// [`DiskError`]; nothing is left behind.
pub fn take_in(source: &Source<'_>, to: &Path) -> Result<u64, DiskError> {
    let needed = measure(source)?;
    let folder = to.parent().unwrap_or(to);
    let free = rustix::fs::statvfs(folder).map_or(u64::MAX, |fs| fs.f_bavail * fs.f_frsize);
    if needed > free {
        return Err(DiskError::NoRoom {
            path: source.path.to_owned(),
            needed: Bytes(needed),
            free: Bytes(free),
        });
    }
    convert(source, to, &["-O", "qcow2"])?;
    let size = check(to).and_then(|()| Ok(info(to)?.virtual_size));
    size.inspect_err(|_| drop(std::fs::remove_file(to)))
}

/// Copies an image to a file as VMware's and other programs' archives hold it.
///
/// # Errors
/// [`DiskError`]; nothing is left behind.
pub fn give_out(source: &Source<'_>, to: &Path) -> Result<(), DiskError> {
    convert(
        source,
        to,
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
    )
}

fn convert(source: &Source<'_>, to: &Path, shape: &[&str]) -> Result<(), DiskError> {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-q"]).args(shape);
    command.arg(source.described()).arg(to);
    done(command, "copy", source.path)
        .map(drop)
        .inspect_err(|_| drop(std::fs::remove_file(to)))
}

/// Asks how much a qcow2 with the content of an image takes at most, in bytes.
fn measure(source: &Source<'_>) -> Result<u64, DiskError> {
    #[derive(Deserialize)]
    struct Measured {
        required: u64,
    }
    let mut command = Command::new("qemu-img");
    command.args(["measure", "--output=json", "-O", "qcow2"]);
    command.arg(source.described());
    let output = done(command, "read", source.path)?;
    let measured: Measured =
        serde_json::from_slice(&output.stdout).map_err(|e| DiskError::Answer {
            path: source.path.to_owned(),
            source: e,
        })?;
    Ok(measured.required)
}

/// Computes the digest of a file, in small hexadecimal digits.
///
/// # Errors
/// [`DiskError::Read`], [`DiskError::Missing`].
pub fn sum(path: &Path, sum: crate::ova::Sum) -> Result<String, DiskError> {
    let read = unreadable(path);
    let file = File::open(path).map_err(&read)?;
    sum.of(file.take(u64::MAX)).map_err(read)
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

fn unreadable(path: &Path) -> impl Fn(io::Error) -> DiskError + '_ {
    |source| match source.kind() {
        io::ErrorKind::NotFound => DiskError::Missing(path.to_owned()),
        _ => DiskError::Read {
            path: path.to_owned(),
            source,
        },
    }
}

fn done(mut command: Command, action: &'static str, path: &Path) -> Result<Output, DiskError> {
    let output = command.output().map_err(DiskError::NoProgram)?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.trim().trim_start_matches("qemu-img: ");
    // "Could not open 'json:{…}': what is wrong"
    let plain = words.rsplit_once("}': ").map_or(words, |(_, said)| said);
    let words = plain.to_owned();
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

    #[test]
    fn an_image_is_taken_in_from_the_middle_of_a_file_and_given_out_again() {
        hyperion_testkit::requires!("command:qemu-img");
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path();
        let raw = dir.join("raw");
        let content: Vec<u8> = (0..1u32 << 20).map(|n| (n >> 8) as u8).collect();
        std::fs::write(&raw, &content).expect("a file");
        let whole = Source {
            path: &raw,
            part: None,
            format: "raw",
            below: &[],
        };
        let vmdk = dir.join("out.vmdk");
        give_out(&whole, &vmdk).expect("given out");
        let packed = std::fs::read(&vmdk).expect("read");
        let archive = dir.join("an archive, \"so to speak\"");
        std::fs::write(&archive, [&[1; 512][..], &packed, &[2; 512]].concat()).expect("a file");
        let part = Part {
            offset: 512,
            length: packed.len() as u64,
        };
        assert_eq!(probe(&archive, Some(part)).expect("known"), Known::Vmdk);
        let source = Source {
            path: &archive,
            part: Some(part),
            format: "vmdk",
            below: &[],
        };
        let own = dir.join("own.qcow2");
        assert_eq!(take_in(&source, &own).expect("taken in"), 1 << 20);
        let back = dir.join("back");
        let source = Source {
            path: &own,
            part: None,
            format: "qcow2",
            below: &[],
        };
        convert(&source, &back, &["-O", "raw"]).expect("copied");
        assert!(std::fs::read(&back).expect("read") == content);

        // What is cut says so in plain words, and leaves nothing.
        std::fs::write(&archive, &packed[..1000]).expect("a file");
        let source = Source {
            path: &archive,
            part: None,
            format: "vmdk",
            below: &[],
        };
        let none = dir.join("none.qcow2");
        let error = take_in(&source, &none).expect_err("cut").to_string();
        assert!(!error.contains("json:") && !none.exists(), "{error}");
    }

    #[test]
    fn what_lies_below_is_read_only_where_it_is_named() {
        hyperion_testkit::requires!("command:qemu-img");
        let dir = tempfile::tempdir().expect("a folder");
        let (base, top) = (dir.path().join("base"), dir.path().join("top"));
        std::fs::write(&base, vec![7; 1 << 20]).expect("a file");
        create(&top, None, Some((&base, "raw"))).expect("made");
        let first = |below: &[(PathBuf, String)]| {
            let source = Source {
                path: &top,
                part: None,
                format: "qcow2",
                below,
            };
            let flat = dir.path().join("flat");
            convert(&source, &flat, &["-O", "raw"]).expect("copied");
            std::fs::read(&flat).expect("read")[0]
        };
        assert_eq!(first(&[(base.clone(), "raw".into())]), 7);
        assert_eq!(first(&[]), 0);
    }
}
