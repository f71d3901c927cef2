//! Seeing the screen of a machine: `hyperion vm vnc`.

use std::time::Duration;

use clap::Args;
use hyperion_model::Class;
use hyperion_model::machine::{Graphics, VncListen};
use hyperion_node::machines::{Gate, MachineError, Machines, Ticket};
use serde_json::json;

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

pub(super) fn vnc(args: &VncArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let graphics = machine.spec()?.graphics;
    if graphics == Graphics::None {
        return Err(errors::advised(
            Class::Unsupported,
            format!("machine {} has no screen", machine.name),
            "`hyperion vm create --vnc` makes one that has",
        ));
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
