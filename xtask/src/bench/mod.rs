//! `cargo xtask bench`: Hyperion and its peers, alternately, in one run.
//!
//! Every row has a bar; a row that misses it says so, and a row that could not
//! be measured says why. Absolute times belong to the machine, so bars are
//! ratios and differences.

mod command;
mod mpi;
mod order;
mod page;
mod queue;
mod registry;
mod sample;
mod sim;
mod slurm;
mod ssh;
mod stage;
mod start;
mod unpack;
mod vm;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use page::Row;
use stage::Stage;

pub(crate) use order::write as write_order;

type Part = fn(&Stage) -> Vec<Row>;

/// The parts, in the order of the table.
const PARTS: &[(&str, Part)] = &[
    ("container", start::container),
    ("process", start::process),
    ("parallel", start::parallel),
    ("memory", start::memory),
    ("unpack", unpack::rows),
    ("registry", registry::rows),
    ("cached", start::cached),
    ("messages", mpi::messages),
    ("heat", mpi::heat),
    ("vm", vm::start),
    ("vm-image", vm::shared),
    ("vm-clone", vm::clone),
    ("vm-ssh", ssh::rows),
    ("queue", queue::rows),
    ("sim", sim::rows),
];

/// Set once the mounts are this program's own.
const INSIDE: &str = "HYPERION_BENCH_INSIDE";

/// Measures the named parts, or all; only a run of all writes the page.
pub(crate) fn run(workspace: &Path, wanted: &[&str]) -> Result<ExitCode> {
    if let Some(unknown) = wanted.iter().find(|w| !PARTS.iter().any(|(n, _)| n == *w)) {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("no part `{unknown}`; there are {}", names.join(", "));
    }
    if std::env::var_os(INSIDE).is_none() {
        return enter(wanted);
    }
    let stage = Stage::new(workspace, &hyperion(workspace)?)?;
    order::check(workspace, &stage)?;
    let mut rows = vec![];
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.contains(name) {
            eprintln!("{name}");
            rows.extend(part(&stage));
        }
    }
    let table = page::table(&rows);
    print!("{table}");
    let missed = rows.iter().filter(|row| row.missed()).count();
    println!("{} rows, {missed} missed", rows.len());
    if wanted.is_empty() {
        let page = workspace.join("docs/performance.md");
        page::write(&page, &format!("{}\n{table}", machine()?))?;
        println!("written to {}", page.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The binary that is measured.
fn hyperion(workspace: &Path) -> Result<PathBuf> {
    let built = std::env::var_os("HYPERION").map_or_else(
        || workspace.join("target/x86_64-unknown-linux-gnu/release/hyperion"),
        PathBuf::from,
    );
    built
        .canonicalize()
        .with_context(|| format!("no {}; call this by `make bench`", built.display()))
}

/// Starts this program again with mounts of its own.
///
/// crun of Debian 12 refuses a host that has cgroup versions 1 and 2 side by
/// side; without the mount of version 2 it takes version 1. Every case runs in
/// here, so that all see the same machine.
fn enter(wanted: &[&str]) -> Result<ExitCode> {
    let own = std::env::current_exe()?;
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let error = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(own)
        .arg("bench")
        .args(wanted)
        .env(INSIDE, "1")
        .exec();
    Err(error).context("cannot start unshare")
}

/// The machine in one line, without what would name it.
fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("processor unknown", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let series: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
    Ok(format!(
        "{cores} cores ({model}), kernel {}; medians.\n",
        series.join(".")
    ))
}
