//! What is configured about registries: mirrors, certificates, and which may
//! be spoken to without them.
//!
//! ```toml
//! [registries."docker.io"]
//! mirrors = ["mirror.example.org", "cache.example.org:5000/hub"]
//!
//! [registries."cache.example.org:5000"]
//! insecure = true          # HTTP, or HTTPS with any certificate
//!
//! [registries."registry.example.org"]
//! ca = "/etc/ssl/example.pem"
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

use crate::reference::valid_host;

/// The name of a registry or mirror is not `host`, `host:port` or, for a mirror, one of
/// these followed by a path.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a registry: write host or host:port")]
pub struct ConfigError(pub String);

/// Settings of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// Registries that hold copies, `host[:port][/path]`, tried in this order before it.
    pub mirrors: Vec<String>,
    /// Lets HTTP and certificates that cannot be verified pass.
    pub insecure: bool,
    /// A PEM file with certificates to trust besides the system's.
    pub ca: Option<PathBuf>,
}

/// Settings by registry, which is written `host` or `host:port`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, RegistrySettings>")]
pub struct Registries(BTreeMap<String, RegistrySettings>);

impl Registries {
    /// Gives the settings of a registry; most have none.
    pub fn get(&self, registry: &str) -> RegistrySettings {
        self.0.get(registry).cloned().unwrap_or_default()
    }

    /// Gives every registry of which something is set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RegistrySettings)> {
        self.0
            .iter()
            .map(|(host, settings)| (host.as_str(), settings))
    }

    /// Sets what is known of a registry.
    pub fn set(&mut self, registry: &str, settings: RegistrySettings) {
        self.0.insert(registry.to_owned(), settings);
    }

    /// Puts `later` over this: a registry named there is taken from there whole.
    pub fn merge(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

impl TryFrom<BTreeMap<String, RegistrySettings>> for Registries {
    type Error = ConfigError;

    fn try_from(all: BTreeMap<String, RegistrySettings>) -> Result<Self, ConfigError> {
        for (registry, settings) in &all {
            let host_of = |mirror: &str| mirror.split('/').next().is_some_and(valid_host);
            let wrong = (!valid_host(registry)).then_some(registry);
            let wrong = wrong.or_else(|| settings.mirrors.iter().find(|m| !host_of(m)));
            if let Some(wrong) = wrong {
                return Err(ConfigError(wrong.clone()));
            }
        }
        Ok(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Registries, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn settings_are_read_and_absent_ones_are_strict() {
        let all = read(
            "[\"docker.io\"]\nmirrors = [\"m.example\", \"c:5000/hub\"]\n[\"c:5000\"]\ninsecure = true\n",
        )
        .expect("valid");
        assert_eq!(all.get("docker.io").mirrors, ["m.example", "c:5000/hub"]);
        assert!(all.get("c:5000").insecure);
        assert_eq!(all.get("127.0.0.1:5000"), RegistrySettings::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, said, place) in [
            ("[\"r.io\"]\nmiror = []\n", "unknown field `miror`", 9..14),
            (
                "[a]\n[\"r.io\"]\ninsecure = 1\n",
                "invalid type: integer",
                24..25,
            ),
            ("\"r.io\" = 1\n", "invalid type: integer", 9..10),
        ] {
            let error = read(text).expect_err("wrong");
            assert!(error.message().contains(said), "{error}");
            assert_eq!(error.span(), Some(place), "{error}");
        }
        for text in [
            "[\"https://r.io\"]\n",
            "[\"r.io/x\"]\n",
            "[\"r.io\"]\nmirrors = [\"http://m\"]\n",
            "[\"r.io\"]\nmirrors = [\"\"]\n",
        ] {
            let error = read(text).expect_err("wrong");
            assert!(error.message().contains("is not a registry"), "{error}");
        }
    }

    #[test]
    fn later_settings_replace_a_registry_whole() {
        let mut all = read("[a]\ninsecure = true\n[b]\ninsecure = true\n").expect("valid");
        all.merge(read("[a]\nmirrors = [\"m\"]\n").expect("valid"));
        assert!(!all.get("a").insecure);
        assert!(all.get("b").insecure);
    }
}
