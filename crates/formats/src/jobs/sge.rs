//! Grid Engine: the options of qsub, as its manual has them (8.1.9).

use std::time::Duration;

use hyperion_model::Rlimit;
use hyperion_model::submission::{
    Condition, Folder, Joined, Open, Per, Sharing, TimeLimit, Warning, WarningTo,
};

use super::amounts::{count, size, split, unquoted};
use super::draft::Draft;
use super::options::{Arg, Does, Grammar, Style, Takes, Wrong, opt};
use super::pbs::{mail_letters, mail_to, variables};
use super::tell::shown;
use super::values::*;
use super::{dependency, time};

use Does::{Becomes, Note, Refuse, Reply};
use Takes::{Behind, Letters, Nothing, Two, Value};

const CONTEXT: &str = "variables of the queue's own are not kept";
const SHARES: &str = "shares are given by who runs the queue";

// One option a line.
#[rustfmt::skip]
pub(super) const GRAMMAR: Grammar = Grammar {
    style: Style::Names,
    options: &[
        opt(&["-@"], Value, Refuse("write the options themselves")),
        opt(&["-A"], Value, Becomes("account", |d, a| text(a, &mut d.job.account))),
        opt(&["-a"], Value, Becomes("earliest start", |d, a| { d.job.begin = Some(moment(a)?); Ok(()) })),
        opt(&["-ac"], Value, Note(CONTEXT)),
        opt(&["-ar"], Value, Becomes("reservation", |d, a| text(a, &mut d.job.reservation))),
        opt(&["-b"], Value, Becomes("whether the command is a program", |d, a| { d.binary = yes(a.text)?; Ok(()) })),
        opt(&["-binding"], Behind(&["env", "pe", "set"]), Note("how tasks are bound is left to the launcher")),
        opt(&["-C"], Value, Becomes("what directives begin with; on the command line", |d, a| { d.prefix = Some(a.text.to_owned()); Ok(()) })),
        opt(&["-c"], Value, Note("no checkpoints are taken")),
        opt(&["-ckpt"], Value, Note("no checkpoints are taken")),
        opt(&["-clear"], Nothing, Note("there are no options from other files")),
        opt(&["-cwd"], Nothing, Becomes("begins where it was submitted", |d, _| { d.job.folder = Folder::Submission; Ok(()) })),
        opt(&["-dc"], Value, Note(CONTEXT)),
        opt(&["-display"], Value, Note("no window is passed on")),
        opt(&["-dl"], Value, Note("priorities do not rise towards a deadline, and it ends nothing")),
        opt(&["-e"], Value, Becomes("file of errors", |d, a| { d.job.files.error.open = Open::Append; path(a, &mut d.job.files.error.path) })),
        opt(&["-h"], Letters("usonUOS"), Becomes("hold", |d, a| { d.job.hold = !a.text.contains('n'); Ok(()) })),
        opt(&["-hard"], Nothing, Becomes("what follows is needed", |d, _| { d.given.remove("-soft"); Ok(()) })),
        opt(&["-help"], Nothing, Note("it asks for help, and is left out")),
        opt(&["-hold_jid"], Value, Becomes("condition on other jobs", |d, a| depend(d, a, false))),
        opt(&["-hold_jid_ad"], Value, Becomes("condition on the same tasks of other arrays", |d, a| { depend(d, a, true) })),
        opt(&["-i"], Value, Becomes("file that it reads", |d, a| path(a, &mut d.job.files.input))),
        opt(&["-inherit"], Nothing, Refuse("it is for qrsh inside of a job")),
        opt(&["-j"], Value, Becomes("output and errors in one file", join)),
        opt(&["-js"], Value, Note(SHARES)),
        opt(&["-jsv"], Value, Note("no program changes a job when it is submitted")),
        opt(&["-l"], Value, Becomes("resources, as below", resources)),
        opt(&["-M"], Value, Becomes("who gets mail; note: no mail is sent", mail_to)),
        opt(&["-m"], Value, Becomes("what mail is about; note: no mail is sent", mail)),
        opt(&["-masterq"], Value, Note("the first node is as the others")),
        opt(&["-mods"], Value, Refuse("write the resource with -l")),
        opt(&["-N"], Value, Becomes("name", |d, a| text(a, &mut d.job.name))),
        opt(&["-noshell"], Nothing, Note("a program is run without a shell anyway")),
        opt(&["-nostdin"], Nothing, Note("it is for qrsh")),
        opt(&["-notify"], Nothing, Becomes("SIGUSR2 a minute before the end", notify)),
        opt(&["-now"], Value, Becomes("error: y", now)),
        opt(&["-o"], Value, Becomes("file of output", |d, a| { d.job.files.output.open = Open::Append; path(a, &mut d.job.files.output.path) })),
        opt(&["-ot"], Value, Note(SHARES)),
        opt(&["-P"], Value, Becomes("project", |d, a| text(a, &mut d.job.project))),
        opt(&["-p"], Value, Becomes("priority", priority)),
        opt(&["-pe"], Two, Becomes("tasks, fewest and most; the environment's name is a note", environment)),
        opt(&["-pty"], Value, Note("a script does not run in a terminal")),
        opt(&["-q"], Value, Becomes("queues; hosts behind @", queues)),
        opt(&["-R"], Value, Note("room is kept for large jobs as the policy of the queue has it")),
        opt(&["-r"], Value, Becomes("whether it is started again", |d, a| { d.job.requeue = Some(yes(a.text)?); Ok(()) })),
        opt(&["-S"], Value, Becomes("interpreter", |d, a| shell(a, &mut d.shell))),
        opt(&["-sc"], Value, Note(CONTEXT)),
        opt(&["-shell"], Value, Note("a program is run without a shell anyway")),
        opt(&["-soft"], Nothing, Becomes("what follows is liked; note", |_, _| Ok(()))),
        opt(&["-sync"], Value, Becomes("wait for the end", |d, a| { d.job.wait = yes(a.text)?; Ok(()) })),
        opt(&["-t"], Value, Becomes("array", array)),
        opt(&["-tc"], Value, Becomes("how many tasks of the array may run at once", at_once)),
        opt(&["-terse"], Nothing, Reply("the number alone", |d| d.reply.terse = true)),
        opt(&["-u"], Value, Refuse("it is for qalter")),
        opt(&["-V"], Nothing, Becomes("all variables", |d, _| { d.job.environment.all = true; Ok(()) })),
        opt(&["-v"], Value, Becomes("variables", variables)),
        opt(&["-verbose"], Nothing, Note("it is for qrsh")),
        opt(&["-verify"], Nothing, Reply("what would be submitted, without submitting", |d| { d.reply.test_only = true })),
        opt(&["-w"], Value, Becomes("v, p: for the command itself, what would be submitted, without submitting; others: note", validation)),
        opt(&["-wd"], Value, Becomes("working folder", |d, a| { d.job.folder = Folder::Path(a.text.to_owned()); Ok(()) })),
    ],
};

