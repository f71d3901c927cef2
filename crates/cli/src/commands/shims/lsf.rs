//! `bsub`, `bjobs`, `bkill`, `bqueues` and `bhosts`

use hyperion_api::queue::{JobView, Request, Target};
use hyperion_formats::jobs;
use hyperion_formats::listings::lsf::{self, BJOBS, BKILL, BMOD, BQUEUES, Columns};
use hyperion_formats::listings::words::{Opt, Style, Words, Wrong, known};
use hyperion_formats::listings::{matches, one_by_one};
use hyperion_model::submission::{Command, Dialect, Submission, TimeLimit};
use hyperion_model::task::State;
use hyperion_model::{Class, Edit};
use hyperion_node::talk::Ask;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::signals;
use jiff::Timestamp;

use super::allocation::{Allocation, Beside, Failed, Stage, Wanted, ended_by};
use super::salloc::stop;
use super::submit::{Refusal, hand_in, read as read_words};
use super::update::alter;
use super::{Call, Outcome, Stop, is_meant, numbers, print, targets, told, with_site};
use crate::commands::queue::update::settled;
use crate::errors;

/// How LSF's commands end when something is wrong.
const WRONG: u8 = 255;
/// How long LSF lists what has ended: an hour, in microseconds.
const REMEMBERED: u64 = 3600 * 1_000_000;

pub(super) fn answer(call: &Call) -> Outcome {
    match call.name.as_str() {
        "bsub" => bsub(call),
        "bmod" => bmod(call),
        "bjobs" => bjobs(call),
        "bkill" => bkill(call),
        "bqueues" => {
            read(call, BQUEUES)?;
            let jobs = call.jobs(Vec::new(), false)?;
            print(&lsf::queues(&jobs, &call.queues(&jobs)?))
        }
        _ => {
            read(call, BQUEUES)?;
            print(&lsf::hosts(&call.nodes()?))
        }
    }
}

fn read(call: &Call, options: &[Opt]) -> Result<Words, Stop> {
    let name = &call.name;
    let words = call.read(options, Style::Names).map_err(|wrong| {
        let what = match wrong {
            Wrong::Unknown(option) | Wrong::Value(option) => {
                format!("illegal option -- {}", option.trim_start_matches('-'))
            }
            Wrong::NoValue(option) => {
                format!(
                    "option requires an argument -- {}",
                    option.trim_start_matches('-')
                )
            }
        };
        Stop::new(
            WRONG,
            format!("{name}: {what}\nUsage: {name} with {}", known(options)),
        )
    })?;
    match () {
        () if words.has("-V") => Err(Stop::new(
            0,
            "IBM Spectrum LSF 10.1 commands, answered by Hyperion",
        )),
        () if words.has("-h") => Err(Stop::new(
            0,
            format!("Usage: {name} with {}", known(options)),
        )),
        () => Ok(words),
    }
}

fn bsub(call: &Call) -> Outcome {
    let refused = |refusal| {
        let text = match refusal {
            Refusal::Option(word) => {
                format!("bsub: illegal option -- {}\n", word.trim_start_matches('-'))
            }
            Refusal::Script(lines) => lines,
            Refusal::Other(text) => format!("{text}. "),
        };
        Stop::new(WRONG, text + "Job not submitted.")
    };
    let (submission, reply) = read_words(&call.words, Dialect::Lsf).map_err(refused)?;
    if reply.interactive {
        return interactive(call, submission, reply.terminal, refused);
    }
    let job = hand_in(call, submission, reply).map_err(refused)?;
    let queue = job
        .submission
        .parts
        .first()
        .and_then(|part| part.queues.first());
    match queue {
        Some(queue) => print(&format!(
            "Job <{}> is submitted to queue <{queue}>.",
            job.number
        ))?,
        None => print(&format!(
            "Job <{}> is submitted to default queue <main>.",
            job.number
        ))?,
    };
    match job.submission.wait {
        true => {
            eprintln!("<<Waiting for dispatch ...>>");
            let code = job.wait()?;
            eprintln!("<<Job is finished>>");
            Ok(ExitCode::from(code))
        }
        false => Ok(ExitCode::SUCCESS),
    }
}

