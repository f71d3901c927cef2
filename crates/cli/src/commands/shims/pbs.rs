//! `qsub`, `qstat`, `qdel`, `qhold`, `qrls` and `pbsnodes` of PBS

use hyperion_api::queue::{JobView, Request, Target};
use hyperion_formats::jobs;
use hyperion_formats::listings::pbs::{self, PBSNODES, QALTER, QDEL, QHOLD, QSTAT};
use hyperion_formats::listings::waits;
use hyperion_formats::listings::words::{Opt, Style, Words, Wrong, known};
use hyperion_model::submission::{Command, Dialect, Submission};
use hyperion_model::{Class, Edit};
use hyperion_sys::entry::ExitCode;
use serde_json::{Map, Value};

use super::allocation::{Allocation, Beside, Failed, Stage, Wanted, ended_by, shell};
use super::salloc::stop;
use super::submit::{Refusal, hand_in, read as read_words};
use super::update::alter;
use super::{Call, Outcome, Stop, host, is_meant, numbers, print, targets, told, with_site};
use crate::commands::queue::Server;
use crate::commands::queue::update::settled;
use crate::errors;

/// PBS's code for a job that nobody knows, as its commands end with it.
const UNKNOWN: u8 = 153;
/// And for one that has ended.
const FINISHED: u8 = 35;

pub(super) fn answer(call: &Call) -> Outcome {
    if call.words.first().is_some_and(|word| word == "--version") {
        return print("pbs_version = 22.05.11");
    }
    match call.name.as_str() {
        "qsub" => qsub(call),
        "qstat" => qstat(call),
        "pbsnodes" => pbsnodes(call),
        "qalter" => qalter(call),
        "qmove" => qmove(call),
        _ => change(call),
    }
}

fn read(call: &Call, options: &[Opt]) -> Result<Words, Stop> {
    call.read(options, Style::Letters).map_err(|wrong| {
        let name = &call.name;
        let what = match wrong {
            Wrong::Unknown(option) | Wrong::Value(option) => {
                format!("invalid option -- '{}'", option.trim_start_matches('-'))
            }
            Wrong::NoValue(option) => {
                format!(
                    "option requires an argument -- '{}'",
                    option.trim_start_matches('-')
                )
            }
        };
        Stop::new(
            2,
            format!("{name}: {what}\nusage: {name} with {}", known(options)),
        )
    })
}

