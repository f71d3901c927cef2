//! Answers the host in the words of QEMU's guest agent (its `qga/qapi-schema.json`),
//! so that one client serves machines of every kind.
//!
//! What asks is the host, whom a guest cannot refuse anything.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyperion_sys::{mount, signals};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::process::Pid;
use rustix::time::{ClockId, clock_settime};
use serde::Deserialize;
use serde_json::{Value, json};

use super::helper::all_of;
use super::service::{OFF, PATH, REBOOT};
use crate::vm::guest::virtio_port;

/// The port's name.
const PORT: &str = "org.qemu.guest_agent.0";
/// Comes before what is not stale.
const SENTINEL: u8 = 0xff;
/// The longest question, in bytes: 8 MiB of input in base 64, and more.
const MOST: usize = 32 << 20;
/// The most that is kept of each stream of a program, in bytes.
const OUTPUT: usize = 16 << 20;
/// The most of a file in one answer, in bytes.
const PIECE: usize = 512 << 10;
/// How often it is looked whether the host is there again.
const LOOK: Duration = Duration::from_millis(100);

/// Answers as long as the machine runs.
pub(super) fn serve(own_init: bool) {
    let Ok(device) = virtio_port(PORT) else {
        // No channel in the definition: the network is kept all the same.
        loop {
            std::thread::park();
        }
    };
    let Ok(mut port) = OpenOptions::new().read(true).write(true).open(device) else {
        return;
    };
    let mut agent = Agent {
        own_init,
        next: 1,
        files: BTreeMap::new(),
        programs: BTreeMap::new(),
        frozen: false,
    };
    let mut held = Vec::new();
    let mut searched = 0;
    let mut piece = vec![0; 64 << 10];
    loop {
        let mut fds = [PollFd::from_borrowed_fd(port.as_fd(), PollFlags::IN)];
        let _ = poll(&mut fds, None);
        match port.read(&mut piece) {
            Ok(got) if got > 0 => held.extend_from_slice(&piece[..got]),
            // Nobody is at the other end.
            _ => {
                held.clear();
                searched = 0;
                std::thread::sleep(LOOK);
                continue;
            }
        }
        while let Some(end) = held[searched..].iter().position(|b| *b == b'\n') {
            let rest = held.split_off(searched + end + 1);
            let mut line = std::mem::replace(&mut held, rest);
            searched = 0;
            if let Some(stale) = line.iter().rposition(|b| *b == SENTINEL) {
                line.drain(..=stale);
            }
            if let Some(answer) = agent.answer(&line) {
                let _ = port.write_all(&answer);
            }
        }
        if held.len() > MOST {
            held.clear();
        }
        searched = held.len();
    }
}

struct Agent {
    /// The init is the image's own.
    own_init: bool,
    next: u64,
    files: BTreeMap<u64, File>,
    programs: BTreeMap<u64, Program>,
    frozen: bool,
}

/// The bytes of a stream, and whether there were more.
type Kept = (Vec<u8>, bool);

struct Program {
    child: Child,
    /// What it writes, where that is kept.
    streams: Option<[JoinHandle<Kept>; 2]>,
}

/// Why something was not done.
struct Refused(String);

impl<E: std::fmt::Display> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

#[derive(Deserialize)]
struct Question {
    execute: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Exec {
    path: String,
    #[serde(default)]
    arg: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    input_data: Option<String>,
    #[serde(default)]
    capture_output: bool,
}

impl Agent {
    fn answer(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        let (delimited, result) = match serde_json::from_slice::<Question>(line) {
            Ok(question) => (
                question.execute == "guest-sync-delimited",
                self.carry_out(&question.execute, question.arguments)?,
            ),
            Err(e) => (false, Err(e.into())),
        };
        let answer = match result {
            Ok(value) => json!({"return": value}),
            Err(Refused(why)) => json!({"error": {"class": "GenericError", "desc": why}}),
        };
        let mut bytes = Vec::new();
        if delimited {
            bytes.push(SENTINEL);
        }
        bytes.extend(answer.to_string().into_bytes());
        bytes.push(b'\n');
        Some(bytes)
    }

