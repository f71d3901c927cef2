//! `qsub`, `qstat`, `qdel`, `qhold`, `qrls` and `qacct` of Grid Engine

use hyperion_api::queue::{JobView, Request, Target};
use hyperion_formats::jobs::{self, Wanted};
use hyperion_formats::listings::sge::{self, QACCT, QDEL, QSTAT};
use hyperion_formats::listings::words::{Opt, Style, Takes, Words, Wrong, known};
use hyperion_formats::listings::{matches, waits};
use hyperion_model::submission::Dialect;
use hyperion_sys::entry::ExitCode;

use super::submit::{Handed, Refusal, submit};
use super::{Call, Outcome, Stop, numbers, print, targets, with_site};

/// The options of qhold and qrls.
const QHOLD: &[Opt] = &[
    Opt(&["-h"], Takes::Value),
    Opt(&["-t"], Takes::Value),
    Opt(&["-help"], Takes::Nothing),
];

/// Tells whose command is meant by a name that PBS has, too: what
/// `HYPERION_QSUB` says, else the folder of the link, else the words, else the
/// script or the jobs that they name; PBS where nothing says otherwise.
pub(super) fn is_meant(call: &Call) -> bool {
    match std::env::var("HYPERION_QSUB").as_deref() {
        Ok("sge" | "gridengine") => return true,
        Ok("pbs" | "torque") => return false,
        _ => {}
    }
    if call.through == "sge" {
        return true;
    }
    let has = |names: &[&str]| call.words.iter().any(|word| names.contains(&word.as_str()));
    match call.name.as_str() {
        "qsub" => {
            if has(&[
                "-cwd",
                "-pe",
                "-terse",
                "-hold_jid",
                "-hold_jid_ad",
                "-tc",
                "-sync",
                "-b",
                "-binding",
                "-wd",
                "-now",
                "-shell",
                "-notify",
                "-soft",
                "-hard",
            ]) {
                return true;
            }
            let script = match jobs::wanted(Dialect::Pbs, &call.words) {
                Wanted::File(name) => std::fs::read(name).ok(),
                Wanted::Input | Wanted::Command | Wanted::Program(_) => None,
            };
            let found = script.and_then(|text| jobs::detect(&text).dialect);
            found == Some(Dialect::Sge)
        }
        "qstat" => has(&["-j", "-xml", "-ext", "-pri", "-urg", "-g", "-ne"]),
        _ => {
            // Whoever submitted a job takes it back in the same words.
            let named = targets(&call.words).unwrap_or_default();
            let jobs = match named.is_empty() {
                true => Vec::new(),
                false => call.jobs(numbers(&named), true).unwrap_or_default(),
            };
            !jobs.is_empty() && jobs.iter().all(|job| job.dialect == Dialect::Sge)
        }
    }
}

pub(super) fn answer(call: &Call) -> Outcome {
    match call.name.as_str() {
        "qsub" => qsub(call),
        "qstat" => qstat(call),
        "qacct" => qacct(call),
        "qdel" => qdel(call),
        _ => hold(call),
    }
}

fn read(call: &Call, options: &[Opt]) -> Result<Words, Stop> {
    let words = call.read(options, Style::Names).map_err(|wrong| {
        let what = match wrong {
            Wrong::Unknown(option) | Wrong::Value(option) => format!("Unknown option {option}"),
            Wrong::NoValue(option) => format!("ERROR! {option} option must have argument"),
        };
        Stop::new(
            1,
            format!("{}: {what}\nknown: {}", call.name, known(options)),
        )
    })?;
    match words.has("-help") {
        true => Err(Stop::new(
            0,
            format!("usage: {} [options]\n{}", call.name, known(options)),
        )),
        false => Ok(words),
    }
}

fn qsub(call: &Call) -> Outcome {
    let unable = |text: String| Stop::new(1, format!("Unable to run job: {text}.\nExiting."));
    let refused = |refusal| match refusal {
        Refusal::Option(word) => Stop::new(1, format!("qsub: Unknown option {word}")),
        Refusal::Script(lines) => {
            let end = unable("it asks for what cannot be".into());
            Stop::new(1, lines + &end.text)
        }
        Refusal::Other(text) => unable(text),
    };
    let job = match submit(call, Dialect::Sge).map_err(refused)? {
        Handed::In(job) => job,
        Handed::Tested(_) => return print("verification: found suitable queue(s)"),
    };
    let number = job.number;
    let name = job.submission.name.clone().unwrap_or_default();
    let array = job.submission.array.as_ref().map(|array| {
        let all = &array.indices;
        format!(
            "{number}.{}-{}:{}",
            all.first(),
            all.last(),
            all.step().unwrap_or(1)
        )
    });
    match (&array, job.reply.terse) {
        (Some(array), true) => print(array)?,
        (None, true) => print(&number.to_string())?,
        (Some(array), false) => print(&format!(
            "Your job-array {array} (\"{name}\") has been submitted"
        ))?,
        (None, false) => print(&format!(
            "Your job {number} (\"{name}\") has been submitted"
        ))?,
    };
    match job.submission.wait {
        true => {
            let code = job.wait()?;
            print(&format!("Job {number} exited with exit code {code}."))?;
            Ok(ExitCode::from(code))
        }
        false => Ok(ExitCode::SUCCESS),
    }
}

