//! Temporary folders that leave nothing behind.

use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A temporary folder, removed when dropped; `HYPERION_KEEP=1` keeps it for a look.
#[derive(Debug)]
pub struct TestDir {
    inner: tempfile::TempDir,
}

impl TestDir {
    /// Creates an empty folder that only this user can enter.
    ///
    /// # Panics
    /// If the folder cannot be made: a test has no use for the error.
    #[must_use]
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// As [`TestDir::new`], in another folder than that for temporary files.
    ///
    /// # Panics
    /// As [`TestDir::new`].
    #[must_use]
    pub fn below(parent: &Path) -> Self {
        let keep = std::env::var_os("HYPERION_KEEP").is_some();
        let inner = tempfile::Builder::new()
            .prefix("hyperion-test-")
            .disable_cleanup(keep)
            .tempdir_in(parent)
            .expect("a temporary folder can be made");
        Self { inner }
    }

    /// Creates an empty folder that every user can enter and write to.
    ///
    /// # Panics
    /// As [`TestDir::new`].
    #[must_use]
    pub fn shared() -> Self {
        let dir = Self::new();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777))
            .expect("the mode of an own folder can be set");
        dir
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.inner.path()
    }
}

impl Default for TestDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for TestDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.path()
    }
}

impl AsRef<Path> for TestDir {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_gone_when_dropped() {
        let dir = TestDir::new();
        let path = dir.to_path_buf();
        std::fs::create_dir_all(path.join("a/b")).expect("made");
        assert!(path.exists());
        drop(dir);
        assert!(!path.exists() || std::env::var_os("HYPERION_KEEP").is_some());
    }
}
