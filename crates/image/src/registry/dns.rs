//! Names of hosts, resolved without the C library.
//!
//! The binary is static, and a static C library loads the host's name-service
//! modules at run time, which crash when they are of another version.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// A name could not be resolved.
#[derive(Debug, Clone, Error)]
#[error("the name {name} cannot be resolved: {said}")]
pub struct ResolveError {
    name: String,
    /// What the resolver said.
    said: String,
}

impl ResolveError {
    fn new(name: &str, error: &NetError) -> Self {
        let said = match error.is_no_records_found() {
            // Its own words hold the whole question, as the library keeps it.
            true => "no name server has an address for it".to_owned(),
            false => error.to_string(),
        };
        let name = name.to_owned();
        Self { name, said }
    }
}

/// Looks names up in /etc/hosts and at the servers of /etc/resolv.conf.
#[derive(Debug, Default, Clone)]
pub(super) struct Dns(std::sync::Arc<OnceLock<TokioResolver>>);

impl Resolve for Dns {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let fail = |error: NetError| ResolveError::new(name.as_str(), &error);
            let resolver = match this.0.get() {
                Some(resolver) => resolver,
                None => {
                    let made = build().map_err(fail)?;
                    this.0.get_or_init(|| made)
                }
            };
            let found = resolver.lookup_ip(name.as_str()).await.map_err(fail)?;
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn build() -> Result<TokioResolver, NetError> {
    // Without /etc/resolv.conf only /etc/hosts counts: a name is never sent to
    // servers that the host's owner has not chosen.
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        TokioResolver::builder_with_config(none, TokioRuntimeProvider::default())
    });
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = options.timeout.min(Duration::from_secs(5));
    builder.build()
}
