//! Into a guest by SSH: `hyperion vm ssh`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use hyperion_model::Class;
use hyperion_model::machine::PortForward;
use hyperion_node::machines::{MachineError, MachineFolder, Machines};
use hyperion_sys::entry::ExitCode;

use crate::context::Context;
use crate::errors;

/// What `ssh` ends with when it fails itself.
const FAILED: i32 = 255;
/// How long a guest's server may take to greet: one that is emulated on a busy
/// host takes many seconds.
const GREETING: Duration = Duration::from_secs(60);
/// How long is waited after a server has said no.
const PAUSE: Duration = Duration::from_millis(200);
/// After how long another is asked while one says nothing, and how many are at
/// most: what is asked before the guest has a network may never be answered, and
/// each one that is gives the guest work.
const SILENCE: Duration = Duration::from_secs(5);
const ASKED: usize = 6;

// Words of `hyperion vm ssh`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm ssh web\n  \
    hyperion vm ssh web -- sudo apt-get install -y nginx\n  \
    hyperion vm ssh web --wait 5m -i ~/.ssh/guests -- cloud-init status --wait")]
pub(crate) struct SshArgs {
    /// Machine, as `hyperion vm ls` lists it
    name: String,
    /// User in the guest [default: the one that cloud-init made, else yours]
    #[arg(short, long, value_name = "NAME")]
    login: Option<String>,
    /// Private key [default: what ssh chooses]
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// How long the guest may take to come up
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = hyperion_model::units::parse_duration)]
    wait: Duration,
    /// Command and arguments; a shell without them
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Becomes `ssh` to the guest, through the port that leads to its own; where it is to
/// wait for the guest, starts it until it is connected.
pub(super) fn ssh(args: &SshArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let machine = Machines::new(&ctx.root).find(&args.name)?;
    let spec = machine.spec()?;
    if !machine.is_locked() {
        return Err(MachineError::NotRunning(machine.name).into());
    }
    let mut forwards = spec.interfaces.iter().flat_map(|card| &card.forwards);
    let forward = forwards
        .find(|forward| forward.guest == 22 && forward.host != 0)
        .ok_or_else(|| {
            errors::advised(
                Class::Unsupported,
                format!(
                    "no known port of this host leads to port 22 of {}",
                    machine.name
                ),
                "make the machine with -p 127.0.0.1:2222:22",
            )
        })?;
    let address = reached_by(forward);
    let mut ssh = std::process::Command::new("ssh");
    // Each machine has a key of its own, and the port may be another's tomorrow.
    let known = machine.path.join("known_hosts");
    ssh.args(["-o", "StrictHostKeyChecking=accept-new", "-o"])
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .args(["-o", &format!("HostKeyAlias={}", machine.name)])
        .args(["-p", &address.port().to_string()]);
    let made = spec.seed.as_ref().and_then(|seed| seed.users.first());
    if let Some(login) = args.login.as_ref().or(made.map(|user| &user.name)) {
        ssh.args(["-l", login]);
    }
    if let Some(key) = &args.identity {
        ssh.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(key);
    }
    let cannot = |e| {
        errors::advised(
            Class::Unsupported,
            format!("cannot execute ssh: {e}"),
            "apt install openssh-client",
        )
    };
    if args.wait.is_zero() {
        ssh.arg(address.ip().to_string())
            .arg("--")
            .args(&args.command);
        return Err(cannot(ssh.exec()));
    }
    let attempt = Attempt::new()?;
    ssh.args(attempt.words())
        .arg(address.ip().to_string())
        .arg("--")
        .args(&args.command);
    let until = Instant::now() + args.wait;
    loop {
        wait(&machine, address, until, args.wait)?;
        let status = ssh.status().map_err(cannot)?;
        let said = attempt.said()?;
        if status.code() == Some(FAILED) && Instant::now() < until && attempt.was_cut_off(&said)? {
            attempt.forget()?;
            std::thread::sleep(PAUSE);
            continue;
        }
        std::io::stderr().write_all(&said)?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let code = status.code().or(signal.map(|signal| 128 | signal));
        return Ok(ExitCode::from(code.unwrap_or(FAILED) as u8));
    }
}

