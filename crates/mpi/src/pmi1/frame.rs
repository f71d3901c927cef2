//! Cuts what a rank sends into messages, in bounded memory.

use thiserror::Error;

use super::message::{Message, MessageError};

/// The longest line that is taken, in bytes; MPICH's own buffer is 1,024.
pub const LINE_MAX: usize = 8 * 1024;
/// The longest spawn request that is read to its end, in bytes.
pub const SPAWN_MAX: usize = 256 * 1024;

/// One message of a rank.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A line.
    Line(Message),
    /// A whole `mcmd=spawn … endcmd` request; its content is of no interest,
    /// since spawning is refused.
    Spawn,
}

/// Why a stream cannot be read on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// A line is longer than [`LINE_MAX`].
    #[error("a line is longer than {LINE_MAX} bytes")]
    LineTooLong,
    /// A spawn request is longer than [`SPAWN_MAX`].
    #[error("a spawn request is longer than {SPAWN_MAX} bytes")]
    SpawnTooLong,
    /// The client frames messages as PMI-2 does.
    #[error("the client speaks PMI-2")]
    Pmi2,
    /// The line is not text.
    #[error("a line is not UTF-8")]
    NotText,
    /// The line is no message.
    #[error("not a PMI-1 line")]
    Message(#[from] MessageError),
}

/// How far a spawn request was read: `totspawns` blocks, each ended by `endcmd`.
#[derive(Debug, Default)]
struct SpawnProgress {
    total: u32,
    so_far: u32,
    bytes: usize,
}

/// The unread bytes of one rank.
#[derive(Debug, Default)]
pub struct Frames {
    pending: Vec<u8>,
    spawn: Option<SpawnProgress>,
}

impl Frames {
    /// Takes bytes off the front of `bytes` up to the end of one message.
    ///
    /// Returns `None` when `bytes` is used up and no message is whole. Keeps at
    /// most [`LINE_MAX`] bytes.
    ///
    /// # Errors
    /// The stream cannot be read on after an error.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|b| *b == b'\n');
            let take = end.unwrap_or(bytes.len());
            if self.pending.len() + take > LINE_MAX {
                return Err(FrameError::LineTooLong);
            }
            self.pending.extend_from_slice(&bytes[..take]);
            // PMI-2 puts six digits of length before the message and no line end after it.
            if self.pending.get(6..10) == Some(b"cmd=") {
                return Err(FrameError::Pmi2);
            }
            if end.is_none() {
                *bytes = &[];
                return Ok(None);
            }
            *bytes = &bytes[take + 1..];
            let line = std::mem::take(&mut self.pending);
            let line = std::str::from_utf8(&line).map_err(|_| FrameError::NotText)?;
            if line.starts_with("mcmd=spawn") && self.spawn.is_none() {
                self.spawn = Some(SpawnProgress::default());
            }
            match &mut self.spawn {
                None => return Ok(Some(Frame::Line(Message::parse(line)?))),
                Some(spawn) => {
                    if spawn.line(line)? {
                        self.spawn = None;
                        return Ok(Some(Frame::Spawn));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl SpawnProgress {
    /// Reads one line and tells whether the request is whole.
    fn line(&mut self, line: &str) -> Result<bool, FrameError> {
        self.bytes += line.len() + 1;
        if self.bytes > SPAWN_MAX {
            return Err(FrameError::SpawnTooLong);
        }
        match line.split_once('=') {
            Some(("totspawns", n)) => self.total = n.parse().unwrap_or(0),
            Some(("spawnssofar", n)) => self.so_far = n.parse().unwrap_or(0),
            _ => return Ok(line == "endcmd" && self.so_far >= self.total),
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(mut bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        while let Some(frame) = frames.next(&mut bytes)? {
            found.push(frame);
        }
        Ok(found)
    }

    #[test]
    fn a_spawn_of_two_commands_is_one_request() {
        let block = |n| {
            format!(
                "mcmd=spawn\nnprocs=1\nexecname=./a b\ntotspawns=2\nspawnssofar={n}\narg1=endcmd x\nargcnt=1\nendcmd\n"
            )
        };
        let bytes = format!("{}{}cmd=finalize\n", block(1), block(2));
        assert_eq!(
            all(bytes.as_bytes()),
            Ok(vec![Frame::Spawn, Frame::Line(Message::new("finalize"))])
        );
    }

    #[test]
    fn pmi_2_is_recognised_by_its_length_prefix() {
        assert_eq!(
            all(b"    42cmd=fullinit;pmijobid=1;"),
            Err(FrameError::Pmi2)
        );
    }

    #[test]
    fn a_line_without_end_is_cut_off() {
        let endless = vec![b'a'; LINE_MAX + 1];
        assert_eq!(all(&endless), Err(FrameError::LineTooLong));
        let mut spawn = b"mcmd=spawn\n".to_vec();
        for _ in 0..SPAWN_MAX / 8 + 1 {
            spawn.extend_from_slice(b"arg1=xy\n");
        }
        assert_eq!(all(&spawn), Err(FrameError::SpawnTooLong));
    }

    proptest! {
        #[test]
        fn the_cut_of_the_stream_does_not_matter(cuts in prop::collection::vec(1usize..20, 1..30)) {
            let text: &[u8] = b"cmd=init pmi_version=1 pmi_subversion=1\ncmd=get_maxes\n\
                mcmd=spawn\ntotspawns=1\nspawnssofar=1\nendcmd\ncmd=put kvsname=a key=b value=c\n";
            let (mut frames, mut found, mut rest) = (Frames::default(), Vec::new(), text);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (mut now, later) = rest.split_at((*cut).min(rest.len()));
                while let Some(frame) = frames.next(&mut now).expect("valid") {
                    found.push(frame);
                }
                rest = later;
            }
            prop_assert_eq!(Ok(found), all(text));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = all(&bytes);
        }
    }
}
