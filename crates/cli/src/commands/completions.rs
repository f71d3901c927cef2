//! `hyperion completions`

use clap::CommandFactory as _;
use clap_complete::Shell;
use hyperion_sys::entry::ExitCode;

use crate::args::Cli;
use crate::output;

// Words of `hyperion completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "For example: hyperion completions bash > /etc/bash_completion.d/hyperion")]
pub(crate) struct Args {
    /// Whose language to write
    shell: Shell,
}

/// Prints a script that teaches a shell the verbs and flags.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hyperion", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
