//! Configuration files and variables: built in < /etc < user < environment.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyperion_image::registry::Registries;
use hyperion_model::Class;
use serde::Deserialize;

use crate::errors;

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
        let later: Self = toml::from_str(&text).map_err(|e| unusable(file, &e))?;
        self.root = later.root.or(self.root.take());
        self.registries.merge(later.registries);
        Ok(())
    }
}

/// Says what is wrong with a file of settings, and which key was likely meant.
fn unusable(file: &Path, error: &toml::de::Error) -> anyhow::Error {
    let message = error.message();
    // serde: unknown field `raot`, expected `root` or `registries`
    let mut quoted = message.split('`').skip(1).step_by(2);
    let meant = match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(key)) => errors::likely(key, quoted),
        _ => None,
    };
    let hint = match meant {
        Some(key) => format!("did you mean {key:?}?"),
        None => "correct the file, or move it away".into(),
    };
    errors::advised(Class::User, error.to_string().trim_end(), hint)
        .context(format!("cannot use {}", file.display()))
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
