//! Printing: a broken pipe is no error, stdout is data, stderr is talk.

use std::io::Write;

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
    let text = serde_json::to_string_pretty(value)?;
    // JSON may hold DEL and the C1 controls as they are; some terminals obey those.
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\x7f'..='\u{9f}' => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    line(safe)
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

/// Writes a table without borders; nothing but the header when it is empty. On
/// a terminal the last column is cut off at its edge, so that a row stays a line.
///
/// # Errors
/// As [`line`].
pub(crate) fn table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> anyhow::Result<()> {
    let stdout = rustix::stdio::stdout();
    let width = rustix::termios::tcgetwinsize(stdout).map(|size| size.ws_col.into());
    line(lines(header, rows.collect(), width.ok().filter(|&w| w > 0)))
}

/// Lays a table out, in lines of at most this width if the columns before the
/// last one leave room.
fn lines(header: &[&str], mut rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    for cell in rows.iter_mut().flatten() {
        *cell = plain(cell).replace('\n', " ");
    }
    let longest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let title = header[column].chars().count();
        cells.map(|c| c.chars().count()).fold(title, usize::max)
    };
    let Some(last) = header.len().checked_sub(1) else {
        return String::new();
    };
    // Each column has a space on either side.
    let before: usize = (0..last).map(|column| longest(column) + 2).sum();
    let room = width.map(|w| w.saturating_sub(before + 2));
    if let Some(room) = room.filter(|&room| room >= 10) {
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(last)) {
            if cell.chars().count() > room {
                *cell = cell.chars().take(room - 1).chain(['…']).collect();
            }
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
    fn a_row_stays_a_line_and_only_its_last_word_is_cut() {
        let rows = vec![
            vec![
                "0123456789ab".to_owned(),
                "sh -c 'while :; do :; done'".to_owned(),
            ],
            vec!["9876543210fe".to_owned(), "true".to_owned()],
        ];
        let text = lines(&["JOB", "COMMAND"], rows.clone(), Some(30));
        assert_eq!(
            text,
            " JOB           COMMAND\n 0123456789ab  sh -c 'while …\n 9876543210fe  true"
        );
        // Not a terminal, or one too narrow for anything: nothing is cut.
        for width in [None, Some(20)] {
            assert!(lines(&["JOB", "COMMAND"], rows.clone(), width).contains(":; done'"));
        }
        assert_eq!(lines(&["JOB"], Vec::new(), Some(80)), " JOB");
        let hostile = vec![vec!["\u{1b}[31m\u{9b}2Jx\r\ny".to_owned()]];
        assert_eq!(lines(&["JOB"], hostile, None), " JOB\n  [31m 2Jx  y");
    }
}
