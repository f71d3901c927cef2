//! Rules on one Rust file.

use super::arrows::is_pure;
use super::{Finding, Source};

/// Lines of code, tests not counted, above which a file is listed.
const LONG: usize = 700;

/// Crates that may print and read the environment.
const SPEAKING: &[&str] = &["cli", "xtask", "testkit"];

/// The only home of `unsafe`.
const UNSAFE_HOME: &str = "sys";

/// Paths that bring a clock, file, socket, process, thread or randomness into a pure crate.
const IMPURE_PATHS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "tokio",
    "rustix",
    "libc",
    "rand::rng",
    "rand::random",
    "rand::thread_rng",
];

/// The same as single words, however they were imported.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("Instant", "take the time as an argument"),
    ("SystemTime", "take the time as an argument"),
    ("thread_rng", "take a seeded stream as an argument"),
    (
        "HashMap",
        "use BTreeMap: its order is the same in every run",
    ),
    (
        "HashSet",
        "use BTreeSet: its order is the same in every run",
    ),
    ("RandomState", "use an ordered collection"),
];

const PRINTING: &[&str] = &["println", "eprintln", "print", "eprint", "dbg"];

/// All rules on one file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let krate = source.krate().unwrap_or_default();
    let mut findings = Vec::new();
    findings.extend(opening_words(source));
    findings.extend(length(source));
    if krate != UNSAFE_HOME {
        findings.extend(outside_sys(source));
    }
    if is_pure(krate) {
        findings.extend(purity(source));
    }
    if !SPEAKING.contains(&krate) && source.path.starts_with("crates") {
        findings.extend(speech(source));
    }
    findings.retain(|finding| !source.allows(finding.line, finding.rule));
    findings
}

