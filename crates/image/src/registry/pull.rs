//! From a registry, or a mirror of it, into the store.

use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::client::{Action, Endpoint};
use super::error::RegistryError;
use super::manifest::{self, BadDocument, Document, ImageManifest};
use super::platform::Platform;
use super::{Access, Event, PARALLEL, Progress, run};
use crate::digest::Digest;
use crate::reference::ImageReference;
use crate::store::{Descriptor, MAX_DOCUMENT, Store};

/// Bytes that are left free on the disk: the store's own records need some.
const SPARE: u64 = 1 << 20;

/// What a pull has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's manifest.
    pub digest: Digest,
    /// What the registry's tag means: the index, or the manifest itself.
    pub target: Digest,
    /// The registry or mirror that it came from.
    pub source: String,
    /// Bytes of config and layers that were moved.
    pub moved: u64,
}

/// Brings an image into the store under its full name.
///
/// Mirrors are asked first, in order. Without a `platform` it is the host's.
///
/// # Errors
/// [`RegistryError`] of the registry itself. The name in the store is then as
/// before; what has come stays and is resumed by the next pull.
pub fn pull(
    access: &Access,
    store: &Store,
    name: &ImageReference,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Pulled, RegistryError> {
    run(async {
        let job = Pull {
            access,
            store,
            name,
            platform,
        };
        for mirror in &access.registries.get(name.registry()).mirrors {
            let (host, path) = mirror.split_once('/').unwrap_or((mirror, ""));
            let path = path.trim_matches('/');
            let repository = match path {
                "" => name.repository().to_owned(),
                path => format!("{path}/{}", name.repository()),
            };
            match job.from(host, &repository, false, progress).await {
                Err(error) if !error.is_local() => {
                    progress.event(&Event::MirrorFailed {
                        host: mirror,
                        error: &error,
                    });
                }
                result => return result,
            }
        }
        job.from(
            name.registry(),
            name.repository(),
            access.insecure,
            progress,
        )
        .await
    })
}

/// One document as it came: its bytes are what its digest is of.
struct Fetched {
    bytes: Vec<u8>,
    digest: Digest,
    document: Document,
}

struct Pull<'a> {
    access: &'a Access,
    store: &'a Store,
    name: &'a ImageReference,
    platform: Option<&'a Platform>,
}

