//! A step: tasks that a script starts in its job, in its fence and within its limits.
//!
//! They are a job of their own at process level, in the sandbox that is there already. The
//! init of that sandbox gives the step its number and hears how it ended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hyperion_formats::jobs::{self, Facts, time};
use hyperion_formats::listings::words::Words;
use hyperion_isolation::init::{Joined, StepAsk};
use hyperion_model::errand::StepEnd;
use hyperion_model::report::{Exit, RankReport};
use hyperion_model::submission::{Dialect, TimeLimit};
use hyperion_model::{Bytes, JobSpec, MpiChoice, RunReport};
use hyperion_node::End;
use hyperion_node::log::Stream;
use hyperion_node::supervisor::start;
use hyperion_node::talk::Ask;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::{process, signals};

use super::super::{Call, Outcome, Stop, host, with_site};
use super::{count, error};
use crate::args::{Global, read_run};
use crate::commands::run;
use crate::context::Context;
use crate::session::{self, Label, Orders, Session};

/// The shape of a step.
struct Shape {
    tasks: u32,
    cpus: u32,
}

/// Runs a step to its end.
pub(in crate::commands::shims) fn run(call: &Call, words: &Words) -> Outcome {
    let shape = shape(words)?;
    note(words);
    let place = Place::find(call)?;
    let variable = |name: &str| std::env::var(name).ok();
    let program = words.rest.first().map_or("", String::as_str);
    let name = words.value("--job-name").map_or_else(
        || program.rsplit('/').next().unwrap_or(program).to_owned(),
        str::to_owned,
    );
    let of = variable("SLURM_CPUS_ON_NODE").and_then(|text| text.parse().ok());
    let shared = words.has("--overlap") || words.has("--overcommit");
    let asked = StepAsk {
        name,
        tasks: shape.tasks,
        takes: match shared {
            true => 0,
            false => shape.tasks.saturating_mul(shape.cpus),
        },
        of: of.unwrap_or(1),
    };
    // Where nobody listens the step runs all the same, and is not counted.
    let socket = variable("HYPERION_STEPS");
    let joined = socket.and_then(|socket| Joined::begin(Path::new(&socket), asked).ok());
    let number = joined.as_ref().map_or(0, |joined| joined.number);
    let joined = joined.map(|joined| Rc::new(RefCell::new(joined)));
    let orders = joined.as_ref().map(orders).transpose()?;

    let ask = flags(words, &shape);
    let id = run::new_id()?;
    let export = export(words)?;
    let time = match words.value("--time") {
        None => None,
        Some(text) => match time::slurm(text) {
            Some(TimeLimit::Span(span)) => Some(span),
            Some(TimeLimit::Unlimited) => None,
            None => return Err(error("Invalid --time specification")),
        },
    };
    let args = read_run(ask).map_err(|e| error(e.to_string().trim_end()))?;
    let launch = run::prepare(args, &place.ctx, id.clone(), |job: &mut JobSpec| {
        export.apply(&mut job.env);
        job.env.extend(variables(number, &shape, words));
        job.time_limit = time;
        let wait = words.value("--wait").and_then(|text| text.parse().ok());
        let wait = wait.filter(|seconds| *seconds > 0);
        job.parallel.linger = wait.map(std::time::Duration::from_secs);
        job.parallel.keep_going = !kills(words);
        if words.value("--mpi") == Some("none") {
            job.parallel.mpi = MpiChoice::None;
        }
    })?;
    let files = files(words, number, shape.tasks)?;
    let mut client = start(launch).map_err(error)?;
    // Whatever ends this program ends the step, too.
    client.ask(&Ask::Keep).map_err(error)?;
    let pty = words.has("--pty");
    let session = Session {
        label: match words.has("--label") {
            true => Label::Colon((shape.tasks - 1).to_string().len()),
            false => Label::None,
        },
        files,
        raw: pty,
        input: words.value("--input") != Some("none"),
        job: true,
        orders,
        // Steps share the processors of their job, as far as they go.
        hush: Some("! processors"),
        ..Session::default()
    };
    let quiet = words.has("--quiet");
    let name_of_command = call.name.clone();
    let code = session.run(client, &id, |end| {
        if let Some(joined) = joined {
            joined.borrow_mut().end(told(end));
        }
        if !quiet {
            tell(end, &name_of_command);
        }
        drop(place);
        process::exit_now(end.code)
    })?;
    Ok(ExitCode::from(code))
}

