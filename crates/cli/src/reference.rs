//! The reference of the command line, `docs/reference/cli.md`, as a test of the words.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};

const HEAD: &str = "\
# The command line

Every verb and every flag, as `hyperion VERB --help` prints them. Flags of all verbs:

";

#[test]
fn the_reference_says_what_the_help_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    let text = render();
    if std::env::var_os("HYPERION_UPDATE").is_some() {
        std::fs::write(&file, &text).expect("written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == text,
        "docs/reference/cli.md is not what the help says; write it anew with\n  \
         HYPERION_UPDATE=1 cargo test -p hyperion-cli --bin hyperion reference"
    );
}

fn render() -> String {
    let mut root = crate::args::Cli::command().term_width(100);
    root.build();
    let mut text = HEAD.to_owned();
    let help = root.render_long_help().to_string();
    block(&mut text, global(&help).1);
    describe(&mut text, &mut root, 2);
    text
}

/// Writes the help of a command and of those below it.
fn describe(text: &mut String, command: &mut Command, level: usize) {
    let name = command.get_bin_name().unwrap_or("hyperion").to_owned();
    let _ = write!(text, "\n{} {name}\n\n", "#".repeat(level));
    let help = command.render_long_help().to_string();
    block(text, global(&help).0.trim_end());
    for below in command.get_subcommands_mut() {
        if below.get_name() != "help" && !below.is_hide_set() {
            describe(
                text,
                below,
                level.max(2) + usize::from(level > 2 || name != "hyperion"),
            );
        }
    }
}

fn block(text: &mut String, content: &str) {
    text.push_str("```text\n");
    for line in content.trim_matches('\n').lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("```\n");
}

/// Parts a help into what is the verb's own and the flags of all verbs, which
/// may stand before the verb's last words.
fn global(help: &str) -> (String, &str) {
    let Some((before, after)) = help.split_once("Global options:\n") else {
        return (help.to_owned(), "");
    };
    let end = after
        .match_indices("\n\n")
        .find(|(at, _)| !after[at + 2..].starts_with(' '));
    let (flags, last) = after.split_at(end.map_or(after.len(), |(at, _)| at));
    (format!("{}{last}", before.trim_end()), flags)
}

/// Every `hyperion …` line of code in a document, a command a line.
fn commands_of(document: &str) -> Vec<String> {
    let joined = document.replace("\\\n", " ");
    let code = joined.lines().scan(false, |fenced, line| {
        if line.trim_start().starts_with("```") {
            *fenced = !*fenced;
        }
        Some((*fenced || line.starts_with("    ")).then(|| line.trim()))
    });
    code.flatten()
        .map(|line| line.trim_start_matches(['$', '#', ' ']))
        .filter(|line| line.starts_with("hyperion ") && !line.contains(['…', '<']))
        .map(str::to_owned)
        .collect()
}

/// Parts a line into words as a shell does, up to what is another command's.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | ';' | '&' | '>') => break,
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_in_the_documents_can_be_written_so() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders = vec![top.join("docs"), top.join("examples")];
    let mut files = vec![top.join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ if entry.path().extension().is_some_and(|e| e == "md") => {
                    files.push(entry.path());
                }
                _ => {}
            }
        }
    }
    let mut parsed = 0;
    for file in files.iter().filter(|f| !f.ends_with("reference/cli.md")) {
        let text = std::fs::read_to_string(file).expect("a document");
        for line in commands_of(&text) {
            match crate::args::Cli::command().try_get_matches_from(shell_words(&line)) {
                Ok(_) => parsed += 1,
                Err(e) if !e.use_stderr() => {}
                Err(e) => panic!("{}: `{line}`\n{e}", file.display()),
            }
        }
    }
    assert!(parsed > 80, "only {parsed} commands were found");
}
