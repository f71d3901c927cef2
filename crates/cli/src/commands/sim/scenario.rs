//! `hyperion sim run`

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyperion_model::Class;
use hyperion_model::units::parse_duration;
use hyperion_sim::cloud::{
    Failures, Finished, Left, Ran, ReadError, Scaled, Scenario, Service, Simulation, TraceError,
    line,
};
use hyperion_sys::entry::ExitCode;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::snapshot;
use crate::args::OutputFormat;
use crate::context::Context;
use crate::errors::{advised, unusable};
use crate::output;

/// Where it stands what a scenario is.
const PAGE: &str = "docs/reference/scenarios.md says what a scenario has";

const FILES: snapshot::Of = snapshot::Of {
    command: "run",
    source: "scenario",
};

/// So many cloudlets are listed for people.
const LISTED: usize = 100;

// The words of `hyperion sim run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scenario, in TOML
    #[arg(value_name = "SCENARIO", required_unless_present = "resume")]
    scenario: Option<PathBuf>,
    /// Write the cloudlets that ended, with their times, cost and energy, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Let nothing happen from this time of the simulation on, and tell how it stands:
    /// seconds, or a span such as 2h30m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    until: Option<Duration>,
    /// Write a file at that time from which --resume goes on
    #[arg(long, value_name = "FILE", requires = "until")]
    snapshot: Option<PathBuf>,
    /// Go on from such a file; it has the scenario in it
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    resume: Option<PathBuf>,
}

/// What is told of a cloudlet that has ended. Times are in seconds.
#[derive(Debug, Serialize)]
struct Row<'s> {
    broker: &'s str,
    cloudlet: u32,
    status: &'static str,
    datacenter: &'s str,
    host: u32,
    vm: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<u32>,
    time: f64,
    start: f64,
    finish: f64,
    cost: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    joules: Option<f64>,
}

/// How a dynamic datacenter has served its VMs, with CloudSim's measures as shares.
#[derive(Debug, Serialize)]
struct ServiceRow<'s> {
    datacenter: &'s str,
    joules: f64,
    migrations: u64,
    sla: f64,
    sla_degradation_due_to_migration: f64,
    sla_time_per_active_host: f64,
    sla_overall: f64,
    sla_average: f64,
    host_shutdowns: u64,
    mean_time_before_host_shutdown_s: f64,
    mean_time_of_migration_s: f64,
}

/// How a host has failed.
#[derive(Debug, Serialize)]
struct FailuresRow<'s> {
    datacenter: &'s str,
    host: u32,
    failures: u64,
    down_s: f64,
    moved_vms: u64,
}

/// A change of how many VMs a broker has.
#[derive(Debug, Serialize)]
struct ScaledRow<'s> {
    broker: &'s str,
    time: f64,
    vms: u32,
}

/// What is told of one that has not.
#[derive(Debug, Serialize)]
struct NotRun<'s> {
    broker: &'s str,
    cloudlet: u32,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    joules: Option<f64>,
}

/// What a host has drawn.
#[derive(Debug, Serialize)]
struct HostEnergy<'s> {
    datacenter: &'s str,
    host: u32,
    joules: f64,
    idle_joules: f64,
}

/// What of that was for a VM.
#[derive(Debug, Serialize)]
struct VmEnergy<'s> {
    broker: &'s str,
    vm: u32,
    joules: f64,
}

/// What of that was for a container.
#[derive(Debug, Serialize)]
struct ContainerEnergy<'s> {
    broker: &'s str,
    container: u32,
    joules: f64,
}

/// Carries it out.
pub(super) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut simulation = match (&args.resume, &args.scenario) {
        (Some(file), _) => snapshot::read(file, FILES, Simulation::resume)?,
        (None, Some(file)) => Simulation::new(read(file)?)?,
        (None, None) => bail!("a scenario is missing"),
    };
    let until = args.until.map_or(f64::INFINITY, |span| span.as_secs_f64());
    let begun = simulation.time();
    if until < begun {
        let what = format!("{begun} s are over in the snapshot");
        return Err(advised(Class::User, what, "name a later time with --until"));
    }
    let left = simulation.run(until);
    if let Some(file) = &args.snapshot {
        snapshot::keep(simulation.snapshot(), file, FILES, left, until)?;
    }
    let scenario = simulation.scenario();
    let mut finished = simulation.finish();
    // As CloudSim lists them: by broker, as they came back.
    finished.sort_by_broker();
    if let Some(file) = &args.csv {
        write_csv(file, &scenario, &finished)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    match ctx.output {
        OutputFormat::Json => output::json(&Found(&scenario, &finished))?,
        OutputFormat::Quiet => {}
        OutputFormat::Human => tell(&scenario, &finished)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_csv(file: &Path, scenario: &Scenario, finished: &Finished) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(
        out,
        "broker,cloudlet,datacenter,host,vm,container,submitted,start,finish,cost,joules"
    )?;
    for one in finished.ran() {
        let row = row(scenario, &one);
        let (broker, datacenter) = (quoted(row.broker), quoted(row.datacenter));
        let container = row
            .container
            .map_or_else(String::new, |its| its.to_string());
        let joules = row.joules.map_or_else(String::new, |its| its.to_string());
        let (cloudlet, host, vm) = (row.cloudlet, row.host, row.vm);
        let (submitted, start, finish, cost) = (one.submitted, row.start, row.finish, row.cost);
        writeln!(
            out,
            "{broker},{cloudlet},{datacenter},{host},{vm},{container},{submitted},{start},{finish},{cost},{joules}"
        )?;
    }
    out.flush()
}

/// Writes a name as RFC 4180 says, in quotes where it needs them.
fn quoted(name: &str) -> Cow<'_, str> {
    match name.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")).into(),
        false => name.into(),
    }
}

