//! Slurm: the options of sbatch. The source is its manual, from 15.08 to 26.11,
//! and what sbatch 22.05 was seen to make of each form.

mod update;
mod variables;
mod whole;

use std::time::Duration;

use hyperion_model::Bytes;
use hyperion_model::submission::{
    Arrangement, Folder, MailEvent, NodeCount, Open, Per, Resource, Sharing, Warning, WarningTo,
};

use crate::jobs::amounts::{count, size, split, unquoted};
use crate::jobs::draft::{Draft, Stage};
use crate::jobs::options::{Arg, Does, Grammar, Style, Takes, Wrong, opt};
use crate::jobs::signals::signal;
use crate::jobs::tell::shown;
use crate::jobs::values::*;
use crate::jobs::words::Word;
use crate::jobs::{dependency, hosts, time};

pub use update::{Update, update};
pub(in crate::jobs) use variables::variables;
pub(in crate::jobs) use whole::finish;

use Does::{Becomes, Note, Refuse, Reply};
use Takes::{Attached, Nothing, Value};

const LAYOUT: &str = "how tasks are laid out on a node is left to the launcher";
const TOPOLOGY: &str = "the sockets, cores and threads of nodes are not chosen here";
const MEASURE: &str = "there is one way of measuring here, and it is always on";
const FREQUENCY: &str = "frequencies are left as they are";
const BOUND: &str = "each task sees the GPUs that it was given";
const BUFFER: &str = "there is no burst buffer: copy files in the script";
const CONTAINER: &str =
    "a bundle of a container is not taken: choose an image when the job is submitted";
const HELP: &str = "it asks for help, and is left out";
const LABELS: &str = "there are no security labels";
const SWITCHES: &str = "the switches between nodes are not known";

