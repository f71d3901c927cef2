//! A script of a batch system, as a job of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context as _;
use hyperion_formats::jobs::{self, Allocation, Facts, NodeShare};
use hyperion_isolation::init::{HOLD, SHIM, SHIM_INSIDE};
use hyperion_model::errand::{Batch, LaneTask, Start};
use hyperion_model::submission::{Command, Dialect, Folder, Open, Submission};
use hyperion_model::{Bytes, Cores, JobId, JobSpec, Level, Resources};
use hyperion_mpi::env::is_foreign_launcher_variable;
use hyperion_node::supervisor::Launch;
use hyperion_sys::cgroup::{Cgroup, Layout};
use hyperion_sys::failpoint;

use crate::args::read_run;
use crate::commands::run;
use crate::config::Queue;
use crate::context::Context;

/// What a job finds programs with where nobody says otherwise.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// What a launcher in a script is told that looks for the batch system's own: it starts
/// its processes by itself, for this host is all there is.
const LAUNCHERS: [(&str, &str); 3] = [
    ("HYDRA_BOOTSTRAP", "fork"),
    ("HYDRA_RMK", "user"),
    ("OMPI_MCA_plm", "isolated"),
];

/// Over what the next script is written, and what it is called until it is whole.
const SPARE: &str = "new";

/// Settles what a task with a fence of its own is to be, and makes its record.
pub(super) fn prepare(start: &Start, ctx: &Context) -> anyhow::Result<Launch> {
    let submission = &start.submission;
    let place = Place::of(ctx, start.job);
    let folder = folder(submission);
    let told = told(start, &place, &folder);
    lay_down(submission, &place, told.hosts.as_deref())?;
    let words = words(submission, &place, &folder);
    run::prepare(read_run(words)?, ctx, start.id.clone(), |job| {
        settle(job, start, &place, told.batch, folder);
    })
}

/// What tasks have in common that one lane can run: what they have of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    cores: Option<Cores>,
    memory: Option<Bytes>,
}

/// Gives the shape of a task that a lane can run; `None` for one with a fence of its own.
pub(super) fn shape(start: &Start) -> Option<Shape> {
    let fence = &start.submission.fence;
    let room = matches!(start.submission.command, Command::Room { .. });
    (fence.level == Level::Process && fence.flags.is_empty() && !room).then(|| Shape {
        cores: limit(start),
        memory: memory(start),
    })
}

/// Settles what a lane is to be, and makes its record.
pub(super) fn lane(shape: Shape, id: JobId, ctx: &Context) -> anyhow::Result<Launch> {
    let words = "hyperion run --detach --isolation process --workdir / lane";
    let words = words.split(' ').map(str::to_owned).collect();
    run::prepare(read_run(words)?, ctx, id, |job| {
        job.lane = true;
        job.for_host = super::is_for_host(ctx);
        job.env.clear();
        job.resources.cpus = shape.cores;
        job.resources.memory = shape.memory;
    })
}

/// Settles what a lane is to do for a task, and writes its script.
pub(super) fn task(start: &Start, ctx: &Context) -> anyhow::Result<LaneTask> {
    let submission = &start.submission;
    let place = Place::of(ctx, start.job);
    let folder = folder(submission);
    let mut told = told(start, &place, &folder);
    lay_down(submission, &place, told.hosts.as_deref())?;
    let mut env = surroundings(submission);
    given(submission, &mut env);
    put_commands(&mut env, &place);
    // A job that was submitted in another launcher's must not look for that one.
    env.retain(|name, _| !is_foreign_launcher_variable(name));
    env.append(&mut told.batch.variables);
    Ok(LaneTask {
        id: start.id.clone(),
        argv: command(submission, &place),
        env: env.iter().map(|(n, v)| format!("{n}={v}")).collect(),
        workdir: folder,
        rlimits: submission.rlimits.clone(),
        cpus: start.share.cpus.clone(),
        batch: told.batch,
    })
}

/// Removes the script of a job.
pub(super) fn remove(job: u64, ctx: &Context) {
    let place = Place::of(ctx, job);
    let _ = fs::remove_file(place.script);
    let _ = fs::remove_file(place.hosts);
}

/// Takes the script of a job that is over out of the way, for the next to be written over it.
///
/// A file that has gone makes each that is made in the next five seconds dearer where ext4 has
/// no journal: it gives its place to nobody so soon, and looks at every such place.
pub(super) fn put_aside(job: u64, ctx: &Context) {
    let place = Place::of(ctx, job);
    let _ = fs::rename(&place.script, place.script.with_file_name(SPARE));
    let _ = fs::remove_file(place.hosts);
}

/// Removes the script that was put aside last.
pub(super) fn remove_spare(ctx: &Context) {
    let _ = fs::remove_file(batch(ctx).join(SPARE));
}

/// Makes the folder in which scripts lie.
pub(super) fn make_folder(ctx: &Context) -> io::Result<()> {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true).mode(0o711).create(batch(ctx))
}

/// Lists the jobs whose scripts lie here.
pub(super) fn all(ctx: &Context) -> Vec<u64> {
    let names = fs::read_dir(batch(ctx)).into_iter().flatten().flatten();
    names
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.split('.').next()?;
            number.parse().ok()
        })
        .collect()
}