/// Reads a scenario and its traces, and says what is likely not meant.
fn read(file: &Path) -> anyhow::Result<Scenario> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut scenario = Scenario::read(&text).map_err(|error| match error {
        ReadError::Text(error) => unusable(file, &error, PAGE),
        error @ ReadError::Rule { .. } => {
            advised(Class::User, format!("{}, {error}", file.display()), PAGE)
        }
    })?;
    let folder = file.parent().unwrap_or(Path::new(""));
    scenario
        .read_traces(|path| traces(&folder.join(path)))
        .map_err(|error| match error {
            TraceError::Read { .. } => anyhow::Error::new(error),
            error => advised(Class::User, error, PAGE),
        })?;
    for note in scenario.notes() {
        let line = line(&text, &note.place);
        output::talk("note", format!("{}, line {line}: {note}", file.display()));
    }
    Ok(scenario)
}

/// Reads a file, or those of a folder by name.
fn traces(path: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path)?;
        files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        files.sort();
    }
    let read = |file: &PathBuf| Ok((file.display().to_string(), std::fs::read_to_string(file)?));
    files.iter().map(read).collect()
}

/// All that was found. Its rows are made as they are written: there may be millions.
struct Found<'s>(&'s Scenario, &'s Finished);

impl Serialize for Found<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(scenario, finished) = *self;
        let summary = finished.summary();
        let mut found = serializer.serialize_map(None)?;
        found.serialize_entry(
            "cloudlets",
            &Rows(|| finished.ran().map(|one| row(scenario, &one))),
        )?;
        let left = || summary.left.iter().map(|one| not_run(scenario, one));
        found.serialize_entry("not_run", &Rows(left))?;
        if !summary.hosts.is_empty() {
            let all = || summary.hosts.iter().zip(&summary.idle);
            let hosts = || all().map(|(one, idle)| host_energy(scenario, one, *idle));
            found.serialize_entry("host_energy", &Rows(hosts))?;
            let vms = || summary.vms.iter().map(|one| vm_energy(scenario, one));
            found.serialize_entry("vm_energy", &Rows(vms))?;
            if !summary.containers.is_empty() {
                let all = || summary.containers.iter();
                let rows = || all().map(|one| container_energy(scenario, one));
                found.serialize_entry("container_energy", &Rows(rows))?;
            }
        }
        if !summary.services.is_empty() {
            let services = || summary.services.iter().map(|one| service(scenario, one));
            found.serialize_entry("services", &Rows(services))?;
        }
        if !summary.failures.is_empty() {
            let failures = || summary.failures.iter().map(|one| failures(scenario, one));
            found.serialize_entry("failures", &Rows(failures))?;
        }
        if !summary.scaled.is_empty() {
            let scaled = || summary.scaled.iter().map(|one| scaled(scenario, one));
            found.serialize_entry("scaled", &Rows(scaled))?;
        }
        found.serialize_entry("cost", &summary.cost)?;
        found.serialize_entry("events", &summary.events)?;
        found.serialize_entry("end", &summary.end)?;
        found.end()
    }
}

struct Rows<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Rows<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

fn host_energy<'s>(
    scenario: &'s Scenario,
    drawn: &(u32, u32, f64),
    idle_joules: f64,
) -> HostEnergy<'s> {
    HostEnergy {
        datacenter: &scenario.datacenter[drawn.0 as usize].name,
        host: drawn.1,
        joules: drawn.2,
        idle_joules,
    }
}

fn vm_energy<'s>(scenario: &'s Scenario, drawn: &(u32, u32, f64)) -> VmEnergy<'s> {
    VmEnergy {
        broker: &scenario.broker[drawn.0 as usize].name,
        vm: drawn.1,
        joules: drawn.2,
    }
}

fn container_energy<'s>(scenario: &'s Scenario, drawn: &(u32, u32, f64)) -> ContainerEnergy<'s> {
    ContainerEnergy {
        broker: &scenario.broker[drawn.0 as usize].name,
        container: drawn.1,
        joules: drawn.2,
    }
}

fn row<'s>(scenario: &'s Scenario, ran: &Ran) -> Row<'s> {
    Row {
        broker: &scenario.broker[ran.broker as usize].name,
        cloudlet: ran.cloudlet,
        status: "SUCCESS",
        datacenter: &scenario.datacenter[ran.datacenter as usize].name,
        host: ran.host,
        vm: ran.vm,
        container: ran.container,
        time: ran.finish - ran.start,
        start: ran.start,
        finish: ran.finish,
        cost: ran.cost,
        joules: ran.joules,
    }
}

