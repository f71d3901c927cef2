//! What every verb knows: where things lie and how to print.

use std::path::PathBuf;

use crate::args::{Global, OutputFormat};
use crate::config::Config;

/// Facts of one invocation, from flags, environment and configuration files.
#[derive(Debug)]
pub(crate) struct Context {
    /// Folder of images and jobs.
    pub(crate) root: PathBuf,
    /// Shape of standard output.
    pub(crate) output: OutputFormat,
    /// The settled configuration.
    pub(crate) config: Config,
}

impl Context {
    /// Settles the facts.
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        let config = Config::load(global.root.as_deref(), global.server.as_deref())?;
        Ok(Self {
            root: config.root.clone(),
            output: global.output,
            config,
        })
    }

    /// Folder of what machines of jobs are once they are up.
    pub(crate) fn warm(&self) -> PathBuf {
        self.root.join("warm")
    }

    /// Folder of the image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }
}