/// A command in a job, at this terminal: `bsub -I`, `-Ip`, `-Is`.
fn interactive(
    call: &Call,
    submission: Submission,
    terminal: bool,
    refused: impl Fn(Refusal) -> Stop,
) -> Outcome {
    let argv = match submission.command.clone() {
        Command::Program(words) if !words.is_empty() => words,
        _ => {
            return Err(Stop::new(
                WRONG,
                "No command is specified. Job not submitted.",
            ));
        }
    };
    let queue = submission
        .parts
        .first()
        .and_then(|part| part.queues.first().cloned());
    let wanted = Wanted {
        submission,
        kept: true,
        patience: None,
    };
    let submitted = |number| {
        match &queue {
            Some(queue) => println(&format!("Job <{number}> is submitted to queue <{queue}>.")),
            None => println(&format!(
                "Job <{number}> is submitted to default queue <main>."
            )),
        };
        println("<<Waiting for dispatch ...>>");
    };
    let mut said = false;
    let taken = Allocation::take(call, wanted, |stage| {
        if let Stage::Waits(number) = stage {
            submitted(number);
            said = true;
        }
    });
    let mut taken = match taken {
        Ok(taken) => taken,
        Err(Failed::Refused(refusal)) => return Err(refused(refusal)),
        Err(Failed::Interrupted(signal)) => return Ok(ExitCode::from(ended_by(signal))),
        Err(failed) => return Err(stop("bsub", "the job did not start", failed)),
    };
    if !said {
        submitted(taken.number);
    }
    println(&format!("<<Starting on {}>>", super::host()));
    let mut beside = Beside::at_terminal(argv, Vec::new());
    beside.tty &= terminal;
    let code = taken.run(beside)?;
    taken.release(code)?;
    Ok(ExitCode::from(code))
}

/// Says something; a reader that has gone away does not matter.
fn println(text: &str) {
    let _ = print(text);
}

/// Tells whether a user is meant: `all`, a name, or whoever calls.
fn by_user(words: &Words, job: &JobView) -> bool {
    match words.value("-u") {
        None => job.uid == rustix::process::getuid().as_raw(),
        Some("all") => true,
        Some(user) => job.user == user,
    }
}

fn by_name(words: &Words, job: &JobView) -> bool {
    let name = words
        .value("-J")
        .map(|name| name.split('[').next().unwrap_or(name));
    name.is_none_or(|name| matches(name, &job.name))
        && words.value("-q").is_none_or(|queue| queue == job.queue)
}

fn bjobs(call: &Call) -> Outcome {
    let words = read(call, BJOBS)?;
    let wrong = |text: String| Stop::new(WRONG, text);
    let columns = words.value("-o").map(Columns::read).transpose();
    let columns = columns.map_err(|text| wrong(format!("{text}. Known: {}", Columns::known())))?;
    if words.has("-l") {
        return Err(wrong(
            "bjobs: -l is not known here; -o takes each of the fields".into(),
        ));
    }
    let named: Vec<String> = words.rest.clone();
    let mut code = 0;
    let mut jobs = Vec::new();
    for word in named.iter().filter(|word| *word != "0") {
        let meant = targets(std::slice::from_ref(word))
            .map_err(|_| wrong(format!("{word}: Illegal job ID.")))?;
        let mut found = call.jobs(numbers(&meant), true)?;
        found = one_by_one(found);
        found.retain(|job| is_meant(job, &meant));
        if found.is_empty() {
            eprintln!("Job <{word}> is not found");
            code = WRONG;
        }
        jobs.extend(found);
    }
    let all = named.iter().all(|word| word == "0");
    if all {
        let now = Timestamp::now().as_microsecond().unsigned_abs();
        let (ended_too, ended_only) = (words.has("-a"), words.has("-d"));
        jobs = one_by_one(call.jobs(Vec::new(), true)?);
        jobs.retain(|job| {
            let ended = job.ended.or(job.state.is_end().then_some(job.submitted));
            let recent = ended.is_some_and(|at| at.saturating_add(REMEMBERED) > now);
            let state = lsf::state(job);
            let by_state = match () {
                () if ended_only => recent,
                () if words.has("-r") => state == "RUN",
                () if words.has("-p") => state == "PEND",
                () if words.has("-s") => state.ends_with("SUSP"),
                () if ended_too => ended.is_none() || recent,
                () => ended.is_none(),
            };
            by_state && by_user(&words, job) && by_name(&words, job)
        });
        if jobs.is_empty() && !words.has("-json") {
            eprintln!(
                "No {}job found",
                if ended_too || ended_only {
                    ""
                } else {
                    "unfinished "
                }
            );
            return Ok(ExitCode::SUCCESS);
        }
    }
    if jobs.is_empty() && !words.has("-json") {
        return Ok(ExitCode::from(code));
    }
    let head = !words.has("-noheader");
    let text = with_site(|site| match &columns {
        Some(columns) if words.has("-json") => {
            let record = |job: &JobView| {
                let fields = columns.fields(job, site).into_iter();
                let fields = fields.map(|(name, value)| (name.to_owned(), value.into()));
                serde_json::Value::Object(fields.collect())
            };
            let records: Vec<_> = jobs.iter().map(record).collect();
            let whole = serde_json::json!({
                "COMMAND": "bjobs", "JOBS": records.len(), "RECORDS": records,
            });
            serde_json::to_string_pretty(&whole).unwrap_or_default()
        }
        Some(columns) => columns.write(&jobs, site, head),
        None => lsf::table(&jobs, site, head, words.has("-w") || words.has("-W")),
    });
    print(&text)?;
    Ok(ExitCode::from(code))
}