impl Pull<'_> {
    async fn from(
        &self,
        host: &str,
        repository: &str,
        insecure: bool,
        progress: &dyn Progress,
    ) -> Result<Pulled, RegistryError> {
        let endpoint = Endpoint::connect(host, repository, self.access, insecure, progress).await?;
        let target = self.name.target();
        let named = self
            .manifest(&endpoint, &target, self.name.digest())
            .await?;
        let target = named.digest;
        let image = match named.document {
            Document::Image(_) => named,
            Document::Index(index) => {
                let host = Platform::host();
                let wanted = self.platform.unwrap_or(&host);
                let Some(entry) = index.choose(wanted) else {
                    return Err(RegistryError::NoPlatform {
                        name: self.name.to_string(),
                        wanted: wanted.to_string(),
                        available: index.platforms(),
                    });
                };
                let digest = entry.digest;
                self.manifest(&endpoint, &digest.to_string(), Some(digest))
                    .await?
            }
        };
        let Document::Image(parts) = &image.document else {
            return Err(self.not_an_image(manifest::OCI_INDEX));
        };
        let _adding = self.store.adding()?;
        let moved = self.fetch(&endpoint, parts, progress).await?;
        let digest = self.store.put_blob(&image.bytes)?;
        self.store.tag_fetched(self.name, &digest)?;
        Ok(Pulled {
            digest,
            target,
            source: host.to_owned(),
            moved,
        })
    }

    async fn manifest(
        &self,
        endpoint: &Endpoint<'_>,
        target: &str,
        expected: Option<Digest>,
    ) -> Result<Fetched, RegistryError> {
        let url = endpoint.repository_url(&format!("manifests/{target}"))?;
        let request = || {
            endpoint
                .request(Method::GET, &url)
                .header(ACCEPT, manifest::ACCEPT)
        };
        let response = endpoint.send(Action::Pull, request).await?;
        match response.status() {
            StatusCode::NOT_FOUND => {
                return Err(RegistryError::NoImage {
                    host: endpoint.host.clone(),
                    repository: endpoint.repository.clone(),
                    target: target.to_owned(),
                });
            }
            StatusCode::OK => {}
            _ => return Err(endpoint.protocol("a manifest")),
        }
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let media_type = header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let announced = header("docker-content-digest").and_then(|text| text.parse().ok());
        let bytes = endpoint.read(response, MAX_DOCUMENT).await?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected
            .or(announced)
            .filter(|expected| *expected != digest)
        {
            return Err(RegistryError::WrongManifest {
                host: endpoint.host.clone(),
                expected,
                actual: digest,
            });
        }
        let document = Document::parse(&bytes, &media_type).map_err(|e| match e {
            BadDocument::Kind(media_type) => self.not_an_image(&media_type),
            BadDocument::Json(source) => RegistryError::BadManifest {
                name: self.name.to_string(),
                source,
            },
        })?;
        Ok(Fetched {
            bytes,
            digest,
            document,
        })
    }

    /// Brings config and layers; gives the bytes moved.
    async fn fetch(
        &self,
        endpoint: &Endpoint<'_>,
        parts: &ImageManifest,
        progress: &dyn Progress,
    ) -> Result<u64, RegistryError> {
        if let Some(layer) = parts
            .layers
            .iter()
            .find(|l| !manifest::is_layer(&l.media_type))
        {
            return Err(self.not_an_image(&layer.media_type));
        }
        if parts.config.size > MAX_DOCUMENT {
            return Err(RegistryError::TooLarge {
                host: endpoint.host.clone(),
                limit: MAX_DOCUMENT,
            });
        }
        let mut moved = endpoint.fetch_blob(self.store, &parts.config).await?;
        // The config says what it is for: before the layers are worth fetching.
        self.check_platform(&parts.config, progress)?;
        // A layer can occur twice, and is locked while it comes.
        let mut layers: Vec<&Descriptor> = Vec::with_capacity(parts.layers.len());
        for layer in &parts.layers {
            if !layers.iter().any(|seen| seen.digest == layer.digest) {
                layers.push(layer);
            }
        }
        self.check_space(&layers)?;
        moved += futures_util::stream::iter(layers)
            .map(|layer| endpoint.fetch_blob(self.store, layer))
            .buffer_unordered(PARALLEL)
            .try_fold(0, async |sum, bytes| Ok(sum + bytes))
            .await?;
        Ok(moved)
    }

    fn check_platform(
        &self,
        config: &Descriptor,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        #[derive(Deserialize)]
        struct Config {
            os: String,
            architecture: String,
            variant: Option<String>,
        }
        let bytes = self.store.read_blob(&config.digest)?;
        let bad = |source| RegistryError::BadManifest {
            name: self.name.to_string(),
            source,
        };
        let config: Config = serde_json::from_slice(&bytes).map_err(bad)?;
        let actual = Platform {
            os: config.os,
            architecture: config.architecture,
            variant: config.variant.filter(|v| !v.is_empty()),
        };
        match self.platform {
            Some(wanted) if wanted.distance(&actual).is_none() => {
                Err(RegistryError::WrongPlatform {
                    name: self.name.to_string(),
                    wanted: wanted.to_string(),
                    actual: actual.to_string(),
                })
            }
            None if Platform::host().distance(&actual).is_none() => {
                let actual = &actual.to_string();
                progress.event(&Event::ForeignPlatform { actual });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Refuses what cannot fit before it fills the disk.
    fn check_space(&self, blobs: &[&Descriptor]) -> Result<(), RegistryError> {
        let need = blobs
            .iter()
            .map(|blob| self.store.missing_bytes(&blob.digest, blob.size))
            .fold(0, u64::saturating_add);
        let Ok(disk) = rustix::fs::statvfs(self.store.dir()) else {
            return Ok(());
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if need > 0 && need.saturating_add(SPARE) > free {
            return Err(RegistryError::NoSpace {
                path: self.store.dir().to_owned(),
                need,
                free,
            });
        }
        Ok(())
    }

    fn not_an_image(&self, media_type: &str) -> RegistryError {
        RegistryError::NotAnImage {
            name: self.name.to_string(),
            media_type: media_type.to_owned(),
        }
    }
}
