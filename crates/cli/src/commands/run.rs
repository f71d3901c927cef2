//! `hyperion run`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{ArgAction, ValueEnum};
use hyperion_image::{ImageRecord, Owners, RootPolicy, Store, StoreError};
use hyperion_isolation::Isolation;
use hyperion_isolation::container::ContainerIsolation;
use hyperion_isolation::process::ProcessIsolation;
use hyperion_model::job::{ContainerOptions, Network};
use hyperion_model::report::Phase;
use hyperion_model::units::parse_duration;
use hyperion_model::{
    Binding, Bytes, Class, Cores, CpuSet, JobId, JobSpec, Level, Mount, MountKind, MpiChoice, Name,
    NodePlan, Parallel, Preflight, Resources, Rlimit, RootSource, RootSpec, SandboxSpec,
    UsernsMode,
};
use hyperion_mpi::layout::NumaNode;
use hyperion_node::Jobs;
use hyperion_node::supervisor::{HostFacts, Launch, start};
use hyperion_sys::caps::CapSet;
use hyperion_sys::host::{self, Host};

use crate::context::Context;
use crate::errors;
use crate::session::{self, Session};

/// The levels of isolation, as words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolate {
    /// Limits, binding and environment; the host's own files
    Process,
    /// Namespaces, a root of its own, seccomp and fewer capabilities
    #[default]
    Container,
}

