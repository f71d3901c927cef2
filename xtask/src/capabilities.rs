//! What works, from one list: `docs/capabilities.toml`.
//!
//! The README's table is generated from it, and a row is `real` only while the
//! test that it names exists.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::tidy::{Finding, Source};

const LIST: &str = "docs/capabilities.toml";
const README: &str = "README.md";
const BEGIN: &str = "<!-- what works: written by `cargo xtask readme-table` -->";
const END: &str = "<!-- end of what works -->";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    row: Vec<Row>,
}

/// One thing that Hyperion does or will do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Its ids in the list of requirements.
    id: Vec<String>,
    what: String,
    status: Status,
    /// For `emulated`: what stands in for the real thing. For any: what is left out.
    #[serde(default)]
    note: String,
    /// `CRATE::test_function` for each test that shows it.
    #[serde(default)]
    tests: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Real,
    Emulated,
    Planned,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Emulated => "emulated",
            Self::Planned => "planned",
        }
    }
}

/// Checks the list against the tests of the workspace and the README against the list.
pub(crate) fn check(root: &Path, sources: &[Source]) -> Result<Vec<Finding>> {
    let text = std::fs::read_to_string(root.join(LIST)).with_context(|| LIST)?;
    let readme = std::fs::read_to_string(root.join(README)).with_context(|| README)?;
    let list: List = toml::from_str(&text).with_context(|| LIST)?;
    let mut findings = missing_tests(&list, &text, sources);
    let fresh = with_table(&readme, &list)?;
    if fresh != readme {
        findings.push(Finding::new(
            Path::new(README),
            line_of(&readme, BEGIN),
            "capabilities",
            format!("the table of what works differs from {LIST}"),
            "run `cargo xtask readme-table`",
        ));
    }
    Ok(findings)
}

/// Writes the table into the README.
pub(crate) fn write_readme(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join(LIST)).with_context(|| LIST)?;
    let list: List = toml::from_str(&text).with_context(|| LIST)?;
    let path = root.join(README);
    let readme = std::fs::read_to_string(&path).with_context(|| README)?;
    std::fs::write(&path, with_table(&readme, &list)?).with_context(|| README)
}

fn missing_tests(list: &List, text: &str, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |row: &Row, message: String, fix: &str| {
        let line = line_of(text, &format!("what = \"{}\"", row.what));
        findings.push(Finding::new(
            Path::new(LIST),
            line,
            "capabilities",
            message,
            fix,
        ));
    };
    for row in &list.row {
        if row.status != Status::Planned && row.tests.is_empty() {
            report(
                row,
                format!("`{}` is {} and names no test", row.what, row.status.word()),
                "name the tests that show it, or call it planned",
            );
        }
        for test in &row.tests {
            let found = test.split_once("::").is_some_and(|(krate, function)| {
                sources
                    .iter()
                    .filter(|source| source.krate() == Some(krate))
                    .any(|source| has_test(source, function))
            });
            if !found {
                report(
                    row,
                    format!(
                        "`{}` names the test `{test}`, which does not exist",
                        row.what
                    ),
                    "write CRATE::function of a test in the sources",
                );
            }
        }
    }
    findings
}

fn has_test(source: &Source, function: &str) -> bool {
    let start = format!("fn {function}(");
    source.test_lines().any(|(_, line)| line.contains(&start))
}

/// The README with a fresh table between its marks.
fn with_table(readme: &str, list: &List) -> Result<String> {
    let parts = readme
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        bail!("{README} lacks the marks `{BEGIN}` and `{END}`");
    };
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", table(list)))
}

fn table(list: &List) -> String {
    let mut out = String::from("| what | rows | status |\n|---|---|---|\n");
    for row in &list.row {
        let note = if row.note.is_empty() {
            String::new()
        } else {
            format!(": {}", row.note)
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | **{}**{note} |",
            row.what,
            row.id.join(", "),
            row.status.word()
        );
    }
    out
}

fn line_of(text: &str, part: &str) -> usize {
    text.lines()
        .position(|line| line.contains(part))
        .map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
[[row]]
id = ["J1"]
what = "hello"
status = "real"
tests = ["cli::hello_says_hello"]

[[row]]
id = ["V1"]
what = "machines"
status = "planned"
"#;

    fn list(text: &str) -> List {
        toml::from_str(text).expect("a good sample")
    }

    fn found(text: &str, path: &str, source: &str) -> usize {
        let sources = [Source::new(Path::new(path), source)];
        missing_tests(&list(text), text, &sources).len()
    }

    #[test]
    fn a_real_row_needs_a_test_that_exists_in_its_crate() {
        let test = "#[test]\nfn hello_says_hello() {}\n";
        assert_eq!(found(SAMPLE, "crates/cli/tests/a.rs", test), 0);
        assert_eq!(found(SAMPLE, "crates/cli/src/a.rs", test), 0);
        assert_eq!(found(SAMPLE, "crates/mpi/src/a.rs", test), 1);
        assert_eq!(
            found(SAMPLE, "crates/cli/src/a.rs", "fn hello_says_hello() {}"),
            1
        );
    }

    #[test]
    fn a_real_row_without_a_test_is_found() {
        let text = SAMPLE.replace("tests = [\"cli::hello_says_hello\"]", "");
        assert_eq!(found(&text, "crates/cli/src/a.rs", ""), 1);
    }

    #[test]
    fn the_table_replaces_what_stood_between_the_marks() {
        let readme = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let fresh = with_table(&readme, &list(SAMPLE)).expect("marks are there");
        assert!(fresh.contains("| hello | J1 | **real** |"));
        assert!(!fresh.contains("old"));
        assert_eq!(with_table(&fresh, &list(SAMPLE)).expect("marks"), fresh);
        assert!(with_table("no marks", &list(SAMPLE)).is_err());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<List>(&SAMPLE.replace("id =", "ids =")).is_err());
    }
}
