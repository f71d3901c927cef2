//! The verbs, one file each.

mod doctor;
mod login;
mod pull;
mod push;
mod version;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what this host can do, what it lacks, and how to get it
    Doctor(doctor::Args),
    /// Bring an image from a registry into the store
    Pull(pull::Args),
    /// Put an image of the store into a registry
    Push(push::Args),
    /// Check credentials with a registry and keep them
    Login(login::LoginArgs),
    /// Forget the credentials for a registry
    Logout(login::LogoutArgs),
    /// Print the version and what this build can do
    Version(version::Args),
}

impl Command {
    /// Carries out the verb.
    pub(crate) fn run(self, ctx: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Doctor(args) => doctor::run(&args, ctx),
            Self::Pull(args) => pull::run(&args, ctx),
            Self::Push(args) => push::run(&args, ctx),
            Self::Login(args) => login::login(&args, ctx),
            Self::Logout(args) => login::logout(&args, ctx),
            Self::Version(args) => version::run(&args, ctx),
        }
    }
}
