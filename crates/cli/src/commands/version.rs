//! `hyperion version`

use hyperion_sys::entry::ExitCode;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;

// Words of `hyperion version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints the version and the folder in use.
pub(crate) fn run(_: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    match ctx.output {
        OutputFormat::Human => output::line(format_args!(
            "hyperion {version}\nroot {}\nimages {}",
            ctx.root.display(),
            ctx.images().display()
        ))?,
        OutputFormat::Quiet => output::line(version)?,
        OutputFormat::Json => {
            output::json(&serde_json::json!({ "version": version, "root": ctx.root }))?
        }
    }
    Ok(ExitCode::SUCCESS)
}