fn qstat(call: &Call) -> Outcome {
    let words = read(call, QSTAT)?;
    if let Some(list) = words.list("-j") {
        let wanted = targets(&list).unwrap_or_default();
        let mut jobs = call.jobs(numbers(&wanted), false)?;
        jobs.retain(|job| super::is_meant(job, &wanted));
        if jobs.is_empty() {
            let text = format!("Following jobs do not exist: \n{}", list.join("\n"));
            return Err(Stop::new(1, text));
        }
        return print(&with_site(|site| {
            jobs.iter()
                .map(|job| sge::full(job, site))
                .collect::<String>()
        }));
    }
    // Who asks sees their own, unless they name others.
    let own = rustix::process::getuid().as_raw();
    let users = words.list("-u");
    let states = words.value("-s").unwrap_or("a");
    let mut jobs = call.jobs(Vec::new(), states.contains('z'))?;
    jobs.retain(|job| {
        let by_user = match &users {
            None => job.uid == own,
            Some(all) => all.iter().any(|user| matches(user, &job.user)),
        };
        let by_state = states.chars().any(|state| match state {
            'p' => waits(job),
            'r' => job.state.is_active(),
            's' => job.state == hyperion_model::task::State::Suspended,
            'h' => sge::state(job) == "hqw",
            'z' => job.state.is_end(),
            _ => !job.state.is_end(),
        });
        by_user && by_state
    });
    print(&with_site(|site| match words.has("-xml") {
        true => sge::xml(&jobs, site),
        false => sge::table(&jobs, site),
    }))
}

fn qacct(call: &Call) -> Outcome {
    let words = read(call, QACCT)?;
    let Some(list) = words.list("-j") else {
        return Err(Stop::new(
            1,
            "qacct: known is -j JOB alone; `hyperion history` lists all",
        ));
    };
    let missing =
        |list: &[String]| Stop::new(1, format!("error: job id {} not found", list.join(",")));
    let wanted = targets(&list).map_err(|_| missing(&list))?;
    let mut jobs = call.jobs(numbers(&wanted), true)?;
    jobs.retain(|job| job.state.is_end() && super::is_meant(job, &wanted));
    match jobs.is_empty() {
        true => Err(missing(&list)),
        false => print(&with_site(|site| {
            jobs.iter()
                .map(|job| sge::account(job, site))
                .collect::<String>()
        })),
    }
}

/// Who calls, by name.
fn me(jobs: &[JobView]) -> String {
    let own = rustix::process::getuid().as_raw();
    let known = jobs.iter().find(|job| job.uid == own);
    known.map_or_else(|| own.to_string(), |job| job.user.clone())
}

fn qdel(call: &Call) -> Outcome {
    let words = read(call, QDEL)?;
    let mut code = 0;
    let list: Vec<String> = words
        .rest
        .iter()
        .flat_map(|word| word.split(','))
        .map(str::to_owned)
        .collect();
    let mut jobs = call.jobs(Vec::new(), true)?;
    let user = me(&jobs);
    jobs.retain(|job| !job.state.is_end());
    let mut numbers: Vec<(String, u64)> = Vec::new();
    for word in &list {
        let known = word
            .parse()
            .ok()
            .filter(|number| jobs.iter().any(|job| job.job == *number));
        match known {
            Some(number) => numbers.push((word.clone(), number)),
            None => {
                println!("denied: job \"{word}\" does not exist");
                code = 1;
            }
        }
    }
    for job in &jobs {
        let theirs = words
            .list("-u")
            .is_some_and(|all| all.iter().any(|user| matches(user, &job.user)));
        if theirs && !numbers.iter().any(|(_, number)| *number == job.job) {
            numbers.push((job.job.to_string(), job.job));
        }
    }
    for (word, number) in numbers {
        let indices: Option<hyperion_model::Indices> =
            words.value("-t").and_then(|text| text.parse().ok());
        let tasks = match indices {
            None => vec![Target {
                job: number,
                index: None,
            }],
            Some(all) => all
                .iter()
                .map(|index| Target {
                    job: number,
                    index: Some(index),
                })
                .collect(),
        };
        call.ask(&Request::Cancel(tasks))?;
        let waited = jobs.iter().filter(|job| job.job == number).all(waits);
        match waited {
            true => print(&format!("{user} has deleted job {word}"))?,
            false => print(&format!(
                "{user} has registered the job {word} for deletion"
            ))?,
        };
    }
    Ok(ExitCode::from(code))
}

fn hold(call: &Call) -> Outcome {
    let words = read(call, QHOLD)?;
    for word in words.rest.iter().flat_map(|word| word.split(',')) {
        let number: u64 = word
            .parse()
            .map_err(|_| Stop::new(1, format!("denied: job \"{word}\" does not exist")))?;
        let request = match call.name.as_str() {
            "qhold" => Request::Hold(vec![number]),
            _ => Request::Release(vec![number]),
        };
        call.ask(&request)?;
        print(&format!("modified hold of job {number}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
