//! Bytes to messages and back, without a socket.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// No line is longer, in bytes. QEMU's longest answers (its own schema) are far below.
pub const MAX_LINE: usize = 1 << 20;

/// Why bytes are no QMP.
#[derive(Debug, Error)]
pub enum Malformed {
    /// A line is longer than [`MAX_LINE`].
    #[error("a line is longer than 1 MiB")]
    Long,
    /// A line is no JSON, or has members of other types.
    #[error("a line is no message")]
    Json(#[source] serde_json::Error),
    /// A line is not one of greeting, return, error and event.
    #[error("a line is not one of greeting, return, error and event")]
    Shape,
    /// Something came before the greeting.
    #[error("it does not greet")]
    NoGreeting,
    /// A greeting came in the middle.
    #[error("it greets twice")]
    SecondGreeting,
    /// An answer to a command that was never sent.
    #[error("it answers what was not asked")]
    UnknownAnswer,
}

/// QEMU's version.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// 7 of `7.2.22`.
    pub major: u32,
    /// 2 of `7.2.22`.
    pub minor: u32,
    /// 22 of `7.2.22`.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// QEMU's no.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// Such as `GenericError` or `CommandNotFound`.
    pub class: String,
    /// For people.
    #[serde(rename = "desc")]
    pub description: String,
}

/// When an event happened, by the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Timestamp {
    /// Since 1970; -1 when the clock could not be read.
    pub seconds: i64,
    /// Of a second; -1 likewise.
    pub microseconds: i64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as `SHUTDOWN` or `BLOCK_IO_ERROR`.
    pub name: String,
    /// What belongs to it; null when nothing does.
    pub data: Value,
    /// When it happened.
    pub time: Timestamp,
}

impl Event {
    /// Tells whether a failed access to a disk (`BLOCK_IO_ERROR`) found no room on the
    /// host. The word for it is left out where the guest was told of an error.
    #[must_use]
    pub fn is_of_full_disk(&self) -> bool {
        self.data["nospace"] == true || self.data["reason"] == "No space left on device"
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first line.
    Greeting(Version),
    /// A command was done.
    Return {
        /// Its number.
        id: u64,
        /// What it gives.
        value: Value,
    },
    /// A command was refused.
    Error {
        /// Its number; none when QEMU could not read so far.
        id: Option<u64>,
        /// Why.
        refusal: Refusal,
    },
    /// Something happened.
    Event(Event),
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    timestamp: Option<Timestamp>,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Greeting {
    version: Versions,
}

#[derive(Deserialize)]
struct Versions {
    qemu: Version,
}

impl Message {
    /// Reads one line, without its end.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let line: Line = serde_json::from_slice(line).map_err(Malformed::Json)?;
        match line {
            Line {
                greeting: Some(greeting),
                value: None,
                error: None,
                event: None,
                ..
            } => Ok(Self::Greeting(greeting.version.qemu)),
            Line {
                greeting: None,
                value: Some(value),
                error: None,
                event: None,
                id: Some(id),
                ..
            } => Ok(Self::Return { id, value }),
            Line {
                greeting: None,
                value: None,
                error: Some(refusal),
                event: None,
                id,
                ..
            } => Ok(Self::Error { id, refusal }),
            Line {
                greeting: None,
                value: None,
                error: None,
                event: Some(name),
                data,
                timestamp: Some(time),
                ..
            } => Ok(Self::Event(Event { name, data, time })),
            _ => Err(Malformed::Shape),
        }
    }
}

/// Writes a command as one line.
pub(super) fn command(
    name: &str,
    arguments: impl Serialize,
    id: u64,
) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Command<'a> {
        execute: &'a str,
        #[serde(skip_serializing_if = "Value::is_null")]
        arguments: Value,
        id: u64,
    }
    let mut line = serde_json::to_vec(&Command {
        execute: name,
        arguments: serde_json::to_value(arguments)?,
        id,
    })?;
    line.push(b'\n');
    Ok(line)
}

/// Parts what comes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Bytes before this belong to lines that were taken.
    taken: usize,
    /// Bytes before this hold no end of a line that was not taken.
    searched: usize,
}

