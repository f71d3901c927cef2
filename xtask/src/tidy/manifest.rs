//! Rules on manifests and the lock file.

use std::path::Path;

use super::Finding;

/// The only source of libraries; another name here would be some machine's mirror.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The crate whose lints differ, because `unsafe` lives there.
const OWN_LINTS: &str = "crates/sys/Cargo.toml";

/// Every crate takes the workspace's lints.
pub(super) fn inherits_lints(file: &Path, text: &str) -> Option<Finding> {
    let manifest: toml::Table = text.parse().ok()?;
    let inherits = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .is_some_and(|value| value.as_bool() == Some(true));
    (!inherits && file != Path::new(OWN_LINTS)).then(|| {
        Finding::new(
            file,
            1,
            "lints",
            "the crate has lints of its own",
            "write `[lints]` and `workspace = true`",
        )
    })
}

/// Every locked library comes from the public registry.
pub(super) fn lock_sources(file: &Path, text: &str) -> Vec<Finding> {
    let sources = text.lines().enumerate().filter_map(|(at, line)| {
        let source = line.strip_prefix("source = \"")?.strip_suffix('"')?;
        Some((at + 1, source))
    });
    sources
        .filter(|(_, source)| *source != SOURCE)
        .map(|(line, source)| {
            Finding::new(
                file,
                line,
                "sources",
                format!("a library comes from {source}"),
                "take it from crates.io; without a mirror's name in the lock file",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_the_lints_of_the_workspace_is_found() {
        let file = Path::new("crates/net/Cargo.toml");
        assert!(inherits_lints(file, "[package]\nname = \"x\"\n").is_some());
        assert!(inherits_lints(file, "[lints]\nworkspace = true\n").is_none());
        assert!(inherits_lints(Path::new(OWN_LINTS), "").is_none());
    }

    #[test]
    fn a_library_from_elsewhere_is_found() {
        let good = format!("name = \"a\"\nsource = \"{SOURCE}\"\n");
        assert!(lock_sources(Path::new("Cargo.lock"), &good).is_empty());
        let bad = format!("{good}source = \"registry+https://mirror.example/index\"\n");
        let found = lock_sources(Path::new("Cargo.lock"), &bad);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 3);
    }
}