// One option a line.
#[rustfmt::skip]
pub(in crate::jobs) const GRAMMAR: Grammar = Grammar {
    style: Style::Long,
    options: &[
        opt(&["--account", "-A"], Value, Becomes("account", |d, a| text(a, &mut d.job.account))),
        opt(&["--acctg-freq"], Value, Note(MEASURE)),
        opt(&["--array", "-a"], Value, Becomes("array, with how many may run at once", array)),
        opt(&["--autocomplete"], Value, Note(HELP)),
        opt(&["--batch"], Value, Refuse("the script runs on the first node; ask for its features with --constraint")),
        opt(&["--bb"], Value, Refuse(BUFFER)),
        opt(&["--bbf"], Value, Refuse(BUFFER)),
        opt(&["--begin", "-b"], Value, Becomes("earliest start", begin)),
        opt(&["--chdir", "--workdir", "-D"], Value, Becomes("working folder", chdir)),
        opt(&["--checkpoint"], Value, Note("no checkpoints are taken")),
        opt(&["--checkpoint-dir"], Value, Note("no checkpoints are taken")),
        opt(&["--cluster-constraint"], Value, Note("there is one cluster")),
        opt(&["--clusters", "--cluster", "-M"], Value, Note("there is one cluster")),
        opt(&["--comment"], Value, Becomes("comment", |d, a| text(a, &mut d.job.comment))),
        opt(&["--consolidate-segments"], Nothing, Note(SWITCHES)),
        opt(&["--constraint", "-C"], Value, Becomes("features of nodes", |d, a| text(a, &mut d.part().features))),
        opt(&["--container"], Value, Refuse(CONTAINER)),
        opt(&["--container-id"], Value, Refuse(CONTAINER)),
        opt(&["--context"], Value, Note(LABELS)),
        opt(&["--contiguous"], Nothing, Note("nodes have no order here")),
        opt(&["--core-spec", "-S"], Value, Becomes("nodes alone; note: no cores are set aside for the system", specialized)),
        opt(&["--cores-per-socket"], Value, Note(TOPOLOGY)),
        opt(&["--cpu-bind", "--cpu_bind"], Value, Note("it is an option of srun; give it there")),
        opt(&["--cpu-freq"], Value, Note(FREQUENCY)),
        opt(&["--cpus-per-gpu"], Value, Becomes("processors for each GPU", |d, a| cpus(d, a, Per::Gpu))),
        opt(&["--cpus-per-task", "-c"], Value, Becomes("processors for each task", |d, a| cpus(d, a, Per::Task))),
        opt(&["--deadline"], Value, Becomes("deadline", deadline)),
        opt(&["--delay-boot"], Value, Note("no node is booted for a job")),
        opt(&["--dependency", "-d"], Value, Becomes("condition on other jobs", depend)),
        opt(&["--distribution", "-m"], Value, Note(LAYOUT)),
        opt(&["--error", "-e"], Value, Becomes("file of errors", |d, a| { text(a, &mut d.job.files.error.path) })),
        opt(&["--exclude", "-x"], Value, Becomes("hosts that it is not on", exclude)),
        opt(&["--exclusive"], Attached, Becomes("nodes alone", exclusive)),
        opt(&["--export"], Value, Becomes("variables", export)),
        opt(&["--export-file"], Value, Refuse("write the variables into the script, or name them with --export")),
        opt(&["--external"], Nothing, Refuse("a job has a script: submit one")),
        opt(&["--extra"], Value, Note("no text is looked for in nodes: name features with --constraint")),
        opt(&["--extra-node-info", "-B"], Value, Note(TOPOLOGY)),
        opt(&["--get-user-env"], Attached, Note("variables of a login are not added; those of whoever submits are there")),
        opt(&["--gid"], Value, Refuse("a job runs as who submits it")),
        opt(&["--gpu-bind"], Value, Note(BOUND)),
        opt(&["--gpu-freq"], Value, Note(FREQUENCY)),
        opt(&["--gpus", "-G"], Value, Becomes("GPUs in all", |d, a| gpus(d, a, Per::Job))),
        opt(&["--gpus-per-node"], Value, Becomes("GPUs of each node", |d, a| gpus(d, a, Per::Node))),
        opt(&["--gpus-per-socket"], Value, Becomes("GPUs of each socket", |d, a| gpus(d, a, Per::Socket))),
        opt(&["--gpus-per-task"], Value, Becomes("GPUs of each task", |d, a| gpus(d, a, Per::Task))),
        opt(&["--gres"], Value, Becomes("devices of each node", gres)),
        opt(&["--gres-flags"], Value, Note("devices are bound as the host has them")),
        opt(&["--help", "-h"], Nothing, Note(HELP)),
        opt(&["--hint"], Value, Note(LAYOUT)),
        opt(&["--hold", "-H"], Nothing, Becomes("hold", |d, _| { d.job.hold = true; Ok(()) })),
        opt(&["--ignore-pbs"], Nothing, Note("directives of other systems are never read beside Slurm's")),
        opt(&["--immediate", "-I"], Attached, Refuse("a job that cannot start now waits: leave the option out")),
        opt(&["--input", "-i"], Value, Becomes("file that it reads", |d, a| text(a, &mut d.job.files.input))),
        opt(&["--job-name", "-J"], Value, Becomes("name", |d, a| text(a, &mut d.job.name))),
        opt(&["--kill-on-invalid-dep"], Value, Note("a job that waits for what cannot happen says so in its explanation")),
        opt(&["--licenses", "-L"], Value, Becomes("licences", licences)),
        opt(&["--mail-type"], Value, Becomes("what mail is about; note: no mail is sent", mail_type)),
        opt(&["--mail-user"], Value, Becomes("who gets mail; note: no mail is sent", mail_user)),
        opt(&["--mcs-label"], Value, Note(LABELS)),
        opt(&["--mem"], Value, Becomes("memory of each node; 0 is all of it", mem)),
        opt(&["--mem-bind", "--mem_bind"], Value, Note(LAYOUT)),
        opt(&["--mem-per-cpu"], Value, Becomes("memory for each processor", |d, a| memory(d, a, Per::Cpu))),
        opt(&["--mem-per-gpu"], Value, Becomes("memory for each GPU", |d, a| memory(d, a, Per::Gpu))),
        opt(&["--mem-update"], Value, Note("a job keeps the memory that it began with")),
        opt(&["--mincpus"], Value, Becomes("processors of each node", |d, a| cpus(d, a, Per::Node))),
        opt(&["--network"], Value, Note("the network is the host's")),
        opt(&["--nice"], Attached, Becomes("nice value", nice)),
        opt(&["--no-kill", "-k"], Attached, Becomes("goes on when a node fails", no_kill)),
        opt(&["--no-requeue"], Nothing, Becomes("not started again", |d, _| { d.job.requeue = Some(false); Ok(()) })),
        opt(&["--nodefile", "-F"], Value, Refuse("write the hosts with --nodelist")),
        opt(&["--nodelist", "-w"], Value, Becomes("hosts, and as many nodes", nodelist)),
        opt(&["--nodes", "-N"], Value, Becomes("nodes, fewest and most; error: a list such as 1,5,9, as in 22.05", nodes)),
        opt(&["--ntasks", "--tasks", "-n"], Value, Becomes("tasks", |d, a| tasks(d, a, Per::Job))),
        opt(&["--ntasks-per-core"], Value, Becomes("tasks of each core", |d, a| tasks(d, a, Per::Core))),
        opt(&["--ntasks-per-gpu"], Value, Becomes("tasks of each GPU", |d, a| tasks(d, a, Per::Gpu))),
        opt(&["--ntasks-per-node", "--tasks-per-node"], Value, Becomes("tasks of each node", |d, a| tasks(d, a, Per::Node))),
        opt(&["--ntasks-per-socket"], Value, Becomes("tasks of each socket", |d, a| tasks(d, a, Per::Socket))),
        opt(&["--ntasks-per-tres"], Value, Refuse("write --ntasks-per-gpu")),
        opt(&["--oom-kill-step"], Attached, Note("what ends when memory runs out is the kernel's choice")),
        opt(&["--open-mode"], Value, Becomes("append or truncate", open_mode)),
        opt(&["--output", "-o"], Value, Becomes("file of output", |d, a| { text(a, &mut d.job.files.output.path) })),
        opt(&["--overcommit", "-O"], Nothing, Becomes("more tasks than processors", |d, _| { d.job.overcommit = true; Ok(()) })),
        opt(&["--oversubscribe", "--share", "-s"], Nothing, Becomes("shares its processors", |d, _| { d.part().sharing = Sharing::Everybody; Ok(()) })),
        opt(&["--parsable"], Nothing, Reply("the number alone", |d| d.reply.terse = true)),
        opt(&["--partition", "-p"], Value, Becomes("queues", partition)),
        opt(&["--power"], Value, Note(FREQUENCY)),
        opt(&["--prefer"], Value, Note("features that are liked and not needed are not looked at")),
        opt(&["--priority"], Value, Becomes("priority", priority)),
        opt(&["--profile"], Value, Note(MEASURE)),
        opt(&["--propagate"], Attached, Note("a job has the limits of processes that its node gives")),
        opt(&["--qos", "-q"], Value, Becomes("quality of service", |d, a| text(a, &mut d.job.qos))),
        opt(&["--quiet", "-Q"], Nothing, Reply("nothing is printed; on the command line", |d| d.reply.quiet |= d.stage == Stage::Words)),
        opt(&["--reboot"], Nothing, Note("no node is booted for a job")),
        opt(&["--requeue"], Attached, Becomes("started again; note: expedite", requeue)),
        opt(&["--reservation"], Value, Becomes("reservation", |d, a| text(a, &mut d.job.reservation))),
        opt(&["--resources"], Value, Refuse("name them with --gres or --licenses")),
        opt(&["--resv-ports"], Attached, Note("the ports are the host's")),
        opt(&["--runtime"], Value, Refuse(CONTAINER)),
        opt(&["--segment"], Value, Note(SWITCHES)),
        opt(&["--signal"], Value, Becomes("signal before the end", before_end)),
        opt(&["--sockets-per-node"], Value, Note(TOPOLOGY)),
        opt(&["--spread-job"], Nothing, Becomes("as many nodes as possible", |d, _| { d.part().arrangement = Arrangement::Apart; Ok(()) })),
        opt(&["--spread-segments"], Nothing, Note(SWITCHES)),
        opt(&["--stepmgr"], Nothing, Note("steps are managed inside of the job anyway")),
        opt(&["--switches"], Value, Note(SWITCHES)),
        opt(&["--test-only"], Nothing, Reply("when it would start, without submitting", |d| { d.reply.test_only = true })),
        opt(&["--thread-spec"], Value, Becomes("nodes alone; note: no threads are set aside for the system", specialized)),
        opt(&["--threads-per-core"], Value, Note(TOPOLOGY)),
        opt(&["--time", "-t"], Value, Becomes("time limit, in minutes rounded up", limit)),
        opt(&["--time-min"], Value, Becomes("least time limit", least_time)),
        opt(&["--tmp"], Value, Becomes("room for temporary files on each node", |d, a| { d.part().scratch = Some(size(a.text, 1 << 20)?); Ok(()) })),
        opt(&["--tres-bind"], Value, Note(BOUND)),
        opt(&["--tres-per-task"], Value, Becomes("processors and devices of each task", tres)),
        opt(&["--uid"], Value, Refuse("a job runs as who submits it")),
        opt(&["--usage"], Nothing, Note(HELP)),
        opt(&["--use-min-nodes"], Nothing, Note("the fewest nodes that will do are taken anyway")),
        opt(&["--verbose", "-v"], Nothing, Note("nothing more is told")),
        opt(&["--version", "-V"], Nothing, Note("it asks for the version, and is left out")),
        opt(&["--wait", "-W"], Nothing, Becomes("wait for the end", |d, _| { d.job.wait = true; Ok(()) })),
        opt(&["--wait-all-nodes"], Value, Note("all nodes are ready before a job starts")),
        opt(&["--wckey"], Value, Note("jobs are counted by account, and not by key")),
        opt(&["--wrap"], Value, Becomes("the command", |d, a| {
            // It is a script, and may have lines.
            d.wrap = Some(a.text.to_owned());
            Ok(())
        })),
    ],
};

