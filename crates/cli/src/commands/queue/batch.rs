//! A script of a batch system, as a job of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser as _;
use hyperion_formats::jobs::{self, Allocation, Facts, NodeShare};
use hyperion_model::errand::{Batch, Start};
use hyperion_model::submission::{Command, Dialect, Folder, Open, Submission};
use hyperion_model::{JobId, JobSpec, Level};
use hyperion_node::supervisor::Launch;

use crate::args::Cli;
use crate::commands::{Command as Verb, run};
use crate::context::Context;

/// What a job finds programs with where nobody says otherwise.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Settles what a task is to be, and makes its record, with its script in it.
pub(super) fn prepare(start: &Start, ctx: &Context) -> anyhow::Result<Launch> {
    let place = Place::of(&super::folder(ctx), &start.id);
    let submission = &start.submission;
    let folder = folder(submission);
    let words = words(submission, &place, &folder)?;
    let Verb::Run(args) = Cli::try_parse_from(words)?.command else {
        anyhow::bail!("the words of a job do not run anything");
    };
    let told = told(start, &place, &folder);
    lay_down(submission, &place, told.hosts.as_deref())
        .context("cannot write the script of the job")?;
    run::prepare(*args, ctx, start.id.clone(), |job| {
        settle(job, start, &told, &folder);
    })
}

/// Removes the script of a task.
pub(super) fn remove(id: &JobId, ctx: &Context) {
    let _ = fs::remove_dir_all(Place::of(&super::folder(ctx), id).folder);
}