/// Words of `hyperion run`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hyperion run [OPTIONS] IMAGE [COMMAND [ARG]...]\n       \
                      hyperion run --isolation process [OPTIONS] COMMAND [ARG]...",
    after_help = "The exit code is the command's own; 125 when it could not be started for a reason \
                  of Hyperion's, 126 when the command cannot be executed, 127 when it is not found, \
                  124 when the time limit ended it."
)]
pub(crate) struct Args {
    /// How the command is fenced
    #[arg(long, value_enum, default_value_t, help_heading = "Isolation")]
    isolation: Isolate,
    /// Root inside is root outside: no user namespace
    #[arg(long, value_name = "MODE", value_parser = ["host", "private"], default_value = "private", help_heading = "Isolation")]
    userns: String,
    /// Where the network comes from
    #[arg(long, value_name = "MODE", value_parser = ["host", "none"], default_value = "host", help_heading = "Isolation")]
    network: String,
    /// Add a capability (ALL for all)
    #[arg(
        long,
        value_name = "CAP",
        value_delimiter = ',',
        help_heading = "Isolation"
    )]
    cap_add: Vec<String>,
    /// Drop a capability (ALL for all)
    #[arg(
        long,
        value_name = "CAP",
        value_delimiter = ',',
        help_heading = "Isolation"
    )]
    cap_drop: Vec<String>,
    /// `seccomp=unconfined` switches the filter of system calls off
    #[arg(long, value_name = "OPT", value_parser = ["seccomp=unconfined", "no-new-privileges"], help_heading = "Isolation")]
    security_opt: Vec<String>,
    /// Host name inside [default: the job's id]
    #[arg(long, value_name = "NAME", help_heading = "Isolation")]
    hostname: Option<String>,

    /// Number of ranks
    #[arg(
        short = 'n',
        long,
        visible_alias = "ntasks",
        value_name = "N",
        default_value_t = 1,
        help_heading = "Ranks"
    )]
    ranks: u32,
    /// Ranks on each node (this host is the only one)
    #[arg(long, value_name = "N", help_heading = "Ranks")]
    ranks_per_node: Option<u32>,
    /// Processors for each rank
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Ranks")]
    cpus_per_rank: u32,
    /// Tie ranks to processors: core, numa or none
    #[arg(
        long,
        value_name = "HOW",
        default_value = "none",
        help_heading = "Ranks"
    )]
    bind: Binding,
    /// Allow more ranks than processors
    #[arg(long, help_heading = "Ranks")]
    oversubscribe: bool,
    /// Who starts the ranks: auto, pmi, openmpi or none
    #[arg(
        long,
        value_name = "WHO",
        default_value = "auto",
        help_heading = "Ranks"
    )]
    mpi: MpiChoice,
    /// Put the rank before each line of output
    #[arg(long, help_heading = "Ranks")]
    label: bool,
    /// Also write each rank's output to DIR/rank.N.out and DIR/rank.N.err
    #[arg(long, value_name = "DIR", help_heading = "Ranks")]
    output_dir: Option<PathBuf>,
    /// Say what a look at program and host shows before the start: show, or
    /// only that and start nothing
    #[arg(long, value_name = "WHAT", value_parser = ["show", "only"], help_heading = "Ranks")]
    preflight: Option<String>,

    /// Memory, such as 512m or 4GiB
    #[arg(short = 'm', long, value_name = "SIZE", help_heading = "Resources")]
    memory: Option<Bytes>,
    /// Processor time, in cores
    #[arg(long, value_name = "CORES", help_heading = "Resources")]
    cpus: Option<Cores>,
    /// Processors that may be used, such as 0-3,8
    #[arg(
        long,
        visible_alias = "cpuset-cpus",
        value_name = "LIST",
        help_heading = "Resources"
    )]
    cpuset: Option<CpuSet>,
    /// Number of processes and threads
    #[arg(
        long,
        visible_alias = "pids-limit",
        value_name = "N",
        help_heading = "Resources"
    )]
    pids: Option<u64>,
    /// Per-process limit, NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT", help_heading = "Resources")]
    ulimit: Vec<Rlimit>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    shm_size: Option<Bytes>,
    /// Stop the job after this time, such as 2h30m
    #[arg(long, value_name = "SPAN", value_parser = parse_duration, help_heading = "Resources")]
    time: Option<Duration>,

    /// Mount a folder of the host, SOURCE:TARGET[:ro]
    #[arg(short = 'v', long, value_name = "VOLUME", help_heading = "Files")]
    volume: Vec<String>,
    /// Mount, type=bind|tmpfs,source=…,target=…[,readonly]
    #[arg(long, value_name = "MOUNT", help_heading = "Files")]
    mount: Vec<String>,
    /// Mount memory, TARGET[:size=…,mode=…]
    #[arg(long, value_name = "TMPFS", help_heading = "Files")]
    tmpfs: Vec<String>,
    /// Make the root file system read-only
    #[arg(long, help_heading = "Files")]
    read_only: bool,
    /// Working folder
    #[arg(short = 'w', long, value_name = "DIR", help_heading = "Files")]
    workdir: Option<PathBuf>,

    /// Set a variable, NAME=VALUE, or pass on the caller's, NAME
    #[arg(short = 'e', long, value_name = "VAR", help_heading = "Command")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE", help_heading = "Command")]
    env_file: Vec<PathBuf>,
    /// User, NAME|ID[:GROUP]
    #[arg(short = 'u', long, value_name = "USER", help_heading = "Command")]
    user: Option<String>,
    /// Replace the image's entrypoint ("" removes it)
    #[arg(long, value_name = "PROGRAM", help_heading = "Command")]
    entrypoint: Option<String>,
    /// Keep standard input open
    #[arg(short = 'i', long, help_heading = "Command")]
    interactive: bool,
    /// Make a terminal
    #[arg(short = 't', long, help_heading = "Command")]
    tty: bool,
    /// Return at once and print the job's id
    #[arg(short = 'd', long, help_heading = "Command")]
    detach: bool,
    /// Remove the record when the job has ended
    #[arg(long, help_heading = "Command")]
    rm: bool,
    /// Name of the job
    #[arg(long, value_name = "NAME", help_heading = "Command")]
    name: Option<Name>,
    /// An init always runs inside: accepted for docker's sake
    #[arg(long, hide = true)]
    init: bool,
    /// Run the command K times, one after the other, in one sandbox
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Command")]
    repeat: u32,
    /// Print the report at the end, on standard error
    #[arg(long, value_name = "SHAPE", num_args = 0..=1, default_missing_value = "human", require_equals = true, value_parser = ["human", "json"], help_heading = "Command")]
    report: Option<String>,
    /// When to fetch the image: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["missing", "always", "never"], help_heading = "Command")]
    pull: String,

    /// Image, command and arguments
    #[arg(value_name = "IMAGE COMMAND", trailing_var_arg = true, required = true, action = ArgAction::Append)]
    words: Vec<String>,
}

