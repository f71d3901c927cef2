//! `hyperion serve`

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_api::queue::{Reply, Request};
use hyperion_engine::Local;
use hyperion_model::Class;
use hyperion_model::units::parse_duration;
use hyperion_server::{Account, Audience, Settings, serve};
use hyperion_sys::entry::ExitCode;
use hyperion_sys::process;
use hyperion_sys::signals::{SIGHUP, SIGINT, SIGTERM, SignalFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;

use super::{Server, activation, folder, hold, program};
use crate::commands::users;
use crate::config::{HOST_SOCKET, Queue};
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
    /// For all users of this host, whose jobs run as them; root only
    #[arg(long)]
    host: bool,
    /// End the server that runs; jobs that run go on
    #[arg(long, conflicts_with_all = ["idle", "background", "host"])]
    stop: bool,
}

// Words of `hyperion metrics`.
#[derive(Debug, clap::Args)]
pub(crate) struct MetricsArgs {}

/// How to start an agent: the server knows no settings of ours.
static AGENT: OnceLock<Agency> = OnceLock::new();

struct Agency {
    program: PathBuf,
    root: PathBuf,
    /// Where others ask.
    socket: PathBuf,
}

/// Gives the command that starts the agent of a user.
fn agent(user: u32) -> io::Result<Command> {
    let agency = AGENT.get().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(&agency.program);
    command.current_dir("/");
    if user == geteuid().as_raw() {
        command.arg("--root").arg(&agency.root);
        command.args(["--server", "own", "agent"]);
        activation::hide(&mut command);
    } else {
        command.env_clear().arg("--server").arg(&agency.socket);
        command.args(["agent", "--of", &user.to_string()]);
        command.stderr(Stdio::piped());
    }
    Ok(command)
}

fn account(user: u32) -> Option<Account> {
    let user = users::numbered(user)?;
    Some(Account {
        name: user.name,
        home: user.home,
    })
}

/// Serves the queue until it is told to end; jobs that run go on.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    if args.stop {
        return stop(ctx);
    }
    let socket = match ctx.config.queue() {
        Queue::At(socket) => socket.clone(),
        Queue::Own | Queue::Either => HOST_SOCKET.into(),
    };
    let given = match args.host {
        true => prepare_host(&socket)?,
        false => None,
    };
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
    let _ = AGENT.set(Agency {
        program: program.into(),
        root: ctx.root.clone(),
        socket: socket.clone(),
    });
    let said = super::site::read(ctx)?;
    let site = super::host::site(&said);
    let settings = Settings {
        folder,
        agent: |user| agent(user).and_then(Local::start),
        reached: |_point| {
            #[cfg(debug_assertions)]
            hyperion_sys::failpoint::reach(_point);
        },
        hold: hold::hold,
        parted: hold::end_rest_of,
        account,
        audience: Audience {
            everybody: args.host.then_some(socket),
            operators: said.operators,
            private: said.private,
        },
        socket: given,
        site,
        rules: said.rules,
        order: said.order,
        policy: said.policy,
        metrics: args.metrics.map(listen).transpose()?,
        stop,
        idle: args.idle.or(args.background.then_some(IDLE)),
        keep: said.keep,
    };
    let mut told = Ok(());
    serve(settings, |remarks| {
        for remark in remarks {
            crate::output::talk("warning", remark);
        }
        told = tell_ready(args, ctx);
    })?;
    told.context("cannot leave the terminal")?;
    Ok(ExitCode::SUCCESS)
}

/// Looks whether a server for all users may be, and takes the socket that systemd has for it.
fn prepare_host(socket: &Path) -> anyhow::Result<Option<UnixListener>> {
    if !geteuid().is_root() {
        let what = "only root keeps a queue for all users: their jobs run as them";
        let hint = "leave out --host: a server of your own needs no root";
        return Err(errors::advised(Class::Denied, what, hint));
    }
    let given = activation::socket()?;
    if let (None, Some(folder)) = (&given, socket.parent()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(given)
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

fn tell_ready(args: &Args, ctx: &Context) -> anyhow::Result<()> {
    activation::tell_ready().context("cannot tell systemd that it is ready")?;
    if !args.background {
        let place = folder(ctx);
        eprintln!(
            "takes jobs{} for the queue in {}; ctrl-C ends it, jobs go on",
            if args.host { " of all users" } else { "" },
            place.display()
        );
        return Ok(());
    }
    crate::output::line("ready")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    process::install_fds(&[null.as_fd(); 3])?;
    Ok(())
}
