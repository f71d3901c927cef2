//! `hyperion drain`, `undrain`, `reservations`, `reserve` and `unreserve`

use std::time::Duration;

use hyperion_api::queue::{NodeChange, Reply, Request, Reservation, ReservationView};
use hyperion_model::units::parse_duration;
use hyperion_sys::entry::ExitCode;

use super::Server;
use super::list::local;
use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;

// Words of `hyperion drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// Why, for people to read
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// End what runs there too, as if the node were gone
    #[arg(long)]
    down: bool,
    /// Nodes, by name
    #[arg(required = true)]
    nodes: Vec<String>,
}

// Words of `hyperion undrain`.
#[derive(Debug, clap::Args)]
pub(crate) struct UndrainArgs {
    /// Nodes, by name
    #[arg(required = true)]
    nodes: Vec<String>,
}

// Words of `hyperion reserve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReserveArgs {
    /// How long from now it begins
    #[arg(long = "in", value_name = "SPAN", default_value = "0s", value_parser = parse_duration)]
    starts_in: Duration,
    /// How long it lasts
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_duration)]
    lasts: Duration,
    /// Who may use it, by number; with no account either it is for maintenance, and nobody may
    #[arg(long = "user", value_name = "UID", value_delimiter = ',')]
    users: Vec<u32>,
    /// The accounts that may use it
    #[arg(long = "account", value_name = "NAME", value_delimiter = ',')]
    accounts: Vec<String>,
    /// What it is called
    name: String,
    /// Nodes, by name; all when none is named
    nodes: Vec<String>,
}

// Words of `hyperion reservations`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

// Words of `hyperion unreserve`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnreserveArgs {
    /// What it is called
    name: String,
}

/// Has nothing more start on nodes.
pub(crate) fn drain(args: &DrainArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let reason = args.reason.clone();
    let change = match args.down {
        true => NodeChange::Down(reason),
        false => NodeChange::Drain(reason),
    };
    ask(&Request::SetNodes(args.nodes.clone(), change), ctx)
}

/// Lets jobs start on nodes again.
pub(crate) fn undrain(args: &UndrainArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    ask(&Request::SetNodes(args.nodes.clone(), NodeChange::Up), ctx)
}

/// Lists what is kept.
pub(crate) fn list(_: &ListArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let kept = match Server::reach(ctx, true)?.ask(&Request::Reservations)? {
        Reply::Reservations(kept) => kept,
        _ => Vec::new(),
    };
    match ctx.output {
        OutputFormat::Json => output::json(&kept)?,
        OutputFormat::Quiet => kept.iter().try_for_each(|its| output::line(&its.name))?,
        OutputFormat::Human => {
            let head = ["RESERVATION", "FROM", "UNTIL", "NODES", "FOR"];
            let row = |its: &ReservationView| {
                let who = [&its.users[..], &its.accounts[..]].concat();
                let who = match who.is_empty() {
                    true => "maintenance".to_owned(),
                    false => who.join(","),
                };
                vec![
                    its.name.clone(),
                    local(its.from),
                    local(its.until),
                    its.nodes.join(","),
                    who,
                ]
            };
            output::table(&head, kept.iter().map(row))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps nodes for a time.
pub(crate) fn reserve(args: &ReserveArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let reservation = Reservation {
        name: args.name.clone(),
        nodes: args.nodes.clone(),
        starts_in: args.starts_in,
        lasts: args.lasts,
        users: args.users.clone(),
        accounts: args.accounts.clone(),
    };
    ask(&Request::Reserve(reservation), ctx)
}

/// Keeps them no longer.
pub(crate) fn unreserve(args: &UnreserveArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    ask(&Request::Unreserve(args.name.clone()), ctx)
}

fn ask(request: &Request, ctx: &Context) -> anyhow::Result<ExitCode> {
    Server::reach(ctx, true)?.ask(request)?;
    Ok(ExitCode::SUCCESS)
}
