//! Into a guest by its agent, and files in and out: `hyperion vm cp`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use hyperion_isolation::vm::agent::{Agent, PIECE};
use hyperion_isolation::vm::qmp::{Channel, Qmp};
use hyperion_model::Class;
use hyperion_node::machines::{MachineError, Machines};

use super::machines::LIMIT;
use crate::context::Context;
use crate::{errors, output};

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

pub(super) fn agent(name: &str, wait: Duration, ctx: &Context) -> anyhow::Result<Agent> {
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

/// Tells whether somebody in the guest has opened its end of the agent's channel.
pub(super) fn has_agent(monitor: &mut Qmp) -> bool {
    let channels = monitor.channels().unwrap_or_default();
    let hears = |channel: &Channel| channel.label == "agent" && channel.open;
    channels.iter().any(hears)
}

/// Sets the clock of a guest that stood still by this host's; tells whether anybody in it
/// heard that.
pub(super) fn set_clock(name: &str, monitor: &mut Qmp, ctx: &Context) -> bool {
    /// How long one that is there may take.
    const ANSWERS: Duration = Duration::from_secs(5);
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    };
    has_agent(monitor)
        && agent(name, ANSWERS, ctx).is_ok_and(|mut agent| agent.set_time(now()).is_ok())
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