/// Where the files of a job's script lie, on the host and in every fence: no folder for
/// each, which takes longer to make than to run a short job.
struct Place {
    script: PathBuf,
    hosts: PathBuf,
    /// The server that has it started, as `--server` names it.
    server: String,
    for_host: bool,
}

impl Place {
    fn of(ctx: &Context, job: u64) -> Self {
        Self {
            script: batch(ctx).join(job.to_string()),
            hosts: batch(ctx).join(format!("{job}.hosts")),
            server: match ctx.config.queue() {
                Queue::At(socket) => socket.to_string_lossy().into_owned(),
                Queue::Own | Queue::Either => "own".into(),
            },
            for_host: super::is_for_host(ctx),
        }
    }

    /// Where scripts at process level find the commands of batch systems.
    fn commands(&self) -> PathBuf {
        let desk = self.script.ancestors().nth(2).unwrap_or(&self.script);
        desk.join(super::SHIMS)
    }
}

fn batch(ctx: &Context) -> PathBuf {
    super::desk(ctx).join("batch")
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
fn words(submission: &Submission, place: &Place, folder: &Path) -> Vec<String> {
    let fence = &submission.fence;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut words = vec!["hyperion".into(), "run".into(), "--detach".into()];
    words.extend(["--isolation".into(), fence.level.to_string()]);
    words.extend(["--workdir".into(), text(folder)]);
    if fence.level != Level::Process {
        let submitted = Path::new(&submission.origin.folder);
        let mut seen = BTreeSet::from([Path::new("/")]);
        let files = [&place.script, &place.hosts].map(|file| (file.as_path(), ":ro"));
        let files = files.into_iter().filter(|(file, _)| file.exists());
        for (path, suffix) in [(folder, ""), (submitted, "")].into_iter().chain(files) {
            if seen.insert(path) {
                let path = text(path);
                words.extend(["--volume".into(), format!("{path}:{path}{suffix}")]);
            }
        }
        words.extend(["--entrypoint".into(), String::new()]);
        words.extend(["--pull".into(), "never".into()]);
    }
    words.extend(fence.flags.iter().cloned());
    words.push("--".into());
    let image = fence.image.iter();
    words.extend(image.filter(|_| fence.level != Level::Process).cloned());
    words.extend(command(submission, place));
    words
}

/// Gives the program of a job, and its arguments.
fn command(submission: &Submission, place: &Place) -> Vec<String> {
    match &submission.command {
        Command::Program(program) => program.clone(),
        Command::Room { .. } => {
            let program = match submission.fence.level {
                Level::Process => place.commands().join(SHIM),
                Level::Container | Level::Vm => SHIM_INSIDE.into(),
            };
            vec![program.to_string_lossy().into_owned(), HOLD.into()]
        }
        Command::Script {
            interpreter,
            text,
            arguments,
        } => {
            let mut words = Vec::new();
            match interpreter {
                Some(line) => words.extend(line.split_whitespace().map(str::to_owned)),
                None if text.starts_with(b"#!") => {}
                None => words.push("/bin/sh".into()),
            }
            words.push(place.script.to_string_lossy().into_owned());
            words.extend(arguments.iter().cloned());
            words
        }
    }
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
    let devices = |family: &str| -> Vec<u32> {
        let numbers = share.devices.get(family).into_iter().flatten();
        numbers.copied().collect()
    };
    let nodes = [NodeShare {
        host: share.host.clone(),
        cpus: u32::try_from(share.cores.0.div_ceil(1000)).unwrap_or(u32::MAX),
        tasks: share.tasks,
        gpus: devices("gpu"),
        bound: share
            .cpus
            .iter()
            .flat_map(|cpus| cpus.0.iter().copied())
            .collect(),
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
    for (family, numbers) in &share.devices {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        let family = family
            .to_uppercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        variables.insert(format!("HYPERION_{family}S"), numbers.join(","));
    }
    for (name, value) in LAUNCHERS {
        variables.entry(name.into()).or_insert(value.into());
    }
    // What a start before this one wrote stays.
    let keep = |open| open == Open::Append || start.restarts > 0;
    Told {
        hosts: jobs::host_file(submission.dialect, &allocation),
        batch: Batch {
            variables,
            input: paths.input.map(at),
            output: at(paths.output),
            error: paths.error.map(at),
            append: (keep(files.output.open), keep(files.error.open)),
            kept: matches!(submission.command, Command::Room { kept: true }),
        },
    }
}

/// Puts into a job what flags do not say.
fn settle(job: &mut JobSpec, start: &Start, place: &Place, batch: Batch, folder: PathBuf) {
    let submission = &start.submission;
    let mut env = match job.level {
        Level::Process => surroundings(submission),
        Level::Container | Level::Vm => std::mem::take(&mut job.env),
    };
    given(submission, &mut env);
    if job.level == Level::Process {
        put_commands(&mut env, place);
    }
    job.env = env;
    job.workdir = Some(folder);
    if job.level != Level::Process {
        // As the variables and the file of hosts have it.
        let host = &mut job.container.hostname;
        host.get_or_insert_with(|| start.share.host.clone());
    }
    job.batch = Some(Box::new(batch));
    job.for_host = place.for_host;
    let resources = &mut job.resources;
    resources.memory = resources.memory.or_else(|| memory(start));
    resources.cpus = resources.cpus.or_else(|| limit(start));
    job.rlimits.extend(submission.rlimits.iter().cloned());
}

/// Gives the processors to which a job is kept: those that it asked for.
fn limit(start: &Start) -> Option<Cores> {
    let mut parts = start.submission.parts.iter();
    let asked = parts.any(|part| !part.cpus.is_empty() || !part.tasks.is_empty());
    (asked && can_hold(start).cores).then_some(start.share.cores)
}

/// Gives the memory to which a job is kept.
fn memory(start: &Start) -> Option<Bytes> {
    start.share.memory.filter(|_| can_hold(start).memory)
}

/// What jobs can be kept to.
#[derive(Debug, Clone, Copy)]
struct Holds {
    cores: bool,
    memory: bool,
}

/// Tells to what a job can be kept: a user without control groups has a queue, too, whose
/// jobs are taken at their word. A machine has what it is given.
fn can_hold(start: &Start) -> Holds {
    static HOLDS: OnceLock<Holds> = OnceLock::new();
    if start.submission.fence.level == Level::Vm {
        return Holds {
            cores: true,
            memory: true,
        };
    }
    *HOLDS.get_or_init(|| {
        let layout = Layout::detect();
        let name = format!("hyperion-agent-{}", std::process::id());
        let can = |resources: Resources| {
            let made = Cgroup::create(&layout, &name, &resources);
            made.is_ok_and(|group| group.remove().is_empty())
        };
        Holds {
            cores: can(Resources {
                cpus: Some(Cores::whole(1)),
                ..Resources::default()
            }),
            memory: can(Resources {
                memory: Some(Bytes::mib(64)),
                ..Resources::default()
            }),
        }
    })
}

/// Lets a script find the commands of its batch system, and those its own queue.
fn put_commands(env: &mut BTreeMap<String, String>, place: &Place) {
    let Some(queue) = place.script.ancestors().nth(2) else {
        return;
    };
    let shims = place.commands();
    let path = env.entry("PATH".into()).or_insert_with(|| PATH.into());
    *path = format!("{}:{path}", shims.display());
    if let Some(root) = queue.parent() {
        env.insert("HYPERION_ROOT".into(), root.to_string_lossy().into_owned());
        env.insert("HYPERION_SERVER".into(), place.server.clone());
    }
}

/// Gives the variables of who submitted a job, or those of a fresh login.
fn surroundings(submission: &Submission) -> BTreeMap<String, String> {
    let origin = &submission.origin;
    if submission.environment.all {
        return origin.variables.clone();
    }
    let shell = origin.variables.get("SHELL");
    let all = [
        ("HOME", origin.home.as_str()),
        ("USER", &origin.user),
        ("LOGNAME", &origin.user),
        ("SHELL", shell.map_or("/bin/sh", String::as_str)),
        ("PATH", PATH),
    ];
    all.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Adds the variables that a submission names.
fn given(submission: &Submission, env: &mut BTreeMap<String, String>) {
    let given = &submission.environment;
    let passed = given.pass.iter().filter_map(|name| {
        let value = submission.origin.variables.get(name)?;
        Some((name.clone(), value.clone()))
    });
    env.extend(passed);
    env.extend(given.set.clone());
}

/// Writes the script, and the file of hosts, unless they lie there: all tasks of a job
/// have the same.
fn lay_down(submission: &Submission, place: &Place, hosts: Option<&str>) -> anyhow::Result<()> {
    let put = |path: &Path, mode, bytes: &[u8]| {
        let put = lay(submission, path, mode, bytes);
        put.with_context(|| format!("cannot write {}", path.display()))
    };
    if let Command::Script { text, .. } = &submission.command {
        put(&place.script, 0o755, text)?;
    }
    hosts.map_or(Ok(()), |hosts| put(&place.hosts, 0o644, hosts.as_bytes()))
}

/// Writes a file, unless it lies there; it is there whole or not at all.
fn lay(submission: &Submission, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    // Scripts are their user's alone; but the user of a container may be another than the
    // one who has it.
    let alone = submission.fence.level == Level::Process;
    let mode = if alone { mode & 0o700 } else { mode };
    // There is one agent at a time.
    let new = path.with_file_name(SPARE);
    let mut options = fs::File::options();
    let options = options.write(true).create(true).mode(mode);
    let mut file = options.open(&new)?;
    // Not what somebody has kept by another name.
    if file.metadata()?.nlink() > 1 {
        fs::remove_file(&new)?;
        file = options.open(&new)?;
    }
    file.write_all(bytes)?;
    let there = file.metadata()?;
    // Cut off behind: what is cut to nothing first is written to the disk at once.
    if there.len() > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    if there.mode() & 0o7777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    failpoint!("agent-script-written");
    fs::rename(new, path)
}
