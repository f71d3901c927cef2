//! `hyperion config`

use clap::Subcommand;
use hyperion_sys::entry::ExitCode;
use serde_json::json;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;

/// Verbs below `hyperion config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what is set, as a file of settings would say it
    ///
    /// Later places win: built in, /etc/hyperion/config.toml, ~/.config/hyperion/config.toml,
    /// hyperion.toml in the working folder or the nearest one above it, HYPERION_ROOT, --root.
    List(ListArgs),
}

// Words of `hyperion config list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Say after each setting where it comes from
    #[arg(long)]
    origin: bool,
}

/// Prints the settings.
pub(crate) fn run(command: &ConfigCommand, ctx: &Context) -> anyhow::Result<ExitCode> {
    let ConfigCommand::List(args) = command;
    let settings = ctx.config.settings();
    if ctx.output == OutputFormat::Json {
        let all: Vec<_> = settings
            .iter()
            .map(|s| json!({ "key": s.key, "value": s.value, "origin": s.origin.to_string() }))
            .collect();
        output::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let line = |s: &crate::config::Setting| match ctx.output {
        OutputFormat::Quiet => s.key.clone(),
        _ => format!("{} = {}", s.key, s.value),
    };
    let width = settings.iter().map(|s| line(s).chars().count()).max();
    for setting in &settings {
        let text = line(setting);
        if args.origin {
            let width = width.unwrap_or(0);
            output::line(format_args!("{text:width$}  # {}", setting.origin))?;
        } else {
            output::line(text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
