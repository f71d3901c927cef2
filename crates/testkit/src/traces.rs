//! Real traces of jobs, which are not this project's to ship.

use std::path::{Path, PathBuf};

/// Gives the folder of the traces (`NAME.swf.gz`, and the schedules of other
/// simulators in `expected.json`): where `HYPERION_TRACES` says, else in a folder
/// `shared` beside the project.
#[must_use]
pub fn traces() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/swf");
    let named = std::env::var_os("HYPERION_TRACES").map(PathBuf::from);
    let mut folders = [named, Some(beside)].into_iter().flatten();
    folders.find(|folder| folder.join("expected.json").exists())
}
