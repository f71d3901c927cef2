//! What every verb knows: where things lie and how to print.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

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
    /// Settles the facts: built in < /etc < user < environment < flag.
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        let config = Config::load()?;
        let root = match global.root.clone().or_else(|| config.root.clone()) {
            Some(root) => std::path::absolute(root)?,
            None => default_root()?,
        };
        Ok(Self {
            root,
            output: global.output,
            config,
        })
    }

    /// Folder of the image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }
}

fn default_root() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/hyperion".into());
    }
    if let Some(dir) = std::env::var_os("XDG_DATA_HOME").filter(|d| !d.is_empty()) {
        return Ok(PathBuf::from(dir).join("hyperion"));
    }
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
    let Some(home) = home else {
        bail!("HOME is not set: name a folder with --root or HYPERION_ROOT")
    };
    let home = PathBuf::from(home);
    std::path::absolute(home.join(".local/share/hyperion"))
        .context("the home folder has no absolute path")
}
