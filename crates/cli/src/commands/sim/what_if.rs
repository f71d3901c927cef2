//! `hyperion sim what-if`

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_model::Class;
use hyperion_model::job::Level;
use hyperion_sched::Time;
use hyperion_sim::Seed;
use hyperion_sim::batch::{
    Blocks, Change, Interval, Named, Past, Ran, Summary, Tally, Workload, World,
};
use hyperion_sys::entry::ExitCode;
use serde::Serialize;

use super::cores::{Progress, on_all_cores};
use super::history::{History, note};
use super::policies;
use crate::args::OutputFormat;
use crate::commands::queue::list::clock;
use crate::commands::report;
use crate::context::Context;
use crate::errors::advised;
use crate::output;

// The words of `hyperion sim what-if`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A log in the Standard Workload Format, plain or gzipped, - is standard input; without
    /// it the history of the own queue
    #[arg(long, value_name = "TRACE")]
    log: Option<PathBuf>,
    /// Under another policy, as `hyperion sim swf` names them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    policy: Vec<String>,
    /// With so many nodes more: like those of a partition, or with a feature or device, or
    /// like one by its name
    #[arg(long, value_name = "[LIKE:]N", value_delimiter = ',')]
    add_nodes: Vec<Nodes>,
    /// With every job fenced so, and taking so much longer if it was not: in percent, vm=20%,
    /// or as the second of two jobs did, by their reports, vm=PLAIN:FENCED
    #[arg(long, value_name = "LEVEL=COST", value_delimiter = ',')]
    isolation: Vec<Fence>,
    /// With jobs coming so many times as fast
    #[arg(long, value_name = "FACTOR", value_delimiter = ',', value_parser = policies::factor)]
    load: Vec<f64>,
    /// All of these at once, in place of one after another
    #[arg(long)]
    together: bool,
    /// The policy as it is [default: the queue's own rules; of a log easy]
    #[arg(long, value_name = "NAME")]
    now: Option<String>,
    /// How many workloads are drawn from the history to say how sure a change is
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    replications: u64,
    /// The same seed draws the same workloads
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The size of the machine, in place of what the log says
    #[arg(long, value_name = "N", requires = "log", value_parser = clap::value_parser!(u64).range(1..))]
    processors: Option<u64>,
    /// Leave out lines that are none of a log
    #[arg(long, requires = "log")]
    skip_malformed: bool,
}

/// So many nodes, like one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Nodes {
    like: Option<String>,
    count: u32,
}

impl FromStr for Nodes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // A device has a colon in its name: gpu:h100.
        let (like, count) = match text.rsplit_once(':') {
            Some((like, count)) => (Some(like.to_owned()), count),
            None => (None, text),
        };
        match count.parse() {
            Ok(count @ 1..=100_000) => Ok(Self { like, count }),
            _ => Err("write how many: 2, or gpu:2 for two like those of gpu".into()),
        }
    }
}

/// A level, and what it costs.
#[derive(Debug, Clone, PartialEq)]
struct Fence {
    level: Level,
    cost: Cost,
}

/// By how much longer jobs take at a level.
#[derive(Debug, Clone, PartialEq)]
enum Cost {
    Percent(f64),
    /// As the second of two jobs took longer than the first.
    Measured(String, String),
}

impl FromStr for Fence {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write a level and how much longer jobs take, vm=20%, or two jobs that were measured, \
             vm=PLAIN:FENCED"
                .to_owned()
        };
        let (level, cost) = text.split_once('=').ok_or_else(wrong)?;
        let levels = [Level::Process, Level::Container, Level::Vm];
        let level = levels.into_iter().find(|its| its.to_string() == level);
        let level = level.ok_or_else(wrong)?;
        if let Some((plain, fenced)) = cost.split_once(':') {
            let cost = Cost::Measured(plain.to_owned(), fenced.to_owned());
            return Ok(Self { level, cost });
        }
        let percent = cost.strip_suffix('%').unwrap_or(cost).trim();
        match percent.parse::<f64>() {
            Ok(percent) if (-99.0..=10_000.0).contains(&percent) => Ok(Self {
                level,
                cost: Cost::Percent(percent),
            }),
            _ => Err(wrong()),
        }
    }
}

impl Fence {
    /// Gives by how many percent longer jobs take.
    ///
    /// # Errors
    /// Jobs without a report, or one that was not fenced so.
    fn percent(&self, ctx: &Context) -> anyhow::Result<f64> {
        let (plain, fenced) = match &self.cost {
            Cost::Percent(percent) => return Ok(*percent),
            Cost::Measured(plain, fenced) => (plain, fenced),
        };
        let median = |name: &str| {
            let report = report::find(name, ctx)?;
            let times = report.service_times();
            let median = times.map(|times| times.p50.as_secs_f64());
            let median = median.filter(|median| *median > 0.0);
            let median = median.with_context(|| format!("job {name} was not measured"))?;
            anyhow::Ok((report.level, median))
        };
        let ((_, before), (level, after)) = (median(plain)?, median(fenced)?);
        if level != self.level {
            return Err(advised(
                Class::User,
                format!("job {fenced} was fenced as {level}, not as {}", self.level),
                format!("name one that was: --isolation {level}={plain}:{fenced}"),
            ));
        }
        Ok(100.0 * (after / before - 1.0))
    }
}

