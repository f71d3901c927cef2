//! From the store into a registry.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::client::{Action, Endpoint};
use super::error::RegistryError;
use super::manifest::{IndexEntry, OCI_INDEX, OCI_MANIFEST};
use super::platform::Platform;
use super::{Access, Event, PARALLEL, Progress, run};
use crate::digest::Digest;
use crate::reference::ImageReference;
use crate::store::{Descriptor, Manifest, Store, StoreError};

/// The size of the pieces that a blob is read in, in bytes.
const PIECE: usize = 256 << 10;
/// Pieces that may wait for the network.
const QUEUE: usize = 8;
/// How often is looked whether bytes move.
const TICK: Duration = Duration::from_millis(100);
/// A limit for what is bounded in another way.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a push has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// What the name means in the registry now: a manifest, or an index of several.
    pub digest: Digest,
    /// Bytes of configs and layers that were moved.
    pub moved: u64,
}

/// Puts images into a registry under one name; of several, one for each
/// platform, an index is made.
///
/// What the registry has is not sent again, and what another repository of it
/// has is asked for there.
///
/// # Errors
/// [`RegistryError`]; the name in the registry is then as before.
pub fn push(
    access: &Access,
    store: &Store,
    images: &[Digest],
    name: &ImageReference,
    progress: &dyn Progress,
) -> Result<Pushed, RegistryError> {
    run(async {
        let (registry, repository) = (name.registry(), name.repository());
        let endpoint =
            Endpoint::connect(registry, repository, access, access.insecure, progress).await?;
        let push = Push {
            endpoint: &endpoint,
            store,
            elsewhere: elsewhere(store, name)?,
        };
        match images {
            [image] => push.image(image, &name.target()).await,
            several => push.several(several, &name.target()).await,
        }
    })
}

/// Finds which blobs the store knows to be in other repositories of the registry.
///
/// It is a guess: a registry that knows better asks for the content.
fn elsewhere(
    store: &Store,
    name: &ImageReference,
) -> Result<BTreeMap<Digest, String>, RegistryError> {
    let mut found = BTreeMap::new();
    for reference in store.list()? {
        let Ok(other) = reference.name.parse::<ImageReference>() else {
            continue;
        };
        if other.registry() != name.registry() || other.repository() == name.repository() {
            continue;
        }
        if let Ok(manifest) = store.read_manifest(&reference.digest) {
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                found.insert(blob.digest, other.repository().to_owned());
            }
        }
    }
    Ok(found)
}

struct Push<'a> {
    endpoint: &'a Endpoint<'a>,
    store: &'a Store,
    elsewhere: BTreeMap<Digest, String>,
}

