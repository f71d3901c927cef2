//! `salloc`: a shell or a command on this host, with the nodes of a job

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command};
use std::time::Duration;

use hyperion_formats::listings::words::{Opt, Style, Takes, Words};
use hyperion_model::submission::{Dialect, Submission};
use hyperion_node::client::Heard;
use hyperion_node::talk::Tell;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::signals::{self, SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGTTOU, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use super::allocation::{Allocation, Failed, Stage, Wanted, ended_by};
use super::slurm::read_as;
use super::submit::{Refusal, read};
use super::{Call, Outcome, Stop};
use crate::commands::queue;

use Takes::{Attached, Nothing, Value};

/// The options of salloc and srun that say what a job is to have, as sbatch has them.
pub(super) const OF_JOBS: &[Opt] = &[
    Opt(&["--ntasks", "-n"], Value),
    Opt(&["--nodes", "-N"], Value),
    Opt(&["--ntasks-per-node", "--tasks-per-node"], Value),
    Opt(&["--cpus-per-task", "-c"], Value),
    Opt(&["--job-name", "-J"], Value),
    Opt(&["--time", "-t"], Value),
    Opt(&["--partition", "-p"], Value),
    Opt(&["--account", "-A"], Value),
    Opt(&["--qos", "-q"], Value),
    Opt(&["--constraint", "-C"], Value),
    Opt(&["--licenses", "-L"], Value),
    Opt(&["--reservation"], Value),
    Opt(&["--begin", "-b"], Value),
    Opt(&["--dependency", "-d"], Value),
    Opt(&["--deadline"], Value),
    Opt(&["--time-min"], Value),
    Opt(&["--comment"], Value),
    Opt(&["--nice"], Attached),
    Opt(&["--priority"], Value),
    Opt(&["--mail-type"], Value),
    Opt(&["--mail-user"], Value),
    Opt(&["--mem"], Value),
    Opt(&["--mem-per-cpu"], Value),
    Opt(&["--gres"], Value),
    Opt(&["--gpus", "-G"], Value),
    Opt(&["--gpus-per-node"], Value),
    Opt(&["--gpus-per-task"], Value),
    Opt(&["--exclusive"], Attached),
    Opt(&["--nodelist", "-w"], Value),
    Opt(&["--exclude", "-x"], Value),
    Opt(&["--chdir", "-D"], Value),
    Opt(&["--hold", "-H"], Nothing),
    Opt(&["--overcommit", "-O"], Nothing),
    Opt(&["--immediate", "-I"], Attached),
    Opt(&["--quiet", "-Q"], Nothing),
    Opt(&["--verbose", "-v"], Nothing),
    Opt(&["--version", "-V"], Nothing),
    Opt(&["--help", "-h"], Nothing),
    Opt(&["--usage"], Nothing),
];

/// Those that are not handed on.
const OWN: &[&str] = &["--immediate", "--quiet", "--verbose"];

const MORE: &[Opt] = &[
    Opt(&["--no-shell"], Nothing),
    Opt(&["--bell"], Nothing),
    Opt(&["--no-bell"], Nothing),
    Opt(&["--kill-command", "-K"], Attached),
];

pub(super) fn answer(call: &Call) -> Outcome {
    let options = [OF_JOBS, MORE].concat();
    let words = match read_as(call, &options, Style::Leading)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    let shell = !words.has("--no-shell");
    let quiet = words.has("--quiet");
    let say = |text: String| {
        if !quiet {
            eprintln!("salloc: {text}");
        }
    };
    let mut submission = submission(&words).map_err(|refusal| refused("salloc", refusal))?;
    submission.name.get_or_insert("interactive".into());
    let wanted = Wanted {
        submission,
        kept: shell,
        patience: patience(&words),
    };
    let taken = Allocation::take(call, wanted, |stage| match stage {
        Stage::Waits(number) => {
            say(format!("Pending job allocation {number}"));
            say(format!("job {number} queued and waiting for resources"));
        }
        Stage::Granted(number) => say(format!("job {number} has been allocated resources")),
    });
    let mut taken = match taken {
        Ok(taken) => taken,
        Err(Failed::Interrupted(signal)) => {
            say("Job allocation has been revoked.".into());
            return Ok(ExitCode::from(ended_by(signal)));
        }
        Err(failed) => return Err(stop("salloc", "Job allocation failure", failed)),
    };
    let number = taken.number;
    say(format!("Granted job allocation {number}"));
    if !shell {
        return Ok(ExitCode::SUCCESS);
    }
    let code = match command(call, &words, &taken).and_then(|mut command| {
        let program = command.get_program().to_string_lossy().into_owned();
        // A group of its own: when the job is taken away, all of it is told.
        let child = command.process_group(0).spawn();
        child.map_err(|e| anyhow::anyhow!("Unable to exec command \"{program}\": {e}"))
    }) {
        Ok(child) => watch(child, &mut taken, words.rest.is_empty(), number)?,
        Err(error) => {
            eprintln!("salloc: error: {error}");
            1
        }
    };
    say(format!("Relinquishing job allocation {number}"));
    taken.release(code)?;
    Ok(ExitCode::from(code))
}

/// Reads what a job is to have from the words of srun and salloc.
pub(super) fn submission(words: &Words) -> Result<Submission, Refusal> {
    let of_jobs = words.options.iter().filter(|(name, _)| {
        !OWN.contains(name) && OF_JOBS.iter().any(|known| known.0.first() == Some(name))
    });
    let mut given: Vec<String> = of_jobs
        .map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => (*name).to_owned(),
        })
        .collect();
    // The command is no business of the job's.
    given.push("--wrap=:".into());
    let (mut submission, _) = read(&given, Dialect::Slurm)?;
    if !words.has("--job-name") {
        submission.name = None;
    }
    Ok(submission)
}

