//! One list of fuzz targets, run in two ways: `cargo xtask fuzz TARGET` lets
//! libFuzzer search with coverage as its guide, and this crate's test runs a
//! fixed number of mutated seeds of each target in every build.
//!
//! A target is a plain function of bytes that panics where there is a defect.
//! Its seeds are made by code, so that they can be read; an input that once
//! found a defect lies in `regressions/TARGET/` and is a seed from then on.

mod erofs;
mod listing;
mod mutate;
mod script;
mod targets;

use std::path::{Path, PathBuf};

pub use mutate::Mutator;
pub use targets::TARGETS;

/// Something that reads what others wrote.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it reads, and what it checks beyond "no panic".
    pub about: &'static str,
    /// Reads one input.
    pub run: fn(&[u8]),
    /// Makes inputs that are understood.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of its language.
    pub words: &'static [&'static str],
}

impl Target {
    /// Finds a target by its name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Gives the seeds and all inputs that once found a defect.
    pub fn inputs(&self) -> Vec<Vec<u8>> {
        let mut inputs = (self.seeds)();
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.regressions())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        inputs.extend(files.iter().filter_map(|file| std::fs::read(file).ok()));
        inputs
    }

    fn regressions(&self) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
        folder.join(self.name)
    }
}
