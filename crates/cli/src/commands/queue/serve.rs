//! `hyperion serve`

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_api::queue::{Reply, Request};
use hyperion_lifecycle::Site;
use hyperion_model::Class;
use hyperion_model::units::parse_duration;
use hyperion_sched::{Amounts, Node};
use hyperion_server::{Settings, serve};
use hyperion_sys::process;
use hyperion_sys::signals::{SIGHUP, SIGINT, SIGTERM, SignalFd};
use rustix::fs::{Mode, OFlags};

use super::{Server, folder, program};
use crate::commands::run::HostSize;
use crate::context::Context;
use crate::errors;

/// How long a server that nobody started by hand stays when nobody wants anything.
const IDLE: Duration = Duration::from_secs(300);

// Words of `hyperion serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End when nothing has waited, run or been asked for so long
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    idle: Option<Duration>,
    /// Answer Prometheus on this port of the loopback interface, such as 127.0.0.1:9477
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Leave the terminal as soon as jobs are taken
    #[arg(long)]
    background: bool,
    /// End the server that runs; jobs that run go on
    #[arg(long, conflicts_with_all = ["idle", "background"])]
    stop: bool,
}

// Words of `hyperion metrics`.
#[derive(Debug, clap::Args)]
pub(crate) struct MetricsArgs {}

/// How to start an agent: the server knows no settings of ours.
static AGENT: OnceLock<(std::path::PathBuf, std::path::PathBuf)> = OnceLock::new();

fn agent() -> io::Result<Command> {
    let (program, root) = AGENT.get().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command
        .arg("--root")
        .arg(root)
        .arg("agent")
        .current_dir("/");
    Ok(command)
}

/// Serves the queue until it is told to end; jobs that run go on.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    if args.stop {
        return stop(ctx);
    }
    if args.background {
        rustix::process::setsid().ok();
    }
    // Others may pass through, as through every folder of jobs.
    let folder = folder(ctx);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    // Scripts and environments hold what others are not to see.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let stop = SignalFd::new(&[SIGTERM, SIGINT, SIGHUP])?;
    let stop: OwnedFd = stop.as_fd().try_clone_to_owned()?;
    let program = program(ctx)?.get_program().to_owned();
    let _ = AGENT.set((program.into(), ctx.root.clone()));
    let said = super::site::read(ctx)?;
    let settings = Settings {
        folder,
        agent,
        site: site(said.usual_limit),
        rules: said.rules,
        order: said.order,
        policy: said.policy,
        metrics: args.metrics.map(listen).transpose()?,
        stop,
        idle: args.idle.or(args.background.then_some(IDLE)),
    };
    let mut told = Ok(());
    serve(settings, |remarks| {
        for remark in remarks {
            crate::output::talk("warning", remark);
        }
        told = tell_ready(args.background, ctx);
    })?;
    told.context("cannot leave the terminal")?;
    Ok(ExitCode::SUCCESS)
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(errors::advised(
            Class::User,
            format!("{address} is not of the loopback interface: everybody could ask there"),
            "take 127.0.0.1, and let something that asks who it is stand before it",
        ));
    }
    TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

/// Prints numbers for Prometheus.
pub(crate) fn metrics(_: &MetricsArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    if let Reply::Metrics(text) = Server::reach(ctx, true)?.ask(&Request::Metrics)? {
        crate::output::line(text.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the server that runs, and waits until it has.
fn stop(ctx: &Context) -> anyhow::Result<ExitCode> {
    let Some(mut server) = Server::find(ctx)? else {
        return Err(super::none(ctx));
    };
    server.ask(&Request::Stop)?;
    server.wait_gone();
    Ok(ExitCode::SUCCESS)
}

fn tell_ready(background: bool, ctx: &Context) -> anyhow::Result<()> {
    if !background {
        let place = folder(ctx);
        eprintln!(
            "takes jobs for the queue in {}; ctrl-C ends it, jobs go on",
            place.display()
        );
        return Ok(());
    }
    crate::output::line("ready")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    process::install_fds(&[null.as_fd(); 3])?;
    Ok(())
}

/// Gives what this host has for jobs.
fn site(usual_limit: Option<Duration>) -> Site {
    let host = HostSize::read();
    let cores = host.allowed().len() as u64;
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    Site {
        nodes: vec![Node {
            name,
            capacity: Amounts::new([cores * 1000, host.memory().0]),
        }],
        kinds: Vec::new(),
        usual_limit,
    }
}
