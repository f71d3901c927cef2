//! Manifests and indexes as registries carry them: OCI's and docker's schema 2.

use serde::{Deserialize, Serialize};

use super::platform::Platform;
use crate::digest::Digest;
use crate::store::Descriptor;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What is asked for, the best first.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A list of manifests, one for each platform.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<IndexEntry>,
}

/// One manifest of an index.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexEntry {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

/// What a document from a registry is.
#[derive(Debug)]
pub(super) enum Document {
    Image(ImageManifest),
    Index(Index),
}

/// The parts of an image manifest that are needed to fetch it.
#[derive(Debug, Deserialize)]
pub(super) struct ImageManifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// Why a document is of no use.
#[derive(Debug)]
pub(super) enum BadDocument {
    Json(serde_json::Error),
    Kind(String),
}

impl Document {
    /// Reads a document; `header` is the media type that the registry gave it.
    ///
    /// What the document says of itself counts: the header is not covered by its digest.
    pub(super) fn parse(bytes: &[u8], header: &str) -> Result<Self, BadDocument> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(BadDocument::Json)?;
        let kind = match probe.media_type.as_str() {
            "" => header,
            own => own,
        };
        let is_index = match kind {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ if probe.schema_version == 2 && probe.media_type.is_empty() => {
                probe.manifests.is_some() && probe.config.is_none()
            }
            other => return Err(BadDocument::Kind(other.to_owned())),
        };
        // Something that is both could be read in two ways: CVE-2021-41190.
        if probe.manifests.is_some() == probe.config.is_some() {
            return Err(BadDocument::Kind(kind.to_owned()));
        }
        if is_index {
            serde_json::from_slice(bytes)
                .map(Self::Index)
                .map_err(BadDocument::Json)
        } else {
            serde_json::from_slice(bytes)
                .map(Self::Image)
                .map_err(BadDocument::Json)
        }
    }
}

impl Index {
    /// Chooses the manifest that fits a platform best.
    pub(super) fn choose(&self, wanted: &Platform) -> Option<&IndexEntry> {
        self.images()
            .filter_map(|(entry, platform)| Some((wanted.distance(platform)?, entry)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, entry)| entry)
    }

    /// Names the platforms that there are, for people.
    pub(super) fn platforms(&self) -> Vec<String> {
        let mut names: Vec<String> = self.images().map(|(_, p)| p.to_string()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn images(&self) -> impl Iterator<Item = (&IndexEntry, &Platform)> {
        self.manifests
            .iter()
            .filter(|entry| matches!(entry.media_type.as_str(), OCI_MANIFEST | DOCKER_MANIFEST))
            .filter_map(|entry| Some((entry, entry.platform.as_ref()?)))
            // buildkit hangs attestations into the index under this name.
            .filter(|(_, platform)| platform.os != "unknown")
    }
}

impl From<&IndexEntry> for Descriptor {
    fn from(entry: &IndexEntry) -> Self {
        Self {
            media_type: entry.media_type.clone(),
            digest: entry.digest,
            size: entry.size,
        }
    }
}

/// Says whether a layer is a tar archive that the store can unpack.
pub(super) fn is_layer(media_type: &str) -> bool {
    const KINDS: [&str; 3] = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.",
    ];
    KINDS.iter().any(|kind| media_type.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn index(platforms: &[&str]) -> Index {
        let entry = |text: &&str| {
            let platform: Platform = text.parse().expect("platform");
            IndexEntry {
                media_type: OCI_MANIFEST.into(),
                digest: Digest::of(text.as_bytes()),
                size: 1,
                platform: Some(platform),
            }
        };
        Index {
            manifests: platforms.iter().map(entry).collect(),
        }
    }

    #[test]
    fn the_best_platform_is_chosen_and_attestations_are_not() {
        let index = index(&[
            "linux/arm/v6",
            "linux/arm/v7",
            "unknown/unknown",
            "linux/amd64",
        ]);
        let choose = |text: &str| {
            index
                .choose(&text.parse().expect("platform"))
                .map(|e| e.digest)
        };
        assert_eq!(choose("linux/arm/v7"), Some(Digest::of(b"linux/arm/v7")));
        assert_eq!(choose("linux/arm/v6"), Some(Digest::of(b"linux/arm/v6")));
        assert_eq!(choose("linux/amd64"), Some(Digest::of(b"linux/amd64")));
        assert_eq!(choose("linux/arm64"), None);
        assert_eq!(choose("unknown/unknown"), None);
        assert_eq!(
            index.platforms(),
            ["linux/amd64", "linux/arm/v6", "linux/arm/v7"]
        );
    }

    #[test]
    fn a_document_is_what_it_says_of_itself() {
        let config =
            format!(r#""config":{{"mediaType":"c","digest":"{DIGEST}","size":0}},"layers":[]"#);
        let parse = |json: &str, header: &str| Document::parse(json.as_bytes(), header);
        let image = format!(r#"{{"schemaVersion":2,{config}}}"#);
        assert!(matches!(
            parse(&image, OCI_MANIFEST),
            Ok(Document::Image(_))
        ));
        assert!(matches!(
            parse(&image, "text/plain"),
            Ok(Document::Image(_))
        ));
        let list = format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[]}}"#);
        assert!(matches!(parse(&list, OCI_MANIFEST), Ok(Document::Index(_))));
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],{config}}}"#);
        assert!(matches!(
            parse(&both, OCI_MANIFEST),
            Err(BadDocument::Kind(_))
        ));
        assert!(matches!(parse(&both, OCI_INDEX), Err(BadDocument::Kind(_))));
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        let old_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(matches!(parse(old, old_type), Err(BadDocument::Kind(k)) if k == old_type));
        assert!(matches!(parse("{", OCI_INDEX), Err(BadDocument::Json(_))));
    }

    proptest! {
        #[test]
        fn no_document_makes_the_parser_panic(json in "[\\[\\]{}\":,a-z0-9]{0,80}") {
            let _ = Document::parse(json.as_bytes(), OCI_MANIFEST);
        }
    }
}
