//! New images, made here of layers and a config.

use serde::Serialize;

use super::image::{Config, HistoryEntry, Manifest, RootFs};
use super::{Descriptor, LayerRecord, RuntimeConfig, Store, StoreError};
use crate::digest::Digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What an image made here says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewImage {
    /// How it wants to be run.
    pub config: RuntimeConfig,
    /// The processor architecture, in Go's words.
    pub arch: String,
    /// When it was made (RFC 3339); nothing makes the image the same every time.
    pub created: Option<String>,
    /// By which command.
    pub created_by: String,
    /// A remark.
    pub comment: String,
}

impl Store {
    /// Makes an image of layers that are in the store, the lowest first, and
    /// gives its manifest's digest. The caller holds [`Store::adding`].
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn assemble(&self, layers: &[LayerRecord], new: &NewImage) -> Result<Digest, StoreError> {
        let step = |at: usize| HistoryEntry {
            created: new.created.clone(),
            created_by: if at == 0 {
                new.created_by.clone()
            } else {
                String::new()
            },
            comment: if at == 0 {
                new.comment.clone()
            } else {
                String::new()
            },
            empty_layer: false,
        };
        let config = Config {
            architecture: new.arch.clone(),
            os: "linux".to_owned(),
            created: new.created.clone(),
            config: new.config.clone(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
            },
            history: (0..layers.len()).map(step).collect(),
        };
        let config = self.put_document(&config, CONFIG)?;
        self.put_manifest(
            config,
            layers.iter().map(|layer| layer.blob.clone()).collect(),
        )
    }

    /// Puts a manifest for a config and layers into the store.
    pub(crate) fn put_manifest(
        &self,
        config: Descriptor,
        layers: Vec<Descriptor>,
    ) -> Result<Digest, StoreError> {
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config,
            layers,
        };
        Ok(self.put_document(&manifest, MANIFEST)?.digest)
    }

    fn put_document<T: Serialize>(&self, value: &T, kind: &str) -> Result<Descriptor, StoreError> {
        let bytes = serde_json::to_vec(value).map_err(|source| StoreError::BadDocument {
            digest: Digest::of(b""),
            what: "document",
            source,
        })?;
        Ok(Descriptor {
            media_type: kind.to_owned(),
            digest: self.put_blob(&bytes)?,
            size: bytes.len() as u64,
        })
    }
}
