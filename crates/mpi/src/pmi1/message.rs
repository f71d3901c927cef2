//! One line of PMI-1: `cmd=put kvsname=k key=a value=b`.

use std::fmt;

use thiserror::Error;

/// What is wrong with a line.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// The line does not start with `cmd=` and a word.
    #[error("the line {0:?} does not start with cmd=")]
    NoCommand(String),
    /// A field starts with `=`.
    #[error("the line {0:?} has a value without a key")]
    NoKey(String),
}

/// A command and its fields, in the order of the wire.
///
/// The protocol has no quoting that all clients understand: MPICH up to 4.0
/// ends a value at the first space. So a value on the wire never holds a
/// space, a line end or a NUL, and nothing is unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    command: String,
    fields: Vec<(String, String)>,
}

impl Message {
    /// Starts a message without fields.
    pub fn new(command: &str) -> Self {
        Self {
            command: word(command),
            fields: Vec::new(),
        }
    }

    /// Adds a field. What cannot stand in a word of the protocol becomes `_`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.fields
            .push((word(key).replace('=', "_"), word(&value.to_string())));
        self
    }

    /// Gives the command's name.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Gives the first field of this name.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Gives the first field of this name as a number.
    pub fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        self.get(key)?.parse().ok()
    }

    /// Reads a line without its line end.
    ///
    /// # Errors
    /// When the line has no command, or a field without a name.
    pub fn parse(line: &str) -> Result<Self, MessageError> {
        let excerpt = || line.chars().take(60).collect();
        let command = line
            .strip_prefix("cmd=")
            .map(|rest| rest.split(' ').next().unwrap_or_default())
            .filter(|command| !command.is_empty())
            .ok_or_else(|| MessageError::NoCommand(excerpt()))?;
        let mut message = Self::new(command);
        let mut rest = &line["cmd=".len() + command.len()..];
        loop {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                return Ok(message);
            }
            let end = rest.find(' ').unwrap_or(rest.len());
            let (key, value) = match rest[..end].split_once('=') {
                Some(("", _)) => return Err(MessageError::NoKey(excerpt())),
                // The text of an abort is for people and is sent with its spaces.
                Some(("message", _)) if command == "abort" => {
                    let text = rest["message=".len()..].to_owned();
                    message.fields.push(("message".into(), text));
                    return Ok(message);
                }
                Some(pair) => pair,
                None => (&rest[..end], ""),
            };
            message.fields.push((key.to_owned(), value.to_owned()));
            rest = &rest[end..];
        }
    }

    /// Writes the line with its line end.
    pub fn encode(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cmd={}", self.command)?;
        for (key, value) in &self.fields {
            write!(f, " {key}={value}")?;
        }
        f.write_str("\n")
    }
}

fn word(text: &str) -> String {
    text.replace([' ', '\n', '\0'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_mpich_is_read() {
        let put = Message::parse("cmd=put kvsname=kvs_1 key=-bcast-1-0 value=2F64=x").expect("ok");
        assert_eq!(put.command(), "put");
        assert_eq!(put.get("key"), Some("-bcast-1-0"));
        assert_eq!(put.get("value"), Some("2F64=x"));
        assert_eq!(put.get("rc"), None);
    }

    #[test]
    fn the_text_of_an_abort_keeps_its_spaces() {
        let line = "cmd=abort exitcode=7 message=application called MPI_Abort(x, 7) a=b";
        let abort = Message::parse(line).expect("ok");
        assert_eq!(abort.number::<i32>("exitcode"), Some(7));
        assert_eq!(
            abort.get("message"),
            Some("application called MPI_Abort(x, 7) a=b")
        );
    }

    #[test]
    fn a_line_without_a_command_is_refused() {
        for bad in ["", "cmd=", "cmd", "hello cmd=init", "cmd= init"] {
            assert!(
                matches!(Message::parse(bad), Err(MessageError::NoCommand(_))),
                "{bad:?}"
            );
        }
        assert!(matches!(
            Message::parse("cmd=get =x"),
            Err(MessageError::NoKey(_))
        ));
    }

    proptest! {
        #[test]
        fn a_message_survives_the_wire(
            command in "[a-z_]{1,20}",
            fields in prop::collection::vec(("[a-zA-Z0-9_-]{1,20}", "[^ \n\0]{0,40}"), 0..6),
        ) {
            prop_assume!(command != "abort");
            let mut message = Message::new(&command);
            for (key, value) in &fields {
                message = message.with(key, value);
            }
            let line = message.to_string();
            prop_assert!(line.ends_with('\n') && !line[..line.len() - 1].contains('\n'));
            prop_assert_eq!(Message::parse(&line[..line.len() - 1]), Ok(message));
        }

        #[test]
        fn no_value_can_break_out_of_its_line(value in any::<String>()) {
            let line = Message::new("get_result").with("rc", 0).with("value", &value).to_string();
            prop_assert_eq!(line.matches('\n').count(), 1);
            let back = Message::parse(line.trim_end_matches('\n')).expect("own line");
            prop_assert_eq!(back.number::<i32>("rc"), Some(0));
        }

        #[test]
        fn any_line_is_read_or_refused(line in any::<String>()) {
            let _ = Message::parse(&line);
        }
    }
}
