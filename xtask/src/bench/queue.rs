//! The queue: how many short jobs go through it, how soon one begins, and what a long
//! queue costs. Beside Slurm of Debian's packages, and HyperQueue where `hq` is on PATH,
//! each with daemons of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::ops::Not as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::page::{Outcome, Row};
use super::sample::milliseconds;
use super::slurm::Slurm;
use super::stage::Stage;

/// So many jobs go through.
const JOBS: usize = 1000;
/// So many wait, where many do.
const MANY: usize = 10_000;
/// And so many, where very many do.
const VERY_MANY: usize = 100_000;
/// How often what takes a moment is done.
const TIMES: usize = 300;
/// Where there is no Slurm beside it: its jobs per second in its best configuration.
const SLURM_ON_ANOTHER_DAY: f64 = 48.0;
/// How long anything may take on a slow host.
const PATIENCE: Duration = Duration::from_secs(300);

/// All rows.
pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    let one = Row::new(
        format!("{JOBS} jobs of `true`, submitted one by one, to the last end"),
        "≥ 10 × Slurm, ≥ HyperQueue",
        one_by_one(stage),
    );
    let array = Row::new(
        format!("the same as one array of {JOBS}"),
        "≥ 1000 per s, ≥ HyperQueue",
        array(stage),
    );
    let latency = Row::new(
        "from the start of `submit` to the first word of its shell",
        "< 10 ms",
        latency(stage),
    );
    let trip = Row::new(
        format!("`submit` round trip with {MANY} queued, 99th percentile"),
        "< 5 ms",
        round_trip(stage),
    );
    let mut rows = vec![one, array, latency, trip];
    let memory = format!("server memory with {VERY_MANY} queued");
    let restart = format!("server restart with {VERY_MANY} queued");
    match long(stage) {
        Ok((its_memory, its_restart)) => {
            rows.push(Row::new(memory, "< 200 MiB", Ok(its_memory)));
            rows.push(Row::new(restart, "< 2 s", Ok(its_restart)));
        }
        Err(error) => {
            let again = anyhow::anyhow!("{error:#}");
            rows.push(Row::new(memory, "< 200 MiB", Err(error)));
            rows.push(Row::new(restart, "< 2 s", Err(again)));
        }
    }
    rows
}

/// A queue with a server, and a folder for scripts.
pub(super) struct Queue<'a> {
    stage: &'a Stage,
    root: PathBuf,
    pub(super) work: PathBuf,
}

