//! Machines that start with their host: `hyperion vm autostart`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::Args;
use hyperion_model::Class;
use hyperion_node::machines::{MachineFolder, Machines};

use super::machines::power_on;
use crate::context::Context;
use crate::{errors, output};

/// What systemd calls it.
const UNIT: &str = "hyperion-machines.service";

// Words of `hyperion vm autostart`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm autostart web\n  \
    hyperion vm autostart web --off\n  \
    hyperion vm autostart --unit > /etc/systemd/system/hyperion-machines.service")]
pub(crate) struct AutostartArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    #[arg(required_unless_present = "unit")]
    name: Option<String>,
    /// Leave it to be started by hand again
    #[arg(long)]
    off: bool,
    /// Print the unit by which systemd starts all machines that are marked; for root that of the
    /// host, for others that of their own service manager
    #[arg(long, conflicts_with_all = ["name", "off"])]
    unit: bool,
}

pub(super) fn autostart(args: &AutostartArgs, ctx: &Context) -> anyhow::Result<()> {
    let root = rustix::process::geteuid().is_root();
    let Some(name) = &args.name else {
        let this = std::env::current_exe().context("cannot find this program")?;
        return output::line(unit(&this, &ctx.root, root)?.trim_end());
    };
    let machine = Machines::new(&ctx.root).find(name)?;
    let mut spec = machine.spec()?;
    spec.autostart = !args.off;
    machine.define(&spec)?;
    if spec.autostart && !is_enabled(root) {
        output::talk("note", advice(root));
    }
    output::line(name)
}

/// Starts the machines that are marked and do not run; those that cannot be
/// started keep nobody else back.
pub(super) fn start(ctx: &Context) -> anyhow::Result<()> {
    let marked = |machine: &MachineFolder| machine.spec().map_or(true, |spec| spec.autostart);
    let rest = |machine: &MachineFolder| !machine.is_locked() && marked(machine);
    all(ctx, "started", rest, |machine| {
        let spec = machine.spec()?;
        power_on(machine, &spec, ctx)
    })
}

/// Does something with each of several machines; those that fail are told.
pub(super) fn all(
    ctx: &Context,
    done: &str,
    which: impl Fn(&MachineFolder) -> bool,
    what: impl Fn(MachineFolder) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let machines = Machines::new(&ctx.root).list()?;
    let machines: Vec<_> = machines.into_iter().filter(which).collect();
    let count = machines.len();
    let mut failed = Vec::new();
    for machine in machines {
        let name = machine.name.clone();
        match what(machine) {
            Ok(()) => output::line(name)?,
            Err(error) => {
                output::talk("error", format!("{error:#}"));
                failed.push(name.to_string());
            }
        }
    }
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(errors::advised(
            Class::Unavailable,
            format!("{} of {count} machines could not be {done}", failed.len()),
            format!("`hyperion vm show {first}` says more"),
        )),
    }
}

fn is_enabled(root: bool) -> bool {
    let mut systemctl = Command::new("systemctl");
    if !root {
        systemctl.arg("--user");
    }
    systemctl.args(["--quiet", "is-enabled", UNIT]);
    systemctl.stdin(Stdio::null()).stdout(Stdio::null());
    let status = systemctl.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Says what makes the mark count.
fn advice(root: bool) -> String {
    match root {
        true => format!(
            "systemd does not start machines here yet: hyperion vm autostart --unit > /etc/systemd/system/{UNIT} && systemctl enable {UNIT}"
        ),
        false => format!(
            "systemd does not start your machines yet: hyperion vm autostart --unit > ~/.config/systemd/user/{UNIT} && systemctl --user enable {UNIT}, and `loginctl enable-linger` to start them before you log in"
        ),
    }
}

/// Writes the unit: it starts what is marked, and asks all that runs to shut down
/// before the host does.
fn unit(this: &Path, root: &Path, of_host: bool) -> anyhow::Result<String> {
    let this = quoted(this)?;
    let root = quoted(root)?;
    let (after, wanted) = match of_host {
        true => (
            "Wants=network-online.target\nAfter=network-online.target remote-fs.target\n",
            "multi-user.target",
        ),
        false => ("", "default.target"),
    };
    Ok(format!(
        "[Unit]\n\
         Description=Virtual machines of Hyperion that start with the host\n\
         {after}\n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={this} --root {root} vm start --autostart\n\
         ExecStop={this} --root {root} vm stop --all --time 90s\n\
         TimeoutStartSec=10min\n\
         TimeoutStopSec=10min\n\n\
         [Install]\n\
         WantedBy={wanted}\n"
    ))
}

/// Writes a path as one word of a unit.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    let text = text.with_context(|| format!("systemd takes no path such as {}", path.display()))?;
    let text = text.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!(
        "\"{}\"",
        text.replace('%', "%%").replace('$', "$$")
    ))
}