/// Listens to what the job's init says of a step.
fn orders(joined: &Rc<RefCell<Joined>>) -> Result<Orders, Stop> {
    let fd = joined.borrow().as_fd().try_clone_to_owned();
    let job = std::env::var("SLURM_JOB_ID").unwrap_or_default();
    let number = joined.borrow().number;
    let cancelled = format!("slurmstepd: error: *** STEP {job}.{number} ON {}", host());
    let joined = Rc::clone(joined);
    let now = || with_site(|site| (site.local)(site.now).iso());
    Ok(Orders {
        fd: fd.map_err(error)?,
        next: Box::new(move || {
            let order = joined.borrow_mut().order()?;
            Ok(order.map(|signal| match signal {
                Some(signal) => Ask::Signal(signal),
                None => {
                    eprintln!("{cancelled} CANCELLED AT {} ***", now());
                    eprintln!(
                        "srun: Job step aborted: Waiting up to 32 seconds for job step to finish."
                    );
                    Ask::Signal(signals::SIGKILL)
                }
            }))
        }),
    })
}

/// Settles how many tasks there are.
fn shape(words: &Words) -> Result<Shape, Stop> {
    let nodes = match words.value("--nodes") {
        None => 1,
        Some(text) => {
            let least = text.split('-').next().unwrap_or(text);
            least
                .parse()
                .map_err(|_| error(format_args!("invalid node count `{text}'")))?
        }
    };
    if nodes > 1u32 {
        return Err(error(format_args!(
            "Only allocated 1 nodes asked for {nodes}"
        )));
    }
    if let Some(text) = words.value("--nodelist") {
        let own = std::env::var("SLURM_JOB_NODELIST").unwrap_or_else(|_| host());
        if text != own && text != "localhost" {
            return Err(error(format_args!(
                "Unable to create step for job: Requested node configuration is not available ({text}; the job has {own})"
            )));
        }
    }
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let per_node = count(words, "--ntasks-per-node")?;
    let tasks = count(words, "--ntasks")?.or(per_node);
    let tasks: u32 = tasks.or_else(|| given("SLURM_NTASKS")).unwrap_or(1);
    if per_node.is_some_and(|most| tasks > most) {
        return Err(error(format_args!(
            "Unable to create step for job: More processors requested than permitted ({tasks} tasks on one node)"
        )));
    }
    // As srun of 22.05: what the job says of its tasks does not hold for a step.
    let cpus = count(words, "--cpus-per-task")?.unwrap_or(1);
    if words.has("--pty") && tasks > 1 {
        return Err(error(
            "--pty is for one task here; leave it out, or add -n 1",
        ));
    }
    Ok(Shape { tasks, cpus })
}

/// Names what is taken and means nothing here.
fn note(words: &Words) {
    if words.has("--quiet") {
        return;
    }
    let none = [
        (
            "--cpu-bind",
            "tasks of a step share the processors of the job",
        ),
        ("--mem-bind", "tasks of a step share the memory of the job"),
        ("--mem", "the limit of the job holds for its steps together"),
        (
            "--mem-per-cpu",
            "the limit of the job holds for its steps together",
        ),
        ("--gres", "a step sees all devices of its job"),
        ("--gpus", "a step sees all devices of its job"),
        ("--gpus-per-task", "a step sees all devices of its job"),
        ("--gpus-per-node", "a step sees all devices of its job"),
        ("--gpu-bind", "a step sees all devices of its job"),
        ("--exclude", "the job has one node"),
    ];
    for (name, why) in none {
        let idle = |value: &str| matches!(value, "none" | "no" | "0" | "q" | "quiet");
        if words.value(name).is_some_and(|value| !idle(value)) {
            eprintln!("srun: note: {name} means nothing here: {why}");
        }
    }
}

/// Tells whether a task that fails ends the others, where they know nothing of each other.
fn kills(words: &Words) -> bool {
    words.has("--kill-on-bad-exit") && words.value("--kill-on-bad-exit") != Some("0")
}

fn flags(words: &Words, shape: &Shape) -> Vec<String> {
    let mut flags: Vec<String> = ["hyperion", "run", "--rm", "--isolation", "process"]
        .map(str::to_owned)
        .into();
    flags.push("--oversubscribe".into());
    flags.extend(["--ranks".into(), shape.tasks.to_string()]);
    flags.extend(["--cpus-per-rank".into(), shape.cpus.to_string()]);
    if words.value("--input") != Some("none") {
        flags.push("--interactive".into());
    }
    if words.has("--pty") {
        flags.push("--tty".into());
    }
    if let Some(folder) = words.value("--chdir") {
        flags.extend(["--workdir".into(), folder.to_owned()]);
    }
    flags.push("--".into());
    flags.extend(words.rest.iter().cloned());
    flags
}