    /// Does what is asked; `None` where a good end has no answer.
    fn carry_out(&mut self, command: &str, arguments: Value) -> Option<Result<Value, Refused>> {
        Some(match command {
            "guest-ping" => Ok(json!({})),
            "guest-sync" | "guest-sync-delimited" => Ok(arguments["id"].clone()),
            "guest-info" => {
                Ok(json!({"version": env!("CARGO_PKG_VERSION"), "supported_commands": []}))
            }
            "guest-exec" => self.exec(arguments),
            "guest-exec-status" => self.status(&arguments),
            "guest-file-open" => self.open(&arguments),
            "guest-file-read" => self.read(&arguments),
            "guest-file-write" => self.write(&arguments),
            "guest-file-flush" | "guest-file-close" => self.close(&arguments, command),
            "guest-fsfreeze-status" => Ok(json!(if self.frozen { "frozen" } else { "thawed" })),
            "guest-fsfreeze-freeze" => self.freeze(true),
            "guest-fsfreeze-thaw" => self.freeze(false),
            "guest-set-time" => set_time(&arguments),
            "guest-shutdown" => match self.end(&arguments) {
                Ok(()) => return None,
                Err(refused) => Err(refused),
            },
            other => Err(Refused(format!("The command {other} has not been found"))),
        })
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn exec(&mut self, arguments: Value) -> Result<Value, Refused> {
        let asked: Exec = serde_json::from_value(arguments)?;
        let mut command = Command::new(&asked.path);
        command.args(&asked.arg).current_dir("/");
        if asked.env.is_empty() {
            command
                .env_clear()
                .envs([("PATH", PATH), ("HOME", "/root"), ("TERM", "linux")]);
        } else {
            let pairs = asked.env.iter().filter_map(|env| env.split_once('='));
            command.env_clear().envs(pairs);
        }
        let input = asked
            .input_data
            .map(|data| STANDARD.decode(data))
            .transpose()?;
        let kept = || match asked.capture_output {
            true => Stdio::piped(),
            false => Stdio::null(),
        };
        command.stdout(kept()).stderr(kept()).stdin(match input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        });
        let mut child = command.spawn().map_err(|e| {
            Refused(format!(
                "Failed to execute child process {}: {e}",
                asked.path
            ))
        })?;
        // It is not kept when memory is short, as this process is.
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "0");
        if let (Some(mut to), Some(input)) = (child.stdin.take(), input) {
            std::thread::spawn(move || drop(to.write_all(&input)));
        }
        let streams = match (child.stdout.take(), child.stderr.take()) {
            (Some(out), Some(err)) => Some([
                std::thread::spawn(move || all_of(out, OUTPUT)),
                std::thread::spawn(move || all_of(err, OUTPUT)),
            ]),
            _ => None,
        };
        let pid = u64::from(child.id());
        self.programs.insert(pid, Program { child, streams });
        Ok(json!({"pid": pid}))
    }

    fn status(&mut self, arguments: &Value) -> Result<Value, Refused> {
        let pid = number_of(arguments, "pid")?;
        let unknown = || Refused(format!("PID {pid} does not exist"));
        let program = self.programs.get_mut(&pid).ok_or_else(unknown)?;
        let Some(status) = program.child.try_wait()? else {
            return Ok(json!({"exited": false}));
        };
        // Whoever still has its streams open keeps them from being told.
        let open = |streams: &[JoinHandle<_>; 2]| streams.iter().any(|s| !s.is_finished());
        if program.streams.as_ref().is_some_and(open) {
            return Ok(json!({"exited": false}));
        }
        let Some(program) = self.programs.remove(&pid) else {
            return Err(unknown());
        };
        let mut answer = json!({"exited": true});
        match status.signal() {
            Some(signal) => answer["signal"] = signal.into(),
            None => answer["exitcode"] = status.code().into(),
        }
        for (name, stream) in ["out", "err"]
            .iter()
            .zip(program.streams.into_iter().flatten())
        {
            let (bytes, truncated) = stream.join().unwrap_or_default();
            if !bytes.is_empty() {
                answer[format!("{name}-data")] = STANDARD.encode(bytes).into();
            }
            if truncated {
                answer[format!("{name}-truncated")] = true.into();
            }
        }
        Ok(answer)
    }

