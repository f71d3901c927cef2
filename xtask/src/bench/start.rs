//! How fast things start, one at a time and side by side, and what stays in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::command::{Cmd, cmd};
use super::page::{Outcome, Row};
use super::sample::{Case, Sample, alternate};
use super::stage::Stage;

const ROUNDS: usize = 60;
const WARM_UP: usize = 3;

/// How many are started side by side.
const LANES: usize = 8;
/// How many each of them starts in one round.
const STARTS: usize = 15;

pub(super) fn container(stage: &Stage) -> Vec<Row> {
    let what = "start of `true` in a tiny image, container";
    let mut cases = vec![Case::wall("fork + exec", host_true(stage))];
    let imported = stage.import_tiny();
    cases.push(match &imported {
        Ok(()) => Case::wall("hyperion", true_in_tiny(stage, &[])),
        Err(error) => out("hyperion", error),
    });
    for (name, with_seccomp) in [("crun", true), ("crun without seccomp", false)] {
        cases.push(match crun(stage, with_seccomp) {
            Ok(command) => Case::wall(name, command("one")),
            Err(error) => out(name, &error),
        });
    }
    // ch-run refuses to start without the variable.
    let ch_run = cmd!["ch-run", stage.tiny(), "--", "/bin/true"].env("USER", "root");
    cases.push(Case::wall("ch-run", ch_run));
    cases.push(Case::wall("bwrap", bwrap(stage)));
    let samples = alternate(cases, ROUNDS, WARM_UP);
    let [_, ours, crun, open, ch_run, bwrap] = &samples[..] else {
        return vec![];
    };
    let first = || -> Result<Outcome> {
        let (ours, crun) = (ours.first()?.median(), crun.first()?.median());
        Ok(Outcome::Measured {
            ours: format!("{ours:.2} ms"),
            beside: format!("crun {crun:.2} ms ({} without seccomp)", said(open)),
            figure: format!("{:.2} ×", ours / crun),
            met: ours <= 0.8 * crun,
        })
    };
    let second = || -> Result<Outcome> {
        let (ours, ch_run) = (ours.first()?.median(), ch_run.first()?.median());
        Ok(Outcome::Measured {
            ours: format!("{ours:.2} ms"),
            beside: format!("ch-run {ch_run:.2} ms, bwrap {} ms", said(bwrap)),
            figure: format!("{:+.2} ms", ours - ch_run),
            met: ours <= ch_run + 2.0,
        })
    };
    vec![
        Row::new(what, "≤ 0.8 × crun", first()),
        Row::new(what, "aim: ≤ ch-run + 2 ms", second()),
    ]
}

pub(super) fn process(stage: &Stage) -> Vec<Row> {
    let ours = stage
        .hyperion("main")
        .args(["run", "--rm", "--isolation", "process"])
        .args([stage.tiny().join("bin/true")]);
    let cases = vec![
        Case::wall("fork + exec", host_true(stage)),
        Case::wall("hyperion, process", ours),
    ];
    let samples = alternate(cases, ROUNDS, WARM_UP);
    vec![Row::new(
        "start of `true`, process",
        "≤ fork/exec + 1.5 ms",
        difference(&samples[1], &samples[0], 1.5),
    )]
}

pub(super) fn cached(stage: &Stage) -> Vec<Row> {
    let ready = stage.import_tiny().and_then(|()| stage.import_real());
    let outcome = ready.and_then(|()| {
        let image = |name| {
            stage
                .hyperion("main")
                .args(["run", "--rm", name, "/opt/true"])
        };
        let cases = vec![
            Case::wall("tiny image", image("tiny")),
            Case::wall("real image", image("real")),
        ];
        let samples = alternate(cases, ROUNDS, WARM_UP);
        difference(&samples[1], &samples[0], 1.0)
    });
    vec![Row::new(
        "second start of a cached image of 13,000 files",
        "≤ tiny image + 1 ms",
        outcome,
    )]
}

pub(super) fn parallel(stage: &Stage) -> Vec<Row> {
    let imported = stage.import_tiny();
    let ours = |name, flags: &[&str]| match &imported {
        Ok(()) => {
            let command = true_in_tiny(stage, flags);
            Case::new(name, move || starts_per_second(|_| command.clone()))
        }
        Err(error) => out(name, error),
    };
    let crun = crun(stage, true).map(|command| {
        Case::new("crun", move || {
            starts_per_second(|lane| command(&format!("lane-{lane}")))
        })
    });
    let cases = vec![
        ours("hyperion", &[]),
        // What crun's bundle has: no writable layer is made and removed.
        ours("hyperion, read-only root", &["--read-only"]),
        crun.unwrap_or_else(|error| out("crun", &error)),
    ];
    let samples = alternate(cases, 7, 1);
    let against_crun = |ours: &Sample| -> Result<Outcome> {
        let (ours, crun) = (ours.first()?.median(), samples[2].first()?.median());
        Ok(Outcome::Measured {
            ours: format!("{ours:.0} /s"),
            beside: format!("crun {crun:.0} /s"),
            figure: format!("{:.2} ×", ours / crun),
            met: ours >= 2.0 * crun,
        })
    };
    let what = format!("starts per second, {LANES} in parallel");
    let read_only = format!("{what}, root read-only as crun's");
    vec![
        Row::new(what, "≥ 2 × crun", against_crun(&samples[0])),
        Row::new(read_only, "≥ 2 × crun", against_crun(&samples[1])),
    ]
}

