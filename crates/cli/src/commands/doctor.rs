//! `hyperion doctor`

use std::path::PathBuf;

use anyhow::Context as _;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use hyperion_model::{Check, Class, Verdict};
use hyperion_sys::entry::ExitCode;
use hyperion_sys::host::{self, Host, Inventory};
use hyperion_sys::kvm;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::{errors, output};

// Words of `hyperion doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Checks to show [default: all]
    #[arg(value_name = "CHECK")]
    checks: Vec<String>,
    /// List the parts of the host instead: processor, NUMA nodes, memory,
    /// disks, network, GPUs, FPGAs
    #[arg(long, conflicts_with = "checks")]
    inventory: bool,
    /// Try again what is remembered: whether KVM boots a guest
    #[arg(long, conflicts_with = "inventory")]
    fresh: bool,
    /// Examine the host whose / is this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    sysroot: PathBuf,
}

/// Examines the host and prints what was found.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let host = examined(args, ctx)?;
    if args.inventory {
        print_inventory(&host::inventory(&host), ctx.output)?;
    } else {
        let checks = chosen(host::checks(&host), &args.checks)?;
        print_checks(checks, ctx.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn examined(args: &Args, ctx: &Context) -> anyhow::Result<Host> {
    let sysroot = args
        .sysroot
        .canonicalize()
        .with_context(|| format!("cannot examine {}", args.sysroot.display()))?;
    let host = Host::at(sysroot).with_store(&ctx.root);
    if !host.is_live() {
        return Ok(host);
    }
    // PATH speaks of this host, not of another one's tree, as does a guest that boots.
    let host = match std::env::var_os("PATH") {
        Some(path) => host.with_search_path(std::env::split_paths(&path)),
        None => host,
    };
    let asked = args.checks.is_empty() || args.checks.iter().any(|name| name == "kvm");
    Ok(match (asked && !args.inventory, args.fresh) {
        (false, _) => host,
        (true, false) => host.with_kvm(kvm::probe(&ctx.root)),
        (true, true) => host.with_kvm(kvm::probe_anew(&ctx.root)),
    })
}

fn chosen(all: Vec<Check>, names: &[String]) -> anyhow::Result<Vec<Check>> {
    for name in names {
        if all.iter().any(|c| c.name == *name) {
            continue;
        }
        let hint = match errors::likely(name, all.iter().map(|c| &*c.name)) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => "`hyperion doctor` without a name makes all checks".into(),
        };
        let what = format!("there is no check {name:?}");
        return Err(errors::advised(Class::User, what, hint));
    }
    let wanted = |c: &Check| names.is_empty() || names.contains(&c.name);
    Ok(all.into_iter().filter(wanted).collect())
}

fn print_checks(mut checks: Vec<Check>, format: OutputFormat) -> anyhow::Result<()> {
    match format {
        OutputFormat::Json => output::json(&checks),
        OutputFormat::Quiet => {
            for check in checks.iter().filter(|c| c.verdict != Verdict::Ok) {
                output::line(&check.name)?;
            }
            Ok(())
        }
        OutputFormat::Human => {
            // First what can be mended, the worst of it on top.
            checks.sort_by_key(|c| (c.fix.is_empty(), badness(c.verdict)));
            output::line(checks_table(&checks).trim_fmt())?;
            let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count();
            output::line(format_args!(
                "{} ok, {} limited, {} missing, {} unknown",
                count(Verdict::Ok),
                count(Verdict::Limited),
                count(Verdict::Missing),
                count(Verdict::Unknown)
            ))
        }
    }
}

fn badness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Missing => 0,
        Verdict::Limited => 1,
        Verdict::Unknown => 2,
        Verdict::Ok => 3,
    }
}

/// An empty table for text that is wrapped to the terminal, or to 80 columns.
fn table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    // A pseudo-terminal may not know its size and say 0.
    let columns = table.width().filter(|columns| *columns > 0).unwrap_or(80);
    table.set_width(columns.clamp(40, 100));
    table
}

