//! Machines that stay: `hyperion vm ls`, `start`, `stop` and the rest.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use hyperion_isolation::vm::machine::{CommandLine, Files, Places, command_line, limits};
use hyperion_isolation::vm::qmp::{Qmp, QmpError};
use hyperion_isolation::vm::{Accelerator, kernel_words};
use hyperion_model::machine::{DiskSource, Firmware, InterfaceKind, ShareKind};
use hyperion_model::{Class, MachineSpec};
use hyperion_node::machines::{
    Fault, FaultKind, MachineError, MachineFolder, MachineState, Machines, Stall, Standing, Start,
};
use hyperion_sys::tsc::Reading;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use super::agent::{agent, has_agent, set_clock};
use super::autostart;
use super::create::{ORDERS, SEED};
use super::image;
use crate::args::OutputFormat;
use crate::commands::run::{accelerator, find_qemu, find_virtiofsd};
use crate::context::Context;
use crate::{errors, output};

/// How long QEMU may take to answer.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

// A machine.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Machine, as `hyperion vm ls --all` lists it
    pub(super) name: String,
}

// Words of `hyperion vm ls`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Those that are shut off, too
    #[arg(short, long)]
    all: bool,
    /// Only those that start with their host, in whatever state
    #[arg(long)]
    autostart: bool,
}

// Words of `hyperion vm start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    #[arg(required_unless_present = "autostart")]
    name: Option<String>,
    /// All that are marked by `hyperion vm autostart` and do not run
    #[arg(long, conflicts_with = "name")]
    autostart: bool,
}

// Words of `hyperion vm stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    #[arg(required_unless_present = "all")]
    name: Option<String>,
    /// All that run, one after the other
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// How long the guest may take to shut down before it is switched off
    #[arg(short, long, value_name = "DURATION", default_value = "60s", value_parser = hyperion_model::units::parse_duration)]
    time: Duration,
}

// Words of `hyperion vm reboot`.
#[derive(Debug, Args)]
pub(crate) struct RebootArgs {
    /// Machine, as `hyperion vm ls` lists it
    name: String,
    /// Press its reset button: what the guest has not written is lost
    #[arg(short, long, conflicts_with = "time")]
    force: bool,
    /// How long a guest without an agent may take to shut down before it is switched off
    #[arg(short, long, value_name = "DURATION", default_value = "60s", value_parser = hyperion_model::units::parse_duration)]
    time: Duration,
}

// Words of `hyperion vm delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Machine, as `hyperion vm ls --all` lists it
    name: String,
    /// Switch it off first
    #[arg(short, long)]
    force: bool,
}

/// A row of the list.
struct Listed {
    id: Option<u32>,
    machine: MachineFolder,
    standing: Standing,
    marked: bool,
}

pub(super) fn ls(args: &LsArgs, ctx: &Context) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for machine in Machines::new(&ctx.root).list()? {
        let standing = machine.standing();
        let runs = matches!(standing.state, MachineState::Running | MachineState::Paused);
        let marked = machine.spec().is_ok_and(|spec| spec.autostart);
        let wanted = match args.autostart {
            true => marked,
            false => args.all || runs,
        };
        if wanted {
            let id = standing.running.as_ref().map(|r| r.qemu);
            rows.push(Listed {
                id,
                machine,
                standing,
                marked,
            });
        }
    }
    match ctx.output {
        OutputFormat::Quiet => {
            let name = |row: &Listed| output::line(&row.machine.name);
            rows.iter().try_for_each(name)
        }
        OutputFormat::Json => {
            let row = |row: &Listed| {
                json!({
                    "id": row.id, "name": row.machine.name, "state": row.standing.state.word(),
                    "stalls": row.standing.stalls, "autostart": row.marked,
                })
            };
            output::json(&rows.iter().map(row).collect::<Vec<Value>>())
        }
        OutputFormat::Human => {
            let row = |row: &Listed| {
                let mut state = row.standing.state.word().to_owned();
                if let Some(stall) = row.standing.stalls.first() {
                    let what = if stall.full { "full" } else { "failing" };
                    state += &format!(" (disk {what})");
                }
                vec![
                    row.id.map_or_else(|| "-".into(), |id| id.to_string()),
                    row.machine.name.to_string(),
                    state,
                ]
            };
            output::table(&["Id", "Name", "State"], rows.iter().map(row))?;
            for row in &rows {
                let why = stalled(&row.machine, &row.standing);
                let why = why.or_else(|| failing(&row.machine));
                if let Some(why) = why.or_else(|| restarted(&row.machine)) {
                    output::talk("note", why);
                }
            }
            Ok(())
        }
    }
}

