//! Called as a command of a batch system (`sbatch`, `qstat`, `bjobs`), this
//! program answers as that command does.

mod accounts;
mod allocation;
pub(super) mod install;
mod launch;
mod lsf;
mod pbs;
mod salloc;
mod scontrol;
mod sge;
mod slurm;
mod srun;
mod submit;
mod update;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hyperion_api::queue::{
    Filter, JobView, NodeView, PartitionView, Reply, Request, ReservationView, Target,
};
use hyperion_formats::listings::words::{self, Opt, Style, Words, Wrong};
use hyperion_formats::listings::{Civil, Site};
use hyperion_node::talk::Ask;
use hyperion_node::{Client, Jobs};
use hyperion_sys::entry::ExitCode;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::queue::{self, Server};
use super::users;
use crate::args::Global;
use crate::context::Context;

/// The commands that this program answers to.
pub(super) const NAMES: &[&str] = &[
    "sbatch", "squeue", "scancel", "sinfo", "sacct", "scontrol", "srun", "salloc", //
    "sacctmgr", "sshare", //
    "qsub", "qstat", "qdel", "qhold", "qrls", "qalter", "qmove", "pbsnodes", "pbsdsh",
    "qacct", //
    "bsub", "bjobs", "bkill", "bmod", "bqueues", "bhosts", "blaunch",
];

/// One call of a command.
struct Call {
    /// The name by which it was called.
    name: String,
    /// The folder through which it was called: `sge/qsub`.
    through: String,
    words: Vec<String>,
    ctx: Context,
}

/// Why a command ends without having done what it was asked.
struct Stop {
    code: u8,
    /// What is told, whole.
    text: String,
}

impl Stop {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::new(1, told(&error))
    }
}

/// Says what went wrong in one line.
fn told(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ")
}

type Outcome = Result<ExitCode, Stop>;

/// Answers, where this program was called by the name of such a command.
pub(crate) fn entry() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    let path = words.next()?;
    let path = Path::new(&path);
    let name = path.file_name()?.to_str()?;
    if !NAMES.contains(&name) {
        return None;
    }
    // A name that was found in `PATH` says nothing of its folder; the kernel was told.
    let link = Path::new(OsStr::from_bytes(rustix::param::linux_execfn().to_bytes()));
    let through = link.parent().and_then(Path::file_name);
    let name = name.to_owned();
    let words: Result<Vec<String>, _> = words.map(std::ffi::OsString::into_string).collect();
    let outcome = match (words, Context::new(&Global::default())) {
        (Err(_), _) => Err(Stop::new(
            1,
            format!("{name}: the words are not written in UTF-8"),
        )),
        (_, Err(error)) => Err(Stop::new(1, format!("{name}: {}", told(&error)))),
        (Ok(words), Ok(ctx)) => answer(&Call {
            through: through.and_then(|t| t.to_str()).unwrap_or_default().into(),
            name,
            words,
            ctx,
        }),
    };
    Some(match outcome {
        Ok(code) => code,
        Err(stop) => {
            if !stop.text.is_empty() {
                eprintln!("{}", crate::output::plain(stop.text.trim_end()));
            }
            ExitCode::from(stop.code)
        }
    })
}

fn answer(call: &Call) -> Outcome {
    match call.name.as_str() {
        "sbatch" | "squeue" | "scancel" | "sinfo" | "sacct" | "scontrol" => slurm::answer(call),
        "sacctmgr" | "sshare" => accounts::answer(call),
        "bsub" | "bjobs" | "bkill" | "bmod" | "bqueues" | "bhosts" => lsf::answer(call),
        "srun" => srun::answer(call),
        "pbsdsh" => launch::pbsdsh(call),
        "blaunch" => launch::blaunch(call),
        "salloc" => salloc::answer(call),
        "qacct" => sge::answer(call),
        "pbsnodes" | "qalter" | "qmove" => pbs::answer(call),
        _ if sge::is_meant(call) => sge::answer(call),
        _ => pbs::answer(call),
    }
}

impl Call {
    /// Reads the words of the call.
    fn read(&self, options: &[Opt], style: Style) -> Result<Words, Wrong> {
        words::read(options, style, &self.words)
    }

    /// Asks the server, which is started where none runs.
    fn ask(&self, request: &Request) -> Result<Reply, Stop> {
        Ok(Server::reach(&self.ctx, true)?.ask(request)?)
    }

