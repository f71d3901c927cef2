//! The verbs, one file each (or one for a few that are a few lines each).

mod attach;
mod completions;
mod config;
mod doctor;
mod exec;
mod image;
mod inspect;
mod login;
mod logs;
mod ps;
mod pull;
mod push;
mod queue;
mod report;
mod run;
pub(crate) mod shims;
mod sim;
mod stats;
mod stop;
mod users;
mod version;
mod vm;

use clap::Subcommand;
use hyperion_sys::entry::ExitCode;

use crate::context::Context;

pub(crate) use queue::submit::Args as SubmitArgs;
pub(crate) use run::Args as RunArgs;
pub(crate) use stop::NoSignal;

/// Every verb. The flags of a verb are put together only when it is used
/// (`defer`), so what is said of it stands here: documentation of its `Args`
/// would take that place.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Run a command in an image, or as a process
    #[command(display_order = 1)]
    Run(Box<run::Args>),
    /// List jobs
    #[command(visible_alias = "list", display_order = 2)]
    Ps(ps::Args),
    /// Print what a job wrote
    #[command(display_order = 3)]
    Logs(logs::Args),
    /// Run a command beside a job, in the same sandbox
    #[command(display_order = 4)]
    Exec(exec::Args),
    /// Attach the terminal to a running job (ctrl-p ctrl-q leaves it)
    #[command(display_order = 5)]
    Attach(attach::Args),
    /// End jobs: SIGTERM, grace, SIGKILL
    #[command(display_order = 6)]
    Stop(stop::StopArgs),
    /// Send a signal to jobs
    #[command(display_order = 7)]
    Kill(stop::KillArgs),
    /// Wait for jobs and print their exit codes
    #[command(display_order = 8)]
    Wait(stop::WaitArgs),
    /// Print everything that is known of jobs, as JSON
    #[command(display_order = 9)]
    Inspect(inspect::InspectArgs),
    /// Remove the records of jobs
    #[command(display_order = 10)]
    Rm(inspect::RmArgs),
    /// Print what running jobs use
    #[command(display_order = 11)]
    Stats(stats::Args),
    /// Print what jobs cost, side by side
    #[command(display_order = 12)]
    Report(report::Args),
    /// Say what this host can do, what it lacks, and how to get it
    ///
    /// Each check has a verdict (ok, limited, missing, unknown), the evidence, what follows from
    /// it, and the fix in the words of this distribution. Nothing is changed. The exit code is 0
    /// whatever the verdicts are.
    #[command(display_order = 13)]
    Doctor(doctor::Args),
    /// Hand a job script to the queue, in the words of Slurm, PBS, LSF or Grid Engine
    #[command(display_order = 16)]
    Submit(Box<queue::submit::Args>),
    /// List the jobs of the queue that have not ended
    #[command(display_order = 17)]
    Queue(queue::list::QueueArgs),
    /// List the jobs of the queue that have ended, and what they used
    #[command(display_order = 18)]
    History(queue::list::HistoryArgs),
    /// Say why a job of the queue waits, and when it starts
    #[command(display_order = 18)]
    Explain(queue::explain::Args),
    /// End jobs of the queue, or take them out of it
    #[command(display_order = 19)]
    Cancel(queue::change::Args),
    /// Keep jobs of the queue from starting
    #[command(display_order = 20)]
    Hold(queue::change::Args),
    /// Let jobs start that are held
    #[command(display_order = 21)]
    Release(queue::change::Args),
    /// End jobs that run, and let them wait again
    #[command(display_order = 22)]
    Requeue(queue::change::RequeueArgs),
    /// Change what was asked for jobs of the queue, in the words that submit them
    #[command(display_order = 22)]
    Update(queue::update::Args),
    /// Let jobs of the queue stand still
    #[command(display_order = 23)]
    Suspend(queue::change::Args),
    /// Let jobs go on that stand still
    #[command(display_order = 24)]
    Resume(queue::change::Args),
    /// List the nodes of the queue, and what of them is in use
    #[command(display_order = 25)]
    Nodes(queue::list::NodesArgs),
    /// List accounts and users of the queue: what they are promised, and what they have used
    #[command(display_order = 25)]
    Shares(queue::shares::Args),
    /// Watch the nodes and jobs of the queue
    #[command(display_order = 24)]
    Top(queue::top::Args),
    /// Let nothing more start on nodes of the queue
    #[command(display_order = 25)]
    Drain(queue::reserve::DrainArgs),
    /// Let jobs start on nodes of the queue again
    #[command(display_order = 25)]
    Undrain(queue::reserve::UndrainArgs),
    /// List what nodes of the queue are kept for
    #[command(display_order = 25)]
    Reservations(queue::reserve::ListArgs),
    /// Keep nodes of the queue for some, or for maintenance, for a time
    #[command(display_order = 25)]
    Reserve(queue::reserve::ReserveArgs),
    /// Keep nodes of the queue no longer
    #[command(display_order = 25)]
    Unreserve(queue::reserve::UnreserveArgs),
    /// Print numbers of the queue for Prometheus
    #[command(display_order = 25)]
    Metrics(queue::serve::MetricsArgs),
    /// Keep a queue: take jobs, start them when it is their turn
    #[command(display_order = 26)]
    Serve(queue::serve::Args),
    /// Let this program answer to sbatch, qsub, bsub and the other commands of batch systems
    ///
    /// Makes links of those names in a folder; put that in front of PATH. Nothing that is not such
    /// a link is overwritten or removed.
    #[command(display_order = 27)]
    InstallShims(shims::install::Args),
    /// Start jobs for the server of a queue
    #[command(hide = true)]
    Agent(queue::agent::Args),
    /// Say what would happen: jobs of a log, by the scheduler's own code
    #[command(subcommand)]
    Sim(sim::SimCommand),
    /// Look after images: make, bring, list, save and remove them
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Look after virtual machines and what they boot
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// Bring an image from a registry into the store
    Pull(pull::Args),
    /// Put an image of the store into a registry
    Push(push::Args),
    /// Check credentials with a registry and keep them
    Login(login::LoginArgs),
    /// Forget the credentials for a registry
    Logout(login::LogoutArgs),
    /// Print the settings, and where each comes from
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a script that completes words in a shell
    #[command(display_order = 15)]
    Completions(completions::Args),
    /// Print the version and what this build can do
    #[command(display_order = 14)]
    Version(version::Args),
}

