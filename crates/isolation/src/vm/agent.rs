//! The agent in a guest: a client of QEMU's guest agent (its
//! `qga/qapi-schema.json`), JSON lines over the machine's channel.
//!
//! ```text
//! connect: 0xff guest-sync-delimited ──► what is stale is passed over ──► one command at a time
//! ```
//!
//! Whoever has taken the guest over answers in the agent's place, so nothing it
//! says is trusted: an answer has a limit in bytes and in time, counts are
//! compared with what was asked, and what it calls text is only bytes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use super::qmp::Refusal;

/// The longest answer to what tells no output, in bytes.
const SHORT: usize = 1 << 20;
/// The longest answer with the output of a program: the agent keeps 16 MiB of
/// each stream, and writes them in base 64.
const OUTPUT: usize = 48 << 20;
/// How much of a file goes in one piece, in bytes.
pub const PIECE: usize = 256 << 10;
/// How long a guest may take to say that it does not end.
const REFUSES: Duration = Duration::from_millis(500);
/// Comes before what is not stale.
const SENTINEL: u8 = 0xff;

/// What goes wrong with the agent of a guest.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Nothing is said.
    #[error("no agent answers in the guest within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The agent says no.
    #[error("the guest's agent refuses {command}: {}", .refusal.description)]
    Refused {
        /// The command.
        command: &'static str,
        /// Its words.
        refusal: Refusal,
    },
    /// An answer is longer than any.
    #[error("the guest's agent answers {command} with more than {most} bytes")]
    Long {
        /// The command.
        command: &'static str,
        /// How many are read.
        most: usize,
    },
    /// An answer is none.
    #[error("the guest's agent answers {command} with nonsense: {what}")]
    Nonsense {
        /// The command.
        command: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The channel is closed.
    #[error("the channel to the guest's agent is closed")]
    Closed,
    /// The channel fails.
    #[error("cannot talk to the guest's agent")]
    Io(#[source] io::Error),
}

/// What a program in the guest has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// How it ended; none while it runs.
    pub end: Option<End>,
    /// What it wrote to its standard output; told at its end.
    pub out: Vec<u8>,
    /// What it wrote to its standard error.
    pub err: Vec<u8>,
    /// The agent did not keep all of it.
    pub truncated: bool,
}

/// How a program in the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

/// A connection to the agent.
#[derive(Debug)]
pub struct Agent {
    socket: UnixStream,
    /// What has come and was not taken.
    held: Vec<u8>,
    limit: Duration,
}

impl Agent {
    /// Takes a connected socket, and waits until the agent answers. `limit` holds
    /// for each later command.
    ///
    /// # Errors
    /// [`AgentError::Silent`] where there is none.
    pub fn connect(
        socket: UnixStream,
        patience: Duration,
        limit: Duration,
    ) -> Result<Self, AgentError> {
        let mut agent = Self {
            socket,
            held: Vec::new(),
            limit: patience,
        };
        agent.sync()?;
        agent.limit = limit;
        Ok(agent)
    }

    /// Takes a socket on whose other side a fuzzer is, which knows no number to answer.
    #[doc(hidden)]
    pub fn assumed(socket: UnixStream, limit: Duration) -> Self {
        Self {
            socket,
            held: Vec::new(),
            limit,
        }
    }

