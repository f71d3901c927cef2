//! LSF: the options of bsub, and the strings of `-R` and `-gpu`.

mod sections;

use std::time::Duration;

use hyperion_model::Bytes;
use hyperion_model::submission::{
    Folder, MailEvent, NodeCount, Open, Part, Per, Sharing, TimeLimit, Warning, WarningTo,
};

use crate::jobs::amounts::{count, size, split, unquoted};
use crate::jobs::draft::Draft;
use crate::jobs::options::{Arg, Does, Grammar, Style, Takes, Wrong, opt};
use crate::jobs::signals::signal;
use crate::jobs::tell::shown;
use crate::jobs::values::*;
use crate::jobs::{Span, dependency, hosts, time};

pub(in crate::jobs) use sections::SECTIONS;
use sections::{compound, sections};

use Does::{Becomes, Note, Refuse, Reply};
use Takes::{Nothing, Value};

const TERMINAL: &str = "of `bsub`: it has a terminal, this one";
const SESSIONS: &str = "jobs are not put into groups";
const MANAGER: &str = "there is no manager of the cluster beside the queue";

// One option a line.
#[rustfmt::skip]
pub(in crate::jobs) const GRAMMAR: Grammar = Grammar {
    style: Style::Names,
    options: &[
        opt(&["-a"], Value, Note("there are no programs of the site that change a job")),
        opt(&["-alloc_flags"], Value, Note("no programs of the site make nodes ready")),
        opt(&["-app"], Value, Note("there are no profiles of applications")),
        opt(&["-ar"], Nothing, Note("a job keeps the size that it began with")),
        opt(&["-B"], Nothing, Becomes("mail when it begins; note: no mail is sent", |d, a| { mail(d, a, MailEvent::Begin) })),
        opt(&["-b"], Value, Becomes("earliest start", begin)),
        opt(&["-C"], Value, Becomes("limit of core files", |d, a| limit(d, a, "core"))),
        opt(&["-c"], Value, Note("processor time is not limited; the time limit is")),
        opt(&["-clusters"], Value, Note("there is one cluster")),
        opt(&["-cn_cu"], Value, Note(MANAGER)),
        opt(&["-cn_mem"], Value, Refuse("write the memory with -R \"rusage[mem=N]\"")),
        opt(&["-core_isolation"], Value, Note("no cores are set aside for the system")),
        opt(&["-csm"], Value, Note(MANAGER)),
        opt(&["-cwd"], Value, Becomes("working folder", cwd)),
        opt(&["-D"], Value, Becomes("limit of data", |d, a| limit(d, a, "data"))),
        opt(&["-data"], Value, Refuse("copy files in the script")),
        opt(&["-datagrp"], Value, Note("there is no manager of data")),
        opt(&["-datachk"], Nothing, Note("there is no manager of data")),
        opt(&["-E"], Value, Refuse("call what comes before in the script")),
        opt(&["-Ep"], Value, Refuse("call what comes after in the script")),
        opt(&["-e"], Value, Becomes("file of errors, appended to", |d, a| { file(d, a, false, Open::Append) })),
        opt(&["-eo"], Value, Becomes("file of errors, written over", |d, a| { file(d, a, false, Open::Truncate) })),
        opt(&["-env"], Value, Becomes("variables", environment)),
        opt(&["-eptl"], Value, Note("the time that it may wait is not limited")),
        opt(&["-ext", "-extsched"], Value, Note("there is no scheduler beside the queue's own")),
        opt(&["-F"], Value, Becomes("limit of the size of a file", |d, a| limit(d, a, "fsize"))),
        opt(&["-f"], Value, Refuse("copy files in the script")),
        opt(&["-freq"], Value, Note("frequencies are left as they are")),
        opt(&["-G"], Value, Becomes("account", |d, a| text(a, &mut d.job.account))),
        opt(&["-g"], Value, Note(SESSIONS)),
        opt(&["-gpu"], Value, Becomes("GPUs, as below", gpu)),
        opt(&["-H"], Nothing, Becomes("hold", |d, _| { d.job.hold = true; Ok(()) })),
        opt(&["-h", "-help"], Nothing, Note("it asks for help, and is left out")),
        opt(&["-hl"], Nothing, Note("limits hold on each host")),
        opt(&["-hostfile"], Value, Refuse("write the hosts with -m")),
        opt(&["-I"], Nothing, Becomes("of `bsub`: its output comes back here", |d, _| { d.reply.interactive = true; Ok(()) })),
        opt(&["-Ip"], Nothing, Becomes(TERMINAL, at_terminal)),
        opt(&["-Is"], Nothing, Becomes(TERMINAL, at_terminal)),
        opt(&["-IS", "-ISp", "-ISs"], Nothing, Becomes(TERMINAL, at_terminal)),
        opt(&["-IX"], Nothing, Refuse("no window is passed on: take -Is")),
        opt(&["-i"], Value, Becomes("file that it reads", |d, a| text(a, &mut d.job.files.input))),
        opt(&["-is"], Value, Becomes("file that it reads", |d, a| text(a, &mut d.job.files.input))),
        opt(&["-J"], Value, Becomes("name, and in brackets an array", name)),
        opt(&["-Jd"], Value, Becomes("comment", |d, a| text(a, &mut d.job.comment))),
        opt(&["-jobaff"], Value, Note("how jobs lie beside one another is the queue's choice")),
        opt(&["-json"], Value, Refuse("another language of jobs is not read")),
        opt(&["-jsm"], Value, Note(MANAGER)),
        opt(&["-jsdl", "-jsdl_strict"], Value, Refuse("another language of jobs is not read")),
        opt(&["-K"], Nothing, Becomes("wait for the end", |d, _| { d.job.wait = true; Ok(()) })),
        opt(&["-k"], Value, Note("no checkpoints are taken")),
        opt(&["-L"], Value, Becomes("interpreter of the login", |d, a| { shell(a, &mut d.shell) })),
        opt(&["-Lp"], Value, Note("licences are counted by -R")),
        opt(&["-ln_mem"], Value, Note("there is no launch node")),
        opt(&["-ln_slots"], Value, Note("there is no launch node")),
        opt(&["-M"], Value, Becomes("memory of each node, where -R names none; a number alone counts KiB", memory_limit)),
        opt(&["-m"], Value, Becomes("hosts that it may run on, any with `others`; note: `!` and `+`", on_hosts)),
        opt(&["-mig"], Value, Note("jobs are not moved")),
        opt(&["-N"], Nothing, Becomes("mail when it ends; note: no mail is sent", |d, a| { mail(d, a, MailEvent::End) })),
        opt(&["-Ne"], Nothing, Becomes("mail when it fails; note: no mail is sent", |d, a| { mail(d, a, MailEvent::Fail) })),
        opt(&["-n"], Value, Becomes("tasks, fewest and most", tasks)),
        opt(&["-network"], Value, Note("the network is the host's")),
        opt(&["-nnodes"], Value, Becomes("nodes, alone", whole_nodes)),
        opt(&["-notify"], Value, Note("no mail is sent")),
        opt(&["-o"], Value, Becomes("file of output, appended to", |d, a| { file(d, a, true, Open::Append) })),
        opt(&["-oo"], Value, Becomes("file of output, written over", |d, a| { file(d, a, true, Open::Truncate) })),
        opt(&["-outdir"], Value, Note("name the folder in -o")),
        opt(&["-P"], Value, Becomes("project", |d, a| text(a, &mut d.job.project))),
        opt(&["-p"], Value, Becomes("limit of processes", |d, a| limit_of(d, a, "nproc", 1))),
        opt(&["-pack"], Value, Refuse("submit the jobs one by one")),
        opt(&["-ptl"], Value, Note("the time that it may wait is not limited")),
        opt(&["-Q"], Value, Note("it is started again when its node fails, and not for an exit code")),
        opt(&["-q"], Value, Becomes("queues", queues)),
        opt(&["-R"], Value, Becomes("requirements, as below", requirement)),
        opt(&["-r"], Nothing, Becomes("started again", |d, _| { d.job.requeue = Some(true); Ok(()) })),
        opt(&["-rcacct"], Value, Note("resources are not borrowed")),
        opt(&["-rn"], Nothing, Becomes("not started again", |d, _| { d.job.requeue = Some(false); Ok(()) })),
        opt(&["-rnc"], Value, Note("a job keeps the size that it began with")),
        opt(&["-S"], Value, Becomes("limit of the stack", |d, a| limit(d, a, "stack"))),
        opt(&["-s"], Value, Note("the queue says which signal is sent")),
        opt(&["-sla"], Value, Becomes("quality of service", |d, a| text(a, &mut d.job.qos))),
        opt(&["-smt"], Value, Note("the threads of a core are as the host has them")),
        opt(&["-sp"], Value, Becomes("priority", |d, a| { d.job.priority = Some(integer(a.text)?); Ok(()) })),
        opt(&["-stage"], Value, Refuse("copy files in the script")),
        opt(&["-step_cgroup"], Value, Note(MANAGER)),
        opt(&["-T"], Value, Note("threads are not limited")),
        opt(&["-t"], Value, Becomes("deadline", deadline)),
        opt(&["-ti"], Nothing, Note("a job that waits for what cannot happen says so in its explanation")),
        opt(&["-tty"], Nothing, Note("a script does not run in a terminal")),
        opt(&["-U"], Value, Becomes("reservation", |d, a| text(a, &mut d.job.reservation))),
        opt(&["-u"], Value, Becomes("who gets mail; note: no mail is sent", mail_to)),
        opt(&["-ul"], Nothing, Note("a job has the limits of processes that its node gives")),
        opt(&["-V"], Nothing, Reply("the version", |_| {})),
        opt(&["-v"], Value, Becomes("limit of memory with what is swapped", |d, a| { limit(d, a, "as") })),
        opt(&["-W"], Value, Becomes("time limit", time_limit)),
        opt(&["-We"], Value, Note("how long it will run is not guessed from that")),
        opt(&["-w"], Value, Becomes("condition on other jobs", depend)),
        opt(&["-wa"], Value, Becomes("signal before the end", warning)),
        opt(&["-wt"], Value, Becomes("how long before the end it is sent", warning_time)),
        opt(&["-x"], Nothing, Becomes("nodes alone", |d, _| { d.part().sharing = Sharing::Nobody; Ok(()) })),
        opt(&["-XF"], Nothing, Note("no window is passed on")),
        opt(&["-yaml"], Value, Refuse("another language of jobs is not read")),
        opt(&["-Zs"], Nothing, Note("the script is kept anyway")),
    ],
};