fn bkill(call: &Call) -> Outcome {
    let words = read(call, BKILL)?;
    let mut code = 0;
    let signal = match words.value("-s") {
        None => None,
        Some(text) => {
            let number = text.parse().ok().or_else(|| signals::by_name(text));
            Some(number.ok_or_else(|| Stop::new(WRONG, format!("{text}: Illegal signal value")))?)
        }
    };
    let mut meant: Vec<(String, Target)> = Vec::new();
    for word in words.rest.iter().filter(|word| *word != "0") {
        let all = targets(std::slice::from_ref(word))
            .map_err(|_| Stop::new(WRONG, format!("{word}: Illegal job ID.")))?;
        meant.extend(all.into_iter().map(|target| (word.clone(), target)));
    }
    if words.rest.iter().any(|word| word == "0")
        || (words.rest.is_empty() && (words.has("-J") || words.has("-q")))
    {
        for job in call.jobs(Vec::new(), false)? {
            if by_user(&words, &job) && by_name(&words, &job) {
                meant.push((
                    job.job.to_string(),
                    Target {
                        job: job.job,
                        index: None,
                    },
                ));
            }
        }
        meant.dedup();
    }
    if meant.is_empty() {
        return Err(Stop::new(
            WRONG,
            "Job ID is missing; name jobs, or 0 for all of your own",
        ));
    }
    for (word, target) in meant {
        let mut jobs = call.jobs(vec![target.job], true)?;
        jobs.retain(|job| is_meant(job, &[target]));
        let alive: Vec<&JobView> = jobs.iter().filter(|job| !job.state.is_end()).collect();
        if jobs.is_empty() {
            eprintln!("Job <{word}>: No matching job found");
            code = WRONG;
            continue;
        }
        if alive.is_empty() {
            eprintln!("Job <{word}>: Job has already finished");
            code = WRONG;
            continue;
        }
        let all = vec![target];
        let request = match signal {
            Some(signals::SIGSTOP) => Request::Suspend(all),
            Some(signals::SIGCONT) => Request::Resume(all),
            None | Some(signals::SIGKILL | signals::SIGTERM) => Request::Cancel(all),
            Some(signal) => {
                for id in alive
                    .iter()
                    .filter(|job| job.state == State::Running)
                    .filter_map(|job| job.id.as_ref())
                {
                    call.tell(id, &Ask::Signal(signal))?;
                }
                print(&format!("Job <{word}> is being signaled"))?;
                continue;
            }
        };
        call.ask(&request)?;
        print(&match signal {
            None => format!("Job <{word}> is being terminated"),
            Some(_) => format!("Job <{word}> is being signaled"),
        })?;
    }
    Ok(ExitCode::from(code))
}

/// Changes jobs that were submitted.
fn bmod(call: &Call) -> Outcome {
    let words = read(call, BMOD)?;
    let given = words.options.iter().filter(|(_, value)| value.is_some());
    let given = given.flat_map(|(name, value)| [Some((*name).to_owned()), value.clone()]);
    let given: Vec<String> = given.flatten().collect();
    let wrong = |text| Stop::new(WRONG, format!("{text}. Job not modified."));
    let altered = jobs::altered(Dialect::Lsf, &given).map_err(wrong)?;
    let mut edits = settled(altered)?;
    let away = [
        ("-bn", Edit::Begin(std::time::Duration::ZERO)),
        ("-wn", Edit::After(None)),
        ("-Wn", Edit::Limit(TimeLimit::Unlimited)),
    ];
    edits.extend(
        away.into_iter()
            .filter(|its| words.has(its.0))
            .map(|its| its.1),
    );
    if words.rest.is_empty() || edits.is_empty() {
        let known = "-b -G -J -P -q -sp -w -W, or -bn -wn -Wn, and a job";
        return Err(Stop::new(WRONG, format!("bmod changes {known}")));
    }
    let mut code = 0;
    for word in &words.rest {
        let meant = targets(std::slice::from_ref(word))
            .map_err(|_| Stop::new(WRONG, format!("{word}: Illegal job ID.")))?;
        let mut views = call.jobs(numbers(&meant), true)?;
        views.retain(|job| is_meant(job, &meant));
        let done = match views.is_empty() {
            true => Err("No matching job found".to_owned()),
            false => alter(call, meant, edits.clone()).map_err(|error| {
                let over = views.iter().all(|job| job.state.is_end());
                match errors::class_of(&error) {
                    Class::Denied => format!("User permission denied ({})", told(&error)),
                    Class::Conflict if over => "Job has already finished".into(),
                    Class::Conflict => format!("Job has already started ({})", told(&error)),
                    _ => told(&error),
                }
            }),
        };
        match done {
            Ok(()) => print(&format!("Parameters of job <{word}> are being changed")).map(drop)?,
            Err(text) => {
                eprintln!("Job <{word}>: {text}");
                code = WRONG;
            }
        }
    }
    Ok(ExitCode::from(code))
}
