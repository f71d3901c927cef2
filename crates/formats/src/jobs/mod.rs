//! The job scripts of Slurm, PBS, LSF and Grid Engine.
//!
//! A script is read with the words of the command line and, for Slurm, the
//! variables that its command heeds; the stronger wins as in each system.
//! Nothing is dropped in silence: an option that means nothing here is told in
//! a note, one that would change the result is a mistake, and both know where
//! they stand. The script itself is kept byte for byte.

mod alter;
mod amounts;
mod dependency;
mod detect;
mod draft;
mod environment;
pub mod hosts;
mod lsf;
#[cfg(test)]
mod manuals;
mod options;
mod pattern;
mod pbs;
mod sge;
mod signals;
mod slurm;
mod table;
mod tell;
#[cfg(test)]
mod tests;
pub mod time;
mod values;
mod words;

use std::fmt;

use hyperion_model::submission::{Command, Dialect, Submission};
use thiserror::Error;

use crate::xml::Place;

pub use alter::{Altered, altered};
pub use detect::{Detection, detect};
pub use environment::{Allocation, NodeShare, host_file, rank_variables, variables};
pub use pattern::{Facts, Paths, expand, paths};
pub use slurm::{Update, update};
pub use table::table;
pub use tell::{Kind, tell};

use draft::{Draft, Stage};
use options::{Grammar, apply};
use words::{Quoting, Word};

/// The longest script, in bytes: Slurm's own limit.
pub const MOST_BYTES: usize = 4 << 20;
/// The longest line of directives, in bytes.
const LONGEST_LINE: usize = 64 << 10;

/// All that says what a job is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Source<'a> {
    /// The script; none when the command line has a command.
    pub script: Option<&'a [u8]>,
    /// The words of the command line behind the command's own name: options,
    /// then the script's name and what it is given, or a command.
    pub words: &'a [String],
    /// Variables, of which Slurm's `SBATCH_*` are heeded.
    pub variables: &'a [(String, String)],
}

/// A request that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The request.
    pub submission: Submission,
    /// What means nothing here, or something else than there.
    pub notes: Vec<Remark>,
    /// What was asked of the command that submits.
    pub reply: Reply,
}

/// What somebody asks of the command that submits, and not of the job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reply {
    /// The job's number and nothing else is printed.
    pub terse: bool,
    /// Nothing is printed.
    pub quiet: bool,
    /// It is only said whether and when the job would start.
    pub test_only: bool,
    /// Whoever submits talks to what the job runs.
    pub interactive: bool,
    /// And has a terminal there.
    pub terminal: bool,
}

/// Why there is no request: all mistakes, in the order in which they were read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", count(.mistakes.len()))]
pub struct Refused {
    /// The mistakes; at least one.
    pub mistakes: Vec<Remark>,
    /// What means nothing here.
    pub notes: Vec<Remark>,
}

fn count(mistakes: usize) -> String {
    match mistakes {
        1 => "a mistake in what the job asks for".to_owned(),
        _ => format!("{mistakes} mistakes in what the job asks for"),
    }
}

/// Something to say about what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Where.
    pub span: Span,
    /// What.
    pub what: String,
    /// What helps.
    pub hint: Option<String>,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// In what.
    pub origin: Origin,
    /// Where its first character is. On the command line the line is the number of the word.
    pub place: Place,
    /// How many characters it has.
    pub length: u32,
}

/// Where words come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The script.
    Script,
    /// That variable.
    Variable(String),
    /// The command line.
    Words,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Script => write!(f, "{}", self.place),
            Origin::Variable(name) => write!(f, "${name}"),
            Origin::Words => write!(f, "command line, word {}", self.place.line),
        }
    }
}

/// What the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The script in that file.
    File(String),
    /// The script on standard input.
    Input,
    /// No script: it has a command.
    Command,
    /// A program, or the script in that file where that is one, by [`is_script`].
    Program(String),
}

/// Tells where the script is, without reading more of the command line than
/// that needs. Mistakes are left to [`read`].
pub fn wanted(dialect: Dialect, words: &[String]) -> Wanted {
    scan(dialect, words).0
}

/// Tells whether a program that a command line of LSF names is a script with
/// directives of LSF: those are read then, as where `LSB_BSUB_PARSE_SCRIPT` is on.
pub fn is_script(text: &[u8]) -> bool {
    text.len() <= MOST_BYTES && detect(text).counts.contains_key(&Dialect::Lsf)
}

/// Gives what the command line names, and the prefix of directives when it sets one.
fn scan(dialect: Dialect, words: &[String]) -> (Wanted, Option<String>) {
    let mut draft = Draft::new(dialect);
    draft.stage = Stage::Words;
    let words = words::of_command_line(words);
    let rest = draft.command_line(grammar(dialect), &words);
    let name = |word: &Word| word.text.clone();
    let wanted = match (dialect, rest.first()) {
        _ if draft.wrap.is_some() => Wanted::Command,
        // A shell, where nothing is named.
        (_, None) if draft.reply.interactive => Wanted::Command,
        (Dialect::Sge, Some(_)) if draft.binary => Wanted::Command,
        (Dialect::Pbs, Some(word)) if word.text == "--" => Wanted::Command,
        (Dialect::Lsf, Some(word)) => Wanted::Program(name(word)),
        (_, Some(word)) if word.text != "--" && word.text != "-" => Wanted::File(name(word)),
        _ => Wanted::Input,
    };
    (wanted, draft.prefix)
}