fn mail(draft: &mut Draft, arg: &Arg<'_>, event: MailEvent) -> Read {
    draft.job.mail.on.insert(event);
    no_mail(draft, arg);
    Ok(())
}

fn mail_to(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.mail.to = vec![arg.text.to_owned()];
    no_mail(draft, arg);
    Ok(())
}

fn moment(arg: &Arg<'_>) -> Result<hyperion_model::submission::Moment, Wrong> {
    let wrong = || {
        Wrong::new(format!("{} is not a time", shown(arg.text)))
            .hint("write [[[year:]month:]day:]hour:minute")
    };
    time::lsf_moment(arg.text).ok_or_else(wrong)
}

fn begin(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.begin = Some(moment(arg)?);
    Ok(())
}

fn deadline(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.deadline = Some(moment(arg)?);
    Ok(())
}

fn limit(draft: &mut Draft, arg: &Arg<'_>, name: &str) -> Read {
    let Bytes(bytes) = size(arg.text.trim_end_matches('!').trim_end(), 1 << 10)?;
    set_limit(draft, name, bytes);
    Ok(())
}

fn limit_of(draft: &mut Draft, arg: &Arg<'_>, name: &str, least: u32) -> Read {
    let number = count(arg.text, least)?;
    set_limit(draft, name, u64::from(number));
    Ok(())
}