/// The history as it is, or otherwise.
struct Variant {
    name: String,
    world: World,
    /// By which factor times would change if each job had its share of the machine, and no
    /// queue: as what is to be done does, divided by the processors.
    share: f64,
}

/// What the answer is made of.
#[derive(Serialize)]
struct Answer {
    log: String,
    jobs: usize,
    replications: u64,
    block_seconds: f64,
    blocks: usize,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_it_was: Option<Summary>,
    simulated: Row,
    variants: Vec<Row>,
}

/// What one came to, and between what it differs from the history as it is.
#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    summary: Summary,
    naive_change: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_wait_change: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_bsld_change: Option<Interval>,
}

/// Carries it out.
pub(super) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let history = match &args.log {
        Some(log) => History::of_log(log, args.processors, args.skip_malformed)?,
        None => History::of_queue(ctx)?,
    };
    if history.jobs.is_empty() {
        return Err(advised(
            Class::User,
            format!("no job of {} can be simulated", history.name),
            "jobs that have run are needed: --log reads those of another system",
        ));
    }
    let now: Named = match (&args.now, &history.policy) {
        (Some(name), _) => policies::policy(name)?,
        (None, Some(ruled)) => ruled.clone(),
        (None, None) => policies::policy("easy")?,
    };
    let variants = variants(args, &history, &now, ctx)?;
    note(
        variants[0].world.beyond(),
        "more than the limits allow now: under none of them",
    );
    let submitted: Vec<Time> = history.jobs.iter().map(|past| past.job.submit).collect();
    let blocks = Blocks::of(&submitted);
    // The history itself, then what is drawn of it.
    let all: Vec<(usize, u64)> = (0..=args.replications)
        .flat_map(|number| (0..variants.len()).map(move |variant| (variant, number)))
        .collect();
    let progress = Progress::new(ctx, (all.len() * submitted.len()) as u64);
    let summaries = on_all_cores(&all, |&(variant, number)| {
        let Variant { name, world, .. } = &variants[variant];
        let mut counter = progress.counter();
        let mut tally = Tally::new(world.processors());
        let drawn = match number {
            0 => Workload::of(&submitted),
            number => blocks.draw(&submitted, &mut Seed(args.seed).stream(number)),
        };
        let seen = |ran: Ran| {
            counter.add();
            tally.add(&ran);
        };
        let ran = world.run(&drawn, seen);
        ran.with_context(|| format!("the simulation of {name} stopped"))?;
        Ok(tally.summary())
    })?;
    drop(progress);
    let mut rows = variants.iter().enumerate().map(|(at, variant)| {
        let of = |at: usize| summaries.iter().skip(at).step_by(variants.len());
        let drawn = |value: fn(&Summary) -> f64| {
            let pairs = of(at).zip(of(0)).skip(1);
            let changes = pairs.map(|(its, base)| value(its) / value(base) - 1.0);
            let told = changes.filter(|change| change.is_finite()).collect();
            Interval::of_resampled(told).filter(|_| at > 0)
        };
        Row {
            name: variant.name.clone(),
            summary: summaries[at].clone(),
            naive_change: variant.share - 1.0,
            avg_wait_change: drawn(|its| its.avg_wait),
            avg_bsld_change: drawn(|its| its.avg_bsld),
        }
    });
    let answer = Answer {
        log: history.name.clone(),
        jobs: history.jobs.len(),
        replications: args.replications,
        block_seconds: blocks.length().as_secs_f64(),
        blocks: blocks.count(),
        seed: args.seed,
        as_it_was: as_it_was(&history.jobs, history.site.processors()),
        simulated: rows.next().context("the history itself")?,
        variants: rows.collect(),
    };
    tell(&answer, ctx)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the history as it is, and each way in which it is to be otherwise.
