//! Names of images, read and completed as docker does it.
//!
//! ```text
//! [host[:port]/]path[:tag][@sha256:…]
//! debian                  docker.io/library/debian:latest
//! localhost:5000/a/b:1    localhost:5000/a/b:1
//! ```
//!
//! Grammar: the `reference` package of distribution/distribution. This is
//! pure: nothing is looked up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::{Digest, DigestError};

/// The registry meant where a name gives none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag meant where a name gives neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// What is wrong with an image's name.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("the image name is empty")]
    Empty,
    /// A URL was given.
    #[error("{0:?} is a URL, not an image name")]
    Url(String),
    /// Capital letters where docker allows none.
    #[error("{0:?} has capital letters in its path")]
    Uppercase(String),
    /// The path has a part that is not allowed.
    #[error("{part:?} in {name:?} is not a valid part of a path")]
    Path {
        /// The whole name.
        name: String,
        /// The offending part.
        part: String,
    },
    /// The path is too long.
    #[error("the path of {0:?} has more than {MAX_REPOSITORY} characters")]
    TooLong(String),
    /// The host or port is malformed.
    #[error("{host:?} in {name:?} is not a valid registry host")]
    Host {
        /// The whole name.
        name: String,
        /// The offending host.
        host: String,
    },
    /// The tag is malformed.
    #[error("{tag:?} in {name:?} is not a valid tag")]
    Tag {
        /// The whole name.
        name: String,
        /// The offending tag.
        tag: String,
    },
    /// The digest is malformed.
    #[error("the digest in {name:?} is malformed")]
    Digest {
        /// The whole name.
        name: String,
        /// Why.
        #[source]
        source: DigestError,
    },
    /// A bare id stands where a name is needed.
    #[error("{0:?} is an image id, not an image name")]
    Id(String),
}

impl ReferenceError {
    /// Gives the fix, in words.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty => "write for example debian:bookworm".into(),
            Self::Url(url) => {
                let name = url.split_once("://").map_or("", |(_, rest)| rest);
                format!("leave out the scheme: {name}")
            }
            Self::Uppercase(name) => {
                let lower = name.to_lowercase();
                match lower.parse::<ImageReference>() {
                    Ok(_) => format!("write {lower}"),
                    Err(other) => other.hint(),
                }
            }
            Self::Path { .. } => {
                "parts of a path are a-z and 0-9, joined by one of . _ __ or hyphens".into()
            }
            Self::TooLong(_) => "shorten it".into(),
            Self::Host { .. } => "write host or host:port before the first slash".into(),
            Self::Tag { .. } => format!(
                "a tag is a letter, digit or _ followed by at most {} of these, . and -",
                MAX_TAG - 1
            ),
            Self::Digest { .. } => "copy the digest whole: sha256: and 64 digits".into(),
            Self::Id(_) => "name it as NAME@sha256:ID".into(),
        }
    }
}

/// The full name of an image: registry, repository, and a tag or digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Gives the registry as `host` or `host:port`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Gives the path within the registry, as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Gives the tag; there is none only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Gives the digest, when the name pins one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Gives what a registry is asked for: the digest where there is one, else the tag.
    pub fn target(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// Gives the name as people write it: `debian:latest`, without the default
    /// registry and its `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else {
            return full;
        };
        // With a dot in it, "library/a.b/c" would be read as a host when shortened.
        match rest.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ if is_host(rest.split('/').next().unwrap_or_default()) => full,
            _ => rest.to_owned(),
        }
    }
}