/// Runs the job, attached or not.
pub(crate) fn run(mut args: Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let level = match args.isolation {
        Isolate::Process => Level::Process,
        Isolate::Container => Level::Container,
    };
    let host = HostSize::read();
    let id = JobId::from_random(random()?);
    let jobs = Jobs::new(&ctx.root);
    let scratch = ctx.root.join("jobs").join(id.as_str()).join("scratch");
    let userns = userns(level, &args, &id);
    let mut keep = Vec::new();
    let (image, source) = match level {
        Level::Process => (None, RootSource::Host),
        Level::Container => {
            let name = args.words.remove(0);
            let (record, source, lease) = find_image(ctx, &name, &args.pull, &userns)?;
            keep.extend(lease);
            (Some((name, record)), source)
        }
    };
    let job = job_spec(&args, level, image.as_ref())?;
    host.check(&job)?;
    let record = image.and_then(|(_, record)| record);
    let plan = NodePlan {
        sandbox: SandboxSpec {
            id: id.clone(),
            level,
            root: RootSpec {
                source,
                scratch: (level == Level::Container && !args.read_only).then_some(scratch),
            },
            userns,
            container: job.container.clone(),
            resources: job.resources.clone(),
        },
        image_digest: record.as_ref().map(|r| r.digest.to_string()),
        image_env: record.map(|r| r.config.env).unwrap_or_default(),
        id,
        job,
    };
    let phases = vec![Phase {
        name: "image".into(),
        took: began.elapsed(),
    }];
    let folder = jobs.create(&plan)?;
    let terminal = session::terminal_size();
    let launch = Launch {
        plan,
        jobs,
        folder,
        isolation: isolation(level),
        program: std::env::current_exe().context("cannot find the file of this program")?,
        began,
        phases,
        host: host.facts(args.bind),
        attach: (!args.detach).then_some((args.interactive, terminal.filter(|_| args.tty))),
        keep,
    };
    let id = launch.plan.id.clone();
    let client = start(launch).context("cannot start the supervisor")?;
    if args.detach {
        return session::wait_started(client, &id);
    }
    let session = Session {
        label: args.label,
        raw: args.tty && args.interactive,
        input: args.interactive,
        job: true,
    };
    let report = args.report.as_deref();
    session.run(client, &id, |end| {
        if let (Some(shape), Some(cost)) = (report, &end.report) {
            super::report::print_to_stderr(cost, shape == "json")?;
        }
        Ok(())
    })
}

fn isolation(level: Level) -> Box<dyn Isolation> {
    match level {
        Level::Process => Box::new(ProcessIsolation),
        Level::Container => Box::new(ContainerIsolation),
    }
}

fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("the kernel gives no randomness")?;
    Ok(u64::from_le_bytes(bytes))
}

type Lease = std::os::fd::OwnedFd;

/// Finds the image: a folder on this host, or a name in the store.
fn find_image(
    ctx: &Context,
    name: &str,
    pull: &str,
    userns: &UsernsMode,
) -> anyhow::Result<(Option<ImageRecord>, RootSource, Option<Lease>)> {
    if name.starts_with('/') || name.starts_with("./") || name.starts_with("../") {
        let path = Path::new(name)
            .canonicalize()
            .map_err(|e| errors::advised(Class::NotFound, e, "an image that begins with '/' or '.' is a folder or an EROFS file of this host"))
            .with_context(|| format!("there is no image at {name}"))?;
        let source = if path.is_dir() {
            RootSource::Layers { layers: vec![path] }
        } else {
            RootSource::Erofs { file: path }
        };
        return Ok((None, source, None));
    }
    let store = Store::open(&ctx.images())?;
    let record = match (pull, store.resolve(name)) {
        ("always", _) => super::pull::bring(ctx, &store, name)?,
        ("missing", Err(StoreError::NoImage(_))) => super::pull::bring(ctx, &store, name)?,
        (_, found) => found?,
    };
    let owners = if *userns == UsernsMode::Single {
        Owners::Caller
    } else {
        Owners::Keep
    };
    let policy = RootPolicy::new(can_mount_files(), owners);
    if matches!(userns, UsernsMode::Subordinate { .. }) && !store.is_prepared(&record, &policy) {
        // Files get their owners only from inside a user namespace that has them.
        let prepare = || {
            store
                .prepare(&record, &policy)
                .map_err(std::io::Error::other)
        };
        hyperion_sys::userns::run_inside(userns, prepare)
            .context("cannot make a user namespace to unpack the image in")?
            .context("cannot unpack the image")?;
    }
    let root = store.rootfs(&record, &policy)?;
    Ok((Some(record), root.source, Some(root.lease.into())))
}