/// Says why a machine waits for its disks, and what helps.
fn stalled(machine: &MachineFolder, standing: &Standing) -> Option<String> {
    let name = &machine.name;
    // QEMU knows of no content any more then.
    if standing.state == MachineState::Paused
        && let Some(fault) = damage(machine)
    {
        return Some(format!(
            "{name} stands still: {}. switch it off (hyperion vm stop -t 0s {name}), then look \
             at the file (qemu-img check)",
            told(machine, &fault)
        ));
    }
    let Stall { target, full } = standing.stalls.first()?;
    let place = place(machine, target);
    let (why, help) = match full {
        true => ("there is no room for", "make room there"),
        false => (
            match read_last(machine, target) {
                true => "the host cannot read",
                false => "the host cannot write",
            },
            "mend its disk (`dmesg` says more)",
        ),
    };
    Some(format!(
        "{name} waits, and nothing is lost: {why} {place}. {help}, then: hyperion vm resume {name}"
    ))
}

/// Tells whether a disk could not be read, and not written since.
fn read_last(machine: &MachineFolder, target: &str) -> bool {
    let all = machine.faults().into_iter();
    let last = all
        .filter(|fault| fault.target == target)
        .max_by_key(|fault| fault.last);
    last.is_some_and(|fault| fault.kind == FaultKind::Read)
}

/// Says that a machine's guest has crashed, and was started again.
fn restarted(machine: &MachineFolder) -> Option<String> {
    let running = machine.running()?;
    let last = running.crashes.last()?;
    Some(format!(
        "{}: started again, as it is to be when it crashes: {} (last at {:.0})",
        machine.name, last.why, last.at
    ))
}

/// Names the file of a disk, or the disk.
fn place(machine: &MachineFolder, target: &str) -> String {
    let spec = machine.spec().ok();
    let disk = spec.as_ref().and_then(|spec| spec.disk(target));
    match disk.and_then(|disk| disk.source.clone()) {
        Some(DiskSource::File(file) | DiskSource::Block(file)) => file.display().to_string(),
        _ => format!("disk {target}"),
    }
}

/// Finds out whether the file of a disk is no image any more.
fn damage(machine: &MachineFolder) -> Option<Fault> {
    let mut faults = machine.faults().into_iter();
    faults.find(|fault| fault.kind == FaultKind::Damaged)
}

/// Says what went wrong with a disk.
fn told(machine: &MachineFolder, fault: &Fault) -> String {
    let (place, why) = (place(machine, &fault.target), &fault.why);
    match fault.kind {
        FaultKind::Damaged => format!("{place} is damaged: {why}"),
        FaultKind::Read => format!("the host could not read {place}: {why}"),
        FaultKind::Write => format!("the host could not write {place}: {why}"),
    }
}

/// Says which disk of a machine that runs has failed: its guest was told of an error,
/// and may keep it to itself. A machine that waited has lost nothing.
fn failing(machine: &MachineFolder) -> Option<String> {
    machine.running()?;
    let all = machine.faults();
    let worst = |kind| all.iter().find(|fault| fault.kind == kind);
    let fault = worst(FaultKind::Damaged).or_else(|| worst(FaultKind::Read))?;
    let times = match fault.times {
        1 => "at".to_owned(),
        many => format!("{many} times, last"),
    };
    let (name, last) = (&machine.name, fault.last);
    Some(format!(
        "{name}: {} ({times} {last:.0}); its guest was told of an error",
        told(machine, fault)
    ))
}

pub(super) fn show(args: &One, ctx: &Context) -> anyhow::Result<()> {
    let machines = Machines::new(&ctx.root);
    let machine = machines.find(&args.name)?;
    let standing = machine.standing();
    let spec = machine.spec()?;
    let disks = super::layers::told(&machines, &spec)?;
    let why = stalled(&machine, &standing)
        .or_else(|| failing(&machine))
        .or_else(|| restarted(&machine))
        .or_else(|| standing.lost.map(str::to_owned));
    output::json(&json!({
        "definition": spec, "disks": disks, "state": standing.state.word(),
        "stalls": standing.stalls, "faults": machine.faults(), "why": why,
        "running": standing.running, "end": standing.end, "folder": machine.path,
    }))
}