impl<'a> Queue<'a> {
    pub(super) fn start(stage: &'a Stage, name: &str) -> Result<Self> {
        let root = stage.fresh(&format!("queue-{name}"))?;
        let work = root.join("work");
        fs::create_dir(&work)?;
        fs::write(work.join("true.sh"), "#!/bin/true\n#SBATCH -o /dev/null\n")?;
        let queue = Self { stage, root, work };
        queue.run(&["submit", "--wait", "true.sh"])?;
        Ok(queue)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.stage.binary());
        command
            .args(words)
            .env("HYPERION_ROOT", &self.root)
            .current_dir(&self.work);
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        let done = self.command(words).stderr(Stdio::inherit()).output()?;
        if !done.status.success() {
            bail!("hyperion {} ended with {}", words.join(" "), done.status);
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Waits until nothing is queued.
    pub(super) fn until_empty(&self) -> Result<()> {
        let began = Instant::now();
        while !self.run(&["--output", "quiet", "queue"])?.is_empty() {
            if began.elapsed() > PATIENCE {
                bail!("the queue does not become empty");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Connects as the verbs do.
    fn connect(&self) -> Result<Talk> {
        let stream = UnixStream::connect(self.root.join("queue/socket"))?;
        Ok(Talk {
            answers: BufReader::new(stream.try_clone()?),
            stream,
        })
    }

    /// The jobs that have ended, from the first submission to the last end, in seconds.
    fn span(&self, first: u64) -> Result<f64> {
        let all = self.run(&["--output", "json", "history"])?;
        let all: Vec<Value> = serde_json::from_str(&all)?;
        let of = |key: &str| -> Vec<u64> {
            let these = all.iter().filter(|job| job["job"].as_u64() >= Some(first));
            these.filter_map(|job| job[key].as_u64()).collect()
        };
        let (from, to) = (of("submitted"), of("ended"));
        if to.len() < JOBS {
            bail!("only {} of {JOBS} have ended", to.len());
        }
        let from = from.iter().min().context("nothing was submitted")?;
        let to = to.iter().max().context("nothing ended")?;
        Ok((to - from) as f64 / 1e6)
    }

    /// The process of the server.
    fn server(&self) -> Result<u64> {
        let mut talk = self.connect()?;
        let who = talk.ask(&json!("who"))?;
        who["server"]["process"].as_u64().context("it has a number")
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        let mut stop = self.command(&["serve", "--stop"]);
        let _ = stop.stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A connection to the server.
struct Talk {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Talk {
    fn ask(&mut self, question: &Value) -> Result<Value> {
        self.send(&[question])?;
        self.answer()
    }

    fn send(&mut self, questions: &[&Value]) -> Result<()> {
        let mut text = String::new();
        for question in questions {
            text += &question.to_string();
            text.push('\n');
        }
        Ok(self.stream.write_all(text.as_bytes())?)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)?;
        if let Some(refused) = answer.get("refused") {
            bail!("refused: {refused}");
        }
        Ok(answer)
    }
}

/// HyperQueue, with a worker for all processors.
struct Hq {
    folder: PathBuf,
    running: Vec<Child>,
}

impl Hq {
    fn start(stage: &Stage) -> Result<Self> {
        let folder = stage.fresh("hq")?;
        let mut hq = Self {
            folder,
            running: Vec::new(),
        };
        let found = hq.command(&["--version"]).stdout(Stdio::null()).status();
        if found.is_err() {
            bail!("`hq` is not on PATH");
        }
        for words in [&["server", "start"][..], &["worker", "start"]] {
            let mut command = hq.command(words);
            let command = command.stdout(Stdio::null()).stderr(Stdio::null());
            hq.running.push(command.spawn()?);
            std::thread::sleep(Duration::from_secs(1));
        }
        hq.submit(&[])?;
        Ok(hq)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("hq");
        command.arg("--server-dir").arg(&self.folder).args(words);
        command.current_dir(&self.folder);
        command
    }

    fn submit(&self, flags: &[&str]) -> Result<()> {
        let words = ["submit", "--stdout=none", "--stderr=none", "--quiet"];
        let mut command = self.command(&[&words, flags, &["--", "/bin/true"]].concat());
        let done = command.stdout(Stdio::null()).status()?;
        match done.success() {
            true => Ok(()),
            false => bail!("hq submit ended with {done}"),
        }
    }

    fn one_by_one(&self) -> Result<f64> {
        let began = Instant::now();
        for _ in 0..JOBS {
            self.submit(&[])?;
        }
        let waited = self
            .command(&["job", "wait", "all"])
            .stdout(Stdio::null())
            .status()?;
        match waited.success() {
            true => Ok(JOBS as f64 / began.elapsed().as_secs_f64()),
            false => bail!("hq job wait ended with {waited}"),
        }
    }

    fn array(&self) -> Result<f64> {
        let began = Instant::now();
        self.submit(&["--wait", &format!("--array=1-{JOBS}")])?;
        Ok(JOBS as f64 / began.elapsed().as_secs_f64())
    }
}

impl Drop for Hq {
    fn drop(&mut self) {
        for child in self.running.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Puts ours beside the others', where they are. All are jobs per second; `bar` says
/// which ours must reach, given Slurm's.
fn rates(ours: f64, slurm: Result<f64>, hq: Result<f64>, bar: fn(f64) -> f64) -> Outcome {
    let said = |name: &str, rate: &Result<f64>| match rate {
        Ok(rate) => format!("{name} {rate:.0} per s"),
        Err(why) => format!("{name}: {why:#}"),
    };
    let beside = [said("Slurm", &slurm), said("HyperQueue", &hq)].join("; ");
    let slurm = slurm.unwrap_or(SLURM_ON_ANOTHER_DAY);
    Outcome::Measured {
        ours: format!("{ours:.0} per s"),
        beside,
        figure: format!("{:.1} × Slurm", ours / slurm),
        met: ours >= bar(slurm) && hq.is_ok_and(|hq| ours < hq).not(),
    }
}

fn one_by_one(stage: &Stage) -> Result<Outcome> {
    let queue = Queue::start(stage, "one")?;
    for _ in 0..JOBS {
        queue.run(&["submit", "true.sh"])?;
    }
    queue.until_empty()?;
    let ours = JOBS as f64 / queue.span(2)?;
    let slurm = Slurm::start(stage).and_then(|slurm| slurm.one_by_one(JOBS));
    let hq = Hq::start(stage).and_then(|hq| hq.one_by_one());
    Ok(rates(ours, slurm, hq, |slurm| 10.0 * slurm))
}

fn array(stage: &Stage) -> Result<Outcome> {
    let queue = Queue::start(stage, "array")?;
    let flag = format!("--array=1-{JOBS}");
    let mut best = Vec::new();
    for round in 0..5 {
        queue.run(&["submit", "--wait", &flag, "true.sh"])?;
        best.push(JOBS as f64 / queue.span(round + 2)?);
    }
    best.sort_unstable_by(f64::total_cmp);
    let slurm = Slurm::start(stage).and_then(|slurm| slurm.array(JOBS));
    let hq = Hq::start(stage).and_then(|hq| hq.array());
    Ok(rates(best[best.len() / 2], slurm, hq, |_| 1000.0))
}

fn latency(stage: &Stage) -> Result<Outcome> {
    let queue = Queue::start(stage, "latency")?;
    let pipe = queue.work.join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status()?;
    if !made.success() {
        bail!("mkfifo ended with {made}");
    }
    let script = format!(
        "#!/bin/sh\n#SBATCH -o /dev/null\necho > {}\n",
        pipe.display()
    );
    fs::write(queue.work.join("word.sh"), script)?;
    let mut times = Vec::new();
    for _ in 0..TIMES / 3 {
        // Open for both, so that neither end waits for the other.
        let mut options = fs::File::options();
        let mut word = options.read(true).write(true).open(&pipe)?;
        let began = Instant::now();
        let mut submit = queue.command(&["submit", "word.sh"]);
        let mut submit = submit.stdout(Stdio::null()).spawn()?;
        word.read_exact(&mut [0])?;
        times.push(milliseconds(began.elapsed()));
        submit.wait()?;
        while !queue.run(&["--output", "quiet", "queue"])?.is_empty() {}
    }
    times.sort_unstable_by(f64::total_cmp);
    let median = times[times.len() / 2];
    Ok(Outcome::Measured {
        ours: format!("{median:.2} ms"),
        beside: "HyperQueue 6.4 ms, Slurm 44 ms, on another day".into(),
        figure: format!("{median:.2} ms"),
        met: median < 10.0,
    })
}

/// What is submitted where many wait: a job that is not to start.
fn waiting(queue: &Queue<'_>) -> Result<Value> {
    let words = [
        "--output",
        "json",
        "submit",
        "--dry-run",
        "--hold",
        "true.sh",
    ];
    let mut submission: Value = serde_json::from_str(&queue.run(&words)?)?;
    let variables: serde_json::Map<String, Value> = std::env::vars()
        .map(|(name, value)| (name, value.into()))
        .collect();
    submission["origin"] = json!({
        "folder": "/tmp", "host": "here", "user": "root", "home": "/root", "umask": 18,
        "variables": variables,
    });
    Ok(json!({ "submit": submission }))
}

fn fill(talk: &mut Talk, question: &Value, count: usize) -> Result<()> {
    const AT_ONCE: usize = 100;
    for _ in 0..count / AT_ONCE {
        talk.send(&[question; AT_ONCE])?;
        for _ in 0..AT_ONCE {
            talk.answer()?;
        }
    }
    Ok(())
}

fn round_trip(stage: &Stage) -> Result<Outcome> {
    let queue = Queue::start(stage, "trip")?;
    let mut question = waiting(&queue)?;
    // They wait for room, as those of a busy site do: two that take all come before.
    let cores = std::thread::available_parallelism()?.get();
    let all = format!("--ntasks={cores}");
    queue.run(&["submit", &all, "--wrap=sleep 600"])?;
    question["submit"]["hold"] = false.into();
    let mut talk = queue.connect()?;
    fill(&mut talk, &question, MANY)?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        talk.ask(&question)?;
        times.push(milliseconds(began.elapsed()));
    }
    times.sort_unstable_by(f64::total_cmp);
    let (median, worst) = (times[TIMES / 2], times[TIMES * 99 / 100]);
    queue.run(&["cancel", "2"])?;
    Ok(Outcome::Measured {
        ours: format!("{worst:.2} ms, median {median:.2} ms"),
        beside: "–".into(),
        figure: format!("{worst:.2} ms"),
        met: worst < 5.0,
    })
}

fn long(stage: &Stage) -> Result<(Outcome, Outcome)> {
    let queue = Queue::start(stage, "long")?;
    let question = waiting(&queue)?;
    let mut talk = queue.connect()?;
    fill(&mut talk, &question, VERY_MANY)?;
    let memory = resident(queue.server()?)?;
    drop(talk);
    queue.run(&["serve", "--stop"])?;
    let began = Instant::now();
    queue.run(&["submit", "--hold", "true.sh"])?;
    let restart = began.elapsed().as_secs_f64();
    let metrics = queue.run(&["metrics"])?;
    let kept = format!("hyperion_tasks{{state=\"held\"}} {}", VERY_MANY + 1);
    if !metrics.lines().any(|line| line == kept) {
        bail!("some of {VERY_MANY} are not there any more");
    }
    let memory = Outcome::Measured {
        ours: format!("{memory:.0} MiB"),
        beside: "–".into(),
        figure: format!("{memory:.0} MiB"),
        met: memory < 200.0,
    };
    let restart = Outcome::Measured {
        ours: format!("{restart:.2} s"),
        beside: "–".into(),
        figure: format!("{restart:.2} s"),
        met: restart < 2.0,
    };
    Ok((memory, restart))
}

/// The memory of a process that is its own, in MiB.
fn resident(process: u64) -> Result<f64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(Path::new(&path))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = number.context("Pss is there")?.parse()?;
    Ok(kib / 1024.0)
}
