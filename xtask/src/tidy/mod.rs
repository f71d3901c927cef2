//! The rules that the compiler and clippy cannot check.
//!
//! Every rule is a function from text to findings, so that a bad sample in its
//! tests shows that it can fail. Rules never read files themselves.

mod arrows;
mod language;
mod manifest;
mod prose;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::capabilities;
pub(crate) use language::Source;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, relative to the workspace.
    pub(crate) file: PathBuf,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The rule's name, as `tidy-allow` takes it.
    pub(crate) rule: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) fix: String,
    /// Only told, never a failure.
    pub(crate) note: bool,
}

impl Finding {
    pub(crate) fn new(
        file: &Path,
        line: usize,
        rule: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            file: file.to_path_buf(),
            line,
            rule,
            message: message.into(),
            fix: fix.into(),
            note: false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.note { "note" } else { "error" };
        write!(
            f,
            "{}:{}: {kind}[{}]: {}\n    fix: {}",
            self.file.display(),
            self.line,
            self.rule,
            self.message,
            self.fix
        )
    }
}

/// Checks the whole workspace and prints what it finds.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let files = tracked(root)?;
    let mut findings = arrows::check(&arrows::metadata(root)?, root)?;
    let mut sources = Vec::new();
    for file in &files {
        let Some(text) = read(root, file)? else {
            continue;
        };
        match file.extension().and_then(|e| e.to_str()) {
            Some("rs") => {
                let source = Source::new(file, &text);
                findings.extend(source::check(&source));
                sources.push(source);
            }
            Some("md") => findings.extend(prose::links(file, &text, |p| root.join(p).exists())),
            _ => {}
        }
        match file.file_name().and_then(|name| name.to_str()) {
            Some("Cargo.toml") if file.parent() != Some(Path::new("")) => {
                findings.extend(manifest::inherits_lints(file, &text));
            }
            Some("Cargo.lock") => findings.extend(manifest::lock_sources(file, &text)),
            _ => {}
        }
    }
    findings.extend(capabilities::check(root, &sources)?);
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| !finding.note).count();
    let notes = findings.len() - errors;
    println!(
        "tidy: {} files, {errors} errors, {notes} notes",
        files.len()
    );
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The files that git knows or would add, in order.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git is needed to list the files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut files: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The text of a file; none if it is deleted, a link or not text.
fn read(root: &Path, file: &Path) -> Result<Option<String>> {
    let path = root.join(file);
    if !path.symlink_metadata().is_ok_and(|m| m.is_file()) {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8(bytes).ok())
}