/// Tells whether this process can mount an EROFS file without a loop device.
fn can_mount_files() -> bool {
    let since = |major: u32, minor: u32| {
        let release = rustix::system::uname();
        let text = release.release().to_string_lossy().into_owned();
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .map(|n| n.parse().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
    };
    let known = || {
        let text = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        text.lines().any(|l| l.trim() == "erofs")
    };
    rustix::process::geteuid().is_root() && since(6, 12) && known()
}

/// Decides how ids inside relate to those outside.
fn userns(level: Level, args: &Args, id: &JobId) -> UsernsMode {
    if level == Level::Process {
        return UsernsMode::Host;
    }
    if rustix::process::geteuid().is_root() {
        if args.userns == "host" {
            return UsernsMode::Host;
        }
        // Each job has ids of its own, far from any user's: what breaks out is
        // nobody, and another job's nobody too.
        let bits = u64::from_str_radix(id.as_str(), 16).unwrap_or_default();
        let slot = (bits % 16_000) as u32;
        let (base, size) = ((1 << 30) + slot * 65_536, 65_536);
        let known = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        // Root of a container has no such ids, and no other powers than a user.
        return match hyperion_sys::userns::is_mapped(&known, base, size) {
            true => UsernsMode::Range { base, size },
            false => UsernsMode::Single,
        };
    }
    own_ids()
}

/// Finds the ids that a user has in containers.
pub(super) fn own_ids() -> UsernsMode {
    let uid = rustix::process::getuid().as_raw();
    let user = user_name(uid).unwrap_or_default();
    let range = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        hyperion_sys::userns::subordinate_range(&text, &user, uid)
    };
    let helpers = ["newuidmap", "newgidmap"].iter().all(|h| in_path(h));
    match (range("/etc/subuid"), range("/etc/subgid")) {
        (Some(uids), Some(gids)) if helpers => UsernsMode::Subordinate { uids, gids },
        _ => UsernsMode::Single,
    }
}

