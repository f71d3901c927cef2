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
    line(serde_json::to_string_pretty(value)?)
}

fn ignore_broken_pipe(result: std::io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a table without borders; nothing but the header when it is empty.
///
/// # Errors
/// As [`line`].
pub(crate) fn table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> anyhow::Result<()> {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    line(table.trim_fmt())
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