fn checks_table(checks: &[Check]) -> Table {
    let mut table = table();
    for check in checks {
        let (word, colour) = match check.verdict {
            Verdict::Ok => ("ok", Color::Green),
            Verdict::Limited => ("limited", Color::Yellow),
            Verdict::Missing => ("missing", Color::Red),
            Verdict::Unknown => ("unknown", Color::Cyan),
        };
        let mut text = output::plain(&check.evidence);
        for (sign, part) in [("→", &check.consequence), ("fix:", &check.fix)] {
            if !part.is_empty() {
                text += &format!("\n{sign} {}", output::plain(part));
            }
        }
        table.add_row([
            Cell::new(word).fg(colour),
            Cell::new(&check.name).add_attribute(Attribute::Bold),
            Cell::new(text),
        ]);
    }
    table
}

fn print_inventory(inventory: &Inventory, format: OutputFormat) -> anyhow::Result<()> {
    match format {
        OutputFormat::Json => output::json(inventory),
        OutputFormat::Quiet => output::line(output::plain(&inventory.hostname)),
        OutputFormat::Human => output::line(inventory_table(inventory).trim_fmt()),
    }
}

fn inventory_table(inventory: &Inventory) -> Table {
    let mut table = table();
    let mut row = |name: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let lines: Vec<String> = lines.iter().map(|line| output::plain(line)).collect();
            table.add_row([name, &lines.join("\n")]);
        }
    };
    let t = &inventory.topology;
    row("host", vec![inventory.hostname.clone()]);
    row(
        "system",
        vec![
            inventory.distribution.name.clone(),
            format!("Linux {} {}", inventory.kernel, inventory.cpu.architecture),
        ],
    );
    row(
        "processor",
        vec![
            inventory.cpu.model.clone(),
            format!(
                "sockets {}, cores {}, hardware threads {} ({})",
                t.sockets.len(),
                t.cores.len(),
                t.online.len(),
                t.online
            ),
        ],
    );
    let nodes = t.nodes.iter();
    row(
        "NUMA",
        nodes
            .map(|n| format!("node {}: {} ({})", n.id, n.memory, n.cpus))
            .collect(),
    );
    let memory = &inventory.memory;
    row(
        "memory",
        vec![format!("{}, swap {}", memory.total, memory.swap)],
    );
    let disks = inventory.storage.iter();
    row(
        "disks",
        disks
            .map(|d| match &d.model {
                Some(model) => format!("{} {} {model}", d.name, d.size),
                None => format!("{} {}", d.name, d.size),
            })
            .collect(),
    );
    let links = inventory.network.iter().filter(|i| i.physical);
    row(
        "network",
        links
            .map(|i| match i.speed_mbps {
                Some(speed) => format!("{} {} {speed} Mbit/s", i.name, i.state),
                None => format!("{} {}", i.name, i.state),
            })
            .collect(),
    );
    let ports = inventory.fabric.iter();
    row(
        "fabric",
        ports
            .map(|p| format!("{}/{} {} {}", p.device, p.port, p.link_layer, p.rate))
            .collect(),
    );
    row(
        "GPUs",
        inventory.gpus.iter().map(ToString::to_string).collect(),
    );
    row(
        "FPGAs",
        inventory.fpgas.iter().map(ToString::to_string).collect(),
    );
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, verdict: Verdict, fix: &str) -> Check {
        Check {
            name: name.into(),
            verdict,
            evidence: "seen in a place whose name is longer than one line of a terminal can hold \
                       at once"
                .into(),
            consequence: String::new(),
            fix: fix.into(),
        }
    }

    #[test]
    fn a_misspelt_check_is_answered_with_the_right_one() {
        let all = vec![
            check("cgroups", Verdict::Ok, ""),
            check("kvm", Verdict::Ok, ""),
        ];
        let error = chosen(all.clone(), &["cgroup".into()]).expect_err("no such check");
        assert!(errors::hint_of(&error).contains("did you mean \"cgroups\"?"));
        let error = chosen(all.clone(), &["zzz".into()]).expect_err("no such check");
        assert!(!errors::hint_of(&error).contains("did you mean"));
        assert_eq!(chosen(all, &["kvm".into()]).expect("a check").len(), 1);
    }

    #[test]
    fn the_table_fits_80_columns_and_bears_no_escapes() {
        let mut hostile = check("user-namespaces", Verdict::Missing, "sysctl -w x=1");
        hostile.evidence += "\u{1b}]0;owned\u{7}\n";
        let text = checks_table(&[hostile, check("kvm", Verdict::Ok, "")]).trim_fmt();
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line:?}");
        }
        assert!(text.contains("fix: sysctl -w x=1"));
    }
}
