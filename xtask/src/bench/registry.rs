//! How fast a real image moves to and from a registry on loopback.

use anyhow::{Context as _, Result};
use hyperion_testkit::{DockerRegistry, RegistryOptions, TestDir};

use super::command::cmd;
use super::page::{Outcome, Row};
use super::sample::{Case, Sample, alternate, milliseconds};
use super::stage::Stage;

const ROUNDS: usize = 7;
const LIMIT: f64 = 1.3;
const BAR: &str = "≤ 1.3 × skopeo";

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    [
        ("push the real image to a registry", push as fn(&Stage) -> _),
        ("pull the real image from a registry", pull),
    ]
    .map(|(what, measure)| Row::new(what, BAR, measure(stage).and_then(|s| ratio(&s))))
    .into()
}

/// Both send to an empty registry, so that nothing is there already.
fn push(stage: &Stage) -> Result<Vec<Sample>> {
    let layout = stage.real()?;
    let seed = start(stage)?;
    copy(&layout, &name(&seed)).run()?;
    stage.tidy_up(&stage.dir.join("stores/push"))?;
    let hyperion = |verb: &str| stage.hyperion("push").args([verb, "--insecure"]);
    hyperion("pull").args([name(&seed)]).run()?;
    let ours = || {
        let registry = start(stage)?;
        let push = hyperion("push").args([name(&registry), name(&seed)]);
        Ok(vec![milliseconds(push.time()?)])
    };
    let skopeo = || {
        let registry = start(stage)?;
        Ok(vec![milliseconds(copy(&layout, &name(&registry)).time()?)])
    };
    let cases = vec![Case::new("hyperion", ours), Case::new("skopeo", skopeo)];
    Ok(alternate(cases, ROUNDS, 1))
}

/// Both fetch into an empty folder.
fn pull(stage: &Stage) -> Result<Vec<Sample>> {
    let registry = start(stage)?;
    copy(&stage.real()?, &name(&registry)).run()?;
    let ours = || {
        stage.tidy_up(&stage.dir.join("stores/pull"))?;
        let pull = stage.hyperion("pull").args(["pull", "--insecure"]);
        Ok(vec![milliseconds(pull.args([name(&registry)]).time()?)])
    };
    let skopeo = || {
        let into = stage.dir.join("fresh/skopeo");
        stage.tidy_up(&into)?;
        let from = format!("docker://{}", name(&registry));
        let copy = cmd!["skopeo", "copy", "--quiet", "--insecure-policy"]
            .args(["--src-tls-verify=false", &from])
            .args([format!("oci:{}:real", into.display())]);
        Ok(vec![milliseconds(copy.time()?)])
    };
    let cases = vec![Case::new("hyperion", ours), Case::new("skopeo", skopeo)];
    Ok(alternate(cases, ROUNDS, 1))
}

fn copy(layout: &std::path::Path, name: &str) -> super::command::Cmd {
    cmd!["skopeo", "copy", "--quiet", "--insecure-policy"]
        .args(["--dest-tls-verify=false"])
        .args([format!("oci:{}:real", layout.display())])
        .args([format!("docker://{name}")])
}

fn ratio(samples: &[Sample]) -> Result<Outcome> {
    let (ours, theirs) = (samples[0].first()?, samples[1].first()?);
    let ratio = ours.paired_ratio(theirs);
    Ok(Outcome::Measured {
        ours: format!("{:.2} s", ours.median() / 1e3),
        beside: format!("skopeo {:.2} s", theirs.median() / 1e3),
        figure: format!("{ratio:.2} ×"),
        met: ratio <= LIMIT,
    })
}

/// An empty registry on the disk of the bench; it ends when dropped.
fn start(stage: &Stage) -> Result<DockerRegistry> {
    let folder = stage.dir.join("fresh/registries");
    std::fs::create_dir_all(&folder)?;
    let data = TestDir::below(&folder);
    // What an earlier one had is removed, and the disk comes to rest.
    stage.tidy_up(&data.join("data"))?;
    DockerRegistry::start_in(data, RegistryOptions::default())
        .context("cannot start docker-registry")
}

fn name(registry: &DockerRegistry) -> String {
    format!("{}/real:1", registry.host())
}
