//! Options by name: one table for each dialect says what is read, told in a
//! note or refused, and the reference is made of the same tables.

use super::draft::Draft;
use super::tell::shown;
use super::words::Word;
use super::{Remark, Span};

/// The options of a dialect.
pub(super) struct Grammar {
    /// How they are written.
    pub(super) style: Style,
    /// All of them.
    pub(super) options: &'static [Opt],
}

/// How options are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `--name=value`, shortened where that is clear, and `-n value`, `-nvalue`, `-Hs`.
    Long,
    /// `-n value`, `-nvalue`, `-hV`.
    Letters,
    /// `-name value`; a single letter may have its value behind it.
    Names,
}

/// One option.
pub(super) struct Opt {
    /// Its names as they are written, the longest first.
    pub(super) names: &'static [&'static str],
    /// What stands behind it.
    pub(super) takes: Takes,
    /// What it does.
    pub(super) does: Does,
}

/// Makes an option.
pub(super) const fn opt(names: &'static [&'static str], takes: Takes, does: Does) -> Opt {
    Opt { names, takes, does }
}

/// What stands behind an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing.
    Nothing,
    /// A value.
    Value,
    /// A value; with none the option is left out, and a note says so.
    Perhaps,
    /// Two values.
    Two,
    /// A value behind `=`, or nothing.
    Attached,
    /// A word of nothing but these letters, or nothing.
    Letters(&'static str),
    /// A value, in front of which one of these words may stand.
    Behind(&'static [&'static str]),
}

/// What an option does.
pub(super) enum Does {
    /// It becomes something in the request.
    Becomes(&'static str, fn(&mut Draft, &Arg<'_>) -> Result<(), Wrong>),
    /// It is for the command that submits.
    Reply(&'static str, fn(&mut Draft)),
    /// It means nothing here, for this reason.
    Note(&'static str),
    /// It would change the result, and this is to be done instead.
    Refuse(&'static str),
}

/// An option as it was given.
#[derive(Debug)]
pub(super) struct Arg<'a> {
    /// What stands behind it.
    pub(super) text: &'a str,
    /// The second value, where it takes two.
    pub(super) second: &'a str,
    word: &'a Word,
    from: usize,
    second_word: Option<&'a Word>,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) part: Option<(usize, usize)>,
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            part: None,
            hint: None,
        }
    }

    /// Says what helps.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says which part of the value is meant: a slice of it.
    pub(super) fn at(mut self, value: &str, part: &str) -> Self {
        let from = (part.as_ptr() as usize).checked_sub(value.as_ptr() as usize);
        let inside = from.filter(|from| from + part.len() <= value.len());
        self.part = inside.map(|from| (from, from + part.len()));
        self
    }
}

impl Arg<'_> {
    /// Gives where the value, or a slice of it, stands.
    pub(super) fn span(&self, part: Option<(usize, usize)>) -> Span {
        if self.second_word.is_some() && part.is_none() {
            return self.word.span();
        }
        let (from, to) = part.unwrap_or((0, self.text.len()));
        self.word.span_of(self.from + from, self.from + to)
    }

    /// The same option with the second value alone.
    pub(super) fn of_second(&self) -> Arg<'_> {
        Arg {
            text: self.second,
            second: "",
            word: self.second_word.unwrap_or(self.word),
            from: 0,
            second_word: None,
        }
    }
}

/// Reads the options of a directive or of the command line; gives the words
/// behind them. What is wrong is told in the draft.
pub(super) fn apply<'w>(grammar: &Grammar, draft: &mut Draft, words: &'w [Word]) -> &'w [Word] {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let is_option = word.text.starts_with('-') && word.text.len() > 1;
        if !is_option || draft.told.is_full() {
            break;
        }
        if word.text == "--" {
            // PBS asks what stands there: the command, not a script.
            return match grammar.style {
                Style::Letters => &words[at..],
                _ => &words[at + 1..],
            };
        }
        at += 1;
        let read = match grammar.style {
            Style::Long if word.text.starts_with("--") => long(grammar, draft, word, &words[at..]),
            Style::Long | Style::Letters => letters(grammar, draft, word, &words[at..]),
            Style::Names => name(grammar, draft, word, &words[at..]),
        };
        match read {
            Ok(taken) => at += taken,
            Err(remark) => {
                draft.told.mistake(remark.span, remark.what, remark.hint);
                // What follows may be the value of an option that nobody knows.
                return &[];
            }
        }
    }
    &words[at.min(words.len())..]
}