/// How long one waits who wants it at once: `-I`, `-I10`.
pub(super) fn patience(words: &Words) -> Option<Duration> {
    let seconds = words
        .value("--immediate")
        .and_then(|text| text.parse().ok());
    words
        .has("--immediate")
        .then(|| Duration::from_secs(seconds.unwrap_or(1)))
}

/// Says why a job was not taken.
pub(super) fn refused(name: &str, refusal: Refusal) -> Stop {
    let text = match refusal {
        Refusal::Option(word) => format!("{name}: unrecognized option '{word}'"),
        Refusal::Script(lines) => lines.replace("command:", &format!("{name}:")),
        Refusal::Other(text) => format!("{name}: error: Unable to allocate resources: {text}"),
    };
    Stop::new(1, text)
}

/// Says why there are no nodes.
pub(super) fn stop(name: &str, what: &str, failed: Failed) -> Stop {
    let why = match failed {
        Failed::Refused(refusal) => return refused(name, refusal),
        Failed::Stop(stop) => return Stop::new(1, format!("{name}: error: {}", stop.text)),
        Failed::Busy => "Requested nodes are busy".into(),
        Failed::Interrupted(_) => "Interrupted system call".into(),
        Failed::Ended(why) => why,
    };
    Stop::new(1, format!("{name}: error: {what}: {why}"))
}

/// What runs on this host: the words, or a shell.
fn command(call: &Call, words: &Words, taken: &Allocation) -> anyhow::Result<Command> {
    let mut command = match words.rest.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
        None => Command::new(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())),
    };
    command.envs(taken.variables()?);
    // `srun` is found though nobody has made links of it.
    let links = queue::commands(&call.ctx, taken.for_host()?);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", links.display()));
    if let Some(folder) = words.value("--chdir") {
        command.current_dir(folder);
    }
    Ok(command)
}

/// Waits until a command ends, and tells it when its job has.
fn watch(
    mut child: Child,
    taken: &mut Allocation,
    is_shell: bool,
    number: u64,
) -> anyhow::Result<u8> {
    // Who is not in front is stopped where it takes the terminal, unless it is kept from it.
    let arrived = SignalFd::new(&[SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGTTOU])?;
    let pid = rustix::process::Pid::from_child(&child);
    let terminal = rustix::stdio::stdin();
    let before = rustix::termios::tcgetpgrp(terminal);
    if before.is_ok() {
        // Keys mean the command, which may have been stopped for reading before.
        let _ = rustix::termios::tcsetpgrp(terminal, pid);
        let _ = signals::send_to_group(pid, signals::SIGCONT);
    }
    let mut here = true;
    loop {
        if let Some(status) = child.try_wait()? {
            let by_signal = status.signal().map(ended_by);
            let code = status.code().map(|code| code as u8);
            if let Ok(before) = before {
                let _ = rustix::termios::tcsetpgrp(terminal, before);
            }
            return Ok(code.or(by_signal).unwrap_or(1));
        }
        let mut fds = vec![PollFd::new(&arrived, PollFlags::IN)];
        if here {
            fds.push(PollFd::new(&taken.keeper, PollFlags::IN));
        }
        let _ = poll(&mut fds, None);
        drop(fds);
        while let Some(signal) = arrived.next() {
            if matches!(signal, SIGHUP | SIGTERM) {
                let _ = signals::send_to_group(pid, signal);
            }
        }
        while here {
            match taken.keeper.try_hear() {
                Ok(Some(Heard::Told(Tell::Ended(_)))) | Err(_) => {
                    here = false;
                    eprintln!("salloc: Job allocation {number} has been revoked.");
                    let signal = if is_shell { SIGHUP } else { SIGTERM };
                    let _ = signals::send_to_group(pid, signal);
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
            }
        }
    }
}