/// The kernel's number.
const SIGUSR1: u8 = 10;

/// What stands in `-l`, for the reference. What a resource is called is up to
/// each site; these are usual.
pub(super) const RESOURCES: &[(&str, &str)] = &[
    (
        "-l h_rt=, s_rt=",
        "time limit: the harder of both; s_rt is also SIGUSR1 to the job",
    ),
    (
        "-l h_vmem=",
        "a limit of each process, and memory of each task where none is asked for",
    ),
    (
        "-l s_vmem=",
        "the limit of each process that it may raise to h_vmem",
    ),
    (
        "-l mem=, mem_free=, virtual_free=, vf=, mf=, m_mem_free=, mem_limit=, ram=, h_rss=",
        "memory of each task",
    ),
    (
        "-l h_cpu=, s_cpu=",
        "note: processor time is not limited; the time limit is",
    ),
    (
        "-l h_fsize=, h_stack=, h_data=, h_core=, and with s_",
        "limits of each process, hard and soft",
    ),
    (
        "-l hostname=, h=",
        "hosts: `n1`, `n*`, `n?`, `a|b`, `(a|b)&!c`; error: patterns such as `n[12]`",
    ),
    ("-l num_proc=, p=", "processors of each node"),
    ("-l slots=, s=", "error: ask for slots with -pe"),
    (
        "-l load_avg=, np_load_avg=, mem_total=, swap_free=, m_core= and the like",
        "note: what hosts tell of themselves is not looked at",
    ),
    ("-l qname=, q=", "queues"),
    ("-l gpu=, gpus=, ngpus=, cuda=", "GPUs of each task"),
    ("-l excl=, exclusive=", "nodes alone"),
    (
        "-l arch=, os=",
        "features of nodes, by patterns and expressions as for hosts",
    ),
    (
        "-l tmpfs=, tmp_free=, scratch=",
        "room for temporary files on each node",
    ),
    (
        "-l NAME=N",
        "any other counted resource, of each task; a size counts bytes",
    ),
    ("-l NAME, NAME=TRUE, NAME=VALUE", "features of nodes"),
];