/// Gives a name as people write it; what is no name of an image stays as it is.
pub fn familiar(name: &str) -> String {
    let reference: Result<ImageReference, _> = name.parse();
    reference.map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, ReferenceError> {
        let owned = || name.to_owned();
        if name.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if name.contains("://") {
            return Err(ReferenceError::Url(owned()));
        }
        if Digest::from_hex(name).is_some() {
            return Err(ReferenceError::Id(owned()));
        }
        let (rest, digest) = match name.split_once('@') {
            Some((rest, text)) => {
                let digest = text.parse().map_err(|source| ReferenceError::Digest {
                    name: owned(),
                    source,
                })?;
                (rest, Some(digest))
            }
            None => (name, None),
        };
        let (registry, path) = match rest.split_once('/') {
            Some((host, path)) if is_host(host) => {
                if !valid_host(host) {
                    return Err(ReferenceError::Host {
                        name: owned(),
                        host: host.to_owned(),
                    });
                }
                (host, path)
            }
            _ => (DEFAULT_REGISTRY, rest),
        };
        // After the host, a colon can only begin the tag.
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) if valid_tag(tag) => (path, Some(tag.to_owned())),
            Some((_, tag)) => {
                return Err(ReferenceError::Tag {
                    name: owned(),
                    tag: tag.to_owned(),
                });
            }
            None => (path, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(owned()));
        }
        if let Some(part) = path.split('/').find(|part| !valid_part(part)) {
            return Err(ReferenceError::Path {
                name: owned(),
                part: part.to_owned(),
            });
        }
        let (registry, repository) = match registry {
            DEFAULT_REGISTRY | "index.docker.io" if path.contains('/') => {
                (DEFAULT_REGISTRY.to_owned(), path.to_owned())
            }
            DEFAULT_REGISTRY | "index.docker.io" => {
                (DEFAULT_REGISTRY.to_owned(), format!("library/{path}"))
            }
            other => (other.to_owned(), path.to_owned()),
        };
        if repository.len() > MAX_REPOSITORY {
            return Err(ReferenceError::TooLong(owned()));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;
    fn try_from(name: String) -> Result<Self, ReferenceError> {
        name.parse()
    }
}

impl From<ImageReference> for String {
    fn from(name: ImageReference) -> Self {
        name.to_string()
    }
}

/// Reads a registry's host as people write it: a scheme and a last slash do not count.
///
/// # Errors
/// [`ReferenceError::Host`].
pub fn parse_host(text: &str) -> Result<String, ReferenceError> {
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text);
    let host = host.strip_suffix('/').unwrap_or(host);
    match host {
        "index.docker.io" | "registry-1.docker.io" => Ok(DEFAULT_REGISTRY.to_owned()),
        host if valid_host(host) => Ok(host.to_owned()),
        host => Err(ReferenceError::Host {
            name: text.to_owned(),
            host: host.to_owned(),
        }),
    }
}

