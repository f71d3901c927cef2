//! PBS Pro, OpenPBS and Torque: the options of qsub. Where the two families
//! differ both spellings are taken: `-J` and `-t` are arrays, `-l select=` and
//! `-l nodes=` are chunks and nodes.

mod resources;

use hyperion_model::submission::{Condition, Folder, Joined, MailEvent, Sharing};

use crate::jobs::amounts::{split, unquoted};
use crate::jobs::draft::{Draft, Stage};
use crate::jobs::options::{Arg, Does, Grammar, Style, Takes, Wrong, opt};
use crate::jobs::tell::shown;
use crate::jobs::values::*;
use crate::jobs::{dependency, time};

pub(in crate::jobs) use resources::RESOURCES;
use resources::{part_of, resources};

use Does::{Becomes, Note, Refuse, Reply};
use Takes::{Nothing, Perhaps, Value};

// One option a line.
#[rustfmt::skip]
pub(in crate::jobs) const GRAMMAR: Grammar = Grammar {
    style: Style::Letters,
    options: &[
        opt(&["-a"], Value, Becomes("earliest start", begin)),
        opt(&["-A"], Perhaps, Becomes("account", |d, a| text(a, &mut d.job.account))),
        opt(&["-b"], Value, Note("the server is asked once")),
        opt(&["-c"], Value, Note("no checkpoints are taken")),
        opt(&["-C"], Value, Becomes("what directives begin with; on the command line", prefix)),
        opt(&["-d"], Value, Becomes("working folder", |d, a| { d.job.folder = Folder::Path(a.text.to_owned()); Ok(()) })),
        opt(&["-D"], Value, Refuse("a job has no root of its own: choose an image when the job is submitted")),
        opt(&["-e"], Value, Becomes("file of errors", |d, a| { path(a, &mut d.job.files.error.path) })),
        opt(&["-f"], Nothing, Note("nothing runs in the background to submit a job")),
        opt(&["-F"], Value, Refuse("write what the script is given behind its name")),
        opt(&["-G"], Nothing, Refuse("there are no graphical sessions")),
        opt(&["-h"], Nothing, Becomes("hold", |d, _| { d.job.hold = true; Ok(()) })),
        opt(&["-I"], Nothing, Becomes("of `qsub`: a shell in the job, at this terminal", |d, _| { d.reply.interactive = true; d.reply.terminal = true; Ok(()) })),
        opt(&["-i"], Value, Becomes("file that it reads; note: a number, which Torque takes for an array's tasks that are queued at once", input)),
        opt(&["-j"], Value, Becomes("output and errors in one file", join)),
        opt(&["-J"], Value, Becomes("array, with how many may run at once", array)),
        opt(&["-k"], Value, Note("files are written in their place from the beginning")),
        opt(&["-K"], Value, Note("the time between signals is the queue's")),
        opt(&["-l"], Value, Becomes("resources, as below", resources)),
        opt(&["-L"], Value, Refuse("write the tasks with -l nodes=N:ppn=P")),
        opt(&["-m"], Value, Becomes("what mail is about; note: no mail is sent", mail)),
        opt(&["-M"], Value, Becomes("who gets mail; note: no mail is sent", mail_to)),
        opt(&["-n", "-E"], Nothing, Becomes("nodes alone", |d, _| { d.each_part(|part| part.sharing = Sharing::Nobody); Ok(()) })),
        opt(&["-N"], Value, Becomes("name", |d, a| text(a, &mut d.job.name))),
        opt(&["-o"], Value, Becomes("file of output", |d, a| { path(a, &mut d.job.files.output.path) })),
        opt(&["-p"], Value, Becomes("priority", priority)),
        opt(&["-P"], Perhaps, Becomes("project", |d, a| text(a, &mut d.job.project))),
        opt(&["-q"], Value, Becomes("queue; the server behind @ is left out", queue)),
        opt(&["-r"], Value, Becomes("whether it is started again", rerun)),
        opt(&["-R"], Value, Note("files stay when a job has ended")),
        opt(&["-S"], Value, Becomes("interpreter", |d, a| shell(a, &mut d.shell))),
        opt(&["-t"], Value, Becomes("array, with how many may run at once", array)),
        opt(&["-T"], Value, Refuse("call what comes before and after in the script")),
        opt(&["-u"], Value, Refuse("a job runs as who submits it")),
        opt(&["-v"], Value, Becomes("variables", variables)),
        opt(&["-V"], Nothing, Becomes("all variables", |d, _| { d.job.environment.all = true; Ok(()) })),
        opt(&["-w"], Value, Becomes("working folder", |d, a| { d.job.folder = Folder::Path(a.text.to_owned()); Ok(()) })),
        opt(&["-W"], Value, Becomes("attributes, as below", attributes)),
        opt(&["-x"], Nothing, Note("the script is read, and not run when it is submitted")),
        opt(&["-X"], Nothing, Note("no window is passed on")),
        opt(&["-z"], Nothing, Reply("nothing is printed", |d| d.reply.quiet = true)),
    ],
};