/// No job has more; each may cost a little.
const MOST_OPTIONS: usize = 500;

type Taken = Result<usize, Remark>;

fn long(grammar: &Grammar, draft: &mut Draft, word: &Word, next: &[Word]) -> Taken {
    let (name, value) = match word.text.split_once('=') {
        Some((name, _)) => (name, Some(name.len() + 1)),
        None => (word.text.as_str(), None),
    };
    let names = || {
        let each = |option: &'static Opt| option.names.iter().map(move |name| (*name, option));
        grammar.options.iter().flat_map(each)
    };
    let exact = names().find(|(known, _)| *known == name);
    let option = match exact {
        Some((_, option)) => option,
        None => {
            let mut like = names().filter(|(known, _)| known.starts_with(name));
            let first = like.next().filter(|_| name.len() > 2);
            let Some((_, option)) = first else {
                return Err(unknown(grammar, word.span_of(0, name.len()), name));
            };
            let others: Vec<_> = like
                .filter(|(_, other)| !std::ptr::eq(*other, option))
                .collect();
            if !others.is_empty() {
                let all: Vec<_> = names()
                    .filter(|(known, _)| known.starts_with(name))
                    .collect();
                let all: Vec<_> = all.iter().map(|(known, _)| *known).collect();
                return Err(Remark {
                    span: word.span_of(0, name.len()),
                    what: format!("the option {} is short for several", shown(name)),
                    hint: Some(format!("write one of {}", all.join(", "))),
                });
            }
            option
        }
    };
    let given = (word, 0, name.len());
    match (option.takes, value) {
        (Takes::Nothing | Takes::Letters(_), Some(_)) => Err(Remark {
            span: word.span(),
            what: format!("{name} takes no value"),
            hint: None,
        }),
        (_, Some(from)) => one(draft, option, given, (word, from), 0),
        _ => spaced(draft, option, given, next),
    }
}

fn letters(grammar: &Grammar, draft: &mut Draft, word: &Word, next: &[Word]) -> Taken {
    let characters = word.text.char_indices().skip(1);
    for (at, letter) in characters {
        let end = at + letter.len_utf8();
        let wanted = |name: &&str| name.strip_prefix('-') == Some(&word.text[at..end]);
        let found = grammar.options.iter().find(|o| o.names.iter().any(wanted));
        let Some(option) = found else {
            let name = format!("-{letter}");
            return Err(unknown(grammar, word.span_of(at, end), &name));
        };
        let given = (word, at, end);
        match option.takes {
            Takes::Value | Takes::Two | Takes::Perhaps | Takes::Behind(_) | Takes::Attached
                if end < word.text.len() =>
            {
                return one(draft, option, given, (word, end), 0);
            }
            Takes::Value | Takes::Two | Takes::Perhaps | Takes::Behind(_) => {
                return spaced(draft, option, given, next);
            }
            Takes::Nothing | Takes::Attached | Takes::Letters(_) => {
                one(draft, option, given, (word, word.text.len()), 0)?;
            }
        }
    }
    Ok(0)
}

fn name(grammar: &Grammar, draft: &mut Draft, word: &Word, next: &[Word]) -> Taken {
    let known = |text: &str| grammar.options.iter().find(|o| o.names.contains(&text));
    if let Some(option) = known(&word.text) {
        return spaced(draft, option, (word, 0, word.text.len()), next);
    }
    // `-n4`; with a letter behind it, it is another option's name with a mistake.
    let digit = word.text.as_bytes().get(2).is_some_and(u8::is_ascii_digit);
    let letter = word.text.get(..2).filter(|_| digit).and_then(known);
    match letter.filter(|option| option.takes == Takes::Value) {
        Some(option) => one(draft, option, (word, 0, 2), (word, 2), 0),
        None => Err(unknown(grammar, word.span(), &word.text)),
    }
}