    fn open(&mut self, arguments: &Value) -> Result<Value, Refused> {
        let path = arguments["path"].as_str().ok_or("no path")?;
        let mode = arguments["mode"].as_str().unwrap_or("r");
        let plain: String = mode.chars().filter(|c| *c != 'b').collect();
        let mut options = OpenOptions::new();
        match plain.as_str() {
            "r" => options.read(true),
            "r+" => options.read(true).write(true),
            "w" => options.write(true).create(true).truncate(true),
            "w+" => options.read(true).write(true).create(true).truncate(true),
            "a" => options.append(true).create(true),
            "a+" => options.read(true).append(true).create(true),
            _ => return Err(Refused(format!("invalid file open mode '{mode}'"))),
        };
        // Not to be held up by a pipe that nobody writes to.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        let cannot = |e: io::Error| Refused(format!("failed to open file '{path}': {e}"));
        let file = options.open(path).map_err(cannot)?;
        if file.metadata().map_err(cannot)?.is_dir() {
            return Err(Refused(format!(
                "failed to open file '{path}': it is a folder"
            )));
        }
        let handle = self.number();
        self.files.insert(handle, file);
        Ok(handle.into())
    }

    fn file(&mut self, arguments: &Value) -> Result<&mut File, Refused> {
        let handle = number_of(arguments, "handle")?;
        let file = self.files.get_mut(&handle);
        file.ok_or_else(|| Refused(format!("handle '{handle}' has not been found")))
    }

    fn read(&mut self, arguments: &Value) -> Result<Value, Refused> {
        let count = arguments["count"]
            .as_u64()
            .unwrap_or(4096)
            .min(PIECE as u64) as usize;
        let mut bytes = vec![0; count];
        let got = self.file(arguments)?.read(&mut bytes)?;
        let data = STANDARD.encode(&bytes[..got]);
        Ok(json!({"count": got, "buf-b64": data, "eof": got == 0}))
    }

    fn write(&mut self, arguments: &Value) -> Result<Value, Refused> {
        let data = STANDARD.decode(arguments["buf-b64"].as_str().unwrap_or_default())?;
        self.file(arguments)?.write_all(&data)?;
        Ok(json!({"count": data.len(), "eof": false}))
    }

    fn close(&mut self, arguments: &Value, command: &str) -> Result<Value, Refused> {
        self.file(arguments)?.flush()?;
        if command == "guest-file-close" {
            self.files.remove(&number_of(arguments, "handle")?);
        }
        Ok(json!({}))
    }

    fn freeze(&mut self, frozen: bool) -> Result<Value, Refused> {
        if self.frozen == frozen {
            return Ok(0.into());
        }
        if frozen {
            rustix::fs::sync();
        }
        mount::freeze(File::open("/")?, frozen)?;
        self.frozen = frozen;
        Ok(1.into())
    }

    /// Asks the init to end the machine, in the way that it understands.
    fn end(&self, arguments: &Value) -> Result<(), Refused> {
        let (signal, program) = match arguments["mode"].as_str().unwrap_or("powerdown") {
            "reboot" => (REBOOT, "/sbin/reboot"),
            "powerdown" | "halt" => (OFF, "/sbin/poweroff"),
            other => return Err(Refused(format!("there is no shutdown {other:?}"))),
        };
        if !self.own_init || Path::new("/run/systemd/system").is_dir() {
            return Ok(signals::send(Pid::INIT, signal)?);
        }
        // Who ends the machine ends that, too.
        Command::new(program).spawn()?;
        Ok(())
    }
}

fn set_time(arguments: &Value) -> Result<Value, Refused> {
    let now = Duration::from_nanos(number_of(arguments, "time")?);
    clock_settime(ClockId::Realtime, Timespec::try_from(now)?)?;
    Ok(json!({}))
}

fn number_of(arguments: &Value, name: &str) -> Result<u64, Refused> {
    let number = arguments[name].as_u64();
    number.ok_or_else(|| Refused(format!("{name} is no number")))
}