fn moment(arg: &Arg<'_>) -> Result<hyperion_model::submission::Moment, Wrong> {
    let wrong = || {
        Wrong::new(format!("{} is not a time", shown(arg.text))).hint("write [[CC]YY]MMDDhhmm[.SS]")
    };
    // The shortest form that Grid Engine takes has the month and the day.
    time::digits(arg.text)
        .filter(|_| arg.text.split('.').next().is_some_and(|t| t.len() >= 8))
        .ok_or_else(wrong)
}

fn depend(draft: &mut Draft, arg: &Arg<'_>, same: bool) -> Read {
    let more = dependency::sge(arg.text, same)?;
    let other = if same { "-hold_jid" } else { "-hold_jid_ad" };
    draft.job.after = Some(match draft.job.after.take() {
        Some(known) if draft.given.contains_key(other) => Condition::All(vec![known, more]),
        _ => more,
    });
    Ok(())
}

fn join(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.job.files.joined = yes(arg.text)?.then_some(Joined::Output);
    Ok(())
}

fn mail(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    mail_letters(draft, arg)?;
    if arg.text != "n" {
        no_mail(draft, arg);
    }
    Ok(())
}

fn notify(draft: &mut Draft, _: &Arg<'_>) -> Read {
    draft.job.warning = Some(Warning {
        signal: 12,
        before: Duration::from_secs(60),
        to: WarningTo::Everything,
    });
    Ok(())
}

fn now(_: &mut Draft, arg: &Arg<'_>) -> Read {
    match yes(arg.text)? {
        true => Err(Wrong::new("a job that cannot start now waits").hint("leave the option out")),
        false => Ok(()),
    }
}

fn validation(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    match arg.text {
        "v" | "p" => draft.reply.test_only = true,
        "e" | "w" | "n" => {
            let what = "-w: a job that can never run says so in its explanation";
            draft.told.note(arg.span(None), what.to_owned(), None);
        }
        text => {
            return Err(Wrong::new(format!(
                "{} is not of e, w, n, p and v",
                shown(text)
            )));
        }
    }
    Ok(())
}

fn priority(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let number = integer(arg.text)?;
    if !(-1023..=1024).contains(&number) {
        return Err(Wrong::new("a priority is from -1023 to 1024"));
    }
    draft.job.priority = Some(number);
    Ok(())
}

