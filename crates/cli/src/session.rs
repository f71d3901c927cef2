//! A terminal attached to a job: output out, input in, signals through.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context as _;
use hyperion_model::JobId;
use hyperion_node::client::Heard;
use hyperion_node::log::Stream;
use hyperion_node::supervisor::end_orphans;
use hyperion_node::talk::{Ask, INPUT_WINDOW, Size, Tell};
use hyperion_node::{Client, End, Failure};
use hyperion_sys::entry::ExitCode;
use hyperion_sys::process;
use hyperion_sys::signals::{self, SIGHUP, SIGWINCH, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::{errors, output};

/// Ctrl-p ctrl-q leaves a job running, as with docker.
const DETACH: [u8; 2] = [0x10, 0x11];

/// What is put before each line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Label {
    /// Nothing.
    #[default]
    None,
    /// `[3] `
    Brackets,
    /// ` 3: `, in so many columns: Slurm's.
    Colon(usize),
}

impl Label {
    /// Puts the rank in brackets where that is wanted.
    pub(crate) fn brackets(wanted: bool) -> Self {
        match wanted {
            true => Self::Brackets,
            false => Self::None,
        }
    }

    fn of(self, rank: u32) -> String {
        match self {
            Self::None => String::new(),
            Self::Brackets => format!("[{rank}] "),
            Self::Colon(width) => format!("{rank:>width$}: "),
        }
    }
}

/// Who hears signals first; gives the code with which the session is left.
pub(crate) type OnSignal = Box<dyn FnMut(i32) -> Option<u8>>;

/// Whoever else says what becomes of a job: on what that comes, and what it comes to.
pub(crate) struct Orders {
    pub(crate) fd: OwnedFd,
    /// Gives the next that has come; fails when nothing more comes.
    pub(crate) next: Box<dyn FnMut() -> io::Result<Option<Ask>>>,
}

/// How a command is attached to a job.
#[derive(Default)]
pub(crate) struct Session {
    /// What is put before each line.
    pub(crate) label: Label,
    /// Files in place of standard output and error.
    pub(crate) files: BTreeMap<(u32, Stream), File>,
    /// Notes that begin so are of no use here.
    pub(crate) hush: Option<&'static str>,
    /// Who is asked what a signal means; it is passed on where nobody is.
    pub(crate) on_signal: Option<OnSignal>,
    /// Who is listened to beside.
    pub(crate) orders: Option<Orders>,
    /// Keys go to the job one by one, as they are typed.
    pub(crate) raw: bool,
    /// Input is passed on.
    pub(crate) input: bool,
    /// It is the job itself, not a command beside it: signals are passed on.
    pub(crate) job: bool,
    /// Signals as they come, where they are watched already.
    pub(crate) arrived: Option<SignalFd>,
}

/// Has signals wait until a session hears them.
pub(crate) fn watch_signals() -> io::Result<SignalFd> {
    let mut watched = signals::FORWARDED.to_vec();
    watched.push(SIGWINCH);
    SignalFd::new(&watched)
}