/// What `ssh` says of itself, and whether it came in: a guest that comes up starts its
/// SSH server anew once it has its keys, and whoever knocks just then is cut off. A
/// command that may have run is never run again.
struct Attempt {
    log: File,
    connected: File,
}

impl Attempt {
    fn new() -> anyhow::Result<Self> {
        let memory = |name| -> anyhow::Result<File> {
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            Ok(rustix::fs::memfd_create(name, flags)?.into())
        };
        Ok(Self {
            log: memory("log")?,
            connected: memory("connected")?,
        })
    }

    /// Gives the words by which `ssh` tells.
    fn words(&self) -> [String; 6] {
        let path = |file: &File| {
            let (own, fd) = (std::process::id(), file.as_raw_fd());
            format!("/proc/{own}/fd/{fd}")
        };
        [
            "-E".to_owned(),
            path(&self.log),
            "-o".to_owned(),
            "PermitLocalCommand=yes".to_owned(),
            "-o".to_owned(),
            format!("LocalCommand=echo yes > {}", path(&self.connected)),
        ]
    }

    fn said(&self) -> std::io::Result<Vec<u8>> {
        let mut said = vec![0; self.log.metadata()?.len() as usize];
        self.log.read_exact_at(&mut said, 0)?;
        Ok(said)
    }

    /// Tells whether it never came as far as to say who it is.
    fn was_cut_off(&self, said: &[u8]) -> std::io::Result<bool> {
        const SIGNS: [&str; 4] = [
            "kex_exchange_identification",
            "Connection refused",
            "Connection reset",
            "Connection closed",
        ];
        let said = String::from_utf8_lossy(said);
        let cut_off = SIGNS.iter().any(|sign| said.contains(sign));
        Ok(cut_off && self.connected.metadata()?.len() == 0)
    }

    fn forget(&self) -> std::io::Result<()> {
        self.log.set_len(0)
    }
}

/// Gives the address by which this host reaches a port that it leads to a guest.
fn reached_by(forward: &PortForward) -> SocketAddr {
    let ip = match forward.address {
        // Open on each of them, so on its own.
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(ip, forward.host)
}

/// Waits until a guest's server greets. The port is open before there is one.
fn wait(
    machine: &MachineFolder,
    address: SocketAddr,
    until: Instant,
    limit: Duration,
) -> anyhow::Result<()> {
    let (says, answers) = mpsc::channel();
    let mut asked = 0;
    let mut patience = Duration::ZERO;
    loop {
        if patience.is_zero() {
            let says = says.clone();
            std::thread::spawn(move || says.send(greets(address)));
            asked += 1;
            patience = SILENCE;
        }
        let since = Instant::now();
        match answers.recv_timeout(patience.min(Duration::from_secs(1))) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                asked -= 1;
                std::thread::sleep(PAUSE);
                patience = Duration::ZERO;
            }
            Err(_) if asked < ASKED => patience = patience.saturating_sub(since.elapsed()),
            Err(_) => {}
        }
        if !machine.is_locked() {
            return Err(MachineError::NotRunning(machine.name.clone()).into());
        }
        if Instant::now() > until {
            let name = &machine.name;
            let seconds = limit.as_secs();
            return Err(errors::advised(
                Class::Unavailable,
                format!("no SSH server greets in the guest of {name} within {seconds} s"),
                format!("`hyperion vm console {name}` shows how far it is; --wait takes longer"),
            ));
        }
    }
}

fn greets(address: SocketAddr) -> bool {
    let greeted = || {
        let mut socket = TcpStream::connect_timeout(&address, GREETING)?;
        socket.set_read_timeout(Some(GREETING))?;
        // As a client does: passt of 2023 leaves who waits for the server's word waiting.
        socket.write_all(b"SSH-2.0-Hyperion\r\n")?;
        let mut start = [0; 4];
        socket.read_exact(&mut start)?;
        Ok::<_, std::io::Error>(&start == b"SSH-")
    };
    greeted().unwrap_or(false)
}
