//! Which crate may use which: the table of DESIGN and ARCHITECTURE, as code.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::Finding;

const RULE: &str = "arrows";

/// Where a crate stands; arrows go down only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ring {
    Pure,
    Edge,
    Top,
    Dev,
}

/// The house: crate, ring, the workspace crates that it may use.
const HOUSE: &[(&str, Ring, &[&str])] = &[
    ("model", Ring::Pure, &[]),
    ("sched", Ring::Pure, &["model"]),
    ("lifecycle", Ring::Pure, &["model", "sched"]),
    ("mpi", Ring::Pure, &["model"]),
    ("formats", Ring::Pure, &["model"]),
    ("sim", Ring::Pure, &["lifecycle", "sched", "model"]),
    ("advise", Ring::Pure, &["model"]),
    ("sys", Ring::Edge, &["model"]),
    ("image", Ring::Edge, &["model", "sys"]),
    ("isolation", Ring::Edge, &["model", "sys", "image"]),
    ("net", Ring::Edge, &["model", "sys"]),
    ("storage", Ring::Edge, &["model", "sys"]),
    ("api", Ring::Edge, &["model"]),
    ("engine", Ring::Edge, &["model", "api"]),
    // Not `image`: the caller hands a root file system to the node.
    (
        "node",
        Ring::Edge,
        &["model", "sys", "isolation", "mpi", "net", "storage"],
    ),
    (
        "server",
        Ring::Edge,
        &["lifecycle", "sched", "engine", "api", "model"],
    ),
    (
        "cli",
        Ring::Top,
        &[
            "model",
            "sched",
            "lifecycle",
            "mpi",
            "formats",
            "sim",
            "advise",
            "sys",
            "image",
            "isolation",
            "net",
            "storage",
            "api",
            "engine",
            "node",
            "server",
        ],
    ),
    ("testkit", Ring::Dev, &[]),
    (
        "fuzz",
        Ring::Dev,
        &[
            "model",
            "mpi",
            "formats",
            "sys",
            "image",
            "isolation",
            "node",
            "sim",
        ],
    ),
    ("xtask", Ring::Dev, &["model", "testkit"]),
];

/// What the pure ring may take from outside: no clock, file, socket, thread or randomness of its own.
const PURE_LIBRARIES: &[&str] = &[
    "serde",
    "serde_json",
    "thiserror",
    "object",
    "strsim",
    "smallvec",
    "itoa",
    "toml",
    "quick-xml",
    "serde-saphyr",
    "rand_chacha",
    "rand_distr",
    "libm",
    "sha2",
    "postcard",
];

/// Whether a crate belongs to the pure ring.
pub(super) fn is_pure(krate: &str) -> bool {
    HOUSE
        .iter()
        .any(|(name, ring, _)| *name == krate && *ring == Ring::Pure)
}

/// What `cargo metadata` says of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// None for what ships, else `dev` or `build`.
    kind: Option<String>,
    /// Set for crates of the workspace.
    path: Option<PathBuf>,
}

/// Asks cargo, without the network.
pub(super) fn metadata(root: &Path) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

/// Checks the arrows between the crates and the libraries of the pure ring.
pub(super) fn check(metadata: &Metadata, root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let text = std::fs::read_to_string(&package.manifest_path).unwrap_or_default();
        let file = package
            .manifest_path
            .strip_prefix(root)
            .unwrap_or(&package.manifest_path);
        let folder = file.parent().and_then(Path::file_name);
        let folder = folder.and_then(|name| name.to_str()).unwrap_or_default();
        findings.extend(package.check(file, folder, &text));
    }
    Ok(findings)
}

