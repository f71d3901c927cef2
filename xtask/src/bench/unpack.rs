//! How fast a real image becomes a root file system.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::command::cmd;
use super::page::{Outcome, Row};
use super::sample::{Case, Sample, alternate, milliseconds};
use super::stage::Stage;

const WHAT: &str = "unpack the real image from an OCI layout";
const ROUNDS: usize = 5;

/// Each peer and its bar, in the order of the cases after ours.
const BARS: [(&str, f64); 3] = [
    ("≤ 1.3 × gzip + tar", 1.3),
    ("≤ 0.5 × umoci", 0.5),
    ("≤ 0.5 × podman", 0.5),
];

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    let samples = measure(stage).map_err(|error| format!("{error:#}"));
    let outcome = |at: usize, limit| match &samples {
        Ok(samples) => ratio(&samples[0], &samples[at + 1], limit),
        Err(why) => Err(anyhow::anyhow!(why.clone())),
    };
    BARS.iter()
        .enumerate()
        .map(|(at, (bar, limit))| Row::new(WHAT, bar, outcome(at, *limit)))
        .collect()
}

fn measure(stage: &Stage) -> Result<Vec<Sample>> {
    let layer = stage.real_layer()?;
    let layout = stage.real()?;
    // Everything is in the page cache for all alike.
    cmd!["sh", "-c", "cat \"$1\" >/dev/null", "sh", &layer].run()?;
    let image = format!("{}:real", layout.display());
    let into = stage.dir.join("fresh");
    let ours = || {
        let load = stage.load(layout.clone(), "unpack").time()?;
        let unpack = stage
            .hyperion("unpack")
            .args(["run", "--rm", "real", "true"])
            .time()?;
        Ok(load + unpack)
    };
    let tar = || {
        let script = "gzip -dc \"$1\" | tar -x --numeric-owner -p -C \"$2\"";
        cmd!["sh", "-c", script, "sh", &layer, stage.fresh("tar")?].time()
    };
    let umoci = || {
        let bundle = stage.fresh("umoci")?.join("bundle");
        cmd!["umoci", "unpack", "--image", &image, bundle].time()
    };
    let podman = || {
        let (root, run) = (stage.fresh("podman-root")?, stage.fresh("podman-run")?);
        let command = cmd!["podman", "--root", &root, "--runroot", run]
            .args(["--storage-driver", "overlay", "pull", "--quiet"])
            .args([format!("oci:{image}")]);
        let took = command.time();
        // podman leaves a mount over its own folder.
        let _ = cmd!["umount", root.join("overlay")].run();
        took
    };
    let samples = alternate(
        vec![
            alone(stage, "hyperion", &stage.dir.join("stores/unpack"), ours),
            alone(stage, "gzip + tar", &into, tar),
            alone(stage, "umoci", &into, umoci),
            alone(stage, "podman", &into, podman),
        ],
        ROUNDS,
        0,
    );
    Ok(samples)
}

/// A case that does not pay for what another left: removed and written back, before and after.
fn alone<'a>(
    stage: &'a Stage,
    name: &'static str,
    leftovers: &Path,
    measure: impl Fn() -> Result<Duration> + 'a,
) -> Case<'a> {
    let leftovers = leftovers.to_path_buf();
    Case::new(name, move || {
        stage.tidy_up(&leftovers)?;
        let took = measure();
        stage.tidy_up(&leftovers)?;
        Ok(vec![milliseconds(took?)])
    })
}

fn ratio(ours: &Sample, peer: &Sample, limit: f64) -> Result<Outcome> {
    let (mine, theirs) = (ours.first()?, peer.first()?);
    let ratio = mine.median() / theirs.median();
    Ok(Outcome::Measured {
        ours: format!("{:.2} s", mine.median() / 1e3),
        beside: format!("{} {:.2} s", peer.name, theirs.median() / 1e3),
        figure: format!("{ratio:.2} ×"),
        met: ratio <= limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_limit_misses_the_bar() {
        let sample =
            |ms: f64| alternate(vec![Case::new("x", move || Ok(vec![ms]))], 3, 0).remove(0);
        for (ms, expected) in [(120.0, true), (140.0, false)] {
            let outcome = ratio(&sample(ms), &sample(100.0), 1.3).expect("measured");
            assert!(matches!(outcome, Outcome::Measured { met, .. } if met == expected));
        }
    }
}