impl Command {
    /// Carries out the verb.
    pub(crate) fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => run::run(*args, ctx),
            Self::Ps(args) => ps::run(&args, ctx),
            Self::Logs(args) => logs::run(&args, ctx),
            Self::Exec(args) => exec::run(args, ctx),
            Self::Attach(args) => attach::run(&args, ctx),
            Self::Stop(args) => stop::stop(&args, ctx),
            Self::Kill(args) => stop::kill(&args, ctx),
            Self::Wait(args) => stop::wait(&args, ctx),
            Self::Inspect(args) => inspect::inspect(&args, ctx),
            Self::Rm(args) => inspect::rm(&args, ctx),
            Self::Stats(args) => stats::run(&args, ctx),
            Self::Report(args) => report::run(&args, ctx),
            Self::Doctor(args) => doctor::run(&args, ctx),
            Self::Submit(args) => queue::submit::run(&args, ctx),
            Self::Queue(args) => queue::list::queue(&args, ctx),
            Self::History(args) => queue::list::history(&args, ctx),
            Self::Explain(args) => queue::explain::run(&args, ctx),
            Self::Cancel(args) => queue::change::run(queue::change::Change::Cancel, &args, ctx),
            Self::Hold(args) => queue::change::run(queue::change::Change::Hold, &args, ctx),
            Self::Release(args) => queue::change::run(queue::change::Change::Release, &args, ctx),
            Self::Requeue(args) => queue::change::requeue(&args, ctx),
            Self::Update(args) => queue::update::run(&args, ctx),
            Self::Suspend(args) => queue::change::run(queue::change::Change::Suspend, &args, ctx),
            Self::Resume(args) => queue::change::run(queue::change::Change::Resume, &args, ctx),
            Self::Nodes(args) => queue::list::nodes(&args, ctx),
            Self::Shares(args) => queue::shares::run(&args, ctx),
            Self::Top(args) => queue::top::run(&args, ctx),
            Self::Drain(args) => queue::reserve::drain(&args, ctx),
            Self::Undrain(args) => queue::reserve::undrain(&args, ctx),
            Self::Reservations(args) => queue::reserve::list(&args, ctx),
            Self::Reserve(args) => queue::reserve::reserve(&args, ctx),
            Self::Unreserve(args) => queue::reserve::unreserve(&args, ctx),
            Self::Metrics(args) => queue::serve::metrics(&args, ctx),
            Self::Serve(args) => queue::serve::run(&args, ctx),
            Self::InstallShims(args) => shims::install::run(&args),
            Self::Agent(args) => queue::agent::run(&args, ctx),
            Self::Sim(command) => sim::run(&command, ctx),
            Self::Image(command) => image::run(&command, ctx),
            Self::Vm(command) => vm::run(&command, ctx),
            Self::Pull(args) => pull::run(&args, ctx),
            Self::Push(args) => push::run(&args, ctx),
            Self::Login(args) => login::login(&args, ctx),
            Self::Logout(args) => login::logout(&args, ctx),
            Self::Config(command) => config::run(&command, ctx),
            Self::Completions(args) => completions::run(&args),
            Self::Version(args) => version::run(&args, ctx),
        }
    }
}