/// An option whose value is the next word.
fn spaced(
    draft: &mut Draft,
    option: &'static Opt,
    given: (&Word, usize, usize),
    next: &[Word],
) -> Taken {
    let (word, from, to) = given;
    let missing = || Remark {
        span: word.span_of(from, to),
        what: format!("{} takes a value, and there is none", dashed(given)),
        hint: None,
    };
    match option.takes {
        Takes::Nothing | Takes::Attached => one(draft, option, given, (word, word.text.len()), 0),
        Takes::Perhaps if next.is_empty() => {
            let what = format!("{} has no value, and is left out", dashed(given));
            draft.told.note(word.span_of(from, to), what, None);
            Ok(0)
        }
        Takes::Value | Takes::Perhaps => {
            let value = next.first().ok_or_else(missing)?;
            one(draft, option, given, (value, 0), 1)
        }
        Takes::Behind(words) => {
            let before = usize::from(next.first().is_some_and(|w| words.contains(&&*w.text)));
            let value = next.get(before).ok_or_else(missing)?;
            one(draft, option, given, (value, 0), before + 1)
        }
        Takes::Two => {
            let [first, second, ..] = next else {
                return Err(missing());
            };
            let arg = Arg {
                text: &first.text,
                second: &second.text,
                word: first,
                from: 0,
                second_word: Some(second),
            };
            act(draft, option, given, &arg)?;
            Ok(2)
        }
        Takes::Letters(letters) => {
            let value = next.first().filter(|value| {
                !value.text.is_empty() && value.text.chars().all(|c| letters.contains(c))
            });
            match value {
                Some(value) => one(draft, option, given, (value, 0), 1),
                None => one(draft, option, given, (word, word.text.len()), 0),
            }
        }
    }
}

fn one(
    draft: &mut Draft,
    option: &'static Opt,
    given: (&Word, usize, usize),
    (value, from): (&Word, usize),
    taken: usize,
) -> Taken {
    let arg = Arg {
        text: &value.text[from..],
        second: "",
        word: value,
        from,
        second_word: None,
    };
    act(draft, option, given, &arg)?;
    Ok(taken)
}

fn act(
    draft: &mut Draft,
    option: &'static Opt,
    given: (&Word, usize, usize),
    arg: &Arg<'_>,
) -> Result<(), Remark> {
    let (word, from, to) = given;
    let span = word.span_of(from, to);
    let name = dashed(given);
    draft.count += 1;
    if draft.count == MOST_OPTIONS {
        let what = format!("there are more than {MOST_OPTIONS} options");
        draft.told.mistake(span.clone(), what, None);
    }
    if draft.count >= MOST_OPTIONS {
        draft.told.close();
        return Ok(());
    }
    draft
        .given
        .insert(option.names[0], (draft.stage, span.clone()));
    match &option.does {
        Does::Becomes(_, set) => {
            if let Err(wrong) = set(draft, arg) {
                let place = match arg.text.is_empty() {
                    true => span,
                    false => arg.span(wrong.part),
                };
                draft
                    .told
                    .mistake(place, format!("{name}: {}", wrong.what), wrong.hint);
            }
        }
        Does::Reply(_, set) => set(draft),
        Does::Note(why) => draft.told.note(span, format!("{name}: {why}"), None),
        Does::Refuse(why) => draft.told.mistake(span, format!("{name}: {why}"), None),
    }
    Ok(())
}

/// An option as it was written, with its dash.
fn dashed((word, from, to): (&Word, usize, usize)) -> String {
    let text = &word.text[from..to];
    match text.starts_with('-') {
        true => text.to_owned(),
        false => format!("-{text}"),
    }
}

fn unknown(grammar: &Grammar, span: Span, name: &str) -> Remark {
    let short: String = name.chars().take(60).collect();
    let known = grammar.options.iter().flat_map(|option| option.names);
    let near = known
        .map(|known| (strsim::damerau_levenshtein(&short, known), *known))
        .filter(|(distance, known)| {
            *distance <= 2 && known.len() > 2 || short.eq_ignore_ascii_case(known)
        })
        .min();
    Remark {
        span,
        what: format!("there is no option {}", shown(name)),
        hint: near.map(|(_, known)| format!("did you mean {known}?")),
    }
}
