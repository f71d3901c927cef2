//! Images made from a distribution's own packages, by mmdebstrap.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::digest::Digest;
use crate::import::{ImportError, name_layer, store_archive};
use crate::layer::pack::Compression;
use crate::store::{NewImage, RuntimeConfig, Store, StoreError, check_name};

/// The label by which an image made before is found again.
const LABEL: &str = "org.hyperion.bootstrap";

/// What mmdebstrap says where it is neither root nor can become it in a user namespace.
const NO_MODE: &str = "unable to pick chroot mode";

/// Why no image was made.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// The text names no distribution and suite.
    #[error("{0:?} names no distribution and suite")]
    Base(String),
    /// A package's name that no package can have.
    #[error("{0:?} is not the name of a package")]
    Package(String),
    /// The program is not there.
    #[error("mmdebstrap is not installed")]
    NoProgram,
    /// The program could not be started.
    #[error("cannot start mmdebstrap")]
    Start(#[source] std::io::Error),
    /// A user without ranges of subordinate ids called it, who can own no root.
    #[error("mmdebstrap cannot make a root: this user has no subordinate ids to own its files")]
    NoIds,
    /// The program failed.
    #[error("mmdebstrap failed ({status}): {reason}")]
    Failed {
        /// How it ended.
        status: std::process::ExitStatus,
        /// The first error that it told.
        reason: String,
    },
    /// The result did not become an image.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// `DISTRIBUTION:SUITE`, such as `debian:bookworm`.
    pub base: String,
    /// Further packages.
    pub include: Vec<String>,
    /// Where packages come from, as mmdebstrap takes it: addresses, `deb` lines or
    /// files of them; the host's own when it is the same suite, else the distribution's.
    pub mirrors: Vec<String>,
    /// The latest time in the image, in seconds since 1970: with it the image
    /// is the same every time.
    pub epoch: Option<u64>,
    /// The image's layer is compressed so.
    pub compression: Compression,
    /// Make it anew when there is one already.
    pub anew: bool,
}

/// An image made from packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrapped {
    /// Its manifest.
    pub digest: Digest,
    /// It was there already.
    pub cached: bool,
}

/// Makes an image and gives it a name; `heard` gets what mmdebstrap says, a line at a time.
///
/// Works as root, and as a user with ranges of subordinate ids.
///
/// # Errors
/// What is wrong with the words, or why it could not be made; nothing is left behind.
pub fn bootstrap(
    store: &Store,
    wanted: &Bootstrap,
    name: &str,
    mut heard: impl FnMut(&str),
) -> Result<Bootstrapped, BootstrapError> {
    let (distribution, suite) = split(&wanted.base)?;
    for package in &wanted.include {
        // Anything else could be an option or another of mmdebstrap's words.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-.:=~".contains(&b);
        if !package.bytes().all(plain) || !package.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            return Err(BootstrapError::Package(package.clone()));
        }
    }
    check_name(name)?;
    let adding = store.adding()?;
    let mut include = wanted.include.clone();
    include.sort();
    include.dedup();
    let mirrors = if wanted.mirrors.is_empty() {
        default_mirrors(distribution, suite, Path::new("/etc/apt"))
    } else {
        wanted.mirrors.clone()
    };
    let key = key(&wanted.base, &include, &mirrors, wanted.epoch);
    if !wanted.anew
        && let Some(digest) = find(store, &key)?
    {
        store.tag(name, &digest)?;
        return Ok(Bootstrapped {
            digest,
            cached: true,
        });
    }
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=minbase", "--format=tar"])
        .args((!include.is_empty()).then(|| format!("--include={}", include.join(","))))
        .args([suite, "-"])
        .args(&mirrors)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(epoch) = wanted.epoch {
        command.env("SOURCE_DATE_EPOCH", epoch.to_string());
    }
    let mut child = command.spawn().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => BootstrapError::NoProgram,
        _ => BootstrapError::Start(e),
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let new = new_image(wanted, &include, &key);
    let (layer, reason) = std::thread::scope(|scope| {
        let layer = scope.spawn(|| {
            let Some(stdout) = stdout else {
                return Err(BootstrapError::NoProgram);
            };
            let pipe = File::from(OwnedFd::from(stdout));
            let path = PathBuf::from(format!("the root of {}", wanted.base));
            Ok(store_archive(store, pipe, &path, wanted.compression)?)
        });
        let mut reason = None;
        for line in stderr
            .map(BufReader::new)
            .into_iter()
            .flat_map(BufRead::lines)
        {
            let Ok(line) = line else { break };
            heard(&line);
            if let Some(text) = line.strip_prefix("E: ") {
                reason.get_or_insert_with(|| text.to_owned());
            }
        }
        (layer.join(), reason)
    });
    let status = child.wait().map_err(BootstrapError::Start)?;
    if !status.success() {
        if let Ok(Ok(layer)) = layer {
            store.release(adding, &[layer.blob.digest]);
        }
        // It has no code of its own for this.
        if reason.as_deref().is_some_and(|r| r.starts_with(NO_MODE)) {
            return Err(BootstrapError::NoIds);
        }
        let reason = reason.unwrap_or_else(|| "it does not say why".to_owned());
        return Err(BootstrapError::Failed { status, reason });
    }
    // Named only now: of a program that failed the archive may be cut.
    let layer = match layer {
        Ok(layer) => layer?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    Ok(Bootstrapped {
        digest: name_layer(store, adding, layer, name, &new)?,
        cached: false,
    })
}

