//! What a job needs to know of an image, gathered once from manifest and config.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::digest::Digest;

/// Points at content: a part of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The blob, as it is carried (mostly compressed).
    pub blob: Descriptor,
    /// The digest of the tar archive inside.
    pub diff_id: Digest,
}

/// How an image wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RuntimeConfig {
    /// The environment, `NAME=value`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What always comes first in the command.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The arguments when the user gives none.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// `user[:group]`, by name or number; empty is root.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// The folder to start in; empty is `/`.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// The signal that asks it to stop; `SIGTERM` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// The image's labels.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
}

/// Takes `null` for nothing, as docker writes it.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// An image as a job sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The manifest's digest: what the image is named by.
    pub digest: Digest,
    /// The config's digest, which docker calls the image's id.
    pub config_digest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerRecord>,
    /// How it wants to be run.
    pub config: RuntimeConfig,
    /// The processor architecture, in Go's words: `amd64`, `arm64`.
    pub arch: String,
    /// The operating system.
    pub os: String,
    /// When it was made (RFC 3339), when it says so.
    pub created: Option<String>,
    /// The sum of its layers' blobs in bytes.
    pub size: u64,
}

/// An OCI image manifest, or docker's of schema 2, which has the same fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// The parts of an image's config that are read and written here.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) config: RuntimeConfig,
    pub(crate) rootfs: RootFs,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) history: Vec<HistoryEntry>,
}

/// The layers as the config names them.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RootFs {
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) diff_ids: Vec<Digest>,
}

/// One step of how an image was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// A remark.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It changed only the config and has no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl Store {
    /// Gathers an image's record from its manifest and config, which must be in the store.
    ///
    /// # Errors
    /// What is missing, damaged, not understood, or no image.
    pub(crate) fn read_record(&self, digest: &Digest) -> Result<ImageRecord, StoreError> {
        let manifest = self.read_manifest(digest)?;
        let config = self.read_config(&manifest.config.digest)?;
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            return Err(StoreError::LayerCount {
                digest: *digest,
                layers: manifest.layers.len(),
                diff_ids: config.rootfs.diff_ids.len(),
            });
        }
        let size = manifest
            .layers
            .iter()
            .fold(0u64, |sum, layer| sum.saturating_add(layer.size));
        let layers = std::iter::zip(manifest.layers, config.rootfs.diff_ids)
            .map(|(blob, diff_id)| LayerRecord { blob, diff_id })
            .collect();
        Ok(ImageRecord {
            digest: *digest,
            config_digest: manifest.config.digest,
            layers,
            config: config.config,
            arch: config.architecture,
            os: config.os,
            created: config.created,
            size,
        })
    }

    /// Reads a manifest.
    pub(crate) fn read_manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let bytes = self.read_blob(digest)?;
        /// An index or an artifact has no `config` or `layers`: say so, and not "missing field".
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let bad = |source| StoreError::BadDocument {
            digest: *digest,
            what: "manifest",
            source,
        };
        let kind: Kind = serde_json::from_slice(&bytes).map_err(bad)?;
        if kind.manifests.is_some() {
            return Err(StoreError::NotAnImage {
                digest: *digest,
                media_type: kind.media_type,
            });
        }
        serde_json::from_slice(&bytes).map_err(bad)
    }

    /// Reads an image's config.
    pub(crate) fn read_config(&self, digest: &Digest) -> Result<Config, StoreError> {
        let bytes = self.read_blob(digest)?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::BadDocument {
            digest: *digest,
            what: "image config",
            source,
        })
    }

    /// Gives the steps by which an image was made, the oldest first.
    ///
    /// # Errors
    /// What is missing, damaged or not understood.
    pub fn history(&self, image: &ImageRecord) -> Result<Vec<HistoryEntry>, StoreError> {
        Ok(self.read_config(&image.config_digest)?.history)
    }
}
