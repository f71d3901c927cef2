//! How fast a real image moves to and from a registry on loopback.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

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
    let seed = Registry::start(stage, "seed")?;
    copy(&layout, &seed.name()).run()?;
    stage.tidy_up(&stage.dir.join("stores/push"))?;
    let hyperion = |verb: &str| stage.hyperion("push").args([verb, "--insecure"]);
    hyperion("pull").args([seed.name()]).run()?;
    let ours = || {
        let registry = Registry::start(stage, "ours")?;
        let push = hyperion("push").args([registry.name(), seed.name()]);
        Ok(vec![milliseconds(push.time()?)])
    };
    let skopeo = || {
        let registry = Registry::start(stage, "theirs")?;
        Ok(vec![milliseconds(copy(&layout, &registry.name()).time()?)])
    };
    let cases = vec![Case::new("hyperion", ours), Case::new("skopeo", skopeo)];
    Ok(alternate(cases, ROUNDS, 1))
}

/// Both fetch into an empty folder.
fn pull(stage: &Stage) -> Result<Vec<Sample>> {
    let registry = Registry::start(stage, "seed")?;
    copy(&stage.real()?, &registry.name()).run()?;
    let ours = || {
        stage.tidy_up(&stage.dir.join("stores/pull"))?;
        let pull = stage.hyperion("pull").args(["pull", "--insecure"]);
        Ok(vec![milliseconds(pull.args([registry.name()]).time()?)])
    };
    let skopeo = || {
        let into = stage.dir.join("fresh/skopeo");
        stage.tidy_up(&into)?;
        let from = format!("docker://{}", registry.name());
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

/// Debian's registry on a port of loopback; it ends when dropped.
struct Registry {
    host: String,
    child: Child,
}

impl Registry {
    fn start(stage: &Stage, name: &str) -> Result<Self> {
        let dir = stage.fresh(&format!("registry-{name}"))?;
        stage.tidy_up(&dir.join("data"))?;
        let file = dir.join("config.yml");
        let root = dir.join("data");
        // Port 0 lets the kernel choose; the log tells which.
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:0}}\n",
            root.display()
        );
        fs::write(&file, config)?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start docker-registry")?;
        let log = child.stderr.take().context("its log is no pipe")?;
        let mut lines = BufReader::new(log).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()
        });
        let mut registry = Self {
            host: String::new(),
            child,
        };
        let port: u16 = port.context("docker-registry does not say where it listens")?;
        registry.host = format!("127.0.0.1:{port}");
        // A full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(registry)
    }

    fn name(&self) -> String {
        format!("{}/real:1", self.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
