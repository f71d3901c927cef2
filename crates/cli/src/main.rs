//! The one binary: reads words, calls the crates below, prints.
//!
//! **Architecture invariant:** only this crate reads the environment, writes
//! to the terminal and turns errors into exit codes.

// Tests have a `main` of their own.
#![cfg_attr(not(test), no_main)]

mod args;
mod commands;
mod config;
mod context;
mod errors;
mod output;
mod plain;
#[cfg(test)]
mod reference;
mod registry;
mod session;

use hyperion_sys::entry::ExitCode;

#[cfg(not(test))]
hyperion_sys::main!(run);

#[cfg_attr(test, expect(dead_code, reason = "tests call what it calls"))]
fn run() -> ExitCode {
    // Inside a sandbox the same file is PID 1, started under another name.
    if let Some(code) =
        hyperion_isolation::init::entry(std::env::args_os(), || std::env::vars_os().collect())
    {
        return code;
    }
    #[cfg(debug_assertions)]
    if let Ok(point) = std::env::var("HYPERION_FAILPOINT") {
        hyperion_sys::failpoint::arm(&point);
    }
    // Called as the command of a batch system, it answers as that.
    if let Some(code) = commands::shims::entry() {
        return code;
    }
    let cli = match args::Cli::read() {
        Ok(cli) => cli,
        Err(error) => return args::report_usage(&error),
    };
    let output = cli.global.output;
    match context::Context::new(&cli.global).and_then(|ctx| cli.command.run(&ctx)) {
        Ok(code) => code,
        Err(error) => errors::report(&error, output),
    }
}