fn new_image(wanted: &Bootstrap, include: &[String], key: &str) -> NewImage {
    let mut created_by = format!("hyperion image bootstrap {}", wanted.base);
    if !include.is_empty() {
        created_by.push_str(&format!(" --include {}", include.join(",")));
    }
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let seconds = wanted.epoch.and_then(|epoch| i64::try_from(epoch).ok());
    let epoch = seconds.and_then(|epoch| jiff::Timestamp::from_second(epoch).ok());
    NewImage {
        config: RuntimeConfig {
            env: vec![path.to_owned()],
            cmd: vec!["/bin/sh".to_owned()],
            labels: BTreeMap::from([(LABEL.to_owned(), key.to_owned())]),
            ..RuntimeConfig::default()
        },
        arch: crate::registry::Platform::host().architecture,
        created: Some(epoch.unwrap_or_else(jiff::Timestamp::now).to_string()),
        created_by,
        comment: String::new(),
    }
}

/// Splits `debian:bookworm`; a suite is a word, so that it is no option.
fn split(base: &str) -> Result<(&str, &str), BootstrapError> {
    let bad = || BootstrapError::Base(base.to_owned());
    let (distribution, suite) = base.split_once(':').ok_or_else(bad)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let word = suite.bytes().all(plain) && suite.starts_with(|c: char| c.is_ascii_alphanumeric());
    match distribution {
        "debian" | "ubuntu" if word => Ok((distribution, suite)),
        _ => Err(bad()),
    }
}

/// A name for the request: the same words make the same image.
fn key(base: &str, include: &[String], mirrors: &[String], epoch: Option<u64>) -> String {
    let text = format!("1\n{base}\n{include:?}\n{mirrors:?}\n{epoch:?}");
    Digest::of(text.as_bytes()).hex()
}

fn find(store: &Store, key: &str) -> Result<Option<Digest>, StoreError> {
    for digest in store.images()? {
        let record = store.record(&digest)?;
        let whole = record
            .layers
            .iter()
            .all(|layer| store.has_blob(&layer.blob.digest));
        if whole
            && record
                .config
                .labels
                .get(LABEL)
                .is_some_and(|have| have == key)
        {
            return Ok(Some(digest));
        }
    }
    Ok(None)
}

/// The host's own sources where they are of this suite: its mirror is near and allowed.
fn default_mirrors(distribution: &str, suite: &str, apt: &Path) -> Vec<String> {
    let files = [
        apt.join("sources.list"),
        apt.join(format!("sources.list.d/{distribution}.sources")),
    ];
    let speaks_of_it = |path: &PathBuf| {
        std::fs::read_to_string(path).is_ok_and(|text| {
            let lines = text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'));
            lines
                .flat_map(str::split_whitespace)
                .any(|word| word == suite)
        })
    };
    let own: Vec<String> = files
        .iter()
        .filter(|path| speaks_of_it(path))
        .map(|path| path.display().to_string())
        .collect();
    match (own.is_empty(), distribution) {
        (true, "ubuntu") => vec!["http://archive.ubuntu.com/ubuntu".to_owned()],
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_and_packages_that_could_be_options_are_refused() {
        assert!(matches!(
            split("debian:bookworm"),
            Ok(("debian", "bookworm"))
        ));
        for bad in [
            "debian",
            "debian:",
            "debian:-x",
            "arch:latest",
            "debian:a b",
            "debian:a/b",
        ] {
            assert!(matches!(split(bad), Err(BootstrapError::Base(_))), "{bad}");
        }
        let dir = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(dir.path()).expect("store");
        for bad in ["", "-x", "a,b", "a b", "?essential", "$(x)"] {
            let wanted = Bootstrap {
                base: "debian:bookworm".into(),
                include: vec![bad.into()],
                ..Bootstrap::default()
            };
            let result = bootstrap(&store, &wanted, "x", |_| {});
            assert!(matches!(result, Err(BootstrapError::Package(_))), "{bad}");
        }
    }

    #[test]
    fn the_hosts_own_mirror_is_used_for_its_own_suite() {
        let apt = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(apt.path().join("sources.list.d")).expect("folder");
        let file = apt.path().join("sources.list.d/debian.sources");
        std::fs::write(&file, "Types: deb\nSuites: bookworm bookworm-updates\n").expect("written");
        let own = file.display().to_string();
        assert_eq!(default_mirrors("debian", "bookworm", apt.path()), [own]);
        assert!(default_mirrors("debian", "trixie", apt.path()).is_empty());
        assert_eq!(default_mirrors("ubuntu", "noble", apt.path()).len(), 1);
    }

    #[test]
    fn the_same_words_have_the_same_key() {
        let one = key("debian:bookworm", &["a".into()], &[], None);
        assert_eq!(one, key("debian:bookworm", &["a".into()], &[], None));
        assert_ne!(one, key("debian:bookworm", &["b".into()], &[], None));
        assert_ne!(one, key("debian:bookworm", &["a".into()], &[], Some(0)));
    }
}