/// Gives the size of the terminal on standard output, if it is one.
pub(crate) fn terminal_size() -> Option<Size> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some(Size {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Waits until a detached job runs and prints its id.
pub(crate) fn wait_started(mut client: Client, id: &JobId) -> anyhow::Result<ExitCode> {
    loop {
        match client.hear()? {
            Some(Heard::Told(Tell::Started)) => {
                crate::output::line(id)?;
                return Ok(ExitCode::SUCCESS);
            }
            // It was over before it could be told that it had started.
            Some(Heard::Told(Tell::Ended(end))) if end.has_run() => {
                crate::output::line(id)?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(Heard::Told(Tell::Ended(end))) => {
                tell_failure(&end);
                return Ok(ExitCode::from(end.code));
            }
            Some(_) => {}
            None => return Err(errors::supervisor_gone(id)),
        }
    }
}

impl Session {
    /// Stays attached until the job or the command ends, or the user detaches; gives the
    /// exit code.
    pub(crate) fn run(
        mut self,
        mut client: Client,
        id: &JobId,
        at_end: impl FnOnce(&End) -> anyhow::Result<()>,
    ) -> anyhow::Result<u8> {
        // The job has just been asked for: it has said nothing yet.
        let fresh = self.arrived.is_some();
        let arrived = match self.arrived.take() {
            Some(arrived) => arrived,
            None => watch_signals()?,
        };
        if fresh && !self.raw && !self.input {
            // What is needed then is made while the job begins.
            let fds = [client.as_fd(), arrived.as_fd()];
            let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let _ = poll(&mut fds, None);
        }
        let _raw = self.raw.then(RawTerminal::enter).transpose()?.flatten();
        let mut printer = Printer::new(self.label, std::mem::take(&mut self.files));
        let mut input = self.input.then_some(Input::default());
        loop {
            while let Some(heard) = self.hear(&mut client, id)? {
                match heard {
                    Heard::Output(rank, stream, bytes) => {
                        if printer
                            .print(rank, stream, &bytes)
                            .is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
                        {
                            // Nobody reads any more: a program that writes to a closed pipe ends too.
                            let _ = client.ask(&Ask::Stop { grace_ms: 1000 });
                            printer.mute();
                        }
                    }
                    Heard::Told(Tell::Note(text)) => {
                        if !self
                            .hush
                            .is_some_and(|hush| text.trim_start().starts_with(hush))
                        {
                            eprintln!("{}", output::plain(&text));
                        }
                    }
                    Heard::Told(Tell::Ended(_)) if !self.job => {
                        printer.finish();
                        drop(_raw);
                        if self.on_signal.is_none() {
                            eprintln!("error: job {id} has ended, and this command with it");
                        }
                        return Ok(137);
                    }
                    Heard::Told(Tell::Ended(end)) => {
                        printer.finish();
                        drop(_raw);
                        at_end(&end)?;
                        // All is said: nobody need wait for this process to be taken apart.
                        process::exit_now(end.code);
                    }
                    Heard::Told(Tell::ExecEnded { exit }) => {
                        printer.finish();
                        return Ok(exit.shell_code());
                    }
                    Heard::Told(Tell::Refused { causes, code, hint }) => {
                        drop(_raw);
                        let mut causes = causes.into_iter();
                        output::talk("error", causes.next().unwrap_or_default());
                        causes.for_each(|cause| output::talk("cause", cause));
                        hint.iter().for_each(|hint| output::talk("hint", hint));
                        return Ok(code);
                    }
                    Heard::Told(Tell::Took { bytes }) => {
                        if let Some(input) = &mut input {
                            input.unread = input.unread.saturating_sub(bytes);
                        }
                    }
                    Heard::Told(
                        Tell::Started
                        | Tell::Stats { .. }
                        | Tell::Task(_)
                        | Tell::Step(_)
                        | Tell::Sealed,
                    ) => {}
                }
            }
            let stdin = rustix::stdio::stdin();
            let mut fds = vec![
                PollFd::new(&client, PollFlags::IN),
                PollFd::new(&arrived, PollFlags::IN),
            ];
            if let Some(orders) = &self.orders {
                fds.push(PollFd::new(&orders.fd, PollFlags::IN));
            }
            let others = fds.len();
            if input.as_ref().is_some_and(|i| i.unread < INPUT_WINDOW) {
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            let typed = fds.get(others).is_some_and(|f| !f.revents().is_empty());
            drop(fds);
            while let Some(orders) = &mut self.orders {
                match (orders.next)() {
                    Ok(Some(ask)) => sent(client.ask(&ask))?,
                    Ok(None) => break,
                    Err(_) => self.orders = None,
                }
            }
            while let Some(signal) = arrived.next() {
                if signal == SIGWINCH {
                    if let Some(size) = terminal_size() {
                        sent(client.ask(&Ask::Resize(size)))?;
                    }
                } else if let Some(on_signal) = &mut self.on_signal {
                    if let Some(code) = on_signal(signal) {
                        printer.finish();
                        return Ok(code);
                    }
                } else if signal == SIGHUP {
                    // The terminal is gone; the job goes on.
                    return Ok(0);
                } else if self.job {
                    sent(client.ask(&Ask::Signal(signal)))?;
                } else {
                    return Ok(128 + signal as u8);
                }
            }
            if typed && let Some(state) = &mut input {
                match state.read(&mut client, self.raw)? {
                    Typed::More => {}
                    Typed::End => input = None,
                    Typed::Detach => {
                        drop(_raw);
                        match self.job {
                            true => eprintln!(
                                "\nleft job {id} running: come back with `hyperion attach {id}`"
                            ),
                            false => eprintln!("\nleft the command running beside job {id}"),
                        }
                        return Ok(0);
                    }
                }
            }
        }
    }

    fn hear(&self, client: &mut Client, id: &JobId) -> anyhow::Result<Option<Heard>> {
        match client.try_hear() {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                end_orphans(id);
                Err(errors::supervisor_gone(id))
            }
            other => other.context("cannot talk to the supervisor"),
        }
    }
}

/// What was sent to a supervisor that has just ended is as nothing: how it ended
/// is still to be heard.
fn sent(sent: io::Result<()>) -> io::Result<()> {
    match sent {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

enum Typed {
    More,
    End,
    Detach,
}

#[derive(Default)]
struct Input {
    /// A ctrl-p that may be the first half of the detach keys.
    held: bool,
    /// What was sent and not told to be taken, in bytes.
    unread: usize,
}

impl Input {
    fn read(&mut self, client: &mut Client, raw: bool) -> anyhow::Result<Typed> {
        let mut buffer = [0; 16 * 1024];
        let room = buffer.len().min(INPUT_WINDOW - self.unread);
        let got = match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..room]) {
            Ok(0) => {
                sent(client.ask(&Ask::EndOfInput))?;
                return Ok(Typed::End);
            }
            Ok(got) => got,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(Typed::More),
            Err(e) => return Err(e.into()),
        };
        self.unread += got;
        if !raw {
            sent(client.input(&buffer[..got]))?;
            return Ok(Typed::More);
        }
        let mut pass = Vec::with_capacity(got + 1);
        for &byte in &buffer[..got] {
            if std::mem::take(&mut self.held) {
                if byte == DETACH[1] {
                    sent(client.input(&pass))?;
                    return Ok(Typed::Detach);
                }
                pass.push(DETACH[0]);
            }
            if byte == DETACH[0] {
                self.held = true;
            } else {
                pass.push(byte);
            }
        }
        if !pass.is_empty() {
            sent(client.input(&pass))?;
        }
        Ok(Typed::More)
    }
}

/// Restores the terminal when it goes.
pub(crate) struct RawTerminal(Termios);

impl RawTerminal {
    /// Hands each key over as it is typed; `None` where there is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Not flushed: what was typed ahead is meant for the job.
        tcsetattr(stdin, OptionalActions::Drain, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Writes output, with labels if asked.
pub(crate) struct Printer {
    label: Label,
    files: BTreeMap<(u32, Stream), File>,
    muted: bool,
    /// Beginnings of lines whose end has not come yet.
    open: BTreeMap<(u32, Stream), Vec<u8>>,
}

impl Printer {
    pub(crate) fn new(label: Label, files: BTreeMap<(u32, Stream), File>) -> Self {
        Self {
            label,
            files,
            muted: false,
            open: BTreeMap::new(),
        }
    }

    fn write(&mut self, rank: u32, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match (self.files.get_mut(&(rank, stream)), stream) {
            (Some(file), _) => file.write_all(bytes),
            (None, Stream::Out) => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            (None, Stream::Err) => io::stderr().lock().write_all(bytes),
        }
    }

    fn mute(&mut self) {
        self.muted = true;
    }

    /// Writes bytes of one rank's stream.
    pub(crate) fn print(&mut self, rank: u32, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if self.muted {
            return Ok(());
        }
        if self.label == Label::None {
            return self.write(rank, stream, bytes);
        }
        let open = self.open.entry((rank, stream)).or_default();
        open.extend_from_slice(bytes);
        let Some(end) = open.iter().rposition(|&b| b == b'\n') else {
            return Ok(());
        };
        let whole: Vec<u8> = open.drain(..=end).collect();
        let mut labelled = Vec::with_capacity(whole.len() + 64);
        for line in whole.split_inclusive(|&b| b == b'\n') {
            labelled.extend_from_slice(self.label.of(rank).as_bytes());
            labelled.extend_from_slice(line);
        }
        self.write(rank, stream, &labelled)
    }

    /// Writes what is left of lines without an end.
    pub(crate) fn finish(&mut self) {
        for ((rank, stream), rest) in std::mem::take(&mut self.open) {
            if !rest.is_empty() && !self.muted {
                let line = [self.label.of(rank).as_bytes(), &rest, b"\n"].concat();
                let _ = self.write(rank, stream, &line);
            }
        }
    }
}

/// Says why a job failed, when its own output does not say it.
pub(crate) fn tell_failure(end: &End) {
    let Some(failure) = &end.failure else { return };
    // A single command that merely ends with a code has said itself what it had to say.
    let plain = (failure.rank, failure.task) == (None, None)
        && failure.hint.is_none()
        && end.has_run()
        && end.code != 124;
    if !plain {
        print_failure(failure);
    }
}

/// Prints why a job failed.
pub(crate) fn print_failure(failure: &Failure) {
    output::talk("error", &failure.what);
    for cause in &failure.causes {
        output::talk("cause", cause);
    }
    if failure.rank.is_some() && !failure.last_lines.is_empty() {
        eprintln!("its last lines:");
        for line in &failure.last_lines {
            eprintln!("  {}", output::plain(line));
        }
    }
    if let Some(hint) = &failure.hint {
        output::talk("hint", hint);
    }
}
