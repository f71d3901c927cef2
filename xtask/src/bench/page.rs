//! The table: what was measured, the bar, and whether it was met.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

const BEGIN: &str = "<!-- measurements: written by `make bench` -->";
const END: &str = "<!-- end of measurements -->";

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) bar: &'static str,
    pub(super) outcome: Outcome,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Measured {
        ours: String,
        beside: String,
        /// The number that the bar is about.
        figure: String,
        met: bool,
    },
    /// And why not.
    NotMeasured(String),
}

impl Row {
    /// A row from a measurement that may have failed.
    pub(super) fn new(
        what: impl Into<String>,
        bar: &'static str,
        outcome: Result<Outcome>,
    ) -> Self {
        let outcome = outcome.unwrap_or_else(|error| Outcome::NotMeasured(format!("{error:#}")));
        Self {
            what: what.into(),
            bar,
            outcome,
        }
    }

    pub(super) fn missed(&self) -> bool {
        matches!(self.outcome, Outcome::Measured { met: false, .. })
    }

    fn cells(&self) -> [String; 6] {
        let bar = self.bar.to_owned();
        match &self.outcome {
            Outcome::Measured {
                ours,
                beside,
                figure,
                met,
            } => {
                let verdict = if *met { "met" } else { "**missed**" };
                [
                    self.what.clone(),
                    ours.clone(),
                    beside.clone(),
                    figure.clone(),
                    bar,
                    verdict.into(),
                ]
            }
            Outcome::NotMeasured(why) => {
                let why = why.replace(['\n', '|'], " ");
                [
                    self.what.clone(),
                    "not measured".into(),
                    why.chars().take(160).collect(),
                    String::new(),
                    bar,
                    "–".into(),
                ]
            }
        }
    }
}

/// The table as Markdown, its columns aligned for a terminal.
pub(super) fn table(rows: &[Row]) -> String {
    let head = ["what", "Hyperion", "beside", "figure", "bar", "verdict"].map(str::to_owned);
    let cells: Vec<[String; 6]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| {
        let lengths = cells.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut out = String::new();
    for (at, row) in cells.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(out, "| {cell:<width$} ");
        }
        out.push_str("|\n");
        if at == 0 {
            for width in &widths {
                let _ = write!(out, "|{}", "-".repeat(width + 2));
            }
            out.push_str("|\n");
        }
    }
    out
}

/// Puts text between the marks of the page.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    std::fs::write(path, between_marks(&old, text)?).with_context(|| path.display().to_string())
}

fn between_marks(page: &str, text: &str) -> Result<String> {
    let parts = page
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        bail!("the page lacks the marks `{BEGIN}` and `{END}`");
    };
    Ok(format!("{before}{BEGIN}\n{text}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_misses_its_bar_says_so() {
        let row = |met| {
            let measured = Outcome::Measured {
                ours: "2 ms".into(),
                beside: "crun 1 ms".into(),
                figure: "2.00 ×".into(),
                met,
            };
            Row::new("start", "≤ 0.8 ×", Ok(measured))
        };
        assert!(row(false).missed() && !row(true).missed());
        let text = table(&[
            row(false),
            Row::new("b", "x", Err(anyhow::anyhow!("no | peer"))),
        ]);
        assert!(text.contains("**missed**"));
        assert!(text.contains("no   peer"));
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn the_page_keeps_what_is_outside_its_marks() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let fresh = between_marks(&page, "new\n").expect("has marks");
        assert_eq!(fresh, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert!(between_marks("none", "").is_err());
    }
}
