//! The simulator: how fast it is, and how far from what really runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::command::{Cmd, cmd};
use super::page::{Outcome, Row};
use super::queue::Queue;
use super::sample::{Case, alternate};
use super::stage::Stage;

/// So many jobs sleep.
const SLEEPS: u64 = 200;
/// So often is each simulation run.
const ROUNDS: usize = 7;
/// What is made where there is no real trace.
const MADE: [&str; 4] = ["--jobs", "200000", "--processors", "240"];

/// All rows.
pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    let over_all = |policy: &str, least: f64, bar: &'static str| {
        let what =
            format!("jobs per second of one core under {policy}, a whole trace, reading it too");
        let rate = trace(stage).and_then(|trace| rate(stage, &trace, policy, least));
        Row::new(what, bar, rate)
    };
    let growing = |machine: &str, nodes: u32| {
        Row::new(
            format!("growth from 10,000 to 10,000,000 jobs of a model, EASY, {machine}"),
            "≤ 2 times n log n; 16 GiB",
            growth(stage, nodes),
        )
    };
    vec![
        over_all("fifo", 1e6, "≥ 1,000,000 per s"),
        over_all("sjf", 1e6, "≥ 1,000,000 per s"),
        over_all("easy", 2e5, "≥ 200,000 per s"),
        over_all("conservative", 2e4, "≥ 20,000 per s"),
        Row::new(
            "1,000 hosts, 10,000 VMs, 100,000 cloudlets, time-shared, random lengths",
            "seconds; a tenth of 308 MB",
            large(stage),
        ),
        growing("100,000 processors", 1),
        growing("100,000 nodes", 100_000),
        Row::new(
            format!("{SLEEPS} jobs of `sleep`, simulated against run: makespan, mean wait"),
            "≤ 2 %",
            sleeps(stage),
        ),
    ]
}

/// Gives a real trace of many jobs, or makes one.
fn trace(stage: &Stage) -> Result<PathBuf> {
    let real = hyperion_testkit::traces();
    let real = real.map(|folder| folder.join("HPC2N-2002-2.2-cln.swf.gz"));
    if let Some(real) = real.filter(|real| real.exists()) {
        return Ok(real);
    }
    let made = stage.dir.join("made.swf");
    if made.exists() {
        return Ok(made);
    }
    let log = stage
        .hyperion("main")
        .args(["sim", "generate", "lublin"])
        .args(MADE);
    fs::write(&made, log.output()?)?;
    Ok(made)
}

fn simulation(stage: &Stage, trace: &Path, policy: &str) -> Cmd {
    let words = ["--output", "json", "sim", "swf", "--policy", policy];
    stage.hyperion("main").args(words).args([trace])
}

fn rate(stage: &Stage, trace: &Path, policy: &str, least: f64) -> Result<Outcome> {
    let whole = simulation(stage, trace, policy);
    let summary: Value = serde_json::from_str(&whole.output()?)?;
    let jobs = summary["jobs"].as_f64().context("a number of jobs")?;
    // One job alone: the trace is read all the same.
    let reading = whole.clone().args(["--jobs", "1"]);
    let cases = vec![
        Case::processor("whole", whole),
        Case::processor("reading", reading),
    ];
    let samples = alternate(cases, ROUNDS, 1);
    let [whole, reading] = &samples[..] else {
        bail!("nothing was measured");
    };
    let (whole, reading) = (whole.first()?.median(), reading.first()?.median());
    let per_second = |milliseconds: f64| jobs / milliseconds * 1e3;
    Ok(Outcome::Measured {
        ours: format!("{:.2} s for {jobs:.0} jobs", whole / 1e3),
        beside: format!("without reading {:.0} per s", per_second(whole - reading)),
        figure: format!("{:.0} per s", per_second(whole)),
        met: per_second(whole) >= least,
    })
}

/// What CloudSim Plus takes for such a case with equal lengths, in MB; with random ones it
/// had not finished after 329 s.
const PEERS_MEMORY: f64 = 308.0;

fn large(stage: &Stage) -> Result<Outcome> {
    let scenario = stage.workspace.join("examples/sim/large.toml");
    let run = stage
        .hyperion("main")
        .args(["sim", "run"])
        .args([&scenario]);
    let case = vec![Case::wall("large", run.args(["--output", "json"]))];
    let samples = alternate(case, ROUNDS, 1);
    let seconds = samples[0].first()?.median() / 1e3;
    let megabytes = peak(stage, &["sim", "run", &scenario.to_string_lossy()])?;
    Ok(Outcome::Measured {
        ours: format!("{seconds:.2} s, {megabytes:.0} MB"),
        beside: "CloudSim Plus: not finished in 329 s, on another day".into(),
        figure: format!("{seconds:.2} s"),
        met: seconds < 10.0 && megabytes <= PEERS_MEMORY / 10.0,
    })
}