impl Push<'_> {
    async fn image(&self, digest: &Digest, target: &str) -> Result<Pushed, RegistryError> {
        let manifest = self.store.read_manifest(digest)?;
        let bytes = self.store.read_blob(digest)?;
        let mut blobs: BTreeMap<Digest, &Descriptor> = BTreeMap::new();
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            blobs.insert(blob.digest, blob);
        }
        let moved = futures_util::stream::iter(blobs.into_values())
            .map(|blob| self.blob(blob))
            .buffer_unordered(PARALLEL)
            .try_fold(0, async |sum, bytes| Ok(sum + bytes))
            .await?;
        self.manifest(target, media_type(&manifest), &bytes).await?;
        Ok(Pushed {
            digest: *digest,
            moved,
        })
    }

    async fn several(&self, images: &[Digest], target: &str) -> Result<Pushed, RegistryError> {
        let mut moved = 0;
        let mut entries: Vec<IndexEntry> = Vec::new();
        for digest in images {
            let manifest = self.store.read_manifest(digest)?;
            let platform = self.platform(&manifest)?;
            if entries
                .iter()
                .any(|e| e.platform.as_ref() == Some(&platform))
            {
                return Err(RegistryError::SamePlatform(platform.to_string()));
            }
            moved += self.image(digest, &digest.to_string()).await?.moved;
            entries.push(IndexEntry {
                media_type: media_type(&manifest).to_owned(),
                digest: *digest,
                size: self.store.blob_size(digest)?,
                platform: Some(platform),
            });
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct NewIndex {
            schema_version: u32,
            media_type: &'static str,
            manifests: Vec<IndexEntry>,
        }
        let index = NewIndex {
            schema_version: 2,
            media_type: OCI_INDEX,
            manifests: entries,
        };
        let bytes = serde_json::to_vec(&index).map_err(|source| RegistryError::BadManifest {
            name: target.to_owned(),
            source,
        })?;
        self.manifest(target, OCI_INDEX, &bytes).await?;
        Ok(Pushed {
            digest: Digest::of(&bytes),
            moved,
        })
    }

    /// Reads from its config what an image is for.
    fn platform(&self, manifest: &Manifest) -> Result<Platform, RegistryError> {
        #[derive(Deserialize)]
        struct Config {
            os: String,
            architecture: String,
            variant: Option<String>,
        }
        let bytes = self.store.read_blob(&manifest.config.digest)?;
        let config: Config =
            serde_json::from_slice(&bytes).map_err(|source| RegistryError::BadManifest {
                name: manifest.config.digest.to_string(),
                source,
            })?;
        Ok(Platform {
            os: config.os,
            architecture: config.architecture,
            variant: config.variant.filter(|v| !v.is_empty()),
        })
    }

    async fn manifest(
        &self,
        target: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let url = self
            .endpoint
            .repository_url(&format!("manifests/{target}"))?;
        let request = || {
            self.endpoint
                .request(Method::PUT, &url)
                .header(CONTENT_TYPE, media_type)
                .body(bytes.to_vec())
        };
        let response = self.endpoint.send(Action::Push, request).await?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(self.missing(target))
        }
    }

    fn missing(&self, target: &str) -> RegistryError {
        RegistryError::NoImage {
            host: self.endpoint.host.clone(),
            repository: self.endpoint.repository.clone(),
            target: target.to_owned(),
        }
    }

    /// Puts one blob there unless it is; gives the bytes moved.
    async fn blob(&self, blob: &Descriptor) -> Result<u64, RegistryError> {
        let (digest, size) = (blob.digest, blob.size);
        let url = self.endpoint.repository_url(&format!("blobs/{digest}"))?;
        let head = || self.endpoint.request(Method::HEAD, &url);
        let response = self.endpoint.send(Action::Push, head).await?;
        let finished = |present| Event::Finished {
            digest,
            size,
            present,
        };
        if response.status().is_success() {
            self.endpoint.event(&finished(true));
            return Ok(0);
        }
        let mut failures = 0;
        let mut furthest = 0;
        let mut begun = None;
        loop {
            let upload = match begun.take() {
                Some(upload) => upload,
                None => match self.begin(&digest).await? {
                    Some(upload) => upload,
                    None => {
                        self.endpoint.event(&finished(true));
                        return Ok(0);
                    }
                },
            };
            let done = upload.offset;
            self.endpoint.event(&Event::Started { digest, size, done });
            match self.upload(blob, &upload).await {
                Err(e) if e.is_transient() => {
                    if done > furthest {
                        furthest = done;
                        failures = 0;
                    }
                    self.endpoint.pause(&mut failures, e).await?;
                    begun = self.where_it_stands(&upload).await;
                }
                result => {
                    result?;
                    self.endpoint.event(&finished(false));
                    return Ok(size);
                }
            }
        }
    }

    /// Asks for the blob from another repository, else for an address to send
    /// it to; there is none when the registry has found it.
    async fn begin(&self, digest: &Digest) -> Result<Option<Upload>, RegistryError> {
        let mut url = self.endpoint.repository_url("blobs/uploads/")?;
        if let Some(from) = self.elsewhere.get(digest) {
            url.query_pairs_mut()
                .append_pair("mount", &digest.to_string())
                .append_pair("from", from);
        }
        let request = || {
            self.endpoint
                .request(Method::POST, &url)
                .header(CONTENT_LENGTH, 0)
        };
        let response = self.endpoint.send(Action::Push, request).await?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => {
                let address = self.endpoint.location(&response)?;
                Ok(Some(Upload { address, offset: 0 }))
            }
            _ => Err(self.missing("blobs/uploads/")),
        }
    }

    /// Asks how much of an upload that was cut has arrived; nothing when the
    /// registry has forgotten it or does not say.
    async fn where_it_stands(&self, upload: &Upload) -> Option<Upload> {
        let request = || self.endpoint.request(Method::GET, &upload.address);
        let response = self.endpoint.send(Action::Push, request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        // `Range: 0-99` is a hundred bytes; an empty upload also answers `0-0`.
        let range = response.headers().get(RANGE)?.to_str().ok()?;
        let last: u64 = range
            .trim_start_matches("bytes=")
            .strip_prefix("0-")?
            .parse()
            .ok()?;
        let address = self
            .endpoint
            .location(&response)
            .unwrap_or(upload.address.clone());
        // Nothing to resume: a new upload is the safer way.
        (last > 0).then(|| Upload {
            address,
            offset: last + 1,
        })
    }

    /// Sends what is missing of a blob, in one piece, and has it checked.
    async fn upload(&self, blob: &Descriptor, upload: &Upload) -> Result<(), RegistryError> {
        let mut address = upload.address.clone();
        if upload.offset > 0 {
            let range = format!("{}-{}", upload.offset, blob.size.saturating_sub(1));
            let response = self
                .send_content(blob, upload.offset, || {
                    self.endpoint
                        .request(Method::PATCH, &upload.address)
                        .header(CONTENT_RANGE, &range)
                })
                .await?;
            address = self.endpoint.location(&response)?;
        }
        address
            .query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        let put = || self.endpoint.request(Method::PUT, &address);
        let from = if upload.offset > 0 { blob.size } else { 0 };
        self.send_content(blob, from, put).await.map(drop)
    }

    /// Sends the end of a blob, from `offset`, as the body of one request.
    async fn send_content(
        &self,
        blob: &Descriptor,
        offset: u64,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        // A wrong size here would confuse the connection: the manifest's must be the blob's.
        let size = self.store.blob_size(&blob.digest)?;
        if size != blob.size {
            return Err(StoreError::WrongSize {
                digest: blob.digest,
                expected: blob.size,
                actual: size,
            }
            .into());
        }
        let sent = Arc::new(AtomicU64::new(offset));
        let file = self.store.open_blob(&blob.digest)?;
        let make = || {
            let body = file
                .try_clone()
                .map(|file| body(file, offset, sent.clone()));
            request()
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_LENGTH, size - offset)
                .body(body.unwrap_or_default())
        };
        let sending = self.endpoint.send_once(Action::Push, FOREVER, make);
        let response = self.while_moving(blob, &sent, sending).await?;
        if response.status().is_success() {
            Ok(response)
        } else {
            // A forgotten or confused upload: another one may go well.
            Err(RegistryError::Status {
                host: self.endpoint.host.clone(),
                status: response.status().as_u16(),
                said: "the upload was refused".into(),
            })
        }
    }

    /// Waits for the end of a sending as long as bytes move.
    async fn while_moving<T>(
        &self,
        blob: &Descriptor,
        sent: &AtomicU64,
        sending: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let mut sending = std::pin::pin!(sending);
        let mut before = sent.load(Ordering::Relaxed);
        let mut since = Instant::now();
        loop {
            if let Ok(result) = tokio::time::timeout(TICK, &mut sending).await {
                return result;
            }
            let done = sent.load(Ordering::Relaxed);
            if done != before {
                before = done;
                since = Instant::now();
                self.endpoint.event(&Event::Moved {
                    digest: blob.digest,
                    done,
                });
            }
            // When all is there a registry may copy it once more before it answers.
            let patience = if done == blob.size {
                self.endpoint.silence() * 10
            } else {
                self.endpoint.silence()
            };
            if since.elapsed() > patience {
                return Err(RegistryError::Silent {
                    host: self.endpoint.host.clone(),
                    after: patience,
                });
            }
        }
    }
}

/// An upload that a registry has begun.
struct Upload {
    /// Where its content goes.
    address: Url,
    /// Bytes that have arrived.
    offset: u64,
}

/// Streams a file from `offset`; a thread reads ahead of the network.
fn body(file: File, offset: u64, sent: Arc<AtomicU64>) -> Body {
    let (sender, mut receiver) = mpsc::channel::<io::Result<Vec<u8>>>(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut at = offset;
        loop {
            let mut piece = vec![0; PIECE];
            // By position: an earlier attempt's reader may share the file.
            let read = match file.read_at(&mut piece, at) {
                Ok(0) => return,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    let _ = sender.blocking_send(Err(e));
                    return;
                }
            };
            piece.truncate(read);
            at += read as u64;
            // Nobody takes it: the request has ended.
            if sender.blocking_send(Ok(piece)).is_err() {
                return;
            }
            sent.store(at, Ordering::Relaxed);
        }
    });
    Body::wrap_stream(futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx)
    }))
}

/// Says what a manifest is: those of docker's and OCI's kind have the same fields.
fn media_type(manifest: &Manifest) -> &str {
    manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST)
}
