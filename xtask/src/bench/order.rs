//! `cargo xtask order`: which functions a start runs, so that they can lie together.
//!
//! They are a twentieth of the program. Where the linker finds them they lie in
//! a few pieces of the file in place of eighty, and each piece that is touched is
//! mapped into each of the processes of a start, and out again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::command::{Cmd, cmd};
use super::stage::Stage;

/// The list that `crates/cli/build.rs` hands to the linker.
const LIST: &str = "crates/cli/link-order.txt";

/// Writes the list anew, from the built binary.
pub(crate) fn write(workspace: &Path) -> Result<()> {
    let stage = Stage::new(workspace, &super::hyperion(workspace)?)?;
    stage.import_tiny()?;
    let tracer = stage.compiled("order")?;
    let symbols = cmd!["nm", stage.binary()].output()?;
    let functions = functions(&symbols);
    let addresses = stage.dir.join("addresses");
    let lines: Vec<String> = functions.keys().map(|at| format!("{at:x}\n")).collect();
    fs::write(&addresses, lines.concat())?;
    let host = stage.tiny().join("bin/true");
    let host = host.to_str().context("a path in UTF-8")?;
    let starts: [&[&str]; 4] = [
        &["--isolation", "process", host],
        &["tiny", "/bin/true"],
        &["--read-only", "tiny", "/bin/true"],
        &["-n", "2", "tiny", "/bin/true"],
    ];
    let mut order: Vec<&str> = Vec::new();
    let mut known = BTreeSet::new();
    let traced = || cmd![&tracer, &addresses, stage.binary()];
    let mut met = Vec::new();
    for words in starts {
        let start = traced().args(["run", "--rm"]).args(words);
        met.push(start.env("HYPERION_ROOT", stage.store("main")).output()?);
    }
    // The verb alone: the server that it speaks to runs for long.
    let queue = stage.fresh("order-queue")?;
    let script = queue.join("true.sh");
    fs::write(&script, "#!/bin/true\n#SBATCH -o /dev/null\n")?;
    let at = |cmd: Cmd| cmd.env("HYPERION_ROOT", queue.clone());
    at(cmd![stage.binary(), "submit", "--wait", &script]).run()?;
    met.push(at(traced().args(["submit"]).args([&script])).output()?);
    at(cmd![stage.binary(), "serve", "--stop"]).run()?;
    for met in met {
        for line in met.lines() {
            // What a job is called is said, too.
            let Ok(at) = u64::from_str_radix(line, 16) else {
                continue;
            };
            let names = functions.get(&at).into_iter().flatten();
            order.extend(names.filter(|name| known.insert(*name)));
        }
    }
    if order.len() < 100 {
        bail!("only {} functions were met", order.len());
    }
    let lines: Vec<String> = order.iter().map(|name| format!("{name}\n")).collect();
    fs::write(workspace.join(LIST), lines.concat())?;
    println!("{} functions written to {LIST}", order.len());
    Ok(())
}

/// Says so when the list is of another program than the one that is measured: new
/// libraries, or another compiler, have changed many names.
pub(super) fn check(workspace: &Path, stage: &Stage) -> Result<()> {
    let symbols = cmd!["nm", stage.binary()].output()?;
    let functions = functions(&symbols);
    let names: BTreeSet<&str> = functions.values().flatten().copied().collect();
    let list = fs::read_to_string(workspace.join(LIST))?;
    let (known, all) = (
        list.lines().filter(|name| names.contains(name)).count(),
        list.lines().count(),
    );
    if known * 5 < all * 4 {
        eprintln!("{LIST} is old, {known} of {all} functions are there: `cargo xtask order`");
    }
    Ok(())
}

/// The functions by their addresses, as nm prints them; one may have several names.
fn functions(text: &str) -> BTreeMap<u64, Vec<&str>> {
    let mut found = BTreeMap::<u64, Vec<&str>>::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        if let (Some(at), Some("t" | "T" | "w" | "W" | "i"), Some(name)) =
            (fields.next(), fields.next(), fields.next())
            && let Ok(at) = u64::from_str_radix(at, 16)
        {
            found.entry(at).or_default().push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn functions_are_told_from_data_and_from_what_lies_elsewhere() {
        let text = "0000000000000010 T main\n0000000000000010 t alias\n\
                    0000000000000020 d table\n                 U elsewhere\n";
        let found = super::functions(text);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [(16, vec!["main", "alias"])]
        );
    }
}
