//! Seeing the screen of a machine: `hyperion vm vnc` and `hyperion vm screenshot`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hyperion_isolation::vm::qmp::Picture;
use hyperion_model::machine::{Graphics, VncListen};
use hyperion_model::{Class, Name};
use hyperion_node::machines::{Gate, MachineError, Machines, Ticket};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::machines::LIMIT;
use crate::args::OutputFormat;
use crate::context::Context;
use crate::{errors, output};

// Words of `hyperion vm vnc`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm vnc web\n  \
    hyperion vm vnc web --loopback")]
pub(crate) struct VncArgs {
    /// Machine, as `hyperion vm ls` lists it
    name: String,
    /// Open a port of 127.0.0.1 for one viewer, with a password that is used once
    #[arg(long)]
    loopback: bool,
    /// The port [default: the definition's, or a free one]
    #[arg(long, value_name = "NUMBER", requires = "loopback")]
    port: Option<u16>,
    /// How long to wait for the viewer
    #[arg(short, long, value_name = "DURATION", default_value = "2m", requires = "loopback",
        value_parser = hyperion_model::units::parse_duration)]
    time: Duration,
}

// Words of `hyperion vm screenshot`.
#[derive(Debug, Args)]
pub(crate) struct ScreenshotArgs {
    /// Machine, as `hyperion vm ls` lists it
    name: String,
    /// Picture to write, as PNG
    file: PathBuf,
}

pub(super) fn vnc(args: &VncArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let graphics = machine.spec()?.graphics;
    if graphics == Graphics::None {
        return Err(no_screen(&machine.name));
    }
    let socket = match &graphics {
        Graphics::Vnc(VncListen::Socket(Some(socket))) => socket.clone(),
        _ => machine.run().join("vnc"),
    };
    if !machine.is_locked() || !socket.exists() {
        return Err(MachineError::NotRunning(machine.name).into());
    }
    if !args.loopback {
        eprintln!(
            "on this host: gvncviewer, vncviewer or remote-viewer unix://{0}\nfrom another: ssh -L 5901:{0} HOST, then vncviewer localhost:1\nfor a viewer that knows no sockets: --loopback",
            socket.display()
        );
        return output::line(socket.display());
    }
    let port = match (args.port, graphics) {
        (Some(port), _) => port,
        (None, Graphics::Vnc(VncListen::Loopback(Some(port)))) => port,
        _ => 0,
    };
    let gate = Gate::open(port)?;
    let (address, ticket) = (gate.address()?, Ticket::new()?);
    let text = ticket.text();
    match ctx.output {
        OutputFormat::Json => {
            output::json(&json!({"address": address.to_string(), "ticket": text}))?;
        }
        OutputFormat::Quiet | OutputFormat::Human => output::line(format!("{address} {text}"))?,
    }
    if ctx.output == OutputFormat::Human {
        eprintln!(
            "on this host: vncviewer {}::{}; the password is {text}, for one viewer within {} s\nfrom another: ssh -L 5901:{address} HOST, then vncviewer localhost:1\nthis command ends when the viewer leaves",
            address.ip(),
            address.port(),
            args.time.as_secs()
        );
    }
    Ok(gate.serve(&socket, &ticket, args.time)?)
}

pub(super) fn screenshot(args: &ScreenshotArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let mut monitor = machine.monitor(LIMIT)?;
    // QEMU writes where it may, and what it has written is taken as a file and nothing else.
    let name = "screenshot.png";
    monitor
        .screenshot(Path::new(name), Picture::Png)
        .map_err(|e| match machine.spec() {
            Ok(spec) if spec.graphics == Graphics::None => no_screen(&machine.name),
            _ => machine.refused(e).into(),
        })?;
    let path = machine.run().join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let picture = rustix::fs::open(&path, flags, Mode::empty())
        .with_context(|| format!("cannot read {}", path.display()))?;
    let file = &args.file;
    let mut to =
        std::fs::File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    io::copy(&mut std::fs::File::from(picture), &mut to)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let _ = std::fs::remove_file(&path);
    output::line(file.display())
}

/// Says that there is nothing to see.
fn no_screen(name: &Name) -> anyhow::Error {
    errors::advised(
        Class::Unsupported,
        format!("machine {name} has no screen"),
        format!("hyperion vm edit {name} --vnc gives it one, from its next start on"),
    )
}