/// How soon a disk that is still full has stopped a machine again.
const STALLS_AGAIN: Duration = Duration::from_millis(700);

pub(super) fn resume(args: &One, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let standing = machine.standing();
    let waited = !standing.stalls.is_empty();
    if !waited && let Some(why) = stalled(&machine, &standing) {
        // Its guest would be told of errors, and lose what it has not written yet.
        return Err(refused(&why));
    }
    let mut monitor = machine.monitor(LIMIT)?;
    monitor.cont().map_err(|e| machine.refused(e))?;
    set_clock(&args.name, &mut monitor, ctx);
    drop(monitor);
    let since = Instant::now();
    while waited && since.elapsed() < STALLS_AGAIN {
        std::thread::sleep(Duration::from_millis(50));
        if let Some(why) = stalled(&machine, &machine.standing()) {
            return Err(refused(&why));
        }
    }
    output::line(&args.name)
}

/// Says why a machine cannot go on, and what helps.
fn refused(why: &str) -> anyhow::Error {
    let (what, help) = why.split_once(". ").unwrap_or((why, ""));
    errors::advised(Class::Unavailable, what, help)
}

pub(super) fn start(args: &StartArgs, ctx: &Context) -> anyhow::Result<()> {
    let Some(name) = &args.name else {
        return autostart::start(ctx);
    };
    let machine = Machines::new(&ctx.root).find(name)?;
    let spec = machine.spec()?;
    power_on(machine, &spec, ctx)?;
    output::line(name)
}

/// Starts a machine by its definition.
pub(super) fn power_on(
    machine: MachineFolder,
    spec: &MachineSpec,
    ctx: &Context,
) -> anyhow::Result<()> {
    if machine.is_locked() {
        return Err(MachineError::Running(machine.name).into());
    }
    super::layers::written_alone(spec, ctx)?;
    shared(spec)?;
    super::seats::check(spec)?;
    let (beside, networks) = networks(spec).into_iter().unzip();
    let (command, accelerator) = command(&machine, spec, Files::Open, beside, ctx)?;
    hyperion_node::machines::start(Start {
        folder: machine,
        command,
        networks,
        virtiofsd: find_virtiofsd(),
        emulated: accelerator == Accelerator::Tcg,
        vcpus: spec.vcpus.clone(),
        memory: spec.memory.clone(),
        limits: limits(spec, accelerator),
        on_crash: spec.on_crash,
    })?;
    Ok(())
}

/// Refuses folders that nobody here can share, and those that are not there.
fn shared(spec: &MachineSpec) -> anyhow::Result<()> {
    let root = rustix::process::geteuid().is_root();
    for share in &spec.shares {
        let source = &share.source;
        if !source.is_dir() {
            return Err(errors::advised(
                Class::NotFound,
                format!("there is no folder {}", source.display()),
                format!("make it, or leave it out: hyperion vm edit {}", spec.name),
            ));
        }
        let hint = match (share.kind, root) {
            (ShareKind::Virtiofs, true) if find_virtiofsd().is_none() => {
                "apt install virtiofsd (Debian 12: qemu-system-common has it)"
            }
            (ShareKind::Virtiofs, false) => "as root, or by 9p where the guest's kernel knows it",
            // As root QEMU is nobody, and may not enter it.
            (ShareKind::Ninep, true) => "share it by virtiofs",
            _ => continue,
        };
        let what = format!(
            "{} cannot be shared by {} here",
            source.display(),
            share.kind
        );
        return Err(errors::advised(Class::Unsupported, what, hint));
    }
    Ok(())
}

/// Starts passt, where this host has it, for each network card that it serves.
fn networks(spec: &MachineSpec) -> Vec<(usize, OwnedFd)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path).map(|folder| folder.join("passt"));
    let Some(program) = program.into_iter().find(|file| file.is_file()) else {
        return Vec::new();
    };
    let cards = spec.interfaces.iter().enumerate();
    let users = cards.filter(|(_, card)| card.kind == InterfaceKind::User);
    users
        .filter_map(|(i, card)| {
            Some((i, hyperion_node::machines::passt(&program, &card.forwards)?))
        })
        .collect()
}

