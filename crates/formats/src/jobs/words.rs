//! Finding directives in a script, and the words in them.

use hyperion_model::submission::Dialect;

use super::{LONGEST_LINE, Origin, Remark, Span};
use crate::xml::Place;

/// A word, of which every byte knows where it was written.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// Without quotes.
    pub(super) text: String,
    /// Where each byte stands, and where the word ends.
    at: Vec<Place>,
    origin: Origin,
}

impl Word {
    /// Gives where all of it stands.
    pub(super) fn span(&self) -> Span {
        self.span_of(0, self.text.len())
    }

    /// Gives where a range of its bytes stands.
    pub(super) fn span_of(&self, from: usize, to: usize) -> Span {
        let last = self.at.len().saturating_sub(1);
        let (from, to) = (self.at[from.min(last)], self.at[to.min(last)]);
        let length = match from.line == to.line {
            true => to.column.saturating_sub(from.column).max(1),
            false => 1,
        };
        Span {
            origin: self.origin.clone(),
            place: from,
            length,
        }
    }

    /// Makes a word that was not written in a script.
    pub(super) fn of(text: &str, origin: Origin, line: u32) -> Self {
        let mut at = Vec::with_capacity(text.len() + 1);
        let mut column = 1;
        for character in text.chars() {
            at.resize(at.len() + character.len_utf8(), Place { line, column });
            column += 1;
        }
        at.push(Place { line, column });
        Self {
            text: text.to_owned(),
            at,
            origin,
        }
    }
}

/// Numbers the words of a command line.
pub(super) fn of_command_line(words: &[String]) -> Vec<Word> {
    let numbered = (1..).zip(words);
    numbered
        .map(|(number, word)| Word::of(word, Origin::Words, number))
        .collect()
}

/// How words are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    /// A backslash escapes everywhere, and `#` ends the line even in a word.
    Slurm,
    /// As a shell does it; `#` ends the line where a word would begin.
    Shell,
}

/// What was found in a script.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A directive.
    Directive(Directive<'a>),
    /// A line that looks like one, and is none.
    Ignored { line: u32, what: &'static str },
    /// A line that cannot be read.
    Unreadable { line: u32, what: &'static str },
}

/// A directive: what stands behind its prefix, with the lines that go on with it.
#[derive(Debug)]
pub(super) struct Directive<'a> {
    lines: Vec<(Place, &'a str)>,
}

impl Directive<'_> {
    /// Gives its line, where it says anything.
    pub(super) fn line(&self) -> Option<u32> {
        let says = self.lines.iter().any(|(_, text)| !text.trim().is_empty());
        let (place, _) = self.lines.first().filter(|_| says)?;
        Some(place.line)
    }

    /// Splits it into words.
    pub(super) fn words(&self, quoting: Quoting) -> Result<Vec<Word>, Remark> {
        let mut words = Vec::new();
        let mut open: Option<Word> = None;
        let mut quote: Option<(char, Place)> = None;
        let mut here = Place::default();
        'lines: for (start, text) in &self.lines {
            here = *start;
            let mut characters = text.chars().peekable();
            while let Some(mut character) = characters.next() {
                let place = here;
                here.column += 1;
                let mut plain = false;
                if character == '\\' {
                    let next = characters.peek().copied();
                    // sbatch leaves out one that escapes nothing.
                    if quoting == Quoting::Slurm && next.is_none() {
                        continue;
                    }
                    let escapes = match (quoting, quote) {
                        (Quoting::Slurm, _) | (Quoting::Shell, None) => next.is_some(),
                        (Quoting::Shell, Some(('"', _))) => matches!(next, Some('"' | '\\')),
                        (Quoting::Shell, Some(_)) => false,
                    };
                    if escapes {
                        character = characters.next().unwrap_or(character);
                        here.column += 1;
                        plain = true;
                    }
                }
                match (character, quote) {
                    _ if plain => {}
                    (_, Some((end, _))) if character == end => {
                        quote = None;
                        continue;
                    }
                    (_, Some(_)) => {}
                    ('"' | '\'', None) => {
                        quote = Some((character, place));
                        open.get_or_insert_with(Word::empty);
                        continue;
                    }
                    ('#', None) if quoting == Quoting::Slurm || open.is_none() => break 'lines,
                    (' ' | '\t' | '\r' | '\x0b' | '\x0c', None) => {
                        words.extend(open.take().map(|word| word.end(place)));
                        continue;
                    }
                    _ => {}
                }
                let word = open.get_or_insert_with(Word::empty);
                word.text.push(character);
                word.at.resize(word.text.len(), place);
            }
        }
        if let Some((quote, place)) = quote {
            return Err(Remark {
                span: Span {
                    origin: Origin::Script,
                    place,
                    length: 1,
                },
                what: format!("the quote {quote} is not closed"),
                hint: None,
            });
        }
        words.extend(open.take().map(|word| word.end(here)));
        Ok(words)
    }
}

impl Word {
    fn empty() -> Self {
        Self {
            text: String::new(),
            at: Vec::new(),
            origin: Origin::Script,
        }
    }

    fn end(mut self, at: Place) -> Self {
        self.at.push(at);
        self
    }
}