/// Says whether the first part of a name is a registry: docker's own rule.
fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// Says whether `text` is `host` or `host:port`, an IPv6 host in brackets.
pub(crate) fn valid_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|p| p.parse::<u16>().is_err() || !p.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Says whether `part` is runs of a-z0-9 joined by `.`, `_`, `__` or hyphens.
fn valid_part(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(|&b| alphanumeric(b))
        && bytes.last().is_some_and(|&b| alphanumeric(b))
        && bytes.split(|&b| alphanumeric(b)).all(|joint| {
            matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|&b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn full(name: &str) -> String {
        name.parse::<ImageReference>()
            .unwrap_or_else(|e| panic!("{name}: {e}"))
            .to_string()
    }

    #[test]
    fn short_names_are_completed_as_docker_does() {
        let pinned = format!("@sha256:{HEX}");
        for (short, long) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:bookworm", "docker.io/library/debian:bookworm"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest"),
            ("me/tool", "docker.io/me/tool:latest"),
            ("localhost/tool", "localhost/tool:latest"),
            ("localhost:5000/tool:1", "localhost:5000/tool:1"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("[::1]/a", "[::1]/a:latest"),
            ("Host/a", "Host/a:latest"),
            ("a--b/c__d.e_f", "docker.io/a--b/c__d.e_f:latest"),
            (
                &format!("debian{pinned}"),
                &format!("docker.io/library/debian{pinned}"),
            ),
            (
                &format!("debian:12{pinned}"),
                &format!("docker.io/library/debian:12{pinned}"),
            ),
        ] {
            assert_eq!(full(short), long);
        }
    }

    #[test]
    fn a_digest_is_asked_for_before_a_tag() {
        let name: ImageReference = format!("debian:12@sha256:{HEX}").parse().expect("valid");
        assert_eq!(name.target(), format!("sha256:{HEX}"));
        assert_eq!(name.tag(), Some("12"));
    }

    #[test]
    fn wrong_names_are_refused_with_the_fix() {
        let refused = |name: &str| name.parse::<ImageReference>().expect_err(name);
        assert_eq!(refused(""), ReferenceError::Empty);
        assert_eq!(refused("Debian:12").hint(), "write debian:12");
        assert_eq!(
            refused("https://example.org/a").hint(),
            "leave out the scheme: example.org/a"
        );
        assert_eq!(refused(HEX), ReferenceError::Id(HEX.into()));
        for path in [
            "/a", "a//b", "a/", "-a", "a.", "a..b", "a___b", "a b", "a/./b",
        ] {
            let got = refused(path);
            assert!(matches!(got, ReferenceError::Path { .. }), "{path}: {got}");
        }
        for host in [
            "a..b/c",
            "../a",
            "x.y:99999/c",
            "x.y:/c",
            "-a.b/c",
            "[::g]:1/c",
            "a.b:+1/c",
        ] {
            let got = refused(host);
            assert!(matches!(got, ReferenceError::Host { .. }), "{host}: {got}");
        }
        for tag in [
            "a:",
            "a:.x",
            "a:b:c",
            "a:b/c",
            &format!("a:{}", "x".repeat(129)),
        ] {
            let got = refused(tag);
            assert!(
                matches!(
                    got,
                    ReferenceError::Tag { .. } | ReferenceError::Host { .. }
                ),
                "{tag}: {got}"
            );
        }
        assert!(matches!(
            refused("a@sha256:12"),
            ReferenceError::Digest { .. }
        ));
        assert!(matches!(
            refused(&"a".repeat(260)),
            ReferenceError::TooLong(_)
        ));
    }

    #[test]
    fn hosts_are_read_as_people_write_them() {
        assert_eq!(parse_host("https://r.io:5000/"), Ok("r.io:5000".into()));
        assert_eq!(parse_host("index.docker.io"), Ok("docker.io".into()));
        for bad in ["", "r.io/x", "r.io:port", "https://"] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn familiar_names_leave_the_defaults_out() {
        for (long, short) in [
            ("docker.io/library/debian:12", "debian:12"),
            ("docker.io/me/tool:1", "me/tool:1"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
            ("docker.io/library/a/b:1", "library/a/b:1"),
            ("docker.io/a.b/c:1", "docker.io/a.b/c:1"),
        ] {
            let name: ImageReference = long.parse().expect("valid");
            assert_eq!(name.familiar(), short);
            assert_eq!(full(short), long);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(name in "\\PC{0,60}") {
            let _ = name.parse::<ImageReference>();
        }

        #[test]
        fn full_and_familiar_names_mean_the_same(
            name in "([a-z]{1,4}(\\.[a-z]{1,3})?(:[0-9]{1,4})?/)?[a-z0-9]{1,3}([._/-][a-z0-9]{1,3}){0,3}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,5})?"
        ) {
            if let Ok(parsed) = name.parse::<ImageReference>() {
                prop_assert_eq!(&full(&parsed.to_string()), &parsed.to_string());
                prop_assert_eq!(full(&parsed.familiar()), parsed.to_string());
            }
        }

        #[test]
        fn what_is_accepted_cannot_leave_a_url_or_a_folder(name in "[a-zA-Z0-9./:@_-]{1,40}") {
            if let Ok(parsed) = name.parse::<ImageReference>() {
                prop_assert!(parsed.repository().split('/').all(|p| !p.is_empty() && p != "." && p != ".."));
            }
        }
    }
}
