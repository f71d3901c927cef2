//! As much of Rust's grammar as the rules need: what is code, what is a test,
//! and which paths a `use` names.

use std::path::{Path, PathBuf};

/// One Rust file, ready for the rules.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    /// The text as written.
    pub(crate) raw: String,
    /// The text with comments, strings and character literals blanked; as long as `raw`.
    pub(crate) code: String,
    /// For each line from 0, whether it belongs to tests.
    test: Vec<bool>,
}

impl Source {
    pub(crate) fn new(path: &Path, raw: &str) -> Self {
        let code = blank(raw);
        let test = if is_test_file(path) {
            vec![true; code.lines().count()]
        } else {
            test_lines(&code)
        };
        Self {
            path: path.to_path_buf(),
            raw: raw.to_owned(),
            code,
            test,
        }
    }

    /// The crate's folder: `model` of `crates/model/src/lib.rs`, or `xtask`.
    pub(crate) fn krate(&self) -> Option<&str> {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        match parts.next()? {
            "crates" => parts.next(),
            other => Some(other),
        }
    }

    /// The lines of code from 1, those of tests left out.
    pub(crate) fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(line, _)| !self.is_test(*line))
    }

    /// The lines of code that only tests run.
    pub(crate) fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(line, _)| self.is_test(*line))
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }

    fn is_test(&self, line: usize) -> bool {
        self.test.get(line - 1).copied().unwrap_or(false)
    }

    /// Whether `// tidy-allow: RULE (why)` stands on this line or the one above.
    pub(crate) fn allows(&self, line: usize, rule: &str) -> bool {
        let lines: Vec<&str> = self.raw.lines().collect();
        [line, line.saturating_sub(1)]
            .into_iter()
            .filter_map(|number| lines.get(number.checked_sub(1)?))
            .filter_map(|text| text.split_once("// tidy-allow:"))
            .any(|(_, rest)| {
                let (named, why) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
                named == rule && !why.trim().is_empty()
            })
    }

    /// Every path that shipped code names: `use` groups are spread out.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        let mut kept = String::with_capacity(self.code.len());
        for (line, text) in self.lines() {
            if !self.is_test(line) {
                kept.push_str(text);
            }
            kept.push('\n');
        }
        paths(&kept)
    }
}

/// Whether all of a file is for tests, by its place.
fn is_test_file(path: &Path) -> bool {
    path.iter().any(|part| {
        ["tests", "benches", "fuzz", "tests.rs"]
            .iter()
            .any(|t| part == *t)
    })
}

/// Replaces comments, strings and character literals by spaces; keeps line ends.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !in_word(bytes, at) => raw_string_end(bytes, at).unwrap_or(at),
            b'b' | b'c' if !in_word(bytes, at) && bytes.get(at + 1) == Some(&b'r') => {
                raw_string_end(bytes, at + 1).unwrap_or(at)
            }
            b'\'' => char_end(text, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).unwrap_or_default()
}

fn in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes[at..].iter().position(|b| *b == b'\n');
    rest.map_or(bytes.len(), |n| at + n)
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut here) = (0, at);
    while here < bytes.len() {
        if bytes[here..].starts_with(b"/*") {
            depth += 1;
            here += 2;
        } else if bytes[here..].starts_with(b"*/") {
            depth -= 1;
            here += 2;
            if depth == 0 {
                return here;
            }
        } else {
            here += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut here = at + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' => here += 2,
            b'"' => return here + 1,
            _ => here += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let rest = &bytes[open + 1..];
    let found = rest.windows(close.len()).position(|w| w == close);
    Some(found.map_or(bytes.len(), |n| open + 1 + n + close.len()))
}

/// The end of a character literal; none for a lifetime.
fn char_end(text: &str, at: usize) -> Option<usize> {
    let mut rest = text.get(at + 1..)?.char_indices();
    let (_, first) = rest.next()?;
    if first == '\\' {
        let close = text[at + 3..].find('\'')?;
        return Some(at + 3 + close + 1);
    }
    let (next, quote) = rest.next()?;
    (quote == '\'').then_some(at + 1 + next + 1)
}

/// Marks the lines of every item under `#[cfg(test)]` or `#[test]`.
fn test_lines(code: &str) -> Vec<bool> {
    let mut marks = vec![false; code.lines().count()];
    for attribute in ["#[cfg(test)]", "#[test]"] {
        let mut from = 0;
        while let Some(found) = code[from..].find(attribute) {
            let start = from + found;
            let end = item_end(code, start + attribute.len());
            let first = code[..start].matches('\n').count();
            let last = code[..end].matches('\n').count();
            for mark in marks.iter_mut().take(last + 1).skip(first) {
                *mark = true;
            }
            from = end;
        }
    }
    marks
}

/// The end of the item that starts at `from`: its closing brace, or a semicolon before any brace.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Every path `a::b::c` in the code, with the line where it starts; groups spread out.
fn paths(code: &str) -> Vec<(usize, String)> {
    let bytes = code.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'\n' {
            line += 1;
        }
        if !is_word(byte) || byte.is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = line;
        at = path(code, at, &mut line, String::new(), start, &mut found);
    }
    found
}

