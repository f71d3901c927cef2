//! The verbs, one file each.

mod version;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the version and what this build can do
    Version(version::Args),
}

impl Command {
    /// Carries out the verb.
    pub(crate) fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Version(args) => version::run(&args, ctx),
        }
    }
}