fn moment(arg: &Arg<'_>) -> Result<hyperion_model::submission::Moment, Wrong> {
    let wrong = || {
        Wrong::new(format!("{} is not a time", shown(arg.text)))
            .hint("write now+2hours, 16:00, tomorrow or 2030-01-20T12:34:00")
    };
    time::slurm_moment(arg.text).ok_or_else(wrong)
}

fn begin(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.begin = Some(moment(arg)?);
    Ok(())
}

fn deadline(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.deadline = Some(moment(arg)?);
    Ok(())
}

fn chdir(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.folder = Folder::Path(arg.text.to_owned());
    Ok(())
}

fn cpus(draft: &mut Draft, arg: &Arg<'_>, per: Per) -> Read {
    let number = count(arg.text, 1)?;
    draft.part().cpus.insert(per, number);
    Ok(())
}

fn tasks(draft: &mut Draft, arg: &Arg<'_>, per: Per) -> Read {
    let number = count(arg.text, 1)?;
    draft.part().tasks.insert(per, number);
    Ok(())
}

fn depend(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.after = match arg.text {
        "" => None,
        text => Some(dependency::slurm(text)?),
    };
    Ok(())
}

/// All options together may name no more hosts: lists that are given again cost time.
const MOST_HOSTS: usize = 200_000;

