//! The words of the command line: global flags and the list of verbs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, ValueEnum};

use crate::commands::Command;

/// Runs parallel programs as a process or in a container, says beforehand
/// whether that will work, and measures what each level of isolation costs.
#[derive(Debug, Parser)]
#[command(
    name = "hyperion",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Folder of images and jobs [default: /var/lib/hyperion for root,
    /// ~/.local/share/hyperion for others; $HYPERION_ROOT]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) root: Option<PathBuf>,
    /// What is printed on standard output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub(crate) output: OutputFormat,
}

/// The shapes of standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Text and tables for people
    #[default]
    Human,
    /// One JSON document, stable across versions
    Json,
    /// Names or digests only
    Quiet,
}

/// Prints what is wrong with the words, or the help that was asked for.
///
/// Wrong words are 125, as everything that fails before the user's own command starts.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    // A closed pipe (`hyperion --help | head -1`) is no error.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(125)
    } else {
        ExitCode::SUCCESS
    }
}
