//! Platforms: which image of an index is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A platform's text is not `os/architecture[/variant]`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a platform: write os/architecture or os/architecture/variant, as linux/arm64"
)]
pub struct PlatformError(String);

/// An operating system and processor, in Go's words: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The processor architecture.
    pub architecture: String,
    /// The version of the architecture, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Gives the platform that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = if cfg!(target_arch = "x86_64") {
            ("amd64", None)
        } else if cfg!(target_arch = "aarch64") {
            ("arm64", None)
        } else if cfg!(target_arch = "arm") {
            ("arm", Some("v7".to_owned()))
        } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
            ("ppc64le", None)
        } else if cfg!(target_arch = "riscv64") {
            ("riscv64", None)
        } else if cfg!(target_arch = "s390x") {
            ("s390x", None)
        } else {
            ("unknown", None)
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant,
        }
    }

    /// Says how well an image for `other` fits where this is wanted: `None` is
    /// not at all, and less is better.
    pub(super) fn distance(&self, other: &Self) -> Option<u8> {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return None;
        }
        let version = |p: &Self| {
            // Without a word arm64 is v8, amd64 is v1 and arm is v7.
            let default = match p.architecture.as_str() {
                "arm64" => 8,
                "arm" => 7,
                _ => 1,
            };
            let text = p.variant.as_deref().unwrap_or_default();
            text.trim_start_matches('v').parse().unwrap_or(default)
        };
        // An older version runs on a newer processor, not the other way round.
        let (wanted, offered): (u8, u8) = (version(self), version(other));
        wanted.checked_sub(offered)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match *parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err(PlatformError(text.to_owned())),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(PlatformError(text.to_owned()));
        }
        // The kernel's and the distributions' words mean the same.
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect(text)
    }

    #[test]
    fn platforms_are_written_as_docker_writes_them() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(platform(text).to_string(), text);
        }
        assert_eq!(platform("linux/aarch64").to_string(), "linux/arm64");
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_version_that_runs_is_chosen() {
        let distance = |a, b| platform(a).distance(&platform(b));
        assert_eq!(distance("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(distance("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(distance("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(distance("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(distance("linux/amd64/v3", "linux/amd64"), Some(2));
        assert_eq!(distance("linux/amd64", "linux/arm64"), None);
        assert_eq!(distance("linux/amd64", "windows/amd64"), None);
    }
}
