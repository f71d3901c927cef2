//! Printing: a broken pipe is no error, stdout is data, stderr is talk.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

/// Writes a line to standard output; a reader that has gone away is no error.
///
/// # Errors
/// Any other failure to write, a full disk for one.
pub(crate) fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    ignore_broken_pipe(writeln!(std::io::stdout().lock(), "{text}"))
}

/// Writes one JSON document and a line end.
///
/// # Errors
/// As [`line()`].
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut to = Safe {
        to: BufWriter::new(std::io::stdout().lock()),
        held: false,
    };
    let written = match serde_json::to_writer_pretty(&mut to, value) {
        Ok(()) => to.write_all(b"\n").and_then(|()| to.flush()),
        Err(e) if e.is_io() => Err(e.into()),
        Err(e) => return Err(e.into()),
    };
    ignore_broken_pipe(written)
}

/// Passes JSON on. It may hold DEL and the C1 controls as they are; some terminals obey
/// those, so they are written as escapes.
struct Safe<W> {
    to: W,
    /// Whether the first byte of two is held back: it may begin a C1 control.
    held: bool,
}

impl<W: Write> Write for Safe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.held) {
                match first {
                    0x80..=0x9f => write!(self.to, "\\u00{first:02x}")?,
                    other => self.to.write_all(&[0xc2, other])?,
                }
                rest = &rest[1..];
                continue;
            }
            let plain = rest.iter().position(|b| matches!(b, 0x7f | 0xc2));
            let (now, later) = rest.split_at(plain.unwrap_or(rest.len()));
            self.to.write_all(now)?;
            rest = later;
            match rest.first() {
                Some(0x7f) => self.to.write_all(b"\\u007f")?,
                Some(_) => self.held = true,
                None => break,
            }
            rest = &rest[1..];
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes a line of talk to standard error, `error: …` for one.
pub(crate) fn talk(kind: &str, text: impl std::fmt::Display) {
    eprintln!("{kind}: {}", plain(&text.to_string()));
}

/// Takes out what a terminal would obey: texts of images, registries and files
/// may hold anything. Ends of lines stay.
pub(crate) fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', " ")
}

fn ignore_broken_pipe(result: std::io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// What becomes of a table for which a terminal is too narrow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Narrow {
    /// Columns whose words are cut, by number.
    pub(crate) cut: &'static [usize],
    /// Columns that are left out when that is not enough, the first of these first.
    pub(crate) leave_out: &'static [usize],
}

/// Writes a table without borders; nothing but the header when it is empty. On
/// a terminal the last column is cut off at its edge, so that a row stays a line.
///
/// # Errors
/// As [`line`].
pub(crate) fn table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> anyhow::Result<()> {
    table_within(header, rows, Narrow::default())
}

/// As [`table`], with other columns that give way before the last one does.
///
/// # Errors
/// As [`line`].
pub(crate) fn table_within(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    narrow: Narrow,
) -> anyhow::Result<()> {
    let stdout = rustix::stdio::stdout();
    let width = rustix::termios::tcgetwinsize(stdout).map(|size| size.ws_col.into());
    let width = width.ok().filter(|&w| w > 0);
    line(lines(header, rows.collect(), width, narrow))
}

