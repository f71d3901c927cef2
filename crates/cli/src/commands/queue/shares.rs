//! `hyperion shares`

use hyperion_api::queue::{Reply, Request, ShareView};
use hyperion_sys::entry::ExitCode;

use super::Server;
use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;

// Words of `hyperion shares`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Lists accounts and their users: what they are promised, and what they have used.
pub(crate) fn run(_: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let shares = match Server::reach(ctx, true)?.ask(&Request::Shares)? {
        Reply::Shares(shares) => shares,
        _ => Vec::new(),
    };
    match ctx.output {
        OutputFormat::Json => output::json(&shares)?,
        OutputFormat::Quiet => shares.iter().try_for_each(|its| output::line(name(its)))?,
        OutputFormat::Human => {
            let head = [
                "ACCOUNT OR USER",
                "SHARES",
                "PROMISED",
                "USED",
                "CORE HOURS",
                "FAIR SHARE",
            ];
            output::table(&head, shares.iter().map(row))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn name(share: &ShareView) -> &str {
    let account = share.accounts.last().map(String::as_str);
    share.user.as_deref().or(account).unwrap_or("")
}

fn row(share: &ShareView) -> Vec<String> {
    let depth = share.accounts.len() + usize::from(share.user.is_some());
    let indent = "  ".repeat(depth.saturating_sub(1));
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    vec![
        format!("{indent}{}", name(share)),
        share.shares.to_string(),
        percent(share.promised),
        percent(share.used_of_all),
        format!("{:.2}", share.used / 3600.0),
        share
            .fair_share
            .map_or_else(String::new, |due| format!("{due:.3}")),
    ]
}