    /// Asks something of what runs in a record.
    fn tell(&self, id: &str, ask: &Ask) -> anyhow::Result<()> {
        let job = Jobs::new(&self.ctx.root).find(id)?;
        Ok(Client::connect(&job)?.ask(ask)?)
    }

    /// Gives all jobs, or these.
    fn jobs(&self, jobs: Vec<u64>, ended: bool) -> Result<Vec<JobView>, Stop> {
        if queue::is_empty(&self.ctx) {
            return Ok(Vec::new());
        }
        let filter = Filter {
            jobs,
            ended,
            alive: true,
            past: ended,
            ..Filter::default()
        };
        Ok(Server::reach(&self.ctx, true)?.jobs(filter)?)
    }

    fn partitions(&self) -> Result<Vec<PartitionView>, Stop> {
        match self.ask(&Request::Partitions)? {
            Reply::Partitions(partitions) => Ok(partitions),
            _ => Ok(Vec::new()),
        }
    }

    fn reservations(&self) -> Result<Vec<ReservationView>, Stop> {
        match self.ask(&Request::Reservations)? {
            Reply::Reservations(kept) => Ok(kept),
            _ => Ok(Vec::new()),
        }
    }

    /// The partitions, and what jobs were submitted to beside them.
    fn queues(&self, jobs: &[JobView]) -> Result<Vec<PartitionView>, Stop> {
        let mut all = self.partitions()?;
        let nodes = self.nodes()?;
        for job in jobs {
            if all.iter().all(|its| its.name != job.queue) {
                all.push(PartitionView::named(&job.queue, &nodes));
            }
        }
        Ok(all)
    }

    fn nodes(&self) -> Result<Vec<NodeView>, Stop> {
        match self.ask(&Request::Nodes)? {
            Reply::Nodes(nodes) => Ok(nodes),
            _ => Ok(Vec::new()),
        }
    }
}

/// Tells whether a task is one of those that are meant.
fn is_meant(job: &JobView, targets: &[Target]) -> bool {
    targets.iter().any(|target| {
        let index = target.index.map(|index| index.to_string());
        target.job == job.job && (index.is_none() || holds(job, target.index) || index == job.index)
    })
}

/// Tells whether a task that waits with others of its array is among these.
fn holds(job: &JobView, index: Option<u32>) -> bool {
    let text = job.index.as_deref().and_then(|text| text.split('%').next());
    let all: Option<hyperion_model::Indices> = text.and_then(|text| text.parse().ok());
    all.zip(index)
        .is_some_and(|(all, index)| all.contains(index))
}

/// Reads the numbers of jobs.
fn targets(words: &[String]) -> Result<Vec<Target>, String> {
    let mut all = Vec::new();
    for word in words {
        all.extend(queue::targets(word).map_err(|_| word.clone())?);
    }
    Ok(all)
}

/// The numbers of jobs, each once.
fn numbers(targets: &[Target]) -> Vec<u64> {
    let mut all: Vec<u64> = targets.iter().map(|target| target.job).collect();
    all.dedup();
    all
}

/// The name of this host.
fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Calls with what is known of this place.
fn with_site<T>(call: impl FnOnce(&Site<'_>) -> T) -> T {
    let zone = TimeZone::system();
    let local = |at: u64| {
        let moment = Timestamp::from_microsecond(at.cast_signed()).unwrap_or_default();
        let there = moment.to_zoned(zone.clone());
        let unsigned = |n: i8| n.unsigned_abs();
        Civil {
            year: there.year(),
            month: unsigned(there.month()),
            day: unsigned(there.day()),
            hour: unsigned(there.hour()),
            minute: unsigned(there.minute()),
            second: unsigned(there.second()),
            weekday: unsigned(there.weekday().to_sunday_zero_offset()),
        }
    };
    let now = Timestamp::now().as_microsecond().unsigned_abs();
    let host = host();
    call(&Site {
        host: &host,
        now,
        local: &local,
        user: &users::name,
    })
}

/// Prints what was made; a reader that has gone away is no error.
fn print(text: &str) -> Outcome {
    if !text.is_empty() {
        // Names of jobs may hold what a terminal would obey; tabs are PBS's own.
        let safe = text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), " ");
        crate::output::line(safe.strip_suffix('\n').unwrap_or(&safe))?;
    }
    Ok(ExitCode::SUCCESS)
}