fn environment(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let second = arg.of_second();
    let told = |wrong: Wrong, draft: &mut Draft| {
        draft.told.mistake(
            second.span(wrong.part),
            format!("-pe: {}", wrong.what),
            wrong.hint,
        );
    };
    let (least, most) = match slots(second.text) {
        Ok(slots) => slots,
        Err(wrong) => {
            told(wrong, draft);
            return Ok(());
        }
    };
    let part = draft.part();
    part.tasks.insert(Per::Job, least);
    part.most_tasks = Some(most).filter(|most| *most > least);
    // What an environment does is known to its site alone; a few names are used everywhere.
    let name = arg.text.to_ascii_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphabetic()).collect();
    let on_one = [
        "smp",
        "openmp",
        "omp",
        "threaded",
        "shm",
        "sharedmem",
        "multicore",
        "pthreads",
        "thread",
    ];
    if words.iter().any(|word| on_one.contains(word)) && !words.contains(&"mpi") {
        part.arrangement = hyperion_model::submission::Arrangement::Together;
    } else {
        let what = format!(
            "-pe: what the environment {} does with its tasks is not known: they lie as they come",
            shown(arg.text)
        );
        draft
            .told
            .note(arg.span(Some((0, arg.text.len()))), what, None);
    }
    Ok(())
}

/// Reads `n`, `n-m`, `n-` or `-m`, of several the widest range of all.
fn slots(text: &str) -> Result<(u32, u32), Wrong> {
    let mut range: Option<(u32, u32)> = None;
    for part in text.split(',') {
        let (least, most) = match part.split_once('-') {
            Some(("", most)) => (1, count(most, 1).map_err(|wrong| wrong.at(text, most))?),
            Some((least, "")) => (
                count(least, 1).map_err(|wrong| wrong.at(text, least))?,
                100_000_000,
            ),
            Some((least, most)) => {
                let number = |digits| count(digits, 1).map_err(|wrong| wrong.at(text, digits));
                (number(least)?, number(most)?)
            }
            None => {
                let number = count(part, 1).map_err(|wrong| wrong.at(text, part))?;
                (number, number)
            }
        };
        if least > most {
            return Err(Wrong::new("the most slots are fewer than the fewest").at(text, part));
        }
        range = Some(range.map_or((least, most), |(a, b)| (a.min(least), b.max(most))));
    }
    range.ok_or_else(|| Wrong::new("a number of slots is missing"))
}

/// Tells whether what follows `-soft` is read, and that it is not looked at.
fn is_soft(draft: &mut Draft, arg: &Arg<'_>, option: &str) -> bool {
    let soft = draft.stage_of("-soft") == Some(draft.stage);
    if soft {
        let what = format!("{option}: what is liked and not needed is not looked at");
        draft.told.note(arg.span(None), what, None);
    }
    soft
}

fn queues(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    if is_soft(draft, arg, "-q") {
        return Ok(());
    }
    let mut names = Vec::new();
    let mut hosts = Hosts::default();
    for part in split(arg.text, ',')
        .into_iter()
        .filter(|part| !part.is_empty())
    {
        let (queue, host) = part.split_once('@').unwrap_or((part, ""));
        if queue.contains(['!', '&', '(']) {
            let wrong = Wrong::new("queues cannot be left out").at(arg.text, queue);
            return Err(wrong.hint("name the queues that it may use"));
        }
        for queue in queue.split('|') {
            if !queue.is_empty() && queue != "*" && !names.contains(&queue.to_owned()) {
                names.push(queue.to_owned());
            }
        }
        match host.strip_prefix('@') {
            Some(group) => feature(draft.part(), group)?,
            None if host.is_empty() || host == "*" => {}
            None => {
                let its = Hosts::read(host).map_err(|wrong| wrong.at(arg.text, host))?;
                hosts.any.extend(its.any);
                hosts.none.extend(its.none);
            }
        }
    }
    draft.part().queues = names;
    hosts.settle(draft);
    Ok(())
}

/// What an expression says of hosts.
#[derive(Default)]
struct Hosts {
    /// Any of these.
    any: Vec<String>,
    /// None of these.
    none: Vec<String>,
}

