//! The ways in for fuzzers to what registries and files of credentials say.

use super::{Platform, auth, challenge, manifest};

/// Reads what a registry asks for, a header on each line.
pub fn challenge(headers: &str) {
    let _ = challenge::Challenge::choose(headers.split('\n'));
}

/// Reads a manifest or an index, and chooses from the index.
pub fn manifest(bytes: &[u8], media_type: &str) {
    if let Ok(manifest::Document::Index(index)) = manifest::Document::parse(bytes, media_type) {
        let _ = (index.choose(&Platform::host()), index.platforms());
    }
}

/// Looks credentials up in a file of the `config.json` kind; helpers are not started.
pub fn credentials(bytes: &[u8], registry: &str, repository: &str) {
    auth::fuzz(bytes, registry, repository);
}