/// As [`table`], whole, however narrow the terminal is.
///
/// # Errors
/// As [`line`].
pub(crate) fn table_whole(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> anyhow::Result<()> {
    line(lines(header, rows.collect(), None, Narrow::default()))
}

/// No column is cut to fewer characters, of which the last says so.
const LEAST: usize = 8;

fn longest(header: &[&str], rows: &[Vec<String>], column: usize) -> usize {
    let cells = rows.iter().filter_map(|row| row.get(column));
    let title = header[column].chars().count();
    cells.map(|c| c.chars().count()).fold(title, usize::max)
}

/// Gives a table without some of its columns.
fn without<'h>(
    (header, rows): &(Vec<&'h str>, Vec<Vec<String>>),
    columns: &[usize],
) -> (Vec<&'h str>, Vec<Vec<String>>) {
    let stays = |column: &usize| !columns.contains(column);
    let header = (0..header.len()).filter(stays).map(|c| header[c]);
    let row = |row: &Vec<String>| {
        (0..row.len())
            .filter(stays)
            .map(|c| row[c].clone())
            .collect()
    };
    (header.collect(), rows.iter().map(row).collect())
}

fn cut(cell: &mut String, most: usize) {
    if cell.chars().count() > most {
        *cell = cell.chars().take(most - 1).chain(['…']).collect();
    }
}

/// Lays a table out, in lines of at most this width if its columns leave room.
fn lines(
    header: &[&str],
    mut rows: Vec<Vec<String>>,
    width: Option<usize>,
    narrow: Narrow,
) -> String {
    let mut header = header.to_vec();
    for cell in rows.iter_mut().flatten() {
        *cell = plain(cell).replace('\n', " ");
    }
    if header.is_empty() {
        return String::new();
    }
    // Each column has a space on either side; of the last one a few words are enough.
    let needs = |header: &[&str], rows: &[Vec<String>]| -> usize {
        let last = header.len() - 1;
        let before: usize = (0..last).map(|c| longest(header, rows, c) + 2).sum();
        before + 2 + longest(header, rows, last).min(2 * LEAST)
    };
    if let Some(width) = width {
        let whole = (header.clone(), std::mem::take(&mut rows));
        for most in 0..=narrow.leave_out.len() {
            let left_out = &narrow.leave_out[..most];
            (header, rows) = without(&whole, left_out);
            let shift = |column: usize| column - left_out.iter().filter(|&&c| c < column).count();
            let cuttable = narrow
                .cut
                .iter()
                .filter(|column| !left_out.contains(column));
            let cuttable: Vec<usize> = cuttable.map(|&column| shift(column)).collect();
            let mut lacks = needs(&header, &rows).saturating_sub(width);
            while lacks > 0 {
                let of = |column: &&usize| longest(&header, &rows, **column);
                let Some(&column) = cuttable.iter().max_by_key(of) else {
                    break;
                };
                let now = longest(&header, &rows, column);
                if now <= LEAST {
                    break;
                }
                let room = now.saturating_sub(lacks).max(LEAST);
                let cells = rows.iter_mut().filter_map(|row| row.get_mut(column));
                cells.for_each(|cell| cut(cell, room));
                lacks = needs(&header, &rows).saturating_sub(width);
            }
            if lacks == 0 {
                break;
            }
        }
        let last = header.len() - 1;
        let before: usize = (0..last).map(|c| longest(&header, &rows, c) + 2).sum();
        let room = width.saturating_sub(before + 2);
        if room >= 10 {
            let cells = rows.iter_mut().filter_map(|row| row.get_mut(last));
            cells.for_each(|cell| cut(cell, room));
        }
    }
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(comfy_table::ContentArrangement::Disabled)
        .set_header(header)
        .add_rows(rows);
    table.trim_fmt()
}

/// Writes how long ago something was, in one unit.
pub(crate) fn age(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_no_control_that_a_terminal_obeys() {
        let mut to = Safe {
            to: Vec::new(),
            held: false,
        };
        // Byte by byte: where a write ends does not matter.
        for byte in "a\u{7f}\u{9b}1mß\u{a0}é".bytes() {
            to.write_all(&[byte]).expect("written");
        }
        let text = String::from_utf8(to.to).expect("text");
        assert_eq!(text, "a\\u007f\\u009b1mß\u{a0}é");
    }

    #[test]
    fn a_row_stays_a_line_and_only_its_last_word_is_cut() {
        let rows = vec![
            vec![
                "0123456789ab".to_owned(),
                "sh -c 'while :; do :; done'".to_owned(),
            ],
            vec!["9876543210fe".to_owned(), "true".to_owned()],
        ];
        let text = lines(
            &["JOB", "COMMAND"],
            rows.clone(),
            Some(30),
            Narrow::default(),
        );
        assert_eq!(
            text,
            " JOB           COMMAND\n 0123456789ab  sh -c 'while …\n 9876543210fe  true"
        );
        // Not a terminal, or one too narrow for anything: nothing is cut.
        for width in [None, Some(20)] {
            assert!(
                lines(&["JOB", "COMMAND"], rows.clone(), width, Narrow::default())
                    .contains(":; done'")
            );
        }
        assert_eq!(
            lines(&["JOB"], Vec::new(), Some(80), Narrow::default()),
            " JOB"
        );
        let hostile = vec![vec!["\u{1b}[31m\u{9b}2Jx\r\ny".to_owned()]];
        assert_eq!(
            lines(&["JOB"], hostile, None, Narrow::default()),
            " JOB\n  [31m 2Jx  y"
        );
    }

    #[test]
    fn columns_give_way_one_after_the_other_where_a_terminal_is_narrow() {
        let row = |name: &str| {
            let words = ["12", name, "root", "process", "5", "12:00:00"];
            words.map(str::to_owned).to_vec()
        };
        let head = ["JOB", "NAME", "USER", "LEVEL", "EXIT", "ENDED"];
        let rows = vec![row("a-name-that-says-all-there-is"), row("b")];
        let narrow = Narrow {
            cut: &[1, 2],
            leave_out: &[2, 3],
        };
        for (width, want) in [
            (
                80,
                " 12   a-name-that-says-all-there-is  root  process  5     12:00:00",
            ),
            (
                60,
                " 12   a-name-that-says-all-…  root  process  5     12:00:00",
            ),
            (40, " 12   a-name-…  process  5     12:00:00"),
            (32, " 12   a-name-t…  5     12:00:00"),
        ] {
            let text = lines(&head, rows.clone(), Some(width), narrow);
            assert_eq!(text.lines().nth(1), Some(want), "{width}");
            assert!(
                text.lines().all(|line| line.chars().count() <= width),
                "{text}"
            );
        }
    }
}