impl Hosts {
    /// Reads `a|b`, `(a|b)&!c` and `!(a|b)`, with `*` for anything in names, `?` for a letter.
    fn read(text: &str) -> Result<Self, Wrong> {
        let mut read = Self::default();
        for factor in split(text, '&') {
            let (without, names) = match factor.strip_prefix('!') {
                Some(names) => (true, names),
                None => (false, factor),
            };
            let inside = |text| str::strip_prefix(text, '(')?.strip_suffix(')');
            let alone = names.len() == text.len() || !names.contains('|');
            let names = match inside(names) {
                Some(inside) => inside,
                None if alone => names,
                None => return Err(Wrong::new("`|` beside `&` wants brackets: (a|b)&!c")),
            };
            let names: Vec<_> = names.split('|').map(str::to_owned).collect();
            let is_name = |c: char| c.is_ascii_alphanumeric() || "._-*?".contains(c);
            let bad = |name: &&String| name.is_empty() || !name.chars().all(is_name);
            if let Some(name) = names.iter().find(bad) {
                let wrong = Wrong::new(format!("{} is not the name of a host", shown(name)));
                return Err(wrong.hint("write a|b, n* or (a|b)&!c"));
            }
            match without {
                true => read.none.extend(names),
                false if read.any.is_empty() => read.any = names,
                false => return Err(Wrong::new("no host has two names").hint("write a|b")),
            }
        }
        Ok(read)
    }

    fn settle(self, draft: &mut Draft) {
        let part = draft.part();
        if !self.any.is_empty() {
            part.hosts = self.any;
        }
        if !self.none.is_empty() {
            part.without = self.none;
        }
    }
}

fn array(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let read = arg.text.parse::<hyperion_model::Indices>();
    let indices = read.map_err(|error| Wrong::new(error.to_string()))?;
    // A number alone is that one task, and no count.
    if indices.first() == 0 {
        return Err(Wrong::new("an array of Grid Engine begins with 1"));
    }
    let at_once = draft.job.array.as_ref().and_then(|array| array.at_once);
    draft.job.array = Some(hyperion_model::Array { indices, at_once });
    Ok(())
}

fn at_once(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    draft.at_once = Some(count(arg.text, 0)?);
    Ok(())
}

fn resources(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    if is_soft(draft, arg, "-l") {
        return Ok(());
    }
    for part in fields(arg.text, ',')? {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        resource(draft, arg, name, value).map_err(|wrong| match wrong.part {
            Some(_) => wrong,
            None => wrong.at(arg.text, part),
        })?;
    }
    Ok(())
}