fn failures<'s>(scenario: &'s Scenario, its: &Failures) -> FailuresRow<'s> {
    FailuresRow {
        datacenter: &scenario.datacenter[its.datacenter as usize].name,
        host: its.host,
        failures: its.count,
        down_s: its.down_s,
        moved_vms: its.moved,
    }
}

fn scaled<'s>(scenario: &'s Scenario, its: &Scaled) -> ScaledRow<'s> {
    ScaledRow {
        broker: &scenario.broker[its.broker as usize].name,
        time: its.time,
        vms: its.vms,
    }
}

fn service<'s>(scenario: &'s Scenario, its: &Service) -> ServiceRow<'s> {
    ServiceRow {
        datacenter: &scenario.datacenter[its.datacenter as usize].name,
        joules: its.joules,
        migrations: its.migrations,
        sla: its.sla,
        sla_degradation_due_to_migration: its.sla_degradation_due_to_migration,
        sla_time_per_active_host: its.sla_time_per_active_host,
        sla_overall: its.sla_overall,
        sla_average: its.sla_average,
        host_shutdowns: its.host_shutdowns,
        mean_time_before_host_shutdown_s: its.mean_time_before_host_shutdown_s,
        mean_time_of_migration_s: its.mean_time_of_migration_s,
    }
}

fn not_run<'s>(scenario: &'s Scenario, left: &Left) -> NotRun<'s> {
    NotRun {
        broker: &scenario.broker[left.broker as usize].name,
        cloudlet: left.cloudlet,
        why: left.why.to_string(),
        joules: (left.joules > 0.0).then_some(left.joules),
    }
}

/// Lists what ended, and says how many did not, and why.
fn tell(scenario: &Scenario, finished: &Finished) -> anyhow::Result<()> {
    let (ran, summary) = (|| finished.ran(), finished.summary());
    // A column of nothing is left out.
    let nested = ran().any(|one| one.container.is_some());
    let mut head = vec!["BROKER", "CLOUDLET", "DATACENTER", "HOST", "VM"];
    head.extend(nested.then_some("CONTAINER"));
    head.extend(["TIME", "START", "FINISH"]);
    let metered = ran().any(|one| one.joules.is_some());
    head.extend(metered.then_some("JOULES"));
    let rows = ran().take(LISTED).map(|one| {
        let row = row(scenario, &one);
        let mut cells = vec![
            row.broker.to_owned(),
            row.cloudlet.to_string(),
            row.datacenter.to_owned(),
            row.host.to_string(),
            row.vm.to_string(),
        ];
        if nested {
            cells.push(
                row.container
                    .map_or_else(String::new, |its| its.to_string()),
            );
        }
        cells.extend([row.time, row.start, row.finish].map(short));
        if metered {
            cells.push(row.joules.map_or_else(String::new, short));
        }
        cells
    });
    output::table(&head, rows)?;
    if ran().len() > LISTED {
        let more = ran().len() - LISTED;
        output::line(format!("and {more} more: --output json lists all"))?;
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for left in &summary.left {
        *reasons.entry(left.why.to_string()).or_default() += 1;
    }
    for (why, count) in reasons {
        output::line(format!("{count} not run: {why}"))?;
    }
    let (cloudlets, events) = (summary.cloudlets, summary.events);
    let end = short(summary.end);
    output::line(format!(
        "{cloudlets} cloudlets ended in {end} s, {events} events"
    ))?;
    if !summary.hosts.is_empty() {
        let joules: f64 = summary.hosts.iter().map(|(_, _, joules)| joules).sum();
        output::line(format!("{} kWh drawn by hosts", short(joules / 3.6e6)))?;
    }
    for its in &summary.services {
        let name = &scenario.datacenter[its.datacenter as usize].name;
        let (migrations, shutdowns) = (its.migrations, its.host_shutdowns);
        let lacked = short(its.sla_overall * 100.0);
        output::line(format!(
            "{name}: {migrations} migrations, {shutdowns} shutdowns of hosts, {lacked} % of what was asked for was not given"
        ))?;
    }
    if !summary.failures.is_empty() {
        let failures: u64 = summary.failures.iter().map(|its| its.count).sum();
        let down: f64 = summary.failures.iter().map(|its| its.down_s).sum();
        output::line(format!(
            "{failures} failures of hosts, {} h down",
            short(down / 3600.0)
        ))?;
    }
    if !summary.scaled.is_empty() {
        let (changes, most) = (
            summary.scaled.len(),
            summary.scaled.iter().map(|its| its.vms).max(),
        );
        output::line(format!(
            "brokers scaled {changes} times, to {} VMs at most",
            most.unwrap_or(0)
        ))?;
    }
    if summary.cost > 0.0 {
        output::line(format!("cost {}", short(summary.cost)))?;
    }
    Ok(())
}

/// Gives a number with two decimals at most.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