fn grammar(dialect: Dialect) -> &'static Grammar {
    match dialect {
        Dialect::Slurm => &slurm::GRAMMAR,
        Dialect::Pbs => &pbs::GRAMMAR,
        Dialect::Lsf => &lsf::GRAMMAR,
        Dialect::Sge => &sge::GRAMMAR,
    }
}

/// Reads what a job is to be.
///
/// # Errors
/// [`Refused`] with every mistake; nothing is to be submitted then.
pub fn read(dialect: Dialect, source: &Source<'_>) -> Result<Parsed, Refused> {
    let grammar = grammar(dialect);
    let mut draft = Draft::new(dialect);
    if let Some(script) = source.script {
        let prefix = match dialect {
            Dialect::Pbs | Dialect::Sge => scan(dialect, source.words).1,
            Dialect::Slurm | Dialect::Lsf => None,
        };
        read_script(grammar, &mut draft, script, prefix.as_deref());
    }
    if dialect == Dialect::Slurm {
        draft.stage = Stage::Variables;
        draft.part = 0;
        slurm::variables(&mut draft, source.variables);
    }
    draft.stage = Stage::Words;
    let words = words::of_command_line(source.words);
    let rest = draft.command_line(grammar, &words);
    draft.finish_command(source.script, rest);
    match dialect {
        Dialect::Slurm => slurm::finish(&mut draft),
        Dialect::Pbs => pbs::finish(&mut draft),
        Dialect::Lsf => lsf::finish(&mut draft),
        Dialect::Sge => sge::finish(&mut draft),
    }
    let Draft {
        job, told, reply, ..
    } = draft;
    match told.mistakes.is_empty() {
        true => Ok(Parsed {
            submission: job,
            notes: told.notes,
            reply,
        }),
        false => Err(Refused {
            mistakes: told.mistakes,
            notes: told.notes,
        }),
    }
}

fn read_script(grammar: &Grammar, draft: &mut Draft, script: &[u8], prefix: Option<&str>) {
    let dialect = draft.job.dialect;
    if script.len() > MOST_BYTES {
        let what = format!(
            "the script has {} bytes, more than {MOST_BYTES}",
            script.len()
        );
        draft.told.mistake(Span::of_line(1), what, None);
        return;
    }
    let marked = script.strip_prefix(b"\xef\xbb\xbf");
    if marked.is_some() {
        let what = "the script begins with a byte order mark, which no shell takes; it is left out";
        draft.told.note(Span::of_line(1), what.to_owned(), None);
    }
    let script = marked.unwrap_or(script);
    let interpreter = words::interpreter(script);
    if interpreter.is_none() && dialect == Dialect::Slurm {
        let what = "the script does not begin with #! and the path of an interpreter";
        let hint = "write #!/bin/bash into its first line";
        draft
            .told
            .mistake(Span::of_line(1), what.to_owned(), Some(hint.to_owned()));
    }
    if let Some(line) = words::windows_line(script) {
        let what = "the line ends as Windows ends lines (CR LF): no shell runs such a script";
        let hint = "convert it with: sed -i 's/\\r$//' SCRIPT";
        draft
            .told
            .mistake(Span::of_line(line), what.to_owned(), Some(hint.to_owned()));
    }
    draft.job.command = Command::Script {
        interpreter,
        text: script.to_vec(),
        arguments: Vec::new(),
    };
    for (other, _, line) in detect::counted(script) {
        if other != dialect {
            let (of, here) = (detect::name(other), detect::name(dialect));
            let what =
                format!("directives of {of} are not read: the script is read as one of {here}");
            draft.told.note(Span::of_line(line), what, None);
        }
    }
    for (line, name, changes) in detect::others(script) {
        let span = Span::of_line(line);
        if changes {
            let what = format!("lines of {name} are not read, and there is none");
            let hint = "copy files in the script, and take those lines out".to_owned();
            draft.told.mistake(span, what, Some(hint));
        } else {
            let what = format!("directives of {name} are not read");
            draft.told.note(span, what, None);
        }
    }
    let quoting = match dialect {
        Dialect::Slurm => Quoting::Slurm,
        _ => Quoting::Shell,
    };
    for found in words::directives(dialect, script, prefix) {
        if draft.told.is_full() {
            break;
        }
        let directive = match found {
            words::Found::Directive(directive) => directive,
            words::Found::Ignored { line, what } => {
                draft.told.note(Span::of_line(line), what.to_owned(), None);
                continue;
            }
            words::Found::Unreadable { line, what } => {
                draft
                    .told
                    .mistake(Span::of_line(line), what.to_owned(), None);
                continue;
            }
        };
        match directive.words(quoting) {
            Ok(words) if dialect == Dialect::Slurm && slurm::begins_part(&words) => {
                slurm::next_part(draft, &words);
            }
            Ok(words) => {
                let rest = apply(grammar, draft, &words);
                if let Some(word) = rest.first() {
                    let what = format!("{} is not an option", tell::shown(&word.text));
                    draft.told.mistake(word.span(), what, None);
                }
            }
            Err(remark) => draft.told.mistake(remark.span, remark.what, remark.hint),
        }
    }
}

impl Span {
    /// The beginning of a line of the script.
    fn of_line(line: u32) -> Self {
        Self {
            origin: Origin::Script,
            place: Place { line, column: 1 },
            length: 1,
        }
    }
}
