//! What the fence costs a parallel program: messages and a heat equation.

use anyhow::{Context as _, Result};

use super::command::{Cmd, cmd};
use super::page::{Outcome, Row};
use super::sample::{Case, Sample, alternate, milliseconds};
use super::stage::Stage;

const ROUNDS: usize = 41;

pub(super) fn messages(stage: &Stage) -> Vec<Row> {
    let mut rows = vec![];
    for (family, name) in [("mpich", "MPICH"), ("openmpi", "Open MPI")] {
        match family_samples(stage, family) {
            Ok(samples) => {
                for level in &samples[1..] {
                    for (index, what) in [(0, "8 B latency"), (1, "4 MiB bandwidth")] {
                        let what = format!("{name}, {what}, {}", level.name);
                        let outcome = compare(level, &samples[0], index);
                        rows.push(Row::new(what, "within 3 % of native", outcome));
                    }
                }
            }
            Err(error) => rows.push(Row::new(
                format!("{name}, messages"),
                "within 3 % of native",
                Err(error),
            )),
        }
    }
    rows
}

fn family_samples(stage: &Stage, family: &str) -> Result<Vec<Sample>> {
    stage.real()?;
    let program = stage.pingpong(family);
    let native = if family == "mpich" {
        cmd!["mpiexec.mpich", "-n", "2", "-bind-to", "core", &program]
    } else {
        cmd![
            "mpirun.openmpi",
            "--allow-run-as-root",
            "-n",
            "2",
            "--bind-to",
            "core",
            &program
        ]
    };
    let run = || {
        stage
            .hyperion("main")
            .args(["run", "--rm", "-n", "2", "--bind", "core"])
    };
    let process = run().args(["--isolation", "process"]).args([&program]);
    let inside = format!("/opt/pingpong.{family}");
    let container = run().args(["real", &inside]);
    let case = |name, command: Cmd| Case::new(name, move || numbers(&command.output()?));
    let container = match stage.import_real() {
        Ok(()) => case("container", container),
        Err(error) => {
            let why = format!("{error:#}");
            Case::new("container", move || anyhow::bail!("{why}"))
        }
    };
    let cases = vec![case("native", native), case("process", process), container];
    Ok(alternate(cases, ROUNDS, 1))
}

/// Reads `pingpong LATENCY us BANDWIDTH GB/s`.
fn numbers(output: &str) -> Result<Vec<f64>> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("pingpong "));
    let words: Vec<&str> = line
        .context("the program printed no result")?
        .split(' ')
        .collect();
    match words.as_slice() {
        [latency, "us", bandwidth, "GB/s"] => Ok(vec![latency.parse()?, bandwidth.parse()?]),
        _ => anyhow::bail!("unexpected result {words:?}"),
    }
}

/// Latency must not be above, bandwidth not below, by more than three percent.
fn compare(ours: &Sample, native: &Sample, index: usize) -> Result<Outcome> {
    let (mine, base) = (ours.at(index)?, native.at(index)?);
    let ratio = mine.paired_ratio(base);
    let unit = ["µs", "GB/s"][index];
    Ok(Outcome::Measured {
        ours: format!("{:.2} {unit}", mine.median()),
        beside: format!("native {:.2} {unit}", base.median()),
        figure: format!("{:+.1} %", (ratio - 1.0) * 100.0),
        met: if index == 0 {
            ratio <= 1.03
        } else {
            ratio >= 0.97
        },
    })
}

pub(super) fn heat(stage: &Stage) -> Vec<Row> {
    let outcome = stage.import_real().and_then(|()| {
        let run = || {
            stage
                .hyperion("main")
                .args(["run", "--rm", "-n", "2", "--bind", "core"])
        };
        let examples = stage.workspace.join("examples");
        let process = run()
            .args(["--isolation", "process", "python3"])
            .args([examples.join("heat/heat.py")]);
        let mount = format!("{}:/examples:ro", examples.display());
        let container = run().args(["-v", &mount, "real", "python3", "/examples/heat/heat.py"]);
        let case =
            |name, command: Cmd| Case::new(name, move || Ok(vec![milliseconds(command.time()?)]));
        let cases = vec![case("process", process), case("container", container)];
        let samples = alternate(cases, ROUNDS, 1);
        let (base, mine) = (samples[0].first()?, samples[1].first()?);
        let ratio = mine.paired_ratio(base);
        Ok(Outcome::Measured {
            ours: format!("{:.2} s", mine.median() / 1e3),
            beside: format!("process {:.2} s", base.median() / 1e3),
            figure: format!("{:+.1} %", (ratio - 1.0) * 100.0),
            met: ratio <= 1.01,
        })
    });
    vec![Row::new(
        "heat equation, container against process",
        "within 1 %",
        outcome,
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_line_is_read_and_anything_else_refused() {
        let good = "noise\npingpong 0.1800 us 9.1000 GB/s\n";
        assert_eq!(numbers(good).expect("reads"), [0.18, 9.1]);
        assert!(numbers("pingpong 1 ms 2 GB/s").is_err());
        assert!(numbers("").is_err());
    }

    #[test]
    fn slower_messages_miss_the_bar_and_faster_ones_do_not() {
        let sample = |name, numbers: [f64; 2]| {
            alternate(vec![Case::new(name, move || Ok(numbers.to_vec()))], 3, 0).remove(0)
        };
        let native = sample("native", [1.0, 10.0]);
        let met = |numbers, index| {
            let outcome = compare(&sample("ours", numbers), &native, index).expect("measured");
            matches!(outcome, Outcome::Measured { met: true, .. })
        };
        assert!(met([0.5, 20.0], 0) && met([0.5, 20.0], 1));
        assert!(!met([1.05, 20.0], 0) && !met([0.5, 9.6], 1));
    }
}
