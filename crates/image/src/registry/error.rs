//! What goes wrong between here and a registry.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::auth::AuthError;
use super::dns::ResolveError;
use crate::digest::Digest;
use crate::store::StoreError;

/// Why an image could not be pulled or pushed, or a login was not accepted.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The registry's name is in no directory.
    #[error("the registry {host} is not known by that name")]
    UnknownHost {
        /// The registry.
        host: String,
        /// What the resolver said.
        #[source]
        source: ResolveError,
    },
    /// Nobody listens there.
    #[error("the registry {host} refuses connections")]
    Refused {
        /// The registry.
        host: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The registry does not speak TLS.
    #[error("the registry {host} speaks plain HTTP where HTTPS is needed")]
    PlainHttp {
        /// The registry.
        host: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The registry's certificate does not prove who it is.
    #[error("the registry {host} has no certificate that can be verified")]
    Certificate {
        /// The registry.
        host: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// A connection failed or was cut.
    #[error("the connection to {host} failed")]
    Network {
        /// The other side.
        host: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing came for too long.
    #[error("{host} was silent for {after:?}")]
    Silent {
        /// The other side.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// A client for the registry could not be made.
    #[error("cannot set up a connection to {host}")]
    Setup {
        /// The registry.
        host: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The file of trusted certificates cannot be used.
    #[error("cannot read certificates from {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file of trusted certificates holds none.
    #[error("there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    /// A proxy's address is malformed.
    #[error("{0:?} is not the address of a proxy")]
    Proxy(String),
    /// The registry wants to know who asks, and nobody has logged in.
    #[error("{host} asks for a login to reach {repository}")]
    LoginNeeded {
        /// The registry.
        host: String,
        /// The repository, or the registry itself.
        repository: String,
    },
    /// The registry does not accept the credentials.
    #[error(
        "{host} does not accept the credentials{}{}",
        of(repository),
        colon(said)
    )]
    LoginRefused {
        /// The registry.
        host: String,
        /// The repository; empty for the registry itself.
        repository: String,
        /// The registry's own words.
        said: String,
    },
    /// The user may not do this.
    #[error("{host} does not permit this for {repository}{}", colon(said))]
    Forbidden {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The registry's own words.
        said: String,
    },
    /// The token server's address would give credentials away unencrypted.
    #[error("{host} sends logins to {realm}, which is not HTTPS")]
    UnsafeRealm {
        /// The registry.
        host: String,
        /// The token server's address.
        realm: String,
    },
    /// The registry has no such image.
    #[error("{host} has no image {repository}{}{target}", joint(target))]
    NoImage {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The tag or digest.
        target: String,
    },
    /// The registry lacks a part of an image that it has.
    #[error("{host} lacks {digest}, which the image consists of")]
    NoBlob {
        /// The registry.
        host: String,
        /// The part.
        digest: Digest,
    },
    /// No image of the index is for the platform.
    #[error("{name} is not there for {wanted}, only for {}", available.join(", "))]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform asked for.
        wanted: String,
        /// The platforms that there are.
        available: Vec<String>,
    },
    /// The only image is for another platform.
    #[error("{name} is for {actual}, not for {wanted}")]
    WrongPlatform {
        /// The image.
        name: String,
        /// The platform asked for.
        wanted: String,
        /// Its platform.
        actual: String,
    },
    /// Two images of one index are for the same platform.
    #[error("two of the images are for {0}")]
    SamePlatform(String),
    /// A manifest is not the one that was asked for.
    #[error("{host} sent a manifest with the digest {actual} for {expected}")]
    WrongManifest {
        /// The registry.
        host: String,
        /// What was asked for or announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A part of an image ended early, again and again.
    #[error("{host} sent {got} of the {size} bytes of {digest}")]
    Truncated {
        /// The registry.
        host: String,
        /// The part.
        digest: Digest,
        /// Bytes that came.
        got: u64,
        /// Bytes announced.
        size: u64,
    },
    /// A part of an image is longer than the manifest says.
    #[error("{host} sent more than the {size} bytes of {digest}")]
    TooLong {
        /// The registry.
        host: String,
        /// The part.
        digest: Digest,
        /// Bytes announced.
        size: u64,
    },
    /// An answer is larger than any honest one.
    #[error("{host} answered with more than {limit} bytes where a document was expected")]
    TooLarge {
        /// The other side.
        host: String,
        /// The most that is read.
        limit: u64,
    },
    /// The registry limits how much is asked of it.
    #[error("{host} limits the rate of requests{}", colon(said))]
    RateLimited {
        /// The registry.
        host: String,
        /// When it permits the next, if it said so.
        after: Option<Duration>,
        /// The registry's own words.
        said: String,
    },
    /// The registry answered with an error.
    #[error("{host} answered {status}{}", colon(said))]
    Status {
        /// The registry.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        said: String,
    },
    /// The registry's answer breaks the protocol.
    #[error("{host} answered without {what}")]
    Protocol {
        /// The registry.
        host: String,
        /// What is missing or malformed.
        what: &'static str,
    },
    /// A manifest cannot be read.
    #[error("the manifest of {name} is malformed")]
    BadManifest {
        /// The image.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest is of no kind that can be run.
    #[error("{name} is of the kind {media_type:?}, which is no image that can be run")]
    NotAnImage {
        /// The image.
        name: String,
        /// Its media type.
        media_type: String,
    },
    /// The image does not fit.
    #[error("the image needs {need} more bytes in {}, which has {free}", path.display())]
    NoSpace {
        /// The store's folder.
        path: PathBuf,
        /// Bytes to fetch.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A part of an image could not be written or read on this host.
    #[error("cannot {what} {digest}")]
    Local {
        /// What was being done.
        what: &'static str,
        /// The part.
        digest: Digest,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The threads for network traffic could not be started.
    #[error("cannot start the network runtime")]
    Runtime(#[source] std::io::Error),
    /// The image store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files of credentials failed.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

fn of(repository: &str) -> String {
    match repository {
        "" => String::new(),
        repository => format!(" for {repository}"),
    }
}

/// Gives what stands before a tag, or before a digest.
fn joint(target: &str) -> char {
    if target.contains(':') { '@' } else { ':' }
}

fn colon(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

impl RegistryError {
    /// Sorts an error of the HTTP client by what is wrong.
    pub(super) fn from_http(host: &str, error: reqwest::Error) -> Self {
        let host = host.to_owned();
        // The address may hold a signature that opens the content.
        let source = error.without_url();
        match Trouble::of(&source) {
            Trouble::Name(source) => Self::UnknownHost { host, source },
            Trouble::Refused => Self::Refused { host, source },
            Trouble::PlainHttp => Self::PlainHttp { host, source },
            Trouble::Certificate => Self::Certificate { host, source },
            Trouble::Other => Self::Network { host, source },
        }
    }

    /// Says whether the same request may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. }
            | Self::Silent { .. }
            | Self::Truncated { .. }
            | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Says whether the fault lies on this host, so that another registry would not help.
    pub(super) fn is_local(&self) -> bool {
        match self {
            // A wrong digest or size is what the other side has sent.
            Self::Store(e) => !matches!(
                e,
                StoreError::WrongDigest { .. } | StoreError::WrongSize { .. }
            ),
            Self::NoSpace { .. } | Self::Local { .. } | Self::Runtime(_) | Self::Auth(_) => true,
            _ => false,
        }
    }
}

enum Trouble {
    Name(ResolveError),
    Refused,
    PlainHttp,
    Certificate,
    Other,
}

impl Trouble {
    fn of(error: &reqwest::Error) -> Self {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(cause) = next {
            next = cause.source();
            if let Some(unresolved) = cause.downcast_ref::<ResolveError>() {
                return Self::Name(unresolved.clone());
            }
            match cause.downcast_ref::<rustls::Error>() {
                Some(rustls::Error::InvalidMessage(_)) => return Self::PlainHttp,
                Some(
                    rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented,
                ) => return Self::Certificate,
                _ => {}
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                if io.kind() == std::io::ErrorKind::ConnectionRefused {
                    return Self::Refused;
                }
                // Its source is the source of what it holds: look at that itself.
                if let Some(held) = io.get_ref() {
                    next = Some(held);
                }
            }
        }
        Self::Other
    }
}
