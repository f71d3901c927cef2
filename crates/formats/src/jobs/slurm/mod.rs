//! Slurm: the options of sbatch. The source is its manual, and what sbatch
//! 22.05 was seen to make of each form.

use std::time::Duration;

use hyperion_model::Bytes;
use hyperion_model::submission::{
    Arrangement, Folder, MailEvent, NodeCount, Open, Part, Per, Resource, Sharing, Warning,
    WarningTo,
};

use super::amounts::{count, size};
use super::draft::{Draft, Stage};
use super::options::{Arg, Does, Grammar, Style, Takes, Wrong, apply, opt};
use super::signals::signal;
use super::tell::shown;
use super::values::*;
use super::words::Word;
use super::{Origin, dependency, hosts, time};

use Does::{Becomes, Note, Refuse, Reply};
use Takes::{Attached, Nothing, Value};

const LAYOUT: &str = "how tasks are laid out on a node is left to the launcher";
const TOPOLOGY: &str = "the sockets, cores and threads of nodes are not chosen here";
const MEASURE: &str = "there is one way of measuring here, and it is always on";
const FREQUENCY: &str = "frequencies are left as they are";

// One option a line.
#[rustfmt::skip]
pub(super) const GRAMMAR: Grammar = Grammar {
    style: Style::Long,
    options: &[
        opt(&["--account", "-A"], Value, Becomes("account", |d, a| text(a, &mut d.job.account))),
        opt(&["--acctg-freq"], Value, Note(MEASURE)),
        opt(&["--array", "-a"], Value, Becomes("array, with how many may run at once", array)),
        opt(&["--batch"], Value, Refuse("the script runs on the first node; ask for its features with --constraint")),
        opt(&["--bb"], Value, Refuse("there is no burst buffer: copy files in the script")),
        opt(&["--bbf"], Value, Refuse("there is no burst buffer: copy files in the script")),
        opt(&["--begin", "-b"], Value, Becomes("earliest start", begin)),
        opt(&["--chdir", "--workdir", "-D"], Value, Becomes("working folder", chdir)),
        opt(&["--cluster-constraint"], Value, Note("there is one cluster")),
        opt(&["--clusters", "--cluster", "-M"], Value, Note("there is one cluster")),
        opt(&["--comment"], Value, Becomes("comment", |d, a| text(a, &mut d.job.comment))),
        opt(&["--constraint", "-C"], Value, Becomes("features of nodes", |d, a| text(a, &mut d.part().features))),
        opt(&["--container"], Value, Refuse("a bundle of a container is not taken: choose an image when the job is submitted")),
        opt(&["--contiguous"], Nothing, Note("nodes have no order here")),
        opt(&["--core-spec", "-S"], Value, Note("no cores are set aside for the system")),
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
        opt(&["--extra-node-info", "-B"], Value, Note(TOPOLOGY)),
        opt(&["--get-user-env"], Attached, Becomes("variables of a fresh login", |d, _| { d.job.environment.all = false; Ok(()) })),
        opt(&["--gid"], Value, Refuse("a job runs as who submits it")),
        opt(&["--gpu-bind"], Value, Note("each task sees the GPUs that it was given")),
        opt(&["--gpu-freq"], Value, Note(FREQUENCY)),
        opt(&["--gpus", "-G"], Value, Becomes("GPUs in all", |d, a| gpus(d, a, Per::Job))),
        opt(&["--gpus-per-node"], Value, Becomes("GPUs of each node", |d, a| gpus(d, a, Per::Node))),
        opt(&["--gpus-per-socket"], Value, Becomes("GPUs of each socket", |d, a| gpus(d, a, Per::Socket))),
        opt(&["--gpus-per-task"], Value, Becomes("GPUs of each task", |d, a| gpus(d, a, Per::Task))),
        opt(&["--gres"], Value, Becomes("devices of each node", gres)),
        opt(&["--gres-flags"], Value, Note("devices are bound as the host has them")),
        opt(&["--help", "-h"], Nothing, Note("it asks for help, and is left out")),
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
        opt(&["--mcs-label"], Value, Note("there are no security labels")),
        opt(&["--mem"], Value, Becomes("memory of each node; 0 is all of it", mem)),
        opt(&["--mem-bind", "--mem_bind"], Value, Note(LAYOUT)),
        opt(&["--mem-per-cpu"], Value, Becomes("memory for each processor", |d, a| memory(d, a, Per::Cpu))),
        opt(&["--mem-per-gpu"], Value, Becomes("memory for each GPU", |d, a| memory(d, a, Per::Gpu))),
        opt(&["--mincpus"], Value, Becomes("processors of each node", |d, a| cpus(d, a, Per::Node))),
        opt(&["--network"], Value, Note("the network is the host's")),
        opt(&["--nice"], Attached, Becomes("nice value", nice)),
        opt(&["--no-kill", "-k"], Attached, Becomes("goes on when a node fails", |d, a| { d.job.survives_nodes = a.text != "off"; Ok(()) })),
        opt(&["--no-requeue"], Nothing, Becomes("not started again", |d, _| { d.job.requeue = Some(false); Ok(()) })),
        opt(&["--nodefile", "-F"], Value, Refuse("write the hosts with --nodelist")),
        opt(&["--nodelist", "-w"], Value, Becomes("hosts", nodelist)),
        opt(&["--nodes", "-N"], Value, Becomes("nodes, fewest and most", nodes)),
        opt(&["--ntasks", "--tasks", "-n"], Value, Becomes("tasks", |d, a| tasks(d, a, Per::Job))),
        opt(&["--ntasks-per-core"], Value, Becomes("tasks of each core", |d, a| tasks(d, a, Per::Core))),
        opt(&["--ntasks-per-gpu"], Value, Becomes("tasks of each GPU", |d, a| tasks(d, a, Per::Gpu))),
        opt(&["--ntasks-per-node", "--tasks-per-node"], Value, Becomes("tasks of each node", |d, a| tasks(d, a, Per::Node))),
        opt(&["--ntasks-per-socket"], Value, Becomes("tasks of each socket", |d, a| tasks(d, a, Per::Socket))),
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
        opt(&["--quiet", "-Q"], Nothing, Reply("nothing is printed", |d| d.reply.quiet = true)),
        opt(&["--reboot"], Nothing, Note("no node is booted for a job")),
        opt(&["--requeue"], Nothing, Becomes("started again", |d, _| { d.job.requeue = Some(true); Ok(()) })),
        opt(&["--reservation"], Value, Becomes("reservation", |d, a| text(a, &mut d.job.reservation))),
        opt(&["--signal"], Value, Becomes("signal before the end", before_end)),
        opt(&["--sockets-per-node"], Value, Note(TOPOLOGY)),
        opt(&["--spread-job"], Nothing, Becomes("as many nodes as possible", |d, _| { d.part().arrangement = Arrangement::Apart; Ok(()) })),
        opt(&["--switches"], Value, Note("the switches between nodes are not known")),
        opt(&["--test-only"], Nothing, Reply("when it would start, without submitting", |d| { d.reply.test_only = true })),
        opt(&["--thread-spec"], Value, Note("no threads are set aside for the system")),
        opt(&["--threads-per-core"], Value, Note(TOPOLOGY)),
        opt(&["--time", "-t"], Value, Becomes("time limit, in minutes rounded up", limit)),
        opt(&["--time-min"], Value, Becomes("least time limit", least_time)),
        opt(&["--tmp"], Value, Becomes("room for temporary files on each node", |d, a| { d.part().scratch = Some(size(a.text, 1 << 20)?); Ok(()) })),
        opt(&["--uid"], Value, Refuse("a job runs as who submits it")),
        opt(&["--usage"], Nothing, Note("it asks for help, and is left out")),
        opt(&["--use-min-nodes"], Nothing, Note("the fewest nodes that will do are taken anyway")),
        opt(&["--verbose", "-v"], Nothing, Note("nothing more is told")),
        opt(&["--version", "-V"], Nothing, Note("it asks for the version, and is left out")),
        opt(&["--wait", "-W"], Nothing, Becomes("wait for the end", |d, _| { d.job.wait = true; Ok(()) })),
        opt(&["--wait-all-nodes"], Value, Note("all nodes are ready before a job starts")),
        opt(&["--wckey"], Value, Note("jobs are counted by account, and not by key")),
        opt(&["--wrap"], Value, Becomes("the command", |d, a| text(a, &mut d.wrap))),
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

fn exclusive(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.part().sharing = match arg.text {
        "" => Sharing::Nobody,
        "user" => Sharing::SameUser,
        "mcs" => return Err(Wrong::new("there are no security labels")),
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
    for part in super::amounts::split(arg.text, ',') {
        match part.split_once('=') {
            _ if part.eq_ignore_ascii_case("ALL") => environment.all = true,
            Some((name, value)) => {
                let value = super::amounts::unquoted(value).to_owned();
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

fn gres(draft: &mut Draft, arg: &Arg<'_>) -> Read {
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
    let on = &mut draft.job.mail.on;
    on.clear();
    for part in arg.text.split(',') {
        let events: &[MailEvent] = match part.trim().to_ascii_uppercase().as_str() {
            "NONE" => {
                on.clear();
                &[]
            }
            "BEGIN" => &[MailEvent::Begin],
            "END" => &[MailEvent::End],
            "FAIL" => &[MailEvent::Fail],
            "REQUEUE" => &[MailEvent::Requeue],
            "ALL" => &[
                MailEvent::Begin,
                MailEvent::End,
                MailEvent::Fail,
                MailEvent::Requeue,
            ],
            "TIME_LIMIT" | "TIME_LIMIT_90" | "TIME_LIMIT_80" | "TIME_LIMIT_50" => {
                &[MailEvent::TimeLimit]
            }
            // sbatch leaves out what it does not know here, too.
            _ => &[],
        };
        on.extend(events);
    }
    if !on.is_empty() {
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
        let (digits, factor) = match lower.strip_suffix('k') {
            Some(digits) => (digits.to_owned(), 1024),
            None => (lower, 1),
        };
        count(&digits, 1)
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
pub(super) fn begins_part(words: &[Word]) -> bool {
    words
        .first()
        .is_some_and(|word| word.text == "hetjob" || word.text == "packjob")
}

pub(super) fn next_part(draft: &mut Draft, words: &[Word]) {
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

/// The variables that sbatch heeds, with the option that each stands for.
const VARIABLES: &[(&str, &str)] = &[
    ("SBATCH_ACCOUNT", "--account"),
    ("SBATCH_ACCTG_FREQ", "--acctg-freq"),
    ("SBATCH_ARRAY_INX", "--array"),
    ("SBATCH_BATCH", "--batch"),
    ("SBATCH_CLUSTERS", "--clusters"),
    ("SLURM_CLUSTERS", "--clusters"),
    ("SBATCH_CONSTRAINT", "--constraint"),
    ("SBATCH_CONTAINER", "--container"),
    ("SBATCH_CORE_SPEC", "--core-spec"),
    ("SBATCH_CPUS_PER_GPU", "--cpus-per-gpu"),
    ("SBATCH_DELAY_BOOT", "--delay-boot"),
    ("SBATCH_DISTRIBUTION", "--distribution"),
    ("SBATCH_ERROR", "--error"),
    ("SBATCH_EXCLUSIVE", "--exclusive"),
    ("SBATCH_EXPORT", "--export"),
    ("SBATCH_GET_USER_ENV", "--get-user-env"),
    ("SBATCH_GPU_BIND", "--gpu-bind"),
    ("SBATCH_GPU_FREQ", "--gpu-freq"),
    ("SBATCH_GPUS", "--gpus"),
    ("SBATCH_GPUS_PER_NODE", "--gpus-per-node"),
    ("SBATCH_GPUS_PER_TASK", "--gpus-per-task"),
    ("SBATCH_GRES", "--gres"),
    ("SBATCH_GRES_FLAGS", "--gres-flags"),
    ("SBATCH_HINT", "--hint"),
    ("SLURM_HINT", "--hint"),
    ("SBATCH_INPUT", "--input"),
    ("SBATCH_JOB_NAME", "--job-name"),
    ("SBATCH_MEM_BIND", "--mem-bind"),
    ("SBATCH_MEM_PER_CPU", "--mem-per-cpu"),
    ("SBATCH_MEM_PER_GPU", "--mem-per-gpu"),
    ("SBATCH_MEM_PER_NODE", "--mem"),
    ("SBATCH_NETWORK", "--network"),
    ("SBATCH_NO_KILL", "--no-kill"),
    ("SBATCH_NO_REQUEUE", "--no-requeue"),
    ("SBATCH_OPEN_MODE", "--open-mode"),
    ("SBATCH_OUTPUT", "--output"),
    ("SBATCH_OVERCOMMIT", "--overcommit"),
    ("SBATCH_PARTITION", "--partition"),
    ("SBATCH_POWER", "--power"),
    ("SBATCH_PROFILE", "--profile"),
    ("SBATCH_QOS", "--qos"),
    ("SBATCH_REQ_SWITCH", "--switches"),
    ("SBATCH_REQUEUE", "--requeue"),
    ("SBATCH_RESERVATION", "--reservation"),
    ("SBATCH_SIGNAL", "--signal"),
    ("SBATCH_SPREAD_JOB", "--spread-job"),
    ("SBATCH_THREAD_SPEC", "--thread-spec"),
    ("SBATCH_THREADS_PER_CORE", "--threads-per-core"),
    ("SBATCH_TIMELIMIT", "--time"),
    ("SBATCH_USE_MIN_NODES", "--use-min-nodes"),
    ("SBATCH_WAIT", "--wait"),
    ("SBATCH_WAIT_ALL_NODES", "--wait-all-nodes"),
    ("SBATCH_WCKEY", "--wckey"),
];

/// Reads the variables that stand for options.
pub(super) fn variables(draft: &mut Draft, variables: &[(String, String)]) {
    let parts = draft.job.parts.len();
    for (name, value) in variables {
        let Some((_, option)) = VARIABLES.iter().find(|(known, _)| known == name) else {
            continue;
        };
        let takes = GRAMMAR
            .options
            .iter()
            .find(|o| o.names.contains(option))
            .map(|o| o.takes);
        let text = match takes {
            Some(Nothing) => (*option).to_owned(),
            Some(Attached) if value.is_empty() => (*option).to_owned(),
            _ => format!("{option}={value}"),
        };
        let words = [Word::of(&text, Origin::Variable(name.clone()), 1)];
        for part in 0..parts {
            draft.part = part;
            let _ = apply(&GRAMMAR, draft, &words);
        }
    }
    draft.part = 0;
}

/// The options of memory, and what each counts by.
const MEMORY: [(&str, Per); 3] = [
    ("--mem", Per::Node),
    ("--mem-per-cpu", Per::Cpu),
    ("--mem-per-gpu", Per::Gpu),
];

/// Checks what no single option shows.
pub(super) fn finish(draft: &mut Draft) {
    let given: Vec<_> = MEMORY
        .iter()
        .filter_map(|(name, per)| Some((draft.given.get(name)?.clone(), *per)))
        .collect();
    // As sbatch has it: a variable gives way, and of all others there is one.
    let by_variable = |stage: Stage| stage == Stage::Variables;
    let by_option = given.iter().any(|((stage, _), _)| !by_variable(*stage));
    for part in draft.job.parts.iter_mut() {
        for ((stage, _), per) in &given {
            if by_option && by_variable(*stage) {
                part.memory.remove(per);
                part.all_memory &= *per != Per::Node;
            }
        }
    }
    let several = |part: &Part| part.memory.len() + usize::from(part.all_memory) > 1;
    if draft.job.parts.iter().any(several)
        && let Some(((_, span), _)) = given.into_iter().max_by_key(|(given, _)| given.clone())
    {
        let what = "--mem, --mem-per-cpu and --mem-per-gpu exclude each other".to_owned();
        let hint = "keep one of them".to_owned();
        draft.told.mistake(span, what, Some(hint));
    }
}
