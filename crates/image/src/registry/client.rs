//! One registry (or mirror) as HTTP: addresses, logins, retries, bounded answers.
//!
//! The protocol is the OCI distribution specification 1.1, and docker's token
//! specification for logins.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Certificate, NoProxy, Proxy, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::Credentials;
use super::challenge::Challenge;
use super::dns::Dns;
use super::error::RegistryError;
use super::{Access, Event, Progress};
use crate::reference::DEFAULT_REGISTRY;

/// The longest pause that a registry may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The largest answer of a token server or error text that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// The tokens, manifests and blobs of docker's own registry are at another host.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// What a request is for: decides which token it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Reading from a repository.
    Pull,
    /// Writing to a repository.
    Push,
}

/// A registry or mirror, and a repository in it.
pub(super) struct Endpoint<'a> {
    /// The registry as people write it; stands in errors.
    pub(super) host: String,
    /// The path within the registry.
    pub(super) repository: String,
    base: Url,
    insecure: bool,
    http: reqwest::Client,
    credentials: Option<Credentials>,
    /// What was sent with success, by the scopes that it is for.
    headers: Mutex<BTreeMap<String, String>>,
    access: &'a Access,
    progress: &'a dyn Progress,
}

impl<'a> Endpoint<'a> {
    /// Prepares to speak to `host` about `repository`.
    ///
    /// Nothing is sent, but for an insecure registry, which is asked whether it speaks TLS.
    pub(super) async fn connect(
        host: &str,
        repository: &str,
        access: &'a Access,
        insecure: bool,
        progress: &'a dyn Progress,
    ) -> Result<Self, RegistryError> {
        let settings = access.registries.get(host);
        let insecure = insecure || settings.insecure;
        let http = client(host, access, insecure, settings.ca.as_deref())?;
        let credentials = match &access.credentials {
            Some(given) => Some(given.clone()),
            None => access.auth_files.find(host, repository)?,
        };
        let address = if host == DEFAULT_REGISTRY {
            DOCKER_HUB_HOST
        } else {
            host
        };
        let bad_host = || RegistryError::Protocol {
            host: host.to_owned(),
            what: "a usable address",
        };
        let base = Url::parse(&format!("https://{address}/")).map_err(|_| bad_host())?;
        let mut endpoint = Self {
            host: host.to_owned(),
            repository: repository.to_owned(),
            base,
            insecure,
            http,
            credentials,
            headers: Mutex::default(),
            access,
            progress,
        };
        if insecure {
            let probe = endpoint.http.get(endpoint.ping_url()?);
            // As docker: whatever is not TLS there is taken for HTTP.
            if let Err(
                RegistryError::PlainHttp { .. }
                | RegistryError::Refused { .. }
                | RegistryError::Network { .. },
            ) = endpoint.within(access.backoff.silence, probe.send()).await
            {
                endpoint.base =
                    Url::parse(&format!("http://{address}/")).map_err(|_| bad_host())?;
            }
        }
        Ok(endpoint)
    }

    /// Gives the address of something in the repository, as `manifests/latest`.
    pub(super) fn repository_url(&self, rest: &str) -> Result<Url, RegistryError> {
        self.url(&format!("v2/{}/{rest}", self.repository))
    }

    /// Gives the address that says whether this is a registry and who may use it.
    pub(super) fn ping_url(&self) -> Result<Url, RegistryError> {
        self.url("v2/")
    }

    /// Resolves a `Location` header.
    pub(super) fn location(&self, response: &Response) -> Result<Url, RegistryError> {
        let header = response.headers().get(reqwest::header::LOCATION);
        header
            .and_then(|value| value.to_str().ok())
            .and_then(|text| response.url().join(text).ok())
            .filter(|url| self.insecure || url.scheme() == "https")
            .ok_or_else(|| self.protocol("a usable Location"))
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.base
            .join(path)
            .map_err(|_| self.protocol("a usable address"))
    }

    /// Starts a request.
    pub(super) fn request(&self, method: reqwest::Method, url: &Url) -> RequestBuilder {
        self.http.request(method, url.clone())
    }

    /// Sends a request and tries again after transient failures.
    ///
    /// The answer's status is a success, 404 or 416.
    pub(super) async fn send(
        &self,
        action: Action,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let mut failures = 0;
        loop {
            match self.send_once(action, self.silence(), &make).await {
                Err(e) if e.is_transient() => self.pause(&mut failures, e).await?,
                other => return other,
            }
        }
    }

