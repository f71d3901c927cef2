//! The verbs of the queue: what is asked of its server, and the server itself.

mod activation;
pub(super) mod agent;
mod batch;
pub(super) mod change;
pub(super) mod explain;
mod hold;
mod host;
mod less;
pub(super) mod list;
pub(super) mod moment;
mod past;
pub(super) mod reserve;
pub(super) mod serve;
pub(super) mod shares;
mod site;
pub(super) mod submit;
pub(super) mod top;
pub(super) mod update;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyperion_api::Lines;
use hyperion_api::queue::{Filter, JobView, Refused, Reply, Request, Target};
use hyperion_lifecycle::Rules;
use hyperion_model::Class;
use hyperion_sched::{Order, Policy};

use crate::config::{HOST_SOCKET, Queue};
use crate::context::Context;
use crate::errors;

/// How long a server that is starting, or going, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Below the folder of the queue: links by which scripts call this program.
const SHIMS: &str = "shims";

/// Gives the folder of the queue.
pub(super) fn folder(ctx: &Context) -> PathBuf {
    ctx.root.join("queue")
}

/// Gives the folder in which an agent works: that of the own queue, or one for jobs that the
/// host's server has started.
fn desk(ctx: &Context) -> PathBuf {
    desk_of(ctx, is_for_host(ctx))
}

fn desk_of(ctx: &Context, for_host: bool) -> PathBuf {
    match for_host {
        true => ctx.root.join("host-queue"),
        false => folder(ctx),
    }
}

/// Gives the folder of links by which jobs call this program.
pub(super) fn commands(ctx: &Context, for_host: bool) -> PathBuf {
    desk_of(ctx, for_host).join(SHIMS)
}

/// Gives the control group of what another user's jobs run, which root hands to the user.
fn group_of(user: u32) -> String {
    format!("hyperion-user-{user}")
}

/// Tells whether an agent works for the host's server: which one is said when it is started.
fn is_for_host(ctx: &Context) -> bool {
    matches!(ctx.config.queue(), Queue::At(_))
}

/// Gives the order of the own queue, what may pass in it, and what its rules say beside that.
pub(super) fn rules(ctx: &Context) -> anyhow::Result<(Order, Policy, Rules)> {
    let said = site::read(ctx)?;
    Ok((said.order, said.policy, said.rules))
}

/// Tells whether nothing was ever submitted, as far as that can be told without a server.
pub(super) fn is_empty(ctx: &Context) -> bool {
    let host = match ctx.config.queue() {
        Queue::Own => false,
        Queue::At(_) => true,
        Queue::Either => Path::new(HOST_SOCKET).exists(),
    };
    !host && !folder(ctx).join("journal").exists()
}

/// A connection to the server.
pub(super) struct Server {
    lines: Lines,
    /// Its queue lies in the own folder.
    pub(super) is_own: bool,
}