fn cwd(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.folder = Folder::Path(arg.text.to_owned());
    Ok(())
}

fn file(draft: &mut Draft, arg: &Arg<'_>, output: bool, open: Open) -> Read {
    let files = &mut draft.job.files;
    let stream = if output {
        &mut files.output
    } else {
        &mut files.error
    };
    stream.open = open;
    text(arg, &mut stream.path)
}

fn environment(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let environment = &mut draft.job.environment;
    *environment = Default::default();
    for part in split(arg.text, ',') {
        let part = part.trim();
        match part.split_once('=') {
            _ if part == "all" => environment.all = true,
            _ if part == "none" || part.is_empty() => {}
            Some((name, value)) => {
                let name = variable(arg, name)?;
                environment.set.insert(name, unquoted(value).to_owned());
            }
            None if part.starts_with('~') => {
                return Err(Wrong::new("variables cannot be taken out")
                    .at(arg.text, part)
                    .hint("unset them in the script"));
            }
            None => {
                let name = variable(arg, part)?;
                environment.pass.insert(name);
            }
        }
    }
    Ok(())
}

fn name(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let Some((name, rest)) = arg.text.split_once('[') else {
        draft.job.array = None;
        return text(arg, &mut draft.job.name);
    };
    let (indices, behind) = rest
        .split_once(']')
        .ok_or_else(|| Wrong::new("`]` is missing"))?;
    if !behind.is_empty() && !behind.starts_with('%') {
        return Err(Wrong::new("`%` and a number are expected behind `]`").at(arg.text, behind));
    }
    let array = format!("{indices}{behind}").parse();
    let wrong = |error: hyperion_model::indices::IndexError| {
        Wrong::new(error.to_string()).at(arg.text, indices)
    };
    draft.job.array = Some(array.map_err(wrong)?);
    draft.job.name = Some(name.to_owned()).filter(|name| !name.is_empty());
    Ok(())
}

