//! How fast a real image becomes a root file system.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::command::cmd;
use super::page::{Outcome, Row};
use super::sample::{Case, Sample, alternate, milliseconds};
use super::stage::Stage;

const WHAT: &str = "unpack the real image from an OCI layout";
const ROUNDS: usize = 3;

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    let bars = ["≤ 1.3 × gzip + tar", "≤ 0.5 × umoci", "≤ 0.5 × podman"];
    let samples = match measure(stage) {
        Ok(samples) => samples,
        Err(error) => {
            let why = format!("{error:#}");
            return bars
                .map(|bar| Row::new(WHAT, bar, Err(anyhow::anyhow!(why.clone()))))
                .into();
        }
    };
    let limits = [1.3, 0.5, 0.5];
    samples[1..]
        .iter()
        .zip(bars)
        .zip(limits)
        .map(|((peer, bar), limit)| Row::new(WHAT, bar, ratio(&samples[0], peer, limit)))
        .collect()
}

fn measure(stage: &Stage) -> Result<Vec<Sample>> {
    let layer = stage.real_layer()?;
    let layout = stage.real()?;
    // Everything is in the page cache for all alike.
    cmd!["sh", "-c", "cat \"$1\" >/dev/null", "sh", &layer].run()?;
    let ours = {
        let layout = layout.clone();
        Case::new("hyperion", move || {
            clear(&stage.dir.join("stores/unpack"))?;
            let load = stage.load(layout.clone(), "unpack").time()?;
            let unpack = stage
                .hyperion("unpack")
                .args(["image", "unpack", "real"])
                .time()?;
            Ok(vec![milliseconds(load + unpack)])
        })
    };
    let tar = Case::new("gzip -dc | tar -x", move || {
        let to = stage.fresh("tar")?;
        let script = "gzip -dc \"$1\" | tar -x --numeric-owner -p -C \"$2\"";
        Ok(vec![milliseconds(
            cmd!["sh", "-c", script, "sh", &layer, to].time()?,
        )])
    });
    let image = format!("{}:real", layout.display());
    let umoci = Case::new("umoci", move || {
        let to = stage.fresh("umoci")?.join("bundle");
        Ok(vec![milliseconds(
            cmd!["umoci", "unpack", "--image", &image, to].time()?,
        )])
    });
    let source = format!("oci:{}:real", layout.display());
    let podman = Case::new("podman", move || {
        let (root, run) = (stage.fresh("podman-root")?, stage.fresh("podman-run")?);
        // Else podman would find a driver by mounting.
        let command = cmd![
            "podman",
            "--root",
            &root,
            "--runroot",
            &run,
            "--storage-driver",
            "overlay"
        ];
        let took = command.args(["pull", "--quiet", &source]).time()?;
        let _ = cmd!["umount", root.join("overlay")].run();
        Ok(vec![milliseconds(took)])
    });
    let samples = alternate(vec![ours, tar, umoci, podman], ROUNDS, 0);
    clear(&stage.dir.join("fresh"))?;
    clear(&stage.dir.join("stores/unpack"))?;
    Ok(samples)
}

fn clear(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
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