fn qsub(call: &Call) -> Outcome {
    let refused = |refusal| match refusal {
        Refusal::Option(word) => {
            let letter: String = word.chars().skip(1).take(1).collect();
            let text = format!("qsub: invalid option -- '{letter}'");
            Stop::new(
                2,
                text + "\nusage: qsub with the options of docs/reference/job-scripts.md, PBS",
            )
        }
        Refusal::Script(lines) => Stop::new(2, lines + "qsub: the job asks for what cannot be"),
        Refusal::Other(text) if text.starts_with("cannot read the script") => Stop::new(
            1,
            format!("qsub: script file:: No such file or directory ({text})"),
        ),
        // "Job exceeds queue and/or server resource limits"
        Refusal::Other(text) => Stop::new(188, format!("qsub: {text}")),
    };
    let (submission, reply) = read_words(&call.words, Dialect::Pbs).map_err(refused)?;
    if reply.interactive {
        return interactive(call, submission, refused);
    }
    let job = hand_in(call, submission, reply).map_err(refused)?;
    let brackets = if job.submission.array.is_some() {
        "[]"
    } else {
        ""
    };
    if !job.reply.quiet {
        print(&format!("{}{brackets}.{}", job.number, host()))?;
    }
    match job.submission.wait {
        true => Ok(ExitCode::from(job.wait()?)),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// A shell in a job, or a command, at this terminal: `qsub -I`.
fn interactive(call: &Call, submission: Submission, refused: impl Fn(Refusal) -> Stop) -> Outcome {
    let argv = match &submission.command {
        Command::Program(words) if !words.is_empty() => words.clone(),
        // Of a script only the directives count.
        _ => vec![shell()],
    };
    let wanted = Wanted {
        submission,
        kept: true,
        patience: None,
    };
    let taken = Allocation::take(call, wanted, |stage| {
        if let Stage::Waits(number) = stage {
            eprintln!("qsub: waiting for job {number}.{} to start", host());
        }
    });
    let mut taken = match taken {
        Ok(taken) => taken,
        Err(Failed::Refused(refusal)) => return Err(refused(refusal)),
        Err(Failed::Interrupted(signal)) => return Ok(ExitCode::from(ended_by(signal))),
        Err(failed) => return Err(stop("qsub", "the job did not start", failed)),
    };
    let name = format!("{}.{}", taken.number, host());
    eprintln!("qsub: job {name} ready\n");
    let env = vec!["PBS_ENVIRONMENT=PBS_INTERACTIVE".to_owned()];
    let code = taken.run(Beside::at_terminal(argv, env))?;
    taken.release(code)?;
    eprintln!("\nqsub: job {name} completed");
    Ok(ExitCode::from(code))
}

/// Looks up jobs by the names that were written; what is wrong is told, and gives the code.
fn find(call: &Call, words: &[String], ended: bool) -> Result<(Vec<(JobView, Target)>, u8), Stop> {
    let mut found = Vec::new();
    let mut code = 0;
    let mut fail = |number: u8, text: String| {
        eprintln!("{}: {text}", call.name);
        code = number;
    };
    for word in words {
        let Ok(meant) = targets(std::slice::from_ref(word)) else {
            fail(1, format!("illegally formed job identifier: {word}"));
            continue;
        };
        let full = match word.contains('.') {
            true => word.clone(),
            false => format!("{word}.{}", host()),
        };
        let mut jobs = call.jobs(numbers(&meant), true)?;
        jobs.retain(|job| is_meant(job, &meant));
        if jobs.is_empty() {
            fail(UNKNOWN, format!("Unknown Job Id {full}"));
        } else if !ended && jobs.iter().all(|job| job.state.is_end()) {
            let text = match call.name.as_str() {
                "qstat" => format!(
                    "{full} Job has finished, use -x or -H to obtain historical job information"
                ),
                _ => format!("Job has finished {full}"),
            };
            fail(FINISHED, text);
        } else {
            let first = meant[0];
            found.extend(
                jobs.into_iter()
                    .filter(|job| ended || !job.state.is_end())
                    .map(|job| (job, first)),
            );
        }
    }
    Ok((found, code))
}

fn qstat(call: &Call) -> Outcome {
    let words = read(call, QSTAT)?;
    let history = words.has("-x") || words.has("-H");
    if words.has("-Q") {
        let jobs = call.jobs(Vec::new(), false)?;
        return print(&pbs::queues(&jobs, &call.queues(&jobs)?));
    }
    if words.has("-B") {
        let jobs = call.jobs(Vec::new(), false)?;
        return print(&pbs::server(&jobs, &host()));
    }
    // A word that is no number is the name of a queue.
    let is_queue = |word: &&String| !word.starts_with(|c: char| c.is_ascii_digit());
    let (of_queues, named): (Vec<&String>, Vec<&String>) = words.rest.iter().partition(is_queue);
    let named: Vec<String> = named.into_iter().cloned().collect();
    let (mut jobs, code) = match named.is_empty() {
        true => (call.jobs(Vec::new(), true)?, 0),
        false => {
            let (found, code) = find(call, &named, history)?;
            (found.into_iter().map(|(job, _)| job).collect(), code)
        }
    };
    let users = words.list("-u");
    jobs.retain(|job| {
        let over = job.state.is_end();
        let by_user = users.as_ref().is_none_or(|all| all.contains(&job.user));
        let by_queue = of_queues.is_empty() || of_queues.iter().any(|queue| job.queue == **queue);
        let by_state = match (words.has("-i"), words.has("-r")) {
            (true, _) => waits(job),
            (false, true) => job.state.is_active(),
            (false, false) => true,
        };
        by_user
            && by_queue
            && by_state
            && (history || !over)
            && (!words.has("-H") || over || !named.is_empty())
    });
    let wide = ["-a", "-i", "-r", "-u", "-H", "-n", "-s", "-1", "-w"];
    let text = with_site(|site| match words.value("-F").unwrap_or("default") {
        "json" => json(&jobs, site),
        _ if words.has("-f") => jobs
            .iter()
            .map(|job| pbs::full(job, site, !words.has("-w") && !words.has("-1")))
            .collect(),
        _ if wide.iter().any(|name| words.has(name)) => {
            pbs::wide_table(&jobs, site, words.has("-n"))
        }
        _ => pbs::table(&jobs, site),
    });
    print(&text)?;
    Ok(ExitCode::from(code))
}

/// The attributes as `qstat -f -F json` has them.
fn json(jobs: &[JobView], site: &hyperion_formats::listings::Site<'_>) -> String {
    let mut all = Map::new();
    for job in jobs {
        let mut its = Map::new();
        for (name, value) in pbs::attributes(job, site) {
            // What counts is a number there.
            let value = match (value.parse::<i64>(), name.as_str()) {
                (Ok(number), "Exit_status" | "run_count" | "Priority") => Value::from(number),
                (Ok(number), name) if name.ends_with("ncpus") || name.ends_with("nodect") => {
                    Value::from(number)
                }
                _ => Value::from(value),
            };
            match name.split_once('.') {
                Some((family, name)) => {
                    let family = its.entry(family).or_insert_with(|| Map::new().into());
                    if let Some(family) = family.as_object_mut() {
                        family.insert(name.to_owned(), value);
                    }
                }
                None => drop(its.insert(name, value)),
            }
        }
        all.insert(pbs::id(job, site.host), its.into());
    }
    let whole = serde_json::json!({
        "timestamp": site.now / 1_000_000,
        "pbs_version": "22.05.11",
        "pbs_server": site.host,
        "Jobs": all,
    });
    serde_json::to_string_pretty(&whole).unwrap_or_default()
}

fn change(call: &Call) -> Outcome {
    let options = if call.name == "qdel" { QDEL } else { QHOLD };
    let words = read(call, options)?;
    if words.rest.is_empty() {
        return Err(Stop::new(
            2,
            format!("usage: {} job_identifier...", call.name),
        ));
    }
    let (found, mut code) = find(call, &words.rest, false)?;
    let mut done: Vec<Target> = Vec::new();
    for (_, target) in found {
        if done.contains(&target) {
            continue;
        }
        done.push(target);
        let request = match call.name.as_str() {
            "qdel" => Request::Cancel(vec![target]),
            "qhold" => Request::Hold(vec![target.job]),
            _ => Request::Release(vec![target.job]),
        };
        if let Err(stop) = call.ask(&request) {
            eprintln!("{}: {} {}.{}", call.name, stop.text, target.job, host());
            code = 168;
        }
    }
    Ok(ExitCode::from(code))
}

/// Changes jobs that were submitted.
fn qalter(call: &Call) -> Outcome {
    let words = read(call, QALTER)?;
    let hold = words.value("-h").map(|kinds| kinds != "n");
    let given = words.options.iter().filter(|(name, _)| *name != "-h");
    let given = given.flat_map(|(name, value)| [Some((*name).to_owned()), value.clone()]);
    let given: Vec<String> = given.flatten().collect();
    let wrong = |text| Stop::new(2, format!("qalter: {text}"));
    let altered = jobs::altered(Dialect::Pbs, &given).map_err(wrong)?;
    let edits = settled(altered)?;
    if words.rest.is_empty() || (edits.is_empty() && hold.is_none()) {
        let known = "-a -A -h -l walltime= -N -p -P -q -r -W depend=";
        return Err(Stop::new(
            2,
            format!("usage: qalter {known} job_identifier..."),
        ));
    }
    changed(call, &words.rest, &edits, hold)
}

/// Moves jobs that wait to another queue.
fn qmove(call: &Call) -> Outcome {
    let words = read(call, &[])?;
    let [queue, named @ ..] = &words.rest[..] else {
        return Err(Stop::new(2, "usage: qmove destination job_identifier..."));
    };
    let queue = queue.split('@').next().unwrap_or(queue).to_owned();
    changed(call, named, &[Edit::Queues(vec![queue])], None)
}

fn changed(call: &Call, named: &[String], edits: &[Edit], hold: Option<bool>) -> Outcome {
    let (found, mut code) = find(call, named, false)?;
    let mut targets: Vec<Target> = found.into_iter().map(|(_, target)| target).collect();
    targets.dedup();
    for target in targets {
        let edits = edits.to_vec();
        let altered = match edits.is_empty() {
            true => Ok(()),
            false => alter(call, vec![target], edits),
        };
        let number = vec![target.job];
        let held = hold.map(|hold| match hold {
            true => Request::Hold(number),
            false => Request::Release(number),
        });
        let done = altered.and_then(|()| match held {
            Some(request) => Server::reach(&call.ctx, true)?.ask(&request).map(drop),
            None => Ok(()),
        });
        if let Err(error) = done {
            // As PBSE_PERM, PBSE_BADSTATE, and "Illegal attribute or resource value".
            let (number, words) = match errors::class_of(&error) {
                Class::Denied => (159, "Unauthorized Request"),
                Class::Conflict => (170, "Request invalid for state of job"),
                _ => (166, "Illegal attribute or resource value"),
            };
            let (job, why) = (target.job, told(&error));
            eprintln!("{}: {words} {job}.{} ({why})", call.name, host());
            code = number;
        }
    }
    Ok(ExitCode::from(code))
}

fn pbsnodes(call: &Call) -> Outcome {
    let words = read(call, PBSNODES)?;
    let mut nodes = call.nodes()?;
    if words.has("-l") {
        return print(
            &nodes
                .iter()
                .filter_map(pbs::closed_node)
                .collect::<String>(),
        );
    }
    if let Some(unknown) = words
        .rest
        .iter()
        .find(|name| !nodes.iter().any(|node| node.name == **name))
    {
        return Err(Stop::new(1, format!("pbsnodes: Unknown node {unknown}")));
    }
    nodes.retain(|node| words.rest.is_empty() || words.rest.contains(&node.name));
    let jobs = call.jobs(Vec::new(), false)?;
    print(&with_site(|site| {
        nodes
            .iter()
            .map(|node| pbs::node(node, &jobs, site))
            .collect::<String>()
    }))
}
