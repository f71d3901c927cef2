//! One blob from a registry into the store: resumed, bounded, verified.

use std::io::{self, Write as _};

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::client::{Action, Endpoint};
use super::error::RegistryError;
use super::{Event, blocking};
use crate::store::{BlobLock, Descriptor, PartialBlob, Store, StoreError};

/// Pieces of a blob that may wait for the disk.
const QUEUE: usize = 16;

impl Endpoint<'_> {
    /// Brings a blob into the store unless it is there; gives the bytes moved.
    ///
    /// # Errors
    /// [`RegistryError`]; what has come stays, and the next attempt resumes there.
    pub(super) async fn fetch_blob(
        &self,
        store: &Store,
        blob: &Descriptor,
    ) -> Result<u64, RegistryError> {
        let (digest, size) = (blob.digest, blob.size);
        let mut restarted = false;
        loop {
            let Some(partial) = lock(store, blob).await? else {
                self.event(&Event::Finished {
                    digest,
                    size,
                    present: true,
                });
                return Ok(0);
            };
            let resumed = partial.offset();
            self.event(&Event::Started {
                digest,
                size,
                done: resumed,
            });
            let partial = self.fetch_rest(partial, blob).await?;
            match blocking(move || partial.commit()).await? {
                // What an earlier attempt left may be to blame: once more, from nothing.
                Err(StoreError::WrongDigest { .. }) if resumed > 0 && !restarted => {
                    restarted = true;
                }
                result => {
                    result?;
                    self.event(&Event::Finished {
                        digest,
                        size,
                        present: false,
                    });
                    return Ok(size - resumed);
                }
            }
        }
    }

    /// Asks for what is missing until it is there or no more comes.
    async fn fetch_rest(
        &self,
        mut partial: PartialBlob,
        blob: &Descriptor,
    ) -> Result<PartialBlob, RegistryError> {
        let mut failures = 0;
        let mut furthest = partial.offset();
        while partial.offset() < blob.size {
            let response = self.open_blob(&mut partial, blob).await;
            let result = match response {
                Ok(response) => {
                    let (back, result) = self.copy(response, partial, blob).await?;
                    partial = back;
                    result
                }
                Err(e) => Err(e),
            };
            match result {
                Err(e) if e.is_transient() => {
                    if partial.offset() > furthest {
                        furthest = partial.offset();
                        failures = 0;
                    }
                    self.pause(&mut failures, e).await?;
                }
                other => other?,
            }
        }
        Ok(partial)
    }

    /// Asks for a blob from where its copy ends.
    async fn open_blob(
        &self,
        partial: &mut PartialBlob,
        blob: &Descriptor,
    ) -> Result<Response, RegistryError> {
        let url = self.repository_url(&format!("blobs/{}", blob.digest))?;
        loop {
            let offset = partial.offset();
            let request = || {
                let request = self.request(Method::GET, &url);
                match offset {
                    0 => request,
                    offset => request.header(RANGE, format!("bytes={offset}-")),
                }
            };
            let response = self
                .send_once(Action::Pull, self.silence(), request)
                .await?;
            match response.status() {
                StatusCode::PARTIAL_CONTENT if begins_at(&response, offset) => return Ok(response),
                // A server that cannot resume begins anew, by itself or asked again.
                StatusCode::OK => {
                    if offset > 0 {
                        partial.restart()?;
                    }
                    return Ok(response);
                }
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                    partial.restart()?;
                }
                StatusCode::NOT_FOUND => {
                    return Err(RegistryError::NoBlob {
                        host: self.host.clone(),
                        digest: blob.digest,
                    });
                }
                _ => return Err(self.protocol("the content of a blob")),
            }
        }
    }

    /// Copies an answer to the end of a partial blob.
    ///
    /// The network's thread only receives; hashing and writing happen on another.
    async fn copy(
        &self,
        mut response: Response,
        partial: PartialBlob,
        blob: &Descriptor,
    ) -> Result<(PartialBlob, Result<(), RegistryError>), RegistryError> {
        let (digest, size) = (blob.digest, blob.size);
        let mut done = partial.offset();
        let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
        let writer = tokio::task::spawn_blocking(move || {
            let mut partial = partial;
            while let Some(chunk) = receiver.blocking_recv() {
                if let Err(e) = partial.write_all(&chunk) {
                    return (partial, Err(e));
                }
            }
            (partial, Ok(()))
        });
        let received = loop {
            match self.within(self.silence(), response.chunk()).await {
                Ok(Some(chunk)) => {
                    done += chunk.len() as u64;
                    if done > size {
                        let host = self.host.clone();
                        break Err(RegistryError::TooLong { host, digest, size });
                    }
                    if sender.send(chunk).await.is_err() {
                        break Ok(()); // The writer will say why.
                    }
                    self.event(&Event::Moved { digest, done });
                }
                Ok(None) if done < size => {
                    let host = self.host.clone();
                    break Err(RegistryError::Truncated {
                        host,
                        digest,
                        got: done,
                        size,
                    });
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        drop(sender);
        let joined = writer.await;
        let (partial, written) = joined.map_err(|e| RegistryError::Runtime(io::Error::other(e)))?;
        let result = match written {
            Ok(()) => received,
            Err(source) => Err(RegistryError::Local {
                what: "write",
                digest,
                source,
            }),
        };
        Ok((partial, result))
    }
}

/// Waits for the right to bring a blob; there is none when it has come meanwhile.
async fn lock(store: &Store, blob: &Descriptor) -> Result<Option<PartialBlob>, RegistryError> {
    if store.has_blob(&blob.digest) {
        return Ok(None);
    }
    let (store, digest, size) = (store.clone(), blob.digest, blob.size);
    match blocking(move || store.lock_blob(&digest, Some(size))).await?? {
        BlobLock::Present => Ok(None),
        BlobLock::Partial(partial) => Ok(Some(*partial)),
    }
}

/// Says whether a partial answer begins at `offset`: `Content-Range: bytes 5-9/10`.
fn begins_at(response: &Response, offset: u64) -> bool {
    response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-'))
        .is_some_and(|(start, _)| start.trim().parse() == Ok(offset))
}
