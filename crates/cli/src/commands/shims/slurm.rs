//! `sbatch`, `squeue`, `scancel`, `sinfo`, `sacct` and `scontrol`

use hyperion_api::queue::{Foreseen, JobView, Request, Starts, Target};
use hyperion_formats::jobs::hosts;
use hyperion_formats::listings::slurm::{self, SACCT, SINFO, SQUEUE, Sacct, Sinfo, Squeue, Steps};
use hyperion_formats::listings::words::{Opt, Style, Takes, Words, Wrong, known};
use hyperion_formats::listings::{matches, one_by_one, waits};
use hyperion_model::submission::Dialect;
use hyperion_model::task::{End, State};
use hyperion_node::talk::Ask;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::signals;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use super::scontrol;
use super::submit::{Handed, Refusal, submit};
use super::{Call, Outcome, Stop, is_meant, numbers, print, targets, with_site};

/// The version whose commands these are like.
pub(super) const VERSION: &str = "slurm-wlm 22.05.8";

/// The options of scancel.
const SCANCEL: &[Opt] = &[
    Opt(&["--signal", "-s"], Takes::Value),
    Opt(&["--user", "-u"], Takes::Value),
    Opt(&["--me"], Takes::Nothing),
    Opt(&["--name", "--jobname", "-n"], Takes::Value),
    Opt(&["--partition", "-p"], Takes::Value),
    Opt(&["--account", "-A"], Takes::Value),
    Opt(&["--state", "-t"], Takes::Value),
    Opt(&["--nodelist", "-w"], Takes::Value),
    Opt(&["--batch", "-b"], Takes::Nothing),
    Opt(&["--full", "-f"], Takes::Nothing),
    Opt(&["--quiet", "-Q"], Takes::Nothing),
    Opt(&["--verbose", "-v"], Takes::Nothing),
    Opt(&["--hurry", "-H"], Takes::Nothing),
    Opt(&["--clusters", "--cluster", "-M"], Takes::Value),
    Opt(&["--version", "-V"], Takes::Nothing),
    Opt(&["--help"], Takes::Nothing),
    Opt(&["--usage"], Takes::Nothing),
];

pub(super) fn answer(call: &Call) -> Outcome {
    match call.name.as_str() {
        "sbatch" => sbatch(call),
        "squeue" => squeue(call),
        "scancel" => scancel(call),
        "sinfo" => sinfo(call),
        "sacct" => sacct(call),
        _ => scontrol::answer(call),
    }
}

/// Puts the name of a command in front, as Slurm does.
fn error(call: &Call, code: u8, text: impl std::fmt::Display) -> Stop {
    Stop::new(code, format!("{}: error: {text}", call.name))
}

/// Reads words; answers those that ask for help or the version.
pub(super) fn read(call: &Call, options: &[Opt]) -> Result<Result<Words, ExitCode>, Stop> {
    read_as(call, options, Style::Long)
}

/// As [`read`], with words of another style.
pub(super) fn read_as(
    call: &Call,
    options: &[Opt],
    style: Style,
) -> Result<Result<Words, ExitCode>, Stop> {
    let words = call.read(options, style).map_err(|wrong| {
        let name = &call.name;
        let what = match wrong {
            Wrong::Unknown(option) if option.starts_with("--") => {
                format!("unrecognized option '{option}'")
            }
            Wrong::Unknown(option) => format!("invalid option -- '{}'", &option[1..]),
            Wrong::NoValue(option) if option.starts_with("--") => {
                format!("option '{option}' requires an argument")
            }
            Wrong::NoValue(option) => {
                format!("option requires an argument -- '{}'", &option[1..])
            }
            Wrong::Value(option) => format!("option '{option}' doesn't allow an argument"),
        };
        Stop::new(
            1,
            format!("{name}: {what}\nTry \"{name} --help\" for more information"),
        )
    })?;
    if words.has("--help") || words.has("--usage") {
        let name = &call.name;
        print(&format!(
            "Usage: {name} [OPTIONS]\nOptions: {}\n",
            known(options)
        ))?;
        return Ok(Err(ExitCode::SUCCESS));
    }
    if words.has("--version") {
        print(VERSION)?;
        return Ok(Err(ExitCode::SUCCESS));
    }
    Ok(Ok(words))
}