fn user_name(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What this host has.
struct HostSize {
    /// The processors that this process may use.
    allowed: CpuSet,
    memory: Bytes,
}

impl HostSize {
    fn read() -> Self {
        let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
        let last = rustix::thread::CpuSet::MAX_CPU as u32;
        let allowed = CpuSet((0..last).filter(|&cpu| set.is_set(cpu as usize)).collect());
        let memory = host::memory_total(&Host::at("/")).unwrap_or_default();
        Self { allowed, memory }
    }

    /// Gives what a supervisor must know of this host. The way processors and
    /// memory lie is read only when ranks are bound: it costs half a millisecond.
    fn facts(&self, bind: Binding) -> HostFacts {
        let nodes = match bind {
            Binding::None => Vec::new(),
            Binding::Core | Binding::Numa => {
                let topology = host::topology(&Host::at("/"));
                let node = |n: host::NumaNode| NumaNode {
                    id: n.id,
                    cpus: n.cpus,
                };
                topology.nodes.into_iter().map(node).collect()
            }
        };
        HostFacts {
            cpus: self.allowed.len() as u32,
            memory: self.memory,
            allowed: self.allowed.clone(),
            nodes,
            arch: rustix::system::uname()
                .machine()
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// Refuses what this host cannot give, before anything starts.
    fn check(&self, job: &JobSpec) -> anyhow::Result<()> {
        let resources = &job.resources;
        let above = |asked: String, has: String, hint: &str| {
            let what = format!("the job asks for {asked} and this host has {has}");
            Err(errors::advised(Class::User, what, hint))
        };
        if let Some(memory) = resources.memory.filter(|&m| m > self.memory) {
            let asked = format!("{memory} of memory");
            return above(asked, self.memory.to_string(), "lower --memory");
        }
        if let Some(cpus) = resources
            .cpus
            .filter(|&c| c > Cores::whole(self.allowed.len() as u64))
        {
            let asked = format!("{cpus} cores");
            return above(asked, self.allowed.len().to_string(), "lower --cpus");
        }
        if let Some(cpuset) = &resources.cpuset
            && !cpuset.0.is_subset(&self.allowed.0)
        {
            let asked = format!("processors {cpuset}");
            return above(
                asked,
                self.allowed.to_string(),
                "choose of these with --cpuset",
            );
        }
        let container = &job.container;
        if let Err(name) = CapSet::adjusted(&container.cap_add, &container.cap_drop) {
            let known = CapSet::names().iter().copied();
            let hint = match errors::likely(&name.to_uppercase(), known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "capabilities(7) lists them; ALL stands for all".into(),
            };
            let what = format!("there is no capability named {name:?}");
            return Err(errors::advised(Class::User, what, hint));
        }
        for mount in &container.mounts {
            if let MountKind::Bind { source, .. } = &mount.kind
                && !source.exists()
            {
                let source = source.display();
                return Err(errors::advised(
                    Class::NotFound,
                    format!("there is no {source} to mount"),
                    format!("make it first: mkdir -p {source}"),
                ));
            }
        }
        Ok(())
    }
}

/// Puts the job together from the words and what the image says of itself.
fn job_spec(
    args: &Args,
    level: Level,
    image: Option<&(String, Option<ImageRecord>)>,
) -> anyhow::Result<JobSpec> {
    let config = image
        .and_then(|(_, record)| record.as_ref())
        .map(|r| r.config.clone())
        .unwrap_or_default();
    let mut argv = match &args.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone(),
    };
    if args.words.is_empty() && args.entrypoint.is_none() {
        argv.extend(config.cmd.iter().cloned());
    } else {
        argv.extend(args.words.iter().cloned());
    }
    if argv.is_empty() {
        return Err(errors::advised(
            Class::User,
            "the image names no command",
            "say which to run after the image's name",
        ));
    }
    if args.ranks == 0 {
        return Err(errors::advised(
            Class::User,
            "a job has at least one rank",
            "leave out --ranks for one",
        ));
    }
    if args.ranks_per_node.is_some_and(|n| n < args.ranks) {
        let what = format!(
            "{} ranks with {} on each node need several nodes, and this host is the only one",
            args.ranks,
            args.ranks_per_node.unwrap_or(0)
        );
        return Err(errors::advised(
            Class::Unsupported,
            what,
            "leave out --ranks-per-node",
        ));
    }
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .with_context(|| format!("{} has no absolute path", path.display()))
    };
    let here = std::env::current_dir().context("the working folder is gone")?;
    let from_image = (!config.working_dir.is_empty()).then(|| PathBuf::from(&config.working_dir));
    let workdir = match level {
        Level::Process => args
            .workdir
            .as_deref()
            .map(absolute)
            .transpose()?
            .or(Some(here)),
        Level::Container => args.workdir.clone().or(from_image),
    };
    Ok(JobSpec {
        name: args.name.clone(),
        level,
        image: image.map(|(name, _)| name.clone()),
        argv,
        env: environment(args, level)?,
        workdir,
        user: args
            .user
            .clone()
            .or_else(|| (!config.user.is_empty()).then(|| config.user.clone())),
        tty: args.tty,
        interactive: args.interactive,
        remove: args.rm,
        resources: Resources {
            cpus: args.cpus,
            cpuset: args.cpuset.clone(),
            memory: args.memory,
            pids: args.pids,
        },
        rlimits: args.ulimit.clone(),
        parallel: Parallel {
            ranks: args.ranks,
            cpus_per_rank: args.cpus_per_rank,
            bind: args.bind,
            oversubscribe: args.oversubscribe,
            mpi: args.mpi,
            preflight: match args.preflight.as_deref() {
                None => Preflight::Quiet,
                Some("only") => Preflight::Only,
                Some(_) => Preflight::Show,
            },
        },
        container: ContainerOptions {
            read_only: args.read_only,
            mounts: mounts(args)?,
            shm_size: args.shm_size,
            cap_add: args.cap_add.clone(),
            cap_drop: args.cap_drop.clone(),
            network: if args.network == "none" {
                Network::None
            } else {
                Network::Host
            },
            hostname: args.hostname.clone(),
            userns_host: args.userns == "host",
            seccomp_unconfined: args.security_opt.iter().any(|o| o == "seccomp=unconfined"),
        },
        repeat: args.repeat,
        output_dir: args.output_dir.as_deref().map(absolute).transpose()?,
        time_limit: args.time,
    })
}

fn mounts(args: &Args) -> anyhow::Result<Vec<Mount>> {
    let mut all = Vec::new();
    for text in &args.volume {
        all.push(Mount::parse_volume(text)?);
    }
    for text in &args.mount {
        all.push(Mount::parse_mount(text)?);
    }
    for text in &args.tmpfs {
        all.push(Mount::parse_tmpfs(text)?);
    }
    for mount in &mut all {
        if let MountKind::Bind { source, .. } = &mut mount.kind {
            *source = std::path::absolute(&*source)?;
        }
    }
    Ok(all)
}

/// Collects variables: files first, then flags; a bare name passes on the caller's.
fn environment(args: &Args, level: Level) -> anyhow::Result<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    if level == Level::Process {
        env.extend(
            std::env::vars_os()
                .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))),
        );
    }
    let mut words = Vec::new();
    for file in &args.env_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'));
        words.extend(lines.map(str::to_owned));
    }
    words.extend(args.env.iter().cloned());
    for word in words {
        match word.split_once('=') {
            Some(("", _)) => {
                return Err(errors::advised(
                    Class::User,
                    format!("{word:?} has no name before '='"),
                    "write NAME=VALUE, or NAME to pass on the caller's",
                ));
            }
            Some((name, value)) => drop(env.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Ok(value) = std::env::var(&word) {
                    env.insert(word, value);
                }
            }
        }
    }
    Ok(env)
}
