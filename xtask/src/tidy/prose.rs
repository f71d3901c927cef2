//! Rules on the documents.

use std::path::{Component, Path, PathBuf};

use super::Finding;

/// Every relative link of a document leads to a file.
pub(super) fn links(file: &Path, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if path.is_empty() || elsewhere {
                continue;
            }
            let folder = file.parent().unwrap_or(Path::new(""));
            if !exists(&normal(&folder.join(path))) {
                findings.push(Finding::new(
                    file,
                    at + 1,
                    "links",
                    format!("the link to {path} leads nowhere"),
                    "name a file of the repository, relative to this document",
                ));
            }
        }
    }
    findings
}

/// The targets of `[text](target)` in one line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let exists = |path: &Path| path == Path::new("docs/a.md");
        let text = "[a](a.md) [b](../docs/a.md#part) [c](https://example.org)\n[d](#here)\n[e](gone.md)\n```\n[f](code.md)\n```\n";
        let found = links(Path::new("docs/README.md"), text, exists);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 3);
    }
}
