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

/// What is wrong with the configuration of registries.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A key is not known.
    #[error("unknown key {key:?} for the registry {registry}{}", did_you_mean(*nearest))]
    UnknownKey {
        /// In which registry's table.
        registry: String,
        /// The key.
        key: String,
        /// The known key that comes nearest.
        nearest: Option<&'static str>,
    },
    /// A value has the wrong type.
    #[error("the settings of the registry {registry} are malformed")]
    Malformed {
        /// In which registry's table.
        registry: String,
        /// What is wrong.
        #[source]
        source: toml::de::Error,
    },
    /// The name of a registry or mirror is not `host`, `host:port` or, for a
    /// mirror, one of these followed by a path.
    #[error("{0:?} is not a registry: write host or host:port")]
    Host(String),
}

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

const KEYS: [&str; 3] = ["mirrors", "insecure", "ca"];

/// Settings by registry, which is written `host` or `host:port`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Table")]
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

impl TryFrom<toml::Table> for Registries {
    type Error = ConfigError;

    fn try_from(table: toml::Table) -> Result<Self, ConfigError> {
        let mut all = BTreeMap::new();
        for (registry, value) in table {
            if !valid_host(&registry) {
                return Err(ConfigError::Host(registry));
            }
            if let Some(key) = value
                .as_table()
                .and_then(|t| t.keys().find(|key| !KEYS.contains(&key.as_str())))
            {
                return Err(ConfigError::UnknownKey {
                    nearest: nearest(key),
                    key: key.clone(),
                    registry,
                });
            }
            let settings: RegistrySettings =
                value.try_into().map_err(|source| ConfigError::Malformed {
                    registry: registry.clone(),
                    source,
                })?;
            for mirror in &settings.mirrors {
                let host = mirror
                    .split_once('/')
                    .map_or(mirror.as_str(), |(host, _)| host);
                if !valid_host(host) {
                    return Err(ConfigError::Host(mirror.clone()));
                }
            }
            all.insert(registry, settings);
        }
        Ok(Self(all))
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!(", did you mean {key:?}?"))
}

fn nearest(key: &str) -> Option<&'static str> {
    KEYS.into_iter()
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .filter(|(distance, known)| *distance <= known.len() / 2)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Registries, ConfigError> {
        Registries::try_from(toml::from_str::<toml::Table>(text).expect("toml"))
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
    fn unknown_keys_are_refused_with_the_nearest() {
        let error = read("[\"r.io\"]\nmiror = []\n").expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "unknown key \"miror\" for the registry r.io, did you mean \"mirrors\"?"
        );
        let error = read("[\"r.io\"]\ncolour = 1\n").expect_err("unknown");
        assert!(matches!(
            error,
            ConfigError::UnknownKey { nearest: None, .. }
        ));
    }

    #[test]
    fn wrong_types_and_hosts_are_refused() {
        assert!(matches!(
            read("[\"r.io\"]\ninsecure = 1\n"),
            Err(ConfigError::Malformed { .. })
        ));
        assert!(matches!(
            read("\"r.io\" = 1\n"),
            Err(ConfigError::Malformed { .. })
        ));
        for text in [
            "[\"https://r.io\"]\n",
            "[\"r.io/x\"]\n",
            "[\"r.io\"]\nmirrors = [\"http://m\"]\n",
            "[\"r.io\"]\nmirrors = [\"\"]\n",
        ] {
            assert!(matches!(read(text), Err(ConfigError::Host(_))), "{text}");
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
