//! The words of `hyperion run`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, ValueEnum};
use hyperion_model::units::parse_duration;
use hyperion_model::{
    Binding, Bytes, Cores, CpuSet, Level, Member, MpiChoice, Name, Rlimit, TaskSet,
};

use crate::plain::{self, Next, Plain};

/// The levels of isolation, as words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolate {
    /// Limits, binding and environment; the host's own files
    Process,
    /// Namespaces, a root of its own, seccomp and fewer capabilities
    #[default]
    Container,
    /// A kernel of its own, in a virtual machine
    Vm,
}

impl FromStr for Isolate {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(word, false)
    }
}

/// How folders of the host come into a virtual machine, as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FoldersBy {
    /// Shared by virtiofsd: needs root
    Virtiofs,
    /// Shared by QEMU itself: for users, with a kernel that knows 9p
    #[value(name = "9p")]
    Ninep,
    /// Copied in, and what changed back out at the end
    Copy,
}

/// What virtual machines of jobs are built on, as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    /// A PC with PCI Express
    Q35,
    /// The least that boots: sooner, without NUMA nodes
    Microvm,
}

// Words of `hyperion run`.
#[derive(Debug, Default, clap::Args)]
#[command(
    allow_negative_numbers = true,
    override_usage = "hyperion run [OPTIONS] IMAGE [COMMAND [ARG]...]\n       \
                      hyperion run --isolation process [OPTIONS] COMMAND [ARG]...",
    after_help = "The exit code is the command's own; 125 when it could not be started for a reason \
                  of Hyperion's, 126 when the command cannot be executed, 127 when it is not found, \
                  124 when the time limit ended it."
)]
pub(crate) struct Args {
    /// How the command is fenced
    #[arg(long, value_enum, default_value_t, help_heading = "Isolation")]
    pub(super) isolation: Isolate,
    /// What a virtual machine is built on: q35, a PC [default], or microvm, the
    /// least that boots
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        hide_possible_values = true,
        help_heading = "Isolation"
    )]
    pub(super) machine: Option<Board>,
    /// Root inside is root outside: no user namespace
    #[arg(long, value_name = "MODE", value_parser = ["host", "private"], default_value = "private", help_heading = "Isolation")]
    pub(super) userns: String,
    /// Where the network comes from [default: host; none in a virtual machine]
    #[arg(long, value_name = "MODE", value_parser = ["host", "none"], help_heading = "Isolation")]
    pub(super) network: Option<String>,
    /// Add a capability (ALL for all)
    #[arg(
        long,
        value_name = "CAP",
        value_delimiter = ',',
        help_heading = "Isolation"
    )]
    pub(super) cap_add: Vec<String>,
    /// Drop a capability (ALL for all)
    #[arg(
        long,
        value_name = "CAP",
        value_delimiter = ',',
        help_heading = "Isolation"
    )]
    pub(super) cap_drop: Vec<String>,
    /// `seccomp=unconfined` switches the filter of system calls off
    #[arg(long, value_name = "OPT", value_parser = ["seccomp=unconfined", "no-new-privileges"], help_heading = "Isolation")]
    pub(super) security_opt: Vec<String>,
    /// Host name inside [default: the job's id]
    #[arg(long, value_name = "NAME", help_heading = "Isolation")]
    pub(super) hostname: Option<String>,

    /// Number of ranks [default: 1, or 1 on each node]
    #[arg(
        short = 'n',
        long,
        visible_alias = "ntasks",
        value_name = "N",
        help_heading = "Ranks"
    )]
    pub(super) ranks: Option<u32>,
    /// Number of nodes, each a virtual machine on this host; limits hold for each
    #[arg(
        short = 'N',
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Ranks"
    )]
    pub(super) nodes: u32,
    /// A node at a level of its own, with this many ranks, such as vm:1 or
    /// container:3; several make one job across levels (root; ranks may share
    /// processors)
    #[arg(
        long = "member",
        value_name = "LEVEL:RANKS",
        conflicts_with_all = ["isolation", "ranks", "nodes", "ranks_per_node", "bind"],
        help_heading = "Ranks"
    )]
    pub(super) members: Vec<Member>,
    /// Ranks on each node
    #[arg(long, value_name = "N", help_heading = "Ranks")]
    pub(super) ranks_per_node: Option<u32>,
    /// Processors for each rank
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Ranks")]
    pub(super) cpus_per_rank: u32,
    /// Tie ranks to processors: core, numa or none; those of a virtual machine are
    /// tied to the host's, one to one, and it sees which memory is near
    #[arg(
        long,
        value_name = "HOW",
        default_value = "none",
        help_heading = "Ranks"
    )]
    pub(super) bind: Binding,
    /// Allow more ranks than processors
    #[arg(long, help_heading = "Ranks")]
    pub(super) oversubscribe: bool,
    /// Who starts the ranks: auto, pmi, openmpi or none
    #[arg(
        long,
        value_name = "WHO",
        default_value = "auto",
        help_heading = "Ranks"
    )]
    pub(super) mpi: MpiChoice,
    /// Put the rank before each line of output
    #[arg(long, help_heading = "Ranks")]
    pub(super) label: bool,
    /// Also write each rank's output to DIR/rank.N.out and DIR/rank.N.err
    #[arg(long, value_name = "DIR", help_heading = "Ranks")]
    pub(super) output_dir: Option<PathBuf>,
    /// Say what a look at program and host shows before the start: show, or
    /// only that and start nothing
    #[arg(long, value_name = "WHAT", value_parser = ["show", "only"], help_heading = "Ranks")]
    pub(super) preflight: Option<String>,

    /// Memory, such as 512m or 4GiB
    #[arg(short = 'm', long, value_name = "SIZE", help_heading = "Resources")]
    pub(super) memory: Option<Bytes>,
    /// Make the memory of a virtual machine of huge pages, which the host must
    /// have set aside
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "0", help_heading = "Resources")]
    pub(super) hugepages: Option<Bytes>,
    /// Processor time, in cores
    #[arg(long, value_name = "CORES", help_heading = "Resources")]
    pub(super) cpus: Option<Cores>,
    /// Processors that may be used, such as 0-3,8
    #[arg(
        long,
        visible_alias = "cpuset-cpus",
        value_name = "LIST",
        help_heading = "Resources"
    )]
    pub(super) cpuset: Option<CpuSet>,
    /// Number of processes and threads
    #[arg(
        long,
        visible_alias = "pids-limit",
        value_name = "N",
        help_heading = "Resources"
    )]
    pub(super) pids: Option<u64>,
    /// Per-process limit, NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT", help_heading = "Resources")]
    pub(super) ulimit: Vec<Rlimit>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub(super) shm_size: Option<Bytes>,
    /// Stop the job after this time, such as 2h30m
    #[arg(long, value_name = "SPAN", value_parser = parse_duration, help_heading = "Resources")]
    pub(super) time: Option<Duration>,

    /// Mount a folder of the host, SOURCE:TARGET[:ro]; with :rslave what the host
    /// mounts there later is seen too, with :rshared also the other way round
    #[arg(short = 'v', long, value_name = "VOLUME", help_heading = "Files")]
    pub(super) volume: Vec<String>,
    /// Mount, type=bind|tmpfs,source=…,target=…[,readonly]
    #[arg(long, value_name = "MOUNT", help_heading = "Files")]
    pub(super) mount: Vec<String>,
    /// Mount memory, TARGET[:size=…,mode=…]
    #[arg(long, value_name = "TMPFS", help_heading = "Files")]
    pub(super) tmpfs: Vec<String>,
    /// How folders come into a virtual machine [default: shared where that can be
    /// done, else copied]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Files")]
    pub(super) folders: Option<FoldersBy>,
    /// Room on the host's disk for what a job in a virtual machine writes
    /// [default: the machine's memory]
    #[arg(long, value_name = "SIZE", help_heading = "Files")]
    pub(super) disk: Option<Bytes>,
    /// Make the root file system read-only
    #[arg(long, help_heading = "Files")]
    pub(super) read_only: bool,
    /// Working folder
    #[arg(short = 'w', long, value_name = "DIR", help_heading = "Files")]
    pub(super) workdir: Option<PathBuf>,

    /// Set a variable, NAME=VALUE, or pass on the caller's, NAME
    #[arg(short = 'e', long, value_name = "VAR", help_heading = "Command")]
    pub(super) env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE", help_heading = "Command")]
    pub(super) env_file: Vec<PathBuf>,
    /// User, NAME|ID[:GROUP]
    #[arg(short = 'u', long, value_name = "USER", help_heading = "Command")]
    pub(super) user: Option<String>,
    /// Replace the image's entrypoint ("" removes it)
    #[arg(long, value_name = "PROGRAM", help_heading = "Command")]
    pub(super) entrypoint: Option<String>,
    /// Keep standard input open
    #[arg(short = 'i', long, help_heading = "Command")]
    pub(super) interactive: bool,
    /// Make a terminal
    #[arg(short = 't', long, help_heading = "Command")]
    pub(super) tty: bool,
    /// Return at once and print the job's id
    #[arg(short = 'd', long, help_heading = "Command")]
    pub(super) detach: bool,
    /// Remove the record when the job has ended
    #[arg(long, help_heading = "Command")]
    pub(super) rm: bool,
    /// Name of the job
    #[arg(long, value_name = "NAME", help_heading = "Command")]
    pub(super) name: Option<Name>,
    /// An init always runs inside: accepted for docker's sake
    #[arg(long, hide = true)]
    pub(super) init: bool,
    /// Run the command K times, one after the other, in one sandbox
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Command")]
    pub(super) repeat: u32,
    /// Run the command once for each of these numbers, one after the other, in
    /// one sandbox; HYPERION_TASK_ID tells it which
    #[arg(
        long,
        value_name = "LIST",
        conflicts_with = "repeat",
        help_heading = "Command"
    )]
    pub(super) array: Option<TaskSet>,
    /// Print the report at the end, on standard error
    #[arg(long, value_name = "SHAPE", num_args = 0..=1, default_missing_value = "human", require_equals = true, value_parser = ["human", "json"], conflicts_with = "detach", help_heading = "Command")]
    pub(super) report: Option<String>,
    /// When to fetch the image: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["missing", "always", "never"], help_heading = "Command")]
    pub(super) pull: String,

    /// Image, command and arguments
    #[arg(value_name = "IMAGE COMMAND", trailing_var_arg = true, required = true, action = ArgAction::Append)]
    pub(super) words: Vec<String>,
}

