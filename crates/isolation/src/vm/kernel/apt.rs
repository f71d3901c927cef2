//! Kernels of this host's distribution, by apt. Downloaded and not installed:
//! no script of a package runs, and no right is needed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::error::KernelError;
use super::release;

/// Packages that need the newest kernel for virtual machines: Debian's, Ubuntu's.
const NEWEST: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];

/// Which of a distribution's kernels is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest one for virtual machines.
    Newest,
    /// The newest of a flavour, such as `amd64`.
    Flavour(String),
    /// This one.
    Release(String),
}

/// Downloads the packages of a kernel into an empty folder and gives them.
pub(super) fn download(wanted: &Wanted, folder: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let release = match wanted {
        Wanted::Release(release) => release.clone(),
        Wanted::Flavour(flavour) => newest(&[&format!("linux-image-{flavour}")])?,
        Wanted::Newest => newest(&NEWEST)?,
    };
    if !release::is_valid(&release) {
        return Err(KernelError::BadRelease(release));
    }
    let mut names = vec![format!("linux-image-{release}")];
    // Ubuntu has the modules in a package beside.
    let beside = format!("linux-modules-{release}");
    if run("apt-cache", &["show", "--no-all-versions", &beside], folder)?
        .status
        .success()
    {
        names.push(beside);
    }
    let mut words = vec!["download", "-q", "-q", "-o", "APT::Sandbox::User=root"];
    words.extend(names.iter().map(String::as_str));
    let done = run("apt-get", &words, folder)?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let first = said.lines().find(|line| line.starts_with("E: "));
        return Err(KernelError::Apt {
            package: names.swap_remove(0),
            reason: first.unwrap_or("E: it does not say why")[3..].to_owned(),
        });
    }
    let cannot = || KernelError::io("list", folder);
    let entries = std::fs::read_dir(folder).map_err(cannot())?;
    let mut packages = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(cannot())?;
    packages.sort();
    Ok(packages)
}

/// Finds the release that the first of these packages that there is needs.
fn newest(packages: &[&str]) -> Result<String, KernelError> {
    for package in packages {
        let done = run("apt-cache", &["depends", package], Path::new("/"))?;
        if let Some(release) = needed(&String::from_utf8_lossy(&done.stdout)) {
            return Ok(release.to_owned());
        }
    }
    Err(KernelError::Apt {
        package: packages.join(" or "),
        reason: "apt knows no such kernel".into(),
    })
}

/// Finds the kernel in what `apt-cache depends` prints.
fn needed(depends: &str) -> Option<&str> {
    depends.lines().find_map(|line| {
        let name = line
            .trim()
            .trim_start_matches('|')
            .strip_prefix("Depends: linux-image-")?;
        let release = name.strip_prefix("unsigned-").unwrap_or(name);
        release::is_valid(release).then_some(release)
    })
}

fn run(program: &str, words: &[&str], folder: &Path) -> Result<Output, KernelError> {
    let done = Command::new(program)
        .args(words)
        .env("LC_ALL", "C")
        .current_dir(folder)
        .stdin(std::process::Stdio::null())
        .output();
    done.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => KernelError::NoApt,
        _ => KernelError::io("start", Path::new(program))(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_that_a_package_needs_is_found() {
        let debian = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(needed(debian), Some("6.1.0-56-cloud-amd64"));
        let ubuntu =
            "linux-image-virtual\n  Depends: linux-image-6.8.0-45-generic\n  Recommends: x\n";
        assert_eq!(needed(ubuntu), Some("6.8.0-45-generic"));
        let either = "x\n |Depends: linux-image-unsigned-6.8.0-45-generic\n  Depends: <other>\n";
        assert_eq!(needed(either), Some("6.8.0-45-generic"));
        assert_eq!(needed("x\n  Depends: linux-image-generic\n"), None);
        assert_eq!(needed(""), None);
    }
}