/// Lists the tasks whose scripts lie here.
pub(super) fn all(ctx: &Context) -> Vec<JobId> {
    let folders = fs::read_dir(super::folder(ctx).join("batch"));
    let names = folders.into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Where the files of a script lie, on the host and in every fence.
struct Place {
    folder: PathBuf,
    script: PathBuf,
    hosts: PathBuf,
}

impl Place {
    fn of(queue: &Path, id: &JobId) -> Self {
        let folder = queue.join("batch").join(id.as_str());
        Self {
            script: folder.join("script"),
            hosts: folder.join("hosts"),
            folder,
        }
    }
}

/// Gives the folder in which a job begins.
fn folder(submission: &Submission) -> PathBuf {
    let origin = &submission.origin;
    match &submission.folder {
        Folder::Submission => PathBuf::from(&origin.folder),
        Folder::Home => PathBuf::from(&origin.home),
        Folder::Path(path) => Path::new(&origin.folder).join(path),
    }
}

/// Writes what `hyperion run` would be told.
fn words(submission: &Submission, place: &Place, folder: &Path) -> anyhow::Result<Vec<String>> {
    let fence = &submission.fence;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut words = vec!["hyperion".into(), "run".into(), "--detach".into()];
    words.extend(["--isolation".into(), fence.level.to_string()]);
    words.extend(["--workdir".into(), text(folder)]);
    if fence.level != Level::Process {
        let submitted = Path::new(&submission.origin.folder);
        let mut seen = BTreeSet::from([Path::new("/")]);
        for (folder, suffix) in [(folder, ""), (submitted, ""), (&place.folder, ":ro")] {
            if seen.insert(folder) {
                let path = text(folder);
                words.extend(["--volume".into(), format!("{path}:{path}{suffix}")]);
            }
        }
        words.extend(["--entrypoint".into(), String::new()]);
        words.extend(["--pull".into(), "never".into()]);
    }
    words.extend(fence.flags.iter().cloned());
    words.push("--".into());
    words.extend(
        fence
            .image
            .clone()
            .filter(|_| fence.level != Level::Process),
    );
    match &submission.command {
        Command::Program(program) => words.extend(program.iter().cloned()),
        Command::Script {
            interpreter,
            text: script,
            arguments,
        } => {
            match interpreter {
                Some(line) => words.extend(line.split_whitespace().map(str::to_owned)),
                None if script.starts_with(b"#!") => {}
                None => words.push("/bin/sh".into()),
            }
            words.push(text(&place.script));
            words.extend(arguments.iter().cloned());
        }
    }
    Ok(words)
}

/// What a script is told of where it runs.
struct Told {
    batch: Batch,
    /// The file of hosts.
    hosts: Option<String>,
}

fn told(start: &Start, place: &Place, folder: &Path) -> Told {
    let submission = &start.submission;
    let origin = &submission.origin;
    let share = &start.share;
    let nodes = [NodeShare {
        host: share.host.clone(),
        cpus: u32::try_from(share.cores.0.div_ceil(1000)).unwrap_or(u32::MAX),
        tasks: share.tasks,
        gpus: Vec::new(),
    }];
    let facts = Facts {
        job: start.job,
        array: start.index.map(|index| (start.job, index)),
        name: submission.name.as_deref().unwrap_or("job"),
        user: &origin.user,
        home: &origin.home,
        host: &share.host,
        ..Facts::default()
    };
    let allocation = Allocation {
        facts,
        nodes: &nodes,
        queue: &start.queue,
        cluster: "hyperion",
        submit_folder: &origin.folder,
        submit_host: &origin.host,
        submitter: &origin.variables,
        scratch: "/tmp",
        host_file: &place.hosts.to_string_lossy(),
        restarts: start.restarts,
    };
    let paths = jobs::paths(submission, &facts);
    // PBS and LSF bring files to where the job was submitted, the others to where it begins.
    let base = match submission.dialect {
        Dialect::Slurm | Dialect::Sge => folder,
        Dialect::Pbs | Dialect::Lsf => Path::new(&origin.folder),
    };
    let at = |path: String| base.join(path);
    let files = &submission.files;
    let mut variables = jobs::variables(submission, &allocation);
    // A launcher in the script starts its processes by itself: this host is all there is.
    for (name, value) in [
        ("HYDRA_BOOTSTRAP", "fork"),
        ("HYDRA_RMK", "user"),
        ("OMPI_MCA_plm", "isolated"),
    ] {
        variables.entry(name.into()).or_insert(value.into());
    }
    let again = start.restarts > 0;
    let keep = |open| open == Open::Append || again;
    Told {
        hosts: jobs::host_file(submission.dialect, &allocation),
        batch: Batch {
            variables,
            input: paths.input.map(at),
            output: at(paths.output),
            error: paths.error.map(at),
            append: (keep(files.output.open), keep(files.error.open)),
        },
    }
}

/// Puts into a job what flags do not say.
fn settle(job: &mut JobSpec, start: &Start, told: &Told, folder: &Path) {
    let submission = &start.submission;
    let mut env = match job.level {
        Level::Process => surroundings(submission),
        Level::Container | Level::Vm => std::mem::take(&mut job.env),
    };
    let given = &submission.environment;
    let passed = given.pass.iter().filter_map(|name| {
        let value = submission.origin.variables.get(name)?;
        Some((name.clone(), value.clone()))
    });
    env.extend(passed);
    env.extend(given.set.clone());
    job.env = env;
    job.workdir = Some(folder.to_owned());
    if job.level != Level::Process {
        // As the variables and the file of hosts have it.
        let host = &mut job.container.hostname;
        host.get_or_insert_with(|| start.share.host.clone());
    }
    job.batch = Some(Box::new(told.batch.clone()));
    let resources = &mut job.resources;
    resources.memory = resources.memory.or(start.share.memory);
    if submission
        .parts
        .iter()
        .any(|part| !part.cpus.is_empty() || !part.tasks.is_empty())
    {
        resources.cpus = resources.cpus.or(Some(start.share.cores));
    }
    job.rlimits.extend(submission.rlimits.iter().cloned());
}

/// Gives the variables of who submitted a job, or those of a fresh login.
fn surroundings(submission: &Submission) -> BTreeMap<String, String> {
    let origin = &submission.origin;
    if submission.environment.all {
        return origin.variables.clone();
    }
    let shell = origin
        .variables
        .get("SHELL")
        .map_or("/bin/sh", String::as_str);
    let all = [
        ("HOME", origin.home.as_str()),
        ("USER", &origin.user),
        ("LOGNAME", &origin.user),
        ("SHELL", shell),
        ("PATH", PATH),
    ];
    all.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Writes the script, and the file of hosts.
fn lay_down(submission: &Submission, place: &Place, hosts: Option<&str>) -> io::Result<()> {
    // The user of a container may be another than the one who has it. An agent that was
    // killed here has left something.
    fs::DirBuilder::new()
        .mode(0o755)
        .recursive(true)
        .create(&place.folder)?;
    let write = |path: &Path, mode, bytes: &[u8]| {
        let mut options = fs::File::options();
        let options = options.write(true).create(true).truncate(true).mode(mode);
        options.open(path)?.write_all(bytes)
    };
    if let Command::Script { text, .. } = &submission.command {
        write(&place.script, 0o755, text)?;
    }
    hosts.map_or(Ok(()), |hosts| write(&place.hosts, 0o644, hosts.as_bytes()))
}