fn memory_limit(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let text = arg.text.trim_end_matches('!').trim_end();
    draft.limit_memory = Some(size(text, 1 << 10)?);
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let what = "-M: a number alone is taken as KiB, as LSF's manual has it; sites may mean another unit";
        draft.told.note(
            arg.span(None),
            what.to_owned(),
            Some("write the unit: 8GB".to_owned()),
        );
    }
    Ok(())
}

fn on_hosts(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let mut all = Vec::new();
    let (mut liked, mut anywhere) = (false, false);
    for part in arg.text.split_whitespace() {
        let host = part.split('+').next().unwrap_or(part);
        let host = host.trim_end_matches('!');
        liked |= host.len() < part.len();
        match host {
            "" => {}
            "others" | "all" => anywhere = true,
            // What stands behind `@` is the cluster that it is in.
            host => all.push(host.split('@').next().unwrap_or(host)),
        }
    }
    if anywhere {
        // It may run on any other host too: what is named is liked better.
        all.clear();
    }
    if liked {
        let what = "-m: which hosts are liked better or come first is not looked at";
        draft.told.note(arg.span(None), what.to_owned(), None);
    }
    let wrong = || Wrong::new(format!("{} is not a list of hosts", shown(arg.text)));
    draft.part().hosts = hosts::expand(&all.join(",")).ok_or_else(wrong)?;
    Ok(())
}

fn tasks(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let (least, most) = arg.text.split_once(',').unwrap_or((arg.text, arg.text));
    let number = |text: &str| count(text, 1).map_err(|wrong| wrong.at(arg.text, text));
    let least_number = if least.is_empty() { 1 } else { number(least)? };
    let most_number = if most.is_empty() {
        least_number
    } else {
        number(most)?
    };
    if least_number > most_number {
        return Err(Wrong::new("the most tasks are fewer than the fewest"));
    }
    let part = draft.part();
    part.tasks.insert(Per::Job, least_number);
    part.most_tasks = Some(most_number).filter(|most| *most > least_number);
    Ok(())
}

fn whole_nodes(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let nodes = count(arg.text, 1)?;
    let part = draft.part();
    part.nodes = Some(NodeCount {
        least: nodes,
        most: nodes,
    });
    part.sharing = Sharing::Nobody;
    Ok(())
}

fn queues(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let queues = arg
        .text
        .split([' ', '\t'])
        .filter(|queue| !queue.is_empty());
    draft.part().queues = queues
        .map(|queue| queue.split('@').next().unwrap_or(queue).to_owned())
        .collect();
    Ok(())
}

fn without_host(text: &str) -> &str {
    text.split('/').next().unwrap_or(text)
}

fn time_limit(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let wrong =
        || Wrong::new(format!("{} is not a limit", shown(arg.text))).hint("write minutes or HH:MM");
    let span = time::lsf(without_host(arg.text)).ok_or_else(wrong)?;
    if arg.text.contains('/') {
        draft.told.note(
            arg.span(None),
            "-W: hosts are not faster or slower than one another".to_owned(),
            None,
        );
    }
    draft.job.time_limit = Some(match span.is_zero() {
        true => TimeLimit::Unlimited,
        false => TimeLimit::Span(span),
    });
    Ok(())
}

fn depend(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.after = Some(dependency::lsf(arg.text)?);
    Ok(())
}

const WARNING: Duration = Duration::from_secs(120);

fn warning(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let wrong = || {
        Wrong::new(format!("{} is not a signal", shown(arg.text)))
            .hint("do what must be done in a trap of the script")
    };
    let signal = signal(arg.text).ok_or_else(wrong)?;
    let before = draft.job.warning.map_or(WARNING, |warning| warning.before);
    draft.job.warning = Some(Warning {
        signal,
        before,
        to: WarningTo::Everything,
    });
    Ok(())
}

fn warning_time(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let wrong =
        || Wrong::new(format!("{} is not a time", shown(arg.text))).hint("write minutes or HH:MM");
    let before = time::lsf(arg.text).ok_or_else(wrong)?;
    let known = draft.job.warning;
    draft.job.warning = Some(Warning {
        signal: known.map_or(10, |warning| warning.signal),
        before,
        to: WarningTo::Everything,
    });
    Ok(())
}

fn requirement(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    // All of the script's count, and none of them beside the command line's.
    let stage = draft.stage;
    draft.requirements.retain(|(known, ..)| *known == stage);
    let span = arg.span(None);
    check_requirement(arg)?;
    draft.requirements.push((stage, arg.text.to_owned(), span));
    Ok(())
}