impl Package {
    fn check(&self, file: &Path, folder: &str, manifest: &str) -> Vec<Finding> {
        let finding = |line: usize, message: String, fix: String| {
            Finding::new(file, line, RULE, message, fix)
        };
        let Some((name, ring, allowed)) = HOUSE.iter().find(|(name, ..)| *name == folder) else {
            let fix = "use a crate of the table in ARCHITECTURE.md, or add a row there and in xtask/src/tidy/arrows.rs";
            return vec![finding(
                1,
                format!("the house has no crate `{folder}`"),
                fix.into(),
            )];
        };
        let mut findings = Vec::new();
        let package = if *name == "xtask" {
            (*name).to_owned()
        } else {
            format!("hyperion-{name}")
        };
        if self.name != package {
            findings.push(finding(
                line_of(manifest, "name"),
                format!(
                    "the package in {} is called `{}`",
                    file.display(),
                    self.name
                ),
                format!("call it `{package}`"),
            ));
        }
        for dependency in &self.dependencies {
            let line = line_of(manifest, &dependency.name);
            let dev = dependency.kind.as_deref() == Some("dev");
            if dependency.path.is_none() {
                let pure = *ring != Ring::Pure || dev;
                if !pure && !PURE_LIBRARIES.contains(&dependency.name.as_str()) {
                    findings.push(finding(
                        line,
                        format!("`{name}` is of the pure ring and may not use `{}`", dependency.name),
                        "do it in an edge crate and pass the result in; or, if the library has no clock, file, socket, thread or randomness, list it in PURE_LIBRARIES of xtask/src/tidy/arrows.rs".into(),
                    ));
                }
                continue;
            }
            let short = dependency
                .name
                .strip_prefix("hyperion-")
                .unwrap_or(&dependency.name);
            let gate = dev && short == "testkit";
            if !gate && !allowed.contains(&short) {
                let list = if allowed.is_empty() {
                    "no crate of the workspace".into()
                } else {
                    allowed.join(", ")
                };
                findings.push(finding(
                    line,
                    format!("`{name}` may not use `{short}`"),
                    format!("`{name}` may use {list}; move the code down or pass the value in from above"),
                ));
            }
        }
        findings
    }
}

/// The line of a manifest that begins with this key.
fn line_of(manifest: &str, key: &str) -> usize {
    let starts = |line: &str| {
        line.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    manifest.lines().position(starts).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, dependencies: &[(&str, Option<&str>)]) -> Vec<Finding> {
        let name = if folder == "xtask" {
            folder.to_owned()
        } else {
            format!("hyperion-{folder}")
        };
        let manifest: String = dependencies
            .iter()
            .map(|(name, _)| format!("{name}.workspace = true\n"))
            .collect();
        let package = Package {
            name,
            manifest_path: PathBuf::new(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).into(),
                    kind: kind.map(Into::into),
                    path: name.starts_with("hyperion-").then(PathBuf::new),
                })
                .collect(),
        };
        let file = format!("crates/{folder}/Cargo.toml");
        package.check(Path::new(&file), folder, &manifest)
    }

    #[test]
    fn an_arrow_that_goes_up_is_refused_with_its_line() {
        let found = package("sys", &[("hyperion-model", None), ("hyperion-image", None)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 2);
        assert!(found[0].message.contains("`sys` may not use `image`"));
    }

    #[test]
    fn the_node_may_not_use_images() {
        assert_eq!(package("node", &[("hyperion-image", None)]).len(), 1);
        assert!(package("node", &[("hyperion-isolation", None), ("rustix", None)]).is_empty());
    }

    #[test]
    fn engines_and_isolations_never_see_each_other() {
        assert_eq!(package("engine", &[("hyperion-isolation", None)]).len(), 1);
        assert_eq!(package("isolation", &[("hyperion-engine", None)]).len(), 1);
    }

    #[test]
    fn a_pure_crate_takes_only_listed_libraries() {
        let found = package(
            "mpi",
            &[("serde", None), ("tokio", None), ("proptest", Some("dev"))],
        );
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("may not use `tokio`"));
        assert!(package("image", &[("tokio", None)]).is_empty());
    }

    #[test]
    fn the_testkit_is_for_tests_only() {
        assert!(package("model", &[("hyperion-testkit", Some("dev"))]).is_empty());
        assert_eq!(package("image", &[("hyperion-testkit", None)]).len(), 1);
    }

    #[test]
    fn a_crate_beyond_the_house_is_refused() {
        assert_eq!(package("utils", &[]).len(), 1);
    }

    #[test]
    fn a_crate_of_the_wrong_name_is_refused() {
        let package = Package {
            name: "model".into(),
            manifest_path: PathBuf::new(),
            dependencies: vec![],
        };
        assert_eq!(
            package
                .check(Path::new("crates/model/Cargo.toml"), "model", "")
                .len(),
            1
        );
    }

    #[test]
    fn no_arrow_of_the_table_goes_up() {
        let place = |name: &str| {
            HOUSE
                .iter()
                .find(|(n, ..)| *n == name)
                .map(|(_, ring, _)| *ring)
        };
        for (name, ring, allowed) in HOUSE {
            for used in *allowed {
                let used = place(used).unwrap_or_else(|| panic!("{name} uses unknown {used}"));
                assert!(used != Ring::Dev || *ring == Ring::Dev, "{name}");
                assert!(*ring != Ring::Pure || used == Ring::Pure, "{name}");
            }
        }
    }
}
