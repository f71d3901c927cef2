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