    /// Passes over what earlier clients have left.
    fn sync(&mut self) -> Result<(), AgentError> {
        const COMMAND: &str = "guest-sync-delimited";
        let mut bytes = [0; 4];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| AgentError::Io(e.into()))?;
        let id = u32::from_le_bytes(bytes);
        let until = Instant::now() + self.limit;
        let mut command = vec![SENTINEL];
        command.extend(line(COMMAND, json!({"id": id})));
        self.send(&command)?;
        loop {
            let mut line = self.line(until, COMMAND, SHORT)?;
            let Some(at) = line.iter().rposition(|b| *b == SENTINEL) else {
                continue;
            };
            let answer: Option<Value> = serde_json::from_slice(&line.split_off(at + 1)).ok();
            if answer.is_some_and(|answer| answer["return"] == id) {
                return Ok(());
            }
        }
    }

    /// Starts a program, with standard input if there is any; gives its number.
    ///
    /// # Errors
    /// [`AgentError`]; [`AgentError::Refused`] where it cannot be executed.
    pub fn exec(
        &mut self,
        words: &[String],
        env: &[String],
        input: Option<&[u8]>,
    ) -> Result<i64, AgentError> {
        #[derive(Deserialize)]
        struct Started {
            pid: i64,
        }
        let (path, arg) = words.split_first().ok_or(AgentError::Nonsense {
            command: "guest-exec",
            what: "there is no program",
        })?;
        let mut arguments = json!({"path": path, "arg": arg, "capture-output": true});
        if !env.is_empty() {
            arguments["env"] = json!(env);
        }
        if let Some(input) = input {
            arguments["input-data"] = STANDARD.encode(input).into();
        }
        let started: Started = self.ask("guest-exec", arguments, SHORT)?;
        Ok(started.pid)
    }

    /// Asks how far a program is. Its end is told once.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn progress(&mut self, pid: i64) -> Result<Progress, AgentError> {
        const COMMAND: &str = "guest-exec-status";
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Status {
            exited: bool,
            exitcode: Option<i64>,
            signal: Option<i64>,
            out_data: Option<String>,
            err_data: Option<String>,
            #[serde(default)]
            out_truncated: bool,
            #[serde(default)]
            err_truncated: bool,
        }
        let status: Status = self.ask(COMMAND, json!({"pid": pid}), OUTPUT)?;
        if !status.exited {
            return Ok(Progress::default());
        }
        let end = match (status.exitcode, status.signal) {
            // All of a Windows guest's 32 bits do not fit.
            (Some(code), None) => End::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            (None, Some(signal)) => End::Signal(u8::try_from(signal & 0x7f).unwrap_or(0)),
            _ => {
                return Err(nonsense(
                    COMMAND,
                    "it neither ended by itself nor by a signal",
                ));
            }
        };
        Ok(Progress {
            end: Some(end),
            out: bytes(COMMAND, status.out_data)?,
            err: bytes(COMMAND, status.err_data)?,
            truncated: status.out_truncated || status.err_truncated,
        })
    }

    /// Opens a file in the guest, in a mode of fopen(3); gives its handle.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn open(&mut self, path: &str, mode: &str) -> Result<i64, AgentError> {
        self.ask(
            "guest-file-open",
            json!({"path": path, "mode": mode}),
            SHORT,
        )
    }

    /// Reads the next piece of a file, at most [`PIECE`]; empty at its end.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn read(&mut self, handle: i64) -> Result<Vec<u8>, AgentError> {
        const COMMAND: &str = "guest-file-read";
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Got {
            count: u64,
            buf_b64: String,
            eof: bool,
        }
        let arguments = json!({"handle": handle, "count": PIECE});
        let got: Got = self.ask(COMMAND, arguments, SHORT)?;
        let piece = bytes(COMMAND, Some(got.buf_b64))?;
        if piece.len() as u64 != got.count || piece.len() > PIECE {
            return Err(nonsense(COMMAND, "the count is not that of the bytes"));
        }
        if piece.is_empty() && !got.eof {
            return Err(nonsense(COMMAND, "there is nothing, and it is not the end"));
        }
        Ok(piece)
    }

    /// Writes to a file.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn write(&mut self, handle: i64, mut piece: &[u8]) -> Result<(), AgentError> {
        const COMMAND: &str = "guest-file-write";
        #[derive(Deserialize)]
        struct Written {
            count: usize,
        }
        while !piece.is_empty() {
            let next = &piece[..piece.len().min(PIECE)];
            let arguments = json!({"handle": handle, "buf-b64": STANDARD.encode(next)});
            let written: Written = self.ask(COMMAND, arguments, SHORT)?;
            if written.count == 0 || written.count > next.len() {
                return Err(nonsense(COMMAND, "the count is not that of the bytes"));
            }
            piece = &piece[written.count..];
        }
        Ok(())
    }

    /// Closes a file; what was written to it is in the guest's hands then.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn close(&mut self, handle: i64) -> Result<(), AgentError> {
        let closed: Result<Value, _> =
            self.ask("guest-file-close", json!({"handle": handle}), SHORT);
        closed.map(drop)
    }

    /// Has the guest write out what it holds back, and write nothing more to its
    /// disks; gives how many file systems that is.
    ///
    /// # Errors
    /// [`AgentError`]; they may be frozen, unless it is [`AgentError::Refused`].
    pub fn freeze(&mut self) -> Result<u32, AgentError> {
        self.ask("guest-fsfreeze-freeze", json!({}), SHORT)
    }

    /// Lets it write again; gives how many file systems were frozen.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn thaw(&mut self) -> Result<u32, AgentError> {
        self.ask("guest-fsfreeze-thaw", json!({}), SHORT)
    }

    /// Sets the guest's clock: the time since 1970.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn set_time(&mut self, now: Duration) -> Result<(), AgentError> {
        let time = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let set: Result<Value, _> = self.ask("guest-set-time", json!({"time": time}), SHORT);
        set.map(drop)
    }

    /// Asks the guest to end: to switch itself off (`powerdown`) or to start anew
    /// (`reboot`). Who does has no answer.
    ///
    /// # Errors
    /// [`AgentError::Refused`]; another where it could not be asked.
    pub fn end(&mut self, mode: &str) -> Result<(), AgentError> {
        const COMMAND: &str = "guest-shutdown";
        self.limit = REFUSES;
        match self.ask::<Value>(COMMAND, json!({"mode": mode}), SHORT) {
            Err(AgentError::Silent(_) | AgentError::Closed) => Ok(()),
            other => other.map(drop),
        }
    }

    fn ask<T: DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: Value,
        most: usize,
    ) -> Result<T, AgentError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "return")]
            value: Option<Value>,
            error: Option<Refusal>,
        }
        let until = Instant::now() + self.limit;
        self.send(&line(command, arguments))?;
        let line = self.line(until, command, most)?;
        let answer: Answer =
            serde_json::from_slice(&line).map_err(|_| nonsense(command, "it is no answer"))?;
        match answer {
            Answer {
                value: Some(value),
                error: None,
            } => serde_json::from_value(value)
                .map_err(|_| nonsense(command, "it is an answer to something else")),
            Answer {
                value: None,
                error: Some(refusal),
            } => Err(AgentError::Refused { command, refusal }),
            _ => Err(nonsense(command, "it is neither yes nor no")),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), AgentError> {
        self.socket
            .set_write_timeout(Some(self.limit))
            .and_then(|()| self.socket.write_all(bytes))
            .map_err(|e| self.failed(e))
    }

    /// Takes the next line that is not empty.
    fn line(
        &mut self,
        until: Instant,
        command: &'static str,
        most: usize,
    ) -> Result<Vec<u8>, AgentError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.held[searched..].iter().position(|b| *b == b'\n') {
                let rest = self.held.split_off(searched + end + 1);
                let line = std::mem::replace(&mut self.held, rest);
                searched = 0;
                if !line.trim_ascii().is_empty() {
                    return Ok(line);
                }
                continue;
            }
            searched = self.held.len();
            if searched > most {
                return Err(AgentError::Long { command, most });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AgentError::Silent(self.limit));
            }
            let mut piece = [0; 16384];
            let got = self
                .socket
                .set_read_timeout(Some(left))
                .and_then(|()| self.socket.read(&mut piece));
            match got {
                Ok(0) => return Err(AgentError::Closed),
                Ok(got) => self.held.extend_from_slice(&piece[..got]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    fn failed(&self, error: io::Error) -> AgentError {
        use io::ErrorKind as K;
        match error.kind() {
            K::WouldBlock | K::TimedOut => AgentError::Silent(self.limit),
            K::BrokenPipe | K::ConnectionReset | K::UnexpectedEof => AgentError::Closed,
            _ => AgentError::Io(error),
        }
    }
}

impl AsFd for Agent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn line(command: &str, arguments: Value) -> Vec<u8> {
    let mut line = json!({"execute": command, "arguments": arguments}).to_string();
    line.push('\n');
    line.into_bytes()
}

fn nonsense(command: &'static str, what: &'static str) -> AgentError {
    AgentError::Nonsense { command, what }
}

fn bytes(command: &'static str, text: Option<String>) -> Result<Vec<u8>, AgentError> {
    let decoded = text.map(|text| STANDARD.decode(text)).transpose();
    let decoded = decoded.map_err(|_| nonsense(command, "it is not base 64"))?;
    Ok(decoded.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::thread::JoinHandle;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(30);

    /// An agent that answers each command by what `answer` makes of it.
    fn agent(
        answer: impl Fn(&str, &Value) -> Vec<u8> + Send + 'static,
    ) -> (UnixStream, JoinHandle<()>) {
        let (ours, its) = UnixStream::pair().expect("a pair");
        let thread = std::thread::spawn(move || {
            let mut write = its.try_clone().expect("cloned");
            for line in BufReader::new(its).split(b'\n') {
                let Ok(line) = line else { return };
                let text = line.strip_prefix(&[SENTINEL]).unwrap_or(&line);
                let command: Value = serde_json::from_slice(text).expect("JSON");
                let name = command["execute"].as_str().expect("a name");
                if write
                    .write_all(&answer(name, &command["arguments"]))
                    .is_err()
                {
                    return;
                }
            }
        });
        (ours, thread)
    }

    fn synced(arguments: &Value) -> Vec<u8> {
        let stale = b"{\"return\": 7}\n{\"error\": {\"class\":\"GenericError\",\"desc\":\"Invalid JSON\"}}\n";
        let answer = format!("{}\n", json!({"return": arguments["id"]}));
        [stale, &[SENTINEL][..], answer.as_bytes()].concat()
    }

    /// One that syncs well, and says this to all else.
    fn saying(text: &str) -> Agent {
        let text = text.as_bytes().to_vec();
        let (socket, _) = agent(move |name, arguments| match name {
            "guest-sync-delimited" => synced(arguments),
            _ => text.clone(),
        });
        Agent::connect(socket, LONG, SOON).expect("it answers")
    }

    #[test]
    fn a_program_runs_and_its_end_is_told() {
        let (socket, _) = agent(|name, arguments| match name {
            "guest-sync-delimited" => synced(arguments),
            "guest-exec" => {
                assert_eq!(arguments["path"], "sh");
                assert_eq!(arguments["arg"], json!(["-c", "exit 3"]));
                assert_eq!(arguments["env"], json!(["A=b"]));
                assert_eq!(arguments["input-data"], "aGk=");
                b"{\"return\": {\"pid\": 42}}\n".to_vec()
            }
            _ => {
                assert_eq!((name, &arguments["pid"]), ("guest-exec-status", &json!(42)));
                b"{\"return\": {\"exited\": true, \"exitcode\": 3, \"out-data\": \"b3V0\", \"err-truncated\": true}}\n".to_vec()
            }
        });
        let mut agent = Agent::connect(socket, LONG, LONG).expect("it answers");
        let words = ["sh", "-c", "exit 3"].map(str::to_owned);
        let pid = agent
            .exec(&words, &["A=b".into()], Some(b"hi"))
            .expect("started");
        let progress = agent.progress(pid).expect("told");
        assert_eq!(progress.end, Some(End::Code(3)));
        assert_eq!(
            (&progress.out[..], &progress.err[..]),
            (&b"out"[..], &[][..])
        );
        assert!(progress.truncated);
    }

    #[test]
    fn nobody_and_nonsense_are_told_apart() {
        let (ours, _its) = UnixStream::pair().expect("a pair");
        let error = Agent::connect(ours, SOON, SOON).expect_err("nobody");
        assert!(matches!(error, AgentError::Silent(_)), "{error}");
        let (ours, its) = UnixStream::pair().expect("a pair");
        drop(its);
        let error = Agent::connect(ours, SOON, SOON).expect_err("closed");
        assert!(matches!(error, AgentError::Closed), "{error}");
        // One that floods without an end of a line, or with stale answers, is given up.
        let (socket, _) = agent(|_, _| vec![b'x'; 2 << 20]);
        let error = Agent::connect(socket, LONG, SOON).expect_err("a flood");
        assert!(matches!(error, AgentError::Long { .. }), "{error}");

        let status = |text: &str| saying(text).progress(1).expect_err("nonsense").to_string();
        assert!(
            status("{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}\n")
                .ends_with("refuses guest-exec-status: no")
        );
        for text in [
            "hello\n",
            "{}\n",
            "[]\n",
            "{\"return\": 1}\n",
            "{\"return\": {}, \"error\": {\"class\":\"\",\"desc\":\"\"}}\n",
            "{\"return\": {\"exited\": true}}\n",
            "{\"return\": {\"exited\": true, \"exitcode\": 0, \"signal\": 9}}\n",
            "{\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": \"?\"}}\n",
            "{\"return\": {\"exited\": true, \"exitcode\": 99999999999999999999}}\n",
        ] {
            assert!(status(text).contains("nonsense"), "{text}");
        }
        assert!(status(&"[".repeat(1000)).contains("no agent answers"));
        assert!(status(&format!("{}\n", "[".repeat(100_000))).contains("nonsense"));
    }

    #[test]
    fn counts_that_are_not_those_of_the_bytes_are_refused() {
        let read = |text: &str| saying(text).read(1);
        let piece = read("{\"return\": {\"count\": 2, \"buf-b64\": \"aGk=\", \"eof\": true}}\n");
        assert_eq!(piece.expect("read"), b"hi");
        for text in [
            "{\"return\": {\"count\": 3, \"buf-b64\": \"aGk=\", \"eof\": true}}\n",
            "{\"return\": {\"count\": 0, \"buf-b64\": \"\", \"eof\": false}}\n",
        ] {
            assert!(
                matches!(read(text), Err(AgentError::Nonsense { .. })),
                "{text}"
            );
        }
        let many = STANDARD.encode(vec![0; PIECE + 1]);
        let text = json!({"return": {"count": PIECE + 1, "buf-b64": many, "eof": false}});
        assert!(matches!(
            read(&format!("{text}\n")),
            Err(AgentError::Nonsense { .. })
        ));
        for count in ["0", "5", "-1"] {
            let text = format!("{{\"return\": {{\"count\": {count}, \"eof\": false}}}}\n");
            let error = saying(&text).write(1, b"hi").expect_err("nonsense");
            assert!(matches!(error, AgentError::Nonsense { .. }), "{error}");
        }
    }
}