fn sbatch(call: &Call) -> Outcome {
    // Anything may stand behind a script: only what stands in front of it is sbatch's own.
    let first = call.words.first().map(String::as_str);
    if matches!(first, Some("-V" | "--version")) {
        return print(VERSION);
    }
    let tests = call.words.iter().any(|word| word == "--test-only");
    let refused = |refusal| match refusal {
        Refusal::Other(text) if tests && !text.starts_with("cannot read the script") => {
            Stop::new(1, format!("allocation failure: {text}"))
        }
        Refusal::Option(word) if word.starts_with("--") => {
            let name = word.split('=').next().unwrap_or(&word);
            let text = format!("sbatch: unrecognized option '{name}'");
            Stop::new(255, text + "\nTry \"sbatch --help\" for more information")
        }
        Refusal::Option(word) => {
            let text = format!(
                "sbatch: invalid option -- '{}'",
                word.trim_start_matches('-')
            );
            Stop::new(255, text + "\nTry \"sbatch --help\" for more information")
        }
        Refusal::Script(lines) => {
            let text =
                "sbatch: error: Batch job submission failed: the job asks for what cannot be";
            Stop::new(1, lines + text)
        }
        Refusal::Other(text) if text.starts_with("cannot read the script") => {
            let name = text.trim_start_matches("cannot read the script ");
            let name = name.split(": ").next().unwrap_or(name);
            error(call, 1, format_args!("Unable to open file {name}"))
        }
        Refusal::Other(text) => error(call, 1, format_args!("Batch job submission failed: {text}")),
    };
    let job = match submit(call, Dialect::Slurm).map_err(refused)? {
        Handed::In(job) => job,
        Handed::Tested(foreseen) => return tested(call, &foreseen),
    };
    let number = job.number;
    let cluster = call
        .words
        .iter()
        .any(|word| word == "-M" || word.starts_with("--cluster"));
    match (job.reply.quiet, job.reply.terse) {
        (_, true) if cluster => print(&format!("{number};hyperion"))?,
        (_, true) => print(&number.to_string())?,
        (true, false) => ExitCode::SUCCESS,
        (false, false) => print(&format!("Submitted batch job {number}"))?,
    };
    match job.submission.wait {
        true => Ok(ExitCode::from(job.wait()?)),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// Says what would become of a job: `--test-only`.
pub(super) fn tested(call: &Call, foreseen: &Foreseen) -> Outcome {
    let (at, nodes) = match &foreseen.starts {
        Starts::At(at, nodes) => (*at, hosts::compress(nodes)),
        Starts::NotBefore(at) => (*at, "(null)".into()),
        Starts::Never => return Err(Stop::new(1, "allocation failure: Requested nodes are busy")),
    };
    eprintln!(
        "{}: Job {} to start at {} using {} processors on nodes {nodes} in partition {}",
        call.name,
        foreseen.job,
        with_site(|site| (site.local)(at).iso()),
        foreseen.cores.0.div_ceil(1000),
        foreseen.queue,
    );
    Ok(ExitCode::SUCCESS)
}

/// The jobs that options of squeue, sacct and scancel have in common.
struct Wanted {
    jobs: Option<Vec<Target>>,
    users: Option<Vec<String>>,
    names: Option<Vec<String>>,
    partitions: Option<Vec<String>>,
    accounts: Option<Vec<String>>,
    nodes: Option<Vec<String>>,
    states: Option<Vec<State>>,
}

impl Wanted {
    fn read(call: &Call, words: &Words, partition: &str, account: &str) -> Result<Self, Stop> {
        let mut users = words.list("--user");
        if words.has("--me") {
            users.get_or_insert_default().push(me());
        }
        let state = ["--states", "--state"];
        let states = state.iter().find_map(|name| words.list(name));
        let states = states.map(|given| slurm::states(&given)).transpose();
        let states = states.map_err(|word| {
            let first = error(call, 1, format_args!("Invalid job state specified: {word}"));
            let second = format!("Valid job states include: {}", slurm::known_states());
            Stop::new(1, format!("{}\n{}: error: {second}", first.text, call.name))
        })?;
        let nodes = words
            .value("--nodelist")
            .map(|text| hosts::expand(text).unwrap_or_else(|| vec![text.to_owned()]));
        Ok(Self {
            jobs: None,
            users,
            names: words.list("--name"),
            partitions: words.list(partition),
            accounts: words.list(account),
            nodes,
            states: states.flatten(),
        })
    }

    fn has(&self, job: &JobView) -> bool {
        fn within(list: &Option<Vec<String>>, text: &str) -> bool {
            list.as_ref()
                .is_none_or(|all| all.iter().any(|one| matches(one, text)))
        }
        let number = job.uid.to_string();
        self.jobs.as_ref().is_none_or(|jobs| is_meant(job, jobs))
            && (within(&self.users, &job.user) || within(&self.users, &number))
            && within(&self.names, &job.name)
            && within(&self.partitions, &job.queue)
            && within(&self.accounts, job.account.as_deref().unwrap_or(""))
            && self
                .nodes
                .as_ref()
                .is_none_or(|all| job.hosts.iter().any(|host| all.contains(host)))
            && self
                .states
                .as_ref()
                .is_none_or(|all| all.contains(&job.state))
    }
}

fn me() -> String {
    rustix::process::getuid().as_raw().to_string()
}

/// Reads the jobs of `-j`.
fn named(call: &Call, list: &[String]) -> Result<Vec<Target>, Stop> {
    // `12_3,12_4.batch`: a step is asked for by the job that it is of.
    let words: Vec<String> = list
        .iter()
        .map(|word| word.split('.').next().unwrap_or(word).to_owned())
        .collect();
    targets(&words).map_err(|word| error(call, 1, format_args!("Invalid job id: {word}")))
}

fn squeue(call: &Call) -> Outcome {
    let words = match read(call, SQUEUE)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    let variable = std::env::var("SQUEUE_FORMAT").ok();
    let mut wanted = Wanted::read(call, &words, "--partition", "--account")?;
    if words.has("--steps") {
        let list = Steps::read(&words).map_err(|text| error(call, 1, text))?;
        // `-s 12.0`, with a blank.
        let mut named = words.list("--steps").unwrap_or_default();
        let rest = words.rest.iter().flat_map(|word| word.split(','));
        named.extend(rest.map(str::to_owned));
        let mut jobs = call.jobs(Vec::new(), false)?;
        if let Some(given) = words.list("--jobs") {
            wanted.jobs = Some(self::named(call, &given)?);
        }
        jobs.retain(|job| wanted.has(job));
        return print(&with_site(|site| list.write(&jobs, &named, site)));
    }
    let list = Squeue::read(&words, variable.as_deref()).map_err(|text| error(call, 1, text))?;
    let mut given = words.list("--jobs");
    if let Some(list) = &mut given
        && list.is_empty()
    {
        // `-j 12`, with a blank.
        list.extend(
            words
                .rest
                .iter()
                .flat_map(|word| word.split(','))
                .map(str::to_owned),
        );
    }
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        wanted.jobs = Some(named(call, &given)?);
    }
    // Those that are over are listed only where they are asked for.
    let ended = words.has("--states");
    let ask = wanted.jobs.as_deref().map(numbers).unwrap_or_default();
    let mut jobs = call.jobs(ask.clone(), true)?;
    // One that is known and over is no mistake.
    if let [one] = ask[..]
        && !jobs.iter().any(|job| job.job == one)
    {
        return Err(Stop::new(
            1,
            "slurm_load_jobs error: Invalid job id specified",
        ));
    }
    jobs.retain(|job| ended || !job.state.is_end());
    if words.has("--array") {
        jobs = one_by_one(jobs);
    }
    jobs.retain(|job| wanted.has(job));
    if words.has("--start") {
        jobs.retain(waits);
    }
    if words.has("--json") {
        return crate::output::json(&json(&jobs))
            .map(|()| ExitCode::SUCCESS)
            .map_err(Stop::from);
    }
    print(&with_site(|site| list.write(jobs, site)))
}

/// The list as `squeue --json` has it, as far as there is something to say.
fn json(jobs: &[JobView]) -> serde_json::Value {
    let job = |job: &JobView| {
        let seconds = |at: Option<u64>| at.unwrap_or(0) / 1_000_000;
        let code = match job.end {
            Some(End::Exit(exit)) => exit.shell_code(),
            _ => 0,
        };
        serde_json::json!({
            "job_id": job.job,
            "array_job_id": if job.index.is_some() { job.job } else { 0 },
            "array_task_id": job.index.as_ref().and_then(|index| index.parse::<u32>().ok()),
            "array_task_string": job.index.clone().filter(|_| waits(job)).unwrap_or_default(),
            "name": job.name,
            "job_state": slurm::state(job.state).1,
            "user_name": job.user,
            "user_id": job.uid,
            "account": job.account.clone().unwrap_or_default(),
            "partition": job.queue,
            "comment": job.comment.clone().unwrap_or_default(),
            "submit_time": seconds(Some(job.submitted)),
            "start_time": seconds(job.started),
            "end_time": seconds(job.ended),
            "time_limit": job.limit.map(|limit| limit.as_secs() / 60),
            "nodes": hosts::compress(&job.hosts),
            "node_count": job.nodes,
            "cpus": job.cores.0.div_ceil(1000),
            "tasks": job.tasks,
            "restart_cnt": job.starts.saturating_sub(1),
            "exit_code": u32::from(code) << 8,
            "current_working_directory": job.folder,
        })
    };
    serde_json::json!({
        "meta": { "plugin": { "type": "", "name": "" }, "Slurm": { "version": { "major": 22, "micro": 8, "minor": 5 }, "release": "22.05.8" } },
        "errors": [],
        "jobs": jobs.iter().map(job).collect::<Vec<_>>(),
    })
}

fn scancel(call: &Call) -> Outcome {
    let words = match read(call, SCANCEL)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    let mut wanted = Wanted::read(call, &words, "--partition", "--account")?;
    let filtered = [
        "--user",
        "--me",
        "--name",
        "--partition",
        "--account",
        "--state",
        "--nodelist",
    ];
    if words.rest.is_empty() && !filtered.iter().any(|name| words.has(name)) {
        return Err(error(call, 1, "No job identification provided"));
    }
    let number = |word: &str| word.split_once('.')?.1.parse::<u32>().ok();
    let (steps, rest): (Vec<String>, Vec<String>) = words
        .rest
        .iter()
        .flat_map(|word| word.split(','))
        .map(str::to_owned)
        .partition(|word| number(word).is_some());
    let signal = match words.value("--signal") {
        None => None,
        Some(text) => {
            let number = text.parse().ok().or_else(|| signals::by_name(text));
            Some(number.ok_or_else(|| error(call, 1, format_args!("Unknown job signal: {text}")))?)
        }
    };
    let mut code = ExitCode::SUCCESS;
    for step in &steps {
        if let Err(why) = cancel_step(call, step, number(step).unwrap_or_default(), signal) {
            let text = format_args!("Kill job error on job step id {step}: {}", why.text);
            eprintln!("{}", error(call, 1, text).text);
            code = ExitCode::from(why.code);
        }
    }
    if rest.is_empty() && !steps.is_empty() {
        return Ok(code);
    }
    if !rest.is_empty() {
        wanted.jobs = Some(named(call, &rest)?);
    }
    let ask = wanted.jobs.as_deref().map(numbers).unwrap_or_default();
    let jobs = call.jobs(ask.clone(), true)?;
    for unknown in ask
        .iter()
        .filter(|number| !jobs.iter().any(|job| job.job == **number))
    {
        // Slurm ends with 0 all the same.
        eprintln!("scancel: error: Kill job error on job id {unknown}: Invalid job id specified");
    }
    let meant: Vec<&JobView> = jobs
        .iter()
        .filter(|job| !job.state.is_end() && wanted.has(job))
        .collect();
    match signal.filter(|signal| *signal != signals::SIGKILL && *signal != signals::SIGTERM) {
        Some(signal) => {
            for job in meant.iter().filter(|job| job.state == State::Running) {
                if let Some(id) = &job.id {
                    call.tell(id, &Ask::Signal(signal))?;
                }
            }
        }
        None => {
            let mut all: Vec<Target> = Vec::new();
            for job in meant {
                all.extend(meant_of(job, wanted.jobs.as_deref()));
            }
            all.dedup();
            if !all.is_empty() {
                call.ask(&Request::Cancel(all))
                    .map_err(|stop| error(call, 1, stop.text))?;
            }
        }
    }
    Ok(code)
}

/// Has one step end, or sends it a signal: its job goes on.
fn cancel_step(call: &Call, name: &str, number: u32, signal: Option<i32>) -> Result<(), Stop> {
    let unknown = |_| Stop::new(1, "Invalid job id specified");
    let job = name.split('.').next().unwrap_or(name).to_owned();
    let wanted = targets(&[job]).map_err(unknown)?;
    let mut jobs = call.jobs(numbers(&wanted), true)?;
    jobs.retain(|job| is_meant(job, &wanted));
    let runs = |job: &&JobView| {
        let mut steps = job.steps().iter();
        steps.any(|step| step.number == number && step.over.is_none())
    };
    // As Slurm says of one that has ended, too.
    let job = jobs
        .iter()
        .find(runs)
        .ok_or_else(|| unknown(String::new()))?;
    let id = job.id.as_deref();
    let id = id.ok_or_else(|| Stop::new(1, "Access/permission denied"))?;
    let signal = signal.filter(|signal| *signal != signals::SIGKILL);
    Ok(call.tell(id, &Ask::Step { number, signal })?)
}

/// The tasks of a view that are meant by these names, or all of it.
fn meant_of(job: &JobView, named: Option<&[Target]>) -> Vec<Target> {
    let whole = Target {
        job: job.job,
        index: None,
    };
    match named {
        Some(named) => named
            .iter()
            .filter(|target| target.job == job.job)
            .copied()
            .collect(),
        None => match job.index.as_deref().map(str::parse) {
            None => vec![whole],
            Some(Ok(index)) => vec![Target {
                job: job.job,
                index: Some(index),
            }],
            Some(Err(_)) => one_by_one(vec![job.clone()])
                .iter()
                .map(|one| Target {
                    job: job.job,
                    index: one.index.as_deref().and_then(|index| index.parse().ok()),
                })
                .collect(),
        },
    }
}

fn sinfo(call: &Call) -> Outcome {
    let words = match read(call, SINFO)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    let variable = std::env::var("SINFO_FORMAT").ok();
    let list = Sinfo::read(&words, variable.as_deref()).map_err(|text| error(call, 1, text))?;
    let mut nodes = call.nodes()?;
    if let Some(text) = words.value("--nodes") {
        let wanted = hosts::expand(text).unwrap_or_default();
        nodes.retain(|node| wanted.contains(&node.name));
    }
    let mut partitions = call.partitions()?;
    if let Some(wanted) = words.list("--partition") {
        partitions.retain(|its| wanted.contains(&its.name));
    }
    print(&with_site(|site| list.write(&nodes, &partitions, site)))
}

fn sacct(call: &Call) -> Outcome {
    let words = match read(call, SACCT)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    if words.has("--helpformat") {
        return print(&Sacct::known());
    }
    let variable = std::env::var("SACCT_FORMAT").ok();
    let list = Sacct::read(&words, variable.as_deref()).map_err(|text| error(call, 1, text))?;
    let mut wanted = Wanted::read(call, &words, "--partition", "--accounts")?;
    if let Some(given) = words.list("--jobs") {
        wanted.jobs = Some(named(call, &given)?);
    }
    let root = rustix::process::getuid().is_root();
    if wanted.users.is_none() && !root && !words.has("--allusers") {
        wanted.users = Some(vec![me()]);
    }
    let now = Zoned::now();
    let moment = |name: &str| {
        let text = words.value(name);
        let text = text.map(|text| {
            moment(text, &now).ok_or_else(|| {
                error(
                    call,
                    1,
                    format_args!("Invalid time specification (pos=0): {text}"),
                )
            })
        });
        text.transpose()
    };
    let midnight = now
        .start_of_day()
        .map_err(anyhow::Error::from)?
        .timestamp()
        .as_microsecond();
    let named_jobs = wanted.jobs.is_some();
    let from = moment("--starttime")?.unwrap_or(if named_jobs { 0 } else { midnight });
    let to = moment("--endtime")?.unwrap_or(i64::MAX);
    let ask = wanted.jobs.as_deref().map(numbers).unwrap_or_default();
    let mut jobs = call.jobs(ask, true)?;
    if words.has("--array") {
        jobs = one_by_one(jobs);
    }
    jobs.retain(|job| {
        let over = job.ended.is_some_and(|at| at.cast_signed() < from);
        wanted.has(job) && !over && job.submitted.cast_signed() <= to
    });
    print(&with_site(|site| list.write(&jobs, site)))
}

/// Reads a moment of `-S` or `-E`, in microseconds since 1970.
fn moment(text: &str, now: &Zoned) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let micros = |then: Zoned| then.timestamp().as_microsecond();
    if let Some(rest) = lower.strip_prefix("now") {
        let Some((sign, rest)) = rest.split_at_checked(1) else {
            return Some(micros(now.clone()));
        };
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let count: i64 = rest[..digits].parse().ok()?;
        let span = match rest[digits..].trim_end_matches('s') {
            "" | "second" => Span::new().try_seconds(count),
            "minute" => Span::new().try_minutes(count),
            "hour" => Span::new().try_hours(count),
            "day" => Span::new().try_days(count),
            "week" => Span::new().try_weeks(count),
            _ => return None,
        };
        let span = span.ok()?;
        let then = match sign {
            "-" => now.checked_sub(span),
            "+" => now.checked_add(span),
            _ => return None,
        };
        return then.ok().map(micros);
    }
    if matches!(lower.as_str(), "today" | "midnight") {
        return now.start_of_day().ok().map(micros);
    }
    let zone = TimeZone::system();
    let there = |civil: DateTime| civil.to_zoned(zone.clone()).ok().map(micros);
    for shape in [
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M",
        "%m/%d/%y-%H:%M:%S",
        "%m/%d/%y-%H:%M",
    ] {
        if let Ok(civil) = DateTime::strptime(shape, text) {
            return there(civil);
        }
    }
    for shape in ["%Y-%m-%d", "%m/%d/%y"] {
        if let Ok(day) = jiff::civil::Date::strptime(shape, text) {
            return there(day.to_datetime(jiff::civil::Time::midnight()));
        }
    }
    for shape in ["%H:%M:%S", "%H:%M"] {
        if let Ok(time) = jiff::civil::Time::strptime(shape, text) {
            return there(now.date().to_datetime(time));
        }
    }
    None
}