fn names(draft: &mut Draft, arg: &Arg<'_>) -> Result<Vec<String>, Wrong> {
    if arg.text.contains('/') {
        return Err(Wrong::new("a file of hosts is not read").hint("write the hosts: n1,n[3-5]"));
    }
    let wrong = || {
        Wrong::new(format!("{} is not a list of hosts", shown(arg.text))).hint("write n1,n[3-5]")
    };
    if draft.hosts > MOST_HOSTS {
        return Err(Wrong::new("the options name more hosts than there can be"));
    }
    let hosts = hosts::expand(arg.text).ok_or_else(wrong)?;
    draft.hosts += hosts.len();
    Ok(hosts)
}

fn exclude(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let hosts = names(draft, arg)?;
    draft.part().without = hosts;
    Ok(())
}

fn nodelist(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let hosts = names(draft, arg)?;
    draft.part().hosts = hosts;
    Ok(())
}

/// As sbatch has it, whoever sets cores aside has the nodes alone.
fn specialized(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    count(arg.text, 0)?;
    draft.part().sharing = Sharing::Nobody;
    let what = "nothing is set aside for the system; the nodes are the job's alone".to_owned();
    draft.told.note(arg.span(None), what, None);
    Ok(())
}

fn no_kill(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.survives_nodes = match arg.text.to_ascii_lowercase().as_str() {
        "" | "set" => true,
        "off" | "no" => false,
        _ => return Err(Wrong::new(format!("{} is not off", shown(arg.text)))),
    };
    Ok(())
}