/// The variables that a step sees.
enum Export {
    All(Vec<(String, String)>),
    Only(Vec<(String, Option<String>)>),
}

fn export(words: &Words) -> Result<Export, Stop> {
    let text = words.value("--export").unwrap_or("ALL");
    let mut all = false;
    let mut named = Vec::new();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            _ if word.eq_ignore_ascii_case("ALL") => all = true,
            _ if matches!(word, "NONE" | "NIL") => {}
            Some((name, value)) if !name.is_empty() => {
                named.push((name.to_owned(), Some(value.to_owned())));
            }
            None => named.push((word.to_owned(), None)),
            Some(_) => return Err(error(format_args!("Invalid --export specification {word}"))),
        }
    }
    Ok(match all {
        true => Export::All(
            named
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
        ),
        false => Export::Only(named),
    })
}

impl Export {
    fn apply(&self, env: &mut BTreeMap<String, String>) {
        match self {
            Self::All(more) => env.extend(more.iter().cloned()),
            Self::Only(named) => {
                let given = std::mem::take(env);
                let own = |name: &str| {
                    name.starts_with("SLURM")
                        || name.starts_with("HYPERION_")
                        || matches!(name, "PATH" | "HOME" | "USER" | "LOGNAME" | "SHELL")
                };
                for (name, value) in named {
                    if let Some(value) = value.clone().or_else(|| given.get(name).cloned()) {
                        env.insert(name.clone(), value);
                    }
                }
                for (name, value) in given {
                    if own(&name) {
                        env.entry(name).or_insert(value);
                    }
                }
            }
        }
    }
}

