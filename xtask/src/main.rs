//! The workspace's own tools: what cargo has no command for.

mod bench;
mod capabilities;
mod fuzz;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy           check the workspace's own rules; prints FILE:LINE and the fix
  bench [PART]   measure beside the peers and write docs/performance.md
  order          write crates/cli/link-order.txt, from the built release binary
  fuzz [TARGET [SECONDS]]
                 search for defects in a reader, or in all, with coverage as the guide
  readme-table   write the table of what works into README.md
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match command(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(words: &[String]) -> Result<ExitCode> {
    let root = workspace_root()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => tidy::run(&root),
        ["bench", parts @ ..] => bench::run(&root, parts),
        ["order"] => {
            bench::write_order(&root)?;
            Ok(ExitCode::SUCCESS)
        }
        ["fuzz", words @ ..] => fuzz::run(&root, words),
        ["readme-table"] => {
            capabilities::write_readme(&root)?;
            Ok(ExitCode::SUCCESS)
        }
        [] | ["help" | "-h" | "--help"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("unknown command `{}`\n\n{USAGE}", words.join(" ")),
    }
}

/// The folder of the workspace, from where this program was built.
fn workspace_root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match own.parent().map(Path::to_path_buf) {
        Some(root) if root.join("Cargo.lock").is_file() => Ok(root),
        _ => bail!("{} is not inside the workspace", own.display()),
    }
}