impl Lines {
    /// Adds what has come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the number of bytes that have come and were not taken.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Takes the next whole line: its message, and its bytes. Empty lines are
    /// passed over.
    ///
    /// # Errors
    /// [`Malformed`]; a line that is too long is told before its end has come.
    #[expect(clippy::should_implement_trait, reason = "it is fed in between")]
    pub fn next(&mut self) -> Result<Option<(Message, Vec<u8>)>, Malformed> {
        loop {
            let end = self.bytes[self.searched..].iter().position(|&b| b == b'\n');
            let Some(end) = end.map(|at| self.searched + at) else {
                self.searched = self.bytes.len();
                return if self.held() > MAX_LINE {
                    Err(Malformed::Long)
                } else {
                    Ok(None)
                };
            };
            let line = self.bytes[self.taken..end].trim_ascii();
            if line.len() > MAX_LINE {
                return Err(Malformed::Long);
            }
            (self.taken, self.searched) = (end + 1, end + 1);
            if !line.is_empty() {
                return Ok(Some((Message::parse(line)?, line.to_vec())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value) -> Result<Message, Malformed> {
        Message::parse(value.to_string().as_bytes())
    }

    #[test]
    fn lines_of_a_real_qemu_are_understood() {
        let table = [
            (
                json!({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}),
                Message::Greeting(Version {
                    major: 7,
                    minor: 2,
                    micro: 22,
                }),
            ),
            (
                json!({"return": {}, "id": 5}),
                Message::Return {
                    id: 5,
                    value: json!({}),
                },
            ),
            (
                json!({"error": {"class": "GenericError", "desc": "JSON parse error"}}),
                Message::Error {
                    id: None,
                    refusal: Refusal {
                        class: "GenericError".into(),
                        description: "JSON parse error".into(),
                    },
                },
            ),
            (
                json!({"timestamp": {"seconds": -1, "microseconds": -1}, "event": "STOP"}),
                Message::Event(Event {
                    name: "STOP".into(),
                    data: Value::Null,
                    time: Timestamp {
                        seconds: -1,
                        microseconds: -1,
                    },
                }),
            ),
        ];
        for (line, message) in table {
            assert_eq!(parse(&line).expect("understood"), message);
        }
    }

    #[test]
    fn what_is_two_things_or_none_is_refused() {
        let event = json!({"seconds": 1, "microseconds": 2});
        for line in [
            json!({}),
            json!([]),
            json!({"return": {}}),
            json!({"return": null, "id": 1}),
            json!({"return": {}, "id": "1"}),
            json!({"return": {}, "error": {"class": "a", "desc": "b"}, "id": 1}),
            json!({"event": "STOP"}),
            json!({"event": "STOP", "timestamp": event, "return": {}, "id": 1}),
            json!({"error": {"class": 1, "desc": "b"}}),
            json!({"QMP": {"version": {"qemu": {"major": -1, "minor": 0, "micro": 0}}}}),
        ] {
            assert!(parse(&line).is_err(), "{line}");
        }
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(
            Message::parse(&deep).is_err(),
            "the stack is not run through"
        );
    }

    #[test]
    fn lines_come_out_however_the_bytes_come_in() {
        let text = b"\r\n{\"return\":{},\"id\":1}\r\n\n{\"return\":[],\"id\":2}\n{\"retu";
        for piece in 1..text.len() {
            let (mut lines, mut ids) = (Lines::default(), Vec::new());
            for bytes in text.chunks(piece) {
                lines.feed(bytes);
                while let Some((message, _)) = lines.next().expect("understood") {
                    match message {
                        Message::Return { id, .. } => ids.push(id),
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(ids, [1, 2], "in pieces of {piece}");
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut lines = Lines::default();
        let chunk = [b' '; 16384];
        for _ in 0..MAX_LINE / chunk.len() {
            lines.feed(&chunk);
            assert!(lines.next().expect("not yet").is_none());
        }
        lines.feed(b" ");
        assert!(matches!(lines.next(), Err(Malformed::Long)));
    }

    #[test]
    fn no_arguments_are_left_out() {
        let line = command("stop", (), 3).expect("written");
        assert_eq!(line, b"{\"execute\":\"stop\",\"id\":3}\n");
        let line = command("x", json!({"a": "\n"}), 4).expect("written");
        assert_eq!(
            line,
            b"{\"execute\":\"x\",\"arguments\":{\"a\":\"\\n\"},\"id\":4}\n"
        );
    }
}