pub(super) fn command(
    machine: &MachineFolder,
    spec: &MachineSpec,
    files: Files,
    beside: BTreeSet<usize>,
    ctx: &Context,
) -> anyhow::Result<(CommandLine, Accelerator)> {
    let qemu = find_qemu()?;
    let accelerator = match spec.emulated {
        true => Accelerator::Tcg,
        false => accelerator(ctx),
    };
    let mut places = places(machine, spec)?;
    places.beside = beside;
    if spec.image.is_some() {
        places.kernel_words = kernel_words(Reading::take().as_ref(), accelerator);
    }
    if files == Files::Open {
        // It stands in that folder already.
        places.folder = PathBuf::new();
    }
    let command = command_line(spec, &qemu, accelerator, &places, files).map_err(|e| {
        let hint = "leave it out of the definition, and define the machine again";
        errors::advised(Class::Unsupported, e, hint)
    })?;
    Ok((command, accelerator))
}

/// Finds what lies beside the definition.
pub(super) fn places(machine: &MachineFolder, spec: &MachineSpec) -> anyhow::Result<Places> {
    let firmware = match &spec.firmware {
        Firmware::Bios => None,
        Firmware::Uefi {
            secure_boot,
            loader,
            variables,
        } => Some(uefi(machine, *secure_boot, loader, variables)?),
    };
    let there = |name: &str| Some(machine.disks().join(name)).filter(|file| file.is_file());
    Ok(Places {
        folder: machine.run(),
        firmware,
        seed: there(SEED),
        orders: there(ORDERS),
        modules: image::modules(spec),
        kernel_words: String::new(),
        beside: BTreeSet::new(),
    })
}

/// Finds the host's firmware, and gives the machine variables of its own.
fn uefi(
    machine: &MachineFolder,
    secure_boot: bool,
    loader: &Option<PathBuf>,
    variables: &Option<PathBuf>,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let folder = Path::new("/usr/share/OVMF");
    let (code, empty) = match secure_boot {
        true => ("OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd"),
        false => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    };
    let code = loader.clone().unwrap_or_else(|| folder.join(code));
    if !code.is_file() {
        return Err(errors::advised(
            Class::Unsupported,
            format!("there is no UEFI firmware at {}", code.display()),
            "apt install ovmf",
        ));
    }
    let own = variables.clone().unwrap_or_else(|| machine.variables());
    if !own.is_file() {
        let empty = folder.join(empty);
        std::fs::copy(&empty, &own)
            .with_context(|| format!("cannot copy {} to {}", empty.display(), own.display()))?;
    }
    Ok((code, own))
}

pub(super) fn stop(args: &StopArgs, ctx: &Context) -> anyhow::Result<()> {
    let Some(name) = &args.name else {
        // All are asked before one is waited for.
        let until = Instant::now() + args.time;
        if !args.time.is_zero() {
            for machine in Machines::new(&ctx.root).list()? {
                ask_to_end(&machine, ctx);
            }
        }
        return autostart::all(ctx, "stopped", MachineFolder::is_locked, |machine| {
            let left = until.saturating_duration_since(Instant::now());
            match power_off(&machine, left, ctx) {
                // It has just gone.
                Err(MachineError::NotRunning(_)) => Ok(()),
                other => Ok(other?),
            }
        });
    };
    let machine = Machines::new(&ctx.root).find(name)?;
    power_off(&machine, args.time, ctx)?;
    output::line(name)
}

/// Asks a guest to shut down, switches it off when it does not, and kills a QEMU
/// that does not hear that either.
fn power_off(machine: &MachineFolder, grace: Duration, ctx: &Context) -> Result<(), MachineError> {
    if !machine.is_locked() {
        return Err(MachineError::NotRunning(machine.name.clone()));
    }
    let until = Instant::now() + grace;
    while !until.saturating_duration_since(Instant::now()).is_zero() && ask_to_end(machine, ctx) {
        let left = until.saturating_duration_since(Instant::now());
        // An init that has just begun may not have heard it.
        let limit = if is_of_image(machine) {
            left.min(ASKS_AGAIN)
        } else {
            left
        };
        if gone(machine, limit) {
            return Ok(());
        }
    }
    let quits = machine.monitor(LIMIT).is_ok_and(|mut m| m.quit().is_ok());
    if quits && gone(machine, LIMIT) {
        return Ok(());
    }
    kill(machine)
}