impl Server {
    /// Connects to the server of this queue; starts one where none runs, if that is wanted.
    pub(super) fn reach(ctx: &Context, autostart: bool) -> anyhow::Result<Self> {
        let folder = folder(ctx);
        let since = Instant::now();
        loop {
            match Self::find(ctx)? {
                Some(server) => return Ok(server),
                None if !autostart => return Err(none(ctx)),
                // Another may have started one, or one is just ending.
                None => match start_one(ctx) {
                    Ok(()) => {}
                    Err(_) if since.elapsed() < PATIENCE && is_taken(&folder) => {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    Err(e) => return Err(e),
                },
            }
            if since.elapsed() > PATIENCE {
                return Err(none(ctx));
            }
        }
    }

    /// Connects to a server that runs; `None` where none does and an own one may be started.
    fn find(ctx: &Context) -> anyhow::Result<Option<Self>> {
        let own = || connect(&folder(ctx));
        let (host, connected) = match ctx.config.queue() {
            Queue::Own => (None, own()),
            Queue::At(socket) => (Some(socket.as_path()), UnixStream::connect(socket)),
            Queue::Either => match own() {
                Err(e) if is_absent(&e) && Path::new(HOST_SOCKET).exists() => {
                    let socket = Path::new(HOST_SOCKET);
                    (Some(socket), UnixStream::connect(socket))
                }
                connected => (None, connected),
            },
        };
        match (connected, host) {
            (Ok(stream), host) => Ok(Some(Self {
                lines: Lines::new(stream)?,
                is_own: host.is_none_or(|socket| is_in(&folder(ctx), socket)),
            })),
            (Err(e), None) if is_absent(&e) => Ok(None),
            (Err(_), Some(socket)) => Err(errors::advised(
                Class::Unavailable,
                format!("no server answers at {}", socket.display()),
                "root starts it with `hyperion serve --host`; --server own has one of your own",
            )),
            (Err(e), None) => Err(e).context("cannot reach the server of the queue"),
        }
    }

    /// Asks for jobs, for as many at a time as the server tells.
    pub(super) fn jobs(&mut self, mut filter: Filter) -> anyhow::Result<Vec<JobView>> {
        let mut all = Vec::new();
        loop {
            match self.ask(&Request::Jobs(filter.clone()))? {
                Reply::FirstJobs(views, from) if from > filter.from => {
                    all.extend(views);
                    filter.from = from;
                }
                Reply::Jobs(views) => {
                    all.extend(views);
                    return Ok(all);
                }
                reply => anyhow::bail!("the server answers something else: {reply:?}"),
            }
        }
    }

    /// Waits until it is gone.
    fn wait_gone(&mut self) {
        while self.lines.hear::<Reply>().is_ok() {}
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&mut self, request: &Request) -> anyhow::Result<Reply> {
        let gone = "the server of the queue is gone";
        let said = self.lines.say(request);
        // One that hangs up may have said why before.
        let heard = self.lines.hear();
        match heard.map_err(|e| said.err().unwrap_or(e)).context(gone)? {
            Reply::Refused(refused) => Err(error_of(refused)),
            reply => Ok(reply),
        }
    }
}

/// Makes an error of what a server says.
fn error_of(refused: Refused) -> anyhow::Error {
    let mut causes = refused.causes.into_iter().rev();
    let innermost = causes.next().unwrap_or_default();
    let error = errors::advised(refused.class, innermost, refused.hint);
    causes.fold(error, anyhow::Error::context)
}

fn none(ctx: &Context) -> anyhow::Error {
    errors::advised(
        Class::Unavailable,
        format!("no server runs for the queue in {}", folder(ctx).display()),
        "start one with `hyperion serve`, or submit something",
    )
}

/// Tells whether a socket is that of the queue in a folder, by another name.
fn is_in(folder: &Path, socket: &Path) -> bool {
    let its = folder.join("socket").canonicalize();
    its.is_ok_and(|its| socket.canonicalize().is_ok_and(|socket| socket == its))
}

/// Tells whether nobody listens there.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Tells whether a server has the queue, though it does not listen yet, or no more.
fn is_taken(folder: &Path) -> bool {
    let lock = File::open(folder.join("journal.lock"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

fn connect(folder: &Path) -> io::Result<UnixStream> {
    // An address has room for 108 bytes; a path by way of an open folder is short.
    let open = File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/socket", open.as_raw_fd()))
}

/// Starts a server that ends when nobody has wanted anything for a while.
fn start_one(ctx: &Context) -> anyhow::Result<()> {
    let mut server = program(ctx)?
        .args(["serve", "--background"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a server for the queue")?;
    let mut said = String::new();
    if let Some(out) = server.stdout.take() {
        BufReader::new(out).read_line(&mut said)?;
    }
    if said.starts_with("ready") {
        return Ok(());
    }
    let told = server.wait_with_output()?.stderr;
    let told = String::from_utf8_lossy(&told);
    let mut lines = told.lines().filter_map(|line| line.split_once(": "));
    let what = lines
        .next()
        .map_or("it says nothing", |(_, what)| what)
        .to_owned();
    let cause = lines.next().map(|(_, cause)| format!(": {cause}"));
    Err(errors::advised(
        Class::Unavailable,
        format!(
            "no server could be started for the queue: {what}{}",
            cause.unwrap_or_default()
        ),
        "`hyperion serve` in another terminal says more",
    ))
}

/// Gives the command that starts this program with the same settings.
fn program(ctx: &Context) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find the file of this program")?;
    let mut command = Command::new(program);
    command.arg("--root").arg(&ctx.root).current_dir("/");
    Ok(command)
}

/// Reads the name of a job, or of tasks of an array: `12`, `12_7`, `12[3-5]`, `12.host`.
pub(super) fn targets(text: &str) -> anyhow::Result<Vec<Target>> {
    let wrong = || {
        errors::advised(
            Class::User,
            format!("{text:?} is no job of a queue"),
            "write a number, as `hyperion queue` lists it: 12, or 12_7 for a task of an array",
        )
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let job: u64 = number.parse().map_err(|_| wrong())?;
    let inside = rest
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map(|(inside, _)| inside)
        .or_else(|| rest.strip_prefix('_'))
        .map(|inside| inside.trim_matches(['[', ']']));
    match inside {
        None if rest.is_empty() || rest.starts_with('.') => Ok(vec![Target { job, index: None }]),
        None => Err(wrong()),
        Some("") => Ok(vec![Target { job, index: None }]),
        Some(indices) => {
            let indices: hyperion_model::Indices = indices.parse().map_err(|_| wrong())?;
            let target = |index| Target {
                job,
                index: Some(index),
            };
            Ok(indices.iter().map(target).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_named_as_every_batch_system_names_them() {
        let says = |text: &str| -> Vec<(u64, Option<u32>)> {
            let targets = targets(text).unwrap_or_default();
            targets.into_iter().map(|t| (t.job, t.index)).collect()
        };
        assert_eq!(says("12"), [(12, None)]);
        assert_eq!(says("12.host.example"), [(12, None)]);
        assert_eq!(says("12_7"), [(12, Some(7))]);
        assert_eq!(says("12[]"), [(12, None)]);
        assert_eq!(says("12[7].host"), [(12, Some(7))]);
        assert_eq!(
            says("12[3-5]"),
            [(12, Some(3)), (12, Some(4)), (12, Some(5))]
        );
        assert_eq!(says("12_[3,9]"), [(12, Some(3)), (12, Some(9))]);
        for wrong in ["", "x", "12x", "-3", "12[a]"] {
            assert_eq!(says(wrong), [], "{wrong}");
        }
    }
}