fn requeue(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.requeue = Some(true);
    if arg.text == "expedite" {
        let what = "--requeue: a job that is started again waits as others do".to_owned();
        draft.told.note(arg.span(None), what, None);
    }
    Ok(())
}

fn exclusive(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.part().sharing = match arg.text {
        "" | "exclusive" => Sharing::Nobody,
        "user" => Sharing::SameUser,
        "oversubscribe" => Sharing::Everybody,
        "mcs" => return Err(Wrong::new(LABELS)),
        "topo" => return Err(Wrong::new(SWITCHES).hint("write --exclusive")),
        other => {
            let wrong = Wrong::new(format!("{} is not who a node is shared with", shown(other)));
            return Err(wrong.hint("write --exclusive or --exclusive=user"));
        }
    };
    Ok(())
}

fn export(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let environment = &mut draft.job.environment;
    *environment = Default::default();
    if arg.text.eq_ignore_ascii_case("NONE") || arg.text.eq_ignore_ascii_case("NIL") {
        return Ok(());
    }
    for part in split(arg.text, ',') {
        match part.split_once('=') {
            _ if part.eq_ignore_ascii_case("ALL") => environment.all = true,
            Some((name, value)) => {
                let value = unquoted(value).to_owned();
                environment.set.insert(variable(arg, name)?, value);
            }
            None => {
                environment.pass.insert(variable(arg, part)?);
            }
        }
    }
    Ok(())
}

fn gpus(draft: &mut Draft, arg: &Arg<'_>, per: Per) -> Read {
    let mut all = Vec::new();
    for part in arg.text.split(',') {
        let (kind, number) = match part.rsplit_once(':') {
            Some((kind, number)) => (Some(kind.to_owned()), number),
            // A type alone is one of it.
            None if part.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                (Some(part.to_owned()), "1")
            }
            None => (None, part),
        };
        let number = count(number, 0).map_err(|wrong| wrong.at(arg.text, number))?;
        all.push(device("gpu", kind, u64::from(number), per));
    }
    let resources = &mut draft.part().resources;
    resources.retain(|known| known.family != "gpu" || known.per != per);
    resources.extend(all.into_iter().filter(|resource| resource.count > 0));
    Ok(())
}

/// Reads `cpu=8,gres/gpu:a100=2`.
fn tres(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    for field in arg.text.split(',') {
        let wrong = |what: &str| Wrong::new(what).at(arg.text, field);
        let Some((name, number)) = field.split_once('=') else {
            return Err(wrong("a resource is NAME=N").hint("write cpu=8 or gres/gpu=1"));
        };
        match name.split_once('/') {
            None if name == "cpu" => {
                let cpus = count(number, 1).map_err(|wrong| wrong.at(arg.text, number))?;
                draft.part().cpus.insert(Per::Task, cpus);
            }
            Some(("gres", device_name)) => {
                let number = scaled(number).ok_or_else(|| wrong("a number is expected"))?;
                let (family, kind) = match device_name.split_once(':') {
                    Some((family, kind)) => (family, Some(kind.to_owned())),
                    None => (device_name, None),
                };
                let resources = &mut draft.part().resources;
                resources.retain(|known| known.family != family || known.per != Per::Task);
                resources.push(device(family, kind, number, Per::Task));
            }
            Some(("license", _)) => {
                let wrong = wrong("licences are counted for the job, and not for each task");
                return Err(wrong.hint("name them with --licenses"));
            }
            _ => {
                return Err(
                    wrong("there is no such resource of tasks").hint("write cpu=8 or gres/gpu=1")
                );
            }
        }
    }
    Ok(())
}