fn resource(draft: &mut Draft, arg: &Arg<'_>, name: &str, value: &str) -> Read {
    // No limit at all, which both times and sizes may be.
    let endless = value.eq_ignore_ascii_case("infinity");
    if let Some((limit, is_hard)) = process_limit(name) {
        let size = match endless {
            true => None,
            false => Some(memory(value).map_err(|wrong| wrong.at(arg.text, value))?),
        };
        if name == "h_vmem" {
            draft.limit_memory = size;
        }
        set_one_limit(draft, limit, is_hard, size.map(|size| size.0));
        return Ok(());
    }
    if endless {
        match name {
            "h_rt" => draft.job.time_limit = Some(TimeLimit::Unlimited),
            "s_rt" => draft.soft_limit = None,
            "h_cpu" | "s_cpu" => {}
            _ => return Err(Wrong::new(format!("{name} has an end"))),
        }
        return Ok(());
    }
    let clock = || {
        let wrong = || {
            Wrong::new(format!("{} is not a time", shown(value)))
                .at(arg.text, value)
                .hint("write seconds or HH:MM:SS")
        };
        time::clock(value, true).ok_or_else(wrong)
    };
    let bytes = || memory(value).map_err(|wrong| wrong.at(arg.text, value));
    let number = || count(value, 0).map_err(|wrong| wrong.at(arg.text, value));
    match name {
        "h_rt" => {
            let span = clock()?;
            draft.job.time_limit = Some(TimeLimit::Span(span));
        }
        "s_rt" => {
            let span = clock()?;
            draft.soft_limit = Some(span);
            if draft.job.time_limit.is_none() {
                draft.job.time_limit = Some(TimeLimit::Span(span));
            }
        }
        "mem" | "mem_free" | "virtual_free" | "vf" | "mf" | "m_mem_free" | "ram" | "h_rss"
        | "memory" | "mem_limit" | "mlimit" | "mem_per_core" => {
            let memory = bytes()?;
            draft.part().memory.insert(Per::Task, memory);
        }
        "h_cpu" | "s_cpu" => {
            clock()?;
            let what = format!("{name}: processor time is not limited; the time limit is");
            draft.told.note(arg.span(None), what, None);
        }
        "hostname" | "h" | "host" => {
            let hosts = Hosts::read(unquoted(value));
            hosts
                .map_err(|wrong| wrong.at(arg.text, value))?
                .settle(draft);
        }
        "num_proc" | "p" => {
            let cpus = number()?;
            draft.part().cpus.insert(Per::Node, cpus);
        }
        "slots" | "s" => {
            let wrong = Wrong::new("slots are not asked for with -l").at(arg.text, name);
            return Err(wrong.hint("write -pe NAME N"));
        }
        _ if OF_HOSTS.contains(&name) => {
            let what = format!("-l: {name}: what hosts tell of themselves is not looked at");
            draft.told.note(arg.span(None), what, None);
        }
        "qname" | "q" => draft.part().queues = value.split('|').map(str::to_owned).collect(),
        "gpu" | "gpus" | "ngpus" | "cuda" | "gpu_card" => {
            let gpus = u64::from(number()?);
            set_resource(draft.part(), device("gpu", None, gpus, Per::Task));
        }
        "excl" | "exclusive" => {
            let alone =
                value.is_empty() || yes(value).map_err(|wrong| wrong.at(arg.text, value))?;
            draft.part().sharing = if alone {
                Sharing::Nobody
            } else {
                Sharing::AsUsual
            };
        }
        "" => return Err(Wrong::new("a resource is missing")),
        _ => match (value, count(value, 0)) {
            ("" | "TRUE" | "true" | "T", _) => feature(draft.part(), name)?,
            (_, Ok(number)) => {
                set_resource(
                    draft.part(),
                    device(name, None, u64::from(number), Per::Task),
                );
            }
            (_, Err(_)) if is_scratch(name) => draft.part().scratch = Some(bytes()?),
            // A broken number without a unit is a version, and no size.
            (_, Err(_))
                if value.parse::<f64>().is_err()
                    && let Ok(size) = memory(value) =>
            {
                set_resource(draft.part(), device(name, None, size.0, Per::Task));
            }
            (_, Err(_)) => {
                let wish = named(name, unquoted(value));
                feature(draft.part(), &wish)?;
            }
        },
    }
    Ok(())
}

/// Says of each pattern in `(lx*|sol*)&!*-x86` what has it: `(arch=lx*|arch=sol*)&!arch=*-x86`.
fn named(name: &str, value: &str) -> String {
    let is_sign = |c: char| "&|!()".contains(c);
    let pieces = value.split_inclusive(is_sign);
    let wish: String = pieces
        .map(|piece| match piece.starts_with(is_sign) {
            true => piece.to_owned(),
            false => format!("{name}={piece}"),
        })
        .collect();
    match value.contains(is_sign) {
        true => format!("({wish})"),
        false => wish,
    }
}

/// What hosts and queues tell of themselves by complex(5), by name and short:
/// no property to choose by here.
#[rustfmt::skip]
const OF_HOSTS: &[&str] = &[
    "calendar", "c", "cpu", "display_win_gui", "dwg", "load_avg", "la", "load_long", "ll",
    "load_medium", "lm", "load_short", "ls", "m_core", "core", "m_socket", "socket", "m_thread",
    "thread", "m_topology", "topo", "m_topology_inuse", "utopo", "mem_total", "mt", "mem_used",
    "mu", "min_cpu_interval", "mci", "np_load_avg", "nla", "np_load_long", "nll",
    "np_load_medium", "nlm", "np_load_short", "nls", "rerun", "re", "s_rss", "seq_no", "seq",
    "swap_free", "sf", "swap_rate", "sr", "swap_rsvd", "srsv", "swap_total", "st", "swap_used",
    "su", "tmpdir", "virtual_total", "vt", "virtual_used", "vu",
];

