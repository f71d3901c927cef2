//! `pbsdsh` and `blaunch`: steps in the words of PBS and LSF

use hyperion_formats::listings::words::{Opt, Style, Takes, Words};

use super::srun::step;
use super::{Call, Outcome, Stop, host};

use Takes::{Nothing, Value};

/// The options of pbsdsh, of OpenPBS and Torque.
const PBSDSH: &[Opt] = &[
    Opt(&["-n"], Value),
    Opt(&["-c"], Value),
    Opt(&["-h"], Value),
    Opt(&["-u"], Nothing),
    Opt(&["-s"], Nothing),
    Opt(&["-v"], Nothing),
    Opt(&["-o"], Nothing),
    Opt(&["-e"], Value),
    Opt(&["-E"], Nothing),
];

/// Runs a command on each line of the host file, or on some.
pub(super) fn pbsdsh(call: &Call) -> Outcome {
    let wrong = |text: String| Stop::new(1, format!("pbsdsh: {text}"));
    let words = leading(call, PBSDSH).map_err(wrong)?;
    let file = std::env::var("PBS_NODEFILE");
    let file = file.map_err(|_| wrong("PBS_NODEFILE is not set: it runs in jobs of PBS".into()))?;
    let lines = std::fs::read_to_string(&file).map_err(|e| wrong(format!("{file}: {e}")))?;
    let slots = lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count()
        .max(1);
    let number = |name| {
        let read = |text: &str| {
            let number = text.parse::<usize>();
            number.map_err(|_| wrong(format!("{name} takes a number, not {text:?}")))
        };
        words.value(name).map(read).transpose()
    };
    if let Some(other) = words.value("-h").filter(|name| !is_here(name)) {
        return Err(wrong(format!(
            "host {other} is not among the job's: {}",
            host()
        )));
    }
    let one = number("-n")?;
    if let Some(slot) = one.filter(|slot| *slot >= slots) {
        return Err(wrong(format!(
            "the job has no slot {slot}, but {slots}, from 0 on"
        )));
    }
    let tasks = match (one, number("-c")?) {
        (Some(_), _) => 1,
        (None, Some(copies)) => copies.max(1),
        // One on each host: there is one.
        (None, None) if words.has("-u") => 1,
        (None, None) => slots,
    };
    start(call, &words, tasks)
}

/// Runs a command on hosts of the job, by their names.
pub(super) fn blaunch(call: &Call) -> Outcome {
    let wrong = |text: String| Stop::new(255, format!("blaunch: {text}"));
    let mut words = call.words.iter().cloned().peekable();
    let mut hosts: Vec<String> = Vec::new();
    let mut shell = true;
    let mut input = true;
    let mut named = false;
    while let Some(word) = words.next_if(|word| word.starts_with('-')) {
        let mut value = || {
            let value = words.next();
            value.ok_or_else(|| wrong(format!("{word} needs a value")))
        };
        match word.as_str() {
            "-z" => {
                hosts.extend(value()?.split_whitespace().map(str::to_owned));
                named = true;
            }
            "-u" => {
                let file = value()?;
                let text = std::fs::read_to_string(&file);
                let text = text.map_err(|e| wrong(format!("{file}: {e}")))?;
                hosts.extend(text.split_whitespace().map(str::to_owned));
                named = true;
            }
            "-n" => input = false,
            "-no-shell" => shell = false,
            "-use-login-shell" | "-no-wait" => {}
            "-V" => return super::print("LSF 10.1, as Hyperion speaks it"),
            other => return Err(wrong(format!("illegal option -- {other}"))),
        }
    }
    if !named {
        let first = words.next();
        hosts.push(first.ok_or_else(|| wrong("it needs a host and a command".into()))?);
    }
    if std::env::var_os("LSB_JOBID").is_none() {
        return Err(wrong("it runs in jobs of LSF".into()));
    }
    if let Some(other) = hosts.iter().find(|name| !is_here(name)) {
        return Err(wrong(format!(
            "host <{other}> is not one of the job's: {}",
            host()
        )));
    }
    let mut rest: Vec<String> = words.collect();
    if rest.is_empty() {
        return Err(wrong("it needs a command".into()));
    }
    if shell {
        rest = vec!["sh".into(), "-c".into(), rest.join(" ")];
    }
    let mut words = Words {
        rest,
        ..Words::default()
    };
    if !input {
        words.options.push(("-E", None));
    }
    start(call, &words, hosts.len().max(1))
}

/// Tells whether a name is this host's: a job has no other.
fn is_here(name: &str) -> bool {
    let own = host();
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    name == "localhost" || short(name) == short(&own)
}

fn leading(call: &Call, options: &[Opt]) -> Result<Words, String> {
    let words = call.read(options, Style::Leading);
    let words = words.map_err(|wrong| format!("{wrong:?}"))?;
    match words.rest.is_empty() {
        true => Err("it needs a command".into()),
        false => Ok(words),
    }
}

/// Starts so many tasks, as `srun` would.
fn start(call: &Call, words: &Words, tasks: usize) -> Outcome {
    let mut options = vec![
        ("--ntasks", Some(tasks.to_string())),
        // Nobody said that they have processors for themselves.
        ("--overlap", None),
    ];
    if words.has("-E") {
        options.push(("--input", Some("none".into())));
    }
    step::run(
        call,
        &Words {
            options,
            rest: words.rest.clone(),
        },
    )
}