/// Reads it once for its mistakes, while their place is known.
fn check_requirement(arg: &Arg<'_>) -> Read {
    let mut part = Part::default();
    let mut notes = Vec::new();
    for (text, _) in compound(arg.text)? {
        sections(text, &mut part, &mut notes).map_err(|wrong| match wrong.part {
            Some((from, to)) => wrong.clone().at(arg.text, &text[from..to]),
            None => wrong.at(arg.text, text),
        })?;
    }
    Ok(())
}

fn gpu(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let (mut number, mut per, mut kind, mut vendor) = (1, Per::Node, None, None);
    let mut told = Vec::new();
    for field in arg
        .text
        .split(':')
        .map(str::trim)
        .filter(|field| !field.is_empty() && *field != "-")
    {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        match (name, value) {
            ("num", value) => {
                let (count_text, of) = value.split_once('/').unwrap_or((value, "host"));
                number = count(count_text, 1).map_err(|wrong| wrong.at(arg.text, count_text))?;
                per = match of {
                    "host" => Per::Node,
                    "task" => Per::Task,
                    _ => return Err(Wrong::new("`/host` or `/task` is expected").at(arg.text, of)),
                };
            }
            ("gmodel", model) => {
                let (name, memory) = model.split_once('#').unwrap_or((model, ""));
                kind = Some(name.to_owned());
                if !memory.is_empty() {
                    told.push(format!(
                        "-gpu: the memory of {} is not looked at",
                        shown(name)
                    ));
                }
            }
            ("gvendor", name) => vendor = Some(name.to_owned()),
            ("mode", "shared")
            | ("mps" | "j_exclusive" | "aff" | "block" | "gpack", "no")
            | ("j_exclusive" | "aff", "yes") => {}
            ("mode", "exclusive_process")
            | ("block" | "gpack" | "glink", "yes")
            | ("gtile" | "gmem" | "nvlink", _) => {
                told.push(format!("-gpu: {name} is not looked at"));
            }
            ("mps", _) | ("mig", _) => {
                let wrong = Wrong::new(format!(
                    "{name} is not known here: each task has whole GPUs"
                ));
                return Err(wrong
                    .at(arg.text, field)
                    .hint("leave it out, or start the service in the script"));
            }
            _ => {
                let wrong =
                    Wrong::new(format!("{} is not known", shown(field))).at(arg.text, field);
                return Err(wrong.hint("write num=2:gmodel=NAME"));
            }
        }
    }
    for what in told {
        draft.told.note(arg.span(None), what, None);
    }
    set_resource(
        draft.part(),
        device("gpu", kind.or(vendor), u64::from(number), per),
    );
    Ok(())
}

fn at_terminal(draft: &mut Draft, _: &Arg<'_>) -> Result<(), Wrong> {
    draft.reply.interactive = true;
    draft.reply.terminal = true;
    Ok(())
}

/// Puts the strings of `-R` together, once all are known.
pub(in crate::jobs) fn finish(draft: &mut Draft) {
    let requirements = std::mem::take(&mut draft.requirements);
    let mut notes: Vec<(Span, String)> = Vec::new();
    for (_, text, span) in &requirements {
        let Ok(all) = compound(text) else { continue };
        let counted = all.iter().any(|(_, count)| count.is_some());
        for (at, (text, count)) in all.into_iter().enumerate() {
            let mut told = Vec::new();
            draft.part = if counted { at } else { 0 };
            let part = draft.part();
            if let Some(count) = count {
                part.tasks.insert(Per::Job, count);
            }
            // Its mistakes were told where it was given.
            let _ = sections(text, part, &mut told);
            notes.extend(
                told.into_iter()
                    .map(|what| (span.clone(), format!("-R: {what}"))),
            );
        }
    }
    for (span, what) in notes {
        draft.told.note(span, what, None);
    }
    draft.part = 0;
    draft.settle_memory(Per::Node);
    if draft.job.array.is_none() {
        draft.job.after = draft.job.after.take().map(dependency::of_whole);
    }
    if draft.job.files.output.path.is_none()
        && !draft.reply.interactive
        && let Some(at) = draft
            .given
            .get("-J")
            .or(draft.given.get("-n"))
            .or(draft.given.get("-W"))
            .cloned()
    {
        let what = "LSF mails the output of a job that names no file; it is written to lsf-JOB.out"
            .to_owned();
        draft
            .told
            .note(at.1, what, Some("name a file with -o".to_owned()));
    }
}