fn variants(
    args: &Args,
    history: &History,
    now: &Named,
    ctx: &Context,
) -> anyhow::Result<Vec<Variant>> {
    // Beside each by which factor it changes what is to be done.
    let mut changes: Vec<(String, Change, f64)> = Vec::new();
    for name in &args.policy {
        let policy = policies::policy(name)?;
        changes.push((name.clone(), Change::Policy(policy), 1.0));
    }
    for Nodes { like, count } in &args.add_nodes {
        let node = history.like(like.as_deref())?;
        let like = like.as_ref().map(|like| format!("{like}:"));
        let name = format!("+ {}{count} nodes", like.unwrap_or_default());
        changes.push((name, Change::Nodes(node, *count), 1.0));
    }
    for fence in &args.isolation {
        let (level, percent) = (fence.level, fence.percent(ctx)?);
        let factor = 1.0 + percent / 100.0;
        let change = Change::Isolation(level, factor);
        // Of what was measured a tenth is enough.
        let percent = (10.0 * percent).round() / 10.0;
        changes.push((format!("{level} {percent:+} %"), change, factor));
    }
    for load in &args.load {
        changes.push((format!("load {load}"), Change::Load(*load), *load));
    }
    if changes.is_empty() {
        return Err(advised(
            Class::User,
            "nothing is to be otherwise",
            "say what: --policy conservative, --add-nodes 2, --isolation vm=20%, --load 1.2",
        ));
    }
    let several = |count: usize| count > 1 && args.together;
    if several(args.policy.len()) || several(args.isolation.len()) || several(args.load.len()) {
        return Err(advised(
            Class::User,
            "two policies, levels or loads cannot hold at once",
            "leave out --together, or one of them",
        ));
    }
    let processors = history.site.processors() as f64;
    let variant = |name: String, changes: &[Change], work: f64| {
        let world = World::new(&history.site, &history.jobs, now, changes);
        let share = work * processors / world.processors() as f64;
        Variant { name, world, share }
    };
    let mut all = vec![variant(format!("simulated, {}", now.name), &[], 1.0)];
    if args.together {
        let names: Vec<&str> = changes.iter().map(|(name, ..)| name.as_str()).collect();
        let work = changes.iter().map(|(.., work)| work).product();
        let name = names.join(", ");
        let changes: Vec<Change> = changes.into_iter().map(|(_, change, _)| change).collect();
        all.push(variant(name, &changes, work));
    } else {
        let each = changes.into_iter();
        all.extend(each.map(|(name, change, work)| variant(name, &[change], work)));
    }
    Ok(all)
}

/// Says what really happened, where that is known of every job.
fn as_it_was(jobs: &[Past], processors: u64) -> Option<Summary> {
    let mut tally = Tally::new(processors);
    for (past, number) in jobs.iter().zip(0..) {
        let (job, start) = (past.job, past.started?);
        tally.add(&Ran { number, job, start });
    }
    Some(tally.summary())
}

fn tell(answer: &Answer, ctx: &Context) -> anyhow::Result<()> {
    match ctx.output {
        OutputFormat::Json => return output::json(answer),
        OutputFormat::Quiet => {
            let mut rows = answer.variants.iter();
            return rows.try_for_each(|row| output::line(row.summary.avg_wait));
        }
        OutputFormat::Human => {}
    }
    let (jobs, procs) = (answer.jobs, answer.simulated.summary.procs);
    output::line(format!("{jobs} jobs, {procs} processors"))?;
    let was = answer
        .as_it_was
        .iter()
        .map(|was| row("as it was", was, None, None));
    let rows = [&answer.simulated].into_iter().chain(&answer.variants);
    let rows = rows.map(|its| {
        let (wait, slowdown) = (its.avg_wait_change, its.avg_bsld_change);
        row(&its.name, &its.summary, wait, slowdown)
    });
    let head = ["WHAT", "WAIT", "CHANGE", "SLOWDOWN", "CHANGE", "USED"];
    output::table(&head, was.chain(rows))?;
    if answer.replications > 0 {
        let length = Duration::from_secs_f64(answer.block_seconds);
        output::line(format!(
            "changes: 95 % of {} workloads, drawn from {} blocks of {}",
            answer.replications,
            answer.blocks,
            clock(length),
        ))?;
    }
    let naive = answer.variants.iter().map(|its| {
        // Nothing has no sign.
        let percent = (100.0 * its.naive_change).round() + 0.0;
        format!("{}: {percent:+} %", its.name)
    });
    let naive: Vec<String> = naive.collect();
    output::line(format!("by shares alone: {}", naive.join("; ")))
}

fn row(
    name: &str,
    summary: &Summary,
    wait: Option<Interval>,
    slowdown: Option<Interval>,
) -> Vec<String> {
    let change = |interval: Option<Interval>| match interval {
        Some(Interval { low, high }) => format!("{:+.0} to {:+.0} %", 100.0 * low, 100.0 * high),
        None => String::new(),
    };
    vec![
        name.to_owned(),
        clock(Duration::from_secs_f64(summary.avg_wait)),
        change(wait),
        format!("{:.2}", summary.avg_bsld),
        change(slowdown),
        format!("{:.1} %", 100.0 * summary.util),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_others_refused() {
        let nodes = |text: &str| text.parse::<Nodes>().map(|its| (its.like, its.count));
        assert_eq!(nodes("2"), Ok((None, 2)));
        assert_eq!(nodes("gpu:h100:3"), Ok((Some("gpu:h100".into()), 3)));
        assert!(nodes("gpu").is_err() && nodes("0").is_err() && nodes("gpu:-1").is_err());
        let fence = |text: &str| text.parse::<Fence>().map(|its| (its.level, its.cost));
        assert_eq!(fence("vm=20%"), Ok((Level::Vm, Cost::Percent(20.0))));
        let less = Cost::Percent(-2.5);
        assert_eq!(fence("process=-2.5"), Ok((Level::Process, less)));
        let measured = Cost::Measured("plain".into(), "fenced".into());
        assert_eq!(fence("vm=plain:fenced"), Ok((Level::Vm, measured)));
        for wrong in ["vm", "jail=3%", "vm=", "vm=-100%", "vm=NaN%"] {
            assert!(fence(wrong).is_err(), "{wrong}");
        }
    }
}
