//! Configuration files and variables: built in < /etc < user < environment.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyperion_image::registry::Registries;
use serde::Deserialize;

/// What can be configured. Unknown keys are refused by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Folder of images and jobs.
    pub(crate) root: Option<PathBuf>,
    /// Mirrors, certificates and insecure registries.
    pub(crate) registries: Registries,
}

impl Config {
    /// Reads `/etc/hyperion/config.toml`, the user's `config.toml` and `HYPERION_*`.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let mut config = Self::default();
        for file in [Some("/etc/hyperion/config.toml".into()), user_file()]
            .into_iter()
            .flatten()
        {
            config.merge(&file)?;
        }
        if let Some(root) = std::env::var_os("HYPERION_ROOT").filter(|r| !r.is_empty()) {
            config.root = Some(root.into());
        }
        Ok(config)
    }

    fn merge(&mut self, file: &Path) -> anyhow::Result<()> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", file.display())),
        };
        let later: Self =
            toml::from_str(&text).with_context(|| format!("cannot use {}", file.display()))?;
        self.root = later.root.or(self.root.take());
        self.registries.merge(later.registries);
        Ok(())
    }
}

fn user_file() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|h| h.join(".config")))?;
    Some(base.join("hyperion/config.toml"))
}