fn prefix(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    if draft.stage == Stage::Script {
        let what = "-C: it is for the command line, and changes nothing in a script".to_owned();
        draft.told.note(arg.span(None), what, None);
    }
    draft.prefix = Some(arg.text.to_owned());
    Ok(())
}

fn begin(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let wrong = || {
        Wrong::new(format!("{} is not a time", shown(arg.text)))
            .hint("write [[[[CC]YY]MM]DD]hhmm[.SS]")
    };
    draft.job.begin = Some(time::digits(arg.text).ok_or_else(wrong)?);
    Ok(())
}

fn input(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    if arg.text.bytes().all(|b| b.is_ascii_digit()) {
        let what = "-i: all tasks of an array are queued".to_owned();
        draft.told.note(arg.span(None), what, None);
        return Ok(());
    }
    path(arg, &mut draft.job.files.input)
}

fn join(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.files.joined = match arg.text {
        "oe" => Some(Joined::Output),
        "eo" => Some(Joined::Error),
        "n" => None,
        other => return Err(Wrong::new(format!("{} is not oe, eo or n", shown(other)))),
    };
    Ok(())
}

fn mail(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    mail_letters(draft, arg)?;
    if arg.text != "n" && arg.text != "p" {
        no_mail(draft, arg);
    }
    Ok(())
}

/// Reads the letters of `-m`.
pub(in crate::jobs) fn mail_letters(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let on = &mut draft.job.mail.on;
    on.clear();
    for letter in arg.text.chars() {
        match letter {
            'a' => on.insert(MailEvent::Fail),
            'b' => on.insert(MailEvent::Begin),
            'e' => on.insert(MailEvent::End),
            's' => on.insert(MailEvent::Suspend),
            // Not at all; of each task of an array; of failures alone.
            'n' | 'p' | 'j' | ',' => false,
            'f' => on.insert(MailEvent::Fail),
            _ => {
                return Err(Wrong::new(format!(
                    "{} is not of a, b, e and n",
                    shown(arg.text)
                )));
            }
        };
    }
    Ok(())
}

pub(in crate::jobs) fn mail_to(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.mail.to = arg
        .text
        .split(',')
        .filter(|to| !to.is_empty())
        .map(str::to_owned)
        .collect();
    no_mail(draft, arg);
    Ok(())
}

fn priority(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let number = integer(arg.text)?;
    if !(-1024..=1023).contains(&number) {
        return Err(Wrong::new("a priority is from -1024 to 1023"));
    }
    draft.job.priority = Some(number);
    Ok(())
}

fn queue(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let (queue, server) = arg.text.split_once('@').unwrap_or((arg.text, ""));
    if !server.is_empty() {
        let from = queue.len();
        draft.told.note(
            arg.span(Some((from, arg.text.len()))),
            "-q: there is one server".to_owned(),
            None,
        );
    }
    let queues: Vec<String> = Some(queue.to_owned())
        .filter(|queue| !queue.is_empty())
        .into_iter()
        .collect();
    draft.each_part(|part| part.queues.clone_from(&queues));
    Ok(())
}

fn rerun(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.requeue = Some(yes(arg.text)?);
    Ok(())
}

