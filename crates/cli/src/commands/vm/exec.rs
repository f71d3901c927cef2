//! Programs in a guest by its agent: `hyperion vm exec`.
//!
//! The agent tells what a program wrote at its end only, and keeps 16 MiB of it.
//! So a shell in the guest lets the program write to two files in a folder of its
//! own, which are read while they grow. A guest without a shell (Windows) is told
//! of at the end.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::Args;
use hyperion_isolation::vm::agent::{Agent, AgentError, End};
use hyperion_model::Class;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::signals::{self, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::agent::agent;
use crate::context::Context;
use crate::{errors, output};

/// The most standard input that a program is given, in bytes: it goes in one piece.
const MOST_INPUT: u64 = 8 << 20;
/// How long is waited between two looks at a program, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(320));
/// From such a wait on others may talk to the agent meanwhile: it hears one at a time.
const LETS_GO: Duration = Duration::from_millis(160);
/// How long each try takes to be heard again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many pieces of one stream are taken in a row.
const PIECES: usize = 16;

/// Starts a program with its output in files of a new folder, and as the first of
/// its own group where the guest can. What it leaves with is the program's.
const SHELL: &str = r#"mask=$(umask); umask 077; mkdir "$0" || exit 125; umask "$mask"
if command -v setsid >/dev/null; then exec setsid "$@" >"$0/out" 2>"$0/err"; fi
exec "$@" >"$0/out" 2>"$0/err""#;
/// Sends a signal to a group, or else to its first alone.
const KILL: &str = r#"kill -"$0" -"$1" || kill -"$0" "$1""#;

// Words of `hyperion vm exec`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm exec web uname -a\n  \
    hyperion vm exec web -- sh -c 'apt-get update && apt-get install -y nginx'\n  \
    hyperion vm exec -i web tee /etc/motd < motd")]
pub(crate) struct ExecArgs {
    /// Hand over standard input, up to its end and 8 MiB
    #[arg(short, long)]
    interactive: bool,
    /// Variable for the program, in place of the agent's own; repeatable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// How long the agent may take to answer at first
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = hyperion_model::units::parse_duration)]
    wait: Duration,
    /// Machine, as `hyperion vm ls` lists it
    name: String,
    /// Program and arguments; ctrl-C ends it in the guest
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn exec(args: &ExecArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut input = Vec::new();
    if args.interactive {
        io::stdin().take(MOST_INPUT + 1).read_to_end(&mut input)?;
        if input.len() as u64 > MOST_INPUT {
            return Err(errors::advised(
                Class::User,
                "standard input has more than the 8 MiB that a program in a guest is given",
                format!(
                    "bring it as a file: hyperion vm cp FILE {}:/tmp/",
                    args.name
                ),
            ));
        }
    }
    let input = args.interactive.then_some(&input[..]);
    let agent = agent(&args.name, args.wait, ctx)?;
    // From here on what would end this command ends the program.
    let arrived = SignalFd::new(&[SIGINT, SIGTERM, SIGQUIT, SIGHUP])?;
    let mut talk = Talk {
        args,
        ctx,
        arrived,
        heard: 0,
        agent: Some(agent),
        pid: 0,
    };
    let end = match talk.streamed(input)? {
        Some(end) => end,
        None => talk.captured(input)?,
    };
    Ok(ExitCode::from(match end {
        End::Code(code) => code,
        End::Signal(signal) => 128 | signal,
    }))
}

/// A program in a guest, and the way to its agent.
struct Talk<'a> {
    args: &'a ExecArgs,
    ctx: &'a Context,
    arrived: SignalFd,
    /// How often ctrl-C was heard.
    heard: u32,
    /// None while others may talk to it.
    agent: Option<Agent>,
    pid: i64,
}

/// One of the files that a program writes to.
struct Stream {
    path: String,
    handle: Option<i64>,
}