/// Gives the first line's interpreter, with its arguments.
pub(super) fn interpreter(script: &[u8]) -> Option<String> {
    let line = script.split(|&b| b == b'\n').next()?;
    let line = std::str::from_utf8(line.strip_prefix(b"#!")?).ok()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Finds the first line that ends as Windows ends lines.
pub(super) fn windows_line(script: &[u8]) -> Option<u32> {
    let at = script.windows(2).position(|two| two == b"\r\n")?;
    let before = script[..at].iter().filter(|&&b| b == b'\n').count();
    u32::try_from(before + 1).ok()
}

/// Finds the directives of a dialect, in the order of the script.
pub(super) fn directives<'a>(
    dialect: Dialect,
    script: &'a [u8],
    prefix: Option<&'a str>,
) -> impl Iterator<Item = Found<'a>> {
    let usual = match dialect {
        Dialect::Slurm => "#SBATCH",
        Dialect::Pbs => "#PBS",
        Dialect::Lsf => "#BSUB",
        Dialect::Sge => "#$",
    };
    Directives {
        dialect,
        prefix: prefix.unwrap_or(usual),
        rest: script.split(|&b| b == b'\n'),
        line: 0,
        stopped: prefix == Some(""),
    }
}

struct Directives<'a, I> {
    dialect: Dialect,
    prefix: &'a str,
    rest: I,
    line: u32,
    /// A command was met, behind which there are no directives.
    stopped: bool,
}

const OLD: &str = "#SLURM";
const BEHIND: &str = "this directive stands behind the first command and is not read";
const NO_PREFIX: &str = "this looks like a directive and is a comment";
const NOT_UTF8: &str = "this directive is not UTF-8: write it anew";
const LONG: &str = "this directive is longer than any batch system reads";

impl<'a, I: Iterator<Item = &'a [u8]>> Iterator for Directives<'a, I> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        loop {
            let bytes = self.rest.next()?;
            self.line = self.line.saturating_add(1);
            let line = self.line;
            let Some(from) = self.behind_prefix(bytes) else {
                if !self.stopped && self.is_almost(bytes) {
                    return Some(Found::Ignored {
                        line,
                        what: NO_PREFIX,
                    });
                }
                self.stopped |= self.stops(bytes);
                continue;
            };
            if self.stopped {
                return Some(Found::Ignored { line, what: BEHIND });
            }
            let mut lines = Vec::new();
            let (mut bytes, mut from) = (bytes, from);
            let mut length = 0;
            loop {
                length += bytes.len();
                if length > LONGEST_LINE {
                    return Some(Found::Unreadable { line, what: LONG });
                }
                let bytes_only = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                let goes_on = self.dialect == Dialect::Pbs && bytes_only.ends_with(b"\\");
                let end = bytes_only.len() - usize::from(goes_on);
                let text = std::str::from_utf8(&bytes_only[..end]);
                let Some((before, text)) = text.ok().and_then(|text| text.split_at_checked(from))
                else {
                    return Some(Found::Unreadable {
                        line,
                        what: NOT_UTF8,
                    });
                };
                let column = u32::try_from(before.chars().count() + 1).unwrap_or(u32::MAX);
                let place = Place {
                    line: self.line,
                    column,
                };
                lines.push((place, text));
                let next = if goes_on { self.rest.next() } else { None };
                let Some(next) = next else { break };
                self.line = self.line.saturating_add(1);
                (bytes, from) = (next, self.behind_prefix(next).unwrap_or(0));
            }
            return Some(Found::Directive(Directive { lines }));
        }
    }
}

impl<I> Directives<'_, I> {
    /// Gives where a directive goes on behind its prefix.
    fn behind_prefix(&self, line: &[u8]) -> Option<usize> {
        let blanks = match self.dialect {
            Dialect::Pbs => line.len() - line.trim_ascii_start().len(),
            _ => 0,
        };
        let line = &line[blanks..];
        if let Some(rest) = line
            .strip_prefix(OLD.as_bytes())
            .filter(|_| self.is_old(line))
        {
            return Some(blanks + line.len() - rest.len());
        }
        let rest = line.strip_prefix(self.prefix.as_bytes())?;
        let next = rest.first().copied();
        let is_one = match self.dialect {
            // Both read on without a blank.
            Dialect::Slurm | Dialect::Pbs => true,
            Dialect::Lsf => next.is_none_or(|b| b.is_ascii_whitespace()),
            // What is left of a command that begins with a variable is none.
            Dialect::Sge => next.is_none_or(|b| b.is_ascii_whitespace() || b == b'-'),
        };
        is_one.then_some(blanks + self.prefix.len())
    }

    /// Tells whether it is a directive as Slurm began, which sbatch still reads.
    fn is_old(&self, line: &[u8]) -> bool {
        let behind = line.get(OLD.len()..).unwrap_or_default();
        let blank = behind.first().is_some_and(u8::is_ascii_whitespace);
        self.dialect == Dialect::Slurm && blank && behind.trim_ascii_start().starts_with(b"-")
    }

    /// Tells whether nothing behind this line is a directive.
    fn stops(&self, line: &[u8]) -> bool {
        let text = line.trim_ascii();
        match self.dialect {
            Dialect::Slurm => text.first().is_some_and(|&b| b != b'#'),
            Dialect::Pbs => text.first().is_some_and(|&b| b != b'#') && line.first() != Some(&b':'),
            Dialect::Lsf | Dialect::Sge => false,
        }
    }

    /// Tells whether somebody may have meant a directive: `# SBATCH -n 4`, `#sbatch -n 4`.
    fn is_almost(&self, line: &[u8]) -> bool {
        let Some(rest) = line.trim_ascii_start().strip_prefix(b"#") else {
            return false;
        };
        let name = &self.prefix.as_bytes()[1.min(self.prefix.len())..];
        let text = rest.trim_ascii_start();
        if name.len() < 3 || text.len() <= name.len() {
            return false;
        }
        let (word, behind) = text.split_at(name.len());
        word.eq_ignore_ascii_case(name) && behind.trim_ascii_start().starts_with(b"-")
    }
}