/// Gives the most memory that a run has, in MB, as it was last seen before its end.
fn peak(stage: &Stage, words: &[&str]) -> Result<f64> {
    let script = "\"$@\" --output json >/dev/null & p=$!; m=0
         while n=$(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$p/status 2>/dev/null) &&
           [ -n \"$n\" ]; do m=$n; sleep 0.01; done; echo $m";
    let run = cmd!["sh", "-c", script, "sh", stage.binary()].args(words);
    let kilobytes: f64 = run.output()?.trim().parse().context("a peak in KiB")?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// Lets more and more jobs of a model run that are made meanwhile: time is to grow with
/// n log n, and memory not at all with jobs that have ended.
fn growth(stage: &Stage, nodes: u32) -> Result<Outcome> {
    // So loaded the queue is stable.
    let model = "sim model lublin --processors 100000 --load 0.8 --policy easy --replications 1";
    let words = |jobs: &str| -> Vec<String> {
        let words = format!("{model} --nodes {nodes} --jobs {jobs}");
        words.split(' ').map(str::to_owned).collect()
    };
    let (mut each, mut told) = (Vec::new(), Vec::new());
    for exponent in 4..=7 {
        let jobs = 10_u64.pow(exponent);
        let run = stage.hyperion("main").args(words(&jobs.to_string()));
        let rounds = if exponent < 7 { ROUNDS } else { 1 };
        let samples = alternate(vec![Case::wall("model", run)], rounds, 0);
        let seconds = samples[0].first()?.median() / 1e3;
        each.push(seconds / (jobs as f64 * (jobs as f64).log2()));
        told.push(format!("{seconds:.2}"));
    }
    let most = words("10000000");
    let megabytes = peak(stage, &most.iter().map(String::as_str).collect::<Vec<_>>())?;
    let least = each.iter().copied().fold(f64::INFINITY, f64::min);
    let growth = each[each.len() - 1] / least;
    Ok(Outcome::Measured {
        ours: format!("{} s; {megabytes:.0} MB", told.join(", ")),
        beside: "-".into(),
        figure: format!("{growth:.2} times"),
        met: growth <= 2.0 && megabytes < 16.0 * 1024.0,
    })
}

/// Runs jobs that sleep, and the same list in the simulator. A log counts in whole
/// seconds, so milliseconds stand for those in it.
fn sleeps(stage: &Stage) -> Result<Outcome> {
    let queue = Queue::start(stage, "sleeps")?;
    let cores = std::thread::available_parallelism()?.get() as u64;
    let mut dice = hyperion_testkit::Dice(1);
    let mut asked = Vec::new();
    for _ in 0..SLEEPS {
        let (milliseconds, width) = (200 + dice.below(800), 1 + dice.below(2) as u64);
        let (line, width) = (
            format!("--wrap=sleep {}", milliseconds as f64 / 1e3),
            width.min(cores),
        );
        let cpus = format!("--cpus-per-task={width}");
        queue.run(&["submit", "-o", "/dev/null", "-t", "1", &cpus, &line])?;
        asked.push((milliseconds, width));
    }
    queue.until_empty()?;
    let all: Vec<Value> = serde_json::from_str(&queue.run(&["--output", "json", "history"])?)?;
    let of = |key: &str, job: usize| -> Result<f64> {
        let its = all.iter().find(|its| its["job"] == job as u64 + 2);
        let its = its.and_then(|its| its[key].as_f64());
        Ok(its.with_context(|| format!("job {job} has no {key}"))? / 1e3)
    };
    let first = of("submitted", 0)?;
    let (mut log, mut waits, mut last) = (format!("; MaxProcs: {cores}\n"), 0.0, 0.0_f64);
    for (job, (run, width)) in asked.iter().enumerate() {
        let submitted = of("submitted", job)?;
        waits += of("started", job)? - submitted;
        last = last.max(of("ended", job)?);
        log += &format!(
            "{} {:.0} 0 {run} {width} -1 -1 {width} 60000 -1 1 1 1 1 1 1 -1 -1\n",
            job + 1,
            submitted - first
        );
    }
    let file = queue.work.join("sleeps.swf");
    fs::write(&file, log)?;
    let summary: Value = serde_json::from_str(&simulation(stage, &file, "easy").output()?)?;
    let simulated = |key: &str| summary[key].as_f64().context("a number");
    let off = |real: f64, simulated: f64| 100.0 * (simulated - real).abs() / real;
    let makespan = off(last - first, simulated("makespan")?);
    let wait = off(waits / SLEEPS as f64, simulated("avg_wait")?);
    Ok(Outcome::Measured {
        ours: format!("{:.1} s run", (last - first) / 1e3),
        beside: format!("{:.1} s simulated", simulated("makespan")? / 1e3),
        figure: format!("{makespan:.2} %, {wait:.2} %"),
        met: makespan <= 2.0 && wait <= 2.0,
    })
}