/// Reads one path from a word on; returns where it ends.
fn path(
    code: &str,
    mut at: usize,
    line: &mut usize,
    prefix: String,
    start: usize,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let bytes = code.as_bytes();
    let mut name = prefix;
    loop {
        let word = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        name.push_str(&code[word..at]);
        let Some(next) = separator(bytes, at) else {
            found.push((start, name));
            return at;
        };
        *line += code[at..next].matches('\n').count();
        at = next;
        name.push_str("::");
        match bytes.get(at) {
            Some(b'{') => return group(code, at + 1, line, &name, found),
            Some(byte) if is_word(*byte) => {}
            _ => {
                // A glob, or the generics of a call.
                found.push((start, format!("{name}*")));
                return at;
            }
        }
    }
}

fn group(
    code: &str,
    mut at: usize,
    line: &mut usize,
    prefix: &str,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let bytes = code.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'}' => return at + 1,
            b'\n' => {
                *line += 1;
                at += 1;
            }
            byte if is_word(byte) => {
                let start = *line;
                at = path(code, at, line, prefix.to_owned(), start, found);
            }
            b'*' => {
                found.push((*line, format!("{prefix}*")));
                at += 1;
            }
            _ => at += 1,
        }
    }
    at
}

/// The place after `::`, which may stand on a line of its own.
fn separator(bytes: &[u8], at: usize) -> Option<usize> {
    let skip = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let colon = skip(at);
    bytes[colon.min(bytes.len())..]
        .starts_with(b"::")
        .then(|| skip(colon + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str) -> Vec<String> {
        Source::new(Path::new("crates/x/src/a.rs"), code)
            .paths()
            .into_iter()
            .map(|(_, name)| name)
            .collect()
    }

    #[test]
    fn comments_strings_and_characters_are_no_code() {
        let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j\" k\"# l 'm' '\\n' b\"o\" br\"p\" '\"' q";
        let words: Vec<String> = blank(text).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["a", "e", "i", "l", "b", "q"]);
        assert_eq!(blank(text).len(), text.len());
    }

    #[test]
    fn a_lifetime_is_no_character() {
        let text = "fn f<'a>(x: &'a str) -> &'static str { x }";
        assert_eq!(blank(text), text);
    }

    #[test]
    fn text_beyond_ascii_survives() {
        let text = "let a = 'é'; // ü\nlet b = \"→\";";
        assert!(blank(text).contains("let b ="));
    }

    #[test]
    fn groups_of_a_use_are_spread_out() {
        let found = names("use std::{collections::{BTreeMap, HashMap}, fs, io::*};\n");
        for name in [
            "std::collections::BTreeMap",
            "std::collections::HashMap",
            "std::fs",
            "std::io::*",
        ] {
            assert!(found.iter().any(|n| n == name), "{name} in {found:?}");
        }
    }

    #[test]
    fn a_path_over_lines_is_one_path() {
        assert!(names("std\n  ::fs\n  ::read").contains(&"std::fs::read".to_owned()));
        let source = Source::new(Path::new("a.rs"), "\n\nuse std::{\n  fs,\n  net,\n};");
        let lines: Vec<usize> = source
            .paths()
            .iter()
            .filter(|(_, n)| n.starts_with("std"))
            .map(|(l, _)| *l)
            .collect();
        assert_eq!(lines, [4, 5]);
    }

    #[test]
    fn test_modules_and_test_files_are_told_apart() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n";
        let source = Source::new(Path::new("crates/x/src/a.rs"), text);
        let shipped: Vec<usize> = source.shipped_lines().map(|(line, _)| line).collect();
        assert_eq!(shipped, [1, 6, 9]);
        let file = Source::new(Path::new("crates/x/tests/a.rs"), text);
        assert_eq!(file.shipped_lines().count(), 0);
    }

    #[test]
    fn an_exception_needs_its_rule_and_a_reason() {
        let text =
            "// tidy-allow: output (the init has no other way)\nx\n// tidy-allow: output\ny\n";
        let source = Source::new(Path::new("a.rs"), text);
        assert!(source.allows(2, "output"));
        assert!(!source.allows(2, "purity"));
        assert!(!source.allows(4, "output"));
    }
}