/// How long the init of an image's machine may take to hear.
const HEARS: Duration = Duration::from_secs(5);
/// How long it is waited for before it is asked again.
const ASKS_AGAIN: Duration = Duration::from_secs(10);

fn is_of_image(machine: &MachineFolder) -> bool {
    machine.spec().is_ok_and(|spec| spec.image.is_some())
}

/// Asks a guest to shut down; one whose processors are stopped would hear nothing.
fn ask_to_end(machine: &MachineFolder, ctx: &Context) -> bool {
    let Ok(mut monitor) = machine.monitor(LIMIT) else {
        return false;
    };
    if monitor.cont().is_err() {
        return false;
    }
    // Its kernel need not have the driver of the button.
    if is_of_image(machine)
        && let Ok(mut agent) = agent(machine.name.as_str(), HEARS, ctx)
        && agent.end("powerdown").is_ok()
    {
        return true;
    }
    monitor.power_down().is_ok()
}

/// Has a guest start anew. It does so by itself where an agent answers in it; the button
/// for that would be a power cut, so another one is shut down and started.
pub(super) fn reboot(args: &RebootArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let mut monitor = machine.monitor(LIMIT)?;
    if args.force {
        monitor.reset().map_err(|e| machine.refused(e))?;
        return output::line(&args.name);
    }
    monitor.cont().map_err(|e| machine.refused(e))?;
    let listens = is_of_image(&machine) || has_agent(&mut monitor);
    drop(monitor);
    if listens
        && let Ok(mut agent) = agent(&args.name, HEARS, ctx)
        && agent.end("reboot").is_ok()
    {
        return output::line(&args.name);
    }
    let spec = machine.spec()?;
    power_off(&machine, args.time, ctx)?;
    power_on(machine, &spec, ctx)?;
    output::line(&args.name)
}

/// Kills QEMU; nothing of what its guest has in memory is kept.
fn kill(machine: &MachineFolder) -> Result<(), MachineError> {
    match machine.kill() {
        // It has just gone, or has not come yet.
        Err(MachineError::NotRunning(_)) => {}
        other => other?,
    }
    gone(machine, LIMIT);
    Ok(())
}

/// Waits until nobody keeps a machine any more.
fn gone(machine: &MachineFolder, limit: Duration) -> bool {
    let since = Instant::now();
    while machine.is_locked() {
        if since.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Asks something of the monitor of a machine that runs.
pub(super) fn ask(
    args: &One,
    ctx: &Context,
    what: impl FnOnce(&mut Qmp) -> Result<(), QmpError>,
) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let mut monitor = machine.monitor(LIMIT)?;
    what(&mut monitor).map_err(|e| machine.refused(e))?;
    output::line(&args.name)
}

pub(super) fn delete(args: &DeleteArgs, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    if args.force && machine.is_locked() {
        kill(&machine)?;
    }
    machine.delete()?;
    output::line(&args.name)
}

/// Ends the console: ctrl-].
const ESCAPE: u8 = 0x1d;

pub(super) fn console(args: &One, ctx: &Context) -> anyhow::Result<()> {
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let Ok(mut socket) = UnixStream::connect(machine.run().join("console")) else {
        return Err(MachineError::NotRunning(machine.name).into());
    };
    eprintln!("connected to {}; ctrl-] leaves", machine.name);
    let raw = crate::session::RawTerminal::enter();
    let (mut keys, mut screen) = (io::stdin().lock(), io::stdout().lock());
    let mut piece = [0; 4096];
    let mut listens = true;
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
        if listens {
            fds.push(PollFd::from_borrowed_fd(
                rustix::stdio::stdin(),
                PollFlags::IN,
            ));
        }
        poll(&mut fds, None)?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[0] {
            match socket.read(&mut piece)? {
                0 => break,
                got => {
                    screen.write_all(&piece[..got])?;
                    screen.flush()?;
                }
            }
        }
        if ready.get(1) == Some(&true) {
            let got = keys.read(&mut piece)?;
            let typed = &piece[..got];
            if typed.contains(&ESCAPE) {
                break;
            }
            listens = got > 0;
            socket.write_all(typed)?;
        }
    }
    drop(raw);
    eprintln!();
    Ok(())
}