impl Args {
    /// Reads them where they are plain.
    pub(crate) fn plain(words: &mut Plain) -> Option<Self> {
        let mut args = Self {
            userns: "private".into(),
            nodes: 1,
            cpus_per_rank: 1,
            repeat: 1,
            pull: "missing".into(),
            ..Self::default()
        };
        let mut isolation = None;
        loop {
            let flag = match words.next()? {
                Next::Flag(flag) => flag,
                Next::Rest(rest) => {
                    args.words = rest;
                    args.isolation = isolation.unwrap_or_default();
                    return Some(args);
                }
            };
            match flag.as_str() {
                "--rm" => plain::on(&mut args.rm)?,
                "-d" | "--detach" => plain::on(&mut args.detach)?,
                "-i" | "--interactive" => plain::on(&mut args.interactive)?,
                "-t" | "--tty" => plain::on(&mut args.tty)?,
                "--read-only" => plain::on(&mut args.read_only)?,
                "--isolation" => words.once(&mut isolation)?,
                "-n" | "--ranks" => words.once(&mut args.ranks)?,
                "-m" | "--memory" => words.once(&mut args.memory)?,
                "--name" => words.once(&mut args.name)?,
                "-w" | "--workdir" => words.once(&mut args.workdir)?,
                "--entrypoint" => words.once(&mut args.entrypoint)?,
                "-v" | "--volume" => args.volume.push(words.value()?),
                "-e" | "--env" => args.env.push(words.value()?),
                _ => return None,
            }
        }
    }

