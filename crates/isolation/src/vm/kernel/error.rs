//! What can be wrong with a kernel for virtual machines.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What went wrong with a kernel for virtual machines.
#[derive(Debug, Error)]
pub enum KernelError {
    /// There is none yet.
    #[error("no kernel for virtual machines is installed")]
    NoneInstalled,
    /// There is none of this release.
    #[error("no kernel {0:?} is installed")]
    NotFound(String),
    /// Not what a kernel calls itself.
    #[error("{0:?} is no release of a kernel")]
    BadRelease(String),
    /// A kernel's file that does not tell its release.
    #[error("{} does not tell the release of its kernel", .0.display())]
    NoRelease(PathBuf),
    /// A file that cannot be booted.
    #[error("{} is no kernel that can be booted: {what}", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// Modules of another kernel.
    #[error("the modules are of kernel {found:?}, not of {expected:?}")]
    WrongModules {
        /// The release in the modules.
        found: String,
        /// The release of the kernel.
        expected: String,
    },
    /// A module that is damaged.
    #[error("the module {name} cannot be read")]
    Module {
        /// Its name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// A package with no kernel inside, or more than one.
    #[error("{} is no package of a kernel: {what}", path.display())]
    NotAKernelPackage {
        /// The package.
        path: PathBuf,
        /// What it lacks.
        what: String,
    },
    /// A package that is damaged.
    #[error("the package {} cannot be read", path.display())]
    Package {
        /// The package.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// This host brings no packages by apt.
    #[error("this host has no apt to bring a kernel with")]
    NoApt,
    /// apt did not bring a package.
    #[error("apt does not bring {package}: {reason}")]
    Apt {
        /// The package.
        package: String,
        /// What apt says.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl KernelError {
    /// Turns an error of the system into one of a kernel.
    pub(super) fn io<E: Into<io::Error>>(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            what,
            path,
            source: source.into(),
        }
    }
}
