//! Registries: images by name from and to other places.
//!
//! ```text
//! pull: name -> manifest (of the platform) -> config and layers -> name in the store
//! push: image in the store -> layers that the registry lacks -> manifest -> name there
//! ```
//!
//! **Architecture invariant:** nothing here reads the environment; files of
//! credentials, settings and proxies come in as [`Access`]. The async runtime
//! lives only inside [`pull`], [`push`] and [`verify`]. What a registry sends
//! is bounded before it is read, and checked before it is believed.

pub mod auth;
mod challenge;
mod client;
pub mod config;
mod dns;
mod error;
mod fetch;
pub(crate) mod fuzz;
mod manifest;
mod platform;
mod pull;
mod push;

use std::future::Future;
use std::time::Duration;

pub use auth::{AuthError, AuthFiles, Credentials};
pub use config::{ConfigError, Registries, RegistrySettings};
pub use dns::ResolveError;
pub use error::RegistryError;
pub use platform::{Platform, PlatformError};
pub use pull::{Pulled, pull};
pub use push::{Pushed, push};

use crate::digest::Digest;
use client::{Action, Endpoint};

/// How many parts of an image are moved at once.
const PARALLEL: usize = 3;

/// How to reach registries: what the caller has gathered from flags, files and environment.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Settings by registry.
    pub registries: Registries,
    /// Where credentials are looked for.
    pub auth_files: AuthFiles,
    /// Credentials that count instead of those in files.
    pub credentials: Option<Credentials>,
    /// Lets HTTP and unverified certificates pass for the registry that is named, not its mirrors.
    pub insecure: bool,
    /// Proxies.
    pub proxy: ProxySettings,
    /// How failures are retried.
    pub backoff: Backoff,
}

/// The proxies to go through.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    /// For HTTP, as a URL.
    pub http: Option<String>,
    /// For HTTPS, as a URL.
    pub https: Option<String>,
    /// Hosts that are reached without, as in `NO_PROXY`.
    pub except: Option<String>,
}

/// How transient failures are retried: after `first`, then twice as long, and so on.
#[derive(Debug, Clone)]
pub struct Backoff {
    /// The most attempts without progress.
    pub attempts: u32,
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest silence that is waited out; more is a failure.
    pub silence: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(500),
            silence: Duration::from_secs(60),
        }
    }
}

/// What happens on the way.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A part of an image begins to move.
    Started {
        /// Which.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Bytes that an earlier attempt has moved.
        done: u64,
    },
    /// More of it has moved.
    Moved {
        /// Which.
        digest: Digest,
        /// How many bytes of it are there now.
        done: u64,
    },
    /// A part is complete.
    Finished {
        /// Which.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// It was there before, or another process brought it.
        present: bool,
    },
    /// A mirror could not help; the next one is asked.
    MirrorFailed {
        /// Which mirror.
        host: &'a str,
        /// Why.
        error: &'a RegistryError,
    },
    /// Something failed and is tried again.
    Retry {
        /// Why.
        error: &'a RegistryError,
        /// How often without progress.
        failures: u32,
    },
    /// The image is for another platform than this host.
    ForeignPlatform {
        /// The image's platform.
        actual: &'a str,
    },
}

/// Hears what happens on the way, for progress bars or lines.
pub trait Progress {
    /// Takes note of an event; called on the caller's thread.
    fn event(&self, event: &Event<'_>);
}

/// Hears nothing.
impl Progress for () {
    fn event(&self, _: &Event<'_>) {}
}

/// Checks that a registry accepts the credentials of `access`.
///
/// # Errors
/// [`RegistryError::LoginRefused`], or why the registry cannot be reached.
pub fn verify(access: &Access, registry: &str) -> Result<(), RegistryError> {
    run(async {
        let endpoint = Endpoint::connect(registry, "", access, access.insecure, &()).await?;
        let url = endpoint.ping_url()?;
        let response = endpoint
            .send(Action::Pull, || {
                endpoint.request(reqwest::Method::GET, &url)
            })
            .await?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(endpoint.protocol("the registry protocol under /v2/"))
        }
    })
}

/// Runs a future to its end on this thread.
fn run<T>(future: impl Future<Output = Result<T, RegistryError>>) -> Result<T, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RegistryError::Runtime)?;
    let result = runtime.block_on(future);
    // After a failure a thread may still wait for another process's lock.
    runtime.shutdown_background();
    result
}

/// Runs what would block the network's thread on another one.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RegistryError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|e| RegistryError::Runtime(std::io::Error::other(e)))
}
