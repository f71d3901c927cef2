//! The verbs, one file each.

mod doctor;
mod version;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what this host can do, what it lacks, and how to get it
    Doctor(doctor::Args),
    /// Print the version and what this build can do
    Version(version::Args),
}

impl Command {
    /// Carries out the verb.
    pub(crate) fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Doctor(args) => doctor::run(&args, ctx),
            Self::Version(args) => version::run(&args, ctx),
        }
    }
}
