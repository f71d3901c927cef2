//! `hyperion sim …`

mod cores;
mod gantt;
mod generate;
mod history;
mod model;
mod nodes;
mod page;
mod policies;
mod scenario;
mod snapshot;
mod swf;
mod trace;
mod waits;
mod what_if;

use clap::Subcommand;
use hyperion_sys::entry::ExitCode;

use crate::context::Context;

/// The verbs of `hyperion sim`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum SimCommand {
    /// Let a scenario happen: datacenters, hosts, virtual machines, and work for them
    Run(scenario::Args),
    /// Let the jobs of a log in the Standard Workload Format run under policies
    Swf(swf::Args),
    /// Hold a history beside what it would have been: more nodes, another policy, other levels
    WhatIf(what_if::Args),
    /// Let workloads of a model run, several times over, and say how sure the means are
    Model(model::Args),
    /// Make a log by a model of workloads, in the Standard Workload Format
    Generate(generate::Args),
}

/// Carries out a verb.
pub(super) fn run(command: &SimCommand, ctx: &Context) -> anyhow::Result<ExitCode> {
    match command {
        SimCommand::Run(args) => scenario::run(args, ctx),
        SimCommand::Swf(args) => swf::run(args, ctx),
        SimCommand::WhatIf(args) => what_if::run(args, ctx),
        SimCommand::Model(args) => model::run(args, ctx),
        SimCommand::Generate(args) => generate::run(args),
    }
}