/// Gives the kernel's name of a limit of processes, and whether it is the hard one.
fn process_limit(name: &str) -> Option<(&'static str, bool)> {
    let (soft, hard) = (name.strip_prefix("s_"), name.strip_prefix("h_"));
    let limit = match hard.or(soft)? {
        "vmem" => "as",
        "core" => "core",
        "data" => "data",
        "fsize" => "fsize",
        "stack" => "stack",
        _ => return None,
    };
    Some((limit, hard.is_some()))
}

fn set_one_limit(draft: &mut Draft, name: &str, is_hard: bool, value: Option<u64>) {
    let limits = &mut draft.job.rlimits;
    let at = limits.iter().position(|limit| limit.name == name);
    let at = at.unwrap_or_else(|| {
        limits.push(Rlimit {
            name: name.to_owned(),
            soft: None,
            hard: None,
        });
        limits.len() - 1
    });
    match is_hard {
        true => limits[at].hard = value,
        false => limits[at].soft = value,
    }
}

/// Reads a size of Grid Engine: a large letter is a power of 1024, a small one
/// of 1000, and the number may be broken.
fn memory(text: &str) -> Result<hyperion_model::Bytes, Wrong> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        // Not Grid Engine's, and yet often written.
        _ => return size(text, 1),
    };
    let exact = format!("{number}B").parse::<hyperion_model::Bytes>();
    let bad = || Wrong::new(format!("{} is not a size", shown(text))).hint("write 4G or 500M");
    match number.split_once('.') {
        None => {
            let bytes = exact
                .map_err(|_| bad())?
                .0
                .checked_mul(factor)
                .filter(|bytes| *bytes <= 1 << 60);
            bytes.map(hyperion_model::Bytes).ok_or_else(bad)
        }
        Some((whole, fraction)) => {
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            if whole.len() > 12
                || fraction.len() > 6
                || fraction.is_empty()
                || !digits(whole)
                || !digits(fraction)
            {
                return Err(bad());
            }
            let whole: u64 = if whole.is_empty() {
                0
            } else {
                whole.parse().map_err(|_| bad())?
            };
            let part: u64 = fraction.parse().map_err(|_| bad())?;
            let part = u128::from(part) * u128::from(factor) / 10u128.pow(fraction.len() as u32);
            let total = u128::from(whole) * u128::from(factor) + part;
            u64::try_from(total)
                .ok()
                .filter(|bytes| *bytes <= 1 << 60)
                .map(hyperion_model::Bytes)
                .ok_or_else(bad)
        }
    }
}

/// Checks what no single option shows.
pub(super) fn finish(draft: &mut Draft) {
    if let (Some(soft), Some(TimeLimit::Span(hard))) = (draft.soft_limit, draft.job.time_limit)
        && soft < hard
    {
        draft.job.warning = Some(Warning {
            signal: SIGUSR1,
            before: hard - soft,
            to: WarningTo::Everything,
        });
    }
    draft.settle_memory(Per::Task);
    // The kernel takes no soft limit above the hard one.
    draft.job.rlimits.retain_mut(|limit| {
        limit.soft = match (limit.soft, limit.hard) {
            (Some(soft), Some(hard)) => Some(soft.min(hard)),
            (soft, hard) => soft.or(hard),
        };
        limit.soft.is_some()
    });
    if draft.job.array.is_none()
        && let Some((_, span)) = draft.given.get("-hold_jid_ad").cloned()
    {
        let what = "-hold_jid_ad: there is no array".to_owned();
        let hint = "wait for all of the other with -hold_jid".to_owned();
        draft.told.mistake(span, what, Some(hint));
    }
    let Some(number) = draft.at_once else { return };
    match &mut draft.job.array {
        Some(array) => array.at_once = Some(number).filter(|number| *number > 0),
        None => {
            if let Some((_, span)) = draft.given.get("-tc").cloned() {
                draft
                    .told
                    .note(span, "-tc: there is no array".to_owned(), None);
            }
        }
    }
}