impl Talk<'_> {
    /// Runs the program with its output in files. None where the guest has no
    /// shell, or no room for them: nothing has run then.
    fn streamed(&mut self, input: Option<&[u8]>) -> anyhow::Result<Option<End>> {
        let mut bits = [0; 8];
        rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())?;
        let folder = format!("/tmp/.hyperion-exec-{:016x}", u64::from_ne_bytes(bits));
        let mut words = ["/bin/sh", "-c", SHELL, &folder]
            .map(str::to_owned)
            .to_vec();
        words.extend(self.args.command.iter().cloned());
        let args = self.args;
        self.pid = match self.agent()?.exec(&words, &args.env, input) {
            Err(AgentError::Refused { .. }) => return Ok(None),
            other => other?,
        };
        let mut streams = ["out", "err"].map(|name| Stream {
            path: format!("{folder}/{name}"),
            handle: None,
        });
        let end = self.follow(&mut streams)?;
        if streams.iter().all(|stream| stream.handle.is_none()) {
            return Ok(None);
        }
        for handle in streams.iter().filter_map(|stream| stream.handle) {
            self.agent()?.close(handle)?;
        }
        match self.does(&["rm", "-rf", &folder]) {
            // A small guest may have a shell and little else: it stays until its next start.
            Err(error) if !is_refusal(&error) => Err(error),
            _ => Ok(Some(end)),
        }
    }

    /// Says what the program says until it has ended.
    fn follow(&mut self, streams: &mut [Stream; 2]) -> anyhow::Result<End> {
        let mut pause = LOOKS.0;
        loop {
            self.pass_on()?;
            let pid = self.pid;
            // Asked first: what it wrote until its end is in the files then.
            let end = self.agent()?.progress(pid)?.end;
            let [out, err] = streams;
            let said = self.say(out, io::stdout(), end.is_some())?
                | self.say(err, io::stderr(), end.is_some())?;
            if let Some(end) = end {
                return Ok(end);
            }
            pause = match said {
                true => LOOKS.0,
                false => (pause * 2).min(LOOKS.1),
            };
            self.rest(pause)?;
        }
    }

    /// Says what is new in a file, all of it at the end. Tells whether there was any.
    fn say(&mut self, stream: &mut Stream, mut to: impl Write, all: bool) -> anyhow::Result<bool> {
        let handle = match stream.handle {
            Some(handle) => handle,
            None => match self.agent()?.open(&stream.path, "rb") {
                // The shell has not come so far.
                Err(AgentError::Refused { .. }) => return Ok(false),
                other => *stream.handle.insert(other?),
            },
        };
        let mut said = false;
        for n in 0.. {
            if !all && n >= PIECES {
                break;
            }
            let piece = self.agent()?.read(handle)?;
            if piece.is_empty() {
                break;
            }
            said = true;
            match to.write_all(&piece).and_then(|()| to.flush()) {
                // Whoever reads has had enough: a program that writes to a closed pipe ends too.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                    if !all {
                        self.kill(SIGTERM)?;
                    }
                    break;
                }
                other => other?,
            }
            self.pass_on()?;
        }
        Ok(said)
    }

    /// Runs the program with its output kept by the agent, and told at its end.
    fn captured(&mut self, input: Option<&[u8]>) -> anyhow::Result<End> {
        let (command, env) = (&self.args.command, &self.args.env);
        self.pid = self.agent()?.exec(command, env, input)?;
        let mut pause = LOOKS.0;
        let (done, end) = loop {
            self.pass_on()?;
            let pid = self.pid;
            let progress = self.agent()?.progress(pid)?;
            if let Some(end) = progress.end {
                break (progress, end);
            }
            pause = (pause * 2).min(LOOKS.1);
            self.rest(pause)?;
        };
        write(io::stdout(), &done.out)?;
        write(io::stderr(), &done.err)?;
        if done.truncated {
            output::talk(
                "note",
                "the agent keeps 16 MiB of each stream: the rest is lost. Write to a file, and bring that with `hyperion vm cp`",
            );
        }
        Ok(end)
    }

    /// Gives the agent, found again where others were let to it.
    fn agent(&mut self) -> anyhow::Result<&mut Agent> {
        while self.agent.is_none() {
            match agent(&self.args.name, AGAIN, self.ctx) {
                Ok(agent) => self.agent = Some(agent),
                // Somebody copies a large file, perhaps; ctrl-C ends the wait alone.
                Err(error) => match error.downcast_ref() {
                    Some(AgentError::Silent(_)) if self.arrived.next().is_none() => {}
                    _ => return Err(error),
                },
            }
        }
        let gone = || AgentError::Closed.into();
        self.agent.as_mut().ok_or_else(gone)
    }

    /// Waits, or until a signal comes.
    fn rest(&mut self, pause: Duration) -> anyhow::Result<()> {
        if pause >= LETS_GO {
            self.agent = None;
        }
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: pause.subsec_nanos().into(),
        };
        let mut fds = [PollFd::from_borrowed_fd(
            self.arrived.as_fd(),
            PollFlags::IN,
        )];
        match poll(&mut fds, Some(&moment)) {
            Err(rustix::io::Errno::INTR) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Sends the program the signals that came for this command; the third ctrl-C
    /// ends it without asking.
    fn pass_on(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.arrived.next() {
            self.heard += u32::from(signal == SIGINT);
            match (signal, self.heard) {
                (SIGINT, 2) => self.kill(SIGTERM)?,
                (SIGINT, 3..) => self.kill(SIGKILL)?,
                (other, _) => self.kill(other)?,
            }
        }
        Ok(())
    }

    fn kill(&mut self, signal: i32) -> anyhow::Result<()> {
        let (name, pid) = (signals::name(signal), self.pid.to_string());
        let name = name.trim_start_matches("SIG");
        match self.does(&["/bin/sh", "-c", KILL, name, &pid]) {
            Ok(()) => Ok(()),
            // No shell, so no such signals: it goes on there.
            Err(_) if self.heard < 2 => {
                output::talk(
                    "note",
                    "the guest cannot be told to end it; once more leaves it there",
                );
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Runs something short to its end.
    fn does(&mut self, words: &[&str]) -> anyhow::Result<()> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let agent = self.agent()?;
        let pid = agent.exec(&words, &[], None)?;
        let since = Instant::now();
        while agent.progress(pid)?.end.is_none() && since.elapsed() < AGAIN {
            std::thread::sleep(LOOKS.0);
        }
        Ok(())
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AgentError::Refused { .. }))
}

fn write(mut to: impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        // Whoever reads has had enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
