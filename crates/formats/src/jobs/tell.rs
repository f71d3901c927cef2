//! Remarks for a terminal.

use std::fmt::Write as _;

use super::{Origin, Remark};

/// What a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is submitted.
    Error,
    /// The job runs.
    Note,
}

/// The most characters of a line that are shown.
const WIDTH: usize = 100;

/// Writes remarks, each with the line that it is about and a mark under it.
/// `name` is what the script is called; nothing of either can move the cursor.
pub fn tell(remarks: &[Remark], kind: Kind, name: &str, script: &[u8], words: &[String]) -> String {
    let mut out = String::new();
    let kind = match kind {
        Kind::Error => "error",
        Kind::Note => "note",
    };
    let lines: Vec<&[u8]> = match remarks.is_empty() {
        true => Vec::new(),
        false => script.split(|&b| b == b'\n').collect(),
    };
    for remark in remarks {
        let span = &remark.span;
        let number = (span.place.line as usize).saturating_sub(1);
        let (place, line) = match &span.origin {
            Origin::Script => (
                format!("{}:{}:{}", clean(name), span.place.line, span.place.column),
                lines.get(number).map(|line| {
                    let shown = line.get(..super::LONGEST_LINE).unwrap_or(line);
                    String::from_utf8_lossy(shown)
                }),
            ),
            Origin::Variable(variable) => (format!("${}", clean(variable)), None),
            Origin::Words => (
                "command line".to_owned(),
                words.get(number).map(|word| word.as_str().into()),
            ),
        };
        let _ = writeln!(out, "{kind}: {place}: {}", clean(&remark.what));
        if let Some(line) = line {
            let column = (span.place.column as usize).saturating_sub(1);
            // A window of a long line, so that the mark is in it.
            let skipped = column.saturating_sub(WIDTH / 2).min(column);
            let skipped = if column < WIDTH * 3 / 4 { 0 } else { skipped };
            let shown: String = line
                .chars()
                .skip(skipped)
                .take(WIDTH)
                .map(visible)
                .collect();
            let before = column - skipped;
            let room = shown.chars().count().saturating_sub(before).max(1);
            let marks = (span.length as usize).clamp(1, room);
            let _ = writeln!(out, "    {}", shown.trim_end());
            let _ = writeln!(out, "    {}{}", " ".repeat(before), "^".repeat(marks));
        }
        if let Some(hint) = &remark.hint {
            let _ = writeln!(out, "    hint: {}", clean(hint));
        }
    }
    out
}

/// Takes what moves the cursor out of a text.
fn clean(text: &str) -> String {
    text.chars().map(visible).collect()
}

fn visible(character: char) -> char {
    match character {
        '\t' | '\u{feff}' => ' ',
        _ if character.is_control() => '\u{fffd}',
        // What turns the direction of writing hides what was written.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ => character,
    }
}

/// A word in a remark, short and in quotes.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    match short.len() == text.len() {
        true => format!("{short:?}"),
        false => format!("{short:?}…"),
    }
}