    /// Sends a request once, or twice where the registry asks for a login.
    pub(super) async fn send_once(
        &self,
        action: Action,
        patience: Duration,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let scope = self.scope(action);
        let first = self.attempt(patience, &scope, make()).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return self.accept(first).await;
        }
        let texts = first.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = Challenge::choose(texts.filter_map(|value| value.to_str().ok()));
        let header = self.answer(challenge, &scope, first).await?;
        self.headers().insert(scope.clone(), header);
        let second = self.attempt(patience, &scope, make()).await?;
        if second.status() == StatusCode::UNAUTHORIZED {
            self.headers().remove(&scope);
            return Err(self.refused(second).await);
        }
        self.accept(second).await
    }

    async fn attempt(
        &self,
        patience: Duration,
        scope: &str,
        request: RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let (http, request) = request.build_split();
        let mut request = request.map_err(|e| RegistryError::from_http(&self.host, e))?;
        // An upload may be sent elsewhere, where these credentials are nobody's business.
        if request.url().origin() == self.base.origin()
            && let Some(header) = self.headers().get(scope)
            && let Ok(mut value) = reqwest::header::HeaderValue::from_str(header)
        {
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.within(patience, http.execute(request)).await
    }

    /// Bounds the wait for a part of an answer.
    pub(super) async fn within<T>(
        &self,
        patience: Duration,
        future: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, RegistryError> {
        match tokio::time::timeout(patience, future).await {
            Ok(result) => result.map_err(|e| RegistryError::from_http(&self.host, e)),
            Err(_) => Err(RegistryError::Silent {
                host: self.host.clone(),
                after: patience,
            }),
        }
    }

    /// Waits before the next attempt, or gives the error back when there were enough.
    pub(super) async fn pause(
        &self,
        failures: &mut u32,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        *failures += 1;
        if *failures >= self.access.backoff.attempts {
            return Err(error);
        }
        let mut delay = self.access.backoff.first * 2u32.saturating_pow(*failures - 1);
        if let RegistryError::RateLimited {
            after: Some(asked), ..
        } = &error
        {
            delay = delay.max(*asked);
        }
        self.progress.event(&Event::Retry {
            error: &error,
            failures: *failures,
        });
        tokio::time::sleep(delay.min(LONGEST_PAUSE)).await;
        Ok(())
    }

    /// Turns the statuses that are errors into errors.
    async fn accept(&self, response: Response) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success()
            || matches!(
                status,
                StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
            )
        {
            return Ok(response);
        }
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let said = self.words(response).await;
        let (host, repository) = (self.host.clone(), self.repository.clone());
        Err(match status {
            StatusCode::FORBIDDEN => RegistryError::Forbidden {
                host,
                repository,
                said,
            },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::RateLimited { host, after, said },
            other => RegistryError::Status {
                host,
                status: other.as_u16(),
                said,
            },
        })
    }

    async fn refused(&self, response: Response) -> RegistryError {
        let said = self.words(response).await;
        let (host, repository) = (self.host.clone(), self.repository.clone());
        if self.credentials.is_some() {
            RegistryError::LoginRefused {
                host,
                repository,
                said,
            }
        } else {
            RegistryError::LoginNeeded { host, repository }
        }
    }

    /// Makes the `Authorization` header that a challenge asks for.
    async fn answer(
        &self,
        challenge: Option<Challenge>,
        scope: &str,
        response: Response,
    ) -> Result<String, RegistryError> {
        match (challenge, &self.credentials) {
            (Some(Challenge::Bearer { .. }), Some(Credentials::Bearer(token))) => {
                Ok(format!("Bearer {token}"))
            }
            (Some(Challenge::Basic), Some(Credentials::Password { user, password })) => {
                Ok(basic(user, password))
            }
            (
                Some(Challenge::Bearer {
                    realm,
                    service,
                    scope: asked,
                }),
                _,
            ) => {
                let scope = if scope.is_empty() {
                    asked.unwrap_or_default()
                } else {
                    scope.to_owned()
                };
                let token = self.token(&realm, service.as_deref(), &scope).await?;
                Ok(format!("Bearer {token}"))
            }
            _ => Err(self.refused(response).await),
        }
    }

    /// Gets a token from the token server, with what credentials there are.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
    ) -> Result<String, RegistryError> {
        let url = self
            .base
            .join(realm)
            .map_err(|_| self.protocol("a usable token server"))?;
        // A registry may name any token server, but not make us shout the password.
        if url.scheme() != "https" && !self.insecure {
            return Err(RegistryError::UnsafeRealm {
                host: self.host.clone(),
                realm: realm.to_owned(),
            });
        }
        let mut fields = vec![("scope", scope)];
        fields.extend(service.map(|service| ("service", service)));
        fields.retain(|(_, value)| !value.is_empty());
        let mut failures = 0;
        let response = loop {
            let request = match &self.credentials {
                Some(Credentials::Identity(token)) => {
                    let mut form = fields.clone();
                    form.push(("grant_type", "refresh_token"));
                    form.push(("client_id", "hyperion"));
                    form.push(("refresh_token", token));
                    self.http
                        .post(url.clone())
                        .header(
                            reqwest::header::CONTENT_TYPE,
                            "application/x-www-form-urlencoded",
                        )
                        .body(query(&form))
                }
                other => {
                    let mut url = url.clone();
                    url.query_pairs_mut().extend_pairs(&fields);
                    let request = self.http.get(url);
                    match other {
                        Some(Credentials::Password { user, password }) => {
                            request.header(AUTHORIZATION, basic(user, password))
                        }
                        _ => request,
                    }
                }
            };
            let response = self.within(self.silence(), request.send()).await?;
            let status = response.status();
            let result = match status {
                StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => {
                    return Err(self.refused(response).await);
                }
                StatusCode::FORBIDDEN if self.credentials.is_none() => {
                    return Err(self.refused(response).await);
                }
                StatusCode::NOT_FOUND => return Err(self.protocol("a usable token server")),
                _ => self.accept(response).await,
            };
            match result {
                Err(e) if e.is_transient() => self.pause(&mut failures, e).await?,
                other => break other?,
            }
        };
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let bytes = self.read(response, MAX_ANSWER).await?;
        serde_json::from_slice::<Answer>(&bytes)
            .ok()
            .and_then(|answer| answer.token.or(answer.access_token))
            .filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| self.protocol("a usable token"))
    }

    /// Reads an answer of at most `limit` bytes.
    pub(super) async fn read(
        &self,
        mut response: Response,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.within(self.silence(), response.chunk()).await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(RegistryError::TooLarge {
                    host: self.host.clone(),
                    limit,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Reads what a registry says about an error, fit for a terminal.
    async fn words(&self, response: Response) -> String {
        #[derive(Deserialize)]
        struct Answer {
            errors: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let bytes = self.read(response, MAX_ANSWER).await.unwrap_or_default();
        let text = match serde_json::from_slice::<Answer>(&bytes) {
            Ok(Answer { errors }) => errors
                .iter()
                .map(|e| {
                    if e.message.is_empty() {
                        &*e.code
                    } else {
                        &*e.message
                    }
                })
                .collect::<Vec<_>>()
                .join("; "),
            // A page of HTML is for browsers.
            Err(_) if bytes.trim_ascii_start().starts_with(b"<") => String::new(),
            Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        // The other side must not write to the user's terminal.
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        plain.take(300).collect::<String>().trim().to_owned()
    }

    /// The longest silence that is waited out.
    pub(super) fn silence(&self) -> Duration {
        self.access.backoff.silence
    }

    pub(super) fn protocol(&self, what: &'static str) -> RegistryError {
        RegistryError::Protocol {
            host: self.host.clone(),
            what,
        }
    }

    fn scope(&self, action: Action) -> String {
        let actions = match action {
            _ if self.repository.is_empty() => return String::new(),
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        format!("repository:{}:{actions}", self.repository)
    }

    fn headers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        // Nothing panics while it is held, and a map is whole at any moment.
        self.headers.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn event(&self, event: &Event<'_>) {
        self.progress.event(event);
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(text)
    )
}

/// Encodes fields as a form.
fn query(fields: &[(&str, &str)]) -> String {
    // The URL type does it by the same rules.
    Url::parse_with_params("form:", fields)
        .ok()
        .and_then(|url| url.query().map(str::to_owned))
        .unwrap_or_default()
}

fn client(
    host: &str,
    access: &Access,
    insecure: bool,
    ca: Option<&std::path::Path>,
) -> Result<reqwest::Client, RegistryError> {
    let setup = |source| RegistryError::Setup {
        host: host.to_owned(),
        source,
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("hyperion/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(15))
        .dns_resolver(Dns::default())
        // The environment is the caller's to read.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > 10 {
                attempt.error("too many redirections")
            } else if attempt.url().scheme() != "https" && !insecure {
                attempt.error("redirection from HTTPS to HTTP")
            } else {
                attempt.follow()
            }
        }));
    let except = access
        .proxy
        .except
        .as_deref()
        .and_then(NoProxy::from_string);
    let bad_proxy = |address: &str| RegistryError::Proxy(address.to_owned());
    if let Some(address) = &access.proxy.https {
        let proxy = Proxy::https(address).map_err(|_| bad_proxy(address))?;
        builder = builder.proxy(proxy.no_proxy(except.clone()));
    }
    if let Some(address) = &access.proxy.http {
        let proxy = Proxy::http(address).map_err(|_| bad_proxy(address))?;
        builder = builder.proxy(proxy.no_proxy(except));
    }
    if insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if let Some(path) = ca {
        let pem = std::fs::read(path).map_err(|source| RegistryError::CaFile {
            path: path.to_owned(),
            source,
        })?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(setup)?;
        if certificates.is_empty() {
            return Err(RegistryError::NoCertificate(path.to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(setup)
}