    /// Gives the level of isolation.
    pub(super) fn level(&self) -> Level {
        if !self.members.is_empty() {
            let machine = self.members.iter().any(|m| m.level == Level::Vm);
            return if machine { Level::Vm } else { Level::Container };
        }
        match self.isolation {
            Isolate::Process => Level::Process,
            Isolate::Container => Level::Container,
            Isolate::Vm => Level::Vm,
        }
    }

    /// Tells whether the network is to be kept away.
    pub(super) fn shuts_network(&self) -> bool {
        self.network.as_deref() == Some("none")
    }

    /// Names the flags that say something of a container, as written.
    pub(super) fn of_containers(&self) -> Vec<&'static str> {
        [
            ("--userns", self.userns != "private"),
            ("--network", self.shuts_network()),
            ("--cap-add", !self.cap_add.is_empty()),
            ("--cap-drop", !self.cap_drop.is_empty()),
            ("--security-opt", !self.security_opt.is_empty()),
            ("--hostname", self.hostname.is_some()),
            ("--shm-size", self.shm_size.is_some()),
            ("--volume", !self.volume.is_empty()),
            ("--mount", !self.mount.is_empty()),
            ("--tmpfs", !self.tmpfs.is_empty()),
            ("--read-only", self.read_only),
            ("--pull", self.pull != "missing"),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}
