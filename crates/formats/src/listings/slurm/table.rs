//! Tables as `sacctmgr` and `sshare` write them: `-o Account%20,User`, `-n`, `-p`, `-P`.

use crate::listings::cut;
use crate::listings::words::Words;

/// A field: its name, its heading and its width; below zero it is filled on the right.
pub(super) type Field = (&'static str, &'static str, i32);

/// Which fields are written, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    head: bool,
    /// With `|` between fields, and perhaps behind the last.
    parsable: Option<bool>,
    fields: Vec<Field>,
}

impl Table {
    /// Reads how a table is to be written; the beginning of a field's name will do.
    ///
    /// # Errors
    /// The first field that is none.
    pub(super) fn read(words: &Words, format: &str, known: &[Field]) -> Result<Self, String> {
        let field = |word: &str| {
            let (name, width) = word.split_once('%').unwrap_or((word, ""));
            let lower = name.to_ascii_lowercase();
            let exact = |its: &&Field| its.0.eq_ignore_ascii_case(name);
            let starts = |its: &&Field| its.0.to_ascii_lowercase().starts_with(&lower);
            let found = known
                .iter()
                .find(exact)
                .or_else(|| known.iter().find(starts));
            let width = match width {
                "" => found.map(|its| its.2),
                text => text.parse().ok(),
            };
            let found = found.zip(width).filter(|_| !lower.is_empty());
            let ((name, head, _), width) =
                found.ok_or_else(|| format!("Unknown field '{word}'"))?;
            Ok((*name, *head, width.clamp(-10_000, 10_000)))
        };
        let fields = format.split(',').filter(|word| !word.is_empty()).map(field);
        Ok(Self {
            head: !words.has("--noheader"),
            parsable: match (words.has("--parsable2"), words.has("--parsable")) {
                (true, _) => Some(false),
                (false, true) => Some(true),
                (false, false) => None,
            },
            fields: fields.collect::<Result<_, String>>()?,
        })
    }

    /// Writes what stands over the rows.
    pub(super) fn head(&self) -> String {
        let names = self.line(|its| its.1.to_owned());
        let dashes = self.line(|its| "-".repeat(its.2.unsigned_abs() as usize));
        match (self.head, self.parsable) {
            (false, _) => String::new(),
            (true, Some(_)) => names,
            (true, None) => names + &dashes,
        }
    }

    /// Writes a row of what fields have, by their names.
    pub(super) fn row(&self, value: &dyn Fn(&str) -> String) -> String {
        self.line(|its| value(its.0))
    }

    fn line(&self, value: impl Fn(&Field) -> String) -> String {
        let values = self.fields.iter().map(&value);
        match self.parsable {
            Some(behind) => {
                let end = if behind { "|\n" } else { "\n" };
                values.collect::<Vec<_>>().join("|") + end
            }
            None => {
                let cell = |(value, its): (String, &Field)| {
                    let size = its.2.unsigned_abs() as usize;
                    // What is cut off is told by a `+`.
                    let text = match value.chars().count() > size {
                        true => format!("{}+", cut(&value, size.saturating_sub(1))),
                        false => value,
                    };
                    match its.2 < 0 {
                        true => format!("{text:<size$} "),
                        false => format!("{text:>size$} "),
                    }
                };
                values.zip(&self.fields).map(cell).collect::<String>() + "\n"
            }
        }
    }
}