fn gres(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    if arg.text == "help" {
        return Err(Wrong::new("it asks for help, and for no device"));
    }
    let mut all: Vec<Resource> = Vec::new();
    if !arg.text.eq_ignore_ascii_case("none") {
        for part in arg.text.split(',') {
            let fields: Vec<&str> = part.trim_start_matches("gres:").split(':').collect();
            let is_count = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
            let (family, kind, number) = match fields.as_slice() {
                [family] => (*family, None, "1"),
                [family, number] if is_count(number) && scaled(number).is_some() => {
                    (*family, None, *number)
                }
                [family, kind] => (*family, Some(*kind), "1"),
                [family, kind, number] => (*family, Some(*kind), *number),
                _ => ("", None, ""),
            };
            let number = scaled(number).filter(|_| !family.is_empty());
            let number = number.ok_or_else(|| {
                Wrong::new(format!("{} is not a device", shown(part)))
                    .at(arg.text, part)
                    .hint("write gpu:2 or gpu:h100:2")
            })?;
            all.push(device(family, kind.map(str::to_owned), number, Per::Node));
        }
    }
    let resources = &mut draft.part().resources;
    let mine = |known: &Resource| {
        known.per == Per::Node && all.iter().any(|one| one.family == known.family)
    };
    resources.retain(|known| !mine(known));
    resources.extend(all.into_iter().filter(|resource| resource.count > 0));
    Ok(())
}

/// Reads a count with Slurm's suffixes, powers of 1024.
fn scaled(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let factor = match text[end..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return None,
    };
    text[..end]
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|n| *n <= 1 << 60)
}

fn licences(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let mut all = std::collections::BTreeMap::new();
    if arg.text.contains('|') {
        return Err(Wrong::new("there is no choice between licences").hint("keep one of them"));
    }
    for part in arg.text.split(',').filter(|part| !part.is_empty()) {
        let (name, number) = part.rsplit_once([':', '*']).unwrap_or((part, "1"));
        all.insert(
            name.to_owned(),
            count(number, 1).map_err(|wrong| wrong.at(arg.text, number))?,
        );
    }
    draft.part().licences = all;
    Ok(())
}

fn mail_type(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    use MailEvent::{Begin, End, Fail, Requeue, TimeLimit};
    let on = &mut draft.job.mail.on;
    on.clear();
    let (mut unknown, mut known) = (Vec::new(), false);
    for part in arg.text.split(',') {
        let events: &[MailEvent] = match part.trim().to_ascii_uppercase().as_str() {
            // Whatever else is said.
            "NONE" => {
                on.clear();
                return Ok(());
            }
            "BEGIN" => &[Begin],
            "END" => &[End],
            "FAIL" => &[Fail],
            "REQUEUE" => &[Requeue],
            "ALL" => &[Begin, End, Fail, Requeue],
            "TIME_LIMIT" | "TIME_LIMIT_90" | "TIME_LIMIT_80" | "TIME_LIMIT_50" => &[TimeLimit],
            "INVALID_DEPEND" | "STAGE_OUT" | "ARRAY_TASKS" => &[],
            _ => {
                unknown.push(part);
                continue;
            }
        };
        known = true;
        on.extend(events);
    }
    let hint = "write NONE, BEGIN, END, FAIL, REQUEUE, ALL or TIME_LIMIT";
    for part in unknown {
        let wrong = Wrong::new(format!("{} is not when mail is sent", shown(part)));
        let wrong = wrong.at(arg.text, part).hint(hint);
        // sbatch leaves it out as long as there is another.
        if !known {
            return Err(wrong);
        }
        let what = format!("--mail-type: {}", wrong.what);
        draft.told.note(arg.span(wrong.part), what, wrong.hint);
    }
    if !draft.job.mail.on.is_empty() {
        no_mail(draft, arg);
    }
    Ok(())
}

fn mail_user(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.mail.to = arg
        .text
        .split([',', ' '])
        .filter(|to| !to.is_empty())
        .map(str::to_owned)
        .collect();
    no_mail(draft, arg);
    Ok(())
}

fn mem(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let bytes = size(arg.text, 1 << 20)?;
    let part = draft.part();
    part.all_memory = bytes == Bytes(0);
    part.memory.remove(&Per::Node);
    if bytes > Bytes(0) {
        part.memory.insert(Per::Node, bytes);
    }
    Ok(())
}

fn memory(draft: &mut Draft, arg: &Arg<'_>, per: Per) -> Read {
    let bytes = size(arg.text, 1 << 20)?;
    draft.part().memory.insert(per, bytes);
    Ok(())
}

fn nice(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.nice = match arg.text {
        "" => 100,
        text => integer(text)?,
    };
    Ok(())
}