/// Reads `NAME,NAME=VALUE`, where quotes keep commas.
pub(in crate::jobs) fn variables(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    for part in split(arg.text, ',') {
        match part.split_once('=') {
            _ if part.trim().is_empty() => {}
            Some((name, value)) => {
                let name = variable(arg, name.trim_start_matches(['"', '\'']))?;
                draft
                    .job
                    .environment
                    .set
                    .insert(name, unquoted(value).to_owned());
            }
            None => {
                let name = variable(arg, part)?;
                draft.job.environment.pass.insert(name);
            }
        }
    }
    Ok(())
}

fn attributes(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    // A comma is between two attributes only where a name and `=` stand behind it.
    let mut starts = vec![0];
    for (at, _) in arg.text.match_indices(',') {
        let rest = arg.text[at + 1..].trim_start();
        let name = rest.split_once('=').map(|(name, _)| name);
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if name.is_some_and(is_name) {
            starts.push(at + 1);
        }
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|start| start - 1)
        .chain([arg.text.len()]);
    let parts: Vec<&str> = starts
        .iter()
        .zip(ends)
        .map(|(from, to)| arg.text[*from..to].trim())
        .collect();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = unquoted(value.trim());
        let here = arg.span(part_of(arg, part, part));
        match name.trim().to_ascii_lowercase().as_str() {
            "depend" => {
                let wrong = |wrong: Wrong| {
                    let inner = wrong.part.map_or(value, |(from, to)| &value[from..to]);
                    wrong.at(arg.text, inner)
                };
                let more = dependency::pbs(value).map_err(wrong)?;
                draft.job.after = Some(match draft.job.after.take() {
                    Some(Condition::All(mut all))
                        if draft.stage_of("-W-depend") == Some(draft.stage) =>
                    {
                        all.push(more);
                        Condition::All(all)
                    }
                    Some(one) if draft.stage_of("-W-depend") == Some(draft.stage) => {
                        Condition::All(vec![one, more])
                    }
                    _ => more,
                });
                draft.given.insert("-W-depend", (draft.stage, here));
            }
            "block" => draft.job.wait = yes(value).map_err(|wrong| wrong.at(arg.text, part))?,
            "umask"
            | "group_list"
            | "run_count"
            | "sandbox"
            | "interactive"
            | "pwd"
            | "release_nodes_on_stageout"
            | "create_resv_from_job"
            | "fault_tolerant"
            | "tolerate_node_failures" => {
                draft
                    .told
                    .note(here, format!("{name}: it means nothing here"), None);
            }
            "x" => draft
                .told
                .note(here, "x: the words of Moab are not read".to_owned(), None),
            "stagein" | "stageout" => {
                let hint = "copy files in the script";
                return Err(Wrong::new(format!("{name} is not known here"))
                    .at(arg.text, part)
                    .hint(hint));
            }
            _ => {
                let wrong =
                    Wrong::new(format!("there is no attribute {}", shown(name))).at(arg.text, part);
                return Err(wrong.hint("write depend= or block=true"));
            }
        }
    }
    Ok(())
}

/// Checks what no single option shows.
pub(in crate::jobs) fn finish(draft: &mut Draft) {
    draft.settle_features();
    let wide = ["ncpus", "mem", "vmem", "mpiprocs", "ngpus", "nodes"];
    let beside = wide
        .into_iter()
        .find_map(|name| Some((name, draft.said.get(name)?.2.clone())));
    if let Some((name, span)) = beside
        && draft.said.contains_key("select")
    {
        let what = format!("-l: {name} stands beside select; PBS takes one of them");
        let hint = format!("write {name} into the chunks of select");
        let hint = Some(hint).filter(|_| name != "nodes");
        draft.told.mistake(span, what, hint);
    }
    let alone = draft.said.get("place");
    if let Some((.., span)) = alone.filter(|_| !draft.said.contains_key("select")) {
        let what = "-l: place stands without select, which PBS does not take".to_owned();
        let hint = "write -l select=N:ncpus=C too".to_owned();
        draft.told.mistake(span.clone(), what, Some(hint));
    }
}
