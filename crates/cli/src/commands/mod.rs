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
mod report;
mod run;
mod stats;
mod stop;
mod version;
mod vm;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

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
