//! Into a guest by its agent: `hyperion vm exec` and `hyperion vm cp`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hyperion_isolation::vm::agent::{Agent, End, PIECE};
use hyperion_model::Class;
use hyperion_node::machines::{MachineError, Machines};

use super::machines::LIMIT;
use crate::context::Context;
use crate::{errors, output};

/// The most standard input that a program is given, in bytes: it goes in one piece.
const MOST_INPUT: u64 = 8 << 20;
/// How long is waited between two looks at a program, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

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
    /// Program and arguments; its output is told when it has ended
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

// Words of `hyperion vm cp`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm cp nginx.conf web:/etc/nginx/\n  \
    hyperion vm cp web:/var/log/syslog .")]
pub(crate) struct CpArgs {
    /// File to read: of this host, or MACHINE:FILE
    from: String,
    /// File or folder to write: of this host, or MACHINE:FILE; a folder in a guest ends with /
    to: String,
    /// How long the agent may take to answer at first
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = hyperion_model::units::parse_duration)]
    wait: Duration,
}

fn agent(name: &str, wait: Duration, ctx: &Context) -> anyhow::Result<Agent> {
    let machine = Machines::new(&ctx.root).find(name)?;
    if !machine.is_locked() {
        return Err(MachineError::NotRunning(machine.name).into());
    }
    let socket = UnixStream::connect(machine.run().join("agent")).map_err(|_| {
        errors::advised(
            Class::Unsupported,
            format!("machine {name} has no channel for an agent"),
            format!(
                "hyperion vm edit {name}, and among its devices: <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>; or `hyperion vm ssh {name}`"
            ),
        )
    })?;
    Ok(Agent::connect(socket, wait, LIMIT)?)
}

pub(super) fn exec(args: &ExecArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut agent = agent(&args.name, args.wait, ctx)?;
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
    let pid = agent.exec(&args.command, &args.env, input)?;
    let mut pause = LOOKS.0;
    let done = loop {
        let progress = agent.progress(pid)?;
        if progress.end.is_some() {
            break progress;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOKS.1);
    };
    write(io::stdout(), &done.out)?;
    write(io::stderr(), &done.err)?;
    if done.truncated {
        output::talk(
            "note",
            "the agent keeps 16 MiB of each stream: the rest is lost. Write to a file, and bring that with `hyperion vm cp`",
        );
    }
    Ok(ExitCode::from(match done.end {
        Some(End::Code(code)) => code,
        Some(End::Signal(signal)) => 128 | signal,
        None => 0,
    }))
}

fn write(mut to: impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        // Whoever reads has had enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Reads MACHINE:FILE. What has a slash before the colon is of this host.
fn in_guest(word: &str) -> Option<(&str, &str)> {
    let (name, path) = word.split_once(':')?;
    (!name.is_empty() && !name.contains('/')).then_some((name, path))
}

pub(super) fn cp(args: &CpArgs, ctx: &Context) -> anyhow::Result<()> {
    match (in_guest(&args.from), in_guest(&args.to)) {
        (None, Some((name, to))) => bring(Path::new(&args.from), name, to, args, ctx),
        (Some((name, from)), None) => fetch(name, from, Path::new(&args.to), args, ctx),
        (None, None) => Err(errors::advised(
            Class::User,
            "neither of them is in a guest",
            "write MACHINE:FILE for the one that is",
        )),
        (Some(_), Some(_)) => Err(errors::advised(
            Class::User,
            "both of them are in guests",
            "copy to this host first, and from there to the other",
        )),
    }
}

/// Copies a file of this host into a guest.
fn bring(from: &Path, name: &str, to: &str, args: &CpArgs, ctx: &Context) -> anyhow::Result<()> {
    let read = || format!("cannot read {}", from.display());
    let mut file = File::open(from).with_context(read)?;
    if file.metadata().with_context(read)?.is_dir() {
        return Err(errors::advised(
            Class::User,
            format!("{} is a folder", from.display()),
            format!(
                "tar -c {} | hyperion vm exec -i {name} tar -x -C /tmp",
                from.display()
            ),
        ));
    }
    let mut target = to.to_owned();
    if target.is_empty() || target.ends_with('/') {
        target += &from.file_name().unwrap_or_default().to_string_lossy();
    }
    let mut agent = agent(name, args.wait, ctx)?;
    let handle = agent.open(&target, "wb")?;
    let mut piece = vec![0; PIECE];
    loop {
        let got = file.read(&mut piece).with_context(read)?;
        if got == 0 {
            break;
        }
        agent.write(handle, &piece[..got])?;
    }
    agent.close(handle)?;
    output::line(format!("{name}:{target}"))
}

/// Copies a file of a guest to this host: whole, or not at all.
fn fetch(name: &str, from: &str, to: &Path, args: &CpArgs, ctx: &Context) -> anyhow::Result<()> {
    let target: PathBuf = match to.is_dir() {
        true => to.join(from.rsplit('/').next().unwrap_or_default()),
        false => to.to_owned(),
    };
    let Some(file_name) = target.file_name().filter(|_| !from.ends_with('/')) else {
        return Err(errors::advised(
            Class::User,
            format!("{from:?} is no file"),
            format!("of a folder: hyperion vm exec {name} tar -c FOLDER > folder.tar"),
        ));
    };
    let mut agent = agent(name, args.wait, ctx)?;
    let handle = agent.open(from, "rb")?;
    let hidden = format!(".{}.{}", file_name.to_string_lossy(), std::process::id());
    let draft = target.with_file_name(hidden);
    let copied = receive(&mut agent, handle, &draft).and_then(|()| {
        fs::rename(&draft, &target).with_context(|| format!("cannot write {}", target.display()))
    });
    if copied.is_err() {
        let _ = fs::remove_file(&draft);
    }
    copied?;
    agent.close(handle)?;
    output::line(target.display())
}

fn receive(agent: &mut Agent, handle: i64, draft: &Path) -> anyhow::Result<()> {
    let write = || format!("cannot write {}", draft.display());
    let mut file = File::create_new(draft).with_context(write)?;
    loop {
        let piece = agent.read(handle)?;
        if piece.is_empty() {
            return Ok(());
        }
        file.write_all(&piece).with_context(write)?;
    }
}
