//! `hyperion install-shims`

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyperion_isolation::init::SHIM;
use hyperion_model::Class;
use hyperion_sys::entry::ExitCode;

use super::NAMES;
use crate::{errors, output};

// Words of `hyperion install-shims`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the links are made
    folder: PathBuf,
    /// Remove them
    #[arg(long)]
    remove: bool,
    /// Only these commands [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
}

/// Those that two systems have under one name; the links in `sge` are Grid Engine's.
const SHARED: [&str; 5] = ["qsub", "qstat", "qdel", "qhold", "qrls"];

/// Makes the links, or removes them.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let unknown = args
        .only
        .iter()
        .find(|name| !NAMES.contains(&name.as_str()));
    if let Some(name) = unknown {
        let what = format!("{name} is no command that this program answers to");
        return Err(errors::advised(
            Class::User,
            what,
            format!("it answers to {}", NAMES.join(", ")),
        ));
    }
    let program = std::env::current_exe().context("cannot find the file of this program")?;
    let sge = args.folder.join("sge");
    let wanted = |name: &&&str| args.only.is_empty() || args.only.iter().any(|only| only == **name);
    let links: Vec<PathBuf> = NAMES
        .iter()
        .filter(wanted)
        .map(|name| args.folder.join(name))
        .chain(SHARED.iter().filter(wanted).map(|name| sge.join(name)))
        .collect();
    let foreign: Vec<&PathBuf> = links
        .iter()
        .filter(|link| !is_free(link, &program))
        .collect();
    if let (Some(first), false) = (foreign.first(), args.remove) {
        let what = format!(
            "{} is there already, and is no link to this program",
            first.display()
        );
        let hint = "name another folder, or leave it out: --only sbatch,squeue";
        return Err(errors::advised(Class::Conflict, what, hint));
    }
    if args.remove {
        for link in links.iter().filter(|link| is_ours(link, &program)) {
            fs::remove_file(link).with_context(|| format!("cannot remove {}", link.display()))?;
        }
        // It stays when somebody else has something in it.
        let _ = fs::remove_dir(&sge);
        return Ok(ExitCode::SUCCESS);
    }
    make(&links, &program)?;
    output::line(format!(
        "{} links in {}",
        links.len(),
        args.folder.display()
    ))?;
    eprintln!("use them: PATH={}:$PATH", args.folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Makes all links, for scripts of a queue.
pub(in crate::commands) fn all(folder: &Path, program: &Path) -> anyhow::Result<()> {
    let names = NAMES.iter().chain([&SHIM]);
    let links: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
    match links
        .iter()
        .all(|link| fs::read_link(link).is_ok_and(|target| target == program))
    {
        true => Ok(()),
        false => {
            // All that lies there is the queue's own, whatever this program was called then;
            // what cannot be removed is told where it cannot be made.
            for link in &links {
                let _ = fs::remove_file(link);
            }
            make(&links, program)
        }
    }
}

/// Makes links to this program.
fn make(links: &[PathBuf], program: &Path) -> anyhow::Result<()> {
    for link in links {
        let failed = || format!("cannot make the link {}", link.display());
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).with_context(failed)?;
        }
        if is_ours(link, program) {
            match fs::remove_file(link) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(e).with_context(failed);
                }
                _ => {}
            }
        }
        symlink(program, link).with_context(failed)?;
    }
    Ok(())
}

fn is_free(link: &Path, program: &Path) -> bool {
    fs::symlink_metadata(link).is_err() || is_ours(link, program)
}

/// Tells whether it is a link to this program, or to one of its name that is gone.
fn is_ours(link: &Path, program: &Path) -> bool {
    fs::read_link(link)
        .is_ok_and(|target| target == program || target.file_name() == program.file_name())
}