/// Memory of supervisor and init of a job that sleeps: proportional set size.
pub(super) fn memory(stage: &Stage) -> Vec<Row> {
    let outcome = stage.import_tiny().and_then(|()| {
        let before = own_processes(stage)?;
        let name = "bench-memory";
        let stop = || {
            let remove = stage.hyperion("main").args(["rm", "--force", name]);
            let _ = remove.run();
        };
        stop();
        in_tiny(stage, &["-d", "--name", name])
            .args(["/opt/wait"])
            .run()?;
        // The start is over when the program is there; then the fence's own pages are at rest.
        let measured = settle(|| {
            let new: Vec<u32> = own_processes(stage)?.difference(&before).copied().collect();
            if new.is_empty() {
                bail!("no process of {} is left", stage.binary().display());
            }
            let mut sum = 0.0;
            for pid in &new {
                sum += pss_kib(*pid)?;
            }
            Ok((sum / 1024.0, new.len()))
        });
        stop();
        let (mib, count) = measured?;
        Ok(Outcome::Measured {
            ours: format!("{mib:.2} MiB"),
            beside: format!("PSS of {count} processes"),
            figure: format!("{mib:.2} MiB"),
            met: mib <= 3.0,
        })
    });
    vec![Row::new("own memory per running job", "≤ 3 MiB", outcome)]
}

/// Looks until two looks agree, at most three seconds.
pub(super) fn settle<T: PartialEq>(mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut last = look();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let next = look();
        match (&last, &next) {
            (Ok(a), Ok(b)) if a == b => return next,
            _ if start.elapsed() > Duration::from_secs(3) => return next,
            _ => last = next,
        }
    }
}

/// The processes of the binary that is measured and all that they started, less the program.
///
/// Inside a container the binary's path may be another, so parents count too.
pub(super) fn own_processes(stage: &Stage) -> Result<BTreeSet<u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // One that ends meanwhile is none of ours any more.
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        if let Some(parent) = parent.and_then(|text| text.trim().parse::<u32>().ok()) {
            parents.insert(pid, (parent, exe));
        }
    }
    let is_ours = |pid: u32| {
        let mut at = Some(pid);
        while let Some((parent, exe)) = at.and_then(|pid| parents.get(&pid)) {
            if exe == stage.binary() {
                return true;
            }
            at = Some(*parent);
        }
        false
    };
    let own = parents
        .iter()
        .filter(|(_, (_, exe))| !exe.ends_with("wait"));
    Ok(own
        .map(|(pid, _)| *pid)
        .filter(|pid| is_ours(*pid))
        .collect())
}

pub(super) fn pss_kib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("no Pss in {path}"))
}

fn starts_per_second(command: impl Fn(usize) -> Cmd + Sync) -> Result<Vec<f64>> {
    let start = Instant::now();
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let command = command(lane);
                scope.spawn(move || (0..STARTS).try_for_each(|_| command.time().map(drop)))
            })
            .collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| bail!("a lane panicked")))
            .collect()
    });
    let took = start.elapsed().as_secs_f64();
    results.into_iter().collect::<Result<()>>()?;
    Ok(vec![(LANES * STARTS) as f64 / took])
}

fn host_true(stage: &Stage) -> Cmd {
    cmd![stage.tiny().join("bin/true")]
}

/// `true` of the tiny image; with flags, what follows is the caller's.
fn in_tiny(stage: &Stage, flags: &[&str]) -> Cmd {
    stage
        .hyperion("main")
        .args(["run"])
        .args(flags)
        .args(["tiny"])
}

fn true_in_tiny(stage: &Stage, flags: &[&str]) -> Cmd {
    let flags = [&["--rm"], flags].concat();
    in_tiny(stage, &flags).args(["/bin/true"])
}

/// crun on the bundle, by the name of the container.
fn crun(stage: &Stage, with_seccomp: bool) -> Result<impl Fn(&str) -> Cmd + Sync + use<>> {
    let bundle = stage.bundle(with_seccomp)?;
    let state = stage.fresh("crun")?;
    Ok(move |name: &str| {
        cmd!["crun", "--root", &state, "run", "--bundle", &bundle]
            .args([format!("hyperion-bench-{name}")])
    })
}

fn bwrap(stage: &Stage) -> Cmd {
    cmd![
        "bwrap",
        "--ro-bind",
        stage.tiny(),
        "/",
        "--unshare-user",
        "--unshare-pid"
    ]
    .args([
        "--unshare-ipc",
        "--unshare-uts",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "/bin/true",
    ])
}

/// The median in words; a peer that could not be measured is no reason to say nothing.
fn said(sample: &Sample) -> String {
    let median = sample.first().map(|series| series.median());
    median.map_or_else(|_| "?".into(), |median| format!("{median:.2}"))
}

/// A case that cannot be measured, and why.
pub(super) fn out(name: &'static str, error: &anyhow::Error) -> Case<'static> {
    let reason = format!("{error:#}");
    Case::new(name, move || bail!("{reason}"))
}

fn difference(ours: &Sample, base: &Sample, limit: f64) -> Result<Outcome> {
    let (over, name) = (base.first()?.median(), base.name);
    let ours = ours.first()?.median();
    let more = ours - over;
    Ok(Outcome::Measured {
        ours: format!("{ours:.2} ms"),
        beside: format!("{name} {over:.2} ms"),
        figure: format!("{more:+.2} ms"),
        met: more <= limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_over_the_limit_misses_the_bar() {
        let sample = |name, ms: f64| {
            let case = Case::new(name, move || Ok(vec![ms]));
            alternate(vec![case], 3, 0).remove(0)
        };
        let base = sample("base", 1.0);
        for (ms, expected) in [(2.0, true), (3.0, false)] {
            let outcome = difference(&sample("ours", ms), &base, 1.5).expect("measured");
            assert!(matches!(outcome, Outcome::Measured { met, .. } if met == expected));
        }
    }

    #[test]
    fn the_memory_of_this_process_is_found() {
        assert!(pss_kib(std::process::id()).expect("readable") > 0.0);
    }
}