fn opening_words(source: &Source) -> Option<Finding> {
    let name = source.path.file_name()?.to_str()?;
    let opens = ["lib.rs", "main.rs", "mod.rs"].contains(&name);
    // `tests/common/mod.rs` and the like hold nothing that others read first.
    let shipped = source.path.iter().any(|part| part == "src");
    let said = source
        .raw
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["))
        .is_some_and(|line| line.starts_with("//! "));
    (opens && shipped && !said).then(|| {
        Finding::new(
            &source.path,
            1,
            "opening",
            "the file does not open with what it holds",
            "begin with `//! What it holds, and what it refuses.`",
        )
    })
}

fn length(source: &Source) -> Option<Finding> {
    let lines = source.shipped_lines().count();
    (lines > LONG).then(|| {
        let mut finding = Finding::new(
            &source.path,
            LONG + 1,
            "length",
            format!("{lines} lines without tests"),
            "look twice: one idea a file",
        );
        finding.note = true;
        finding
    })
}

fn outside_sys(source: &Source) -> Vec<Finding> {
    words(source, true, |word| {
        word == "unsafe" || word == "unsafe_code"
    })
    .map(|(line, _)| {
        Finding::new(
            &source.path,
            line,
            "unsafe",
            "`unsafe` outside crates/sys",
            "put a safe function into hyperion-sys and call it",
        )
    })
    .collect()
}

fn purity(source: &Source) -> Vec<Finding> {
    let mut findings: Vec<Finding> = source
        .paths()
        .into_iter()
        .filter_map(|(line, path)| {
            let hit = IMPURE_PATHS.iter().find(|p| is_prefix(p, &path))?;
            Some(Finding::new(
                &source.path,
                line,
                "purity",
                format!("`{hit}` in the pure ring"),
                "do it in an edge crate and pass the result in",
            ))
        })
        .collect();
    for (line, word) in words(source, false, |word| {
        IMPURE_WORDS.iter().any(|(w, _)| *w == word)
    }) {
        let fix = IMPURE_WORDS.iter().find(|(w, _)| *w == word);
        findings.push(Finding::new(
            &source.path,
            line,
            "purity",
            format!("`{word}` in the pure ring"),
            fix.map_or("", |(_, fix)| fix),
        ));
    }
    findings
}

fn speech(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.shipped_lines() {
        for (at, word) in words_of(line) {
            if PRINTING.contains(&word) && line[at + word.len()..].starts_with('!') {
                findings.push(Finding::new(
                    &source.path,
                    number,
                    "output",
                    format!("a library prints with `{word}!`"),
                    "return the words, or take a callback or a writer; only the command line prints",
                ));
            }
        }
    }
    for (line, path) in source.paths() {
        let hit = [
            "std::env",
            "std::io::stdout",
            "std::io::stderr",
            "std::io::stdin",
        ]
        .into_iter()
        .find(|p| is_prefix(p, &path));
        if let Some(hit) = hit {
            let (rule, fix) = if hit == "std::env" {
                (
                    "environment",
                    "take the value as an argument; only the command line reads the environment",
                )
            } else {
                ("output", "take a reader or writer as an argument")
            };
            findings.push(Finding::new(
                &source.path,
                line,
                rule,
                format!("a library uses `{hit}`"),
                fix,
            ));
        }
    }
    findings
}

fn is_prefix(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The words of the code that `wanted` picks, with their lines.
fn words<'a>(
    source: &'a Source,
    with_tests: bool,
    wanted: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (usize, &'a str)> {
    let tests = with_tests.then(|| source.test_lines());
    source
        .shipped_lines()
        .chain(tests.into_iter().flatten())
        .flat_map(|(number, line)| words_of(line).map(move |(_, word)| (number, word)))
        .filter(move |(_, word)| wanted(word))
}

/// The identifiers of one line, each with its place.
fn words_of(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.split(move |c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rules(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        check(&Source::new(Path::new(path), text))
            .into_iter()
            .map(|finding| (finding.rule, finding.line))
            .collect()
    }

    #[test]
    fn impure_code_in_the_pure_ring_is_found() {
        for sample in [
            "use std::fs;",
            "use std::{net::TcpStream, fmt};",
            "fn f() { std::process::exit(1) }",
            "fn f() { let _ = std::env::var(x); }",
            "use std::thread;",
            "fn now() -> Instant { x }",
            "use std::time::SystemTime;",
            "use std::collections::HashMap;",
            "struct S { m: HashSet<u8> }",
            "async fn f() { tokio::spawn(x); }",
            "fn f() { rand::thread_rng(); }",
            "fn f() { rand::random(); }",
        ] {
            assert!(
                rules("crates/model/src/a.rs", sample).contains(&("purity", 1)),
                "{sample}"
            );
            let edge = rules("crates/image/src/a.rs", sample);
            assert!(!edge.iter().any(|(rule, _)| *rule == "purity"), "{sample}");
        }
    }

    #[test]
    fn pure_code_words_in_comments_and_tests_pass() {
        let text = "use std::time::Duration;\nuse std::collections::BTreeMap;\n// HashMap is not used\n#[cfg(test)]\nmod tests { use std::collections::HashMap; }\n";
        assert!(rules("crates/model/src/a.rs", text).is_empty());
    }

    #[test]
    fn unsafe_code_is_found_outside_sys_even_in_tests() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(rules("crates/image/src/a.rs", text), [("unsafe", 1)]);
        assert_eq!(rules("crates/image/tests/a.rs", text), [("unsafe", 1)]);
        assert_eq!(
            rules("crates/image/src/a.rs", "#![allow(unsafe_code)]"),
            [("unsafe", 1)]
        );
        assert!(rules("crates/sys/src/a.rs", text).is_empty());
    }

    #[test]
    fn a_library_that_prints_or_reads_the_environment_is_found() {
        for (sample, rule) in [
            ("fn f() { println!(x); }", "output"),
            ("fn f() { eprint!(x); }", "output"),
            ("fn f() { std::io::stdout(); }", "output"),
            ("use std::{env, fmt};", "environment"),
            ("fn f() { std::env::var_os(x); }", "environment"),
        ] {
            assert_eq!(
                rules("crates/node/src/a.rs", sample),
                [(rule, 1)],
                "{sample}"
            );
            assert!(rules("crates/cli/src/a.rs", sample).is_empty());
            assert!(rules("crates/node/tests/a.rs", sample).is_empty());
        }
        assert!(rules("crates/node/src/a.rs", "fn print(x: u8) { write!(y) }").is_empty());
        assert!(rules("crates/node/src/a.rs", "const V: &str = env!(\"X\");").is_empty());
    }

    #[test]
    fn an_exception_with_a_reason_passes() {
        let text =
            "// tidy-allow: environment (the kernel hands the init its words here)\nuse std::env;";
        assert!(rules("crates/node/src/a.rs", text).is_empty());
    }

    #[test]
    fn a_crate_that_does_not_say_what_it_holds_is_found() {
        assert_eq!(
            rules("crates/net/src/lib.rs", "pub mod a;"),
            [("opening", 1)]
        );
        assert_eq!(
            rules("crates/net/src/x/mod.rs", "\n// no\n"),
            [("opening", 1)]
        );
        assert!(rules("crates/net/src/lib.rs", "//! Networks.\npub mod a;").is_empty());
        assert!(rules("crates/net/src/a.rs", "fn a() {}").is_empty());
    }

    #[test]
    fn a_long_file_is_listed_and_tests_do_not_count() {
        let code = "fn a() {}\n".repeat(LONG + 1);
        let found = check(&Source::new(Path::new("crates/net/src/a.rs"), &code));
        assert!(found.len() == 1 && found[0].note, "{found:?}");
        let tests = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert!(rules("crates/net/src/a.rs", &tests).is_empty());
    }
}