/// What srun says to all tasks of a step; which of them one is says the supervisor.
fn variables(number: u32, shape: &Shape, words: &Words) -> Vec<(String, String)> {
    let host = std::env::var("SLURM_JOB_NODELIST").unwrap_or_else(|_| host());
    let gtids: Vec<String> = (0..shape.tasks.min(4096)).map(|n| n.to_string()).collect();
    let mut all = vec![
        ("SLURM_STEP_ID", number.to_string()),
        ("SLURM_STEPID", number.to_string()),
        ("SLURM_STEP_NUM_NODES", "1".into()),
        ("SLURM_STEP_TASKS_PER_NODE", shape.tasks.to_string()),
        ("SLURM_TASKS_PER_NODE", shape.tasks.to_string()),
        ("SLURM_STEP_NODELIST", host),
        ("SLURM_GTIDS", gtids.join(",")),
    ];
    if words.has("--cpus-per-task") {
        all.push(("SLURM_CPUS_PER_TASK", shape.cpus.to_string()));
    }
    all.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Opens what stands in place of standard output and error, and puts a file in place of
/// standard input.
fn files(words: &Words, number: u32, tasks: u32) -> Result<BTreeMap<(u32, Stream), File>, Stop> {
    let unusable =
        |name: &str, e: std::io::Error| error(format_args!("Could not open {name}: {e}"));
    if let Some(name) = words.value("--input").filter(|name| *name != "none") {
        let file = File::open(name).map_err(|e| unusable(name, e))?;
        rustix::stdio::dup2_stdin(&file).map_err(error)?;
    }
    let mut open: BTreeMap<String, File> = BTreeMap::new();
    let mut all = BTreeMap::new();
    let append = words
        .value("--open-mode")
        .is_some_and(|mode| mode.starts_with('a'));
    let output = words.value("--output");
    for (stream, pattern) in [
        (Stream::Out, output),
        (Stream::Err, words.value("--error").or(output)),
    ] {
        let Some(pattern) = pattern.filter(|pattern| *pattern != "all") else {
            continue;
        };
        for task in 0..tasks {
            let only = pattern.parse::<u32>().ok();
            let name = match (pattern, only) {
                ("none", _) => "/dev/null".to_owned(),
                // The number of a task: its output is shown, and no other's.
                (_, Some(only)) if only == task => continue,
                (_, Some(_)) => "/dev/null".to_owned(),
                (pattern, None) => file_name(pattern, number, task),
            };
            if !open.contains_key(&name) {
                let mut options = File::options();
                let options = options.create(true).write(true).truncate(!append);
                let file = options.append(append).open(&name);
                open.insert(name.clone(), file.map_err(|e| unusable(&name, e))?);
            }
            let file = open[&name].try_clone().map_err(|e| unusable(&name, e))?;
            all.insert((task, stream), file);
        }
    }
    Ok(all)
}

/// Writes the name of a file out.
fn file_name(pattern: &str, step: u32, task: u32) -> String {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let number = |name: &str| variable(name).parse::<u64>().ok();
    let index = variable("SLURM_ARRAY_TASK_ID").parse().ok();
    let (name, user, home, host) = (
        variable("SLURM_JOB_NAME"),
        variable("USER"),
        variable("HOME"),
        host(),
    );
    let facts = Facts {
        job: number("SLURM_JOB_ID").unwrap_or_default(),
        array: number("SLURM_ARRAY_JOB_ID").zip(index),
        name: &name,
        user: &user,
        home: &home,
        host: &host,
        node: 0,
        rank: task,
        step: Some(step),
    };
    jobs::expand(Dialect::Slurm, pattern, &facts)
}

/// Says to accounting how a step ended.
fn told(end: &End) -> StepEnd {
    let none = Bytes(0);
    let exit = end.exit.unwrap_or(Exit::Code(end.code));
    let usage = |report: &RunReport| StepEnd {
        exit,
        timed_out: end.code == 124,
        cancelled: false,
        wall: report.wall,
        cpu_user: report.usage.cpu_user.unwrap_or_default(),
        cpu_system: report.usage.cpu_system.unwrap_or_default(),
        memory_peak: report
            .ranks
            .iter()
            .map(|rank| rank.memory_peak)
            .max()
            .unwrap_or(none),
    };
    end.report.as_ref().map_or(
        StepEnd {
            exit: Exit::Code(end.code),
            ..StepEnd::killed(std::time::Duration::ZERO)
        },
        usage,
    )
}

/// Says which tasks failed, as srun does.
fn tell(end: &End, command: &str) {
    let Some(report) = &end.report else {
        return session::tell_failure(end);
    };
    if end.code == 124 {
        eprintln!(
            "{command}: error: {}: the step reached its time limit",
            host()
        );
    }
    let mut groups: Vec<(Exit, Vec<u32>)> = Vec::new();
    for RankReport { rank, exit, .. } in report.ranks.iter().filter(|rank| !rank.exit.is_success())
    {
        match groups.iter_mut().find(|(known, _)| known == exit) {
            Some((_, ranks)) => ranks.push(*rank),
            None => groups.push((*exit, vec![*rank])),
        }
    }
    for (exit, ranks) in groups {
        let how = match exit {
            Exit::Code(code) => format!("Exited with exit code {code}"),
            Exit::Signal(signal) => match i32::from(signal) {
                signals::SIGKILL => "Killed".into(),
                signals::SIGTERM => "Terminated".into(),
                11 => "Segmentation fault".into(),
                6 => "Aborted".into(),
                other => signals::name(other).to_string(),
            },
        };
        let one = if ranks.len() == 1 { "task" } else { "tasks" };
        let list = hyperion_model::indices::ranges(&ranks);
        eprintln!("{command}: error: {}: {one} {list}: {how}", host());
    }
}

/// Where the record of a step lies while it runs.
struct Place {
    ctx: Context,
    /// In a container the queue's folder is not there: one of its own, removed at the end.
    own: Option<PathBuf>,
}

impl Place {
    fn find(call: &Call) -> Result<Self, Stop> {
        let program = std::env::current_exe().map_err(error)?;
        let global = |root| Global {
            root: Some(root),
            server: None,
            output: call.ctx.output,
        };
        if !program.starts_with("/dev/.hyperion") {
            let ctx = Context::new(&global(call.ctx.root.clone()))?;
            return Ok(Self { ctx, own: None });
        }
        let name = format!(".hyperion-step-{:x}", run::random()?);
        let given = std::env::var("TMPDIR").ok().map(PathBuf::from);
        let usual = ["/tmp", "/dev/shm", "/run"].map(PathBuf::from);
        let mut places = given
            .into_iter()
            .chain(usual)
            .map(|folder| folder.join(&name));
        let private = |folder: &PathBuf| {
            let mut builder = fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700)
                .create(folder)
                .is_ok()
        };
        let own = places
            .find(private)
            .ok_or_else(|| error("there is no folder in here that can be written to; mount one: --run-flag=--tmpfs=/tmp"))?;
        let ctx = Context::new(&global(own.clone()))?;
        Ok(Self {
            ctx,
            own: Some(own),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let _ = fs::remove_dir_all(own);
        }
    }
}