fn priority(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.priority = match arg.text {
        "TOP" => {
            return Err(Wrong::new(
                "a job is moved to the top by who runs the queue",
            ));
        }
        text => Some(integer(text)?),
    };
    Ok(())
}

fn nodes(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let (least, most) = arg.text.split_once('-').unwrap_or((arg.text, arg.text));
    let number = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let suffixes = [("k", 1 << 10), ("m", 1 << 20), ("", 1)];
        let mut found = suffixes
            .iter()
            .filter_map(|(suffix, factor)| Some((lower.strip_suffix(suffix)?, *factor)));
        let (digits, factor) = found.next().unwrap_or((&lower, 1));
        count(digits, 1)
            .map(|number| number.saturating_mul(factor))
            .map_err(|wrong| wrong.at(arg.text, text))
    };
    let (least, most) = (number(least)?, number(most)?);
    if least > most {
        return Err(Wrong::new("the most nodes are fewer than the fewest"));
    }
    draft.part().nodes = Some(NodeCount { least, most });
    Ok(())
}

fn open_mode(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let open = match arg.text.chars().next() {
        Some('a' | 'A') => Open::Append,
        Some('t' | 'T') => Open::Truncate,
        _ => {
            return Err(Wrong::new(format!(
                "{} is not append or truncate",
                shown(arg.text)
            )));
        }
    };
    draft.job.files.output.open = open;
    draft.job.files.error.open = open;
    Ok(())
}

fn partition(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let queues = arg.text.split(',').filter(|queue| !queue.is_empty());
    draft.part().queues = queues.map(str::to_owned).collect();
    Ok(())
}

fn before_end(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let (who, rest) = arg.text.rsplit_once(':').unwrap_or(("", arg.text));
    if !who.chars().all(|c| "RrBb".contains(c)) {
        return Err(Wrong::new(format!("{} is not R or B", shown(who))).at(arg.text, who));
    }
    if who.contains(['R', 'r']) {
        let what = "--signal: R: a job does not run into a reservation".to_owned();
        draft.told.note(arg.span(None), what, None);
    }
    let (name, seconds) = rest.split_once('@').unwrap_or((rest, "60"));
    let wrong = || Wrong::new(format!("{} is not a signal", shown(name))).at(arg.text, name);
    let signal = signal(name).ok_or_else(wrong)?;
    let seconds = count(seconds, 0).map_err(|wrong| wrong.at(arg.text, seconds))?;
    if seconds > 65_535 {
        return Err(Wrong::new("more than 65535 seconds"));
    }
    draft.job.warning = Some(Warning {
        signal,
        before: Duration::from_secs(u64::from(seconds)),
        to: match who.contains(['B', 'b']) {
            true => WarningTo::Script,
            false => WarningTo::Steps,
        },
    });
    Ok(())
}

fn not_a_limit(text: &str) -> Wrong {
    Wrong::new(format!("{} is not a limit", shown(text)))
        .hint("write minutes, HH:MM:SS or D-HH:MM:SS")
}

fn limit(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.time_limit = Some(time::slurm(arg.text).ok_or_else(|| not_a_limit(arg.text))?);
    Ok(())
}

fn least_time(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let limit = time::slurm(arg.text).ok_or_else(|| not_a_limit(arg.text))?;
    draft.job.least_time = match limit {
        hyperion_model::submission::TimeLimit::Span(span) => Some(span),
        hyperion_model::submission::TimeLimit::Unlimited => None,
    };
    Ok(())
}

/// Tells whether a directive begins the next part of a heterogeneous job.
pub(in crate::jobs) fn begins_part(words: &[Word]) -> bool {
    words.first().is_some_and(|word| {
        ["hetjob", "packjob"]
            .iter()
            .any(|s| word.text.eq_ignore_ascii_case(s))
    })
}

pub(in crate::jobs) fn next_part(draft: &mut Draft, words: &[Word]) {
    draft.part += 1;
    draft.part();
    if let Some(word) = words.get(1) {
        let what = "options on the line of `hetjob` are not read by Slurm";
        let hint = "write them into the next line";
        draft
            .told
            .mistake(word.span(), what.to_owned(), Some(hint.to_owned()));
    }
}
