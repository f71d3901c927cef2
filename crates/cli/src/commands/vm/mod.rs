//! `hyperion vm …`

mod kernel;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// The verbs of `hyperion vm`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum VmCommand {
    /// Look after the kernels that virtual machines boot
    #[command(subcommand)]
    Kernel(kernel::KernelCommand),
}

/// Carries out a verb of `hyperion vm`.
pub(crate) fn run(command: &VmCommand, ctx: &Context) -> anyhow::Result<ExitCode> {
    match command {
        VmCommand::Kernel(command) => kernel::run(command, ctx),
    }
}
